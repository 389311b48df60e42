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
    /// Adds a waiting lane. From time to time each one is asked for by `has_room`; for those that have some, `wake` is
    /// called.
    pub(super) fn wait(
        self: &Arc<Self>,
        lane: &Arc<Lane>,
        has_room: impl Fn(&Lane) -> bool + Send + 'static,
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
                let lanes = std::mem::take(&mut queue.0.lock().lanes);
                let (with_room, without): (Vec<_>, Vec<_>) =
                    lanes.into_iter().partition(|lane| has_room(lane));
                let is_done = {
                    let mut waiting = queue.0.lock();
                    waiting.lanes.extend(without);
                    waiting.is_looked_for = !waiting.lanes.is_empty();
                    !waiting.is_looked_for
                };
                with_room.iter().for_each(|lane| wake(lane));
                if is_done {
                    return;
                }
            }
        });
    }
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};

    use super::*;
    use crate::lanes::tests::lane;

    #[tokio::test]
    async fn each_lane_is_woken_once_it_has_room_and_one_task_looks_for_all() {
        let queue = Arc::new(RoomQueue::default());
        let room = Arc::new(AtomicBool::new(false));
        let (looks, woken) = (Arc::new(AtomicUsize::new(0)), Arc::new(AtomicUsize::new(0)));
        let lanes: Vec<_> = (0..50).map(|_| Arc::new(lane().0)).collect();
        // One of them has room before the others.
        let first = Arc::as_ptr(&lanes[0]) as usize;
        for lane in &lanes {
            let (room, looks, woken) = (Arc::clone(&room), Arc::clone(&looks), Arc::clone(&woken));
            let has_room = move |lane: &Lane| {
                looks.fetch_add(1, Ordering::SeqCst);
                room.load(Ordering::SeqCst) || std::ptr::from_ref(lane) as usize == first
            };
            queue.wait(lane, has_room, move |_| {
                woken.fetch_add(1, Ordering::SeqCst);
            });
        }
        let started = std::time::Instant::now();
        tokio::time::sleep(EVERY * 5).await;
        assert_eq!(woken.load(Ordering::SeqCst), 1);
        room.store(true, Ordering::SeqCst);
        while woken.load(Ordering::SeqCst) < lanes.len() {
            tokio::time::sleep(EVERY).await;
        }
        // One at each lane after each wait.
        let most = (started.elapsed().as_millis() / EVERY.as_millis() + 1) * lanes.len() as u128;
        assert!(looks.load(Ordering::SeqCst) as u128 <= most, "{looks:?} looks for {} lanes", lanes.len());
        tokio::time::sleep(EVERY * 3).await;
        assert_eq!(woken.load(Ordering::SeqCst), lanes.len());
    }
}
