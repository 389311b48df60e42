//! Catalogs: added, looked at again, removed; the apps on offer, and their packages.

mod offers;

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::{Duration, Instant};

use parking_lot::{Mutex, RwLock};

use super::{Node, problems};
use crate::api::facade::{Answer, CatalogIndex, CatalogInfo, CatalogRequest, Place, Problem};
use crate::aside::aside;
use crate::catalogs::source::{Source, SourceError};
use crate::catalogs::{INDEX, root_path};
use crate::records::admin::AdminRecord;
use crate::records::catalog::{CatalogRecord, MOST_CATALOGS};
use ironloom_storage::store::Files;
use ironloom_trust::catalog::CatalogError;
use ironloom_trust::catalog::floor::Floor;
use ironloom_trust::catalog::rules::{Word, time};
use ironloom_trust::catalog::search::Searchable;
use ironloom_trust::envelope::{Envelope, Kind};
use ironloom_trust::key::PublicKey;
use ironloom_trust::rotation::is_prefix;
use ironloom_types::clock::{Timestamp, host_time};
use ironloom_types::ids::Digest;

/// The time that the roots of one look have.
const LOOK: Duration = Duration::from_secs(600);
/// The most apps of all catalogs together: they are in memory.
const MOST_APPS: usize = 100_000;
/// The most roots that one look takes.
const MOST_ROOTS: u64 = 1_000;

/// The catalogs of a node, ready to be looked through.
pub(super) struct Catalogs {
    all: RwLock<BTreeMap<Box<str>, Arc<Catalog>>>,
    /// Their indexes, as they were signed.
    files: Arc<Files>,
    /// Held by whoever changes one.
    changing: tokio::sync::Mutex<()>,
    /// Why a catalog is against a package that is here, for as long as the catalogs are the same.
    against: Mutex<BTreeMap<Digest, Option<String>>>,
    /// Held by whoever gets a package, which is in memory meanwhile.
    fetching: tokio::sync::Mutex<()>,
}

/// A catalog with its index in memory.
#[derive(Debug)]
pub(super) struct Catalog {
    pub(super) source: Source,
    ids: Vec<String>,
    pub(super) floor: Floor,
    /// None where the file is gone, as after a restore: the next look brings it.
    pub(super) apps: Option<Searchable>,
    refreshed: Timestamp,
    /// The reason why the last look found nothing new.
    problem: Mutex<Option<String>>,
}

impl Catalog {
    /// The number of its apps.
    fn apps(&self) -> usize {
        self.apps.as_ref().map_or(0, |apps| apps.index.apps.len())
    }

    /// Its word on apps; none without an index.
    pub(super) fn word(&self) -> Option<Word<'_>> {
        let apps = self.apps.as_ref()?;
        Some(Word { floor: &self.floor, index: &apps.index, rotations: &apps.rotations, ids: &self.ids })
    }
}

/// The parts of a catalog as one look has found them.
struct Found {
    floor: Floor,
    apps: Searchable,
    /// The file of the index, and its digest.
    file: Vec<u8>,
    digest: Digest,
}

/// The reason why a look has found none.
#[derive(Debug, thiserror::Error)]
enum LookError {
    #[error(transparent)]
    Source(#[from] SourceError),
    #[error(transparent)]
    Catalog(#[from] CatalogError),
    #[error("{0}: the newest root has expired at {1}; its maker has to sign another one")]
    Expired(Source, Timestamp),
    #[error("{0} takes longer than ten minutes to give its roots")]
    Slow(Source),
    #[error("{0} has no {1}: it is no catalog, or one that nobody has signed yet")]
    Missing(Source, &'static str),
}

impl Catalogs {
    /// Those that the log knows.
    pub(super) fn open(files: Files, records: &BTreeMap<Box<str>, CatalogRecord>) -> Self {
        let mut all = BTreeMap::new();
        for record in records.values() {
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
            files: Arc::new(files),
            against: Mutex::default(),
            fetching: tokio::sync::Mutex::default(),
            changing: tokio::sync::Mutex::default(),
        }
    }

    /// All of them as they are now.
    pub(super) fn all(&self) -> Vec<Arc<Catalog>> {
        self.all.read().values().cloned().collect()
    }

    /// The reason against a package that was found before; the outer `None` where nobody has looked.
    pub(super) fn against(&self, package: Digest) -> Option<Option<String>> {
        self.against.lock().get(&package).cloned()
    }

    pub(super) fn note_against(&self, package: Digest, against: Option<String>) {
        self.against.lock().insert(package, against);
    }

    /// Forgets what was found of a package: its signatures are others.
    pub(super) fn forget_against(&self, package: Digest) {
        self.against.lock().remove(&package);
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
    let source = Source::new(&record.source).map_err(|error| error.to_string())?;
    let file = record.index.map(|index| files.read(&index.hex(), index));
    // Whoever can write here can write anything; it is held against what was seen.
    let index = match file {
        Some(Ok(Some(bytes))) => floor.clone().take_index(&bytes).ok(),
        _ => None,
    };
    let problem = index.is_none().then(|| "its index isn't here; refresh it".to_owned());
    let apps = index.map(Searchable::new);
    let ids = record.ids.iter().map(ToString::to_string).collect();
    Ok(Catalog { source, ids, floor, apps, refreshed: record.refreshed, problem: Mutex::new(problem) })
}

/// Looks at a catalog: the roots that follow, and the index. Waits for disk or network.
fn look(
    source: &Source,
    before: Option<&Floor>,
    believed: &[PublicKey],
    now: Timestamp,
) -> Result<Found, LookError> {
    let root = |version: u64| source.read(&root_path(version), Kind::Root.max_envelope() as u64);
    let start = Instant::now();
    let mut floor = match before {
        Some(before) => before.clone(),
        None => first_floor(source, believed, start)?,
    };
    for _ in 0..MOST_ROOTS {
        if start.elapsed() > LOOK {
            return Err(LookError::Slow(source.clone()));
        }
        let Some(next) = root(floor.root.version.get() + 1)? else { break };
        floor.take_root(&next)?;
    }
    if floor.root.expires <= now {
        return Err(LookError::Expired(source.clone(), floor.root.expires));
    }
    let file = source.read(INDEX, Kind::Index.max_envelope() as u64)?;
    let file = file.ok_or_else(|| LookError::Missing(source.clone(), INDEX))?;
    let index = floor.take_index(&file)?;
    let digest = Digest::of(&file);
    Ok(Found { floor, apps: Searchable::new(index), file, digest })
}

/// The first root that those who are believed have signed: one that was changed since then is as good as the first.
fn first_floor(source: &Source, believed: &[PublicKey], start: Instant) -> Result<Floor, LookError> {
    let mut not_trusted = None;
    let mut signers = BTreeSet::new();
    for version in 1..=MOST_ROOTS {
        if start.elapsed() > LOOK {
            return Err(LookError::Slow(source.clone()));
        }
        let root = source.read(&root_path(version), Kind::Root.max_envelope() as u64)?;
        let Some(root) = root else { break };
        if believed.is_empty() {
            signers = Envelope::read(Kind::Root, &root).map_err(CatalogError::from)?.signers().collect();
            continue;
        }
        match Floor::first(&root, believed) {
            Err(error @ CatalogError::NotTrusted { .. }) => not_trusted = Some(error),
            first => return Ok(first?),
        }
    }
    match not_trusted {
        Some(error) => Err(error.into()),
        None if signers.is_empty() => Err(LookError::Missing(source.clone(), "root/1.json")),
        None => Err(CatalogError::NobodyBelieved { signers: signers.into_iter().collect() }.into()),
    }
}

fn look_problem(source: &Source, error: &LookError) -> Problem {
    let detail = match error {
        LookError::Catalog(error) => format!("{source}: {error}"),
        error => error.to_string(),
    };
    let problem = Problem::refused("catalog", detail).at(Place::field("source"));
    match error {
        LookError::Catalog(CatalogError::NobodyBelieved { .. }) => problem.at(Place::field("trust")).hint(
            "Compare these keys with what its maker has told you by another way, then name them with `trust`, or \
             `--trust KEY`.",
        ),
        LookError::Catalog(_) => problem.hint("Nothing was changed. Ask its maker."),
        _ => problem,
    }
}

impl Node {
    /// Adds a catalog.
    pub(super) async fn add_catalog(self: Arc<Self>, request: CatalogRequest) -> Answer<CatalogInfo> {
        self.check_space()?;
        let source = Source::new(&request.source)
            .map_err(|error| Problem::refused("catalog", error.to_string()).at(Place::field("source")))?;
        for prefix in &request.ids {
            if !is_prefix(prefix) {
                let detail = format!("{prefix:?} is no app id, nor the beginning of one up to a dot");
                return Err(Problem::refused("catalog", detail).at(Place::field("ids")));
            }
        }
        let (from, trust, now) = (source.clone(), request.trust, self.catalog_time());
        let found = aside(move || look(&from, None, &trust, now)).await;
        let found = found
            .map_err(|error| problems::internal(&error))?
            .map_err(|error| look_problem(&source, &error))?;
        let name: Box<str> = found.floor.root.catalog.as_str().into();
        let _changing = self.catalogs.changing.lock().await;
        if self.catalogs.all.read().contains_key(&name) {
            let detail = format!("there is a catalog {name} already; remove it first, or refresh it");
            return Err(Problem::conflict("exists", detail));
        }
        if self.catalogs.all.read().len() >= MOST_CATALOGS {
            let detail = format!("there are {MOST_CATALOGS} catalogs already, and that is the most");
            return Err(Problem::refused("catalog", detail));
        }
        self.keep_catalog(name, (source, request.ids), found).await
    }

    /// Looks at a catalog again.
    pub(super) async fn refresh_catalog(self: Arc<Self>, name: String) -> Answer<CatalogInfo> {
        self.check_space()?;
        let catalog = self.catalogs.one(&name)?;
        let (from, now) = (Arc::clone(&catalog), self.catalog_time());
        // Without a lock: a web server may take its time.
        let found = aside(move || look(&from.source, Some(&from.floor), &[], now)).await;
        let _changing = self.catalogs.changing.lock().await;
        if !Arc::ptr_eq(&self.catalogs.one(&name)?, &catalog) {
            let detail = format!("the catalog {name} was changed in the meantime");
            return Err(Problem::conflict("exists", detail).hint("Send the request again."));
        }
        match found.map_err(|error| problems::internal(&error))? {
            Ok(found) => {
                self.keep_catalog(name.into(), (catalog.source.clone(), catalog.ids.clone()), found).await
            }
            Err(error) => {
                tracing::warn!(catalog = %name, %error, "a catalog was looked at, and stays as it was");
                *catalog.problem.lock() = Some(error.to_string());
                Err(look_problem(&catalog.source, &error))
            }
        }
    }

    /// Writes what a look has found, and takes it over once that is durable.
    async fn keep_catalog(
        &self,
        name: Box<str>,
        (source, ids): (Source, Vec<String>),
        found: Found,
    ) -> Answer<CatalogInfo> {
        let Found { floor, apps, file, digest: index } = found;
        if self.catalogs.apps_besides(&name) + apps.index.apps.len() > MOST_APPS {
            let detail =
                format!("all catalogs together would have more than {MOST_APPS} apps; remove one first");
            return Err(Problem::refused("catalog", detail));
        }
        let json = serde_json::to_string(&floor).map_err(|error| problems::internal(&error))?;
        let record = CatalogRecord {
            name: name.clone(),
            source: source.to_string().into(),
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
        let catalog = Catalog { source, ids, floor, apps: Some(apps), refreshed, problem: Mutex::default() };
        self.catalogs.all.write().insert(name.clone(), Arc::new(catalog));
        self.catalogs.against.lock().clear();
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

    /// Removes a catalog. What was installed from it stays.
    pub(super) async fn remove_catalog(self: Arc<Self>, name: String) -> Answer<()> {
        let _changing = self.catalogs.changing.lock().await;
        self.catalogs.one(&name)?;
        let index = self.shared.catalogs.read().get(name.as_str()).and_then(|record| record.index);
        self.change(AdminRecord::CatalogRemoved { name: name.as_str().into() }).await?;
        self.catalogs.all.write().remove(name.as_str());
        self.catalogs.against.lock().clear();
        self.drop_index(index).await;
        Ok(())
    }

    pub(super) fn show_catalogs(&self) -> Vec<CatalogInfo> {
        let all = self.catalogs.all.read().clone();
        let now = self.catalog_time();
        all.iter().map(|(name, catalog)| info(name, catalog, now)).collect()
    }

    pub(super) fn show_catalog(&self, name: &str) -> Answer<CatalogInfo> {
        Ok(info(name, &*self.catalogs.one(name)?, self.catalog_time()))
    }

    /// The time by which indexes expire.
    pub(super) fn catalog_time(&self) -> Timestamp {
        let all = self.catalogs.all();
        let words: Vec<_> = all.iter().filter_map(|catalog| catalog.word()).collect();
        time(host_time(), &words)
    }
}

fn info(name: &str, catalog: &Catalog, now: Timestamp) -> CatalogInfo {
    let root = &catalog.floor.root;
    let index = catalog.apps.as_ref().map(|apps| CatalogIndex {
        version: apps.index.version.get(),
        issued: apps.index.issued,
        expires: apps.index.expires,
        expired: apps.index.expires <= now,
        apps: apps.index.apps.len() as u64,
    });
    CatalogInfo {
        name: name.to_owned(),
        source: catalog.source.to_string(),
        ids: catalog.ids.clone(),
        root: root.version.get(),
        root_keys: root.root.keys.iter().copied().collect(),
        index,
        refreshed: catalog.refreshed,
        problem: catalog.problem.lock().clone(),
    }
}
