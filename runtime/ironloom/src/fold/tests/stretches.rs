//! Checkpoints of the oldest stretch of the log.

use std::sync::Arc;
use std::time::Duration;

use super::world::World;
use crate::fold::open::OpenError;
use crate::fold::run::thin_out;
use crate::fold::stretches::Extent;
use ironloom_storage::log::LogError;
use ironloom_storage::store::{EngineKind, KeyKind, KeyRange};
use ironloom_types::ids::Generation;

/// The keys of the first lane's state in the store.
fn stored(world: &World) -> Vec<String> {
    let range = KeyRange::generation(KeyKind::State, Generation(1));
    let page = world.shared().storage.scan(&range, None, 10).unwrap();
    page.entries.iter().map(|(key, _)| key.to_string()).collect()
}

#[test]
fn a_key_that_is_written_again_is_left_out_and_a_replay_brings_it() {
    for kind in [EngineKind::Sled, EngineKind::Redb] {
        let mut world = World::new(kind);
        world.install(0, &["a"], true);
        world.commit_keys(1, 3);
        world.end_stretch();
        // The first two of them.
        world.commit_keys(1, 2);
        world.freeze(Extent::Oldest);
        world.checkpoint(None);
        let left = stored(&world);
        assert!(left.len() == 1 && left[0].contains("key-000002"), "{left:?}");
        // Compares with the model.
        world.restart();
        world.checkpoint(None);
        assert_eq!(stored(&world).len(), 3);
        world.restart();
    }
}

#[test]
fn what_the_present_writes_is_not_in_a_checkpoint_of_the_past() {
    let mut world = World::new(EngineKind::Redb);
    world.install(0, &["a"], true);
    world.commit_keys(1, 1);
    world.end_stretch();
    world.freeze(Extent::Oldest);
    // While the checkpoint is under way.
    world.commit_keys(1, 4);
    world.checkpoint(None);
    assert_eq!(stored(&world), Vec::<String>::new(), "key 0 was written again");
    let before = world.shared().folded();
    world.restart();
    assert_eq!(world.shared().folded(), before);
}

#[test]
fn whoever_wrote_what_gets_to_the_store_pays_for_it() {
    let mut world = World::new(EngineKind::Redb);
    for slot in 0..3 {
        world.install(slot, &["a"], true);
    }
    // One lane writes many keys, one the same again and again, one nothing.
    world.commit_keys_from(1, 0..2_000);
    world.commit_keys(2, 20);
    world.end_stretch();
    world.commit_keys_from(1, 2_000..4_000);
    world.commit_keys(2, 20);
    world.freeze(Extent::Oldest);
    world.checkpoint(None);
    let paid = world.paid();
    assert_eq!(paid.keys().copied().collect::<Vec<_>>(), [1], "of the others nothing was written: {paid:?}");
    // A key takes microseconds; one that took less than 50 ns would be none.
    assert!(paid[&1] > Duration::from_nanos(50) * 2_000, "{paid:?}");
    world.end_stretch();
    world.freeze(Extent::Oldest);
    world.checkpoint(None);
    assert!(world.paid()[&1] > paid[&1]);
    assert!(world.paid()[&2] < world.paid()[&1] / 10, "by what is its own: {:?}", world.paid());
    // What the server does for itself is no app's.
    let paid = world.paid();
    world.commit_keys_from(1, 4_000..6_000);
    world.checkpoint(None);
    assert_eq!(world.paid(), paid);
}

#[test]
fn a_log_that_ends_before_what_a_checkpoint_left_out_is_damaged() {
    let mut world = World::simulated(1);
    world.install(0, &["a"], true);
    world.commit_keys(1, 3);
    world.end_stretch();
    let (disk, newest) = world.newest_segment();
    let before = disk.bytes(&newest);
    // The checkpoint leaves out the first two, since this record has them again.
    world.commit_keys(1, 2);
    world.freeze(Extent::Oldest);
    world.checkpoint(None);
    let machine = world.into_machine();
    disk.restore(&newest, before);
    let error = machine.refusal();
    assert!(matches!(error, OpenError::Log(LogError::Damaged { .. })), "{error}");
}

#[test]
fn what_is_gone_keeps_no_clean_state_while_it_waits_for_its_checkpoint() {
    let mut world = World::new(EngineKind::Redb);
    world.install(0, &["a"], true);
    world.commit_keys_from(1, 0..3_000);
    world.checkpoint(None);
    world.commit_keys_from(1, 3_000..3_010);
    let shared = world.shared();
    let lane = shared.lanes.of_generation(Generation(1)).unwrap();
    let (clean, dirty) = (lane.state.read().bytes().clean, lane.state.read().bytes().dirty);
    assert!(clean > 0 && dirty > 0);
    world.uninstall(0, false);
    world.pump();
    thin_out(&shared);
    let left = lane.state.read().bytes();
    assert_eq!((left.clean, left.dirty), (0, dirty));
    assert!(Arc::strong_count(&lane) > 1, "its stretch has it");
    world.freeze(Extent::Oldest);
    world.checkpoint(None);
    assert_eq!(Arc::strong_count(&lane), 1);
    let range = KeyRange::generation(KeyKind::State, Generation(1));
    let stored = shared.storage.scan(&range, None, 10_000).unwrap().entries.len();
    assert_eq!(stored, 3_010, "its state is kept for a week");
}
