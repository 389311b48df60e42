//! The server of the demo, and the signals that end it.

use std::fs::{self, File};
use std::io::{BufRead as _, BufReader};
use std::os::unix::process::CommandExt as _;
use std::path::Path;
use std::process::{Child, Command, ExitStatus, Stdio};
use std::sync::mpsc::{Receiver, channel};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail};
use ironloom_tests::{Client, guests, server};
use tempfile::TempDir;
use tokio::signal::unix::{SignalKind, signal};

/// How long the server may take to begin, and to end.
const PATIENCE: Duration = Duration::from_secs(30);

/// A week of the feed in a second, its own clock, and a barn for each time it is read.
const CONFIG: &str = r#"# A herd's weighings as they were taken, a week of them in each second.
[site]
clock = "feed"

[connectors.herd]
kind = "csv"
path = "weighings.csv"
at = "at"
speed = 604800.0
loop = true
shift = "84 d"

[connectors.herd.columns.Weight]
point = "farm/barn-{lap}/pig-{Pig}/weight"
unit = "kg"

[connectors.herd.columns.Feed]
point = "farm/barn-{lap}/pig-{Pig}/feed"
unit = "kg"
"#;

/// A running server with a folder that goes with it.
pub(crate) struct Node {
    child: Child,
    client: Client,
    folder: TempDir,
}

impl Node {
    /// Starts it on a free port.
    pub(crate) fn start() -> Result<Self> {
        let folder = tempfile::Builder::new().prefix("ironloom-demo-").tempdir()?;
        let path = |name: &str| folder.path().join(name);
        fs::write(path("ironloom.toml"), CONFIG)?;
        fs::copy(guests::workspace().join("sample-apps/pigs/data/weighings.csv"), path("weighings.csv"))?;
        let mut command = Command::new(server::binary()?);
        command.arg("serve").arg("--config").arg(path("ironloom.toml")).arg("--data").arg(path("data"));
        command.args(["--listen", "127.0.0.1:0"]).stdin(Stdio::null()).stdout(Stdio::piped());
        command.stderr(File::create(path("stderr"))?);
        // Ctrl-C is for the demo alone, which then looks once more and stops the server.
        command.process_group(0);
        let mut child = command.spawn().context("can't start the server")?;
        let stdout = child.stdout.take();
        let mut node = Self { child, client: Client::new(""), folder };
        let (send, receive) = channel();
        std::thread::spawn(move || {
            for line in stdout.into_iter().flat_map(|out| BufReader::new(out).lines().map_while(Result::ok)) {
                let _ = send.send(line);
            }
        });
        let line = receive.recv_timeout(PATIENCE);
        let url = line.ok().and_then(|line| Some(line.strip_prefix("listening on ")?.to_owned()));
        let url = url.with_context(|| format!("the server didn't begin:\n{}", node.said()))?;
        node.client = Client::new(&url);
        Ok(node)
    }

    pub(crate) fn client(&self) -> &Client {
        &self.client
    }

    /// Of the API.
    pub(crate) fn url(&self) -> &str {
        self.client.url()
    }

    /// All that it writes lies here.
    pub(crate) fn folder(&self) -> &Path {
        self.folder.path()
    }

    /// What it said on stderr.
    pub(crate) fn said(&self) -> String {
        fs::read_to_string(self.folder.path().join("stderr")).unwrap_or_default()
    }

    /// How it ended, if it has.
    pub(crate) fn ended(&mut self) -> Result<Option<ExitStatus>> {
        Ok(self.child.try_wait()?)
    }

    /// Asks it to stop, and waits until it has.
    pub(crate) fn stop(&mut self) -> Result<ExitStatus> {
        let pid = i32::try_from(self.child.id()).ok().and_then(rustix::process::Pid::from_raw);
        rustix::process::kill_process(pid.context("no pid")?, rustix::process::Signal::TERM)?;
        let start = Instant::now();
        while start.elapsed() < PATIENCE {
            if let Some(status) = self.ended()? {
                return Ok(status);
            }
            std::thread::sleep(Duration::from_millis(20));
        }
        bail!("the server didn't stop:\n{}", self.said())
    }
}

impl Drop for Node {
    fn drop(&mut self) {
        // Nothing happens to one that has ended; then the folder goes.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// Ctrl-C, and what a supervisor sends.
pub(crate) struct Signals(Receiver<()>);

impl Signals {
    /// From now on they no longer end this program by themselves.
    pub(crate) fn listen() -> Result<Self> {
        let (send, receive) = channel();
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
        let (mut interrupt, mut terminate) = {
            let _within = runtime.enter();
            (signal(SignalKind::interrupt())?, signal(SignalKind::terminate())?)
        };
        std::thread::spawn(move || {
            runtime.block_on(async {
                loop {
                    tokio::select! {
                        _ = interrupt.recv() => {}
                        _ = terminate.recv() => {}
                    }
                    if send.send(()).is_err() {
                        return;
                    }
                }
            });
        });
        Ok(Self(receive))
    }

    /// Waits; whether a signal came.
    pub(crate) fn wait(&self, time: Duration) -> bool {
        self.0.recv_timeout(time).is_ok()
    }
}
