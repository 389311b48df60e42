//! Whose an app id is: the form that log and store share.

use serde::{Deserialize, Serialize};

use ironloom_trust::key::PublicKey;
use ironloom_types::clock::Timestamp;
use ironloom_types::ids::{AppId, CatalogNumber, TenantId};

/// The most app ids that belong to somebody.
pub(crate) const MOST_OWNERS: usize = 100_000;

/// That an app id belongs to somebody in a tenant, since the first install of it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct AppOwner {
    pub tenant: TenantId,
    pub app: AppId,
    /// The key that must have signed each further package; `None` as long as only unsigned ones were installed.
    pub key: Option<PublicKey>,
    /// The catalog by whose word it is that key's: no other has a say in it.
    pub catalog: Option<CatalogNumber>,
    /// The time of the install that says so, by the machine's clock.
    pub since: Timestamp,
}
