//! Measures the server and the sandbox on this machine. `cargo xtask bench` builds all and runs this.
//!
//! The generator runs on the same cores as the server, with requests made beforehand. What is measured
//! is checked as well: the server's state against a model of what was acknowledged, the sandbox's
//! against the same code outside of it.

mod beside;
mod connection;
mod guest;
mod invocations;
mod latency;
mod machine;
mod native;
mod plant;
mod pushes;
mod report;
mod streams;

use std::time::Duration;

use anyhow::{Result, bail};
use clap::Parser;
use ironloom_tests::guests;

use crate::machine::Machine;
use crate::pushes::Push;
use crate::report::{Report, Row};

/// The sandbox is measured with the allocator that the server has.
#[global_allocator]
static ALLOCATOR: tikv_jemallocator::Jemalloc = tikv_jemallocator::Jemalloc;

/// Measures the server and the sandbox on this machine.
#[derive(Parser, Debug)]
#[command(name = "ironloom-bench")]
struct Options {
    /// A second a row, and nothing has to be reached: only whether it works
    #[arg(long)]
    smoke: bool,
    /// Print JSON on stdout, and the table on stderr
    #[arg(long)]
    json: bool,
    /// Only this row; may be given several times
    #[arg(long, value_name = "ROW")]
    only: Vec<String>,
}

/// How long, and how often.
#[derive(Clone, Copy, Debug)]
struct Effort {
    /// Before anything is measured.
    warm_up: Duration,
    /// Of one run.
    run: Duration,
    /// Of which the median is taken.
    runs: usize,
    /// Only whether it works.
    smoke: bool,
}

impl Effort {
    const FULL: Self =
        Self { warm_up: Duration::from_secs(5), run: Duration::from_secs(20), runs: 5, smoke: false };
    const SMOKE: Self =
        Self { warm_up: Duration::from_millis(300), run: Duration::from_secs(1), runs: 1, smoke: true };

    /// The same in a quarter of the time: for what has no disk and no second process in it, and so
    /// scatters less.
    fn quarter(self) -> Self {
        Self { warm_up: self.warm_up / 4, run: self.run / 4, ..self }
    }
}

/// What a row of the list measures: one figure, or several.
#[derive(Clone, Copy)]
enum Measure {
    One(fn(Effort) -> Result<Row>),
    Several(fn(Effort) -> Result<Vec<Row>>),
}

impl Measure {
    fn run(self, effort: Effort) -> Result<Vec<Row>> {
        match self {
            Self::One(measure) => Ok(vec![measure(effort)?]),
            Self::Several(measure) => measure(effort),
        }
    }
}

use Measure::{One, Several};

const ROWS: [(&str, Measure); 21] = [
    ("push", One(|effort| pushes::measure(Push::Granted, effort))),
    ("push-defaults", One(|effort| pushes::measure(Push::Defaults, effort))),
    ("push-1m", One(|effort| pushes::measure(Push::Largest, effort))),
    ("fan-out", One(|effort| pushes::measure(Push::FanOut, effort))),
    ("pigs-256", One(|effort| invocations::pigs(256, effort))),
    ("one-state-256", One(|effort| invocations::one_state(256, effort))),
    ("one-state-4096", One(|effort| invocations::one_state(4_096, effort))),
    ("empty-invocation", One(invocations::empty)),
    ("stream", One(streams::measure)),
    ("latency", One(latency::measure)),
    ("beside-loops", One(beside::loops)),
    ("beside-floods", One(beside::floods)),
    ("beside-timers", One(beside::timers)),
    ("beside-points", One(beside::points)),
    ("beside-keys", One(beside::keys)),
    ("beside-silent", One(beside::silent)),
    ("beside-unread", One(beside::unread)),
    ("installations", Several(plant::installations)),
    ("installations-idle", Several(plant::idle)),
    ("points-1m", Several(plant::points)),
    ("journal-1g", Several(plant::journal)),
];

fn main() -> Result<()> {
    let options = Options::parse();
    let unknown: Vec<_> =
        options.only.iter().filter(|name| ROWS.iter().all(|(row, _)| row != name)).cloned().collect();
    if !unknown.is_empty() {
        let all: Vec<_> = ROWS.iter().map(|(row, _)| *row).collect();
        bail!("no row is named {}; there are {}", unknown.join(", "), all.join(", "));
    }
    // On the disk of the project: a folder for temporary files is often in memory.
    let scratch = guests::workspace().join("target/bench");
    std::fs::create_dir_all(&scratch)?;
    if tempfile::env::override_temp_dir(&scratch).is_err() {
        bail!("a temporary file was made before its folder was chosen");
    }

    let effort = if options.smoke { Effort::SMOKE } else { Effort::FULL };
    let machine = Machine::look(&scratch)?;
    let mut report = Report::begin(machine, options.smoke);
    for (name, measure) in ROWS {
        if options.only.is_empty() || options.only.iter().any(|only| only == name) {
            eprintln!("measuring {name} …");
            measure.run(effort)?.into_iter().for_each(|row| report.add(name, row));
        }
    }
    let table = report.table();
    if options.json {
        eprint!("{table}");
        println!("{:#}", report.json());
    } else {
        print!("{table}");
    }
    let missed = report.missed();
    if !options.smoke && !missed.is_empty() {
        bail!("not reached: {}", missed.join(", "));
    }
    Ok(())
}
