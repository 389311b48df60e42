//! Keys in words, for errors.

use std::fmt;

use super::{Item, Key};
use ironloom_types::ids::{Digest, TenantId};

impl fmt::Display for Key {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Some(item) = self.parse() else {
            return write!(f, "unknown key {}", self.0.escape_ascii());
        };
        f.write_str(item.kind().words())?;
        match &item {
            Item::Format | Item::Epoch | Item::Folded | Item::Log | Item::Tenant(_) => {}
            Item::PointPage(page) | Item::LatestPage(page) | Item::AlarmNews(page) => write!(f, " {page}")?,
            Item::Installation(_, name)
            | Item::Driven(_, name)
            | Item::AppOwner(_, name)
            | Item::Consent(_, name)
            | Item::Receipt(name)
            | Item::Stream(name)
            | Item::Connector(name)
            | Item::Catalog(name)
            | Item::Token(name) => write!(f, " {name}")?,
            Item::Revision(_, installation, revision) => {
                write!(f, " {revision} of installation {installation}")?
            }
            Item::Intent(generation, ordinal, index) => {
                write!(f, " {index} of invocation {ordinal} of generation {generation}")?;
            }
            Item::Idempotency(hash) => write!(f, " {}", Digest(*hash).hex())?,
            Item::Block(_, first) => write!(f, " from sequence {first}")?,
            Item::Package(digest) | Item::Holding(_, digest) => write!(f, " {digest}")?,
            Item::Lane(generation) => write!(f, " {generation}")?,
            Item::State(generation, key) => write!(f, " {key:?} of generation {generation}")?,
            Item::Timer(generation, name) => write!(f, " {name:?} of generation {generation}")?,
            Item::Alarm(generation, code, entity) => {
                write!(f, " {code} of {entity:?} of generation {generation}")?;
            }
            Item::DeadLetter(generation, number) => write!(f, " {number} of generation {generation}")?,
            Item::PastRevision(generation, revision) => write!(f, " {revision} of generation {generation}")?,
            Item::Invocation(generation, ordinal, attempt) => {
                write!(f, " {ordinal} of generation {generation}, attempt {attempt}")?;
            }
            Item::AuditEntry(chain, number) | Item::AuditCheckpoint(chain, number) => {
                write!(f, " {number} of chain {chain}")?;
            }
            Item::Episode(generation, since, number) | Item::EpisodeTime(since, generation, number) => {
                write!(f, " {number} of generation {generation}, since {since}")?;
            }
        }
        match item.tenant() {
            TenantId::NOBODY => Ok(()),
            tenant => write!(f, " (tenant {tenant})"),
        }
    }
}

impl fmt::Debug for Key {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}
