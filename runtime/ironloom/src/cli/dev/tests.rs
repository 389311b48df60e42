//! Watching files, and generated readings.

use std::fs;

use super::feed::{Point, line, points_of};
use super::watched::Watched;

#[test]
fn a_change_counts_once_it_is_quiet_and_what_builds_write_does_not() {
    let folder = tempfile::tempdir().unwrap();
    let write = |path: &str, text: &str| {
        let path = folder.path().join(path);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(path, text).unwrap();
    };
    write("src/lib.rs", "one");
    write("target/app.wasm", "code");
    let mut watched = Watched::of(folder.path()).unwrap();
    let mut changed = || watched.has_changed().unwrap();
    assert!(!changed());
    for path in ["target/app.wasm", "node_modules/a/b.js", ".git/HEAD", "tests/__pycache__/a.pyc"] {
        write(path, "other code");
        assert!(!changed() && !changed(), "{path}");
    }
    write("src/lib.rs", "longer");
    assert!(!changed(), "an editor may still be writing");
    write("src/lib.rs", "and longer still");
    assert!(!changed(), "it was");
    assert!(changed());
    assert!(!changed(), "once");
    fs::remove_file(folder.path().join("src/lib.rs")).unwrap();
    assert!(!changed() && changed(), "a file that goes is a change");
}

#[test]
fn points_of_a_pattern_have_a_name_in_place_of_each_brace() {
    let paths = |pattern| {
        let points = points_of(pattern, "real", None);
        points.into_iter().map(|point| point.path).collect::<Vec<_>>()
    };
    assert_eq!(paths("house/{room}/x{n}"), ["house/room-a/xn-a", "house/room-b/xn-b", "house/room-c/xn-c"]);
    assert_eq!(paths("house/one"), ["house/one"]);
}

#[test]
fn generated_values_stay_within_what_is_plausible_and_are_of_the_inputs_type() {
    let point = |kind: &str, unit: Option<&str>| Point {
        path: "a/b".to_owned(),
        kind: kind.to_owned(),
        unit: unit.map(str::to_owned),
        phase: 1,
    };
    let value = |point: &Point, step| {
        let line: serde_json::Value = serde_json::from_str(&line(point, step)?).unwrap();
        assert_eq!(line["point"], "a/b");
        Some(line["value"].clone())
    };
    let temperature = point("real", Some("Cel"));
    let values: Vec<f64> =
        (0..500).map(|step| value(&temperature, step).unwrap().as_f64().unwrap()).collect();
    assert!(values.iter().all(|value| (9.0..=33.0).contains(value)), "{values:?}");
    assert!(values.iter().any(|value| *value > 30.0) && values.iter().any(|value| *value < 12.0));
    assert!(value(&point("integer", None), 3).unwrap().is_i64());
    assert!(value(&point("boolean", None), 3).unwrap().is_boolean());
    assert!(value(&point("text", None), 3).unwrap().is_string());
    assert_eq!(value(&point("blob", None), 3), None);
}
