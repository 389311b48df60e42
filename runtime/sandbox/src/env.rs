//! The surroundings of an invocation: recorded facts, the declarations of its revision, and access
//! to stored state.

use std::collections::BTreeMap;
use std::fmt;
use std::pin::Pin;
use std::sync::Arc;

use bytes::Bytes;

use super::budget::{Meter, Overrun};
use super::fault::HostFault;
use super::interrupt::Interrupt;
use super::keys::Keys;
use ironloom_types::changes::Spot;
use ironloom_types::clock::Timestamp;
use ironloom_types::effects::AlarmKey;
use ironloom_types::ids::{IntentId, PointNumber, PointPath, SlotName};
use ironloom_types::limits::{Limits, MAX_ALARMS_BYTES};
use ironloom_types::page::Page;
use ironloom_types::readings::{NewPoint, Tag, Value};
use ironloom_types::work::Gap;

/// A future in a box, for traits that are used as objects.
pub type BoxFuture<'a, T> = Pin<Box<dyn Future<Output = T> + Send + 'a>>;

/// The host's facts about an app's revision; made once for each.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash)]
pub struct AppContext {
    /// The outputs, in the order of the manifest.
    pub outputs: Vec<OutputSlot>,
    /// The alarms that the manifest declares.
    pub alarms: Vec<SlotName>,
    /// The timers that the manifest declares: one-shot timers can't take their names.
    pub timers: Vec<SlotName>,
    /// The settings, as text.
    pub settings: Arc<BTreeMap<String, String>>,
    /// The limits of each invocation.
    pub limits: Limits,
}

/// An output, as the manifest declares it.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct OutputSlot {
    /// Its name in the manifest and in the app.
    pub name: SlotName,
    /// What happens to its values.
    pub kind: OutputKind,
    /// The type of its values.
    pub value_type: Tag,
}

/// What happens to the values of an output.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum OutputKind {
    /// Its values are readings like any other.
    Derived,
    /// Its values go to a machine.
    SetPoint,
}

/// The surroundings of one invocation.
pub struct Env {
    /// Names the invocation.
    pub id: String,
    /// Its time, which stands still.
    pub now: Timestamp,
    /// The key of its random numbers.
    pub seed: [u8; 32],
    /// The readings that were lost since the last invocation.
    pub gaps: Vec<Gap>,
    /// The declarations and limits of its revision.
    pub context: Arc<AppContext>,
    /// The app's stored state.
    pub state: Arc<dyn StateReader>,
    /// Bytes of its stored state, as [`state_cost`](ironloom_types::effects::state_cost) counts them.
    pub state_bytes: u64,
    /// The targets of derived readings.
    pub outputs: Arc<dyn OutputResolver>,
    /// The alarms and timers there are.
    pub holdings: Arc<dyn Holdings>,
    /// Ends it from outside.
    pub interrupt: Interrupt,
    /// CPU time that its installation has used so far, in nanoseconds: of those that wait for a core, who has used
    /// least is next.
    pub used: u64,
}

impl fmt::Debug for Env {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Env").field("id", &self.id).field("now", &self.now).finish_non_exhaustive()
    }
}

/// The result of a look into the cache.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Cached<'a> {
    /// The cache knows the key: its value, or that there is none, and where it found that.
    Known(Option<&'a [u8]>, Spot),
    /// The cache doesn't know the key.
    Unknown,
}

/// The reason why state was not read.
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
    /// Looks into the cache alone, for the keys from a place on: shows the place of each and what is known of it, until
    /// it is told to stop or there are no more. The cache may be locked meanwhile.
    fn cached(&self, keys: &Keys, from: usize, show: &mut dyn FnMut(usize, Cached<'_>) -> bool);

    /// Loads what the cache didn't know, in the order of the keys; at most [`MAX_LOADED_KEYS`] of them. Where their
    /// values are large it answers for the first of them only, at least one: it is asked for the others again.
    fn load<'a>(
        &'a self,
        keys: &'a [Box<str>],
        meter: &'a Meter,
    ) -> BoxFuture<'a, Result<Vec<Option<Bytes>>, ReadError>>;

    /// Lists keys and values. A page is full unless it is the last one, and says exactly whether more entries
    /// follow it: nothing of it may depend on where the entries lie.
    fn scan<'a>(&'a self, scan: Scan<'a>, meter: &'a Meter) -> BoxFuture<'a, Result<StatePage, ReadError>>;
}

/// The most keys that a [`StateReader`] is asked for at once.
pub const MAX_LOADED_KEYS: usize = 1_000;
/// After how many bytes of values a [`StateReader`] answers.
pub const MAX_LOADED_BYTES: usize = 1 << 20;

/// The keys to list.
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

/// Keys and values, in the order of the keys' bytes.
pub type StatePage = Page<Box<str>, Bytes>;

/// The target of a derived reading.
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

    /// The number of points that the installation may still create.
    fn room(&self) -> PointRoom;

    /// Tells what is sent to which machine where the app asks for a set-point. `output` is the index in
    /// [`AppContext::outputs`]. It depends on nothing but the revision.
    fn set_point(&self, _output: usize, _asked: SetPoint<'_>) -> Result<Granted, NotGranted> {
        Err(NotGranted::Output)
    }

    /// The id of the intent at this place among those of the invocation.
    fn intent_id(&self, _index: u32) -> IntentId {
        IntentId([0; 16])
    }
}

/// A set-point that an app asks for.
#[derive(Clone, Copy, Debug)]
pub struct SetPoint<'a> {
    pub entity: &'a str,
    /// Of the output's type.
    pub value: &'a Value,
    /// In nanoseconds, more than 0.
    pub time_to_live: u64,
}

/// The set-point that is sent for it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Granted {
    pub point: PointPath,
    pub value: Value,
    pub time_to_live: u64,
}

/// The reason why a set-point isn't sent.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum NotGranted {
    /// The output isn't bound, or not granted.
    #[error("it is not bound or not granted")]
    Output,
    /// The binding has no place for the entity.
    #[error("{0}")]
    Entity(String),
    /// The value isn't allowed, and may not be moved; says what is allowed.
    #[error("allowed is {0}")]
    Value(String),
}

/// How many points the outputs of an installation may still make.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct PointRoom {
    /// Of its own limit.
    pub own: u64,
    pub limit: u64,
    /// Of what the site leaves to outputs.
    pub site: u64,
}

/// The active alarms of an installation, and what they may take.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct AlarmRoom {
    pub count: usize,
    /// What they count by [`alarm_cost`](ironloom_types::effects::alarm_cost).
    pub bytes: usize,
    /// What they may count: less than its own limit where the alarms of other installations take the site's room.
    pub limit: usize,
}

/// The alarms and one-shot timers that an installation has before the invocation. A timer that is firing
/// no longer counts.
pub trait Holdings: Send + Sync {
    /// What this alarm counts, if it is active.
    fn alarm(&self, key: &AlarmKey) -> Option<usize>;
    /// All active alarms.
    fn alarms(&self) -> AlarmRoom;
    /// Whether there is a one-shot timer of this name.
    fn has_timer(&self, name: &str) -> bool;
    /// The number of one-shot timers.
    fn timers(&self) -> usize;
}

/// Nothing stored, nothing bound, no alarms or timers: the surroundings in which a component is
/// instantiated once at install.
#[derive(Clone, Copy, Debug, Default)]
pub struct Nothing;

impl StateReader for Nothing {
    fn cached(&self, keys: &Keys, from: usize, show: &mut dyn FnMut(usize, Cached<'_>) -> bool) {
        let _all = (from..keys.len()).all(|place| show(place, Cached::Known(None, Spot::NONE)));
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

impl Holdings for Nothing {
    fn alarm(&self, _: &AlarmKey) -> Option<usize> {
        None
    }
    fn alarms(&self) -> AlarmRoom {
        AlarmRoom { limit: MAX_ALARMS_BYTES, ..AlarmRoom::default() }
    }
    fn has_timer(&self, _: &str) -> bool {
        false
    }
    fn timers(&self) -> usize {
        0
    }
}
