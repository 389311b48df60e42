//! Commands for connectors, and their answers.

use std::sync::Arc;

use super::{Flying, IntentPlace, Machine, Sent, owner_of};
use crate::outbox::Settlement;
use crate::records::intent::{Ended, Outcome, Settled, Told};
use ironloom_types::clock::{SECOND, Timestamp};
use ironloom_types::ids::{IntentId, PointPath};
use ironloom_types::readings::Value;

/// The reason where another installation's set-point has the place of one that isn't confirmed.
pub(super) const TAKEN: &str = "a set-point of another installation waits for the same point";
/// The time after which a safe value is sent again that was refused.
pub(super) const SAFE_AGAIN: u64 = 5 * SECOND;

/// Something that is sent to a machine.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum What {
    Intent(IntentPlace),
    /// The safe value of the point.
    Safe,
}

impl What {
    pub(super) fn place(self) -> Option<IntentPlace> {
        match self {
            Self::Intent(place) => Some(place),
            Self::Safe => None,
        }
    }
}

/// A set-point to be sent now.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Command {
    pub point: PointPath,
    pub what: What,
    pub value: Value,
    /// `None` for a safe value.
    pub id: Option<IntentId>,
    /// Rises with each for the same point.
    pub number: u64,
    /// The time after which it must not be carried out any more; `None` for a safe value.
    pub expires: Option<Timestamp>,
}

/// The answer to a command.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Answer {
    Accepted,
    Rejected(String),
}

impl Machine {
    /// The next command for a connector. From here on it counts as sent.
    pub(crate) fn next(&mut self, connector: &Arc<str>, now: Timestamp) -> Option<Command> {
        loop {
            let path = self.ready.get_mut(connector)?.pop_front()?;
            if let Some(point) = self.points.get_mut(&path) {
                point.is_ready = false;
            }
            // The connector of the point may be another one by now.
            if self.router.as_ref().and_then(|router| router(&path)).as_ref() != Some(connector) {
                self.offer(&path, now);
                continue;
            }
            // Something newer makes a safe value needless.
            let command = self.command(&path, connector, now);
            if let Some(command) = command.or_else(|| self.safe_command(&path, connector, now)) {
                return Some(command);
            }
        }
    }

    /// The safe value of a point, where it is due. Nothing holds it up: what is on its way may be in force.
    fn safe_command(&mut self, path: &PointPath, connector: &Arc<str>, now: Timestamp) -> Option<Command> {
        let point = self.points.get(path)?;
        if point.safe_due.is_none_or(|due| due > now) || self.halted.has(&point.owner.installation) {
            return None;
        }
        let safe = point.told.as_ref()?.safe.clone()?;
        if let Some(place) = point.flying.as_ref().and_then(|flying| flying.what.place()) {
            self.settle(place, Outcome::Expired, Some("the safe value was sent after it"), now);
        }
        let point = self.points.get_mut(path)?;
        let before = point.told.take()?;
        let number = before.safe_number();
        point.told = Some(Told { value: safe.clone(), number, until: None, safe: before.safe.clone() });
        let before = (Some(before), point.owner.clone());
        point.safe_due = None;
        point.flying = Some(Flying { what: What::Safe, connector: Arc::clone(connector), before, number });
        Some(Command { point: path.clone(), what: What::Safe, value: safe, id: None, number, expires: None })
    }

    /// The intent that waits at a point, where it may be sent.
    fn command(&mut self, path: &PointPath, connector: &Arc<str>, now: Timestamp) -> Option<Command> {
        let place = self.points.get(path)?.waiting?;
        let asked = Arc::clone(&self.open.get(&place)?.asked);
        if let Some((outcome, reason)) = self.refused(&asked, now) {
            self.settle(place, outcome, Some(reason), now);
            return None;
        }
        if !self.is_sendable(place) || self.points.get(path)?.flying.is_some() {
            return None;
        }
        if let Some(held) = self.held(path, place, now) {
            self.points.get_mut(path)?.held = Some(held);
            self.watch_behind(path, now);
            return None;
        }
        let (told, expires) = (self.told(&asked), self.expires(&asked));
        let point = self.points.get_mut(path)?;
        point.waiting = None;
        point.safe_due = None;
        (point.held, point.sent) = (None, Some(Sent { place: Some(place), at: now }));
        let owner = std::mem::replace(&mut point.owner, owner_of(&asked));
        let before = (point.told.replace(told), owner);
        let what = What::Intent(place);
        let number = asked.number;
        point.flying = Some(Flying { what, connector: Arc::clone(connector), before, number });
        self.recount(path);
        self.open.get_mut(&place)?.was_sent = true;
        self.watch_behind(path, now);
        Some(Command {
            point: path.clone(),
            what: What::Intent(place),
            value: asked.intent.value.clone(),
            id: Some(place.id()),
            number: asked.number,
            expires: Some(expires),
        })
    }

    /// Returns whether an intent's turn has come, as far as its list and its confirmation go.
    pub(super) fn is_sendable(&self, place: IntentPlace) -> bool {
        let Some(open) = self.open.get(&place) else { return false };
        let is_first =
            self.lists.get(&super::list_of(&open.asked)).and_then(|list| list.front()) == Some(&place);
        let rights = self.rights.get(&place.generation);
        is_first && rights.is_some_and(|rights| open.asked.has_leave(rights.acts()))
    }

    /// The time until which an intent is held: its output may change the point only so often, by what is granted now. One that was
    /// sent is repeated at once.
    pub(super) fn held(&self, path: &PointPath, place: IntentPlace, now: Timestamp) -> Option<Timestamp> {
        let sent = self.points.get(path)?.sent.filter(|sent| sent.place != Some(place))?;
        let output = &self.open.get(&place)?.asked.intent.output;
        let every = self.rights.get(&place.generation)?.grants.outputs.get(output)?.every?;
        Some(sent.at.plus(every.0)).filter(|until| *until > now)
    }

    /// Takes the answer to a command. One to something that has ended since says nothing any more.
    pub(crate) fn answered(&mut self, path: &PointPath, what: What, answer: Answer, now: Timestamp) {
        let Some(point) = self.points.get_mut(path) else { return };
        let Some(flying) = point.flying.take_if(|flying| flying.what == what) else { return };
        match (what, answer) {
            (What::Intent(place), Answer::Accepted) => self.settle(place, Outcome::Accepted, None, now),
            (What::Intent(place), Answer::Rejected(reason)) => {
                let seen = point.told.as_ref().map_or(0, |told| told.number);
                // The machine goes on with what it had.
                let (told, owner) = flying.before;
                point.told = told.map(|told| Told { number: seen, ..told });
                point.owner = owner;
                point.safe_due = point.owes_safe().then_some(now);
                self.recount(path);
                self.settle(place, Outcome::Rejected, Some(&reason), now);
            }
            (What::Safe, Answer::Accepted) => {
                let Some(told) = &mut point.told else { return };
                let value = told.value.clone();
                // Another one may be granted since it was sent.
                told.safe.take_if(|safe| *safe == value);
                point.safe_due = point.owes_safe().then_some(now);
                self.end_safe(path, value, Outcome::Safe, None, now);
            }
            (What::Safe, Answer::Rejected(reason)) => {
                let refused = std::mem::replace(&mut point.told, flying.before.0);
                point.safe_due = point.owes_safe().then_some(now.plus(SAFE_AGAIN));
                let value = refused.map_or(Value::Missing, |told| told.value);
                self.end_safe(path, value, Outcome::SafeRejected, Some(&reason), now);
            }
        }
        self.look_for_lapse(path, now);
        self.watch(path);
        self.offer_again(path, now);
        self.landed(path, now);
    }

    /// Notes the end of an attempt at a safe value; the same value with the same reason again is no news.
    fn end_safe(
        &mut self,
        path: &PointPath,
        value: Value,
        outcome: Outcome,
        reason: Option<&str>,
        now: Timestamp,
    ) {
        let Some(point) = self.points.get_mut(path) else { return };
        let is_news = point.last.as_ref().is_none_or(|last| {
            let is_same = last.value == value && last.outcome == outcome && last.reason.as_deref() == reason;
            last.id.is_some() || !is_same
        });
        let ended =
            Ended { id: None, asked: value.clone(), value, outcome, reason: reason.map(Into::into), at: now };
        point.last = Some(ended.clone());
        if !is_news {
            return;
        }
        let driven = Some(Box::new(point.driven(path, ended)));
        self.ends.push_back(Settlement {
            settled: Settled { place: None, driven },
            installation: point.owner.installation.clone(),
            output: point.owner.output.clone(),
            entity: Arc::clone(&point.owner.entity),
            outcome,
            at: now,
        });
    }

    /// Has a point looked at once more that has something to send.
    pub(super) fn offer_again(&mut self, path: &PointPath, now: Timestamp) {
        let has_some =
            self.points.get(path).is_some_and(|point| point.waiting.is_some() || point.safe_due.is_some());
        if has_some {
            self.offer(path, now);
        }
    }

    /// The connection of a connector is lost: what wasn't answered is sent again, unless there is something newer.
    pub(crate) fn lost(&mut self, connector: &Arc<str>, now: Timestamp) {
        let of_it = |flying: &Flying| flying.connector == *connector;
        let lost: Vec<_> = self
            .points
            .iter_mut()
            .filter_map(|(path, point)| Some((path.clone(), point.flying.take_if(|flying| of_it(flying))?)))
            .collect();
        for (path, flying) in lost {
            self.unsent(&path, flying, now);
        }
    }

    /// Takes back what is on its way.
    pub(super) fn unsent(&mut self, path: &PointPath, flying: Flying, now: Timestamp) {
        let Some(point) = self.points.get_mut(path) else { return };
        match flying.what {
            What::Safe => {
                point.told = flying.before.0;
                point.safe_due = point.owes_safe().then_some(now);
            }
            What::Intent(place) if flying.number <= point.passed => {
                self.settle(
                    place,
                    Outcome::Superseded,
                    Some("the connection was lost before the answer"),
                    now,
                );
            }
            What::Intent(place) => {
                // One that only waits for a person, since anything else would have overtaken it.
                let other = point.waiting.replace(place);
                if let Some(other) = other {
                    self.settle(other, Outcome::Superseded, Some(TAKEN), now);
                }
            }
        }
        // Its life may be over already, and nobody may have looked since.
        self.watch(path);
        self.offer_again(path, now);
        self.landed(path, now);
    }

    /// Nothing may be on its way to a point any more: takes over what was granted meanwhile, and forgets the point of an installation that
    /// has gone.
    pub(super) fn landed(&mut self, path: &PointPath, now: Timestamp) {
        self.renew_safe(std::slice::from_ref(path), now);
        self.forget(path);
    }
}
