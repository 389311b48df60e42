//! Changed keys in front of a store, with checkpoints in between.

use std::collections::BTreeMap;
use std::sync::Arc;

use bytes::Bytes;
use proptest::prelude::*;

use crate::fold::overlay::{Changes, Overlay};
use ironloom_storage::store::{self, Change, EngineKind, Item, Key, KeyKind, KeyRange, Stretch};
use ironloom_types::ids::{Epoch, Generation};

#[derive(Clone, Debug)]
enum Step {
    Set(Vec<(u8, Option<u8>)>),
    /// Ends a stretch.
    End,
    /// Begins a checkpoint of the oldest stretch, or of all that have ended.
    Freeze {
        all: bool,
    },
    /// The frozen changes are in the store; with `end` the checkpoint ends, too.
    Write {
        end: bool,
    },
    Get(u8),
    Scan {
        generation: u8,
        after: Option<u8>,
        limit: usize,
    },
}

fn step() -> impl Strategy<Value = Step> {
    prop_oneof![
        6 => prop::collection::vec((0..40u8, prop::option::weighted(0.6, any::<u8>())), 1..8).prop_map(Step::Set),
        3 => Just(Step::End),
        2 => any::<bool>().prop_map(|all| Step::Freeze { all }),
        2 => any::<bool>().prop_map(|end| Step::Write { end }),
        2 => (0..40u8).prop_map(Step::Get),
        4 => (0..4u8, prop::option::of(0..40u8), 1..12usize)
            .prop_map(|(generation, after, limit)| Step::Scan { generation, after, limit }),
    ]
}

/// Keys of three generations, one beside the other.
fn key(number: u8) -> Key {
    Item::DeadLetter(Generation(u64::from(number / 16)), u64::from(number % 16)).key()
}

proptest! {
    #![proptest_config(ironloom_mutate::cases(64))]

    #[test]
    fn what_is_read_is_what_was_written_last(steps in prop::collection::vec(step(), 1..60)) {
        let folder = tempfile::tempdir().unwrap();
        let storage = store::open(EngineKind::Redb, folder.path(), 4 << 20).unwrap();
        let overlay = Overlay::new(Arc::clone(&storage));
        let mut model: BTreeMap<Key, Bytes> = BTreeMap::new();
        let (mut stretch, mut folded, mut frozen): (u64, u64, Option<(Stretch, Arc<Changes>)>) = (1, 0, None);
        for step in steps {
            match step {
                Step::Set(changes) => {
                    let changes = changes.into_iter().map(|(number, value)| (key(number), value.map(|value| Bytes::from(vec![value]))));
                    let changes: Vec<_> = changes.collect();
                    for (key, value) in &changes {
                        match value {
                            Some(value) => model.insert(key.clone(), value.clone()),
                            None => model.remove(key),
                        };
                    }
                    overlay.apply(changes);
                }
                Step::End => {
                    overlay.end(Stretch(stretch));
                    stretch += 1;
                }
                Step::Freeze { all } if frozen.is_none() && folded + 1 < stretch => {
                    let through = Stretch(if all { stretch - 1 } else { folded + 1 });
                    frozen = Some((through, overlay.through(through)));
                }
                Step::Freeze { .. } => {}
                Step::Write { end } => {
                    let Some((through, changes)) = &frozen else { continue };
                    let changes = changes.iter().map(|(key, value)| Change { key: key.clone(), value: value.clone() });
                    let _ = storage.apply(changes.collect(), Epoch(1)).unwrap();
                    if end {
                        overlay.folded(*through);
                        folded = through.0;
                        frozen = None;
                    }
                }
                Step::Get(number) => {
                    let found = overlay.get(&key(number)).unwrap();
                    prop_assert_eq!(found.as_ref(), model.get(&key(number)));
                }
                Step::Scan { generation, after, limit } => {
                    let range = KeyRange::generation(KeyKind::DeadLetter, Generation(u64::from(generation)));
                    for range in [range.clone(), range.reversed()] {
                        let mut after = after.map(key);
                        loop {
                            let is_behind = |key: &Key| match &after {
                                Some(after) if range.is_reversed() => key < after,
                                Some(after) => key > after,
                                None => true,
                            };
                            let all = range.in_order(model.iter());
                            let behind = all.filter(|(key, _)| range.contains(key) && is_behind(key));
                            let expected: Vec<_> = behind.map(|(key, value)| (key.clone(), value.clone())).collect();
                            let (page, more) = overlay.scan(&range, after.as_ref(), limit).unwrap();
                            prop_assert_eq!(&page[..], &expected[..expected.len().min(limit)]);
                            prop_assert!(more || page.len() == expected.len());
                            if !more {
                                break;
                            }
                            after = page.last().map(|(key, _)| key.clone()).or(after);
                        }
                    }
                }
            }
        }
    }
}

#[test]
fn a_key_that_is_written_again_takes_no_more_room() {
    let folder = tempfile::tempdir().unwrap();
    let overlay = Overlay::new(store::open(EngineKind::Redb, folder.path(), 4 << 20).unwrap());
    overlay.apply([(key(1), Some(Bytes::from_static(b"0123456789")))]);
    let once = overlay.bytes();
    for _ in 0..100 {
        overlay.apply([(key(1), Some(Bytes::from_static(b"9876543210")))]);
    }
    assert_eq!(overlay.bytes(), once);
    overlay.apply([(key(1), None)]);
    assert_eq!(overlay.bytes(), once - 10);
    overlay.end(Stretch(1));
    assert_eq!(overlay.bytes(), once - 10, "it waits for its checkpoint");
    overlay.apply([(key(1), None)]);
    assert!(overlay.bytes() > once - 10, "and for that of the next stretch");
    overlay.folded(Stretch(1));
    overlay.end(Stretch(2));
    overlay.folded(Stretch(2));
    assert_eq!(overlay.bytes(), 0);
}
