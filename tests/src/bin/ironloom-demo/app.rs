//! Builds and installs the sample app with the commands that a user has.

use std::process::{Command, Stdio};

use anyhow::{Context, Result, ensure};
use ironloom_tests::{guests, server};

use crate::machine::Node;
use crate::say;

/// `ironloom build`; gives the path of the package.
pub(crate) fn build() -> Result<String> {
    let mut command = Command::new(server::binary()?);
    command.args(["build", "sample-apps/pigs"]).current_dir(guests::workspace()).stdin(Stdio::null());
    let output = command.stderr(Stdio::inherit()).output().context("ironloom build")?;
    ensure!(output.status.success(), "`ironloom build` ended with {}", output.status);
    let text = String::from_utf8(output.stdout)?;
    say(&text)?;
    Ok(text.lines().next().context("`ironloom build` named no package")?.to_owned())
}

/// `ironloom install`, from the first weighing on.
pub(crate) fn install(node: &Node, package: &str, settings: &[String]) -> Result<()> {
    let mut arguments = vec![
        "install",
        package,
        "--id=pigs",
        "--bind=weight=farm/{barn}/{pig}/weight",
        "--bind=feed=farm/{barn}/{pig}/feed",
        "--from=beginning",
    ];
    arguments.extend(settings.iter().flat_map(|setting| ["--set", setting]));
    say(&format!("$ ironloom {}\n", arguments.join(" ")))?;
    let mut command = Command::new(server::binary()?);
    command.args(arguments).current_dir(guests::workspace()).env("IRONLOOM_URL", node.url());
    let status = command.stdin(Stdio::null()).status().context("ironloom install")?;
    ensure!(status.success(), "`ironloom install` ended with {status}; the server said:\n{}", node.said());
    Ok(())
}
