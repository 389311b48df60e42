//! Connectors: how they are, what they have set aside, and what they see.

use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

use super::JsonValue;
pub(crate) use crate::connectors::{
    BrokerStatus, ConnectorStatus, ConnectorTable, Fate, Origin, Seen, SeenReading,
};
use ironloom_types::clock::Timestamp;

/// A message that gave no reading. It was acknowledged.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, ToSchema)]
pub(crate) struct ConnectorDeadLetter {
    /// Counts the connector's dead letters since the start of the server, from 1.
    pub number: u64,
    /// The time at which it was set aside.
    pub time: Timestamp,
    /// Its first 256 characters.
    pub topic: String,
    /// Its first 1,024 bytes: a text, or `{"base64":"…"}`.
    pub payload: JsonValue,
    /// The length of the whole payload.
    pub bytes: u64,
    pub reason: String,
}
