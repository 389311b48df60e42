//! Tokens of people and machines.

use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

use crate::access::{Role, TokenName};
use ironloom_apps::quantity::Span;
use ironloom_types::clock::Timestamp;
use ironloom_types::ids::TenantName;

/// Asks for a token.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub(crate) struct TokenRequest {
    /// Whose or what for it is: 63 of a to z, digits and `-._@`. One of this name that there is makes it 409.
    #[schema(value_type = String, example = "anna")]
    pub name: TokenName,
    pub role: Role,
    /// The tenant whose data it is for; without it `main`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schema(value_type = Option<String>)]
    pub tenant: Option<TenantName>,
    /// The time at which it expires; this or `for`, or neither for one that doesn't expire.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub until: Option<Timestamp>,
    #[serde(rename = "for", default, skip_serializing_if = "Option::is_none")]
    pub span: Option<Span>,
}

/// A token, without the token.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub(crate) struct TokenInfo {
    #[schema(value_type = String)]
    pub name: TokenName,
    pub role: Role,
    /// The tenant whose data it is for.
    pub tenant: String,
    /// The time when it was made, by the machine's clock.
    pub made: Timestamp,
    /// Whose token made it; `-local` is a program of this machine that needs none, `-host` the server itself.
    pub made_by: String,
    /// The time at which it expires.
    pub expires: Option<Timestamp>,
    pub expired: bool,
}

/// A token that was just made.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub(crate) struct NewToken {
    /// The token itself. The server keeps only its hash.
    #[schema(example = "ilm_")]
    pub token: String,
    #[serde(flatten)]
    pub info: TokenInfo,
}

/// Who sends a request.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub(crate) struct Identity {
    #[schema(value_type = Option<String>)]
    pub name: Option<TokenName>,
    /// All may be done where there is none.
    pub role: Option<Role>,
    /// The tenant whose data it is about.
    pub tenant: String,
    pub expires: Option<Timestamp>,
}
