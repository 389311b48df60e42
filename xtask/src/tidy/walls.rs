//! Imports that a room must not have, as the table of walls in `ARCHITECTURE.md` says, and crates that only
//! one room may name.

use syn::visit::Visit;

use super::rust::is_test;
use super::{Finding, Rule};

/// The crate whose rooms are kept apart.
const CRATE: &str = "runtime/ironloom/src/";

/// Crates with the only folder that may name them.
const ALONE: &[(&str, &str)] = &[("wasmtime", "runtime/sandbox/"), ("wasmtime_wasi", "runtime/sandbox/")];

/// A room with the rooms that it must not import.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Wall {
    room: String,
    forbidden: Vec<String>,
}

/// Reads the table below the header `| room | never imports |`.
pub(super) fn of_page(architecture: &str) -> Vec<Wall> {
    let rows = architecture.lines().skip_while(|line| *line != "| room | never imports |").skip(2);
    let rows = rows.take_while(|line| line.starts_with('|'));
    rows.filter_map(|row| {
        let mut names = row.split('`').skip(1).step_by(2).map(|name| name.trim_end_matches('/').to_owned());
        Some(Wall { room: names.next()?, forbidden: names.collect() })
    })
    .collect()
}

/// Checks the paths that a file names.
pub(super) fn check(path: &str, text: &str, walls: &[Wall]) -> Vec<Finding> {
    // What isn't Rust is found by the rules of a single file.
    let Ok(parsed) = syn::parse_file(text) else { return Vec::new() };
    let mut paths = Paths::default();
    paths.visit_file(&parsed);
    let room = path.strip_prefix(CRATE).and_then(|rest| rest.split(['/', '.']).next());
    let wall = walls.iter().find(|wall| Some(wall.room.as_str()) == room && !is_test(path));
    let mut findings = Vec::new();
    for (line, first, second) in paths.found {
        let across = wall.filter(|wall| first == "crate" && wall.forbidden.contains(&second));
        if let Some(wall) = across {
            let text = format!("`{}` must not import `crate::{second}`", wall.room);
            findings.push(Finding { path: path.to_owned(), line, rule: Rule::Wall, text });
        }
        let alone = ALONE.iter().find(|(name, folder)| *name == first && !path.starts_with(folder));
        if let Some((name, folder)) = alone {
            let text = format!("only {folder} may name the crate `{name}`");
            findings.push(Finding { path: path.to_owned(), line, rule: Rule::Wall, text });
        }
    }
    findings.dedup();
    findings
}

/// The first two segments of every path outside of test modules.
#[derive(Default)]
struct Paths {
    found: Vec<(usize, String, String)>,
}

impl Paths {
    fn tree(&mut self, first: &str, tree: &syn::UseTree) {
        let mut add = |ident: &syn::Ident| {
            let (first, second) = if first.is_empty() {
                (ident.to_string(), String::new())
            } else {
                (first.to_owned(), ident.to_string())
            };
            self.found.push((ident.span().start().line, first, second));
        };
        match tree {
            syn::UseTree::Path(path) if first.is_empty() => {
                add(&path.ident);
                self.tree(&path.ident.to_string(), &path.tree);
            }
            syn::UseTree::Path(path) => add(&path.ident),
            syn::UseTree::Name(name) => add(&name.ident),
            syn::UseTree::Rename(rename) => add(&rename.ident),
            syn::UseTree::Group(group) => group.items.iter().for_each(|item| self.tree(first, item)),
            _ => {}
        }
    }
}

impl Visit<'_> for Paths {
    fn visit_item_mod(&mut self, item: &syn::ItemMod) {
        let is_test = item.attrs.iter().any(|attribute| {
            attribute.path().is_ident("cfg")
                && attribute.parse_args::<syn::Ident>().is_ok_and(|condition| condition == "test")
        });
        if !is_test {
            syn::visit::visit_item_mod(self, item);
        }
    }

    fn visit_item_use(&mut self, item: &syn::ItemUse) {
        self.tree("", &item.tree);
    }

    fn visit_path(&mut self, path: &syn::Path) {
        let mut segments = path.segments.iter().map(|segment| &segment.ident);
        if let (Some(first), Some(second)) = (segments.next(), segments.next()) {
            self.found.push((first.span().start().line, first.to_string(), second.to_string()));
        }
        syn::visit::visit_path(self, path);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const PAGE: &str = "# Words\n\n| room | never imports |\n| --- | --- |\n| `fold/` | `lanes`, `node` |\n\n| `x` | `y` |\n";

    fn lines(path: &str, text: &str) -> Vec<usize> {
        check(path, text, &of_page(PAGE)).into_iter().map(|finding| finding.line).collect()
    }

    #[test]
    fn walls_are_read_from_the_page() {
        let forbidden = vec!["lanes".to_owned(), "node".to_owned()];
        assert_eq!(of_page(PAGE), [Wall { room: "fold".to_owned(), forbidden }]);
    }

    #[test]
    fn an_import_across_a_wall_is_found_in_each_form() {
        let fold = "runtime/ironloom/src/fold/apply.rs";
        assert_eq!(lines(fold, "use crate::lanes::Lane;\n"), [1]);
        assert_eq!(lines(fold, "use std::fs;\nuse crate::{lanes::Lane, records};\n"), [2]);
        assert_eq!(lines(fold, "use crate::node;\n"), [1]);
        assert_eq!(lines(fold, "fn f() {\n    crate::lanes::begin();\n}\n"), [2]);
        assert_eq!(lines(fold, "fn f(lane: &crate::lanes::Lane) {}\n"), [1]);
        assert_eq!(lines("runtime/ironloom/src/fold.rs", "use crate::lanes::Lane;\n"), [1]);
    }

    #[test]
    fn tests_and_other_rooms_are_free() {
        assert_eq!(lines("runtime/ironloom/src/fold/apply.rs", "use crate::records::Commit;\n"), []);
        assert_eq!(lines("runtime/ironloom/src/node/mod.rs", "use crate::lanes::Lane;\n"), []);
        assert_eq!(lines("runtime/ironloom/src/fold/tests/world.rs", "use crate::lanes::Lane;\n"), []);
        let inline = "#[cfg(test)]\nmod tests {\n    use crate::lanes::Lane;\n}\n";
        assert_eq!(lines("runtime/ironloom/src/fold/apply.rs", inline), []);
    }

    #[test]
    fn only_the_sandbox_names_wasmtime() {
        assert_eq!(lines("runtime/storage/src/lib.rs", "use wasmtime::Engine;\n"), [1]);
        assert_eq!(
            lines("runtime/ironloom/src/node/mod.rs", "fn f() {\n    wasmtime::Engine::default();\n}\n"),
            [2]
        );
        assert_eq!(lines("runtime/sandbox/src/engine.rs", "use wasmtime::Engine;\n"), []);
    }
}
