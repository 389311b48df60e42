//! The points of the outbox as people see them.

use std::sync::Arc;

use ironloom_types::clock::Timestamp;
use ironloom_types::ids::{InstallationId, PointPath, SlotName};

use super::{Machine, Point, What};
use crate::records::intent::{Asked, Ended, IntentPlace, Told};

/// The standing of an intent without an outcome.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Standing {
    /// For the connector, or for those before it in its list.
    Waiting,
    /// For a person.
    Unconfirmed,
    /// For an answer.
    Sent,
}

/// An intent without an outcome, as people see it.
#[derive(Clone, Debug)]
pub(crate) struct ShownIntent {
    pub asked: Arc<Asked>,
    pub standing: Standing,
    /// The end of its life, by what is granted now.
    pub expires: Timestamp,
}

/// A point as people see it.
#[derive(Clone, Debug)]
pub(crate) struct Shown {
    pub point: PointPath,
    pub connector: Option<Arc<str>>,
    /// The intents without an outcome, the oldest first.
    pub open: Vec<ShownIntent>,
    /// The safe value is to be sent, or on its way.
    pub goes_safe: bool,
    pub told: Option<Told>,
    pub last: Option<Ended>,
    pub output: SlotName,
    pub entity: Arc<str>,
}

impl Machine {
    /// Gives an installation's points, behind this one, in the order of their paths.
    pub(crate) fn show(&self, installation: &InstallationId, after: Option<&str>, most: usize) -> Vec<Shown> {
        let is_behind = |path: &PointPath| after.is_none_or(|after| path.as_str() > after);
        let points = self.points.iter().filter(|(path, _)| is_behind(path));
        let own = points.filter(|(_, point)| {
            let of_open = |place: &IntentPlace| {
                self.open.get(place).is_some_and(|open| open.asked.installation == *installation)
            };
            point.owner.installation == *installation || point.waiting.as_ref().is_some_and(of_open)
        });
        own.take(most).map(|(path, point)| self.shown(path, point)).collect()
    }

    fn shown(&self, path: &PointPath, point: &Point) -> Shown {
        let open = |place: IntentPlace, standing| {
            let asked = Arc::clone(&self.open.get(&place)?.asked);
            Some(ShownIntent { expires: self.expires(&asked), asked, standing })
        };
        let sent = point.flying.as_ref().and_then(|flying| flying.what.place());
        let waiting = point.waiting.and_then(|place| {
            let asked = &self.open.get(&place)?.asked;
            let needs =
                self.rights.get(&place.generation).is_some_and(|rights| !asked.has_leave(rights.acts()));
            open(place, if needs { Standing::Unconfirmed } else { Standing::Waiting })
        });
        Shown {
            point: path.clone(),
            connector: self.router.as_ref().and_then(|router| router(path)),
            open: sent.and_then(|place| open(place, Standing::Sent)).into_iter().chain(waiting).collect(),
            goes_safe: point.safe_due.is_some()
                || point.flying.as_ref().is_some_and(|flying| flying.what == What::Safe),
            told: point.told.clone(),
            last: point.last.clone(),
            output: point.owner.output.clone(),
            entity: Arc::clone(&point.owner.entity),
        }
    }
}
