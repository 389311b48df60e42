//! Lists that people keep, held against what they list: kinds of problems in the API's description, and files of
//! end-to-end tests in the tests' page.

use std::collections::BTreeSet;

use super::files::File;
use super::{Finding, Rule};

/// The file with the list of kinds.
const PROBLEM: &str = "runtime/ironloom/src/api/problem.rs";
/// The page of what is tested where.
const TESTS: &str = "tests/README.md";
/// Functions that make a problem of a kind, which stands first in their arguments.
const MAKERS: [&str; 6] = ["malformed", "forbidden", "conflict", "precondition", "refused", "unavailable"];

/// Checks both lists.
pub(super) fn check(files: &[File]) -> Vec<Finding> {
    let text = |path: &str| {
        let file = files.iter().find(|file| file.path == path);
        file.and_then(|file| file.text.as_deref()).unwrap_or_default()
    };
    let mut findings = Vec::new();
    let finding = |path: &str, line, text| Finding { path: path.to_owned(), line, rule: Rule::Listed, text };
    let kinds = kinds(text(PROBLEM));
    for file in files.iter().filter(|file| file.path.starts_with("runtime/ironloom/src/")) {
        for (line, kind) in made(file.text.as_deref().unwrap_or_default()) {
            if !kinds.contains(kind) {
                findings.push(finding(&file.path, line, format!("KINDS in {PROBLEM} lacks {kind:?}")));
            }
        }
    }
    for file in files.iter().map(|file| file.path.as_str()) {
        let is_of_tests = file
            .strip_prefix("tests/tests/")
            .is_some_and(|name| !name.contains('/') && name.ends_with(".rs"));
        if is_of_tests && !text(TESTS).contains(&format!("`{file}`")) {
            findings.push(finding(file, 0, format!("{TESTS} doesn't say what is tested here")));
        }
    }
    findings
}

/// The texts in the list of kinds.
fn kinds(problem: &str) -> BTreeSet<&str> {
    let list = problem.split_once("const KINDS").and_then(|(_, rest)| rest.split_once("];"));
    list.map(|(list, _)| list.split('"').skip(1).step_by(2).collect()).unwrap_or_default()
}

/// The kinds that are made in a source, with their lines.
fn made(source: &str) -> Vec<(usize, &str)> {
    let mut found = Vec::new();
    for (at, _) in source.match_indices("Problem::") {
        let rest = &source[at + "Problem::".len()..];
        let Some((maker, arguments)) = rest.split_once('(') else { continue };
        let first = arguments.trim_start().strip_prefix('"').and_then(|first| first.split('"').next());
        if let Some(kind) = first.filter(|_| MAKERS.contains(&maker)) {
            found.push((source[..at].lines().count().max(1), kind));
        }
    }
    found
}

#[cfg(test)]
mod tests {
    use super::*;

    fn file(path: &str, text: &str) -> File {
        File { path: path.to_owned(), bytes: 0, text: Some(text.to_owned()) }
    }

    #[test]
    fn a_kind_that_the_list_lacks_is_found() {
        let list = file(
            PROBLEM,
            "pub(crate) const KINDS: &[&str] = &[\n    \"busy\",\n];\nconst X: &str = \"x\";\n",
        );
        let made = "fn a() {\n    Problem::conflict(\n        \"odd\",\n        detail,\n    );\n    Problem::unavailable(\"busy\", d, e);\n    Problem::not_found(\"no kind\");\n}\n";
        let found = check(&[list, file("runtime/ironloom/src/node/a.rs", made)]);
        assert_eq!(found.len(), 1);
        assert_eq!((found[0].path.as_str(), found[0].line), ("runtime/ironloom/src/node/a.rs", 2));
        assert!(found[0].text.ends_with("lacks \"odd\""), "{}", found[0].text);
    }

    #[test]
    fn a_file_of_tests_that_the_page_lacks_is_found() {
        let page = file(TESTS, "| the API | `tests/tests/api.rs` | … |\n");
        let files =
            ["tests/tests/api.rs", "tests/tests/new.rs", "tests/tests/cli/more.rs", "tests/src/http.rs"];
        let files: Vec<_> = files.iter().map(|path| file(path, "")).chain([page]).collect();
        let found: Vec<_> = check(&files).into_iter().map(|finding| finding.path).collect();
        assert_eq!(found, ["tests/tests/new.rs"]);
    }
}
