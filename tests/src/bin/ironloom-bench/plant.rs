//! A plant's worth: a million points, a long journal. What each costs in memory, and what a restart costs.

use std::fmt::Write as _;
use std::fs;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, bail, ensure};
use ironloom_tests::{Server, Setup};
use serde_json::json;

use crate::Effort;
use crate::connection::{Connection, get, push};
use crate::report::{Bound, Row};

/// The folder in which a long journal is made once, and found again.
const JOURNAL_FOLDER: &str = "IRONLOOM_BENCH_JOURNAL";
/// Other numbers than those of the rows, for whoever looks for what grows with them.
const POINTS: &str = "IRONLOOM_BENCH_POINTS";
const READINGS: &str = "IRONLOOM_BENCH_READINGS";

/// Readings of one request.
pub(crate) const LINES: usize = 1_000;
/// The time that a server gets that is slower than promised.
pub(crate) const PATIENCE: Duration = Duration::from_secs(300);

pub(crate) fn number(variable: &str, full: usize, small: usize, effort: Effort) -> Result<usize> {
    match std::env::var(variable) {
        Ok(text) => text.parse().with_context(|| format!("{variable} is {text:?}, not a number")),
        Err(_) => Ok(if effort.smoke { small } else { full }),
    }
}

fn megabytes(bytes: u64) -> f64 {
    bytes as f64 / 1e6
}

/// The memory of a server after it has been quiet for so long.
pub(crate) fn memory(server: &Server, quiet: Duration) -> Result<f64> {
    std::thread::sleep(quiet);
    Ok(megabytes(server.resident_bytes()?))
}

/// The time that memory is given to come back.
pub(crate) fn quiet(effort: Effort) -> Duration {
    if effort.smoke { Duration::from_millis(100) } else { Duration::from_secs(10) }
}

/// An empty server, and what it takes.
pub(crate) fn empty(effort: Effort) -> Result<(Server, f64)> {
    let server = Setup::new()?.start()?;
    let memory = memory(&server, quiet(effort) / 5)?;
    Ok((server, memory))
}

/// Seconds from the start of the process until it is ready.
pub(crate) fn start(setup: &Setup) -> Result<(Server, f64)> {
    let begin = Instant::now();
    let server = setup.start_listening()?;
    let mut connection = Connection::open(server.client().url())?;
    let ready = get(server.client().url(), "/readyz")?;
    while connection.send(&ready)?.status != 200 {
        ensure!(begin.elapsed() < PATIENCE, "not ready after {PATIENCE:?}:\n{}", setup.said());
        std::thread::sleep(Duration::from_millis(2));
    }
    Ok((server, begin.elapsed().as_secs_f64()))
}

/// Sends a push until it is taken.
pub(crate) fn send(connection: &mut Connection, request: &[u8]) -> Result<()> {
    let begin = Instant::now();
    loop {
        let answer = connection.send(request)?;
        match answer.status {
            200 => return Ok(()),
            503 if begin.elapsed() < PATIENCE => std::thread::sleep(Duration::from_millis(20)),
            status => bail!("a push got {status}: {}", String::from_utf8_lossy(answer.body)),
        }
    }
}

/// A path of 40 to 60 bytes.
fn path(number: usize) -> String {
    let (area, line) = (number / 100_000, number / 1_000);
    format!("plant/area-{area:02}/line-{line:04}/machine-{number:07}/flow")
}

/// Points that nobody reads, each with a latest value.
pub(crate) fn points(effort: Effort) -> Result<Vec<Row>> {
    let count = number(POINTS, 1_000_000, 10_000, effort)?;
    ensure!((40..=60).contains(&path(count).len()), "{} has another length", path(count));
    let (server, before) = empty(effort)?;
    let url = server.client().url();
    let mut connection = Connection::open(url)?;
    let begin = Instant::now();
    for first in (0..count).step_by(LINES) {
        let mut body = String::with_capacity(LINES * 80);
        for number in first..(first + LINES).min(count) {
            writeln!(body, "{{\"point\":\"{}\",\"value\":{number}.5}}", path(number))?;
        }
        send(&mut connection, &push(url, &body)?)?;
    }
    let took = begin.elapsed().as_secs_f64();
    let after = memory(&server, quiet(effort))?;
    let setup = server.setup().clone();
    server.kill()?;
    let (server, killed) = start(&setup)?;
    let again = memory(&server, quiet(effort))?;
    let shown = server.client().get(&format!("/v1/points?prefix={}", path(count - 1)))?.json()?;
    ensure!(shown["items"][0]["value"] == json!((count - 1) as f64 + 0.5), "the last point is {shown}");
    ensure!(server.stop()?.success(), "the server didn't stop cleanly");
    let (server, clean) = start(&setup)?;
    let rested = memory(&server, quiet(effort))?;
    ensure!(server.stop()?.success(), "the server didn't stop cleanly");
    let mut rows = vec![
        Row::of(
            "1,000,000 points of 40 to 60 bytes with a latest value: memory above an empty server",
            "MB",
            Bound::AtMost(300.0),
            after.max(again).max(rested) - before,
        ),
        Row::of("the same after kill -9: exec -> ready", "s", Bound::AtMost(5.0), killed),
        Row::of("the same after a clean stop: exec -> ready", "s", Bound::AtMost(5.0), clean),
    ];
    rows[0].notes.push(format!(
        "{count} points, pushed in {took:.1} s; above empty: {:.0} MB, {:.0} MB after kill -9, {:.0} MB after a clean stop",
        after - before,
        again - before,
        rested - before,
    ));
    Ok(rows)
}

/// Points of the long journal, each with a reading a minute.
const JOURNAL_POINTS: usize = 1_000;
const MINUTES_A_DAY: usize = 1_440;
const SOURCES: usize = 4;
/// When the readings of the long journal begin, in seconds since 1970: 2024-01-01.
const JOURNAL_BEGIN: i64 = 1_704_067_200;

/// A journal that is made once in a folder that stays.
pub(crate) fn journal(effort: Effort) -> Result<Vec<Row>> {
    let what = "a journal of 1,000,000,000 readings: restart, memory, a point's last day";
    let setup = Setup::new()?;
    let folder = match std::env::var_os(JOURNAL_FOLDER) {
        Some(folder) => PathBuf::from(folder),
        None if effort.smoke => setup.folder().join("journal"),
        None => return Ok(vec![Row::skipped(what, "IRONLOOM_BENCH_JOURNAL names no folder to keep it in")]),
    };
    let readings = number(READINGS, 1_000_000_000, 200_000, effort)?;
    let minutes = readings.div_ceil(JOURNAL_POINTS);
    let setup = setup.data_in(&folder);
    let (server, before) = empty(effort)?;
    drop(server);
    let made = make(&setup, &folder, minutes)?;

    let (server, ready) = start(&setup)?;
    // A start searches the newest segment of the log, 64 MiB, and the allocator gives those back after ten seconds.
    let memory = memory(&server, 2 * quiet(effort))?;
    let last = JOURNAL_BEGIN + (minutes as i64) * 60;
    let from = last - (MINUTES_A_DAY as i64) * 60;
    let day = format!("/v1/readings?point={}&from={}&to={}&limit=10000", named(7), time(from)?, time(last)?);
    let request = get(server.client().url(), &day)?;
    let mut connection = Connection::open(server.client().url())?;
    let (mut times, mut lines) = (Vec::new(), 0);
    for _ in 0..5 {
        let begin = Instant::now();
        let answer = connection.send(&request)?;
        times.push(begin.elapsed().as_secs_f64() * 1e3);
        ensure!(answer.status == 200, "{}: {}", answer.status, String::from_utf8_lossy(answer.body));
        lines = answer.body.iter().filter(|byte| **byte == b'\n').count();
    }
    ensure!(lines == MINUTES_A_DAY.min(minutes), "the point's last day has {lines} readings");
    ensure!(server.stop()?.success(), "the server didn't stop cleanly");
    let mut rows = vec![
        Row::of("a journal of 1,000,000,000 readings: exec -> ready", "s", Bound::AtMost(5.0), ready),
        Row::of("memory above an empty server", "MB", Bound::AtMost(200.0), memory - before),
        Row::of(
            "one point's last day read back, of 1,000 with a reading a minute",
            "ms",
            Bound::AtMost(50.0),
            0.0,
        ),
    ];
    rows[2].runs = times;
    rows[0].notes.push(format!("{} readings; {made}", minutes * JOURNAL_POINTS));
    Ok(rows)
}

fn named(point: usize) -> String {
    format!("mill/line-{:02}/p{point:04}/level", point / 100)
}

fn time(seconds: i64) -> Result<String> {
    Ok(jiff::Timestamp::from_second(seconds)?.to_string())
}

/// Makes the journal where it isn't there yet.
fn make(setup: &Setup, folder: &Path, minutes: usize) -> Result<String> {
    let done = folder.with_extension("made");
    let expected = format!("{minutes} minutes of {JOURNAL_POINTS} points\n");
    if fs::read_to_string(&done).is_ok_and(|text| text == expected) {
        return Ok("made before".to_owned());
    }
    ensure!(
        !folder.exists(),
        "{} holds something else than {expected:?}; remove it, or name another folder",
        folder.display()
    );
    let server = setup.start()?;
    let begin = Instant::now();
    let url = server.client().url();
    let written = std::thread::scope(|scope| {
        let source =
            |source: usize| scope.spawn(move || push_minutes(url, (source..minutes).step_by(SOURCES)));
        let sources: Vec<_> = (0..SOURCES).map(source).collect();
        sources.into_iter().try_for_each(|source| match source.join() {
            Ok(written) => written,
            Err(_) => bail!("a source panicked"),
        })
    });
    written?;
    let seconds = begin.elapsed().as_secs_f64();
    ensure!(server.stop()?.success(), "the server didn't stop cleanly");
    fs::write(&done, expected)?;
    let rate = (minutes * JOURNAL_POINTS) as f64 / seconds;
    Ok(format!("made in {seconds:.0} s, {rate:.0} readings/s"))
}

/// Pushes these minutes, one request each. Only times and values change from one to the next.
fn push_minutes(url: &str, minutes: impl Iterator<Item = usize>) -> Result<()> {
    let mut connection = Connection::open(url)?;
    let mut body = String::with_capacity(JOURNAL_POINTS * 96);
    for minute in minutes {
        body.clear();
        let at = time(JOURNAL_BEGIN + minute as i64 * 60)?;
        for point in 0..JOURNAL_POINTS {
            let (line, value) = (point / 100, (minute * 7 + point * 13) % 1_000);
            writeln!(
                body,
                "{{\"point\":\"mill/line-{line:02}/p{point:04}/level\",\"value\":{value}.5,\"at\":\"{at}\"}}"
            )?;
        }
        send(&mut connection, &push(url, &body)?)?;
    }
    Ok(())
}
