//! One reading in, and how long until the reading that an app derives of it is durable and seen.

use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};
use ironloom_tests::{Setup, apps, guests};
use rand::{RngExt as _, SeedableRng as _};
use rand_chacha::ChaCha8Rng;
use serde_json::{Value, json};

use crate::Effort;
use crate::connection::{Connection, get, push};
use crate::machine::Usage;
use crate::report::{Bound, Row, quantile};

pub(crate) fn measure(effort: Effort) -> Result<Row> {
    let package = guests::package("one-state")?;
    let server = Setup::new()?.start()?;
    let bindings = json!({"value": ["idle/{point}/value"]});
    apps::install(server.client(), "count", &package, bindings, json!({"settings": {"publish": true}}))?;
    let url = server.client().url();
    let mut connection = Connection::open(url)?;
    let reading = push(url, "{\"point\":\"idle/a/value\",\"value\":1.5}\n")?;
    // What the API shows is durable. Asked in a tight loop, since waiting would add its own delay.
    let look = get(url, "/v1/points?prefix=apps/count/count/a")?;
    let mut random = ChaCha8Rng::seed_from_u64(1);
    let mut count = 0_i64;
    let mut once = || -> Result<(Duration, Duration)> {
        // Idle in between, and in no step with anything in the server.
        std::thread::sleep(Duration::from_micros(random.random_range(2_000..12_000)));
        count += 1;
        let start = Instant::now();
        let answer = connection.send(&reading)?;
        ensure!(answer.status == 200, "{}: {}", answer.status, String::from_utf8_lossy(answer.body));
        let acknowledged = start.elapsed();
        loop {
            let answer = connection.send(&look)?;
            let took = start.elapsed();
            ensure!(answer.status == 200, "{}: {}", answer.status, String::from_utf8_lossy(answer.body));
            let points: Value = serde_json::from_slice(answer.body)?;
            let value = points["items"][0]["value"].as_i64().unwrap_or_default();
            ensure!(value <= count, "the app counts {value} of {count} readings");
            if value == count {
                return Ok((acknowledged, took));
            }
            ensure!(took < Duration::from_secs(30), "no derived reading after 30 s: {points}");
        }
    };

    let start = Instant::now();
    while start.elapsed() < effort.warm_up {
        once()?;
    }
    let before = Usage::now(Some(server.pid()))?;
    let mut row = Row {
        what: "one reading in -> its derived reading durable and seen, idle, p99",
        unit: "ms",
        bound: Bound::AtMost(20.0),
        runs: Vec::new(),
        notes: Vec::new(),
        shares: crate::machine::Shares::default(),
    };
    let (mut acknowledged, mut derived) = (Vec::new(), Vec::new());
    for _ in 0..effort.runs {
        let start = Instant::now();
        let begin = derived.len();
        while start.elapsed() < effort.run {
            let (durable, done) = once().context("a reading on its way")?;
            acknowledged.push(durable.as_secs_f64() * 1e3);
            derived.push(done.as_secs_f64() * 1e3);
        }
        row.runs.push(quantile(&derived[begin..], 0.99));
    }
    row.shares = Usage::now(Some(server.pid()))?.since(&before);
    let all =
        |times: &[f64]| [0.5, 0.9, 0.99, 1.0].map(|part| format!("{:.2}", quantile(times, part))).join(" / ");
    row.notes.push(format!(
        "{} readings; derived: p50 / p90 / p99 / most {} ms; of that until the push was acknowledged: {} ms",
        derived.len(),
        all(&derived),
        all(&acknowledged),
    ));
    ensure!(server.stop()?.success(), "the server didn't stop cleanly");
    Ok(row)
}
