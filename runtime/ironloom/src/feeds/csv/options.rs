//! Options of the CSV connector for a feed that brings none, from the file's header and the app's inputs.

use std::fs::File;
use std::io::{BufRead as _, BufReader, Read as _};
use std::path::Path;

use toml::{Table, Value};

use super::super::{FeedError, check_file};
use crate::api::facade::PackageInfo;
use ironloom_types::text::shorten;

/// The names of columns with a time, in small letters.
const TIMES: [&str; 5] = ["at", "time", "timestamp", "datetime", "date"];
/// The longest header.
const MAX_HEADER: u64 = 1 << 20;
/// Characters of columns' names in an error.
const NAMES: usize = 500;

/// The options of a CSV file, as far as they were given.
#[derive(Clone, Debug, Default)]
pub(crate) struct CsvOptions {
    /// The keys of `[connectors.NAME]`.
    pub table: Table,
    /// The column with the time.
    pub at: Option<String>,
    /// Columns with the points that their cells become.
    pub columns: Vec<(String, String)>,
    /// Columns that say whose reading a line has.
    pub by: Vec<String>,
}

impl CsvOptions {
    /// All options: where they name no columns, those that are named like inputs of the app.
    ///
    /// # Errors
    /// A sentence that names the columns there are.
    pub(crate) fn complete(&self, path: &Path, package: &PackageInfo) -> Result<Table, FeedError> {
        check_file(path)?;
        let mut table = self.table.clone();
        let header = header(path, &table)?;
        let wrong = |problem: String| FeedError::File(format!("{}: {problem}", path.display()));
        if let Some(at) = &self.at {
            table.insert("at".to_owned(), named(&header, at).unwrap_or(at).into());
        } else if !table.contains_key("at") {
            let found = TIMES
                .iter()
                .find_map(|name| header.iter().find(|column| column.trim().to_lowercase() == *name));
            let at = found.ok_or_else(|| {
                wrong(format!(
                    "no column is named like a time; say which one is, such as --at COLUMN{}",
                    list(&header)
                ))
            })?;
            table.insert("at".to_owned(), at.clone().into());
        }
        if self.columns.is_empty() && table.contains_key("columns") {
            return Ok(table);
        }
        let mappings: Vec<(String, String)> = match &self.columns[..] {
            [] => self.by_name(&header, &table, package).map_err(wrong)?,
            given => given.to_vec(),
        };
        let columns = mappings.into_iter().map(|(column, point)| {
            let mapping = mapping(&point, package);
            (named(&header, &column).map_or(column.clone(), str::to_owned), Value::Table(mapping))
        });
        table.insert("columns".to_owned(), Value::Table(columns.collect()));
        Ok(table)
    }

    /// A point for each column that is named like an input, under what the columns of `by` say.
    fn by_name(
        &self,
        header: &[String],
        table: &Table,
        package: &PackageInfo,
    ) -> Result<Vec<(String, String)>, String> {
        let input_of = |column: &str| {
            let name = column.trim().to_lowercase().replace([' ', '_'], "-");
            package.inputs.keys().find(|input| **input == name)
        };
        let inputs: Vec<(&String, &String)> =
            header.iter().filter_map(|column| Some((column, input_of(column)?))).collect();
        if inputs.is_empty() {
            let names: Vec<&str> = package.inputs.keys().map(String::as_str).collect();
            return Err(format!(
                "no column is named like an input of the app ({}); say which point a column becomes, such as --column \
                 COLUMN=site/{{OTHER}}/{}{}",
                some(&names),
                names.first().copied().unwrap_or("value"),
                list(header)
            ));
        }
        let at = table.get("at").and_then(Value::as_str);
        let others: Vec<&String> = header
            .iter()
            .filter(|column| input_of(column).is_none() && Some(column.as_str()) != at)
            .collect();
        let column =
            |by: &String| named(header, by).ok_or_else(|| format!("has no column {by:?}{}", list(header)));
        let by = self.by.iter().map(column).collect::<Result<Vec<&str>, String>>()?;
        if self.by.is_empty() && !others.is_empty() {
            let all: Vec<&str> = others.iter().map(|column| column.trim()).collect();
            return Err(format!(
                "say which columns tell whose reading a line has, such as --by {}; there are {}. Where none does, say which \
                 point a column becomes, such as --column {}=site/{}",
                shorten(all[0], NAMES),
                some(&all),
                inputs[0].0.trim(),
                inputs[0].1
            ));
        }
        let before: String = by.iter().map(|column| format!("{{{column}}}/")).collect();
        Ok(inputs.into_iter().map(|(column, input)| (column.clone(), format!("{before}{input}"))).collect())
    }
}

/// The type and unit of the input that a point's last segment names, if one does.
fn mapping(point: &str, package: &PackageInfo) -> Table {
    let mut mapping = Table::from_iter([("point".to_owned(), Value::from(point))]);
    let input = point.rsplit('/').next().and_then(|name| package.inputs.get(name));
    if let Some(input) = input {
        mapping.insert("type".to_owned(), input.r#type.clone().into());
        if let Some(unit) = &input.unit {
            mapping.insert("unit".to_owned(), unit.clone().into());
        }
    }
    mapping
}

fn list(header: &[String]) -> String {
    let columns: Vec<&str> = header.iter().map(|column| column.trim()).collect();
    format!(". Its columns are {}", some(&columns))
}

/// Names for a person, as far as a sentence can have them.
fn some(names: &[&str]) -> String {
    shorten(&names.join(", "), NAMES).into_owned()
}

/// A column as the header has it, which may have blanks after its commas. One of just this name goes first.
fn named<'h>(header: &'h [String], name: &str) -> Option<&'h str> {
    let same = header.iter().find(|column| *column == name);
    same.or_else(|| header.iter().find(|column| column.trim() == name.trim())).map(String::as_str)
}

/// The names in the file's first line, as they stand there: the connector goes by them.
fn header(path: &Path, table: &Table) -> Result<Vec<String>, FeedError> {
    let wrong = |problem: &dyn std::fmt::Display| {
        FeedError::File(format!("{} can't be read: {problem}", path.display()))
    };
    let file = File::open(path).map_err(|error| wrong(&error))?;
    let mut line = String::new();
    BufReader::new(file).take(MAX_HEADER).read_line(&mut line).map_err(|error| wrong(&error))?;
    let delimiter = table.get("delimiter").and_then(Value::as_str).and_then(|text| text.bytes().next());
    let line = line.trim_start_matches('\u{feff}');
    let mut reader =
        csv::ReaderBuilder::new().delimiter(delimiter.unwrap_or(b',')).from_reader(line.as_bytes());
    let header = reader.headers().map_err(|error| wrong(&error))?;
    Ok(header.iter().map(str::to_owned).collect())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_error_names_some_of_many_columns() {
        let few = ["a".to_owned(), " b".to_owned()];
        assert_eq!(list(&few), ". Its columns are a, b");
        let many: Vec<String> = (0..100_001).map(|number| format!("c{number:05}")).collect();
        let said = list(&many);
        // A comma and a space between names of six characters each: 62 of them and 4 characters more.
        assert!(said.starts_with(". Its columns are c00000, c00001, "), "{said}");
        assert!(said.ends_with(", c00061, c000…"), "{said}");
    }
}
