//! `GET /openapi.json`: what there is to call, from one table.
//!
//! The table names paths, parameters and media types; the shapes of answers are described in words.

use axum::http::StatusCode;
use axum::response::Response;
use serde_json::{Map, Value, json};

use super::problem::PROBLEM_JSON;
use super::{JSON_TYPE, NDJSON_TYPE, PACKAGE_TYPE, answers};

struct Operation {
    method: &'static str,
    path: &'static str,
    summary: &'static str,
    /// Names of query parameters, with a space between.
    query: &'static str,
    /// The body's media type, where it has one.
    body: &'static str,
    status: &'static str,
    /// The answer's media types, with a space between.
    answer: &'static str,
}

const fn get(path: &'static str, query: &'static str, summary: &'static str) -> Operation {
    Operation { method: "get", path, summary, query, body: "", status: "200", answer: JSON_TYPE }
}

const fn post(
    path: &'static str,
    query: &'static str,
    body: &'static str,
    summary: &'static str,
) -> Operation {
    Operation { method: "post", path, summary, query, body, status: "200", answer: JSON_TYPE }
}

const fn delete(path: &'static str, query: &'static str, summary: &'static str) -> Operation {
    Operation { method: "delete", path, summary, query, body: "", status: "204", answer: "" }
}

const OPERATIONS: &[Operation] = &[
    Operation {
        answer: "application/x-ndjson text/csv application/json",
        ..get("/v1/readings", "point from to after limit", "Reads the journal back, oldest first")
    },
    post(
        "/v1/readings",
        "partial",
        NDJSON_TYPE,
        "Takes readings, one JSON object on each line; answers once durable",
    ),
    get("/v1/points", "prefix after limit", "Points with their latest readings"),
    get("/v1/packages", "after limit", "Packages"),
    Operation {
        status: "201",
        ..post("/v1/packages", "", PACKAGE_TYPE, "Takes a package; 200 where it was known")
    },
    get("/v1/packages/{digest}", "", "One package"),
    delete("/v1/packages/{digest}", "", "Removes a package that no installation has"),
    get("/v1/installations", "after limit", "Installations"),
    Operation {
        status: "201",
        ..post(
            "/v1/installations",
            "dry-run",
            JSON_TYPE,
            "Installs; 200 with dry-run=true, which only says what matches",
        )
    },
    get("/v1/installations/{id}", "", "One installation"),
    delete("/v1/installations/{id}", "purge", "Uninstalls"),
    post("/v1/installations/{id}/pause", "", JSON_TYPE, "Pauses"),
    post("/v1/installations/{id}/resume", "", JSON_TYPE, "Resumes; {\"backlog\":\"keep\"} or \"drop\""),
    get(
        "/v1/installations/{id}/outputs",
        "output point from to after limit",
        "What its outputs gave, oldest first",
    ),
    get("/v1/installations/{id}/state", "prefix after limit", "Its state, in the order of the keys"),
    get("/v1/installations/{id}/logs", "after limit", "Its log; without `after` the last lines"),
    get("/v1/installations/{id}/invocations", "after limit", "Its invocations, oldest first"),
    get("/v1/installations/{id}/dead-letters", "after limit", "Readings that were set aside, oldest first"),
    delete("/v1/installations/{id}/dead-letters/{number}", "", "Deletes a dead letter"),
    Operation {
        status: "204",
        answer: "",
        ..post(
            "/v1/installations/{id}/dead-letters/{number}/requeue",
            "",
            JSON_TYPE,
            "Runs a dead letter again",
        )
    },
    get("/v1/alarms", "installation after limit", "Alarms that stand or weren't acknowledged"),
    post("/v1/alarms/{id}/ack", "", JSON_TYPE, "Acknowledges an alarm"),
    get("/v1/connectors", "", "Connectors and how they go"),
    get("/healthz", "", "Whether the process lives"),
    get("/readyz", "", "Whether it does its work; 503 with reasons where not"),
    Operation { answer: "application/openmetrics-text", ..get("/metrics", "", "Metrics for Prometheus") },
    get("/openapi.json", "", "This description"),
];

/// The description.
pub async fn document() -> Response {
    answers::json(StatusCode::OK, &describe())
}

fn describe() -> Value {
    let mut paths: Map<String, Value> = Map::new();
    for operation in OPERATIONS {
        let path = paths.entry(operation.path).or_insert_with(|| json!({}));
        path[operation.method] = operation.describe();
    }
    json!({
        "openapi": "3.1.0",
        "info": {"title": "Ironloom", "version": env!("CARGO_PKG_VERSION"), "license": {"name": "Apache-2.0"}},
        "paths": paths,
        "components": {"schemas": {"Problem": {
            "type": "object",
            "description": "RFC 9457, with a kind to test for, a place, hints, and several errors at once",
            "required": ["type", "title", "status", "detail", "kind"],
            "properties": {
                "type": {"type": "string"},
                "title": {"type": "string"},
                "status": {"type": "integer"},
                "detail": {"type": "string"},
                "kind": {"type": "string"},
                "where": {"type": "object"},
                "hints": {"type": "array", "items": {"type": "string"}},
                "errors": {"type": "array", "items": {"type": "object"}},
            },
        }}},
    })
}

impl Operation {
    fn describe(&self) -> Value {
        let segments =
            self.path.split('/').filter_map(|segment| segment.strip_prefix('{')?.strip_suffix('}'));
        let in_path =
            segments.map(|name| json!({"name": name, "in": "path", "required": true, "schema": text()}));
        let in_query =
            self.query.split_whitespace().map(|name| json!({"name": name, "in": "query", "schema": text()}));
        let content: Map<String, Value> =
            self.answer.split_whitespace().map(|kind| (kind.to_owned(), json!({}))).collect();
        let mut answer = json!({"description": self.summary});
        if !content.is_empty() {
            answer["content"] = content.into();
        }
        let problem = json!({
            "description": "What went wrong",
            "content": {PROBLEM_JSON: {"schema": {"$ref": "#/components/schemas/Problem"}}},
        });
        let mut operation = json!({
            "summary": self.summary,
            "parameters": in_path.chain(in_query).collect::<Vec<_>>(),
            "responses": {self.status: answer, "default": problem},
        });
        if !self.body.is_empty() {
            operation["requestBody"] = json!({"content": {self.body: {}}});
        }
        operation
    }
}

fn text() -> Value {
    json!({"type": "string"})
}

/// Method and path of every operation.
#[cfg(test)]
pub fn operations() -> impl Iterator<Item = (&'static str, &'static str)> {
    OPERATIONS.iter().map(|operation| (operation.method, operation.path))
}
