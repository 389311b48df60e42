//! The cache against a model: two plain maps, one of what is committed, one of what the store holds.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use proptest::prelude::*;

use super::*;
use ironloom_types::changes::{Spot, StateChanges};
use ironloom_types::page::{Page, merge_page};
use parking_lot::RwLock;

type Map = BTreeMap<String, Bytes>;

const FIRST: Stretch = Stretch(1);
const SECOND: Stretch = Stretch(2);

#[derive(Clone, Debug)]
enum Step {
    Commit(Vec<(usize, Option<usize>)>),
    Get(usize),
    /// Reads the store for a key, and fills the cache some steps later.
    Ask(usize),
    Fill(prop::sample::Index),
    /// Ends a stretch.
    End,
    /// Begins to fold: the oldest stretch, or all.
    Freeze(bool),
    /// Writes some of the keys that are folded to the store, and stops there.
    FoldPart(usize),
    Fold,
    Shrink(usize),
    /// All with a prefix, by pages; between changes and store the checkpoint goes on by so many keys.
    Scan(usize, usize, usize),
    Evict,
    Compact,
}

const KEYS: [&str; 10] = ["", "a", "a/1", "a/2", "a/23", "b", "b\0", "b\0c", "ÿ", "ÿÿ"];

fn steps() -> impl Strategy<Value = Vec<Step>> {
    let keys = 0..KEYS.len();
    let change = (keys.clone(), prop::option::weighted(0.6, 0..50_usize));
    let step = prop_oneof![
        6 => prop::collection::vec(change, 1..6).prop_map(Step::Commit),
        4 => keys.clone().prop_map(Step::Get),
        2 => keys.clone().prop_map(Step::Ask),
        2 => any::<prop::sample::Index>().prop_map(Step::Fill),
        2 => Just(Step::End),
        2 => any::<bool>().prop_map(Step::Freeze),
        1 => (0..5_usize).prop_map(Step::FoldPart),
        2 => Just(Step::Fold),
        2 => (0..2_000_usize).prop_map(Step::Shrink),
        3 => (keys, 1..5_usize, 0..4_usize).prop_map(|(prefix, limit, folds)| Step::Scan(prefix, limit, folds)),
        1 => Just(Step::Evict),
        1 => Just(Step::Compact),
    ];
    prop::collection::vec(step, 1..80)
}

struct Run {
    cache: StateCache,
    committed: Map,
    store: Map,
    stretch: Stretch,
    /// The stretch through which the last checkpoint has folded.
    folded: Stretch,
    /// The stretch through which the checkpoint under way folds.
    folding: Option<Stretch>,
    /// The stretches in which keys were written last that are not folded.
    dirty: BTreeMap<String, Stretch>,
    /// Those of them that were deleted and were nowhere before: a cache that knows that has no entry for them.
    nowhere: BTreeSet<String>,
    asked: Vec<(Ticket, String, Option<Bytes>)>,
    seed: u64,
    budget: Arc<CacheBudget>,
}

impl Run {
    fn new(store: Map, budget: usize) -> Self {
        let budget = CacheBudget::new(budget);
        let cache = match store.is_empty() {
            true => StateCache::of_new_generation(&budget),
            false => StateCache::of_stored_generation(&budget),
        };
        Self {
            cache,
            committed: store.clone(),
            store,
            stretch: Stretch(1),
            folded: Stretch(0),
            folding: None,
            dirty: BTreeMap::new(),
            nowhere: BTreeSet::new(),
            asked: Vec::new(),
            seed: 0,
            budget,
        }
    }

    fn step(&mut self, step: &Step) {
        match step {
            Step::Commit(changes) => self.commit(changes),
            Step::Get(key) => self.get(KEYS[*key]),
            Step::Ask(key) => {
                if let Lookup::AskStore(ticket) = self.cache.get(KEYS[*key]) {
                    self.asked.push((ticket, KEYS[*key].to_owned(), self.store.get(KEYS[*key]).cloned()));
                }
            }
            Step::Fill(which) if !self.asked.is_empty() => {
                let (ticket, key, value) = self.asked.remove(which.index(self.asked.len()));
                self.cache.fill(ticket, &key, value.as_deref());
            }
            Step::Fill(_) => {}
            Step::End => self.stretch.0 += 1,
            Step::Freeze(all) if self.folding.is_none() => {
                if *all || self.folded.0 + 1 == self.stretch.0 {
                    self.stretch.0 += 1;
                }
                let through = if *all { self.stretch.0 - 1 } else { self.folded.0 + 1 };
                self.folding = Some(Stretch(through));
            }
            Step::Freeze(_) => {}
            Step::FoldPart(keys) => self.fold_part(*keys),
            Step::Fold => self.fold(),
            Step::Shrink(bytes) => {
                while !self.cache.shrink_to(*bytes, 3) {}
                assert!(self.cache.bytes().clean <= *bytes);
            }
            Step::Evict => {
                assert!(self.cache.shrink_to(0, 100));
                assert_eq!(self.cache.bytes().clean, 0);
            }
            Step::Scan(prefix, limit, folds) => self.scan(KEYS[*prefix], *limit, *folds),
            Step::Compact => while !self.cache.compact(1) {},
        }
        assert_eq!(self.budget.clean(), self.cache.bytes().clean, "each clean byte counts once");
    }

    fn commit(&mut self, changes: &[(usize, Option<usize>)]) {
        // As in the effects of an invocation, each key occurs once.
        let mut effects: BTreeMap<Box<str>, Option<Bytes>> = BTreeMap::new();
        for (key, length) in changes {
            self.seed += 1;
            effects.insert(KEYS[*key].into(), length.map(|length| bytes(self.seed, length)));
        }
        self.apply(effects);
    }

    /// With a spot of each key that may be its own, another's or none.
    fn apply(&mut self, effects: BTreeMap<Box<str>, Option<Bytes>>) {
        let mut sought = Vec::new();
        self.cache.seek(effects.keys().map(|key| &**key), &mut sought);
        let mut changes = StateChanges::default();
        let mut before = 0;
        for ((key, value), sought) in effects.iter().zip(&sought) {
            let (found, spot) = self.cache.at(sought, key);
            assert_eq!(found, self.cache.get(key), "{key:?}: sought with others, and alone");
            self.seed += 1;
            let spot = if self.seed.is_multiple_of(3) { Spot(self.seed as u32 % 12) } else { spot };
            changes.push_row("", key, value.as_deref(), spot);
            before += self.committed_before(key);
        }
        let mut unknown = 0;
        let known = self.cache.costs(
            &changes,
            |_, value| value.len() as u64,
            |key| unknown += self.store.get(key).map_or(0, Bytes::len) as u64,
        );
        assert_eq!(known + unknown, before, "the bytes that are replaced");
        for (key, value) in &effects {
            let was_nowhere = self.nowhere.contains(&**key) || !self.dirty.contains_key(&**key);
            if value.is_none() && was_nowhere && !self.store.contains_key(&**key) {
                self.nowhere.insert(key.to_string());
            } else {
                self.nowhere.remove(&**key);
            }
            self.dirty.insert(key.to_string(), self.stretch);
            match value {
                Some(value) => self.committed.insert(key.to_string(), value.clone()),
                None => self.committed.remove(&**key),
            };
        }
        self.cache.apply(self.stretch, &changes);
    }

    fn committed_before(&self, key: &str) -> u64 {
        self.committed.get(key).map_or(0, Bytes::len) as u64
    }

    fn get(&mut self, key: &str) {
        let expected = self.committed.get(key);
        match self.cache.get(key) {
            Lookup::Value(value) => assert_eq!(Some(value), expected.map(|value| &value[..])),
            Lookup::Absent => assert_eq!(None, expected),
            Lookup::AskStore(ticket) => {
                let is_dirty = self.dirty.contains_key(key) && !self.nowhere.contains(key);
                assert!(!is_dirty, "{key:?} is dirty and was forgotten");
                assert_eq!(self.store.get(key), expected, "the store does not know {key:?}");
                let value = self.store.get(key).cloned();
                self.cache.fill(ticket, key, value.as_deref());
            }
        }
    }

    /// What the checkpoint under way still has to write.
    fn folding_changes(&self) -> BTreeMap<String, Option<Bytes>> {
        let Some(through) = self.folding else { return BTreeMap::new() };
        let mut changes = BTreeMap::new();
        // By parts, as a checkpoint asks for them.
        for from in (0..self.cache.places(through)).step_by(3) {
            let mut shown = Vec::new();
            self.cache.written(through, from, from + 3, |key, spot| shown.push((key.to_owned(), spot)));
            for (key, spot) in shown {
                // Some other entry's, as after it was given another slot.
                for spot in [spot, Spot(spot.0 + 1), Spot::NONE] {
                    let value = self.cache.value_written(through, spot, &key);
                    assert!(value.is_some(), "{key:?} was shown");
                    changes.entry(key.clone()).or_insert_with(Vec::new).extend(value);
                }
            }
        }
        let changes: BTreeMap<String, Option<Bytes>> = changes
            .into_iter()
            .map(|(key, values)| {
                assert!(values.len() == 3 && values.iter().all(|value| *value == values[0]), "{key:?} once");
                (key, values[0].clone())
            })
            .collect();
        let is_due = |key: &String| self.dirty.get(key).is_some_and(|written| *written <= through);
        assert!(changes.keys().all(is_due), "what was written through a stretch, and not later");
        let mut due = self.dirty.keys().filter(|key| is_due(key) && !self.nowhere.contains(*key));
        assert!(due.all(|key| changes.contains_key(key)), "and all of it");
        changes
    }

    fn fold_part(&mut self, keys: usize) {
        for (key, value) in self.folding_changes().into_iter().take(keys) {
            match value {
                Some(value) => self.store.insert(key, value),
                None => self.store.remove(&key),
            };
        }
    }

    fn fold(&mut self) {
        self.fold_part(usize::MAX);
        let Some(through) = self.folding.take() else { return };
        self.dirty.retain(|_, written| *written > through);
        self.nowhere.retain(|key| self.dirty.contains_key(key));
        self.folded = through;
        for key in KEYS.iter().filter(|key| !self.dirty.contains_key(**key)) {
            assert_eq!(
                self.store.get(*key),
                self.committed.get(*key),
                "{key:?}: the store has what is folded"
            );
        }
        drop(self.cache.folded(through));
        assert_eq!(self.cache.places(through), 0);
    }

    fn changes(&mut self, prefix: &str, after: Option<&str>, limit: usize) -> Changes {
        let cache =
            RwLock::new(std::mem::replace(&mut self.cache, StateCache::of_new_generation(&unbounded())));
        let changes = StateCache::changes(&cache, prefix, after, limit);
        self.cache = cache.into_inner();
        changes
    }

    fn scan(&mut self, prefix: &str, limit: usize, folds: usize) {
        let mut found = Map::new();
        let mut after: Option<String> = None;
        for page in 0.. {
            assert!(page < 50, "the scan goes on for ever");
            let changes = self.changes(prefix, after.as_deref(), limit);
            let may_be_stored = self.cache.may_be_stored();
            self.fold_part(folds);
            if folds == 3 {
                self.fold();
            }
            let behind =
                |key: &String| key.starts_with(prefix) && after.as_ref().is_none_or(|after| key > after);
            let mut stored = self.store.iter().filter(|(key, _)| may_be_stored && behind(key));
            let taken: Vec<(Box<str>, Bytes)> = stored
                .by_ref()
                .take(limit)
                .map(|(key, value)| (key.as_str().into(), value.clone()))
                .collect();
            let page = Page { entries: taken, more: stored.next().is_some() };
            let merged = merge_page(changes, page, limit);
            assert!(merged.entries.len() <= limit);
            for (key, value) in merged.entries {
                assert!(after.as_deref().is_none_or(|after| *key > *after), "{key:?} comes after {after:?}");
                found.insert(key.to_string(), value);
            }
            match merged.next {
                None => break,
                Some(next) => after = Some(next.into()),
            }
        }
        let expected: Map =
            self.committed.clone().into_iter().filter(|(key, _)| key.starts_with(prefix)).collect();
        assert_eq!(found, expected);
    }
}

fn stored() -> impl Strategy<Value = Map> {
    let entries = prop::collection::vec((prop::sample::select(KEYS.to_vec()), 0..50_usize), 0..8);
    prop_oneof![
        Just(Map::new()),
        entries.prop_map(|entries| {
            entries
                .into_iter()
                .map(|(key, length)| (key.to_owned(), bytes(length as u64 + 900, length)))
                .collect()
        })
    ]
}

proptest! {
    #![proptest_config(ironloom_mutate::cases(2_000))]

    #[test]
    fn the_cache_is_what_was_committed(
        stored in stored(),
        steps in steps(),
        budget in prop_oneof![Just(usize::MAX), 0..1_500_usize],
    ) {
        let mut run = Run::new(stored, budget);
        for step in &steps {
            run.step(step);
        }
        for key in KEYS {
            run.get(key);
        }
        for step in [Step::Fold, Step::Freeze(true), Step::Fold, Step::Evict] {
            run.step(&step);
        }
        assert_eq!(run.store, run.committed);
        assert_eq!(run.cache.bytes(), CacheBytes::default());
        for key in KEYS {
            run.get(key);
        }
    }
}

proptest! {
    #![proptest_config(ironloom_mutate::cases(1_000))]

    /// Commits and checkpoints go on while another thread puts the keys in order: between two of its steps
    /// anything may happen.
    #[test]
    fn keys_are_put_in_order_while_commits_and_checkpoints_go_on(steps in steps()) {
        let mut run = Run::new(Map::new(), usize::MAX);
        let mut order = crate::store::cache::Order::default();
        for step in &steps {
            match step {
                Step::Commit(_) | Step::End | Step::Freeze(_) | Step::Fold | Step::Evict | Step::Compact => {
                    run.step(step)
                }
                _ => drop(run.cache.gather(&mut order, 1)),
            }
        }
        while !run.cache.gather(&mut order, 2) {
            order.sort();
        }
        order.sort();
        let dirty: BTreeSet<String> = run.dirty.into_keys().collect();
        let found: BTreeSet<String> = order.sorted.keys().map(|key| key.to_string()).collect();
        prop_assert!(found.is_subset(&dirty), "{found:?} of {dirty:?}");
        prop_assert!(dirty.difference(&run.nowhere).all(|key| found.contains(key)), "{found:?} of {dirty:?}");
    }
}

fn unbounded() -> Arc<CacheBudget> {
    CacheBudget::new(usize::MAX)
}

fn value(text: &str) -> Option<Bytes> {
    Some(Bytes::copy_from_slice(text.as_bytes()))
}

fn one(key: &str, value: Option<Bytes>) -> StateChanges {
    [(key, value)].into_iter().collect()
}

#[test]
fn an_answer_of_the_store_from_before_a_fold_is_not_believed() {
    let mut cache = StateCache::of_stored_generation(&unbounded());
    let Lookup::AskStore(before) = cache.get("k") else { panic!("nothing is known yet") };
    cache.apply(FIRST, &one("k", value("new")));
    drop(cache.folded(FIRST));
    assert!(cache.shrink_to(0, 100));
    cache.fill(before, "k", Some(b"old"));
    assert!(matches!(cache.get("k"), Lookup::AskStore(_)));
}

#[test]
fn what_was_read_lately_stays_longest() {
    let keys = ["a", "b", "c", "d"];
    let mut stayed = 0;
    for read in keys {
        let mut cache = StateCache::of_new_generation(&unbounded());
        cache.apply(FIRST, &keys.map(|key| (key, value("x"))).into_iter().collect());
        drop(cache.folded(FIRST));
        let all = cache.bytes().clean;
        // After this none of the three left counts as read.
        assert!(cache.shrink_to(all * 3 / 4, 100));
        if matches!(cache.get(read), Lookup::Value(_)) {
            stayed += 1;
            assert!(cache.shrink_to(all / 4, 100));
            assert!(matches!(cache.get(read), Lookup::Value(_)), "{read} alone was read");
        }
    }
    assert_eq!(stayed, 3);
}

#[test]
fn a_new_generation_never_asks_the_store_until_something_was_evicted() {
    let mut cache = StateCache::of_new_generation(&unbounded());
    assert_eq!(cache.get("k"), Lookup::Absent);
    assert!(!cache.may_be_stored());
    cache.apply(FIRST, &one("k", value("v")));
    drop(cache.folded(FIRST));
    assert!(cache.may_be_stored());
    assert_eq!(cache.get("other"), Lookup::Absent);
    assert!(cache.shrink_to(0, 100));
    assert!(matches!(cache.get("other"), Lookup::AskStore(_)));
}

#[test]
fn a_delete_of_what_is_nowhere_changes_nothing() {
    let mut cache = StateCache::of_new_generation(&unbounded());
    cache.apply(FIRST, &one("k", None));
    assert_eq!((cache.bytes().dirty, cache.get("k")), (0, Lookup::Absent));
    // The store may be about to get it.
    cache.apply(FIRST, &one("k", value("1")));
    cache.apply(SECOND, &one("k", None));
    let mut written = Vec::new();
    cache.written(SECOND, 0, 9, |key, spot| written.push((key.to_owned(), spot)));
    let [(key, spot)] = &written[..] else { panic!("{written:?}") };
    assert_eq!((&**key, cache.value_written(SECOND, *spot, key)), ("k", Some(None)));
    // The store may hold it.
    let mut cache = StateCache::of_stored_generation(&unbounded());
    cache.apply(FIRST, &one("k", None));
    assert!(cache.bytes().dirty > 0);
    assert_eq!(cache.get("k"), Lookup::Absent);
}

#[test]
fn bytes_count_values_by_what_may_become_of_them() {
    let mut cache = StateCache::of_new_generation(&unbounded());
    cache.apply(FIRST, &one("key", value("12345")));
    let one_entry = cache.bytes().dirty;
    assert!(one_entry >= "key".len() + "12345".len());
    cache.apply(SECOND, &one("key", value("1234567")));
    assert_eq!(cache.bytes(), CacheBytes { dirty: one_entry + 2, clean: 0 });
    drop(cache.folded(FIRST));
    assert_eq!(cache.bytes(), CacheBytes { dirty: one_entry + 2, clean: 0 }, "it was written again");
    drop(cache.folded(SECOND));
    assert_eq!(cache.bytes(), CacheBytes { dirty: 0, clean: one_entry + 2 });
}

/// Has a cache ask for a key, and hands it the store's answer.
fn read(cache: &mut StateCache, key: &str, answer: Option<Bytes>) {
    if let Lookup::AskStore(ticket) = cache.get(key) {
        cache.fill(ticket, key, answer.as_deref());
    }
}

#[test]
fn what_is_only_read_stays_within_the_budget_without_any_checkpoint() {
    const BUDGET: usize = 1 << 20;
    for is_there in [false, true] {
        let budget = CacheBudget::new(BUDGET);
        let mut cache = StateCache::of_stored_generation(&budget);
        for n in 0..100_000_u64 {
            read(&mut cache, &format!("{n:0400}"), is_there.then(|| bytes(n, 40)));
            assert!(budget.clean() <= BUDGET, "{} bytes after {n} reads", budget.clean());
        }
        assert!(budget.clean() > BUDGET / 2, "the budget is used");
        let last = cache.get(&format!("{:0400}", 99_999));
        assert_eq!(
            matches!(last, Lookup::Value(_)),
            is_there,
            "values replace each other, absent keys don't"
        );
    }
}

#[test]
fn a_cache_has_its_share_whatever_another_one_keeps() {
    const BUDGET: usize = 1 << 20;
    let budget = CacheBudget::new(BUDGET);
    let mut greedy = StateCache::of_stored_generation(&budget);
    let mut modest = StateCache::of_stored_generation(&budget);
    for n in 0..20_000_u64 {
        read(&mut greedy, &format!("{n:0400}"), None);
    }
    let names: Vec<String> = (0..1_000).map(|n| format!("{n:0400}")).collect();
    for (n, name) in names.iter().enumerate() {
        read(&mut modest, name, Some(bytes(n as u64, 40)));
    }
    // 1,000 entries of a little more than half a kilobyte are a little more than its half.
    let kept = names.iter().filter(|name| matches!(modest.get(name), Lookup::Value(_))).count();
    assert!((850..1_000).contains(&kept), "{kept} of 1,000");
    assert!(modest.bytes().clean <= BUDGET / 2 && budget.clean() <= BUDGET / 2 * 3);
    drop(greedy);
    assert_eq!(budget.clean(), modest.bytes().clean, "what is gone counts no more");
    assert_eq!(budget.share(), BUDGET, "and has no share any more");
}

#[test]
fn free_slots_are_given_back_and_each_entry_is_found_afterwards() {
    let mut cache = StateCache::of_new_generation(&unbounded());
    let keys: Vec<String> = (0..1_000).map(|n| format!("k{n}")).collect();
    keys.iter().for_each(|key| cache.apply(FIRST, &one(key, value(key))));
    drop(cache.folded(FIRST));
    // Every tenth is dirty, from the first to the last slot.
    keys.iter().step_by(10).for_each(|key| cache.apply(SECOND, &one(key, value("new"))));
    assert!(!cache.is_sparse());
    assert!(cache.shrink_to(0, 10_000));
    assert!(cache.is_sparse());
    while !cache.compact(7) {}
    assert!(!cache.is_sparse());
    for (n, key) in keys.iter().enumerate() {
        match cache.get(key) {
            Lookup::Value(value) => assert_eq!((n % 10, value), (0, &b"new"[..])),
            other => assert!(n % 10 > 0 && matches!(other, Lookup::AskStore(_)), "{key}: {other:?}"),
        }
    }
    let mut written = BTreeSet::new();
    cache.written(SECOND, 0, cache.places(SECOND), |key, _| assert!(written.insert(key.to_owned())));
    assert_eq!(written, keys.iter().step_by(10).cloned().collect());
}

/// Prints what a look-up costs: `cargo test --release cost_of -- --ignored --nocapture`.
#[test]
#[ignore = "a measurement"]
fn cost_of_a_lookup_and_of_a_commit() {
    for keys in [10_000_u64, 1_000_000] {
        let mut cache = StateCache::of_new_generation(&unbounded());
        let names: Vec<String> = (0..keys).map(|n| format!("farm/barn-2/pig-{n:07}/weight")).collect();
        let commit = |cache: &mut StateCache| {
            let begin = std::time::Instant::now();
            for (n, name) in names.iter().enumerate() {
                cache.apply(FIRST, &one(name, Some(bytes(n as u64, 32))));
            }
            begin.elapsed().as_nanos() as u64 / keys
        };
        let (first, again) = (commit(&mut cache), commit(&mut cache));
        let begin = std::time::Instant::now();
        let (mut at, mut sum) = (1_u64, 0);
        for _ in 0..2_000_000 {
            at = at.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
            if let Lookup::Value(value) = cache.get(&names[(at >> 33) as usize % names.len()]) {
                sum += value.len();
            }
        }
        let get = begin.elapsed().as_nanos() / 2_000_000;
        let begin = std::time::Instant::now();
        let garbage = cache.folded(FIRST);
        let fold = begin.elapsed();
        drop(garbage);
        println!("{keys} keys: get {get} ns, commit {first} then {again} ns, fold {fold:?} ({sum})");
    }
}
