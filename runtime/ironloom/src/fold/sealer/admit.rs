//! Admins' changes, held against the generations that live and those that are kept.

use std::collections::{BTreeMap, BTreeSet};

use super::live::next_invocation;
use super::{Numberer, Numbers};
use crate::fold::submission::Refusal;
use crate::records::admin::{AdminRecord, NewInstallation, PointsRetired, Reset, Revised};
use crate::records::copy::{Committed, Copied, CopyBegun, RolledBack};
use crate::records::installation::Installation;
use ironloom_types::ids::Generation;

impl Numbers {
    /// Holds new installations against those that live, all before any is taken in.
    fn admit_new(&mut self, new: &[NewInstallation]) -> Result<(), Refusal> {
        let mut last = BTreeMap::new();
        let mut ids = BTreeSet::new();
        for NewInstallation { installation, adopted, .. } in new {
            let (id, begun) = (&installation.id, installation.begun);
            if self.live.has(id) || !ids.insert(id) {
                return Err(Refusal::Exists(id.clone()));
            }
            let before = last.insert(begun.tenant(), begun).unwrap_or(self.generations.of(begun.tenant()));
            if begun <= before {
                return Err(Refusal::GenerationTaken(begun));
            }
            if adopted.is_some() && self.kept.get(&installation.generation) != Some(id) {
                return Err(Refusal::Gone);
            }
        }
        last.into_values().for_each(|begun| self.generations.note(begun));
        for NewInstallation { installation, meta, .. } in new {
            self.kept.remove(&installation.generation);
            self.live.insert(installation.generation, installation.id.clone(), meta);
        }
        Ok(())
    }

    /// Puts a generation in the place of another.
    fn admit_reset(&mut self, Reset { ended, new, .. }: &Reset) -> Result<(), Refusal> {
        let next = new.installation.generation;
        if self.generations.has(next) {
            return Err(Refusal::GenerationTaken(next));
        }
        self.admit_end(&ended.installation, false)?;
        self.copies.retain(|_, id| *id != ended.installation.id);
        self.generations.note(next);
        self.live.insert(next, new.installation.id.clone(), &new.meta);
        Ok(())
    }

    /// Lets a change through of a generation that lives.
    fn admit_change(&self, generation: Generation) -> Result<(), Refusal> {
        self.live.get(generation).map(drop).ok_or(Refusal::Gone)
    }

    /// Lets a revision through whose copy, if it names one, is kept.
    fn admit_revised(&mut self, Revised { installation, meta, .. }: &Revised) -> Result<(), Refusal> {
        let Installation { id, generation, trial, .. } = installation;
        if trial.is_some_and(|trial| self.copies.get(&trial.copy) != Some(id)) {
            return Err(Refusal::CopyGone);
        }
        self.live.get_mut(*generation).ok_or(Refusal::Gone)?.next = next_invocation(meta);
        Ok(())
    }

    /// Gives a copy its number.
    fn admit_copy(&mut self, CopyBegun { of, generation, .. }: &CopyBegun) -> Result<(), Refusal> {
        self.admit_change(*of)?;
        if self.generations.has(*generation) {
            return Err(Refusal::GenerationTaken(*generation));
        }
        self.generations.note(*generation);
        Ok(())
    }

    /// Keeps a copy of one that lives.
    fn admit_copied(&mut self, Copied { generation, of, .. }: &Copied) -> Result<(), Refusal> {
        let of = &of.installation;
        self.admit_change(of.generation)?;
        self.copies.insert(*generation, of.id.clone());
        Ok(())
    }

    /// Puts a copy in the place of a generation.
    fn admit_rollback(&mut self, RolledBack { ended, new, .. }: &RolledBack) -> Result<(), Refusal> {
        let Installation { id, generation, begun, .. } = &new.installation;
        if self.generations.has(*begun) {
            return Err(Refusal::GenerationTaken(*begun));
        }
        if self.copies.get(generation) != Some(id) {
            return Err(Refusal::Gone);
        }
        self.admit_end(&ended.installation, false)?;
        self.generations.note(*begun);
        self.copies.remove(generation);
        self.live.insert(*generation, id.clone(), &new.meta);
        Ok(())
    }

    /// Ends a generation, and keeps it unless all of its id are purged.
    fn admit_end(&mut self, ended: &Installation, purge: bool) -> Result<(), Refusal> {
        self.live.remove(ended.generation).ok_or(Refusal::Gone)?;
        if purge {
            self.kept.retain(|_, id| *id != ended.id);
        } else {
            self.kept.insert(ended.generation, ended.id.clone());
        }
        Ok(())
    }

    fn forget_kept(&mut self, generations: &[Generation]) {
        self.kept.retain(|generation, _| !generations.contains(generation));
        self.copies.retain(|generation, _| !generations.contains(generation));
    }
}

impl Numberer {
    /// Holds a change against the generations that live, and keeps these as they are after it.
    pub(super) fn admit(&mut self, record: &mut AdminRecord) -> Result<(), Refusal> {
        let numbers = &mut self.numbers;
        match record {
            AdminRecord::Installed(new) => numbers.admit_new(new)?,
            AdminRecord::Uninstalled { ended, purge, .. } => {
                numbers.admit_end(&ended.installation, *purge)?;
                numbers.copies.retain(|_, id| *id != ended.installation.id);
                if *purge {
                    self.forget_points(&ended.installation.id);
                }
            }
            AdminRecord::Standing { generation, meta, .. } => {
                numbers.live.get_mut(*generation).ok_or(Refusal::Gone)?.next = next_invocation(meta);
            }
            AdminRecord::Revised(revised) => numbers.admit_revised(revised)?,
            AdminRecord::Reset(reset) => numbers.admit_reset(reset)?,
            AdminRecord::CopyBegun(begun) => numbers.admit_copy(begun)?,
            AdminRecord::Copied(copied) => numbers.admit_copied(copied)?,
            AdminRecord::RolledBack(rolled_back) => numbers.admit_rollback(rolled_back)?,
            AdminRecord::CopiesDropped(dropped) => numbers.forget_kept(&dropped.generations),
            AdminRecord::Alarm { generation, .. }
            | AdminRecord::DeadLetterDeleted { generation, .. }
            | AdminRecord::Committed(Committed { generation, .. })
            | AdminRecord::Missed { generation, .. } => {
                numbers.live.get(*generation).ok_or(Refusal::Gone)?;
            }
            AdminRecord::IntentConfirmed(asked) => numbers.admit_change(asked.place.generation)?,
            AdminRecord::StateChanged(changed) => numbers.admit_change(changed.generation)?,
            AdminRecord::Expired(expired) => numbers.admit_change(expired.generation)?,
            AdminRecord::PointsRetired(PointsRetired { numbers: retired, .. }) => {
                self.admit_retired(retired)?
            }
            AdminRecord::PointRenamed(renamed) => self.admit_renamed(renamed)?,
            AdminRecord::TimeSet { to, .. } => {
                self.clock.set_back(*to);
                numbers.requests.leave_future(*to);
            }
            AdminRecord::Purged { id, generations, points } => {
                if generations.iter().any(|generation| numbers.live.get(*generation).is_some()) {
                    return Err(Refusal::Exists(id.clone()));
                }
                if *points && numbers.live.has(id) {
                    return Err(Refusal::Exists(id.clone()));
                }
                numbers.forget_kept(generations);
                if *points {
                    self.forget_points(id);
                }
            }
            AdminRecord::PackageAdded { .. }
            | AdminRecord::PackageRemoved(_)
            | AdminRecord::Compiled { .. }
            | AdminRecord::UnitsGiven(_)
            | AdminRecord::PointSet(_)
            | AdminRecord::ConnectorSet(_)
            | AdminRecord::ConnectorRemoved { .. }
            | AdminRecord::CatalogSet(_)
            | AdminRecord::CatalogRemoved { .. }
            | AdminRecord::PackageHeld { .. }
            | AdminRecord::Tenant(_)
            | AdminRecord::Token(_)
            | AdminRecord::Audit(_)
            | AdminRecord::ConsentAsked(_)
            | AdminRecord::ConsentRefused { .. }
            | AdminRecord::Dropped { .. } => {}
        }
        Ok(())
    }
}
