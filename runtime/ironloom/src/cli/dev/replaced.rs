//! The app in the place of the one before: upgraded, so that its state goes on, or installed anew.

use std::collections::BTreeMap;

use anyhow::Context as _;
use serde::Serialize;

use super::super::client::{Client, flag};
use super::super::failure::{Failure, Outcome};
use super::super::output;
use super::ID;
use crate::api::JSON_TYPE;
use crate::api::facade::{
    InstallRequest, Installation, InstallationState, Installed, LimitChanges, PackageInfo, Problem, Revised,
    RevisionRequest, StartFrom,
};
use crate::feeds::Wanted;
use ironloom_apps::allowance::LimitKind;
use ironloom_apps::grants::Grants;
use ironloom_apps::plan::is_of_no_point;
use ironloom_types::ids::{InstallationId, SlotName, TenantId};

/// The way in which one app came into the place of another.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Replaced {
    /// Without state, and with all readings before it.
    Anew,
    /// With all that the one before had.
    Upgraded,
}

/// Puts an app in the place of the one before, if there is one.
pub(super) fn replace(
    client: &Client,
    info: &PackageInfo,
    wanted: Wanted,
    fresh: bool,
) -> Result<Replaced, Failure> {
    if !fresh {
        match upgrade(client, info, &wanted) {
            Err(Failure::Refused(problem)) if problem.status == 404 => {}
            Err(Failure::Refused(problem)) => return Err(Failure::Refused(explained(problem))),
            Err(failure) => return Err(failure),
            Ok(()) => return Ok(Replaced::Upgraded),
        }
    }
    install(client, info, wanted)?;
    Ok(Replaced::Anew)
}

fn path() -> String {
    format!("/v1/installations/{ID}")
}

fn text(of: &impl Serialize) -> anyhow::Result<String> {
    serde_json::to_string(of).context("the request can't be written")
}

fn upgrade(client: &Client, info: &PackageInfo, wanted: &Wanted) -> Outcome {
    let mut request = change(info, wanted)?;
    let send = |request: &RevisionRequest, dry_run| {
        client.patch(&path(), &[flag("dry-run", dry_run)], JSON_TYPE, text(request)?.as_bytes())?.read()
    };
    // Whoever writes the app consents to what it asks for.
    let shown: Revised = send(&request, true)?;
    request.consent = shown.consent.map(|consent| consent.digest);
    let revised = send(&request, false)?;
    tell_warnings(&revised.warnings);
    let Installation { app, version, state, revision, .. } = revised.installation;
    if state == InstallationState::Quarantined {
        // It was for the version before.
        client.post(&format!("{}/resume", path()), &[], JSON_TYPE, b"{}")?;
    }
    let what = if revised.changes.is_empty() { "is as it was" } else { "runs, with its state" };
    output::note(&format!("{app} {version} {what}: revision {revision}"));
    Ok(())
}

/// The change to a package with these choices: what isn't chosen is what an install would make of it. What waits goes to the
/// new package, as its code is the one that is looked at.
fn change(info: &PackageInfo, wanted: &Wanted) -> anyhow::Result<RevisionRequest> {
    let slots = info.inputs.keys().chain(info.outputs.keys());
    let mut limits = LimitChanges::of(wanted.limits);
    for kind in LimitKind::ALL {
        if wanted.limits.get(kind).is_none() {
            limits.unset(kind);
        }
    }
    Ok(RevisionRequest {
        package: Some(info.digest),
        bindings: chosen(slots, &wanted.bindings)?,
        settings: chosen(info.settings.keys(), &wanted.settings)?,
        limits,
        timezone: Some(wanted.timezone.clone()),
        at_cursor: Some(true),
        // What is written is tried again and again, and goes forward.
        copy: Some(false),
        ..RevisionRequest::default()
    })
}

/// These choices, and null for all else that there is.
fn chosen<'n, T: Clone>(
    names: impl Iterator<Item = &'n String>,
    choices: &BTreeMap<SlotName, T>,
) -> anyhow::Result<BTreeMap<SlotName, Option<T>>> {
    let mut all =
        names.map(|name| Ok((SlotName::new(name)?, None))).collect::<anyhow::Result<BTreeMap<_, _>>>()?;
    all.extend(choices.iter().map(|(name, value)| (name.clone(), Some(value.clone()))));
    Ok(all)
}

/// Says in one line why an upgrade is refused, and what to do then.
fn explained(mut problem: Problem) -> Problem {
    let mut why = problem.detail.clone();
    for error in problem.errors.iter().filter(|error| !problem.detail.contains(&error.detail)) {
        let field = error.place.as_ref().and_then(|place| place.field.as_deref());
        let field = field.map_or(String::new(), |field| format!("{field}: "));
        why.push_str(&format!("; {field}{}", error.detail));
    }
    problem.errors.clear();
    problem.detail = format!("what runs goes on, and isn't replaced: {why}");
    if problem.kind == "migrate" {
        // They name a command for another server; what the app logs is shown anyway.
        problem.hints.clear();
    }
    problem.hint(
        "Change a file, and it is tried again. With --fresh, or after Ctrl-C and another `ironloom dev`, it begins anew, \
         without state.",
    )
}

/// Removes the installation, if there is one, and installs the app.
fn install(client: &Client, info: &PackageInfo, wanted: Wanted) -> Outcome {
    match client.delete(&path(), &[("purge", Some("true".to_owned()))]) {
        Err(Failure::Refused(problem)) if problem.status == 404 => {}
        other => drop(other?),
    }
    let request = InstallRequest {
        id: InstallationId::new(TenantId::NOBODY, ID).map_err(anyhow::Error::from)?,
        package: info.digest,
        publisher: None,
        new_publisher: None,
        bindings: wanted.bindings,
        grants: Grants::default(),
        settings: wanted.settings,
        limits: wanted.limits,
        timezone: wanted.timezone,
        keep_up: false,
        from: Some(StartFrom::Beginning),
        adopt: None,
        consent: None,
    };
    let answer = client.post("/v1/installations", &[], JSON_TYPE, text(&request)?.as_bytes())?;
    let installed: Installed = answer.read()?;
    tell_warnings(&installed.warnings);
    output::note(&format!("runs {} {}", installed.installation.app, installed.installation.version));
    Ok(())
}

fn tell_warnings(warnings: &[String]) {
    for warning in warnings.iter().filter(|warning| !is_of_no_point(warning)) {
        output::note(&format!("warning: {warning}"));
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;
    use crate::api::facade::{Detail, Patterns, Place};

    #[test]
    fn a_change_takes_away_what_is_chosen_no_more() {
        let mut package = crate::cli::tests::package();
        package["inputs"] = json!({"weight": {"type": "real"}, "load": {"type": "real"}});
        package["outputs"] = json!({"gain": {"type": "real"}});
        let info: PackageInfo = serde_json::from_value(package).unwrap();
        let mut wanted = Wanted::default();
        let weight = Patterns::Many(vec!["farm/{pig}/weight".to_owned()]);
        wanted.bindings.insert(SlotName::new("weight").unwrap(), weight);
        wanted.settings.insert(SlotName::new("age").unwrap(), json!(7));
        wanted.limits.set(LimitKind::Points, 5);
        let request = serde_json::to_value(change(&info, &wanted).unwrap()).unwrap();
        assert_eq!(
            request,
            json!({
                "package": info.digest,
                "bindings": {"weight": ["farm/{pig}/weight"], "load": null, "gain": null},
                "settings": {"age": 7, "breed": null, "market": null, "loud": null},
                "limits": {"memory": null, "cpu": null, "state": null, "share": null, "points": 5},
                "timezone": null,
                "at_cursor": true,
                "copy": false,
            })
        );
    }

    #[test]
    fn a_refused_upgrade_is_told_in_one_line_with_what_to_do() {
        let error = |field: &str, detail: &str| Detail {
            kind: "revision".to_owned(),
            detail: detail.to_owned(),
            place: Some(Place::field(field)),
        };
        let problem = Problem::refused("revision", "the installation can't be changed as asked")
            .with(vec![error("settings.limit", "must be set"), error("bindings.load", "must be bound")]);
        let told = Failure::Refused(explained(problem)).to_string();
        let (line, hint) = told.split_once('\n').unwrap();
        assert_eq!(
            line,
            "error: what runs goes on, and isn't replaced: the installation can't be changed as asked; settings.limit: must \
             be set; bindings.load: must be bound"
        );
        assert!(hint.starts_with("hint: ") && hint.contains("--fresh") && !hint.contains('\n'), "{hint}");
    }
}
