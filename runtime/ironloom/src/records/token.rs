//! Tokens of people and machines: the form that log and store share.

use std::fmt;

use serde::{Deserialize, Serialize};

use crate::access::{Role, TokenHash, TokenName};
use ironloom_types::clock::Timestamp;
use ironloom_types::ids::TenantId;

/// The most tokens at a time.
pub(crate) const MOST_TOKENS: usize = 10_000;

/// A token, without the token.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct TokenRecord {
    pub name: TokenName,
    pub role: Role,
    /// The tenant whose data it may touch.
    pub tenant: TenantId,
    pub hash: TokenHash,
    /// The time when it was made, by the machine's clock.
    pub made: Timestamp,
    /// Whoever made it.
    pub made_by: Box<str>,
    /// The time at which it expires, by the machine's clock.
    pub expires: Option<Timestamp>,
}

/// A change of the tokens.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) enum TokenChange {
    /// One is made, in the place of an earlier one of its name.
    Made(Box<TokenRecord>),
    Removed(TokenName),
}

impl fmt::Display for TokenChange {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Made(token) => {
                write!(
                    f,
                    "the token {} with the role {} was made by {}",
                    token.name, token.role, token.made_by
                )
            }
            Self::Removed(name) => write!(f, "the token {name} was taken back"),
        }
    }
}
