//! The host's configuration, `ironloom.toml`.

mod catalogs;
mod changes;
mod copies;
mod history;
pub(crate) mod keys;
mod off;
mod policy;
mod server;
mod source;
#[cfg(test)]
mod tests;

use std::collections::BTreeMap;
use std::fmt::Display;
use std::ops::RangeInclusive;
use std::str::FromStr;
use std::sync::Arc;

use jiff::tz::TimeZone;

pub(crate) use ironloom_apps::quantity::{Bytes, Span};

pub(crate) use self::changes::{Change, changes};
pub(crate) use self::copies::Copies;
pub(crate) use self::history::History;
use self::off::{unless_off, within};
pub(crate) use self::policy::{NotAllowed, Policy};
pub(crate) use self::server::{Rates, Server, TlsFiles};
pub(crate) use self::source::{MAX_FILE, Source, SourceError};
use crate::catalogs::web::Access;
use crate::connectors::{ConnectorConfig, check_name};
use ironloom_apps::allowance::LimitKind;
use ironloom_apps::cron::time_zone;
use ironloom_apps::pattern::Pattern;
use ironloom_apps::problem::{Problem, Problems};
use ironloom_apps::toml_section::{Field, Findings, Section};
use ironloom_apps::unit;
use ironloom_sandbox::Allocator;
use ironloom_storage::log::COMMIT_RESERVE;
use ironloom_storage::store::EngineKind;
use ironloom_types::clock;
use ironloom_types::ids::TenantId;
use ironloom_types::limits::{Limits, MAX_BODY, MAX_EFFECT_BYTES, MIB};

/// The whole configuration, checked.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Config {
    pub server: Server,
    pub store: Store,
    pub log: Log,
    pub journal: Journal,
    pub history: History,
    pub copies: Copies,
    /// `[ingest] max_future`, in nanoseconds.
    pub max_future: Span,
    /// `[ingest] max_lag`, in nanoseconds.
    pub max_lag: Option<Span>,
    pub batch: Batch,
    pub sandbox: Sandbox,
    /// `[limits]`: the defaults of installations.
    pub limits: Limits,
    pub site: Site,
    pub policy: Policy,
    /// `[catalogs]`: how their places are reached.
    pub catalogs: Access,
    /// `[points."pattern"]`, in the order of the patterns.
    pub points: Vec<PointUnit>,
    pub connectors: BTreeMap<String, ConnectorConfig>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Store {
    /// The storage engine.
    pub engine: EngineKind,
    /// Free bytes of the disk below which nothing is taken.
    pub reserve: Bytes,
    /// Bytes of clean state in memory.
    pub cache: Bytes,
    /// Bytes of unfolded state in memory.
    pub dirty: Bytes,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Log {
    /// Bytes after which a checkpoint begins.
    pub checkpoint: Bytes,
    /// Bytes at which pushes are refused.
    pub max: Bytes,
    /// Bytes of a segment.
    pub segment: Bytes,
    /// The time that the last checkpoints have when the server stops.
    pub fold_at_stop: Span,
}

/// Limits of the journal.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Journal {
    /// The age beyond which readings go, in nanoseconds.
    pub max_age: Option<Span>,
    /// The bytes of block files beyond which the oldest readings go.
    pub max_bytes: Option<Bytes>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Batch {
    pub max_readings: u32,
    pub max_bytes: Bytes,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Sandbox {
    /// Bytes of code in memory beyond which what isn't used is let go.
    pub code: Bytes,
    /// The source of the memories of invocations.
    pub allocator: Allocator,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Site {
    /// A time zone's IANA name, known to be one.
    pub timezone: String,
    /// The source of journal time.
    pub clock: clock::Source,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct PointUnit {
    /// Matches points as a binding's pattern does.
    pub pattern: Pattern,
    /// A UCUM code.
    pub unit: Arc<str>,
}

/// A record of the largest request must fit a segment, with what surrounds it.
const MIN_SEGMENT: u64 = 64 * MIB;
const MAX_SEGMENT: u64 = 1 << 30;
// As columns a body takes no more than twice its bytes; effects are bounded in their encoded form.
const _: () = assert!(MIN_SEGMENT >= 3 * MAX_BODY as u64 && MIN_SEGMENT >= 2 * MAX_EFFECT_BYTES as u64);
/// With less than this and two segments, of which one is made while the other is begun, the reserve would be
/// overrun between two looks at the free space.
const MIN_RESERVE: u64 = 64 * MIB;
/// Unfolded state must hold the effects of some invocations, or no app would ever run.
const MIN_DIRTY: u64 = 64 * MIB;
/// Some block files: the newest one never goes.
const MIN_JOURNAL: u64 = 256 * MIB;
/// A checkpoint is due once an hour, and only what one has folded can go.
const MIN_AGE: u64 = 3_600_000_000_000;

impl Config {
    /// Reads a file's text. An empty text gives the defaults.
    ///
    /// # Errors
    /// All problems, in the order of the file.
    pub(crate) fn read(text: &str) -> Result<Self, Problems> {
        let findings = Findings::new(text);
        let mut root = findings.root()?;
        let config = Self::assemble(&mut root);
        root.finish();
        findings.check()?;
        // Whatever is missing has been noted as a problem.
        config.ok_or_else(|| Problem::whole("the configuration is not complete").into())
    }

    /// The documented file with all defaults.
    pub(crate) fn documented() -> String {
        keys::documented()
    }

    // All sections are read before a missing one ends the reading, so that every error is found.
    fn assemble(root: &mut Section<'_, '_>) -> Option<Self> {
        let server = Server::read(root.table("server"));
        let store_section = root.table("store");
        let log = log(root.table("log"));
        let store = store(store_section, log.map_or(Bytes(MIN_SEGMENT), |log| log.segment));
        let journal = journal(root.table("journal"));
        let history = history::read(root);
        let copies = copies::read(root.table("copies"));
        let ingest = ingest(root.table("ingest"));
        let batch = batch(root.table("batch"));
        let sandbox = sandbox(root.table("sandbox"));
        let limits = limits(root.table("limits"));
        let site = site(root.table("site"));
        let policy = policy::read(root.table("policy"));
        let catalogs = catalogs::read(root.table("catalogs"));
        let points = points(root.table("points"));
        // A wrong zone has been noted: the connectors are read all the same, for their own errors.
        let zone = site.as_ref().map_or(TimeZone::UTC, Site::zone);
        let connectors = connectors(root.table("connectors"), &zone);
        let (max_future, max_lag) = ingest?;
        Some(Self {
            server: server?,
            store: store?,
            log: log?,
            journal: journal?,
            history: history?,
            copies: copies?,
            max_future,
            max_lag,
            batch: batch?,
            sandbox: sandbox?,
            limits: limits?,
            site: site?,
            policy: policy?,
            catalogs: catalogs?,
            points,
            connectors,
        })
    }
}

impl Site {
    /// The time zone.
    pub(crate) fn zone(&self) -> TimeZone {
        TimeZone::get(&self.timezone).unwrap_or(TimeZone::UTC)
    }
}

// Each takes all of its keys before it gives up on one, so that every error is found.

/// The field of a key, or that of its default.
fn key<'f, 't>(section: &mut Section<'f, 't>, of: &'static str, name: &'static str) -> Option<Field<'f, 't>> {
    section.take_or(name, keys::default(of, name))
}

/// A size, at least this large.
fn size(field: Option<Field<'_, '_>>, least: u64) -> Option<Bytes> {
    let field = field?;
    let bytes: Bytes = field.parsed(str::parse)?;
    if bytes.0 < least {
        field.refuse(format!("must be at least {}", Bytes(least)));
        return None;
    }
    Some(bytes)
}

/// A number within a range.
fn number(field: Option<Field<'_, '_>>, range: RangeInclusive<u32>) -> Option<u32> {
    let field = field?;
    let number = u32::try_from(field.integer()?).ok().filter(|number| range.contains(number));
    field.checked(number.ok_or_else(|| outside(&range)))
}

/// A time span within a range.
fn span(field: Option<Field<'_, '_>>, range: RangeInclusive<Span>) -> Option<Span> {
    field?.parsed(|text| {
        let span: Span = text.parse()?;
        if range.contains(&span) { Ok(span) } else { Err(outside(&range)) }
    })
}

fn outside<T: Display>(range: &RangeInclusive<T>) -> String {
    format!("must lie within {} to {}", range.start(), range.end())
}

fn store(mut section: Section<'_, '_>, segment: Bytes) -> Option<Store> {
    let engine = key(&mut section, "store", "engine");
    let reserve = key(&mut section, "store", "reserve").and_then(|field| {
        let reserve: Bytes = field.parsed(str::parse)?;
        let least = Bytes(2 * segment.0 + MIN_RESERVE);
        if reserve < least {
            field.refuse(format!(
                "must be at least {least}, which is two of `log.segment` and {}: else the log could not go on on \
                 a disk that is nearly full",
                Bytes(MIN_RESERVE)
            ));
        }
        Some(reserve)
    });
    let cache = size(key(&mut section, "store", "cache"), MIB);
    let dirty = size(key(&mut section, "store", "dirty"), MIN_DIRTY);
    section.finish();
    let engine = engine.and_then(|field| field.parsed(EngineKind::from_str));
    Some(Store { engine: engine?, reserve: reserve?, cache: cache?, dirty: dirty? })
}

fn sandbox(mut section: Section<'_, '_>) -> Option<Sandbox> {
    let code = size(key(&mut section, "sandbox", "code"), MIB);
    let allocator = key(&mut section, "sandbox", "allocator");
    section.finish();
    let allocator = allocator.and_then(|field| {
        field.parsed(|text| match text {
            "pool" => Ok(Allocator::Pool),
            "on-demand" => Ok(Allocator::OnDemand),
            _ => Err(format!("{text:?} is not an allocator; the allocators are pool and on-demand")),
        })
    });
    Some(Sandbox { code: code?, allocator: allocator? })
}

fn log(mut section: Section<'_, '_>) -> Option<Log> {
    let checkpoint = size(key(&mut section, "log", "checkpoint"), MIB);
    let max_field = key(&mut section, "log", "max");
    let segment_field = key(&mut section, "log", "segment");
    let fold_at_stop = key(&mut section, "log", "fold_at_stop").and_then(|field| field.parsed(fold_at_stop));
    section.finish();
    let segment: Option<Bytes> = segment_field.and_then(|field| {
        let segment: Bytes = field.parsed(str::parse)?;
        let range = Bytes(MIN_SEGMENT)..=Bytes(MAX_SEGMENT);
        if !range.contains(&segment) {
            field.refuse(outside(&range));
        }
        Some(segment)
    });
    let max_field = max_field?;
    let max: Option<Bytes> = max_field.parsed(str::parse);
    let (checkpoint, max) = (checkpoint?, max?);
    // The active segment is freed only once the next one is begun, and pushes come while a checkpoint runs.
    let room = COMMIT_RESERVE + 2 * segment.map_or(MIN_SEGMENT, |segment| segment.0);
    let least = Bytes(checkpoint.0.saturating_add(room));
    if max < least {
        max_field.refuse(format!(
            "must be at least {least}, which is `checkpoint`, two of `segment` and {}: otherwise pushes would be \
             refused before a checkpoint begins",
            Bytes(COMMIT_RESERVE)
        ));
    }
    Some(Log { checkpoint, max, segment: segment?, fold_at_stop: fold_at_stop? })
}

fn fold_at_stop(text: &str) -> Result<Span, String> {
    let time: Span = text.parse()?;
    let most = Span(3_600_000_000_000);
    if time > most { Err(format!("must be at most {most}")) } else { Ok(time) }
}

fn journal(mut section: Section<'_, '_>) -> Option<Journal> {
    let max_age = key(&mut section, "journal", "max_age");
    let max_bytes = key(&mut section, "journal", "max_bytes");
    section.finish();
    let max_age = max_age.and_then(|field| {
        field.parsed(|text| unless_off(text, |age: Span| within(age, Span(MIN_AGE), None)))
    });
    let max_bytes = max_bytes.and_then(|field| {
        field.parsed(|text| unless_off(text, |bytes: Bytes| within(bytes, Bytes(MIN_JOURNAL), None)))
    });
    Some(Journal { max_age: max_age?, max_bytes: max_bytes? })
}

/// The latest `at`, and the lag from which sources are slowed.
fn ingest(mut section: Section<'_, '_>) -> Option<(Span, Option<Span>)> {
    let max_future = key(&mut section, "ingest", "max_future");
    let max_lag = key(&mut section, "ingest", "max_lag");
    section.finish();
    Some((max_future?.parsed(str::parse)?, max_lag?.parsed(lag)?))
}

fn lag(text: &str) -> Result<Option<Span>, String> {
    unless_off(text, |lag: Span| within(lag, Span(100_000_000), Some(Span(3_600_000_000_000))))
}

fn batch(mut section: Section<'_, '_>) -> Option<Batch> {
    let max_readings = number(key(&mut section, "batch", "max_readings"), 1..=keys::MAX_BATCH_READINGS);
    let max_bytes = size(key(&mut section, "batch", "max_bytes"), 1);
    section.finish();
    Some(Batch { max_readings: max_readings?, max_bytes: max_bytes? })
}

fn limits(mut section: Section<'_, '_>) -> Option<Limits> {
    let mut limit = |kind: LimitKind| {
        let field = key(&mut section, "limits", kind.name());
        field.and_then(|field| kind.read(&field))
    };
    let memory = limit(LimitKind::Memory);
    let cpu = limit(LimitKind::Cpu);
    let state = limit(LimitKind::State);
    let share = limit(LimitKind::Share);
    let points = limit(LimitKind::Points);
    section.finish();
    Some(Limits { memory: memory?, cpu: cpu?, state: state?, share: share?, points: points? })
}

fn site(mut section: Section<'_, '_>) -> Option<Site> {
    let timezone = key(&mut section, "site", "timezone");
    let source = key(&mut section, "site", "clock");
    section.finish();
    let timezone = timezone
        .and_then(|field| field.parsed(time_zone).map(|_| field.text().unwrap_or_default().to_owned()));
    let source = source.and_then(|field| {
        field.parsed(|text| match text {
            "host" => Ok(clock::Source::Host),
            "feed" => Ok(clock::Source::Feed),
            _ => Err(format!("{text:?} is not a clock; the clocks are host and feed")),
        })
    });
    Some(Site { timezone: timezone?, clock: source? })
}

fn points(mut section: Section<'_, '_>) -> Vec<PointUnit> {
    let mut points = Vec::new();
    for field in section.take_all() {
        let pattern = Pattern::new(TenantId::MAIN, &field.name);
        if let Err(problem) = &pattern {
            field.refuse_name(format!("is not a pattern of points: {problem}"), None);
        }
        let mut entry = field.section();
        let unit = entry.require("unit").and_then(|field| field.parsed(unit::check));
        entry.finish();
        points.extend(pattern.ok().zip(unit).map(|(pattern, unit)| PointUnit { pattern, unit }));
    }
    points
}

fn connectors(mut section: Section<'_, '_>, zone: &TimeZone) -> BTreeMap<String, ConnectorConfig> {
    let mut connectors = BTreeMap::new();
    for field in section.take_all() {
        let name = field.name.clone();
        if let Err(problem) = check_name(&name) {
            field.refuse_name(problem, None);
        }
        connectors.extend(ConnectorConfig::read(field.section(), zone).map(|config| (name, config)));
    }
    for (_, words) in crate::connectors::conflicts(&connectors) {
        section.refuse(words);
    }
    connectors
}
