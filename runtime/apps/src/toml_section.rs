//! Reads TOML table by table and collects everything that is wrong.
//!
//! serde stops at the first error; people want to see all of them, each with its place.

use std::ops::Range;

use toml::Spanned;
use toml::de::{DeTable, DeValue};

use super::problem::Problem;

/// The text and what was found wrong with it so far.
pub(super) struct Findings<'t> {
    text: &'t str,
    pub(super) problems: Vec<Problem>,
}

impl<'t> Findings<'t> {
    pub(super) fn new(text: &'t str) -> Self {
        Self { text, problems: Vec::new() }
    }

    pub(super) fn add(&mut self, place: &Range<usize>, problem: Problem) {
        self.problems.push(problem.at(self.text, place.start));
    }
}

/// A value with its place and the path to it.
pub(super) struct Field<'a, 't> {
    pub(super) place: Range<usize>,
    pub(super) path: String,
    pub(super) value: &'a DeValue<'t>,
}

impl<'a, 't> Field<'a, 't> {
    fn wrong_type(&self, findings: &mut Findings<'_>, expected: &str) {
        let message = format!("must be {expected}, not {}", type_name(self.value));
        findings.add(&self.place, Problem::of(&self.path, message));
    }

    pub(super) fn refuse(&self, findings: &mut Findings<'_>, message: impl Into<String>) {
        findings.add(&self.place, Problem::of(&self.path, message));
    }

    pub(super) fn text(&self, findings: &mut Findings<'_>) -> Option<&'a str> {
        let text = self.value.as_str();
        if text.is_none() {
            self.wrong_type(findings, "a text in quotes");
        }
        text
    }

    /// A text that holds a value of type `T`, or the problem is noted.
    pub(super) fn parsed<T, E: std::fmt::Display>(
        &self,
        findings: &mut Findings<'_>,
        parse: impl FnOnce(&str) -> Result<T, E>,
    ) -> Option<T> {
        let text = self.text(findings)?;
        match parse(text) {
            Ok(value) => Some(value),
            Err(error) => {
                self.refuse(findings, error.to_string());
                None
            }
        }
    }

    pub(super) fn boolean(&self, findings: &mut Findings<'_>) -> Option<bool> {
        let value = self.value.as_bool();
        if value.is_none() {
            self.wrong_type(findings, "true or false");
        }
        value
    }

    pub(super) fn section(&self, findings: &mut Findings<'_>) -> Option<Section<'a, 't>> {
        match self.value {
            DeValue::Table(table) => Some(Section::new(table, self.path.clone(), self.place.clone())),
            _ => {
                self.wrong_type(findings, "a section");
                None
            }
        }
    }
}

fn type_name(value: &DeValue<'_>) -> &'static str {
    match value {
        DeValue::String(_) => "a text",
        DeValue::Integer(_) => "an integer",
        DeValue::Float(_) => "a real number",
        DeValue::Boolean(_) => "true or false",
        DeValue::Datetime(_) => "a date or time",
        DeValue::Array(_) => "a list",
        DeValue::Table(_) => "a section",
    }
}

/// A table whose fields are taken out one by one, in the order of the file.
pub(super) struct Section<'a, 't> {
    path: String,
    place: Range<usize>,
    /// Each with its name and the place of the name.
    left: Vec<(&'a str, Range<usize>, &'a Spanned<DeValue<'t>>)>,
    known: Vec<&'static str>,
}

impl<'a, 't> Section<'a, 't> {
    pub(super) fn new(table: &'a DeTable<'t>, path: String, place: Range<usize>) -> Self {
        let mut left: Vec<_> =
            table.iter().map(|(name, value)| (name.get_ref().as_ref(), name.span(), value)).collect();
        left.sort_by_key(|(_, place, _)| place.start);
        Self { path, place, left, known: Vec::new() }
    }

    fn join(&self, name: &str) -> String {
        if self.path.is_empty() { name.to_owned() } else { format!("{}.{name}", self.path) }
    }

    /// Takes out the field of this name. Its place is that of the value, or of the name of a section.
    pub(super) fn take(&mut self, name: &'static str) -> Option<Field<'a, 't>> {
        self.known.push(name);
        let index = self.left.iter().position(|(left, ..)| *left == name)?;
        Some(self.field(index))
    }

    fn field(&mut self, index: usize) -> Field<'a, 't> {
        let (name, name_place, value) = self.left.remove(index);
        let path = self.join(name);
        let place = if value.get_ref().is_table() { name_place } else { value.span() };
        Field { place, path, value: value.get_ref() }
    }

    /// Takes out a field that must be there.
    pub(super) fn require(
        &mut self,
        findings: &mut Findings<'_>,
        name: &'static str,
    ) -> Option<Field<'a, 't>> {
        let field = self.take(name);
        if field.is_none() {
            findings.add(&self.place, Problem::of(self.join(name), "is missing"));
        }
        field
    }

    /// Takes out all fields, each with its name and the place of the name, in the order of the file.
    pub(super) fn take_all(&mut self) -> Vec<(&'a str, Range<usize>, Field<'a, 't>)> {
        let mut all = Vec::with_capacity(self.left.len());
        while !self.left.is_empty() {
            let (name, place, _) = &self.left[0];
            let (name, place) = (*name, place.clone());
            all.push((name, place, self.field(0)));
        }
        all
    }

    /// Takes out those of these names that are there, without counting them as known.
    pub(super) fn take_named(&mut self, names: &[&str]) -> Vec<(&'a str, Range<usize>, Field<'a, 't>)> {
        let mut taken = Vec::new();
        for wanted in names {
            if let Some(index) = self.left.iter().position(|(left, ..)| left == wanted) {
                let (name, place, _) = &self.left[index];
                let (name, place) = (*name, place.clone());
                taken.push((name, place, self.field(index)));
            }
        }
        taken
    }

    /// Refuses what was not taken out.
    pub(super) fn finish(self, findings: &mut Findings<'_>) {
        for (name, place, _) in &self.left {
            let message = format!("is not known here; known are {}", self.known.join(", "));
            findings.add(place, Problem::of(self.join(name), message));
        }
    }
}
