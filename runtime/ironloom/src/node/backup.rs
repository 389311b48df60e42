//! A backup while the server runs: its moment, and writing it at a pace that leaves room for everything else.

use std::io::{self, Write};
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::{Duration, Instant};

use bytes::Bytes;
use tokio::sync::{OwnedSemaphorePermit, mpsc, oneshot};

use super::{Node, problems, stopping};
use crate::api::facade::{Answer, BackupStream, Problem};
use crate::backup::{BackupError, Writer};
use crate::fold::moment::{Moment, MomentError, Sources};
use ironloom_storage::log::Room;
use ironloom_storage::store::EngineKind;

/// Bytes that are handed over at once, and how many of these may wait for the peer.
const CHUNK: usize = 256 << 10;
const WAITING: usize = 4;
/// The time for which a store's snapshot and the log's segments are held at most.
const HELD: Duration = Duration::from_secs(1_800);

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
        let out = Out { to, chunk: Vec::with_capacity(CHUNK), pace, sent: 0, begun: Instant::now() };
        let node = self;
        let thread = std::thread::Builder::new().name("backup".to_owned());
        let run = move || node.run_backup(out, permit, begun);
        thread.spawn(run).map_err(|error| problems::internal(&error))?;
        match begins.await {
            Ok(Ok(())) => Ok(BackupStream { chunks }),
            Ok(Err(problem)) => Err(Problem::internal(format!("no backup could be begun: {problem}"))),
            Err(_) => Err(Problem::internal("the backup broke off before it had begun")),
        }
    }

    /// Writes a backup to its end, on a thread of its own.
    fn run_backup(
        &self,
        out: Out,
        _permit: OwnedSemaphorePermit,
        begun: oneshot::Sender<Result<(), String>>,
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
        let moment = match Moment::take(&sources) {
            Ok(moment) => moment,
            Err(error) => {
                tracing::error!(%error, "no backup could be begun");
                let _ = begun.send(Err(error.to_string()));
                return;
            }
        };
        let through = moment.head.through;
        if begun.send(Ok(())).is_err() {
            return;
        }
        tracing::info!(through, "a backup is being written");
        match self.write_backup(moment, sources.engine, out) {
            Ok(bytes) => tracing::info!(through, bytes, took = ?started.elapsed(), "a backup was written"),
            Err(error) => tracing::warn!(through, %error, "a backup broke off"),
        }
    }

    fn write_backup(&self, moment: Moment<'_>, engine: EngineKind, out: Out) -> Result<u64, MomentError> {
        let until = Instant::now() + HELD;
        let go_on = |held: bool| {
            let why = match () {
                () if self.stopping.load(Ordering::Acquire) => "the server stops",
                () if held && Instant::now() >= until => {
                    "log and store were not read within half an hour; let whoever reads the backup read faster, or raise \
                     its pace"
                }
                () if held && engine == EngineKind::Sled && self.committer.room() != Room::All => {
                    "the log has filled up: the engine sled has no snapshots, so that checkpoints wait while its keys are \
                     read; try it when less comes in, or use redb"
                }
                () => return Ok(()),
            };
            Err(MomentError::Stopped(why.to_owned()))
        };
        let mut writer = Writer::begin(out, &moment.head)?;
        match moment.write(&mut writer, &go_on) {
            Ok(()) => Ok(writer.finish()?.end()?),
            Err(error) => {
                // Whoever reads it is told why; one that has gone can't be.
                if let Ok(out) = writer.fail(&error.to_string()) {
                    let _ = out.end();
                }
                Err(error)
            }
        }
    }
}

/// Hands a backup over as it is written, not faster than it shall be.
struct Out {
    to: mpsc::Sender<Bytes>,
    chunk: Vec<u8>,
    /// Bytes in each second at most.
    pace: u64,
    sent: u64,
    begun: Instant,
}

impl Out {
    fn send(&mut self) -> io::Result<()> {
        if self.chunk.is_empty() {
            return Ok(());
        }
        let chunk = std::mem::replace(&mut self.chunk, Vec::with_capacity(CHUNK));
        self.sent += chunk.len() as u64;
        let gone = |_| io::Error::new(io::ErrorKind::BrokenPipe, "nobody reads the backup any more");
        self.to.blocking_send(Bytes::from(chunk)).map_err(gone)?;
        let due = Duration::from_secs_f64(self.sent as f64 / self.pace.max(1) as f64);
        std::thread::sleep(due.saturating_sub(self.begun.elapsed()));
        Ok(())
    }

    /// Hands the rest over, and returns how many bytes these were in all.
    fn end(mut self) -> Result<u64, BackupError> {
        self.send()?;
        Ok(self.sent)
    }
}

impl Write for Out {
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
