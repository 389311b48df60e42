//! All connectors of a node.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use tokio::sync::watch;
use tokio::time::{Instant, timeout_at};

use super::{ConnectorConfig, ConnectorStatus, DeadLetters, Kept, Origin, Running, Site, Status, start};
use crate::telemetry::Metrics;

/// The time that connectors have to stop. One may hang in a file system that doesn't answer.
const LAST_RECORDS: Duration = Duration::from_secs(5);

/// A connector as it is to be.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Wanted {
    /// Its configuration, or a sentence that says why it can't be read.
    pub config: Result<ConnectorConfig, String>,
    pub origin: Origin,
    /// Somebody has stopped it.
    pub stopped: bool,
    /// A note for people about it.
    pub note: Option<String>,
}

impl Wanted {
    /// The configuration that it runs with, if it is to run.
    fn runs(&self) -> Option<&ConnectorConfig> {
        self.config.as_ref().ok().filter(|_| !self.stopped)
    }
}

/// The connectors that are to be there, by name.
#[derive(Default)]
pub(crate) struct Connectors {
    wanted: Arc<BTreeMap<String, Wanted>>,
    running: BTreeMap<String, Started>,
    /// The status of those that don't run.
    resting: BTreeMap<String, Arc<Status>>,
    /// The memory of all of them.
    kept: BTreeMap<String, Kept>,
}

/// A connector, with what it was started with.
struct Started {
    config: ConnectorConfig,
    stop: watch::Sender<bool>,
    running: Running,
}

/// Connectors that are to end, because they aren't wanted any more, or others in their place.
#[must_use = "they go on until they are stopped"]
pub(crate) struct Outdated(Vec<Started>);

impl Connectors {
    /// Takes those out that aren't wanted as they are.
    pub(crate) fn outdated(&mut self, wanted: &BTreeMap<String, Wanted>) -> Outdated {
        let is_other = |name: &String, started: &mut Started| {
            wanted.get(name).and_then(Wanted::runs) != Some(&started.config)
        };
        let outdated: Vec<_> = self.running.extract_if(.., is_other).collect();
        for (name, started) in &outdated {
            // Seen as it is until others are started.
            self.resting.insert(name.clone(), Arc::clone(&started.running.status));
        }
        Outdated(outdated.into_iter().map(|(_, started)| started).collect())
    }

    /// Starts those that are to run and don't, within a tokio runtime.
    pub(crate) fn start(&mut self, wanted: Arc<BTreeMap<String, Wanted>>, site: &Site, metrics: &Metrics) {
        self.kept.retain(|name, _| wanted.contains_key(name));
        self.resting.clear();
        for (name, one) in &*wanted {
            let kept = self.kept.entry(name.clone()).or_default();
            let Some(config) = one.runs() else {
                self.resting.insert(name.clone(), Arc::new(resting(name, one, kept, metrics)));
                continue;
            };
            self.running.entry(name.clone()).or_insert_with(|| {
                let (stop, shutdown) = watch::channel(false);
                let running = start(name, config.clone(), site.clone(), kept, metrics, shutdown);
                Started { config: config.clone(), stop, running }
            });
        }
        self.wanted = wanted;
    }

    /// Returns their status, in the order of their names.
    pub(crate) fn show(&self) -> Vec<ConnectorStatus> {
        self.wanted.keys().filter_map(|name| self.show_one(name)).collect()
    }

    /// Returns the status of one of them.
    pub(crate) fn show_one(&self, name: &str) -> Option<ConnectorStatus> {
        let wanted = self.wanted.get(name)?;
        let running = self.running.get(name).map(|started| &started.running.status);
        let shown = running.or_else(|| self.resting.get(name))?.show();
        let (origin, stopped, note) = (wanted.origin, wanted.stopped, wanted.note.clone());
        Some(ConnectorStatus { origin, stopped, note, ..shown })
    }

    /// The dead letters of one of them.
    pub(crate) fn dead_letters(&self, name: &str) -> Option<Arc<DeadLetters>> {
        self.kept.get(name).map(|kept| Arc::clone(&kept.letters))
    }

    /// The reasons for which `/readyz` would say no. One that somebody has stopped is as it should be.
    pub(crate) fn reasons(&self) -> Vec<String> {
        let wanted = self.wanted.iter().filter(|(_, wanted)| !wanted.stopped);
        let status = |name| {
            let running = self.running.get(name).map(|started| &started.running.status);
            running.or_else(|| self.resting.get(name))
        };
        let all = wanted.filter_map(|(name, _)| status(name)).map(|status| status.show());
        all.filter_map(|status| {
            let (part, state, error) = status.worst();
            let of = part.name().map_or(String::new(), |part| format!(" ({part})"));
            let error = error.map_or(String::new(), |error| format!(": {error}"));
            (!state.is_well()).then(|| format!("connector {}{of} is {}{error}", status.name, state.name()))
        })
        .collect()
    }

    /// Stops them all.
    pub(crate) async fn stop(self) {
        Outdated(self.running.into_values().collect()).stop().await;
    }
}

/// The status of one that doesn't run.
fn resting(name: &str, wanted: &Wanted, kept: &Kept, metrics: &Metrics) -> Status {
    let kind = wanted.config.as_ref().map_or("unknown", ConnectorConfig::kind);
    let status = Status::new(name, kind, kept, metrics);
    status.rest(wanted.config.as_ref().err().map(String::as_str));
    status
}

impl Outdated {
    /// Stops them and waits until each has ended, at most [`LAST_RECORDS`].
    pub(crate) async fn stop(self) {
        for connector in &self.0 {
            connector.stop.send_replace(true);
        }
        let until = Instant::now() + LAST_RECORDS;
        for Started { mut running, .. } in self.0 {
            // One that panicked has ended as well.
            if timeout_at(until, &mut running.task).await.is_err() {
                running.task.abort();
                // From then on it hands nothing over.
                let _ = running.task.await;
                tracing::warn!(
                    connector = running.status.name,
                    "didn't stop within 5 s, and is left behind: does its file system answer? When it is started again, \
                     it goes on after its last durable record"
                );
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::Config;
    use crate::connectors::{KnownPoint, Record, Sink, SinkError, Submitted};
    use ironloom_types::clock::Timestamp;
    use ironloom_types::readings::Value;

    fn configs(names: &[(&str, &str)]) -> BTreeMap<String, ConnectorConfig> {
        let one = |(name, path): &(&str, &str)| {
            format!(
                "[connectors.{name}]\nkind = \"csv\"\npath = \"{path}\"\nat = \"at\"\n\
                 [connectors.{name}.columns.a]\npoint = \"p\"\ntype = \"real\"\n"
            )
        };
        Config::read(&names.iter().map(one).collect::<String>()).unwrap().connectors
    }

    fn wanted(configs: BTreeMap<String, ConnectorConfig>, stopped: &[&str]) -> BTreeMap<String, Wanted> {
        let one = |(name, config): (String, ConnectorConfig)| {
            let stopped = stopped.contains(&&*name);
            (name, Wanted { config: Ok(config), origin: Origin::File, stopped, note: None })
        };
        configs.into_iter().map(one).collect()
    }

    /// Nothing comes there.
    struct Nowhere;

    impl Sink for Nowhere {
        fn submit(&self, _: &str, _: Record) -> Result<Submitted, SinkError> {
            Err(SinkError::Stopping)
        }

        fn tick(&self, _: Timestamp) {}

        fn receipt(&self, _: &str) -> Option<Vec<u8>> {
            None
        }

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
            Timestamp(0)
        }
    }

    fn hanging(name: &str, config: ConnectorConfig) -> (Started, watch::Receiver<bool>) {
        let (stop, told) = watch::channel(false);
        let status = Arc::new(Status::new(name, "csv", &Kept::default(), &Metrics::default()));
        let running = Running { status, task: tokio::spawn(std::future::pending()) };
        (Started { config, stop, running }, told)
    }

    #[tokio::test(start_paused = true)]
    async fn a_connector_that_hangs_is_left_behind_after_a_while() {
        let configs = configs(&[("a", "a.csv"), ("b", "b.csv")]);
        let (mut connectors, mut tasks, mut all) = (Connectors::default(), Vec::new(), Vec::new());
        for (name, config) in &configs {
            let (started, told) = hanging(name, config.clone());
            tasks.push(started.running.task.abort_handle());
            all.push(told);
            connectors.running.insert(name.clone(), started);
        }
        let begun = Instant::now();
        connectors.stop().await;
        // Together, not one after the other.
        assert_eq!(begun.elapsed(), LAST_RECORDS);
        assert!(all.iter_mut().all(|told| *told.borrow_and_update()));
        assert!(tasks.iter().all(tokio::task::AbortHandle::is_finished));
    }

    #[tokio::test(start_paused = true)]
    async fn only_what_the_configuration_has_otherwise_ends() {
        let mut connectors = Connectors::default();
        for (name, config) in configs(&[("a", "a.csv"), ("b", "b.csv"), ("c", "c.csv")]) {
            let (started, _) = hanging(&name, config);
            connectors.running.insert(name, started);
        }
        let now = configs(&[("a", "a.csv"), ("b", "other.csv"), ("d", "d.csv")]);
        let outdated = connectors.outdated(&wanted(now.clone(), &[]));
        let names: Vec<&str> = outdated.0.iter().map(|started| &*started.running.status.name).collect();
        assert_eq!(names, ["b", "c"]);
        assert_eq!(connectors.running.keys().collect::<Vec<_>>(), ["a"]);
        // One that somebody stops ends as well.
        let outdated = connectors.outdated(&wanted(now, &["a"]));
        assert_eq!((outdated.0.len(), connectors.running.len()), (1, 0));
    }

    #[tokio::test]
    async fn one_that_rests_is_shown_and_no_reason_to_be_unready() {
        let mut connectors = Connectors::default();
        let mut all = wanted(configs(&[("a", "a.csv")]), &["a"]);
        let broken = Wanted { config: Err("kind: is missing".to_owned()), ..all["a"].clone() };
        all.insert("b".to_owned(), Wanted { stopped: false, origin: Origin::Api, ..broken });
        let sink: Arc<dyn Sink> = Arc::new(Nowhere);
        connectors.start(Arc::new(all), &Site::of_sink(sink), &Metrics::default());
        let shown: Vec<_> = connectors
            .show()
            .into_iter()
            .map(|one| (one.name, one.kind, one.state, one.stopped, one.last_error))
            .collect();
        let shown: Vec<_> = shown
            .iter()
            .map(|(name, kind, state, stopped, error)| {
                (&**name, &**kind, state.name(), *stopped, error.as_deref())
            })
            .collect();
        assert_eq!(
            shown,
            [
                ("a", "csv", "stopped", true, None),
                ("b", "unknown", "stopped", false, Some("kind: is missing"))
            ]
        );
        assert_eq!(connectors.reasons(), ["connector b is stopped: kind: is missing"]);
    }
}
