//! The platform as a test sees it.

use std::collections::BTreeMap;

use super::alarms::Episode;
use super::batch::{Datum, fail};
use super::current::within;
use super::manifest::{Manifest, setting_text};
use super::world::{Log, Output, OutputKind, RequestedIntent, SetTimer, Type, World, rows};
use crate::bindings::platform::ironloom::types::types::{Batch, Frame};
use crate::bindings::readings::exports::ironloom::feeds::readings as raw;
use crate::failure::Failure;
use crate::invocation::Gap;
use crate::roles::{Lifecycle, Migration, Readings, Timers, consume, invoke};
use crate::time::Timestamp;
use crate::value::Column as _;

/// All that is around an app, in memory. See the [module](crate::testing) for an example.
///
/// Its time begins at 1970, and each call moves it on: to the latest `at` of a batch, to when a timer was due.
pub struct Platform {
    /// Only missing while a call runs.
    world: Option<Box<World>>,
}

impl Default for Platform {
    fn default() -> Self {
        Self { world: Some(Box::default()) }
    }
}

/// A reading that the app refused.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Refused {
    /// The input, by its name in the manifest.
    pub slot: String,
    /// The entity that it is about.
    pub entity: String,
    /// When the source took the reading.
    pub at: Timestamp,
    /// The app's reason for refusing it.
    pub reason: String,
}

/// The result of one call.
#[derive(Clone, Debug)]
pub struct Outcome {
    /// Whether the call took effect.
    pub result: Result<(), Failure>,
    /// The readings that the app refused one by one, by frame and place. None where the call failed.
    pub refused: Vec<Refused>,
    published: usize,
}

impl Outcome {
    /// Fails the test unless the call took effect.
    #[track_caller]
    pub fn expect_ok(self) -> Self {
        if let Err(failure) = &self.result {
            fail(&format!("the call failed: {failure}"));
        }
        self
    }

    /// Gives the failure; fails the test where there is none.
    #[track_caller]
    pub fn failure(self) -> Failure {
        match self.result {
            Ok(()) => fail("the call took effect, but should have failed"),
            Err(failure) => failure,
        }
    }
}

impl Platform {
    /// A platform for an app without inputs, outputs, alarms and settings; add them.
    pub fn new() -> Self {
        Self::default()
    }

    /// A platform with all that the app's manifest declares, and its settings' defaults. Set-points are granted once a
    /// test says so by [`set_point`](Self::set_point).
    ///
    /// Fails the test where the text is no manifest.
    #[track_caller]
    pub fn from_manifest(app_toml: &str) -> Self {
        let manifest: Manifest = toml::from_str(app_toml)
            .unwrap_or_else(|error| fail(&format!("app.toml is not a valid manifest: {error}")));
        let mut platform = Self::new();
        let world = platform.world_mut();
        world.schedule = manifest.schedule;
        if let Some(state) = manifest.limits.state {
            world.state.granted = state.as_u64();
        }
        if let Some(memory) = manifest.limits.memory {
            world.state.memory = memory.as_u64();
        }
        if let Some(points) = manifest.limits.points {
            world.max_points = points.get();
        }
        let mut inputs: Vec<_> = manifest.inputs.into_iter().collect();
        inputs.sort_by_key(|(name, _)| name.span().start);
        world.inputs = inputs.into_iter().map(|(name, input)| (name.into_inner(), input.r#type)).collect();
        let outputs = manifest.outputs.into_iter();
        world.outputs = outputs.map(|(name, output)| (name, (output.kind, output.r#type))).collect();
        world.alarms.declared = manifest.alarms.into_keys().collect();
        world.declared_timers = manifest.timers.into_keys().collect();
        for (name, setting) in &manifest.settings {
            match setting.default_text() {
                Some(Ok(text)) => drop(world.settings.insert(name.clone(), text)),
                Some(Err(problem)) => {
                    fail(&format!("app.toml: the default of the setting {name:?}: {problem}"))
                }
                None => {}
            }
        }
        let settings = manifest.settings.into_iter();
        world.declared_settings = Some(settings.map(|(name, setting)| (name, setting.r#type)).collect());
        platform
    }

    /// Declares an input. Frames come in the order in which inputs are declared.
    pub fn input(mut self, name: &str, of: Type) -> Self {
        let inputs = &mut self.world_mut().inputs;
        match inputs.iter_mut().find(|(known, _)| known == name) {
            Some((_, known)) => *known = of,
            None => inputs.push((name.to_owned(), of)),
        }
        self
    }

    /// Declares an output of kind `derived`.
    pub fn output(mut self, name: &str, of: Type) -> Self {
        self.world_mut().outputs.insert(name.to_owned(), (OutputKind::Derived, of));
        self
    }

    /// Declares an output of kind `set-point`, bound and granted for any value.
    pub fn set_point(mut self, name: &str, of: Type) -> Self {
        let world = self.world_mut();
        world.outputs.insert(name.to_owned(), (OutputKind::SetPoint, of));
        world.granted.insert(name.to_owned());
        self
    }

    /// Declares an alarm.
    pub fn alarm(mut self, name: &str) -> Self {
        self.world_mut().alarms.declared.push(name.to_owned());
        self
    }

    /// Declares that the app sets timers that fire once.
    pub fn schedule(mut self) -> Self {
        self.world_mut().schedule = true;
        self
    }

    /// Sets a setting, as the text that an admin would type.
    #[track_caller]
    pub fn setting(mut self, name: &str, text: &str) -> Self {
        self.set(name, text);
        self
    }

    /// Sets a setting, as the text that an admin would type.
    ///
    /// Fails the test where the manifest declares no such setting, or one of another type.
    #[track_caller]
    pub fn set(&mut self, name: &str, text: &str) {
        let world = self.world_mut();
        let text = match world.declared_settings.as_ref().map(|declared| declared.get(name)) {
            None => text.to_owned(),
            Some(None) => fail(&format!("the manifest declares no setting {name:?}")),
            Some(Some(&of)) => match setting_text(of, text) {
                Ok(text) => text,
                Err(problem) => fail(&format!("the setting {name:?}: {problem}")),
            },
        };
        world.settings.insert(name.to_owned(), text);
    }

    /// Takes a setting away, its default as well.
    pub fn unset(&mut self, name: &str) {
        self.world_mut().settings.remove(name);
    }

    /// Sets the time. Calls only move it on.
    pub fn set_now(&mut self, now: Timestamp) {
        self.world_mut().now = now;
    }

    /// The time of the last call.
    pub fn now(&self) -> Timestamp {
        self.world().now
    }

    /// Shows a gap to the next call that takes effect.
    pub fn add_gap(&mut self, gap: Gap) {
        self.world_mut().gaps.push(gap);
    }

    /// Calls the app for a batch, which [`testing::batch`](crate::testing::batch) makes. Its frames come in the order
    /// of the manifest, as on the host.
    ///
    /// Fails the test where the batch has an input that isn't declared, or values of another type.
    #[must_use = "a test that doesn't look at it doesn't see a failure: .expect_ok()"]
    #[track_caller]
    pub fn consume<A: Readings>(&mut self, batch: &Batch) -> Outcome {
        let world = self.world_mut();
        let place = |frame: &Frame| world.inputs.iter().position(|(name, _)| *name == frame.slot);
        let mut batch = batch.clone();
        batch.frames.sort_by_key(place);
        for frame in &batch.frames {
            let declared = place(frame).map(|place| world.inputs[place].1);
            let is = frame.values.type_name();
            if declared.map(Type::name) != Some(is) {
                fail(&format!(
                    "the batch has an input {:?} of type {is}, but declared is {declared:?}",
                    frame.slot
                ));
            }
            let last = frame.at.iter().max().copied().unwrap_or(0);
            world.now = world.now.max(Timestamp::from_nanos(last));
        }
        let (result, published) = self.call(|| consume::<A>(&batch));
        let (result, refused) = match result {
            Ok(refused) => (Ok(()), refused.into_iter().map(|refused| named(&batch, refused)).collect()),
            Err(failure) => (Err(failure), Vec::new()),
        };
        Outcome { result, refused, published }
    }

    /// Calls the app for a timer of its manifest, or one that it set.
    #[must_use = "a test that doesn't look at it doesn't see a failure: .expect_ok()"]
    pub fn fire<A: Timers>(&mut self, timer: &str, due: Timestamp) -> Outcome {
        self.fire_at::<A>(timer, due, due)
    }

    /// Calls the app at a time, for a timer that was to fire at another one.
    fn fire_at<A: Timers>(&mut self, timer: &str, now: Timestamp, due: Timestamp) -> Outcome {
        let world = self.world_mut();
        world.now = world.now.max(now);
        let (result, published) = self.call(|| A::fire(timer, due));
        Outcome { result, refused: Vec::new(), published }
    }

    /// Calls the app for the timers that it set and that are due by then, in the order of their times. One that fails
    /// with a retry stays.
    #[must_use = "a test that doesn't look at it doesn't see a failure: .expect_ok()"]
    pub fn fire_due<A: Timers>(&mut self, until: Timestamp) -> Vec<Outcome> {
        let mut outcomes = Vec::new();
        let mut waiting: Vec<String> = Vec::new();
        loop {
            let timers = self.world().timers.iter();
            let due = timers.filter(|(name, set)| set.due <= until && !waiting.contains(name));
            let Some((name, set)) =
                due.min_by_key(|(_, set)| set.due).map(|(name, set)| (name.clone(), *set))
            else {
                return outcomes;
            };
            // It counts as fired before the call, so that the call can set it again.
            self.world_mut().timers.remove(&name);
            let outcome = self.fire_at::<A>(&name, set.due, set.asked);
            if outcome.result.as_ref().is_err_and(Failure::is_retry) {
                self.world_mut().timers.insert(name.clone(), set);
                waiting.push(name);
            }
            outcomes.push(outcome);
        }
    }

    /// Has the app migrate the state of an older version, call by call, until it is done. On error nothing of it took
    /// effect.
    pub fn migrate<A: Lifecycle>(&mut self, previous: &str) -> Result<(), String> {
        let before = self.state();
        let mut resume: Option<Vec<u8>> = None;
        loop {
            match self.call(|| A::migrate(previous, resume.as_deref())).0 {
                Ok(Migration::Done) => return Ok(()),
                Ok(Migration::Continue(next)) => resume = Some(next),
                Err(failure) => {
                    self.world_mut().state.replace(before);
                    return Err(failure.into_reason());
                }
            }
        }
    }

    /// Runs any code within the platform, such as a part of the app, or `state::set` to prepare a test. What it did
    /// takes effect.
    pub fn run<T>(&mut self, code: impl FnOnce() -> T) -> T {
        self.world_mut().begin();
        let result = within(&mut self.world, || {
            crate::logging::start();
            code()
        });
        self.world_mut().commit();
        result
    }

    /// All derived readings so far, in the order in which they were published.
    pub fn outputs(&self) -> Vec<Output> {
        rows(&self.world().published)
    }

    /// The derived readings that a call published, in that order.
    pub fn outputs_since(&self, outcome: &Outcome) -> Vec<Output> {
        rows(&self.world().published[outcome.published..])
    }

    /// The derived readings so far of one output of type `real` and one entity.
    pub fn values(&self, output: &str, entity: &str) -> Vec<(Timestamp, f64)> {
        let outputs = self.outputs().into_iter().filter(|row| row.output == output && row.entity == entity);
        outputs
            .map(|row| match row.value {
                Datum::Real(value) => (row.at, value),
                other => fail(&format!("{output:?} is not of type real: {other:?}")),
            })
            .collect()
    }

    /// The active alarms: (alarm, entity) and the message.
    pub fn alarms(&self) -> &BTreeMap<(String, String), String> {
        &self.world().alarms.active
    }

    /// All episodes of alarms so far, in the order of their raising, also those that were over within one call.
    pub fn episodes(&self) -> &[Episode] {
        &self.world().alarms.episodes
    }

    /// The message of an alarm, if it is active.
    pub fn alarm_standing(&self, alarm: &str, entity: &str) -> Option<&str> {
        self.world().alarms.active.get(&(alarm.to_owned(), entity.to_owned())).map(String::as_str)
    }

    /// The timers that the app set.
    pub fn timers(&self) -> &BTreeMap<String, SetTimer> {
        &self.world().timers
    }

    /// The set-points that the app asked for so far.
    pub fn intents(&self) -> &[RequestedIntent] {
        &self.world().intents
    }

    /// The lines that the app logged so far, those of failed calls too.
    pub fn logs(&self) -> &[Log] {
        &self.world().logs
    }

    /// Returns the number of host calls in the app's last call, without log lines. Each costs an app a microsecond
    /// at least, which is much for one reading and nothing for a batch.
    pub fn host_calls(&self) -> u64 {
        self.world().host_calls
    }

    /// The state, by key.
    pub fn state(&self) -> BTreeMap<String, Vec<u8>> {
        self.world().state.all()
    }

    /// Forgets derived readings, intents, logs and the episodes of alarms so far. State, active alarms and timers stay.
    pub fn forget(&mut self) {
        let world = self.world_mut();
        world.published.clear();
        world.intents.clear();
        world.logs.clear();
        world.alarms.forget();
        world.start_next();
    }

    /// Runs app code as one invocation, and keeps or takes back what it did.
    fn call<T>(&mut self, code: impl FnOnce() -> Result<T, Failure>) -> (Result<T, Failure>, usize) {
        self.world_mut().begin();
        let result = within(&mut self.world, || invoke(code));
        let world = self.world_mut();
        if result.is_ok() {
            let published = world.commit();
            (result, published)
        } else {
            world.roll_back();
            (result, world.published.len())
        }
    }

    #[track_caller]
    fn world(&self) -> &World {
        match &self.world {
            Some(world) => world,
            None => fail("a call of this platform is under way"),
        }
    }

    #[track_caller]
    fn world_mut(&mut self) -> &mut World {
        match &mut self.world {
            Some(world) => world,
            None => fail("a call of this platform is under way"),
        }
    }
}

fn named(batch: &Batch, refused: raw::Refused) -> Refused {
    let (frame, place) = (&batch.frames[refused.frame as usize], refused.reading as usize);
    Refused {
        slot: frame.slot.clone(),
        entity: batch.entities.split('\n').nth(frame.entity[place] as usize).unwrap_or_default().to_owned(),
        at: Timestamp::from_nanos(frame.at[place]),
        reason: refused.reason,
    }
}
