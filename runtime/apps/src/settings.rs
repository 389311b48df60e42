//! Settings: checks the given values against the manifest.
//!
//! An app sees every setting as text (`wasi:config/store`), so this is where a value of the declared
//! type becomes that text, in one way only: integers in decimal, reals in the shortest form that
//! reads back the same and always with a point or an exponent.

use std::collections::BTreeMap;

use toml::de::DeValue;

use super::manifest::{Manifest, ValueType};
use super::problem::{Cause, Problem, join_path};
use ironloom_types::ids::SlotName;

/// The longest value of a setting, in bytes. Beyond: refused.
pub const MAX_SETTING_BYTES: usize = 16 << 10;

/// A value as somebody gave it, whatever the format.
#[derive(Clone, Debug, PartialEq)]
pub(crate) enum Given {
    Boolean(bool),
    Integer(i64),
    Real(f64),
    Text(String),
}

impl Given {
    pub(crate) fn from_toml(value: &DeValue<'_>) -> Result<Self, String> {
        match value {
            DeValue::String(text) => Ok(Self::Text(text.clone().into_owned())),
            DeValue::Boolean(value) => Ok(Self::Boolean(*value)),
            DeValue::Integer(number) => i64::from_str_radix(number.as_str(), number.radix())
                .map(Self::Integer)
                .map_err(|_| format!("{number} does not fit into 64 bits")),
            DeValue::Float(number) => {
                number.as_str().parse().map(Self::Real).map_err(|_| format!("{number} is not a real number"))
            }
            _ => Err("must be a text, a number, true or false".to_owned()),
        }
    }

    fn from_json(value: &serde_json::Value) -> Result<Self, String> {
        match value {
            serde_json::Value::String(text) => Ok(Self::Text(text.clone())),
            serde_json::Value::Bool(value) => Ok(Self::Boolean(*value)),
            serde_json::Value::Number(number) => match (number.as_i64(), number.as_f64()) {
                (Some(integer), _) => Ok(Self::Integer(integer)),
                (None, Some(real)) => Ok(Self::Real(real)),
                (None, None) => Err(format!("{number} does not fit into 64 bits")),
            },
            _ => Err("must be a text, a number, true or false".to_owned()),
        }
    }
}

/// The text that an app gets for a value of this type. A text is read as that type, since the
/// command line has nothing else.
pub(crate) fn to_text(value_type: ValueType, given: &Given) -> Result<String, String> {
    let mismatch = || {
        let shown = match given {
            Given::Boolean(value) => value.to_string(),
            Given::Integer(value) => value.to_string(),
            Given::Real(value) => format!("{value:?}"),
            Given::Text(text) => format!("{text:?}"),
        };
        format!("{shown} is not of the setting's type, {value_type}")
    };
    let text = match (value_type, given) {
        (ValueType::Text, Given::Text(text)) => text.clone(),
        (ValueType::Boolean, Given::Boolean(value)) => value.to_string(),
        (ValueType::Boolean, Given::Text(text)) => text.parse::<bool>().map_err(|_| mismatch())?.to_string(),
        (ValueType::Integer, Given::Integer(value)) => value.to_string(),
        (ValueType::Integer, Given::Text(text)) => text.parse::<i64>().map_err(|_| mismatch())?.to_string(),
        (ValueType::Real, Given::Real(value)) => real_text(*value).ok_or_else(mismatch)?,
        (ValueType::Real, Given::Integer(value)) => {
            // Beyond 2^53 an integer may have no equal among the reals.
            let real = *value as f64;
            if real as i64 != *value || *value == i64::MAX {
                return Err(format!("{value} can't be represented exactly as a real"));
            }
            real_text(real).ok_or_else(mismatch)?
        }
        (ValueType::Real, Given::Text(text)) => {
            text.parse::<f64>().ok().and_then(real_text).ok_or_else(mismatch)?
        }
        _ => return Err(mismatch()),
    };
    if text.len() > MAX_SETTING_BYTES {
        return Err(format!("has {} bytes; a setting has at most {MAX_SETTING_BYTES}", text.len()));
    }
    Ok(text)
}

fn real_text(value: f64) -> Option<String> {
    value.is_finite().then(|| format!("{value:?}"))
}

/// Checks what is given against the manifest and fills in the defaults: each setting with its text.
///
/// # Errors
/// Unknown and missing settings and values of another type, all of them.
pub fn check(
    manifest: &Manifest,
    given: &BTreeMap<SlotName, serde_json::Value>,
) -> Result<BTreeMap<String, String>, Vec<Problem>> {
    let mut problems = Vec::new();
    for name in given.keys() {
        if !manifest.settings.iter().any(|setting| setting.name == *name) {
            let known: Vec<&str> = manifest.settings.iter().map(|setting| setting.name.as_str()).collect();
            let known = if known.is_empty() { "no settings".to_owned() } else { known.join(", ") };
            problems.push(Problem::of(
                join_path("settings", name.as_str()),
                format!("is not a setting of {}, which has {known}", manifest.id),
            ));
        }
    }
    let mut values = BTreeMap::new();
    for setting in &manifest.settings {
        let name = setting.name.as_str();
        let field = format!("settings.{name}");
        let text = match (given.get(&setting.name), &setting.default) {
            (Some(value), _) => Given::from_json(value).and_then(|given| to_text(setting.value_type, &given)),
            (None, Some(default)) => Ok(default.clone()),
            (None, None) => {
                let problem = Problem::of(
                    field,
                    format!("must be set: {}", or_type(&setting.description, setting.value_type)),
                );
                let problem = problem.because(Cause::SettingMissing);
                problems.push(problem.hint(format!("add it to the settings, or give --set {name}=…")));
                continue;
            }
        };
        match text {
            Ok(text) => {
                values.insert(name.to_owned(), text);
            }
            Err(message) => problems.push(Problem::of(field, message)),
        }
    }
    if problems.is_empty() { Ok(values) } else { Err(problems) }
}

fn or_type(description: &str, value_type: ValueType) -> String {
    if description.is_empty() {
        format!("it has the type {value_type} and no default")
    } else {
        description.to_owned()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn json(value_type: ValueType, text: &str) -> Result<String, String> {
        to_text(value_type, &Given::from_json(&serde_json::from_str(text).unwrap())?)
    }

    #[test]
    fn values_become_the_one_text_of_their_type() {
        assert_eq!(json(ValueType::Integer, "7").unwrap(), "7");
        assert_eq!(json(ValueType::Integer, "\"-007\"").unwrap(), "-7");
        assert_eq!(json(ValueType::Real, "4").unwrap(), "4.0");
        assert_eq!(json(ValueType::Real, "\"4\"").unwrap(), "4.0");
        assert_eq!(json(ValueType::Real, "0.1").unwrap(), "0.1");
        assert_eq!(json(ValueType::Boolean, "\"true\"").unwrap(), "true");
        assert_eq!(json(ValueType::Text, "\"7\"").unwrap(), "7");
    }

    #[test]
    fn values_of_another_type_are_refused() {
        for (value_type, text) in [
            (ValueType::Integer, "7.5"),
            (ValueType::Integer, "\"x\""),
            (ValueType::Integer, "9223372036854775808"),
            (ValueType::Real, "9007199254740993"),
            (ValueType::Real, "9223372036854775807"),
            (ValueType::Real, "\"NaN\""),
            (ValueType::Real, "\"inf\""),
            (ValueType::Boolean, "1"),
            (ValueType::Boolean, "\"yes\""),
            (ValueType::Text, "7"),
            (ValueType::Text, "null"),
            (ValueType::Text, "[]"),
        ] {
            assert!(json(value_type, text).is_err(), "{value_type} {text}");
        }
        let long = format!("\"{}\"", "x".repeat(MAX_SETTING_BYTES + 1));
        assert!(json(ValueType::Text, &long).is_err());
    }

    #[test]
    fn unknown_missing_and_wrong_settings_are_all_reported() {
        let manifest = Manifest::parse(
            "manifest = 1\nid = \"a.b\"\nname = \"x\"\nversion = \"1.0.0\"\n[settings]\n\
             breed = { type = \"text\", default = \"duroc\" }\nage = { type = \"integer\" }\nweight = { type = \"real\" }\n",
        )
        .unwrap();
        let given = |text: &str| serde_json::from_str(text).unwrap();
        let values = check(&manifest, &given(r#"{"age":10,"weight":"110"}"#)).unwrap();
        let expected = [("age", "10"), ("breed", "duroc"), ("weight", "110.0")];
        assert!(values.iter().map(|(k, v)| (k.as_str(), v.as_str())).eq(expected));
        let problems = check(&manifest, &given(r#"{"age":"ten","bred":"x"}"#)).unwrap_err();
        let fields: Vec<_> = problems.iter().filter_map(|problem| problem.field.as_deref()).collect();
        assert_eq!(fields, ["settings.bred", "settings.age", "settings.weight"]);
    }
}
