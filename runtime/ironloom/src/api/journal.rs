//! `GET /v1/readings` and `GET /v1/points`.

use axum::extract::State;
use axum::http::{HeaderMap, HeaderValue, StatusCode, Uri, header};
use axum::response::Response;

use super::facade::{Page, ReadingItem, ReadingsQuery};
use super::params::Params;
use super::problem::Problem;
use super::{Api, JSON_TYPE, NDJSON_TYPE, answers};
use ironloom_types::ids::Sequence;

const CSV_TYPE: &str = "text/csv";

/// Reads the journal back, as NDJSON, CSV or a JSON page.
pub async fn readings(State(api): State<Api>, uri: Uri, headers: HeaderMap) -> Result<Response, Problem> {
    let form = Form::accepted(&headers)?;
    let mut params = Params::of(&uri)?;
    let query = readings_query(&mut params)?;
    params.finish()?;
    let page = api.node.readings(query).await?;
    let mut response = match form {
        Form::Lines => answers::typed(StatusCode::OK, NDJSON_TYPE, lines(&page.items)?),
        Form::Csv => answers::typed(StatusCode::OK, "text/csv; charset=utf-8", csv(&page.items)?),
        Form::Page => return Ok(answers::ok(&page)),
    };
    if let Some(link) = next_link(&uri, &page) {
        response.headers_mut().insert(header::LINK, link);
    }
    Ok(response)
}

/// `point`, `from`, `to`, `after`, `limit`.
pub fn readings_query(params: &mut Params) -> Result<ReadingsQuery, Problem> {
    Ok(ReadingsQuery {
        point: params.value("point")?,
        from: params.value("from")?,
        to: params.value("to")?,
        after: Sequence(params.value("after")?.unwrap_or(0)),
        limit: params.limit()?,
    })
}

/// The points with their latest readings.
pub async fn points(State(api): State<Api>, uri: Uri) -> Result<Response, Problem> {
    let mut params = Params::of(&uri)?;
    let prefix = params.text("prefix").unwrap_or_default();
    let page = params.page()?;
    params.finish()?;
    Ok(answers::ok(&api.node.points(prefix, page).await?))
}

#[derive(Clone, Copy)]
enum Form {
    Lines,
    Csv,
    Page,
}

impl Form {
    /// The first that the caller accepts, in the caller's order; lines where it takes anything.
    fn accepted(headers: &HeaderMap) -> Result<Self, Problem> {
        let Some(accept) = headers.get(header::ACCEPT) else { return Ok(Self::Lines) };
        for range in accept.to_str().unwrap_or_default().split(',') {
            match range.split(';').next().unwrap_or_default().trim() {
                NDJSON_TYPE | "application/*" | "*/*" => return Ok(Self::Lines),
                CSV_TYPE | "text/*" => return Ok(Self::Csv),
                JSON_TYPE => return Ok(Self::Page),
                _ => {}
            }
        }
        Err(Problem::not_acceptable(format!("readings come as {NDJSON_TYPE}, {CSV_TYPE} or {JSON_TYPE}")))
    }
}

fn lines(items: &[ReadingItem]) -> Result<Vec<u8>, Problem> {
    let mut out = Vec::with_capacity(items.len() * 160);
    for item in items {
        serde_json::to_writer(&mut out, item).map_err(unwritable)?;
        out.push(b'\n');
    }
    Ok(out)
}

fn csv(items: &[ReadingItem]) -> Result<Vec<u8>, Problem> {
    let mut writer = csv::Writer::from_writer(Vec::with_capacity(items.len() * 120));
    writer.write_record(["sequence", "time", "point", "at", "quality", "value"]).map_err(unwritable)?;
    for item in items {
        let quality = match item.quality {
            ironloom_types::readings::Quality::Good => "good",
            ironloom_types::readings::Quality::Uncertain => "uncertain",
            ironloom_types::readings::Quality::Bad => "bad",
        };
        let numbers =
            [item.sequence.to_string(), item.time.to_string(), item.at.to_string(), item.value.to_string()];
        let [sequence, time, at, value] = &numbers;
        writer.write_record([sequence, time, &*item.point, at, quality, value]).map_err(unwritable)?;
    }
    writer.into_inner().map_err(unwritable)
}

fn unwritable(error: impl std::fmt::Display) -> Problem {
    Problem::internal(format!("the answer can't be written: {error}"))
}

/// The same request with the next page's `after`.
fn next_link(uri: &Uri, page: &Page<ReadingItem>) -> Option<HeaderValue> {
    let next = page.next.as_ref()?;
    let rest = uri
        .query()
        .unwrap_or_default()
        .split('&')
        .filter(|pair| !pair.is_empty() && !pair.starts_with("after="));
    let mut query: Vec<&str> = rest.collect();
    let after = format!("after={next}");
    query.push(&after);
    HeaderValue::try_from(format!("<{}?{}>; rel=\"next\"", uri.path(), query.join("&"))).ok()
}
