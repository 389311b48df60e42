//! What tests of signed packages and catalogs share: commands without a server, and versions of one app.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Output, Stdio};

use anyhow::{Context as _, Result, ensure};
use serde_json::{Value, json};

use crate::guests;
use crate::http::Answer;
use crate::server::{Server, Setup, binary, consenting};

/// The passphrase of all keys.
pub const PASSPHRASE: &str = "correct horse";

/// Runs a command in a folder. Where it needs a server that it doesn't name, nobody listens.
pub fn run(folder: &Path, arguments: &[&str]) -> Result<Output> {
    consenting(arguments, |arguments| {
        let mut command = Command::new(binary()?);
        command.args(arguments).current_dir(folder);
        command.env("IRONLOOM_URL", "http://127.0.0.1:1").env("IRONLOOM_PASSPHRASE", PASSPHRASE);
        Ok(command.stdin(Stdio::null()).output()?)
    })
}

/// Runs one that ends well; gives what it prints.
pub fn done(folder: &Path, arguments: &[&str]) -> Result<String> {
    let output = run(folder, arguments)?;
    ensure!(output.status.success(), "{arguments:?}: {output:?}");
    Ok(String::from_utf8(output.stdout)?)
}

/// Makes a key and gives its public half.
pub fn key(folder: &Path, file: &str) -> Result<String> {
    Ok(done(folder, &["key", "new", file])?.trim_end().to_owned())
}

/// A package, signed with these keys as well.
pub fn sign(folder: &Path, package: &[u8], keys: &[&str]) -> Result<Vec<u8>> {
    let file = "signed.app.tar";
    fs::write(folder.join(file), package)?;
    for key in keys {
        done(folder, &["sign", file, "--key", key])?;
    }
    Ok(fs::read(folder.join(file))?)
}

/// A version of the app, signed with these keys.
pub fn signed(folder: &Path, version: &str, keys: &[&str]) -> Result<Vec<u8>> {
    sign(folder, &one_state(version)?, keys)
}

/// The package of `one-state` in a version.
pub fn one_state(version: &str) -> Result<Vec<u8>> {
    let mut package = guests::package("one-state")?;
    let old = "version = \"0.1.0\"";
    ensure!(package.manifest.contains(old), "it has another version");
    package.manifest = package.manifest.replacen(old, &format!("version = {version:?}"), 1);
    Ok(package.tar())
}

/// Installs it, bound to rooms.
pub fn install(server: &Server, id: &str, package: &str) -> Result<Answer> {
    let body = json!({"id": id, "package": package, "bindings": {"value": "room/{name}"}});
    server.client().post("/v1/installations", &body)
}

/// A catalog's maker: a folder with keys, and the catalog in it.
#[derive(Debug)]
pub struct Maker {
    pub folder: PathBuf,
    pub root: String,
    pub index: String,
    pub publisher: String,
    name: String,
}

/// The app in its catalog.
pub const APP: &str = "com.example.one-state";

impl Maker {
    /// Makes keys, a signed root and a signed index with version 0.1.0 of an app.
    pub fn new(folder: &Path) -> Result<Self> {
        Self::named(folder, "plant")
    }

    /// The same, of a catalog with another name.
    pub fn named(folder: &Path, name: &str) -> Result<Self> {
        fs::create_dir_all(folder.join("catalog"))?;
        let key = |file: &str| key(folder, file);
        let (root, index, publisher) = (key("root.key")?, key("index.key")?, key("publisher.key")?);
        let maker = Self { folder: folder.to_owned(), root, index, publisher, name: name.to_owned() };
        maker.plan("")?;
        maker.add("0.1.0", "publisher.key")?;
        done(
            folder,
            &["catalog", "root", "catalog", "--root-key", &maker.root, "--index-key", &maker.index],
        )?;
        maker.publish()?;
        Ok(maker)
    }

    /// The folder of the catalog that it makes.
    pub fn catalog(&self) -> PathBuf {
        self.folder.join("catalog")
    }

    /// Says who may sign what, and whatever `more` says besides.
    pub fn plan(&self, more: &str) -> Result<()> {
        let (name, publisher) = (&self.name, &self.publisher);
        let plan = format!(
            "name = \"{name}\"\n{more}\n[[publishers]]\nname = \"Example\"\nkeys = [\"{publisher}\"]\nprefixes = [\"com.example\"]\n"
        );
        Ok(fs::write(self.catalog().join("catalog.toml"), plan)?)
    }

    /// Packs and signs a version, and puts it into the catalog.
    pub fn add(&self, version: &str, key: &str) -> Result<()> {
        fs::write(self.folder.join("new.app.tar"), one_state(version)?)?;
        done(&self.folder, &["sign", "new.app.tar", "--key", key])?;
        done(&self.folder, &["catalog", "build", "catalog", "--add", "new.app.tar"])?;
        Ok(())
    }

    /// Builds and signs it as it is.
    pub fn publish(&self) -> Result<()> {
        done(&self.folder, &["catalog", "build", "catalog"])?;
        self.sign("index.key")?;
        if self.catalog().join("next-root.json").exists() {
            self.sign("root.key")?;
        }
        Ok(())
    }

    /// Signs whatever this key may.
    pub fn sign(&self, key: &str) -> Result<()> {
        done(&self.folder, &["catalog", "sign", "catalog", "--key", key]).map(drop)
    }

    /// Adds the folder to a server.
    pub fn add_to(&self, server: &Server) -> Result<Value> {
        let body = json!({"source": self.catalog(), "trust": [self.root]});
        server.client().post("/v1/catalogs", &body)?.json()
    }
}

/// A server that has the catalog of a maker.
pub fn site() -> Result<(Maker, Server)> {
    let setup = Setup::new()?;
    let maker = Maker::new(&setup.folder().join("maker"))?;
    let server = setup.start()?;
    maker.add_to(&server)?;
    Ok((maker, server))
}

/// Has the server look at the catalog again.
pub fn refresh(server: &Server) -> Result<Answer> {
    server.client().post("/v1/catalogs/plant/refresh", &json!({}))
}

/// Gets a version and gives its digest.
pub fn fetch(server: &Server, version: &str) -> Result<String> {
    let answer = server.client().post(&format!("/v1/apps/{APP}/fetch"), &json!({"version": version}))?;
    Ok(answer.json()?["digest"].as_str().context("no digest")?.to_owned())
}

/// Checks a refusal, and that it says this.
pub fn refused(answer: Answer, status: u16, kind: &str, said: &str) -> Result<()> {
    let problem = answer.problem(status)?;
    ensure!(problem["kind"] == kind, "{problem}");
    ensure!(problem["detail"].as_str().is_some_and(|text| text.contains(said)), "{said} isn't in {problem}");
    ensure!(
        problem["hints"].as_array().is_some_and(|hints| !hints.is_empty()),
        "it says nothing to do: {problem}"
    );
    Ok(())
}
