//! The history of alarms against the model's.

use std::collections::{BTreeMap, BTreeSet};

use super::model::Model;
use crate::fold::Shared;
use crate::fold::episodes::Episodes;
use crate::fold::stored::decode;
use crate::records::alarm::AlarmRecord;
use ironloom_storage::store::{KeyKind, KeyRange};
use ironloom_types::ids::{Generation, TenantId};

/// The history of alarms, of each installation and of all.
pub(super) fn check(shared: &Shared, model: &Model) {
    let living = model.lanes.keys().chain(model.kept.keys());
    for generation in living.copied() {
        let range = KeyRange::generation(KeyKind::Episode, Generation(generation));
        let (entries, _) = shared.overlay.scan(&range, None, usize::MAX).unwrap();
        let found = entries.iter().map(|(_, value)| decode::<AlarmRecord>(value).unwrap());
        let expected = model.episodes.get(&generation).cloned().unwrap_or_default();
        let found: BTreeMap<u64, AlarmRecord> = found.map(|alarm| (alarm.number, alarm)).collect();
        assert_eq!(found, expected, "generation {generation}");
        for newest_first in [false, true] {
            let own = Episodes {
                generations: Some(vec![Generation(generation)]),
                newest_first,
                ..Episodes::default()
            };
            let places = shared.episode_places(&own, None, usize::MAX).unwrap();
            let mut numbers: Vec<u64> = places.iter().map(|place| place.number).collect();
            if newest_first {
                numbers.reverse();
            }
            // All of a generation have the same time here.
            assert_eq!(numbers, expected.keys().copied().collect::<Vec<_>>());
        }
    }
    let all = shared
        .episode_places(&Episodes { tenant: TenantId::MAIN, ..Episodes::default() }, None, usize::MAX)
        .unwrap();
    let all: BTreeSet<(u64, u64)> = all.iter().map(|place| (place.generation.0, place.number)).collect();
    let of = |generation: u64| {
        let numbers = model.episodes.get(&generation).into_iter().flat_map(BTreeMap::keys);
        numbers.map(move |number| (generation, *number))
    };
    let expected: BTreeSet<(u64, u64)> =
        model.lanes.keys().chain(model.kept.keys()).copied().flat_map(of).collect();
    assert!(all.is_superset(&expected), "{all:?} lacks some of {expected:?}");
    assert!(all.iter().all(|(generation, _)| !model.purged.contains(generation)), "purged ones are gone");
}
