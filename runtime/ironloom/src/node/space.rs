//! The disk under the data folder: its room, and whether the files in use are still there.

use std::path::Path;
use std::sync::atomic::Ordering;
use std::sync::{Arc, Weak};
use std::time::{Duration, Instant};

use super::Node;
use crate::aside::aside;
use crate::fold::apply::told::of_alarm;
use crate::telemetry::events::What;
use ironloom_storage::log::{self, LogError};
use ironloom_storage::{Folder, Gone, free_bytes};

/// The interval at which free space is looked at: in between, at full load, some ten MiB are taken.
const LOOK: Duration = Duration::from_millis(100);
/// The interval at which files in use are looked for.
const LOOK_FOR_FILES: Duration = Duration::from_secs(1);
/// Block files that are looked at each time, besides the newest.
const BLOCK_FILES: usize = 64;
/// With less free space than this a start first makes room.
const ROOM_TO_OPEN: u64 = 64 << 20;

/// On a disk that is nearly full the store finds the room that it takes to be opened in the free segments of the
/// log.
pub(super) fn make_room(data: &Path) -> Result<(), LogError> {
    let folder = data.join("log");
    if !folder.exists() || free_bytes(data).is_none_or(|free| free >= ROOM_TO_OPEN) {
        return Ok(());
    }
    tracing::warn!(folder = %folder.display(), "the disk is nearly full: free segments of the log are given back");
    let path = folder.display().to_string();
    let opened = Folder::open(&folder);
    let disk = opened.map_err(|source| LogError::Io { what: "open", path, source: Arc::new(source) })?;
    log::make_room(&disk)
}

/// Refuses what is new while there is less than `store.reserve` besides what was accepted before, and ends the server
/// where a file in use is gone.
pub(super) async fn watch(node: Weak<Node>) {
    let (mut looked_for_files, mut is_behind, mut is_first) = (Instant::now(), false, true);
    loop {
        let Some(node) = node.upgrade() else { return };
        look_at_space(&node).await;
        is_behind = look_at_clock(&node, is_behind);
        node.telemetry.metrics.events.flush();
        if looked_for_files.elapsed() >= LOOK_FOR_FILES {
            looked_for_files = Instant::now();
            look_for_files(&node).await;
            look_at_shelves(&node, is_first);
            is_first = false;
        }
        drop(node);
        tokio::time::sleep(LOOK).await;
    }
}

/// Tells where the machine's clock comes to be behind journal time, and where it is so no more.
fn look_at_clock(node: &Node, was_behind: bool) -> bool {
    let is_behind = node.shared.clock.behind().is_some();
    if is_behind != was_behind {
        let state = if is_behind { "behind" } else { "caught-up" };
        node.telemetry.metrics.events.tell(What::Clock { state });
    }
    is_behind
}

/// Tells of alarms whose shelves have ended. At a start those aren't told that ended before.
fn look_at_shelves(node: &Node, is_first: bool) {
    let now = node.shared.clock.now();
    for lane in node.lanes.all() {
        let ended = lane.take_ended_shelves(now);
        for alarm in ended.iter().filter(|_| !is_first) {
            node.telemetry.metrics.events.tell(of_alarm(&lane.id, lane.generation, alarm, "unshelved"));
        }
    }
}

async fn look_at_space(node: &Node) {
    let Some(free) = free_bytes(&node.data) else { return };
    node.telemetry.metrics.disk_free.set(i64::try_from(free).unwrap_or(i64::MAX));
    let of_log = node.committer.bytes_since(node.shared.folded()) + node.committer.stats().queued_bytes;
    let owed = node.shared.owed(of_log);
    let reserve = node.config.load().store.reserve.0;
    let was_full = node.full.load(Ordering::Acquire);
    let full = is_full(was_full, free, owed, reserve);
    if full == was_full {
        return;
    }
    tracing::warn!(
        free,
        owed,
        reserve,
        full,
        "the free space of the data folder's disk, less what is owed to what was accepted, has crossed the reserve"
    );
    let state = if full { "low" } else { "ok" };
    node.telemetry.metrics.events.tell(What::Disk { state });
    node.full.store(full, Ordering::Release);
    node.shared.set_disk_full(full);
    let log = node.committer.reader();
    if let Ok(Err(error)) = aside(move || log.set_scarce(full)).await {
        tracing::warn!(%error, "free segments of the log could not be given back");
    }
}

/// Below `reserve` nothing new is taken; above 1.5 times as much it goes on. What is owed counts as used.
fn is_full(was_full: bool, free: u64, owed: u64, reserve: u64) -> bool {
    let least = if was_full { reserve + reserve / 2 } else { reserve };
    free.saturating_sub(owed) < least
}

async fn look_for_files(node: &Arc<Node>) {
    let looked = {
        let (log, shared) = (node.committer.reader(), Arc::clone(&node.shared));
        let look = move || -> Result<(), Gone> {
            log.check_files()?;
            shared.journal.files().check()?;
            // What is gone of the others is no reason to end: all else can be read.
            shared.journal.look_at_files(BLOCK_FILES);
            shared.storage.check_file()
        };
        aside(look).await
    };
    if let Ok(Err(gone)) = looked {
        node.committer.fail(gone);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_owed_counts_as_used() {
        let full = |was_full, free, owed| is_full(was_full, free, owed, 256);
        assert!(!full(false, 256, 0) && full(false, 255, 0));
        assert!(!full(false, 400, 144) && full(false, 400, 145) && full(false, 400, 500));
        // It goes on at half as much more.
        assert!(full(true, 383, 0) && !full(true, 384, 0) && full(true, 400, 17));
    }
}
