//! What is kept of invocations, how many keys that takes, and what is read back page by page.

use std::sync::atomic::{AtomicU64, Ordering};

use ironloom_storage::store::{self, Applied, Change, EngineKind};
use ironloom_types::clock::Timestamp;
use ironloom_types::ids::{Digest, Epoch, Revision, Sequence};

use super::*;
use crate::records::commit::{InvocationKind, OutcomeKind};

const GENERATION: Generation = Generation(7);

struct World {
    invocations: Invocations,
    stretch: AtomicU64,
    gone: AtomicU64,
    storage: Arc<dyn Storage>,
    _folder: tempfile::TempDir,
}

impl World {
    fn new() -> Self {
        let folder = tempfile::tempdir().unwrap();
        let storage = store::open(EngineKind::Redb, folder.path(), 1 << 20).unwrap();
        let invocations = Invocations::new(Arc::clone(&storage));
        Self { invocations, stretch: AtomicU64::new(1), gone: AtomicU64::new(0), storage, _folder: folder }
    }

    fn note(&self, ordinal: u64, attempt: u32) {
        self.invocations.note(GENERATION, invocation(ordinal, attempt));
    }

    /// Writes what was noted; returns how many keys that took.
    fn checkpoint(&self) -> usize {
        let stretch = Stretch(self.stretch.fetch_add(1, Ordering::Relaxed));
        self.invocations.end(stretch);
        let frozen = self.invocations.through(stretch);
        let mut changes = Vec::new();
        let mut gather = |key, value| -> Result<(), InvocationsError> {
            changes.push(Change { key, value });
            Ok(())
        };
        self.invocations.pages(&frozen, |_| Ordinal(self.gone.load(Ordering::Relaxed)), &mut gather).unwrap();
        let count = changes.len();
        assert_eq!(self.storage.apply(changes, Epoch(0)).unwrap(), Applied::Done);
        self.invocations.folded(stretch);
        count
    }

    fn list(&self, after: u64, last: u64, limit: usize) -> (Vec<(u64, u32)>, bool) {
        let (found, more) = self.invocations.list(GENERATION, Ordinal(after), Ordinal(last), limit).unwrap();
        (found.iter().map(|one| (one.ordinal.0, one.attempt)).collect(), more)
    }
}

fn invocation(ordinal: u64, attempt: u32) -> Invocation {
    Invocation {
        ordinal: Ordinal(ordinal),
        attempt,
        kind: InvocationKind::Readings,
        first: Sequence(1),
        last: Sequence(1),
        readings: 1,
        time: Timestamp(1),
        revision: Revision(1),
        outcome: OutcomeKind::Ok,
        message: None,
        digest: Digest([0; 32]),
    }
}

#[test]
fn many_take_few_keys_and_are_listed_in_order_from_store_and_memory() {
    let world = World::new();
    (1..=500).for_each(|ordinal| world.note(ordinal, 1));
    assert_eq!(world.checkpoint(), 2, "ordinals 1 to 255, and 256 to 500");
    (501..=600).for_each(|ordinal| world.note(ordinal, 1));
    let all: Vec<(u64, u32)> = (1..=600).map(|ordinal| (ordinal, 1)).collect();
    assert_eq!(world.list(0, 601, 1_000), (all.clone(), false));
    world.invocations.end(Stretch(2));
    assert_eq!(world.invocations.through(Stretch(2)).len(), 100);
    assert_eq!(world.list(0, 601, 1_000), (all.clone(), false), "while a checkpoint is under way");
    let (mut seen, mut after): (Vec<(u64, u32)>, u64) = (Vec::new(), 0);
    loop {
        let (page, more) = world.list(after, 601, 70);
        assert!(page.len() <= 70);
        seen.extend(&page);
        if !more {
            break;
        }
        after = page.last().unwrap().0;
    }
    assert_eq!(seen, all);
}

#[test]
fn a_page_of_the_list_has_all_attempts_of_an_ordinal_or_none() {
    let world = World::new();
    (1..=3).for_each(|attempt| world.note(1, attempt));
    (1..=2).for_each(|attempt| world.note(2, attempt));
    world.checkpoint();
    world.note(2, 3);
    world.note(3, 1);
    assert_eq!(world.list(0, 4, 4), (vec![(1, 1), (1, 2), (1, 3)], true));
    assert_eq!(world.list(1, 4, 2), (vec![(2, 1), (2, 2), (2, 3)], true), "more than asked for");
    assert_eq!(world.list(2, 4, 2), (vec![(3, 1)], false));
    assert_eq!(world.list(3, 4, 2), (vec![], false));
}

#[test]
fn the_same_again_changes_nothing() {
    let world = World::new();
    (1..=20).for_each(|ordinal| world.note(ordinal, 1));
    world.checkpoint();
    // A replay of the log after a checkpoint that was cut off.
    (10..=25).for_each(|ordinal| world.note(ordinal, 1));
    world.checkpoint();
    assert_eq!(world.list(0, 26, 100).0, (1..=25).map(|ordinal| (ordinal, 1)).collect::<Vec<_>>());
}

#[test]
fn old_ordinals_go_and_attempts_are_bounded() {
    let world = World::new();
    (1..=3).for_each(|ordinal| world.note(ordinal, 1));
    world.checkpoint();
    let pages = KEPT.div_ceil(PAGE);
    world.note(pages * PAGE - 1, 1);
    world.checkpoint();
    assert_eq!(world.list(0, pages * PAGE - 1, 10).0.len(), 4);
    world.note(pages * PAGE, 1);
    world.checkpoint();
    assert_eq!(world.list(0, pages * PAGE, 10).0, [(pages * PAGE - 1, 1), (pages * PAGE, 1)]);

    let world = World::new();
    for round in 0..4 {
        (1..=400).for_each(|attempt| world.note(1, round * 400 + attempt));
        world.checkpoint();
    }
    let kept = world.list(0, 1, 10).0;
    assert_eq!((kept.len(), kept.last()), (ENTRIES, Some(&(1, 1_600))));
}

#[test]
fn what_is_past_its_retention_is_left_out_and_its_pages_go() {
    let world = World::new();
    (1..=600).for_each(|ordinal| world.note(ordinal, 1));
    world.checkpoint();
    // Noted again by a restart after the record that drops the first 300.
    (100..=700).for_each(|ordinal| world.note(ordinal, 1));
    world.gone.store(300, Ordering::Relaxed);
    assert_eq!(world.checkpoint(), 2, "ordinals 301 to 511, and 512 to 700");
    let pages = |before, now| {
        let keys = emptied(GENERATION, Ordinal(before), Ordinal(now));
        keys.map(|key| match key.parse() {
            Some(Item::Invocation(GENERATION, first, _)) => first.0,
            other => panic!("{other:?}"),
        })
        .collect::<Vec<_>>()
    };
    assert_eq!((pages(0, 254), pages(0, 300), pages(300, 511)), (vec![], vec![0], vec![256]));
    assert_eq!((pages(511, 511), pages(0, 1 << 40).len()), (vec![], KEPT.div_ceil(PAGE) as usize + 1));
    let gone = pages(0, 300).into_iter().map(|first| Change::delete(key_of(GENERATION, first / PAGE)));
    assert_eq!(world.storage.apply(gone.collect(), Epoch(0)).unwrap(), Applied::Done);
    assert_eq!(world.list(0, 701, 1_000).0, (301..=700).map(|ordinal| (ordinal, 1)).collect::<Vec<_>>());
    let newest = |after, before, limit| {
        let found = world.invocations.newest(GENERATION, Ordinal(after), Ordinal(before), limit).unwrap();
        (found.0.iter().map(|one| one.ordinal.0).collect::<Vec<_>>(), found.1)
    };
    assert_eq!(newest(697, 701, 10), (vec![700, 699, 698], false));
    assert_eq!(newest(697, 701, 2), (vec![700, 699], true));
    assert_eq!(newest(697, 701, 3), (vec![700, 699, 698], false));
}

#[test]
fn a_long_message_is_cut_between_two_characters() {
    let world = World::new();
    let message = Some(format!("{}äöü", "x".repeat(MESSAGE - 1)).into());
    world.invocations.note(GENERATION, Invocation { message, ..invocation(1, 1) });
    let (found, _) = world.invocations.list(GENERATION, Ordinal(0), Ordinal(1), 1).unwrap();
    assert_eq!(found[0].message.as_deref(), Some("x".repeat(MESSAGE - 1).as_str()));
}
