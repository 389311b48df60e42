//! Builds and installs the sample apps with the commands that a user has.

use std::process::{Command, Stdio};

use anyhow::{Context, Result, ensure};
use ironloom_tests::{guests, server};

use crate::machine::Node;
use crate::screen::say;

/// `ironloom build`; gives the path of the package.
pub(crate) fn build(folder: &str) -> Result<String> {
    say(&format!("$ ironloom build {folder}\n"))?;
    let mut command = Command::new(server::binary()?);
    command.args(["build", folder]).current_dir(guests::workspace()).stdin(Stdio::null());
    let output = command.stderr(Stdio::inherit()).output().context("ironloom build")?;
    ensure!(output.status.success(), "`ironloom build` ended with {}", output.status);
    let text = String::from_utf8(output.stdout)?;
    say(&text)?;
    Ok(text.lines().next().context("`ironloom build` named no package")?.to_owned())
}

/// `ironloom install` with these arguments.
pub(crate) fn install(node: &Node, package: &str, arguments: &[&str]) -> Result<()> {
    say(&format!("$ ironloom install {package} {}\n", arguments.join(" ")))?;
    let folder = tempfile::tempdir()?;
    let grants = folder.path().join("grants.toml");
    let run = |command: &mut Command| {
        command.current_dir(guests::workspace()).env("IRONLOOM_URL", node.url()).stdin(Stdio::null());
        let status = command.status().context("ironloom install")?;
        ensure!(
            status.success(),
            "`ironloom install` ended with {status}; the server said:\n{}",
            node.said()
        );
        Ok(())
    };
    // The demo is one command and asks nothing: what the app gets is shown, kept, and consented to.
    let install = || {
        let mut command = Command::new(server::binary().unwrap_or_default());
        command.args(["install", package]).args(arguments);
        command
    };
    run(install().args(["--dry-run", "--write-grants"]).arg(&grants))?;
    run(install().args(["--yes", "--grants"]).arg(&grants).stdout(Stdio::null()))
}
