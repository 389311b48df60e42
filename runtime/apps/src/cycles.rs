//! Cycles between outputs and inputs, found on patterns before anything runs.

use std::collections::HashMap;

use super::binding::{Bindings, OutputBinding, Target};
use super::manifest::OutputKind;
use super::problem::{Cause, Problem};
use ironloom_types::ids::InstallationId;

/// One installation that can feed another.
struct Feed {
    to: usize,
    output: String,
    input: String,
}

/// Looks for a way from the outputs of an installation back to its inputs, over all others. Any
/// input of an installation is taken to reach any of its outputs. Set-points are no readings, so
/// they feed nothing.
pub fn find_cycle(
    id: &InstallationId,
    bindings: &Bindings,
    others: &[(InstallationId, &Bindings)],
) -> Option<Problem> {
    let mut nodes: Vec<(&InstallationId, &Bindings)> = vec![(id, bindings)];
    nodes.extend(others.iter().filter(|(other, _)| other != id).map(|(other, bindings)| (other, *bindings)));

    // Depth first from the installation itself, each other one entered once.
    let mut came_by: HashMap<usize, (usize, Feed)> = HashMap::new();
    let mut to_visit = vec![0];
    while let Some(from) = to_visit.pop() {
        for feed in feeds(&nodes, from) {
            if feed.to == 0 {
                return Some(describe(&nodes, &came_by, from, &feed));
            }
            came_by.entry(feed.to).or_insert_with(|| {
                to_visit.push(feed.to);
                (from, feed)
            });
        }
    }
    None
}

fn feeds(nodes: &[(&InstallationId, &Bindings)], from: usize) -> Vec<Feed> {
    let outputs = &nodes[from].1.outputs;
    let mut feeds = Vec::new();
    for (to, (_, bindings)) in nodes.iter().enumerate() {
        let found = outputs.iter().filter(|output| output.kind == OutputKind::Derived).find_map(|output| {
            bindings
                .inputs
                .iter()
                .find_map(|input| {
                    let pattern = input.patterns.iter().find(|pattern| output.target.feeds(pattern))?;
                    Some(format!("input {} ({pattern})", input.name))
                })
                .map(|input| Feed { to, output: show_output(output), input })
        });
        feeds.extend(found);
    }
    feeds
}

fn show_output(output: &OutputBinding) -> String {
    match &output.target {
        Target::Unbound => format!("output {}", output.name),
        Target::Default { prefix } => format!("output {} ({prefix}/…)", output.name),
        Target::Pattern { pattern, .. } => format!("output {} ({pattern})", output.name),
    }
}

fn describe(
    nodes: &[(&InstallationId, &Bindings)],
    came_by: &HashMap<usize, (usize, Feed)>,
    last: usize,
    back: &Feed,
) -> Problem {
    let step = |from: usize, feed: &Feed| {
        format!("{} of {} feeds {} of {}", feed.output, nodes[from].0, feed.input, nodes[feed.to].0)
    };
    let mut steps = vec![step(last, back)];
    let mut at = last;
    while let Some((from, feed)) = came_by.get(&at) {
        steps.push(step(*from, feed));
        at = *from;
    }
    steps.reverse();
    Problem::of("bindings", format!("readings would go round in a circle: {}", steps.join(", ")))
        .because(Cause::Circle)
        .hint("begin the input's pattern with a segment of its own, or bind the output elsewhere")
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::binding::InputBinding;
    use crate::manifest::ValueType;
    use crate::pattern::Pattern;
    use ironloom_types::ids::SlotName;

    fn name(text: &str) -> SlotName {
        SlotName::new(text).unwrap()
    }

    fn id(text: &str) -> InstallationId {
        InstallationId::new(text).unwrap()
    }

    fn app(installation: &str, input: &str, output: Option<&str>) -> Bindings {
        let target = match output {
            Some(pattern) => Target::Pattern { pattern: Pattern::new(pattern).unwrap(), order: vec![0] },
            None => Target::Default { prefix: format!("apps/{installation}/out") },
        };
        let value_type = ValueType::Real;
        Bindings {
            inputs: vec![InputBinding {
                name: name("in"),
                value_type,
                unit: None,
                patterns: vec![Pattern::new(input).unwrap()],
            }],
            outputs: vec![OutputBinding {
                name: name("out"),
                kind: OutputKind::Derived,
                value_type,
                unit: None,
                target,
            }],
        }
    }

    #[test]
    fn an_app_that_feeds_itself_is_found() {
        let own = app("a", "x/{m}", Some("x/{m}"));
        let problem = find_cycle(&id("a"), &own, &[]).unwrap();
        assert!(problem.message.contains("output out (x/{m}) of a feeds input in (x/{m}) of a"), "{problem}");
        // The default binding has three segments and more.
        assert!(find_cycle(&id("a"), &app("a", "{x}/{y}", None), &[]).is_none());
        assert!(find_cycle(&id("a"), &app("a", "{x}/{y}/{z}", None), &[]).is_some());
        assert!(find_cycle(&id("a"), &app("a", "apps/{y}/{z}/{e}/{f}", None), &[]).is_some());
        assert!(find_cycle(&id("a"), &app("a", "apps/{y}/other/{e}", None), &[]).is_none());
        assert!(find_cycle(&id("a"), &app("a", "apps/b/{z}/{e}", None), &[]).is_none());
    }

    #[test]
    fn a_circle_over_other_installations_is_found_and_a_chain_is_not() {
        let (a, b, c) =
            (app("a", "x/{m}", None), app("b", "apps/a/out/{m}", None), app("c", "apps/b/out/{m}", None));
        let others = [(id("a"), &a), (id("b"), &b)];
        assert_eq!(find_cycle(&id("c"), &c, &others), None);
        let back = app("c", "apps/b/out/{m}", Some("x/{m}"));
        let problem = find_cycle(&id("c"), &back, &others).unwrap();
        let order =
            ["of c feeds", "of a feeds", "of b feeds"].map(|part| problem.message.find(part).unwrap());
        assert!(order.is_sorted(), "{problem}");
        // The installation's own earlier bindings don't count.
        assert_eq!(find_cycle(&id("c"), &c, &[(id("a"), &a), (id("b"), &b), (id("c"), &back)]), None);
    }

    #[test]
    fn set_points_feed_nothing() {
        let mut own = app("a", "x/{m}", Some("x/{m}"));
        own.outputs[0].kind = OutputKind::SetPoint;
        assert_eq!(find_cycle(&id("a"), &own, &[]), None);
    }
}
