//! The scenarios on the SDK's platform for tests. The host's side is in `tests/tests/both.rs`.

use both::SCENARIOS;

#[test]
fn the_platform_for_tests_answers_as_expected() {
    for scenario in SCENARIOS {
        let platform = both::run_natively(scenario);
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
