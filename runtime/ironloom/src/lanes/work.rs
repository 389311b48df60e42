//! What a lane does next, and what it remembers of it: plain data that outcome and pace share.

use super::batch::Offer;
use super::policy::{Effort, TimerEffort, Verdict};
use crate::records::commit::{DeadLetter, InvocationKind};
use ironloom_types::clock::Timestamp;
use ironloom_types::ids::Sequence;

/// The call into the app.
#[derive(Debug)]
pub(crate) enum Work {
    Readings(Box<Offer>),
    /// A dead letter, once more.
    Requeue(Box<DeadLetter>),
    /// A timer; `repeating` has its next time.
    Timer {
        name: Box<str>,
        /// When it was due.
        due: Timestamp,
        /// For a timer of the manifest: when it is due next.
        repeating: Option<Timestamp>,
    },
}

impl Work {
    pub(super) fn kind(&self) -> InvocationKind {
        match self {
            Self::Readings(offer) if offer.batch.frames.is_empty() => InvocationKind::Skip,
            Self::Readings(_) => InvocationKind::Readings,
            Self::Requeue(letter) => InvocationKind::Requeue(letter.number),
            Self::Timer { name, .. } => InvocationKind::Timer(name.clone()),
        }
    }

    pub(super) fn range(&self) -> (Sequence, Sequence, u32) {
        match self {
            Self::Readings(offer) => (offer.first, offer.last, offer.rows as u32),
            Self::Requeue(letter) => (letter.sequence, letter.sequence, 1),
            Self::Timer { .. } => (Sequence(0), Sequence(0), 0),
        }
    }

    /// The invocation's time, never less than that of the one before.
    pub(crate) fn time(&self, before: Timestamp) -> Timestamp {
        let own = match self {
            Self::Readings(offer) => offer.time,
            Self::Requeue(letter) => letter.time,
            Self::Timer { due, .. } => *due,
        };
        own.max(before)
    }
}

/// What follows from an invocation for the next ones of its lane.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Next {
    pub verdict: Verdict,
    /// The size of its next offer.
    pub effort: Effort,
    /// Attempts at the timer that ran.
    pub timer: TimerEffort,
}
