//! Reads TOML table by table and collects everything that is wrong.
//!
//! serde stops at the first error; people want to see all of them, each with its place. The manifest,
//! the host's configuration and the file of an install are read with it, so that all three say the
//! same of the same mistake.

use std::cell::RefCell;
use std::collections::BTreeMap;
use std::ops::Range;
use std::path::PathBuf;

use toml::de::{DeTable, DeValue};

use crate::problem::{Problem, Problems, join_path, line_and_column};

/// A text and what was found wrong with it so far.
#[derive(Debug)]
pub struct Findings<'t> {
    text: &'t str,
    problems: RefCell<Vec<Problem>>,
    starts: RefCell<BTreeMap<String, Option<usize>>>,
}

impl<'t> Findings<'t> {
    /// Nothing is wrong so far.
    pub fn new(text: &'t str) -> Self {
        Self { text, problems: RefCell::default(), starts: RefCell::default() }
    }

    /// Returns the places of the fields that were read so far.
    pub fn places(&self) -> Places {
        Places { text: self.text.to_owned(), starts: self.starts.borrow().clone() }
    }

    /// Adds a problem at a place of the text.
    pub fn add(&self, place: &Range<usize>, problem: Problem) {
        self.problems.borrow_mut().push(problem.at(self.text, place.start));
    }

    /// `Ok` where nothing was found so far.
    ///
    /// # Errors
    /// All findings, in the order of the text.
    pub fn check(&self) -> Result<(), Problems> {
        Problems::check(self.problems.take())
    }

    /// The whole text as a section.
    ///
    /// # Errors
    /// Syntax errors, in the order of the text.
    pub fn root(&self) -> Result<Section<'_, 't>, Problems> {
        let (table, errors) = DeTable::parse_recoverable(self.text);
        for error in errors {
            let place = error.span().unwrap_or(0..0);
            let message = error.message().replace('\n', ", ");
            self.add(&place, Problem::whole(format!("is not valid TOML: {message}")));
        }
        self.check()?;
        Ok(Section::new(self, table.into_inner(), String::new(), 0..0))
    }
}

/// The places of a text's fields, for what is found wrong with them later.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Places {
    text: String,
    /// `None` for a field that was given elsewhere.
    starts: BTreeMap<String, Option<usize>>,
}

impl Places {
    /// This field, with all within it, has its value from elsewhere.
    pub fn set_elsewhere(&mut self, path: &str) {
        self.starts.insert(path.to_owned(), None);
    }

    /// Line and column of a field, or of the section that it would stand in. `None` where the text has neither, or the
    /// value is from elsewhere.
    pub fn of(&self, path: &str) -> Option<(u32, u32)> {
        let outer = path.rmatch_indices('.').map(|(dot, _)| &path[..dot]);
        let start = std::iter::once(path).chain(outer).find_map(|path| self.starts.get(path))?;
        Some(line_and_column(&self.text, (*start)?))
    }
}

/// A value with its name, its place and the path to it.
#[derive(Debug)]
pub struct Field<'f, 't> {
    findings: &'f Findings<'t>,
    place: Range<usize>,
    /// Its name in its section.
    pub name: String,
    /// The place of its name.
    pub name_place: Range<usize>,
    /// The names from the whole text down to it, with dots between them.
    pub path: String,
    /// The value of the field.
    pub value: DeValue<'t>,
}

impl<'f, 't> Field<'f, 't> {
    fn wrong_type<T>(&self, expected: &str) -> Option<T> {
        self.refuse(format!("must be {expected}, not {}", type_name(&self.value)));
        None
    }

    /// Notes that something is wrong with the value.
    pub fn refuse(&self, message: impl Into<String>) {
        self.findings.add(&self.place, Problem::of(&self.path, message));
    }

    /// Notes a problem at the place of the name.
    pub fn refuse_name(&self, message: impl Into<String>, hint: Option<&str>) {
        let problem = Problem::of(&self.path, message);
        let problem = hint.into_iter().fold(problem, Problem::hint);
        self.findings.add(&self.name_place, problem);
    }

    /// The value of a text.
    pub fn text(&self) -> Option<&str> {
        self.value.as_str().or_else(|| self.wrong_type("a text in quotes"))
    }

    /// The name of a file.
    pub fn file(&self) -> Option<PathBuf> {
        let text = self.text()?;
        // A secret that somebody has put here instead, which isn't shown.
        if text.contains(['\n', '{']) || text.contains("-----BEGIN") {
            self.refuse("must be the name of a file; what that holds isn't written here");
            return None;
        }
        Some(PathBuf::from(text))
    }

    /// Returns the value that a text stands for.
    pub fn parsed<T, E: std::fmt::Display>(&self, parse: impl FnOnce(&str) -> Result<T, E>) -> Option<T> {
        self.checked(parse(self.text()?))
    }

    /// The value, or the problem is noted.
    pub fn checked<T, E: std::fmt::Display>(&self, result: Result<T, E>) -> Option<T> {
        result.map_err(|error| self.refuse(error.to_string())).ok()
    }

    /// The value of a boolean.
    pub fn boolean(&self) -> Option<bool> {
        self.value.as_bool().or_else(|| self.wrong_type("true or false"))
    }

    /// The value of an integer.
    pub fn integer(&self) -> Option<i64> {
        let Some(number) = self.value.as_integer() else { return self.wrong_type("a whole number") };
        let parsed = i64::from_str_radix(number.as_str(), number.radix());
        self.checked(parsed.map_err(|_| format!("{number} does not fit into 64 bits")))
    }

    /// The value of a number, with or without a fraction.
    pub fn number(&self) -> Option<f64> {
        match &self.value {
            DeValue::Float(number) => {
                self.checked(number.as_str().parse().map_err(|_| format!("{number} is not a real number")))
            }
            DeValue::Integer(_) => self.integer().map(|integer| integer as f64),
            _ => self.wrong_type("a number"),
        }
    }

    /// The values of a list of texts.
    pub fn texts(&self) -> Option<Vec<String>> {
        let texts = self.value.as_array().and_then(|all| {
            all.iter().map(|one| Some(one.get_ref().as_str()?.to_owned())).collect::<Option<Vec<_>>>()
        });
        texts.or_else(|| self.wrong_type("a list of texts in quotes"))
    }

    /// The section that it is; an empty one where it is none, which is noted.
    pub fn section(self) -> Section<'f, 't> {
        let Self { findings, place, path, value, .. } = self;
        match value {
            DeValue::Table(table) => Section::new(findings, table, path, place),
            other => {
                let message = format!("must be a section, not {}", type_name(&other));
                findings.add(&place, Problem::of(&path, message));
                Section { findings, path, place, left: Vec::new(), known: Vec::new() }
            }
        }
    }
}

impl<'f, 't> Field<'f, 't> {
    /// The sections of a list of them; what isn't one is noted. Their paths count from 1.
    pub fn sections(self) -> Vec<Section<'f, 't>> {
        let Self { findings, place, path, name, name_place, value } = self;
        let DeValue::Array(list) = value else {
            let message = format!("must be a list of sections, [[{name}]], not {}", type_name(&value));
            findings.add(&place, Problem::of(&path, message));
            return Vec::new();
        };
        let section = |(at, one): (usize, toml::Spanned<DeValue<'t>>)| {
            let (path, place) = (format!("{path}[{}]", at + 1), one.span());
            let (name, name_place) = (name.clone(), name_place.clone());
            Field { findings, place, name, name_place, path, value: one.into_inner() }.section()
        };
        list.into_iter().enumerate().map(section).collect()
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

/// A table whose fields are taken out one by one. What is left at the end is unknown.
#[derive(Debug)]
pub struct Section<'f, 't> {
    findings: &'f Findings<'t>,
    path: String,
    place: Range<usize>,
    /// In the order of the file.
    left: Vec<Field<'f, 't>>,
    known: Vec<&'static str>,
}

impl<'f, 't> Section<'f, 't> {
    fn new(findings: &'f Findings<'t>, table: DeTable<'t>, path: String, place: Range<usize>) -> Self {
        let field = |(name, value): (toml::Spanned<_>, toml::Spanned<DeValue<'t>>)| {
            let name_place = name.span();
            let name: std::borrow::Cow<'_, str> = name.into_inner();
            // A section's own place would be its whole header or table.
            let place = if value.get_ref().is_table() { name_place.clone() } else { value.span() };
            let (path, name) = (join_path(&path, &name), name.into_owned());
            findings.starts.borrow_mut().insert(path.clone(), Some(place.start));
            Field { findings, place, name, name_place, path, value: value.into_inner() }
        };
        let mut left: Vec<_> = table.into_iter().map(field).collect();
        left.sort_by_key(|field| field.name_place.start);
        Self { findings, path, place, left, known: Vec::new() }
    }

    /// Takes out the field of this name.
    pub fn take(&mut self, name: &'static str) -> Option<Field<'f, 't>> {
        self.known.push(name);
        self.take_unlisted(name)
    }

    /// Takes out a field without listing its name among the known ones.
    pub fn take_unlisted(&mut self, name: &str) -> Option<Field<'f, 't>> {
        let index = self.left.iter().position(|field| field.name == name)?;
        Some(self.left.remove(index))
    }

    /// Takes out a field that must be there.
    pub fn require(&mut self, name: &'static str) -> Option<Field<'f, 't>> {
        let field = self.take(name);
        if field.is_none() {
            self.findings.add(&self.place, Problem::of(join_path(&self.path, name), "is missing"));
        }
        field
    }

    /// Takes out a field, or the default that this TOML text gives it; its place is then the section's.
    pub fn take_or(&mut self, name: &'static str, default: &'static str) -> Option<Field<'f, 't>> {
        if let Some(field) = self.take(name) {
            return Some(field);
        }
        let path = join_path(&self.path, name);
        match DeValue::parse(default) {
            Ok(value) => Some(Field {
                findings: self.findings,
                place: self.place.clone(),
                name: name.to_owned(),
                name_place: self.place.clone(),
                path,
                value: value.into_inner(),
            }),
            Err(error) => {
                let message = format!("has a default that is not valid TOML: {}", error.message());
                self.findings.add(&self.place, Problem::of(path, message));
                None
            }
        }
    }

    /// Takes out the section of this name; an empty one where there is none.
    pub fn table(&mut self, name: &'static str) -> Section<'f, 't> {
        match self.take(name) {
            Some(field) => field.section(),
            None => Section {
                findings: self.findings,
                path: join_path(&self.path, name),
                place: self.place.clone(),
                left: Vec::new(),
                known: Vec::new(),
            },
        }
    }

    /// Takes out all fields, in the order of the file.
    pub fn take_all(&mut self) -> Vec<Field<'f, 't>> {
        std::mem::take(&mut self.left)
    }

    /// Notes that something is wrong with the section as a whole.
    pub fn refuse(&self, message: impl Into<String>) {
        self.findings.add(&self.place, Problem::of(&self.path, message));
    }

    /// Refuses what was not taken out.
    pub fn finish(self) {
        let known = self.known.join(", ");
        for field in &self.left {
            field.refuse_name(format!("is not known; the known ones are {known}"), None);
        }
    }
}
