//! Reads pushed readings straight into columns: one JSON object on each line.
//!
//! The fast path knows only that a line is bad. What is wrong with it, and where, is found out by
//! reading that line again in [`super::explain`].

use std::borrow::Cow;
use std::fmt;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD as BASE64;
use serde::Deserialize;
use serde::de::{self, Deserializer, Visitor};
use serde_json::value::RawValue;

use super::explain;
use super::facade::{Detail, IngestRules, Place};
use super::intake::{Given, Intake, Mode, Parsed};
use ironloom_types::clock::Timestamp;
use ironloom_types::ids::PointNumber;
use ironloom_types::readings::{Quality, ValueRef};

/// The form of readings in a body of text.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Form {
    /// One object on each line.
    Lines,
    /// One object, or an array of objects.
    Json,
}

/// The longest line, or object in an array, in bytes: a text of the longest that a reading may have, with
/// each byte as an escape, and a long path. Beyond: refused without a look.
pub(crate) const MAX_LINE: usize = 512 << 10;

/// One line, borrowed from the body wherever it holds no escapes.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Line<'a> {
    #[serde(borrow)]
    point: Cow<'a, str>,
    #[serde(borrow)]
    value: Scalar<'a>,
    #[serde(default)]
    at: Option<At>,
    #[serde(default)]
    quality: Option<Quality>,
}

/// Reads a body; `lookups` as [`Intake`] has them.
pub(crate) fn parse<L: Fn(&str) -> Option<PointNumber>>(
    body: &[u8],
    form: Form,
    rules: IngestRules,
    lookups: impl Fn() -> L,
    mode: Mode,
) -> Parsed {
    // A line has 70 to 100 bytes as a rule; too small a guess costs a copy, too large a one memory.
    let mut reader = Reader(Intake::new(rules, lookups, mode, body.len() / 64));
    match form {
        Form::Lines => reader.lines(body),
        Form::Json => reader.json(body),
    }
    reader.0.parsed
}

struct Reader<F, L>(Intake<F, L>);

/// The problem of a line, explained in full only if it is named.
enum Bad {
    Syntax(serde_json::Error),
    Told(Box<Detail>),
}

impl From<Box<Detail>> for Bad {
    fn from(detail: Box<Detail>) -> Self {
        Self::Told(detail)
    }
}

impl<F: Fn() -> L, L: Fn(&str) -> Option<PointNumber>> Reader<F, L> {
    fn lines(&mut self, body: &[u8]) {
        let place = |index: usize| Place { line: Some(index as u64 + 1), ..Place::default() };
        match std::str::from_utf8(body) {
            Ok(text) => {
                for (index, line) in text.split('\n').enumerate() {
                    if !self.line(|| place(index), line) {
                        return;
                    }
                }
            }
            Err(_) => {
                for (index, line) in body.split(|byte| *byte == b'\n').enumerate() {
                    let goes_on = match std::str::from_utf8(line) {
                        Ok(line) => self.line(|| place(index), line),
                        Err(error) => {
                            self.0.begin(line.len());
                            let told = || explain::not_utf8(error.valid_up_to());
                            self.0.bad(|| place(index), told)
                        }
                    };
                    if !goes_on {
                        return;
                    }
                }
            }
        }
    }

    /// A body that isn't JSON as a whole has one bad line: itself.
    fn json(&mut self, body: &[u8]) {
        let refused = match std::str::from_utf8(body) {
            Err(error) => Some(explain::not_utf8(error.valid_up_to())),
            Ok(text) if text.trim_start().starts_with('[') => self.array(text).err(),
            Ok(text) => {
                self.line(Place::default, text);
                let parsed = &mut self.0.parsed;
                parsed.is_unusable = parsed.bad.iter().any(|bad| bad.kind == explain::NOT_JSON);
                None
            }
        };
        if let Some(detail) = refused {
            self.0.refuse(detail);
        }
    }

    fn array(&mut self, text: &str) -> Result<(), Detail> {
        let mut items = serde_json::Deserializer::from_str(text);
        items
            .deserialize_seq(Items(self))
            .and_then(|()| items.end())
            .map_err(|error| explain::not_json(&error))
    }

    /// Takes a line; `false` where it is no use to go on.
    fn line(&mut self, place: impl Fn() -> Place, text: &str) -> bool {
        if text.bytes().all(|byte| byte.is_ascii_whitespace()) {
            return true;
        }
        self.0.begin(text.len());
        match self.take(text) {
            Ok(()) => true,
            Err(Bad::Syntax(error)) => self.0.bad(place, || explain::line(text, &error)),
            Err(Bad::Told(detail)) => self.0.bad(place, || *detail),
        }
    }

    fn take(&mut self, text: &str) -> Result<(), Bad> {
        if text.len() > MAX_LINE {
            return Err(Bad::Told(explain::long_line(MAX_LINE).into()));
        }
        let line: Line<'_> = serde_json::from_str(text).map_err(Bad::Syntax)?;
        let Line { point, value, at, quality } = line;
        let quality = quality.unwrap_or_default();
        let value = match &value {
            // JSON has no integer minus zero apart from this one, which the parser reads as a real.
            Scalar::Real(real)
                if *real == 0.0 && real.is_sign_negative() && explain::is_integer_zero(text) =>
            {
                ValueRef::Integer(0)
            }
            value => value.as_ref(),
        };
        let given = Given { value, at: at.map(|At(at)| at), quality };
        self.0.take(given, |intake| Ok(intake.number(&point)?))
    }
}

/// The readings of an array, one after the other.
struct Items<'a, F, L>(&'a mut Reader<F, L>);

impl<'de, F: Fn() -> L, L: Fn(&str) -> Option<PointNumber>> Visitor<'de> for Items<'_, F, L> {
    type Value = ();

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("an array of readings")
    }

    fn visit_seq<A: de::SeqAccess<'de>>(self, mut items: A) -> Result<(), A::Error> {
        let mut index = 0;
        let mut goes_on = true;
        while let Some(item) = items.next_element::<&RawValue>()? {
            index += 1;
            // The rest is skipped, but has to be JSON.
            goes_on = goes_on && self.0.line(|| Place { item: Some(index), ..Place::default() }, item.get());
        }
        Ok(())
    }
}

/// A value as it stands in JSON.
enum Scalar<'a> {
    Missing,
    Boolean(bool),
    Integer(i64),
    Real(f64),
    Text(Cow<'a, str>),
    Blob(Vec<u8>),
}

impl Scalar<'_> {
    fn as_ref(&self) -> ValueRef<'_> {
        match self {
            Self::Missing => ValueRef::Missing,
            Self::Boolean(value) => ValueRef::Boolean(*value),
            Self::Integer(value) => ValueRef::Integer(*value),
            Self::Real(value) => ValueRef::Real(*value),
            Self::Text(text) => ValueRef::Text(text),
            Self::Blob(bytes) => ValueRef::Blob(bytes),
        }
    }
}

impl<'de: 'a, 'a> Deserialize<'de> for Scalar<'a> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_any(ScalarReader)
    }
}

struct ScalarReader;

impl<'de> Visitor<'de> for ScalarReader {
    type Value = Scalar<'de>;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a number, text, boolean, {\"base64\":\"…\"} or null")
    }

    fn visit_unit<E>(self) -> Result<Self::Value, E> {
        Ok(Scalar::Missing)
    }

    fn visit_bool<E>(self, value: bool) -> Result<Self::Value, E> {
        Ok(Scalar::Boolean(value))
    }

    fn visit_i64<E>(self, value: i64) -> Result<Self::Value, E> {
        Ok(Scalar::Integer(value))
    }

    fn visit_u64<E>(self, value: u64) -> Result<Self::Value, E> {
        Ok(i64::try_from(value).map_or(Scalar::Real(value as f64), Scalar::Integer))
    }

    fn visit_f64<E>(self, value: f64) -> Result<Self::Value, E> {
        Ok(Scalar::Real(value))
    }

    fn visit_borrowed_str<E>(self, text: &'de str) -> Result<Self::Value, E> {
        Ok(Scalar::Text(Cow::Borrowed(text)))
    }

    fn visit_str<E>(self, text: &str) -> Result<Self::Value, E> {
        Ok(Scalar::Text(Cow::Owned(text.to_owned())))
    }

    fn visit_map<A: de::MapAccess<'de>>(self, mut map: A) -> Result<Self::Value, A::Error> {
        let wrong = || de::Error::custom("an object must be {\"base64\":\"…\"}");
        let (name, text) = map.next_entry::<Cow<'de, str>, Cow<'de, str>>()?.ok_or_else(wrong)?;
        if name != "base64" || map.next_key::<Cow<'de, str>>()?.is_some() {
            return Err(wrong());
        }
        BASE64.decode(text.as_bytes()).map(Scalar::Blob).map_err(de::Error::custom)
    }
}

/// A time as it stands in JSON: RFC 3339, or whole nanoseconds since 1970.
struct At(Timestamp);

impl<'de> Deserialize<'de> for At {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct AtReader;

        impl Visitor<'_> for AtReader {
            type Value = At;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("a time as RFC 3339 or in whole nanoseconds since 1970")
            }

            fn visit_u64<E: de::Error>(self, value: u64) -> Result<At, E> {
                Timestamp::from_integer(value).map(At).map_err(E::custom)
            }

            fn visit_i64<E: de::Error>(self, value: i64) -> Result<At, E> {
                match u64::try_from(value) {
                    Ok(value) => self.visit_u64(value),
                    Err(_) => Err(E::custom("the time is before 1970")),
                }
            }

            fn visit_str<E: de::Error>(self, text: &str) -> Result<At, E> {
                text.parse().map(At).map_err(E::custom)
            }
        }

        deserializer.deserialize_any(AtReader)
    }
}

#[cfg(test)]
#[path = "readings_tests.rs"]
mod tests;
