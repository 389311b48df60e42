//! The audit log: chains of entries, each of which has the hash of the one before, and signed checkpoints of them.
//!
//! The bytes of an entry that are hashed are fixed here and described in `docs/src/admin/audit.md`, so that anybody can
//! check a chain without this code.

mod checkpoint;
mod verify;

use std::collections::BTreeMap;
use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Serialize};

pub use self::checkpoint::{Checkpoint, CheckpointError};
pub use self::verify::{Fault, Span, Verified, Verifier};
use ironloom_types::clock::Timestamp;
use ironloom_types::ids::{Digest, TenantId};

/// Stands before the bytes of an entry, so that its hash is that of nothing else.
const DOMAIN: &[u8] = b"ironloom audit entry v1\n";
/// The longest resource, and the longest detail, in bytes.
pub const MAX_RESOURCE: usize = 512;
pub const MAX_DETAIL: usize = 1_024;
/// The longest of the other texts.
const MAX_WORD: usize = 128;

/// A chain of entries. New ones go to the end: their order is the format.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub enum Chain {
    /// Of the server itself.
    Platform,
    /// Of a tenant: what people did.
    Tenant(TenantId),
    /// Of a tenant: the set-points that its apps asked for, and what became of them. Apart, since an app may ask for
    /// many, and what people did must not go for them.
    SetPoints(TenantId),
}

impl Chain {
    /// A number for keys: in the order of the chains, and never another one.
    pub fn number(self) -> u64 {
        match self {
            Self::Platform => 0,
            Self::Tenant(TenantId(tenant)) => 1 << 32 | u64::from(tenant),
            Self::SetPoints(TenantId(tenant)) => 2 << 32 | u64::from(tenant),
        }
    }
}

impl fmt::Display for Chain {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Platform => f.write_str("platform"),
            Self::Tenant(tenant) => write!(f, "tenant-{}", tenant.0),
            Self::SetPoints(tenant) => write!(f, "set-points-{}", tenant.0),
        }
    }
}

impl FromStr for Chain {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let tenant = |prefix: &str| {
            let digits = text.strip_prefix(prefix)?;
            let tenant = digits.parse::<u32>().ok().map(TenantId)?;
            // One name for each.
            (tenant.0.to_string() == digits).then_some(tenant)
        };
        if text == "platform" {
            return Ok(Self::Platform);
        }
        let found = tenant("tenant-").map(Self::Tenant);
        found
            .or_else(|| tenant("set-points-").map(Self::SetPoints))
            .ok_or_else(|| format!("{text:?} is not a chain; write platform, tenant-1 or set-points-1"))
    }
}

/// The result of a deed. New ones go to the end: their order is the format.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Outcome {
    Done,
    /// Nothing happened: it wasn't allowed, or not possible.
    Refused,
    /// The server failed at it. What of it happened is said by entries before, if any.
    Failed,
}

impl Outcome {
    pub const ALL: [Self; 3] = [Self::Done, Self::Refused, Self::Failed];

    pub fn name(self) -> &'static str {
        match self {
            Self::Done => "done",
            Self::Refused => "refused",
            Self::Failed => "failed",
        }
    }
}

impl FromStr for Outcome {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let found = Self::ALL.into_iter().find(|one| one.name() == text);
        found.ok_or_else(|| format!("{text:?} is not a result; the results are done, refused and failed"))
    }
}

/// The words of an entry, before it has its place in its chain.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Said {
    pub chain: Chain,
    /// The name of a token; `-local` a program of the machine that needs none, `-host` the server itself, `-` whoever shows
    /// no valid token, `app:` and an id an installation.
    pub who: Box<str>,
    /// The role of that token; empty where there is none.
    pub role: Box<str>,
    /// The operation, as the API's description names it.
    pub action: Box<str>,
    /// The thing that it is about, such as `installations/pigs`.
    pub resource: Box<str>,
    pub outcome: Outcome,
    /// The kind of the problem, where it wasn't done.
    pub problem: Box<str>,
    /// Words for people.
    pub detail: Box<str>,
    /// Of the request's body, or of all that `detail` is the beginning of.
    pub digest: Option<Digest>,
}

impl Said {
    /// Something that was done, by somebody without a role, without a digest.
    pub fn done(chain: Chain, who: &str, action: &str, resource: String, detail: &str) -> Self {
        Self {
            chain,
            who: who.into(),
            role: "".into(),
            action: action.into(),
            resource: resource.into(),
            outcome: Outcome::Done,
            problem: "".into(),
            detail: detail.into(),
            digest: None,
        }
    }

    /// The same with texts that aren't too long.
    #[must_use]
    pub fn bounded(self) -> Self {
        Self {
            who: shortened(self.who, MAX_WORD),
            role: shortened(self.role, MAX_WORD),
            action: shortened(self.action, MAX_WORD),
            resource: shortened(self.resource, MAX_RESOURCE),
            problem: shortened(self.problem, MAX_WORD),
            detail: shortened(self.detail, MAX_DETAIL),
            ..self
        }
    }
}

fn shortened(text: Box<str>, most: usize) -> Box<str> {
    if text.len() <= most {
        return text;
    }
    let end = text.floor_char_boundary(most - '…'.len_utf8());
    format!("{}…", &text[..end]).into()
}

/// An entry in its place.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Entry {
    /// Counts the entries of its chain, from 1.
    pub number: u64,
    pub time: Timestamp,
    /// The hash of the entry before; of the first one, zeros.
    pub previous: Digest,
    pub said: Said,
}

impl Entry {
    /// At least the bytes that it takes in a record.
    pub const MAX_LEN: usize = 4 * (MAX_WORD + 2) + MAX_RESOURCE + MAX_DETAIL + 256;

    /// The bytes that are hashed: [`DOMAIN`], the hash before, number and time (big-endian), each text behind its length
    /// (four bytes, big-endian), and a byte that says whether a digest follows.
    fn canonical(&self) -> Vec<u8> {
        let Said { chain, who, role, action, resource, outcome, problem, detail, digest } = &self.said;
        let chain = chain.to_string();
        let texts = [&*chain, who, role, action, resource, outcome.name(), problem, detail];
        let mut out = Vec::with_capacity(256 + resource.len() + detail.len());
        out.extend_from_slice(DOMAIN);
        out.extend_from_slice(&self.previous.0);
        out.extend_from_slice(&self.number.to_be_bytes());
        out.extend_from_slice(&self.time.0.to_be_bytes());
        for text in texts {
            // Bounded far below; one from a file that isn't would have another hash than it says.
            out.extend_from_slice(&u32::try_from(text.len()).unwrap_or(u32::MAX).to_be_bytes());
            out.extend_from_slice(text.as_bytes());
        }
        match digest {
            None => out.push(0),
            Some(Digest(bytes)) => {
                out.push(1);
                out.extend_from_slice(bytes);
            }
        }
        out
    }

    pub fn hash(&self) -> Digest {
        Digest::of(&self.canonical())
    }
}

/// The end of a chain: the number and the hash of its last entry.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Head {
    pub number: u64,
    pub hash: Digest,
}

impl Head {
    /// Of a chain without entries.
    pub const NONE: Self = Self { number: 0, hash: Digest([0; 32]) };
}

/// The ends of all chains.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Heads(BTreeMap<Chain, Head>);

impl Heads {
    pub fn of(&self, chain: Chain) -> Head {
        self.0.get(&chain).copied().unwrap_or(Head::NONE)
    }

    pub fn set(&mut self, chain: Chain, head: Head) {
        self.0.insert(chain, head);
    }

    pub fn all(&self) -> impl Iterator<Item = (Chain, Head)> {
        self.0.iter().map(|(chain, head)| (*chain, *head))
    }

    /// Gives what is said its place at the end of its chain.
    pub fn append(&mut self, said: Said, time: Timestamp) -> Entry {
        let (chain, head) = (said.chain, self.of(said.chain));
        let entry = Entry { number: head.number + 1, time, previous: head.hash, said: said.bounded() };
        self.set(chain, Head { number: entry.number, hash: entry.hash() });
        entry
    }
}

#[cfg(test)]
mod tests;
