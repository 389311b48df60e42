//! Applies one record to the state in memory.

mod audit;
mod catalogs;
mod connectors;
mod consents;
mod copies;
mod expired;
mod intents;
mod lives;
mod points;
mod readings;
mod receipts;
mod state;
mod terms;
mod tokens;
pub(crate) mod told;

use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use bytes::Bytes;

pub(super) use self::terms::revision_key;
use super::episodes;
use super::past::Past;
use super::queue::RowNote;
use super::sealer::{Sealed, Stamped};
use super::stored::{Removed, StoredLane, encode, request_key};
use super::stretches::{Extent, Frozen, Stretches};
use super::submission::Accepted;
use super::{KnownPackage, Shared};
use crate::outbox::Found;
use crate::records::NumberedPoint;
use crate::records::admin::{AdminRecord, LaneDue, PackageRecord};
use crate::records::alarm::AlarmRecord;
use crate::records::commit::{CommitHead, StateChanges};
use crate::records::installation::{Installation, Revision};
use crate::records::lane::{Episodes, LaneMeta};
use crate::telemetry::Sparing;
use ironloom_apps::manifest::Manifest;
use ironloom_storage::journal::Chunk;
use ironloom_storage::log::RecordRef;
use ironloom_storage::store::{Item, Key};
use ironloom_types::CompiledRef;
use ironloom_types::clock::Timestamp;
use ironloom_types::effects::OneShot;
use ironloom_types::ids::{Digest, Generation, InstallationId, Position, Sequence};
use ironloom_types::limits::MAX_HOPS;
use ironloom_types::work::Gap;

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
    /// The past revisions of generations that are gone: an install may adopt these.
    kept_past: BTreeMap<Generation, Past>,
    /// Revisions in the store that the log is about to end once more, by the numbers of their installations.
    left_revisions: BTreeMap<Generation, Vec<Revision>>,
    /// The outbox as far as it is read; taken over in the end.
    found: Found,
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
            kept_past: BTreeMap::new(),
            left_revisions: BTreeMap::new(),
            found: Found::default(),
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
        self.open_outbox();
        self.shared.metrics.events.go_live();
    }

    /// Applies one record with its entry of the audit log, or a barrier; answers whoever waits for it.
    pub(crate) fn apply(&mut self, at: Option<RecordRef>, Stamped { time, sealed, entry }: Stamped) {
        if let Some(at) = at {
            // Before anything of it: a checkpoint that leaves a key out because of this record says so.
            self.shared.applied.store(at.position.0, Ordering::Release);
        }
        self.note_entry(entry);
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
                self.shared.tell_alarms();
                drop(place);
                self.shared.advance(time);
                if let Some(reply) = reply {
                    let _ = reply.send(Ok(()));
                }
            }
            Sealed::Admin { record, reply } => {
                self.admin(record);
                self.shared.tell_alarms();
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
        let mut changes = Vec::with_capacity(4);
        self.add_points(new_points);
        self.shared.invocations.note(generation, head.invocation.clone());
        for letter in &head.dead_letters {
            changes.push((Item::DeadLetter(generation, letter.number).key(), Some(encode(letter))));
        }
        for number in &head.dead_letters_gone {
            changes.push((Item::DeadLetter(generation, *number).key(), None));
        }
        for (name, due) in &head.timers {
            changes.push((Item::Timer(generation, name).key(), due.as_ref().map(encode)));
        }
        let lane = self.shared.lanes.of_generation(generation);
        let asked = self.asked(&head, lane.as_deref(), at, &mut changes);
        for alarm in &head.alarms {
            let is_current = self.shared.is_current(lane.as_deref(), generation, alarm);
            self.shared.change_alarm(is_current, &head.installation, generation, alarm, &mut changes);
        }
        for place in &head.episodes_gone {
            episodes::drop(generation, *place, &mut changes);
        }
        changes.push(self.lane_value(&head.installation, generation, &head.meta));
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
            let was_quarantined = lane.book().meta().quarantine.is_some();
            let is_quarantined = head.meta.quarantine.is_some();
            lane.apply(head);
            self.ask(asked);
            if is_quarantined != was_quarantined {
                self.set_rights(&lane);
            }
            self.end_terms(&lane);
            self.shared.note_due(&lane);
            self.shared.tell_waits(&lane);
        }
    }

    /// A generation that lives, as the store keeps it.
    pub(super) fn lane_value(
        &self,
        installation: &InstallationId,
        generation: Generation,
        meta: &LaneMeta,
    ) -> (Key, Option<Bytes>) {
        let (installation, meta) = (installation.clone(), meta.clone());
        let value = StoredLane { installation, meta, removed: None, ended: None, copy: None };
        (Item::Lane(generation).key(), Some(encode(&value)))
    }

    fn admin(&mut self, record: AdminRecord) {
        self.tell_admin(&record);
        match record {
            AdminRecord::PackageAdded { tenant, package } => self.bring_package(tenant, *package),
            AdminRecord::PackageRemoved(digest) => {
                self.remove_package(digest);
            }
            AdminRecord::Compiled { package, compiled } => self.compile_package(package, compiled),
            AdminRecord::Installed(new) => new.into_iter().for_each(|new| self.install(new)),
            AdminRecord::Standing { id, generation, standing, meta } => {
                let Some(lane) = self.shared.lanes.of_generation(generation) else { return };
                let mut installation = Installation::clone(&lane.installation());
                installation.standing = standing;
                self.shared.overlay.apply([
                    (Key::installation(&id), Some(encode(&installation))),
                    self.lane_value(&id, generation, &meta),
                ]);
                lane.stand(installation, *meta);
                self.set_rights(&lane);
                self.end_terms(&lane);
                self.shared.note_due(&lane);
                self.shared.tell_waits(&lane);
                self.shared.listener.wake(lane.number);
            }
            AdminRecord::Uninstalled { ended, at, purge } => {
                self.uninstall(*ended, Removed { at, purge });
            }
            AdminRecord::Alarm { generation, alarm, episodes } => {
                self.alarm(generation, *alarm, episodes);
            }
            AdminRecord::UnitsGiven(units) => self.set_units(&units),
            AdminRecord::DeadLetterDeleted { generation, number, kept, bytes } => {
                self.delete_letter(generation, number, (kept, bytes));
            }
            AdminRecord::TimeSet { to, due } => self.set_time(to, &due),
            AdminRecord::Purged { id, generations, points } => self.purge_kept(&id, &generations, points),
            AdminRecord::Missed { id, generation, through, gaps } => {
                self.miss(&id, generation, through, &gaps);
            }
            AdminRecord::Dropped { tenant, before } => {
                let gone = self.shared.journal.of(tenant).drop_before(before, self.shared.applied());
                let keys = gone.into_iter().map(|first| Item::Block(tenant, first).key());
                self.shared.overlay.apply(keys.map(|key| (key, None)));
            }
            AdminRecord::Revised(revised) => self.revise(*revised),
            AdminRecord::Reset(reset) => self.reset(*reset),
            AdminRecord::StateChanged(changed) => self.change_state(*changed),
            AdminRecord::Expired(expired) => self.expire(*expired),
            AdminRecord::PointSet(set) => self.set_point(*set),
            AdminRecord::PointsRetired(retired) => self.retire_points(retired),
            AdminRecord::PointRenamed(renamed) => self.rename_point(*renamed),
            AdminRecord::IntentConfirmed(asked) => self.confirm(*asked),
            AdminRecord::ConnectorSet(connector) => self.set_connector(*connector),
            AdminRecord::ConnectorRemoved { name } => self.remove_connector(&name),
            AdminRecord::CatalogSet(catalog) => self.set_catalog(*catalog),
            AdminRecord::CatalogRemoved { name } => self.remove_catalog(&name),
            AdminRecord::PackageHeld { tenant, package, holds } => self.hold(tenant, package, holds),
            AdminRecord::Tenant(tenant) => self.set_tenant(*tenant),
            AdminRecord::Token(change) => self.change_token(change),
            AdminRecord::ConsentAsked(asked) => self.ask_consent(*asked),
            AdminRecord::ConsentRefused { id } => self.end_consent(&id),
            AdminRecord::CopyBegun(begun) => self.begin_copy(begun),
            AdminRecord::Copied(copied) => self.keep_copy(*copied),
            AdminRecord::Committed(committed) => self.end_trial(&committed),
            AdminRecord::RolledBack(rolled_back) => self.roll_back(*rolled_back),
            AdminRecord::CopiesDropped(dropped) => self.drop_copies(&dropped.generations),
            AdminRecord::Audit(change) => self.change_audit(change),
        }
    }

    fn delete_letter(&self, generation: Generation, number: u64, (kept, bytes): (u64, u64)) {
        let key = Item::DeadLetter(generation, number).key();
        self.shared.overlay.apply([(key, None)]);
        let Some(lane) = self.shared.lanes.of_generation(generation) else { return };
        lane.set_dead_letters(kept, bytes);
        let value = self.lane_value(&lane.id, generation, lane.book().meta());
        self.shared.overlay.apply([value]);
    }

    /// A lane goes on behind readings that it will never see.
    fn miss(&self, id: &InstallationId, generation: Generation, through: Sequence, gaps: &[Gap]) {
        let Some(lane) = self.shared.lanes.of_generation(generation) else { return };
        let meta = lane.miss(through, gaps);
        self.shared.overlay.apply([self.lane_value(id, generation, &meta)]);
        self.end_terms(&lane);
        self.shared.tell_waits(&lane);
    }

    /// Goes back to the present with everything that is measured from a later time.
    fn set_time(&mut self, to: Timestamp, due: &[LaneDue]) {
        self.shared.horizon.fetch_min(to.0, Ordering::SeqCst);
        let due: BTreeMap<Generation, &LaneDue> = due.iter().map(|due| (due.generation, due)).collect();
        let mut changes = Vec::new();
        for lane in self.shared.lanes.all() {
            let moved = due.get(&lane.generation).copied();
            let (meta, shelved) = lane.leave_future(to, moved);
            for alarm in &shelved {
                self.shared.change_alarm(true, &lane.id, lane.generation, alarm, &mut changes);
            }
            changes.push(self.lane_value(&lane.id, lane.generation, &meta));
            let timers = moved.map_or(&[][..], |moved| &moved.timers);
            let book = lane.book();
            changes.extend(timers.iter().map(|(name, _)| {
                (Item::Timer(lane.generation, name).key(), book.timers().get(name).map(encode))
            }));
            drop(book);
            self.shared.note_due(&lane);
            self.shared.listener.wake(lane.number);
        }
        // Of one that is gone by now, at a restart: a later record says so, and its timers may be adopted.
        for moved in due.values().filter(|due| self.shared.lanes.of_generation(due.generation).is_none()) {
            for (name, due) in &moved.timers {
                let key = Item::Timer(moved.generation, name).key();
                let set = self.shared.stored::<OneShot>(&key).ok().flatten();
                changes.extend(set.map(|set| (key, Some(encode(&set.moved(*due))))));
            }
        }
        let streams = self.shared.streams.write().leave_future(to);
        changes.extend(streams.iter().map(|(key, at)| (Item::Stream(key).key(), Some(encode(at)))));
        self.set_back(to, &mut changes);
        self.shared.overlay.apply(changes);
        self.set_removed_by(to);
    }

    /// Takes over what a person did with an alarm.
    fn alarm(&self, generation: Generation, alarm: AlarmRecord, episodes: Episodes) {
        let lane = self.shared.lanes.of_generation(generation);
        let mut changes = Vec::new();
        let is_current = self.shared.is_current(lane.as_deref(), generation, &alarm);
        // Without a lane its removal follows, at a restart.
        if let Some(lane) = lane {
            self.shared.change_alarm(is_current, &lane.id, generation, &alarm, &mut changes);
            lane.put_alarm(alarm, episodes);
            changes.push(self.lane_value(&lane.id, generation, lane.book().meta()));
        } else {
            episodes::put(is_current, generation, &alarm, &mut changes);
        }
        self.shared.overlay.apply(changes);
    }

    fn compile_package(&mut self, package: Digest, compiled: CompiledRef) {
        let known = self.shared.packages.read().get(&package).cloned();
        if let Some(known) = known {
            self.add_package(PackageRecord { compiled, ..known.record.clone() });
        }
    }

    fn add_package(&mut self, record: PackageRecord) {
        let value = encode(&record);
        match Manifest::parse(&record.manifest) {
            Ok(manifest) => {
                let digest = record.digest;
                let known = Arc::new(KnownPackage::new(record, Arc::new(manifest)));
                self.shared.packages.write().insert(digest, known);
                self.shared.overlay.apply([(Item::Package(digest).key(), Some(value))]);
            }
            // It was parsed before it was written; only an older binary doesn't understand it.
            Err(problems) => {
                tracing::error!(package = %record.digest, %problems, "the manifest of a package can't be read")
            }
        }
    }
}
