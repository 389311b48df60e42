//! Rules that hold at any time, once there is nothing to do, and in the end.

use super::log::point_of;
use super::*;

impl World {
    fn alive(&self) -> impl Iterator<Item = &Asked> {
        self.asked.values().filter(|asked| !self.ended.contains_key(&asked.place))
    }

    fn flies(&self, place: IntentPlace) -> bool {
        self.flying.values().any(|(what, _)| *what == What::Intent(place))
    }

    pub(super) fn check_always(&mut self) {
        self.forget();
        for point in 0..POINTS {
            let waiting: Vec<IntentPlace> = self
                .alive()
                .filter(|asked| asked.intent.point == path(point) && !self.flies(asked.place))
                .map(|asked| asked.place)
                .collect();
            assert!(waiting.len() <= 1, "only the newest intent waits for {point}: {waiting:?}");
        }
        // What was sent before its connection was lost ends when it is to be sent again.
        for asked in self.alive().filter(|asked| !self.sent.contains(&asked.place)) {
            assert!(!self.refused(asked), "{:?} was to end at once", asked.place);
        }
        self.check_sizes();
    }

    /// With a point that is forgotten goes what was known of it.
    fn forget(&mut self) {
        let known = &self.machine.points;
        self.last_sent.retain(|point, _| known.contains_key(&path(*point)));
        self.since_start.retain(|point, _| known.contains_key(&path(*point)));
    }

    /// Nothing grows with the time, nor with what was asked for.
    fn check_sizes(&self) {
        let machine = &self.machine;
        let points = machine.points.len();
        assert!(points <= usize::from(POINTS));
        assert_eq!(machine.open.len(), self.alive().count());
        // A point that was forgotten leaves the place that it had.
        let gone = (self.app_of.len() - self.apps.len()) * usize::from(POINTS);
        assert!(machine.ready.values().map(VecDeque::len).sum::<usize>() <= points + gone);
        assert!(machine.deadlines.len() <= points);
        assert!(machine.lists.values().flatten().all(|place| machine.open.contains_key(place)));
        assert!(machine.lists.values().all(|list| !list.is_empty()));
        assert_eq!(machine.counts.values().sum::<usize>(), points);
        assert_eq!(machine.ends.len(), self.told_at_ends.len());
    }

    /// Everybody does what there is to do; then what can be sent was, and every machine that is owed its safe value has it.
    pub(super) fn drain(&mut self) {
        // What a connector finds to have ended may leave a safe value, for the next look.
        for _ in 0..2 {
            self.machine.tick(at(self.now));
            self.observe(None);
            for connector in [0, 1, 0, 1] {
                self.take(connector, usize::MAX);
            }
        }
        assert!(self.machine.next_deadline().is_none_or(|next| next > at(self.now)));
        for asked in self.alive() {
            assert!(self.expires(asked) > self.now, "{:?} lives too long", asked.place);
            let point = point_of(asked.intent.point.as_str());
            let waits = self.list_before(asked).any(|before| !self.ended.contains_key(&before));
            assert!(
                waits
                    || self.flying.contains_key(&point)
                    || !self.has_leave(asked)
                    || self.is_held(point, asked.place),
                "{:?} could be sent",
                asked.place
            );
            assert!(
                self.flies(asked.place) || self.routes.contains_key(&point),
                "{:?} has no way",
                asked.place
            );
        }
        for (point, told) in &self.told {
            let Some(safe) = self.owed(told) else { continue };
            let app = super::world::installation(self.app_of[&told.generation]);
            let is_held = self.halted.has(&app) || !self.routes.contains_key(point);
            let was_refused = told.refused.is_some_and(|refused| refused + 5 * SECOND > self.now);
            assert!(
                is_held || was_refused || self.flying.contains_key(point),
                "point {point} is owed {safe}: {told:?}"
            );
        }
    }

    /// In the end everything has an outcome, and nobody is left with a value that nobody vouches for.
    pub(super) fn finish(mut self) {
        for app in self.apps.clone().keys() {
            self.do_step(&Step::Stop { app: *app, stopped: false });
            self.do_step(&Step::Mode { app: *app, mode: Mode::Act });
            self.do_step(&Step::Grant { app: *app, granted: Granted::Wide });
        }
        self.do_step(&Step::Halt { site: false, apps: BTreeSet::new() });
        for point in 0..POINTS {
            self.do_step(&Step::Route { point, connector: Some(0) });
        }
        for _ in 0..20 {
            // Long enough for a safe value that was refused.
            self.do_step(&Step::Wait(LIFE + 5 * SECOND));
            for connector in [0, 1] {
                self.do_step(&Step::Lost { connector });
            }
            self.do_step(&Step::Drain);
            while !self.under_way.is_empty() {
                self.do_step(&Step::Answer { accepted: true });
            }
            self.do_step(&Step::Write);
            self.do_step(&Step::TakeEnds(3));
        }
        self.do_step(&Step::TakeEnds(usize::MAX));
        self.do_step(&Step::Write);
        self.do_step(&Step::TakeEnds(usize::MAX));
        self.do_step(&Step::Write);
        for place in self.asked.keys() {
            assert!(self.recorded.contains_key(place), "{place:?} has no outcome");
        }
        assert_eq!(self.recorded, self.ended);
        for (point, told) in &self.told {
            assert_eq!(self.owed(told), None, "point {point} is not safe: {told:?}");
        }
        let is_known = |driven: &&Driven| self.rights.contains_key(&driven.generation.0);
        for driven in self.driven.values().filter(is_known) {
            let point = &driven.point;
            // Of what stays as it is the log has the time until which the app had vouched.
            let until = driven.told.as_ref().filter(|told| told.safe.is_some()).and_then(|told| told.until);
            assert_eq!(until, None, "somebody still vouches for what {point} was told");
        }
        assert!(self.machine.open.is_empty() && self.machine.lists.is_empty());
        assert!(self.machine.deadlines.is_empty(), "{:?}", self.machine.deadlines);
        for (path, point) in &self.machine.points {
            let is_known = self.rights.contains_key(&point.owner.generation.0);
            assert!(is_known, "{path} isn't forgotten, and its installation is gone");
        }
    }
}
