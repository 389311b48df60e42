//! A listener that remembers what the fold tells the lanes.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use parking_lot::Mutex;

use crate::fold::durable::{Durable, Listener};

/// Hears what the fold tells the lanes.
#[derive(Default)]
pub(super) struct Heard {
    /// Lanes that were woken for something else than readings.
    pub woken: Mutex<Vec<u32>>,
    /// What checkpoints have charged, by generation.
    pub paid: Mutex<BTreeMap<u64, Duration>>,
}

impl Listener for Heard {
    fn begun(&self, _: &Arc<Durable>) {}

    fn noted(&self, _: u32) {}

    fn wake(&self, number: u32) {
        self.woken.lock().push(number);
    }

    fn folded(&self, installation: &Durable, cpu: Duration) {
        *self.paid.lock().entry(installation.generation.0).or_default() += cpu;
    }

    fn revised(&self, _: &Durable) {}

    fn gone(&self, _: &Durable) {}
}
