//! The filter of the server's own log lines, which may be changed while it runs.

use std::fmt;
use std::str::FromStr;
use std::sync::Arc;

use parking_lot::Mutex;
use serde::{Deserialize, Deserializer, Serialize};
use tracing_subscriber::EnvFilter;
use utoipa::ToSchema;

/// The longest filter.
const MAX_BYTES: usize = 1_024;
const LEVELS: [&str; 6] = ["off", "error", "warn", "info", "debug", "trace"];

/// Which lines are written: a level, and levels of parts, such as `info,ironloom::lanes=debug`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, ToSchema)]
#[serde(transparent)]
#[schema(value_type = String)]
pub(crate) struct LogLines(String);

impl LogLines {
    fn filter(&self) -> EnvFilter {
        // It was checked where it was read.
        EnvFilter::new(&self.0)
    }
}

impl fmt::Display for LogLines {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl Default for LogLines {
    fn default() -> Self {
        Self("info".to_owned())
    }
}

/// Stricter than the crate's own reading, for which a misspelt level is the name of a part.
impl FromStr for LogLines {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        if text.len() > MAX_BYTES {
            return Err(format!("has {} bytes, and may have {MAX_BYTES}", text.len()));
        }
        let is_level = |word: &str| LEVELS.iter().any(|level| word.eq_ignore_ascii_case(level));
        let is_part = |word: &str| {
            let named = |c: char| c.is_ascii_alphanumeric() || matches!(c, '_' | ':' | '-' | '.');
            !word.is_empty() && word.chars().all(named)
        };
        let parts: Vec<&str> = text.split(',').map(str::trim).collect();
        for one in &parts {
            let sound = match one.split_once('=') {
                None => is_level(one),
                Some((part, level)) => is_part(part) && is_level(level),
            };
            if !sound {
                return Err(format!(
                    "{one:?} is not a level; write one of {}, or with levels of parts, such as \"info,ironloom::lanes=debug\"",
                    LEVELS.join(", ")
                ));
            }
        }
        // The crate takes no spaces.
        let text = parts.join(",");
        EnvFilter::try_new(&text).map_err(|error| error.to_string())?;
        Ok(Self(text))
    }
}

impl<'de> Deserialize<'de> for LogLines {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        String::deserialize(deserializer)?.parse().map_err(serde::de::Error::custom)
    }
}

/// Who has chosen a filter.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "lowercase")]
pub(crate) enum ChosenBy {
    /// The key `log` of `[server]`.
    Configuration,
    /// `IRONLOOM_LOG`, which goes before the configuration.
    Environment,
    /// A request, until the next start.
    Request,
}

/// The filter of a process.
#[derive(Clone)]
pub(crate) struct LogFilter(Arc<Inner>);

/// Puts a filter in the place of the present one.
pub(super) type Apply = Box<dyn Fn(EnvFilter) -> Result<(), String> + Send + Sync>;

struct Inner {
    now: Mutex<(LogLines, ChosenBy)>,
    apply: Apply,
}

impl LogFilter {
    pub(super) fn new(lines: LogLines, by: ChosenBy, apply: Apply) -> Self {
        Self(Arc::new(Inner { now: Mutex::new((lines, by)), apply }))
    }

    /// A filter that no line goes through, where there is no log.
    pub(crate) fn unused() -> Self {
        Self::new(LogLines::default(), ChosenBy::Configuration, Box::new(|_| Ok(())))
    }

    /// The present filter.
    pub(crate) fn now(&self) -> (LogLines, ChosenBy) {
        self.0.now.lock().clone()
    }

    /// Takes another one. `false` where the configuration has it and the environment goes before that.
    pub(crate) fn set(&self, lines: LogLines, by: ChosenBy) -> Result<bool, String> {
        let mut now = self.0.now.lock();
        if by == ChosenBy::Configuration && now.1 == ChosenBy::Environment {
            return Ok(false);
        }
        (self.0.apply)(lines.filter())?;
        *now = (lines, by);
        Ok(true)
    }
}

impl fmt::Debug for LogFilter {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("LogFilter").field(&self.now()).finish()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_misspelt_level_is_not_the_name_of_a_part() {
        for sound in ["info", "DEBUG", "off", "info,ironloom::lanes=debug"] {
            assert_eq!(sound.parse::<LogLines>().unwrap().to_string(), sound);
        }
        assert_eq!(" warn, log=trace".parse::<LogLines>().unwrap().to_string(), "warn,log=trace");
        for wrong in ["debugg", "", "info,", "ironloom=loud", "=debug", "[span]=debug", "a b=info"] {
            let error = wrong.parse::<LogLines>().unwrap_err();
            assert!(error.contains("is not a level; write one of off, error, warn"), "{wrong:?}: {error}");
        }
        assert!("x".repeat(1_025).parse::<LogLines>().unwrap_err().contains("1024"));
    }

    #[test]
    fn the_environment_goes_before_the_configuration_and_a_request_before_both() {
        let applied = Arc::new(Mutex::new(Vec::new()));
        let kept = Arc::clone(&applied);
        let apply: Apply = Box::new(move |filter| {
            kept.lock().push(filter.to_string());
            Ok(())
        });
        let lines = |text: &str| text.parse::<LogLines>().unwrap();
        let filter = LogFilter::new(lines("warn"), ChosenBy::Environment, apply);
        assert_eq!(filter.set(lines("trace"), ChosenBy::Configuration), Ok(false));
        assert_eq!(filter.now(), (lines("warn"), ChosenBy::Environment));
        assert_eq!(filter.set(lines("debug"), ChosenBy::Request), Ok(true));
        assert_eq!(filter.set(lines("error"), ChosenBy::Configuration), Ok(true));
        assert_eq!(filter.now(), (lines("error"), ChosenBy::Configuration));
        assert_eq!(*applied.lock(), ["debug", "error"]);
    }
}
