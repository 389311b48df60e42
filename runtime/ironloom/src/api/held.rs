//! A request's knowledge of its connection, and a stream's hold on the one that it has taken over.

use std::sync::{Arc, Weak};
use std::time::Duration;

use axum::Extension;
use tokio::io::Interest;
use tokio::net::TcpStream;
use tokio::sync::{mpsc, watch};

use super::access::Authority;
use super::connections::{Connection, Place};
use super::facade::RETRY_SOON;
use super::problem::Problem;

/// The interval at which somebody who has sent more than their request is looked for.
const LOOK: Duration = Duration::from_millis(100);

/// The place of a connection, and what ends it: an extension of its requests. A request that becomes a stream keeps it.
#[derive(Clone)]
pub(super) struct Held {
    connected: Arc<Connected>,
    /// The right without which it ends.
    authority: Option<Authority>,
}

struct Connected {
    connection: Arc<Connection>,
    /// Gone with the connection.
    stream: Weak<TcpStream>,
    shutdown: watch::Receiver<bool>,
    _place: Arc<Place>,
    /// The server waits for those who have one before it ends.
    _running: mpsc::Sender<()>,
}

impl Held {
    pub(super) fn new(
        connection: Arc<Connection>,
        stream: &Arc<TcpStream>,
        place: Arc<Place>,
        shutdown: watch::Receiver<bool>,
        running: mpsc::Sender<()>,
    ) -> Self {
        let stream = Arc::downgrade(stream);
        let connected = Connected { connection, stream, shutdown, _place: place, _running: running };
        Self { connected: Arc::new(connected), authority: None }
    }

    /// Ends what goes on for long once its caller has lost its right.
    pub(super) fn depend_on(&mut self, authority: Authority) {
        self.authority = Some(authority);
    }

    /// Says if the caller still has its right.
    pub(super) fn holds(&self) -> bool {
        self.authority.as_ref().is_none_or(Authority::holds)
    }

    /// Refuses a caller that has lost its right since its request was admitted.
    pub(super) fn check(&self) -> Result<(), Problem> {
        if self.holds() { Ok(()) } else { Err(lost()) }
    }

    /// Ready when the caller has lost its right.
    pub(super) async fn lost(&self) {
        match &self.authority {
            Some(authority) => authority.lost().await,
            None => std::future::pending().await,
        }
    }

    /// The request's connection, or the one that a stream has taken over.
    pub(super) fn connection(&self) -> &Arc<Connection> {
        &self.connected.connection
    }

    /// Ready with the reason when the stream has to end.
    pub(super) async fn ended(&self) -> &'static str {
        tokio::select! {
            () = self.connected.connection.ended() => "the connection makes room for another",
            () = self.stops() => "the server stops",
            () = self.lost() => "its token was taken back, or has expired",
        }
    }

    /// Ready when the server stops.
    async fn stops(&self) {
        let mut shutdown = self.connected.shutdown.clone();
        let _ = shutdown.wait_for(|stop| *stop).await;
    }

    /// Ready when the caller has closed its connection, or its half of it: which of the two isn't known before something is
    /// written.
    async fn hung_up(&self) {
        while let Some(stream) = self.connected.stream.upgrade() {
            match stream.ready(Interest::READABLE).await {
                // It has sent the next request already, or more than it was asked for.
                Ok(ready) if !ready.is_read_closed() => {}
                _ => return,
            }
            drop(stream);
            tokio::time::sleep(LOOK).await;
        }
    }
}

pub(super) fn lost() -> Problem {
    Problem::unauthenticated("the token was taken back, or has expired")
}

/// Does what takes long and changes nothing, as long as somebody waits for it. A server that stops doesn't wait for it, and
/// nothing is done for a caller that is gone. One that has closed its half only, and still reads, is told.
pub(super) async fn while_wanted<T>(
    held: Option<Extension<Held>>,
    work: impl Future<Output = Result<T, Problem>>,
) -> Result<T, Problem> {
    let Some(Extension(held)) = held else { return work.await };
    tokio::select! {
        done = work => done,
        () = held.stops() => Err(Problem::unavailable("stopping", "the server is stopping", RETRY_SOON)),
        () = held.lost() => Err(lost()),
        () = held.hung_up() => {
            let detail = "the caller has closed its half of the connection, as one does that is gone";
            Err(Problem::refused("replay", detail).hint("Keep it open until the answer has come."))
        }
    }
}
