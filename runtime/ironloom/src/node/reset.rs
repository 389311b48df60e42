//! Starting an installation over: a new generation with nothing in its state, from a place of the journal on.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Instant;

use super::install::first_meta;
use super::packages::load_problem;
use super::{Node, found_aside, problems};
use crate::api::facade::{Answer, Problem, Reset, StartFrom};
use crate::fold::durable::Term;
use crate::fold::routes::PreparedRoutes;
use crate::lanes::{App, Lane};
use crate::records::admin::{self, AdminRecord, NewInstallation};
use crate::records::installation::{Installation, Revision};
use crate::records::lane::LaneMeta;
use ironloom_types::clock::host_time;
use ironloom_types::ids::{self, Generation, Sequence, TenantId};

/// A generation as it would begin.
struct Begins {
    cursor: Sequence,
    routes: PreparedRoutes,
    backlog: super::install::Counted,
}

impl Node {
    /// Begins a new generation in the place of an installation's, or says what that would be.
    pub(super) async fn reset_installation(
        self: Arc<Self>,
        id: ids::InstallationId,
        from: StartFrom,
        dry_run: bool,
    ) -> Answer<Reset> {
        self.check_space()?;
        let lane = self.lane(&id)?;
        let newest = lane.newest();
        let place = Arc::clone(&self.admin.planning).acquire_owned().await;
        let _place = place.map_err(|error| problems::internal(&error))?;
        let (node, term, tenant) = (Arc::clone(&self), Arc::clone(&newest), lane.id.tenant());
        let Begins { cursor, routes, backlog } =
            found_aside(move || node.begins(tenant, &term, from)).await?;
        let waits = lane.queue.lock().pending().filter(|waits| *waits <= cursor);
        let mut warnings = Vec::new();
        if let Some(waits) = waits {
            warnings.push(format!(
                "readings wait from sequence {waits} on; those through {cursor} are passed over"
            ));
        }
        let (backlog, backlog_at_least) = (backlog.readings, backlog.at_least);
        let lane =
            if dry_run { lane } else { self.begin_anew(lane, &newest, (from, cursor), routes).await? };
        let installation = self.shown(lane).await?;
        Ok(Reset { installation, backlog, backlog_at_least, warnings })
    }

    /// Looks at points and journal: waits for the disk.
    fn begins(&self, tenant: TenantId, term: &Term, from: StartFrom) -> Answer<Begins> {
        let cursor = self.cursor(tenant, from)?;
        let bindings = &term.revision.bindings;
        let changes = self.shared.routing.read().changes();
        let routes = self.matched(bindings);
        let points = || routes.matches().iter().map(|(point, _)| *point).collect();
        let backlog = self.count_readings(tenant, cursor, points, Instant::now())?;
        Ok(Begins { cursor, routes: PreparedRoutes { routes, changes }, backlog })
    }

    /// Writes the record while the lane stands still. 409 where somebody has changed the installation in between.
    async fn begin_anew(
        &self,
        lane: Arc<Lane>,
        newest: &Term,
        (from, cursor): (StartFrom, Sequence),
        routes: PreparedRoutes,
    ) -> Answer<Arc<Lane>> {
        let id = &lane.id;
        let known = self.known(newest.revision.package).ok_or_else(|| {
            problems::internal(&format!("the package {} of {id} is missing", newest.revision.package))
        })?;
        let code = self.load(&known, &newest.revision.limits).await;
        let code = code.map_err(|error| load_problem(&error))?;
        let turn = self.interrupt(id).await?;
        if !Arc::ptr_eq(&turn.lane, &lane) || lane.newest().number() != newest.number() {
            let detail = format!("installation {id} was changed in the meantime; nothing is reset");
            return Err(Problem::conflict("revision", detail).hint("Send the request again."));
        }
        let mut given = self.admin.installing.lock().await;
        let generation = self.next_generation(&given, lane.id.tenant());
        given.note(generation);
        let cursor =
            if from == StartFrom::Now { self.shared.journal.of(lane.id.tenant()).last() } else { cursor };
        let new = self.next_life(&lane, newest, generation, (from, cursor));
        let context = self.admin.contexts.of(&newest.manifest, &new.revision, &new.revision.limits);
        let reset = admin::Reset { ended: turn.ended(), at: host_time(), new };
        let routes = BTreeMap::from([(generation, routes)]);
        self.change_with(AdminRecord::Reset(Box::new(reset)), routes).await?;
        let new = self.start_new(generation, App { code, context });
        drop(given);
        drop(turn);
        new.ok_or_else(|| Problem::conflict("gone", "it was uninstalled before its reset was answered"))
    }

    /// The installation with nothing but its bindings, settings, grants and limits.
    fn next_life(
        &self,
        lane: &Lane,
        newest: &Term,
        generation: Generation,
        (from, cursor): (StartFrom, Sequence),
    ) -> NewInstallation {
        let number = ids::Revision(newest.number().0 + 1);
        let before = Installation::clone(&lane.installation());
        let installation = Installation {
            generation,
            begun: generation,
            revision: number,
            trial: None,
            went_back: None,
            ..before
        };
        let from_here = cursor.next();
        let revision =
            Revision { number, begun: generation, from: from_here, ..Revision::clone(&newest.revision) };
        let now = self.shared.clock.now();
        let first = first_meta((from, cursor), &newest.manifest, &revision, now);
        let book = lane.book();
        let meta = LaneMeta {
            published: book.meta().dealt_with(),
            // They are there.
            points: book.meta().points,
            ..first
        };
        NewInstallation { installation, revision, meta, adopted: None, owner: None }
    }
}
