//! Bringing a catalog that is signed into a registry.

use std::collections::BTreeMap;

use super::session::Session;
use super::{ARTIFACT_TYPE, Descriptor, EMPTY, EMPTY_TYPE, IMAGE_TYPE, Manifest, Place, Registry, TITLE};
use crate::catalogs::author::{AuthorError, Folder};
use crate::catalogs::web::Access;
use crate::catalogs::{INDEX, icon_path, package_path, root_path};
use ironloom_storage::small_files::{self, ReadError};
use ironloom_trust::catalog::index::{Index, MAX_ICON};
use ironloom_trust::envelope::{Envelope, Kind};
use ironloom_types::ids::Digest;
use ironloom_types::limits::MAX_PACKAGE;

/// The media type of a package's file.
const PACKAGE_TYPE: &str = "application/vnd.ironloom.package.v1.tar";
/// That of a root or an index.
const SIGNED_TYPE: &str = ironloom_trust::envelope::MEDIA_TYPE;
/// That of an icon: the catalog doesn't say what kind of picture it is.
const ICON_TYPE: &str = "application/octet-stream";

/// A catalog that came into a registry.
#[derive(Debug)]
pub(crate) struct Pushed {
    pub(crate) catalog: String,
    /// The version of the index.
    pub(crate) version: u64,
    /// Packages that weren't there before, and all of them.
    pub(crate) new: usize,
    pub(crate) packages: usize,
}

/// The reason why a catalog can't be brought into a registry.
#[derive(Debug, thiserror::Error)]
pub(crate) enum PushError {
    #[error(transparent)]
    Folder(#[from] AuthorError),
    #[error(transparent)]
    Read(#[from] ReadError),
    #[error("{place}: {problem}")]
    Registry { place: Place, problem: String },
    #[error("{0}")]
    Other(String),
}

/// Brings a catalog's roots, its index, and all files that this names into a registry. The tag comes last, so that nobody
/// sees an index whose packages aren't there.
///
/// # Errors
/// A catalog that isn't signed, a file that isn't the one that the index names, or a registry that doesn't take it.
pub(crate) fn push(
    folder: &Folder,
    place: &Place,
    access: &Access,
    tell: impl Fn(&str),
) -> Result<Pushed, PushError> {
    let failed = |problem: String| PushError::Registry { place: place.clone(), problem };
    let signed = Signed::read(folder)?;
    check_newer(&Registry::open(place, access).map_err(failed)?, &signed).map_err(failed)?;
    let session = Session::new(place, access, true).map_err(failed)?;
    session.put_blob(EMPTY).map_err(failed)?;
    let (mut new, mut packages) = (0, 0);
    for app in &signed.index.apps {
        for version in &app.versions {
            packages += 1;
            let file = named(folder, &package_path(version.file), version.file, MAX_PACKAGE as u64);
            if put_file(&session, version.file, PACKAGE_TYPE, file).map_err(|error| error.at(place))? {
                new += 1;
                tell(&format!("{} {} is there", app.id, version.version));
            }
        }
        if let Some(icon) = &app.icon {
            let file = named(folder, &icon_path(icon.digest), icon.digest, MAX_ICON);
            put_file(&session, icon.digest, ICON_TYPE, file).map_err(|error| error.at(place))?;
        }
    }
    let mut layers = Vec::new();
    for (path, bytes) in &signed.files {
        session.put_blob(bytes).map_err(failed)?;
        let mut layer = Descriptor::of(SIGNED_TYPE, bytes);
        layer.annotations = BTreeMap::from([(TITLE.to_owned(), path.clone())]);
        layers.push(layer);
    }
    let manifest = manifest(layers).map_err(failed)?;
    session.put_manifest(&place.tag, &manifest).map_err(failed)?;
    let Index { catalog, version, .. } = &signed.index;
    Ok(Pushed { catalog: catalog.to_string(), version: version.get(), new, packages })
}

/// The signed parts of a catalog.
struct Signed {
    index: Index,
    /// Roots and index by their paths.
    files: Vec<(String, Vec<u8>)>,
}

impl Signed {
    fn read(folder: &Folder) -> Result<Self, PushError> {
        let root = folder.root()?;
        let newest = root.map_or(0, |root| root.version.get());
        let mut files = Vec::new();
        for version in 1..=newest {
            let path = root_path(version);
            let bytes = small_files::read(&folder.0.join(&path), Kind::Root.max_envelope() as u64)?;
            files.push((path, bytes));
        }
        let index = folder.signed_index()?;
        let Some(index) = index.filter(|_| newest > 0) else {
            return Err(PushError::Other(format!(
                "{} has no index that enough keys have signed; `ironloom catalog sign` signs it",
                folder.0.display()
            )));
        };
        let bytes = small_files::read(&folder.0.join(INDEX), Kind::Index.max_envelope() as u64)?;
        files.push((INDEX.to_owned(), bytes));
        Ok(Self { index, files })
    }
}

/// Refuses to bring back what was there before: servers that have seen a newer index wouldn't take it.
fn check_newer(registry: &Registry, signed: &Signed) -> Result<(), String> {
    let Some(there) = registry.read(INDEX, Kind::Index.max_envelope() as u64)? else { return Ok(()) };
    // Something else may have the tag; it isn't written over.
    let read = Envelope::read(Kind::Index, &there).map_err(|error| error.to_string())?;
    let there = Index::own(&read).map_err(|error| error.to_string())?;
    let own = &signed.index;
    if there.catalog != own.catalog {
        return Err(format!("it has the catalog {}, and this one is {}", there.catalog, own.catalog));
    }
    if there.version > own.version {
        return Err(format!("it has the index {} already, and this one is {}", there.version, own.version));
    }
    Ok(())
}

/// A file of the folder, which must be the one that its name says.
fn named(
    folder: &Folder,
    path: &str,
    digest: Digest,
    most: u64,
) -> impl FnOnce() -> Result<Vec<u8>, FileError> + use<> {
    let path = folder.0.join(path);
    move || {
        let bytes = small_files::read(&path, most)?;
        if Digest::of(&bytes) != digest {
            let problem = format!("{} isn't the file that the index names", path.display());
            return Err(FileError::Other(problem));
        }
        Ok(bytes)
    }
}

/// The reason why a file isn't brought there.
enum FileError {
    Read(ReadError),
    Other(String),
    Registry(String),
}

impl From<ReadError> for FileError {
    fn from(error: ReadError) -> Self {
        Self::Read(error)
    }
}

impl FileError {
    fn at(self, place: &Place) -> PushError {
        match self {
            Self::Read(error) => error.into(),
            Self::Other(problem) => PushError::Other(problem),
            Self::Registry(problem) => PushError::Registry { place: place.clone(), problem },
        }
    }
}

/// Brings one file there as an artifact of its own; returns `false` where it is there already.
fn put_file(
    session: &Session,
    digest: Digest,
    media_type: &str,
    file: impl FnOnce() -> Result<Vec<u8>, FileError>,
) -> Result<bool, FileError> {
    let tag = digest.hex();
    if session.has(&format!("manifests/{tag}")).map_err(FileError::Registry)? {
        return Ok(false);
    }
    let bytes = file()?;
    session.put_blob(&bytes).map_err(FileError::Registry)?;
    let manifest = manifest(vec![Descriptor::of(media_type, &bytes)]).map_err(FileError::Registry)?;
    session.put_manifest(&tag, &manifest).map_err(FileError::Registry)?;
    Ok(true)
}

fn manifest(layers: Vec<Descriptor>) -> Result<Vec<u8>, String> {
    let manifest = Manifest {
        schema_version: 2,
        media_type: Some(IMAGE_TYPE.to_owned()),
        artifact_type: Some(ARTIFACT_TYPE.to_owned()),
        config: Descriptor::of(EMPTY_TYPE, EMPTY),
        layers,
    };
    serde_json::to_vec(&manifest).map_err(|error| error.to_string())
}
