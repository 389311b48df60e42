//! The surroundings of a connector: records on their way to the disk, pauses, and the word to stop.

use std::collections::VecDeque;
use std::sync::Arc;
use std::time::Duration;

use tokio::sync::watch;

use super::{Commands, Kept, Outgoing, Part, Record, Sink, SinkError, Site, State, Status, Submitted};

/// The time that a connector waits before it submits a refused record again.
pub(super) const RETRY: Duration = Duration::from_millis(500);

/// The bytes of records on their way from which on the oldest is waited for.
const MAX_BYTES: usize = 4 << 20;

/// The surroundings of every connector.
pub(super) struct Run {
    pub sink: Arc<dyn Sink>,
    pub commands: Arc<dyn Commands>,
    pub outgoing: Arc<dyn Outgoing>,
    pub kept: Kept,
    pub status: Arc<Status>,
    pub shutdown: watch::Receiver<bool>,
    /// Records that were handed over and may not be durable yet, the oldest first.
    on_their_way: VecDeque<OnItsWay>,
}

struct OnItsWay {
    durable: Submitted,
    readings: usize,
    bytes: usize,
}

impl Run {
    pub(super) fn new(
        Site { sink, commands, outgoing }: Site,
        kept: Kept,
        status: Arc<Status>,
        shutdown: watch::Receiver<bool>,
    ) -> Self {
        Self { sink, commands, outgoing, kept, status, shutdown, on_their_way: VecDeque::new() }
    }

    /// Waits for a while; `false` where the connector shall stop.
    pub(super) async fn sleep(&mut self, time: Duration) -> bool {
        tokio::select! {
            () = tokio::time::sleep(time) => true,
            () = self.stopped() => false,
        }
    }

    /// Ready when the connector shall stop.
    pub(super) async fn stopped(&mut self) {
        told_to_stop(&mut self.shutdown).await;
    }

    pub(super) fn stopping(&self) -> bool {
        *self.shutdown.borrow()
    }

    /// Hands over a record until it is taken, then waits until fewer than `most` are on their way; `false` where
    /// the connector shall stop.
    pub(super) async fn submit(&mut self, record: &Record, most: usize) -> bool {
        if self.stopping() {
            return false;
        }
        let durable = match self.hand_over(record).await {
            Ok(Some(durable)) => durable,
            Ok(None) => return false,
            Err(error) => return self.give_up(&error),
        };
        let (readings, bytes) = (record.columns.len(), record.bytes());
        self.on_their_way.push_back(OnItsWay { durable, readings, bytes });
        // Its new points may still be refused, and then nothing after it may have been handed over.
        let most = if record.new_points.is_empty() { most } else { 1 };
        let is_much = |run: &Self| run.on_their_way.iter().map(|one| one.bytes).sum::<usize>() > MAX_BYTES;
        while self.on_their_way.len() >= most || is_much(self) {
            if !self.oldest().await {
                return false;
            }
        }
        true
    }

    /// Hands over a record until it is taken; `None` where the connector shall stop before. Its errors are never
    /// [`SinkError::Later`].
    pub(super) async fn hand_over(&mut self, record: &Record) -> Result<Option<Submitted>, SinkError> {
        loop {
            match self.sink.submit(&self.status.name, record.clone()) {
                // None after it may be taken before it: its receipt would pass this one over.
                Err(error @ SinkError::Later(_)) => {
                    self.status.failed(Part::Readings, State::Waiting, &error.to_string())
                }
                taken => return taken.map(Some),
            }
            if !self.sleep(RETRY).await {
                return Ok(None);
            }
        }
    }

    /// Waits until all that was handed over is durable; `false` where the connector shall stop.
    pub(super) async fn settle(&mut self) -> bool {
        while !self.on_their_way.is_empty() {
            if !self.oldest().await {
                return false;
            }
        }
        true
    }

    async fn oldest(&mut self) -> bool {
        let Some(oldest) = self.on_their_way.pop_front() else { return true };
        match oldest.durable.await {
            Ok(()) => {
                self.status.took(oldest.readings);
                self.status.set(Part::Readings, State::Running);
                true
            }
            Err(error) => self.give_up(&error),
        }
    }

    /// Always `false`. The error stays to be seen, unless the server only stops.
    fn give_up(&mut self, error: &SinkError) -> bool {
        self.on_their_way.clear();
        if *error != SinkError::Stopping {
            self.status.failed(Part::Readings, State::Stopped, &error.to_string());
        }
        false
    }
}

/// Ready once a connector is to stop.
pub(super) async fn told_to_stop(shutdown: &mut watch::Receiver<bool>) {
    // Without a sender nobody is there any more.
    let _ = shutdown.wait_for(|stop| *stop).await;
}
