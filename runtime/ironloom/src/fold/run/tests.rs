//! When a checkpoint is wished for.

use super::*;
use crate::fold::tests::machine::open_folder;
use ironloom_storage::store::EngineKind;

/// Every count finds that it is time.
const AT_ONCE: Thresholds = Thresholds {
    log_bytes: 0,
    dirty_bytes: 1 << 30,
    cache_bytes: 1 << 20,
    at_least_every: Duration::from_secs(3600),
    at_stop: Duration::from_secs(3600),
};

#[test]
fn a_checkpoint_that_was_wished_for_is_not_wished_for_again_before_it_has_begun() {
    let folder = tempfile::tempdir().unwrap();
    let (_, opened) = open_folder(folder.path(), EngineKind::Redb, Arc::new(()));
    let (folded, applied, log) = (opened.fold.position, opened.position, opened.log.reader());
    let shared = Arc::clone(&opened.shared);
    let mut fold = Fold::new(opened.shared, opened.applier, log, folded, applied, AT_ONCE);
    let wished = || shared.wishes.take(Duration::ZERO).checkpoint;
    fold.count();
    assert!(wished());
    // The one who makes it has taken the wish, and groups come before its word to freeze.
    fold.count();
    assert!(!wished(), "another would follow at once, though nothing waits");
    drop(fold.freeze(None));
    fold.count();
    assert!(!wished(), "it is under way, and what it folds still counts");
    fold.folded();
    assert!(wished(), "it has ended, and again there is enough");
}

#[test]
fn what_is_to_be_purged_is_in_line_once() {
    let mut purging = Purging::default();
    purging.add(vec![Generation(2), Generation(7)]);
    purging.add(vec![Generation(7), Generation(3), Generation(2)]);
    let mut order = Vec::new();
    while let Some(first) = purging.first() {
        assert!(purging.has(first));
        order.push(first.0);
        purging.end_first();
        assert!(!purging.has(first));
    }
    assert_eq!(order, [2, 7, 3]);
}
