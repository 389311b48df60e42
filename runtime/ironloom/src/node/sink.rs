//! The node as connectors see it.

use std::sync::Arc;
use std::sync::atomic::Ordering;

use super::Node;
use crate::connectors::{KnownPoint, MAX_RECEIPT, Record, Sink, SinkError, Submitted};
use crate::fold::submission::{ReadingsSubmission, Refusal, Submission};
use crate::records::readings::{ReadingsHead, Receipt};
use ironloom_storage::log::{LogError, Room};
use ironloom_types::clock::Timestamp;

/// Hands what connectors bring to the committer.
pub(super) struct NodeSink(pub Arc<Node>);

impl Sink for NodeSink {
    fn submit(&self, connector: &str, record: Record) -> Result<Submitted, SinkError> {
        let node = &self.0;
        if node.stopping.load(Ordering::Acquire) {
            return Err(SinkError::Stopping);
        }
        if node.committer.room() != Room::All {
            return Err(SinkError::Later(
                "the log is full until a checkpoint has written it to the store".into(),
            ));
        }
        if node.full.load(Ordering::Acquire) {
            return Err(SinkError::Later("the disk is nearly full (store.reserve)".into()));
        }
        if record.columns.is_empty() {
            return Ok(Box::pin(std::future::ready(Ok(()))));
        }
        assert!(record.receipt.len() <= MAX_RECEIPT, "each record of a connector carries its receipt");
        let receipt = Receipt { connector: connector.into(), note: record.receipt };
        let head = ReadingsHead { receipt: Some(receipt), idempotency: None };
        if !record.units.is_empty() && !super::units::submit(&node.committer, record.units) {
            return Err(SinkError::Stopping);
        }
        let new_points = node.with_units(record.new_points);
        let (reply, durable) = tokio::sync::oneshot::channel();
        let columns = record.columns;
        let item = Submission::Readings(ReadingsSubmission { head, new_points, columns, reply });
        let bound = item.max_len();
        if let Err(refused) = node.committer.submit(item, bound) {
            return Err(match refused.error {
                LogError::TooLarge { bytes, max } => {
                    SinkError::Refused(Refusal::TooLarge { bytes, max }.to_string())
                }
                _ => SinkError::Stopping,
            });
        }
        Ok(Box::pin(async move {
            match durable.await {
                Ok(Ok(_)) => Ok(()),
                Ok(Err(Refusal::UnknownOutcome)) | Err(_) => Err(SinkError::Stopping),
                Ok(Err(refusal)) => Err(SinkError::Refused(refusal.to_string())),
            }
        }))
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
        let number = names.number(path)?;
        Some(KnownPoint { number, unit: names.point(number)?.unit.clone() })
    }

    fn latest(&self) -> Timestamp {
        self.0.latest()
    }
}
