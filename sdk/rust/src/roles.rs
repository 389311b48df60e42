//! The roles that an app can have, and what happens around each call of one.

use crate::batch::{Batch, Reading};
use crate::bindings::platform::ironloom::types::types as raw;
use crate::bindings::readings::exports::ironloom::feeds::readings::Refused;
use crate::failure::Failure;
use crate::pending;
use crate::time::Timestamp;

/// Works on readings. For an app with inputs; name it in [`app!`](crate::app) as `readings`.
///
/// Implement [`consume`](Self::consume), or where speed doesn't matter [`reading`](Self::reading). There is no
/// `self`: memory lives for one invocation, and what must last goes to [`state`](crate::state).
///
/// ```
/// use ironloom_sdk::prelude::*;
///
/// struct Counter;
/// ironloom_sdk::app!(Counter: readings);
///
/// const SEEN: Table<str, u64> = Table::new("seen/");
///
/// impl Readings for Counter {
///     fn consume(batch: &Batch) -> Result<(), Failure> {
///         let mut seen = SEEN.of(batch)?;
///         for reading in batch.readings() {
///             *seen.or_default(&reading) += 1;
///         }
///         Ok(seen.save()?)
///     }
/// }
/// ```
pub trait Readings {
    /// Takes the next readings.
    ///
    /// All that it did takes effect when it returns ok, nothing otherwise. A failure is about the whole batch: the
    /// host then offers smaller ones until it knows which reading is to blame. To leave out a single reading and
    /// keep the rest, [refuse](Reading::refuse) it.
    ///
    /// By default it hands each one to [`reading`](Self::reading), in the order in which the site recorded them.
    fn consume(batch: &Batch<'_>) -> Result<(), Failure> {
        batch.readings().try_for_each(|reading| Self::reading(&reading))
    }

    /// Takes one reading. By default it rejects it, since an app with inputs does something with them.
    fn reading(reading: &Reading<'_>) -> Result<(), Failure> {
        Err(Failure::reject(format!(
            "the app has no code for readings, such as this one of {:?}",
            reading.slot()
        )))
    }
}

/// Works when timers are due: those of the manifest, which repeat, and those set through
/// [`schedule`](crate::schedule), which fire once. Name it in [`app!`](crate::app) as `timers`.
///
/// ```
/// use ironloom_sdk::prelude::*;
///
/// struct Daily;
/// ironloom_sdk::app!(Daily: timers);
///
/// impl Timers for Daily {
///     fn fire(timer: &str, due: Timestamp) -> Result<(), Failure> {
///         log::info!("{timer} was due at {due}");
///         Ok(())
///     }
/// }
/// ```
pub trait Timers {
    /// Called when a timer is due. `due` is when it should have fired; a repeating timer that was due several times meanwhile
    /// fires once, with the last of them. [`invocation::now`](crate::invocation::now) is that time, too, even after an outage: only
    /// where a timer was set for a time that had passed, as by a reading that came late, is it later than `due`.
    ///
    /// By default it rejects it.
    fn fire(timer: &str, due: Timestamp) -> Result<(), Failure> {
        Err(Failure::reject(format!("the app has no code for timers, such as {timer:?}, due at {due}")))
    }
}

/// Brings the state of an older version into the form of this one. Name it in [`app!`](crate::app) as `lifecycle`.
///
/// ```
/// use ironloom_sdk::prelude::*;
///
/// struct App;
/// ironloom_sdk::app!(App: lifecycle);
///
/// impl Lifecycle for App {
///     fn migrate(previous: &str, _resume: Option<&[u8]>) -> Result<Migration, Failure> {
///         if previous.starts_with("0.1.") {
///             state::delete("plan")?; // until 0.1 it had another form
///         }
///         Ok(Migration::Done)
///     }
/// }
/// ```
pub trait Lifecycle {
    /// Called after an upgrade and before anything else, with the version that wrote the state. Works on a copy.
    /// If one call is not enough, it returns where to continue, and is called again with that as `resume`. All calls
    /// together may change 200,000 keys. On error the old version goes on with the old state, and the admin sees the text.
    ///
    /// By default the state keeps its form.
    fn migrate(previous: &str, resume: Option<&[u8]>) -> Result<Migration, Failure> {
        let _ = (previous, resume);
        Ok(Migration::Done)
    }
}

/// The progress of a migration.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Migration {
    /// All of the state has its new form.
    Done,
    /// There is more to do: call again with this.
    Continue(Vec<u8>),
}

/// Runs app code as one invocation: what its views have gathered is written, and an error of that fails the call.
pub(crate) fn invoke<T>(call: impl FnOnce() -> Result<T, Failure>) -> Result<T, Failure> {
    crate::logging::start();
    pending::clear();
    let result = call();
    match pending::take() {
        Some(failure) => result.and(Err(failure)),
        None => result,
    }
}

/// Calls an app for a batch, on any platform.
pub(crate) fn consume<A: Readings>(batch: &raw::Batch) -> Result<Vec<Refused>, Failure> {
    invoke(|| {
        let batch = Batch::new(batch);
        A::consume(&batch)?;
        let refused = batch.into_refused().into_iter();
        Ok(refused.map(|((frame, reading), reason)| Refused { frame, reading, reason }).collect())
    })
}

/// Called by the exports that [`app!`](crate::app) makes. Not part of the API.
#[doc(hidden)]
pub mod exports {
    use super::*;

    pub type Consumed = Result<Vec<Refused>, raw::Failure>;
    pub type Fired = Result<(), raw::Failure>;
    pub type Migrated = Result<Option<Vec<u8>>, String>;

    pub fn consume<A: Readings>(batch: raw::Batch) -> Consumed {
        super::consume::<A>(&batch).map_err(Into::into)
    }

    pub fn fire<A: Timers>(timer: String, due: u64) -> Fired {
        invoke(|| A::fire(&timer, Timestamp::from_nanos(due))).map_err(Into::into)
    }

    pub fn migrate<A: Lifecycle>(
        previous: String,
        resume: Option<Vec<u8>>,
    ) -> Result<Option<Vec<u8>>, String> {
        match invoke(|| A::migrate(&previous, resume.as_deref())) {
            Ok(Migration::Done) => Ok(None),
            Ok(Migration::Continue(resume)) => Ok(Some(resume)),
            Err(failure) => Err(failure.into_reason()),
        }
    }
}
