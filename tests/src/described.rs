//! Holds every answer against the server's own description.
//!
//! The description doesn't forbid what it doesn't name, since a later server may say more. Here it does: an answer
//! has no field that isn't described.

use std::collections::BTreeMap;
use std::sync::OnceLock;
use std::sync::atomic::{AtomicBool, Ordering};

use anyhow::{Context as _, Result, bail, ensure};
use jsonschema::Validator;
use serde_json::{Map, Value, json};

/// Answers beyond this aren't held against it: each of their items would be.
const MOST: usize = 256 << 10;

static OFF: AtomicBool = AtomicBool::new(false);

/// From here on nothing is held against it: what is measured shouldn't wait.
pub fn off() {
    OFF.store(true, Ordering::Relaxed);
}

/// The operations of a description, with what checks the JSON of their answers.
pub struct Described {
    operations: Vec<Operation>,
}

struct Operation {
    method: String,
    template: Vec<String>,
    /// By status, or `default`, and media type. Without a shape anything goes.
    answers: BTreeMap<(String, String), Option<Validator>>,
}

/// The description of the server under test: all servers of a process are of one build.
static DESCRIBED: OnceLock<Described> = OnceLock::new();

/// Says whether answers are held against a description by now.
pub fn is_known() -> bool {
    DESCRIBED.get().is_some()
}

/// Checks an answer. `ask` gets the description where it isn't known yet; one that can't be got now is asked for
/// with the next answer.
pub(crate) fn check(
    (method, path): (&str, &str),
    (status, content_type, body): (u16, &str, &[u8]),
    ask: impl FnOnce() -> Result<Value>,
) -> Result<()> {
    let is_json = content_type.contains("json") && !content_type.contains("ndjson");
    if OFF.load(Ordering::Relaxed) || !is_json || body.len() > MOST {
        return Ok(());
    }
    if DESCRIBED.get().is_none() {
        let Ok(document) = ask() else { return Ok(()) };
        // Another thread may have been faster.
        let _ = DESCRIBED.set(Described::new(&document)?);
    }
    let Some(described) = DESCRIBED.get() else { return Ok(()) };
    let value = serde_json::from_slice(body).context("the answer is no JSON")?;
    described.check(&method.to_ascii_lowercase(), path, status, content_type, &value)
}

impl Described {
    /// Compiles a description.
    pub fn new(document: &Value) -> Result<Self> {
        let components = closed(document["components"]["schemas"].as_object().context("no schemas")?);
        for (name, component) in document["components"]["schemas"].as_object().into_iter().flatten() {
            for example in component["examples"].as_array().into_iter().flatten() {
                let shape = compile(&json!({"$ref": format!("#/components/schemas/{name}")}), &components)?;
                ensure!(shape.is_valid(example), "the example of {name} isn't as described: {example}");
            }
        }
        let mut operations = Vec::new();
        for (path, methods) in document["paths"].as_object().context("no paths")? {
            for (method, described) in methods.as_object().context("a path without methods")? {
                let template = segments(path).map(str::to_owned).collect();
                let mut answers = BTreeMap::new();
                for (status, answer) in described["responses"].as_object().context("no responses")? {
                    for (kind, content) in answer["content"].as_object().into_iter().flatten() {
                        let validator = content.get("schema").map(|schema| compile(schema, &components));
                        answers.insert((status.clone(), kind.clone()), validator.transpose()?);
                    }
                }
                operations.push(Operation { method: method.clone(), template, answers });
            }
        }
        Ok(Self { operations })
    }

    /// Checks the JSON of an answer.
    pub fn check(
        &self,
        method: &str,
        path: &str,
        status: u16,
        content_type: &str,
        value: &Value,
    ) -> Result<()> {
        let path = path.split('?').next().unwrap_or_default();
        let is_it = |operation: &&Operation| operation.method == method && operation.takes(path);
        let kind = content_type.split(';').next().unwrap_or_default().trim();
        let problem = kind == "application/problem+json";
        // A request that no route takes is answered by a problem, too.
        let Some(operation) =
            self.operations.iter().find(is_it).or_else(|| self.operations.first().filter(|_| problem))
        else {
            bail!("{method} {path} isn't described");
        };
        let status = if problem { "default".to_owned() } else { status.to_string() };
        let Some(validator) = operation.answers.get(&(status.clone(), kind.to_owned())) else {
            bail!("{method} {path}: an answer {status} of type {kind} isn't described: {value}");
        };
        let Some(validator) = validator else { return Ok(()) };
        let errors: Vec<String> = validator
            .iter_errors(value)
            .take(5)
            .map(|error| format!("{}: {error}", error.instance_path()))
            .collect();
        ensure!(
            errors.is_empty(),
            "{method} {path}: the answer isn't as described: {}\n{value:#}",
            errors.join("; ")
        );
        Ok(())
    }
}

impl Operation {
    fn takes(&self, path: &str) -> bool {
        let given: Vec<&str> = segments(path).collect();
        let fits = |(template, given): (&String, &&str)| template.starts_with('{') || template == given;
        given.len() == self.template.len() && self.template.iter().zip(&given).all(fits)
    }
}

fn segments(path: &str) -> impl Iterator<Item = &str> {
    path.split('/').skip(1)
}

fn compile(schema: &Value, components: &Map<String, Value>) -> Result<Validator> {
    let mut whole = json!({"components": {"schemas": components}});
    for (key, value) in schema.as_object().context("a schema is an object")? {
        whole[key] = value.clone();
    }
    jsonschema::options()
        .with_draft(jsonschema::Draft::Draft202012)
        .build(&whole)
        .map_err(|error| anyhow::anyhow!("a schema of the description is none: {error}"))
}

/// The components, with no fields but those that they name. What is a part of another is kept open besides, as
/// `<name>-part`.
fn closed(components: &Map<String, Value>) -> Map<String, Value> {
    let mut out = Map::new();
    for (name, schema) in components {
        let mut closed = schema.clone();
        let parts = closed.get_mut("allOf").and_then(Value::as_array_mut);
        for part in parts.into_iter().flatten() {
            if let Some(Value::String(target)) = part.get_mut("$ref") {
                target.push_str("-part");
            }
        }
        let is_open = closed.get("additionalProperties").is_some();
        let is_object = closed.get("properties").is_some() || closed.get("allOf").is_some();
        if is_object && !is_open {
            closed["unevaluatedProperties"] = json!(false);
        }
        out.insert(format!("{name}-part"), schema.clone());
        out.insert(name.clone(), closed);
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_missing_odd_or_not_described_is_told() -> Result<()> {
        let answer = json!({"description": "", "content": {"application/json": {"schema": {"$ref": "#/components/schemas/Whole"}}}});
        let document = json!({
            "paths": {"/v1/things/{id}": {"get": {"responses": {"200": answer}}}},
            "components": {"schemas": {
                "Part": {"type": "object", "required": ["id"], "properties": {"id": {"type": "string"}}},
                "Whole": {"allOf": [{"$ref": "#/components/schemas/Part"}, {
                    "type": "object", "properties": {"size": {"type": "integer"}},
                }]},
            }},
        });
        let described = Described::new(&document)?;
        let check =
            |path, status, value: Value| described.check("get", path, status, "application/json", &value);
        check("/v1/things/a?limit=1", 200, json!({"id": "a", "size": 3}))?;
        for (path, status, value) in [
            ("/v1/things/a", 200, json!({"size": 3})),
            ("/v1/things/a", 200, json!({"id": "a", "size": "3"})),
            ("/v1/things/a", 200, json!({"id": "a", "more": 1})),
            ("/v1/things/a", 201, json!({"id": "a"})),
            ("/v1/things", 200, json!({"id": "a"})),
        ] {
            assert!(check(path, status, value.clone()).is_err(), "{path} {status} {value}");
        }
        Ok(())
    }
}
