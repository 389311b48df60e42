//! What a data folder lies on: a real disk with a real store, or simulated ones that lose what real ones may lose.

use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use tempfile::TempDir;

use super::cut::{Cut, Cuttable};
use super::model::REQUEST_KEYS;
use crate::fold::durable::Listener;
use crate::fold::open::{Disks, OpenConfig, OpenError, Opened, open};
use crate::telemetry::Metrics;
use ironloom_storage::Disk;
use ironloom_storage::journal::FILE_BYTES;
use ironloom_storage::log::{Config, LogError};
use ironloom_storage::store::{self, EngineKind};
use ironloom_storage::testing::{Random, SimDisk, SimStore};
use ironloom_types::clock::Source;

/// Small segments, so that checkpoints free some.
pub(in crate::fold) fn config() -> OpenConfig {
    let log =
        Config { segment_bytes: 256 << 10, max_bytes: 8 << 20, commit_reserve: 1 << 20, ..Config::default() };
    OpenConfig { log, clock: Source::Feed, request_keys: REQUEST_KEYS, block_file_bytes: FILE_BYTES }
}

/// Still smaller ones, and block files of few blocks. No thread writes by itself, so that a seed gives the same
/// history again.
fn simulated_config() -> OpenConfig {
    let small = config();
    let log = Config {
        segment_bytes: 12 << 10,
        spares: 0,
        max_spares: 2,
        idle_mark: Duration::from_secs(3600),
        ..small.log
    };
    OpenConfig { log, block_file_bytes: 2_000, ..small }
}

pub(in crate::fold) fn open_folder(
    folder: &Path,
    engine: EngineKind,
    listener: Arc<dyn Listener>,
) -> (Arc<Cuttable>, Opened) {
    open_folder_with(folder, engine, &config(), listener)
}

pub(in crate::fold) fn open_folder_with(
    folder: &Path,
    engine: EngineKind,
    config: &OpenConfig,
    listener: Arc<dyn Listener>,
) -> (Arc<Cuttable>, Opened) {
    let store = folder.join("store");
    std::fs::create_dir_all(&store).unwrap();
    let storage = Arc::new(Cuttable::new(store::open(engine, &store, 4 << 20).unwrap()));
    let disks = Disks::of_folder(folder, Arc::clone(&storage) as _, false).unwrap();
    let opened = open(disks, config, Arc::new(Metrics::default()), listener).unwrap();
    (storage, opened)
}

pub(in crate::fold) enum Machine {
    Real { folder: TempDir, engine: EngineKind },
    Simulated(Simulated),
}

/// Disks in memory, with a store on them.
pub(in crate::fold) struct Simulated {
    disk: SimDisk,
    store: Arc<SimStore>,
    random: Random,
}

impl Machine {
    pub(super) fn open(&mut self, listener: Arc<dyn Listener>) -> (Arc<Cuttable>, Opened) {
        match self {
            Self::Real { folder, engine } => open_folder(folder.path(), *engine, listener),
            Self::Simulated(simulated) => simulated.open(listener),
        }
    }

    /// Cuts the next checkpoint off.
    pub(super) fn cut(&mut self, cut: Cut, storage: &Cuttable) {
        match self {
            Self::Real { .. } => storage.cut(cut),
            Self::Simulated(simulated) => simulated.cut(cut),
        }
    }

    /// Says whether a cut that was arranged has come. A real store knows no other error.
    pub(super) fn was_cut(&self) -> bool {
        match self {
            Self::Real { .. } => true,
            Self::Simulated(simulated) => simulated.disk.failed(),
        }
    }

    /// Says whether an error of the log is what was arranged.
    pub(super) fn dies(&self) -> Box<dyn Fn() -> bool + Send> {
        match self {
            Self::Real { .. } => Box::new(|| false),
            Self::Simulated(Simulated { disk, .. }) => {
                let disk = disk.clone();
                Box::new(move || disk.failed())
            }
        }
    }

    /// The process ends, and perhaps the machine loses power.
    pub(super) fn end(&mut self, process: impl FnOnce() -> Result<(), LogError>) {
        match self {
            Self::Real { .. } => process().unwrap(),
            Self::Simulated(simulated) => {
                // In the middle of its last mark, or behind it.
                let lifetime = simulated.random.chance(2).then(|| simulated.random.below(3));
                if !simulated.disk.failed() {
                    simulated.disk.arrange(lifetime, None);
                }
                if let Err(error) = process() {
                    assert!(simulated.disk.failed(), "{error}");
                }
                simulated.lose();
            }
        }
    }
}

impl Simulated {
    pub(super) fn disk(&self) -> &SimDisk {
        &self.disk
    }

    pub(super) fn new(seed: u64) -> Self {
        let disk = SimDisk::new(seed);
        let store = Arc::new(SimStore::new(&disk, seed));
        Self { disk, store, random: Random::new(!seed) }
    }

    fn cut(&self, Cut { applies, changes }: Cut) {
        // A checkpoint has some fifteen operations, a third of them syncs.
        match applies {
            0 => self.disk.arrange(None, Some(changes as u64 % 6)),
            _ => self.disk.arrange(Some(changes as u64 % 18), None),
        }
    }

    fn lose(&mut self) {
        if self.random.chance(3) { self.disk.kill() } else { self.disk.power_cut() }
    }

    fn try_open(&self, storage: &Arc<Cuttable>, listener: Arc<dyn Listener>) -> Result<Opened, OpenError> {
        let disks = Disks {
            log: Arc::new(self.disk.clone()),
            journal: Arc::new(self.disk.folder("journal/")),
            store: Arc::clone(storage) as _,
        };
        open(disks, &simulated_config(), Arc::new(Metrics::default()), listener)
    }

    /// The name of the log's newest segment.
    pub(super) fn newest_segment(&self) -> String {
        let names = self.disk.list().unwrap();
        names.into_iter().filter(|name| name.ends_with(".log")).max().unwrap()
    }

    /// Why it can't be opened.
    pub(super) fn refusal(&self) -> OpenError {
        let storage = Arc::new(Cuttable::new(Arc::clone(&self.store) as _));
        self.try_open(&storage, Arc::new(())).err().unwrap()
    }

    /// Opens it, perhaps after starts that were cut off.
    fn open(&mut self, listener: Arc<dyn Listener>) -> (Arc<Cuttable>, Opened) {
        let storage = Arc::new(Cuttable::new(Arc::clone(&self.store) as _));
        while self.random.chance(2) {
            let failing_sync = self.random.chance(3).then(|| self.random.below(10));
            self.disk.arrange(Some(self.random.below(40)), failing_sync);
            if let Err(error) = self.try_open(&storage, Arc::new(())) {
                assert!(self.disk.failed(), "{error}");
            }
            self.lose();
        }
        let opened = self.try_open(&storage, listener).unwrap();
        (storage, opened)
    }
}
