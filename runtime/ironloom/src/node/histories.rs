//! Retention of installations' histories: summaries of invocations, episodes of alarms and dead letters that are
//! older than the configuration keeps them. Each installation's go by a record of its own, in its lane's turn.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::{Duration, Instant};

use super::{Node, Turn, problems};
use crate::api::facade::Answer;
use crate::config::{History, Span};
use crate::fold::durable::Durable;
use crate::fold::expired::{Old, OldEpisodes};
use crate::fold::letters::Oldest;
use crate::fold::{Shared, read_aside};
use crate::lanes::Lane;
use crate::records::admin::{AdminRecord, Expired};
use crate::records::alarm::AlarmRecord;
use crate::records::lane::LaneMeta;
use ironloom_types::clock::Timestamp;
use ironloom_types::ids::{Generation, Ordinal};

/// The time that one look takes; the next one goes on.
const PATIENCE: Duration = Duration::from_secs(1);
/// A part of the age: only when time has gone on by so much is a kind of history looked through again. What is old
/// stays for as much longer.
const PARTS: u64 = 1_000;
/// The same for one to which nothing has come: a shelf may have ended.
const LOOKS: u64 = 10;

/// The histories of an installation, in the order of the arrays here: invocations, alarms, dead letters.
type Each<T> = [T; 3];

/// A time before which a history is too old.
#[derive(Clone, Copy, Debug)]
struct Limit {
    before: Timestamp,
    age: u64,
}

impl Limit {
    /// Says whether something may be too old now that wasn't when it was looked for the last time.
    fn wants(self, look: Option<Look>, mark: u64) -> bool {
        let Some(look) = look else { return true };
        // The clock may have been set back.
        let gone_on = self.before.0.abs_diff(look.before.0);
        let is_due = look.mark != mark || look.next.is_some_and(|next| next < self.before);
        look.more || gone_on >= self.age / PARTS && (is_due || gone_on >= self.age / LOOKS)
    }
}

/// A look through one history.
#[derive(Clone, Copy, Debug)]
struct Look {
    before: Timestamp,
    /// Changes with whatever comes to the history.
    mark: u64,
    /// The time of the oldest that stayed.
    next: Option<Timestamp>,
    more: bool,
}

/// The looks through histories, by generation.
#[derive(Debug, Default)]
pub(super) struct Looks {
    of: BTreeMap<Generation, Each<Option<Look>>>,
    /// The last generation that was looked at.
    last: Option<Generation>,
}

/// Numbers that change with whatever comes to the histories; `None` where one has nothing.
fn marks(lane: &Lane) -> Each<Option<u64>> {
    let book = lane.book();
    let meta = book.meta();
    let has_episodes = meta.episodes.kept > 0 || !book.alarms().is_empty();
    [
        (meta.invocations_gone < meta.ordinal).then_some(meta.ordinal.0),
        has_episodes.then_some(meta.next_alarm.wrapping_add(meta.episodes.kept << 32)),
        (meta.dead_letters_kept > 0).then_some(meta.next_dead_letter),
    ]
}

/// The parts of one installation that are too old, as far as they were looked for.
#[derive(Debug, Default)]
struct Past {
    invocations: Option<Old<Ordinal>>,
    alarms: Option<Old<OldEpisodes>>,
    dead_letters: Option<Old<Vec<Oldest>>>,
}

impl Past {
    fn find(shared: &Shared, durable: &Durable, before: Each<Option<Timestamp>>) -> Result<Self, String> {
        let [invocations, alarms, dead_letters] = before;
        Ok(Self {
            invocations: invocations.map(|before| shared.old_invocations(durable, before)).transpose()?,
            alarms: alarms.map(|before| shared.old_episodes(durable, before)).transpose()?,
            dead_letters: dead_letters
                .map(|before| shared.old_letters(durable.generation, before))
                .transpose()?,
        })
    }

    /// Says whether nothing has to go where invocations up to `gone` went before.
    fn is_nothing(&self, gone: Ordinal) -> bool {
        let invocations = self.invocations.as_ref().is_none_or(|old| old.parts <= gone);
        let alarms = self.alarms.as_ref().is_none_or(|old| old.parts == OldEpisodes::default());
        invocations && alarms && self.dead_letters.as_ref().is_none_or(|old| old.parts.is_empty())
    }

    /// Of each history that was looked through, the time of the oldest that stays, and whether more goes.
    fn stays(&self) -> Each<Option<(Option<Timestamp>, bool)>> {
        fn of<T>(old: &Option<Old<T>>) -> Option<(Option<Timestamp>, bool)> {
            old.as_ref().map(|old| (old.next, old.more))
        }
        [of(&self.invocations), of(&self.alarms), of(&self.dead_letters)]
    }

    /// The record that takes it away, where this is the bookkeeping before.
    fn into_record(self, lane: &Lane, mut meta: LaneMeta) -> Expired {
        let invocations_gone_before = meta.invocations_gone;
        if let Some(old) = self.invocations {
            meta.invocations_gone = old.parts.max(meta.invocations_gone);
        }
        let OldEpisodes { over, shelved } = self.alarms.map(|old| old.parts).unwrap_or_default();
        let letters = self.dead_letters.map(|old| old.parts).unwrap_or_default();
        over.iter().for_each(|episode| meta.episodes.remove(episode.cost));
        meta.counters.episodes_dropped += (over.len() + shelved.len()) as u64;
        for letter in &letters {
            meta.dead_letters_kept = meta.dead_letters_kept.saturating_sub(1);
            meta.dead_letter_bytes = meta.dead_letter_bytes.saturating_sub(letter.cost);
        }
        meta.counters.dead_letters_dropped += letters.len() as u64;
        let of_shelved = shelved.iter().map(AlarmRecord::place);
        Expired {
            id: lane.id.clone(),
            generation: lane.generation,
            invocations_gone_before,
            episodes_gone: over.iter().map(|episode| episode.place).chain(of_shelved).collect(),
            alarms: shelved,
            dead_letters_gone: letters.iter().map(|letter| letter.number).collect(),
            meta,
        }
    }
}

impl Node {
    /// Drops of all histories what is too old, as far as one look gets.
    pub(super) async fn drop_old_histories(self: &Arc<Self>, up: Duration, looks: &mut Looks) {
        let Some(limits) = self.history_limits(up) else { return };
        let started = Instant::now();
        let mut lanes = self.lanes.all();
        lanes.sort_unstable_by_key(|lane| lane.generation);
        looks.of.retain(|known, _| lanes.binary_search_by_key(known, |lane| lane.generation).is_ok());
        let first = lanes.partition_point(|lane| looks.last.is_some_and(|last| lane.generation <= last));
        lanes.rotate_left(first);
        for lane in lanes {
            if started.elapsed() >= PATIENCE {
                return;
            }
            looks.last = Some(lane.generation);
            let looked = looks.of.entry(lane.generation).or_default();
            if let Err(problem) = self.drop_old_history(&lane, limits, looked).await {
                tracing::warn!(%problem, installation = %lane.id, "parts of its history past their retention could not be dropped; it is tried again");
            }
        }
    }

    /// The limits as of now; `None` where there are none.
    fn history_limits(&self, up: Duration) -> Option<Each<Option<Limit>>> {
        let config = self.config.load();
        let History { invocations, alarms, dead_letters, audit: _ } = config.history;
        let ages = [invocations, alarms, dead_letters].map(|age| age.beside(&config.journal));
        if ages.iter().all(Option::is_none) {
            return None;
        }
        let now = self.believed_now(up)?;
        Some(ages.map(|age| {
            let Span(age) = age?;
            Some(Limit { before: Timestamp(now.0.saturating_sub(age)), age })
        }))
    }

    async fn drop_old_history(
        self: &Arc<Self>,
        lane: &Arc<Lane>,
        limits: Each<Option<Limit>>,
        looked: &mut Each<Option<Look>>,
    ) -> Answer<()> {
        let marks = marks(lane);
        let wanted: Each<Option<Limit>> = std::array::from_fn(|kind| {
            let (limit, mark) = limits[kind].zip(marks[kind])?;
            limit.wants(looked[kind], mark).then_some(limit)
        });
        if wanted.iter().all(Option::is_none) {
            return Ok(());
        }
        let mut past = self.past(lane, wanted).await?;
        if !past.is_nothing(lane.book().meta().invocations_gone) {
            // Once more in its turn: some of it may have gone meanwhile.
            let _turn = Turn::of(Arc::clone(lane), Arc::clone(&self.lanes)).await;
            past = self.past(lane, wanted).await?;
            if let Some(old) = &mut past.dead_letters {
                // Those that somebody has had run again stay until they have.
                let pace = lane.pace.lock();
                old.parts.retain(|letter| !pace.requeue.has(letter.number));
            }
            let (meta, is_closed) = {
                let book = lane.book();
                (book.meta().clone(), book.is_closed())
            };
            if is_closed {
                return Ok(());
            }
            let stays = past.stays();
            if !past.is_nothing(meta.invocations_gone) {
                self.change(AdminRecord::Expired(Box::new(past.into_record(lane, meta)))).await?;
            }
            note(looked, wanted, marks, stays);
            return Ok(());
        }
        note(looked, wanted, marks, past.stays());
        Ok(())
    }

    /// Finds the parts of an installation that are too old.
    async fn past(&self, lane: &Arc<Lane>, limits: Each<Option<Limit>>) -> Answer<Past> {
        let Some(durable) = self.shared.lanes.of_generation(lane.generation) else {
            return Ok(Past::default());
        };
        let before = limits.map(|limit| limit.map(|limit| limit.before));
        let past = read_aside(&self.shared, move |shared| Past::find(shared, &durable, before)).await;
        past.map_err(|error| problems::internal(&error))
    }
}

/// Notes what was found in the histories that were looked through.
fn note(
    looked: &mut Each<Option<Look>>,
    limits: Each<Option<Limit>>,
    marks: Each<Option<u64>>,
    stays: Each<Option<(Option<Timestamp>, bool)>>,
) {
    for (kind, look) in looked.iter_mut().enumerate() {
        if let (Some(limit), Some(mark), Some((next, more))) = (limits[kind], marks[kind], stays[kind]) {
            *look = Some(Look { before: limit.before, mark, next, more });
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_history_is_looked_through_where_something_may_have_become_too_old() {
        let limit = |before| Limit { before: Timestamp(before), age: 10_000 };
        let look = |next: Option<u64>, more| {
            Some(Look { before: Timestamp(5_000), mark: 7, next: next.map(Timestamp), more })
        };
        assert!(limit(5_000).wants(None, 7));
        // Nothing that stayed is old by now, and nothing came.
        assert!(!limit(5_900).wants(look(Some(5_900), false), 7));
        assert!(!limit(5_900).wants(look(None, false), 7));
        // Old ones, and new ones, are looked for once a thousandth of the age has passed.
        assert!(limit(5_900).wants(look(Some(5_899), false), 7));
        assert!(limit(5_010).wants(look(None, false), 8));
        assert!(!limit(5_009).wants(look(None, false), 8));
        assert!(!limit(5_009).wants(look(Some(5_001), false), 7));
        // Where a record had no room for more, at once; after a tenth, and after the clock was set back, in any case.
        assert!(limit(5_000).wants(look(None, true), 7));
        assert!(limit(6_000).wants(look(None, false), 7));
        assert!(limit(4_000).wants(look(None, false), 7));
    }
}
