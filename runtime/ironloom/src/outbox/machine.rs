//! The rules of the outbox, as a state machine without clock, disk or network.
//!
//! For each point there is at most one intent that waits, the newest, and at most one that is on its way. What one call of
//! an app asked for is a list: only its first intent may be sent, and it leaves the list where it was accepted. Where it
//! ends otherwise, the rest of the list is skipped.

mod points;
mod send;
mod shown;
mod stops;
#[cfg(test)]
mod tests;

use std::collections::{BTreeMap, BTreeSet, HashMap, VecDeque};
use std::sync::Arc;

pub(crate) use self::send::{Answer, Command, What};
pub(crate) use self::shown::{Shown, ShownIntent, Standing};
pub(crate) use self::stops::{Halted, Rights};
use super::Found;
use crate::records::intent::{Asked, Ended, IntentPlace, Outcome, Settled, Told};
use ironloom_types::clock::Timestamp;
use ironloom_types::ids::{Generation, InstallationId, Ordinal, PointPath, SlotName};

/// Finds the connector that a point's set-points go through.
pub(crate) type Router = Arc<dyn Fn(&PointPath) -> Option<Arc<str>> + Send + Sync>;

/// Names what one call of an invocation asked for.
type ListKey = (Generation, Ordinal, u32);

/// An intent without an outcome.
#[derive(Debug)]
struct Open {
    asked: Arc<Asked>,
    /// It was sent, or may have been by an earlier process.
    was_sent: bool,
}

/// A point that set-points go to.
#[derive(Debug)]
struct Point {
    /// The newest intent, until it is sent.
    waiting: Option<IntentPlace>,
    /// Sent, and not answered.
    flying: Option<Flying>,
    /// The safe value is to be sent; not before this time, where it was refused.
    safe_due: Option<Timestamp>,
    told: Option<Told>,
    /// Intents up to this number were overtaken after they were sent: they aren't sent again.
    passed: u64,
    /// The last intent that was sent, and when.
    sent: Option<Sent>,
    /// The time until which the next one is held: it would come too soon behind the last one.
    held: Option<Timestamp>,
    /// Who told it; where nobody did, who asked for it first.
    owner: Owner,
    last: Option<Ended>,
    /// It counts among those of the installation.
    counted: Generation,
    /// Its entry among the times at which points are looked at.
    watched: Option<Timestamp>,
    /// It stands among those that may have something to send.
    is_ready: bool,
}

/// An output of an installation that drives a point.
#[derive(Clone, Debug)]
struct Owner {
    installation: InstallationId,
    generation: Generation,
    output: SlotName,
    entity: Arc<str>,
}

#[derive(Clone, Copy, Debug)]
struct Sent {
    /// `None` for one of an earlier process.
    place: Option<IntentPlace>,
    at: Timestamp,
}

#[derive(Debug)]
struct Flying {
    what: What,
    connector: Arc<str>,
    /// The value before, and who told it.
    before: (Option<Told>, Owner),
    number: u64,
}

/// An end that is to be recorded.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Settlement {
    pub settled: Settled,
    pub installation: InstallationId,
    pub output: SlotName,
    pub entity: Arc<str>,
    pub outcome: Outcome,
    pub at: Timestamp,
}

/// All set-points that are on their way, and the points that they go to.
#[derive(Default)]
pub(crate) struct Machine {
    points: BTreeMap<PointPath, Point>,
    open: BTreeMap<IntentPlace, Open>,
    lists: HashMap<ListKey, VecDeque<IntentPlace>>,
    /// Points of each connector that may have something to send.
    ready: HashMap<Arc<str>, VecDeque<PointPath>>,
    /// Times at which points are to be looked at.
    deadlines: BTreeSet<(Timestamp, PointPath)>,
    ends: VecDeque<Settlement>,
    /// Ends that were taken to be recorded, since the start.
    taken: u64,
    rights: HashMap<Generation, Rights>,
    halted: Halted,
    router: Option<Router>,
    /// The number of points that each installation drives.
    counts: HashMap<Generation, usize>,
}

impl Machine {
    /// Takes over what a start has found, once everybody's rights are known. Returns the points that are forgotten.
    pub(crate) fn load(&mut self, found: Found, now: Timestamp) -> Vec<PointPath> {
        for (path, driven) in found.driven {
            let mut told = driven.told;
            // What is kept has lapsed unseen. Before its time the app vouches for it, also if a safe value is granted since.
            if let Some(told) = &mut told
                && told.safe.is_none()
            {
                told.until.take_if(|until| *until <= now);
            }
            *self.counts.entry(driven.generation).or_default() += 1;
            let mut point = Point {
                waiting: None,
                flying: None,
                safe_due: None,
                // It was sent before its end.
                sent: told.as_ref().map(|_| Sent { place: None, at: driven.last.at.min(now) }),
                held: None,
                told,
                passed: driven.passed,
                owner: Owner {
                    installation: driven.installation,
                    generation: driven.generation,
                    output: driven.output,
                    entity: driven.entity,
                },
                last: Some(driven.last),
                counted: driven.generation,
                watched: None,
                is_ready: false,
            };
            point.safe_due = point.owes_safe().then_some(now);
            self.points.insert(path.clone(), point);
            // Those whose time has come are looked at in the end.
            self.watch(&path);
        }
        // In the order in which they were committed, whoever asked for them.
        let mut intents: Vec<_> = found.intents.into_iter().collect();
        intents.sort_unstable_by_key(|(_, asked)| asked.number);
        // Whether the process before has sent them isn't known; without leave it did not.
        self.take_all(intents.into_iter().map(|(_, asked)| (asked.has_leave(true), asked)), now);
        let mut owners: BTreeMap<Generation, Vec<PointPath>> = BTreeMap::new();
        for (path, point) in &self.points {
            owners.entry(point.owner.generation).or_default().push(path.clone());
        }
        for (generation, own) in owners {
            self.renew_safe(&own, now);
            if !self.knows(generation) {
                self.stop(generation, &own, stops::GONE, now);
            } else if self.is_stopped(generation) {
                self.stop(generation, &own, stops::STOPPED, now);
            }
        }
        let mut all: Vec<PointPath> = self.points.keys().cloned().collect();
        all.retain(|path| self.forget(path));
        self.tick(now);
        all
    }

    /// Takes what an invocation asks for, in its order.
    pub(crate) fn commit(&mut self, asked: impl IntoIterator<Item = Asked>, now: Timestamp) {
        self.take_all(asked.into_iter().map(|asked| (false, asked)), now);
    }

    /// Takes intents, each with whether it may have been sent.
    fn take_all(&mut self, intents: impl Iterator<Item = (bool, Asked)>, now: Timestamp) {
        let mut all = Vec::new();
        // All lists are whole, and all points as told, before the end of one intent decides about others.
        for (was_sent, asked) in intents {
            let asked = Arc::new(asked);
            self.lists.entry(list_of(&asked)).or_default().push_back(asked.place);
            self.open.insert(asked.place, Open { asked: Arc::clone(&asked), was_sent });
            let has_room = self.enter(&asked, was_sent);
            if let Some(point) = self.points.get_mut(&asked.intent.point).filter(|_| was_sent) {
                // An earlier process may have sent it just now.
                point.sent = Some(Sent { place: None, at: now });
            }
            all.push((asked, has_room));
        }
        // What an app wanted before ends first: a log that has the end of a later one has that of the older, too.
        for (asked, _) in &all {
            let point = self.points.get_mut(&asked.intent.point);
            let own = |older: &IntentPlace| older.generation == asked.place.generation;
            if let Some(older) = point.and_then(|point| point.overtake(own)) {
                self.settle(older, Outcome::Superseded, None, now);
            }
        }
        for (asked, has_room) in all {
            self.take(&asked, has_room, now);
        }
    }

    fn take(&mut self, asked: &Arc<Asked>, has_room: bool, now: Timestamp) {
        let place = asked.place;
        let path = asked.intent.point.clone();
        if !has_room {
            return self.turn_away(place, "it would be one point too many", now);
        }
        let refused = self.refused(asked, now);
        let is_skipped = !self.open.contains_key(&place);
        if is_skipped || refused.is_some() {
            // Its app no longer wants what it asked for before; others still may.
            let point = self.points.get_mut(&path);
            let older = point.and_then(|point| point.overtake(|older| older.generation == place.generation));
            if let Some(older) = older {
                self.settle(older, Outcome::Superseded, None, now);
            }
        }
        if let Some((outcome, reason)) = refused {
            return self.settle(place, outcome, Some(reason), now);
        }
        if is_skipped {
            return;
        }
        // The machine has, or may have, one with a greater number, even if that one has no right any more.
        let seen = |point: &Point| point.told.as_ref().map_or(0, |told| told.number);
        if self
            .points
            .get(&path)
            .is_some_and(|point| asked.number <= point.passed || asked.number < seen(point))
        {
            let reason = "the process ended before the answer, and a later one had come";
            return self.settle(place, Outcome::Superseded, Some(reason), now);
        }
        // Without leave it takes the place of nobody else's.
        let acts = self.rights.get(&place.generation).is_some_and(Rights::acts);
        let may = |older: &IntentPlace| asked.has_leave(acts) || older.generation == place.generation;
        let Some(point) = self.points.get_mut(&path) else { return };
        if point.waiting.is_some_and(|older| !may(&older)) {
            return self.settle(place, Outcome::Superseded, Some(send::TAKEN), now);
        }
        let older = point.overtake(may);
        point.waiting = Some(place);
        if let Some(older) = older {
            self.settle(older, Outcome::Superseded, None, now);
        }
        // What was told before may have lapsed, and nobody may have looked since.
        self.watch(&path);
        self.offer(&path, now);
    }

    /// The end of an intent that may not be sent, now or later.
    fn refused(&self, asked: &Asked, now: Timestamp) -> Option<(Outcome, &'static str)> {
        if self.expires(asked) <= now {
            return Some((Outcome::Expired, "its time to live was over"));
        }
        if self.halted.has(&asked.installation) {
            return Some((Outcome::Revoked, "the kill switch is on"));
        }
        match self.rights.get(&asked.place.generation) {
            Some(rights) => rights.refuse(asked),
            None => Some((Outcome::Revoked, stops::GONE)),
        }
    }

    /// Ends an intent. What follows it in its list is skipped, unless it was accepted.
    fn settle(&mut self, place: IntentPlace, outcome: Outcome, reason: Option<&str>, now: Timestamp) {
        let Some(open) = self.end(place, outcome, reason, now) else { return };
        let key = list_of(&open.asked);
        let Some(mut list) = self.lists.remove(&key) else { return };
        if outcome == Outcome::Accepted {
            list.retain(|one| *one != place);
            if let Some(next) = list.front().and_then(|next| self.open.get(next)) {
                let path = next.asked.intent.point.clone();
                self.lists.insert(key, list);
                self.offer(&path, now);
            }
            return;
        }
        let at = list.iter().position(|one| *one == place).unwrap_or(list.len());
        let behind = list.split_off(at);
        for skipped in behind.into_iter().skip(1) {
            // One that is on its way from before a restart has its own end.
            self.end(skipped, Outcome::Skipped, Some("one before it in its list was not accepted"), now);
        }
        if !list.is_empty() {
            self.lists.insert(key, list);
        }
    }

    /// Ends an intent that can't be sent at all. Only a machine's own refusal says that no value was changed.
    fn turn_away(&mut self, place: IntentPlace, reason: &str, now: Timestamp) {
        let was_sent = self.open.get(&place).is_some_and(|open| open.was_sent);
        let outcome = if was_sent { Outcome::Sent } else { Outcome::Rejected };
        self.settle(place, outcome, Some(reason), now);
    }

    /// Ends one intent, and notes what is to be recorded.
    fn end(
        &mut self,
        place: IntentPlace,
        outcome: Outcome,
        reason: Option<&str>,
        now: Timestamp,
    ) -> Option<Open> {
        let open = self.open.remove(&place)?;
        let asked = &open.asked;
        // What was sent may be in force, whatever came after it.
        let never = matches!(
            outcome,
            Outcome::Expired | Outcome::Superseded | Outcome::Skipped | Outcome::Revoked | Outcome::Shadow
        );
        let outcome = if never && open.was_sent { Outcome::Sent } else { outcome };
        let ended = Ended {
            id: Some(place.id()),
            asked: asked.intent.asked.clone(),
            value: asked.intent.value.clone(),
            outcome,
            reason: reason.map(Into::into),
            at: now,
        };
        let driven = self.points.get_mut(&asked.intent.point).map(|point| {
            point.waiting.take_if(|waiting| *waiting == place);
            point.flying.take_if(|flying| flying.what == What::Intent(place));
            if point.told.is_none() {
                point.owner = owner_of(asked);
            }
            point.last = Some(ended.clone());
            Box::new(point.driven(&asked.intent.point, ended))
        });
        self.ends.push_back(Settlement {
            settled: Settled { place: Some(place), driven },
            installation: asked.installation.clone(),
            output: asked.intent.output.clone(),
            entity: Arc::clone(&asked.intent.entity),
            outcome,
            at: now,
        });
        // What was told before may have lapsed, and nothing renews it any more.
        self.watch(&asked.intent.point);
        Some(open)
    }

    /// Has a point looked at by its connector.
    fn offer(&mut self, path: &PointPath, now: Timestamp) {
        // Before the connectors are known nothing is sent.
        let Some(router) = &self.router else { return };
        match router(path) {
            Some(connector) => {
                let point = self.points.get_mut(path);
                if point.is_some_and(|point| !std::mem::replace(&mut point.is_ready, true)) {
                    self.ready.entry(connector).or_default().push_back(path.clone());
                }
            }
            None => {
                if let Some(waiting) = self.points.get(path).and_then(|point| point.waiting) {
                    self.turn_away(waiting, "no connector has set_points for it", now);
                }
            }
        }
    }

    /// Looks at all whose time has come.
    pub(crate) fn tick(&mut self, now: Timestamp) {
        while let Some((_, path)) = self.deadlines.first().filter(|(at, _)| *at <= now).cloned() {
            self.look(&path, now);
        }
    }

    /// The next time at which something is to be looked at.
    pub(crate) fn next_deadline(&self) -> Option<Timestamp> {
        self.deadlines.first().map(|(at, _)| *at)
    }

    /// Has a point looked at when the next of its times comes, which may be over: nobody may have looked since.
    fn watch(&mut self, path: &PointPath) {
        self.watch_behind(path, Timestamp(0));
    }

    /// The same after a look at this time: what was due by then and can't be done now isn't looked at again and again.
    fn watch_behind(&mut self, path: &PointPath, looked: Timestamp) {
        let Some(point) = self.points.get(path) else { return };
        let sent = point.flying.as_ref().and_then(|flying| flying.what.place());
        let lives = [point.waiting, sent].into_iter().flatten();
        let lives = lives.filter_map(|place| Some(self.expires(&self.open.get(&place)?.asked)));
        let until = point.told.as_ref().and_then(|told| told.until);
        // Once it has nothing left of an installation that is gone it is forgotten.
        let gone = (!self.knows(point.owner.generation)).then_some(Timestamp(1));
        let times = lives.chain(until).chain(point.safe_due).chain(point.held).chain(gone);
        let next = times.filter(|at| *at > looked).min();
        if next == point.watched {
            return;
        }
        let Some(point) = self.points.get_mut(path) else { return };
        let before = std::mem::replace(&mut point.watched, next);
        before.map(|before| self.deadlines.remove(&(before, path.clone())));
        next.map(|next| self.deadlines.insert((next, path.clone())));
    }

    fn look(&mut self, path: &PointPath, now: Timestamp) {
        let Some(point) = self.points.get(path) else { return };
        let flying = point.flying.as_ref().and_then(|flying| flying.what.place());
        for place in [flying, point.waiting].into_iter().flatten() {
            if self.open.get(&place).is_some_and(|open| self.expires(&open.asked) <= now) {
                self.settle(place, Outcome::Expired, Some("its time to live was over"), now);
            }
        }
        self.look_for_lapse(path, now);
        if let Some(point) = self.points.get_mut(path) {
            point.held.take_if(|held| *held <= now);
        }
        // Also what waited for the end of the one before it.
        self.offer_again(path, now);
        self.watch_behind(path, now);
        self.landed(path, now);
    }

    /// Takes ends that are to be recorded, in their order: so many of one tenant, and those of the same invocation behind
    /// them. A list whose ends were in two records could begin anew between them.
    pub(crate) fn take_ends(&mut self, most: usize) -> Vec<Settlement> {
        let Some(tenant) = self.ends.front().map(|end| end.installation.tenant()) else { return Vec::new() };
        let own = self.ends.iter().take_while(|end| end.installation.tenant() == tenant);
        let mut count = own.take(most).count();
        let of = |end: &Settlement| end.settled.place.map(|place| (place.generation, place.ordinal));
        while let (Some(last), Some(next)) =
            (count.checked_sub(1).and_then(|last| self.ends.get(last)), self.ends.get(count))
            && of(last).is_some()
            && of(last) == of(next)
        {
            count += 1;
        }
        self.taken += count as u64;
        self.ends.drain(..count).collect()
    }

    /// Counts the ends since the start.
    pub(crate) fn ended(&self) -> u64 {
        self.taken + self.ends.len() as u64
    }

    /// Returns whether there are ends to be recorded.
    pub(crate) fn has_ends(&self) -> bool {
        !self.ends.is_empty()
    }
}

fn list_of(asked: &Asked) -> ListKey {
    (asked.place.generation, asked.place.ordinal, asked.intent.list)
}

fn owner_of(asked: &Asked) -> Owner {
    Owner {
        installation: asked.installation.clone(),
        generation: asked.place.generation,
        output: asked.intent.output.clone(),
        entity: Arc::clone(&asked.intent.entity),
    }
}
