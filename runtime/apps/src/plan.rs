//! Planning an install: everything is checked before anything is written, and all problems are told
//! at once.

use std::collections::BTreeMap;

use jiff::tz::TimeZone;

use super::allowance::{PartialLimits, effective};
use super::binding::{Bindings, Target};
use super::cycles::find_cycle;
use super::manifest::{Manifest, OutputKind};
use super::problem::{Problem, Problems};
use super::settings;
use crate::routing::{LeftOut, LeftOutReason, RoutingTable};
use ironloom_types::ids::{InstallationId, PointNumber, PointPath, SlotName};
use ironloom_types::limits::Limits;

/// The most points of an input that a plan shows as samples.
pub const MAX_SAMPLES: usize = 10;
/// The most problems with points that are told one by one.
const MAX_POINT_PROBLEMS: usize = 10;

/// What somebody wants to install.
#[derive(Clone, Debug)]
pub struct Request {
    /// The installation's id.
    pub id: InstallationId,
    /// The patterns of each input, and the one of each output that has one, by the slot's name.
    pub bindings: BTreeMap<String, Vec<String>>,
    /// What is granted to set-point outputs, as JSON: `{"outputs":{NAME:{…}}}`, or `{}`.
    pub grants: String,
    /// The settings that are given.
    pub settings: BTreeMap<String, serde_json::Value>,
    /// The limits that are granted.
    pub limits: PartialLimits,
    /// The time zone of its timers; without one the site's.
    pub timezone: Option<String>,
}

/// What the host's configuration says for all installations.
#[derive(Clone, Copy, Debug)]
pub struct Site<'a> {
    /// The time zone of timers where none is asked for.
    pub timezone: &'a str,
    /// The limits where neither manifest nor grant says others, and up to which no grant is needed.
    pub limits: &'a Limits,
}

/// A point of the site.
#[derive(Clone, Copy, Debug)]
pub struct KnownPoint<'a> {
    /// Its number.
    pub number: PointNumber,
    /// Its path.
    pub path: &'a PointPath,
    /// Its unit, where it is known.
    pub unit: Option<&'a str>,
}

/// What an install would make: the parts of a revision, and what its inputs match today.
#[derive(Clone, Debug, PartialEq)]
pub struct Plan {
    /// What its inputs take and its outputs write.
    pub bindings: Bindings,
    /// What is granted to set-point outputs, as JSON.
    pub grants: String,
    /// All settings, each as the text that the app gets.
    pub settings: BTreeMap<String, String>,
    /// The limits that hold.
    pub limits: Limits,
    /// The time zone of its timers.
    pub timezone: String,
    /// What each input matches, in the order of the manifest.
    pub inputs: Vec<InputPlan>,
    /// What an admin should know, such as a unit that is assumed.
    pub warnings: Vec<String>,
}

/// What an input matches today.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct InputPlan {
    /// The input.
    pub name: SlotName,
    /// How many points it takes.
    pub points: u64,
    /// The first of them.
    pub samples: Vec<PointNumber>,
    /// How many of them have no unit and are taken to have the input's.
    pub unit_assumed: u64,
}

/// Checks a request against the manifest, the points of the site in the order of their numbers, and
/// the other installations. The component itself is checked by [`super::roles::check_component`], and
/// whether the id is free by whoever holds the installations.
///
/// # Errors
/// All problems, each with its field.
pub fn plan_install<'a>(
    request: &Request,
    manifest: &Manifest,
    site: Site<'_>,
    points: impl IntoIterator<Item = KnownPoint<'a>>,
    others: &[(InstallationId, &Bindings)],
) -> Result<Plan, Problems> {
    let mut problems = Vec::new();
    let bindings = collect(Bindings::new(manifest, &request.id, &request.bindings), &mut problems);
    let settings = collect(settings::check(manifest, &request.settings), &mut problems);
    let limits = collect(effective(&manifest.limits, &request.limits, site.limits), &mut problems);
    let timezone = request.timezone.as_deref().unwrap_or(site.timezone);
    if TimeZone::get(timezone).is_err() {
        let message = format!("{timezone:?} is no time zone; write its IANA name, such as \"Europe/Berlin\"");
        problems.push(Problem::of("timezone", message));
    }
    check_grants(manifest, &request.grants, &mut problems);
    let mut inputs = Vec::new();
    if let Some(bindings) = &bindings {
        problems.extend(find_cycle(&request.id, bindings, others));
        inputs = match_points(bindings, points, &mut problems);
    }
    Problems::check(problems)?;
    // Each of them is there, or a problem was found.
    let (Some(bindings), Some(settings), Some(limits)) = (bindings, settings, limits) else {
        return Err(Problem::of("install", "could not be planned").into());
    };
    let warnings = warnings(&bindings, &inputs);
    let (grants, timezone) = (request.grants.clone(), timezone.to_owned());
    Ok(Plan { bindings, grants, settings, limits, timezone, inputs, warnings })
}

fn collect<T>(result: Result<T, Vec<Problem>>, problems: &mut Vec<Problem>) -> Option<T> {
    match result {
        Ok(value) => Some(value),
        Err(found) => {
            problems.extend(found);
            None
        }
    }
}

fn check_grants(manifest: &Manifest, grants: &str, problems: &mut Vec<Problem>) {
    let value: serde_json::Value = match serde_json::from_str(grants) {
        Ok(value) => value,
        Err(error) => return problems.push(Problem::of("grants", format!("is no JSON: {error}"))),
    };
    let Some(grants) = value.as_object() else {
        return problems.push(Problem::of("grants", "must be an object such as {\"outputs\":{}}"));
    };
    for name in grants.keys().filter(|name| *name != "outputs") {
        problems.push(Problem::of(format!("grants.{name}"), "is not known; only outputs are granted"));
    }
    let outputs = grants.get("outputs").and_then(serde_json::Value::as_object);
    for name in outputs.into_iter().flat_map(|outputs| outputs.keys()) {
        let field = format!("grants.outputs.{name}");
        match manifest.output(name) {
            Some((_, output)) if output.kind == OutputKind::SetPoint => {}
            Some(_) => problems.push(Problem::of(field, "is a derived output, which needs no grant")),
            None => problems.push(Problem::of(field, format!("is no output of {}", manifest.id))),
        }
    }
}

/// Runs the points through a routing table of their own, so that what is planned is what will be.
fn match_points<'a>(
    bindings: &Bindings,
    points: impl IntoIterator<Item = KnownPoint<'a>>,
    problems: &mut Vec<Problem>,
) -> Vec<InputPlan> {
    let empty =
        |name: &SlotName| InputPlan { name: name.clone(), points: 0, samples: Vec::new(), unit_assumed: 0 };
    let mut plans: Vec<InputPlan> = bindings.inputs.iter().map(|input| empty(&input.name)).collect();
    let mut table = RoutingTable::new();
    table.set_lane(0, &bindings.inputs, []);
    // Two points give one entity only where an input has several patterns.
    let several = bindings.inputs.iter().any(|input| input.patterns.len() > 1);
    let mut matched: Vec<KnownPoint<'a>> = Vec::new();
    let mut left_out: Vec<(KnownPoint<'a>, LeftOut)> = Vec::new();
    for point in points {
        left_out.extend(
            table.add_point(point.number, point.path, point.unit).into_iter().map(|left| (point, left)),
        );
        let matches = table.matches(point.number);
        for found in matches {
            let input = usize::from(found.input());
            let plan = &mut plans[input];
            plan.points += 1;
            if plan.samples.len() < MAX_SAMPLES {
                plan.samples.push(point.number);
            }
            if point.unit.is_none() && bindings.inputs[input].unit.is_some() {
                plan.unit_assumed += 1;
            }
        }
        if several && !matches.is_empty() {
            matched.push(point);
        }
        if left_out.len() > MAX_POINT_PROBLEMS {
            // Enough to tell; the rest would only repeat it.
            break;
        }
    }
    for (point, left) in left_out.iter().take(MAX_POINT_PROBLEMS) {
        problems.push(point_problem(bindings, &table, &matched, *point, left));
    }
    if left_out.len() > MAX_POINT_PROBLEMS {
        problems.push(Problem::of("bindings", "there are more points like these"));
    }
    plans
}

fn point_problem(
    bindings: &Bindings,
    table: &RoutingTable,
    matched: &[KnownPoint<'_>],
    point: KnownPoint<'_>,
    left: &LeftOut,
) -> Problem {
    let name = &bindings.inputs[usize::from(left.input)].name;
    let field = format!("bindings.{name}");
    let path = point.path;
    match &left.reason {
        LeftOutReason::Unit { point, input } => {
            let message = format!("the point {path} has the unit {point}, and the input {name} has {input}");
            Problem::of(field, message).hint("units are not converted yet: bind points with the input's unit")
        }
        LeftOutReason::SameEntity { entity } => {
            let number = table.entities(left.lane).and_then(|entities| entities.read().number(entity));
            let is_first = |known: &&KnownPoint<'_>| {
                let mut matches = table.matches(known.number).iter();
                matches.any(|one| one.input() == left.input && Some(one.entity()) == number)
            };
            let first = matched.iter().find(is_first).map_or("another", |known| known.path.as_str());
            let message = format!("the points {first} and {path} both give the entity {entity:?}");
            Problem::of(field, message).hint("narrow the patterns, or install the app twice")
        }
    }
}

fn warnings(bindings: &Bindings, inputs: &[InputPlan]) -> Vec<String> {
    let mut warnings = Vec::new();
    for (plan, input) in inputs.iter().zip(&bindings.inputs) {
        let InputPlan { name, points, unit_assumed, .. } = plan;
        if let Some(unit) = input.unit.as_deref().filter(|_| *unit_assumed > 0) {
            warnings.push(format!(
                "{unit_assumed} of the {points} points of the input {name} have no unit and are taken to be in {unit}"
            ));
        }
        if *points == 0 && !input.patterns.is_empty() {
            warnings.push(format!("no point matches the input {name} yet"));
        }
    }
    for output in bindings.outputs.iter().filter(|output| matches!(output.target, Target::Unbound)) {
        warnings.push(format!("the set-point output {} is not bound and does nothing", output.name));
    }
    warnings
}

#[cfg(test)]
mod tests {
    use super::*;

    const MANIFEST: &str = r#"
manifest = 1
id = "com.example.pigs"
name = "Pigs"
version = "0.1.0"
[inputs.weight]
type = "real"
unit = "kg"
[outputs.gain]
kind = "derived"
type = "real"
[outputs.gate]
kind = "set-point"
type = "real"
[settings.breed]
type = "text"
default = "duroc"
[settings.age]
type = "integer"
[limits]
cpu = "300 ms"
"#;

    fn request(patterns: &[&str]) -> Request {
        let weight = patterns.iter().map(|pattern| pattern.to_string()).collect();
        Request {
            id: InstallationId::new("pigs").unwrap(),
            bindings: [("weight".to_owned(), weight)].into(),
            grants: "{}".to_owned(),
            settings: [("age".to_owned(), 10.into())].into(),
            limits: PartialLimits { cpu: Some(300_000_000), ..PartialLimits::default() },
            timezone: None,
        }
    }

    fn plan(request: &Request, points: &[(&str, Option<&str>)]) -> Result<Plan, String> {
        let manifest = Manifest::parse(MANIFEST).unwrap();
        let limits = Limits::default();
        let site = Site { timezone: "Europe/Berlin", limits: &limits };
        let paths: Vec<PointPath> = points.iter().map(|(path, _)| PointPath::new(path).unwrap()).collect();
        let known = paths.iter().enumerate().map(|(number, path)| KnownPoint {
            number: PointNumber(number as u32),
            path,
            unit: points[number].1,
        });
        plan_install(request, &manifest, site, known, &[]).map_err(|problems| problems.to_string())
    }

    #[test]
    fn a_plan_says_what_would_match() {
        let points = [("a/1/weight", Some("kg")), ("a/1/feed", Some("kg")), ("a/2/weight", None)];
        let plan = plan(&request(&["a/{tag}/weight"]), &points).unwrap();
        let samples = vec![PointNumber(0), PointNumber(2)];
        let name = SlotName::new("weight").unwrap();
        assert_eq!(plan.inputs, [InputPlan { name, points: 2, samples, unit_assumed: 1 }]);
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
        wrong.grants = r#"{"outputs":{"gain":{},"gate":{},"door":{}},"hosts":[]}"#.to_owned();
        let error = plan(&wrong, &[]).unwrap_err();
        let parts = [
            "two captures",
            "settings.bred",
            "settings.age",
            "limits.cpu",
            "no time zone",
            "grants.hosts",
            "gain: is a derived output",
            "door: is no output",
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
}
