//! The API's view of the node: one trait, and the plain types that cross it. The handlers know
//! nothing else of the core, and a fake stands in for it in their tests.
//!
//! The types of answers are in `model.rs`.

use std::future::Future;
use std::pin::Pin;
use std::str::FromStr;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use serde::{Deserialize, Serialize};
use tokio::sync::Notify;
use utoipa::ToSchema;

use super::capsule::Capsule;
pub(crate) use super::condition::{IfMatch, Tag};
pub(crate) use super::model::*;
pub(crate) use super::platform::Platform;
pub(crate) use super::problem::{Detail, Place, Problem};
pub(crate) use super::revision::{
    FieldChange, GrantChanges, LimitChanges, Revised, RevisionRequest, changes,
};
use crate::telemetry::events::Events;
use ironloom_types::clock::Timestamp;
use ironloom_types::ids::{
    Digest, Generation, InstallationId, IntentId, PointNumber, PointPath, Sequence, SlotName, TenantId,
};
pub(crate) use ironloom_types::readings::Progress;
use ironloom_types::readings::{Columns, NewPoint};

/// The result of a request.
pub(crate) type Answer<T> = Result<T, Problem>;
/// An answer that may take a while.
pub(crate) type Later<'a, T> = Pin<Box<dyn Future<Output = Answer<T>> + Send + 'a>>;
/// Ready when nobody is to be waited for any more.
pub(crate) type Ended = Pin<Box<dyn Future<Output = ()> + Send>>;
/// What is ready to be read.
pub(crate) type Reading<T> = Box<dyn FnOnce() -> Later<'static, T> + Send>;
/// Finds the number of a point by its path.
pub(crate) type Lookup<'a> = Box<dyn Fn(&str) -> Option<PointNumber> + 'a>;

/// The node, as the API sees it. Everything is of the one tenant there is.
///
/// Methods that return `Answer` answer from memory without waiting.
pub(crate) trait Facade: Platform {
    /// Returns the rules that a push is checked against now.
    fn ingest_rules(&self, tenant: TenantId) -> IngestRules;
    /// A look-up of a tenant's points for one request; it may hold a read lock, and is dropped before anything
    /// is awaited.
    fn lookup(&self, tenant: TenantId) -> Lookup<'_>;
    /// Hands readings over, whole or not at all, behind those that were handed over before. What it returns is ready
    /// once they are durable. Whoever does so has asked for room.
    fn submit(&self, push: Push) -> Answer<Later<'static, Pushed>>;
    /// Waits until all installations that are bound to these readings have dealt with them, for no longer than this, and
    /// not once `ended` is ready.
    fn applied(&self, tenant: TenantId, pushed: Pushed, within: Duration, ended: Ended)
    -> Later<'_, Applied>;
    /// Looks if there is room now for readings that make these points.
    fn has_room(&self, new_points: &[NewPoint]) -> Answer<()>;
    /// The readings whose sources are slowed, while there are any.
    fn slowed(&self, tenant: TenantId) -> Option<Slowed>;
    /// Claims a stream for a connection; the one that has it is told.
    fn claim_stream(&self, key: Option<Arc<str>>) -> Answer<StreamClaim>;
    /// Says what became of a push with this key, once that is known; `None` where it was not taken.
    fn find_push(&self, key: RequestKey) -> Later<'_, Option<Pushed>>;

    /// Reads the journal back.
    fn readings(&self, tenant: TenantId, query: ReadingsQuery) -> Later<'_, Page<ReadingItem>>;
    /// The points in the order of their paths, with their latest readings.
    fn points(&self, tenant: TenantId, prefix: String, page: PageQuery) -> Later<'_, Page<PointItem>>;

    /// One point with all that is known of it.
    fn point(&self, path: PointPath) -> Later<'_, PointDetail>;
    /// Takes over what somebody says of a point.
    fn set_point(&self, path: PointPath, request: PointRequest) -> Later<'_, PointDetail>;
    /// Gives a point another path; 409 where there is a point of that path, or as with [`Self::retire_points`].
    fn rename_point(&self, path: PointPath, request: RenamePoint) -> Later<'_, RenamedPoint>;
    /// Retires points; 409 where somebody has yet to deal with their readings, or more of them keep coming.
    fn retire_points(&self, which: RetirePoints) -> Later<'_, RetiredPoints>;

    /// Checks and keeps a package; `true` where it was not known before.
    fn add_package(&self, tenant: TenantId, tar: Bytes) -> Later<'_, (PackageInfo, bool)>;
    /// The packages, in the order of their digests.
    fn packages(&self, tenant: TenantId, page: PageQuery) -> Later<'_, Page<PackageInfo>>;
    fn package(&self, tenant: TenantId, digest: Digest) -> Later<'_, PackageInfo>;
    /// Removes a package; 409 while an installation has it.
    fn delete_package(&self, tenant: TenantId, digest: Digest) -> Later<'_, ()>;

    /// Installs all of them or none, or with `dry_run` only says what would match. The answer is in their order. An
    /// error says by `item` which of several it is about.
    fn install(
        &self,
        tenant: TenantId,
        requests: Vec<InstallRequest>,
        dry_run: bool,
    ) -> Later<'_, Vec<Installed>>;
    /// A tenant's installations, in the order of their ids.
    fn installations(&self, tenant: TenantId, page: PageQuery) -> Later<'_, Page<Installation>>;
    fn installation(&self, id: InstallationId) -> Later<'_, Installation>;
    /// Rights that it has and never used.
    fn never_used(&self, id: InstallationId) -> Later<'_, NeverUsed>;
    /// The states that are kept of installations that are gone, in the order of their generations.
    fn kept(&self, tenant: TenantId, page: PageQuery) -> Later<'_, Page<KeptState>>;
    /// Uninstalls; with `purge` its state and points go at once, and those that an earlier one of this id has kept.
    /// With `purge` on an id that was uninstalled before, only what it has kept goes.
    fn uninstall(&self, id: InstallationId, purge: bool) -> Later<'_, ()>;
    /// Begins a new revision, with what the request names changed; or with `dry_run` only says what would change. A
    /// running invocation has no effect, and runs again.
    fn revise(
        &self,
        id: InstallationId,
        request: RevisionRequest,
        if_match: Option<IfMatch>,
        dry_run: bool,
    ) -> Later<'_, Revised>;
    /// The upgrades that wait for consent, in the order of their installations.
    fn consents(&self, tenant: TenantId, page: PageQuery) -> Later<'_, Page<PendingConsent>>;
    fn consent(&self, id: InstallationId) -> Later<'_, PendingConsent>;
    /// Consents to one, by the digest of what was shown, and begins its revision.
    fn accept_consent(&self, id: InstallationId, given: ConsentGiven) -> Later<'_, Revised>;
    /// Refuses one: the installation stays as it is.
    fn refuse_consent(&self, id: InstallationId) -> Later<'_, ()>;
    /// Pauses at once: a running invocation has no effect. Nothing happens to one that is paused.
    fn pause(&self, id: InstallationId) -> Later<'_, Installation>;
    /// Resumes one that is paused or quarantined; on one that runs, ends a back-off. A backlog is
    /// dropped only of one that stands still: else 409.
    fn resume(&self, id: InstallationId, backlog: Backlog) -> Later<'_, Resumed>;

    /// Starts an installation over: its state is empty, and it takes readings from there on; or with `dry_run` only says
    /// which. What it makes of readings that it has dealt with before is not published again.
    fn reset(&self, id: InstallationId, from: StartFrom, dry_run: bool) -> Later<'_, Reset>;

    /// The copies of its state.
    fn copies(&self, id: InstallationId) -> Answer<Copies>;
    /// Ends the time in which its upgrade may be rolled back; 409 where there is none.
    fn commit(&self, id: InstallationId) -> Later<'_, Installation>;
    /// Goes back to the version and the state from before an upgrade, or with `dry_run` only says what that would be; 409
    /// where there is none. Readings since then are taken again, with effects held back, unless the cursor is kept.
    fn roll_back(
        &self,
        id: InstallationId,
        request: RollbackRequest,
        keep_cursor: bool,
        dry_run: bool,
    ) -> Later<'_, RolledBack>;

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
    /// Its timers that are due next, by their names.
    fn timers(&self, id: InstallationId, page: PageQuery) -> Later<'_, Page<Timer>>;
    /// One entry of its state, read likewise; 404 where there is none.
    fn state_entry(&self, id: InstallationId, key: String) -> Later<'_, StateItem>;
    /// Sets a key of its state, or deletes it, by what people know better than the app; 409 unless it is paused or
    /// quarantined.
    fn change_state(&self, id: InstallationId, key: String, value: Option<Bytes>) -> Later<'_, ()>;
    /// Its log by the numbers of the lines. Oldest first it begins, without a place, `limit` lines before the end, so
    /// that a reader sees the latest and goes on from there.
    fn logs(&self, id: InstallationId, query: NumberedQuery) -> Later<'_, LogPage>;
    /// Its dead letters, by their numbers.
    fn dead_letters(&self, id: InstallationId, query: NumberedQuery) -> Later<'_, Page<DeadLetter>>;
    /// Runs a dead letter again, by itself; 409 on an installation that stands still. Whether that
    /// went well shows in its invocations.
    fn requeue(&self, id: InstallationId, number: u64) -> Later<'_, ()>;
    /// Deletes a dead letter.
    fn delete_dead_letter(&self, id: InstallationId, number: u64) -> Later<'_, ()>;
    /// Its invocations, by their ordinals.
    fn invocations(&self, id: InstallationId, query: NumberedQuery) -> Later<'_, Page<Invocation>>;

    /// Runs its recorded invocations again, on state of their own, and compares what comes of them; 503 while another
    /// replay is under way. Nothing of it is written. It ends where nobody waits for the answer.
    fn replay(&self, id: InstallationId, request: ReplayRequest) -> Later<'_, Replay>;

    /// Begins a rehearsal of a change, in a subprocess; 503 while another one is under way. Nothing of it is written.
    fn rehearse(&self, id: InstallationId, request: RehearsalRequest) -> Later<'_, Rehearsal>;
    /// The rehearsals of an installation that this server knows, the newest first.
    fn rehearsals(&self, id: &InstallationId) -> Answer<Vec<Rehearsal>>;
    fn rehearsal(&self, id: &InstallationId, number: u64) -> Answer<Rehearsal>;
    /// Ends a rehearsal that is under way, and forgets it.
    fn cancel_rehearsal(&self, id: &InstallationId, number: u64) -> Answer<()>;

    /// Its last invocations, with all that they depend on but the package; all before them run again for that. 503 while a
    /// replay is under way.
    fn capsule(&self, id: InstallationId, last: u64) -> Later<'_, Capsule>;
    /// A package's file, as it was sent.
    fn package_file(&self, tenant: TenantId, digest: Digest) -> Later<'_, Bytes>;

    /// The alarms that are active, wait for somebody or are shelved, oldest first.
    fn alarms(
        &self,
        tenant: TenantId,
        installation: Option<InstallationId>,
        page: PageQuery,
    ) -> Later<'_, Page<Alarm>>;
    /// Episodes of alarms, those that go on and those that are over.
    fn alarm_history(&self, tenant: TenantId, query: EpisodesQuery) -> Later<'_, Page<Alarm>>;
    /// Acknowledges, shelves or unshelves an alarm, or adds a comment; nothing happens where it is so already.
    fn change_alarm(&self, tenant: TenantId, alarm: String, deed: AlarmDeed) -> Later<'_, Alarm>;

    /// The points that an installation's set-points go to, in the order of their paths.
    fn intents(&self, id: InstallationId, page: PageQuery) -> Later<'_, Page<DrivenPoint>>;
    /// Confirms or dismisses an intent that waits for it; 404 where none of this id does.
    fn change_intent(&self, id: InstallationId, intent: IntentId, deed: IntentDeed) -> Later<'_, ()>;
    /// The kill switch.
    fn halted(&self, tenant: TenantId) -> Halt;
    /// Turns the kill switch on. Nothing is sent any more when this returns its future.
    fn halt(&self, tenant: TenantId, request: HaltRequest) -> Later<'_, Halt>;
    /// Turns the kill switch off.
    fn release(&self, tenant: TenantId, request: HaltRequest) -> Later<'_, Halt>;

    /// Events of the site.
    fn events(&self) -> Arc<Events>;
    /// 404 where there is no installation of this id, nor anything that is kept of one, nor an event.
    fn has_events_of(&self, id: &InstallationId) -> Answer<()>;
    /// 412 where this names other revisions of the installation than the newest.
    fn check_match(&self, id: &InstallationId, if_match: &IfMatch) -> Answer<()>;
}

/// A backup as it is written.
pub(crate) struct BackupStream {
    /// Its bytes; an error behind them where the server couldn't go on, so that nobody takes it for whole.
    pub chunks: tokio::sync::mpsc::Receiver<std::io::Result<Bytes>>,
}

/// The rules that a push is checked against.
#[derive(Clone, Copy, Debug)]
pub(crate) struct IngestRules {
    /// Whose points the readings are of.
    pub tenant: TenantId,
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
    /// Whose they are.
    pub tenant: TenantId,
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

/// The place of a stream of readings behind a push.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct StreamPlace {
    pub key: Arc<str>,
    /// Through the push's last line; `None` where its key won't come again.
    pub progress: Option<Progress>,
}

/// Readings whose sources are slowed.
pub(crate) struct Slowed {
    /// For whom they are.
    pub problem: Problem,
    /// The patterns that each new point is matched with.
    pub inputs: usize,
    /// Finds one of them, and looks at the one at a place first: it is where one was found before.
    pub find: FindSlowed,
}

/// The place of a reading among these columns whose source is slowed; the new points are those that the columns have.
pub(crate) type FindSlowed = Arc<dyn Fn(&Columns, &[NewPoint], usize) -> Option<usize> + Send + Sync>;

/// A stream of readings that a connection wants.
pub(crate) struct StreamClaim {
    /// Tells that yet another connection wants it, now or later.
    pub wanted: Arc<Notify>,
    /// Ready once the connection that had it before has let go.
    pub opened: Later<'static, OpenStream>,
}

/// A stream of readings that a connection has.
pub(crate) struct OpenStream {
    /// Its key, where it has one, for the places of its records.
    pub key: Option<Arc<str>>,
    /// The lines and readings that are dealt with.
    pub progress: Progress,
    /// Held for as long as the connection has it.
    pub _kept: Box<dyn Send>,
}

/// An `Idempotency-Key` and what it came with, as hashes.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(crate) struct RequestKey {
    /// The first 16 bytes of SHA-256 of the key, with whose it is.
    pub key: [u8; 16],
    /// The first 16 bytes of SHA-256 of a byte, 1 where the good lines are taken although others are bad, and the body.
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

impl Pushed {
    /// The sequence of the first of them; behind `through` where there were none.
    pub(crate) fn first(&self) -> Sequence {
        Sequence((self.through.0 + 1).saturating_sub(self.accepted))
    }
}

/// How far the installations that are bound to a push are.
#[derive(Clone, Debug, Default, PartialEq)]
pub(crate) struct Applied {
    /// All that are bound to it have dealt with it: its effects are durable, or it was set aside.
    pub applied: bool,
    /// The first of those that run and have not.
    pub pending: Vec<InstallationId>,
    /// The first of those that stand still before it, or were removed.
    pub stopped: Vec<StoppedInstallation>,
    /// The first of those that have set some of its readings aside, or may have.
    pub set_aside: Vec<SetAside>,
    /// The first of those that were moved over some of its readings, or may have been: they never deal with them.
    pub lost: Vec<InstallationId>,
}

impl Applied {
    /// Some have yet to deal with it, or nobody knows yet who has to.
    pub(super) fn is_late(&self) -> bool {
        !self.pending.is_empty() || !self.applied && self.stopped.is_empty() && self.lost.is_empty()
    }
}

/// Readings of a push that became dead letters of an installation, and are still there.
#[derive(Clone, Debug, PartialEq, Serialize, ToSchema)]
pub(crate) struct SetAside {
    pub id: InstallationId,
    pub readings: u64,
    /// There may be more: not all dead letters were looked at.
    #[serde(skip_serializing_if = "std::ops::Not::not")]
    pub at_least: bool,
}

/// An installation that nobody waits for.
#[derive(Clone, Debug, PartialEq, Serialize, ToSchema)]
pub(crate) struct StoppedInstallation {
    pub id: InstallationId,
    /// What it is instead of running.
    pub state: StoppedState,
}

/// Why nobody waits for an installation.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, ToSchema)]
#[serde(untagged)]
pub(crate) enum StoppedState {
    Is(InstallationState),
    Gone(Gone),
}

/// It isn't there any more.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, ToSchema)]
#[serde(rename_all = "lowercase")]
pub(crate) enum Gone {
    /// It was uninstalled.
    Removed,
    /// It was reset, or one was installed anew under its id.
    Replaced,
}

/// The end at which a list begins.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) enum Order {
    #[default]
    Oldest,
    Newest,
}

impl FromStr for Order {
    type Err = &'static str;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        match text {
            "oldest" => Ok(Self::Oldest),
            "newest" => Ok(Self::Newest),
            _ => Err("it is oldest or newest: what comes first"),
        }
    }
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
    /// Only what comes after this sequence in the order of the list; 0 is none. `next` of such a page is a sequence.
    pub after: Sequence,
    pub order: Order,
    /// The most readings.
    pub limit: usize,
}

/// The apps that somebody looks for.
#[derive(Clone, Debug)]
pub(crate) struct OfferQuery {
    pub words: String,
    pub category: Option<String>,
    pub catalog: Option<String>,
    pub page: PageQuery,
}

/// A query for things that have numbers.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct NumberedQuery {
    /// Only what comes after this number in the order of the list.
    pub after: Option<u64>,
    pub order: Order,
    /// The most of them.
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

/// The kind of problem while sources are slowed for an app.
pub(crate) const APPS_BEHIND: &str = "apps-behind";

/// The default of `Retry-After`.
pub(crate) const RETRY_SOON: Duration = Duration::from_secs(1);
