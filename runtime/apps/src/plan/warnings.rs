//! Warnings for the admin about an install that don't refuse it.

use crate::allowance::{LimitKind, PartialLimits};
use crate::binding::{Bindings, InputBinding, Known, OutputBinding, Target};
use crate::grants::Grants;
use crate::manifest::OutputKind;
use crate::pattern::Pattern;
use crate::plan::InputPlan;
use crate::wiring::Neighbours;
use ironloom_types::ids::InstallationId;
use ironloom_types::limits::Limits;

/// The most installations that write the same points and are named for an output.
const MOST_OTHERS: usize = 10;

/// The most units that are named where readings are converted.
const MOST_UNITS: usize = 10;

/// The beginning of the warning about an input without points.
const NO_POINT: &str = "no point matches";

/// Says whether a warning is that an input has no points: where an app runs on a feed, none has at first.
pub fn is_of_no_point(warning: &str) -> bool {
    warning.starts_with(NO_POINT)
}

/// Returns the warnings about set-points that are bound, in sentences.
pub(super) fn of_grants(bindings: &Bindings, grants: &Grants) -> Vec<String> {
    let set_points = bindings.outputs.iter().filter(|output| output.kind == OutputKind::SetPoint);
    let bound = set_points.filter(|output| output.target != Target::Unbound);
    let of = |output: &OutputBinding| match grants.outputs.get(&output.name) {
        None => Some(format!(
            "the set-point output {} is bound, but not granted: each request is refused",
            output.name
        )),
        Some(grant) if grant.safe.is_none() => Some(format!(
            "the grant of {} has no `safe`: where nobody vouches for the last value any more, it stays; safe = \"hold\" says so",
            output.name
        )),
        Some(_) => None,
    };
    bound.filter_map(of).collect()
}

/// Returns the warnings about points, in sentences.
pub(super) fn of(
    id: &InstallationId,
    bindings: &Bindings,
    inputs: &[InputPlan],
    others: &impl Neighbours,
) -> Vec<String> {
    let mut warnings = Vec::new();
    for (plan, input) in inputs.iter().zip(&bindings.inputs) {
        let InputPlan { name, points, unit_assumed, converted, .. } = plan;
        if let Some(unit) = input.unit.as_deref().filter(|_| *unit_assumed > 0) {
            warnings.push(format!(
                "{unit_assumed} of the {points} points of the input {name} have no unit and are taken to be in {unit}"
            ));
        }
        if let Some(unit) = input.unit.as_deref().filter(|_| *converted > 0) {
            let ways: Vec<String> = input
                .conversions
                .iter()
                .take(MOST_UNITS)
                .map(|Known { unit, conversion }| format!("{unit} {conversion}"))
                .collect();
            warnings.push(format!(
                "{converted} of the {points} points of the input {name} are in other units and are converted to {unit}: {}",
                ways.join(", ")
            ));
        }
        if *points == 0 && !input.patterns.is_empty() {
            warnings.push(format!("{NO_POINT} the input {name} yet"));
        }
    }
    warnings.extend(strangers(&bindings.inputs));
    for output in &bindings.outputs {
        match &output.target {
            Target::Unbound => {
                warnings.push(format!("the set-point output {} is not bound and does nothing", output.name));
            }
            Target::Pattern { pattern, .. } => {
                let others = others.writing(pattern).into_iter().filter(|other| other.id != *id);
                warnings.extend(others.take(MOST_OTHERS).filter_map(|other| {
                    let (same, theirs) = other.bindings.outputs.iter().find_map(|one| match &one.target {
                        Target::Pattern { pattern: theirs, .. } if theirs.intersects(pattern) => {
                            Some((&one.name, theirs))
                        }
                        _ => None,
                    })?;
                    let (name, other) = (&output.name, &other.id);
                    Some(format!(
                        "the output {name} can write the same points ({pattern}) as the output {same} of {other} ({theirs})"
                    ))
                }));
            }
            // Nobody else can be bound to points under `apps/`.
            Target::Default { .. } => {}
        }
    }
    warnings
}

/// Returns the warnings about limits: those that hold, and those that are asked for and granted.
pub(super) fn of_limits(
    bindings: &Bindings,
    inputs: &[InputPlan],
    limits: &Limits,
    (asked, granted): (&PartialLimits, &PartialLimits),
) -> Vec<String> {
    let mut warnings: Vec<String> = too_few_points(bindings, inputs, limits, asked).into_iter().collect();
    warnings.extend(LimitKind::ALL.into_iter().filter_map(|kind| {
        let (asked, granted) = (asked.get(kind)?, granted.get(kind)?);
        (granted > asked).then(|| {
            let (name, asked, granted) = (kind.name(), kind.show(asked), kind.show(granted));
            format!(
                "limits.{name}: the app asks for {asked}, which holds; the grant of {granted} has no effect"
            )
        })
    }));
    warnings
}

/// Most apps give something for each entity, and an entity is mostly a point of each input.
fn too_few_points(
    bindings: &Bindings,
    inputs: &[InputPlan],
    limits: &Limits,
    asked: &PartialLimits,
) -> Option<String> {
    let most = inputs.iter().max_by_key(|input| input.points)?;
    let derives = bindings.outputs.iter().any(|output| output.kind == OutputKind::Derived);
    let more = match asked.get(LimitKind::Points) {
        Some(asked) if asked < most.points => "and the app asks for no more".to_owned(),
        _ => format!("--limit points={} grants more", most.points),
    };
    (derives && most.points > limits.points).then(|| {
        format!(
            "the input {} matches {} points, and the outputs may make {} (limits.points): if they make one for \
             each, readings beyond become dead letters; {more}",
            most.name, most.points, limits.points
        )
    })
}

/// Inputs that name other things: an entity is what the braces capture, in their order, so that a
/// reading of one never has the entity of a reading of the other. Inputs without braces are about
/// the site as a whole, beside any others.
fn strangers(inputs: &[InputBinding]) -> Option<String> {
    let names = |pattern: &Pattern| pattern.captures().map(|name| format!("{{{name}}}")).collect::<Vec<_>>();
    let mut captured = inputs
        .iter()
        .filter_map(|input| Some((&input.name, names(input.patterns.first()?))))
        .filter(|(_, names)| !names.is_empty());
    let (first, ours) = captured.next()?;
    let (other, theirs) = captured.find(|(_, theirs)| *theirs != ours)?;
    // The same things in each: only the order of the names, and which there are, makes the entities differ.
    let entity = |names: &[String]| {
        let value = |name: &String| format!("{}-1", name.trim_matches(['{', '}']));
        names.iter().map(value).collect::<Vec<_>>().join("/")
    };
    Some(format!(
        "the inputs {first} and {other} capture {} and {}: their readings never have the same entity, because the \
         names in braces differ or come in a different order. For the same thing it would be {} in one and {} in the other",
        ours.join("/"),
        theirs.join("/"),
        entity(&ours),
        entity(&theirs),
    ))
}
