//! Errors as people and programs get them: `application/problem+json` of RFC 9457, with a kind to
//! test for, a place, and hints.

use std::time::Duration;

use axum::http::{HeaderValue, StatusCode, header};
use axum::response::{IntoResponse, Response};
use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

/// The media type of every error.
pub(crate) const PROBLEM_JSON: &str = "application/problem+json";

/// The kind of a problem that comes from `[site] clock = "feed"`.
pub(crate) const FEED_CLOCK: &str = "feed-clock";

/// Every kind of problem, for the description; those of single lines and fields are extra.
pub(crate) const KINDS: &[&str] = &[
    "alarm-over",
    "alarm-shelved",
    "answer-too-large",
    "apps-behind",
    "backlog",
    "backup-running",
    "bad-field",
    "bad-key",
    "bad-lines",
    "bad-message",
    "bad-parameter",
    "bad-query",
    "body",
    "busy",
    "capsule",
    "catalog",
    "circle",
    "clock",
    "component",
    "configuration",
    "consent",
    "copies-full",
    "copying",
    "damaged",
    "exists",
    FEED_CLOCK,
    "generation",
    "gone",
    "headers-too-large",
    "host",
    "in-use",
    "install",
    "internal",
    "interrupted",
    "invalid-key",
    "journal",
    "key-reused",
    "log-full",
    "malformed",
    "manifest",
    "method-not-allowed",
    "migrate",
    "needs-grant",
    "needs-restart",
    "no-trial",
    "not-acceptable",
    "not-ahead",
    "not-durable",
    "not-found",
    "not-json",
    "not-kept",
    "not-paused",
    "not-running",
    "not-sendable",
    "of-file",
    "origin",
    "other-app",
    "other-time",
    "package",
    "policy",
    "publisher",
    "publisher-changed",
    "purging",
    "quota",
    "quota-exceeded",
    "rehearsal",
    "replay",
    "reserved-point",
    "revision",
    "role",
    "same-entity",
    "setting-missing",
    "starting",
    "stopping",
    "storage-full",
    "taken-over",
    "tenant",
    "tls",
    "token",
    "too-large",
    "too-many-apps",
    "too-many-comments",
    "too-many-connectors",
    "too-many-consents",
    "too-many-files",
    "too-many-matches",
    "too-many-points",
    "too-many-requests",
    "too-many-revisions",
    "too-many-shapes",
    "too-many-streams",
    "too-much-adopted",
    "too-slow",
    "unauthenticated",
    "unbound",
    "unit-mismatch",
    "unknown-outcome",
    "unknown-package",
    "unknown-parameter",
    "unread",
    "unsigned",
    "unsupported-type",
];

/// The longest text of one error: what somebody sent isn't sent back in full.
const MAX_DETAIL: usize = 2_000;

fn shortened(mut text: String) -> String {
    if text.len() > MAX_DETAIL {
        let end = text.floor_char_boundary(MAX_DETAIL);
        text.truncate(end);
        text.push('…');
    }
    text
}

/// An error of the API. Made by the node as well, so that what it says reaches the caller unchanged.
///
/// Boxed, since it is the rare side of every answer.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(transparent)]
pub(crate) struct Problem(Box<Body>);

/// The contents of a [`Problem`].
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, ToSchema)]
#[schema(as = Problem)]
pub(crate) struct Body {
    /// `urn:ironloom:problem:` and the kind.
    pub r#type: String,
    /// The kind of error in a few words, always the same for one status.
    pub title: String,
    /// The HTTP status.
    pub status: u16,
    /// The code that programs test for, in kebab case, such as `unit-mismatch`.
    pub kind: String,
    /// An explanation in full sentences.
    pub detail: String,
    /// The place in the request.
    #[serde(default, rename = "where", skip_serializing_if = "Option::is_none")]
    pub place: Option<Place>,
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub hints: Vec<String>,
    /// The single errors, if there are several.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub errors: Vec<Detail>,
    /// Whole seconds after which it is worth another try.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub retry_after: Option<u64>,
}

/// A place in a request or a file.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub(crate) struct Place {
    /// The line, counted from 1.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub line: Option<u64>,
    /// The column, counted from 1.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub column: Option<u64>,
    /// The element of a JSON array, counted from 1.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub item: Option<u64>,
    /// The record batch of an Arrow stream, counted from 1.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub batch: Option<u64>,
    /// The row of that batch, counted from 1.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub row: Option<u64>,
    /// The field, such as `value` or `bindings.weight`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub field: Option<String>,
}

impl Place {
    /// A field of the request.
    pub(crate) fn field(field: impl Into<String>) -> Self {
        Self { field: Some(field.into()), ..Self::default() }
    }

    fn shortened(mut self) -> Self {
        self.field = self.field.map(shortened);
        self
    }
}

/// One of several errors.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub(crate) struct Detail {
    pub kind: String,
    pub detail: String,
    #[serde(default, rename = "where", skip_serializing_if = "Option::is_none")]
    pub place: Option<Place>,
}

impl Detail {
    /// This in texts of bounded length.
    #[must_use]
    pub(crate) fn shortened(self) -> Self {
        Self { detail: shortened(self.detail), place: self.place.map(Place::shortened), ..self }
    }
}

impl Problem {
    fn new(status: StatusCode, title: &str, kind: &str, detail: impl Into<String>) -> Self {
        debug_assert!(KINDS.contains(&kind), "the list of kinds lacks {kind:?}");
        Self(Box::new(Body {
            r#type: format!("urn:ironloom:problem:{kind}"),
            title: title.to_owned(),
            status: status.as_u16(),
            kind: kind.to_owned(),
            detail: shortened(detail.into()),
            place: None,
            hints: Vec::new(),
            errors: Vec::new(),
            retry_after: None,
        }))
    }

    /// 400: the request can't be read.
    pub(crate) fn malformed(kind: &str, detail: impl Into<String>) -> Self {
        Self::new(StatusCode::BAD_REQUEST, "The request is malformed", kind, detail)
    }

    /// 401: the server doesn't know who asks.
    pub(crate) fn unauthenticated(detail: impl Into<String>) -> Self {
        Self::new(StatusCode::UNAUTHORIZED, "Not known who asks", "unauthenticated", detail)
    }

    /// 403: understood, and never allowed to this caller.
    pub(crate) fn forbidden(kind: &str, detail: impl Into<String>) -> Self {
        Self::new(StatusCode::FORBIDDEN, "Not allowed", kind, detail)
    }

    /// 404: what the path names isn't there.
    pub(crate) fn not_found(detail: impl Into<String>) -> Self {
        Self::new(StatusCode::NOT_FOUND, "Not found", "not-found", detail)
    }

    /// 405: the path is there, but not for this method.
    pub(crate) fn method_not_allowed(detail: impl Into<String>) -> Self {
        Self::new(StatusCode::METHOD_NOT_ALLOWED, "Method not allowed", "method-not-allowed", detail)
    }

    /// 406: no form of the answer that the caller accepts.
    pub(crate) fn not_acceptable(detail: impl Into<String>) -> Self {
        Self::new(StatusCode::NOT_ACCEPTABLE, "No acceptable form", "not-acceptable", detail)
    }

    /// 408: the caller took too long to send the request.
    pub(crate) fn too_slow(detail: impl Into<String>) -> Self {
        Self::new(StatusCode::REQUEST_TIMEOUT, "The request took too long to arrive", "too-slow", detail)
    }

    /// 409: at odds with the state of things.
    pub(crate) fn conflict(kind: &str, detail: impl Into<String>) -> Self {
        Self::new(StatusCode::CONFLICT, "In conflict with the current state", kind, detail)
    }

    /// 412: what a header such as If-Match asks for doesn't hold.
    pub(crate) fn precondition(kind: &str, detail: impl Into<String>) -> Self {
        Self::new(StatusCode::PRECONDITION_FAILED, "A precondition doesn't hold", kind, detail)
    }

    /// 413: the body is longer than its limit.
    pub(crate) fn too_large(detail: impl Into<String>) -> Self {
        Self::new(StatusCode::PAYLOAD_TOO_LARGE, "The body is too large", "too-large", detail)
    }

    /// 415: a body of a type that the route doesn't take.
    pub(crate) fn unsupported_type(detail: impl Into<String>) -> Self {
        let title = "The body's type is not supported";
        Self::new(StatusCode::UNSUPPORTED_MEDIA_TYPE, title, "unsupported-type", detail)
    }

    /// 422: understood, but refused as it stands.
    pub(crate) fn refused(kind: &str, detail: impl Into<String>) -> Self {
        Self::new(StatusCode::UNPROCESSABLE_ENTITY, "Understood, but refused", kind, detail)
    }

    /// 429: more requests than are answered; the same one may be sent again after `retry_after`.
    pub(crate) fn too_many_requests(detail: impl Into<String>, retry_after: Duration) -> Self {
        Self::new(StatusCode::TOO_MANY_REQUESTS, "Too many requests", "too-many-requests", detail)
            .retry(retry_after)
    }

    /// 431: more headers than are taken.
    pub(crate) fn headers_too_large(detail: impl Into<String>) -> Self {
        let title = "The headers are too large";
        Self::new(StatusCode::REQUEST_HEADER_FIELDS_TOO_LARGE, title, "headers-too-large", detail)
    }

    /// 503: not now; the same request may be sent again after `retry_after`.
    pub(crate) fn unavailable(kind: &str, detail: impl Into<String>, retry_after: Duration) -> Self {
        Self::new(StatusCode::SERVICE_UNAVAILABLE, "Not available now", kind, detail).retry(retry_after)
    }

    /// 503 `unknown-outcome`: whether the request was taken can't be said. Repeat it with the same
    /// `Idempotency-Key`.
    pub(crate) fn unknown_outcome(detail: impl Into<String>) -> Self {
        Self::unavailable("unknown-outcome", detail, Duration::from_secs(1))
            .hint("Send the request again with the same Idempotency-Key; it takes effect only once.")
    }

    /// 507: the disk is nearly full.
    pub(crate) fn storage_full(detail: impl Into<String>, retry_after: Duration) -> Self {
        let title = "The storage is full";
        Self::new(StatusCode::INSUFFICIENT_STORAGE, title, "storage-full", detail).retry(retry_after)
    }

    /// 500: the fault is the server's own, such as a damaged value in the store. Never for an input.
    pub(crate) fn internal(detail: impl Into<String>) -> Self {
        Self::new(StatusCode::INTERNAL_SERVER_ERROR, "The server failed", "internal", detail)
    }

    /// Adds the place.
    #[must_use]
    pub(crate) fn at(mut self, place: Place) -> Self {
        self.place = Some(place.shortened());
        self
    }

    /// Adds a hint.
    #[must_use]
    pub(crate) fn hint(mut self, hint: impl Into<String>) -> Self {
        self.hints.push(shortened(hint.into()));
        self
    }

    /// Adds the single errors.
    #[must_use]
    pub(crate) fn with(mut self, errors: Vec<Detail>) -> Self {
        self.errors = errors.into_iter().map(Detail::shortened).collect();
        self
    }

    fn retry(mut self, after: Duration) -> Self {
        self.retry_after = Some(after.as_secs().max(1));
        self
    }
}

impl std::ops::Deref for Problem {
    type Target = Body;

    fn deref(&self) -> &Body {
        &self.0
    }
}

impl std::ops::DerefMut for Problem {
    fn deref_mut(&mut self) -> &mut Body {
        &mut self.0
    }
}

impl std::fmt::Display for Problem {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{} ({} {})", self.detail, self.status, self.kind)
    }
}

impl std::error::Error for Problem {}

/// The kind and the words of a problem, beside the answer that it became: for the audit log.
#[derive(Clone)]
pub(super) struct Kind {
    pub kind: String,
    pub detail: String,
}

impl IntoResponse for Problem {
    fn into_response(self) -> Response {
        let status = StatusCode::from_u16(self.status).unwrap_or(StatusCode::INTERNAL_SERVER_ERROR);
        let body = serde_json::to_vec(&self).unwrap_or_default();
        let mut response = (status, body).into_response();
        let headers = response.headers_mut();
        headers.insert(header::CONTENT_TYPE, HeaderValue::from_static(PROBLEM_JSON));
        if status == StatusCode::UNAUTHORIZED {
            headers.insert(header::WWW_AUTHENTICATE, HeaderValue::from_static("Bearer"));
        }
        if let Some(seconds) = self.retry_after {
            headers.insert(header::RETRY_AFTER, HeaderValue::from(seconds));
        }
        let Body { kind, detail, .. } = *self.0;
        response.extensions_mut().insert(Kind { kind, detail });
        response
    }
}
