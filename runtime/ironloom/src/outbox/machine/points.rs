//! Points that set-points go to: how they come, what is known of them, and when they are forgotten.

use std::sync::Arc;

use super::{Machine, Point, owner_of};
use crate::records::intent::{Asked, Driven, Ended, IntentPlace, Told};
use ironloom_types::ids::{Generation, PointPath};
use ironloom_types::limits::{MAX_DRIVEN, MAX_SITE_DRIVEN};

impl Machine {
    /// Notes the point of an intent, if there is room for it.
    pub(super) fn enter(&mut self, asked: &Asked, was_sent: bool) -> bool {
        let path = asked.intent.point.clone();
        let generation = asked.place.generation;
        if !self.has_room(&path, generation) {
            return false;
        }
        let told = self.told(asked);
        let point = self.points.entry(path.clone()).or_insert_with(|| {
            *self.counts.entry(generation).or_default() += 1;
            Point {
                waiting: None,
                flying: None,
                safe_due: None,
                told: None,
                passed: 0,
                sent: None,
                held: None,
                owner: owner_of(asked),
                last: None,
                counted: generation,
                watched: None,
                is_ready: false,
            }
        });
        if was_sent {
            // The machine may have it; then it made a safe value needless.
            point.safe_due = None;
            point.told = Some(told);
            point.owner = owner_of(asked);
            self.recount(&path);
            self.watch(&path);
        }
        true
    }

    /// Returns whether a point may be driven by an installation.
    fn has_room(&self, path: &PointPath, generation: Generation) -> bool {
        self.points.contains_key(path)
            || (self.points.len() < MAX_SITE_DRIVEN
                && self.counts.get(&generation).copied().unwrap_or_default() < MAX_DRIVEN)
    }

    /// Makes what a machine is told with an intent.
    pub(super) fn told(&self, asked: &Asked) -> Told {
        Told {
            value: asked.intent.value.clone(),
            number: asked.number,
            until: Some(self.expires(asked)),
            safe: self.safe_of(asked),
        }
    }

    /// Forgets a point of an installation that is gone, once it owes its machine nothing; returns whether it has. The store does at
    /// the next start.
    pub(super) fn forget(&mut self, path: &PointPath) -> bool {
        let Some(point) = self.points.get(path) else { return false };
        let generation = point.owner.generation;
        let is_idle = point.waiting.is_none() && point.flying.is_none() && point.safe_due.is_none();
        let has_safe = point.told.as_ref().is_some_and(|told| told.safe.is_some());
        if self.knows(generation) || !is_idle || has_safe {
            return false;
        }
        let (counted, watched) = (point.counted, point.watched);
        self.points.remove(path);
        watched.map(|watched| self.deadlines.remove(&(watched, path.clone())));
        self.uncount(counted);
        true
    }

    /// Counts a point among those of whoever drives it now.
    pub(super) fn recount(&mut self, path: &PointPath) {
        let Some(point) = self.points.get_mut(path) else { return };
        let now = point.owner.generation;
        let before = std::mem::replace(&mut point.counted, now);
        self.uncount(before);
        *self.counts.entry(now).or_default() += 1;
    }

    fn uncount(&mut self, generation: Generation) {
        if let Some(count) = self.counts.get_mut(&generation) {
            *count = count.saturating_sub(1);
            if *count == 0 {
                self.counts.remove(&generation);
            }
        }
    }
}

impl Point {
    /// Returns whether nobody vouches for what the machine was told, and it does not have its safe value.
    pub(super) fn owes_safe(&self) -> bool {
        self.told.as_ref().is_some_and(|told| told.until.is_none() && told.safe.is_some())
    }

    /// There is a newer intent: gives the one that it takes the place of, of those that it may.
    pub(super) fn overtake(&mut self, may: impl Fn(&IntentPlace) -> bool) -> Option<IntentPlace> {
        if let Some(flying) = &self.flying
            && flying.what.place().is_some_and(|place| may(&place))
        {
            self.passed = flying.number;
        }
        self.waiting.filter(may)
    }

    /// As the store keeps it, after this end.
    pub(super) fn driven(&self, point: &PointPath, last: Ended) -> Driven {
        Driven {
            point: point.clone(),
            installation: self.owner.installation.clone(),
            generation: self.owner.generation,
            output: self.owner.output.clone(),
            entity: Arc::clone(&self.owner.entity),
            told: self.told.clone(),
            passed: self.passed,
            last,
        }
    }
}
