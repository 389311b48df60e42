//! The server as people see it: the bytes that its data takes on the disk, and for how long there is room.

use std::collections::{BTreeMap, VecDeque};
use std::path::Path;
use std::sync::Weak;
use std::time::{Duration, Instant};

use super::Node;
use crate::api::facade::{DiskUse, Status};
use crate::aside::aside;
use ironloom_storage::folders::bytes_below;
use ironloom_storage::free_bytes;
use ironloom_types::clock::{Timestamp, host_time};

/// The interval at which the data folder is measured.
const LOOK: Duration = Duration::from_secs(600);
/// The measurements that are kept, besides the newest: those of a day.
const KEPT: usize = 144;
/// The time over which growth is measured at least: a store's file grows in steps, and a morning isn't a day.
const LEAST: Duration = Duration::from_secs(3_600);
const DAY: f64 = 86_400.0;

/// When a node was started.
#[derive(Clone, Copy, Debug)]
pub(super) struct Started {
    /// By the machine's clock.
    at: Timestamp,
    since: Instant,
}

impl Started {
    pub(super) fn now() -> Self {
        Self { at: host_time(), since: Instant::now() }
    }
}

/// Measures the data folder now and then.
pub(super) async fn watch_growth(node: Weak<Node>) {
    loop {
        let Some(node) = node.upgrade() else { return };
        let data = node.data.clone();
        if let Ok(taken) = aside(move || measure(&data)).await {
            node.growth.lock().note(Instant::now(), lasting(&taken));
        }
        drop(node);
        tokio::time::sleep(LOOK).await;
    }
}

/// The bytes that the data folder takes on the disk.
fn measure(data: &Path) -> DiskUse {
    let of = |name: &str| bytes_below(&data.join(name));
    let (log, journal, store) = (of("log"), of("journal"), of("store"));
    let (packages, code, app_logs) = (of("packages"), of("code"), of("app-logs"));
    let total = log + journal + store + packages + code + app_logs;
    DiskUse { log, journal, store, packages, code, app_logs, total, ..DiskUse::default() }
}

/// Bytes that stay: the log is given back by checkpoints, and code may be removed.
fn lasting(taken: &DiskUse) -> u64 {
    taken.journal + taken.store + taken.packages + taken.app_logs
}

/// The bytes that the data folder took at earlier times, the oldest first.
#[derive(Debug, Default)]
pub(super) struct Growth {
    measured: VecDeque<(Instant, u64)>,
}

impl Growth {
    fn note(&mut self, at: Instant, bytes: u64) {
        self.measured.push_back((at, bytes));
        while self.measured.len() > KEPT + 1 {
            self.measured.pop_front();
        }
    }

    /// The bytes of a day, and over which time that was measured; `None` where that was too short.
    fn per_day(&self) -> (Option<u64>, Duration) {
        let (Some((from, first)), Some((to, last))) = (self.measured.front(), self.measured.back()) else {
            return (None, Duration::ZERO);
        };
        let over = to.saturating_duration_since(*from);
        let grown = last.saturating_sub(*first) as f64;
        ((over >= LEAST).then(|| (grown / over.as_secs_f64() * DAY) as u64), over)
    }
}

/// Days until only the reserve is free.
fn full_in_days(free: u64, reserve: u64, per_day: u64) -> Option<f64> {
    (per_day > 0).then(|| free.saturating_sub(reserve) as f64 / per_day as f64)
}

impl Node {
    /// Looks at the files of the data folder, so it works aside.
    pub(super) fn show_status(&self) -> Status {
        let mut installations = BTreeMap::new();
        for lane in &self.lanes.all() {
            *installations.entry(self.state_of(lane)).or_default() += 1;
        }
        let mut connectors = BTreeMap::new();
        for connector in self.show_connectors() {
            *connectors.entry(connector.worst().1.name().to_owned()).or_default() += 1;
        }
        Status {
            readiness: self.show_readiness(),
            version: env!("CARGO_PKG_VERSION").to_owned(),
            data: self.data.display().to_string(),
            engine: self.config.load().store.engine.name().to_owned(),
            started: self.started.at,
            uptime: self.started.since.elapsed().as_secs(),
            points: self.shared.points.names().count() as u64,
            installations,
            connectors,
            certificate_until: self.tls.as_ref().map(|tls| tls.certificate().until()),
            disk: self.disk_use(),
        }
    }

    /// The bytes that the store takes on the disk.
    pub(super) fn bytes_of_store(&self) -> u64 {
        bytes_below(&self.data.join("store"))
    }

    fn disk_use(&self) -> DiskUse {
        let free = free_bytes(&self.data);
        let reserve = self.config.load().store.reserve.0;
        let (growth_per_day, over) = self.growth.lock().per_day();
        let full_in_days =
            free.zip(growth_per_day).and_then(|(free, growth)| full_in_days(free, reserve, growth));
        let measured_over = over.as_secs();
        DiskUse { free, reserve, growth_per_day, measured_over, full_in_days, ..measure(&self.data) }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn growth_is_known_after_an_hour_and_is_that_of_the_last_day() {
        let start = Instant::now();
        let mut growth = Growth::default();
        assert_eq!(growth.per_day(), (None, Duration::ZERO));
        let mut bytes = 1_000_000;
        for look in 0..6 {
            growth.note(start + look * LOOK, bytes);
            bytes += 1_000;
        }
        assert_eq!(growth.per_day(), (None, 5 * LOOK), "50 minutes are too few");
        growth.note(start + 6 * LOOK, bytes);
        assert_eq!(growth.per_day(), (Some(144_000), 6 * LOOK));
        // A day at twice that rate, and what was before doesn't count any more.
        for look in 7..=150 {
            bytes += 2_000;
            growth.note(start + look * LOOK, bytes);
        }
        assert_eq!(growth.per_day(), (Some(288_000), 144 * LOOK));
        // What shrinks never gets full.
        growth.note(start + 151 * LOOK, 0);
        assert_eq!(growth.per_day().0, Some(0));
    }

    #[test]
    fn the_disk_is_full_when_the_reserve_is_left() {
        assert_eq!(full_in_days(1_000, 400, 200), Some(3.0));
        assert_eq!(full_in_days(300, 400, 200), Some(0.0));
        assert_eq!(full_in_days(1_000, 400, 0), None);
    }

    #[test]
    fn all_files_below_a_folder_count_with_what_they_take() {
        let folder = tempfile::tempdir().unwrap();
        assert_eq!(bytes_below(&folder.path().join("none")), 0);
        for (name, bytes) in
            [("journal/1", 40_960), ("store/redb/db", 8_192), ("log/1", 4_096), ("lock", 4_096)]
        {
            let path = folder.path().join(name);
            std::fs::create_dir_all(path.parent().unwrap()).unwrap();
            let file = std::fs::File::create(&path).unwrap();
            std::io::Write::write_all(&mut &file, &vec![7; bytes]).unwrap();
            file.sync_all().unwrap();
        }
        let taken = measure(folder.path());
        assert!(taken.journal >= 40_960 && taken.store >= 8_192 && taken.log >= 4_096, "{taken:?}");
        assert_eq!(taken.total, taken.journal + taken.store + taken.log);
        assert_eq!(lasting(&taken), taken.journal + taken.store);
    }
}
