//! The private server: a process on a free port, with its data in a folder that goes away.

use std::fs::File;
use std::io::{Read as _, Seek as _, SeekFrom};
use std::path::Path;
use std::process::Stdio;
use std::time::Duration;

use anyhow::{Context as _, bail};
use rustix::process::{Pid, Signal, kill_process_group};
use tempfile::TempDir;
use tokio::io::{AsyncBufReadExt as _, BufReader};
use tokio::process::{Child, ChildStdout, Command};
use tokio::time::timeout;

/// The time that the server has to begin and to end.
const PATIENCE: Duration = Duration::from_secs(30);

/// A process and all that it started, which end with this.
#[derive(Debug)]
pub(super) struct Group(Option<Pid>);

impl Group {
    /// The group of a child that was started as the first one of its own.
    pub(super) fn of(child: &Child) -> Self {
        let id = child.id().and_then(|id| i32::try_from(id).ok());
        Self(id.and_then(Pid::from_raw))
    }

    /// There is nobody left to end, and the number may be given to others.
    pub(super) fn has_ended(&mut self) {
        self.0 = None;
    }

    fn signal(&self, signal: Signal) {
        if let Some(group) = self.0 {
            // One that has ended is what is wanted.
            let _ = kill_process_group(group, signal);
        }
    }
}

impl Drop for Group {
    fn drop(&mut self) {
        self.signal(Signal::KILL);
    }
}

#[derive(Debug)]
pub(super) struct Server {
    // Dropped in this order: the processes go before their folder.
    group: Group,
    child: Child,
    url: String,
    /// Held open: a server whose stdout is closed would fail to write there.
    _stdout: BufReader<ChildStdout>,
    folder: TempDir,
}

impl Server {
    pub(super) async fn start() -> anyhow::Result<Self> {
        let folder = tempfile::Builder::new().prefix("ironloom-dev-").tempdir()?;
        let mut command = Command::new(std::env::current_exe()?);
        command
            .args(["serve", "--allow-unsigned"])
            .arg("--data")
            .arg(folder.path().join("data"))
            .args(["--listen", "127.0.0.1:0"]);
        let said = File::create(folder.path().join("server.log"))?;
        command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(said);
        let mut child =
            command.process_group(0).kill_on_drop(true).spawn().context("can't start the server")?;
        let group = Group::of(&child);
        let mut stdout = BufReader::new(child.stdout.take().context("the server has no stdout")?);
        let mut line = String::new();
        let read = timeout(PATIENCE, stdout.read_line(&mut line)).await;
        let url = line.trim().strip_prefix("listening on ").map(str::to_owned);
        let mut server = Self { group, child, url: String::new(), _stdout: stdout, folder };
        match url {
            Some(url) => server.url = url,
            None => bail!("the server didn't begin ({read:?}):\n{}", server.said()),
        }
        Ok(server)
    }

    pub(super) fn url(&self) -> &str {
        &self.url
    }

    /// An error once the server has ended by itself.
    pub(super) fn check(&mut self) -> anyhow::Result<()> {
        if let Some(status) = self.child.try_wait()? {
            bail!("the server has ended ({status}):\n{}", self.said());
        }
        Ok(())
    }

    /// The last lines of its log.
    fn said(&self) -> String {
        let text = tail(&self.folder.path().join("server.log")).unwrap_or_default();
        let lines: Vec<&str> = text.lines().collect();
        lines[lines.len().saturating_sub(20)..].join("\n")
    }

    /// Ends it and waits for it, for a while.
    pub(super) async fn end(mut self) {
        self.group.signal(Signal::TERM);
        if timeout(PATIENCE, self.child.wait()).await.is_ok() {
            self.group.has_ended();
        }
    }
}

/// The last bytes of a file, as text.
fn tail(path: &Path) -> std::io::Result<String> {
    /// More than the lines that are shown take.
    const BYTES: u64 = 64 << 10;
    let mut file = File::open(path)?;
    let end = file.metadata()?.len();
    file.seek(SeekFrom::Start(end.saturating_sub(BYTES)))?;
    let mut bytes = Vec::new();
    file.take(BYTES).read_to_end(&mut bytes)?;
    Ok(String::from_utf8_lossy(&bytes).into_owned())
}
