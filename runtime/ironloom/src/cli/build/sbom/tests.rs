//! The document by its fields and by the schema of the CycloneDX project, from answers of cargo written by hand.

use jsonschema::{Draft, Registry};
use serde_json::{Value, json};

use super::*;

const CRATES: &str = "registry+https://github.com/rust-lang/crates.io-index";
const MANIFEST: &str =
    "manifest = 1\nid = \"com.example.gauge\"\nname = \"Gauge\"\nversion = \"1.2.3\"\nlicense = \"MIT\"\n";
const INPUT: &str = "[inputs.level]\ntype = \"real\"\n";

fn app() -> Manifest {
    Manifest::parse(&format!("{MANIFEST}{INPUT}")).unwrap()
}

fn package(id: &str, version: &str, source: Option<&str>, license: Option<&str>) -> Value {
    // The id is the name; one with a suffix is another crate of that name.
    let name = id.trim_end_matches('2');
    json!({"id": id, "name": name, "version": version, "source": source, "license": license, "description": null})
}

fn node(id: &str, deps: &[(&str, &[Option<&str>])]) -> Value {
    let kinds = |kinds: &[Option<&str>]| -> Vec<Value> {
        kinds.iter().map(|kind| json!({"kind": kind, "target": null})).collect()
    };
    let deps: Vec<Value> =
        deps.iter().map(|(to, all)| json!({"name": to, "pkg": to, "dep_kinds": kinds(all)})).collect();
    json!({"id": id, "deps": deps, "features": []})
}

/// An app on two crates of a registry, a macro, a crate by its path, one of git, and what its tests and its build need.
fn graph() -> Graph {
    let git = "git+https://token@git.example.com/sensors.git?branch=main#0a1b2c";
    let packages = [
        package("gauge", "0.9.0", None, Some("Apache-2.0")),
        package("wasi", "0.11.0+wasi-snapshot-preview1", Some(CRATES), Some("MIT/Apache-2.0")),
        package("log", "0.4.35", Some(CRATES), Some("MIT OR Apache-2.0")),
        package("log2", "0.4.35", None, None),
        package("macro", "1.0.0", Some(CRATES), None),
        package("sensors", "2.0.0", Some(git), Some("see the file LICENSE")),
        package("codegen", "1.0.0", Some(CRATES), None),
        package("tested", "1.0.0", Some(CRATES), None),
        package("other", "1.0.0", Some(CRATES), None),
    ];
    let nodes = [
        node(
            "gauge",
            &[
                ("log", &[None]),
                ("log2", &[None, Some("dev")]),
                ("macro", &[None]),
                ("codegen", &[Some("build")]),
                ("tested", &[Some("dev")]),
                ("sensors", &[None]),
            ],
        ),
        node("log", &[("wasi", &[None]), ("other", &[None])]),
        node("log2", &[]),
        node("macro", &[]),
        // Compiled for the target, but only because `log` is linked with it.
        node("sensors", &[("log", &[None]), ("wasi", &[Some("build")])]),
        node("wasi", &[]),
        node("codegen", &[]),
        node("tested", &[]),
        node("other", &[]),
    ];
    serde_json::from_value(json!({"packages": packages, "resolve": {"root": "gauge", "nodes": nodes}}))
        .unwrap()
}

fn lock() -> Lock {
    let checksum = "5".repeat(64);
    let text = format!(
        "version = 4\n[[package]]\nname = \"log\"\nversion = \"0.4.35\"\n\
         [[package]]\nname = \"log\"\nversion = \"0.4.35\"\nsource = \"{CRATES}\"\nchecksum = \"{checksum}\"\n\
         dependencies = [\"wasi\"]\n"
    );
    toml::from_str(&text).unwrap()
}

/// The crates that cargo has compiled for the target: all but the macro, and those that only a build or a test needs.
/// `codegen` stands for one that another member of a workspace is linked with.
fn linked() -> BTreeSet<String> {
    ["gauge", "wasi", "log", "log2", "sensors", "codegen", "tested"].map(str::to_owned).into()
}

fn made(graph: &Graph) -> Value {
    serde_json::from_slice(&document(&app(), graph, &lock(), &linked()).unwrap()).unwrap()
}

/// The schema that the CycloneDX project publishes. Those for ids of licences and for signatures let nothing through.
fn schema() -> jsonschema::Validator {
    let path = concat!(env!("CARGO_MANIFEST_DIR"), "/../../tests/cyclonedx/bom-1.5.schema.json");
    let schema: Value = serde_json::from_slice(&std::fs::read(path).unwrap()).unwrap();
    let beside = |name: &str| format!("http://cyclonedx.org/schema/{name}.SNAPSHOT.schema.json");
    let nothing = json!({"not": {}});
    let registry = Registry::new()
        .add(beside("spdx"), &nothing)
        .and_then(|registry| registry.add(beside("jsf-0.82"), json!({"definitions": {"signature": nothing}})))
        .and_then(|registry| registry.prepare())
        .unwrap();
    jsonschema::options().with_draft(Draft::Draft7).with_registry(&registry).build(&schema).unwrap()
}

#[test]
fn the_document_names_what_is_linked_into_the_app_and_nothing_else() {
    let log = "pkg:cargo/log@0.4.35";
    let wasi = "pkg:cargo/wasi@0.11.0%2Bwasi-snapshot-preview1";
    let sensors = "pkg:cargo/sensors@2.0.0?vcs_url=git%2Bhttps:%2F%2Fgit.example.com%2Fsensors.git%400a1b2c";
    let expected = json!({
        "bomFormat": "CycloneDX", "specVersion": "1.5", "version": 1,
        "metadata": {"component": {
            "type": "application", "bom-ref": "com.example.gauge", "name": "com.example.gauge", "version": "1.2.3",
            "licenses": [{"expression": "MIT"}],
        }},
        "components": [
            {
                "type": "library", "bom-ref": "path:log@0.4.35", "name": "log", "version": "0.4.35", "purl": log,
            },
            {
                "type": "library", "bom-ref": log, "name": "log", "version": "0.4.35", "purl": log,
                "hashes": [{"alg": "SHA-256", "content": "5".repeat(64)}],
                "licenses": [{"expression": "MIT OR Apache-2.0"}],
            },
            {
                "type": "library", "bom-ref": sensors, "name": "sensors", "version": "2.0.0", "purl": sensors,
                "licenses": [{"license": {"name": "see the file LICENSE"}}],
            },
            {
                "type": "library", "bom-ref": wasi, "name": "wasi", "version": "0.11.0+wasi-snapshot-preview1",
                "purl": wasi, "licenses": [{"expression": "MIT OR Apache-2.0"}],
            },
        ],
        "dependencies": [
            {"ref": "com.example.gauge", "dependsOn": ["path:log@0.4.35", log, sensors]},
            {"ref": "path:log@0.4.35"},
            {"ref": log, "dependsOn": [wasi]},
            {"ref": sensors, "dependsOn": [log]},
            {"ref": wasi},
        ],
    });
    let made = made(&graph());
    assert_eq!(made, expected, "{made:#}");
}

#[test]
fn the_document_is_valid_by_the_schema_of_its_project() {
    let schema = schema();
    let document = made(&graph());
    let problems: Vec<_> = schema.iter_errors(&document).map(|error| error.to_string()).collect();
    assert!(problems.is_empty(), "{problems:?}");
    // The schema does find mistakes.
    for (place, wrong) in [
        ("/bomFormat", json!("SPDX")),
        ("/components/1/hashes/0/content", json!("5")),
        ("/components/1/licenses/0", json!({"license": {"id": "MIT"}})),
        ("/components/2/type", json!("crate")),
        ("/dependencies/0/dependsOn", json!(["a", "a"])),
    ] {
        let mut document = document.clone();
        *document.pointer_mut(place).unwrap() = wrong;
        assert!(!schema.is_valid(&document), "{place}");
    }
}

#[test]
fn the_order_of_what_cargo_says_changes_no_byte() {
    let mut other = graph();
    other.packages.reverse();
    other.resolve.nodes.reverse();
    other.resolve.nodes.iter_mut().for_each(|node| node.deps.reverse());
    let bytes = |graph: &Graph| document(&app(), graph, &lock(), &linked()).unwrap();
    assert_eq!(bytes(&graph()), bytes(&other));
}

#[test]
fn answers_that_do_not_belong_together_are_refused() {
    let mut without = graph();
    without.packages.retain(|package| package.id != "wasi");
    let error = |graph: &Graph| document(&app(), graph, &lock(), &linked()).unwrap_err().to_string();
    assert_eq!(error(&without), "cargo's metadata lacks the crate wasi");
    without.resolve.root = None;
    assert_eq!(error(&without), "cargo's metadata has no crate of the app");
}

#[test]
fn a_package_url_says_where_a_crate_is_from_and_no_password() {
    let purl = |source: Option<&str>| {
        serde_json::from_value::<Package>(package("a", "1.0.0", source, None)).unwrap().purl()
    };
    let plain = "pkg:cargo/a@1.0.0";
    assert_eq!(purl(None), plain);
    assert_eq!(purl(Some(CRATES)), plain);
    assert_eq!(purl(Some("sparse+https://index.crates.io/")), plain);
    let own = format!("{plain}?repository_url=https:%2F%2Fcrates.example.com%2Findex");
    assert_eq!(purl(Some("registry+https://crates.example.com/index")), own);
    assert_eq!(purl(Some("sparse+https://me:secret@crates.example.com/index")), own);
    assert_eq!(
        purl(Some("git+ssh://git@host/a?rev=1#abc")),
        format!("{plain}?vcs_url=git%2Bssh:%2F%2Fhost%2Fa%40abc")
    );
}

#[test]
fn licences_are_expressions_of_spdx_or_names() {
    let written = |text: &str| serde_json::to_value(licences(text)).unwrap();
    for (text, expression) in [
        ("MIT", "MIT"),
        ("MIT / Apache-2.0", "MIT OR Apache-2.0"),
        ("Apache-2.0 WITH LLVM-exception", "Apache-2.0 WITH LLVM-exception"),
        ("(MIT OR Apache-2.0) AND Unicode-3.0", "(MIT OR Apache-2.0) AND Unicode-3.0"),
        ("LicenseRef-Ours", "LicenseRef-Ours"),
    ] {
        assert_eq!(written(text), json!([{"expression": expression}]), "{text}");
    }
    for text in ["Proprietary", "MIT OR", "© us, all rights reserved"] {
        assert_eq!(written(text), json!([{"license": {"name": text}}]));
    }
    assert_eq!(written(""), json!([]));
}
