//! Planning: what an install would be, without a lock and without writing anything.

use std::collections::BTreeMap;
use std::ops::ControlFlow;
use std::sync::Arc;
use std::time::{Duration, Instant};

use tokio::sync::OwnedSemaphorePermit;

use super::Request;
use super::adopt::MOST_BYTES;
use super::several::Wrong;
use crate::api::facade::{Answer, Consent, InstallRequest, Match, Place, Problem, Rights, StartFrom};
use crate::config::Config;
use crate::fold::KnownPackage;
use crate::fold::routes::PreparedRoutes;
use crate::node::consents::{check_consent, consent_to};
use crate::node::kept::Kept;
use crate::node::paths::{Found, Looks};
use crate::node::trust::{Named, Trust};
use crate::node::{Node, found_aside, problems};
use ironloom_apps::binding::Bindings;
use ironloom_apps::manifest::Manifest;
use ironloom_apps::plan::{self, InputPlan, Plan, Points, See, Site, plan_install};
use ironloom_apps::routing::Prepared;
use ironloom_apps::wiring::{Neighbours, Wiring};
use ironloom_storage::journal::Filter;
use ironloom_types::ids::{InstallationId, PointNumber, PointPath, Sequence, TenantId};
use ironloom_types::limits::{MAX_MATCHES, MAX_SHAPES};
use ironloom_types::readings::NewPoint;

/// The time for counting readings; beyond it the count is "at least".
const COUNTING: Duration = Duration::from_secs(1);

/// Samples that one answer shows in all.
const SAMPLES_OF_A_LIST: usize = 10_000;
/// Points that are looked at under one hold of their names: the fold waits for it.
const AT_ONCE: usize = 1_000;

/// Everything about an install that is known before anything is written.
pub(super) struct Planned {
    pub(super) plan: Plan,
    pub(super) matches: Vec<Match>,
    pub(super) cursor: Sequence,
    pub(super) backlog: Counted,
    /// What it goes on with, where it adopts something.
    pub(super) kept: Option<Kept>,
    /// The rights that it gets.
    pub(super) consent: Consent,
}

/// A list of installs that is planned, in its order.
pub(super) struct List {
    /// The place that it takes until its record is written: the matches may need much memory.
    pub(super) place: OwnedSemaphorePermit,
    pub(super) requests: Vec<Request>,
    pub(super) planned: Vec<Planned>,
    pub(super) routes: Vec<PreparedRoutes>,
    /// By whose policy it was planned.
    pub(super) config: Arc<Config>,
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
    /// journal. All that is wrong with the list is told at once.
    pub(super) async fn planned(self: &Arc<Self>, requests: Vec<InstallRequest>) -> Answer<List> {
        let place = Arc::clone(&self.admin.planning).acquire_owned().await;
        let place = place.map_err(|error| problems::internal(&error))?;
        let node = Arc::clone(self);
        found_aside(move || node.plan_all(requests, place)).await
    }

    fn plan_all(&self, requests: Vec<InstallRequest>, place: OwnedSemaphorePermit) -> Answer<List> {
        let mut wrong = Wrong::none_of(requests.iter().map(|request| &request.id));
        let known = self.known_of(requests.iter(), &mut wrong);
        let (mut trust, mut wiring) = (self.trust(super::tenant_of(&requests)), Wiring::default());
        let points = SitePoints::of(self);
        let mut shapes = self.shared.routing.read().shapes();
        let (config, counting) = (self.config.load_full(), Instant::now());
        let (mut matched, mut adopted, mut samples_left) = (0, 0, SAMPLES_OF_A_LIST);
        let (mut planned, mut routes) = (Vec::with_capacity(known.len()), Vec::with_capacity(known.len()));
        let mut too_many = None;
        for (at, (request, known)) in requests.iter().zip(&known).enumerate() {
            let Some(known) = known else { continue };
            let kept = wrong.take(at, self.to_adopt(request, &known.manifest));
            let (tenant, first) = (request.id.tenant(), self.shared.journal.of(request.id.tenant()).first());
            let cursor = match &kept {
                Some(Some(kept)) => Some(kept.cursor(first)),
                Some(None) => wrong.take(at, self.cursor(tenant, request.from.unwrap_or_default())),
                None => None,
            };
            let changes = self.shared.routing.read().changes();
            let plan = self.plan((request, &config), &known.manifest, &points, &(&*self.lanes, &wiring));
            let plan = wrong.take(at, plan);
            let (Some((mut plan, prepared)), Some(cursor), Some(kept)) = (plan, cursor, kept) else {
                continue;
            };
            let asked = consented(&mut trust, request, known, &mut plan);
            let Some(consent) = wrong.take(at, asked) else { continue };
            if let Some(kept) = &kept
                && wrong.take(at, trust.check_same_publisher(&kept.ended)).is_none()
            {
                continue;
            }
            match &kept {
                Some(kept) => plan.warnings.extend(kept.warnings(&plan, &known.manifest, first)),
                None => plan.warnings.extend(self.kept_told(&request.id)),
            }
            adopted += kept.as_ref().map_or(0, Kept::bytes);
            if adopted > MOST_BYTES {
                too_many = Some(too_much_adopted(at, &request.id, requests.len()));
                break;
            }
            matched += prepared.matches().len();
            if matched > MAX_MATCHES {
                too_many = Some(too_many_matches(at, &request.id, requests.len()));
                break;
            }
            if wrong.has(at) {
                continue;
            }
            if !shapes.take(&plan.bindings) {
                too_many = Some(too_many_shapes(at, &request.id, requests.len()));
                break;
            }
            wiring.insert(&request.id, &plan.bindings);
            let matches = self.all_matches(&plan, &mut samples_left);
            let matched = || prepared.matches().iter().map(|(point, _)| *point).collect();
            let backlog = wrong.take(at, self.count_readings(tenant, cursor, matched, counting));
            let Some(backlog) = backlog else { continue };
            planned.push(Planned { plan, matches, cursor, backlog, kept, consent });
            routes.push(PreparedRoutes { routes: prepared, changes });
        }
        wrong.check()?;
        if let Some(too_many) = too_many {
            return Err(too_many);
        }
        let requests = requests.into_iter().zip(known).filter_map(|(request, known)| Some((request, known?)));
        let list = List { place, requests: requests.collect(), planned, routes, config };
        assert!(list.planned.len() == list.requests.len(), "each is planned, or a problem was found");
        Ok(list)
    }

    /// The points of each input, with some of them as samples while there is room for these.
    fn all_matches(&self, plan: &Plan, samples_left: &mut usize) -> Vec<Match> {
        let matches = plan.inputs.iter().map(|input| {
            let matches = self.matches(input, *samples_left);
            *samples_left -= matches.samples.len();
            matches
        });
        matches.collect()
    }

    fn plan(
        &self,
        (request, config): (&InstallRequest, &Config),
        manifest: &Manifest,
        points: &SitePoints<'_>,
        others: &impl Neighbours,
    ) -> Answer<(Plan, Prepared)> {
        let site = site(config);
        let InstallRequest { id, bindings, grants, settings, limits, timezone, .. } = request;
        let request = plan::Request { id, bindings, grants, settings, limits, timezone: timezone.as_deref() };
        plan_install(request, manifest, site, points, others).map_err(|found| problems::not_as_asked(&found))
    }

    /// The last sequence before the first reading that an installation takes.
    pub(in crate::node) fn cursor(&self, tenant: TenantId, from: StartFrom) -> Answer<Sequence> {
        let journal = self.shared.journal.of(tenant);
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

    /// Counts the readings behind `cursor` of these points, until a second after `started` at most.
    pub(in crate::node) fn count_readings(
        &self,
        tenant: TenantId,
        cursor: Sequence,
        points: impl FnOnce() -> Vec<PointNumber>,
        started: Instant,
    ) -> Answer<Counted> {
        let mut counted = Counted::default();
        let journal = self.shared.journal.of(tenant);
        if cursor >= journal.last() {
            return Ok(counted);
        }
        let mut filter = Filter::after(cursor).of_points(points());
        loop {
            match journal.find(&filter) {
                Ok(Some(chunk)) => {
                    counted.readings += filter.rows(&chunk, usize::MAX).len() as u64;
                    filter.after = chunk.last_sequence();
                }
                Ok(None) => break,
                // Who drops such readings, or takes all that there are, is not kept from it by some that can't be read.
                Err(error) => match journal.end_of_found(&filter) {
                    Some(end) => (filter.after, counted.at_least) = (end, true),
                    None => return Err(problems::internal(&error)),
                },
            }
            if started.elapsed() > COUNTING {
                counted.at_least = true;
                break;
            }
        }
        Ok(counted)
    }

    /// The points of an input, with at most so many samples.
    fn matches(&self, input: &InputPlan, most: usize) -> Match {
        let samples = input.samples.iter().take(most).filter_map(|number| self.sample(*number)).collect();
        Match { input: input.name.to_string(), points: input.points, samples }
    }
}

impl Node {
    /// Matches the points to bindings that hold already, however long finding them takes.
    pub(in crate::node) fn matched(&self, bindings: &Bindings) -> Prepared {
        let mut prepared = Prepared::new(&bindings.inputs);
        let found = self.paths.read_by(&self.shared.points, &bindings.inputs);
        self.see_found(&found, &mut |number, path, unit| {
            prepared.add(number, path, unit);
            ControlFlow::Continue(())
        });
        prepared.skip_to(found.seen);
        prepared
    }

    /// Matches the points to bindings that held once, those among them that are gone by now and whose readings are still
    /// there: each as it was when these were routed.
    pub(in crate::node) fn matched_ever(&self, bindings: &Bindings) -> Prepared {
        let inputs = &bindings.inputs;
        let mut points: BTreeMap<PointNumber, (NewPoint, bool)> = BTreeMap::new();
        // Those that are there first: one that goes in between is seen twice, and not missed.
        let found = self.paths.read_by(&self.shared.points, inputs);
        self.shared.points.each_of(&found.numbers, |number, point| {
            points.insert(number, (point.clone(), false));
        });
        self.shared.points.each_retired(|number, point| {
            if inputs.iter().flat_map(|input| &input.patterns).any(|pattern| pattern.matches(&point.path)) {
                points.entry(number).or_insert_with(|| (point.clone(), true));
            }
        });
        let mut prepared = Prepared::new(inputs);
        for (number, (NewPoint { path, unit }, is_gone)) in points {
            if is_gone {
                prepared.add_gone(number, &path, unit.as_deref());
            } else {
                prepared.add(number, &path, unit.as_deref());
            }
        }
        prepared
    }

    fn see_found(&self, found: &Found, see: &mut See<'_>) {
        for part in found.numbers.chunks(AT_ONCE) {
            let names = self.shared.points.names();
            for number in part {
                let Some(point) = names.point(*number) else { continue };
                if see(*number, &point.path, point.unit.as_deref()).is_break() {
                    return;
                }
            }
        }
    }
}

/// The site's part in a plan.
pub(in crate::node) fn site(config: &Config) -> Site<'_> {
    let Config { site, limits, policy, .. } = config;
    Site { timezone: &site.timezone, limits, most: &policy.limits, every: policy.set_point_every }
}

/// The rights that an install gives, unless somebody has consented to anything else. An id that goes over to somebody else is
/// the first warning.
fn consented(
    trust: &mut Trust<'_>,
    request: &InstallRequest,
    known: &KnownPackage,
    plan: &mut Plan,
) -> Answer<Consent> {
    let manifest = &known.manifest;
    let was = trust.owner_of(&manifest.id);
    trust.check(known, Named::of(request))?;
    plan.warnings.splice(0..0, trust.goes_over(&manifest.id, was));
    let publisher = trust.owner_of(&manifest.id);
    let rights = Rights::of(manifest, publisher, &plan.bindings, &plan.grants, &plan.limits);
    let consent = consent_to(rights, known, plan, trust.most());
    check_consent(request.consent, &consent)?;
    Ok(consent)
}

/// The points of the site, for all that one request plans.
pub(in crate::node) struct SitePoints<'n> {
    node: &'n Node,
    looks: Looks,
}

impl<'n> SitePoints<'n> {
    pub(in crate::node) fn of(node: &'n Node) -> Self {
        Self { node, looks: Looks::of_a_request() }
    }
}

impl Points for SitePoints<'_> {
    fn each(&self, bindings: &Bindings, see: &mut See<'_>) -> Option<PointNumber> {
        let found = self.node.paths.bound(&self.node.shared.points, bindings, &self.looks);
        if self.looks.are_used_up() {
            return None;
        }
        self.node.see_found(&found, see);
        Some(found.seen)
    }

    fn path(&self, number: PointNumber) -> Option<PointPath> {
        self.node.shared.points.names().point(number).map(|point| point.path.clone())
    }
}

/// Each new point is looked up once for each shape, while everybody waits.
pub(in crate::node) fn too_many_shapes(at: usize, id: &InstallationId, of: usize) -> Problem {
    let of = if of == 1 { String::new() } else { format!(" (item {at} of {of}; none is installed)") };
    let detail = format!(
        "with the patterns of {id}{of} the site's patterns would have more than {MAX_SHAPES} shapes: numbers of segments, and \
         places of captures among them"
    );
    Problem::refused("too-many-shapes", detail).hint("Write its patterns with captures in the same places.")
}

/// The alarms and timers of all stand in one record.
fn too_much_adopted(at: usize, id: &InstallationId, of: usize) -> Problem {
    let detail = format!(
        "the first {} of {of} installations of the list (to {id}) adopt alarms and timers of more than {} MiB together, \
         the most of one list; none is installed",
        at + 1,
        MOST_BYTES >> 20
    );
    Problem::refused("too-much-adopted", detail).hint("Install them by shorter lists.")
}

/// The fold takes all matches of a list in one step, for which everybody waits.
fn too_many_matches(at: usize, id: &InstallationId, of: usize) -> Problem {
    let (detail, hint) = match of {
        1 => (
            format!("its inputs match more than {MAX_MATCHES} points together, the most of one install"),
            "Bind fewer points to it.",
        ),
        _ => (
            format!(
                "the inputs of the first {} of {of} installations of the list (to {id}) match more than \
                 {MAX_MATCHES} points together, the most of one list; none is installed",
                at + 1
            ),
            "Install them by shorter lists.",
        ),
    };
    Problem::refused("too-many-matches", detail).hint(hint)
}
