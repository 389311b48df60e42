//! What commands print: tables that read well in a terminal and in a log, or the API's own JSON.

use std::io::{self, Write as _};

use comfy_table::{Table, presets};
use serde::de::DeserializeOwned;

use super::Global;
use super::client::{Answer, Client};
use super::failure::{Failure, Outcome};
use crate::api::facade::{Page, ReadingItem};

/// Prints text on stdout. A reader that has gone, as with `| head`, ends the command quietly.
pub fn print(text: &str) -> Outcome {
    let mut out = io::stdout().lock();
    match out.write_all(text.as_bytes()).and_then(|()| out.flush()) {
        Err(error) if error.kind() == io::ErrorKind::BrokenPipe => Ok(()),
        other => Ok(other?),
    }
}

/// Prints the API's JSON, with a line feed at its end.
pub fn json(answer: &Answer) -> Outcome {
    let line_feed = if answer.text.is_empty() || answer.text.ends_with('\n') { "" } else { "\n" };
    print(&format!("{}{line_feed}", answer.text))
}

/// Says something beside the result: on stderr, so that stdout holds the result alone.
pub fn note(text: &str) {
    let _ = writeln!(io::stderr(), "{text}");
}

/// Columns without lines between them: as wide as their content, whatever the terminal.
pub fn table<R: IntoIterator<Item = String>>(header: &[&str], rows: impl IntoIterator<Item = R>) -> String {
    let mut table = Table::new();
    table.load_style(presets::NOTHING);
    table.set_header(header.iter().map(|name| name.to_uppercase()));
    for row in rows {
        table.add_row(row.into_iter().map(|cell| clean(&cell)));
    }
    for column in table.column_iter_mut() {
        column.set_padding((0, 2));
    }
    let lines: Vec<String> = table.lines().map(|line| line.trim_end().to_owned()).collect();
    lines.join("\n") + "\n"
}

/// What comes from apps can't steer the terminal: control characters are shown escaped.
pub fn clean(text: &str) -> String {
    if !text.chars().any(char::is_control) {
        return text.to_owned();
    }
    text.chars()
        .map(|c| if c.is_control() { c.escape_default().to_string() } else { c.to_string() })
        .collect()
}

/// Fetches a page and prints it as a table.
pub fn list<T: DeserializeOwned, R: IntoIterator<Item = String>>(
    global: &Global,
    path: &str,
    query: super::client::Query<'_>,
    header: &[&str],
    row: impl Fn(T) -> R,
) -> Outcome {
    let answer = Client::new(&global.url).get(path, query)?;
    if global.json {
        return json(&answer);
    }
    let page: Page<T> = answer.read()?;
    if page.items.is_empty() && page.next.is_none() {
        note("nothing found");
        return Ok(());
    }
    print(&table(header, page.items.into_iter().map(row)))?;
    if let Some(next) = page.next {
        note(&format!("there is more: --after {next}"));
    }
    Ok(())
}

/// The columns of readings.
pub const READING: [&str; 6] = ["sequence", "time", "point", "value", "quality", "at"];

/// A reading as a row of them.
pub fn reading(item: ReadingItem) -> [String; 6] {
    let quality = quality(item.quality).to_owned();
    let numbers = (item.sequence.to_string(), item.time.to_string(), item.at.to_string());
    [numbers.0, numbers.1, item.point.to_string(), shorten(&item.value.to_string()), quality, numbers.2]
}

/// The word for a quality.
pub fn quality(quality: ironloom_types::readings::Quality) -> &'static str {
    match quality {
        ironloom_types::readings::Quality::Good => "good",
        ironloom_types::readings::Quality::Uncertain => "uncertain",
        ironloom_types::readings::Quality::Bad => "bad",
    }
}

/// At most 60 characters, so that one long text doesn't spoil a table.
pub fn shorten(text: &str) -> String {
    match text.char_indices().nth(60) {
        Some((end, _)) => format!("{}…", &text[..end]),
        None => text.to_owned(),
    }
}

/// What was done, where the answer has nothing to show.
pub fn done(global: &Global, text: &str) -> Outcome {
    if !global.json {
        note(text);
    }
    Ok(())
}

/// Reads one thing.
pub fn one<T: DeserializeOwned>(
    global: &Global,
    answer: &Answer,
    show: impl Fn(T) -> String,
) -> Result<(), Failure> {
    if global.json { json(answer) } else { print(&show(answer.read()?)) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn tables_are_plain_and_cells_cant_steer_the_terminal() {
        let rows = [["a", "1"], ["longer\u{1b}[31m", "2"]].map(|row| row.map(str::to_owned));
        insta::assert_snapshot!(table(&["name", "n"], rows));
        assert_eq!(shorten(&"x".repeat(61)), format!("{}…", "x".repeat(60)));
    }
}
