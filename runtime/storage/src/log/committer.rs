//! The committer: one thread that writes the log, in groups.
//!
//! Any thread submits items to a queue and waits elsewhere for their answers. The committer takes all that
//! waits, has the [`Sealer`] turn each item into a record at the next position, and flushes the group with one
//! write and one sync; what arrives meanwhile is the next group. Only then is the group handed to
//! [`Sealer::flushed`], which answers. No lock is held across a write or a sync: submitters never wait for the
//! disk. After a failed write or sync everybody is told ([`Sealer::failed`]) and nothing more is taken.

use std::sync::atomic::Ordering;
use std::sync::{Arc, mpsc};
use std::thread::JoinHandle;
use std::time::Duration;

use parking_lot::{Condvar, Mutex};

use ironloom_types::clock::Timestamp;
use ironloom_types::ids::{Position, Sequence, StreamId, TenantId};

use super::error::LogError;
use super::frame::{RECORD_HEADER, RecordKind};
use super::reader::{LogReader, RecordRef};
use super::shared::{LogShared, Room, Stats};
use super::writer::{About, OpenRecord, Writer};
use crate::disk::Gone;

/// What gives the records their content. All of it runs on the committer's thread, in the order in
/// which items were submitted, and so holds up every commit behind it.
pub trait Sealer: Send + 'static {
    /// A submitted item, with the way to answer its submitter.
    type Item: Send + 'static;
    /// The part of an item that travels on once it is flushed.
    type Sealed: Send + 'static;

    /// Turns an item into a record at this position, and appends its body, at most as long as the bound
    /// given with the item. `body` already holds earlier records of the group: only append.
    fn seal(&mut self, item: Self::Item, position: Position, body: &mut Vec<u8>) -> Seal<Self::Sealed>;

    /// Everything in it is on the disk, after a sync that took so long; `None` where there was nothing to write.
    /// Barriers stand in their places.
    fn flushed(&mut self, group: Vec<Flushed<Self::Sealed>>, took: Option<Duration>);

    /// A write or sync failed, and nothing more will be written. Whether the `unsynced` outlive the process
    /// is unknown; the `waiting` were never written. To be answered before the process ends.
    fn failed(&mut self, unsynced: Vec<Self::Sealed>, waiting: Vec<Self::Item>, error: &LogError);
}

/// The result of sealing an item.
pub enum Seal<T> {
    /// A record, whose body was appended.
    Record {
        kind: RecordKind,
        /// The version of its body's encoding.
        version: u8,
        tenant: TenantId,
        /// The stream of its readings.
        stream: StreamId,
        /// The number of its first reading.
        first_sequence: Sequence,
        /// Its journal time.
        journal_time: Timestamp,
        /// Travels on once it is flushed.
        sealed: T,
    },
    /// Nothing to write, and nothing was appended, but it travels on behind what came before.
    Barrier(T),
    /// Nothing, and nothing was appended.
    Nothing,
}

/// A part of the group that is on the disk now.
pub struct Flushed<T> {
    /// Its place; `None` for a barrier.
    pub record: Option<RecordRef>,
    /// The result of [`Sealer::seal`].
    pub sealed: T,
}

/// An item that the log doesn't take.
#[derive(Debug, thiserror::Error)]
#[error("{error}")]
pub struct Refused<I> {
    /// The item, untouched.
    pub item: I,
    /// [`LogError::TooLarge`] or [`LogError::Stopped`].
    pub error: LogError,
}

/// An item that waits, and the bytes that it is counted for.
pub(super) struct Queued<I> {
    pub item: I,
    pub bytes: u64,
}

/// Turns items into groups of records. The thread around it is in [`run`].
pub(super) struct Committer<S: Sealer> {
    writer: Writer,
    sealer: S,
    /// The group that isn't flushed yet.
    group: Vec<Flushed<S::Sealed>>,
    /// Bytes that the items of the group were counted with while they waited.
    queued: u64,
}

/// The reason why the committer can't go on, and the unprocessed items.
pub(super) struct Failure<I> {
    pub error: LogError,
    pub waiting: Vec<I>,
}

impl<S: Sealer> Committer<S> {
    pub(super) fn new(writer: Writer, sealer: S) -> Self {
        Self { writer, sealer, group: Vec::new(), queued: 0 }
    }

    /// Seals all items and flushes them, in more than one step where they pass a segment's end or the
    /// size of a group.
    pub(super) fn commit(&mut self, items: Vec<Queued<S::Item>>) -> Result<(), Failure<S::Item>> {
        let mut items = items.into_iter();
        let result = items.by_ref().try_for_each(|queued| self.seal(queued)).and_then(|()| self.flush());
        result.map_err(|error| Failure { error, waiting: items.map(|queued| queued.item).collect() })
    }

    fn seal(&mut self, Queued { item, bytes }: Queued<S::Item>) -> Result<(), LogError> {
        self.queued += bytes;
        let open = self.writer.open();
        let position = self.writer.next();
        match self.sealer.seal(item, position, self.writer.group()) {
            Seal::Record { kind, version, tenant, stream, first_sequence, journal_time, sealed } => {
                let body = self.writer.body_len(&open);
                let bound = bytes as usize - RECORD_HEADER;
                assert!(body <= bound, "a body of {body} bytes was submitted as one of at most {bound}");
                let about = About { kind, version, tenant, stream, first_sequence, journal_time };
                match self.place(open) {
                    Ok(open) => {
                        let record = Some(self.writer.close(open, about));
                        self.group.push(Flushed { record, sealed });
                    }
                    Err(error) => {
                        // Its submitter is answered with the others of the group.
                        self.group.push(Flushed { record: None, sealed });
                        return Err(error);
                    }
                }
            }
            Seal::Barrier(sealed) => {
                self.nothing_appended(open);
                self.group.push(Flushed { record: None, sealed });
            }
            Seal::Nothing => self.nothing_appended(open),
        }
        if self.writer.group_len() >= self.writer.shared().config.group_bytes { self.flush() } else { Ok(()) }
    }

    fn nothing_appended(&mut self, open: OpenRecord) {
        assert!(self.writer.body_len(&open) == 0, "only a record has a body");
        self.writer.cancel(open);
    }

    /// Sees to it that the open record has room in its segment: where it hasn't, what stands before it is
    /// flushed, and it comes first in a fresh one.
    fn place(&mut self, open: OpenRecord) -> Result<OpenRecord, LogError> {
        if self.writer.fits() {
            return Ok(open);
        }
        let (open, took) = self.writer.flush_before(open)?;
        self.pass_on(took);
        self.writer.roll()?;
        Ok(open)
    }

    fn flush(&mut self) -> Result<(), LogError> {
        let took = self.writer.flush()?;
        self.pass_on(took);
        Ok(())
    }

    /// Hands over what was flushed.
    fn pass_on(&mut self, took: Option<Duration>) {
        self.writer.shared().queued.fetch_sub(std::mem::take(&mut self.queued), Ordering::Relaxed);
        if !self.group.is_empty() {
            self.sealer.flushed(std::mem::take(&mut self.group), took);
        }
    }

    pub(super) fn wants_mark(&self) -> bool {
        self.writer.wants_mark()
    }

    pub(super) fn mark(&mut self) -> Result<(), Failure<S::Item>> {
        self.writer.mark().map_err(|error| Failure { error, waiting: Vec::new() })
    }

    #[cfg(test)]
    pub(super) fn shared(&self) -> &LogShared {
        self.writer.shared()
    }

    #[cfg(test)]
    pub(super) fn next_position(&self) -> Position {
        self.writer.next()
    }

    pub(super) fn fail(&mut self, failure: Failure<S::Item>) -> LogError {
        let unsynced = std::mem::take(&mut self.group).into_iter().map(|flushed| flushed.sealed).collect();
        self.sealer.failed(unsynced, failure.waiting, &failure.error);
        failure.error
    }
}

/// Submits items to the committer, from any thread. When the last clone goes, the committer stops.
pub struct CommitterHandle<I: Send + 'static> {
    inner: Arc<Inner<I>>,
}

impl<I: Send + 'static> Clone for CommitterHandle<I> {
    fn clone(&self) -> Self {
        Self { inner: self.inner.clone() }
    }
}

struct Inner<I: Send + 'static> {
    queue: Arc<Queue<I>>,
    reader: LogReader,
    shared: Arc<LogShared>,
    threads: Mutex<Option<Threads>>,
}

struct Threads {
    committer: JoinHandle<Result<(), LogError>>,
    spares: JoinHandle<()>,
}

impl<I: Send + 'static> CommitterHandle<I> {
    /// Puts an item at the end of the queue and returns at once. `body_bound` is at least the length that
    /// the body of its record will have.
    ///
    /// Errors: [`LogError::TooLarge`] above [`CommitterHandle::max_body`], [`LogError::Stopped`].
    pub fn submit(&self, item: I, body_bound: usize) -> Result<(), Refused<I>> {
        let max = self.max_body();
        if body_bound > max {
            return Err(Refused { item, error: LogError::TooLarge { bytes: body_bound, max } });
        }
        let bytes = (body_bound + RECORD_HEADER) as u64;
        self.inner.queue.push(item, bytes, &self.inner.shared)
    }

    /// Keeps room for a record that waits for something before it is submitted: its bytes count until the guard is
    /// dropped.
    ///
    /// Errors: [`LogError::TooLarge`] above [`CommitterHandle::max_body`].
    pub fn reserve(&self, body_bound: usize) -> Result<Reserved, LogError> {
        let max = self.max_body();
        if body_bound > max {
            return Err(LogError::TooLarge { bytes: body_bound, max });
        }
        let (shared, bytes) = (Arc::clone(&self.inner.shared), (body_bound + RECORD_HEADER) as u64);
        shared.reserved.fetch_add(bytes, Ordering::Relaxed);
        Ok(Reserved { shared, bytes })
    }

    /// Returns the bytes that are reserved.
    pub fn reserved(&self) -> u64 {
        self.inner.shared.reserved.load(Ordering::Relaxed)
    }

    /// The longest body that a record may have, in bytes: a segment less the headers, 67,100,618 by default.
    pub fn max_body(&self) -> usize {
        self.inner.shared.config.max_body()
    }

    /// Returns who may still submit. The caller refuses the others: the queue itself accepts everything.
    pub fn room(&self) -> Room {
        self.inner.shared.room()
    }

    /// At least the bytes of the records behind this position; too much by little more than a record.
    pub fn bytes_since(&self, position: Position) -> u64 {
        self.inner.shared.bytes_since(position)
    }

    /// Returns the log's figures since start.
    pub fn stats(&self) -> Stats {
        self.inner.shared.stats()
    }

    /// Reads what this committer has flushed.
    pub fn reader(&self) -> LogReader {
        self.inner.reader.clone()
    }

    /// Takes and writes nothing more: its files, or others without which no start finds what it would write, are
    /// gone. Everybody who waits is told, as after a failed write.
    pub fn fail(&self, gone: Gone) {
        self.inner.queue.fail(gone);
    }

    /// Takes no more items, writes those that wait, then a mark, and waits for the committer's end.
    /// Must not be called on the committer's thread.
    ///
    /// Errors: what the committer failed with.
    pub fn stop(&self) -> Result<(), LogError> {
        self.inner.queue.close();
        let Some(threads) = self.inner.threads.lock().take() else { return Ok(()) };
        let ended = threads.committer.join();
        // It ends when the committer has dropped its side of the channel.
        let _ = threads.spares.join();
        ended.unwrap_or(Err(LogError::Stopped))
    }
}

impl<I: Send + 'static> Drop for Inner<I> {
    fn drop(&mut self) {
        self.queue.close();
    }
}

/// Room in the log for a record that isn't submitted yet. Whoever submits it drops this afterwards.
pub struct Reserved {
    shared: Arc<LogShared>,
    bytes: u64,
}

impl Reserved {
    /// Returns who may still submit of those that have reserved their room: what waits stands in nobody's way.
    pub fn room(&self) -> Room {
        self.shared.room_of_reserved()
    }
}

impl Drop for Reserved {
    fn drop(&mut self) {
        self.shared.reserved.fetch_sub(self.bytes, Ordering::Relaxed);
    }
}

/// The items that wait for the committer.
struct Queue<I> {
    waiting: Mutex<Waiting<I>>,
    arrived: Condvar,
}

struct Waiting<I> {
    items: Vec<Queued<I>>,
    open: bool,
    failed: Option<Gone>,
}

enum Work<I> {
    Items(Vec<Queued<I>>),
    Failed(Gone),
    Idle,
    Closed,
}

impl<I> Queue<I> {
    fn push(&self, item: I, bytes: u64, shared: &LogShared) -> Result<(), Refused<I>> {
        let mut waiting = self.waiting.lock();
        if !waiting.open {
            return Err(Refused { item, error: LogError::Stopped });
        }
        waiting.items.push(Queued { item, bytes });
        shared.queued.fetch_add(bytes, Ordering::Relaxed);
        if waiting.items.len() == 1 {
            self.arrived.notify_one();
        }
        Ok(())
    }

    /// Everything that waits; where nothing does, waits for it, at most for `idle`.
    fn take(&self, idle: Option<Duration>) -> Work<I> {
        let mut waiting = self.waiting.lock();
        while waiting.items.is_empty() || waiting.failed.is_some() {
            if let Some(gone) = waiting.failed.take() {
                return Work::Failed(gone);
            }
            if !waiting.open {
                return Work::Closed;
            }
            match idle {
                Some(idle) => {
                    let is_over = self.arrived.wait_for(&mut waiting, idle).timed_out();
                    if is_over && waiting.items.is_empty() && waiting.open {
                        return Work::Idle;
                    }
                }
                None => self.arrived.wait(&mut waiting),
            }
        }
        Work::Items(std::mem::take(&mut waiting.items))
    }

    fn close(&self) {
        self.waiting.lock().open = false;
        self.arrived.notify_one();
    }

    fn fail(&self, gone: Gone) {
        let mut waiting = self.waiting.lock();
        waiting.open = false;
        waiting.failed = Some(gone);
        self.arrived.notify_one();
    }

    fn drain(&self) -> Vec<Queued<I>> {
        std::mem::take(&mut self.waiting.lock().items)
    }
}

/// Closes the queue when the committer's thread exits, also by a panic, so that no submitter waits for ever.
struct CloseAtEnd<I>(Arc<Queue<I>>);

impl<I> Drop for CloseAtEnd<I> {
    fn drop(&mut self) {
        self.0.close();
        self.0.drain();
    }
}

/// Starts the committer's thread, and the one that makes spare segments.
pub(super) fn start<S: Sealer>(writer: Writer, sealer: S) -> Result<CommitterHandle<S::Item>, LogError> {
    let shared = writer.shared().clone();
    let waiting = Waiting { items: Vec::new(), open: true, failed: None };
    let queue = Arc::new(Queue { waiting: Mutex::new(waiting), arrived: Condvar::new() });
    let failed = |source| LogError::io("start a thread for", shared.disk.path(""))(source);

    let (wake, woken) = mpsc::sync_channel(1);
    let spares = std::thread::Builder::new().name("log-spares".into()).spawn({
        let shared = shared.clone();
        move || fill_spares(&shared, &woken)
    });
    let spares = spares.map_err(failed)?;
    let committer = std::thread::Builder::new().name("log-committer".into()).spawn({
        let queue = queue.clone();
        let committer = Committer::new(writer, sealer);
        move || run(committer, &queue, &wake)
    });
    let threads = Threads { committer: committer.map_err(failed)?, spares };
    let reader = LogReader::new(shared.clone());
    Ok(CommitterHandle {
        inner: Arc::new(Inner { queue, reader, shared, threads: Mutex::new(Some(threads)) }),
    })
}

fn run<S: Sealer>(
    mut committer: Committer<S>,
    queue: &Arc<Queue<S::Item>>,
    wake: &mpsc::SyncSender<()>,
) -> Result<(), LogError> {
    let _close = CloseAtEnd(queue.clone());
    let shared = committer.writer.shared().clone();
    loop {
        // A full channel means that it is about to look anyway.
        let _ = wake.try_send(());
        let idle = committer.wants_mark().then_some(shared.config.idle_mark);
        let done = match queue.take(idle) {
            Work::Items(items) => committer.commit(items),
            Work::Failed(gone) => Err(Failure { error: gone.into(), waiting: Vec::new() }),
            Work::Idle => committer.mark(),
            Work::Closed if committer.wants_mark() => committer.mark(),
            Work::Closed => return Ok(()),
        };
        if let Err(mut failure) = done {
            queue.close();
            failure.waiting.extend(queue.drain().into_iter().map(|queued| queued.item));
            return Err(committer.fail(failure));
        }
    }
}

fn fill_spares(shared: &LogShared, woken: &mpsc::Receiver<()>) {
    while woken.recv().is_ok() {
        if let Err(error) = shared.spares.fill() {
            // The committer will try itself when it needs one, and fail where that fails.
            tracing::warn!(%error, "could not make a log segment ahead of its use");
        }
    }
}
