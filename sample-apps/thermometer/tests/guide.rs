//! The SDK's guide shows this app and its test as they are.

const GUIDE: &str = include_str!("../../../sdk/README.md");
const SOURCE: &str = include_str!("../src/lib.rs");

#[test]
fn the_guide_shows_the_app_and_its_test_as_they_are() {
    let (app, tests) = SOURCE.split_once("#[cfg(test)]\nmod tests {\n").expect("an app and its tests");
    let (_head, app) = app.split_once("\n\n").expect("a head");
    assert!(GUIDE.contains(&format!("```rust\n{}\n```", app.trim_end())), "the guide shows another app");

    let tests = tests.trim_end().strip_suffix('}').expect("the end of the module").trim_end();
    let tests: Vec<&str> = tests.lines().map(|line| line.strip_prefix("    ").unwrap_or(line)).collect();
    assert!(
        GUIDE.contains(&format!("```rust,ignore\n{}\n```", tests.join("\n"))),
        "the guide shows another test"
    );
}
