//! Whose a package is: what the host's policy says of it, and to whom the id of its app belongs.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use super::catalogs::Catalog;
use super::{Node, problems};
use crate::api::facade::{Answer, Place, Problem};
use crate::config::{NotAllowed, Policy};
use crate::fold::KnownPackage;
use crate::records::owner::{AppOwner, MOST_OWNERS};
use ironloom_trust::catalog::CatalogName;
use ironloom_trust::catalog::index::Publisher;
use ironloom_trust::catalog::rules::{self, Candidate, Word};
use ironloom_trust::key::PublicKey;
use ironloom_types::clock::{Timestamp, host_time};
use ironloom_types::ids::{AppId, Digest};

/// Looks at packages one after the other, as one change brings them: what the first of an app says holds for the next.
pub(super) struct Trust<'n> {
    node: &'n Node,
    policy: Policy,
    catalogs: Vec<Arc<Catalog>>,
    now: Timestamp,
    /// The owners that this change brings.
    new: BTreeMap<AppId, AppOwner>,
    /// The packages that were looked at with success: a list may have one thousands of times.
    passed: BTreeSet<(Digest, Option<PublicKey>)>,
}

impl Node {
    pub(super) fn trust(&self) -> Trust<'_> {
        let policy = self.config.load().policy.clone();
        Trust {
            node: self,
            policy,
            catalogs: self.catalogs.all(),
            now: host_time(),
            new: BTreeMap::new(),
            passed: BTreeSet::new(),
        }
    }

    /// Says that there are packages which nobody vouches for, where the host allows it.
    pub(super) fn unsigned_note(&self) -> Option<String> {
        let is_unsigned = |package| self.known(package).is_some_and(|known| known.record.signers.is_empty());
        let running = self.lanes.all().iter().filter(|lane| is_unsigned(lane.installation().package)).count();
        let allowed = self.config.load().policy.unsigned;
        (allowed || running > 0).then(|| {
            let may = if allowed { "may be installed" } else { "can't be installed any more" };
            format!("unsigned packages {may}, and {running} installations run one")
        })
    }
}

impl Trust<'_> {
    /// Checks a package that is to run; gives the owner of its app's id where that is another one from here on.
    /// `publisher` is the key that the id shall belong to, where several might be meant.
    ///
    /// # Errors
    /// The host's policy or a catalog is against it, or the id of its app belongs to somebody else.
    pub(super) fn check(
        &mut self,
        known: &KnownPackage,
        publisher: Option<PublicKey>,
    ) -> Answer<Option<Box<AppOwner>>> {
        if self.passed.contains(&(known.record.digest, publisher)) {
            return Ok(None);
        }
        let owner = self.owner(known, publisher)?;
        self.passed.insert((known.record.digest, publisher));
        Ok(owner)
    }

    fn owner(&mut self, known: &KnownPackage, publisher: Option<PublicKey>) -> Answer<Option<Box<AppOwner>>> {
        let (app, version) = (&known.manifest.id, &known.manifest.version);
        let signers = self.policy.signers(app, &known.record.signers);
        let signers = signers.map_err(|error| not_allowed(known, &error))?;
        let words: Vec<Word<'_>> = self.catalogs.iter().filter_map(|catalog| catalog.word()).collect();
        let version: semver::Version = version.parse().map_err(|error| problems::internal(&error))?;
        let digest = known.record.digest;
        let candidate = Candidate { id: app, version: &version, digest, signers: &signers };
        let signers = rules::check(&words, candidate, rules::time(self.now, &words)).map_err(|error| {
            let problem = Problem::refused("catalog", error.to_string()).at(Place::field("package"));
            problem.hint("Nothing was changed. `ironloom catalog show NAME` says more of the catalog.")
        })?;
        if let Some(missing) = publisher.filter(|key| !signers.contains(key)) {
            let detail = format!("the package isn't signed by {missing}, which was named as its publisher");
            return Err(Problem::refused("publisher", detail).at(Place::field("publisher")));
        }
        let owner = self.new.get(app).cloned().or_else(|| self.node.shared.owners.read().get(app).cloned());
        let key = match owner {
            Some(AppOwner { key: Some(key), .. }) if signers.contains(&key) => return Ok(None),
            Some(AppOwner { key: Some(key), since, .. }) => {
                let successors = rules::successors(&words, app, key);
                let successor = signers.iter().find(|signer| successors.contains(signer)).copied();
                Some(successor.ok_or_else(|| publisher_changed(known, key, since))?)
            }
            Some(AppOwner { key: None, .. }) if signers.is_empty() => return Ok(None),
            Some(AppOwner { key: None, .. }) | None => {
                first_key(app, &signers, publisher, &rules::publishers(&words, app))?
            }
        };
        let owners = self.node.shared.owners.read();
        if owners.len() >= MOST_OWNERS && !owners.contains_key(app) {
            let detail = format!("{MOST_OWNERS} app ids belong to somebody already, and that is the most");
            return Err(Problem::refused("too-many-apps", detail));
        }
        let owner = AppOwner { app: app.clone(), key, since: self.now };
        self.new.insert(app.clone(), owner.clone());
        Ok(Some(Box::new(owner)))
    }
}

/// The key that an app's id is to belong to: one of its signers, and where catalogs speak of the id, one that they give
/// it to.
fn first_key(
    app: &AppId,
    signers: &[PublicKey],
    named: Option<PublicKey>,
    publishers: &[(&CatalogName, &Publisher)],
) -> Answer<Option<PublicKey>> {
    let is_given = |key: &PublicKey| publishers.iter().any(|(_, publisher)| publisher.keys.contains(key));
    let refused = |detail: String| Problem::refused("publisher", detail).at(Place::field("publisher"));
    let mut keys: Vec<PublicKey> = signers.to_vec();
    if let [(catalog, publisher), ..] = publishers {
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
                .map(|(catalog, publisher)| format!("{} by the catalog {catalog}", publisher.name))
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

fn publisher_changed(known: &KnownPackage, key: PublicKey, since: Timestamp) -> Problem {
    let app = &known.manifest.id;
    let signers: Vec<_> = known.record.signers.iter().map(ToString::to_string).collect();
    let by = if signers.is_empty() { "nobody".to_owned() } else { signers.join(", ") };
    let detail = format!(
        "the id {app} belongs to {key} since {since}, and this package is signed by {by}: it may be somebody else's app"
    );
    Problem::conflict("publisher-changed", detail)
        .at(Place::field("package"))
        .hint("Ask the publisher. Nothing was changed, and what runs goes on.")
}
