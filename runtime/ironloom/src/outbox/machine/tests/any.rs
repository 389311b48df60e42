//! Any course of events, against what must hold whatever the machine does inside.

use std::collections::{BTreeMap, BTreeSet};

use proptest::prelude::*;

use super::*;
use ironloom_types::clock::SECOND;

#[derive(Clone, Debug)]
enum Step {
    /// An invocation of an installation, with its lists of points and values.
    Ask {
        generation: u64,
        lists: Vec<Vec<(u8, bool)>>,
    },
    /// The connector takes all that there is.
    Take,
    /// The oldest command that isn't answered is answered.
    Answer {
        accepted: bool,
    },
    /// The answer to some command comes, which may have ended long ago.
    AnswerAny {
        which: usize,
        accepted: bool,
    },
    Lost,
    Wait(u64),
    Stop {
        generation: u64,
        stopped: bool,
    },
    Mode {
        generation: u64,
        mode: Mode,
    },
    Confirm {
        which: usize,
    },
    Halt {
        site: bool,
        first: bool,
    },
    Restart,
}

fn step() -> impl Strategy<Value = Step> {
    let list = || {
        prop::collection::btree_map(0u8..4, any::<bool>(), 1..4).prop_map(|list| list.into_iter().collect())
    };
    let lists = prop::collection::vec(list(), 1..3);
    prop_oneof![
        6 => (1u64..3, lists).prop_map(|(generation, lists)| Step::Ask { generation, lists }),
        6 => Just(Step::Take),
        6 => any::<bool>().prop_map(|one| Step::Answer { accepted: one }),
        1 => (any::<usize>(), any::<bool>()).prop_map(|(which, accepted)| Step::AnswerAny { which, accepted }),
        1 => Just(Step::Lost),
        4 => (1..80u64).prop_map(Step::Wait),
        1 => (1u64..3, any::<bool>()).prop_map(|(generation, stopped)| Step::Stop { generation, stopped }),
        1 => (1u64..3, prop::sample::select(vec![Mode::Act, Mode::Advise, Mode::Shadow]))
            .prop_map(|(generation, mode)| Step::Mode { generation, mode }),
        1 => any::<usize>().prop_map(|which| Step::Confirm { which }),
        1 => (any::<bool>(), any::<bool>()).prop_map(|(site, first)| Step::Halt { site, first }),
        1 => Just(Step::Restart),
    ]
}

/// All that the world knows: what was asked, what went over the wire, what was recorded.
struct World {
    machine: Machine,
    now: u64,
    ordinal: u64,
    asked: BTreeMap<IntentPlace, Asked>,
    ended: BTreeMap<IntentPlace, Outcome>,
    sent: BTreeSet<IntentPlace>,
    confirmed: BTreeSet<IntentPlace>,
    /// Sent and not answered, over the connection that there is.
    under_way: Vec<Command>,
    /// All commands that ever were.
    all: Vec<Command>,
    rights: BTreeMap<u64, (Mode, bool)>,
    halted: Halted,
    driven: BTreeMap<Arc<str>, Driven>,
    /// The value that each machine may have, and until when its app vouches for it.
    told: BTreeMap<Arc<str>, (u64, u64)>,
    /// The same, before what was sent last: where it is refused, this holds.
    told_before: BTreeMap<Arc<str>, Option<(u64, u64)>>,
    /// The rising numbers on the wire.
    numbers: BTreeMap<Arc<str>, u64>,
}

impl World {
    fn new() -> Self {
        let rights = [(1, (Mode::Act, false)), (2, (Mode::Act, false))].into();
        Self {
            machine: machine(),
            now: 1,
            ordinal: 0,
            asked: BTreeMap::new(),
            ended: BTreeMap::new(),
            sent: BTreeSet::new(),
            confirmed: BTreeSet::new(),
            under_way: Vec::new(),
            all: Vec::new(),
            rights,
            halted: Halted::default(),
            driven: BTreeMap::new(),
            told: BTreeMap::new(),
            told_before: BTreeMap::new(),
            numbers: BTreeMap::new(),
        }
    }

    fn do_step(&mut self, step: &Step) {
        let now = at(self.now);
        match step {
            Step::Ask { generation, lists } => self.ask(*generation, lists),
            Step::Take => {
                while let Some(command) = self.machine.next(&plc(), now) {
                    self.check_sent(&command);
                    self.under_way.push(command.clone());
                    self.all.push(command);
                }
            }
            Step::Answer { accepted } => {
                if !self.under_way.is_empty() {
                    let command = self.under_way.remove(0);
                    self.answer(&command, *accepted);
                }
            }
            Step::AnswerAny { which, accepted } => {
                if let Some(command) = self.all.get(which % self.all.len().max(1)).cloned() {
                    // Over a connection that is gone nothing comes.
                    if let Some(at) = self.under_way.iter().position(|one| *one == command) {
                        self.under_way.remove(at);
                        self.answer(&command, *accepted);
                    }
                }
            }
            Step::Lost => {
                self.under_way.clear();
                self.machine.lost(&plc(), now);
            }
            Step::Wait(time) => {
                self.now += time;
                self.machine.tick(at(self.now));
            }
            Step::Stop { generation, stopped } => {
                self.rights.get_mut(generation).unwrap().1 = *stopped;
                self.disown();
                self.set_rights(*generation);
            }
            Step::Mode { generation, mode } => {
                self.rights.get_mut(generation).unwrap().0 = *mode;
                self.set_rights(*generation);
            }
            Step::Confirm { which } => {
                let places: Vec<_> = self.asked.keys().copied().collect();
                let Some(place) = places.get(which % places.len().max(1)) else { return };
                let Some(asked) = self.machine.unconfirmed(place.id()) else { return };
                assert!(!self.ended.contains_key(place), "only what has no outcome is confirmed");
                if self.machine.refusal(&asked, now).is_none() {
                    self.confirmed.insert(*place);
                    self.asked.get_mut(place).unwrap().confirmed = true;
                    self.machine.confirm(Asked { confirmed: true, ..Asked::clone(&asked) }, now);
                }
            }
            Step::Halt { site, first } => {
                let installations = if *first {
                    BTreeSet::from([InstallationId::new("app-1").unwrap()])
                } else {
                    BTreeSet::new()
                };
                self.halted = Halted { site: *site, installations };
                self.machine.set_halted(self.halted.clone(), now);
            }
            Step::Restart => self.restart(),
        }
        self.record();
    }

    fn ask(&mut self, generation: u64, lists: &[Vec<(u8, bool)>]) {
        self.ordinal += 1;
        let mut all = Vec::new();
        for (list, points) in (0..).zip(lists) {
            for (point, high) in points {
                let place = (self.ordinal, all.len() as u32, list);
                let value = match (point, high) {
                    // No longer granted by the time that it is committed.
                    (3, true) => 40.0,
                    (_, high) => {
                        if *high {
                            32.0
                        } else {
                            8.0
                        }
                    }
                };
                all.push(asked_of(generation, place, *point, value, self.now));
            }
        }
        let acts = self.rights[&generation].0 == Mode::Act;
        for asked in &mut all {
            asked.acts = acts;
            self.asked.insert(asked.place, asked.clone());
        }
        self.machine.commit(all, at(self.now));
    }

    /// Nobody vouches for what a stopped installation told, also when it goes on at once.
    fn disown(&mut self) {
        let told = self.told.values_mut().chain(self.told_before.values_mut().flatten());
        told.filter(|told| self.rights[&told.0].1).for_each(|told| told.1 = u64::MAX);
    }

    fn set_rights(&mut self, generation: u64) {
        let (mode, stopped) = self.rights[&generation];
        self.machine.set_rights(Generation(generation), rights(mode, stopped), at(self.now));
    }

    fn answer(&mut self, command: &Command, accepted: bool) {
        let is_open = command.what.place().is_some_and(|place| !self.ended.contains_key(&place));
        if is_open && !accepted {
            match self.told_before[&command.point] {
                Some(before) => self.told.insert(Arc::clone(&command.point), before),
                None => self.told.remove(&command.point),
            };
        }
        let answer = if accepted { Answer::Accepted } else { Answer::Rejected("no".to_owned()) };
        self.machine.answered(&command.point, command.what, answer, at(self.now));
    }

    /// Checks what holds of each command at the moment that it is sent.
    fn check_sent(&mut self, command: &Command) {
        let number = self.numbers.insert(Arc::clone(&command.point), command.number);
        // The same one again has the same number.
        assert!(number.is_none_or(|before| before <= command.number));
        match command.what {
            What::Safe => {
                assert_eq!(command.value, Value::Real(6.0));
                assert!(!self.halted.site, "the kill switch holds safe values back");
                let (generation, until) = self.told[&command.point];
                let (_, stopped) = self.rights[&generation];
                assert!(!self.halted.has(&InstallationId::new(&format!("app-{generation}")).unwrap()));
                let lapsed = until <= self.now;
                assert!(
                    lapsed || stopped || until == u64::MAX,
                    "somebody vouches for what {} was told",
                    command.point
                );
                self.told.insert(Arc::clone(&command.point), (generation, u64::MAX));
            }
            What::Intent(place) => {
                let asked = &self.asked[&place];
                let again = self.sent.contains(&place);
                assert!(
                    number
                        .is_none_or(|before| before < command.number || (again && before == command.number))
                );
                assert!(!self.ended.contains_key(&place), "what has an outcome isn't sent");
                assert_ne!(command.value, Value::Real(40.0), "it isn't granted");
                assert_eq!(
                    (&command.value, &*command.point),
                    (&asked.intent.value, asked.intent.point.as_str())
                );
                assert!(asked.expires().0 > self.now, "nothing is sent past its life");
                assert!(!self.halted.has(&asked.installation), "the kill switch holds it back");
                let (mode, stopped) = self.rights[&place.generation.0];
                assert!(!stopped && mode != Mode::Shadow);
                assert!((asked.acts && mode == Mode::Act) || self.confirmed.contains(&place));
                // A later one of its app takes its place in any case, one of another app where that may be sent.
                let later = self
                    .asked
                    .values()
                    .filter(|later| later.intent.point == asked.intent.point && later.number > asked.number);
                for later in later {
                    assert_ne!(later.place.generation, place.generation, "only the newest intent is sent");
                    assert!(self.ended.contains_key(&later.place), "only the newest intent is sent");
                }
                let is_intent = |one: &&Command| one.point == command.point && one.what != What::Safe;
                let open =
                    |one: &&Command| one.what.place().is_some_and(|place| !self.ended.contains_key(&place));
                assert!(
                    !self.under_way.iter().filter(is_intent).any(|one| open(&one)),
                    "one is on its way at most"
                );
                for before in self.asked.values() {
                    let is_before = list_of(before) == list_of(asked) && before.place < place;
                    assert!(!is_before || self.ended.get(&before.place) == Some(&Outcome::Accepted));
                }
                self.sent.insert(place);
                let told = (place.generation.0, asked.expires().0);
                let before = self.told.insert(Arc::clone(&command.point), told);
                self.told_before.insert(Arc::clone(&command.point), before);
            }
        }
    }

    /// Takes the ends over, as the log would.
    fn record(&mut self) {
        for end in self.machine.take_ends(usize::MAX) {
            if let Some(driven) = end.settled.driven {
                self.driven.insert(driven.point.to_arc(), *driven);
            }
            let Some(place) = end.settled.place else { continue };
            assert!(self.ended.insert(place, end.outcome).is_none(), "an intent ends once");
            let was_sent = self.sent.contains(&place);
            match end.outcome {
                Outcome::Accepted | Outcome::Rejected => assert!(was_sent),
                Outcome::Superseded
                | Outcome::Skipped
                | Outcome::Revoked
                | Outcome::Expired
                | Outcome::Shadow => {
                    assert!(!was_sent, "what may be in force isn't said to have never been sent");
                }
                Outcome::Sent => {}
                Outcome::Safe | Outcome::SafeRejected => panic!("a safe value is no intent"),
            }
        }
    }

    /// A process that was killed: the log has what was committed and recorded.
    fn restart(&mut self) {
        self.record();
        let intents = self.asked.iter().filter(|(place, _)| !self.ended.contains_key(place));
        let intents = intents.map(|(place, asked)| (*place, asked.clone())).collect();
        let found = Found { intents, driven: self.driven.clone() };
        self.under_way.clear();
        self.machine = Machine::default();
        for generation in [1, 2] {
            self.set_rights(generation);
        }
        let now = at(self.now);
        self.machine.load(found, now);
        self.machine.set_halted(self.halted.clone(), now);
        self.machine.set_router(Arc::new(|path| path.starts_with("plant/").then(plc)), now);
        // What may have been sent counts as told.
        let open = self.asked.values().filter(|asked| !self.ended.contains_key(&asked.place));
        let mut sent: Vec<_> = open.filter(|asked| asked.acts || asked.confirmed).collect();
        sent.sort_unstable_by_key(|asked| asked.number);
        for asked in sent {
            let told = (asked.place.generation.0, asked.expires().0);
            self.told.insert(asked.intent.point.to_arc(), told);
            self.sent.insert(asked.place);
        }
        self.disown();
    }

    /// In the end everything has an outcome, and nobody is left with a value that nobody vouches for.
    fn finish(mut self) {
        for generation in [1, 2] {
            self.rights.insert(generation, (Mode::Act, false));
            self.set_rights(generation);
        }
        self.do_step(&Step::Halt { site: false, first: false });
        for _ in 0..20 {
            // Long enough for a safe value that was refused.
            self.do_step(&Step::Wait(LIFE + 10 * SECOND));
            self.do_step(&Step::Lost);
            self.do_step(&Step::Take);
            while !self.under_way.is_empty() {
                self.do_step(&Step::Answer { accepted: true });
            }
        }
        for place in self.asked.keys() {
            assert!(self.ended.contains_key(place), "{place:?} has no outcome");
        }
        for (point, driven) in &self.driven {
            if let Some(told) = &driven.told {
                assert_eq!(told.until, None, "somebody still vouches for what {point} was told");
            }
        }
        assert!(self.machine.open.is_empty() && self.machine.lists.is_empty());
        assert!(self.machine.deadlines.is_empty(), "{:?}", self.machine.deadlines);
    }
}

proptest! {
    #![proptest_config(ironloom_mutate::cases(2_000))]

    #[test]
    fn the_rules_hold_in_any_course_of_events(steps in prop::collection::vec(step(), 1..60)) {
        let mut world = World::new();
        for step in &steps {
            world.do_step(step);
        }
        world.finish();
    }
}
