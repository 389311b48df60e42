//! A backup while the server runs: its moment, and writing it at a pace that leaves room for everything else.

use std::cell::Cell;
use std::io::{self, Write};
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::{Duration, Instant};

use bytes::Bytes;
use tokio::sync::mpsc::error::TrySendError;
use tokio::sync::{OwnedSemaphorePermit, mpsc, oneshot};

use super::{Node, problems, stopping};
use crate::api::facade::{Answer, BackupStream, Problem};
use crate::backup::{BackupError, Writer};
use crate::fold::moment::{Moment, MomentError, Sources, Wanted};
use ironloom_storage::log::Room;
use ironloom_storage::store::EngineKind;

/// Bytes that are handed over at once, and how many of these may wait for the peer.
const CHUNK: usize = 256 << 10;
const WAITING: usize = 4;
/// The time for which a store's snapshot and the log's segments are held at most.
const HELD: Duration = Duration::from_secs(1_800);
/// The interval at which a backup looks whether it can go on, while its reader keeps it waiting.
const LOOK: Duration = Duration::from_millis(20);
/// The time for telling the reader why there is no more.
const LAST_WORDS: Duration = Duration::from_secs(1);

impl Node {
    /// Begins a backup. Comes back once its moment is taken; what follows is written aside, at most so many bytes a
    /// second.
    pub(super) async fn begin_backup(self: Arc<Self>, pace: u64) -> Answer<BackupStream> {
        let Ok(permit) = Arc::clone(&self.backups).try_acquire_owned() else {
            let detail = "another backup is being written: there may be one at a time";
            return Err(Problem::conflict("backup-running", detail));
        };
        if self.stopping.load(Ordering::Acquire) {
            return Err(stopping());
        }
        let (to, chunks) = mpsc::channel(WAITING);
        let (begun, begins) = oneshot::channel();
        let node = self;
        let thread = std::thread::Builder::new().name("backup".to_owned());
        let run = move || node.run_backup(to, pace, permit, begun);
        thread.spawn(run).map_err(|error| problems::internal(&error))?;
        match begins.await {
            Ok(Ok(())) => Ok(BackupStream { chunks }),
            Ok(Err(problem)) => Err(problem),
            Err(_) => Err(Problem::internal("the backup broke off before it had begun")),
        }
    }

    /// Writes a backup to its end, on a thread of its own.
    fn run_backup(
        &self,
        to: mpsc::Sender<io::Result<Bytes>>,
        pace: u64,
        permit: OwnedSemaphorePermit,
        begun: oneshot::Sender<Answer<()>>,
    ) {
        let started = Instant::now();
        let log = self.committer.reader();
        let sources = Sources {
            storage: &*self.shared.storage,
            log: &log,
            files: self.shared.journal.files(),
            packages: &self.packages,
            engine: self.config.load().store.engine,
            store_bytes: self.bytes_of_store(),
        };
        let no_copy = self.admin.becoming_whole.blocking_write();
        let moment = Moment::take(&sources);
        drop(no_copy);
        let moment = match moment {
            Ok(moment) => moment,
            Err(error) => {
                tracing::error!(%error, "no backup could be begun");
                let _ = begun.send(Err(not_begun(&error)));
                return;
            }
        };
        let through = moment.head.through;
        if begun.send(Ok(())).is_err() {
            return;
        }
        tracing::info!(through, "a backup is being written");
        let until = Instant::now() + HELD;
        let watch = Watch {
            node: self,
            engine: sources.engine,
            until,
            holds: Cell::new(true),
            ends: Cell::new(None),
        };
        let written = write(moment, &watch, Out::new(to.clone(), pace, &watch));
        // Before anybody hears that the next one may come.
        drop(permit);
        match written {
            Ok(bytes) => tracing::info!(through, bytes, took = ?started.elapsed(), "a backup was written"),
            Err(error) => {
                tracing::warn!(through, %error, "a backup broke off");
                // Behind the reason, which is on its way: with this error the connection is closed.
                std::thread::sleep(LOOK);
                let _ = to.try_send(Err(io::Error::other(error.to_string())));
            }
        }
    }
}

/// The problem where a backup can't be begun.
fn not_begun(error: &MomentError) -> Problem {
    match error {
        MomentError::TooManyBlocks | MomentError::TooManyPackages => {
            Problem::conflict("too-many-files", format!("a backup can't hold this folder: {error}"))
        }
        _ => Problem::internal(format!("no backup could be begun: {error}")),
    }
}

fn write(moment: Moment<'_>, watch: &Watch<'_>, out: Out<'_>) -> Result<u64, MomentError> {
    let mut writer = Writer::begin(out, &moment.head)?;
    match moment.write(&mut writer, watch) {
        Ok(()) => Ok(writer.finish()?.end()?),
        Err(error) => {
            let error = watch.is_wanted().err().unwrap_or(error);
            if watch.ends.get().is_none() {
                watch.ends.set(Some(Instant::now() + LAST_WORDS));
            }
            // Whoever reads it is told why; one that has gone can't be.
            if let Ok(out) = writer.fail(&error.to_string()) {
                let _ = out.end();
            }
            Err(error)
        }
    }
}

/// Looks if a backup can go on, at each piece of it and while its reader keeps it waiting.
struct Watch<'n> {
    node: &'n Node,
    engine: EngineKind,
    /// For how long log and store are held at most.
    until: Instant,
    /// Log and store are held.
    holds: Cell<bool>,
    /// The end of the time in which the reader is told why there is no more.
    ends: Cell<Option<Instant>>,
}

impl Wanted for Watch<'_> {
    fn is_wanted(&self) -> Result<(), MomentError> {
        let node = self.node;
        let why = match () {
            () if node.stopping.load(Ordering::Acquire) => "the server stops",
            () if !self.holds.get() => return Ok(()),
            () if Instant::now() >= self.until => {
                "log and store were not read within half an hour; let whoever reads the backup read faster, or raise \
                 its pace"
            }
            () if self.engine == EngineKind::Sled
                && (node.committer.room() != Room::All || node.shared.is_crowded()) =>
            {
                "the log has filled up: the engine sled has no snapshots, so that checkpoints wait while its keys are \
                 read; try it when less comes in, or use redb"
            }
            () => return Ok(()),
        };
        Err(MomentError::Stopped(why.to_owned()))
    }

    fn have_let_go(&self) {
        self.holds.set(false);
    }
}

/// Hands a backup over as it is written, not faster than it shall be.
struct Out<'w> {
    to: mpsc::Sender<io::Result<Bytes>>,
    chunk: Vec<u8>,
    /// Bytes in each second at most.
    pace: u64,
    sent: u64,
    begun: Instant,
    watch: &'w Watch<'w>,
}

impl<'w> Out<'w> {
    fn new(to: mpsc::Sender<io::Result<Bytes>>, pace: u64, watch: &'w Watch<'w>) -> Self {
        Self { to, chunk: Vec::with_capacity(CHUNK), pace, sent: 0, begun: Instant::now(), watch }
    }

    fn send(&mut self) -> io::Result<()> {
        if self.chunk.is_empty() {
            return Ok(());
        }
        let chunk = std::mem::replace(&mut self.chunk, Vec::with_capacity(CHUNK));
        self.sent += chunk.len() as u64;
        let mut chunk = Bytes::from(chunk);
        loop {
            match self.to.try_send(Ok(chunk)) {
                Ok(()) => break,
                Err(TrySendError::Full(Ok(unsent))) => chunk = unsent,
                Err(_) => {
                    return Err(io::Error::new(
                        io::ErrorKind::BrokenPipe,
                        "nobody reads the backup any more",
                    ));
                }
            }
            self.wait(LOOK)?;
        }
        let due = Duration::from_secs_f64(self.sent as f64 / self.pace.max(1) as f64);
        while self.watch.ends.get().is_none()
            && let left = due.saturating_sub(self.begun.elapsed())
            && !left.is_zero()
        {
            self.wait(left.min(LOOK))?;
        }
        Ok(())
    }

    /// Waits for its reader, or for its pace.
    fn wait(&self, span: Duration) -> io::Result<()> {
        let now = Instant::now();
        if self.watch.ends.get().is_none() && self.watch.is_wanted().is_err() {
            // The part that is being written is ended first: what stands behind half a part can't be read.
            self.watch.ends.set(Some(now + LAST_WORDS));
        }
        if self.watch.ends.get().is_some_and(|ends| now >= ends) {
            return Err(io::ErrorKind::TimedOut.into());
        }
        std::thread::sleep(span);
        Ok(())
    }

    /// Hands the rest over, and returns how many bytes these were in all.
    fn end(mut self) -> Result<u64, BackupError> {
        self.send()?;
        Ok(self.sent)
    }
}

impl Write for Out<'_> {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        let taken = bytes.len().min(CHUNK - self.chunk.len());
        self.chunk.extend_from_slice(&bytes[..taken]);
        if self.chunk.len() == CHUNK {
            self.send()?;
        }
        Ok(taken)
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}
