//! Looks at every checksum of a data folder: the store's values, the records of the log that no checkpoint has folded,
//! the blocks of the journal, the packages. All that is wrong is found, not only the first.

use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;

use bytes::Bytes;

use super::{Offline, OfflineError};
use crate::fold::points;
use crate::fold::stored::{StoredPoints, decode};
use crate::records::admin::{self, AdminRecord, PackageRecord};
use crate::records::{commit, readings};
use ironloom_storage::journal::{self, BlockFiles, Entry, StoredBlock};
use ironloom_storage::log::{self, Header, LogError, RecordKind};
use ironloom_storage::store::{Files, Item, Key, KeyKind, KeyRange};
use ironloom_types::ids::{Digest, LastSequences, Sequence, TenantId};

/// Findings that are kept; the others are counted.
const MAX_FINDINGS: usize = 1_000;
/// Values after which progress is told.
const VALUES: u64 = 1_000;

/// One thing that is wrong.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Finding {
    /// The part of the data folder: `store`, `log`, `journal` or `packages`.
    pub part: &'static str,
    pub problem: String,
    /// The consequence, for people.
    pub meaning: &'static str,
}

/// The number of things that were looked at, by part.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Looked {
    pub values: u64,
    pub records: u64,
    pub blocks: u64,
    pub packages: u64,
}

/// The result of a check.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Report {
    pub looked: Looked,
    /// The first of them.
    pub findings: Vec<Finding>,
    /// The number of findings beyond these.
    pub more: u64,
    /// Files of packages that couldn't be checked: their records can't be read.
    pub packages_unknown: u64,
}

impl Report {
    fn add(&mut self, part: &'static str, problem: String, meaning: &'static str) {
        if self.findings.len() < MAX_FINDINGS {
            self.findings.push(Finding { part, problem, meaning });
        } else {
            self.more += 1;
        }
    }
}

/// What the records of the log change that no checkpoint has folded.
#[derive(Debug, Default)]
struct Told {
    /// Blocks with readings before it alone go: some of their keys may have gone already.
    dropped_before: LastSequences,
    /// Packages that came, by digest; `None` where it went.
    packages: BTreeMap<Digest, Option<Box<PackageRecord>>>,
    /// The names of the files of all packages that were added.
    files: BTreeSet<String>,
}

impl Told {
    fn hear(&mut self, record: AdminRecord) {
        match record {
            AdminRecord::Dropped { tenant, before } => {
                let before = before.max(self.dropped_before.of(tenant));
                self.dropped_before.set(tenant, before);
            }
            AdminRecord::PackageAdded { package, .. } => {
                self.files.insert(package.file_name());
                self.packages.insert(package.digest, Some(package));
            }
            AdminRecord::PackageRemoved(digest) => drop(self.packages.insert(digest, None)),
            _ => {}
        }
    }
}

const OF_STORE: &str = "a server that reads it fails; restore the data folder from a backup";
const OF_LOG: &str =
    "no server starts on it, since what was acknowledged is missing; restore the data folder from a backup";
const OF_JOURNAL: &str = "its readings are lost; everything else goes on, and /readyz says so";
const OF_PACKAGE: &str = "its installations don't run; send the package again with `ironloom packages add`";

/// Checks a data folder. `progress` is told what is looked at, and how much of it there was by then.
pub(crate) fn check(data: &Path, progress: &mut dyn FnMut(&Looked)) -> Result<Report, OfflineError> {
    let mut report = Report::default();
    let offline = match Offline::open(data) {
        Err(OfflineError::Store(error)) => {
            report.add("store", error.to_string(), OF_STORE);
            return Ok(report);
        }
        opened => opened?,
    };
    check_values(&offline, &mut report, progress)?;
    let told = check_log(&offline, &mut report, progress)?;
    check_points(&offline, &mut report);
    check_blocks(&offline, &told, &mut report, progress)?;
    check_packages(&offline, told, &mut report, progress)?;
    Ok(report)
}

fn check_values(
    offline: &Offline,
    report: &mut Report,
    progress: &mut dyn FnMut(&Looked),
) -> Result<(), OfflineError> {
    let mut looked = report.looked;
    let checked = offline.store.each_value(&KeyRange::everything(), &mut |key, value| {
        looked.values += 1;
        if looked.values.is_multiple_of(VALUES) {
            progress(&looked);
        }
        match value {
            Err(error) => report.add("store", error.to_string(), OF_STORE),
            Ok(_) if key.parse().is_none() => {
                report.add("store", format!("the key {key} is none that this version knows"), OF_STORE);
            }
            Ok(_) => {}
        }
    });
    report.looked = looked;
    if let Err(error) = checked {
        report.add("store", error.to_string(), OF_STORE);
    }
    Ok(())
}

/// Reads the log as a start does, which makes it durable and changes nothing else.
fn check_log(
    offline: &Offline,
    report: &mut Report,
    progress: &mut dyn FnMut(&Looked),
) -> Result<Told, OfflineError> {
    let disk = offline.disk("log")?;
    let mut told = Told::default();
    let read = |report: &mut Report, told: &mut Told| -> Result<(), LogError> {
        let recovered = log::recover(disk, log::Config::default(), offline.known())?;
        for record in recovered.records()? {
            let record = record?;
            report.looked.records += 1;
            let Header { position, version, .. } = record.header;
            let read = match record.header.kind {
                RecordKind::Mark => Ok(()),
                RecordKind::Readings => readings::decode(version, &record.body).map(drop),
                RecordKind::Commit => commit::decode(version, &record.body).map(drop),
                RecordKind::Admin => {
                    admin::decode(version, &record.body).map(|(record, _)| told.hear(record))
                }
            };
            if let Err(error) = read {
                report.add("log", format!("record {position}: {error}"), OF_LOG);
            }
        }
        Ok(())
    };
    if let Err(error) = read(report, &mut told) {
        report.add("log", error.to_string(), OF_LOG);
    }
    progress(&report.looked);
    Ok(told)
}

/// Holds the points against the fold position, as a start does.
fn check_points(offline: &Offline, report: &mut Report) {
    let (expected, mut given) = (offline.fold().points, 0);
    each(offline, KeyKind::PointPage, &mut |key, bytes| {
        let Some(Item::PointPage(page)) = key.parse() else { return };
        let first = page.saturating_mul(points::PAGE as u32);
        if first != given || first >= expected {
            // Of a checkpoint that did not end, or behind a page that is missing.
            return;
        }
        match postcard::from_bytes::<StoredPoints<'_>>(bytes) {
            Ok(points) => given = expected.min(first.saturating_add(points.len() as u32)),
            Err(error) => report.add("store", format!("the value of {key}: {error}"), OF_STORE),
        }
    });
    if given != expected {
        let problem = format!("its points end at number {given}, and its fold position says {expected}");
        report.add("store", problem, OF_STORE);
    }
}

fn check_blocks(
    offline: &Offline,
    told: &Told,
    report: &mut Report,
    progress: &mut dyn FnMut(&Looked),
) -> Result<(), OfflineError> {
    let fold = offline.fold();
    let files = BlockFiles::for_reading(offline.disk("journal")?);
    let mut last: BTreeMap<TenantId, Entry> = BTreeMap::new();
    each(offline, KeyKind::Block, &mut |key, bytes| {
        let block = match StoredBlock::decode(bytes) {
            // Of a checkpoint that did not end.
            Ok(block) if block.checkpoint > fold.position => return,
            Ok(block) => block,
            Err(error) => return report.add("store", format!("the value of {key}: {error}"), OF_STORE),
        };
        let (tenant, entry) = (block.tenant, block.entry);
        let before = last.insert(tenant, entry).map(|last| last.last_sequence());
        let first = entry.first_sequence;
        // Of blocks that are past their retention a checkpoint that did not end may have removed some.
        if let Some(before) = before.filter(|before| before.next() != first)
            && (first <= before || told.dropped_before.of(tenant) < first)
        {
            let problem = format!("behind reading {before} comes a block that begins with {first}");
            report.add("journal", problem, OF_STORE);
        }
        if let Err(error) = journal::read(&files, tenant, &entry) {
            let (first, last) = (entry.first_sequence, entry.last_sequence());
            report.add("journal", format!("readings {first} to {last}: {error}"), OF_JOURNAL);
        }
        report.looked.blocks += 1;
        progress(&report.looked);
    });
    let tenants: BTreeSet<TenantId> =
        last.keys().copied().chain(fold.folded_through.iter().map(|(tenant, _)| tenant)).collect();
    for tenant in tenants {
        let expected = fold.folded_through.of(tenant);
        let end = last.get(&tenant).map_or(Sequence(0), |last| last.last_sequence());
        if end != expected {
            let problem = format!(
                "the blocks of tenant {tenant} end at reading {end}, and its fold position says {expected}"
            );
            report.add("journal", problem, OF_STORE);
        }
    }
    Ok(())
}

fn check_packages(
    offline: &Offline,
    told: Told,
    report: &mut Report,
    progress: &mut dyn FnMut(&Looked),
) -> Result<(), OfflineError> {
    let files = Files::open(&offline.data.join("packages"))?;
    let (Told { mut packages, files: mut named, .. }, gone) = (told, offline.fold().packages_gone);
    each(offline, KeyKind::Package, &mut |key, bytes| match decode::<PackageRecord>(bytes) {
        Ok(record) => {
            named.insert(record.file_name());
            if !gone.contains(&record.digest) {
                packages.entry(record.digest).or_insert_with(|| Some(Box::new(record)));
            }
        }
        Err(error) => report.add("store", format!("the value of {key}: {error}"), OF_STORE),
    });
    // Where all records can be read, a file that none of them names is one that a server had yet to remove.
    if report.findings.iter().any(|finding| matches!(finding.part, "store" | "log")) {
        report.packages_unknown = files.names()?.iter().filter(|name| !named.contains(*name)).count() as u64;
    }
    for record in packages.into_values().flatten() {
        match files.read(&record.file_name(), record.file) {
            Ok(Some(_)) => {}
            Ok(None) => {
                report.add("packages", format!("the file of {} is missing", record.digest), OF_PACKAGE)
            }
            Err(error) => report.add("packages", error.to_string(), OF_PACKAGE),
        }
        report.looked.packages += 1;
        progress(&report.looked);
    }
    Ok(())
}

/// Calls `see` for all keys of a kind with their values, but for those that can't be read: they were found before.
fn each(offline: &Offline, kind: KeyKind, see: &mut dyn FnMut(&Key, &[u8])) {
    let readable = &mut |key: &Key, value: Result<Bytes, _>| value.map_or((), |value| see(key, &value));
    // A page that the engine can't read was found before as well.
    let _ = offline.store.each_value(&KeyRange::all(kind), readable);
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::fold::FoldPosition;
    use crate::fold::stored::encode;
    use ironloom_storage::store::{self, Applied, Change, EngineKind};

    /// What is wrong with a folder whose store says this and has nothing else.
    fn found(fold: FoldPosition) -> Vec<String> {
        let data = tempfile::tempdir().unwrap();
        let store = store::open(EngineKind::Redb, &data.path().join("store"), 1 << 20).unwrap();
        let written = store.apply(vec![Change::set(Key::folded(), encode(&fold))], store.epoch());
        assert_eq!(written.unwrap(), Applied::Done);
        drop(store);
        std::fs::create_dir(data.path().join("packages")).unwrap();
        let report = check(data.path(), &mut |_| {}).unwrap();
        report.findings.into_iter().map(|finding| format!("{}: {}", finding.part, finding.problem)).collect()
    }

    #[test]
    fn a_store_that_has_lost_its_end_is_found() {
        let folded_through = [(TenantId::MAIN, Sequence(7))].into_iter().collect();
        let fold = FoldPosition { folded_through, points: 5, ..FoldPosition::default() };
        let all = found(fold);
        assert!(
            all.contains(&"store: its points end at number 0, and its fold position says 5".to_owned()),
            "{all:?}"
        );
        assert!(
            all.contains(
                &"journal: the blocks of tenant 1 end at reading 0, and its fold position says 7".to_owned()
            ),
            "{all:?}"
        );
        assert_eq!(found(FoldPosition::default()), [""; 0]);
    }
}
