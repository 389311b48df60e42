//! Plans of installs: matches, problems and warnings.

use super::*;
use crate::binding::Known;
use crate::quantity::{Bytes, Count, Span};
use crate::testing::PIGS;
use crate::unit::Conversion;
use ironloom_types::ids::TenantId;

/// A request that somebody makes.
struct Asked {
    id: InstallationId,
    bindings: BTreeMap<SlotName, Patterns>,
    grants: Grants,
    settings: BTreeMap<SlotName, serde_json::Value>,
    limits: PartialLimits,
    timezone: Option<String>,
}

fn slot(name: &str) -> SlotName {
    SlotName::new(name).unwrap()
}

fn request(patterns: &[&str]) -> Asked {
    let weight = patterns.iter().map(|pattern| pattern.to_string()).collect();
    Asked {
        id: InstallationId::new(TenantId::MAIN, "pigs").unwrap(),
        bindings: [(slot("weight"), Patterns::Many(weight))].into(),
        grants: Grants::default(),
        settings: [(slot("age"), 10.into())].into(),
        limits: PartialLimits { cpu: Some(Span(300_000_000)), ..PartialLimits::default() },
        timezone: None,
    }
}

/// Points with their units, numbered from 0 on.
struct Site(Vec<(PointPath, Option<Arc<str>>)>);

impl Points for Site {
    fn each(&self, _: &Bindings, see: &mut See<'_>) -> Option<PointNumber> {
        for (number, (path, unit)) in (0..).map(PointNumber).zip(&self.0) {
            if see(number, path, unit.as_deref()).is_break() {
                break;
            }
        }
        Some(PointNumber(self.0.len() as u32))
    }

    fn path(&self, number: PointNumber) -> Option<PointPath> {
        self.0.get(number.0 as usize).map(|(path, _)| path.clone())
    }
}

fn plan_with_routes(asked: &Asked, points: &[(&str, Option<&str>)]) -> Result<(Plan, Prepared), String> {
    let manifest = Manifest::parse(PIGS).unwrap();
    let limits = Limits::default();
    let most = PartialLimits::default();
    let site = super::Site { timezone: "Europe/Berlin", limits: &limits, most: &most, every: None };
    let Asked { id, bindings, grants, settings, limits, timezone } = asked;
    let request = Request { id, bindings, grants, settings, limits, timezone: timezone.as_deref() };
    let known = points
        .iter()
        .map(|(path, unit)| (PointPath::new(TenantId::MAIN, path).unwrap(), unit.map(Arc::from)))
        .collect();
    plan_install(request, &manifest, site, &Site(known), &()).map_err(|problems| problems.to_string())
}

fn plan(asked: &Asked, points: &[(&str, Option<&str>)]) -> Result<Plan, String> {
    plan_with_routes(asked, points).map(|(plan, _)| plan)
}

#[test]
fn the_matches_of_a_plan_are_those_that_are_routed() {
    let points = [("a/1/weight", Some("kg")), ("a/1/feed", Some("kg")), ("a/2/weight", None)];
    let (plan, routes) = plan_with_routes(&request(&["a/{tag}/weight"]), &points).ok().unwrap();
    assert_eq!(routes.next(), PointNumber(3));
    let mut table = crate::routing::RoutingTable::new();
    for (number, (path, unit)) in (0..).map(PointNumber).zip(points) {
        table.add_point(number, &PointPath::new(TenantId::MAIN, path).unwrap(), unit);
    }
    assert_eq!(table.put_lane(7, &plan.bindings.inputs, routes, []), []);
    let lanes = |point| table.matches(PointNumber(point)).iter().map(|one| one.lane()).collect::<Vec<_>>();
    assert_eq!((lanes(0), lanes(1), lanes(2)), (vec![7], vec![], vec![7]));
}

#[test]
fn a_plan_says_what_would_match() {
    let points = [("a/1/weight", Some("kg")), ("a/1/feed", Some("kg")), ("a/2/weight", None)];
    let plan = plan(&request(&["a/{tag}/weight"]), &points).unwrap();
    let samples = vec![PointNumber(0), PointNumber(2)];
    let name = slot("weight");
    assert_eq!(plan.inputs[0], InputPlan { name, points: 2, samples, unit_assumed: 1, converted: 0 });
    assert_eq!(plan.timezone, "Europe/Berlin");
    assert_eq!(plan.limits.cpu, 300_000_000);
    assert_eq!(plan.settings["breed"], "duroc");
    assert_eq!(plan.warnings.len(), 2, "{:?}", plan.warnings);
    assert!(plan.warnings[0].contains("1 of the 2 points") && plan.warnings[0].contains("in kg"));
    assert!(plan.warnings[1].contains("gate is not bound"));
}

#[test]
fn points_in_other_units_are_converted_which_the_revision_keeps() {
    let points = [("a/1/weight", Some("g")), ("a/2/weight", Some("t")), ("a/3/weight", Some("kg"))];
    let plan = plan(&request(&["a/{tag}/weight"]), &points).unwrap();
    assert_eq!((plan.inputs[0].points, plan.inputs[0].converted), (3, 2));
    let known =
        |unit: &str, factor| Known { unit: unit.into(), conversion: Conversion { factor, offset: 0.0 } };
    assert_eq!(plan.bindings.inputs[0].conversions, [known("g", 0.001), known("t", 1000.0)]);
    let said = "2 of the 3 points of the input weight are in other units and are converted to kg: g × 0.001, t × 1000";
    assert!(plan.warnings.iter().any(|warning| warning == said), "{:?}", plan.warnings);
}

#[test]
fn points_that_do_not_fit_are_named() {
    let error = plan(&request(&["a/{tag}/weight"]), &[("a/1/weight", Some("s"))]).unwrap_err();
    let said = "a/1/weight has the unit s, and the input weight has kg: they measure different things";
    assert!(error.contains(said), "{error}");
    let points = [("x/0", None), ("x/1", None), ("y/1", None)];
    let error = plan(&request(&["x/{tag}", "y/{tag}"]), &points).unwrap_err();
    assert!(error.contains("the points x/1 and y/1 both give the entity"), "{error}");
    let many: Vec<String> = (0..50).map(|n| format!("a/{n}/weight")).collect();
    let many: Vec<_> = many.iter().map(|path| (path.as_str(), Some("s"))).collect();
    let error = plan(&request(&["a/{tag}/weight"]), &many).unwrap_err();
    assert_eq!(error.lines().count(), MAX_POINT_PROBLEMS + 1);
}

#[test]
fn all_problems_are_told_at_once() {
    let mut wrong = request(&["a/{tag}/{tag}"]);
    wrong.settings = [(slot("bred"), "x".into())].into();
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
    request.limits.points = Some(Count(2));
    let warnings = plan(&request, &points).unwrap().warnings;
    let warning = warnings.iter().find(|warning| warning.contains("limits.points")).unwrap();
    assert!(
        warning.starts_with("the input weight matches 3 points, and the outputs may make 2 ("),
        "{warning}"
    );
    assert!(warning.ends_with("--limit points=3 grants more"), "{warning}");
    request.limits.points = Some(Count(3));
    let warnings = plan(&request, &points).unwrap().warnings;
    assert!(!warnings.iter().any(|warning| warning.contains("limits.points")), "{warnings:?}");
}

#[test]
fn a_grant_beyond_what_the_app_asks_for_is_warned_of() {
    let of_limits = |cpu| {
        let mut request = request(&["a/{tag}/weight"]);
        request.limits =
            PartialLimits { cpu: Some(Span(cpu)), memory: Some(Bytes(1 << 26)), ..request.limits };
        let plan = plan(&request, &[]).unwrap();
        let warnings = plan.warnings.into_iter().filter(|warning| warning.contains("limits.")).collect();
        (plan.limits.cpu, warnings)
    };
    // The manifest asks for 300 ms, and for no certain memory.
    let told = "limits.cpu: the app asks for 300 ms, which holds; the grant of 5 s has no effect";
    assert_eq!(of_limits(5_000_000_000), (300_000_000, vec![told.to_owned()]));
    assert_eq!(of_limits(300_000_000), (300_000_000, vec![]));
    assert_eq!(of_limits(100_000_000), (100_000_000, vec![]));
}
