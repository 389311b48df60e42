//! The journal, and the changes of alarms, as connectors take them out.

use std::sync::Arc;

use super::sink::{of_not_taken, of_refusal};
use super::{Node, alarms};
use crate::connectors::{Looked, OutAlarm, OutReading, Outgoing, SinkError, Submitted, TENANT};
use crate::fold::alarm_news::{AlarmNews, NewsPlace};
use crate::fold::journal::JournalError;
use crate::records::alarm::AlarmRecord;
use crate::records::readings::{ReadingsHead, Receipt};
use ironloom_storage::journal::{Chunk, Filter};
use ironloom_types::ids::Sequence;
use ironloom_types::limits::MAX_ALARM_NEWS;
use ironloom_types::readings::{Columns, Published};

/// Rows that are looked at without giving way to the fold, which adds names.
const ROWS_AT_ONCE: usize = 256;

pub(super) struct NodeOutgoing(pub Arc<Node>);

impl NodeOutgoing {
    /// Hands rows out until no more are wanted. Returns the last sequence that was looked at.
    fn hand_out(
        &self,
        chunk: &Chunk,
        after: Sequence,
        take: &mut dyn FnMut(&OutReading<'_>) -> bool,
    ) -> Sequence {
        let rows: Vec<usize> = (chunk.row_after(after)..chunk.len()).collect();
        for rows in rows.chunks(ROWS_AT_ONCE) {
            let names = self.0.shared.points.names();
            for &row in rows {
                let number = chunk.columns.points[row];
                let Some(path) = names.path_of_reading(number).filter(|path| path.is_reserved()) else {
                    continue;
                };
                let unit = names.unit_ever(number);
                let reading = OutReading {
                    sequence: chunk.sequence(row),
                    path,
                    unit: unit.as_deref(),
                    at: chunk.columns.at[row],
                    quality: chunk.columns.quality(row),
                    value: chunk.columns.value(row),
                };
                if !take(&reading) {
                    return reading.sequence;
                }
            }
        }
        chunk.last_sequence()
    }

    fn alarm(&self, news: &AlarmNews, alarm: &AlarmRecord) -> Result<OutAlarm, String> {
        let shown = alarms::show(&news.installation, news.generation, alarm, self.0.shared.clock.now());
        let json = serde_json::to_vec(&shown).map_err(|error| error.to_string())?;
        let mut path = format!("alarms/{}/{}", news.installation, alarm.code);
        if !alarm.entity.is_empty() {
            path.push('/');
            path.push_str(&alarm.entity);
        }
        Ok(OutAlarm { change: news.number, path, json })
    }
}

impl Outgoing for NodeOutgoing {
    fn last(&self) -> Published {
        let shared = &self.0.shared;
        Published { readings: shared.journal.of(TENANT).last(), alarms: shared.alarm_news.last() }
    }

    fn read(&self, after: Sequence, take: &mut dyn FnMut(&OutReading<'_>) -> bool) -> Result<Looked, String> {
        let journal = self.0.shared.journal.of(TENANT);
        let kept = Sequence(journal.first().0.saturating_sub(1)).max(after);
        let missed = kept.0 - after.0;
        match journal.find(&Filter::after(kept)) {
            Ok(Some(chunk)) => Ok(Looked { through: self.hand_out(&chunk, kept, take).0, missed }),
            Ok(None) => Ok(Looked { through: kept.0, missed }),
            Err(JournalError::Block(error)) => {
                let behind = journal.behind_block(kept.next());
                tracing::warn!(%error, from = %kept.next(), to = %behind, "readings that can't be read aren't published");
                Ok(Looked { through: behind.0 - 1, missed: behind.0 - 1 - after.0 })
            }
            Err(error) => Err(error.to_string()),
        }
    }

    fn read_alarms(&self, after: u64, take: &mut dyn FnMut(OutAlarm) -> bool) -> Result<Looked, String> {
        let shared = &self.0.shared;
        let kept = shared.alarm_news.last().saturating_sub(MAX_ALARM_NEWS).max(after);
        let mut looked = Looked { through: kept, missed: kept - after };
        for change in kept + 1..=shared.alarm_news.last() {
            match shared.alarm_change(change)? {
                NewsPlace::NotYet => break,
                NewsPlace::Gone => looked.missed += 1,
                // Another tenant's is none of theirs.
                NewsPlace::Here(news) if news.installation.tenant() != TENANT => {}
                NewsPlace::Here(news) => match shared.changed_alarm(&news)? {
                    None => looked.missed += 1,
                    Some(alarm) => {
                        looked.through = change;
                        if !take(self.alarm(&news, &alarm)?) {
                            break;
                        }
                    }
                },
            }
            looked.through = change;
        }
        Ok(looked)
    }

    fn published(&self, connector: &str) -> Result<Option<Published>, String> {
        self.0.shared.published(connector)
    }

    fn publish_through(&self, connector: &str, through: Published) -> Result<Submitted, SinkError> {
        let receipt = Receipt::Published { name: connector.into(), through };
        let head = ReadingsHead { receipt: Some(receipt), idempotency: None };
        let durable = self.0.hand_over(TENANT, head, Vec::new(), Columns::default()).map_err(of_refusal)?;
        Ok(Box::pin(async move { durable.await.map(drop).map_err(of_not_taken) }))
    }
}
