//! Measures the server and the sandbox on this machine. `cargo xtask bench` builds all and runs this.
//!
//! The generator runs on the same cores as the server, with requests made beforehand. What is measured
//! is checked as well: the server's state against a model of what was acknowledged, the sandbox's
//! against the same code outside of it.

mod beside;
mod bodies;
mod broker;
mod checkpoints;
mod connection;
mod guest;
mod installations;
mod invocations;
mod latency;
mod machine;
mod native;
mod peers;
mod plant;
mod pushes;
mod report;
mod requests;
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
    /// One run of so many seconds for each row, such as beside a profiler
    #[arg(long, value_name = "N", conflicts_with = "smoke")]
    seconds: Option<u64>,
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

const ROWS: [(&str, Measure); 29] = [
    ("push", Several(|effort| pushes::measure(Push::Granted, effort))),
    ("push-defaults", Several(|effort| pushes::measure(Push::Defaults, effort))),
    ("push-1m", Several(|effort| pushes::measure(Push::Largest, effort))),
    ("push-1m-random", Several(|effort| pushes::measure(Push::Drawn, effort))),
    ("push-1m-sled", Several(|effort| pushes::measure(Push::OtherEngine, effort))),
    ("fan-out", Several(|effort| pushes::measure(Push::FanOut, effort))),
    ("checkpoint-pushes", One(checkpoints::measure)),
    ("push-arrow", Several(pushes::columns)),
    ("pigs-256", One(|effort| invocations::pigs(256, effort))),
    ("one-state-256", One(|effort| invocations::one_state(256, effort))),
    ("one-state-4096", One(|effort| invocations::one_state(4_096, effort))),
    ("empty-invocation", One(invocations::empty)),
    ("stream", One(streams::measure)),
    ("requests-256", One(requests::measure)),
    ("side-by-side", Several(peers::measure)),
    ("latency", Several(latency::measure)),
    ("mqtt", One(broker::readings)),
    ("set-points", Several(broker::set_points)),
    ("beside-loops", Several(beside::loops)),
    ("beside-floods", Several(beside::floods)),
    ("beside-timers", Several(beside::timers)),
    ("beside-points", Several(beside::points)),
    ("beside-keys", Several(beside::keys)),
    ("beside-silent", Several(beside::silent)),
    ("beside-unread", Several(beside::unread)),
    ("installations", Several(installations::measure)),
    ("installations-idle", Several(installations::idle)),
    ("points-1m", Several(plant::points)),
    ("journal-1g", Several(plant::journal)),
];

fn main() -> Result<()> {
    let options = Options::parse();
    ironloom_tests::described::off();
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

    let effort = match options.seconds {
        Some(seconds) => Effort { run: Duration::from_secs(seconds), runs: 1, ..Effort::FULL },
        None if options.smoke => Effort::SMOKE,
        None => Effort::FULL,
    };
    let machine = Machine::look(&scratch)?;
    let mut report = Report::begin(machine, options.smoke);
    let mut failed = Vec::new();
    for (name, measure) in ROWS {
        if options.only.is_empty() || options.only.iter().any(|only| only == name) {
            eprintln!("measuring {name} …");
            // What an hour has measured so far is told even where a later row fails.
            match measure.run(effort) {
                Ok(rows) => rows.into_iter().for_each(|row| report.add(name, row)),
                Err(error) => {
                    eprintln!("{name} failed: {error:?}");
                    failed.push(name);
                }
            }
        }
    }
    let table = report.table();
    if options.json {
        eprint!("{table}");
        println!("{:#}", report.json());
    } else {
        print!("{table}");
    }
    if !failed.is_empty() {
        bail!("failed, as told above: {}", failed.join(", "));
    }
    let missed = report.missed();
    if !options.smoke && !missed.is_empty() {
        bail!("not reached: {}", missed.join(", "));
    }
    Ok(())
}
