//! Payloads of messages: a value, a value with its time and quality, or a flat object of values.

use std::str::FromStr;

use serde::Deserialize;
use serde_json::Value as Json;

use crate::connectors::cells::CellType;
use crate::connectors::passed::{Passed, Reason};
use ironloom_types::clock::Timestamp;
use ironloom_types::limits::MAX_READING_BYTES;
use ironloom_types::readings::{Quality, Value};
use ironloom_types::text::shorten;

/// The contents of a payload.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Form {
    /// One value: a number, a JSON scalar, or a text as it is.
    Value,
    /// `{"value": …, "at": …, "quality": …}`; the last two may be missing.
    Reading,
    /// An object whose fields are values, each of a point of its own.
    Fields,
}

impl FromStr for Form {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        match text {
            "value" => Ok(Self::Value),
            "reading" => Ok(Self::Reading),
            "fields" => Ok(Self::Fields),
            _ => Err(format!("{text:?} is not a form of payload; the forms are value, reading, fields")),
        }
    }
}

/// The way in which values are taken out of payloads.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Rules {
    pub form: Form,
    /// The type of the readings; none: that of the JSON value.
    pub r#type: Option<CellType>,
    /// A factor for reals.
    pub scale: Option<f64>,
}

/// A value of a payload.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct Taken {
    /// [`Value::Missing`] where there is none.
    pub value: Value,
    /// Its own time.
    pub at: Option<Timestamp>,
    pub quality: Quality,
}

/// The object of [`Form::Reading`].
#[derive(Deserialize)]
struct Object {
    value: Json,
    at: Option<At>,
    quality: Option<Quality>,
}

/// A time: RFC 3339, or nanoseconds since 1970.
#[derive(Deserialize)]
#[serde(untagged)]
enum At {
    Text(String),
    Number(u64),
}

impl Rules {
    /// The value of a payload that has one.
    ///
    /// # Errors
    /// A sentence about the payload.
    pub(super) fn read_one(&self, payload: &[u8]) -> Result<Taken, Passed> {
        if self.form != Form::Reading {
            return self.one(payload).map(taken);
        }
        let Object { value, at, quality } = json(payload)?;
        let mut taken = taken(self.scalar(value)?);
        taken.at = at.map(At::read).transpose().map_err(|problem| Reason::Time.of(problem))?;
        taken.quality = taken.quality.max(quality.unwrap_or(Quality::Good));
        Ok(taken)
    }

    /// The values of a payload whose fields have a point each, by their names.
    ///
    /// # Errors
    /// A sentence about the payload, nothing of which is taken.
    pub(super) fn read_fields(&self, payload: &[u8]) -> Result<Vec<(String, Taken)>, Passed> {
        let fields: serde_json::Map<String, Json> = json(payload)?;
        let each = fields.into_iter().map(|(field, value)| {
            let told = |problem: Passed| problem.reason.of(format!("{field}: {}", problem.text));
            let value = self.scalar(value).map_err(told)?;
            Ok((field, taken(value)))
        });
        each.collect()
    }

    fn one(&self, payload: &[u8]) -> Result<Value, Passed> {
        let text =
            std::str::from_utf8(payload).map_err(|_| Reason::Unreadable.of("the payload is not UTF-8"))?;
        match self.r#type {
            Some(CellType::Text) if text.starts_with('"') => self.scalar(json(payload)?),
            Some(CellType::Text) => self.of_text(text, CellType::Text),
            // Most are numbers, which need no parser of JSON.
            Some(kind) => match kind.parse(text, false) {
                Some(value) => self.scaled(value.into()),
                None => self.scalar(json(payload)?),
            },
            None => self.scalar(json(payload)?),
        }
    }

    fn scalar(&self, json: Json) -> Result<Value, Passed> {
        let wrong = |json: &Json| {
            let kind = self.r#type.map_or("value", CellType::name);
            Err(Reason::Type.of(format!("{} is no {kind}", shorten(&json.to_string(), 60))))
        };
        let value = match (json, self.r#type) {
            (Json::Null, _) => Value::Missing,
            (Json::Bool(value), None | Some(CellType::Boolean)) => Value::Boolean(value),
            (Json::Number(number), None | Some(CellType::Real)) => number
                .as_f64()
                .filter(|real| real.is_finite())
                .map_or_else(|| wrong(&Json::Number(number)), |real| Ok(Value::Real(real)))?,
            (Json::String(text), kind) => return self.of_text(&text, kind.unwrap_or(CellType::Text)),
            (Json::Number(number), Some(kind)) => return self.of_text(&number.to_string(), kind),
            (json, _) => return wrong(&json),
        };
        self.scaled(value)
    }

    fn of_text(&self, text: &str, kind: CellType) -> Result<Value, Passed> {
        match kind.parse(text, false) {
            Some(value) => self.scaled(value.into()),
            None if kind == CellType::Text => {
                let bytes = text.len();
                Err(Reason::TooLong
                    .of(format!("a text of {bytes} bytes; at most {MAX_READING_BYTES} are taken")))
            }
            None => Err(Reason::Type.of(format!("{:?} is no {}", shorten(text, 60), kind.name()))),
        }
    }

    fn scaled(&self, value: Value) -> Result<Value, Passed> {
        match (value, self.scale) {
            (Value::Real(real), Some(scale)) => {
                let scaled = Some(real * scale).filter(|scaled| scaled.is_finite());
                scaled
                    .map(Value::Real)
                    .ok_or_else(|| Reason::Type.of(format!("{real:e} is too large for its scale")))
            }
            (value, _) => Ok(value),
        }
    }
}

impl At {
    fn read(self) -> Result<Timestamp, String> {
        match self {
            Self::Text(text) => text.parse(),
            Self::Number(number) => Timestamp::from_integer(number),
        }
    }
}

fn taken(value: Value) -> Taken {
    let quality = if value == Value::Missing { Quality::Bad } else { Quality::Good };
    Taken { value, at: None, quality }
}

fn json<T: for<'de> Deserialize<'de>>(payload: &[u8]) -> Result<T, Passed> {
    let unreadable = |error| Reason::Unreadable.of(format!("the payload can't be read: {error}"));
    serde_json::from_slice(payload).map_err(unreadable)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn rules(form: Form, r#type: Option<CellType>) -> Rules {
        Rules { form, r#type, scale: None }
    }

    fn values(rules: &Rules, payload: &str) -> Result<Vec<Value>, String> {
        rules.read_one(payload.as_bytes()).map(|taken| vec![taken.value]).map_err(|why| why.text)
    }

    #[test]
    fn a_value_is_a_number_a_scalar_or_a_text() {
        let real = rules(Form::Value, Some(CellType::Real));
        for (payload, expected) in [("20.5", 20.5), (" -3e2\n", -300.0), ("\"7\"", 7.0)] {
            assert_eq!(values(&real, payload), Ok(vec![Value::Real(expected)]), "{payload}");
        }
        assert_eq!(values(&real, "null"), Ok(vec![Value::Missing]));
        assert_eq!(real.read_one(b"null").unwrap().quality, Quality::Bad);
        for (payload, reason) in [
            ("", "can't be read"),
            ("NaN", "can't be read"),
            ("1e999", "can't be read"),
            ("[1]", "[1] is no real"),
            ("true", "true is no real"),
            ("\"x\"", "\"x\" is no real"),
        ] {
            let error = values(&real, payload).unwrap_err();
            assert!(error.contains(reason), "{payload}: {error}");
        }
        assert!(real.read_one(b"\xff").unwrap_err().text.contains("not UTF-8"));
        let scaled = Rules { scale: Some(0.1), ..real.clone() };
        assert_eq!(values(&scaled, "215"), Ok(vec![Value::Real(215.0 * 0.1)]));
        let large = Rules { scale: Some(10.0), ..scaled };
        assert!(values(&large, "1e308").unwrap_err().contains("too large for its scale"));
        let text = rules(Form::Value, Some(CellType::Text));
        assert_eq!(values(&text, "on, as it is"), Ok(vec![Value::Text("on, as it is".into())]));
        assert_eq!(values(&text, "\"on\""), Ok(vec![Value::Text("on".into())]));
        let long = "x".repeat(MAX_READING_BYTES + 1);
        assert!(values(&text, &long).unwrap_err().contains("at most"));
        let boolean = rules(Form::Value, Some(CellType::Boolean));
        assert_eq!(values(&boolean, "1"), Ok(vec![Value::Boolean(true)]));
        let integer = rules(Form::Value, Some(CellType::Integer));
        assert_eq!(values(&integer, "9007199254740993"), Ok(vec![Value::Integer(9_007_199_254_740_993)]));
        assert!(values(&integer, "1.5").is_err());
    }

    #[test]
    fn a_reading_has_its_time_and_quality() {
        let rules = rules(Form::Reading, Some(CellType::Real));
        let read = |payload: &str| rules.read_one(payload.as_bytes()).map_err(|why| why.text);
        let at = "2026-06-19T15:22:45Z".parse().ok();
        let taken =
            read(r#"{"value":20.5,"at":"2026-06-19T15:22:45Z","quality":"uncertain","more":1}"#).unwrap();
        assert_eq!(taken, Taken { value: Value::Real(20.5), at, quality: Quality::Uncertain });
        assert_eq!(read(r#"{"value":1,"at":1781882565000000000}"#).unwrap().at, at);
        assert_eq!(read(r#"{"value":1}"#).unwrap().at, None);
        assert_eq!(read(r#"{"value":null,"quality":"good"}"#).unwrap().quality, Quality::Bad);
        for (payload, reason) in [
            ("20.5", "can't be read"),
            (r#"{"at":1}"#, "missing field `value`"),
            (r#"{"value":1,"at":"yesterday"}"#, "is not an RFC 3339 time"),
            (r#"{"value":1,"at":1781882565}"#, "looks like seconds"),
            (r#"{"value":1,"quality":"fine"}"#, "unknown variant"),
        ] {
            let error = read(payload).unwrap_err();
            assert!(error.contains(reason), "{payload}: {error}");
        }
    }

    #[test]
    fn each_field_is_a_value() {
        let any = rules(Form::Fields, None);
        let taken = any.read_fields(br#"{"temp":20.5,"on":true,"name":"n1","gone":null}"#).unwrap();
        let mut all: Vec<_> = taken.into_iter().map(|(field, one)| (field, one.value)).collect();
        all.sort_by(|one, other| one.0.cmp(&other.0));
        let expected = [
            ("gone", Value::Missing),
            ("name", Value::Text("n1".into())),
            ("on", Value::Boolean(true)),
            ("temp", Value::Real(20.5)),
        ];
        assert_eq!(all, expected.map(|(name, value)| (name.to_owned(), value)));
        assert!(
            any.read_fields(br#"{"a":{"b":1}}"#).unwrap_err().text.starts_with("a: {\"b\":1} is no value")
        );
        assert!(any.read_fields(b"[1]").is_err());
    }
}
