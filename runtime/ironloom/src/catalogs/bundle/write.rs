//! Making a bundle out of a catalog, wherever that is.

use std::collections::BTreeSet;
use std::io::{self, Write};
use std::path::{Path, PathBuf};

use crate::catalogs::look::{Before, LookError, look};
use crate::catalogs::source::{Source, SourceError};
use crate::catalogs::web::Access;
use crate::catalogs::{INDEX, package_path, root_path};
use ironloom_apps::ustar::{BLOCK, header};
use ironloom_storage::small_files;
use ironloom_trust::catalog::index::{Index, Version};
use ironloom_trust::key::PublicKey;
use ironloom_types::clock::Timestamp;
use ironloom_types::ids::{AppId, Digest};
use ironloom_types::text::listed;

/// An app that is to be in a bundle.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Wanted {
    pub(crate) id: AppId,
    /// Without one the newest that is no pre-release.
    pub(crate) version: Option<semver::Version>,
}

/// A bundle that was made.
#[derive(Debug)]
pub(crate) struct Bundled {
    pub(crate) index: Index,
    /// The apps in it with their versions and the bytes of their packages.
    pub(crate) apps: Vec<(AppId, Version)>,
    pub(crate) bytes: u64,
}

/// The reason why a bundle can't be made.
#[derive(Debug, thiserror::Error)]
pub(crate) enum BundleError {
    #[error(transparent)]
    Source(#[from] SourceError),
    #[error(transparent)]
    Look(#[from] LookError),
    #[error("{0}")]
    App(String),
    #[error("{} can't be written: {error}", path.display())]
    Write { path: PathBuf, error: io::Error },
}

/// Writes the roots and the index of a catalog, with the packages of these apps. All of it is checked as a server
/// would.
///
/// # Errors
/// A catalog that isn't believed, an app that it doesn't offer, a package that isn't the one that the index names.
pub(crate) fn write(
    (source, access): (&Source, &Access),
    believed: &[PublicKey],
    wanted: &[Wanted],
    (out, now): (&Path, Timestamp),
) -> Result<Bundled, BundleError> {
    let opened = source.open(access)?;
    let found = look((source, &opened), Before::Believed(believed), now)?;
    let mut apps = Vec::new();
    for one in wanted {
        apps.push((one.id.clone(), chosen(&found.index, one).map_err(BundleError::App)?.clone()));
    }
    let failed = |error| BundleError::Write { path: out.to_owned(), error };
    let mut file = small_files::unnamed(out, b"").map_err(failed)?;
    let mut tar = Tar { out: io::BufWriter::new(file.as_file_mut()), bytes: 0 };
    for version in 1..=found.floor.root.version.get() {
        let missing = || LookError::Missing(source.to_string(), "root that was there just now");
        let root = opened.root(version)?.ok_or_else(missing)?;
        tar.member(&root_path(version), &root).map_err(failed)?;
    }
    tar.member(INDEX, &found.file).map_err(failed)?;
    let mut files = BTreeSet::new();
    for (id, version) in apps.iter().filter(|(_, version)| files.insert(version.file)) {
        let (path, size) = (package_path(version.file), version.size.get());
        let lacks = |what: &str| BundleError::App(format!("{source} {what} {id} {}", version.version));
        let bytes = opened.read(&path, size)?.ok_or_else(|| lacks("lacks the file of"))?;
        if Digest::of(&bytes) != version.file {
            return Err(lacks("has another file than its index names for"));
        }
        tar.member(&path, &bytes).map_err(failed)?;
    }
    let bytes = tar.end().map_err(failed)?;
    let readable = std::os::unix::fs::PermissionsExt::from_mode(0o644);
    file.as_file().set_permissions(readable).map_err(failed)?;
    file.as_file().sync_all().map_err(failed)?;
    file.persist(out).map_err(|error| failed(error.error))?;
    Ok(Bundled { index: found.index, apps, bytes })
}

/// The version of an app that is meant.
fn chosen<'i>(index: &'i Index, wanted: &Wanted) -> Result<&'i Version, String> {
    let Wanted { id, version } = wanted;
    let catalog = &index.catalog;
    let app = index.app(id).ok_or_else(|| format!("the catalog {catalog} doesn't offer {id}"))?;
    let mut versions = app.versions.iter().rev();
    let found = versions.find(|one| match version {
        Some(version) => one.version == *version,
        None => one.version.pre.is_empty(),
    });
    let found = found.ok_or_else(|| {
        let has = listed(app.versions.iter().map(|one| &one.version));
        let wanted = version.as_ref().map_or("newest version".to_owned(), |one| format!("version {one}"));
        format!("the catalog {catalog} has no {wanted} of {id}; it has {has}")
    })?;
    match index.blocked(id, &found.version) {
        Some(blocked) => {
            Err(format!("the catalog {catalog} blocks {id} {}: {}", found.version, blocked.reason))
        }
        None => Ok(found),
    }
}

/// A tar that is being written.
struct Tar<W> {
    out: W,
    bytes: u64,
}

impl<W: Write> Tar<W> {
    fn member(&mut self, name: &str, bytes: &[u8]) -> io::Result<()> {
        self.put(&header(name, bytes.len() as u64))?;
        self.put(bytes)?;
        self.put(&[0; BLOCK][..bytes.len().next_multiple_of(BLOCK) - bytes.len()])
    }

    fn end(mut self) -> io::Result<u64> {
        self.put(&[0; 2 * BLOCK])?;
        self.out.flush()?;
        Ok(self.bytes)
    }

    fn put(&mut self, bytes: &[u8]) -> io::Result<()> {
        self.bytes += bytes.len() as u64;
        self.out.write_all(bytes)
    }
}
