//! One suite for both engines: whatever is done to a store, it holds what a plain map would.

use std::collections::BTreeMap;
use std::fs::File;

use proptest::prelude::*;

use super::keys::items;
use super::*;
use crate::folders::testing::{folder_on_a_disk, is_cached, not_tested};
use ironloom_types::ids::{Epoch, Generation};

#[derive(Clone, Debug)]
enum Step {
    /// Which keys of the pool to set to how many bytes, or to delete.
    Apply(Vec<(prop::sample::Index, Option<usize>)>),
    /// The same, in the name of an epoch below the store's.
    Fenced(Vec<(prop::sample::Index, Option<usize>)>),
    NewEpoch,
    Reopen,
    Get(Vec<prop::sample::Index>),
    /// All of a range, page by page of so many.
    Scan(Range, usize),
}

#[derive(Clone, Debug)]
enum Range {
    Everything,
    /// That of the kind of this key.
    KeyKind(prop::sample::Index),
    Generation(prop::sample::Index),
    State(prop::sample::Index, usize),
}

fn lengths() -> impl Strategy<Value = usize> {
    prop_oneof![
        8 => 0..200_usize,
        1 => (32 << 10) - 20..(32 << 10) + 20_usize,
        1 => prop::sample::select(vec![(64 << 10) - 4, 100_000, 256 << 10, 700_000]),
    ]
}

fn changes() -> impl Strategy<Value = Vec<(prop::sample::Index, Option<usize>)>> {
    prop::collection::vec((any::<prop::sample::Index>(), prop::option::weighted(0.7, lengths())), 0..12)
}

fn ranges() -> impl Strategy<Value = Range> {
    prop_oneof![
        Just(Range::Everything),
        any::<prop::sample::Index>().prop_map(Range::KeyKind),
        any::<prop::sample::Index>().prop_map(Range::Generation),
        (any::<prop::sample::Index>(), 0..4_usize).prop_map(|(key, length)| Range::State(key, length)),
    ]
}

fn steps() -> impl Strategy<Value = Vec<Step>> {
    let step = prop_oneof![
        6 => changes().prop_map(Step::Apply),
        1 => changes().prop_map(Step::Fenced),
        1 => Just(Step::NewEpoch),
        1 => Just(Step::Reopen),
        3 => prop::collection::vec(any::<prop::sample::Index>(), 0..80).prop_map(Step::Get),
        4 => (ranges(), 1..80_usize).prop_map(|(range, limit)| Step::Scan(range, limit)),
    ];
    prop::collection::vec(step, 1..25)
}

/// Keys among which changes fall, so that they meet: half of them state of two generations.
fn pool() -> impl Strategy<Value = Vec<Key>> {
    let state = (1..3_u64, "[ab\0ÿ]{0,4}")
        .prop_map(|(generation, text)| Item::State(Generation(generation), &text).key());
    let any = items().prop_map(|owned| owned.item().key());
    // The store itself writes these two.
    let any = any.prop_filter("not the store's own", |key| *key != Key::format() && *key != Key::epoch());
    prop::collection::vec(prop_oneof![state, any], 2..40)
}

impl Range {
    fn of(&self, pool: &[Key]) -> KeyRange {
        match self {
            Self::Everything => KeyRange::everything(),
            Self::KeyKind(key) => {
                let item = key.get(pool).parse().unwrap();
                KeyRange::tenant(item.kind(), item.tenant())
            }
            Self::Generation(key) => match key.get(pool).parse().unwrap() {
                Item::State(generation, _) => KeyRange::generation(KeyKind::State, generation),
                item => KeyRange::all(item.kind()),
            },
            Self::State(key, length) => match key.get(pool).parse().unwrap() {
                Item::State(generation, text) => {
                    let prefix: String = text.chars().take(*length).collect();
                    KeyRange::state(generation, &prefix)
                }
                item => KeyRange::all(item.kind()),
            },
        }
    }
}

struct Run {
    kind: EngineKind,
    folder: tempfile::TempDir,
    store: Option<Arc<dyn Storage>>,
    model: BTreeMap<Key, Bytes>,
    epoch: Epoch,
    seed: u64,
}

impl Run {
    fn new(kind: EngineKind) -> Self {
        let folder = tempfile::tempdir().unwrap();
        let store = Some(open_in(kind, folder.path()));
        Self { kind, folder, store, model: BTreeMap::new(), epoch: Epoch(1), seed: 0 }
    }

    fn store(&self) -> &Arc<dyn Storage> {
        self.store.as_ref().unwrap()
    }

    fn make(&mut self, pool: &[Key], changes: &[(prop::sample::Index, Option<usize>)]) -> Vec<Change> {
        let make = |(key, length): &(prop::sample::Index, Option<usize>)| {
            self.seed += 1;
            Change { key: key.get(pool).clone(), value: length.map(|length| bytes(self.seed, length)) }
        };
        changes.iter().map(make).collect()
    }

    fn step(&mut self, pool: &[Key], step: &Step) {
        match step {
            Step::Apply(changes) => {
                let changes = self.make(pool, changes);
                for Change { key, value } in changes.clone() {
                    match value {
                        Some(value) => self.model.insert(key, value),
                        None => self.model.remove(&key),
                    };
                }
                assert_eq!(self.store().apply(changes, self.epoch).unwrap(), Applied::Done);
                assert_eq!(self.store().epoch(), self.epoch);
            }
            Step::Fenced(changes) => {
                let changes = self.make(pool, changes);
                let before = Epoch(self.store().epoch().0.saturating_sub(1));
                if before < self.store().epoch() {
                    assert_eq!(self.store().apply(changes, before).unwrap(), Applied::Fenced);
                }
            }
            Step::NewEpoch => {
                self.epoch = self.epoch.next();
                assert_eq!(self.store().apply(Vec::new(), self.epoch).unwrap(), Applied::Done);
            }
            Step::Reopen => {
                let before = self.store().epoch();
                self.store = None;
                self.store = Some(open_in(self.kind, self.folder.path()));
                assert_eq!(self.store().epoch(), before);
            }
            Step::Get(keys) => {
                let keys: Vec<Key> = keys.iter().map(|key| key.get(pool).clone()).collect();
                let expected: Vec<_> = keys.iter().map(|key| self.model.get(key).cloned()).collect();
                assert!(self.store().get_many(&keys).unwrap() == expected, "{keys:?}");
            }
            Step::Scan(range, limit) => self.scan(&range.of(pool), *limit),
        }
    }

    fn scan(&self, range: &KeyRange, limit: usize) {
        self.scan_one_way(range, limit);
        self.scan_one_way(&range.clone().reversed(), limit);
    }

    fn scan_one_way(&self, range: &KeyRange, limit: usize) {
        let mut found: Vec<(Key, Bytes)> = Vec::new();
        loop {
            let after = found.last().map(|(key, _)| key);
            let page = self.store().scan(range, after, limit).unwrap();
            assert!(page.entries.len() <= limit, "{} entries", page.entries.len());
            assert!(!page.entries.is_empty() || !page.more, "a page must get on");
            found.extend(page.entries);
            if !page.more {
                break;
            }
        }
        found.retain(|(key, _)| *key != Key::format() && *key != Key::epoch());
        let expected = range.in_order(self.model.iter()).filter(|(key, _)| range.contains(key));
        let expected: Vec<_> = expected.map(|(key, value)| (key.clone(), value.clone())).collect();
        assert_eq!(keys_of(&found), keys_of(&expected));
        assert!(found == expected, "keys agree, values don't");
    }
}

fn keys_of(entries: &[(Key, Bytes)]) -> Vec<&Key> {
    entries.iter().map(|(key, _)| key).collect()
}

fn run(kind: EngineKind, pool: &[Key], steps: &[Step]) {
    let mut run = Run::new(kind);
    for step in steps {
        run.step(pool, step);
    }
    run.step(pool, &Step::Reopen);
    run.scan(&KeyRange::everything(), 7);
}

proptest! {
    #![proptest_config(ProptestConfig { max_shrink_iters: 300, ..ironloom_mutate::cases(32) })]

    #[test]
    fn sled_holds_what_a_map_would(pool in pool(), steps in steps()) {
        run(EngineKind::Sled, &pool, &steps);
    }

    #[test]
    fn redb_holds_what_a_map_would(pool in pool(), steps in steps()) {
        run(EngineKind::Redb, &pool, &steps);
    }
}

fn state(text: &str) -> Key {
    Item::State(Generation(1), text).key()
}

#[test]
fn large_checkpoints_and_large_answers_are_whole() {
    for kind in EngineKind::ALL {
        let folder = tempfile::tempdir().unwrap();
        let store = open_in(kind, folder.path());
        let changes: Vec<_> =
            (0..5_000_u64).map(|n| Change::set(state(&format!("{n:05}")), bytes(n, 50))).collect();
        let keys: Vec<_> = changes.iter().map(|change| change.key.clone()).collect();
        assert_eq!(store.apply(changes, Epoch(1)).unwrap(), Applied::Done);
        let values = store.get_many(&keys).unwrap();
        assert!((0..5_000).all(|n| values[n as usize] == Some(bytes(n, 50))));
        let page = store.scan(&KeyRange::all(KeyKind::State), Some(&keys[9]), 4_000).unwrap();
        assert_eq!((page.entries.len(), page.more), (4_000, true));
        assert_eq!(page.entries[0].0, keys[10]);
    }
}

#[test]
fn a_page_ends_when_it_is_large() {
    for kind in EngineKind::ALL {
        let folder = tempfile::tempdir().unwrap();
        let store = open_in(kind, folder.path());
        let changes = (0..10_u64).map(|n| Change::set(state(&n.to_string()), bytes(n, 256 << 10))).collect();
        assert_eq!(store.apply(changes, Epoch(1)).unwrap(), Applied::Done);
        let page = store.scan(&KeyRange::all(KeyKind::State), None, 10).unwrap();
        assert_eq!((page.entries.len(), page.more), (PAGE_BYTES / (256 << 10), true));
    }
}

#[test]
fn a_store_of_another_format_is_refused_by_name() {
    for kind in EngineKind::ALL {
        let folder = tempfile::tempdir().unwrap();
        for (format, words) in [(FORMAT + 1, "newer ironloom"), (FORMAT - 1, "an older one")] {
            let store = open_in_any(kind, folder.path());
            let value = format.to_le_bytes().to_vec();
            assert_eq!(
                store.apply(vec![Change::set(Key::format(), value)], Epoch(1)).unwrap(),
                Applied::Done
            );
            drop(store);
            let Err(error) = super::open(kind, folder.path(), 1 << 20) else {
                panic!("format {format} opened")
            };
            assert!(error.to_string().contains(words), "{error}");
            assert!(error.to_string().contains(&format!("format {format}")), "{error}");
            std::fs::remove_dir_all(folder.path().join(kind.name())).unwrap();
        }
    }
}

fn open_in_any(kind: EngineKind, folder: &Path) -> Arc<dyn Storage> {
    std::fs::create_dir_all(folder).unwrap();
    open_in(kind, folder)
}

#[test]
fn a_folder_with_a_store_of_the_other_engine_is_refused() {
    for (kind, other) in [(EngineKind::Sled, EngineKind::Redb), (EngineKind::Redb, EngineKind::Sled)] {
        let folder = tempfile::tempdir().unwrap();
        drop(open_in(kind, folder.path()));
        let Err(error) = super::open(other, folder.path(), 1 << 20) else { panic!("opened beside {kind:?}") };
        assert!(error.to_string().contains(&format!("holds a {} store", kind.name())), "{error}");
    }
}

#[test]
fn files_that_another_process_has_open_are_in_use() {
    for kind in EngineKind::ALL {
        let folder = tempfile::tempdir().unwrap();
        let _first = open_in_any(kind, folder.path());
        let second = super::open(kind, folder.path(), 8 << 20).err().unwrap();
        assert!(matches!(second, StoreError::InUse { .. }), "{second:?}");
        assert!(second.to_string().contains("is in use by another process"), "{second}");
    }
}

#[test]
fn the_engines_names_are_those_of_the_configuration() {
    for kind in EngineKind::ALL {
        assert_eq!(kind.name().parse::<EngineKind>().unwrap(), kind);
    }
    let unknown = "rocks".parse::<EngineKind>().unwrap_err();
    assert_eq!(unknown.to_string(), "\"rocks\" is not an engine; the engines are redb and sled");
}

/// Prints what a checkpoint costs: `cargo test --release cost_of -- --ignored --nocapture`.
#[test]
#[ignore = "a measurement"]
fn cost_of_a_checkpoint() {
    for kind in EngineKind::ALL {
        for keys in [10_000_u64, 1_000_000] {
            let folder = tempfile::tempdir().unwrap();
            let store = super::open(kind, folder.path(), 64 << 20).unwrap();
            for round in 0..4_u64 {
                let name = |n| format!("farm/barn-2/pig-{n:07}/weight");
                let changes =
                    (0..keys).map(|n| Change::set(state(&name(n)), bytes(round << 32 | n, 40))).collect();
                let (begin, cpu_begin) = (std::time::Instant::now(), cpu());
                assert_eq!(store.apply(changes, Epoch(1)).unwrap(), Applied::Done);
                let (wall, cpu) = (begin.elapsed(), cpu() - cpu_begin);
                let of_each = [wall, cpu].map(|time| time.as_nanos() / u128::from(keys));
                println!(
                    "{kind:?}, {keys} keys, round {round}: {} ns a key, {} of CPU, {} MiB resident",
                    of_each[0],
                    of_each[1],
                    resident()
                );
            }
            let names: Vec<_> =
                (0..50).map(|n| state(&format!("farm/barn-2/pig-{:07}/weight", n * keys / 50))).collect();
            let begin = std::time::Instant::now();
            assert!(store.get_many(&names).unwrap().iter().all(Option::is_some));
            println!("{kind:?}, {keys} keys: {:?} for 50 look-ups", begin.elapsed());
        }
    }
}

fn cpu() -> std::time::Duration {
    let time = rustix::time::clock_gettime(rustix::time::ClockId::ProcessCPUTime);
    std::time::Duration::try_from(time).unwrap()
}

fn resident() -> u64 {
    let status = std::fs::read_to_string("/proc/self/status").unwrap();
    let line = status.lines().find(|line| line.starts_with("VmRSS")).unwrap();
    line.split_whitespace().nth(1).unwrap().parse::<u64>().unwrap() / 1024
}

/// After a failed sync Linux takes for written what is in memory only. What a start would build on that, the
/// next loss of power would take away again.
#[test]
fn an_opening_reads_from_the_disk_and_not_from_what_the_system_remembers() {
    for kind in EngineKind::ALL {
        let folder = folder_on_a_disk();
        drop(open_in(kind, folder.path()));
        // A file that no engine reads, so that nothing brings it back into memory.
        let path = folder.path().join(kind.name()).join("beside");
        std::fs::write(&path, [7; 4096]).unwrap();
        let file = File::open(&path).unwrap();
        file.sync_all().unwrap();
        if is_cached(&file) != Some(true) {
            not_tested("that an opening reads from the disk");
            return;
        }
        drop(open_in(kind, folder.path()));
        assert_eq!(is_cached(&file), Some(false), "{kind:?}");
    }
}
