//! Kind 3, *admin*: what people changed.

use std::sync::Arc;

use serde::{Deserialize, Serialize};

use super::alarm::{AlarmRecord, EpisodePlace};
use super::audit::{self, AuditChange};
use super::catalog::CatalogRecord;
use super::connector::ConnectorRecord;
use super::consent::ConsentRecord;
use super::copy::{Committed, Copied, CopiesDropped, CopyBegun, RolledBack};
use super::tenant::TenantRecord;
use super::token::TokenChange;
use super::{BodyError, Reader, VARINT, head_len, put_head};
use crate::records::installation::{Installation, Revision, Standing};
use crate::records::intent::Asked;
use crate::records::lane::{Episodes, LaneMeta};
use crate::records::owner::AppOwner;
use ironloom_trust::audit::Entry;
use ironloom_trust::key::PublicKey;
use ironloom_types::CompiledRef;
use ironloom_types::clock::Timestamp;
use ironloom_types::effects::OneShot;
use ironloom_types::ids::{
    Digest, Generation, InstallationId, Ordinal, PointNumber, PointPath, Sequence, SlotName, TenantId,
};
use ironloom_types::readings::{Quality, Value};
use ironloom_types::work::Gap;

/// The version that is written.
pub(crate) const VERSION: u8 = 13;

/// One change. New variants go to the end: their order is the format.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub(crate) enum AdminRecord {
    /// A package is there, and a tenant has it; its files were synced before.
    PackageAdded { tenant: TenantId, package: Box<PackageRecord> },
    /// A package is gone.
    PackageRemoved(Digest),
    /// Its code was compiled anew, for another engine.
    Compiled { package: Digest, compiled: CompiledRef },
    /// Apps were installed, all of them or none; in the order of the numbers that they were given.
    Installed(Vec<NewInstallation>),
    /// An installation was paused or resumed.
    Standing {
        id: InstallationId,
        generation: Generation,
        /// What it is now.
        standing: Standing,
        /// The lane's bookkeeping after it.
        meta: Box<LaneMeta>,
    },
    /// An installation is gone.
    Uninstalled {
        /// The installation as it was.
        ended: Box<Ended>,
        /// The time, by the machine's clock: what it has kept is purged seven days later.
        at: Timestamp,
        /// Its state and the points of its outputs go at once, with all that earlier ones of its id have kept.
        purge: bool,
    },
    /// Somebody acknowledged or shelved an alarm, or said something about it.
    Alarm {
        generation: Generation,
        /// The episode as it is now.
        alarm: Box<AlarmRecord>,
        /// The history after it.
        episodes: Episodes,
    },
    /// Somebody deleted a dead letter.
    DeadLetterDeleted {
        generation: Generation,
        number: u64,
        /// The number that is kept after it.
        kept: u64,
        /// What those take together.
        bytes: u64,
    },
    /// The configuration gives units to points that had none.
    UnitsGiven(Vec<(PointNumber, Arc<str>)>),
    /// Journal time, which had followed a clock into a wrong future, goes back to the present.
    TimeSet {
        /// What the machine's clock and the admin agreed on.
        to: Timestamp,
        /// Of each generation with timers that were due later: when these are due now.
        due: Vec<LaneDue>,
    },
    /// What is kept of installations that were uninstalled goes: an admin purges it, or its week is over.
    Purged {
        id: InstallationId,
        generations: Vec<Generation>,
        /// The points of its outputs go too: no installation of this id lives, and no other generation keeps them.
        points: bool,
    },
    /// Readings that wait for a lane are about to be dropped, or can't be read: it goes on behind them.
    Missed {
        id: InstallationId,
        generation: Generation,
        /// The last sequence that it will never see.
        through: Sequence,
        /// Its gaps, one for each input.
        gaps: Vec<Gap>,
    },
    /// Blocks of the journal with readings before this sequence alone are past their retention and go. Lanes that
    /// waited for such readings were moved on before.
    Dropped { tenant: TenantId, before: Sequence },
    /// An installation has a new revision.
    Revised(Box<Revised>),
    /// An installation begins anew.
    Reset(Box<Reset>),
    /// Somebody has repaired the state of an app that stands still.
    StateChanged(Box<StateChanged>),
    /// Parts of an installation's history are past their retention and go.
    Expired(Box<Expired>),
    /// Somebody said what a point is.
    PointSet(Box<PointSet>),
    /// Somebody retired points. No installation waits for a reading of theirs.
    PointsRetired(PointsRetired),
    /// A point goes on under another path. No installation waits for a reading of it.
    PointRenamed(Box<PointRenamed>),
    /// Somebody confirmed an intent.
    IntentConfirmed(Box<Asked>),
    /// Somebody added a connector, changed it, stopped it or started it again.
    ConnectorSet(Box<ConnectorRecord>),
    /// Somebody removed a connector: the place that it had come to goes as well.
    ConnectorRemoved { name: Box<str> },
    /// Somebody added a catalog, it was looked at again and is another one, or only what was seen of it is kept.
    CatalogSet(Box<CatalogRecord>),
    /// Somebody had it forgotten what was seen of a catalog.
    CatalogRemoved { name: Box<str> },
    /// Somebody made a token, or took one back.
    Token(TokenChange),
    /// An upgrade waits for consent, in place of one of the same installation that did.
    ConsentAsked(Box<ConsentRecord>),
    /// Somebody refused it.
    ConsentRefused { id: InstallationId },
    /// A copy of a generation is about to be made.
    CopyBegun(CopyBegun),
    /// It is whole.
    Copied(Box<Copied>),
    /// An upgrade is final.
    Committed(Committed),
    /// An upgrade was rolled back.
    RolledBack(Box<RolledBack>),
    /// A change of the audit log itself.
    Audit(AuditChange),
    /// Copies beyond the quota go.
    CopiesDropped(CopiesDropped),
    /// A tenant has a package from here on, or no longer.
    PackageHeld { tenant: TenantId, package: Digest, holds: bool },
    /// Somebody added a tenant, or gave it other quotas.
    Tenant(Box<TenantRecord>),
}

/// Unit and description of a point, from a person.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct PointSet {
    pub number: PointNumber,
    pub unit: Option<Arc<str>>,
    pub description: Option<Box<str>>,
}

/// Points that are no longer there: a reading of the same path makes another point.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct PointsRetired {
    /// In their order. Where their readings go, points may be among them that were retired before.
    pub numbers: Vec<PointNumber>,
    /// Their readings stay, under the paths that they had.
    pub readings: bool,
    /// Of the installations whose outputs made some of them: how many points count from here on.
    pub made: Vec<(Generation, u64)>,
}

/// A point goes on under another path, as another point: which path a reading was routed by is fixed by its number.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub(crate) struct PointRenamed {
    /// The point that it was, which is retired.
    pub from: PointNumber,
    /// Points of the old path that were retired before. Their readings have the new path, too.
    pub earlier: Vec<PointNumber>,
    /// The point that it is. The committer gives the number.
    pub number: PointNumber,
    pub path: PointPath,
    pub unit: Option<Arc<str>>,
    pub description: Option<Box<str>>,
    pub latest: Option<CarriedReading>,
}

/// The latest reading of a point, which is that of another one from here on.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub(crate) struct CarriedReading {
    pub sequence: Sequence,
    pub at: Timestamp,
    pub quality: Quality,
    pub value: Value,
}

/// A generation as it ends: a later install may adopt it.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub(crate) struct Ended {
    pub installation: Installation,
    /// The lane's last bookkeeping.
    pub meta: LaneMeta,
}

/// A new generation of an installation takes the place of the one before, whose state is kept as of one that was
/// uninstalled.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub(crate) struct Reset {
    /// The generation before.
    pub ended: Ended,
    /// The time, by the machine's clock.
    pub at: Timestamp,
    /// The installation as it is now, with one revision.
    pub new: NewInstallation,
}

/// One key of an app's state, changed by a person.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct StateChanged {
    pub id: InstallationId,
    pub generation: Generation,
    pub key: Box<str>,
    /// `None` deletes the key.
    pub value: Option<Vec<u8>>,
    /// The bytes of the whole state after it.
    pub bytes: u64,
    /// The last invocation before the first change of this kind; see [`LaneMeta::repaired`].
    pub repaired: Ordinal,
}

/// Parts of an installation's history that are past their retention.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub(crate) struct Expired {
    pub id: InstallationId,
    pub generation: Generation,
    /// [`LaneMeta::invocations_gone`] before it.
    pub invocations_gone_before: Ordinal,
    /// Alarms that were kept for a shelf alone which has ended: their episodes are over.
    pub alarms: Vec<AlarmRecord>,
    /// Episodes that the history no longer has; they may be among `alarms`.
    pub episodes_gone: Vec<EpisodePlace>,
    /// Dead letters that are gone.
    pub dead_letters_gone: Vec<u64>,
    /// The lane's bookkeeping after it.
    pub meta: LaneMeta,
}

/// A revision of an installation that is there.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub(crate) struct Revised {
    /// The installation as it is now.
    pub installation: Installation,
    /// Its new revision. While it waits for its record, `from` may be [`FROM_HERE`].
    pub revision: Revision,
    /// The lane's bookkeeping after it.
    pub meta: LaneMeta,
    /// Alarms that its package doesn't have: their episodes are over, as they stand here.
    pub alarms: Vec<AlarmRecord>,
    /// One-shot timers after it: set, or gone (`None`).
    pub timers: Vec<(Box<str>, Option<OneShot>)>,
    /// Keys of the state that its package has brought into its form: set, or deleted (`None`).
    pub state: Vec<(Box<str>, Option<Vec<u8>>)>,
    /// As in [`NewInstallation`].
    pub owner: Option<Box<AppOwner>>,
}

/// Stands for the sequence that follows the readings before a record, which only the committer knows.
pub(crate) const FROM_HERE: Sequence = Sequence(0);

/// An app that is installed.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub(crate) struct NewInstallation {
    pub installation: Installation,
    /// Its first revision.
    pub revision: Revision,
    /// Where its lane begins.
    pub meta: LaneMeta,
    /// Set where its generation is one that was kept.
    pub adopted: Option<Box<Adopted>>,
    /// Set where it is the first of its app, or the first one signed: the id belongs to this one from here on.
    pub owner: Option<Box<AppOwner>>,
}

/// What an installation takes over with a generation that was kept, besides the state and the bookkeeping.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub(crate) struct Adopted {
    /// The alarms that ended with the generation, which stay in the history. Their keys are there until then, and go.
    pub alarms: Vec<AlarmRecord>,
    /// Its one-shot timers: set, or gone (`None`).
    pub timers: Vec<(Box<str>, Option<OneShot>)>,
}

/// When timers of a generation are due that time was set back under.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct LaneDue {
    pub generation: Generation,
    /// All repeating ones.
    pub cron: Vec<(SlotName, Timestamp)>,
    /// The one-shots that move.
    pub timers: Vec<(Box<str>, Timestamp)>,
}

/// A package as the store keeps it; its bytes are in a file of its own.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct PackageRecord {
    /// The digest of its image manifest.
    pub digest: Digest,
    /// The `app.toml` that it carries.
    pub manifest: String,
    /// The digest of the whole file.
    pub file: Digest,
    /// The keys that have signed it; their signatures are in the file.
    pub signers: Vec<PublicKey>,
    /// The imports of its component.
    pub imports: Vec<String>,
    /// The SDK that it was built with.
    pub sdk_version: Option<String>,
    /// Its compiled code.
    pub compiled: CompiledRef,
}

impl PackageRecord {
    /// The name of its file. Another file of the same package, with further signatures, has another one, so that
    /// there is always the one that the record names.
    pub(crate) fn file_name(&self) -> String {
        self.file.hex()
    }
}

/// Appends the body.
pub(crate) fn encode(record: &AdminRecord, out: &mut Vec<u8>) {
    assert!(is_bounded(record), "whoever writes a connector has held its texts against their limits");
    put_head(record, out);
}

/// At least the bytes that [`encode`] appends.
pub(crate) fn encoded_len(record: &AdminRecord) -> usize {
    match record {
        // The committer puts a sequence into the one, and a point's number into the other.
        AdminRecord::Revised(_) | AdminRecord::PointRenamed(_) => head_len(record) + VARINT,
        _ => head_len(record),
    }
}

/// Reads a body of any version that this binary knows, with its entry of the audit log.
pub(crate) fn decode(version: u8, body: &[u8]) -> Result<(AdminRecord, Option<Box<Entry>>), BodyError> {
    if version != VERSION {
        return Err(BodyError("its version is not known"));
    }
    let mut reader = Reader::new(body);
    let record = reader.head()?;
    let entry = audit::take_entry(reader)?;
    if is_bounded(&record) { Ok((record, entry)) } else { Err(BodyError("a connector in it is too long")) }
}

fn is_bounded(record: &AdminRecord) -> bool {
    match record {
        AdminRecord::ConnectorSet(connector) => connector.is_bounded(),
        _ => true,
    }
}
