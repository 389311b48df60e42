//! Opens the data folder: the store as of its fold position, plus one pass over the log.

use std::collections::{BTreeMap, BTreeSet, HashSet};
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, AtomicUsize};

use bytes::Bytes;
use parking_lot::{Mutex, RwLock};
use serde::de::DeserializeOwned;

use super::apply::{Applier, stored};
use super::checkpoint::CheckpointError;
use super::durable::{AlarmKey, Begin, Durables, Listener};
use super::journal::Journal;
use super::overlay::Overlay;
use super::points::Points;
use super::requests::{Recent, Remembered};
use super::sealer::{Numbers, Sealed};
use super::{FoldPosition, KnownPackage, Shared, StoredLane};
use crate::records::admin::PackageRecord;
use crate::records::commit::AlarmRecord;
use crate::records::installation::{Installation, Revision};
use crate::records::readings::Idempotency;
use crate::records::{BodyError, admin, commit, readings};
use crate::telemetry::Metrics;
use ironloom_apps::manifest::Manifest;
use ironloom_apps::routing::RoutingTable;
use ironloom_storage::journal::{BlockFiles, BlockIndex, Chunk, StoredHeader};
use ironloom_storage::log::{self, Folder, Kind as RecordKind, Log, LogError, Record};
use ironloom_storage::store::{Applied, Change, Item, Key, Kind, Scope, StateCache, Storage, StoreError};
use ironloom_types::clock::{Clock, Source, Timestamp};
use ironloom_types::ids::{Epoch, Generation, PointPath, Sequence};
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
    std::fs::create_dir_all(&log_folder).map_err(|source| io("make", &log_folder, source))?;
    let disk = Arc::new(Folder::open(&log_folder).map_err(|source| io("open", &log_folder, source))?);
    let recovered = log::recover(disk, config.log.clone(), fold.position, storage.epoch())?;
    let epoch = recovered.epoch();
    // Before anything is folded: what was read of the log is durable now, and this process owns the store.
    let own = vec![Change::set(Key::folded(), stored(&fold))];
    match storage.apply(own, epoch)? {
        Applied::Done => {}
        Applied::Fenced => return Err(CheckpointError::Fenced.into()),
    }
    fail::fail_point!("open-store-owned");

    let mut blocks = BlockIndex::default();
    let mut stale = Vec::new();
    for (key, bytes) in loader.all(Kind::Block)? {
        let header = StoredHeader::decode(&bytes).map_err(|error| bad(&key, &error))?;
        if header.checkpoint > fold.position {
            stale.push((key, None));
            continue;
        }
        blocks.push(&header.header, header.location).map_err(CheckpointError::from)?;
    }
    let journal_folder = folder.join("journal");
    let files = BlockFiles::open(&journal_folder, &blocks.used_files()).map_err(CheckpointError::from)?;
    let clock = Arc::new(Clock::new(config.clock, fold.time));
    let shared = Arc::new(Shared {
        clock,
        points: Arc::new(Points::default()),
        journal: Journal::new(Arc::new(files), blocks, recovered.reader(), fold.folded_through),
        routing: RwLock::new(RoutingTable::new()),
        lanes: Durables::default(),
        listener,
        note_budget: Arc::default(),
        overlay: Overlay::new(Arc::clone(&storage)),
        storage: Arc::clone(&storage),
        packages: RwLock::default(),
        receipts: RwLock::default(),
        removed: Mutex::default(),
        metrics,
        horizon: AtomicU64::new(fold.time.0),
        due: Mutex::new(BTreeSet::new()),
        generation: AtomicU64::new(fold.generation.0),
        dirty: AtomicUsize::new(0),
        full: AtomicBool::new(false),
        disk_full: AtomicBool::new(false),
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
    // Time goes on from the last record, under the host's clock as well.
    shared.clock.resume(time);
    for (key, generation) in left_out {
        if !shared.removed.lock().contains_key(&generation) {
            return Err(bad(&key, &"its lane, its revision or its package is missing"));
        }
    }
    applier.go_live();
    let live: HashSet<Generation> = shared.lanes.all().iter().map(|lane| lane.generation).collect();
    let numbers = Numbers {
        last_sequence: shared.journal.last(),
        points: shared.points.names().len(),
        requests: Recent::restore(requests.into_iter().collect()),
        live,
    };
    let log = recovered.begin()?;
    Ok(Opened { shared, applier, log, numbers, epoch, fold, position, replayed })
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

fn io(what: &'static str, path: &Path, source: std::io::Error) -> OpenError {
    OpenError::Io { what, path: path.display().to_string(), source }
}

fn bad(key: &Key, problem: &dyn std::fmt::Display) -> OpenError {
    OpenError::Value { key: key.to_string(), problem: problem.to_string() }
}

struct Loader<'a> {
    storage: &'a dyn Storage,
}

impl Loader<'_> {
    fn value<T: DeserializeOwned>(&self, key: &Key) -> Result<Option<T>, OpenError> {
        let found = self.storage.get_many(std::slice::from_ref(key))?;
        let Some(bytes) = found.into_iter().next().flatten() else { return Ok(None) };
        postcard::from_bytes(&bytes).map(Some).map_err(|error| bad(key, &error))
    }

    fn all(&self, kind: Kind) -> Result<Vec<(Key, Bytes)>, OpenError> {
        let range = Scope::MAIN.all(kind);
        let mut entries: Vec<(Key, Bytes)> = Vec::new();
        loop {
            let after = entries.last().map(|(key, _)| key.clone());
            let page = self.storage.scan(&range, after.as_ref(), PAGE)?;
            let more = page.more && !page.entries.is_empty();
            entries.extend(page.entries);
            if !more {
                return Ok(entries);
            }
        }
    }

    fn decoded<T: DeserializeOwned>(&self, kind: Kind) -> Result<Vec<(Key, T)>, OpenError> {
        let decode = |(key, bytes): (Key, Bytes)| match postcard::from_bytes(&bytes) {
            Ok(value) => Ok((key, value)),
            Err(error) => Err(bad(&key, &error)),
        };
        self.all(kind)?.into_iter().map(decode).collect()
    }

    /// Brings receipts, points and latest values into memory, as of the fold position. Returns the requests.
    /// Lanes come before: each point is then matched once.
    fn fill(
        &self,
        shared: &Shared,
        fold: &FoldPosition,
    ) -> Result<BTreeMap<[u8; 16], Remembered>, OpenError> {
        for (key, note) in self.all(Kind::Receipt)? {
            if let Some((_, Item::Receipt(connector))) = key.parse() {
                shared.receipts.write().insert(connector.into(), note);
            }
        }
        for (key, (path, unit)) in self.decoded::<(String, Option<String>)>(Kind::Point)? {
            let Some((_, Item::Point(number))) = key.parse() else { continue };
            if number.0 >= fold.points {
                // Written by a checkpoint that did not end: the log will give it again.
                continue;
            }
            if number.0 as usize != shared.points.names().len() {
                return Err(bad(&key, &"a point before it is missing"));
            }
            let path = PointPath::new(&path).map_err(|error| bad(&key, &error))?;
            let unit = unit.map(Into::into);
            shared.routing.write().add_point(number, &path, unit.as_deref());
            shared.points.add(number, NewPoint { path, unit });
        }
        for (key, bytes) in self.all(Kind::LatestPage)? {
            let Some((_, Item::LatestPage(page))) = key.parse() else { continue };
            shared.points.load_page(page, &bytes).map_err(|error| bad(&key, &error))?;
        }
        let mut requests = BTreeMap::new();
        for (key, remembered) in self.decoded::<Remembered>(Kind::Idempotency)? {
            if let Some((_, Item::Idempotency(hash))) = key.parse()
                && let Some(hash) = hash.first_chunk::<16>()
            {
                requests.insert(*hash, remembered);
            }
        }
        Ok(requests)
    }

    /// Begins the lanes. Returns the installations of which a part is missing: the log must remove them.
    fn lanes(
        &self,
        shared: &Shared,
        applier: &mut Applier,
        fold: &FoldPosition,
    ) -> Result<Vec<(Key, Generation)>, OpenError> {
        for (key, record) in self.decoded::<PackageRecord>(Kind::Package)? {
            let manifest = Manifest::parse(&record.manifest).map_err(|problems| bad(&key, &problems))?;
            let known = KnownPackage { record, manifest: Arc::new(manifest) };
            shared.packages.write().insert(known.record.digest, Arc::new(known));
        }
        let mut left_out = Vec::new();
        let mut metas: BTreeMap<Generation, StoredLane> = BTreeMap::new();
        for (key, lane) in self.decoded::<StoredLane>(Kind::Lane)? {
            let Some((_, Item::Lane(generation))) = key.parse() else { continue };
            if let Some(removed) = lane.removed {
                shared.removed.lock().insert(generation, removed);
            }
            metas.insert(generation, lane);
        }
        let mut timers: BTreeMap<Generation, BTreeMap<Box<str>, Timestamp>> = BTreeMap::new();
        for (key, due) in self.decoded::<u64>(Kind::Timer)? {
            if let Some((_, Item::Timer(generation, name))) = key.parse() {
                timers.entry(generation).or_default().insert(name.into(), Timestamp(due));
            }
        }
        let mut alarms: BTreeMap<Generation, BTreeMap<AlarmKey, AlarmRecord>> = BTreeMap::new();
        for (key, alarm) in self.decoded::<AlarmRecord>(Kind::Alarm)? {
            if let Some((_, Item::Alarm(generation, ..))) = key.parse() {
                let name = (alarm.code.clone(), alarm.entity.clone());
                alarms.entry(generation).or_default().insert(name, alarm);
            }
        }
        let places = Places::of(fold);
        for (key, installation) in self.decoded::<Installation>(Kind::Installation)? {
            let generation = installation.generation;
            if generation > fold.generation {
                // Written by a checkpoint that did not end: the log will install it again.
                continue;
            }
            let revision_key =
                Scope::MAIN.key(Item::Revision(installation.id.as_str().into(), installation.revision));
            let revision: Option<Revision> = self.value(&revision_key)?;
            let known = shared.packages.read().get(&installation.package).cloned();
            let (Some(revision), Some(lane), Some(known)) = (revision, metas.remove(&generation), known)
            else {
                // A checkpoint that did not end had begun to remove it: the log will remove it again.
                left_out.push((key, generation));
                continue;
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
        }
        Ok(left_out)
    }
}
