//! The audit log: entries that aren't in the records of their deeds, signed checkpoints, and retention.

pub(super) mod before;
mod list;
mod refusals;
mod repeats;

use std::io;
use std::path::Path;
use std::sync::{Arc, Weak};
use std::time::{Duration, Instant};

use parking_lot::Mutex;

use self::refusals::Refusals;
use self::repeats::Repeats;
use super::{Node, problems};
use crate::access::HOST;
use crate::api::facade::{Answer, AuditCheckpoint, Later, Page};
use crate::fold::submission;
use crate::records::admin::AdminRecord;
use crate::records::audit::{AuditChange, CheckpointRecord};
use ironloom_storage::small_files::{self, ReadError};
use ironloom_trust::audit::{Chain, Checkpoint, Head, Said};
use ironloom_trust::key::{MAX_KEY_FILE, SecretKey};
use ironloom_types::clock::{SECOND, Timestamp};

/// The file of the key that signs checkpoints: 32 bytes.
const KEY_FILE: &str = "audit-key";
/// The interval at which it is looked for what is due.
const LOOK: Duration = Duration::from_secs(1);
/// Entries between two checkpoints, and nanoseconds, at most.
const SIGN_AFTER: u64 = 1_000;
const SIGN_EVERY: u64 = 3_600 * SECOND;
/// Entries of a chain that are kept.
const MOST: u64 = 1_000_000;
/// Entries that go by one record.
const MOST_GONE: u64 = 10_000;

/// Why a server can't have its key.
#[derive(Debug, thiserror::Error)]
pub(super) enum KeyError {
    #[error("the key of the audit log: {0}")]
    Read(ReadError),
    #[error("the key of the audit log, {path}, can't be written: {error}")]
    Write { path: String, error: io::Error },
    #[error(
        "the key of the audit log, {0}, isn't 32 bytes long; remove it, and the next start makes another"
    )]
    Form(String),
    #[error(transparent)]
    Random(#[from] ironloom_trust::key::SecretKeyError),
}

/// Reads the key that signs checkpoints, or makes it.
pub(super) fn key(data: &Path) -> Result<SecretKey, KeyError> {
    let path = data.join(KEY_FILE);
    let shown = || path.display().to_string();
    match small_files::read_secret(&path, MAX_KEY_FILE) {
        Ok(seed) => {
            let seed: [u8; 32] = seed.try_into().map_err(|_| KeyError::Form(shown()))?;
            Ok(SecretKey::of_seed(&seed))
        }
        Err(ReadError::Io { error, .. }) if error.kind() == io::ErrorKind::NotFound => {
            let key = SecretKey::generate()?;
            let written = small_files::write_private(&path, &*key.seed());
            written.map_err(|error| KeyError::Write { path: shown(), error })?;
            tracing::info!(key = %key.public(), "a key for checkpoints of the audit log was made; note it elsewhere");
            Ok(key)
        }
        Err(error) => Err(KeyError::Read(error)),
    }
}

/// The key of the node's checkpoints, and the requests that it counts.
pub(super) struct Auditing {
    key: SecretKey,
    /// Held while checkpoints are made, so that none is made twice.
    signing: tokio::sync::Mutex<()>,
    refusals: Mutex<Refusals>,
    repeats: Mutex<Repeats>,
}

impl Auditing {
    pub(super) fn new(key: SecretKey) -> Self {
        Self {
            key,
            signing: tokio::sync::Mutex::default(),
            refusals: Mutex::new(Refusals::new(Instant::now())),
            repeats: Mutex::new(Repeats::new(Instant::now())),
        }
    }
}

/// An entry of something that the server does by itself.
pub(super) fn by_the_host(chain: Chain, action: &str, resource: String, detail: &str) -> Said {
    Said::done(chain, HOST, action, resource, detail)
}

/// Says whether a record only prepares a deed, which may still come to nothing.
pub(super) fn is_preparation(record: &AdminRecord) -> bool {
    matches!(record, AdminRecord::CopyBegun(_) | AdminRecord::Copied(_))
}

/// The entry of a record that nobody has asked for, where it matters to more than housekeeping.
pub(super) fn of_the_host(record: &AdminRecord, told: &str) -> Option<Said> {
    let (action, id) = match record {
        AdminRecord::Revised(revised) => ("changeInstallation", &revised.installation.id),
        AdminRecord::RolledBack(back) => ("rollback", &back.new.installation.id),
        AdminRecord::Committed(committed) => ("commitUpgrade", &committed.id),
        AdminRecord::Purged { id, .. } => ("purge", id),
        AdminRecord::Missed { id, .. } => ("skipReadings", id),
        _ => return None,
    };
    Some(by_the_host(Chain::Tenant(id.tenant()), action, format!("installations/{id}"), told))
}

/// Signs, drops and sums up as long as the node is there.
pub(super) async fn watch(node: Weak<Node>) {
    let began = Instant::now();
    loop {
        {
            let Some(node) = node.upgrade() else { return };
            let refused = node.auditing.refusals.lock().due(Instant::now());
            let repeated = node.auditing.repeats.lock().due(Instant::now());
            for said in refused.into_iter().chain(repeated) {
                drop(node.write_entry(said));
            }
            if let Err(problem) = node.sign_what_is_due().await {
                tracing::warn!(%problem, "a checkpoint of the audit log can't be written; it is tried again");
            }
            if let Err(problem) = node.drop_old_entries(began.elapsed()).await {
                tracing::warn!(%problem, "old entries of the audit log could not be dropped; it is tried again");
            }
        }
        tokio::time::sleep(LOOK).await;
    }
}

fn is_due(now: Timestamp, head: Head, signed: Option<(u64, Timestamp)>) -> bool {
    let Some((number, time)) = signed else { return head.number > 0 };
    let behind = head.number.saturating_sub(number);
    behind >= SIGN_AFTER || behind > 0 && now.0.abs_diff(time.0) >= SIGN_EVERY
}

impl Node {
    /// Writes an entry that no other record has. It is handed over at once.
    pub(super) fn write_entry(&self, said: Said) -> Later<'static, ()> {
        let durable = submission::submit(&self.committer, AdminRecord::Audit(AuditChange::Entry), Some(said));
        Box::pin(async move {
            let refused = |refusal| problems::change_refused(&refusal);
            let durable = durable.map_err(refused)?.await;
            durable.unwrap_or(Err(submission::Refusal::UnknownOutcome)).map_err(refused)
        })
    }

    /// Tells of a deed that no other record has, or counts it.
    pub(super) fn tell_done(&self, said: Said) -> Later<'static, ()> {
        // The entries come in the order in which they were taken.
        let mut repeats = self.auditing.repeats.lock();
        let entries: Vec<_> = repeats.take(said).map(|said| self.write_entry(said)).collect();
        drop(repeats);
        Box::pin(async move {
            for entry in entries {
                entry.await?;
            }
            Ok(())
        })
    }

    /// Tells of a request that ended without success, or counts it.
    pub(super) fn tell_refused(&self, said: Said) {
        let told = self.auditing.refusals.lock().take(said);
        if let Some(said) = told {
            drop(self.write_entry(said));
        }
    }

    async fn sign_what_is_due(&self) -> Answer<()> {
        let now = self.shared.clock.now();
        self.sign(|head, signed| is_due(now, head, signed)).await
    }

    /// Signs the ends of chains that are to be.
    async fn sign(&self, is_due: impl Fn(Head, Option<(u64, Timestamp)>) -> bool) -> Answer<()> {
        let _signing = self.auditing.signing.lock().await;
        for (chain, head) in self.shared.audit.heads().all() {
            if !is_due(head, self.shared.audit.signed(chain)) {
                continue;
            }
            let time = self.shared.clock.now();
            let envelope = Checkpoint::sign(chain, head, time, &self.auditing.key).into();
            let record = CheckpointRecord { chain, number: head.number, time, envelope };
            self.change(AdminRecord::Audit(AuditChange::Signed(Box::new(record)))).await?;
        }
        Ok(())
    }

    /// Signs what no checkpoint vouches for yet, and gives the last one of each chain.
    pub(super) async fn sign_now(self: Arc<Self>) -> Answer<Page<AuditCheckpoint>> {
        self.sign(|head, signed| signed.is_none_or(|(number, _)| number < head.number)).await?;
        super::found_aside(move || self.last_checkpoints()).await
    }

    async fn drop_old_entries(&self, up: Duration) -> Answer<()> {
        let age = {
            let config = self.config.load();
            config.history.audit.beside(&config.journal)
        };
        let old = age.and_then(|age| Some(Timestamp(self.believed_now(up)?.0.saturating_sub(age.0))));
        for (chain, _) in self.shared.audit.heads().all() {
            let kept = self.shared.audit.kept(chain);
            let mut before = kept.end.saturating_sub(MOST).max(kept.start);
            if let Some(old) = old {
                let found = crate::fold::read_aside(&self.shared, move |shared| {
                    shared.first_entry_since(chain, old, MOST_GONE as usize)
                });
                before = before.max(found.await.map_err(|error| problems::internal(&error))?);
            }
            before = before.min(kept.start + MOST_GONE);
            if before > kept.start {
                self.change(AdminRecord::Audit(AuditChange::Expired { chain, before })).await?;
            }
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use ironloom_types::ids::Digest;

    #[test]
    fn a_checkpoint_is_due_after_a_thousand_entries_or_an_hour_if_there_are_new_ones() {
        let head = |number| Head { number, hash: Digest([0; 32]) };
        let hour = |times: u64| Timestamp(times * 3_600_000_000_000);
        assert!(!is_due(hour(9), head(0), None));
        assert!(is_due(hour(9), head(1), None));
        assert!(!is_due(hour(9), head(1_000), Some((1, hour(9)))));
        assert!(is_due(hour(9), head(1_001), Some((1, hour(9)))));
        assert!(!is_due(Timestamp(hour(10).0 - 1), head(2), Some((1, hour(9)))));
        assert!(is_due(hour(10), head(2), Some((1, hour(9)))));
        assert!(!is_due(hour(99), head(1), Some((1, hour(9)))));
        // Time was set back.
        assert!(is_due(hour(8), head(2), Some((1, hour(9)))));
    }

    #[test]
    fn a_key_is_made_once_for_its_owner_alone() {
        let folder = tempfile::tempdir().unwrap();
        let made = key(folder.path()).unwrap().public();
        assert_eq!(key(folder.path()).unwrap().public(), made);
        let file = folder.path().join(KEY_FILE);
        let mode = std::os::unix::fs::PermissionsExt::mode(&std::fs::metadata(&file).unwrap().permissions());
        assert_eq!(mode & 0o777, 0o600);
        std::fs::write(&file, b"short").unwrap();
        assert!(key(folder.path()).unwrap_err().to_string().contains("isn't 32 bytes long"));
        let open = std::os::unix::fs::PermissionsExt::from_mode(0o644);
        std::fs::set_permissions(&file, open).unwrap();
        assert!(key(folder.path()).unwrap_err().to_string().contains("run `chmod o="));
    }
}
