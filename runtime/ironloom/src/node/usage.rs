//! Who and what takes how much: installations, sources and points, the largest first.

use std::collections::BTreeMap;
use std::sync::Weak;
use std::time::{Duration, Instant};

use super::Node;
use crate::api::facade::{InstallationUsage, PointsUsage, Rate, SourceUsage, Usage, UsageQuery};
use crate::fold::sources::{Brought, Source};
use crate::lanes::Lane;
use crate::lanes::rate;
use ironloom_types::ids::{PointNumber, RESERVED_SEGMENT, TenantId};

/// The interval at which what installations do is measured.
const EVERY: Duration = Duration::from_secs(5);
/// First segments of paths that are counted apart. Beyond: counted together.
const MOST_PREFIXES: usize = 10_000;
/// The name of the others.
const OTHERS: &str = "…";

/// Measures what installations do in each second.
pub(super) async fn watch(node: Weak<Node>) {
    loop {
        {
            let Some(node) = node.upgrade() else { return };
            let now = Instant::now();
            for lane in node.lanes.all() {
                let counters = lane.book().meta().counters;
                lane.meter.sample(&counters, now);
            }
        }
        tokio::time::sleep(EVERY).await;
    }
}

impl Node {
    /// That of `main`. Looks at all points, so it works aside.
    pub(super) fn show_usage(&self, query: UsageQuery) -> Usage {
        let own = self.lanes.of_tenant(TenantId::MAIN);
        let mut installations: Vec<_> = own.iter().map(|lane| self.usage_of(lane)).collect();
        let installations_total = installations.len() as u64;
        query.sort.sort(&mut installations);
        installations.truncate(query.limit);
        let mut sources: Vec<_> = self.shared.sources.all().into_iter().map(source).collect();
        sources.sort_by_key(|source| std::cmp::Reverse(source.bytes));
        sources.truncate(query.limit);
        let (mut points, points_total) = self.points_by_prefix();
        points.sort_by(|a, b| b.points.cmp(&a.points).then_with(|| a.prefix.cmp(&b.prefix)));
        points.truncate(query.limit);
        Usage { installations, installations_total, sources, points, points_total }
    }

    fn usage_of(&self, lane: &Lane) -> InstallationUsage {
        let meta = lane.book().meta().clone();
        let counters = meta.counters;
        InstallationUsage {
            installation: lane.id.clone(),
            app: lane.installation().app.clone(),
            state: self.state_of(lane),
            lag: self.lag_readings(lane).0,
            state_bytes: meta.state_bytes,
            points: meta.points,
            derived: counters.derived,
            derived_bytes: counters.derived_bytes,
            cpu_seconds: counters.cpu_nanos as f64 / 1e9,
            peak_memory: counters.peak_memory,
            log_lines: counters.log_lines,
            dead_letter_bytes: meta.dead_letter_bytes,
            rate: self.rate_of(lane),
        }
    }

    pub(super) fn rate_of(&self, lane: &Lane) -> Rate {
        let counters = lane.book().meta().counters;
        let rate::Rate { readings, cpu, derived_bytes, over } = lane.meter.rate(&counters, Instant::now());
        Rate { readings, cpu, derived_bytes, over: over.as_secs_f64() }
    }

    /// The points by the first segments of their paths, and how many there are.
    fn points_by_prefix(&self) -> (Vec<PointsUsage>, u64) {
        let (mut counts, mut total) = (BTreeMap::<String, u64>::new(), 0);
        self.shared.points.each_from(PointNumber(0), |_, point| {
            if point.path.tenant() != TenantId::MAIN {
                return;
            }
            total += 1;
            let prefix = prefix(point.path.as_str());
            let is_full = counts.len() >= MOST_PREFIXES;
            match counts.get_mut(prefix) {
                Some(count) => *count += 1,
                None if is_full => *counts.entry(OTHERS.to_owned()).or_default() += 1,
                None => drop(counts.insert(prefix.to_owned(), 1)),
            }
        });
        (counts.into_iter().map(|(prefix, points)| PointsUsage { prefix, points }).collect(), total)
    }
}

/// The first segment of a path, of an output of an app the first two.
fn prefix(path: &str) -> &str {
    let segments = if path.split('/').next() == Some(RESERVED_SEGMENT) { 2 } else { 1 };
    let end = path.match_indices('/').nth(segments - 1).map_or(path.len(), |(at, _)| at);
    &path[..end]
}

fn source((source, Brought { readings, bytes }): (Source, Brought)) -> SourceUsage {
    let (kind, name) = match source {
        Source::Connector(name) => ("connector", Some(name.into_string())),
        Source::Streams => ("streams", None),
        Source::Pushes => ("pushes", None),
    };
    SourceUsage { kind: kind.to_owned(), name, readings, bytes }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn points_are_counted_by_their_first_segment_and_those_of_apps_by_app() {
        for (path, expected) in [
            ("farm/barn/pig", "farm"),
            ("farm", "farm"),
            ("apps/pigs/gain/7", "apps/pigs"),
            ("apps/pigs", "apps/pigs"),
            ("apps", "apps"),
        ] {
            assert_eq!(prefix(path), expected, "{path}");
        }
    }
}
