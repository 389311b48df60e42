//! `GET /openapi.json`: the table of routes in OpenAPI's form, with the shapes of parameters and
//! problems. The shapes of other answers are described in words.

use serde_json::{Map, Value, json};

use super::operation::Operation;
use super::problem::{KINDS, PROBLEM_JSON};

pub(super) fn document(operations: &[Operation]) -> Value {
    let mut paths: Map<String, Value> = Map::new();
    for operation in operations {
        let path = paths.entry(operation.path).or_insert_with(|| json!({}));
        path[operation.method] = operation.describe();
    }
    json!({
        "openapi": "3.1.0",
        "info": {"title": "Ironloom", "version": env!("CARGO_PKG_VERSION"), "license": {"name": "Apache-2.0"}},
        "paths": paths,
        "components": {"schemas": {"Place": place(), "Problem": problem()}},
    })
}

fn place() -> Value {
    json!({
        "type": "object",
        "description": "A place in the request",
        "properties": {
            "line": {"type": "integer", "minimum": 1},
            "column": {"type": "integer", "minimum": 1},
            "item": {"type": "integer", "minimum": 1, "description": "The element of a JSON array"},
            "field": {"type": "string"},
        },
    })
}

fn problem() -> Value {
    let place = json!({"$ref": "#/components/schemas/Place"});
    json!({
        "type": "object",
        "description": "RFC 9457, with a kind to test for, a place, hints, and several errors at once",
        "required": ["type", "title", "status", "detail", "kind"],
        "properties": {
            "type": {"type": "string"},
            "title": {"type": "string"},
            "status": {"type": "integer"},
            "detail": {"type": "string"},
            "kind": {"type": "string", "enum": KINDS},
            "where": place,
            "hints": {"type": "array", "items": {"type": "string"}},
            "errors": {"type": "array", "items": {
                "type": "object",
                "required": ["kind", "detail"],
                "properties": {
                    "kind": {"type": "string"},
                    "detail": {"type": "string"},
                    "where": place,
                },
            }},
            "retry_after": {"type": "integer", "description": "Seconds, as in the header Retry-After"},
        },
    })
}

impl Operation {
    fn describe(&self) -> Value {
        let segments =
            self.path.split('/').filter_map(|segment| segment.strip_prefix('{')?.strip_suffix('}'));
        let in_path =
            segments.map(|name| json!({"name": name, "in": "path", "required": true, "schema": text()}));
        let in_query =
            self.query.iter().map(|name| json!({"name": name, "in": "query", "schema": schema(name)}));
        let content = |types: &[&str]| -> Map<String, Value> {
            types.iter().map(|kind| ((*kind).to_owned(), json!({}))).collect()
        };
        let mut responses: Map<String, Value> = Map::new();
        for answer in self.answers {
            let mut described = json!({"description": answer.when});
            if !answer.types.is_empty() {
                described["content"] = content(answer.types).into();
            }
            responses.insert(answer.status.to_string(), described);
        }
        let problem = json!({
            "description": "What went wrong",
            "content": {PROBLEM_JSON: {"schema": {"$ref": "#/components/schemas/Problem"}}},
        });
        responses.insert("default".to_owned(), problem);
        let mut operation = json!({
            "summary": self.summary,
            "parameters": in_path.chain(in_query).collect::<Vec<_>>(),
            "responses": responses,
        });
        if !self.body.is_empty() {
            operation["requestBody"] = json!({"content": content(self.body)});
        }
        operation
    }
}

fn text() -> Value {
    json!({"type": "string"})
}

fn schema(parameter: &str) -> Value {
    match parameter {
        "limit" => json!({"type": "integer", "minimum": 1, "maximum": 10_000, "default": 100}),
        "partial" | "dry-run" | "purge" => json!({"type": "boolean", "default": false}),
        "from" | "to" => json!({"type": "string", "format": "date-time"}),
        _ => text(),
    }
}
