//! The last checkpoints of a stop, with time and without.

use super::*;

fn keys(numbers: std::ops::Range<u32>) -> impl Iterator<Item = String> {
    numbers.map(|number| format!("key-{number}"))
}

/// Writes keys and points and stops.
fn written(folder: &Path, at_stop: Duration) {
    let running = run(folder, Thresholds { at_stop, ..NEVER });
    let lane = running.shared.lanes.of_generation(Generation(1)).unwrap();
    let mut meta = lane.book().meta().clone();
    running.commit(&lane, &mut meta, keys(0..20));
    running.push(&["a/1".to_owned(), "b/1".to_owned()]);
    running.stop();
}

#[test]
fn what_a_stop_has_no_time_for_is_read_from_the_log_at_the_next_start() {
    let mut world = World::new(EngineKind::Redb);
    world.install(0, &["a"], true);
    let folder = world.into_folder();
    // All so far is folded.
    run(folder.path(), NEVER).stop();
    written(folder.path(), Duration::ZERO);
    for (replayed, stored) in [(2, 0), (0, 20)] {
        let (_, opened) = open_folder(folder.path(), EngineKind::Redb, Arc::new(()));
        assert_eq!(opened.replayed, replayed);
        assert_eq!(opened.shared.points.names().count(), 2);
        assert_eq!(opened.shared.journal.of(TenantId::MAIN).last(), Sequence(2));
        drop(opened);
        // With time: nothing is left to read.
        let running = run(folder.path(), NEVER);
        assert_eq!(running.stored(KeyKind::State, 1), stored);
        let lane = running.shared.lanes.of_generation(Generation(1)).unwrap();
        assert_eq!(lane.state.read().bytes().dirty > 0, stored == 0);
        running.stop();
    }
}

#[test]
fn a_stop_folds_all_stretches_that_wait() {
    let mut world = World::new(EngineKind::Redb);
    world.install(0, &["a"], true);
    let folder = world.into_folder();
    // Each eighth of what may wait is a stretch; a checkpoint begins at three quarters.
    let running = run(folder.path(), Thresholds { dirty_bytes: 400_000, ..NEVER });
    let lane = running.shared.lanes.of_generation(Generation(1)).unwrap();
    let mut meta = lane.book().meta().clone();
    for part in 0..10 {
        running.commit(&lane, &mut meta, keys(100 * part..100 * part + 100));
    }
    let before = running.storage.positions();
    running.stop();
    let (storage, opened) = open_folder(folder.path(), EngineKind::Redb, Arc::new(()));
    assert_eq!(opened.replayed, 0);
    drop((storage, opened));
    let running = run(folder.path(), NEVER);
    assert_eq!(running.stored(KeyKind::State, 1), 1_000);
    assert!(before <= 1, "no checkpoint was made before");
    running.stop();
}
