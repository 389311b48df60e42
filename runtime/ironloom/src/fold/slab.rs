//! What is found by an installation's number without hashing, and by its generation.

use std::sync::Arc;

use hashbrown::HashMap;

use ironloom_types::ids::Generation;

/// One item for each installation, at the place of its number.
#[derive(Debug)]
pub(crate) struct Slab<T> {
    places: Vec<Option<(Generation, Arc<T>)>>,
    /// Each commit is looked up by its generation.
    numbers: HashMap<Generation, u32>,
}

impl<T> Default for Slab<T> {
    fn default() -> Self {
        Self { places: Vec::new(), numbers: HashMap::new() }
    }
}

impl<T> Slab<T> {
    /// The least number that is free.
    pub(crate) fn free_number(&self) -> u32 {
        self.places.iter().position(Option::is_none).unwrap_or(self.places.len()) as u32
    }

    /// Puts an item into its place.
    pub(crate) fn insert(&mut self, number: u32, generation: Generation, item: Arc<T>) {
        let place = number as usize;
        if self.places.len() <= place {
            self.places.resize_with(place + 1, || None);
        }
        assert!(self.places[place].is_none(), "a number is free before it is given again");
        let before = self.numbers.insert(generation, number);
        assert!(before.is_none(), "a generation is one life of one installation");
        self.places[place] = Some((generation, item));
    }

    /// Takes an item out, so that its number is free.
    pub(crate) fn remove(&mut self, number: u32) -> Option<Arc<T>> {
        let (generation, item) = self.places.get_mut(number as usize)?.take()?;
        self.numbers.remove(&generation);
        Some(item)
    }

    pub(crate) fn get(&self, number: u32) -> Option<&Arc<T>> {
        self.places.get(number as usize)?.as_ref().map(|(_, item)| item)
    }

    pub(crate) fn of_generation(&self, generation: Generation) -> Option<&Arc<T>> {
        self.get(*self.numbers.get(&generation)?)
    }

    /// All, in the order of their numbers.
    pub(crate) fn iter(&self) -> impl Iterator<Item = &Arc<T>> {
        self.places.iter().flatten().map(|(_, item)| item)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_number_is_given_again_and_a_generation_never() {
        let mut slab = Slab::default();
        for (number, generation) in [(0, 7), (1, 8), (3, 9)] {
            assert_eq!(slab.free_number(), number.min(2));
            slab.insert(number, Generation(generation), Arc::new(generation));
        }
        assert_eq!(slab.remove(1).as_deref(), Some(&8));
        assert_eq!((slab.remove(1), slab.get(1), slab.of_generation(Generation(8))), (None, None, None));
        assert_eq!(slab.free_number(), 1);
        slab.insert(1, Generation(10), Arc::new(10));
        assert_eq!(slab.of_generation(Generation(10)).map(|item| **item), Some(10));
        assert_eq!(slab.of_generation(Generation(8)), None, "its number belongs to another");
        assert_eq!(slab.get(3).map(|item| **item), Some(9));
        assert_eq!(slab.iter().map(|item| **item).collect::<Vec<_>>(), [7, 10, 9]);
        assert_eq!((slab.free_number(), slab.get(70)), (2, None));
    }
}
