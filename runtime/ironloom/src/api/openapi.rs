//! `GET /openapi.json`: the table of routes in OpenAPI's form, with the shapes of bodies and answers.

use serde_json::{Map, Value, json};

use super::capsule::{LAST, MAX_LAST};
use super::facade::UsageKey;
use super::operation::{Operation, Parameter};
use super::problem::{Body, KINDS, PROBLEM_JSON};
use super::shapes::{self, Components, refer};
use super::{CSV_TYPE, EVENTS_TYPE, JSON_TYPE, MAX_KEY, NDJSON_TYPE, examples};
use crate::access::{Action, Role};
use crate::telemetry::METRICS_TYPE;
use ironloom_apps::manifest::Severity;
use ironloom_trust::audit::Outcome;
use ironloom_types::text::listed;

/// The name of the way in which callers say who they are.
const TOKEN: &str = "token";

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
        "security": [{TOKEN: []}, {}],
        "components": {
            "schemas": components.into_value(),
            "securitySchemes": {TOKEN: {
                "type": "http",
                "scheme": "bearer",
                "description": "Needed unless the server lets programs of its machine in without one",
            }},
        },
    })
}

impl Operation {
    fn describe(&self, components: &mut Components) -> Value {
        let segments =
            self.path.split('/').filter_map(|segment| segment.strip_prefix('{')?.strip_suffix('}'));
        let in_path = segments
            .map(|name| json!({"name": name, "in": "path", "required": true, "schema": path_schema(name)}));
        let own = |name: &str| self.own.iter().find(|parameter| parameter.name == name);
        let in_query = self.query.iter().map(|name| match own(name) {
            Some(parameter) => parameter.describe("query"),
            None => json!({"name": name, "in": "query", "schema": schema(name)}),
        });
        let in_head = self.headers.iter().map(|header| header.describe("header"));
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
            if self.tagged {
                described["headers"] = json!({"ETag": {"schema": tag(), "description": TAG}});
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
            "parameters": in_path.chain(in_query).chain(in_head).collect::<Vec<_>>(),
            "responses": responses,
        });
        match self.needs {
            Action::Probe => operation["security"] = json!([]),
            Action::Identify => {}
            needs => {
                let roles: Vec<_> = needs.roles().map(Role::name).collect();
                operation["description"] = format!("For the roles {}.", listed(&roles)).into();
            }
        }
        // A body that may be left out and says nothing isn't described: a generated client would have to send one.
        if self.takes.is_some() || self.body.iter().any(|kind| *kind != JSON_TYPE) {
            let is_required = !self.may_be_bare;
            operation["requestBody"] =
                json!({"content": content(self.body, &takes), "required": is_required});
        }
        operation
    }
}

impl Parameter {
    fn describe(&self, place: &str) -> Value {
        let Self { name, is_required, schema } = self;
        json!({"name": name, "in": place, "required": is_required, "schema": schema()})
    }
}

fn text() -> Value {
    json!({"type": "string"})
}

/// The key of a push or a stream.
pub(super) fn key() -> Value {
    json!({"type": "string", "minLength": 1, "maxLength": MAX_KEY, "pattern": "^[!-~]+$"})
}

/// The place in the journal where an installation starts over.
pub(super) fn start() -> Value {
    json!({"type": "string", "description": "now, beginning, or an RFC 3339 time", "examples": ["beginning"]})
}

/// The order of a list that begins with the newest.
pub(super) fn newest_first() -> Value {
    json!({"type": "string", "enum": ["oldest", "newest"], "default": "newest"})
}

/// A chain of the audit log.
pub(super) fn chain() -> Value {
    json!({"type": "string", "description": "platform, tenant-N or set-points-N", "examples": ["tenant-1"]})
}

/// The result of a deed in the audit log.
pub(super) fn result() -> Value {
    json!({"type": "string", "enum": Outcome::ALL.map(Outcome::name)})
}

/// The last event that a listener has seen.
pub(super) fn event() -> Value {
    json!({"type": "string", "description": "The id of an event: those after it come"})
}

/// The meaning of the header `ETag`.
const TAG: &str = "The newest revision, for If-Match; what counts and comes beside it changes without it";

fn tag() -> Value {
    json!({"type": "string", "examples": ["\"1.4\""]})
}

/// The revisions that a change may be made to.
pub(super) fn tags() -> Value {
    json!({
        "type": "string",
        "description": "The ETag of the revision that this was made from, or several with commas between them: 412 \
                        where another change has come in between",
        "examples": ["\"1.4\""],
    })
}

fn path_schema(name: &str) -> Value {
    match name {
        "number" => json!({"type": "integer", "minimum": 0}),
        _ => text(),
    }
}

/// The schema of a query's parameter in all operations that have none of their own for it.
fn schema(parameter: &str) -> Value {
    match parameter {
        "limit" => json!({"type": "integer", "minimum": 1, "maximum": 10_000, "default": 100}),
        "partial" | "dry-run" | "purge" | "forget" | "below" | "readings" => {
            json!({"type": "boolean", "default": false})
        }
        "order" => json!({"type": "string", "enum": ["oldest", "newest"], "default": "oldest"}),
        "severity" => {
            let all = [Severity::Low, Severity::Medium, Severity::High, Severity::Critical];
            json!({"type": "string", "enum": all.map(Severity::name)})
        }
        "last" => json!({"type": "integer", "minimum": 1, "maximum": MAX_LAST, "default": LAST}),
        "wait" => json!({"type": "string", "enum": ["applied"]}),
        // No `default`: a generated client would send it, and without `wait` it is refused.
        "timeout" => {
            json!({"type": "string", "description": "With wait=applied: 30 s unless it says so, 60 s at most"})
        }
        "from" | "to" => json!({"type": "string", "format": "date-time"}),
        "sort" => {
            json!({"type": "string", "enum": UsageKey::NAMES.map(|(name, _)| name), "default": "journal"})
        }
        _ => text(),
    }
}

#[cfg(test)]
mod tests {
    use super::super::facade::Order;
    use super::super::routes::OPERATIONS;
    use super::*;

    fn described() -> Value {
        document(OPERATIONS)
    }

    /// A parameter of an operation, by its place and name.
    fn parameter(document: &Value, (method, path): (&str, &str), place: &str, name: &str) -> Value {
        let all = document["paths"][path][method]["parameters"].as_array().unwrap();
        let found = all.iter().find(|parameter| parameter["in"] == place && parameter["name"] == name);
        found.unwrap_or_else(|| panic!("{method} {path} has no {name} in the {place}")).clone()
    }

    #[test]
    fn the_headers_that_an_operation_reads_are_described() {
        let document = described();
        let key = parameter(&document, ("post", "/v1/readings"), "header", "Idempotency-Key");
        assert_eq!((&key["required"], &key["schema"]["maxLength"]), (&json!(false), &json!(64)));
        let event = parameter(&document, ("get", "/v1/events"), "header", "Last-Event-ID");
        assert_eq!((&event["required"], &event["schema"]["type"]), (&json!(false), &json!("string")));
        let with_headers = OPERATIONS.iter().filter(|operation| !operation.headers.is_empty());
        assert_eq!(
            with_headers.map(|operation| operation.id).collect::<Vec<_>>(),
            ["pushReadings", "changeInstallation", "listenToEvents"]
        );
        let one = &document["paths"]["/v1/installations/{id}"];
        assert_eq!(one["get"]["responses"]["200"]["headers"]["ETag"]["schema"]["type"], "string");
        assert_eq!(one["delete"]["responses"]["204"].get("headers"), None);
        let tags = parameter(&document, ("patch", "/v1/installations/{id}"), "header", "If-Match");
        assert_eq!((&tags["required"], &tags["schema"]["type"]), (&json!(false), &json!("string")));
    }

    #[test]
    fn a_name_that_means_something_else_in_one_operation_is_described_there_alone() {
        let document = described();
        let reset = parameter(&document, ("post", "/v1/installations/{id}/reset"), "query", "from");
        assert_eq!((&reset["required"], reset["schema"].get("format")), (&json!(true), None));
        let list = parameter(&document, ("get", "/v1/readings"), "query", "from");
        assert_eq!((list.get("required"), &list["schema"]["format"]), (None, &json!("date-time")));
        let stream = parameter(&document, ("get", "/v1/readings/stream"), "query", "key");
        assert_eq!((&stream["required"], &stream["schema"]["maxLength"]), (&json!(false), &json!(64)));
        let state = parameter(&document, ("get", "/v1/installations/{id}/state/{key}"), "path", "key");
        assert_eq!((&state["required"], state["schema"].get("maxLength")), (&json!(true), None));
        for operation in OPERATIONS {
            for own in operation.own {
                assert!(operation.query.contains(&own.name), "{}: {}", operation.id, own.name);
            }
        }
    }

    #[test]
    fn words_and_numbers_are_described_as_the_server_reads_them() {
        let document = described();
        for path in ["/v1/readings", "/v1/installations/{id}/logs", "/v1/alarms/history"] {
            let order = parameter(&document, ("get", path), "query", "order");
            assert_eq!(order["schema"]["enum"], json!(["oldest", "newest"]), "{path}");
        }
        assert_eq!(("oldest".parse(), "newest".parse()), (Ok(Order::Oldest), Ok(Order::Newest)));
        let severity = parameter(&document, ("get", "/v1/alarms/history"), "query", "severity");
        assert_eq!(severity["schema"]["enum"], json!(["low", "medium", "high", "critical"]));
        let last = parameter(&document, ("get", "/v1/installations/{id}/capsule"), "query", "last");
        let bounds = json!({"type": "integer", "minimum": 1, "maximum": 1_000, "default": 10});
        assert_eq!(last["schema"], bounds);
        let letter = ("delete", "/v1/installations/{id}/dead-letters/{number}");
        assert_eq!(parameter(&document, letter, "path", "number")["schema"]["type"], "integer");
    }

    #[test]
    fn a_body_is_required_unless_it_says_nothing_that_must_be_said() {
        let document = described();
        let optional = OPERATIONS.iter().filter(|operation| {
            document["paths"][operation.path][operation.method]["requestBody"]["required"] == false
        });
        let optional: Vec<_> = optional.map(|operation| operation.id).collect();
        assert_eq!(
            optional,
            [
                "resume",
                "rollback",
                "replay",
                "halt",
                "release",
                "acknowledgeAlarm",
                "unshelveAlarm",
                "refreshCatalog",
                "fetchApp"
            ]
        );
        assert_eq!(document["paths"]["/v1/readings"]["post"]["requestBody"]["required"], true);
        assert_eq!(document["paths"]["/v1/installations/{id}/pause"]["post"].get("requestBody"), None);
    }
}
