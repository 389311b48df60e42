//! `GET /v1/readings/stream`: readings over a WebSocket, acknowledged once they are durable.
//!
//! A stream is a row of lines, counted from 1. Each message brings one line or several; `{"through":n}` says that the
//! first n are durable. What has come is gathered into one record; several records are under way at the same time, and
//! become durable in their order. A stream with a key goes on after a drop where it was: its progress stands in
//! the same record as its readings.
//!
//! Lines are taken only where there is room for them: in the log, and among the records under way. Meanwhile the peer is
//! heard in all else, and whatever ends the stream does so at once.

mod batch;
mod inbox;
mod patience;
mod replies;
mod word;

use std::collections::VecDeque;
use std::sync::Arc;
use std::time::Duration;

use axum::Extension;
use axum::extract::State;
use axum::extract::ws::{CloseFrame, Utf8Bytes, WebSocket, WebSocketUpgrade, close_code};
use axum::http::HeaderMap;
use axum::response::Response;
use futures_util::{FutureExt as _, StreamExt as _};
use tokio::sync::Notify;
use tokio::time::Instant;

use self::batch::Batch;
use self::inbox::{Gathered, Inbox, MAX_MESSAGE};
use self::patience::Verdict;
use self::replies::Replies;
pub(crate) use self::word::{DONE, Mark, Word};
use super::facade::{Detail, Later, Progress, Push, Pushed, StreamClaim, StreamPlace};
use super::held::Held;
use super::intake::{BadLines, Mode};
use super::params::Params;
use super::problem::Problem;
use super::push::{no_key_header, stream_key};
use super::{Api, room};
use crate::access::Principal;
use ironloom_types::ids::{Sequence, TenantId};

/// Records that are under way at the same time.
const UNDER_WAY: usize = 8;
/// The interval at which something is tried again for which there is no room now.
const AGAIN: Duration = Duration::from_millis(100);
/// The time after which it is said again why nothing is taken, so that the peer knows the server to be there. Where the
/// peer is gone, saying it fails.
const STILL: Duration = Duration::from_secs(10);
/// The time that a peer has for the last word, and for closing the connection behind it.
const LAST_WORDS: Duration = Duration::from_secs(5);
/// Buffers of an open connection, which it has whether anything comes or not.
const READ_BUFFER: usize = 16 << 10;
const WRITE_BUFFER: usize = 4 << 10;
/// The longest that a buffer becomes for a peer that doesn't read: the longest word, and answers to its pings. Beyond,
/// only the last of these is kept.
const MAX_WRITE_BUFFER: usize = 256 << 10;

/// Takes readings for as long as the connection lasts.
pub(super) async fn stream(
    State(api): State<Api>,
    mut params: Params,
    headers: HeaderMap,
    upgrade: WebSocketUpgrade,
    Extension(held): Extension<Held>,
    Extension(principal): Extension<Principal>,
) -> Result<Response, Problem> {
    let mode = if params.flag("partial")? { Mode::PARTIAL } else { Mode::UNTIL_BAD };
    no_key_header(&headers)?;
    let tenant = principal.tenant();
    let key = params.text("key").map(|key| stream_key(&key, &principal)).transpose()?;
    let upgrade = upgrade
        .max_message_size(MAX_MESSAGE)
        .max_frame_size(MAX_MESSAGE)
        .read_buffer_size(READ_BUFFER)
        .write_buffer_size(WRITE_BUFFER)
        .max_write_buffer_size(MAX_WRITE_BUFFER);
    Ok(upgrade.on_upgrade(move |socket| serve(api, tenant, mode, key, socket, held)))
}

/// Why a stream ends.
enum End {
    /// The peer has closed it, or is gone.
    Peer,
    /// The peer has closed it, and won't use its key again.
    Done,
    /// The server makes room or stops.
    Server(&'static str),
    Problem(Box<Problem>),
    /// A message that isn't as it must be, with the close code for it.
    Message(Box<Problem>, u16),
}

impl From<Problem> for End {
    fn from(problem: Problem) -> Self {
        Self::Problem(Box::new(problem))
    }
}

/// The ends of a stream that come from outside.
struct Stop {
    held: Held,
    wanted: Arc<Notify>,
}

impl Stop {
    async fn stopped(&self) -> End {
        tokio::select! {
            reason = self.held.ended() => End::Server(reason),
            () = self.wanted.notified() => taken_over().into(),
        }
    }
}

fn taken_over() -> Problem {
    let detail = "another connection has taken this stream over; each sender needs a key of its own";
    Problem::conflict("taken-over", detail)
}

async fn serve(api: Api, tenant: TenantId, mode: Mode, key: Option<Arc<str>>, socket: WebSocket, held: Held) {
    let (to, from) = socket.split();
    let mut inbox = Inbox::new(from, &held, api.memory.readings.share());
    let mut stream = Stream {
        api,
        tenant,
        mode,
        key: None,
        replies: Replies::new(to),
        handed: Progress::default(),
        done: Progress::default(),
        sequence: None,
        bad: Vec::new(),
        has_news: false,
        told: None,
        batch: None,
        last: None,
        under_way: VecDeque::new(),
        has_failed: false,
        slowed_at: 0,
    };
    let end = match stream.api.node.claim_stream(key) {
        Ok(claim) => stream.run(claim, &mut inbox, held).await,
        Err(problem) => problem.into(),
    };
    let (code, reason, problem) = match end {
        End::Peer | End::Done => (close_code::NORMAL, "", None),
        End::Server(reason) => (close_code::AWAY, reason, None),
        End::Problem(problem) => (close_code_of(&problem), "", Some(*problem)),
        End::Message(problem, code) => (code, "", Some(*problem)),
    };
    let word = stream.word(Word { problem, ..Word::default() });
    let close = CloseFrame { code, reason: Utf8Bytes::from_static(reason) };
    // The peer may be gone. If not, it closes, too; what it still sends is dropped.
    let last_words = async {
        stream.replies.close(&word, close).await;
        inbox.drain().await;
    };
    let _ = tokio::time::timeout(LAST_WORDS, last_words).await;
}

/// The close code of a problem (RFC 6455, 7.4.1, and the registry of IANA): a client may come again behind some.
fn close_code_of(problem: &Problem) -> u16 {
    match problem.status {
        503 | 507 => close_code::AGAIN,
        500 => close_code::ERROR,
        _ => close_code::POLICY,
    }
}

/// A record on its way.
struct Record {
    durable: Later<'static, Pushed>,
    /// The progress of the stream with it.
    through: Progress,
    bad: Vec<Detail>,
    bad_lines: BadLines,
    bytes: usize,
    /// Its points may turn out to be too many: nothing behind them may be handed over before that is known.
    is_alone: bool,
}

struct Stream {
    api: Api,
    tenant: TenantId,
    mode: Mode,
    key: Option<Arc<str>>,
    replies: Replies,
    /// Its progress with all that was handed over, and with all that is dealt with.
    handed: Progress,
    done: Progress,
    sequence: Option<Sequence>,
    /// Bad lines that the peer hasn't heard of.
    bad: Vec<Detail>,
    /// The peer hasn't heard how far it has come.
    has_news: bool,
    /// When the peer was told that there is no room.
    told: Option<Instant>,
    /// The next lines.
    batch: Option<Batch>,
    /// The end of the stream behind them.
    last: Option<End>,
    under_way: VecDeque<Record>,
    /// A record was refused, or nobody knows what became of it.
    has_failed: bool,
    /// The reading of the batch whose source was slowed at the last look.
    slowed_at: usize,
}

impl Stream {
    /// Has the stream until something ends it. The next connection that has it waits until it is known how far it has
    /// come, and not for the peer of this one.
    async fn run(&mut self, claim: StreamClaim, inbox: &mut Inbox, held: Held) -> End {
        let stop = Stop { held, wanted: claim.wanted };
        let opened = tokio::select! {
            biased;
            end = stop.stopped() => return end,
            opened = claim.opened => opened,
            end = inbox.ended() => return end,
        };
        let opened = match opened {
            Ok(opened) => opened,
            Err(problem) => return problem.into(),
        };
        (self.handed, self.done) = (opened.progress, opened.progress);
        self.key.clone_from(&opened.key);
        let mark = (self.done.lines > 0).then(|| Mark::of_bytes(self.done.mark).shown());
        self.say(Word { mark, ..Word::default() });
        let end = loop {
            if let Err(end) = self.step(inbox, &stop).await {
                break end;
            }
        };
        let is_whole = self.drain().await;
        if matches!(end, End::Done) && is_whole && self.batch.is_none() && !inbox.has_lines() {
            self.forget().await;
        }
        drop(opened);
        end
    }

    /// Does what can be done, and waits for what happens next.
    async fn step(&mut self, inbox: &mut Inbox, stop: &Stop) -> Result<(), End> {
        let held_up = self.no_room().await?;
        if held_up.is_none() {
            self.told = None;
            self.hand_over()?;
        }
        let has_room = held_up.is_none();
        // Lines of a peer that is gone don't wait for room: it may have sent them anew by then.
        let is_gone = |end: &End| matches!(end, End::Peer | End::Done);
        let ends = |end: &mut End| self.batch.is_none() || (!has_room && is_gone(end));
        let mut last = self.last.take_if(ends);
        if !has_room {
            last = last.or_else(|| inbox.take_end());
        }
        if let Some(end) = last {
            return Err(end);
        }
        self.tell(held_up, inbox.has_lines());
        let wants_lines = has_room && self.batch.is_none() && self.under_way.len() < UNDER_WAY;
        let look = inbox.next_look();
        tokio::select! {
            biased;
            done = next(&mut self.under_way), if !self.under_way.is_empty() => self.done(done, inbox)?,
            sent = self.replies.send(), if !self.replies.is_free() => sent?,
            end = stop.stopped() => return Err(end),
            lines = inbox.next(wants_lines), if self.last.is_none() => match lines {
                Ok(lines) => self.read(lines).await?,
                Err(end) => self.last = Some(end),
            },
            () = tokio::time::sleep(AGAIN), if !has_room => {}
            () = tokio::time::sleep_until(look) => match inbox.look() {
                Verdict::Wait => {}
                Verdict::Ask => self.replies.ask(),
                Verdict::End(end) => return Err(end),
            },
        }
        Ok(())
    }

    /// Says why there is no room for readings now.
    async fn no_room(&mut self) -> Result<Option<String>, End> {
        let new_points = self.batch.as_ref().map_or(&[][..], |batch| &batch.new_points);
        match self.api.node.has_room(new_points) {
            Ok(()) => Ok(self.slowed().await?),
            Err(problem) if matches!(problem.status, 503 | 507) => Ok(Some(problem.detail.clone())),
            Err(problem) => Err(problem.into()),
        }
    }

    /// For whom the next lines wait, if their sources are slowed.
    async fn slowed(&mut self) -> Result<Option<String>, Problem> {
        let Some(batch) = &mut self.batch else { return Ok(None) };
        let Some(slowed) = self.api.node.slowed(self.tenant) else { return Ok(None) };
        let found = room::find(&slowed, &mut batch.columns, &mut batch.new_points, self.slowed_at).await?;
        self.slowed_at = found.unwrap_or(self.slowed_at);
        Ok(found.map(|_| slowed.problem.detail.clone()))
    }

    /// Tells the peer how far the stream has come, and why its lines wait.
    fn tell(&mut self, held_up: Option<String>, has_lines: bool) {
        if !self.replies.is_free() {
            return;
        }
        let held_up = held_up.filter(|_| has_lines || self.batch.is_some());
        if held_up.is_some() && self.told.is_none_or(|told| told.elapsed() >= STILL) {
            self.told = Some(Instant::now());
            self.say(Word { held_up, ..Word::default() });
        } else if self.has_news {
            self.say(Word::default());
        }
    }

    /// Makes readings of the lines that were gathered; what was refused of them ends the stream behind the good ones.
    async fn read(&mut self, (gathered, last): (Gathered, Option<End>)) -> Result<(), End> {
        let (batch, refused) = Batch::read(&self.api, self.tenant, self.mode, self.handed, gathered).await?;
        self.batch = batch;
        self.last = refused.map(End::from).or(last);
        Ok(())
    }

    /// Hands the next lines over, if nothing before them stands in their way.
    fn hand_over(&mut self) -> Result<(), End> {
        let is_alone = self.batch.as_ref().is_some_and(Batch::has_new_points)
            || self.under_way.back().is_some_and(|record| record.is_alone);
        if is_alone && !self.under_way.is_empty() {
            return Ok(());
        }
        let Some(batch) = self.batch.take() else { return Ok(()) };
        let Batch { columns, new_points, through, bad, bad_lines, bytes } = batch;
        let stream = self.key.clone().map(|key| StreamPlace { key, progress: Some(through) });
        let durable =
            self.api.node.submit(Push { tenant: self.tenant, columns, new_points, key: None, stream })?;
        self.handed = through;
        self.under_way.push_back(Record { durable, through, bad, bad_lines, bytes, is_alone });
        Ok(())
    }

    /// Takes note of what became of a record, and of those behind it.
    fn done(&mut self, first: Result<Pushed, Problem>, inbox: &mut Inbox) -> Result<(), End> {
        let mut done = Some(first);
        while let Some(result) = done {
            inbox.give_back(self.note_first(result)?);
            done = next(&mut self.under_way).now_or_never();
        }
        Ok(())
    }

    /// Waits for all that is under way, whatever comes of it; `false` where some of it was not taken.
    async fn drain(&mut self) -> bool {
        while !self.under_way.is_empty() {
            let result = next(&mut self.under_way).await;
            let _ = self.note_first(result);
        }
        !self.has_failed
    }

    /// Takes note of what became of the first record, and returns its bytes. Behind one that failed none counts.
    fn note_first(&mut self, result: Result<Pushed, Problem>) -> Result<usize, Problem> {
        let Some(record) = self.under_way.pop_front() else { return Ok(0) };
        self.has_failed |= result.is_err();
        let pushed = result?;
        if !self.has_failed {
            self.done = record.through;
            self.api.count_bad_lines(&record.bad_lines);
            self.bad.extend(record.bad);
            self.bad.truncate(self.mode.named);
            self.has_news = true;
            if pushed.accepted > 0 {
                self.sequence = Some(pushed.through);
            }
        }
        Ok(record.bytes)
    }

    /// The key won't come again. Where there is no room, the stream is remembered for its day.
    async fn forget(&mut self) {
        let Some(key) = self.key.take().filter(|_| self.api.node.has_room(&[]).is_ok()) else { return };
        let stream = Some(StreamPlace { key, progress: None });
        if let Ok(forgotten) = self.api.node.submit(Push { tenant: self.tenant, stream, ..Push::default() }) {
            let _ = forgotten.await;
        }
    }

    /// This, and how far the stream has come.
    fn word(&mut self, word: Word) -> Word {
        self.has_news = false;
        let Progress { lines: through, taken, refused, .. } = self.done;
        let (sequence, errors) = (self.sequence, std::mem::take(&mut self.bad));
        Word { through, taken, refused, sequence, errors, ..word }
    }

    fn say(&mut self, word: Word) {
        let word = self.word(word);
        self.replies.say(&word);
    }
}

/// The result of the first record.
async fn next(under_way: &mut VecDeque<Record>) -> Result<Pushed, Problem> {
    match under_way.front_mut() {
        Some(record) => record.durable.as_mut().await,
        None => std::future::pending().await,
    }
}

#[cfg(test)]
mod tests;
