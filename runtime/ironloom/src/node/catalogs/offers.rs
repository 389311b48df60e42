//! The apps that catalogs offer, and their packages.

use std::collections::BTreeSet;
use std::sync::Arc;

use bytes::Bytes;

use super::Catalog;
use crate::api::facade::{
    Answer, FetchRequest, Offer, OfferQuery, OfferedVersion, PackageInfo, Page, Place, Problem,
};
use crate::aside::aside;
use crate::catalogs::package_path;
use crate::node::packages::info;
use crate::node::{Node, problems};
use ironloom_apps::manifest::Manifest;
use ironloom_apps::package::Package;
use ironloom_trust::catalog::CatalogName;
use ironloom_trust::catalog::index::{App, Index, Version};
use ironloom_trust::catalog::rules::may_speak_of;
use ironloom_trust::catalog::search::Searchable;
use ironloom_trust::key::PublicKey;
use ironloom_types::clock::Timestamp;
use ironloom_types::ids::{AppId, Digest, TenantId};

/// The most words that are looked for, and their bytes: each is looked for in the text of each app.
const MAX_WORDS: usize = 16;
const MAX_WORDS_BYTES: usize = 256;

impl Node {
    /// The apps with these words; those first that have them in their names. The place of a page is a number of apps.
    pub(in crate::node) fn find_offers(&self, query: &OfferQuery) -> Answer<Page<Offer>> {
        if query.words.len() > MAX_WORDS_BYTES || query.words.split_whitespace().count() > MAX_WORDS {
            let detail = format!("at most {MAX_WORDS} words with {MAX_WORDS_BYTES} bytes are looked for");
            return Err(Problem::malformed("bad-parameter", detail).at(Place::field("words")));
        }
        let start: usize = match query.page.after.as_deref().map(str::parse::<usize>) {
            None => 0,
            Some(Ok(start)) => start,
            Some(Err(_)) => {
                let detail = "the parameter \"after\" isn't one that this list has given";
                return Err(Problem::malformed("bad-parameter", detail).at(Place::field("after")));
            }
        };
        let now = self.catalog_time();
        let all = self.catalogs.all();
        let wanted = all.iter().filter(|catalog| {
            query.catalog.as_deref().is_none_or(|name| catalog.floor.root.catalog.as_str() == name)
        });
        let mut found: Vec<(&Searchable, &App)> = Vec::new();
        for (catalog, apps) in wanted.filter_map(|catalog| Some((catalog, catalog.apps.as_ref()?))) {
            let mut of_catalog = apps.find(&query.words, query.category.as_deref());
            of_catalog.retain(|app| may_speak_of(&catalog.ids, &app.id));
            found.extend(of_catalog.into_iter().map(|app| (apps, app)));
        }
        let end = start.saturating_add(query.page.limit).min(found.len());
        let items = found.get(start..end).unwrap_or_default();
        let items = items.iter().map(|(apps, app)| offer(apps, app, now, false)).collect();
        Ok(Page { items, next: (end < found.len()).then(|| end.to_string()) })
    }

    /// An app as each catalog offers it.
    pub(in crate::node) fn show_offers(&self, id: &AppId) -> Answer<Page<Offer>> {
        let now = self.catalog_time();
        let all = self.catalogs.all();
        let catalogs = all.iter().filter(|catalog| may_speak_of(&catalog.ids, id));
        let catalogs = catalogs.filter_map(|catalog| catalog.apps.as_ref());
        let items: Vec<_> =
            catalogs.filter_map(|apps| Some(offer(apps, apps.index.app(id)?, now, true))).collect();
        if items.is_empty() {
            return Err(no_offer(id));
        }
        Ok(Page { items, next: None })
    }

    /// Gets a package from a catalog, and keeps it as one that was sent.
    pub(in crate::node) async fn fetch_package(
        self: Arc<Self>,
        tenant: TenantId,
        id: AppId,
        request: FetchRequest,
    ) -> Answer<(PackageInfo, bool)> {
        let all = self.catalogs.all();
        let owner = self.owner_of_app(tenant, &id).and_then(|owner| owner.key);
        let named = (request.catalog.as_deref(), request.publisher);
        let catalog = chosen(&all, &id, named, owner)?;
        let name = catalog.floor.root.catalog.clone();
        let version = wanted(catalog, &id, request.version.as_ref())?;
        let (app, publisher) = catalog.offered(&id).ok_or_else(|| no_offer(&id))?;
        let listed = Listed { catalog: &name, id: &id, version: &version, keys: &publisher.keys };
        // One that was sent without its publisher's signature gets it now.
        let known = self.known_or_404(tenant, version.digest).ok();
        if let Some(known) = known.filter(|known| known.record.signers.contains(&app.key)) {
            listed.check(&known.manifest, known.record.digest, &known.record.signers)?;
            return Ok((info(&known), false));
        }
        // One of each catalog: a slow web server holds up its own alone.
        let _own = catalog.fetching.lock().await;
        let place = self.catalogs.fetching.acquire().await;
        let _place = place.map_err(|error| problems::internal(&error))?;
        let source = catalog.source.clone();
        let (path, size) = (package_path(version.file), version.size.get());
        let hashed = |bytes: Vec<u8>| (Digest::of(&bytes), bytes);
        let access = self.catalog_access();
        let read =
            aside(move || source.open(&access)?.read(&path, size).map(|bytes| bytes.map(hashed))).await;
        let read = read.map_err(|error| problems::internal(&error))?;
        let read = read.map_err(|error| {
            let problem = Problem::refused("catalog", error.to_string());
            problem.hint(format!("`ironloom catalog refresh {name}` says if the catalog can be reached."))
        })?;
        let (found, bytes) = read.ok_or_else(|| {
            let detail = format!("the catalog {name} lacks the file of {id} {}", version.version);
            let problem = Problem::refused("catalog", detail);
            problem.hint("A bundle has the packages that were chosen for it. Ask the catalog's maker.")
        })?;
        if bytes.len() as u64 != size || found != version.file {
            let (version, length) = (&version.version, bytes.len());
            let detail = format!(
                "the file of {id} {version} isn't the one that the catalog {name} names: it has {length} bytes and the digest {found}"
            );
            let problem = Problem::refused("catalog", detail);
            return Err(problem.hint("Nothing of it was looked at. Ask the catalog's maker."));
        }
        let check = |package: &Package| {
            let signers: Vec<PublicKey> = package.signed.signers().collect();
            listed.check(&package.manifest, package.digest, &signers)
        };
        Arc::clone(&self).take_package(tenant, Bytes::from(bytes), check).await
    }
}

/// A version of an app as a catalog lists it.
struct Listed<'l> {
    catalog: &'l CatalogName,
    id: &'l AppId,
    version: &'l Version,
    /// The keys of which one must have signed it.
    keys: &'l BTreeSet<PublicKey>,
}

impl Listed<'_> {
    /// Refuses a package that isn't what the catalog says of it.
    fn check(&self, manifest: &Manifest, digest: Digest, signers: &[PublicKey]) -> Answer<()> {
        let Self { catalog, id, version: Version { version, digest: listed, .. }, keys } = self;
        let detail = if digest != *listed {
            format!("the package of {id} {version} is {digest}, and the catalog {catalog} names {listed}")
        } else if manifest.id != **id || manifest.version != version.to_string() {
            let (is, has) = (&manifest.id, &manifest.version);
            format!("what the catalog {catalog} offers as {id} {version} is {is} {has}")
        } else if !signers.iter().any(|key| keys.contains(key)) {
            format!("no key to which the catalog {catalog} gives {id} has signed its package of {version}")
        } else {
            return Ok(());
        };
        Err(Problem::refused("catalog", detail).hint("Nothing of it was kept. Ask the catalog's maker."))
    }
}

fn index(catalog: &Catalog) -> Option<&Index> {
    catalog.apps.as_ref().map(|apps| &apps.index)
}

/// The catalog that an app is to come from: the one that is named, or the only one that offers it.
fn chosen<'c>(
    all: &'c [Arc<Catalog>],
    id: &AppId,
    (named, publisher): (Option<&str>, Option<PublicKey>),
    owner: Option<PublicKey>,
) -> Answer<&'c Catalog> {
    let offers = |catalog: &&Arc<Catalog>| catalog.offered(id).is_some();
    let mut offering: Vec<&Catalog> = all.iter().filter(offers).map(Arc::as_ref).collect();
    if let Some(key) = publisher {
        let is_theirs = |catalog: &&Catalog| {
            catalog.offered(id).is_some_and(|(_, publisher)| publisher.keys.contains(&key))
        };
        let were_some = !offering.is_empty();
        offering.retain(is_theirs);
        if were_some && offering.is_empty() {
            let detail = format!("no catalog that offers {id} gives it to {key}");
            return Err(Problem::refused("publisher", detail)
                .at(Place::field("publisher"))
                .hint(format!("`ironloom catalog show {id}` shows the key of each.")));
        }
    }
    let by_owner = |catalog: &&Catalog| catalog.offered(id).is_some_and(|(app, _)| Some(app.key) == owner);
    if named.is_none() && offering.iter().filter(|catalog| by_owner(catalog)).count() == 1 {
        offering.retain(by_owner);
    }
    let name = |catalog: &Catalog| catalog.floor.root.catalog.to_string();
    match (named, offering.as_slice()) {
        (_, []) => Err(no_offer(id)),
        (Some(named), several) => {
            let found = several.iter().find(|one| name(one) == named).copied();
            found.ok_or_else(|| {
                let detail = format!("the catalog {named} doesn't offer {id}");
                let problem = Problem::not_found(detail).at(Place::field("catalog"));
                problem.hint(format!("`ironloom catalog show {id}` shows where it is offered."))
            })
        }
        (None, [one]) => Ok(one),
        (None, several) => {
            let names: Vec<_> = several.iter().map(|one| name(one)).collect();
            let detail = format!("{id} is offered by the catalogs {}", names.join(", "));
            Err(Problem::refused("catalog", detail).at(Place::field("catalog")).hint(format!(
                "Name one with `catalog`, or as `CATALOG/{id}`; or its publisher's key with `publisher`."
            )))
        }
    }
}

/// The version that somebody wants: the one that is named, or the newest that is no pre-release. Where that one is
/// blocked, somebody has to say which is wanted: an older one may not understand the state.
fn wanted(catalog: &Catalog, id: &AppId, version: Option<&semver::Version>) -> Answer<Version> {
    let of_app = || Some((index(catalog)?, index(catalog)?.app(id)?));
    let (index, app) = of_app().ok_or_else(|| no_offer(id))?;
    let mut versions = app.versions.iter().rev();
    let found = match version {
        Some(version) => versions.find(|one| one.version == *version),
        None => versions.find(|one| one.version.pre.is_empty()),
    };
    let blocked = found.and_then(|found| Some((&found.version, index.blocked(id, &found.version)?)));
    if let Some((newest, blocked)) = blocked.filter(|_| version.is_none()) {
        let (catalog, reason) = (&index.catalog, &blocked.reason);
        let detail = format!("the catalog {catalog} blocks {newest}, the newest version of {id}: {reason}");
        let problem = Problem::refused("catalog", detail).at(Place::field("version"));
        return Err(problem.hint(format!("Name another version with `version`, or as `{id}@VERSION`.")));
    }
    found.cloned().ok_or_else(|| {
        let any = || "version that is no pre-release".to_owned();
        let wanted = version.map_or_else(any, |version| format!("version {version}"));
        let has: Vec<_> = app.versions.iter().map(|one| one.version.to_string()).collect();
        let detail =
            format!("the catalog {} has no {wanted} of {id}; it has {}", index.catalog, has.join(", "));
        let problem = Problem::not_found(detail).at(Place::field("version"));
        problem.hint(format!("Name one of these with `version`, or as `{id}@VERSION`."))
    })
}

fn no_offer(id: &AppId) -> Problem {
    Problem::not_found(format!("no catalog offers the app {id}")).hint(
        "`ironloom catalog search` looks through all of them, `ironloom catalog refresh` gets their newest indexes.",
    )
}

/// An app as a catalog has it; with all of its versions, or with the newest alone.
fn offer(apps: &Searchable, app: &App, now: Timestamp, all: bool) -> Offer {
    let index = &apps.index;
    let shown = |version: &Version| OfferedVersion {
        version: version.version.to_string(),
        package: version.digest,
        bytes: version.size.get(),
        inputs: version.asks.inputs.0.clone(),
        outputs: version.asks.outputs.0.clone(),
        set_points: version.asks.set_points.0.clone(),
        blocked: apps.blocked(&app.id, &version.version).map(|one| one.reason.clone()),
    };
    let newest = app.versions.len().saturating_sub(1);
    let versions = app.versions.iter().skip(if all { 0 } else { newest });
    let publisher = apps.publisher_of(&app.id);
    Offer {
        catalog: index.catalog.to_string(),
        id: app.id.clone(),
        name: app.name.clone(),
        publisher: publisher.map_or_else(String::new, |publisher| publisher.name.clone()),
        key: app.key,
        revoked: apps.revoked(app.key).map(|revoked| revoked.reason.clone()),
        description: app.description.clone(),
        license: app.license.clone(),
        categories: app.categories.iter().cloned().collect(),
        expired: index.expires <= now,
        versions: versions.map(shown).collect(),
    }
}
