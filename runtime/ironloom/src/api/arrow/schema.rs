//! The schema of a stream of readings: which columns it has, and in which of the types that are taken.

use arrow_ipc::{Endianness, Field, Precision, TimeUnit, Type, UnionMode};

use crate::api::explain;
use crate::api::facade::{Detail, Place};

/// The most types of a union: as many as values have, with room for the widths of numbers.
const MAX_CHILDREN: usize = 16;

/// The columns of a stream, in its order.
#[derive(Debug)]
pub(super) struct Schema {
    pub columns: Vec<Column>,
}

/// A column, by what it holds.
#[derive(Debug)]
pub(super) enum Column {
    Point(Names),
    Value(Values),
    At(Times),
    Quality(Qualities),
}

/// Texts, plain or by a dictionary.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Names {
    Plain(Layout),
    Dictionary(Dictionary),
}

/// A dictionary of texts.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Dictionary {
    pub id: i64,
    pub keys: Int,
    pub texts: Layout,
}

/// Values of one type, or of several.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Values {
    One(Scalar),
    Union(Union),
}

/// Values of several types.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Union {
    pub dense: bool,
    /// The types, each with its number.
    pub types: Vec<(i8, Scalar)>,
}

/// The type of a value.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Scalar {
    Null,
    Boolean,
    Int(Int),
    Float32,
    Float64,
    Text(Layout),
    Blob(Layout),
}

/// The times of readings; nanoseconds in one unit of theirs.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Times {
    Null,
    Every(i64),
}

/// Qualities by their names, or by the numbers 0, 1 and 2.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Qualities {
    Null,
    Number,
    Name(Names),
}

/// A type of integers.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Int {
    /// 1, 2, 4 or 8.
    pub bytes: usize,
    pub signed: bool,
}

/// The integers of a timestamp, and of a quality.
pub(super) const NUMBER: Int = Int { bytes: 8, signed: true };
pub(super) const BYTE: Int = Int { bytes: 1, signed: false };

/// The layout of texts and blobs in a batch.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Layout {
    /// One after the other, with offsets of 4 bytes.
    Small,
    /// With offsets of 8 bytes.
    Large,
    /// Each anywhere, and short ones in their view.
    View,
}

impl Schema {
    /// Reads a schema, or says everything that is wrong with it.
    pub(super) fn of(schema: arrow_ipc::Schema<'_>) -> Result<Self, Vec<Detail>> {
        let mut problems = Vec::new();
        if schema.endianness() != Endianness::Little {
            problems.push(bad_type("the stream is big-endian; it must be little-endian", Place::default()));
        }
        let mut columns = Vec::new();
        let mut names: Vec<&str> = Vec::new();
        for field in schema.fields().iter().flatten().take(COLUMNS.len() + 1) {
            let name = field.name().unwrap_or_default();
            if names.contains(&name) {
                problems.push(bad_type(&format!("there are two columns {name:?}"), Place::field(name)));
                continue;
            }
            names.push(name);
            match column(name, field) {
                Ok(column) => columns.push(column),
                Err(detail) => problems.push(detail),
            }
        }
        for needed in ["point", "value"] {
            if !names.contains(&needed) {
                let detail = format!("the column {needed:?} is missing; a stream has `point` and `value`");
                problems.push(explain::detail_of("missing-field", detail, Place::field(needed)));
            }
        }
        if problems.is_empty() { Ok(Self { columns }) } else { Err(problems) }
    }

    /// Whether it has a union, whose layout differs between versions of the format.
    pub(super) fn has_union(&self) -> bool {
        self.columns.iter().any(|column| matches!(column, Column::Value(Values::Union(_))))
    }
}

/// The columns that readings have.
const COLUMNS: [&str; 4] = ["point", "value", "at", "quality"];

fn column(name: &str, field: Field<'_>) -> Result<Column, Detail> {
    let other = |wanted: &str| {
        let found = described(field);
        bad_type(&format!("`{name}` must be {wanted}, and is {found}"), Place::field(name))
    };
    match name {
        "point" => names(field).map(Column::Point).ok_or_else(|| other("a text, or a dictionary of texts")),
        "value" => values(field).map(Column::Value).ok_or_else(|| {
            other(
                "float64, float32, an integer, a boolean, a text, binary, or a union of these, none of them by a \
                 dictionary",
            )
        }),
        "at" => times(field)
            .map(Column::At)
            .ok_or_else(|| other("a timestamp with a time zone, such as timestamp[us, tz=UTC]")),
        "quality" => qualities(field)
            .map(Column::Quality)
            .ok_or_else(|| other("a text, a dictionary of texts, or uint8 (0 good, 1 uncertain, 2 bad)")),
        _ => Err(explain::unknown_field(name)),
    }
}

fn names(field: Field<'_>) -> Option<Names> {
    let texts = layout(field.type_type()).filter(|_| is_text(field.type_type()))?;
    let Some(dictionary) = field.dictionary() else { return Some(Names::Plain(texts)) };
    // What is not said is a signed integer of 32 bits.
    let keys = match dictionary.indexType() {
        Some(keys) => int(keys)?,
        None => Int { bytes: 4, signed: true },
    };
    Some(Names::Dictionary(Dictionary { id: dictionary.id(), keys, texts }))
}

fn values(field: Field<'_>) -> Option<Values> {
    let Some(union) = field.type_as_union() else { return scalar(field).map(Values::One) };
    let children = field.children()?;
    if field.dictionary().is_some() || children.len() > MAX_CHILDREN {
        return None;
    }
    let ids: Vec<i8> = match union.typeIds() {
        Some(ids) => ids.iter().map(|id| i8::try_from(id).ok()).collect::<Option<_>>()?,
        None => (0..).take(children.len()).collect(),
    };
    let is_sound = ids.len() == children.len()
        && ids.iter().enumerate().all(|(index, id)| *id >= 0 && !ids[..index].contains(id));
    let types: Vec<_> = ids.into_iter().zip(children.iter().map(scalar)).collect();
    let types = types.into_iter().map(|(id, scalar)| Some((id, scalar?))).collect::<Option<_>>()?;
    is_sound.then_some(Values::Union(Union { dense: union.mode() == UnionMode::Dense, types }))
}

fn scalar(field: Field<'_>) -> Option<Scalar> {
    if field.dictionary().is_some() {
        return None;
    }
    Some(match field.type_type() {
        Type::Null => Scalar::Null,
        Type::Bool => Scalar::Boolean,
        Type::Int => Scalar::Int(int(field.type_as_int()?)?),
        Type::FloatingPoint => match field.type_as_floating_point()?.precision() {
            Precision::SINGLE => Scalar::Float32,
            Precision::DOUBLE => Scalar::Float64,
            _ => return None,
        },
        kind if is_text(kind) => Scalar::Text(layout(kind)?),
        kind => Scalar::Blob(layout(kind)?),
    })
}

fn times(field: Field<'_>) -> Option<Times> {
    if field.dictionary().is_some() {
        return None;
    }
    if field.type_type() == Type::Null {
        return Some(Times::Null);
    }
    let timestamp = field.type_as_timestamp()?;
    // With a zone, it counts from 1970 in UTC whatever the zone is; without one nobody knows the instant.
    timestamp.timezone().filter(|zone| !zone.is_empty())?;
    Some(Times::Every(match timestamp.unit() {
        TimeUnit::SECOND => 1_000_000_000,
        TimeUnit::MILLISECOND => 1_000_000,
        TimeUnit::MICROSECOND => 1_000,
        TimeUnit::NANOSECOND => 1,
        _ => return None,
    }))
}

fn qualities(field: Field<'_>) -> Option<Qualities> {
    if let Some(names) = names(field) {
        return Some(Qualities::Name(names));
    }
    match scalar(field)? {
        Scalar::Null => Some(Qualities::Null),
        Scalar::Int(BYTE) => Some(Qualities::Number),
        _ => None,
    }
}

fn int(int: arrow_ipc::Int<'_>) -> Option<Int> {
    let bytes = match int.bitWidth() {
        8 => 1,
        16 => 2,
        32 => 4,
        64 => 8,
        _ => return None,
    };
    Some(Int { bytes, signed: int.is_signed() })
}

fn is_text(kind: Type) -> bool {
    matches!(kind, Type::Utf8 | Type::LargeUtf8 | Type::Utf8View)
}

fn layout(kind: Type) -> Option<Layout> {
    match kind {
        Type::Utf8 | Type::Binary => Some(Layout::Small),
        Type::LargeUtf8 | Type::LargeBinary => Some(Layout::Large),
        Type::Utf8View | Type::BinaryView => Some(Layout::View),
        _ => None,
    }
}

fn described(field: Field<'_>) -> String {
    let kind = field.type_type().variant_name().unwrap_or("a type that is not known").to_lowercase();
    if field.dictionary().is_some() {
        return format!("a dictionary of {kind}");
    }
    match field.type_as_timestamp() {
        Some(timestamp) if timestamp.timezone().is_none_or(str::is_empty) => {
            format!("{kind} without a time zone")
        }
        _ => kind,
    }
}

fn bad_type(detail: &str, place: Place) -> Detail {
    explain::detail_of("bad-column", detail, place)
}
