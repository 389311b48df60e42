//! Errors of a list: all that is wrong with it in one answer, each once, and each says which of its installations it is
//! about.

use crate::api::facade::{Answer, Detail, Place, Problem};
use ironloom_types::ids::InstallationId;

/// Single errors that one answer tells at most.
const MOST_ERRORS: usize = 100;

/// The problems of the installations of a list, which has these ids. Where nothing is wrong with any, all are
/// installed; else nothing of the others counts.
pub(super) struct Wrong<'i> {
    ids: Vec<&'i InstallationId>,
    /// Each with the place of its installation in the list, from 0.
    found: Vec<(usize, Problem)>,
}

impl<'i> Wrong<'i> {
    pub(super) fn none_of(ids: impl Iterator<Item = &'i InstallationId>) -> Self {
        Self { ids: ids.collect(), found: Vec::new() }
    }

    /// Takes what was found of one; `None` where that is a problem.
    pub(super) fn take<T>(&mut self, at: usize, found: Answer<T>) -> Option<T> {
        found.map_err(|problem| self.found.push((at, problem))).ok()
    }

    /// Says if something is wrong with this one.
    pub(super) fn has(&self, at: usize) -> bool {
        self.found.iter().any(|(found, _)| *found == at)
    }

    /// All problems as one, in the order of the list; one of the server's own is the only one that counts.
    pub(super) fn check(mut self) -> Answer<()> {
        self.found.sort_by_key(|(at, _)| *at);
        let own = self.found.iter().position(|(_, problem)| problem.status >= 500);
        let alone = own.or((self.found.len() == 1).then_some(0));
        if let Some(alone) = alone {
            let (at, problem) = self.found.swap_remove(alone);
            return Err(of_item(problem, at, self.ids[at], self.ids.len()));
        }
        if self.found.is_empty() { Ok(()) } else { Err(self.all()) }
    }

    fn all(self) -> Problem {
        let of = self.ids.len();
        let (_, first) = &self.found[0];
        let mut told = if self.found.iter().all(|(_, problem)| problem.kind == first.kind) {
            first.clone()
        } else {
            Problem::refused("install", String::new())
        };
        let mut places: Vec<usize> = self.found.iter().map(|(at, _)| *at).collect();
        places.dedup();
        let single = |(at, problem): &(usize, Problem)| {
            let mut errors = details(problem, (of > 1).then_some(*at));
            if let [only] = errors.as_mut_slice() {
                // They are nobody else's.
                only.detail.extend(problem.hints.iter().map(|hint| format!(" ({hint})")));
            }
            errors
        };
        let errors: Vec<Detail> = self.found.iter().flat_map(single).collect();
        let more = match errors.len() {
            count if count > MOST_ERRORS => format!("; the first {MOST_ERRORS} of {count} problems are told"),
            _ => String::new(),
        };
        told.detail = match of {
            1 => format!("the app can't be installed as asked: {} problems{more}", errors.len()),
            _ => format!(
                "{} of the {of} installations of the list can't be installed; none is installed{more}",
                places.len()
            ),
        };
        told.place = None;
        told.hints.clear();
        told.with(errors.into_iter().take(MOST_ERRORS).collect())
    }
}

/// The problem of one of so many, which says which. Where there is only one, the caller knows.
pub(super) fn of_item(mut problem: Problem, at: usize, id: &InstallationId, of: usize) -> Problem {
    if of == 1 {
        return problem;
    }
    problem.errors = details(&problem, Some(at));
    problem.place.get_or_insert_with(Place::default).item = Some(at as u64 + 1);
    problem.detail =
        format!("installation {} of the list ({id}): {}; none is installed", at + 1, problem.detail);
    problem
}

/// The single errors of one installation, with its place in the list.
fn details(problem: &Problem, at: Option<usize>) -> Vec<Detail> {
    let mut errors = match problem.errors.as_slice() {
        [] => {
            let (kind, detail) = (problem.kind.clone(), problem.detail.clone());
            vec![Detail { kind, detail, place: problem.place.clone() }]
        }
        errors => errors.to_vec(),
    };
    if let Some(at) = at {
        let places = errors.iter_mut().map(|error| error.place.get_or_insert_with(Place::default));
        places.for_each(|place| place.item = Some(at as u64 + 1));
    }
    errors
}

#[cfg(test)]
mod tests {
    use super::*;
    use ironloom_types::ids::TenantId;

    fn list(count: usize) -> Vec<InstallationId> {
        (0..count).map(|n| InstallationId::new(TenantId::MAIN, &format!("i{n}")).unwrap()).collect()
    }

    fn invalid() -> Problem {
        Problem::refused("install", "it is wrong").at(Place::field("bindings.a"))
    }

    fn exists() -> Problem {
        Problem::conflict("exists", "it exists").at(Place::field("id")).hint("Choose another.")
    }

    fn check(list: &[InstallationId], found: Vec<(usize, Problem)>) -> Answer<()> {
        let mut wrong = Wrong::none_of(list.iter());
        for (at, problem) in found {
            assert_eq!(wrong.take::<()>(at, Err(problem)), None);
        }
        wrong.check()
    }

    fn told(problem: &Problem) -> Vec<(Option<u64>, &str)> {
        let item = |error: &Detail| error.place.as_ref().and_then(|place| place.item);
        problem.errors.iter().map(|error| (item(error), error.detail.as_str())).collect()
    }

    #[test]
    fn an_error_says_which_installation_it_is_about() {
        check(&list(3), vec![]).unwrap();
        let alone = check(&list(1), vec![(0, invalid())]).unwrap_err();
        assert_eq!((alone.detail.as_str(), alone.place.as_ref().unwrap().item), ("it is wrong", None));
        let one = check(&list(3), vec![(1, invalid())]).unwrap_err();
        assert_eq!(one.detail, "installation 2 of the list (i1): it is wrong; none is installed");
        let place = one.place.as_ref().unwrap();
        assert_eq!((place.item, place.field.as_deref()), (Some(2), Some("bindings.a")));
        assert_eq!(told(&one), [(Some(2), "it is wrong")]);
    }

    #[test]
    fn a_conflict_hides_no_other_problem_and_each_is_told_once() {
        let all = vec![(2, exists()), (0, exists()), (2, invalid())];
        let all = check(&list(3), all).unwrap_err();
        assert_eq!((all.kind.as_str(), all.status), ("install", 422));
        assert!(all.detail.starts_with("2 of the 3 installations of the list can't be installed"), "{all}");
        assert_eq!(
            told(&all),
            [
                (Some(1), "it exists (Choose another.)"),
                (Some(3), "it exists (Choose another.)"),
                (Some(3), "it is wrong")
            ]
        );
        assert!(all.hints.is_empty() && all.place.is_none());
        let conflicts = check(&list(3), vec![(0, exists()), (1, exists())]).unwrap_err();
        assert_eq!((conflicts.kind.as_str(), conflicts.status), ("exists", 409));
        let of_one = check(&list(1), vec![(0, exists()), (0, invalid())]).unwrap_err();
        assert_eq!(of_one.detail, "the app can't be installed as asked: 2 problems");
        assert_eq!(told(&of_one), [(None, "it exists (Choose another.)"), (None, "it is wrong")]);
    }

    #[test]
    fn what_is_cut_off_is_said() {
        let all = |count| check(&list(500), (0..count).map(|at| (at, invalid())).collect()).unwrap_err();
        assert_eq!(all(MOST_ERRORS).errors.len(), MOST_ERRORS);
        assert!(all(MOST_ERRORS).detail.ends_with("none is installed"));
        assert_eq!(all(500).errors.len(), MOST_ERRORS);
        assert!(all(500).detail.ends_with("; the first 100 of 500 problems are told"), "{}", all(500));
    }

    #[test]
    fn a_fault_of_the_server_is_told_alone() {
        let fault = Problem::internal("the disk");
        let told = check(&list(3), vec![(0, invalid()), (2, fault)]).unwrap_err();
        assert_eq!(told.status, 500);
        assert!(told.detail.contains("(i2): the disk"), "{told}");
    }
}
