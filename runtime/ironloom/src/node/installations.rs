//! Installations: planned as a whole, written as one record, and changed only between two invocations.

use std::collections::BTreeMap;
use std::sync::Arc;

use super::packages::{load_problem, setting_value};
use super::{Node, problems};
use crate::api::facade::{
    Answer, Backlog, Counters, InstallRequest, Installation, InstallationState, Installed, Lag, LastError,
    Match, Page, PageQuery, Patterns, Problem, StartFrom,
};
use crate::fold::KnownPackage;
use crate::lanes::{App, Lane};
use crate::records::admin::AdminRecord;
use crate::records::installation::{self, Revision, Standing};
use crate::records::lane::{LaneMeta, Trouble};
use ironloom_apps::allowance::PartialLimits;
use ironloom_apps::binding::Bindings;
use ironloom_apps::manifest::Manifest;
use ironloom_apps::plan::{InputPlan, KnownPoint, Plan, Request, Site, plan_install};
use ironloom_sandbox::{AppContext, OutputKind, OutputSlot};
use ironloom_storage::journal::Filter;
use ironloom_types::clock::{SECOND, host_time};
use ironloom_types::ids::{self, InstallationId, PointNumber, Sequence, SlotName};

impl Node {
    /// The lane of an installation, or 404.
    pub(super) fn lane(&self, id: &InstallationId) -> Answer<Arc<Lane>> {
        let missing = || {
            Problem::not_found(format!("there is no installation {id}")).hint("`ironloom list` shows them.")
        };
        self.lanes.of(id).ok_or_else(missing)
    }

    /// Installs, or says what an install would do.
    pub(super) async fn add_installation(
        self: &Arc<Self>,
        request: InstallRequest,
        dry_run: bool,
    ) -> Answer<Installed> {
        self.check_space()?;
        let _turn = self.admin.lock().await;
        if self.lanes.of(&request.id).is_some() {
            let detail =
                format!("there is an installation {} already; choose another id or uninstall it", request.id);
            return Err(Problem::conflict("exists", detail));
        }
        let known = self.known_or_404(request.package)?;
        let (node, asked, package) = (Arc::clone(self), request.clone(), Arc::clone(&known));
        let planned = tokio::task::spawn_blocking(move || node.plan(&asked, &package.manifest));
        let (plan, cursor, backlog) = planned.await.map_err(|error| problems::internal(&error))??;
        let matches = plan.inputs.iter().map(|input| self.matches(input)).collect();
        let generation = self.shared.last_generation().next();
        let installation = installation::Installation {
            id: request.id.clone(),
            generation,
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
        let loaded = self.load(&known, &revision.limits).await.map_err(|error| load_problem(&error))?;
        let meta = first_meta(cursor, &known.manifest, &revision, self.shared.clock.now());
        let mut warnings = plan.warnings;
        if !revision.grants.is_empty() {
            let text = "set-points are not sent by this version: what is granted is kept, and every request is refused";
            warnings.push(text.to_owned());
        }
        if dry_run {
            let state = InstallationState::Starting;
            let shown = show(&installation, &revision, &known.manifest, &meta, state, Lag::default());
            return Ok(Installed { installation: shown, backlog, matches, warnings });
        }
        let context = Arc::new(context(&known.manifest, &revision));
        self.change(AdminRecord::Installed {
            installation: Box::new(installation),
            revision: Box::new(revision),
            meta: Box::new(meta),
        })
        .await?;
        let lane = self.lane(&request.id)?;
        lane.set_app(App { code: loaded.app, context });
        self.lanes.wake(&lane);
        Ok(Installed { installation: self.show_lane(&lane), backlog, matches, warnings })
    }

    /// The plan, where the lane begins, and how many readings wait for it there.
    fn plan(&self, request: &InstallRequest, manifest: &Manifest) -> Answer<(Plan, Sequence, u64)> {
        let lanes = self.lanes.all();
        let others: Vec<(InstallationId, &Bindings)> =
            lanes.iter().map(|lane| (lane.id.clone(), &lane.revision.bindings)).collect();
        let bindings =
            request.bindings.iter().map(|(slot, patterns)| (slot.to_string(), patterns.as_slice().to_vec()));
        let limits = PartialLimits {
            memory: request.limits.memory.map(|bytes| bytes.0),
            cpu: request.limits.cpu.map(|span| span.0),
            state: request.limits.state.map(|bytes| bytes.0),
            share: request.limits.share.map(|span| span.0),
        };
        let asked = Request {
            id: request.id.clone(),
            bindings: bindings.collect(),
            grants: request.grants.clone(),
            settings: request
                .settings
                .iter()
                .map(|(name, value)| (name.to_string(), value.clone()))
                .collect(),
            limits,
            timezone: request.timezone.clone(),
        };
        let plan = {
            let names = self.shared.points.names();
            let points = names.iter().map(|(number, point)| KnownPoint {
                number,
                path: &point.path,
                unit: point.unit.as_deref(),
            });
            let site = Site { timezone: &self.config.site.timezone, limits: &self.config.limits };
            plan_install(&asked, manifest, site, points, &others)
                .map_err(|found| problems::all("install", "the app can't be installed as asked", &found))?
        };
        let journal = &self.shared.journal;
        let cursor = match request.from {
            StartFrom::Now => journal.last(),
            StartFrom::Beginning => Sequence(journal.first().0 - 1),
            StartFrom::Time(time) => {
                let first = journal.first_since(time).map_err(|error| problems::internal(&error))?;
                Sequence(first.0 - 1)
            }
        };
        let backlog = self.count_backlog(cursor, &plan)?;
        Ok((plan, cursor, backlog))
    }

    fn count_backlog(&self, cursor: Sequence, plan: &Plan) -> Answer<u64> {
        if cursor >= self.shared.journal.last() {
            return Ok(0);
        }
        let points: Vec<PointNumber> = {
            let names = self.shared.points.names();
            let patterns: Vec<_> = plan.bindings.inputs.iter().flat_map(|input| &input.patterns).collect();
            let matching =
                names.iter().filter(|(_, point)| patterns.iter().any(|pattern| pattern.matches(&point.path)));
            matching.map(|(number, _)| number).collect()
        };
        let mut filter = Filter::after(cursor).of_points(points);
        let mut count = 0;
        while let Some(chunk) =
            self.shared.journal.find(&filter).map_err(|error| problems::internal(&error))?
        {
            count += filter.rows(&chunk, usize::MAX).len() as u64;
            filter.after = Sequence(chunk.next_sequence().0 - 1);
        }
        Ok(count)
    }

    fn matches(&self, input: &InputPlan) -> Match {
        let samples = input.samples.iter().filter_map(|number| self.point_item(*number)).collect();
        Match { input: input.name.to_string(), points: input.points, samples }
    }

    /// The installations by id.
    pub(super) fn list_installations(&self, page: &PageQuery) -> Page<Installation> {
        let mut lanes = self.lanes.all();
        lanes.retain(|lane| page.after.as_ref().is_none_or(|after| lane.id.as_str() > after.as_str()));
        lanes.sort_by(|a, b| a.id.cmp(&b.id));
        let next = lanes.get(page.limit).map(|_| lanes[page.limit - 1].id.to_string());
        Page { items: lanes.iter().take(page.limit).map(|lane| self.show_lane(lane)).collect(), next }
    }

    /// An installation, as the API shows it.
    pub(super) fn show_lane(&self, lane: &Lane) -> Installation {
        let installation = lane.installation();
        let mut meta = lane.book().meta().clone();
        let waiting = {
            let pace = lane.pace.lock();
            meta.last_error = pace.trouble.clone().or(meta.last_error);
            pace.waits_until().is_some_and(|until| until > std::time::Instant::now())
        };
        let state = if meta.quarantine.is_some() {
            InstallationState::Quarantined
        } else if installation.standing == Standing::Paused {
            InstallationState::Paused
        } else if lane.app().is_none() {
            InstallationState::Starting
        } else if waiting {
            InstallationState::Waiting
        } else {
            InstallationState::Running
        };
        show(&installation, &lane.revision, &lane.manifest, &meta, state, self.lag(lane))
    }

    /// How far a lane is behind. Where it is behind its notes, every reading of the journal from there on
    /// counts: which of them are its own shows when it comes to them.
    fn lag(&self, lane: &Lane) -> Lag {
        let (readings, head, behind) = {
            let queue = lane.queue.lock();
            (queue.noted() as u64, queue.head_time(), queue.behind_from())
        };
        let unknown = behind.map_or(0, |behind| (self.shared.journal.last().0 + 1).saturating_sub(behind.0));
        let readings = readings + unknown;
        let oldest = head.or_else(|| {
            let chunk = self.shared.journal.chunk_from(behind?).ok()??;
            Some(chunk.time(chunk.row_after(Sequence(behind?.0 - 1)).min(chunk.len() - 1)))
        });
        let seconds = oldest
            .map_or(0.0, |oldest| self.shared.clock.now().0.saturating_sub(oldest.0) as f64 / SECOND as f64);
        Lag { readings, seconds, oldest }
    }

    /// Uninstalls, once the invocation under way has ended.
    pub(super) async fn remove_installation(&self, id: InstallationId, purge: bool) -> Answer<()> {
        let _admin = self.admin.lock().await;
        let lane = self.lane(&id)?;
        let turn = self.turn(&lane).await;
        self.change(AdminRecord::Uninstalled { id, generation: lane.generation, at: host_time(), purge })
            .await?;
        drop(turn);
        Ok(())
    }

    /// Pauses.
    pub(super) async fn pause_installation(&self, id: InstallationId) -> Answer<Installation> {
        let _admin = self.admin.lock().await;
        let lane = self.lane(&id)?;
        let turn = self.turn(&lane).await;
        if lane.installation().standing != Standing::Paused {
            let meta = Box::new(lane.book().meta().clone());
            let (generation, standing) = (lane.generation, Standing::Paused);
            self.change(AdminRecord::Standing { id, generation, standing, meta }).await?;
        }
        drop(turn);
        Ok(self.show_lane(&lane))
    }

    /// Resumes: an admin has looked at what went wrong, so that it counts no longer.
    pub(super) async fn resume_installation(
        &self,
        id: InstallationId,
        backlog: Backlog,
    ) -> Answer<Installation> {
        let _admin = self.admin.lock().await;
        let lane = self.lane(&id)?;
        let turn = self.turn(&lane).await;
        let mut meta = lane.book().meta().clone();
        meta.quarantine = None;
        meta.trouble = Trouble::default();
        meta.last_error = None;
        let last = self.shared.journal.last();
        if backlog == Backlog::Drop {
            meta.cursor = last;
        }
        let (generation, standing) = (lane.generation, Standing::Running);
        self.change(AdminRecord::Standing { id, generation, standing, meta: Box::new(meta) }).await?;
        lane.pace.lock().begin_anew();
        drop(turn);
        Ok(self.show_lane(&lane))
    }

    /// Loads the code of all lanes, at a start.
    pub(super) async fn load_lanes(&self) {
        for lane in self.lanes.all() {
            if lane.app().is_some() {
                continue;
            }
            let Some(known) = self.known(lane.revision.package) else { continue };
            match self.load(&known, &lane.revision.limits).await {
                Ok(loaded) => {
                    if loaded.compiled != known.record.compiled {
                        self.note_compiled(&known, loaded.compiled).await;
                    }
                    let context = Arc::new(context(&lane.manifest, &lane.revision));
                    lane.set_app(App { code: loaded.app, context });
                    self.lanes.wake(&lane);
                }
                Err(error) => {
                    tracing::error!(installation = %lane.id, %error, "the app can't be loaded");
                    let ordinal = lane.book().meta().ordinal;
                    let (kind, message) = ("load".to_owned(), error.to_string());
                    lane.pace.lock().trouble =
                        Some(crate::records::lane::LastError { at: host_time(), kind, message, ordinal });
                }
            }
        }
    }

    /// Drops compiled code of packages and engines that are gone, at a start.
    pub(super) async fn drop_old_code(&self) {
        // Code that was just compiled for a package isn't recorded before the package is.
        let _admin = self.admin.lock().await;
        let keep: Vec<_> = self.shared.packages.read().values().map(|known| known.record.compiled).collect();
        if let Err(error) = self.sandbox.retain(&keep) {
            tracing::warn!(%error, "compiled code that is no longer used could not be removed");
        }
    }

    async fn note_compiled(&self, known: &KnownPackage, compiled: ironloom_types::CompiledRef) {
        let record = AdminRecord::Compiled { package: known.record.digest, compiled };
        if self.change(record).await.is_err() {
            tracing::debug!("the server stops before newly compiled code was noted; it is compiled again");
        }
    }
}

/// Where a generation begins.
fn first_meta(
    cursor: Sequence,
    manifest: &Manifest,
    revision: &Revision,
    now: ironloom_types::clock::Timestamp,
) -> LaneMeta {
    let zone = revision.zone();
    let due = |timer: &ironloom_apps::manifest::Timer| {
        Some((timer.name.clone(), timer.cron.next_after(now, &zone)?))
    };
    LaneMeta {
        cursor,
        time: now,
        next_dead_letter: 1,
        next_alarm: 1,
        cron_due: manifest.timers.iter().filter_map(due).collect(),
        ..LaneMeta::default()
    }
}

/// What each invocation is given of a revision.
fn context(manifest: &Manifest, revision: &Revision) -> AppContext {
    let outputs = manifest.outputs.iter().map(|output| OutputSlot {
        name: output.name.clone(),
        kind: match output.kind {
            ironloom_apps::manifest::OutputKind::Derived => OutputKind::Derived,
            ironloom_apps::manifest::OutputKind::SetPoint => OutputKind::SetPoint,
        },
        value_type: output.value_type.tag(),
    });
    AppContext {
        outputs: outputs.collect(),
        alarms: manifest.alarms.iter().map(|alarm| alarm.name.clone()).collect(),
        timers: manifest.timers.iter().map(|timer| timer.name.clone()).collect(),
        settings: revision.settings.clone(),
        limits: revision.limits.clone(),
    }
}

fn show(
    installation: &installation::Installation,
    revision: &Revision,
    manifest: &Manifest,
    meta: &LaneMeta,
    state: InstallationState,
    lag: Lag,
) -> Installation {
    let settings = manifest.settings.iter().filter_map(|setting| {
        let text = revision.settings.get(setting.name.as_str())?;
        Some((setting.name.clone(), setting_value(setting, text)))
    });
    let bindings: BTreeMap<SlotName, Patterns> = revision
        .bindings
        .asked()
        .into_iter()
        .filter_map(|(slot, patterns)| Some((SlotName::new(&slot).ok()?, Patterns::Many(patterns))))
        .collect();
    let last_error = meta.quarantine.as_ref().map(|quarantine| LastError {
        at: quarantine.at,
        kind: "quarantine".to_owned(),
        message: match &meta.last_error {
            Some(error) => format!("{}; the last was {}: {}", quarantine.reason, error.kind, error.message),
            None => quarantine.reason.clone(),
        },
        ordinal: meta.ordinal,
    });
    let last_error = last_error.or_else(|| {
        meta.last_error.as_ref().map(|error| LastError {
            at: error.at,
            kind: error.kind.clone(),
            message: error.message.clone(),
            ordinal: error.ordinal,
        })
    });
    let counters = meta.counters;
    Installation {
        id: installation.id.clone(),
        app: installation.app.clone(),
        version: installation.version.clone(),
        package: installation.package,
        state,
        revision: installation.revision,
        generation: installation.generation,
        cursor: meta.cursor,
        lag,
        last_error,
        counters: Counters {
            readings: counters.readings,
            invocations: counters.invocations,
            failures: counters.failures,
            dead_letters: counters.dead_letters,
            derived: counters.derived,
            intents: counters.intents,
            dead_letters_dropped: counters.dead_letters_dropped,
        },
        bindings,
        grants: revision.grants.clone(),
        settings: settings.collect(),
        limits: revision.limits.clone(),
        timezone: revision.timezone.clone(),
    }
}
