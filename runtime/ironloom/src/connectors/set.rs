//! All connectors of a node.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use tokio::sync::watch;
use tokio::time::{Instant, timeout_at};

use super::{ConnectorConfig, ConnectorStatus, DeadLetters, Kept, Running, Site, start};
use crate::telemetry::Metrics;

/// The time that connectors have to stop. One may hang in a file system that doesn't answer.
const LAST_RECORDS: Duration = Duration::from_secs(5);

/// The connectors that were started, by name.
#[derive(Default)]
pub(crate) struct Connectors {
    running: BTreeMap<String, Started>,
    /// The memory of all that the configuration has.
    kept: BTreeMap<String, Kept>,
}

/// A connector, with what it was started with.
struct Started {
    config: ConnectorConfig,
    stop: watch::Sender<bool>,
    running: Running,
}

/// Connectors that are to end, because the configuration doesn't have them any more, or others in their place.
#[must_use = "they go on until they are stopped"]
pub(crate) struct Outdated(Vec<Started>);

impl Connectors {
    /// Takes those out that the configuration doesn't have as they are.
    pub(crate) fn outdated(&mut self, configs: &BTreeMap<String, ConnectorConfig>) -> Outdated {
        let is_as_before = |name: &String, started: &mut Started| configs.get(name) != Some(&started.config);
        Outdated(self.running.extract_if(.., is_as_before).map(|(_, started)| started).collect())
    }

    /// Starts those that don't run, within a tokio runtime.
    pub(crate) fn start(
        &mut self,
        configs: &BTreeMap<String, ConnectorConfig>,
        site: &Site,
        metrics: &Metrics,
    ) {
        self.kept.retain(|name, _| configs.contains_key(name));
        for (name, config) in configs {
            let kept = self.kept.entry(name.clone()).or_default();
            self.running.entry(name.clone()).or_insert_with(|| {
                let (stop, shutdown) = watch::channel(false);
                let running = start(name, config.clone(), site.clone(), kept, metrics, shutdown);
                Started { config: config.clone(), stop, running }
            });
        }
    }

    /// Returns their status, in the order of their names.
    pub(crate) fn show(&self) -> Vec<ConnectorStatus> {
        self.running.values().map(|connector| connector.running.status.show()).collect()
    }

    /// Returns the status of one of them.
    pub(crate) fn show_one(&self, name: &str) -> Option<ConnectorStatus> {
        self.running.get(name).map(|connector| connector.running.status.show())
    }

    /// The dead letters of one of them.
    pub(crate) fn dead_letters(&self, name: &str) -> Option<Arc<DeadLetters>> {
        self.kept.get(name).map(|kept| Arc::clone(&kept.letters))
    }

    /// The reasons for which `/readyz` would say no.
    pub(crate) fn reasons(&self) -> Vec<String> {
        let ill = self.running.values().filter(|connector| !connector.running.status.is_well());
        ill.map(|connector| {
            let status = connector.running.status.show();
            let error = status.last_error.map_or(String::new(), |error| format!(": {error}"));
            format!("connector {} is {}{error}", status.name, status.state)
        })
        .collect()
    }

    /// Stops them all.
    pub(crate) async fn stop(self) {
        Outdated(self.running.into_values().collect()).stop().await;
    }
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
    use crate::connectors::Status;

    fn configs(names: &[(&str, &str)]) -> BTreeMap<String, ConnectorConfig> {
        let one = |(name, path): &(&str, &str)| {
            format!(
                "[connectors.{name}]\nkind = \"csv\"\npath = \"{path}\"\nat = \"at\"\n\
                 [connectors.{name}.columns.a]\npoint = \"p\"\ntype = \"real\"\n"
            )
        };
        Config::read(&names.iter().map(one).collect::<String>()).unwrap().connectors
    }

    fn hanging(name: &str, config: ConnectorConfig) -> (Started, watch::Receiver<bool>) {
        let (stop, told) = watch::channel(false);
        let status = Arc::new(Status::new(name, "csv", Arc::default(), &Metrics::default()));
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
        let outdated = connectors.outdated(&configs(&[("a", "a.csv"), ("b", "other.csv"), ("d", "d.csv")]));
        let names: Vec<&str> = outdated.0.iter().map(|started| &*started.running.status.name).collect();
        assert_eq!(names, ["b", "c"]);
        assert_eq!(connectors.running.keys().collect::<Vec<_>>(), ["a"]);
    }
}
