//! A message becomes readings: the pattern that its topic matches, and the points and values of its payload.

use hashbrown::HashMap;

use super::config::{Mapping, MqttConfig};
use super::link::MAX_PACKET;
use super::payload::{Form, Taken};
use crate::connectors::making::sound_path;
use crate::connectors::passed::{Passed, Reason};
use ironloom_types::ids::PointPath;

/// Topics whose routes are remembered, and their bytes. Where there are more, all are forgotten and found anew.
const MOST_TOPICS: usize = 65_536;
const MOST_BYTES: usize = 8 << 20;

/// The way of a topic's values.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct Route {
    /// The place of its pattern among those of the configuration.
    mapping: usize,
    /// None where each field of a payload has a point of its own.
    point: Option<PointPath>,
}

/// The routes of topics that came: finding one again takes no memory.
#[derive(Debug, Default)]
pub(super) struct Routes {
    known: HashMap<Box<[u8]>, Route>,
    bytes: usize,
}

impl Routes {
    /// The route of a topic.
    ///
    /// # Errors
    /// A sentence about the topic.
    pub(super) fn find(&mut self, config: &MqttConfig, topic: &[u8]) -> Result<Route, Passed> {
        if let Some(route) = self.known.get(topic) {
            return Ok(route.clone());
        }
        let route = route(config, topic)?;
        if self.known.len() >= MOST_TOPICS || self.bytes + topic.len() > MOST_BYTES {
            self.known.clear();
            self.bytes = 0;
        }
        self.bytes += topic.len();
        self.known.insert(topic.into(), route.clone());
        Ok(route)
    }
}

fn route(config: &MqttConfig, topic: &[u8]) -> Result<Route, Passed> {
    let topic = std::str::from_utf8(topic).map_err(|_| Reason::NoPoint.of("the topic is not UTF-8"))?;
    let found = config.mappings.iter().position(|mapping| mapping.topic.matches(topic).is_some());
    let at = found.ok_or_else(|| Reason::NoPoint.of("no topic of the configuration is like it"))?;
    let mapping = &config.mappings[at];
    let is_one = mapping.rules.form != Form::Fields;
    let point = is_one.then(|| point(mapping, topic, None)).transpose()?;
    Ok(Route { mapping: at, point })
}

/// The point of a topic, or of a field.
fn point(mapping: &Mapping, topic: &str, field: Option<&str>) -> Result<PointPath, Passed> {
    let matched = mapping.topic.matches(topic);
    let mut path = String::new();
    let filled =
        mapping.point.fill(&mut path, |name| matched.and_then(|matched| matched.level(name)).or(field));
    filled.map_err(|problem| Reason::NoPoint.of(problem))?;
    sound_path(&path)
}

/// Gives each value of a message, with its point.
///
/// # Errors
/// A sentence about the message, or that of `give`. Then nothing of the message is to be taken.
pub(super) fn each_value(
    config: &MqttConfig,
    route: &Route,
    (topic, payload): (&[u8], &[u8]),
    mut give: impl FnMut(&Mapping, &PointPath, Taken) -> Result<(), Passed>,
) -> Result<(), Passed> {
    // A broker of 3.1.1 may send longer ones, whose JSON would take much more memory than they have bytes.
    if payload.len() > MAX_PACKET as usize {
        let bytes = payload.len();
        return Err(Reason::TooLong.of(format!("a payload of {bytes} bytes; at most {MAX_PACKET} are taken")));
    }
    let mapping = &config.mappings[route.mapping];
    if let Some(point) = &route.point {
        return give(mapping, point, mapping.rules.read_one(payload)?);
    }
    let topic = std::str::from_utf8(topic).map_err(|_| Reason::NoPoint.of("the topic is not UTF-8"))?;
    for (field, taken) in mapping.rules.read_fields(payload)? {
        give(mapping, &point(mapping, topic, Some(&field))?, taken)?;
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::connectors::mqtt::config::tests::read_with;

    fn config(topics: &str) -> MqttConfig {
        read_with(topics).unwrap()
    }

    fn seen(
        config: &MqttConfig,
        routes: &mut Routes,
        topic: &str,
        payload: &str,
    ) -> Result<Vec<String>, String> {
        passed(config, routes, topic, payload).map_err(|why| why.text)
    }

    fn passed(
        config: &MqttConfig,
        routes: &mut Routes,
        topic: &str,
        payload: &str,
    ) -> Result<Vec<String>, Passed> {
        let route = routes.find(config, topic.as_bytes())?;
        let mut all = Vec::new();
        let message = (topic.as_bytes(), payload.as_bytes());
        each_value(config, &route, message, |_, point, taken| {
            all.push(format!("{} {:?}", point.as_str(), taken.value));
            Ok(())
        })?;
        Ok(all)
    }

    #[test]
    fn a_topic_leads_to_the_same_points_again_and_again() {
        let config = config(
            "[connectors.c.topics.\"s/{a}\"]\npoint = \"one/{a}\"\n\
             [connectors.c.topics.\"s/x\"]\npoint = \"never\"\n\
             [connectors.c.topics.\"m/{a}\"]\npoint = \"many/{a}/{field}\"\npayload = \"fields\"\n",
        );
        let mut routes = Routes::default();
        for _ in 0..2 {
            assert_eq!(seen(&config, &mut routes, "s/x", "1").unwrap(), ["one/x Real(1.0)"]);
            let fields = seen(&config, &mut routes, "m/y", "{\"b\":2,\"c\":true}").unwrap();
            assert_eq!(fields, ["many/y/b Real(2.0)", "many/y/c Boolean(true)"]);
            assert!(seen(&config, &mut routes, "other", "1").unwrap_err().contains("no topic"));
            assert!(seen(&config, &mut routes, "s/", "1").unwrap_err().contains("a is empty"));
        }
        assert_eq!((routes.known.len(), routes.bytes), (2, 6));
        let long = " ".repeat(MAX_PACKET as usize) + "1";
        assert!(seen(&config, &mut routes, "s/x", &long).unwrap_err().contains("at most 1048576 are taken"));
    }

    #[test]
    fn topics_without_end_take_no_more_memory_than_there_is_for_them() {
        let config = config("[connectors.c.topics.\"s/{a}\"]\npoint = \"{a}\"\n");
        let mut routes = Routes::default();
        for number in 0..=MOST_TOPICS {
            routes.find(&config, format!("s/{number}").as_bytes()).unwrap();
        }
        assert_eq!((routes.known.len(), routes.bytes), (1, 7));
    }

    #[test]
    fn what_gives_no_reading_has_its_reason() {
        let config = config(
            "[connectors.c.topics.\"s/{a}\"]\npoint = \"one/{a}\"\n\
             [connectors.c.topics.\"r/{a}\"]\npoint = \"one/{a}\"\npayload = \"reading\"\n\
             [connectors.c.topics.\"t/{a}\"]\npoint = \"one/{a}\"\ntype = \"text\"\n\
             [connectors.c.topics.\"m/{a}\"]\npoint = \"{field}\"\npayload = \"fields\"\n",
        );
        let long = " ".repeat(MAX_PACKET as usize) + "1";
        let text = "x".repeat(70_000);
        for (topic, payload, reason) in [
            ("other", "1", Reason::NoPoint),
            ("s/", "1", Reason::NoPoint),
            ("m/x", "{\"apps/a\":1}", Reason::NoPoint),
            ("s/x", "hot", Reason::Unreadable),
            ("r/x", "1", Reason::Unreadable),
            ("s/x", "[1]", Reason::Type),
            ("m/x", "{\"a\":[]}", Reason::Type),
            ("r/x", "{\"value\":1,\"at\":\"yesterday\"}", Reason::Time),
            ("s/x", &long, Reason::TooLong),
            ("t/x", &text, Reason::TooLong),
        ] {
            let passed = passed(&config, &mut Routes::default(), topic, payload).unwrap_err();
            assert_eq!(passed.reason, reason, "{topic}: {passed:?}");
        }
    }
}
