//! Ends on their way into the log, and what a start finds there.

use super::world::name;
use super::*;

impl World {
    /// Looks at the ends that have come. `answer` is what the one answer, or person, of this moment makes of something.
    pub(super) fn observe(&mut self, answer: Option<(What, Outcome)>) {
        let known = (self.ends - self.machine.taken) as usize;
        let new: Vec<Settlement> = self.machine.ends.iter().skip(known).cloned().collect();
        for end in new {
            self.ends += 1;
            let at = end.settled.driven.as_ref().map(|driven| point_of(driven.point.as_str()));
            self.told_at_ends.push_back(at.map(|point| (point, self.told.get(&point).cloned())));
            let Some(place) = end.settled.place else {
                let point = at.unwrap();
                assert_eq!(answer, Some((What::Safe, end.outcome)), "nobody has answered for point {point}");
                continue;
            };
            assert!(self.asked.contains_key(&place));
            self.check_end(place, end.outcome, answer);
            assert!(self.ended.insert(place, end.outcome).is_none(), "an intent ends once");
            self.flying.retain(|_, (what, _)| *what != What::Intent(place));
        }
        assert_eq!(self.machine.ended(), self.ends);
    }

    fn check_end(&self, place: IntentPlace, outcome: Outcome, answer: Option<(What, Outcome)>) {
        let asked = &self.asked[&place];
        let was_sent = self.sent.contains(&place);
        let is_answer = answer == Some((What::Intent(place), outcome));
        let others = self.asked.values().filter(|other| other.intent.point == asked.intent.point);
        match outcome {
            Outcome::Accepted => assert!(is_answer && was_sent, "nobody has accepted {place:?}"),
            Outcome::Rejected => {
                let no_way = !self.routes.contains_key(&point_of(asked.intent.point.as_str()));
                assert!(is_answer || (no_way && !was_sent), "nobody has refused {place:?}");
            }
            Outcome::Sent => assert!(was_sent, "{place:?} was never sent"),
            _ => assert!(!was_sent, "what may be in force isn't said to have never been sent: {place:?}"),
        }
        match outcome {
            Outcome::Expired => assert!(self.expires(asked) <= self.now),
            Outcome::Superseded => {
                let mut others = others.filter(|other| other.place != place);
                let takes =
                    |other: &Asked| other.number > asked.number || !self.ended.contains_key(&other.place);
                assert!(others.any(takes), "nothing takes the place of {place:?}");
            }
            Outcome::Skipped => {
                let mut before = self.list_before(asked);
                let failed = |end: Option<&Outcome>| end.is_some_and(|end| *end != Outcome::Accepted);
                assert!(
                    before.any(|before| failed(self.ended.get(&before))),
                    "nothing failed before {place:?}"
                );
            }
            Outcome::Revoked => {
                let has_no_right = self.refused(asked);
                let told = self.told.values().chain(self.told_before.values().flatten());
                let mut own = told.filter(|told| told.generation == place.generation.0);
                let goes_safe = own.any(|told| self.may_go_safe(told));
                assert!(is_answer || has_no_right || goes_safe, "nobody has revoked {place:?}");
            }
            Outcome::Shadow => assert_eq!(self.rights[&place.generation.0].mode, Mode::Shadow),
            Outcome::Safe | Outcome::SafeRejected => panic!("a safe value is no intent"),
            Outcome::Accepted | Outcome::Rejected | Outcome::Sent => {}
        }
    }

    /// Those before it in its list.
    pub(super) fn list_before<'a>(&'a self, asked: &'a Asked) -> impl Iterator<Item = IntentPlace> + 'a {
        let places = self.asked.values().filter(|other| list_of(other) == list_of(asked));
        places.map(|other| other.place).filter(|place| *place < asked.place)
    }

    /// The writer takes some.
    pub(super) fn take_ends(&mut self, most: usize) {
        if !self.batch.is_empty() {
            return;
        }
        let ends = self.machine.take_ends(most);
        assert!(ends.len() >= most.min(self.told_at_ends.len()));
        let told = self.told_at_ends.drain(..ends.len());
        self.batch = ends.into_iter().zip(told).collect();
    }

    /// Everything that it has taken comes into the log.
    pub(super) fn write(&mut self) {
        for (end, told) in std::mem::take(&mut self.batch) {
            if let Some(place) = end.settled.place {
                assert!(self.recorded.insert(place, end.outcome).is_none(), "an outcome is recorded once");
            }
            if let (Some(driven), Some((point, told))) = (end.settled.driven, told) {
                self.driven.insert(driven.point.clone(), *driven);
                self.told_in_log.insert(point, told);
            }
        }
    }

    /// A process that was killed: the log has what was committed, confirmed and recorded, and nothing else.
    pub(super) fn restart(&mut self) {
        let open = self.asked.iter().filter(|(place, _)| !self.recorded.contains_key(place));
        let intents = open.map(|(place, asked)| (*place, asked.clone())).collect();
        let found = Found { intents, driven: self.driven.clone() };
        self.batch.clear();
        self.told_at_ends.clear();
        self.under_way.clear();
        self.flying.clear();
        self.confirming.clear();
        self.ends = 0;
        let before = std::mem::replace(&mut self.ended, self.recorded.clone());
        self.risen.extend(before.into_keys().filter(|place| !self.recorded.contains_key(place)));
        self.tell_again();
        self.machine = Machine::default();
        let now = at(self.now);
        for generation in self.app_of.keys().copied().collect::<Vec<_>>() {
            self.disown(generation);
            if self.rights.contains_key(&generation) {
                self.set_rights(generation);
            }
        }
        for forgotten in self.machine.load(found, now) {
            self.driven.remove(&forgotten);
        }
        self.observe(None);
        self.machine.set_halted(self.halted.clone(), now);
        self.observe(None);
        assert!(
            self.machine.next(&name(0), now).is_none(),
            "nothing is sent before the connectors are known"
        );
        self.set_router();
    }

    /// The values that a start takes for told: what the log has of them, but for all that may have been sent and has no end there.
    fn tell_again(&mut self) {
        self.told_before.clear();
        self.safe_ends.values_mut().for_each(|end| *end = None);
        let in_log = self.told_in_log.iter().filter_map(|(point, told)| Some((*point, told.clone()?)));
        self.told = in_log.map(|(point, told)| (point, told.in_log())).collect();
        let open = self.asked.values().filter(|asked| !self.recorded.contains_key(&asked.place));
        let mut open: Vec<Asked> = open.filter(|asked| asked.acts || asked.confirmed).cloned().collect();
        open.sort_unstable_by_key(|asked| asked.number);
        for asked in open {
            self.sent.insert(asked.place);
            let point = point_of(asked.intent.point.as_str());
            self.told.insert(point, self.told_by(&asked));
            // It may be sent again, and has its number for good.
            let number = self.numbers.entry(point).or_insert(0);
            *number = asked.number.min(*number);
        }
        for told in self.told.values_mut() {
            told.safe = None;
        }
        let driven = self.driven.values().filter(|driven| driven.told.is_some());
        self.since_start = driven.map(|driven| (point_of(driven.point.as_str()), driven.last.at.0)).collect();
        let open = self.asked.values().filter(|asked| !self.recorded.contains_key(&asked.place));
        let open = open.filter(|asked| asked.acts || asked.confirmed);
        self.since_start.extend(open.map(|asked| (point_of(asked.intent.point.as_str()), self.now)));
    }
}

pub(super) fn point_of(path: &str) -> u8 {
    path.split('/').nth(1).unwrap().parse().unwrap()
}
