//! What people read: journal, points, outputs, logs, invocations.

use std::borrow::Cow;
use std::collections::HashMap;
use std::sync::Arc;
use std::time::{Duration, Instant};

use super::pages::{Filling, Newest, by_name, fill};
use super::{Node, problems};
use crate::api::facade::{
    Answer, Invocation, LogPage, NumberedQuery, Order, OutputsQuery, Page, PageQuery, PointItem, Problem,
    ReadingItem, ReadingsQuery, Timer,
};
use crate::api::value::JsonValue;
use crate::fold;
use crate::fold::points::LatestValue;
use crate::lanes::Lane;
use crate::records::commit::{self, InvocationKind};
use ironloom_apps::binding::Target;
use ironloom_storage::journal::{Filter, ReadingRow};
use ironloom_types::ids::{Ordinal, PointNumber, PointPath, Sequence, TenantId};
use ironloom_types::readings::Value;
use ironloom_types::text::shorten;

/// The number of readings from its end through which the journal is searched first for the newest of some kind, and at most at once.
const FIRST_STRETCH: u64 = 4_096;
const LAST_STRETCH: u64 = 1 << 20;
/// The time that one request searches the journal; the next page continues.
const PATIENCE: Duration = Duration::from_secs(1);
/// Characters, or bytes, of the latest value that a sample shows.
const SAMPLE: usize = 256;

impl Node {
    /// Reads a tenant's journal back.
    pub(super) fn read_journal(&self, tenant: TenantId, query: &ReadingsQuery) -> Answer<Page<ReadingItem>> {
        let mut filter = Filter::after(query.after).between(query.from, query.to);
        if let Some(path) = &query.point {
            let numbers = self.shared.points.names().numbers_of(path);
            if numbers.is_empty() {
                return Ok(Page { items: Vec::new(), next: None });
            }
            filter = filter.of_points(numbers);
        }
        self.list_readings(tenant, filter, query, |_| true, |_| None)
    }

    /// Readings that pass a filter, from the end that the query names.
    fn list_readings(
        &self,
        tenant: TenantId,
        filter: Filter,
        query: &ReadingsQuery,
        wanted: impl Fn(&ReadingRow<'_>) -> bool,
        entity: impl Fn(PointNumber) -> Option<String>,
    ) -> Answer<Page<ReadingItem>> {
        match query.order {
            Order::Oldest => self.collect(tenant, filter, query.limit, wanted, entity),
            Order::Newest => self.collect_newest(tenant, filter, query, wanted, entity),
        }
    }

    /// A reading as people see it; `None` where its point is gone.
    fn reading_item(
        &self,
        reading: &ReadingRow<'_>,
        entity: impl Fn(PointNumber) -> Option<String>,
    ) -> Option<ReadingItem> {
        let point = self.shared.points.names().path_of_reading(reading.point)?.to_arc();
        Some(ReadingItem {
            point,
            entity: entity(reading.point),
            value: Value::from(reading.value).into(),
            at: reading.at,
            quality: reading.quality,
            sequence: reading.sequence,
            time: reading.time,
        })
    }

    /// The newest readings first. The journal is read forward, so it is searched in stretches from its end back, each
    /// longer than the one before.
    fn collect_newest(
        &self,
        tenant: TenantId,
        mut filter: Filter,
        query: &ReadingsQuery,
        wanted: impl Fn(&ReadingRow<'_>) -> bool,
        entity: impl Fn(PointNumber) -> Option<String>,
    ) -> Answer<Page<ReadingItem>> {
        let mut page = Filling::new(query.limit);
        let (started, mut width) = (Instant::now(), FIRST_STRETCH.max(query.limit as u64));
        // Exclusive.
        let journal = self.shared.journal.of(tenant);
        let mut end = journal.last().next();
        if query.after > Sequence(0) {
            end = end.min(query.after);
        }
        // Older ones are past their retention.
        let first = journal.first().max(Sequence(1));
        while end > first && started.elapsed() < PATIENCE {
            let begin = Sequence(end.0.saturating_sub(width.saturating_add(1)));
            let mut newest = Newest::new(query.limit + 1 - page.items.len());
            filter.after = begin;
            while filter.after.next() < end {
                let found = journal.select(&filter, query.limit + 1);
                let Some(selection) = found.map_err(|error| problems::internal(&error))? else { break };
                let within = selection.readings().filter(|reading| reading.sequence < end);
                for reading in within.filter(&wanted) {
                    newest.extend(self.reading_item(&reading, &entity));
                }
                filter.after = selection.through;
            }
            for item in newest.into_newest_first() {
                if !page.push(item) {
                    let next = page.items.last().map(|last| last.sequence.to_string());
                    return Ok(Page { items: page.items, next });
                }
            }
            end = begin.next();
            width = width.saturating_mul(4).min(LAST_STRETCH);
        }
        let next = (end > first).then(|| end.to_string());
        Ok(Page { items: page.items, next })
    }

    fn collect(
        &self,
        tenant: TenantId,
        mut filter: Filter,
        limit: usize,
        wanted: impl Fn(&ReadingRow<'_>) -> bool,
        entity: impl Fn(PointNumber) -> Option<String>,
    ) -> Answer<Page<ReadingItem>> {
        let mut page = Filling::new(limit);
        let started = Instant::now();
        while started.elapsed() < PATIENCE {
            // One more than fits, which tells that there is another page.
            let found = self.shared.journal.of(tenant).select(&filter, limit + 1);
            let found = found.map_err(|error| problems::internal(&error))?;
            let Some(selection) = found else { return Ok(Page { items: page.items, next: None }) };
            for reading in selection.readings().filter(&wanted) {
                let Some(item) = self.reading_item(&reading, &entity) else { continue };
                if !page.push(item) {
                    let next = page.items.last().map(|last| last.sequence.to_string());
                    return Ok(Page { items: page.items, next });
                }
            }
            filter.after = selection.through;
        }
        Ok(Page { items: page.items, next: Some(filter.after.to_string()) })
    }

    /// A tenant's points by path.
    pub(super) fn list_points(&self, tenant: TenantId, prefix: &str, page: &PageQuery) -> Page<PointItem> {
        let find = |last: Option<&(PointPath, PointNumber)>, most| {
            let after = last.map(|(path, _)| path.as_str()).or(page.after.as_deref());
            self.paths.page(&self.shared.points, tenant, prefix, after, most)
        };
        // A point without a reading has no place on a page.
        let (items, last) = fill(page.limit, find, |(_, number)| self.point_item(*number));
        Page { items, next: last.map(|(path, _)| path.to_string()) }
    }

    /// A point with its latest reading; `None` where it has none.
    pub(super) fn point_item(&self, number: PointNumber) -> Option<PointItem> {
        let (latest, value) = self.shared.points.latest(number)?;
        let value = match value {
            LatestValue::Known(value) => value,
            LatestValue::InJournal => {
                let tenant = self.shared.points.names().point(number)?.path.tenant();
                let chunk = self.shared.journal.of(tenant).chunk_from(latest.sequence).ok()??;
                let row = chunk.row_after(Sequence(latest.sequence.0 - 1));
                let is_there = row < chunk.len() && chunk.sequence(row) == latest.sequence;
                // Its reading may be past the journal's retention.
                if is_there { Value::from(chunk.row(row).value) } else { Value::Missing }
            }
        };
        let names = self.shared.points.names();
        let point = names.point(number)?;
        Some(PointItem {
            point: point.path.to_arc(),
            value: value.into(),
            at: latest.at,
            quality: latest.quality,
            unit: point.unit.clone(),
            sequence: latest.sequence,
        })
    }

    /// A point as people see it who look whether a binding means what they want.
    pub(super) fn sample(&self, number: PointNumber) -> Option<PointItem> {
        let mut item = self.point_item(number)?;
        let cut = match &item.value.0 {
            Value::Text(text) => match shorten(text, SAMPLE) {
                Cow::Borrowed(_) => None,
                Cow::Owned(cut) => Some(Value::Text(cut.into())),
            },
            Value::Blob(blob) if blob.len() > SAMPLE => Some(Value::Blob(blob[..SAMPLE].into())),
            _ => None,
        };
        item.value = cut.map_or(item.value, JsonValue::from);
        Some(item)
    }

    /// Lists the readings of an installation's outputs.
    pub(super) fn list_outputs(&self, lane: &Lane, query: &OutputsQuery) -> Answer<Page<ReadingItem>> {
        let bindings = Arc::clone(&lane.newest().revision.bindings);
        let outputs: Vec<_> = match &query.output {
            None => bindings.outputs.iter().collect(),
            Some(name) => match bindings.output(name.as_str()) {
                Some((_, output)) => vec![output],
                None => {
                    return Err(Problem::not_found(format!("installation {} has no output {name}", lane.id)));
                }
            },
        };
        let mut entities: HashMap<PointNumber, String> = HashMap::new();
        let written = self.paths.written_by(&self.shared.points, outputs.iter().copied()).numbers;
        self.shared.points.each_of(&written, |number, point| {
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
        });
        let filter = Filter::after(query.readings.after)
            .between(query.readings.from, query.readings.to)
            .of_points(entities.keys().copied());
        let own = |reading: &ReadingRow<'_>| reading.origin == lane.generation;
        self.list_readings(lane.id.tenant(), filter, &query.readings, own, |point| {
            entities.get(&point).cloned()
        })
    }

    /// A page of an app's log.
    pub(super) fn read_log(&self, lane: &Lane, query: NumberedQuery) -> Answer<LogPage> {
        let NumberedQuery { after, order, limit } = query;
        let found = match order {
            Order::Oldest => lane.log.page(after, limit),
            Order::Newest => lane.log.newest(after, limit),
        };
        let (lines, mut more) = found.map_err(|error| problems::internal(&error))?;
        let mut page = Filling::new(limit);
        more |= page.extend(lines);
        let next = page.items.last().filter(|_| more).map(|line| line.number.to_string());
        Ok(LogPage { page: Page { items: page.items, next }, generation: lane.installation().begun })
    }

    /// Invocations in the order of their ordinals, or the other way round.
    pub(super) async fn list_invocations(
        &self,
        lane: &Lane,
        query: NumberedQuery,
    ) -> Answer<Page<Invocation>> {
        let NumberedQuery { after, order, limit } = query;
        // Attempts that failed stand under the ordinal of the next invocation.
        let (generation, last, gone) = {
            let book = lane.book();
            (lane.generation, book.meta().ordinal.next(), book.meta().invocations_gone)
        };
        let found = fold::read_aside(&self.shared, move |shared| match order {
            Order::Oldest => {
                let after = gone.max(Ordinal(after.unwrap_or(0)));
                shared.invocations.list(generation, after, last, limit)
            }
            Order::Newest => {
                let before = after.map_or(last.next(), |after| last.next().min(Ordinal(after)));
                shared.invocations.newest(generation, gone, before, limit)
            }
        });
        let (found, mut more) = found.await.map_err(|error| problems::internal(&error))?;
        let mut page = Filling::new(found.len());
        let ordinals: Vec<Ordinal> = found.iter().map(|one| one.ordinal).collect();
        more |= page.extend(found.into_iter().map(show_invocation));
        let mut items = page.items;
        // The next page begins behind an ordinal, so that all of its attempts are on this one.
        if let Some(&cut) = ordinals.get(items.len()) {
            let whole = items.iter().take_while(|one| one.ordinal != cut).count();
            items.truncate(if whole > 0 { whole } else { items.len() });
        }
        let next = items.last().filter(|_| more).map(|last| last.ordinal.to_string());
        Ok(Page { items, next })
    }
}

pub(super) fn show_invocation(invocation: commit::Invocation) -> Invocation {
    let took = invocation.readings > 0;
    let timer = match &invocation.kind {
        InvocationKind::Timer(name) => Some(name.to_string()),
        _ => None,
    };
    let dead_letter = match &invocation.kind {
        InvocationKind::Requeue(number) => Some(*number),
        _ => None,
    };
    Invocation {
        ordinal: invocation.ordinal,
        attempt: invocation.attempt,
        kind: invocation.kind.name().to_owned(),
        timer,
        dead_letter,
        first: took.then_some(invocation.first),
        last: took.then_some(invocation.last),
        time: invocation.time,
        revision: invocation.revision,
        outcome: invocation.outcome.name().to_owned(),
        message: invocation.message.map(String::from),
        digest: (invocation.outcome == commit::OutcomeKind::Ok).then_some(invocation.digest),
    }
}

/// The timers of an installation, by their names.
pub(super) fn list_timers(lane: &Lane, page: &PageQuery) -> Page<Timer> {
    let book = lane.book();
    let timer =
        |name: &str, due, asked| Timer { name: name.to_owned(), due, asked, repeats: asked.is_none() };
    let repeating = book.meta().cron_due.iter().map(|(name, due)| timer(name.as_str(), *due, None));
    let one_shots = book.timers().iter().map(|(name, set)| timer(name, set.due, Some(set.asked)));
    let mut timers: Vec<Timer> = repeating.chain(one_shots).collect();
    timers.sort_unstable_by(|a, b| a.name.cmp(&b.name));
    by_name(page, timers, |timer| timer.name.clone(), |timer| timer)
}
