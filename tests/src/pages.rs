//! Pages of the documentation: their blocks, what is to be done with each, and outputs with `…` in them.
//!
//! A comment before a block says what it is:
//!
//! | comment | meaning |
//! | --- | --- |
//! | `<!-- given: thermometer -->` | of the page: a package of the first sample app lies in its folder |
//! | `<!-- given: rooms -->` | of the page: it is installed as `rooms`, besides, and has taken two readings |
//! | `<!-- file: NAME -->` | the block is the file of this name |
//! | `<!-- append: NAME -->` | the block stands at the end of this file |
//! | `<!-- change: NAME -->` | the block is a difference of this file, with `-`, `+` and blanks before its lines |
//! | `<!-- exits with N -->` | the exit code of the block's last command |
//! | `<!-- not run: REASON -->` | the block is for reading only |

use std::collections::BTreeSet;
use std::fs;
use std::path::{Path, PathBuf};

use anyhow::{Context as _, Result, bail, ensure};

/// A page, by its path from the root of the project.
#[derive(Debug)]
pub struct Page {
    pub path: String,
    pub text: String,
    /// The packages and installations that are there from the beginning.
    pub given: BTreeSet<String>,
    pub blocks: Vec<Block>,
}

/// A block between two fences.
#[derive(Debug, Default, PartialEq, Eq)]
pub struct Block {
    /// The number of its first fence's line, from 1.
    pub line: usize,
    /// The first word behind the fence.
    pub language: String,
    pub text: String,
    pub does: Does,
    /// The exit code of its last command.
    pub exit: i32,
}

/// The use of a block.
#[derive(Debug, Default, PartialEq, Eq)]
pub enum Does {
    /// As its language says.
    #[default]
    Run,
    Write(String),
    Append(String),
    Change(String),
    /// Nothing, for this reason.
    Show(String),
}

/// A command of a block, and the lines that it prints.
#[derive(Debug, PartialEq, Eq)]
pub struct Command {
    pub line: usize,
    pub text: String,
    pub prints: Vec<String>,
}

/// All Markdown files below a folder.
pub fn below(folder: &Path) -> Result<Vec<PathBuf>> {
    let mut found = Vec::new();
    for entry in fs::read_dir(folder).with_context(|| folder.display().to_string())? {
        let path = entry?.path();
        if path.is_dir() {
            found.extend(below(&path)?);
        } else if path.extension().is_some_and(|extension| extension == "md") {
            found.push(path);
        }
    }
    found.sort();
    Ok(found)
}

impl Page {
    /// Reads a page of the project in `root`.
    pub fn read(root: &Path, path: &str) -> Result<Self> {
        let text = fs::read_to_string(root.join(path)).with_context(|| path.to_owned())?;
        Self::parse(path, text).with_context(|| path.to_owned())
    }

    fn parse(path: &str, text: String) -> Result<Self> {
        let mut page =
            Self { path: path.to_owned(), text: String::new(), given: BTreeSet::new(), blocks: Vec::new() };
        let mut next = Block::default();
        let mut lines = text.lines().zip(1..);
        while let Some((line, number)) = lines.next() {
            let indent = line.len() - line.trim_start().len();
            if let Some(language) = line.trim_start().strip_prefix("```") {
                next.line = number;
                next.language = language.split(',').next().unwrap_or_default().to_owned();
                let inner = lines.by_ref().map(|(line, _)| line).take_while(|line| line.trim() != "```");
                next.text =
                    inner.map(|line| format!("{}\n", line.get(indent..).unwrap_or_default())).collect();
                page.blocks.push(std::mem::take(&mut next));
                continue;
            }
            let comment = line.trim().strip_prefix("<!-- ").and_then(|rest| rest.strip_suffix(" -->"));
            let Some(comment) = comment.filter(|comment| !comment.starts_with("ANCHOR")) else { continue };
            let (what, of) = comment.split_once(": ").unwrap_or((comment, ""));
            match what {
                "given" => _ = page.given.insert(of.to_owned()),
                "file" => next.does = Does::Write(of.to_owned()),
                "append" => next.does = Does::Append(of.to_owned()),
                "change" => next.does = Does::Change(of.to_owned()),
                "not run" => next.does = Does::Show(of.to_owned()),
                _ => match what.strip_prefix("exits with ") {
                    Some(code) => {
                        next.exit = code.parse().with_context(|| format!("line {number}: {comment}"))?
                    }
                    None => bail!("line {number}: nothing is known of the comment {comment:?}"),
                },
            }
        }
        page.text = text;
        Ok(page)
    }
}

impl Block {
    /// The commands of a block `console`, each behind `$ `.
    pub fn commands(&self) -> Result<Vec<Command>> {
        let mut commands: Vec<Command> = Vec::new();
        for (line, number) in self.text.lines().zip(self.line + 1..) {
            match (line.strip_prefix("$ "), commands.last_mut()) {
                (Some(text), _) => {
                    commands.push(Command { line: number, text: text.to_owned(), prints: Vec::new() });
                }
                (None, Some(command)) => command.prints.push(line.to_owned()),
                (None, None) => bail!("line {number}: an output stands before any command"),
            }
        }
        Ok(commands)
    }

    /// Changes a text by the difference that the block is.
    pub fn change(&self, text: &str) -> Result<String> {
        let of = |left_out: char| -> String {
            let lines = self.text.lines().filter(|line| !line.starts_with(left_out));
            lines.map(|line| format!("{}\n", line.get(1..).unwrap_or_default())).collect()
        };
        let (before, after) = (of('+'), of('-'));
        let found = text.matches(&before).count();
        ensure!(found == 1, "line {}: the file has this {found} times:\n{before}", self.line);
        Ok(text.replace(&before, &after))
    }
}

/// Returns whether lines are as expected: `…` stands for any text within a line, and alone for any lines. Blanks count as one, since
/// the widths of a table's columns follow what is in them.
pub fn fits(expected: &[String], found: &[&str]) -> bool {
    match (expected.split_first(), found.split_first()) {
        (None, None) => true,
        (Some((first, rest)), _) if first.trim() == "…" => {
            fits(rest, found) || found.split_first().is_some_and(|(_, later)| fits(expected, later))
        }
        (Some((first, rest)), Some((line, later))) => fits_line(first, line) && fits(rest, later),
        (Some(_), None) | (None, Some(_)) => false,
    }
}

fn fits_line(expected: &str, found: &str) -> bool {
    let even = |text: &str| text.split_whitespace().collect::<Vec<_>>().join(" ");
    let (expected, found) = (even(expected), even(found));
    let mut parts = expected.split('…').map(str::trim);
    let Some(mut rest) = parts.next().and_then(|first| found.strip_prefix(first)) else { return false };
    let mut parts: Vec<&str> = parts.collect();
    let Some(last) = parts.pop() else { return rest.is_empty() };
    for part in parts {
        let Some(place) = rest.find(part) else { return false };
        rest = &rest[place + part.len()..];
    }
    rest.ends_with(last)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn blocks_are_found_with_what_is_to_be_done() {
        let text = "<!-- given: rooms -->\n# Page\n\n<!-- file: a.toml -->\n```toml\nx = 1\n```\n\n<!-- exits with 2 -->\n\
                    ```console\n$ ironloom weave\nerror: …\n$ next\n```\n\n- in a list\n  ```rust,ignore\n  fn f() {\n      g()\n  }\n  ```\n";
        let page = Page::parse("p.md", text.to_owned()).unwrap();
        assert_eq!(page.given, BTreeSet::from(["rooms".to_owned()]));
        let [file, console, rust] = &page.blocks[..] else { panic!("{:?}", page.blocks) };
        assert_eq!((file.line, &*file.text, &file.does), (5, "x = 1\n", &Does::Write("a.toml".to_owned())));
        assert_eq!((console.exit, &console.does), (2, &Does::Run));
        let commands = console.commands().unwrap();
        assert_eq!((commands[0].line, &*commands[0].text), (11, "ironloom weave"));
        assert_eq!(commands[0].prints, ["error: …"]);
        assert_eq!((&*rust.language, &*rust.text, rust.exit), ("rust", "fn f() {\n    g()\n}\n", 0));
        assert!(Page::parse("p.md", "<!-- gvien: rooms -->".to_owned()).is_err());
    }

    #[test]
    fn outputs_fit_with_their_gaps_and_not_otherwise() {
        let fits = |expected: &str, found: &str| {
            let expected: Vec<String> = expected.lines().map(str::to_owned).collect();
            super::fits(&expected, &found.lines().collect::<Vec<_>>())
        };
        assert!(fits("a  b", "a b") && !fits("a b", "a c") && !fits("ab", "a b"));
        assert!(fits("1 … 31.5 … /attic", "1 2026-11 attic 31.5 good apps/rooms/attic"));
        assert!(!fits("1 … 31.5 … /cellar", "1 2026-11 attic 31.5 good apps/rooms/attic"));
        assert!(
            fits("…\nlast", "first\nsecond\nlast") && fits("…\nlast", "last") && !fits("…\nlast", "first")
        );
        assert!(fits("first\n…", "first") && !fits("first", "first\nsecond"));
        assert!(
            fits("{…\"id\":\"x\"…}", "{\"a\":1,\"id\":\"x\",\"b\":2}")
                && !fits("{…\"id\":\"y\"…}", "{\"id\":\"x\"}")
        );
    }

    #[test]
    fn a_difference_changes_the_one_place_that_it_fits() {
        let block = Block { text: " a\n-b\n+c\n+d\n".to_owned(), ..Block::default() };
        assert_eq!(block.change("x\na\nb\ny\n").unwrap(), "x\na\nc\nd\ny\n");
        assert!(block.change("a\nb\na\nb\n").is_err(), "it fits twice");
        assert!(block.change("a\n").is_err());
    }
}
