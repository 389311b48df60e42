//! Certificates for tests, made by `openssl`.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::Result;

use crate::python::run;

/// An authority in a folder, which makes certificates there.
#[derive(Clone, Debug)]
pub struct Authority {
    folder: PathBuf,
    name: String,
}

impl Authority {
    /// A new one; `None` where there is no `openssl`, which is said as not tested.
    pub fn new(folder: &Path, name: &str, what: &str) -> Result<Option<Self>> {
        if let Err(error) = run(Command::new("openssl").arg("version")) {
            ironloom_mutate::missing("openssl", what, &format!("{error:#}").replace('\n', " "));
            return Ok(None);
        }
        let own = Self { folder: folder.to_owned(), name: name.to_owned() };
        let mut command = own.openssl(&["req", "-x509", "-newkey", "rsa:2048", "-nodes", "-days", "2"]);
        command.args(["-subj", &format!("/CN={name}"), "-addext", "basicConstraints=critical,CA:TRUE"]);
        run(command.arg("-keyout").arg(own.file(name, "key")).arg("-out").arg(own.file(name, "pem")))?;
        Ok(Some(own))
    }

    /// The certificate of the authority itself.
    pub fn certificate(&self) -> PathBuf {
        self.file(&self.name, "pem")
    }

    /// A certificate for a name, with its key.
    pub fn sign(&self, name: &str) -> Result<(PathBuf, PathBuf)> {
        let (request, extensions) = (self.file(name, "csr"), self.file(name, "ext"));
        let (certificate, key) = (self.file(name, "pem"), self.file(name, "key"));
        fs::write(&extensions, format!("subjectAltName=DNS:{name}\n"))?;
        let mut asks =
            self.openssl(&["req", "-newkey", "rsa:2048", "-nodes", "-subj", &format!("/CN={name}")]);
        run(asks.arg("-keyout").arg(&key).arg("-out").arg(&request))?;
        let mut signs = self.openssl(&["x509", "-req", "-days", "2", "-CAcreateserial"]);
        signs.arg("-in").arg(&request).arg("-extfile").arg(&extensions).arg("-out").arg(&certificate);
        signs.arg("-CA").arg(self.certificate()).arg("-CAkey").arg(self.file(&self.name, "key"));
        run(&mut signs)?;
        Ok((certificate, key))
    }

    fn file(&self, name: &str, extension: &str) -> PathBuf {
        self.folder.join(format!("{name}.{extension}"))
    }

    fn openssl(&self, arguments: &[&str]) -> Command {
        let mut command = Command::new("openssl");
        command.args(arguments).current_dir(&self.folder);
        command
    }
}
