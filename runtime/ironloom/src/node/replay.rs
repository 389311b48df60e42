//! Replays, as the API has them.

use super::views::show_invocation;
use super::{Node, problems};
use crate::api::facade::{
    Answer, EffectCounts, Place, Problem, RETRY_SOON, Replay, ReplayDifference, ReplayRequest,
};
use crate::lanes::replay::{Difference, Replayed};
use crate::lanes::run::ReplayError;
use crate::records::commit::OutcomeKind;
use ironloom_types::ids::{InstallationId, Ordinal};

impl Node {
    /// Runs the recorded invocations of an installation again.
    pub(super) async fn replay(&self, id: InstallationId, request: ReplayRequest) -> Answer<Replay> {
        let ReplayRequest { from, to } = request;
        let from = from.unwrap_or(Ordinal(1));
        if to.is_some_and(|to| to < from) {
            return Err(Problem::malformed("bad-field", "`to` is before `from`").at(Place::field("to")));
        }
        let lane = self.lane(&id)?;
        let _place = self.replays.try_acquire().map_err(|_| busy())?;
        let replayed = self.runner.replay(&lane, from, to).await.map_err(|error| refused(&error))?;
        Ok(shown(replayed))
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

pub(super) fn busy() -> Problem {
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
