//! Examples of requests and answers, for the description.

use serde_json::{Value, json};

use super::shapes::Components;

type Example = (&'static str, fn() -> Value);

/// The components that have an example, by name.
const EXAMPLES: &[Example] = &[
    ("Accepted", || json!({"accepted": 2, "through": 1042, "applied": true})),
    ("InstallRequest", install),
    ("NoteRequest", || json!({"by": "Ada", "comment": "the window is open now"})),
    ("Problem", problem),
    (
        "PushedReading",
        || json!({"point": "house/attic/temperature", "value": 31.5, "at": "2026-07-01T12:00:00Z", "quality": "good"}),
    ),
    ("ReadingItem", || {
        json!({
            "point": "house/attic/temperature",
            "value": 31.5,
            "at": "2026-07-01T12:00:00.000000000Z",
            "quality": "good",
            "sequence": 1042,
            "time": "2026-07-01T12:00:00.004217312Z",
        })
    }),
    ("RehearsalRequest", rehearsal),
    ("ReplayRequest", || json!({"from": 100, "to": 120})),
    ("Resume", || json!({"backlog": "drop"})),
    (
        "RevisionRequest",
        || json!({"settings": {"limit": 25.5}, "limits": {"memory": "64 MiB"}, "revision": 3}),
    ),
    ("SetLogLevel", || json!({"level": "debug"})),
    ("ShelveRequest", || json!({"for": "8 h", "by": "Ada", "comment": "until the fan is mended"})),
];

fn install() -> Value {
    let digest = format!("sha256:{}", "0123456789abcdef".repeat(4));
    json!({
        "id": "rooms",
        "package": digest,
        "bindings": {"temperature": ["house/{room}/temperature", "shed/{room}/temperature"]},
        "settings": {"limit": 28.0},
        "limits": {"memory": "16 MiB"},
        "timezone": "Europe/Berlin",
        "from": "beginning",
    })
}

fn rehearsal() -> Value {
    let digest = format!("sha256:{}", "0123456789abcdef".repeat(4));
    json!({"from": "24 h", "change": {"package": digest}, "tolerance": 0.001})
}

fn problem() -> Value {
    json!({
        "type": "urn:ironloom:problem:unit-mismatch",
        "title": "The request can't be carried out",
        "status": 422,
        "kind": "unit-mismatch",
        "detail": "the point barn/7/length has the unit m, and the input weight has kg: they measure different things",
        "where": {"field": "bindings.weight"},
        "hints": ["bind points whose unit can be converted into the input's"],
    })
}

/// Puts them into the components that are there.
pub(super) fn add(components: &mut Components) {
    for (name, example) in EXAMPLES {
        if let Some(component) = components.get_mut(name) {
            component["examples"] = json!([example()]);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::api::facade::{
        InstallRequest, NoteRequest, ReadingItem, RehearsalRequest, ReplayRequest, RevisionRequest,
        SetLogLevel, ShelveRequest,
    };
    use crate::api::installations::Resume;
    use crate::api::problem::Body;
    use serde::de::DeserializeOwned;

    fn reads<T: DeserializeOwned>(name: &str) {
        let (_, example) = EXAMPLES.iter().find(|(known, _)| *known == name).unwrap();
        if let Err(error) = serde_json::from_value::<T>(example()) {
            panic!("the example of {name} is none: {error}");
        }
    }

    #[test]
    fn the_server_takes_what_the_description_shows() {
        reads::<InstallRequest>("InstallRequest");
        reads::<NoteRequest>("NoteRequest");
        reads::<Body>("Problem");
        reads::<ReadingItem>("ReadingItem");
        reads::<RehearsalRequest>("RehearsalRequest");
        reads::<ReplayRequest>("ReplayRequest");
        reads::<Resume>("Resume");
        reads::<RevisionRequest>("RevisionRequest");
        reads::<SetLogLevel>("SetLogLevel");
        reads::<ShelveRequest>("ShelveRequest");
    }
}
