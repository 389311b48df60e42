//! `ironloom install`.

mod choices;
pub(super) mod file;
mod given;
mod many;
mod request;
#[cfg(test)]
mod tests;

use std::path::PathBuf;

use anyhow::Context as _;
use clap::Args;
use serde::Serialize;

pub(super) use self::choices::{Choices, Chosen};
pub(super) use self::given::{Given, limit_kind, pair, slot};
use self::given::{bound, set_limits, setting, setting_pair};
pub(super) use self::request::{Asked, File, Origin, read};
use super::client::{Answer, Client, flag};
use super::consent::{self, Consenting};
use super::failure::{Failure, Outcome};
use super::packages::{stays, upload_by};
use super::{Global, output, show};
use crate::api::JSON_TYPE;
use crate::api::facade::{InstallRequest, Installed};
use ironloom_apps::toml_section::Places;
use ironloom_trust::key::PublicKey;
use ironloom_types::ids::{InstallationId, TenantId};

/// Installs an app from its package.
#[derive(Args, Debug)]
pub(super) struct Install {
    /// The package: a file, the digest (sha256:…) of one that the server has, or an app of a catalog, as
    /// [CATALOG/]ID[@VERSION]. May be named in the file of --with instead
    package: Option<String>,
    /// The installation's id, such as `pigs`
    #[arg(long)]
    id: Option<String>,
    /// The public key of the app's publisher: needed where several have signed the package of a new app
    #[arg(long, value_name = "KEY")]
    publisher: Option<PublicKey>,
    /// The public key of another publisher, to whom the id of the app goes over: what is installed of it gets no more
    /// versions, and the new one begins with nothing
    #[arg(long, value_name = "KEY", conflicts_with_all = ["publisher", "adopt"])]
    new_publisher: Option<PublicKey>,
    #[command(flatten)]
    given: Given,
    /// Where to start in the journal: now, beginning, or an RFC 3339 time
    #[arg(long, value_name = "WHERE")]
    from: Option<String>,
    /// Go on with the state that is kept of an installation with this id: the newest, or that of a generation that
    /// `ironloom list --gone` lists
    #[arg(
        long,
        value_name = "GENERATION",
        num_args = 0..=1,
        require_equals = true,
        default_missing_value = "newest",
        conflicts_with = "from"
    )]
    adopt: Option<String>,
    /// The app must keep up: sources are slowed where it falls behind by more than the server's ingest.max_lag
    #[arg(long)]
    keep_up: bool,
    /// Read all of this from a TOML file: package, id, publisher, from, adopt, timezone, keep_up, [bindings], [settings],
    /// [limits], [grants], [grants.outputs.NAME]; flags take precedence. A file with [[installations]], each with these, installs all of
    /// them or none
    #[arg(long, value_name = "FILE")]
    with: Option<PathBuf>,
    /// Only show what would match, and what it would get
    #[arg(long)]
    dry_run: bool,
    #[command(flatten)]
    consenting: Consenting,
}

impl Install {
    /// Runs it. What can be checked here is, before the package is sent and compiled.
    pub(super) fn run(self, global: &Global) -> Outcome {
        let client = global.client()?;
        let (file, mut origin) = match &self.with {
            Some(path) => read(path)?,
            None => (File::One(Box::default()), Origin::default()),
        };
        self.leave_to_flags(&mut origin.places);
        match file {
            File::Many(all) => self.install_all(global, &client, all, &origin),
            File::One(asked) => self.install_one(global, &client, *asked, &origin),
        }
    }

    fn install_one(&self, global: &Global, client: &Client, mut asked: Asked, origin: &Origin) -> Outcome {
        self.apply(&mut asked)?;
        let package = asked.package.take();
        let package =
            package.ok_or_else(|| misuse("no package is named, neither as an argument nor by --with"))?;
        let id = asked.id.take().ok_or_else(|| misuse("the installation needs an id, such as --id pigs"))?;
        let uploaded = upload_by(client, &package, asked.publisher)?;
        self.given.add_settings(&mut asked, &uploaded.info)?;
        let mut request = asked.request(id, uploaded.info.digest);
        request.new_publisher = self.new_publisher;
        let outcome = self.install(global, client, &request, origin);
        if uploaded.is_new && (self.dry_run || outcome.is_err()) {
            output::note(&stays(request.package));
        }
        outcome
    }

    fn install(
        &self,
        global: &Global,
        client: &Client,
        request: &InstallRequest,
        origin: &Origin,
    ) -> Outcome {
        let answer = self.post(client, request, origin, true)?;
        let adopts = request.adopt.is_some();
        let shown: Installed = answer.read()?;
        let consent = shown.consent.as_ref().map(|consent| (&request.id, consent));
        if self.dry_run {
            self.consenting.keep(consent.into_iter())?;
            return output::one(global, &answer, |installed: Installed| text(&installed, true, adopts));
        }
        self.consenting.ask(consent.as_slice(), &consent::warnings(&shown.warnings), "Install it?")?;
        let request =
            InstallRequest { consent: consent.map(|(_, consent)| consent.digest), ..request.clone() };
        let answer = self.post(client, &request, origin, false)?;
        output::one(global, &answer, |installed: Installed| text(&installed, false, adopts))
    }

    /// Sends what is asked for, of one installation or of many.
    fn post(
        &self,
        client: &Client,
        asked: &impl Serialize,
        origin: &Origin,
        dry_run: bool,
    ) -> Result<Answer, Failure> {
        let body = serde_json::to_string(asked).context("the request can't be written")?;
        let query = [flag("dry-run", dry_run)];
        let answer = client.post("/v1/installations", &query, JSON_TYPE, body.as_bytes());
        answer.map_err(|failure| origin.locate(failure))
    }

    /// Puts the flags on top of what the file says, but for the settings: their types stand in the
    /// package.
    fn apply(&self, asked: &mut Asked) -> Result<(), Failure> {
        if let Some(package) = &self.package {
            asked.package = Some(package.clone());
        }
        if let Some(id) = &self.id {
            asked.id = Some(
                InstallationId::new(TenantId::NOBODY, id)
                    .map_err(|error| misuse(format!("--id: {error}")))?,
            );
        }
        if let Some(from) = &self.from {
            let from = from.parse().map_err(|error| misuse(format!("--from: {error}")))?;
            asked.from = Some(from);
        }
        if let Some(adopt) = &self.adopt {
            let adopt = adopt.parse().map_err(|error| misuse(format!("--adopt: {error}")))?;
            asked.adopt = Some(adopt);
        }
        if self.keep_up {
            asked.keep_up = Some(true);
        }
        asked.publisher = self.publisher.or(asked.publisher);
        self.given.apply(asked)
    }

    /// Forgets the places of fields that flags give: what they say stands nowhere in the file.
    fn leave_to_flags(&self, places: &mut Places) {
        if self.publisher.is_some() {
            places.set_elsewhere("publisher");
        }
        let given = [("id", &self.id), ("from", &self.from), ("adopt", &self.adopt)];
        for (field, _) in given.into_iter().filter(|(_, given)| given.is_some()) {
            places.set_elsewhere(field);
        }
        self.given.leave_to_flags(places);
    }
}

pub(super) fn misuse(text: impl Into<String>) -> Failure {
    Failure::Misuse(text.into())
}

fn text(installed: &Installed, dry_run: bool, adopts: bool) -> String {
    let mut out = show::text(&installed.installation);
    let rows = installed.matches.iter().map(|matched| {
        let sample = matched.samples.first().map_or(String::new(), |sample| {
            format!("{} = {}", sample.point, output::shorten(&sample.value.to_string()))
        });
        [matched.input.clone(), matched.points.to_string(), sample]
    });
    out.push('\n');
    out.push_str(&output::table(&["input", "points", "for example"], rows));
    installed.consent.iter().for_each(|consent| out.push_str(&format!("\n{}", consent::lines(consent))));
    consent::warnings(&installed.warnings).iter().for_each(|line| out.push_str(&format!("{line}\n")));
    let at_least = if installed.backlog_at_least { "at least " } else { "" };
    let backlog = output::counted(installed.backlog, "reading");
    let begins = if adopts {
        let generation = installed.installation.generation;
        format!("goes on with generation {generation} and {at_least}{backlog} of the journal")
    } else {
        format!("begins with {at_least}{backlog} of the journal")
    };
    let what = if dry_run {
        format!("nothing is installed; it {begins}")
    } else {
        format!("installed; it {begins}")
    };
    out.push_str(&format!("{what}\n"));
    out
}
