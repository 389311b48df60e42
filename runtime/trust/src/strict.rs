//! JSON that is signed, in which nothing means two things. Structs refuse unknown and repeated keys by themselves, and
//! arrays in the place of objects with [`object`] and the like; maps refuse repeated keys with [`Unique`].

use std::collections::BTreeMap;
use std::fmt;
use std::marker::PhantomData;

use serde::de::value::MapAccessDeserializer;
use serde::de::{DeserializeOwned, Error as _, MapAccess, Visitor};
use serde::{Deserialize, Deserializer, Serialize};

use ironloom_types::text::{clean, shorten};

/// The greatest integer that each reader of JSON takes for the same: 2^53 - 1 (RFC 8259, section 6).
pub const MAX_INTEGER: u64 = (1 << 53) - 1;

/// A count or version in signed JSON: an integer up to [`MAX_INTEGER`].
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize)]
pub struct Integer(u64);

impl Integer {
    /// Returns `None` above [`MAX_INTEGER`].
    pub fn new(number: u64) -> Option<Self> {
        (number <= MAX_INTEGER).then_some(Self(number))
    }

    pub fn get(self) -> u64 {
        self.0
    }
}

impl fmt::Display for Integer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

impl<'de> Deserialize<'de> for Integer {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let number = u64::deserialize(deserializer)?;
        Self::new(number).ok_or_else(|| {
            D::Error::custom(format!(
                "{number} is above {MAX_INTEGER} (2^53 - 1), from where on readers of JSON differ"
            ))
        })
    }
}

/// A map in which no key comes twice: readers differ in which of the two they take.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
#[serde(transparent)]
pub struct Unique<V>(pub BTreeMap<String, V>);

impl<V> Default for Unique<V> {
    fn default() -> Self {
        Self(BTreeMap::new())
    }
}

impl<V> Unique<V> {
    /// Returns whether there is nothing in it.
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }
}

impl<'de, V: Deserialize<'de>> Deserialize<'de> for Unique<V> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_map(UniqueVisitor(PhantomData)).map(Unique)
    }
}

struct UniqueVisitor<V>(PhantomData<V>);

impl<'de, V: Deserialize<'de>> Visitor<'de> for UniqueVisitor<V> {
    type Value = BTreeMap<String, V>;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("an object")
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Self::Value, A::Error> {
        let mut found = BTreeMap::new();
        while let Some((key, value)) = map.next_entry::<String, V>()? {
            if found.insert(key.clone(), value).is_some() {
                return Err(A::Error::custom(format!("the key {key:?} comes twice")));
            }
        }
        Ok(found)
    }
}

/// A struct that stands as an object. By itself one is read from an array of its fields as well.
struct Object<T>(T);

impl<'de, T: Deserialize<'de>> Deserialize<'de> for Object<T> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_map(ObjectVisitor(PhantomData)).map(Self)
    }
}

struct ObjectVisitor<T>(PhantomData<T>);

impl<'de, T: Deserialize<'de>> Visitor<'de> for ObjectVisitor<T> {
    type Value = T;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("an object")
    }

    fn visit_map<A: MapAccess<'de>>(self, map: A) -> Result<T, A::Error> {
        T::deserialize(MapAccessDeserializer::new(map))
    }
}

/// Characters of a problem that are kept: an unknown key may be as long as the file.
const MAX_PROBLEM: usize = 300;

/// The words for a problem of which a part may stand in what was read: short, and on one line.
pub(crate) fn problem(text: &str) -> String {
    clean(&shorten(text, MAX_PROBLEM)).into_owned()
}

/// Reads an object from JSON.
pub(crate) fn from_slice<T: DeserializeOwned>(json: &[u8]) -> serde_json::Result<T> {
    serde_json::from_slice::<Object<T>>(json).map(|object| object.0)
}

/// Reads a field that is an object.
pub(crate) fn object<'de, D: Deserializer<'de>, T: Deserialize<'de>>(deserializer: D) -> Result<T, D::Error> {
    Object::deserialize(deserializer).map(|object| object.0)
}

/// Reads a field that is an object, or `null`.
pub(crate) fn optional<'de, D: Deserializer<'de>, T: Deserialize<'de>>(
    deserializer: D,
) -> Result<Option<T>, D::Error> {
    Option::<Object<T>>::deserialize(deserializer).map(|object| object.map(|object| object.0))
}

/// Reads a field that is an array of objects.
pub(crate) fn objects<'de, D: Deserializer<'de>, T: Deserialize<'de>>(
    deserializer: D,
) -> Result<Vec<T>, D::Error> {
    let all = Vec::<Object<T>>::deserialize(deserializer)?;
    Ok(all.into_iter().map(|object| object.0).collect())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn integers_end_where_readers_of_json_begin_to_differ() {
        assert_eq!(serde_json::from_str::<Integer>("9007199254740991").unwrap().get(), MAX_INTEGER);
        for text in ["9007199254740992", "9223372036854775808", "1.0", "-1", "\"1\"", "1e3"] {
            assert!(serde_json::from_str::<Integer>(text).is_err(), "{text}");
        }
    }

    #[derive(Debug, PartialEq, Deserialize)]
    struct Inner {
        a: u8,
    }

    #[derive(Debug, PartialEq, Deserialize)]
    struct Outer {
        #[serde(deserialize_with = "object")]
        one: Inner,
        #[serde(deserialize_with = "objects")]
        all: Vec<Inner>,
        #[serde(default, deserialize_with = "optional")]
        perhaps: Option<Inner>,
    }

    #[test]
    fn an_array_is_no_object() {
        let read = |json: &str| from_slice::<Outer>(json.as_bytes());
        let outer = Outer { one: Inner { a: 1 }, all: vec![Inner { a: 2 }], perhaps: None };
        assert_eq!(read(r#"{"one": {"a": 1}, "all": [{"a": 2}]}"#).unwrap(), outer);
        assert!(read(r#"{"one": {"a": 1}, "all": [], "perhaps": {"a": 3}}"#).unwrap().perhaps.is_some());
        for json in [
            r#"[{"a": 1}, [{"a": 2}], null]"#,
            r#"{"one": [1], "all": [{"a": 2}]}"#,
            r#"{"one": {"a": 1}, "all": [[2]]}"#,
            r#"{"one": {"a": 1}, "all": [], "perhaps": [3]}"#,
        ] {
            let error = read(json).unwrap_err().to_string();
            assert!(error.contains("invalid type: sequence, expected an object"), "{json}: {error}");
        }
    }

    #[test]
    fn a_key_comes_once() {
        assert_eq!(serde_json::from_str::<Unique<u8>>(r#"{"a":1,"b":2}"#).unwrap().0.len(), 2);
        let error = serde_json::from_str::<Unique<u8>>(r#"{"a":1,"\u0061":2}"#).unwrap_err();
        assert!(error.to_string().starts_with("the key \"a\" comes twice"), "{error}");
    }
}
