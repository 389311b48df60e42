//! The files of an app's log: one JSON object on each line, two files of 1 MiB at most, of which the
//! older goes when the newer is full. Best effort: they are outside every transaction, never synced,
//! and a disk that refuses them stops no app.

use std::fs::{self, File, OpenOptions};
use std::io::{self, Read as _, Seek as _, SeekFrom, Write as _};
use std::path::{Path, PathBuf};

use ironloom_types::work::KeptLine;

/// The most bytes of one of the two files.
const MOST: u64 = 1 << 20;

/// The newer of the two files, open for appending.
#[derive(Debug)]
pub(crate) struct LogFile {
    path: PathBuf,
    file: File,
    bytes: u64,
}

fn older(path: &Path) -> PathBuf {
    path.with_extension("1.ndjson")
}

/// Returns the path of the log with this name.
pub(crate) fn path(folder: &Path, name: &str) -> PathBuf {
    folder.join(name).with_extension("ndjson")
}

/// Removes a log: its installation is gone.
pub(crate) fn remove(path: &Path) {
    for file in [path.to_owned(), older(path)] {
        match fs::remove_file(&file) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => {
                tracing::warn!(file = %file.display(), %error, "an app's log could not be removed");
            }
            _ => {}
        }
    }
}

/// Reads all lines of a log, oldest first. A line that was cut off by a crash is left out.
pub(crate) fn read(path: &Path) -> io::Result<Vec<KeptLine>> {
    let mut lines = Vec::new();
    for file in [older(path), path.to_owned()] {
        match fs::read(&file) {
            Ok(bytes) => lines.extend(parse(&bytes)),
            Err(error) if error.kind() == io::ErrorKind::NotFound => {}
            Err(error) => return Err(error),
        }
    }
    Ok(lines)
}

/// The number of the last line that a log has; 0 where there is none.
pub(crate) fn last_number(path: &Path) -> io::Result<u64> {
    for file in [path.to_owned(), older(path)] {
        let mut file = match File::open(&file) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => continue,
            opened => opened?,
        };
        // A line is far shorter than this, however much of its text JSON escapes.
        let tail = file.metadata()?.len().min(MOST / 4);
        file.seek(SeekFrom::End(-tail.cast_signed()))?;
        let mut bytes = Vec::new();
        file.read_to_end(&mut bytes)?;
        if let Some(last) = parse(&bytes).last() {
            return Ok(last.number);
        }
    }
    Ok(0)
}

fn parse(bytes: &[u8]) -> impl Iterator<Item = KeptLine> {
    bytes.split(|byte| *byte == b'\n').filter_map(|line| serde_json::from_slice(line).ok())
}

impl LogFile {
    /// Opens a log for appending.
    pub(crate) fn open(path: &Path) -> io::Result<Self> {
        let mut file = OpenOptions::new().append(true).read(true).create(true).open(path)?;
        let mut bytes = file.metadata()?.len();
        if bytes > 0 {
            file.seek(SeekFrom::End(-1))?;
            let mut last = [0];
            file.read_exact(&mut last)?;
            if last != *b"\n" {
                // A crash cut the last line off.
                file.write_all(b"\n")?;
                bytes += 1;
            }
        }
        Ok(Self { path: path.to_owned(), file, bytes })
    }

    /// The log that it belongs to.
    pub(crate) fn path(&self) -> &Path {
        &self.path
    }

    /// Appends a line, and begins the other file where this one is full.
    pub(crate) fn write(&mut self, line: &KeptLine) -> io::Result<()> {
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
