//! Cycles between outputs and inputs, found on patterns before anything runs.

use std::collections::BTreeMap;
use std::sync::Arc;

use super::binding::{Bindings, OutputBinding, Target};
use super::manifest::OutputKind;
use super::problem::{Cause, Problem};
use super::wiring::{Neighbour, Neighbours};
use ironloom_types::ids::InstallationId;

/// One installation that can feed another.
struct Feed {
    to: Neighbour,
    output: String,
    input: String,
}

/// Looks for a way from the outputs of an installation back to its inputs, over all others. Any
/// input of an installation is taken to reach any of its outputs. Set-points are no readings, so
/// they feed nothing.
pub fn find_cycle(
    id: &InstallationId,
    bindings: &Arc<Bindings>,
    others: &impl Neighbours,
) -> Option<Problem> {
    let own = Neighbour { id: id.clone(), bindings: Arc::clone(bindings) };
    // Depth first from the installation itself, each other one entered once.
    let mut came_by: BTreeMap<InstallationId, (InstallationId, Feed)> = BTreeMap::new();
    let mut to_visit = vec![own.clone()];
    while let Some(from) = to_visit.pop() {
        for feed in feeds(&own, &from, others) {
            if feed.to.id == *id {
                return Some(describe(&came_by, &from.id, &feed));
            }
            if !came_by.contains_key(&feed.to.id) {
                to_visit.push(feed.to.clone());
                came_by.insert(feed.to.id.clone(), (from.id.clone(), feed));
            }
        }
    }
    None
}

/// Finds the installations that one feeds. The one that is looked at is as it will be.
fn feeds(own: &Neighbour, from: &Neighbour, others: &impl Neighbours) -> Vec<Feed> {
    let outputs = || from.bindings.outputs.iter().filter(|output| output.kind == OutputKind::Derived);
    let mut fed: BTreeMap<InstallationId, Neighbour> = BTreeMap::new();
    for output in outputs() {
        fed.extend(others.fed_by(&output.target).into_iter().map(|to| (to.id.clone(), to)));
    }
    fed.insert(own.id.clone(), own.clone());
    let feed = |to: Neighbour| {
        let (output, input) = outputs().find_map(|output| {
            let fed = to.bindings.inputs.iter().find_map(|input| {
                let pattern = input.patterns.iter().find(|pattern| output.target.feeds(pattern))?;
                Some(format!("input {} ({pattern})", input.name))
            });
            Some((show_output(output), fed?))
        })?;
        Some(Feed { to, output, input })
    };
    fed.into_values().filter_map(feed).collect()
}

fn show_output(output: &OutputBinding) -> String {
    match &output.target {
        Target::Unbound => format!("output {}", output.name),
        Target::Default { prefix } => format!("output {} ({prefix}/…)", output.name),
        Target::Pattern { pattern, .. } => format!("output {} ({pattern})", output.name),
    }
}

fn describe(
    came_by: &BTreeMap<InstallationId, (InstallationId, Feed)>,
    last: &InstallationId,
    back: &Feed,
) -> Problem {
    let step = |from: &InstallationId, feed: &Feed| {
        format!("{} of {from} feeds {} of {}", feed.output, feed.input, feed.to.id)
    };
    let mut steps = vec![step(last, back)];
    let mut at = last;
    while let Some((from, feed)) = came_by.get(at) {
        steps.push(step(from, feed));
        at = from;
    }
    steps.reverse();
    Problem::of("bindings", format!("readings would go round in a circle: {}", steps.join(", ")))
        .because(Cause::Circle)
        .hint("begin the input's pattern with a segment of its own, or bind the output elsewhere")
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::{bindings, id};
    use crate::wiring::Wiring;

    fn app(installation: &str, input: &str, output: Option<&str>) -> Arc<Bindings> {
        Arc::new(bindings(installation, input, output))
    }

    fn wired(others: &[(&str, &Arc<Bindings>)]) -> Wiring {
        let mut wiring = Wiring::default();
        others.iter().for_each(|(name, bindings)| wiring.insert(&id(name), bindings));
        wiring
    }

    #[test]
    fn an_app_that_feeds_itself_is_found() {
        let own = app("a", "x/{m}", Some("x/{m}"));
        let problem = find_cycle(&id("a"), &own, &()).unwrap();
        assert!(problem.message.contains("output out (x/{m}) of a feeds input in (x/{m}) of a"), "{problem}");
        // The default binding has three segments and more.
        assert!(find_cycle(&id("a"), &app("a", "{x}/{y}", None), &()).is_none());
        assert!(find_cycle(&id("a"), &app("a", "{x}/{y}/{z}", None), &()).is_some());
        assert!(find_cycle(&id("a"), &app("a", "apps/{y}/{z}/{e}/{f}", None), &()).is_some());
        assert!(find_cycle(&id("a"), &app("a", "apps/{y}/other/{e}", None), &()).is_none());
        assert!(find_cycle(&id("a"), &app("a", "apps/b/{z}/{e}", None), &()).is_none());
    }

    #[test]
    fn a_circle_over_other_installations_is_found_and_a_chain_is_not() {
        let (a, b, c) =
            (app("a", "x/{m}", None), app("b", "apps/a/out/{m}", None), app("c", "apps/b/out/{m}", None));
        assert_eq!(find_cycle(&id("c"), &c, &wired(&[("a", &a), ("b", &b)])), None);
        let back = app("c", "apps/b/out/{m}", Some("x/{m}"));
        let problem = find_cycle(&id("c"), &back, &wired(&[("a", &a), ("b", &b)])).unwrap();
        let order =
            ["of c feeds", "of a feeds", "of b feeds"].map(|part| problem.message.find(part).unwrap());
        assert!(order.is_sorted(), "{problem}");
        // The installation's own earlier bindings don't count.
        assert_eq!(find_cycle(&id("c"), &c, &wired(&[("a", &a), ("b", &b), ("c", &back)])), None);
    }

    #[test]
    fn set_points_feed_nothing() {
        let mut own = bindings("a", "x/{m}", Some("x/{m}"));
        own.outputs[0].kind = OutputKind::SetPoint;
        assert_eq!(find_cycle(&id("a"), &Arc::new(own), &()), None);
    }
}
