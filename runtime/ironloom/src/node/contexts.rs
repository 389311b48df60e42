//! What each invocation is given of its revision: in memory once for all installations that have it in common.

use std::collections::BTreeMap;
use std::sync::{Arc, Weak};

use parking_lot::Mutex;

use crate::records::installation::Revision;
use ironloom_apps::manifest::{self, Manifest};
use ironloom_sandbox::{AppContext, OutputKind, OutputSlot};
use ironloom_types::ids::Digest;

/// The context that was made last for each package.
#[derive(Default)]
pub(super) struct Contexts(Mutex<BTreeMap<Digest, Weak<AppContext>>>);

impl Contexts {
    /// The context of a revision. Most installations of a package have the same settings and limits.
    pub(super) fn of(&self, manifest: &Manifest, revision: &Revision) -> Arc<AppContext> {
        let mut last = self.0.lock();
        let known = last.get(&revision.package).and_then(Weak::upgrade);
        let is_same =
            |known: &Arc<AppContext>| known.settings == *revision.settings && known.limits == revision.limits;
        if let Some(known) = known.filter(is_same) {
            return known;
        }
        let made = Arc::new(context(manifest, revision));
        last.retain(|_, context| context.strong_count() > 0);
        last.insert(revision.package, Arc::downgrade(&made));
        made
    }
}

/// Makes the part of a revision that each invocation is given.
fn context(manifest: &Manifest, revision: &Revision) -> AppContext {
    let outputs = manifest.outputs.iter().map(|output| OutputSlot {
        name: output.name.clone(),
        kind: match output.kind {
            manifest::OutputKind::Derived => OutputKind::Derived,
            manifest::OutputKind::SetPoint => OutputKind::SetPoint,
        },
        value_type: output.value_type.tag(),
    });
    AppContext {
        outputs: outputs.collect(),
        alarms: manifest.alarms.iter().map(|alarm| alarm.name.clone()).collect(),
        timers: manifest.timers.iter().map(|timer| timer.name.clone()).collect(),
        settings: BTreeMap::clone(&revision.settings),
        limits: revision.limits.clone(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::fold::KnownPackage;
    use crate::records::admin::PackageRecord;
    use ironloom_apps::binding::Bindings;
    use ironloom_types::CompiledRef;
    use ironloom_types::ids::{self, InstallationId, Sequence};
    use ironloom_types::limits::Limits;

    const MANIFEST: &str = "manifest = 1\nid = \"com.example.one\"\nname = \"One\"\nversion = \"0.1.0\"\n\
                            [inputs.value]\ntype = \"real\"\nunit = \"kg\"\n";

    fn revision(manifest: &Manifest, breed: &str) -> Revision {
        let asked = [("value".to_owned(), vec!["a/{b}".to_owned()])].into();
        let bindings = Bindings::new(manifest, &InstallationId::new("a").unwrap(), &asked).unwrap();
        // As from the store: texts of its own.
        let bindings: Bindings = serde_json::from_str(&serde_json::to_string(&bindings).unwrap()).unwrap();
        Revision {
            number: ids::Revision(1),
            from: Sequence(1),
            package: Digest([1; 32]),
            bindings: Arc::new(bindings),
            grants: Default::default(),
            settings: Arc::new([("breed".to_owned(), breed.to_owned())].into()),
            limits: Limits::default(),
            timezone: "UTC".to_owned(),
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
            imports: Vec::new(),
            sdk_version: None,
            compiled: CompiledRef { wasm: digest, engine: digest, code: digest },
        };
        let known = KnownPackage::new(record, Arc::clone(&manifest));
        let contexts = Contexts::default();
        let [one, same, other] = ["duroc", "duroc", "pietrain"].map(|breed| {
            let mut revision = revision(&manifest, breed);
            known.share(&mut revision);
            let context = contexts.of(&manifest, &revision);
            (revision, context)
        });
        assert!(Arc::ptr_eq(&one.0.settings, &same.0.settings) && Arc::ptr_eq(&one.1, &same.1));
        assert!(!Arc::ptr_eq(&one.0.settings, &other.0.settings) && !Arc::ptr_eq(&one.1, &other.1));
        assert_eq!(
            (other.0.settings["breed"].as_str(), other.1.settings["breed"].as_str()),
            ("pietrain", "pietrain")
        );
        let unit = |revision: &Revision| revision.bindings.inputs[0].unit.clone().unwrap();
        assert!(Arc::ptr_eq(&unit(&one.0), &unit(&other.0)), "names and units are the manifest's");
    }
}
