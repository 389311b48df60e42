//! Any course of events, against what must hold whatever the machine does inside. What is expected comes from what the
//! world has seen: what was asked, what went over the wire, what was granted, and what a log has of it all.

mod check;
mod granted;
mod log;
mod wire;
mod world;

use std::collections::{BTreeMap, BTreeSet, VecDeque};

use proptest::prelude::*;

use self::granted::Granted;
use self::wire::ToldOf;
use self::world::World;
use super::*;
use ironloom_types::clock::SECOND;

/// Two apps and two connectors for so many points.
const POINTS: u8 = 4;

#[derive(Clone, Debug)]
enum Step {
    /// An invocation of an app, with its lists of points and values. It began so long before its commit.
    Ask {
        app: u64,
        lists: Vec<Vec<(u8, f64)>>,
        life: u64,
        age: u64,
    },
    /// A connector takes so many commands.
    Take {
        connector: u8,
        most: usize,
    },
    /// Everybody looks what there is to do, until there is nothing.
    Drain,
    /// The oldest command that isn't answered is answered.
    Answer {
        accepted: bool,
    },
    /// The answer to some command comes, which may have ended long ago.
    AnswerAny {
        which: usize,
        accepted: bool,
    },
    Lost {
        connector: u8,
    },
    Wait(u64),
    Tick,
    Stop {
        app: u64,
        stopped: bool,
    },
    Mode {
        app: u64,
        mode: Mode,
    },
    Grant {
        app: u64,
        granted: Granted,
    },
    Uninstall {
        app: u64,
    },
    /// The app again, as another generation.
    Install {
        app: u64,
    },
    /// A person confirms one: its record is written.
    Confirm {
        which: usize,
    },
    /// That record comes to the outbox.
    Confirmed,
    Dismiss {
        which: usize,
    },
    /// The kill switch, of the site or of apps.
    Halt {
        site: bool,
        apps: BTreeSet<u64>,
    },
    /// A point has another connector, or none.
    Route {
        point: u8,
        connector: Option<u8>,
    },
    /// The writer of ends takes so many, if it has none.
    TakeEnds(usize),
    /// Everything that it has taken is recorded.
    Write,
    /// The process is killed: a start finds what is durable.
    Restart,
}

fn asks() -> impl Strategy<Value = Step> {
    let value = prop::sample::select(vec![0.0, 8.0, 8.0, 32.0, 32.0, 40.0]);
    let list = prop::collection::vec((0..POINTS, value), 1..4);
    let lists = prop::collection::vec(list, 1..3);
    let life = prop::sample::select(vec![LIFE, LIFE, 30]);
    let age = prop_oneof![3 => Just(0), 1 => 1..40_u64];
    (1..3_u64, lists, life, age).prop_map(|(app, lists, life, age)| Step::Ask { app, lists, life, age })
}

/// Deeds of admins and other people.
fn deeds() -> impl Strategy<Value = Step> {
    let mode = prop::sample::select(vec![Mode::Act, Mode::Advise, Mode::Shadow]);
    let granted = prop::sample::select(Granted::ALL.to_vec());
    let apps = prop::collection::btree_set(1..3_u64, 0..2);
    prop_oneof![
        2 => (1..3_u64, any::<bool>()).prop_map(|(app, stopped)| Step::Stop { app, stopped }),
        2 => (1..3_u64, mode).prop_map(|(app, mode)| Step::Mode { app, mode }),
        4 => (1..3_u64, granted).prop_map(|(app, granted)| Step::Grant { app, granted }),
        1 => (1..3_u64).prop_map(|app| Step::Uninstall { app }),
        1 => (1..3_u64).prop_map(|app| Step::Install { app }),
        2 => any::<usize>().prop_map(|which| Step::Confirm { which }),
        1 => Just(Step::Confirmed),
        1 => any::<usize>().prop_map(|which| Step::Dismiss { which }),
        2 => (prop::bool::weighted(0.3), apps).prop_map(|(site, apps)| Step::Halt { site, apps }),
        2 => (0..POINTS, prop::option::weighted(0.8, 0..2_u8))
            .prop_map(|(point, connector)| Step::Route { point, connector }),
    ]
}

fn step() -> impl Strategy<Value = Step> {
    let most = prop_oneof![1 => 1..3_usize, 3 => Just(usize::MAX)];
    prop_oneof![
        12 => asks(),
        8 => (0..2_u8, most).prop_map(|(connector, most)| Step::Take { connector, most }),
        6 => Just(Step::Drain),
        14 => prop::bool::weighted(0.7).prop_map(|accepted| Step::Answer { accepted }),
        2 => (any::<usize>(), any::<bool>()).prop_map(|(which, accepted)| Step::AnswerAny { which, accepted }),
        3 => (0..2_u8).prop_map(|connector| Step::Lost { connector }),
        8 => prop_oneof![6 => 1..80_u64, 1 => Just(5 * SECOND)].prop_map(Step::Wait),
        4 => Just(Step::Tick),
        18 => deeds(),
        6 => prop_oneof![3 => 1..4_usize, 1 => Just(usize::MAX)].prop_map(Step::TakeEnds),
        6 => Just(Step::Write),
        3 => Just(Step::Restart),
    ]
}

fn play(steps: &[Step]) -> World {
    let mut world = World::new();
    for step in steps {
        world.do_step(step);
    }
    world
}

proptest! {
    #![proptest_config(ironloom_mutate::cases(4_000))]

    #[test]
    fn the_rules_hold_in_any_course_of_events(steps in prop::collection::vec(step(), 1..80)) {
        play(&steps).finish();
    }
}

proptest! {
    #![proptest_config(ironloom_mutate::cases(200))]

    #[test]
    fn the_same_course_of_events_has_the_same_commands(steps in prop::collection::vec(step(), 1..80)) {
        prop_assert_eq!(play(&steps).all, play(&steps).all);
    }
}
