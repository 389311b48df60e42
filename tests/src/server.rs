//! The real server as a process of its own, on a free port and a folder that goes away.

use std::fs::{self, File};
use std::io::{BufRead, BufReader};
use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Output, Stdio};
use std::sync::Arc;
use std::sync::mpsc::{Receiver, RecvTimeoutError, channel};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail, ensure};
use tempfile::TempDir;

use crate::http::Client;
use crate::wait::{PATIENCE, wait_for};

/// The settings of a server, and its folder, which outlives it: start it again on the same one.
#[derive(Clone, Debug)]
pub struct Setup {
    folder: Arc<TempDir>,
    /// Where log and store are, if not in `folder`.
    data: Option<PathBuf>,
    config: Option<String>,
    /// Only signed packages may be installed.
    signed_only: bool,
    env: Vec<(String, String)>,
    arguments: Vec<String>,
    ip: IpAddr,
    /// The authority of its certificate.
    ca: Option<PathBuf>,
    /// 0: any that is free.
    port: u16,
}

impl Setup {
    /// A folder of its own, and all defaults.
    pub fn new() -> Result<Self> {
        let folder = tempfile::Builder::new().prefix("ironloom-test-").tempdir()?;
        let ip = Ipv4Addr::LOCALHOST.into();
        let (env, arguments) = (Vec::new(), Vec::new());
        Ok(Self {
            folder: Arc::new(folder),
            data: None,
            config: None,
            signed_only: false,
            env,
            arguments,
            ip,
            ca: None,
            port: 0,
        })
    }

    /// With its data in a folder that stays.
    #[must_use]
    pub fn data_in(mut self, folder: &Path) -> Self {
        self.data = Some(folder.to_owned());
        self
    }

    /// With this configuration file.
    #[must_use]
    pub fn config(mut self, text: impl Into<String>) -> Self {
        self.config = Some(text.into());
        self
    }

    /// With what the configuration says of unsigned packages. Else they may be installed: most tests bring their own.
    #[must_use]
    pub fn signed_only(mut self) -> Self {
        self.signed_only = true;
        self
    }

    /// With an environment variable, such as `FAILPOINTS`.
    #[must_use]
    pub fn env(mut self, name: &str, value: &str) -> Self {
        self.env.push((name.to_owned(), value.to_owned()));
        self
    }

    /// Without the environment variables of [`Self::env`].
    #[must_use]
    pub fn without_env(mut self) -> Self {
        self.env.clear();
        self
    }

    /// With a further argument of `serve`.
    #[must_use]
    pub fn argument(mut self, argument: &str) -> Self {
        self.arguments.push(argument.to_owned());
        self
    }

    /// On another loopback address than 127.0.0.1.
    #[must_use]
    pub fn ip(mut self, ip: IpAddr) -> Self {
        self.ip = ip;
        self
    }

    /// With a certificate of this authority.
    #[must_use]
    pub fn trusting(mut self, ca: PathBuf) -> Self {
        self.ca = Some(ca);
        self
    }

    /// On the port of a server that has ended, for clients that know it.
    #[must_use]
    pub fn port(mut self, port: u16) -> Self {
        self.port = port;
        self
    }

    /// The folder of the store and the log.
    pub fn data(&self) -> PathBuf {
        self.data.clone().unwrap_or_else(|| self.folder.path().join("data"))
    }

    /// A folder for whatever else a test writes.
    pub fn folder(&self) -> &Path {
        self.folder.path()
    }

    /// Returns the stderr of all servers of this folder.
    pub fn said(&self) -> String {
        fs::read(self.folder.path().join("stderr"))
            .map(|bytes| String::from_utf8_lossy(&bytes).into_owned())
            .unwrap_or_default()
    }

    fn command(&self) -> Result<Command> {
        let with_failpoints = self.env.iter().any(|(name, _)| name == "FAILPOINTS");
        let mut command = Command::new(if with_failpoints { failpoints_binary()? } else { binary()? });
        command.arg("serve").arg("--data").arg(self.data());
        command.arg("--listen").arg(SocketAddr::new(self.ip, self.port).to_string());
        if let Some(config) = &self.config {
            let path = self.folder.path().join("ironloom.toml");
            fs::write(&path, config)?;
            command.arg("--config").arg(path);
        }
        if !self.signed_only {
            command.arg("--allow-unsigned");
        }
        let stderr = File::options().create(true).append(true).open(self.folder.path().join("stderr"))?;
        command.args(&self.arguments).envs(self.env.iter().map(|(name, value)| (name, value)));
        command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(stderr);
        Ok(command)
    }

    /// Starts the server and waits until it is ready.
    pub fn start(&self) -> Result<Server> {
        let mut server = self.start_listening()?;
        wait_for("the server to be ready", || {
            if let Some(status) = server.child.try_wait()? {
                bail!("the server ended with {status} before it was ready:\n{}", self.said());
            }
            Ok(server.client.get("/readyz").ok().filter(|answer| answer.status == 200))
        })?;
        Ok(server)
    }

    /// Starts the server and waits until it listens.
    pub fn start_listening(&self) -> Result<Server> {
        let mut child = self.spawn()?;
        let stdout = child.stdout.take().context("the server has no stdout")?;
        let lines = lines_of(stdout);
        let first = lines.recv_timeout(PATIENCE);
        let mut server =
            Server { child, client: Client::new(""), setup: self.clone(), ended: None, _lines: lines };
        let url = match &first {
            Ok(line) => line.strip_prefix("listening on ").map(str::to_owned),
            Err(RecvTimeoutError::Timeout) => bail!("the server didn't begin to listen:\n{}", self.said()),
            Err(RecvTimeoutError::Disconnected) => {
                let status = server.wait()?;
                bail!("the server ended with {status} before it listened:\n{}", self.said());
            }
        };
        let url = url.with_context(|| format!("the first line on stdout is {first:?}"))?;
        let (scheme, address) = url.split_once("://").context("no URL")?;
        let mut address: SocketAddr = address.parse()?;
        ensure!(address.ip() == self.ip, "the server listens on {url}");
        // Only loopback is contacted.
        if address.ip().is_unspecified() {
            address.set_ip(Ipv4Addr::LOCALHOST.into());
        }
        let url = format!("{scheme}://{address}");
        server.client = match &self.ca {
            Some(ca) => Client::trusting(&url, ca)?,
            None => Client::new(&url),
        };
        Ok(server)
    }

    /// Runs the server where it is expected to end by itself, and gives what it left.
    pub fn run_to_end(&self) -> Result<ExitStatus> {
        self.end_of(self.spawn()?)
    }

    /// Starts the server, and waits for nothing.
    pub fn spawn(&self) -> Result<Child> {
        self.command()?.spawn().context("can't start the server")
    }

    /// Waits for a process that is to end by itself.
    pub fn end_of(&self, mut child: Child) -> Result<ExitStatus> {
        let start = Instant::now();
        while start.elapsed() < PATIENCE {
            if let Some(status) = child.try_wait()? {
                return Ok(status);
            }
            std::thread::sleep(Duration::from_millis(10));
        }
        child.kill()?;
        child.wait()?;
        bail!("the server should have ended by itself:\n{}", self.said())
    }
}

/// A running server. It is killed when this goes out of scope.
#[derive(Debug)]
pub struct Server {
    child: Child,
    client: Client,
    setup: Setup,
    ended: Option<ExitStatus>,
    /// Keeps the reader of stdout from stopping, which would block the server at last.
    _lines: Receiver<String>,
}

impl Server {
    pub fn client(&self) -> &Client {
        &self.client
    }

    /// How it was started.
    pub fn setup(&self) -> &Setup {
        &self.setup
    }

    /// The id of its process.
    pub fn pid(&self) -> u32 {
        self.child.id()
    }

    /// Bytes of memory that it has resident.
    pub fn resident_bytes(&self) -> Result<u64> {
        let status = fs::read_to_string(format!("/proc/{}/status", self.pid()))?;
        let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:")).context("no VmRSS")?;
        let kib: u64 = line.trim().trim_end_matches("kB").trim().parse()?;
        Ok(kib * 1024)
    }

    /// Counts its threads.
    pub fn threads(&self) -> Result<usize> {
        Ok(fs::read_dir(format!("/proc/{}/task", self.pid()))?.count())
    }

    /// Counts its open descriptors.
    pub fn descriptors(&self) -> Result<usize> {
        Ok(fs::read_dir(format!("/proc/{}/fd", self.pid()))?.count())
    }

    /// CPU time that it has used, its compile workers left out.
    pub fn cpu_time(&self) -> Result<Duration> {
        let stat = fs::read_to_string(format!("/proc/{}/stat", self.pid()))?;
        let (_, fields) = stat.rsplit_once(')').context("no name in stat")?;
        let ticks = fields.split_whitespace().skip(11).take(2).map(str::parse::<u64>);
        // A hundred in a second, on all that Linux runs on.
        Ok(Duration::from_millis(10 * ticks.sum::<std::result::Result<u64, _>>()?))
    }

    /// Whether it still runs.
    pub fn is_alive(&mut self) -> Result<bool> {
        if self.ended.is_none() {
            self.ended = self.child.try_wait()?;
        }
        Ok(self.ended.is_none())
    }

    /// Waits until it has ended.
    pub fn wait(&mut self) -> Result<ExitStatus> {
        wait_for("the server to end", || Ok(if self.is_alive()? { None } else { self.ended }))
    }

    /// `kill -9`; an error where the server had ended by itself.
    pub fn kill(mut self) -> Result<()> {
        if self.is_alive()? {
            self.child.kill()?;
            self.ended = Some(self.child.wait()?);
        }
        let ended = self.ended.context("it has an end")?;
        let signal = std::os::unix::process::ExitStatusExt::signal(&ended);
        ensure!(
            signal == Some(9),
            "the server ended by itself before it was killed: {ended}\n{}",
            self.setup.said()
        );
        Ok(())
    }

    /// Asks it to end, by SIGTERM.
    pub fn terminate(&self) -> Result<()> {
        self.signal(rustix::process::Signal::TERM)
    }

    /// Asks it to read its configuration again, by SIGHUP.
    pub fn hang_up(&self) -> Result<()> {
        self.signal(rustix::process::Signal::HUP)
    }

    fn signal(&self, signal: rustix::process::Signal) -> Result<()> {
        let pid =
            i32::try_from(self.pid()).ok().and_then(rustix::process::Pid::from_raw).context("no pid")?;
        Ok(rustix::process::kill_process(pid, signal)?)
    }

    /// SIGTERM, and waits for its end.
    pub fn stop(mut self) -> Result<ExitStatus> {
        self.terminate()?;
        self.wait()
    }

    /// Kills it, and starts it again as it was started.
    pub fn restarted(self) -> Result<Self> {
        let setup = self.setup.clone();
        self.kill()?;
        setup.start()
    }

    /// Runs a command of the CLI against it.
    pub fn cli(&self, arguments: &[&str]) -> Result<Output> {
        cli_at(self.client.url(), arguments)
    }

    /// Runs a command of the CLI with `--json` against it and gives what it printed.
    pub fn cli_json(&self, arguments: &[&str]) -> Result<serde_json::Value> {
        let output = self.cli(&[arguments, &["--json"]].concat())?;
        let said = String::from_utf8_lossy(&output.stderr).into_owned();
        ensure!(output.status.success(), "ironloom {}: {}: {said}", arguments.join(" "), output.status);
        let text = String::from_utf8_lossy(&output.stdout).into_owned();
        serde_json::from_str(&text).with_context(|| format!("ironloom {}: {text}", arguments.join(" ")))
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        if self.ended.is_none() {
            let _ = self.child.kill();
            let _ = self.child.wait();
        }
        if std::thread::panicking() {
            eprintln!("--- the server said:\n{}", self.setup.said());
        }
    }
}

/// Runs a command of the CLI against the server at a URL.
pub fn cli_at(url: &str, arguments: &[&str]) -> Result<Output> {
    consenting(arguments, |arguments| {
        let mut command = Command::new(binary()?);
        command.args(arguments).env("IRONLOOM_URL", url).stdin(Stdio::null());
        command.output().with_context(|| format!("ironloom {}", arguments.join(" ")))
    })
}

/// Runs a command of the CLI. An app gets what it asks for, as a script consents to it: by a file that a dry run has written.
pub fn consenting(arguments: &[&str], run: impl Fn(&[&str]) -> Result<Output>) -> Result<Output> {
    let asks = matches!(arguments.first(), Some(&("install" | "upgrade")));
    if !asks || arguments.iter().any(|argument| ["--dry-run", "--yes", "--grants"].contains(argument)) {
        return run(arguments);
    }
    let folder = tempfile::tempdir()?;
    let grants = folder.path().join("grants.toml");
    let grants = grants.to_str().context("an odd path")?;
    let looked = run(&[arguments, &["--dry-run", "--write-grants", grants]].concat())?;
    if !looked.status.success() {
        return Ok(looked);
    }
    run(&[arguments, &["--yes", "--grants", grants]].concat())
}

/// The binary: `IRONLOOM_BIN`, or the one beside this test.
pub fn binary() -> Result<PathBuf> {
    if let Some(path) = std::env::var_os("IRONLOOM_BIN") {
        return Ok(path.into());
    }
    let exe = std::env::current_exe()?;
    let folders = exe.ancestors().skip(1).take(2);
    let found = folders.map(|folder| folder.join("ironloom")).find(|path| path.is_file());
    found.with_context(|| {
        format!("no `ironloom` beside {}: run the tests by `cargo xtask test`", exe.display())
    })
}

/// The binary that has failpoints: `IRONLOOM_FAILPOINTS_BIN`, or the usual one.
fn failpoints_binary() -> Result<PathBuf> {
    std::env::var_os("IRONLOOM_FAILPOINTS_BIN").map_or_else(binary, |path| Ok(path.into()))
}

fn lines_of(stdout: impl std::io::Read + Send + 'static) -> Receiver<String> {
    let (send, receive) = channel();
    std::thread::spawn(move || {
        for line in BufReader::new(stdout).lines().map_while(std::result::Result::ok) {
            // Read on after the receiver has gone: a full pipe would stop the server.
            let _ = send.send(line);
        }
    });
    receive
}
