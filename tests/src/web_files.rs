//! A web server with the files of a folder, of Python's own library.

use std::io::{BufRead as _, BufReader};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};

use anyhow::{Context as _, Result};

use crate::guests::workspace;

/// A web server on a port of loopback. It ends when this goes out of scope.
#[derive(Debug)]
pub struct WebFiles {
    child: Child,
    port: u16,
}

impl WebFiles {
    /// Starts it; over TLS where there are a certificate and its key. `None` where there is no Python, which is said as not
    /// tested.
    pub fn start(folder: &Path, tls: Option<&(PathBuf, PathBuf)>, what: &str) -> Result<Option<Self>> {
        let mut python = Command::new("python3");
        python.arg(workspace().join("tests/peers/web_files.py")).arg(folder);
        if let Some((certificate, key)) = tls {
            python.arg(certificate).arg(key);
        }
        let Ok(mut child) = python.stdin(Stdio::null()).stdout(Stdio::piped()).spawn() else {
            ironloom_mutate::missing("python", what, "python3 isn't installed");
            return Ok(None);
        };
        let mut line = String::new();
        BufReader::new(child.stdout.take().context("no stdout")?).read_line(&mut line)?;
        let port = line.trim().parse().with_context(|| format!("no port: {line:?}"))?;
        Ok(Some(Self { child, port }))
    }

    pub fn port(&self) -> u16 {
        self.port
    }
}

impl Drop for WebFiles {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}
