//! Takes readings from the API.

use std::sync::Arc;
use std::sync::atomic::Ordering;

use super::{Node, problems, stopping};
use crate::api::facade::{Answer, IngestRules, Later, Problem, Push, Pushed, RETRY_SOON, RequestKey};
use crate::fold::submission::{Accepted, LookSubmission, ReadingsSubmission, Refusal, Submission};
use crate::records::readings::{Idempotency, ReadingsHead};
use ironloom_storage::log::Room;
use ironloom_types::clock::{Clock, Source, Timestamp};
use ironloom_types::limits::MAX_POINTS;
use ironloom_types::readings::NewPoint;

impl Node {
    /// Returns the rules that readings are checked against now.
    pub(super) fn rules(&self) -> IngestRules {
        let new_points = MAX_POINTS.saturating_sub(self.shared.points.names().count());
        IngestRules { now: time_for_readings(&self.shared.clock), latest: self.latest(), new_points }
    }

    /// The latest `at` that is trusted. Under the feed's clock `at` itself is what moves time, and a clock
    /// that is wrong can't tell what the future is.
    pub(super) fn latest(&self) -> Timestamp {
        let clock = &self.shared.clock;
        match (clock.source(), clock.host()) {
            (Source::Host, Ok(now)) => now.plus(self.config.max_future.0),
            (Source::Host, Err(_)) | (Source::Feed, _) => Timestamp(i64::MAX as u64),
        }
    }

    /// New points with the units that the configuration gives them, where their source names none.
    pub(super) fn with_units(&self, mut points: Vec<NewPoint>) -> Vec<NewPoint> {
        for point in &mut points {
            if point.unit.is_none() {
                point.unit =
                    super::units::unit_of(&self.config.points, &point.path).map(std::sync::Arc::clone);
            }
        }
        points
    }

    /// Whether there is room for readings now.
    pub(super) fn has_room(&self) -> Answer<()> {
        if self.stopping.load(Ordering::Acquire) {
            return Err(stopping());
        }
        self.check_space()?;
        if self.committer.room() != Room::All {
            let detail = "the log is full until a checkpoint has written it to the store";
            return Err(Problem::unavailable("log-full", detail, RETRY_SOON));
        }
        Ok(())
    }

    /// Hands readings over, whole or not at all.
    pub(super) fn submit(self: &Arc<Self>, push: Push) -> Answer<Later<'static, Pushed>> {
        self.has_room()?;
        let Push { columns, new_points, key, stream } = push;
        if columns.is_empty() {
            let nothing = Pushed { accepted: 0, through: self.shared.journal.last(), duplicate: false };
            return Ok(Box::pin(std::future::ready(Ok(nothing))));
        }
        let new_points = self.with_units(new_points);
        let receipt = stream.map(|stream| self.stream_receipt(&stream));
        let head = ReadingsHead { receipt, idempotency: key.map(idempotency) };
        let (reply, durable) = tokio::sync::oneshot::channel();
        let item = Submission::Readings(ReadingsSubmission { head, new_points, columns, reply });
        let bound = item.max_len();
        if let Err(refused) = self.committer.submit(item, bound) {
            let max = self.committer.max_body();
            return Err(problems::refused(
                &Refusal::TooLarge { bytes: bound, max }.or_stopped(&refused.error),
            ));
        }
        let node = Arc::clone(self);
        Ok(Box::pin(async move {
            match durable.await {
                Ok(Ok(taken)) => Ok(node.pushed(taken)),
                Ok(Err(refusal)) => Err(problems::refused(&refusal)),
                Err(_) => Err(problems::refused(&Refusal::UnknownOutcome)),
            }
        }))
    }

    /// Says what became of a push with this key, whatever would be said of it now. Nothing is written, so the log
    /// may be full.
    pub(super) async fn find_push(&self, key: RequestKey) -> Answer<Option<Pushed>> {
        let (reply, found) = tokio::sync::oneshot::channel();
        let item = Submission::Look(LookSubmission { request: idempotency(key), reply });
        let unknown = || problems::refused(&Refusal::UnknownOutcome);
        self.committer.submit(item, 0).map_err(|_| unknown())?;
        match found.await {
            Ok(Ok(found)) => Ok(found.map(|taken| self.pushed(taken))),
            Ok(Err(refusal)) => Err(problems::refused(&refusal)),
            Err(_) => Err(unknown()),
        }
    }

    fn pushed(&self, taken: Accepted) -> Pushed {
        let metrics = &self.telemetry.metrics;
        let counter = if taken.duplicate { &metrics.duplicates } else { &metrics.pushes };
        counter.inc();
        Pushed { accepted: taken.accepted, through: taken.through, duplicate: taken.duplicate }
    }
}

fn idempotency(key: RequestKey) -> Idempotency {
    Idempotency { key: key.key, request: key.request }
}

/// What readings without an `at` get; `None` where no time is to be trusted.
fn time_for_readings(clock: &Clock) -> Option<Timestamp> {
    match clock.source() {
        // Its own time, not the journal's: that may stand in a future that never was.
        Source::Host => clock.host().ok(),
        // Before the feed has brought a time there is none.
        Source::Feed => Some(clock.now()).filter(|now| *now > Timestamp(0)),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_feeds_clock_has_no_time_before_the_first_reading() {
        let clock = Clock::new(Source::Feed, Timestamp(0));
        assert_eq!(time_for_readings(&clock), None);
        clock.advance(Timestamp(7));
        assert_eq!(time_for_readings(&clock), Some(Timestamp(7)));
    }
}
