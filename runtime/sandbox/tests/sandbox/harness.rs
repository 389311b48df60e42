//! A sandbox with a folder of its own, and the surroundings of a call.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use bytes::Bytes;
use ironloom_sandbox::*;
use ironloom_types::changes::Spot;
use ironloom_types::clock::Timestamp;
use ironloom_types::effects::state_cost;
use ironloom_types::ids::{PointNumber, PointPath, SlotName, TenantId};
use ironloom_types::interfaces::Declared;
use ironloom_types::limits::Limits;
use ironloom_types::readings::{NewPoint, Tag};

use crate::guest::Guest;

/// Declares all there is to declare.
pub(crate) const ALL: Declared = Declared { schedule: true, outputs: true, alarms: true };
/// Memory of a trial.
pub(crate) const MEMORY: u64 = 32 << 20;

pub(crate) const NOON: Timestamp = Timestamp(1_780_000_000_000_000_000);

pub(crate) struct Bench {
    pub sandbox: Arc<Sandbox>,
    pub folder: tempfile::TempDir,
}

impl Bench {
    pub(crate) fn new() -> Self {
        Self::with_places(4)
    }

    pub(crate) fn with_places(places: u32) -> Self {
        Self::with(|config| SandboxConfig { places, ..config })
    }

    pub(crate) fn with(change: impl FnOnce(SandboxConfig) -> SandboxConfig) -> Self {
        let folder = tempfile::tempdir().unwrap();
        let config =
            SandboxConfig::new(folder.path().to_owned(), env!("CARGO_BIN_EXE_compile-worker").into());
        let config = change(SandboxConfig { places: 4, ..config });
        Self { sandbox: Arc::new(Sandbox::new(config).unwrap()), folder }
    }

    pub(crate) fn cached_files(&self) -> Vec<std::path::PathBuf> {
        std::fs::read_dir(self.folder.path()).unwrap().map(|entry| entry.unwrap().path()).collect()
    }

    pub(crate) async fn try_install(
        &self,
        wasm: Vec<u8>,
        declared: Declared,
    ) -> Result<Arc<LoadedApp>, String> {
        let wasm = Bytes::from(wasm);
        let inspection = self.sandbox.compile(wasm.clone()).await.map_err(|error| error.to_string())?;
        let loaded = self.sandbox.load(&inspection.compiled, || Ok(wasm), declared, MEMORY).await;
        loaded.map(|loaded| loaded.app).map_err(|error| error.to_string())
    }

    pub(crate) async fn install(&self, guest: &Guest) -> Arc<LoadedApp> {
        self.try_install(guest.build(), ALL).await.unwrap()
    }

    pub(crate) async fn consume(&self, app: &LoadedApp, batch: &Batch, env: Env) -> Report {
        self.sandbox.invoke(app, Call::Readings(batch), env).await
    }

    /// Installs a guest and lets it consume one small batch.
    pub(crate) async fn once(&self, guest: &Guest, env: Env) -> Report {
        let app = self.install(guest).await;
        self.consume(&app, &batch(3), env).await
    }
}

/// A batch of real readings of one input.
pub(crate) fn batch(readings: u32) -> Batch {
    let entities: Vec<String> = (0..readings.max(1)).map(|i| format!("barn-1/{i}")).collect();
    let frame = Frame {
        slot: "weight".to_owned(),
        entity: (0..readings).collect(),
        at: (0..readings).map(|i| NOON.0 + u64::from(i)).collect(),
        order: None,
        quality: None,
        values: Values::Reals((0..readings).map(|i| f64::from(i) + 0.5).collect()),
    };
    Batch { entities: entities.join("\n"), frames: vec![frame] }
}

/// State in a map; every second key is a miss in the cache.
#[derive(Default)]
pub(crate) struct State {
    pub map: BTreeMap<String, Bytes>,
    pub loads: AtomicUsize,
    pub fails: bool,
}

impl StateReader for State {
    fn cached(&self, keys: &Keys, from: usize, show: &mut dyn FnMut(usize, Cached<'_>) -> bool) {
        let cached = |key: &str| match key.len() % 2 {
            0 => Cached::Known(self.map.get(key).map(|value| &value[..]), Spot::NONE),
            _ => Cached::Unknown,
        };
        let _all = (from..keys.len()).all(|place| show(place, cached(keys.get(place))));
    }

    fn load<'a>(
        &'a self,
        keys: &'a [Box<str>],
        _: &'a Meter,
    ) -> BoxFuture<'a, Result<Vec<Option<Bytes>>, ReadError>> {
        self.loads.fetch_add(1, Ordering::SeqCst);
        Box::pin(async move {
            tokio::task::yield_now().await;
            if self.fails {
                return Err(HostFault("the disk is gone".to_owned()).into());
            }
            Ok(keys.iter().map(|key| self.map.get(&**key).cloned()).collect())
        })
    }

    fn scan<'a>(&'a self, scan: Scan<'a>, _: &'a Meter) -> BoxFuture<'a, Result<StatePage, ReadError>> {
        Box::pin(async move {
            let mut all = self.map.iter().filter(|(key, _)| {
                key.starts_with(scan.prefix) && scan.after.is_none_or(|after| key.as_str() > after)
            });
            let entries = all.by_ref().take(scan.limit);
            let entries = entries.map(|(key, value)| (key.as_str().into(), value.clone())).collect();
            Ok(StatePage { entries, more: all.next().is_some() })
        })
    }
}

/// State of which nothing is cached: each load asks the function, which gets the number of keys. There is
/// nothing to list.
pub(crate) struct Uncached<F>(pub F);

pub(crate) type Loading = BoxFuture<'static, Result<Vec<Option<Bytes>>, ReadError>>;

impl<F: Fn(usize) -> Loading + Send + Sync> StateReader for Uncached<F> {
    fn cached(&self, keys: &Keys, from: usize, show: &mut dyn FnMut(usize, Cached<'_>) -> bool) {
        let _all = (from..keys.len()).all(|place| show(place, Cached::Unknown));
    }

    fn load<'a>(&'a self, keys: &'a [Box<str>], _: &'a Meter) -> Loading {
        (self.0)(keys.len())
    }

    fn scan<'a>(&'a self, _: Scan<'a>, _: &'a Meter) -> BoxFuture<'a, Result<StatePage, ReadError>> {
        Box::pin(async { Ok(StatePage::default()) })
    }
}

/// No key is stored.
pub(crate) fn no_values(keys: usize) -> Loading {
    Box::pin(async move { Ok(vec![None; keys]) })
}

/// Binds `daily-gain` to `apps/test/daily-gain/ENTITY`, where `barn-1/0` is there already.
pub(crate) struct Outputs;

impl OutputResolver for Outputs {
    fn resolve(&self, output: usize, entity: &str) -> Result<Target, UnknownEntity> {
        assert_eq!(output, 0);
        if entity == "barn-1/0" {
            return Ok(Target::Known(PointNumber(7)));
        }
        let path = format!("apps/test/daily-gain/{entity}");
        let path = PointPath::new(TenantId::MAIN, &path).map_err(|error| UnknownEntity(error.to_string()))?;
        Ok(Target::New(NewPoint { path, unit: None }))
    }

    fn room(&self) -> PointRoom {
        PointRoom { own: 10_000, limit: 10_000, site: 750_000 }
    }
}

pub(crate) fn slot(name: &str) -> SlotName {
    SlotName::new(name).unwrap()
}

pub(crate) fn context() -> AppContext {
    AppContext {
        outputs: vec![
            OutputSlot { name: slot("daily-gain"), kind: OutputKind::Derived, value_type: Tag::Real },
            OutputSlot { name: slot("heating"), kind: OutputKind::SetPoint, value_type: Tag::Real },
        ],
        alarms: vec![slot("fever")],
        timers: vec![slot("morning")],
        settings: Arc::new(BTreeMap::from([("breed".to_owned(), "duroc".to_owned())])),
        limits: Limits::default(),
    }
}

pub(crate) fn env() -> Env {
    env_with(State::default(), Limits::default())
}

pub(crate) fn env_with(state: State, limits: Limits) -> Env {
    Env {
        id: "1-1".to_owned(),
        now: NOON,
        seed: [7; 32],
        gaps: Vec::new(),
        context: Arc::new(AppContext { limits, ..context() }),
        state_bytes: state.map.iter().map(|(key, value)| state_cost(key, value) as u64).sum(),
        state: Arc::new(state),
        outputs: Arc::new(Outputs),
        holdings: Arc::new(Nothing),
        used: 0,
        interrupt: Interrupt::default(),
    }
}
