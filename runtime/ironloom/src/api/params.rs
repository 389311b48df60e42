//! The parameters of a request's path and query: each known by name, each given once.

use std::str::FromStr;

use axum::extract::{FromRequestParts, Query, RawPathParams};
use axum::http::Uri;
use axum::http::request::Parts;

use super::facade::{NumberedQuery, Order, PageQuery, Place};
use super::problem::Problem;
use crate::access::{Principal, TokenName};
use ironloom_types::ids::{
    AppId, Digest, InstallationId, IntentId, InvalidName, PointPath, Sequence, TenantId, TenantName,
};

/// The default number of items on a page.
const DEFAULT_LIMIT: usize = 100;
/// The most items on a page.
const MAX_LIMIT: usize = 10_000;
/// The most parameters of a query: more than any route knows.
const MAX_PARAMETERS: usize = 32;
/// The greatest `after`: whoever counts on from it stays within 64 bits.
const MAX_AFTER: u64 = 1 << 63;

/// The query's parameters that no one has taken yet. That a route knows them is checked in one place,
/// `router.rs`.
#[derive(Clone, Debug, Default)]
pub(super) struct Params {
    given: Vec<(String, String)>,
    /// Whose data the request is about.
    tenant: TenantId,
}

impl Params {
    /// Reads the query, whose parameters must be among the known ones.
    pub(super) fn of(uri: &Uri, known: &[&str]) -> Result<Self, Problem> {
        let Some(query) = uri.query() else { return Ok(Self::default()) };
        if query.split('&').take(MAX_PARAMETERS + 1).count() > MAX_PARAMETERS {
            let detail = format!("a query may have at most {MAX_PARAMETERS} parameters");
            return Err(Problem::malformed("bad-query", detail));
        }
        let Query(given) = Query::<Vec<(String, String)>>::try_from_uri(uri)
            .map_err(|error| Problem::malformed("bad-query", format!("the query can't be read: {error}")))?;
        for (index, (name, _)) in given.iter().enumerate() {
            if !known.contains(&name.as_str()) {
                let known = if known.is_empty() { "none".to_owned() } else { known.join(", ") };
                let detail = format!("there is no parameter {name:?} here; the parameters are {known}");
                return Err(Problem::malformed("unknown-parameter", detail).at(Place::field(name)));
            }
            if given[..index].iter().any(|(earlier, _)| earlier == name) {
                let detail = format!("the parameter {name:?} is given twice");
                return Err(Problem::malformed("bad-parameter", detail).at(Place::field(name)));
            }
        }
        Ok(Self { given, tenant: TenantId::NOBODY })
    }

    /// The same query about the data of a tenant.
    pub(super) fn within(self, tenant: TenantId) -> Self {
        Self { tenant, ..self }
    }

    /// Whose data the request is about.
    pub(super) fn tenant(&self) -> TenantId {
        self.tenant
    }

    /// Says if a parameter is `true`, and leaves it for its handler.
    pub(super) fn is_set(&self, name: &str) -> bool {
        self.given.iter().any(|(given, text)| given == name && text == "true")
    }

    /// The text of a parameter.
    pub(super) fn text(&mut self, name: &'static str) -> Option<String> {
        let index = self.given.iter().position(|(given, _)| given == name)?;
        Some(self.given.swap_remove(index).1)
    }

    /// A parameter that can be read from text.
    pub(super) fn value<T: FromStr<Err: std::fmt::Display>>(
        &mut self,
        name: &'static str,
    ) -> Result<Option<T>, Problem> {
        self.read(name, |text| text.parse())
    }

    /// A parameter that names an installation.
    pub(super) fn installation(&mut self) -> Result<Option<InstallationId>, Problem> {
        let tenant = self.tenant;
        self.read("installation", |text| InstallationId::new(tenant, text))
    }

    /// A parameter that names a point.
    pub(super) fn point(&mut self) -> Result<Option<PointPath>, Problem> {
        let tenant = self.tenant;
        self.read("point", |text| PointPath::new(tenant, text))
    }

    fn read<T, E: std::fmt::Display>(
        &mut self,
        name: &'static str,
        read: impl FnOnce(&str) -> Result<T, E>,
    ) -> Result<Option<T>, Problem> {
        let Some(text) = self.text(name) else { return Ok(None) };
        let value = read(&text).map_err(|error| {
            let detail = format!("the parameter {name:?} can't be {text:?}: {error}");
            let problem = Problem::malformed("bad-parameter", detail).at(Place::field(name));
            // As in the offset of a time.
            if text.contains(' ') {
                problem.hint("A + in a query stands for a blank: write %2B.")
            } else {
                problem
            }
        })?;
        Ok(Some(value))
    }

    /// `limit`, within its bounds.
    pub(super) fn limit(&mut self) -> Result<usize, Problem> {
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
    pub(super) fn page(&mut self) -> Result<PageQuery, Problem> {
        Ok(PageQuery { after: self.text("after"), limit: self.limit()? })
    }

    /// `order`: what comes first.
    pub(super) fn order(&mut self) -> Result<Order, Problem> {
        Ok(self.value("order")?.unwrap_or_default())
    }

    /// `after` where it is a number.
    pub(super) fn after(&mut self) -> Result<Option<u64>, Problem> {
        let after = self.value("after")?;
        if after.is_some_and(|after| after > MAX_AFTER) {
            let detail = format!("`after` must be at most {MAX_AFTER}");
            return Err(Problem::malformed("bad-parameter", detail).at(Place::field("after")));
        }
        Ok(after)
    }

    /// `after`, `order` and `limit` of things that have numbers.
    pub(super) fn numbered(&mut self) -> Result<NumberedQuery, Problem> {
        Ok(NumberedQuery { after: self.after()?, order: self.order()?, limit: self.limit()? })
    }

    /// `after` where it is a sequence; the beginning where it isn't given.
    pub(super) fn after_sequence(&mut self) -> Result<Sequence, Problem> {
        Ok(Sequence(self.after()?.unwrap_or(0)))
    }

    /// A parameter that is `true` or `false`.
    pub(super) fn flag(&mut self, name: &'static str) -> Result<bool, Problem> {
        Ok(self.value(name)?.unwrap_or(false))
    }
}

impl<S: Sync> FromRequestParts<S> for Params {
    type Rejection = Problem;

    async fn from_request_parts(parts: &mut Parts, _: &S) -> Result<Self, Problem> {
        let params: Option<Self> = parts.extensions.get().cloned();
        let params = params.ok_or_else(|| Problem::internal("the query was not read"))?;
        Ok(params.within(tenant(parts)))
    }
}

/// The installation that a path names. What is no id names nothing.
pub(super) struct Id(pub InstallationId);

/// The package that a path names.
pub(super) struct Package(pub Digest);

/// The number of a dead letter that a path names.
pub(super) struct Number(pub u64);

/// The point that a path names. What is no point's path names nothing.
pub(super) struct Path(pub PointPath);

/// The key of a state that a path names.
pub(super) struct StateKey(pub String);

/// The connector or catalog that a path names.
pub(super) struct Name(pub String);

/// The token that a path names. What is no name names nothing.
pub(super) struct TokenId(pub TokenName);

impl<S: Send + Sync> FromRequestParts<S> for TokenId {
    type Rejection = Problem;

    async fn from_request_parts(parts: &mut Parts, state: &S) -> Result<Self, Problem> {
        segment(parts, state, "name")
            .await?
            .parse()
            .map(Self)
            .map_err(|error: String| Problem::not_found(format!("{error}, so there is none")))
    }
}

/// The tenant that a path names. What is no name names nothing.
pub(super) struct TenantOf(pub TenantName);

impl<S: Send + Sync> FromRequestParts<S> for TenantOf {
    type Rejection = Problem;

    async fn from_request_parts(parts: &mut Parts, state: &S) -> Result<Self, Problem> {
        TenantName::new(&segment(parts, state, "name").await?).map(Self).map_err(|error| nothing(&error))
    }
}

/// The app that a path names. What is no id names nothing.
pub(super) struct App(pub AppId);

/// The intent that a path names.
pub(super) struct Intent(pub IntentId);

impl<S: Send + Sync> FromRequestParts<S> for Intent {
    type Rejection = Problem;

    async fn from_request_parts(parts: &mut Parts, state: &S) -> Result<Self, Problem> {
        segment(parts, state, "intent").await?.parse().map(Self).map_err(|error| nothing(&error))
    }
}

/// The alarm that a path names.
pub(super) struct AlarmId(pub String);

impl<S: Send + Sync> FromRequestParts<S> for Id {
    type Rejection = Problem;

    async fn from_request_parts(parts: &mut Parts, state: &S) -> Result<Self, Problem> {
        let text = segment(parts, state, "id").await?;
        InstallationId::new(tenant(parts), &text).map(Self).map_err(|error| nothing(&error))
    }
}

impl<S: Send + Sync> FromRequestParts<S> for Package {
    type Rejection = Problem;

    async fn from_request_parts(parts: &mut Parts, state: &S) -> Result<Self, Problem> {
        segment(parts, state, "digest").await?.parse().map(Self).map_err(|error| nothing(&error))
    }
}

impl<S: Send + Sync> FromRequestParts<S> for Number {
    type Rejection = Problem;

    async fn from_request_parts(parts: &mut Parts, state: &S) -> Result<Self, Problem> {
        let text = segment(parts, state, "number").await?;
        text.parse()
            .map(Self)
            .map_err(|_| Problem::not_found(format!("{text:?} is not a dead letter's number")))
    }
}

impl<S: Send + Sync> FromRequestParts<S> for Path {
    type Rejection = Problem;

    async fn from_request_parts(parts: &mut Parts, state: &S) -> Result<Self, Problem> {
        let text = segment(parts, state, "path").await?;
        PointPath::new(tenant(parts), &text)
            .map(Self)
            .map_err(|error| Problem::not_found(format!("{text:?} is not a point's path: {error}")))
    }
}

impl<S: Send + Sync> FromRequestParts<S> for StateKey {
    type Rejection = Problem;

    async fn from_request_parts(parts: &mut Parts, state: &S) -> Result<Self, Problem> {
        segment(parts, state, "key").await.map(Self)
    }
}

impl<S: Send + Sync> FromRequestParts<S> for Name {
    type Rejection = Problem;

    async fn from_request_parts(parts: &mut Parts, state: &S) -> Result<Self, Problem> {
        segment(parts, state, "name").await.map(Self)
    }
}

impl<S: Send + Sync> FromRequestParts<S> for App {
    type Rejection = Problem;

    async fn from_request_parts(parts: &mut Parts, state: &S) -> Result<Self, Problem> {
        AppId::new(&segment(parts, state, "id").await?).map(Self).map_err(|error| nothing(&error))
    }
}

impl<S: Send + Sync> FromRequestParts<S> for AlarmId {
    type Rejection = Problem;

    async fn from_request_parts(parts: &mut Parts, state: &S) -> Result<Self, Problem> {
        segment(parts, state, "id").await.map(Self)
    }
}

/// Whose data a request is about, by its credential alone.
fn tenant(parts: &Parts) -> TenantId {
    parts.extensions.get::<Principal>().map_or(TenantId::NOBODY, Principal::tenant)
}

async fn segment<S: Send + Sync>(parts: &mut Parts, state: &S, name: &str) -> Result<String, Problem> {
    let all = RawPathParams::from_request_parts(parts, state)
        .await
        .map_err(|error| Problem::malformed("malformed", error.to_string()))?;
    let found = all.iter().find(|(known, _)| *known == name).map(|(_, text)| text.to_owned());
    found.ok_or_else(|| Problem::internal(format!("the route has no {name}")))
}

fn nothing(error: &InvalidName) -> Problem {
    Problem::not_found(format!("{error}, so there is none"))
}
