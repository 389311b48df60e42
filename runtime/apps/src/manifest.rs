//! `app.toml`: an app's identity, inputs, outputs and requests.
//!
//! The manifest's own version is probed first, then everything is read and checked, and all that is
//! wrong is reported at once with line and column.

mod read;
#[cfg(test)]
mod tests;

use std::fmt;
use std::str::FromStr;
use std::sync::Arc;

use serde::{Deserialize, Serialize};

use super::allowance::PartialLimits;
use super::cron::Cron;
use super::problem::Problems;
use super::quantity::Span;
use ironloom_types::ids::{AppId, SlotName};
use ironloom_types::interfaces::Declared;
use ironloom_types::readings::Tag;

/// The version of manifests that this runtime reads.
pub const MANIFEST_VERSION: i64 = 1;
/// The largest manifest, in bytes. Beyond: refused.
pub const MAX_MANIFEST_BYTES: usize = 256 << 10;
/// The most inputs, and outputs, alarms, timers, settings, of one manifest. Beyond: refused.
pub const MAX_SLOTS: usize = 256;

/// The type of an input's, output's or setting's values.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum ValueType {
    /// `true` or `false`.
    Boolean,
    /// A 64-bit signed integer.
    Integer,
    /// A 64-bit IEEE 754 number.
    Real,
    Text,
    Blob,
}

impl ValueType {
    /// Its name in manifests.
    pub fn name(self) -> &'static str {
        self.tag().name()
    }

    /// The type of its values in columns.
    pub fn tag(self) -> Tag {
        match self {
            Self::Boolean => Tag::Boolean,
            Self::Integer => Tag::Integer,
            Self::Real => Tag::Real,
            Self::Text => Tag::Text,
            Self::Blob => Tag::Blob,
        }
    }

    /// Returns whether its values can have a unit.
    pub fn is_number(self) -> bool {
        matches!(self, Self::Integer | Self::Real)
    }
}

impl fmt::Display for ValueType {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

impl FromStr for ValueType {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        [Self::Boolean, Self::Integer, Self::Real, Self::Text, Self::Blob]
            .into_iter()
            .find(|one| one.name() == text)
            .ok_or_else(|| {
                format!("{text:?} is not a type; the types are boolean, integer, real, text, blob")
            })
    }
}

/// The use of an output's values.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum OutputKind {
    /// Derived readings, recorded and routed like any other.
    Derived,
    /// Set-points for machines; they need a binding and a grant.
    SetPoint,
}

impl OutputKind {
    /// Its name in manifests.
    pub fn name(self) -> &'static str {
        match self {
            Self::Derived => "derived",
            Self::SetPoint => "set-point",
        }
    }
}

impl FromStr for OutputKind {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let mut all = [Self::Derived, Self::SetPoint].into_iter();
        all.find(|kind| kind.name() == text)
            .ok_or_else(|| format!("{text:?} is not a kind of output; the kinds are derived and set-point"))
    }
}

/// The severity of an alarm.
#[derive(
    Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize, utoipa::ToSchema,
)]
#[serde(rename_all = "lowercase")]
pub enum Severity {
    /// To be known.
    Low,
    /// To be looked at in the course of work.
    Medium,
    /// To be looked at soon.
    High,
    /// To be looked at now.
    Critical,
}

impl Severity {
    /// Its name in manifests and in the API.
    pub fn name(self) -> &'static str {
        match self {
            Self::Low => "low",
            Self::Medium => "medium",
            Self::High => "high",
            Self::Critical => "critical",
        }
    }
}

impl FromStr for Severity {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let mut all = [Self::Low, Self::Medium, Self::High, Self::Critical].into_iter();
        all.find(|severity| severity.name() == text).ok_or_else(|| {
            format!("{text:?} is not a severity; the severities are low, medium, high, critical")
        })
    }
}

/// A slot for readings.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Input {
    pub name: SlotName,
    /// The type of its values.
    #[serde(rename = "type")]
    pub value_type: ValueType,
    /// Its unit, a UCUM code; none where its values are plain numbers, texts or the like.
    pub unit: Option<Arc<str>>,
    /// It may stay unbound.
    pub optional: bool,
    /// For whoever binds it.
    pub description: String,
}

/// A slot for what the app gives back.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Output {
    pub name: SlotName,
    /// The use of its values.
    pub kind: OutputKind,
    /// The type of its values.
    #[serde(rename = "type")]
    pub value_type: ValueType,
    /// Its unit, a UCUM code.
    pub unit: Option<Arc<str>>,
    /// The least time between two set-points of a point; none: as often as it asks.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub every: Option<Span>,
    /// For whoever binds it.
    pub description: String,
}

/// An alarm that the app may raise.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Alarm {
    pub name: SlotName,
    pub severity: Severity,
    /// For whoever sees it.
    pub description: String,
}

/// A timer that is due again and again.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Timer {
    pub name: SlotName,
    /// When it is due, in the installation's time zone.
    pub cron: Cron,
    /// For whoever installs the app.
    pub description: String,
}

/// Something that whoever installs the app may set.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Setting {
    pub name: SlotName,
    /// The type of its value; never blob.
    #[serde(rename = "type")]
    pub value_type: ValueType,
    /// Its value where none is given, as the text that the app gets. Without one it must be given.
    pub default: Option<String>,
    /// For whoever sets it.
    pub description: String,
}

/// A manifest that was checked. Lists are in the order of the file.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Manifest {
    /// The app's id in a catalog.
    pub id: AppId,
    /// Its name for people.
    pub name: String,
    /// Its version, as semver.org has it.
    pub version: String,
    pub publisher: String,
    /// A description for people.
    pub description: String,
    /// Its licence, as an SPDX expression.
    pub license: String,
    /// It sets one-shot timers.
    pub schedule: bool,
    /// Its inputs. Frames come in this order.
    pub inputs: Vec<Input>,
    pub outputs: Vec<Output>,
    /// The alarms it may raise.
    pub alarms: Vec<Alarm>,
    pub timers: Vec<Timer>,
    pub settings: Vec<Setting>,
    /// The limits that it asks for.
    pub limits: PartialLimits,
}

impl Manifest {
    /// Reads and checks an `app.toml`.
    ///
    /// # Errors
    /// Everything that is wrong with it, in the order of the file.
    pub fn parse(text: &str) -> Result<Self, Problems> {
        read::parse(text)
    }

    /// Says whether its version comes before that of another manifest, by the rules of semver.org.
    pub fn is_older_than(&self, other: &Self) -> bool {
        // Both were parsed when they were read.
        let version = |of: &Self| semver::Version::parse(&of.version).ok();
        version(self).zip(version(other)).is_some_and(|(own, other)| own < other)
    }

    /// Returns true where it has outputs that drive machines.
    pub fn has_set_points(&self) -> bool {
        self.outputs.iter().any(|output| output.kind == OutputKind::SetPoint)
    }

    /// Returns what it declares, as far as that decides what the component may import.
    pub fn declared(&self) -> Declared {
        Declared {
            outputs: !self.outputs.is_empty(),
            alarms: !self.alarms.is_empty(),
            schedule: self.schedule,
        }
    }

    /// The input of this name, with its number.
    pub fn input(&self, name: &str) -> Option<(u16, &Input)> {
        find(&self.inputs, |input| input.name.as_str() == name)
    }

    /// The output of this name, with its number.
    pub fn output(&self, name: &str) -> Option<(u16, &Output)> {
        find(&self.outputs, |output| output.name.as_str() == name)
    }

    /// The alarm of this name.
    pub fn alarm(&self, name: &str) -> Option<&Alarm> {
        self.alarms.iter().find(|alarm| alarm.name.as_str() == name)
    }

    /// The timer of this name.
    pub fn timer(&self, name: &str) -> Option<&Timer> {
        self.timers.iter().find(|timer| timer.name.as_str() == name)
    }
}

fn find<T>(list: &[T], is_it: impl Fn(&T) -> bool) -> Option<(u16, &T)> {
    let index = list.iter().position(is_it)?;
    Some((u16::try_from(index).ok()?, &list[index]))
}
