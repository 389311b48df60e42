//! Adding, changing, stopping, starting and removing connectors. Each deed is a record, and acts once that is durable.
//!
//! Whoever does one holds `Node::source`, as a reload does: so what the file has stays what it is, and connectors end and begin
//! one deed after the other.

use std::collections::BTreeMap;
use std::path::Path;
use std::sync::Arc;

use super::no_connector;
use super::wanted::{Surroundings, wanted};
use crate::api::facade::{Answer, ConnectorStatus, ConnectorTable, Place, Problem};
use crate::config::{Config, Source};
use crate::connectors::{ConnectorConfig, Site, Wanted, check_name, conflicts};
use crate::node::drive::NodeCommands;
use crate::node::outgoing::NodeOutgoing;
use crate::node::sink::NodeSink;
use crate::node::{Node, WantedConnectors, problems, stopping};
use crate::records::admin::AdminRecord;
use crate::records::connector::{ConnectorRecord, MAX_TABLE, MOST_CONNECTORS};
use ironloom_apps::problem::Problems;

impl Node {
    /// Adds a connector, or changes one that was added; `true` where there was none. One that is stopped stays so.
    pub(in crate::node) async fn set_connector(
        self: Arc<Self>,
        name: String,
        table: ConnectorTable,
    ) -> Answer<(ConnectorStatus, bool)> {
        self.check_space()?;
        check_name(&name).map_err(|problem| {
            Problem::refused("configuration", format!("{name:?} {problem}")).at(Place::field("name"))
        })?;
        let text: Box<str> = table.to_json().into();
        if text.len() > MAX_TABLE {
            let detail =
                format!("the keys of a connector take {} bytes; at most {MAX_TABLE} are taken", text.len());
            return Err(Problem::too_large(detail));
        }
        let source = self.source.lock().await;
        let config = self.config.load_full();
        if config.connectors.contains_key(&name) {
            return Err(of_file(&name, &source));
        }
        let read = ConnectorConfig::of_table(&table, &config.site.zone(), source.folder());
        let read = read.map_err(|problems| not_as_given(&name, &problems))?;
        self.check_conflicts(&name, read)?;
        let before = self.logged(&name).filter(|before| before.table.is_some());
        let stopped = before.as_ref().is_some_and(|before| before.stopped);
        let record = ConnectorRecord { name: name.as_str().into(), table: Some(text), stopped };
        if before.as_ref() != Some(&record) {
            self.write_connector(record).await?;
        }
        self.fit_connectors(&source).await?;
        Ok((self.show_connector(&name)?, before.is_none()))
    }

    /// Removes a connector that was added, with the place that it had come to. Where the file has its name by now, only the keys
    /// that were added go: the file's connector and its stop stay.
    pub(in crate::node) async fn remove_connector(self: Arc<Self>, name: String) -> Answer<()> {
        let source = self.source.lock().await;
        let is_of_file = self.config.load().connectors.contains_key(&name);
        let before = self.logged(&name).filter(|before| before.table.is_some());
        let Some(before) = before else {
            return Err(if is_of_file { of_file(&name, &source) } else { no_connector(&name) });
        };
        let removed = if is_of_file {
            self.write_connector(ConnectorRecord { table: None, ..before }).await
        } else {
            // First it ends: a record of its own that came later would bring its place back.
            let mut others = BTreeMap::clone(&self.wanted.load());
            others.remove(&name);
            self.end_connectors(&others).await?;
            self.change(AdminRecord::ConnectorRemoved { name: name.into() }).await
        };
        // Also where that failed: then it goes on.
        self.fit_connectors(&source).await?;
        removed
    }

    /// Stops a connector, or starts it again, also one of the file. It stays so over a restart.
    pub(in crate::node) async fn stop_connector(
        self: Arc<Self>,
        name: String,
        stopped: bool,
    ) -> Answer<ConnectorStatus> {
        let source = self.source.lock().await;
        // 404 where there is none.
        self.show_connector(&name)?;
        let before = self.logged(&name);
        let table = before.as_ref().and_then(|before| before.table.clone());
        if before.as_ref().is_some_and(|before| before.stopped) != stopped {
            let record = ConnectorRecord { name: name.as_str().into(), table, stopped };
            self.write_connector(record).await?;
        }
        self.fit_connectors(&source).await?;
        self.show_connector(&name)
    }

    /// Refuses a connector that would be in the way of another one.
    fn check_conflicts(&self, name: &str, config: ConnectorConfig) -> Answer<()> {
        let wanted = self.wanted.load();
        let all = wanted.iter().filter_map(|(name, one)| Some((name.clone(), one.config.clone().ok()?)));
        let mut all: BTreeMap<String, ConnectorConfig> = all.collect();
        let before = conflicts(&all);
        all.insert(name.to_owned(), config);
        match conflicts(&all).into_iter().find(|found| !before.contains(found)) {
            Some((_, words)) => Err(Problem::refused("configuration", words)),
            None => Ok(()),
        }
    }

    /// Returns all that the log has of a name.
    fn logged(&self, name: &str) -> Option<ConnectorRecord> {
        self.shared.connectors.read().get(name).cloned()
    }

    async fn write_connector(&self, record: ConnectorRecord) -> Answer<()> {
        let is_one_too_many = {
            let all = self.shared.connectors.read();
            all.len() >= MOST_CONNECTORS && !all.contains_key(&record.name)
        };
        if is_one_too_many {
            let detail =
                format!("the log has something of {MOST_CONNECTORS} connectors, and that is the most");
            return Err(Problem::refused("too-many-connectors", detail)
                .hint("Remove one, or write this one into the configuration file."));
        }
        self.change(AdminRecord::ConnectorSet(Box::new(record))).await
    }

    /// The connectors that are to be there with a configuration.
    pub(in crate::node) fn wanted_connectors(&self, config: &Config, folder: &Path) -> WantedConnectors {
        let zone = config.site.zone();
        let all =
            wanted(&config.connectors, &self.shared.connectors.read(), &Surroundings { zone: &zone, folder });
        let before = self.wanted.load();
        for (name, one) in &all {
            let before = before.get(name);
            if let Some(note) =
                one.note.as_ref().filter(|_| before.is_none_or(|before| before.note != one.note))
            {
                tracing::warn!(connector = name, "{note}");
            }
            if let Err(error) = &one.config
                && before.is_none_or(|before| before.config != one.config)
            {
                tracing::warn!(connector = name, "{error}");
            }
        }
        Arc::new(all)
    }

    /// Ends connectors that aren't wanted any more, or others in their place, and begins those that are missing.
    async fn fit_connectors(self: &Arc<Self>, source: &Source) -> Answer<()> {
        let wanted = self.wanted_connectors(&self.config.load(), source.folder());
        self.replace_connectors(wanted).await
    }

    /// The same, as soon as it is known which are to be there. Fails only before anything has ended.
    pub(in crate::node) async fn replace_connectors(
        self: &Arc<Self>,
        wanted: WantedConnectors,
    ) -> Answer<()> {
        self.end_connectors(&wanted).await?;
        self.wanted.store(wanted);
        self.start_connectors();
        Ok(())
    }

    /// Ends connectors that aren't wanted as they are, and waits until all that they handed over is applied.
    async fn end_connectors(&self, wanted: &BTreeMap<String, Wanted>) -> Answer<()> {
        let outdated = match &mut *self.connectors.lock() {
            Some(connectors) => connectors.outdated(wanted),
            None => return Err(stopping()),
        };
        outdated.stop().await;
        // One that was left behind may have readings on their way to the log: the next one of its name begins behind them.
        // Without a committer none is taken, neither before nor after.
        let _ = self.pass().await;
        Ok(())
    }

    /// Starts the connectors that are to run and don't, within a tokio runtime; none where the server stops.
    pub(in crate::node) fn start_connectors(self: &Arc<Self>) {
        let sink = Arc::new(NodeSink(Arc::clone(self)));
        let commands = Arc::new(NodeCommands(Arc::clone(&self.shared)));
        let outgoing = Arc::new(NodeOutgoing(Arc::clone(self)));
        let site = Site { sink, commands, outgoing };
        let wanted = self.wanted.load_full();
        if let Some(connectors) = &mut *self.connectors.lock() {
            connectors.start(Arc::clone(&wanted), &site, &self.telemetry.metrics);
        }
        self.route_set_points(wanted);
    }
}

/// 409: the file has it.
fn of_file(name: &str, source: &Source) -> Problem {
    let file = source.file.as_ref().map_or_else(String::new, |file| format!(" {}", file.display()));
    let detail = format!("connector {name} stands in the configuration file{file}, which says what it is");
    Problem::conflict("of-file", detail)
        .hint("Change it there, and give `ironloom reload`. Stop and start work from here as well.")
}

/// 422, with all that is wrong.
fn not_as_given(name: &str, found: &Problems) -> Problem {
    problems::all("configuration", &format!("connector {name} can't be as given"), found)
}
