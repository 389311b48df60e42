//! The entities of one lane, each with a number.

use std::collections::BTreeSet;

use hashbrown::HashMap;
use parking_lot::{RwLock, RwLockReadGuard};

use super::by_text::NumbersByText;
use crate::unit::Conversion;

/// The texts of entities that are gone may take this many bytes, or as many as the others, before they are let go.
const LEFT_OVER: usize = 64 << 10;

/// The entities of one lane, numbered from 0 in the order in which they appear. Routing adds them and forgets those
/// that no point has any more, the lane reads them. The numbers live as long as the process and are written nowhere.
/// None is given again, as with points: a number that is forgotten takes 8 bytes, and there are no more of them than
/// points have been there.
#[derive(Default)]
pub struct Entities(RwLock<Inner>);

#[derive(Default)]
struct Inner {
    /// All texts one after the other, so that a million of them is two allocations.
    heap: String,
    /// The place of each text in the heap.
    places: Vec<Place>,
    numbers: NumbersByText,
    /// Bytes of the heap whose entities are forgotten.
    left_over: usize,
    /// The conversions of readings of an input and an entity, for those that are converted. One point at a time gives both.
    conversions: HashMap<(u16, u32), Conversion>,
}

#[derive(Clone, Copy)]
struct Place {
    start: u32,
    /// [`FORGOTTEN`] where no point has the entity.
    length: u32,
}

const FORGOTTEN: u32 = u32::MAX;

impl Place {
    fn text(self, heap: &str) -> &str {
        let start = self.start as usize;
        &heap[start..start + self.length as usize]
    }
}

impl Inner {
    fn place(&self, number: u32) -> Place {
        let place = self.places[number as usize];
        assert!(place.length != FORGOTTEN, "a purge waits for all that read the points that it removes");
        place
    }

    fn text(&self, number: u32) -> &str {
        self.place(number).text(&self.heap)
    }

    fn find(&self, text: &str, hash: u32) -> Option<u32> {
        self.numbers.find(hash, |number| self.text(number) == text)
    }

    fn add(&mut self, text: &str, hash: u32) -> u32 {
        let number = self.places.len() as u32;
        self.places.push(put(&mut self.heap, text));
        self.numbers.insert(hash, number);
        number
    }

    fn forget(&mut self, number: u32) {
        let hash = self.numbers.hash(self.text(number));
        self.numbers.remove(hash, number);
        let place = &mut self.places[number as usize];
        self.left_over += place.length as usize;
        place.length = FORGOTTEN;
    }

    /// Lets go of what is left over, where it is much.
    fn shrink(&mut self) {
        if self.left_over <= LEFT_OVER.max(self.heap.len() / 2) {
            return;
        }
        let mut heap = String::with_capacity(self.heap.len() - self.left_over);
        for place in self.places.iter_mut().filter(|place| place.length != FORGOTTEN) {
            *place = put(&mut heap, place.text(&self.heap));
        }
        (self.heap, self.left_over) = (heap, 0);
    }
}

/// Appends a text.
fn put(heap: &mut String, text: &str) -> Place {
    let (start, length) = (heap.len(), text.len());
    assert!(
        start + length < FORGOTTEN as usize,
        "the entities of all points that there may be have less than 4 GiB"
    );
    heap.push_str(text);
    Place { start: start as u32, length: length as u32 }
}

impl Entities {
    /// The number of an entity, given now where it has none.
    pub(super) fn intern(&self, text: &str) -> u32 {
        let (hash, known) = {
            let inner = self.0.read();
            let hash = inner.numbers.hash(text);
            (hash, inner.find(text, hash))
        };
        // Only the routing table adds, so nobody has added this one in between.
        known.unwrap_or_else(|| self.0.write().add(text, hash))
    }

    /// Forgets entities that no point has any more and whose readings nobody waits for.
    pub(super) fn forget(&self, numbers: impl IntoIterator<Item = u32>) {
        let numbers: BTreeSet<u32> = numbers.into_iter().collect();
        let mut inner = self.0.write();
        numbers.iter().for_each(|number| inner.forget(*number));
        inner.conversions.retain(|(_, entity), _| !numbers.contains(entity));
        inner.shrink();
    }

    /// Says how the readings of an input and an entity come in from now on.
    pub(super) fn convert(&self, input: u16, entity: u32, conversion: Option<Conversion>) {
        // Most need none, and then nobody who reads has to wait.
        if conversion.is_none() && self.0.read().conversions.is_empty() {
            return;
        }
        let conversions = &mut self.0.write().conversions;
        match conversion {
            Some(conversion) => conversions.insert((input, entity), conversion),
            None => conversions.remove(&(input, entity)),
        };
    }

    /// Looks at them. New ones wait until what is returned is dropped.
    pub fn read(&self) -> EntitiesRead<'_> {
        EntitiesRead(self.0.read())
    }
}

/// A look at the entities of a lane.
pub struct EntitiesRead<'a>(RwLockReadGuard<'a, Inner>);

impl EntitiesRead<'_> {
    /// The text of an entity by its number, which must be one that a match of this lane had.
    pub fn text(&self, number: u32) -> &str {
        self.0.text(number)
    }

    /// The texts of entities by their numbers, one on each line. First all places, then all texts: they are spread over
    /// the memory, and so the processor waits for many of them at once.
    pub fn lines(&self, numbers: &[u32]) -> String {
        let places: Vec<Place> = numbers.iter().map(|number| self.0.place(*number)).collect();
        let bytes = places.iter().map(|place| place.length as usize + 1).sum();
        let mut lines = String::with_capacity(bytes);
        for (line, place) in places.into_iter().enumerate() {
            if line > 0 {
                lines.push('\n');
            }
            lines.push_str(place.text(&self.0.heap));
        }
        lines
    }

    /// The number of an entity, if a point has it.
    pub fn number(&self, text: &str) -> Option<u32> {
        self.0.find(text, self.0.numbers.hash(text))
    }

    /// The conversion of readings of an input and an entity.
    #[inline]
    pub fn conversion(&self, input: u16, entity: u32) -> Option<Conversion> {
        if self.0.conversions.is_empty() { None } else { self.0.conversions.get(&(input, entity)).copied() }
    }

    /// The number of numbers given, those of forgotten ones too.
    pub fn given(&self) -> usize {
        self.0.places.len()
    }

    /// Bytes that their texts take.
    #[cfg(test)]
    pub(super) fn bytes(&self) -> usize {
        self.0.heap.len()
    }
}
