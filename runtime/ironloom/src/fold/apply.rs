//! Applies one record to the state in memory.

mod expired;
mod points;
mod readings;
mod receipts;
mod state;
mod terms;
pub(crate) mod told;

use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use bytes::Bytes;

use self::terms::revision_key;
use super::durable::Begin;
use super::episodes;
use super::past::Past;
use super::queue::{Queue, RowNote};
use super::sealer::Sealed;
use super::stored::{Removed, StoredLane, encode, request_key};
use super::stretches::{Extent, Frozen, Stretches};
use super::submission::Accepted;
use super::{Gone, KnownPackage, Shared};
use crate::records::NumberedPoint;
use crate::records::admin::{AdminRecord, LaneDue, NewInstallation, PackageRecord, Reset};
use crate::records::alarm::{AlarmRecord, ClearedBy};
use crate::records::commit::{CommitHead, StateChanges};
use crate::records::installation::Installation;
use crate::records::lane::{Episodes, LaneMeta};
use crate::telemetry::Sparing;
use ironloom_apps::manifest::Manifest;
use ironloom_storage::journal::Chunk;
use ironloom_storage::log::RecordRef;
use ironloom_storage::store::{Item, Key, Scope, StateCache};
use ironloom_types::clock::Timestamp;
use ironloom_types::ids::{Generation, InstallationId, Position, Sequence};
use ironloom_types::limits::MAX_HOPS;

/// Applies records in the order of the log. There is one, and one thread that calls it.
pub(crate) struct Applier {
    shared: Arc<Shared>,
    /// For each lane, rows of the record at hand; some room is kept to save allocations.
    rows: Vec<Vec<RowNote>>,
    touched: Vec<u32>,
    /// The stretches that no checkpoint has folded.
    pub(super) stretches: Stretches,
    /// Says whether a generation is to be purged of which no checkpoint has heard.
    purges: bool,
    /// Says whether records are those of a restart.
    replaying: bool,
    too_far: TooFar,
}

/// Derived readings that are routed no further. A chain of apps makes many, so they are told once in a while.
struct TooFar {
    readings: usize,
    lines: Sparing,
}

impl TooFar {
    const EVERY: Duration = Duration::from_secs(60);

    fn note(&mut self, readings: usize) {
        self.readings += readings;
        if self.lines.take() {
            let readings = std::mem::take(&mut self.readings);
            tracing::warn!(
                readings,
                hops = MAX_HOPS,
                "derived readings passed through too many apps and are routed no further"
            );
        }
    }
}

impl Applier {
    /// Applies to this.
    pub(crate) fn new(shared: Arc<Shared>) -> Self {
        Self {
            shared,
            rows: Vec::new(),
            touched: Vec::new(),
            stretches: Stretches::default(),
            purges: false,
            replaying: true,
            too_far: TooFar { readings: 0, lines: Sparing::new(1, TooFar::EVERY) },
        }
    }

    /// Ends a stretch behind the record of this position.
    pub(super) fn end_stretch(&mut self, position: Position) {
        self.stretches.end(&self.shared, position);
    }

    /// Begins a checkpoint; `position` is that of the last record.
    pub(crate) fn freeze(&mut self, extent: Extent, position: Position) -> Frozen {
        let frozen = self.stretches.freeze(&self.shared, extent, position);
        if frozen.is_all {
            self.purges = false;
        }
        frozen
    }

    /// Whether a checkpoint is wanted for what is gone: something is to be purged, or so many installations are gone
    /// that what is left of them counts.
    pub(super) fn wants_gone_folded(&self) -> bool {
        self.purges || self.stretches.has_many_gone()
    }

    /// From now on records are new ones.
    pub(crate) fn go_live(&mut self) {
        self.replaying = false;
        self.shared.metrics.events.go_live();
    }

    /// Applies one record, or a barrier; answers whoever waits for it.
    pub(crate) fn apply(&mut self, at: Option<RecordRef>, time: Timestamp, sealed: Sealed) {
        if let Some(at) = at {
            // Before anything of it: a checkpoint that leaves a key out because of this record says so.
            self.shared.applied.store(at.position.0, Ordering::Release);
        }
        match sealed {
            Sealed::Readings { new_points, chunk, receipt, request, forgotten, place, reply } => {
                let (accepted, through) = (chunk.len() as u64, chunk.last_sequence());
                let answer = Accepted { accepted, through, duplicate: false };
                if !self.replaying {
                    self.shared.sources.count(receipt.as_ref(), &chunk.columns);
                }
                // First: a forgotten key may be the one that comes again with this request.
                let mut changes: Vec<_> = forgotten.into_iter().map(|key| (request_key(key), None)).collect();
                if let Some(receipt) = receipt {
                    self.receipt(receipt, time, &mut changes);
                }
                if let Some(request) = request {
                    let remembered = super::requests::Remembered {
                        request: request.request,
                        time,
                        accepted: answer.accepted,
                        through: answer.through,
                    };
                    changes.push((request_key(request.key), Some(encode(&remembered))));
                }
                self.add_points(&new_points);
                drop(place);
                self.shared.overlay.apply(changes);
                self.readings(&chunk, at);
                if !self.replaying {
                    self.shared.metrics.readings.inc_by(chunk.len() as u64);
                }
                self.shared.advance(time);
                if let Some(reply) = reply {
                    // The requester may have gone.
                    let _ = reply.send(Ok(answer));
                }
            }
            Sealed::Commit { head, state, new_points, chunk, place, reply } => {
                self.commit(head, state, &new_points, &chunk, at);
                drop(place);
                self.shared.advance(time);
                if let Some(reply) = reply {
                    let _ = reply.send(Ok(()));
                }
            }
            Sealed::Admin { record, reply } => {
                self.admin(record);
                self.shared.advance(time);
                if let Some(reply) = reply {
                    let _ = reply.send(Ok(()));
                }
            }
            Sealed::Answer { reply, answer } => {
                let _ = reply.send(Ok(answer));
            }
            Sealed::Found { reply, answer } => {
                let _ = reply.send(Ok(answer));
            }
            Sealed::Watched(reply) => {
                let _ = reply.send(());
            }
            Sealed::Tick(time) => self.shared.advance(time),
        }
    }

    fn commit(
        &mut self,
        head: CommitHead,
        state: StateChanges,
        new_points: &[NumberedPoint],
        chunk: &Arc<Chunk>,
        at: Option<RecordRef>,
    ) {
        let generation = head.generation;
        let key = |item: Item<'_>| Scope::MAIN.key(item);
        let mut changes = Vec::with_capacity(4);
        self.add_points(new_points);
        self.shared.invocations.note(generation, head.invocation.clone());
        for letter in &head.dead_letters {
            changes.push((key(Item::DeadLetter(generation, letter.number)), Some(encode(letter))));
        }
        for number in &head.dead_letters_gone {
            changes.push((key(Item::DeadLetter(generation, *number)), None));
        }
        for (name, due) in &head.timers {
            changes.push((key(Item::Timer(generation, name)), due.as_ref().map(encode)));
        }
        let lane = self.shared.lanes.of_generation(generation);
        for alarm in &head.alarms {
            episodes::put(
                self.shared.is_current(lane.as_deref(), generation, alarm),
                generation,
                alarm,
                &mut changes,
            );
        }
        for place in &head.episodes_gone {
            episodes::drop(generation, *place, &mut changes);
        }
        changes.push(self.lane_value(&head.installation, generation, &head.meta, None));
        self.shared.overlay.apply(changes);
        if !self.replaying {
            self.shared.metrics.dead_letters.inc_by(head.dead_letters.len() as u64);
            self.shared.metrics.derived.inc_by(chunk.len() as u64);
        }
        if let Some(lane) = &lane {
            self.apply_state(lane, &state);
        }
        self.readings(chunk, at);
        // Last: whoever sees that a reading is dealt with sees what came of it.
        if let Some(lane) = lane {
            self.tell_commit(&lane, &head);
            lane.apply(head);
            self.end_terms(&lane);
            self.shared.note_due(&lane);
            self.shared.tell_waits(&lane);
        }
    }

    pub(super) fn lane_value(
        &self,
        installation: &InstallationId,
        generation: Generation,
        meta: &LaneMeta,
        removed: Option<Removed>,
    ) -> (Key, Option<Bytes>) {
        let value = StoredLane { installation: installation.clone(), meta: meta.clone(), removed };
        (Scope::MAIN.key(Item::Lane(generation)), Some(encode(&value)))
    }

    fn admin(&mut self, record: AdminRecord) {
        self.tell_admin(&record);
        match record {
            AdminRecord::PackageAdded(record) => self.add_package(*record),
            AdminRecord::PackageRemoved(digest) => {
                self.shared.packages.write().remove(&digest);
                self.shared.overlay.apply([(Scope::MAIN.key(Item::Package(digest)), None)]);
            }
            AdminRecord::Compiled { package, compiled } => {
                let known = self.shared.packages.read().get(&package).cloned();
                if let Some(known) = known {
                    self.add_package(PackageRecord { compiled, ..known.record.clone() });
                }
            }
            AdminRecord::Installed(new) => new.into_iter().for_each(|new| self.install(new)),
            AdminRecord::Standing { id, generation, standing, meta } => {
                let Some(lane) = self.shared.lanes.of_generation(generation) else { return };
                let mut installation = Installation::clone(&lane.installation());
                installation.standing = standing;
                self.shared.overlay.apply([
                    (Scope::MAIN.key(Item::Installation(id.as_str())), Some(encode(&installation))),
                    self.lane_value(&id, generation, &meta, None),
                ]);
                lane.stand(installation, *meta);
                self.end_terms(&lane);
                self.shared.note_due(&lane);
                self.shared.tell_waits(&lane);
                self.shared.listener.wake(lane.number);
            }
            AdminRecord::Uninstalled { id, generation, at, purge } => {
                self.uninstall(&id, generation, Removed { at, purge })
            }
            AdminRecord::Alarm { generation, alarm, episodes } => {
                self.alarm(generation, *alarm, episodes);
            }
            AdminRecord::UnitsGiven(units) => self.set_units(&units),
            AdminRecord::DeadLetterDeleted { generation, number, kept, bytes } => {
                let key = Scope::MAIN.key(Item::DeadLetter(generation, number));
                self.shared.overlay.apply([(key, None)]);
                let Some(lane) = self.shared.lanes.of_generation(generation) else { return };
                lane.set_dead_letters(kept, bytes);
                let value = self.lane_value(&lane.id, generation, lane.book().meta(), None);
                self.shared.overlay.apply([value]);
            }
            AdminRecord::TimeSet { to, due } => self.set_time(to, &due),
            AdminRecord::Purged { id, generations, points } => self.purge_kept(&id, &generations, points),
            AdminRecord::Missed { id, generation, through, gaps } => {
                let Some(lane) = self.shared.lanes.of_generation(generation) else { return };
                let meta = lane.miss(through, &gaps);
                self.shared.overlay.apply([self.lane_value(&id, generation, &meta, None)]);
                self.end_terms(&lane);
                self.shared.tell_waits(&lane);
            }
            AdminRecord::Dropped { before } => {
                let gone = self.shared.journal.drop_before(before, self.shared.applied());
                let keys = gone.into_iter().map(|first| Scope::MAIN.key(Item::Block(first)));
                self.shared.overlay.apply(keys.map(|key| (key, None)));
            }
            AdminRecord::Revised(revised) => self.revise(*revised),
            AdminRecord::Reset(reset) => self.reset(*reset),
            AdminRecord::StateChanged(changed) => self.change_state(*changed),
            AdminRecord::Expired(expired) => self.expire(*expired),
            AdminRecord::PointSet(set) => self.set_point(*set),
            AdminRecord::PointsRetired(retired) => self.retire_points(retired),
            AdminRecord::PointRenamed(renamed) => self.rename_point(*renamed),
        }
    }

    /// Goes back to the present with everything that is measured from a later time.
    fn set_time(&self, to: Timestamp, due: &[LaneDue]) {
        self.shared.horizon.fetch_min(to.0, Ordering::SeqCst);
        let due: BTreeMap<Generation, &LaneDue> = due.iter().map(|due| (due.generation, due)).collect();
        let mut changes = Vec::new();
        for lane in self.shared.lanes.all() {
            let moved = due.get(&lane.generation).copied();
            let (meta, shelved) = lane.leave_future(to, moved);
            for alarm in &shelved {
                episodes::put(true, lane.generation, alarm, &mut changes);
            }
            changes.push(self.lane_value(&lane.id, lane.generation, &meta, None));
            let timers = moved.map_or(&[][..], |moved| &moved.timers);
            let book = lane.book();
            changes.extend(timers.iter().map(|(name, _)| {
                (Scope::MAIN.key(Item::Timer(lane.generation, name)), book.timers().get(name).map(encode))
            }));
            drop(book);
            self.shared.note_due(&lane);
            self.shared.listener.wake(lane.number);
        }
        let streams = self.shared.streams.write().leave_future(to);
        changes
            .extend(streams.iter().map(|(key, at)| (Scope::MAIN.key(Item::Stream(key)), Some(encode(at)))));
        self.shared.overlay.apply(changes);
        for (generation, gone) in self.shared.removed.lock().iter_mut() {
            if gone.removed.at > to {
                gone.removed.at = to;
                self.set_removed(*generation, gone);
            }
        }
    }

    /// Takes over what a person did with an alarm.
    fn alarm(&self, generation: Generation, alarm: AlarmRecord, episodes: Episodes) {
        let lane = self.shared.lanes.of_generation(generation);
        let mut changes = Vec::new();
        let is_current = self.shared.is_current(lane.as_deref(), generation, &alarm);
        episodes::put(is_current, generation, &alarm, &mut changes);
        // Without a lane its removal follows, at a restart.
        if let Some(lane) = lane {
            lane.put_alarm(alarm, episodes);
            changes.push(self.lane_value(&lane.id, generation, lane.book().meta(), None));
        }
        self.shared.overlay.apply(changes);
    }

    /// Marks what these generations have kept for the checkpoint's thread to remove.
    fn purge(&mut self, which: impl Fn(Generation, &Gone) -> bool) {
        for (generation, gone) in self.shared.removed.lock().iter_mut() {
            if !gone.removed.purge && which(*generation, gone) {
                gone.removed.purge = true;
                self.set_removed(*generation, gone);
                self.purges = true;
            }
        }
    }

    /// Writes anew what becomes of a generation that is gone. Nobody reads its bookkeeping any more.
    fn set_removed(&self, generation: Generation, gone: &Gone) {
        let (id, removed) = (&gone.installation, Some(gone.removed));
        self.shared.overlay.apply([self.lane_value(id, generation, &LaneMeta::default(), removed)]);
    }

    fn add_package(&mut self, record: PackageRecord) {
        let value = encode(&record);
        match Manifest::parse(&record.manifest) {
            Ok(manifest) => {
                let digest = record.digest;
                let known = Arc::new(KnownPackage::new(record, Arc::new(manifest)));
                self.shared.packages.write().insert(digest, known);
                self.shared.overlay.apply([(Scope::MAIN.key(Item::Package(digest)), Some(value))]);
            }
            // It was parsed before it was written; only an older binary doesn't understand it.
            Err(problems) => {
                tracing::error!(package = %record.digest, %problems, "the manifest of a package can't be read")
            }
        }
    }

    fn install(&mut self, NewInstallation { installation, mut revision, meta }: NewInstallation) {
        let id = installation.id.clone();
        // The sealer lets none through. Should the log hold one all the same, it must not end each start.
        if self.shared.lanes.of(&id).is_some() || installation.generation <= self.shared.last_generation() {
            let generation = installation.generation;
            tracing::error!(installation = %id, %generation, "the log installs an installation that exists already; this record is skipped");
            return;
        }
        self.shared.generation.fetch_max(installation.generation.0, Ordering::SeqCst);
        self.shared.overlay.apply([
            (Scope::MAIN.key(Item::Installation(id.as_str())), Some(encode(&installation))),
            (revision_key(&id, revision.number), Some(encode(&revision))),
            self.lane_value(&id, installation.generation, &meta, None),
        ]);
        let known = self.shared.packages.read().get(&installation.package).cloned();
        let Some(known) = known else {
            tracing::error!(installation = %id, package = %installation.package, "its package is missing");
            return;
        };
        known.share(&mut revision);
        let queue = self.queue_from(meta.cursor);
        // A fold that was cut off may have left keys of a generation that the log installs again.
        let budget = &self.shared.cache;
        let state = match self.replaying {
            true => StateCache::of_stored_generation(budget),
            false => StateCache::of_new_generation(budget),
        };
        let (past, timers, alarms) = (Past::default(), BTreeMap::new(), Vec::new());
        let revisions = vec![(revision, Arc::clone(&known.manifest))];
        let routes = self.shared.prepared.lock().remove(&installation.generation);
        self.begin(Begin { installation, revisions, past, meta, state, queue, timers, alarms }, routes);
    }

    /// The queue of a lane that goes on behind this sequence.
    pub(crate) fn queue_from(&self, cursor: Sequence) -> Queue {
        let budget = &self.shared.note_budget;
        if cursor < self.shared.journal.last() {
            Queue::behind(cursor, budget)
        } else {
            Queue::after(cursor, budget)
        }
    }

    fn uninstall(&mut self, id: &InstallationId, generation: Generation, removed: Removed) {
        if removed.purge {
            self.purges = true;
            self.remove_points(id);
            self.purge(|_, gone| gone.installation == *id);
        }
        self.end(id, generation, removed, ClearedBy::Removed);
    }

    /// A generation takes the place of another.
    fn reset(&mut self, Reset { generation, at, new }: Reset) {
        let id = new.installation.id.clone();
        self.end(&id, generation, Removed { at, purge: false }, ClearedBy::Reset);
        self.install(new);
    }

    /// Ends a generation. What it has kept stays for a while.
    fn end(&mut self, id: &InstallationId, generation: Generation, removed: Removed, by: ClearedBy) {
        let gone = Gone { installation: id.clone(), removed };
        self.shared.removed.lock().insert(generation, gone);
        let Some(lane) = self.shared.lanes.of_generation(generation) else {
            // Only at a restart after a checkpoint that did not end: part of it is gone from the store.
            let mut changes = vec![
                (Scope::MAIN.key(Item::Installation(id.as_str())), None),
                self.lane_value(id, generation, &LaneMeta::default(), Some(removed)),
            ];
            match self.shared.stored_alarms(generation) {
                Ok(alarms) => episodes::end(generation, alarms, (removed.at, by), &mut changes),
                Err(error) => {
                    tracing::error!(installation = %id, %error, "the last alarms of an installation can't be read");
                }
            }
            self.shared.overlay.apply(changes);
            return;
        };
        let alarms = lane.close();
        self.shared.note_due(&lane);
        let mut changes = vec![
            (Scope::MAIN.key(Item::Installation(id.as_str())), None),
            self.lane_value(id, generation, &LaneMeta::default(), Some(removed)),
        ];
        for term in lane.terms().all() {
            self.end_route(&lane, term);
            changes.push((revision_key(id, term.number()), None));
            changes.extend(lane.pass(&term.revision));
        }
        self.shared.lanes.remove(lane.number);
        episodes::end(generation, alarms, (removed.at, by), &mut changes);
        self.shared.overlay.apply(changes);
        self.shared.listener.gone(&lane);
        self.shared.tell_waits(&lane);
        self.shared.leaving.lock().push(Arc::downgrade(&lane));
        self.stretches.gone.push(lane);
    }
}
