//! The servers of the demo, and the signals that end it.

use std::fs::{self, File};
use std::io::{BufRead as _, BufReader};
use std::os::unix::process::CommandExt as _;
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::sync::mpsc::{Receiver, channel};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail, ensure};
use ironloom_tests::{Client, server};
use tempfile::TempDir;
use tokio::signal::unix::{SignalKind, signal};

/// The time that the server may take to begin, and to end.
const PATIENCE: Duration = Duration::from_secs(30);

/// A running server with a folder that goes with it.
pub(crate) struct Node {
    child: Child,
    client: Client,
    folder: TempDir,
}

impl Node {
    /// Starts it on a free port, with a configuration and with further files in its folder.
    pub(crate) fn start(config: &str, files: &[(&str, &str)]) -> Result<Self> {
        let folder = tempfile::Builder::new().prefix("ironloom-demo-").tempdir()?;
        let path = |name: &str| folder.path().join(name);
        for (name, text) in files.iter().chain([&("ironloom.toml", config)]) {
            fs::write(path(name), text)?;
        }
        let mut command = Command::new(server::binary()?);
        command
            .args(["serve", "--allow-unsigned"])
            .arg("--config")
            .arg(path("ironloom.toml"))
            .arg("--data")
            .arg(path("data"));
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

    /// Its words on stderr.
    pub(crate) fn said(&self) -> String {
        fs::read_to_string(self.folder.path().join("stderr")).unwrap_or_default()
    }

    /// Fails where it has ended.
    pub(crate) fn check(&mut self) -> Result<()> {
        match self.child.try_wait()? {
            Some(status) => bail!("a server ended with {status}:\n{}", self.said()),
            None => Ok(()),
        }
    }

    /// Asks it to stop, and waits until it has.
    pub(crate) fn stop(&mut self) -> Result<()> {
        let pid = i32::try_from(self.child.id()).ok().and_then(rustix::process::Pid::from_raw);
        rustix::process::kill_process(pid.context("no pid")?, rustix::process::Signal::TERM)?;
        let start = Instant::now();
        while start.elapsed() < PATIENCE {
            if let Some(status) = self.child.try_wait()? {
                ensure!(status.success(), "a server ended with {status}; its last words:\n{}", self.said());
                return Ok(());
            }
            std::thread::sleep(Duration::from_millis(20));
        }
        bail!("a server didn't stop:\n{}", self.said())
    }
}

impl Drop for Node {
    fn drop(&mut self) {
        // Nothing happens to one that has ended; then the folder goes.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// Ctrl-C, what a supervisor sends, and the end of the terminal.
pub(crate) struct Signals(Receiver<()>);

impl Signals {
    /// From now on they no longer end this program by themselves.
    pub(crate) fn listen() -> Result<Self> {
        let (send, receive) = channel();
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
        let (mut interrupt, mut terminate, mut hangup) = {
            let _within = runtime.enter();
            (
                signal(SignalKind::interrupt())?,
                signal(SignalKind::terminate())?,
                signal(SignalKind::hangup())?,
            )
        };
        std::thread::spawn(move || {
            runtime.block_on(async {
                loop {
                    tokio::select! {
                        _ = interrupt.recv() => {}
                        _ = terminate.recv() => {}
                        _ = hangup.recv() => {}
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
