//! The messages by which set-points go to machines.

use serde_json::json;

use super::message::OutboundForm;
use super::topics::TopicPattern;
use crate::connectors::TENANT;
use crate::connectors::commands::Command;
use ironloom_apps::toml_section::Section;
use ironloom_types::ids::PointPath;
use ironloom_types::readings::Value;

/// The topic and the form of the set-points of some points: `[….set_points."plant/{station}/limit"]`. A value is `16` or `true`; JSON is
/// `{"value": 16, "id": "…", "number": 7, "expires": "2026-11-30T12:00:00Z"}`, of a safe value without id and end.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct SetPoints {
    point: TopicPattern,
    topic: TopicPattern,
    form: OutboundForm,
}

/// Reads the section.
pub(super) fn read(mut all: Section<'_, '_>) -> Vec<SetPoints> {
    let mut found = Vec::new();
    for field in all.take_all() {
        let point = TopicPattern::parse(&field.name).map_err(|error| field.refuse_name(error, None)).ok();
        let mut entry = field.section();
        let topic = entry.require("topic").and_then(|field| field.parsed(TopicPattern::parse));
        let form = OutboundForm::take(&mut entry, "a set-point", None);
        if let (Some(point), Some(topic)) = (&point, &topic) {
            if let Some(name) = point.lacks(topic) {
                entry.refuse(format!("has {{{name}}} in its topic, which the point doesn't have"));
            }
            // Two machines would have the same topic.
            if let Some(name) = topic.lacks(point) {
                entry.refuse(format!("must have {{{name}}} in its topic, as the point has it"));
            }
        }
        entry.finish();
        if let (Some(point), Some(topic), Some(form)) = (point, topic, form) {
            found.push(SetPoints { point, topic, form });
        }
    }
    found
}

impl SetPoints {
    pub(super) fn point(&self) -> &TopicPattern {
        &self.point
    }

    pub(super) fn topic(&self) -> &TopicPattern {
        &self.topic
    }

    pub(super) fn drives(&self, path: &PointPath) -> bool {
        path.tenant() == TENANT && self.point.matches(path.as_str()).is_some()
    }

    /// The topic and the payload of a set-point; `None` where it is another's.
    pub(super) fn message(&self, command: &Command) -> Option<(String, Vec<u8>)> {
        let matched = self.point.matches(command.point.as_str())?;
        let topic = self.topic.fill(|name| matched.level(name))?;
        let value = match &command.value {
            Value::Boolean(value) => json!(value),
            Value::Integer(value) => json!(value),
            // A whole number is written as one, as machines expect it.
            Value::Real(value) if value.fract() == 0.0 && value.abs() < 1e15 => json!(*value as i64),
            Value::Real(value) => json!(value),
            // Set-points are numbers or booleans.
            Value::Missing | Value::Text(_) | Value::Blob(_) => return None,
        };
        let payload = match self.form {
            OutboundForm::Value => value.to_string(),
            OutboundForm::Json => {
                let mut all = json!({ "value": value, "number": command.number });
                if let Some(id) = command.id {
                    all["id"] = json!(id.to_string());
                }
                if let Some(expires) = command.expires {
                    all["expires"] = json!(expires.to_string());
                }
                all.to_string()
            }
        };
        Some((topic, payload.into_bytes()))
    }
}
