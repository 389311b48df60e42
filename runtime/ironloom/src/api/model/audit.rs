//! The audit log, as it is listed and exported.

use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

use ironloom_trust::audit::{Chain, Entry, Outcome, Said};
use ironloom_types::clock::Timestamp;
use ironloom_types::ids::{Digest, TenantId};

/// An entry of the audit log.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub(crate) struct AuditEntry {
    /// `platform`, or of a tenant `tenant-1` and `set-points-1`.
    #[schema(example = "tenant-1")]
    pub chain: String,
    /// Counts the entries of the chain, from 1.
    pub number: u64,
    pub time: Timestamp,
    /// The name of a token; `-local` a program of the server's machine that needs none, `-host` the server itself, `-`
    /// somebody without a valid token, `app:` and an id an installation.
    #[schema(example = "anna")]
    pub who: String,
    /// The role of that token; empty where there is none.
    pub role: String,
    /// The operation, as this description names it; `requestSetPoints` and the like for what isn't one.
    #[schema(example = "pause")]
    pub action: String,
    #[schema(example = "installations/pigs")]
    pub resource: String,
    /// `done`, `refused` or `failed`.
    pub result: String,
    /// The kind of the problem; empty where it was done.
    pub problem: String,
    pub detail: String,
    /// Of the request's body; of an entry of set-points, of all that `detail` is the beginning of.
    pub digest: Option<Digest>,
    /// The hash of the entry before; of the first one, zeros.
    pub previous: Digest,
    pub hash: Digest,
}

impl AuditEntry {
    pub(crate) fn of(entry: Entry, hash: Digest) -> Self {
        let Entry { number, time, previous, said } = entry;
        let Said { chain, who, role, action, resource, outcome, problem, detail, digest } = said;
        Self {
            chain: chain.to_string(),
            number,
            time,
            who: who.into(),
            role: role.into(),
            action: action.into(),
            resource: resource.into(),
            result: outcome.name().to_owned(),
            problem: problem.into(),
            detail: detail.into(),
            digest,
            previous,
            hash,
        }
    }

    /// The entry as its hash is made of it.
    pub(crate) fn entry(&self) -> Result<Entry, String> {
        let said = Said {
            chain: self.chain.parse()?,
            who: self.who.as_str().into(),
            role: self.role.as_str().into(),
            action: self.action.as_str().into(),
            resource: self.resource.as_str().into(),
            outcome: self.result.parse()?,
            problem: self.problem.as_str().into(),
            detail: self.detail.as_str().into(),
            digest: self.digest,
        };
        Ok(Entry { number: self.number, time: self.time, previous: self.previous, said })
    }
}

/// A signed checkpoint of a chain.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub(crate) struct AuditCheckpoint {
    /// The chain of the entry that it is about.
    #[schema(example = "tenant-1")]
    pub chain: String,
    /// The number of the entry that it is about: so many there were.
    pub number: u64,
    /// The time when it was signed.
    pub time: Timestamp,
    /// The key that signed it.
    #[schema(example = "ed25519:_FHNjmIYoaONpH7QAjDwWAgW7RO6MwOsXeuRFUiQgCU")]
    pub key: String,
    /// A DSSE envelope in JSON.
    pub envelope: String,
}

/// The part of the audit log to list.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct AuditQuery {
    pub chain: Option<Chain>,
    pub who: Option<String>,
    pub action: Option<String>,
    /// The beginning of a resource.
    pub resource: Option<String>,
    pub result: Option<Outcome>,
    pub from: Option<Timestamp>,
    pub to: Option<Timestamp>,
    pub order: crate::api::facade::Order,
    pub page: crate::api::facade::PageQuery,
}

/// The chains of the audit log that somebody may read.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Chains {
    pub tenant: TenantId,
    /// Those of all tenants.
    pub all: bool,
}

impl Chains {
    pub(crate) fn have(self, chain: Chain) -> bool {
        self.all
            || match chain {
                Chain::Platform => self.tenant == TenantId::MAIN,
                Chain::Tenant(tenant) | Chain::SetPoints(tenant) => tenant == self.tenant,
            }
    }
}
