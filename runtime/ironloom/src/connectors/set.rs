//! All connectors of a node.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use tokio::sync::watch;
use tokio::time::{Instant, timeout_at};

use super::{ConnectorConfig, ConnectorStatus, Running, Sink, start};
use crate::telemetry::Metrics;

/// The time that connectors have to stop. One may hang in a file system that doesn't answer.
const LAST_RECORDS: Duration = Duration::from_secs(5);

/// The connectors that were started.
#[derive(Debug)]
pub(crate) struct Connectors {
    stop: watch::Sender<bool>,
    running: Vec<Running>,
}

impl Connectors {
    /// Starts them all, within a tokio runtime.
    pub(crate) fn start(
        configs: &BTreeMap<String, ConnectorConfig>,
        sink: &Arc<dyn Sink>,
        metrics: &Metrics,
    ) -> Self {
        let (stop, shutdown) = watch::channel(false);
        let each = |(name, config): (&String, &ConnectorConfig)| {
            start(name, config.clone(), Arc::clone(sink), metrics, shutdown.clone())
        };
        Self { stop, running: configs.iter().map(each).collect() }
    }

    /// Returns their status, in the order of their names.
    pub(crate) fn show(&self) -> Vec<ConnectorStatus> {
        self.running.iter().map(|connector| connector.status.show()).collect()
    }

    /// The reasons for which `/readyz` would say no.
    pub(crate) fn reasons(&self) -> Vec<String> {
        let ill = self.running.iter().filter(|connector| !connector.status.is_well());
        ill.map(|connector| {
            let status = connector.status.show();
            let error = status.last_error.map_or(String::new(), |error| format!(": {error}"));
            format!("connector {} is {}{error}", status.name, status.state)
        })
        .collect()
    }

    /// Stops them and waits until each has ended, at most [`LAST_RECORDS`].
    pub(crate) async fn stop(self) {
        self.stop.send_replace(true);
        let until = Instant::now() + LAST_RECORDS;
        for mut connector in self.running {
            // One that panicked has ended as well.
            if timeout_at(until, &mut connector.task).await.is_err() {
                connector.task.abort();
                tracing::warn!(
                    connector = connector.status.name,
                    "didn't stop within 5 s, and is left behind: does its file system answer? After a restart it \
                     goes on after its last durable record"
                );
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::connectors::Status;

    #[tokio::test(start_paused = true)]
    async fn a_connector_that_hangs_is_left_behind_after_a_while() {
        let running = ["a", "b"].map(|name| Running {
            status: Arc::new(Status::new(name, "csv", &Metrics::default())),
            task: tokio::spawn(std::future::pending()),
        });
        let tasks = running.each_ref().map(|connector| connector.task.abort_handle());
        let (stop, mut told) = watch::channel(false);
        let begun = Instant::now();
        Connectors { stop, running: running.into() }.stop().await;
        // Together, not one after the other.
        assert_eq!(begun.elapsed(), LAST_RECORDS);
        assert!(*told.borrow_and_update());
        tokio::task::yield_now().await;
        assert!(tasks.iter().all(tokio::task::AbortHandle::is_finished));
    }
}
