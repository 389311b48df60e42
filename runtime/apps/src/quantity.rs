//! Sizes and spans of time as people write them: `32 MiB`, `200 ms`. One grammar, wherever they are read.

use std::fmt;
use std::str::FromStr;
use std::time::Duration;

use bytesize::ByteSize;
use jiff::SpanRelativeTo;
use serde::{Deserialize, Deserializer, Serialize, Serializer, de};

/// A number of bytes: `64 MiB`, `500 kB`, `1.5 GiB`, or a bare number.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash, utoipa::ToSchema)]
#[schema(value_type = String, example = "32 MiB")]
pub struct Bytes(pub u64);

/// A span of time in nanoseconds: `200 ms`, `1.5 s`, `5 min`, `7 d`. The unit is never left out.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash, utoipa::ToSchema)]
#[schema(value_type = String, example = "200 ms")]
pub struct Span(pub u64);

/// A whole number: `50000`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash, utoipa::ToSchema)]
#[schema(value_type = u64)]
pub struct Count(pub u64);

impl FromStr for Count {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let count = text.trim().parse().map(Self);
        count.map_err(|_| format!("{text:?} is not a whole number; write one such as \"50000\""))
    }
}

impl fmt::Display for Count {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(&self.0, f)
    }
}

// A number, and read as a text too: the command line sends texts.

impl Serialize for Count {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_u64(self.0)
    }
}

impl<'de> Deserialize<'de> for Count {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Reader;
        impl de::Visitor<'_> for Reader {
            type Value = Count;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("a whole number")
            }

            fn visit_u64<E: de::Error>(self, value: u64) -> Result<Count, E> {
                Ok(Count(value))
            }

            // TOML has no others.
            fn visit_i64<E: de::Error>(self, value: i64) -> Result<Count, E> {
                u64::try_from(value).map(Count).map_err(|_| E::custom("can't be negative"))
            }

            fn visit_str<E: de::Error>(self, text: &str) -> Result<Count, E> {
                text.parse().map_err(E::custom)
            }
        }
        if deserializer.is_human_readable() {
            deserializer.deserialize_any(Reader)
        } else {
            u64::deserialize(deserializer).map(Self)
        }
    }
}

impl Span {
    /// Converts to the standard library's type.
    pub fn duration(self) -> Duration {
        Duration::from_nanos(self.0)
    }
}

impl FromStr for Bytes {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let size = text.trim().parse::<ByteSize>().map(|size| size.as_u64());
        // The crate saturates instead of failing.
        size.ok()
            .filter(|bytes| *bytes <= i64::MAX as u64)
            .map(Self)
            .ok_or_else(|| format!("{text:?} is not a valid size; write one such as \"32 MiB\""))
    }
}

impl FromStr for Span {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let span = text.trim().parse::<jiff::Span>().ok();
        // A day has 24 hours here; months and years have no length of their own and are refused.
        span.and_then(|span| span.to_duration(SpanRelativeTo::days_are_24_hours()).ok())
            .and_then(|span| u64::try_from(span.as_nanos()).ok())
            .filter(|nanoseconds| *nanoseconds <= i64::MAX as u64)
            .map(Self)
            .ok_or_else(|| format!("{text:?} is not a valid span of time; write one such as \"200 ms\""))
    }
}

const BYTES: &[(&str, u64)] = &[("GiB", 1 << 30), ("MiB", 1 << 20), ("KiB", 1 << 10), ("B", 1)];

const SPANS: &[(&str, u64)] = &[
    ("d", 86_400_000_000_000),
    ("h", 3_600_000_000_000),
    ("min", 60_000_000_000),
    ("s", 1_000_000_000),
    ("ms", 1_000_000),
    ("us", 1_000),
    ("ns", 1),
];

/// Writes a value in the largest unit that leaves a whole number.
fn write(value: u64, units: &[(&str, u64)], f: &mut fmt::Formatter<'_>) -> fmt::Result {
    match units.iter().find(|(_, factor)| value != 0 && value.is_multiple_of(*factor)).or(units.last()) {
        Some((name, factor)) => write!(f, "{} {name}", value / factor),
        None => write!(f, "{value}"),
    }
}

impl fmt::Display for Bytes {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write(self.0, BYTES, f)
    }
}

impl fmt::Display for Span {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write(self.0, SPANS, f)
    }
}

// As text for people, as a number in the log.

impl Serialize for Bytes {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        if serializer.is_human_readable() {
            serializer.collect_str(self)
        } else {
            serializer.serialize_u64(self.0)
        }
    }
}

impl Serialize for Span {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        if serializer.is_human_readable() {
            serializer.collect_str(self)
        } else {
            serializer.serialize_u64(self.0)
        }
    }
}

impl<'de> Deserialize<'de> for Bytes {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Reader;
        impl de::Visitor<'_> for Reader {
            type Value = Bytes;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("a size such as \"32 MiB\", or a number of bytes")
            }

            fn visit_u64<E: de::Error>(self, value: u64) -> Result<Bytes, E> {
                Ok(Bytes(value))
            }

            fn visit_str<E: de::Error>(self, text: &str) -> Result<Bytes, E> {
                text.parse().map_err(E::custom)
            }
        }
        if deserializer.is_human_readable() {
            deserializer.deserialize_any(Reader)
        } else {
            u64::deserialize(deserializer).map(Self)
        }
    }
}

impl<'de> Deserialize<'de> for Span {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        if deserializer.is_human_readable() {
            String::deserialize(deserializer)?.parse().map_err(de::Error::custom)
        } else {
            u64::deserialize(deserializer).map(Self)
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sizes_are_read_in_binary_and_decimal_units() {
        let bytes = |text: &str| text.parse::<Bytes>().map(|bytes| bytes.0);
        assert_eq!(bytes("32 MiB"), Ok(33_554_432));
        assert_eq!(bytes("32MiB"), Ok(33_554_432));
        assert_eq!(bytes("500 kB"), Ok(500_000));
        assert_eq!(bytes("1.5 MiB"), Ok(1_572_864));
        assert_eq!(bytes("1024"), Ok(1024));
        for bad in ["", "MiB", "-1 MiB", "32 MiX", "99999999999999999999 GiB", "1e3 KiB"] {
            assert!(bytes(bad).is_err(), "{bad}");
        }
    }

    #[test]
    fn spans_are_read_in_any_unit_and_never_without_one() {
        let span = |text: &str| text.parse::<Span>().map(|span| span.0);
        assert_eq!(span("200 ms"), Ok(200_000_000));
        assert_eq!(span("200ms"), Ok(200_000_000));
        assert_eq!(span("1.5 s"), Ok(1_500_000_000));
        assert_eq!(span("2m"), Ok(120_000_000_000));
        assert_eq!(span("5 min"), Ok(300_000_000_000));
        assert_eq!(span("84 d"), Ok(84 * 86_400_000_000_000));
        for bad in ["", "200", "-1 s", "ms", "1 fortnight", "1 month", "300 y"] {
            assert!(span(bad).is_err(), "{bad}");
        }
        assert!(serde_json::from_str::<Span>("200").is_err());
    }

    #[test]
    fn what_is_shown_reads_back() {
        for bytes in [0, 1, 1023, 1536, 1 << 20, 3 << 30, (1 << 20) + 1].map(Bytes) {
            assert_eq!(bytes.to_string().parse(), Ok(bytes));
            assert_eq!(postcard::from_bytes(&postcard::to_stdvec(&bytes).unwrap()), Ok(bytes));
        }
        for span in [0, 1, 200_000_000, 1_500_000_000, 300_000_000_000, 84 * 86_400_000_000_000].map(Span) {
            assert_eq!(span.to_string().parse(), Ok(span));
            assert_eq!(postcard::from_bytes(&postcard::to_stdvec(&span).unwrap()), Ok(span));
        }
        assert_eq!(Bytes(33_554_432).to_string(), "32 MiB");
        assert_eq!(Bytes(1536).to_string(), "1536 B");
        assert_eq!(Span(90_000_000_000).to_string(), "90 s");
        assert_eq!(serde_json::from_str::<Bytes>("7").unwrap(), Bytes(7));
    }
}
