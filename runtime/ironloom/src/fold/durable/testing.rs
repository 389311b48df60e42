//! The fold's changes to an installation, one by one, for tests that have no fold.

use super::*;
use ironloom_apps::routing::Entities;

/// Begins an installation, which has one revision.
pub(crate) fn begin(number: u32, begin: Begin, entities: Arc<Entities>) -> Arc<Durable> {
    let terms = begin.revisions.iter().map(|(revision, manifest)| Term {
        revision: Arc::new(revision.clone()),
        limits: revision.limits.clone(),
        manifest: Arc::clone(manifest),
        route: number,
        entities: Arc::clone(&entities),
    });
    let terms = Terms::new(terms.collect());
    Arc::new(Durable::new(number, begin, terms, Arc::default()))
}

/// Applies an invocation's record.
pub(crate) fn apply(durable: &Durable, head: CommitHead) {
    durable.apply(head);
}

/// Notes rows of a chunk that has just been routed.
pub(crate) fn note(durable: &Durable, chunk: &Arc<Chunk>, rows: &[RowNote]) {
    durable.note(chunk, rows);
}

/// Takes over an admin's decision.
pub(crate) fn stand(durable: &Durable, standing: Standing) {
    let installation = Installation { standing, ..Installation::clone(&durable.installation()) };
    let meta = durable.book().meta().clone();
    durable.stand(installation, meta);
}

/// Takes over an alarm that an admin has changed.
pub(crate) fn put_alarm(durable: &Durable, alarm: AlarmRecord) {
    let episodes = durable.book().meta().episodes;
    durable.put_alarm(alarm, episodes);
}

/// Changes the book as no record does, for tests that begin in the middle.
pub(crate) fn change(durable: &Durable, change: impl FnOnce(&mut LaneMeta)) {
    change(&mut durable.book.lock().meta);
}

/// Sets a one-shot timer.
pub(crate) fn set_timer(durable: &Durable, name: &str, due: Timestamp) {
    durable.book.lock().timers.insert(name.into(), OneShot { due, asked: due });
}
