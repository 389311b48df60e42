//! The start of a rehearsal: the last moment before its time whose state is known.

use std::sync::Arc;

use super::StartingPoint;
use crate::fold::copies::{KeptCopy, ReadCopy};
use crate::fold::{self, Shared};
use crate::lanes::Lane;
use crate::lanes::replay::{MAX_STATE, Replica};
use crate::lanes::run::Runner;
use crate::lanes::run::replay::{ReplayError, ends};
use crate::records::commit::Invocation;
use ironloom_types::clock::{SECOND, Timestamp};
use ironloom_types::effects::alarm_cost;
use ironloom_types::ids::{Generation, Ordinal};
use ironloom_types::rehearsal::{RehearsalStart, StartKind};

/// The reason why there is no start.
enum NoStart {
    /// Another place may do.
    Here(String),
    Anywhere(ReplayError),
}

impl From<ReplayError> for NoStart {
    fn from(error: ReplayError) -> Self {
        Self::Anywhere(error)
    }
}

impl Runner {
    /// The start of a rehearsal from this time on: the state at some moment before it, and the place from which
    /// the records go on.
    pub(crate) async fn starting_point(
        &self,
        lane: &Arc<Lane>,
        from: Timestamp,
    ) -> Result<StartingPoint, ReplayError> {
        let copies = self.usable_copies(lane);
        let found = match copies.iter().rev().find(|(_, copy)| copy.time < from) {
            Some((generation, copy)) => self.start_of_copy(lane, *generation, copy).await,
            None => self.start_of_all(lane).await,
        };
        match found {
            Ok(start) => Ok(start),
            Err(NoStart::Anywhere(error)) => Err(error),
            Err(NoStart::Here(why)) => {
                let earliest = self.earliest(lane, &copies).await?;
                Err(ReplayError::NoStart { from, why, earliest })
            }
        }
    }

    /// The copies that a rehearsal of a lane may start from, the oldest first: of the generation whose records there are, and
    /// made since a person has changed its state.
    fn usable_copies(&self, lane: &Lane) -> Vec<(Generation, KeptCopy)> {
        let (_, repaired) = ends(lane);
        let mut copies = self.shared.copies.of(&lane.id);
        copies.retain(|(_, copy)| {
            copy.of == lane.generation && repaired.is_none_or(|repaired| repaired < copy.ordinal)
        });
        copies
    }

    /// The first time from which there is a start, in whole seconds.
    async fn earliest(
        &self,
        lane: &Arc<Lane>,
        copies: &[(Generation, KeptCopy)],
    ) -> Result<Option<Timestamp>, ReplayError> {
        for (_, copy) in copies {
            match self.records_behind(lane, copy.ordinal).await {
                Ok(_) if copy.bytes <= MAX_STATE => {
                    return Ok(Some(Timestamp((copy.time.0 / SECOND + 1) * SECOND)));
                }
                Ok(_) | Err(NoStart::Here(_)) => {}
                Err(NoStart::Anywhere(error)) => return Err(error),
            }
        }
        Ok(None)
    }

    async fn start_of_all(&self, lane: &Arc<Lane>) -> Result<StartingPoint, NoStart> {
        if let (_, Some(repaired)) = ends(lane) {
            let next = repaired.next();
            return Err(NoStart::Here(format!(
                "a person changed its state before invocation {next}, or it was rolled back"
            )));
        }
        if self.records_behind(lane, Ordinal(0)).await?.is_empty() {
            return Err(ReplayError::Nothing.into());
        }
        let mut before = Replica::default();
        let began = lane.book().meta().began;
        before.come_to(began.time);
        Ok(StartingPoint {
            start: RehearsalStart { kind: StartKind::Beginning, time: began.time, after: Ordinal(0) },
            before,
            revision: lane.first_revision(),
            through: began.sequence,
        })
    }

    async fn start_of_copy(
        &self,
        lane: &Arc<Lane>,
        generation: Generation,
        copy: &KeptCopy,
    ) -> Result<StartingPoint, NoStart> {
        if copy.bytes > MAX_STATE {
            return Err(NoStart::Here(format!("the state takes more than {} MiB", MAX_STATE >> 20)));
        }
        let records = self.records_behind(lane, copy.ordinal).await?;
        let read = move |shared: &Shared| read(shared, generation);
        let read = fold::read_aside(&self.shared, read).await.map_err(ReplayError::Host)?;
        let (ReadCopy { meta, revision, .. }, before) = read.ok_or(ReplayError::Changed)?;
        // Readings may have waited for an older one.
        let first = records.first().map_or(revision.number, |first| first.revision.min(revision.number));
        Ok(StartingPoint {
            start: RehearsalStart { kind: StartKind::Copy, time: copy.time, after: copy.ordinal },
            before,
            revision: first,
            through: meta.cursor,
        })
    }

    /// The first records behind an ordinal, where all of them are kept, and what they have read.
    async fn records_behind(&self, lane: &Arc<Lane>, after: Ordinal) -> Result<Vec<Invocation>, NoStart> {
        let (last, _) = ends(lane);
        let records = match self.records(lane, after, last).await {
            Ok(records) => records.unwrap_or_default(),
            Err(ReplayError::NotKept(kept)) => {
                return Err(NoStart::Here(format!(
                    "the records of its invocations before {kept} are no longer kept"
                )));
            }
            Err(error) => return Err(error.into()),
        };
        let first = records.iter().find(|record| record.readings > 0).map(|record| record.first);
        if first.is_some_and(|first| first < self.shared.journal.of(lane.id.tenant()).first()) {
            return Err(NoStart::Here("the journal no longer has the readings from there on".to_owned()));
        }
        Ok(records)
    }
}

/// Reads a copy with all that an app has; `None` where it is gone by now. Waits for the disk.
fn read(shared: &Shared, generation: Generation) -> Result<Option<(ReadCopy, Replica)>, String> {
    let Some(copy) = shared.read_copy(generation)? else { return Ok(None) };
    let state = shared.copied_state(generation)?;
    let alarms = shared.stored_alarms(generation)?.into_iter().filter(|alarm| alarm.state.stands());
    let alarms = alarms.map(|alarm| {
        let cost = alarm_cost(&alarm.entity, &alarm.message);
        ((alarm.code, alarm.entity), cost)
    });
    let timers = shared.kept_timers(generation)?.into_iter().collect();
    // One that is purged, or goes on as an installation, loses that first, and then keys.
    if shared.read_copy(generation)?.as_ref() != Some(&copy) {
        return Ok(None);
    }
    let time = copy.meta.time;
    Ok(Some((copy, Replica::new(state, alarms.collect(), timers, time))))
}
