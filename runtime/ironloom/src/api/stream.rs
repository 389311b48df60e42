//! `GET /v1/readings/stream`: readings over a WebSocket, acknowledged once they are durable.
//!
//! A stream is a row of lines, counted from 1. Each message brings one line or several; `{"through":n}` says that the
//! first n are durable. What has come is gathered into one record; several records are under way at the same time, and
//! become durable in their order. A stream with a key goes on after a drop where it was: its count stands in
//! the same record as its readings.

use std::collections::VecDeque;
use std::sync::Arc;
use std::time::Duration;

use axum::Extension;
use axum::body::Bytes;
use axum::extract::State;
use axum::extract::ws::{CloseFrame, Message, Utf8Bytes, WebSocket, WebSocketUpgrade, close_code};
use axum::response::Response;
use futures_util::stream::{SplitSink, SplitStream};
use futures_util::{FutureExt as _, SinkExt as _, StreamExt as _};
use serde::Serialize;
use tokio::sync::Notify;
use tokio::time::Instant;

use super::Api;
use super::facade::{Detail, Later, Push, Pushed, StreamPlace};
use super::held::Held;
use super::memory::Share;
use super::params::Params;
use super::problem::Problem;
use super::push::{READ_ASIDE, no_clock, refusal, stream_key};
use super::readings::{Form, Mode, Parsed, parse};
use crate::aside::aside_if;

/// The longest message.
const MAX_MESSAGE: usize = 1 << 20;
/// Bytes that become one record, but for the last message in it.
const GATHERED: usize = 256 << 10;
/// Records that are under way at the same time.
const UNDER_WAY: usize = 8;
/// The pause before something is tried again for which there is no room now.
const AGAIN: Duration = Duration::from_millis(100);
/// A peer that says nothing for so long is asked, and after as long again it is gone.
const SILENCE: Duration = Duration::from_secs(30);
/// The time that a peer has to close the connection once the stream has ended.
const LAST_WORDS: Duration = Duration::from_secs(1);

/// Takes readings for as long as the connection lasts.
pub(super) async fn stream(
    State(api): State<Api>,
    mut params: Params,
    upgrade: WebSocketUpgrade,
    Extension(held): Extension<Held>,
) -> Result<Response, Problem> {
    let mode = if params.flag("partial")? { Mode::PARTIAL } else { Mode::WHOLE };
    let key = params.text("key").map(stream_key).transpose()?;
    let upgrade = upgrade.max_message_size(MAX_MESSAGE).max_frame_size(MAX_MESSAGE);
    Ok(upgrade.on_upgrade(move |socket| async move {
        let (to, from) = socket.split();
        let (bad, under_way) = (Vec::new(), VecDeque::new());
        let stream = Stream { api, mode, key, to, lines: 0, through: 0, bad, under_way };
        stream.run(from, held).await;
    }))
}

/// What the server says.
#[derive(Debug, Serialize)]
#[serde(rename_all = "kebab-case")]
struct Word {
    /// The lines that are durable, or were refused.
    through: u64,
    /// With `?partial=true`: bad lines since the last word.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    errors: Vec<Detail>,
    /// The reason why the stream ends.
    #[serde(skip_serializing_if = "Option::is_none")]
    problem: Option<Problem>,
}

/// A record on its way.
struct Record {
    durable: Later<'static, Pushed>,
    /// The lines of the stream through its last one.
    through: u64,
    bad: Vec<Detail>,
    _share: Share,
}

/// Why a stream ends.
enum End {
    /// The peer has closed it, or is gone.
    Peer,
    /// The server makes room, stops, or has another connection for the stream.
    Server(&'static str),
    Problem(Box<Problem>),
}

impl From<Problem> for End {
    fn from(problem: Problem) -> Self {
        Self::Problem(Box::new(problem))
    }
}

/// What ends a stream from outside.
struct Stop {
    held: Held,
    wanted: Arc<Notify>,
}

impl Stop {
    async fn stopped(&mut self) -> End {
        tokio::select! {
            reason = self.held.ended() => End::Server(reason),
            () = self.wanted.notified() => End::Server("another connection has this stream"),
        }
    }
}

struct Stream {
    api: Api,
    mode: Mode,
    key: Option<Arc<str>>,
    to: SplitSink<WebSocket, Message>,
    /// The lines that have been handed over, and those that are dealt with.
    lines: u64,
    through: u64,
    /// Bad lines that the peer hasn't heard of.
    bad: Vec<Detail>,
    under_way: VecDeque<Record>,
}

type Messages = SplitStream<WebSocket>;

impl Stream {
    async fn run(mut self, mut from: Messages, held: Held) {
        let end = match self.api.node.open_stream(self.key.clone()).await {
            Ok(opened) => {
                (self.lines, self.through) = (opened.lines, opened.lines);
                let mut stop = Stop { held, wanted: Arc::clone(&opened.wanted) };
                let end = self.take(&mut from, &mut stop).await;
                // The next connection of this stream waits until it is known how far this one has come.
                self.drain().await;
                end
            }
            Err(problem) => problem.into(),
        };
        let (code, reason, problem) = match end {
            End::Peer => (close_code::NORMAL, "", None),
            End::Server(reason) => (close_code::AWAY, reason, None),
            End::Problem(problem) => (close_code::POLICY, "", Some(*problem)),
        };
        // The peer may be gone.
        let _ = self.say(problem).await;
        let close = CloseFrame { code, reason: Utf8Bytes::from_static(reason) };
        let _ = self.to.send(Message::Close(Some(close))).await;
        // The peer closes, too; what it still sends is dropped.
        let rest = async { while let Some(Ok(_)) = from.next().await {} };
        let _ = tokio::time::timeout(LAST_WORDS, rest).await;
    }

    /// Takes lines until something ends the stream.
    async fn take(&mut self, from: &mut Messages, stop: &mut Stop) -> End {
        if let Err(end) = self.say(None).await {
            return end;
        }
        let (mut heard, mut asked) = (Instant::now(), false);
        loop {
            let silence = tokio::time::sleep_until(heard + SILENCE * if asked { 2 } else { 1 });
            tokio::select! {
                biased;
                done = next(&mut self.under_way), if !self.under_way.is_empty() => {
                    if let Err(end) = self.done(done).await {
                        return end;
                    }
                }
                end = stop.stopped() => return end,
                message = from.next(), if self.under_way.len() < UNDER_WAY => {
                    (heard, asked) = (Instant::now(), false);
                    let mut buffer = Vec::new();
                    let end = gather(message, from, &mut buffer);
                    if let Err(end) = self.lines(buffer, stop).await {
                        return end;
                    }
                    if let Some(end) = end {
                        return end;
                    }
                }
                () = silence, if self.under_way.is_empty() => {
                    if asked || self.to.send(Message::Ping(Bytes::new())).await.is_err() {
                        return End::Peer;
                    }
                    asked = true;
                }
            }
        }
    }

    /// Reads lines and hands them over.
    async fn lines(&mut self, buffer: Vec<u8>, stop: &mut Stop) -> Result<(), End> {
        if buffer.is_empty() {
            return Ok(());
        }
        let mut share = self.api.memory.readings.share();
        share.grow(buffer.len()).await?;
        let (buffer, parsed) = read(&self.api, self.mode, buffer).await?;
        if parsed.bad_lines == 0 || self.mode.partial {
            return self.submit(parsed, count(&buffer), share, stop).await;
        }
        // What is before the first bad line is taken, and it is said which one that is.
        let mut bad = parsed.bad;
        bad.truncate(1);
        let place = bad.iter_mut().find_map(|bad| bad.place.as_mut()?.line.as_mut());
        let before = place.map_or(0, |line| {
            let before = *line - 1;
            *line += self.lines;
            before
        });
        let good = buffer[..end_of(&buffer, before)].to_vec();
        let (_, parsed) = read(&self.api, self.mode, good).await?;
        self.submit(parsed, before, share, stop).await?;
        let mut problem = refusal(bad);
        if let Some(first) = problem.errors.first() {
            problem.detail =
                format!("nothing from line {} on was accepted; {}", self.lines + 1, first.detail);
        }
        Err(problem.into())
    }

    /// Hands the readings of the next lines over, once there is room for them.
    async fn submit(&mut self, parsed: Parsed, lines: u64, share: Share, stop: &mut Stop) -> Result<(), End> {
        if parsed.needs_clock {
            return Err(no_clock().into());
        }
        while let Err(problem) = self.api.node.has_room() {
            if !matches!(problem.status, 503 | 507) {
                return Err(problem.into());
            }
            self.settle().await?;
            tokio::select! {
                end = stop.stopped() => return Err(end),
                () = tokio::time::sleep(AGAIN) => {}
            }
        }
        let Parsed { columns, new_points, mut bad, .. } = parsed;
        for line in bad.iter_mut().filter_map(|bad| bad.place.as_mut()?.line.as_mut()) {
            *line += self.lines;
        }
        // They may turn out to be too many: nothing behind them must be taken then.
        let is_alone = !new_points.is_empty();
        if is_alone {
            self.settle().await?;
        }
        let through = self.lines + lines;
        let stream = self.key.clone().map(|key| StreamPlace { key, lines: through });
        let durable = self.api.node.submit(Push { columns, new_points, key: None, stream })?;
        self.lines = through;
        self.under_way.push_back(Record { durable, through, bad, _share: share });
        if is_alone { self.settle().await } else { Ok(()) }
    }

    /// Waits for all that is under way.
    async fn settle(&mut self) -> Result<(), End> {
        while !self.under_way.is_empty() {
            let done = next(&mut self.under_way).await;
            self.done(done).await?;
        }
        Ok(())
    }

    /// Waits for all that is under way, whatever comes of it.
    async fn drain(&mut self) {
        let mut is_whole = true;
        while let Some(record) = self.under_way.pop_front() {
            is_whole &= record.durable.await.is_ok();
            if is_whole {
                self.through = record.through;
                self.bad.extend(record.bad);
            }
        }
    }

    /// Takes note of a record that is durable, and of those behind it, and says so.
    async fn done(&mut self, first: Result<Pushed, Problem>) -> Result<(), End> {
        let mut done = Some(first);
        while let Some(result) = done {
            let Some(record) = self.under_way.pop_front() else { break };
            result?;
            self.through = record.through;
            self.bad.extend(record.bad);
            done = if self.under_way.is_empty() { None } else { next(&mut self.under_way).now_or_never() };
        }
        self.say(None).await
    }

    async fn say(&mut self, problem: Option<Problem>) -> Result<(), End> {
        self.bad.truncate(self.mode.named);
        let word = Word { through: self.through, errors: std::mem::take(&mut self.bad), problem };
        let text = serde_json::to_string(&word).map_err(|error| Problem::internal(error.to_string()))?;
        self.to.send(Message::Text(text.into())).await.map_err(|_| End::Peer)
    }
}

/// Reads lines, a long text of them aside.
fn read(
    api: &Api,
    mode: Mode,
    buffer: Vec<u8>,
) -> impl Future<Output = Result<(Vec<u8>, Parsed), Problem>> + Send + use<> {
    let node = Arc::clone(&api.node);
    let is_long = buffer.len() > READ_ASIDE;
    let work = move || {
        let parsed = parse(&buffer, Form::Lines, node.ingest_rules(), || node.lookup(), mode);
        (buffer, parsed)
    };
    async move {
        let read = aside_if(is_long, work).await;
        read.map_err(|error| Problem::internal(format!("the lines could not be read: {error}")))
    }
}

/// The result of the first record.
async fn next(under_way: &mut VecDeque<Record>) -> Result<Pushed, Problem> {
    match under_way.front_mut() {
        Some(record) => record.durable.as_mut().await,
        None => std::future::pending().await,
    }
}

/// Puts a message and those that have come behind it into a buffer, each line with its end. Returns what ends the stream
/// behind them.
fn gather(
    mut message: Option<Result<Message, axum::Error>>,
    from: &mut Messages,
    buffer: &mut Vec<u8>,
) -> Option<End> {
    loop {
        match message {
            Some(Ok(Message::Text(text))) => add(text.as_bytes(), buffer),
            Some(Ok(Message::Binary(bytes))) => add(&bytes, buffer),
            // Answered by the library.
            Some(Ok(Message::Ping(_) | Message::Pong(_))) => {}
            Some(Ok(Message::Close(_))) | None => return Some(End::Peer),
            Some(Err(error)) => {
                let detail = format!("a message can't be read: {error}; it may have {MAX_MESSAGE} bytes");
                return Some(Problem::malformed("bad-message", detail).into());
            }
        }
        if buffer.len() >= GATHERED {
            return None;
        }
        message = from.next().now_or_never()?;
    }
}

fn add(lines: &[u8], buffer: &mut Vec<u8>) {
    buffer.extend_from_slice(lines);
    if lines.last().is_some_and(|last| *last != b'\n') {
        buffer.push(b'\n');
    }
}

fn count(buffer: &[u8]) -> u64 {
    buffer.iter().filter(|byte| **byte == b'\n').count() as u64
}

/// Where this many lines end.
fn end_of(buffer: &[u8], lines: u64) -> usize {
    let ends = buffer.iter().enumerate().filter(|(_, byte)| **byte == b'\n').map(|(at, _)| at + 1);
    ends.take(lines as usize).last().unwrap_or(0)
}
