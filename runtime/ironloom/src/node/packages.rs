//! Packages: read, checked, compiled aside, kept as files.

use std::collections::BTreeSet;
use std::sync::Arc;

use bytes::Bytes;

use super::{Node, pages, problems};
use crate::api::facade::{Answer, PackageInfo, Page, PageQuery, Problem};
use crate::aside::aside;
use crate::fold::KnownPackage;
use crate::lanes::Lane;
use crate::records::admin::{AdminRecord, PackageRecord};
use ironloom_apps::package::{self, PackageError};
use ironloom_apps::roles::check_component;
use ironloom_sandbox::{CompileError, LoadError};
use ironloom_storage::failpoint;
use ironloom_trust::key::PublicKey;
use ironloom_types::ids::{Digest, TenantId};
use ironloom_types::limits::Limits;

impl Node {
    /// Checks and keeps a package that passes a further check, which comes before anything is kept; `false` where it was known.
    pub(super) async fn take_package(
        self: Arc<Self>,
        tenant: TenantId,
        tar: Bytes,
        check: impl FnOnce(&package::Package) -> Answer<()>,
    ) -> Answer<(PackageInfo, bool)> {
        self.check_space()?;
        let bytes = tar.clone();
        let read = aside(move || package::read(&bytes));
        let package = match read.await.map_err(|error| problems::internal(&error))? {
            Ok(package) => package,
            Err(PackageError::Manifest(found)) => {
                return Err(problems::all("manifest", "app.toml is wrong", &found));
            }
            Err(error) => return Err(Problem::refused("package", error.to_string())),
        };
        check(&package)?;
        let _held = self.admin.last_use.hold(package.digest);
        if let Some(known) = self.known(package.digest) {
            let had = self.has_package(tenant, package.digest);
            let known = self.mend_package(tenant, &known, package, tar).await?;
            let _installing = self.admin.installing.lock().await;
            self.hold_package(tenant, known.record.digest).await?;
            return Ok((info(&known), !had));
        }
        let _compiled = self.admin.compiled.read().await;
        let record = self.compile(&package, Digest::of(&tar)).await?;
        let _installing = self.admin.installing.lock().await;
        // Somebody may have sent the same while it was compiled.
        let new = self.known(package.digest).is_none();
        if new {
            self.write_package(tenant, record, tar).await?;
        } else {
            self.hold_package(tenant, package.digest).await?;
        }
        let known =
            self.known(package.digest).ok_or_else(|| problems::internal(&"the package is not there"))?;
        Ok((info(&known), new))
    }

    /// Notes that a tenant has a package, unless it has it already. `installing` is held.
    async fn hold_package(&self, tenant: TenantId, digest: Digest) -> Answer<()> {
        if self.has_package(tenant, digest) {
            return Ok(());
        }
        self.change(AdminRecord::PackageHeld { tenant, package: digest, holds: true }).await
    }

    fn has_package(&self, tenant: TenantId, digest: Digest) -> bool {
        self.shared.holdings.read().contains(&(tenant, digest))
    }

    /// Has the component compiled, and checks it against its manifest.
    async fn compile(&self, package: &package::Package, file: Digest) -> Answer<PackageRecord> {
        let inspection =
            self.sandbox.compile(package.component.clone()).await.map_err(|error| compile_problem(&error))?;
        check_component(&package.manifest, &inspection.imports, &inspection.exports)
            .map_err(|found| problems::all("component", "the component doesn't fit its manifest", &found))?;
        let (component, declared) = (package.component.clone(), package.manifest.declared());
        self.sandbox
            .load(&inspection.compiled, move || Ok(component), declared, Limits::MAX_MEMORY)
            .await
            .map_err(|error| load_problem(&error))?;
        Ok(PackageRecord {
            digest: package.digest,
            manifest: String::from_utf8_lossy(&package.manifest_text).into_owned(),
            file,
            signers: package.signed.signers().collect(),
            imports: inspection.imports,
            sdk_version: inspection.sdk_version,
            compiled: inspection.compiled,
        })
    }

    async fn write_package(&self, tenant: TenantId, record: PackageRecord, tar: Bytes) -> Answer<()> {
        let (files, name) = (Arc::clone(&self.packages), record.file_name());
        let written = aside(move || files.write(&name, &tar));
        written
            .await
            .map_err(|error| problems::internal(&error))?
            .map_err(|error| problems::internal(&error))?;
        failpoint("package-written");
        self.change(AdminRecord::PackageAdded { tenant, package: Box::new(record) }).await?;
        failpoint("package-recorded");
        Ok(())
    }

    /// A package that is known was sent again: a file that is gone or damaged is written anew, and
    /// installations that have no code try once more.
    async fn mend_package(
        &self,
        tenant: TenantId,
        known: &Arc<KnownPackage>,
        sent: package::Package,
        tar: Bytes,
    ) -> Answer<Arc<KnownPackage>> {
        let _installing = self.admin.installing.lock().await;
        let digest = known.record.digest;
        let gone = || {
            Problem::conflict("gone", format!("package {digest} was removed in the meantime; send it again"))
        };
        let known = self.known(digest).ok_or_else(gone)?;
        // Signatures that were in a file which is gone were checked all the same.
        let before: BTreeSet<_> = known.record.signers.iter().copied().collect();
        let signers: BTreeSet<_> = sent.signed.signers().chain(before.iter().copied()).collect();
        let brings_more = signers != before;
        match self.read_package(&known).await {
            Ok(Some(file)) if brings_more => {
                let merged = aside(move || package::merge(&Bytes::from(file), &sent)).await;
                let merged = merged.map_err(|error| problems::internal(&error))?;
                // Together they may have more signatures than a package can have.
                let merged = merged.map_err(|error| Problem::refused("package", error.to_string()))?;
                let tar = merged.ok_or_else(|| problems::internal(&"it is the same package"))?;
                self.rewrite_package(tenant, &known, signers, tar).await?;
            }
            Ok(Some(_)) => {}
            Ok(None) | Err(_) => {
                tracing::warn!(package = %digest, "the file of a package was missing or damaged; it was written again");
                self.rewrite_package(tenant, &known, signers, tar).await?;
            }
        }
        self.admin.loading.again();
        self.known(digest).ok_or_else(gone)
    }

    /// Writes another file of a package that is known.
    async fn rewrite_package(
        &self,
        tenant: TenantId,
        known: &KnownPackage,
        signers: BTreeSet<PublicKey>,
        tar: Bytes,
    ) -> Answer<()> {
        let signers = signers.into_iter().collect();
        let record = PackageRecord { file: Digest::of(&tar), signers, ..known.record.clone() };
        let is_another = record.file != known.record.file;
        self.write_package(tenant, record, tar).await?;
        self.catalogs.looks.forget();
        if is_another {
            self.remove_file(known.record.file_name()).await;
        }
        Ok(())
    }

    /// A package's file.
    pub(super) async fn package_file(&self, tenant: TenantId, digest: Digest) -> Answer<Bytes> {
        let known = self.known_or_404(tenant, digest)?;
        self.read_package(&known).await?.map(Bytes::from).ok_or_else(|| {
            Problem::conflict("damaged", format!("the file of package {digest} is missing or damaged"))
                .hint("Send the package again; its code runs on meanwhile.")
        })
    }

    /// The file of a package; `None` where it is missing or damaged.
    async fn read_package(&self, known: &KnownPackage) -> Answer<Option<Vec<u8>>> {
        let record = &known.record;
        let (files, name, file) = (Arc::clone(&self.packages), record.file_name(), record.file);
        let read = aside(move || files.read(&name, file)).await;
        read.map_err(|error| problems::internal(&error))?.map_err(|error| problems::internal(&error))
    }

    /// A package that is there.
    pub(super) fn known(&self, digest: Digest) -> Option<Arc<KnownPackage>> {
        self.shared.packages.read().get(&digest).cloned()
    }

    /// A package that a tenant has, or 404, also where only others have it.
    pub(super) fn known_or_404(&self, tenant: TenantId, digest: Digest) -> Answer<Arc<KnownPackage>> {
        let missing = || {
            Problem::not_found(format!("there is no package {digest}"))
                .hint("Upload it with POST /v1/packages, or `ironloom install FILE`.")
        };
        self.known(digest).filter(|_| self.has_package(tenant, digest)).ok_or_else(missing)
    }

    /// A tenant's packages, by digest.
    pub(super) fn list_packages(&self, tenant: TenantId, page: &PageQuery) -> Answer<Page<PackageInfo>> {
        let packages: Vec<_> = {
            let (holdings, packages) = (self.shared.holdings.read(), self.shared.packages.read());
            let first = (tenant, Digest([0; 32]));
            let own = holdings.range(first..).take_while(|(of, _)| *of == tenant);
            own.filter_map(|(_, digest)| packages.get(digest).cloned()).collect()
        };
        Ok(pages::by_name(page, &packages, |known| known.record.digest.to_string(), |known| info(known)))
    }

    /// Removes a package of a tenant that no installation of it uses. It is deleted once nobody has it.
    pub(super) async fn remove_package(self: Arc<Self>, tenant: TenantId, digest: Digest) -> Answer<()> {
        let _installing = self.admin.installing.lock().await;
        self.known_or_404(tenant, digest)?;
        let own = self.lanes.of_tenant(tenant);
        if let Some(user) = own.iter().find(|lane| lane.packages().contains(&digest)) {
            let detail = format!("installation {} uses this package; uninstall it first", user.id);
            return Err(Problem::conflict("in-use", detail));
        }
        let goes_back = |lane: &&Arc<Lane>| self.trial_of(lane).is_some_and(|trial| trial.package == digest);
        if let Some(user) = own.iter().find(goes_back) {
            let id = &user.id;
            let detail = format!("installation {id} may go back to this package");
            return Err(Problem::conflict("in-use", detail)
                .hint(format!("`ironloom commit {id}` has its upgrade stay.")));
        }
        let waits = self
            .shared
            .consents
            .read()
            .values()
            .find(|asked| asked.package == digest && asked.id.tenant() == tenant)
            .map(|asked| asked.id.clone());
        if let Some(id) = waits {
            let detail = format!("an upgrade of installation {id} to this package waits for consent");
            return Err(Problem::conflict("in-use", detail)
                .hint(format!("`ironloom consents refuse {id}` ends that.")));
        }
        let is_others = {
            let holdings = self.shared.holdings.read();
            holdings.iter().any(|(of, held)| *of != tenant && *held == digest)
        };
        if is_others {
            return self.change(AdminRecord::PackageHeld { tenant, package: digest, holds: false }).await;
        }
        self.delete_package(digest).await
    }

    /// Deletes a package that is there and that nothing uses; `installing` is held.
    pub(super) async fn delete_package(&self, digest: Digest) -> Answer<()> {
        let gone = || problems::internal(&"the package is gone");
        let file = self.known(digest).ok_or_else(gone)?.record.file_name();
        self.change(AdminRecord::PackageRemoved(digest)).await?;
        self.remove_file(file).await;
        self.catalogs.looks.forget();
        self.admin.loading.has_old_code();
        Ok(())
    }
}

impl Node {
    /// Removes a file that no record names any more. The record is what counts; a file that is left over does no
    /// harm, and the next start removes it.
    async fn remove_file(&self, name: String) {
        let files = Arc::clone(&self.packages);
        let removed = aside(move || files.remove(&name)).await;
        if let Ok(Err(error)) = removed {
            tracing::warn!(%error, "the file of a package that is gone could not be deleted");
        }
    }
}

fn compile_problem(error: &CompileError) -> Problem {
    match error {
        CompileError::Worker(_) => problems::internal(error),
        _ => Problem::refused("component", error.to_string()),
    }
}

/// Converts the reason why an app can't be loaded into the API's form.
pub(super) fn load_problem(error: &LoadError) -> Problem {
    match error {
        LoadError::Host(_) | LoadError::Read(_) => problems::internal(error),
        LoadError::Compile(error) => compile_problem(error),
        _ => Problem::refused("component", error.to_string()),
    }
}

/// A package, as the API shows it.
pub(super) fn info(known: &KnownPackage) -> PackageInfo {
    let record = &known.record;
    let (signers, imports) = (record.signers.clone(), record.imports.clone());
    PackageInfo::of(&known.manifest, record.digest, signers, imports, record.sdk_version.clone())
}
