//! The capabilities as the host gives them.

use crate::bindings::platform::ironloom as platform;
use crate::bindings::platform::wasi;
use crate::bindings::state::ironloom::state::state as raw;
use crate::time::Timestamp;
use crate::{alarms, invocation, outputs, schedule, state};
use platform::types::types::Batch;
use raw::PackedResult as Packed;

pub(crate) fn state_get(key: &str) -> Result<Option<Vec<u8>>, state::Error> {
    Ok(raw::get(key)?)
}

pub(crate) fn state_set(key: &str, value: &[u8]) -> Result<(), state::Error> {
    Ok(raw::set(key, value)?)
}

pub(crate) fn state_delete(key: &str) -> Result<(), state::Error> {
    Ok(raw::delete(key)?)
}

pub(crate) fn state_get_many(keys: &str) -> Result<Packed, state::Error> {
    Ok(raw::get_many(keys)?)
}

pub(crate) fn state_set_many(keys: &str, values: &Packed) -> Result<(), state::Error> {
    Ok(raw::set_many(keys, borrowed(values))?)
}

// The host has the entities already.
pub(crate) fn state_get_rows(prefix: &str, _: &[&str]) -> Result<Packed, state::Error> {
    Ok(raw::get_rows(prefix)?)
}

pub(crate) fn state_set_rows(
    prefix: &str,
    _: &[&str],
    lines: &[u32],
    values: &Packed,
) -> Result<(), state::Error> {
    Ok(raw::set_rows(prefix, lines, borrowed(values))?)
}

fn borrowed(values: &Packed) -> raw::PackedParam<'_> {
    raw::PackedParam { lengths: &values.lengths, bytes: &values.bytes }
}

pub(crate) fn state_scan(prefix: &str, after: Option<&str>, limit: u32) -> Result<state::Page, state::Error> {
    let page = raw::scan(prefix, after, limit)?;
    let entries = page.entries.into_iter().map(|entry| (entry.key, entry.value)).collect();
    Ok(state::Page { entries, next: page.next })
}

pub(crate) fn publish(batch: Batch) -> Result<(), outputs::Error> {
    Ok(platform::outputs::outputs::publish(&batch)?)
}

pub(crate) fn request(intents: &[outputs::Intent]) -> Result<Vec<outputs::Ticket>, outputs::Error> {
    let intents: Vec<_> = intents.iter().map(|intent| intent.0.clone()).collect();
    let tickets = platform::outputs::outputs::request(&intents)?;
    Ok(tickets.into_iter().map(outputs::Ticket).collect())
}

pub(crate) fn alarm_raise(
    alarm: &str,
    entity: &str,
    message: &str,
    since: Option<Timestamp>,
) -> Result<(), alarms::Error> {
    Ok(platform::alarms::alarms::raise(alarm, entity, message, since.map(Timestamp::nanos))?)
}

pub(crate) fn alarm_clear(alarm: &str, entity: &str, since: Option<Timestamp>) -> Result<(), alarms::Error> {
    Ok(platform::alarms::alarms::clear(alarm, entity, since.map(Timestamp::nanos))?)
}

pub(crate) fn schedule_set(timer: &str, due: Timestamp) -> Result<(), schedule::Error> {
    Ok(platform::timers::schedule::set(timer, due.nanos())?)
}

pub(crate) fn schedule_cancel(timer: &str) -> Result<bool, schedule::Error> {
    Ok(platform::timers::schedule::cancel(timer)?)
}

pub(crate) fn invocation_id() -> String {
    platform::invocation::invocation::id()
}

pub(crate) fn invocation_now() -> Timestamp {
    Timestamp::from_nanos(platform::invocation::invocation::now())
}

pub(crate) fn invocation_gaps() -> Vec<invocation::Gap> {
    let gaps = platform::invocation::invocation::gaps().into_iter();
    gaps.map(|gap| invocation::Gap {
        slot: gap.slot,
        first: Timestamp::from_nanos(gap.first),
        last: Timestamp::from_nanos(gap.last),
        count: gap.count,
    })
    .collect()
}

pub(crate) fn setting(name: &str) -> Result<Option<String>, String> {
    wasi::config::store::get(name).map_err(config_error)
}

pub(crate) fn settings() -> Result<Vec<(String, String)>, String> {
    wasi::config::store::get_all().map_err(config_error)
}

fn config_error(error: wasi::config::store::Error) -> String {
    match error {
        wasi::config::store::Error::Upstream(text) | wasi::config::store::Error::Io(text) => text,
    }
}

pub(crate) fn log(level: log::Level, target: &str, message: &str) {
    use wasi::logging::logging::{Level, log};
    let level = match level {
        log::Level::Error => Level::Error,
        log::Level::Warn => Level::Warn,
        log::Level::Info => Level::Info,
        log::Level::Debug => Level::Debug,
        log::Level::Trace => Level::Trace,
    };
    log(level, target, message);
}
