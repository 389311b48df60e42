//! `ironloom install`.

mod many;
mod request;
#[cfg(test)]
mod tests;

use std::collections::BTreeMap;
use std::path::PathBuf;

use anyhow::Context as _;
use clap::Args;
use serde_json::{Value as Json, json};

use self::request::{Asked, File};
use super::client::{Client, segment};
use super::failure::{Failure, Outcome};
use super::{Global, output, show};
use crate::api::facade::{InstallRequest, Installed, PackageInfo, Patterns};
use crate::api::{JSON_TYPE, PACKAGE_TYPE};
use ironloom_apps::allowance::LimitKind;
use ironloom_apps::grants::OutputGrant;
use ironloom_apps::pattern::Pattern;
use ironloom_apps::toml_section::Places;
use ironloom_types::ids::{InstallationId, SlotName};
use ironloom_types::text::clean;

/// Installs an app from its package.
#[derive(Args, Debug)]
pub(super) struct Install {
    /// The package: a file, or the digest (sha256:…) of one that the server has. May be named in the
    /// file of --with instead
    package: Option<String>,
    /// The installation's id, such as `pigs`
    #[arg(long)]
    id: Option<String>,
    /// Bind an input or output to points: weight='farm/{barn}/pig/{tag}/weight'; repeat it for
    /// several patterns
    #[arg(long = "bind", value_name = "NAME=PATTERN", value_parser = pair)]
    bind: Vec<(String, String)>,
    /// Set a setting: breed=duroc
    #[arg(long = "set", value_name = "NAME=VALUE", value_parser = setting_pair)]
    set: Vec<(String, String)>,
    /// Let a set-point output request these values: limit='0, 6..32'
    #[arg(long = "grant", value_name = "NAME=VALUES", value_parser = pair)]
    grant: Vec<(String, String)>,
    /// Change a limit: memory='64 MiB', cpu='500 ms', state='1 GiB', share='800 ms' (CPU time per second)
    #[arg(long = "limit", value_name = "NAME=VALUE", value_parser = pair)]
    limit: Vec<(String, String)>,
    /// Where to start in the journal: now, beginning, or an RFC 3339 time
    #[arg(long, value_name = "WHERE")]
    from: Option<String>,
    /// Time zone of the app's timers, such as Europe/Berlin
    #[arg(long, value_name = "ZONE")]
    timezone: Option<String>,
    /// Read all of this from a TOML file: package, id, from, timezone, [bindings], [settings], [limits],
    /// [grants.outputs.NAME]; flags take precedence. A file with [[installations]], each with these, installs all of
    /// them or none
    #[arg(long, value_name = "FILE")]
    with: Option<PathBuf>,
    /// Only show what would match
    #[arg(long)]
    dry_run: bool,
}

fn pair(text: &str) -> Result<(String, String), String> {
    let (name, value) = setting_pair(text)?;
    Ok((name, value.trim().to_owned()))
}

/// The blanks of a setting's value are its own.
fn setting_pair(text: &str) -> Result<(String, String), String> {
    let (name, value) = text.split_once('=').ok_or("must be NAME=VALUE")?;
    if name.trim().is_empty() {
        return Err("needs a name before the `=`".to_owned());
    }
    Ok((name.trim().to_owned(), value.to_owned()))
}

/// A package that the server knows.
struct Uploaded {
    info: PackageInfo,
    /// Whether this command uploaded it.
    is_new: bool,
}

impl Install {
    /// Runs it. What can be checked here is, before the package is sent and compiled.
    pub(super) fn run(self, global: &Global) -> Outcome {
        let client = Client::new(&global.url);
        let (file, mut places) = match &self.with {
            Some(path) => request::read(path)?,
            None => (File::One(Box::default()), Places::default()),
        };
        self.leave_to_flags(&mut places);
        let outcome = match file {
            File::Many(all) => self.install_all(global, &client, all),
            File::One(asked) => self.install_one(global, &client, *asked),
        };
        outcome.map_err(|failure| match (failure, &self.with) {
            (Failure::Refused(problem), Some(file)) => {
                Failure::Refused(request::locate(problem, file, &places))
            }
            (failure, _) => failure,
        })
    }

    fn install_one(&self, global: &Global, client: &Client, mut asked: Asked) -> Outcome {
        self.apply(&mut asked)?;
        let package = asked.package.take();
        let package =
            package.ok_or_else(|| misuse("no package is named, neither as an argument nor by --with"))?;
        let id = asked.id.take().ok_or_else(|| misuse("the installation needs an id, such as --id pigs"))?;
        let uploaded = upload(client, &package)?;
        self.add_settings(&mut asked, &uploaded.info)?;
        let request = asked.request(id, uploaded.info.digest);
        let outcome = self.install(global, client, &request);
        if uploaded.is_new && (self.dry_run || outcome.is_err()) {
            // Another install may have begun to use it by now, so it isn't taken away.
            let digest = &request.package;
            output::note(&format!(
                "the package stays on the server; `ironloom packages delete {digest}` removes it"
            ));
        }
        outcome
    }

    fn install(&self, global: &Global, client: &Client, request: &InstallRequest) -> Outcome {
        let query = [("dry-run", self.dry_run.then(|| "true".to_owned()))];
        let body = serde_json::to_string(request).context("the request can't be written")?;
        let answer = client.post("/v1/installations", &query, JSON_TYPE, body.as_bytes())?;
        output::one(global, &answer, |installed: Installed| text(&installed, self.dry_run))
    }

    /// Puts the flags on top of what the file says, but for the settings: their types stand in the
    /// package.
    fn apply(&self, asked: &mut Asked) -> Result<(), Failure> {
        if let Some(package) = &self.package {
            asked.package = Some(package.clone());
        }
        if let Some(id) = &self.id {
            asked.id = Some(InstallationId::new(id).map_err(|error| misuse(format!("--id: {error}")))?);
        }
        if let Some(from) = &self.from {
            asked.from = from.parse().map_err(|error| misuse(format!("--from: {error}")))?;
        }
        if let Some(timezone) = &self.timezone {
            asked.timezone = Some(timezone.clone());
        }
        let mut bindings: BTreeMap<SlotName, Vec<String>> = BTreeMap::new();
        for (name, pattern) in &self.bind {
            Pattern::new(pattern).map_err(|error| misuse(format!("--bind {name}: {error}")))?;
            bindings.entry(slot("--bind", name)?).or_default().push(pattern.clone());
        }
        asked.bindings.extend(bindings.into_iter().map(|(name, all)| (name, Patterns::Many(all))));
        for (name, value) in &self.limit {
            let known = LimitKind::ALL.into_iter().find(|kind| kind.name() == name);
            let kind = known.ok_or_else(|| {
                let names = LimitKind::ALL.map(LimitKind::name).join(", ");
                misuse(format!("--limit {name}: is not a limit; the limits are {names}"))
            })?;
            let value = kind.parse(value).map_err(|error| misuse(format!("--limit {name}: {error}")))?;
            asked.limits.set(kind, value);
        }
        for (name, allow) in &self.grant {
            let allow = allow.parse().map_err(|error| misuse(format!("--grant {name}: {error}")))?;
            asked.grants.outputs.insert(slot("--grant", name)?, OutputGrant::of(allow));
        }
        for (name, _) in &self.set {
            slot("--set", name)?;
        }
        Ok(())
    }

    /// What a flag says stands nowhere in the file.
    fn leave_to_flags(&self, places: &mut Places) {
        let given = [("id", &self.id), ("from", &self.from), ("timezone", &self.timezone)];
        for (field, _) in given.into_iter().filter(|(_, given)| given.is_some()) {
            places.set_elsewhere(field);
        }
        let named = [
            ("bindings", &self.bind),
            ("settings", &self.set),
            ("limits", &self.limit),
            ("grants.outputs", &self.grant),
        ];
        for (section, pairs) in named {
            pairs.iter().for_each(|(name, _)| places.set_elsewhere(&format!("{section}.{name}")));
        }
    }

    fn add_settings(&self, asked: &mut Asked, package: &PackageInfo) -> Result<(), Failure> {
        for (name, value) in &self.set {
            asked.settings.insert(slot("--set", name)?, setting(package, name, value));
        }
        Ok(())
    }
}

fn misuse(text: impl Into<String>) -> Failure {
    Failure::Misuse(text.into())
}

fn slot(flag: &str, name: &str) -> Result<SlotName, Failure> {
    SlotName::new(name).map_err(|error| misuse(format!("{flag}: {error}")))
}

/// A value in the type that the manifest names; what doesn't fit goes as text, and the server says
/// what is wrong with it.
fn setting(package: &PackageInfo, name: &str, text: &str) -> Json {
    let kind = package.settings.get(name).map_or("text", |setting| setting.r#type.as_str());
    let value = match kind {
        "integer" => text.parse::<i64>().ok().map(Json::from),
        // JSON has no number for what isn't finite; the server says so of the text.
        "real" => text.parse::<f64>().ok().filter(|real| real.is_finite()).map(Json::from),
        "boolean" => text.parse::<bool>().ok().map(Json::from),
        _ => None,
    };
    value.unwrap_or_else(|| json!(text))
}

/// The package as the server knows it, sent there where it is a file.
fn upload(client: &Client, package: &str) -> Result<Uploaded, Failure> {
    if package.starts_with("sha256:") {
        let info = client.get(&format!("/v1/packages/{}", segment(package)), &[])?.read()?;
        return Ok(Uploaded { info, is_new: false });
    }
    let bytes = std::fs::read(package).with_context(|| format!("{package} can't be read"))?;
    if output::is_watched() {
        output::note(&format!("sending {package} to be checked and compiled: this may take a minute"));
    }
    let answer = client.post("/v1/packages", &[], PACKAGE_TYPE, &bytes)?;
    Ok(Uploaded { info: answer.read()?, is_new: answer.created })
}

fn text(installed: &Installed, dry_run: bool) -> String {
    let mut out = show::text(&installed.installation);
    let rows = installed.matches.iter().map(|matched| {
        let sample = matched.samples.first().map_or(String::new(), |sample| {
            format!("{} = {}", sample.point, output::shorten(&sample.value.to_string()))
        });
        [matched.input.clone(), matched.points.to_string(), sample]
    });
    out.push('\n');
    out.push_str(&output::table(&["input", "points", "for example"], rows));
    for warning in &installed.warnings {
        out.push_str(&format!("warning: {}\n", clean(warning)));
    }
    let at_least = if installed.backlog_at_least { "at least " } else { "" };
    let backlog = output::counted(installed.backlog, "reading");
    let begins = format!("begins with {at_least}{backlog} of the journal");
    let what = if dry_run {
        format!("nothing is installed; it {begins}")
    } else {
        format!("installed; it {begins}")
    };
    out.push_str(&format!("{what}\n"));
    out
}
