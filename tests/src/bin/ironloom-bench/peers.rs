//! The same work by others, in the same run: PostgreSQL, SQLite and Redis, where they are installed.
//!
//! The work is a batch of 1,000 readings in one transaction that is on the disk before it is acknowledged: the id of
//! the batch, so that it is taken once; a row of the journal for each reading; count and sum of each point. Two
//! connections, each with points of its own, so that nobody waits for another's locks. All get points by their paths,
//! and the databases find the numbers of these in a table that knows all of them from the start.

mod ours;
mod postgres;
mod redis;
#[cfg(feature = "sqlite")]
mod sqlite;

use std::path::PathBuf;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, bail, ensure};
use rand::{RngExt as _, SeedableRng as _};
use rand_chacha::ChaCha8Rng;

use crate::Effort;
use crate::report::{Bound, Row, median};

const CONNECTIONS: usize = 2;
const POINTS: usize = 10_000;
const READINGS: usize = 1_000;
/// Different batches of a connection, sent in turn, each time under an id of its own.
const BATCHES: usize = 200;
/// Readings that may be acknowledged and not in the state yet.
const MOST_BEHIND: u64 = 500_000;
/// The longest run of each, and the most runs, in turn.
const RUN: Duration = Duration::from_secs(10);
const RUNS: usize = 3;

/// Readings, column by column.
struct Batch {
    points: Vec<String>,
    ats: Vec<i64>,
    values: Vec<f64>,
}

impl Batch {
    /// Of the points of one connection.
    fn random(source: usize, random: &mut ChaCha8Rng) -> Self {
        const OWN: usize = POINTS / CONNECTIONS;
        let point = |random: &mut ChaCha8Rng| path(random.random_range(0..OWN) * CONNECTIONS + source);
        Self {
            points: (0..READINGS).map(|_| point(random)).collect(),
            ats: (0..READINGS as i64).map(|row| 1_767_225_600_000_000_000 + row * 1_000_000).collect(),
            // Halves: their sums are exact in any order.
            values: (0..READINGS).map(|_| f64::from(random.random_range(0..2_000_u32)) / 2.0).collect(),
        }
    }

    fn rows(&self) -> impl Iterator<Item = (&str, i64, f64)> {
        let rest = self.ats.iter().zip(&self.values);
        self.points.iter().zip(rest).map(|(point, (&at, &value))| (&**point, at, value))
    }
}

/// The path of a point.
fn path(point: usize) -> String {
    format!("bench/p{point}/value")
}

/// Somebody who does the work.
trait Peer: Sync {
    /// One connection, which will send these batches.
    fn connect<'b>(&self, batches: &'b [Batch]) -> Result<Box<dyn Session + Send + 'b>>;

    /// Returns the number of acknowledged readings that are in the state.
    fn in_state(&self, acknowledged: u64) -> Result<u64> {
        Ok(acknowledged)
    }

    /// Returns the number of readings that the state has counted.
    fn counted(&self) -> Result<u64>;
}

trait Session {
    /// Sends the batch of this number under an id that no other has, and waits until it is on the disk.
    fn send(&mut self, number: usize, id: u64) -> Result<()>;
}

/// A peer, or the reason why there is none.
enum Found {
    Here(Box<dyn Peer>, String),
    Missing(String),
}

/// Counts of everything sent to a peer, over all of its runs.
#[derive(Default)]
struct Sent {
    batches: AtomicU64,
    acknowledged: AtomicU64,
}

/// Sends from all connections for so long; returns how many readings came into the state in a second.
fn rate(
    peer: &dyn Peer,
    batches: &[Vec<Batch>],
    sent: &Sent,
    warm_up: Duration,
    run: Duration,
) -> Result<f64> {
    let (stop, in_state) = (AtomicBool::new(false), AtomicU64::new(0));
    let acknowledged = || sent.acknowledged.load(Ordering::SeqCst);
    in_state.store(peer.in_state(acknowledged())?, Ordering::SeqCst);
    let source = |own: &[Batch]| -> Result<()> {
        let mut session = peer.connect(own)?;
        for number in (0..own.len()).cycle() {
            while acknowledged().saturating_sub(in_state.load(Ordering::SeqCst)) > MOST_BEHIND {
                std::thread::sleep(Duration::from_millis(2));
                if stop.load(Ordering::SeqCst) {
                    return Ok(());
                }
            }
            if stop.load(Ordering::SeqCst) {
                return Ok(());
            }
            session.send(number, sent.batches.fetch_add(1, Ordering::SeqCst))?;
            sent.acknowledged.fetch_add(READINGS as u64, Ordering::SeqCst);
        }
        Ok(())
    };
    std::thread::scope(|scope| {
        let (source, stop) = (&source, &stop);
        let sources: Vec<_> = batches
            .iter()
            .map(|own| {
                scope.spawn(move || {
                    let ended = source(own);
                    stop.store(true, Ordering::SeqCst);
                    ended
                })
            })
            .collect();
        let follow = |time: Duration| -> Result<u64> {
            let start = Instant::now();
            while start.elapsed() < time && !stop.load(Ordering::SeqCst) {
                in_state.store(peer.in_state(acknowledged())?, Ordering::SeqCst);
                std::thread::sleep(Duration::from_millis(25).min(time.saturating_sub(start.elapsed())));
            }
            peer.in_state(acknowledged())
        };
        let measured = follow(warm_up).and_then(|before| {
            let begin = Instant::now();
            Ok((follow(run)? - before) as f64 / begin.elapsed().as_secs_f64())
        });
        stop.store(true, Ordering::SeqCst);
        for source in sources {
            source.join().unwrap_or_else(|_| bail!("a source panicked"))?;
        }
        measured
    })
}

pub(crate) fn measure(effort: Effort) -> Result<Vec<Row>> {
    let mut random = ChaCha8Rng::seed_from_u64(8);
    let count = if effort.smoke { BATCHES / 10 } else { BATCHES };
    let batches: Vec<Vec<Batch>> = (0..CONNECTIONS)
        .map(|source| (0..count).map(|_| Batch::random(source, &mut random)).collect())
        .collect();
    let (warm_up, run, runs) = (effort.warm_up / 2, effort.run.min(RUN), effort.runs.min(RUNS));
    #[cfg(feature = "sqlite")]
    let sqlite = sqlite::find()?;
    #[cfg(not(feature = "sqlite"))]
    let sqlite =
        Found::Missing("this program was built without it: --features ironloom-tests/sqlite".to_owned());
    let ours = ours::start()?;
    let others = [
        ("readings in state: Ironloom ÷ PostgreSQL", postgres::find()?),
        ("readings in state: Ironloom ÷ SQLite, in process", sqlite),
        ("readings in state: Ironloom ÷ Redis, by a script in Lua", redis::find()?),
    ];
    let mut rates = vec![Vec::new(); others.len() + 1];
    let sent: Vec<Sent> = (0..=others.len()).map(|_| Sent::default()).collect();
    for _ in 0..runs {
        rates[0].push(rate(&ours, &batches, &sent[0], warm_up, run).context("Ironloom")?);
        for (index, (what, other)) in others.iter().enumerate() {
            if let Found::Here(peer, _) = other {
                let rate = rate(&**peer, &batches, &sent[index + 1], warm_up, run);
                rates[index + 1].push(rate.with_context(|| what.to_string())?);
            }
        }
    }
    checked(&ours, &sent[0]).context("Ironloom")?;
    let own = median(&rates[0]);
    let mut rows = vec![Row {
        runs: rates[0].clone(),
        ..Row::of(
            "batches of 1,000 with an id, journal and state, durable, 2 connections, 10,000 points: Ironloom in state",
            "readings/s",
            Bound::Told,
            own,
        )
    }];
    for (index, (what, other)) in others.into_iter().enumerate() {
        rows.push(match other {
            Found::Missing(why) => Row::skipped(what, &why),
            Found::Here(peer, settings) => {
                checked(&*peer, &sent[index + 1]).context(what)?;
                let rates = &rates[index + 1];
                let mut row = Row::of(what, "", Bound::AtLeast(5.0), own / median(rates));
                row.notes.push(format!("it has {:.0} readings/s in state; {settings}", median(rates)));
                row
            }
        });
    }
    Ok(rows)
}

/// Holds what the state has counted against what was acknowledged.
fn checked(peer: &dyn Peer, sent: &Sent) -> Result<()> {
    let acknowledged = sent.acknowledged.load(Ordering::SeqCst);
    let start = Instant::now();
    loop {
        let counted = peer.counted()?;
        if counted == acknowledged {
            return Ok(());
        }
        ensure!(
            counted < acknowledged && start.elapsed() < Duration::from_secs(60),
            "{acknowledged} readings were acknowledged, and the state has {counted}"
        );
        std::thread::sleep(Duration::from_millis(10));
    }
}

/// A program by its name, in the folders of `PATH`.
fn program(name: &str) -> Option<PathBuf> {
    let path = std::env::var_os("PATH")?;
    std::env::split_paths(&path).map(|folder| folder.join(name)).find(|path| path.is_file())
}

/// Waits until somebody listens.
fn connected<T>(what: &str, mut connect: impl FnMut() -> Result<T>) -> Result<T> {
    let start = Instant::now();
    loop {
        match connect() {
            Ok(connection) => return Ok(connection),
            Err(error) if start.elapsed() > Duration::from_secs(60) => {
                return Err(error.context(format!("{what} doesn't answer")));
            }
            Err(_) => std::thread::sleep(Duration::from_millis(20)),
        }
    }
}
