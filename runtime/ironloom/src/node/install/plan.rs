//! Planning: what an install would be, without a lock and without writing anything.

use std::sync::Arc;
use std::time::{Duration, Instant};

use super::several;
use crate::api::facade::{Answer, InstallRequest, Match, Place, Problem, StartFrom};
use crate::aside::aside;
use crate::fold::KnownPackage;
use crate::node::{Node, problems};
use ironloom_apps::allowance::PartialLimits;
use ironloom_apps::binding::{Bindings, InputBinding};
use ironloom_apps::manifest::Manifest;
use ironloom_apps::plan::{InputPlan, KnownPoint, Plan, Request, Site, plan_install};
use ironloom_apps::wiring::{Neighbours, Wiring};
use ironloom_storage::journal::Filter;
use ironloom_types::ids::{PointNumber, Sequence};

/// The time for counting readings; beyond it the count is "at least".
const COUNTING: Duration = Duration::from_secs(1);

/// Everything about an install that is known before anything is written.
pub(super) struct Planned {
    pub(super) plan: Plan,
    pub(super) matches: Vec<Match>,
    pub(super) cursor: Sequence,
    pub(super) backlog: Counted,
}

/// A number of readings.
#[derive(Clone, Copy, Debug, Default)]
pub(in crate::node) struct Counted {
    pub(in crate::node) readings: u64,
    /// Counting took too long: there may be more.
    pub(in crate::node) at_least: bool,
}

impl Node {
    /// Plans aside, each with those before it in mind: points are looked at, and the backlog is counted in the
    /// journal.
    pub(super) async fn planned(
        self: &Arc<Self>,
        requests: &[(InstallRequest, Arc<KnownPackage>)],
    ) -> Answer<Vec<Planned>> {
        let place = Arc::clone(&self.admin.planning).acquire_owned().await;
        let (node, requests) = (Arc::clone(self), requests.to_vec());
        let planned = aside(move || {
            let _place = place;
            let mut wiring = Wiring::default();
            let counting = Instant::now();
            several::each(&requests, |(request, known)| {
                let plan = node.plan(request, &known.manifest, &(&*node.lanes, &wiring))?;
                wiring.insert(&request.id, &plan.bindings);
                let matches = plan.inputs.iter().map(|input| node.matches(input)).collect();
                let cursor = node.cursor(request.from)?;
                let backlog = node.count_readings(cursor, &plan.bindings.inputs, counting)?;
                Ok(Planned { plan, matches, cursor, backlog })
            })
        });
        planned.await.map_err(|error| problems::internal(&error))?
    }

    fn plan(&self, request: &InstallRequest, manifest: &Manifest, others: &impl Neighbours) -> Answer<Plan> {
        let site = Site { timezone: &self.config.site.timezone, limits: &self.config.limits };
        let points = |bindings: &Bindings| self.known_points(bindings);
        plan_install(&asked(request), manifest, site, points, others).map_err(|found| super::refused(&found))
    }

    /// The points that have to do with these bindings.
    fn known_points(&self, bindings: &Bindings) -> Vec<KnownPoint> {
        let found = self.paths.bound(&self.shared.points, bindings);
        let mut known = Vec::with_capacity(found.numbers.len());
        self.each_of(&found.numbers, |number, point| {
            known.push(KnownPoint { number, path: point.path.clone(), unit: point.unit.clone() });
        });
        known
    }

    /// The last sequence before the first reading that an installation takes.
    fn cursor(&self, from: StartFrom) -> Answer<Sequence> {
        let journal = &self.shared.journal;
        let first = match from {
            StartFrom::Now => journal.last().next(),
            StartFrom::Beginning => journal.first(),
            StartFrom::Time(time) if time > self.shared.clock.now() => {
                let detail =
                    format!("`from` can't be {time}: that is later than now, {}", self.shared.clock.now());
                return Err(Problem::refused("install", detail)
                    .at(Place::field("from"))
                    .hint("It is the time at which readings were recorded, not their `at`."));
            }
            StartFrom::Time(time) => journal.first_since(time).map_err(|error| problems::internal(&error))?,
        };
        Ok(Sequence(first.0 - 1))
    }

    /// Counts the readings behind `cursor` that these inputs take, until a second after `started` at most.
    pub(in crate::node) fn count_readings(
        &self,
        cursor: Sequence,
        inputs: &[InputBinding],
        started: Instant,
    ) -> Answer<Counted> {
        let mut counted = Counted::default();
        if cursor >= self.shared.journal.last() {
            return Ok(counted);
        }
        let points: Vec<PointNumber> = self.paths.read_by(&self.shared.points, inputs).numbers;
        let mut filter = Filter::after(cursor).of_points(points);
        while let Some(chunk) =
            self.shared.journal.find(&filter).map_err(|error| problems::internal(&error))?
        {
            counted.readings += filter.rows(&chunk, usize::MAX).len() as u64;
            filter.after = Sequence(chunk.next_sequence().0 - 1);
            if started.elapsed() > COUNTING {
                counted.at_least = true;
                break;
            }
        }
        Ok(counted)
    }

    fn matches(&self, input: &InputPlan) -> Match {
        let samples = input.samples.iter().filter_map(|number| self.point_item(*number)).collect();
        Match { input: input.name.to_string(), points: input.points, samples }
    }
}

fn asked(request: &InstallRequest) -> Request {
    let bindings =
        request.bindings.iter().map(|(slot, patterns)| (slot.to_string(), patterns.as_slice().to_vec()));
    let settings = request.settings.iter().map(|(name, value)| (name.to_string(), value.clone()));
    Request {
        id: request.id.clone(),
        bindings: bindings.collect(),
        grants: request.grants.clone(),
        settings: settings.collect(),
        limits: PartialLimits {
            memory: request.limits.memory.map(|bytes| bytes.0),
            cpu: request.limits.cpu.map(|span| span.0),
            state: request.limits.state.map(|bytes| bytes.0),
            share: request.limits.share.map(|span| span.0),
            points: request.limits.points.map(|count| count.0),
        },
        timezone: request.timezone.clone(),
    }
}
