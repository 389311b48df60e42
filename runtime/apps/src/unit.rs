//! Units as people write them in manifests and configurations, and how one becomes another.

mod ucum;

use std::fmt;
use std::sync::Arc;

use serde::{Deserialize, Serialize};

/// The longest unit, in bytes. Beyond: refused.
const MAX_UNIT: usize = 64;

/// Texts that are often written and aren't UCUM codes, with the code that is meant. A point with the one and an input with the
/// other would silently not go together.
const MEANT: [(&str, &str); 34] = [
    ("Wh", "W.h"),
    ("kWh", "kW.h"),
    ("MWh", "MW.h"),
    ("GWh", "GW.h"),
    ("VA", "V.A"),
    ("kVA", "kV.A"),
    ("Ah", "A.h"),
    ("mAh", "mA.h"),
    ("°C", "Cel"),
    ("degC", "Cel"),
    ("°F", "[degF]"),
    ("degF", "[degF]"),
    ("°", "deg"),
    ("Ω", "Ohm"),
    ("kΩ", "kOhm"),
    ("m²", "m2"),
    ("m³", "m3"),
    ("m^2", "m2"),
    ("m^3", "m3"),
    ("µg", "ug"),
    ("µm", "um"),
    ("µs", "us"),
    ("‰", "[ppth]"),
    ("ppm", "[ppm]"),
    ("ppb", "[ppb]"),
    ("psi", "[psi]"),
    ("mmHg", "mm[Hg]"),
    ("lux", "lx"),
    ("rpm", "{rev}/min"),
    ("sec", "s"),
    ("hr", "h"),
    ("lb", "[lb_av]"),
    ("ft", "[ft_i]"),
    ("inch", "[in_i]"),
];

/// Checks that a text is a unit: a UCUM code.
///
/// # Errors
/// A sentence that says how to write it.
pub fn check(text: &str) -> Result<Arc<str>, String> {
    if let Some(meant) = meant(text) {
        return Err(format!("{text:?} is not a UCUM code; write {meant:?}"));
    }
    if text.is_empty() || text.len() > MAX_UNIT || !text.bytes().all(|byte| byte.is_ascii_graphic()) {
        return Err(format!(
            "{text:?} is not a valid unit; write a UCUM code of 1 to {MAX_UNIT} ASCII characters without spaces, such as \"kg/d\" or \"Cel\""
        ));
    }
    ucum::check(text).map_err(|problem| format!("{text:?} is not a UCUM code: {problem}"))?;
    Ok(text.into())
}

/// The way from one unit to another: times the factor, plus the offset.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
pub struct Conversion {
    /// A normal number other than 0.
    pub factor: f64,
    /// Finite; 0 except for temperatures.
    pub offset: f64,
}

impl Conversion {
    /// The same value in the other unit.
    pub fn apply(self, value: f64) -> f64 {
        value * self.factor + self.offset
    }
}

impl fmt::Display for Conversion {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "× {}", self.factor)?;
        match self.offset {
            0.0 => Ok(()),
            offset if offset < 0.0 => write!(f, " - {}", -offset),
            offset => write!(f, " + {offset}"),
        }
    }
}

/// The reason why readings in one unit can't be had in another.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum NoConversion {
    /// One is a length and the other a mass, or the like.
    #[error("they measure different things")]
    Unlike,
    /// A logarithm or the like, which no factor turns into anything else.
    #[error("{unit} has a scale of its own, such as a logarithmic one")]
    Special { unit: String },
    /// It isn't UCUM's.
    #[error("{unit} is not a UCUM code")]
    Unknown { unit: String },
    /// The factor is beyond what a number holds.
    #[error("they are too far apart")]
    TooFar,
}

/// Returns how readings of a point with one unit come to a slot with another: as they are, where the units are the same or one of
/// them isn't known, or converted. An input without a unit takes any; a point without one is taken to have the input's.
///
/// # Errors
/// They can't be converted.
pub fn between(point: Option<&str>, slot: Option<&str>) -> Result<Option<Conversion>, NoConversion> {
    match (point, slot) {
        (Some(point), Some(slot)) if point != slot => ucum::conversion(point, slot).map(Some),
        _ => Ok(None),
    }
}

/// The UCUM code that is meant, where a part of the unit is a well-known one that UCUM writes in another way.
fn meant(text: &str) -> Option<String> {
    let mut out = String::with_capacity(text.len() + 4);
    let (mut is_wrong, mut is_divided) = (false, false);
    for part in text.split_inclusive(['/', '.']) {
        let unit = part.trim_end_matches(['/', '.']);
        match MEANT.iter().find(|(written, _)| *written == unit) {
            // `/W.h` would divide by W and multiply by h.
            Some((_, code)) if is_divided && code.contains(['/', '.']) => {
                is_wrong = true;
                out.push_str(&format!("({code})"));
            }
            Some((_, code)) => {
                is_wrong = true;
                out.push_str(code);
            }
            None => out.push_str(unit),
        }
        let operators = &part[unit.len()..];
        out.push_str(operators);
        is_divided = operators.ends_with('/');
    }
    is_wrong.then_some(out)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn codes_of_ucum_are_taken_as_they_are() {
        for code in
            ["kg", "kg/d", "kW.h", "/min", "%", "1", "Cel", "[degF]", "10*3/ul", "m2", "{pig}/d", "C", "[pH]"]
        {
            assert_eq!(check(code).as_deref(), Ok(code));
        }
        for bad in ["", "kilo gram", "kg\n", &"x".repeat(65), "größe"] {
            assert!(check(bad).unwrap_err().contains("is not a valid unit"), "{bad}");
        }
    }

    #[test]
    fn a_well_known_unit_is_refused_with_its_code() {
        for (written, code) in [
            ("kWh", "kW.h"),
            ("°C", "Cel"),
            ("m³/hr", "m3/h"),
            ("kWh/m2", "kW.h/m2"),
            ("g/kWh", "g/(kW.h)"),
            ("W/m^2", "W/m2"),
            ("kWh.d", "kW.h.d"),
            ("ppm", "[ppm]"),
        ] {
            assert_eq!(check(written), Err(format!("{written:?} is not a UCUM code; write {code:?}")));
            assert_eq!(check(code).as_deref(), Ok(code));
        }
    }

    #[test]
    fn no_code_that_is_meant_is_itself_refused() {
        for (written, code) in MEANT {
            assert_eq!(check(code).as_deref(), Ok(code), "{written}");
        }
    }

    #[test]
    fn what_ucum_does_not_know_is_refused_with_what_may_be_meant() {
        for (written, said) in [
            ("pig", "\"pig\" is not a unit; things that are counted stand in braces, such as \"{pig}\""),
            ("{pig}/dy", "\"dy\" is not a unit"),
            ("Kg", "write \"kg\" if that is meant"),
            ("kg/Min", "write \"min\" if that is meant"),
            ("hours", "write \"h\" if that is meant"),
            ("KW.h", "write \"kW\" if that is meant"),
            ("kg//d", "is not a UCUM code: "),
            ("Cel/min", "is not a UCUM code: "),
        ] {
            let problem = check(written).unwrap_err();
            assert!(problem.contains(said), "{written}: {problem}");
        }
    }

    /// Factors and offsets from the definitions of the units, written as the quotients that they are.
    #[test]
    fn units_become_others_by_their_definitions() {
        for (from, to, factor, offset) in [
            ("g", "kg", 1e-3, 0.0),
            ("t", "kg", 1e3, 0.0),
            ("[lb_av]", "kg", 0.45359237, 0.0),
            ("kg/d", "g/h", 1e3 / 24.0, 0.0),
            ("kg/d", "kg.d-1", 1.0, 0.0),
            ("Cel", "K", 1.0, 273.15),
            ("K", "Cel", 1.0, -273.15),
            ("[degF]", "Cel", 5.0 / 9.0, -160.0 / 9.0),
            ("Cel", "[degF]", 9.0 / 5.0, 32.0),
            ("[degF]", "K", 5.0 / 9.0, 459.67 * 5.0 / 9.0),
            ("kW.h", "J", 3.6e6, 0.0),
            ("kW.h", "MJ", 3.6, 0.0),
            ("bar", "Pa", 1e5, 0.0),
            ("mm[Hg]", "Pa", 133.322, 0.0),
            ("[in_i]", "mm", 25.4, 0.0),
            ("L/min", "m3/h", 0.06, 0.0),
            ("km/h", "m/s", 1.0 / 3.6, 0.0),
            ("%", "1", 0.01, 0.0),
            ("[ppm]", "%", 1e-4, 0.0),
            ("deg", "rad", std::f64::consts::PI / 180.0, 0.0),
            ("{pig}/h", "/d", 24.0, 0.0),
            ("A.h", "C", 3600.0, 0.0),
        ] {
            let conversion = between(Some(from), Some(to)).unwrap().unwrap();
            let near =
                |found: f64, wanted: f64| (found - wanted).abs() <= 1e-15 * wanted.abs().max(found.abs());
            assert!(near(conversion.factor, factor), "{from} to {to}: {conversion:?}");
            assert!(near(conversion.offset, offset), "{from} to {to}: {conversion:?}");
        }
    }

    #[test]
    fn what_can_not_be_converted_says_why() {
        assert_eq!(between(Some("kg"), Some("m")), Err(NoConversion::Unlike));
        assert_eq!(
            between(Some("[pH]"), Some("mol/L")),
            Err(NoConversion::Special { unit: "[pH]".to_owned() })
        );
        assert_eq!(between(Some("dB"), Some("1")), Err(NoConversion::Special { unit: "dB".to_owned() }));
        assert_eq!(between(Some("pig"), Some("1")), Err(NoConversion::Unknown { unit: "pig".to_owned() }));
        assert_eq!(between(Some("[IU]/L"), Some("1/L")), Err(NoConversion::Unlike));
        for as_they_are in [(None, Some("kg")), (Some("kg"), None), (None, None), (Some("pig"), Some("pig"))]
        {
            assert_eq!(between(as_they_are.0, as_they_are.1), Ok(None));
        }
    }

    /// Units that convert to each other.
    const KINDS: [&[&str]; 6] = [
        &["kg", "g", "t", "[lb_av]", "[oz_av]", "ug"],
        &["Cel", "K", "[degF]", "mK"],
        &["J", "kW.h", "MJ", "cal", "[Btu]"],
        &["Pa", "bar", "[psi]", "mm[Hg]", "kPa", "atm"],
        &["m3/h", "L/min", "L/s", "[gal_us]/min"],
        &["s", "min", "h", "d", "wk"],
    ];

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(256))]

        /// There and back again is the same value, and a way over a third unit is as good as the direct one.
        #[test]
        fn conversions_agree_with_each_other(
            kind in prop::sample::select(&KINDS[..]),
            (from, over, to) in (0..4_usize, 0..4_usize, 0..4_usize),
            value in -1e6..1e6_f64,
        ) {
            let convert = |value: f64, from: &str, to: &str| {
                between(Some(from), Some(to)).unwrap().map_or(value, |conversion| conversion.apply(value))
            };
            let (from, over, to) = (kind[from], kind[over], kind[to]);
            let near = |one: f64, other: f64, size: f64| (one - other).abs() <= 1e-9 * size.max(1.0);
            let there = convert(value, from, to);
            prop_assert!(near(convert(there, to, from), value, value.abs().max(1e3)));
            let by_way = convert(convert(value, from, over), over, to);
            prop_assert!(near(by_way, there, there.abs().max(convert(1e3, from, to).abs())));
        }
    }
}
