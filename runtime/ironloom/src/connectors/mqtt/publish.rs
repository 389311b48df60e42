//! The messages by which derived readings and alarms go to a broker.

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD as BASE64;
use serde_json::{Value as Json, json};

use super::message::OutboundForm;
use super::topics::TopicPattern;
use crate::connectors::{OutAlarm, OutReading};
use ironloom_apps::toml_section::Section;
use ironloom_types::ids::RESERVED_SEGMENT;
use ironloom_types::readings::{ValueRef, not_finite};

/// The topic and the form of the readings of some points, or of some alarms:
/// `[….publish."apps/{app}/{output}/{entity...}"]`, `[….publish."alarms/{app}/{code}/{entity...}"]`. A value is `16.5`, `true`, a text without
/// quotes, the bytes of a blob, or `null` where it is missing.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Publish {
    point: TopicPattern,
    topic: TopicPattern,
    form: OutboundForm,
    retain: bool,
}

/// The first level of the patterns that are of alarms.
const ALARMS: &str = "alarms";

/// A message for a broker.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct Outbound {
    pub topic: String,
    pub payload: Vec<u8>,
    pub retain: bool,
}

/// Reads the section. `taken` are the topics from which the connector takes readings.
pub(super) fn read(mut all: Section<'_, '_>, taken: &[&TopicPattern]) -> Vec<Publish> {
    let mut found = Vec::new();
    for field in all.take_all() {
        let point =
            TopicPattern::parse_path(&field.name).map_err(|error| field.refuse_name(error, None)).ok();
        let of = point.as_ref().and_then(TopicPattern::first);
        if point.is_some() && !matches!(of, Some(RESERVED_SEGMENT | ALARMS)) {
            field.refuse_name(
                "must begin with `apps/` or `alarms/`: what apps derive is published, and their alarms",
                None,
            );
        }
        let mut entry = field.section();
        let topic = entry.require("topic").and_then(|field| {
            let topic = field.parsed(TopicPattern::parse_path)?;
            if taken.iter().any(|taken| taken.meets(&topic)) {
                field.refuse("has topics that this connector takes readings from: they would come back");
            }
            Some(topic)
        });
        let of_alarms = (of == Some(ALARMS)).then_some("is for readings: an alarm is more than a value");
        let form = OutboundForm::take(&mut entry, "a reading", of_alarms);
        let retain = entry.take("retain").map_or(Some(false), |field| field.boolean());
        if let (Some(point), Some(topic)) = (&point, &topic) {
            if let Some(name) = point.lacks(topic) {
                entry.refuse(format!("has {{{name}}} in its topic, which the point doesn't have"));
            }
            // Nobody could tell points of one topic apart.
            if form == Some(OutboundForm::Value)
                && let Some(name) = topic.lacks(point)
            {
                entry.refuse(format!(
                    "must have {{{name}}} in its topic, as the point has it, or payload = \"json\""
                ));
            }
        }
        entry.finish();
        if let (Some(point), Some(topic), Some(form), Some(retain)) = (point, topic, form, retain) {
            found.push(Publish { point, topic, form, retain });
        }
    }
    found
}

impl Publish {
    pub(super) fn topic(&self) -> &TopicPattern {
        &self.topic
    }

    /// The message of an alarm; `None` where it is another's, or its topic would be none.
    pub(super) fn alarm(&self, alarm: &OutAlarm) -> Option<Outbound> {
        let topic = self.topic_of(&alarm.path)?;
        Some(Outbound { topic, payload: alarm.json.clone(), retain: self.retain })
    }

    fn topic_of(&self, path: &str) -> Option<String> {
        let matched = self.point.matches(path)?;
        self.topic.fill(|name| matched.level(name))
    }

    /// The message of a reading; `None` where it is another's, or its topic would be none.
    pub(super) fn reading(&self, reading: &OutReading<'_>) -> Option<Outbound> {
        let topic = self.topic_of(reading.path.as_str())?;
        let payload = match self.form {
            OutboundForm::Value => match reading.value {
                ValueRef::Text(text) => text.as_bytes().to_vec(),
                ValueRef::Blob(bytes) => bytes.to_vec(),
                value => json_of(value).to_string().into_bytes(),
            },
            OutboundForm::Json => {
                let mut all = json!({
                    "point": reading.path.as_str(),
                    "value": json_of(reading.value),
                    "at": reading.at.to_string(),
                    "quality": reading.quality.name(),
                    "sequence": reading.sequence.0,
                });
                if let Some(unit) = reading.unit {
                    all["unit"] = json!(unit);
                }
                all.to_string().into_bytes()
            }
        };
        Some(Outbound { topic, payload, retain: self.retain })
    }
}

/// A value as in the API: reals that JSON lacks are texts, a blob is base64.
fn json_of(value: ValueRef<'_>) -> Json {
    match value {
        ValueRef::Missing => Json::Null,
        ValueRef::Boolean(value) => json!(value),
        ValueRef::Integer(value) => json!(value),
        ValueRef::Real(value) => not_finite(value).map_or_else(|| json!(value), |name| json!(name)),
        ValueRef::Text(text) => json!(text),
        ValueRef::Blob(bytes) => json!({ "base64": BASE64.encode(bytes) }),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::connectors::mqtt::config::tests::read_with;
    use ironloom_types::clock::Timestamp;
    use ironloom_types::ids::{PointPath, Sequence, TenantId};
    use ironloom_types::readings::Quality;

    fn message(publish: &Publish, path: &str, value: ValueRef<'_>) -> Option<(String, String)> {
        let reading = OutReading {
            sequence: Sequence(7),
            path: &PointPath::new(TenantId::MAIN, path).unwrap(),
            unit: Some("kg"),
            at: Timestamp(1_000_000_000),
            quality: Quality::Good,
            value,
        };
        let Outbound { topic, payload, .. } = publish.reading(&reading)?;
        Some((topic, String::from_utf8(payload).unwrap()))
    }

    #[test]
    fn readings_and_alarms_have_their_topics() {
        let config = read_with(
            "[connectors.c.publish.\"apps/{app}/gain/{pig...}\"]\ntopic = \"farm/{pig...}/gain/of-{app}\"\n\
             payload = \"value\"\nretain = true\n",
        );
        // A name is a whole level.
        assert!(config.unwrap_err().contains("more than a name in braces"));
        let config = read_with(
            "[connectors.c.publish.\"apps/{app}/gain/{pig...}\"]\ntopic = \"farm/{app}/gain/{pig...}\"\n\
             payload = \"value\"\nretain = true\n\
             [connectors.c.publish.\"apps/{app}/{output}/{entity}\"]\ntopic = \"all/{app}\"\n\
             [connectors.c.publish.\"alarms/{app}/{code}/{entity...}\"]\ntopic = \"alarms/{app}/{code}/{entity...}\"\n",
        )
        .unwrap();
        let [gain, all, alarms] = &config.publish[..] else { panic!("{:?}", config.publish) };
        let topic = |topic: &str, payload: &str| Some((topic.to_owned(), payload.to_owned()));
        let gain_of = |value| message(gain, "apps/pigs/gain/barn-1/pig-7", value);
        assert_eq!(gain_of(ValueRef::Real(1.5)), topic("farm/pigs/gain/barn-1/pig-7", "1.5"));
        assert_eq!(gain_of(ValueRef::Text("a \"b\"")), topic("farm/pigs/gain/barn-1/pig-7", "a \"b\""));
        assert_eq!(gain_of(ValueRef::Missing), topic("farm/pigs/gain/barn-1/pig-7", "null"));
        assert_eq!(message(gain, "apps/pigs/weight/7", ValueRef::Real(1.5)), None);
        let (topic, payload) = message(all, "apps/pigs/weight/7", ValueRef::Real(f64::NAN)).unwrap();
        assert_eq!(topic, "all/pigs");
        let payload: Json = serde_json::from_str(&payload).unwrap();
        let expected = json!({
            "point": "apps/pigs/weight/7", "value": "NaN", "at": "1970-01-01T00:00:01.000000000Z",
            "quality": "good", "unit": "kg", "sequence": 7,
        });
        assert_eq!(payload, expected);
        let alarm = |path: &str| OutAlarm { change: 1, path: path.to_owned(), json: b"{}".to_vec() };
        let topic_of = |path: &str| alarms.alarm(&alarm(path)).map(|message| message.topic);
        assert_eq!(topic_of("alarms/pigs/ill/7").as_deref(), Some("alarms/pigs/ill/7"));
        assert_eq!(topic_of("alarms/pigs/ill").as_deref(), Some("alarms/pigs/ill"));
        // An entity may have whatever an app gives it; a topic may not.
        assert_eq!(topic_of("alarms/pigs/ill/#"), None);
        assert_eq!(all.alarm(&alarm("alarms/pigs/ill/7")), None);
    }

    #[test]
    fn what_cannot_be_published_is_refused_with_the_reason() {
        for (publish, reason) in [
            ("\"plant/{x}\"]\ntopic = \"a/{x}\"", "must begin with `apps/` or `alarms/`"),
            ("\"apps/{x}\"]\ntopic = \"a/{y}\"", "has {y} in its topic, which the point doesn't have"),
            ("\"apps/{x}/{y}\"]\ntopic = \"a/{x}\"\npayload = \"value\"", "must have {y} in its topic"),
            ("\"alarms/{x}\"]\ntopic = \"a/{x}\"\npayload = \"value\"", "is for readings"),
            ("\"apps/{x}\"]\ntopic = \"a/{x}\"\npayload = \"xml\"", "there are value and json"),
            ("\"apps/{x}\"]\ntopic = \"in/{x}\"", "they would come back"),
            ("\"apps/{x}\"]\n", "topic"),
        ] {
            let more = format!(
                "[connectors.c.topics.\"in/{{n}}\"]\npoint = \"in/{{n}}\"\n[connectors.c.publish.{publish}\n"
            );
            let error = read_with(&more).unwrap_err();
            assert!(error.contains(reason), "{publish}: {error}");
        }
    }
}
