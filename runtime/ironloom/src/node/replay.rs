//! Replays, as the API has them.

use std::convert::Infallible;
use std::sync::Arc;
use std::time::Duration;

use tokio::sync::oneshot;

use super::views::show_invocation;
use super::{Node, problems};
use crate::api::facade::{
    Answer, EffectCounts, Place, Problem, RETRY_SOON, Replay, ReplayDifference, ReplayRequest,
};
use crate::aside::aside;
use crate::fold::{self, Shared};
use crate::lanes::replay::{Difference, Replayed};
use crate::lanes::run::{PastStages, ReplayError, Stage};
use crate::lanes::{App, Lane};
use crate::records::commit::OutcomeKind;
use crate::records::installation::Revision;
use ironloom_apps::routing::Prepared;
use ironloom_sandbox::{BoxFuture, Interrupt};
use ironloom_types::ids::{self, InstallationId, Ordinal};

/// The interval at which a replay looks whether it is still wanted.
const LOOK: Duration = Duration::from_millis(100);

impl Node {
    /// Runs the recorded invocations of an installation again.
    pub(super) async fn replay(
        self: &Arc<Self>,
        id: InstallationId,
        request: ReplayRequest,
    ) -> Answer<Replay> {
        let ReplayRequest { from, to } = request;
        let from = from.unwrap_or(Ordinal(1));
        if to.is_some_and(|to| to < from) {
            return Err(Problem::malformed("bad-field", "`to` is before `from`").at(Place::field("to")));
        }
        let again = self.again(&id, async move |node, lane, interrupt| {
            node.runner.replay(&lane, (from, to), &Past(&node), interrupt).await
        });
        Ok(shown(again.await?))
    }

    /// Runs invocations of an installation again, as long as somebody waits for them and their generation lives. It has the
    /// one place that there is, and keeps it until nothing of it is under way any more, whoever waits: what is done aside
    /// can't be broken off.
    pub(super) async fn again<T, W>(
        self: &Arc<Self>,
        id: &InstallationId,
        work: impl FnOnce(Arc<Self>, Arc<Lane>, Interrupt) -> W,
    ) -> Answer<T>
    where
        T: Send + 'static,
        W: Future<Output = Result<T, ReplayError>> + Send + 'static,
    {
        let lane = self.lane(id)?;
        let place = Arc::clone(&self.replays).try_acquire_owned().map_err(|_| busy())?;
        let interrupt = Interrupt::default();
        let work = work(Arc::clone(self), Arc::clone(&lane), interrupt.clone());
        let (answer, answered) = oneshot::channel();
        tokio::spawn(async move {
            let _place = place;
            let came = tokio::select! {
                came = work => came,
                never = interrupted(&lane, &interrupt, &answer) => match never {},
            };
            // Nobody may wait for it any more.
            let _ = answer.send(came);
        });
        let came = answered.await.map_err(|_| problems::internal(&"the replay was broken off"))?;
        came.map_err(|error| refused(&error))
    }
}

/// Ends what runs once its generation has ended, or nobody waits for the answer: the rest would be for nobody.
async fn interrupted<T>(lane: &Lane, interrupt: &Interrupt, answer: &oneshot::Sender<T>) -> Infallible {
    while !lane.book().is_closed() && !answer.is_closed() {
        tokio::time::sleep(LOOK).await;
    }
    let _interrupting = interrupt.raise();
    std::future::pending().await
}

/// Revisions under which nothing runs any more, with the code and the points that there are now.
pub(super) struct Past<'n>(pub(super) &'n Arc<Node>);

impl PastStages for Past<'_> {
    fn stage<'a>(
        &'a self,
        lane: &'a Lane,
        number: ids::Revision,
    ) -> BoxFuture<'a, Result<Stage, ReplayError>> {
        Box::pin(async move {
            let Self(node) = self;
            let generation = lane.generation;
            let read = move |shared: &Shared| shared.past_revision(generation, number);
            let kept = fold::read_aside(&node.shared, read).await.map_err(ReplayError::Host)?;
            let mut revision = kept.ok_or(ReplayError::RevisionNotKept(number))?;
            let package = revision.package;
            let gone = ReplayError::PackageGone { revision: number, package };
            let known = node.known(package).ok_or(gone)?;
            known.share(&mut revision);
            let code = node.load(&known, &revision.limits).await;
            let code =
                code.map_err(|error| ReplayError::Code { revision: number, error: error.to_string() })?;
            let context = node.admin.contexts.of(&known.manifest, &revision, &revision.limits);
            Ok(Stage {
                revision: Arc::new(revision),
                manifest: Arc::clone(&known.manifest),
                app: App { code, context },
                routes: None,
            })
        })
    }

    fn routes(&self, revision: &Arc<Revision>) -> BoxFuture<'_, Result<Arc<Prepared>, ReplayError>> {
        let (node, revision) = (Arc::clone(self.0), Arc::clone(revision));
        Box::pin(async move {
            let matched = aside(move || node.matched_ever(&revision.bindings));
            let routes = matched.await.map_err(|error| ReplayError::Host(error.to_string()))?;
            Ok(Arc::new(routes))
        })
    }
}

pub(super) fn refused(error: &ReplayError) -> Problem {
    match error {
        ReplayError::Host(problem) => problems::internal(problem),
        ReplayError::NotLoaded => Problem::unavailable("starting", error.to_string(), RETRY_SOON)
            .hint("Try again shortly: after a start the code of apps is loaded first."),
        _ => Problem::refused("replay", error.to_string()),
    }
}

fn busy() -> Problem {
    Problem::unavailable("busy", "another replay is under way; one runs at a time", RETRY_SOON)
}

fn shown(replayed: Replayed) -> Replay {
    let Replayed { invocations, readings, compared, left_out, through, repaired, difference } = replayed;
    Replay {
        same: difference.is_none(),
        invocations,
        readings,
        compared,
        left_out,
        through,
        repaired,
        difference: difference.map(differs),
    }
}

pub(super) fn differs(difference: Difference) -> ReplayDifference {
    let Difference { recorded, outcome, message, digest, effects } = difference;
    let [state, derived, timers, alarms, refused] = effects;
    ReplayDifference {
        recorded: show_invocation(recorded),
        outcome: outcome.name().to_owned(),
        message,
        digest: (outcome == OutcomeKind::Ok).then_some(digest),
        effects: EffectCounts { state, derived, timers, alarms, refused },
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn whoever_comes_too_early_is_told_to_try_again() {
        let problem = refused(&ReplayError::NotLoaded);
        assert_eq!((problem.status, problem.retry_after), (503, Some(RETRY_SOON.as_secs())));
        assert!(problem.hints.iter().any(|hint| hint.starts_with("Try again shortly")), "{problem}");
        assert_eq!(refused(&ReplayError::Nothing).status, 422);
    }
}
