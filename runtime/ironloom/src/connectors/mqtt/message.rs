//! The forms of the messages that go to a broker.

use ironloom_apps::toml_section::Section;

/// The form of a message.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum OutboundForm {
    /// The value alone.
    Value,
    /// An object of JSON, with what belongs to the value.
    Json,
}

impl OutboundForm {
    /// Reads `payload`; `of` says in an error what the messages are of, and `no_value` why none may be a value alone.
    pub(super) fn take(entry: &mut Section<'_, '_>, of: &str, no_value: Option<&str>) -> Option<Self> {
        entry.take("payload").map_or(Some(Self::Json), |field| {
            field.parsed(|text| match (text, no_value) {
                ("value", Some(reason)) => Err(reason.to_owned()),
                ("value", None) => Ok(Self::Value),
                ("json", _) => Ok(Self::Json),
                _ => Err(format!("{text:?} is not a form of {of}; there are value and json")),
            })
        })
    }
}
