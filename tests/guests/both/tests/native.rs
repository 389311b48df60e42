//! The scenarios on the SDK's platform for tests. The host's side is in `tests/tests/both.rs`.

use both::{Both, SCENARIOS};
use ironloom_sdk::Timestamp;
use ironloom_sdk::testing::{self, Platform};

#[test]
fn the_platform_for_tests_answers_as_expected() {
    for scenario in SCENARIOS {
        let mut platform = Platform::from_manifest(include_str!("../app.toml"));
        let batch = testing::batch([("scenario", "", Timestamp::from_seconds(1), scenario.name)]);
        platform.consume::<Both>(&batch).expect_ok();
        for fired in platform.fire_due::<Both>(Timestamp::from_seconds(60)) {
            fired.expect_ok();
        }
        let answer =
            String::from_utf8_lossy(&platform.state()[&format!("answer/{}", scenario.name)]).into_owned();
        assert_eq!(answer, scenario.expected, "{}", scenario.name);
    }
}

#[test]
fn each_scenario_has_a_name_of_its_own() {
    let mut names: Vec<_> = SCENARIOS.iter().map(|scenario| scenario.name).collect();
    names.sort_unstable();
    names.dedup();
    assert_eq!(names.len(), SCENARIOS.len());
}
