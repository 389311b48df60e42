//! Takes readings from the API.

use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::Ordering;

use tokio::sync::oneshot;

use super::{Node, problems, stopping};
use crate::api::facade::{
    Answer, IngestRules, Later, Problem, Push, Pushed, RETRY_SOON, RequestKey, StreamPlace,
};
use crate::fold::new_points::{self, Maker, Ready, Weighed};
use crate::fold::submission::{Accepted, LookSubmission, ReadingsSubmission, Refusal, Submission};
use crate::records::readings::{self, Idempotency, ReadingsHead, Receipt};
use ironloom_storage::log::{LogError, Reserved, Room};
use ironloom_types::clock::{Clock, Source, Timestamp};
use ironloom_types::ids::TenantId;
use ironloom_types::limits::MAX_POINTS;
use ironloom_types::readings::{Columns, NewPoint};

/// The bytes of records that wait for the places of their new points. From there on no further readings of new points are
/// taken.
const MOST_WAITING: u64 = if cfg!(test) { 64 << 10 } else { 128 << 20 };

/// The fate of readings that were handed over.
pub(super) type Taken = Pin<Box<dyn Future<Output = Result<Accepted, NotTaken>> + Send>>;

/// The reason why readings that were handed over are not taken.
#[derive(Debug)]
pub(super) enum NotTaken {
    Refused(Refusal),
    /// There is no room any more, by the time that their points have a place.
    NoRoom(Problem),
}

impl From<Refusal> for NotTaken {
    fn from(refusal: Refusal) -> Self {
        Self::Refused(refusal)
    }
}

impl NotTaken {
    pub(super) fn words(&self) -> String {
        match self {
            Self::Refused(refusal) => refusal.to_string(),
            Self::NoRoom(problem) => problem.detail.clone(),
        }
    }

    fn into_problem(self) -> Problem {
        match self {
            Self::Refused(refusal) => problems::refused(&refusal),
            Self::NoRoom(problem) => problem,
        }
    }
}

impl Node {
    /// Returns the rules that readings are checked against now.
    pub(super) fn rules(&self, tenant: TenantId) -> IngestRules {
        let left = MAX_POINTS.saturating_sub(self.shared.points.names().count());
        let new_points = left.min(self.points_left(tenant));
        IngestRules { tenant, now: time_for_readings(&self.shared.clock), latest: self.latest(), new_points }
    }

    /// The latest `at` that is trusted. Under the feed's clock `at` itself is what moves time, and a clock
    /// that is wrong can't tell what the future is.
    pub(super) fn latest(&self) -> Timestamp {
        let clock = &self.shared.clock;
        match (clock.source(), clock.host()) {
            (Source::Host, Ok(now)) => now.plus(self.config.load().max_future.0),
            (Source::Host, Err(_)) | (Source::Feed, _) => Timestamp(i64::MAX as u64),
        }
    }

    /// New points with the units that the configuration gives them, where their source names none.
    fn with_units(&self, mut points: Vec<NewPoint>) -> Vec<NewPoint> {
        let config = self.config.load();
        for point in &mut points {
            if point.unit.is_none() {
                point.unit = super::units::unit_of(&config.points, &point.path).map(Arc::clone);
            }
        }
        points
    }

    /// Looks if there is room now for readings that make these points.
    pub(super) fn has_room(&self, new_points: &[NewPoint]) -> Answer<()> {
        self.has_room_beside(self.committer.room())?;
        if !new_points.is_empty() && self.committer.reserved() >= MOST_WAITING {
            let detail =
                "other readings of new points hold all the memory for those that wait for their turn";
            return Err(Problem::unavailable("busy", detail, RETRY_SOON));
        }
        Ok(())
    }

    fn has_room_beside(&self, log: Room) -> Answer<()> {
        if self.stopping.load(Ordering::Acquire) {
            return Err(stopping());
        }
        self.check_space()?;
        if log != Room::All {
            let detail = "the log is full until a checkpoint has written it to the store";
            return Err(Problem::unavailable("log-full", detail, RETRY_SOON));
        }
        Ok(())
    }

    /// Hands readings over, whole or not at all.
    pub(super) fn submit(self: &Arc<Self>, push: Push) -> Answer<Later<'static, Pushed>> {
        let Push { tenant, columns, new_points, key, stream } = push;
        // How far a stream has come is durable, too, before anybody is told.
        if columns.is_empty() && stream.is_none() {
            let nothing =
                Pushed { accepted: 0, through: self.shared.journal.of(tenant).last(), duplicate: false };
            return Ok(Box::pin(std::future::ready(Ok(nothing))));
        }
        let receipt = stream.map(|StreamPlace { key, progress }| Receipt::Stream { key, progress });
        let head = ReadingsHead { receipt, idempotency: key.map(idempotency) };
        let taken = self
            .hand_over(tenant, head, new_points, columns)
            .map_err(|refusal| problems::refused(&refusal))?;
        let node = Arc::clone(self);
        Ok(Box::pin(async move {
            let taken = taken.await.map_err(NotTaken::into_problem)?;
            Ok(node.pushed(taken))
        }))
    }

    /// Gives readings to the committer, at once if none of their points is new; what it returns is ready once they are
    /// durable. New points may have to wait for their place, and may be refused: whoever has some gives nothing else
    /// before that is known.
    pub(super) fn hand_over(
        self: &Arc<Self>,
        tenant: TenantId,
        head: ReadingsHead,
        new_points: Vec<NewPoint>,
        columns: Columns,
    ) -> Result<Taken, Refusal> {
        if new_points.is_empty() {
            let durable = self.submit_to_log(tenant, head, Ready { new_points, columns, place: None })?;
            return Ok(Box::pin(async { Ok(durable.await.unwrap_or(Err(Refusal::UnknownOutcome))?) }));
        }
        let new_points = self.with_units(new_points);
        // It counts from here on. What can't be taken anyway is refused before its points are made.
        let bound = readings::max_len(&head, &new_points, &columns);
        let reserved = self.committer.reserve(bound).map_err(|error| self.too_large(bound, &error))?;
        let node = Arc::clone(self);
        Ok(Box::pin(async move {
            if let Some(request) = head.idempotency
                && let Some(before) = node.look(request).await?
            {
                return Ok(before);
            }
            // The record before it may be a connector's last one. It has few bytes on their way, and waits.
            let is_patient = matches!(head.receipt, Some(Receipt::Connector { .. }));
            let may_go_on = || node.may_go_on(&reserved, is_patient);
            let new_points = match &head.receipt {
                Some(Receipt::Connector { name, .. }) => node.check_mapped(name, new_points).await?,
                _ => new_points,
            };
            let weighed = Weighed::of(&node.shared, new_points).await?;
            let made =
                new_points::make(&node.shared, &node.committer, weighed, columns, Maker::Source, may_go_on);
            let ready = made.await?;
            may_go_on()?;
            let durable = node.submit_to_log(tenant, head, ready)?;
            drop(reserved);
            Ok(durable.await.unwrap_or(Err(Refusal::UnknownOutcome))?)
        }))
    }

    /// Looks if readings that have waited may still be written, or a part of their points. What others have reserved comes
    /// after them.
    fn may_go_on(&self, reserved: &Reserved, is_patient: bool) -> Result<(), NotTaken> {
        if is_patient && !self.stopping.load(Ordering::Acquire) {
            return Ok(());
        }
        self.has_room_beside(reserved.room()).map_err(NotTaken::NoRoom)
    }

    fn too_large(&self, bytes: usize, error: &LogError) -> Refusal {
        Refusal::TooLarge { bytes, max: self.committer.max_body() }.or_stopped(error)
    }

    fn submit_to_log(
        &self,
        tenant: TenantId,
        head: ReadingsHead,
        ready: Ready,
    ) -> Result<oneshot::Receiver<Result<Accepted, Refusal>>, Refusal> {
        let Ready { mut new_points, mut columns, place } = ready;
        let _held = self.shared.retired.renew(&self.shared.points, &mut columns, &mut new_points);
        let (reply, durable) = oneshot::channel();
        let item =
            Submission::Readings(ReadingsSubmission { tenant, head, new_points, columns, place, reply });
        let bound = item.max_len();
        self.committer.submit(item, bound).map_err(|refused| self.too_large(bound, &refused.error))?;
        Ok(durable)
    }

    /// Says what became of a push with this key, whatever would be said of it now. Nothing is written, so the log
    /// may be full.
    pub(super) async fn find_push(&self, key: RequestKey) -> Answer<Option<Pushed>> {
        let found = self.look(idempotency(key)).await.map_err(|refusal| problems::refused(&refusal))?;
        Ok(found.map(|taken| self.pushed(taken)))
    }

    /// The answer to a request that was taken before.
    async fn look(&self, request: Idempotency) -> Result<Option<Accepted>, Refusal> {
        let (reply, found) = oneshot::channel();
        let item = Submission::Look(LookSubmission { request: Some(request), reply });
        self.committer.submit(item, 0).map_err(|_| Refusal::Stopped)?;
        found.await.unwrap_or(Err(Refusal::UnknownOutcome))
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
mod tests;
