//! An engine that refuses everything after a failed write, and works again once it is opened anew.

use parking_lot::RwLock;

use super::error::StoreError;

/// Something open that is dropped when it breaks, and opened again before it is next used.
pub(super) struct Reopening<T> {
    open: Box<dyn Fn() -> Result<T, StoreError> + Send + Sync>,
    now: RwLock<Option<T>>,
}

/// Says of a failed use or a failed opening what went wrong.
pub(super) enum Failure<F> {
    /// It could not be opened again.
    Opening(StoreError),
    /// It was open, and failed.
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
    pub(super) fn new(
        open: impl Fn() -> Result<T, StoreError> + Send + Sync + 'static,
    ) -> Result<Self, StoreError> {
        let first = open()?;
        Ok(Self { open: Box::new(open), now: RwLock::new(Some(first)) })
    }

    /// Does something with it. Where that fails and `broke` says so, it is closed.
    pub(super) fn with<R, F>(
        &self,
        work: impl FnOnce(&T) -> Result<R, F>,
        broke: impl FnOnce(&F) -> bool,
    ) -> Result<R, Failure<F>> {
        loop {
            let now = self.now.read();
            if let Some(open) = now.as_ref() {
                let result = work(open);
                drop(now);
                if let Err(failed) = &result
                    && broke(failed)
                {
                    *self.now.write() = None;
                }
                return result.map_err(Failure::Using);
            }
            drop(now);
            self.reopen().map_err(Failure::Opening)?;
        }
    }

    fn reopen(&self) -> Result<(), StoreError> {
        let mut now = self.now.write();
        if now.is_none() {
            *now = Some((self.open)()?);
        }
        Ok(())
    }
}
