//! Catalogs: added, looked at again, removed; the apps on offer, and their packages.

mod looks;
mod offers;
mod seen;

use std::collections::BTreeMap;
use std::sync::Arc;

use parking_lot::{Mutex, RwLock};

use self::looks::Looks;
use super::platform::MAX_NOTES;
use super::{Node, problems};
use crate::api::facade::{
    Answer, CatalogIndex, CatalogInfo, CatalogRequest, Place, Problem, RETRY_SOON, RefreshRequest,
};
use crate::aside::aside;
use crate::catalogs::look::{Before, Found, LookError, look};
use crate::catalogs::source::Source;
use crate::catalogs::web::Access;
use crate::records::admin::AdminRecord;
use crate::records::catalog::{CatalogRecord, MOST_CATALOGS};
use ironloom_storage::store::Files;
use ironloom_trust::catalog::floor::Floor;
use ironloom_trust::catalog::index::{App, Publisher};
use ironloom_trust::catalog::rules::{self, Word};
use ironloom_trust::catalog::search::Searchable;
use ironloom_trust::catalog::trust_file::MAX_SEEN;
use ironloom_trust::key::PublicKey;
use ironloom_trust::rotation::is_prefix;
use ironloom_types::clock::{Timestamp, host_time};
use ironloom_types::ids::{AppId, CatalogNumber, Digest};

/// The most packages that are got at a time, each of another catalog.
const MOST_FETCHED: usize = 4;
/// The most looks at catalogs at a time.
const MOST_LOOKS: usize = 4;
/// The most apps of all catalogs together: they are in memory.
const MOST_APPS: usize = 100_000;

/// The catalogs of a node, ready to be looked through.
pub(super) struct Catalogs {
    all: RwLock<BTreeMap<Box<str>, Arc<Catalog>>>,
    /// The newest that was seen of those that aren't here.
    removed: RwLock<BTreeMap<Box<str>, Floor>>,
    /// Their indexes, as they were signed.
    files: Arc<Files>,
    /// Held by whoever changes one; the last number that was given.
    changing: tokio::sync::Mutex<CatalogNumber>,
    pub(super) looks: Looks,
    /// Places of those who get a package, which is in memory meanwhile.
    fetching: tokio::sync::Semaphore,
    /// Looks at catalogs at a time: each waits for the network on a thread that others need, too.
    looking: tokio::sync::Semaphore,
}

/// A catalog with its index in memory.
#[derive(Debug)]
pub(super) struct Catalog {
    number: CatalogNumber,
    pub(super) source: Source,
    ids: Vec<String>,
    pub(super) floor: Floor,
    /// None where the file is gone, as after a restore: the next look brings it.
    pub(super) apps: Option<Searchable>,
    refreshed: Timestamp,
    /// Held by whoever gets a package of it.
    fetching: tokio::sync::Mutex<()>,
    /// The reason why the last look found nothing new.
    problem: Mutex<Option<String>>,
}

impl Catalog {
    /// The number of its apps.
    fn apps(&self) -> usize {
        self.apps.as_ref().map_or(0, |apps| apps.index.apps.len())
    }

    /// An app that it offers, with the publisher that it gives the id to: one that it may speak of, and that publisher signs.
    fn offered(&self, id: &AppId) -> Option<(&App, &Publisher)> {
        let apps = self.apps.as_ref()?;
        let (app, publisher) = (apps.index.app(id)?, apps.publisher_of(id)?);
        (rules::may_speak_of(&self.ids, id) && publisher.keys.contains(&app.key)).then_some((app, publisher))
    }

    /// Its word on apps; none without an index.
    pub(super) fn word(&self) -> Option<Word<'_>> {
        let apps = self.apps.as_ref()?;
        let Self { number, floor, ids, .. } = self;
        Some(Word { number: *number, floor, index: &apps.index, rotations: &apps.rotations, ids })
    }
}

/// A catalog as a look has found it, ready to be looked through.
struct Kept {
    floor: Floor,
    apps: Searchable,
    /// The file of the index, and its digest.
    file: Vec<u8>,
    digest: Digest,
}

impl Catalogs {
    /// Those that the log knows.
    pub(super) fn open(files: Files, records: &BTreeMap<Box<str>, CatalogRecord>) -> Self {
        let mut all = BTreeMap::new();
        for record in records.values().filter(|record| record.source.is_some()) {
            match load(&files, record) {
                Ok(catalog) => drop(all.insert(record.name.clone(), Arc::new(catalog))),
                Err(error) => {
                    tracing::error!(catalog = %record.name, %error, "a catalog can't be read; add it again")
                }
            }
        }
        let names: Vec<String> = records.values().filter_map(|one| Some(one.index?.hex())).collect();
        if let Err(error) = files.keep_only(|name| names.iter().any(|known| known == name)) {
            tracing::warn!(%error, "old indexes of catalogs could not be removed");
        }
        Self {
            all: RwLock::new(all),
            removed: RwLock::new(seen::removed(records)),
            files: Arc::new(files),
            looks: Looks::default(),
            fetching: tokio::sync::Semaphore::new(MOST_FETCHED),
            looking: tokio::sync::Semaphore::new(MOST_LOOKS),
            changing: tokio::sync::Mutex::default(),
        }
    }

    /// All of them as they are now.
    pub(super) fn all(&self) -> Vec<Arc<Catalog>> {
        self.all.read().values().cloned().collect()
    }

    /// The apps of all catalogs but one.
    fn apps_besides(&self, name: &str) -> usize {
        let all = self.all.read();
        all.iter().filter(|(other, _)| ***other != *name).map(|(_, catalog)| catalog.apps()).sum()
    }

    /// The name of one whose index isn't here, so that nobody knows what it is against.
    pub(super) fn without_index(&self) -> Option<Box<str>> {
        let all = self.all.read();
        all.iter().find(|(_, catalog)| catalog.apps.is_none()).map(|(name, _)| name.clone())
    }

    /// A place to look at a catalog; 503 while all are taken.
    fn looks(&self) -> Answer<tokio::sync::SemaphorePermit<'_>> {
        self.looking.try_acquire().map_err(|_| {
            let detail = format!("{MOST_LOOKS} catalogs are being looked at already");
            Problem::unavailable("busy", detail, RETRY_SOON)
        })
    }

    fn one(&self, name: &str) -> Answer<Arc<Catalog>> {
        let found = self.all.read().get(name).cloned();
        found.ok_or_else(|| {
            Problem::not_found(format!("there is no catalog {name:?}"))
                .hint("`ironloom catalog list` lists those that there are.")
        })
    }
}

/// Reads a record and the file of its index.
fn load(files: &Files, record: &CatalogRecord) -> Result<Catalog, String> {
    let floor: Floor = serde_json::from_str(&record.floor).map_err(|error| error.to_string())?;
    let source =
        Source::new(record.source.as_deref().unwrap_or_default()).map_err(|error| error.to_string())?;
    let file = record.index.map(|index| files.read(&index.hex(), index));
    // Whoever can write here can write anything; it is held against what was seen.
    let index = match file {
        Some(Ok(Some(bytes))) => floor.clone().take_index(&bytes).ok(),
        _ => None,
    };
    let problem = index.is_none().then(|| "its index isn't here; refresh it".to_owned());
    let apps = index.map(Searchable::new);
    let ids = record.ids.iter().map(ToString::to_string).collect();
    Ok(Catalog {
        number: record.number,
        source,
        ids,
        floor,
        apps,
        refreshed: record.refreshed,
        fetching: tokio::sync::Mutex::default(),
        problem: Mutex::new(problem),
    })
}

/// Looks at a catalog, and makes it ready. Waits for disk or network.
fn look_at(source: &Source, access: &Access, from: Before<'_>, now: Timestamp) -> Result<Kept, LookError> {
    let opened = source.open(access)?;
    let Found { floor, index, file } = look((source, &opened), from, now)?;
    let digest = Digest::of(&file);
    Ok(Kept { floor, apps: Searchable::new(index), file, digest })
}

/// Looks at a catalog that isn't here. Where one of its name was here, what was seen of that counts.
fn first_look(
    source: &Source,
    access: &Access,
    believed: &[PublicKey],
    seen: &BTreeMap<Box<str>, Floor>,
    now: Timestamp,
) -> Result<Kept, FirstLookError> {
    let found = look_at(source, access, Before::Believed(believed), now)?;
    let name = found.floor.root.catalog.as_str();
    let Some(seen) = seen.get(name) else { return Ok(found) };
    look_at(source, access, Before::Seen(seen), now)
        .map_err(|error| FirstLookError::Seen { name: name.into(), error: error.into() })
}

/// The reason why a catalog isn't added.
#[derive(Debug, thiserror::Error)]
enum FirstLookError {
    #[error(transparent)]
    Look(#[from] LookError),
    #[error("{error}; a catalog of the name {name} was here before, and what was seen of it still counts")]
    Seen { name: Box<str>, error: Box<LookError> },
}

impl FirstLookError {
    fn problem(&self) -> Problem {
        match self {
            Self::Look(error) => look_problem(error),
            Self::Seen { name, .. } => {
                let problem = Problem::refused("catalog", self.to_string()).at(Place::field("source"));
                problem.hint(format!(
                    "Nothing was changed. Ask its maker. `ironloom catalog remove --forget {name}` forgets what was seen, for one that \
                     begins anew."
                ))
            }
        }
    }
}

fn look_problem(error: &LookError) -> Problem {
    let problem = Problem::refused("catalog", error.to_string()).at(Place::field("source"));
    match error {
        error if error.wants_key() => problem.at(Place::field("trust")).hint(
            "Compare these keys with what its maker has told you by another way, then name them with `trust`, or \
             `--trust KEY`.",
        ),
        LookError::Catalog(..) => problem.hint("Nothing was changed. Ask its maker."),
        _ => problem.hint("Nothing was changed. See that the server's machine can read what is at this place."),
    }
}

fn bad_source(error: &impl std::fmt::Display) -> Problem {
    Problem::refused("catalog", error.to_string()).at(Place::field("source")).hint(
        "Name a folder or bundle of the server's machine by its path from the root, a URL of a web server, or \
         `oci://HOST/REPOSITORY`.",
    )
}

impl Node {
    /// Adds a catalog.
    pub(super) async fn add_catalog(self: Arc<Self>, request: CatalogRequest) -> Answer<CatalogInfo> {
        self.check_space()?;
        let source = Source::new(&request.source).map_err(|error| bad_source(&error))?;
        for prefix in &request.ids {
            if !is_prefix(prefix) {
                let detail = format!("{prefix:?} is no app id, nor the beginning of one up to a dot");
                return Err(Problem::refused("catalog", detail)
                    .at(Place::field("ids"))
                    .hint("Write the beginning of ids, such as `com.example`."));
            }
        }
        let _looking = self.catalogs.looks()?;
        let (from, trust, now) = (source.clone(), request.trust, self.catalog_time());
        let (access, seen) = (self.catalog_access(), self.catalogs.removed.read().clone());
        let found = aside(move || first_look(&from, &access, &trust, &seen, now)).await;
        let found = found.map_err(|error| problems::internal(&error))?.map_err(|error| error.problem())?;
        let name: Box<str> = found.floor.root.catalog.as_str().into();
        let mut given = self.catalogs.changing.lock().await;
        if self.catalogs.all.read().contains_key(&name) {
            let detail = format!("there is a catalog {name} already");
            return Err(Problem::conflict("exists", detail).hint(format!(
                "`ironloom catalog refresh {name}` looks at it again, also in another place; `ironloom catalog remove {name}` makes \
                 way for another one."
            )));
        }
        let seen = self.shared.catalogs.read().len();
        if seen >= MAX_SEEN && !self.shared.catalogs.read().contains_key(&name) {
            let detail = format!("of {seen} catalogs it is kept what was seen already, and that is the most");
            return Err(Problem::refused("catalog", detail)
                .hint("`ironloom catalog remove --forget NAME` forgets what was seen of one."));
        }
        if self.catalogs.all.read().len() >= MOST_CATALOGS {
            let detail = format!("there are {MOST_CATALOGS} catalogs already, and that is the most");
            let problem = Problem::refused("catalog", detail);
            return Err(problem.hint("`ironloom catalog remove NAME` removes one."));
        }
        let number = self.catalog_number(&name, &mut given);
        self.keep_catalog((name, number), (source, request.ids), found).await
    }

    /// The number of a catalog: that of before where anything of it is kept, else another one than any that is known of.
    fn catalog_number(&self, name: &str, given: &mut CatalogNumber) -> CatalogNumber {
        let records = self.shared.catalogs.read();
        if let Some(record) = records.get(name) {
            return record.number;
        }
        let of_owners = self.shared.owners.read().values().filter_map(|owner| owner.catalog).max();
        let last = records.values().map(|record| record.number).max();
        *given = (*given).max(last.unwrap_or_default()).max(of_owners.unwrap_or_default()).next();
        *given
    }

    /// Looks at a catalog again, perhaps in another place.
    pub(super) async fn refresh_catalog(
        self: Arc<Self>,
        name: String,
        request: RefreshRequest,
    ) -> Answer<CatalogInfo> {
        self.check_space()?;
        let catalog = self.catalogs.one(&name)?;
        let source = match &request.source {
            None => catalog.source.clone(),
            Some(source) => Source::new(source).map_err(|error| bad_source(&error))?,
        };
        let _looking = self.catalogs.looks()?;
        let (from, at, now) = (Arc::clone(&catalog), source.clone(), self.catalog_time());
        let access = self.catalog_access();
        // Without a lock: a web server may take its time.
        let found = aside(move || look_at(&at, &access, Before::Seen(&from.floor), now)).await;
        let _changing = self.catalogs.changing.lock().await;
        if !Arc::ptr_eq(&self.catalogs.one(&name)?, &catalog) {
            let detail = format!("the catalog {name} was changed meantime");
            return Err(Problem::conflict("exists", detail).hint("Send the request again."));
        }
        match found.map_err(|error| problems::internal(&error))? {
            Ok(found) => {
                let (known, ids) = ((name.into(), catalog.number), catalog.ids.clone());
                self.keep_catalog(known, (source, ids), found).await
            }
            Err(error) => {
                tracing::warn!(catalog = %name, %error, "a catalog was looked at, and stays as it was");
                if source == catalog.source {
                    *catalog.problem.lock() = Some(error.to_string());
                }
                Err(look_problem(&error))
            }
        }
    }

    /// Writes what a look has found, and takes it over once that is durable.
    async fn keep_catalog(
        &self,
        (name, number): (Box<str>, CatalogNumber),
        (source, ids): (Source, Vec<String>),
        found: Kept,
    ) -> Answer<CatalogInfo> {
        let Kept { floor, apps, file, digest: index } = found;
        if self.catalogs.apps_besides(&name) + apps.index.apps.len() > MOST_APPS {
            let detail = format!("all catalogs together would have more than {MOST_APPS} apps");
            let problem = Problem::refused("catalog", detail);
            return Err(problem.hint("`ironloom catalog remove NAME` removes one."));
        }
        let json = serde_json::to_string(&floor).map_err(|error| problems::internal(&error))?;
        let record = CatalogRecord {
            name: name.clone(),
            number,
            source: Some(source.to_string().into()),
            ids: ids.iter().map(|id| id.as_str().into()).collect(),
            floor: json.into(),
            index: Some(index),
            refreshed: host_time(),
        };
        let before = self.shared.catalogs.read().get(&name).cloned();
        // Also where the log has it already: the file may be gone, as after a restore.
        let files = Arc::clone(&self.catalogs.files);
        let written = aside(move || files.write(&index.hex(), &file)).await;
        let written = written.map_err(|error| problems::internal(&error))?;
        written.map_err(|error| problems::internal(&error))?;
        let refreshed = record.refreshed;
        self.change(AdminRecord::CatalogSet(Box::new(record))).await?;
        let catalog = Catalog {
            number,
            source,
            ids,
            floor,
            apps: Some(apps),
            refreshed,
            fetching: tokio::sync::Mutex::default(),
            problem: Mutex::default(),
        };
        self.catalogs.all.write().insert(name.clone(), Arc::new(catalog));
        self.catalogs.removed.write().remove(&name);
        self.catalogs.looks.forget();
        self.drop_index(before.and_then(|before| before.index)).await;
        self.show_catalog(&name)
    }

    /// Removes the file of an index that no catalog has any more. The next start removes what is left over.
    async fn drop_index(&self, index: Option<Digest>) {
        let Some(index) = index else { return };
        if self.shared.catalogs.read().values().all(|record| record.index != Some(index)) {
            let files = Arc::clone(&self.catalogs.files);
            drop(aside(move || files.remove(&index.hex())).await);
        }
    }

    pub(super) fn show_catalogs(&self) -> Vec<CatalogInfo> {
        let all = self.catalogs.all.read().clone();
        let (clock, now) = (self.catalog_clock(), self.catalog_time());
        all.iter().map(|(name, catalog)| info(name, catalog, clock, now)).collect()
    }

    pub(super) fn show_catalog(&self, name: &str) -> Answer<CatalogInfo> {
        Ok(info(name, &*self.catalogs.one(name)?, self.catalog_clock(), self.catalog_time()))
    }

    /// Says of which catalogs nothing new is installed, since nobody has signed their index lately.
    pub(super) fn expired_indexes(&self) -> Vec<String> {
        let expired = self.show_catalogs().into_iter().filter_map(|catalog| {
            let index = catalog.index.filter(|index| index.expired)?;
            let (name, expires) = (catalog.name, index.expires);
            Some(format!(
                "the index of the catalog {name} has expired at {expires}: nothing of it is installed until a newer one is there \
                 (`ironloom catalog refresh {name}`)"
            ))
        });
        expired.take(MAX_NOTES).collect()
    }

    /// The way to places of catalogs, as the configuration says it now.
    fn catalog_access(&self) -> Access {
        self.config.load().catalogs.clone()
    }
}

fn info(name: &str, catalog: &Catalog, clock: Timestamp, now: Timestamp) -> CatalogInfo {
    let root = &catalog.floor.root;
    let index = catalog.apps.as_ref().map(|apps| CatalogIndex {
        version: apps.index.version.get(),
        issued: apps.index.issued,
        expires: apps.index.expires,
        expired: apps.index.expires <= now.max(catalog.floor.latest),
        apps: apps.index.apps.len() as u64,
    });
    let latest = catalog.floor.latest;
    let ahead = rules::is_ahead(clock, latest).then(|| {
        format!("it was signed at {latest}, more than a day ahead of this machine's clock: for other catalogs that time doesn't count")
    });
    CatalogInfo {
        name: name.to_owned(),
        source: catalog.source.to_string(),
        ids: catalog.ids.clone(),
        root: root.version.get(),
        root_keys: root.root.keys.iter().copied().collect(),
        root_threshold: root.root.threshold,
        index,
        refreshed: catalog.refreshed,
        problem: catalog.problem.lock().clone().or(ahead),
    }
}
