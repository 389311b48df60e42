//! Loaded code, as long as anybody uses it: installations of one package share it. So a slot of the pool
//! often gets the same code again, and a Python interpreter is in memory once.

use std::hash::Hash;
use std::sync::{Arc, Weak};

use hashbrown::HashMap;
use wasmtime::component::Component;

use super::LoadedApp;
use ironloom_types::CompiledRef;
use ironloom_types::interfaces::Declared;

/// Components by their code, and apps by what was linked to it.
#[derive(Default)]
pub(crate) struct Loads {
    components: HashMap<CompiledRef, Weak<Component>>,
    apps: HashMap<(CompiledRef, Declared), Weak<LoadedApp>>,
}

impl std::fmt::Debug for Loads {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Loads").field("apps", &self.apps.len()).finish_non_exhaustive()
    }
}

impl Loads {
    pub(crate) fn component(&self, compiled: CompiledRef) -> Option<Arc<Component>> {
        self.components.get(&compiled)?.upgrade()
    }

    /// Adds a component, and returns the one to use: another load may have been quicker.
    pub(crate) fn add_component(
        &mut self,
        compiled: CompiledRef,
        component: Arc<Component>,
    ) -> Arc<Component> {
        share(&mut self.components, compiled, component)
    }

    pub(crate) fn app(&self, compiled: CompiledRef, declared: Declared) -> Option<Arc<LoadedApp>> {
        self.apps.get(&(compiled, declared))?.upgrade()
    }

    /// A component goes from memory, so that nobody gets it any more.
    pub(crate) fn forget(&mut self, compiled: CompiledRef) {
        self.components.remove(&compiled);
    }

    /// All apps that somebody has.
    pub(crate) fn apps(&self) -> Vec<Arc<LoadedApp>> {
        self.apps.values().filter_map(Weak::upgrade).collect()
    }

    /// Adds an app, and returns the one to use.
    pub(crate) fn add_app(
        &mut self,
        compiled: CompiledRef,
        declared: Declared,
        app: Arc<LoadedApp>,
    ) -> Arc<LoadedApp> {
        share(&mut self.apps, (compiled, declared), app)
    }
}

fn share<K: Eq + Hash, V>(map: &mut HashMap<K, Weak<V>>, key: K, value: Arc<V>) -> Arc<V> {
    map.retain(|_, value| value.strong_count() > 0);
    if let Some(there) = map.get(&key).and_then(Weak::upgrade) {
        return there;
    }
    map.insert(key, Arc::downgrade(&value));
    value
}
