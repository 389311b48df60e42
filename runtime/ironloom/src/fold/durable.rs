//! The half of an installation's lane that the log decides, and that a restart brings back. The fold alone
//! changes it; whoever runs invocations reads it, and keeps what belongs to this process elsewhere.

mod alarms;
#[cfg(test)]
pub(crate) mod testing;

use std::collections::BTreeMap;
use std::sync::Arc;

use arc_swap::ArcSwap;
use parking_lot::{Mutex, MutexGuard, RwLock};

use self::alarms::{Alarms, SiteAlarms};
use super::queue::{Queue, RowNote};
use super::slab::Slab;
use crate::records::admin::LaneDue;
use crate::records::commit::{AlarmRecord, CommitHead};
use crate::records::installation::{Installation, Revision, Standing};
use crate::records::lane::LaneMeta;
use ironloom_apps::manifest::Manifest;
use ironloom_apps::routing::Entities;
use ironloom_storage::journal::Chunk;
use ironloom_storage::store::StateCache;
use ironloom_types::clock::Timestamp;
use ironloom_types::effects::AlarmKey;
use ironloom_types::ids::{Generation, InstallationId, Sequence};

/// Notifications from the fold to whoever runs invocations. The fold waits for none of them.
pub(crate) trait Listener: Send + Sync {
    /// An installation is there. It is woken before the first thing is due.
    fn begun(&self, installation: &Arc<Durable>);
    /// Readings were noted for the installation of this number.
    fn noted(&self, number: u32);
    /// There is, or may be, something else to do for it: a timer is due, or an admin has decided.
    fn wake(&self, number: u32);
    /// An installation is gone.
    fn gone(&self, installation: &Durable);
}

/// Nobody runs invocations: a fold by itself, in tests.
impl Listener for () {
    fn begun(&self, _: &Arc<Durable>) {}
    fn noted(&self, _: u32) {}
    fn wake(&self, _: u32) {}
    fn gone(&self, _: &Durable) {}
}

/// The durable state of one generation of an installation.
pub(crate) struct Durable {
    /// Its place in the slab, and its number in the routing table.
    pub number: u32,
    pub id: InstallationId,
    /// The generation whose state it works on.
    pub generation: Generation,
    /// The revision it runs under.
    pub revision: Arc<Revision>,
    /// The app's manifest.
    pub manifest: Arc<Manifest>,
    /// The entities of its inputs, shared with the routing table.
    pub entities: Arc<Entities>,
    /// The notes that wait for it.
    pub queue: Mutex<Queue>,
    /// Its app's state, as of its last commit.
    pub state: RwLock<StateCache>,
    installation: ArcSwap<Installation>,
    book: Mutex<Book>,
}

/// The state that commits change, besides keys and queue. Only the fold can write it.
#[derive(Debug)]
pub(crate) struct Book {
    meta: LaneMeta,
    timers: BTreeMap<Box<str>, Timestamp>,
    alarms: Alarms,
    closed: bool,
}

/// The initial state of an installation.
pub(crate) struct Begin {
    pub installation: Installation,
    /// The revision it runs under.
    pub revision: Revision,
    /// The app's manifest.
    pub manifest: Arc<Manifest>,
    /// Where it begins.
    pub meta: LaneMeta,
    pub state: StateCache,
    /// The notes that wait for it.
    pub queue: Queue,
    pub timers: BTreeMap<Box<str>, Timestamp>,
    pub alarms: Vec<AlarmRecord>,
}

impl Durable {
    /// An installation at the place `number`; `site` counts the alarms of all.
    pub(super) fn new(number: u32, begin: Begin, entities: Arc<Entities>, site: Arc<SiteAlarms>) -> Self {
        let Begin { installation, revision, manifest, meta, state, queue, timers, alarms } = begin;
        Self {
            number,
            id: installation.id.clone(),
            generation: installation.generation,
            revision: Arc::new(revision),
            manifest,
            entities,
            queue: Mutex::new(queue),
            state: RwLock::new(state),
            installation: ArcSwap::from_pointee(installation),
            book: Mutex::new(Book { meta, timers, alarms: Alarms::new(site, alarms), closed: false }),
        }
    }

    /// The installation, as the admin's last change left it.
    pub(crate) fn installation(&self) -> Arc<Installation> {
        self.installation.load_full()
    }

    /// Reads the book. The fold waits for the guard.
    pub(crate) fn book(&self) -> MutexGuard<'_, Book> {
        self.book.lock()
    }

    /// Whether it is not to run: paused, quarantined or gone.
    pub(crate) fn is_stopped(&self) -> bool {
        if self.installation.load().standing != Standing::Running {
            return true;
        }
        let book = self.book.lock();
        book.closed || book.meta.quarantine.is_some()
    }

    /// Notes rows of a chunk that has just been routed. One that is stopped keeps no notes: it would hold
    /// records in memory for as long as nobody resumes it.
    pub(super) fn note(&self, chunk: &Arc<Chunk>, rows: &[RowNote]) {
        let is_stopped = self.is_stopped();
        let mut queue = self.queue.lock();
        queue.note(chunk, rows);
        if is_stopped {
            queue.forget_notes();
        }
    }

    /// Takes over what an invocation's record says.
    pub(super) fn apply(&self, head: CommitHead) {
        let cursor = head.meta.cursor;
        self.book.lock().apply(head);
        self.move_on(cursor);
    }

    /// Takes away what is dealt with. One that is stopped by the same record keeps no notes either.
    fn move_on(&self, cursor: Sequence) {
        let is_stopped = self.is_stopped();
        let mut queue = self.queue.lock();
        queue.advance(cursor);
        if is_stopped {
            queue.forget_notes();
        }
    }

    /// Takes over an admin's decision.
    pub(super) fn stand(&self, installation: Installation, meta: LaneMeta) {
        let cursor = meta.cursor;
        self.installation.store(Arc::new(installation));
        self.book.lock().meta = meta;
        self.move_on(cursor);
    }

    /// Takes over an alarm that an admin has changed.
    pub(super) fn put_alarm(&self, alarm: AlarmRecord) {
        self.book.lock().alarms.put(alarm);
    }

    /// Takes over how many dead letters are kept, and what they take.
    pub(super) fn set_dead_letters(&self, kept: u64, bytes: u64) {
        let meta = &mut self.book.lock().meta;
        (meta.dead_letters_kept, meta.dead_letter_bytes) = (kept, bytes);
    }

    /// Leaves a wrong future behind: time goes back to `to`, and what was due later is due as `due` says. Returns
    /// the bookkeeping after it.
    pub(super) fn leave_future(&self, to: Timestamp, due: Option<&LaneDue>) -> LaneMeta {
        let mut book = self.book.lock();
        book.meta.leave_future(to);
        if let Some(due) = due {
            book.meta.cron_due.clone_from(&due.cron);
            book.timers.extend(due.timers.iter().cloned());
        }
        book.meta.clone()
    }

    /// Ends it: no timer is due any more, and nothing waits. Returns the names of its alarms.
    pub(super) fn close(&self) -> Vec<AlarmKey> {
        self.queue.lock().forget_notes();
        let mut book = self.book.lock();
        book.closed = true;
        book.timers.clear();
        book.meta.cron_due.clear();
        book.alarms.take()
    }
}

impl Book {
    /// Cursor, counters and more, as of the last commit.
    pub(crate) fn meta(&self) -> &LaneMeta {
        &self.meta
    }

    /// One-shot timers that are set.
    pub(crate) fn timers(&self) -> &BTreeMap<Box<str>, Timestamp> {
        &self.timers
    }

    /// Alarms that stand, or wait for somebody.
    pub(crate) fn alarms(&self) -> &BTreeMap<AlarmKey, AlarmRecord> {
        self.alarms.all()
    }

    /// The bytes that all these alarms count.
    pub(crate) fn alarms_bytes(&self) -> usize {
        self.alarms.bytes()
    }

    /// The bytes that those count which stand.
    pub(crate) fn standing_alarms_bytes(&self) -> usize {
        self.alarms.standing_bytes()
    }

    /// The bytes that its alarms may count now.
    pub(crate) fn alarms_limit(&self) -> usize {
        self.alarms.limit()
    }

    /// Alarms that only wait for somebody, those that were cleared longest ago first.
    pub(crate) fn waiting_alarms(&self) -> impl Iterator<Item = (&AlarmKey, &AlarmRecord)> {
        self.alarms.waiting()
    }

    /// Whether the installation is gone.
    pub(crate) fn is_closed(&self) -> bool {
        self.closed
    }

    /// The earliest time after this one at which a timer is due.
    pub(crate) fn next_due_after(&self, time: Timestamp) -> Option<Timestamp> {
        let repeating = self.meta.cron_due.iter().map(|(_, due)| *due);
        repeating.chain(self.timers.values().copied()).filter(|due| *due > time).min()
    }

    /// The one rule by which a commit changes the book.
    fn apply(&mut self, head: CommitHead) {
        for (name, due) in head.timers {
            match due {
                Some(due) => self.timers.insert(name, due),
                None => self.timers.remove(&name),
            };
        }
        for alarm in head.alarms {
            self.alarms.put(alarm);
        }
        self.meta = head.meta;
    }
}

/// The installations that there are; the fold's thread adds and removes them, and everybody looks them up.
#[derive(Default)]
pub(crate) struct Durables {
    slab: RwLock<Slab<Durable>>,
    alarms: Arc<SiteAlarms>,
}

impl Durables {
    /// What the alarms of all installations count.
    pub(super) fn alarms(&self) -> Arc<SiteAlarms> {
        Arc::clone(&self.alarms)
    }

    /// The number that the next installation gets.
    pub(super) fn free_number(&self) -> u32 {
        self.slab.read().free_number()
    }

    /// Puts an installation into its place.
    pub(super) fn insert(&self, durable: Arc<Durable>) {
        let (number, generation, id) = (durable.number, durable.generation, durable.id.clone());
        self.slab.write().insert(number, generation, &id, durable);
    }

    /// Takes an installation out.
    pub(super) fn remove(&self, number: u32) {
        self.slab.write().remove(number);
    }

    /// The installation with this number.
    pub(crate) fn get(&self, number: u32) -> Option<Arc<Durable>> {
        self.slab.read().get(number).cloned()
    }

    /// The installation of a generation.
    pub(crate) fn of_generation(&self, generation: Generation) -> Option<Arc<Durable>> {
        self.slab.read().of_generation(generation).cloned()
    }

    /// The installation with this id.
    pub(crate) fn of(&self, id: &InstallationId) -> Option<Arc<Durable>> {
        self.slab.read().of(id).cloned()
    }

    pub(crate) fn all(&self) -> Vec<Arc<Durable>> {
        self.slab.read().iter().cloned().collect()
    }
}
