//! `ironloom state`.

mod key;

use std::io::Read as _;
use std::path::PathBuf;

use anyhow::Context as _;
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD as BASE64;
use clap::{Args, Subcommand};
use serde::Deserialize;
use serde_json::json;
use serde_json::value::RawValue;

use super::client::segment;
use super::failure::{Failure, Outcome};
use super::{Global, PageArgs, output};
use crate::api::JSON_TYPE;
use ironloom_types::limits::MAX_STATE_VALUE;

/// Shows an installation's state, in the order of its keys, or repairs it.
#[derive(Args, Debug)]
#[command(args_conflicts_with_subcommands = true)]
pub(super) struct State {
    #[command(subcommand)]
    what: Option<What>,
    /// The installation
    id: Option<String>,
    /// Only keys that start with this, written as `state list` shows them
    #[arg(long, value_name = "PREFIX", value_parser = key::given)]
    prefix: Option<String>,
    #[command(flatten)]
    page: PageArgs,
}

#[derive(Args, Debug)]
struct List {
    /// The installation
    id: String,
    /// Only keys that start with this, written as `state list` shows them
    #[arg(long, value_name = "PREFIX", value_parser = key::given)]
    prefix: Option<String>,
    #[command(flatten)]
    page: PageArgs,
}

#[derive(Debug, Subcommand)]
enum What {
    /// List the keys with their values
    List(List),
    /// Print the value of a key, byte by byte
    Get(Key),
    /// Set a key while the installation is paused or quarantined
    Set(Set),
    /// Delete keys while the installation is paused or quarantined
    Delete {
        /// The installation
        id: String,
        /// The keys, as `state list` shows them: \\t is a tab, \\\\ a backslash
        #[arg(required = true, value_name = "KEY", value_parser = key::given)]
        keys: Vec<String>,
    },
}

#[derive(Args, Debug)]
struct Key {
    /// The installation
    id: String,
    /// The key, as `state list` shows it: \\t is a tab, \\\\ a backslash
    #[arg(value_parser = key::given)]
    key: String,
}

#[derive(Args, Debug)]
struct Set {
    #[command(flatten)]
    key: Key,
    #[command(flatten)]
    value: Value,
}

#[derive(Args, Debug)]
#[group(required = true, multiple = false)]
struct Value {
    /// The value as JSON, which is kept as it stands
    #[arg(id = "value", value_name = "JSON", allow_hyphen_values = true)]
    value: Option<String>,
    /// The value as text
    #[arg(long, value_name = "TEXT", allow_hyphen_values = true)]
    text: Option<String>,
    /// The value as base64
    #[arg(long, value_name = "BASE64")]
    base64: Option<String>,
    /// The value is what this file holds, byte by byte; - is what comes by the pipe
    #[arg(long, value_name = "FILE")]
    file: Option<PathBuf>,
}

#[derive(Deserialize)]
struct Entry {
    key: String,
    value: Base64,
    json: Option<Box<RawValue>>,
}

#[derive(Deserialize)]
struct Base64 {
    base64: String,
}

impl State {
    pub(super) fn run(self, global: &Global) -> Outcome {
        match (self.what, self.id) {
            (Some(What::List(list)), _) => list.run(global),
            (None, Some(id)) => List { id, prefix: self.prefix, page: self.page }.run(global),
            (Some(What::Get(key)), _) => key.get(global),
            (Some(What::Set(set)), _) => set.run(global),
            (Some(What::Delete { id, keys }), _) => {
                let client = global.client()?;
                output::each(keys, |key| {
                    client.delete(&path(&id, key), &[])?;
                    output::done(global, &format!("{} is deleted", key::shown(key)))
                })
            }
            (None, None) => Err(Failure::Misuse("name an installation".to_owned())),
        }
    }
}

fn path(id: &str, key: &str) -> String {
    format!("/v1/installations/{}/state/{}", segment(id), segment(key))
}

impl List {
    fn run(self, global: &Global) -> Outcome {
        let path = format!("/v1/installations/{}/state", segment(&self.id));
        let after = self.page.after.as_deref().map(key::given).transpose();
        let query = [
            ("prefix", self.prefix),
            ("after", after.map_err(Failure::Misuse)?),
            ("limit", Some(self.page.limit.to_string())),
        ];
        let row = |item: Entry| {
            let value =
                item.json.map_or(format!("base64:{}", item.value.base64), |json| json.get().to_owned());
            [key::shown(&item.key), output::shorten(&value)]
        };
        output::list_from(global, &path, &query, &["key", "value"], row, key::shown)
    }
}

impl Key {
    fn get(self, global: &Global) -> Outcome {
        let answer = global.client()?.get(&path(&self.id, &self.key), &[])?;
        if global.json {
            return output::json(&answer);
        }
        let entry: Entry = answer.read()?;
        let value = BASE64.decode(&entry.value.base64).context("the value can't be decoded")?;
        output::bytes(&value)
    }
}

impl Set {
    fn run(self, global: &Global) -> Outcome {
        let Key { id, key } = &self.key;
        let body = self.value.body()?;
        let answer = global.client()?.put(&path(id, key), JSON_TYPE, body.as_bytes())?;
        let text =
            format!("{} is set; the app sees it once it runs: `ironloom resume {id}`", key::shown(key));
        output::done_with(global, &answer, &text)
    }
}

impl Value {
    /// The body of the request.
    fn body(self) -> Result<String, Failure> {
        Ok(match self {
            Self { value: Some(value), .. } => {
                let json: Box<RawValue> = serde_json::from_str(&value).map_err(|error| {
                    Failure::Misuse(format!("the value is not JSON ({error}); plain text goes by --text"))
                })?;
                format!("{{\"json\":{json}}}")
            }
            Self { text: Some(text), .. } => json!({"text": text}).to_string(),
            Self { base64: Some(base64), .. } => json!({"base64": base64}).to_string(),
            Self { file: Some(file), .. } => json!({"base64": BASE64.encode(read(&file)?)}).to_string(),
            _ => return Err(Failure::Misuse("give a value".to_owned())),
        })
    }
}

/// The bytes of a file; one more than a value may have is enough to be refused.
fn read(file: &PathBuf) -> Result<Vec<u8>, Failure> {
    let mut bytes = Vec::new();
    let most = MAX_STATE_VALUE as u64 + 1;
    let read = if file.as_os_str() == "-" {
        std::io::stdin().lock().take(most).read_to_end(&mut bytes)
    } else {
        std::fs::File::open(file).and_then(|file| file.take(most).read_to_end(&mut bytes))
    };
    read.with_context(|| format!("{} can't be read", file.display()))?;
    Ok(bytes)
}
