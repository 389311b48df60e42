//! The dead letters of a push among those of an installation.

use super::history::{head, letter};
use super::world::World;
use crate::fold::letters::Letters;
use crate::records::commit::{DeadLetter, StateChanges};
use ironloom_storage::store::EngineKind;
use ironloom_types::clock::Timestamp;
use ironloom_types::ids::{Generation, Sequence};
use ironloom_types::readings::Columns;

/// An installation with dead letters of these readings, in this order.
fn with_letters(readings: impl IntoIterator<Item = u64>) -> World {
    let mut world = World::new(EngineKind::Redb);
    world.install(0, &["a"], false);
    world.pump();
    let lane = world.model.lanes.get_mut(&1).unwrap();
    lane.meta.time = Timestamp(world.model.time);
    lane.meta.attempts = 1;
    let mut head = head(1, &lane.id, &lane.meta);
    lane.meta.ordinal = head.invocation.ordinal;
    lane.meta.attempts = 0;
    for sequence in readings {
        let number = lane.meta.next_dead_letter;
        head.dead_letters.push(DeadLetter { sequence: Sequence(sequence), ..letter(number) });
        lane.meta.next_dead_letter += 1;
        lane.meta.dead_letters_kept += 1;
    }
    head.meta = lane.meta.clone();
    world.commit(head, StateChanges::default(), Vec::new(), Columns::default(), Ok(()));
    world.pump();
    world
}

fn found(world: &World, first: u64, last: u64, is_over: bool) -> (u64, bool) {
    let shared = world.shared();
    let lane = shared.lanes.of_generation(Generation(1)).unwrap();
    let readings = Sequence(first)..=Sequence(last);
    let Letters { count, at_least } = shared.letters_of(&lane, readings, || is_over).unwrap();
    (count, at_least)
}

#[test]
fn letters_behind_those_of_a_later_push_are_found_or_it_says_that_it_did_not_look() {
    let few = with_letters(1..=110);
    assert_eq!(found(&few, 1, 10, false), (10, false));
    assert_eq!(found(&few, 11, 110, false), (100, false));
    let many = with_letters(1..=2_010);
    assert_eq!(found(&many, 1, 10, false), (0, true));
    assert_eq!(found(&many, 11, 2_010, false), (1_024, true));
    assert_eq!(found(&many, 2_011, 2_020, false), (0, false));
    assert_eq!(found(&many, 2_011, 2_020, true), (0, true));
    // The last that is looked at, and the next.
    assert_eq!(found(&many, 987, 987, false), (1, true));
    assert_eq!(found(&many, 986, 986, false), (0, true));
}

#[test]
fn one_that_was_run_again_hides_none() {
    let world = with_letters((101..=110).chain(201..=270).chain([3]));
    assert_eq!(found(&world, 101, 110, false), (10, false));
    assert_eq!(found(&world, 3, 3, false), (1, false));
    let world = with_letters([5, 20, 5]);
    assert_eq!(found(&world, 20, 20, false), (1, false));
}

#[test]
fn where_there_are_none_there_is_nothing_to_say() {
    assert_eq!(found(&with_letters([]), 1, 10, false), (0, false));
}
