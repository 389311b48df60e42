//! The place that a catalog is read from: a folder, or a web server. Nothing of it is believed for where it comes from.

use std::io::{self, Read as _};
use std::path::{Path, PathBuf};
use std::time::Duration;

use rustix::fs::{Mode, OFlags, ResolveFlags};

use ironloom_storage::small_files::{self, ReadError};

/// The time to connect to a web server, and to get the head of an answer.
const ANSWER: Duration = Duration::from_secs(20);
/// The time for a whole file.
const WHOLE: Duration = Duration::from_secs(600);

/// A folder or URL.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Source {
    /// A folder of this machine, by its path from the root.
    Folder(PathBuf),
    /// A URL without a slash at its end.
    Web(String),
}

/// The reason why a part of a catalog can't be read.
#[derive(Debug, thiserror::Error)]
pub(crate) enum SourceError {
    #[error(
        "{0:?} is no place for a catalog: it is a folder by its path from the root, or a URL that begins with http://"
    )]
    Form(String),
    #[error("the folder {} can't be opened: {error}", path.display())]
    Folder { path: PathBuf, error: io::Error },
    #[error(transparent)]
    Read(#[from] ReadError),
    #[error("{url} can't be read: {problem}")]
    Web { url: String, problem: String },
}

impl Source {
    /// Reads what people write.
    ///
    /// # Errors
    /// A text that names neither.
    pub(crate) fn new(text: &str) -> Result<Self, SourceError> {
        let form = || SourceError::Form(text.chars().take(200).collect());
        if text.len() > 2_000 || text.chars().any(char::is_control) {
            return Err(form());
        }
        if text.starts_with("http://") {
            let uri: ureq::http::Uri = text.parse().map_err(|_| form())?;
            let has_user = uri.authority().is_some_and(|authority| authority.as_str().contains('@'));
            let has_host = uri.host().is_some_and(|host| !host.is_empty());
            let plain = uri.query().is_none() && has_host && !has_user;
            return if plain { Ok(Self::Web(text.trim_end_matches('/').to_owned())) } else { Err(form()) };
        }
        let path = PathBuf::from(text.strip_prefix("file://").unwrap_or(text));
        if path.is_absolute() { Ok(Self::Folder(path)) } else { Err(form()) }
    }

    /// Reads a file of the catalog of at most so many bytes; `None` where there is none.
    ///
    /// # Errors
    /// A file that is too large or can't be read.
    pub(crate) fn read(&self, path: &str, most: u64) -> Result<Option<Vec<u8>>, SourceError> {
        match self {
            Self::Folder(folder) => read_beneath(folder, path, most),
            Self::Web(url) => fetch(&format!("{url}/{path}"), most),
        }
    }
}

impl std::fmt::Display for Source {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Folder(folder) => folder.display().fmt(f),
            Self::Web(url) => f.write_str(url),
        }
    }
}

/// Reads a file below a folder. A stick may have been written by a stranger: nothing on it leads elsewhere, or to what
/// has no end.
fn read_beneath(folder: &Path, path: &str, most: u64) -> Result<Option<Vec<u8>>, SourceError> {
    let named = folder.join(path);
    let failed = |error: io::Error| ReadError::Io { path: named.clone(), error };
    let flags = OFlags::RDONLY | OFlags::CLOEXEC | OFlags::NONBLOCK | OFlags::NOCTTY;
    let within = ResolveFlags::BENEATH | ResolveFlags::NO_SYMLINKS | ResolveFlags::NO_MAGICLINKS;
    let opened = rustix::fs::open(folder, OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC, Mode::empty());
    let folder =
        opened.map_err(|error| SourceError::Folder { path: folder.to_owned(), error: error.into() })?;
    let file = match rustix::fs::openat2(&folder, path, flags, Mode::empty(), within) {
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

/// Gets a file. Redirects aren't followed: whoever adds a catalog has said where it is.
fn fetch(url: &str, most: u64) -> Result<Option<Vec<u8>>, SourceError> {
    let failed = |problem: String| SourceError::Web { url: url.to_owned(), problem };
    let config = ureq::Agent::config_builder()
        .http_status_as_error(false)
        .max_redirects(0)
        .timeout_connect(Some(ANSWER))
        .timeout_recv_response(Some(ANSWER))
        .timeout_global(Some(WHOLE))
        .build();
    let answer = ureq::Agent::new_with_config(config).get(url).call();
    let mut answer = answer.map_err(|error| failed(error.to_string()))?;
    match answer.status().as_u16() {
        200 => {}
        404 | 410 => return Ok(None),
        status => return Err(failed(format!("the server answers with status {status}"))),
    }
    let mut bytes = Vec::new();
    let mut body = answer.body_mut().as_reader().take(most.saturating_add(1));
    body.read_to_end(&mut bytes).map_err(|error| failed(error.to_string()))?;
    if bytes.len() as u64 > most {
        return Err(failed(format!("it has more than {most} bytes, the most that are taken")));
    }
    Ok(Some(bytes))
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
        let source = Source::new(folder.path().to_str().unwrap()).unwrap();
        assert_eq!(source.read("index.json", 5).unwrap().unwrap(), b"12345");
        assert_eq!(source.read("root/1.json", 5).unwrap(), None);
        assert!(source.read("index.json", 4).is_err());
        let gone = Source::new("/nowhere/at/all").unwrap().read("index.json", 5).unwrap_err();
        assert!(
            gone.to_string().starts_with("the folder /nowhere/at/all can't be opened: No such"),
            "{gone}"
        );
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
        let source = Source::Folder(stick);
        for name in ["index.json", "root/secret", "endless", "pipe", "../secret", "."] {
            assert!(source.read(name, 10).is_err(), "{name}");
        }
    }
}
