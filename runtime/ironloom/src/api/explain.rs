//! Says what is wrong with a pushed line: the slow path, taken only for lines that are bad.

use serde::Deserialize;
use serde_json::Value as Json;

use super::facade::{Detail, Place};
use ironloom_types::clock::Timestamp;
use ironloom_types::ids::{InvalidName, PointPath};
use ironloom_types::limits::{MAX_POINTS, MAX_READING_BYTES};
use ironloom_types::readings::Quality;

/// The kind of error of a reserved point: the one that makes a request 403.
pub(super) const RESERVED: &str = "reserved-point";
/// The kind of error of what should be JSON and isn't.
pub(super) const NOT_JSON: &str = "not-json";
/// The kind of error of a point beyond the limit: the one that makes a request 422.
pub(super) const TOO_MANY_POINTS: &str = "too-many-points";

const FIELDS: [&str; 4] = ["point", "value", "at", "quality"];

/// Says why a line that `serde_json` refused with `error` is bad.
pub(super) fn line(text: &str, error: &serde_json::Error) -> Detail {
    let object = match serde_json::from_str(text) {
        Ok(Json::Object(object)) => object,
        Ok(other) => {
            let detail = format!("the line must be a JSON object such as {EXAMPLE}, not {}", name(&other));
            return detail_of("not-an-object", detail, Place::default());
        }
        Err(error) => {
            // Only a body of JSON has more than one line here.
            let lines = text.trim().split_once('\n').is_some_and(|(first, _)| is_object(first));
            let hint =
                if lines { "; readings on lines of their own are sent as application/x-ndjson" } else { "" };
            let detail = format!("the line is not valid JSON: {}{hint}", reason(&error));
            return detail_of(NOT_JSON, detail, at(text, &error));
        }
    };
    if let Some(field) = object.keys().find(|key| !FIELDS.contains(&key.as_str())) {
        return unknown_field(field);
    }
    for field in ["point", "value"] {
        if !object.contains_key(field) {
            let detail = format!("the field {field:?} is missing; a reading looks like {EXAMPLE}");
            return detail_of("missing-field", detail, Place::field(field));
        }
    }
    if !object["point"].is_string() {
        let detail = format!("`point` must be a text, not {}", name(&object["point"]));
        return detail_of("bad-point", detail, Place::field("point"));
    }
    if let Json::Object(_) | Json::Array(_) = object["value"] {
        let detail = "`value` must be a number, text, boolean, {\"base64\":\"…\"} or null";
        if !is_blob(&object["value"]) {
            return detail_of("bad-value", detail, Place::field("value"));
        }
    }
    if let Some(at) = object.get("at")
        && let Some(detail) = bad_at(at)
    {
        return detail_of("bad-time", detail, Place::field("at"));
    }
    if let Some(quality) = object.get("quality")
        && !quality.is_null()
        && Quality::deserialize(quality).is_err()
    {
        let detail = format!("`quality` must be `good`, `uncertain` or `bad`, not {quality}");
        return detail_of("bad-quality", detail, Place::field("quality"));
    }
    // What is left is what a parsed object doesn't show, such as a field that stands there twice.
    detail_of("bad-line", reason(error), at(text, error))
}

fn is_object(text: &str) -> bool {
    serde_json::from_str::<serde_json::Map<String, Json>>(text).is_ok()
}

/// Where in a reading an error is. What stands on one line has a line number from its body, if at all.
fn at(text: &str, error: &serde_json::Error) -> Place {
    let line = text.trim_end().contains('\n').then_some(error.line() as u64);
    Place { line, column: Some(error.column() as u64), ..Place::default() }
}

/// A body that should be JSON and isn't.
pub(super) fn not_json(error: &serde_json::Error) -> Detail {
    let place =
        Place { line: Some(error.line() as u64), column: Some(error.column() as u64), ..Place::default() };
    detail_of(NOT_JSON, format!("the body is not valid JSON: {}", reason(error)), place)
}

/// A line that is longer than any reading.
pub(super) fn long_line(most: usize) -> Detail {
    let detail = format!("the line has more than {most} bytes");
    detail_of("line-too-long", detail, Place::default())
}

const EXAMPLE: &str = r#"{"point":"hall/1/temperature","value":21.5}"#;

fn is_blob(value: &Json) -> bool {
    serde_json::from_value::<super::value::JsonValue>(value.clone()).is_ok()
}

fn bad_at(at: &Json) -> Option<String> {
    let form = "`at` must be an RFC 3339 time or whole nanoseconds since 1970";
    match at {
        Json::Null => None,
        Json::String(text) => text.parse::<Timestamp>().err().map(|error| format!("{form}: {error}")),
        Json::Number(number) => match number.as_u64() {
            Some(at) => Timestamp::from_integer(at).err().map(|error| format!("{form}: {error}")),
            None if number.as_i64().is_some() => Some(format!("{form}, not before it: {number}")),
            None => Some(format!("{form}, not {number}")),
        },
        other => Some(format!("{form}, and is {}", name(other))),
    }
}

/// The parser's words without the place, which is given apart.
fn reason(error: &serde_json::Error) -> String {
    let text = error.to_string();
    match text.rfind(" at line ") {
        Some(end) => text[..end].to_owned(),
        None => text,
    }
}

fn name(value: &Json) -> &'static str {
    match value {
        Json::Null => "null",
        Json::Bool(_) => "a boolean",
        Json::Number(_) => "a number",
        Json::String(_) => "a text",
        Json::Array(_) => "an array",
        Json::Object(_) => "an object",
    }
}

pub(super) fn detail_of(kind: &str, detail: impl Into<String>, place: Place) -> Detail {
    Detail { kind: kind.to_owned(), detail: detail.into(), place: Some(place) }
}

/// A line that isn't UTF-8.
pub(super) fn not_utf8(valid: usize) -> Detail {
    let place = Place { column: Some(valid as u64 + 1), ..Place::default() };
    detail_of("not-utf-8", format!("the line is not valid UTF-8 at byte {}", valid + 1), place)
}

/// A field that no reading has.
pub(super) fn unknown_field(field: &str) -> Detail {
    let detail = format!("a reading has no field {field:?}; it has `point`, `value`, `at` and `quality`");
    detail_of("unknown-field", detail, Place::field(field))
}

/// A real that is no number, which JSON can't say.
pub(super) fn not_finite(value: f64) -> Detail {
    let detail = format!(
        "`value` is {value}, which is no number; a reading without a value has null, and the quality `bad`"
    );
    detail_of("bad-value", detail, Place::field("value"))
}

/// A missing value of a quality that needs one.
pub(super) fn missing_value() -> Detail {
    let detail = "`value` may be null only if `quality` is `bad`";
    detail_of("missing-value", detail, Place::field("value"))
}

/// A text or blob beyond the limit.
pub(super) fn too_long(length: usize) -> Detail {
    let detail = format!("a text or blob may have {MAX_READING_BYTES} bytes, and this one has {length}");
    detail_of("value-too-long", detail, Place::field("value"))
}

/// A time too far ahead.
pub(super) fn future(at: Timestamp, latest: Timestamp) -> Detail {
    let detail =
        format!("{at} is in the future; the latest time accepted now is {latest} (`ingest.max_future`)");
    detail_of("future", detail, Place::field("at"))
}

/// A point that belongs to the runtime.
pub(super) fn reserved(path: &str) -> Detail {
    let detail = format!("points under `apps/` belong to the runtime, so {path:?} can't be pushed");
    detail_of(RESERVED, detail, Place::field("point"))
}

/// A point that is new where the tenant has as many as it may.
pub(super) fn too_many_points(path: &PointPath) -> Detail {
    let detail = format!(
        "point {:?} would be one too many: {MAX_POINTS} are allowed. Find the source of the new names; \
         `ironloom points retire` frees points, and `ironloom uninstall --purge` those of an app's outputs.",
        path.as_str()
    );
    detail_of(TOO_MANY_POINTS, detail, Place::field("point"))
}

/// A path that breaks the rules.
pub(super) fn bad_point(error: &InvalidName) -> Detail {
    detail_of("bad-point", error.to_string(), Place::field("point"))
}

/// Whether the value of this line, a good one, is written `-0`: without fraction and exponent, so
/// an integer.
pub(super) fn is_integer_zero(text: &str) -> bool {
    #[derive(Deserialize)]
    struct Line<'a> {
        #[serde(borrow)]
        value: &'a serde_json::value::RawValue,
    }
    serde_json::from_str::<Line<'_>>(text).is_ok_and(|line| line.value.get() == "-0")
}
