//! mosquitto, an MQTT broker of Debian's, and its client that publishes.

use std::fs::{self, File};
use std::io::Write as _;
use std::net::{Ipv4Addr, TcpListener, TcpStream};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};

use anyhow::{Context as _, Result, bail, ensure};
use tempfile::TempDir;

use crate::guests::workspace;
use crate::python::run;
use crate::wait_for;

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

/// A broker on a port of loopback. It ends when this goes out of scope.
#[derive(Debug)]
pub struct Mosquitto {
    programs: Programs,
    child: Child,
    port: u16,
    _folder: TempDir,
}

/// The programs, and where their libraries are.
#[derive(Clone, Debug)]
struct Programs {
    broker: PathBuf,
    publish: PathBuf,
    libraries: Option<PathBuf>,
}

impl Mosquitto {
    /// Starts it with further lines of its configuration; `None` where it isn't here and can't be had, which is said as not
    /// tested.
    pub fn start(config: &str, what: &str) -> Result<Option<Self>> {
        let programs = match Programs::find() {
            Ok(programs) => programs,
            Err(error) => {
                ironloom_mutate::not_tested(what, &format!("{error:#}").replace('\n', " "));
                return Ok(None);
            }
        };
        let folder = tempfile::Builder::new().prefix("ironloom-mosquitto-").tempdir()?;
        // Free just now; whoever takes it meanwhile is seen, and another one is tried.
        for _ in 0..10 {
            let port = TcpListener::bind((Ipv4Addr::LOCALHOST, 0))?.local_addr()?.port();
            let path = folder.path().join("mosquitto.conf");
            fs::write(&path, format!("listener {port} 127.0.0.1\nallow_anonymous true\n{config}"))?;
            let log = File::options().create(true).append(true).open(folder.path().join("log"))?;
            let mut command = programs.command(&programs.broker);
            command.arg("-c").arg(&path).stdin(Stdio::null()).stdout(log.try_clone()?).stderr(log);
            let mut child = command.spawn().context("can't start mosquitto")?;
            let is_up = wait_for("mosquitto", || {
                if child.try_wait()?.is_some() {
                    return Ok(Some(false));
                }
                Ok(TcpStream::connect((Ipv4Addr::LOCALHOST, port)).is_ok().then_some(true))
            })?;
            if is_up {
                return Ok(Some(Self { programs, child, port, _folder: folder }));
            }
        }
        let said = fs::read_to_string(folder.path().join("log")).unwrap_or_default();
        bail!("mosquitto doesn't start: {said}")
    }

    pub fn url(&self) -> String {
        format!("mqtt://127.0.0.1:{}", self.port)
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
            libraries: Some(unpacked.join("usr/lib").join(architecture)),
        })
    }

    fn command(&self, program: &Path) -> Command {
        let mut command = Command::new(program);
        command.envs(self.libraries.as_ref().map(|libraries| ("LD_LIBRARY_PATH", libraries)));
        command
    }
}
