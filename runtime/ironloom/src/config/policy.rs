//! `[policy]`: which packages the host lets run, and with which rights, whoever asks for it.

use std::collections::BTreeSet;

use super::key;
use super::off::{unless_off, within};
use ironloom_apps::allowance::{LimitKind, PartialLimits};
use ironloom_apps::consent::Capability;
use ironloom_apps::manifest::Manifest;
use ironloom_apps::quantity::Span;
use ironloom_apps::toml_section::{Field, Section};
use ironloom_trust::key::PublicKey;
use ironloom_trust::rotation::{covers, is_prefix};
use ironloom_types::ids::AppId;
use ironloom_types::text::listed;

const LEAST_EVERY: Span = Span(1_000_000);

/// The host's rules for packages.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Policy {
    /// Packages that nobody has signed may be installed.
    pub unsigned: bool,
    /// Keys of which one must have signed a package; any where there is none.
    pub publishers: BTreeSet<PublicKey>,
    /// Keys none of which may have signed it.
    pub publishers_denied: BTreeSet<PublicKey>,
    /// App ids, or the beginnings of some; any where there is none.
    pub apps: BTreeSet<String>,
    pub apps_denied: BTreeSet<String>,
    /// Categories of which an app must have one, by the word of a catalog; any where there is none.
    pub categories: BTreeSet<String>,
    pub categories_denied: BTreeSet<String>,
    /// Capabilities that apps may have besides reading; all where there is none.
    pub capabilities: BTreeSet<Capability>,
    pub capabilities_denied: BTreeSet<Capability>,
    /// The most of each limit that an installation gets, whatever its app asks for and whatever is granted.
    pub limits: PartialLimits,
    /// The least time between two set-points of a point, likewise.
    pub set_point_every: Option<Span>,
}

/// The reason why the host doesn't let a package run. Each names the key of the configuration.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub(crate) enum NotAllowed {
    #[error("it isn't signed, and [policy] unsigned doesn't allow that")]
    Unsigned,
    #[error("[policy] apps_denied names the app {0}")]
    AppDenied(AppId),
    #[error("[policy] apps doesn't name the app {0}")]
    AppNotListed(AppId),
    #[error("[policy] publishers_denied names {0}, which has signed it")]
    PublisherDenied(String),
    #[error("none of the keys that have signed it is among [policy] publishers")]
    PublisherNotListed,
    #[error("[policy] categories_denied names the category {0}")]
    CategoryDenied(String),
    #[error("no catalog gives it one of [policy] categories")]
    CategoryNotListed,
    #[error("[policy] capabilities_denied names {}, which it declares", .0.name())]
    CapabilityDenied(Capability),
    #[error("[policy] capabilities doesn't name {}, which it declares", .0.name())]
    CapabilityNotListed(Capability),
}

impl Policy {
    /// Checks a package of an app, by the keys that have signed it. Gives those of them that count.
    ///
    /// # Errors
    /// The first rule that is against it.
    pub(crate) fn signers(&self, app: &AppId, signers: &[PublicKey]) -> Result<Vec<PublicKey>, NotAllowed> {
        let names = |prefixes: &BTreeSet<String>| prefixes.iter().any(|prefix| covers(prefix, app.as_str()));
        if names(&self.apps_denied) {
            return Err(NotAllowed::AppDenied(app.clone()));
        }
        if !self.apps.is_empty() && !names(&self.apps) {
            return Err(NotAllowed::AppNotListed(app.clone()));
        }
        // Also beside others: a signature that its maker adds for the purpose must not hide it.
        let denied: Vec<_> = signers.iter().filter(|key| self.publishers_denied.contains(key)).collect();
        if !denied.is_empty() {
            return Err(NotAllowed::PublisherDenied(listed(denied)));
        }
        if signers.is_empty() && !self.unsigned {
            return Err(NotAllowed::Unsigned);
        }
        if signers.is_empty() || self.publishers.is_empty() {
            return Ok(signers.to_vec());
        }
        let among: Vec<_> = signers.iter().filter(|key| self.publishers.contains(key)).copied().collect();
        if among.is_empty() { Err(NotAllowed::PublisherNotListed) } else { Ok(among) }
    }

    /// Checks what an app may do, and its categories as catalogs have them.
    ///
    /// # Errors
    /// The first rule that is against it.
    pub(crate) fn check_rights(
        &self,
        manifest: &Manifest,
        categories: &BTreeSet<String>,
    ) -> Result<(), NotAllowed> {
        let mut declared = Capability::ALL.into_iter().filter(|one| one.is_declared(manifest));
        declared.try_for_each(|one| self.check_capability(one))?;
        if let Some(denied) = categories.intersection(&self.categories_denied).next() {
            return Err(NotAllowed::CategoryDenied(denied.clone()));
        }
        if !self.categories.is_empty() && self.categories.is_disjoint(categories) {
            return Err(NotAllowed::CategoryNotListed);
        }
        Ok(())
    }

    /// Checks one of the things that apps do.
    ///
    /// # Errors
    /// The rule that is against it.
    pub(crate) fn check_capability(&self, capability: Capability) -> Result<(), NotAllowed> {
        if self.capabilities_denied.contains(&capability) {
            return Err(NotAllowed::CapabilityDenied(capability));
        }
        if !self.capabilities.is_empty() && !self.capabilities.contains(&capability) {
            return Err(NotAllowed::CapabilityNotListed(capability));
        }
        Ok(())
    }
}

pub(super) fn read(mut section: Section<'_, '_>) -> Option<Policy> {
    let unsigned = key(&mut section, "policy", "unsigned").and_then(|field| field.boolean());
    let publishers = key(&mut section, "policy", "publishers").and_then(keys);
    let publishers_denied = key(&mut section, "policy", "publishers_denied").and_then(keys);
    let apps = key(&mut section, "policy", "apps").and_then(prefixes);
    let apps_denied = key(&mut section, "policy", "apps_denied").and_then(prefixes);
    let categories = key(&mut section, "policy", "categories").and_then(texts);
    let categories_denied = key(&mut section, "policy", "categories_denied").and_then(texts);
    let capabilities = key(&mut section, "policy", "capabilities").and_then(capabilities_of);
    let capabilities_denied = key(&mut section, "policy", "capabilities_denied").and_then(capabilities_of);
    let mut limits = PartialLimits::default();
    for kind in LimitKind::ALL {
        if let Some(most) = key(&mut section, "policy", most_of(kind)).and_then(|field| kind.read(&field)) {
            limits.set(kind, most);
        }
    }
    let every = key(&mut section, "policy", "set_point_every")
        .and_then(|field| field.parsed(|text| unless_off(text, |every| within(every, LEAST_EVERY, None))));
    section.finish();
    Some(Policy {
        unsigned: unsigned?,
        publishers: publishers?,
        publishers_denied: publishers_denied?,
        apps: apps?,
        apps_denied: apps_denied?,
        categories: categories?,
        categories_denied: categories_denied?,
        capabilities: capabilities?,
        capabilities_denied: capabilities_denied?,
        limits,
        set_point_every: every?,
    })
}

/// The key of the most of a limit.
pub(super) fn most_of(kind: LimitKind) -> &'static str {
    match kind {
        LimitKind::Memory => "max_memory",
        LimitKind::Cpu => "max_cpu",
        LimitKind::State => "max_state",
        LimitKind::Share => "max_share",
        LimitKind::Points => "max_points",
    }
}

fn texts(field: Field<'_, '_>) -> Option<BTreeSet<String>> {
    field.texts().map(|texts| texts.into_iter().collect())
}

fn capabilities_of(field: Field<'_, '_>) -> Option<BTreeSet<Capability>> {
    let read = field.texts()?.into_iter().map(|text| field.checked(text.parse::<Capability>()));
    let read: Vec<Option<Capability>> = read.collect();
    read.into_iter().collect()
}

fn keys(field: Field<'_, '_>) -> Option<BTreeSet<PublicKey>> {
    let read = field.texts()?.into_iter().map(|text| field.checked(text.parse::<PublicKey>()));
    // All are read before one that is wrong ends it, so that every error is found.
    let read: Vec<Option<PublicKey>> = read.collect();
    read.into_iter().collect()
}

fn prefixes(field: Field<'_, '_>) -> Option<BTreeSet<String>> {
    let texts = field.texts()?;
    for text in &texts {
        if !is_prefix(text) {
            field.refuse(format!("{text:?} is no app id, nor the beginning of one up to a dot"));
        }
    }
    Some(texts.into_iter().collect())
}

#[cfg(test)]
mod tests {
    use super::super::Config;
    use super::*;
    use ironloom_trust::key::SecretKey;

    fn policy(text: &str) -> Policy {
        Config::read(&format!("[policy]\n{text}")).unwrap().policy
    }

    #[test]
    fn what_nobody_has_signed_needs_a_word() {
        let app = AppId::new("com.example.pigs").unwrap();
        let key = SecretKey::generate().unwrap().public();
        assert_eq!(policy("").signers(&app, &[]), Err(NotAllowed::Unsigned));
        assert_eq!(policy("unsigned = true").signers(&app, &[]), Ok(vec![]));
        assert_eq!(policy("").signers(&app, &[key]), Ok(vec![key]));
    }

    #[test]
    fn what_apps_may_do_is_held_against_the_lists() {
        let manifest = |more: &str| {
            let text = format!("manifest = 1\nid = \"a.b\"\nname = \"A\"\nversion = \"1.0.0\"\n{more}");
            Manifest::parse(&text).unwrap()
        };
        let alarms = manifest("[alarms.high]\nseverity = \"high\"\n");
        let of = |policy: &str, categories: &[&str]| {
            let categories = categories.iter().map(ToString::to_string).collect();
            super::super::Config::read(&format!("[policy]\n{policy}"))
                .unwrap()
                .policy
                .check_rights(&alarms, &categories)
        };
        assert_eq!(of("", &[]), Ok(()));
        assert_eq!(of("capabilities = [\"alarms\"]", &[]), Ok(()));
        assert_eq!(
            of("capabilities = [\"outputs\"]", &[]),
            Err(NotAllowed::CapabilityNotListed(Capability::Alarms))
        );
        let denied = "capabilities_denied = [\"alarms\"]";
        assert_eq!(of(denied, &[]), Err(NotAllowed::CapabilityDenied(Capability::Alarms)));
        assert_eq!(policy(denied).check_rights(&manifest(""), &BTreeSet::new()), Ok(()));
        assert_eq!(of("categories = [\"energy\"]", &["energy", "farm"]), Ok(()));
        assert_eq!(of("categories = [\"energy\"]", &[]), Err(NotAllowed::CategoryNotListed));
        let farm = Err(NotAllowed::CategoryDenied("farm".to_owned()));
        assert_eq!(of("categories_denied = [\"farm\"]", &["energy", "farm"]), farm);
        assert!(Config::read("[policy]\ncapabilities = [\"files\"]").is_err());
        assert!(Config::read("[policy]\nmax_memory = \"1 TiB\"").is_err());
    }

    #[test]
    fn the_signature_of_a_denied_key_isnt_hidden_by_another() {
        let app = AppId::new("com.example.pigs").unwrap();
        let [a, b] = [(); 2].map(|()| SecretKey::generate().unwrap().public());
        let policy = policy(&format!("publishers_denied = [\"{a}\"]\nunsigned = true"));
        assert_eq!(policy.signers(&app, &[a, b]), Err(NotAllowed::PublisherDenied(a.to_string())));
        assert_eq!(policy.signers(&app, &[a]), Err(NotAllowed::PublisherDenied(a.to_string())));
        assert_eq!(policy.signers(&app, &[b]), Ok(vec![b]));
        // That of one who isn't among those that are wanted neither helps nor harms.
        let policy = self::policy(&format!("publishers = [\"{b}\"]"));
        assert_eq!(policy.signers(&app, &[a, b]), Ok(vec![b]));
    }

    #[test]
    fn each_rule_is_held_and_named() {
        let [a, b] = [(); 2].map(|()| SecretKey::generate().unwrap().public());
        let check = |text: &str, app: &str| {
            policy(text).signers(&AppId::new(app).unwrap(), &[a]).map_err(|error| error.to_string())
        };
        for (text, app, refused) in [
            ("apps = [\"com.example\"]", "com.example.pigs", ""),
            ("apps = [\"com.example\"]", "com.examples", "[policy] apps doesn't name the app com.examples"),
            (
                "apps_denied = [\"com.example.pigs\"]",
                "com.example.pigs",
                "[policy] apps_denied names the app com.example.pigs",
            ),
            ("apps_denied = [\"com.example.pigs\"]", "com.example.pigsty", ""),
            (&format!("publishers = [\"{a}\", \"{b}\"]"), "com.example.a", ""),
            (
                &format!("publishers = [\"{b}\"]"),
                "com.example.a",
                "none of the keys that have signed it is among [policy] publishers",
            ),
            (
                &format!("publishers_denied = [\"{a}\"]"),
                "com.example.a",
                &format!("[policy] publishers_denied names {a}, which has signed it"),
            ),
        ] {
            assert_eq!(check(text, app).err().unwrap_or_default(), refused, "{text}");
        }
    }

    #[test]
    fn every_wrong_key_is_told() {
        let problems =
            Config::read("[policy]\npublishers = [\"me\", \"you\"]\napps = [\"Pigs\"]\n").unwrap_err();
        let told: Vec<_> = problems.0.iter().map(|problem| problem.message.as_str()).collect();
        assert_eq!(told.len(), 3, "{told:?}");
        assert!(told[1].starts_with("\"you\" is not a public key"), "{told:?}");
        assert!(told[2].starts_with("\"Pigs\" is no app id"), "{told:?}");
    }
}
