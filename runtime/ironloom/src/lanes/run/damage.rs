//! A lane that comes to a part of the journal that can't be read. What it has noted before that runs first, and timers run.

use std::sync::Arc;
use std::time::Instant;

use super::{HOST_FAULT, Runner};
use crate::aside::aside;
use crate::fold::journal::JournalError;
use crate::fold::submission::{self, Refusal};
use crate::lanes::Lane;
use crate::records::admin::AdminRecord;
use ironloom_types::clock::host_time;
use ironloom_types::ids::Sequence;
use ironloom_types::work::LastError;

impl Runner {
    /// The journal couldn't be read at `from`. Says whether the lane goes on at once.
    pub(super) async fn not_read(&self, lane: &Arc<Lane>, from: Sequence, error: &JournalError) -> bool {
        let noted = lane.queue.lock().noted();
        if noted > 0 {
            lane.queue.lock().not_read(from, Instant::now());
            return true;
        }
        if error.is_for_good() {
            match self.pass_over(lane, from).await {
                Ok(()) => return true,
                Err(refusal) => {
                    tracing::warn!(installation = %lane.id, %refusal, "it can't go on behind the damaged block");
                }
            }
        } else {
            tracing::error!(installation = %lane.id, %error, "the journal can't be read");
        }
        let until = Instant::now() + HOST_FAULT;
        lane.queue.lock().not_read(from, until);
        let ordinal = lane.book().meta().ordinal.next();
        let message = format!(
            "{error}; it waits for these readings: put the file back, or pause it and resume it with --backlog drop"
        );
        let trouble = LastError { at: host_time(), kind: "journal".to_owned(), message, ordinal };
        let mut pace = lane.pace.lock();
        // Timers run meanwhile.
        (pace.back_off, pace.trouble) = (Some(until), Some(trouble));
        drop(pace);
        self.wake_later(lane, HOST_FAULT);
        false
    }

    /// Goes on behind a block that is damaged; the app is told what it may miss. Whoever calls this has the lane's turn.
    async fn pass_over(&self, lane: &Arc<Lane>, from: Sequence) -> Result<(), Refusal> {
        let (shared, of) = (Arc::clone(&self.shared), Arc::clone(lane));
        let lost = aside(move || shared.lost_with_block(&of, from)).await;
        let (through, gaps) = lost.map_err(|_| Refusal::Broken)?;
        tracing::error!(installation = %lane.id, %from, %through, "it goes on behind a damaged block of the journal");
        let (id, generation) = (lane.id.clone(), lane.generation);
        let record = AdminRecord::Missed { id, generation, through, gaps };
        submission::write(&self.committer, record, None).await
    }
}
