//! A model of the way from a request to a charger, second by second: what the host sends when, what chargers answer, and what
//! each of them may have been told.
//!
//! - The requests of one list go out in their order, each after the one before was accepted; if one isn't, the rest has
//!   the outcome `skipped`.
//! - For each station the newest unsent request is kept (the older one's outcome: `superseded`), and at most one is under way.
//! - A request that isn't sent within its life never is (`expired`); one that isn't answered within its life has the outcome `sent`.
//! - A station whose last accepted limit isn't followed by another accepted one within its life is sent the safe value
//!   (`safe`), and again as long as it refuses. Before that all that wasn't sent is withdrawn (`revoked`).

#![allow(dead_code, clippy::panic, reason = "each test uses a part of it, and fails by panicking")]

use std::collections::BTreeMap;

use ironloom_sdk::testing::{Datum, RequestedIntent};

/// The manner in which a charger treats what it is sent.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Manner {
    /// Takes it at once.
    Answers,
    /// Takes it, and answers after so many seconds.
    AnswersAfter(u64),
    /// Takes it, or not: nobody knows.
    NeverAnswers,
    /// Refuses it: it isn't in force.
    Refuses,
    /// Can't be reached: nothing is sent.
    Unreachable,
}

/// A charger, and what it may have been told.
#[derive(Clone, Debug)]
pub(crate) struct Charger {
    pub(crate) manner: Manner,
    /// All limits that may be in force: the last that was accepted, and what was sent since.
    told: Vec<f64>,
    /// When the safe value goes out.
    lapses: Option<u64>,
    safe_refused: bool,
    /// So often it has taken the safe value.
    pub(crate) went_safe: u32,
}

#[derive(Clone, Debug)]
struct Request {
    station: String,
    amps: f64,
    until: u64,
    list: u64,
    sent: Option<u64>,
}

/// A limit that was sent.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Sent {
    pub(crate) station: String,
    pub(crate) amps: f64,
    /// The station may have more now than before.
    pub(crate) raises: bool,
    /// The most that all stations may have been told together afterwards.
    pub(crate) sum: f64,
}

pub(crate) struct Outbox {
    pub(crate) chargers: BTreeMap<String, Charger>,
    /// Outcomes that the app hasn't been told, in their order.
    pub(crate) outcomes: Vec<(String, &'static str)>,
    /// The requests without an outcome, in their order.
    requests: Vec<Request>,
    safe: f64,
}

impl Outbox {
    pub(crate) fn new(safe: f64) -> Self {
        Self { chargers: BTreeMap::new(), outcomes: Vec::new(), requests: Vec::new(), safe }
    }

    pub(crate) fn charger(&mut self, station: &str) -> &mut Charger {
        let new = || Charger {
            manner: Manner::Answers,
            told: Vec::new(),
            lapses: None,
            safe_refused: false,
            went_safe: 0,
        };
        self.chargers.entry(station.to_owned()).or_insert_with(new)
    }

    /// The highest limit that a station may have been told.
    pub(crate) fn told(&self, station: &str) -> f64 {
        self.chargers.get(station).map_or(0.0, Charger::most)
    }

    /// The most that all stations may have been told together.
    pub(crate) fn sum(&self) -> f64 {
        self.chargers.values().map(Charger::most).sum()
    }

    /// Takes what an invocation requested.
    pub(crate) fn commit(&mut self, intents: &[RequestedIntent]) {
        for intent in intents {
            let Datum::Real(amps) = intent.value else { panic!("a limit is real") };
            assert!(amps == 0.0 || (6.0..=32.0).contains(&amps), "a limit of {amps} A for {}", intent.entity);
            let older = self.requests.iter().position(|r| r.station == intent.entity && r.sent.is_none());
            if let Some(older) = older {
                self.end(older, "superseded");
            }
            self.charger(&intent.entity);
            self.requests.push(Request {
                station: intent.entity.clone(),
                amps,
                until: (intent.at + intent.time_to_live).seconds() as u64,
                list: intent.list,
                sent: None,
            });
        }
    }

    /// Does everything that happens in a second; gives what was sent.
    pub(crate) fn second(&mut self, now: u64) -> Vec<Sent> {
        let mut all = Vec::new();
        while let Some(sent) = self.step(now) {
            all.extend(sent);
        }
        for station in self.chargers.keys().cloned().collect::<Vec<_>>() {
            if self.chargers[&station].lapses.is_some_and(|at| now >= at) {
                self.go_safe(&station);
            }
        }
        all
    }

    fn go_safe(&mut self, station: &str) {
        while let Some(unsent) = self.requests.iter().position(|request| request.sent.is_none()) {
            self.end(unsent, "revoked");
        }
        let safe = self.safe;
        let under_way = self.requests.iter().filter(|r| r.station == station).map(|r| r.amps);
        let under_way: Vec<f64> = under_way.collect();
        let charger = self.charger(station);
        match charger.manner {
            Manner::Answers => {
                charger.told = under_way.into_iter().chain([safe]).collect();
                charger.lapses = None;
                charger.went_safe += 1;
                self.outcomes.push((station.to_owned(), "safe"));
            }
            // It is sent again and again; the same word again is no news.
            Manner::Refuses if charger.safe_refused => {}
            Manner::Refuses => {
                charger.safe_refused = true;
                self.outcomes.push((station.to_owned(), "safe-rejected"));
            }
            Manner::AnswersAfter(_) | Manner::NeverAnswers | Manner::Unreachable => {
                charger.told.push(safe);
                charger.lapses = None;
            }
        }
    }

    /// One step, if anything is to be done.
    fn step(&mut self, now: u64) -> Option<Option<Sent>> {
        for place in 0..self.requests.len() {
            let request = &self.requests[place];
            let first = |same: &dyn Fn(&Request) -> bool| self.requests.iter().position(same) == Some(place);
            let manner = self.chargers[&request.station].manner;
            match request.sent {
                Some(at) => {
                    let answers = match manner {
                        Manner::Answers => Some(now),
                        Manner::AnswersAfter(seconds) => Some(at + seconds),
                        Manner::Refuses => Some(now),
                        Manner::NeverAnswers | Manner::Unreachable => None,
                    };
                    if answers.is_some_and(|answers| answers <= now.min(request.until)) {
                        let outcome = if manner == Manner::Refuses { "rejected" } else { "accepted" };
                        self.end(place, outcome);
                        return Some(None);
                    }
                    if now >= request.until {
                        self.end(place, "sent");
                        return Some(None);
                    }
                }
                None if now >= request.until => {
                    self.end(place, "expired");
                    return Some(None);
                }
                None => {
                    // The first of its list and of its station.
                    let free = first(&|other| other.list == request.list)
                        && first(&|other| other.station == request.station);
                    if free && manner != Manner::Unreachable {
                        return Some(Some(self.send(place, now)));
                    }
                }
            }
        }
        None
    }

    fn send(&mut self, place: usize, now: u64) -> Sent {
        let request = &mut self.requests[place];
        request.sent = Some(now);
        let (station, amps, until) = (request.station.clone(), request.amps, request.until);
        let charger = self.charger(&station);
        let before = charger.most();
        charger.told.push(amps);
        charger.lapses.get_or_insert(until);
        let raises = charger.most() > before;
        Sent { station, amps, raises, sum: self.sum() }
    }

    /// A request has its outcome; if it wasn't accepted, the rest of its list is skipped.
    fn end(&mut self, place: usize, outcome: &'static str) {
        let request = self.requests.remove(place);
        self.outcomes.push((request.station.clone(), outcome));
        let charger = self.charger(&request.station);
        match outcome {
            "accepted" => {
                charger.told = vec![request.amps];
                charger.lapses = Some(request.until);
                charger.safe_refused = false;
                return;
            }
            "rejected" => {
                if let Some(last) = charger.told.iter().rposition(|&amps| amps == request.amps) {
                    charger.told.remove(last);
                }
            }
            _ => {}
        }
        // Those behind it: one before it may be under way.
        let behind =
            |requests: &[Request]| requests.iter().skip(place).position(|other| other.list == request.list);
        while let Some(next) = behind(&self.requests) {
            let skipped = self.requests.remove(place + next);
            assert!(skipped.sent.is_none(), "only the first of a list is under way");
            self.outcomes.push((skipped.station, "skipped"));
        }
    }
}

impl Charger {
    fn most(&self) -> f64 {
        self.told.iter().copied().fold(0.0, f64::max)
    }
}
