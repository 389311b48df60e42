//! The files of an app's folder: whether one has changed.
//!
//! They are looked at in turn and not watched by the kernel: an app has some dozens of them, and this also works for folders
//! that are mounted from elsewhere.

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};
use std::time::SystemTime;

/// Folders and files that builds write, or that hold other people's packages.
const PASSED_OVER: [&str; 4] = ["target", "node_modules", "__pycache__", "Cargo.lock"];
/// The most files that are looked at.
const MAX_FILES: usize = 20_000;

/// A file's time of change and size.
type Mark = (Option<SystemTime>, u64);
type Marks = BTreeMap<PathBuf, Mark>;

/// An app's folder.
#[derive(Debug)]
pub(super) struct Watched {
    folder: PathBuf,
    known: Marks,
    /// The marks of the last look, where they differ from the known ones: an editor may still be writing.
    changing: Option<Marks>,
}

impl Watched {
    pub(super) fn of(folder: &Path) -> anyhow::Result<Self> {
        Ok(Self { folder: folder.to_owned(), known: marks(folder)?, changing: None })
    }

    /// Says whether a file has changed, come or gone since the last such change, and all has been quiet since the last look.
    pub(super) fn has_changed(&mut self) -> anyhow::Result<bool> {
        let now = marks(&self.folder)?;
        if now == self.known {
            self.changing = None;
            return Ok(false);
        }
        if self.changing.as_ref() == Some(&now) {
            self.known = now;
            self.changing = None;
            return Ok(true);
        }
        self.changing = Some(now);
        Ok(false)
    }
}

fn marks(folder: &Path) -> anyhow::Result<Marks> {
    let mut found = Marks::new();
    let mut folders = vec![folder.to_owned()];
    while let Some(folder) = folders.pop() {
        // A folder or a file that goes meanwhile is a change, which the next look sees.
        let Ok(entries) = fs::read_dir(&folder) else { continue };
        for entry in entries.flatten() {
            let name = entry.file_name();
            let name = name.to_string_lossy();
            if name.starts_with('.') || PASSED_OVER.contains(&name.as_ref()) {
                continue;
            }
            let Ok(kind) = entry.file_type() else { continue };
            if kind.is_dir() {
                folders.push(entry.path());
            } else if let Ok(facts) = entry.metadata() {
                found.insert(entry.path(), (facts.modified().ok(), facts.len()));
            }
            if found.len() > MAX_FILES {
                anyhow::bail!("{} has more than {MAX_FILES} files: is it an app's folder?", folder.display());
            }
        }
    }
    Ok(found)
}
