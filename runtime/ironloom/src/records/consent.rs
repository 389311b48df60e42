//! Upgrades that wait for somebody's consent: the form that log and store share.

use std::fmt;

use serde::{Deserialize, Serialize};

use ironloom_trust::key::PublicKey;
use ironloom_types::clock::Timestamp;
use ironloom_types::ids::{AppId, Digest, InstallationId};

/// The most upgrades that wait.
pub(crate) const MOST_CONSENTS: usize = 10_000;
/// The longest change that waits, in bytes.
pub(crate) const MOST_REQUEST: usize = 64 << 10;

/// An upgrade that would give an installation more than it has.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct ConsentRecord {
    /// The installation. One upgrade of each waits: another one takes its place.
    pub id: InstallationId,
    /// The change that was asked for, as JSON.
    pub request: Box<str>,
    /// The package that it is to have.
    pub package: Digest,
    /// The version of it, and the one that ran when it was asked for.
    pub version: Box<str>,
    pub before: Box<str>,
    /// Rights beyond those that it has, a sentence each.
    pub wider: Vec<Box<str>>,
    /// Names all that it would get.
    pub consent: Digest,
    /// The time, by the machine's clock.
    pub asked: Timestamp,
    pub app: AppId,
    /// The key that the app's id belongs to.
    pub publisher: Option<PublicKey>,
}

impl fmt::Display for ConsentRecord {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "version {} of installation {} waits for consent", self.version, self.id)
    }
}
