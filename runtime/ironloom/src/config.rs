//! The host's configuration, `ironloom.toml`.

pub mod keys;
pub mod quantity;
pub mod reader;

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::sync::Arc;

pub use quantity::{Bytes, Span};
pub use reader::ConfigError;
use reader::{Errors, Section};
use serde::Deserialize;

use crate::connectors::ConnectorConfig;
use ironloom_apps::allowance::Kind;
use ironloom_types::clock::Source;
use ironloom_types::ids::check_point_path;
use ironloom_types::limits::Limits;

/// All of it, checked.
#[derive(Clone, Debug, PartialEq)]
pub struct Config {
    /// `[server]`
    pub server: Server,
    /// `[store]`
    pub store: Store,
    /// `[log]`
    pub log: Log,
    /// `[ingest] max_future`, in nanoseconds.
    pub max_future: Span,
    /// `[batch]`
    pub batch: Batch,
    /// `[limits]`: the defaults of installations.
    pub limits: Limits,
    /// `[site]`
    pub site: Site,
    /// `[points."pattern"]`, in the order of the patterns.
    pub points: Vec<PointUnit>,
    /// `[connectors.NAME]`
    pub connectors: BTreeMap<String, ConnectorConfig>,
}

/// `[server]`
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Server {
    /// The address of the API.
    pub listen: SocketAddr,
    /// Further names of the server.
    pub hosts: Vec<String>,
}

/// `[store]`
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Store {
    /// Which engine.
    pub engine: Engine,
    /// Free bytes of the disk below which nothing is taken.
    pub reserve: Bytes,
    /// Bytes of clean state in memory.
    pub cache: Bytes,
    /// Bytes of unfolded state in memory.
    pub dirty: Bytes,
}

/// What keeps everything at rest.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Engine {
    /// sled 0.34.
    Sled,
    /// redb 4.
    Redb,
}

/// `[log]`
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Log {
    /// Bytes after which a checkpoint begins.
    pub checkpoint: Bytes,
    /// Bytes at which pushes are refused.
    pub max: Bytes,
    /// Bytes of a segment.
    pub segment: Bytes,
}

/// `[batch]`
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Batch {
    /// Most readings.
    pub max_readings: u32,
    /// Most bytes.
    pub max_bytes: Bytes,
}

/// `[site]`
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Site {
    /// A time zone's IANA name, known to be one.
    pub timezone: String,
    /// Where journal time comes from.
    pub clock: Source,
}

/// `[points."pattern"]`
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PointUnit {
    /// Matches points as a binding's pattern does.
    pub pattern: String,
    /// A UCUM code.
    pub unit: Arc<str>,
}

impl Config {
    /// Reads a file's text, or gives all that is wrong with it. An empty text gives the defaults.
    pub fn read(text: &str) -> Result<Self, Vec<ConfigError>> {
        let errors = Errors::new(text);
        let config = Self::assemble(&errors);
        let list = errors.into_list();
        match config {
            Some(config) if list.is_empty() => Ok(config),
            _ => Err(list),
        }
    }

    /// The documented file with all defaults.
    pub fn documented() -> String {
        keys::documented()
    }

    fn assemble(errors: &Errors<'_>) -> Option<Self> {
        let mut root = Section::root(errors);
        let server = server(root.table("server"));
        let store = store(root.table("store"));
        let log = log(root.table("log"));
        let max_future = {
            let mut section = root.table("ingest");
            let max_future = section.key("max_future");
            section.finish();
            max_future
        };
        let batch = batch(root.table("batch"));
        let limits = limits(root.table("limits"));
        let site = site(root.table("site"));
        let points = points(root.table("points"));
        let connectors = connectors(root.table("connectors"));
        root.finish();
        Some(Self {
            server: server?,
            store: store?,
            log: log?,
            max_future: max_future?,
            batch: batch?,
            limits: limits?,
            site: site?,
            points,
            connectors,
        })
    }
}

// Each takes all of its keys before it gives up on one, so that every error is found.

fn server(mut section: Section<'_, '_>) -> Option<Server> {
    let (listen, hosts) = (section.key("listen"), section.key("hosts"));
    section.finish();
    Some(Server { listen: listen?, hosts: hosts? })
}

fn store(mut section: Section<'_, '_>) -> Option<Store> {
    let (engine, reserve) = (section.key("engine"), section.key("reserve"));
    let (cache, dirty) = (section.key("cache"), section.key("dirty"));
    section.finish();
    Some(Store { engine: engine?, reserve: reserve?, cache: cache?, dirty: dirty? })
}

fn log(mut section: Section<'_, '_>) -> Option<Log> {
    let (checkpoint, max, segment) = (section.key("checkpoint"), section.key("max"), section.key("segment"));
    section.finish();
    let log = Log { checkpoint: checkpoint?, max: max?, segment: segment? };
    // A record of the largest request must fit a segment, with what surrounds it.
    if log.segment.0 < 64 << 20 || log.segment.0 > 1 << 30 {
        section.fault("has a `segment` outside of 64 MiB to 1 GiB");
    }
    if log.max <= log.checkpoint {
        section.fault("has a `max` that isn't above `checkpoint`");
    }
    Some(log)
}

fn batch(mut section: Section<'_, '_>) -> Option<Batch> {
    let (max_readings, max_bytes) = (section.key("max_readings"), section.key("max_bytes"));
    section.finish();
    let batch = Batch { max_readings: max_readings?, max_bytes: max_bytes? };
    if batch.max_readings == 0 || batch.max_bytes.0 == 0 {
        section.fault("has a limit of 0, with which no app would ever get a reading");
    }
    Some(batch)
}

fn limits(mut section: Section<'_, '_>) -> Option<Limits> {
    let (memory, cpu, state) =
        (section.key::<Bytes>("memory"), section.key::<Span>("cpu"), section.key::<Bytes>("state"));
    let share = section.key::<Span>("share");
    section.finish();
    let limits = Limits { memory: memory?.0, cpu: cpu?.0, state: state?.0, share: share?.0 };
    if let Err(problem) = Kind::Share.check(limits.share) {
        section.fault(format!("has a `share` that can't be: {problem}"));
    }
    if !(Limits::MIN_MEMORY..=Limits::MAX_MEMORY).contains(&limits.memory) {
        let (least, most) = (Bytes(Limits::MIN_MEMORY), Bytes(Limits::MAX_MEMORY));
        section.fault(format!("has a `memory` outside of {least} to {most}"));
    }
    Some(limits)
}

fn site(mut section: Section<'_, '_>) -> Option<Site> {
    let (timezone, clock) = (section.key::<String>("timezone"), section.key("clock"));
    section.finish();
    let timezone = timezone?;
    if jiff::tz::TimeZone::get(&timezone).is_err() {
        section.fault(format!("has an unknown `timezone`, {timezone:?}; they look like \"Europe/Berlin\""));
    }
    Some(Site { timezone, clock: clock? })
}

fn points(mut section: Section<'_, '_>) -> Vec<PointUnit> {
    let mut points = Vec::new();
    for pattern in section.names() {
        let mut entry = section.table(&pattern);
        if let Err(problem) = check_pattern(&pattern) {
            entry.fault(format!("is no pattern of points: it {problem}"));
        }
        let unit = entry.required::<String>("unit");
        entry.finish();
        points.extend(unit.map(|unit| PointUnit { pattern, unit: unit.into() }));
    }
    points
}

/// Checks a pattern such as `farm/{barn}/weight`: a point path, but for whole segments in braces.
pub fn check_pattern(pattern: &str) -> Result<(), &'static str> {
    let plain: Vec<&str> = pattern
        .split('/')
        .map(|segment| match segment.strip_prefix('{').and_then(|rest| rest.strip_suffix('}')) {
            Some(name) if !name.is_empty() => name,
            _ => segment,
        })
        .collect();
    check_point_path(&plain.join("/"))
}

fn connectors(mut section: Section<'_, '_>) -> BTreeMap<String, ConnectorConfig> {
    let mut connectors = BTreeMap::new();
    for name in section.names() {
        let entry = section.table(&name);
        connectors.extend(ConnectorConfig::read(entry).map(|config| (name, config)));
    }
    connectors
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_documented_file_is_the_default_and_names_every_key() {
        let text = Config::documented();
        let config = Config::read(&text).unwrap();
        assert_eq!(config, Config::read("").unwrap());
        assert_eq!(config.limits, Limits::default());
        assert_eq!(config.server.listen, "127.0.0.1:7420".parse().unwrap());
        let table: toml::Table = text.parse().unwrap();
        let mut named: Vec<String> = Vec::new();
        for (section, keys) in &table {
            named.extend(keys.as_table().unwrap().keys().map(|key| format!("{section}.{key}")));
        }
        let mut all = keys::all();
        named.sort();
        all.sort();
        assert_eq!(named, all);
    }

    #[test]
    fn the_examples_are_valid_once_uncommented() {
        let text = Config::documented();
        let from = text.find("# The unit of points").unwrap();
        let plain: Vec<&str> = text[from..]
            .lines()
            .filter(|line| line.starts_with("# [") || line.contains(" = "))
            .map(|line| line.trim_start_matches("# "))
            .collect();
        let config = Config::read(&plain.join("\n")).unwrap();
        assert_eq!(config.points[0].unit.as_ref(), "kg");
        assert!(config.connectors.contains_key("herd"));
    }

    #[test]
    fn all_errors_come_at_once_with_line_and_column() {
        let text = "[server]\nlisten = \"here\"\nhots = []\n\n[store]\nengine = \"mysql\"\nreserve = \"1.5 MiB\"\n\
                    \n[site]\ntimezone = \"Mars/Olympus\"\n\n[points.\"a//b\"]\nunit = 7\n\n[colour]\n";
        let errors = Config::read(text).unwrap_err();
        let places: Vec<(usize, usize, &str)> =
            errors.iter().map(|error| (error.line, error.column, error.key.as_str())).collect();
        assert_eq!(
            places,
            [
                (2, 10, "server.listen"),
                (3, 1, "server.hots"),
                (6, 10, "store.engine"),
                (7, 11, "store.reserve"),
                (9, 1, "site"),
                (12, 1, "points.a//b"),
                (13, 8, "points.a//b.unit"),
                (15, 2, "colour"),
            ]
        );
        let text: Vec<String> = errors.iter().map(ToString::to_string).collect();
        assert_eq!(text[1], "line 3, column 1: `server.hots` is unknown; [server] has `listen`, `hosts`");
    }

    #[test]
    fn faults_of_the_syntax_have_a_place() {
        let errors = Config::read("[server\nlisten = 1").unwrap_err();
        assert_eq!(errors[0].line, 1);
    }
}
