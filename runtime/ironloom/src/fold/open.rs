//! Opens the data folder: the store as of its fold position, plus one pass over the log.

mod load;

use std::collections::BTreeMap;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, AtomicUsize};

use parking_lot::{Mutex, RwLock};

use self::load::Loader;
use super::apply::{Applier, request_key, stored};
use super::checkpoint::CheckpointError;
use super::durable::{Durables, Listener};
use super::invocations::Invocations;
use super::journal::Journal;
use super::left_out::LeftOutPoints;
use super::overlay::Overlay;
use super::points::Points;
use super::requests::{Recent, Remembered};
use super::sealer::{Live, Numbers, Sealed};
use super::{FoldPosition, Shared};
use crate::records::readings::Idempotency;
use crate::records::{BodyError, admin, commit, readings};
use crate::telemetry::Metrics;
use ironloom_apps::routing::RoutingTable;
use ironloom_storage::Folder;
use ironloom_storage::failpoint;
use ironloom_storage::journal::{BlockFiles, BlockIndex, Chunk, StoredBlock};
use ironloom_storage::log::{self, Kind as RecordKind, Log, LogError, Record};
use ironloom_storage::store::{Applied, Change, Key, Kind, Storage, StoreError};
use ironloom_types::clock::{Clock, Source};
use ironloom_types::ids::{Epoch, Generation, PointPath, Sequence, StreamId, TenantId};

/// Why a data folder can't be opened.
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
        /// What was tried.
        what: &'static str,
        path: String,
        /// What the system said.
        source: std::io::Error,
    },
    /// A value that another version wrote, or that is damaged in spite of its checksum.
    #[error("the store's {key} can't be read: {problem}; restore the data folder from a copy")]
    Value {
        key: String,
        /// What is wrong with it.
        problem: String,
    },
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
        /// How many there are.
        found: u64,
        /// How many there should be.
        expected: u64,
    },
    /// A record that this binary can't read.
    #[error("record {position} of the log: {error}")]
    Body {
        position: ironloom_types::ids::Position,
        /// What is wrong with it.
        error: BodyError,
    },
}

/// Where things are and how large they may grow.
#[derive(Clone, Debug)]
pub(crate) struct OpenConfig {
    pub log: log::Config,
    /// Where journal time comes from.
    pub clock: Source,
    /// How many Idempotency-Keys are remembered at most.
    pub request_keys: usize,
}

/// An open data folder.
pub(crate) struct Opened {
    /// What everybody sees.
    pub shared: Arc<Shared>,
    /// Applies what comes.
    pub applier: Applier,
    /// The log, ready to be written.
    pub log: Log,
    /// What the committer goes on from.
    pub numbers: Numbers,
    pub epoch: Epoch,
    /// The store's fold position.
    pub fold: FoldPosition,
    /// The last record.
    pub position: ironloom_types::ids::Position,
    /// How many records came after the fold position.
    pub replayed: u64,
}

/// Opens the folder. Waits for the disk throughout.
pub(crate) fn open(
    folder: &Path,
    storage: Arc<dyn Storage>,
    config: &OpenConfig,
    metrics: Arc<Metrics>,
    listener: Arc<dyn Listener>,
) -> Result<Opened, OpenError> {
    let loader = Loader { storage: &*storage };
    let fold: FoldPosition = loader.value(&Key::folded())?.unwrap_or_default();
    let log_folder = folder.join("log");
    let disk = Arc::new(Folder::open(&log_folder).map_err(|source| io("open", &log_folder, source))?);
    let identity = loader
        .bytes(&Key::log())?
        .map(|bytes| log::Identity::decode(&bytes).ok_or_else(|| bad(&Key::log(), &"it has another length")));
    let known = log::Known { fold: fold.position, epoch: storage.epoch(), identity: identity.transpose()? };
    let recovered = log::recover(disk, config.log.clone(), known)?;
    let epoch = recovered.epoch();
    // Before anything is folded: what was read of the log is durable now, and this process owns the store.
    let own = vec![
        Change::set(Key::folded(), stored(&fold)),
        Change::set(Key::log(), recovered.identity().encode()),
    ];
    apply(&*storage, own, epoch)?;
    failpoint("open-store-owned");

    let mut blocks = BlockIndex::default();
    let mut stale = Vec::new();
    loader.each(Kind::Block, |key, bytes| {
        let block = StoredBlock::decode(&bytes).map_err(|error| bad(&key, &error))?;
        if block.checkpoint > fold.position {
            stale.push((key, None));
            return Ok(());
        }
        Ok(blocks.push(block.tenant, block.stream, block.entry).map_err(CheckpointError::from)?)
    })?;
    // Before any file is touched: what the store has lost must not make the files be cut off to fit.
    let last = blocks.span(TenantId::MAIN, StreamId::MAIN).map_or(Sequence(0), |(_, last)| last);
    if last != fold.folded_through {
        return Err(OpenError::NotWhole {
            what: "journal's blocks end at reading",
            found: last.0,
            expected: fold.folded_through.0,
        });
    }
    let journal_folder = folder.join("journal");
    let disk = Arc::new(Folder::open(&journal_folder).map_err(|source| io("open", &journal_folder, source))?);
    let files = BlockFiles::open(disk, &blocks.used_files()).map_err(CheckpointError::from)?;
    let clock = Arc::new(Clock::new(config.clock, fold.time));
    let shared = Arc::new(Shared {
        clock,
        points: Arc::new(Points::default()),
        journal: Journal::new(Arc::new(files), blocks, recovered.reader(), fold.folded_through),
        routing: RwLock::new(RoutingTable::new()),
        left_out: LeftOutPoints::default(),
        lanes: Durables::default(),
        listener,
        note_budget: Arc::default(),
        overlay: Overlay::new(Arc::clone(&storage)),
        invocations: Invocations::new(Arc::clone(&storage)),
        storage: Arc::clone(&storage),
        packages: RwLock::default(),
        receipts: RwLock::default(),
        removed: Mutex::default(),
        metrics,
        horizon: AtomicU64::new(fold.time.0),
        due: Mutex::default(),
        generation: AtomicU64::new(fold.generation.0),
        dirty: AtomicUsize::new(0),
        full: AtomicBool::new(false),
        disk_full: AtomicBool::new(false),
        stopping: AtomicBool::new(false),
    });
    // Blocks of a checkpoint that did not end: their keys go with the next one.
    shared.overlay.apply(stale);
    let mut applier = Applier::new(Arc::clone(&shared));
    let left_out = loader.lanes(&shared, &mut applier, &fold)?;
    let mut requests = loader.fill(&shared, &fold)?;

    let mut replayed = 0;
    let mut time = fold.time;
    let mut position = fold.position;
    for record in recovered.records()? {
        let record = record?;
        position = record.header.position;
        time = time.max(record.header.journal_time);
        let Some(sealed) = sealed(&record)? else { continue };
        if let Sealed::Readings { request: Some(Idempotency { key, request }), chunk, .. } = &sealed {
            let accepted = chunk.len() as u64;
            let through = Sequence(chunk.next_sequence().0 - 1);
            let remembered =
                Remembered { request: *request, time: record.header.journal_time, accepted, through };
            requests.insert(*key, remembered);
        }
        applier.apply(Some(record.at), record.header.journal_time, sealed);
        replayed += 1;
    }
    check_latest(&shared)?;
    // Time goes on from the last record, under the host's clock as well.
    shared.clock.resume(time);
    for (key, generation) in left_out {
        if !shared.removed.lock().contains_key(&generation) {
            return Err(bad(&key, &"its lane, its revision or its package is missing"));
        }
    }
    applier.go_live();
    let live = shared.lanes.all().into_iter();
    let live = live.map(|lane| (lane.generation, Live::new(lane.id.clone(), lane.book().meta())));
    let (requests, forgotten) = Recent::restore(requests.into_iter().collect(), config.request_keys);
    shared.overlay.apply(forgotten.into_iter().map(|key| (request_key(key), None)));
    let numbers = Numbers {
        last_sequence: shared.journal.last(),
        points_given: shared.points.names().given(),
        points: shared.points.names().count(),
        requests,
        generation: shared.last_generation(),
        live: live.collect(),
    };
    let log = recovered.begin()?;
    apply(&*storage, vec![Change::set(Key::log(), log.identity().encode())], epoch)?;
    // What was folded before needn't count as used: it may be all that there is room for.
    log.reader().free_through(fold.position)?;
    Ok(Opened { shared, applier, log, numbers, epoch, fold, position, replayed })
}

/// Pages of latest values may be ahead of the fold position, but never of the log: a disk that said it had
/// written and had not would otherwise hide later readings behind ones that are gone.
fn check_latest(shared: &Shared) -> Result<(), OpenError> {
    let last = shared.journal.last();
    let Some((number, sequence)) = shared.points.ahead_of(last) else { return Ok(()) };
    match shared.points.names().point(number) {
        Some(point) => Err(OpenError::Ahead { last, sequence, point: point.path.clone() }),
        // It was removed since, and nobody reads it.
        None => Ok(()),
    }
}

/// Where each lane goes on as of the fold position: at the first reading that waited, else behind what was
/// routed. The records after it are routed to it like new ones.
struct Places {
    pending: BTreeMap<Generation, Sequence>,
    routed_through: Sequence,
}

impl Places {
    fn of(fold: &FoldPosition) -> Self {
        Self { pending: fold.pending.iter().copied().collect(), routed_through: fold.routed_through }
    }

    fn behind(&self, generation: Generation, cursor: Sequence) -> Sequence {
        match self.pending.get(&generation) {
            Some(first) => Sequence(first.0 - 1).max(cursor),
            None => self.routed_through.max(cursor),
        }
    }
}

/// A record as the fold takes it; `None` for a mark.
fn sealed(record: &Record) -> Result<Option<Sealed>, OpenError> {
    let header = &record.header;
    let body = |error| OpenError::Body { position: header.position, error };
    let chunk = |columns, hops, origin| {
        Arc::new(Chunk::of_record(header.first_sequence, header.journal_time, hops, origin, columns))
    };
    Ok(Some(match header.kind {
        RecordKind::Mark => return Ok(None),
        RecordKind::Readings => {
            let read = readings::decode(header.version, &record.body).map_err(body)?;
            Sealed::Readings {
                new_points: read.new_points,
                chunk: chunk(read.columns, 0, Generation(0)),
                receipt: read.head.receipt,
                request: read.head.idempotency,
                forgotten: Vec::new(),
                reply: None,
            }
        }
        RecordKind::Commit => {
            let read = commit::decode(header.version, &record.body).map_err(body)?;
            let chunk = chunk(read.derived, read.head.hops, read.head.generation);
            Sealed::Commit {
                head: read.head,
                state: read.state,
                new_points: read.new_points,
                chunk,
                reply: None,
            }
        }
        RecordKind::Admin => {
            Sealed::Admin { record: admin::decode(header.version, &record.body).map_err(body)?, reply: None }
        }
    }))
}

fn apply(storage: &dyn Storage, changes: Vec<Change>, epoch: Epoch) -> Result<(), OpenError> {
    match storage.apply(changes, epoch)? {
        Applied::Done => Ok(()),
        Applied::Fenced => Err(CheckpointError::Fenced.into()),
    }
}

fn io(what: &'static str, path: &Path, source: std::io::Error) -> OpenError {
    OpenError::Io { what, path: path.display().to_string(), source }
}

fn bad(key: &Key, problem: &dyn std::fmt::Display) -> OpenError {
    OpenError::Value { key: key.to_string(), problem: problem.to_string() }
}
