//! The place that a catalog is read from: a folder, a bundle, a web server, or a registry. Nothing of it is believed for
//! where it comes from.

use std::fs::File;
use std::io;
use std::os::fd::OwnedFd;
use std::path::{Path, PathBuf};

use rustix::fs::{FileType, Mode, OFlags, ResolveFlags};

use super::bundle::Bundle;
use super::registry::{Place, Registry};
use super::web::{self, Access};
use ironloom_storage::small_files::{self, ReadError};

/// A path, URL or repository.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Source {
    /// A folder or bundle of this machine, by its path from the root.
    Local(PathBuf),
    /// A URL without a slash at its end.
    Web(String),
    Registry(Place),
}

/// A place that is ready to be read, for one look at it.
#[derive(Debug)]
pub(crate) enum Opened {
    Folder { path: PathBuf, folder: OwnedFd },
    Bundle { path: PathBuf, bundle: Bundle },
    Web { url: String, agent: ureq::Agent },
    Registry { place: Place, registry: Box<Registry> },
}

/// The reason why a part of a catalog can't be read.
#[derive(Debug, thiserror::Error)]
pub(crate) enum SourceError {
    #[error(
        "{0:?} is no place for a catalog: it is a folder or a bundle by its path from the root, a URL that begins with https:// or \
         http://, or a repository of a registry, as oci://HOST/REPOSITORY"
    )]
    Form(String),
    #[error("{} can't be opened: {error}", path.display())]
    Local { path: PathBuf, error: io::Error },
    #[error("{} can't be read: {problem}", path.display())]
    Bundle { path: PathBuf, problem: String },
    #[error(transparent)]
    Read(#[from] ReadError),
    /// A URL, or a place in a registry.
    #[error("{url} can't be read: {problem}")]
    Web { url: String, problem: String },
}

impl Source {
    /// Reads what people write.
    ///
    /// # Errors
    /// A text that names no place.
    pub(crate) fn new(text: &str) -> Result<Self, SourceError> {
        let form = || SourceError::Form(text.chars().take(200).collect());
        if text.len() > 2_000 || text.chars().any(char::is_control) {
            return Err(form());
        }
        if text.starts_with("http://") || text.starts_with("https://") {
            let uri: ureq::http::Uri = text.parse().map_err(|_| form())?;
            let has_user = uri.authority().is_some_and(|authority| authority.as_str().contains('@'));
            let has_host = uri.host().is_some_and(|host| !host.is_empty());
            let plain = uri.query().is_none() && has_host && !has_user;
            return if plain { Ok(Self::Web(text.trim_end_matches('/').to_owned())) } else { Err(form()) };
        }
        if text.starts_with("oci") && text.contains("://") {
            return Place::new(text).map(Self::Registry).ok_or_else(form);
        }
        let path = PathBuf::from(text.strip_prefix("file://").unwrap_or(text));
        if path.is_absolute() { Ok(Self::Local(path)) } else { Err(form()) }
    }

    /// Makes it ready to be read. May wait for a disk.
    ///
    /// # Errors
    /// A path that leads to nothing of a catalog; certificates or logins that can't be read.
    pub(crate) fn open(&self, access: &Access) -> Result<Opened, SourceError> {
        match self {
            Self::Local(path) => open_local(path),
            Self::Web(url) => {
                let agent = web::agent(access, url.starts_with("https:"));
                let agent = agent.map_err(|problem| SourceError::Web { url: url.clone(), problem })?;
                Ok(Opened::Web { url: url.clone(), agent })
            }
            Self::Registry(place) => {
                let opened = Registry::open(place, access);
                let registry =
                    opened.map_err(|problem| SourceError::Web { url: place.to_string(), problem })?;
                Ok(Opened::Registry { place: place.clone(), registry: Box::new(registry) })
            }
        }
    }
}

impl std::fmt::Display for Source {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Local(path) => path.display().fmt(f),
            Self::Web(url) => f.write_str(url),
            Self::Registry(place) => place.fmt(f),
        }
    }
}

impl Opened {
    /// Reads a file of the catalog of at most so many bytes; `None` where there is none.
    ///
    /// # Errors
    /// A file that is too large or can't be read.
    pub(crate) fn read(&self, path: &str, most: u64) -> Result<Option<Vec<u8>>, SourceError> {
        match self {
            Self::Folder { path: of, folder } => read_beneath((of, folder), path, most),
            Self::Bundle { path: of, bundle } => {
                let read = bundle.read(path, most);
                read.map_err(|problem| SourceError::Bundle { path: of.clone(), problem })
            }
            Self::Web { url, agent } => {
                let url = format!("{url}/{path}");
                web::get(agent, &url, most).map_err(|problem| SourceError::Web { url, problem })
            }
            Self::Registry { place, registry } => {
                let read = registry.read(path, most);
                read.map_err(|problem| SourceError::Web { url: place.to_string(), problem })
            }
        }
    }
}

/// The flags with which nothing that is opened keeps the reader waiting.
const READS: OFlags = OFlags::RDONLY.union(OFlags::CLOEXEC).union(OFlags::NONBLOCK).union(OFlags::NOCTTY);

/// Opens a folder, or a bundle.
fn open_local(path: &Path) -> Result<Opened, SourceError> {
    let failed = |error: rustix::io::Errno| SourceError::Local { path: path.to_owned(), error: error.into() };
    let opened = rustix::fs::open(path, READS, Mode::empty()).map_err(failed)?;
    let kind = FileType::from_raw_mode(rustix::fs::fstat(&opened).map_err(failed)?.st_mode);
    match kind {
        FileType::Directory => Ok(Opened::Folder { path: path.to_owned(), folder: opened }),
        FileType::RegularFile => {
            let bundle = Bundle::open(File::from(opened));
            let bundle = bundle.map_err(|problem| SourceError::Bundle { path: path.to_owned(), problem })?;
            Ok(Opened::Bundle { path: path.to_owned(), bundle })
        }
        _ => {
            let problem = "it is neither a folder nor a regular file".to_owned();
            Err(SourceError::Bundle { path: path.to_owned(), problem })
        }
    }
}

/// Reads a file below a folder. A stick may have been written by a stranger: nothing on it leads elsewhere, or to what
/// has no end.
fn read_beneath(
    (folder, opened): (&Path, &OwnedFd),
    path: &str,
    most: u64,
) -> Result<Option<Vec<u8>>, SourceError> {
    let named = folder.join(path);
    let failed = |error: io::Error| ReadError::Io { path: named.clone(), error };
    let within = ResolveFlags::BENEATH | ResolveFlags::NO_SYMLINKS | ResolveFlags::NO_MAGICLINKS;
    let file = match rustix::fs::openat2(opened, path, READS, Mode::empty(), within) {
        Ok(file) => std::fs::File::from(file),
        Err(rustix::io::Errno::NOENT) => return Ok(None),
        Err(rustix::io::Errno::LOOP | rustix::io::Errno::XDEV) => {
            return Err(failed(io::Error::other("a link leads there, and links aren't followed")).into());
        }
        Err(error) => return Err(failed(error.into()).into()),
    };
    if !file.metadata().map_err(failed)?.is_file() {
        return Err(failed(io::Error::other("it is no regular file")).into());
    }
    Ok(Some(small_files::read_open(file, &named, most)?))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_place_is_a_folder_from_the_root_or_a_plain_url() {
        for (text, shown) in [
            ("/media/usb/catalog", "/media/usb/catalog"),
            ("file:///media/usb", "/media/usb"),
            ("http://apps.example:8080/plant/", "http://apps.example:8080/plant"),
            ("oci://registry.example/plant/apps", "oci://registry.example/plant/apps"),
            ("https://apps.example/plant", "https://apps.example/plant"),
        ] {
            assert_eq!(Source::new(text).unwrap().to_string(), shown);
        }
        for text in [
            "",
            "catalog",
            "./catalog",
            "ftp://x/y",
            "http://",
            "http://x/?a=b",
            "http://me:pw@x/",
            "https:///x",
            "oci://x",
            "oci+https://x/y",
            "/a\nb",
            "file://host/x y",
        ] {
            let refused = Source::new(text).map(|source| source.to_string());
            assert!(refused.is_err() || text.starts_with("file://"), "{text:?}: {refused:?}");
        }
    }

    #[test]
    fn a_folder_has_a_file_or_not_and_no_more_than_allowed() {
        let folder = tempfile::tempdir().unwrap();
        std::fs::write(folder.path().join("index.json"), "12345").unwrap();
        let open = |path: &str| Source::new(path).unwrap().open(&Access::default()).unwrap();
        let source = open(folder.path().to_str().unwrap());
        assert_eq!(source.read("index.json", 5).unwrap().unwrap(), b"12345");
        assert_eq!(source.read("root/1.json", 5).unwrap(), None);
        assert!(source.read("index.json", 4).is_err());
        let gone = Source::new("/nowhere/at/all").unwrap().open(&Access::default()).unwrap_err();
        assert!(gone.to_string().starts_with("/nowhere/at/all can't be opened: No such"), "{gone}");
    }

    #[test]
    fn nothing_on_a_stick_leads_elsewhere_or_keeps_the_reader_waiting() {
        let folder = tempfile::tempdir().unwrap();
        let stick = folder.path().join("stick");
        std::fs::create_dir(&stick).unwrap();
        std::fs::write(folder.path().join("secret"), "x").unwrap();
        let link = |to: &str, name: &str| std::os::unix::fs::symlink(to, stick.join(name)).unwrap();
        link("../secret", "index.json");
        link("..", "root");
        link("/dev/zero", "endless");
        rustix::fs::mknodat(rustix::fs::CWD, stick.join("pipe"), rustix::fs::FileType::Fifo, Mode::RUSR, 0)
            .unwrap();
        let source = open_local(&stick).unwrap();
        assert!(open_local(&stick.join("pipe")).is_err() && open_local(Path::new("/dev/zero")).is_err());
        for name in ["index.json", "root/secret", "endless", "pipe", "../secret", "."] {
            assert!(source.read(name, 10).is_err(), "{name}");
        }
    }
}
