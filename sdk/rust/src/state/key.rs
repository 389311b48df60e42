//! Converts typed keys to texts.

use std::fmt::Write;

use crate::time::Timestamp;

/// A key of a [`Table`](crate::Table): a text, a number or time (their order is that of the keys), or two of these
/// joined by a tab, which no entity contains. The first of two must not contain a tab.
///
/// ```
/// use ironloom_sdk::prelude::*;
/// use ironloom_sdk::state::Key;
///
/// let mut text = String::new();
/// ("barn-2/0042", Timestamp::from_nanos(5)).write(&mut text);
/// assert_eq!(text, "barn-2/0042\t00000000000000000005");
/// assert_eq!(<(&str, Timestamp)>::read(&text), Some(("barn-2/0042".to_owned(), Timestamp::from_nanos(5))));
/// ```
pub trait Key {
    /// The key as a scan gives it back.
    type Owned;

    /// Appends the key's text.
    fn write(&self, to: &mut String);

    /// Reads a key from its text.
    fn read(text: &str) -> Option<Self::Owned>;
}

impl Key for str {
    type Owned = String;

    fn write(&self, to: &mut String) {
        to.push_str(self);
    }

    fn read(text: &str) -> Option<String> {
        Some(text.to_owned())
    }
}

impl Key for String {
    type Owned = Self;

    fn write(&self, to: &mut String) {
        to.push_str(self);
    }

    fn read(text: &str) -> Option<Self> {
        Some(text.to_owned())
    }
}

impl Key for u64 {
    type Owned = Self;

    /// Twenty digits, so that the order of texts is that of numbers.
    fn write(&self, to: &mut String) {
        let written = write!(to, "{self:020}");
        debug_assert!(written.is_ok(), "a String takes everything");
    }

    fn read(text: &str) -> Option<Self> {
        if text.len() == 20 { text.parse().ok() } else { None }
    }
}

impl Key for Timestamp {
    type Owned = Self;

    fn write(&self, to: &mut String) {
        self.nanos().write(to);
    }

    fn read(text: &str) -> Option<Self> {
        u64::read(text).map(Self::from_nanos)
    }
}

impl<K: Key + ?Sized> Key for &K {
    type Owned = K::Owned;

    fn write(&self, to: &mut String) {
        (**self).write(to);
    }

    fn read(text: &str) -> Option<K::Owned> {
        K::read(text)
    }
}

impl<A: Key, B: Key> Key for (A, B) {
    type Owned = (A::Owned, B::Owned);

    fn write(&self, to: &mut String) {
        let start = to.len();
        self.0.write(to);
        debug_assert!(!to[start..].contains('\t'), "the first part of a key must not contain a tab");
        to.push('\t');
        self.1.write(to);
    }

    fn read(text: &str) -> Option<Self::Owned> {
        let (first, second) = text.split_once('\t')?;
        Some((A::read(first)?, B::read(second)?))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn text<K: Key>(key: K) -> String {
        let mut text = String::new();
        key.write(&mut text);
        text
    }

    proptest! {
        #[test]
        fn keys_read_back_and_keep_their_order(a in any::<(u64, u64)>(), b in any::<(u64, u64)>(), name in "[^\t]*") {
            prop_assert_eq!(text(a).cmp(&text(b)), a.cmp(&b));
            prop_assert_eq!(<(u64, u64)>::read(&text(a)), Some(a));
            let key = (name, a.0);
            prop_assert_eq!(<(String, u64)>::read(&text((key.0.as_str(), key.1))), Some(key));
        }
    }
}
