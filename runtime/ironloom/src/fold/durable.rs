//! The half of an installation's lane that the log decides, and that a restart brings back. The fold alone
//! changes it; whoever runs invocations reads it, and keeps what belongs to this process elsewhere.

mod alarms;
mod terms;
#[cfg(test)]
pub(crate) mod testing;

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use arc_swap::ArcSwap;
use bytes::Bytes;
use parking_lot::{Mutex, MutexGuard, RwLock};

use self::alarms::{Alarms, SiteAlarms};
pub(crate) use self::terms::{Term, Terms};
use super::past::Past;
use super::queue::{Queue, RowNote};
use super::slab::Slab;
use crate::records::admin::LaneDue;
use crate::records::alarm::{AlarmRecord, EpisodePlace};
use crate::records::commit::CommitHead;
use crate::records::installation::{Installation, Revision, Standing};
use crate::records::lane::{Episodes, LaneMeta};
use ironloom_apps::manifest::Manifest;
use ironloom_storage::journal::Chunk;
use ironloom_storage::store::{Key, StateCache};
use ironloom_types::clock::Timestamp;
use ironloom_types::effects::{AlarmKey, OneShot};
use ironloom_types::ids::{self, Digest, Generation, InstallationId, Ordinal, Sequence};
use ironloom_types::work::Gap;

/// Notifications from the fold to whoever runs invocations. The fold waits for none of them.
pub(crate) trait Listener: Send + Sync {
    /// An installation is there. It is woken before the first thing is due.
    fn begun(&self, installation: &Arc<Durable>);
    /// Readings were noted for the installation of this number.
    fn noted(&self, number: u32);
    /// There is, or may be, something else to do for it: a timer is due, or an admin has decided.
    fn wake(&self, number: u32);
    /// A checkpoint has spent so much CPU time on what an installation's app has written.
    fn folded(&self, installation: &Durable, cpu: Duration);
    /// An installation has other revisions than before.
    fn revised(&self, installation: &Durable);
    /// An installation is gone.
    fn gone(&self, installation: &Durable);
}

/// Nobody runs invocations: a fold by itself, in tests.
impl Listener for () {
    fn begun(&self, _: &Arc<Durable>) {}
    fn noted(&self, _: u32) {}
    fn wake(&self, _: u32) {}
    fn folded(&self, _: &Durable, _: Duration) {}
    fn revised(&self, _: &Durable) {}
    fn gone(&self, _: &Durable) {}
}

/// The durable state of one generation of an installation.
pub(crate) struct Durable {
    /// Its place in the slab.
    pub number: u32,
    pub id: InstallationId,
    /// The generation whose state it works on.
    pub generation: Generation,
    /// The notes that wait for it.
    pub queue: Mutex<Queue>,
    /// Its app's state, as of its last commit. One that adopts the generation before a checkpoint has written all of it
    /// shares it.
    pub state: Arc<RwLock<StateCache>>,
    installation: ArcSwap<Installation>,
    terms: ArcSwap<Terms>,
    past: Mutex<Past>,
    book: Mutex<Book>,
}

/// The state that commits change, besides keys and queue. Only the fold can write it.
#[derive(Debug)]
pub(crate) struct Book {
    meta: LaneMeta,
    timers: BTreeMap<Box<str>, OneShot>,
    alarms: Alarms,
    /// Up to this place none of its episodes that are over is left; known since this process has dropped some.
    episodes_gone_through: Option<EpisodePlace>,
    closed: bool,
}

/// The initial state of an installation.
pub(crate) struct Begin {
    pub installation: Installation,
    /// The revisions that it runs under, each with the manifest of its package, the oldest first.
    pub revisions: Vec<(Revision, Arc<Manifest>)>,
    /// Those of before, under which nothing runs any more.
    pub past: Past,
    /// Where it begins.
    pub meta: LaneMeta,
    pub state: Arc<RwLock<StateCache>>,
    /// The notes that wait for it.
    pub queue: Queue,
    pub timers: BTreeMap<Box<str>, OneShot>,
    pub alarms: Vec<AlarmRecord>,
}

impl Durable {
    /// An installation at the place `number`, with these terms; `site` counts the alarms of all.
    pub(super) fn new(number: u32, begin: Begin, terms: Terms, site: Arc<SiteAlarms>) -> Self {
        let Begin { installation, revisions: _, past, meta, state, queue, timers, alarms } = begin;
        Self {
            number,
            id: installation.id.clone(),
            generation: installation.generation,
            queue: Mutex::new(queue),
            state,
            installation: ArcSwap::from_pointee(installation),
            terms: ArcSwap::from_pointee(terms),
            past: Mutex::new(past),
            book: Mutex::new(Book {
                meta,
                timers,
                alarms: Alarms::new(site, alarms),
                episodes_gone_through: None,
                closed: false,
            }),
        }
    }

    /// The installation, as the admin's last change left it.
    pub(crate) fn installation(&self) -> Arc<Installation> {
        self.installation.load_full()
    }

    /// The revisions that it runs under.
    pub(crate) fn terms(&self) -> Arc<Terms> {
        self.terms.load_full()
    }

    /// The newest of its revisions, the one that people see.
    pub(crate) fn newest(&self) -> Arc<Term> {
        Arc::clone(self.terms.load().newest())
    }

    /// The revision that what it does next runs under. Locks the queue.
    pub(crate) fn term(&self) -> Arc<Term> {
        let terms = self.terms.load();
        match terms.all() {
            [only] => Arc::clone(only),
            _ => Arc::clone(terms.now(self.queue.lock().pending()).0),
        }
    }

    /// The packages of its revisions.
    pub(crate) fn packages(&self) -> Vec<Digest> {
        self.terms.load().all().iter().map(|term| term.revision.package).collect()
    }

    /// The packages of revisions under which it no longer runs, as far as they are kept for replays.
    pub(crate) fn past_packages(&self) -> Vec<Digest> {
        self.past.lock().packages()
    }

    /// The first of its revisions that is known.
    pub(crate) fn first_revision(&self) -> ids::Revision {
        let living = self.terms.load().all()[0].number();
        self.past.lock().first().map_or(living, |past| past.min(living))
    }

    /// Takes a revision that has ended among those of before. Returns what changes in the store.
    pub(super) fn pass(&self, revision: &Revision) -> Vec<(Key, Option<Bytes>)> {
        self.past.lock().add(self.generation, revision)
    }

    /// Takes all of them away: it is gone.
    pub(super) fn take_past(&self) -> Past {
        std::mem::take(&mut *self.past.lock())
    }

    /// Begins a revision. Those that would begin with it or later end; returns them.
    pub(super) fn revise(&self, new: Term) -> Vec<Arc<Term>> {
        let terms = self.terms.load_full();
        let (stay, end): (Vec<_>, Vec<_>) =
            terms.all().iter().cloned().partition(|term| term.from() < new.from());
        let all = stay.iter().map(|term| Term::clone(term)).chain([new]);
        self.terms.store(Arc::new(Terms::new(all.collect())));
        end
    }

    /// Ends the revisions from whose time no reading waits, nor comes any more: `next` is the next one of the journal. At
    /// a restart the store may know of revisions to come. Returns those that end.
    pub(super) fn end_terms(&self, next: Sequence) -> Vec<Arc<Term>> {
        let terms = self.terms.load_full();
        if terms.all().len() == 1 {
            return Vec::new();
        }
        let first = self.queue.lock().pending().unwrap_or(next);
        let (left, done) = terms.split(Some(first));
        if !done.is_empty() {
            self.terms.store(Arc::new(Terms::new(left.iter().map(|term| Term::clone(term)).collect())));
        }
        done.to_vec()
    }

    /// Reads the book. The fold waits for the guard.
    pub(crate) fn book(&self) -> MutexGuard<'_, Book> {
        self.book.lock()
    }

    /// Says whether it is not to run: paused, quarantined or gone.
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

    /// Takes over alarms and one-shot timers that somebody has changed.
    pub(super) fn take_over(&self, alarms: Vec<AlarmRecord>, timers: Vec<(Box<str>, Option<OneShot>)>) {
        self.book.lock().take_over(alarms, timers);
    }

    /// Goes on behind readings that are about to be dropped. Returns the bookkeeping after it.
    pub(super) fn miss(&self, through: Sequence, gaps: &[Gap]) -> LaneMeta {
        let meta = {
            let mut book = self.book.lock();
            book.meta.miss(through, gaps);
            book.meta.clone()
        };
        self.move_on(meta.cursor);
        meta
    }

    /// Takes over an alarm that somebody has changed, and how many episodes are kept.
    pub(super) fn put_alarm(&self, alarm: AlarmRecord, episodes: Episodes) {
        let mut book = self.book.lock();
        book.put_alarm(alarm);
        book.meta.episodes = episodes;
    }

    /// Takes over its bookkeeping after a part of its history went: its place in the journal stays.
    pub(super) fn set_meta(&self, meta: LaneMeta) {
        self.book.lock().meta = meta;
    }

    /// Takes over how many dead letters are kept, and what they take.
    pub(super) fn set_dead_letters(&self, kept: u64, bytes: u64) {
        let meta = &mut self.book.lock().meta;
        (meta.dead_letters_kept, meta.dead_letter_bytes) = (kept, bytes);
    }

    /// Takes over what its state takes after a person has changed it, behind which invocation that began.
    pub(super) fn set_state(&self, bytes: u64, repaired: Ordinal) {
        let meta = &mut self.book.lock().meta;
        (meta.state_bytes, meta.repaired) = (bytes, Some(repaired));
    }

    /// Takes over how many points its outputs have made.
    pub(super) fn set_points(&self, points: u64) {
        self.book.lock().meta.points = points;
    }

    /// Leaves a wrong future behind: time goes back to `to`, and what was due later is due as `due` says. Returns
    /// the bookkeeping after it, and the alarms that changed.
    pub(super) fn leave_future(&self, to: Timestamp, due: Option<&LaneDue>) -> (LaneMeta, Vec<AlarmRecord>) {
        let mut book = self.book.lock();
        book.meta.leave_future(to);
        if let Some(due) = due {
            book.meta.cron_due.clone_from(&due.cron);
            for (name, due) in &due.timers {
                let moved =
                    book.timers.get(name).map_or(OneShot { due: *due, asked: *due }, |set| set.moved(*due));
                book.timers.insert(name.clone(), moved);
            }
        }
        let alarms = book.alarms.leave_future(to);
        (book.meta.clone(), alarms)
    }

    /// The alarms whose shelves have ended since somebody asked: no record says so.
    pub(crate) fn take_ended_shelves(&self, now: Timestamp) -> Vec<AlarmRecord> {
        self.book.lock().alarms.take_ended(now)
    }

    /// Ends it: no timer is due any more, and nothing waits. Returns its alarms.
    pub(super) fn close(&self) -> Vec<AlarmRecord> {
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
    pub(crate) fn timers(&self) -> &BTreeMap<Box<str>, OneShot> {
        &self.timers
    }

    /// Alarms that are active, wait for somebody or are shelved, by their current episodes.
    pub(crate) fn alarms(&self) -> &BTreeMap<AlarmKey, AlarmRecord> {
        self.alarms.all()
    }

    /// The alarm whose current episode has this number.
    pub(crate) fn alarm_numbered(&self, number: u64) -> Option<&AlarmRecord> {
        self.alarms.numbered(number)
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

    /// Alarms that aren't active, those that were cleared longest ago first.
    pub(crate) fn waiting_alarms(&self) -> impl Iterator<Item = (&AlarmKey, &AlarmRecord)> {
        self.alarms.waiting()
    }

    /// A place up to which none of its episodes that are over is left.
    pub(crate) fn episodes_gone_through(&self) -> Option<EpisodePlace> {
        self.episodes_gone_through
    }

    /// Says whether the installation is gone.
    pub(crate) fn is_closed(&self) -> bool {
        self.closed
    }

    /// When each of its timers is due, by name.
    pub(crate) fn all_due(&self) -> impl Iterator<Item = (&str, Timestamp)> {
        let repeating = self.meta.cron_due.iter().map(|(name, due)| (name.as_str(), *due));
        repeating.chain(self.timers.iter().map(|(name, set)| (&**name, set.due)))
    }

    /// The earliest time after this one at which a timer is due.
    pub(crate) fn next_due_after(&self, time: Timestamp) -> Option<Timestamp> {
        self.all_due().map(|(_, due)| due).filter(|due| *due > time).min()
    }

    /// The one rule by which a commit changes the book.
    fn apply(&mut self, head: CommitHead) {
        // The oldest go, in their order; its own, which a record may leave out at once, are none of them.
        let is_own = |place: &EpisodePlace| head.alarms.iter().any(|alarm| alarm.place() == *place);
        let gone = head.episodes_gone.iter().filter(|place| !is_own(place)).max().copied();
        self.episodes_gone_through = self.episodes_gone_through.max(gone);
        self.take_over(head.alarms, head.timers);
        self.meta = head.meta;
    }

    fn take_over(&mut self, alarms: Vec<AlarmRecord>, timers: Vec<(Box<str>, Option<OneShot>)>) {
        for (name, due) in timers {
            match due {
                Some(due) => self.timers.insert(name, due),
                None => self.timers.remove(&name),
            };
        }
        for alarm in alarms {
            self.put_alarm(alarm);
        }
    }

    fn put_alarm(&mut self, alarm: AlarmRecord) {
        if alarm.over && self.episodes_gone_through.is_some_and(|gone| gone >= alarm.place()) {
            // The app says that it began long ago.
            self.episodes_gone_through = None;
        }
        self.alarms.put(alarm);
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

    /// Numbers that nobody has, so many.
    pub(super) fn free_numbers(&self, count: usize) -> Vec<u32> {
        self.slab.read().free_numbers(count)
    }

    /// Gives an installation a further number, for a route of its own.
    pub(super) fn share(&self, number: u32, installation: u32) {
        self.slab.write().share(number, installation);
    }

    /// Takes a further number back.
    pub(super) fn unshare(&self, number: u32) {
        self.slab.write().unshare(number);
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

    /// How many installations there are.
    pub(super) fn count(&self) -> usize {
        self.slab.read().len()
    }

    pub(crate) fn all(&self) -> Vec<Arc<Durable>> {
        self.slab.read().iter().cloned().collect()
    }
}
