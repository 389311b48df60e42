//! The limits that a manifest requests, those that an admin grants, and the resulting ones.

use serde::{Deserialize, Serialize};
use toml::de::DeValue;
use utoipa::ToSchema;

use super::problem::{Cause, Problem};
use super::quantity::{Bytes, Count, Span};
use super::toml_section::{Field, Section};
use ironloom_types::limits::{KIB, Limits, MAX_POINTS, MIB, SOURCE_POINTS};

/// One of the limits of an installation.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum LimitKind {
    /// Memory of an invocation.
    Memory,
    /// CPU time of an invocation.
    Cpu,
    /// State of an installation.
    State,
    /// CPU time of an installation in each second.
    Share,
    /// Points that the outputs of an installation make.
    Points,
}

impl LimitKind {
    /// Every one, for iteration.
    pub const ALL: [Self; 5] = [Self::Memory, Self::Cpu, Self::State, Self::Share, Self::Points];

    /// Its name in manifests and grants.
    pub fn name(self) -> &'static str {
        match self {
            Self::Memory => "memory",
            Self::Cpu => "cpu",
            Self::State => "state",
            Self::Share => "share",
            Self::Points => "points",
        }
    }

    /// The least and the most that can be asked for or granted.
    pub fn range(self) -> (u64, u64) {
        match self {
            Self::Memory => (Limits::MIN_MEMORY, Limits::MAX_MEMORY),
            Self::Cpu => (1_000_000, 10_000_000_000),
            Self::State => (64 * KIB, 16 * 1024 * MIB),
            // Its invocations run one after the other: more than a whole core is of no use.
            Self::Share => (1_000_000, 1_000_000_000),
            Self::Points => (1, (MAX_POINTS - SOURCE_POINTS) as u64),
        }
    }

    /// Formats a value for people.
    pub fn show(self, value: u64) -> String {
        match self {
            Self::Memory | Self::State => Bytes(value).to_string(),
            Self::Cpu | Self::Share => Span(value).to_string(),
            Self::Points => Count(value).to_string(),
        }
    }

    /// Reads a size, a length of time or a number and holds it against the range.
    pub fn parse(self, text: &str) -> Result<u64, String> {
        let value = match self {
            Self::Memory | Self::State => text.parse::<Bytes>()?.0,
            Self::Cpu | Self::Share => text.parse::<Span>()?.0,
            Self::Points => text.parse::<Count>()?.0,
        };
        self.check(value)
    }

    /// Reads a field: text with a unit; what is counted may be a bare number.
    pub fn read(self, field: &Field<'_, '_>) -> Option<u64> {
        match (self, &field.value) {
            (Self::Points, DeValue::Integer(_)) => {
                let count = u64::try_from(field.integer()?).map_err(|_| "can't be negative".to_owned());
                field.checked(count.and_then(|count| self.check(count)))
            }
            _ => field.parsed(|text| self.parse(text)),
        }
    }

    /// Holds a value against the range.
    pub fn check(self, value: u64) -> Result<u64, String> {
        let (least, most) = self.range();
        if (least..=most).contains(&value) {
            return Ok(value);
        }
        Err(format!("{} is not within {} to {}", self.show(value), self.show(least), self.show(most)))
    }

    /// Returns this one of them.
    pub fn of(self, limits: &Limits) -> u64 {
        match self {
            Self::Memory => limits.memory,
            Self::Cpu => limits.cpu,
            Self::State => limits.state,
            Self::Share => limits.share,
            Self::Points => limits.points,
        }
    }
}

/// Some of the limits: those that a manifest asks for, or those that an admin grants. Written as people do:
/// `"32 MiB"`, `"200 ms"`; sizes also as a number of bytes.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(default, deny_unknown_fields)]
pub struct PartialLimits {
    /// Memory of an invocation.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub memory: Option<Bytes>,
    /// CPU time of an invocation.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub cpu: Option<Span>,
    /// State of an installation.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub state: Option<Bytes>,
    /// CPU time of an installation in each second.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub share: Option<Span>,
    /// Points that the outputs of an installation make.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub points: Option<Count>,
}

impl From<&Limits> for PartialLimits {
    fn from(limits: &Limits) -> Self {
        let mut all = Self::default();
        LimitKind::ALL.into_iter().for_each(|kind| all.set(kind, kind.of(limits)));
        all
    }
}

impl PartialLimits {
    /// Reads a section, each limit as text with its unit; what is counted may be a bare number.
    pub fn read(mut section: Section<'_, '_>) -> Self {
        let mut limits = Self::default();
        for kind in LimitKind::ALL {
            if let Some(value) = section.take(kind.name()).and_then(|field| kind.read(&field)) {
                limits.set(kind, value);
            }
        }
        section.finish();
        limits
    }

    /// Sets this one of them.
    pub fn set(&mut self, kind: LimitKind, value: u64) {
        match kind {
            LimitKind::Memory => self.memory = Some(Bytes(value)),
            LimitKind::Cpu => self.cpu = Some(Span(value)),
            LimitKind::State => self.state = Some(Bytes(value)),
            LimitKind::Share => self.share = Some(Span(value)),
            LimitKind::Points => self.points = Some(Count(value)),
        }
    }

    /// This one of them.
    pub fn get(&self, kind: LimitKind) -> Option<u64> {
        match kind {
            LimitKind::Memory => self.memory.map(|bytes| bytes.0),
            LimitKind::Cpu => self.cpu.map(|span| span.0),
            LimitKind::State => self.state.map(|bytes| bytes.0),
            LimitKind::Share => self.share.map(|span| span.0),
            LimitKind::Points => self.points.map(|count| count.0),
        }
    }
}

/// Limits of which none is more than a policy allows.
pub fn within(limits: &Limits, most: &PartialLimits) -> Limits {
    let limit = |kind: LimitKind| most.get(kind).map_or(u64::MAX, |most| most).min(kind.of(limits));
    Limits {
        memory: limit(LimitKind::Memory),
        cpu: limit(LimitKind::Cpu),
        state: limit(LimitKind::State),
        share: limit(LimitKind::Share),
        points: limit(LimitKind::Points),
    }
}

/// Returns what holds: what the manifest asks for, and the default where it asks for nothing, but no more
/// than the admin grants. Where nothing was granted the default is; an app that asks for more has to
/// be granted it, so that nobody installs a hungry app without knowing.
///
/// In no case more than `most`, which the host's policy allows.
///
/// # Errors
/// Grants that don't parse or go beyond what the policy allows, and limits that need one.
pub fn effective(
    asked: &PartialLimits,
    granted: &PartialLimits,
    defaults: &Limits,
    most: &PartialLimits,
) -> Result<Limits, Vec<Problem>> {
    let mut problems = Vec::new();
    let mut limit = |kind: LimitKind| {
        let field = format!("limits.{}", kind.name());
        match (asked.get(kind), granted.get(kind)) {
            (asked, Some(granted)) => match kind.check(granted) {
                Ok(granted) if most.get(kind).is_some_and(|most| granted > most) => {
                    let most = kind.show(most.get(kind).unwrap_or_default());
                    let message =
                        format!("the host's policy allows {most} at most, and not {}", kind.show(granted));
                    problems.push(Problem::of(field, message));
                    0
                }
                Ok(granted) => asked.map_or(granted, |asked| asked.min(granted)),
                Err(message) => {
                    problems.push(Problem::of(field, message));
                    0
                }
            },
            (Some(asked), None)
                if most.get(kind).is_none_or(|most| most > kind.of(defaults))
                    && asked > kind.of(defaults) =>
            {
                let shown = kind.show(asked);
                let default = kind.show(kind.of(defaults));
                let message =
                    format!("the app requests {shown}, more than the {default} that it gets without a grant");
                let name = kind.name();
                let in_toml = if kind == LimitKind::Points { shown.clone() } else { format!("{shown:?}") };
                let hint = format!(
                    "grant that much, or less: --limit {name}='{shown}', or limits.{name} = {in_toml}"
                );
                problems.push(Problem::of(field, message).because(Cause::NeedsGrant).hint(hint));
                0
            }
            (Some(asked), None) => asked,
            (None, None) => kind.of(defaults),
        }
    };
    let mut limit = |kind: LimitKind| most.get(kind).map_or(u64::MAX, |most| most).min(limit(kind));
    let limits = Limits {
        memory: limit(LimitKind::Memory),
        cpu: limit(LimitKind::Cpu),
        state: limit(LimitKind::State),
        share: limit(LimitKind::Share),
        points: limit(LimitKind::Points),
    };
    if problems.is_empty() { Ok(limits) } else { Err(problems) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_holds_is_what_is_asked_for_and_granted() {
        let some =
            |memory: Option<u64>| PartialLimits { memory: memory.map(Bytes), ..PartialLimits::default() };
        let memory = |asked: Option<u64>, granted: Option<u64>| {
            effective(
                &some(asked.map(|asked| asked * MIB)),
                &some(granted.map(|granted| granted * MIB)),
                &Limits::default(),
                &PartialLimits::default(),
            )
            .map(|limits| limits.memory / MIB)
            .map_err(|problems| problems.len())
        };
        assert_eq!(memory(None, None), Ok(32));
        assert_eq!(memory(Some(16), None), Ok(16));
        assert_eq!(memory(Some(64), Some(64)), Ok(64));
        assert_eq!(memory(Some(64), Some(48)), Ok(48));
        assert_eq!(memory(Some(16), Some(48)), Ok(16));
        assert_eq!(memory(None, Some(128)), Ok(128));
        assert_eq!(memory(Some(64), None), Err(1));
        assert_eq!(memory(None, Some(257)), Err(1));
        assert_eq!(memory(None, Some(0)), Err(1));
    }

    #[test]
    fn nobody_gets_more_than_the_policy_allows() {
        let some = |memory: Option<u64>| PartialLimits {
            memory: memory.map(|memory| Bytes(memory * MIB)),
            ..PartialLimits::default()
        };
        let memory = |asked: Option<u64>, granted: Option<u64>, most: u64| {
            effective(&some(asked), &some(granted), &Limits::default(), &some(Some(most)))
                .map(|limits| limits.memory / MIB)
                .map_err(|problems| problems[0].to_string())
        };
        assert_eq!(memory(None, None, 16), Ok(16), "not the default");
        assert_eq!(memory(Some(64), None, 16), Ok(16), "what is asked for");
        assert_eq!(memory(Some(64), Some(48), 48), Ok(48));
        let refused = memory(Some(64), Some(64), 48).unwrap_err();
        assert!(refused.contains("the host's policy allows 48 MiB at most, and not 64 MiB"), "{refused}");
        assert!(memory(Some(64), None, 48).unwrap_err().contains("without a grant"));
    }

    #[test]
    fn counts_are_numbers_or_texts_and_everything_else_has_a_unit() {
        use crate::toml_section::Findings;
        let read = |text: &str| {
            let findings = Findings::new(text);
            let limits = PartialLimits::read(findings.root().unwrap());
            findings.check().map(|()| limits).map_err(|problems| problems.to_string())
        };
        assert_eq!(read("points = 5").unwrap().points, Some(Count(5)));
        assert_eq!(read("points = \"5\"").unwrap().points, Some(Count(5)));
        assert_eq!(read("memory = \"5 MiB\"").unwrap().memory, Some(Bytes(5 * MIB)));
        for wrong in ["points = 0", "points = -1", "points = 1000000", "memory = 5", "cpu = 5"] {
            assert!(read(wrong).is_err(), "{wrong}");
        }
    }
}
