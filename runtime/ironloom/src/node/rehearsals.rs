//! Rehearsals: a change of an installation, tried over the recorded journal in a subprocess. One runs at a time, and the
//! last ones are kept to be looked at.

use std::collections::BTreeMap;
use std::process::{ExitStatus, Stdio};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use parking_lot::Mutex;
use rustix::process::Signal;
use tokio::io::{AsyncBufReadExt as _, AsyncReadExt as _, BufReader};
use tokio::process::{Child, ChildStderr, ChildStdout, Command};
use tokio::sync::{OwnedSemaphorePermit, Semaphore};

use super::Node;
use super::replay::{Past, refused};
use crate::api::facade::{
    Answer, Place, Problem, RETRY_SOON, Rehearsal, RehearsalProgress, RehearsalRequest, RehearsalState,
    RehearseFrom,
};
use crate::lanes::Lane;
use crate::lanes::rehearsal::wire::{self, FromWorker, Through};
use crate::lanes::rehearsal::{CPU, MEMORY, SUBCOMMAND};
use crate::lanes::run::{Rehearsed, ReplayError};
use ironloom_sandbox::Compiled;
use ironloom_types::clock::Timestamp;
use ironloom_types::ids::InstallationId;
use ironloom_types::rehearsal::RehearsalReport;

/// Rehearsals that are kept to be looked at. The oldest that are over go first.
const KEPT: usize = 16;
/// The interval at which one looks whether it is still wanted.
const LOOK: Duration = Duration::from_millis(100);
/// The most time on the wall.
const WALL: Duration = Duration::from_secs(6 * 3_600);
/// Bytes of the longest line of a subprocess, and of its last words.
const MOST_BYTES: (u64, u64) = (16 << 20, 4 << 10);

/// The rehearsals that this process knows.
pub(super) struct Rehearsals {
    place: Arc<Semaphore>,
    kept: Mutex<Kept>,
    /// The form of compiled code.
    compiled: Compiled,
}

#[derive(Default)]
struct Kept {
    last: u64,
    all: BTreeMap<u64, One>,
}

struct One {
    shown: Rehearsal,
    cancelled: Arc<AtomicBool>,
}

impl Rehearsals {
    pub(super) fn new(compiled: Compiled) -> Self {
        Self { place: Arc::new(Semaphore::new(1)), kept: Mutex::default(), compiled }
    }

    /// Those of an installation, the newest first.
    pub(super) fn list(&self, id: &InstallationId) -> Vec<Rehearsal> {
        let kept = self.kept.lock();
        let own = kept.all.values().rev().filter(|one| one.shown.installation == *id);
        own.map(|one| one.shown.clone()).collect()
    }

    pub(super) fn show(&self, id: &InstallationId, number: u64) -> Answer<Rehearsal> {
        let kept = self.kept.lock();
        let found = kept.all.get(&number).filter(|one| one.shown.installation == *id);
        found.map(|one| one.shown.clone()).ok_or_else(|| unknown(id, number))
    }

    /// Ends one, and forgets it.
    pub(super) fn cancel(&self, id: &InstallationId, number: u64) -> Answer<()> {
        let mut kept = self.kept.lock();
        match kept.all.get(&number).filter(|one| one.shown.installation == *id) {
            None => Err(unknown(id, number)),
            Some(one) => {
                one.cancelled.store(true, Ordering::Release);
                kept.all.remove(&number);
                Ok(())
            }
        }
    }

    /// Notes one that begins, and makes room for it.
    fn add(&self, shown: Rehearsal) -> (Rehearsal, Arc<AtomicBool>) {
        let mut kept = self.kept.lock();
        while kept.all.len() >= KEPT {
            // The one under way is the newest.
            kept.all.pop_first();
        }
        kept.last += 1;
        let shown = Rehearsal { number: kept.last, ..shown };
        let cancelled = Arc::new(AtomicBool::new(false));
        kept.all.insert(shown.number, One { shown: shown.clone(), cancelled: Arc::clone(&cancelled) });
        (shown, cancelled)
    }

    fn change(&self, number: u64, change: impl FnOnce(&mut Rehearsal)) {
        if let Some(one) = self.kept.lock().all.get_mut(&number) {
            change(&mut one.shown);
        }
    }

    fn through(&self, number: u64, through: Through) {
        self.change(number, |shown| {
            let Through { ordinal, time, readings, different } = through;
            let of = shown.progress.of;
            shown.progress = RehearsalProgress { ordinal, of, time: Some(time), readings, different };
        });
    }

    fn end(&self, number: u64, came: Result<RehearsalReport, String>) {
        self.change(number, |shown| match came {
            Ok(report) => {
                shown.progress.ordinal = shown.progress.of;
                shown.state = RehearsalState::Done;
                shown.report = Some(report);
            }
            Err(error) => {
                shown.state = RehearsalState::Failed;
                shown.error = Some(error);
            }
        });
    }
}

fn unknown(id: &InstallationId, number: u64) -> Problem {
    Problem::not_found(format!("installation {id} has no rehearsal {number}, or none any more"))
        .hint("A server knows the last ones, since it was started.")
}

impl Node {
    /// Begins a rehearsal, and leaves it to itself.
    pub(super) async fn begin_rehearsal(
        self: Arc<Self>,
        id: InstallationId,
        request: RehearsalRequest,
    ) -> Answer<Rehearsal> {
        let RehearsalRequest { from, change, tolerance } = request;
        if !(0.0..1.0).contains(&tolerance) {
            let detail = format!("`tolerance` must be 0 or more and less than 1, and is {tolerance}");
            return Err(Problem::malformed("bad-field", detail).at(Place::field("tolerance")));
        }
        let lane = self.lane(&id)?;
        let place = Arc::clone(&self.rehearsals.place).try_acquire_owned().map_err(|_| busy())?;
        let (new, known, warnings) = self.revision_to_try(&lane, &change).await?;
        let held = self.admin.last_use.hold(new.package);
        self.load(&known, &new.limits).await.map_err(|error| super::packages::load_problem(&error))?;
        let from = match from {
            RehearseFrom::Beginning => Timestamp(0),
            RehearseFrom::Time(time) => time,
            RehearseFrom::Back(span) => Timestamp(self.shared.clock.now().0.saturating_sub(span.0)),
        };
        let start = self.runner.starting_point(&lane, from).await.map_err(|error| not_begun(&error))?;
        let to = self.runner.last_invocation(&lane);
        let shown = Rehearsal {
            number: 0,
            installation: id,
            revision: lane.newest().number(),
            package: new.package,
            state: RehearsalState::Running,
            progress: RehearsalProgress { of: to, ..RehearsalProgress::default() },
            warnings,
            report: None,
            error: None,
        };
        let (shown, cancelled) = self.rehearsals.add(shown);
        let code = self.data.join("code").display().to_string();
        let with_lines = self.rehearsals.compiled == Compiled::WithLines;
        let rehearsed = Rehearsed { start, from, to, tolerance, new, code, with_lines };
        let number = shown.number;
        tokio::spawn(async move {
            let _held = held;
            self.run_rehearsal(number, lane, rehearsed, &cancelled, place).await;
        });
        Ok(shown)
    }

    async fn run_rehearsal(
        self: Arc<Self>,
        number: u64,
        lane: Arc<Lane>,
        rehearsed: Rehearsed,
        cancelled: &AtomicBool,
        _place: OwnedSemaphorePermit,
    ) {
        let came = tokio::select! {
            came = self.rehearsed(number, &lane, rehearsed) => came,
            why = self.unwanted(&lane, cancelled) => Err(why),
            () = tokio::time::sleep(WALL) => Err(format!("it was not done after {} hours", WALL.as_secs() / 3_600)),
        };
        self.rehearsals.end(number, came);
    }

    /// Runs the subprocess, and sends it the journal.
    async fn rehearsed(
        self: &Arc<Self>,
        number: u64,
        lane: &Arc<Lane>,
        rehearsed: Rehearsed,
    ) -> Result<RehearsalReport, String> {
        let mut child = spawn().map_err(|error| format!("its subprocess can't be started: {error}"))?;
        let pipes = (child.stdin.take(), child.stdout.take(), child.stderr.take());
        let (Some(mut stdin), Some(stdout), Some(stderr)) = pipes else {
            return Err("its subprocess has no pipes".to_owned());
        };
        let past = Past(self);
        let feeding = async {
            let fed = self.runner.rehearse(lane, rehearsed, &past, &mut stdin).await;
            // The end of what there is.
            drop(stdin);
            fed
        };
        let answering = self.last_answer(number, stdout);
        let (fed, last, words) = tokio::join!(feeding, answering, last_words(stderr));
        let status = child.wait().await.map_err(|error| format!("its subprocess is lost: {error}"))?;
        fed.map_err(|error| error.to_string())?;
        match last? {
            Some(FromWorker::Report(report)) => Ok(*report),
            Some(FromWorker::Failed(error)) => Err(error),
            Some(FromWorker::Through(_)) | None => Err(death(status, &words)),
        }
    }

    /// Notes how far the subprocess has come, until it says its last.
    async fn last_answer(&self, number: u64, stdout: ChildStdout) -> Result<Option<FromWorker>, String> {
        let mut lines = BufReader::new(stdout);
        loop {
            let mut line = String::new();
            let read = (&mut lines).take(MOST_BYTES.0).read_line(&mut line).await;
            if read.map_err(|error| format!("its answer can't be read: {error}"))? == 0 {
                return Ok(None);
            }
            match wire::parse(&line)? {
                FromWorker::Through(through) => self.rehearsals.through(number, through),
                last => return Ok(Some(last)),
            }
        }
    }

    /// Ready with the reason once nobody wants it any more.
    async fn unwanted(&self, lane: &Lane, cancelled: &AtomicBool) -> String {
        loop {
            if cancelled.load(Ordering::Acquire) {
                return "it was cancelled".to_owned();
            }
            if self.stopping.load(Ordering::Acquire) {
                return "the server stops".to_owned();
            }
            if lane.book().is_closed() {
                return "the installation was reset or uninstalled meanwhile".to_owned();
            }
            tokio::time::sleep(LOOK).await;
        }
    }
}

/// Starts the subprocess. It ends with the future that waits for it, and with the server.
fn spawn() -> std::io::Result<Child> {
    Command::new("/proc/self/exe")
        .arg(SUBCOMMAND)
        .arg(std::process::id().to_string())
        .env_clear()
        // No thread of the allocator's: it would have begun before the kernel was asked to confine this one.
        .env("_RJEM_MALLOC_CONF", "background_thread:false")
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .kill_on_drop(true)
        .spawn()
}

/// Reads what a subprocess complains of. What is beyond is read, too: it must not wait.
async fn last_words(mut stderr: ChildStderr) -> String {
    let mut words = Vec::new();
    let _ = (&mut stderr).take(MOST_BYTES.1).read_to_end(&mut words).await;
    let _ = tokio::io::copy(&mut stderr, &mut tokio::io::sink()).await;
    String::from_utf8_lossy(&words).trim().to_owned()
}

/// Tells from how a subprocess ended which limit it hit.
fn death(status: ExitStatus, words: &str) -> String {
    use std::os::unix::process::ExitStatusExt;
    if words.contains("memory allocation of") || words.contains("Cannot allocate memory") {
        return format!("it took more than {} MiB of memory", MEMORY >> 20);
    }
    match status.signal().and_then(Signal::from_named_raw) {
        Some(Signal::XCPU) => format!("it took more than {} min of CPU time", CPU / 60),
        Some(Signal::KILL) => {
            "the operating system has killed its subprocess, most likely because the machine is out of memory"
                .to_owned()
        }
        _ => format!("its subprocess ended with {status}: {words}"),
    }
}

/// 422, or 503 shortly after a start.
fn not_begun(error: &ReplayError) -> Problem {
    match error {
        ReplayError::Host(_) | ReplayError::NotLoaded => refused(error),
        _ => Problem::refused("rehearsal", error.to_string()),
    }
}

fn busy() -> Problem {
    Problem::unavailable("busy", "another rehearsal is under way; one runs at a time", RETRY_SOON)
        .hint("`ironloom rehearse ID --list` shows those of an installation.")
}
