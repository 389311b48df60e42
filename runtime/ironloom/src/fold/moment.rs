//! The data folder as of one moment, for a copy: as a loss of power at that moment would have left it, which every start
//! knows how to open. What comes later isn't in it.
//!
//! The moment: first the store as of now, then the log from that store's fold position through the last record that
//! is flushed. Whatever the store has folded, or is ahead of, is in that log or before it; but for copies, of which no record
//! has the keys: whoever takes a moment lets none become whole meanwhile. Until both are written,
//! the store's snapshot and the log's segments are held. Block files only grow, and those that retention removes meanwhile are
//! held open, as packages are.

use std::collections::BTreeMap;
use std::collections::btree_map::Entry;
use std::fs::File;
use std::io::{self, Read, Write};

use super::FoldPosition;
use super::stored::decode;
use crate::backup::{BackupError, FORMAT, Head, Sizes, Writer};
use ironloom_storage::journal::{BlockFiles, BlockIndex, FileError, HeldFile, StoredBlock, block_file};
use ironloom_storage::log::{Image, LogError, LogReader};
use ironloom_storage::store::{self, EngineKind, Files, Key, KeyKind, KeyRange, Snapshot, Storage};
use ironloom_types::clock::host_time;
use ironloom_types::page::pages;

/// Keys of the store that are read at once.
const KEYS: usize = 1_000;
/// The bytes of a file that are read at once.
const READ: usize = 1 << 20;
/// Attempts at a moment: a checkpoint may free the log's beginning between two looks.
const ATTEMPTS: usize = 10;
/// Packages of a copy: each file is held open from the moment on.
const MAX_PACKAGES: usize = 4_096;
/// Block files of a copy, which are held open as well: 1 TiB.
const MAX_BLOCK_FILES: usize = 16_384;

/// The reason why there is no copy.
#[derive(Debug, thiserror::Error)]
pub(crate) enum MomentError {
    #[error(transparent)]
    Archive(#[from] BackupError),
    #[error(transparent)]
    Log(#[from] LogError),
    #[error(transparent)]
    Store(#[from] store::StoreError),
    #[error("the store's {key} can't be read: {problem}")]
    Value { key: String, problem: String },
    #[error("the package files can't be read: {0}")]
    Packages(io::Error),
    #[error(transparent)]
    Blocks(#[from] FileError),
    #[error("a block file of the journal is missing: see /readyz and `ironloom store check`")]
    BlocksGone,
    #[error(
        "the journal has more than {MAX_BLOCK_FILES} files; let `journal.max_age` or `journal.max_bytes` delete the oldest readings"
    )]
    TooManyBlocks,
    #[error("there are more than {MAX_PACKAGES} packages; delete those that nothing uses")]
    TooManyPackages,
    /// Whoever wants it can't go on with it.
    #[error("{0}")]
    Stopped(String),
}

/// The parts of a data folder.
pub(crate) struct Sources<'s> {
    pub storage: &'s dyn Storage,
    pub log: &'s LogReader,
    pub files: &'s BlockFiles,
    pub packages: &'s Files,
    pub engine: EngineKind,
    /// Bytes of the store's files.
    pub store_bytes: u64,
}

/// Whoever wants a copy.
pub(crate) trait Wanted {
    /// Fails with the reason why it can't be gone on with.
    fn is_wanted(&self) -> Result<(), MomentError>;

    /// From now on neither log nor store is held.
    fn have_let_go(&self);
}

/// Everything that a copy has, as of one moment.
pub(crate) struct Moment<'s> {
    pub head: Head,
    snapshot: Box<dyn Snapshot + 's>,
    image: Image,
    packages: BTreeMap<String, File>,
    /// The block files, and how far they are in use.
    blocks: HeldFiles,
}

impl<'s> Moment<'s> {
    pub(crate) fn take(sources: &Sources<'s>) -> Result<Self, MomentError> {
        let mut attempt = 0;
        loop {
            attempt += 1;
            // A package that is removed later than this is read all the same; one that comes before the moment is
            // found by the second look.
            let mut packages = BTreeMap::new();
            open_packages(sources.packages, &mut packages)?;
            // Not while a snapshot of an engine without snapshots is held: that has the epoch's lock.
            let epoch = sources.storage.epoch();
            let snapshot = sources.storage.snapshot()?;
            let fold = fold_position(&*snapshot)?;
            let image = match sources.log.image(fold.position.next()) {
                Err(LogError::Freed { .. }) if attempt < ATTEMPTS => continue,
                image => image?,
            };
            open_packages(sources.packages, &mut packages)?;
            let held = hold_blocks(sources.files, used_blocks(&*snapshot, &fold)?)?;
            let Some(blocks) = held else {
                if attempt < ATTEMPTS { continue } else { return Err(MomentError::BlocksGone) }
            };
            let mut bytes_of_packages = 0;
            for file in packages.values() {
                bytes_of_packages += file.metadata().map_err(MomentError::Packages)?.len();
            }
            let head = Head {
                format: FORMAT,
                store_format: store::FORMAT,
                version: env!("CARGO_PKG_VERSION").to_owned(),
                made: host_time(),
                engine: sources.engine.name().to_owned(),
                through: image.through().0,
                folded: fold.position.0,
                epoch: epoch.0,
                bytes: Sizes {
                    log: image.files().map(|(_, end)| end).sum(),
                    store: sources.store_bytes,
                    packages: bytes_of_packages,
                    journal: blocks.values().map(|(_, end)| end).sum(),
                },
            };
            return Ok(Self { head, snapshot, image, packages, blocks });
        }
    }

    /// Writes all of it. Before each piece `still` says if it is wanted.
    pub(crate) fn write<W: Write>(
        self,
        writer: &mut Writer<W>,
        still: &dyn Wanted,
    ) -> Result<(), MomentError> {
        let Self { snapshot, image, packages, blocks, .. } = self;
        for (place, (name, end)) in image.files().enumerate() {
            still.is_wanted()?;
            let read = |into: &mut [u8], at| {
                still.is_wanted().map_err(io::Error::other)?;
                image.read(place, at, into).map_err(io::Error::other)
            };
            writer.segment(name, end, Pieces::new(end, read))?;
        }
        let page = |after: Option<&Key>| {
            still.is_wanted()?;
            Ok::<_, MomentError>(snapshot.scan(&KeyRange::everything(), after, KEYS)?)
        };
        for page in pages(page) {
            for (key, value) in page? {
                writer.key(&key, &value)?;
            }
        }
        writer.end_keys()?;
        drop((snapshot, image));
        still.have_let_go();
        for (name, file) in packages {
            still.is_wanted()?;
            let bytes = file.metadata().map_err(MomentError::Packages)?.len();
            writer.package(&name, bytes, file)?;
        }
        for (number, (file, end)) in blocks {
            still.is_wanted()?;
            let read = |into: &mut [u8], at| {
                still.is_wanted().map_err(io::Error::other)?;
                file.read(into, at).map_err(io::Error::other)
            };
            writer.blocks(&block_file(number), end, Pieces::new(end, read))?;
        }
        Ok(())
    }
}

/// Opens the package files that aren't open yet.
fn open_packages(files: &Files, open: &mut BTreeMap<String, File>) -> Result<(), MomentError> {
    let names = files.names().map_err(|error| MomentError::Packages(io::Error::other(error)))?;
    for name in names {
        if open.len() >= MAX_PACKAGES {
            return Err(MomentError::TooManyPackages);
        }
        let Entry::Vacant(place) = open.entry(name) else { continue };
        match File::open(files.path(place.key())) {
            Ok(file) => drop(place.insert(file)),
            // Removed since, and so was its record.
            Err(error) if error.kind() == io::ErrorKind::NotFound => {}
            Err(error) => return Err(MomentError::Packages(error)),
        }
    }
    Ok(())
}

fn fold_position(snapshot: &dyn Snapshot) -> Result<FoldPosition, MomentError> {
    let key = Key::folded();
    let found = snapshot.scan(&KeyRange::beginning_with(&key), None, 1)?;
    let Some((_, value)) = found.entries.first() else { return Ok(FoldPosition::default()) };
    decode(value).map_err(|error| MomentError::Value { key: key.to_string(), problem: error.to_string() })
}

/// The block files that the store knows as of its fold position, and how far each is in use. Blocks before a hole are on
/// their way out: a start drops them.
fn used_blocks(snapshot: &dyn Snapshot, fold: &FoldPosition) -> Result<BTreeMap<u32, u64>, MomentError> {
    let range = KeyRange::all(KeyKind::Block);
    let mut blocks = BlockIndex::default();
    for page in pages(|after| snapshot.scan(&range, after, KEYS)) {
        for (key, value) in page? {
            let bad = |problem: String| MomentError::Value { key: key.to_string(), problem };
            let block = StoredBlock::decode(&value).map_err(|error| bad(error.to_string()))?;
            if block.checkpoint > fold.position {
                continue;
            }
            if blocks.push(block.tenant, block.stream, block.entry).is_err() {
                blocks.begin_again(block.tenant, block.stream, block.entry);
            }
        }
    }
    Ok(blocks.used_files())
}

/// Block files that are held open, by number, and how far each is in use.
type HeldFiles = BTreeMap<u32, (HeldFile, u64)>;

/// Holds the block files open; `None` where one was removed meanwhile, since its readings are past their retention.
fn hold_blocks(files: &BlockFiles, used: BTreeMap<u32, u64>) -> Result<Option<HeldFiles>, MomentError> {
    if used.len() > MAX_BLOCK_FILES {
        return Err(MomentError::TooManyBlocks);
    }
    let mut held = BTreeMap::new();
    for (number, end) in used {
        match files.hold(number) {
            Ok(file) => drop(held.insert(number, (file, end))),
            Err(FileError::Missing { .. }) => return Ok(None),
            Err(error) => return Err(error.into()),
        }
    }
    Ok(Some(held))
}

/// Reads a file piece by piece.
struct Pieces<R> {
    read: R,
    at: u64,
    end: u64,
    piece: Vec<u8>,
    taken: usize,
}

impl<R: FnMut(&mut [u8], u64) -> io::Result<()>> Pieces<R> {
    fn new(end: u64, read: R) -> Self {
        Self { read, at: 0, end, piece: Vec::new(), taken: 0 }
    }
}

impl<R: FnMut(&mut [u8], u64) -> io::Result<()>> Read for Pieces<R> {
    fn read(&mut self, into: &mut [u8]) -> io::Result<usize> {
        if self.taken == self.piece.len() {
            let next = (self.end - self.at).min(READ as u64) as usize;
            self.piece.resize(next, 0);
            (self.read)(&mut self.piece, self.at)?;
            self.at += next as u64;
            self.taken = 0;
        }
        let length = into.len().min(self.piece.len() - self.taken);
        into[..length].copy_from_slice(&self.piece[self.taken..self.taken + length]);
        self.taken += length;
        Ok(length)
    }
}
