//! An app that drives machines behind mosquitto, and what the machines were told.

use std::collections::BTreeMap;

use anyhow::{Context as _, Result, ensure};
use serde_json::{Value, json};

use crate::apps::install;
use crate::mosquitto::{Mosquitto, Subscriber};
use crate::wait::wait_until;
use crate::{Client, Server, Setup, guests, plant};

/// A connector to a broker by which set-points go out and wishes come in, with further keys of its own.
fn config(broker: &Mosquitto, more: &str) -> String {
    let of_stations = "[connectors.plant.topics.\"wishes/{station}\"]\npoint = \"site/{station}/wish\"\n\
                       [connectors.plant.set_points.\"plant/{station}/limit\"]\ntopic = \"stations/{station}/limit\"\n";
    plant::config(&broker.url(), &format!("{more}\n{of_stations}"))
}

/// 0, or 6 to 32 A; others are lowered. Nobody vouches: 6 A.
fn grants(more: Value) -> Value {
    let mut grant = json!({"allow": "0, 6..32", "toward": "low", "safe": 6});
    let mut grants = json!({"outputs": {}});
    for (key, value) in more.as_object().into_iter().flatten() {
        let into = if key == "mode" { &mut grants } else { &mut grant };
        into[key] = value.clone();
    }
    grants["outputs"]["limit"] = grant;
    grants
}

fn drive(client: &Client, life: u64, more: Value) -> Result<()> {
    let bindings = json!({
        "wish": "site/{station}/wish",
        "list": "site/list",
        "hostile": "site/hostile",
        "heard": "apps/driver/limit/{station}/outcome",
        "limit": "plant/{station}/limit",
    });
    let request = json!({"grants": grants(more), "settings": {"life": life}});
    let installed = install(client, "driver", &guests::package("driver")?, bindings, request)?;
    let warnings = installed["warnings"].to_string();
    ensure!(!warnings.contains("set-point") && !warnings.contains("grant"), "{warnings}");
    Ok(())
}

pub fn wait_until_connected(client: &Client) -> Result<()> {
    wait_until("the broker", || Ok(state_of_set_points(client)? == "running"))
}

pub fn state_of_set_points(client: &Client) -> Result<String> {
    let list = client.get("/v1/connectors")?.json()?;
    Ok(list["items"][0]["set_points"]["state"].as_str().unwrap_or_default().to_owned())
}

/// The values that each station was told, in their order.
pub fn told(subscriber: &Subscriber) -> Result<BTreeMap<String, Vec<f64>>> {
    let mut told: BTreeMap<String, Vec<f64>> = BTreeMap::new();
    for got in subscriber.got() {
        let payload: Value = serde_json::from_str(&got.payload).with_context(|| got.payload.clone())?;
        let station = got.topic.split('/').nth(1).context("no station")?.to_owned();
        told.entry(station).or_default().push(payload["value"].as_f64().context("no value")?);
    }
    Ok(told)
}

/// Gives what the app heard of a station, by its outcomes in their order.
pub fn outcomes(client: &Client, station: &str) -> Result<Vec<String>> {
    let point = format!("point=apps/driver/limit/{station}/outcome");
    let text = |reading: &Value| reading["value"].as_str().unwrap_or_default().to_owned();
    Ok(client.journal(0, &point)?.iter().map(text).collect())
}

pub fn points(client: &Client) -> Result<BTreeMap<String, Value>> {
    let items = client.all("/v1/installations/driver/intents")?;
    let point = |item: Value| (item["point"].as_str().unwrap_or_default().to_owned(), item);
    Ok(items.into_iter().map(point).collect())
}

/// A broker, a server and an app that drives.
pub struct Bench {
    pub broker: Mosquitto,
    pub server: Server,
}

impl Bench {
    pub fn new(what: &str, life: u64, more: Value) -> Result<Option<Self>> {
        Self::with(what, life, more, "")
    }

    /// The same, with further keys of the connector.
    pub fn with(what: &str, life: u64, more: Value, keys: &str) -> Result<Option<Self>> {
        let Some(broker) = Mosquitto::start("", what)? else { return Ok(None) };
        let server = Setup::new()?.config(config(&broker, keys)).start_listening()?;
        wait_until_connected(server.client())?;
        drive(server.client(), life, more)?;
        Ok(Some(Self { broker, server }))
    }

    pub fn client(&self) -> &Client {
        self.server.client()
    }

    pub fn wish(&self, station: &str, value: f64) -> Result<()> {
        self.client().push_one(&format!("site/{station}/wish"), value)?;
        Ok(())
    }
}
