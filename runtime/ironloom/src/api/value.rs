//! A reading's value in the API's JSON: written by the server, read back by the command line.

use std::borrow::Cow;
use std::fmt;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD as BASE64;
use serde::de::{self, Visitor};
use serde::ser::SerializeMap;
use serde::{Deserialize, Deserializer, Serialize, Serializer};
use utoipa::openapi::RefOr;
use utoipa::openapi::schema::{ObjectBuilder, Schema, SchemaType, Type};
use utoipa::{PartialSchema, ToSchema};

use ironloom_types::readings::{Value, not_finite};

/// A value as the API's JSON has it.
///
/// A missing value is `null`, a real always has a point or an exponent, the reals that JSON
/// lacks are `"NaN"`, `"Infinity"` and `"-Infinity"`, and a blob is `{"base64":"…"}`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct JsonValue(pub Value);

impl From<Value> for JsonValue {
    fn from(value: Value) -> Self {
        Self(value)
    }
}

/// For tables and CSV: as in JSON, but texts without quotes, blobs as base64 and nothing for a
/// missing value.
impl fmt::Display for JsonValue {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.0 {
            Value::Missing => Ok(()),
            Value::Boolean(value) => write!(f, "{value}"),
            Value::Integer(value) => write!(f, "{value}"),
            Value::Real(value) => f.write_str(&real(*value)),
            Value::Text(text) => f.write_str(text),
            Value::Blob(bytes) => f.write_str(&BASE64.encode(bytes)),
        }
    }
}

/// A real as JSON writes it, so that it is read back to the last bit.
fn real(value: f64) -> String {
    match not_finite(value) {
        Some(name) => name.to_owned(),
        None => serde_json::to_string(&value).unwrap_or_default(),
    }
}

impl PartialSchema for JsonValue {
    fn schema() -> RefOr<Schema> {
        let description = "null where it is missing; a real always has a point or an exponent, and those that JSON lacks are \
                           \"NaN\", \"Infinity\" and \"-Infinity\"; a blob is {\"base64\":\"…\"}";
        let types = [Type::Null, Type::Boolean, Type::Number, Type::String, Type::Object];
        ObjectBuilder::new()
            .schema_type(SchemaType::from_iter(types))
            .description(Some(description))
            .examples([serde_json::json!(61.5)])
            .into()
    }
}

impl ToSchema for JsonValue {
    fn name() -> Cow<'static, str> {
        "Value".into()
    }
}

impl Serialize for JsonValue {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        match &self.0 {
            Value::Missing => serializer.serialize_none(),
            Value::Boolean(value) => serializer.serialize_bool(*value),
            Value::Integer(value) => serializer.serialize_i64(*value),
            Value::Real(value) => match not_finite(*value) {
                Some(name) => serializer.serialize_str(name),
                None => serializer.serialize_f64(*value),
            },
            Value::Text(text) => serializer.serialize_str(text),
            Value::Blob(bytes) => {
                let mut map = serializer.serialize_map(Some(1))?;
                map.serialize_entry("base64", &BASE64.encode(bytes))?;
                map.end()
            }
        }
    }
}

/// Reads the API's JSON. "NaN" is read as a text, which it may have been.
impl<'de> Deserialize<'de> for JsonValue {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_any(Reader).map(Self)
    }
}

struct Reader;

impl<'de> Visitor<'de> for Reader {
    type Value = Value;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a value")
    }

    fn visit_unit<E>(self) -> Result<Value, E> {
        Ok(Value::Missing)
    }

    fn visit_bool<E>(self, value: bool) -> Result<Value, E> {
        Ok(Value::Boolean(value))
    }

    fn visit_i64<E>(self, value: i64) -> Result<Value, E> {
        Ok(Value::Integer(value))
    }

    fn visit_u64<E>(self, value: u64) -> Result<Value, E> {
        Ok(i64::try_from(value).map_or(Value::Real(value as f64), Value::Integer))
    }

    fn visit_f64<E>(self, value: f64) -> Result<Value, E> {
        Ok(Value::Real(value))
    }

    fn visit_str<E>(self, text: &str) -> Result<Value, E> {
        Ok(Value::Text(text.into()))
    }

    fn visit_map<A: de::MapAccess<'de>>(self, mut map: A) -> Result<Value, A::Error> {
        let Some((name, text)) = map.next_entry::<String, String>()? else {
            return Err(de::Error::custom("an object must be {\"base64\":\"…\"}"));
        };
        if name != "base64" || map.next_key::<String>()?.is_some() {
            return Err(de::Error::custom("an object must be {\"base64\":\"…\"}"));
        }
        BASE64.decode(text).map(|bytes| Value::Blob(bytes.into())).map_err(de::Error::custom)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn values_are_written_as_the_api_says_and_read_back() {
        let blob = Value::Blob([0, 255, 16].into());
        let cases = [
            (Value::Missing, "null"),
            (Value::Boolean(true), "true"),
            (Value::Integer(i64::MIN), "-9223372036854775808"),
            (Value::Real(84.0), "84.0"),
            (Value::Real(-0.0), "-0.0"),
            (Value::Real(1e300), "1e+300"),
            (Value::Real(0.1), "0.1"),
            (Value::Text("a\"b".into()), "\"a\\\"b\""),
            (blob, "{\"base64\":\"AP8Q\"}"),
        ];
        for (value, json) in cases {
            let value = JsonValue(value);
            assert_eq!(serde_json::to_string(&value).unwrap(), json);
            assert_eq!(serde_json::from_str::<JsonValue>(json).unwrap(), value);
        }
        for (value, json) in
            [(f64::NAN, "\"NaN\""), (f64::INFINITY, "\"Infinity\""), (f64::NEG_INFINITY, "\"-Infinity\"")]
        {
            assert_eq!(serde_json::to_string(&JsonValue(Value::Real(value))).unwrap(), json);
        }
        assert!(serde_json::from_str::<JsonValue>("{\"base64\":\"AP8Q\",\"x\":\"\"}").is_err());
    }
}
