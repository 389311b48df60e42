//! Messages on the wire, and what machines may have been told by them.

use super::granted::May;
use super::log::point_of;
use super::world::{installation, name};
use super::*;

/// A value that a machine may have.
#[derive(Clone, Debug)]
pub(super) struct ToldOf {
    pub generation: u64,
    pub value: f64,
    /// The app vouches for it until then.
    pub until: u64,
    /// Its app was stopped since: the safe value is owed, ...
    pub disowned: bool,
    /// ... though after a refusal, or a restart, the outbox may not know it any more.
    pub is_unsure: bool,
    /// It is the safe value, and was accepted.
    pub is_safe: bool,
    /// It is the safe value, and may not have come to the machine.
    pub is_open: bool,
    /// When the safe value was refused last.
    pub refused: Option<u64>,
    /// It needn't wait after that: another safe value was granted, or another set-point sent, since then.
    pub is_changed: bool,
    /// The safe value that was granted last; the outer `None` where that isn't known.
    pub safe: Option<Option<f64>>,
}

impl ToldOf {
    /// As a start has it.
    pub(super) fn in_log(mut self) -> Self {
        self.is_unsure = true;
        self.refused = None;
        self
    }
}

impl World {
    /// The end of an intent's life by what is granted now.
    pub(super) fn expires(&self, asked: &Asked) -> u64 {
        let life = asked.intent.time_to_live;
        let may = self.rights.get(&asked.place.generation.0);
        asked.at.0 + may.map_or(life, |may| may.granted.life(life))
    }

    /// Returns true where its installation has no right to it, or is held back.
    pub(super) fn refused(&self, asked: &Asked) -> bool {
        let May { mode, stopped, granted } = match self.rights.get(&asked.place.generation.0) {
            Some(may) => *may,
            None => return true,
        };
        let value = real(&asked.intent.value);
        stopped || mode == Mode::Shadow || !granted.allows(value) || self.halted.has(&asked.installation)
    }

    pub(super) fn has_leave(&self, asked: &Asked) -> bool {
        let may = self.rights.get(&asked.place.generation.0);
        asked.confirmed || (asked.acts && may.is_some_and(|may| may.mode == Mode::Act))
    }

    pub(super) fn told_by(&self, asked: &Asked) -> ToldOf {
        let may = self.rights.get(&asked.place.generation.0);
        ToldOf {
            generation: asked.place.generation.0,
            value: real(&asked.intent.value),
            until: self.expires(asked),
            disowned: false,
            is_unsure: false,
            is_safe: false,
            is_open: false,
            refused: None,
            is_changed: false,
            safe: may.and_then(|may| may.granted.safe()),
        }
    }

    fn is_stopped(&self, generation: u64) -> bool {
        self.rights.get(&generation).is_none_or(|may| may.stopped)
    }

    /// Returns true where nobody vouches for it.
    pub(super) fn may_go_safe(&self, told: &ToldOf) -> bool {
        told.disowned || told.until <= self.now || self.is_stopped(told.generation)
    }

    /// Gives the safe value that the machine must have, if it must.
    pub(super) fn owed(&self, told: &ToldOf) -> Option<f64> {
        let lapsed = told.until <= self.now || self.is_stopped(told.generation);
        let safe = self.safe_now(told)?;
        let is_due = lapsed || (told.disowned && !told.is_unsure);
        // Where the grant changed while it was on its way it isn't known any more which of them the machine has.
        let is_known = !(told.is_open && told.is_changed);
        (is_due && is_known && (told.is_open || safe != told.value)).then_some(safe)
    }

    /// The safe value of what was told: that which is granted, or was at last.
    fn safe_now(&self, told: &ToldOf) -> Option<f64> {
        let granted = self.rights.get(&told.generation).and_then(|may| may.granted.safe());
        granted.or(told.safe).flatten()
    }

    /// Nobody vouches for what a stopped installation told, also when it goes on at once.
    pub(super) fn disown(&mut self, generation: u64) {
        if !self.is_stopped(generation) {
            return;
        }
        let is_gone = !self.rights.contains_key(&generation);
        for told in self.told.values_mut().filter(|told| told.generation == generation) {
            told.disowned = true;
            if is_gone && told.is_changed {
                // It changed while a safe value was on its way: either may be the last that is known.
                told.safe = None;
            }
        }
        let ends = self.told_at_ends.iter_mut().chain(self.batch.iter_mut().map(|(_, told)| told));
        let ends = ends.flatten().filter_map(|(_, told)| told.as_mut());
        let others = ends.chain(self.told_before.values_mut().flatten());
        let others = others.chain(self.told_in_log.values_mut().flatten());
        for told in others.filter(|told| told.generation == generation) {
            (told.disowned, told.is_unsure) = (true, true);
        }
    }

    /// The safe values of what an installation has told are those that it is granted now.
    pub(super) fn renew_safe(&mut self, generation: u64) {
        let Some(safe) = self.rights.get(&generation).and_then(|may| may.granted.safe()) else { return };
        let told = self.told.values_mut().chain(self.told_before.values_mut().flatten());
        for told in told.filter(|told| told.generation == generation) {
            told.is_changed |= told.safe.is_some_and(|before| before != safe);
            told.safe = Some(safe);
            // Once another one is granted this one is sent again, too, if it is granted again.
            told.is_safe &= safe == Some(told.value);
        }
    }

    pub(super) fn take(&mut self, connector: u8, most: usize) {
        for _ in 0..most {
            let command = self.machine.next(&name(connector), at(self.now));
            // What ended on the way did so before.
            self.observe(None);
            let Some(command) = command else { return };
            self.check_sent(connector, &command);
            self.under_way.push((connector, command.clone()));
            self.all.push(command);
        }
    }

    /// The answer to something that is under way.
    pub(super) fn answer(&mut self, which: usize, accepted: bool) {
        if which >= self.under_way.len() {
            return;
        }
        let (_, command) = self.under_way.remove(which);
        let point = point_of(command.point.as_str());
        // To something that has ended since it says nothing any more.
        let counts = self.flying.get(&point).is_some_and(|(what, _)| *what == command.what);
        let outcome = match (command.what, accepted) {
            (What::Intent(_), true) => Outcome::Accepted,
            (What::Intent(_), false) => Outcome::Rejected,
            (What::Safe, true) => Outcome::Safe,
            (What::Safe, false) => Outcome::SafeRejected,
        };
        if counts {
            self.flying.remove(&point);
            self.heed(point, outcome);
        }
        let answer = if accepted { Answer::Accepted } else { Answer::Rejected("no".to_owned()) };
        let ends = self.ends;
        self.machine.answered(&command.point, command.what, answer, at(self.now));
        self.observe(counts.then_some((command.what, outcome)));
        match command.what {
            _ if !counts => {}
            What::Intent(place) => assert_eq!(self.ended.get(&place), Some(&outcome)),
            // The same word again is no news.
            What::Safe => {
                let end = (accepted, if accepted { real(&command.value) } else { 0.0 });
                let before = self.safe_ends.insert(point, Some(end));
                let is_news = before.is_none_or(|before| before.is_some_and(|before| before != end));
                assert!(!is_news || self.ends > ends, "point {point} has its safe value, and nobody says so");
            }
        }
    }

    /// The value that a machine has after an answer.
    fn heed(&mut self, point: u8, outcome: Outcome) {
        match outcome {
            Outcome::Accepted => drop(self.safe_ends.remove(&point)),
            Outcome::Rejected => {
                self.safe_ends.remove(&point);
                match self.told_before.remove(&point).flatten() {
                    // An old refusal of its safe value is forgotten.
                    Some(before) => self.told.insert(point, ToldOf { is_changed: true, ..before }),
                    None => self.told.remove(&point),
                };
            }
            Outcome::Safe => {
                let told = self.told.get_mut(&point).unwrap();
                // Another one may be granted by now.
                told.is_safe = told.safe.is_none_or(|safe| safe == Some(told.value));
                told.is_open = false;
            }
            _ => self.told.get_mut(&point).unwrap().refused = Some(self.now),
        }
    }

    pub(super) fn lose(&mut self, connector: u8) {
        self.under_way.retain(|(of, _)| *of != connector);
        self.flying.retain(|_, (_, of)| *of != connector);
        self.machine.lost(&name(connector), at(self.now));
    }

    /// The kill switch was turned on: the connection of what is under way is closed, so that no answer to it comes.
    pub(super) fn cut_off(&mut self) {
        let told = &self.told;
        let is_halted = |point: &u8| {
            let generation = told.get(point).map(|told| told.generation);
            generation.is_some_and(|generation| self.halted.has(&installation(self.app_of[&generation])))
        };
        let halted: BTreeSet<u8> = (0..POINTS).filter(is_halted).collect();
        self.flying.retain(|point, _| !halted.contains(point));
        self.under_way.retain(|(_, command)| !halted.contains(&point_of(command.point.as_str())));
    }

    /// Checks what holds of each command at the moment that it is sent.
    fn check_sent(&mut self, connector: u8, command: &Command) {
        let point = point_of(command.point.as_str());
        assert_eq!(self.routes.get(&point), Some(&connector), "the point is another connector's");
        let number = self.numbers.insert(point, command.number).unwrap_or(0);
        match command.what {
            What::Safe => {
                assert!(number <= command.number, "numbers rise");
                self.check_safe(point, command);
            }
            What::Intent(place) => {
                // The same one again has the same number.
                assert!(number < command.number || (number == command.number && self.sent.contains(&place)));
                self.check_intent(point, place, command);
                self.check_rate(point, place);
                self.sent.insert(place);
                let told = self.told_by(&self.asked[&place]);
                assert_eq!(command.expires, Some(at(told.until)));
                let before = self.told.insert(point, told);
                self.told_before.insert(point, before);
            }
        }
        self.flying.insert(point, (command.what, connector));
    }

    fn check_safe(&mut self, point: u8, command: &Command) {
        let told = self.told[&point].clone();
        let value = real(&command.value);
        assert_eq!((command.id, command.expires), (None, None));
        let app = installation(self.app_of[&told.generation]);
        assert!(!self.halted.has(&app), "the kill switch holds safe values back");
        assert!(self.may_go_safe(&told), "somebody vouches for what {point} was told");
        match self.rights.get(&told.generation).and_then(|may| may.granted.safe()).or(told.safe) {
            Some(safe) => assert_eq!(safe, Some(value), "the safe value is that of the present grant"),
            None => assert!([0.0, 6.0].contains(&value)),
        }
        assert!(!(told.is_safe && told.value == value), "point {point} has its safe value already");
        if let Some(refused) = told.refused {
            assert!(refused + 5 * SECOND <= self.now || told.is_changed, "it was refused just now");
        }
        // All that the app had asked for, and wasn't sent, was withdrawn before, unless it had lapsed without a safe value.
        for asked in self.asked.values().filter(|asked| asked.place.generation.0 == told.generation) {
            let was_sent = self.sent.contains(&asked.place);
            let was_before = self.committed[&asked.place] < told.until && told.until <= self.now;
            assert!(
                self.ended.contains_key(&asked.place)
                    || was_sent
                    || told.disowned
                    || told.is_changed
                    || !was_before,
                "{:?} was to be withdrawn",
                asked.place
            );
        }
        self.told.insert(
            point,
            ToldOf { value, disowned: true, is_safe: false, is_open: true, refused: None, ..told },
        );
    }

    /// Two intents of a point are as far apart as is granted. The same one again is no other.
    fn check_rate(&mut self, point: u8, place: IntentPlace) {
        let every = self.every(place);
        if let Some((last, sent)) = self.last_sent.insert(point, (place, self.now)) {
            assert!(last == place || sent + every <= self.now, "{place:?} comes too soon behind {last:?}");
        }
        self.since_start.insert(point, self.now);
    }

    fn every(&self, place: IntentPlace) -> u64 {
        self.rights.get(&place.generation.0).map_or(0, |may| may.granted.every())
    }

    /// Returns true where an intent may come too soon behind another one.
    pub(super) fn is_held(&self, point: u8, place: IntentPlace) -> bool {
        self.since_start.get(&point).is_some_and(|sent| sent + self.every(place) > self.now)
    }

    fn check_intent(&self, point: u8, place: IntentPlace, command: &Command) {
        let asked = &self.asked[&place];
        assert_eq!((command.id, command.number), (Some(place.id()), asked.number));
        assert_eq!((&command.value, &command.point), (&asked.intent.value, &asked.intent.point));
        assert!(!self.ended.contains_key(&place), "what has an outcome isn't sent");
        assert!(self.expires(asked) > self.now, "nothing is sent past its life");
        assert!(!self.refused(asked), "it is held back, or not granted");
        assert!(self.has_leave(asked), "nobody has given leave");
        assert!(!self.flying.contains_key(&point), "one is on its way at most");
        // A later one of its app takes its place in any case, one of another app where that may be sent.
        let same_point = self.asked.values().filter(|later| later.intent.point == asked.intent.point);
        for later in same_point.filter(|later| later.number > asked.number) {
            let ended = self.ended.contains_key(&later.place);
            // The end of a later one may be recorded, and not that of the older whose place it took.
            let is_risen = self.risen.contains(&place) && self.recorded.contains_key(&later.place);
            let is_own = later.place.generation == place.generation;
            assert!(!is_own || is_risen, "only the newest intent is sent");
            assert!(ended || !self.has_leave(later), "only the newest intent is sent");
        }
        for before in self.list_before(asked) {
            let end = self.ended.get(&before);
            assert_eq!(end, Some(&Outcome::Accepted), "{place:?} waits for {before:?}");
        }
    }
}

pub(super) fn real(value: &Value) -> f64 {
    let Value::Real(value) = value else { panic!("{value:?}") };
    *value
}
