//! The app with chargers that answer, late or never, at random. What it must hold to at each moment, whatever happens:
//!
//! 1. All that stations may have been told is within what the app said at its last invocation that it may be (`allocated`).
//! 2. A limit that raises a station leaves the sum of all that stations may have been told within what is available, by
//!    the building's load as the app knows it.
//! 3. So the sum is within what is available at all times, but for a load of the building that has risen (which nobody can
//!    foresee): then it doesn't rise until it is within again. A station that is told the safe value since its limit wasn't
//!    renewed may exceed it where the safe value isn't 0, if others that have to give way don't answer either.
//! 4. No limit is between 0 and 6 A, or above 32 A: the model of the outbox checks each.

#![allow(clippy::unwrap_used, clippy::panic, reason = "a test fails by panicking")]

mod outbox;
mod yard;

use ironloom_sdk::testing::Datum;
use outbox::{Manner, Sent};
use proptest::prelude::*;
use yard::Yard;

const STATIONS: [&str; 6] = ["a", "b", "c", "d", "e", "f"];

#[derive(Clone, Debug)]
enum Event {
    Load(f64),
    Plug {
        station: usize,
        kwh: f64,
        hours: u64,
    },
    Unplug {
        station: usize,
    },
    /// Measured: this part of what it may have been told.
    Measure {
        station: usize,
        part: f64,
    },
    Manner {
        station: usize,
        manner: Manner,
    },
    /// So many outcomes come to the app, in their order.
    Outcomes(usize),
    /// A crash: outcomes `superseded` that the app hasn't been told are lost.
    Crash,
    /// Time passes; outcomes come at once, or wait.
    Pass {
        seconds: u64,
        prompt: bool,
    },
    /// Everybody answers, all is measured, and outcomes come: the site comes to rest.
    Settle,
}

fn event() -> impl Strategy<Value = Event> {
    let station = 0..STATIONS.len();
    let manner = prop_oneof![
        3 => Just(Manner::Answers),
        2 => (1_u64..250).prop_map(Manner::AnswersAfter),
        1 => Just(Manner::NeverAnswers),
        1 => Just(Manner::Refuses),
        1 => Just(Manner::Unreachable),
    ];
    prop_oneof![
        3 => (0.0..70.0).prop_map(|load: f64| Event::Load((load * 10.0).round() / 10.0)),
        4 => (station.clone(), 0.1..40.0, 1_u64..12)
            .prop_map(|(station, kwh, hours)| Event::Plug { station, kwh, hours }),
        1 => station.clone().prop_map(|station| Event::Unplug { station }),
        4 => (station.clone(), 0.0..1.0).prop_map(|(station, part)| Event::Measure { station, part }),
        3 => (station, manner).prop_map(|(station, manner)| Event::Manner { station, manner }),
        4 => (1_usize..4).prop_map(Event::Outcomes),
        1 => Just(Event::Crash),
        6 => (0_u64..200, any::<bool>()).prop_map(|(seconds, prompt)| Event::Pass { seconds, prompt }),
        1 => Just(Event::Settle),
    ]
}

/// Holds what must hold at each moment.
struct Check {
    safe: f64,
    /// The sum at the moment before.
    before: f64,
}

impl Check {
    fn moment(&mut self, yard: &Yard, sent: &[Sent]) {
        let (sum, available) = (yard.outbox.sum(), yard.available());
        assert!(
            sum <= yard.allocated + 1e-6,
            "{sum} A may have been told, the app counts {} A",
            yard.allocated
        );
        for sent in sent.iter().filter(|sent| sent.raises) {
            assert!(sent.sum <= available + 1e-6, "{sent:?} raises beyond {available} A");
        }
        if self.safe == 0.0 {
            let within = sum <= available.max(self.before) + 1e-6;
            assert!(within, "{sum} A of {available} A, and {} A before", self.before);
        }
        self.before = sum;
    }
}

fn measure_all(yard: &mut Yard, load: f64) {
    let told: Vec<(&str, f64)> =
        STATIONS.iter().map(|&station| (station, yard.outbox.told(station))).collect();
    let mut readings: Vec<(&str, &str, Datum)> = vec![("building-load", "", load.into())];
    readings.extend(told.into_iter().map(|(station, amps)| ("current", station, amps.into())));
    yard.read(&readings);
}

fn play(capacity: f64, safe: f64, events: &[Event]) {
    let mut yard = Yard::new(capacity, safe);
    let mut check = Check { safe, before: 0.0 };
    let mut since_told = 0;
    for event in events {
        match *event {
            Event::Load(load) => yard.read(&[("building-load", "", load.into())]),
            Event::Plug { station, kwh, hours } => yard.plug(STATIONS[station], kwh, hours),
            Event::Unplug { station } => yard.read(&[("connected", STATIONS[station], false.into())]),
            Event::Measure { station, part } => {
                let amps = yard.outbox.told(STATIONS[station]) * part;
                yard.read(&[("current", STATIONS[station], amps.into())]);
            }
            Event::Manner { station, manner } => yard.manner(STATIONS[station], manner),
            Event::Outcomes(most) => {
                yard.tell_outcomes(most);
            }
            Event::Crash => yard.outbox.outcomes.retain(|(_, outcome)| *outcome != "superseded"),
            Event::Pass { seconds, prompt } => {
                // They may be late, but not by more than 200 s.
                since_told += seconds;
                if since_told > 200 {
                    yard.tell_outcomes(usize::MAX);
                    since_told = seconds;
                }
                yard.pass(seconds, prompt, |yard, sent| check.moment(yard, sent));
            }
            Event::Settle => {
                STATIONS.iter().for_each(|station| yard.manner(station, Manner::Answers));
                let load = yard.load.unwrap_or(0.0);
                for _ in 0..15 {
                    measure_all(&mut yard, load);
                    yard.pass(60, true, |yard, sent| check.moment(yard, sent));
                }
                // Nothing is held back for ever: what may have been told is what was accepted last, and it fits.
                let (sum, available) = (yard.outbox.sum(), yard.available());
                assert!((yard.allocated - sum).abs() < 1e-6, "{} A counted, {sum} A told", yard.allocated);
                assert!(sum <= available + 1e-6, "{sum} A of {available} A");
            }
        }
        check.moment(&yard, &[]);
    }
}

proptest! {
    #![proptest_config(ProptestConfig { max_shrink_iters: 500, ..ProptestConfig::with_cases(300) })]

    #[test]
    fn at_no_moment_more_was_told_than_there_is(
        capacity in prop_oneof![Just(40.0), 30.0..200.0_f64],
        safe in prop_oneof![2 => Just(0.0), 1 => Just(6.0)],
        events in proptest::collection::vec(event(), 1..60),
    ) {
        play(capacity, safe, &events);
    }
}
