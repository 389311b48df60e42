//! The host's limits, as far as an app's test can meet them. They are a copy, since apps are built without the host;
//! a test of `runtime/types` reads this file and compares.

pub(super) const MEMORY: u64 = 32 << 20;
pub(super) const STATE: u64 = 64 << 20;
pub(super) const POINTS: u64 = 10_000;

pub(super) const MAX_STATE_KEY: usize = 512;
pub(super) const MAX_STATE_VALUE: usize = 256 << 10;
pub(super) const MAX_STATE_KEYS: usize = 20_000;
pub(super) const STATE_KEY_BYTES: usize = 128;
pub(super) const MAX_STATE_PAGE: u32 = 1_000;
pub(super) const MAX_STATE_PAGE_BYTES: usize = 1 << 20;
pub(super) const MAX_DERIVED: usize = 100_000;
pub(super) const DERIVED_BYTES: usize = 20;
pub(super) const ENTITY_BYTES: usize = 64;
pub(super) const MAX_READING_BYTES: usize = 64 << 10;
pub(super) const MAX_INTENTS: usize = 1_000;
pub(super) const MAX_ALARMS: usize = 10_000;
pub(super) const MAX_ALARMS_BYTES: usize = 4 << 20;
pub(super) const ALARM_BYTES: usize = 256;
pub(super) const MAX_ALARM_CHANGES: usize = 20_000;
pub(super) const ALARM_CHANGE_BYTES: usize = 64;
pub(super) const MAX_ALARM_MESSAGE: usize = 1_024;
pub(super) const MAX_ENTITY: usize = 512;
pub(super) const MAX_TIMERS: usize = 1_000;
pub(super) const MAX_TIMER_NAME: usize = 256;
/// The earliest due time of a timer, counted from the time of the call that sets it, in nanoseconds.
pub(super) const TIMER_SOONEST: u64 = 1_000_000_000;
pub(super) const MAX_EFFECT_BYTES: usize = 16 << 20;
pub(super) const MAX_CALL_BYTES: usize = MAX_EFFECT_BYTES;
pub(super) const MAX_HOST_CALL_BYTES: usize = 64 << 20;
pub(super) const MAX_LOG_LINES: usize = 100;
pub(super) const MAX_LOG_BYTES: usize = 16 << 10;
