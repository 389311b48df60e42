//! What the benchmark feeds to an app in the sandbox and to the same app outside of it: the same readings, on both sides
//! made from the same seed.

use std::time::Duration;

use anyhow::{Context as _, Result, bail, ensure};
use ironloom_sdk::Timestamp;
use rand::{RngExt as _, SeedableRng as _};
use rand_chacha::ChaCha8Rng;
use rustix::time::{ClockId, clock_gettime};

/// A reading: input, entity, time, value.
pub type Reading = (&'static str, String, u64, f64);

/// After so many rounds an app begins anew, so that its state doesn't grow without end.
pub const ROUNDS: usize = 4;

/// Readings of one round of `one-state`.
const ONE_STATE_ROUND: usize = 32_768;

/// CPU time of this thread. Time on the wall says little on a machine that others use.
pub fn cpu_time() -> Duration {
    Duration::try_from(clock_gettime(ClockId::ThreadCPUTime)).unwrap_or_default()
}

/// An app that is compared.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum App {
    /// The sample app, on its own feed.
    Pigs,
    /// One state for each of 10,000 points.
    OneState,
}

impl App {
    /// The name of its package.
    pub fn name(self) -> &'static str {
        match self {
            Self::Pigs => "pigs",
            Self::OneState => "one-state",
        }
    }

    /// The app of a package.
    pub fn named(name: &str) -> Result<Self> {
        match name {
            "pigs" => Ok(Self::Pigs),
            "one-state" => Ok(Self::OneState),
            other => bail!("{other:?} is no app that is compared"),
        }
    }

    /// What it declares, as `app.toml`.
    pub fn manifest(self) -> &'static str {
        match self {
            Self::Pigs => include_str!("../../../sample-apps/pigs/app.toml"),
            Self::OneState => include_str!("../../guests/one-state/app.toml"),
        }
    }
}

/// What an app is fed.
pub struct Feed {
    app: App,
    batch: usize,
    weighings: Vec<Reading>,
    lap: u32,
    random: ChaCha8Rng,
    at: u64,
}

impl Feed {
    /// A feed in batches of so many readings.
    pub fn new(app: App, batch: usize) -> Result<Self> {
        ensure!(batch > 0, "a batch has readings");
        let weighings = match app {
            App::Pigs => weighings(include_str!("../../../sample-apps/pigs/data/weighings.csv"))?,
            App::OneState => Vec::new(),
        };
        let random = ChaCha8Rng::seed_from_u64(batch as u64);
        Ok(Self { app, batch, weighings, lap: 0, random, at: 1_780_000_000_000_000_000 })
    }

    /// The batches of the next round.
    pub fn round(&mut self) -> Vec<Vec<Reading>> {
        let readings: Vec<Reading> = match self.app {
            App::Pigs => {
                self.lap += 1;
                let named = self.weighings.iter();
                let named = named.map(|(slot, pig, at, value)| {
                    (*slot, format!("barn-{}/pig-{pig}", self.lap), *at, *value)
                });
                named.collect()
            }
            App::OneState => (0..ONE_STATE_ROUND).map(|_| self.one()).collect(),
        };
        readings.chunks(self.batch).map(<[Reading]>::to_vec).collect()
    }

    fn one(&mut self) -> Reading {
        self.at += 1_000_000;
        let point = self.random.random_range(0..10_000);
        ("value", format!("p{point}"), self.at, self.random.random_range(0.0..1_000.0))
    }
}

fn weighings(text: &str) -> Result<Vec<Reading>> {
    let mut lines = text.lines();
    let header: Vec<_> = lines.next().unwrap_or_default().split(',').collect();
    ensure!(header == ["at", "Week", "Pig", "Litter", "Weight", "Feed"], "the weighings have {header:?}");
    let mut readings = Vec::new();
    for line in lines {
        let cells: Vec<_> = line.split(',').collect();
        let &[at, _, pig, _, weight, feed] = cells.as_slice() else { continue };
        let at: Timestamp = at.parse().map_err(|_| anyhow::anyhow!("{line:?} has no time"))?;
        for (slot, cell) in [("weight", weight), ("feed", feed)] {
            if !cell.is_empty() {
                let value = cell.parse().with_context(|| line.to_owned())?;
                readings.push((slot, pig.to_owned(), at.nanos(), value));
            }
        }
    }
    Ok(readings)
}
