//! A switch that ends invocations from outside.

use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};

/// A switch that ends an installation's invocations. Clones are the same switch.
#[derive(Clone, Debug, Default)]
pub struct Interrupt(Arc<AtomicU32>);

/// Holds an [`Interrupt`] on until it is dropped.
#[derive(Debug)]
pub struct Interrupting(Arc<AtomicU32>);

impl Interrupt {
    /// Switches it on: an invocation under way ends at the next tick without effect, and so does
    /// one that begins before the guard is dropped.
    #[must_use]
    pub fn raise(&self) -> Interrupting {
        self.0.fetch_add(1, Ordering::SeqCst);
        Interrupting(Arc::clone(&self.0))
    }

    /// Says if somebody has it on.
    pub fn is_raised(&self) -> bool {
        self.0.load(Ordering::Relaxed) > 0
    }
}

impl Drop for Interrupting {
    fn drop(&mut self) {
        self.0.fetch_sub(1, Ordering::SeqCst);
    }
}
