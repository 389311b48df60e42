//! Manifests: all errors at once, with their places.

use super::*;
use crate::grants::Toward;
use crate::quantity::{Bytes, Span};
use ironloom_types::limits::MIB;
use ironloom_types::readings::Quality;

const FULL: &str = r#"
manifest = 1
id = "com.example.pigs"
name = "Pig ledger"
version = "0.1.0"
publisher = "Example Farm Software"
description = "Growth, feed conversion and vaccinations for each animal"
license = "Apache-2.0"
schedule = false

[inputs.weight]
type = "real"
unit = "kg"
description = "Live weight, one reading for each pass over the scale"

[inputs.feed]
type = "real"
unit = "kg"
optional = true

[inputs.birth]
type = "text"
optional = true

[outputs.daily-gain]
kind = "derived"
type = "real"
unit = "kg/d"

[outputs.gate]
kind = "set-point"
type = "boolean"

[alarms.vaccination-due]
severity = "medium"

[timers.morning]
cron = "0 6 * * *"

[settings.breed]
type = "text"
default = "duroc"
description = "Growth curve to compare with"

[settings.market-weight]
type = "real"
default = 110

[settings.age-at-first-weighing]
type = "integer"

[limits]
memory = "16 MiB"
cpu = "200 ms"
"#;

#[test]
fn a_whole_manifest_is_read_in_the_order_of_the_file() {
    let manifest = Manifest::parse(FULL).unwrap();
    assert_eq!(manifest.id.as_str(), "com.example.pigs");
    assert_eq!((manifest.name.as_str(), manifest.version.as_str()), ("Pig ledger", "0.1.0"));
    let inputs: Vec<&str> = manifest.inputs.iter().map(|input| input.name.as_str()).collect();
    // Not in alphabetical order.
    assert_eq!(inputs, ["weight", "feed", "birth"]);
    assert_eq!(manifest.input("feed").unwrap().0, 1);
    let (_, weight) = manifest.input("weight").unwrap();
    assert_eq!(
        (weight.value_type, weight.unit.as_deref(), weight.optional),
        (ValueType::Real, Some("kg"), false)
    );
    assert_eq!(manifest.output("gate").unwrap().1.kind, OutputKind::SetPoint);
    assert_eq!(manifest.alarm("vaccination-due").unwrap().severity, Severity::Medium);
    assert_eq!(manifest.timer("morning").unwrap().cron.to_string(), "0 6 * * *");
    let defaults: Vec<Option<&str>> =
        manifest.settings.iter().map(|setting| setting.default.as_deref()).collect();
    assert_eq!(defaults, [Some("duroc"), Some("110.0"), None]);
    assert_eq!(
        manifest.limits,
        PartialLimits {
            memory: Some(Bytes(16 * MIB)),
            cpu: Some(Span(200_000_000)),
            state: None,
            share: None,
            points: None
        }
    );
}

fn errors(text: &str) -> String {
    Manifest::parse(text).unwrap_err().to_string()
}

const HEAD: &str = "manifest = 1\nid = \"a.b\"\nname = \"x\"\nversion = \"1.0.0\"\n";

#[test]
fn the_version_is_probed_before_anything_else() {
    insta::assert_snapshot!(errors("id = 7\n"), @"1:1: manifest: is missing");
    insta::assert_snapshot!(errors("manifest = 2\n[quantum]\n"), @"1:12: manifest: is 2, and this runtime reads only 1; a newer runtime is needed");
    insta::assert_snapshot!(errors("manifest = \"1\"\n"), @"1:12: manifest: must be 1, the version of the manifest's format");
}

#[test]
fn all_errors_come_at_once_with_their_places() {
    let text = r#"
manifest = 1
id = "Pigs"
name = ""
version = "1.0"
licence = "MIT"
schedule = "yes"

[inputs.Weight]
type = "float"
unit = "kilo gram"

[inputs.on]
type = "boolean"
unit = "1"
optional = 1

[outputs.gain]
type = "real"

[outputs.on]
kind = "control"
type = "boolean"

[alarms.hot]
severity = "urgent"

[timers.noon]
cron = "0 12 * *"
zone = "UTC"

[settings.breed]
type = "blob"

[settings.age]
type = "integer"
default = 1.5

[limits]
memory = "1 GiB"
cpu = 200
disk = "1 MiB"
"#;
    insta::assert_snapshot!(errors(text));
}

#[test]
fn broken_toml_is_named_by_its_place() {
    insta::assert_snapshot!(errors("manifest = 1\nname = \"x\nid = \"a.b\"\n"));
    insta::assert_snapshot!(errors("manifest = 1\nmanifest = 1\n"));
    insta::assert_snapshot!(errors(""), @"1:1: manifest: is missing");
}

#[test]
fn http_is_refused_with_the_reason() {
    let text = format!("{HEAD}hosts = [\"example.com\"]\n[http]\nserve = true\n");
    insta::assert_snapshot!(errors(&text));
}

#[test]
fn a_manifest_is_bounded() {
    let many: String = (0..=MAX_SLOTS).map(|n| format!("[alarms.a{n}]\nseverity = \"low\"\n")).collect();
    assert!(errors(&format!("{HEAD}{many}")).contains("has 257 entries; at most 256 are allowed"));
    let large = format!("{HEAD}# {}\n", "x".repeat(MAX_MANIFEST_BYTES));
    assert!(errors(&large).contains("at most 262144 bytes"));
}

/// Checks that every text of every problem is a line that steers no terminal.
fn are_clean(problems: &Problems) -> bool {
    problems.0.iter().all(|problem| {
        let texts = [problem.field.as_ref(), Some(&problem.message)].into_iter().flatten();
        texts.chain(&problem.hints).all(|text| ironloom_types::text::clean(text) == *text)
    })
}

#[test]
fn keys_of_a_package_are_quoted_where_they_are_odd() {
    let text = format!(
        "{HEAD}[inputs.\"a\\u001b]0;x\\u0007\\u001b[2J\"]\ntype = \"text\"\n[alarms.\"x\\nhint: run curl\"]\nseverity = \"low\"\n"
    );
    insta::assert_snapshot!(errors(&text), @r#"
    5:9: inputs."a\u{1b}]0;x\u{7}\u{1b}[2J": the name may hold only a to z, 0 to 9 and `-`
    7:9: alarms."x\nhint: run curl": the name may hold only a to z, 0 to 9 and `-`
    "#);
}

proptest::proptest! {
    #[test]
    fn whatever_its_texts_hold_problems_are_clean(texts in proptest::collection::vec("(?s).{0,12}", 6)) {
        let quoted: Vec<String> = texts.iter().map(|text| serde_json::to_string(text).unwrap()).collect();
        let [a, b, c, d, e, f] = &quoted[..] else { panic!("there are six") };
        let text = format!(
            "manifest = 1\nid = {a}\nname = {b}\nversion = {c}\n{d} = 1\n[inputs.{e}]\ntype = {f}\nunit = {a}\n\
             [settings.s]\ntype = \"integer\"\ndefault = {b}\n[timers.t]\ncron = {c}\n[limits]\nmemory = {d}\n"
        );
        if let Err(problems) = Manifest::parse(&text) {
            proptest::prop_assert!(are_clean(&problems), "{:?}", problems);
        }
    }

    #[test]
    fn no_text_makes_the_reader_panic(at in 0..FULL.len(), with in "\\PC{0,4}", length in 0..40_usize) {
        let end = (at + length).min(FULL.len());
        if FULL.is_char_boundary(at) && FULL.is_char_boundary(end) {
            let text = format!("{}{with}{}", &FULL[..at], &FULL[end..]);
            if let Err(problems) = Manifest::parse(&text) {
                proptest::prop_assert!(!problems.0.is_empty());
                proptest::prop_assert!(problems.0.iter().all(|problem| problem.line.is_some()));
                proptest::prop_assert!(are_clean(&problems), "{:?}", problems);
            }
        }
    }
}

#[test]
fn an_enum_has_the_same_words_in_json_as_in_texts() {
    fn same<T: Serialize + Copy>(all: &[T], name: impl Fn(T) -> String) {
        for one in all {
            assert_eq!(serde_json::to_value(one).unwrap(), name(*one));
        }
    }
    use ValueType::{Blob, Boolean, Integer, Real, Text};
    same(&[Boolean, Integer, Real, Text, Blob], |one| one.name().to_owned());
    same(&[OutputKind::Derived, OutputKind::SetPoint], |one| one.name().to_owned());
    use Severity::{Critical, High, Low, Medium};
    same(&[Low, Medium, High, Critical], |one| one.name().to_owned());
    same(&[Toward::Low, Toward::High], |one| one.to_string());
    same(&[Quality::Good, Quality::Uncertain, Quality::Bad], |one| one.name().to_owned());
}
