//! What is found by an installation's number without hashing, by its generation and by its id.

use std::collections::{BTreeMap, BTreeSet};
use std::ops::Bound;
use std::sync::Arc;

use hashbrown::HashMap;

use ironloom_types::ids::{Generation, InstallationId, TenantId};

/// One item for each installation, at the place of its number.
#[derive(Debug)]
pub(crate) struct Slab<T> {
    places: Vec<Option<Place<T>>>,
    /// Numbers below the last that are free.
    free: BTreeSet<u32>,
    /// Each commit is looked up by its generation.
    numbers: HashMap<Generation, u32>,
    /// People name it by its id, and lists are in the order of ids.
    by_id: BTreeMap<TenantId, BTreeMap<Arc<str>, u32>>,
    /// Further numbers of an item.
    shared: BTreeMap<u32, u32>,
}

#[derive(Debug)]
struct Place<T> {
    generation: Generation,
    id: InstallationId,
    item: Arc<T>,
}

impl<T> Default for Slab<T> {
    fn default() -> Self {
        Self {
            places: Vec::new(),
            free: BTreeSet::new(),
            numbers: HashMap::new(),
            by_id: BTreeMap::new(),
            shared: BTreeMap::new(),
        }
    }
}

impl<T> Slab<T> {
    /// How many items there are.
    pub(crate) fn len(&self) -> usize {
        self.numbers.len()
    }

    /// The least numbers that are free, so many.
    pub(crate) fn free_numbers(&self, count: usize) -> Vec<u32> {
        self.free.iter().copied().chain(self.places.len() as u32..).take(count).collect()
    }

    /// Takes a number that is free.
    fn take(&mut self, number: u32) {
        let place = number as usize;
        if self.places.len() <= place {
            self.free.extend(self.places.len() as u32..number);
            self.places.resize_with(place + 1, || None);
        }
        self.free.remove(&number);
        let is_free = self.places[place].is_none() && !self.shared.contains_key(&number);
        assert!(is_free, "a number is free before it is given again");
    }

    /// Gives an item a further number, which is free.
    pub(crate) fn share(&mut self, number: u32, item: u32) {
        self.take(number);
        self.shared.insert(number, item);
    }

    /// Takes a further number from an item.
    pub(crate) fn unshare(&mut self, number: u32) {
        if self.shared.remove(&number).is_some() {
            self.free.insert(number);
        }
    }

    /// Puts an item into its place.
    pub(crate) fn insert(&mut self, number: u32, generation: Generation, id: &InstallationId, item: Arc<T>) {
        self.take(number);
        let before = self.numbers.insert(generation, number);
        assert!(before.is_none(), "a generation is one life of one installation");
        let before = self.by_id.entry(id.tenant()).or_default().insert(id.to_arc(), number);
        assert!(before.is_none(), "an id is that of one installation at a time");
        self.places[number as usize] = Some(Place { generation, id: id.clone(), item });
    }

    /// Takes an item out, so that its number is free.
    pub(crate) fn remove(&mut self, number: u32) -> Option<Arc<T>> {
        let Place { generation, id, item } = self.places.get_mut(number as usize)?.take()?;
        assert!(self.shared.values().all(|of| *of != number), "its further numbers were taken before");
        self.free.insert(number);
        self.numbers.remove(&generation);
        if let Some(own) = self.by_id.get_mut(&id.tenant()) {
            own.remove(id.as_str());
            if own.is_empty() {
                self.by_id.remove(&id.tenant());
            }
        }
        Some(item)
    }

    pub(crate) fn get(&self, number: u32) -> Option<&Arc<T>> {
        let own = self.places.get(number as usize)?.as_ref();
        let found = own.or_else(|| self.places[*self.shared.get(&number)? as usize].as_ref());
        found.map(|place| &place.item)
    }

    pub(crate) fn of_generation(&self, generation: Generation) -> Option<&Arc<T>> {
        self.get(*self.numbers.get(&generation)?)
    }

    /// The one with this id.
    pub(crate) fn of(&self, id: &InstallationId) -> Option<&Arc<T>> {
        self.get(*self.by_id.get(&id.tenant())?.get(id.as_str())?)
    }

    /// All, in the order of their numbers.
    pub(crate) fn iter(&self) -> impl Iterator<Item = &Arc<T>> {
        self.places.iter().flatten().map(|place| &place.item)
    }

    /// The number of a tenant's.
    pub(crate) fn count_of(&self, tenant: TenantId) -> usize {
        self.by_id.get(&tenant).map_or(0, BTreeMap::len)
    }

    /// Those of a tenant whose ids come behind this text, in the order of their ids.
    pub(crate) fn behind(&self, tenant: TenantId, id: Option<&str>) -> impl Iterator<Item = &Arc<T>> {
        let from = id.map_or(Bound::Unbounded, Bound::Excluded);
        let own = self.by_id.get(&tenant).into_iter();
        let own = own.flat_map(move |own| own.range::<str, _>((from, Bound::Unbounded)));
        own.filter_map(|(_, number)| self.get(*number))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn id(number: u64) -> InstallationId {
        InstallationId::new(TenantId::MAIN, &format!("i{number}")).unwrap()
    }

    #[test]
    fn a_number_is_given_again_and_a_generation_never() {
        let mut slab = Slab::default();
        for (number, generation) in [(0, 7), (1, 8), (3, 9)] {
            assert_eq!(slab.free_numbers(1)[0], number.min(2));
            slab.insert(number, Generation(generation), &id(generation), Arc::new(generation));
        }
        assert_eq!(slab.remove(1).as_deref(), Some(&8));
        assert_eq!((slab.remove(1), slab.get(1), slab.of_generation(Generation(8))), (None, None, None));
        assert_eq!(slab.free_numbers(1)[0], 1);
        slab.insert(1, Generation(10), &id(8), Arc::new(10));
        assert_eq!(slab.of_generation(Generation(10)).map(|item| **item), Some(10));
        assert_eq!(slab.of_generation(Generation(8)), None, "its number belongs to another");
        assert_eq!(slab.get(3).map(|item| **item), Some(9));
        assert_eq!(slab.iter().map(|item| **item).collect::<Vec<_>>(), [7, 10, 9]);
        assert_eq!((slab.free_numbers(1)[0], slab.get(70)), (2, None));
        assert_eq!(slab.of(&id(8)).map(|item| **item), Some(10), "an id may be that of a later one");
        assert_eq!(slab.of(&id(10)), None);
    }

    #[test]
    fn an_item_may_have_further_numbers() {
        let mut slab = Slab::default();
        slab.insert(0, Generation(7), &id(7), Arc::new(7));
        assert_eq!(slab.free_numbers(3), [1, 2, 3]);
        slab.share(1, 0);
        slab.share(4, 0);
        assert_eq!(slab.free_numbers(3), [2, 3, 5]);
        slab.insert(2, Generation(8), &id(8), Arc::new(8));
        let found: Vec<_> = (0..6).map(|number| slab.get(number).map(|item| **item)).collect();
        assert_eq!(found, [Some(7), Some(7), Some(8), None, Some(7), None]);
        assert_eq!((slab.len(), slab.iter().count()), (2, 2), "it is there once");
        slab.unshare(1);
        slab.unshare(4);
        assert_eq!((slab.get(1), slab.get(4)), (None, None));
        assert_eq!(slab.remove(0).as_deref(), Some(&7));
        assert_eq!(slab.free_numbers(4), [0, 1, 3, 4]);
    }

    #[test]
    fn a_list_is_in_the_order_of_ids_and_goes_on_behind_one_that_is_gone() {
        let mut slab = Slab::default();
        for (number, name) in [5, 3, 9, 7].into_iter().enumerate() {
            slab.insert(number as u32, Generation(name), &id(name), Arc::new(name));
        }
        let listed = |slab: &Slab<u64>, after| {
            slab.behind(TenantId::MAIN, after).map(|item| **item).collect::<Vec<_>>()
        };
        assert_eq!(listed(&slab, None), [3, 5, 7, 9]);
        assert_eq!(listed(&slab, Some("i5")), [7, 9]);
        slab.remove(0);
        assert_eq!(listed(&slab, Some("i5")), [7, 9]);
        assert_eq!(listed(&slab, Some("")), [3, 7, 9]);
    }
}
