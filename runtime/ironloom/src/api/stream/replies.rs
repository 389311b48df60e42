//! What a stream says to its peer, one word after the other. While one is on its way the stream goes on, and what there is
//! to say then becomes one word.

use std::future::poll_fn;
use std::task::{Context, Poll, ready};

use axum::body::Bytes;
use axum::extract::ws::{CloseFrame, Message, WebSocket};
use futures_util::SinkExt as _;
use futures_util::stream::SplitSink;

use super::{End, Word};

pub(super) struct Replies {
    to: SplitSink<WebSocket, Message>,
    word: Option<Message>,
    asks: bool,
    is_flushed: bool,
}

impl Replies {
    pub(super) fn new(to: SplitSink<WebSocket, Message>) -> Self {
        Self { to, word: None, asks: false, is_flushed: true }
    }

    /// Says if nothing is on its way.
    pub(super) fn is_free(&self) -> bool {
        self.word.is_none() && !self.asks && self.is_flushed
    }

    /// Says a word; none may be on its way.
    pub(super) fn say(&mut self, word: &Word) {
        // These types hold nothing that JSON can't express.
        let text = serde_json::to_string(word).unwrap_or_default();
        self.word = Some(Message::Text(text.into()));
    }

    /// Asks whether the peer is there.
    pub(super) fn ask(&mut self) {
        self.asks = true;
    }

    /// Ready once all is on its way. Nothing is lost where the wait is given up.
    pub(super) async fn send(&mut self) -> Result<(), End> {
        poll_fn(|context| self.poll_send(context)).await.map_err(|_| End::Peer)
    }

    fn poll_send(&mut self, context: &mut Context<'_>) -> Poll<Result<(), axum::Error>> {
        while self.word.is_some() || self.asks {
            ready!(self.to.poll_ready_unpin(context))?;
            let message = self.word.take().unwrap_or_else(|| {
                self.asks = false;
                Message::Ping(Bytes::new())
            });
            self.is_flushed = false;
            self.to.start_send_unpin(message)?;
        }
        ready!(self.to.poll_flush_unpin(context))?;
        self.is_flushed = true;
        Poll::Ready(Ok(()))
    }

    /// Says the last word and closes, if the peer hasn't.
    pub(super) async fn close(&mut self, word: &Word, close: CloseFrame) {
        if self.send().await.is_ok() {
            self.say(word);
            let _ = self.send().await;
        }
        let _ = self.to.send(Message::Close(Some(close))).await;
    }
}
