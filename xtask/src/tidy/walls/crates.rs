//! Which crates of the runtime depend on which: as the table of `ARCHITECTURE.md` says, and on no others. What tests
//! need is free.

use toml::Table;

use crate::tidy::files::File;
use crate::tidy::{ARCHITECTURE, Finding, Rule};

/// The beginning of the table's header.
const HEADER: &str = "| crate | stands on |";

/// Checks the dependencies of each crate of the runtime.
pub(super) fn check(files: &[File], architecture: &str) -> Vec<Finding> {
    let allowed = of_page(architecture);
    let mut findings = Vec::new();
    for file in files {
        let folder = file.path.strip_prefix("runtime/").and_then(|rest| rest.strip_suffix("/Cargo.toml"));
        let (Some(folder), Some(text)) = (folder, &file.text) else { continue };
        let finding = |text| Finding { path: file.path.clone(), line: 0, rule: Rule::Wall, text };
        let Some((_, allowed)) = allowed.iter().find(|(name, _)| name == folder) else {
            findings.push(finding(format!("the table `{HEADER} …` of {ARCHITECTURE} lacks this crate")));
            continue;
        };
        let Ok(manifest) = text.parse::<Table>() else {
            findings.push(finding("this isn't TOML".to_owned()));
            continue;
        };
        for name in of_runtime(&manifest).into_iter().filter(|name| !allowed.contains(name)) {
            findings.push(finding(format!("`{folder}` must not depend on `{name}`, says {ARCHITECTURE}")));
        }
    }
    findings
}

/// Each crate with those that it may depend on.
fn of_page(architecture: &str) -> Vec<(String, Vec<String>)> {
    let rows = architecture.lines().skip_while(|line| !line.starts_with(HEADER)).skip(2);
    rows.take_while(|line| line.starts_with('|'))
        .filter_map(|row| {
            let mut cells = row.trim_matches('|').split('|').map(|cell| cell.split('`').skip(1).step_by(2));
            let name = cells.next()?.next()?.to_owned();
            Some((name, cells.next()?.map(str::to_owned).collect()))
        })
        .collect()
}

/// The crates of the runtime that a manifest depends on outside of tests, by the names of their folders.
fn of_runtime(manifest: &Table) -> Vec<String> {
    let here = manifest.get("dependencies");
    let targets = manifest.get("target").and_then(|targets| targets.as_table());
    let others =
        targets.into_iter().flat_map(|targets| targets.values().map(|target| target.get("dependencies")));
    let tables = std::iter::once(here).chain(others).flatten().filter_map(|table| table.as_table());
    tables
        .flat_map(|table| table.keys())
        .filter(|name| *name == "ironloom" || name.starts_with("ironloom-"))
        .map(|name| name.strip_prefix("ironloom-").unwrap_or(name).to_owned())
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    const PAGE: &str = "| crate | stands on | knows |\n| --- | --- | --- |\n| `types` | nothing | words |\n| `storage` | `types` | `bytes` |\n\n";

    fn texts(name: &str, manifest: &str) -> Vec<String> {
        let path = format!("runtime/{name}/Cargo.toml");
        let files = [File { path, bytes: 0, text: Some(manifest.to_owned()) }];
        check(&files, PAGE).into_iter().map(|finding| finding.text).collect()
    }

    #[test]
    fn a_dependency_that_the_page_lacks_is_found() {
        let storage = "[dependencies]\nbytes = \"1\"\nironloom-types.workspace = true\n";
        assert_eq!(texts("storage", storage), [""; 0]);
        let more = format!("{storage}ironloom-apps.workspace = true\n");
        let found = format!("`storage` must not depend on `apps`, says {ARCHITECTURE}");
        assert_eq!(texts("storage", &more), std::slice::from_ref(&found));
        let target = "[target.'cfg(unix)'.dependencies]\nironloom-apps = { path = \"../apps\" }\n";
        assert_eq!(texts("storage", target), [found]);
        assert_eq!(texts("storage", "[dev-dependencies]\nironloom-apps.workspace = true\n"), [""; 0]);
        assert_eq!(texts("types", storage).len(), 1);
        assert_eq!(texts("console", storage).len(), 1, "the table lacks it");
    }
}
