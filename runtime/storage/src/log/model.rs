//! The real code on the simulated disk, against a model that knows what was acknowledged: many lives of
//! one log, with random groups, checkpoints and readers, that end in power cuts, kills and failed syncs, within
//! recovery too.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::Duration;

use parking_lot::Mutex;

use ironloom_types::clock::Timestamp;
use ironloom_types::ids::{Epoch, Position, Sequence, StreamId, TenantId};

use super::committer::{Committer, Failure, Flushed, Queued, Seal, Sealer};
use super::config::Config;
use super::error::LogError;
use super::frame::{self, Header, RECORD_HEADER, RecordKind};
use super::identity::Known;
use super::reader::{Record, RecordRef, Records};
use super::recovery::{Recovered, recover};
use crate::disk::Disk;
use crate::testing::{Random, SimDisk};

pub(super) fn small() -> Config {
    Config {
        segment_bytes: 12 << 10,
        max_bytes: 1 << 20,
        group_bytes: 2 << 10,
        spares: 1,
        max_spares: 2,
        ..Config::default()
    }
}

/// A body that names itself.
pub(super) struct Item {
    pub id: u64,
    pub body: Vec<u8>,
    pub barrier: bool,
}

/// The records that must be in the log, by position.
#[derive(Default)]
pub(super) struct Truth {
    /// Acknowledged, or found by a recovery that ended well: must stay.
    kept: BTreeMap<u64, u64>,
    /// Written but not acknowledged: may be there after the next recovery, or never again.
    open: BTreeMap<u64, u64>,
    /// The last position that must be there, marks included.
    end: u64,
    bodies: BTreeMap<u64, Vec<u8>>,
    /// Where flushed records lie.
    places: Vec<RecordRef>,
    /// The items sealed in this life and not yet flushed, in order.
    order: Vec<u64>,
}

pub(super) struct Model(pub Arc<Mutex<Truth>>);

impl Sealer for Model {
    type Item = Item;
    type Sealed = u64;

    fn seal(&mut self, item: Item, position: Position, body: &mut Vec<u8>) -> Seal<u64> {
        let mut truth = self.0.lock();
        truth.order.push(item.id);
        if item.barrier {
            return Seal::Barrier(item.id);
        }
        body.extend_from_slice(&item.body);
        assert!(truth.open.insert(position.0, item.id).is_none(), "{position} was given twice");
        truth.bodies.insert(item.id, item.body);
        Seal::Record {
            kind: RecordKind::Readings,
            version: 1,
            tenant: TenantId::MAIN,
            stream: StreamId::MAIN,
            first_sequence: Sequence(item.id),
            journal_time: Timestamp(item.id),
            sealed: item.id,
        }
    }

    fn flushed(&mut self, group: Vec<Flushed<u64>>, _: Option<Duration>) {
        let mut truth = self.0.lock();
        let order: Vec<_> = group.iter().map(|flushed| flushed.sealed).collect();
        let expected: Vec<_> = truth.order.drain(..order.len()).collect();
        assert_eq!(order, expected, "flushed in the order in which they came");
        for Flushed { record, sealed } in group {
            let Some(record) = record else { continue };
            assert_eq!(truth.open.remove(&record.position.0), Some(sealed));
            truth.kept.insert(record.position.0, sealed);
            truth.end = record.position.0;
            truth.places.push(record);
        }
    }

    fn failed(&mut self, unsynced: Vec<u64>, _waiting: Vec<Item>, _error: &LogError) {
        assert_eq!(unsynced, std::mem::take(&mut self.0.lock().order), "everybody is told");
    }
}

/// The store's knowledge of the log, on a store that may lose unsynced changes.
#[derive(Default)]
struct Store {
    seen: Known,
    durable: Known,
    dirty: bool,
}

impl Store {
    fn write(&mut self, disk: &SimDisk, known: Known) -> Result<(), LogError> {
        let error = |source| LogError::io("write", "the store".into())(source);
        disk.other_operation().map_err(error)?;
        self.seen = known;
        self.dirty = true;
        if let Err(source) = disk.other_sync() {
            self.dirty = !disk.failed();
            return Err(error(source));
        }
        self.durable = self.seen;
        self.dirty = false;
        Ok(())
    }

    fn power_cut(&mut self, random: &mut Random) {
        if std::mem::take(&mut self.dirty) {
            // These are keys of their own: each may come through without the others.
            if random.chance(2) {
                // One value.
                (self.durable.fold, self.durable.witness) = (self.seen.fold, self.seen.witness);
            }
            if random.chance(2) {
                self.durable.epoch = self.seen.epoch;
            }
            if random.chance(2) {
                self.durable.identity = self.seen.identity;
            }
        }
        self.seen = self.durable;
    }
}

pub(super) struct World {
    pub random: Random,
    pub disk: SimDisk,
    store: Store,
    truth: Arc<Mutex<Truth>>,
    next_id: u64,
    last_epoch: u32,
}

impl World {
    pub(super) fn new(seed: u64) -> Self {
        Self {
            random: Random::new(seed),
            disk: SimDisk::new(!seed),
            store: Store::default(),
            truth: Arc::default(),
            next_id: 1,
            last_epoch: 0,
        }
    }

    pub(super) fn recover(&mut self) -> Result<Recovered, LogError> {
        recover(Arc::new(self.disk.clone()), small(), self.store.seen)
    }

    /// Compares everything behind the fold position with the truth, which then takes what was found.
    fn check(&mut self, recovered: &Recovered) {
        let fold = self.fold().0;
        let mut truth = self.truth.lock();
        let truth = &mut *truth;
        let end = recovered.end().0;
        assert!(end >= truth.end, "lost: the end is {end}, {} was acknowledged", truth.end);
        assert!(recovered.epoch().0 > self.last_epoch, "epochs rise");
        let mut next = fold + 1;
        let mut seen = BTreeSet::new();
        for record in recovered.records().unwrap() {
            let record = record.unwrap();
            assert_eq!(record.at.position.0, next, "dense");
            let expected = truth.kept.get(&next).or_else(|| truth.open.get(&next)).copied();
            match expected {
                Some(id) => {
                    assert_matches(truth, &record, id);
                    assert!(seen.insert(id), "{id} twice");
                    truth.kept.insert(next, id);
                    truth.places.push(record.at);
                }
                None => {
                    assert_eq!(
                        record.header.kind,
                        RecordKind::Mark,
                        "{next} was brought back from an older life"
                    )
                }
            }
            next += 1;
        }
        assert_eq!(next, end + 1, "everything up to the end");
        truth.open.clear();
        truth.end = end;
    }

    /// The store's fold position.
    pub(super) fn fold(&self) -> Position {
        self.store.seen.fold
    }

    /// The store as it was before anything was written into it.
    pub(super) fn empty_store(&mut self) {
        self.store = Store::default();
    }

    /// The record because of which the store has left something out.
    pub(super) fn rests_on(&self) -> Position {
        self.store.seen.witness
    }

    /// The store has left something out because of this record.
    pub(super) fn store_rests_on(&mut self, witness: Position) {
        self.store.seen.witness = witness;
    }

    /// The store as a copy of an earlier time has it.
    pub(super) fn store_of_epoch(&mut self, epoch: Epoch) {
        self.store.seen.epoch = epoch;
    }

    /// One life, until something fails or it has done enough.
    pub(super) fn live(&mut self) -> Result<(), LogError> {
        let recovered = self.recover()?;
        self.check(&recovered);
        let epoch = recovered.epoch();
        let own = Known { epoch, identity: Some(recovered.identity()), ..self.store.seen };
        self.store.write(&self.disk, own)?;
        let log = recovered.begin()?;
        self.store.write(&self.disk, Known { identity: Some(log.identity()), ..own })?;
        self.last_epoch = epoch.0;
        let reader = log.reader();
        let numbered = self.disk.list().unwrap().iter().filter(|name| name.ends_with(".log")).count();
        assert_eq!(numbered, reader.stats().segments, "what the log doesn't need is freed");
        let mut committer = Committer::new(log.into_writer(), Model(self.truth.clone()));
        let mut held: Option<Records> = None;
        for _ in 0..self.random.below(60) {
            match self.random.below(16) {
                0..8 => {
                    let items = (0..=self.random.below(6)).map(|_| self.item(&committer));
                    let bytes = |item: &Item| (item.body.len() + RECORD_HEADER) as u64;
                    let items = items.map(|item| Queued { bytes: bytes(&item), item }).collect();
                    committed(&mut committer, |committer| committer.commit(items))?;
                }
                8 | 9 if committer.wants_mark() => committed(&mut committer, Committer::mark)?,
                10 | 11 => {
                    let flushed = reader.flushed().0;
                    let ahead = self.random.below(flushed - self.fold().0 + 1);
                    let fold = Position(self.fold().0 + ahead);
                    let witness = Position(fold.0 + self.random.below(flushed - fold.0 + 1));
                    self.store.write(&self.disk, Known { fold, witness, ..self.store.seen })?;
                    reader.free_through(fold)?;
                }
                12 => committer.shared().spares.fill()?,
                13 => {
                    held = Some(reader.records(self.fold().next(), Position(u64::MAX)).unwrap());
                }
                14 => {
                    let truth = self.truth.lock();
                    for record in held.iter_mut().flatten().take(self.random.below(5) as usize) {
                        let record = record.unwrap();
                        if let Some(&id) = truth.kept.get(&record.at.position.0) {
                            assert_matches(&truth, &record, id);
                        }
                    }
                }
                _ => {
                    let truth = self.truth.lock();
                    let some = self.random.below(truth.places.len() as u64 + 1) as usize;
                    let Some(&place) = truth.places.get(some) else { continue };
                    match reader.read(place) {
                        Ok(record) => assert_matches(&truth, &record, truth.kept[&place.position.0]),
                        Err(LogError::Freed { position }) => {
                            assert!(position <= self.fold(), "freed before it was folded")
                        }
                        Err(error) => panic!("{error}"),
                    }
                }
            }
        }
        Ok(())
    }

    fn item(&mut self, committer: &Committer<Model>) -> Item {
        let id = self.next_id;
        self.next_id += 1;
        let mut body = id.to_le_bytes().to_vec();
        let length = match self.random.below(20) {
            0 => self.random.below((small().max_body() - body.len()) as u64 + 1),
            1 => (small().max_body() - body.len()) as u64,
            _ => self.random.below(300),
        };
        body.extend((0..length).map(|i| (id ^ i) as u8));
        if self.random.chance(4) && body.len() >= 8 + RECORD_HEADER {
            // Somebody sends what looks like a record that knows of a later one, but for the salt.
            let position = Position(committer.next_position().0 + self.random.below(4));
            let header = Header {
                epoch: Epoch(self.last_epoch),
                position,
                durable: Position(position.0 - 1),
                kind: RecordKind::Readings,
                version: 1,
                tenant: TenantId::MAIN,
                stream: StreamId::MAIN,
                first_sequence: Sequence(id),
                journal_time: Timestamp(id),
            };
            frame::seal(&mut body[8..], &header, 0);
        }
        Item { id, body, barrier: self.random.chance(8) }
    }
}

fn committed(
    committer: &mut Committer<Model>,
    commit: impl FnOnce(&mut Committer<Model>) -> Result<(), Failure<Item>>,
) -> Result<(), LogError> {
    commit(committer).map_err(|failure| committer.fail(failure))
}

fn assert_matches(truth: &Truth, record: &Record, id: u64) {
    assert_eq!(record.header.kind, RecordKind::Readings);
    assert_eq!(record.header.first_sequence, Sequence(id), "another record at {}", record.at.position);
    assert_eq!(record.body[..], truth.bodies[&id][..], "the body of {id} came back changed");
}

fn run(seed: u64) {
    let mut world = World::new(seed);
    for _ in 0..3 + world.random.below(6) {
        let lifetime = match world.random.below(3) {
            0 => Some(world.random.below(20)),
            1 => Some(world.random.below(150)),
            _ => None,
        };
        let failing_sync = world.random.chance(3).then(|| world.random.below(40));
        world.disk.arrange(lifetime, failing_sync);
        if let Err(error) = world.live() {
            assert!(world.disk.failed(), "{error}");
        }
        world.truth.lock().order.clear();
        if world.random.chance(2) {
            world.disk.power_cut();
            world.store.power_cut(&mut world.random);
        } else {
            world.disk.kill();
        }
    }
    let recovered = world.recover().unwrap();
    world.check(&recovered);
}

/// The seeds of one run: `IRONLOOM_LOG_SEEDS=from..to` widens the search or repeats one of it.
fn seeds() -> std::ops::Range<u64> {
    let asked = std::env::var("IRONLOOM_LOG_SEEDS").unwrap_or_default();
    let range = asked.split_once("..").and_then(|(from, to)| Some(from.parse().ok()?..to.parse().ok()?));
    range.unwrap_or(0..4000)
}

#[test]
fn nothing_acknowledged_is_lost_doubled_or_brought_back() {
    for seed in seeds() {
        if let Err(panic) = std::panic::catch_unwind(|| run(seed)) {
            eprintln!("with IRONLOOM_LOG_SEEDS={seed}..{}", seed + 1);
            std::panic::resume_unwind(panic);
        }
    }
}
