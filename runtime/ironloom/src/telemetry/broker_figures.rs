//! Figures of connectors to brokers.

use std::sync::atomic::AtomicU64;

use prometheus_client::metrics::family::Family;
use prometheus_client::metrics::gauge::Gauge;
use prometheus_client::registry::Registry;

use super::OfConnector;

/// Figures of each connector to a broker.
#[derive(Clone, Debug, Default)]
pub(crate) struct BrokerFigures {
    /// 1 while it is connected.
    pub connected: Family<OfConnector, Gauge>,
    pub reconnects: Family<OfConnector, Gauge>,
    pub received: Family<OfConnector, Gauge>,
    pub acknowledged: Family<OfConnector, Gauge>,
    /// Messages that came again.
    pub duplicates: Family<OfConnector, Gauge>,
    /// Messages that came and aren't acknowledged.
    pub unacknowledged: Family<OfConnector, Gauge>,
    /// The age of the oldest of them, in seconds.
    pub oldest: Family<OfConnector, Gauge<f64, AtomicU64>>,
    /// Retained messages that were passed over.
    pub passed_over: Family<OfConnector, Gauge>,
    /// Messages that it has published, that the broker has refused, and that were gone before.
    pub published: Family<OfConnector, Gauge>,
    pub publish_refused: Family<OfConnector, Gauge>,
    pub publish_missed: Family<OfConnector, Gauge>,
    /// Readings of the journal behind the place up to which it has published.
    pub publish_behind: Family<OfConnector, Gauge>,
}

impl BrokerFigures {
    fn all(&self) -> [(&'static str, &'static str, &Family<OfConnector, Gauge>); 11] {
        [
            ("connector_connected", "1 while a connector is connected to its broker", &self.connected),
            ("connector_reconnects", "Connections to the broker after the first one", &self.reconnects),
            ("connector_messages_received", "Messages of a broker that came", &self.received),
            (
                "connector_messages_acknowledged",
                "Messages of a broker that were acknowledged",
                &self.acknowledged,
            ),
            (
                "connector_duplicates",
                "Messages of a broker that came again, and were known",
                &self.duplicates,
            ),
            (
                "connector_unacknowledged",
                "Messages of a broker that wait for their acknowledgement",
                &self.unacknowledged,
            ),
            ("connector_retained_passed_over", "Retained messages that were passed over", &self.passed_over),
            ("connector_published", "Published messages that the broker has taken", &self.published),
            (
                "connector_publish_refused",
                "Published messages that the broker has refused",
                &self.publish_refused,
            ),
            (
                "connector_publish_missed",
                "Readings and changes of alarms that were gone before they could be published",
                &self.publish_missed,
            ),
            (
                "connector_publish_behind",
                "Readings of the journal that weren't looked at yet for publishing",
                &self.publish_behind,
            ),
        ]
    }

    pub(super) fn clear(&self) {
        self.all().into_iter().for_each(|(_, _, family)| family.clear());
        self.oldest.clear();
    }

    pub(super) fn register(&self, registry: &mut Registry) {
        for (name, help, family) in self.all() {
            registry.register(name, help, family.clone());
        }
        let help = "Time for which the oldest message of a broker has waited for its acknowledgement";
        registry.register("connector_oldest_unacknowledged_seconds", help, self.oldest.clone());
    }
}
