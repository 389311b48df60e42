//! The threads: checkpoints by themselves, and room again after them.

use std::path::Path;
use std::sync::Arc;
use std::sync::mpsc::channel;
use std::time::{Duration, Instant};

use tokio::sync::oneshot;

use super::cut::Cuttable;
use super::world::{World, open_folder};
use crate::fold::open::Opened;
use crate::fold::run::{Parts, Threads, Thresholds, start};
use crate::fold::sealer::Numberer;
use crate::fold::submission::{AdminSubmission, ReadingsSubmission, Submission};
use crate::fold::{FoldPosition, Shared};
use crate::records::admin::AdminRecord;
use crate::records::readings::ReadingsHead;
use ironloom_storage::log::CommitterHandle;
use ironloom_storage::store::{EngineKind, Key, Kind, Scope, Storage};
use ironloom_types::clock::Timestamp;
use ironloom_types::ids::{Generation, InstallationId, PointNumber, PointPath};
use ironloom_types::readings::{Columns, NewPoint, Quality, ValueRef};

struct Running {
    shared: Arc<Shared>,
    storage: Arc<Cuttable>,
    committer: CommitterHandle<Submission>,
    threads: Threads,
}

fn run(folder: &Path, thresholds: Thresholds) -> Running {
    let (storage, opened) = open_folder(folder, EngineKind::Redb, Arc::new(()));
    let Opened { shared, applier, log, numbers, epoch, fold, .. } = opened;
    let (to_fold, inbox) = channel();
    let (clock, points) = (Arc::clone(&shared.clock), Arc::clone(&shared.points));
    let numberer =
        Numberer::new(clock, points, numbers, to_fold.clone(), Box::new(|error| panic!("{error}")));
    let committer = log.start(numberer).unwrap();
    let parts = Parts {
        shared: Arc::clone(&shared),
        applier,
        log: committer.reader(),
        position: fold.position,
        epoch,
        thresholds,
        on_failure: Box::new(|error| panic!("{error}")),
    };
    let threads = start(parts, &to_fold, inbox).unwrap();
    Running { shared, storage, committer, threads }
}

impl Running {
    fn push(&self, paths: &[String]) {
        let (mut new_points, mut columns) = (Vec::new(), Columns::default());
        for path in paths {
            columns.push(
                PointNumber::pending(new_points.len()),
                Timestamp(1),
                Quality::Good,
                ValueRef::Real(1.0),
            );
            new_points.push(NewPoint { path: PointPath::new(path).unwrap(), unit: None });
        }
        let (reply, durable) = oneshot::channel();
        let submission = ReadingsSubmission { head: ReadingsHead::default(), new_points, columns, reply };
        let submission = Submission::Readings(submission);
        let bound = submission.max_len();
        self.committer.submit(submission, bound).map_err(|refused| refused.error).unwrap();
        durable.blocking_recv().unwrap().unwrap();
    }

    fn position(&self) -> FoldPosition {
        let found = self.storage.get_many(&[Key::folded()]).unwrap();
        postcard::from_bytes(found[0].as_ref().unwrap()).unwrap()
    }

    fn stop(self) {
        self.committer.stop().unwrap();
        self.threads.join();
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
    let running =
        run(folder.path(), Thresholds { log_bytes: 1 << 30, dirty_bytes: 4_000, cache_bytes: 1 << 20 });
    // Each count may come before the last of these; from then on nobody writes.
    for round in 0..40 {
        let paths: Vec<String> = (0..60).map(|n| format!("a/{round}/{n}")).collect();
        running.push(&paths);
    }
    until("the fold has room again", || running.shared.has_room() && running.shared.dirty() < 4_000 / 2);
    assert!(running.position().points > 0, "a checkpoint was made");
    running.stop();
}

#[test]
fn a_checkpoint_waits_for_room_on_the_disk_and_then_ends() {
    let folder = tempfile::tempdir().unwrap();
    let running =
        run(folder.path(), Thresholds { log_bytes: 1 << 30, dirty_bytes: 4_000, cache_bytes: 1 << 20 });
    running.storage.fill(5);
    for round in 0..40 {
        let paths: Vec<String> = (0..60).map(|n| format!("a/{round}/{n}")).collect();
        running.push(&paths);
    }
    until("a checkpoint is made", || running.position().points > 0);
    assert!(running.storage.has_room(), "it was tried until there was room");
    running.stop();
}

#[test]
fn one_checkpoint_follows_when_the_log_has_grown_and_not_another_at_once() {
    let folder = tempfile::tempdir().unwrap();
    let thresholds = Thresholds { log_bytes: 512 << 10, dirty_bytes: 1 << 30, cache_bytes: 1 << 20 };
    let running = run(folder.path(), thresholds);
    // 300 records of 3 KB: beyond 512 KB once, and never twice as much.
    let paths: Vec<String> = (0..100).map(|n| format!("farm/{n}")).collect();
    for _ in 0..300 {
        running.push(&paths);
    }
    until("a checkpoint is made", || running.position().position.0 > 0);
    std::thread::sleep(Duration::from_millis(100));
    assert_eq!(running.storage.positions(), 2, "one at the start, and one checkpoint");
    running.stop();
}

#[test]
fn what_a_purged_installation_kept_goes_though_nobody_writes_any_more() {
    let mut world = World::new(EngineKind::Redb);
    world.install(0, &["a"], true);
    world.commit_something();
    world.checkpoint(None);
    // Some of it is in the store, some only in the log.
    world.commit_something();
    let folder = world.into_folder();
    let thresholds = Thresholds { log_bytes: 1 << 30, dirty_bytes: 1 << 30, cache_bytes: 1 << 20 };
    let running = run(folder.path(), thresholds);
    let kept = |running: &Running| {
        let kinds = [Kind::State, Kind::Timer, Kind::Alarm, Kind::DeadLetter, Kind::Invocation];
        let count = |kind| {
            let range = Scope::MAIN.generation(kind, Generation(1));
            running.storage.scan(&range, None, 50).unwrap().entries.len()
        };
        kinds.map(count)
    };
    assert!(kept(&running).iter().all(|count| *count > 0));
    let (reply, done) = oneshot::channel();
    let id = InstallationId::new("lane-0").unwrap();
    let record = AdminRecord::Uninstalled { id, generation: Generation(1), at: Timestamp(1), purge: true };
    let submission = Submission::Admin(Box::new(AdminSubmission { record, reply }));
    let bound = submission.max_len();
    running.committer.submit(submission, bound).map_err(|refused| refused.error).unwrap();
    done.blocking_recv().unwrap().unwrap();
    until("it is purged", || running.shared.removed.lock().is_empty());
    assert_eq!(kept(&running), [0; 5]);
    running.stop();
    // The next checkpoint forgets the generation itself.
    let (_, opened) = open_folder(folder.path(), EngineKind::Redb, Arc::new(()));
    assert!(opened.shared.lanes.all().is_empty());
    assert_eq!(opened.shared.last_generation(), Generation(1));
}
