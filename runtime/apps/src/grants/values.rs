//! The values of a grant, and how they are written: `0, 6..32`, `true, false`, `hold`.

use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Deserializer, Serialize, Serializer, de};

use super::Toward;
use crate::manifest::ValueType;

/// The most values and ranges of one grant. Beyond: refused.
const MAX_VALUES: usize = 64;

/// The values that a set-point may have: numbers and ranges of them, or booleans. Never empty.
#[derive(Clone, Debug, PartialEq, utoipa::ToSchema)]
#[schema(value_type = String, example = "0, 6..32")]
pub struct Allowed(Vec<One>);

#[derive(Clone, Copy, Debug, PartialEq)]
enum One {
    Boolean(bool),
    /// Both ends included; equal for a single number.
    Range(f64, f64),
}

impl Allowed {
    /// The nearest allowed number to this one in a direction, itself included.
    pub(super) fn number(&self, asked: f64, toward: Toward) -> Option<f64> {
        if !asked.is_finite() {
            return None;
        }
        // Not by their distances: from a huge number all of them are as far.
        let nearest = self.0.iter().filter_map(|one| match *one {
            One::Range(low, high) if (low..=high).contains(&asked) => Some(asked),
            One::Range(_, high) if toward == Toward::Low && high < asked => Some(high),
            One::Range(low, _) if toward == Toward::High && low > asked => Some(low),
            One::Boolean(_) | One::Range(..) => None,
        });
        match toward {
            Toward::Low => nearest.max_by(f64::total_cmp),
            Toward::High => nearest.min_by(f64::total_cmp),
        }
    }

    /// The nearest allowed whole number to this one in a direction, itself included.
    pub(super) fn integer(&self, asked: i64, toward: Toward) -> Option<i64> {
        // The last that every f64 up to it holds exactly: beyond, a bound isn't what it seems to be.
        const EXACT: i64 = 1 << 53;
        if !(-EXACT..=EXACT).contains(&asked) {
            return None;
        }
        let nearest = self.0.iter().filter_map(|one| {
            let One::Range(low, high) = *one else { return None };
            let (low, high) = (low.ceil(), high.floor());
            let real = asked as f64;
            let found = if low > high {
                None
            } else if (low..=high).contains(&real) {
                Some(real)
            } else if toward == Toward::Low && high < real {
                Some(high)
            } else if toward == Toward::High && low > real {
                Some(low)
            } else {
                None
            };
            found.filter(|found| found.abs() <= EXACT as f64).map(|found| found as i64)
        });
        nearest.min_by_key(|found| found.abs_diff(asked))
    }

    /// The nearest allowed boolean in a direction: `false` is the lower one.
    pub(super) fn boolean(&self, asked: bool, toward: Toward) -> Option<bool> {
        let mut all = self.0.iter().filter_map(|one| match one {
            One::Boolean(one) => Some(*one),
            One::Range(..) => None,
        });
        let lies_that_way = |one: bool| match toward {
            Toward::Low => !one && asked,
            Toward::High => one && !asked,
        };
        all.clone().find(|one| *one == asked).or_else(|| all.find(|one| lies_that_way(*one)))
    }

    /// Returns whether values of this type can be among them.
    pub fn fits(&self, value_type: ValueType) -> bool {
        self.0.iter().all(|one| match one {
            One::Boolean(_) => value_type == ValueType::Boolean,
            One::Range(..) => value_type.is_number(),
        })
    }

    /// Returns whether all of them are among others.
    pub fn is_within(&self, others: &Self) -> bool {
        self.0.iter().all(|one| {
            others.0.iter().any(|other| match (one, other) {
                (One::Boolean(one), One::Boolean(other)) => one == other,
                (One::Range(low, high), One::Range(least, most)) => least <= low && high <= most,
                _ => false,
            })
        })
    }

    /// Returns whether a safe value is among them; holding the last value always is.
    pub fn holds(&self, safe: &Safe) -> bool {
        self.0.iter().any(|one| match (one, safe) {
            (_, Safe::Hold) => true,
            (One::Boolean(one), Safe::Boolean(safe)) => one == safe,
            (One::Range(low, high), Safe::Number(safe)) => (low..=high).contains(&safe),
            _ => false,
        })
    }
}

fn number(text: &str) -> Option<f64> {
    text.trim().parse().ok().filter(|number: &f64| number.is_finite())
}

fn one(text: &str) -> Result<One, String> {
    let text = text.trim();
    if let Ok(boolean) = text.parse() {
        return Ok(One::Boolean(boolean));
    }
    let (low, high) = text.split_once("..").unwrap_or((text, text));
    match (number(low), number(high)) {
        (Some(low), Some(high)) if low <= high => Ok(One::Range(low, high)),
        (Some(_), Some(_)) => Err(format!("the range {text:?} ends below its beginning")),
        _ => Err(format!("{text:?} is not a value; write values and ranges such as \"0, 6..32\"")),
    }
}

impl FromStr for Allowed {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let parts: Vec<&str> = text.split(',').collect();
        if parts.len() > MAX_VALUES {
            return Err(format!("has {} values and ranges; at most {MAX_VALUES} are allowed", parts.len()));
        }
        let all: Vec<One> = parts.into_iter().map(one).collect::<Result<_, _>>()?;
        // Also a decimal comma, which would otherwise allow another value.
        let disorder = all.windows(2).find(|pair| match pair {
            [One::Range(_, high), One::Range(low, _)] => high >= low,
            _ => false,
        });
        if disorder.is_some() {
            return Err(format!(
                "{text:?} isn't in ascending order without overlaps; decimals have a point, such as \"0, 6.5..32\""
            ));
        }
        Ok(Self(all))
    }
}

impl fmt::Display for Allowed {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (index, one) in self.0.iter().enumerate() {
            if index > 0 {
                f.write_str(", ")?;
            }
            match one {
                One::Boolean(value) => write!(f, "{value}")?,
                One::Range(low, high) if low == high => write!(f, "{low}")?,
                One::Range(low, high) => write!(f, "{low}..{high}")?,
            }
        }
        Ok(())
    }
}

impl Serialize for Allowed {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

impl<'de> Deserialize<'de> for Allowed {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        String::deserialize(deserializer)?.parse().map_err(de::Error::custom)
    }
}

/// The value that is sent when an installation no longer vouches for its own.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Safe {
    /// The last one stays.
    Hold,
    /// A number to go to.
    Number(f64),
    /// A boolean to go to.
    Boolean(bool),
}

impl FromStr for Safe {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        match text.trim() {
            "hold" => Ok(Self::Hold),
            "true" => Ok(Self::Boolean(true)),
            "false" => Ok(Self::Boolean(false)),
            text => number(text)
                .map(Self::Number)
                .ok_or_else(|| format!("{text:?} is not a safe value; write a number, true, false or hold")),
        }
    }
}

impl fmt::Display for Safe {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Hold => f.write_str("hold"),
            Self::Number(number) => write!(f, "{number}"),
            Self::Boolean(value) => write!(f, "{value}"),
        }
    }
}

// A number or boolean of JSON for people, text in the log.

impl Serialize for Safe {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        match self {
            Self::Number(number) if serializer.is_human_readable() => serializer.serialize_f64(*number),
            Self::Boolean(value) if serializer.is_human_readable() => serializer.serialize_bool(*value),
            _ => serializer.collect_str(self),
        }
    }
}

impl<'de> Deserialize<'de> for Safe {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Reader;
        impl de::Visitor<'_> for Reader {
            type Value = Safe;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("a number, true, false or \"hold\"")
            }

            fn visit_bool<E: de::Error>(self, value: bool) -> Result<Safe, E> {
                Ok(Safe::Boolean(value))
            }

            fn visit_i64<E: de::Error>(self, value: i64) -> Result<Safe, E> {
                Ok(Safe::Number(value as f64))
            }

            fn visit_u64<E: de::Error>(self, value: u64) -> Result<Safe, E> {
                Ok(Safe::Number(value as f64))
            }

            fn visit_f64<E: de::Error>(self, value: f64) -> Result<Safe, E> {
                Ok(Safe::Number(value))
            }

            fn visit_str<E: de::Error>(self, text: &str) -> Result<Safe, E> {
                text.parse().map_err(E::custom)
            }
        }
        if deserializer.is_human_readable() {
            deserializer.deserialize_any(Reader)
        } else {
            String::deserialize(deserializer)?.parse().map_err(de::Error::custom)
        }
    }
}
