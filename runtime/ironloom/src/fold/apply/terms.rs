//! Installations begin, are revised and end, with their routes.

use std::collections::BTreeSet;
use std::sync::Arc;

use super::Applier;
use crate::fold::durable::{Begin, Durable, Term, Terms};
use crate::fold::routes::PreparedRoutes;
use crate::fold::stored::encode;
use crate::records::admin::Revised;
use ironloom_apps::binding::InputBinding;
use ironloom_apps::routing::{Entities, Prepared};
use ironloom_storage::store::{Item, Key};
use ironloom_types::ids::{self, InstallationId};

impl Applier {
    /// Makes a lane and routes to it, by what was prepared if it still holds.
    pub(crate) fn begin(&mut self, begin: Begin, mut routes: Option<PreparedRoutes>) {
        let mut free = self.shared.lanes.free_numbers(begin.revisions.len());
        let number = free.first().copied().unwrap_or_default();
        let mut terms: Vec<Term> = Vec::with_capacity(begin.revisions.len());
        for (revision, manifest) in &begin.revisions {
            let inputs = &revision.bindings.inputs;
            let before = terms.last().filter(|before| before.revision.bindings.inputs == *inputs);
            let (route, entities) = match before {
                Some(before) => (before.route, Arc::clone(&before.entities)),
                None => {
                    let route = free.remove(0);
                    let Some(entities) = self.put_route(route, &begin.installation.id, inputs, routes.take())
                    else {
                        return;
                    };
                    (route, entities)
                }
            };
            let (revision, limits) = (Arc::new(revision.clone()), revision.limits.clone());
            terms.push(Term { revision, limits, manifest: Arc::clone(manifest), route, entities });
        }
        let terms = Terms::new(terms);
        let lane = Arc::new(Durable::new(number, begin, terms, self.shared.lanes.alarms()));
        self.shared.lanes.insert(Arc::clone(&lane));
        let routes: BTreeSet<u32> = lane.terms().all().iter().map(|term| term.route).collect();
        for route in routes.into_iter().filter(|route| *route != number) {
            self.shared.lanes.share(route, number);
        }
        self.shared.listener.begun(&lane);
        self.set_rights(&lane);
        self.shared.note_due(&lane);
    }

    /// Routes to inputs under a number that is free.
    fn put_route(
        &self,
        route: u32,
        id: &InstallationId,
        inputs: &[InputBinding],
        prepared: Option<PreparedRoutes>,
    ) -> Option<Arc<Entities>> {
        let (left_out, entities) = {
            let mut routing = self.shared.routing.write();
            let names = self.shared.points.names();
            let prepared = prepared.filter(|prepared| prepared.changes == routing.changes());
            let prepared = prepared.map_or_else(|| Prepared::new(inputs), |prepared| prepared.routes);
            let points = names.iter_from(prepared.next());
            let points = points.map(|(number, point)| (number, &point.path, point.unit.as_deref()));
            let left_out = routing.put_lane(route, inputs, prepared, points);
            (left_out, routing.entities(route))
        };
        self.shared.left_out.begin(route, id);
        self.shared.note_left_out(&left_out);
        entities
    }

    /// Begins a revision of an installation.
    pub(super) fn revise(&mut self, revised: Revised) {
        let Revised { installation, mut revision, meta, alarms, timers, state, owner } = revised;
        self.set_owner(owner);
        self.meet_consent(&installation);
        let generation = installation.generation;
        let mut holdings: Vec<_> = timers
            .iter()
            .map(|(name, set)| (Item::Timer(generation, name).key(), set.as_ref().map(encode)))
            .collect();
        let lane = self.shared.lanes.of_generation(generation);
        for alarm in &alarms {
            let is_current = self.shared.is_current(lane.as_deref(), generation, alarm);
            self.shared.change_alarm(is_current, &installation.id, generation, alarm, &mut holdings);
        }
        let Some(lane) = lane else {
            // One that is gone by now ends by a later record of the log, and these may be adopted.
            self.shared.overlay.apply(holdings);
            return;
        };
        let known = self.shared.packages.read().get(&revision.package).cloned();
        let Some(known) = known else {
            tracing::error!(installation = %lane.id, package = %revision.package, "the package of its revision is missing");
            return;
        };
        let mut changes = vec![
            (Key::installation(&lane.id), Some(encode(&installation))),
            (revision_key(&lane.id, revision.number), Some(encode(&revision))),
            self.lane_value(&lane.id, lane.generation, &meta),
        ];
        changes.extend(holdings);
        known.share(&mut revision);
        let before = lane.terms();
        let inputs = &revision.bindings.inputs;
        let (route, entities) = if before.newest().revision.bindings.inputs == *inputs {
            (before.newest().route, Arc::clone(&before.newest().entities))
        } else {
            let prepared = self.shared.prepared.lock().remove(&lane.generation);
            let route = self.shared.lanes.free_numbers(1)[0];
            self.shared.lanes.share(route, lane.number);
            let Some(entities) = self.put_route(route, &lane.id, inputs, prepared) else { return };
            (route, entities)
        };
        let from = revision.from;
        let (revision, limits) = (Arc::new(revision.clone()), revision.limits);
        let manifest = Arc::clone(&known.manifest);
        let ended = lane.revise(Term { revision, limits, manifest, route, entities });
        // Readings that it takes over were routed by others' inputs.
        let was =
            before.all().iter().filter(|term| before.of(from).is_none_or(|of| term.from() >= of.from()));
        if from <= self.shared.journal.of(lane.id.tenant()).last()
            && was.into_iter().any(|term| term.route != route)
        {
            lane.queue.lock().begin_again(from);
        }
        self.ended(&lane, &ended);
        self.shared.overlay.apply(changes);
        self.apply_state(&lane, &state.into_iter().collect());
        lane.take_over(alarms, timers);
        lane.stand(installation, meta);
        self.end_terms(&lane);
        self.shared.listener.revised(&lane);
        self.set_rights(&lane);
        self.shared.note_due(&lane);
        self.shared.tell_waits(&lane);
        self.shared.listener.wake(lane.number);
    }

    /// Ends the revisions from whose time no reading waits.
    pub(super) fn end_terms(&self, lane: &Durable) {
        let ended = lane.end_terms(self.shared.journal.of(lane.id.tenant()).last().next());
        self.ended(lane, &ended);
    }

    /// Forgets revisions, and their routes where no other has the same.
    fn ended(&self, lane: &Durable, ended: &[Arc<Term>]) {
        if ended.is_empty() {
            return;
        }
        let left = lane.terms();
        for term in ended.iter().filter(|term| left.all().iter().all(|left| left.route != term.route)) {
            self.end_route(lane, term);
        }
        let mut changes: Vec<_> =
            ended.iter().map(|term| (revision_key(&lane.id, term.number()), None)).collect();
        // At a restart the store may have the newest one already, which the log then begins once more.
        let newest = left.newest().number();
        let past = ended.iter().filter(|term| term.number() != newest);
        changes.extend(past.flat_map(|term| lane.pass(&term.revision)));
        self.shared.overlay.apply(changes);
    }

    /// Ends the route of a revision. Several may have had it.
    pub(super) fn end_route(&self, lane: &Durable, term: &Term) {
        self.shared.routing.write().remove_lane(term.route, &term.revision.bindings.inputs);
        self.shared.left_out.end(term.route);
        if term.route != lane.number {
            self.shared.lanes.unshare(term.route);
        }
    }
}

pub(in crate::fold) fn revision_key(id: &InstallationId, number: ids::Revision) -> Key {
    Item::Revision(id.tenant(), id.as_str().into(), number).key()
}
