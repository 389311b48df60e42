//! The ages at which parts of installations' histories go.

use std::fmt;
use std::str::FromStr;

use super::{Journal, MIN_AGE, Span, key};
use ironloom_apps::toml_section::Section;

/// The ages of each.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct History {
    /// `[invocations] max_age`: of summaries of invocations.
    pub invocations: MaxAge,
    /// `[alarms] max_age`: of episodes of alarms that are over.
    pub alarms: MaxAge,
    /// `[dead_letters] max_age`: of dead letters.
    pub dead_letters: MaxAge,
    /// `[audit] max_age`: of entries of the audit log.
    pub audit: MaxAge,
}

/// The age beyond which a part of a history goes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum MaxAge {
    /// That of readings.
    Journal,
    /// Nothing goes by age.
    Off,
    Of(Span),
}

impl MaxAge {
    /// The age in nanoseconds, beside this journal.
    pub(crate) fn beside(self, journal: &Journal) -> Option<Span> {
        match self {
            Self::Journal => journal.max_age,
            Self::Off => None,
            Self::Of(age) => Some(age),
        }
    }
}

impl fmt::Display for MaxAge {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Journal => f.write_str("journal"),
            Self::Off => f.write_str("off"),
            Self::Of(age) => age.fmt(f),
        }
    }
}

impl FromStr for MaxAge {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        match text {
            "journal" => return Ok(Self::Journal),
            "off" => return Ok(Self::Off),
            _ => {}
        }
        let wrong =
            |_| format!("{text:?} is not an age; write \"journal\", \"off\" or a time such as \"90 d\"");
        let (age, least): (Span, _) = (text.parse().map_err(wrong)?, Span(MIN_AGE));
        if age < least {
            return Err(format!("must be \"journal\", \"off\" or at least {least}"));
        }
        Ok(Self::Of(age))
    }
}

/// Reads the sections of all.
pub(super) fn read(root: &mut Section<'_, '_>) -> Option<History> {
    let mut max_age = |name: &'static str| {
        let mut section = root.table(name);
        let field = key(&mut section, name, "max_age");
        section.finish();
        field?.parsed(str::parse)
    };
    let (invocations, alarms) = (max_age("invocations"), max_age("alarms"));
    let (dead_letters, audit) = (max_age("dead_letters"), max_age("audit"));
    Some(History { invocations: invocations?, alarms: alarms?, dead_letters: dead_letters?, audit: audit? })
}
