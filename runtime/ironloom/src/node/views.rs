//! What people read: journal, points, outputs, state, logs, dead letters, invocations.

use std::collections::HashMap;
use std::sync::Arc;
use std::time::{Duration, Instant};

use serde::de::DeserializeOwned;

use super::{Node, problems};
use crate::api::facade::{
    Answer, DeadLetter, Invocation, LogLine, OutputsQuery, Page, PageQuery, PointItem, Problem, ReadingItem,
    ReadingsQuery, StateItem, Value,
};
use crate::fold::points::LatestValue;
use crate::fold::{self, apply::invocation_after};
use crate::lanes::Lane;
use crate::lanes::context::scan_state;
use crate::records::admin::AdminRecord;
use crate::records::commit::{self, DeadValue, InvocationKind};
use ironloom_apps::binding::Target;
use ironloom_sandbox::Scan;
use ironloom_storage::journal::{Chunk, Filter};
use ironloom_storage::store::{Item, Key, KeyRange, Kind, Scope};
use ironloom_types::ids::{Generation, InstallationId, Ordinal, PointNumber, Sequence};

/// How long one request looks through the journal; the rest is the next page's.
const PATIENCE: Duration = Duration::from_secs(1);
/// Bytes of state on one page at most.
const STATE_PAGE: usize = 4 << 20;

impl Node {
    /// Reads the journal back.
    pub(super) fn read_journal(&self, query: &ReadingsQuery) -> Answer<Page<ReadingItem>> {
        let mut filter = Filter::after(query.after).between(query.from, query.to);
        if let Some(path) = &query.point {
            let number = self.shared.points.names().number(path.as_str());
            let number = number.ok_or_else(|| Problem::not_found(format!("there is no point {path}")))?;
            filter = filter.of_points([number]);
        }
        self.collect(filter, query.limit, |_, _| true, |_| None)
    }

    fn collect(
        &self,
        mut filter: Filter,
        limit: usize,
        wanted: impl Fn(&Chunk, usize) -> bool,
        entity: impl Fn(PointNumber) -> Option<String>,
    ) -> Answer<Page<ReadingItem>> {
        let mut items: Vec<ReadingItem> = Vec::new();
        let started = Instant::now();
        while started.elapsed() < PATIENCE {
            let found = self.shared.journal.find(&filter).map_err(|error| problems::internal(&error))?;
            let Some(chunk) = found else { return Ok(Page { items, next: None }) };
            let names = self.shared.points.names();
            for row in filter.rows(&chunk, usize::MAX) {
                if !wanted(&chunk, row) {
                    continue;
                }
                if items.len() == limit {
                    let next = items.last().map(|last| last.sequence.to_string());
                    return Ok(Page { items, next });
                }
                let reading = chunk.row(row);
                let Some(point) = names.point(reading.point) else { continue };
                items.push(ReadingItem {
                    point: point.path.to_arc(),
                    entity: entity(reading.point),
                    value: reading.value.into(),
                    at: reading.at,
                    quality: reading.quality,
                    sequence: reading.sequence,
                    time: reading.time,
                });
            }
            filter.after = Sequence(chunk.next_sequence().0 - 1);
        }
        Ok(Page { items, next: Some(filter.after.to_string()) })
    }

    /// The points by path.
    pub(super) fn list_points(&self, prefix: &str, page: &PageQuery) -> Page<PointItem> {
        let mut found: Vec<(Arc<str>, PointNumber)> = {
            let names = self.shared.points.names();
            let matching = names.iter().filter(|(_, point)| {
                let path = point.path.as_str();
                path.starts_with(prefix) && page.after.as_ref().is_none_or(|after| path > after.as_str())
            });
            matching.map(|(number, point)| (point.path.to_arc(), number)).collect()
        };
        let more = found.len() > page.limit;
        if more {
            found.select_nth_unstable(page.limit);
            found.truncate(page.limit);
        }
        found.sort_unstable();
        let next = found.last().filter(|_| more).map(|(path, _)| path.to_string());
        Page { items: found.into_iter().filter_map(|(_, number)| self.point_item(number)).collect(), next }
    }

    /// A point with its latest reading; `None` where it has none.
    pub(super) fn point_item(&self, number: PointNumber) -> Option<PointItem> {
        let (latest, value) = self.shared.points.latest(number)?;
        let value = match value {
            LatestValue::Missing => Value::Missing,
            LatestValue::Boolean(value) => Value::Boolean(value),
            LatestValue::Integer(value) => Value::Integer(value),
            LatestValue::Real(value) => Value::Real(value),
            LatestValue::Text(text) => Value::Text(text.into()),
            LatestValue::Blob(bytes) => Value::Blob(bytes),
            LatestValue::InJournal => {
                let chunk = self.shared.journal.chunk_from(latest.sequence).ok()??;
                let row = chunk.row_after(Sequence(latest.sequence.0 - 1));
                (row < chunk.len()).then(|| chunk.row(row).value.into())?
            }
        };
        let names = self.shared.points.names();
        let point = names.point(number)?;
        Some(PointItem {
            point: point.path.to_arc(),
            value,
            at: latest.at,
            quality: latest.quality,
            unit: point.unit.clone(),
            sequence: latest.sequence,
        })
    }

    /// What an installation's outputs gave.
    pub(super) fn list_outputs(&self, lane: &Lane, query: &OutputsQuery) -> Answer<Page<ReadingItem>> {
        let outputs: Vec<_> = match &query.output {
            None => lane.revision.bindings.outputs.iter().collect(),
            Some(name) => match lane.revision.bindings.output(name.as_str()) {
                Some((_, output)) => vec![output],
                None => {
                    return Err(Problem::not_found(format!("installation {} has no output {name}", lane.id)));
                }
            },
        };
        let mut entities: HashMap<PointNumber, String> = HashMap::new();
        {
            let names = self.shared.points.names();
            for (number, point) in names.iter() {
                let entity = outputs.iter().find_map(|output| match &output.target {
                    Target::Unbound => None,
                    Target::Default { prefix } => {
                        let rest = point.path.as_str().strip_prefix(prefix.as_str())?;
                        if rest.is_empty() {
                            Some(String::new())
                        } else {
                            rest.strip_prefix('/').map(str::to_owned)
                        }
                    }
                    Target::Pattern { pattern, .. } => pattern.entity(&point.path),
                });
                let asked = query.readings.point.as_ref().is_none_or(|path| *path == point.path);
                if let (Some(entity), true) = (entity, asked) {
                    entities.insert(number, entity);
                }
            }
        }
        let filter = Filter::after(query.readings.after)
            .between(query.readings.from, query.readings.to)
            .of_points(entities.keys().copied());
        let own = |chunk: &Chunk, row: usize| chunk.run(row).origin == lane.generation;
        self.collect(filter, query.readings.limit, own, |point| entities.get(&point).cloned())
    }

    /// A page of an app's state, between two invocations.
    pub(super) async fn read_state(
        &self,
        lane: &Arc<Lane>,
        prefix: &str,
        page: &PageQuery,
    ) -> Answer<Page<StateItem>> {
        let (prefix, after, limit) = (prefix.to_owned(), page.after.clone(), page.limit);
        let turn = self.turn(lane).await;
        let lane = Arc::clone(lane);
        let found = fold::aside(&self.shared, move |shared| {
            let scan = Scan { prefix: &prefix, after: after.as_deref(), limit, max_bytes: STATE_PAGE };
            scan_state(&lane, &*shared.storage, scan)
        });
        let found = found.await;
        drop(turn);
        let found = found.map_err(|error| problems::internal(&error))?;
        let next = found.entries.last().filter(|_| found.more).map(|(key, _)| key.to_string());
        let items = found.entries.into_iter().map(|(key, value)| StateItem { key, value }).collect();
        Ok(Page { items, next })
    }

    /// A page of an app's log.
    pub(super) fn read_log(&self, lane: &Lane, after: Option<u64>, limit: usize) -> Answer<Page<LogLine>> {
        let (lines, more) = lane.log.page(after, limit).map_err(|error| problems::internal(&error))?;
        let next = lines.last().filter(|_| more).map(|line| line.number.to_string());
        let items = lines.into_iter().map(|line| LogLine {
            number: line.number,
            at: line.at,
            level: line.level,
            context: line.context,
            message: line.message,
            ordinal: line.ordinal,
            attempt: line.attempt,
        });
        Ok(Page { items: items.collect(), next })
    }

    async fn scan<T: DeserializeOwned>(
        &self,
        range: &KeyRange,
        after: &Key,
        limit: usize,
    ) -> Answer<(Vec<T>, bool)> {
        let (range, after) = (range.clone(), after.clone());
        let found =
            fold::aside(&self.shared, move |shared| shared.overlay.scan(&range, Some(&after), limit)).await;
        let (entries, more) = found.map_err(|error| problems::internal(&error))?;
        let decode = |(key, bytes): (Key, bytes::Bytes)| {
            postcard::from_bytes(&bytes).map_err(|error| problems::internal(&format!("{key}: {error}")))
        };
        Ok((entries.into_iter().map(decode).collect::<Answer<Vec<T>>>()?, more))
    }

    /// Dead letters with a number above `after`.
    pub(super) async fn list_dead_letters(
        &self,
        lane: &Lane,
        after: u64,
        limit: usize,
    ) -> Answer<Page<DeadLetter>> {
        let range = Scope::MAIN.generation(Kind::DeadLetter, lane.generation);
        let after = Scope::MAIN.key(Item::DeadLetter(lane.generation, after));
        let (letters, more): (Vec<commit::DeadLetter>, bool) = self.scan(&range, &after, limit).await?;
        let next = letters.last().filter(|_| more).map(|letter| letter.number.to_string());
        let names = self.shared.points.names();
        let items = letters.into_iter().map(|letter| {
            let point = names.point(letter.point).map_or_else(|| Arc::from(""), |point| point.path.to_arc());
            let reading = ReadingItem {
                point,
                entity: Some(letter.entity.to_string()),
                value: dead_value(letter.value),
                at: letter.at,
                quality: letter.quality,
                sequence: letter.sequence,
                time: letter.time,
            };
            let reason = letter.reason.to_string();
            DeadLetter {
                number: letter.number,
                reading,
                reason,
                ordinal: letter.ordinal,
                revision: letter.revision,
            }
        });
        Ok(Page { items: items.collect(), next })
    }

    async fn dead_letter_or_404(&self, lane: &Lane, number: u64) -> Answer<()> {
        let generation = lane.generation;
        let letter = fold::aside(&self.shared, move |shared| shared.dead_letter(generation, number))
            .await
            .map_err(|error| problems::internal(&error))?;
        let missing = || Problem::not_found(format!("installation {} has no dead letter {number}", lane.id));
        letter.map(|_| ()).ok_or_else(missing)
    }

    /// Has a dead letter run again, by itself.
    pub(super) async fn requeue_dead_letter(&self, id: &InstallationId, number: u64) -> Answer<()> {
        let lane = self.lane(id)?;
        self.dead_letter_or_404(&lane, number).await?;
        lane.pace.lock().requeue.add(number);
        self.lanes.wake(&lane);
        Ok(())
    }

    /// Deletes a dead letter.
    pub(super) async fn remove_dead_letter(&self, id: &InstallationId, number: u64) -> Answer<()> {
        let _admin = self.admin.lock().await;
        let lane = self.lane(id)?;
        let turn = self.turn(&lane).await;
        self.dead_letter_or_404(&lane, number).await?;
        lane.pace.lock().requeue.forget(number);
        let generation: Generation = lane.generation;
        let kept = lane.book().meta().dead_letters_kept.saturating_sub(1);
        self.change(AdminRecord::DeadLetterDeleted { generation, number, kept }).await?;
        drop(turn);
        Ok(())
    }

    /// Invocations with an ordinal above `after`.
    pub(super) async fn list_invocations(
        &self,
        lane: &Lane,
        after: Ordinal,
        limit: usize,
    ) -> Answer<Page<Invocation>> {
        let range = Scope::MAIN.generation(Kind::Invocation, lane.generation);
        // All attempts of an ordinal on one page, or `after` could not name where the next begins.
        let (mut found, mut more): (Vec<commit::Invocation>, bool) =
            self.scan(&range, &invocation_after(lane.generation, after), limit + 1).await?;
        if found.len() > limit {
            let cut = found[limit].ordinal;
            if found[0].ordinal != cut {
                found.retain(|invocation| invocation.ordinal != cut);
            }
            more = true;
        }
        let next = found.last().filter(|_| more).map(|last| last.ordinal.to_string());
        Ok(Page { items: found.into_iter().map(show_invocation).collect(), next })
    }
}

fn dead_value(value: DeadValue) -> Value {
    match value {
        DeadValue::Missing => Value::Missing,
        DeadValue::Boolean(value) => Value::Boolean(value),
        DeadValue::Integer(value) => Value::Integer(value),
        DeadValue::Real(bits) => Value::Real(f64::from_bits(bits)),
        DeadValue::Text(text) => Value::Text(text),
        DeadValue::Blob(bytes) => Value::Blob(bytes.into()),
    }
}

fn show_invocation(invocation: commit::Invocation) -> Invocation {
    let took = invocation.readings > 0;
    let kind = match invocation.kind {
        InvocationKind::Readings => "readings",
        InvocationKind::Requeue(_) => "requeue",
        InvocationKind::Timer(_) => "timer",
        InvocationKind::Request => "request",
        InvocationKind::Migrate => "migrate",
        InvocationKind::Skip => "skip",
    };
    Invocation {
        ordinal: invocation.ordinal,
        kind: kind.to_owned(),
        first: took.then_some(invocation.first),
        last: took.then_some(invocation.last),
        time: invocation.time,
        revision: invocation.revision,
        outcome: invocation.outcome.name().to_owned(),
        digest: (invocation.outcome == commit::OutcomeKind::Ok).then_some(invocation.digest),
    }
}
