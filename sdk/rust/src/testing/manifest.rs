//! The parts of a manifest that the platform needs. `ironloom build` checks whether it is valid.

use std::collections::BTreeMap;

use serde::Deserialize;

use super::world::{OutputKind, Type};

#[derive(Deserialize)]
pub(super) struct Manifest {
    #[serde(default)]
    pub schedule: bool,
    /// By name; the places in the file give their order.
    #[serde(default)]
    pub inputs: BTreeMap<toml::Spanned<String>, Input>,
    #[serde(default)]
    pub outputs: BTreeMap<String, Output>,
    #[serde(default)]
    pub alarms: BTreeMap<String, toml::Table>,
    #[serde(default)]
    pub timers: BTreeMap<String, toml::Table>,
    #[serde(default)]
    pub settings: BTreeMap<String, Setting>,
    #[serde(default)]
    pub limits: Limits,
}

/// The limits that a test can meet. CPU time isn't limited here, and memory bounds only what one call returns.
#[derive(Default, Deserialize)]
pub(super) struct Limits {
    pub memory: Option<bytesize::ByteSize>,
    pub state: Option<bytesize::ByteSize>,
    pub points: Option<Count>,
}

/// A number, or one that stands in quotes.
#[derive(Deserialize)]
#[serde(untagged)]
pub(super) enum Count {
    Number(u64),
    Text(#[serde(with = "text")] u64),
}

mod text {
    use serde::{Deserialize as _, Deserializer, de::Error as _};

    pub(super) fn deserialize<'de, D: Deserializer<'de>>(from: D) -> Result<u64, D::Error> {
        String::deserialize(from)?.parse().map_err(D::Error::custom)
    }
}

impl Count {
    pub(super) fn get(&self) -> u64 {
        let (Self::Number(count) | Self::Text(count)) = self;
        *count
    }
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
    pub r#type: Type,
    pub default: Option<toml::Value>,
}

impl Setting {
    /// The default as the text that the app sees.
    pub(super) fn default_text(&self) -> Option<Result<String, String>> {
        self.default.as_ref().map(|default| match default {
            toml::Value::String(text) => setting_text(self.r#type, text),
            // The form of Rust, which reads all that TOML writes.
            toml::Value::Float(number) => setting_text(self.r#type, &number.to_string()),
            other => setting_text(self.r#type, &other.to_string()),
        })
    }
}

/// The text that the app sees of a setting that somebody gave as this text: the host writes numbers in one way.
pub(super) fn setting_text(of: Type, given: &str) -> Result<String, String> {
    let text = match of {
        Type::Boolean => given.parse::<bool>().ok().map(|value| value.to_string()),
        Type::Integer => given.parse::<i64>().ok().map(|value| value.to_string()),
        Type::Real => {
            given.parse::<f64>().ok().filter(|value| value.is_finite()).map(|value| format!("{value:?}"))
        }
        Type::Text => Some(given.to_owned()),
        Type::Blob => None,
    };
    text.ok_or_else(|| format!("{given:?} is not of type {}", of.name()))
}
