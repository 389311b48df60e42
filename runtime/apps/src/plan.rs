//! Planning an install: everything is checked before anything is written, and all problems are told
//! at once.

#[cfg(test)]
mod tests;
mod warnings;

use std::collections::BTreeMap;
use std::ops::ControlFlow;
use std::sync::Arc;

use jiff::tz::TimeZone;

pub use self::warnings::is_of_no_point;
use super::allowance::{PartialLimits, effective};
use super::binding::{Bindings, Patterns, unit_fits};
use super::cycles::find_cycle;
use super::grants::Grants;
use super::manifest::Manifest;
use super::problem::{Cause, Problem, Problems};
use super::settings;
use super::wiring::Neighbours;
use crate::quantity::Span;
use crate::routing::{LeftOut, LeftOutReason, Prepared};
use ironloom_types::ids::{InstallationId, PointNumber, PointPath, RESERVED_SEGMENT, SlotName};
use ironloom_types::limits::{Limits, MAX_MATCHES};

/// The most points of an input that a plan shows as samples.
pub const MAX_SAMPLES: usize = 10;
/// The most problems with points that are told one by one.
const MAX_POINT_PROBLEMS: usize = 10;

/// A request to install an app, as it came in.
#[derive(Clone, Copy, Debug)]
pub struct Request<'a> {
    /// The installation's id.
    pub id: &'a InstallationId,
    /// The patterns of each input, and the one of each output that has one.
    pub bindings: &'a BTreeMap<SlotName, Patterns>,
    /// The grants of set-point outputs.
    pub grants: &'a Grants,
    /// The settings that are given.
    pub settings: &'a BTreeMap<SlotName, serde_json::Value>,
    /// The limits that are granted.
    pub limits: &'a PartialLimits,
    /// The time zone of its timers; without one the site's.
    pub timezone: Option<&'a str>,
}

/// The host's configuration for all installations.
#[derive(Clone, Copy, Debug)]
pub struct Site<'a> {
    /// The time zone of timers where none is asked for.
    pub timezone: &'a str,
    /// The limits where neither manifest nor grant says others, and up to which no grant is needed.
    pub limits: &'a Limits,
    /// The most that the host's policy allows.
    pub most: &'a PartialLimits,
    /// The least time between two set-points of a point that it allows.
    pub every: Option<Span>,
}

/// The points of the site.
pub trait Points {
    /// Shows points in the order of their numbers, until told to stop: at least those that an input matches or an
    /// output may write, since others change nothing. Returns the number before which all were looked at; `None` where
    /// finding them takes too long.
    fn each(&self, bindings: &Bindings, see: &mut See<'_>) -> Option<PointNumber>;

    /// The path of a point, unless it is gone.
    fn path(&self, number: PointNumber) -> Option<PointPath>;
}

/// Sees a point: its number, its path, and its unit where it is known.
pub type See<'s> = dyn FnMut(PointNumber, &PointPath, Option<&str>) -> ControlFlow<()> + 's;

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
    /// The number of points with another unit, whose readings are converted.
    pub converted: u64,
}

/// Checks a request against the manifest, the points of the site and the other installations; with the matches of its
/// inputs. Where these are more than [`MAX_MATCHES`] it ends early, and whoever asks has to refuse it. The component
/// itself is checked by [`super::roles::check_component`], and whether the id is free by whoever holds the installations.
///
/// # Errors
/// All problems, each with its field.
pub fn plan_install(
    request: Request<'_>,
    manifest: &Manifest,
    site: Site<'_>,
    points: &impl Points,
    others: &impl Neighbours,
) -> Result<(Plan, Prepared), Problems> {
    let mut problems = Vec::new();
    let parts = Parts::check(request, manifest, site, &mut problems);
    let mut matched = None;
    if let Some(bindings) = &parts.bindings {
        problems.extend(find_cycle(request.id, bindings, others));
        matched = Some(match_points(bindings, None, points, &mut problems));
    }
    Problems::check(problems)?;
    let (Some(mut plan), Some((inputs, routes))) = (parts.plan(), matched) else {
        // Each of them is there, or a problem was found.
        return Err(Problem::of("install", "can't be planned").into());
    };
    plan.know_conversions(&routes);
    plan.warnings = warnings::of(request.id, &plan.bindings, &inputs, others);
    plan.warnings.extend(warnings::of_grants(&plan.bindings, &plan.grants));
    let limits = (&manifest.limits, request.limits);
    plan.warnings.extend(warnings::of_limits(&plan.bindings, &inputs, &plan.limits, limits));
    plan.inputs = inputs;
    Ok((plan, routes))
}

/// Checks a change of an installation that has these bindings. Where the request leaves them as they are, no point is
/// looked at, and the plan has no matches. Inputs and outputs that stay bound as they are do so whatever points they
/// leave out.
///
/// # Errors
/// All problems, each with its field.
pub fn plan_change(
    request: Request<'_>,
    manifest: &Manifest,
    site: Site<'_>,
    before: &Bindings,
    points: &impl Points,
    others: &impl Neighbours,
) -> Result<(Plan, Option<Prepared>), Problems> {
    let mut problems = Vec::new();
    let mut parts = Parts::check(request, manifest, site, &mut problems);
    parts.bindings.as_mut().into_iter().for_each(|bindings| Arc::make_mut(bindings).keep_conversions(before));
    let mut matched = None;
    if let Some(bindings) = parts.bindings.as_ref().filter(|bindings| ***bindings != *before) {
        problems.extend(find_cycle(request.id, bindings, others));
        matched = Some(match_points(bindings, Some(before), points, &mut problems));
    }
    Problems::check(problems)?;
    let Some(mut plan) = parts.plan() else {
        return Err(Problem::of("revision", "can't be planned").into());
    };
    let (inputs, routes) = matched.unzip();
    routes.iter().for_each(|routes| plan.know_conversions(routes));
    plan.inputs = inputs.unwrap_or_default();
    if routes.is_some() {
        plan.warnings = warnings::of(request.id, &plan.bindings, &plan.inputs, others);
    }
    plan.warnings.extend(warnings::of_grants(&plan.bindings, &plan.grants));
    let limits = (&manifest.limits, request.limits);
    plan.warnings.extend(warnings::of_limits(&plan.bindings, &plan.inputs, &plan.limits, limits));
    Ok((plan, routes))
}

impl Plan {
    /// Keeps how readings are converted in the revision, whatever a later version of the program knows of units.
    fn know_conversions(&mut self, routes: &Prepared) {
        for (number, input) in Arc::make_mut(&mut self.bindings).inputs.iter_mut().enumerate() {
            input.conversions = routes.conversions(number);
        }
    }
}

/// The parts of a revision as far as a request has them right.
struct Parts {
    bindings: Option<Arc<Bindings>>,
    grants: Grants,
    settings: Option<BTreeMap<String, String>>,
    limits: Option<Limits>,
    timezone: String,
}

impl Parts {
    /// Checks a request against the manifest.
    fn check(request: Request<'_>, manifest: &Manifest, site: Site<'_>, problems: &mut Vec<Problem>) -> Self {
        let bindings = collect(Bindings::new(manifest, request.id, request.bindings), problems);
        let settings = collect(settings::check(manifest, request.settings), problems);
        let limits = collect(effective(&manifest.limits, request.limits, site.limits, site.most), problems);
        let timezone = request.timezone.unwrap_or(site.timezone);
        if TimeZone::get(timezone).is_err() {
            let message =
                format!("{timezone:?} is not a time zone; write its IANA name, such as \"Europe/Berlin\"");
            problems.push(Problem::of("timezone", message));
        }
        let mut grants = request.grants.clone();
        grants.slow_down(manifest, site.every);
        problems.extend(grants.check(manifest));
        let timezone = timezone.to_owned();
        Self { bindings: bindings.map(Arc::new), grants, settings, limits, timezone }
    }

    /// The plan without matches, if all is right.
    fn plan(self) -> Option<Plan> {
        let Self { bindings, grants, settings, limits, timezone } = self;
        let (bindings, settings, limits) = (bindings?, settings?, limits?);
        Some(Plan { bindings, grants, settings, limits, timezone, inputs: Vec::new(), warnings: Vec::new() })
    }
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

/// Matches the points to the inputs, as routing does. Problems with inputs and outputs that were bound so before are none.
fn match_points(
    bindings: &Bindings,
    before: Option<&Bindings>,
    points: &impl Points,
    problems: &mut Vec<Problem>,
) -> (Vec<InputPlan>, Prepared) {
    let empty = |name: &SlotName| InputPlan {
        name: name.clone(),
        points: 0,
        samples: Vec::new(),
        unit_assumed: 0,
        converted: 0,
    };
    let mut plans: Vec<InputPlan> = bindings.inputs.iter().map(|input| empty(&input.name)).collect();
    let mut routes = Prepared::new(&bindings.inputs);
    let stays = |input: u16| {
        let input = &bindings.inputs[usize::from(input)];
        before.is_some_and(|before| before.inputs.contains(input))
    };
    // The paths of those that are left out, and their places among them.
    let mut left_out: Vec<(PointPath, usize)> = Vec::new();
    let mut told = 0;
    let mut conflicts = 0;
    let seen = points.each(bindings, &mut |number, path, unit| {
        for problem in output_conflicts(bindings, before, path, unit) {
            conflicts += 1;
            if conflicts <= MAX_POINT_PROBLEMS {
                problems.push(problem);
            }
        }
        for (_, matched) in routes.add(number, path, unit) {
            let input = usize::from(matched.input());
            let plan = &mut plans[input];
            plan.points += 1;
            if plan.samples.len() < MAX_SAMPLES {
                plan.samples.push(number);
            }
            match (unit, bindings.inputs[input].unit.as_deref()) {
                (None, Some(_)) => plan.unit_assumed += 1,
                (Some(own), Some(wanted)) if own != wanted => plan.converted += 1,
                _ => {}
            }
        }
        let more = routes.left_out().iter().enumerate().skip(told).filter(|(_, left)| !stays(left.input));
        left_out.extend(more.map(|(place, _)| (path.clone(), place)));
        told = routes.left_out().len();
        // Then there are enough to tell; the rest would only repeat it.
        let are_enough = left_out.len().max(conflicts) > MAX_POINT_PROBLEMS;
        let are_too_many = routes.matches().len() > MAX_MATCHES;
        if are_enough || are_too_many { ControlFlow::Break(()) } else { ControlFlow::Continue(()) }
    });
    match seen {
        Some(seen) => routes.skip_to(seen),
        None => {
            let text = "its patterns make the server look at more points than one request may; begin them with names \
                        that the points have, or bind fewer";
            problems.push(Problem::of("bindings", text));
        }
    }
    for (path, place) in left_out.iter().take(MAX_POINT_PROBLEMS) {
        problems.push(point_problem(bindings, points, &routes, path, &routes.left_out()[*place]));
    }
    if left_out.len().max(conflicts) > MAX_POINT_PROBLEMS {
        problems.push(Problem::of("bindings", "there are more points like these"));
    }
    (plans, routes)
}

/// Outputs that would write a point of another unit: whoever reads it would take one for the other.
fn output_conflicts<'a>(
    bindings: &'a Bindings,
    before: Option<&'a Bindings>,
    path: &'a PointPath,
    unit: Option<&'a str>,
) -> impl Iterator<Item = Problem> + 'a {
    let conflicts = bindings
        .outputs
        .iter()
        .filter(move |output| before.is_none_or(|before| !before.outputs.contains(output)))
        .filter(move |output| !unit_fits(unit, output.unit.as_deref()) && output.target.writes(path));
    conflicts.map(move |output| {
        let (has, gives) = (unit.unwrap_or_default(), output.unit.as_deref().unwrap_or_default());
        let name = &output.name;
        let message = format!("the point {path} has the unit {has}, and the output {name} gives {gives}");
        let problem = Problem::of(format!("bindings.{name}"), message)
            .because(Cause::UnitMismatch)
            .hint("bind the output to points of its own");
        let mut segments = path.segments();
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
    points: &impl Points,
    routes: &Prepared,
    path: &PointPath,
    left: &LeftOut,
) -> Problem {
    let name = &bindings.inputs[usize::from(left.input)].name;
    let field = format!("bindings.{name}");
    match &left.reason {
        LeftOutReason::Unit { point, input, why } => {
            let message =
                format!("the point {path} has the unit {point}, and the input {name} has {input}: {why}");
            Problem::of(field, message)
                .because(Cause::UnitMismatch)
                .hint("bind points whose unit can be converted into the input's")
        }
        LeftOutReason::SameEntity { entity } => {
            let first = routes.point_of(left.input, entity).and_then(|number| points.path(number));
            let first = first.as_ref().map_or("another", PointPath::as_str);
            let message = format!("the points {first} and {path} both give the entity {entity:?}");
            Problem::of(field, message)
                .because(Cause::SameEntity)
                .hint("narrow the patterns, or install the app twice")
        }
    }
}
