//! An app in the sandbox with its surroundings in memory: the server's cache of state, but no log, no lanes, no server.

use std::collections::BTreeMap;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};

use anyhow::{Result, bail, ensure};
use bytes::Bytes;
use ironloom::Targets;
use ironloom_apps::manifest::{self, Manifest};
use ironloom_sandbox::{
    AlarmRoom, AppContext, Batch, BoxFuture, Cached, Call, Env, Holdings, HostFault, Keys, LoadedApp, Meter,
    Outcome, OutputKind, OutputResolver, OutputSlot, PointRoom, ReadError, Sandbox, SandboxConfig, Scan,
    StatePage, StateReader, Target, UnknownEntity,
};
use ironloom_storage::store::{AT_ONCE, CacheBudget, Lookup, StateCache, Stretch};
use ironloom_tests::{guests, server};
use ironloom_types::clock::Timestamp;
use ironloom_types::effects::{AlarmAct, AlarmChange, AlarmKey, Effects};
use ironloom_types::ids::PointNumber;
use ironloom_types::limits::{ALARM_BYTES, Limits, MAX_ALARMS_BYTES};
use parking_lot::RwLock;
use tokio::runtime::Runtime;

/// An app that is called.
pub(crate) struct Guest {
    sandbox: Sandbox,
    app: Arc<LoadedApp>,
    context: Arc<AppContext>,
    memory: Arc<Memory>,
    runtime: Runtime,
    calls: u64,
    peak: u64,
    _folder: tempfile::TempDir,
}

impl Guest {
    /// Builds and loads an app of the workspace.
    pub(crate) fn new(name: &str, folder: &Path) -> Result<Self> {
        let wasm = std::fs::read(guests::build(name)?)?;
        let text = std::fs::read_to_string(folder.join("app.toml"))?;
        let manifest = match Manifest::parse(&text) {
            Ok(manifest) => manifest,
            Err(problems) => bail!("{}: {problems:?}", folder.display()),
        };
        let cache = tempfile::tempdir()?;
        let sandbox = Sandbox::new(SandboxConfig::new(cache.path().to_owned(), server::binary()?))?;
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
        // More than the manifest asks for: an invocation that meets a limit would end the measurement.
        let limits =
            Limits { memory: Limits::MAX_MEMORY, cpu: 10_000_000_000, state: 1 << 40, ..Limits::default() };
        let app = runtime.block_on(async {
            let wasm = Bytes::from(wasm);
            let inspection = sandbox.compile(wasm.clone()).await?;
            let (declared, memory) = (manifest.declared(), limits.memory);
            let loaded = sandbox.load(&inspection.compiled, move || Ok(wasm), declared, memory).await?;
            anyhow::Ok(loaded.app)
        })?;
        let memory = Arc::new(Memory::of(&manifest));
        let context = Arc::new(context(&manifest, limits));
        Ok(Self { sandbox, app, context, memory, runtime, calls: 0, peak: 0, _folder: cache })
    }

    /// Calls it for a batch, and keeps what it did.
    pub(crate) fn consume(&mut self, batch: &Batch) -> Result<()> {
        self.calls += 1;
        let mut seed = [0; 32];
        seed[..8].copy_from_slice(&self.calls.to_le_bytes());
        let now = batch.frames.iter().flat_map(|frame| frame.at.last()).max();
        let env = Env {
            id: format!("1-{}", self.calls),
            now: Timestamp(now.copied().unwrap_or_default()),
            seed,
            gaps: Vec::new(),
            context: Arc::clone(&self.context),
            state: Arc::clone(&self.memory) as _,
            state_bytes: 0,
            outputs: Arc::clone(&self.memory) as _,
            holdings: Arc::clone(&self.memory) as _,
            interrupt: ironloom_sandbox::Interrupt::default(),
            used: 0,
        };
        let report = self.runtime.block_on(self.sandbox.invoke(&self.app, Call::Readings(batch), env));
        ensure!(report.outcome == Outcome::Ok, "the app ended with {}", report.outcome);
        self.peak = self.peak.max(report.peak_memory);
        self.memory.keep(report.effects)
    }

    /// The most bytes of memory and tables that a call had.
    pub(crate) fn peak(&self) -> u64 {
        self.peak
    }

    /// Forgets all state, alarms and points.
    pub(crate) fn reset(&self) {
        *self.memory.state.write() = empty();
        *self.memory.targets.write() = Targets::new(self.context.outputs.len());
        self.memory.alarms.write().clear();
    }

    /// The state, by key.
    pub(crate) fn state(&self) -> BTreeMap<String, Vec<u8>> {
        let all = StateCache::changes(&self.memory.state, "", None, usize::MAX).entries.into_iter();
        all.filter_map(|(key, value)| Some((key.into_string(), value?.to_vec()))).collect()
    }
}

fn context(manifest: &Manifest, limits: Limits) -> AppContext {
    let output = |output: &manifest::Output| OutputSlot {
        name: output.name.clone(),
        kind: match output.kind {
            manifest::OutputKind::Derived => OutputKind::Derived,
            manifest::OutputKind::SetPoint => OutputKind::SetPoint,
        },
        value_type: output.value_type.tag(),
    };
    AppContext {
        outputs: manifest.outputs.iter().map(output).collect(),
        alarms: manifest.alarms.iter().map(|alarm| alarm.name.clone()).collect(),
        timers: manifest.timers.iter().map(|timer| timer.name.clone()).collect(),
        settings: Arc::new(
            manifest
                .settings
                .iter()
                .filter_map(|setting| Some((setting.name.to_string(), setting.default.clone()?)))
                .collect(),
        ),
        limits,
    }
}

/// No checkpoint ever folds what an app writes here.
const STRETCH: Stretch = Stretch(1);

fn empty() -> StateCache {
    StateCache::of_new_generation(&CacheBudget::new(usize::MAX))
}

/// What is around the app.
struct Memory {
    state: RwLock<StateCache>,
    targets: RwLock<Targets>,
    points: AtomicU32,
    alarms: RwLock<hashbrown::HashSet<AlarmKey>>,
}

impl Memory {
    fn of(manifest: &Manifest) -> Self {
        Self {
            state: RwLock::new(empty()),
            targets: RwLock::new(Targets::new(manifest.outputs.len())),
            points: AtomicU32::new(0),
            alarms: RwLock::default(),
        }
    }

    fn keep(&self, effects: Effects) -> Result<()> {
        self.state.write().apply(STRETCH, &effects.state);
        let mut alarms = self.alarms.write();
        for AlarmChange { key, act } in effects.alarms {
            match act {
                AlarmAct::Raise { .. } => alarms.insert(key),
                AlarmAct::Clear { .. } => alarms.remove(&key),
            };
        }
        let first = effects.refused.first();
        ensure!(first.is_none(), "the app refused a reading: {first:?}");
        Ok(())
    }
}

impl StateReader for Memory {
    fn cached(&self, keys: &Keys, from: usize, show: &mut dyn FnMut(usize, Cached<'_>) -> bool) {
        let state = self.state.read();
        let mut sought = Vec::with_capacity(AT_ONCE.min(keys.len()));
        for begin in (from..keys.len()).step_by(AT_ONCE) {
            let end = (begin + AT_ONCE).min(keys.len());
            state.seek((begin..end).map(|place| keys.get(place)), &mut sought);
            for (place, sought) in (begin..end).zip(&sought) {
                let (found, spot) = state.at(sought, keys.get(place));
                let value = match found {
                    Lookup::Value(value) => Some(value),
                    Lookup::Absent | Lookup::AskStore(_) => None,
                };
                if !show(place, Cached::Known(value, spot)) {
                    return;
                }
            }
        }
    }

    fn load<'a>(
        &'a self,
        _: &'a [Box<str>],
        _: &'a Meter,
    ) -> BoxFuture<'a, Result<Vec<Option<Bytes>>, ReadError>> {
        Box::pin(async { Err(HostFault("all state is in memory".to_owned()).into()) })
    }

    fn scan<'a>(&'a self, _: Scan<'a>, _: &'a Meter) -> BoxFuture<'a, Result<StatePage, ReadError>> {
        Box::pin(async { Err(HostFault("nothing that is measured lists its state".to_owned()).into()) })
    }
}

impl OutputResolver for Memory {
    fn known(&self, entity: &str, points: &mut Vec<Option<PointNumber>>) {
        self.targets.read().of(entity, points);
    }

    fn resolve(&self, output: usize, entity: &str) -> Result<Target, UnknownEntity> {
        let number = PointNumber(self.points.fetch_add(1, Ordering::Relaxed));
        self.targets.write().note(entity, output, number);
        Ok(Target::Known(number))
    }

    fn room(&self) -> PointRoom {
        PointRoom { own: u64::MAX, limit: u64::MAX, site: u64::MAX }
    }
}

impl Holdings for Memory {
    fn alarm(&self, key: &AlarmKey) -> Option<usize> {
        self.alarms.read().contains(key).then_some(ALARM_BYTES)
    }

    fn alarms(&self) -> AlarmRoom {
        let count = self.alarms.read().len();
        AlarmRoom { count, bytes: count * ALARM_BYTES, limit: MAX_ALARMS_BYTES }
    }

    fn has_timer(&self, _: &str) -> bool {
        false
    }

    fn timers(&self) -> usize {
        0
    }
}
