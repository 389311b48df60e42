//! Files that people name, read whole, up to a bound, since a name may lead to anything; and written whole.

use std::fs::File;
use std::io::{self, Read as _, Write as _};
use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};

use tempfile::NamedTempFile;

use crate::folders;

/// Why a file isn't read.
#[derive(Debug, thiserror::Error)]
pub enum ReadError {
    /// The words have the cause, so it isn't told as a source once more.
    #[error("{} can't be read: {error}", path.display())]
    Io { path: PathBuf, error: io::Error },
    #[error("{} has {}; at most {most} are allowed", path.display(), so_many(*size, *most))]
    TooLarge {
        path: PathBuf,
        /// `None` where it isn't known, such as of a pipe.
        size: Option<u64>,
        most: u64,
    },
    #[error("{} has a secret and may be read or changed by everybody on this machine; run `chmod o= {}`", path.display(), path.display())]
    Open { path: PathBuf },
}

fn so_many(size: Option<u64>, most: u64) -> String {
    size.map_or_else(|| format!("more than {most} bytes"), |size| format!("{size} bytes"))
}

/// Reads a file of at most so many bytes, and no more of any other.
pub fn read(path: &Path, most: u64) -> Result<Vec<u8>, ReadError> {
    read_open(File::open(path).map_err(|error| ReadError::Io { path: path.to_owned(), error })?, path, most)
}

/// Reads a file with a secret likewise, which others than its user and its group must not reach.
pub fn read_secret(path: &Path, most: u64) -> Result<Vec<u8>, ReadError> {
    let failed = |error| ReadError::Io { path: path.to_owned(), error };
    let file = File::open(path).map_err(failed)?;
    let told = file.metadata().map_err(failed)?;
    if told.is_file() && told.permissions().mode() & 0o007 != 0 {
        return Err(ReadError::Open { path: path.to_owned() });
    }
    read_open(file, path, most)
}

/// Reads a text with a secret likewise.
pub fn read_secret_text(path: &Path, most: u64) -> Result<String, ReadError> {
    text_of(read_secret(path, most)?, path)
}

/// Reads a file that is open. Errors name it by this path.
pub fn read_open(file: File, path: &Path, most: u64) -> Result<Vec<u8>, ReadError> {
    let failed = |error| ReadError::Io { path: path.to_owned(), error };
    let told = file.metadata().map_err(failed)?;
    let size = told.is_file().then_some(told.len()).filter(|size| *size > most);
    let too_large = || ReadError::TooLarge { path: path.to_owned(), size, most };
    if size.is_some() {
        return Err(too_large());
    }
    let mut bytes = Vec::new();
    // Pipes have no size, and files of the system one of 0.
    file.take(most.saturating_add(1)).read_to_end(&mut bytes).map_err(failed)?;
    if bytes.len() as u64 > most { Err(too_large()) } else { Ok(bytes) }
}

/// Reads a text likewise.
pub fn read_text(path: &Path, most: u64) -> Result<String, ReadError> {
    text_of(read(path, most)?, path)
}

fn text_of(bytes: Vec<u8>, path: &Path) -> Result<String, ReadError> {
    // The error of the library has the bytes in it.
    let not_text =
        |_| ReadError::Io { path: path.to_owned(), error: io::Error::other("it is not UTF-8 text") };
    String::from_utf8(bytes).map_err(not_text)
}

/// Writes a file so that nobody ever sees half of it, for everybody who may see the folder.
pub fn write(path: &Path, bytes: &[u8]) -> io::Result<()> {
    let file = unnamed(path, bytes)?;
    file.as_file().set_permissions(std::fs::Permissions::from_mode(0o644))?;
    file.persist(path)?;
    Ok(())
}

/// Writes a file so that nobody ever sees half of it, for its owner alone. It is durable when this returns.
pub fn write_private(path: &Path, bytes: &[u8]) -> io::Result<()> {
    let file = unnamed(path, bytes)?;
    file.as_file().set_permissions(std::fs::Permissions::from_mode(0o600))?;
    file.as_file().sync_all()?;
    file.persist(path)?;
    File::open(folders::parent(path))?.sync_all()
}

/// Writes a file beside its place, for its owner alone. It goes unless it is persisted.
pub fn unnamed(path: &Path, bytes: &[u8]) -> io::Result<NamedTempFile> {
    let folder = folders::parent(path);
    std::fs::create_dir_all(folder)?;
    let mut file = NamedTempFile::new_in(folder)?;
    file.write_all(bytes)?;
    Ok(file)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_secret_is_read_where_others_cant() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("own.key");
        std::fs::write(&path, b"hunter2").unwrap();
        let with = |mode| {
            std::fs::set_permissions(&path, std::fs::Permissions::from_mode(mode)).unwrap();
            read_secret_text(&path, 64)
        };
        for mode in [0o600, 0o400, 0o640, 0o660] {
            assert_eq!(with(mode).unwrap(), "hunter2");
        }
        for mode in [0o644, 0o604, 0o602] {
            let told = with(mode).unwrap_err().to_string();
            assert!(told.contains("own.key has a secret") && told.contains("chmod o="), "{told}");
        }
        std::fs::write(&path, b"\xffhunter2").unwrap();
        let error = with(0o600).unwrap_err();
        assert!(!format!("{error} {error:?}").contains("hunter2") && error.to_string().contains("UTF-8"));
    }

    #[test]
    fn a_file_is_read_up_to_its_bound_and_named_beyond() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("app.toml");
        let name = path.display();
        std::fs::write(&path, b"abcd").unwrap();
        assert_eq!(read(&path, 4).unwrap(), b"abcd");
        assert_eq!(read_text(&path, 4).unwrap(), "abcd");
        let told = |most| read(&path, most).unwrap_err().to_string();
        assert_eq!(told(3), format!("{name} has 4 bytes; at most 3 are allowed"));
        // It takes no room on the disk, and would take all memory.
        File::create(&path).unwrap().set_len(1 << 40).unwrap();
        assert_eq!(told(4), format!("{name} has 1099511627776 bytes; at most 4 are allowed"));
        let endless = read(Path::new("/dev/zero"), 4).unwrap_err().to_string();
        assert_eq!(endless, "/dev/zero has more than 4 bytes; at most 4 are allowed");
        std::fs::write(&path, b"\xff").unwrap();
        let not_text = read_text(&path, 4).unwrap_err().to_string();
        assert_eq!(not_text, format!("{name} can't be read: it is not UTF-8 text"));
        std::fs::remove_file(&path).unwrap();
        assert!(told(4).starts_with(&format!("{name} can't be read: No such file")), "{}", told(4));
    }
}
