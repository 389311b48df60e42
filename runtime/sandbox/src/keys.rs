//! Keys of `state` in one text: many of them take no allocation each.

use ironloom_types::limits::{MAX_STATE_KEY, MAX_STATE_KEYS};

const _: () = assert!(MAX_STATE_KEYS * (MAX_STATE_KEY + 1) < u32::MAX as usize, "places fit");

/// Keys, in an order of their own. The same one may occur several times.
#[derive(Clone, Debug, Default)]
pub struct Keys {
    text: String,
    /// Begin and end of each in the text.
    places: Vec<(u32, u32)>,
}

impl Keys {
    /// A single key.
    pub fn one(key: impl Into<String>) -> Self {
        let text = key.into();
        let places = vec![(0, text.len() as u32)];
        Self { text, places }
    }

    /// The lines of a text, of which the empty one has one. The caller knows that they are not too many.
    pub(crate) fn lines(text: String) -> Self {
        let mut places = Vec::with_capacity(text.bytes().filter(|byte| *byte == b'\n').count() + 1);
        let mut begin = 0;
        for line in text.split('\n') {
            places.push((begin, begin + line.len() as u32));
            begin += line.len() as u32 + 1;
        }
        Self { text, places }
    }

    pub(crate) fn with_capacity(keys: usize, bytes: usize) -> Self {
        Self { text: String::with_capacity(bytes), places: Vec::with_capacity(keys) }
    }

    /// Adds a key that consists of two parts.
    #[inline]
    pub(crate) fn push(&mut self, prefix: &str, rest: &str) {
        let begin = self.text.len() as u32;
        self.text.push_str(prefix);
        self.text.push_str(rest);
        self.places.push((begin, self.text.len() as u32));
    }

    /// How many there are.
    pub fn len(&self) -> usize {
        self.places.len()
    }

    /// Whether there are none.
    pub fn is_empty(&self) -> bool {
        self.places.is_empty()
    }

    /// How many bytes they have, with what stands between them.
    pub(crate) fn bytes(&self) -> usize {
        self.text.len()
    }

    /// The key at a place.
    #[inline]
    pub fn get(&self, place: usize) -> &str {
        let (begin, end) = self.places[place];
        &self.text[begin as usize..end as usize]
    }

    /// Goes through them in their order.
    pub fn iter(&self) -> impl ExactSizeIterator<Item = &str> {
        self.places.iter().map(|(begin, end)| &self.text[*begin as usize..*end as usize])
    }
}

impl<'k> FromIterator<&'k str> for Keys {
    fn from_iter<I: IntoIterator<Item = &'k str>>(keys: I) -> Self {
        let mut all = Self::default();
        keys.into_iter().for_each(|key| all.push("", key));
        all
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn keys_come_back_as_they_were_given() {
        let all = |keys: &Keys| keys.iter().map(str::to_owned).collect::<Vec<_>>();
        assert_eq!(all(&Keys::lines(String::new())), [""]);
        assert_eq!(all(&Keys::lines("ä\n\nb".to_owned())), ["ä", "", "b"]);
        let mut keys = Keys::one("one");
        keys.push("animal/", "ö");
        assert_eq!((keys.get(0), keys.get(1), keys.len()), ("one", "animal/ö", 2));
    }
}
