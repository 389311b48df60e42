//! Dead letters as they are kept: among the changed keys, and in the store.

use std::ops::RangeInclusive;

use super::Shared;
use super::durable::Durable;
use super::stored::decode;
use crate::records::commit::DeadLetter;
use ironloom_storage::store::{Item, KeyKind, KeyRange};
use ironloom_types::ids::{Generation, Sequence};

/// Dead letters that are read in one step: each may have a text of 64 KiB.
const AT_ONCE: usize = 64;

/// Numbers of dead letters, from the newest back, that are looked at to find those of a push.
const MOST_COUNTED: u64 = 1_024;
/// Of these, those that are looked at first: mostly all are older than the push.
const FIRST_COUNTED: u64 = 8;

/// Dead letters of some readings.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Letters {
    pub count: u64,
    /// There may be more: not all were looked at.
    pub at_least: bool,
}

impl Letters {
    /// Those that nobody has looked at.
    pub(crate) const UNKNOWN: Self = Self { count: 0, at_least: true };
}

/// By how many, and by how much, the dead letters of an installation are too many.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Excess {
    pub letters: u64,
    pub bytes: u64,
}

/// One of the oldest dead letters.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Oldest {
    pub number: u64,
    pub cost: u64,
}

impl Shared {
    /// A dead letter that is kept.
    pub(crate) fn dead_letter(
        &self,
        generation: Generation,
        number: u64,
    ) -> Result<Option<DeadLetter>, String> {
        let key = Item::DeadLetter(generation, number).key();
        self.stored(&key)
    }

    /// The dead letters with a number above `after`, in the order of their numbers, at most so many and at most as
    /// many as are read in one step; and whether there are more.
    pub(crate) fn dead_letters(
        &self,
        generation: Generation,
        after: u64,
        limit: usize,
    ) -> Result<(Vec<DeadLetter>, bool), String> {
        self.dead_letters_from(
            KeyRange::generation(KeyKind::DeadLetter, generation),
            generation,
            Some(after),
            limit,
        )
    }

    /// The same from the newest back: those with a number below `before`.
    pub(crate) fn newest_dead_letters(
        &self,
        generation: Generation,
        before: Option<u64>,
        limit: usize,
    ) -> Result<(Vec<DeadLetter>, bool), String> {
        let range = KeyRange::generation(KeyKind::DeadLetter, generation).reversed();
        self.dead_letters_from(range, generation, before, limit)
    }

    fn dead_letters_from(
        &self,
        range: KeyRange,
        generation: Generation,
        after: Option<u64>,
        limit: usize,
    ) -> Result<(Vec<DeadLetter>, bool), String> {
        let after = after.map(|after| Item::DeadLetter(generation, after).key());
        let found = self.overlay.scan(&range, after.as_ref(), limit.min(AT_ONCE));
        let (entries, more) = found.map_err(|error| error.to_string())?;
        let letters =
            entries.into_iter().map(|(key, bytes)| decode(&bytes).map_err(|error| format!("{key}: {error}")));
        Ok((letters.collect::<Result<_, _>>()?, more))
    }

    /// Counts the dead letters of an installation that are of these readings, from the newest back, until it is over.
    pub(crate) fn letters_of(
        &self,
        lane: &Durable,
        readings: RangeInclusive<Sequence>,
        is_over: impl Fn() -> bool,
    ) -> Result<Letters, String> {
        let mut before = lane.book().meta().next_dead_letter;
        let least = before.saturating_sub(MOST_COUNTED);
        let (mut letters, mut at_once) = (Letters::default(), FIRST_COUNTED);
        while before > 1 {
            if before <= least || is_over() {
                letters.at_least = true;
                break;
            }
            let after = before.saturating_sub(at_once).max(least).max(1) - 1;
            let (page, _) = self.dead_letters(lane.generation, after, (before - after - 1) as usize)?;
            let page: Vec<_> = page.into_iter().filter(|letter| letter.number < before).collect();
            letters.count += page.iter().filter(|letter| readings.contains(&letter.sequence)).count() as u64;
            // One that was run again is newer than its reading.
            if !page.is_empty() && page.iter().all(|letter| letter.sequence < *readings.start()) {
                break;
            }
            (before, at_once) = (after + 1, AT_ONCE as u64);
        }
        Ok(letters)
    }

    /// The oldest dead letters, as many as make up for `excess`; never those `without` which it is asked. `gone_through`
    /// is a number up to which none is left, and becomes the last such number: otherwise each search would pass over all
    /// that were dropped since the last checkpoint.
    pub(crate) fn oldest_dead_letters(
        &self,
        generation: Generation,
        gone_through: &mut u64,
        excess: Excess,
        without: &[u64],
    ) -> Result<Vec<Oldest>, String> {
        let (mut oldest, mut bytes, mut after) = (Vec::new(), 0, *gone_through);
        // Mostly one is enough, and each may be large.
        let mut at_once = (excess.letters as usize + without.len()).clamp(1, AT_ONCE);
        let mut is_first = true;
        loop {
            let (letters, more) = self.dead_letters(generation, after, at_once)?;
            at_once = (2 * at_once).min(AT_ONCE);
            for letter in letters {
                if std::mem::take(&mut is_first) {
                    *gone_through = letter.number - 1;
                }
                if oldest.len() as u64 >= excess.letters && bytes >= excess.bytes {
                    return Ok(oldest);
                }
                after = letter.number;
                if !without.contains(&letter.number) {
                    let cost = letter.cost();
                    bytes += cost;
                    oldest.push(Oldest { number: letter.number, cost });
                }
            }
            if !more {
                return Ok(oldest);
            }
        }
    }
}
