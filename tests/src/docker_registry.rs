//! Debian's `docker-registry`, the registry of the distribution project.

use std::fs::{self, File};
use std::net::{Ipv4Addr, TcpListener, TcpStream};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};

use anyhow::{Context as _, Result, bail};
use tempfile::TempDir;

use crate::guests::workspace;
use crate::python::run;
use crate::wait_for;

/// A registry on a port of loopback. It ends when this goes out of scope.
#[derive(Debug)]
pub struct DockerRegistry {
    child: Child,
    port: u16,
    _folder: TempDir,
}

impl DockerRegistry {
    /// Starts it with further lines of the section `http` and of the whole configuration; `None` where it isn't here and
    /// can't be had, which is said as not tested.
    pub fn start(of_http: &str, more: &str, what: &str) -> Result<Option<Self>> {
        let program = match find() {
            Ok(program) => program,
            Err(error) => {
                ironloom_mutate::missing("docker-registry", what, &format!("{error:#}").replace('\n', " "));
                return Ok(None);
            }
        };
        let folder = tempfile::Builder::new().prefix("ironloom-registry-").tempdir()?;
        let path = folder.path().join("config.yml");
        // Free just now; whoever takes it meanwhile is seen, and another one is tried.
        for _ in 0..10 {
            let port = TcpListener::bind((Ipv4Addr::LOCALHOST, 0))?.local_addr()?.port();
            let storage = folder.path().join("storage");
            let config = format!(
                "version: 0.1\nstorage:\n  filesystem:\n    rootdirectory: {}\nhttp:\n  addr: 127.0.0.1:{port}\n  secret: loopback\n{of_http}\n{more}\n",
                storage.display()
            );
            fs::write(&path, config)?;
            let log = File::options().create(true).append(true).open(folder.path().join("log"))?;
            let mut command = Command::new(&program);
            command.arg("serve").arg(&path).stdin(Stdio::null()).stdout(log.try_clone()?).stderr(log);
            let mut child = command.spawn().context("can't start docker-registry")?;
            let is_up = wait_for("docker-registry", || {
                if child.try_wait()?.is_some() {
                    return Ok(Some(false));
                }
                Ok(TcpStream::connect((Ipv4Addr::LOCALHOST, port)).is_ok().then_some(true))
            })?;
            if is_up {
                return Ok(Some(Self { child, port, _folder: folder }));
            }
        }
        let said = fs::read_to_string(folder.path().join("log")).unwrap_or_default();
        bail!("docker-registry doesn't start: {said}")
    }

    pub fn port(&self) -> u16 {
        self.port
    }
}

impl Drop for DockerRegistry {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// The program of this machine, or of Debian's package, unpacked into a folder of the project.
fn find() -> Result<PathBuf> {
    let installed = Path::new("/usr/bin/docker-registry");
    if installed.exists() {
        return Ok(installed.to_owned());
    }
    let folder = workspace().join("target/debian/docker-registry");
    fs::create_dir_all(&folder)?;
    let lock = File::create(folder.join("tests.lock"))?;
    lock.lock()?;
    let unpacked = folder.join("unpacked");
    let program = unpacked.join("usr/bin/docker-registry");
    if program.exists() {
        return Ok(program);
    }
    let download = || {
        let mut apt = Command::new("apt-get");
        run(apt.args(["download", "--quiet", "docker-registry"]).current_dir(&folder))
    };
    // The lists of packages may be missing or too old.
    download()
        .or_else(|_| run(Command::new("apt-get").args(["update", "--quiet"])).and_then(|()| download()))?;
    for entry in fs::read_dir(&folder)? {
        let path = entry?.path();
        if path.extension().is_some_and(|extension| extension == "deb") {
            run(Command::new("dpkg").arg("-x").arg(&path).arg(&unpacked))?;
        }
    }
    Ok(program)
}
