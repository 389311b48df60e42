//! Sizes and spans of time as people write them: `"32 MiB"`, `"200 ms"`.

use std::fmt;
use std::str::FromStr;
use std::time::Duration;

use serde::{Deserialize, Deserializer, Serialize, Serializer, de};

/// A number of bytes: `"64 MiB"`, `"16 KiB"`, `"512 B"`, or a bare number.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Bytes(pub u64);

/// A span of time in nanoseconds: `"200 ms"`, `"5 min"`, `"7 d"`, or a bare number of nanoseconds.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Span(pub u64);

impl Span {
    /// As the standard library has it.
    pub fn duration(self) -> Duration {
        Duration::from_nanos(self.0)
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

/// Splits at the first letter; a fraction isn't taken, so that nothing is rounded.
fn parse(text: &str, units: &[(&str, u64)]) -> Result<u64, String> {
    let text = text.trim();
    let split = text.find(|c: char| !c.is_ascii_digit()).unwrap_or(text.len());
    let (number, unit) = (&text[..split], text[split..].trim_start());
    let wrong = || {
        let names: Vec<&str> = units.iter().map(|(name, _)| *name).collect();
        format!("{text:?} must be a whole number and a unit, one of {}", names.join(", "))
    };
    let number: u64 = number.parse().map_err(|_| wrong())?;
    let (_, factor) = units.iter().find(|(name, _)| *name == unit).ok_or_else(wrong)?;
    number
        .checked_mul(*factor)
        .filter(|all| *all <= i64::MAX as u64)
        .ok_or_else(|| format!("{text:?} is too large"))
}

/// In the largest unit that leaves a whole number.
fn write(value: u64, units: &[(&str, u64)], f: &mut fmt::Formatter<'_>) -> fmt::Result {
    match units.iter().find(|(_, factor)| value != 0 && value.is_multiple_of(*factor)).or(units.last()) {
        Some((name, factor)) => write!(f, "{} {name}", value / factor),
        None => write!(f, "{value}"),
    }
}

macro_rules! quantity {
    ($name:ident, $units:ident, $expecting:literal) => {
        impl FromStr for $name {
            type Err = String;

            fn from_str(text: &str) -> Result<Self, String> {
                parse(text, $units).map(Self)
            }
        }

        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                write(self.0, $units, f)
            }
        }

        impl Serialize for $name {
            fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
                serializer.collect_str(self)
            }
        }

        impl<'de> Deserialize<'de> for $name {
            fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
                struct Reader;
                impl de::Visitor<'_> for Reader {
                    type Value = $name;

                    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                        f.write_str($expecting)
                    }

                    fn visit_u64<E: de::Error>(self, value: u64) -> Result<$name, E> {
                        Ok($name(value))
                    }

                    fn visit_i64<E: de::Error>(self, value: i64) -> Result<$name, E> {
                        u64::try_from(value).map($name).map_err(|_| E::custom("must not be negative"))
                    }

                    fn visit_str<E: de::Error>(self, text: &str) -> Result<$name, E> {
                        text.parse().map_err(E::custom)
                    }
                }
                deserializer.deserialize_any(Reader)
            }
        }
    };
}

quantity!(Bytes, BYTES, "a size such as \"32 MiB\"");
quantity!(Span, SPANS, "a span of time such as \"200 ms\"");

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn quantities_are_read_and_written() {
        assert_eq!("32 MiB".parse(), Ok(Bytes(33_554_432)));
        assert_eq!("1B".parse(), Ok(Bytes(1)));
        assert_eq!("200 ms".parse(), Ok(Span(200_000_000)));
        assert_eq!("5min".parse(), Ok(Span(300_000_000_000)));
        for wrong in ["", "MiB", "1.5 MiB", "-1 B", "3 MB", "10", "18446744073709551615 KiB"] {
            assert!(wrong.parse::<Bytes>().is_err(), "{wrong}");
        }
        assert_eq!(Bytes(1536).to_string(), "1536 B");
        assert_eq!(Bytes(2048).to_string(), "2 KiB");
        assert_eq!(Bytes(0).to_string(), "0 B");
        assert_eq!(Span(90_000_000_000).to_string(), "90 s");
        assert_eq!(serde_json::from_str::<Bytes>("7").unwrap(), Bytes(7));
        assert!(serde_json::from_str::<Span>("-7").is_err());
    }
}
