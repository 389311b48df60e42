//! How typed values become bytes.

use serde::Serialize;
use serde::de::DeserializeOwned;

/// Turns values into bytes and back. The same value always gives the same bytes, where its own serialization does
/// (mind hash maps: use a `BTreeMap`).
pub trait Codec {
    /// Appends the value's bytes.
    fn encode<V: Serialize>(value: &V, to: &mut Vec<u8>) -> Result<(), String>;

    /// Reads a value from all of the bytes.
    fn decode<V: DeserializeOwned>(bytes: &[u8]) -> Result<V, String>;
}

/// JSON, which people can read through the API, and which takes a struct with fields added later
/// (`#[serde(default)]`). It knows no NaN and no infinity: storing one is stored as `null`, which no `f64` reads
/// back, so use an `Option`.
#[derive(Clone, Copy, Debug)]
pub enum Json {}

/// [Postcard](https://postcard.jamesmunns.com/wire-format), several times as fast and small as JSON, but fields can't
/// be added to a struct without migrating what is stored.
#[derive(Clone, Copy, Debug)]
pub enum Compact {}

impl Codec for Json {
    fn encode<V: Serialize>(value: &V, to: &mut Vec<u8>) -> Result<(), String> {
        serde_json::to_writer(to, value).map_err(|error| error.to_string())
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

    proptest! {
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
