//! The API's requests and answers, as plain types that serialize to its JSON.

mod alarms;
mod audit;
mod catalogs;
mod connectors;
mod consent;
mod copies;
mod intents;
mod kept;
mod points;
mod rehearsals;
mod tenants;
mod tokens;
mod usage;

use std::collections::BTreeMap;
use std::sync::Arc;

use bytes::Bytes;
use serde::{Deserialize, Serialize};
use utoipa::ToSchema;
// What an admin consents to stands there once: of a key that comes twice the last would win in silence.
use serde_with::rust::maps_duplicate_key_is_error as once;

pub(crate) use self::alarms::*;
pub(crate) use self::audit::*;
pub(crate) use self::catalogs::{
    CatalogIndex, CatalogInfo, CatalogRequest, CatalogSeen, CatalogTrust, FetchRequest, Offer,
    OfferedVersion, RefreshRequest,
};
pub(crate) use self::connectors::*;
pub(crate) use self::consent::*;
pub(crate) use self::copies::*;
pub(crate) use self::intents::*;
pub(crate) use self::kept::*;
pub(crate) use self::points::*;
pub(crate) use self::rehearsals::*;
pub(crate) use self::tenants::*;
pub(crate) use self::tokens::*;
pub(crate) use self::usage::*;
use super::value::JsonValue;
pub(crate) use crate::telemetry::{ChosenBy, LogLines};
pub(crate) use ironloom_apps::allowance::PartialLimits;
pub(crate) use ironloom_apps::binding::Patterns;
pub(crate) use ironloom_apps::grants::Grants;
use ironloom_trust::key::PublicKey;
use ironloom_types::clock::{Source, Timestamp};
use ironloom_types::ids::{AppId, Digest, Generation, InstallationId, Ordinal, Revision, Sequence, SlotName};
use ironloom_types::readings::Quality;
pub(crate) use ironloom_types::work::{Counters, KeptLine, LastError, TimerError};

/// A reading of the journal.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, ToSchema)]
pub(crate) struct ReadingItem {
    pub point: Arc<str>,
    /// Its entity, if it is shown as an input's or output's reading.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub entity: Option<String>,
    pub value: JsonValue,
    /// The time at its source.
    pub at: Timestamp,
    pub quality: Quality,
    /// Its place in the journal.
    pub sequence: Sequence,
    /// Its journal time.
    pub time: Timestamp,
}

/// A point and its latest reading.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, ToSchema)]
pub(crate) struct PointItem {
    pub point: Arc<str>,
    /// The latest value.
    pub value: JsonValue,
    /// The time at its source.
    pub at: Timestamp,
    pub quality: Quality,
    /// The point's unit, where one is known.
    pub unit: Option<Arc<str>>,
    /// The latest reading's place in the journal.
    pub sequence: Sequence,
}

/// A package, as its manifest describes it.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, ToSchema)]
pub(crate) struct PackageInfo {
    /// Its identity: the digest of the image manifest.
    pub digest: Digest,
    pub id: AppId,
    /// The app's name for people.
    pub name: String,
    /// The app's version.
    pub version: String,
    pub publisher: String,
    /// A description in a sentence.
    pub description: String,
    /// Its licence, as an SPDX expression.
    pub license: String,
    /// The public keys that have signed it, `ed25519:…`; none of an unsigned one.
    #[serde(default)]
    #[schema(value_type = Vec<String>)]
    pub signers: Vec<PublicKey>,
    /// The inputs by name.
    pub inputs: BTreeMap<String, SlotInfo>,
    /// The outputs by name.
    pub outputs: BTreeMap<String, SlotInfo>,
    /// The settings by name.
    pub settings: BTreeMap<String, SettingInfo>,
    /// The alarms that it may raise, by name.
    pub alarms: BTreeMap<String, AlarmInfo>,
    /// The timers that are due again and again, by name.
    pub timers: BTreeMap<String, TimerInfo>,
    /// Whether it sets one-shot timers.
    pub schedule: bool,
    /// The limits that it asks for, as people write them; beyond the defaults they need a grant.
    pub limits: BTreeMap<String, String>,
    /// The imports of the component.
    pub imports: Vec<String>,
    /// The version of the SDK that it was built with.
    pub sdk: Option<String>,
}

/// An alarm of an app.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub(crate) struct AlarmInfo {
    /// `low`, `medium`, `high` or `critical`.
    pub severity: String,
    /// What it is.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub description: Option<String>,
}

/// A timer of an app.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub(crate) struct TimerInfo {
    /// When it is due, in the time zone of the installation.
    pub cron: String,
    /// What it is.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub description: Option<String>,
}

/// An input or output of an app.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub(crate) struct SlotInfo {
    /// `derived` or `set-point` of an output.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub kind: Option<String>,
    /// The type of its values.
    pub r#type: String,
    /// The unit of its values.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub unit: Option<String>,
    /// Whether an input may stay unbound.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub optional: Option<bool>,
    /// What it is.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub description: Option<String>,
}

/// A setting of an app.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, ToSchema)]
pub(crate) struct SettingInfo {
    /// The type of its value.
    pub r#type: String,
    /// Its value where none is set; without one it is required.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub default: Option<serde_json::Value>,
    /// What it is.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub description: Option<String>,
}

/// Installations of one list. Beyond: refused.
pub(crate) const MAX_INSTALLS: usize = 1_000;

/// A request to install, as in the body of `POST /v1/installations` and in a file for `--with`.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub(crate) struct InstallRequest {
    /// The installation's id.
    pub id: InstallationId,
    pub package: Digest,
    /// The key that its app's id is to belong to: needed where several have signed the package of a new app.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schema(value_type = Option<String>)]
    pub publisher: Option<PublicKey>,
    /// The patterns of each input, and the one of each output that has one.
    #[serde(default, deserialize_with = "once::deserialize")]
    pub bindings: BTreeMap<SlotName, Patterns>,
    /// The admin's grants.
    #[serde(default)]
    pub grants: Grants,
    /// The settings that differ from the manifest's defaults.
    #[serde(default, deserialize_with = "once::deserialize")]
    pub settings: BTreeMap<SlotName, serde_json::Value>,
    /// The limits that differ from the manifest's.
    #[serde(default)]
    pub limits: PartialLimits,
    /// The time zone of its timers, by its IANA name; without one the site's.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub timezone: Option<String>,
    /// Whether the sources are slowed where it falls behind by more than `ingest.max_lag`.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub keep_up: bool,
    /// The place in the journal where it begins; without one `now`. One that adopts a state goes on behind the last
    /// reading that went into that.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schema(value_type = Option<String>, example = "beginning")]
    pub from: Option<StartFrom>,
    /// The state that it goes on with, of those that are kept of installations with this id: `newest`, or the number
    /// of a generation.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schema(value_type = Option<String>, example = "newest")]
    pub adopt: Option<Adopt>,
    /// A key that the id of its app goes over to, from the publisher that it belongs to: needs `consent`, and nothing of what
    /// there was is taken over.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schema(value_type = Option<String>)]
    pub new_publisher: Option<PublicKey>,
    /// The digest of the consent that a dry run has shown: 409 where the install would give anything else by now.
    /// Without it, the request itself is the consent.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub consent: Option<Digest>,
}

/// The place in the journal where an installation begins.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) enum StartFrom {
    /// After what is there: `now`.
    #[default]
    Now,
    /// The first reading that is kept: `beginning`.
    Beginning,
    /// The first reading of this journal time or later.
    Time(Timestamp),
}

/// What to do with the readings that came in the meantime.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "lowercase")]
pub(crate) enum Backlog {
    /// They are worked off.
    #[default]
    Keep,
    /// They are passed over.
    Drop,
}

/// The result of an install, or of a dry run.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, ToSchema)]
pub(crate) struct Installed {
    /// The installation as it is, or would be.
    #[serde(flatten)]
    pub installation: Installation,
    /// The number of readings in the journal that it begins with.
    pub backlog: u64,
    /// Counting them took too long: there may be more.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub backlog_at_least: bool,
    /// The points that its inputs match now.
    pub matches: Vec<Match>,
    /// Warnings for the admin, such as an assumed unit.
    pub warnings: Vec<String>,
    /// Of a dry run: what it would get, to be consented to.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub consent: Option<Consent>,
}

/// The results of a list of installs, in its order.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, ToSchema)]
pub(crate) struct AllInstalled {
    pub items: Vec<Installed>,
}

/// The result of a resume.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, ToSchema)]
pub(crate) struct Resumed {
    /// The installation as it is now.
    #[serde(flatten)]
    pub installation: Installation,
    /// It was neither paused nor quarantined.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub was_running: bool,
    /// The number of readings that it will never see.
    pub dropped: u64,
    /// Counting them took too long: there were more.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub dropped_at_least: bool,
}

/// The result of a reset, or of a dry run.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, ToSchema)]
pub(crate) struct Reset {
    /// The installation as it is now.
    #[serde(flatten)]
    pub installation: Installation,
    /// The readings of the journal that it begins with.
    pub backlog: u64,
    /// Counting them took too long: there are more.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub backlog_at_least: bool,
    /// Warnings for the admin.
    pub warnings: Vec<String>,
}

/// The points that an input matches.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, ToSchema)]
pub(crate) struct Match {
    pub input: String,
    /// The number of points.
    pub points: u64,
    /// Some of them with their latest readings, at most 10; 10,000 of a whole list. Long texts and blobs are cut to 256
    /// characters or bytes.
    pub samples: Vec<PointItem>,
}

/// The state of an installation.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "lowercase")]
pub(crate) enum InstallationState {
    /// Its code is being compiled or its lane made.
    Starting,
    /// Enabled, idle or busy.
    Running,
    /// In back-off, and `last_error` or `last_timer_error` says why; or for what `waits_for` says.
    Waiting,
    /// Paused by an admin.
    Paused,
    /// Stopped after too many failures.
    Quarantined,
    /// Another version of its app brings the state into its form.
    Upgrading,
}

impl InstallationState {
    /// As the API's JSON has it.
    pub(crate) fn name(self) -> &'static str {
        match self {
            Self::Starting => "starting",
            Self::Running => "running",
            Self::Waiting => "waiting",
            Self::Paused => "paused",
            Self::Quarantined => "quarantined",
            Self::Upgrading => "upgrading",
        }
    }
}

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, ToSchema)]
pub(crate) struct Installation {
    pub id: InstallationId,
    pub app: AppId,
    /// The app's version.
    pub version: String,
    pub package: Digest,
    /// The keys that have signed the package; none where nobody vouches for it.
    #[serde(default)]
    #[schema(value_type = Vec<String>)]
    pub signers: Vec<PublicKey>,
    /// The reason why a catalog or the host's policy is against the package: such as a version that is blocked, or keys that
    /// are revoked.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub against: Option<String>,
    /// A version that asks for more than it has: it waits for consent.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub waits_for_consent: Option<String>,
    /// Of one that is shown alone: rights that it doesn't have, each with who hasn't given it.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub refused: Vec<RefusedRight>,
    pub state: InstallationState,
    /// An admin has paused it: one that is quarantined as well stays paused when that has ended.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub paused: bool,
    /// The kill switch is on for it or for the site, and it has set-points: none is sent.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub halted: bool,
    /// The newest of its revisions.
    pub revision: Revision,
    /// Those before it that readings of their own time wait for, the oldest first.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub pending_revisions: Vec<PendingRevision>,
    pub generation: Generation,
    /// The sequence through which it has taken readings.
    pub cursor: Sequence,
    /// Set after an upgrade, for as long as it may be rolled back.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub trial: Option<Trial>,
    /// Set after a rollback, until it has another revision.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub went_back: Option<WentBack>,
    /// After a reset or a rollback: the sequence through which it has published already, and now holds back what it derives.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub holds_back_through: Option<Sequence>,
    pub lag: Lag,
    /// The room that it waits for, and why there is none for it.
    #[serde(default)]
    pub waits_for: Option<String>,
    /// The latest failure at readings, or the reason why the installation doesn't run; `None` once it has taken
    /// readings after it.
    pub last_error: Option<LastError>,
    /// The latest failure of a timer's run; `None` once a later run of the same timer has ended well.
    #[serde(default)]
    pub last_timer_error: Option<TimerError>,
    /// Its counters so far.
    pub counters: Counters,
    /// Dead letters that are kept: neither run again with success, deleted nor dropped.
    #[serde(default)]
    pub dead_letters_kept: u64,
    /// Bytes that its state takes of `limits.state`.
    #[serde(default)]
    pub state_bytes: u64,
    /// Points that its outputs have made.
    #[serde(default)]
    pub points: u64,
    /// Readings, CPU time and bytes in each second.
    #[serde(default)]
    pub rate: Rate,
    /// Points that its inputs match and that it doesn't get.
    #[serde(default)]
    pub left_out: LeftOut,
    /// The patterns of its inputs and outputs.
    pub bindings: BTreeMap<SlotName, Patterns>,
    /// The admin's grants.
    pub grants: Grants,
    /// Its settings, defaults included.
    pub settings: BTreeMap<SlotName, serde_json::Value>,
    pub limits: PartialLimits,
    /// The time zone of its timers.
    pub timezone: String,
    /// Whether the sources are slowed where it falls behind.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub keep_up: bool,
}

/// A revision that readings wait for.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub(crate) struct PendingRevision {
    pub revision: Revision,
    /// The first sequence that runs under it.
    pub from: Sequence,
    /// The version of the app that it runs with, where that isn't the newest revision's package.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub version: Option<String>,
}

/// Points that match an input of an installation and are left out all the same.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub(crate) struct LeftOut {
    pub points: u64,
    /// The first of them, at most 10.
    pub samples: Vec<LeftOutPoint>,
}

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub(crate) struct LeftOutPoint {
    pub point: String,
    /// The input that it matches.
    pub input: String,
    /// Why it is left out, for people.
    pub reason: String,
}

/// The lag of an installation.
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize, Deserialize, ToSchema)]
pub(crate) struct Lag {
    /// Readings that wait for it.
    pub readings: u64,
    /// They may be fewer: readings of points that it isn't bound to are among them.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub at_most: bool,
    /// The waiting time of the oldest of them, by journal time.
    pub seconds: f64,
    /// The journal time of the oldest of them.
    pub oldest: Option<Timestamp>,
    /// When that one is past the journal's `max_age`, by journal time; the app won't see it then.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub expires: Option<Timestamp>,
}

/// An entry of an installation's state.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct StateItem {
    pub key: Box<str>,
    /// Its value. The API shows it as base64, and as JSON besides where it is some.
    pub value: Bytes,
}

/// A timer of an installation.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub(crate) struct Timer {
    pub name: String,
    /// When it fires next, by journal time.
    pub due: Timestamp,
    /// The time that the app asked for, of a one-shot timer: earlier than `due` where it had passed by then.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub asked: Option<Timestamp>,
    /// Whether it is the manifest's, and fires again and again.
    pub repeats: bool,
}

/// A reading that was set aside.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, ToSchema)]
pub(crate) struct DeadLetter {
    /// Counts the dead letters of the installation, from 1.
    pub number: u64,
    pub reading: ReadingItem,
    /// The reason that the app or the runtime gave.
    pub reason: String,
    /// The invocation that failed on it.
    pub ordinal: Ordinal,
    /// The revision under which that was.
    pub revision: Revision,
}

/// The record of an invocation.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, ToSchema)]
pub(crate) struct Invocation {
    /// Counts the invocations of the generation that took effect, from 1. One that took none leaves its
    /// ordinal to the next attempt.
    pub ordinal: Ordinal,
    /// Counts the attempts at this ordinal, from 1.
    pub attempt: u32,
    /// `readings`, `requeue`, `timer` or `skip`.
    pub kind: String,
    /// The timer that was due.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub timer: Option<String>,
    /// The dead letter that ran again.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub dead_letter: Option<u64>,
    /// The first sequence that it covers, where it took readings.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub first: Option<Sequence>,
    /// The last sequence that it covers, where it took readings.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub last: Option<Sequence>,
    pub time: Timestamp,
    pub revision: Revision,
    /// `ok`, `reject`, `retry`, `trap` or the limit that was hit.
    pub outcome: String,
    /// The message of the app or the runtime, if it failed.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub message: Option<String>,
    /// The digest of its effects, where it had any.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub digest: Option<Digest>,
}

/// Asks for the recorded invocations of an installation to run again.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub(crate) struct ReplayRequest {
    /// The first invocation that is compared. All before it run, too.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub from: Option<Ordinal>,
    /// The last one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub to: Option<Ordinal>,
}

/// The result of a replay.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, ToSchema)]
pub(crate) struct Replay {
    /// All that were compared did the same again.
    pub same: bool,
    /// Invocations that ran again, each attempt counted.
    pub invocations: u64,
    /// The readings that they took.
    pub readings: u64,
    /// Those that were compared.
    pub compared: u64,
    /// Attempts that the machine's speed or the log ended, which took no effect: they aren't run again.
    pub left_out: u64,
    /// The last ordinal that was looked at.
    pub through: Ordinal,
    /// Before this one a person changed the state: it and what followed can't run again.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub repaired: Option<Ordinal>,
    /// The first one that differs; the replay ends there.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub difference: Option<ReplayDifference>,
}

/// An invocation that did something else this time.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, ToSchema)]
pub(crate) struct ReplayDifference {
    /// The invocation's own record.
    pub recorded: Invocation,
    /// Its outcome this time.
    pub outcome: String,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub message: Option<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub digest: Option<Digest>,
    /// Its effects this time, in numbers.
    pub effects: EffectCounts,
}

/// Numbers of effects.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub(crate) struct EffectCounts {
    /// Keys of the state that were set or deleted.
    pub state: usize,
    pub derived: usize,
    /// One-shot timers that were set or cancelled.
    pub timers: usize,
    /// Alarms that were raised or cleared.
    pub alarms: usize,
    /// Readings that were refused.
    pub refused: usize,
}

/// The site's clock.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub(crate) struct ClockStatus {
    /// Where journal time comes from: `host` or `feed`.
    pub source: Source,
    /// What the machine's clock shows.
    pub machine: Timestamp,
    /// The last journal time.
    pub journal: Timestamp,
    /// By how many seconds the machine's clock stands before journal time, where these are more than 5 minutes:
    /// journal time stands still meanwhile.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub behind: Option<u64>,
}

/// Asks for journal time to go back to the present.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub(crate) struct SetTime {
    /// The present, as whoever asks knows it: within 5 minutes of the machine's clock.
    pub now: Timestamp,
}

/// What setting journal time back did, or would do.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub(crate) struct TimeSet {
    /// The last journal time of before.
    pub from: Timestamp,
    pub to: Timestamp,
    /// Installations with timers that were due later.
    pub installations: usize,
    /// How many timers these are.
    pub timers: usize,
}

/// The answer of a process that lives.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, ToSchema)]
pub(crate) struct Health {
    pub alive: bool,
    /// The version of the server.
    pub version: String,
}

/// Whether the node is ready.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub(crate) struct Readiness {
    /// Whether it is ready.
    pub ready: bool,
    /// Left out for those who may not read, as the notes are.
    #[serde(default)]
    pub reasons: Vec<String>,
    /// Notes about unusual settings, such as the feed's clock or an insecure address.
    #[serde(default)]
    pub notes: Vec<String>,
}

/// The server's own log lines.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub(crate) struct LogLevel {
    /// A level, and levels of parts.
    pub level: LogLines,
    /// Who has chosen it.
    pub by: ChosenBy,
}

/// Asks for other log lines.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub(crate) struct SetLogLevel {
    pub level: LogLines,
}

/// The changes that were taken from a configuration, or would be.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub(crate) struct Reloaded {
    /// The file; `None` where the server was started without one.
    pub file: Option<String>,
    /// In the order of the file.
    pub changes: Vec<ConfigChange>,
    /// Words about what a change doesn't do.
    pub notes: Vec<String>,
}

/// A key of the configuration that has another value.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub(crate) struct ConfigChange {
    /// The key with its section, such as `store.reserve`.
    pub key: String,
    /// The value in words; `None` where there was none.
    pub from: Option<String>,
    /// `None` where there is none any more.
    pub to: Option<String>,
}

/// The server as a whole.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, ToSchema)]
pub(crate) struct Status {
    /// As `/readyz` says it.
    #[serde(flatten)]
    pub readiness: Readiness,
    /// The version of the server.
    pub version: String,
    /// The data folder.
    pub data: String,
    /// The engine of the store.
    pub engine: String,
    /// When the server started, by the machine's clock.
    pub started: Timestamp,
    /// Seconds since then.
    pub uptime: u64,
    /// Points that exist.
    pub points: u64,
    /// The number of installations in each state that some are in.
    pub installations: BTreeMap<InstallationState, u64>,
    /// The number of connectors in each state that some are in.
    pub connectors: BTreeMap<String, u64>,
    /// The end of the server's certificate, or the earliest one in its chain; none where it speaks no TLS.
    #[serde(default)]
    pub certificate_until: Option<Timestamp>,
    pub disk: DiskUse,
}

/// The bytes that the data folder takes on its disk, and for how long there is room.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, ToSchema)]
pub(crate) struct DiskUse {
    pub log: u64,
    pub journal: u64,
    pub store: u64,
    pub packages: u64,
    pub code: u64,
    pub app_logs: u64,
    /// All of it.
    pub total: u64,
    /// Free on the disk.
    pub free: Option<u64>,
    /// `store.reserve`: with less than this, nothing new is taken.
    pub reserve: u64,
    /// Growth in a day of all but log and code; `None` where it hasn't been watched for an hour yet.
    pub growth_per_day: Option<u64>,
    /// Seconds over which that was measured: a day at most.
    pub measured_over: u64,
    /// Days until only the reserve is free; `None` where that isn't known, or nothing grows.
    pub full_in_days: Option<f64>,
}

impl std::fmt::Display for StartFrom {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Now => f.write_str("now"),
            Self::Beginning => f.write_str("beginning"),
            Self::Time(at) => at.fmt(f),
        }
    }
}

impl std::str::FromStr for StartFrom {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        match text {
            "now" => Ok(Self::Now),
            "beginning" => Ok(Self::Beginning),
            _ => text
                .parse()
                .map(Self::Time)
                .map_err(|error| format!("neither `now` nor `beginning`, and {error}")),
        }
    }
}

impl Serialize for StartFrom {
    fn serialize<S: serde::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

impl<'de> Deserialize<'de> for StartFrom {
    fn deserialize<D: serde::Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        String::deserialize(deserializer)?.parse().map_err(serde::de::Error::custom)
    }
}
