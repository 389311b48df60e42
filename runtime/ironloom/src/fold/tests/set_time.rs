//! A wrong future is left behind: journal time goes back, with all that is measured from it.

use super::history::{Row, Step};
use super::world::World;
use crate::fold::Removed;
use crate::records::admin::{AdminRecord, LaneDue};
use ironloom_storage::store::EngineKind;
use ironloom_types::clock::{SECOND, Timestamp};
use ironloom_types::ids::{Generation, Sequence, TenantId};
use ironloom_types::readings::Value;

const YEAR: u64 = 365 * 24 * 3600 * SECOND;

fn push(world: &mut World, count: u8) {
    let row = |path| Row { path: path % 12, value: Value::Real(1.0), at: 51 };
    let rows: Vec<Row> = (0..count).map(row).collect();
    world.push(&rows, None, None);
    world.pump();
}

fn set_time(world: &mut World, back: u64, due: u64) {
    world.set_time(back, due);
    world.pump();
}

/// Ten readings in the present, then ten a year later, with a timer an hour after that.
fn a_year_ahead() -> (World, Timestamp) {
    let mut world = World::new(EngineKind::Redb);
    world.install(0, &["a"], false);
    push(&mut world, 10);
    let present = Timestamp(world.model.time);
    world.run(&Step::Tick { by: YEAR / SECOND });
    push(&mut world, 10);
    world.commit_of(0, 3, &[(1, world.model.time + 3600 * SECOND)]);
    (world, present)
}

#[test]
fn time_goes_on_from_the_present_and_so_it_does_after_a_restart() {
    for checkpoints in [[false, false], [true, false], [false, true], [true, true]] {
        let (mut world, present) = a_year_ahead();
        if checkpoints[0] {
            world.checkpoint(None);
        }
        let back = (world.model.time - present.0) / SECOND;
        set_time(&mut world, back, 3600);
        let to = Timestamp(world.model.time);
        if checkpoints[1] {
            world.checkpoint(None);
        }
        for _ in 0..2 {
            let shared = world.shared();
            assert_eq!((shared.horizon(), shared.clock.last()), (to, to));
            assert_eq!(shared.next_due(), Some(to.plus(3600 * SECOND)));
            let lane = shared.lanes.of_generation(Generation(1)).unwrap();
            assert_eq!(lane.book().meta().time, to);
            assert_eq!(
                lane.book().timers().values().map(|set| set.due).collect::<Vec<_>>(),
                [to.plus(3600 * SECOND)]
            );
            drop(shared);
            world.restart();
        }
        push(&mut world, 5);
        assert_eq!(world.model.journal.last().unwrap().time, to.plus(SECOND).0);
        world.check();
        world.drain();
    }
}

#[test]
fn a_timer_that_was_set_in_the_wrong_future_wakes_its_lane_in_the_right_one() {
    let (mut world, present) = a_year_ahead();
    let back = (world.model.time - present.0) / SECOND;
    set_time(&mut world, back, 60);
    world.heard().clear();
    // Each push moves time on by a second.
    world.run(&Step::Tick { by: 58 });
    push(&mut world, 1);
    assert_eq!(*world.heard(), [0_u32; 0]);
    world.run(&Step::Tick { by: 1 });
    push(&mut world, 1);
    assert_eq!(*world.heard(), [0]);
}

#[test]
fn places_by_time_are_found_on_both_sides_of_the_wrong_future() {
    let (mut world, present) = a_year_ahead();
    world.checkpoint(None);
    push(&mut world, 10);
    let back = (world.model.time - present.0) / SECOND;
    set_time(&mut world, back, 60);
    push(&mut world, 10);
    for written in [false, true] {
        if written {
            world.checkpoint(None);
        }
        let shared = world.shared();
        let model = &world.model.journal;
        let times = model.iter().map(|reading| reading.time);
        for since in times.flat_map(|time| [time - 1, time, time + 1]) {
            let before = model.iter().rposition(|reading| reading.time < since);
            let expected = Sequence(before.map_or(0, |index| index as u64 + 1) + 1);
            assert_eq!(
                shared.journal.of(TenantId::MAIN).first_since(Timestamp(since)).unwrap(),
                expected,
                "{since}"
            );
        }
    }
    world.check();
}

#[test]
fn what_went_in_the_wrong_future_goes_a_week_after_the_present() {
    let (mut world, _) = a_year_ahead();
    let at = Timestamp(world.model.time);
    let ended = Box::new(world.ended(1));
    world.model.uninstall(1, at, false);
    world.admin(AdminRecord::Uninstalled { ended, at, purge: false }, Ok(()));
    world.checkpoint(None);
    set_time(&mut world, YEAR / SECOND, 0);
    let to = Timestamp(world.model.time);
    for restart in [false, true, true] {
        if restart {
            world.checkpoint(None);
            world.restart();
        }
        let removed = Removed { at: to, purge: false };
        assert_eq!(world.shared().removed.lock()[&Generation(1)].removed, removed);
        let kept = world.shared().stored_lane(Generation(1)).unwrap().unwrap();
        assert_eq!((kept.removed, kept.ended.is_some()), (Some(removed), true), "it may be adopted still");
    }
}

#[test]
fn a_lane_of_which_nothing_was_due_later_keeps_its_timers() {
    let (mut world, present) = a_year_ahead();
    world.commit_of(0, 1, &[(2, 7)]);
    let to = present;
    world.model.time = to.0;
    let lane = world.model.lanes.get_mut(&1).unwrap();
    lane.meta.time = to;
    lane.timers.insert("timer-1".into(), (to.0 + 5, to.0 + 5));
    let due =
        LaneDue { generation: Generation(1), cron: Vec::new(), timers: vec![("timer-1".into(), to.plus(5))] };
    let of_nobody = LaneDue { generation: Generation(9), ..due.clone() };
    world.admin(AdminRecord::TimeSet { to, due: vec![due, of_nobody] }, Ok(()));
    world.check();
    world.restart();
}
