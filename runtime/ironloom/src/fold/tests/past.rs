//! Revisions under which nothing runs any more.

use super::model::Lane;
use crate::fold::Shared;
use crate::fold::durable::Durable;
use ironloom_types::ids::{Generation, Revision};

/// Each revision is there, whether something runs under it or not.
pub(super) fn check(shared: &Shared, lane: &Durable, model: &Lane) {
    let (living, newest) = (lane.terms(), model.revisions.last().unwrap().0);
    assert_eq!(lane.first_revision(), Revision(model.first_revision));
    for number in (model.first_revision..=newest).map(Revision) {
        let is_living = living.all().iter().any(|term| term.number() == number);
        let past = shared.past_revision(lane.generation, number).unwrap();
        match past {
            None => assert!(is_living, "revision {number} of generation {}", lane.generation),
            Some(past) => assert_eq!(past.number, number),
        }
    }
}

/// The summaries of its invocations.
pub(super) fn check_invocations(shared: &Shared, generation: Generation, model: &Lane) {
    let (mut invocations, mut after) = (Vec::new(), model.meta.invocations_gone);
    loop {
        let last = model.meta.ordinal.next();
        let (page, more) = shared.invocations.list(generation, after, last, 4).unwrap();
        after = page.last().map_or(after, |last| last.ordinal);
        invocations.extend(page.into_iter().map(|one| (one.ordinal.0, one.attempt)));
        if !more {
            break;
        }
    }
    assert_eq!(invocations, model.invocations.keys().copied().collect::<Vec<_>>());
}
