//! Loads the code of installations: cached code first, then what has to be compiled, and what fails
//! again and again with a pause that grows.

use std::collections::{BTreeMap, HashSet};
use std::sync::Arc;
use std::sync::Weak;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use parking_lot::Mutex;
use tokio::sync::Notify;

use super::Node;
use crate::api::facade::LastError;
use crate::aside::aside;
use crate::fold::KnownPackage;
use crate::fold::durable::Term;
use crate::lanes::{App, Lane};
use crate::records::admin::AdminRecord;
use ironloom_apps::package;
use ironloom_sandbox::{LoadError, LoadedApp};
use ironloom_types::clock::host_time;
use ironloom_types::ids::Generation;
use ironloom_types::limits::Limits;

/// The pause after the first failure; it doubles up to [`LONGEST_PAUSE`].
const FIRST_PAUSE: Duration = Duration::from_secs(5);
const LONGEST_PAUSE: Duration = Duration::from_secs(300);
/// The code of an app that wasn't called for so long goes from memory.
const UNUSED: Duration = Duration::from_secs(3_600);

/// The state of loading code.
#[derive(Default)]
pub(super) struct Loading {
    /// Code in the cache has been loaded; what is missing now has to be compiled, or fails.
    through_cache: AtomicBool,
    /// The error of the latest attempt for a lane.
    failures: Mutex<BTreeMap<Generation, LastError>>,
    /// Compiled code that nothing refers to has been dropped.
    tidied: AtomicBool,
    /// Something was mended, so that another attempt is worth it.
    again: Arc<Notify>,
}

/// A lane, and a revision of it whose code isn't loaded.
type Wanting = (Arc<Lane>, Arc<Term>);

/// Why code was not loaded.
enum NotLoaded {
    /// It isn't in the cache, and compiling was not allowed.
    NotCached,
    Failed(LoadError),
}

impl Loading {
    /// Wakes the loading of missing code.
    pub(super) fn again(&self) {
        self.again.notify_one();
    }

    /// A package is gone, and its code goes at the next look.
    pub(super) fn has_old_code(&self) {
        self.tidied.store(false, Ordering::Release);
    }

    /// Returns why this lane has no code, if an attempt has failed.
    pub(super) fn failure(&self, generation: Generation) -> Option<LastError> {
        self.failures.lock().get(&generation).cloned()
    }

    pub(super) fn is_through_cache(&self) -> bool {
        self.through_cache.load(Ordering::Acquire)
    }
}

/// Keeps all lanes loaded for as long as the node lives.
pub(super) async fn keep_loaded(node: Weak<Node>) {
    let Some(again) = node.upgrade().map(|node| Arc::clone(&node.admin.loading.again)) else { return };
    if let Some(node) = node.upgrade() {
        node.load_cached().await;
        node.admin.loading.through_cache.store(true, Ordering::Release);
    }
    let mut pause = FIRST_PAUSE;
    loop {
        {
            let Some(node) = node.upgrade() else { return };
            node.load_missing().await;
            node.sandbox.let_go_unused(UNUSED);
            let tidied = &node.admin.loading.tidied;
            if !tidied.swap(true, Ordering::AcqRel) && !node.drop_old_code().await {
                tidied.store(false, Ordering::Release);
            }
            if tidied.load(Ordering::Acquire) && node.without_code().is_empty() {
                pause = LONGEST_PAUSE;
            }
        }
        tokio::select! {
            () = tokio::time::sleep(pause) => pause = (pause * 2).min(LONGEST_PAUSE),
            () = again.notified() => pause = FIRST_PAUSE,
        }
    }
}

impl Node {
    /// The lanes that have no code, or whose code can't be loaded again.
    pub(super) fn without_code(&self) -> Vec<Arc<Lane>> {
        let mut lanes = self.lanes.all();
        lanes.retain(|lane| !lane.without_app().is_empty());
        lanes
    }

    /// The revisions of lanes that have no code, by what is loaded and tried once for all of them: a package, with so
    /// much memory.
    fn to_load(&self) -> Vec<Vec<Wanting>> {
        let mut alike: BTreeMap<_, Vec<Wanting>> = BTreeMap::new();
        for lane in self.lanes.all() {
            for term in lane.without_app() {
                let same = (term.revision.package, term.limits.memory);
                alike.entry(same).or_default().push((Arc::clone(&lane), term));
            }
        }
        alike.into_values().collect()
    }

    async fn load_cached(&self) {
        for wanting in self.to_load() {
            let (_, term) = &wanting[0];
            if let Some(known) = self.known(term.revision.package)
                && let Ok(code) = self.load_as(&known, &term.limits, true).await
            {
                wanting.iter().for_each(|(lane, term)| self.start_lane(lane, term, Arc::clone(&code)));
            }
        }
    }

    async fn load_missing(&self) {
        for wanting in self.to_load() {
            let (first, term) = &wanting[0];
            let Some(known) = self.known(term.revision.package) else { continue };
            match self.load(&known, &term.limits).await {
                Ok(code) => {
                    wanting.iter().for_each(|(lane, term)| self.start_lane(lane, term, Arc::clone(&code)))
                }
                Err(error) => {
                    tracing::error!(
                        installation = %first.id, others = wanting.len() - 1, %error,
                        "the app can't be loaded; trying again"
                    );
                    wanting.iter().for_each(|(lane, _)| self.note_failure(lane, &error));
                }
            }
        }
        let there: HashSet<Generation> = self.lanes.all().iter().map(|lane| lane.generation).collect();
        self.admin.loading.failures.lock().retain(|generation, _| there.contains(generation));
    }

    fn note_failure(&self, lane: &Lane, error: &LoadError) {
        let ordinal = lane.book().meta().ordinal;
        let (kind, message) = ("load".to_owned(), error.to_string());
        let failure = LastError { at: host_time(), kind, message, ordinal };
        self.admin.loading.failures.lock().insert(lane.generation, failure);
    }

    /// Gives a lane the code of one of its revisions.
    pub(super) fn start_lane(&self, lane: &Arc<Lane>, term: &Term, code: Arc<LoadedApp>) {
        let context = self.admin.contexts.of(&term.manifest, &term.revision, &term.limits);
        lane.set_app(term.number(), App { code, context });
        self.admin.loading.failures.lock().remove(&lane.generation);
        self.lanes.wake(lane);
    }

    /// Loads a package's code for an installation with these limits, compiled anew where the cache
    /// doesn't have it.
    pub(super) async fn load(
        &self,
        known: &KnownPackage,
        limits: &Limits,
    ) -> Result<Arc<LoadedApp>, LoadError> {
        match self.load_as(known, limits, false).await {
            Ok(code) => Ok(code),
            Err(NotLoaded::Failed(error)) => Err(error),
            Err(NotLoaded::NotCached) => Err(LoadError::Host("its code could not be asked for".to_owned())),
        }
    }

    async fn load_as(
        &self,
        known: &KnownPackage,
        limits: &Limits,
        cached_only: bool,
    ) -> Result<Arc<LoadedApp>, NotLoaded> {
        let _compiled = self.admin.compiled.read().await;
        let (files, name, file) = (Arc::clone(&self.packages), known.record.file_name(), known.record.file);
        let missed = Arc::new(AtomicBool::new(false));
        let asked = Arc::clone(&missed);
        let component = move || {
            asked.store(true, Ordering::Release);
            if cached_only {
                return Err(std::io::Error::other("it is not cached"));
            }
            let tar = files.read(&name, file).map_err(std::io::Error::other)?;
            let tar = tar.ok_or_else(|| std::io::Error::other("the package's file is missing"))?;
            let package = package::read(&tar.into()).map_err(std::io::Error::other)?;
            Ok(package.component)
        };
        let declared = known.manifest.declared();
        match self.sandbox.load(&known.record.compiled, component, declared, limits.memory).await {
            Ok(loaded) => {
                if loaded.compiled != known.record.compiled {
                    let (package, compiled) = (known.record.digest, loaded.compiled);
                    if self.change(AdminRecord::Compiled { package, compiled }).await.is_err() {
                        tracing::debug!(
                            "newly compiled code could not be recorded; it will be compiled again at the next start"
                        );
                    }
                }
                Ok(loaded.app)
            }
            Err(_) if cached_only && missed.load(Ordering::Acquire) => Err(NotLoaded::NotCached),
            Err(error) => Err(NotLoaded::Failed(error)),
        }
    }

    /// Drops compiled code of packages and engines that are gone; `false` where something is being
    /// compiled, whose code no record names yet.
    async fn drop_old_code(&self) -> bool {
        let Ok(_compiled) = self.admin.compiled.try_write() else { return false };
        let keep: Vec<_> = self.shared.packages.read().values().map(|known| known.record.compiled).collect();
        let sandbox = Arc::clone(&self.sandbox);
        let dropped = aside(move || sandbox.retain(&keep)).await;
        if let Ok(Err(error)) = dropped {
            tracing::warn!(%error, "compiled code that is no longer used could not be removed");
        }
        true
    }
}
