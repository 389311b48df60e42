//! Warnings before readings go that an app has yet to get to: once half of their retention is used up, and nine tenths.

use std::collections::BTreeMap;

use parking_lot::Mutex;

use super::Node;
use crate::fold::journal::OneJournal;
use crate::telemetry::events::What;
use ironloom_types::clock::Timestamp;
use ironloom_types::ids::{Generation, InstallationId, Sequence};

/// The parts at which people are warned, in percent.
const LEVELS: [u8; 2] = [90, 50];
/// Installations that are named at most.
const MOST: usize = 10;

/// Installations for which readings will go, each with the level that was told.
#[derive(Debug, Default)]
pub(super) struct Expiring(Mutex<BTreeMap<Generation, (InstallationId, u8)>>);

impl Expiring {
    /// The sentences for people: those that are nearest to it.
    pub(super) fn notes(&self) -> Vec<String> {
        let all = self.0.lock();
        let mut all: Vec<_> = all.values().map(|(id, level)| (*level, id)).collect();
        all.sort_unstable_by(|a, b| b.cmp(a));
        all.into_iter().take(MOST).map(|(level, id)| sentence(id, level)).collect()
    }
}

fn sentence(id: &InstallationId, level: u8) -> String {
    format!(
        "the readings that wait for installation {id} have used up {level} % of their retention; what it hasn't dealt with by \
         the end of it is lost to it"
    )
}

/// The retention as of a moment.
#[derive(Clone, Copy, Debug)]
pub(super) struct Limits {
    /// The time now, and the age at which readings go.
    pub(super) age: Option<(Timestamp, u64)>,
    pub(super) bytes: Option<u64>,
}

impl Limits {
    /// The level that the oldest reading has reached which waits.
    fn level(&self, journal: OneJournal<'_>, files: &BTreeMap<u32, u64>, first: Sequence) -> Option<u8> {
        let by_age = self.age.and_then(|(now, age)| {
            let time = journal.time_about(first)?;
            Some(now.0.saturating_sub(time.0) as f64 / age as f64)
        });
        let by_bytes = self.bytes.and_then(|most| {
            let file = journal.file_of(first)?;
            Some(files.range(file..).map(|(_, bytes)| *bytes).sum::<u64>() as f64 / most as f64)
        });
        let used_up = 100.0 * by_age.unwrap_or(0.0).max(by_bytes.unwrap_or(0.0));
        LEVELS.into_iter().find(|level| used_up >= f64::from(*level))
    }
}

impl Node {
    /// Looks for which installations readings will go, and warns of those that have come nearer.
    pub(super) fn warn_of_what_expires(&self, limits: Limits) {
        let journal = &self.shared.journal;
        let files = limits.bytes.map(|_| journal.bytes_by_file()).unwrap_or_default();
        let mut now = BTreeMap::new();
        if limits.age.is_some() || limits.bytes.is_some() {
            for lane in self.lanes.all() {
                let Some(first) = lane.queue.lock().pending() else { continue };
                if let Some(level) = limits.level(journal.of(lane.id.tenant()), &files, first) {
                    now.insert(lane.generation, (lane.id.clone(), level));
                }
            }
        }
        let before = std::mem::replace(&mut *self.expiring.0.lock(), now.clone());
        for (generation, (installation, percent)) in now {
            if before.get(&generation).is_none_or(|(_, told)| *told < percent) {
                tracing::warn!("{}", sentence(&installation, percent));
                self.telemetry.metrics.events.tell(What::Expiring { installation, percent });
            }
        }
    }
}
