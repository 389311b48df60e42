//! JSON in which nothing means two things.

use std::fmt;

use serde::de::{DeserializeOwned, Error as _, MapAccess, SeqAccess, Visitor};
use serde::{Deserialize, Deserializer};
use serde_json::Value;

use super::PackageError;

/// The largest JSON file of a package, in bytes.
const MAX_JSON: usize = 1 << 20;

/// Reads a JSON file of a package.
pub(super) fn from_json<T: DeserializeOwned>(place: &str, bytes: &[u8]) -> Result<T, PackageError> {
    if bytes.len() > MAX_JSON {
        return Err(super::layout::refuse(
            place,
            format!("has {} bytes; at most {MAX_JSON} are allowed", bytes.len()),
        ));
    }
    let value = serde_json::from_slice::<Strict>(bytes).and_then(|strict| serde_json::from_value(strict.0));
    value.map_err(|error| super::layout::refuse(place, error.to_string()))
}

/// JSON in which no object has a key twice: readers differ in which of the two they take.
struct Strict(Value);

impl<'de> Deserialize<'de> for Strict {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_any(StrictVisitor).map(Strict)
    }
}

struct StrictVisitor;

impl<'de> Visitor<'de> for StrictVisitor {
    type Value = Value;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("JSON")
    }

    fn visit_bool<E>(self, value: bool) -> Result<Value, E> {
        Ok(value.into())
    }

    fn visit_i64<E>(self, value: i64) -> Result<Value, E> {
        Ok(value.into())
    }

    fn visit_u64<E>(self, value: u64) -> Result<Value, E> {
        Ok(value.into())
    }

    fn visit_f64<E>(self, value: f64) -> Result<Value, E> {
        Ok(value.into())
    }

    fn visit_str<E>(self, value: &str) -> Result<Value, E> {
        Ok(value.into())
    }

    fn visit_unit<E>(self) -> Result<Value, E> {
        Ok(Value::Null)
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut list: A) -> Result<Value, A::Error> {
        let mut values = Vec::new();
        while let Some(Strict(value)) = list.next_element()? {
            values.push(value);
        }
        Ok(values.into())
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Value, A::Error> {
        let mut object = serde_json::Map::new();
        while let Some(key) = map.next_key::<String>()? {
            let Strict(value) = map.next_value()?;
            if object.insert(key.clone(), value).is_some() {
                return Err(A::Error::custom(format!("the key {key:?} comes twice")));
            }
        }
        Ok(object.into())
    }
}
