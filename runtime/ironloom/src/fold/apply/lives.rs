//! Lives of installations: they begin, end, are adopted, and what they have kept is purged.

use std::collections::BTreeMap;
use std::sync::Arc;

use bytes::Bytes;
use parking_lot::RwLock;

use super::Applier;
use super::terms::revision_key;
use crate::fold::Gone;
use crate::fold::durable::Begin;
use crate::fold::past::Past;
use crate::fold::queue::Queue;
use crate::fold::stored::{Removed, StoredLane, encode};
use crate::records::admin::{Adopted, Ended, NewInstallation, Reset};
use crate::records::alarm::{AlarmRecord, ClearedBy};
use crate::records::installation::{Installation, Revision};
use crate::records::lane::LaneMeta;
use crate::records::owner::AppOwner;
use ironloom_storage::store::{Item, Key, StateCache};
use ironloom_types::clock::Timestamp;
use ironloom_types::ids::{Generation, InstallationId, Sequence, TenantId};

impl Applier {
    pub(super) fn install(&mut self, new: NewInstallation) {
        self.install_with(new, Vec::new());
    }

    /// As [`Self::install`], with alarms that are there from the beginning on.
    pub(super) fn install_with(&mut self, new: NewInstallation, alarms: Vec<AlarmRecord>) {
        let NewInstallation { installation, mut revision, meta, adopted, owner } = new;
        let (id, generation) = (installation.id.clone(), installation.generation);
        let lanes = &self.shared.lanes;
        let is_there = lanes.of(&id).is_some() || lanes.of_generation(generation).is_some();
        // The sealer lets none through. Should the log hold one all the same, it must not end each start.
        if is_there || self.shared.generations.lock().has(installation.begun) {
            tracing::error!(installation = %id, %generation, "the log installs an installation that exists already; this record is skipped");
            return;
        }
        self.shared.generations.lock().note(installation.begun);
        self.set_owner(owner);
        let mut changes = vec![
            (Key::installation(&id), Some(encode(&installation))),
            (revision_key(&id, revision.number), Some(encode(&revision))),
            self.lane_value(&id, generation, &meta),
        ];
        let (state, past) = match &adopted {
            Some(adopted) => {
                let past = self.kept_past.remove(&generation).unwrap_or_default();
                (self.adopt(&id, generation, adopted, &mut changes), past)
            }
            None => (Arc::new(RwLock::new(self.new_state())), Past::default()),
        };
        for alarm in &alarms {
            self.shared.change_alarm(true, &id, generation, alarm, &mut changes);
        }
        self.shared.overlay.apply(changes);
        let known = self.shared.packages.read().get(&installation.package).cloned();
        let Some(known) = known else {
            tracing::error!(installation = %id, package = %installation.package, "its package is missing");
            return;
        };
        known.share(&mut revision);
        let queue = self.queue_from(id.tenant(), meta.cursor);
        let timers = adopted.map_or_else(Vec::new, |adopted| adopted.timers).into_iter();
        let timers: BTreeMap<_, _> = timers.filter_map(|(name, set)| Some((name, set?))).collect();
        let revisions = vec![(revision, Arc::clone(&known.manifest))];
        let routes = self.shared.prepared.lock().remove(&generation);
        self.begin(Begin { installation, revisions, past, meta, state, queue, timers, alarms }, routes);
    }

    /// Takes over whose an app id is from here on.
    pub(super) fn set_owner(&self, owner: Option<Box<AppOwner>>) {
        let Some(owner) = owner else { return };
        let key = Item::AppOwner(owner.tenant, owner.app.as_str()).key();
        self.shared.overlay.apply([(key, Some(encode(&*owner)))]);
        self.shared.owners.write().insert((owner.tenant, owner.app.clone()), *owner);
    }

    /// Takes over what the store has of generations that don't live.
    pub(in crate::fold) fn left(
        &mut self,
        past: BTreeMap<Generation, Past>,
        revisions: BTreeMap<Generation, Vec<Revision>>,
    ) {
        (self.kept_past, self.left_revisions) = (past, revisions);
    }

    fn new_state(&self) -> StateCache {
        let budget = &self.shared.cache;
        // A fold that was cut off may have left keys of a generation that the log installs again.
        match self.replaying {
            true => StateCache::of_stored_generation(budget),
            false => StateCache::of_new_generation(budget),
        }
    }

    /// Takes over a generation that was kept, with its state as far as it is in memory.
    fn adopt(
        &mut self,
        id: &InstallationId,
        generation: Generation,
        Adopted { alarms, timers }: &Adopted,
        changes: &mut Vec<(Key, Option<Bytes>)>,
    ) -> Arc<RwLock<StateCache>> {
        // At a restart the store may know of it as adopted already.
        self.shared.removed.lock().remove(&generation);
        self.shared.copies.forget(generation);
        changes.extend(
            timers.iter().map(|(name, set)| (Item::Timer(generation, name).key(), set.as_ref().map(encode))),
        );
        for alarm in alarms {
            // With the episode: after a checkpoint that was cut off, the alarm may be gone and the episode not there.
            self.shared.change_alarm(true, id, generation, alarm, changes);
        }
        match self.stretches.take_gone(generation) {
            Some(before) => Arc::clone(&before.state),
            None => Arc::new(RwLock::new(StateCache::of_stored_generation(&self.shared.cache))),
        }
    }

    /// The queue of a tenant's lane that goes on behind this sequence.
    pub(crate) fn queue_from(&self, tenant: TenantId, cursor: Sequence) -> Queue {
        let budget = &self.shared.note_budget;
        if cursor < self.shared.journal.of(tenant).last() {
            Queue::behind(cursor, budget)
        } else {
            Queue::after(cursor, budget)
        }
    }

    pub(super) fn uninstall(&mut self, ended: Ended, removed: Removed) {
        if removed.purge {
            self.purges = true;
            let id = &ended.installation.id;
            self.remove_points(id);
            self.purge(|_, gone| gone.installation == *id);
        }
        self.end_consent(&ended.installation.id);
        self.drop_copies_of(&ended.installation.id);
        self.end(ended, removed, ClearedBy::Removed);
    }

    /// A generation takes the place of another.
    pub(super) fn reset(&mut self, Reset { ended, at, new }: Reset) {
        self.drop_copies_of(&ended.installation.id);
        self.end(ended, Removed { at, purge: false }, ClearedBy::Reset);
        self.install(new);
    }

    /// Ends a generation. What it has kept stays for a while.
    pub(super) fn end(&mut self, ended: Ended, removed: Removed, by: ClearedBy) {
        let Installation { id, generation, begun, .. } = ended.installation.clone();
        let next_alarm = ended.meta.next_alarm;
        // At a restart the store may know of alarms that came after the generation was adopted again: none of these ends.
        let ends = |alarm: &AlarmRecord| alarm.number < next_alarm;
        let package = (!removed.purge).then_some(ended.installation.package);
        self.shared.removed.lock().insert(generation, Gone { installation: id.clone(), removed, package });
        let mut changes = vec![(Key::installation(&id), None)];
        changes.push(match removed.purge {
            true => purged_value(generation, &id, removed),
            false => {
                let Ended { installation, meta } = ended;
                let (installation, ended) = (id.clone(), Some(installation));
                stored(
                    generation,
                    &StoredLane { installation, meta, removed: Some(removed), ended, copy: None },
                )
            }
        });
        let Some(lane) = self.shared.lanes.of_generation(generation) else {
            let left = self.left_revisions.remove(&begun).unwrap_or_default();
            let past = self.kept_past.entry(generation).or_default();
            for revision in left {
                changes.push((revision_key(&id, revision.number), None));
                changes.extend(past.add(generation, &revision));
            }
            // Only at a restart after a checkpoint that did not end: part of it is gone from the store.
            match self.shared.stored_alarms(generation) {
                Ok(alarms) => {
                    let alarms = alarms.into_iter().filter(ends);
                    self.shared.end_alarms((&id, generation), alarms, (removed.at, by), &mut changes);
                }
                Err(error) => {
                    tracing::error!(installation = %id, %error, "the last alarms of an installation can't be read");
                }
            }
            self.shared.overlay.apply(changes);
            return;
        };
        let alarms = lane.close();
        self.shared.note_due(&lane);
        for term in lane.terms().all() {
            self.end_route(&lane, term);
            changes.push((revision_key(&id, term.number()), None));
            changes.extend(lane.pass(&term.revision));
        }
        self.kept_past.insert(generation, lane.take_past());
        self.shared.lanes.remove(lane.number);
        let alarms = alarms.into_iter().filter(ends);
        self.shared.end_alarms((&id, generation), alarms, (removed.at, by), &mut changes);
        self.shared.overlay.apply(changes);
        self.shared.listener.gone(&lane);
        self.end_rights(generation);
        self.shared.tell_waits(&lane);
        self.shared.leaving.lock().push(Arc::downgrade(&lane));
        self.stretches.gone.push(lane);
    }

    /// Marks what these generations have kept for the checkpoint's thread to remove.
    pub(super) fn purge(&mut self, which: impl Fn(Generation, &Gone) -> bool) {
        for (generation, gone) in self.shared.removed.lock().iter_mut() {
            if !gone.removed.purge && which(*generation, gone) {
                (gone.removed.purge, gone.package) = (true, None);
                let value = purged_value(*generation, &gone.installation, gone.removed);
                self.shared.overlay.apply([value]);
                self.kept_past.remove(generation);
                self.purges = true;
            }
        }
    }

    /// Has the week of those that went later than this begin then: time goes back to it.
    pub(super) fn set_removed_by(&self, to: Timestamp) {
        let mut later = Vec::new();
        for (generation, gone) in self.shared.removed.lock().iter_mut() {
            if gone.removed.at > to {
                gone.removed.at = to;
                later.push((*generation, gone.clone()));
            }
        }
        for (generation, gone) in later {
            let value = match gone.removed.purge {
                true => purged_value(generation, &gone.installation, gone.removed),
                // Those are few, and time is set back once in years: else the fold reads nothing of the store.
                false => match self.shared.stored_lane(generation) {
                    Ok(Some(kept)) => stored(generation, &StoredLane { removed: Some(gone.removed), ..kept }),
                    kept => {
                        let error = kept.err().unwrap_or_default();
                        tracing::error!(installation = %gone.installation, %generation, %error, "what an installation that is gone has kept can't be read");
                        continue;
                    }
                },
            };
            self.shared.overlay.apply([value]);
        }
    }
}

pub(super) fn stored(generation: Generation, lane: &StoredLane) -> (Key, Option<Bytes>) {
    (Item::Lane(generation).key(), Some(encode(lane)))
}

/// The value of a generation that is purged. Nobody reads its bookkeeping any more.
pub(super) fn purged_value(
    generation: Generation,
    id: &InstallationId,
    removed: Removed,
) -> (Key, Option<Bytes>) {
    let (installation, meta) = (id.clone(), LaneMeta::default());
    stored(generation, &StoredLane { installation, meta, removed: Some(removed), ended: None, copy: None })
}
