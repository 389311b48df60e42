//! `/v1/installations/{id}/state`: what an app remembers, to be looked at and repaired.

use std::time::Duration;

use axum::extract::State;
use axum::http::StatusCode;
use axum::response::{IntoResponse as _, Response};
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD as BASE64;
use bytes::Bytes;
use serde::{Deserialize, Deserializer, Serialize};
use serde_json::value::RawValue;
use utoipa::ToSchema;

use super::body::Json;
use super::facade::{Page, Place, StateItem};
use super::params::{Id, Params, StateKey};
use super::problem::Problem;
use super::{Api, JSON_TYPE, answers};

/// Arrays and objects within each other in a value that is shown as JSON. Beyond: shown in base64 alone. Parsers of callers
/// give up at some depth, many at 128, and the whole page with it, which has three levels of its own.
const MAX_NESTING: usize = 100;

/// A value of the state, which may be any bytes.
#[derive(Serialize, ToSchema)]
struct Base64 {
    base64: String,
}

/// An entry of an installation's state.
#[derive(Serialize, ToSchema)]
pub(super) struct StateEntry {
    #[schema(value_type = String)]
    key: Box<str>,
    value: Base64,
    /// The same, where it is JSON with at most 100 levels.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(value_type = Option<serde_json::Value>)]
    json: Option<Box<RawValue>>,
}

impl From<StateItem> for StateEntry {
    fn from(item: StateItem) -> Self {
        // Shown as it stands, so that its numbers aren't changed on the way.
        let json = std::str::from_utf8(&item.value)
            .ok()
            .filter(|text| !is_too_deep(text))
            .and_then(|text| RawValue::from_string(text.to_owned()).ok());
        Self { key: item.key, value: Base64 { base64: BASE64.encode(&item.value) }, json }
    }
}

/// Says whether a text, if it is JSON, has too many levels.
fn is_too_deep(text: &str) -> bool {
    let (mut depth, mut is_quoted, mut is_escaped) = (0_usize, false, false);
    for byte in text.bytes() {
        match byte {
            _ if is_escaped => is_escaped = false,
            b'\\' => is_escaped = is_quoted,
            b'"' => is_quoted = !is_quoted,
            b'[' | b'{' if !is_quoted => depth += 1,
            b']' | b'}' if !is_quoted => depth = depth.saturating_sub(1),
            _ => {}
        }
        if depth > MAX_NESTING {
            return true;
        }
    }
    false
}

/// A page of its state.
pub(super) async fn list(
    State(api): State<Api>,
    Id(id): Id,
    mut params: Params,
) -> Result<Response, Problem> {
    let prefix = params.text("prefix").unwrap_or_default();
    let page = params.page()?;
    let write = |Page { items, next }: Page<StateItem>| {
        let items: Vec<StateEntry> = items.into_iter().map(StateEntry::from).collect();
        Ok((answers::write(&Page { items, next })?, ()))
    };
    // The app is waited for before there is a share: whoever reads the state of a busy one holds nothing
    // that others need. And it is held only while it is read, so the share isn't waited for.
    let read = api.node.state(id, prefix, page).await?;
    let (body, ()) = answers::build(&api, Duration::ZERO, move |_| read(), write).await?;
    Ok(answers::typed(StatusCode::OK, JSON_TYPE, body))
}

/// One entry of its state.
pub(super) async fn show(
    State(api): State<Api>,
    Id(id): Id,
    StateKey(key): StateKey,
) -> Result<Response, Problem> {
    let item = api.node.state_entry(id, key).await?;
    answers::ok(&api, &StateEntry::from(item)).await
}

/// A value for a key: one of these.
#[derive(Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub(super) struct StateValue {
    /// JSON, kept as it stands.
    #[serde(default, deserialize_with = "given")]
    #[schema(value_type = Option<serde_json::Value>)]
    json: Option<Box<RawValue>>,
    /// Text, kept as UTF-8.
    #[serde(default)]
    text: Option<String>,
    /// The bytes as they are kept, whatever they mean.
    #[serde(default)]
    base64: Option<String>,
}

/// A value that is there, be it null.
fn given<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Option<Box<RawValue>>, D::Error> {
    Box::deserialize(deserializer).map(Some)
}

impl StateValue {
    fn into_bytes(self) -> Result<Bytes, Problem> {
        match (self.json, self.text, self.base64) {
            (Some(json), None, None) => Ok(Bytes::from(Box::<str>::from(json).into_string())),
            (None, Some(text), None) => Ok(text.into()),
            (None, None, Some(text)) => BASE64.decode(&text).map(Bytes::from).map_err(|error| {
                let detail = format!("`base64` can't be decoded: {error}");
                Problem::malformed("bad-field", detail).at(Place::field("base64"))
            }),
            _ => {
                let detail = "the body must have one of `json`, `text` and `base64`: the value";
                Err(Problem::malformed("bad-field", detail))
            }
        }
    }
}

/// Sets a key of its state.
pub(super) async fn put(
    State(api): State<Api>,
    Id(id): Id,
    StateKey(key): StateKey,
    Json(value): Json<StateValue>,
) -> Result<Response, Problem> {
    let value = value.into_bytes()?;
    api.node.change_state(id, key.clone(), Some(value.clone())).await?;
    answers::done(&api, &StateEntry::from(StateItem { key: key.into(), value })).await
}

/// Deletes a key of its state.
pub(super) async fn delete(
    State(api): State<Api>,
    Id(id): Id,
    StateKey(key): StateKey,
) -> Result<Response, Problem> {
    api.node.change_state(id, key, None).await?;
    Ok(StatusCode::NO_CONTENT.into_response())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_value_is_shown_as_json_where_ordinary_parsers_can_read_the_page() {
        let shown = |text: &str| {
            let item = StateItem { key: "key".into(), value: Bytes::from(text.to_owned()) };
            let page = Page { items: vec![StateEntry::from(item)], next: None };
            let text = serde_json::to_string(&page).unwrap();
            let page: serde_json::Value = serde_json::from_str(&text).unwrap();
            page["items"][0].get("json").cloned()
        };
        let nested =
            |open: &str, close: &str, levels: usize| open.repeat(levels) + "1" + &close.repeat(levels);
        for (open, close) in [("[", "]"), ("{\"a\":", "}")] {
            assert!(shown(&nested(open, close, 100)).is_some());
            assert_eq!(shown(&nested(open, close, 101)), None);
            assert_eq!(shown(&nested(open, close, 100_000)), None);
        }
        // Not nested: one after the other, and within texts.
        let wide = format!("[{}[]]", "[],".repeat(1_000));
        assert!(shown(&wide).is_some());
        let quoted = format!("[\"\\\"{}\", \"{}\\\\\"]", "[".repeat(1_000), "{".repeat(1_000));
        assert!(shown(&quoted).is_some());
        assert_eq!(shown("no JSON"), None);
    }
}
