//! What an installation is, as the log and the store keep it.

use std::collections::BTreeMap;
use std::sync::Arc;

use jiff::tz::TimeZone;
use serde::{Deserialize, Serialize};

use ironloom_apps::binding::Bindings;
use ironloom_apps::grants::Grants;
use ironloom_trust::key::PublicKey;
use ironloom_types::clock::Timestamp;
use ironloom_types::ids::{self, AppId, Digest, Generation, InstallationId, Sequence};
use ironloom_types::limits::Limits;

/// An app installed for a tenant.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub(crate) struct Installation {
    /// Its id, unique in the tenant.
    pub id: InstallationId,
    /// Under which its state is kept.
    pub generation: Generation,
    /// The number that it was given when it began: that of its generation, or a later one where it has adopted that.
    pub begun: Generation,
    pub app: AppId,
    /// The app's version.
    pub version: String,
    /// The package of its newest revision.
    pub package: Digest,
    /// Whether its lane runs.
    pub standing: Standing,
    /// Its newest revision.
    pub revision: ids::Revision,
    /// Set after an upgrade, for as long as it may be rolled back.
    pub trial: Option<Trial>,
    /// Set after a rollback, until it has another revision.
    pub went_back: Option<Box<WentBack>>,
    /// The key that the app's id belonged to when its package was chosen; none while only unsigned ones were installed. Its state
    /// doesn't go over to anybody else, whatever becomes of the package and its signatures.
    pub publisher: Option<PublicKey>,
}

/// An upgrade that nobody has committed yet: the copy of before stays.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Trial {
    /// The copy that a rollback goes back to.
    pub copy: Generation,
    /// The time, by the machine's clock, at which the host commits it.
    pub until: Timestamp,
}

/// A rollback, as people are told of it afterwards.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct WentBack {
    /// The time, by the machine's clock.
    pub at: Timestamp,
    /// The version that it went back from.
    pub from: String,
    /// The host's reason, where it was not a person's wish.
    pub reason: Option<Box<str>>,
}

/// Whether an admin lets an installation's lane run. That one is quarantined stands in its
/// [`LaneMeta`](super::lane::LaneMeta). New variants go to the end: their order is part of the log's format.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) enum Standing {
    /// It runs, or waits for readings or in back-off.
    Running,
    /// An admin has paused it.
    Paused,
}

/// Package, bindings, grants, settings and limits of an installation from a sequence on. Readings before that run under
/// the revision before.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub(crate) struct Revision {
    pub number: ids::Revision,
    /// [`Installation::begun`] of the one that it belongs to: others had the same id before, and perhaps the same
    /// generation.
    pub begun: Generation,
    /// The first sequence that runs under it.
    pub from: Sequence,
    pub package: Digest,
    /// What its inputs take and its outputs write.
    pub bindings: Arc<Bindings>,
    /// The admin's grants to its set-point outputs.
    pub grants: Grants,
    /// All settings, defaults included, each as the text that the app gets.
    pub settings: Arc<BTreeMap<String, String>>,
    /// The limits that hold.
    pub limits: Limits,
    /// The time zone of its timers, by its IANA name.
    pub timezone: String,
    /// Whether the sources are slowed where it falls behind.
    pub keep_up: bool,
}

impl Revision {
    /// The time zone of its timers. The name was checked when the revision was made; should this
    /// binary's database lack it all the same, UTC.
    pub(crate) fn zone(&self) -> TimeZone {
        TimeZone::get(&self.timezone).unwrap_or(TimeZone::UTC)
    }
}
