//! Memory that requests share: for bodies on their way in and answers on their way out.
//!
//! A share is taken as bytes come, never for what is only announced. What a request has anyway, its
//! first [`FREE`] bytes, costs nothing: the number of connections bounds it. So small requests, those
//! of an admin first of all, never wait for large ones.

use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use tokio::sync::{OwnedSemaphorePermit, Semaphore};

use super::facade::RETRY_SOON;
use super::problem::Problem;

/// Bytes of each body and each answer that need no share.
pub(super) const FREE: usize = 64 << 10;
/// The unit of counting, so that a share isn't requested for each packet.
const UNIT: usize = 64 << 10;
/// The time that a request waits for its share. Beyond: 503.
pub(super) const PATIENCE: Duration = Duration::from_secs(5);

/// Memory for requests of one kind.
#[derive(Clone, Debug)]
pub(super) struct Memory(Arc<Semaphore>);

/// A part of a [`Memory`], given back when it is dropped.
#[derive(Debug)]
pub(super) struct Share {
    memory: Memory,
    permit: Option<OwnedSemaphorePermit>,
}

impl Memory {
    /// Creates a budget of so many bytes, besides what each body may have without asking.
    pub(super) fn new(bytes: usize) -> Self {
        Self(Arc::new(Semaphore::new(bytes / UNIT)))
    }

    /// A share that holds nothing yet.
    pub(super) fn share(&self) -> Share {
        Share { memory: self.clone(), permit: None }
    }
}

impl Share {
    /// Grows the share to hold this many bytes; 503 where others hold too much for too long.
    pub(super) async fn grow(&mut self, bytes: usize) -> Result<(), Problem> {
        self.grow_within(bytes, PATIENCE).await
    }

    /// Gives back what this many bytes don't need, or grows if that is possible now; `false` where others hold too
    /// much.
    pub(super) fn fit(&mut self, bytes: usize) -> bool {
        let (wanted, held) = (units(bytes), self.units());
        if let Some(missing) = wanted.checked_sub(held).filter(|missing| *missing > 0) {
            let Ok(permit) = Arc::clone(&self.memory.0).try_acquire_many_owned(missing as u32) else {
                return false;
            };
            self.add(permit);
        } else if let Some(permit) = &mut self.permit {
            drop(permit.split(held - wanted));
        }
        true
    }

    /// As [`Self::grow`], but waits no longer than `patience`.
    pub(super) async fn grow_within(&mut self, bytes: usize, patience: Duration) -> Result<(), Problem> {
        let missing = units(bytes).saturating_sub(self.units());
        if missing == 0 {
            return Ok(());
        }
        let asked = Arc::clone(&self.memory.0).acquire_many_owned(missing as u32);
        let Ok(Ok(permit)) = tokio::time::timeout(patience, asked).await else {
            let detail = "other requests hold all the memory for large bodies and answers";
            return Err(Problem::unavailable("busy", detail, RETRY_SOON));
        };
        self.add(permit);
        Ok(())
    }

    fn add(&mut self, permit: OwnedSemaphorePermit) {
        match &mut self.permit {
            Some(held) => held.merge(permit),
            None => self.permit = Some(permit),
        }
    }

    /// Ties the share to these bytes: it is given back with the last clone of them.
    pub(super) fn with(self, bytes: Vec<u8>) -> Bytes {
        Bytes::from_owner(Held { bytes, _share: self })
    }

    /// The bytes that it may hold now.
    pub(super) fn bytes(&self) -> usize {
        FREE + self.units() * UNIT
    }

    fn units(&self) -> usize {
        self.permit.as_ref().map_or(0, OwnedSemaphorePermit::num_permits)
    }
}

fn units(bytes: usize) -> usize {
    bytes.saturating_sub(FREE).div_ceil(UNIT)
}

struct Held {
    bytes: Vec<u8>,
    _share: Share,
}

impl AsRef<[u8]> for Held {
    fn as_ref(&self) -> &[u8] {
        &self.bytes
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test(start_paused = true)]
    async fn what_is_free_never_waits_and_the_rest_is_refused_in_the_end() {
        let memory = Memory::new(4 * UNIT);
        let mut large = memory.share();
        large.grow(FREE + 4 * UNIT).await.unwrap();
        memory.share().grow(FREE).await.unwrap();
        let mut second = memory.share();
        assert_eq!(second.grow(FREE + 1).await.unwrap_err().status, 503);
        assert_eq!(second.grow_within(FREE + 1, Duration::ZERO).await.unwrap_err().status, 503);
        drop(large);
        second.grow_within(FREE + 1, Duration::ZERO).await.unwrap();
        let bytes = second.with(vec![1; 3]);
        assert_eq!((&bytes[..], memory.0.available_permits()), (&[1, 1, 1][..], 3));
        drop(bytes);
        assert_eq!(memory.0.available_permits(), 4);
    }

    #[test]
    fn a_share_that_must_not_wait_takes_what_is_there_and_gives_back_what_it_does_not_need() {
        let memory = Memory::new(4 * UNIT);
        let (mut first, mut second) = (memory.share(), memory.share());
        assert!(first.fit(FREE) && first.fit(FREE + 3 * UNIT) && !first.fit(FREE + 5 * UNIT));
        assert_eq!(memory.0.available_permits(), 1, "what it had before stays");
        assert!(!second.fit(FREE + UNIT + 1) && second.fit(FREE + UNIT));
        assert_eq!((first.bytes(), second.bytes()), (FREE + 3 * UNIT, FREE + UNIT));
        assert!(first.fit(FREE + 1) && second.fit(FREE + 3 * UNIT));
        assert!(first.fit(0) && second.fit(0));
        assert_eq!(memory.0.available_permits(), 4);
    }

    #[tokio::test(start_paused = true)]
    async fn those_that_stall_each_other_end_one_by_one() {
        let memory = Memory::new(4 * UNIT);
        let grow = |memory: Memory, start: u64| async move {
            tokio::time::sleep(Duration::from_millis(start)).await;
            let mut share = memory.share();
            share.grow(FREE + 2 * UNIT).await?;
            tokio::time::sleep(Duration::from_millis(100)).await;
            share.grow(FREE + 4 * UNIT).await
        };
        let (a, b) = tokio::join!(grow(memory.clone(), 0), grow(memory.clone(), 1));
        assert!(a.is_err() && b.is_ok());
    }
}
