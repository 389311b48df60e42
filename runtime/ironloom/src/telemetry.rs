//! What the node says about itself: log lines on stderr, and counters for `/metrics`.

mod broker_figures;
pub(crate) mod events;
mod filter;
mod lines;
mod sparing;

use std::fmt::Write as _;
use std::sync::Arc;
use std::sync::atomic::AtomicU64;

use prometheus_client::encoding::text::encode;
use prometheus_client::encoding::{EncodeLabel as _, EncodeLabelSet, LabelSetEncoder};
use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::family::Family;
use prometheus_client::metrics::gauge::Gauge;
use prometheus_client::metrics::histogram::{Histogram, exponential_buckets};
use prometheus_client::metrics::info::Info;
use prometheus_client::registry::{Registry, Unit};

pub(crate) use self::broker_figures::BrokerFigures;
pub(crate) use self::filter::{ChosenBy, LogFilter, LogLines};
use self::lines::Form;
pub(crate) use self::sparing::Sparing;

/// The media type of what [`Metrics::text`] returns.
pub(crate) const METRICS_TYPE: &str = "application/openmetrics-text; version=1.0.0; charset=utf-8";

/// Sends the node's own log lines to stderr: those of `[server] log`, or those that `IRONLOOM_LOG` asks for.
/// `IRONLOOM_LOG_FORMAT=json` writes one JSON object a line.
pub(crate) fn start_logging(configured: LogLines) -> LogFilter {
    let asked = std::env::var("IRONLOOM_LOG").ok().filter(|asked| !asked.is_empty());
    let read = asked.as_ref().map(|asked| asked.parse::<LogLines>());
    let (lines, by, mistake) = match read {
        Some(Ok(lines)) => (lines, ChosenBy::Environment, None),
        Some(Err(mistake)) => (configured, ChosenBy::Configuration, Some(mistake)),
        None => (configured, ChosenBy::Configuration, None),
    };
    let format = std::env::var("IRONLOOM_LOG_FORMAT").unwrap_or_default();
    let json = format.eq_ignore_ascii_case("json");
    let form = match () {
        () if json => Form::Json,
        () if is_terminal() => Form::Coloured,
        () => Form::Text,
    };
    let (subscriber, apply) = lines::subscriber(&lines, form, std::io::stderr);
    // A second call keeps the first one's choice: only tests come here twice.
    let _ = tracing::subscriber::set_global_default(subscriber);
    if let Some(mistake) = mistake {
        tracing::warn!(IRONLOOM_LOG = asked, used = %lines, "is not a valid filter: {mistake}");
    }
    if !json && !format.is_empty() && !format.eq_ignore_ascii_case("text") {
        tracing::warn!(IRONLOOM_LOG_FORMAT = format, "is neither `text` nor `json`, so that `text` is used");
    }
    LogFilter::new(lines, by, apply)
}

fn is_terminal() -> bool {
    use std::io::IsTerminal as _;
    std::io::stderr().is_terminal() && std::env::var_os("NO_COLOR").is_none()
}

/// One label: how something ended.
#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
pub(crate) struct OutcomeLabel {
    /// Such as `ok`, `trap` or `retry`.
    pub outcome: &'static str,
}

/// One label: the state that something is in.
#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
pub(crate) struct State {
    /// `enabled`, `stopped` or `stuck`; of one installation the name in the API.
    pub state: &'static str,
}

/// One label: why something was refused.
#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
pub(crate) struct Status {
    /// The HTTP status.
    pub status: u16,
}

/// An installation, with its tenant where that isn't `main`.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(crate) struct OfInstallation {
    pub installation: String,
    pub tenant: Option<String>,
}

impl EncodeLabelSet for OfInstallation {
    fn encode(&self, encoder: &mut LabelSetEncoder<'_>) -> Result<(), std::fmt::Error> {
        ("installation", self.installation.as_str()).encode(encoder.encode_label())?;
        match &self.tenant {
            Some(tenant) => ("tenant", tenant.as_str()).encode(encoder.encode_label()),
            None => Ok(()),
        }
    }
}

/// An installation and the state that it is in, by its name in the API.
pub(crate) type InState = (OfInstallation, State);

/// One label: a connector.
#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
pub(crate) struct OfConnector {
    /// Its name in the configuration.
    pub connector: String,
}

/// Two labels: a connector, and a reason for which it passes something over.
#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
pub(crate) struct PassedOver {
    pub connector: String,
    pub reason: String,
}

/// One label: the kind of error of a pushed line.
#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
pub(crate) struct BadLine {
    pub reason: String,
}

/// Figures of each installation and connector, taken anew whenever metrics are shown.
#[derive(Clone, Debug, Default)]
pub(crate) struct Figures {
    /// 1 for the state that an installation is in.
    pub state: Family<InState, Gauge>,
    /// Readings that wait for it.
    pub lag: Family<OfInstallation, Gauge>,
    /// Its failures since it was installed.
    pub failures: Family<OfInstallation, Gauge>,
    /// Dead letters that are kept.
    pub dead_letters: Family<OfInstallation, Gauge>,
    /// Alarms of it that stand.
    pub alarms: Family<OfInstallation, Gauge>,
    /// Readings that it has dealt with.
    pub readings: Family<OfInstallation, Gauge>,
    /// CPU time of its invocations, in seconds.
    pub cpu: Family<OfInstallation, Gauge<f64, AtomicU64>>,
    /// The most bytes that one of its invocations took.
    pub peak_memory: Family<OfInstallation, Gauge>,
    pub state_bytes: Family<OfInstallation, Gauge>,
    /// Bytes of the readings that it derived.
    pub derived_bytes: Family<OfInstallation, Gauge>,
    /// Installations beyond those that have figures of their own.
    pub without: Gauge,
    /// 1 if a connector is running.
    pub connector_up: Family<OfConnector, Gauge>,
    /// Readings that a connector brought since the start.
    pub connector_readings: Family<OfConnector, Gauge>,
    /// Messages that it set aside since the start.
    pub connector_dead_letters: Family<OfConnector, Gauge>,
    /// Whatever it passed over, by reason.
    pub passed_over: Family<PassedOver, Counter>,
    pub broker: BrokerFigures,
}

impl Figures {
    /// Forgets what was shown last: it may be gone.
    pub(crate) fn clear(&self) {
        self.state.clear();
        let Self { lag, failures, dead_letters, alarms, readings, .. } = self;
        let of_bytes = [&self.peak_memory, &self.state_bytes, &self.derived_bytes];
        for family in [lag, failures, dead_letters, alarms, readings].into_iter().chain(of_bytes) {
            family.clear();
        }
        self.cpu.clear();
        self.connector_up.clear();
        self.connector_readings.clear();
        self.connector_dead_letters.clear();
        self.passed_over.clear();
        self.broker.clear();
    }

    fn register(&self, registry: &mut Registry) {
        let help = "1 for the state that an installation is in";
        registry.register("installation_state", help, self.state.clone());
        for (name, help, family) in [
            (
                "installation_lag_readings",
                "Readings that wait for an installation; at most, where it is far behind",
                &self.lag,
            ),
            ("installation_failures", "Failures of an installation since it was installed", &self.failures),
            ("installation_dead_letters", "Dead letters that are kept", &self.dead_letters),
            ("installation_alarms", "Active alarms of an installation", &self.alarms),
            ("installation_readings", "Readings that an installation has dealt with", &self.readings),
            (
                "installation_peak_memory_bytes",
                "The most that one invocation of an installation took",
                &self.peak_memory,
            ),
            ("installation_state_bytes", "Bytes of an installation's state", &self.state_bytes),
            (
                "installation_derived_bytes",
                "Bytes of an installation's derived readings, as the log has them",
                &self.derived_bytes,
            ),
        ] {
            registry.register(name, help, family.clone());
        }
        let help = "Installations beyond the first 10,000, which have no figures of their own";
        registry.register("installations_without_figures", help, self.without.clone());
        let help = "CPU time of an installation's invocations";
        registry.register("installation_cpu_seconds", help, self.cpu.clone());
        for (name, help, family) in [
            ("connector_up", "1 if a connector is running", &self.connector_up),
            ("connector_readings", "Readings of a connector since the start", &self.connector_readings),
            ("connector_dead_letters", "Messages that a connector set aside", &self.connector_dead_letters),
        ] {
            registry.register(name, help, family.clone());
        }
        let help = "Lines, cells and messages of a connector that became no reading, by reason";
        registry.register("connector_passed_over", help, self.passed_over.clone());
        self.broker.register(registry);
    }
}

/// All counters. Each is cheap to clone and to increment; the code that does the work counts it.
#[derive(Clone, Debug, Default)]
pub(crate) struct Metrics {
    /// Events, for whoever listens.
    pub events: Arc<events::Events>,
    /// Readings that became durable, from any source, derived ones apart.
    pub readings: Counter,
    /// Readings that apps derived.
    pub derived: Counter,
    /// Pushes that became durable.
    pub pushes: Counter,
    /// Pushes that were answered from an earlier one with the same key.
    pub duplicates: Counter,
    /// Lines that pushes and streams passed over, by the kind of their error.
    pub bad_lines: Family<BadLine, Counter>,
    /// HTTP requests by the status of their answer.
    pub requests: Family<Status, Counter>,
    /// Invocations by outcome.
    pub invocations: Family<OutcomeLabel, Counter>,
    /// Ends of set-points by outcome.
    pub set_points: Family<OutcomeLabel, Counter>,
    /// 1 while the kill switch is on for the site.
    pub halted: Gauge,
    /// Installations for which it is on.
    pub halted_installations: Gauge,
    /// Points that are to have their safe values.
    pub safe_values_owed: Gauge,
    /// Ends of set-points that aren't written yet.
    pub outcomes_unrecorded: Gauge,
    /// CPU time of invocations.
    pub invocation_cpu: Seconds,
    /// Readings that were set aside.
    pub dead_letters: Counter,
    /// Lanes that are enabled, stopped or stuck.
    pub lanes: Family<State, Gauge>,
    /// Figures of each installation and connector.
    pub figures: Figures,
    /// Free bytes on the disk of the data folder.
    pub disk_free: Gauge,
    /// Readings that wait for a lane.
    pub pending: Gauge,
    /// Groups of records written and flushed as one.
    pub log_groups: Counter,
    pub log_records: Counter,
    /// Bytes of records written.
    pub log_bytes: Counter,
    /// Time of the log's flushes.
    pub log_sync: Seconds,
    /// Bytes of the log that no checkpoint has folded yet.
    pub log_unfolded: Gauge,
    /// Time of checkpoints.
    pub checkpoints: Seconds,
    /// Bytes of state that no checkpoint has written yet.
    pub store_dirty: Gauge,
    /// Keys of apps' state that were looked up in the store, since they were not in memory.
    pub state_misses: Counter,
    /// Apps whose code is in memory, its bytes, and how often code was loaded since the start.
    pub code_apps: Gauge,
    pub code_bytes: Gauge,
    pub code_loads: Gauge,
    /// Points that exist.
    pub points: Gauge,
    /// Streams of readings with a key that are remembered.
    pub streams: Gauge,
    /// Installations for which sources are slowed if they fall behind.
    pub keeping_up: Gauge,
    /// Installations for which sources are slowed.
    pub slowed_for: Gauge,
    /// Alarms that stand.
    pub alarms: Gauge,
    /// Readings of connectors whose quality was lowered for a time in the future or before 1970.
    pub lowered: Counter,
    /// Lines and cells of connectors that were skipped.
    pub skipped: Counter,
}

/// A histogram of seconds from 10 µs to about 40 s.
#[derive(Clone, Debug)]
pub(crate) struct Seconds(Histogram);

impl Default for Seconds {
    fn default() -> Self {
        Self(Histogram::new(exponential_buckets(1e-5, 4.0, 12)))
    }
}

impl Seconds {
    /// Counts one that took this long.
    pub(crate) fn observe(&self, took: std::time::Duration) {
        self.0.observe(took.as_secs_f64());
    }
}

/// The counters, and the registry that writes them.
#[derive(Debug)]
pub(crate) struct Telemetry {
    pub metrics: Metrics,
    /// The log lines that are written.
    pub log: LogFilter,
    registry: Registry,
}

/// Registers the gauges of the whole server.
fn register_gauges(registry: &mut Registry, all: &Metrics) {
    for (name, help, gauge) in [
        ("pending_readings", "Readings that wait for a lane", &all.pending),
        ("log_unfolded_bytes", "Bytes of the log that no checkpoint has folded yet", &all.log_unfolded),
        ("store_dirty_bytes", "Bytes of state that no checkpoint has written yet", &all.store_dirty),
        ("code_apps", "Apps whose code is in memory", &all.code_apps),
        ("code_bytes", "Bytes of apps' code in memory", &all.code_bytes),
        ("code_loads", "Loads of apps' code since the start", &all.code_loads),
        ("points", "Points that exist", &all.points),
        ("disk_free_bytes", "Free bytes on the disk of the data folder", &all.disk_free),
        ("streams", "Streams of readings with a key that are remembered", &all.streams),
        (
            "keeping_up",
            "Installations that must keep up, and have caught up since they began",
            &all.keeping_up,
        ),
        ("slowed_for", "Installations that must keep up and for which sources are slowed", &all.slowed_for),
        ("alarms", "Alarms that stand", &all.alarms),
        ("halted", "1 while the kill switch is on for the site", &all.halted),
        ("halted_installations", "Installations for which the kill switch is on", &all.halted_installations),
        ("safe_values_owed", "Points that are to have their safe values", &all.safe_values_owed),
        ("outcomes_unrecorded", "Outcomes of set-points that are to be written", &all.outcomes_unrecorded),
    ] {
        registry.register(name, help, gauge.clone());
    }
}

impl Telemetry {
    /// New counters, all zero.
    pub(crate) fn new(log: LogFilter) -> Arc<Self> {
        let metrics = Metrics::default();
        let mut registry = Registry::with_prefix("ironloom");
        let all = &metrics;
        for (name, help, counter) in [
            ("readings", "Readings that became durable, without derived ones", &all.readings),
            ("derived_readings", "Readings that apps derived", &all.derived),
            ("pushes", "Pushes that became durable", &all.pushes),
            ("duplicate_pushes", "Pushes answered from an earlier one with the same key", &all.duplicates),
            ("dead_letters", "Readings that were set aside", &all.dead_letters),
            ("log_groups", "Groups of records flushed as one", &all.log_groups),
            ("log_records", "Records written to the log", &all.log_records),
            ("state_misses", "Keys of apps' state looked up in the store", &all.state_misses),
            ("lowered_readings", "Readings whose quality was lowered because of their time", &all.lowered),
            ("skipped_lines", "Lines and cells of connectors that were skipped", &all.skipped),
        ] {
            registry.register(name, help, counter.clone());
        }
        let bytes = "Bytes of records written to the log";
        registry.register_with_unit("log", bytes, Unit::Bytes, all.log_bytes.clone());
        register_gauges(&mut registry, all);
        for (name, help, seconds) in [
            ("invocation_cpu_seconds", "CPU time of invocations", &all.invocation_cpu),
            ("log_sync_seconds", "Time of the log's flushes", &all.log_sync),
            ("checkpoint_seconds", "Time of checkpoints", &all.checkpoints),
        ] {
            registry.register(name, help, seconds.0.clone());
        }
        let help =
            "Lines of pushes and streams that were passed over with partial=true, by the kind of their error";
        registry.register("push_passed_over", help, all.bad_lines.clone());
        registry.register("http_requests", "HTTP requests by status", all.requests.clone());
        registry.register("invocations", "Invocations by outcome", all.invocations.clone());
        registry.register("set_points", "Ends of set-points by outcome", all.set_points.clone());
        registry.register("lanes", "Lanes that are enabled, stopped or stuck", all.lanes.clone());
        all.figures.register(&mut registry);
        let version = Info::new(vec![("version", env!("CARGO_PKG_VERSION"))]);
        registry.register("build", "The version of this server", version);
        Arc::new(Self { metrics, log, registry })
    }

    /// Returns all counters in the text form of OpenMetrics, which Prometheus reads.
    pub(crate) fn text(&self) -> String {
        let mut text = String::new();
        if encode(&mut text, &self.registry).is_err() {
            // Only a label that can't be written comes here, and there is none.
            let _ = writeln!(text, "# the metrics could not be written");
        }
        text
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_name_begins_with_ironloom_and_counts_show() {
        let telemetry = Telemetry::new(LogFilter::unused());
        telemetry.metrics.readings.inc_by(3);
        telemetry.metrics.log_bytes.inc_by(100);
        telemetry.metrics.invocations.get_or_create(&OutcomeLabel { outcome: "trap" }).inc();
        telemetry.metrics.lanes.get_or_create(&State { state: "enabled" }).set(2);
        let pigs = OfInstallation { installation: "pigs".to_owned(), tenant: Some("acme".to_owned()) };
        let state = (pigs, State { state: "quarantined" });
        telemetry.metrics.figures.state.get_or_create(&state).set(1);
        telemetry.metrics.log_sync.observe(std::time::Duration::from_millis(1));
        let text = telemetry.text();
        for line in text.lines().filter(|line| !line.starts_with('#')) {
            assert!(line.starts_with("ironloom_"), "{line}");
        }
        for line in [
            "ironloom_readings_total 3",
            "ironloom_log_bytes_total 100",
            "ironloom_invocations_total{outcome=\"trap\"} 1",
            "ironloom_lanes{state=\"enabled\"} 2",
            "ironloom_installation_state{installation=\"pigs\",tenant=\"acme\",state=\"quarantined\"} 1",
            concat!("ironloom_build_info{version=\"", env!("CARGO_PKG_VERSION"), "\"} 1"),
            "ironloom_log_sync_seconds_count 1",
        ] {
            assert!(text.lines().any(|found| found == line), "{line} is missing in\n{text}");
        }
        telemetry.metrics.figures.clear();
        assert!(!telemetry.text().contains("pigs"), "what is gone is shown no longer");
    }
}
