//! Problems for people: all of them at once, each with its place and what to do about it.
//!
//! A problem quotes what others wrote, such as keys and descriptions of a package, and ends in an
//! admin's terminal. So each of its texts is made one clean line of bounded length where it is made.

use std::fmt;

use serde::Serialize;

use ironloom_types::text::{clean, shorten};

/// The longest text of a problem, in characters. The rest is cut off.
const MAX_TEXT: usize = 2_000;
/// The longest key within the path of a field, in characters. The rest is cut off.
const MAX_KEY: usize = 100;

fn one_line(text: &str) -> String {
    clean(&shorten(text, MAX_TEXT)).into_owned()
}

/// A path of keys with one more: `points."farm/{tag}".unit`. Keys that TOML would quote are quoted.
pub fn join_path(path: &str, key: &str) -> String {
    let is_bare =
        !key.is_empty() && key.bytes().all(|b| b.is_ascii_alphanumeric() || matches!(b, b'-' | b'_'));
    let key = if is_bare { key.to_owned() } else { format!("{:?}", shorten(key, MAX_KEY)) };
    if path.is_empty() { key } else { format!("{path}.{key}") }
}

/// The code by which programs identify a problem.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum Cause {
    /// Something that only its sentence says.
    #[default]
    Invalid,
    /// An input that must be bound isn't.
    Unbound,
    /// A point and a slot have different units.
    UnitMismatch,
    /// Two points give one entity.
    SameEntity,
    /// Readings would go round in a circle.
    Circle,
    /// The app asks for more than it gets without a grant.
    NeedsGrant,
    /// A setting without a default isn't given.
    SettingMissing,
}

impl Cause {
    /// Every kind with a name of its own.
    pub const NAMED: [Self; 6] = [
        Self::Unbound,
        Self::UnitMismatch,
        Self::SameEntity,
        Self::Circle,
        Self::NeedsGrant,
        Self::SettingMissing,
    ];

    /// Its name; `None` where there is only the sentence.
    pub fn name(self) -> Option<&'static str> {
        match self {
            Self::Invalid => None,
            Self::Unbound => Some("unbound"),
            Self::UnitMismatch => Some("unit-mismatch"),
            Self::SameEntity => Some("same-entity"),
            Self::Circle => Some("circle"),
            Self::NeedsGrant => Some("needs-grant"),
            Self::SettingMissing => Some("setting-missing"),
        }
    }

    fn is_invalid(&self) -> bool {
        *self == Self::Invalid
    }
}

/// One thing that is wrong with what somebody wrote.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
pub struct Problem {
    /// The line, counted from 1, where the text is known.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub line: Option<u32>,
    /// The column in characters, counted from 1.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub column: Option<u32>,
    /// The field, as a path of names with dots between them, such as `inputs.weight.unit`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub field: Option<String>,
    /// The code by which programs identify it.
    #[serde(skip_serializing_if = "Cause::is_invalid")]
    pub cause: Cause,
    /// The problem, as a sentence without a full stop.
    pub message: String,
    /// A hint what to do about it.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub hints: Vec<String>,
}

impl Problem {
    /// A problem with a named field.
    pub fn of(field: impl Into<String>, message: impl Into<String>) -> Self {
        Self { field: Some(one_line(&field.into())), ..Self::whole(message) }
    }

    /// A problem with the whole of something.
    pub fn whole(message: impl Into<String>) -> Self {
        Self { message: one_line(&message.into()), ..Self::default() }
    }

    /// Adds a cause that programs can test for.
    #[must_use]
    pub fn because(mut self, cause: Cause) -> Self {
        self.cause = cause;
        self
    }

    /// Adds what to do about it.
    #[must_use]
    pub fn hint(mut self, hint: impl Into<String>) -> Self {
        self.hints.push(one_line(&hint.into()));
        self
    }

    /// Adds the place of this byte of the text.
    #[must_use]
    pub fn at(mut self, text: &str, byte: usize) -> Self {
        let (line, column) = line_and_column(text, byte);
        (self.line, self.column) = (Some(line), Some(column));
        self
    }
}

/// Line and column of this byte of a text, both counted from 1.
pub(crate) fn line_and_column(text: &str, byte: usize) -> (u32, u32) {
    let before = text.get(..byte).unwrap_or(text);
    let line_start = before.rfind('\n').map_or(0, |newline| newline + 1);
    let number = |count: usize| u32::try_from(count).unwrap_or(u32::MAX);
    (number(before.matches('\n').count() + 1), number(before[line_start..].chars().count() + 1))
}

impl fmt::Display for Problem {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if let (Some(line), Some(column)) = (self.line, self.column) {
            write!(f, "{line}:{column}: ")?;
        }
        if let Some(field) = &self.field {
            write!(f, "{field}: ")?;
        }
        f.write_str(&self.message)?;
        for hint in &self.hints {
            write!(f, "; {hint}")?;
        }
        Ok(())
    }
}

/// All problems, in the order of their places. Never empty if returned as an error.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
#[serde(transparent)]
pub struct Problems(pub Vec<Problem>);

impl Problems {
    /// `Ok` where nothing was found, else all of it in the order of its places.
    pub fn check(mut found: Vec<Problem>) -> Result<(), Self> {
        if found.is_empty() {
            return Ok(());
        }
        found.sort_by_key(|problem| (problem.line, problem.column));
        Err(Self(found))
    }

    /// A problem on each line with the file before it, as compilers write it.
    pub fn of_file(&self, file: &std::path::Path) -> String {
        let file = clean(&file.to_string_lossy()).into_owned();
        let line = |problem: &Problem| {
            let separator = if problem.line.is_some() { ":" } else { ": " };
            format!("{file}{separator}{problem}")
        };
        self.0.iter().map(line).collect::<Vec<_>>().join("\n")
    }
}

impl fmt::Display for Problems {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (index, problem) in self.0.iter().enumerate() {
            if index > 0 {
                f.write_str("\n")?;
            }
            write!(f, "{problem}")?;
        }
        Ok(())
    }
}

impl std::error::Error for Problems {}

impl From<Problem> for Problems {
    fn from(problem: Problem) -> Self {
        Self(vec![problem])
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn keys_that_are_no_plain_words_are_quoted_and_cut() {
        assert_eq!(join_path("", "server"), "server");
        assert_eq!(join_path("inputs", "live-weight_2"), "inputs.live-weight_2");
        assert_eq!(join_path("points", "a/{b}"), "points.\"a/{b}\"");
        assert_eq!(join_path("inputs", "a\u{1b}]0;\n\u{202e}"), "inputs.\"a\\u{1b}]0;\\n\\u{202e}\"");
        assert_eq!(join_path("x", ""), "x.\"\"");
        assert_eq!(join_path("", &"a b".repeat(100)).chars().count(), MAX_KEY + 3);
    }

    #[test]
    fn whatever_a_problem_quotes_is_one_clean_line() {
        let problem = Problem::of("x\n", "a\u{1b}[2J\r\nb").hint("\u{202e}run");
        assert_eq!(problem.to_string(), "x\\n: a\\u{1b}[2J\\r\\nb; \\u{202e}run");
        let long = Problem::whole("x".repeat(1 << 20));
        assert_eq!(long.message.chars().count(), MAX_TEXT + 1);
    }

    #[test]
    fn places_count_lines_and_characters_from_one() {
        let text = "a = 1\nß = 2\n";
        let at = |byte| {
            let problem = Problem::of("x", "y").at(text, byte);
            (problem.line, problem.column)
        };
        assert_eq!(at(0), (Some(1), Some(1)));
        assert_eq!(at(4), (Some(1), Some(5)));
        assert_eq!(at(6), (Some(2), Some(1)));
        // The ß takes two bytes and one column.
        assert_eq!(at(8), (Some(2), Some(2)));
        assert_eq!(at(text.len()), (Some(3), Some(1)));
        assert_eq!(at(999), (Some(3), Some(1)));
    }
}
