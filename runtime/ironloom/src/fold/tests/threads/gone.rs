//! What installations that are gone leave behind, and how it goes.

use super::*;
use crate::lanes::context::scan_state;
use crate::records::intent::{Driven, Ended, Outcome, Settled, Told};
use crate::records::readings::Receipt;
use ironloom_sandbox::Scan;
use ironloom_types::ids::{SlotName, TenantId};
use ironloom_types::readings::Value;

#[test]
fn what_a_purged_installation_kept_goes_though_nobody_writes_any_more() {
    let mut world = World::new(EngineKind::Redb);
    world.install(0, &["a"], true);
    world.commit_something();
    world.checkpoint(None);
    // Some of it is in the store, some only in the log.
    world.commit_something();
    let folder = world.into_folder();
    let running = run(folder.path(), NEVER);
    let kept = |running: &Running| {
        let kinds =
            [KeyKind::State, KeyKind::Timer, KeyKind::Alarm, KeyKind::DeadLetter, KeyKind::Invocation];
        kinds.map(|kind| running.stored(kind, 1))
    };
    assert!(kept(&running).iter().all(|count| *count > 0));
    running.uninstall("lane-0", 1);
    until("it is purged", || running.shared.removed.lock().is_empty());
    assert_eq!(kept(&running), [0; 5]);
    running.stop();
    // The next checkpoint forgets the generation itself.
    let (_, opened) = open_folder(folder.path(), EngineKind::Redb, Arc::new(()));
    assert!(opened.shared.lanes.all().is_empty());
    assert_eq!(opened.shared.last_generation(TenantId::MAIN), Generation(1));
}

#[test]
fn what_is_gone_goes_with_the_checkpoint_of_its_stretch_and_asks_for_none() {
    let mut world = World::new(EngineKind::Redb);
    world.install(0, &["a"], true);
    world.commit_something();
    let folder = world.into_folder();
    let running = run(folder.path(), Thresholds { log_bytes: 256 << 10, ..NEVER });
    let lane = Arc::downgrade(&running.shared.lanes.of_generation(Generation(1)).unwrap());
    let before = running.storage.positions();
    running.remove("lane-0", 1, false);
    std::thread::sleep(Duration::from_millis(100));
    assert_eq!(running.storage.positions(), before, "a checkpoint of all for each would be dear");
    let paths: Vec<String> = (0..100).map(|n| format!("farm/{n}")).collect();
    until("its memory is given back", || {
        running.push(&paths);
        lane.strong_count() == 0
    });
    assert!(running.stored(KeyKind::State, 1) > 0, "its state is kept for a week");
    running.stop();
}

#[test]
fn many_that_are_gone_wait_for_no_stretch() {
    let mut world = World::new(EngineKind::Redb);
    world.install(0, &["a"], true);
    let folder = world.into_folder();
    let running = run(folder.path(), NEVER);
    let lane = Arc::downgrade(&running.shared.lanes.of_generation(Generation(1)).unwrap());
    running.remove("lane-0", 1, false);
    for generation in 2..1_001 {
        running.admin(installed("lane-0", generation, &["a"]));
        running.remove("lane-0", generation, false);
    }
    until("their memory is given back", || lane.strong_count() == 0);
    running.stop();
}

#[test]
fn one_purge_makes_one_checkpoint() {
    let folder = folder_with_keys(3, 5_000);
    let running = run(folder.path(), NEVER);
    *running.storage.slow_removal.lock() = Duration::from_millis(100);
    let before = running.storage.positions();
    running.uninstall("lane-0", 1);
    until("it is purged", || running.shared.removed.lock().is_empty());
    std::thread::sleep(Duration::from_millis(100));
    assert_eq!(running.storage.positions() - before, 1);
    running.stop();
}

/// A folder with installations, the first of which has so many keys of state in the store.
fn folder_with_keys(installations: u8, keys: usize) -> tempfile::TempDir {
    let mut world = World::new(EngineKind::Redb);
    for slot in 0..installations {
        world.install(slot, &["a"], true);
    }
    // No more than a record holds.
    for first in (0..keys).step_by(30_000) {
        world.commit_keys_from(1, first..(first + 30_000).min(keys));
    }
    world.checkpoint(None);
    world.into_folder()
}

/// A folder with an installation that has left something of each kind and a point, and another one.
fn folder_to_purge() -> tempfile::TempDir {
    let mut world = World::new(EngineKind::Redb);
    world.install(0, &["a"], true);
    world.install(1, &["a"], true);
    world.commit_something();
    world.checkpoint(None);
    world.into_folder()
}

#[test]
fn what_was_kept_goes_with_a_later_purge() {
    let folder = folder_to_purge();
    let id = InstallationId::new(TenantId::MAIN, "lane-0").unwrap();
    let running = run(folder.path(), NEVER);
    let own = |running: &Running| running.shared.points.names().of_outputs(&id).len();
    running.push(&["apps/lane-0/out/1".to_owned(), "apps/lane-1/out/1".to_owned()]);
    running.remove("lane-0", 1, false);
    running.stop();

    let running = run_to_be_killed(folder.path(), NEVER);
    assert!(running.stored(KeyKind::State, 1) > 0);
    assert_eq!(own(&running), 1);
    running.admin(AdminRecord::Purged { id: id.clone(), generations: vec![Generation(1)], points: true });
    assert_eq!(own(&running), 0);
    until("it is purged", || running.shared.removed.lock().is_empty());
    assert_eq!(running.stored(KeyKind::State, 1), 0);
    running.kill();

    let running = run(folder.path(), NEVER);
    assert_eq!((own(&running), running.shared.points.names().count()), (0, 1));
    running.stop();
}

#[test]
fn a_purge_takes_along_what_earlier_installations_of_its_id_have_kept() {
    let folder = folder_to_purge();
    let running = run(folder.path(), NEVER);
    running.remove("lane-0", 1, false);
    running.remove("lane-1", 2, false);
    running.admin(installed("lane-0", 3, &["a"]));
    running.uninstall("lane-0", 3);
    let left = || running.shared.removed.lock().keys().copied().collect::<Vec<_>>();
    until("both are purged", || left() == [Generation(2)]);
    assert_eq!(running.stored(KeyKind::State, 1), 0);
    running.stop();
}

#[test]
fn a_point_takes_the_place_of_one_that_is_purged_now_as_after_a_restart() {
    let folder = folder_to_purge();
    let running = run(folder.path(), NEVER);
    running.push(&["apps/lane-0/out/5".to_owned(), "a/5".to_owned(), "a/6".to_owned()]);
    running.admin(installed("reader", 3, &["apps/lane-0/out", "a"]));
    let routes = |running: &Running| {
        let lane = running.shared.lanes.of_generation(Generation(3)).unwrap().number;
        let names = running.shared.points.names();
        let routing = running.shared.routing.read();
        let is_read = |path: &str| {
            let number = names.find(TenantId::MAIN, path)?;
            Some(routing.matches(number).iter().any(|found| found.lane() == lane))
        };
        let read = ["apps/lane-0/out/5", "a/5", "a/6"].map(is_read);
        (read, running.shared.left_out.of(lane).count)
    };
    assert_eq!(routes(&running), ([Some(true), Some(false), Some(true)], 1));
    running.uninstall("lane-0", 1);
    assert_eq!(routes(&running), ([None, Some(true), Some(true)], 0));
    running.stop();
    let running = run(folder.path(), NEVER);
    assert_eq!(routes(&running), ([None, Some(true), Some(true)], 0));
    running.stop();
}

#[test]
fn a_purge_looks_at_other_lanes_only_with_a_checkpoint() {
    let folder = folder_with_keys(2, 5_000);
    let running = run(folder.path(), NEVER);
    *running.storage.slow_removal.lock() = Duration::from_millis(200);
    running.uninstall("lane-0", 1);
    until("the purge has begun", || running.stored(KeyKind::State, 1) < 5_000);
    let other = running.shared.lanes.of_generation(Generation(2)).unwrap();
    let state = other.state.write();
    until("it goes on", || running.shared.removed.lock().is_empty());
    drop(state);
    running.stop();
}

#[test]
fn neither_a_checkpoint_nor_a_stop_waits_for_a_purge() {
    let folder = folder_with_keys(1, 30_000);
    let running = run(folder.path(), Thresholds { log_bytes: 64 << 10, ..NEVER });
    // 30 steps: a minute in all.
    *running.storage.slow_removal.lock() = Duration::from_secs(2);
    running.uninstall("lane-0", 1);
    let before = running.position().position;
    let paths: Vec<String> = (0..500).map(|n| format!("farm/{n}")).collect();
    for _ in 0..40 {
        running.push(&paths);
    }
    until("a checkpoint is made in between", || running.position().points == 500);
    assert!(running.position().position > before);
    *running.storage.slow_removal.lock() = Duration::from_millis(500);
    let storage = Arc::clone(&running.storage);
    running.stop();
    let range = KeyRange::generation(KeyKind::State, Generation(1));
    assert!(
        !storage.scan(&range, None, 1).unwrap().entries.is_empty(),
        "the stop was before the purge's end"
    );
    drop(storage);
    let running = run(folder.path(), NEVER);
    until("the next start purges the rest", || running.shared.removed.lock().is_empty());
    assert_eq!(running.stored(KeyKind::State, 1), 0);
    running.stop();
}

#[test]
fn a_purge_that_is_killed_between_its_steps_goes_on_with_the_next_start() {
    const KEYS: usize = 100_000;
    let folder = folder_with_keys(2, KEYS);
    let left = |running: &Running| running.stored(KeyKind::State, 1);
    let mut before = KEYS;
    for round in 0..3 {
        let running = run_to_be_killed(folder.path(), NEVER);
        // A hundred steps.
        *running.storage.slow_removal.lock() = Duration::from_millis(50);
        if round == 0 {
            running.uninstall("lane-0", 1);
        }
        until("some of its steps are made", || left(&running) < before);
        // Others go on between two steps: their records, and checkpoints.
        running.push(&[format!("farm/{round}")]);
        assert!(!running.shared.removed.lock().is_empty(), "it is still purged");
        before = left(&running);
        assert!(before > 0, "round {round}");
        running.kill();
    }
    let running = run(folder.path(), NEVER);
    assert!(left(&running) > 0);
    until("the rest is purged", || running.shared.removed.lock().is_empty());
    assert_eq!(left(&running), 0);
    assert_eq!(running.shared.lanes.count(), 1);
    running.stop();
}

#[test]
fn a_state_that_is_adopted_before_a_checkpoint_has_heard_of_it_is_whole() {
    let folder = folder_with_keys(1, 1_000);
    let running = run_to_be_killed(folder.path(), NEVER);
    // In memory alone.
    let lane = running.shared.lanes.of_generation(Generation(1)).unwrap();
    let mut meta = lane.book().meta().clone();
    running.commit(&lane, &mut meta, (1_000..1_500).map(|key| format!("key-{key:06}")));
    drop(lane);
    let keys = |running: &Running| {
        let lane = running.shared.lanes.of_generation(Generation(1)).unwrap();
        let scan = Scan { prefix: "", after: None, limit: 10_000, max_bytes: usize::MAX };
        scan_state(&lane, &*running.shared.storage, scan).unwrap().entries.len()
    };
    running.remove("lane-0", 1, false);
    running.admin(adopting("lane-0", 1, 2));
    assert_eq!(keys(&running), 1_500);
    running.kill();

    let running = run(folder.path(), NEVER);
    assert_eq!(keys(&running), 1_500);
    running.remove("lane-0", 1, false);
    running.admin(adopting("lane-0", 1, 3));
    running.stop();
    let running = run(folder.path(), NEVER);
    assert_eq!((running.stored(KeyKind::State, 1), keys(&running)), (1_500, 1_500));
    assert_eq!(running.shared.last_generation(TenantId::MAIN), Generation(3));
    running.stop();
}

#[test]
fn points_that_nobody_drives_any_more_go_with_the_next_start() {
    let folder = tempfile::tempdir().unwrap();
    let driven = |path: &str, told| Driven {
        point: PointPath::new(TenantId::MAIN, path).unwrap(),
        installation: InstallationId::new(TenantId::MAIN, "gone").unwrap(),
        generation: Generation(7),
        output: SlotName::new("limit").unwrap(),
        entity: "1".into(),
        told,
        passed: 0,
        last: Ended {
            id: None,
            asked: Value::Real(6.0),
            value: Value::Real(6.0),
            outcome: Outcome::Safe,
            reason: None,
            at: Timestamp(1),
        },
    };
    // One has its safe value, one is still to have it.
    let told = |safe| Some(Told { value: Value::Real(6.0), number: 3, until: None, safe });
    let settled = [driven("plant/1", told(None)), driven("plant/2", told(Some(Value::Real(6.0))))];
    let settled = settled.map(|driven| Settled { place: None, driven: Some(Box::new(driven)) });
    let running = run(folder.path(), NEVER);
    let head = ReadingsHead { receipt: Some(Receipt::Outbox(settled.to_vec())), idempotency: None };
    running.submit_with(head, &[]).blocking_recv().unwrap().unwrap();
    running.stop();
    let running = run(folder.path(), NEVER);
    assert_eq!(running.stored(KeyKind::Driven, 0), 2);
    running.push(&["a/b".to_owned()]);
    running.stop();
    assert_eq!(run(folder.path(), NEVER).stored(KeyKind::Driven, 0), 1);
}
