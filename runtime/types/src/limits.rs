//! The limits: one table of names and defaults; each says whether work beyond it waits or is refused.

use std::time::Duration;

use serde::{Deserialize, Serialize};

/// Bytes of a mebibyte.
pub const MIB: u64 = 1 << 20;
/// Bytes of a kibibyte.
pub const KIB: u64 = 1 << 10;

/// The limits of one installation: the defaults, lowered or raised by manifest and grant, within
/// the ceilings.
#[derive(Clone, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Limits {
    /// Bytes of all memories and tables of an invocation together. Beyond: `memory.grow` fails.
    pub memory: u64,
    /// CPU time of guest and host calls in one invocation, in nanoseconds. Beyond: the invocation fails.
    /// The wall limit is ten times as much.
    pub cpu: u64,
    /// Bytes of keys and values in `state`, each key with [`STATE_KEY_BYTES`] more. Beyond: the write is refused.
    pub state: u64,
    /// CPU time of all invocations in each second, sustained, in nanoseconds. Beyond: the lane waits. What is
    /// not used gathers, up to [`SHARE_BURST`].
    pub share: u64,
    /// Points that the outputs of the installation may make. Beyond: `publish` is refused.
    pub points: u64,
}

impl Default for Limits {
    fn default() -> Self {
        Self { memory: 32 * MIB, cpu: 200_000_000, state: 64 * MIB, share: 500_000_000, points: 10_000 }
    }
}

impl Limits {
    /// The most memory that a grant can give.
    pub const MAX_MEMORY: u64 = 256 * MIB;
    /// The least memory with which any language's runtime starts.
    pub const MIN_MEMORY: u64 = MIB;

    /// The CPU time of one invocation.
    pub fn cpu(&self) -> Duration {
        Duration::from_nanos(self.cpu)
    }

    /// The longest an invocation may take by the clock on the wall.
    pub fn wall(&self) -> Duration {
        self.cpu() * 10
    }
}

/// CPU time that an installation may have saved up.
pub const SHARE_BURST: Duration = Duration::from_secs(2);
/// The longest key of `state`, in bytes. Beyond: refused.
pub const MAX_STATE_KEY: usize = 512;
/// The longest value of `state`, in bytes. Beyond: refused.
pub const MAX_STATE_VALUE: usize = 256 * 1024;
/// Bytes that all host calls of an invocation together may carry from the guest. Beyond: the invocation fails.
pub const MAX_HOST_CALL_BYTES: usize = 64 << 20;
/// Bytes that one host call may carry from the guest: as many as all effects. Beyond: the invocation fails.
pub const MAX_CALL_BYTES: usize = MAX_EFFECT_BYTES;
/// Keys of `state` in one call, and keys that one invocation may set or delete: more than a batch has readings, and
/// few enough that the fold's thread applies them within some milliseconds. Beyond: the call is refused.
pub const MAX_STATE_KEYS: usize = 20_000;
/// Bytes that a key of `state` counts besides its own and those of its value: about its cost in memory.
pub const STATE_KEY_BYTES: usize = 128;
/// Entries of `state` on one page of a scan. Beyond: on the next one.
pub const MAX_STATE_PAGE: u32 = 1_000;
/// Bytes of `state` on one page of a scan, but for its last entry. Beyond: on the next one.
pub const MAX_STATE_PAGE_BYTES: usize = 1 << 20;
/// Derived readings of one invocation. Beyond: `publish` is refused.
pub const MAX_DERIVED: usize = 100_000;
/// Bytes that a derived reading counts among the effects, besides a text or blob.
pub const DERIVED_BYTES: usize = 20;
/// Bytes that each entity of a call to `publish` counts among the effects, besides its own: counted alike for a
/// point that there is and one that the call makes, so that it is the same whichever of the two it is when the
/// invocation is replayed.
pub const ENTITY_BYTES: usize = 64;
/// Bytes of all effects of one invocation. Beyond: the call that would pass it is refused.
pub const MAX_EFFECT_BYTES: usize = 16 << 20;
/// The longest text or blob of a reading, in bytes. Beyond: refused.
pub const MAX_READING_BYTES: usize = 64 << 10;
/// Intents of one invocation. Beyond: `request` is refused.
pub const MAX_INTENTS: usize = 1_000;
/// Bytes that an intent counts among an invocation's effects, besides its texts.
pub const INTENT_BYTES: usize = 128;
/// Points that an installation's set-points may go to. Beyond: the outcome is `rejected`.
pub const MAX_DRIVEN: usize = 10_000;
/// Points of the site that set-points may go to. Beyond: the outcome is `rejected`.
pub const MAX_SITE_DRIVEN: usize = 100_000;
/// Alarms that an installation may have standing. Beyond: `raise` is refused.
pub const MAX_ALARMS: usize = 10_000;
/// Bytes of an installation's alarms: entities and messages, and [`ALARM_BYTES`] for each. Where all of them stand:
/// `raise` is refused. Else those that were cleared longest ago are dropped.
pub const MAX_ALARMS_BYTES: usize = 4 << 20;
/// Bytes that an alarm counts besides its entity and its message: about its cost in memory.
pub const ALARM_BYTES: usize = 256;
/// Changes of alarms of one invocation: twice as many as may be active. Beyond: `raise` and `clear` are refused.
pub const MAX_ALARM_CHANGES: usize = 20_000;
/// Bytes that each change of an alarm counts among an invocation's effects, besides its texts.
pub const ALARM_CHANGE_BYTES: usize = 64;
/// Episodes of alarms that are kept of an installation once they are over. Beyond: the oldest is dropped and counted.
pub const MAX_EPISODES: u64 = 10_000;
/// Bytes of these episodes, with [`ALARM_BYTES`] for each besides its texts. Beyond: the oldest are dropped and counted.
pub const MAX_EPISODE_BYTES: u64 = 8 << 20;
/// Changes of alarms, of all installations, of which connectors can still tell. Beyond: the oldest is forgotten, and each
/// connector that hadn't told of it counts it.
pub const MAX_ALARM_NEWS: u64 = 65_536;
/// The longest comment of a person on an alarm, in bytes. Beyond: refused.
pub const MAX_COMMENT: usize = 1_000;
/// The longest name by which a person signs, in bytes. Beyond: refused.
pub const MAX_SIGNATURE: usize = 100;
/// Comments on one episode of an alarm, besides those at acknowledging and shelving. Beyond: refused.
pub const MAX_COMMENTS: usize = 10;
/// Acknowledgements of one episode of an alarm that are kept: the first, and the last ones.
pub const MAX_ACKNOWLEDGEMENTS: usize = 20;
/// The longest time for which an alarm is shelved, in nanoseconds: 30 days. Beyond: refused.
pub const MAX_SHELVED: u64 = 30 * 24 * 3_600 * 1_000_000_000;
/// Bytes of the alarms of all installations, counted alike. Beyond: each has at most [`OWN_ALARMS_BYTES`], or what it
/// has already. Invocations that are under way at the same time may pass it together.
pub const MAX_SITE_ALARMS_BYTES: usize = 64 << 20;
/// Bytes of alarms that an installation may have whatever the others have.
pub const OWN_ALARMS_BYTES: usize = 64 << 10;
/// One-shot timers of an installation. Beyond: `set` is refused.
pub const MAX_TIMERS: usize = 1_000;
/// How long after an invocation's time the one-shot timers that it sets are due at the earliest, in nanoseconds: an
/// app that sets itself again and again makes no more than a record a second of it.
pub const TIMER_SOONEST: u64 = 1_000_000_000;
/// The longest alarm message, in bytes. Beyond: refused.
pub const MAX_ALARM_MESSAGE: usize = 1_024;
/// The longest entity, in bytes. Beyond: refused.
pub const MAX_ENTITY: usize = 512;
/// The longest name of a one-shot timer, in bytes. Beyond: refused.
pub const MAX_TIMER_NAME: usize = 256;
/// App log of one call: lines and bytes. Beyond: one line counts what was dropped.
pub const MAX_LOG_LINES: usize = 100;
/// App log of one call, in bytes. Beyond: one line counts what was dropped.
pub const MAX_LOG_BYTES: usize = 16 << 10;
/// App log lines a second, sustained. Beyond: one line counts what was dropped.
pub const LOG_LINES_PER_SECOND: u32 = 10;
/// The largest package, in bytes. Beyond: refused.
pub const MAX_PACKAGE: usize = 64 << 20;
/// Pushes that may wait at the same time until apps have dealt with their readings. Beyond: refused. For one app as many
/// may wait as places are still free. Beyond: answered at once.
pub const MAX_WAITING_PUSHES: usize = 1_000;
/// The largest request body, in bytes. Beyond: refused.
pub const MAX_BODY: usize = 16 << 20;
/// Points of a tenant. Beyond: a reading of a new point is refused by name.
pub const MAX_POINTS: usize = 1_000_000;
/// Points that the inputs of an install match together, or those of a list of them: the fold takes them in one step,
/// within a tenth of a second. Beyond: refused.
pub const MAX_MATCHES: usize = 2_000_000;
/// Shapes of the patterns of all inputs of a site: numbers of segments, and places of captures among them. Each costs every
/// new point a look. Beyond: refused.
pub const MAX_SHAPES: usize = 1_000;
/// Points that are kept for connectors and pushes: the outputs of all apps together make no new ones once
/// fewer than this are left.
pub const SOURCE_POINTS: usize = 250_000;
/// Dead letters of an installation. Beyond: the oldest is dropped and counted.
pub const MAX_DEAD_LETTERS: u64 = 10_000;
/// Bytes of an installation's dead letters, with 256 for each besides its texts. Beyond: the oldest are dropped and
/// counted.
pub const MAX_DEAD_LETTER_BYTES: u64 = 64 << 20;
/// Revisions of an installation that readings wait for at most. Beyond: a change is refused.
pub const MAX_PENDING_REVISIONS: usize = 16;
/// Hops from output to input that a derived reading may have behind it. Beyond: left out, with an event.
pub const MAX_HOPS: u8 = 16;
/// CPU time that each host call costs at least, in nanoseconds.
pub const HOST_CALL_NANOS: u64 = 1_000;
/// Core instances, memories and tables of one component. Beyond: refused at install.
pub const MAX_CORE_INSTANCES: u32 = 20;
/// Memories of one component. Beyond: refused at install.
pub const MAX_MEMORIES: u32 = 10;
/// Tables of one component. Beyond: refused at install.
pub const MAX_TABLES: u32 = 20;
/// Readings of one journal block.
pub const MAX_BLOCK_READINGS: usize = 16_384;

const _: () =
    assert!(MAX_STATE_KEY + MAX_STATE_VALUE + STATE_KEY_BYTES < MAX_EFFECT_BYTES, "any key can be set");
const _: () =
    assert!(MAX_READING_BYTES < MAX_BODY && MAX_READING_BYTES < MAX_EFFECT_BYTES, "any text can be sent");
const _: () = assert!(MAX_READING_BYTES as u64 * 100 < MAX_DEAD_LETTER_BYTES, "any dead letter is kept");
const _: () = assert!(MAX_EFFECT_BYTES <= MAX_HOST_CALL_BYTES, "all effects can be carried");
const _: () = assert!(MAX_ALARMS * (ALARM_BYTES + 40 + 60) <= MAX_ALARMS_BYTES, "short alarms all fit");
const _: () =
    assert!(ALARM_BYTES + MAX_ENTITY + MAX_ALARM_MESSAGE <= OWN_ALARMS_BYTES, "any alarm can be raised");
const _: () = assert!(SOURCE_POINTS < MAX_POINTS, "apps may make points, too");

/// The longest name of a connector, in bytes.
pub const MAX_CONNECTOR_NAME: usize = 63;

/// The first letters of a key for once.
pub const STREAM_ONCE: &str = "once-";

/// The limits of the SDK's platform for tests, which is built without this crate.
#[cfg(test)]
#[path = "../../../sdk/rust/src/testing/limits.rs"]
mod sdk;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_sdks_platform_for_tests_has_the_hosts_limits() {
        let default = Limits::default();
        assert_eq!((sdk::MEMORY, sdk::STATE, sdk::POINTS), (default.memory, default.state, default.points));
        macro_rules! same {
            ($($limit:ident)*) => { $(assert_eq!(sdk::$limit, $limit, stringify!($limit));)* };
        }
        same! {
            MAX_STATE_KEY MAX_STATE_VALUE MAX_STATE_KEYS STATE_KEY_BYTES MAX_STATE_PAGE MAX_STATE_PAGE_BYTES
            MAX_DERIVED DERIVED_BYTES ENTITY_BYTES MAX_READING_BYTES MAX_INTENTS
            MAX_ALARMS MAX_ALARMS_BYTES ALARM_BYTES MAX_ALARM_CHANGES ALARM_CHANGE_BYTES MAX_ALARM_MESSAGE MAX_ENTITY
            MAX_TIMERS MAX_TIMER_NAME TIMER_SOONEST MAX_EFFECT_BYTES MAX_CALL_BYTES MAX_HOST_CALL_BYTES MAX_LOG_LINES MAX_LOG_BYTES
        }
    }
}
