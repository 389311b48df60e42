//! Many keys and values, as they cross the boundary: each in one buffer.

use super::{Error, Packed};

/// The length of what isn't there.
const NONE: i32 = -1;

/// Values of several keys, in the order of the keys.
///
/// ```
/// use ironloom_sdk::prelude::*;
///
/// fn names() -> Result<(), Failure> {
///     state::set_many(&[("name/1", b"ann"), ("name/2", b"bob")])?;
///     let found = state::get_many(&["name/2", "name/3", "name/1"])?;
///     assert_eq!(found.iter().collect::<Vec<_>>(), [Some(&b"bob"[..]), None, Some(b"ann")]);
///     Ok(())
/// }
/// # ironloom_sdk::testing::Platform::new().run(names).unwrap();
/// ```
#[derive(Clone, Debug)]
pub struct Values(pub(super) Packed);

impl Values {
    /// Returns how many keys were asked for.
    pub fn len(&self) -> usize {
        self.0.lengths.len()
    }

    /// Returns whether no key was asked for.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// The value of each key, if there is one.
    pub fn iter(&self) -> impl ExactSizeIterator<Item = Option<&[u8]>> {
        let mut rest = self.0.bytes.as_slice();
        self.0.lengths.iter().map(move |&length| {
            // The host's lengths add up; natively the platform's do.
            let (value, after) = rest.split_at_checked(usize::try_from(length).ok()?)?;
            rest = after;
            Some(value)
        })
    }
}

/// Adds a value to others.
#[inline]
pub(crate) fn push(packed: &mut Packed, value: Option<&[u8]>) {
    let Some(value) = value else {
        packed.lengths.push(NONE);
        return;
    };
    packed.bytes.extend_from_slice(value);
    push_length(packed, value.len());
}

/// Adds the length of a value that is among the bytes already.
#[inline]
pub(super) fn push_length(packed: &mut Packed, length: usize) {
    // No memory of an app holds a longer one.
    packed.lengths.push(i32::try_from(length).unwrap_or(i32::MAX));
}

/// Many values in one buffer.
pub(crate) fn pack<'v>(values: impl Iterator<Item = Option<&'v [u8]>> + Clone) -> Packed {
    let bytes = values.clone().flatten().map(<[u8]>::len).sum();
    let mut packed =
        Packed { lengths: Vec::with_capacity(values.size_hint().0), bytes: Vec::with_capacity(bytes) };
    values.for_each(|value| push(&mut packed, value));
    packed
}

/// Keys on a line each. One that would be another number of lines is refused here.
pub(super) fn lines<'k>(keys: impl Iterator<Item = &'k str> + Clone) -> Result<String, Error> {
    let mut text = String::with_capacity(keys.clone().map(|key| key.len() + 1).sum());
    for (place, key) in keys.enumerate() {
        if key.is_empty() {
            return Err(Error::InvalidKey("a key must not be empty".to_owned()));
        }
        if key.contains('\n') {
            return Err(Error::InvalidKey("a key must not contain a line feed".to_owned()));
        }
        if place > 0 {
            text.push('\n');
        }
        text.push_str(key);
    }
    Ok(text)
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    proptest! {
        #[test]
        fn values_come_out_as_they_went_in(
            values in proptest::collection::vec(proptest::option::of(proptest::collection::vec(any::<u8>(), 0..9)), 0..9)
        ) {
            let packed = Values(pack(values.iter().map(Option::as_deref)));
            prop_assert_eq!(packed.iter().len(), values.len());
            prop_assert_eq!(packed.iter().map(|value| value.map(<[u8]>::to_vec)).collect::<Vec<_>>(), values);
        }
    }
}
