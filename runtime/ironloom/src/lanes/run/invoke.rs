//! One call into the app, with all that it is given.

use std::sync::Arc;

use sha2::{Digest as _, Sha256};

use super::Runner;
use crate::fold::durable::Term;
use crate::lanes::context::LaneContext;
use crate::lanes::work::Work;
use crate::lanes::{App, Lane, batch};
use crate::records::commit::DeadLetter;
use ironloom_sandbox::{Batch, Call, Env, Outcome, Report};
use ironloom_types::ids::{Generation, Ordinal};
use ironloom_types::work::Gap;

impl Runner {
    pub(super) fn context(
        &self,
        lane: &Arc<Lane>,
        term: &Arc<Term>,
        firing: Option<Box<str>>,
    ) -> LaneContext {
        LaneContext {
            lane: Arc::clone(lane),
            term: Arc::clone(term),
            storage: Arc::clone(&self.shared.storage),
            points: Arc::clone(&self.shared.points),
            metrics: Arc::clone(&self.shared.metrics),
            firing,
        }
    }

    pub(super) async fn invoke(&self, lane: &Arc<Lane>, term: &Arc<Term>, app: &App, work: &Work) -> Report {
        let firing = match work {
            Work::Timer { name, repeating: None, .. } => Some(name.clone()),
            _ => None,
        };
        let (ordinal, before, state_bytes, gaps, asked) = {
            let book = lane.book();
            let meta = book.meta();
            // Of inputs that another version of the app has, this one hears nothing.
            let known = |gap: &&Gap| term.manifest.input(gap.slot.as_str()).is_some();
            let gaps = meta.gaps.iter().filter(known).cloned().collect();
            let asked = firing.as_ref().and_then(|name| Some(book.timers().get(name)?.asked));
            (meta.ordinal.next(), meta.time, meta.state_bytes, gaps, asked)
        };
        let context = Arc::new(self.context(lane, term, firing));
        let env = Env {
            id: invocation_id(lane.generation, ordinal),
            now: work.time(before),
            seed: seed(lane.generation, ordinal),
            gaps,
            context: Arc::clone(&app.context),
            state: context.clone(),
            state_bytes,
            outputs: context.clone(),
            holdings: context,
            interrupt: lane.interrupt.clone(),
            used: lane.used(),
        };
        match work {
            Work::Readings(offer) if offer.batch.frames.is_empty() => Report::without_call(Outcome::Ok),
            Work::Readings(offer) => self.sandbox.invoke(&app.code, Call::Readings(&offer.batch), env).await,
            Work::Requeue(letter) => match self.batch_of(term, letter) {
                Ok(batch) => self.sandbox.invoke(&app.code, Call::Readings(&batch), env).await,
                Err(problem) => Report::without_call(Outcome::Reject(problem)),
            },
            Work::Timer { name, due, .. } => {
                self.sandbox.invoke(&app.code, Call::Timer { name, due: asked.unwrap_or(*due) }, env).await
            }
        }
    }

    /// A dead letter as a batch, converted as it would be now. Where its point is gone, by the unit that its input had.
    fn batch_of(&self, term: &Term, letter: &DeadLetter) -> Result<Batch, String> {
        let Some((_, input)) = term.revision.bindings.input(letter.input.as_str()) else {
            return Err(format!("the input {} no longer exists", letter.input));
        };
        let unit = self.shared.points.names().point(letter.point).map(|point| point.unit.clone());
        let (value, unit) = match unit {
            Some(unit) => (letter.value.as_ref(), unit),
            None => (batch::converted(letter.value.as_ref(), letter.conversion)?, letter.unit.clone()),
        };
        batch::single(input, &letter.entity, letter.at, letter.quality, (value, unit.as_deref()))
    }
}

/// The id of an invocation, which its app may read.
pub(in crate::lanes) fn invocation_id(generation: Generation, ordinal: Ordinal) -> String {
    format!("{generation}-{ordinal}")
}

/// The key of an invocation's random numbers. It has no tenant in it: a capsule, which runs elsewhere, tells of none.
pub(in crate::lanes) fn seed(generation: Generation, ordinal: Ordinal) -> [u8; 32] {
    let mut hash = Sha256::new();
    hash.update(b"ironloom/random/1");
    hash.update(generation.number().to_le_bytes());
    hash.update(ordinal.0.to_le_bytes());
    hash.finalize().into()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_invocation_has_random_numbers_of_its_own() {
        assert_ne!(seed(Generation(1), Ordinal(2)), seed(Generation(2), Ordinal(1)));
        assert_eq!(seed(Generation(1), Ordinal(2)), seed(Generation(1), Ordinal(2)));
    }
}
