//! The table of a connector as API and log have it: the keys of its section in the configuration file, in their order, which
//! counts for topics. It is read as the file is, so that both say the same of the same mistake.

mod json;

use std::fmt::Write as _;
use std::path::Path;

use jiff::tz::TimeZone;
use toml::de::{DeTable, DeValue};

use super::ConnectorConfig;
use ironloom_apps::problem::{Problem, Problems};
use ironloom_apps::toml_section::Findings;

/// The keys of a section, in the order in which somebody wrote them. Each is there once.
#[derive(Clone, Debug, Default, PartialEq)]
pub(crate) struct ConnectorTable(Vec<(String, Value)>);

/// A value that JSON and TOML have in common.
#[derive(Clone, Debug, PartialEq)]
enum Value {
    Boolean(bool),
    Integer(i64),
    Real(f64),
    Text(String),
    List(Vec<Value>),
    Table(ConnectorTable),
}

impl ConnectorTable {
    /// Reads a text of TOML.
    ///
    /// # Errors
    /// A sentence that ends with the place.
    pub(crate) fn of_toml(text: &str) -> Result<Self, String> {
        let table = DeTable::parse(text).map_err(|error| error.to_string().trim().replace('\n', ", "))?;
        Self::of_table(table.into_inner())
    }

    fn of_table(table: DeTable<'_>) -> Result<Self, String> {
        let mut entries: Vec<_> = table.into_iter().collect();
        entries.sort_by_key(|(name, _)| name.span().start);
        let entry =
            |(name, value): (toml::Spanned<std::borrow::Cow<'_, str>>, toml::Spanned<DeValue<'_>>)| {
                let name = name.into_inner().into_owned();
                let value =
                    Value::of_toml(value.into_inner()).map_err(|problem| format!("{name}: {problem}"))?;
                Ok((name, value))
            };
        entries.into_iter().map(entry).collect::<Result<_, String>>().map(Self)
    }

    /// Takes over what another one has: its values go before, and tables of both become one.
    pub(crate) fn merge(&mut self, other: Self) {
        for (name, value) in other.0 {
            match (self.value_mut(&name), value) {
                (Some(Value::Table(own)), Value::Table(new)) => own.merge(new),
                (Some(own), value) => *own = value,
                (None, value) => self.0.push((name, value)),
            }
        }
    }

    /// Takes out whatever another one names at its ends. Returns false where one of these wasn't there.
    pub(crate) fn take_out(&mut self, other: &Self) -> bool {
        let mut were_there = true;
        for (name, value) in &other.0 {
            were_there &= match (self.value_mut(name), value) {
                (Some(Value::Table(own)), Value::Table(inner)) => own.take_out(inner),
                (Some(_), Value::Table(_)) | (None, _) => false,
                (Some(_), _) => {
                    self.0.retain(|(own, _)| own != name);
                    true
                }
            };
        }
        were_there
    }

    /// Takes out a table of tables' entry, such as `connectors.NAME` of a configuration.
    pub(crate) fn into_inner(self, path: &[&str]) -> Option<Self> {
        let Some((first, rest)) = path.split_first() else { return Some(self) };
        match self.0.into_iter().find(|(name, _)| name == first) {
            Some((_, Value::Table(table))) => table.into_inner(rest),
            _ => None,
        }
    }

    fn value_mut(&mut self, name: &str) -> Option<&mut Value> {
        self.0.iter_mut().find(|(own, _)| own == name).map(|(_, value)| value)
    }

    /// As JSON, for the log.
    pub(crate) fn to_json(&self) -> String {
        // It has nothing that JSON lacks.
        serde_json::to_string(self).unwrap_or_default()
    }

    /// As TOML: a key on each line, what is in it within braces.
    fn to_toml(&self) -> String {
        let mut out = String::new();
        for (name, value) in &self.0 {
            quote(name, &mut out);
            out.push_str(" = ");
            value.write(&mut out);
            out.push('\n');
        }
        out
    }

    fn write(&self, out: &mut String) {
        out.push('{');
        for (at, (name, value)) in self.0.iter().enumerate() {
            out.push_str(if at == 0 { " " } else { ", " });
            quote(name, out);
            out.push_str(" = ");
            value.write(out);
        }
        out.push_str(" }");
    }
}

impl Value {
    fn of_toml(value: DeValue<'_>) -> Result<Self, String> {
        Ok(match value {
            DeValue::Boolean(value) => Self::Boolean(value),
            DeValue::Integer(number) => {
                let parsed = i64::from_str_radix(number.as_str(), number.radix());
                Self::Integer(parsed.map_err(|_| format!("{number} does not fit into 64 bits"))?)
            }
            DeValue::Float(number) => {
                let parsed = number.as_str().parse::<f64>().ok().filter(|real| real.is_finite());
                Self::Real(parsed.ok_or_else(|| format!("{number} is not a finite number"))?)
            }
            DeValue::String(text) => Self::Text(text.into_owned()),
            DeValue::Datetime(time) => return Err(format!("{time} must be a text in quotes")),
            DeValue::Array(list) => {
                let each = list.into_iter().map(|one| Self::of_toml(one.into_inner()));
                Self::List(each.collect::<Result<_, _>>()?)
            }
            DeValue::Table(table) => Self::Table(ConnectorTable::of_table(table)?),
        })
    }

    fn write(&self, out: &mut String) {
        // Writing into a String doesn't fail.
        let _ = match self {
            Self::Boolean(value) => write!(out, "{value}"),
            Self::Integer(value) => write!(out, "{value}"),
            // With a point or an exponent, so that it is read back as a real.
            Self::Real(value) => write!(out, "{value:?}"),
            Self::Text(text) => {
                quote(text, out);
                Ok(())
            }
            Self::List(list) => {
                out.push('[');
                for one in list {
                    one.write(out);
                    out.push(',');
                }
                out.push(']');
                Ok(())
            }
            Self::Table(table) => {
                table.write(out);
                Ok(())
            }
        };
    }
}

/// Writes a text as TOML's basic strings are, which stand for keys as well.
fn quote(text: &str, out: &mut String) {
    out.push('"');
    for char in text.chars() {
        match char {
            '"' | '\\' => out.extend(['\\', char]),
            _ if char.is_control() => {
                let _ = write!(out, "\\u{:04X}", u32::from(char));
            }
            _ => out.push(char),
        }
    }
    out.push('"');
}

impl ConnectorConfig {
    /// Reads a table as a section of the configuration file is read. File names in it are relative to `folder`.
    ///
    /// # Errors
    /// All problems, each with its key. There are no lines: the text is this server's own.
    pub(crate) fn of_table(table: &ConnectorTable, site: &TimeZone, folder: &Path) -> Result<Self, Problems> {
        let text = table.to_toml();
        let findings = Findings::new(&text);
        let read = findings.root().map(|root| Self::read(root, site));
        let read = read.and_then(|config| findings.check().map(|()| config));
        let mut config = match read {
            Ok(Some(config)) => config,
            // Whatever is missing has been noted as a problem.
            Ok(None) => return Err(Problem::whole("it is not complete").into()),
            Err(problems) => return Err(Problems(problems.0.into_iter().map(without_place).collect())),
        };
        config.resolve(folder);
        Ok(config)
    }
}

fn without_place(problem: Problem) -> Problem {
    let field = problem.field.filter(|field| !field.is_empty());
    Problem { line: None, column: None, field, ..problem }
}

#[cfg(test)]
mod tests {
    use super::*;

    const TOML: &str = r#"
        kind = "mqtt"
        broker = "mqtt://plant"
        client_id = "a\"b\\cä"
        receive_maximum = 0x10
        [topics."z/{a}"]
        point = "z/{a}"
        scale = 1e-3
        [topics."a/{a}"]
        point = "a/{a}"
        scale = 2.0
    "#;

    fn read(table: &ConnectorTable) -> Result<ConnectorConfig, Vec<String>> {
        let read = ConnectorConfig::of_table(table, &TimeZone::UTC, Path::new("/conf"));
        read.map_err(|problems| problems.0.iter().map(ToString::to_string).collect())
    }

    #[test]
    fn a_table_is_the_same_as_toml_and_as_json_with_its_keys_in_their_order() {
        let table = ConnectorTable::of_toml(TOML).unwrap();
        let json = table.to_json();
        assert_eq!(
            json,
            r#"{"kind":"mqtt","broker":"mqtt://plant","client_id":"a\"b\\cä","receive_maximum":16,"topics":{"z/{a}":{"point":"z/{a}","scale":0.001},"a/{a}":{"point":"a/{a}","scale":2.0}}}"#
        );
        let again: ConnectorTable = serde_json::from_str(&json).unwrap();
        assert_eq!(again, table);
        assert_eq!(ConnectorTable::of_toml(&table.to_toml()).unwrap(), table);
        assert_eq!(read(&table).unwrap().kind(), "mqtt");
    }

    #[test]
    fn what_is_wrong_is_told_as_of_the_file_with_its_key() {
        let table = r#"{"kind":"mqtt","client_id":"","topics":{"a/{b}":{"point":"x","colour":1}},"user":7}"#;
        let problems = read(&serde_json::from_str(table).unwrap()).unwrap_err();
        let begins =
            ["client_id: must have", "topics.\"a/{b}\".colour: is not known", "user: must be a text"];
        for begin in begins {
            assert!(problems.iter().any(|problem| problem.starts_with(begin)), "{problems:?}");
        }
        assert!(problems.contains(&"broker: is missing".to_owned()), "{problems:?}");
        let both = r#"{"kind":"csv","path":"x","at":"at"}"#;
        let problems = read(&serde_json::from_str(both).unwrap()).unwrap_err();
        assert_eq!(problems, ["has no [….columns.NAME] with a `point`, so it would bring no readings"]);
        assert_eq!(read(&ConnectorTable::default()).unwrap_err(), ["kind: is missing"]);
    }

    #[test]
    fn files_are_relative_to_the_folder() {
        let table = r#"{"kind":"csv","path":"x.csv","at":"at","columns":{"v":{"point":"p"}}}"#;
        let config = read(&serde_json::from_str(table).unwrap()).unwrap();
        assert_eq!(config.source(), "/conf/x.csv");
    }

    #[test]
    fn tables_are_merged_and_keys_taken_out() {
        let toml = |text: &str| ConnectorTable::of_toml(text).unwrap();
        let mut table = toml("a = 1\n[t.x]\nb = 2\nc = 3\n");
        table.merge(toml("t.x.b = 4\nt.y.b = 5\nd = [1, 2.5]"));
        assert_eq!(table, toml("a = 1\nt = { x = { b = 4, c = 3 }, y = { b = 5 } }\nd = [1, 2.5]"));
        assert!(table.take_out(&toml("t.x.b = 0\nd = 0")));
        assert_eq!(table, toml("a = 1\nt = { x = { c = 3 }, y = { b = 5 } }"));
        assert!(!table.take_out(&toml("t.z.b = 0")) && !table.take_out(&toml("a.b = 0")));
        assert_eq!(table.into_inner(&["t", "y"]), Some(toml("b = 5")));
    }

    #[test]
    fn texts_of_any_characters_come_back() {
        for text in ["", "\"\\\n\t\r\u{0}\u{7f}\u{85}ä\u{10ffff}", "a = b # c"] {
            let table = ConnectorTable(vec![(text.to_owned(), Value::Text(text.to_owned()))]);
            assert_eq!(ConnectorTable::of_toml(&table.to_toml()).unwrap(), table, "{text:?}");
        }
    }

    #[test]
    fn what_a_section_cant_have_is_refused() {
        let json = |text: &str| serde_json::from_str::<ConnectorTable>(text).unwrap_err().to_string();
        assert!(json("{\"a\":null}").contains("leave the key out"), "{}", json("{\"a\":null}"));
        assert!(json("{\"a\":1,\"a\":2}").contains("\"a\" is there twice"));
        assert!(json("{\"a\":18446744073709551615}").contains("64 bits"));
        assert!(json("[1]").contains("a table of keys"));
        let toml = |text: &str| ConnectorTable::of_toml(text).unwrap_err();
        assert!(toml("a = 2026-01-01").contains("must be a text in quotes"));
        assert!(toml("a = inf").contains("finite"));
        assert!(toml("a = ").contains("line 1"), "{}", toml("a = "));
        // No depth ends the process.
        let deep = format!("{}1{}", "{\"a\":".repeat(100), "}".repeat(100));
        let deep: ConnectorTable = serde_json::from_str(&deep).unwrap();
        assert!(read(&deep).is_err());
    }
}
