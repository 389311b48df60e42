//! Reasons not to send set-points, and to send safe values: rights that are lost, installations that are stopped,
//! set-points that aren't renewed, and the kill switch.

use std::collections::BTreeSet;
use std::sync::Arc;

use super::{Flying, IntentPlace, Machine, What};
use crate::records::intent::{Asked, Driven, Outcome};
use ironloom_apps::binding::OutputBinding;
use ironloom_apps::grants::{Grants, Mode};
use ironloom_types::clock::Timestamp;
use ironloom_types::ids::{Generation, InstallationId, IntentId, Ordinal, PointPath, SlotName};
use ironloom_types::readings::Value;

/// Reasons of set-points that are revoked.
pub(super) const STOPPED: &str = "its installation is stopped";
pub(super) const GONE: &str = "its installation is gone";

/// The rights of an installation, by its newest revision.
#[derive(Clone, Debug)]
pub(crate) struct Rights {
    pub grants: Arc<Grants>,
    /// Its outputs, and the points that they are bound to.
    pub outputs: Arc<[OutputBinding]>,
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
            return Some((Outcome::Revoked, STOPPED));
        }
        if self.grants.mode == Mode::Shadow {
            return Some((Outcome::Shadow, "the installation's mode is shadow"));
        }
        let granted = self.grants.outputs.get(&asked.intent.output);
        if !granted.is_some_and(|grant| grant.allows(&asked.intent.value)) {
            return Some((Outcome::Revoked, "it is no longer granted"));
        }
        let bound = self.output(&asked.intent.output);
        let is_bound = bound.is_some_and(|output| output.target.writes(&asked.intent.point));
        (!is_bound).then_some((Outcome::Revoked, "its output is no longer bound to the point"))
    }

    fn output(&self, name: &SlotName) -> Option<&OutputBinding> {
        self.outputs.iter().find(|output| output.name == *name)
    }

    /// The safe value of an output as it is granted now; `None` where the output isn't granted any more.
    fn safe(&self, output: &SlotName) -> Option<Option<Value>> {
        let (grant, output) = (self.grants.outputs.get(output)?, self.output(output)?);
        Some(grant.safe_value(output.value_type))
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
        let own = self.own(generation);
        self.renew_safe(&own, now);
        self.renew_before(generation);
        if stopped {
            return self.stop(generation, &own, STOPPED, now);
        }
        for place in self.waiting_of(generation) {
            let Some(open) = self.open.get(&place) else { continue };
            let (asked, path) = (Arc::clone(&open.asked), open.asked.intent.point.clone());
            match self.refused(&asked, now) {
                Some((outcome, reason)) => self.settle(place, outcome, Some(reason), now),
                None => self.offer(&path, now),
            }
            self.watch(&path);
        }
        // Lives may be shorter, and what waits may renew nothing any more.
        own.iter().for_each(|path| self.watch(path));
    }

    /// The points that an installation drives.
    fn own(&self, generation: Generation) -> Vec<PointPath> {
        let own = self.points.iter().filter(|(_, point)| point.owner.generation == generation);
        own.map(|(path, _)| path.clone()).collect()
    }

    /// Takes over the safe values that are granted now for these points. One that nobody grants any more stays as it was.
    pub(super) fn renew_safe(&mut self, points: &[PointPath], now: Timestamp) {
        for path in points {
            let Some(point) = self.points.get_mut(path) else { continue };
            let rights = self.rights.get(&point.owner.generation);
            let safe = rights.and_then(|rights| rights.safe(&point.owner.output));
            if let (Some(told), Some(safe)) = (&mut point.told, safe) {
                if told.until.is_some() || told.safe.is_some() {
                    told.safe = safe;
                    if told.safe.is_none() {
                        point.safe_due = None;
                    }
                } else if safe.as_ref().is_some_and(|safe| *safe != told.value) && point.flying.is_none() {
                    // It has kept its last value.
                    told.safe = safe;
                    point.safe_due = Some(now);
                }
            }
            if point.safe_due.is_some() {
                self.offer_again(path, now);
            }
        }
    }

    /// The same for what an installation has told before something that is on its way: it may be in force again.
    fn renew_before(&mut self, generation: Generation) {
        let Some(rights) = self.rights.get(&generation) else { return };
        for point in self.points.values_mut() {
            let Some(Flying { before: (Some(told), owner), .. }) = &mut point.flying else { continue };
            let is_own = owner.generation == generation && (told.until.is_some() || told.safe.is_some());
            if let Some(safe) = rights.safe(&owner.output).filter(|_| is_own) {
                told.safe = safe;
            }
        }
    }

    /// The safe value of what is about to be sent.
    pub(super) fn safe_of(&self, asked: &Asked) -> Option<Value> {
        let rights = self.rights.get(&asked.place.generation);
        rights.and_then(|rights| rights.safe(&asked.intent.output)).unwrap_or_else(|| asked.safe.clone())
    }

    /// The end of an intent's life: its own, or that which is granted now, if it is earlier.
    pub(super) fn expires(&self, asked: &Asked) -> Timestamp {
        let rights = self.rights.get(&asked.place.generation);
        let grant = rights.and_then(|rights| rights.grants.outputs.get(&asked.intent.output));
        asked.at.plus(grant.map_or(asked.intent.time_to_live, |grant| grant.life(asked.intent.time_to_live)))
    }

    /// An installation is gone. Its points are forgotten, but for those that are to have their safe value.
    pub(crate) fn gone(&mut self, generation: Generation, now: Timestamp) {
        let own = self.own(generation);
        self.stop(generation, &own, GONE, now);
        self.rights.remove(&generation);
        // Those that it only had asked for by then, too.
        for path in self.own(generation) {
            self.forget(&path);
        }
    }

    /// Returns true where something is known of an installation's rights.
    pub(crate) fn knows(&self, generation: Generation) -> bool {
        self.rights.contains_key(&generation)
    }

    pub(super) fn is_stopped(&self, generation: Generation) -> bool {
        self.rights.get(&generation).is_none_or(|rights| rights.stopped)
    }

    fn waiting_of(&self, generation: Generation) -> Vec<IntentPlace> {
        let first = |generation| IntentPlace { generation, ordinal: Ordinal(0), index: 0 };
        let own = self.open.range(first(generation)..first(Generation(generation.0 + 1)));
        let waits = |(place, open): (&IntentPlace, &super::Open)| {
            let point = self.points.get(&open.asked.intent.point)?;
            (point.waiting == Some(*place)).then_some(*place)
        };
        own.filter_map(waits).collect()
    }

    /// Withdraws all that an installation has asked for and that wasn't sent.
    fn withdraw(&mut self, generation: Generation, reason: &str, now: Timestamp) {
        for place in self.waiting_of(generation) {
            self.settle(place, Outcome::Revoked, Some(reason), now);
        }
    }

    /// Stops an installation: withdraws what wasn't sent, then sends its points to their safe values.
    pub(super) fn stop(&mut self, generation: Generation, own: &[PointPath], reason: &str, now: Timestamp) {
        self.withdraw(generation, reason, now);
        own.iter().for_each(|path| self.go_safe(path, now));
    }

    /// Has a point go to its safe value, if it has one and was told another.
    fn go_safe(&mut self, path: &PointPath, now: Timestamp) {
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
    pub(super) fn look_for_lapse(&mut self, path: &PointPath, now: Timestamp) {
        let Some(point) = self.points.get(path) else { return };
        let is_stopped = self.is_stopped(point.owner.generation);
        let until = point.told.as_ref().and_then(|told| told.until);
        let lapsed = until.is_some_and(|until| until <= now || is_stopped);
        // Nothing holds up a safe value, so what is held renews nothing.
        let renews = |place| self.is_sendable(place) && self.held(path, place, now).is_none();
        let is_renewed = point.waiting.is_some_and(renews);
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

    /// Journal time has gone back: nothing lives, and nobody vouches, until a time that is far off again. Returns what the store
    /// is to have of it.
    pub(crate) fn set_back(&mut self, to: Timestamp) -> (Vec<Asked>, Vec<Driven>) {
        let (mut intents, mut driven) = (Vec::new(), Vec::new());
        for open in self.open.values_mut().filter(|open| open.asked.at > to) {
            let asked = Asked { at: to, ..Asked::clone(&open.asked) };
            open.asked = Arc::new(asked.clone());
            intents.push(asked);
        }
        for (path, point) in &mut self.points {
            point.safe_due = point.safe_due.map(|due| due.min(to));
            point.held = point.held.map(|held| held.min(to));
            point.sent.iter_mut().for_each(|sent| sent.at = sent.at.min(to));
            let Some(last) = point.last.clone() else { continue };
            let mut now = point.driven(path, last);
            if now.set_back(to) {
                point.told.clone_from(&now.told);
                driven.push(now);
            }
        }
        let paths: Vec<PointPath> = self.points.keys().cloned().collect();
        paths.iter().for_each(|path| self.watch(path));
        self.tick(to);
        (intents, driven)
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
        let mut flying: Vec<(PointPath, Flying)> = Vec::new();
        for (path, point) in &mut self.points {
            if self.halted.has(&point.owner.installation) {
                flying.extend(point.flying.take().map(|one| (path.clone(), one)));
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
        let paths: Vec<PointPath> = self.points.keys().cloned().collect();
        for path in paths {
            self.offer_again(&path, now);
            self.landed(&path, now);
        }
    }

    /// Returns true where the kill switch is on for whoever drives a point.
    pub(crate) fn is_halted(&self, path: &PointPath) -> bool {
        self.points.get(path).is_some_and(|point| self.halted.has(&point.owner.installation))
    }

    /// Counts the points that are to have their safe value, and the owner of the first.
    pub(crate) fn owed(&self) -> (usize, Option<InstallationId>) {
        let mut owed = self.points.values().filter(|point| point.safe_due.is_some()).peekable();
        let first = owed.peek().map(|point| point.owner.installation.clone());
        (owed.count(), first)
    }

    /// Returns true where an installation drives a point, or did and has left it.
    pub(crate) fn drives(&self, installation: &InstallationId) -> bool {
        self.points.values().any(|point| point.owner.installation == *installation)
    }

    pub(crate) fn halted(&self) -> &Halted {
        &self.halted
    }

    /// Takes over which connector each point has.
    pub(crate) fn set_router(&mut self, router: super::Router, now: Timestamp) {
        self.router = Some(router);
        self.ready.clear();
        self.points.values_mut().for_each(|point| point.is_ready = false);
        let paths: Vec<PointPath> = self.points.keys().cloned().collect();
        paths.iter().for_each(|path| self.offer_again(path, now));
    }

    /// An intent of this id, of an installation's, that waits for somebody's word.
    pub(crate) fn unconfirmed(&self, generation: Generation, id: IntentId) -> Option<Arc<Asked>> {
        let place = self.waiting_of(generation).into_iter().find(|place| place.id() == id)?;
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
        let path = asked.intent.point.clone();
        let Some(open) = self.open.get_mut(&asked.place) else { return };
        let place = asked.place;
        open.asked = Arc::new(asked);
        if let Some(point) = self.points.get_mut(&path).filter(|point| point.waiting == Some(place)) {
            point.overtake(|one| *one != place);
        }
        self.offer(&path, now);
    }

    /// Somebody has dismissed an intent.
    pub(crate) fn dismiss(&mut self, place: IntentPlace, now: Timestamp) {
        self.settle(place, Outcome::Revoked, Some("a person dismissed it"), now);
    }
}
