//! Readings over HTTP, durable, through an app with one state for each point, durable again.

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail, ensure};
use ironloom_tests::model::{self, Sums};
use ironloom_tests::{Client, Server, Setup, apps, guests};
use rand::seq::SliceRandom as _;
use rand::{RngExt as _, SeedableRng as _};
use rand_chacha::ChaCha8Rng;
use serde_json::{Value, json};

use crate::Effort;
use crate::connection::{Connection, push};
use crate::machine::Usage;
use crate::report::{Bound, Row};

const CONNECTIONS: usize = 8;
const READINGS: usize = 1_000;
/// Different requests, sent in turn: more than any cache holds, and where points are more, enough for each.
const REQUESTS: usize = 400;
/// How many apps take each reading where they are several.
const FAN_OUT: u8 = 10;
/// How many acknowledged readings the app may be behind before the sources wait: what is measured is
/// what goes through to the end, and not how fast a backlog grows.
const MOST_BEHIND: u64 = 500_000;

/// A request, and what it brings.
struct Request {
    bytes: Vec<u8>,
    readings: Vec<(u32, f64)>,
    acknowledged: AtomicU64,
}

#[derive(Default)]
struct Progress {
    stop: AtomicBool,
    acknowledged: AtomicU64,
    taken: AtomicU64,
    refused: AtomicU64,
}

/// A row: the points there are, and what the app was granted.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Push {
    /// As much as the machine can do is asked for.
    Granted,
    /// What an app gets without a grant.
    Defaults,
    /// A site as large as may be.
    Largest,
    /// Each reading goes to several apps.
    FanOut,
}

impl Push {
    fn points(self) -> u32 {
        match self {
            Self::Granted | Self::Defaults | Self::FanOut => 10_000,
            Self::Largest => 1_000_000,
        }
    }

    /// Names the installations.
    fn names(self) -> Vec<String> {
        let apps = if self == Self::FanOut { FAN_OUT } else { 1 };
        (0..apps).map(|number| format!("sums-{number}")).collect()
    }

    /// The limits of the install. A key costs 128 bytes of the state besides what it holds.
    fn limits(self) -> Value {
        match self {
            Self::Granted | Self::Largest | Self::FanOut => json!({"share": "1 s", "state": "1 GiB"}),
            Self::Defaults => json!({}),
        }
    }
}

/// Measures one of the rows.
pub(crate) fn measure(push: Push, effort: Effort) -> Result<Row> {
    let (what, bound) = match push {
        Push::Granted => (
            "readings, push of 1,000 -> durable -> one state a point -> durable, 10,000 points, granted a core and 1 GiB of state",
            Bound::AtLeast(500_000.0),
        ),
        Push::Defaults => ("the same without a grant: half a core, 64 MiB of state", Bound::Told),
        Push::Largest => ("the same with 1,000,000 points, granted a core and 1 GiB of state", Bound::Told),
        Push::FanOut => (
            "readings delivered, push of 1,000 -> durable -> each to ten distinct apps with one state a point -> durable, 10,000 points",
            Bound::Told,
        ),
    };
    let mut row = Row {
        what,
        unit: "readings/s",
        bound,
        runs: Vec::new(),
        notes: Vec::new(),
        shares: crate::machine::Shares::default(),
    };
    for number in 1..=effort.runs {
        run(push, effort, number, &mut row).with_context(|| format!("run {number}"))?;
    }
    Ok(row)
}

fn run(push: Push, effort: Effort, number: usize, row: &mut Row) -> Result<()> {
    let points = push.points();
    let apps = push.names();
    // A folder of its own for each run: the first minute after an install is what is compared.
    let server = Setup::new()?.start()?;
    let bindings = json!({"value": ["bench/{point}/value"]});
    for (number, id) in (0..).zip(&apps) {
        let package = guests::variant("one-state", number)?;
        apps::install(server.client(), id, &package, bindings.clone(), json!({"limits": push.limits()}))?;
    }
    let requests = requests(server.client().url(), points, number as u64)?;
    let progress = Progress::default();
    let mut note = std::thread::scope(|scope| {
        let source = |first| {
            let (url, requests, progress) = (server.client().url(), &requests, &progress);
            scope.spawn(move || push_until_stopped(url, requests, progress, first))
        };
        let sources: Vec<_> = (0..CONNECTIONS).map(source).collect();
        let note = window(points, &apps, effort, &server, &progress, row);
        progress.stop.store(true, Ordering::SeqCst);
        for source in sources {
            match source.join() {
                Ok(ended) => ended?,
                Err(_) => bail!("a source panicked"),
            }
        }
        note
    })?;
    let start = Instant::now();
    let sent = progress.acknowledged.load(Ordering::SeqCst);
    while taken(server.client(), &apps)? < sent {
        ensure!(start.elapsed() < Duration::from_secs(120), "the app doesn't get done with {sent} readings");
        std::thread::sleep(Duration::from_millis(10));
    }
    let drained = start.elapsed().as_secs_f64();
    check(server.client(), &apps, &requests, sent)?;
    let _ = write!(note, "; the last were done after {drained:.2} s, and the state is the model's");
    row.notes.push(note);
    ensure!(server.stop()?.success(), "the server didn't stop cleanly");
    Ok(())
}

/// Warms up, measures, and says what there is to say of it.
fn window(
    points: u32,
    apps: &[String],
    effort: Effort,
    server: &Server,
    progress: &Progress,
    row: &mut Row,
) -> Result<String> {
    follow(server, apps, progress, effort.warm_up)?;
    // From here on no point is new.
    let every = (every_one(points) * READINGS) as u64;
    while progress.acknowledged.load(Ordering::SeqCst) < every && !progress.stop.load(Ordering::SeqCst) {
        follow(server, apps, progress, effort.warm_up / 10)?;
    }
    let sample = || -> Result<_> {
        let taken = taken(server.client(), apps)?;
        let acknowledged = progress.acknowledged.load(Ordering::SeqCst);
        Ok((Instant::now(), taken, acknowledged, Usage::now(Some(server.pid()))?))
    };
    let (begin, taken_before, acknowledged_before, usage_before) = sample()?;
    follow(server, apps, progress, effort.run)?;
    let (end, taken_after, acknowledged_after, usage_after) = sample()?;
    let seconds = (end - begin).as_secs_f64();
    let taken = (taken_after - taken_before) as f64 / seconds;
    let acknowledged = (acknowledged_after - acknowledged_before) as f64 / seconds;
    // A backlog of the warm-up that is worked off doesn't count, nor one that is left.
    row.runs.push(taken.min(acknowledged) * apps.len() as f64);
    row.shares = usage_after.since(&usage_before);
    let (mut readings, mut invocations) = (0, 0);
    for id in apps {
        let counters = server.client().installation(id)?["counters"].clone();
        let number = |name: &str| counters[name].as_u64().unwrap_or_default();
        ensure!(number("failures") == 0 && number("dead_letters") == 0, "the app failed: {counters}");
        readings += number("readings");
        invocations += number("invocations");
    }
    let per_invocation = readings / invocations.max(1);
    Ok(format!(
        "{acknowledged:.0}/s acknowledged and {taken:.0}/s taken; {per_invocation} readings an invocation; {} readings \
         behind at the end; {} pushes were asked to wait; {:.0} MiB resident",
        acknowledged_after.saturating_sub(taken_after),
        progress.refused.load(Ordering::SeqCst),
        server.resident_bytes()? as f64 / f64::from(1 << 20),
    ))
}

/// Lets the sources know how far the app is, for a while.
fn follow(server: &Server, apps: &[String], progress: &Progress, time: Duration) -> Result<()> {
    let start = Instant::now();
    while start.elapsed() < time && !progress.stop.load(Ordering::SeqCst) {
        progress.taken.store(taken(server.client(), apps)?, Ordering::SeqCst);
        std::thread::sleep(Duration::from_millis(25).min(time.saturating_sub(start.elapsed())));
    }
    Ok(())
}

/// How many readings all apps have taken, durably.
fn taken(client: &Client, apps: &[String]) -> Result<u64> {
    let mut least = u64::MAX;
    for id in apps {
        let shown = client.installation(id)?;
        ensure!(shown["state"] == "running", "the installation doesn't run: {shown}");
        let readings = shown["counters"]["readings"].as_u64();
        least = least.min(readings.with_context(|| format!("no counter in {shown}"))?);
    }
    Ok(least)
}

fn push_until_stopped(url: &str, requests: &[Request], progress: &Progress, first: usize) -> Result<()> {
    let sent = send_in_turn(url, requests, progress, first);
    if sent.is_err() {
        progress.stop.store(true, Ordering::SeqCst);
    }
    sent
}

fn send_in_turn(url: &str, requests: &[Request], progress: &Progress, first: usize) -> Result<()> {
    let mut connection = Connection::open(url)?;
    // Each its own part of the requests.
    for request in requests.iter().skip(first).step_by(CONNECTIONS).cycle() {
        loop {
            if progress.stop.load(Ordering::SeqCst) {
                return Ok(());
            }
            let behind = progress.acknowledged.load(Ordering::SeqCst);
            if behind.saturating_sub(progress.taken.load(Ordering::SeqCst)) > MOST_BEHIND {
                std::thread::sleep(Duration::from_millis(2));
                continue;
            }
            let answer = connection.send(&request.bytes)?;
            match answer.status {
                200 => break,
                503 => {
                    progress.refused.fetch_add(1, Ordering::SeqCst);
                    std::thread::sleep(Duration::from_millis(20));
                }
                status => bail!("a push got {status}: {}", String::from_utf8_lossy(answer.body)),
            }
        }
        request.acknowledged.fetch_add(1, Ordering::SeqCst);
        progress.acknowledged.fetch_add(READINGS as u64, Ordering::SeqCst);
    }
    Ok(())
}

/// Requests that name each point once.
fn every_one(points: u32) -> usize {
    (points as usize).div_ceil(READINGS)
}

/// Random points and values. The first requests together have every point once.
fn requests(url: &str, points: u32, seed: u64) -> Result<Vec<Request>> {
    let mut random = ChaCha8Rng::seed_from_u64(seed);
    let mut every: Vec<u32> = (0..points).collect();
    every.shuffle(&mut random);
    let mut next = every.into_iter();
    let count = REQUESTS.max(every_one(points));
    let mut requests = Vec::with_capacity(count);
    for _ in 0..count {
        let mut body = String::with_capacity(READINGS * 48);
        let mut readings = Vec::with_capacity(READINGS);
        for _ in 0..READINGS {
            let point = next.next().unwrap_or_else(|| random.random_range(0..points));
            // Halves: their sums are exact in any order, so that the order of requests doesn't matter.
            let value = f64::from(random.random_range(0..2_000_u32)) / 2.0;
            writeln!(body, r#"{{"point":"bench/p{point}/value","value":{value:?}}}"#)?;
            readings.push((point, value));
        }
        requests.push(Request { bytes: push(url, &body)?, readings, acknowledged: AtomicU64::new(0) });
    }
    Ok(requests)
}

/// Holds each app's state against count and sum of what was acknowledged.
fn check(client: &Client, apps: &[String], requests: &[Request], sent: u64) -> Result<()> {
    let mut by_point = BTreeMap::<u32, (u64, f64)>::new();
    for request in requests {
        let times = request.acknowledged.load(Ordering::SeqCst);
        for (point, value) in request.readings.iter().filter(|_| times > 0) {
            let (count, sum) = by_point.entry(*point).or_default();
            *count += times;
            *sum += value * times as f64;
        }
    }
    let expected: Sums = by_point.into_iter().map(|(point, sum)| (format!("p{point}"), sum)).collect();
    ensure!(expected.values().map(|(count, _)| count).sum::<u64>() == sent, "the model lost count");
    apps.iter().try_for_each(|id| {
        model::difference(&expected, &model::state_of(client, id)?)
            .with_context(|| format!("the state of {id} isn't what was acknowledged"))
    })
}
