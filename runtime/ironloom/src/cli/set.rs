//! `ironloom set`.

use std::fmt::Write as _;
use std::path::PathBuf;

use anyhow::Context as _;
use clap::Args;
use serde_json::Value as Json;

use super::client::{Answer, Client, flag, segment};
use super::consent::{self, Consenting};
use super::failure::{Failure, Outcome};
use super::install::{Asked, File, Given, Origin, limit_kind, misuse, read, slot};
use super::packages::{Uploaded, newest_of, stays, upload};
use super::rehearse::Condition;
use super::{Global, output};
use crate::api::JSON_TYPE;
use crate::api::facade::{FieldChange, GrantChanges, Installation, LimitChanges, Revised, RevisionRequest};
use ironloom_apps::grants::OutputGrant;
use ironloom_types::ids::{Digest, Revision, SlotName};
use ironloom_types::text::clean;

/// Changes an installation while it runs; what isn't named stays as it is.
#[derive(Args, Debug)]
pub(super) struct Set {
    /// The installation
    id: String,
    #[command(flatten)]
    change: Change,
}

impl Set {
    pub(super) fn run(self, global: &Global) -> Outcome {
        self.change.run(global, &self.id, None, None, None)
    }
}

/// A change of an installation.
#[derive(Args, Debug)]
pub(super) struct Change {
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
    /// Only if this is still its newest revision: refused where somebody else has changed it in between. Checked with
    /// --grant in any case, since that keeps the rest of a grant as it was read
    #[arg(long, value_name = "N")]
    revision: Option<u32>,
    /// Give the readings that wait to the new revision. Without it, those that are there run as before; so do all of
    /// one that isn't quarantined
    #[arg(long, value_name = "BOOL", num_args = 0..=1, require_equals = true, default_missing_value = "true")]
    at_cursor: Option<bool>,
    /// Only show what would change
    #[arg(long)]
    dry_run: bool,
    /// Upgrade without a copy of the state, though nobody can roll back then
    #[arg(long)]
    no_copy: bool,
}

/// The package that an installation is to have: a file, a digest, or none where the file of --with names it.
pub(super) struct To<'p>(pub Option<&'p str>);

impl Change {
    /// Changes an installation; `to` where it is to have another package, `condition` where it must do the same before, and
    /// `consenting` how somebody consents to what another package asks for.
    pub(super) fn run(
        &self,
        global: &Global,
        id: &str,
        to: Option<To<'_>>,
        condition: Option<&Condition>,
        consenting: Option<&Consenting>,
    ) -> Outcome {
        let client = global.client()?;
        let (request, package, origin) = self.asked(&client, id, to, condition.is_some())?;
        let path = format!("/v1/installations/{}", segment(id));
        let kept = condition
            .filter(|_| !self.dry_run)
            .map_or(Ok(()), |condition| condition.check(&client, id, &request));
        let send = |request: &RevisionRequest, dry_run| self.send(&client, &path, request, &origin, dry_run);
        let outcome = kept.and_then(|()| match consenting {
            Some(consenting) => self.upgrade(global, id, request, consenting, send),
            None => send(&request, self.dry_run).and_then(|answer| {
                output::one(global, &answer, |revised: Revised| text(&revised, self.dry_run))
            }),
        });
        let is_left = outcome.as_ref().is_err_and(|failure| !matches!(failure, Failure::Waits(_)));
        if package.is_new && (self.dry_run || is_left) {
            output::note(&stays(package.info.digest));
        }
        outcome
    }

    /// The change as it is sent, to be tried first.
    pub(super) fn request_of(
        &self,
        client: &Client,
        id: &str,
        to: Option<To<'_>>,
    ) -> Result<RevisionRequest, Failure> {
        Ok(self.request_for(client, id, to)?.0)
    }

    /// The change that is asked for, which must be one; and with `guarded` only for the revision that is there now.
    fn asked(
        &self,
        client: &Client,
        id: &str,
        to: Option<To<'_>>,
        guarded: bool,
    ) -> Result<(RevisionRequest, Uploaded, Origin), Failure> {
        let (mut request, package, origin, now) = self.request_for(client, id, to)?;
        let is_empty = request
            == RevisionRequest {
                revision: request.revision,
                at_cursor: request.at_cursor,
                copy: request.copy,
                ..Default::default()
            };
        if is_empty {
            return Err(misuse(
                "nothing is to be changed: name it, such as --set NAME=VALUE, or by --with FILE",
            ));
        }
        if guarded {
            request.revision = request.revision.or(Some(now));
        }
        Ok((request, package, origin))
    }

    fn request_for(
        &self,
        client: &Client,
        id: &str,
        to: Option<To<'_>>,
    ) -> Result<(RevisionRequest, Uploaded, Origin, Revision), Failure> {
        let (mut asked, mut origin) = match &self.with {
            None => (Asked::default(), Origin::default()),
            Some(path) => match read(path)? {
                (File::One(asked), origin) => (*asked, origin),
                (File::Many(_), _) => {
                    return Err(misuse("the file of --with lists several installations; a change is of one"));
                }
            },
        };
        self.given.leave_to_flags(&mut origin.places);
        let of_file: Vec<SlotName> = asked.grants.outputs.keys().cloned().collect();
        self.given.apply(&mut asked)?;
        check_file(&asked, id)?;
        let path = format!("/v1/installations/{}", segment(id));
        let now: Installation = client.get(&path, &[])?.read()?;
        // A flag says which values are allowed, and nothing of the rest of a grant.
        let mut made_from = self.revision.map(Revision);
        for (name, grant) in asked.grants.outputs.iter_mut().filter(|(name, _)| !of_file.contains(name)) {
            keep_rest(grant, now.grants.outputs.get(name));
            // A change of the rest that comes in between would be undone.
            made_from = made_from.or(Some(now.revision));
        }
        let named = asked.package.take();
        let package = match &to {
            Some(To(package)) => {
                let package = package.map(str::to_owned).or(named);
                let package = package
                    .ok_or_else(|| misuse("no package is named, neither as an argument nor by --with"))?;
                let uploaded = upload(client, &package)?;
                if newest_of(&package).is_some() {
                    check_not_older(&package, &uploaded.info.version, &now)?;
                }
                uploaded
            }
            None => self.present(client, id, &now, named)?,
        };
        self.given.add_settings(&mut asked, &package.info)?;
        let request = self.request(asked, to.is_some().then_some(package.info.digest), made_from)?;
        Ok((request, package, origin, now.revision))
    }

    /// The package that the installation has. The file may name it, and no other.
    fn present(
        &self,
        client: &Client,
        id: &str,
        now: &Installation,
        named: Option<String>,
    ) -> Result<Uploaded, Failure> {
        let has = now.package;
        if let Some(named) = named
            && upload(client, &named)?.info.digest != has
        {
            return Err(misuse(format!(
                "the file names another package than {id} has, which is {has}; `ironloom upgrade {id}` changes it"
            )));
        }
        upload(client, &has.to_string())
    }

    /// Changes the package, with somebody's consent where it asks for more than there is. Where nobody can be asked, it
    /// waits for that.
    fn upgrade(
        &self,
        global: &Global,
        id: &str,
        mut request: RevisionRequest,
        consenting: &Consenting,
        send: impl Fn(&RevisionRequest, bool) -> Result<Answer, Failure>,
    ) -> Outcome {
        let looked = send(&request, true)?;
        let shown: Revised = looked.read()?;
        let (now, consent) = (&shown.installation.id, shown.consent.as_ref());
        if self.dry_run {
            consenting.keep(consent.map(|consent| (now, consent)).into_iter())?;
            return output::one(global, &looked, |revised: Revised| text(&revised, true));
        }
        if let Some(consent) =
            consent.filter(|_| consenting.has_file() || (!shown.wider.is_empty() && consenting.can_ask()))
        {
            for wider in &shown.wider {
                output::note(&format!("more than {id} has: {wider}"));
            }
            consenting.ask(&[(now, consent)], &consent::warnings(&shown.warnings), "Upgrade it?")?;
            request.consent = Some(consent.digest);
        }
        let answer = send(&request, false)?;
        output::one(global, &answer, |revised: Revised| text(&revised, false))?;
        let revised: Revised = answer.read()?;
        if revised.waits {
            let text =
                format!("it waits for consent: `ironloom consents show {id}`, and then accept or refuse");
            return Err(Failure::Waits(text));
        }
        Ok(())
    }

    fn send(
        &self,
        client: &Client,
        path: &str,
        request: &RevisionRequest,
        origin: &Origin,
        dry_run: bool,
    ) -> Result<Answer, Failure> {
        let query = [flag("dry-run", dry_run)];
        let body = serde_json::to_string(request).context("the request can't be written")?;
        let answer = client.patch(path, &query, JSON_TYPE, body.as_bytes());
        answer.map_err(|failure| origin.locate(failure))
    }

    /// What is sent.
    fn request(
        &self,
        asked: Asked,
        package: Option<Digest>,
        made_from: Option<Revision>,
    ) -> Result<RevisionRequest, Failure> {
        let mut request = RevisionRequest {
            package,
            bindings: asked.bindings.into_iter().map(|(name, all)| (name, Some(all))).collect(),
            settings: asked.settings.into_iter().map(|(name, value)| (name, Some(value))).collect(),
            grants: GrantChanges {
                mode: asked.mode,
                outputs: asked.grants.outputs.into_iter().map(|(name, grant)| (name, Some(grant))).collect(),
            },
            limits: LimitChanges::of(asked.limits),
            timezone: asked.timezone.map(Some),
            keep_up: self.keep_up.or(asked.keep_up),
            revision: made_from,
            at_cursor: self.at_cursor,
            consent: None,
            copy: self.no_copy.then_some(false),
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

/// Refuses to go back to an older version that nobody has named.
fn check_not_older(named: &str, newest: &str, now: &Installation) -> Outcome {
    let version = |text: &str| semver::Version::parse(text).ok();
    let is_older = version(newest).zip(version(&now.version)).is_some_and(|(newest, has)| newest < has);
    if !is_older {
        return Ok(());
    }
    let (id, has) = (&now.id, &now.version);
    Err(Failure::Other(anyhow::anyhow!(
        "{id} has version {has}, and {newest} is the newest of {named}: nothing is changed; {named}@{newest} goes back to it"
    )))
}

/// Refuses what only an install has, and what is of another installation.
fn check_file(asked: &Asked, id: &str) -> Outcome {
    if asked.adopt.is_some() {
        return Err(misuse("`adopt` says what an install goes on with; take it out of the file"));
    }
    if asked.from.is_some() {
        return Err(misuse("`from` says where an install begins; take it out of the file"));
    }
    if let Some(other) = asked.id.as_ref().filter(|other| other.as_str() != id) {
        return Err(misuse(format!("the file is of the installation {other}, and {id} is to be changed")));
    }
    Ok(())
}

/// Has a grant allow other values, and leaves all else as it is now.
fn keep_rest(grant: &mut OutputGrant, now: Option<&OutputGrant>) {
    if let Some(now) = now {
        let allow = std::mem::replace(grant, now.clone()).allow;
        grant.allow = allow;
    }
}

/// A change, a fact on each line.
pub(super) fn text(revised: &Revised, dry_run: bool) -> String {
    let Revised { installation, changes, from, matches, newly, no_longer, warnings, wider, waits, consent } =
        revised;
    let mut out = changed(changes);
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
    if let Some(consent) =
        consent.as_ref().filter(|_| dry_run && changes.iter().any(|change| change.field == "package"))
    {
        let _ = write!(out, "\n{}", consent::lines(consent));
    }
    for wider in wider {
        let _ = writeln!(out, "also          {}", clean(wider));
    }
    consent::warnings(warnings).iter().for_each(|line| out.push_str(&format!("{line}\n")));
    let (id, revision) = (&installation.id, installation.revision);
    let _ = match (changes.is_empty(), dry_run) {
        _ if *waits => {
            writeln!(out, "nothing is changed; {id} stays at revision {revision} until somebody consents")
        }
        (true, _) => writeln!(out, "nothing changes: {id} stays at revision {revision}"),
        (false, true) => {
            writeln!(out, "nothing is changed; {id} would have revision {revision}, from sequence {from} on")
        }
        (false, false) => writeln!(out, "{id} has revision {revision}, from sequence {from} on"),
    };
    out
}

/// The changes of fields, each on a line.
pub(super) fn changed(changes: &[FieldChange]) -> String {
    let line = |FieldChange { field, before, after }: &FieldChange| {
        format!("{}: {} -> {}\n", clean(field), shown(before), shown(after))
    };
    changes.iter().map(line).collect()
}

/// A value for people.
fn shown(value: &Json) -> String {
    match value {
        Json::Null => "nothing".to_owned(),
        value => clean(&output::shorten(&value.to_string())).into_owned(),
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;
    use crate::api::facade::Problem;
    use crate::cli::tests;
    use ironloom_apps::grants::Safe;
    use ironloom_apps::quantity::Span;

    #[test]
    fn a_grant_that_keeps_the_rest_is_for_the_revision_that_the_rest_was_read_from() {
        let sent = |flags: &[&str]| -> Json {
            let has = tests::installation(&json!({"limit": {"allow": "0..1", "ttl": "1 min"}}));
            let conflict = Problem::conflict("revision", "another came in between");
            let answers = vec![Ok(has), Ok(tests::package()), Err(conflict)];
            let (failure, asked) = tests::run(&[&["set", "pigs"], flags].concat(), answers);
            assert_eq!((failure.status(), asked.len()), (5, 3), "{failure}");
            serde_json::from_str(&asked[2]).unwrap()
        };
        let request = sent(&["--grant", "limit=0..2"]);
        assert_eq!(request["revision"], 4);
        assert_eq!(request["grants"]["outputs"]["limit"]["ttl"], "1 min");
        assert_eq!(sent(&["--grant", "limit=0..2", "--revision", "3"])["revision"], 3);
        assert_eq!(sent(&["--set", "breed=duroc"])["revision"], Json::Null);
        // The file says all of a grant.
        let mut file = tempfile::NamedTempFile::new().unwrap();
        std::io::Write::write_all(&mut file, b"[grants.outputs.limit]\nallow = \"0..3\"\n").unwrap();
        let with = ["--with", file.path().to_str().unwrap(), "--grant", "limit=0..2"];
        assert_eq!(sent(&with)["revision"], Json::Null);
    }

    #[test]
    fn an_app_without_a_version_never_goes_back_to_an_older_one() {
        let mut newer = tests::installation(&json!({}));
        newer["version"] = json!("0.2.0");
        let upgrade = |named: &str, answers| tests::run(&["upgrade", "pigs", named], answers);
        let (failure, asked) = upgrade("com.example.pigs", vec![Ok(newer.clone()), Ok(tests::package())]);
        assert_eq!((failure.status(), asked.len()), (1, 2), "{failure}");
        let said = failure.to_string();
        assert!(said.contains("pigs has version 0.2.0, and 0.1.0 is the newest"), "{said}");
        assert!(said.contains("com.example.pigs@0.1.0"), "{said}");
        // Whoever names it means it.
        let conflict = Err(Problem::conflict("revision", "another came in between"));
        let (failure, asked) =
            upgrade("com.example.pigs@0.1.0", vec![Ok(newer), Ok(tests::package()), conflict]);
        assert_eq!((failure.status(), asked.len()), (5, 3), "{failure}");
    }

    #[test]
    fn other_values_of_a_grant_leave_the_rest_of_it() {
        let allow = |values: &str| OutputGrant::of(values.parse().unwrap());
        let minute = Span(60_000_000_000);
        let has = OutputGrant {
            ttl: Some(minute),
            safe: Some(Safe::Number(0.0)),
            strict: true,
            ..allow("0, 6..32")
        };
        let mut grant = allow("0, 30..100");
        keep_rest(&mut grant, Some(&has));
        assert_eq!(grant, OutputGrant { allow: allow("0, 30..100").allow, ..has });
        let mut new = allow("1");
        keep_rest(&mut new, None);
        assert_eq!(new, allow("1"));
    }
}
