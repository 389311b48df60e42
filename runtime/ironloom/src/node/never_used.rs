//! Rights that an installation has and never used since its state began.

use std::collections::BTreeSet;

use super::Node;
use crate::api::facade::{NeverUsed, UnusedPattern};
use crate::lanes::Lane;
use ironloom_apps::binding::Target;
use ironloom_apps::consent::Capability;
use ironloom_apps::manifest::OutputKind;
use ironloom_types::ids::{PointNumber, Sequence};

/// Points that are looked at under one hold of their names: the fold waits for it.
const AT_ONCE: usize = 1_000;
/// Points of a pattern that are named.
const NAMED: usize = 3;

impl Node {
    /// The patterns with points that never gave the app a reading, outputs that never gave anything, and capabilities
    /// without a deed. Looks at all of its points.
    pub(super) fn never_used(&self, lane: &Lane) -> NeverUsed {
        let (began, invocations, alarms) = {
            let book = lane.book();
            let meta = book.meta();
            (meta.began, meta.counters.invocations, meta.next_alarm > 1)
        };
        let newest = lane.newest();
        let inputs = self.unused_patterns(lane, began.sequence);
        let used = self.used_outputs(lane, began.sequence);
        let outputs: Vec<_> = newest.revision.bindings.outputs.iter().collect();
        let is_unused = |name: &str| !used.contains(name);
        let has = |kind| outputs.iter().any(|output| output.kind == kind);
        let uses =
            |kind| outputs.iter().any(|output| output.kind == kind && used.contains(output.name.as_str()));
        let capabilities = [
            (Capability::Outputs, has(OutputKind::Derived) && !uses(OutputKind::Derived)),
            (Capability::SetPoints, has(OutputKind::SetPoint) && !uses(OutputKind::SetPoint)),
            (Capability::Alarms, !newest.manifest.alarms.is_empty() && !alarms),
        ];
        NeverUsed {
            revision: newest.number(),
            since: began.time,
            invocations,
            inputs,
            outputs: outputs
                .iter()
                .map(|output| output.name.to_string())
                .filter(|name| is_unused(name))
                .collect(),
            capabilities: capabilities
                .into_iter()
                .filter(|(_, unused)| *unused)
                .map(|(one, _)| one)
                .collect(),
        }
    }

    fn gave_since(&self, number: PointNumber, began: Sequence) -> bool {
        self.shared.points.latest(number).is_some_and(|(latest, _)| latest.sequence > began)
    }

    fn unused_patterns(&self, lane: &Lane, began: Sequence) -> Vec<UnusedPattern> {
        let newest = lane.newest();
        let inputs = &newest.revision.bindings.inputs;
        let mut all: Vec<Vec<UnusedPattern>> = Vec::with_capacity(inputs.len());
        for input in inputs {
            let of = |pattern: &ironloom_apps::pattern::Pattern| UnusedPattern {
                input: input.name.to_string(),
                pattern: pattern.to_string(),
                points: 0,
                unused: 0,
                samples: Vec::new(),
            };
            all.push(input.patterns.iter().map(of).collect());
        }
        let found = self.paths.read_by(&self.shared.points, inputs);
        for part in found.numbers.chunks(AT_ONCE) {
            // A look at a latest value takes a lock of its own.
            let paths: Vec<_> = {
                let names = self.shared.points.names();
                part.iter().filter_map(|number| Some((*number, names.point(*number)?.path.clone()))).collect()
            };
            for (number, path) in paths {
                let is_used = self.gave_since(number, began);
                for (input, patterns) in inputs.iter().zip(&mut all) {
                    let Some(at) = input.patterns.iter().position(|pattern| pattern.matches(&path)) else {
                        continue;
                    };
                    let pattern = &mut patterns[at];
                    pattern.points += 1;
                    if !is_used {
                        pattern.unused += 1;
                        if pattern.samples.len() < NAMED {
                            pattern.samples.push(path.to_string());
                        }
                    }
                }
            }
        }
        all.into_iter().flatten().filter(|pattern| pattern.unused > 0 || pattern.points == 0).collect()
    }

    /// The outputs that gave something: a derived reading, or an outcome of a set-point.
    fn used_outputs(&self, lane: &Lane, began: Sequence) -> BTreeSet<String> {
        let own = self.shared.points.names().of_outputs(&lane.id);
        let mut used = BTreeSet::new();
        for number in own.into_iter().filter(|number| self.gave_since(*number, began)) {
            let names = self.shared.points.names();
            // apps, installation, output
            used.extend(
                names.point(number).and_then(|point| point.path.segments().nth(2).map(str::to_owned)),
            );
        }
        let newest = lane.newest();
        let elsewhere = newest.revision.bindings.outputs.iter().filter(|output| {
            output.kind == OutputKind::Derived && matches!(output.target, Target::Pattern { .. })
        });
        for output in elsewhere {
            let found = self.paths.written_by(&self.shared.points, [output]);
            if found.numbers.iter().any(|number| self.gave_since(*number, began)) {
                used.insert(output.name.to_string());
            }
        }
        used
    }
}
