//! What is found by an installation's number without hashing, by its generation and by its id.

use std::collections::{BTreeMap, BTreeSet};
use std::ops::Bound;
use std::sync::Arc;

use hashbrown::HashMap;

use ironloom_types::ids::{Generation, InstallationId};

/// One item for each installation, at the place of its number.
#[derive(Debug)]
pub(crate) struct Slab<T> {
    places: Vec<Option<Place<T>>>,
    /// Numbers below the last that are free.
    free: BTreeSet<u32>,
    /// Each commit is looked up by its generation.
    numbers: HashMap<Generation, u32>,
    /// People name it by its id, and lists are in the order of ids.
    by_id: BTreeMap<InstallationId, u32>,
}

#[derive(Debug)]
struct Place<T> {
    generation: Generation,
    id: InstallationId,
    item: Arc<T>,
}

impl<T> Default for Slab<T> {
    fn default() -> Self {
        Self { places: Vec::new(), free: BTreeSet::new(), numbers: HashMap::new(), by_id: BTreeMap::new() }
    }
}

impl<T> Slab<T> {
    /// The least number that is free.
    pub(crate) fn free_number(&self) -> u32 {
        self.free.first().copied().unwrap_or(self.places.len() as u32)
    }

    /// Puts an item into its place.
    pub(crate) fn insert(&mut self, number: u32, generation: Generation, id: &InstallationId, item: Arc<T>) {
        let place = number as usize;
        if self.places.len() <= place {
            self.free.extend(self.places.len() as u32..number);
            self.places.resize_with(place + 1, || None);
        }
        self.free.remove(&number);
        assert!(self.places[place].is_none(), "a number is free before it is given again");
        let before = self.numbers.insert(generation, number);
        assert!(before.is_none(), "a generation is one life of one installation");
        let before = self.by_id.insert(id.clone(), number);
        assert!(before.is_none(), "an id is that of one installation at a time");
        self.places[place] = Some(Place { generation, id: id.clone(), item });
    }

    /// Takes an item out, so that its number is free.
    pub(crate) fn remove(&mut self, number: u32) -> Option<Arc<T>> {
        let Place { generation, id, item } = self.places.get_mut(number as usize)?.take()?;
        self.free.insert(number);
        self.numbers.remove(&generation);
        self.by_id.remove(&id);
        Some(item)
    }

    pub(crate) fn get(&self, number: u32) -> Option<&Arc<T>> {
        self.places.get(number as usize)?.as_ref().map(|place| &place.item)
    }

    pub(crate) fn of_generation(&self, generation: Generation) -> Option<&Arc<T>> {
        self.get(*self.numbers.get(&generation)?)
    }

    /// The one with this id.
    pub(crate) fn of(&self, id: &InstallationId) -> Option<&Arc<T>> {
        self.get(*self.by_id.get(id)?)
    }

    /// All, in the order of their numbers.
    pub(crate) fn iter(&self) -> impl Iterator<Item = &Arc<T>> {
        self.places.iter().flatten().map(|place| &place.item)
    }

    /// Those whose ids come behind this text, in the order of their ids.
    pub(crate) fn behind(&self, id: Option<&str>) -> impl Iterator<Item = &Arc<T>> {
        let from = id.map_or(Bound::Unbounded, Bound::Excluded);
        self.by_id.range::<str, _>((from, Bound::Unbounded)).filter_map(|(_, number)| self.get(*number))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn id(number: u64) -> InstallationId {
        InstallationId::new(&format!("i{number}")).unwrap()
    }

    #[test]
    fn a_number_is_given_again_and_a_generation_never() {
        let mut slab = Slab::default();
        for (number, generation) in [(0, 7), (1, 8), (3, 9)] {
            assert_eq!(slab.free_number(), number.min(2));
            slab.insert(number, Generation(generation), &id(generation), Arc::new(generation));
        }
        assert_eq!(slab.remove(1).as_deref(), Some(&8));
        assert_eq!((slab.remove(1), slab.get(1), slab.of_generation(Generation(8))), (None, None, None));
        assert_eq!(slab.free_number(), 1);
        slab.insert(1, Generation(10), &id(8), Arc::new(10));
        assert_eq!(slab.of_generation(Generation(10)).map(|item| **item), Some(10));
        assert_eq!(slab.of_generation(Generation(8)), None, "its number belongs to another");
        assert_eq!(slab.get(3).map(|item| **item), Some(9));
        assert_eq!(slab.iter().map(|item| **item).collect::<Vec<_>>(), [7, 10, 9]);
        assert_eq!((slab.free_number(), slab.get(70)), (2, None));
        assert_eq!(slab.of(&id(8)).map(|item| **item), Some(10), "an id may be that of a later one");
        assert_eq!(slab.of(&id(10)), None);
    }

    #[test]
    fn a_list_is_in_the_order_of_ids_and_goes_on_behind_one_that_is_gone() {
        let mut slab = Slab::default();
        for (number, name) in [5, 3, 9, 7].into_iter().enumerate() {
            slab.insert(number as u32, Generation(name), &id(name), Arc::new(name));
        }
        let listed = |slab: &Slab<u64>, after| slab.behind(after).map(|item| **item).collect::<Vec<_>>();
        assert_eq!(listed(&slab, None), [3, 5, 7, 9]);
        assert_eq!(listed(&slab, Some("i5")), [7, 9]);
        slab.remove(0);
        assert_eq!(listed(&slab, Some("i5")), [7, 9]);
        assert_eq!(listed(&slab, Some("")), [3, 7, 9]);
    }
}
