//! The newest that was seen of catalogs, below which nobody gets them again: also of those that were removed, and as a file that
//! outlives the restore of a backup.

use std::collections::BTreeMap;
use std::sync::Arc;

use super::{Catalog, load};
use crate::api::facade::{Answer, CatalogSeen, CatalogTrust, Page, Place, Problem};
use crate::node::{Node, problems};
use crate::records::admin::AdminRecord;
use crate::records::catalog::CatalogRecord;
use ironloom_trust::catalog::floor::Floor;
use ironloom_trust::catalog::rules::time;
use ironloom_trust::catalog::trust_file::{MAX_SEEN, TrustFile};
use ironloom_types::clock::{Source as ClockSource, Timestamp, host_time};
use ironloom_types::ids::CatalogNumber;

/// The newest that was seen of those catalogs that aren't here.
pub(super) fn removed(records: &BTreeMap<Box<str>, CatalogRecord>) -> BTreeMap<Box<str>, Floor> {
    let mut removed = BTreeMap::new();
    for record in records.values().filter(|record| record.source.is_none()) {
        match serde_json::from_str(&record.floor) {
            Ok(floor) => drop(removed.insert(record.name.clone(), floor)),
            Err(error) => {
                tracing::error!(catalog = %record.name, %error, "what was seen of a catalog can't be read");
            }
        }
    }
    removed
}

impl Node {
    /// The clock that times in catalogs are held against: the machine's, or journal time where that was set back.
    pub(in crate::node) fn catalog_clock(&self) -> Timestamp {
        match self.shared.clock.source() {
            ClockSource::Host => host_time().max(self.shared.clock.last()),
            ClockSource::Feed => host_time(),
        }
    }

    /// The time by which indexes expire.
    pub(in crate::node) fn catalog_time(&self) -> Timestamp {
        let removed: Vec<_> = self.catalogs.removed.read().values().map(|floor| floor.latest).collect();
        let latest = self.catalogs.all().into_iter().map(|catalog| catalog.floor.latest);
        time(self.catalog_clock(), latest.chain(removed))
    }

    /// Removes a catalog. What was seen of it stays, unless that is to be forgotten as well.
    pub(in crate::node) async fn remove_catalog(self: Arc<Self>, name: String, forget: bool) -> Answer<()> {
        let _changing = self.catalogs.changing.lock().await;
        let before = self.shared.catalogs.read().get(name.as_str()).cloned();
        let is_here = |record: &CatalogRecord| record.source.is_some() || forget;
        let before = before.filter(is_here).ok_or_else(|| {
            Problem::not_found(format!("there is no catalog {name:?}"))
                .hint("`ironloom catalog list` lists those that there are.")
        })?;
        if forget {
            self.change(AdminRecord::CatalogRemoved { name: name.as_str().into() }).await?;
            self.catalogs.removed.write().remove(name.as_str());
        } else {
            self.keep_seen(&before).await?;
        }
        self.catalogs.all.write().remove(name.as_str());
        self.catalogs.looks.forget();
        self.drop_index(before.index).await;
        Ok(())
    }

    /// Keeps of a catalog what was seen of it, and nothing else.
    async fn keep_seen(&self, of: &CatalogRecord) -> Answer<()> {
        let floor: Floor = serde_json::from_str(&of.floor).map_err(|error| problems::internal(&error))?;
        let record = CatalogRecord { source: None, ids: Vec::new(), index: None, ..of.clone() };
        let name = record.name.clone();
        self.change(AdminRecord::CatalogSet(Box::new(record))).await?;
        self.catalogs.removed.write().insert(name, floor);
        Ok(())
    }

    /// The trust file of all catalogs.
    pub(in crate::node) fn catalog_trust(&self) -> CatalogTrust {
        let here = self.catalogs.all().into_iter().map(|catalog| catalog.floor.clone());
        let removed = self.catalogs.removed.read().values().cloned().collect::<Vec<_>>();
        CatalogTrust(TrustFile::new(host_time(), here.chain(removed).collect()))
    }

    /// Raises what was seen to what a file says; nothing is lowered. All of it is checked before any of it is taken.
    pub(in crate::node) async fn take_catalog_trust(
        self: Arc<Self>,
        file: CatalogTrust,
    ) -> Answer<Page<CatalogSeen>> {
        self.check_space()?;
        let refused = |error: String| {
            let problem = Problem::refused("catalog", error).at(Place::field("catalogs"));
            problem.hint("Nothing was changed.")
        };
        file.0.check().map_err(|error| refused(error.to_string()))?;
        let mut given = self.catalogs.changing.lock().await;
        let records = self.shared.catalogs.read().clone();
        let mut raised = Vec::new();
        for floor in file.0.catalogs {
            let name: Box<str> = floor.root.catalog.as_str().into();
            let before = records.get(&name);
            let (record, floor) = match before {
                None => {
                    let number = self.catalog_number(&name, &mut given);
                    (seen_alone((name, number), host_time()), floor)
                }
                Some(before) => {
                    let own = serde_json::from_str(&before.floor);
                    let mut own: Floor = own.map_err(|error| problems::internal(&error))?;
                    own.raise(&floor).map_err(|error| refused(format!("the catalog {name}: {error}")))?;
                    (before.clone(), own)
                }
            };
            let json = serde_json::to_string(&floor).map_err(|error| problems::internal(&error))?;
            let is_raised = *json != *record.floor;
            raised.push((CatalogRecord { floor: json.into(), ..record }, floor, is_raised));
        }
        let new = raised.iter().filter(|(record, ..)| !records.contains_key(&record.name)).count();
        if records.len() + new > MAX_SEEN {
            let detail = format!(
                "there would be {} catalogs of which it is kept what was seen, and {MAX_SEEN} are the most",
                records.len() + new
            );
            return Err(refused(detail));
        }
        let mut items = Vec::new();
        for (record, floor, is_raised) in raised {
            items.push(seen(&floor, record.source.is_some(), is_raised));
            if is_raised {
                self.take_floor(record, floor).await?;
            }
        }
        Ok(Page { items, next: None })
    }

    /// Takes over what was seen of one catalog.
    async fn take_floor(&self, record: CatalogRecord, floor: Floor) -> Answer<()> {
        let name = record.name.clone();
        self.change(AdminRecord::CatalogSet(Box::new(record.clone()))).await?;
        if record.source.is_none() {
            self.catalogs.removed.write().insert(name, floor);
            return Ok(());
        }
        // Where its index is an older one, that isn't taken any more until a refresh brings a newer one.
        let files = Arc::clone(&self.catalogs.files);
        let loaded = crate::aside::aside(move || load(&files, &record)).await;
        let loaded: Catalog = loaded
            .map_err(|error| problems::internal(&error))?
            .map_err(|error| problems::internal(&std::io::Error::other(error)))?;
        self.catalogs.all.write().insert(name, Arc::new(loaded));
        self.catalogs.looks.forget();
        Ok(())
    }
}

/// The record of a catalog that was never here.
fn seen_alone((name, number): (Box<str>, CatalogNumber), now: Timestamp) -> CatalogRecord {
    let (floor, ids) = ("".into(), Vec::new());
    CatalogRecord { name, number, source: None, ids, floor, index: None, refreshed: now }
}

fn seen(floor: &Floor, is_here: bool, is_raised: bool) -> CatalogSeen {
    CatalogSeen {
        catalog: floor.root.catalog.to_string(),
        root: floor.root.version.get(),
        index: floor.index.as_ref().map(|seen| seen.version.get()),
        latest: floor.latest,
        added: is_here,
        raised: is_raised,
    }
}
