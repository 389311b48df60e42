//! Feeds as CSV files, read by the connector for them with all of its options.

mod options;

use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use tokio::sync::{mpsc, oneshot, watch};

pub(crate) use self::options::CsvOptions;
use super::{FeedError, Step};
use crate::api::facade::Push;
use crate::config::Config;
use crate::connectors::{
    ConnectorConfig, Kept, KnownPoint, Record, Running, Sink, SinkError, Site, State, Status, Submitted,
    start,
};
use crate::telemetry::Metrics;
use ironloom_types::clock::Timestamp;
use ironloom_types::ids::TenantId;
use ironloom_types::readings::Value;

/// The connector's name; nobody sees it.
const NAME: &str = "feed";

/// The interval at which its status is looked at.
const LOOK: Duration = Duration::from_millis(50);

/// A CSV file that is read record by record.
pub(crate) struct CsvFeed {
    file: String,
    running: Running,
    records: mpsc::UnboundedReceiver<(Record, oneshot::Sender<()>)>,
    /// Kept, since the connector stops without it.
    _stop: watch::Sender<bool>,
    time: Timestamp,
}

impl CsvFeed {
    /// Opens a file with the options of `[connectors.NAME]` as TOML; `path` and `kind` are added. Within a runtime.
    pub(crate) fn open(path: &Path, options: &toml::Table, zone: &str) -> Result<Self, FeedError> {
        let file = path.display().to_string();
        let wrong = |problem: String| FeedError::File(format!("{file}: {problem}"));
        let mut section = options.clone();
        section.insert("kind".to_owned(), "csv".into());
        section.insert("path".to_owned(), file.clone().into());
        // As fast as the app takes it, whatever a server's configuration says.
        section.remove("speed");
        let connectors = toml::Table::from_iter([(NAME.to_owned(), toml::Value::Table(section))]);
        let site = toml::Table::from_iter([("timezone".to_owned(), zone.into())]);
        let whole = toml::Table::from_iter([
            ("site".to_owned(), toml::Value::Table(site)),
            ("connectors".to_owned(), toml::Value::Table(connectors)),
        ]);
        let text = toml::to_string(&whole).map_err(|error| wrong(error.to_string()))?;
        let mut config = Config::read(&text).map_err(|problems| {
            // Its lines are of a text that nobody has written.
            let told: Vec<String> = problems.0.iter().map(|problem| problem.message.clone()).collect();
            wrong(format!("its options are wrong: {}", told.join("; ")))
        })?;
        let Some(config) = config.connectors.remove(NAME) else {
            return Err(wrong("its options make no connector".to_owned()));
        };
        if matches!(&config, ConnectorConfig::Csv(csv) if csv.laps.is_none()) {
            return Err(wrong("`loop` must be a number here, or the feed would never end".to_owned()));
        }
        let (sender, records) = mpsc::unbounded_channel();
        let (stop, shutdown) = watch::channel(false);
        let sink: Arc<dyn Sink> = Arc::new(FeedSink(sender));
        let running =
            start(NAME, config, Site::of_sink(sink), &Kept::default(), &Metrics::default(), shutdown);
        Ok(Self { file, running, records, _stop: stop, time: Timestamp(0) })
    }

    /// The next record that brings readings.
    pub(super) async fn next(&mut self) -> Result<Option<Step>, FeedError> {
        let status = Arc::clone(&self.running.status);
        loop {
            let (record, taken) = tokio::select! {
                biased;
                record = self.records.recv() => match record {
                    Some(record) => record,
                    None => return self.end().map(|()| None),
                },
                error = troubled(&status) => return Err(FeedError::File(self.said(error))),
            };
            let _ = taken.send(());
            if record.columns.is_empty() {
                continue;
            }
            let latest = record.columns.at.iter().max().copied().unwrap_or_default();
            self.time = self.time.max(latest);
            let push = Push {
                tenant: TenantId::MAIN,
                columns: record.columns,
                new_points: record.new_points,
                ..Push::default()
            };
            return Ok(Some(Step { time: self.time, push }));
        }
    }

    /// The number of lines and cells that gave no reading.
    pub(crate) fn skipped(&self) -> u64 {
        self.running.status.show().skipped
    }

    /// Says whether the connector came to the file's end.
    fn end(&self) -> Result<(), FeedError> {
        let status = self.running.status.show();
        if status.state == State::Done { Ok(()) } else { Err(FeedError::File(self.said(status.last_error))) }
    }

    fn said(&self, error: Option<String>) -> String {
        let error = error.unwrap_or_else(|| "it can't be read".to_owned());
        if error.contains(&self.file) { error } else { format!("{}: {error}", self.file) }
    }
}

/// Ready once the connector waits for something to come right by itself, as it does in a server. Returns its error.
async fn troubled(status: &Status) -> Option<String> {
    loop {
        tokio::time::sleep(LOOK).await;
        let shown = status.show();
        if shown.state == State::Waiting {
            return shown.last_error;
        }
    }
}

/// Hands each record to whoever reads the feed. The connector has only a few on their way.
struct FeedSink(mpsc::UnboundedSender<(Record, oneshot::Sender<()>)>);

impl Sink for FeedSink {
    fn submit(&self, _: &str, record: Record) -> Result<Submitted, SinkError> {
        let (taken, is_taken) = oneshot::channel();
        self.0.send((record, taken)).map_err(|_| SinkError::Stopping)?;
        Ok(Box::pin(async move { is_taken.await.map_err(|_| SinkError::Stopping) }))
    }

    fn tick(&self, _: Timestamp) {}

    fn receipt(&self, _: &str) -> Option<Vec<u8>> {
        None
    }

    /// None is known: each record brings the names of its points.
    fn point(&self, _: &str) -> Option<KnownPoint> {
        None
    }

    fn has(&self, _: &str, _: &Value) -> bool {
        false
    }

    fn now(&self) -> Option<Timestamp> {
        None
    }

    fn latest(&self) -> Timestamp {
        Timestamp(i64::MAX as u64)
    }
}
