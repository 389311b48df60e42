//! The forms of long lists: the one that the caller likes best.

use std::sync::Arc;

use axum::http::{HeaderMap, HeaderValue, StatusCode, Uri, header};
use axum::response::Response;
use serde::Serialize;

use super::facade::{Answer, Facade, Page};
use super::memory::PATIENCE;
use super::problem::Problem;
use super::{Api, CSV_TYPE, JSON_TYPE, NDJSON_TYPE, answers};

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Form {
    Lines,
    Csv,
    Page,
}

impl Form {
    /// The form that the caller likes best (RFC 9110, 12.5.1) of these, which are in the order of the server's
    /// preference.
    pub(super) fn accepted(headers: &HeaderMap, all: &[Self], what: &str) -> Result<Self, Problem> {
        let given: Vec<&str> =
            headers.get_all(header::ACCEPT).iter().filter_map(|value| value.to_str().ok()).collect();
        let mut ranges: Vec<Range> =
            given.iter().flat_map(|text| text.split(',')).filter_map(Range::read).collect();
        if ranges.is_empty() {
            ranges.extend(Range::read("*/*"));
        }
        let mut best = (0.0, None);
        for form in all {
            let closest = ranges.iter().filter_map(|range| Some((range.fits(form.name())?, range.weight)));
            let weight = closest.max_by_key(|(closeness, _)| *closeness).map_or(0.0, |(_, weight)| weight);
            if weight > best.0 {
                best = (weight, Some(*form));
            }
        }
        best.1.ok_or_else(|| {
            let names: Vec<_> = all.iter().map(|form| form.name()).collect();
            Problem::not_acceptable(format!("{what} are available as {}", names.join(" or ")))
        })
    }

    fn name(self) -> &'static str {
        match self {
            Self::Lines => NDJSON_TYPE,
            Self::Csv => CSV_TYPE,
            Self::Page => JSON_TYPE,
        }
    }

    fn media_type(self) -> &'static str {
        match self {
            Self::Csv => "text/csv; charset=utf-8",
            other => other.name(),
        }
    }
}

/// One media range of an Accept header.
struct Range {
    /// In lower case, without parameters.
    name: String,
    weight: f32,
}

impl Range {
    fn read(text: &str) -> Option<Self> {
        let mut parts = text.split(';');
        let name = parts.next()?.trim().to_ascii_lowercase();
        let weight = parts.find_map(|part| {
            let (key, value) = part.split_once('=')?;
            key.trim().eq_ignore_ascii_case("q").then(|| value.trim().parse().unwrap_or(0.0))
        });
        (!name.is_empty()).then_some(Self { name, weight: weight.unwrap_or(1.0) })
    }

    /// The precision with which it names a media type; `None` where it doesn't.
    fn fits(&self, media_type: &str) -> Option<u8> {
        if self.name == media_type {
            return Some(2);
        }
        let kind = self.name.strip_suffix("/*")?;
        let begins = media_type.strip_prefix(kind).is_some_and(|rest| rest.starts_with('/'));
        if begins { Some(1) } else { (kind == "*").then_some(0) }
    }
}

/// A page in this form, with a link to the next one.
pub(super) async fn page<T, F>(
    api: &Api,
    form: Form,
    uri: &Uri,
    find: impl FnOnce(Arc<dyn Facade>) -> F + Send + 'static,
    write: impl FnOnce(Form, &Page<T>) -> Result<Vec<u8>, Problem> + Send + 'static,
) -> Result<Response, Problem>
where
    T: Send + 'static,
    F: Future<Output = Answer<Page<T>>> + Send + 'static,
{
    let write = move |page: Page<T>| Ok((write(form, &page)?, page.next));
    let (body, next) = answers::build(api, PATIENCE, find, write).await?;
    let mut response = answers::typed(StatusCode::OK, form.media_type(), body);
    response.headers_mut().insert(header::VARY, HeaderValue::from_static("accept"));
    if let Some(link) = next.and_then(|next| next_link(uri, &next)) {
        response.headers_mut().insert(header::LINK, link);
    }
    Ok(response)
}

/// Items as JSON, one on each line.
pub(super) fn lines(items: &[impl Serialize]) -> Result<Vec<u8>, Problem> {
    let mut out = Vec::with_capacity(items.len() * 160);
    for item in items {
        serde_json::to_writer(&mut out, item).map_err(unwritable)?;
        out.push(b'\n');
    }
    Ok(out)
}

/// Items as CSV.
pub(super) fn csv<T, const N: usize>(
    header: [&str; N],
    items: &[T],
    row: impl Fn(&T) -> [String; N],
) -> Result<Vec<u8>, Problem> {
    let mut writer = csv::Writer::from_writer(Vec::with_capacity(items.len() * 120));
    writer.write_record(header).map_err(unwritable)?;
    for item in items {
        writer.write_record(row(item)).map_err(unwritable)?;
    }
    writer.into_inner().map_err(unwritable)
}

fn unwritable(error: impl std::fmt::Display) -> Problem {
    Problem::internal(format!("the answer can't be written: {error}"))
}

/// The same request with the next page's `after`.
fn next_link(uri: &Uri, next: &str) -> Option<HeaderValue> {
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_form_that_is_liked_best_is_taken() {
        let accepted = |headers: &[&str]| {
            let headers = headers.iter().map(|text| (header::ACCEPT, text.parse().unwrap()));
            let headers: HeaderMap = headers.fold(HeaderMap::new(), |mut all, (name, value)| {
                all.append(name, value);
                all
            });
            let all = [Form::Lines, Form::Csv, Form::Page];
            Form::accepted(&headers, &all, "readings").map_err(|problem| problem.status)
        };
        assert_eq!(accepted(&[]), Ok(Form::Lines));
        assert_eq!(accepted(&[""]), Ok(Form::Lines));
        assert_eq!(accepted(&["*/*"]), Ok(Form::Lines));
        assert_eq!(accepted(&["Text/CSV"]), Ok(Form::Csv));
        assert_eq!(accepted(&["application/json;q=0, text/csv"]), Ok(Form::Csv));
        assert_eq!(accepted(&["text/csv;q=0.5, application/json ; Q=0.8"]), Ok(Form::Page));
        assert_eq!(accepted(&["*/*;q=0.1, text/*;q=0.2"]), Ok(Form::Csv));
        assert_eq!(accepted(&["*/*, application/x-ndjson;q=0"]), Ok(Form::Csv));
        assert_eq!(accepted(&["image/png", "application/json"]), Ok(Form::Page));
        assert_eq!(accepted(&["image/png"]), Err(406));
        assert_eq!(accepted(&["application/json;q=0"]), Err(406));
    }
}
