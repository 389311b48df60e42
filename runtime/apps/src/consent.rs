//! Consent: the rights of an installation as data, what goes beyond those that somebody has consented to, and the
//! sentences in which a person reads them.

#[cfg(test)]
mod tests;
mod words;

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Deserializer, Serialize, Serializer, de};
use utoipa::ToSchema;

pub use self::words::{RefusedBy, RefusedRight, Words};
use crate::allowance::{LimitKind, PartialLimits};
use crate::binding::{Bindings, Target};
use crate::grants::{Grants, Mode, OutputGrant};
use crate::manifest::{Manifest, OutputKind};
use crate::pattern::{Pattern, Segment};
use ironloom_trust::key::PublicKey;
use ironloom_types::ids::{AppId, Digest, SlotName, TenantId};
use ironloom_types::limits::Limits;

/// Something that an app may do besides reading, by what its manifest declares.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "kebab-case")]
pub enum Capability {
    /// Readings that it derives.
    Outputs,
    /// Values that it wants machines to have.
    SetPoints,
    Alarms,
    /// Runs by the clock.
    Timers,
    /// Sets timers by itself.
    Schedule,
}

impl Capability {
    /// Every one, for iteration.
    pub const ALL: [Self; 5] = [Self::Outputs, Self::SetPoints, Self::Alarms, Self::Timers, Self::Schedule];

    pub fn name(self) -> &'static str {
        match self {
            Self::Outputs => "outputs",
            Self::SetPoints => "set-points",
            Self::Alarms => "alarms",
            Self::Timers => "timers",
            Self::Schedule => "schedule",
        }
    }

    /// Says whether a manifest declares it.
    pub fn is_declared(self, manifest: &Manifest) -> bool {
        let has = |kind| manifest.outputs.iter().any(|output| output.kind == kind);
        match self {
            Self::Outputs => has(OutputKind::Derived),
            Self::SetPoints => has(OutputKind::SetPoint),
            Self::Alarms => !manifest.alarms.is_empty(),
            Self::Timers => !manifest.timers.is_empty(),
            Self::Schedule => manifest.schedule,
        }
    }
}

impl FromStr for Capability {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        Self::ALL.into_iter().find(|one| one.name() == text).ok_or_else(|| {
            let names = Self::ALL.map(Self::name).join(", ");
            format!("{text:?} is not a capability; the capabilities are {names}")
        })
    }
}

/// To whom the id of an app belongs.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Publisher {
    Key(PublicKey),
    /// Nobody: the package isn't signed.
    Unsigned,
}

impl From<Option<PublicKey>> for Publisher {
    fn from(key: Option<PublicKey>) -> Self {
        key.map_or(Self::Unsigned, Self::Key)
    }
}

impl fmt::Display for Publisher {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Key(key) => write!(f, "{key}"),
            Self::Unsigned => f.write_str("unsigned"),
        }
    }
}

impl Serialize for Publisher {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

impl<'de> Deserialize<'de> for Publisher {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        match String::deserialize(deserializer)?.as_str() {
            "unsigned" => Ok(Self::Unsigned),
            key => key.parse().map(Self::Key).map_err(de::Error::custom),
        }
    }
}

/// All that an installation may do. Points are named by patterns, so points that appear later are among them.
///
/// **Format**: the digest of a consent is of its JSON, among others; fields keep their order.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct Rights {
    #[schema(value_type = String)]
    pub app: AppId,
    #[schema(value_type = String)]
    pub publisher: Publisher,
    pub capabilities: BTreeSet<Capability>,
    /// The fate of the set-points that it asks for.
    #[serde(default)]
    pub mode: Mode,
    /// The patterns of the points that each input reads; none of one that isn't bound.
    #[serde(default)]
    #[schema(value_type = BTreeMap<String, Vec<String>>)]
    pub inputs: BTreeMap<SlotName, Vec<String>>,
    #[serde(default)]
    #[schema(value_type = BTreeMap<String, OutputRight>)]
    pub outputs: BTreeMap<SlotName, OutputRight>,
    pub limits: PartialLimits,
}

/// The rights of an installation to an output.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct OutputRight {
    /// `derived` or `set-point`.
    #[schema(value_type = String)]
    pub kind: OutputKind,
    /// The pattern of the points that it writes; of an output that isn't bound to any, the beginning of their paths.
    /// None: it writes nothing.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub to: Option<String>,
    /// The set-points that it may ask for.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub grant: Option<OutputGrant>,
}

/// A right beyond those that somebody has consented to.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Excess {
    /// The part of the rights, such as `inputs.weight` or `limits.memory`.
    pub field: String,
    /// The part that is more, in a sentence.
    pub text: String,
}

impl Rights {
    /// The rights under a revision with these parts.
    pub fn of(
        manifest: &Manifest,
        publisher: Option<PublicKey>,
        bindings: &Bindings,
        grants: &Grants,
        limits: &Limits,
    ) -> Self {
        let inputs = bindings.inputs.iter().map(|input| {
            let patterns = input.patterns.iter().map(Pattern::to_string).collect();
            (input.name.clone(), patterns)
        });
        let outputs = bindings.outputs.iter().map(|output| {
            let to = match &output.target {
                Target::Unbound => None,
                Target::Default { prefix } => Some(prefix.to_string()),
                Target::Pattern { pattern, .. } => Some(pattern.to_string()),
            };
            let grant = grants.outputs.get(&output.name).cloned();
            (output.name.clone(), OutputRight { kind: output.kind, to, grant })
        });
        let capabilities = Capability::ALL.into_iter().filter(|one| one.is_declared(manifest));
        Self {
            app: manifest.id.clone(),
            publisher: publisher.into(),
            capabilities: capabilities.collect(),
            mode: grants.mode,
            inputs: inputs.collect(),
            outputs: outputs.collect(),
            limits: PartialLimits::from(limits),
        }
    }

    /// Names exactly these rights, for this package with these settings.
    pub fn digest(&self, package: Digest, settings: &BTreeMap<String, String>) -> Digest {
        // Maps in their order, and texts and numbers: nothing of it can't be written.
        Digest::of(serde_json::to_string(&(self, package, settings)).unwrap_or_default().as_bytes())
    }

    /// The part of these rights that goes beyond others, in a fixed order; nothing where they are the same or narrower.
    pub fn beyond(&self, others: &Self) -> Vec<Excess> {
        let mut all = Vec::new();
        let mut more = |field: String, text: String| all.push(Excess { field, text });
        if self.app != others.app {
            more("app".to_owned(), format!("it is the app {}, not {}", self.app, others.app));
        }
        if self.publisher != others.publisher {
            let text = format!("the publisher is {}, not {}", self.publisher, others.publisher);
            more("publisher".to_owned(), text);
        }
        for capability in self.capabilities.difference(&others.capabilities) {
            let name = capability.name();
            more(format!("capabilities.{name}"), words::of_capability(*capability).to_owned());
        }
        if strength(self.mode) > strength(others.mode) {
            more(
                "mode".to_owned(),
                format!("the mode of its set-points is {}, not {}", self.mode, others.mode),
            );
        }
        for (name, patterns) in &self.inputs {
            let field = format!("inputs.{name}");
            let Some(known) = others.inputs.get(name) else {
                let reads = words::reads(patterns);
                more(field, format!("the input {name} is new: {reads}"));
                continue;
            };
            for pattern in patterns.iter().filter(|pattern| !known.iter().any(|known| covers(known, pattern)))
            {
                more(field.clone(), format!("the input {name} reads {}", words::free(pattern)));
            }
        }
        for (name, output) in &self.outputs {
            let field = format!("outputs.{name}");
            match others.outputs.get(name) {
                None => more(field, format!("the output {name} is new: {}", words::of_output(output))),
                Some(known) => {
                    output.beyond(name, known).into_iter().for_each(|text| more(field.clone(), text));
                }
            }
        }
        for kind in LimitKind::ALL {
            let (Some(has), Some(most)) = (self.limits.get(kind), others.limits.get(kind)) else { continue };
            if has > most {
                let (name, has, most) = (kind.name(), kind.show(has), kind.show(most));
                more(format!("limits.{name}"), format!("the limit {name} is {has}, more than {most}"));
            }
        }
        all
    }

    /// The part of these rights that somebody has taken away: it goes beyond the `present` ones, which a version with this
    /// manifest has. Whatever that version doesn't declare, it couldn't have.
    pub fn taken_away(&self, present: &Self, manifest: &Manifest) -> Vec<Excess> {
        let could_have = |excess: &Excess| match excess.field.split_once('.') {
            Some(("capabilities", _)) => false,
            Some(("inputs", name)) => manifest.input(name).is_some(),
            Some(("outputs", name)) => manifest.output(name).is_some(),
            Some(("limits", name)) => {
                let kind = LimitKind::ALL.into_iter().find(|kind| kind.name() == name);
                kind.is_none_or(|kind| manifest.limits.get(kind) != present.limits.get(kind))
            }
            _ => true,
        };
        let mut taken = self.beyond(present);
        taken.retain(could_have);
        taken
    }
}

impl OutputRight {
    fn beyond(&self, name: &SlotName, known: &Self) -> Vec<String> {
        let mut all = Vec::new();
        if self.kind != known.kind {
            all.push(format!("the output {name} is a {} output now", self.kind.name()));
        }
        match (&self.to, &known.to) {
            (Some(to), Some(most)) if covers(most, to) => {}
            (Some(to), _) => all.push(format!("the output {name} writes {}", words::free(to))),
            (None, _) => {}
        }
        match (&self.grant, &known.grant) {
            (None, _) => {}
            (Some(grant), None) => {
                all.push(format!("the output {name} sets {}", words::values(grant)));
            }
            (Some(grant), Some(most)) => {
                if !grant.allow.is_within(&most.allow) {
                    let (allow, most) = (&grant.allow, &most.allow);
                    all.push(format!("the output {name} sets {allow}, and not only {most}"));
                }
                if most.ttl.is_some() && grant.ttl.is_none_or(|ttl| Some(ttl) > most.ttl) {
                    let ttl = grant.ttl.map_or("as long as it asks".to_owned(), |ttl| ttl.to_string());
                    all.push(format!("set-points of the output {name} live for {ttl}"));
                }
                if grant.every < most.every {
                    let often = grant.every.map_or("as often as it asks".to_owned(), |every| {
                        format!("once in {every}, and not only in {}", most.every.unwrap_or(every))
                    });
                    all.push(format!("set-points of the output {name} come {often}"));
                }
                if grant.safe != most.safe {
                    let safe = grant.safe.map_or("none".to_owned(), |safe| safe.to_string());
                    all.push(format!("the safe value of the output {name} is {safe}"));
                }
            }
        }
        all
    }
}

/// The order of modes by what they let an app do.
fn strength(mode: Mode) -> u8 {
    match mode {
        Mode::Shadow => 0,
        Mode::Advise => 1,
        Mode::Act => 2,
    }
}

/// Says whether all points of a pattern are those of another one.
fn covers(most: &str, pattern: &str) -> bool {
    if most == pattern {
        return true;
    }
    let read = |text| Pattern::new(TenantId::NOBODY, text);
    let (Ok(most), Ok(pattern)) = (read(most), read(pattern)) else { return false };
    let (most, pattern) = (most.segments(), pattern.segments());
    most.len() == pattern.len()
        && most.iter().zip(pattern).all(|(most, own)| matches!(most, Segment::Capture(_)) || most == own)
}
