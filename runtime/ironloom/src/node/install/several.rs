//! Errors of a list: each says which of its installations it is about.

use crate::api::facade::{Answer, Detail, InstallRequest, Place, Problem};
use ironloom_types::ids::InstallationId;

/// Single errors that one answer tells at most.
const MOST_ERRORS: usize = 100;

/// What is one of several installations.
pub(super) trait Named {
    fn id(&self) -> &InstallationId;
}

impl Named for InstallRequest {
    fn id(&self) -> &InstallationId {
        &self.id
    }
}

impl<R: Named> Named for &R {
    fn id(&self) -> &InstallationId {
        (*self).id()
    }
}

impl Named for super::Request {
    fn id(&self) -> &InstallationId {
        &self.0.id
    }
}

impl Named for super::New {
    fn id(&self) -> &InstallationId {
        &self.installation.installation.id
    }
}

/// Looks at each; where one is wrong, or several are, nothing of the others counts.
pub(super) fn each<R: Named, T>(list: &[R], mut look: impl FnMut(&R) -> Answer<T>) -> Answer<Vec<T>> {
    let mut found = Vec::with_capacity(list.len());
    let mut wrong = Vec::new();
    for (at, one) in list.iter().enumerate() {
        match look(one) {
            Ok(one) => found.push(one),
            Err(problem) => wrong.push(of_item(problem, at, one.id(), list.len())),
        }
    }
    match wrong.len() {
        0 => Ok(found),
        1 => Err(wrong.remove(0)),
        count => Err(all(wrong, count, list.len())),
    }
}

/// The problem of one of so many, which says which. Where there is only one, the caller knows.
pub(super) fn of_item(mut problem: Problem, at: usize, id: &InstallationId, of: usize) -> Problem {
    if of == 1 {
        return problem;
    }
    let item = Some(at as u64 + 1);
    problem.place.get_or_insert_with(Place::default).item = item;
    for error in &mut problem.errors {
        error.place.get_or_insert_with(Place::default).item = item;
    }
    problem.detail =
        format!("installation {} of the list ({id}): {}; none is installed", at + 1, problem.detail);
    problem
}

/// Several problems as one.
fn all(wrong: Vec<Problem>, count: usize, of: usize) -> Problem {
    let mut told = wrong[0].clone();
    told.place = None;
    told.hints.clear();
    told.detail =
        format!("{count} of the {of} installations of the list can't be installed; none is installed");
    let single = |problem: &Problem| match problem.errors.as_slice() {
        [] => {
            let (kind, detail) = (problem.kind.clone(), problem.detail.clone());
            vec![Detail { kind, detail, place: problem.place.clone() }]
        }
        errors => errors.to_vec(),
    };
    told.with(wrong.iter().flat_map(single).take(MOST_ERRORS).collect())
}

#[cfg(test)]
mod tests {
    use super::*;

    struct One(InstallationId);

    impl Named for One {
        fn id(&self) -> &InstallationId {
            &self.0
        }
    }

    fn list(count: usize) -> Vec<One> {
        (0..count).map(|n| One(InstallationId::new(&format!("i{n}")).unwrap())).collect()
    }

    fn look(list: &[One], wrong: &[usize]) -> Answer<Vec<String>> {
        each(list, |one| {
            let id = one.0.to_string();
            match wrong.iter().any(|n| id == format!("i{n}")) {
                true => Err(Problem::refused("install", "it is wrong").at(Place::field("bindings.a"))),
                false => Ok(id),
            }
        })
    }

    #[test]
    fn an_error_says_which_installation_it_is_about() {
        assert_eq!(look(&list(3), &[]).unwrap(), ["i0", "i1", "i2"]);
        let alone = look(&list(1), &[0]).unwrap_err();
        assert_eq!((alone.detail.as_str(), alone.place.as_ref().unwrap().item), ("it is wrong", None));
        let one = look(&list(3), &[1]).unwrap_err();
        assert_eq!(one.detail, "installation 2 of the list (i1): it is wrong; none is installed");
        let place = one.place.as_ref().unwrap();
        assert_eq!((place.item, place.field.as_deref()), (Some(2), Some("bindings.a")));
        let two = look(&list(3), &[0, 2]).unwrap_err();
        assert!(two.detail.starts_with("2 of the 3 installations"), "{two}");
        let items: Vec<_> = two.errors.iter().map(|error| error.place.as_ref().unwrap().item).collect();
        assert_eq!(items, [Some(1), Some(3)]);
        let all: Vec<usize> = (0..500).collect();
        assert_eq!(look(&list(500), &all).unwrap_err().errors.len(), MOST_ERRORS);
    }
}
