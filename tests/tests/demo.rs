//! The demo fails where its app does.

use std::process::{Command, Stdio};

use anyhow::{Result, ensure};
use ironloom_tests::server::binary;

#[test]
fn an_app_that_fails_gives_exit_code_1_and_the_reason() -> Result<()> {
    let mut demo = Command::new(env!("CARGO_BIN_EXE_ironloom-demo"));
    // The app knows no such breed: it takes no reading until somebody corrects the setting.
    demo.args(["--for=5s", "--set=breed=unicorn"]).env("IRONLOOM_BIN", binary()?).stdin(Stdio::null());
    let output = demo.output()?;
    let said = String::from_utf8_lossy(&output.stderr);
    ensure!(output.status.code() == Some(1), "{}: {said}", output.status);
    ensure!(said.contains("the app failed") && said.contains("`unicorn` isn't known"), "{said}");
    Ok(())
}
