//! Dead letters: readings that an app could not take, with why.

use crate::fold::durable::Term;
use crate::fold::letters::{Excess, Oldest};
use crate::lanes::batch::Offer;
use crate::lanes::work::Work;
use crate::records::commit::{CommitHead, DeadLetter, OutcomeKind};
use crate::records::lane::LaneMeta;
use ironloom_types::effects::Effects;
use ironloom_types::ids::Ordinal;
use ironloom_types::limits::{MAX_DEAD_LETTER_BYTES, MAX_DEAD_LETTERS};

/// Makes dead letters, with their numbers.
pub(super) struct Letters<'a> {
    term: &'a Term,
    ordinal: Ordinal,
    next: u64,
    made: Vec<DeadLetter>,
    /// Numbers of the dead letters that are gone.
    gone: Vec<u64>,
    /// What those took.
    gone_bytes: u64,
}

impl<'a> Letters<'a> {
    pub(super) fn new(term: &'a Term, ordinal: Ordinal, next: u64) -> Self {
        Self { term, ordinal, next: next.max(1), made: Vec::new(), gone: Vec::new(), gone_bytes: 0 }
    }

    /// Adds the dead letters of a finished invocation.
    pub(super) fn of(&mut self, work: &Work, effects: &Effects, outcome: OutcomeKind, message: Option<&str>) {
        match work {
            Work::Readings(offer) => self.of_offer(offer, effects, outcome, message),
            Work::Requeue(letter) => {
                self.gone.push(letter.number);
                self.gone_bytes += letter.cost();
                self.again(letter, effects, outcome, message);
            }
            Work::Timer { .. } => {}
        }
    }

    fn of_offer(&mut self, offer: &Offer, effects: &Effects, outcome: OutcomeKind, message: Option<&str>) {
        let mut bad: Vec<(u32, String)> = offer.unfit.clone();
        if outcome == OutcomeKind::Ok {
            for refused in &effects.refused {
                if let Some(row) = offer.row(refused.frame, refused.reading) {
                    bad.push((row, format!("refused: {}", refused.reason)));
                }
            }
        } else {
            assert!(offer.readings == 1, "only a single reading becomes a dead letter for a failure");
            let reason = format!("{}: {}", outcome.name(), message.unwrap_or("no reason given"));
            let fit = (0..offer.rows as u32).filter(|row| !offer.unfit.iter().any(|(unfit, _)| unfit == row));
            bad.extend(fit.map(|row| (row, reason.clone())));
        }
        bad.sort_by_key(|(row, _)| *row);
        bad.dedup_by_key(|(row, _)| *row);
        for (row, reason) in bad {
            self.add(offer, row, reason, !matches!(outcome, OutcomeKind::Ok | OutcomeKind::Reject));
        }
    }

    /// A dead letter that failed again: a new one takes its place, with the new reason.
    fn again(&mut self, letter: &DeadLetter, effects: &Effects, outcome: OutcomeKind, message: Option<&str>) {
        let reason = match (outcome, effects.refused.first()) {
            (OutcomeKind::Ok, None) => return,
            (OutcomeKind::Ok, Some(refused)) => format!("refused: {}", refused.reason),
            (outcome, _) => format!("{}: {}", outcome.name(), message.unwrap_or("no reason given")),
        };
        self.made.push(DeadLetter {
            number: self.next,
            reason: reason.into(),
            by_trap: !matches!(outcome, OutcomeKind::Ok | OutcomeKind::Reject | OutcomeKind::Retry),
            ordinal: self.ordinal,
            revision: self.term.number(),
            ..letter.clone()
        });
        self.next += 1;
    }

    fn add(&mut self, offer: &Offer, row: u32, reason: String, by_trap: bool) {
        let Some((slice, note)) = offer.at(row) else { return };
        let chunk = &slice.note.chunk;
        let reading = chunk.row(note.row as usize);
        let input = &self.term.revision.bindings.inputs[note.input as usize];
        let (entity, conversion) = {
            let entities = self.term.entities.read();
            (entities.text(note.entity).into(), entities.conversion(note.input, note.entity))
        };
        self.made.push(DeadLetter {
            number: self.next,
            input: input.name.clone(),
            entity,
            point: reading.point,
            sequence: slice.note.sequence_of(&note),
            time: reading.time,
            at: reading.at,
            quality: reading.quality,
            value: reading.value.into(),
            conversion,
            unit: input.unit.clone(),
            reason: reason.into(),
            by_trap,
            ordinal: self.ordinal,
            revision: self.term.number(),
        });
        self.next += 1;
    }

    /// Returns the new dead letters, and the numbers of those that are gone. They may be too many: see [`excess`].
    pub(super) fn finish(self, meta: &mut LaneMeta) -> (Vec<DeadLetter>, Vec<u64>) {
        let made = self.made.iter().map(DeadLetter::cost).sum::<u64>();
        meta.next_dead_letter = self.next;
        meta.counters.dead_letters += self.made.len() as u64;
        meta.dead_letters_kept =
            (meta.dead_letters_kept + self.made.len() as u64).saturating_sub(self.gone.len() as u64);
        meta.dead_letter_bytes = (meta.dead_letter_bytes + made).saturating_sub(self.gone_bytes);
        (self.made, self.gone)
    }
}

/// By how much the dead letters are more than are kept.
pub(super) fn excess(meta: &LaneMeta) -> Option<Excess> {
    let letters = meta.dead_letters_kept.saturating_sub(MAX_DEAD_LETTERS);
    let bytes = meta.dead_letter_bytes.saturating_sub(MAX_DEAD_LETTER_BYTES);
    (letters > 0 || bytes > 0).then_some(Excess { letters, bytes })
}

/// Drops the oldest dead letters until what is left may be kept. Those that an invocation made follow `oldest`: if
/// it made more than are kept, the first of them are never written.
pub(super) fn drop_oldest(head: &mut CommitHead, oldest: &[Oldest]) {
    let CommitHead { meta, dead_letters: made, dead_letters_gone: gone, .. } = head;
    let drop = |meta: &mut LaneMeta, cost: u64| {
        meta.dead_letters_kept = meta.dead_letters_kept.saturating_sub(1);
        meta.dead_letter_bytes = meta.dead_letter_bytes.saturating_sub(cost);
        meta.counters.dead_letters_dropped += 1;
    };
    for old in oldest {
        if excess(meta).is_none() {
            return;
        }
        drop(meta, old.cost);
        gone.push(old.number);
    }
    let mut unwritten = 0;
    while let (Some(_), Some(letter)) = (excess(meta), made.get(unwritten)) {
        drop(meta, letter.cost());
        unwritten += 1;
    }
    made.drain(..unwritten);
}
