//! Opens the data folder: the store as of its fold position, plus one pass over the log.

use std::collections::{BTreeMap, HashSet};
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, AtomicUsize};

use bytes::Bytes;
use parking_lot::{Mutex, RwLock};
use serde::de::DeserializeOwned;

use super::apply::{Applier, request_key, stored};
use super::checkpoint::CheckpointError;
use super::durable::{AlarmKey, Begin, Durables, Listener};
use super::invocations::Invocations;
use super::journal::Journal;
use super::left_out::LeftOutPoints;
use super::overlay::Overlay;
use super::points::{Points, StoredPoint};
use super::requests::{Recent, Remembered};
use super::sealer::{Live, Numbers, Sealed};
use super::{FoldPosition, KnownPackage, Shared, StoredLane};
use crate::records::admin::PackageRecord;
use crate::records::commit::AlarmRecord;
use crate::records::installation::{Installation, Revision};
use crate::records::readings::Idempotency;
use crate::records::{BodyError, admin, commit, readings};
use crate::telemetry::Metrics;
use ironloom_apps::manifest::Manifest;
use ironloom_apps::routing::RoutingTable;
use ironloom_storage::Folder;
use ironloom_storage::failpoint;
use ironloom_storage::journal::{BlockFiles, BlockIndex, Chunk, StoredBlock};
use ironloom_storage::log::{self, Kind as RecordKind, Log, LogError, Record};
use ironloom_storage::store::{Applied, Change, Item, Key, Kind, Scope, StateCache, Storage, StoreError};
use ironloom_types::clock::{Clock, Source, Timestamp};
use ironloom_types::ids::{Epoch, Generation, PointPath, Sequence, StreamId, TenantId};
use ironloom_types::readings::NewPoint;

/// Keys of one page of a scan at start.
const PAGE: usize = 4_096;

/// Why a data folder can't be opened.
#[derive(Debug, thiserror::Error)]
pub enum OpenError {
    /// The log.
    #[error(transparent)]
    Log(#[from] LogError),
    /// The store.
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
        /// The path.
        path: String,
        /// What the system said.
        source: std::io::Error,
    },
    /// A value that another version wrote, or that is damaged in spite of its checksum.
    #[error("the store's {key} can't be read: {problem}; restore the data folder from a copy")]
    Value {
        /// The key.
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
        /// Its point.
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
        /// Its position.
        position: ironloom_types::ids::Position,
        /// What is wrong with it.
        error: BodyError,
    },
}

/// Where things are and how large they may grow.
#[derive(Clone, Debug)]
pub struct OpenConfig {
    /// The log.
    pub log: log::Config,
    /// Where journal time comes from.
    pub clock: Source,
    /// How many Idempotency-Keys are remembered at most.
    pub request_keys: usize,
}

/// An open data folder.
pub struct Opened {
    /// What everybody sees.
    pub shared: Arc<Shared>,
    /// Applies what comes.
    pub applier: Applier,
    /// The log, ready to be written.
    pub log: Log,
    /// What the committer goes on from.
    pub numbers: Numbers,
    /// This process.
    pub epoch: Epoch,
    /// The store's fold position.
    pub fold: FoldPosition,
    /// The last record.
    pub position: ironloom_types::ids::Position,
    /// How many records came after the fold position.
    pub replayed: u64,
}

/// Opens the folder. Waits for the disk throughout.
pub fn open(
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

/// Points share the texts of their units.
fn shared_unit(units: &mut HashSet<Arc<str>>, unit: String) -> Arc<str> {
    if let Some(known) = units.get(unit.as_str()) {
        return Arc::clone(known);
    }
    let unit: Arc<str> = unit.into();
    units.insert(Arc::clone(&unit));
    unit
}

struct Loader<'a> {
    storage: &'a dyn Storage,
}

impl Loader<'_> {
    fn bytes(&self, key: &Key) -> Result<Option<Bytes>, OpenError> {
        let found = self.storage.get_many(std::slice::from_ref(key))?;
        Ok(found.into_iter().next().flatten())
    }

    fn value<T: DeserializeOwned>(&self, key: &Key) -> Result<Option<T>, OpenError> {
        let Some(bytes) = self.bytes(key)? else { return Ok(None) };
        postcard::from_bytes(&bytes).map(Some).map_err(|error| bad(key, &error))
    }

    /// Shows `take` the entries of a kind in their order, with no more than a page of them in memory.
    fn each(
        &self,
        kind: Kind,
        mut take: impl FnMut(Key, Bytes) -> Result<(), OpenError>,
    ) -> Result<(), OpenError> {
        let range = Scope::MAIN.all(kind);
        let mut after: Option<Key> = None;
        loop {
            let page = self.storage.scan(&range, after.as_ref(), PAGE)?;
            after = page.entries.last().map(|(key, _)| key.clone());
            let more = page.more && after.is_some();
            for (key, value) in page.entries {
                take(key, value)?;
            }
            if !more {
                return Ok(());
            }
        }
    }

    fn each_decoded<T: DeserializeOwned>(
        &self,
        kind: Kind,
        mut take: impl FnMut(Key, T) -> Result<(), OpenError>,
    ) -> Result<(), OpenError> {
        self.each(kind, |key, bytes| match postcard::from_bytes(&bytes) {
            Ok(value) => take(key, value),
            Err(error) => Err(bad(&key, &error)),
        })
    }

    /// Brings receipts, points and latest values into memory, as of the fold position. Returns the requests.
    /// Lanes come before: each point is then matched once.
    fn fill(
        &self,
        shared: &Shared,
        fold: &FoldPosition,
    ) -> Result<BTreeMap<[u8; 16], Remembered>, OpenError> {
        let mut units = HashSet::new();
        self.each(Kind::Receipt, |key, note| {
            if let Some((_, Item::Receipt(connector))) = key.parse() {
                shared.receipts.write().insert(connector.into(), note);
            }
            Ok(())
        })?;
        self.each_decoded(Kind::Point, |key, stored: StoredPoint| {
            let Some((_, Item::Point(number))) = key.parse() else { return Ok(()) };
            if number.0 >= fold.points {
                // Written by a checkpoint that did not end: the log will give it again.
                return Ok(());
            }
            if number.0 as usize != shared.points.names().given() {
                return Err(bad(&key, &"a point before it is missing"));
            }
            let point = match stored {
                None => None,
                Some((path, unit)) => {
                    let path = PointPath::new(&path).map_err(|error| bad(&key, &error))?;
                    let unit = unit.map(|unit| shared_unit(&mut units, unit));
                    shared.routing.write().add_point(number, &path, unit.as_deref());
                    Some(NewPoint { path, unit })
                }
            };
            shared.points.add([(number, point)]);
            Ok(())
        })?;
        let (found, expected) = (shared.points.names().given() as u64, u64::from(fold.points));
        if found != expected {
            return Err(OpenError::NotWhole { what: "points end at number", found, expected });
        }
        self.each(Kind::LatestPage, |key, bytes| {
            let Some((_, Item::LatestPage(page))) = key.parse() else { return Ok(()) };
            shared.points.load_page(page, &bytes).map_err(|error| bad(&key, &error))
        })?;
        let mut requests = BTreeMap::new();
        self.each_decoded(Kind::Idempotency, |key, remembered: Remembered| {
            if let Some((_, Item::Idempotency(hash))) = key.parse()
                && let Some(hash) = hash.first_chunk::<16>()
            {
                requests.insert(*hash, remembered);
            }
            Ok(())
        })?;
        Ok(requests)
    }

    /// Begins the lanes. Returns the installations of which a part is missing: the log must remove them.
    fn lanes(
        &self,
        shared: &Shared,
        applier: &mut Applier,
        fold: &FoldPosition,
    ) -> Result<Vec<(Key, Generation)>, OpenError> {
        self.each_decoded(Kind::Package, |key, record: PackageRecord| {
            let manifest = Manifest::parse(&record.manifest).map_err(|problems| bad(&key, &problems))?;
            let known = KnownPackage { record, manifest: Arc::new(manifest) };
            shared.packages.write().insert(known.record.digest, Arc::new(known));
            Ok(())
        })?;
        let mut left_out = Vec::new();
        let mut metas: BTreeMap<Generation, StoredLane> = BTreeMap::new();
        self.each_decoded(Kind::Lane, |key, lane: StoredLane| {
            let Some((_, Item::Lane(generation))) = key.parse() else { return Ok(()) };
            if let Some(removed) = lane.removed {
                shared.removed.lock().insert(generation, removed);
            }
            metas.insert(generation, lane);
            Ok(())
        })?;
        let mut timers: BTreeMap<Generation, BTreeMap<Box<str>, Timestamp>> = BTreeMap::new();
        self.each_decoded(Kind::Timer, |key, due: u64| {
            if let Some((_, Item::Timer(generation, name))) = key.parse() {
                timers.entry(generation).or_default().insert(name.into(), Timestamp(due));
            }
            Ok(())
        })?;
        let mut alarms: BTreeMap<Generation, BTreeMap<AlarmKey, AlarmRecord>> = BTreeMap::new();
        self.each_decoded(Kind::Alarm, |key, alarm: AlarmRecord| {
            if let Some((_, Item::Alarm(generation, ..))) = key.parse() {
                let name = (alarm.code.clone(), alarm.entity.clone());
                alarms.entry(generation).or_default().insert(name, alarm);
            }
            Ok(())
        })?;
        let places = Places::of(fold);
        self.each_decoded(Kind::Installation, |key, installation: Installation| {
            let generation = installation.generation;
            if generation > fold.generation {
                // Written by a checkpoint that did not end: the log will install it again.
                return Ok(());
            }
            let revision_key =
                Scope::MAIN.key(Item::Revision(installation.id.as_str().into(), installation.revision));
            let revision: Option<Revision> = self.value(&revision_key)?;
            let known = shared.packages.read().get(&installation.package).cloned();
            let (Some(revision), Some(lane), Some(known)) = (revision, metas.remove(&generation), known)
            else {
                // A checkpoint that did not end had begun to remove it: the log will remove it again.
                left_out.push((key, generation));
                return Ok(());
            };
            let queue = applier.queue_from(places.behind(generation, lane.meta.cursor));
            applier.begin(Begin {
                installation,
                revision,
                manifest: Arc::clone(&known.manifest),
                meta: lane.meta,
                state: StateCache::of_stored_generation(),
                queue,
                timers: timers.remove(&generation).unwrap_or_default(),
                alarms: alarms.remove(&generation).unwrap_or_default(),
            });
            Ok(())
        })?;
        Ok(left_out)
    }
}
