//! Grants: the set-points that an admin lets an installation request.

#[cfg(test)]
mod tests;
mod values;

use std::collections::BTreeMap;
use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

pub use self::values::{Allowed, Safe};
use crate::manifest::{Manifest, OutputKind, ValueType};
use crate::problem::Problem;
use crate::quantity::Span;
use ironloom_types::ids::SlotName;
use ironloom_types::readings::Value;

/// The grants of an admin to an installation. They are checked when they are parsed.
///
/// **Format**: stands in revisions of the log; fields keep their order.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, ToSchema)]
#[serde(default, deny_unknown_fields)]
pub struct Grants {
    /// The fate of the set-points that are asked for.
    pub mode: Mode,
    /// For each set-point output that may ask for anything, what it may ask for.
    #[serde(deserialize_with = "serde_with::rust::maps_duplicate_key_is_error::deserialize")]
    pub outputs: BTreeMap<SlotName, OutputGrant>,
}

/// The fate of the set-points that an installation asks for.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "lowercase")]
pub enum Mode {
    /// They are recorded, and none is sent.
    Shadow,
    /// Each is sent once a person has confirmed it.
    Advise,
    /// They are sent.
    #[default]
    Act,
}

impl FromStr for Mode {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let mut all = [Self::Shadow, Self::Advise, Self::Act].into_iter();
        all.find(|mode| mode.to_string() == text)
            .ok_or_else(|| format!("{text:?} is not a mode; the modes are shadow, advise and act"))
    }
}

impl fmt::Display for Mode {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Shadow => "shadow",
            Self::Advise => "advise",
            Self::Act => "act",
        })
    }
}

/// The values that a set-point output may request.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct OutputGrant {
    /// Values and ranges, such as `0, 6..32`.
    pub allow: Allowed,
    /// The direction in which other values are moved to an allowed one.
    #[serde(default)]
    pub toward: Toward,
    /// The longest that a set-point may live; none: what the app asks for.
    #[serde(default)]
    pub ttl: Option<Span>,
    /// The value that is sent when the installation no longer vouches for its own; none: nothing is sent.
    #[serde(default)]
    #[schema(value_type = Option<serde_json::Value>, example = json!(6))]
    pub safe: Option<Safe>,
    /// Refuses other values instead of moving them.
    #[serde(default)]
    pub strict: bool,
    /// The least time between two set-points of a point; none: as often as the app asks.
    #[serde(default)]
    pub every: Option<Span>,
}

/// A direction along the values.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "lowercase")]
pub enum Toward {
    /// To the next lower value that is allowed.
    #[default]
    Low,
    /// To the next higher value that is allowed.
    High,
}

impl FromStr for Toward {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let mut all = [Self::Low, Self::High].into_iter();
        all.find(|toward| toward.to_string() == text)
            .ok_or_else(|| format!("{text:?} is not a direction; the directions are low and high"))
    }
}

impl fmt::Display for Toward {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Low => "low",
            Self::High => "high",
        })
    }
}

impl OutputGrant {
    /// A grant of these values and nothing else.
    pub fn of(allow: Allowed) -> Self {
        Self { allow, toward: Toward::default(), ttl: None, safe: None, strict: false, every: None }
    }
}

impl Grants {
    /// Returns whether nothing is granted.
    pub fn is_empty(&self) -> bool {
        *self == Self::default()
    }

    /// Has set-points come no more often than the app requests and the host's policy allows: the longest time counts.
    pub fn slow_down(&mut self, manifest: &Manifest, policy: Option<Span>) {
        for (name, grant) in &mut self.outputs {
            let requested = manifest.output(name.as_str()).and_then(|(_, output)| output.every);
            grant.every = grant.every.max(requested).max(policy);
        }
    }

    /// Holds the grants against what the app declares.
    pub fn check(&self, manifest: &Manifest) -> Vec<Problem> {
        let mut problems = Vec::new();
        for (name, grant) in &self.outputs {
            let field = format!("grants.outputs.{name}");
            match manifest.output(name.as_str()) {
                Some((_, output)) if output.kind == OutputKind::SetPoint => {
                    problems.extend(grant.check(&field, output.value_type));
                }
                Some(_) => problems.push(Problem::of(field, "is a derived output, which needs no grant")),
                None => {
                    problems.push(Problem::of(field, format!("is not an output of {}", manifest.id)));
                }
            }
        }
        problems
    }
}

/// The reason why a set-point isn't granted.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum NotAllowed {
    /// No value that is allowed lies in the grant's direction, or the grant is strict.
    #[error("{asked} is not allowed, and may not be moved; allowed: {allowed}")]
    Value { asked: String, allowed: String },
    /// The value is of another type than the grant's.
    #[error("{asked} is not a value of the output's type; allowed: {allowed}")]
    Type { asked: String, allowed: String },
}

impl OutputGrant {
    /// The value that is sent where an app asks for one: it, or the next one that is allowed in the grant's direction.
    /// Never one against the direction.
    ///
    /// # Errors
    /// There is none.
    pub fn admit(&self, asked: &Value) -> Result<Value, NotAllowed> {
        let refuse = |asked: String| NotAllowed::Value { asked, allowed: self.allow.to_string() };
        let found = match asked {
            Value::Boolean(asked) => self
                .allow
                .boolean(*asked, self.toward)
                .filter(|to| !self.strict || to == asked)
                .map(Value::Boolean),
            Value::Real(asked) => self
                .allow
                .number(*asked, self.toward)
                .filter(|to| !self.strict || to == asked)
                .map(Value::Real),
            Value::Integer(asked) => self
                .allow
                .integer(*asked, self.toward)
                .filter(|to| !self.strict || to == asked)
                .map(Value::Integer),
            Value::Missing | Value::Text(_) | Value::Blob(_) => {
                let (asked, allowed) = (format!("{asked:?}"), self.allow.to_string());
                return Err(NotAllowed::Type { asked, allowed });
            }
        };
        found.ok_or_else(|| {
            refuse(match asked {
                Value::Boolean(asked) => asked.to_string(),
                Value::Real(asked) => asked.to_string(),
                Value::Integer(asked) => asked.to_string(),
                Value::Missing | Value::Text(_) | Value::Blob(_) => String::new(),
            })
        })
    }

    /// Returns true where a value may be sent as it is.
    pub fn allows(&self, value: &Value) -> bool {
        self.admit(value).is_ok_and(|admitted| admitted == *value)
    }

    /// The time that a set-point lives where an app asks for so many nanoseconds.
    pub fn life(&self, asked: u64) -> u64 {
        self.ttl.map_or(asked, |most| most.0.min(asked))
    }

    /// The safe value as one of the output's type; `None` where none is sent.
    pub fn safe_value(&self, value_type: ValueType) -> Option<Value> {
        match self.safe? {
            Safe::Hold => None,
            Safe::Boolean(value) => Some(Value::Boolean(value)),
            Safe::Number(value) if value_type == ValueType::Integer => Some(Value::Integer(value as i64)),
            Safe::Number(value) => Some(Value::Real(value)),
        }
    }

    fn check(&self, field: &str, value_type: ValueType) -> Vec<Problem> {
        let mut problems = Vec::new();
        if !self.allow.fits(value_type) {
            let message = format!("{} does not fit the output's type, {value_type}", self.allow);
            problems.push(Problem::of(format!("{field}.allow"), message));
        }
        if self.ttl.is_some_and(|ttl| ttl.0 == 0) {
            problems.push(Problem::of(format!("{field}.ttl"), "must be longer than 0 s"));
        }
        if self.every.is_some_and(|every| every.0 == 0) {
            problems.push(Problem::of(format!("{field}.every"), "must be longer than 0 s"));
        }
        if let (Some(every), Some(ttl)) = (self.every, self.ttl)
            && every >= ttl
        {
            let message = format!(
                "{every} is not shorter than the ttl, {ttl}, within which a set-point must be renewed"
            );
            problems.push(Problem::of(format!("{field}.every"), message));
        }
        if let Some(safe) = &self.safe
            && !self.allow.holds(safe)
        {
            let message = format!("{safe} is not among the allowed values, {}", self.allow);
            problems.push(Problem::of(format!("{field}.safe"), message));
        }
        if let (Some(Safe::Number(safe)), ValueType::Integer) = (&self.safe, value_type)
            && safe.fract() != 0.0
        {
            problems.push(Problem::of(format!("{field}.safe"), format!("{safe} is not a whole number")));
        }
        problems
    }
}
