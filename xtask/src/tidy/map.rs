//! The map of `ARCHITECTURE.md` held against the files: neither lacks any of the other.
//!
//! A table whose header begins with a folder in `code` maps this folder, as `log/` maps `runtime/storage/src/log/`.
//! The first cell of a row names files and folders of it. Files of a folder that a row names stand in the row's
//! second cell, by their names without `.rs`.

use std::collections::BTreeSet;

use super::files::File;
use super::rust::is_test;
use super::{ARCHITECTURE, Finding, Rule};

/// Crates that stand in a path of the page; one without any of them is in the crate `ironloom`.
const CRATES: &[&str] = &["types", "trust", "apps", "storage", "sandbox"];

/// Checks all sources of the runtime.
pub(super) fn check(files: &[File], architecture: &str) -> Vec<Finding> {
    let sources: BTreeSet<&str> =
        files.iter().map(|file| file.path.as_str()).filter(|path| is_source(path)).collect();
    let finding = |path: &str, line, text| Finding { path: path.to_owned(), line, rule: Rule::Map, text };
    let mapped = mapped(architecture);
    let names: BTreeSet<&str> = mapped.iter().map(|(_, path)| path.as_str()).collect();
    let mut findings = Vec::new();
    for source in sources.iter().filter(|source| !is_test(source) && !names.contains(*source)) {
        findings.push(finding(source, 0, format!("the map of {ARCHITECTURE} lacks this file")));
    }
    for (line, path) in &mapped {
        if !sources.contains(path.as_str()) {
            findings.push(finding(
                ARCHITECTURE,
                *line,
                format!("the map names {path}, which does not exist"),
            ));
        }
    }
    for (line, path) in mentioned(architecture) {
        if !sources.contains(path.as_str()) {
            findings.push(finding(
                ARCHITECTURE,
                line,
                format!("the text names {path}, which does not exist"),
            ));
        }
    }
    findings
}

fn is_source(path: &str) -> bool {
    path.starts_with("runtime/") && path.contains("/src/") && path.ends_with(".rs")
}

/// Where a path of the page is in the project.
fn in_project(path: &str) -> String {
    let path = path.strip_prefix("./").unwrap_or(path);
    let (first, rest) = path.split_once('/').unwrap_or((path, ""));
    if CRATES.contains(&first) {
        format!("runtime/{first}/src/{rest}")
    } else {
        format!("runtime/ironloom/src/{path}")
    }
}

/// What stands in `code` within a text.
fn codes(text: &str) -> impl Iterator<Item = &str> {
    text.split('`').skip(1).step_by(2)
}

/// The files on the map, with the lines that name them.
fn mapped(architecture: &str) -> Vec<(usize, String)> {
    let mut files = Vec::new();
    let mut folder: Option<String> = None;
    let mut previous = "";
    for (number, line) in architecture.lines().enumerate() {
        let is_header = line.starts_with('|') && !previous.starts_with('|');
        previous = line;
        if !line.starts_with('|') {
            folder = None;
            continue;
        }
        if is_header {
            folder = folder_of(line);
            continue;
        }
        let mut cells = line.trim_matches('|').split('|');
        let (first, second) = (cells.next().unwrap_or_default(), cells.next().unwrap_or_default());
        let Some(folder) = &folder else { continue };
        for name in codes(first) {
            if !name.ends_with('/') {
                files.push((number + 1, format!("{folder}{name}")));
                continue;
            }
            // Names of one word; others are of what the files are about.
            for stem in codes(second).filter(|stem| is_stem(stem)) {
                files.push((number + 1, format!("{folder}{name}{stem}.rs")));
            }
        }
    }
    files
}

/// The folder that a table with this header maps.
fn folder_of(header: &str) -> Option<String> {
    let first = header.trim_matches('|').split('|').next().unwrap_or_default();
    codes(first).next().filter(|name| name.ends_with('/')).map(in_project)
}

fn is_stem(name: &str) -> bool {
    name.chars().all(|letter| letter.is_ascii_lowercase() || letter == '_' || letter == '-')
}

/// Whole paths of files in the text, and in tables that aren't maps.
fn mentioned(architecture: &str) -> Vec<(usize, String)> {
    let (mut in_table, mut in_map) = (false, false);
    let lines = architecture.lines().enumerate().filter(|(_, line)| {
        let was_in_table = std::mem::replace(&mut in_table, line.starts_with('|'));
        if !was_in_table {
            in_map = in_table && folder_of(line).is_some();
        }
        !(in_table && in_map)
    });
    lines
        .flat_map(|(number, line)| codes(line).map(move |code| (number + 1, code)))
        .filter(|(_, code)| code.ends_with(".rs") && code.contains('/') && !code.starts_with("runtime/"))
        .map(|(number, code)| (number, in_project(code)))
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    const PAGE: &str = "\
`fold/run.rs` has the thread.

| `storage/log/` | the log |
| --- | --- |
| `mod.rs`, `frame.rs` | the order; **format** of a `Record` |
| `disks/` | one file for each: `real`, `slow` |

| `./` | the rest |
| --- | --- |
| `main.rs` | the program |

| deed | files |
| --- | --- |
| it runs | `main.rs`, `fold/run.rs`, `storage/log/disks/slow.rs` |
";

    fn files(paths: &[&str]) -> Vec<File> {
        paths.iter().map(|path| File { path: (*path).to_owned(), bytes: 0, text: None }).collect()
    }

    const ALL: [&str; 6] = [
        "runtime/storage/src/log/mod.rs",
        "runtime/storage/src/log/frame.rs",
        "runtime/storage/src/log/disks/real.rs",
        "runtime/storage/src/log/disks/slow.rs",
        "runtime/ironloom/src/main.rs",
        "runtime/ironloom/src/fold/run.rs",
    ];

    #[test]
    fn a_file_that_the_map_lacks_is_found() {
        // The text names it, but no table does.
        let found = check(&files(&ALL), PAGE);
        assert_eq!(found.len(), 1);
        assert_eq!(found[0].path, "runtime/ironloom/src/fold/run.rs");
        let with_test =
            [&ALL[..5], &["runtime/storage/src/log/tests.rs", "runtime/storage/tests/a.rs"]].concat();
        let found = check(&files(&with_test), &PAGE.replace("`fold/run.rs`", "It"));
        assert_eq!(found, []);
    }

    #[test]
    fn a_file_of_the_map_or_of_the_text_that_is_gone_is_found() {
        let found = check(&files(&ALL[1..5]), PAGE);
        let mut lines: Vec<_> = found.iter().map(|finding| (finding.path.as_str(), finding.line)).collect();
        lines.sort_unstable();
        assert_eq!(lines, [(ARCHITECTURE, 1), (ARCHITECTURE, 5), (ARCHITECTURE, 14)]);
        let found = check(&files(&[&ALL[..3], &ALL[4..5]].concat()), PAGE);
        let slow = found.iter().filter(|finding| finding.text.contains("disks/slow.rs"));
        let mut lines: Vec<_> = slow.map(|finding| finding.line).collect();
        lines.sort_unstable();
        assert_eq!(lines, [6, 14], "on the map and in the row of a deed");
    }
}
