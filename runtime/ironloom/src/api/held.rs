//! What a stream holds of the connection that it has taken over.

use std::sync::Arc;

use tokio::sync::{mpsc, watch};

use super::connections::{Connection, Place};

/// The place of a connection, and what ends it: an extension of its requests. A request that becomes a stream keeps it.
#[derive(Clone)]
pub(super) struct Held(Arc<Connected>);

struct Connected {
    connection: Arc<Connection>,
    shutdown: watch::Receiver<bool>,
    _place: Arc<Place>,
    /// The server waits for those who have one before it ends.
    _running: mpsc::Sender<()>,
}

impl Held {
    pub(super) fn new(
        connection: Arc<Connection>,
        place: Arc<Place>,
        shutdown: watch::Receiver<bool>,
        running: mpsc::Sender<()>,
    ) -> Self {
        Self(Arc::new(Connected { connection, shutdown, _place: place, _running: running }))
    }

    /// The connection that a stream has taken over.
    pub(super) fn connection(&self) -> &Arc<Connection> {
        &self.0.connection
    }

    /// Ready with the reason when the stream has to end.
    pub(super) async fn ended(&self) -> &'static str {
        let mut shutdown = self.0.shutdown.clone();
        tokio::select! {
            () = self.0.connection.ended() => "the connection makes room for another",
            _ = shutdown.wait_for(|stop| *stop) => "the server stops",
        }
    }
}
