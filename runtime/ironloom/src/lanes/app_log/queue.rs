//! The one thread that writes apps' logs, and what waits for it: neither an invocation nor the fold ever waits for
//! these files.

use std::collections::VecDeque;
use std::sync::Arc;

use parking_lot::{Condvar, Mutex};

/// Bytes of lines that wait. Beyond: they are dropped and counted.
const MOST_BYTES: usize = if cfg!(test) { 64 << 10 } else { 4 << 20 };
/// What a job takes besides the text of its lines.
const JOB_BYTES: usize = 256;

type Work = Box<dyn FnOnce() + Send>;

/// Work for the thread, in order.
#[derive(Default)]
pub(super) struct Queue {
    jobs: Mutex<Jobs>,
    changed: Condvar,
}

#[derive(Default)]
struct Jobs {
    waiting: VecDeque<(usize, Work)>,
    bytes: usize,
    /// The thread is there, or was tried to be made.
    is_begun: bool,
    is_busy: bool,
    ended: bool,
}

impl Queue {
    /// Has work done that holds so many bytes of text. Returns whether there was room for it.
    pub(super) fn offer(self: &Arc<Self>, bytes: usize, work: impl FnOnce() + Send + 'static) -> bool {
        let mut jobs = self.jobs.lock();
        if jobs.bytes + bytes + JOB_BYTES > MOST_BYTES {
            return false;
        }
        self.put(&mut jobs, bytes + JOB_BYTES, Box::new(work));
        true
    }

    /// Has work done for which there is always room: no app can cause much of it.
    pub(super) fn add(self: &Arc<Self>, work: impl FnOnce() + Send + 'static) {
        self.put(&mut self.jobs.lock(), 0, Box::new(work));
    }

    fn put(self: &Arc<Self>, jobs: &mut Jobs, bytes: usize, work: Work) {
        jobs.bytes += bytes;
        jobs.waiting.push_back((bytes, work));
        self.changed.notify_all();
        if !std::mem::replace(&mut jobs.is_begun, true) {
            let queue = Arc::clone(self);
            let thread = std::thread::Builder::new().name("app-logs".into()).spawn(move || queue.run());
            if let Err(error) = thread {
                jobs.is_begun = false;
                tracing::warn!(%error, "the thread for apps' logs can't be started; lines wait until they are dropped");
            }
        }
    }

    fn run(&self) {
        let mut jobs = self.jobs.lock();
        loop {
            if let Some((bytes, work)) = jobs.waiting.pop_front() {
                jobs.is_busy = true;
                drop(jobs);
                work();
                jobs = self.jobs.lock();
                jobs.bytes -= bytes;
                jobs.is_busy = false;
                self.changed.notify_all();
            } else if jobs.ended {
                return;
            } else {
                self.changed.wait(&mut jobs);
            }
        }
    }

    /// Ends the thread once all is done.
    pub(super) fn end(&self) {
        self.jobs.lock().ended = true;
        self.changed.notify_all();
    }

    /// Waits until all is done.
    #[cfg(test)]
    pub(super) fn settle(&self) {
        let mut jobs = self.jobs.lock();
        while jobs.is_busy || !jobs.waiting.is_empty() {
            self.changed.wait(&mut jobs);
        }
    }
}
