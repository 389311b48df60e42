//! Planning an install: everything is checked before anything is written, and all problems are told
//! at once.

#[cfg(test)]
mod tests;
mod warnings;

use std::collections::BTreeMap;
use std::sync::Arc;

use jiff::tz::TimeZone;

use super::allowance::{PartialLimits, effective};
use super::binding::{Bindings, unit_fits};
use super::cycles::find_cycle;
use super::grants::Grants;
use super::manifest::Manifest;
use super::problem::{Cause, Problem, Problems};
use super::settings;
use super::wiring::Neighbours;
use crate::routing::{LeftOut, LeftOutReason, RoutingTable};
use ironloom_types::ids::{InstallationId, PointNumber, PointPath, RESERVED_SEGMENT, SlotName};
use ironloom_types::limits::Limits;

/// The most points of an input that a plan shows as samples.
pub const MAX_SAMPLES: usize = 10;
/// The most problems with points that are told one by one.
const MAX_POINT_PROBLEMS: usize = 10;

/// A request to install an app.
#[derive(Clone, Debug)]
pub struct Request {
    /// The installation's id.
    pub id: InstallationId,
    /// The patterns of each input, and the one of each output that has one, by the slot's name.
    pub bindings: BTreeMap<String, Vec<String>>,
    /// The grants of set-point outputs.
    pub grants: Grants,
    /// The settings that are given.
    pub settings: BTreeMap<String, serde_json::Value>,
    /// The limits that are granted.
    pub limits: PartialLimits,
    /// The time zone of its timers; without one the site's.
    pub timezone: Option<String>,
}

/// The host's configuration for all installations.
#[derive(Clone, Copy, Debug)]
pub struct Site<'a> {
    /// The time zone of timers where none is asked for.
    pub timezone: &'a str,
    /// The limits where neither manifest nor grant says others, and up to which no grant is needed.
    pub limits: &'a Limits,
}

/// A point of the site.
#[derive(Clone, Debug)]
pub struct KnownPoint {
    pub number: PointNumber,
    pub path: PointPath,
    /// Its unit, where it is known.
    pub unit: Option<Arc<str>>,
}

/// The result of an install: the parts of a revision, and the points that its inputs match now.
#[derive(Clone, Debug, PartialEq)]
pub struct Plan {
    /// The bindings of its inputs and outputs.
    pub bindings: Arc<Bindings>,
    /// The grants of set-point outputs.
    pub grants: Grants,
    /// All settings, each as the text that the app gets.
    pub settings: BTreeMap<String, String>,
    /// The limits that hold.
    pub limits: Limits,
    /// The time zone of its timers.
    pub timezone: String,
    /// The matches of each input, in the order of the manifest.
    pub inputs: Vec<InputPlan>,
    /// Warnings for the admin, such as an assumed unit.
    pub warnings: Vec<String>,
}

/// The points that an input matches now.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct InputPlan {
    pub name: SlotName,
    /// The number of points.
    pub points: u64,
    /// The first of them.
    pub samples: Vec<PointNumber>,
    /// The number of points without a unit, which are assumed to have the input's.
    pub unit_assumed: u64,
}

/// Checks a request against the manifest, the points of the site in the order of their numbers, and
/// the other installations. `points` finds them by the bindings: at least those that an input matches or an
/// output may write, since others change nothing. The component itself is checked by [`super::roles::check_component`], and
/// whether the id is free by whoever holds the installations.
///
/// # Errors
/// All problems, each with its field.
pub fn plan_install(
    request: &Request,
    manifest: &Manifest,
    site: Site<'_>,
    points: impl FnOnce(&Bindings) -> Vec<KnownPoint>,
    others: &impl Neighbours,
) -> Result<Plan, Problems> {
    let mut problems = Vec::new();
    let bindings = collect(Bindings::new(manifest, &request.id, &request.bindings), &mut problems);
    let bindings = bindings.map(Arc::new);
    let settings = collect(settings::check(manifest, &request.settings), &mut problems);
    let limits = collect(effective(&manifest.limits, &request.limits, site.limits), &mut problems);
    let timezone = request.timezone.as_deref().unwrap_or(site.timezone);
    if TimeZone::get(timezone).is_err() {
        let message =
            format!("{timezone:?} is not a time zone; write its IANA name, such as \"Europe/Berlin\"");
        problems.push(Problem::of("timezone", message));
    }
    problems.extend(request.grants.check(manifest));
    let mut inputs = Vec::new();
    if let Some(bindings) = &bindings {
        problems.extend(find_cycle(&request.id, bindings, others));
        inputs = match_points(bindings, &points(bindings), &mut problems);
    }
    Problems::check(problems)?;
    // Each of them is there, or a problem was found.
    let (Some(bindings), Some(settings), Some(limits)) = (bindings, settings, limits) else {
        return Err(Problem::of("install", "can't be planned").into());
    };
    let warnings = warnings::of(&request.id, &bindings, &inputs, &limits, others);
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

/// Runs the points through a routing table of their own, so that what is planned is what will be.
fn match_points(bindings: &Bindings, points: &[KnownPoint], problems: &mut Vec<Problem>) -> Vec<InputPlan> {
    let empty =
        |name: &SlotName| InputPlan { name: name.clone(), points: 0, samples: Vec::new(), unit_assumed: 0 };
    let mut plans: Vec<InputPlan> = bindings.inputs.iter().map(|input| empty(&input.name)).collect();
    let mut table = RoutingTable::new();
    table.set_lane(0, &bindings.inputs, []);
    // Two points give one entity only where an input has several patterns.
    let several = bindings.inputs.iter().any(|input| input.patterns.len() > 1);
    let mut matched: Vec<(PointNumber, &KnownPoint)> = Vec::new();
    let mut left_out: Vec<(&KnownPoint, LeftOut)> = Vec::new();
    let mut conflicts = 0;
    for (at, point) in points.iter().enumerate() {
        // Numbers of their own: the table has no room for all points of the site.
        let own = PointNumber(at as u32);
        for problem in output_conflicts(bindings, point) {
            conflicts += 1;
            if conflicts <= MAX_POINT_PROBLEMS {
                problems.push(problem);
            }
        }
        let left = table.add_point(own, &point.path, point.unit.as_deref());
        left_out.extend(left.into_iter().map(|left| (point, left)));
        let matches = table.matches(own);
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
            matched.push((own, point));
        }
        if left_out.len().max(conflicts) > MAX_POINT_PROBLEMS {
            // Enough to tell; the rest would only repeat it.
            break;
        }
    }
    for (point, left) in left_out.iter().take(MAX_POINT_PROBLEMS) {
        problems.push(point_problem(bindings, &table, &matched, point, left));
    }
    if left_out.len().max(conflicts) > MAX_POINT_PROBLEMS {
        problems.push(Problem::of("bindings", "there are more points like these"));
    }
    plans
}

/// Outputs that would write a point of another unit: whoever reads it would take one for the other.
fn output_conflicts(bindings: &Bindings, point: &KnownPoint) -> impl Iterator<Item = Problem> {
    let conflicts = bindings.outputs.iter().filter(move |output| {
        !unit_fits(point.unit.as_deref(), output.unit.as_deref()) && output.target.writes(&point.path)
    });
    conflicts.map(move |output| {
        let (has, gives) =
            (point.unit.as_deref().unwrap_or_default(), output.unit.as_deref().unwrap_or_default());
        let name = &output.name;
        let message =
            format!("the point {} has the unit {has}, and the output {name} gives {gives}", point.path);
        let problem = Problem::of(format!("bindings.{name}"), message)
            .because(Cause::UnitMismatch)
            .hint("bind the output to points of its own");
        let mut segments = point.path.segments();
        match (segments.next(), segments.next()) {
            (Some(RESERVED_SEGMENT), Some(id)) => problem.hint(format!(
                "if an uninstalled app has left the point, `ironloom uninstall {id} --purge` removes it"
            )),
            _ => problem,
        }
    })
}

fn point_problem(
    bindings: &Bindings,
    table: &RoutingTable,
    matched: &[(PointNumber, &KnownPoint)],
    point: &KnownPoint,
    left: &LeftOut,
) -> Problem {
    let name = &bindings.inputs[usize::from(left.input)].name;
    let field = format!("bindings.{name}");
    let path = &point.path;
    match &left.reason {
        LeftOutReason::Unit { point, input } => {
            let message = format!("the point {path} has the unit {point}, and the input {name} has {input}");
            Problem::of(field, message)
                .because(Cause::UnitMismatch)
                .hint("units are not converted yet: bind points with the input's unit")
        }
        LeftOutReason::SameEntity { entity } => {
            let number = table.entities(left.lane).and_then(|entities| entities.read().number(entity));
            let is_first = |(own, _): &&(PointNumber, &KnownPoint)| {
                let mut matches = table.matches(*own).iter();
                matches.any(|one| one.input() == left.input && Some(one.entity()) == number)
            };
            let first = matched.iter().find(is_first).map_or("another", |(_, known)| known.path.as_str());
            let message = format!("the points {first} and {path} both give the entity {entity:?}");
            Problem::of(field, message)
                .because(Cause::SameEntity)
                .hint("narrow the patterns, or install the app twice")
        }
    }
}
