//! Installing, one app or many: planned, counted and loaded without a lock, then checked once more and written as
//! one record, so that all of them are installed or none is.

mod plan;
mod several;

use std::collections::{BTreeMap, BTreeSet};
use std::convert::Infallible;
use std::sync::Arc;

use tokio::sync::OwnedSemaphorePermit;

pub(super) use self::plan::Counted;
use self::plan::Planned;
use super::contexts::Contexts;
use super::packages::load_problem;
use super::{Node, problems};
use crate::api::facade::{
    Answer, InstallRequest, InstallationState, Installed, Lag, Place, Problem, StartFrom,
};
use crate::fold::routes::PreparedRoutes;
use crate::fold::{KnownPackage, read_aside};
use crate::lanes::App;
use crate::records::admin::{AdminRecord, NewInstallation};
use crate::records::installation::{Installation, Revision, Standing};
use crate::records::lane::LaneMeta;
use ironloom_apps::binding::Bindings;
use ironloom_apps::cycles::find_cycle;
use ironloom_apps::manifest::{Manifest, Timer};
use ironloom_apps::problem::Problems;
use ironloom_apps::wiring::Wiring;
use ironloom_sandbox::LoadedApp;
use ironloom_types::clock::Timestamp;
use ironloom_types::ids::{self, Generation, InstallationId, Sequence};

/// A request with the package that it names.
type Request = (InstallRequest, Arc<KnownPackage>);

/// An installation that is about to be.
struct New {
    installation: NewInstallation,
    app: App,
}

impl Node {
    /// Installs all, or none and says why; or says what an install would do.
    pub(super) async fn add_installations(
        self: Arc<Self>,
        requests: Vec<InstallRequest>,
        dry_run: bool,
    ) -> Answer<Vec<Installed>> {
        self.check_space()?;
        let asked: Vec<_> = requests.iter().collect();
        self.check_free(&asked)?;
        let packages: BTreeSet<_> = requests.iter().map(|request| request.package).collect();
        let _held: Vec<_> = packages.into_iter().map(|package| self.admin.last_use.hold(package)).collect();
        let known = self.known_or_422(&asked)?;
        let requests: Vec<Request> = requests.into_iter().zip(known).collect();
        let planned = self.planned(&requests).await?;
        let apps = self.load_all(&requests, &planned).await?;
        let now = self.shared.clock.now();
        let new: Vec<New> = requests
            .iter()
            .zip(&planned)
            .zip(apps)
            .map(|((request, planned), code)| New::of(request, planned, code, &self.admin.contexts, now))
            .collect();
        let shown = if dry_run {
            new.iter().zip(&requests).map(|(new, (_, known))| new.show(&known.manifest)).collect()
        } else {
            let bindings = new.iter().map(|new| Arc::clone(&new.installation.revision.bindings)).collect();
            let routes = self.routes(bindings).await?;
            self.write(&requests, new, routes).await?
        };
        Ok(shown.into_iter().zip(planned).map(|(shown, planned)| installed(shown, planned)).collect())
    }

    /// Loads the code of all, and tries it once for each package and size of memory.
    async fn load_all(&self, requests: &[Request], planned: &[Planned]) -> Answer<Vec<Arc<LoadedApp>>> {
        let mut tried: BTreeMap<_, Arc<LoadedApp>> = BTreeMap::new();
        let mut apps = Vec::with_capacity(requests.len());
        for (at, ((request, known), planned)) in requests.iter().zip(planned).enumerate() {
            let limits = &planned.plan.limits;
            let app = match tried.get(&(request.package, limits.memory)) {
                Some(app) => Arc::clone(app),
                None => self.load(known, limits).await.map_err(|error| {
                    several::of_item(load_problem(&error), at, &request.id, requests.len())
                })?,
            };
            tried.insert((request.package, limits.memory), Arc::clone(&app));
            apps.push(app);
        }
        Ok(apps)
    }

    /// Checks what may have changed since the plan, and writes the record.
    async fn write(
        self: &Arc<Self>,
        requests: &[Request],
        new: Vec<New>,
        (place, routes): (OwnedSemaphorePermit, Vec<PreparedRoutes>),
    ) -> Answer<Vec<crate::api::facade::Installation>> {
        let mut given = self.admin.installing.lock().await;
        let asked: Vec<_> = requests.iter().map(|(request, _)| request).collect();
        self.check_free(&asked)?;
        self.known_or_422(&asked)?;
        self.check_circles(&new)?;
        let (mut records, mut apps) = (Vec::with_capacity(new.len()), Vec::with_capacity(new.len()));
        for ((request, known), New { installation: mut new, app }) in requests.iter().zip(new) {
            // The fold learns of a generation only with its record: the next one given must not wait for that.
            *given = self.shared.last_generation().max(*given).next();
            new.installation.generation = *given;
            if request.from == StartFrom::Now {
                new.revision.from = self.shared.journal.last().next();
            }
            let cursor = Sequence(new.revision.from.0 - 1);
            new.meta = first_meta(cursor, &known.manifest, &new.revision, self.shared.clock.now());
            records.push(new);
            apps.push(app);
        }
        let generations = records.iter().map(|new| new.installation.generation);
        self.shared.keep_routes(generations.zip(routes).collect());
        let installed = self.change(AdminRecord::Installed(records)).await;
        self.shared.keep_routes(BTreeMap::new());
        drop(place);
        installed?;
        let mut lanes = Vec::with_capacity(apps.len());
        for ((request, _), app) in requests.iter().zip(apps) {
            let lane = self.lane(&request.id)?;
            lane.set_app(app);
            self.lanes.wake(&lane);
            lanes.push(lane);
        }
        drop(given);
        self.all_shown(lanes).await
    }

    /// Matches the points to the installations' inputs, so that the fold needn't. With the place that it takes until
    /// the record is written: it may need much memory.
    async fn routes(
        self: &Arc<Self>,
        bindings: Vec<Arc<Bindings>>,
    ) -> Answer<(OwnedSemaphorePermit, Vec<PreparedRoutes>)> {
        let place = Arc::clone(&self.admin.planning).acquire_owned().await;
        let place = place.map_err(|error| problems::internal(&error))?;
        let node = Arc::clone(self);
        let routes = read_aside(&self.shared, move |shared| {
            let prepare = |bindings: &Arc<Bindings>| {
                let inputs = &bindings.inputs;
                shared.prepare_routes(inputs, || {
                    let found = node.paths.read_by(&shared.points, inputs);
                    (found.numbers, found.seen)
                })
            };
            Ok::<_, Infallible>(bindings.iter().map(prepare).collect())
        });
        Ok((place, routes.await.map_err(|error| problems::internal(&error))?))
    }

    /// Each id is free, and none comes twice.
    fn check_free(&self, requests: &[&InstallRequest]) -> Answer<()> {
        let mut ids: BTreeSet<InstallationId> = BTreeSet::new();
        several::each(requests, |InstallRequest { id, .. }| {
            let problem = if self.lanes.of(id).is_some() {
                format!("the installation {id} exists already; choose another id or uninstall it")
            } else if !ids.insert(id.clone()) {
                format!("the id {id} stands in the list twice; give each installation an id of its own")
            } else {
                return Ok(());
            };
            Err(Problem::conflict("exists", problem).at(Place::field("id")))
        })
        .map(drop)
    }

    fn known_or_422(&self, requests: &[&InstallRequest]) -> Answer<Vec<Arc<KnownPackage>>> {
        several::each(requests, |request| {
            self.known(request.package).ok_or_else(|| {
                Problem::refused("unknown-package", format!("there is no package {}", request.package))
                    .at(Place::field("package"))
                    .hint("Upload it with POST /v1/packages, or `ironloom install FILE`.")
            })
        })
    }

    /// Another install may have closed a circle since the plan was made.
    fn check_circles(&self, new: &[New]) -> Answer<()> {
        let mut wiring = Wiring::default();
        several::each(new, |New { installation, .. }| {
            let (id, bindings) = (&installation.installation.id, &installation.revision.bindings);
            match find_cycle(id, bindings, &(&*self.lanes, &wiring)) {
                None => wiring.insert(id, bindings),
                Some(circle) => return Err(refused(&circle.into())),
            }
            Ok(())
        })
        .map(drop)
    }
}

impl New {
    /// As planned, without a generation yet.
    fn of(
        (request, known): &Request,
        planned: &Planned,
        code: Arc<LoadedApp>,
        contexts: &Contexts,
        now: Timestamp,
    ) -> Self {
        let Planned { plan, cursor, .. } = planned;
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
            bindings: Arc::clone(&plan.bindings),
            grants: plan.grants.clone(),
            settings: Arc::new(plan.settings.clone()),
            limits: plan.limits.clone(),
            timezone: plan.timezone.clone(),
        };
        let meta = first_meta(*cursor, &known.manifest, &revision, now);
        let app = App { code, context: contexts.of(&known.manifest, &revision) };
        Self { installation: NewInstallation { installation, revision, meta }, app }
    }

    /// What it would be.
    fn show(&self, manifest: &Manifest) -> crate::api::facade::Installation {
        let NewInstallation { installation, revision, meta } = &self.installation;
        let state = InstallationState::Starting;
        super::installations::show(installation, revision, manifest, meta, state, Lag::default())
    }
}

/// What is told of one that is installed, or would be.
fn installed(installation: crate::api::facade::Installation, planned: Planned) -> Installed {
    let Planned { plan, matches, backlog, .. } = planned;
    let mut warnings = plan.warnings;
    if !plan.grants.is_empty() {
        let text = "this version doesn't send set-points: the grant is stored, but every request is refused";
        warnings.push(text.to_owned());
    }
    let (backlog, backlog_at_least) = (backlog.readings, backlog.at_least);
    Installed { installation, backlog, backlog_at_least, matches, warnings }
}

fn refused(problems: &Problems) -> Problem {
    problems::all("install", "the app can't be installed as asked", problems)
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
