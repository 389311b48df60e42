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
use crate::bodies;
use crate::connection::{Connection, push, push_as};
use crate::machine::Usage;
use crate::report::{Bound, Row};

const CONNECTIONS: usize = 8;
pub(crate) const READINGS: usize = 1_000;
/// Readings of one request that has columns.
const COLUMN_READINGS: usize = 10_000;
/// Readings of different requests, sent in turn: more than any cache holds, and where points are more, enough for each.
const DIFFERENT: usize = 400_000;
/// The same where points are drawn at random: each comes three times in a turn on average.
const DRAWN: usize = 3_000_000;
/// How many apps take each reading where they are several.
const FAN_OUT: u8 = 10;
/// How many acknowledged readings the app may be behind before the sources wait: what is measured is
/// what goes through to the end, and not how fast a backlog grows.
const MOST_BEHIND: u64 = 500_000;

/// A request, and what it brings.
pub(crate) struct Request {
    pub bytes: Vec<u8>,
    readings: Vec<(u32, f64)>,
    pub acknowledged: AtomicU64,
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
    /// A site as large as may be: its points come in one order, again and again.
    Largest,
    /// The same, and which point is next is drawn at random.
    Drawn,
    /// The same as the largest on the engine that isn't the default.
    OtherEngine,
    /// Each reading goes to several apps.
    FanOut,
    /// As columns, and to no app.
    Columns,
    /// As columns to one app.
    ColumnsToState,
}

impl Push {
    fn points(self) -> u32 {
        match self {
            Self::Largest | Self::Drawn | Self::OtherEngine => 1_000_000,
            _ => 10_000,
        }
    }

    /// The requests that are sent once only: from then on each point is there.
    fn once(self) -> usize {
        if self == Self::Drawn { self.form().every_one(self.points()) } else { 0 }
    }

    fn config(self) -> &'static str {
        if self == Self::OtherEngine { "[store]\nengine = \"sled\"\n" } else { "" }
    }

    fn form(self) -> Form {
        if matches!(self, Self::Columns | Self::ColumnsToState) { Form::Columns } else { Form::Lines }
    }

    /// Names the installations.
    fn names(self) -> Vec<String> {
        let apps = match self {
            Self::FanOut => FAN_OUT,
            Self::Columns => 0,
            _ => 1,
        };
        (0..apps).map(|number| format!("sums-{number}")).collect()
    }

    /// The limits of the install. A key costs 128 bytes of the state besides what it holds.
    fn limits(self) -> Value {
        match self {
            Self::Defaults => json!({}),
            _ => json!({"share": "1 s", "state": "1 GiB"}),
        }
    }
}

/// The form of a body.
#[derive(Clone, Copy, Debug)]
enum Form {
    Lines,
    Columns,
}

impl Form {
    /// The readings of one request.
    fn readings(self) -> usize {
        match self {
            Self::Lines => READINGS,
            Self::Columns => COLUMN_READINGS,
        }
    }

    /// Requests that name each point once.
    fn every_one(self, points: u32) -> usize {
        (points as usize).div_ceil(self.readings())
    }

    fn request(self, url: &str, readings: &[(u32, f64)]) -> Result<Vec<u8>> {
        match self {
            Self::Lines => push(url, &bodies::lines(readings)?),
            Self::Columns => push_as(url, "application/vnd.apache.arrow.stream", &bodies::columns(readings)?),
        }
    }
}

/// Measures one of the rows, with what the server takes at the end of each run.
pub(crate) fn measure(push: Push, effort: Effort) -> Result<Vec<Row>> {
    let (what, bound) = match push {
        Push::Granted => (
            "readings, push of 1,000 -> durable -> one state a point -> durable, 10,000 points, granted a core and 1 GiB of state",
            Bound::AtLeast(1_300_000.0),
        ),
        Push::Defaults => ("the same without a grant: half a core, 64 MiB of state", Bound::Told),
        Push::Largest => (
            "the same with 1,000,000 points in one order, granted a core and 1 GiB of state",
            Bound::AtLeast(700_000.0),
        ),
        Push::Drawn => ("the same with 1,000,000 points that are drawn at random", Bound::AtLeast(700_000.0)),
        Push::OtherEngine => ("the same with 1,000,000 points in one order, on sled", Bound::Told),
        Push::FanOut => (
            "readings delivered, push of 1,000 -> durable -> each to ten distinct apps with one state a point -> durable, 10,000 points",
            Bound::AtLeast(2_000_000.0),
        ),
        Push::Columns => (
            "readings acknowledged, push of 10,000 as an Arrow stream with a time each -> durable, 10,000 points, no app",
            Bound::AtLeast(3_000_000.0),
        ),
        Push::ColumnsToState => ("the same through one state a point", Bound::Told),
    };
    let mut row = Row {
        what,
        unit: "readings/s",
        bound,
        runs: Vec::new(),
        notes: Vec::new(),
        shares: crate::machine::Shares::default(),
    };
    let is_large = matches!(push, Push::Largest | Push::Drawn);
    let most = if is_large { Bound::AtMost(500.0) } else { Bound::Told };
    let mut memory = Row::of("memory at the end of a run", "MB", most, 0.0);
    memory.runs.clear();
    for number in 1..=effort.runs {
        memory.runs.push(run(push, effort, number, &mut row).with_context(|| format!("run {number}"))?);
    }
    Ok(vec![row, memory])
}

/// Measures pushes of columns, which apps are slower than; what goes through to a state is a note.
pub(crate) fn columns(effort: Effort) -> Result<Vec<Row>> {
    let mut rows = measure(Push::Columns, effort)?;
    let through = measure(Push::ColumnsToState, Effort { runs: 1, ..effort })?;
    let rate = through[0].value();
    rows[0].notes.push(format!("in state, with an app that is granted a core: {rate:.0}/s"));
    rows[0].notes.extend(through.into_iter().flat_map(|row| row.notes));
    Ok(rows)
}

/// Gives the server's memory at the end, in megabytes.
fn run(push: Push, effort: Effort, number: usize, row: &mut Row) -> Result<f64> {
    let apps = push.names();
    // A folder of its own for each run: the first minute after an install is what is compared.
    let server = Setup::new()?.config(push.config()).start()?;
    let bindings = json!({"value": ["bench/{point}/value"]});
    for (number, id) in (0..).zip(&apps) {
        let package = guests::variant("one-state", number)?;
        apps::install(server.client(), id, &package, bindings.clone(), json!({"limits": push.limits()}))?;
    }
    let different = if push == Push::Drawn { push.points() as usize + DRAWN } else { DIFFERENT };
    let requests = requests_as(push.form(), server.client().url(), push.points(), different, number as u64)?;
    let progress = Progress::default();
    let (mut note, memory) = std::thread::scope(|scope| {
        let source = |first| {
            let (url, progress) = (server.client().url(), &progress);
            let requests = requests.split_at(push.once());
            scope.spawn(move || push_until_stopped(url, requests, progress, first))
        };
        let sources: Vec<_> = (0..CONNECTIONS).map(source).collect();
        let note = window(push, &apps, effort, &server, &progress, row);
        progress.stop.store(true, Ordering::SeqCst);
        for source in sources {
            match source.join() {
                Ok(ended) => ended?,
                Err(_) => bail!("a source panicked"),
            }
        }
        note
    })?;
    let sent = progress.acknowledged.load(Ordering::SeqCst);
    if apps.is_empty() {
        let last = server.client().journal(sent.saturating_sub(1), "")?;
        ensure!(last.len() == 1, "{} readings are there from the last one on", last.len());
    } else {
        let drained = drained(server.client(), &apps, &requests, sent)?;
        let _ = write!(note, "; the last were done after {drained:.2} s, and the state is the model's");
    }
    let setup = server.setup().clone();
    let start = Instant::now();
    ensure!(server.stop()?.success(), "the server didn't stop cleanly");
    let stopped = start.elapsed().as_secs_f64();
    let start = Instant::now();
    let server = setup.start()?;
    let started = start.elapsed().as_secs_f64();
    check(server.client(), &apps, &requests, sent)?;
    let _ = write!(note, "; stopped in {stopped:.2} s, and with the same state again in {started:.2} s");
    row.notes.push(note);
    Ok(memory)
}

/// Warms up, measures, and says what there is to say of it; with the memory in megabytes.
fn window(
    push: Push,
    apps: &[String],
    effort: Effort,
    server: &Server,
    progress: &Progress,
    row: &mut Row,
) -> Result<(String, f64)> {
    follow(server, apps, progress, effort.warm_up)?;
    // From here on no point is new.
    let every = (push.form().every_one(push.points()) * push.form().readings()) as u64;
    while progress.acknowledged.load(Ordering::SeqCst) < every && !progress.stop.load(Ordering::SeqCst) {
        follow(server, apps, progress, effort.warm_up / 10)?;
    }
    let sample = || -> Result<_> {
        let acknowledged = progress.acknowledged.load(Ordering::SeqCst);
        let taken = if apps.is_empty() { acknowledged } else { taken(server.client(), apps)? };
        Ok((Instant::now(), taken, acknowledged, Usage::now(Some(server.pid()))?))
    };
    let (begin, taken_before, acknowledged_before, usage_before) = sample()?;
    follow(server, apps, progress, effort.run)?;
    let (end, taken_after, acknowledged_after, usage_after) = sample()?;
    let seconds = (end - begin).as_secs_f64();
    let taken = (taken_after - taken_before) as f64 / seconds;
    let acknowledged = (acknowledged_after - acknowledged_before) as f64 / seconds;
    // A backlog of the warm-up that is worked off doesn't count, nor one that is left.
    row.runs.push(taken.min(acknowledged) * apps.len().max(1) as f64);
    row.shares = usage_after.since(&usage_before);
    let (mut readings, mut invocations) = (0, 0);
    for id in apps {
        let counters = server.client().installation(id)?["counters"].clone();
        let number = |name: &str| counters[name].as_u64().unwrap_or_default();
        ensure!(number("failures") == 0 && number("dead_letters") == 0, "the app failed: {counters}");
        readings += number("readings");
        invocations += number("invocations");
    }
    let asked_to_wait = progress.refused.load(Ordering::SeqCst);
    let memory = server.resident_bytes()? as f64 / 1e6;
    let rest = format!("{asked_to_wait} pushes were asked to wait");
    if apps.is_empty() {
        return Ok((format!("{acknowledged:.0}/s acknowledged; {rest}"), memory));
    }
    let per_invocation = readings / invocations.max(1);
    let behind = acknowledged_after.saturating_sub(taken_after);
    let note = format!(
        "{acknowledged:.0}/s acknowledged and {taken:.0}/s taken; {per_invocation} readings an invocation; {behind} readings \
         behind at the end; {rest}"
    );
    Ok((note, memory))
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

/// How many readings all apps have taken, durably; without one, nothing waits.
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

/// Requests that are sent once, and those that are sent again and again behind them.
type Turns<'r> = (&'r [Request], &'r [Request]);

fn push_until_stopped(url: &str, requests: Turns<'_>, progress: &Progress, first: usize) -> Result<()> {
    let sent = send_in_turn(url, requests, progress, first);
    if sent.is_err() {
        progress.stop.store(true, Ordering::SeqCst);
    }
    sent
}

fn send_in_turn(url: &str, (once, again): Turns<'_>, progress: &Progress, first: usize) -> Result<()> {
    let mut connection = Connection::open(url)?;
    // Each its own part of the requests.
    let once = once.iter().skip(first).step_by(CONNECTIONS);
    for request in once.chain(again.iter().skip(first).step_by(CONNECTIONS).cycle()) {
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
        progress.acknowledged.fetch_add(request.readings.len() as u64, Ordering::SeqCst);
    }
    Ok(())
}

/// Random points and values. The first requests together have every point once.
pub(crate) fn requests(url: &str, points: u32, seed: u64) -> Result<Vec<Request>> {
    requests_as(Form::Lines, url, points, DIFFERENT, seed)
}

fn requests_as(form: Form, url: &str, points: u32, different: usize, seed: u64) -> Result<Vec<Request>> {
    let mut random = ChaCha8Rng::seed_from_u64(seed);
    let mut every: Vec<u32> = (0..points).collect();
    every.shuffle(&mut random);
    let mut next = every.into_iter();
    let count = (different / form.readings()).max(form.every_one(points));
    let mut requests = Vec::with_capacity(count);
    for _ in 0..count {
        let mut readings = Vec::with_capacity(form.readings());
        for _ in 0..form.readings() {
            let point = next.next().unwrap_or_else(|| random.random_range(0..points));
            // Halves: their sums are exact in any order, so that the order of requests doesn't matter.
            readings.push((point, f64::from(random.random_range(0..2_000_u32)) / 2.0));
        }
        let bytes = form.request(url, &readings)?;
        requests.push(Request { bytes, readings, acknowledged: AtomicU64::new(0) });
    }
    Ok(requests)
}

/// Waits until each app has taken all that was acknowledged, and holds its state against a model. Returns the seconds
/// that it took.
pub(crate) fn drained(client: &Client, apps: &[String], requests: &[Request], sent: u64) -> Result<f64> {
    let start = Instant::now();
    while taken(client, apps)? < sent {
        ensure!(start.elapsed() < Duration::from_secs(120), "the app doesn't get done with {sent} readings");
        std::thread::sleep(Duration::from_millis(10));
    }
    let took = start.elapsed().as_secs_f64();
    check(client, apps, requests, sent)?;
    Ok(took)
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
