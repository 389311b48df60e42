//! amqtt, a broker and a client from PyPI that share no code with any other here. They speak MQTT 3.1.1 only.

use std::fmt::Write as _;
use std::fs::File;
use std::io::{BufRead as _, BufReader, Write as _};
use std::net::{Ipv4Addr, TcpListener};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};

use anyhow::{Context as _, Result, bail, ensure};
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD as BASE64;
use serde_json::{Value, json};
use tempfile::TempDir;

use crate::guests::workspace;
use crate::python::{self, AMQTT};

/// A message to be published.
#[derive(Clone, Debug)]
pub struct Message {
    pub topic: String,
    pub payload: Vec<u8>,
    pub qos: u8,
    pub retain: bool,
}

impl Message {
    /// One of quality of service 1.
    pub fn new(topic: &str, payload: impl AsRef<[u8]>) -> Self {
        Self { topic: topic.to_owned(), payload: payload.as_ref().to_owned(), qos: 1, retain: false }
    }

    #[must_use]
    pub fn qos(mut self, qos: u8) -> Self {
        self.qos = qos;
        self
    }

    #[must_use]
    pub fn retained(mut self) -> Self {
        self.retain = true;
        self
    }
}

/// A broker on a port of loopback. It ends when this goes out of scope.
#[derive(Debug)]
pub struct Amqtt {
    python: PathBuf,
    child: Child,
    port: u16,
    listener: Value,
    plugins: Value,
    /// The authority of its certificate, where it has one.
    authority: Option<PathBuf>,
    folder: TempDir,
}

/// A broker that lets anybody in.
pub fn anybody() -> Value {
    json!({"amqtt.plugins.authentication.AnonymousAuthPlugin": {"allow_anonymous": true}})
}

impl Amqtt {
    /// Starts it for anybody; `None` where it isn't here and can't be had, which is said as not tested.
    pub fn start(what: &str) -> Result<Option<Self>> {
        Self::start_with(&json!({}), &anybody(), None, what)
    }

    /// Starts it with further settings of its listener, with these plugins, and with the authority of its certificate.
    pub fn start_with(
        listener: &Value,
        plugins: &Value,
        authority: Option<&Path>,
        what: &str,
    ) -> Result<Option<Self>> {
        let Some(python) = python::with(AMQTT, what)? else { return Ok(None) };
        let folder = tempfile::Builder::new().prefix("ironloom-amqtt-").tempdir()?;
        // Free just now; whoever takes it meanwhile is seen, and another one is tried.
        for _ in 0..10 {
            let port = TcpListener::bind((Ipv4Addr::LOCALHOST, 0))?.local_addr()?.port();
            if let Some(child) = run_broker(&python, port, listener, plugins, &folder)? {
                let (listener, plugins) = (listener.clone(), plugins.clone());
                let authority = authority.map(Path::to_owned);
                return Ok(Some(Self { python, child, port, listener, plugins, authority, folder }));
            }
        }
        let said = std::fs::read_to_string(folder.path().join("log")).unwrap_or_default();
        bail!("amqtt doesn't start: {said}")
    }

    /// Ends the broker at once, and with it all that it has kept.
    pub fn kill(&mut self) -> Result<()> {
        self.child.kill()?;
        self.child.wait()?;
        Ok(())
    }

    /// Starts a broker that was killed, at the same port.
    pub fn start_again(&mut self) -> Result<()> {
        let again = run_broker(&self.python, self.port, &self.listener, &self.plugins, &self.folder)?;
        self.child = again.context("amqtt doesn't start again")?;
        Ok(())
    }

    pub fn url(&self) -> String {
        let scheme = if self.authority.is_some() { "mqtts" } else { "mqtt" };
        // The certificate is for the name.
        let host = if self.authority.is_some() { "localhost" } else { "127.0.0.1" };
        format!("{scheme}://{host}:{}", self.port)
    }

    /// Publishes messages, and waits until the broker has them.
    pub fn publish(&self, messages: &[Message]) -> Result<()> {
        let mut lines = String::new();
        for Message { topic, payload, qos, retain } in messages {
            let payload = BASE64.encode(payload);
            writeln!(lines, "{}", json!({"topic": topic, "payload": payload, "qos": qos, "retain": retain}))?;
        }
        let mut command = Command::new(&self.python);
        command.arg(workspace().join("tests/peers/amqtt_publish.py")).arg(self.url());
        command.arg(self.authority.as_deref().unwrap_or(Path::new("")));
        command.stdin(Stdio::piped()).stdout(Stdio::null()).stderr(Stdio::piped());
        let mut child = command.spawn().context("can't start amqtt's client")?;
        let mut stdin = child.stdin.take().context("no stdin")?;
        let writes = std::thread::spawn(move || stdin.write_all(lines.as_bytes()));
        let output = child.wait_with_output()?;
        ensure!(output.status.success(), "amqtt's client: {}", String::from_utf8_lossy(&output.stderr));
        writes.join().map_err(|_| anyhow::anyhow!("it panicked"))??;
        Ok(())
    }
}

impl Drop for Amqtt {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// Runs the broker and waits until it listens; `None` where it has ended before.
fn run_broker(
    python: &Path,
    port: u16,
    listener: &Value,
    plugins: &Value,
    folder: &TempDir,
) -> Result<Option<Child>> {
    let mut own = listener.clone();
    own["type"] = json!("tcp");
    own["bind"] = json!(format!("127.0.0.1:{port}"));
    let config = json!({"listeners": {"default": own}, "plugins": plugins});
    let log = File::options().create(true).append(true).open(folder.path().join("log"))?;
    let mut command = Command::new(python);
    command.arg(workspace().join("tests/peers/amqtt_broker.py")).arg(config.to_string());
    // It ends with its stdin: also where this process is killed.
    command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(log);
    let mut child = command.spawn().context("can't start amqtt")?;
    let stdout = child.stdout.take().context("no stdout")?;
    let mut line = String::new();
    BufReader::new(stdout).read_line(&mut line)?;
    if line.trim() == "listening" {
        return Ok(Some(child));
    }
    child.wait()?;
    Ok(None)
}
