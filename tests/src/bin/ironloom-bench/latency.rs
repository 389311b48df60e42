//! One reading in, and how long until the reading that an app derives of it is durable and seen.

use std::os::unix::fs::FileExt as _;
use std::path::Path;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};
use ironloom_tests::{Server, Setup, apps, guests};
use rand::{RngExt as _, SeedableRng as _};
use rand_chacha::ChaCha8Rng;
use serde_json::{Value, json};

use crate::Effort;
use crate::connection::{Connection, get, push};
use crate::machine::Usage;
use crate::report::{Bound, Row, quantile};

/// Bytes of a record of the log with one reading, about.
const RECORD: usize = 200;

/// An app that counts readings, and whoever sends it one at a time.
pub(crate) struct Honest {
    connection: Connection,
    reading: Vec<u8>,
    look: Vec<u8>,
    random: ChaCha8Rng,
    count: i64,
}

/// What became of one reading.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Lag {
    /// Until the push was acknowledged.
    pub acknowledged: Duration,
    /// Until the derived reading was seen.
    pub derived: Duration,
}

impl Honest {
    pub(crate) fn install(server: &Server) -> Result<Self> {
        let package = guests::package("one-state")?;
        let bindings = json!({"value": ["idle/{point}/value"]});
        apps::install(server.client(), "count", &package, bindings, json!({"settings": {"publish": true}}))?;
        let url = server.client().url();
        Ok(Self {
            connection: Connection::open(url)?,
            reading: push(url, "{\"point\":\"idle/a/value\",\"value\":1.5}\n")?,
            // What the API shows is durable. Asked in a tight loop, since waiting would add its own delay.
            look: get(url, "/v1/points?prefix=apps/count/count/a")?,
            random: ChaCha8Rng::seed_from_u64(1),
            count: 0,
        })
    }

    fn once(&mut self) -> Result<Lag> {
        // Idle in between, and in no step with anything in the server.
        std::thread::sleep(Duration::from_micros(self.random.random_range(2_000..12_000)));
        self.count += 1;
        let start = Instant::now();
        let answer = self.connection.send(&self.reading)?;
        ensure!(answer.status == 200, "{}: {}", answer.status, String::from_utf8_lossy(answer.body));
        let acknowledged = start.elapsed();
        loop {
            let answer = self.connection.send(&self.look)?;
            let derived = start.elapsed();
            ensure!(answer.status == 200, "{}: {}", answer.status, String::from_utf8_lossy(answer.body));
            let points: Value = serde_json::from_slice(answer.body)?;
            let value = points["items"][0]["value"].as_i64().unwrap_or_default();
            ensure!(value <= self.count, "the app counts {value} of {} readings", self.count);
            if value == self.count {
                return Ok(Lag { acknowledged, derived });
            }
            ensure!(derived < Duration::from_secs(60), "no derived reading after 60 s: {points}");
        }
    }

    /// One reading after the other, for so long.
    pub(crate) fn run(&mut self, time: Duration) -> Result<Vec<Lag>> {
        let (start, mut lags) = (Instant::now(), Vec::new());
        while start.elapsed() < time {
            lags.push(self.once().context("a reading on its way")?);
        }
        Ok(lags)
    }
}

pub(crate) fn milliseconds(lags: &[Lag], of: impl Fn(&Lag) -> Duration) -> Vec<f64> {
    lags.iter().map(|lag| of(lag).as_secs_f64() * 1e3).collect()
}

/// The median and what lies above it.
pub(crate) fn told(times: &[f64]) -> String {
    let parts = [0.5, 0.9, 0.99, 1.0].map(|part| format!("{:.2}", quantile(times, part)));
    format!("{} ms", parts.join(" / "))
}

/// How long the disk alone takes for one write and sync after the other, as the log makes them, with pauses as between
/// the readings.
fn disk_alone(folder: &Path, time: Duration) -> Result<Vec<f64>> {
    const BYTES: u64 = 4 << 20;
    let file = tempfile::tempfile_in(folder)?;
    file.write_all_at(&vec![0; BYTES as usize], 0)?;
    file.sync_all()?;
    let (mut random, mut at, mut times) = (ChaCha8Rng::seed_from_u64(2), 0, Vec::new());
    let start = Instant::now();
    while start.elapsed() < time {
        std::thread::sleep(Duration::from_micros(random.random_range(2_000..12_000)));
        let began = Instant::now();
        file.write_all_at(&[1; RECORD], at)?;
        file.sync_data()?;
        times.push(began.elapsed().as_secs_f64() * 1e3);
        at = (at + RECORD as u64) % (BYTES - RECORD as u64);
    }
    Ok(times)
}

pub(crate) fn measure(effort: Effort) -> Result<Vec<Row>> {
    let server = Setup::new()?.start()?;
    let mut honest = Honest::install(&server)?;
    honest.run(effort.warm_up)?;
    let before = Usage::now(Some(server.pid()))?;
    let mut row = Row {
        what: "one reading in -> its derived reading durable and seen, idle, p99",
        unit: "ms",
        bound: Bound::AtMost(2.0),
        runs: Vec::new(),
        notes: Vec::new(),
        shares: crate::machine::Shares::default(),
    };
    let mut all = Vec::new();
    for _ in 0..effort.runs {
        let lags = honest.run(effort.run)?;
        row.runs.push(quantile(&milliseconds(&lags, |lag| lag.derived), 0.99));
        all.extend(lags);
    }
    row.shares = Usage::now(Some(server.pid()))?.since(&before);
    row.notes.push(format!(
        "{} readings; p50 / p90 / p99 / most: derived {}; of that until the push was acknowledged {}",
        all.len(),
        told(&milliseconds(&all, |lag| lag.derived)),
        told(&milliseconds(&all, |lag| lag.acknowledged)),
    ));
    let disk = disk_alone(server.setup().folder(), effort.run)?;
    row.notes.push(format!(
        "p50 / p90 / p99 / most of the disk alone, one write and sync: {}; a derived reading takes two of them",
        told(&disk)
    ));
    ensure!(server.stop()?.success(), "the server didn't stop cleanly");
    let slowest = quantile(&milliseconds(&all, |lag| lag.derived), 1.0);
    let most = Row::of("the slowest of all these readings", "ms", Bound::AtMost(20.0), slowest);
    Ok(vec![row, most])
}
