//! Loads the store's state as of the fold position into memory.

use std::collections::{BTreeMap, HashSet};
use std::sync::Arc;

use bytes::Bytes;
use parking_lot::RwLock;
use serde::de::DeserializeOwned;

use super::{OpenError, Places, bad};
use crate::fold::alarm_news::AlarmNews;
use crate::fold::apply::{Applier, revision_key};
use crate::fold::durable::Begin;
use crate::fold::past::Past;
use crate::fold::points;
use crate::fold::points::{Loaded, Retired};
use crate::fold::requests::Remembered;
use crate::fold::stored::{StoredLane, StoredPoint, StoredPoints, StoredStream, decode};
use crate::fold::{FoldPosition, Gone, KnownPackage, Shared};
use crate::records::admin::PackageRecord;
use crate::records::alarm::AlarmRecord;
use crate::records::catalog::CatalogRecord;
use crate::records::connector::ConnectorRecord;
use crate::records::consent::ConsentRecord;
use crate::records::installation::{Installation, Revision};
use crate::records::intent::{Asked, Driven};
use crate::records::owner::AppOwner;
use crate::records::tenant::TenantRecord;
use crate::records::token::TokenRecord;
use ironloom_apps::manifest::Manifest;
use ironloom_storage::store::{Item, Key, KeyKind, KeyRange, StateCache, Storage};
use ironloom_types::effects::OneShot;
use ironloom_types::ids::{Generation, PointNumber, PointPath};
use ironloom_types::page::pages;
use ironloom_types::readings::NewPoint;

/// Keys of one page of a scan at start.
const PAGE: usize = 4_096;

/// A point of a page, as it is in memory.
fn loaded(key: &Key, stored: StoredPoint<'_>, units: &mut HashSet<Arc<str>>) -> Result<Loaded, OpenError> {
    let path_of = |tenant, path: &str| PointPath::new(tenant, path).map_err(|error| bad(key, &error));
    Ok(match stored {
        StoredPoint::Removed => Loaded::Removed,
        StoredPoint::There { tenant, path, unit, description } => {
            let unit = unit.map(|unit| shared_unit(units, unit));
            Loaded::There(NewPoint { path: path_of(tenant, path)?, unit }, description.map(Arc::from))
        }
        StoredPoint::Retired { tenant, path, was, unit } => {
            let path = path_of(tenant, path)?;
            let unit = unit.map(|unit| shared_unit(units, unit));
            let was =
                NewPoint { path: was.map_or_else(|| Ok(path.clone()), |was| path_of(tenant, was))?, unit };
            Loaded::Retired(Retired { path, was })
        }
    })
}

/// Points share the texts of their units.
fn shared_unit(units: &mut HashSet<Arc<str>>, unit: &str) -> Arc<str> {
    if let Some(known) = units.get(unit) {
        return Arc::clone(known);
    }
    let unit: Arc<str> = unit.into();
    units.insert(Arc::clone(&unit));
    unit
}

pub(super) struct Loader<'a> {
    pub(super) storage: &'a dyn Storage,
}

/// What each generation has of one kind, by name.
type ByGeneration<K, V> = BTreeMap<Generation, BTreeMap<K, V>>;

impl Loader<'_> {
    pub(super) fn bytes(&self, key: &Key) -> Result<Option<Bytes>, OpenError> {
        let found = self.storage.get_many(std::slice::from_ref(key))?;
        Ok(found.into_iter().next().flatten())
    }

    pub(super) fn value<T: DeserializeOwned>(&self, key: &Key) -> Result<Option<T>, OpenError> {
        let Some(bytes) = self.bytes(key)? else { return Ok(None) };
        decode(&bytes).map(Some).map_err(|error| bad(key, &error))
    }

    /// Shows `take` the entries of a kind in their order, with no more than a page of them in memory.
    pub(super) fn each(
        &self,
        kind: KeyKind,
        mut take: impl FnMut(Key, Bytes) -> Result<(), OpenError>,
    ) -> Result<(), OpenError> {
        let range = KeyRange::all(kind);
        for page in pages(|after| self.storage.scan(&range, after, PAGE)) {
            for (key, value) in page? {
                take(key, value)?;
            }
        }
        Ok(())
    }

    pub(super) fn each_decoded<T: DeserializeOwned>(
        &self,
        kind: KeyKind,
        mut take: impl FnMut(Key, T) -> Result<(), OpenError>,
    ) -> Result<(), OpenError> {
        self.each(kind, |key, bytes| match decode(&bytes) {
            Ok(value) => take(key, value),
            Err(error) => Err(bad(&key, &error)),
        })
    }

    /// Brings receipts, connectors, streams, points and latest values into memory, as of the fold position. Returns the requests.
    /// Lanes come before: each point is then matched once.
    pub(super) fn fill(
        &self,
        shared: &Shared,
        fold: &FoldPosition,
    ) -> Result<BTreeMap<[u8; 16], Remembered>, OpenError> {
        let mut units = HashSet::new();
        self.each(KeyKind::Receipt, |key, note| {
            if let Some(Item::Receipt(connector)) = key.parse() {
                shared.receipts.write().insert(connector.into(), note);
            }
            Ok(())
        })?;
        self.each_decoded(KeyKind::AlarmNews, |_, news: AlarmNews| {
            shared.alarm_news.load(&news);
            Ok(())
        })?;
        self.said_by_people(shared)?;
        self.each_decoded(KeyKind::Stream, |key, stream: StoredStream| {
            if let Some(Item::Stream(name)) = key.parse() {
                shared.streams.write().load(name.into(), stream);
            }
            Ok(())
        })?;
        self.each(KeyKind::PointPage, |key, bytes| {
            let Some(Item::PointPage(page)) = key.parse() else { return Ok(()) };
            let first = page * points::PAGE as u32;
            if first >= fold.points {
                // Written by a checkpoint that did not end: the log will give them again.
                return Ok(());
            }
            if first as usize != shared.points.names().given() {
                return Err(bad(&key, &"points before it are missing"));
            }
            let stored: StoredPoints<'_> = postcard::from_bytes(&bytes).map_err(|error| bad(&key, &error))?;
            let points = stored.into_iter().map(|stored| loaded(&key, stored, &mut units));
            let points = points.collect::<Result<Vec<_>, OpenError>>()?;
            let numbered = (first..fold.points).map(PointNumber).zip(points);
            let mut left_out = Vec::new();
            {
                let mut routing = shared.routing.write();
                for (number, point) in numbered.clone() {
                    let Loaded::There(NewPoint { path, unit }, _) = point else { continue };
                    left_out.extend(routing.add_point(number, &path, unit.as_deref()));
                }
            }
            shared.points.load(numbered);
            shared.note_left_out(&left_out);
            Ok(())
        })?;
        let (found, expected) = (shared.points.names().given() as u64, u64::from(fold.points));
        if found != expected {
            return Err(OpenError::NotWhole { what: "points end at number", found, expected });
        }
        self.each(KeyKind::LatestPage, |key, bytes| {
            let Some(Item::LatestPage(page)) = key.parse() else { return Ok(()) };
            shared.points.load_page(page, &bytes).map_err(|error| bad(&key, &error))
        })?;
        let mut requests = BTreeMap::new();
        self.each_decoded(KeyKind::Idempotency, |key, remembered: Remembered| {
            if let Some(Item::Idempotency(hash)) = key.parse()
                && let Some(hash) = hash.first_chunk::<16>()
            {
                requests.insert(*hash, remembered);
            }
            Ok(())
        })?;
        Ok(requests)
    }

    fn connectors(&self, shared: &Shared) -> Result<(), OpenError> {
        self.each_decoded(KeyKind::Connector, |_, connector: ConnectorRecord| {
            shared.connectors.write().insert(connector.name.clone(), connector);
            Ok(())
        })
    }

    /// Connectors, catalogs and tokens that people added, and whose app ids are.
    fn said_by_people(&self, shared: &Shared) -> Result<(), OpenError> {
        self.connectors(shared)?;
        self.owners(shared)?;
        self.catalogs(shared)?;
        self.consents(shared)?;
        self.tenants(shared)?;
        self.tokens(shared)?;
        shared.load_audit().map_err(|problem| OpenError::Value { key: "audit log".to_owned(), problem })
    }

    fn tenants(&self, shared: &Shared) -> Result<(), OpenError> {
        self.each(KeyKind::Holding, |key, _| {
            if let Some(Item::Holding(tenant, package)) = key.parse() {
                shared.holdings.write().insert((tenant, package));
            }
            Ok(())
        })?;
        self.each_decoded(KeyKind::Tenant, |_, tenant: TenantRecord| {
            shared.tenants.write().insert(tenant);
            Ok(())
        })
    }

    fn tokens(&self, shared: &Shared) -> Result<(), OpenError> {
        self.each_decoded(KeyKind::Token, |_, token: TokenRecord| {
            shared.tokens.write().insert(token);
            Ok(())
        })
    }

    fn catalogs(&self, shared: &Shared) -> Result<(), OpenError> {
        self.each_decoded(KeyKind::Catalog, |_, catalog: CatalogRecord| {
            shared.catalogs.write().insert(catalog.name.clone(), catalog);
            Ok(())
        })
    }

    fn owners(&self, shared: &Shared) -> Result<(), OpenError> {
        self.each_decoded(KeyKind::AppOwner, |_, owner: AppOwner| {
            shared.owners.write().insert((owner.tenant, owner.app.clone()), owner);
            Ok(())
        })
    }

    fn consents(&self, shared: &Shared) -> Result<(), OpenError> {
        self.each_decoded(KeyKind::Consent, |_, asked: ConsentRecord| {
            shared.consents.write().insert(asked.id.clone(), asked);
            Ok(())
        })
    }

    fn timers(&self) -> Result<ByGeneration<Box<str>, OneShot>, OpenError> {
        let mut timers = ByGeneration::new();
        self.each_decoded(KeyKind::Timer, |key, set: OneShot| {
            if let Some(Item::Timer(generation, name)) = key.parse() {
                timers.entry(generation).or_default().insert(name.into(), set);
            }
            Ok(())
        })?;
        Ok(timers)
    }

    /// The revisions of each installation, by the number that it was given. Those of earlier ones may be left of an
    /// installation that was removed.
    fn revisions(&self) -> Result<BTreeMap<Generation, Vec<Revision>>, OpenError> {
        let mut revisions: BTreeMap<Generation, Vec<Revision>> = BTreeMap::new();
        self.each_decoded(KeyKind::Revision, |_, revision: Revision| {
            revisions.entry(revision.begun).or_default().push(revision);
            Ok(())
        })?;
        Ok(revisions)
    }

    /// The past revisions of each generation.
    fn past(&self) -> Result<BTreeMap<Generation, Past>, OpenError> {
        let mut past: BTreeMap<Generation, Past> = BTreeMap::new();
        self.each(KeyKind::PastRevision, |key, stored| {
            let Some(Item::PastRevision(generation, number)) = key.parse() else { return Ok(()) };
            let of_generation = past.entry(generation).or_default();
            of_generation.load(number, &stored).map_err(|error| bad(&key, &error))
        })?;
        Ok(past)
    }

    /// The alarms of those that live.
    fn alarms(&self, shared: &Shared) -> Result<BTreeMap<Generation, Vec<AlarmRecord>>, OpenError> {
        let mut alarms: BTreeMap<Generation, Vec<AlarmRecord>> = BTreeMap::new();
        self.each_decoded(KeyKind::Alarm, |key, alarm: AlarmRecord| {
            if let Some(Item::Alarm(generation, ..)) = key.parse()
                && !shared.removed.lock().contains_key(&generation)
                && shared.copies.get(generation).is_none()
            {
                alarms.entry(generation).or_default().push(alarm);
            }
            Ok(())
        })?;
        Ok(alarms)
    }

    fn packages(&self, shared: &Shared, fold: &FoldPosition) -> Result<(), OpenError> {
        self.each_decoded(KeyKind::Package, |key, record: PackageRecord| {
            if fold.packages_gone.contains(&record.digest) {
                // Left by a process that ended before the key went.
                shared.overlay.apply([(key, None)]);
                return Ok(());
            }
            let manifest = Manifest::parse(&record.manifest).map_err(|problems| bad(&key, &problems))?;
            let known = KnownPackage::new(record, Arc::new(manifest));
            shared.packages.write().insert(known.record.digest, Arc::new(known));
            Ok(())
        })
    }

    /// Set-points that were on their way, and the points that they go to.
    fn outbox(&self, applier: &mut Applier) -> Result<(), OpenError> {
        let (mut intents, mut driven) = (Vec::new(), Vec::new());
        self.each_decoded(KeyKind::Intent, |_, asked: Asked| {
            intents.push(asked);
            Ok(())
        })?;
        self.each_decoded(KeyKind::Driven, |_, one: Driven| {
            driven.push(one);
            Ok(())
        })?;
        applier.find(intents, driven);
        Ok(())
    }

    /// Begins the lanes. Returns the installations of which a part is missing: the log must remove them.
    pub(super) fn lanes(
        &self,
        shared: &Shared,
        applier: &mut Applier,
        fold: &FoldPosition,
    ) -> Result<Vec<(Key, Generation)>, OpenError> {
        self.packages(shared, fold)?;
        let mut left_out = Vec::new();
        let mut metas: BTreeMap<Generation, StoredLane> = BTreeMap::new();
        self.each_decoded(KeyKind::Lane, |key, lane: StoredLane| {
            let Some(Item::Lane(generation)) = key.parse() else { return Ok(()) };
            if shared.copies.load(generation, &lane) {
                return Ok(());
            }
            if let Some(removed) = lane.removed {
                let installation = lane.installation.clone();
                let package = lane.ended.as_ref().map(|ended| ended.package);
                shared.removed.lock().insert(generation, Gone { installation, removed, package });
            }
            metas.insert(generation, lane);
            Ok(())
        })?;
        let (mut timers, mut alarms) = (self.timers()?, self.alarms(shared)?);
        let (mut past, mut revisions) = (self.past()?, self.revisions()?);
        let places = Places::of(fold);
        self.each_decoded(KeyKind::Installation, |key, installation: Installation| {
            let (tenant, generation) = (installation.id.tenant(), installation.generation);
            if !fold.generations.has(installation.begun) {
                // Written by a checkpoint that did not end: the log will install it, or adopt its generation, again.
                return Ok(());
            }
            let with_manifest = |mut revision: Revision| {
                let known = shared.packages.read().get(&revision.package).cloned()?;
                known.share(&mut revision);
                Some((revision, Arc::clone(&known.manifest)))
            };
            let mut own = revisions.remove(&installation.begun).unwrap_or_default();
            let past = past.entry(generation).or_default();
            without_packages(shared, &installation, &mut own, past);
            let own = without_places(shared, &installation, own, past);
            let own: Vec<_> = own.into_iter().filter_map(with_manifest).collect();
            let Some(lane) = metas.remove(&generation).filter(|_| !own.is_empty()) else {
                // A checkpoint that did not end had begun to remove it: the log will remove it again.
                left_out.push((key, generation));
                return Ok(());
            };
            let queue = applier.queue_from(tenant, places.behind(tenant, generation, lane.meta.cursor));
            let alarms = match lane.removed {
                None => alarms.remove(&generation).unwrap_or_default(),
                // A checkpoint that did not end had begun to remove it: the log will remove it again, and its alarms'
                // last episodes are made of these.
                Some(_) => shared.stored_alarms(generation).map_err(|error| bad(&key, &error))?,
            };
            let begin = Begin {
                installation,
                revisions: own,
                past: std::mem::take(past),
                meta: lane.meta,
                state: Arc::new(RwLock::new(StateCache::of_stored_generation(&shared.cache))),
                queue,
                timers: timers.remove(&generation).unwrap_or_default(),
                alarms,
            };
            applier.begin(begin, None);
            Ok(())
        })?;
        self.outbox(applier)?;
        applier.left(past, revisions);
        Ok(left_out)
    }
}

/// Takes out the revisions whose package isn't there. One that has a later one is past: its package went once it had ended,
/// which a life of the server that was still catching up has not seen. Of a last one a checkpoint that was cut off hasn't
/// written the package: the log brings both again.
fn without_packages(
    shared: &Shared,
    installation: &Installation,
    revisions: &mut Vec<Revision>,
    past: &mut Past,
) {
    let is_there = |revision: &Revision| shared.packages.read().contains_key(&revision.package);
    let newest = revisions.iter().filter(|revision| is_there(revision)).map(|revision| revision.number).max();
    revisions.retain(|revision| {
        let stays = is_there(revision);
        if !stays && Some(revision.number) < newest {
            pass(shared, installation, revision, past);
        }
        stays
    });
}

/// Makes a revision a past one.
fn pass(shared: &Shared, installation: &Installation, revision: &Revision, past: &mut Past) {
    let key = revision_key(&installation.id, revision.number);
    let passed = past.add(installation.generation, revision);
    shared.overlay.apply(passed.into_iter().chain([(key, None)]));
}

/// The revisions of an installation but for those whose place a later one has: the checkpoint that was to remove these did
/// not end. They are past.
fn without_places(
    shared: &Shared,
    installation: &Installation,
    mut revisions: Vec<Revision>,
    past: &mut Past,
) -> Vec<Revision> {
    revisions.sort_unstable_by_key(|revision| (revision.from, revision.number));
    let mut left: Vec<Revision> = Vec::with_capacity(revisions.len());
    for revision in revisions {
        if let Some(earlier) = left.pop_if(|earlier| earlier.from == revision.from) {
            pass(shared, installation, &earlier, past);
        }
        left.push(revision);
    }
    left
}
