//! The same batches through an app in the sandbox and through the same code outside of it.

use std::path::Path;
use std::time::{Duration, Instant};

use anyhow::{Result, ensure};
use ironloom_native::{App, Feed, Reading, cpu_time};
use ironloom_sandbox::{Batch, Frame, Values};
use ironloom_tests::guests;

use crate::Effort;
use crate::guest::Guest;
use crate::machine::{Shares, Usage};
use crate::native::Native;
use crate::report::{Bound, Row, median};

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

/// An app on both sides.
struct Pair {
    native: Native,
    guest: Guest,
    feed: Feed,
}

impl Pair {
    fn new(app: App, folder: &Path, batch: usize) -> Result<Self> {
        let native = Native::start(app, batch)?;
        Ok(Self { native, guest: Guest::new(app.name(), folder)?, feed: Feed::new(app, batch)? })
    }

    /// Both sides in turn, so that what else the machine does meets both: native seconds, sandboxed
    /// seconds, readings.
    fn run(&mut self, time: Duration) -> Result<(f64, f64, usize)> {
        let (mut native, mut sandboxed, mut readings) = (Duration::ZERO, Duration::ZERO, 0);
        while native + sandboxed < time {
            self.guest.reset();
            self.native.begin()?;
            for _ in 0..ironloom_native::ROUNDS {
                native += self.native.round()?;
                let batches: Vec<_> = self.feed.round().iter().map(|readings| batch(readings)).collect();
                readings +=
                    batches.iter().flat_map(|batch| &batch.frames).map(|frame| frame.at.len()).sum::<usize>();
                for batch in &batches {
                    let start = cpu_time();
                    self.guest.consume(batch)?;
                    sandboxed += cpu_time().saturating_sub(start);
                }
            }
            ensure!(
                self.guest.state() == self.native.state()?,
                "the state differs in and outside of the sandbox"
            );
        }
        Ok((native.as_secs_f64(), sandboxed.as_secs_f64(), readings))
    }

    fn measure(&mut self, effort: Effort, row: &mut Row) -> Result<()> {
        self.run(effort.warm_up)?;
        let before = Usage::now(None)?;
        let (mut outside, mut inside) = (Vec::new(), Vec::new());
        for _ in 0..effort.runs {
            let (native, sandboxed, readings) = self.run(effort.run)?;
            row.runs.push(native / sandboxed);
            outside.push(native * 1e9 / readings as f64);
            inside.push(sandboxed * 1e9 / readings as f64);
        }
        row.shares = Usage::now(None)?.since(&before);
        row.notes.push(format!(
            "{:.0} ns of CPU time a reading native (on the SDK's platform for tests, a map with a host's checks; built with the \
             guest's profile: link-time optimization, one codegen unit, panic = abort), {:.0} ns sandboxed (on the server's \
             cache of state); the states are the same, byte for byte; at most {} KiB of memory and tables a call",
            median(&outside),
            median(&inside),
            self.guest.peak() >> 10,
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
    let mut pair = Pair::new(App::Pigs, &guests::workspace().join("sample-apps/pigs"), batch)?;
    let mut row = row("pigs on their own feed, the same code, batches of 256", Bound::AtLeast(0.75));
    pair.measure(effort.quarter(), &mut row)?;
    Ok(row)
}

/// One state for each of 10,000 points.
pub(crate) fn one_state(batch: usize, effort: Effort) -> Result<Row> {
    let mut pair = Pair::new(App::OneState, &guests::folder_of("one-state"), batch)?;
    let what = match batch {
        256 => "one state for each of 10,000 points, batches of 256",
        _ => "one state for each of 10,000 points, batches of 4,096",
    };
    let mut row = row(what, Bound::AtLeast(0.6));
    pair.measure(effort.quarter(), &mut row)?;
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
    // What `ironloom build` links begins within the part of a memory that the sandbox clears itself.
    ensure!(guest.peak() < 448 << 10, "an app that does nothing takes {} KiB of memory", guest.peak() >> 10);
    Ok(row)
}
