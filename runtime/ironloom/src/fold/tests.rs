//! The fold as a whole: random histories on a real folder and a real store, with restarts and
//! checkpoints that are cut off, against a plain model.

mod audit;
mod copies;
mod cut;
mod damage;
mod episodes;
mod heard;
mod history;
mod journal;
mod lanes;
mod letters;
pub(super) mod machine;
mod made;
mod model;
mod overlay;
mod past;
mod retention;
mod room;
mod sealer;
mod set_time;
mod stretches;
mod threads;
mod world;

use std::future::Future;
use std::sync::LazyLock;

use tokio::runtime::{Builder, Runtime};
use tokio::sync::oneshot;

use super::new_points::Place;
use super::submission::{Accepted, ReadingsSubmission, Refusal, Submission};
use crate::records::readings::ReadingsHead;
use ironloom_types::ids::TenantId;
use ironloom_types::readings::{Columns, NewPoint};

/// The value of a future, on a runtime that all tests share.
fn wait<T>(future: impl Future<Output = T>) -> T {
    static RUNTIME: LazyLock<Runtime> =
        LazyLock::new(|| Builder::new_multi_thread().worker_threads(1).enable_time().build().unwrap());
    RUNTIME.block_on(future)
}

/// Readings of the tenant `main` for the committer, and its answer.
fn readings_of(
    head: ReadingsHead,
    new_points: Vec<NewPoint>,
    columns: Columns,
    place: Option<Place>,
) -> (Submission, oneshot::Receiver<Result<Accepted, Refusal>>) {
    let (reply, answer) = oneshot::channel();
    let tenant = TenantId::MAIN;
    (Submission::Readings(ReadingsSubmission { tenant, head, new_points, columns, place, reply }), answer)
}

#[test]
fn a_week_ends_only_by_a_clock_that_is_right_and_a_process_that_has_run_for_a_while() {
    use super::stored::{KEPT, Removed};
    use ironloom_types::clock::{BUILT_AFTER, Timestamp};
    use std::time::Duration;

    const HOUR: Duration = Duration::from_secs(3600);
    let removed = |at| Removed { at, purge: false };
    let at = BUILT_AFTER.plus(1);
    let over = Some(at.plus(KEPT));
    assert!(removed(at).is_over(over, HOUR));
    assert!(!removed(at).is_over(Some(at.plus(KEPT - 1)), 1_000 * HOUR));
    assert!(!removed(at).is_over(over, HOUR / 2), "the clock may be about to be set right");
    assert!(!removed(at).is_over(None, 1_000 * HOUR), "the clock can't be right");
    // The clock stood in 1970 when it was removed.
    assert!(!removed(Timestamp(0)).is_over(over, 167 * HOUR));
    assert!(removed(Timestamp(0)).is_over(over, 168 * HOUR));
}
