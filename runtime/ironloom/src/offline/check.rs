//! Looks at every checksum of a data folder: the store's values, the records of the log that no checkpoint has folded,
//! the blocks of the journal, the packages. All that is wrong is found, not only the first.

use std::path::Path;

use super::{Offline, OfflineError};
use crate::fold::stored::decode;
use crate::records::admin::PackageRecord;
use ironloom_storage::journal::{self, BlockFiles, Entry, StoredBlock};
use ironloom_storage::log::{self, LogError};
use ironloom_storage::store::{Files, Key, KeyKind, Scope};

/// Findings that are kept; the others are counted.
const MAX_FINDINGS: usize = 1_000;
/// Keys that are read at once.
const KEYS: usize = 1_000;

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
    check_log(&offline, &mut report, progress)?;
    check_blocks(&offline, &mut report, progress)?;
    check_packages(&offline, &mut report, progress)?;
    Ok(report)
}

fn check_values(
    offline: &Offline,
    report: &mut Report,
    progress: &mut dyn FnMut(&Looked),
) -> Result<(), OfflineError> {
    let mut looked = report.looked;
    let checked = offline.store.check_values(&mut |key, value| {
        looked.values += 1;
        if looked.values.is_multiple_of(KEYS as u64) {
            progress(&looked);
        }
        match value {
            Err(error) => report.add("store", error.to_string(), OF_STORE),
            Ok(()) if key.parse().is_none() => {
                report.add("store", format!("the key {key} is none that this version knows"), OF_STORE);
            }
            Ok(()) => {}
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
) -> Result<(), OfflineError> {
    let disk = offline.disk("log")?;
    let read = || -> Result<u64, LogError> {
        let recovered = log::recover(disk, log::Config::default(), offline.known())?;
        let mut records = 0;
        for record in recovered.records()? {
            record?;
            records += 1;
        }
        Ok(records)
    };
    match read() {
        Ok(records) => report.looked.records = records,
        Err(error) => report.add("log", error.to_string(), OF_LOG),
    }
    progress(&report.looked);
    Ok(())
}

fn check_blocks(
    offline: &Offline,
    report: &mut Report,
    progress: &mut dyn FnMut(&Looked),
) -> Result<(), OfflineError> {
    let fold = offline.fold();
    let files = BlockFiles::for_reading(offline.disk("journal")?);
    let mut last: Option<Entry> = None;
    each(offline, KeyKind::Block, |key, bytes| {
        let entry = match StoredBlock::decode(bytes) {
            // Of a checkpoint that did not end.
            Ok(block) if block.checkpoint > fold.position => return,
            Ok(block) => block.entry,
            Err(error) => return report.add("store", format!("the value of {key}: {error}"), OF_STORE),
        };
        if let Some(last) = last.filter(|last| last.last_sequence() >= entry.first_sequence) {
            let problem = format!(
                "behind reading {} comes a block that begins with {}",
                last.last_sequence(),
                entry.first_sequence
            );
            report.add("journal", problem, OF_STORE);
        }
        last = Some(entry);
        if let Err(error) = journal::read(&files, &entry) {
            let (first, last) = (entry.first_sequence, entry.last_sequence());
            report.add("journal", format!("readings {first} to {last}: {error}"), OF_JOURNAL);
        }
        report.looked.blocks += 1;
        progress(&report.looked);
    })
}

fn check_packages(
    offline: &Offline,
    report: &mut Report,
    progress: &mut dyn FnMut(&Looked),
) -> Result<(), OfflineError> {
    let files = Files::open(&offline.data.join("packages"))?;
    each(offline, KeyKind::Package, |key, bytes| {
        let record: PackageRecord = match decode(bytes) {
            Ok(record) => record,
            Err(error) => return report.add("store", format!("the value of {key}: {error}"), OF_STORE),
        };
        match files.read(&record.digest.hex(), record.file) {
            Ok(Some(_)) => {}
            Ok(None) => {
                report.add("packages", format!("the file of {} is missing", record.digest), OF_PACKAGE)
            }
            Err(error) => report.add("packages", error.to_string(), OF_PACKAGE),
        }
        report.looked.packages += 1;
        progress(&report.looked);
    })
}

/// Calls `see` for all keys of a kind with their values. Stops at a page with a damaged one, which was found before.
fn each(offline: &Offline, kind: KeyKind, mut see: impl FnMut(&Key, &[u8])) -> Result<(), OfflineError> {
    let range = Scope::MAIN.all(kind);
    let mut after: Option<Key> = None;
    loop {
        let Ok(page) = offline.store.scan(&range, after.as_ref(), KEYS) else { return Ok(()) };
        page.entries.iter().for_each(|(key, value)| see(key, value));
        match page.entries.last() {
            Some((key, _)) if page.more => after = Some(key.clone()),
            _ => return Ok(()),
        }
    }
}
