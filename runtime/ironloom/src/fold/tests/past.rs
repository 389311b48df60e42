//! Revisions under which nothing runs any more.

use super::model::Lane;
use crate::fold::Shared;
use crate::fold::durable::Durable;
use ironloom_types::ids::Revision;

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
