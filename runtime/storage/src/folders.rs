//! Folders whose names survive a power failure, and files that are read from the disk itself.

use std::fs::{DirBuilder, File};
use std::io;
use std::os::unix::fs::{DirBuilderExt as _, MetadataExt as _, PermissionsExt as _};
use std::path::Path;

/// Makes a folder where it is missing, with those above it, and syncs whatever holds the names of these. What is
/// made is open to its owner alone: it holds what apps and machines keep to themselves.
///
/// The folder right above is synced even where nothing was made: an earlier process may have died between
/// making the folder and syncing its name.
pub fn make(folder: &Path) -> io::Result<()> {
    make_with(folder, sync)
}

fn make_with(folder: &Path, mut sync: impl FnMut(&Path) -> io::Result<()>) -> io::Result<()> {
    let missing = folder.ancestors().take_while(|ancestor| !is_there(ancestor)).count();
    DirBuilder::new().recursive(true).mode(0o700).create(folder)?;
    for made in folder.ancestors().take(missing) {
        sync(parent(made))?;
    }
    match sync(parent(folder)) {
        // The folder above may be unreadable for us.
        Err(error) if missing == 0 && error.kind() == io::ErrorKind::PermissionDenied => Ok(()),
        synced => synced,
    }
}

/// Whether users besides the owner and his group can look into a folder.
pub fn is_open_to_all(folder: &Path) -> io::Result<bool> {
    Ok(std::fs::metadata(folder)?.permissions().mode() & 0o007 != 0)
}

/// Makes the names in a folder durable.
pub fn sync(folder: &Path) -> io::Result<()> {
    File::open(folder)?.sync_all()
}

/// Syncs the files in a folder, and drops from memory what the system then takes for written of them, so that
/// they are read from the disk: after a failed sync Linux calls pages written that are in memory only.
///
/// What an earlier process wrote and didn't sync is on the disk from then on, before anything is made of it.
pub(crate) fn forget_cached(folder: &Path) -> io::Result<()> {
    for entry in std::fs::read_dir(folder)? {
        let entry = entry?;
        if entry.file_type()?.is_file() {
            let file = File::open(entry.path())?;
            file.sync_data()?;
            rustix::fs::fadvise(&file, 0, None, rustix::fs::Advice::DontNeed)?;
        }
    }
    Ok(())
}

/// The bytes that the files of a folder take on the disk, with those of the folders in it. Files that go meanwhile count
/// nothing.
pub fn bytes_below(folder: &Path) -> u64 {
    /// Bytes of a block, as the system counts them whatever the file system's own are.
    const BLOCK: u64 = 512;
    let Ok(entries) = std::fs::read_dir(folder) else { return 0 };
    let entries = entries.filter_map(Result::ok);
    let each = entries.filter_map(|entry| {
        let found = entry.metadata().ok()?;
        Some(if found.is_dir() { bytes_below(&entry.path()) } else { found.blocks() * BLOCK })
    });
    each.sum()
}

fn is_there(folder: &Path) -> bool {
    folder.as_os_str().is_empty() || folder.exists()
}

/// The folder that a file or folder is in, as it can be opened: `.` where the path has one name alone.
pub fn parent(path: &Path) -> &Path {
    match path.parent() {
        Some(parent) if !parent.as_os_str().is_empty() => parent,
        Some(_) => Path::new("."),
        None => path,
    }
}

#[cfg(test)]
pub(crate) mod testing {
    //! What the system has in memory.

    use std::io::IoSliceMut;

    use rustix::io::{Errno, ReadWriteFlags, preadv2};

    use super::*;

    /// On the disk where the project is built: what is in memory only has nothing to forget.
    pub(crate) fn folder_on_a_disk() -> tempfile::TempDir {
        let built = std::env::current_exe().unwrap();
        tempfile::tempdir_in(built.parent().unwrap()).unwrap()
    }

    /// Whether the system has the first page of a file in memory; `None` where it doesn't say.
    pub(crate) fn is_cached(file: &File) -> Option<bool> {
        let mut page = [0; 4096];
        match preadv2(file, &mut [IoSliceMut::new(&mut page)], 0, ReadWriteFlags::NOWAIT) {
            Ok(_) => Some(true),
            Err(Errno::AGAIN) => Some(false),
            Err(_) => None,
        }
    }

    /// Says that a test can't find out what is read from the disk.
    pub(crate) fn not_tested(what: &str) {
        ironloom_mutate::not_tested(what, "this file system doesn't say what is in memory");
    }
}

#[cfg(test)]
mod tests {
    use super::testing::{folder_on_a_disk, is_cached, not_tested};
    use super::*;

    #[test]
    fn what_counts_as_written_is_forgotten_so_that_it_is_read_from_the_disk() {
        let folder = folder_on_a_disk();
        let path = folder.path().join("db");
        std::fs::write(&path, [7; 1 << 20]).unwrap();
        let file = File::open(&path).unwrap();
        file.sync_all().unwrap();
        if is_cached(&file) != Some(true) {
            not_tested("files that the system forgets");
            return;
        }
        forget_cached(folder.path()).unwrap();
        assert_eq!(is_cached(&file), Some(false));
        assert_eq!(std::fs::read(&path).unwrap(), [7; 1 << 20]);
    }

    #[test]
    fn whatever_holds_the_name_of_a_folder_that_was_made_is_synced_after_it() {
        let parent = tempfile::tempdir().unwrap();
        let at = |name: &str| parent.path().join(name);
        let synced = |folder: &Path| {
            let mut synced = Vec::new();
            make_with(folder, |path| {
                assert!(folder.is_dir(), "it is made before");
                synced.push(path.to_owned());
                Ok(())
            })
            .unwrap();
            synced.sort();
            synced.dedup();
            synced
        };
        assert_eq!(synced(&at("a/b/c")), [parent.path().to_owned(), at("a"), at("a/b")]);
        assert_eq!(synced(&at("a/b/c")), [at("a/b")], "whoever made it may have died before the sync");
        assert_eq!(synced(&at("a/d")), [at("a")]);
        let failed = make_with(&at("e"), |_| Err(io::ErrorKind::Other.into()));
        assert!(failed.is_err(), "nobody relies on a name that may go");
    }

    #[test]
    fn folders_are_made_with_those_above_them() {
        let folder = tempfile::tempdir().unwrap();
        let deep = folder.path().join("a/b/c");
        make(&deep).unwrap();
        make(&deep).unwrap();
        assert!(deep.is_dir());
        assert!(!is_open_to_all(&deep).unwrap());
        std::fs::set_permissions(&deep, std::fs::Permissions::from_mode(0o755)).unwrap();
        assert!(is_open_to_all(&deep).unwrap());
        assert_eq!(parent(Path::new("a")), Path::new("."));
        assert_eq!(parent(Path::new("/")), Path::new("/"));
    }
}
