//! mosquitto, an MQTT broker of Debian's, and its clients.

use std::collections::BTreeSet;
use std::fs::{self, File};
use std::io::{BufRead as _, BufReader, Write as _};
use std::net::{Ipv4Addr, TcpListener, TcpStream};
use std::os::unix::process::CommandExt as _;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::{Arc, Mutex, PoisonError, mpsc};
use std::time::Duration;

use anyhow::{Context as _, Result, bail, ensure};
use tempfile::TempDir;

use crate::amqtt::Message;
use crate::guests::workspace;
use crate::python::run;
use crate::{wait_for, wait_until};

/// The topic by which a subscriber shows that it has subscribed.
const PROBE: &str = "ironloom-probe";

/// The programs, and libraries that a machine may lack.
const PACKAGES: [&str; 8] = [
    "mosquitto",
    "mosquitto-clients",
    "libmosquitto1",
    "libcjson1",
    "libdlt2",
    "libwrap0",
    "libnsl2",
    "libtirpc3",
];

/// Settings without which mosquitto drops messages for a client that is away or slow.
pub const LOSSLESS: &str = "max_queued_messages 0\nmax_inflight_messages 0\n";
/// The same, and each packet is in the broker's log, and whoever comes and goes.
pub const LOSSLESS_AND_LOGGED: &str = "max_queued_messages 0\nmax_inflight_messages 0\nlog_type all\n";

/// The settings with which mosquitto keeps all that it has in a folder, over its end.
pub fn lasting(folder: &Path) -> String {
    format!(
        "persistence true\npersistence_location {}/\nuser root\nautosave_on_changes true\nautosave_interval 1\n",
        folder.display()
    )
}

/// A broker on a port of loopback. It ends when this goes out of scope.
#[derive(Debug)]
pub struct Mosquitto {
    programs: Programs,
    child: Child,
    port: u16,
    folder: TempDir,
}

/// The programs, and where their libraries are.
#[derive(Clone, Debug)]
struct Programs {
    broker: PathBuf,
    publish: PathBuf,
    subscribe: PathBuf,
    passwords: PathBuf,
    libraries: Option<PathBuf>,
}

/// A message that a subscriber got.
#[derive(Clone, Debug, PartialEq)]
pub struct Got {
    /// When, in seconds since 1970.
    pub at: f64,
    pub topic: String,
    pub payload: String,
}

/// A client that subscribes. It ends when this goes out of scope.
#[derive(Debug)]
pub struct Subscriber {
    child: Child,
    got: Arc<Mutex<Vec<Got>>>,
}

impl Mosquitto {
    /// Starts it with further lines of its configuration; `None` where it isn't here and can't be had, which is said as not
    /// tested.
    pub fn start(config: &str, what: &str) -> Result<Option<Self>> {
        match Programs::find() {
            Ok(programs) => Self::run(programs, config, false).map(Some),
            Err(error) => {
                ironloom_mutate::missing("mosquitto", what, &format!("{error:#}").replace('\n', " "));
                Ok(None)
            }
        }
    }

    /// Starts it as [`Self::start`] does, out of the reach of Ctrl-C: whoever has it ends it. The inner error says why it isn't here
    /// and can't be had.
    pub fn start_apart(config: &str) -> Result<Result<Self>> {
        match Programs::find() {
            Ok(programs) => Self::run(programs, config, true).map(Ok),
            Err(error) => Ok(Err(error)),
        }
    }

    fn run(programs: Programs, config: &str, is_apart: bool) -> Result<Self> {
        let folder = tempfile::Builder::new().prefix("ironloom-mosquitto-").tempdir()?;
        // Free just now; whoever takes it meanwhile is seen, and another one is tried.
        for _ in 0..10 {
            let port = TcpListener::bind((Ipv4Addr::LOCALHOST, 0))?.local_addr()?.port();
            let path = folder.path().join("mosquitto.conf");
            fs::write(&path, format!("listener {port} 127.0.0.1\nallow_anonymous true\n{config}"))?;
            let log = File::options().create(true).append(true).open(folder.path().join("log"))?;
            let mut command = programs.command(&programs.broker);
            command.arg("-c").arg(&path).stdin(Stdio::null()).stdout(log.try_clone()?).stderr(log);
            if is_apart {
                command.process_group(0);
            }
            let mut child = command.spawn().context("can't start mosquitto")?;
            let is_up = wait_for("mosquitto", || {
                if child.try_wait()?.is_some() {
                    return Ok(Some(false));
                }
                Ok(TcpStream::connect((Ipv4Addr::LOCALHOST, port)).is_ok().then_some(true))
            })?;
            if is_up {
                return Ok(Self { programs, child, port, folder });
            }
        }
        let said = fs::read_to_string(folder.path().join("log")).unwrap_or_default();
        bail!("mosquitto doesn't start: {said}")
    }

    /// The place of the program, and what brought it there.
    pub fn origin(&self) -> String {
        let path = self.programs.broker.display();
        match &self.programs.libraries {
            None => format!("{path}, which is installed here"),
            Some(_) => format!("{path}, out of Debian's packages"),
        }
    }

    /// Starts it for one user with a password.
    pub fn start_for(user: &str, password: &str, config: &str, what: &str) -> Result<Option<Self>> {
        let Ok(programs) = Programs::find() else { return Self::start(config, what) };
        let folder = tempfile::Builder::new().prefix("ironloom-passwords-").tempdir()?;
        let file = folder.path().join("passwords");
        let mut command = programs.command(&programs.passwords);
        run(command.args(["-b", "-c"]).arg(&file).args([user, password]))?;
        let file = file.display();
        let broker =
            Self::start(&format!("allow_anonymous false\npassword_file {file}\nuser root\n{config}"), what)?;
        // It has read them.
        drop(folder);
        Ok(broker)
    }

    /// Ends the broker at once; [`Self::start_again`] brings it back at the same port.
    pub fn kill(&mut self) -> Result<()> {
        self.child.kill()?;
        self.child.wait()?;
        Ok(())
    }

    /// Starts a broker that was killed.
    pub fn start_again(&mut self) -> Result<()> {
        let log = File::options().create(true).append(true).open(self.folder.path().join("log"))?;
        let mut command = self.programs.command(&self.programs.broker);
        command.arg("-c").arg(self.folder.path().join("mosquitto.conf"));
        command.stdin(Stdio::null()).stdout(log.try_clone()?).stderr(log);
        self.child = command.spawn().context("can't start mosquitto")?;
        wait_until("mosquitto", || Ok(TcpStream::connect((Ipv4Addr::LOCALHOST, self.port)).is_ok()))
    }

    /// Starts a client that subscribes, and waits until it has.
    pub fn subscribe(&self, topic: &str) -> Result<Subscriber> {
        self.subscribe_as(topic, &[])
    }

    /// The same, with a session that the broker keeps by this id: what comes while the connection is lost comes later.
    pub fn subscribe_kept(&self, topic: &str, id: &str) -> Result<Subscriber> {
        self.subscribe_as(topic, &["-c", "-x", "3600", "-i", id])
    }

    /// The same for a client that has each message as JSON: besides its payload what it was sent with.
    pub fn subscribe_whole(&self, topic: &str) -> Result<Subscriber> {
        self.subscribe_as(topic, &["-F", "%U %t %j", "--retain-as-published"])
    }

    fn subscribe_as(&self, topic: &str, options: &[&str]) -> Result<Subscriber> {
        let mut command = self.programs.command(&self.programs.subscribe);
        command.args(["-h", "127.0.0.1", "-p", &self.port.to_string(), "-q", "1", "-t", topic]);
        // The last format counts.
        command.args(["-t", PROBE, "-V", "mqttv5", "-F", "%U %t %p"]).args(options);
        command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::null());
        let mut child = command.spawn().context("can't start mosquitto_sub")?;
        let stdout = child.stdout.take().context("no stdout")?;
        let got = Arc::new(Mutex::new(Vec::new()));
        let (into, (subscribed, is_subscribed)) = (Arc::clone(&got), mpsc::channel());
        std::thread::spawn(move || {
            for line in BufReader::new(stdout).lines().map_while(Result::ok) {
                let mut parts = line.splitn(3, ' ');
                let (Some(at), Some(topic), Some(payload)) = (parts.next(), parts.next(), parts.next())
                else {
                    continue;
                };
                if topic == PROBE {
                    let _ = subscribed.send(());
                } else if let Ok(at) = at.parse() {
                    let got = Got { at, topic: topic.to_owned(), payload: payload.to_owned() };
                    into.lock().unwrap_or_else(PoisonError::into_inner).push(got);
                }
            }
        });
        let subscriber = Subscriber { child, got };
        // What it says of itself stays in its buffer, so it is asked by a message.
        wait_until("mosquitto_sub", || {
            self.publish(PROBE, &["x".to_owned()])?;
            Ok(is_subscribed.recv_timeout(Duration::from_millis(100)).is_ok())
        })?;
        Ok(subscriber)
    }

    /// The lines of its log; with `log_type all` each packet has one.
    pub fn log(&self) -> Result<Vec<String>> {
        let log = fs::read(self.folder.path().join("log"))?;
        // Each begins with the time.
        let line = |line: &str| line.split_once(": ").map_or(line, |(_, said)| said).to_owned();
        Ok(String::from_utf8_lossy(&log).lines().map(line).collect())
    }

    /// The ids of the clients that are connected and begin so, as its log has it.
    pub fn clients(&self, begin: &str) -> Result<BTreeSet<String>> {
        let mut clients = BTreeSet::new();
        for line in self.log()? {
            if let Some((_, id)) =
                line.strip_prefix("New client connected from ").and_then(|rest| rest.split_once(" as "))
            {
                clients.extend(id.split(' ').next().map(str::to_owned));
            } else if let Some(id) = line.strip_prefix("Client ").and_then(|rest| rest.split(' ').next())
                && [" disconnected", " closed its connection", " has exceeded timeout"]
                    .iter()
                    .any(|end| line.contains(end))
            {
                clients.remove(id);
            }
        }
        clients.retain(|id| id.starts_with(begin));
        Ok(clients)
    }

    pub fn url(&self) -> String {
        format!("mqtt://127.0.0.1:{}", self.port)
    }

    pub fn port(&self) -> u16 {
        self.port
    }

    /// Publishes one message, whatever bytes it has, and waits until the broker has it.
    pub fn send(&self, message: &Message) -> Result<()> {
        let Message { topic, payload, qos, retain } = message;
        let mut command = self.programs.command(&self.programs.publish);
        command.args(["-h", "127.0.0.1", "-p", &self.port.to_string(), "-q", &qos.to_string(), "-t", topic]);
        command.args(retain.then_some("-r"));
        command.arg(if payload.is_empty() { "-n" } else { "-s" });
        command.stdin(Stdio::piped()).stdout(Stdio::null()).stderr(Stdio::piped());
        let mut child = command.spawn().context("can't start mosquitto_pub")?;
        let mut stdin = child.stdin.take().context("no stdin")?;
        stdin.write_all(payload)?;
        drop(stdin);
        let output = child.wait_with_output()?;
        ensure!(output.status.success(), "mosquitto_pub: {}", String::from_utf8_lossy(&output.stderr));
        Ok(())
    }

    /// Publishes lines, each as a message of quality of service 1, and waits until the broker has all.
    pub fn publish(&self, topic: &str, lines: &[String]) -> Result<()> {
        let mut command = self.programs.command(&self.programs.publish);
        command.args(["-h", "127.0.0.1", "-p", &self.port.to_string(), "-q", "1", "-t", topic, "-l"]);
        command.stdin(Stdio::piped()).stdout(Stdio::null()).stderr(Stdio::piped());
        let mut child = command.spawn().context("can't start mosquitto_pub")?;
        let mut stdin = child.stdin.take().context("no stdin")?;
        stdin.write_all(format!("{}\n", lines.join("\n")).as_bytes())?;
        drop(stdin);
        let output = child.wait_with_output()?;
        ensure!(output.status.success(), "mosquitto_pub: {}", String::from_utf8_lossy(&output.stderr));
        Ok(())
    }
}

impl Subscriber {
    /// All that it got so far.
    pub fn got(&self) -> Vec<Got> {
        self.got.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }
}

impl Drop for Subscriber {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

impl Drop for Mosquitto {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

impl Programs {
    /// Those of this machine, or of Debian's packages, unpacked into a folder of the project.
    fn find() -> Result<Self> {
        let installed = Self {
            broker: "/usr/sbin/mosquitto".into(),
            publish: "/usr/bin/mosquitto_pub".into(),
            subscribe: "/usr/bin/mosquitto_sub".into(),
            passwords: "/usr/bin/mosquitto_passwd".into(),
            libraries: None,
        };
        if installed.broker.exists() && installed.publish.exists() {
            return Ok(installed);
        }
        let folder = workspace().join("target/debian/mosquitto");
        fs::create_dir_all(&folder)?;
        let lock = File::create(folder.join("tests.lock"))?;
        lock.lock()?;
        let unpacked = folder.join("unpacked");
        if !unpacked.join("usr/bin/mosquitto_pub").exists() {
            let download = || {
                run(Command::new("apt-get").args(["download", "--quiet"]).args(PACKAGES).current_dir(&folder))
            };
            // The lists of packages may be missing or too old.
            download().or_else(|_| {
                run(Command::new("apt-get").args(["update", "--quiet"])).and_then(|()| download())
            })?;
            for entry in fs::read_dir(&folder)? {
                let path = entry?.path();
                if path.extension().is_some_and(|extension| extension == "deb") {
                    run(Command::new("dpkg").arg("-x").arg(&path).arg(&unpacked))?;
                }
            }
        }
        let architecture = format!("{}-linux-gnu", std::env::consts::ARCH);
        Ok(Self {
            broker: unpacked.join("usr/sbin/mosquitto"),
            publish: unpacked.join("usr/bin/mosquitto_pub"),
            subscribe: unpacked.join("usr/bin/mosquitto_sub"),
            passwords: unpacked.join("usr/bin/mosquitto_passwd"),
            libraries: Some(unpacked.join("usr/lib").join(architecture)),
        })
    }

    fn command(&self, program: &Path) -> Command {
        let mut command = Command::new(program);
        command.envs(self.libraries.as_ref().map(|libraries| ("LD_LIBRARY_PATH", libraries)));
        command
    }
}
