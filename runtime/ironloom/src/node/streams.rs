//! Streams of readings: which connection has which.

use std::sync::Arc;

use hashbrown::HashMap;
use parking_lot::Mutex;
use tokio::sync::{Notify, OwnedSemaphorePermit, Semaphore};

use super::Node;
use crate::api::facade::{Answer, OpenStream, Problem, Progress, RETRY_SOON, StreamClaim};
use crate::fold::streams::{Kind, MOST};

/// The streams with a key that connections have or wait for.
#[derive(Default)]
pub(super) struct OpenStreams(Mutex<HashMap<Arc<str>, Arc<Holding>>>);

/// Who has a stream, and who wants it.
struct Holding {
    place: Arc<Semaphore>,
    /// Tells the last connection that has claimed it that another has.
    wanted: Mutex<Arc<Notify>>,
}

/// The things that a connection keeps for as long as it has a stream.
struct Kept {
    _holding: Arc<Holding>,
    _place: Option<OwnedSemaphorePermit>,
}

impl Node {
    /// Claims a stream for a connection; the one that has it is told.
    pub(super) fn claim_stream(self: &Arc<Self>, key: Option<Arc<str>>) -> Answer<StreamClaim> {
        let wanted = Arc::new(Notify::new());
        let Some(key) = key else {
            let open = OpenStream { key: None, progress: Progress::default(), _kept: Box::new(()) };
            return Ok(StreamClaim { wanted, opened: Box::pin(std::future::ready(Ok(open))) });
        };
        let holding = self.holding(&key)?;
        let before = std::mem::replace(&mut *holding.wanted.lock(), Arc::clone(&wanted));
        before.notify_one();
        let node = Arc::clone(self);
        let opened = Box::pin(async move {
            let place = Arc::clone(&holding.place).acquire_owned().await.ok();
            // The fold's own key, if it has one: who keeps that keeps the stream from being forgotten.
            let found = node.shared.streams.read().find(&key);
            let (key, progress) = found.unwrap_or((key, Progress::default()));
            let kept = Box::new(Kept { _holding: holding, _place: place });
            Ok(OpenStream { key: Some(key), progress, _kept: kept })
        });
        Ok(StreamClaim { wanted, opened })
    }

    /// Who has the stream; refused where it would be one too many.
    fn holding(&self, key: &Arc<str>) -> Answer<Arc<Holding>> {
        let mut open = self.streams.0.lock();
        open.retain(|_, holding| Arc::strong_count(holding) > 1);
        if let Some(holding) = open.get(key) {
            return Ok(Arc::clone(holding));
        }
        {
            let streams = self.shared.streams.read();
            let kind = Kind::of(key);
            let is_new = |key: &Arc<str>| streams.find(key).is_none();
            let new = open.keys().filter(|key| Kind::of(key) == kind && is_new(key)).count();
            if is_new(key) && !streams.has_room(kind, new, self.shared.clock.now()) {
                let kept = kind.kept();
                let detail = match kind {
                    Kind::Named => format!(
                        "{MOST} streams with a key are remembered, each for {kept} after its last reading; \
                         use the key of one of them, or none"
                    ),
                    Kind::Once => format!(
                        "{MOST} streams without a key of their own are open, or broke off and are remembered for {kept}"
                    ),
                };
                return Err(Problem::unavailable("too-many-streams", detail, RETRY_SOON));
            }
        }
        let holding = Arc::new(Holding { place: Arc::new(Semaphore::new(1)), wanted: Mutex::default() });
        open.insert(Arc::clone(key), Arc::clone(&holding));
        Ok(holding)
    }
}

#[cfg(test)]
mod tests;
