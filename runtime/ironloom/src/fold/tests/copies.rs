//! Copies of generations, made step by step beside all else, and rollbacks to them.

use std::collections::BTreeMap;

use super::cut::Cut;
use super::history::{adopting, new_installation, numbered};
use super::model::{Lane, Model};
use super::world::World;
use crate::fold::Shared;
use crate::fold::copies::Step;
use crate::fold::run::{copy_rests, copy_step};
use crate::fold::submission::Refusal;
use crate::records::admin::{AdminRecord, Adopted, Revised};
use crate::records::alarm::ClearedBy;
use crate::records::copy::{Copied, CopiesDropped, CopyBegun, CopyFacts, Reason, RolledBack};
use crate::records::installation::Trial;
use ironloom_storage::store::{EngineKind, KeyKind, KeyRange};
use ironloom_types::clock::Timestamp;
use ironloom_types::effects::OneShot;
use ironloom_types::ids::{self, Generation, InstallationId, Sequence, TenantId};

const AT: Timestamp = Timestamp(u64::MAX / 2);

/// Each copy that is whole is what its lane was then, in the store alone.
pub(super) fn check(shared: &Shared, model: &Model) {
    let found: Vec<u64> = shared.copies.all().into_iter().map(|(generation, _)| generation.0).collect();
    assert_eq!(found, model.copies.keys().copied().collect::<Vec<_>>());
    for (generation, lane) in &model.copies {
        let generation = Generation(*generation);
        let read = shared.read_copy(generation).unwrap().unwrap();
        assert_eq!((read.installation.id.as_str(), &read.meta), (lane.id.as_str(), &lane.meta));
        assert_eq!(read.revision.number.0, lane.revisions.last().unwrap().0);
        let range = KeyRange::generation(KeyKind::State, generation);
        let entries = shared.storage.scan(&range, None, usize::MAX).unwrap().entries.into_iter();
        let state: BTreeMap<_, _> =
            entries.map(|(key, value)| (key.state_text().unwrap().to_owned(), value)).collect();
        assert_eq!(state, lane.state, "copy {generation}");
        let timers: BTreeMap<_, _> = shared
            .kept_timers(generation)
            .unwrap()
            .into_iter()
            .map(|(name, set)| (name.to_string(), (set.due.0, set.asked.0)))
            .collect();
        assert_eq!(timers, lane.timers);
        let alarms = shared.stored_alarms(generation).unwrap().into_iter();
        let alarms: BTreeMap<_, _> = alarms.map(|alarm| (alarm.entity.to_string(), alarm)).collect();
        assert_eq!(alarms, lane.alarms);
        for number in 0..lane.meta.next_dead_letter + 2 {
            let letter = shared.dead_letter(generation, number).unwrap();
            assert_eq!(letter.as_ref(), lane.dead_letters.get(&number), "dead letter {number}");
        }
    }
}

impl World {
    /// Begins a copy of a lane, unless there is one.
    pub(super) fn begin_copy(&mut self, lane: u8) {
        let Some(of) = self.choose(lane) else { return };
        if self.model.copying.values().any(|other| *other == of) {
            return;
        }
        self.model.generation += 1;
        let to = self.model.generation;
        let id = InstallationId::new(TenantId::MAIN, &self.model.lanes[&of].id).unwrap();
        let begun = CopyBegun { id, of: Generation(of), generation: Generation(to), at: AT };
        let record = AdminRecord::CopyBegun(begun);
        self.admin(record.clone(), Ok(()));
        self.admin(record, Err(Refusal::GenerationTaken(Generation(to))));
        self.pump();
        self.model.copying.insert(to, of);
        // It says itself how far it is.
        assert!(self.shared().copy_stored(Generation(of), Generation(to)).is_some());
    }

    /// Copies some keys. Where that is cut off, the process ends and another is started.
    pub(super) fn copy_step(&mut self, cut: Option<Cut>) {
        let (shared, epoch) = (self.shared(), self.node().epoch);
        self.cut(cut);
        if let Err(error) = copy_step(&shared, epoch) {
            assert!(cut.is_some() && self.machine.was_cut(), "{error}");
        }
        drop(shared);
        if cut.is_some() {
            self.restart();
        }
    }

    fn cut(&mut self, cut: Option<Cut>) {
        if let Some(cut) = cut {
            let storage = std::sync::Arc::clone(&self.node().storage);
            self.machine.cut(cut, &storage);
        }
    }

    /// Ends a copy of what the store has, with what it doesn't have yet.
    pub(super) fn end_copy(&mut self, which: u8, cut: Option<Cut>) {
        self.pump();
        let (shared, epoch) = (self.shared(), self.node().epoch);
        let followed: Vec<u64> = {
            let jobs = shared.copies.jobs.lock();
            let followed = jobs.iter().filter(|job| matches!(job.step, Step::Followed));
            followed.map(|job| job.to.0).collect()
        };
        if followed.is_empty() {
            return;
        }
        let to = followed[usize::from(which) % followed.len()];
        let of = self.model.copying[&to];
        let mut done = shared.copy_rest(Generation(to));
        self.cut(cut);
        let copied = copy_rests(&shared, epoch);
        if let Err(error) = &copied {
            assert!(cut.is_some() && self.machine.was_cut(), "{error}");
        }
        if cut.is_some() {
            drop(shared);
            return self.restart();
        }
        let copied = done.try_recv().unwrap();
        self.model.copying.remove(&to);
        let Some(lane) = self.model.lanes.get(&of).cloned() else {
            assert!(copied.is_err(), "its lane is gone");
            shared.abandon_copy(Generation(to));
            self.model.removed.insert(to);
            return;
        };
        copied.unwrap();
        let durable = shared.lanes.of_generation(Generation(of)).unwrap();
        let revision = (*durable.newest().revision).clone();
        let facts = CopyFacts { revision, at: AT, reason: Reason::Regular };
        let copied = Copied { generation: Generation(to), of: self.ended(of), facts };
        self.admin(AdminRecord::Copied(Box::new(copied)), Ok(()));
        self.model.copies.insert(to, lane);
    }

    /// A copy is one too many. It is gone for a rollback, too.
    pub(super) fn drop_copy(&mut self, which: u8) {
        self.pump();
        let copies: Vec<u64> = self.model.copies.keys().copied().collect();
        if copies.is_empty() {
            return;
        }
        let copy = copies[usize::from(which) % copies.len()];
        let lane = self.model.copies.remove(&copy).unwrap();
        self.model.removed.insert(copy);
        let id = InstallationId::new(TenantId::MAIN, &lane.id).unwrap();
        let dropped = CopiesDropped { id, generations: vec![Generation(copy)] };
        self.admin(AdminRecord::CopiesDropped(dropped), Ok(()));
    }

    /// No revision names a copy that isn't kept.
    pub(super) fn refuse_without_copy(&mut self, mut revised: Revised) {
        let copy = Generation(self.model.generation + 1);
        revised.installation.trial = Some(Trial { copy, until: AT });
        self.admin(AdminRecord::Revised(Box::new(revised)), Err(Refusal::CopyGone));
    }

    /// A copy takes the place of its installation.
    pub(super) fn roll_back(&mut self, which: u8) {
        self.pump();
        let live = |id: &str| self.model.lanes.iter().find(|(_, lane)| lane.id == id).map(|(of, _)| *of);
        let copies = self.model.copies.iter();
        let copies: Vec<(u64, u64)> =
            copies.filter_map(|(copy, lane)| Some((*copy, live(&lane.id)?))).collect();
        if copies.is_empty() {
            return;
        }
        let (copy, before) = copies[usize::from(which) % copies.len()];
        self.add_package(self.model.copies[&copy].version);
        self.pump();
        let shared = self.shared();
        let ended = self.ended(before);
        let gone = self.model.end(before, (AT, ClearedBy::RolledBack), false);
        self.model.generation += 1;
        let begun = Generation(self.model.generation);
        let mut lane = self.model.copies.remove(&copy).unwrap();
        let (number, takes) =
            (gone.revisions.last().unwrap().0 + 1, lane.revisions.last().unwrap().2.clone());
        lane.meta.cursor = lane.meta.cursor.max(Sequence(self.model.dropped as u64));
        lane.meta.invocations_gone = lane.meta.ordinal;
        let new = new_installation(&lane.id, copy, lane.version, &takes, lane.meta.clone());
        let mut new = numbered(new, begun, ids::Revision(number));
        let timers = shared.kept_timers(Generation(copy)).unwrap().into_iter();
        let timers: Vec<(Box<str>, Option<OneShot>)> = timers.map(|(name, set)| (name, Some(set))).collect();
        new.adopted = Some(Box::new(Adopted { alarms: Vec::new(), timers }));
        (new.installation.standing, new.owner) = (gone.standing, None);
        let lane = Lane {
            revisions: vec![(number, lane.meta.cursor.0 + 1, takes)],
            first_revision: number,
            standing: gone.standing,
            invocations: BTreeMap::new(),
            ..lane
        };
        let alarms = lane.alarms.values().cloned().collect();
        self.model.lanes.insert(copy, lane);
        let record = AdminRecord::RolledBack(Box::new(RolledBack { ended, at: AT, new, alarms }));
        self.admin(record.clone(), Ok(()));
        self.admin(record, Err(Refusal::GenerationTaken(begun)));
    }
}

/// A world with an installation and a copy of it, as generation 2.
fn copied() -> (World, Lane) {
    let mut world = World::new(EngineKind::Redb);
    world.install(0, &["a"], true);
    world.commit_something();
    world.begin_copy(0);
    let shared = world.shared();
    let is_followed = || shared.copies.jobs.lock().iter().all(|job| matches!(job.step, Step::Followed));
    while !is_followed() {
        world.copy_step(None);
    }
    world.end_copy(0, None);
    let copy = world.model.copies[&2].clone();
    (world, copy)
}

#[test]
fn copies_that_went_with_a_reset_or_an_uninstall_are_not_gone_back_to() {
    let (mut world, copy) = copied();
    world.reset(0, false);
    world.pump();
    let new = new_installation(&copy.id, 2, copy.version, &["a"], copy.meta.clone());
    let new = numbered(new, Generation(4), ids::Revision(9));
    let rolled_back = RolledBack { ended: world.ended(3), at: AT, new, alarms: Vec::new() };
    world.admin(AdminRecord::RolledBack(Box::new(rolled_back)), Err(Refusal::Gone));
    world.check();

    let (mut world, copy) = copied();
    world.uninstall(0, false);
    world.admin(adopting(&copy.id, 2, 3), Err(Refusal::Gone));
    world.check();
}
