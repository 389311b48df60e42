//! All connectors of a node.

use std::collections::BTreeMap;
use std::sync::Arc;

use tokio::sync::watch;

use super::{ConnectorConfig, ConnectorStatus, Running, Sink, start};
use crate::telemetry::Metrics;

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

    /// Stops them and waits until each has ended.
    pub(crate) async fn stop(self) {
        self.stop.send_replace(true);
        for connector in self.running {
            // One that panicked has ended as well.
            let _ = connector.task.await;
        }
    }
}
