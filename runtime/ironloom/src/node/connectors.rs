//! Connectors as people see them.

mod deeds;
mod wanted;

use std::sync::Arc;

pub(super) use self::wanted::overridden;
use super::pages::Filling;
use super::{Node, stopping};
use crate::api::facade::{Answer, ConnectorDeadLetter, ConnectorStatus, NumberedQuery, Order, Page, Problem};
use crate::connectors::{DeadLetter, DeadLetters, Origin, State};
use crate::telemetry::{OfConnector, PassedOver};

impl Node {
    /// All of them; none once the server stops.
    pub(super) fn show_connectors(&self) -> Vec<ConnectorStatus> {
        self.connectors.lock().as_ref().map(|connectors| connectors.show()).unwrap_or_default()
    }

    /// One of them, with its keys where they came over the API.
    pub(super) fn show_connector(&self, name: &str) -> Answer<ConnectorStatus> {
        let found = self.connectors.lock().as_ref().ok_or_else(stopping)?.show_one(name);
        let status = found.ok_or_else(|| no_connector(name))?;
        if status.origin == Origin::File {
            return Ok(status);
        }
        let table = self.shared.connectors.read().get(name).and_then(|of_log| of_log.table.clone());
        // It was written from one.
        let table = table.and_then(|table| serde_json::from_str(&table).ok());
        Ok(ConnectorStatus { table, ..status })
    }

    /// Its dead letters in the order of their numbers, or the other way round.
    pub(super) fn list_connector_dead_letters(
        &self,
        name: &str,
        query: NumberedQuery,
    ) -> Answer<Page<ConnectorDeadLetter>> {
        let letters: Arc<DeadLetters> = {
            let connectors = self.connectors.lock();
            let found = connectors.as_ref().ok_or_else(stopping)?.dead_letters(name);
            found.ok_or_else(|| no_connector(name))?
        };
        let NumberedQuery { after, order, limit } = query;
        // One more tells that there are more.
        let most = limit.saturating_add(1);
        let found = match order {
            Order::Oldest => letters.after(after.unwrap_or(0), most),
            Order::Newest => letters.before(after, most),
        };
        let mut page = Filling::new(limit);
        let more = page.extend(found.into_iter().map(shown));
        let next = page.items.last().filter(|_| more).map(|letter| letter.number.to_string());
        Ok(Page { items: page.items, next })
    }

    pub(super) fn show_connector_figures(&self) {
        let figures = &self.telemetry.metrics.figures;
        figures.clear();
        for status in &self.show_connectors() {
            let label = OfConnector { connector: status.name.clone() };
            let (_, state, _) = status.worst();
            let up = matches!(state, State::Running | State::Done);
            figures.connector_up.get_or_create(&label).set(i64::from(up));
            figures.connector_readings.get_or_create(&label).set(status.readings as i64);
            for (reason, count) in &status.passed_over {
                let label = PassedOver { connector: status.name.clone(), reason: reason.clone() };
                figures.passed_over.get_or_create(&label).inc_by(*count);
            }
            if let Some(publish) = &status.publish {
                let all = &figures.broker;
                for (family, count) in [
                    (&all.published, publish.acknowledged),
                    (&all.publish_refused, publish.refused),
                    (&all.publish_missed, publish.missed),
                    (&all.publish_behind, publish.behind),
                ] {
                    family.get_or_create(&label).set(count as i64);
                }
            }
            let Some(broker) = &status.broker else { continue };
            figures.connector_dead_letters.get_or_create(&label).set(status.dead_letters as i64);
            let all = &figures.broker;
            all.connected.get_or_create(&label).set(i64::from(broker.connected_since.is_some()));
            for (family, count) in [
                (&all.reconnects, broker.reconnects),
                (&all.received, broker.messages_received),
                (&all.acknowledged, broker.messages_acknowledged),
                (&all.duplicates, broker.duplicates),
                (&all.unacknowledged, broker.unacknowledged),
                (&all.passed_over, broker.retained_passed_over),
            ] {
                family.get_or_create(&label).set(count as i64);
            }
            all.oldest.get_or_create(&label).set(broker.oldest_unacknowledged_seconds.unwrap_or(0.0));
        }
    }
}

fn no_connector(name: &str) -> Problem {
    Problem::not_found(format!("there is no connector {name}"))
}

fn shown(letter: DeadLetter) -> ConnectorDeadLetter {
    let DeadLetter { number, time, topic, payload, bytes, reason } = letter;
    ConnectorDeadLetter { number, time, topic, payload: payload.into(), bytes, reason }
}
