//! Which installations read what an output writes, and which write the same: found by the order of their patterns,
//! so that it costs what is found, however many installations there are.

use std::collections::{BTreeMap, BTreeSet};
use std::ops::Bound;
use std::sync::Arc;

use crate::binding::{Bindings, Target};
use crate::ordered::{Ordered, each_of, each_written};
use crate::pattern::Pattern;
use ironloom_types::ids::{InstallationId, TenantId};

/// An installation, and what it is bound to.
#[derive(Clone, Debug)]
pub struct Neighbour {
    pub id: InstallationId,
    pub bindings: Arc<Bindings>,
}

/// The installations that others meet at points.
pub trait Neighbours {
    /// Those with an input that can read what this target writes, in the order of their ids.
    fn fed_by(&self, target: &Target) -> Vec<Neighbour>;

    /// Those with a bound output that can write a point which this pattern matches, in the order of their ids.
    fn writing(&self, pattern: &Pattern) -> Vec<Neighbour>;
}

/// Nobody else is there.
impl Neighbours for () {
    fn fed_by(&self, _: &Target) -> Vec<Neighbour> {
        Vec::new()
    }

    fn writing(&self, _: &Pattern) -> Vec<Neighbour> {
        Vec::new()
    }
}

/// Two groups: those that are there, and those that are about to be.
impl<A: Neighbours, B: Neighbours> Neighbours for (&A, &B) {
    fn fed_by(&self, target: &Target) -> Vec<Neighbour> {
        joined(self.0.fed_by(target), self.1.fed_by(target))
    }

    fn writing(&self, pattern: &Pattern) -> Vec<Neighbour> {
        joined(self.0.writing(pattern), self.1.writing(pattern))
    }
}

fn joined(mut some: Vec<Neighbour>, others: Vec<Neighbour>) -> Vec<Neighbour> {
    some.extend(others);
    some.sort_by(|a, b| a.id.cmp(&b.id));
    some
}

/// Who has each pattern, by tenant.
#[derive(Debug, Default)]
struct Patterns(BTreeMap<TenantId, BTreeMap<Arc<str>, Vec<InstallationId>>>);

impl Patterns {
    fn insert(&mut self, pattern: &Pattern, id: &InstallationId) {
        let own = self.0.entry(pattern.tenant()).or_default();
        own.entry(pattern.to_arc()).or_insert_with(|| Vec::with_capacity(1)).push(id.clone());
    }

    fn remove(&mut self, pattern: &Pattern, id: &InstallationId) {
        let Some(own) = self.0.get_mut(&pattern.tenant()) else { return };
        if let Some(ids) = own.get_mut(pattern.as_str()) {
            ids.retain(|one| one != id);
            if ids.is_empty() {
                own.remove(pattern.as_str());
            }
        }
        if own.is_empty() {
            self.0.remove(&pattern.tenant());
        }
    }
}

impl Ordered for Patterns {
    type Item = InstallationId;

    fn seek(&self, tenant: TenantId, text: &str) -> Option<&str> {
        let own = self.0.get(&tenant)?;
        let mut behind = own.range::<str, _>((Bound::Included(text), Bound::Unbounded));
        behind.next().map(|(pattern, _)| &**pattern)
    }

    fn each(&self, tenant: TenantId, text: &str, see: &mut dyn FnMut(&InstallationId)) {
        self.0.get(&tenant).and_then(|own| own.get(text)).into_iter().flatten().for_each(see);
    }
}

/// The installations by what they are bound to.
#[derive(Debug, Default)]
pub struct Wiring {
    inputs: Patterns,
    outputs: Patterns,
    known: BTreeMap<InstallationId, Arc<Bindings>>,
}

impl Wiring {
    /// Adds an installation, whose id no other has.
    pub fn insert(&mut self, id: &InstallationId, bindings: &Arc<Bindings>) {
        self.remove(id);
        for pattern in inputs(bindings) {
            self.inputs.insert(pattern, id);
        }
        for pattern in outputs(bindings) {
            self.outputs.insert(pattern, id);
        }
        self.known.insert(id.clone(), Arc::clone(bindings));
    }

    /// Takes an installation out, if it is there.
    pub fn remove(&mut self, id: &InstallationId) {
        let Some(bindings) = self.known.remove(id) else { return };
        for pattern in inputs(&bindings) {
            self.inputs.remove(pattern, id);
        }
        for pattern in outputs(&bindings) {
            self.outputs.remove(pattern, id);
        }
    }

    fn neighbours(&self, ids: BTreeSet<InstallationId>) -> Vec<Neighbour> {
        let found = ids.into_iter().filter_map(|id| {
            let bindings = Arc::clone(self.known.get(&id)?);
            Some(Neighbour { id, bindings })
        });
        found.collect()
    }
}

fn inputs(bindings: &Bindings) -> impl Iterator<Item = &Pattern> {
    bindings.inputs.iter().flat_map(|input| &input.patterns)
}

fn outputs(bindings: &Bindings) -> impl Iterator<Item = &Pattern> {
    bindings.outputs.iter().filter_map(|output| match &output.target {
        Target::Pattern { pattern, .. } => Some(pattern),
        // Nobody else can be bound to points under `apps/`.
        Target::Unbound | Target::Default { .. } => None,
    })
}

impl Neighbours for Wiring {
    fn fed_by(&self, target: &Target) -> Vec<Neighbour> {
        let mut ids = BTreeSet::new();
        each_written(&self.inputs, target, |id| {
            ids.insert(id.clone());
        });
        self.neighbours(ids)
    }

    fn writing(&self, pattern: &Pattern) -> Vec<Neighbour> {
        let mut ids = BTreeSet::new();
        each_of(&self.outputs, pattern, |id| {
            ids.insert(id.clone());
        });
        self.neighbours(ids)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::{bindings, id, path};

    fn names(found: Vec<Neighbour>) -> Vec<String> {
        found.into_iter().map(|one| one.id.to_string()).collect()
    }

    #[test]
    fn those_that_read_and_those_that_write_are_found_until_they_are_gone() {
        let mut wiring = Wiring::default();
        for (name, input, output) in [
            ("a", "x/{m}", Some("y/{m}")),
            ("b", "y/1", None),
            ("c", "{any}/1", Some("z/{q}")),
            ("d", "apps/a/{rest}", None),
            ("e", "apps/a/out/{m}/n", None),
        ] {
            wiring.insert(&id(name), &Arc::new(bindings(name, input, output)));
        }
        let target = |text: &str| Target::Pattern {
            pattern: Pattern::new(TenantId::MAIN, text).unwrap(),
            order: Vec::new(),
        };
        assert_eq!(names(wiring.fed_by(&target("y/{m}"))), ["b", "c"]);
        assert_eq!(names(wiring.fed_by(&Target::Default { prefix: path("apps/a/out") })), ["d", "e"]);
        assert_eq!(names(wiring.fed_by(&Target::Unbound)), [""; 0]);
        assert_eq!(names(wiring.writing(&Pattern::new(TenantId::MAIN, "{p}/{q}").unwrap())), ["a", "c"]);
        assert_eq!(names(wiring.writing(&Pattern::new(TenantId::MAIN, "apps/b/out").unwrap())), [""; 0]);
        wiring.remove(&id("c"));
        assert_eq!(names(wiring.fed_by(&target("y/{m}"))), ["b"]);
        assert_eq!(
            names((&wiring, &wiring).writing(&Pattern::new(TenantId::MAIN, "{p}/{q}").unwrap())),
            ["a", "a"]
        );
        for name in ["a", "b", "d", "e"] {
            wiring.remove(&id(name));
        }
        assert!(wiring.inputs.0.is_empty() && wiring.outputs.0.is_empty() && wiring.known.is_empty());
    }
}
