//! Reads sections of a TOML file key by key, so that all errors are found at once, each with its place.

use std::cell::RefCell;
use std::fmt;
use std::ops::Range;

use serde::de::DeserializeOwned;
use toml::Spanned;
use toml::de::{DeTable, DeValue, ValueDeserializer};

use super::keys;

/// What is wrong with a configuration, and where.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ConfigError {
    /// Counted from 1.
    pub line: usize,
    /// Counted from 1, in characters.
    pub column: usize,
    /// The section and key, such as `server.listen`; empty for a fault of the syntax.
    pub key: String,
    /// What is wrong and what would be right.
    pub message: String,
}

impl fmt::Display for ConfigError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "line {}, column {}: ", self.line, self.column)?;
        if !self.key.is_empty() {
            write!(f, "`{}` ", self.key)?;
        }
        f.write_str(&self.message)
    }
}

/// The errors that were found so far in one file.
#[derive(Debug)]
pub struct Errors<'i> {
    source: &'i str,
    list: RefCell<Vec<ConfigError>>,
}

impl<'i> Errors<'i> {
    /// None so far.
    pub fn new(source: &'i str) -> Self {
        Self { source, list: RefCell::default() }
    }

    /// Adds one.
    pub fn add(&self, span: Option<Range<usize>>, key: &str, message: impl Into<String>) {
        let start = span.map_or(0, |span| span.start.min(self.source.len()));
        let before = self.source.get(..start).unwrap_or_default();
        let line = before.matches('\n').count() + 1;
        let column = before.rsplit('\n').next().unwrap_or_default().chars().count() + 1;
        self.list.borrow_mut().push(ConfigError {
            line,
            column,
            key: key.to_owned(),
            message: message.into(),
        });
    }

    /// All of them, in the order of the file.
    pub fn into_list(self) -> Vec<ConfigError> {
        let mut list = self.list.into_inner();
        list.sort_by_key(|error| (error.line, error.column));
        list
    }
}

/// A table of the file. What isn't taken from it is unknown.
#[derive(Debug)]
pub struct Section<'e, 'i> {
    errors: &'e Errors<'i>,
    path: String,
    span: Option<Range<usize>>,
    table: DeTable<'i>,
    asked: Vec<String>,
}

impl<'e, 'i> Section<'e, 'i> {
    /// The whole file.
    pub fn root(errors: &'e Errors<'i>) -> Self {
        let (table, faults) = DeTable::parse_recoverable(errors.source);
        for fault in faults {
            errors.add(fault.span(), "", fault.message());
        }
        Self { errors, path: String::new(), span: None, table: table.into_inner(), asked: Vec::new() }
    }

    fn path_of(&self, key: &str) -> String {
        if self.path.is_empty() { key.to_owned() } else { format!("{}.{key}", self.path) }
    }

    fn remove(&mut self, key: &str) -> Option<Spanned<DeValue<'i>>> {
        self.asked.push(key.to_owned());
        self.table.remove(key)
    }

    /// The table of this name; an empty one where there is none.
    pub fn table(&mut self, key: &str) -> Section<'e, 'i> {
        let path = self.path_of(key);
        let value = self.remove(key);
        let span = value.as_ref().map(Spanned::span);
        let table = match value.map(Spanned::into_inner) {
            Some(DeValue::Table(table)) => table,
            None => DeTable::new(),
            Some(_) => {
                self.errors.add(span.clone(), &path, format!("must be a section, [{path}]"));
                DeTable::new()
            }
        };
        Section { errors: self.errors, path, span, table, asked: Vec::new() }
    }

    /// The names of what is left in it, in order.
    pub fn names(&self) -> Vec<String> {
        self.table.keys().map(|key| key.get_ref().to_string()).collect()
    }

    /// The value of a key that may be missing.
    pub fn optional<T: DeserializeOwned>(&mut self, key: &str) -> Option<T> {
        self.checked(key, Ok)
    }

    /// As [`Self::optional`], checked further.
    pub fn checked<T: DeserializeOwned, U>(
        &mut self,
        key: &str,
        check: impl FnOnce(T) -> Result<U, String>,
    ) -> Option<U> {
        let value = self.remove(key)?;
        let span = value.span();
        let path = self.path_of(key);
        match T::deserialize(ValueDeserializer::from(value)) {
            Ok(value) => match check(value) {
                Ok(value) => Some(value),
                Err(message) => {
                    self.errors.add(Some(span), &path, message);
                    None
                }
            },
            Err(error) => {
                self.errors.add(error.span().or(Some(span)), &path, error.message());
                None
            }
        }
    }

    /// Whether the key is there and wasn't taken.
    pub fn has(&self, key: &str) -> bool {
        self.table.contains_key(key)
    }

    /// The value of a key that must be there.
    pub fn required<T: DeserializeOwned>(&mut self, key: &str) -> Option<T> {
        self.checked_required(key, Ok)
    }

    /// As [`Self::required`], checked further.
    pub fn checked_required<T: DeserializeOwned, U>(
        &mut self,
        key: &str,
        check: impl FnOnce(T) -> Result<U, String>,
    ) -> Option<U> {
        if !self.has(key) {
            self.asked.push(key.to_owned());
            self.errors.add(self.span.clone(), &self.path_of(key), "is missing");
            return None;
        }
        self.checked(key, check)
    }

    /// The value of a key in the table of keys, or its default there.
    pub fn key<T: DeserializeOwned>(&mut self, key: &str) -> Option<T> {
        let (section, value) = (self.path.clone(), self.table.contains_key(key));
        if value {
            return self.optional(key);
        }
        self.asked.push(key.to_owned());
        let default = keys::default(&section, key);
        match ValueDeserializer::parse(default).and_then(T::deserialize) {
            Ok(value) => Some(value),
            Err(error) => {
                self.errors.add(
                    None,
                    &self.path_of(key),
                    format!("has a wrong default: {}", error.message()),
                );
                None
            }
        }
    }

    /// Says that something is wrong with a key that was taken, or with the section as a whole.
    pub fn fault(&self, message: impl Into<String>) {
        self.errors.add(self.span.clone(), &self.path, message);
    }

    /// Refuses what is left; comes once, after all keys were taken.
    pub fn finish(&self) {
        for key in self.table.keys() {
            let known: Vec<String> = self.asked.iter().map(|name| format!("`{name}`")).collect();
            let whose = if self.path.is_empty() { "the file".to_owned() } else { format!("[{}]", self.path) };
            let message = format!("is unknown; {whose} has {}", known.join(", "));
            self.errors.add(Some(key.span()), &self.path_of(key.get_ref()), message);
        }
    }
}
