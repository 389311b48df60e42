//! What is handed to the committer, and how whoever waits for it is answered.

use hashbrown::HashSet;
use tokio::sync::oneshot;

use super::new_points::Place;
use crate::records::admin::{self, AdminRecord};
use crate::records::commit::{self, CommitHead, StateChanges};
use crate::records::readings::{self, Idempotency, ReadingsHead, Receipt};
use ironloom_storage::log::{CommitterHandle, LogError};
use ironloom_trust::audit::{Entry, Said};
use ironloom_types::clock::Timestamp;
use ironloom_types::ids::{Generation, InstallationId, Ordinal, PointNumber, PointPath, Sequence, TenantId};
use ironloom_types::readings::{Columns, NewPoint};

/// One thing for the log.
#[derive(Debug)]
#[allow(clippy::large_enum_variant, reason = "the largest is by far the most frequent")]
pub(crate) enum Submission {
    /// Readings of a source.
    Readings(ReadingsSubmission),
    Commit(Box<CommitSubmission>),
    /// A change by an admin.
    Admin(Box<AdminSubmission>),
    /// Writes nothing. Asks what became of a request.
    Look(LookSubmission),
    /// Writes nothing. From here on it is noted if readings of these points come.
    Watch(WatchSubmission),
    /// Writes nothing. Advances the feed's clock and marks every earlier record as routed.
    Tick(Timestamp),
}

impl Submission {
    /// At least the bytes that the body of its record will have.
    pub(crate) fn max_len(&self) -> usize {
        match self {
            Self::Readings(item) => {
                let is_told = matches!(item.head.receipt, Some(Receipt::Outbox(_)));
                readings::max_len(&item.head, &item.new_points, &item.columns) + entry_len(is_told)
            }
            Self::Commit(item) => {
                let rest = commit::readings_max_len(&item.new_points, &item.derived);
                item.encoded.len() + rest + entry_len(!item.head.intents.is_empty())
            }
            Self::Admin(item) => {
                admin::encoded_len(&item.record).saturating_add(entry_len(item.said.is_some()))
            }
            Self::Look(_) | Self::Watch(_) | Self::Tick(_) => 0,
        }
    }
}

/// At least the bytes that an entry of the audit log takes, if there is one.
fn entry_len(is_there: bool) -> usize {
    if is_there { Entry::MAX_LEN } else { 0 }
}

/// Readings of a source.
#[derive(Debug)]
pub(crate) struct ReadingsSubmission {
    /// Whose they are.
    pub tenant: TenantId,
    /// Receipt and request key.
    pub head: ReadingsHead,
    /// Points that had no number when the request was parsed.
    pub new_points: Vec<NewPoint>,
    /// The readings; empty only where the head has the place of a stream, or points are made.
    pub columns: Columns,
    /// Given back once the fold has made the points.
    pub place: Option<Place>,
    /// Receives the answer once they are durable.
    pub reply: oneshot::Sender<Result<Accepted, Refusal>>,
}

/// A question about a request that may have been taken before.
#[derive(Debug)]
pub(crate) struct LookSubmission {
    /// Without one the answer only says that all that stands before it is applied.
    pub request: Option<Idempotency>,
    /// Receives the answer that the request got, or gets once it is durable; `None` where it was not taken.
    pub reply: oneshot::Sender<Result<Option<Accepted>, Refusal>>,
}

/// Points that are about to be retired, if no reading of theirs comes before.
#[derive(Debug)]
pub(crate) struct WatchSubmission {
    /// In place of those that were watched before.
    pub points: HashSet<PointNumber>,
    /// Told once everything before it is applied.
    pub reply: oneshot::Sender<()>,
}

/// The answer to a source of readings.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Accepted {
    /// The number of readings.
    pub accepted: u64,
    /// The last one's sequence.
    pub through: Sequence,
    /// The same request had been taken before.
    pub duplicate: bool,
}

/// One invocation, encoded by its lane as far as it can be.
#[derive(Debug)]
pub(crate) struct CommitSubmission {
    /// What it says.
    pub head: CommitHead,
    /// The state changes, in the order of their keys' bytes.
    pub state: StateChanges,
    /// Head and state changes, encoded.
    pub encoded: Vec<u8>,
    /// Points that had no number when they were derived for.
    pub new_points: Vec<NewPoint>,
    /// The derived readings.
    pub derived: Columns,
    /// Given back once the fold has made the points.
    pub place: Option<Place>,
    /// Receives the answer once it is durable and applied.
    pub reply: oneshot::Sender<Result<(), Refusal>>,
}

/// A change by an admin.
#[derive(Debug)]
pub(crate) struct AdminSubmission {
    pub record: AdminRecord,
    /// Its entry of the audit log.
    pub said: Option<Said>,
    /// Receives the answer once it is durable and applied.
    pub reply: oneshot::Sender<Result<(), Refusal>>,
}

/// Writes a change by an admin, and waits until it is durable and applied.
pub(crate) async fn write(
    committer: &CommitterHandle<Submission>,
    record: AdminRecord,
    said: Option<Said>,
) -> Result<(), Refusal> {
    submit(committer, record, said)?.await.unwrap_or(Err(Refusal::UnknownOutcome))
}

/// Hands a change by an admin over. The answer comes once it is durable and applied.
pub(crate) fn submit(
    committer: &CommitterHandle<Submission>,
    record: AdminRecord,
    said: Option<Said>,
) -> Result<oneshot::Receiver<Result<(), Refusal>>, Refusal> {
    let (reply, durable) = oneshot::channel();
    let submission = Submission::Admin(Box::new(AdminSubmission { record, said, reply }));
    let bytes = submission.max_len();
    committer.submit(submission, bytes).map_err(|of| too_large(committer, bytes, &of.error))?;
    Ok(durable)
}

/// The reason why the committer takes nothing of so many bytes.
pub(crate) fn too_large(committer: &CommitterHandle<Submission>, bytes: usize, error: &LogError) -> Refusal {
    Refusal::TooLarge { bytes, max: committer.max_body() }.or_stopped(error)
}

/// The reason why the committer refused an item.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub(crate) enum Refusal {
    /// Beyond the most points that a tenant may have.
    #[error(
        "point {path:?} would be one too many: {limit} are allowed. Find the source of the new names; `ironloom points retire` frees points, and `ironloom uninstall --purge` those of an app's outputs."
    )]
    TooManyPoints {
        /// The first that has no place.
        path: String,
        /// The allowed number: all of the tenant's for a source, fewer for apps.
        limit: usize,
    },
    /// Beyond the most points that the mappings of a connector may name.
    #[error(
        "point {path:?} would be one too many for the connector {connector}: {limit} are allowed (`points` of the connector). Raise the limit and reload the configuration, or retire some with `ironloom points retire` and start the server anew."
    )]
    TooManyOfConnector {
        connector: Box<str>,
        /// The first that has no place.
        path: String,
        limit: usize,
    },
    /// The key of a request came again with another request.
    #[error("this Idempotency-Key was used before with another request; use a new key for each request")]
    KeyReused,
    /// The installation is gone, or has begun a new generation.
    #[error("the installation is gone")]
    Gone,
    /// The copy of its state that a rollback would need.
    #[error("the copy of its state is gone that a rollback would need; send the request again")]
    CopyGone,
    /// An installation of this id is there, or becomes durable right now.
    #[error("the installation {0} exists already; choose another id or uninstall it")]
    Exists(InstallationId),
    /// A later install has a generation that isn't below this one.
    #[error("generation {0} was given to another installation in the meantime; send the request again")]
    GenerationTaken(Generation),
    /// A point that is there, or becomes durable right now, has the path that another one was to get.
    #[error("there is a point {0} already; retire it first, or choose another path")]
    PointExists(PointPath),
    /// A reading of a point came that was to be retired.
    #[error("readings of these points came in the meantime")]
    PointsInUse,
    /// The invocation isn't the one that follows the last of its generation.
    #[error(
        "attempt {attempt} at invocation {ordinal} isn't what follows the last one; it is not written twice"
    )]
    OutOfTurn { ordinal: Ordinal, attempt: u32 },
    /// The record is larger than a segment of the log.
    #[error("the record would have {bytes} bytes; at most {max} are possible. Send it in smaller parts.")]
    TooLarge {
        bytes: usize,
        /// The allowed size.
        max: usize,
    },
    /// The log can't be written, or the server is stopping: nobody knows what became of it.
    #[error(
        "it is not known whether this was accepted: the log failed or the server stopped before it could tell"
    )]
    UnknownOutcome,
    /// Nothing more is taken.
    #[error("the server is stopping, or its log has failed: this was not accepted")]
    Stopped,
    /// A panic of the host, on the way to the log.
    #[error("the server's own work for this broke off: it was not accepted")]
    Broken,
}

impl Refusal {
    /// The same, or that nothing more is taken, where the log has stopped.
    #[must_use]
    pub(crate) fn or_stopped(self, error: &LogError) -> Self {
        match error {
            LogError::TooLarge { .. } => self,
            _ => Self::Stopped,
        }
    }
}
