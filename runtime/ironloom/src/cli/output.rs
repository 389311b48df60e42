//! The output of commands: tables that read well in a terminal and in a log, or the API's own JSON.

use std::io::{self, IsTerminal as _, Write as _};
use std::path::Path;

use comfy_table::{ColumnConstraint, Table, Width, presets};
use serde::de::DeserializeOwned;

use super::Global;
use super::client::Answer;
use super::failure::{Failure, Outcome};
use crate::api::facade::{Page, ReadingItem};
use ironloom_types::ids::Digest;
use ironloom_types::text::{clean, clean_json, clean_lines};

/// Spaces between two columns.
const GAP: u16 = 2;
/// The most characters of a cell on a terminal, so that one long text doesn't spoil a table.
const MAX_SEEN: usize = 60;
/// The most of the last one in a row.
const MAX_LAST: usize = 200;
/// The most where a program reads them, and lines may be long. All rows are as wide as the widest.
const MAX_READ: usize = 4_096;

/// Prints text on stdout. A reader that has gone, as with `| head`, ends the command quietly.
pub(super) fn print(text: &str) -> Outcome {
    plainly(text.as_bytes())
}

fn plainly(bytes: &[u8]) -> Outcome {
    let mut out = io::stdout().lock();
    match out.write_all(bytes).and_then(|()| out.flush()) {
        Err(error) if error.kind() == io::ErrorKind::BrokenPipe => Err(Failure::ReaderGone),
        other => Ok(other?),
    }
}

/// Prints bytes as they are; on a terminal text, in which what could steer it is escaped.
pub(super) fn bytes(bytes: &[u8]) -> Outcome {
    if is_terminal() {
        return print(&format!("{}\n", clean_lines(&String::from_utf8_lossy(bytes))));
    }
    plainly(bytes)
}

/// Prints the API's JSON, with a line feed at its end.
pub(super) fn json(answer: &Answer) -> Outcome {
    let line_feed = if answer.text.is_empty() || answer.text.ends_with('\n') { "" } else { "\n" };
    json_text(&format!("{}{line_feed}", answer.text))
}

/// Prints JSON; on a terminal what could steer it is escaped.
pub(super) fn json_text(text: &str) -> Outcome {
    if is_terminal() { print(&clean_json(text)) } else { print(text) }
}

/// Prints a text, or with `--json` a value.
pub(super) fn print_or_json(
    global: &Global,
    text: &str,
    json: impl FnOnce() -> serde_json::Value,
) -> Outcome {
    if global.json { json_text(&format!("{}\n", json())) } else { print(text) }
}

/// Prints lines as the server wrote them; on a terminal what could steer it is escaped.
pub(super) fn lines(text: &str) -> Outcome {
    if is_terminal() { print(&clean_lines(text)) } else { print(text) }
}

fn is_terminal() -> bool {
    io::stdout().is_terminal()
}

/// Says something beside the result, in one line: on stderr, so that stdout holds the result alone.
pub(super) fn note(text: &str) {
    let _ = writeln!(io::stderr(), "{}", clean(text));
}

/// Refuses to write over a file.
pub(super) fn check_new(file: &Path) -> Outcome {
    if file.exists() {
        return Err(Failure::Misuse(format!("{} is there already; name a new file", file.display())));
    }
    Ok(())
}

/// Says why the command failed.
pub(super) fn failed(failure: &Failure) {
    // Each part was cleaned when the text was put together.
    let _ = writeln!(io::stderr(), "{failure}");
}

/// Whether somebody watches stderr.
pub(super) fn is_watched() -> bool {
    io::stderr().is_terminal()
}

/// Columns without lines between them: as wide as their content, whatever the terminal.
pub(super) fn table<R: IntoIterator<Item = String>>(
    header: &[&str],
    rows: impl IntoIterator<Item = R>,
) -> String {
    part(header, rows, &mut Vec::new())
}

/// A part of a table that is printed as it comes. Its columns are as wide as those of the parts before, whose widths these
/// are, or wider.
pub(super) fn part<R: IntoIterator<Item = String>>(
    header: &[&str],
    rows: impl IntoIterator<Item = R>,
    widths: &mut Vec<u16>,
) -> String {
    let mut table = Table::new();
    table.load_style(presets::NOTHING);
    if !header.is_empty() {
        table.set_header(header.iter().map(|name| name.to_uppercase()));
    }
    for row in rows {
        table.add_row(row.into_iter().map(|cell| clean(&cell).into_owned()));
    }
    let content = table.column_max_content_widths();
    widths.resize(content.len(), 0);
    for (column, (width, content)) in table.column_iter_mut().zip(widths.iter_mut().zip(content)) {
        // One that is very long doesn't widen all that come later.
        *width = content.min(MAX_SEEN as u16).max(*width);
        column.set_padding((0, GAP));
        column.set_constraint(ColumnConstraint::LowerBoundary(Width::Fixed(*width + GAP)));
    }
    let lines: Vec<String> = table.lines().map(|line| line.trim_end().to_owned()).collect();
    lines.join("\n") + "\n"
}

/// Fetches a page and prints it as a table.
pub(super) fn list<T: DeserializeOwned, R: IntoIterator<Item = String>>(
    global: &Global,
    path: &str,
    query: super::client::Query<'_>,
    header: &[&str],
    row: impl Fn(T) -> R,
) -> Outcome {
    list_from(global, path, query, header, row, str::to_owned)
}

/// The same, with the place where the next page begins written as `--after` takes it.
pub(super) fn list_from<T: DeserializeOwned, R: IntoIterator<Item = String>>(
    global: &Global,
    path: &str,
    query: super::client::Query<'_>,
    header: &[&str],
    row: impl Fn(T) -> R,
    shown: impl Fn(&str) -> String,
) -> Outcome {
    let answer = global.client()?.get(path, query)?;
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
        note(&format!("there is more: --after {}", shown(&next)));
    }
    Ok(())
}

/// The columns of readings.
pub(super) const READING: [&str; 6] = ["sequence", "time", "point", "value", "quality", "at"];

/// A reading as a row of them.
pub(super) fn reading(item: ReadingItem) -> [String; 6] {
    let quality = item.quality.name().to_owned();
    let numbers = (item.sequence.to_string(), item.time.to_string(), item.at.to_string());
    [numbers.0, numbers.1, item.point.to_string(), shorten(&item.value.to_string()), quality, numbers.2]
}

/// A text as a cell has it: cut on a terminal.
pub(super) fn shorten(text: &str) -> String {
    cut(text, if is_terminal() { MAX_SEEN } else { MAX_READ })
}

/// The same for a text that is the last one of its row.
pub(super) fn shorten_last(text: &str) -> String {
    ironloom_types::text::shorten(text, if is_terminal() { MAX_LAST } else { MAX_READ }).into_owned()
}

/// At most so many characters. Quotes around it are closed, and a digest in them stays whole: other commands take it.
fn cut(text: &str, most: usize) -> String {
    match text.strip_prefix('"').and_then(|text| text.strip_suffix('"')) {
        Some(digest) if digest.parse::<Digest>().is_ok() => text.to_owned(),
        Some(quoted) => {
            format!("\"{}\"", ironloom_types::text::shorten(quoted, most.saturating_sub(2)))
        }
        None => ironloom_types::text::shorten(text, most).into_owned(),
    }
}

/// Says what was done, if the answer has nothing to show.
pub(super) fn done(global: &Global, text: &str) -> Outcome {
    if !global.json {
        note(text);
    }
    Ok(())
}

/// Says that something was done, or with `--json` what the server has answered.
pub(super) fn done_with(global: &Global, answer: &Answer, text: &str) -> Outcome {
    if global.json { json(answer) } else { done(global, text) }
}

/// Does something to each of several. What fails is told, and the rest goes on.
pub(super) fn each<T>(all: Vec<T>, act: impl Fn(&T) -> Outcome) -> Outcome {
    let mut last = None;
    for one in &all {
        match act(one) {
            Ok(()) => {}
            Err(failure @ Failure::Refused(_)) => {
                if let Some(before) = last.replace(failure) {
                    failed(&before);
                }
            }
            Err(failure) => return Err(failure),
        }
    }
    last.map_or(Ok(()), Err)
}

/// A number of things: `1 reading`, `2 readings`.
pub(super) fn counted(count: u64, thing: &str) -> String {
    if count == 1 { format!("1 {thing}") } else { format!("{count} {thing}s") }
}

/// Reads one thing.
pub(super) fn one<T: DeserializeOwned>(
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
    }

    #[test]
    fn parts_of_a_table_stay_in_line() {
        let rows = |texts: [&str; 2]| [texts.map(str::to_owned)];
        let mut widths = Vec::new();
        let mut all = part(&["name", "n"], rows(["longer", "1"]), &mut widths);
        all.push_str(&part(&[], rows(["a", "2"]), &mut widths));
        all.push_str(&part(&[], rows(["longest", "3"]), &mut widths));
        all.push_str(&part(&[], rows(["b", "4"]), &mut widths));
        assert_eq!(all, "NAME    N\nlonger  1\na       2\nlongest  3\nb        4\n");
    }

    #[test]
    fn quotes_are_closed_and_a_digest_is_whole() {
        let quoted = |text: &str| format!("\"{text}\"");
        assert_eq!(cut(&"x".repeat(61), 60), format!("{}…", "x".repeat(60)));
        assert_eq!(cut(&quoted(&"x".repeat(58)), 60), quoted(&"x".repeat(58)));
        assert_eq!(cut(&quoted(&"x".repeat(59)), 60), quoted(&format!("{}…", "x".repeat(58))));
        let digest = quoted(&format!("sha256:{}", "0a".repeat(32)));
        assert_eq!(cut(&digest, 60), digest);
        assert_eq!(cut("\"", 60), "\"");
    }

    #[test]
    fn json_on_a_terminal_says_the_same_and_steers_nothing() {
        let value = serde_json::json!({"key": "a\u{9b}2J\u{202e}b\u{e0041} ä", "next": "\u{1b}"});
        let text = format!("{value}\n");
        let cleaned = clean_json(&text);
        assert_eq!(serde_json::from_str::<serde_json::Value>(&cleaned).unwrap(), value);
        assert_eq!(clean_lines(&cleaned), cleaned);
        assert!(cleaned.contains("\\u009b") && cleaned.contains("ä"), "{cleaned}");
    }
}
