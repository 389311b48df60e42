//! What the platform takes from a manifest. Whether it is a valid one, `ironloom build` says.

use std::collections::BTreeMap;

use serde::Deserialize;

use super::world::{OutputKind, Type};

#[derive(Deserialize)]
pub(super) struct Manifest {
    #[serde(default)]
    pub schedule: bool,
    #[serde(default)]
    pub inputs: BTreeMap<String, Input>,
    #[serde(default)]
    pub outputs: BTreeMap<String, Output>,
    #[serde(default)]
    pub alarms: BTreeMap<String, toml::Table>,
    #[serde(default)]
    pub timers: BTreeMap<String, toml::Table>,
    #[serde(default)]
    pub settings: BTreeMap<String, Setting>,
}

#[derive(Deserialize)]
pub(super) struct Input {
    pub r#type: Type,
}

#[derive(Deserialize)]
pub(super) struct Output {
    pub kind: OutputKind,
    pub r#type: Type,
}

#[derive(Deserialize)]
pub(super) struct Setting {
    pub default: Option<toml::Value>,
}

impl Setting {
    /// The default as the text that the app sees.
    pub(super) fn default_text(&self) -> Option<String> {
        self.default.as_ref().map(|default| match default {
            toml::Value::String(text) => text.clone(),
            // Rust's own form, since TOML writes `inf` and `1e6` its own way.
            toml::Value::Float(number) => number.to_string(),
            other => other.to_string(),
        })
    }
}
