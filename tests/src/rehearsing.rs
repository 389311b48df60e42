//! Rehearsals, run to their ends.

use anyhow::{Result, ensure};
use serde_json::Value;

use crate::http::{Answer, Client};
use crate::wait::wait_for;

/// Begins a rehearsal.
pub fn start(client: &Client, id: &str, body: &Value) -> Result<Answer> {
    client.post(&format!("/v1/installations/{id}/rehearsals"), body)
}

/// Runs a rehearsal to its end, and gives it.
pub fn rehearse(client: &Client, id: &str, body: &Value) -> Result<Value> {
    let begun = start(client, id, body)?.json()?;
    let path = format!("/v1/installations/{id}/rehearsals/{}", begun["number"]);
    wait_for("the rehearsal's end", || {
        let now = client.get(&path)?.json()?;
        Ok((now["state"] != "running").then_some(now))
    })
}

/// The report of one that ends well.
pub fn report(client: &Client, id: &str, body: &Value) -> Result<Value> {
    let over = rehearse(client, id, body)?;
    ensure!(over["state"] == "done", "{over}");
    Ok(over["report"].clone())
}

/// Its differences of a kind.
pub fn of_kind<'r>(report: &'r Value, kind: &str) -> Vec<&'r Value> {
    let all = report["differences"].as_array();
    all.into_iter().flatten().filter(|one| one["kind"] == kind).collect()
}
