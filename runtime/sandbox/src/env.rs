//! What an invocation is given: facts that are recorded, what its revision declares, and the ways
//! to what is stored.

use std::collections::BTreeMap;
use std::fmt;
use std::pin::Pin;
use std::sync::Arc;

use bytes::Bytes;

use super::bindings::platform::ironloom::invocation::invocation::Gap;
use super::budget::{Meter, Overrun};
use super::interrupt::Interrupt;
use ironloom_types::clock::Timestamp;
use ironloom_types::ids::{PointNumber, SlotName};
use ironloom_types::limits::Limits;
use ironloom_types::readings::{NewPoint, Tag};

/// A future in a box, for traits that are used as objects.
pub type BoxFuture<'a, T> = Pin<Box<dyn Future<Output = T> + Send + 'a>>;

/// What the host knows of an app's revision; made once for each.
#[derive(Clone, Debug, Default)]
pub struct AppContext {
    /// The outputs, in the order of the manifest.
    pub outputs: Vec<OutputSlot>,
    /// The alarms that the manifest declares.
    pub alarms: Vec<SlotName>,
    /// The timers that the manifest declares: one-shot timers can't take their names.
    pub timers: Vec<SlotName>,
    /// The settings, as text.
    pub settings: BTreeMap<String, String>,
    /// What each invocation may use.
    pub limits: Limits,
}

/// An output, as the manifest declares it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct OutputSlot {
    /// What the manifest and the app call it.
    pub name: SlotName,
    /// What becomes of what the app gives it.
    pub kind: OutputKind,
    /// The type of its values.
    pub value_type: Tag,
}

/// What becomes of what an app gives to an output.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum OutputKind {
    /// It is a reading like any other.
    Derived,
    /// It goes to a machine.
    SetPoint,
}

/// What one invocation is given.
pub struct Env {
    /// Names the invocation.
    pub id: String,
    /// Its time, which stands still.
    pub now: Timestamp,
    /// The key of its random numbers.
    pub seed: [u8; 32],
    /// What was lost since the last invocation.
    pub gaps: Vec<Gap>,
    /// What its revision declares and allows.
    pub context: Arc<AppContext>,
    /// What the app has stored.
    pub state: Arc<dyn StateReader>,
    /// What it has stored, as [`state_cost`](ironloom_types::effects::state_cost) counts.
    pub state_bytes: u64,
    /// Where derived readings go.
    pub outputs: Arc<dyn OutputResolver>,
    /// The alarms and timers there are.
    pub standing: Arc<dyn Standing>,
    /// Ends it from outside.
    pub interrupt: Interrupt,
}

impl fmt::Debug for Env {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Env").field("id", &self.id).field("now", &self.now).finish_non_exhaustive()
    }
}

/// The host itself failed; the app is not to blame, and the invocation is run again.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{0}")]
pub struct HostFault(pub String);

/// What a look into the cache found.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Cached {
    /// The cache knows the key: its value, or that there is none.
    Known(Option<Bytes>),
    /// The cache doesn't know the key.
    Unknown,
}

/// Why state was not read.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum ReadError {
    /// The store can't be read.
    #[error(transparent)]
    Fault(#[from] HostFault),
    /// The invocation has used up its time.
    #[error(transparent)]
    Overrun(#[from] Overrun),
}

/// Reads an app's state as it stood before the invocation. What is read on other threads is charged to the
/// meter ([`Meter::aside`]); what takes long asks it whether to go on ([`Meter::breathe`]).
pub trait StateReader: Send + Sync {
    /// Looks into the cache alone. Called for each key, so it must be quick.
    fn cached(&self, key: &str) -> Cached;

    /// Loads what the cache didn't know, in the order of the keys; at most [`MAX_LOADED_KEYS`] of them.
    fn load<'a>(
        &'a self,
        keys: &'a [Box<str>],
        meter: &'a Meter,
    ) -> BoxFuture<'a, Result<Vec<Option<Bytes>>, ReadError>>;

    /// Lists keys and values. A page is full unless it is the last one, and says exactly whether more entries
    /// follow it: nothing of it may depend on where the entries lie.
    fn scan<'a>(&'a self, scan: Scan<'a>, meter: &'a Meter) -> BoxFuture<'a, Result<StatePage, ReadError>>;
}

/// How many keys a [`StateReader`] is asked for at once.
pub const MAX_LOADED_KEYS: usize = 1_000;

/// Which keys to list.
#[derive(Clone, Copy, Debug)]
pub struct Scan<'a> {
    /// Only keys that start with this.
    pub prefix: &'a str,
    /// Only keys after this one, where there is one.
    pub after: Option<&'a str>,
    /// At most so many; at least 1.
    pub limit: usize,
    /// No more once keys and values together have so many bytes, but at least one.
    pub max_bytes: usize,
}

/// Part of a list of keys and values.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct StatePage {
    /// In the order of the keys' bytes.
    pub entries: Vec<(Box<str>, Bytes)>,
    /// Whether more come after the last of them.
    pub more: bool,
}

/// Where a derived reading goes.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Target {
    /// To a point that there is.
    Known(PointNumber),
    /// To one that this reading makes.
    New(NewPoint),
}

/// The binding has no place for an entity; says why, for people.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{0}")]
pub struct UnknownEntity(pub String);

/// Knows the bindings of the outputs.
pub trait OutputResolver: Send + Sync {
    /// Appends the points of an entity, as far as they are known at once: one for each of
    /// [`AppContext::outputs`], in their order, or none at all. Asked once for each entity of a batch.
    fn known(&self, _entity: &str, _points: &mut Vec<Option<PointNumber>>) {}

    /// Tells where the readings of an entity go, where that isn't known at once. `output` is the index in
    /// [`AppContext::outputs`].
    fn resolve(&self, output: usize, entity: &str) -> Result<Target, UnknownEntity>;

    /// How many points the installation may still make.
    fn room(&self) -> PointRoom;
}

/// How many points the outputs of an installation may still make.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct PointRoom {
    /// Of its own limit.
    pub own: u64,
    /// That limit.
    pub limit: u64,
    /// Of what the site leaves to outputs.
    pub site: u64,
}

/// Knows what an installation has standing before the invocation. A one-shot timer that just fires
/// isn't among its timers any more.
pub trait Standing: Send + Sync {
    /// Whether this alarm stands.
    fn alarm(&self, alarm: &SlotName, entity: &str) -> bool;
    /// How many alarms stand.
    fn alarms(&self) -> usize;
    /// Whether there is a one-shot timer of this name.
    fn timer(&self, name: &str) -> bool;
    /// How many one-shot timers there are.
    fn timers(&self) -> usize;
}

/// Nothing stored, nothing bound, nothing standing: the surroundings in which a component is
/// instantiated once at install.
#[derive(Clone, Copy, Debug, Default)]
pub struct Nothing;

impl StateReader for Nothing {
    fn cached(&self, _: &str) -> Cached {
        Cached::Known(None)
    }

    fn load<'a>(
        &'a self,
        keys: &'a [Box<str>],
        _: &'a Meter,
    ) -> BoxFuture<'a, Result<Vec<Option<Bytes>>, ReadError>> {
        Box::pin(async { Ok(vec![None; keys.len()]) })
    }

    fn scan<'a>(&'a self, _: Scan<'a>, _: &'a Meter) -> BoxFuture<'a, Result<StatePage, ReadError>> {
        Box::pin(async { Ok(StatePage::default()) })
    }
}

impl OutputResolver for Nothing {
    fn resolve(&self, _: usize, _: &str) -> Result<Target, UnknownEntity> {
        Err(UnknownEntity("nothing is bound".to_owned()))
    }

    fn room(&self) -> PointRoom {
        PointRoom::default()
    }
}

impl Standing for Nothing {
    fn alarm(&self, _: &SlotName, _: &str) -> bool {
        false
    }
    fn alarms(&self) -> usize {
        0
    }
    fn timer(&self, _: &str) -> bool {
        false
    }
    fn timers(&self) -> usize {
        0
    }
}
