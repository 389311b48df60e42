//! UCUM by a library: what a code means, and which code comes next to one that means nothing. The one place that knows the
//! library.

use octofhir_ucum::{CanonicalUnit, ErrorKind, UcumError, get_all_prefixes, get_all_units};

use super::{Conversion, NoConversion};

/// Checks a code.
///
/// # Errors
/// What is wrong with it, and how else to write it.
pub(super) fn check(code: &str) -> Result<(), String> {
    // Not the library's own check: that one compares every unit with the whole text, only to suggest others.
    let read = octofhir_ucum::parse_expression(code).and_then(|parsed| octofhir_ucum::evaluate(&parsed));
    read.map(|_| ()).map_err(|error| match error.kind {
        ErrorKind::UnitNotFound { unit, .. } => {
            let nearest =
                nearest(&unit).map_or(String::new(), |near| format!("write {near:?} if that is meant; "));
            format!(
                "{unit:?} is not a unit; {nearest}things that are counted stand in braces, such as {:?}",
                braced(&unit)
            )
        }
        _ => error.message,
    })
}

/// A name of things in braces, as UCUM has it.
fn braced(unit: &str) -> String {
    let name: String =
        unit.chars().filter(|letter| letter.is_ascii_graphic() && !"{}".contains(*letter)).collect();
    format!("{{{name}}}")
}

/// The code of a unit that somebody may have meant: the one of the same letters that has the most of them in the same case,
/// or one by its name.
fn nearest(unit: &str) -> Option<String> {
    let atoms = get_all_units();
    let plain = atoms.iter().map(|atom| atom.code.to_string());
    let metric = atoms.iter().filter(|atom| atom.is_metric);
    let prefixed = metric.flat_map(|atom| {
        get_all_prefixes().iter().map(move |prefix| format!("{}{}", prefix.symbol, atom.code))
    });
    let others = |code: &String| code.bytes().zip(unit.bytes()).filter(|(one, other)| one != other).count();
    let of_letters = plain.chain(prefixed).filter(|code| code.eq_ignore_ascii_case(unit)).min_by_key(others);
    let singular = unit.strip_suffix('s').unwrap_or(unit);
    let is_named = |name: &str| name.eq_ignore_ascii_case(unit) || name.eq_ignore_ascii_case(singular);
    let named = || atoms.iter().find(|atom| is_named(atom.display_name)).map(|atom| atom.code.to_string());
    of_letters.or_else(named)
}

/// The way from values of one unit to values of another.
///
/// # Errors
/// They don't, and why.
pub(super) fn conversion(from: &str, to: &str) -> Result<Conversion, NoConversion> {
    let (given, wanted) = (canonical(from)?, canonical(to)?);
    if given.unit != wanted.unit {
        return Err(NoConversion::Unlike);
    }
    let scale = given.factor.checked_div(wanted.factor);
    let shift = given.offset.checked_sub(wanted.offset).and_then(|shift| shift.checked_div(wanted.factor));
    let (factor, offset) = scale.zip(shift).ok_or(NoConversion::TooFar)?;
    let conversion = Conversion { factor: factor.to_f64(), offset: offset.to_f64() };
    let is_usable = conversion.factor.is_normal() && conversion.offset.is_finite();
    if is_usable { Ok(conversion) } else { Err(NoConversion::TooFar) }
}

fn canonical(code: &str) -> Result<CanonicalUnit, NoConversion> {
    octofhir_ucum::get_canonical_units(code).map_err(|UcumError { kind, .. }| match kind {
        ErrorKind::SpecialUnitError { .. } => NoConversion::Special { unit: code.to_owned() },
        ErrorKind::PrecisionOverflow { .. } => NoConversion::TooFar,
        _ => NoConversion::Unknown { unit: code.to_owned() },
    })
}
