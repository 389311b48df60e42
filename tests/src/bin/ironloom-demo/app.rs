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
    let mut command = Command::new(server::binary()?);
    command.args(["install", package]).args(arguments);
    command.current_dir(guests::workspace()).env("IRONLOOM_URL", node.url());
    let status = command.stdin(Stdio::null()).status().context("ironloom install")?;
    ensure!(status.success(), "`ironloom install` ended with {status}; the server said:\n{}", node.said());
    Ok(())
}
