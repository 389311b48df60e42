//! The limits that a manifest asks for, those that an admin grants, and what holds.

use serde::{Deserialize, Deserializer, Serialize, Serializer};

use super::problem::Problem;
use super::quantity::{parse_duration, parse_size, show_duration, show_size};
use crate::limits::{KIB, Limits, MIB};

/// One of the limits of an installation.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// Memory of an invocation.
    Memory,
    /// CPU time of an invocation.
    Cpu,
    /// State of an installation.
    State,
}

impl Kind {
    /// All of them.
    pub const ALL: [Self; 3] = [Self::Memory, Self::Cpu, Self::State];

    /// Its name in manifests and grants.
    pub fn name(self) -> &'static str {
        match self {
            Self::Memory => "memory",
            Self::Cpu => "cpu",
            Self::State => "state",
        }
    }

    /// The least and the most that can be asked for or granted.
    pub fn range(self) -> (u64, u64) {
        match self {
            Self::Memory => (Limits::MIN_MEMORY, Limits::MAX_MEMORY),
            Self::Cpu => (1_000_000, 10_000_000_000),
            Self::State => (64 * KIB, 16 * 1024 * MIB),
        }
    }

    /// As people write it.
    pub fn show(self, value: u64) -> String {
        match self {
            Self::Memory | Self::State => show_size(value),
            Self::Cpu => show_duration(value),
        }
    }

    /// Reads a size or a length of time and holds it against the range.
    pub fn parse(self, text: &str) -> Result<u64, String> {
        let value = match self {
            Self::Memory | Self::State => parse_size(text)?,
            Self::Cpu => parse_duration(text)?,
        };
        let (least, most) = self.range();
        if (least..=most).contains(&value) {
            Ok(value)
        } else {
            Err(format!("{text:?} is not within {} to {}", self.show(least), self.show(most)))
        }
    }

    fn default_value(self) -> u64 {
        let limits = Limits::default();
        match self {
            Self::Memory => limits.memory,
            Self::Cpu => limits.cpu,
            Self::State => limits.state,
        }
    }
}

/// The limits that a manifest asks for.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize)]
pub struct AskedLimits {
    /// Memory of an invocation, in bytes.
    pub memory: Option<u64>,
    /// CPU time of an invocation, in nanoseconds.
    pub cpu: Option<u64>,
    /// State of an installation, in bytes.
    pub state: Option<u64>,
}

impl AskedLimits {
    fn get(&self, kind: Kind) -> Option<u64> {
        match kind {
            Kind::Memory => self.memory,
            Kind::Cpu => self.cpu,
            Kind::State => self.state,
        }
    }
}

/// The limits that an admin grants, as texts such as `64 MiB`; `None` grants the default.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct GrantedLimits {
    /// Memory of an invocation.
    pub memory: Option<String>,
    /// CPU time of an invocation.
    pub cpu: Option<String>,
    /// State of an installation.
    pub state: Option<String>,
}

impl GrantedLimits {
    /// What is granted of this limit.
    pub fn get(&self, kind: Kind) -> Option<&str> {
        match kind {
            Kind::Memory => self.memory.as_deref(),
            Kind::Cpu => self.cpu.as_deref(),
            Kind::State => self.state.as_deref(),
        }
    }
}

/// What holds: what the manifest asks for, and the default where it asks for nothing, but no more
/// than the admin grants. Where nothing was granted the default is; an app that asks for more has to
/// be granted it, so that nobody installs a hungry app without knowing.
///
/// # Errors
/// Grants that don't parse, and limits that need one.
pub fn effective(asked: &AskedLimits, granted: &GrantedLimits) -> Result<Limits, Vec<Problem>> {
    let mut problems = Vec::new();
    let mut limit = |kind: Kind| {
        let field = format!("limits.{}", kind.name());
        match (asked.get(kind), granted.get(kind)) {
            (asked, Some(text)) => match kind.parse(text) {
                Ok(granted) => asked.map_or(granted, |asked| asked.min(granted)),
                Err(message) => {
                    problems.push(Problem::of(field, message));
                    0
                }
            },
            (Some(asked), None) if asked > kind.default_value() => {
                let shown = kind.show(asked);
                let default = kind.show(kind.default_value());
                let message = format!("the app asks for {shown}, more than the {default} that need no grant");
                let hint = format!("grant it: {} = {shown:?}, or less", kind.name());
                problems.push(Problem::of(field, message).hint(hint));
                0
            }
            (Some(asked), None) => asked,
            (None, None) => kind.default_value(),
        }
    };
    let limits = Limits { memory: limit(Kind::Memory), cpu: limit(Kind::Cpu), state: limit(Kind::State) };
    if problems.is_empty() { Ok(limits) } else { Err(problems) }
}

/// Limits as people write them: `{"memory":"32 MiB","cpu":"200 ms","state":"64 MiB"}`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ShownLimits(pub Limits);

impl Serialize for ShownLimits {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let Limits { memory, cpu, state } = &self.0;
        let shown = GrantedLimits {
            memory: Some(Kind::Memory.show(*memory)),
            cpu: Some(Kind::Cpu.show(*cpu)),
            state: Some(Kind::State.show(*state)),
        };
        shown.serialize(serializer)
    }
}

impl<'de> Deserialize<'de> for ShownLimits {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let granted = GrantedLimits::deserialize(deserializer)?;
        match effective(&AskedLimits::default(), &granted) {
            Ok(limits) => Ok(Self(limits)),
            Err(problems) => Err(serde::de::Error::custom(super::problem::Problems(problems))),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn granted(memory: &str) -> GrantedLimits {
        GrantedLimits { memory: Some(memory.to_owned()), ..GrantedLimits::default() }
    }

    #[test]
    fn what_holds_is_what_is_asked_for_and_granted() {
        let asked = |memory| AskedLimits { memory, ..AskedLimits::default() };
        let memory = |asked: AskedLimits, granted: &GrantedLimits| {
            effective(&asked, granted).map(|limits| limits.memory)
        };
        let none = GrantedLimits::default();
        assert_eq!(memory(asked(None), &none), Ok(32 * MIB));
        assert_eq!(memory(asked(Some(16 * MIB)), &none), Ok(16 * MIB));
        assert_eq!(memory(asked(Some(64 * MIB)), &granted("64 MiB")), Ok(64 * MIB));
        assert_eq!(memory(asked(Some(64 * MIB)), &granted("48 MiB")), Ok(48 * MIB));
        assert_eq!(memory(asked(Some(16 * MIB)), &granted("48 MiB")), Ok(16 * MIB));
        assert_eq!(memory(asked(None), &granted("128 MiB")), Ok(128 * MIB));
        assert!(memory(asked(Some(64 * MIB)), &none).is_err());
        assert!(memory(asked(None), &granted("257 MiB")).is_err());
        assert!(memory(asked(None), &granted("much")).is_err());
    }
}
