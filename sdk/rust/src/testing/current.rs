//! The platform of the current thread's call, and the functions of [`crate::host`] on it.

use std::cell::RefCell;

use super::batch::fail;
use super::world::World;

thread_local! {
    static CURRENT: RefCell<Option<Box<World>>> = const { RefCell::new(None) };
}

/// Makes a world the current one while `call` runs.
///
/// A panic in `call` takes back what it did, as a trap does on the host, and goes on to fail the test.
pub(super) fn within<T>(place: &mut Option<Box<World>>, call: impl FnOnce() -> T) -> T {
    struct Back<'p>(&'p mut Option<Box<World>>, Option<Box<World>>);
    impl Drop for Back<'_> {
        fn drop(&mut self) {
            *self.0 = CURRENT.replace(self.1.take());
            if let (true, Some(world)) = (std::thread::panicking(), self.0.as_mut()) {
                world.roll_back();
            }
        }
    }
    let outer = CURRENT.replace(place.take());
    let _back = Back(place, outer);
    call()
}

fn with<T>(use_it: impl FnOnce(&mut World) -> T) -> T {
    CURRENT.with_borrow_mut(|world| match world {
        Some(world) => {
            world.host_calls += 1;
            use_it(world)
        }
        None => fail(
            "there is no platform here: in a test, call this inside testing::Platform::run, consume or fire",
        ),
    })
}

/// The functions of [`crate::host`].
pub(crate) mod host {
    use super::super::state::Keys;
    use super::{CURRENT, with};
    use crate::bindings::platform::ironloom::types::types::Batch;
    use crate::bindings::state::ironloom::state::state::PackedResult as Packed;
    use crate::time::Timestamp;
    use crate::{alarms, invocation, outputs, schedule, state};

    /// Bytes that values carry over the boundary.
    fn carried(values: &Packed) -> usize {
        size_of_val(&*values.lengths) + values.bytes.len()
    }

    pub(crate) fn state_get(key: &str) -> Result<Option<Vec<u8>>, state::Error> {
        with(|world| {
            world.quota.carry(key.len());
            world.state.get(key)
        })
    }

    pub(crate) fn state_set(key: &str, value: &[u8]) -> Result<(), state::Error> {
        with(|world| {
            world.quota.carry(key.len() + value.len());
            world.state.set(key, Some(value), &mut world.quota)
        })
    }

    pub(crate) fn state_delete(key: &str) -> Result<(), state::Error> {
        with(|world| {
            world.quota.carry(key.len());
            world.state.set(key, None, &mut world.quota)
        })
    }

    pub(crate) fn state_get_many(keys: &str) -> Result<Packed, state::Error> {
        with(|world| {
            world.quota.carry(keys.len());
            world.state.get_many(&Keys::lines(keys)?)
        })
    }

    pub(crate) fn state_set_many(keys: &str, values: &Packed) -> Result<(), state::Error> {
        with(|world| {
            world.quota.carry(keys.len() + carried(values));
            world.state.set_many(&Keys::lines(keys)?, values, &mut world.quota)
        })
    }

    pub(crate) fn state_get_rows(prefix: &str, entities: &[&str]) -> Result<Packed, state::Error> {
        with(|world| {
            world.quota.carry(prefix.len());
            world.state.get_many(&Keys::all_rows(prefix, entities.to_vec())?)
        })
    }

    pub(crate) fn state_set_rows(
        prefix: &str,
        entities: &[&str],
        lines: &[u32],
        values: &Packed,
    ) -> Result<(), state::Error> {
        with(|world| {
            world.quota.carry(prefix.len() + size_of_val(lines) + carried(values));
            world.state.set_many(&Keys::rows(prefix, entities, lines)?, values, &mut world.quota)
        })
    }

    pub(crate) fn state_scan(
        prefix: &str,
        after: Option<&str>,
        limit: u32,
    ) -> Result<state::Page, state::Error> {
        with(|world| {
            world.quota.carry(prefix.len() + after.map_or(0, str::len));
            world.state.scan(prefix, after, limit)
        })
    }

    pub(crate) fn publish(batch: Batch) -> Result<(), outputs::Error> {
        with(|world| world.publish(batch))
    }

    pub(crate) fn request(intents: &[outputs::Intent]) -> Result<Vec<outputs::Ticket>, outputs::Error> {
        with(|world| world.request(intents))
    }

    pub(crate) fn alarm_raise(
        alarm: &str,
        entity: &str,
        message: &str,
        since: Option<Timestamp>,
    ) -> Result<(), alarms::Error> {
        with(|world| world.raise(alarm, entity, message, since))
    }

    pub(crate) fn alarm_clear(
        alarm: &str,
        entity: &str,
        since: Option<Timestamp>,
    ) -> Result<(), alarms::Error> {
        with(|world| world.clear(alarm, entity, since))
    }

    pub(crate) fn schedule_set(timer: &str, due: Timestamp) -> Result<(), schedule::Error> {
        with(|world| world.set_timer(timer, due))
    }

    pub(crate) fn schedule_cancel(timer: &str) -> Result<bool, schedule::Error> {
        with(|world| world.cancel_timer(timer))
    }

    pub(crate) fn invocation_id() -> String {
        with(|world| world.id())
    }

    pub(crate) fn invocation_now() -> Timestamp {
        with(|world| world.now)
    }

    pub(crate) fn invocation_gaps() -> Vec<invocation::Gap> {
        with(|world| world.gaps.clone())
    }

    pub(crate) fn setting(name: &str) -> Result<Option<String>, String> {
        with(|world| Ok(world.settings.get(name).cloned()))
    }

    pub(crate) fn settings() -> Result<Vec<(String, String)>, String> {
        with(|world| Ok(world.settings.iter().map(|(name, text)| (name.clone(), text.clone())).collect()))
    }

    /// A record of a test's own, outside of any call, goes nowhere.
    pub(crate) fn log(level: log::Level, target: &str, message: &str) {
        // A record made while the world is in use would be this crate's own: there is none.
        CURRENT.with_borrow_mut(|world| {
            if let Some(world) = world {
                world.log(level, target, message);
            }
        });
    }
}
