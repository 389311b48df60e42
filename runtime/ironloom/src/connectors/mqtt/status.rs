//! The status of a connection to a broker, for people and for metrics.

use serde::{Deserialize, Serialize};
use tokio::time::Instant;
use utoipa::ToSchema;

use ironloom_types::clock::{Timestamp, host_time};
use ironloom_types::text::shorten;

/// Filters that are named where the broker refuses them.
const MOST_REFUSED: usize = 100;
/// Characters of a text of the broker's that are kept.
const TEXT: usize = 256;

/// The status of a connection to a broker. Numbers count since the connector was started, by the server's start or by a
/// reload that changed it.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, ToSchema)]
pub(crate) struct BrokerStatus {
    /// The version of the protocol that is spoken, or was last: `5` or `3.1.1`. null before the first connection.
    pub version: Option<String>,
    /// null while there is no connection.
    pub connected_since: Option<Timestamp>,
    /// True where the broker had kept the session when the last connection was made.
    pub session_present: Option<bool>,
    /// The broker's own words and limits, as of the last connection.
    pub reported: Reported,
    /// Subscriptions that the broker refuses, or grants without what they need; the first 100.
    pub refused: Vec<RefusedFilter>,
    /// Connections after the first one.
    pub reconnects: u64,
    pub messages_received: u64,
    /// Acknowledgements that were sent. Messages of quality of service 0 get none.
    pub messages_acknowledged: u64,
    /// Messages that came again although they are in the log, or on their way there: they are acknowledged and brought
    /// no reading.
    pub duplicates: u64,
    /// Messages that came and aren't acknowledged yet; of quality of service 0, that aren't durable yet.
    pub unacknowledged: u64,
    /// The time for which the oldest of them has waited; null where there is none.
    pub oldest_unacknowledged_seconds: Option<f64>,
    /// Retained messages that were passed over: by `retained`, or because the points have their values already.
    pub retained_passed_over: u64,
}

/// A broker's words and limits as it takes a connection: only those that it names. With 3.1.1 it names none.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(default)]
pub(crate) struct Reported {
    #[serde(skip_serializing_if = "Option::is_none")]
    pub reason: Option<String>,
    /// The client id that it has chosen.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub client_id: Option<String>,
    /// Seconds for which it keeps the session, where they are others than asked for.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub session_expiry_seconds: Option<u32>,
    /// Seconds of the longest pause between two packets, where they are others than asked for.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub keep_alive_seconds: Option<u16>,
    /// Messages that may be sent to it before the first of them is acknowledged.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub receive_maximum: Option<u16>,
    /// Bytes of the longest packet that it takes.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub maximum_packet_size: Option<u32>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub maximum_qos: Option<u8>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub topic_alias_maximum: Option<u16>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub retained_messages: Option<bool>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub wildcards: Option<bool>,
    /// Subscriptions may have numbers: where topics overlap, each message comes once by them.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub subscription_identifiers: Option<bool>,
    /// Another broker that it points to.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub other_broker: Option<String>,
}

impl Reported {
    /// Returns them as `name value`, for people.
    pub(crate) fn facts(&self) -> Vec<String> {
        let said = |is: Option<bool>| is.map(|is| if is { "yes" } else { "no" }.to_owned());
        let all = [
            ("reason", self.reason.clone()),
            ("client id", self.client_id.clone()),
            ("session expiry", self.session_expiry_seconds.map(|seconds| format!("{seconds} s"))),
            ("keep alive", self.keep_alive_seconds.map(|seconds| format!("{seconds} s"))),
            ("receive maximum", self.receive_maximum.map(|most| most.to_string())),
            ("maximum packet size", self.maximum_packet_size.map(|bytes| format!("{bytes} bytes"))),
            ("maximum quality of service", self.maximum_qos.map(|qos| qos.to_string())),
            ("topic aliases", self.topic_alias_maximum.map(|most| most.to_string())),
            ("retained messages", said(self.retained_messages)),
            ("wildcards", said(self.wildcards)),
            ("subscription identifiers", said(self.subscription_identifiers)),
            ("other broker", self.other_broker.clone()),
        ];
        all.into_iter().filter_map(|(name, value)| Some(format!("{name} {}", value?))).collect()
    }
}

/// A subscription that a broker refuses, or grants without what it needs.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub(crate) struct RefusedFilter {
    pub filter: String,
    pub reason: String,
}

/// A text of the broker's, shortened.
pub(super) fn text(text: Option<String>) -> Option<String> {
    text.map(|text| shorten(&text, TEXT).into_owned())
}

/// The state behind a [`BrokerStatus`].
#[derive(Debug, Default)]
pub(in crate::connectors) struct BrokerState {
    shown: BrokerStatus,
    connections: u64,
    oldest: Option<Instant>,
}

/// Messages since the last time that they were counted.
#[derive(Debug, Default)]
pub(super) struct Counts {
    pub received: u64,
    pub acknowledged: u64,
    pub duplicates: u64,
    pub passed_over: u64,
}

impl BrokerState {
    /// Returns the status in the API's form.
    pub(in crate::connectors) fn show(&self) -> BrokerStatus {
        let waited = self.oldest.map(|since| since.elapsed().as_secs_f64());
        BrokerStatus { oldest_unacknowledged_seconds: waited, ..self.shown.clone() }
    }

    pub(super) fn connected(&mut self, version: &str, session: bool, reported: Reported) {
        self.connections += 1;
        self.shown.reconnects = self.connections - 1;
        self.shown.version = Some(version.to_owned());
        self.shown.connected_since = Some(host_time());
        self.shown.session_present = Some(session);
        self.shown.reported = reported;
        self.shown.refused.clear();
    }

    pub(super) fn lost(&mut self) {
        self.shown.connected_since = None;
    }

    pub(super) fn refused(&mut self, filter: String, reason: String) {
        if self.shown.refused.len() < MOST_REFUSED {
            self.shown.refused.push(RefusedFilter { filter, reason });
        }
    }

    /// Adds what came since the last time; so many messages wait, the oldest of them since then.
    pub(super) fn count(&mut self, counts: &Counts, waiting: usize, oldest: Option<Instant>) {
        let shown = &mut self.shown;
        shown.messages_received += counts.received;
        shown.messages_acknowledged += counts.acknowledged;
        shown.duplicates += counts.duplicates;
        shown.retained_passed_over += counts.passed_over;
        shown.unacknowledged = waiting as u64;
        self.oldest = oldest;
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    #[tokio::test(start_paused = true)]
    async fn the_oldest_message_ages_while_it_waits() {
        let mut broker = BrokerState::default();
        assert_eq!(broker.show(), BrokerStatus::default());
        let counts = Counts { received: 3, acknowledged: 1, ..Counts::default() };
        broker.count(&counts, 2, Some(Instant::now()));
        tokio::time::advance(Duration::from_millis(1_500)).await;
        let shown = broker.show();
        assert_eq!((shown.messages_received, shown.messages_acknowledged, shown.unacknowledged), (3, 1, 2));
        assert_eq!(shown.oldest_unacknowledged_seconds, Some(1.5));
        broker.count(&Counts { acknowledged: 2, ..Counts::default() }, 0, None);
        assert_eq!((broker.show().messages_acknowledged, broker.show().unacknowledged), (3, 0));
        assert_eq!(broker.show().oldest_unacknowledged_seconds, None);
    }

    #[test]
    fn the_first_connection_is_no_reconnect_and_each_tells_anew_what_is_refused() {
        let mut broker = BrokerState::default();
        broker.connected("5", false, Reported { receive_maximum: Some(20), ..Reported::default() });
        broker.refused("a/+".to_owned(), "NotAuthorized".to_owned());
        assert_eq!((broker.show().reconnects, broker.show().refused.len()), (0, 1));
        assert_eq!(broker.show().reported.facts(), ["receive maximum 20"]);
        broker.lost();
        assert_eq!(broker.show().connected_since, None);
        broker.connected("3.1.1", true, Reported::default());
        let shown = broker.show();
        assert_eq!((shown.reconnects, shown.refused.len(), shown.session_present), (1, 0, Some(true)));
        assert_eq!(shown.version.as_deref(), Some("3.1.1"));
    }
}
