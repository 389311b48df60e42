//! `cargo deny` where it is installed: licences, sources, bans and advisories that nobody has looked at fail the check.

use anyhow::{Context as _, Result, bail};
use serde_json::Value;

use crate::cargo::{cargo, workspace};

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
    let page = workspace().join("SECURITY.md");
    let page = std::fs::read_to_string(&page).with_context(|| format!("can't read {}", page.display()))?;
    // Those of deny.toml have been taken out by then.
    let said = cargo(&["deny", "--log-level", "error", "--format", "json", "check", "advisories"])
        .stderr("known advisories")?;
    let unknown = unknown(&said, &known(&page));
    if !unknown.is_empty() {
        bail!(
            "there are advisories that nobody has looked at: {}; take a version without them, or say in SECURITY.md, by \
             their GHSA ids, why they can't be reached",
            unknown.join(", ")
        );
    }
    Ok(())
}

/// The ids of advisories that a page names.
fn known(page: &str) -> Vec<&str> {
    let words = page.split(|c: char| !c.is_ascii_alphanumeric() && c != '-');
    words.filter(|word| word.starts_with("GHSA-") || word.starts_with("RUSTSEC-")).collect()
}

/// The advisories among what `cargo deny` says, one JSON object a line, of which no id is known. Errors of other kinds
/// are named by their words.
fn unknown(said: &str, known: &[&str]) -> Vec<String> {
    let messages = said.lines().filter_map(|line| serde_json::from_str::<Value>(line).ok());
    let errors = messages
        .filter(|message| message["type"] == "diagnostic" && message["fields"]["severity"] == "error");
    errors
        .filter_map(|error| {
            let advisory = &error["fields"]["advisory"];
            let aliases = advisory["aliases"].as_array().into_iter().flatten();
            let ids: Vec<&str> = aliases.chain([&advisory["id"]]).filter_map(Value::as_str).collect();
            let is_known = ids.iter().any(|id| known.contains(id));
            (!is_known).then(|| match ids.last() {
                Some(id) => (*id).to_owned(),
                None => error["fields"]["message"].to_string(),
            })
        })
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    const SAID: &str = r#"
{"type":"log","fields":{"level":"ERROR","message":"loading"}}
{"type":"diagnostic","fields":{"severity":"error","message":"a","advisory":{"id":"RUSTSEC-2026-0901","aliases":["CVE-2026-1","GHSA-5m8g-xhq4-4h93"]}}}
{"type":"diagnostic","fields":{"severity":"error","message":"b","advisory":{"id":"RUSTSEC-2026-0902","aliases":["GHSA-0000-0000-0000"]}}}
{"type":"diagnostic","fields":{"severity":"warning","message":"c","advisory":{"id":"RUSTSEC-2026-0903","aliases":[]}}}
{"type":"diagnostic","fields":{"severity":"error","message":"yanked"}}
{"type":"summary","fields":{"advisories":{"errors":3}}}
"#;

    #[test]
    fn advisories_that_nobody_has_looked_at_are_named() {
        let page = "| GHSA-5m8g-xhq4-4h93, GHSA-wvgq-g5hf-6gm6 | what it is |";
        assert_eq!(known(page), ["GHSA-5m8g-xhq4-4h93", "GHSA-wvgq-g5hf-6gm6"]);
        assert_eq!(unknown(SAID, &known(page)), ["RUSTSEC-2026-0902", "\"yanked\""]);
        assert_eq!(unknown(SAID, &[]).len(), 3);
    }

    #[test]
    fn the_page_names_those_that_were_looked_at() {
        let page = std::fs::read_to_string(workspace().join("SECURITY.md")).unwrap();
        assert!(known(&page).len() >= 9, "{:?}", known(&page));
    }
}
