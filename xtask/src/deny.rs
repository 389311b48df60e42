//! `cargo deny` where it is installed: licences, sources and bans fail the check, advisories are shown.

use anyhow::Result;

use crate::cargo::cargo;

/// Checks the dependencies as `deny.toml` says.
pub(crate) fn deny() -> Result<()> {
    if !cargo(&["deny", "--version"]).succeeds() {
        eprintln!(
            "== cargo-deny isn't installed, so deny.toml isn't checked: cargo install cargo-deny --locked"
        );
        return Ok(());
    }
    // It looks at crates for other machines and features too, which a build leaves out.
    if !cargo(&["fetch", "--locked"]).succeeds() {
        eprintln!("== not all dependencies can be had now, so deny.toml isn't checked");
        return Ok(());
    }
    cargo(&["deny", "--log-level", "error", "check", "bans", "licenses", "sources"])
        .run("what dependencies may be")?;
    if !cargo(&["deny", "--log-level", "off", "fetch", "db"]).succeeds() {
        eprintln!("== the database of advisories can't be had now: they aren't looked up");
        return Ok(());
    }
    // A new one isn't the fault of the change that is checked, and must not stop it.
    if cargo(&["deny", "--log-level", "error", "check", "advisories"]).run("known advisories").is_err() {
        eprintln!(
            "== there are advisories (above); SECURITY.md says which of them are known and can't be reached"
        );
    }
    Ok(())
}
