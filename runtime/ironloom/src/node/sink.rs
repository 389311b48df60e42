//! The node as connectors see it.

use std::sync::Arc;
use std::sync::atomic::Ordering;

use super::Node;
use super::ingest::NotTaken;
use crate::connectors::{KnownPoint, MAX_RECEIPT, Record, Sink, SinkError, Submitted, TENANT};
use crate::fold::points::LatestValue;
use crate::fold::submission::{Refusal, Submission};
use crate::records::readings::{ReadingsHead, Receipt};
use ironloom_types::clock::Timestamp;
use ironloom_types::ids::InstallationId;
use ironloom_types::readings::Value;

/// Hands what connectors bring to the committer.
pub(super) struct NodeSink(pub Arc<Node>);

impl Sink for NodeSink {
    fn submit(&self, connector: &str, record: Record) -> Result<Submitted, SinkError> {
        let node = &self.0;
        if node.stopping.load(Ordering::Acquire) {
            return Err(SinkError::Stopping);
        }
        if let Err(problem) = node.has_room(&record.new_points) {
            return Err(SinkError::Later(problem.detail.clone()));
        }
        if let Some(slowed) = node.slowed(TENANT)
            && (slowed.find)(&record.columns, &record.new_points, 0).is_some()
        {
            return Err(SinkError::Later(slowed.problem.detail.clone()));
        }
        if record.columns.is_empty() {
            return Ok(Box::pin(std::future::ready(Ok(()))));
        }
        assert!(record.receipt.len() <= MAX_RECEIPT, "each record of a connector carries its receipt");
        let receipt = Receipt::Connector { name: connector.into(), note: record.receipt };
        let head = ReadingsHead { receipt: Some(receipt), idempotency: None };
        if !record.units.is_empty() && !super::units::submit(&node.committer, record.units) {
            return Err(SinkError::Stopping);
        }
        let durable = node.hand_over(TENANT, head, record.new_points, record.columns).map_err(of_refusal)?;
        Ok(Box::pin(async move { durable.await.map(drop).map_err(of_not_taken) }))
    }

    fn tick(&self, at: Timestamp) {
        // If the committer has stopped, there is no clock to advance.
        let _ = self.0.committer.submit(Submission::Tick(at), 0);
    }

    fn receipt(&self, connector: &str) -> Option<Vec<u8>> {
        self.0.shared.receipts.read().get(connector).map(|note| note.to_vec())
    }

    fn point(&self, path: &str) -> Option<KnownPoint> {
        let names = self.0.shared.points.names();
        let number = names.find(TENANT, path)?;
        Some(KnownPoint { number, unit: names.point(number)?.unit.clone() })
    }

    fn has(&self, path: &str, value: &Value) -> bool {
        let points = &self.0.shared.points;
        let Some(number) = points.names().find(TENANT, path) else { return false };
        // One that isn't at hand counts as another.
        matches!(points.latest(number), Some((_, LatestValue::Known(latest))) if latest == *value)
    }

    fn now(&self) -> Option<Timestamp> {
        self.0.rules(TENANT).now
    }

    fn latest(&self) -> Timestamp {
        self.0.latest()
    }

    fn is_installed(&self, id: &InstallationId) -> bool {
        self.0.lanes.of(id).is_some()
    }
}

/// The reason why a record isn't taken, as a connector hears of it.
pub(super) fn of_not_taken(not_taken: NotTaken) -> SinkError {
    match not_taken {
        NotTaken::Refused(refusal) => of_refusal(refusal),
        // A connector waits for room, unless the server stops.
        NotTaken::NoRoom(_) => SinkError::Stopping,
    }
}

/// A refusal as a connector hears of it: where the log has stopped, the node stops.
pub(super) fn of_refusal(refusal: Refusal) -> SinkError {
    match refusal {
        Refusal::UnknownOutcome | Refusal::Stopped => SinkError::Stopping,
        refusal => SinkError::Refused(refusal.to_string()),
    }
}
