//! One reading a request, over many connections.

use std::io::{Read as _, Write as _};
use std::net::TcpStream;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, bail, ensure};
use ironloom_tests::Setup;

use crate::Effort;
use crate::connection::{Connection, push};
use crate::machine::{Shares, Usage};
use crate::report::{Bound, Row};

const CONNECTIONS: usize = 256;
/// Threads of the generator, each with its part of the connections.
const SOURCES: usize = 2;
/// Points that the readings are of.
const POINTS: usize = 10_000;

/// Shared by the sources: the number of requests that were answered with 200, and the sign to end.
#[derive(Default)]
struct Progress {
    stop: AtomicBool,
    answered: AtomicU64,
}

/// Connections that one thread drives in turn: the answer of each, and then its next request.
struct Source {
    connections: Vec<TcpStream>,
    /// Each different, sent in turn.
    requests: Vec<Vec<u8>>,
}

impl Source {
    fn open(url: &str, number: usize) -> Result<Self> {
        let open = |_| Connection::open(url).map(Connection::into_stream);
        let points = (number..POINTS).step_by(SOURCES);
        let request =
            |point| push(url, &format!("{{\"point\":\"bench/p{point:06}/value\",\"value\":{point}.5}}\n"));
        Ok(Self {
            connections: (0..CONNECTIONS / SOURCES).map(open).collect::<Result<_>>()?,
            requests: points.map(request).collect::<Result<_>>()?,
        })
    }

    fn run(&mut self, progress: &Progress) -> Result<()> {
        let mut requests = self.requests.iter().cycle();
        let mut buffer = [0; 4 << 10];
        for (connection, request) in self.connections.iter_mut().zip(&mut requests) {
            connection.write_all(request)?;
        }
        let mut goes_on = true;
        while goes_on {
            goes_on = !progress.stop.load(Ordering::Relaxed);
            for connection in &mut self.connections {
                answered(connection, &mut buffer)?;
                progress.answered.fetch_add(1, Ordering::Relaxed);
                // At the end none is sent whose answer nobody reads.
                if let (true, Some(request)) = (goes_on, requests.next()) {
                    connection.write_all(request)?;
                }
            }
        }
        Ok(())
    }
}

/// Reads one answer, which must be a 200. The server writes head and body of a short one at once, as a rule.
fn answered(connection: &mut TcpStream, buffer: &mut [u8]) -> Result<()> {
    let mut filled = 0;
    loop {
        let read = connection.read(&mut buffer[filled..]).context("waited for an answer")?;
        ensure!(read > 0, "the server closed the connection");
        filled += read;
        let so_far = &buffer[..filled];
        // The body of a 200 is an object without objects in it.
        if so_far.starts_with(b"HTTP/1.1 200 ") && so_far.ends_with(b"}") {
            return Ok(());
        }
        ensure!(
            so_far.len() < 13 || so_far.starts_with(b"HTTP/1.1 200 "),
            "a push got {}",
            String::from_utf8_lossy(so_far)
        );
        ensure!(filled < buffer.len(), "an answer without an end: {}", String::from_utf8_lossy(so_far));
    }
}

fn cores() -> f64 {
    std::thread::available_parallelism().map_or(1.0, |cores| cores.get() as f64)
}

/// Waits; returns how many requests were answered in a second.
fn rate(progress: &Progress, time: Duration) -> f64 {
    let (start, before) = (Instant::now(), progress.answered.load(Ordering::Relaxed));
    while start.elapsed() < time && !progress.stop.load(Ordering::Relaxed) {
        std::thread::sleep(Duration::from_millis(20));
    }
    (progress.answered.load(Ordering::Relaxed) - before) as f64 / start.elapsed().as_secs_f64()
}

pub(crate) fn measure(effort: Effort) -> Result<Row> {
    let server = Setup::new()?.start()?;
    let mut row = Row {
        what: "256 connections, one reading a request -> durable, 10,000 points",
        unit: "requests/s",
        bound: Bound::AtLeast(100_000.0),
        runs: Vec::new(),
        notes: Vec::new(),
        shares: Shares::default(),
    };
    let progress = Progress::default();
    std::thread::scope(|scope| {
        let source = |number| {
            let (url, progress) = (server.client().url(), &progress);
            scope.spawn(move || {
                let ran = Source::open(url, number).and_then(|mut source| source.run(progress));
                progress.stop.store(true, Ordering::Relaxed);
                ran
            })
        };
        let sources: Vec<_> = (0..SOURCES).map(source).collect();
        rate(&progress, effort.warm_up);
        let before = Usage::now(Some(server.pid()))?;
        for _ in 0..effort.runs {
            row.runs.push(rate(&progress, effort.run));
        }
        row.shares = Usage::now(Some(server.pid()))?.since(&before);
        let spent = |share: f64| share / 100.0 * cores() * 1e6 / row.value();
        row.notes.push(format!(
            "processor time of a request: {:.1} us in the server, {:.1} us in this program",
            spent(row.shares.server),
            spent(row.shares.generator)
        ));
        progress.stop.store(true, Ordering::Relaxed);
        sources.into_iter().try_for_each(|source| match source.join() {
            Ok(ran) => ran,
            Err(_) => bail!("a source panicked"),
        })
    })?;
    let answered = progress.answered.load(Ordering::Relaxed);
    let last = server.client().journal(answered - 1, "")?;
    ensure!(last.len() == 1, "{} readings behind the last but one", last.len());
    row.notes.push(format!("{answered} requests were answered, and the journal has as many readings"));
    ensure!(server.stop()?.success(), "the server didn't stop cleanly");
    Ok(row)
}
