//! New points on their way to the fold. It matches each with the inputs of all installations, and everybody waits
//! meanwhile. So only so many matches are on their way at a time, and points with more of them are made before the
//! record that needs them, by records of their own, one after the other: what others write goes in between.
//!
//! Such a record has no readings. Where nothing follows it, by a crash or a refusal, the points are there without one.

use std::ops::Range;
use std::pin::pin;
use std::sync::Arc;
use std::time::Duration;

use tokio::sync::{OwnedSemaphorePermit, Semaphore, oneshot, watch};

use super::Shared;
use super::submission::{ReadingsSubmission, Refusal, Submission};
use crate::aside::{aside, aside_if};
use crate::records::readings::{ReadingsHead, Receipt};
use ironloom_apps::routing::RoutingTable;
use ironloom_storage::log::CommitterHandle;
use ironloom_types::ids::{Generation, PointNumber, TenantId};
use ironloom_types::limits::{MAX_POINTS, SOURCE_POINTS};
use ironloom_types::readings::{Columns, NewPoint};

/// The matches that are on their way at a time, together with what their points cost: about 20 ms of the
/// fold's thread.
pub(super) const AT_ONCE: u32 = if cfg!(test) { 100 } else { 25_000 };
/// The cost of a point without matches, in matches.
pub(super) const POINT: u32 = 2;
/// The time after which the maker of points that wait is asked again if it still may make them.
const ASK_AGAIN: Duration = Duration::from_millis(250);
/// Points that are looked at under one hold of the routing table, or of their names: the fold waits for it.
const LOOKS_AT_ONCE: usize = 1_000;
/// The most points at which outputs of apps may make another one.
pub(super) const OUTPUT_POINTS: usize = MAX_POINTS - SOURCE_POINTS;

/// The place of new points: they are on their way, and give it back once they are made.
#[derive(Debug)]
pub(crate) struct Place(
    #[expect(dead_code, reason = "it is given back where it is dropped")] OwnedSemaphorePermit,
);

/// The places of all that are on their way.
pub(super) struct Places {
    left: Arc<Semaphore>,
    is_closed: watch::Sender<bool>,
}

impl Default for Places {
    fn default() -> Self {
        let is_closed = watch::Sender::new(false);
        Self { left: Arc::new(Semaphore::new(AT_ONCE as usize)), is_closed }
    }
}

impl Places {
    /// Waits until there is a place for so much; those who came before go before.
    async fn take(&self, weight: u32) -> Result<Place, Refusal> {
        let mut is_closed = self.is_closed.subscribe();
        tokio::select! {
            biased;
            permit = Arc::clone(&self.left).acquire_many_owned(weight.min(AT_ONCE)) => {
                permit.map(Place).map_err(|_| Refusal::Stopped)
            }
            _ = is_closed.wait_for(|is_closed| *is_closed) => Err(Refusal::Stopped),
        }
    }

    /// The server stops: nobody waits any more. Whoever finds a place has it, so that a last invocation ends.
    pub(super) fn close(&self) {
        self.is_closed.send_replace(true);
    }
}

/// Waits for a place. Whoever makes the points is asked before, while it waits and after it if it still may.
async fn take<E: From<Refusal>>(
    places: &Places,
    weight: u32,
    may_go_on: &impl Fn() -> Result<(), E>,
) -> Result<Place, E> {
    let mut taken = pin!(places.take(weight));
    loop {
        may_go_on()?;
        if let Ok(place) = tokio::time::timeout(ASK_AGAIN, &mut taken).await {
            may_go_on()?;
            return Ok(place?);
        }
    }
}

/// The maker of points.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Maker {
    Source,
    /// The outputs of an installation, which have made so many before.
    Outputs {
        generation: Generation,
        before: u64,
    },
}

impl Maker {
    fn limit(self) -> usize {
        match self {
            Self::Source => MAX_POINTS,
            Self::Outputs { .. } => OUTPUT_POINTS,
        }
    }

    /// The receipt of the record that makes its first so many points.
    fn receipt(self, made: usize) -> Option<Receipt> {
        match self {
            Self::Source => None,
            Self::Outputs { generation, before } => {
                Some(Receipt::Outputs { generation, points: before + made as u64 })
            }
        }
    }
}

/// New points, with what each makes the fold do.
#[derive(Debug, Default)]
pub(crate) struct Weighed {
    points: Vec<NewPoint>,
    /// Of each point its matches, and [`POINT`].
    weights: Vec<u32>,
}

impl Weighed {
    /// Looks how many matches each point gets.
    pub(crate) async fn of(shared: &Arc<Shared>, points: Vec<NewPoint>) -> Result<Self, Refusal> {
        if points.len() <= LOOKS_AT_ONCE
            && let Some(routing) = shared.routing.try_read()
        {
            let weights = weights(&routing, &points).collect();
            return Ok(Self { points, weights });
        }
        // The fold may hold the table for as long as it takes to make a part.
        let shared = Arc::clone(shared);
        let weighed = aside(move || {
            let mut found = Vec::with_capacity(points.len());
            for part in points.chunks(LOOKS_AT_ONCE) {
                found.extend(weights(&shared.routing.read(), part));
            }
            Self { points, weights: found }
        });
        weighed.await.map_err(|_| Refusal::Broken)
    }

    /// Returns the number of matches that they get together.
    pub(crate) fn matches(&self) -> usize {
        self.weights.iter().map(|weight| (weight - POINT) as usize).sum()
    }
}

fn weights(routing: &RoutingTable, points: &[NewPoint]) -> impl Iterator<Item = u32> {
    points.iter().map(|point| POINT.saturating_add(routing.about(&point.path) as u32))
}

/// The number of the first points that may be on their way together, at least one, and their weight.
fn part(weights: &[u32]) -> (usize, u32) {
    let (mut count, mut sum) = (0, 0_u32);
    for weight in weights {
        let more = sum.saturating_add(*weight);
        if count > 0 && more > AT_ONCE {
            break;
        }
        (count, sum) = (count + 1, more);
    }
    (count, sum)
}

/// Points and readings of a record that may be submitted now.
#[derive(Debug)]
pub(crate) struct Ready {
    /// Those that the record itself makes.
    pub new_points: Vec<NewPoint>,
    pub columns: Columns,
    pub place: Option<Place>,
}

/// Waits until a record may be submitted that makes these points. Where they are too many for one, all are made by
/// records before it. `may_go_on` is asked before each part, and while it waits.
pub(crate) async fn make<E: From<Refusal>>(
    shared: &Arc<Shared>,
    committer: &CommitterHandle<Submission>,
    weighed: Weighed,
    columns: Columns,
    maker: Maker,
    may_go_on: impl Fn() -> Result<(), E>,
) -> Result<Ready, E> {
    let Weighed { points, weights } = weighed;
    if points.is_empty() {
        return Ok(Ready { new_points: points, columns, place: None });
    }
    if let (count, weight) = part(&weights)
        && count == points.len()
    {
        let place = take(&shared.point_places, weight, &may_go_on).await?;
        return Ok(Ready { new_points: points, columns, place: Some(place) });
    }
    let points = Arc::new(points);
    // Else some of them would be made for nothing.
    let left = maker.limit().saturating_sub(shared.points.names().count());
    if let Some(beyond) = unknown(shared, &points, 0..points.len()).await?.get(left) {
        let (path, limit) = (points[*beyond].path.to_string(), maker.limit());
        return Err(Refusal::TooManyPoints { path, limit }.into());
    }
    let mut made = 0;
    while made < points.len() {
        let (count, _) = part(&weights[made..]);
        let of_part = made..made + count;
        made += count;
        // What others have made by now, or make while this waits, is left out.
        let missing = unknown(shared, &points, of_part.clone()).await?;
        if missing.is_empty() {
            continue;
        }
        let weight = missing.iter().fold(0_u32, |sum, index| sum.saturating_add(weights[*index]));
        let place = take(&shared.point_places, weight, &may_go_on).await?;
        let missing = unknown(shared, &points, of_part).await?;
        if missing.is_empty() {
            continue;
        }
        let new_points = missing.into_iter().map(|index| points[index].clone()).collect();
        let head = ReadingsHead { receipt: maker.receipt(made), idempotency: None };
        submit(committer, head, new_points, place).await?;
    }
    Ok(with_numbers(shared, points, columns).await?)
}

/// The indices of points that aren't made.
async fn unknown(
    shared: &Arc<Shared>,
    points: &Arc<Vec<NewPoint>>,
    range: Range<usize>,
) -> Result<Vec<usize>, Refusal> {
    let (shared, points) = (Arc::clone(shared), Arc::clone(points));
    let looked = aside_if(range.len() > LOOKS_AT_ONCE, move || {
        let (mut left, mut found) = (range, Vec::new());
        while !left.is_empty() {
            let names = shared.points.names();
            let some = left.by_ref().take(LOOKS_AT_ONCE);
            found.extend(some.filter(|index| names.number(&points[*index].path).is_none()));
        }
        found
    });
    looked.await.map_err(|_| Refusal::Broken)
}

/// Makes points, and waits until they are made.
async fn submit(
    committer: &CommitterHandle<Submission>,
    head: ReadingsHead,
    new_points: Vec<NewPoint>,
    place: Place,
) -> Result<(), Refusal> {
    let (reply, made) = oneshot::channel();
    let tenant = new_points.first().map_or(TenantId::NOBODY, |point| point.path.tenant());
    let (columns, place) = (Columns::default(), Some(place));
    let item = Submission::Readings(ReadingsSubmission { tenant, head, new_points, columns, place, reply });
    let bound = item.max_len();
    committer.submit(item, bound).map_err(|refused| {
        Refusal::TooLarge { bytes: bound, max: committer.max_body() }.or_stopped(&refused.error)
    })?;
    made.await.unwrap_or(Err(Refusal::UnknownOutcome)).map(|_| ())
}

/// Puts the numbers of points that were made into the columns.
async fn with_numbers(
    shared: &Arc<Shared>,
    points: Arc<Vec<NewPoint>>,
    mut columns: Columns,
) -> Result<Ready, Refusal> {
    let shared = Arc::clone(shared);
    let ready = aside_if(points.len() > LOOKS_AT_ONCE, move || {
        let (mut numbers, mut new_points) = (Vec::with_capacity(points.len()), Vec::new());
        for part in points.chunks(LOOKS_AT_ONCE) {
            let names = shared.points.names();
            numbers.extend(part.iter().map(|point| {
                names.number(&point.path).unwrap_or_else(|| {
                    // Purged since.
                    new_points.push(point.clone());
                    PointNumber::pending(new_points.len() - 1)
                })
            }));
        }
        for point in &mut columns.points {
            if let Some(index) = point.pending_index() {
                *point = numbers[index];
            }
        }
        Ready { new_points, columns, place: None }
    });
    ready.await.map_err(|_| Refusal::Broken)
}

#[cfg(test)]
mod tests;
