//! Tenants: enterprises that share the server.

use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

use ironloom_types::clock::Timestamp;
use ironloom_types::ids::TenantName;

/// Asks for a tenant.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub(crate) struct TenantRequest {
    /// One of this name that there is makes it 409.
    #[schema(value_type = String, example = "acme")]
    pub name: TenantName,
    #[serde(flatten)]
    pub quotas: TenantQuotas,
}

/// The most that a tenant may have of what all share. Without one, the server's own bounds hold.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub(crate) struct TenantQuotas {
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schema(example = 1000)]
    pub points: Option<u32>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schema(example = 20)]
    pub installations: Option<u32>,
}

/// A tenant with what it has, counted now.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub(crate) struct TenantInfo {
    #[schema(value_type = String)]
    pub name: TenantName,
    /// The time when it was added, by the machine's clock; of `main` there is none.
    pub since: Option<Timestamp>,
    pub quotas: TenantQuotas,
    pub installations: u64,
    pub points: u64,
}
