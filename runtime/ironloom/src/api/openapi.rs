//! `GET /openapi.json`: the table of routes in OpenAPI's form, with the shapes of bodies and answers.

use serde_json::{Map, Value, json};

use super::operation::Operation;
use super::problem::{Body, KINDS, PROBLEM_JSON};
use super::shapes::{self, Components, refer};
use super::{CSV_TYPE, EVENTS_TYPE, JSON_TYPE, NDJSON_TYPE, examples};
use crate::telemetry::METRICS_TYPE;

pub(super) fn document(operations: &[Operation]) -> Value {
    let mut components = Components::default();
    shapes::one::<Body>(&mut components);
    if let Some(problem) = components.get_mut("Problem") {
        problem["properties"]["kind"]["enum"] = KINDS.into();
    }
    let mut paths: Map<String, Value> = Map::new();
    for operation in operations {
        let path = paths.entry(operation.path).or_insert_with(|| json!({}));
        path[operation.method] = operation.describe(&mut components);
    }
    examples::add(&mut components);
    json!({
        "openapi": "3.1.0",
        "info": {"title": "Ironloom", "version": env!("CARGO_PKG_VERSION"), "license": {"name": "Apache-2.0"}},
        "paths": paths,
        "components": {"schemas": components.into_value()},
    })
}

impl Operation {
    fn describe(&self, components: &mut Components) -> Value {
        let segments =
            self.path.split('/').filter_map(|segment| segment.strip_prefix('{')?.strip_suffix('}'));
        let in_path =
            segments.map(|name| json!({"name": name, "in": "path", "required": true, "schema": text()}));
        let in_query =
            self.query.iter().map(|name| json!({"name": name, "in": "query", "schema": schema(name)}));
        let (takes, gives) =
            (self.takes.map(|shape| shape(components)), self.gives.map(|shape| shape(components)));
        let content = |types: &[&str], shape: &Option<Value>| -> Map<String, Value> {
            let described = |kind: &str| match shape {
                Some(shape) if kind == JSON_TYPE => json!({"schema": shape}),
                None if kind == JSON_TYPE => json!({}),
                // Lines or a table.
                _ if [NDJSON_TYPE, CSV_TYPE, EVENTS_TYPE, METRICS_TYPE].contains(&kind) => {
                    json!({"schema": text()})
                }
                _ => json!({"schema": {"type": "string", "format": "binary"}}),
            };
            types.iter().map(|kind| ((*kind).to_owned(), described(kind))).collect()
        };
        let mut responses: Map<String, Value> = Map::new();
        for answer in self.answers {
            let mut described = json!({"description": answer.when});
            if !answer.types.is_empty() {
                described["content"] = content(answer.types, &gives).into();
            }
            responses.insert(answer.status.to_string(), described);
        }
        let problem = json!({
            "description": "What went wrong",
            "content": {PROBLEM_JSON: {"schema": refer("Problem")}},
        });
        responses.insert("default".to_owned(), problem);
        let mut operation = json!({
            "operationId": self.id,
            "summary": self.summary,
            "parameters": in_path.chain(in_query).collect::<Vec<_>>(),
            "responses": responses,
        });
        // A body that may be left out and says nothing isn't described: a generated client would have to send one.
        if self.takes.is_some() || self.body.iter().any(|kind| *kind != JSON_TYPE) {
            operation["requestBody"] = json!({"content": content(self.body, &takes)});
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
        "wait" => json!({"type": "string", "enum": ["applied"]}),
        // No `default`: a generated client would send it, and without `wait` it is refused.
        "timeout" => {
            json!({"type": "string", "description": "With wait=applied: 30 s unless it says so, 60 s at most"})
        }
        "from" | "to" => json!({"type": "string", "format": "date-time"}),
        _ => text(),
    }
}
