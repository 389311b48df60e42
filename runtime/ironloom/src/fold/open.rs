//! Opens the data folder: the store as of its fold position, plus one pass over the log.

mod load;
mod replay;

use std::collections::BTreeMap;
use std::path::Path;
use std::sync::Arc;

use self::load::Loader;
use super::apply::Applier;
use super::checkpoint::CheckpointError;
use super::durable::Listener;
use super::journal::Journal;
use super::requests::{Recent, Remembered};
use super::sealer::{Living, Numbers};
use super::stored::{encode, request_key};
use super::{FoldPosition, Shared};
use crate::records::BodyError;
use crate::telemetry::Metrics;
use ironloom_storage::failpoint;
use ironloom_storage::journal::{BlockFiles, BlockIndex, NotDense, StoredBlock};
use ironloom_storage::log::{self, Log, LogError, Recovered};
use ironloom_storage::store::{Applied, Change, Item, Key, KeyKind, Storage, StoreError};
use ironloom_storage::{Disk, Folder};
use ironloom_types::clock::{Clock, Source};
use ironloom_types::ids::{Epoch, Generation, LastSequences, PointPath, Sequence, StreamId, TenantId};

/// The reason why a data folder can't be opened.
#[derive(Debug, thiserror::Error)]
pub(crate) enum OpenError {
    #[error(transparent)]
    Log(#[from] LogError),
    #[error(transparent)]
    Store(#[from] StoreError),
    /// Blocks, or their files.
    #[error(transparent)]
    Checkpoint(#[from] CheckpointError),
    /// A file or folder.
    #[error("could not {what} {path}: {source}")]
    Io {
        /// The failed action.
        what: &'static str,
        path: String,
        /// The error of the operating system.
        source: std::io::Error,
    },
    /// A value that another version wrote, or that is damaged in spite of its checksum.
    #[error("the store's {key} can't be read: {problem}; restore the data folder from a copy")]
    Value { key: String, problem: String },
    /// The store knows of a reading behind the end of the log.
    #[error(
        "the log is damaged: it ends with reading {last}, and the store knows of reading {sequence} of point {point}. What was acknowledged is missing; restore the data folder from a copy"
    )]
    Ahead {
        /// The last reading of the log.
        last: Sequence,
        /// The reading that isn't there.
        sequence: Sequence,
        point: PointPath,
    },
    /// The store lacks something that its fold position says is there.
    #[error(
        "the store is not whole: its {what} {found}, its fold position says {expected}; \
         restore the data folder from a copy"
    )]
    NotWhole {
        /// What is held against the fold position.
        what: &'static str,
        found: u64,
        /// The expected number.
        expected: u64,
    },
    /// A record that this binary can't read.
    #[error("record {position} of the log: {error}")]
    Body { position: ironloom_types::ids::Position, error: BodyError },
}

/// The settings for opening a data folder.
#[derive(Clone, Debug)]
pub(crate) struct OpenConfig {
    pub log: log::Config,
    /// The source of journal time.
    pub clock: Source,
    /// The most Idempotency-Keys that are remembered.
    pub request_keys: usize,
    /// The size at which a block file gets no more blocks.
    pub block_file_bytes: u64,
}

/// An open data folder.
pub(crate) struct Opened {
    /// The state that everybody sees.
    pub shared: Arc<Shared>,
    /// Applies what comes.
    pub applier: Applier,
    /// The log, ready to be written.
    pub log: Log,
    /// The numbers that the committer continues from.
    pub numbers: Numbers,
    pub epoch: Epoch,
    /// The store's fold position.
    pub fold: FoldPosition,
    /// The last record.
    pub position: ironloom_types::ids::Position,
    /// The number of records after the fold position.
    pub replayed: u64,
}

/// The parts of a data folder to open, on whatever disks they are.
pub(crate) struct Disks {
    /// The segments of the log.
    pub log: Arc<dyn Disk>,
    /// The block files.
    pub journal: Arc<dyn Disk>,
    pub store: Arc<dyn Storage>,
}

impl Disks {
    /// Opens the disks of a data folder; missing folders of log and journal are created. Of one that goes with the
    /// process nothing is synced.
    pub(crate) fn of_folder(
        folder: &Path,
        store: Arc<dyn Storage>,
        throwaway: bool,
    ) -> Result<Self, OpenError> {
        let open = |name| -> Result<Arc<dyn Disk>, OpenError> {
            let path = folder.join(name);
            let opened = if throwaway { Folder::throwaway(&path) } else { Folder::open(&path) };
            let opened = opened.map_err(|source| OpenError::Io {
                what: "open",
                path: path.display().to_string(),
                source,
            });
            Ok(Arc::new(opened?))
        };
        Ok(Self { log: open("log")?, journal: open("journal")?, store })
    }
}

/// Opens log, journal and store as one. Waits for the disk throughout.
pub(crate) fn open(
    disks: Disks,
    config: &OpenConfig,
    metrics: Arc<Metrics>,
    listener: Arc<dyn Listener>,
) -> Result<Opened, OpenError> {
    let loader = Loader { storage: &*disks.store };
    let fold: FoldPosition = loader.value(&Key::folded())?.unwrap_or_default();
    let recovered = own(&disks, config, &fold)?;
    let epoch = recovered.epoch();
    let Blocks { blocks, stale, holes } = blocks(&loader, &fold)?;
    let mut used = blocks.used_files();
    // No file is touched before it is known that the log drops what lies before a hole.
    for (file, end) in holes.iter().flat_map(|hole| &hole.files) {
        used.entry(*file).and_modify(|known| *known = (*known).max(*end)).or_insert(*end);
    }
    let files =
        BlockFiles::open(disks.journal, &used, config.block_file_bytes).map_err(CheckpointError::from)?;
    let journal = Journal::new(Arc::new(files), blocks, recovered.reader(), fold.folded_through.clone());
    let clock = Arc::new(Clock::new(config.clock, fold.time));
    let shared = Shared::new(clock, journal, Arc::clone(&disks.store), &fold, metrics, listener);
    let shared = Arc::new(shared);
    // Blocks of a checkpoint that did not end: their keys go with the next one.
    shared.overlay.apply(stale.into_iter().map(|key| (key, None)));

    let mut applier = Applier::new(Arc::clone(&shared));
    let left_out = loader.lanes(&shared, &mut applier, &fold)?;
    let mut requests = loader.fill(&shared, &fold)?;
    let replayed = replay::replay(&recovered, &mut applier, &mut requests)?;
    for hole in holes {
        let tenant = hole.not_dense.tenant;
        if shared.journal.of(tenant).dropped_before() < hole.not_dense.found {
            return Err(CheckpointError::from(hole.not_dense).into());
        }
        shared.journal.note_emptied(hole.files.into_keys(), shared.applied());
    }
    check_latest(&shared)?;
    check_left_out(&shared, left_out)?;
    // Time goes on from the last record, under the host's clock as well.
    shared.clock.resume(replayed.time.unwrap_or(fold.time));
    applier.go_live();
    shared.abandon_begun();
    let numbers = numbers(&shared, requests, config.request_keys);
    let log = begin(recovered, &*disks.store, &fold)?;
    let position = fold.position.max(replayed.position);
    Ok(Opened { shared, applier, log, numbers, epoch, fold, position, replayed: replayed.records })
}

/// Brings the log back to its end and takes the store for this process. Before anything is folded: what was read
/// of the log is durable then.
fn own(disks: &Disks, config: &OpenConfig, fold: &FoldPosition) -> Result<Recovered, OpenError> {
    let identity = Loader { storage: &*disks.store }
        .bytes(&Key::log())?
        .map(|bytes| log::Identity::decode(&bytes).ok_or_else(|| bad(&Key::log(), &"it has another length")));
    let known = log::Known {
        fold: fold.position,
        witness: fold.witness,
        epoch: disks.store.epoch(),
        identity: identity.transpose()?,
    };
    let recovered = log::recover(Arc::clone(&disks.log), config.log.clone(), known)?;
    let own = vec![
        Change::set(Key::folded(), encode(fold)),
        Change::set(Key::log(), recovered.identity().encode()),
    ];
    apply(&*disks.store, own, recovered.epoch())?;
    failpoint("open-store-owned");
    Ok(recovered)
}

/// The blocks that the store knows as of the fold position.
struct Blocks {
    blocks: BlockIndex,
    /// The keys of those that a checkpoint has left which did not end.
    stale: Vec<Key>,
    /// Holes in front of them, one of each tenant at most: a checkpoint that did not end may have removed some of the blocks
    /// that a record in the log drops, and then the log says so.
    holes: Vec<Hole>,
}

struct Hole {
    not_dense: NotDense,
    /// The files that have blocks before it, and how far each is in use.
    files: BTreeMap<u32, u64>,
}

fn blocks(loader: &Loader<'_>, fold: &FoldPosition) -> Result<Blocks, OpenError> {
    let mut blocks = BlockIndex::default();
    let (mut stale, mut holes) = (Vec::new(), BTreeMap::new());
    loader.each(KeyKind::Block, |key, bytes| {
        let block = StoredBlock::decode(&bytes).map_err(|error| bad(&key, &error))?;
        if block.checkpoint > fold.position {
            stale.push(key);
        } else if let Err(not_dense) = blocks.push(block.tenant, block.stream, block.entry) {
            if not_dense.found < not_dense.expected {
                return Err(CheckpointError::from(not_dense).into());
            }
            let tenant = block.tenant;
            let before = blocks.begin_again(tenant, block.stream, block.entry);
            stale.extend(before.iter().map(|entry| Item::Block(tenant, entry.first_sequence).key()));
            let hole = holes
                .entry(tenant)
                .or_insert_with(|| Hole { not_dense: not_dense.clone(), files: BTreeMap::new() });
            hole.not_dense = not_dense;
            for location in before.iter().map(|entry| entry.location) {
                let end = hole.files.entry(location.file).or_default();
                *end = location.end().max(*end);
            }
        }
        Ok(())
    })?;
    // Before any file is touched: what the store has lost must not make the files be cut off to fit.
    let last = |tenant| blocks.span(tenant, StreamId::MAIN).map_or(Sequence(0), |(_, last)| last);
    let tenants = blocks.streams().map(|(tenant, _)| tenant);
    for tenant in tenants.chain(fold.folded_through.iter().map(|(tenant, _)| tenant)) {
        let (found, expected) = (last(tenant), fold.folded_through.of(tenant));
        if found != expected {
            let what = "journal's blocks end at reading";
            return Err(OpenError::NotWhole { what, found: found.0, expected: expected.0 });
        }
    }
    // What is still in use by others isn't a hole's alone.
    let used = blocks.used_files();
    let mut holes: Vec<Hole> = holes.into_values().collect();
    for hole in &mut holes {
        hole.files.retain(|file, _| !used.contains_key(file));
    }
    Ok(Blocks { blocks, stale, holes })
}

/// The numbers that the committer continues from.
fn numbers(shared: &Shared, requests: BTreeMap<[u8; 16], Remembered>, most: usize) -> Numbers {
    let mut live = Living::default();
    for lane in shared.lanes.all() {
        live.insert(lane.generation, lane.id.clone(), lane.book().meta());
    }
    let kept = {
        let removed = shared.removed.lock();
        let kept = removed.iter().filter(|(_, gone)| !gone.removed.purge);
        kept.map(|(generation, gone)| (*generation, gone.installation.clone())).collect()
    };
    let copies = shared.copies.all().into_iter();
    let copies = copies.map(|(generation, copy)| (generation, copy.installation)).collect();
    let (mut requests, forgotten) = Recent::restore(requests.into_iter().collect(), most);
    requests.leave_future(shared.clock.last());
    shared.overlay.apply(forgotten.into_iter().map(|key| (request_key(key), None)));
    Numbers {
        last_sequences: shared.journal.last_sequences(),
        points_given: shared.points.names().given(),
        points: shared.points.names().count(),
        requests,
        generations: shared.last_generations(),
        live,
        kept,
        copies,
        audit: shared.audit.heads(),
    }
}

/// Begins a segment, of which the store hears before there is any record in it.
fn begin(recovered: Recovered, store: &dyn Storage, fold: &FoldPosition) -> Result<Log, OpenError> {
    let epoch = recovered.epoch();
    let log = recovered.begin()?;
    apply(store, vec![Change::set(Key::log(), log.identity().encode())], epoch)?;
    // What was folded before needn't count as used: it may be all that there is room for.
    log.reader().free_through(fold.position)?;
    Ok(log)
}

/// Pages of latest values may be ahead of the fold position, but never of the log: a disk that said it had
/// written and had not would otherwise hide later readings behind ones that are gone.
fn check_latest(shared: &Shared) -> Result<(), OpenError> {
    let last = shared.journal.last_sequences();
    match shared.points.ahead_of(&last) {
        Some((point, sequence)) => Err(OpenError::Ahead { last: last.of(point.tenant()), sequence, point }),
        None => Ok(()),
    }
}

/// Of an installation a part may be missing in the store where a checkpoint that did not end had begun to remove it.
/// The log must have removed it then.
fn check_left_out(shared: &Shared, left_out: Vec<(Key, Generation)>) -> Result<(), OpenError> {
    let removed = shared.removed.lock();
    // One that was adopted since has begun with that.
    let is_known = |generation: &Generation| {
        removed.contains_key(generation) || shared.lanes.of_generation(*generation).is_some()
    };
    match left_out.into_iter().find(|(_, generation)| !is_known(generation)) {
        Some((key, _)) => Err(bad(&key, &"its lane, its revision or its package is missing")),
        None => Ok(()),
    }
}

/// Where each lane goes on as of the fold position: at the first reading that waited, else behind what was
/// routed. The records after it are routed to it like new ones.
struct Places {
    pending: BTreeMap<Generation, Sequence>,
    routed_through: LastSequences,
}

impl Places {
    fn of(fold: &FoldPosition) -> Self {
        Self { pending: fold.pending.iter().copied().collect(), routed_through: fold.folded_through.clone() }
    }

    fn behind(&self, tenant: TenantId, generation: Generation, cursor: Sequence) -> Sequence {
        match self.pending.get(&generation) {
            Some(first) => Sequence(first.0 - 1).max(cursor),
            None => self.routed_through.of(tenant).max(cursor),
        }
    }
}

fn apply(storage: &dyn Storage, changes: Vec<Change>, epoch: Epoch) -> Result<(), OpenError> {
    match storage.apply(changes, epoch)? {
        Applied::Done => Ok(()),
        Applied::Fenced => Err(CheckpointError::Fenced.into()),
    }
}

fn bad(key: &Key, problem: &dyn std::fmt::Display) -> OpenError {
    OpenError::Value { key: key.to_string(), problem: problem.to_string() }
}
