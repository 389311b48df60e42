//! The contents of a cell: a time or a value.

use std::str::FromStr;

use jiff::civil::Time;
use jiff::fmt::temporal::Pieces;
use jiff::tz::{AmbiguousOffset, TimeZone};

use ironloom_types::clock::Timestamp;
use ironloom_types::limits::MAX_READING_BYTES;
use ironloom_types::readings::ValueRef;

/// A column's cells become readings of this type.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum CellType {
    /// `true` or `false`, `1` or `0`.
    Boolean,
    /// A 64-bit integer.
    Integer,
    /// A 64-bit real.
    Real,
    /// The cell as it is.
    Text,
}

impl CellType {
    /// Its name in the configuration.
    pub(crate) fn name(self) -> &'static str {
        match self {
            Self::Boolean => "boolean",
            Self::Integer => "integer",
            Self::Real => "real",
            Self::Text => "text",
        }
    }

    /// Reads a cell; `None` where it doesn't hold a value of this type. Blanks around it don't count,
    /// but for texts.
    pub(crate) fn parse(self, text: &str, decimal_comma: bool) -> Option<ValueRef<'_>> {
        let trimmed = text.trim();
        match self {
            Self::Boolean => match trimmed {
                "true" | "TRUE" | "True" | "1" => Some(ValueRef::Boolean(true)),
                "false" | "FALSE" | "False" | "0" => Some(ValueRef::Boolean(false)),
                _ => None,
            },
            Self::Integer => trimmed.parse().ok().map(ValueRef::Integer),
            Self::Real => real(trimmed, decimal_comma).map(ValueRef::Real),
            Self::Text => (text.len() <= MAX_READING_BYTES).then_some(ValueRef::Text(text)),
        }
    }
}

impl FromStr for CellType {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        [Self::Boolean, Self::Integer, Self::Real, Self::Text]
            .into_iter()
            .find(|one| one.name() == text)
            .ok_or_else(|| {
                format!("{text:?} is not a type of column; the types are boolean, integer, real, text")
            })
    }
}

/// A number that is finite: `nan`, `inf` and what only an infinity could hold are no values.
fn real(text: &str, decimal_comma: bool) -> Option<f64> {
    let number: f64 = if decimal_comma {
        // A point could only be what groups digits, and would change the value by a thousand.
        if text.contains('.') {
            return None;
        }
        text.replace(',', ".").parse().ok()?
    } else {
        text.parse().ok()?
    };
    number.is_finite().then_some(number)
}

/// The rules for reading the times of a file.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Times {
    /// The zone of times without an offset.
    pub zone: TimeZone,
    /// What a number counts since 1970, in nanoseconds; none: whole nanoseconds, and nothing that
    /// looks like anything else.
    pub unit: Option<u64>,
}

/// The time of a line.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum LineTime {
    /// The cell's text.
    At(Timestamp),
    /// Before 1970, which no reading can hold.
    TooEarly,
}

impl Times {
    /// Reads the unit of numbers: `s`, `ms`, `us` or `ns`.
    pub(crate) fn unit(text: &str) -> Result<u64, String> {
        match text {
            "s" => Ok(1_000_000_000),
            "ms" => Ok(1_000_000),
            "us" => Ok(1_000),
            "ns" => Ok(1),
            _ => Err(format!("{text:?} is not a unit of time; the units are s, ms, us, ns")),
        }
    }

    /// Reads a time: RFC 3339; a date, or a date and time, in the file's zone; or a number.
    ///
    /// # Errors
    /// A sentence that says what is wrong with the text. Nothing is guessed.
    pub(crate) fn parse(&self, text: &str) -> Result<LineTime, String> {
        let text = text.trim();
        let not_one = || {
            format!(
                "{text:?} is not a time; it must be RFC 3339, such as 2026-06-19T15:22:45+02:00, a date, or both"
            )
        };
        if text.bytes().all(|byte| byte.is_ascii_digit() || matches!(byte, b'-' | b'.'))
            && text.bytes().filter(|byte| *byte == b'-').count() < 2
        {
            return self.number(text).ok_or_else(not_one)?;
        }
        let pieces = Pieces::parse(text).map_err(|_| not_one())?;
        if pieces.offset().is_some() {
            return line_time(text.parse::<jiff::Timestamp>().map_err(|_| not_one())?.as_nanosecond());
        }
        let date_time = match (pieces.time(), pieces.time_zone_annotation()) {
            (Some(time), None) => pieces.date().to_datetime(time),
            (None, None) if text.len() == "2026-06-19".len() => pieces.date().to_datetime(Time::midnight()),
            _ => return Err(not_one()),
        };
        let at = self.zone.to_ambiguous_timestamp(date_time);
        if let AmbiguousOffset::Gap { .. } = at.offset() {
            return Err(format!(
                "{text:?} does not exist in the time zone: the clocks skipped it when they were put forward"
            ));
        }
        // Of two times in the hour that comes twice, the first.
        line_time(at.earlier().map_err(|_| not_one())?.as_nanosecond())
    }

    /// `None` where it isn't a number.
    fn number(&self, text: &str) -> Option<Result<LineTime, String>> {
        let (whole, fraction) = text.split_once('.').unwrap_or((text, ""));
        let whole_number: i128 = whole.parse().ok()?;
        if !fraction.bytes().all(|byte| byte.is_ascii_digit()) || (fraction.is_empty() && text.contains('.'))
        {
            return None;
        }
        let Some(unit) = self.unit else {
            let at = u64::try_from(whole_number).ok().filter(|_| fraction.is_empty());
            let named = "; name the unit with at_unit = \"s\", \"ms\", \"us\" or \"ns\"";
            let Some(at) = at else {
                return Some(Err(format!("{text:?} is a number without a unit{named}")));
            };
            return Some(Timestamp::from_integer(at).map(LineTime::At).map_err(|error| error + named));
        };
        // More than 18 digits are beyond nanoseconds in any unit.
        let digits = &fraction[..fraction.len().min(18)];
        let scale = 10_i128.pow(u32::try_from(digits.len()).unwrap_or_default());
        let part = digits.parse::<i128>().unwrap_or_default() * i128::from(unit) / scale;
        let signed = if whole.starts_with('-') { -part } else { part };
        Some(match whole_number.checked_mul(i128::from(unit)).and_then(|all| all.checked_add(signed)) {
            Some(at) => line_time(at),
            None => Err(format!("{text} is after the year 2262")),
        })
    }
}

fn line_time(nanoseconds: i128) -> Result<LineTime, String> {
    if nanoseconds < 0 {
        return Ok(LineTime::TooEarly);
    }
    let at = i64::try_from(nanoseconds).ok().and_then(|at| u64::try_from(at).ok());
    at.map(|at| LineTime::At(Timestamp(at))).ok_or_else(|| "the time is after the year 2262".to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn times(unit: Option<&str>) -> Times {
        Times {
            zone: TimeZone::get("Europe/Berlin").unwrap(),
            unit: unit.map(|unit| Times::unit(unit).unwrap()),
        }
    }

    fn at(text: &str) -> LineTime {
        LineTime::At(text.parse().unwrap())
    }

    #[test]
    fn times_with_an_offset_are_what_they_say_and_others_are_of_the_zone() {
        let times = times(None);
        for (text, expected) in [
            ("2024-06-19T15:22:45Z", "2024-06-19T15:22:45Z"),
            ("2024-06-19 15:22:45.5+05:30", "2024-06-19T09:52:45.5Z"),
            ("2024-06-19T15:22:45", "2024-06-19T13:22:45Z"),
            (" 2024-06-19 15:22:45 ", "2024-06-19T13:22:45Z"),
            ("2024-06-19 15:22", "2024-06-19T13:22:00Z"),
            ("2024-01-19 15:22:45", "2024-01-19T14:22:45Z"),
            ("2024-06-19", "2024-06-18T22:00:00Z"),
            // Twice on that day; the first is still summer time.
            ("2024-10-27 02:30:00", "2024-10-27T00:30:00Z"),
        ] {
            assert_eq!(times.parse(text), Ok(at(expected)), "{text}");
        }
    }

    #[test]
    fn what_is_no_time_is_refused_and_never_a_midnight() {
        let times = times(None);
        for (text, reason) in [
            ("", "is not a time"),
            ("yesterday", "is not a time"),
            ("19.06.2024 15:22", "is not a time"),
            ("2024-06-19T15:22:45[Europe/Berlin]", "is not a time"),
            ("2024-06-19[Europe/Berlin]", "is not a time"),
            ("2024-06-19T25:00:00", "is not a time"),
            ("2024-13-01", "is not a time"),
            ("1.2.3", "is not a time"),
            ("2024-03-31 02:30:00", "does not exist"),
            ("20240619", "looks like seconds"),
            ("1718810565", "looks like seconds"),
            ("1718810565123", "looks like milliseconds"),
            ("1718810565.5", "without a unit"),
            ("-5", "without a unit"),
            ("99999999999999999999", "without a unit"),
        ] {
            let error = times.parse(text).unwrap_err();
            assert!(error.contains(reason), "{text}: {error}");
        }
    }

    #[test]
    fn numbers_count_the_unit_that_is_named() {
        let expected = at("2024-06-19T15:22:45.123Z");
        assert_eq!(times(Some("s")).parse("1718810565.123"), Ok(expected));
        assert_eq!(times(Some("ms")).parse("1718810565123"), Ok(expected));
        assert_eq!(times(Some("ms")).parse("1718810565123.0000004"), Ok(expected));
        assert_eq!(times(Some("us")).parse("1718810565123000"), Ok(expected));
        assert_eq!(times(None).parse("1718810565123000000"), Ok(expected));
        assert_eq!(times(Some("ns")).parse("17"), Ok(LineTime::At(Timestamp(17))));
        assert_eq!(times(Some("s")).parse("2024-06-19T15:22:45.123Z"), Ok(expected));
        assert!(times(Some("s")).parse("1718810565.").is_err());
        assert!(times(Some("s")).parse("1718810565123").unwrap_err().contains("2262"));
    }

    #[test]
    fn times_before_1970_are_told_apart() {
        for text in ["1969-12-31T23:59:59Z", "1969-07-20", "1900-01-01 00:00:00"] {
            assert_eq!(times(None).parse(text), Ok(LineTime::TooEarly), "{text}");
        }
        assert_eq!(times(Some("s")).parse("-0.5"), Ok(LineTime::TooEarly));
    }

    #[test]
    fn cells_are_trimmed_and_hold_only_finite_numbers() {
        let real = |text| CellType::Real.parse(text, false);
        assert_eq!(real(" 26.5 "), Some(ValueRef::Real(26.5)));
        for text in ["nan", "NaN", "inf", "-Infinity", "1e999", "1,5", "", "x"] {
            assert_eq!(real(text), None, "{text}");
        }
        assert_eq!(CellType::Real.parse("26,5", true), Some(ValueRef::Real(26.5)));
        assert_eq!(CellType::Real.parse("26", true), Some(ValueRef::Real(26.0)));
        for text in ["1.234", "1.234,5", "1,2,3"] {
            assert_eq!(CellType::Real.parse(text, true), None, "{text}");
        }
        assert_eq!(CellType::Boolean.parse(" TRUE", false), Some(ValueRef::Boolean(true)));
        assert_eq!(CellType::Integer.parse(" 7 ", false), Some(ValueRef::Integer(7)));
        assert_eq!(CellType::Integer.parse("7.0", false), None);
        assert_eq!(CellType::Text.parse(" as is ", false), Some(ValueRef::Text(" as is ")));
    }
}
