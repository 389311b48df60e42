//! Packages and compiled code: files beside the store, each either complete or absent.

use std::fs::{self, File};
use std::io::{self, Write};
use std::path::{Path, PathBuf};

use crate::folders;
use ironloom_types::ids::Digest;

/// Stands at the end of the name of a file that is being written.
const UNFINISHED: &str = ".unfinished";

/// A folder of files that are written once.
#[derive(Debug)]
pub struct Files {
    folder: PathBuf,
}

/// An error of a file beside the store.
#[derive(Debug, thiserror::Error)]
pub enum FileError {
    /// Reading, writing or syncing failed.
    #[error("{what} failed: {source}")]
    Io {
        /// The failed action, with the file.
        what: String,
        /// The error of the operating system.
        source: io::Error,
    },
    /// The file does not have the bytes that were written.
    #[error("{path} is damaged: its digest is {found}, it should be {expected}")]
    Damaged {
        path: PathBuf,
        /// The digest of what is there.
        found: Digest,
        /// The digest of what was written.
        expected: Digest,
    },
}

impl FileError {
    fn io<'a>(doing: &'a str, path: &'a Path) -> impl FnOnce(io::Error) -> Self + 'a {
        move |source| Self::Io { what: format!("{doing} {}", path.display()), source }
    }
}

impl Files {
    /// Opens a folder, or makes it, and removes what a crash left unfinished.
    pub fn open(folder: &Path) -> Result<Self, FileError> {
        folders::make(folder).map_err(FileError::io("making", folder))?;
        let files = Self { folder: folder.to_owned() };
        for name in files.all_names()? {
            if name.ends_with(UNFINISHED) {
                let path = folder.join(name);
                fs::remove_file(&path).map_err(FileError::io("removing", &path))?;
            }
        }
        files.sync()?;
        Ok(files)
    }

    /// Where a file is, or would be. A name is letters, digits, `-` and `.`, and begins with none of these two.
    pub fn path(&self, name: &str) -> PathBuf {
        let is_plain = |b: u8| b.is_ascii_alphanumeric() || b == b'-' || b == b'.';
        let begins_well = name.bytes().next().is_some_and(|b| b.is_ascii_alphanumeric());
        assert!(
            begins_well && name.bytes().all(is_plain),
            "names are made by us, so that none leaves the folder"
        );
        self.folder.join(name)
    }

    /// Writes a file, in place of one with the same name. When this returns it is on the disk.
    pub fn write(&self, name: &str, bytes: &[u8]) -> Result<(), FileError> {
        let path = self.path(name);
        let unfinished = self.path(&format!("{name}{UNFINISHED}"));
        let written = File::create(&unfinished).and_then(|mut file| {
            file.write_all(bytes)?;
            file.sync_all()
        });
        written.map_err(FileError::io("writing", &unfinished))?;
        fs::rename(&unfinished, &path).map_err(FileError::io("writing", &path))?;
        self.sync()
    }

    /// Reads a file and holds it against the digest that the store has of it; `None` if there is no file.
    pub fn read(&self, name: &str, expected: Digest) -> Result<Option<Vec<u8>>, FileError> {
        let path = self.path(name);
        let bytes = match fs::read(&path) {
            Ok(bytes) => bytes,
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
            Err(error) => return Err(FileError::io("reading", &path)(error)),
        };
        let found = Digest::of(&bytes);
        if found != expected {
            return Err(FileError::Damaged { path, found, expected });
        }
        Ok(Some(bytes))
    }

    /// Removes a file, if it is there.
    pub fn remove(&self, name: &str) -> Result<(), FileError> {
        let path = self.path(name);
        match fs::remove_file(&path) {
            Ok(()) => self.sync(),
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(()),
            Err(error) => Err(FileError::io("removing", &path)(error)),
        }
    }

    /// Removes the files that nothing refers to, and returns how many these were.
    pub fn keep_only(&self, is_known: impl Fn(&str) -> bool) -> Result<usize, FileError> {
        let mut unknown = self.names()?;
        unknown.retain(|name| !is_known(name));
        for name in &unknown {
            self.remove(name)?;
        }
        Ok(unknown.len())
    }

    /// The names of all files, in order.
    pub fn names(&self) -> Result<Vec<String>, FileError> {
        let mut names = self.all_names()?;
        names.retain(|name| !name.ends_with(UNFINISHED));
        names.sort_unstable();
        Ok(names)
    }

    fn all_names(&self) -> Result<Vec<String>, FileError> {
        let failed = || FileError::io("listing", &self.folder);
        let mut names = Vec::new();
        for entry in fs::read_dir(&self.folder).map_err(failed())? {
            names.extend(entry.map_err(failed())?.file_name().into_string());
        }
        Ok(names)
    }

    fn sync(&self) -> Result<(), FileError> {
        folders::sync(&self.folder).map_err(FileError::io("syncing the folder", &self.folder))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_file_reads_back_only_with_its_digest() {
        let folder = tempfile::tempdir().unwrap();
        let files = Files::open(&folder.path().join("packages")).unwrap();
        assert_eq!(files.read("a.tar", Digest::of(b"x")).unwrap(), None);
        files.write("a.tar", b"one").unwrap();
        files.write("a.tar", b"two").unwrap();
        assert_eq!(files.read("a.tar", Digest::of(b"two")).unwrap(), Some(b"two".to_vec()));
        let error = files.read("a.tar", Digest::of(b"one")).unwrap_err().to_string();
        assert!(error.contains("a.tar is damaged"), "{error}");
        files.remove("a.tar").unwrap();
        files.remove("a.tar").unwrap();
        assert_eq!(files.names().unwrap(), Vec::<String>::new());
    }

    #[test]
    fn what_nothing_refers_to_is_removed() {
        let folder = tempfile::tempdir().unwrap();
        let files = Files::open(folder.path()).unwrap();
        for name in ["a", "b", "c"] {
            files.write(name, b"x").unwrap();
        }
        assert_eq!(files.keep_only(|name| name == "b").unwrap(), 2);
        assert_eq!(files.names().unwrap(), ["b"]);
    }

    #[test]
    fn what_a_crash_left_unfinished_is_removed() {
        let folder = tempfile::tempdir().unwrap();
        fs::write(folder.path().join("b.unfinished"), b"half").unwrap();
        fs::write(folder.path().join("c"), b"whole").unwrap();
        let files = Files::open(folder.path()).unwrap();
        assert_eq!(files.names().unwrap(), ["c"]);
        assert!(!folder.path().join("b.unfinished").exists());
    }

    #[test]
    #[should_panic(expected = "leaves the folder")]
    fn no_name_leaves_the_folder() {
        let folder = tempfile::tempdir().unwrap();
        let files = Files::open(folder.path()).unwrap();
        let _ = files.write("../x", b"");
    }
}
