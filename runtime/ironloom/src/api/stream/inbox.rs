//! What a peer sends. It is heard all the time, but lines wait until they are wanted: the first 64 KiB here, the others in the
//! network.
//!
//! Lines take memory from their first byte to the end of their record. The first 64 KiB of a connection are its own; for
//! more it takes a share of what all bodies have, and nothing is read for which it has none.

use std::future::poll_fn;
use std::sync::Arc;
use std::task::Poll;

use axum::extract::ws::{Message, WebSocket, close_code};
use futures_util::stream::SplitStream;
use futures_util::{FutureExt as _, StreamExt as _};
use tokio::time::Instant;
use tokio_tungstenite::tungstenite;

use super::patience::{Comes, Patience, Verdict};
use super::{AGAIN, DONE, End};
use crate::api::connections::Connection;
use crate::api::held::Held;
use crate::api::memory::{FREE, Share};
use crate::api::problem::Problem;

/// The longest message: one of the longest lines, and others beside it.
pub(super) const MAX_MESSAGE: usize = 1 << 20;
/// Bytes that become one record, but for the last message in it.
const GATHERED: usize = 256 << 10;

pub(super) struct Inbox {
    from: SplitStream<WebSocket>,
    /// Lines that wait, and what ends the stream behind them.
    gathered: Gathered,
    end: Option<End>,
    /// Counts the connection's bytes.
    connection: Arc<Connection>,
    /// The bytes that had come with the last lines, and those of control messages since.
    whole: u64,
    /// Holds the lines that are here, and those that were handed out.
    share: Share,
    here: usize,
    patience: Patience,
}

/// Some lines, each with its end, and the bytes that they take of the share until they are given back.
#[derive(Default)]
pub(super) struct Gathered {
    pub lines: Vec<u8>,
    pub bytes: usize,
}

/// The end of a stream with a message that isn't as it must be.
fn unreadable(error: axum::Error) -> End {
    let error = error.into_inner();
    let (code, problem) = match error.downcast_ref::<tungstenite::Error>() {
        Some(tungstenite::Error::Capacity(_)) => {
            (close_code::SIZE, format!("a message is too long: it may have {MAX_MESSAGE} bytes"))
        }
        Some(tungstenite::Error::Utf8(_)) => {
            (close_code::INVALID, "a message is not UTF-8, as text must be".to_owned())
        }
        Some(tungstenite::Error::Protocol(_)) => {
            (close_code::PROTOCOL, format!("a message can't be read: {error}"))
        }
        _ => (close_code::POLICY, format!("a message can't be read: {error}")),
    };
    End::Message(Box::new(Problem::malformed("bad-message", problem)), code)
}

impl Inbox {
    pub(super) fn new(from: SplitStream<WebSocket>, held: &Held, share: Share) -> Self {
        let connection = Arc::clone(held.connection());
        let (whole, patience) = (connection.received(), Patience::new(Instant::now()));
        let mut inbox = Self {
            from,
            gathered: Gathered::default(),
            end: None,
            connection,
            whole,
            share,
            here: 0,
            patience,
        };
        inbox.open();
        inbox
    }

    /// Says if lines wait.
    pub(super) fn has_lines(&self) -> bool {
        !self.gathered.lines.is_empty()
    }

    /// Says if so many lines wait that nothing behind them is heard.
    fn is_full(&self) -> bool {
        self.gathered.lines.len() >= FREE
    }

    /// The next lines, if they are wanted, with what ends the stream behind them; or what ends it now. Nothing is lost where
    /// the wait is given up.
    pub(super) async fn next(&mut self, wants_lines: bool) -> Result<(Gathered, Option<End>), End> {
        while !(wants_lines && self.has_lines()) {
            let has_lines = self.has_lines();
            if let Some(end) = self.end.take_if(|_| !has_lines) {
                return Err(end);
            }
            if self.end.is_some() || self.is_full() {
                // Until some are wanted.
                std::future::pending::<()>().await;
            }
            self.hear().await;
        }
        let is_little = |inbox: &Self| inbox.end.is_none() && inbox.gathered.lines.len() < GATHERED;
        while is_little(self) && self.hear().now_or_never().is_some() {}
        Ok((std::mem::take(&mut self.gathered), self.end.take()))
    }

    /// Ready with the end of the stream, whatever waits.
    pub(super) async fn ended(&mut self) -> End {
        loop {
            if let Some(end) = self.take_end() {
                return end;
            }
            if self.is_full() {
                std::future::pending::<()>().await;
            }
            self.hear().await;
        }
    }

    /// The end of the stream behind the lines that wait.
    pub(super) fn take_end(&mut self) -> Option<End> {
        self.end.take()
    }

    /// Lines that were handed out take no memory any more.
    pub(super) fn give_back(&mut self, bytes: usize) {
        self.here -= bytes;
        self.open();
    }

    /// Takes a share for what is here and for what may come, if it is to be had now, and allows as much to come. Whether
    /// anything may.
    fn open(&mut self) -> bool {
        let part = self.part();
        // For a long message all at once, with what frames take: two that have a part of it would wait for each other.
        let more = if part < FREE as u64 { FREE } else { FREE + MAX_MESSAGE };
        self.share.fit(self.here + more);
        let window = self.share.bytes().saturating_sub(self.here) as u64;
        self.connection.allow(self.whole + window);
        window > part
    }

    /// Bytes of a message that isn't whole.
    fn part(&self) -> u64 {
        self.connection.received().saturating_sub(self.whole)
    }

    /// Hears a message, and keeps its lines, each with its end, or what ends the stream.
    async fn hear(&mut self) {
        let message = self.message().await;
        let now = Instant::now();
        match message {
            Some(Ok(message @ (Message::Text(_) | Message::Binary(_)))) => {
                let bytes = message.into_data();
                self.whole = self.connection.received();
                self.here += bytes.len();
                let Gathered { lines, bytes: gathered } = &mut self.gathered;
                *gathered += bytes.len();
                lines.extend_from_slice(&bytes);
                if bytes.last().is_some_and(|last| *last != b'\n') {
                    lines.push(b'\n');
                }
                self.patience.has_lines(now);
            }
            // Answered by the library.
            Some(Ok(Message::Ping(bytes) | Message::Pong(bytes))) => {
                // With the header and the mask.
                self.whole += 6 + bytes.len() as u64;
                self.patience.heard(now);
            }
            Some(Ok(Message::Close(Some(close)))) if close.reason.as_str() == DONE => {
                self.end = Some(End::Done);
            }
            Some(Ok(Message::Close(_))) | None => self.end = Some(End::Peer),
            Some(Err(error)) => {
                self.end = Some(unreadable(error));
            }
        }
    }

    /// The next message, for which there is memory.
    async fn message(&mut self) -> Option<Result<Message, axum::Error>> {
        loop {
            let (from, connection) = (&mut self.from, &self.connection);
            let message = poll_fn(|context| match from.poll_next_unpin(context) {
                Poll::Ready(message) => Poll::Ready(Some(message)),
                Poll::Pending if connection.is_held_back() => Poll::Ready(None),
                Poll::Pending => Poll::Pending,
            });
            if let Some(message) = message.await {
                return message;
            }
            if !self.open() {
                tokio::time::sleep(AGAIN).await;
            }
        }
    }

    /// Reads on until the peer has closed, and drops what it reads. What isn't a whole message takes memory here as well, so
    /// a long one isn't read to its end.
    pub(super) async fn drain(&mut self) {
        loop {
            self.connection.allow(self.connection.received() + FREE as u64);
            let Some(Ok(_)) = self.from.next().await else { return };
        }
    }

    /// When to look at the peer again.
    pub(super) fn next_look(&self) -> Instant {
        self.patience.next_look()
    }

    /// Looks at what the peer does.
    pub(super) fn look(&mut self) -> Verdict {
        let comes = match self.part() {
            _ if self.is_full() => Comes::Lines,
            0 => Comes::Nothing,
            bytes => Comes::Part { bytes, is_held_back: self.connection.is_held_back() },
        };
        self.patience.look(Instant::now(), comes)
    }
}
