//! Installations that wait for room in `store.dirty`, and those that don't.

use super::world::World;
use ironloom_storage::store::EngineKind;
use ironloom_types::ids::Generation;

#[test]
fn an_installation_waits_for_its_own_keys_and_not_for_those_of_another() {
    let mut world = World::new(EngineKind::Redb);
    world.install(0, &["a"], true);
    world.install(1, &["a"], true);
    world.commit_keys(1, 2_000);
    world.commit_keys(2, 10);
    let shared = world.shared();
    let [greedy, other] = [1, 2].map(|number| shared.lanes.of_generation(Generation(number)).unwrap());
    // Nine tenths of what may wait, nearly all of it the first one's.
    shared.set_dirty_limit(shared.count_dirty() / 9 * 10);
    assert!(!shared.has_room_for(&greedy));
    assert!(shared.has_room_for(&other), "it has written little");
    // A full disk is everybody's.
    shared.set_disk_full(true);
    assert!(!shared.has_room_for(&other));
    shared.set_disk_full(false);
    world.checkpoint(None);
    shared.count_dirty();
    assert!(shared.has_room_for(&greedy));
}
