//! The connector `plant` of tests: to a broker, with a client id of its own.

use anyhow::Result;
use serde_json::Value;

use crate::http::Client;
use crate::wait::wait_until;

/// Its section of the configuration, with these lines more.
pub fn config(url: &str, more: &str) -> String {
    format!("[connectors.plant]\nkind = \"mqtt\"\nbroker = \"{url}\"\nclient_id = \"ironloom-test\"\n{more}")
}

/// The connector as the API shows it.
pub fn status(client: &Client) -> Result<Value> {
    client.get("/v1/connectors/plant")?.json()
}

/// Waits until it takes readings.
pub fn wait_until_connected(client: &Client) -> Result<()> {
    wait_until("the broker", || Ok(status(client)?["state"] == "running"))
}
