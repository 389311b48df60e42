//! Reading the audit log: a server that needs tokens, and its chains held against what the documentation says of them.

use std::fs;
use std::process::{Command, Output, Stdio};

use anyhow::{Context as _, Result, ensure};
use serde_json::{Value, json};
use sha2::{Digest as _, Sha256};

use crate::described;
use crate::http::Client;
use crate::server::{Server, Setup, binary};

const REQUIRED: &str = "[server]\ntokens = \"required\"\n";

/// A server that needs tokens, with its admin and its auditor.
#[derive(Debug)]
pub struct Plant {
    pub server: Server,
    pub admin: Client,
    pub auditor: Client,
    auditors_token: String,
}

/// Makes a token.
pub fn token(admin: &Client, name: &str, role: &str) -> Result<String> {
    let made = admin.post("/v1/tokens", &json!({"name": name, "role": role}))?.json()?;
    Ok(made["token"].as_str().context("no token")?.to_owned())
}

impl Plant {
    pub fn new() -> Result<Self> {
        Self::with("")
    }

    /// One with this configuration besides.
    pub fn with(config: &str) -> Result<Self> {
        if !described::is_known() {
            // Whoever asks this one for the description of the API has no token, which would be told.
            drop(Setup::new()?.start()?);
        }
        let server = Setup::new()?.config(format!("{REQUIRED}{config}")).start()?;
        let admin = fs::read_to_string(server.setup().data().join("admin-token"))?;
        let admin = server.client().with_token(admin.trim());
        let auditors_token = token(&admin, "audrey", "auditor")?;
        let auditor = server.client().with_token(&auditors_token);
        Ok(Self { server, admin, auditor, auditors_token })
    }

    /// Somebody with a token of this role.
    pub fn client(&self, name: &str, role: &str) -> Result<Client> {
        Ok(self.server.client().with_token(&token(&self.admin, name, role)?))
    }

    /// The same after `kill -9`.
    pub fn restarted(self) -> Result<Self> {
        let setup = self.server.setup().clone();
        self.restarted_as(&setup)
    }

    /// The same after `kill -9`, with this configuration besides.
    pub fn restarted_with(self, config: &str) -> Result<Self> {
        let setup = self.server.setup().clone().config(format!("{REQUIRED}{config}"));
        self.restarted_as(&setup)
    }

    fn restarted_as(self, setup: &Setup) -> Result<Self> {
        self.server.kill()?;
        let server = setup.start()?;
        let with = |client: &Client| -> Result<Client> {
            let header = client.authorization().context("no token")?;
            Ok(server.client().with_token(header.trim_start_matches("Bearer ")))
        };
        let (admin, auditor) = (with(&self.admin)?, with(&self.auditor)?);
        Ok(Self { server, admin, auditor, auditors_token: self.auditors_token })
    }

    pub fn entries(&self, filter: &str) -> Result<Vec<Value>> {
        self.auditor.all(&format!("/v1/audit?{filter}"))
    }

    /// `ironloom audit`, as the auditor.
    pub fn audit(&self, arguments: &[&str]) -> Result<Output> {
        let mut command = Command::new(binary()?);
        command.arg("audit").args(arguments).env("IRONLOOM_URL", self.server.client().url());
        command.env("IRONLOOM_TOKEN", &self.auditors_token).stdin(Stdio::null());
        Ok(command.output()?)
    }

    /// A file beside the data.
    pub fn file(&self, name: &str) -> Result<String> {
        let path = self.server.setup().folder().join(name);
        Ok(path.to_str().context("an odd path")?.to_owned())
    }

    pub fn export(&self, name: &str) -> Result<String> {
        let file = self.file(name)?;
        let done = self.audit(&["export", &file])?;
        ensure!(done.status.success(), "{}", said(&done));
        Ok(file)
    }
}

/// All that a command prints.
pub fn said(output: &Output) -> String {
    format!("{}{}", String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr))
}

/// Who, role, action, resource, result and kind of problem of an entry.
pub fn words(entry: &Value) -> [&str; 6] {
    ["who", "role", "action", "resource", "result", "problem"].map(|name| entry[name].as_str().unwrap_or("?"))
}

/// A text of an entry.
pub fn field<'a>(entry: &'a Value, name: &str) -> Result<&'a str> {
    entry[name].as_str().with_context(|| format!("no {name} in {entry}"))
}

fn bytes(digest: &str) -> Result<Vec<u8>> {
    let hex = digest.strip_prefix("sha256:").context("no digest")?;
    (0..hex.len()).step_by(2).map(|at| Ok(u8::from_str_radix(&hex[at..at + 2], 16)?)).collect()
}

/// A digest as the server writes it.
pub fn sha256(bytes: impl AsRef<[u8]>) -> String {
    let hex = Sha256::digest(bytes).iter().map(|byte| format!("{byte:02x}")).collect::<String>();
    format!("sha256:{hex}")
}

/// The hash of an entry, by what the documentation says of it.
fn hash(entry: &Value) -> Result<String> {
    let mut all = b"ironloom audit entry v1\n".to_vec();
    all.extend(bytes(field(entry, "previous")?)?);
    all.extend(entry["number"].as_u64().context("no number")?.to_be_bytes());
    let time: jiff::Timestamp = field(entry, "time")?.parse()?;
    all.extend(u64::try_from(time.as_nanosecond())?.to_be_bytes());
    for name in ["chain", "who", "role", "action", "resource", "result", "problem", "detail"] {
        let text = field(entry, name)?;
        all.extend(u32::try_from(text.len())?.to_be_bytes());
        all.extend(text.as_bytes());
    }
    match entry["digest"].as_str() {
        None => all.push(0),
        Some(digest) => {
            all.push(1);
            all.extend(bytes(digest)?);
        }
    }
    Ok(sha256(&all))
}

/// Holds a chain against the documentation.
pub fn check_chain(entries: &[Value]) -> Result<()> {
    let mut previous = format!("sha256:{}", "0".repeat(64));
    for (number, entry) in (1..).zip(entries) {
        ensure!(entry["number"] == json!(number), "number {number} was expected: {entry}");
        ensure!(field(entry, "previous")? == previous, "it doesn't follow {previous}: {entry}");
        ensure!(field(entry, "hash")? == hash(entry)?, "its hash is another: {entry}");
        previous = field(entry, "hash")?.to_owned();
    }
    Ok(())
}
