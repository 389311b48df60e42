//! Code in memory: loaded when it is needed, let go where all of it takes too much, or where nobody has used it for long.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use super::app::{Linked, LoadError, LoadedApp};
use super::budget::metered;
use super::{Sandbox, aside};

/// The code that is in memory.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct CodeFigures {
    /// Apps whose code it is.
    pub apps: usize,
    pub bytes: u64,
    /// Loads since the sandbox began.
    pub loads: u64,
}

/// When code was used, and how often it was loaded.
#[derive(Debug)]
pub(crate) struct CodeClock {
    begun: Instant,
    loads: AtomicU64,
}

impl Default for CodeClock {
    fn default() -> Self {
        Self { begun: Instant::now(), loads: AtomicU64::new(0) }
    }
}

impl CodeClock {
    fn now(&self) -> u64 {
        u64::try_from(self.begun.elapsed().as_nanos()).unwrap_or(u64::MAX)
    }

    /// Counts code that was loaded.
    pub(crate) fn loaded(&self) {
        self.loads.fetch_add(1, Ordering::Relaxed);
    }
}

impl Sandbox {
    /// The code of an app, loaded again where it was let go: aside, once for all that wait for it. The CPU time is added
    /// to `spent`: whoever loads it pays for it.
    pub(crate) async fn linked(
        &self,
        app: &LoadedApp,
        spent: &mut Duration,
    ) -> Result<Arc<Linked>, LoadError> {
        if let Some(linked) = app.linked(self.clock.now()) {
            return Ok(linked);
        }
        let _loading = app.loading.lock().await;
        if let Some(linked) = app.linked(self.clock.now()) {
            return Ok(linked);
        }
        let _place = self.loading.acquire().await;
        let Some(component) = self.component(app.compiled(), spent).await? else {
            app.set_lost(true);
            let text =
                "its compiled code is gone, or was changed; it will be compiled again within five minutes";
            return Err(LoadError::Host(text.to_owned()));
        };
        let (engine, declared) = (self.engine.clone(), app.declared());
        let linked = aside(move || metered(|| Linked::new(&engine, component, declared))).await;
        let (linked, cpu) = linked.map_err(|error| LoadError::Host(error.to_string()))?;
        *spent += cpu;
        let linked = Arc::new(linked?);
        app.put(Arc::clone(&linked));
        self.clock.loaded();
        self.make_room();
        Ok(linked)
    }

    /// Lets go of code that is beyond the budget: what was used the longest ago goes first, and what is used stays.
    pub(crate) fn make_room(&self) {
        let mut beyond = self.code().bytes.saturating_sub(self.config.code);
        if beyond == 0 {
            return;
        }
        self.let_go(|app| {
            let goes = beyond > 0;
            beyond = beyond.saturating_sub(app.bytes());
            goes
        });
    }

    /// Lets go of the code of apps that weren't called for so long.
    pub fn let_go_unused(&self, time: Duration) {
        let since = self.clock.now().saturating_sub(u64::try_from(time.as_nanos()).unwrap_or(u64::MAX));
        self.let_go(|app| app.used() < since);
    }

    /// Asks of each app whose code isn't used now, in the order in which they were called.
    fn let_go(&self, mut goes: impl FnMut(&LoadedApp) -> bool) {
        let mut apps = self.loads.lock().apps();
        apps.retain(|app| app.has_code());
        apps.sort_by_key(|app| app.used());
        let mut gone = Vec::new();
        for app in apps.iter().filter(|app| app.is_idle() && goes(app)) {
            let Some(linked) = app.let_go() else { continue };
            if linked.has_component_alone() {
                self.loads.lock().forget(app.compiled());
            }
            gone.push(linked);
        }
        if !gone.is_empty() {
            // To unmap it takes a while, and nobody waits for it.
            drop(tokio::task::spawn_blocking(move || drop(gone)));
        }
    }

    /// The code that is in memory now.
    pub fn code(&self) -> CodeFigures {
        let mut apps = self.loads.lock().apps();
        apps.retain(|app| app.has_code());
        let bytes = apps.iter().map(|app| app.bytes()).sum();
        CodeFigures { apps: apps.len(), bytes, loads: self.clock.loads.load(Ordering::Relaxed) }
    }
}
