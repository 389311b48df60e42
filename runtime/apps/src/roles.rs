//! What a component exports and imports, held against what its manifest declares.
//!
//! The compile worker lists the names; everything that would otherwise fail silently at the first
//! call is refused here, by name.

use serde::{Deserialize, Serialize};

use super::manifest::Manifest;
use super::problem::{Problem, Problems};

/// The roles that a component exports.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Roles {
    /// Takes readings: `ironloom:feeds/readings`.
    pub readings: bool,
    /// Is called when a timer is due: `ironloom:timers/timers`.
    pub timers: bool,
    /// Moves its state on when its version changes: `ironloom:lifecycle/migration`.
    pub lifecycle: bool,
}

const READINGS: &str = "ironloom:feeds/readings";
const TIMERS: &str = "ironloom:timers/timers";
const LIFECYCLE: &str = "ironloom:lifecycle/migration";

/// The version of the interfaces that this runtime has. Versions 0.1.x match each other both ways.
pub const INTERFACES: &str = "0.1.0";

/// What every app may import without declaring it, at any 0.2.x.
const BASELINE: [&str; 6] =
    ["wasi:cli/", "wasi:io/", "wasi:clocks/", "wasi:random/", "wasi:filesystem/", "wasi:sockets/"];
/// What every app may import besides, each at exactly this version: they are drafts.
const DRAFTS: [(&str, &str); 2] =
    [("wasi:config/store", "0.2.0-rc.1"), ("wasi:logging/logging", "0.1.0-draft")];

/// `ironloom:state/state@0.1.0` in two parts; a name without a version has the version "".
fn split(name: &str) -> (&str, &str) {
    name.split_once('@').unwrap_or((name, ""))
}

/// Whether a version matches `0.1.0`: the same minor, and no pre-release.
fn is_minor(version: &str, major: u64, minor: u64) -> bool {
    semver::Version::parse(version)
        .is_ok_and(|version| version.major == major && version.minor == minor && version.pre.is_empty())
}

impl Roles {
    /// The roles among these exports. Exports that are no interface of ours are passed over.
    ///
    /// # Errors
    /// Roles that this runtime doesn't know, or has in another version only.
    pub fn of_exports<'a>(exports: impl IntoIterator<Item = &'a str>) -> Result<Self, Vec<Problem>> {
        let mut roles = Self::default();
        let mut problems = Vec::new();
        for export in exports {
            let (name, version) = split(export);
            if !name.starts_with("ironloom:") {
                continue;
            }
            let role = match name {
                READINGS => &mut roles.readings,
                TIMERS => &mut roles.timers,
                LIFECYCLE => &mut roles.lifecycle,
                _ => {
                    let message =
                        format!("the component exports {export}, a role that this runtime doesn't know");
                    problems.push(Problem::of("component", message).hint("a newer runtime is needed"));
                    continue;
                }
            };
            *role = true;
            if !is_minor(version, 0, 1) {
                problems.push(other_version("exports", export));
            }
        }
        if problems.is_empty() { Ok(roles) } else { Err(problems) }
    }

    fn is_none(self) -> bool {
        self == Self::default()
    }
}

fn other_version(verb: &str, name: &str) -> Problem {
    let (interface, _) = split(name);
    let message = format!("the component {verb} {name}, and this runtime has {interface}@{INTERFACES}");
    Problem::of("component", message).hint("build the app with the SDK of this runtime")
}

/// Checks the component's imports and exports (names such as `ironloom:state/state@0.1.0`) against
/// its manifest.
///
/// # Errors
/// Imports that are not declared or not known, roles without a use and uses without a role.
pub fn check_component(
    manifest: &Manifest,
    imports: &[String],
    exports: &[String],
) -> Result<Roles, Problems> {
    let mut problems: Vec<Problem> = imports.iter().filter_map(|name| check_import(manifest, name)).collect();
    let roles = match Roles::of_exports(exports.iter().map(String::as_str)) {
        Ok(roles) => {
            check_roles(manifest, roles, &mut problems);
            roles
        }
        Err(found) => {
            problems.extend(found);
            Roles::default()
        }
    };
    Problems::check(problems)?;
    Ok(roles)
}

fn check_roles(manifest: &Manifest, roles: Roles, problems: &mut Vec<Problem>) {
    if roles.is_none() {
        let message = "the component exports no role, so it would never be called";
        problems.push(Problem::of("component", message).hint("name its roles with the SDK's `app!`"));
        return;
    }
    let has_inputs = !manifest.inputs.is_empty();
    if has_inputs && !roles.readings {
        let message = "the manifest declares inputs, but the component lacks the role `readings`";
        problems.push(Problem::of("inputs", message).hint("add `readings` to the SDK's `app!`"));
    }
    if roles.readings && !has_inputs {
        let message = "the component has the role `readings`, but the manifest declares no input";
        problems
            .push(Problem::of("inputs", message).hint("add an [inputs.NAME] section, or take the role away"));
    }
    let has_timers = !manifest.timers.is_empty() || manifest.schedule;
    if has_timers && !roles.timers {
        let what = if manifest.timers.is_empty() { "schedule" } else { "timers" };
        let message = format!("the manifest declares `{what}`, but the component lacks the role `timers`");
        problems.push(Problem::of(what, message).hint("add `timers` to the SDK's `app!`"));
    }
    if roles.timers && !has_timers {
        let message = "the component has the role `timers`, but the manifest declares neither a timer nor `schedule = true`";
        problems
            .push(Problem::of("timers", message).hint("add a [timers.NAME] section, or take the role away"));
    }
}

fn check_import(manifest: &Manifest, import: &str) -> Option<Problem> {
    let (name, version) = split(import);
    if BASELINE.iter().any(|prefix| name.starts_with(prefix)) {
        return (!is_minor(version, 0, 2)).then(|| {
            let message = format!("the component imports {import}, and this runtime has {name} at 0.2.x");
            Problem::of("component", message).hint("build it for wasm32-wasip2")
        });
    }
    if let Some((_, has)) = DRAFTS.iter().find(|(draft, _)| *draft == name) {
        return (version != *has).then(|| {
            Problem::of(
                "component",
                format!("the component imports {import}, and this runtime has {name}@{has}"),
            )
        });
    }
    let missing = match name {
        "ironloom:types/types" | "ironloom:invocation/invocation" | "ironloom:state/state" => None,
        "ironloom:outputs/outputs" => manifest.outputs.is_empty().then_some("an [outputs.NAME] section"),
        "ironloom:alarms/alarms" => manifest.alarms.is_empty().then_some("an [alarms.NAME] section"),
        "ironloom:timers/schedule" => (!manifest.schedule).then_some("the line `schedule = true`"),
        _ => {
            let message = format!("the component imports {import}, which no app is given");
            return Some(Problem::of("component", message).hint("remove what uses it"));
        }
    };
    if let Some(missing) = missing {
        let message = format!("the component imports {import}, but the manifest doesn't declare it");
        return Some(Problem::of("component", message).hint(format!("add {missing}")));
    }
    (!is_minor(version, 0, 1)).then(|| other_version("imports", import))
}

#[cfg(test)]
mod tests {
    use super::*;

    const HEAD: &str = "manifest = 1\nid = \"a.b\"\nname = \"x\"\nversion = \"1.0.0\"\n";

    fn check(rest: &str, imports: &[&str], exports: &[&str]) -> Result<Roles, String> {
        let manifest = Manifest::parse(&format!("{HEAD}{rest}")).unwrap();
        let owned = |names: &[&str]| names.iter().map(|&name| name.to_owned()).collect::<Vec<_>>();
        check_component(&manifest, &owned(imports), &owned(exports)).map_err(|problems| problems.to_string())
    }

    const INPUT: &str = "[inputs.weight]\ntype = \"real\"\n";
    const TIMER: &str = "[timers.daily]\ncron = \"0 6 * * *\"\n";

    #[test]
    fn what_fits_is_let_in() {
        let imports = [
            "wasi:cli/environment@0.2.3",
            "wasi:io/streams@0.2.12",
            "wasi:config/store@0.2.0-rc.1",
            "wasi:logging/logging@0.1.0-draft",
            "ironloom:types/types@0.1.0",
            "ironloom:state/state@0.1.7",
        ];
        let roles = check(INPUT, &imports, &["ironloom:feeds/readings@0.1.3", "wasi:cli/run@0.2.3"]).unwrap();
        assert_eq!(roles, Roles { readings: true, ..Roles::default() });
        let both = [
            "ironloom:feeds/readings@0.1.0",
            "ironloom:timers/timers@0.1.0",
            "ironloom:lifecycle/migration@0.1.0",
        ];
        let roles = check(&format!("{INPUT}{TIMER}"), &[], &both).unwrap();
        assert_eq!(roles, Roles { readings: true, timers: true, lifecycle: true });
    }

    #[test]
    fn what_does_not_fit_is_refused_by_name() {
        let readings = "ironloom:feeds/readings@0.1.0";
        let timers = "ironloom:timers/timers@0.1.0";
        let refused = |rest: &str, imports: &[&str], exports: &[&str], expected: &str| {
            let error = check(rest, imports, exports).unwrap_err();
            assert!(error.contains(expected), "{error}");
        };
        refused("", &[], &[], "no role");
        refused(INPUT, &[], &["wasi:cli/run@0.2.0"], "no role");
        refused(INPUT, &[], &[timers], "lacks the role `readings`");
        refused(INPUT, &[], &[timers], "declares neither a timer");
        refused(TIMER, &[], &[readings], "declares no input");
        refused(TIMER, &[], &[readings], "lacks the role `timers`");
        refused("schedule = true\n", &[], &["ironloom:lifecycle/migration@0.1.0"], "declares `schedule`");
        refused(INPUT, &[], &["ironloom:feeds/readings@0.2.0"], "has ironloom:feeds/readings@0.1.0");
        refused(INPUT, &[], &[readings, "ironloom:http/handler@0.1.0"], "doesn't know");
        refused(INPUT, &["ironloom:state/state@0.2.0"], &[readings], "has ironloom:state/state@0.1.0");
        refused(
            INPUT,
            &["ironloom:state/state@0.1.0-rc.1"],
            &[readings],
            "imports ironloom:state/state@0.1.0-rc.1",
        );
        refused(INPUT, &["ironloom:outputs/outputs@0.1.0"], &[readings], "add an [outputs.NAME] section");
        refused(INPUT, &["ironloom:alarms/alarms@0.1.0"], &[readings], "add an [alarms.NAME] section");
        refused(INPUT, &["ironloom:timers/schedule@0.1.0"], &[readings], "schedule = true");
        refused(
            INPUT,
            &["wasi:http/outgoing-handler@0.2.0"],
            &[readings],
            "wasi:http/outgoing-handler@0.2.0",
        );
        refused(INPUT, &["wasi:cli/environment@0.3.0"], &[readings], "at 0.2.x");
        refused(INPUT, &["wasi:config/store@0.2.0"], &[readings], "wasi:config/store@0.2.0-rc.1");
        refused(INPUT, &["env"], &[readings], "imports env");
    }
}
