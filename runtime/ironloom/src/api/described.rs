//! A package in the API's words, from its manifest and what its component imports.

use std::sync::Arc;

use super::model::{AlarmInfo, PackageInfo, SettingInfo, SlotInfo, TimerInfo};
use ironloom_apps::allowance::LimitKind;
use ironloom_apps::manifest::{Manifest, Setting, ValueType};
use ironloom_trust::key::PublicKey;
use ironloom_types::ids::Digest;

impl PackageInfo {
    /// Describes a package.
    pub(crate) fn of(
        manifest: &Manifest,
        digest: Digest,
        signers: Vec<PublicKey>,
        imports: Vec<String>,
        sdk: Option<String>,
    ) -> Self {
        let unit = |unit: &Option<Arc<str>>| unit.as_ref().map(|unit| unit.to_string());
        let description = |text: &String| (!text.is_empty()).then(|| text.clone());
        let inputs = manifest.inputs.iter().map(|input| {
            let slot = SlotInfo {
                kind: None,
                r#type: input.value_type.name().to_owned(),
                unit: unit(&input.unit),
                optional: Some(input.optional),
                description: description(&input.description),
            };
            (input.name.to_string(), slot)
        });
        let outputs = manifest.outputs.iter().map(|output| {
            let slot = SlotInfo {
                kind: Some(output.kind.name().to_owned()),
                r#type: output.value_type.name().to_owned(),
                unit: unit(&output.unit),
                optional: None,
                description: description(&output.description),
            };
            (output.name.to_string(), slot)
        });
        let settings = manifest.settings.iter().map(|setting| {
            let shown = SettingInfo {
                r#type: setting.value_type.name().to_owned(),
                default: setting.default.as_deref().map(|text| setting_value(setting, text)),
                description: description(&setting.description),
            };
            (setting.name.to_string(), shown)
        });
        let alarms = manifest.alarms.iter().map(|alarm| {
            let severity = alarm.severity.name().to_owned();
            (alarm.name.to_string(), AlarmInfo { severity, description: description(&alarm.description) })
        });
        let timers = manifest.timers.iter().map(|timer| {
            let cron = timer.cron.to_string();
            (timer.name.to_string(), TimerInfo { cron, description: description(&timer.description) })
        });
        let limits = LimitKind::ALL.into_iter().filter_map(|kind| {
            let asked = manifest.limits.get(kind)?;
            Some((kind.name().to_owned(), kind.show(asked)))
        });
        PackageInfo {
            digest,
            id: manifest.id.clone(),
            name: manifest.name.clone(),
            version: manifest.version.clone(),
            publisher: manifest.publisher.clone(),
            description: manifest.description.clone(),
            license: manifest.license.clone(),
            signers,
            inputs: inputs.collect(),
            outputs: outputs.collect(),
            settings: settings.collect(),
            alarms: alarms.collect(),
            timers: timers.collect(),
            schedule: manifest.schedule,
            limits: limits.collect(),
            imports,
            sdk,
        }
    }
}

/// A setting's text as the JSON of its type.
pub(crate) fn setting_value(setting: &Setting, text: &str) -> serde_json::Value {
    let typed = match setting.value_type {
        ValueType::Boolean | ValueType::Integer | ValueType::Real => serde_json::from_str(text).ok(),
        ValueType::Text | ValueType::Blob => None,
    };
    typed.unwrap_or_else(|| serde_json::Value::String(text.to_owned()))
}
