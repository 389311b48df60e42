//! Reads a struct from names and texts: each field decides of what type its text is.

use serde::de::value::{MapDeserializer, StrDeserializer};
use serde::de::{DeserializeOwned, Deserializer, IntoDeserializer, Visitor};
use serde::forward_to_deserialize_any;

use super::Error;

pub(super) fn from_settings<S: DeserializeOwned>(settings: Vec<(String, String)>) -> Result<S, Error> {
    let entries = settings.iter().map(|(name, text)| (Name(name), Setting { name, text }));
    S::deserialize(MapDeserializer::new(entries))
}

impl serde::de::Error for Error {
    fn custom<T: std::fmt::Display>(text: T) -> Self {
        Self::Mismatch(text.to_string())
    }

    fn missing_field(field: &'static str) -> Self {
        Self::NotSet(field.to_owned())
    }
}

struct Name<'a>(&'a str);

impl<'de> IntoDeserializer<'de, Error> for Name<'de> {
    type Deserializer = StrDeserializer<'de, Error>;

    fn into_deserializer(self) -> Self::Deserializer {
        self.0.into_deserializer()
    }
}

struct Setting<'a> {
    name: &'a str,
    text: &'a str,
}

impl Setting<'_> {
    fn invalid(&self, reason: impl std::fmt::Display) -> Error {
        Error::Invalid { name: self.name.to_owned(), text: self.text.to_owned(), reason: reason.to_string() }
    }
}

impl<'de> IntoDeserializer<'de, Error> for Setting<'de> {
    type Deserializer = Self;

    fn into_deserializer(self) -> Self {
        self
    }
}

macro_rules! parsed {
    ($($method:ident $visit:ident $type:ty;)*) => {$(
        fn $method<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Error> {
            match self.text.parse::<$type>() {
                // What the field itself finds wrong, such as a number out of its range, names the setting as well.
                Ok(value) => visitor.$visit(value).map_err(|error: Error| self.invalid(error)),
                Err(error) => Err(self.invalid(error)),
            }
        }
    )*};
}

impl<'de> Deserializer<'de> for Setting<'de> {
    type Error = Error;

    parsed! {
        deserialize_bool visit_bool bool;
        deserialize_i8 visit_i64 i64;
        deserialize_i16 visit_i64 i64;
        deserialize_i32 visit_i64 i64;
        deserialize_i64 visit_i64 i64;
        deserialize_u8 visit_u64 u64;
        deserialize_u16 visit_u64 u64;
        deserialize_u32 visit_u64 u64;
        deserialize_u64 visit_u64 u64;
        deserialize_f32 visit_f64 f64;
        deserialize_f64 visit_f64 f64;
    }

    fn deserialize_any<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Error> {
        visitor.visit_str(self.text).map_err(|error: Error| self.invalid(error))
    }

    fn deserialize_option<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Error> {
        visitor.visit_some(self)
    }

    fn deserialize_newtype_struct<V: Visitor<'de>>(
        self,
        _: &'static str,
        visitor: V,
    ) -> Result<V::Value, Error> {
        visitor.visit_newtype_struct(self)
    }

    fn deserialize_enum<V: Visitor<'de>>(
        self,
        name: &'static str,
        variants: &'static [&'static str],
        visitor: V,
    ) -> Result<V::Value, Error> {
        let text: StrDeserializer<'de, Error> = self.text.into_deserializer();
        text.deserialize_enum(name, variants, visitor).map_err(|error| self.invalid(error))
    }

    forward_to_deserialize_any! {
        i128 u128 char str string bytes byte_buf unit unit_struct seq tuple tuple_struct map struct identifier
        ignored_any
    }
}

#[cfg(test)]
mod tests {
    use serde::Deserialize;

    use super::*;

    #[derive(Debug, PartialEq, Deserialize)]
    #[serde(rename_all = "kebab-case")]
    enum Breed {
        Duroc,
    }

    #[derive(Debug, PartialEq, Deserialize)]
    #[serde(rename_all = "kebab-case")]
    struct All {
        breed: Breed,
        first_age: f64,
        #[serde(default)]
        pens: Option<u8>,
        strict: bool,
        note: String,
    }

    fn read(changes: &[(&str, &str)]) -> Result<All, Error> {
        let base = [("breed", "duroc"), ("first-age", "77.5"), ("strict", "true"), ("note", "12")];
        let mut settings: std::collections::BTreeMap<_, _> = base.into();
        settings.extend(changes.iter().copied());
        from_settings(settings.into_iter().map(|(name, text)| (name.to_owned(), text.to_owned())).collect())
    }

    #[test]
    fn each_field_reads_its_text() {
        let all =
            All { breed: Breed::Duroc, first_age: 77.5, pens: Some(3), strict: true, note: "12".into() };
        assert_eq!(read(&[("pens", "3"), ("not-asked-for", "x")]), Ok(all));
        assert_eq!(read(&[]).unwrap().pens, None);
    }

    #[test]
    fn errors_name_the_setting() {
        for (name, text) in [("first-age", "old"), ("strict", "yes"), ("pens", "300"), ("breed", "dog")] {
            let error = read(&[(name, text)]).unwrap_err().to_string();
            assert!(error.contains(name) && error.contains(text), "{error}");
        }
        assert_eq!(from_settings::<All>(Vec::new()), Err(Error::NotSet("breed".to_owned())));
    }
}
