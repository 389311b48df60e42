//! Units as people write them in manifests and configurations.

use std::sync::Arc;

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

/// Checks that a text can be a unit: UCUM codes have no spaces. A well-known unit that UCUM writes in another way is
/// refused; any other that UCUM doesn't know fits only itself.
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
    Ok(text.into())
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
    use super::*;

    #[test]
    fn codes_of_ucum_are_taken_as_they_are() {
        for code in
            ["kg", "kg/d", "kW.h", "/min", "%", "1", "Cel", "[degF]", "10*3/ul", "m2", "{pig}/d", "C", "[pH]"]
        {
            assert_eq!(check(code).as_deref(), Ok(code));
        }
        assert_eq!(check("pig").as_deref(), Ok("pig"), "what UCUM doesn't know fits itself");
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
}
