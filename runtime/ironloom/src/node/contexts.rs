//! What each invocation is given of its revision: in memory once for all installations that have it in common.

use std::sync::Arc;

use parking_lot::Mutex;

use crate::fold::interner::Interner;
use crate::lanes::context_of;
use crate::records::installation::Revision;
use ironloom_apps::manifest::Manifest;
use ironloom_sandbox::AppContext;
use ironloom_types::limits::Limits;

/// The contexts that installations have.
#[derive(Default)]
pub(super) struct Contexts(Mutex<Interner<AppContext>>);

impl Contexts {
    /// The context of a revision under these limits. Many installations of a package have the same settings and limits.
    pub(super) fn of(&self, manifest: &Manifest, revision: &Revision, limits: &Limits) -> Arc<AppContext> {
        let made = Arc::new(context_of(manifest, revision, limits));
        self.0.lock().one(made)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::fold::KnownPackage;
    use crate::records::admin::PackageRecord;
    use ironloom_apps::binding::{Bindings, Patterns};
    use ironloom_types::CompiledRef;
    use ironloom_types::ids::{self, Digest, Generation, InstallationId, Sequence, SlotName, TenantId};

    const MANIFEST: &str = "manifest = 1\nid = \"com.example.one\"\nname = \"One\"\nversion = \"0.1.0\"\n\
                            [inputs.value]\ntype = \"real\"\nunit = \"kg\"\n";

    fn revision(manifest: &Manifest, breed: &str) -> Revision {
        let asked = [(SlotName::new("value").unwrap(), Patterns::One("a/{b}".to_owned()))].into();
        let bindings =
            Bindings::new(manifest, &InstallationId::new(TenantId::MAIN, "a").unwrap(), &asked).unwrap();
        // As from the store: texts of its own.
        let bindings: Bindings = serde_json::from_str(&serde_json::to_string(&bindings).unwrap()).unwrap();
        Revision {
            number: ids::Revision(1),
            begun: Generation(1),
            from: Sequence(1),
            package: Digest([1; 32]),
            bindings: Arc::new(bindings),
            grants: Default::default(),
            settings: Arc::new([("breed".to_owned(), breed.to_owned())].into()),
            limits: Limits::default(),
            timezone: "UTC".to_owned(),
            keep_up: false,
        }
    }

    #[test]
    fn what_installations_have_in_common_is_in_memory_once() {
        let manifest = Arc::new(Manifest::parse(MANIFEST).unwrap());
        let digest = Digest([1; 32]);
        let record = PackageRecord {
            digest,
            manifest: MANIFEST.to_owned(),
            file: digest,
            signers: Vec::new(),
            imports: Vec::new(),
            sdk_version: None,
            compiled: CompiledRef { wasm: digest, engine: digest, code: digest },
        };
        let known = KnownPackage::new(record, Arc::clone(&manifest));
        let contexts = Contexts::default();
        // The same ones come in turn with others.
        let [one, other, same] = ["duroc", "pietrain", "duroc"].map(|breed| {
            let mut revision = revision(&manifest, breed);
            known.share(&mut revision);
            let context = contexts.of(&manifest, &revision, &revision.limits);
            (revision, context)
        });
        assert!(Arc::ptr_eq(&one.0.settings, &same.0.settings) && Arc::ptr_eq(&one.1, &same.1));
        assert!(Arc::ptr_eq(&one.0.settings, &one.1.settings), "a context has the revision's");
        assert!(!Arc::ptr_eq(&one.0.settings, &other.0.settings) && !Arc::ptr_eq(&one.1, &other.1));
        assert_eq!(
            (other.0.settings["breed"].as_str(), other.1.settings["breed"].as_str()),
            ("pietrain", "pietrain")
        );
        let unit = |revision: &Revision| revision.bindings.inputs[0].unit.clone().unwrap();
        assert!(Arc::ptr_eq(&unit(&one.0), &unit(&other.0)), "names and units are the manifest's");
    }
}
