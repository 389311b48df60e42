//! Tenants: the form that log and store share.

use std::fmt;

use serde::{Deserialize, Serialize};

use ironloom_types::clock::Timestamp;
use ironloom_types::ids::{TenantId, TenantName};

/// The most tenants.
pub(crate) const MOST_TENANTS: usize = 100_000;

/// A tenant as somebody added it. Of `main` there is none.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct TenantRecord {
    /// Never given twice.
    pub number: TenantId,
    pub name: TenantName,
    pub quotas: Quotas,
    /// The time when it was added, by the machine's clock.
    pub since: Timestamp,
}

/// The most that a tenant may have of what all share.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Quotas {
    /// Points; the server's own bound where it isn't said.
    pub points: Option<u32>,
    pub installations: Option<u32>,
}

impl fmt::Display for TenantRecord {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let most = |most: Option<u32>| most.map_or_else(|| "any number".to_owned(), |most| most.to_string());
        let Self { name, quotas, .. } = self;
        let (installations, points) = (most(quotas.installations), most(quotas.points));
        write!(f, "tenant {name} may have {installations} of installations and {points} of points")
    }
}
