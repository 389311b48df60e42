//! Converts typed values to bytes.

use serde::Serialize;
use serde::de::DeserializeOwned;

use super::finite::is_finite;

/// Turns values into bytes and back. The same value always gives the same bytes, where its own serialization does
/// (mind hash maps: use a `BTreeMap`).
///
/// [`Json`] and [`Compact`] are there. A form of one's own, such as one that another program writes:
///
/// ```
/// use ironloom_sdk::prelude::*;
/// use ironloom_sdk::state::Codec;
/// use serde::Serialize;
/// use serde::de::DeserializeOwned;
///
/// /// JSON that begins with the number of its version.
/// enum Versioned {}
///
/// impl Codec for Versioned {
///     fn encode<V: Serialize>(value: &V, to: &mut Vec<u8>) -> Result<(), String> {
///         to.push(b'1');
///         Json::encode(value, to)
///     }
///
///     fn decode<V: DeserializeOwned>(bytes: &[u8]) -> Result<V, String> {
///         match bytes.split_first() {
///             Some((b'1', json)) => Json::decode(json),
///             _ => Err("it is of an unknown version".to_owned()),
///         }
///     }
/// }
///
/// const VISITS: Table<str, u32, Versioned> = Table::new("visits/");
///
/// # let mut platform = ironloom_sdk::testing::Platform::new();
/// # platform.run(|| VISITS.set("ann", &7)).unwrap();
/// # assert_eq!(platform.state()["visits/ann"], b"17");
/// # assert_eq!(platform.run(|| VISITS.get("ann")), Ok(Some(7)));
/// ```
pub trait Codec {
    /// Appends the value's bytes.
    fn encode<V: Serialize>(value: &V, to: &mut Vec<u8>) -> Result<(), String>;

    /// Reads a value from all of the bytes.
    fn decode<V: DeserializeOwned>(bytes: &[u8]) -> Result<V, String>;
}

/// JSON, which people can read through the API, and which takes a struct with fields added later
/// (`#[serde(default)]`). It has no form for NaN and infinity: storing one is an error, so use an `Option`.
///
/// ```
/// use ironloom_sdk::prelude::*;
///
/// const LAST: Table<str, f64> = Table::new("last/");
///
/// # let mut platform = ironloom_sdk::testing::Platform::new();
/// # platform.run(|| {
/// LAST.set("attic", &21.5)?;
/// assert!(LAST.set("cellar", &f64::NAN).is_err());
/// # Ok::<(), ironloom_sdk::state::Error>(())
/// # }).unwrap();
/// # assert_eq!(platform.state()["last/attic"], b"21.5");
/// # assert_eq!(platform.state().len(), 1);
/// ```
#[derive(Clone, Copy, Debug)]
pub enum Json {}

/// [Postcard](https://postcard.jamesmunns.com/wire-format), several times as fast and small as JSON, but fields can't
/// be added to a struct without migrating what is stored.
#[derive(Clone, Copy, Debug)]
pub enum Compact {}

impl Codec for Json {
    fn encode<V: Serialize>(value: &V, to: &mut Vec<u8>) -> Result<(), String> {
        let start = to.len();
        serde_json::to_writer(&mut *to, value).map_err(|error| error.to_string())?;
        // Only what has a `null` can have had such a number, and hardly anything has one.
        let has_null = to[start..].windows(4).any(|bytes| bytes == b"null");
        if has_null && !is_finite(value) {
            to.truncate(start);
            return Err("JSON has no form for NaN and infinity; use an Option, or Compact".to_owned());
        }
        Ok(())
    }

    fn decode<V: DeserializeOwned>(bytes: &[u8]) -> Result<V, String> {
        serde_json::from_slice(bytes).map_err(|error| error.to_string())
    }
}

impl Codec for Compact {
    fn encode<V: Serialize>(value: &V, to: &mut Vec<u8>) -> Result<(), String> {
        // `to_extend` takes the target by value; this hands the same buffer through.
        *to = postcard::to_extend(value, std::mem::take(to)).map_err(|error| error.to_string())?;
        Ok(())
    }

    fn decode<V: DeserializeOwned>(bytes: &[u8]) -> Result<V, String> {
        match postcard::take_from_bytes(bytes) {
            Ok((value, [])) => Ok(value),
            Ok((_, rest)) => Err(format!("{} bytes are left over", rest.len())),
            Err(error) => Err(error.to_string()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn round_trip<C: Codec>(
        value: &(String, u64, i64, f64, Option<bool>, Vec<u8>),
    ) -> Result<(), TestCaseError> {
        let mut bytes = b"before".to_vec();
        C::encode(value, &mut bytes).map_err(TestCaseError::fail)?;
        let read: (String, u64, i64, f64, Option<bool>, Vec<u8>) =
            C::decode(&bytes[6..]).map_err(TestCaseError::fail)?;
        prop_assert_eq!(&read, value);
        prop_assert_eq!(read.3.to_bits(), value.3.to_bits());
        prop_assert_eq!(&bytes[..6], b"before");
        bytes.push(b'1');
        prop_assert!(C::decode::<(String, u64, i64, f64, Option<bool>, Vec<u8>)>(&bytes[6..]).is_err());
        Ok(())
    }

    #[derive(Clone, Debug, PartialEq, serde::Serialize, serde::Deserialize)]
    enum Shape {
        Unit,
        New(f64),
        Pair(f64, Option<f64>),
        Named { values: Vec<Option<f64>>, by_name: std::collections::BTreeMap<String, f32> },
    }

    fn number() -> impl Strategy<Value = f64> {
        prop_oneof![4 => any::<f64>(), 1 => prop_oneof![Just(f64::NAN), Just(f64::INFINITY)]]
    }

    fn shape() -> impl Strategy<Value = Shape> {
        let odd = number().prop_map(|number| if number.is_finite() { 1.5 } else { f32::NAN });
        let map = proptest::collection::btree_map("[a-c]", odd, 0..3);
        let values = proptest::collection::vec(proptest::option::of(number()), 0..3);
        prop_oneof![
            Just(Shape::Unit),
            number().prop_map(Shape::New),
            (number(), proptest::option::of(number())).prop_map(|(a, b)| Shape::Pair(a, b)),
            (values, map).prop_map(|(values, by_name)| Shape::Named { values, by_name }),
        ]
    }

    fn has_only_finite(shape: &Shape) -> bool {
        match shape {
            Shape::Unit => true,
            Shape::New(value) => value.is_finite(),
            Shape::Pair(a, b) => a.is_finite() && b.is_none_or(f64::is_finite),
            Shape::Named { values, by_name } => {
                values.iter().flatten().all(|value| value.is_finite())
                    && by_name.values().all(|value| value.is_finite())
            }
        }
    }

    proptest! {
        /// Whatever JSON takes it gives back; what it has no form for leaves nothing behind.
        #[test]
        fn json_refuses_what_it_cant_read_back(shape in shape()) {
            let mut bytes = b"before".to_vec();
            match Json::encode(&shape, &mut bytes) {
                Ok(()) => prop_assert_eq!(Json::decode::<Shape>(&bytes[6..]), Ok(shape)),
                Err(_) => {
                    prop_assert!(!has_only_finite(&shape), "{:?}", shape);
                    prop_assert_eq!(bytes, b"before".to_vec());
                }
            }
        }

        #[test]
        fn values_read_back_as_written(
            value in any::<(String, u64, i64, f64, Option<bool>, Vec<u8>)>()
                .prop_filter("JSON knows finite numbers only", |value| value.3.is_finite())
        ) {
            round_trip::<Json>(&value)?;
            round_trip::<Compact>(&value)?;
        }
    }
}
