//! Installing apps, and waiting for what they do.

use anyhow::{Context, Result};
use serde_json::{Value, json};

use crate::http::{Answer, Client};
use crate::package::Package;
use crate::wait::wait_for;

/// The body of an install: `bindings` and whatever else `more` has.
pub fn request(id: &str, digest: &str, bindings: Value, more: Value) -> Value {
    let mut body = json!({"id": id, "package": digest, "bindings": bindings});
    if let (Value::Object(body), Value::Object(more)) = (&mut body, more) {
        body.extend(more);
    }
    body
}

/// Adds the package and installs it; gives the answer.
pub fn install(client: &Client, id: &str, package: &Package, bindings: Value, more: Value) -> Result<Value> {
    let digest = client.add_package(&package.tar())?;
    client.post("/v1/installations", &request(id, &digest, bindings, more))?.json()
}

/// Changes an installation, and consents to all that a dry run says it would get.
pub fn change(client: &Client, id: &str, body: &Value) -> Result<Answer> {
    let path = format!("/v1/installations/{id}");
    let looked = client.patch(&format!("{path}?dry-run=true"), body)?;
    if looked.status != 200 {
        return Ok(looked);
    }
    let mut body = body.clone();
    body["consent"] = looked.json()?["consent"]["digest"].clone();
    client.patch(&path, &body)
}

/// Waits until an installation is as wanted, and gives it.
pub fn wait_for_installation(
    client: &Client,
    id: &str,
    what: &str,
    mut wanted: impl FnMut(&Value) -> bool,
) -> Result<Value> {
    let mut last = Value::Null;
    let found = wait_for(&format!("{id}: {what}"), || {
        last = client.installation(id)?;
        Ok(wanted(&last).then(|| last.clone()))
    });
    found.with_context(|| format!("it is {last}"))
}

/// A number of an installation, such as `counters.failures`.
pub fn number(installation: &Value, path: &str) -> u64 {
    let found = path.split('.').fold(installation, |value, field| &value[field]);
    found.as_u64().unwrap_or_default()
}

/// Waits until the installation `sums` has taken so many readings.
pub fn wait_for_readings(client: &Client, readings: u64) -> Result<Value> {
    let what = format!("{readings} readings");
    wait_for_installation(client, "sums", &what, |now| number(now, "counters.readings") == readings)
}

/// The counts that `sums` has published, in whatever generation.
pub fn counts(client: &Client) -> Result<Vec<u64>> {
    let is_own = |reading: &&Value| {
        reading["point"].as_str().is_some_and(|point| point.starts_with("apps/sums/count"))
    };
    Ok(client.journal(0, "")?.iter().filter(is_own).map(|reading| number(reading, "value")).collect())
}
