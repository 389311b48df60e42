//! The shapes of bodies and answers, generated from their types, for the description.

use std::collections::BTreeMap;

use serde_json::{Value, json};
use utoipa::ToSchema;
use utoipa::openapi::{RefOr, Schema};

use super::facade::KeptLine;
use super::value::JsonValue;
use ironloom_types::readings::Quality;

/// Gives a shape, and adds the components that it refers to.
pub(super) type Shape = fn(&mut Components) -> Value;

/// The components of the description, by name.
#[derive(Default)]
pub(super) struct Components(BTreeMap<String, Value>);

impl Components {
    fn add(&mut self, name: String, schema: &RefOr<Schema>) {
        // A schema is plain data; one that couldn't be written would show in the description's tests.
        self.0.entry(name).or_insert_with(|| serde_json::to_value(schema).unwrap_or_default());
    }

    /// Adds a component that no type stands for.
    pub(super) fn put(&mut self, name: &str, schema: Value) {
        self.0.insert(name.to_owned(), schema);
    }

    pub(super) fn get_mut(&mut self, name: &str) -> Option<&mut Value> {
        self.0.get_mut(name)
    }

    pub(super) fn into_value(self) -> Value {
        self.0.into_iter().collect::<serde_json::Map<_, _>>().into()
    }
}

/// Refers to a component.
pub(super) fn refer(name: &str) -> Value {
    json!({"$ref": format!("#/components/schemas/{name}")})
}

/// The shape of JSON that another document describes.
pub(super) fn any(_: &mut Components) -> Value {
    json!({})
}

/// One of these.
pub(super) fn one<T: ToSchema>(components: &mut Components) -> Value {
    let mut others = Vec::new();
    T::schemas(&mut others);
    for (name, schema) in others {
        components.add(name, &schema);
    }
    components.add(T::name().into_owned(), &T::schema());
    refer(&T::name())
}

/// One of these, or a list of them.
pub(super) fn one_or_many<T: ToSchema>(components: &mut Components) -> Value {
    let one = one::<T>(components);
    json!({"oneOf": [one, {"type": "array", "items": one, "minItems": 1}]})
}

/// One of these, or one of those.
pub(super) fn either<A: ToSchema, B: ToSchema>(components: &mut Components) -> Value {
    json!({"oneOf": [one::<A>(components), one::<B>(components)]})
}

/// A page of these.
pub(super) fn page<T: ToSchema>(components: &mut Components) -> Value {
    let name = format!("{}Page", T::name());
    let schema = page_of(&one::<T>(components));
    components.put(&name, schema);
    refer(&name)
}

/// One pushed reading, or a list of them. No type of the server stands for one: it reads them without making any.
pub(super) fn pushed(components: &mut Components) -> Value {
    let value = one::<JsonValue>(components);
    let quality = one::<Quality>(components);
    let at = json!({
        "type": ["string", "integer"],
        "description": "RFC 3339, or nanoseconds since 1970; without it the time of arrival",
    });
    let reading = json!({
        "type": "object",
        "required": ["point", "value"],
        "properties": {
            "point": {"type": "string", "maxLength": 255},
            "value": value,
            "at": at,
            "quality": quality,
        },
        "additionalProperties": false,
    });
    components.put("PushedReading", reading);
    let one = refer("PushedReading");
    json!({"oneOf": [one, {"type": "array", "items": one}]})
}

/// A page of a log.
pub(super) fn log_page(components: &mut Components) -> Value {
    let mut schema = page_of(&one::<KeptLine>(components));
    let description =
        "Whose lines they are: an installation that was installed anew counts its lines from 1 again";
    schema["properties"]["generation"] = json!({"type": "integer", "minimum": 0, "description": description});
    schema["required"] = json!(["items", "next", "generation"]);
    components.put("LogPage", schema);
    refer("LogPage")
}

fn page_of(item: &Value) -> Value {
    json!({
        "type": "object",
        "required": ["items", "next"],
        "properties": {
            "items": {
                "type": "array",
                "items": item,
                "description": "Fewer than asked for, even none, doesn't mean the end",
            },
            "next": {
                "type": ["string", "null"],
                "description": "The `after` of the next page; null at the end",
            },
        },
    })
}
