//! What the fold tells the lanes, and what it has for them after a restart.

use std::sync::Arc;

use futures_util::FutureExt as _;

use super::history::{Row, Step};
use super::world::World;
use crate::fold::durable::Durable;
use crate::fold::waits::Dealt;
use ironloom_storage::store::EngineKind;
use ironloom_types::clock::{SECOND, Timestamp};
use ironloom_types::ids::{Generation, InstallationId, Sequence, TenantId};
use ironloom_types::readings::Value;

/// Readings of points whose paths begin with a, b and c in turn. Time stands still.
fn push(world: &mut World, count: u8) {
    let row = |path| Row { path: path % 12, value: Value::Real(1.0), at: 50 };
    let rows: Vec<Row> = (0..count).map(row).collect();
    world.push(&rows, None, None);
    world.pump();
}

fn tick(world: &mut World, by: u64) {
    world.run(&Step::Tick { by });
    // A tick is no record: the next one says that it was applied.
    push(world, 1);
}

#[test]
fn a_lane_that_is_stopped_hides_no_other_lane_s_timer() {
    let mut world = World::new(EngineKind::Redb);
    world.install(0, &["a"], false);
    world.install(1, &["b"], false);
    world.commit_of(0, 1, &[(1, 5 * SECOND)]);
    world.commit_of(1, 1, &[(1, 100 * SECOND)]);
    world.run(&Step::Pause { lane: 0, pause: true });
    tick(&mut world, 10);
    assert_eq!(world.shared().next_due(), Some(Timestamp(100 * SECOND)));
    world.check();
}

#[test]
fn a_lane_hears_once_that_its_timer_is_due() {
    let mut world = World::new(EngineKind::Redb);
    world.install(0, &["a"], false);
    world.install(1, &["b"], false);
    world.commit_of(0, 1, &[(1, 5 * SECOND), (2, 30 * SECOND)]);
    world.commit_of(1, 1, &[(1, 20 * SECOND)]);
    world.heard().clear();
    // Every four seconds.
    for expected in [&[][..], &[0], &[], &[], &[1], &[], &[], &[0]] {
        tick(&mut world, 4);
        assert_eq!(*world.heard(), expected, "at {}", world.model.time / SECOND);
        world.heard().clear();
    }
}

/// 600 readings, of which a lane takes a third.
fn push_many(world: &mut World) {
    let row = |path| Row { path: (path % 12) as u8, value: Value::Real(1.0), at: 50 };
    let rows: Vec<Row> = (0..600).map(row).collect();
    world.push(&rows, None, None);
    world.pump();
}

#[test]
fn who_holds_most_notes_falls_behind_and_not_who_runs() {
    let mut world = World::new(EngineKind::Redb);
    // The first has no code, or asks for retries: it never commits.
    world.install(0, &["a"], false);
    world.install(1, &["b"], false);
    let shared = world.shared();
    let is_behind =
        |generation| shared.lanes.of_generation(Generation(generation)).unwrap().queue.lock().is_behind();
    for round in 0..400 {
        push_many(&mut world);
        assert!(!is_behind(2), "round {round}: the lane that runs keeps its notes");
        world.commit_of(1, 600, &[]);
    }
    assert!(is_behind(1), "the other's would be more than all may keep together");
    assert!(!shared.note_budget.is_used_up());
}

#[test]
fn a_lane_that_is_stopped_by_a_record_or_goes_keeps_no_notes() {
    let mut world = World::new(EngineKind::Redb);
    world.install(0, &["a"], false);
    world.install(1, &["b"], false);
    push_many(&mut world);
    let shared = world.shared();
    let lanes = [1, 2].map(|generation| shared.lanes.of_generation(Generation(generation)).unwrap());
    assert!(lanes.iter().all(|lane| lane.queue.lock().noted() > 0));
    world.run(&Step::Pause { lane: 0, pause: true });
    world.uninstall(1, false);
    world.pump();
    // Nothing else comes for them.
    assert_eq!(lanes.map(|lane| lane.queue.lock().noted()), [0, 0]);
    world.drain();
}

#[test]
fn who_still_waits_for_what_another_has_published_is_known() {
    let mut world = World::new(EngineKind::Redb);
    world.install(0, &["a"], false);
    world.install(1, &["apps/lane-0/out"], false);
    push(&mut world, 9);
    let waits = |world: &World| {
        let publisher = InstallationId::new(TenantId::MAIN, "lane-0").unwrap();
        world.shared().waits_for_outputs_of(&publisher).map(|lane| lane.generation.0)
    };
    assert_eq!(waits(&world), None, "nothing was published");
    world.commit_publishing(0);
    assert_eq!(waits(&world), Some(2));
    world.commit_of(1, 9, &[]);
    assert_eq!(waits(&world), None);
    // One that is stopped keeps no notes, and waits all the same.
    world.commit_publishing(0);
    world.run(&Step::Pause { lane: 1, pause: true });
    push(&mut world, 9);
    assert_eq!(waits(&world), Some(2));
    world.restart();
    assert_eq!(waits(&world), Some(2));
}

#[test]
fn whoever_waits_for_a_lane_is_told_when_it_is_past_or_stands_still() {
    let mut world = World::new(EngineKind::Redb);
    world.install(0, &["a"], false);
    world.install(1, &["b"], false);
    let shared = world.shared();
    // Of these, the first lane takes 1, 4 and 7, the other one 2, 5 and 8.
    push(&mut world, 9);
    let [a, b] = [1, 2].map(|generation| shared.lanes.of_generation(Generation(generation)).unwrap());
    let wait = |lane: &Arc<Durable>, sequence| {
        let (shared, lane) = (Arc::clone(&shared), Arc::clone(lane));
        Box::pin(async move { shared.dealt_with(&lane, Sequence(sequence)).await })
    };
    let (mut first, mut second, mut last) = (wait(&a, 1), wait(&a, 4), wait(&a, 9));
    let (mut other, mut dropped) = (wait(&b, 8), wait(&b, 2));
    for waiting in [&mut first, &mut second, &mut last, &mut other, &mut dropped] {
        assert_eq!(waiting.now_or_never(), None);
    }
    assert_eq!(shared.waits_for_test(), 5);
    drop(dropped);
    assert_eq!(shared.waits_for_test(), 4);

    world.commit_of(0, 2, &[]);
    assert_eq!((&mut first).now_or_never(), Some(Dealt::With));
    assert_eq!((&mut second).now_or_never(), Some(Dealt::With));
    assert_eq!(((&mut last).now_or_never(), (&mut other).now_or_never()), (None, None));
    assert_eq!(wait(&a, 6).now_or_never(), Some(Dealt::With), "nothing up to there waits");
    world.run(&Step::Pause { lane: 0, pause: true });
    world.pump();
    assert_eq!(last.now_or_never(), Some(Dealt::Stopped));
    assert_eq!(wait(&a, 4).now_or_never(), Some(Dealt::With), "whatever it is now");
    world.uninstall(1, false);
    world.pump();
    assert_eq!(other.now_or_never(), Some(Dealt::Gone));
    assert_eq!(shared.waits_for_test(), 0);

    // One that is resumed is waited for again, and done once it has dealt with the last.
    world.run(&Step::Pause { lane: 0, pause: false });
    world.pump();
    let mut again = wait(&a, 7);
    assert_eq!((&mut again).now_or_never(), None);
    world.catch_up(1);
    world.commit_of(0, 1, &[]);
    assert_eq!(again.now_or_never(), Some(Dealt::With));
}

#[test]
fn after_a_restart_lanes_know_what_waits_without_reading_the_journal() {
    let mut world = World::new(EngineKind::Redb);
    for (slot, takes) in [&["a"][..], &["b"], &["d"]].into_iter().enumerate() {
        world.install(slot as u8, takes, false);
    }
    push(&mut world, 9);
    world.commit_of(0, 2, &[]);
    world.commit_of(1, 9, &[]);
    world.checkpoint(None);
    push(&mut world, 12);
    world.commit_of(1, 3, &[]);
    push(&mut world, 12);
    world.restart();
    let shared = world.shared();
    for generation in [2, 3] {
        let lane = shared.lanes.of_generation(Generation(generation)).unwrap();
        assert!(!lane.queue.lock().is_behind(), "generation {generation} had nothing before the checkpoint");
        let waiting = world.model.waiting(generation);
        assert_eq!(world.offered(generation, usize::MAX), waiting, "generation {generation}");
    }
    // The first had one reading left as of the checkpoint: it alone has something to read.
    let first = shared.lanes.of_generation(Generation(1)).unwrap();
    assert_eq!(first.queue.lock().wants().map(|from| from.0), world.model.waiting(1).first().copied());
    world.drain();
}

#[test]
fn a_record_is_handed_to_the_lanes_a_part_at_a_time() {
    let mut world = World::new(EngineKind::Redb);
    (0..4).for_each(|lane| world.install(lane, &["a"], false));
    let row = |_| Row { path: 0, value: Value::Real(1.0), at: 50 };
    world.push(&(0..600).map(row).collect::<Vec<_>>(), None, None);
    world.pump();
    let shared = world.shared();
    for generation in 1..=4 {
        let lane = shared.lanes.of_generation(Generation(generation)).unwrap();
        let queue = lane.queue.lock();
        let parts = queue.first(usize::MAX, usize::MAX, None, None);
        let rows: Vec<u32> = parts.iter().flat_map(|part| part.rows()).map(|row| row.offset).collect();
        assert!(rows.into_iter().eq(0..600));
        // 256 notes at once are 64 rows.
        assert!(parts.iter().all(|part| part.rows().len() == 64 || part.to == 24), "{}", parts.len());
    }
    world.check();
}
