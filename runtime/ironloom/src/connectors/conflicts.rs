//! Connectors that would be in each other's way.

use std::collections::BTreeMap;

use super::{ConnectorConfig, mqtt};

/// Looks for connectors that take messages or machines from each other. Gives the name of the later one, and a sentence that
/// begins with it.
pub(crate) fn conflicts(all: &BTreeMap<String, ConnectorConfig>) -> Vec<(String, String)> {
    let brokers: Vec<(&String, &mqtt::MqttConfig)> = all
        .iter()
        .filter_map(|(name, config)| match config {
            ConnectorConfig::Mqtt(config) => Some((name, &**config)),
            ConnectorConfig::Csv(_) => None,
        })
        .collect();
    let mut found = Vec::new();
    for (index, (name, config)) in brokers.iter().enumerate() {
        let own = config.own_conflict();
        let others = brokers[..index].iter().filter_map(|(other, before)| {
            before.conflict(config).map(|words| format!("connector {other} {words}"))
        });
        let all = own.into_iter().chain(others);
        found.extend(all.map(|words| ((*name).clone(), format!("connectors.{name}: {words}"))));
    }
    found
}

#[cfg(test)]
mod tests {
    use crate::config::Config;

    fn errors(text: &str) -> String {
        Config::read(text).err().map_or_else(String::new, |error| error.to_string())
    }

    fn connector(name: &str, port: u16, id: &str, more: &str) -> String {
        let of_it = more.replace("[.", &format!("[connectors.{name}."));
        format!(
            "[connectors.{name}]\nkind = \"mqtt\"\nbroker = \"mqtt://plant:{port}\"\nclient_id = \"{id}\"\n{of_it}\n"
        )
    }

    const TOPICS: &str = "[.topics.\"a/{x}\"]\npoint = \"a/{x}\"";
    const LIMITS: &str = "[.set_points.\"plant/{s}/limit\"]\ntopic = \"stations/{s}/limit\"";

    #[test]
    fn two_clients_of_one_id_would_take_the_connection_from_each_other() {
        let two = |port, id| connector("a", 1883, "one", TOPICS) + &connector("b", port, id, TOPICS);
        assert!(errors(&two(1883, "one")).contains("connectors.b: connector a has the client id \"one\""));
        assert_eq!(errors(&two(1884, "one")), "", "another broker");
        assert_eq!(errors(&two(1883, "two")), "");
        // Each connection has an id of its own.
        let other = connector("a", 1883, "one", LIMITS) + &connector("b", 1883, "one-set-points", TOPICS);
        assert!(errors(&other).contains("has the client id \"one-set-points\""), "{}", errors(&other));
        assert_eq!(errors(&(connector("a", 1883, "one", LIMITS) + &connector("b", 1883, "one", TOPICS))), "");
    }

    #[test]
    fn a_point_has_one_connector_and_a_machine_one_point() {
        let other = "[.set_points.\"plant/7/{what}\"]\ntopic = \"other/{what}\"";
        let two = connector("a", 1883, "one", LIMITS) + &connector("b", 1884, "two", other);
        assert!(
            errors(&two).contains("connectors.b: connector a has set_points for some of the same points")
        );
        let same = "[.set_points.\"hall/{s}/limit\"]\ntopic = \"stations/{s}/limit\"";
        let two = connector("a", 1883, "one", LIMITS) + &connector("b", 1883, "two", same);
        assert!(errors(&two).contains("sends set-points to some of the same topics"), "{}", errors(&two));
        assert_eq!(errors(&(connector("a", 1883, "one", LIMITS) + &connector("b", 1884, "two", same))), "");
        let one = connector("a", 1883, "one", &format!("{LIMITS}\n{same}"));
        assert!(errors(&one).contains("connectors.a: two of its set_points have some of the same topics"));
        let taken = "[.topics.\"stations/{s}/{signal}\"]\npoint = \"s/{s}/{signal}\"";
        let one = connector("a", 1883, "one", &format!("{LIMITS}\n{taken}"));
        assert!(errors(&one).contains("it takes readings from topics of its set-points"), "{}", errors(&one));
        let published = "[.publish.\"apps/{s}/limit\"]\ntopic = \"stations/{s}/limit\"";
        let one = connector("a", 1883, "one", &format!("{LIMITS}\n{published}"));
        assert!(errors(&one).contains("publishes to topics of its set-points"), "{}", errors(&one));
        let two = connector("a", 1883, "one", LIMITS) + &connector("b", 1883, "two", published);
        assert!(
            errors(&two).contains("what one publishes would be a set-point of the other"),
            "{}",
            errors(&two)
        );
    }
}
