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
    /// The same, where it is JSON.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(value_type = Option<serde_json::Value>)]
    json: Option<Box<RawValue>>,
}

impl From<StateItem> for StateEntry {
    fn from(item: StateItem) -> Self {
        // Shown as it stands, so that its numbers aren't changed on the way.
        let json = std::str::from_utf8(&item.value)
            .ok()
            .and_then(|text| RawValue::from_string(text.to_owned()).ok());
        Self { key: item.key, value: Base64 { base64: BASE64.encode(&item.value) }, json }
    }
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
