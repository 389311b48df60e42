//! Lanes that wait until log and store have room for their commits. One task looks for all of them.

use std::sync::Arc;
use std::time::Duration;

use parking_lot::Mutex;

use crate::lanes::Lane;

/// The interval between two checks for room.
const EVERY: Duration = Duration::from_millis(20);

/// The lanes that wait for room.
#[derive(Default)]
pub(super) struct RoomQueue(Mutex<Waiting>);

#[derive(Default)]
struct Waiting {
    lanes: Vec<Arc<Lane>>,
    is_looked_for: bool,
}

impl RoomQueue {
    /// Adds a waiting lane. Polls `has_room` until it returns true, then calls `wake` for each waiting lane.
    pub(super) fn wait(
        self: &Arc<Self>,
        lane: &Arc<Lane>,
        has_room: impl Fn() -> bool + Send + 'static,
        wake: impl Fn(&Lane) + Send + 'static,
    ) {
        let mut waiting = self.0.lock();
        waiting.lanes.push(Arc::clone(lane));
        if std::mem::replace(&mut waiting.is_looked_for, true) {
            return;
        }
        drop(waiting);
        let queue = Arc::clone(self);
        tokio::spawn(async move {
            loop {
                tokio::time::sleep(EVERY).await;
                if has_room() {
                    break;
                }
            }
            let lanes = {
                let mut waiting = queue.0.lock();
                waiting.is_looked_for = false;
                std::mem::take(&mut waiting.lanes)
            };
            lanes.iter().for_each(|lane| wake(lane));
        });
    }
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};

    use super::*;
    use crate::lanes::tests::lane;

    #[tokio::test]
    async fn one_look_serves_all_lanes_and_each_is_woken_once() {
        let queue = Arc::new(RoomQueue::default());
        let room = Arc::new(AtomicBool::new(false));
        let (looks, woken) = (Arc::new(AtomicUsize::new(0)), Arc::new(AtomicUsize::new(0)));
        let lanes: Vec<_> = (0..50).map(|_| Arc::new(lane().0)).collect();
        for lane in &lanes {
            let (room, looks, woken) = (Arc::clone(&room), Arc::clone(&looks), Arc::clone(&woken));
            let has_room = move || {
                looks.fetch_add(1, Ordering::SeqCst);
                room.load(Ordering::SeqCst)
            };
            queue.wait(lane, has_room, move |_| {
                woken.fetch_add(1, Ordering::SeqCst);
            });
        }
        let started = std::time::Instant::now();
        tokio::time::sleep(EVERY * 5).await;
        room.store(true, Ordering::SeqCst);
        while woken.load(Ordering::SeqCst) < lanes.len() {
            tokio::time::sleep(EVERY).await;
        }
        // One after each wait, whatever the number of lanes.
        let most = started.elapsed().as_millis() / EVERY.as_millis() + 1;
        assert!(looks.load(Ordering::SeqCst) as u128 <= most, "{looks:?} looks for {} lanes", lanes.len());
        tokio::time::sleep(EVERY * 3).await;
        assert_eq!(woken.load(Ordering::SeqCst), lanes.len());
    }
}
