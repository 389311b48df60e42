//! Another version of an installation's app: what it must be, and what ends with it.

use std::collections::BTreeMap;
use std::sync::Arc;

use tokio::sync::OwnedSemaphorePermit;

use crate::api::facade::{Answer, Place, Problem, RETRY_SOON};
use crate::fold::KnownPackage;
use crate::fold::durable::{Book, Term};
use crate::lanes::run::{MigrateError, Migrated};
use crate::lanes::{App, Lane};
use crate::node::copies::Held;
use crate::node::trust::Named;
use crate::node::{Node, problems};
use crate::records::admin;
use crate::records::alarm::{AlarmRecord, ClearedBy};
use crate::records::installation::{Installation, Revision, Trial};
use crate::records::lane::LaneMeta;
use crate::records::owner::AppOwner;
use ironloom_apps::binding::Bindings;
use ironloom_apps::manifest::Manifest;
use ironloom_sandbox::LoadedApp;
use ironloom_types::clock::Timestamp;
use ironloom_types::ids::{Digest, SlotName};

impl Node {
    /// The trial of an installation that another revision begins: of the copy that was made for it, or the one that it had.
    pub(super) fn trial_behind(&self, before: Option<Trial>, copy: Option<&Held>) -> Option<Trial> {
        let is_kept = |trial: &Trial| self.shared.copies.get(trial.copy).is_some();
        copy.map(|copy| self.trial(copy.generation)).or(before.filter(is_kept))
    }

    /// Starts the revisions of a lane that wait for this code. Others are loaded aside.
    pub(super) fn start_terms(&self, lane: &Arc<Lane>, known: &KnownPackage, code: &Arc<LoadedApp>) {
        for term in lane.without_app() {
            if term.revision.package == known.record.digest
                && term.limits.memory == lane.newest().limits.memory
            {
                self.start_lane(lane, &term, Arc::clone(code));
            }
        }
    }

    /// The package that an installation is to have: of the same app, by the same publisher.
    pub(super) fn next_package(&self, lane: &Lane, package: Digest) -> Answer<Arc<KnownPackage>> {
        let known = self.known_or_422(lane.id.tenant(), package)?;
        let (app, is) = (&lane.installation().app, &known.manifest);
        if is.id == *app {
            let mut trust = self.trust(lane.id.tenant());
            trust.check(&known, Named::Nobody)?;
            trust.check_same_publisher(&lane.installation())?;
            return Ok(known);
        }
        let id = &lane.id;
        let detail = format!(
            "installation {id} is of the app {app}, and the package is {} {}: an app doesn't become another",
            is.id, is.version
        );
        Err(Problem::refused("other-app", detail)
            .at(Place::field("package"))
            .hint("Install it beside this one, under an id of its own."))
    }

    /// Looks once more whose the app's id is, and notes that its installation is theirs. Gives the owner where that is
    /// another key from here on.
    pub(in crate::node) fn next_owner(
        &self,
        known: &KnownPackage,
        installation: &mut Installation,
    ) -> Answer<Option<Box<AppOwner>>> {
        let mut trust = self.trust(installation.id.tenant());
        let owner = trust.check(known, Named::Nobody)?;
        trust.check_same_publisher(installation)?;
        installation.publisher = trust.owner_of(&installation.app);
        Ok(owner)
    }
}

/// The problem where a migration failed: the version before goes on.
fn migrate_problem(lane: &Lane, manifest: &Manifest, error: &MigrateError) -> Problem {
    let (id, version) = (&lane.id, &manifest.version);
    let detail = format!(
        "version {version} could not bring the state of {id} into its form, and nothing is changed: {error}"
    );
    match error {
        MigrateError::Host(_) => problems::internal(&detail),
        MigrateError::Interrupted => Problem::conflict("interrupted", detail),
        _ => Problem::refused("migrate", detail)
            .at(Place::field("package"))
            .hint(format!("`ironloom logs {id}` has what it has logged.")),
    }
}

/// Says that a migration is over, whatever comes of it.
struct Migrating<'l>(&'l Lane);

impl Drop for Migrating<'_> {
    fn drop(&mut self) {
        self.0.set_migrates(false);
    }
}

impl Node {
    /// Has a version with the role `lifecycle` bring the state into its form, on a copy. It gives its place for planning
    /// back: others don't wait for an app. What it has planned is held by one installation at a time.
    /// Whoever calls this has the lane's turn.
    pub(super) async fn migrated(
        &self,
        lane: &Arc<Lane>,
        before: &Term,
        (known, revision): (&KnownPackage, &Revision),
        code: &Arc<LoadedApp>,
        place: Option<OwnedSemaphorePermit>,
    ) -> Answer<Migrated> {
        let busy = |_| {
            Problem::unavailable("busy", "the state of another installation is being migrated", RETRY_SOON)
        };
        let _only_one = self.admin.migrating.try_lock().map_err(busy)?;
        drop(place);
        let context = self.admin.contexts.of(&known.manifest, revision, &revision.limits);
        let app = App { code: Arc::clone(code), context };
        lane.set_migrates(true);
        let _migrating = Migrating(lane);
        let revision = Arc::new(revision.clone());
        let migrated = self.runner.migrate(lane, &revision, &app, &before.manifest.version).await;
        migrated.map_err(|error| migrate_problem(lane, &known.manifest, &error))
    }
}

/// Says whether a revision's package brings the state into its form.
pub(super) fn migrates(before: &Term, revision: &Revision, code: &LoadedApp) -> bool {
    revision.package != before.revision.package && code.roles().lifecycle
}

/// Tells the admin that the state gets another form.
pub(super) fn migration_told(before: &Term, manifest: &Manifest) -> String {
    let (was, version) = (&before.manifest.version, &manifest.version);
    format!(
        "the migrate of version {version} gives the state its form, which version {was} may not understand"
    )
}

/// 409 where readings are to run with the old code, which would find the state in the new form.
pub(super) fn check_backlog(lane: &Lane, manifest: &Manifest, at_cursor: Option<bool>) -> Answer<()> {
    if at_cursor != Some(false) || lane.queue.lock().pending().is_none() {
        return Ok(());
    }
    let (id, version) = (&lane.id, &manifest.version);
    let detail = format!(
        "version {version} changes the form of the state, and readings that wait for {id} can't run with the old code then"
    );
    Err(Problem::conflict("backlog", detail)
        .at(Place::field("at_cursor"))
        .hint("Leave at_cursor out, and the new version takes them; or let them be worked off before."))
}

/// What ends with a version that lacks it.
#[derive(Default)]
pub(super) struct Ends {
    /// Alarms, as they are then.
    pub(super) alarms: Vec<AlarmRecord>,
    /// The names of one-shot timers that are set.
    pub(super) timers: Vec<Box<str>>,
}

impl Ends {
    /// What a manifest lacks of what stands in the book.
    pub(super) fn of(book: &Book, manifest: &Manifest, now: Timestamp) -> Self {
        let gone = book.alarms().values().filter(|alarm| manifest.alarm(alarm.code.as_str()).is_none());
        let alarms = gone.cloned().map(|mut alarm| {
            alarm.end(now, ClearedBy::Upgraded);
            alarm
        });
        let timers = book.timers().keys().filter(|_| !manifest.schedule);
        Self { alarms: alarms.collect(), timers: timers.cloned().collect() }
    }

    /// The bookkeeping after it.
    pub(super) fn count(&self, meta: &mut LaneMeta) {
        for alarm in &self.alarms {
            if alarm.state.stands() {
                meta.alarms_standing = meta.alarms_standing.saturating_sub(1);
            }
            meta.episodes.add(alarm.cost());
        }
    }

    fn warnings(&self, version: &str) -> Vec<String> {
        let mut warnings = Vec::new();
        let mut by_code: BTreeMap<&SlotName, (u64, u64)> = BTreeMap::new();
        for alarm in &self.alarms {
            let (active, others) = by_code.entry(&alarm.code).or_default();
            *(if alarm.state.stands() { active } else { others }) += 1;
        }
        warnings.extend(by_code.into_iter().map(|(code, (active, others))| {
            format!(
                "version {version} has no alarm {code}: {active} that are active are cleared, and {others} that aren't any more go to \
                 the history"
            )
        }));
        if !self.timers.is_empty() {
            let count = self.timers.len();
            warnings
                .push(format!("version {version} sets no one-shot timers: {count} that are set are dropped"));
        }
        warnings
    }
}

/// The record of a change: what ends with it, and what a migration has made of the state.
pub(super) fn revised(
    installation: Installation,
    revision: Revision,
    mut meta: LaneMeta,
    Ends { alarms, timers }: Ends,
    migrated: Option<Migrated>,
) -> admin::Revised {
    let mut timers: BTreeMap<_, _> = timers.into_iter().map(|name| (name, None)).collect();
    let mut state = Vec::new();
    if let Some(migrated) = migrated {
        meta.state_bytes = migrated.state_bytes;
        timers.extend(migrated.timers);
        state.extend(migrated.state.into_iter().map(|(key, value)| (key, value.map(Vec::from))));
    }
    let timers = timers.into_iter().collect();
    admin::Revised { installation, revision, meta, alarms, timers, state, owner: None }
}

/// Warnings about a change to another version.
pub(super) fn warnings(lane: &Lane, before: &Term, manifest: &Manifest, bindings: &Bindings) -> Vec<String> {
    let (version, was) = (&manifest.version, &before.manifest);
    let mut warnings = Vec::new();
    if manifest.is_older_than(was) {
        warnings.push(format!(
            "version {version} is older than {}, which it has now: it may not understand the state",
            was.version
        ));
    }
    let new =
        manifest.inputs.iter().filter(|input| input.optional && was.input(input.name.as_str()).is_none());
    let bound = |name: &str| bindings.input(name).is_some();
    warnings.extend(new.filter(|input| !bound(input.name.as_str())).map(|input| {
        let name = &input.name;
        format!("version {version} has the optional input {name}, which is new: --bind {name}=… binds it")
    }));
    let ended = was.timers.iter().filter(|timer| manifest.timer(timer.name.as_str()).is_none());
    warnings.extend(ended.map(|timer| format!("version {version} has no timer {}: it ends", timer.name)));
    warnings.extend(Ends::of(&lane.book(), manifest, Timestamp(0)).warnings(version));
    warnings
}
