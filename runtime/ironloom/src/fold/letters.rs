//! Dead letters as they are kept: among the changed keys, and in the store.

use super::Shared;
use super::stored::decode;
use crate::records::commit::DeadLetter;
use ironloom_storage::store::{Item, KeyKind, Scope};
use ironloom_types::ids::Generation;

/// Dead letters that are read in one step: each may have a text of 64 KiB.
const AT_ONCE: usize = 64;

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
        let key = Scope::MAIN.key(Item::DeadLetter(generation, number));
        let value = self.overlay.get(&key).map_err(|error| error.to_string())?;
        value.map(|bytes| decode(&bytes).map_err(|error| format!("{key}: {error}"))).transpose()
    }

    /// The dead letters with a number above `after`, in the order of their numbers, at most so many and at most as
    /// many as are read in one step; and whether there are more.
    pub(crate) fn dead_letters(
        &self,
        generation: Generation,
        after: u64,
        limit: usize,
    ) -> Result<(Vec<DeadLetter>, bool), String> {
        let range = Scope::MAIN.generation(KeyKind::DeadLetter, generation);
        let after = Scope::MAIN.key(Item::DeadLetter(generation, after));
        let found = self.overlay.scan(&range, Some(&after), limit.min(AT_ONCE));
        let (entries, more) = found.map_err(|error| error.to_string())?;
        let letters =
            entries.into_iter().map(|(key, bytes)| decode(&bytes).map_err(|error| format!("{key}: {error}")));
        Ok((letters.collect::<Result<_, _>>()?, more))
    }

    /// The oldest dead letters, as many as make up for `excess`; never those `without` which it is asked.
    pub(crate) fn oldest_dead_letters(
        &self,
        generation: Generation,
        excess: Excess,
        without: &[u64],
    ) -> Result<Vec<Oldest>, String> {
        let (mut oldest, mut bytes, mut after) = (Vec::new(), 0, 0);
        // Mostly one is enough, and each may be large.
        let mut at_once = (excess.letters as usize + without.len()).max(1);
        loop {
            let (letters, more) = self.dead_letters(generation, after, at_once)?;
            at_once = (2 * at_once).min(AT_ONCE);
            for letter in letters {
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
