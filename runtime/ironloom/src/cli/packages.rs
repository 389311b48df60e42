//! `ironloom packages`.

use std::path::Path;

use clap::{Args, Subcommand};

use super::client::{Answer, Client, segment};
use super::failure::{Failure, Outcome};
use super::{Global, PageArgs, described, inspect, output};
use crate::api::facade::{FetchRequest, PackageInfo};
use crate::api::{JSON_TYPE, PACKAGE_TYPE};
use ironloom_apps::package::not_packed;
use ironloom_trust::catalog::CatalogName;
use ironloom_trust::key::PublicKey;
use ironloom_types::ids::{AppId, Digest};

/// Lists packages, sends one, shows what an app asks for, or deletes one.
#[derive(Args, Debug)]
#[command(args_conflicts_with_subcommands = true)]
pub(super) struct Packages {
    #[command(subcommand)]
    what: Option<What>,
    #[command(flatten)]
    page: PageArgs,
}

#[derive(Debug, Subcommand)]
enum What {
    /// Send a package to the server, without installing it
    Add {
        /// The package's file
        file: String,
    },
    /// Show what an app takes, gives and asks for
    Show {
        /// The package's digest
        digest: String,
    },
    /// Delete a package that no installation has
    Delete {
        /// Its digest
        digest: String,
    },
}

impl Packages {
    pub(super) fn run(self, global: &Global) -> Outcome {
        match self.what {
            Some(What::Add { file }) => {
                let answer = send(&global.client()?, &file)?;
                return output::one(global, &answer, |package: PackageInfo| described::text(&package, &[]));
            }
            Some(What::Show { digest }) => {
                let answer = global.client()?.get(&format!("/v1/packages/{}", segment(&digest)), &[])?;
                return output::one(global, &answer, |package: PackageInfo| described::text(&package, &[]));
            }
            Some(What::Delete { digest }) => {
                global.client()?.delete(&format!("/v1/packages/{}", segment(&digest)), &[])?;
                return output::done(global, &format!("{digest} is deleted"));
            }
            None => {}
        }
        let query = [("after", self.page.after), ("limit", Some(self.page.limit.to_string()))];
        output::list(
            global,
            "/v1/packages",
            &query,
            &["app", "version", "name", "digest"],
            |item: PackageInfo| [item.id.to_string(), item.version, item.name, item.digest.to_string()],
        )
    }
}

/// A package that the server knows.
pub(super) struct Uploaded {
    pub(super) info: PackageInfo,
    /// This command uploaded it.
    pub(super) is_new: bool,
}

/// An app of a catalog, as people name it: `[CATALOG/]ID[@VERSION]`. Names of files with the usual endings could be ids,
/// too, and are meant as files.
fn of_catalog(text: &str) -> Option<(AppId, FetchRequest)> {
    if text.ends_with(".tar") || text.ends_with(".wasm") {
        return None;
    }
    let (catalog, rest) = match text.split_once('/') {
        Some((catalog, rest)) => (Some(catalog.parse::<CatalogName>().ok()?.to_string()), rest),
        None => (None, text),
    };
    let (id, version) = match rest.split_once('@') {
        Some((id, version)) => (id, Some(version.parse().ok()?)),
        None => (rest, None),
    };
    Some((AppId::new(id).ok()?, FetchRequest { version, catalog, publisher: None }))
}

/// Returns the id of an app of a catalog that is named without a version: its newest is meant.
pub(super) fn newest_of(text: &str) -> Option<AppId> {
    let of_catalog = of_catalog(text).filter(|_| !Path::new(text).exists());
    of_catalog.filter(|(_, request)| request.version.is_none()).map(|(id, _)| id)
}

/// The package as the server knows it, named by its digest, by the id of an app of a catalog, or sent there from a file.
pub(super) fn upload(client: &Client, package: &str) -> Result<Uploaded, Failure> {
    upload_by(client, package, None)
}

/// The same, of this publisher where several catalogs offer the app.
pub(super) fn upload_by(
    client: &Client,
    package: &str,
    publisher: Option<PublicKey>,
) -> Result<Uploaded, Failure> {
    if let Some((id, request)) = of_catalog(package).filter(|_| !Path::new(package).exists()) {
        let body =
            serde_json::to_string(&FetchRequest { publisher, ..request }).map_err(anyhow::Error::from)?;
        let path = format!("/v1/apps/{}/fetch", segment(id.as_str()));
        let answer = client.post(&path, &[], JSON_TYPE, body.as_bytes())?;
        return Ok(Uploaded { info: answer.read()?, is_new: answer.created });
    }
    if package.starts_with("sha256:") {
        let info = client.get(&format!("/v1/packages/{}", segment(package)), &[])?.read()?;
        return Ok(Uploaded { info, is_new: false });
    }
    let answer = send(client, package)?;
    Ok(Uploaded { info: answer.read()?, is_new: answer.created })
}

/// Says that a package which was sent for nothing is still there: others may have begun to use it by now.
pub(super) fn stays(digest: Digest) -> String {
    format!("the package stays on the server; `ironloom packages delete {digest}` removes it")
}

/// Sends the package in a file.
fn send(client: &Client, file: &str) -> Result<Answer, Failure> {
    // The server would refuse one that is too large before it has read it, and what is left of it has nowhere to go.
    let bytes = inspect::bytes(Path::new(file))?;
    if let Some(said) = not_packed(&bytes) {
        return Err(Failure::Other(anyhow::anyhow!("{file}: {said}")));
    }
    if output::is_watched() {
        output::note(&format!("sending {file} to be checked and compiled: this may take a minute"));
    }
    client.post("/v1/packages", &[], PACKAGE_TYPE, &bytes).map_err(|failure| match failure {
        // Several may be sent, and places in the app.toml within one don't say in which.
        Failure::Refused(mut problem) => {
            problem.detail = format!("{file}: {}", problem.detail);
            Failure::Refused(problem)
        }
        failure => failure,
    })
}
