//! The revisions that a replay goes through, those under which nothing runs any more among them.

use std::sync::Arc;

use super::{MOST_CPU, ReplayError, Rerun};
use crate::fold::durable::Term;
use crate::lanes::run::Runner;
use crate::lanes::run::migrate::{Migration, migrate_all};
use crate::lanes::{App, Lane};
use crate::records::installation::Revision;
use ironloom_apps::manifest::Manifest;
use ironloom_apps::routing::Prepared;
use ironloom_sandbox::{AppContext, BoxFuture};
use ironloom_types::ids;
use ironloom_types::limits::Limits;

/// A revision as a replay runs it.
pub(crate) struct Stage {
    pub revision: Arc<Revision>,
    /// The manifest of its package.
    pub manifest: Arc<Manifest>,
    pub app: App,
    /// The way of readings to its inputs, once one of its invocations has readings.
    pub routes: Option<Arc<Prepared>>,
}

/// Brings back what is no longer at hand of revisions.
pub(crate) trait PastStages: Send + Sync {
    /// A revision of the lane with its code.
    fn stage<'a>(
        &'a self,
        lane: &'a Lane,
        number: ids::Revision,
    ) -> BoxFuture<'a, Result<Stage, ReplayError>>;
    /// The points of a revision's inputs, matched anew, those among them that are gone by now.
    fn routes(&self, revision: &Arc<Revision>) -> BoxFuture<'_, Result<Arc<Prepared>, ReplayError>>;
}

/// Nothing is brought back.
pub(crate) struct NoPast;

impl PastStages for NoPast {
    fn stage<'a>(&'a self, _: &'a Lane, number: ids::Revision) -> BoxFuture<'a, Result<Stage, ReplayError>> {
        Box::pin(async move { Err(ReplayError::RevisionNotKept(number)) })
    }

    fn routes(&self, _: &Arc<Revision>) -> BoxFuture<'_, Result<Arc<Prepared>, ReplayError>> {
        Box::pin(async { Err(ReplayError::Changed) })
    }
}

impl Stage {
    /// A revision under which the lane still runs.
    pub(super) fn of(lane: &Lane, term: &Term) -> Result<Self, ReplayError> {
        let app = lane.app(term).ok_or(ReplayError::NotLoaded)?;
        Ok(Self {
            revision: Arc::clone(&term.revision),
            manifest: Arc::clone(&term.manifest),
            app: slow(app),
            routes: None,
        })
    }

    pub(super) fn number(&self) -> ids::Revision {
        self.revision.number
    }
}

/// A machine that is slower today than it was must not change an outcome.
fn slow(app: App) -> App {
    let limits = Limits { cpu: MOST_CPU, ..app.context.limits.clone() };
    let context = Arc::new(AppContext { limits, ..AppContext::clone(&app.context) });
    App { context, ..app }
}

/// A revision of the lane, whether it still runs under it or not.
pub(in crate::lanes::run) async fn stage(
    lane: &Lane,
    number: ids::Revision,
    past: &dyn PastStages,
) -> Result<Stage, ReplayError> {
    let terms = lane.terms();
    if let Some(term) = terms.all().iter().find(|term| term.number() == number) {
        return Stage::of(lane, term);
    }
    let stage = past.stage(lane, number).await?;
    Ok(Stage { app: slow(stage.app), ..stage })
}

impl Rerun<'_> {
    /// The way of readings to the inputs of its revision.
    pub(super) async fn routes(&mut self) -> Result<Arc<Prepared>, ReplayError> {
        if let Some(routes) = &self.stage.routes {
            return Ok(Arc::clone(routes));
        }
        let routes = self.past.routes(&self.stage.revision).await?;
        Ok(Arc::clone(self.stage.routes.insert(routes)))
    }
}

impl Runner {
    /// Goes on to a revision, and through all between. Another version of the app finds what its predecessor has left,
    /// in its own form.
    pub(super) async fn come_to(&self, rerun: &mut Rerun<'_>, to: ids::Revision) -> Result<(), ReplayError> {
        if to < rerun.stage.number() {
            return Err(ReplayError::RevisionNotKept(to));
        }
        while rerun.stage.number() < to {
            let next = ids::Revision(rerun.stage.number().0 + 1);
            let stage = stage(&rerun.lane, next, rerun.past).await?;
            let before = std::mem::replace(&mut rerun.stage, stage);
            if before.revision.package == rerun.stage.revision.package {
                continue;
            }
            if rerun.stage.app.code.roles().lifecycle {
                self.migrate_again(rerun, &before.manifest.version).await?;
            }
            rerun.replica.write().end_for(&rerun.stage.manifest);
        }
        Ok(())
    }

    async fn migrate_again(&self, rerun: &Rerun<'_>, previous: &str) -> Result<(), ReplayError> {
        let Rerun { lane, stage, generation, replica, .. } = rerun;
        let migration = Migration {
            generation: *generation,
            revision: &stage.revision,
            app: &stage.app,
            previous,
            made: lane.book().meta().points,
            now: replica.read().time(),
            interrupt: rerun.interrupt.clone(),
            used: super::LAST,
            rest: super::REST,
        };
        let revision = stage.number();
        let migrated = migrate_all(&self.sandbox, &self.shared.points, &migration, replica, |_| ()).await;
        rerun.goes_on()?;
        match migrated {
            Ok(_) => Ok(()),
            Err(error) => Err(ReplayError::Migrate { revision, error }),
        }
    }
}
