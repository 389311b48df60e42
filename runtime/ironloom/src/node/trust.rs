//! Whose a package is: what the host's policy says of it, and to whom the id of its app belongs.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use tokio::sync::MutexGuard;

use super::catalogs::Catalog;
use super::{Node, problems};
use crate::api::facade::{Answer, InstallRequest, Place, Problem};
use crate::config::{Config, NotAllowed, Policy};
use crate::fold::KnownPackage;
use crate::records::installation::Installation;
use crate::records::owner::{AppOwner, MOST_OWNERS};
use ironloom_apps::allowance::PartialLimits;
use ironloom_trust::catalog::index::Publisher;
use ironloom_trust::catalog::rules::{self, Candidate, Word};
use ironloom_trust::key::PublicKey;
use ironloom_types::clock::{Timestamp, host_time};
use ironloom_types::ids::{AppId, CatalogNumber, Digest, InstallationId, LastGenerations, TenantId};
use ironloom_types::text::listed;

/// The key that a request names as an app's publisher.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Named {
    #[default]
    Nobody,
    /// The one of several signers that is meant.
    Publisher(PublicKey),
    /// Another one than the id belongs to, to whom it goes over.
    NewPublisher(PublicKey),
}

impl Named {
    /// The rights that an install names.
    pub(super) fn of(request: &InstallRequest) -> Self {
        match (request.new_publisher, request.publisher) {
            (Some(key), _) => Self::NewPublisher(key),
            (None, Some(key)) => Self::Publisher(key),
            (None, None) => Self::Nobody,
        }
    }

    fn key(self) -> Option<PublicKey> {
        match self {
            Self::Nobody => None,
            Self::Publisher(key) | Self::NewPublisher(key) => Some(key),
        }
    }
}

/// Looks at packages one after the other, as one change brings them: what the first of an app says holds for the next.
pub(super) struct Trust<'n> {
    node: &'n Node,
    /// Whose change it is.
    tenant: TenantId,
    policy: Policy,
    catalogs: Vec<Arc<Catalog>>,
    now: Timestamp,
    /// The owners that this change brings.
    new: BTreeMap<AppId, AppOwner>,
    /// The packages that were looked at with success: a list may have one thousands of times.
    passed: BTreeSet<(Digest, Named)>,
}

impl Node {
    /// The owner of an app's id in a tenant.
    pub(super) fn owner_of_app(&self, tenant: TenantId, app: &AppId) -> Option<AppOwner> {
        self.shared.owners.read().get(&(tenant, app.clone())).cloned()
    }

    pub(super) fn trust(&self, tenant: TenantId) -> Trust<'_> {
        let policy = self.config.load().policy.clone();
        Trust {
            node: self,
            tenant,
            policy,
            catalogs: self.catalogs.all(),
            now: self.catalog_time(),
            new: BTreeMap::new(),
            passed: BTreeSet::new(),
        }
    }

    /// Says that there are packages which nobody vouches for, where the host allows it.
    pub(super) fn unsigned_note(&self) -> Option<String> {
        let is_unsigned = |package| self.known(package).is_some_and(|known| known.record.signers.is_empty());
        let in_use = self.packages_in_use().into_iter();
        let running: usize =
            in_use.filter(|((_, package), _)| is_unsigned(*package)).map(|(_, (_, count))| count).sum();
        let allowed = self.config.load().policy.unsigned;
        (allowed || running > 0).then(|| {
            let may = if allowed { "may be installed" } else { "can't be installed any more" };
            format!("unsigned packages {may}, and {running} installations run one")
        })
    }
}

impl Node {
    /// Takes `installing` for a change that was planned by a configuration. 409 where the host's policy is another one by now.
    pub(super) async fn installing_under(&self, planned: &Config) -> Answer<MutexGuard<'_, LastGenerations>> {
        let installing = self.admin.installing.lock().await;
        if self.config.load().policy == planned.policy {
            return Ok(installing);
        }
        let detail = "the host's policy was changed in the meantime; nothing is changed";
        Err(Problem::conflict("revision", detail).hint("Send the request again."))
    }

    /// Why a catalog or the host's policy is against a package that runs: a catalog blocks the version, or has revoked the keys. That its index has
    /// expired is no reason.
    pub(super) fn against(&self, tenant: TenantId, package: Digest) -> Option<String> {
        let known = self.known(package)?;
        let owner = self.owner_of_app(tenant, &known.manifest.id);
        let moment = match self.catalogs.looks.found(package, self.config.load_full(), owner) {
            Ok(found) => return found,
            Err(moment) => moment,
        };
        // Read once more: its signatures are to be those of that moment.
        let (known, catalogs) = (self.known(package)?, self.catalogs.all());
        let words = words_of(&catalogs);
        let owner = moment.owner.as_ref();
        let against = catalogs_against(&words, &known, owner)
            .or_else(|| policy_against(&moment.config.policy, &words, &known, owner));
        self.catalogs.looks.keep(package, moment, against.clone());
        against
    }

    /// The packages of all installations by tenant, each with the first of those that have it, and how many these are:
    /// installations may be many, and packages are few.
    fn packages_in_use(&self) -> BTreeMap<(TenantId, Digest), (InstallationId, usize)> {
        let mut in_use = BTreeMap::new();
        for lane in self.lanes.all() {
            let package = (lane.id.tenant(), lane.installation().package);
            let (_, count) = in_use.entry(package).or_insert_with(|| (lane.id.clone(), 0));
            *count += 1;
        }
        in_use
    }

    /// Says that installations run what a catalog is against.
    pub(super) fn against_note(&self) -> Option<String> {
        let in_use = self.packages_in_use().into_iter();
        let why = |((tenant, package), (id, count))| Some((id, count, self.against(tenant, package)?));
        let against: Vec<_> = in_use.filter_map(why).collect();
        let (id, _, reason) = against.iter().min_by_key(|(id, ..)| id)?;
        Some(match against.iter().map(|(_, count, _)| count).sum::<usize>() - 1 {
            0 => format!("installation {id}: {reason}"),
            more => format!("installation {id}: {reason}; and {more} more"),
        })
    }
}

/// Why a catalog is against a package that runs.
fn catalogs_against(words: &[Word<'_>], known: &KnownPackage, owner: Option<&AppOwner>) -> Option<String> {
    let version: semver::Version = known.manifest.version.parse().ok()?;
    let (id, signers) = (&known.manifest.id, known.record.signers.as_slice());
    let (by, key) = (owner.and_then(|owner| owner.catalog), owner.and_then(|owner| owner.key));
    let candidate = Candidate { id, version: &version, digest: known.record.digest, signers, by, owner: key };
    rules::check(words, candidate, None).err().map(|error| error.to_string())
}

/// Why the host's policy is against a package that runs. Where it only isn't signed, other places say so.
fn policy_against(
    policy: &Policy,
    words: &[Word<'_>],
    known: &KnownPackage,
    owner: Option<&AppOwner>,
) -> Option<String> {
    let refused = allowed(policy, words, known, owner.and_then(|owner| owner.catalog)).err();
    refused.filter(|why| *why != NotAllowed::Unsigned).map(|why| format!("the host's policy: {why}"))
}

/// Holds a package against the host's policy.
fn allowed(
    policy: &Policy,
    words: &[Word<'_>],
    known: &KnownPackage,
    by: Option<CatalogNumber>,
) -> Result<(), NotAllowed> {
    let app = &known.manifest.id;
    policy.signers(app, &known.record.signers)?;
    policy.check_rights(&known.manifest, &categories(words, app, by))
}

impl Trust<'_> {
    /// Checks a package that is to run; gives the owner of its app's id where that is another one from here on.
    /// `named` is the key that the id shall belong to, where several might be meant, or where it goes over to another one.
    ///
    /// # Errors
    /// The host's policy or a catalog is against it, or the id of its app belongs to somebody else.
    pub(super) fn check(&mut self, known: &KnownPackage, named: Named) -> Answer<Option<Box<AppOwner>>> {
        if self.passed.contains(&(known.record.digest, named)) {
            return Ok(None);
        }
        let owner = self.owner(known, named)?;
        self.passed.insert((known.record.digest, named));
        Ok(owner)
    }

    /// 422 where the host's policy is against a package: what runs goes on, and gets no more than it has.
    pub(super) fn check_allowed(&self, known: &KnownPackage) -> Answer<()> {
        let app = &known.manifest.id;
        let words = words_of(&self.catalogs);
        let by = self.node.owner_of_app(self.tenant, app).and_then(|owner| owner.catalog);
        allowed(&self.policy, &words, known, by).map_err(|error| not_allowed(known, &error))
    }

    /// The most of each limit that the host's policy allows.
    pub(super) fn most(&self) -> &PartialLimits {
        &self.policy.limits
    }

    /// The key that the id of an app belongs to, with this change; none while only unsigned packages of it were installed.
    pub(super) fn owner_of(&self, app: &AppId) -> Option<PublicKey> {
        match self.new.get(app) {
            Some(owner) => owner.key,
            None => self.node.owner_of_app(self.tenant, app).and_then(|owner| owner.key),
        }
    }

    /// Says that an id belongs to somebody else with this change than it `was` before.
    pub(super) fn goes_over(&self, app: &AppId, was: Option<PublicKey>) -> Option<String> {
        let (was, is) = was.zip(self.owner_of(app)).filter(|(was, is)| was != is)?;
        let by = self.node.owner_of_app(self.tenant, app).and_then(|owner| owner.catalog);
        let words = words_of(&self.catalogs);
        let is_successor = rules::successors(&words, app, was, by).contains(&is);
        (!is_successor).then(|| {
            format!(
                "the id {app} goes over from {was} to {is}: what is installed of it by the first gets no more versions"
            )
        })
    }

    /// The signers that no catalog is against, nor against the package.
    fn vouched(
        &self,
        words: &[Word<'_>],
        known: &KnownPackage,
        signers: &[PublicKey],
        (named, by): (Named, Option<CatalogNumber>),
    ) -> Answer<Vec<PublicKey>> {
        let (app, version) = (&known.manifest.id, &known.manifest.version);
        let version: semver::Version = version.parse().map_err(|error| problems::internal(&error))?;
        let digest = known.record.digest;
        let candidate = Candidate { id: app, version: &version, digest, signers, by, owner: None };
        let check = |candidate| {
            rules::check(words, candidate, Some(self.now)).map_err(|error| {
                let problem = Problem::refused("catalog", error.to_string()).at(Place::field("package"));
                problem.hint(format!("Nothing was changed. `ironloom catalog show {app}` says more."))
            })
        };
        let mut signers = check(candidate)?;
        if matches!(named, Named::NewPublisher(_)) {
            // Those of whoever takes it over are heard as well.
            signers = check(Candidate { signers: &signers, by: None, ..candidate })?;
        }
        Ok(signers)
    }

    fn owner(&mut self, known: &KnownPackage, named: Named) -> Answer<Option<Box<AppOwner>>> {
        let publisher = named.key();
        let app = &known.manifest.id;
        let signers = self.policy.signers(app, &known.record.signers);
        let signers = signers.map_err(|error| not_allowed(known, &error))?;
        if let Some(name) = self.node.catalogs.without_index() {
            return Err(no_index(&name));
        }
        let words = words_of(&self.catalogs);
        let owner = self.new.get(app).cloned().or_else(|| self.node.owner_of_app(self.tenant, app));
        let by = owner.as_ref().and_then(|owner| owner.catalog);
        self.policy
            .check_rights(&known.manifest, &categories(&words, app, by))
            .map_err(|error| not_allowed(known, &error))?;
        let signers = self.vouched(&words, known, &signers, (named, by))?;
        if let Some(missing) = publisher.filter(|key| !signers.contains(key)) {
            let detail = format!("the package isn't signed by {missing}, which was named as its publisher");
            return Err(Problem::refused("publisher", detail)
                .at(Place::field("publisher"))
                .hint("`ironloom inspect FILE` shows who has signed a package."));
        }
        let publishers: Vec<_> = rules::speaking(&words, app, None).collect();
        let had = owner.as_ref().and_then(|owner| owner.key);
        let key = match owner {
            Some(AppOwner { key: Some(key), .. }) if signers.contains(&key) => return Ok(None),
            Some(AppOwner { key: Some(key), since, .. }) => {
                let successors = rules::successors(&words, app, key, by);
                let successor = signers.iter().find(|signer| successors.contains(signer)).copied();
                let replaced =
                    signers.iter().find(|old| rules::successors(&words, app, **old, by).contains(&key));
                match (successor, named) {
                    (Some(successor), _) => Some(successor),
                    // The package is signed by it, and nobody else's by the word of a catalog.
                    (None, Named::NewPublisher(_)) => first_key(app, &signers, publisher, &publishers)?,
                    (None, _) => {
                        return Err(match replaced {
                            Some(old) => key_replaced(known, *old, key),
                            None => publisher_changed(known, key, since, &words),
                        });
                    }
                }
            }
            Some(AppOwner { key: None, .. }) if signers.is_empty() && publishers.is_empty() => {
                return Ok(None);
            }
            Some(AppOwner { key: None, .. }) | None => first_key(app, &signers, publisher, &publishers)?,
        };
        let owners = self.node.shared.owners.read();
        if owners.len() >= MOST_OWNERS && !owners.contains_key(&(self.tenant, app.clone())) {
            let detail = format!("{MOST_OWNERS} app ids belong to somebody already, and that is the most");
            return Err(Problem::refused("too-many-apps", detail).hint(
                "An id that belongs to somebody stays so: only apps that were here before can be installed.",
            ));
        }
        let gives = |publisher: &Publisher| key.is_some_and(|key| publisher.keys.contains(&key));
        let by_catalog = publishers.iter().find(|(_, publisher)| gives(publisher));
        let by_catalog = by_catalog.map(|(word, _)| word.number);
        // Whoever takes it over by consent has it by the word of another catalog, or of none.
        let is_another = matches!(named, Named::NewPublisher(_)) && key != had;
        let catalog = if is_another { by_catalog } else { by.or(by_catalog) };
        let owner = AppOwner { tenant: self.tenant, app: app.clone(), key, catalog, since: host_time() };
        self.new.insert(app.clone(), owner.clone());
        Ok(Some(Box::new(owner)))
    }
}

/// 409: nobody knows what a catalog is against.
fn no_index(name: &str) -> Problem {
    let detail = format!("the index of the catalog {name} isn't here, so nobody knows what it is against");
    let hint = format!("`ironloom catalog refresh {name}` brings it; or remove the catalog.");
    Problem::conflict("catalog", detail).hint(hint)
}

impl Trust<'_> {
    /// 409 where an installation is, or was, of another publisher than the id of its app belongs to with this change: its state and
    /// what it was granted don't go over to somebody else.
    pub(super) fn check_same_publisher(&self, before: &Installation) -> Answer<()> {
        let app = &before.app;
        let Some((was, key)) = before.publisher.zip(self.owner_of(app)).filter(|(was, key)| was != key)
        else {
            return Ok(());
        };
        let words = words_of(&self.catalogs);
        let by = self.node.owner_of_app(self.tenant, app).and_then(|owner| owner.catalog);
        if rules::successors(&words, app, was, by).contains(&key) {
            return Ok(());
        }
        let detail = format!("it is of the publisher {was}, and the id {app} belongs to {key} by now");
        Err(Problem::conflict("publisher-changed", detail)
            .at(Place::field("package"))
            .hint("What runs goes on. Uninstall it and install the other one anew, without its state."))
    }
}

/// The categories that an app has by the catalogs that have a say in its id.
fn categories(words: &[Word<'_>], app: &AppId, by: Option<CatalogNumber>) -> BTreeSet<String> {
    let entries = rules::speaking(words, app, by).filter_map(|(word, _)| word.index.app(app));
    entries.flat_map(|entry| entry.categories.iter().cloned()).collect()
}

/// The key that an app's id is to belong to: one of its signers, and where catalogs speak of the id, one that they give
/// it to.
fn first_key(
    app: &AppId,
    signers: &[PublicKey],
    named: Option<PublicKey>,
    publishers: &[(Word<'_>, &Publisher)],
) -> Answer<Option<PublicKey>> {
    let is_given = |key: &PublicKey| publishers.iter().any(|(_, publisher)| publisher.keys.contains(key));
    let refused = |detail: String| Problem::refused("publisher", detail).at(Place::field("publisher"));
    let mut keys: Vec<PublicKey> = signers.to_vec();
    if let [(word, publisher), ..] = publishers {
        let catalog = &word.index.catalog;
        keys.retain(is_given);
        if keys.is_empty() {
            let name = &publisher.name;
            let detail = format!(
                "the catalog {catalog} gives the id {app} to {name}, and no key of theirs has signed the package"
            );
            return Err(refused(detail).hint("It may be somebody else's app. Ask whoever gave it to you."));
        }
        keys.retain(|key| named.is_none_or(|named| named == *key));
        let agreed = |key: &PublicKey| publishers.iter().all(|(_, publisher)| publisher.keys.contains(key));
        if named.is_none() && !keys.iter().all(agreed) {
            let names: Vec<_> = publishers
                .iter()
                .map(|(word, publisher)| {
                    let (name, keys) = (&publisher.name, listed(&publisher.keys));
                    format!("{name} ({keys}) by the catalog {}", word.index.catalog)
                })
                .collect();
            let detail = format!(
                "the id {app} is given to {}: somebody has to say whose app is meant",
                names.join(" and to ")
            );
            return Err(
                refused(detail).hint("Name the key of its publisher with `publisher`, or `--publisher KEY`.")
            );
        }
    } else if named.is_some() {
        return Ok(named);
    }
    match keys.as_slice() {
        [] => Ok(None),
        [key] => Ok(Some(*key)),
        several => {
            let several: Vec<_> = several.iter().map(ToString::to_string).collect();
            let detail = format!(
                "{} have signed the package, and the id {app} is to belong to one of them",
                several.join(" and ")
            );
            Err(refused(detail).hint("Name the key of its publisher with `publisher`, or `--publisher KEY`."))
        }
    }
}

fn not_allowed(known: &KnownPackage, error: &NotAllowed) -> Problem {
    let (kind, hint) = match error {
        NotAllowed::Unsigned => (
            "unsigned",
            "Have its publisher sign it (`ironloom sign`); or allow such packages on this host with [policy] \
             unsigned, or `serve --allow-unsigned`.",
        ),
        _ => ("policy", "The admin of this host decides: `[policy]` in its configuration."),
    };
    let (app, version) = (&known.manifest.id, &known.manifest.version);
    let detail = format!("this host doesn't let {app} {version} run: {error}");
    Problem::refused(kind, detail).at(Place::field("package")).hint(hint)
}

/// What the catalogs say.
fn words_of(catalogs: &[Arc<Catalog>]) -> Vec<Word<'_>> {
    catalogs.iter().filter_map(|catalog| catalog.word()).collect()
}

fn key_replaced(known: &KnownPackage, old: PublicKey, new: PublicKey) -> Problem {
    let (app, version) = (&known.manifest.id, &known.manifest.version);
    let detail = format!("{app} {version} is signed by {old}, which {new} has replaced since");
    Problem::conflict("publisher-changed", detail)
        .at(Place::field("package"))
        .hint("Have its publisher sign this version with the new key, too. Nothing was changed.")
}

fn publisher_changed(known: &KnownPackage, key: PublicKey, since: Timestamp, words: &[Word<'_>]) -> Problem {
    let app = &known.manifest.id;
    let signers = &known.record.signers;
    if signers.contains(&key) {
        let revoked =
            words.iter().find_map(|word| Some((&word.index.catalog, &word.index.revoked(key)?.reason)));
        let why = revoked.map_or_else(
            || "its signature doesn't count here".to_owned(),
            |(catalog, reason)| format!("the catalog {catalog} has revoked it: {reason}"),
        );
        let detail = format!("the id {app} belongs to {key}, which has signed this package, and {why}");
        return Problem::conflict("publisher-changed", detail).at(Place::field("package")).hint(
            "Nothing was changed, and what runs goes on. Ask the publisher for a version that their new key has signed, and for \
             a catalog that says that it takes the place of this one.",
        );
    }
    let by = if signers.is_empty() { "nobody".to_owned() } else { listed(signers) };
    let detail = format!(
        "the id {app} belongs to {key} since {since}, and this package is signed by {by}: it may be somebody else's app"
    );
    Problem::conflict("publisher-changed", detail)
        .at(Place::field("package"))
        .hint(
            "Ask the publisher. Nothing was changed, and what runs goes on. If the id shall belong to another publisher \
             from now on, `ironloom install --new-publisher KEY` says so.",
        )
}
