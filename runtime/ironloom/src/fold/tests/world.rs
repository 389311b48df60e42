//! A machine with a committer, a store that can be cut off, and the fold moved by hand.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::sync::mpsc::{Receiver, channel};
use std::time::Duration;

use bytes::Bytes;
use parking_lot::MutexGuard;
use tokio::sync::oneshot;
use tokio::sync::oneshot::error::TryRecvError;

use super::cut::{Cut, Cuttable};
use super::episodes;
use super::heard::Heard;
use super::machine::{Machine, Simulated};
use super::model::{Model, Reading};
use super::past;
use super::wait;
use crate::fold::Shared;
use crate::fold::apply::Applier;
use crate::fold::checkpoint;
use crate::fold::durable::Durable;
use crate::fold::letters::{Excess, Oldest};
use crate::fold::open::Opened;
use crate::fold::points::LatestValue;
use crate::fold::run::{OF_GENERATIONS, purge_step};
use crate::fold::sealer::{Numberer, Stamped, ToFold};
use crate::fold::stretches::{Extent, Frozen};
use crate::fold::submission::{Accepted, Refusal, Submission};
use crate::lanes::Lane;
use crate::lanes::app_log::{AppLogs, InstallationLog};
use crate::lanes::context::{LaneContext, scan_state};
use crate::records::admin::AdminRecord;
use ironloom_sandbox::{Cached, Keys, Meter, Scan, StateReader};
use ironloom_storage::log::{CommitterHandle, Flushed, LogError, LogReader};
use ironloom_storage::store::{EngineKind, KeyRange};
use ironloom_storage::testing::SimDisk;
use ironloom_types::ids::{Epoch, Generation, PointNumber, Position, Sequence, TenantId};
use ironloom_types::readings::Value;

/// A process that has the folder.
pub(super) struct Node {
    heard: Arc<Heard>,
    pub storage: Arc<Cuttable>,
    pub shared: Arc<Shared>,
    applier: Applier,
    committer: CommitterHandle<Submission>,
    inbox: Receiver<ToFold>,
    log: LogReader,
    last: Position,
    pub epoch: Epoch,
    /// With the generations that were to be purged then.
    frozen: Option<(Frozen, Vec<Generation>)>,
    /// Generations that were to be purged when a checkpoint that has ended began.
    purgeable: Vec<Generation>,
    /// Those that were purged since a checkpoint ended.
    purged: BTreeSet<u64>,
    waiting: Vec<Waiting>,
}

enum Waiting {
    Push(oneshot::Receiver<Result<Accepted, Refusal>>, Result<Accepted, Refusal>),
    Other(oneshot::Receiver<Result<(), Refusal>>, Result<(), Refusal>),
}

pub(super) struct World {
    pub machine: Machine,
    pub model: Model,
    node: Option<Node>,
}

impl World {
    /// On a real disk.
    pub(super) fn new(engine: EngineKind) -> Self {
        Self::on(Machine::Real { folder: tempfile::tempdir().unwrap(), engine })
    }

    /// On disks that lose what real ones may lose.
    pub(super) fn simulated(seed: u64) -> Self {
        Self::on(Machine::Simulated(Simulated::new(seed)))
    }

    fn on(machine: Machine) -> Self {
        let mut world = Self { machine, model: Model::default(), node: None };
        world.start();
        world
    }

    pub(super) fn node(&mut self) -> &mut Node {
        self.node.as_mut().unwrap()
    }

    /// The lanes that were woken for something else than readings, in order.
    pub(super) fn heard(&self) -> MutexGuard<'_, Vec<u32>> {
        self.node.as_ref().unwrap().heard.woken.lock()
    }

    /// What checkpoints have charged, by generation.
    pub(super) fn paid(&self) -> BTreeMap<u64, Duration> {
        self.node.as_ref().unwrap().heard.paid.lock().clone()
    }

    pub(super) fn shared(&self) -> Arc<Shared> {
        Arc::clone(&self.node.as_ref().unwrap().shared)
    }

    fn start(&mut self) {
        let heard = Arc::new(Heard::default());
        let (storage, opened) = self.machine.open(Arc::clone(&heard) as _);
        let Opened { shared, applier, log, numbers, epoch, fold, position, replayed, .. } = opened;
        // A tick is no record: time may go back to the last of those.
        self.model.time = if replayed > 0 { self.model.time_of_record } else { fold.time.0 };
        let (to_fold, inbox) = channel();
        let dies = self.machine.dies();
        let failed = Box::new(move |error: &LogError| assert!(dies(), "the log failed: {error}"));
        let (clock, points) = (Arc::clone(&shared.clock), Arc::clone(&shared.points));
        let log_sync = shared.metrics.log_sync.clone();
        let numberer = Numberer::new(clock, points, numbers, to_fold, log_sync, failed);
        let committer = log.start(numberer).unwrap();
        self.node = Some(Node {
            heard,
            storage,
            shared,
            applier,
            log: committer.reader(),
            committer,
            inbox,
            last: position,
            epoch,
            frozen: None,
            purgeable: Vec::new(),
            purged: BTreeSet::new(),
            waiting: Vec::new(),
        });
    }

    /// Ends the process without a word to the fold, and starts another.
    pub(super) fn restart(&mut self) {
        let node = self.node.take().unwrap();
        self.machine.end(|| {
            // What was submitted is written, though nobody may have heard of it.
            let ended = node.committer.stop();
            drop(node);
            ended
        });
        self.start();
        self.model.abandon_copies();
        self.check();
    }

    /// Ends the process and hands the folder over.
    pub(super) fn into_folder(mut self) -> tempfile::TempDir {
        self.node.take().unwrap().committer.stop().unwrap();
        let Machine::Real { folder, .. } = self.machine else { panic!("simulated disks are in no folder") };
        folder
    }

    /// Ends the process and hands the simulated machine over.
    pub(super) fn into_machine(mut self) -> Simulated {
        self.node.take().unwrap().committer.stop().unwrap();
        let Machine::Simulated(simulated) = self.machine else { panic!("this machine is a real one") };
        simulated
    }

    /// The names of the block files, in order.
    pub(super) fn block_files(&self) -> Vec<String> {
        let Machine::Real { folder, .. } = &self.machine else { panic!("simulated disks are in no folder") };
        let files = std::fs::read_dir(folder.path().join("journal")).unwrap();
        let mut names: Vec<String> =
            files.map(|file| file.unwrap().file_name().into_string().unwrap()).collect();
        names.sort();
        names
    }

    /// The simulated disk.
    pub(super) fn disk(&self) -> SimDisk {
        let Machine::Simulated(simulated) = &self.machine else { panic!("a real disk can't be simulated") };
        simulated.disk().clone()
    }

    /// The simulated disk, and the name of the log's newest segment on it.
    pub(super) fn newest_segment(&self) -> (SimDisk, String) {
        let Machine::Simulated(simulated) = &self.machine else { panic!("a real disk can't be simulated") };
        (simulated.disk().clone(), simulated.newest_segment())
    }

    /// Says whether nothing may be under way in the log when a step ends.
    pub(super) fn is_simulated(&self) -> bool {
        matches!(self.machine, Machine::Simulated(_))
    }

    pub(super) fn submit(&mut self, submission: Submission) {
        let bound = submission.max_len();
        self.node().committer.submit(submission, bound).map_err(|refused| refused.error).unwrap();
    }

    pub(super) fn expect_push(
        &mut self,
        reply: oneshot::Receiver<Result<Accepted, Refusal>>,
        answer: Result<Accepted, Refusal>,
    ) {
        self.node().waiting.push(Waiting::Push(reply, answer));
    }

    pub(super) fn expect(
        &mut self,
        reply: oneshot::Receiver<Result<(), Refusal>>,
        answer: Result<(), Refusal>,
    ) {
        self.node().waiting.push(Waiting::Other(reply, answer));
    }

    pub(super) fn admin(&mut self, record: AdminRecord, answer: Result<(), Refusal>) {
        if answer.is_ok() {
            self.model.hear_of_owners(&record);
            self.model.hear_of_consents(&record);
        }
        self.write_with_entry(record, answer);
        self.model.time_of_record = self.model.time;
    }

    /// Applies everything that was submitted, and compares the answers.
    pub(super) fn pump(&mut self) {
        let node = self.node.as_mut().unwrap();
        for waiting in std::mem::take(&mut node.waiting) {
            match waiting {
                Waiting::Push(mut reply, expected) => assert_eq!(node.wait(&mut reply), expected),
                Waiting::Other(mut reply, expected) => assert_eq!(node.wait(&mut reply), expected),
            }
        }
    }

    /// Ends a stretch of the log; a later checkpoint may fold only what is before.
    pub(super) fn end_stretch(&mut self) {
        let node = self.node();
        node.applier.end_stretch(node.last);
    }

    pub(super) fn freeze(&mut self, extent: Extent) {
        let node = self.node();
        if node.frozen.is_none() {
            let removed = node.shared.removed.lock();
            let to_purge = removed.iter().filter(|(_, gone)| gone.removed.purge);
            let to_purge = to_purge.map(|(generation, _)| *generation).collect();
            drop(removed);
            let frozen = node.applier.freeze(extent, node.last);
            node.frozen = Some((frozen, to_purge));
        }
    }

    /// Writes what was frozen. Where that is cut off, the process ends and another is started.
    pub(super) fn checkpoint(&mut self, cut: Option<Cut>) {
        self.freeze(Extent::All);
        let node = self.node.as_mut().unwrap();
        let (frozen, removed) = node.frozen.take().unwrap();
        let is_all = frozen.is_all;
        if let Some(cut) = cut {
            self.machine.cut(cut, &node.storage);
        }
        let written = checkpoint::write(&node.shared, &node.log, frozen, node.epoch);
        match (written, cut) {
            (Ok(()), None) => {
                if is_all {
                    node.purgeable = removed;
                    self.model.forgotten.append(&mut node.purged);
                }
            }
            (Err(error), None) => panic!("{error}"),
            (written, Some(_)) => {
                if let Err(error) = written {
                    assert!(self.machine.was_cut(), "{error}");
                }
                self.restart();
            }
        }
    }

    /// Removes what one that is gone has kept. Where that is cut off, the process ends and another is started.
    pub(super) fn purge(&mut self, which: u8, cut: Option<Cut>) {
        let node = self.node.as_mut().unwrap();
        // What copies have is in the store alone.
        node.purgeable.extend(node.shared.copies.take_gone());
        if node.purgeable.is_empty() || node.frozen.is_some() {
            return;
        }
        let which = usize::from(which) % node.purgeable.len();
        let generation = node.purgeable.remove(which);
        if let Some(cut) = cut {
            self.machine.cut(cut, &node.storage);
        }
        let purged = loop {
            match purge_step(&node.shared, generation, node.epoch) {
                Ok(false) => {}
                Ok(true) => break true,
                Err(error) => {
                    assert!(cut.is_some() && self.machine.was_cut(), "{error}");
                    break false;
                }
            }
        };
        if purged {
            self.model.removed.remove(&generation.0);
            self.model.purged.insert(generation.0);
            node.purged.insert(generation.0);
        }
        if cut.is_some() {
            self.restart();
        }
    }

    /// Notes for a lane what it doesn't know of yet.
    pub(super) fn catch_up(&mut self, generation: u64) {
        let shared = self.shared();
        let lane = shared.lanes.of_generation(Generation(generation)).unwrap();
        for _ in 0..10_000 {
            let Some(from) = lane.queue.lock().wants() else { return };
            shared.note_from_journal(&lane, from).unwrap();
        }
        panic!("a lane doesn't get to the journal's end");
    }

    /// What a lane is offered, as sequences, with the notes behind them.
    pub(super) fn offered(&mut self, generation: u64, most: usize) -> Vec<u64> {
        let shared = self.shared();
        let lane = shared.lanes.of_generation(Generation(generation)).unwrap();
        let queue = lane.queue.lock();
        let terms = lane.terms();
        let (_, end) = terms.now(queue.pending());
        let slices = queue.first(most, usize::MAX, None, end);
        let rows = slices.iter().flat_map(|slice| slice.rows().iter().map(|row| slice.note.sequence_of(row)));
        rows.map(|sequence| sequence.0).collect()
    }

    /// All lanes go on to the end, and meet each of their readings once.
    pub(super) fn drain(&mut self) {
        self.pump();
        for generation in self.model.lanes.keys().copied().collect::<Vec<_>>() {
            self.catch_up(generation);
            let offered = self.model.offered(generation, usize::MAX);
            assert_eq!(self.offered(generation, usize::MAX), offered, "generation {generation}");
            self.check_revisions(generation);
        }
    }

    /// Each reading that waits is noted once, for the revision of its time.
    fn check_revisions(&mut self, generation: u64) {
        let shared = self.shared();
        let lane = shared.lanes.of_generation(Generation(generation)).unwrap();
        let (queue, terms) = (lane.queue.lock(), lane.terms());
        let slices = queue.first(usize::MAX, usize::MAX, None, None);
        let noted =
            slices.iter().flat_map(|slice| slice.rows().iter().map(|row| slice.note.sequence_of(row)));
        let noted = noted.map(|sequence| (sequence.0, terms.of(sequence).map(|term| term.number().0)));
        let model = &self.model.lanes[&generation];
        let waiting = self.model.waiting(generation);
        let expected = waiting.into_iter().map(|at| (at, model.revision_of(at).map(|(number, ..)| *number)));
        assert_eq!(noted.collect::<Vec<_>>(), expected.collect::<Vec<_>>(), "generation {generation}");
        // Those that are done with are gone, up to what a lane that is behind may find.
        let newest = model.revisions.last().unwrap();
        assert_eq!((terms.newest().number().0, terms.newest().from().0), (newest.0, newest.1));
        if queue.pending().is_none() {
            assert_eq!(terms.split(None).0.len(), 1);
        }
    }

    /// Compares everything with the model.
    pub(super) fn check(&mut self) {
        self.pump();
        let (shared, model) = (self.shared(), &self.model);
        {
            let names = shared.points.names();
            let numbers = (0..names.given()).map(|number| PointNumber(number as u32));
            let path = |number| names.point(number).map(|point| point.path.to_string());
            assert_eq!(numbers.map(path).collect::<Vec<_>>(), model.points);
            assert_eq!(names.count(), model.points.iter().flatten().count());
            let retired = names.retired().map(|(number, path)| (number.0 as usize, path.to_string()));
            assert_eq!(retired.collect::<BTreeMap<_, _>>(), model.retired);
            for (number, point) in names.iter() {
                let description = names.description(number).map(ToString::to_string);
                let said = (point.unit.as_ref().map(ToString::to_string), description);
                assert_eq!(said, model.said.get(&(number.0 as usize)).cloned().unwrap_or_default());
            }
        }
        assert_eq!(shared.journal.of(TenantId::MAIN).first(), Sequence(model.dropped as u64 + 1));
        assert_eq!(journal(&shared), model.readings()[model.dropped..]);
        assert_eq!(shared.journal.of(TenantId::MAIN).last(), Sequence(model.journal.len() as u64));
        check_latest(&shared, model);
        let receipts: BTreeMap<String, Vec<u8>> =
            shared.receipts.read().iter().map(|(name, note)| (name.to_string(), note.to_vec())).collect();
        assert_eq!(receipts, model.receipts);
        assert_eq!(*shared.connectors.read(), model.connectors);
        assert_eq!(*shared.owners.read(), model.owners);
        model.audit.check(&shared);
        assert_eq!(*shared.consents.read(), model.consents);
        assert_eq!(shared.streams.read().all(), model.streams);
        assert_eq!(shared.last_generation(TenantId::MAIN), Generation(model.generation));
        assert_eq!(shared.packages.read().keys().copied().collect::<BTreeSet<_>>(), model.packages);
        // Their own key goes with the next checkpoint.
        let removed: BTreeSet<u64> = shared.removed.lock().keys().map(|generation| generation.0).collect();
        let certain: BTreeSet<u64> = removed.difference(&model.purged).copied().collect();
        assert_eq!(certain, model.removed);
        assert!(removed.is_disjoint(&model.forgotten));
        let kept: BTreeMap<u64, String> = {
            let gone = shared.removed.lock();
            let kept = gone.iter().filter(|(_, gone)| !gone.removed.purge);
            kept.map(|(generation, gone)| (generation.0, gone.installation.to_string())).collect()
        };
        assert_eq!(kept, model.kept);
        for (generation, ended) in &model.ended {
            let stored = shared.stored_lane(Generation(*generation)).unwrap().unwrap();
            let installation = stored.ended.unwrap();
            assert_eq!((installation.id.as_str(), stored.meta), (ended.id.as_str(), ended.meta.clone()));
            assert_eq!(installation.revision.0, ended.revisions.last().unwrap().0);
        }
        for generation in &model.purged {
            for kind in OF_GENERATIONS {
                let range = KeyRange::generation(kind, Generation(*generation));
                assert!(shared.storage.scan(&range, None, 1).unwrap().entries.is_empty(), "{kind:?}");
            }
        }
        super::copies::check(&shared, model);
        episodes::check(&shared, model);
        let mut live: Vec<u64> = shared.lanes.all().iter().map(|lane| lane.generation.0).collect();
        live.sort_unstable();
        assert_eq!(live, model.lanes.keys().copied().collect::<Vec<_>>());
        let due = |lane: &super::model::Lane| {
            let repeating = lane.meta.cron_due.iter().map(|(_, due)| due.0);
            lane.timers.values().map(|(due, _)| *due).chain(repeating).collect::<Vec<_>>()
        };
        let horizon = shared.horizon().0;
        let next = model.lanes.values().flat_map(due).filter(|due| *due > horizon).min();
        assert_eq!(shared.next_due().map(|due| due.0), next);
        for (generation, lane) in &model.lanes {
            check_lane(&shared, Generation(*generation), lane);
        }
    }
}

impl Node {
    fn wait<T>(&mut self, reply: &mut oneshot::Receiver<T>) -> T {
        loop {
            match reply.try_recv() {
                Ok(answer) => return answer,
                Err(TryRecvError::Closed) => panic!("nobody answers"),
                Err(TryRecvError::Empty) => {}
            }
            // Refusals come without a group.
            if let Ok(ToFold::Group(group)) = self.inbox.recv_timeout(Duration::from_millis(2)) {
                self.apply(group);
            }
        }
    }

    fn apply(&mut self, group: Vec<Flushed<Stamped>>) {
        for Flushed { record, sealed } in group {
            if let Some(at) = record {
                self.last = at.position;
            }
            self.applier.apply(record, sealed);
        }
    }
}

/// The whole journal, as its readers see it.
pub(super) fn journal(shared: &Shared) -> Vec<Reading> {
    let mut readings = Vec::new();
    let mut next = shared.journal.of(TenantId::MAIN).first();
    while let Some(chunk) = shared.journal.of(TenantId::MAIN).chunk_from(next).unwrap() {
        let names = shared.points.names();
        let first = chunk.row_after(Sequence(next.0 - 1));
        let rows: Vec<_> = (first..chunk.len()).map(|row| chunk.row(row)).collect();
        assert!(!rows.is_empty(), "a chunk holds what it was asked for");
        for row in rows {
            assert_eq!(row.sequence, next);
            next = next.next();
            readings.push(Reading {
                path: names.path_of_reading(row.point).map(ToString::to_string).unwrap_or_default(),
                at: row.at.0,
                quality: row.quality,
                value: row.value.into(),
                time: row.time.0,
                hops: row.hops,
                origin: row.origin.0,
            });
        }
    }
    readings
}

fn check_latest(shared: &Shared, model: &Model) {
    for (index, path) in model.points.iter().enumerate() {
        let Some(path) = path else { continue };
        let number = shared.points.names().find(TenantId::MAIN, path).unwrap();
        assert_eq!(number.0 as usize, index, "{path}");
        let Some((sequence, reading)) = model.latest_of(index) else {
            assert_eq!(shared.points.latest(number), None, "{path} has no reading");
            continue;
        };
        let (latest, value) = shared.points.latest(number).unwrap();
        assert_eq!((latest.sequence.0, latest.at.0, latest.quality), (sequence, reading.at, reading.quality));
        let expected = match &reading.value {
            Value::Text(text) if text.len() > 64 => LatestValue::InJournal,
            value => LatestValue::Known(value.clone()),
        };
        assert_eq!(value, expected, "{path}");
    }
}

fn check_letters(shared: &Shared, generation: Generation, model: &super::model::Lane) {
    for number in 0..model.meta.next_dead_letter + 2 {
        let letter = shared.dead_letter(generation, number).unwrap();
        assert_eq!(letter.as_ref(), model.dead_letters.get(&number), "dead letter {number}");
    }
    let (excess, without) = (Excess { letters: 2, bytes: 3 * 256 + 100 }, [model.meta.next_dead_letter / 2]);
    let (mut expected, mut bytes) = (Vec::new(), 0);
    for letter in model.dead_letters.values().filter(|letter| letter.number != without[0]) {
        if expected.len() < 2 || bytes < excess.bytes {
            bytes += letter.cost();
            expected.push(Oldest { number: letter.number, cost: letter.cost() });
        }
    }
    assert_eq!(shared.oldest_dead_letters(generation, &mut 0, excess, &without).unwrap(), expected);
}

/// The state of a lane, as pages of a scan show it.
fn by_pages(shared: &Shared, lane: &Durable) -> BTreeMap<String, Bytes> {
    let mut state = BTreeMap::new();
    let mut after: Option<Box<str>> = None;
    loop {
        let scan = Scan { prefix: "", after: after.as_deref(), limit: 3, max_bytes: 300 };
        let page = scan_state(lane, &*shared.storage, scan).unwrap();
        // A page is full unless it is the last one: it doesn't tell what a checkpoint has written by now.
        let bytes: usize = page.entries.iter().map(|(key, value)| key.len() + value.len()).sum();
        assert!(!page.more || page.entries.len() == 3 || bytes >= 300);
        after = page.entries.last().map(|(key, _)| key.clone()).or(after);
        state.extend(page.entries.into_iter().map(|(key, value)| (key.to_string(), value)));
        if !page.more {
            break;
        }
    }
    state
}

fn check_lane(shared: &Arc<Shared>, generation: Generation, model: &super::model::Lane) {
    let lane = shared.lanes.of_generation(generation).unwrap();
    assert_eq!(lane.id.as_str(), model.id);
    assert_eq!(lane.installation().standing, model.standing);
    {
        let book = lane.book();
        assert_eq!(*book.meta(), model.meta, "generation {generation}");
        let timers: BTreeMap<String, (u64, u64)> =
            book.timers().iter().map(|(name, set)| (name.to_string(), (set.due.0, set.asked.0))).collect();
        assert_eq!(timers, model.timers);
        let alarms: BTreeMap<String, _> =
            book.alarms().iter().map(|((_, entity), alarm)| (entity.to_string(), alarm.clone())).collect();
        assert_eq!(alarms, model.alarms);
    }
    // By pages, and key by key.
    assert_eq!(by_pages(shared, &lane), model.state, "generation {generation}");
    let log = InstallationLog::new(&Arc::new(AppLogs::new(std::env::temp_dir())), "none");
    let context = LaneContext {
        lane: Arc::new(Lane::new(Arc::clone(&lane), log)),
        term: lane.newest(),
        storage: Arc::clone(&shared.storage),
        points: Arc::clone(&shared.points),
        metrics: Arc::clone(&shared.metrics),
        firing: None,
    };
    let keys: Vec<Box<str>> = (0..10).map(|key| super::history::key(key).into()).collect();
    let named: Keys = keys.iter().map(|key| &**key).collect();
    let mut unknown = 0;
    context.cached(&named, 0, &mut |_, cached| {
        unknown += u64::from(cached == Cached::Unknown);
        true
    });
    let misses = shared.metrics.state_misses.get();
    let loaded = wait(context.load(&keys, &Meter::unlimited())).unwrap();
    assert_eq!(shared.metrics.state_misses.get(), misses + unknown);
    for (key, value) in keys.iter().zip(loaded) {
        assert_eq!(value.as_ref(), model.state.get(&**key), "{key} of generation {generation}");
        context.cached(&Keys::one(&**key), 0, &mut |_, cached| {
            match cached {
                Cached::Known(known, _) => assert_eq!(known, value.as_deref(), "{key}"),
                Cached::Unknown => {}
            }
            true
        });
    }
    check_letters(shared, generation, model);
    past::check(shared, &lane, model);
    past::check_invocations(shared, generation, model);
}
