//! Blocks that are dropped, and their files.

use super::cut::Cut;
use super::history::Row;
use super::world::World;
use crate::fold::Retention;
use crate::records::admin::AdminRecord;
use ironloom_storage::Disk as _;
use ironloom_storage::store::EngineKind;
use ironloom_types::ids::{Sequence, TenantId};
use ironloom_types::readings::Value;

/// A block of twelve readings, some hundred bytes.
fn block(world: &mut World) {
    let row = |path| Row { path, value: Value::Text("x".repeat(90).into()), at: 51 };
    world.push(&(0..12).map(row).collect::<Vec<_>>(), None, None);
    world.pump();
    world.checkpoint(None);
}

fn files(world: &World) -> Vec<String> {
    let names = world.disk().folder("journal/").list().unwrap();
    names.into_iter().filter(|name| name.ends_with(".blocks")).collect()
}

#[test]
fn the_oldest_files_go_with_the_checkpoint_behind_the_record() {
    let mut world = World::simulated(1);
    while files(&world).len() < 5 {
        block(&mut world);
    }
    world.checkpoint(None);
    let before = files(&world);
    let shared = world.shared();
    let due = |max_bytes| {
        let due = shared.journal.due_to_go(Retention { before: None, max_bytes: Some(max_bytes) });
        due.iter().next().map(|(_, first)| first)
    };
    let (total, newest) = (shared.journal.files_bytes(), shared.journal.of(TenantId::MAIN).last());
    assert_eq!(due(total), None);
    // A byte less, and the whole oldest file goes; with none allowed, all but the newest block.
    let first = due(total - 1).unwrap();
    let all = due(0).unwrap();
    assert!(Sequence(1) < first && first < all && all <= newest);
    assert_eq!(shared.journal.of(TenantId::MAIN).first(), Sequence(1));

    world.model.drop_before(first.0);
    world.admin(AdminRecord::Dropped { tenant: TenantId::MAIN, before: first }, Ok(()));
    world.pump();
    assert_eq!(shared.journal.of(TenantId::MAIN).first(), first);
    assert_eq!(files(&world), before, "the store knows the blocks until a checkpoint");
    // A checkpoint that is cut off takes no file away, whatever it has done by then.
    drop(shared);
    world.checkpoint(Some(Cut { applies: 1, changes: 0 }));
    world.check();
    world.checkpoint(None);
    assert_eq!(files(&world), before[1..]);
    world.restart();
    assert_eq!(files(&world), before[1..]);
}

#[test]
fn what_is_missed_is_counted_once_wherever_a_checkpoint_is_cut_off() {
    for cut in (0..3).flat_map(|applies| (0..12).map(move |changes| Cut { applies, changes })) {
        let mut world = World::new(EngineKind::Redb);
        world.install(0, &["a"], true);
        for _ in 0..3 {
            block(&mut world);
        }
        world.drop_older_than(0);
        assert!(world.model.dropped > 0);
        assert!(world.model.lanes.values().all(|lane| lane.meta.counters.missed > 0));
        world.checkpoint(Some(cut));
        world.check();
    }
}
