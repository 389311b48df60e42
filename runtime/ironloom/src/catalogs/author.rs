//! Making a catalog: from `catalog.toml` and a folder of packages to an index that somebody signs.

mod plan;
#[cfg(test)]
mod tests;

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use bytes::Bytes;

pub(crate) use self::plan::Plan;
use super::{INDEX, PACKAGE_ENDING, PACKAGES, icon_path, package_path, root_path};
use ironloom_apps::manifest::{Manifest, OutputKind};
use ironloom_apps::package::{self, Package};
use ironloom_apps::problem::Problems;
use ironloom_storage::small_files::{self, ReadError};
use ironloom_trust::catalog::CatalogError;
use ironloom_trust::catalog::index::{
    App, Asks, Icon, Index, MAX_APPS, MAX_ICON, MAX_VERSIONS, Publisher, Version, publisher_of,
};
use ironloom_trust::catalog::root::Root;
use ironloom_trust::envelope::{Envelope, Keys, Kind};
use ironloom_trust::key::{PublicKey, SecretKey};
use ironloom_trust::strict::{Integer, Unique};
use ironloom_types::clock::Timestamp;
use ironloom_types::ids::{AppId, Digest};
use ironloom_types::limits::MAX_PACKAGE;

/// The root and the index that people are to sign.
const NEXT_ROOT: &str = "next-root.json";
const NEXT_INDEX: &str = "next-index.json";

/// The file that says what a catalog is to be.
pub(crate) const PLAN: &str = "catalog.toml";

/// The reason why a catalog can't be made.
#[derive(Debug, thiserror::Error)]
pub(crate) enum AuthorError {
    #[error(transparent)]
    Read(#[from] ReadError),
    #[error("{}", .problems.of_file(.path))]
    Plan { path: PathBuf, problems: Problems },
    #[error("{} can't be {doing}: {error}", .path.display())]
    Io { path: PathBuf, doing: &'static str, error: std::io::Error },
    /// A package doesn't belong into it.
    #[error("{}: {problem}", .path.display())]
    Package { path: PathBuf, problem: String },
    #[error("{}: {error}", .path.display())]
    Signed { path: PathBuf, error: CatalogError },
    #[error(transparent)]
    Catalog(#[from] CatalogError),
    #[error("{0}")]
    Other(String),
}

/// A folder that is or becomes a catalog.
#[derive(Clone, Debug)]
pub(crate) struct Folder(pub(crate) PathBuf);

/// An index that was made.
#[derive(Debug)]
pub(crate) struct Built {
    pub(crate) index: Index,
    /// The keys of which `needed` are to sign it; none where there is no root yet.
    pub(crate) signers: Vec<PublicKey>,
    pub(crate) needed: u8,
}

/// Root and index that wait for signatures, each with the one before it.
#[derive(Debug)]
pub(crate) struct Pending {
    pub(crate) root: Option<Root>,
    pub(crate) root_before: Option<Root>,
    pub(crate) index: Option<Index>,
    pub(crate) index_before: Option<Index>,
}

/// A part of a catalog that a key has signed.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Signed {
    /// The file that it becomes.
    pub(crate) part: String,
    /// The signatures that count, and how many are needed: by the keys of each root that has a say.
    pub(crate) signatures: Vec<Count>,
    /// There are enough: it is in its place.
    pub(crate) published: bool,
}

/// Signatures by the keys of a root.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Count {
    pub(crate) of_root: u64,
    pub(crate) has: usize,
    pub(crate) needed: u8,
}

impl Count {
    fn of(root: &Root, keys: &Keys, envelope: &Envelope) -> Self {
        let has = envelope.signers().filter(|key| keys.keys.contains(key)).count();
        Self { of_root: root.version.get(), has, needed: keys.threshold }
    }

    fn is_enough(&self) -> bool {
        self.has >= usize::from(self.needed)
    }
}

impl Folder {
    /// Reads the plan.
    pub(crate) fn plan(&self) -> Result<Plan, AuthorError> {
        let path = self.0.join(PLAN);
        let text = small_files::read_text(&path, plan::MAX_FILE)?;
        Plan::read(&text).map_err(|problems| AuthorError::Plan { path, problems })
    }

    /// The newest root; `None` where there is none yet.
    pub(crate) fn root(&self) -> Result<Option<Root>, AuthorError> {
        let mut newest = None;
        for version in 1.. {
            let Some(envelope) = self.envelope(Kind::Root, &root_path(version))? else { break };
            newest = Some(self.of_file(&root_path(version), Root::own(&envelope))?);
        }
        Ok(newest)
    }

    /// The root that people are to sign, where there is one.
    fn next_root(&self) -> Result<Option<(Envelope, Root)>, AuthorError> {
        let Some(envelope) = self.envelope(Kind::Root, NEXT_ROOT)? else { return Ok(None) };
        let root = self.of_file(NEXT_ROOT, Root::own(&envelope))?;
        Ok(Some((envelope, root)))
    }

    /// The keys that have signed the root that waits.
    pub(crate) fn signers_of_next_root(&self) -> Result<Vec<PublicKey>, AuthorError> {
        Ok(self.next_root()?.map_or_else(Vec::new, |(envelope, _)| envelope.signers().collect()))
    }

    /// Writes a root for people to sign, in place of one that isn't signed by enough of them. Nobody who has the catalog
    /// sees it before.
    pub(crate) fn write_root(&self, root: &Root) -> Result<(), AuthorError> {
        self.write(NEXT_ROOT, root.to_envelope()?.to_json().as_bytes())
    }

    /// Copies a package into the catalog, if one of its publisher's keys has signed it. Where the catalog has the same
    /// package with other signatures, it gets these as well.
    pub(crate) fn add(&self, path: &Path) -> Result<(), AuthorError> {
        let mut bytes = Bytes::from(small_files::read(path, MAX_PACKAGE as u64)?);
        let wrong = |problem: String| AuthorError::Package { path: path.to_owned(), problem };
        let package = package::read(&bytes).map_err(|error| wrong(error.to_string()))?;
        publisher_key(&self.plan()?.publishers, &package).map_err(wrong)?;
        let offered = self.index_at(self.newest_index())?.and_then(|index| offered(&index, package.digest));
        if let Some(old) = offered.map(package_path) {
            let old = self.0.join(old);
            if old.exists() {
                let other = Bytes::from(small_files::read(&old, MAX_PACKAGE as u64)?);
                let other = package::read(&other).map_err(|error| wrong(error.to_string()))?;
                let merged = package::merge(&bytes, &other).map_err(|error| wrong(error.to_string()))?;
                bytes = merged.unwrap_or(bytes);
                if self.0.join(package_path(Digest::of(&bytes))) != old {
                    let failed = |error| AuthorError::Io { path: old.clone(), doing: "removed", error };
                    std::fs::remove_file(&old).map_err(failed)?;
                }
            }
        }
        self.write(&package_path(Digest::of(&bytes)), &bytes)
    }

    fn index_at(&self, path: &str) -> Result<Option<Index>, AuthorError> {
        let Some(envelope) = self.envelope(Kind::Index, path)? else { return Ok(None) };
        self.of_file(path, Index::own(&envelope)).map(Some)
    }

    /// The index that enough have signed; `None` where there is none yet.
    pub(crate) fn signed_index(&self) -> Result<Option<Index>, AuthorError> {
        self.index_at(INDEX)
    }

    /// The file of the index that people are to sign, or else of the one that they have signed.
    fn newest_index(&self) -> &'static str {
        if self.0.join(NEXT_INDEX).exists() { NEXT_INDEX } else { INDEX }
    }

    /// Makes the next index of all packages in the folder. Nobody has signed it then, and the one before stays in its
    /// place until enough have.
    pub(crate) fn build(&self, now: Timestamp) -> Result<Built, AuthorError> {
        let plan = self.plan()?;
        // Some may have seen the one that waits, before it is made anew.
        let (before, waits) = (self.index_at(INDEX)?, self.index_at(NEXT_INDEX)?);
        let version = before.iter().chain(&waits).map(|index| index.version.get()).max().unwrap_or(0) + 1;
        let version = Integer::new(version)
            .ok_or_else(|| AuthorError::Other("the index has used up all version numbers".to_owned()))?;
        let mut index = Index {
            catalog: plan.name.clone(),
            version,
            issued: now,
            expires: now.plus(plan.valid_for.0),
            publishers: plan.publishers.clone(),
            apps: Vec::new(),
            revoked: plan.revoked.clone(),
            blocked: plan.blocked.clone(),
            rotations: self.rotations(&plan)?,
        };
        index.apps = self.apps(&plan, &index)?;
        if let Some(before) = &before {
            check_same_contents(before, &index)?;
        }
        let envelope = index.to_envelope()?;
        self.write(NEXT_INDEX, envelope.to_json().as_bytes())?;
        let root = match self.next_root()? {
            Some((_, root)) => Some(root),
            None => self.root()?,
        };
        let keys = root.map(|root| root.index);
        let needed = keys.as_ref().map_or(0, |keys| keys.threshold);
        let signers = keys.map_or_else(Vec::new, |keys| keys.keys.into_iter().collect());
        Ok(Built { index, signers, needed })
    }

    /// Finds what is to be signed.
    pub(crate) fn pending(&self) -> Result<Pending, AuthorError> {
        Ok(Pending {
            root: self.next_root()?.map(|(_, root)| root),
            root_before: self.root()?,
            index: self.index_at(NEXT_INDEX)?,
            index_before: self.index_at(INDEX)?,
        })
    }

    /// Signs whatever of the catalog this key may sign: the next root, and the next index. What has enough signatures
    /// then comes into its place.
    pub(crate) fn sign(&self, key: &SecretKey) -> Result<Vec<Signed>, AuthorError> {
        let (now, next) = (self.root()?, self.next_root()?);
        let of = |root: &Root, keys: fn(&Root) -> &Keys| keys(root).keys.contains(&key.public());
        let roots: Vec<&Root> = now.iter().chain(next.iter().map(|(_, root)| root)).collect();
        if roots.is_empty() {
            return Err(AuthorError::Other(format!(
                "{} has no root yet, which says whose signatures count; `ironloom catalog root` makes one",
                self.0.display()
            )));
        }
        let signs_roots = next.is_some() && roots.iter().any(|root| of(root, |root| &root.root));
        let signs_indexes = roots.iter().any(|root| of(root, |root| &root.index));
        if signs_roots {
            self.sign_file(Kind::Root, NEXT_ROOT, key)?;
        }
        if signs_indexes {
            self.sign_file(Kind::Index, self.newest_index(), key)?;
        }
        if !signs_roots && !signs_indexes {
            return Err(AuthorError::Other(format!(
                "{} signs nothing of this catalog: no root names it, or what it may sign is signed already",
                key.public()
            )));
        }
        let mut signed = self.publish()?;
        signed.retain(|part| if part.part == INDEX { signs_indexes } else { signs_roots });
        Ok(signed)
    }

    fn sign_file(&self, kind: Kind, path: &str, key: &SecretKey) -> Result<(), AuthorError> {
        let Some(mut envelope) = self.envelope(kind, path)? else { return Ok(()) };
        envelope.sign(key);
        self.write(path, envelope.to_json().as_bytes())
    }

    /// Brings what has enough signatures into its place: the root first, since it says who signs the index.
    fn publish(&self) -> Result<Vec<Signed>, AuthorError> {
        let mut parts = Vec::new();
        let mut now = self.root()?;
        if let Some((envelope, next)) = self.next_root()? {
            let signatures: Vec<Count> =
                now.iter().chain([&next]).map(|root| Count::of(root, &root.root, &envelope)).collect();
            let part = root_path(next.version.get());
            let published = signatures.iter().all(Count::is_enough);
            if published {
                self.write(&part, envelope.to_json().as_bytes())?;
                self.remove(NEXT_ROOT)?;
                now = Some(next);
            }
            parts.push(Signed { part, signatures, published });
        }
        let path = self.newest_index();
        let Some(envelope) = self.envelope(Kind::Index, path)? else { return Ok(parts) };
        let signatures: Vec<Count> = now.iter().map(|root| Count::of(root, &root.index, &envelope)).collect();
        let published = !signatures.is_empty() && signatures.iter().all(Count::is_enough);
        if published && path == NEXT_INDEX {
            self.write(INDEX, envelope.to_json().as_bytes())?;
            self.remove(NEXT_INDEX)?;
        }
        parts.push(Signed { part: INDEX.to_owned(), signatures, published });
        Ok(parts)
    }

    fn remove(&self, path: &str) -> Result<(), AuthorError> {
        let path = self.0.join(path);
        std::fs::remove_file(&path).map_err(|error| AuthorError::Io { path, doing: "removed", error })
    }

    /// All apps of the folder's packages, in order.
    fn apps(&self, plan: &Plan, index: &Index) -> Result<Vec<App>, AuthorError> {
        let mut apps: BTreeMap<AppId, App> = BTreeMap::new();
        for path in self.package_files()? {
            let bytes = Bytes::from(small_files::read(&path, MAX_PACKAGE as u64)?);
            let wrong = |problem: String| AuthorError::Package { path: path.clone(), problem };
            let package = package::read(&bytes).map_err(|error| wrong(error.to_string()))?;
            let key = publisher_key(&index.publishers, &package).map_err(wrong)?;
            let file = Digest::of(&bytes);
            // As everybody finds it, whatever name somebody has given it.
            let place = self.0.join(package_path(file));
            if path != place {
                std::fs::rename(&path, &place).map_err(|error| AuthorError::Io {
                    path: path.clone(),
                    doing: "renamed",
                    error,
                })?;
            }
            let (version, manifest) =
                (version(&package, file, bytes.len()).map_err(wrong)?, &package.manifest);
            let app = match apps.entry(manifest.id.clone()) {
                std::collections::btree_map::Entry::Occupied(app) => app.into_mut(),
                std::collections::btree_map::Entry::Vacant(place) => {
                    place.insert(self.app(plan, manifest, key)?)
                }
            };
            if let Some(same) = app.versions.iter().find(|one| one.version == version.version) {
                if same.digest == version.digest {
                    return Err(wrong(format!("version {} of {} is there twice", version.version, app.id)));
                }
                return Err(wrong(format!(
                    "another package has the version {} of {}, too",
                    version.version, app.id
                )));
            }
            app.versions.push(version);
            app.versions.sort_by(|a, b| a.version.cmp_precedence(&b.version));
            if app.versions.last().is_some_and(|newest| newest.digest == package.digest) {
                (app.name, app.description) = (manifest.name.clone(), manifest.description.clone());
                (app.license, app.key) = (manifest.license.clone(), key);
            }
            if apps.len() > MAX_APPS {
                return Err(wrong(format!("a catalog has at most {MAX_APPS} apps")));
            }
        }
        if let Some(unknown) = plan.apps.keys().find(|id| !apps.contains_key(*id)) {
            let problem = format!("apps.\"{unknown}\": no package in {PACKAGES}/ is of this app");
            return Err(AuthorError::Other(format!("{}: {problem}", self.0.join(PLAN).display())));
        }
        for app in apps.values_mut() {
            // The oldest make room.
            let more = app.versions.len().saturating_sub(MAX_VERSIONS);
            app.versions.drain(..more);
        }
        Ok(apps.into_values().collect())
    }

    fn app(&self, plan: &Plan, manifest: &Manifest, key: PublicKey) -> Result<App, AuthorError> {
        let said = plan.apps.get(&manifest.id).cloned().unwrap_or_default();
        let icon = match &said.icon {
            None => None,
            Some(icon) => {
                let bytes = small_files::read(&self.0.join(icon), MAX_ICON)?;
                let digest = Digest::of(&bytes);
                self.write(&icon_path(digest), &bytes)?;
                Integer::new(bytes.len() as u64).map(|size| Icon { digest, size })
            }
        };
        Ok(App {
            id: manifest.id.clone(),
            name: manifest.name.clone(),
            key,
            description: manifest.description.clone(),
            license: manifest.license.clone(),
            categories: said.categories,
            icon,
            versions: Vec::new(),
        })
    }

    fn rotations(&self, plan: &Plan) -> Result<Vec<String>, AuthorError> {
        let read = |file: &PathBuf| {
            let path = self.0.join(file);
            let text = small_files::read_text(&path, Kind::Rotation.max_envelope() as u64)?;
            match Envelope::read(Kind::Rotation, text.as_bytes()) {
                Ok(_) => Ok(text),
                Err(error) => Err(AuthorError::Signed { path, error: error.into() }),
            }
        };
        plan.rotations.iter().map(read).collect()
    }

    /// The files of packages, in the order of their names.
    fn package_files(&self) -> Result<Vec<PathBuf>, AuthorError> {
        let folder = self.0.join(PACKAGES);
        let failed = |error| AuthorError::Io { path: folder.clone(), doing: "read", error };
        let mut files = Vec::new();
        for entry in std::fs::read_dir(&folder).map_err(failed)? {
            let path = entry.map_err(failed)?.path();
            if path.file_name().is_some_and(|name| name.to_string_lossy().ends_with(PACKAGE_ENDING)) {
                files.push(path);
            }
        }
        files.sort();
        Ok(files)
    }

    fn envelope(&self, kind: Kind, path: &str) -> Result<Option<Envelope>, AuthorError> {
        let path = self.0.join(path);
        if !path.exists() {
            return Ok(None);
        }
        let bytes = small_files::read(&path, kind.max_envelope() as u64)?;
        let read = Envelope::read(kind, &bytes);
        read.map(Some).map_err(|error| AuthorError::Signed { path, error: error.into() })
    }

    fn of_file<T>(&self, path: &str, read: Result<T, CatalogError>) -> Result<T, AuthorError> {
        read.map_err(|error| AuthorError::Signed { path: self.0.join(path), error })
    }

    fn write(&self, path: &str, bytes: &[u8]) -> Result<(), AuthorError> {
        let path = self.0.join(path);
        small_files::write(&path, bytes).map_err(|error| AuthorError::Io { path, doing: "written", error })
    }
}

/// The file of a package that an index offers.
fn offered(index: &Index, package: Digest) -> Option<Digest> {
    let mut versions = index.apps.iter().flat_map(|app| &app.versions);
    versions.find(|version| version.digest == package).map(|version| version.file)
}

/// The key by which a package is on offer: one of its publisher's that has signed it.
fn publisher_key(publishers: &[Publisher], package: &Package) -> Result<PublicKey, String> {
    let id = &package.manifest.id;
    let publisher = publisher_of(publishers, id).ok_or_else(|| {
        format!("no publisher in {PLAN} may sign the id {id}; give one of them a prefix that covers it")
    })?;
    let mut signers = package.signed.signers();
    signers.find(|key| publisher.keys.contains(key)).ok_or_else(|| {
        let name = &publisher.name;
        format!("{id} {} isn't signed by a key of {name}; `ironloom sign` signs it", package.manifest.version)
    })
}

fn version(package: &Package, file: Digest, size: usize) -> Result<Version, String> {
    let manifest = &package.manifest;
    let version =
        manifest.version.parse().map_err(|error| format!("version {}: {error}", manifest.version))?;
    let unit = |unit: &Option<std::sync::Arc<str>>| unit.as_deref().unwrap_or_default().to_owned();
    let outputs = |kind: OutputKind| {
        let of_kind = manifest.outputs.iter().filter(move |output| output.kind == kind);
        Unique(of_kind.map(|output| (output.name.to_string(), unit(&output.unit))).collect())
    };
    let inputs = manifest.inputs.iter().map(|input| (input.name.to_string(), unit(&input.unit)));
    let asks = Asks {
        inputs: Unique(inputs.collect()),
        outputs: outputs(OutputKind::Derived),
        set_points: outputs(OutputKind::SetPoint),
    };
    let size = Integer::new(size as u64).ok_or("it is too large")?;
    Ok(Version { version, digest: package.digest, file, size, asks })
}

/// Whoever has seen a version of an app never gets another one under its number.
fn check_same_contents(before: &Index, now: &Index) -> Result<(), AuthorError> {
    for app in &before.apps {
        let Some(is) = now.app(&app.id) else { continue };
        for old in &app.versions {
            let new = is.versions.iter().find(|new| new.version == old.version);
            if new.is_some_and(|new| new.digest != old.digest) {
                return Err(AuthorError::Other(format!(
                    "version {} of {} was offered with other contents before; give the new one a version of its own",
                    old.version, app.id
                )));
            }
        }
    }
    Ok(())
}
