//! Limits that may be off.

use std::fmt::Display;
use std::str::FromStr;

/// A quantity, or `None` for "off".
pub(super) fn unless_off<T: FromStr<Err = String>>(
    text: &str,
    check: impl FnOnce(T) -> Result<T, String>,
) -> Result<Option<T>, String> {
    if text == "off" {
        return Ok(None);
    }
    check(text.parse()?).map(Some)
}

/// Checks a limit that may be off.
pub(super) fn within<T: PartialOrd + Display>(value: T, least: T, most: Option<T>) -> Result<T, String> {
    let is_within = value >= least && most.as_ref().is_none_or(|most| value <= *most);
    match most {
        _ if is_within => Ok(value),
        Some(most) => Err(format!("must be \"off\" or {least} to {most}")),
        None => Err(format!("must be \"off\" or at least {least}")),
    }
}
