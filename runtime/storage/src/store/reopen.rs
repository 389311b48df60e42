//! An engine that refuses everything after a failed write, and works again once it is reopened.

use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use parking_lot::RwLock;

use super::error::StoreError;

/// So long passes at least between two openings: each reads what was written last.
const PAUSE: Duration = Duration::from_secs(if cfg!(test) { 0 } else { 5 });

/// Something open that is dropped when it breaks, and opened again before it is next used.
pub(super) struct Reopening<T> {
    folder: PathBuf,
    open: Box<dyn Fn() -> Result<T, StoreError> + Send + Sync>,
    pause: Duration,
    now: RwLock<Now<T>>,
}

struct Now<T> {
    open: Option<T>,
    /// When it was last opened, or could not be.
    tried: Instant,
}

/// Says of a failed use or a failed opening what went wrong.
pub(super) enum Failure<F> {
    /// It could not be opened again, or not yet.
    Opening(StoreError),
    /// It was open, but failed.
    Using(F),
}

impl<F> Failure<F> {
    /// Names the failed use.
    pub(super) fn named(self, name: impl FnOnce(F) -> StoreError) -> StoreError {
        match self {
            Self::Opening(error) => error,
            Self::Using(failed) => name(failed),
        }
    }
}

impl<T> Reopening<T> {
    /// Opens what is in this folder.
    pub(super) fn new(
        folder: &Path,
        open: impl Fn() -> Result<T, StoreError> + Send + Sync + 'static,
    ) -> Result<Self, StoreError> {
        let now = Now { open: Some(open()?), tried: Instant::now() };
        Ok(Self { folder: folder.to_owned(), open: Box::new(open), pause: PAUSE, now: RwLock::new(now) })
    }

    /// Does something with it. Where that fails and `broke` says so, it is closed.
    pub(super) fn with<R, F>(
        &self,
        work: impl FnOnce(&T) -> Result<R, F>,
        broke: impl FnOnce(&F) -> bool,
    ) -> Result<R, Failure<F>> {
        loop {
            let now = self.now.read();
            if let Some(open) = &now.open {
                let result = work(open);
                drop(now);
                if let Err(failed) = &result
                    && broke(failed)
                {
                    self.now.write().open = None;
                }
                return result.map_err(Failure::Using);
            }
            drop(now);
            self.reopen().map_err(Failure::Opening)?;
        }
    }

    fn reopen(&self) -> Result<(), StoreError> {
        let mut now = self.now.write();
        if now.open.is_some() {
            return Ok(());
        }
        if now.tried.elapsed() < self.pause {
            return Err(StoreError::Closed { folder: self.folder.clone() });
        }
        let opened = (self.open)();
        now.tried = Instant::now();
        now.open = Some(opened?);
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;
    use std::sync::atomic::{AtomicUsize, Ordering};

    use super::*;

    #[test]
    fn what_broke_is_opened_again_and_not_for_each_use() {
        let count = Arc::new(AtomicUsize::new(0));
        let counted = Arc::clone(&count);
        let open = move || Ok(counted.fetch_add(1, Ordering::SeqCst));
        let mut reopening = Reopening::new(Path::new("store"), open).unwrap();
        reopening.pause = Duration::from_secs(3600);
        let broken = |_: &usize| Err::<(), _>(());
        assert!(matches!(reopening.with(broken, |()| true), Err(Failure::Using(()))));
        for _ in 0..100 {
            let used = reopening.with(|open| Ok::<_, ()>(*open), |()| true);
            let Err(Failure::Opening(error)) = used else { panic!("it was opened too soon") };
            assert!(error.is_full(), "{error}");
        }
        assert_eq!(count.load(Ordering::SeqCst), 1);
        reopening.pause = Duration::ZERO;
        assert_eq!(reopening.with(|open| Ok::<_, ()>(*open), |()| true).ok(), Some(1));
        assert!(matches!(reopening.with(broken, |()| false), Err(Failure::Using(()))));
        assert_eq!(reopening.with(|open| Ok::<_, ()>(*open), |()| true).ok(), Some(1));
    }
}
