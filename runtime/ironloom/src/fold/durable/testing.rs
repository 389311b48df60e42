//! The fold's changes to an installation, one by one, for tests that have no fold.

use super::*;

/// Begins an installation.
pub(crate) fn begin(number: u32, begin: Begin, entities: Arc<Entities>) -> Arc<Durable> {
    Arc::new(Durable::new(number, begin, entities, Arc::default()))
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
    durable.put_alarm(alarm);
}

/// Changes the book as no record does, for tests that begin in the middle.
pub(crate) fn change(durable: &Durable, change: impl FnOnce(&mut LaneMeta)) {
    change(&mut durable.book.lock().meta);
}

/// Sets a one-shot timer.
pub(crate) fn set_timer(durable: &Durable, name: &str, due: Timestamp) {
    durable.book.lock().timers.insert(name.into(), due);
}
