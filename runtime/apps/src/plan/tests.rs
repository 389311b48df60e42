//! Plans of installs: matches, problems and warnings.

use super::*;
use crate::testing::PIGS;

fn request(patterns: &[&str]) -> Request {
    let weight = patterns.iter().map(|pattern| pattern.to_string()).collect();
    Request {
        id: InstallationId::new("pigs").unwrap(),
        bindings: [("weight".to_owned(), weight)].into(),
        grants: Grants::default(),
        settings: [("age".to_owned(), 10.into())].into(),
        limits: PartialLimits { cpu: Some(300_000_000), ..PartialLimits::default() },
        timezone: None,
    }
}

fn plan(request: &Request, points: &[(&str, Option<&str>)]) -> Result<Plan, String> {
    let manifest = Manifest::parse(PIGS).unwrap();
    let limits = Limits::default();
    let site = Site { timezone: "Europe/Berlin", limits: &limits };
    let known = points.iter().enumerate().map(|(number, (path, unit))| KnownPoint {
        number: PointNumber(number as u32),
        path: PointPath::new(path).unwrap(),
        unit: unit.map(Arc::from),
    });
    plan_install(request, &manifest, site, |_| known.collect(), &()).map_err(|problems| problems.to_string())
}

#[test]
fn a_plan_says_what_would_match() {
    let points = [("a/1/weight", Some("kg")), ("a/1/feed", Some("kg")), ("a/2/weight", None)];
    let plan = plan(&request(&["a/{tag}/weight"]), &points).unwrap();
    let samples = vec![PointNumber(0), PointNumber(2)];
    let name = SlotName::new("weight").unwrap();
    assert_eq!(plan.inputs[0], InputPlan { name, points: 2, samples, unit_assumed: 1 });
    assert_eq!(plan.timezone, "Europe/Berlin");
    assert_eq!(plan.limits.cpu, 300_000_000);
    assert_eq!(plan.settings["breed"], "duroc");
    assert_eq!(plan.warnings.len(), 2, "{:?}", plan.warnings);
    assert!(plan.warnings[0].contains("1 of the 2 points") && plan.warnings[0].contains("in kg"));
    assert!(plan.warnings[1].contains("gate is not bound"));
}

#[test]
fn points_that_do_not_fit_are_named() {
    let error = plan(&request(&["a/{tag}/weight"]), &[("a/1/weight", Some("g"))]).unwrap_err();
    assert!(error.contains("a/1/weight has the unit g, and the input weight has kg"), "{error}");
    let points = [("x/0", None), ("x/1", None), ("y/1", None)];
    let error = plan(&request(&["x/{tag}", "y/{tag}"]), &points).unwrap_err();
    assert!(error.contains("the points x/1 and y/1 both give the entity"), "{error}");
    let many: Vec<String> = (0..50).map(|n| format!("a/{n}/weight")).collect();
    let many: Vec<_> = many.iter().map(|path| (path.as_str(), Some("g"))).collect();
    let error = plan(&request(&["a/{tag}/weight"]), &many).unwrap_err();
    assert_eq!(error.lines().count(), MAX_POINT_PROBLEMS + 1);
}

#[test]
fn all_problems_are_told_at_once() {
    let mut wrong = request(&["a/{tag}/{tag}"]);
    wrong.settings = [("bred".to_owned(), "x".into())].into();
    wrong.limits = PartialLimits::default();
    wrong.timezone = Some("Mars/Olympus".to_owned());
    let grants = r#"{"outputs":{"gain":{"allow":"1"},"gate":{"allow":"1"},"door":{"allow":"1"}}}"#;
    wrong.grants = serde_json::from_str(grants).unwrap();
    let error = plan(&wrong, &[]).unwrap_err();
    let parts = [
        "two captures",
        "settings.bred",
        "settings.age",
        "limits.cpu",
        "is not a time zone",
        "gain: is a derived output",
        "door: is not an output",
    ];
    for part in parts {
        assert!(error.contains(part), "{part:?} is not in:\n{error}");
    }
    assert_eq!(error.lines().count(), parts.len(), "{error}");
}

#[test]
fn a_circle_is_refused() {
    let error = plan(&request(&["apps/{app}/{output}/{tag}"]), &[]).unwrap_err();
    assert!(error.contains("circle"), "{error}");
}

#[test]
fn more_points_than_the_outputs_may_make_are_warned_of() {
    let points = [("a/1/weight", Some("kg")), ("a/2/weight", Some("kg")), ("a/3/weight", Some("kg"))];
    let mut request = request(&["a/{tag}/weight"]);
    request.limits.points = Some(2);
    let warnings = plan(&request, &points).unwrap().warnings;
    let warning = warnings.iter().find(|warning| warning.contains("limits.points")).unwrap();
    assert!(
        warning.starts_with("the input weight matches 3 points, and the outputs may make 2 ("),
        "{warning}"
    );
    assert!(warning.ends_with("--limit points=3 grants more"), "{warning}");
    request.limits.points = Some(3);
    let warnings = plan(&request, &points).unwrap().warnings;
    assert!(!warnings.iter().any(|warning| warning.contains("limits.points")), "{warnings:?}");
}
