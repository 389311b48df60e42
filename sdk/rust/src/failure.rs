//! The failure of a call.

use std::error::Error;
use std::fmt;

use crate::bindings::platform::ironloom::types::types as raw;

/// Says why an app could not do what it was called for, and whether to try again.
///
/// Nothing that the app did in a failed call takes effect. `?` turns any error into a rejection; where trying
/// again later makes sense, put [`.or_retry()`](OrRetry::or_retry) before it.
///
/// ```
/// use ironloom_sdk::{Failure, OrRetry};
///
/// fn parse(text: &str) -> Result<f64, Failure> {
///     let number: f64 = text.trim().parse()?; // rejected: it will never be a number
///     if number < 0.0 {
///         return Err(Failure::reject(format!("{number} is less than nothing")));
///     }
///     Ok(number)
/// }
///
/// fn parse_later(text: &str) -> Result<f64, Failure> {
///     Ok(text.parse::<f64>().or_retry()?) // the same comes again
/// }
///
/// assert!(!parse("x").unwrap_err().is_retry());
/// assert!(parse_later("x").unwrap_err().is_retry());
/// ```
///
/// It is not itself a [`std::error::Error`], since `?` could then not take every error.
#[derive(Clone, PartialEq, Eq)]
pub struct Failure {
    retry: bool,
    reason: String,
}

impl Failure {
    /// It can't be done, now or later: readings go to the dead letters with this reason, and the feed goes on; a
    /// timer's run is given up.
    pub fn reject(reason: impl fmt::Display) -> Self {
        Self { retry: false, reason: reason.to_string() }
    }

    /// Something is missing for now: the same comes again later.
    pub fn retry(reason: impl fmt::Display) -> Self {
        Self { retry: true, reason: reason.to_string() }
    }

    /// Returns whether the call is repeated later.
    pub fn is_retry(&self) -> bool {
        self.retry
    }

    /// The reason, for the person who looks through logs and dead letters.
    pub fn reason(&self) -> &str {
        &self.reason
    }

    pub(crate) fn into_reason(self) -> String {
        self.reason
    }
}

impl From<Failure> for raw::Failure {
    fn from(failure: Failure) -> Self {
        if failure.retry { Self::Retry(failure.reason) } else { Self::Reject(failure.reason) }
    }
}

impl fmt::Display for Failure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(if self.retry { "try again later: " } else { "rejected: " })?;
        f.write_str(&self.reason)
    }
}

impl fmt::Debug for Failure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

impl<E: Error> From<E> for Failure {
    /// Rejects, with the error's text and those of its causes.
    fn from(error: E) -> Self {
        let mut reason = error.to_string();
        let mut source = error.source();
        while let Some(cause) = source {
            let text = cause.to_string();
            // Many errors show their cause already.
            if !reason.contains(&text) {
                reason.push_str(": ");
                reason.push_str(&text);
            }
            source = cause.source();
        }
        Self { retry: false, reason }
    }
}

/// Turns the error of a result into one after which the same comes again later.
///
/// ```
/// use ironloom_sdk::prelude::*;
///
/// fn plan() -> Result<String, Failure> {
///     let plan: Option<String> = settings::find("plan").or_retry()?;
///     plan.ok_or("no plan yet").map_err(Failure::retry)
/// }
/// ```
pub trait OrRetry<T> {
    /// Turns the error into a retry.
    fn or_retry(self) -> Result<T, Failure>;
}

impl<T, E: Into<Failure>> OrRetry<T> for Result<T, E> {
    fn or_retry(self) -> Result<T, Failure> {
        self.map_err(|error| Failure { retry: true, reason: error.into().reason })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[derive(Debug, thiserror::Error)]
    #[error("the scale is silent")]
    struct Outer(#[source] Inner);

    #[derive(Debug, thiserror::Error)]
    #[error("cable pulled")]
    struct Inner;

    #[test]
    fn causes_are_named() {
        let failure = Failure::from(Outer(Inner));
        assert_eq!(failure.to_string(), "rejected: the scale is silent: cable pulled");
        let again: Failure = Err::<(), _>(Outer(Inner)).or_retry().unwrap_err();
        assert_eq!(again.to_string(), "try again later: the scale is silent: cable pulled");
    }
}
