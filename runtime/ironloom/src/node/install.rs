//! Installing, one app or many: planned, counted and loaded without a lock, then checked once more and written as
//! one record, so that all of them are installed or none is.

mod adopt;
mod plan;
mod several;

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use self::adopt::Moment;
pub(super) use self::plan::Counted;
use self::plan::{List, Planned};
pub(super) use self::plan::{SitePoints, site, too_many_shapes};
use self::several::Wrong;
use super::contexts::Contexts;
use super::kept::Kept;
use super::packages::load_problem;
use super::trust::Named;
use super::{Node, found_aside, problems};
use crate::api::facade::{
    Answer, InstallRequest, InstallationState, Installed, Lag, Place, Problem, StartFrom,
};
use crate::aside::aside;
use crate::config::Config;
use crate::fold::KnownPackage;
use crate::fold::routes::PreparedRoutes;
use crate::lanes::{App, Lane};
use crate::records::admin::{AdminRecord, NewInstallation};
use crate::records::installation::{Installation, Revision, Standing};
use crate::records::lane::{LaneMeta, Reached};
use ironloom_apps::cycles::find_cycle;
use ironloom_apps::manifest::{Manifest, Timer};
use ironloom_apps::wiring::Wiring;
use ironloom_sandbox::LoadedApp;
use ironloom_storage::failpoint;
use ironloom_types::clock::Timestamp;
use ironloom_types::ids::{
    self, Digest, Generation, InstallationId, LastGenerations, Sequence, SlotName, TenantId,
};

/// A request with the package that it names.
type Request = (InstallRequest, Arc<KnownPackage>);

/// An installation that is about to be.
struct New {
    installation: NewInstallation,
    app: App,
    /// Its inputs that match points.
    inputs: Vec<SlotName>,
}

/// Whose installations these are: one request is one tenant's.
pub(super) fn tenant_of<'r>(requests: impl IntoIterator<Item = &'r InstallRequest>) -> TenantId {
    requests.into_iter().next().map_or(TenantId::NOBODY, |request| request.id.tenant())
}

impl Node {
    /// The next generation of a tenant, for whoever notes it among those that are `given`: the fold learns of one only with
    /// its record, and the next one must not wait for that.
    pub(super) fn next_generation(&self, given: &LastGenerations, tenant: TenantId) -> Generation {
        self.shared.last_generation(tenant).max(given.of(tenant)).next()
    }

    /// Installs all, or none and says why; or says what an install would do.
    pub(super) async fn add_installations(
        self: Arc<Self>,
        tenant: TenantId,
        mut requests: Vec<InstallRequest>,
        dry_run: bool,
    ) -> Answer<Vec<Installed>> {
        self.check_space()?;
        self.check_installations(tenant, requests.len())?;
        for request in &mut requests {
            request.id = request.id.clone().within(tenant);
        }
        if !dry_run {
            requests.iter().enumerate().try_for_each(|(at, request)| {
                check_new_publisher(request)
                    .map_err(|problem| several::of_item(problem, at, &request.id, requests.len()))
            })?;
        }
        let packages: BTreeSet<_> = requests.iter().map(|request| request.package).collect();
        let _held: Vec<_> = packages.into_iter().map(|package| self.admin.last_use.hold(package)).collect();
        let List { place, requests, planned, routes, config } = self.planned(requests).await?;
        let apps = self.load_all(&requests, &planned).await?;
        let moment = self.moment(tenant);
        let new = requests.iter().zip(&planned).zip(apps);
        let new: Vec<New> = new
            .map(|((request, planned), code)| New::of(request, planned, code, &self.admin.contexts, moment))
            .collect();
        let shown = if dry_run {
            new.iter().zip(&requests).map(|(new, (_, known))| Some(new.show(known))).collect()
        } else {
            self.write(&requests, new, routes, &config).await?
        };
        drop(place);
        let told = shown.into_iter().zip(planned);
        let told: Vec<_> =
            told.filter_map(|(shown, planned)| Some(installed(shown?, planned, dry_run))).collect();
        if told.is_empty() {
            return Err(Problem::conflict("gone", "it was uninstalled before its install was answered"));
        }
        Ok(told)
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
            if let Some(kept) = &planned.kept {
                let checked = kept.check_form(known, &app);
                checked.map_err(|problem| several::of_item(problem, at, &request.id, requests.len()))?;
            }
            tried.insert((request.package, limits.memory), Arc::clone(&app));
            apps.push(app);
        }
        Ok(apps)
    }

    /// Checks what may have changed since the plan, and writes the record. Shows all but those that are uninstalled
    /// already.
    async fn write(
        self: &Arc<Self>,
        requests: &[Request],
        new: Vec<New>,
        routes: Vec<PreparedRoutes>,
        config: &Config,
    ) -> Answer<Vec<Option<crate::api::facade::Installation>>> {
        let mut given = self.installing_under(config).await?;
        self.check_again(requests, &new)?;
        let kept = self.kept_again(requests).await?;
        let mut trust = self.trust(tenant_of(requests.iter().map(|(request, _)| request)));
        let (mut records, mut apps) = (Vec::with_capacity(new.len()), Vec::with_capacity(new.len()));
        for (at, (((request, known), mut new), kept)) in requests.iter().zip(new).zip(kept).enumerate() {
            let generation = self.next_generation(&given, request.id.tenant());
            given.note(generation);
            let owner = trust.check(known, Named::of(request));
            let is_theirs = kept.as_ref().map_or(Ok(()), |kept| trust.check_same_publisher(&kept.ended));
            let owner = is_theirs
                .and(owner)
                .map_err(|problem| several::of_item(problem, at, &request.id, requests.len()))?;
            let NewInstallation { installation, revision, meta, .. } = &mut new.installation;
            (installation.begun, revision.begun) = (generation, generation);
            installation.publisher = trust.owner_of(&installation.app);
            match kept {
                // Another one than was planned with.
                Some(kept) if kept.generation != installation.generation => {
                    return Err(several::of_item(
                        uninstalled_again(&request.id),
                        at,
                        &request.id,
                        requests.len(),
                    ));
                }
                Some(kept) => new.adopt(&kept, &known.manifest, self.moment(request.id.tenant())),
                None => {
                    installation.generation = generation;
                    let from = request.from.unwrap_or_default();
                    if from == StartFrom::Now {
                        revision.from = self.shared.journal.of(request.id.tenant()).last().next();
                    }
                    let cursor = Sequence(revision.from.0 - 1);
                    *meta = first_meta((from, cursor), &known.manifest, revision, self.shared.clock.now());
                }
            }
            new.installation.owner = owner;
            apps.push((new.installation.installation.generation, new.app));
            records.push(new.installation);
        }
        let routes = records.iter().map(|new| new.installation.generation).zip(routes).collect();
        failpoint("install-loaded");
        self.change_with(AdminRecord::Installed(records), routes).await?;
        failpoint("install-recorded");
        let lanes: Vec<_> =
            apps.into_iter().map(|(generation, app)| self.start_new(generation, app)).collect();
        drop(given);
        let node = Arc::clone(self);
        let shown =
            aside(move || lanes.iter().map(|lane| lane.as_ref().map(|lane| node.show_lane(lane))).collect());
        shown.await.map_err(|error| problems::internal(&error))
    }

    /// Reads again what is adopted: while installs are locked it stays as it is.
    async fn kept_again(self: &Arc<Self>, requests: &[Request]) -> Answer<Vec<Option<Kept>>> {
        if requests.iter().all(|(request, _)| request.adopt.is_none()) {
            return Ok(requests.iter().map(|_| None).collect());
        }
        let (node, requests) = (Arc::clone(self), requests.to_vec());
        found_aside(move || {
            let mut wrong = Wrong::none_of(requests.iter().map(|(request, _)| &request.id));
            let all = requests.iter().enumerate();
            let kept = all.map(|(at, (request, known))| {
                wrong.take(at, node.to_adopt(request, &known.manifest)).flatten()
            });
            let kept = kept.collect();
            wrong.check().map(|()| kept)
        })
        .await
    }

    /// Gives a lane its code. One that somebody was quick to uninstall is passed over: the others of its list run all
    /// the same.
    pub(super) fn start_new(&self, generation: Generation, app: App) -> Option<Arc<Lane>> {
        let lane = self.lanes.of_generation(generation)?;
        lane.set_app(lane.newest().number(), app);
        self.lanes.wake(&lane);
        Some(lane)
    }

    /// Checks what needs no plan: each id is free, none comes twice, and the packages are there. Returns those that are.
    fn known_of<'r>(
        &self,
        requests: impl Iterator<Item = &'r InstallRequest> + Clone,
        wrong: &mut Wrong<'r>,
    ) -> Vec<Option<Arc<KnownPackage>>> {
        let mut given = BTreeSet::new();
        let mut trust = self.trust(tenant_of(requests.clone()));
        let known = requests.enumerate().map(|(at, request)| {
            let InstallRequest { id, package, .. } = request;
            let problem = if self.lanes.of(id).is_some() {
                Some(format!("the installation {id} exists already; choose another id or uninstall it"))
            } else if !given.insert(id) {
                Some(format!("the id {id} stands in the list twice; give each installation an id of its own"))
            } else {
                None
            };
            if let Some(problem) = problem {
                wrong.take::<()>(at, Err(Problem::conflict("exists", problem).at(Place::field("id"))));
            }
            let known = wrong.take(at, self.known_or_422(id.tenant(), *package))?;
            wrong.take(at, trust.check(&known, Named::of(request)))?;
            Some(known)
        });
        known.collect()
    }

    pub(super) fn known_or_422(&self, tenant: TenantId, package: Digest) -> Answer<Arc<KnownPackage>> {
        self.known_or_404(tenant, package).map_err(|_| {
            Problem::refused("unknown-package", format!("there is no package {package}"))
                .at(Place::field("package"))
                .hint("Upload it with POST /v1/packages, or `ironloom install FILE`.")
        })
    }

    /// Checks what others may have changed since the plan was made: ids, packages, and circles that are closed now.
    fn check_again(&self, requests: &[Request], new: &[New]) -> Answer<()> {
        let mut wrong = Wrong::none_of(requests.iter().map(|(request, _)| &request.id));
        self.known_of(requests.iter().map(|(request, _)| request), &mut wrong);
        let mut wiring = Wiring::default();
        for (at, New { installation: NewInstallation { installation, revision, .. }, .. }) in
            new.iter().enumerate()
        {
            let (id, bindings) = (&installation.id, &revision.bindings);
            match find_cycle(id, bindings, &(&*self.lanes, &wiring)) {
                None => wiring.insert(id, bindings),
                Some(circle) => drop(wrong.take::<()>(at, Err(problems::not_as_asked(&circle.into())))),
            }
        }
        wrong.check()
    }
}

impl New {
    /// As planned, without a generation yet.
    fn of(
        (request, known): &Request,
        planned: &Planned,
        code: Arc<LoadedApp>,
        contexts: &Contexts,
        moment: Moment,
    ) -> Self {
        let Planned { plan, cursor, kept, .. } = planned;
        let installation = Installation {
            id: request.id.clone(),
            generation: Generation(0),
            begun: Generation(0),
            app: known.manifest.id.clone(),
            version: known.manifest.version.clone(),
            package: request.package,
            standing: Standing::Running,
            revision: ids::Revision(1),
            trial: None,
            went_back: None,
            publisher: None,
        };
        let revision = Revision {
            number: ids::Revision(1),
            begun: Generation(0),
            from: cursor.next(),
            package: request.package,
            bindings: Arc::clone(&plan.bindings),
            grants: plan.grants.clone(),
            settings: Arc::new(plan.settings.clone()),
            limits: plan.limits.clone(),
            timezone: plan.timezone.clone(),
            keep_up: request.keep_up,
        };
        let from = request.from.unwrap_or_default();
        let meta = first_meta((from, *cursor), &known.manifest, &revision, moment.now);
        let app = App { code, context: contexts.of(&known.manifest, &revision, &revision.limits) };
        let inputs = plan.inputs.iter().filter(|input| input.points > 0).map(|input| input.name.clone());
        let inputs = inputs.collect();
        let installation = NewInstallation { installation, revision, meta, adopted: None, owner: None };
        let mut new = Self { installation, app, inputs };
        if let Some(kept) = kept {
            new.adopt(kept, &known.manifest, moment);
        }
        new
    }

    /// Shows it as it would be.
    fn show(&self, known: &KnownPackage) -> crate::api::facade::Installation {
        let NewInstallation { installation, revision, meta, .. } = &self.installation;
        let state = InstallationState::Starting;
        let lag = Lag::default();
        let shown = super::installations::show(installation, revision, &known.manifest, meta, state, lag);
        crate::api::facade::Installation { signers: known.record.signers.clone(), ..shown }
    }
}

/// The answer about one that is installed, or would be.
fn installed(installation: crate::api::facade::Installation, planned: Planned, dry_run: bool) -> Installed {
    let Planned { plan, matches, backlog, consent, .. } = planned;
    let warnings = plan.warnings;
    let (backlog, backlog_at_least) = (backlog.readings, backlog.at_least);
    let consent = dry_run.then_some(consent);
    Installed { installation, backlog, backlog_at_least, matches, warnings, consent }
}

/// Somebody else's app under the id of one that is known is consented to as a whole, as data that was shown.
fn check_new_publisher(request: &InstallRequest) -> Answer<()> {
    if request.new_publisher.is_none() || request.consent.is_some() {
        return Ok(());
    }
    let detail = "the id goes over to another publisher only with a consent to all that the app gets";
    Err(Problem::refused("consent", detail)
        .at(Place::field("consent"))
        .hint("A dry run shows what it would get, with the digest to consent to."))
}

/// 409: what was to be adopted isn't the newest any more.
fn uninstalled_again(id: &InstallationId) -> Problem {
    let detail = format!("another {id} was installed and uninstalled in the meantime; nothing is adopted");
    Problem::conflict("gone", detail).at(Place::field("adopt")).hint("Send the request again.")
}

/// The place in the journal where a generation begins: behind `cursor`, which is where `from` says.
pub(super) fn first_meta(
    (from, cursor): (StartFrom, Sequence),
    manifest: &Manifest,
    revision: &Revision,
    now: Timestamp,
) -> LaneMeta {
    let zone = revision.zone();
    let due = |timer: &Timer| Some((timer.name.clone(), timer.cron.next_after(now, &zone)?));
    // Invocations for readings of old have the time of these.
    let time = if from == StartFrom::Now { now } else { Timestamp(0) };
    LaneMeta {
        cursor,
        time,
        next_dead_letter: 1,
        next_alarm: 1,
        cron_due: manifest.timers.iter().filter_map(due).collect(),
        began: Reached { sequence: cursor, time },
        ..LaneMeta::default()
    }
}
