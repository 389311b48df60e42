//! The threads: checkpoints by themselves, and room again after them.

mod copies;
mod gone;
mod new_points;
mod stop;

use std::path::Path;
use std::sync::Arc;
use std::sync::mpsc::channel;
use std::time::{Duration, Instant};

use bytes::Bytes;
use tokio::sync::oneshot;

use super::cut::{Cut, Cuttable};
use super::history::{Row, adopting, head, installed, uninstalled};
use super::machine::{config, open_folder, open_folder_with};
use super::readings_of;
use super::world::World;
use crate::fold::checkpoint::CheckpointError;
use crate::fold::durable::Durable;
use crate::fold::open::Opened;
use crate::fold::run::{Parts, Threads, Thresholds, start};
use crate::fold::sealer::Numberer;
use crate::fold::submission::{self, Accepted, CommitSubmission, Refusal, Submission};
use crate::fold::{FoldPosition, Shared};
use crate::records::admin::AdminRecord;
use crate::records::commit::{self, StateChanges};
use crate::records::lane::LaneMeta;
use crate::records::readings::{Idempotency, ReadingsHead};
use ironloom_storage::log::{CommitterHandle, LogError, Room};
use ironloom_storage::store::{EngineKind, Item, Key, KeyKind, KeyRange, Storage};
use ironloom_types::clock::Timestamp;
use ironloom_types::ids::{Generation, InstallationId, PointNumber, PointPath, Sequence, TenantId};
use ironloom_types::readings::{Columns, NewPoint, Quality, Value, ValueRef};

/// No checkpoint for its size or age.
const NEVER: Thresholds = Thresholds {
    log_bytes: 1 << 30,
    dirty_bytes: 1 << 30,
    cache_bytes: 1 << 20,
    at_least_every: Duration::from_secs(3600),
    at_stop: Duration::from_secs(3600),
};

struct Running {
    shared: Arc<Shared>,
    storage: Arc<Cuttable>,
    committer: CommitterHandle<Submission>,
    threads: Threads,
}

fn run(folder: &Path, thresholds: Thresholds) -> Running {
    run_with(folder, thresholds, Box::new(|error| panic!("{error}")))
}

/// A checkpoint may fail.
fn run_to_be_killed(folder: &Path, thresholds: Thresholds) -> Running {
    run_with(folder, thresholds, Box::new(|_| ()))
}

fn run_with(
    folder: &Path,
    thresholds: Thresholds,
    on_failure: Box<dyn Fn(&CheckpointError) + Send>,
) -> Running {
    let (storage, opened) = open_folder(folder, EngineKind::Redb, Arc::new(()));
    let Opened { shared, applier, log, numbers, epoch, fold, position, .. } = opened;
    let (to_fold, inbox) = channel();
    let (clock, points) = (Arc::clone(&shared.clock), Arc::clone(&shared.points));
    let (log_sync, failed) =
        (shared.metrics.log_sync.clone(), Box::new(|error: &LogError| panic!("{error}")));
    let numberer = Numberer::new(clock, points, numbers, to_fold.clone(), log_sync, failed);
    let committer = log.start(numberer).unwrap();
    let parts = Parts {
        shared: Arc::clone(&shared),
        applier,
        log: committer.reader(),
        folded: fold.position,
        applied: position,
        epoch,
        thresholds,
        on_failure,
    };
    let threads = start(parts, &to_fold, inbox).unwrap();
    Running { shared, storage, committer, threads }
}

impl Running {
    fn push(&self, paths: &[String]) {
        self.submit(paths).blocking_recv().unwrap().unwrap();
    }

    /// Pushes under so many keys of requests: each is kept in memory until a checkpoint has written it.
    fn push_keys(&self, keys: u8) {
        for key in 0..keys {
            let idempotency = Some(Idempotency { key: [key; 16], request: [key; 16] });
            let head = ReadingsHead { idempotency, ..ReadingsHead::default() };
            self.submit_with(head, &[format!("a/{key}")]).blocking_recv().unwrap().unwrap();
        }
    }

    fn submit(&self, paths: &[String]) -> oneshot::Receiver<Result<Accepted, Refusal>> {
        self.submit_with(ReadingsHead::default(), paths)
    }

    fn submit_with(
        &self,
        head: ReadingsHead,
        paths: &[String],
    ) -> oneshot::Receiver<Result<Accepted, Refusal>> {
        let (mut new_points, mut columns) = (Vec::new(), Columns::default());
        for path in paths {
            columns.push(
                PointNumber::pending(new_points.len()),
                Timestamp(1),
                Quality::Good,
                ValueRef::Real(1.0),
            );
            new_points.push(NewPoint { path: PointPath::new(TenantId::MAIN, path).unwrap(), unit: None });
        }
        let (submission, durable) = readings_of(head, new_points, columns, None);
        let bound = submission.max_len();
        self.committer.submit(submission, bound).map_err(|refused| refused.error).unwrap();
        durable
    }

    /// A commit of a lane that sets these keys.
    fn commit(&self, lane: &Durable, meta: &mut LaneMeta, keys: impl Iterator<Item = String>) {
        self.commit_values(lane, meta, keys.map(|key| (key, Bytes::from_static(b"x"))));
    }

    fn commit_values(
        &self,
        lane: &Durable,
        meta: &mut LaneMeta,
        values: impl Iterator<Item = (String, Bytes)>,
    ) {
        meta.attempts = 1;
        let mut head = head(lane.generation.0, lane.id.as_str(), meta);
        meta.ordinal = head.invocation.ordinal;
        meta.attempts = 0;
        head.meta = meta.clone();
        let state: StateChanges = values.map(|(key, value)| (key, Some(value))).collect();
        let mut encoded = Vec::new();
        commit::encode_effects(&head, &state, &mut encoded);
        let (reply, durable) = oneshot::channel();
        let (new_points, derived) = (Vec::new(), Columns::default());
        let commit = CommitSubmission { head, state, encoded, new_points, derived, place: None, reply };
        let submission = Submission::Commit(Box::new(commit));
        let bound = submission.max_len();
        self.committer.submit(submission, bound).map_err(|refused| refused.error).unwrap();
        durable.blocking_recv().unwrap().unwrap();
    }

    fn uninstall(&self, id: &str, generation: u64) {
        self.remove(id, generation, true);
    }

    fn remove(&self, id: &str, generation: u64, purge: bool) {
        self.admin(uninstalled(id, generation, Timestamp(1), purge));
    }

    fn admin(&self, record: AdminRecord) {
        submission::submit(&self.committer, record, None).unwrap().blocking_recv().unwrap().unwrap();
    }

    fn stored(&self, kind: KeyKind, generation: u64) -> usize {
        let range = KeyRange::generation(kind, Generation(generation));
        self.storage.scan(&range, None, 200_000).unwrap().entries.len()
    }

    fn position(&self) -> FoldPosition {
        let found = self.storage.get_many(&[Key::folded()]).unwrap();
        postcard::from_bytes(found[0].as_ref().unwrap()).unwrap()
    }

    fn stop(self) {
        self.committer.stop().unwrap();
        self.threads.join().unwrap();
    }

    /// Ends without a last checkpoint.
    fn kill(self) {
        self.storage.cut(Cut { applies: 0, changes: 0 });
        self.committer.stop().unwrap();
        self.threads.join().unwrap_err();
    }
}

fn until(what: &str, mut done: impl FnMut() -> bool) {
    let start = Instant::now();
    while !done() {
        assert!(start.elapsed() < Duration::from_secs(20), "{what}");
        std::thread::sleep(Duration::from_millis(2));
    }
}

#[test]
fn a_full_memory_has_room_again_without_anybody_writing() {
    let folder = tempfile::tempdir().unwrap();
    let running = run(folder.path(), Thresholds { dirty_bytes: 4_000, ..NEVER });
    // Each count may come before the last of these; from then on nobody writes.
    running.push_keys(60);
    until("the fold has room again", || running.shared.dirty() < 4_000 / 4 * 3);
    assert!(running.position().points > 0, "a checkpoint was made");
    running.stop();
}

#[test]
fn a_checkpoint_waits_for_room_on_the_disk_and_then_ends() {
    let folder = tempfile::tempdir().unwrap();
    let running = run(folder.path(), Thresholds { dirty_bytes: 4_000, ..NEVER });
    running.storage.fill(5);
    running.push_keys(60);
    until("a checkpoint is made", || running.position().points > 0);
    assert!(running.storage.has_room(), "it was tried until there was room");
    running.stop();
}

#[test]
fn a_checkpoint_without_room_gets_the_logs_last_free_segment() {
    let folder = tempfile::tempdir().unwrap();
    let running = run(folder.path(), Thresholds { dirty_bytes: 4_000, ..NEVER });
    let free = || {
        let names = std::fs::read_dir(folder.path().join("log")).unwrap();
        names.filter(|name| name.as_ref().unwrap().file_name().to_string_lossy().ends_with(".free")).count()
    };
    until("segments are made ahead", || free() > 0);
    running.committer.reader().set_scarce(true).unwrap();
    until("all are given back but the start's", || free() == 1);
    running.storage.fill(1);
    running.push_keys(60);
    until("a checkpoint is made", || running.position().points > 0);
    assert_eq!(free(), 0);
    running.stop();
}

#[test]
fn what_is_owed_goes_with_the_checkpoint_that_writes_it() {
    let folder = tempfile::tempdir().unwrap();
    let running = run(folder.path(), Thresholds { log_bytes: 512 << 10, ..NEVER });
    let owed = || running.shared.owed(running.committer.bytes_since(running.shared.folded()));
    let before = owed();
    let paths: Vec<String> = (0..60).map(|n| format!("a/{n}")).collect();
    running.push(&paths);
    // The readings in the log, and twice the keys of their points.
    let text: usize = paths.iter().map(String::len).sum();
    assert!(owed() > before + 60 * 8 + 2 * text as u64, "{} after {before}", owed());
    let mut most = 0;
    until("a checkpoint is made", || {
        running.push(&paths);
        most = most.max(owed());
        running.position().position.0 > 0
    });
    // It folds a quarter, and of that the log's bytes are owed no more.
    until("what it wrote is owed no more", || owed() < most - (512 << 10) / 8);
    running.stop();
}

#[test]
fn a_checkpoint_waits_for_room_for_its_blocks_and_then_ends() {
    let mut world = World::simulated(1);
    world.push(&[Row { path: 0, value: Value::Real(1.0), at: 51 }], None, None);
    world.pump();
    let disk = world.disk();
    disk.set_full(true);
    let makes_room = std::thread::spawn(move || {
        until("the checkpoint looks again", || disk.refusals() > 2);
        disk.set_full(false);
    });
    world.checkpoint(None);
    makes_room.join().unwrap();
    world.restart();
    assert_eq!(world.shared().journal.of(TenantId::MAIN).last(), Sequence(1));
}

#[test]
fn a_checkpoint_folds_the_oldest_of_the_log_and_no_more() {
    const LOG: u64 = 512 << 10;
    let folder = tempfile::tempdir().unwrap();
    let running = run(folder.path(), Thresholds { log_bytes: LOG, ..NEVER });
    let unfolded = || running.committer.bytes_since(running.shared.folded());
    // 600 records of about 3 KB.
    let paths: Vec<String> = (0..100).map(|n| format!("farm/{n}")).collect();
    for _ in 0..600 {
        running.push(&paths);
    }
    until("checkpoints keep up", || unfolded() < LOG);
    std::thread::sleep(Duration::from_millis(100));
    assert!(unfolded() > LOG / 2, "{} of the log wait, and a quarter was folded at a time", unfolded());
    running.stop();
}

/// A folder whose log has grown beyond what pushes may use, without a checkpoint.
fn full_folder() -> tempfile::TempDir {
    let mut world = World::new(EngineKind::Redb);
    let rows: Vec<Row> =
        (0..1_000).map(|n| Row { path: (n % 7) as u8, value: Value::Real(1.0), at: 51 }).collect();
    for _ in 0..360 {
        world.push(&rows, None, None);
    }
    world.pump();
    world.into_folder()
}

#[test]
fn a_restart_with_a_full_log_makes_room_though_nothing_can_come() {
    let folder = full_folder();
    let running = run(folder.path(), NEVER);
    until("pushes have room again", || running.committer.room() == Room::All);
    running.push(&["a/a0".to_owned()]);
    running.stop();
}

#[test]
fn what_was_folded_before_a_restart_takes_no_room() {
    let folder = full_folder();
    run(folder.path(), NEVER).stop();
    // All of it is folded, and most of it lies in files that a smaller log has no room for.
    let mut config = config();
    config.log.max_bytes = config.log.commit_reserve + config.log.segment_bytes;
    let (_, opened) = open_folder_with(folder.path(), EngineKind::Redb, &config, Arc::new(()));
    assert_eq!(opened.log.reader().room(), Room::All);
}

#[test]
fn stretches_end_by_what_waits_however_often_checkpoints_have_made_room() {
    let mut world = World::new(EngineKind::Redb);
    world.install(0, &["a"], true);
    let folder = world.into_folder();
    let running = run(folder.path(), Thresholds { dirty_bytes: 400_000, ..NEVER });
    let lane = running.shared.lanes.of_generation(Generation(1)).unwrap();
    let before = running.storage.positions();
    let mut meta = lane.book().meta().clone();
    // As much as may wait, all the time: new keys, and one that is the same with each commit.
    for commit in 0.. {
        until("there is room", || running.shared.has_room_for(&lane));
        let new = (0..50).map(|key| format!("new/{commit:06}/{key}"));
        running.commit(&lane, &mut meta, new.chain(["hot".to_owned()]));
        if running.storage.positions() - before >= 10 {
            break;
        }
    }
    let hot = Item::State(Generation(1), "hot").key();
    let new = Item::State(Generation(1), "new/000000/0").key();
    let stored = running.storage.get_many(&[hot, new]).unwrap();
    assert!(stored[1].is_some());
    assert!(stored[0].is_none(), "a checkpoint was one of all, and everybody waits for that");
    running.stop();
}

#[test]
fn lives_that_end_uncleanly_pile_up_no_files() {
    let folder = tempfile::tempdir().unwrap();
    let segment = config().log.segment_bytes;
    for life in 0..20 {
        let running = run_to_be_killed(folder.path(), Thresholds { log_bytes: 4 * segment, ..NEVER });
        // Four from before, and the one that this life has begun.
        until("files are given back", || running.committer.stats().segments <= 5);
        assert!(running.committer.stats().used_bytes <= 5 * segment);
        running.push(&[format!("farm/{life}")]);
        running.kill();
    }
}

#[test]
fn a_nearly_full_disk_gets_back_what_is_folded() {
    let folder = tempfile::tempdir().unwrap();
    for life in 0..3 {
        let running = run_to_be_killed(folder.path(), NEVER);
        running.push(&[format!("farm/{life}")]);
        running.kill();
    }
    let running = run(folder.path(), NEVER);
    assert_eq!(running.committer.stats().segments, 4);
    running.shared.set_disk_full(true);
    until("files are given back", || running.committer.stats().segments == 1);
    let positions = running.storage.positions();
    std::thread::sleep(Duration::from_millis(1_500));
    assert_eq!(running.storage.positions(), positions, "nothing to give back, no checkpoint");
    running.stop();
}

#[test]
fn a_stop_makes_a_checkpoint_so_that_a_restart_has_nothing_to_do() {
    let folder = tempfile::tempdir().unwrap();
    let running = run(folder.path(), NEVER);
    running.push(&["farm/1".to_owned(), "farm/2".to_owned()]);
    running.stop();
    let (_, opened) = open_folder(folder.path(), EngineKind::Redb, Arc::new(()));
    assert_eq!((opened.replayed, opened.fold.points), (0, 2));
}

#[test]
fn a_stop_whose_checkpoint_fails_says_so() {
    let folder = tempfile::tempdir().unwrap();
    let (failed, failure) = channel();
    let on_failure = Box::new(move |error: &CheckpointError| failed.send(error.to_string()).unwrap());
    let running = run_with(folder.path(), NEVER, on_failure);
    running.push(&["farm/1".to_owned()]);
    running.storage.cut(Cut { applies: 0, changes: 0 });
    running.committer.stop().unwrap();
    let error = running.threads.join().unwrap_err().to_string();
    assert_eq!(failure.recv().unwrap(), error);
    drop(running.shared);
    drop(running.storage);
    let (_, opened) = open_folder(folder.path(), EngineKind::Redb, Arc::new(()));
    assert_eq!(opened.replayed, 1, "the log has it all the same");
}

#[test]
fn a_little_is_written_too_once_it_is_old() {
    let folder = tempfile::tempdir().unwrap();
    let running = run(folder.path(), Thresholds { at_least_every: Duration::from_millis(50), ..NEVER });
    running.push(&["farm/1".to_owned()]);
    until("the one reading is in the store", || running.position().points == 1);
    let positions = running.storage.positions();
    std::thread::sleep(Duration::from_millis(2_500));
    assert_eq!(running.storage.positions(), positions, "nothing new, no checkpoint");
    running.stop();
}
