//! The API's view of the node: one trait, and the plain types that cross it. The handlers know
//! nothing else of the core, and a fake stands in for it in their tests.
//!
//! The types of answers are in `model.rs`.

use std::future::Future;
use std::pin::Pin;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use serde::{Deserialize, Serialize};
use tokio::sync::Notify;

pub(crate) use super::model::*;
pub(crate) use super::problem::{Detail, Place, Problem};
use ironloom_types::clock::Timestamp;
use ironloom_types::ids::{
    Digest, Generation, InstallationId, Ordinal, PointNumber, PointPath, Sequence, SlotName,
};
use ironloom_types::readings::{Columns, NewPoint};

/// The result of a request.
pub(crate) type Answer<T> = Result<T, Problem>;
/// An answer that may take a while.
pub(crate) type Later<'a, T> = Pin<Box<dyn Future<Output = Answer<T>> + Send + 'a>>;
/// What is ready to be read.
pub(crate) type Reading<T> = Box<dyn FnOnce() -> Later<'static, T> + Send>;
/// Finds the number of a point by its path.
pub(crate) type Lookup<'a> = Box<dyn Fn(&str) -> Option<PointNumber> + 'a>;

/// The node, as the API sees it. Everything is of the one tenant there is.
///
/// Methods that return `Answer` answer from memory without waiting.
pub(crate) trait Facade: Send + Sync + 'static {
    /// Returns the rules that a push is checked against now.
    fn ingest_rules(&self) -> IngestRules;
    /// A look-up of points for one request; it may hold a read lock, and is dropped before anything
    /// is awaited.
    fn lookup(&self) -> Lookup<'_>;
    /// Hands readings over, whole or not at all, behind those that were handed over before. What it returns is ready
    /// once they are durable.
    fn submit(&self, push: Push) -> Answer<Later<'static, Pushed>>;
    /// Whether there is room for readings now.
    fn has_room(&self) -> Answer<()>;
    /// Gives a stream to a connection, once the one that has it has ended.
    fn open_stream(&self, key: Option<Arc<str>>) -> Later<'_, OpenStream>;
    /// Says what became of a push with this key, once that is known; `None` where it was not taken.
    fn find_push(&self, key: RequestKey) -> Later<'_, Option<Pushed>>;

    /// Reads the journal back.
    fn readings(&self, query: ReadingsQuery) -> Later<'_, Page<ReadingItem>>;
    /// The points in the order of their paths, with their latest readings.
    fn points(&self, prefix: String, page: PageQuery) -> Later<'_, Page<PointItem>>;

    /// Checks and keeps a package; `true` where it was not known before.
    fn add_package(&self, tar: Bytes) -> Later<'_, (PackageInfo, bool)>;
    /// The packages, in the order of their digests.
    fn packages(&self, page: PageQuery) -> Later<'_, Page<PackageInfo>>;
    fn package(&self, digest: Digest) -> Later<'_, PackageInfo>;
    /// Removes a package; 409 while an installation has it.
    fn delete_package(&self, digest: Digest) -> Later<'_, ()>;

    /// Installs all of them or none, or with `dry_run` only says what would match. The answer is in their order. An
    /// error says by `item` which of several it is about.
    fn install(&self, requests: Vec<InstallRequest>, dry_run: bool) -> Later<'_, Vec<Installed>>;
    /// The installations, in the order of their ids.
    fn installations(&self, page: PageQuery) -> Later<'_, Page<Installation>>;
    fn installation(&self, id: InstallationId) -> Later<'_, Installation>;
    /// Uninstalls; with `purge` its state and points go at once, and those that an earlier one of this id has kept.
    /// With `purge` on an id that was uninstalled before, only what it has kept goes.
    fn uninstall(&self, id: InstallationId, purge: bool) -> Later<'_, ()>;
    /// Pauses at once: a running invocation has no effect. Nothing happens to one that is paused.
    fn pause(&self, id: InstallationId) -> Later<'_, Installation>;
    /// Resumes one that is paused or quarantined; on one that runs, ends a back-off. A backlog is
    /// dropped only of one that stands still: else 409.
    fn resume(&self, id: InstallationId, backlog: Backlog) -> Later<'_, Resumed>;

    /// Lists the readings of the installation's outputs, by sequence.
    fn outputs(&self, id: InstallationId, query: OutputsQuery) -> Later<'_, Page<ReadingItem>>;
    /// Waits a moment for the end of an invocation under way, and gives what then reads a page of its state, in
    /// the order of the keys' bytes; until that has run, or is dropped, no invocation begins. `page.after` is a
    /// key.
    fn state(
        &self,
        id: InstallationId,
        prefix: String,
        page: PageQuery,
    ) -> Later<'_, Reading<Page<StateItem>>>;
    /// Its log, oldest first. `after` is the number of a line; `None` begins `limit` lines before the
    /// end, so that a reader sees the latest and goes on from there.
    fn logs(&self, id: InstallationId, after: Option<u64>, limit: usize) -> Later<'_, LogPage>;
    /// Its dead letters, oldest first, those with a number above `after`.
    fn dead_letters(&self, id: InstallationId, after: u64, limit: usize) -> Later<'_, Page<DeadLetter>>;
    /// Runs a dead letter again, by itself; 409 on an installation that stands still. Whether that
    /// went well shows in its invocations.
    fn requeue(&self, id: InstallationId, number: u64) -> Later<'_, ()>;
    /// Deletes a dead letter.
    fn delete_dead_letter(&self, id: InstallationId, number: u64) -> Later<'_, ()>;
    /// Its invocations, oldest first, those with an ordinal above `after`.
    fn invocations(&self, id: InstallationId, after: Ordinal, limit: usize) -> Later<'_, Page<Invocation>>;

    /// The alarms that stand, oldest first.
    fn alarms(&self, installation: Option<InstallationId>, page: PageQuery) -> Later<'_, Page<Alarm>>;
    /// Acknowledges an alarm; nothing happens to one that is acknowledged.
    fn acknowledge(&self, alarm: String) -> Later<'_, Alarm>;

    /// The site's clock.
    fn clock(&self) -> ClockStatus;
    /// Sets journal time back to the present, where it followed a clock that was wrong; with `dry_run` only says
    /// what that would do. 409 where it isn't ahead of the machine's clock, or that shows another time.
    fn set_time(&self, request: SetTime, dry_run: bool) -> Later<'_, TimeSet>;

    /// The connectors, in the order of their names.
    fn connectors(&self) -> Vec<ConnectorStatus>;
    /// Whether the node does its work, and what to know about it.
    fn readiness(&self) -> Readiness;
    /// The metrics, in the text form of Prometheus (OpenMetrics).
    fn metrics(&self) -> String;
}

/// The rules that a push is checked against.
#[derive(Clone, Copy, Debug)]
pub(crate) struct IngestRules {
    /// The time that a reading without `at` gets. `None`: the clock can't be trusted, so that such a
    /// reading gets 503.
    pub now: Option<Timestamp>,
    /// The latest `at` that is taken.
    pub latest: Timestamp,
    /// How many points may come up.
    pub new_points: usize,
}

/// Readings from one request.
#[derive(Clone, Debug, Default)]
pub(crate) struct Push {
    /// The readings; points that the look-up didn't know by a pending number.
    pub columns: Columns,
    /// The points behind the pending numbers. The committer numbers them, or finds that another
    /// request was faster.
    pub new_points: Vec<NewPoint>,
    /// The caller's `Idempotency-Key`, if there is one.
    pub key: Option<RequestKey>,
    /// The stream that they are of, if it has a key.
    pub stream: Option<StreamPlace>,
}

/// How far a stream of readings has come with a push.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct StreamPlace {
    pub key: Arc<str>,
    /// The lines through the push's last one.
    pub lines: u64,
}

/// A stream of readings that a connection has.
pub(crate) struct OpenStream {
    /// The lines that are dealt with.
    pub lines: u64,
    /// Tells that another connection wants it.
    pub wanted: Arc<Notify>,
    /// Held for as long as the connection has it.
    pub _kept: Box<dyn Send>,
}

/// An `Idempotency-Key` and what it came with, as hashes.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(crate) struct RequestKey {
    /// The first 16 bytes of SHA-256 of the key.
    pub key: [u8; 16],
    /// The first 16 bytes of SHA-256 of method, path with query and body, each after its length.
    pub request: [u8; 16],
}

/// What came of a push. The same key with another request is a [`Problem`] made by
/// [`Problem::refused`] of kind `key-reused`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Pushed {
    /// The number of readings.
    pub accepted: u64,
    /// The sequence of the last of them; of the last before, where there were none.
    pub through: Sequence,
    /// The same request was taken before, and this is the answer it got.
    pub duplicate: bool,
}

/// The part of a list to return.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct PageQuery {
    /// The `next` of the page before.
    pub after: Option<String>,
    /// The most items, 1 to 10,000.
    pub limit: usize,
}

/// Some items of a list.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub(crate) struct Page<T> {
    /// The items. Fewer than asked for, even none, doesn't mean the end.
    pub items: Vec<T>,
    /// The cursor of the next page; `None` at the end.
    pub next: Option<String>,
}

/// A page of an installation's log.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub(crate) struct LogPage {
    #[serde(flatten)]
    pub page: Page<KeptLine>,
    /// Whose lines they are: an installation that was installed anew counts its lines from 1 again.
    pub generation: Generation,
}

/// A query for readings of the journal.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct ReadingsQuery {
    /// Only of this point.
    pub point: Option<PointPath>,
    /// Only with this `at` or a later one.
    pub from: Option<Timestamp>,
    /// Only with an earlier `at`.
    pub to: Option<Timestamp>,
    /// Only after this sequence. `next` of such a page is a sequence.
    pub after: Sequence,
    /// The most readings.
    pub limit: usize,
}

/// A query for readings of an installation's outputs.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct OutputsQuery {
    /// Only of this output.
    pub output: Option<SlotName>,
    /// As in [`ReadingsQuery`]; its `point` is an output's point.
    pub readings: ReadingsQuery,
}

/// Bytes of a page's items as JSON, where it has more than one. Beyond: they are the next page's.
pub(crate) const MAX_PAGE_BYTES: usize = 4 << 20;

/// The default of `Retry-After`.
pub(crate) const RETRY_SOON: Duration = Duration::from_secs(1);
