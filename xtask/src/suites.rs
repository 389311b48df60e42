//! The programs of tests, run side by side: most of them wait for servers most of the time, and not for a processor.

use std::io::Write as _;
use std::path::{Path, PathBuf};
use std::process::{Command, Output};
use std::sync::{Mutex, PoisonError};
use std::time::Instant;

use anyhow::{Context as _, Result, bail};
use serde_json::Value;

use crate::cargo::{Step, not_tested};

/// Programs at a time.
const AT_ONCE: usize = 2;

/// Those that take the longest begin first.
const LONGEST: [&str; 6] = ["kill", "faults", "dev", "new", "docs", "connections"];

/// A program of tests.
struct Suite {
    name: String,
    program: PathBuf,
    /// The folder of its package, as cargo would have it run there.
    folder: PathBuf,
}

/// Runs the programs that a build makes, with these environment variables. Adds to `skipped` what they say isn't tested
/// here.
pub(crate) fn run(
    what: &str,
    build: Step,
    variables: &[(&'static str, PathBuf)],
    skipped: &mut Vec<String>,
) -> Result<()> {
    let mut suites: Vec<Suite> = build.messages(what)?.iter().filter_map(suite).collect();
    if suites.is_empty() {
        bail!("{what}: the build made no program of tests");
    }
    // Taken from the end.
    suites.sort_by(|one, other| rank(&other.name).cmp(&rank(&one.name)));
    let (waiting, told) = (Mutex::new(suites), Mutex::new(Told::default()));
    std::thread::scope(|scope| {
        for _ in 0..AT_ONCE {
            scope.spawn(|| {
                loop {
                    let next = waiting.lock().unwrap_or_else(PoisonError::into_inner).pop();
                    let Some(suite) = next else { break };
                    let began = Instant::now();
                    let output = suite.output(variables);
                    told.lock().unwrap_or_else(PoisonError::into_inner).tell(&suite, output, began);
                }
            });
        }
    });
    let Told { failed, skipped: also } = told.into_inner().unwrap_or_else(PoisonError::into_inner);
    skipped.extend(also);
    if !failed.is_empty() {
        bail!("{what}: these failed: {}", failed.join(", "));
    }
    Ok(())
}

/// The results of the programs so far.
#[derive(Default)]
struct Told {
    failed: Vec<String>,
    skipped: Vec<String>,
}

impl Told {
    /// All that a program has said, at once, so that two don't talk at a time.
    fn tell(&mut self, suite: &Suite, output: Result<Output>, began: Instant) {
        let name = &suite.name;
        eprintln!("== {name}, {} s", began.elapsed().as_secs());
        let success = match output {
            Ok(output) => {
                // A pipe that nobody reads any more is no failure of the tests.
                let _ = std::io::stdout().write_all(&output.stdout);
                let _ = std::io::stderr().write_all(&output.stderr);
                let said = String::from_utf8_lossy(&output.stderr);
                self.skipped.extend(said.lines().filter_map(not_tested));
                output.status.success()
            }
            Err(error) => {
                eprintln!("{error:#}");
                false
            }
        };
        if !success {
            self.failed.push(name.clone());
        }
    }
}

impl Suite {
    fn output(&self, variables: &[(&str, PathBuf)]) -> Result<Output> {
        let mut command = Command::new(&self.program);
        command.current_dir(&self.folder).env("CARGO_MANIFEST_DIR", &self.folder);
        command.envs(variables.iter().map(|(name, value)| (name, value)));
        command.output().with_context(|| format!("can't run {}", self.program.display()))
    }
}

/// The longest first, then by name.
fn rank(name: &str) -> (usize, &str) {
    (LONGEST.iter().position(|long| *long == name).unwrap_or(LONGEST.len()), name)
}

/// A message of cargo's, if it is of a program of tests.
fn suite(message: &Value) -> Option<Suite> {
    let is_test = message["reason"] == "compiler-artifact" && message["profile"]["test"] == true;
    let program = message["executable"].as_str().filter(|_| is_test)?;
    Some(Suite {
        name: message["target"]["name"].as_str()?.to_owned(),
        program: program.into(),
        folder: Path::new(message["manifest_path"].as_str()?).parent()?.to_owned(),
    })
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn programs_of_tests_are_told_from_all_else_that_is_built() {
        let built = |test: bool, executable: Value| {
            json!({
                "reason": "compiler-artifact", "manifest_path": "/p/tests/Cargo.toml", "target": {"name": "kill"},
                "profile": {"test": test}, "executable": executable,
            })
        };
        let found = suite(&built(true, json!("/p/target/kill-1"))).unwrap();
        assert_eq!((found.name.as_str(), found.folder.as_path()), ("kill", Path::new("/p/tests")));
        assert!(suite(&built(false, json!("/p/target/ironloom"))).is_none());
        assert!(suite(&built(true, Value::Null)).is_none());
        assert!(suite(&json!({"reason": "build-finished", "success": true})).is_none());
    }

    #[test]
    fn the_longest_begin_first() {
        let mut names = vec!["api", "docs", "kill", "admin"];
        names.sort_by_key(|name| rank(name));
        assert_eq!(names, ["kill", "docs", "admin", "api"]);
    }
}
