//! The generations that live, as of what was sealed.

use std::collections::BTreeSet;

use hashbrown::HashMap;

use crate::records::lane::LaneMeta;
use ironloom_types::ids::{Generation, InstallationId, Ordinal};

/// A generation that lives.
#[derive(Clone, Debug)]
pub(crate) struct Live {
    installation: InstallationId,
    /// Ordinal and attempt of its next invocation.
    pub(super) next: (Ordinal, u32),
}

/// Those that live; commits come from no others.
#[derive(Debug, Default)]
pub(crate) struct Living {
    generations: HashMap<Generation, Live>,
    /// Each id is that of one of them.
    ids: BTreeSet<InstallationId>,
}

impl Living {
    /// Adds a generation as its lane's bookkeeping says.
    pub(crate) fn insert(&mut self, generation: Generation, id: InstallationId, meta: &LaneMeta) {
        self.ids.insert(id.clone());
        self.generations.insert(generation, Live { installation: id, next: next_invocation(meta) });
    }

    pub(super) fn get(&self, generation: Generation) -> Option<&Live> {
        self.generations.get(&generation)
    }

    pub(super) fn get_mut(&mut self, generation: Generation) -> Option<&mut Live> {
        self.generations.get_mut(&generation)
    }

    /// Says whether an installation of this id lives.
    pub(super) fn has(&self, id: &InstallationId) -> bool {
        self.ids.contains(id)
    }

    /// Takes a generation out; `None` where it doesn't live.
    pub(super) fn remove(&mut self, generation: Generation) -> Option<()> {
        let live = self.generations.remove(&generation)?;
        self.ids.remove(&live.installation);
        Some(())
    }
}

/// Ordinal and attempt of the invocation that follows.
pub(super) fn next_invocation(meta: &LaneMeta) -> (Ordinal, u32) {
    (meta.ordinal.next(), meta.attempts + 1)
}
