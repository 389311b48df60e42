//! The revisions of an installation under which readings run: its newest, and those before it while readings from
//! their time wait.

use std::sync::Arc;

use crate::fold::queue::RowNote;
use crate::records::installation::Revision;
use ironloom_apps::manifest::Manifest;
use ironloom_apps::routing::Entities;
use ironloom_storage::journal::Chunk;
use ironloom_types::ids::{self, Sequence};
use ironloom_types::limits::Limits;

/// A revision at work.
#[derive(Clone)]
pub(crate) struct Term {
    pub revision: Arc<Revision>,
    /// The limits that hold: its own, but none above that of a later revision. A limit that is lowered is lowered at
    /// once, for what waits as well.
    pub limits: Limits,
    /// The manifest of its package.
    pub manifest: Arc<Manifest>,
    /// Its number in the routing table. Revisions with the same inputs share one.
    pub route: u32,
    /// The entities of its inputs, shared with the routing table.
    pub entities: Arc<Entities>,
}

impl Term {
    /// The first sequence that runs under it.
    pub(crate) fn from(&self) -> Sequence {
        self.revision.from
    }

    pub(crate) fn number(&self) -> ids::Revision {
        self.revision.number
    }
}

/// Those of one installation in the order of their sequences; there is at least one.
pub(crate) struct Terms(Vec<Arc<Term>>);

impl Terms {
    /// Terms that were begun one after the other.
    pub(crate) fn new(terms: Vec<Term>) -> Self {
        assert!(!terms.is_empty(), "an installation has at least one revision");
        let mut later: Option<Limits> = None;
        let mut all = Vec::with_capacity(terms.len());
        for term in terms.into_iter().rev() {
            let limits = later
                .as_ref()
                .map_or_else(|| term.revision.limits.clone(), |later| least(&term.revision.limits, later));
            later = Some(limits.clone());
            all.push(Arc::new(Term { limits, ..term }));
        }
        all.reverse();
        Self(all)
    }

    /// All, the oldest first.
    pub(crate) fn all(&self) -> &[Arc<Term>] {
        &self.0
    }

    pub(crate) fn newest(&self) -> &Arc<Term> {
        &self.0[self.0.len() - 1]
    }

    /// The place of the one that a reading of this sequence runs under; `None` where it is older than all of them.
    fn place_of(&self, sequence: Sequence) -> Option<usize> {
        self.0.partition_point(|term| term.from() <= sequence).checked_sub(1)
    }

    /// The one that a reading of this sequence runs under; `None` where it is older than all of them.
    pub(crate) fn of(&self, sequence: Sequence) -> Option<&Arc<Term>> {
        Some(&self.0[self.place_of(sequence)?])
    }

    /// Keeps the rows of a chunk that this route gives to readings' own revisions: others have routes of their own.
    pub(crate) fn keep_routed(&self, route: u32, chunk: &Chunk, rows: &mut Vec<RowNote>) {
        if let [only] = self.all()
            && only.from() <= chunk.first_sequence
        {
            return;
        }
        rows.retain(|row| {
            self.of(chunk.sequence(row.offset as usize)).is_some_and(|term| term.route == route)
        });
    }

    /// The place of the one that runs next, where this is the first reading that waits.
    fn place_now(&self, pending: Option<Sequence>) -> usize {
        match pending {
            None => self.0.len() - 1,
            Some(pending) => self.place_of(pending).unwrap_or(0),
        }
    }

    /// The one that runs next, where this is the first reading that waits, and the first sequence that it doesn't run.
    pub(crate) fn now(&self, pending: Option<Sequence>) -> (&Arc<Term>, Option<Sequence>) {
        let place = self.place_now(pending);
        (&self.0[place], self.0.get(place + 1).map(|next| next.from()))
    }

    /// Those that still have readings, where this is the first that waits, and those that have none.
    pub(crate) fn split(&self, pending: Option<Sequence>) -> (&[Arc<Term>], &[Arc<Term>]) {
        let (done, left) = self.0.split_at(self.place_now(pending));
        (left, done)
    }
}

/// The lower of each.
fn least(a: &Limits, b: &Limits) -> Limits {
    Limits {
        memory: a.memory.min(b.memory),
        cpu: a.cpu.min(b.cpu),
        state: a.state.min(b.state),
        share: a.share.min(b.share),
        points: a.points.min(b.points),
    }
}
