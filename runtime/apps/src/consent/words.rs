//! Rights in sentences, for whoever is asked to consent.

use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

use super::{Capability, OutputRight, Rights};
use crate::allowance::{LimitKind, PartialLimits};
use crate::grants::{Mode, OutputGrant};
use crate::manifest::{Manifest, OutputKind};
use crate::pattern::{Pattern, Segment};
use ironloom_types::ids::{SlotName, TenantId};

/// Points of one input above which there is a warning.
const MANY: u64 = 1_000;

/// The party that an app has not got a right from: a right is what is requested, granted and allowed by the host.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "lowercase")]
pub enum RefusedBy {
    /// The app's manifest doesn't request it.
    Request,
    /// The admin hasn't granted it.
    Grant,
    /// The host's policy doesn't allow it.
    Policy,
}

impl RefusedBy {
    /// The words that follow what is refused.
    pub fn words(self) -> &'static str {
        match self {
            Self::Request => "not requested",
            Self::Grant => "not granted",
            Self::Policy => "against the host's policy",
        }
    }
}

/// A right that an installation doesn't have.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct RefusedRight {
    /// The part of the rights, such as `outputs.limit` or `capabilities.alarms`.
    pub right: String,
    pub by: RefusedBy,
    /// It has it all the same, until it is changed: it was given before the host's policy was against it.
    pub held: bool,
    /// A sentence without its end.
    pub text: String,
}

/// The rights of an installation for people, with what the numbers of points say.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Words {
    /// Its deeds, a sentence each.
    pub gets: Vec<String>,
    /// The rights that it doesn't get.
    pub refused: Vec<RefusedRight>,
    pub warnings: Vec<String>,
}

impl Words {
    /// Says it of the rights of an app with this manifest; `points` are those that each input matches now, where they were
    /// counted, and `policy` is what the host allows at most.
    pub fn of(
        rights: &Rights,
        manifest: &Manifest,
        points: impl Fn(&SlotName) -> Option<u64>,
        policy: &PartialLimits,
    ) -> Self {
        let mut words = Self::default();
        words.inputs(rights, manifest, points);
        words.outputs(rights, manifest);
        for capability in Capability::ALL {
            let (right, name) = (format!("capabilities.{}", capability.name()), of_capability(capability));
            if !rights.capabilities.contains(&capability) {
                let text = denied(capability).to_owned();
                words.refused.push(RefusedRight { right, by: RefusedBy::Request, held: false, text });
            } else {
                words.gets.extend(match capability {
                    Capability::Alarms => Some(alarms(manifest)),
                    Capability::Timers => Some(timers(manifest)),
                    Capability::Schedule => Some(name.to_owned()),
                    // Each output was told of.
                    Capability::Outputs | Capability::SetPoints => None,
                });
            }
        }
        words.limits(rights, manifest, policy);
        words
    }

    fn inputs(&mut self, rights: &Rights, manifest: &Manifest, points: impl Fn(&SlotName) -> Option<u64>) {
        for input in &manifest.inputs {
            let name = &input.name;
            let patterns = rights.inputs.get(name).map_or(&[][..], Vec::as_slice);
            if patterns.is_empty() {
                let text = format!("reads nothing by its optional input {name}, which isn't bound");
                let right = format!("inputs.{name}");
                self.refused.push(RefusedRight { right, by: RefusedBy::Grant, held: false, text });
                continue;
            }
            let more =
                if patterns.iter().any(|pattern| is_free(pattern)) { ", and any that appear" } else { "" };
            let now = points(name).map_or_else(String::new, |points| {
                format!(", {points} point{} now", if points == 1 { "" } else { "s" })
            });
            self.gets.push(format!("{}{now}{more} (input {name})", reads(patterns)));
            if let Some(points) = points(name).filter(|points| *points > MANY) {
                self.warnings
                    .push(format!("the input {name} reads {points} points, which is more than {MANY}"));
            }
            let first = patterns.iter().find(|pattern| begins_free(pattern));
            self.warnings.extend(first.map(|pattern| {
                format!("the input {name} reads {}, whatever the points begin with", free(pattern))
            }));
        }
    }

    fn outputs(&mut self, rights: &Rights, manifest: &Manifest) {
        for output in &manifest.outputs {
            let name = &output.name;
            let Some(right) = rights.outputs.get(name) else { continue };
            let mut refuse = |why: &str| {
                let what = if output.description.is_empty() { name.as_str() } else { &output.description };
                let text = format!("sets nothing by its output {name} ({what}), {why}");
                let right = format!("outputs.{name}");
                self.refused.push(RefusedRight { right, by: RefusedBy::Grant, held: false, text });
            };
            match right {
                OutputRight { kind: OutputKind::SetPoint, grant: None, .. } => {
                    refuse("for which there is no grant")
                }
                OutputRight { kind: OutputKind::SetPoint, to: None, .. } => refuse("which isn't bound"),
                OutputRight { kind: OutputKind::SetPoint, to: Some(to), grant: Some(grant) } => {
                    let unit = output.unit.as_deref().map_or_else(String::new, |unit| format!(" {unit}"));
                    let fate = match rights.mode {
                        Mode::Shadow => "; recorded only, and not sent",
                        Mode::Advise => "; each after a person has confirmed it",
                        Mode::Act => "",
                    };
                    let (to, values) = (free(to), values_in(grant, &unit));
                    self.gets.push(format!("sets {to}, {values}{fate} (output {name})"));
                }
                OutputRight { kind: OutputKind::Derived, .. } => {
                    self.gets.push(format!("{} (output {name})", of_output(right)));
                }
            }
        }
    }

    fn limits(&mut self, rights: &Rights, manifest: &Manifest, policy: &PartialLimits) {
        let shown = |kind: LimitKind| kind.show(rights.limits.get(kind).unwrap_or_default());
        let [memory, cpu, state, share, points] = LimitKind::ALL.map(shown);
        self.gets.push(format!("at most {memory} and {cpu} a call"));
        self.gets.push(format!(
            "at most {state} of state, {share} of a processor in each second, and {points} points of its own"
        ));
        for kind in LimitKind::ALL {
            let (Some(asks), Some(gets)) = (manifest.limits.get(kind), rights.limits.get(kind)) else {
                continue;
            };
            if asks > gets {
                let by = if policy.get(kind) == Some(gets) { RefusedBy::Policy } else { RefusedBy::Grant };
                let (name, asks, gets) = (kind.name(), kind.show(asks), kind.show(gets));
                let text = format!("asks for a limit {name} of {asks}, and gets {gets}");
                self.refused.push(RefusedRight { right: format!("limits.{name}"), by, held: false, text });
            }
        }
    }
}

/// A capability, where it is new.
pub(super) fn of_capability(capability: Capability) -> &'static str {
    match capability {
        Capability::Outputs => "derives readings",
        Capability::SetPoints => "asks for set-points",
        Capability::Alarms => "raises alarms",
        Capability::Timers => "runs by timers",
        Capability::Schedule => "sets timers by itself",
    }
}

fn denied(capability: Capability) -> &'static str {
    match capability {
        Capability::Outputs => "derives no readings",
        Capability::SetPoints => "sets no machine",
        Capability::Alarms => "raises no alarms",
        Capability::Timers => "has no timers that repeat",
        Capability::Schedule => "sets no timers by itself",
    }
}

fn alarms(manifest: &Manifest) -> String {
    let names: Vec<&str> = manifest.alarms.iter().map(|alarm| alarm.name.as_str()).collect();
    format!("raises alarms: {}", names.join(", "))
}

fn timers(manifest: &Manifest) -> String {
    let timers = manifest.timers.iter().map(|timer| {
        let when = timer.cron.words().unwrap_or_else(|| timer.cron.to_string());
        format!("{} ({when})", timer.name)
    });
    format!("runs by timers: {}", timers.collect::<Vec<_>>().join(", "))
}

/// The points that patterns stand for.
pub(super) fn reads(patterns: &[String]) -> String {
    if patterns.is_empty() {
        return "reads nothing yet, since it isn't bound".to_owned();
    }
    let all: Vec<String> = patterns.iter().map(|pattern| free(pattern)).collect();
    format!("reads {}", all.join(", "))
}

/// The points of an output.
pub(super) fn of_output(output: &OutputRight) -> String {
    match (output.kind, &output.to, &output.grant) {
        (OutputKind::Derived, Some(to), _)
            if Pattern::new(TenantId::NOBODY, to).is_ok_and(|to| to.captures().next().is_none()) =>
        {
            format!("derives readings at {to} and below it")
        }
        (OutputKind::Derived, Some(to), _) => format!("derives readings at {}", free(to)),
        (OutputKind::SetPoint, Some(to), Some(grant)) => format!("sets {}, {}", free(to), values(grant)),
        (OutputKind::SetPoint, ..) => {
            "asks for set-points, and sets nothing without binding and grant".to_owned()
        }
        (OutputKind::Derived, None, _) => "derives nothing".to_owned(),
    }
}

/// The values of a grant.
pub(super) fn values(grant: &OutputGrant) -> String {
    values_in(grant, "")
}

fn values_in(grant: &OutputGrant, unit: &str) -> String {
    let mut text = format!("{}{unit}", grant.allow.to_string().replace("..", " to "));
    if let Some(every) = grant.every {
        text.push_str(&format!(", at most once in {every}"));
    }
    if let Some(ttl) = grant.ttl {
        text.push_str(&format!(", each for at most {ttl}"));
    }
    if let Some(safe) = grant.safe {
        text.push_str(&format!(", safe value {safe}"));
    }
    text
}

/// A pattern with its free segments as people know them from elsewhere.
pub(super) fn free(pattern: &str) -> String {
    let Ok(known) = Pattern::new(TenantId::NOBODY, pattern) else { return pattern.to_owned() };
    let segments: Vec<&str> = known
        .segments()
        .iter()
        .map(|segment| match segment {
            Segment::Literal(literal) => &**literal,
            Segment::Capture(_) => "*",
        })
        .collect();
    segments.join("/")
}

fn is_free(pattern: &str) -> bool {
    Pattern::new(TenantId::NOBODY, pattern).is_ok_and(|pattern| pattern.captures().next().is_some())
}

fn begins_free(pattern: &str) -> bool {
    Pattern::new(TenantId::NOBODY, pattern)
        .is_ok_and(|pattern| matches!(pattern.segments().first(), Some(Segment::Capture(_))))
}
