//! `ironloom set`.

use std::fmt::Write as _;
use std::path::PathBuf;

use anyhow::Context as _;
use clap::Args;
use serde_json::Value as Json;

use super::client::{Client, segment};
use super::failure::{Failure, Outcome};
use super::install::{Asked, File, Given, limit_kind, locate, misuse, read, slot};
use super::packages::upload;
use super::{Global, output};
use crate::api::JSON_TYPE;
use crate::api::facade::{
    FieldChange, GrantChanges, Installation, LimitChanges, PackageInfo, Revised, RevisionRequest,
};
use ironloom_types::ids::Revision;
use ironloom_types::text::clean;

/// Changes an installation while it runs; what isn't named stays as it is.
#[derive(Args, Debug)]
pub(super) struct Set {
    /// The installation
    id: String,
    #[command(flatten)]
    given: Given,
    /// Take a value away: a setting by its name, or limits.NAME, grants.NAME, timezone
    #[arg(long, value_name = "NAME")]
    unset: Vec<String>,
    /// Bind an input or output to nothing; a derived output then writes its own points under apps/
    #[arg(long, value_name = "NAME")]
    unbind: Vec<String>,
    /// Whether the app must keep up: sources are slowed where it falls behind by more than ingest.max_lag
    #[arg(long, value_name = "BOOL", num_args = 0..=1, require_equals = true, default_missing_value = "true")]
    keep_up: Option<bool>,
    /// Read all of this from a TOML file as `install --with` takes it; flags take precedence
    #[arg(long, value_name = "FILE")]
    with: Option<PathBuf>,
    /// Only if this is still its newest revision: refused where somebody else has changed it in between
    #[arg(long, value_name = "N")]
    revision: Option<u32>,
    /// Give the readings that wait to the new revision. Without it, those that are there run as before; so do all of
    /// one that isn't quarantined
    #[arg(long, value_name = "BOOL", num_args = 0..=1, require_equals = true, default_missing_value = "true")]
    at_cursor: Option<bool>,
    /// Only show what would change
    #[arg(long)]
    dry_run: bool,
}

impl Set {
    pub(super) fn run(self, global: &Global) -> Outcome {
        let client = Client::new(&global.url);
        let (asked, mut places) = match &self.with {
            None => (Asked::default(), Default::default()),
            Some(path) => match read(path)? {
                (File::One(asked), places) => (*asked, places),
                (File::Many(_), _) => {
                    return Err(misuse("the file of --with lists several installations; a change is of one"));
                }
            },
        };
        self.given.leave_to_flags(&mut places);
        let outcome = self.change(global, &client, asked);
        outcome.map_err(|failure| match (failure, &self.with) {
            (Failure::Refused(problem), Some(file)) => Failure::Refused(locate(problem, file, &places)),
            (failure, _) => failure,
        })
    }

    fn change(&self, global: &Global, client: &Client, mut asked: Asked) -> Outcome {
        self.given.apply(&mut asked)?;
        if asked.from.is_some() {
            return Err(misuse("`from` says where an install begins; take it out of the file"));
        }
        if let Some(other) = asked.id.as_ref().filter(|id| id.as_str() != self.id) {
            return Err(misuse(format!(
                "the file is of the installation {other}, and {} is to be changed",
                self.id
            )));
        }
        let path = format!("/v1/installations/{}", segment(&self.id));
        let now: Installation = client.get(&path, &[])?.read()?;
        if let Some(package) = asked.package.take() {
            let named = upload(client, &package)?.info.digest;
            if named != now.package {
                let has = now.package;
                return Err(misuse(format!(
                    "the file names another package than {} has, which is {has}",
                    self.id
                )));
            }
        }
        let package = format!("/v1/packages/{}", segment(&now.package.to_string()));
        let package: PackageInfo = client.get(&package, &[])?.read()?;
        self.given.add_settings(&mut asked, &package)?;
        let request = self.request(asked)?;
        let is_empty = request
            == RevisionRequest {
                revision: request.revision,
                at_cursor: request.at_cursor,
                ..Default::default()
            };
        if is_empty {
            return Err(misuse(
                "nothing is to be changed: name it, such as --set NAME=VALUE, or by --with FILE",
            ));
        }
        let query = [("dry-run", self.dry_run.then(|| "true".to_owned()))];
        let body = serde_json::to_string(&request).context("the request can't be written")?;
        let answer = client.patch(&path, &query, JSON_TYPE, body.as_bytes())?;
        output::one(global, &answer, |revised: Revised| text(&revised, self.dry_run))
    }

    /// What is sent.
    fn request(&self, asked: Asked) -> Result<RevisionRequest, Failure> {
        let mut request = RevisionRequest {
            bindings: asked.bindings.into_iter().map(|(name, all)| (name, Some(all))).collect(),
            settings: asked.settings.into_iter().map(|(name, value)| (name, Some(value))).collect(),
            grants: GrantChanges {
                outputs: asked.grants.outputs.into_iter().map(|(name, grant)| (name, Some(grant))).collect(),
            },
            limits: LimitChanges::of(asked.limits),
            timezone: asked.timezone.map(Some),
            keep_up: self.keep_up.or(asked.keep_up),
            revision: self.revision.map(Revision),
            at_cursor: self.at_cursor,
        };
        for name in &self.unbind {
            request.bindings.insert(slot("--unbind", name)?, None);
        }
        for name in &self.unset {
            match name.split_once('.') {
                None if name == "timezone" => request.timezone = Some(None),
                None => drop(request.settings.insert(slot("--unset", name)?, None)),
                Some(("settings", name)) => drop(request.settings.insert(slot("--unset", name)?, None)),
                Some(("grants", name)) => drop(request.grants.outputs.insert(slot("--unset", name)?, None)),
                Some(("limits", name)) => request.limits.unset(limit_kind("--unset", name)?),
                Some(_) => {
                    let text =
                        format!("--unset {name}: must be a setting, limits.NAME, grants.NAME or timezone");
                    return Err(misuse(text));
                }
            }
        }
        Ok(request)
    }
}

/// A change, a fact on each line.
fn text(revised: &Revised, dry_run: bool) -> String {
    let mut out = String::new();
    let Revised { installation, changes, from, matches, newly, no_longer, warnings } = revised;
    for FieldChange { field, before, after } in changes {
        // Writing into a String doesn't fail.
        let _ = writeln!(out, "{}: {} -> {}", clean(field), shown(before), shown(after));
    }
    for (what, found) in [("matches", matches), ("newly", newly), ("no longer", no_longer)] {
        let rows = found.iter().map(|matched| {
            let sample = matched.samples.first().map_or(String::new(), |sample| {
                format!("{} = {}", sample.point, output::shorten(&sample.value.to_string()))
            });
            [what.to_owned(), matched.input.clone(), matched.points.to_string(), sample]
        });
        if !found.is_empty() {
            out.push('\n');
            out.push_str(&output::table(&["", "input", "points", "for example"], rows));
        }
    }
    for warning in warnings {
        let _ = writeln!(out, "warning: {}", clean(warning));
    }
    let (id, revision) = (&installation.id, installation.revision);
    let _ = match (changes.is_empty(), dry_run) {
        (true, _) => writeln!(out, "nothing changes: {id} stays at revision {revision}"),
        (false, true) => {
            writeln!(out, "nothing is changed; {id} would have revision {revision}, from sequence {from} on")
        }
        (false, false) => writeln!(out, "{id} has revision {revision}, from sequence {from} on"),
    };
    out
}

/// A value for people.
fn shown(value: &Json) -> String {
    match value {
        Json::Null => "nothing".to_owned(),
        value => clean(&output::shorten(&value.to_string())).into_owned(),
    }
}
