//! Reasons not to send set-points, and to send safe values: rights that are lost, installations that are stopped,
//! set-points that aren't renewed, and the kill switch.

use std::collections::BTreeSet;
use std::sync::Arc;

use super::{Flying, IntentPlace, Machine, What};
use crate::records::intent::{Asked, Outcome};
use ironloom_apps::grants::{Grants, Mode};
use ironloom_types::clock::Timestamp;
use ironloom_types::ids::{Generation, InstallationId};

/// The rights of an installation, by its newest revision.
#[derive(Clone, Debug)]
pub(crate) struct Rights {
    pub grants: Arc<Grants>,
    /// It is paused, quarantined or gone.
    pub stopped: bool,
}

impl Rights {
    /// Returns whether its set-points are sent without anybody's word, as long as they were asked for so.
    pub(super) fn acts(&self) -> bool {
        self.grants.mode == Mode::Act
    }

    /// The end of an intent that it has no right to.
    pub(super) fn refuse(&self, asked: &Asked) -> Option<(Outcome, &'static str)> {
        if self.stopped {
            return Some((Outcome::Revoked, "its installation is stopped"));
        }
        if self.grants.mode == Mode::Shadow {
            return Some((Outcome::Shadow, "the installation's mode is shadow"));
        }
        let granted = self.grants.outputs.get(&asked.intent.output);
        let is_granted = granted.is_some_and(|grant| grant.allows(&asked.intent.value));
        (!is_granted).then_some((Outcome::Revoked, "it is no longer granted"))
    }
}

/// The kill switch: of the whole site, or of installations.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Halted {
    pub site: bool,
    pub installations: BTreeSet<InstallationId>,
}

impl Halted {
    pub(crate) fn has(&self, installation: &InstallationId) -> bool {
        self.site || self.installations.contains(installation)
    }
}

impl Machine {
    /// Takes over what an installation may do from now on.
    pub(crate) fn set_rights(&mut self, generation: Generation, rights: Rights, now: Timestamp) {
        let stopped = rights.stopped;
        self.rights.insert(generation, rights);
        if stopped {
            return self.stop(generation, "its installation is stopped", now);
        }
        for place in self.waiting_of(generation) {
            let Some(open) = self.open.get(&place) else { continue };
            let (asked, path) = (Arc::clone(&open.asked), open.asked.intent.point.to_arc());
            match self.refused(&asked, now) {
                Some((outcome, reason)) => self.settle(place, outcome, Some(reason), now),
                None => self.offer(&path, now),
            }
        }
    }

    /// An installation is gone.
    pub(crate) fn gone(&mut self, generation: Generation, now: Timestamp) {
        self.stop(generation, "its installation is gone", now);
        self.rights.remove(&generation);
    }

    pub(super) fn is_stopped(&self, generation: Generation) -> bool {
        self.rights.get(&generation).is_none_or(|rights| rights.stopped)
    }

    fn waiting_of(&self, generation: Generation) -> Vec<IntentPlace> {
        let waiting = self.points.values().filter_map(|point| point.waiting);
        waiting.filter(|place| place.generation == generation).collect()
    }

    /// Withdraws all that an installation has asked for and that wasn't sent.
    fn withdraw(&mut self, generation: Generation, reason: &str, now: Timestamp) {
        for place in self.waiting_of(generation) {
            self.settle(place, Outcome::Revoked, Some(reason), now);
        }
    }

    /// Stops an installation: withdraws what wasn't sent, then sends its points to their safe values.
    pub(super) fn stop(&mut self, generation: Generation, reason: &str, now: Timestamp) {
        self.withdraw(generation, reason, now);
        let own = self.points.iter().filter(|(_, point)| point.owner.generation == generation);
        let own: Vec<Arc<str>> = own.map(|(path, _)| Arc::clone(path)).collect();
        for path in own {
            self.go_safe(&path, now);
        }
    }

    /// Has a point go to its safe value, if it has one and was told another.
    fn go_safe(&mut self, path: &Arc<str>, now: Timestamp) {
        let Some(point) = self.points.get_mut(path) else { return };
        let Some(told) = &mut point.told else { return };
        if told.until.take().is_none() {
            return;
        }
        if told.safe.is_some() {
            point.safe_due = Some(now);
            self.offer(path, now);
        }
    }

    /// Goes safe where the app no longer vouches for what a machine was told, unless something newer is about to be sent.
    pub(super) fn look_for_lapse(&mut self, path: &Arc<str>, now: Timestamp) {
        let Some(point) = self.points.get(path) else { return };
        let is_stopped = self.is_stopped(point.owner.generation);
        let until = point.told.as_ref().and_then(|told| told.until);
        let lapsed = until.is_some_and(|until| until <= now || is_stopped);
        let is_renewed = point.waiting.is_some_and(|place| self.is_sendable(place));
        if !lapsed || is_renewed {
            return;
        }
        let (generation, has_safe) =
            (point.owner.generation, point.told.as_ref().is_some_and(|told| told.safe.is_some()));
        if has_safe {
            self.withdraw(
                generation,
                "a point went to its safe value, since its set-point wasn't renewed",
                now,
            );
        }
        self.go_safe(path, now);
    }

    /// Turns the kill switch on or off. What wasn't sent is revoked, and nothing is sent until it is released.
    pub(crate) fn set_halted(&mut self, halted: Halted, now: Timestamp) {
        if self.halted == halted {
            return;
        }
        self.halted = halted;
        let waiting: Vec<IntentPlace> = self.points.values().filter_map(|point| point.waiting).collect();
        for place in waiting {
            let Some(open) = self.open.get(&place) else { continue };
            if self.halted.has(&open.asked.installation) {
                self.settle(place, Outcome::Revoked, Some("the kill switch is on"), now);
            }
        }
        let mut flying: Vec<(Arc<str>, Flying)> = Vec::new();
        for (path, point) in &mut self.points {
            if self.halted.has(&point.owner.installation) {
                flying.extend(point.flying.take().map(|one| (Arc::clone(path), one)));
            }
        }
        for (path, one) in flying {
            match one.what {
                What::Intent(place) => self.settle(
                    place,
                    Outcome::Sent,
                    Some("the kill switch was turned on before the answer"),
                    now,
                ),
                What::Safe => self.unsent(&path, one, now),
            }
        }
        let paths: Vec<Arc<str>> = self.points.keys().cloned().collect();
        paths.iter().for_each(|path| self.offer_again(path, now));
    }

    /// Returns true where the kill switch is on for whoever drives a point.
    pub(crate) fn is_halted(&self, path: &str) -> bool {
        self.points.get(path).is_some_and(|point| self.halted.has(&point.owner.installation))
    }

    pub(crate) fn halted(&self) -> &Halted {
        &self.halted
    }

    /// Takes over which connector each point has.
    pub(crate) fn set_router(&mut self, router: super::Router, now: Timestamp) {
        self.router = Some(router);
        self.ready.clear();
        let paths: Vec<Arc<str>> = self.points.keys().cloned().collect();
        paths.iter().for_each(|path| self.offer_again(path, now));
    }

    /// An intent of this id that waits for somebody's word.
    pub(crate) fn unconfirmed(&self, id: ironloom_types::ids::IntentId) -> Option<Arc<Asked>> {
        let waiting = self.points.values().filter_map(|point| point.waiting);
        let place = waiting.into_iter().find(|place| place.id() == id)?;
        let open = self.open.get(&place)?;
        let acts = self.rights.get(&place.generation).is_some_and(Rights::acts);
        (!open.asked.has_leave(acts)).then(|| Arc::clone(&open.asked))
    }

    /// The end that an intent would have now, if it may not be sent.
    pub(crate) fn refusal(&self, asked: &Asked, now: Timestamp) -> Option<&'static str> {
        self.refused(asked, now).map(|(_, reason)| reason)
    }

    /// Somebody has confirmed an intent.
    pub(crate) fn confirm(&mut self, asked: Asked, now: Timestamp) {
        let path = asked.intent.point.to_arc();
        if let Some(open) = self.open.get_mut(&asked.place) {
            open.asked = Arc::new(asked);
            self.offer(&path, now);
        }
    }

    /// Somebody has dismissed an intent.
    pub(crate) fn dismiss(&mut self, place: IntentPlace, now: Timestamp) {
        self.settle(place, Outcome::Revoked, Some("a person dismissed it"), now);
    }
}
