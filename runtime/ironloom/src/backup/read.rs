//! Reads a backup, and holds each part of it against its digest.
//!
//! Anybody may have written it. So only regular entries of the tar are taken, and what one claims is held against a bound
//! before any of it is read: the crate `tar` would take names and headers of any length into memory, and read sparse files
//! as the zeros that they only claim.

use std::cell::Cell;
use std::io::{self, BufReader, Read};

use bytes::Bytes;
use lz4_flex::frame::FrameDecoder;

use super::bounds::Bounds;
use super::hashed::Hashed;
use super::{
    BackupError, FAILED, FORMAT, HEAD, Head, JOURNAL, LOG, MAX_ENTRIES, PACKAGES, PARTS, Part, STORE,
};
use ironloom_storage::journal::is_block_file;
use ironloom_storage::log::is_segment;
use ironloom_storage::store;

/// Takes the parts of a backup as they come. What it has taken counts only once all of it was read: the digests come
/// last.
pub(crate) trait Sink {
    /// The first that comes.
    fn head(&mut self, head: &Head) -> Result<(), BackupError>;
    /// A segment of the log.
    fn segment(&mut self, name: &str, bytes: u64, from: &mut dyn Read) -> Result<(), BackupError>;
    /// A key of the store with its value.
    fn key(&mut self, key: &[u8], value: Bytes) -> Result<(), BackupError>;
    /// A package's file.
    fn package(&mut self, name: &str, bytes: u64, from: &mut dyn Read) -> Result<(), BackupError>;
    /// A block file.
    fn blocks(&mut self, name: &str, bytes: u64, from: &mut dyn Read) -> Result<(), BackupError>;
}

/// The first bytes of what lz4 has compressed.
const MAGIC: [u8; 4] = [0x04, 0x22, 0x4d, 0x18];

/// Bytes behind the first block of zeros that ends the tar: the second, and what a program may have made the file longer
/// by, 20 blocks in all.
const MAX_REST: u64 = 20 * 512;

/// Looks at a backup and keeps nothing of it.
#[derive(Debug, Default)]
pub(crate) struct Check {
    pub head: Option<Head>,
    pub keys: u64,
    pub packages: u64,
}

impl Sink for Check {
    fn head(&mut self, head: &Head) -> Result<(), BackupError> {
        self.head = Some(head.clone());
        Ok(())
    }

    fn segment(&mut self, _: &str, _: u64, from: &mut dyn Read) -> Result<(), BackupError> {
        pass(from)
    }

    fn key(&mut self, _: &[u8], _: Bytes) -> Result<(), BackupError> {
        self.keys += 1;
        Ok(())
    }

    fn package(&mut self, _: &str, _: u64, from: &mut dyn Read) -> Result<(), BackupError> {
        self.packages += 1;
        pass(from)
    }

    fn blocks(&mut self, _: &str, _: u64, from: &mut dyn Read) -> Result<(), BackupError> {
        pass(from)
    }
}

fn pass(from: &mut dyn Read) -> Result<(), BackupError> {
    io::copy(from, &mut io::sink()).map_err(not_read)?;
    Ok(())
}

/// Reads the whole of a backup.
///
/// # Errors
/// Unless it is whole and every part has its digest.
pub(crate) fn read(mut from: impl Read, sink: &mut dyn Sink) -> Result<(), BackupError> {
    let mut magic = [0; MAGIC.len()];
    from.read_exact(&mut magic).map_err(not_read)?;
    if magic != MAGIC {
        return Err(BackupError::NotOne);
    }
    let at_end = Cell::new(false);
    let from = Noting { from: magic.chain(from), at_end: &at_end };
    let mut archive = tar::Archive::new(BufReader::with_capacity(1 << 20, FrameDecoder::new(from)));
    let mut found: Vec<Part> = Vec::new();
    let mut ended = false;
    let mut bounds = Bounds::default();
    for entry in archive.entries().map_err(not_read)?.raw(true) {
        let entry = entry.map_err(not_read)?;
        let (name, bytes) = (name_of(&entry)?, entry.size());
        if ended {
            return Err(BackupError::damaged(format!("{name:?} comes behind its end")));
        }
        if found.len() >= MAX_ENTRIES {
            return Err(BackupError::damaged(format!("it has more than {MAX_ENTRIES} parts")));
        }
        let place = place(&name, found.is_empty())?;
        bounds.take(&name, &place, bytes)?;
        let mut entry = Hashed::new(entry);
        match place {
            Place::Head => {
                let head = head(&whole(&mut entry)?)?;
                bounds = Bounds::of(&head);
                sink.head(&head)?;
            }
            Place::Parts => {
                let told: Vec<Part> = parse(PARTS, &whole(&mut entry)?)?;
                compare(&told, &found)?;
                ended = true;
                continue;
            }
            Place::Failed => {
                let reason = whole(&mut entry)?;
                return Err(BackupError::Failed(String::from_utf8_lossy(&reason).into_owned()));
            }
            Place::Log(segment) => sink.segment(segment, bytes, &mut entry)?,
            Place::Store => keys(&name, &whole(&mut entry)?, sink)?,
            Place::Packages(package) => sink.package(package, bytes, &mut entry)?,
            Place::Journal(file) => sink.blocks(file, bytes, &mut entry)?,
        }
        // Whoever took less than all of it has not seen what it is.
        io::copy(&mut entry, &mut io::sink()).map_err(not_read)?;
        let (read, sha256) = entry.finish();
        if read != bytes {
            return Err(BackupError::damaged(format!("{name} ends after {read} of {bytes} bytes")));
        }
        found.push(Part { name, bytes, sha256 });
    }
    if !ended {
        return Err(BackupError::damaged("it was cut off: its end is missing"));
    }
    to_the_end(archive.into_inner(), &at_end)
}

/// The name of an entry, which must be a regular file.
fn name_of(entry: &tar::Entry<'_, impl Read>) -> Result<String, BackupError> {
    // From the header alone, so of 256 bytes at most.
    let name = String::from_utf8_lossy(&entry.path_bytes()).into_owned();
    let kind = entry.header().entry_type();
    if kind.is_file() {
        return Ok(name);
    }
    let problem = format!("{name:?} is an entry of the type {kind:?}, and a backup has regular files only");
    Err(BackupError::damaged(problem))
}

/// Reads on to the checksum of the compressed stream. The decoder takes a stream without it for one that has ended.
fn to_the_end(rest: impl Read, at_end: &Cell<bool>) -> Result<(), BackupError> {
    if io::copy(&mut rest.take(MAX_REST + 1), &mut io::sink()).map_err(not_read)? > MAX_REST {
        return Err(BackupError::damaged("there are bytes behind its end"));
    }
    if at_end.get() {
        return Err(BackupError::damaged("it was cut off: its checksum is missing"));
    }
    Ok(())
}

/// Notes whether somebody has asked for more than there is.
struct Noting<'n, R> {
    from: R,
    at_end: &'n Cell<bool>,
}

impl<R: Read> Read for Noting<'_, R> {
    fn read(&mut self, to: &mut [u8]) -> io::Result<usize> {
        let read = self.from.read(to)?;
        self.at_end.set(self.at_end.get() || (read == 0 && !to.is_empty()));
        Ok(read)
    }
}

pub(super) fn not_read(error: io::Error) -> BackupError {
    match error.kind() {
        // What the decoder and the archive say of bytes that they can't read.
        io::ErrorKind::InvalidData | io::ErrorKind::UnexpectedEof | io::ErrorKind::Other => {
            BackupError::damaged(error.to_string())
        }
        _ => BackupError::Io(error),
    }
}

/// An entry by its name, and the name of the file that it is to be.
pub(super) enum Place<'n> {
    Head,
    Log(&'n str),
    Store,
    Packages(&'n str),
    Journal(&'n str),
    Parts,
    Failed,
}

fn place(name: &str, is_first: bool) -> Result<Place<'_>, BackupError> {
    let is_digest = |name: &str| name.len() == 64 && name.bytes().all(|byte| byte.is_ascii_hexdigit());
    match name {
        HEAD if is_first => return Ok(Place::Head),
        _ if is_first => {
            return Err(BackupError::damaged(format!("it begins with {name:?}, not with {HEAD}")));
        }
        PARTS => return Ok(Place::Parts),
        FAILED => return Ok(Place::Failed),
        _ => {}
    }
    if let Some(segment) = name.strip_prefix(LOG).filter(|segment| is_segment(segment)) {
        Ok(Place::Log(segment))
    } else if name.starts_with(STORE) {
        Ok(Place::Store)
    } else if let Some(package) = name.strip_prefix(PACKAGES).filter(|package| is_digest(package)) {
        Ok(Place::Packages(package))
    } else if let Some(file) = name.strip_prefix(JOURNAL).filter(|file| is_block_file(file)) {
        Ok(Place::Journal(file))
    } else {
        Err(BackupError::damaged(format!("{name:?} is no part of a backup")))
    }
}

/// The keys of an entry of the store. Its bytes are held against their digest before the keys count.
fn keys(name: &str, bytes: &[u8], sink: &mut dyn Sink) -> Result<(), BackupError> {
    let damaged = || BackupError::damaged(format!("{name} doesn't have whole keys and values"));
    let mut rest = bytes;
    while !rest.is_empty() {
        let (key_length, after) = rest.split_first_chunk::<2>().ok_or_else(damaged)?;
        let (value_length, after) = after.split_first_chunk::<4>().ok_or_else(damaged)?;
        let key_length = usize::from(u16::from_le_bytes(*key_length));
        let value_length = u32::from_le_bytes(*value_length) as usize;
        let (key, after) = after.split_at_checked(key_length).ok_or_else(damaged)?;
        let (value, after) = after.split_at_checked(value_length).ok_or_else(damaged)?;
        sink.key(key, Bytes::copy_from_slice(value))?;
        rest = after;
    }
    Ok(())
}

fn head(bytes: &[u8]) -> Result<Head, BackupError> {
    /// The fields that every format has.
    #[derive(serde::Deserialize)]
    struct Formats {
        format: u32,
        #[serde(default)]
        version: String,
    }
    let Formats { format, version } = parse(HEAD, bytes)?;
    if format != FORMAT {
        return Err(BackupError::OtherFormat { what: "format", found: format, known: FORMAT, version });
    }
    let head: Head = parse(HEAD, bytes)?;
    if head.store_format != store::FORMAT {
        let (found, known) = (head.store_format, store::FORMAT);
        return Err(BackupError::OtherFormat { what: "a store of format", found, known, version });
    }
    Ok(head)
}

fn parse<T: serde::de::DeserializeOwned>(name: &str, bytes: &[u8]) -> Result<T, BackupError> {
    serde_json::from_slice(bytes)
        .map_err(|error| BackupError::damaged(format!("{name} can't be read: {error}")))
}

/// All of an entry, whose bytes were held against their bound.
fn whole(from: &mut dyn Read) -> Result<Vec<u8>, BackupError> {
    let mut all = Vec::new();
    from.read_to_end(&mut all).map_err(not_read)?;
    Ok(all)
}

fn compare(told: &[Part], found: &[Part]) -> Result<(), BackupError> {
    if let Some((told, _)) = told.iter().zip(found).find(|(told, found)| told != found) {
        return Err(BackupError::damaged(format!("{} isn't as it was written", told.name)));
    }
    if told.len() == found.len() {
        return Ok(());
    }
    Err(BackupError::damaged(format!("it has {} parts and should have {}", found.len(), told.len())))
}
