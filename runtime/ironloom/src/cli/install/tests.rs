//! What flags and the file of an install come to.

use serde_json::{Value as Json, json};

use super::*;
use crate::api::facade::{Detail, PackageInfo, Place, Problem};
use crate::cli::tests;

fn package() -> PackageInfo {
    serde_json::from_value(tests::package()).unwrap()
}

fn flags(arguments: &[&str]) -> Install {
    #[derive(clap::Parser)]
    struct Alone {
        #[command(flatten)]
        install: Install,
    }
    let arguments = [&["install"], arguments].concat();
    <Alone as clap::Parser>::try_parse_from(arguments).unwrap().install
}

fn request(install: &Install, mut asked: Asked) -> Result<Json, Failure> {
    install.apply(&mut asked)?;
    install.given.add_settings(&mut asked, &package())?;
    let id = asked.id.take().unwrap();
    Ok(serde_json::to_value(asked.request(id, package().digest)).unwrap())
}

fn one(text: &str) -> Asked {
    match request::parse(text).unwrap().0 {
        File::One(asked) => *asked,
        File::Many(all) => panic!("{all:?}"),
    }
}

#[test]
fn a_file_may_list_many_installations_and_mistakes_say_in_which() {
    let text = "[[installations]]\nid = \"a\"\n[installations.bindings]\nweight = \"a/{x}\"\n\
                [[installations]]\nid = \"b\"\npackage = \"b.tar\"\n";
    let File::Many(all) = request::parse(text).unwrap().0 else { panic!("it lists two") };
    let ids: Vec<_> = all.iter().map(|asked| asked.id.as_ref().unwrap().as_str()).collect();
    assert_eq!((ids, all[0].bindings.len()), (vec!["a", "b"], 1));
    assert_eq!(all[1].package.as_deref(), Some("b.tar"));
    let wrong = text.replace("b.tar\"", "b.tar\"\ncolour = 1").replace("a/{x}", "a//{x}");
    let problems = request::parse(&wrong).unwrap_err().to_string();
    for part in ["4:10: installations[1].bindings.weight", "8:1: installations[2].colour"] {
        assert!(problems.contains(part), "{part} is not in:\n{problems}");
    }
    let beside = format!("id = \"c\"\n{text}");
    assert!(request::parse(&beside).unwrap_err().to_string().contains("id: is not known"), "{beside}");
    assert!(request::parse("installations = 7").unwrap_err().to_string().contains("[[installations]]"));
}

#[test]
fn flags_of_one_installation_are_refused_for_many() {
    for flag in [["--id", "a"], ["--bind", "a=b"], ["--from", "now"], ["--timezone", "UTC"]] {
        let failure = flags(&flag).check_flags().unwrap_err().to_string();
        assert!(failure.contains(flag[0]) && failure.contains("lists many"), "{failure}");
    }
    assert!(flags(&["app.tar", "--dry-run"]).check_flags().is_ok());
}

#[test]
fn a_package_as_an_argument_is_refused_where_the_file_names_one_and_else_is_that_of_all() {
    let of = |text: &str| match request::parse(text).unwrap().0 {
        File::Many(all) => all,
        File::One(one) => panic!("{one:?}"),
    };
    let check = |arguments: &[&str], text: &str| {
        flags(arguments).check_package(&of(text), std::path::Path::new("farm/many.toml"))
    };
    let none = "[[installations]]\nid = \"a\"\n[[installations]]\nid = \"b\"\n";
    let own = format!("{none}package = \"b.tar\"\n");
    let failure = check(&["app.tar"], &own).unwrap_err();
    assert!(matches!(failure, Failure::Misuse(_)), "{failure:?}");
    assert_eq!(
        failure.to_string(),
        "error: farm/many.toml: installation 2 of the file (b) names a package of its own, and the argument app.tar \
         would be the package of all; leave the argument out, or take `package` out of the file"
    );
    assert!(check(&["app.tar"], none).is_ok());
    assert!(check(&[], &own).is_ok());
}

#[test]
fn a_mistake_in_a_package_is_one_of_the_package_and_not_of_the_file_that_names_it() {
    let folder = tempfile::tempdir().unwrap();
    let write = |name: &str, text: &str| {
        let path = folder.path().join(name);
        std::fs::write(&path, text).unwrap();
        path.to_str().unwrap().to_owned()
    };
    let package = write("warm.app.tar", "not looked at here");
    let one = "package = \"warm.app.tar\"\nid = \"pigs\"\n[settings]\nlimit = 25.0\n";
    let many = format!("[[installations]]\n{}", one.replace("[settings]", "[installations.settings]"));
    let (one, many) = (write("one.toml", one), write("many.toml", &many));
    let there = || Ok(tests::installation(&json!({})));
    for (command, before) in [
        (&["install", "--with", &one][..], None),
        (&["install", "--with", &many][..], None),
        (&["set", "pigs", "--with", &one][..], Some(there())),
        (&["upgrade", "pigs", "--with", &one][..], Some(there())),
    ] {
        let mistake = Detail {
            kind: "manifest".to_owned(),
            detail: "must be a number".to_owned(),
            place: Some(Place { line: Some(6), column: Some(11), ..Place::field("settings.limit.default") }),
        };
        let detail = "app.toml is wrong: 6:11: settings.limit.default: must be a number";
        let problem = Problem::refused("manifest", detail).with(vec![mistake]);
        let (failure, _) = tests::run(command, before.into_iter().chain([Err(problem)]).collect());
        assert_eq!(failure.to_string(), format!("error: {package}: {detail}"), "{command:?}");
    }
}

#[test]
fn flags_come_on_top_of_the_file_and_settings_get_their_type() {
    let text = "id = \"herd\"\nfrom = 2026-01-01T00:00:00Z\n[bindings]\nweight = [\"a/{x}\"]\nfeed = \"b/{x}\"\n\
                [settings]\nage = 20\nname = \"x\"\n[limits]\ncpu = \"1.5 s\"\n\
                [grants.outputs.limit]\nallow = \"0..1\"\nsafe = \"hold\"\nttl = \"60 s\"\n";
    let install = flags(&[
        "--bind",
        "weight=c/{x}",
        "--bind",
        "weight=d/{x}",
        "--set",
        "breed= 1 ",
        "--set",
        "age=28",
        "--set",
        "market=nan",
        "--set",
        "loud=true",
        "--set",
        "other=x=y",
        "--grant",
        "gate=0, 6..32",
        "--limit",
        "memory=64 MiB",
        "--id",
        "pigs",
    ]);
    let expected = json!({
        "id": "pigs",
        "package": format!("sha256:{}", "0".repeat(64)),
        "bindings": {"weight": ["c/{x}", "d/{x}"], "feed": ["b/{x}"]},
        "settings": {"breed": " 1 ", "age": 28, "market": "nan", "loud": true, "other": "x=y", "name": "x"},
        "grants": {"mode": "act", "outputs": {
            "limit": {"allow": "0..1", "toward": "low", "ttl": "1 min", "safe": "hold", "strict": false, "every": null},
            "gate": {"allow": "0, 6..32", "toward": "low", "ttl": null, "safe": null, "strict": false, "every": null},
        }},
        "limits": {"memory": "64 MiB", "cpu": "1500 ms"},
        "from": "2026-01-01T00:00:00.000000000Z",
    });
    assert_eq!(request(&install, one(text)).unwrap(), expected);
}

#[test]
fn all_mistakes_of_the_file_are_told_with_their_places() {
    let text = r#"
id = "Pigs"
from = 2026-01-01T00:00:00
[binding]
weight = "a"
[bindings]
weight = "a//b"
feed = 7
[settings]
age = [1]
[limits]
memry = "1 MiB"
cpu = "1 h"
[grants.outputs.limit]
allow = "all"
toward = "up"
[grants.hosts]
"#;
    insta::assert_snapshot!(request::parse(text).unwrap_err().to_string());
}

#[test]
fn mistakes_in_flags_are_told_before_anything_is_sent() {
    for (arguments, reason) in [
        (["--id", "Pigs"], "--id: "),
        (["--from", "yesterday"], "--from: "),
        (["--bind", "weight=a//b"], "--bind weight: "),
        (["--limit", "memry=1 MiB"], "the limits are memory, cpu, state, share"),
        (["--limit", "cpu=1 h"], "is not within"),
        (["--grant", "gate=all"], "--grant gate: "),
        (["--set", "Age=1"], "--set: "),
    ] {
        let failure = flags(&arguments).apply(&mut Asked::default()).unwrap_err();
        assert!(matches!(failure, Failure::Misuse(_)) && failure.to_string().contains(reason), "{failure}");
    }
}

#[test]
fn pairs_have_two_sides() {
    assert!(given::pair("weight").is_err());
    assert!(given::pair("=x").is_err());
    assert_eq!(given::pair("a = b=c"), Ok(("a".to_owned(), "b=c".to_owned())));
}

#[test]
fn what_the_server_refuses_is_told_with_its_place_in_the_file() {
    let text = "id = \"herd\"\n[bindings]\nweight = [\"a/{x}\"]\nfeed = \"b/{x}\"\n[settings]\nage = 20\n\
                [grants.outputs.limit]\nallow = \"0..1\"\n";
    let (_, mut places) = request::parse(text).unwrap();
    flags(&["--bind", "feed=c/{x}", "--set", "breed=x"]).leave_to_flags(&mut places);
    let told = |fields: &[&str]| {
        let detail = |field: &&str| Detail {
            kind: "invalid".to_owned(),
            detail: "is wrong".to_owned(),
            place: Some(Place::field(*field)),
        };
        let problem = Problem::refused("install", format!("refused: {} problems", fields.len()));
        let problem = problem.with(fields.iter().map(detail).collect());
        let located = request::locate(problem, std::path::Path::new("farm/install.toml"), &places);
        Failure::Refused(located).to_string()
    };
    let fields = [
        "bindings.weight",
        // By a flag.
        "bindings.feed",
        // Of which the file has the section only.
        "bindings.water",
        "settings.age",
        "grants.outputs.limit.allow",
        "grants.outputs.limit.ttl",
        // Of which it has nothing.
        "limits.cpu",
    ];
    let expected = "error: refused: 7 problems\n  \
                    farm/install.toml:3:10: bindings.weight: is wrong\n  \
                    bindings.feed: is wrong\n  \
                    farm/install.toml:2:2: bindings.water: is wrong\n  \
                    farm/install.toml:6:7: settings.age: is wrong\n  \
                    farm/install.toml:8:9: grants.outputs.limit.allow: is wrong\n  \
                    farm/install.toml:7:17: grants.outputs.limit.ttl: is wrong\n  \
                    limits.cpu: is wrong";
    assert_eq!(told(&fields), expected);
    assert_eq!(told(&["settings.age"]), "error: farm/install.toml:6:7: settings.age: is wrong");

    let text =
        "[[installations]]\nid = \"a\"\n[[installations]]\nid = \"b\"\n[installations.bindings]\nx = \"y\"\n";
    let (_, places) = request::parse(text).unwrap();
    let place = Place { item: Some(2), ..Place::field("bindings.x") };
    let error = Detail { kind: "invalid".to_owned(), detail: "is wrong".to_owned(), place: Some(place) };
    let problem = Problem::refused("install", "installation 2 of the list (b): no").with(vec![error]);
    let told =
        Failure::Refused(request::locate(problem, std::path::Path::new("all.toml"), &places)).to_string();
    assert_eq!(told, "error: all.toml:6:5: installations[2].bindings.x: is wrong; none is installed");
}

#[test]
fn all_entries_that_lack_something_are_told_at_once() {
    let text = "[[installations]]\nid = \"a\"\n[[installations]]\npackage = \"b.tar\"\n[[installations]]\nid = \"c\"\n\
                package = \"c.tar\"\n";
    let File::Many(all) = request::parse(text).unwrap().0 else { panic!("it lists three") };
    let failure = flags(&[]).named(all).err().unwrap();
    assert_eq!(
        failure.to_string(),
        "error: installation 1 of the file (a) names no package, and none is named as an argument\n\
         installation 2 of the file has no id"
    );
}
