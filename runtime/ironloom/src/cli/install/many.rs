//! Many installations by one file: one request, so that all are installed or none is.

use std::collections::BTreeMap;

use anyhow::Context as _;

use super::request::Asked;
use super::{Install, misuse, upload};
use crate::api::JSON_TYPE;
use crate::api::facade::{AllInstalled, InstallRequest, Installed, MAX_INSTALLS};
use crate::cli::client::Client;
use crate::cli::failure::{Failure, Outcome};
use crate::cli::{Global, output};
use ironloom_types::ids::Digest;
use ironloom_types::text::clean;

impl Install {
    /// Installs what a file lists.
    pub(super) fn install_all(&self, global: &Global, client: &Client, all: Vec<Asked>) -> Outcome {
        self.check_flags()?;
        if all.is_empty() || all.len() > MAX_INSTALLS {
            let text =
                format!("the file lists {} installations; 1 to {MAX_INSTALLS} are possible", all.len());
            return Err(misuse(text));
        }
        let mut sent = BTreeMap::new();
        let requests: Result<Vec<InstallRequest>, Failure> =
            (1..).zip(all).map(|(number, asked)| self.request_of(client, number, asked, &mut sent)).collect();
        let query = [("dry-run", self.dry_run.then(|| "true".to_owned()))];
        let body = serde_json::to_string(&requests?).context("the request can't be written")?;
        let answer = client.post("/v1/installations", &query, JSON_TYPE, body.as_bytes())?;
        output::one(global, &answer, |all: AllInstalled| text(&all.items, self.dry_run))
    }

    /// What is said of one installation can't be meant for many.
    pub(super) fn check_flags(&self) -> Result<(), Failure> {
        let given = [
            ("--id", self.id.is_some()),
            ("--bind", !self.bind.is_empty()),
            ("--set", !self.set.is_empty()),
            ("--grant", !self.grant.is_empty()),
            ("--limit", !self.limit.is_empty()),
            ("--from", self.from.is_some()),
            ("--timezone", self.timezone.is_some()),
        ];
        match given.into_iter().find(|(_, is_given)| *is_given) {
            None => Ok(()),
            Some((flag, _)) => Err(misuse(format!(
                "{flag} goes with one installation, and the file lists many; write it there"
            ))),
        }
    }

    /// One entry of the file as the API takes it. Each package is sent once.
    fn request_of(
        &self,
        client: &Client,
        number: usize,
        mut asked: Asked,
        sent: &mut BTreeMap<String, Digest>,
    ) -> Result<InstallRequest, Failure> {
        let id =
            asked.id.take().ok_or_else(|| misuse(format!("installation {number} of the file has no id")))?;
        let named = asked.package.take().or_else(|| self.package.clone());
        let package = named.ok_or_else(|| {
            misuse(format!(
                "installation {number} of the file ({id}) names no package, and none is named as an argument"
            ))
        })?;
        let digest = match sent.get(&package) {
            Some(digest) => *digest,
            None => upload(client, &package)?.info.digest,
        };
        sent.insert(package, digest);
        Ok(asked.request(id, digest))
    }
}

fn text(all: &[Installed], dry_run: bool) -> String {
    let rows = all.iter().map(|one| {
        let points: u64 = one.matches.iter().map(|matched| matched.points).sum();
        let at_least = if one.backlog_at_least { ">= " } else { "" };
        let installation = &one.installation;
        [
            installation.id.to_string(),
            installation.app.to_string(),
            installation.version.clone(),
            points.to_string(),
            format!("{at_least}{}", one.backlog),
        ]
    });
    let mut out = output::table(&["id", "app", "version", "points", "behind"], rows);
    for one in all {
        for warning in &one.warnings {
            out.push_str(&format!("warning: {}: {}\n", one.installation.id, clean(warning)));
        }
    }
    let count = output::counted(all.len() as u64, "app");
    out.push_str(&if dry_run {
        format!("nothing is installed; {count} could be\n")
    } else {
        format!("installed {count}\n")
    });
    out
}
