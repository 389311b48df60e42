//! Connectors to one broker that would take messages or machines from each other.

use super::config::MqttConfig;
use super::link::Use;

impl MqttConfig {
    /// The ids of its connections.
    fn client_ids(&self) -> Vec<String> {
        let uses = [
            (Use::Readings, !self.mappings.is_empty()),
            (Use::SetPoints, !self.set_points.is_empty()),
            (Use::Publish, !self.publish.is_empty()),
        ];
        uses.into_iter().filter(|(_, has)| *has).map(|(used, _)| used.client_id(self)).collect()
    }

    /// Says what is wrong with two parts of it.
    pub(in crate::connectors) fn own_conflict(&self) -> Option<String> {
        let pairs = self.set_points.iter().enumerate();
        let mut pairs =
            pairs.flat_map(|(at, one)| self.set_points[..at].iter().map(move |other| (one, other)));
        if pairs.any(|(one, other)| one.topic().meets(other.topic())) {
            return Some(
                "two of its set_points have some of the same topics: machines would get each other's".into(),
            );
        }
        if self.mappings.iter().any(|one| self.commands(&one.topic)) {
            return Some(
                "it takes readings from topics of its set-points: each would come back as one".into(),
            );
        }
        let published = self.publish.iter().any(|one| self.commands(one.topic()));
        published
            .then(|| "it publishes to topics of its set-points: machines would take that for some".into())
    }

    /// Says what keeps another connector from being there beside this one; behind the name of this one.
    pub(in crate::connectors) fn conflict(&self, other: &Self) -> Option<String> {
        let points = self
            .set_points
            .iter()
            .any(|one| other.set_points.iter().any(|two| one.point().meets(two.point())));
        if points {
            return Some(
                "has set_points for some of the same points: only one of them would get each".into(),
            );
        }
        if self.broker != other.broker {
            return None;
        }
        let taken = self.client_ids();
        if let Some(id) = other.client_ids().iter().find(|id| taken.contains(id)) {
            return Some(format!(
                "has the client id {id:?} at the same broker: they would take the connection from each other; give this one \
                 another `client_id`"
            ));
        }
        if other.set_points.iter().any(|one| self.commands(one.topic())) {
            return Some(
                "sends set-points to some of the same topics: machines would get each other's".into(),
            );
        }
        let published = self.publish.iter().any(|one| other.commands(one.topic()))
            || other.publish.iter().any(|one| self.commands(one.topic()));
        published
            .then(|| "is at the same broker, and what one publishes would be a set-point of the other".into())
    }

    fn commands(&self, topic: &super::topics::TopicPattern) -> bool {
        self.set_points.iter().any(|one| one.topic().meets(topic))
    }
}
