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

/// The grants of an admin to an installation. They are checked when they are parsed.
///
/// **Format**: stands in revisions of the log; fields keep their order.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, ToSchema)]
#[serde(default, deny_unknown_fields)]
pub struct Grants {
    /// For each set-point output that may ask for anything, what it may ask for.
    #[serde(deserialize_with = "serde_with::rust::maps_duplicate_key_is_error::deserialize")]
    pub outputs: BTreeMap<SlotName, OutputGrant>,
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
        Self { allow, toward: Toward::default(), ttl: None, safe: None, strict: false }
    }
}

impl Grants {
    /// Returns whether nothing is granted.
    pub fn is_empty(&self) -> bool {
        self.outputs.is_empty()
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

impl OutputGrant {
    fn check(&self, field: &str, value_type: ValueType) -> Vec<Problem> {
        let mut problems = Vec::new();
        if !self.allow.fits(value_type) {
            let message = format!("{} does not fit the output's type, {value_type}", self.allow);
            problems.push(Problem::of(format!("{field}.allow"), message));
        }
        if self.ttl.is_some_and(|ttl| ttl.0 == 0) {
            problems.push(Problem::of(format!("{field}.ttl"), "must be longer than 0 s"));
        }
        if let Some(safe) = &self.safe
            && !self.allow.holds(safe)
        {
            let message = format!("{safe} is not among the allowed values, {}", self.allow);
            problems.push(Problem::of(format!("{field}.safe"), message));
        }
        problems
    }
}
