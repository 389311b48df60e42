//! Many values in one buffer, as they cross the boundary.

use crate::bindings::platform::ironloom::state::state::{Error, Packed};

/// The length of what isn't there.
const NONE: i32 = -1;

/// Values that are gathered for the app.
pub(super) struct Packing {
    packed: Packed,
    /// Bytes that there may be.
    most: usize,
}

impl Packing {
    pub(super) fn new(values: usize, most: usize) -> Self {
        Self { packed: Packed { lengths: Vec::with_capacity(values), bytes: Vec::new() }, most }
    }

    /// How many values there are so far.
    pub(super) fn len(&self) -> usize {
        self.packed.lengths.len()
    }

    /// How long all of them together are.
    pub(super) fn bytes(&self) -> usize {
        self.packed.bytes.len()
    }

    /// Adds the next one, unless all together would be more than the app has room for.
    pub(super) fn push(&mut self, value: Option<&[u8]>) -> Result<(), Error> {
        let Packed { lengths, bytes } = &mut self.packed;
        let Some(value) = value else {
            lengths.push(NONE);
            return Ok(());
        };
        if value.len() > self.most - bytes.len() {
            return Err(Error::Other(format!(
                "the values together exceed the {} bytes of memory that the app has; get fewer at once",
                self.most
            )));
        }
        if bytes.is_empty() {
            // Values under keys of one kind are mostly of one size.
            bytes.reserve(value.len() * lengths.capacity().min((64 << 10) / value.len().max(1)));
        }
        // No value is longer than an i32 counts: it came in through one of these.
        lengths.push(value.len() as i32);
        bytes.extend_from_slice(value);
        Ok(())
    }

    pub(super) fn done(self) -> Packed {
        self.packed
    }
}

/// Takes the values of `keys` keys apart, or says why that can't be done.
pub(super) fn unpack(
    packed: &Packed,
    keys: usize,
) -> Result<impl ExactSizeIterator<Item = Option<&[u8]>>, Error> {
    let Packed { lengths, bytes } = packed;
    if lengths.len() != keys {
        return Err(Error::Other(format!("there are {keys} keys and {} values", lengths.len())));
    }
    let mut sum = 0_u64;
    for &length in lengths {
        if length < NONE {
            return Err(Error::Other(format!("{length} is not the length of a value")));
        }
        sum += length.max(0).unsigned_abs() as u64;
    }
    if sum != bytes.len() as u64 {
        return Err(Error::Other(format!(
            "the lengths of the values add up to {sum} bytes, and there are {}",
            bytes.len()
        )));
    }
    let mut rest = bytes.as_slice();
    Ok(lengths.iter().map(move |&length| {
        let (value, after) = rest.split_at(usize::try_from(length).ok()?);
        rest = after;
        Some(value)
    }))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn packed(lengths: &[i32], bytes: &[u8]) -> Packed {
        Packed { lengths: lengths.to_vec(), bytes: bytes.to_vec() }
    }

    #[test]
    fn values_come_out_as_they_went_in() {
        let mut packing = Packing::new(4, 5);
        for value in [Some(&b"abc"[..]), None, Some(b""), Some(b"de")] {
            packing.push(value).unwrap();
        }
        assert!(packing.push(Some(b"f")).is_err(), "there is room for five bytes");
        let packed = packing.done();
        assert_eq!(packed.lengths, [3, -1, 0, 2]);
        assert_eq!(packed.bytes, b"abcde");
        let values: Vec<_> = unpack(&packed, 4).unwrap().collect();
        assert_eq!(values, [Some(&b"abc"[..]), None, Some(b""), Some(b"de")]);
    }

    #[test]
    fn lengths_that_dont_fit_are_refused() {
        let refused = |packed: Packed, keys| match unpack(&packed, keys) {
            Ok(_) => panic!("{packed:?} was taken"),
            Err(Error::Other(text)) => text,
            Err(other) => panic!("{other:?}"),
        };
        assert_eq!(refused(packed(&[1], b"a"), 2), "there are 2 keys and 1 values");
        assert_eq!(refused(packed(&[-2, 3], b"abc"), 2), "-2 is not the length of a value");
        assert_eq!(refused(packed(&[i32::MIN], b""), 1), "-2147483648 is not the length of a value");
        let text = "the lengths of the values add up to 4 bytes, and there are 3";
        assert_eq!(refused(packed(&[1, 3], b"abc"), 2), text);
        let text = "the lengths of the values add up to 4294967294 bytes, and there are 1";
        assert_eq!(refused(packed(&[i32::MAX, i32::MAX], b"a"), 2), text);
    }
}
