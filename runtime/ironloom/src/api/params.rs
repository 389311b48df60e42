//! The parameters of a request's path and query: each known by name, each given once.

use std::str::FromStr;

use axum::extract::Query;
use axum::http::Uri;

use super::facade::{PageQuery, Place};
use super::problem::Problem;
use ironloom_types::ids::{Digest, InstallationId, InvalidName};

/// How many items a page has where the caller doesn't say.
const DEFAULT_LIMIT: usize = 100;
/// How many items a page may have.
const MAX_LIMIT: usize = 10_000;

/// The query's parameters that no one has taken yet.
#[derive(Debug)]
pub struct Params {
    given: Vec<(String, String)>,
    asked: Vec<&'static str>,
}

impl Params {
    /// Reads the query.
    pub fn of(uri: &Uri) -> Result<Self, Problem> {
        let Query(given) = Query::<Vec<(String, String)>>::try_from_uri(uri)
            .map_err(|error| Problem::malformed("bad-query", format!("the query can't be read: {error}")))?;
        for (index, (name, _)) in given.iter().enumerate() {
            if given[..index].iter().any(|(earlier, _)| earlier == name) {
                let detail = format!("the parameter {name:?} stands there twice");
                return Err(Problem::malformed("bad-parameter", detail).at(Place::field(name)));
            }
        }
        Ok(Self { given, asked: Vec::new() })
    }

    /// The text of a parameter.
    pub fn text(&mut self, name: &'static str) -> Option<String> {
        self.asked.push(name);
        let index = self.given.iter().position(|(given, _)| given == name)?;
        Some(self.given.swap_remove(index).1)
    }

    /// A parameter that can be read from text.
    pub fn value<T: FromStr<Err: std::fmt::Display>>(
        &mut self,
        name: &'static str,
    ) -> Result<Option<T>, Problem> {
        let Some(text) = self.text(name) else { return Ok(None) };
        let value = text.parse().map_err(|error| {
            let detail = format!("the parameter {name:?} can't be {text:?}: {error}");
            Problem::malformed("bad-parameter", detail).at(Place::field(name))
        })?;
        Ok(Some(value))
    }

    /// `limit`, within its bounds.
    pub fn limit(&mut self) -> Result<usize, Problem> {
        match self.value("limit")? {
            None => Ok(DEFAULT_LIMIT),
            Some(limit) if (1..=MAX_LIMIT).contains(&limit) => Ok(limit),
            Some(limit) => {
                let detail = format!("`limit` must be 1 to {MAX_LIMIT}, and is {limit}");
                Err(Problem::malformed("bad-parameter", detail).at(Place::field("limit")))
            }
        }
    }

    /// `after` and `limit`.
    pub fn page(&mut self) -> Result<PageQuery, Problem> {
        Ok(PageQuery { after: self.text("after"), limit: self.limit()? })
    }

    /// A parameter that is `true` or `false`.
    pub fn flag(&mut self, name: &'static str) -> Result<bool, Problem> {
        Ok(self.value(name)?.unwrap_or(false))
    }

    /// Refuses what is left.
    pub fn finish(self) -> Result<(), Problem> {
        let Some((name, _)) = self.given.first() else { return Ok(()) };
        let known = if self.asked.is_empty() { "none".to_owned() } else { self.asked.join(", ") };
        let detail = format!("there is no parameter {name:?} here; there is {known}");
        Err(Problem::malformed("unknown-parameter", detail).at(Place::field(name)))
    }
}

/// The installation that a path names. What is no id names nothing.
pub fn installation(id: &str) -> Result<InstallationId, Problem> {
    InstallationId::new(id).map_err(|error| nothing(&error))
}

/// The package that a path names.
pub fn digest(text: &str) -> Result<Digest, Problem> {
    text.parse().map_err(|error| nothing(&error))
}

/// The number that a path names.
pub fn number(text: &str) -> Result<u64, Problem> {
    text.parse().map_err(|_| Problem::not_found(format!("{text:?} is no number of a dead letter")))
}

fn nothing(error: &InvalidName) -> Problem {
    Problem::not_found(format!("{error}, so there is none"))
}
