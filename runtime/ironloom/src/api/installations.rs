//! `/v1/installations` and the routes below each.

use std::fmt;
use std::sync::Arc;

use axum::Extension;
use axum::extract::State;
use axum::http::{HeaderMap, Method, StatusCode};
use axum::response::{IntoResponse as _, Response};
use bytes::Bytes;
use serde::de::value::MapAccessDeserializer;
use serde::de::{Error as _, MapAccess, SeqAccess, Visitor};
use serde::{Deserialize, Deserializer};
use utoipa::ToSchema;

use super::body::{Json, Nothing, Optional};
use super::condition::{IfMatch, Tag};
use super::facade::{
    AllInstalled, Backlog, Facade, InstallRequest, LogPage, MAX_INSTALLS, OutputsQuery, ReplayRequest,
    RevisionRequest, RollbackRequest,
};
use super::held::{Held, while_wanted};
use super::journal::readings_query;
use super::memory::PATIENCE;
use super::params::{Id, Number, Params};
use super::problem::{Place, Problem};
use super::{Api, JSON_TYPE, answers, capsule, guard};
use ironloom_types::ids::InstallationId;

/// One installation, or a list.
pub(super) enum Requests {
    One(Box<InstallRequest>),
    Many(Vec<InstallRequest>),
}

impl<'de> Deserialize<'de> for Requests {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Either;
        impl<'de> Visitor<'de> for Either {
            type Value = Requests;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("an installation, or a list of installations")
            }

            fn visit_map<A: MapAccess<'de>>(self, map: A) -> Result<Requests, A::Error> {
                InstallRequest::deserialize(MapAccessDeserializer::new(map))
                    .map(|request| Requests::One(Box::new(request)))
            }

            fn visit_seq<A: SeqAccess<'de>>(self, mut list: A) -> Result<Requests, A::Error> {
                let mut requests = Vec::new();
                while let Some(request) = list.next_element()? {
                    if requests.len() == MAX_INSTALLS {
                        let text = format!("a list may have at most {MAX_INSTALLS} installations");
                        return Err(A::Error::custom(text));
                    }
                    requests.push(request);
                }
                if requests.is_empty() {
                    return Err(A::Error::custom("the list has no installation"));
                }
                Ok(Requests::Many(requests))
            }
        }
        deserializer.deserialize_any(Either)
    }
}

/// Installs one, or all of a list or none: 201, or 200 for a dry run.
pub(super) async fn install(
    State(api): State<Api>,
    mut params: Params,
    Json(requests): Json<Requests>,
) -> Result<Response, Problem> {
    let (tenant, dry_run) = (params.tenant(), params.flag("dry-run")?);
    let (requests, path) = match requests {
        Requests::One(request) => {
            let path = format!("/v1/installations/{}", request.id);
            (vec![*request], Some(path))
        }
        Requests::Many(requests) => (requests, None),
    };
    let mut installed = api.node.install(tenant, requests, dry_run).await?;
    let status = if dry_run { StatusCode::OK } else { StatusCode::CREATED };
    match path {
        None => answers::done_long(&api, status, AllInstalled { items: installed }).await,
        Some(path) => {
            let alone = installed.pop().ok_or_else(|| Problem::internal("nothing was installed"))?;
            if dry_run {
                answers::ok(&api, &alone).await
            } else {
                let answer = answers::created(&api, &path, &alone).await?;
                Ok(Tag::put(&alone.installation, answer))
            }
        }
    }
}

pub(super) async fn list(State(api): State<Api>, mut params: Params) -> Result<Response, Problem> {
    let (tenant, page) = (params.tenant(), params.page()?);
    answers::page(&api, move |node| async move { node.installations(tenant, page).await }).await
}

/// Lists what is kept of those that are gone.
pub(super) async fn kept(State(api): State<Api>, mut params: Params) -> Result<Response, Problem> {
    let (tenant, page) = (params.tenant(), params.page()?);
    answers::page(&api, move |node| async move { node.kept(tenant, page).await }).await
}

pub(super) async fn show(State(api): State<Api>, Id(id): Id) -> Result<Response, Problem> {
    let installation = api.node.installation(id).await?;
    Ok(Tag::put(&installation, answers::ok(&api, &installation).await?))
}

/// Rights that it has and never used.
pub(super) async fn never_used(State(api): State<Api>, Id(id): Id) -> Result<Response, Problem> {
    answers::ok(&api, &api.node.never_used(id).await?).await
}

/// 412 where `If-Match` names another revision than the one there is.
fn check_match(api: &Api, headers: &HeaderMap, id: &InstallationId) -> Result<(), Problem> {
    IfMatch::of(headers)?.map_or(Ok(()), |if_match| api.node.check_match(id, &if_match))
}

pub(super) async fn uninstall(
    State(api): State<Api>,
    Id(id): Id,
    headers: HeaderMap,
    mut params: Params,
) -> Result<Response, Problem> {
    let purge = params.flag("purge")?;
    check_match(&api, &headers, &id)?;
    api.node.uninstall(id, purge).await?;
    Ok(StatusCode::NO_CONTENT.into_response())
}

/// Begins a new revision, or says what it would change.
pub(super) async fn revise(
    State(api): State<Api>,
    Id(id): Id,
    headers: HeaderMap,
    mut params: Params,
    Json(request): Json<RevisionRequest>,
) -> Result<Response, Problem> {
    let dry_run = params.flag("dry-run")?;
    let revised = api.node.revise(id, request, IfMatch::of(&headers)?, dry_run).await?;
    if revised.waits {
        return answers::json(&api, StatusCode::ACCEPTED, &revised).await;
    }
    let answer = answers::done(&api, &revised).await?;
    // A dry run shows a revision that isn't there.
    Ok(if dry_run { answer } else { Tag::put(&revised.installation, answer) })
}

/// The body of a resume.
#[derive(Default, Deserialize, ToSchema)]
#[serde(default, deny_unknown_fields)]
pub(super) struct Resume {
    backlog: Backlog,
}

pub(super) async fn pause(
    State(api): State<Api>,
    Id(id): Id,
    headers: HeaderMap,
    Optional(Nothing {}): Optional<Nothing>,
) -> Result<Response, Problem> {
    check_match(&api, &headers, &id)?;
    answers::done(&api, &api.node.pause(id).await?).await
}

pub(super) async fn resume(
    State(api): State<Api>,
    Id(id): Id,
    headers: HeaderMap,
    Optional(Resume { backlog }): Optional<Resume>,
) -> Result<Response, Problem> {
    check_match(&api, &headers, &id)?;
    answers::done(&api, &api.node.resume(id, backlog).await?).await
}

/// Starts it over, or says what that would be.
pub(super) async fn reset(
    State(api): State<Api>,
    Id(id): Id,
    headers: HeaderMap,
    mut params: Params,
    Optional(Nothing {}): Optional<Nothing>,
) -> Result<Response, Problem> {
    check_match(&api, &headers, &id)?;
    let dry_run = params.flag("dry-run")?;
    let from = params.value("from")?.ok_or_else(|| {
        let detail = "the parameter \"from\" is missing: where to start in the journal";
        Problem::malformed("bad-parameter", detail)
            .at(Place::field("from"))
            .hint("It is now, beginning, or an RFC 3339 time.")
    })?;
    answers::done(&api, &api.node.reset(id, from, dry_run).await?).await
}

/// The copies of its state.
pub(super) async fn copies(State(api): State<Api>, Id(id): Id) -> Result<Response, Problem> {
    answers::done(&api, &api.node.copies(id)?).await
}

/// Makes an upgrade final.
pub(super) async fn commit(
    State(api): State<Api>,
    Id(id): Id,
    headers: HeaderMap,
    Optional(Nothing {}): Optional<Nothing>,
) -> Result<Response, Problem> {
    check_match(&api, &headers, &id)?;
    answers::done(&api, &api.node.commit(id).await?).await
}

/// Goes back to before an upgrade, or says what that would be.
pub(super) async fn rollback(
    State(api): State<Api>,
    Id(id): Id,
    headers: HeaderMap,
    mut params: Params,
    Optional(request): Optional<RollbackRequest>,
) -> Result<Response, Problem> {
    check_match(&api, &headers, &id)?;
    let (keep_cursor, dry_run) = (params.flag("keep-cursor")?, params.flag("dry-run")?);
    answers::done(&api, &api.node.roll_back(id, request, keep_cursor, dry_run).await?).await
}

/// Runs its recorded invocations again, and compares.
pub(super) async fn replay(
    State(api): State<Api>,
    Id(id): Id,
    held: Option<Extension<Held>>,
    Optional(request): Optional<ReplayRequest>,
) -> Result<Response, Problem> {
    answers::ok(&api, &while_wanted(held, api.node.replay(id, request)).await?).await
}

/// Its last invocations, to be run again elsewhere.
pub(super) async fn capsule(
    State(api): State<Api>,
    Id(id): Id,
    method: Method,
    headers: HeaderMap,
    held: Option<Extension<Held>>,
    mut params: Params,
) -> Result<Response, Problem> {
    guard::refuse_other_sites(&headers)?;
    let last = params.value("last")?.unwrap_or(capsule::LAST);
    if method == Method::HEAD {
        // All invocations would run again for nobody.
        return Ok(answers::typed(StatusCode::OK, JSON_TYPE, Bytes::new()));
    }
    let capsule = while_wanted(held, api.node.capsule(id, last)).await?;
    answers::long(&api, StatusCode::OK, capsule).await
}

/// Lists the readings of its outputs.
pub(super) async fn outputs(
    State(api): State<Api>,
    Id(id): Id,
    mut params: Params,
) -> Result<Response, Problem> {
    let query = OutputsQuery { output: params.value("output")?, readings: readings_query(&mut params)? };
    answers::page(&api, move |node| async move { node.outputs(id, query).await }).await
}

/// When its timers fire next, by name.
pub(super) async fn timers(
    State(api): State<Api>,
    Id(id): Id,
    mut params: Params,
) -> Result<Response, Problem> {
    let page = params.page()?;
    answers::page(&api, move |node| async move { node.timers(id, page).await }).await
}

pub(super) async fn logs(
    State(api): State<Api>,
    Id(id): Id,
    mut params: Params,
) -> Result<Response, Problem> {
    let query = params.numbered()?;
    let find = move |node: Arc<dyn Facade>| async move { node.logs(id, query).await };
    let (body, ()) =
        answers::build(&api, PATIENCE, find, |page: LogPage| Ok((answers::write(&page)?, ()))).await?;
    Ok(answers::typed(StatusCode::OK, JSON_TYPE, body))
}

pub(super) async fn invocations(
    State(api): State<Api>,
    Id(id): Id,
    mut params: Params,
) -> Result<Response, Problem> {
    let query = params.numbered()?;
    answers::page(&api, move |node| async move { node.invocations(id, query).await }).await
}

/// Its dead letters.
pub(super) async fn dead_letters(
    State(api): State<Api>,
    Id(id): Id,
    mut params: Params,
) -> Result<Response, Problem> {
    let query = params.numbered()?;
    answers::page(&api, move |node| async move { node.dead_letters(id, query).await }).await
}

/// Runs a dead letter again.
pub(super) async fn requeue(
    State(api): State<Api>,
    Id(id): Id,
    Number(number): Number,
    Optional(Nothing {}): Optional<Nothing>,
) -> Result<Response, Problem> {
    api.node.requeue(id, number).await?;
    Ok(StatusCode::ACCEPTED.into_response())
}

/// Deletes a dead letter.
pub(super) async fn delete_dead_letter(
    State(api): State<Api>,
    Id(id): Id,
    Number(number): Number,
) -> Result<Response, Problem> {
    api.node.delete_dead_letter(id, number).await?;
    Ok(StatusCode::NO_CONTENT.into_response())
}
