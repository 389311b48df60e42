//! What a change asks for: what there is, as far as the package knows it, and the request on top.

use std::collections::BTreeMap;

use crate::api::facade::RevisionRequest;
use crate::fold::durable::Term;
use crate::node::installations::settings_of;
use ironloom_apps::allowance::{LimitKind, PartialLimits};
use ironloom_apps::binding::Patterns;
use ironloom_apps::grants::Grants;
use ironloom_apps::manifest::{Manifest, OutputKind};
use ironloom_apps::problem::Problem as Wrong;
use ironloom_types::ids::SlotName;

/// All that an installation would have been asked for, with warnings about what the package doesn't take over.
pub(super) struct Asked {
    pub(super) bindings: BTreeMap<SlotName, Patterns>,
    pub(super) grants: Grants,
    pub(super) settings: BTreeMap<SlotName, serde_json::Value>,
    pub(super) limits: PartialLimits,
    pub(super) timezone: Option<String>,
    pub(super) warnings: Vec<String>,
}

impl Asked {
    /// Takes over what the manifest knows of the revision before, and puts the request on top.
    pub(super) fn of(
        before: &Term,
        manifest: &Manifest,
        request: &RevisionRequest,
        wrong: &mut Vec<Wrong>,
    ) -> Self {
        let revision = &before.revision;
        let mut warnings = Vec::new();
        let mut bindings = bindings(before, manifest, &mut warnings);
        wrong.extend(change("bindings", &mut bindings, &request.bindings, |name| {
            let is_known = manifest.input(name).is_some() || manifest.output(name).is_some();
            (!is_known).then(|| format!("is neither an input nor an output of {}", manifest.id))
        }));
        let mut settings = settings(before, manifest, request, &mut warnings);
        wrong.extend(change("settings", &mut settings, &request.settings, |name| {
            let is_known = manifest.settings.iter().any(|setting| setting.name.as_str() == name);
            (!is_known).then(|| format!("is not a setting of {}", manifest.id))
        }));
        let mut grants = grants(before, manifest, &mut warnings);
        wrong.extend(change("grants", &mut grants.outputs, &request.grants.outputs, |_| None));
        grants.mode = request.grants.mode.unwrap_or(grants.mode);
        let limits = request.limits.on(limits(before, manifest));
        warnings.extend(limits_below(before, manifest, &limits));
        let timezone = request.timezone.clone().unwrap_or_else(|| Some(revision.timezone.clone()));
        Self { bindings, grants, settings, limits, timezone, warnings }
    }
}

/// Puts what is given in place of what there is, and takes away what is null. Returns what is to be taken away and isn't
/// known, as `unknown` says it.
fn change<T: Clone>(
    section: &str,
    all: &mut BTreeMap<SlotName, T>,
    given: &BTreeMap<SlotName, Option<T>>,
    unknown: impl Fn(&str) -> Option<String>,
) -> Vec<Wrong> {
    let mut wrong = Vec::new();
    for (name, value) in given {
        if let Some(value) = value {
            all.insert(name.clone(), value.clone());
            continue;
        }
        all.remove(name);
        wrong.extend(unknown(name.as_str()).map(|text| Wrong::of(format!("{section}.{name}"), text)));
    }
    wrong
}

/// The bindings of the slots that the manifest has on the same side.
fn bindings(before: &Term, manifest: &Manifest, warnings: &mut Vec<String>) -> BTreeMap<SlotName, Patterns> {
    let (was, version) = (&before.manifest, &manifest.version);
    let mut all = before.revision.bindings.asked();
    all.retain(|name, patterns| {
        let name = name.as_str();
        let is_input = was.input(name).is_some();
        let stays = if is_input { manifest.input(name).is_some() } else { manifest.output(name).is_some() };
        if !stays {
            let (what, bound) = (if is_input { "input" } else { "output" }, patterns.as_slice().join(", "));
            warnings.push(format!("version {version} has no {what} {name}: its binding {bound} is dropped"));
        }
        stays
    });
    let gone = was.outputs.iter().filter(|output| manifest.output(output.name.as_str()).is_none());
    warnings.extend(gone.map(|output| {
        format!("version {version} has no output {}: its points stay, and get no more readings", output.name)
    }));
    all
}

/// The settings that the manifest has. One that has never been anything but the default follows a new default.
fn settings(
    before: &Term,
    manifest: &Manifest,
    request: &RevisionRequest,
    warnings: &mut Vec<String>,
) -> BTreeMap<SlotName, serde_json::Value> {
    let version = &manifest.version;
    let mut all = settings_of(&before.manifest, &before.revision);
    all.retain(|name, value| {
        let Some(setting) = manifest.settings.iter().find(|setting| setting.name == *name) else {
            warnings.push(format!("version {version} has no setting {name}: {value} is dropped"));
            return false;
        };
        let was = before.manifest.settings.iter().find(|setting| setting.name == *name);
        let default = was.and_then(|was| was.default.as_ref());
        let is_default = default.is_some() && default == before.revision.settings.get(name.as_str());
        let Some(new) = setting.default.as_ref().filter(|new| is_default && default != Some(*new)) else {
            return true;
        };
        if !request.settings.contains_key(name) {
            warnings.push(format!(
                "settings.{name}: the default is {new:?} in version {version}, and was {value}; --set {name}=… keeps that"
            ));
        }
        false
    });
    all
}

/// The grants to set-point outputs that the manifest has.
fn grants(before: &Term, manifest: &Manifest, warnings: &mut Vec<String>) -> Grants {
    let mut grants = before.revision.grants.clone();
    grants.outputs.retain(|name, _| {
        let output = manifest.output(name.as_str());
        let stays = output.is_some_and(|(_, output)| output.kind == OutputKind::SetPoint);
        if !stays {
            let version = &manifest.version;
            warnings.push(format!("version {version} has no set-point output {name}: its grant is dropped"));
        }
        stays
    });
    grants
}

/// The limits before, and where another version asks for more, those.
fn limits(before: &Term, manifest: &Manifest) -> PartialLimits {
    let mut limits = PartialLimits::from(&before.revision.limits);
    for kind in LimitKind::ALL {
        let asked = before.manifest.limits.get(kind);
        let asks = manifest.limits.get(kind).filter(|asks| asked != Some(*asks));
        if let Some(more) = asks.filter(|asks| limits.get(kind).is_none_or(|has| *asks > has)) {
            limits.set(kind, more);
        }
    }
    limits
}

/// Says where another version asks for more than it is granted.
fn limits_below(before: &Term, manifest: &Manifest, granted: &PartialLimits) -> Vec<String> {
    let below = LimitKind::ALL.into_iter().filter_map(|kind| {
        let (asks, gets) = (manifest.limits.get(kind)?, granted.get(kind)?);
        let asked = before.manifest.limits.get(kind);
        (asks > gets && asked != Some(asks)).then(|| {
            let (name, version) = (kind.name(), &manifest.version);
            let (asks, gets) = (kind.show(asks), kind.show(gets));
            format!(
                "limits.{name}: version {version} asks for {asks}, and has {gets} as before; --limit {name}='{asks}' grants it"
            )
        })
    });
    below.collect()
}
