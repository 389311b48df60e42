//! Folders whose names outlive a loss of power, and files that are read from the disk itself.

use std::fs::File;
use std::io;
use std::path::Path;

/// Makes a folder where it is missing, with those above it, and syncs whatever holds the names of these.
///
/// The folder right above is synced even where nothing was made: an earlier process may have died between
/// making the folder and syncing its name.
pub fn make(folder: &Path) -> io::Result<()> {
    let missing = folder.ancestors().take_while(|ancestor| !is_there(ancestor)).count();
    std::fs::create_dir_all(folder)?;
    for made in folder.ancestors().take(missing) {
        sync(parent(made))?;
    }
    match sync(parent(folder)) {
        // Whoever made the folder for us may keep what is above it to himself.
        Err(error) if missing == 0 && error.kind() == io::ErrorKind::PermissionDenied => Ok(()),
        synced => synced,
    }
}

/// Makes the names in a folder durable.
pub fn sync(folder: &Path) -> io::Result<()> {
    File::open(folder)?.sync_all()
}

/// Drops from memory what the system takes for written of the files in a folder, so that they are read from
/// the disk. After a failed sync Linux calls pages written that are in memory only; what was written and
/// not yet synced stays.
pub(crate) fn forget_cached(folder: &Path) -> io::Result<()> {
    for entry in std::fs::read_dir(folder)? {
        let entry = entry?;
        if entry.file_type()?.is_file() {
            let file = File::open(entry.path())?;
            rustix::fs::fadvise(&file, 0, None, rustix::fs::Advice::DontNeed)?;
        }
    }
    Ok(())
}

fn is_there(folder: &Path) -> bool {
    folder.as_os_str().is_empty() || folder.exists()
}

fn parent(folder: &Path) -> &Path {
    match folder.parent() {
        Some(parent) if !parent.as_os_str().is_empty() => parent,
        Some(_) => Path::new("."),
        None => folder,
    }
}
