//! The project's rules for its own files, beyond the checks of rustfmt, clippy and the compiler.
//!
//! Each rule is a pure function from texts to findings, so that each has a test that shows it red. The walls
//! between rooms and the map of files are read from `runtime/ARCHITECTURE.md`: page and check can't differ.

mod exceptions;
mod files;
mod listed;
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
    /// A doc comment that begins with a question's word. Some are left from before the rule: [`MOST_QUESTIONS`].
    Question,
    /// A field of a log line that takes the place of its text.
    Message,
    /// An import across a wall.
    Wall,
    /// A file that the map lacks, or a file of the map that does not exist.
    Map,
    /// Something that a list lacks.
    Listed,
}

/// Doc comments that may begin with a question's word. Only ever lowered, until there are none.
const MOST_QUESTIONS: usize = 390;

/// Puts one finding in the place of all comments that begin with a question's word, where these are too many. Says how
/// many there are where the number can be lowered.
fn count_questions(findings: &mut Vec<Finding>) -> Option<usize> {
    let before = findings.len();
    let at = findings.iter().rfind(|finding| finding.rule == Rule::Question).map(|last| last.path.clone());
    findings.retain(|finding| finding.rule != Rule::Question);
    let found = before - findings.len();
    if found > MOST_QUESTIONS {
        let text = format!(
            "{found} doc comments begin with What, Whether, How or Where, and there may be {MOST_QUESTIONS}; begin \
             with a noun or a verb"
        );
        findings.push(Finding { path: at.unwrap_or_default(), line: 0, rule: Rule::Question, text });
    }
    (found < MOST_QUESTIONS).then_some(found)
}

/// Checks all files of the project.
pub(crate) fn tidy(root: &Path) -> Result<()> {
    let files = files::all(root)?;
    let mut findings = findings(&files);
    if let Some(fewer) = count_questions(&mut findings) {
        eprintln!("{fewer} doc comments begin with a question's word: MOST_QUESTIONS can be lowered to that");
    }
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
    findings.extend(listed::check(files));
    findings
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn comments_that_begin_with_a_question_are_found_once_they_are_too_many() {
        let question = |n: usize| Finding {
            path: format!("{n}.rs"),
            line: 1,
            rule: Rule::Question,
            text: String::new(),
        };
        let head = || Finding { path: "a.rs".to_owned(), line: 1, rule: Rule::Head, text: String::new() };
        let counted = |count: usize| {
            let mut findings: Vec<_> = (0..count).map(question).chain([head()]).collect();
            let fewer = count_questions(&mut findings);
            (fewer, findings.iter().map(|finding| finding.rule).collect::<Vec<_>>())
        };
        assert_eq!(counted(MOST_QUESTIONS - 1), (Some(MOST_QUESTIONS - 1), vec![Rule::Head]));
        assert_eq!(counted(MOST_QUESTIONS), (None, vec![Rule::Head]));
        assert_eq!(counted(MOST_QUESTIONS + 1), (None, vec![Rule::Head, Rule::Question]));
    }
}
