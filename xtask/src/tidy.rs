//! The project's rules for its own files, beyond the checks of rustfmt, clippy and the compiler.
//!
//! Each rule is a pure function from texts to findings, so that each has a test that shows it red. The walls
//! between rooms and the map of files are read from `runtime/ARCHITECTURE.md`: page and check can't differ.

mod exceptions;
mod files;
mod map;
mod rust;
mod walls;

use std::path::Path;

use anyhow::{Result, bail};

use self::files::File;

/// The page with the map and the walls.
const ARCHITECTURE: &str = "runtime/ARCHITECTURE.md";

/// A line that breaks a rule.
#[derive(Debug, PartialEq, Eq, PartialOrd, Ord)]
struct Finding {
    path: String,
    /// The first line has the number 1; 0 stands for the file as a whole.
    line: usize,
    rule: Rule,
    text: String,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum Rule {
    /// A file that git should not carry.
    Size,
    /// A file of too many lines, which usually is two things.
    FileLength,
    /// A function of too many lines.
    FunctionLength,
    /// A file without a first sentence on what it is.
    Head,
    /// A doc comment that says nothing.
    FillerDoc,
    /// A field of a log line that takes the place of its text.
    Message,
    /// An import across a wall.
    Wall,
    /// A file that the map lacks, or a file of the map that does not exist.
    Map,
}

/// Checks all files of the project.
pub(crate) fn tidy(root: &Path) -> Result<()> {
    let files = files::all(root)?;
    let mut findings = findings(&files);
    let unused = exceptions::take_out(&mut findings, exceptions::EXCEPTIONS);
    findings.sort();
    for Finding { path, line, rule, text } in &findings {
        eprintln!("{path}:{line}: {text} ({rule:?})");
    }
    for exception in &unused {
        let (path, rule) = (exception.path, exception.rule);
        eprintln!("{path}: no longer breaks {rule:?}: take it off xtask/src/tidy/exceptions.rs");
    }
    if !findings.is_empty() || !unused.is_empty() {
        bail!("{} findings; CONTRIBUTING.md says what is asked for", findings.len() + unused.len());
    }
    eprintln!("== {} files are tidy", files.len());
    Ok(())
}

/// Takes out the doc comments that say nothing. Those of the SDK stay: each of its public items has one, which has to be
/// written.
pub(crate) fn fix(root: &Path) -> Result<()> {
    for file in files::all(root)? {
        let Some(text) = file.text.filter(|_| file.path.ends_with(".rs") && !file.path.starts_with("sdk/"))
        else {
            continue;
        };
        let fixed = rust::without_filler(&file.path, &text);
        if fixed != text {
            std::fs::write(root.join(&file.path), fixed)?;
        }
    }
    Ok(())
}

fn findings(files: &[File]) -> Vec<Finding> {
    let mut findings: Vec<Finding> = files.iter().filter_map(files::too_big).collect();
    let architecture = files.iter().find(|file| file.path == ARCHITECTURE);
    let architecture = architecture.and_then(|file| file.text.as_deref()).unwrap_or_default();
    for file in files.iter().filter(|file| file.path.ends_with(".rs")) {
        let Some(text) = file.text.as_deref() else { continue };
        findings.extend(rust::check(&file.path, text));
    }
    findings.extend(walls::check(files, architecture));
    findings.extend(map::check(files, architecture));
    findings
}
