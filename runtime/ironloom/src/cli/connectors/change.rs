//! `ironloom connectors add`, `set`, `stop`, `start` and `remove`.

use std::io::Read as _;
use std::path::{Path, PathBuf};

use anyhow::Context as _;
use clap::Args;

use super::text;
use crate::api::JSON_TYPE;
use crate::api::facade::{ConnectorStatus, ConnectorTable};
use crate::cli::client::{Answer, Client, segment};
use crate::cli::failure::{Failure, Outcome};
use crate::cli::{Global, output};
use ironloom_storage::small_files;

/// The longest file with the keys of one: as much as the server takes, and what is between them.
const MAX_FILE: u64 = 1 << 20;

#[derive(Args, Debug)]
pub(super) struct Add {
    /// The connector's name
    name: String,
    /// Read its keys from a TOML file, or from stdin with -: as they stand below [connectors.NAME], or a configuration that
    /// has this section
    #[arg(long, value_name = "FILE")]
    file: Option<PathBuf>,
    /// Further keys, or others than in the file: path=herd.csv, 'topics."a/{x}".point="x/{x}"'. A value that isn't TOML is a
    /// text
    #[arg(value_name = "KEY=VALUE")]
    keys: Vec<String>,
}

#[derive(Args, Debug)]
pub(super) struct Set {
    /// The connector's name
    name: String,
    /// Keys and their values: retained=none, 'topics."a/{x}".scale=0.1'. A value that isn't TOML is a text
    #[arg(value_name = "KEY=VALUE")]
    keys: Vec<String>,
    /// Take a key away, with all that is below it
    #[arg(long, value_name = "KEY")]
    unset: Vec<String>,
}

#[derive(Args, Debug)]
pub(super) struct Stop {
    /// The connector's name
    name: String,
}

#[derive(Args, Debug)]
pub(super) struct Start {
    /// The connector's name
    name: String,
}

#[derive(Args, Debug)]
pub(super) struct Remove {
    /// The connector's name
    name: String,
}

impl Add {
    pub(super) fn run(self, global: &Global) -> Outcome {
        let mut table = match &self.file {
            Some(path) => read(path, &self.name)?,
            None => ConnectorTable::default(),
        };
        merge(&mut table, &self.keys)?;
        if table == ConnectorTable::default() {
            return Err(Failure::Misuse("it has no keys: name a file by --file, or KEY=VALUE".to_owned()));
        }
        put(global, &global.client()?, &self.name, &table)
    }
}

impl Set {
    pub(super) fn run(self, global: &Global) -> Outcome {
        if self.keys.is_empty() && self.unset.is_empty() {
            return Err(Failure::Misuse(
                "nothing is to be changed: name KEY=VALUE, or --unset KEY".to_owned(),
            ));
        }
        let client = global.client()?;
        let now: ConnectorStatus = client.get(&path(&self.name, ""), &[])?.read()?;
        let Some(mut table) = now.table else {
            return Err(Failure::Misuse(format!(
                "connector {} stands in the server's configuration file; change it there, and give `ironloom reload`",
                self.name
            )));
        };
        for key in &self.unset {
            let ends =
                ConnectorTable::of_toml(&format!("{key} = 0")).map_err(|error| not_a_key(key, &error))?;
            if !table.take_out(&ends) {
                return Err(Failure::Misuse(format!("connector {} has no key {key}", self.name)));
            }
        }
        merge(&mut table, &self.keys)?;
        put(global, &client, &self.name, &table)
    }
}

impl Stop {
    pub(super) fn run(self, global: &Global) -> Outcome {
        post(global, &self.name, "stop", "is stopped")
    }
}

impl Start {
    pub(super) fn run(self, global: &Global) -> Outcome {
        post(global, &self.name, "start", "is started")
    }
}

impl Remove {
    pub(super) fn run(self, global: &Global) -> Outcome {
        global.client()?.delete(&path(&self.name, ""), &[])?;
        output::done(global, &format!("{} is removed", self.name))
    }
}

fn path(name: &str, deed: &str) -> String {
    format!("/v1/connectors/{}{deed}", segment(name))
}

fn put(global: &Global, client: &Client, name: &str, table: &ConnectorTable) -> Outcome {
    let answer = client.put(&path(name, ""), JSON_TYPE, table.to_json().as_bytes())?;
    shown(global, &answer)
}

fn post(global: &Global, name: &str, deed: &str, done: &str) -> Outcome {
    let answer = global.client()?.post(&path(name, &format!("/{deed}")), &[], JSON_TYPE, b"{}")?;
    output::done_with(global, &answer, &format!("{name} {done}"))
}

fn shown(global: &Global, answer: &Answer) -> Outcome {
    output::one(global, answer, |status: ConnectorStatus| text(&status))
}

/// Reads the keys of a connector from a file.
fn read(path: &Path, name: &str) -> Result<ConnectorTable, Failure> {
    let text = if path.as_os_str() == "-" {
        let mut text = String::new();
        std::io::stdin().take(MAX_FILE + 1).read_to_string(&mut text).context("stdin can't be read")?;
        if text.len() as u64 > MAX_FILE {
            return Err(Failure::Misuse(format!("stdin has more than {MAX_FILE} bytes")));
        }
        text
    } else {
        small_files::read_text(path, MAX_FILE).map_err(|error| Failure::Other(error.into()))?
    };
    let table = ConnectorTable::of_toml(&text)
        .map_err(|error| Failure::File(format!("{}: {error}", path.display())))?;
    // A configuration file, or one with nothing but the section's header before the keys.
    Ok(table.clone().into_inner(&["connectors", name]).unwrap_or(table))
}

/// Takes over `KEY=VALUE` after `KEY=VALUE`.
fn merge(table: &mut ConnectorTable, keys: &[String]) -> Result<(), Failure> {
    for given in keys {
        table.merge(key_and_value(given)?);
    }
    Ok(())
}

/// Reads `KEY=VALUE`, whose key may have a `=` in quotes.
fn key_and_value(given: &str) -> Result<ConnectorTable, Failure> {
    if let Ok(table) = ConnectorTable::of_toml(given)
        && table != ConnectorTable::default()
    {
        return Ok(table);
    }
    let is_key = |(at, _): &(usize, &str)| ConnectorTable::of_toml(&format!("{} = 0", &given[..*at])).is_ok();
    let Some((at, _)) = given.match_indices('=').find(is_key) else {
        return Err(not_a_key(given, "write it as KEY=VALUE"));
    };
    let text = serde_json::to_string(&given[at + 1..]).unwrap_or_default();
    ConnectorTable::of_toml(&format!("{} = {text}", &given[..at])).map_err(|error| not_a_key(given, &error))
}

fn not_a_key(given: &str, why: &str) -> Failure {
    Failure::Misuse(format!("{given:?} names no key of a connector: {why}"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn keys_are_toml_and_values_that_are_not_are_texts() {
        let json = |given: &str| key_and_value(given).unwrap().to_json();
        assert_eq!(json("path=herd.csv"), r#"{"path":"herd.csv"}"#);
        assert_eq!(json("speed=2.5"), r#"{"speed":2.5}"#);
        assert_eq!(json("loop = true"), r#"{"loop":true}"#);
        assert_eq!(json("delimiter=\";\""), r#"{"delimiter":";"}"#);
        assert_eq!(json("wait_for=[\"pigs\"]"), r#"{"wait_for":["pigs"]}"#);
        assert_eq!(json(r#"topics."a=b/{x}".point=x/{x}"#), r#"{"topics":{"a=b/{x}":{"point":"x/{x}"}}}"#);
        assert_eq!(json("user=a=b"), r#"{"user":"a=b"}"#);
        assert_eq!(json("user="), r#"{"user":""}"#);
        for wrong in ["path", "a b=c", "=x", ""] {
            assert!(matches!(key_and_value(wrong), Err(Failure::Misuse(_))), "{wrong}");
        }
    }
}
