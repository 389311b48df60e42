//! Changes of an installation: what is asked for, and what came of it.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};
use serde_with::rust::double_option as given;
use serde_with::rust::maps_duplicate_key_is_error as once;
use utoipa::ToSchema;

use super::model::{Consent, Installation, Match};
use ironloom_apps::allowance::{LimitKind, PartialLimits};
use ironloom_apps::binding::Patterns;
use ironloom_apps::grants::{Mode, OutputGrant};
use ironloom_apps::quantity::{Bytes, Count, Span};
use ironloom_types::ids::{Digest, Revision, Sequence, SlotName};

/// The body of `PATCH /v1/installations/{id}`. What isn't named stays as it is, and null takes away.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, ToSchema)]
#[serde(default, deny_unknown_fields)]
pub(crate) struct RevisionRequest {
    /// Another package of the same app. What it doesn't know any more goes, with a warning; what it needs besides is
    /// given here, too.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub package: Option<Digest>,
    /// The patterns of an input or output, in place of those that it has; null: it is not bound.
    #[serde(deserialize_with = "once::deserialize", skip_serializing_if = "BTreeMap::is_empty")]
    #[schema(value_type = BTreeMap<String, serde_json::Value>)]
    pub bindings: BTreeMap<SlotName, Option<Patterns>>,
    /// Settings; null: the manifest's default.
    #[serde(deserialize_with = "once::deserialize", skip_serializing_if = "BTreeMap::is_empty")]
    #[schema(value_type = BTreeMap<String, serde_json::Value>)]
    pub settings: BTreeMap<SlotName, Option<serde_json::Value>>,
    /// Grants to set-point outputs; null: none.
    #[serde(skip_serializing_if = "GrantChanges::is_empty")]
    pub grants: GrantChanges,
    /// Limits; null: what an install without a grant gets.
    pub limits: LimitChanges,
    /// The time zone of its timers; null: the site's.
    #[serde(with = "given", skip_serializing_if = "Option::is_none")]
    #[schema(value_type = Option<String>)]
    pub timezone: Option<Option<String>>,
    /// True: the sources are slowed where it falls behind.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub keep_up: Option<bool>,
    /// The revision that this was made from: 409 where another change has come in between.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub revision: Option<Revision>,
    /// True: readings that wait run under the new revision. Without it: where the installation is quarantined.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub at_cursor: Option<bool>,
    /// The digest of the consent that a dry run has shown: 409 where the change would give anything else by now. With another
    /// package that asks for more, what isn't named here needs it; without it the change waits for consent.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub consent: Option<Digest>,
    /// False: no copy of its state is made before another version comes, so that nobody can roll back.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub copy: Option<bool>,
}

/// Changes of grants.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, ToSchema)]
#[serde(default, deny_unknown_fields)]
pub(crate) struct GrantChanges {
    /// The fate of the set-points that are asked for.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub mode: Option<Mode>,
    #[serde(deserialize_with = "once::deserialize")]
    #[schema(value_type = BTreeMap<String, serde_json::Value>)]
    pub outputs: BTreeMap<SlotName, Option<OutputGrant>>,
}

impl GrantChanges {
    fn is_empty(&self) -> bool {
        *self == Self::default()
    }
}

/// Changes of limits.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(default, deny_unknown_fields)]
pub(crate) struct LimitChanges {
    #[serde(with = "given", skip_serializing_if = "Option::is_none")]
    #[schema(value_type = Option<String>)]
    pub memory: Option<Option<Bytes>>,
    #[serde(with = "given", skip_serializing_if = "Option::is_none")]
    #[schema(value_type = Option<String>)]
    pub cpu: Option<Option<Span>>,
    #[serde(with = "given", skip_serializing_if = "Option::is_none")]
    #[schema(value_type = Option<String>)]
    pub state: Option<Option<Bytes>>,
    #[serde(with = "given", skip_serializing_if = "Option::is_none")]
    #[schema(value_type = Option<String>)]
    pub share: Option<Option<Span>>,
    #[serde(with = "given", skip_serializing_if = "Option::is_none")]
    #[schema(value_type = Option<u64>)]
    pub points: Option<Option<Count>>,
}

impl LimitChanges {
    /// Those that are set to a value.
    pub(crate) fn of(limits: PartialLimits) -> Self {
        let PartialLimits { memory, cpu, state, share, points } = limits;
        Self {
            memory: memory.map(Some),
            cpu: cpu.map(Some),
            state: state.map(Some),
            share: share.map(Some),
            points: points.map(Some),
        }
    }

    /// Takes one away.
    pub(crate) fn unset(&mut self, kind: LimitKind) {
        match kind {
            LimitKind::Memory => self.memory = Some(None),
            LimitKind::Cpu => self.cpu = Some(None),
            LimitKind::State => self.state = Some(None),
            LimitKind::Share => self.share = Some(None),
            LimitKind::Points => self.points = Some(None),
        }
    }

    /// Returns limits with these changes.
    pub(crate) fn on(self, limits: PartialLimits) -> PartialLimits {
        let Self { memory, cpu, state, share, points } = self;
        PartialLimits {
            memory: memory.unwrap_or(limits.memory),
            cpu: cpu.unwrap_or(limits.cpu),
            state: state.unwrap_or(limits.state),
            share: share.unwrap_or(limits.share),
            points: points.unwrap_or(limits.points),
        }
    }
}

/// The result of a change, or of a dry run.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, ToSchema)]
pub(crate) struct Revised {
    /// The installation as it is now, or would be.
    #[serde(flatten)]
    pub installation: Installation,
    /// The differences; none where the request asks for what there is, and then the revision stays.
    pub changes: Vec<FieldChange>,
    /// The first sequence that runs under the new revision.
    pub from: Sequence,
    /// Of changed bindings: the points that its inputs match then,
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub matches: Vec<Match>,
    /// those among them that they don't match now,
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub newly: Vec<Match>,
    /// and those that they match now and won't.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub no_longer: Vec<Match>,
    /// Warnings for the admin.
    pub warnings: Vec<String>,
    /// Rights besides that nobody has consented to yet, a sentence each.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub wider: Vec<String>,
    /// True: so nothing is changed, and it waits for consent.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub waits: bool,
    /// The rights that it would get, where it isn't done.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub consent: Option<Consent>,
}

/// The change of a field.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, ToSchema)]
pub(crate) struct FieldChange {
    /// As in the body: `settings.breed`.
    pub field: String,
    /// Null: it was not there.
    pub before: serde_json::Value,
    /// Null: it is there no longer.
    pub after: serde_json::Value,
}

/// All fields that an admin can change and that differ.
pub(crate) fn changes(before: &Installation, after: &Installation) -> Vec<FieldChange> {
    let (before, after) = (fields(before), fields(after));
    let names: std::collections::BTreeSet<_> = before.keys().chain(after.keys()).collect();
    let null = serde_json::Value::Null;
    let both = names.into_iter().map(|name| {
        let of = |fields: &BTreeMap<String, _>| fields.get(name).unwrap_or(&null).clone();
        FieldChange { field: name.clone(), before: of(&before), after: of(&after) }
    });
    both.filter(|change| change.before != change.after).collect()
}

/// The fields of an installation that an admin can change, by name.
fn fields(of: &Installation) -> BTreeMap<String, serde_json::Value> {
    let mut fields = BTreeMap::new();
    let mut section = |name: &str, all: serde_json::Value| {
        if let serde_json::Value::Object(all) = all {
            fields.extend(all.into_iter().map(|(key, value)| (format!("{name}.{key}"), value)));
        }
    };
    section("bindings", value(&of.bindings));
    section("settings", value(&of.settings));
    section("grants.outputs", value(&of.grants.outputs));
    section("limits", value(&of.limits));
    let alone = [
        ("package", value(&of.package)),
        ("version", value(&of.version)),
        ("timezone", value(&of.timezone)),
        ("grants.mode", value(&of.grants.mode)),
        ("keep_up", value(&of.keep_up)),
    ];
    fields.extend(alone.map(|(name, value)| (name.to_owned(), value)));
    fields
}

/// These types are maps with texts as keys, texts, numbers and truth values: all of that is JSON.
fn value(of: &impl Serialize) -> serde_json::Value {
    serde_json::to_value(of).unwrap_or_default()
}
