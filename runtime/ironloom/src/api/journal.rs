//! `GET /v1/readings`, and the points.

use axum::extract::State;
use axum::http::{HeaderMap, Uri};
use axum::response::Response;

use super::body::Json;
use super::facade::{Page, PointRequest, ReadingItem, ReadingsQuery, RenamePoint, RetirePoints};
use super::forms::{self, Form};
use super::params::{Params, Path};
use super::problem::Problem;
use super::{Api, answers};

/// Reads the journal back, as NDJSON, CSV or a JSON page.
pub(super) async fn readings(
    State(api): State<Api>,
    mut params: Params,
    uri: Uri,
    headers: HeaderMap,
) -> Result<Response, Problem> {
    let form = Form::accepted(&headers, &[Form::Lines, Form::Csv, Form::Page], "readings")?;
    let (tenant, query) = (params.tenant(), readings_query(&mut params)?);
    forms::page(&api, form, &uri, move |node| async move { node.readings(tenant, query).await }, write).await
}

/// `point`, `from`, `to`, `after`, `order`, `limit`.
pub(super) fn readings_query(params: &mut Params) -> Result<ReadingsQuery, Problem> {
    Ok(ReadingsQuery {
        point: params.point()?,
        from: params.value("from")?,
        to: params.value("to")?,
        after: params.after_sequence()?,
        order: params.order()?,
        limit: params.limit()?,
    })
}

/// The points with their latest readings.
pub(super) async fn points(State(api): State<Api>, mut params: Params) -> Result<Response, Problem> {
    let prefix = params.text("prefix").unwrap_or_default();
    let (tenant, page) = (params.tenant(), params.page()?);
    answers::page(&api, move |node| async move { node.points(tenant, prefix, page).await }).await
}

pub(super) async fn point(State(api): State<Api>, Path(path): Path) -> Result<Response, Problem> {
    answers::ok(&api, &api.node.point(path).await?).await
}

/// Takes over what somebody says of a point.
pub(super) async fn set_point(
    State(api): State<Api>,
    Path(path): Path,
    Json(request): Json<PointRequest>,
) -> Result<Response, Problem> {
    answers::done(&api, &api.node.set_point(path, request).await?).await
}

/// Gives a point another path.
pub(super) async fn rename_point(
    State(api): State<Api>,
    Path(path): Path,
    Json(request): Json<RenamePoint>,
) -> Result<Response, Problem> {
    answers::done(&api, &api.node.rename_point(path, request).await?).await
}

/// Retires a point, or all below a path.
pub(super) async fn retire_points(
    State(api): State<Api>,
    Path(path): Path,
    mut params: Params,
) -> Result<Response, Problem> {
    let (below, readings) = (params.flag("below")?, params.flag("readings")?);
    answers::done(&api, &api.node.retire_points(RetirePoints { path, below, readings }).await?).await
}

fn write(form: Form, page: &Page<ReadingItem>) -> Result<Vec<u8>, Problem> {
    match form {
        Form::Lines => forms::lines(&page.items),
        Form::Csv => csv(&page.items),
        Form::Page => answers::write(page),
    }
}

fn csv(items: &[ReadingItem]) -> Result<Vec<u8>, Problem> {
    forms::csv(["sequence", "time", "point", "at", "quality", "value"], items, |item| {
        [
            item.sequence.to_string(),
            item.time.to_string(),
            item.point.to_string(),
            item.at.to_string(),
            item.quality.name().to_owned(),
            item.value.to_string(),
        ]
    })
}
