//! Looks at packages that run: why a catalog or the host's policy is against each. Kept, since everybody asks for them.

use std::collections::BTreeMap;
use std::sync::Arc;

use parking_lot::Mutex;

use crate::config::Config;
use crate::records::owner::AppOwner;
use ironloom_types::ids::Digest;

/// The reasons that were found, for as long as catalogs, packages and the configuration are the same.
#[derive(Default)]
pub(in crate::node) struct Looks(Mutex<Found>);

#[derive(Default)]
struct Found {
    /// Goes up with each change: a look that began before is not kept.
    changes: u64,
    config: Option<Arc<Config>>,
    /// With the owner of the app's id at that time.
    packages: BTreeMap<Digest, (Option<AppOwner>, Option<String>)>,
}

/// The state of things that a look rests on.
pub(in crate::node) struct Moment {
    changes: u64,
    pub(in crate::node) config: Arc<Config>,
    pub(in crate::node) owner: Option<AppOwner>,
}

impl Looks {
    /// The reason against a package that was found before; else the moment in which a look begins.
    pub(in crate::node) fn found(
        &self,
        package: Digest,
        config: Arc<Config>,
        owner: Option<AppOwner>,
    ) -> Result<Option<String>, Moment> {
        let mut found = self.0.lock();
        if !found.config.as_ref().is_some_and(|known| Arc::ptr_eq(known, &config)) {
            found.forget();
            found.config = Some(Arc::clone(&config));
        }
        match found.packages.get(&package) {
            Some((of, against)) if *of == owner => Ok(against.clone()),
            _ => Err(Moment { changes: found.changes, config, owner }),
        }
    }

    /// Keeps what a look has found, unless anything has changed since it began.
    pub(in crate::node) fn keep(&self, package: Digest, moment: Moment, against: Option<String>) {
        let mut found = self.0.lock();
        if found.changes == moment.changes {
            found.packages.insert(package, (moment.owner, against));
        }
    }

    /// Forgets all: catalogs are other ones, or a package has other signatures or is gone.
    pub(in crate::node) fn forget(&self) {
        self.0.lock().forget();
    }
}

impl Found {
    fn forget(&mut self) {
        self.changes += 1;
        self.packages.clear();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_look_that_began_before_a_change_is_not_kept() {
        let (looks, config) = (Looks::default(), Arc::new(Config::read("").unwrap()));
        let package = Digest::of(b"package");
        let found = |config: &Arc<Config>| looks.found(package, Arc::clone(config), None);
        let moment = found(&config).err().unwrap();
        looks.keep(package, moment, None);
        assert_eq!(found(&config).ok(), Some(None));
        // A catalog comes while somebody looks.
        looks.forget();
        let moment = found(&config).err().unwrap();
        looks.forget();
        looks.keep(package, moment, None);
        let moment = found(&config).err().unwrap();
        looks.keep(package, moment, Some("it is blocked".to_owned()));
        assert_eq!(found(&config).ok(), Some(Some("it is blocked".to_owned())));
        // Another configuration may have another policy.
        let other = Arc::new(Config::read("").unwrap());
        assert!(found(&other).is_err());
        assert!(found(&config).is_err(), "nor is it back with the one before");
    }
}
