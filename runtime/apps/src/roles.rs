//! Checks the exports and imports of a component against its manifest.
//!
//! The compile worker lists the names; everything that would otherwise fail silently at the first
//! call is refused here, by name.

use ironloom_types::interfaces::{BASELINE, Capability, INTERFACES, Role, Roles, TYPES, WASI, fits, split};

use super::manifest::Manifest;
use super::problem::{Problem, Problems};

fn other_version(verb: &str, name: &str, has: &str) -> Problem {
    let (interface, _) = split(name);
    let message = format!("the component {verb} {name}, and this runtime has {interface}@{has}");
    let hint = if interface.starts_with("wasi:") {
        "build the app for wasm32-wasip2, with the SDK of this runtime"
    } else {
        "build the app with the SDK of this runtime"
    };
    Problem::of("component", message).hint(hint)
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
    let unknown: Vec<Problem> = exports.iter().filter_map(|name| check_export(name)).collect();
    let roles = Roles::of_exports(exports.iter().map(String::as_str));
    // A role in another version is told as that, and not as missing besides.
    if unknown.is_empty() {
        check_roles(manifest, roles, &mut problems);
    }
    problems.extend(unknown);
    Problems::check(problems)?;
    Ok(roles)
}

/// Finds what is wrong with an export: a role that this runtime doesn't know, or has in another version.
fn check_export(export: &str) -> Option<Problem> {
    let (interface, version) = split(export);
    if !interface.starts_with("ironloom:") {
        return None;
    }
    if !Role::ALL.iter().any(|role| role.interface() == interface) {
        let message = format!("the component exports {export}, a role that this runtime doesn't know");
        return Some(Problem::of("component", message).hint("a newer runtime is needed"));
    }
    (!fits(INTERFACES, version)).then(|| other_version("exports", export, INTERFACES))
}

fn check_roles(manifest: &Manifest, roles: Roles, problems: &mut Vec<Problem>) {
    if roles == Roles::default() {
        let message = "the component exports no role, so it would never be called";
        let hint = "name its roles with the SDK's `app!`, or include them in your world, as with \
                    `include ironloom:platform/readings@0.1.0`";
        problems.push(Problem::of("component", message).hint(hint));
        return;
    }
    let has_inputs = !manifest.inputs.is_empty();
    if has_inputs && !roles.readings {
        let message = "the manifest declares inputs, but the component lacks the role `readings`";
        problems.push(Problem::of("inputs", message).hint(add_role("readings")));
    }
    if roles.readings && !has_inputs {
        let message = "the component has the role `readings`, but the manifest declares no input";
        problems
            .push(Problem::of("inputs", message).hint("add an [inputs.NAME] section, or remove the role"));
    }
    let has_timers = !manifest.timers.is_empty() || manifest.schedule;
    if has_timers && !roles.timers {
        let what = if manifest.timers.is_empty() { "schedule" } else { "timers" };
        let message = format!("the manifest declares `{what}`, but the component lacks the role `timers`");
        problems.push(Problem::of(what, message).hint(add_role("timers")));
    }
    if roles.timers && !has_timers {
        let message = "the component has the role `timers`, but the manifest declares neither a timer nor `schedule = true`";
        problems.push(Problem::of("timers", message).hint("add a [timers.NAME] section, or remove the role"));
    }
}

fn add_role(role: &str) -> String {
    format!("add `{role}` to the SDK's `app!`, or `include ironloom:platform/{role}@0.1.0` to your world")
}

fn check_import(manifest: &Manifest, import: &str) -> Option<Problem> {
    let (interface, version) = split(import);
    if BASELINE.iter().any(|package| interface.starts_with(package)) {
        return (!fits(WASI, version)).then(|| other_version("imports", import, "0.2.x"));
    }
    if interface == TYPES {
        return (!fits(INTERFACES, version)).then(|| other_version("imports", import, INTERFACES));
    }
    let Some(capability) = Capability::ALL.into_iter().find(|one| one.interface() == interface) else {
        let message = format!("the component imports {import}, which no app may use");
        let hint = if interface.starts_with("wasi:http/") {
            "remove the code that uses it, or leave it out of your world; componentize-js adds it unless it gets \
             disableFeatures: ['http', 'fetch-event']"
        } else {
            "remove the code that uses it, or leave it out of your world"
        };
        return Some(Problem::of("component", message).hint(hint));
    };
    if let Some(declaration) = capability.declaration()
        && !capability.is_declared(manifest.declared())
    {
        let message = format!("the component imports {import}, but the manifest doesn't declare it");
        let hint = format!("add {declaration}, or leave it out of your world");
        return Some(Problem::of("component", message).hint(hint));
    }
    (!fits(capability.version(), version)).then(|| other_version("imports", import, capability.version()))
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
        refused(INPUT, &["wasi:cli/environment@0.3.0"], &[readings], "has wasi:cli/environment@0.2.x");
        refused(INPUT, &["wasi:config/store@0.2.0"], &[readings], "wasi:config/store@0.2.0-rc.1");
        refused(INPUT, &["env"], &[readings], "imports env");
        refused(INPUT, &["ironloom:alarms/alarms@0.1.0"], &[readings], "or leave it out of your world");
        refused(INPUT, &["wasi:http/types@0.2.0"], &[readings], "disableFeatures: ['http', 'fetch-event']");
        refused(TIMER, &[], &[readings], "include ironloom:platform/timers@0.1.0");
    }

    /// The names of imports and exports of a world in `wit/`, such as toolchains keep that don't leave unused ones out.
    fn names_of(world: &str) -> (Vec<String>, Vec<String>) {
        let mut resolve = wit_parser::Resolve::default();
        let wit = concat!(env!("CARGO_MANIFEST_DIR"), "/../../wit");
        let (package, _) = resolve.push_dir(wit).unwrap();
        let id = resolve.packages[package].worlds[world];
        let world = &resolve.worlds[id];
        let names =
            |keys: Vec<&wit_parser::WorldKey>| keys.iter().map(|key| resolve.name_world_key(key)).collect();
        (names(world.imports.keys().collect()), names(world.exports.keys().collect()))
    }

    #[test]
    fn each_whole_world_fits_the_manifest_that_its_comment_names_and_no_smaller_one() {
        let (output, alarm) =
            ("[outputs.mean]\nkind = \"derived\"\ntype = \"real\"\n", "[alarms.low]\nseverity = \"low\"\n");
        let schedule = "schedule = true\n";
        for (world, sections) in [
            ("app-readings", &[INPUT][..]),
            ("app-outputs", &[INPUT, output]),
            ("app-alarms", &[INPUT, alarm]),
            ("app-outputs-alarms", &[INPUT, output, alarm]),
            ("app-timers", &[INPUT, output, alarm, TIMER]),
            ("app-schedule", &[schedule, INPUT, output, alarm]),
        ] {
            let (imports, exports) = names_of(world);
            let check = |sections: &[&str]| {
                let manifest = Manifest::parse(&format!("{HEAD}{}", sections.concat())).unwrap();
                check_component(&manifest, &imports, &exports)
            };
            assert!(check(sections).is_ok(), "{world}: {:?}", check(sections));
            for left_out in 0..sections.len() {
                let mut fewer = sections.to_vec();
                fewer.remove(left_out);
                assert!(check(&fewer).is_err(), "{world} without {}", sections[left_out]);
            }
        }
    }
}
