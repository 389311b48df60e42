//! The work that a node has left: a feed that is tried goes on once that is nothing.

use super::Node;
use crate::api::host::Left;
use ironloom_types::clock::Timestamp;

impl Node {
    /// The work that is left of the readings and timers through this time.
    pub(super) fn left(&self, through: Timestamp) -> Left {
        if self.shared.horizon() < through {
            return Left::Work;
        }
        let mut left = Left::Nothing;
        for lane in self.lanes.all() {
            let is_due = {
                let book = lane.book();
                book.all_due().any(|due| due <= through)
            };
            if !is_due && lane.queue.lock().pending().is_none() {
                continue;
            }
            if !lane.is_stopped() {
                return Left::Work;
            }
            let quarantine = lane.book().meta().quarantine.as_ref().map(|why| why.reason.clone());
            let why = quarantine.map_or("it is paused".to_owned(), |why| format!("it is quarantined: {why}"));
            left = Left::Stopped(why);
        }
        left
    }
}
