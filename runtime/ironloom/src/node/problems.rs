//! From the core's errors to what the API tells.

use crate::api::facade::{Detail, Place, Problem, RETRY_SOON};
use crate::fold::submission::Refusal;
use ironloom_apps::problem::Problems;
use ironloom_types::limits::MIB;

/// Converts the committer's refusal of an admin's change.
pub(super) fn change_refused(refusal: &Refusal) -> Problem {
    match refusal {
        Refusal::UnknownOutcome => Problem::unavailable(
            "unknown-outcome",
            "it is not known whether this was done: the log failed or the server stopped before it could tell",
            RETRY_SOON,
        )
        .hint("Check the current state before you try again: `ironloom list`, `ironloom show ID`."),
        other => refused(other),
    }
}

/// Converts the committer's refusal of readings.
pub(super) fn refused(refusal: &Refusal) -> Problem {
    let text = refusal.to_string();
    match refusal {
        Refusal::TooManyPoints { .. } => Problem::refused("too-many-points", text),
        Refusal::TooManyOfConnector { .. } => Problem::refused("too-many-points", text),
        Refusal::KeyReused => Problem::refused("key-reused", text),
        Refusal::Gone | Refusal::CopyGone | Refusal::OutOfTurn { .. } => Problem::conflict("gone", text),
        Refusal::Exists(_) | Refusal::PointExists(_) => Problem::conflict("exists", text),
        Refusal::PointsInUse => Problem::conflict("in-use", text),
        Refusal::GenerationTaken(_) => Problem::conflict("generation", text),
        Refusal::TooLarge { .. } => Problem::too_large(text),
        Refusal::UnknownOutcome => Problem::unknown_outcome(text),
        Refusal::Stopped => super::stopping(),
        Refusal::Broken => internal(refusal),
    }
}

/// 507: less free space than the reserve, besides what is owed to what was accepted.
pub(super) fn full(reserve: u64) -> Problem {
    let reserve = reserve / MIB;
    Problem::storage_full(
        format!(
            "the disk of the data folder has less than {reserve} MiB free (store.reserve), \
             besides what the next checkpoint takes"
        ),
        RETRY_SOON,
    )
    .hint(format!("Free some space; at {} MiB the server goes on by itself.", reserve + reserve / 2))
}

/// The place of a problem in the API's form.
pub(super) fn place_of(problem: &ironloom_apps::problem::Problem) -> Place {
    Place {
        line: problem.line.map(u64::from),
        column: problem.column.map(u64::from),
        field: problem.field.clone(),
        ..Place::default()
    }
}

/// Combines all problems of a manifest, a component or an installation, each with its place.
pub(super) fn all(kind: &str, detail: &str, problems: &Problems) -> Problem {
    let one = |problem: &ironloom_apps::problem::Problem, detail: String| {
        let kind = problem.cause.name().unwrap_or(kind).to_owned();
        vec![Detail { kind, detail, place: Some(place_of(problem)) }]
    };
    if let [only] = problems.0.as_slice() {
        // Told once: the sentence has it whole, its hints are the answer's own.
        let told = ironloom_apps::problem::Problem { hints: Vec::new(), ..only.clone() };
        let kind = only.cause.name().unwrap_or(kind);
        let problem = Problem::refused(kind, format!("{detail}: {told}")).at(place_of(only));
        let problem = only.hints.iter().fold(problem, |problem, hint| problem.hint(hint));
        return problem.with(one(only, only.message.clone()));
    }
    let with_hints = |problem: &ironloom_apps::problem::Problem| {
        problem.message.clone() + &problem.hints.iter().map(|hint| format!(" ({hint})")).collect::<String>()
    };
    let errors = problems.0.iter().flat_map(|problem| one(problem, with_hints(problem))).collect();
    Problem::refused(kind, format!("{detail}: {} problems", problems.0.len())).with(errors)
}

/// What is wrong with an install.
pub(super) fn not_as_asked(problems: &Problems) -> Problem {
    all("install", "the app can't be installed as asked", problems)
}

/// The problem of a change.
pub(super) fn not_changed(problems: &Problems) -> Problem {
    all("revision", "the installation can't be changed as asked", problems)
}

/// The server's own fault.
pub(super) fn internal(error: &dyn std::fmt::Display) -> Problem {
    tracing::error!(%error, "a request failed because of a fault of the server");
    Problem::internal(error.to_string())
}
