//! Pushes while checkpoints run.

use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, bail, ensure};
use ironloom_tests::{Client, Server, Setup, apps, guests};
use serde_json::json;

use crate::Effort;
use crate::connection::{Connection, push};
use crate::machine::Usage;
use crate::pushes::{self, READINGS, Request};
use crate::report::{Bound, Row, quantile};

const APP: &str = "sums";
/// Connections of the load.
const SOURCES: usize = 2;
/// Readings a second that the load brings: what makes checkpoints run without filling the machine.
const LOAD: usize = 200_000;
/// Checkpoints that are waited for, and how long at most.
const CHECKPOINTS: u64 = 3;
const PATIENCE: Duration = Duration::from_secs(300);
/// The interval at which the ends of checkpoints are looked for.
const LOOK: Duration = Duration::from_millis(100);

/// A stretch of time.
type Span = (Instant, Instant);

/// Shared by all who send and look.
#[derive(Default)]
struct Progress {
    stop: AtomicBool,
    /// Readings of the load that were acknowledged.
    acknowledged: AtomicU64,
}

impl Progress {
    fn goes_on(&self) -> bool {
        !self.stop.load(Ordering::SeqCst)
    }
}

/// Stops everybody else when it goes, so that nobody is waited for in vain.
struct StopsAll<'p>(&'p Progress);

impl Drop for StopsAll<'_> {
    fn drop(&mut self) {
        self.0.stop.store(true, Ordering::SeqCst);
    }
}

/// Sends its part of the requests in turn. `pace`: one in each such time; without it as fast as it goes, until every
/// one was sent once.
fn load(
    url: &str,
    requests: &[Request],
    source: usize,
    pace: Option<Duration>,
    progress: &Progress,
) -> Result<()> {
    let mut connection = Connection::open(url)?;
    let own = requests.iter().skip(source).step_by(SOURCES);
    let turns: Box<dyn Iterator<Item = &Request>> =
        if pace.is_some() { Box::new(own.cycle()) } else { Box::new(own) };
    let mut due = Instant::now();
    for request in turns {
        if !progress.goes_on() {
            break;
        }
        std::thread::sleep(due.saturating_duration_since(Instant::now()));
        // Whoever is late doesn't make up for it.
        due = pace.map_or(due, |pace| (due + pace).max(Instant::now()));
        while !sent(&mut connection, &request.bytes)? {
            std::thread::sleep(Duration::from_millis(20));
        }
        request.acknowledged.fetch_add(1, Ordering::SeqCst);
        progress.acknowledged.fetch_add(READINGS as u64, Ordering::SeqCst);
    }
    Ok(())
}

/// Sends a push. Returns `true` where it was taken, `false` where it has to be repeated.
fn sent(connection: &mut Connection, request: &[u8]) -> Result<bool> {
    let answer = connection.send(request)?;
    match answer.status {
        200 => Ok(true),
        503 => Ok(false),
        status => bail!("a push got {status}: {}", String::from_utf8_lossy(answer.body)),
    }
}

/// One reading after the other, each in a request of its own: when, and until when.
fn probe(url: &str, progress: &Progress) -> Result<Vec<Span>> {
    let _end = StopsAll(progress);
    let mut connection = Connection::open(url)?;
    let request = push(url, "{\"point\":\"probe/value\",\"value\":1.5}\n")?;
    let mut probes = Vec::new();
    while progress.goes_on() {
        let begin = Instant::now();
        // One that is refused for want of room took as long as it takes until it isn't.
        while !sent(&mut connection, &request)? {
            std::thread::sleep(Duration::from_millis(1));
        }
        probes.push((begin, Instant::now()));
        std::thread::sleep(Duration::from_micros(500));
    }
    Ok(probes)
}

/// Returns the number of checkpoints that were made, and the seconds that they took together.
fn made(client: &Client) -> Result<(u64, f64)> {
    let text = client.get("/metrics")?.text();
    let figure = |name: &str| {
        let line = text.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(' '));
        line.with_context(|| format!("no {name} in the metrics"))?.parse::<f64>().context("not a number")
    };
    Ok((figure("ironloom_checkpoint_seconds_count")? as u64, figure("ironloom_checkpoint_seconds_sum")?))
}

/// When checkpoints ran, until there were enough of them; a look earlier at most.
fn watch(client: &Client, effort: Effort, progress: &Progress) -> Result<Vec<Span>> {
    let (start, (first, mut seconds)) = (Instant::now(), made(client)?);
    let (mut count, mut looked) = (first, Instant::now());
    let mut spans = Vec::new();
    let enough = if effort.smoke { 0 } else { CHECKPOINTS };
    while progress.goes_on() && (count - first < enough || start.elapsed() < effort.run) {
        ensure!(start.elapsed() < PATIENCE, "{} checkpoints in {PATIENCE:?}", count - first);
        std::thread::sleep(LOOK);
        let now = made(client)?;
        if now.0 > count {
            // It ended since the last look.
            spans.push((looked - Duration::from_secs_f64(now.1 - seconds), Instant::now()));
        }
        ((count, seconds), looked) = (now, Instant::now());
    }
    Ok(spans)
}

fn joined<T>(thread: std::thread::ScopedJoinHandle<'_, Result<T>>) -> Result<T> {
    thread.join().unwrap_or_else(|_| bail!("a source panicked"))
}

/// All that is sent while checkpoints run, and when they ran.
fn run(
    server: &Server,
    requests: &[Request],
    effort: Effort,
    progress: &Progress,
) -> Result<(Vec<Span>, Vec<Span>)> {
    let url = server.client().url();
    std::thread::scope(|scope| {
        let sources: Vec<_> = (0..SOURCES)
            .map(|source| {
                scope.spawn(move || {
                    let _end = StopsAll(progress);
                    load(url, requests, source, None, progress)?;
                    let pace = Duration::from_secs_f64((SOURCES * READINGS) as f64 / LOAD as f64);
                    load(url, requests, source, Some(pace), progress)
                })
            })
            .collect();
        let every = (requests.len() * READINGS) as u64;
        while progress.goes_on() && progress.acknowledged.load(Ordering::SeqCst) < every {
            std::thread::sleep(Duration::from_millis(20));
        }
        let probes = scope.spawn(move || probe(url, progress));
        let end = StopsAll(progress);
        let checkpoints = watch(server.client(), effort, progress);
        drop(end);
        sources.into_iter().try_for_each(joined)?;
        Ok((joined(probes)?, checkpoints?))
    })
}

pub(crate) fn measure(effort: Effort) -> Result<Row> {
    let points = if effort.smoke { 10_000 } else { 1_000_000 };
    let server = Setup::new()?.start()?;
    let bindings = json!({"value": ["bench/{point}/value"]});
    let limits = json!({"limits": {"share": "1 s", "state": "1 GiB"}});
    apps::install(server.client(), APP, &guests::package("one-state")?, bindings, limits)?;
    // One of them is the probe's.
    let requests = pushes::requests(server.client().url(), points - 1, 1)?;
    let progress = Progress::default();
    let before = Usage::now(Some(server.pid()))?;
    let (probes, checkpoints) = run(&server, &requests, effort, &progress)?;
    let shares = Usage::now(Some(server.pid()))?.since(&before);
    let sent = progress.acknowledged.load(Ordering::SeqCst);
    pushes::drained(server.client(), &[APP.to_owned()], &requests, sent)?;
    ensure!(server.stop()?.success(), "the server didn't stop cleanly");

    let overlaps = |(begin, end): &Span| checkpoints.iter().any(|(from, to)| begin < to && from < end);
    let (during, between): (Vec<Span>, Vec<Span>) = probes.iter().partition(|probe| overlaps(probe));
    let millis = |probes: &[Span]| -> Vec<f64> {
        probes.iter().map(|(begin, end)| (*end - *begin).as_secs_f64() * 1e3).collect()
    };
    let (during, between) = (millis(&during), millis(&between));
    let what = "a push of one reading -> durable, while a checkpoint runs, 1,000,000 points with a state each: p99.9";
    if during.is_empty() {
        return Ok(Row::skipped(what, "no checkpoint ran in so short a time"));
    }
    let tail = |times: &[f64]| {
        let at = |part| quantile(times, part);
        format!("p50 {:.2}, p99 {:.1}, p99.9 {:.1}, most {:.1} ms", at(0.5), at(0.99), at(0.999), at(1.0))
    };
    let took: f64 = checkpoints.iter().map(|(from, to)| (*to - *from).as_secs_f64()).sum();
    let notes = vec![
        format!(
            "{} pushes during {} checkpoints, {took:.1} s in all: {}",
            during.len(),
            checkpoints.len(),
            tail(&during)
        ),
        format!("{} between them: {}", between.len(), tail(&between)),
        format!("beside it {LOAD} readings/s of {points} points in requests of {READINGS}"),
    ];
    let p999 = quantile(&during, 0.999);
    Ok(Row { what, unit: "ms", bound: Bound::AtMost(50.0), runs: vec![p999], notes, shares })
}
