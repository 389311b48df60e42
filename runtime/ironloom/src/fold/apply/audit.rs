//! Entries of the audit log, its checkpoints, and those that are past their retention.

use super::Applier;
use crate::fold::audit::{checkpoint_key, entry_key};
use crate::fold::stored::encode;
use crate::records::audit::{AuditChange, CheckpointRecord, KeptEntry};
use ironloom_trust::audit::{Chain, Entry, Head};

impl Applier {
    pub(super) fn change_audit(&self, change: AuditChange) {
        match change {
            AuditChange::Entry => {}
            AuditChange::Signed(checkpoint) => self.note_checkpoint(*checkpoint),
            AuditChange::Expired { chain, before } => self.expire_entries(chain, before),
        }
    }

    /// Takes the entry of a record over.
    pub(super) fn note_entry(&mut self, entry: Option<Box<Entry>>) {
        let Some(entry) = entry.map(|entry| *entry) else { return };
        let (chain, hash) = (entry.said.chain, entry.hash());
        let head = Head { number: entry.number, hash };
        let key = entry_key(chain, entry.number);
        self.shared.overlay.apply([(key, Some(encode(&KeptEntry { entry, hash })))]);
        self.shared.audit.note_head(chain, head);
    }

    fn note_checkpoint(&self, checkpoint: CheckpointRecord) {
        let key = checkpoint_key(checkpoint.chain, checkpoint.number);
        self.shared.overlay.apply([(key, Some(encode(&checkpoint)))]);
        self.shared.audit.note_checkpoint(checkpoint.chain, checkpoint.number, checkpoint.time);
    }

    /// Removes the entries before this one. The checkpoint right before it stays, since it vouches for what the first one
    /// follows; that of the last time goes.
    fn expire_entries(&self, chain: Chain, before: u64) {
        let entries = self.shared.audit.expire(chain, before);
        let last_time = entries.start.checked_sub(1).filter(|_| !entries.is_empty());
        let last_time = last_time.map(|number| checkpoint_key(chain, number));
        let keys = entries.flat_map(|number| {
            let checkpoint = (number + 1 < before).then(|| checkpoint_key(chain, number));
            [Some(entry_key(chain, number)), checkpoint]
        });
        self.shared.overlay.apply(keys.flatten().chain(last_time).map(|key| (key, None)));
    }
}
