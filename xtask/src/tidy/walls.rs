//! What rooms and crates must not import: as the tables of `ARCHITECTURE.md` say, no two rooms each other, and some
//! crates only in one place.

mod crates;
mod paths;

use std::collections::{BTreeMap, BTreeSet};

use self::paths::Path;
use super::files::File;
use super::rust::is_test;
use super::{ARCHITECTURE, Finding, Rule};

/// The crate whose rooms are kept apart.
const CRATE: &str = "runtime/ironloom/src/";

/// The header of the table of walls.
const HEADER: &str = "| room | never imports |";

/// Crates with the folders of the runtime, or files, that alone may name them.
const ALONE: &[(&str, &str)] = &[
    ("wasmtime", "runtime/sandbox/"),
    ("wasmtime_wasi", "runtime/sandbox/"),
    ("wasmparser", "runtime/sandbox/"),
    ("redb", "runtime/storage/"),
    ("sled", "runtime/storage/"),
    ("pco", "runtime/storage/"),
    ("axum", "runtime/ironloom/src/api/"),
    ("tower", "runtime/ironloom/src/api/"),
    ("ureq", "runtime/ironloom/src/cli/"),
    ("ureq", "runtime/ironloom/src/catalogs/"),
];

/// A room with the rooms that it must not import.
#[derive(Debug, PartialEq, Eq)]
struct Wall {
    line: usize,
    room: String,
    forbidden: Vec<String>,
}

/// Checks all sources of the runtime.
pub(super) fn check(files: &[File], architecture: &str) -> Vec<Finding> {
    let walls = of_page(architecture);
    let mut findings = of_walls(&walls, files);
    let mut imports = Imports::new();
    for file in files.iter().filter(|file| file.path.ends_with(".rs")) {
        let Some(text) = file.text.as_deref() else { continue };
        let found = paths::of(module(&file.path), text);
        findings.extend(across(&file.path, &found, &walls));
        if let Some(room) = room(&file.path).filter(|_| !is_test(&file.path)) {
            for path in found.iter().filter(|path| path.is_of_crate()) {
                let place = (file.path.clone(), path.line);
                imports.entry((room.to_owned(), path.second().to_owned())).or_insert(place);
            }
        }
    }
    findings.extend(circles(&imports));
    findings.extend(crates::check(files, architecture));
    findings
}

/// Reads the table of walls.
fn of_page(architecture: &str) -> Vec<Wall> {
    let lines = architecture.lines().enumerate().skip_while(|(_, line)| *line != HEADER).skip(2);
    let rows = lines.take_while(|(_, line)| line.starts_with('|'));
    rows.filter_map(|(number, row)| {
        let mut names = row.split('`').skip(1).step_by(2).map(|name| name.trim_end_matches('/').to_owned());
        Some(Wall { line: number + 1, room: names.next()?, forbidden: names.collect() })
    })
    .collect()
}

/// The room that a file of the crate is in, or is.
fn room(path: &str) -> Option<&str> {
    path.strip_prefix(CRATE).and_then(|rest| rest.split(['/', '.']).next())
}

/// The place of a file's module in its crate, such as `["lanes", "run"]`.
fn module(path: &str) -> Vec<String> {
    let inside = path.split_once("/src/").map_or("", |(_, inside)| inside);
    let mut names: Vec<_> = inside.trim_end_matches(".rs").split('/').map(str::to_owned).collect();
    if names.last().is_some_and(|name| matches!(name.as_str(), "mod" | "lib" | "main")) {
        names.pop();
    }
    names
}

/// Holds the table against the rooms that there are: each folder of the crate has its row, and no row names a room that
/// doesn't exist. A table that isn't found lacks them all.
fn of_walls(walls: &[Wall], files: &[File]) -> Vec<Finding> {
    let sources = || files.iter().map(|file| file.path.as_str()).filter(|path| path.ends_with(".rs"));
    let rooms: BTreeSet<&str> = sources().filter_map(room).collect();
    let folders =
        sources().filter_map(|path| path.strip_prefix(CRATE)?.split_once('/')).map(|(room, _)| room);
    let finding = |line, text| Finding { path: ARCHITECTURE.to_owned(), line, rule: Rule::Wall, text };
    let mut findings = Vec::new();
    for folder in folders.collect::<BTreeSet<_>>() {
        if !walls.iter().any(|wall| wall.room == folder && !wall.forbidden.is_empty()) {
            findings.push(finding(0, format!("the table `{HEADER}` has no row with walls of `{folder}/`")));
        }
    }
    for wall in walls {
        for name in wall.forbidden.iter().chain([&wall.room]).filter(|name| !rooms.contains(name.as_str())) {
            findings
                .push(finding(wall.line, format!("the table of walls names `{name}`, which does not exist")));
        }
    }
    findings
}

/// Finds the paths of a file that lead across a wall.
fn across(file: &str, paths: &[Path], walls: &[Wall]) -> Vec<Finding> {
    let wall = walls.iter().find(|wall| Some(wall.room.as_str()) == room(file) && !is_test(file));
    let finding = |line, text| Finding { path: file.to_owned(), line, rule: Rule::Wall, text };
    let mut findings = Vec::new();
    for path in paths {
        let (first, second) = (path.first(), path.second());
        let across =
            wall.filter(|wall| path.is_of_crate() && wall.forbidden.iter().any(|name| name == second));
        if let Some(wall) = across {
            findings.push(finding(path.line, format!("`{}` must not import `crate::{second}`", wall.room)));
        }
        let homes: Vec<&str> =
            ALONE.iter().filter(|(name, _)| *name == first).map(|(_, home)| *home).collect();
        let is_elsewhere = file.starts_with("runtime/") && !homes.iter().any(|home| file.starts_with(home));
        if !homes.is_empty() && is_elsewhere {
            let homes = homes.join(" and ");
            findings.push(finding(path.line, format!("only {homes} may name the crate `{first}`")));
        }
    }
    findings.dedup();
    findings
}

/// Which room imports which, with the first place of each.
type Imports = BTreeMap<(String, String), (String, usize)>;

/// Finds rooms that lead back to themselves, by imports of any number of rooms.
fn circles(imports: &Imports) -> Vec<Finding> {
    let imports: Vec<_> = imports.iter().filter(|((from, to), _)| from != to).collect();
    let mut findings = Vec::new();
    for ((from, to), (file, line)) in &imports {
        let mut reached = BTreeSet::from([to.as_str()]);
        while let Some(next) = imports.iter().find_map(|((room, other), _)| {
            (reached.contains(room.as_str()) && !reached.contains(other.as_str())).then_some(other)
        }) {
            reached.insert(next);
        }
        if reached.contains(from.as_str()) {
            let text = format!(
                "`{from}` imports `{to}`, which leads back to `{from}`: rooms are one above the other"
            );
            findings.push(Finding { path: file.clone(), line: *line, rule: Rule::Wall, text });
        }
    }
    findings
}

#[cfg(test)]
mod tests {
    use super::*;

    const PAGE: &str = "# Words\n\n| room | never imports |\n| --- | --- |\n| `fold/` | `lanes`, `node` |\n\n| `x` | `y` |\n";

    fn file(path: &str, text: &str) -> File {
        File { path: path.to_owned(), bytes: 0, text: Some(text.to_owned()) }
    }

    fn lines(path: &str, text: &str) -> Vec<usize> {
        let paths = paths::of(module(path), text);
        across(path, &paths, &of_page(PAGE)).into_iter().map(|finding| finding.line).collect()
    }

    fn texts(findings: Vec<Finding>) -> Vec<String> {
        findings.into_iter().map(|finding| finding.text).collect()
    }

    #[test]
    fn walls_are_read_from_the_page() {
        let forbidden = vec!["lanes".to_owned(), "node".to_owned()];
        assert_eq!(of_page(PAGE), [Wall { line: 5, room: "fold".to_owned(), forbidden }]);
    }

    #[test]
    fn each_room_has_its_row_and_each_row_its_room() {
        let path = |name: &str| format!("{CRATE}{name}");
        let paths = ["fold/mod.rs", "lanes/mod.rs", "node.rs", "node/start.rs", "main.rs"].map(path);
        let files: Vec<File> = paths.iter().map(|path| file(path, "")).collect();
        let lacks = |room: &str| format!("the table `{HEADER}` has no row with walls of `{room}/`");
        assert_eq!(texts(of_walls(&of_page(PAGE), &files)), [lacks("lanes"), lacks("node")]);
        // A header in other words is no table at all.
        let reworded = PAGE.replace("never imports", "doesn't import");
        let all = [lacks("fold"), lacks("lanes"), lacks("node")];
        assert_eq!(texts(of_walls(&of_page(&reworded), &files)), all);
        assert_eq!(texts(of_walls(&of_page(&PAGE.replace("`lanes`, `node`", "")), &files)), all);
        let gone = texts(of_walls(&of_page(&PAGE.replace("`lanes`,", "`lane`,")), &files));
        assert!(
            gone.contains(&"the table of walls names `lane`, which does not exist".to_owned()),
            "{gone:?}"
        );
    }

    #[test]
    fn the_real_page_has_a_wall_for_each_room() {
        let root = crate::cargo::workspace();
        let files = super::super::files::all(root).unwrap();
        let page = files.iter().find(|file| file.path == ARCHITECTURE).unwrap().text.clone().unwrap();
        assert_eq!(of_walls(&of_page(&page), &files), []);
        assert!(of_page(&page).len() > 5);
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
    fn an_import_by_super_or_in_a_macro_is_found_as_well() {
        let fold = "runtime/ironloom/src/fold/apply.rs";
        assert_eq!(lines(fold, "use super::super::lanes::Lane;\n"), [1]);
        assert_eq!(lines(fold, "use super::{super::lanes::Lane, run};\n"), [1]);
        assert_eq!(lines(fold, "fn f() {\n    super::super::lanes::begin();\n}\n"), [2]);
        assert_eq!(lines("runtime/ironloom/src/fold/mod.rs", "use super::lanes::Lane;\n"), [1]);
        assert_eq!(lines(fold, "mod inner {\n    use super::super::super::lanes::Lane;\n}\n"), [2]);
        assert_eq!(lines(fold, "use super::lanes::Lane;\n"), [0; 0], "that is `fold::lanes`");
        assert_eq!(lines(fold, "fn f() {\n    vec![1, g(crate::lanes::begin())];\n}\n"), [2]);
        assert_eq!(lines(fold, "fn f() {\n    assert!(super::super::lanes::begin());\n}\n"), [2]);
        assert_eq!(lines(fold, "fn f() {\n    dbg!(wasmtime::Engine::default());\n}\n"), [2]);
    }

    #[test]
    fn tests_and_other_rooms_are_free() {
        assert_eq!(lines("runtime/ironloom/src/fold/apply.rs", "use crate::records::Commit;\n"), [0; 0]);
        assert_eq!(lines("runtime/ironloom/src/node/mod.rs", "use crate::lanes::Lane;\n"), [0; 0]);
        assert_eq!(lines("runtime/ironloom/src/fold/tests/world.rs", "use crate::lanes::Lane;\n"), [0; 0]);
        let inline = "#[cfg(test)]\nmod tests {\n    use crate::lanes::Lane;\n}\n";
        assert_eq!(lines("runtime/ironloom/src/fold/apply.rs", inline), [0; 0]);
    }

    #[test]
    fn only_the_sandbox_names_wasmtime() {
        assert_eq!(lines("runtime/storage/src/lib.rs", "use wasmtime::Engine;\n"), [1]);
        assert_eq!(
            lines("runtime/ironloom/src/node/mod.rs", "fn f() {\n    wasmtime::Engine::default();\n}\n"),
            [2]
        );
        assert_eq!(lines("runtime/sandbox/src/engine.rs", "use wasmtime::Engine;\n"), [0; 0]);
    }

    #[test]
    fn rooms_that_lead_back_to_themselves_are_found() {
        let of = |edges: &[(&str, &str)]| {
            let place = |(from, to): &(&str, &str)| {
                let place = (format!("{CRATE}{from}/mod.rs"), 1);
                (((*from).to_owned(), (*to).to_owned()), place)
            };
            let imports: Imports = edges.iter().map(place).collect();
            circles(&imports).into_iter().map(|finding| finding.path).collect::<Vec<_>>()
        };
        assert_eq!(of(&[("a", "b"), ("a", "c"), ("b", "c"), ("c", "c")]), [""; 0]);
        assert_eq!(
            of(&[("a", "b"), ("b", "a"), ("c", "a")]),
            [format!("{CRATE}a/mod.rs"), format!("{CRATE}b/mod.rs")]
        );
        assert_eq!(of(&[("a", "b"), ("b", "c"), ("c", "a"), ("c", "d")]).len(), 3);
    }
}
