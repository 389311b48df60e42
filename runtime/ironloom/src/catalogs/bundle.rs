//! A catalog in one file: roots, index, and some of its packages, as a tar with the paths that they have in a folder.

mod write;

use std::collections::BTreeMap;
use std::fs::File;
use std::os::unix::fs::FileExt as _;

pub(crate) use self::write::{BundleError, Wanted, write};
use super::{INDEX, PACKAGE_ENDING, PACKAGES};
use ironloom_apps::ustar::{BLOCK, read_header};
use ironloom_types::ids::Digest;

/// The most members of a bundle.
const MAX_MEMBERS: usize = 100_000;

/// A bundle that is open, with the places of its members.
#[derive(Debug)]
pub(crate) struct Bundle {
    file: File,
    /// The place where each begins, and its bytes.
    members: BTreeMap<String, (u64, u64)>,
}

impl Bundle {
    /// Reads the headers of a regular file that is open. Whoever wrote it may be a stranger: no header of it leads
    /// elsewhere, and each name is one that a catalog has.
    ///
    /// # Errors
    /// In words.
    pub(crate) fn open(file: File) -> Result<Self, String> {
        let length = file.metadata().map_err(|error| error.to_string())?.len();
        let mut members = BTreeMap::new();
        let mut at = 0;
        loop {
            let header = block(&file, at)?;
            at += BLOCK as u64;
            if header.iter().all(|byte| *byte == 0) {
                let is_end = at + BLOCK as u64 == length && block(&file, at)?.iter().all(|byte| *byte == 0);
                return if is_end {
                    Ok(Self { file, members })
                } else {
                    Err(format!("it doesn't end at byte {at}, as its end says"))
                };
            }
            let wrong = |problem: String| format!("the header at byte {} {problem}", at - BLOCK as u64);
            let (name, size) = read_header(&header).map_err(wrong)?;
            if !is_member(&name) {
                return Err(wrong(format!("names {name:?}, which no catalog has")));
            }
            let end = at.checked_add(size).and_then(|end| end.checked_next_multiple_of(BLOCK as u64));
            let Some(end) = end.filter(|end| *end <= length) else {
                return Err(format!("{name} is cut off: it has {size} bytes, and the file ends earlier"));
            };
            if members.len() == MAX_MEMBERS {
                return Err(format!("it has more than {MAX_MEMBERS} members"));
            }
            if members.insert(name.clone(), (at, size)).is_some() {
                return Err(format!("{name} comes twice"));
            }
            at = end;
        }
    }

    /// Reads a file of the catalog of at most so many bytes; `None` where there is none.
    ///
    /// # Errors
    /// In words.
    pub(crate) fn read(&self, path: &str, most: u64) -> Result<Option<Vec<u8>>, String> {
        let Some((at, size)) = self.members.get(path).copied() else { return Ok(None) };
        if size > most {
            return Err(format!("{path} has {size} bytes; at most {most} are taken"));
        }
        let length = usize::try_from(size).map_err(|error| error.to_string())?;
        let mut bytes = vec![0; length];
        self.file.read_exact_at(&mut bytes, at).map_err(|error| format!("{path}: {error}"))?;
        Ok(Some(bytes))
    }
}

fn block(file: &File, at: u64) -> Result<[u8; BLOCK], String> {
    let mut block = [0; BLOCK];
    match file.read_exact_at(&mut block, at) {
        Ok(()) => Ok(block),
        Err(error) if error.kind() == std::io::ErrorKind::UnexpectedEof => {
            Err("it is no bundle (a tar in the format ustar), or cut off".to_owned())
        }
        Err(error) => Err(error.to_string()),
    }
}

/// Returns whether a catalog has a file of this name.
fn is_member(name: &str) -> bool {
    if name == INDEX {
        return true;
    }
    match name.split_once('/') {
        Some(("root", rest)) => {
            let version = rest.strip_suffix(".json").and_then(|version| version.parse::<u64>().ok());
            version.is_some_and(|version| super::root_path(version) == name)
        }
        Some((PACKAGES, rest)) => rest
            .strip_suffix(PACKAGE_ENDING)
            .is_some_and(|hex| format!("sha256:{hex}").parse::<Digest>().is_ok()),
        _ => false,
    }
}

#[cfg(test)]
mod tests;
