//! The files of an app's log: one JSON object on each line, two files of 1 MiB at most, of which the
//! older goes when the newer is full. Best effort: they are outside every transaction, never synced,
//! and a disk that refuses them stops no app.

use std::fs::{self, File, OpenOptions};
use std::io::{self, Write as _};
use std::path::{Path, PathBuf};

use super::app_log::KeptLine;

/// The most bytes of one of the two files.
const MOST: u64 = 1 << 20;

/// The newer of the two files, open for appending.
#[derive(Debug)]
pub struct LogFile {
    path: PathBuf,
    file: File,
    bytes: u64,
}

fn older(path: &Path) -> PathBuf {
    path.with_extension("1.ndjson")
}

/// Where the log of this name is.
pub fn path(folder: &Path, name: &str) -> PathBuf {
    folder.join(name).with_extension("ndjson")
}

/// Removes a log: its installation is gone.
pub fn remove(path: &Path) {
    for file in [path.to_owned(), older(path)] {
        match fs::remove_file(&file) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => {
                tracing::warn!(file = %file.display(), %error, "an app's log could not be removed");
            }
            _ => {}
        }
    }
}

impl LogFile {
    /// Opens a log, and gives the lines that it has. A line that was cut off by a crash is left out.
    pub fn open(path: &Path) -> io::Result<(Self, Vec<KeptLine>)> {
        let mut lines = Vec::new();
        for file in [older(path), path.to_owned()] {
            match fs::read(&file) {
                Ok(bytes) => {
                    let each = bytes.split(|byte| *byte == b'\n');
                    lines.extend(each.filter_map(|line| serde_json::from_slice::<KeptLine>(line).ok()));
                }
                Err(error) if error.kind() == io::ErrorKind::NotFound => {}
                Err(error) => return Err(error),
            }
        }
        let mut file = OpenOptions::new().append(true).create(true).open(path)?;
        // Ends a line that was cut off.
        file.write_all(b"\n")?;
        let bytes = file.metadata()?.len();
        Ok((Self { path: path.to_owned(), file, bytes }, lines))
    }

    /// Appends a line, and begins the other file where this one is full.
    pub fn write(&mut self, line: &KeptLine) -> io::Result<()> {
        let mut text = serde_json::to_vec(line)?;
        text.push(b'\n');
        if self.bytes + text.len() as u64 > MOST {
            fs::rename(&self.path, older(&self.path))?;
            self.file = OpenOptions::new().append(true).create(true).open(&self.path)?;
            self.bytes = 0;
        }
        self.file.write_all(&text)?;
        self.bytes += text.len() as u64;
        Ok(())
    }
}
