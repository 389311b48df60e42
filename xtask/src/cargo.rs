//! Calls of cargo, said before they are made.

use std::ffi::OsStr;
use std::io::{BufRead as _, BufReader, IsTerminal as _};
use std::path::Path;
use std::process::{Command, Stdio};

use anyhow::{Context as _, Result, bail};

/// The root of the workspace.
pub(crate) fn workspace() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR")).parent().unwrap_or(Path::new("."))
}

/// A call of a program that is to succeed.
pub(crate) struct Step(Command);

/// A call of cargo in the workspace.
pub(crate) fn cargo(arguments: &[&str]) -> Step {
    let mut command = Command::new(std::env::var_os("CARGO").unwrap_or_else(|| "cargo".into()));
    command.current_dir(workspace()).args(arguments);
    Step(command)
}

impl Step {
    /// With an environment variable.
    pub(crate) fn env(mut self, name: &str, value: impl AsRef<OsStr>) -> Self {
        self.0.env(name, value);
        self
    }

    /// Whether it ends well; says nothing.
    pub(crate) fn succeeds(mut self) -> bool {
        self.0.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null());
        self.0.status().is_ok_and(|status| status.success())
    }

    /// Runs it and returns what it says on stderr, whether or not it ends well.
    pub(crate) fn stderr(mut self, what: &str) -> Result<String> {
        let output = self.0.stdin(Stdio::null()).output().with_context(|| format!("{what}: {NO_CARGO}"))?;
        Ok(String::from_utf8_lossy(&output.stderr).into_owned())
    }

    fn announce(&self, what: &str) {
        let arguments: Vec<_> = self.0.get_args().map(|argument| argument.to_string_lossy()).collect();
        eprintln!("== {what}: cargo {}", arguments.join(" "));
    }

    /// Runs it, with its output where ours is. `what` says what it is about.
    pub(crate) fn run(mut self, what: &str) -> Result<()> {
        self.announce(what);
        let status = self.0.status().context(NO_CARGO)?;
        if !status.success() {
            bail!("{what}: cargo ended with {status}");
        }
        Ok(())
    }

    /// Runs it with `--message-format` and returns what it says of all that it has built.
    pub(crate) fn messages(mut self, what: &str) -> Result<Vec<serde_json::Value>> {
        self.0.arg("--message-format=json-render-diagnostics").stdout(Stdio::piped());
        self.announce(what);
        let output = self.0.stderr(Stdio::inherit()).output().context(NO_CARGO)?;
        if !output.status.success() {
            bail!("{what}: cargo ended with {}", output.status);
        }
        let lines = output.stdout.split(|byte| *byte == b'\n').filter(|line| !line.is_empty());
        lines.map(|line| serde_json::from_slice(line).context("can't read what cargo says")).collect()
    }

    /// As [`Self::run`], for tests: adds to `skipped` what they say isn't tested here. They write that to stderr past the
    /// capture of the harness, since a test that ends early passes.
    pub(crate) fn run_tests(mut self, what: &str, skipped: &mut Vec<String>) -> Result<()> {
        if std::io::stderr().is_terminal() {
            self.0.env("CARGO_TERM_COLOR", "always");
        }
        self.announce(what);
        let mut child = self.0.stderr(Stdio::piped()).spawn().context(NO_CARGO)?;
        let stderr = child.stderr.take().context("cargo has no stderr")?;
        for line in BufReader::new(stderr).split(b'\n') {
            let line = line.context("can't read what cargo says")?;
            let line = String::from_utf8_lossy(&line);
            eprintln!("{line}");
            skipped.extend(not_tested(&line));
        }
        let status = child.wait().context(NO_CARGO)?;
        if !status.success() {
            bail!("{what}: cargo ended with {status}");
        }
        Ok(())
    }
}

const NO_CARGO: &str = "can't run cargo; install Rust as https://rustup.rs says";

/// What a line says that isn't tested. The harness may have begun the line with the name of a test.
pub(crate) fn not_tested(line: &str) -> Option<String> {
    line.split_once("NOT TESTED: ").map(|(_, what)| what.to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_not_tested_is_heard_and_all_else_passed_on() {
        assert_eq!(not_tested("NOT TESTED: swap (none here)"), Some("swap (none here)".to_owned()));
        assert_eq!(not_tested("test swap ... NOT TESTED: swap"), Some("swap".to_owned()));
        assert_eq!(not_tested("   Compiling swap v1.0.0"), None);
    }
}
