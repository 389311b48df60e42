//! Calls of cargo, said before they are made.

use std::ffi::OsStr;
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

    /// Runs it, with its output where ours is. `what` says what it is about.
    pub(crate) fn run(mut self, what: &str) -> Result<()> {
        let arguments: Vec<_> = self.0.get_args().map(|argument| argument.to_string_lossy()).collect();
        eprintln!("== {what}: cargo {}", arguments.join(" "));
        let status = self.0.status().context("can't run cargo; install Rust as https://rustup.rs says")?;
        if !status.success() {
            bail!("{what}: cargo ended with {status}");
        }
        Ok(())
    }
}
