//! Single values, as an app sees them.

use crate::bindings::platform::ironloom::types::types as raw;
pub use crate::bindings::platform::ironloom::types::types::Quality;

/// A value, borrowed from where it stands.
///
/// ```
/// use ironloom_sdk::Value;
///
/// assert_eq!(Value::from(81.5), Value::Real(81.5));
/// assert_eq!(Value::from("on"), Value::Text("on"));
/// assert_eq!(Value::from(3_i64).type_name(), "integer");
/// ```
#[derive(Clone, Copy, Debug, PartialEq)]
#[allow(missing_docs, reason = "the names of the manifest's types say it all")]
pub enum Value<'a> {
    Boolean(bool),
    Integer(i64),
    Real(f64),
    Text(&'a str),
    Blob(&'a [u8]),
}

impl Value<'_> {
    /// Names its type as the manifest does.
    pub fn type_name(&self) -> &'static str {
        match self {
            Self::Boolean(_) => "boolean",
            Self::Integer(_) => "integer",
            Self::Real(_) => "real",
            Self::Text(_) => "text",
            Self::Blob(_) => "blob",
        }
    }
}

macro_rules! value_from {
    ($($from:ty => $case:ident),*) => {$(
        impl<'a> From<$from> for Value<'a> {
            fn from(value: $from) -> Self {
                Self::$case(value.into())
            }
        }
    )*};
}
value_from!(bool => Boolean, i64 => Integer, i32 => Integer, u32 => Integer, f64 => Real, f32 => Real,
    &'a str => Text, &'a [u8] => Blob);

impl<'a> From<&'a String> for Value<'a> {
    fn from(value: &'a String) -> Self {
        Self::Text(value)
    }
}

impl From<Value<'_>> for raw::Value {
    fn from(value: Value<'_>) -> Self {
        match value {
            Value::Boolean(value) => Self::Boolean(value),
            Value::Integer(value) => Self::Integer(value),
            Value::Real(value) => Self::Real(value),
            Value::Text(value) => Self::Text(value.to_owned()),
            Value::Blob(value) => Self::Blob(value.to_owned()),
        }
    }
}

impl<'a> From<&'a raw::Value> for Value<'a> {
    fn from(value: &'a raw::Value) -> Self {
        match value {
            raw::Value::Boolean(value) => Self::Boolean(*value),
            raw::Value::Integer(value) => Self::Integer(*value),
            raw::Value::Real(value) => Self::Real(*value),
            raw::Value::Text(value) => Self::Text(value),
            raw::Value::Blob(value) => Self::Blob(value),
        }
    }
}

/// Says that a value was asked for as a type that it isn't of.
///
/// The manifest declares the type of each input, so this is a slip in the app.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("the values of {slot:?} are of type {is}, not {asked}")]
pub struct WrongType {
    pub(crate) slot: String,
    pub(crate) is: &'static str,
    pub(crate) asked: &'static str,
}

/// A column of values, all of one type, and what is done with any of them.
pub(crate) trait Column {
    fn type_name(&self) -> &'static str;
    #[cfg_attr(target_family = "wasm", expect(dead_code, reason = "only the platform for tests counts"))]
    fn len(&self) -> usize;
    /// The value in this place, which is one of the column.
    fn value(&self, place: usize) -> Value<'_>;
}

impl Column for raw::Values {
    fn type_name(&self) -> &'static str {
        match self {
            Self::Booleans(_) => "boolean",
            Self::Integers(_) => "integer",
            Self::Reals(_) => "real",
            Self::Texts(_) => "text",
            Self::Blobs(_) => "blob",
        }
    }

    fn len(&self) -> usize {
        match self {
            Self::Booleans(values) => values.len(),
            Self::Integers(values) => values.len(),
            Self::Reals(values) => values.len(),
            Self::Texts(values) => values.len(),
            Self::Blobs(values) => values.len(),
        }
    }

    fn value(&self, place: usize) -> Value<'_> {
        match self {
            Self::Booleans(values) => Value::Boolean(values[place]),
            Self::Integers(values) => Value::Integer(values[place]),
            Self::Reals(values) => Value::Real(values[place]),
            Self::Texts(values) => Value::Text(&values[place]),
            Self::Blobs(values) => Value::Blob(&values[place]),
        }
    }
}
