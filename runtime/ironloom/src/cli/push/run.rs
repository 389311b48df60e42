//! One run of the command: lines from the source to the server, over as many connections as it takes.

use std::io;
use std::str::FromStr;
use std::time::{Duration, Instant};

use anyhow::anyhow;
use serde::Serialize;

use super::backlog::{Backlog, Odd};
use super::connection::{Address, Connection, Event};
use super::source::{Lines, Source};
use super::stop::Stop;
use crate::api::{FEED_CLOCK, StreamWord};
use crate::cli::failure::{Failure, Line};
use crate::cli::output;
use ironloom_apps::quantity::Span;
use ironloom_storage::random;
use ironloom_types::ids::Sequence;

/// The time after which it is said again what is in the way.
const AGAIN: Duration = Duration::from_secs(60);
/// The first pause before a connection is tried again, doubled each time, and the longest one.
const SHORTEST: Duration = Duration::from_millis(100);
const LONGEST: Duration = Duration::from_secs(5);

/// The time for which a server that is busy or gone is tried again without any line being taken.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Retry {
    For(Duration),
    Forever,
}

impl Default for Retry {
    fn default() -> Self {
        Self::For(Duration::from_secs(60))
    }
}

impl FromStr for Retry {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        match text {
            "forever" => Ok(Self::Forever),
            text => {
                text.parse::<Span>().map(|span| Self::For(span.duration())).map_err(|error| error.to_string())
            }
        }
    }
}

/// What the server has said of the stream.
#[derive(Clone, Copy, Debug, Default, Serialize)]
pub(super) struct Total {
    /// The lines that were dealt with.
    pub through: u64,
    /// The readings in them.
    pub taken: u64,
    /// Those that were taken before this run.
    pub before: u64,
    pub refused: u64,
    /// The sequence of the last one of this run.
    pub sequence: Option<Sequence>,
}

/// Why the run ended early.
pub(super) struct Stopped {
    pub failure: Failure,
    pub total: Total,
    /// The lines through the last one that may have been taken although it isn't known.
    pub unknown: Option<u64>,
    /// The lines that were read and not taken, without those of which that isn't known.
    pub unsent: u64,
}

/// Why a connection ended.
struct Failed {
    failure: Failure,
    /// Worth another try, after so long.
    again: Option<Duration>,
    /// Whether lines may have been taken that weren't acknowledged.
    unknown: bool,
}

impl From<Odd> for Failed {
    fn from(odd: Odd) -> Self {
        let hint = match odd {
            Odd::Forgotten { .. } => "",
            _ => "\nhint: A key stands for the same lines always; use another --key for others.",
        };
        Self { failure: Failure::Other(anyhow!("{odd}{hint}")), again: None, unknown: false }
    }
}

/// A signal has come.
fn interrupted() -> Failed {
    Failed { failure: Failure::Interrupted("interrupted".to_owned()), again: None, unknown: true }
}

impl From<io::Error> for Failed {
    fn from(error: io::Error) -> Self {
        Failure::from(error).into()
    }
}

impl From<Failure> for Failed {
    fn from(failure: Failure) -> Self {
        let unknown = match &failure {
            Failure::Refused(problem) => problem.kind == "unknown-outcome" || problem.status == 500,
            Failure::NotReached { sent, .. } => *sent,
            _ => true,
        };
        Self { again: failure.again(), failure, unknown }
    }
}

/// One run of the command.
pub(super) struct Run<'a> {
    address: &'a Address,
    source: Source,
    /// Whether the key won't come again.
    once: bool,
    /// None: as by default.
    retry: Option<Retry>,
    stop: Stop,
    /// The source has no more lines.
    ended: bool,
    backlog: Backlog,
    total: Total,
    /// The server has answered; one that was never there isn't waited for, but forever.
    was_reached: bool,
    /// It has said how far the stream has come.
    has_begun: bool,
    /// Since when no line was taken although one should have been.
    stuck: Option<Instant>,
    /// Connections that failed since then.
    attempts: u32,
    /// Whether it was said what is in the way.
    told: Option<Instant>,
    /// The lines of which it isn't known whether they were taken.
    unknown: Option<u64>,
}

impl<'a> Run<'a> {
    pub(super) fn new(
        address: &'a Address,
        source: Source,
        once: bool,
        retry: Option<Retry>,
        stop: Stop,
    ) -> Self {
        Self {
            address,
            source,
            once,
            retry,
            stop,
            ended: false,
            backlog: Backlog::default(),
            total: Total::default(),
            was_reached: false,
            has_begun: false,
            stuck: None,
            attempts: 0,
            told: None,
            unknown: None,
        }
    }

    /// Sends everything, and waits until all of it is acknowledged.
    pub(super) async fn whole(mut self) -> Result<Total, Stopped> {
        loop {
            let Err(failed) = self.connection().await else { return Ok(self.total) };
            let wait = if self.stop.is_wanted() { None } else { self.pause(&failed) };
            let Failed { mut failure, again, unknown } = failed;
            // What comes of it is unknown, or was said before.
            if self.stop.is_wanted() && again.is_some() {
                failure = interrupted().failure;
            }
            // What a later connection doesn't say remains unknown.
            if unknown {
                let sent = self.backlog.sent();
                self.unknown = self.unknown.max((sent > self.backlog.acknowledged()).then_some(sent));
            }
            let Some(wait) = wait else { return Err(self.stopped(failure)) };
            self.tell(&format!("trying again: {}", reason(&failure)));
            tokio::select! {
                () = tokio::time::sleep(wait) => {}
                () = self.stop.next() => return Err(self.stopped(interrupted().failure)),
            }
        }
    }

    fn stopped(mut self, failure: Failure) -> Stopped {
        let acknowledged = self.backlog.acknowledged();
        let unknown = self.unknown.filter(|unknown| *unknown > acknowledged);
        let known = unknown.unwrap_or(acknowledged);
        let unsent = match self.was_reached {
            true => self.backlog.read().saturating_sub(known) + self.source.left(),
            false => 0,
        };
        Stopped { failure, total: self.total, unknown, unsent }
    }

    /// How long to wait before another try; `None` where there is to be none.
    fn pause(&mut self, failed: &Failed) -> Option<Duration> {
        let again = failed.again?;
        let retry = self.retry.unwrap_or_default();
        if !matches!(&failed.failure, Failure::NotReached { .. }) {
            self.was_reached = true;
        } else if !self.was_reached && retry != Retry::Forever {
            return None;
        }
        // Its time comes with a reading, and the second try shows that none of this stream has brought one.
        let has_no_time = matches!(&failed.failure, Failure::Refused(problem) if problem.kind == FEED_CLOCK);
        if has_no_time && self.retry.is_none() && self.attempts > 0 && self.backlog.acknowledged() == 0 {
            return None;
        }
        let backoff = (SHORTEST * 2_u32.pow(self.attempts.min(10))).min(LONGEST);
        self.attempts = self.attempts.saturating_add(1);
        // Many that have lost the same server don't come back at the same moment.
        let jitter = backoff.mul_f64(0.5 + (random() % 1_000) as f64 / 1_000.0);
        let wait = jitter.max(again);
        let stuck = *self.stuck.get_or_insert_with(Instant::now);
        let goes_on = match retry {
            Retry::For(patience) => stuck.elapsed() + wait <= patience,
            Retry::Forever => true,
        };
        goes_on.then_some(wait)
    }

    /// Sends over one connection until all is acknowledged.
    async fn connection(&mut self) -> Result<(), Failed> {
        let (mut connection, word) = tokio::select! {
            opened = Connection::open(self.address) => opened?,
            () = self.stop.next() => return Err(interrupted()),
        };
        self.begin(word)?;
        loop {
            if self.ended && self.backlog.is_empty() {
                self.backlog.ended()?;
                if self.once {
                    connection.close().await;
                }
                return Ok(());
            }
            let stops = self.stop.is_wanted();
            if stops && self.backlog.is_empty() {
                return Err(interrupted());
            }
            let reads = !self.ended && !stops && !self.backlog.is_full();
            tokio::select! {
                event = connection.next(self.backlog.has_unsent()) => match event? {
                    Event::Word(word) => self.heard(*word)?,
                    Event::Ready => {
                        if let Some(lines) = self.backlog.next() {
                            connection.send(lines);
                        }
                    }
                },
                lines = self.source.next(), if reads => self.read(lines)?,
                () = self.stop.next() => if stops { return Err(interrupted()) },
            }
        }
    }

    fn read(&mut self, lines: Option<io::Result<Lines>>) -> Result<(), Failed> {
        match lines {
            Some(lines) => self.backlog.add(lines?)?,
            None => self.ended = true,
        }
        Ok(())
    }

    /// The first word of a connection: how far the stream has come.
    fn begin(&mut self, mut word: StreamWord) -> Result<(), Failed> {
        if word.problem.is_none() {
            if !self.has_begun && word.through > 0 {
                self.total.before = word.taken;
                output::note(&skipped(word.through));
            }
            (self.was_reached, self.has_begun) = (true, true);
            self.backlog.begin(word.through, word.mark.take())?;
            self.unknown = None;
        }
        self.heard(word)
    }

    fn heard(&mut self, word: StreamWord) -> Result<(), Failed> {
        for error in &word.errors {
            output::note(&Line(error).to_string());
        }
        if word.through >= self.total.through {
            self.total.through = word.through;
            self.total.taken = word.taken;
            self.total.refused = word.refused;
            self.total.sequence = word.sequence.or(self.total.sequence);
        }
        self.progress(&word)?;
        if let Some(problem) = word.problem {
            return Err(Failure::Refused(problem).into());
        }
        if let Some(reason) = word.held_up {
            self.stuck = None;
            self.tell(&format!("the server takes nothing for now: {reason}"));
        }
        Ok(())
    }

    fn progress(&mut self, word: &StreamWord) -> Result<(), Failed> {
        let before = self.backlog.acknowledged();
        self.backlog.taken(word.through)?;
        // A stream that isn't opened has come no further, though nothing may wait for it yet.
        let is_done = self.backlog.is_empty() && word.problem.is_none();
        if self.backlog.acknowledged() > before || is_done {
            (self.stuck, self.attempts) = (None, 0);
        }
        Ok(())
    }

    /// Says what is in the way, once a minute: where sources are slowed it comes and goes all the time.
    fn tell(&mut self, text: &str) {
        if self.told.is_none_or(|told| told.elapsed() >= AGAIN) {
            self.told = Some(Instant::now());
            output::note(text);
        }
    }
}

fn skipped(before: u64) -> String {
    match before {
        1 => "the first line was taken before, and is skipped".to_owned(),
        before => format!("the first {before} lines were taken before, and are skipped"),
    }
}

/// `1 line`, `2 lines`.
pub(super) fn lines(count: u64) -> String {
    output::counted(count, "line")
}

fn reason(failure: &Failure) -> String {
    match failure {
        Failure::NotReached { reason, sent: false, .. } => format!("no server answers: {reason}"),
        Failure::NotReached { reason, .. } => format!("the connection was lost: {reason}"),
        Failure::Refused(problem) => problem.detail.clone(),
        other => other.to_string(),
    }
}
