//! The keys of the store: the only place that builds or reads them.
//!
//! A key is fixed-width big-endian numbers, so that the order of the bytes is the order of the numbers:
//! kind u8, tenant u32, stream u32, generation u64 (0 where the kind has none). After them comes what
//! names the item within its kind: numbers, and at most one variable part, last and raw. Where there are
//! two variable parts, or a number comes after one, the first is escaped: a zero byte in it becomes
//! `00 ff`, and `00 00` ends it, which keeps the order.
//!
//! The kind comes first, so that a start reads all of a kind in one go, whoever has how many tenants. No key can be built
//! without saying whose it is: an item names its tenant, or a generation, which has one. The few kinds that are of the node
//! stand under the tenant 0.

mod kind;
mod parts;
mod range;
mod words;

use bytes::Bytes;

pub use self::kind::KeyKind;
use self::parts::{number, numbers, read_escaped, text, write_escaped};
pub use self::range::KeyRange;
use ironloom_types::clock::Timestamp;
use ironloom_types::ids::{
    Digest, Generation, InstallationId, Ordinal, PointPath, Revision, Sequence, StreamId, TenantId,
};

/// Bytes before what names the item within its kind.
const HEAD: usize = 1 + 4 + 4 + 8;

/// The item that a key names.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Item<'a> {
    /// The format number of the store.
    Format,
    /// The fencing epoch.
    Epoch,
    /// The fold position.
    Folded,
    /// The log that the store belongs to.
    Log,
    /// A page of points, by number.
    PointPage(u32),
    /// A page of latest values, by number.
    LatestPage(u32),
    /// An installation, by id.
    Installation(TenantId, &'a str),
    /// A revision of an installation.
    Revision(TenantId, std::borrow::Cow<'a, str>, Revision),
    /// The receipt of a connector, by name.
    Receipt(&'a str),
    /// An idempotency key, by its hash.
    Idempotency([u8; 32]),
    /// The header of a journal block, by its first sequence.
    Block(TenantId, Sequence),
    /// A package, by digest.
    Package(Digest),
    /// The progress of a stream of readings, by its key.
    Stream(&'a str),
    /// The lane of a generation.
    Lane(Generation),
    /// A value of an app's state.
    State(Generation, &'a str),
    /// A one-shot timer, by name.
    Timer(Generation, &'a str),
    /// A standing alarm, by code and entity.
    Alarm(Generation, std::borrow::Cow<'a, str>, &'a str),
    /// A dead letter, by number.
    DeadLetter(Generation, u64),
    /// The summary of an invocation, by ordinal and attempt.
    Invocation(Generation, Ordinal, u32),
    /// An episode of an alarm, by its time and number.
    Episode(Generation, Timestamp, u64),
    /// A revision under which nothing runs any more.
    PastRevision(Generation, Revision),
    /// That there is an episode: time, generation and number.
    EpisodeTime(Timestamp, Generation, u64),
    /// A point that set-points go to, by its path.
    Driven(TenantId, &'a str),
    /// A change of an alarm, by its place in a ring.
    AlarmNews(u32),
    /// A connector that people added or stopped, by name.
    Connector(&'a str),
    /// Whose an app id is, by that id.
    AppOwner(TenantId, &'a str),
    /// A catalog that people added, by name.
    Catalog(&'a str),
    /// That a tenant has a package.
    Holding(TenantId, Digest),
    /// A tenant that was added.
    Tenant(TenantId),
    /// A token of a person or a machine, by name.
    Token(&'a str),
    /// An upgrade that waits for consent, by the id of its installation.
    Consent(TenantId, &'a str),
    /// An entry of the audit log, by the number of its chain and its own.
    AuditEntry(u64, u64),
    /// A checkpoint of the audit log, by the number of its chain and that of its entry.
    AuditCheckpoint(u64, u64),
    /// An intent without an outcome, by ordinal and index.
    Intent(Generation, Ordinal, u32),
}

impl<'a> Item<'a> {
    pub fn kind(&self) -> KeyKind {
        match self {
            Self::Format => KeyKind::Format,
            Self::Epoch => KeyKind::Epoch,
            Self::Folded => KeyKind::Folded,
            Self::Log => KeyKind::Log,
            Self::PointPage(_) => KeyKind::PointPage,
            Self::LatestPage(_) => KeyKind::LatestPage,
            Self::Installation(..) => KeyKind::Installation,
            Self::Revision(..) => KeyKind::Revision,
            Self::Receipt(_) => KeyKind::Receipt,
            Self::Idempotency(_) => KeyKind::Idempotency,
            Self::Block(..) => KeyKind::Block,
            Self::Package(_) => KeyKind::Package,
            Self::Stream(_) => KeyKind::Stream,
            Self::Lane(_) => KeyKind::Lane,
            Self::State(..) => KeyKind::State,
            Self::Timer(..) => KeyKind::Timer,
            Self::Alarm(..) => KeyKind::Alarm,
            Self::DeadLetter(..) => KeyKind::DeadLetter,
            Self::Invocation(..) => KeyKind::Invocation,
            Self::Episode(..) => KeyKind::Episode,
            Self::PastRevision(..) => KeyKind::PastRevision,
            Self::EpisodeTime(..) => KeyKind::EpisodeTime,
            Self::Driven(..) => KeyKind::Driven,
            Self::AlarmNews(_) => KeyKind::AlarmNews,
            Self::Connector(_) => KeyKind::Connector,
            Self::AppOwner(..) => KeyKind::AppOwner,
            Self::Catalog(_) => KeyKind::Catalog,
            Self::Holding(..) => KeyKind::Holding,
            Self::Tenant(_) => KeyKind::Tenant,
            Self::Token(_) => KeyKind::Token,
            Self::Consent(..) => KeyKind::Consent,
            Self::AuditEntry(..) => KeyKind::AuditEntry,
            Self::AuditCheckpoint(..) => KeyKind::AuditCheckpoint,
            Self::Intent(..) => KeyKind::Intent,
        }
    }

    /// Whose it is; nobody's is the node's.
    pub fn tenant(&self) -> TenantId {
        match self {
            Self::Installation(tenant, _)
            | Self::Driven(tenant, _)
            | Self::AppOwner(tenant, _)
            | Self::Consent(tenant, _)
            | Self::Revision(tenant, ..)
            | Self::Block(tenant, _)
            | Self::Holding(tenant, _)
            | Self::Tenant(tenant) => *tenant,
            Self::EpisodeTime(_, generation, _) => generation.tenant(),
            _ => self.generation().map_or(TenantId::NOBODY, Generation::tenant),
        }
    }

    /// The key under which it stands, with whose it is.
    pub fn key(&self) -> Key {
        let mut bytes = head(self.kind(), self.tenant(), self.generation().unwrap_or_default());
        self.write_name(&mut bytes);
        Key(bytes.into())
    }

    fn generation(&self) -> Option<Generation> {
        match self {
            Self::Lane(generation)
            | Self::State(generation, _)
            | Self::Timer(generation, _)
            | Self::Alarm(generation, ..)
            | Self::DeadLetter(generation, _)
            | Self::Invocation(generation, ..)
            | Self::Episode(generation, ..)
            | Self::PastRevision(generation, _)
            | Self::Intent(generation, ..) => Some(*generation),
            _ => None,
        }
    }

    fn write_name(&self, bytes: &mut Vec<u8>) {
        match self {
            Self::Format | Self::Epoch | Self::Folded | Self::Log | Self::Lane(_) | Self::Tenant(_) => {}
            Self::PointPage(page) | Self::LatestPage(page) | Self::AlarmNews(page) => {
                bytes.extend_from_slice(&page.to_be_bytes())
            }
            Self::Installation(_, name)
            | Self::Driven(_, name)
            | Self::AppOwner(_, name)
            | Self::Consent(_, name)
            | Self::Receipt(name)
            | Self::Stream(name)
            | Self::Connector(name)
            | Self::Catalog(name)
            | Self::Token(name)
            | Self::State(_, name)
            | Self::Timer(_, name) => bytes.extend_from_slice(name.as_bytes()),
            Self::Revision(_, installation, revision) => {
                write_escaped(bytes, installation.as_bytes());
                bytes.extend_from_slice(&revision.0.to_be_bytes());
            }
            Self::Idempotency(hash) | Self::Package(Digest(hash)) | Self::Holding(_, Digest(hash)) => {
                bytes.extend_from_slice(hash);
            }
            Self::Block(_, first) => bytes.extend_from_slice(&first.0.to_be_bytes()),
            Self::Alarm(_, code, entity) => {
                write_escaped(bytes, code.as_bytes());
                bytes.extend_from_slice(entity.as_bytes());
            }
            Self::DeadLetter(_, number) => bytes.extend_from_slice(&number.to_be_bytes()),
            Self::Invocation(_, ordinal, number) | Self::Intent(_, ordinal, number) => {
                bytes.extend_from_slice(&ordinal.0.to_be_bytes());
                bytes.extend_from_slice(&number.to_be_bytes());
            }
            Self::Episode(_, since, number) => {
                bytes.extend_from_slice(&since.0.to_be_bytes());
                bytes.extend_from_slice(&number.to_be_bytes());
            }
            Self::PastRevision(_, revision) => bytes.extend_from_slice(&revision.0.to_be_bytes()),
            Self::AuditEntry(chain, number) | Self::AuditCheckpoint(chain, number) => {
                bytes.extend_from_slice(&chain.to_be_bytes());
                bytes.extend_from_slice(&number.to_be_bytes());
            }
            Self::EpisodeTime(since, generation, number) => {
                for part in [since.0, generation.0, *number] {
                    bytes.extend_from_slice(&part.to_be_bytes());
                }
            }
        }
    }

    fn read(kind: KeyKind, tenant: TenantId, generation: Generation, name: &'a [u8]) -> Option<Self> {
        let item = match kind {
            KeyKind::Format => Self::Format,
            KeyKind::Epoch => Self::Epoch,
            KeyKind::Folded => Self::Folded,
            KeyKind::Log => Self::Log,
            KeyKind::PointPage => Self::PointPage(number(name)?),
            KeyKind::LatestPage => Self::LatestPage(number(name)?),
            KeyKind::Installation => Self::Installation(tenant, text(name)?),
            KeyKind::Revision => {
                let (installation, number) = read_escaped(name)?;
                Self::Revision(tenant, installation, Revision(parts::number(number)?))
            }
            KeyKind::Receipt => Self::Receipt(text(name)?),
            KeyKind::Idempotency => Self::Idempotency(name.try_into().ok()?),
            KeyKind::Block => Self::Block(tenant, Sequence(u64::from_be_bytes(name.try_into().ok()?))),
            KeyKind::Package => Self::Package(Digest(name.try_into().ok()?)),
            KeyKind::Stream => Self::Stream(text(name)?),
            KeyKind::Lane => Self::Lane(generation),
            KeyKind::State => Self::State(generation, text(name)?),
            KeyKind::Timer => Self::Timer(generation, text(name)?),
            KeyKind::Alarm => {
                let (code, entity) = read_escaped(name)?;
                Self::Alarm(generation, code, text(entity)?)
            }
            KeyKind::DeadLetter => Self::DeadLetter(generation, u64::from_be_bytes(name.try_into().ok()?)),
            KeyKind::Invocation => {
                let (ordinal, attempt) = name.split_first_chunk::<8>()?;
                Self::Invocation(generation, Ordinal(u64::from_be_bytes(*ordinal)), number(attempt)?)
            }
            KeyKind::Driven => Self::Driven(tenant, text(name)?),
            KeyKind::AlarmNews => Self::AlarmNews(number(name)?),
            KeyKind::Connector => Self::Connector(text(name)?),
            KeyKind::AppOwner => Self::AppOwner(tenant, text(name)?),
            KeyKind::Catalog => Self::Catalog(text(name)?),
            KeyKind::Holding => Self::Holding(tenant, Digest(name.try_into().ok()?)),
            KeyKind::Tenant => Self::Tenant(tenant),
            KeyKind::Token => Self::Token(text(name)?),
            KeyKind::Consent => Self::Consent(tenant, text(name)?),
            KeyKind::Intent => {
                let (ordinal, index) = name.split_first_chunk::<8>()?;
                Self::Intent(generation, Ordinal(u64::from_be_bytes(*ordinal)), number(index)?)
            }
            KeyKind::Episode => {
                let [since, count] = numbers(name)?;
                Self::Episode(generation, Timestamp(since), count)
            }
            KeyKind::AuditEntry => numbers(name).map(|[chain, number]| Self::AuditEntry(chain, number))?,
            KeyKind::AuditCheckpoint => {
                numbers(name).map(|[chain, number]| Self::AuditCheckpoint(chain, number))?
            }
            KeyKind::PastRevision => Self::PastRevision(generation, Revision(number(name)?)),
            KeyKind::EpisodeTime => {
                let [since, of, number] = numbers(name)?;
                Self::EpisodeTime(Timestamp(since), Generation(of), number)
            }
        };
        // What has no name of its own, or no generation, has nothing there either.
        use KeyKind::{Epoch, Folded, Format, Lane, Log, Tenant};
        let named = !matches!(kind, Format | Epoch | Folded | Log | Lane | Tenant);
        let is_whose = item.tenant() == tenant && item.generation().unwrap_or_default() == generation;
        let well_formed = (named || name.is_empty()) && is_whose;
        well_formed.then_some(item)
    }
}

fn head(kind: KeyKind, tenant: TenantId, generation: Generation) -> Vec<u8> {
    let mut bytes = Vec::with_capacity(HEAD + 32);
    bytes.push(kind as u8);
    bytes.extend_from_slice(&tenant.0.to_be_bytes());
    bytes.extend_from_slice(&StreamId::MAIN.0.to_be_bytes());
    bytes.extend_from_slice(&generation.0.to_be_bytes());
    bytes
}

/// A key of the store.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Key(Bytes);

impl Key {
    /// The key of the format number.
    pub fn format() -> Self {
        Item::Format.key()
    }

    /// The key of the fencing epoch, which the store itself reads and writes.
    pub fn epoch() -> Self {
        Item::Epoch.key()
    }

    /// The key of the fold position.
    pub fn folded() -> Self {
        Item::Folded.key()
    }

    /// The key of the log that the store belongs to.
    pub fn log() -> Self {
        Item::Log.key()
    }

    /// The key of an installation.
    pub fn installation(id: &InstallationId) -> Self {
        Item::Installation(id.tenant(), id.as_str()).key()
    }

    /// The key of an upgrade of an installation that waits for consent.
    pub fn consent(id: &InstallationId) -> Self {
        Item::Consent(id.tenant(), id.as_str()).key()
    }

    /// The key of a point that set-points go to.
    pub fn driven(path: &PointPath) -> Self {
        Item::Driven(path.tenant(), path.as_str()).key()
    }

    /// The bytes, in whose order keys stand.
    pub fn as_bytes(&self) -> &[u8] {
        &self.0
    }

    /// Returns the item that this key names; `None` for bytes that no version of this code makes.
    pub fn parse(&self) -> Option<Item<'_>> {
        let (&kind, rest) = self.0.split_first()?;
        let (tenant, rest) = rest.split_first_chunk::<4>()?;
        let (stream, rest) = rest.split_first_chunk::<4>()?;
        let (generation, name) = rest.split_first_chunk::<8>()?;
        if StreamId(u32::from_be_bytes(*stream)) != StreamId::MAIN {
            return None;
        }
        let tenant = TenantId(u32::from_be_bytes(*tenant));
        let generation = Generation(u64::from_be_bytes(*generation));
        Item::read(KeyKind::from_number(kind)?, tenant, generation, name)
    }

    /// The text of the key of a value of state, without looking at the rest.
    pub fn state_text(&self) -> Option<&str> {
        match self.parse() {
            Some(Item::State(_, key)) => Some(key),
            _ => None,
        }
    }

    /// A key from outside of a store, such as a backup's; `None` for bytes that no version of this code makes.
    pub fn read(bytes: &[u8]) -> Option<Self> {
        let key = Self::from_stored(bytes);
        key.parse().is_some().then_some(key)
    }

    /// A key as it was read from the store.
    pub(super) fn from_stored(bytes: &[u8]) -> Self {
        Self(Bytes::copy_from_slice(bytes))
    }

    /// The key of one part of a value that an engine keeps in parts. These stand behind all others, under
    /// a number that no kind has. The part's number has a fixed width, so no two are the same.
    pub(super) fn part(&self, number: u16) -> Vec<u8> {
        let mut bytes = Vec::with_capacity(self.0.len() + 7);
        bytes.extend_from_slice(&PARTS);
        bytes.push(1);
        bytes.extend_from_slice(&self.0);
        bytes.extend_from_slice(&number.to_be_bytes());
        bytes
    }

    /// The key that says of this one that its value is kept in parts.
    pub(super) fn in_parts(&self) -> Vec<u8> {
        [&IN_PARTS[..], &self.0].concat()
    }

    /// The key of which such a key says it.
    pub(super) fn of_in_parts(bytes: &[u8]) -> Option<Self> {
        bytes.strip_prefix(&IN_PARTS).map(Self::from_stored)
    }
}

/// Where the keys begin that an engine needs for values in parts.
pub(super) const PARTS: [u8; 4] = [0xff; 4];
/// Where those of them begin that name the keys of such values.
pub(super) const IN_PARTS: [u8; 5] = [0xff, 0xff, 0xff, 0xff, 0];

/// The order of keys is that of their bytes.
impl std::borrow::Borrow<[u8]> for Key {
    fn borrow(&self) -> &[u8] {
        &self.0
    }
}
