//! The same batches through an app in the sandbox and through the same code outside of it.

use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};
use ironloom_sandbox::{Batch, Frame, Values};
use ironloom_sdk::testing::{BatchBuilder, Platform, RawBatch};
use ironloom_sdk::{Readings, Timestamp};
use ironloom_tests::guests;
use rand::{RngExt as _, SeedableRng as _};
use rand_chacha::ChaCha8Rng;

use crate::Effort;
use crate::guest::{Guest, sample};
use crate::machine::{Shares, Usage};
use crate::report::{Bound, Row, median};

/// A reading: input, entity, time, value.
type Reading = (&'static str, String, u64, f64);

/// The same batch, as each side takes it.
struct Both {
    readings: usize,
    native: RawBatch,
    sandboxed: Batch,
}

impl Both {
    fn of(readings: &[Reading]) -> Self {
        let mut native = BatchBuilder::new();
        for (slot, entity, at, value) in readings {
            native.push(slot, entity, Timestamp::from_nanos(*at), *value);
        }
        Self { readings: readings.len(), native: native.build(), sandboxed: batch(readings) }
    }
}

/// A batch as a lane makes it: a frame for each input, entities named once.
fn batch(readings: &[Reading]) -> Batch {
    let mut names: Vec<&str> = Vec::new();
    let mut lines = hashbrown::HashMap::<&str, u32>::new();
    let mut frames: Vec<(Frame, Vec<u32>, Vec<f64>)> = Vec::new();
    for (order, (slot, entity, at, value)) in (0..).zip(readings) {
        let line = *lines.entry(entity).or_insert_with(|| {
            names.push(entity);
            names.len() as u32 - 1
        });
        let place = frames.iter().position(|(frame, ..)| frame.slot == *slot).unwrap_or_else(|| {
            let values = Values::Reals(Vec::new());
            let (entity, at) = (Vec::new(), Vec::new());
            frames.push((
                Frame { slot: (*slot).to_owned(), entity, at, order: None, quality: None, values },
                Vec::new(),
                Vec::new(),
            ));
            frames.len() - 1
        });
        let (frame, orders, values) = &mut frames[place];
        frame.entity.push(line);
        frame.at.push(*at);
        orders.push(order);
        values.push(*value);
    }
    let several = frames.len() > 1;
    let frames = frames.into_iter().map(|(frame, order, values)| Frame {
        order: several.then_some(order),
        values: Values::Reals(values),
        ..frame
    });
    Batch { entities: names.join("\n"), frames: frames.collect() }
}

/// What is fed: round after round, each with batches of its own.
type Feed<'f> = Box<dyn FnMut() -> Vec<Both> + 'f>;

/// An app on both sides.
struct Pair<'f> {
    guest: Guest,
    manifest: String,
    feed: Feed<'f>,
    /// After so many rounds both begin anew, so that state doesn't grow without end.
    rounds: usize,
}

impl Pair<'_> {
    /// Both sides in turn, so that what else the machine does meets both: native seconds, sandboxed
    /// seconds, readings.
    fn run<A: Readings>(&mut self, time: Duration) -> Result<(f64, f64, usize)> {
        let (mut native, mut sandboxed, mut readings) = (Duration::ZERO, Duration::ZERO, 0);
        while native + sandboxed < time {
            self.guest.reset();
            let mut platform = Platform::from_manifest(&self.manifest);
            for _ in 0..self.rounds {
                for both in (self.feed)() {
                    let start = Instant::now();
                    let outcome = platform.consume::<A>(&both.native);
                    native += start.elapsed();
                    outcome.result.map_err(|failure| anyhow::anyhow!("outside of the sandbox: {failure}"))?;
                    ensure!(outcome.refused.is_empty(), "the app refused {:?}", outcome.refused);

                    let start = Instant::now();
                    self.guest.consume(&both.sandboxed)?;
                    sandboxed += start.elapsed();
                    readings += both.readings;
                }
                platform.forget();
            }
            ensure!(
                self.guest.state() == platform.state(),
                "the state differs in and outside of the sandbox"
            );
        }
        Ok((native.as_secs_f64(), sandboxed.as_secs_f64(), readings))
    }

    fn measure<A: Readings>(&mut self, effort: Effort, row: &mut Row) -> Result<()> {
        self.run::<A>(effort.warm_up)?;
        let before = Usage::now(None)?;
        let (mut outside, mut inside) = (Vec::new(), Vec::new());
        for _ in 0..effort.runs {
            let (native, sandboxed, readings) = self.run::<A>(effort.run)?;
            row.runs.push(native / sandboxed);
            outside.push(native * 1e9 / readings as f64);
            inside.push(sandboxed * 1e9 / readings as f64);
        }
        row.shares = Usage::now(None)?.since(&before);
        row.notes.push(format!(
            "{:.0} ns a reading native (with the checks of the SDK's platform for tests, which are the host's; without link-time \
             optimization, which the guest has), {:.0} ns sandboxed; the states \
             are the same, byte for byte",
            median(&outside),
            median(&inside),
        ));
        Ok(())
    }
}

fn row(what: &'static str, bound: Bound) -> Row {
    Row {
        what,
        unit: "sandboxed / native",
        bound,
        runs: Vec::new(),
        notes: Vec::new(),
        shares: Shares::default(),
    }
}

/// The sample app on its own feed.
pub(crate) fn pigs(batch: usize, effort: Effort) -> Result<Row> {
    let weighings = weighings(&sample("data/weighings.csv")?)?;
    let mut lap = 0;
    let mut pair = Pair {
        guest: Guest::new("pigs", &guests::workspace().join("sample-apps/pigs"))?,
        manifest: sample("app.toml")?,
        feed: Box::new(|| {
            lap += 1;
            let named = weighings
                .iter()
                .map(|(slot, pig, at, value)| (*slot, format!("barn-{lap}/pig-{pig}"), *at, *value));
            named.collect::<Vec<_>>().chunks(batch).map(Both::of).collect()
        }),
        rounds: 4,
    };
    let mut row = row("pigs on their own feed, the same code, batches of 256", Bound::AtLeast(0.5));
    pair.measure::<pigs::Pigs>(effort.quarter(), &mut row)?;
    Ok(row)
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

/// One state for each of 10,000 points.
pub(crate) fn one_state(batch: usize, effort: Effort) -> Result<Row> {
    let mut random = ChaCha8Rng::seed_from_u64(batch as u64);
    let mut at = 1_780_000_000_000_000_000;
    let folder = guests::folder_of("one-state");
    let mut pair = Pair {
        guest: Guest::new("one-state", &folder)?,
        manifest: std::fs::read_to_string(folder.join("app.toml"))?,
        feed: Box::new(|| {
            let mut one = || {
                at += 1_000_000;
                (
                    "value",
                    format!("p{}", random.random_range(0..10_000)),
                    at,
                    random.random_range(0.0..1_000.0),
                )
            };
            let readings: Vec<Reading> = (0..32_768).map(|_| one()).collect();
            readings.chunks(batch).map(Both::of).collect()
        }),
        rounds: 4,
    };
    let what = match batch {
        256 => "one state for each of 10,000 points, batches of 256",
        _ => "one state for each of 10,000 points, batches of 4,096",
    };
    let mut row = row(what, Bound::Told);
    pair.measure::<one_state::OneState>(effort.quarter(), &mut row)?;
    Ok(row)
}

/// A fresh instance whose call has nothing to do: the app looks for its input and finds no frame.
pub(crate) fn empty(effort: Effort) -> Result<Row> {
    let mut guest = Guest::new("one-state", &guests::folder_of("one-state"))?;
    let batch = Batch { entities: String::new(), frames: Vec::new() };
    let effort = effort.quarter();
    let mut row = Row {
        what: "fresh invocation with an empty body, median",
        unit: "us",
        bound: Bound::AtMost(50.0),
        runs: Vec::new(),
        notes: Vec::new(),
        shares: Shares::default(),
    };
    let mut run = |time: Duration| -> Result<Vec<f64>> {
        let begin = Instant::now();
        let mut times = Vec::new();
        while begin.elapsed() < time {
            let start = Instant::now();
            guest.consume(&batch)?;
            times.push(start.elapsed().as_secs_f64() * 1e6);
        }
        Ok(times)
    };
    run(effort.warm_up)?;
    let before = Usage::now(None)?;
    let mut all = Vec::new();
    for _ in 0..effort.runs {
        let times = run(effort.run)?;
        row.runs.push(median(&times));
        all.extend(times);
    }
    row.shares = Usage::now(None)?.since(&before);
    row.notes.push(format!("{} invocations, p99 {:.1} us", all.len(), crate::report::quantile(&all, 0.99)));
    Ok(row)
}
