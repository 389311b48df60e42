//! Installing: planned, counted and loaded without a lock, then checked once more and written as one
//! record.

use std::convert::Infallible;
use std::sync::Arc;
use std::time::{Duration, Instant};

use tokio::sync::OwnedSemaphorePermit;

use super::loading::context;
use super::packages::load_problem;
use super::{Node, problems};
use crate::api::facade::{
    Answer, InstallRequest, InstallationState, Installed, Lag, Match, Place, Problem, StartFrom,
};
use crate::aside::aside;
use crate::fold::routes::PreparedRoutes;
use crate::fold::{KnownPackage, read_aside};
use crate::lanes::App;
use crate::records::admin::AdminRecord;
use crate::records::installation::{Installation, Revision, Standing};
use crate::records::lane::LaneMeta;
use ironloom_apps::allowance::PartialLimits;
use ironloom_apps::binding::{Bindings, InputBinding};
use ironloom_apps::cycles::find_cycle;
use ironloom_apps::manifest::{Manifest, Timer};
use ironloom_apps::plan::{InputPlan, KnownPoint, Plan, Request, Site, plan_install};
use ironloom_apps::problem::Problems;
use ironloom_storage::journal::Filter;
use ironloom_types::clock::Timestamp;
use ironloom_types::ids::{self, Generation, InstallationId, PointNumber, Sequence};

/// The time for counting readings; beyond it the count is "at least".
const COUNTING: Duration = Duration::from_secs(1);

/// Everything about an install that is known before anything is written.
struct Planned {
    plan: Plan,
    matches: Vec<Match>,
    cursor: Sequence,
    backlog: Counted,
}

/// A number of readings.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Counted {
    pub(super) readings: u64,
    /// Counting took too long: there may be more.
    pub(super) at_least: bool,
}

impl Node {
    /// Installs, or says what an install would do.
    pub(super) async fn add_installation(
        self: Arc<Self>,
        request: InstallRequest,
        dry_run: bool,
    ) -> Answer<Installed> {
        self.check_space()?;
        self.check_free(&request.id)?;
        let known = self.known_or_422(&request)?;
        let _held = self.admin.last_use.hold(request.package);
        let Planned { plan, matches, cursor, backlog } = self.planned(&request, &known).await?;
        let loaded = self.load(&known, &plan.limits).await.map_err(|error| load_problem(&error))?;
        let mut warnings = plan.warnings;
        if !plan.grants.is_empty() {
            let text =
                "this version doesn't send set-points: the grant is stored, but every request is refused";
            warnings.push(text.to_owned());
        }
        let installation = Installation {
            id: request.id.clone(),
            generation: Generation(0),
            app: known.manifest.id.clone(),
            version: known.manifest.version.clone(),
            package: request.package,
            standing: Standing::Running,
            revision: ids::Revision(1),
        };
        let revision = Revision {
            number: ids::Revision(1),
            from: cursor.next(),
            package: request.package,
            bindings: plan.bindings,
            grants: plan.grants,
            settings: plan.settings,
            limits: plan.limits,
            timezone: plan.timezone,
        };
        let routes = if dry_run { None } else { Some(self.routes(&revision.bindings).await?) };
        let app = App { code: loaded, context: Arc::new(context(&known.manifest, &revision)) };
        let installation = if let Some(routes) = routes {
            self.write(&request, installation, revision, &known.manifest, app, routes).await?
        } else {
            let meta = first_meta(cursor, &known.manifest, &revision, self.shared.clock.now());
            let state = InstallationState::Starting;
            super::installations::show(
                &installation,
                &revision,
                &known.manifest,
                &meta,
                state,
                Lag::default(),
            )
        };
        let Counted { readings, at_least } = backlog;
        Ok(Installed { installation, backlog: readings, backlog_at_least: at_least, matches, warnings })
    }

    /// Checks what may have changed since the plan, and writes the record.
    async fn write(
        self: &Arc<Self>,
        request: &InstallRequest,
        mut installation: Installation,
        mut revision: Revision,
        manifest: &Manifest,
        app: App,
        (place, routes): (OwnedSemaphorePermit, PreparedRoutes),
    ) -> Answer<crate::api::facade::Installation> {
        let mut given = self.admin.installing.lock().await;
        self.check_free(&request.id)?;
        self.known_or_422(request)?;
        self.check_circles(&request.id, &revision.bindings)?;
        // The fold learns of a generation only with its record: the next one given must not wait for that.
        installation.generation = self.shared.last_generation().max(*given).next();
        *given = installation.generation;
        if request.from == StartFrom::Now {
            revision.from = self.shared.journal.last().next();
        }
        let cursor = Sequence(revision.from.0 - 1);
        let meta = first_meta(cursor, manifest, &revision, self.shared.clock.now());
        let (installation, revision, meta) = (Box::new(installation), Box::new(revision), Box::new(meta));
        self.shared.keep_routes(*given, Some(routes));
        let installed = self.change(AdminRecord::Installed { installation, revision, meta }).await;
        self.shared.keep_routes(*given, None);
        drop(place);
        installed?;
        let lane = self.lane(&request.id)?;
        lane.set_app(app);
        self.lanes.wake(&lane);
        drop(given);
        self.shown(lane).await
    }

    /// Matches the points to an installation's inputs, so that the fold needn't. With the place that it takes until
    /// the record is written: it may need much memory.
    async fn routes(&self, bindings: &Bindings) -> Answer<(OwnedSemaphorePermit, PreparedRoutes)> {
        let place = Arc::clone(&self.admin.planning).acquire_owned().await;
        let place = place.map_err(|error| problems::internal(&error))?;
        let inputs = bindings.inputs.clone();
        let routes =
            read_aside(&self.shared, move |shared| Ok::<_, Infallible>(shared.prepare_routes(&inputs)));
        Ok((place, routes.await.map_err(|error| problems::internal(&error))?))
    }

    fn check_free(&self, id: &InstallationId) -> Answer<()> {
        if self.lanes.of(id).is_none() {
            return Ok(());
        }
        let detail = format!("the installation {id} exists already; choose another id or uninstall it");
        Err(Problem::conflict("exists", detail).at(Place::field("id")))
    }

    fn known_or_422(&self, request: &InstallRequest) -> Answer<Arc<KnownPackage>> {
        self.known(request.package).ok_or_else(|| {
            Problem::refused("unknown-package", format!("there is no package {}", request.package))
                .at(Place::field("package"))
                .hint("Upload it with POST /v1/packages, or `ironloom install FILE`.")
        })
    }

    /// Another install may have closed a circle since the plan was made.
    fn check_circles(&self, id: &InstallationId, bindings: &Bindings) -> Answer<()> {
        let lanes = self.lanes.all();
        let others: Vec<_> = lanes.iter().map(|lane| (lane.id.clone(), &lane.revision.bindings)).collect();
        match find_cycle(id, bindings, &others) {
            None => Ok(()),
            Some(circle) => Err(refused(&circle.into())),
        }
    }

    /// Plans aside: all points are looked at, and the backlog is counted in the journal.
    async fn planned(
        self: &Arc<Self>,
        request: &InstallRequest,
        known: &Arc<KnownPackage>,
    ) -> Answer<Planned> {
        let place = Arc::clone(&self.admin.planning).acquire_owned().await;
        let (node, request, known) = (Arc::clone(self), request.clone(), Arc::clone(known));
        let planned = aside(move || {
            let _place = place;
            let plan = node.plan(&request, &known.manifest)?;
            let matches = plan.inputs.iter().map(|input| node.matches(input)).collect();
            let cursor = node.cursor(request.from)?;
            let backlog = node.count_readings(cursor, &plan.bindings.inputs)?;
            Ok(Planned { plan, matches, cursor, backlog })
        });
        planned.await.map_err(|error| problems::internal(&error))?
    }

    fn plan(&self, request: &InstallRequest, manifest: &Manifest) -> Answer<Plan> {
        let lanes = self.lanes.all();
        let others: Vec<_> = lanes.iter().map(|lane| (lane.id.clone(), &lane.revision.bindings)).collect();
        let asked = asked(request);
        let points = self.copy_points();
        let points = points.iter().map(|(number, point)| KnownPoint {
            number: *number,
            path: &point.path,
            unit: point.unit.as_deref(),
        });
        let site = Site { timezone: &self.config.site.timezone, limits: &self.config.limits };
        plan_install(&asked, manifest, site, points, &others).map_err(|found| refused(&found))
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

    /// Counts the readings behind `cursor` that these inputs take, for a second at most.
    pub(super) fn count_readings(&self, cursor: Sequence, inputs: &[InputBinding]) -> Answer<Counted> {
        let mut counted = Counted::default();
        if cursor >= self.shared.journal.last() {
            return Ok(counted);
        }
        let mut points: Vec<PointNumber> = Vec::new();
        self.each_point(|number, point| {
            let mut patterns = inputs.iter().flat_map(|input| &input.patterns);
            if patterns.any(|pattern| pattern.matches(&point.path)) {
                points.push(number);
            }
        });
        let mut filter = Filter::after(cursor).of_points(points);
        let started = Instant::now();
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

fn refused(problems: &Problems) -> Problem {
    problems::all("install", "the app can't be installed as asked", problems)
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

/// The place in the journal where a generation begins.
fn first_meta(cursor: Sequence, manifest: &Manifest, revision: &Revision, now: Timestamp) -> LaneMeta {
    let zone = revision.zone();
    let due = |timer: &Timer| Some((timer.name.clone(), timer.cron.next_after(now, &zone)?));
    LaneMeta {
        cursor,
        time: now,
        next_dead_letter: 1,
        next_alarm: 1,
        cron_due: manifest.timers.iter().filter_map(due).collect(),
        ..LaneMeta::default()
    }
}
