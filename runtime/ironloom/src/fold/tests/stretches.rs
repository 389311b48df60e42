//! Checkpoints of the oldest stretch of the log.

use super::world::World;
use crate::fold::stretches::Extent;
use ironloom_storage::store::{EngineKind, KeyKind, Scope};
use ironloom_types::ids::Generation;

/// The keys of the first lane's state in the store.
fn stored(world: &World) -> Vec<String> {
    let range = Scope::MAIN.generation(KeyKind::State, Generation(1));
    let page = world.shared().storage.scan(&range, None, 10).unwrap();
    page.entries.iter().map(|(key, _)| key.to_string()).collect()
}

#[test]
fn a_key_that_is_written_again_is_left_out_and_a_replay_brings_it() {
    for kind in [EngineKind::Sled, EngineKind::Redb] {
        let mut world = World::new(kind);
        world.install(0, &["a"], true);
        world.commit_keys(3);
        world.end_stretch();
        // The first two of them.
        world.commit_keys(2);
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
    world.commit_keys(1);
    world.end_stretch();
    world.freeze(Extent::Oldest);
    // While the checkpoint is under way.
    world.commit_keys(4);
    world.checkpoint(None);
    assert_eq!(stored(&world), Vec::<String>::new(), "key 0 was written again");
    let before = world.shared().folded();
    world.restart();
    assert_eq!(world.shared().folded(), before);
}
