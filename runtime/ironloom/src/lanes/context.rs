//! What an invocation asks its lane for: state from the cache or the store, where outputs go, what stands.

use std::sync::Arc;

use bytes::Bytes;

use super::Lane;
use super::targets::Targets;
use crate::fold::durable::{Durable, Term};
use crate::fold::points::Points;
use crate::records::alarm::AlarmRecord;
use crate::records::installation::Revision;
use crate::records::intent::IntentPlace;
use crate::telemetry::Metrics;
use ironloom_apps::binding::{OutputBinding, ResolveError, unit_fits};
use ironloom_sandbox::{
    AlarmRoom, BoxFuture, Cached, Granted, Holdings, HostFault, Keys, MAX_LOADED_BYTES, MAX_LOADED_KEYS,
    Meter, NotGranted, OutputResolver, PointRoom, ReadError, Scan, SetPoint, StatePage, StateReader, Target,
    UnknownEntity,
};
use ironloom_storage::store::{self, Item, Key, KeyRange, Lookup, StateCache, Storage, StoreError, Ticket};
use ironloom_types::effects::AlarmKey;
use ironloom_types::ids::{IntentId, PointNumber, PointPath};
use ironloom_types::limits::{MAX_POINTS, SOURCE_POINTS};
use ironloom_types::page::{Page, merge_page};
use ironloom_types::readings::NewPoint;

/// Keys that the store is asked for at once: each value may have 256 KiB.
const AT_ONCE: usize = 16;

/// A lane, as the sandbox sees it.
pub(crate) struct LaneContext {
    pub lane: Arc<Lane>,
    /// The revision of the invocation.
    pub term: Arc<Term>,
    /// The store behind its cache.
    pub storage: Arc<dyn Storage>,
    /// The points there are.
    pub points: Arc<Points>,
    pub metrics: Arc<Metrics>,
    /// The one-shot timer that just fires: it is no longer set.
    pub firing: Option<Box<str>>,
}

impl LaneContext {
    fn key(&self, key: &str) -> Key {
        Item::State(self.lane.generation, key).key()
    }

    fn targets<T>(&self, with: impl FnOnce(&mut Targets) -> T) -> T {
        let outputs = self.term.revision.bindings.outputs.len();
        with(self.lane.targets.lock().of(self.term.number(), || Targets::new(outputs)))
    }
}

/// Reads the values of the first of these keys, until they have about [`MAX_LOADED_BYTES`].
fn load_some(storage: &dyn Storage, keys: &[Key]) -> Result<Vec<Option<Bytes>>, StoreError> {
    let (mut found, mut bytes) = (Vec::with_capacity(keys.len()), 0);
    for part in keys.chunks(AT_ONCE) {
        let values = storage.get_many(part)?;
        bytes += values.iter().flatten().map(Bytes::len).sum::<usize>();
        found.extend(values);
        if bytes >= MAX_LOADED_BYTES {
            break;
        }
    }
    Ok(found)
}

/// Reads a page of a lane's state as of its last commit. Waits for the disk.
pub(crate) fn scan_state(
    lane: &Durable,
    storage: &dyn Storage,
    scan: Scan<'_>,
) -> Result<StatePage, HostFault> {
    let mut filling = Filling::new(scan);
    while !filling.step(lane, storage)? {}
    Ok(filling.page)
}

/// A page of a lane's state that is being filled. It is full unless it is the last one, and so the same wherever
/// the entries lie: what is in memory goes before the store's.
struct Filling {
    prefix: Box<str>,
    after: Option<Box<str>>,
    limit: usize,
    max_bytes: usize,
    at_once: usize,
    page: StatePage,
    bytes: usize,
}

impl Filling {
    fn new(scan: Scan<'_>) -> Self {
        Self {
            prefix: scan.prefix.into(),
            after: scan.after.map(Box::from),
            limit: scan.limit.max(1),
            max_bytes: scan.max_bytes,
            at_once: (scan.limit + 1).min(MAX_LOADED_KEYS),
            page: StatePage::default(),
            bytes: 0,
        }
    }

    /// Reads on; returns whether the page is done. One step is short, however many deleted keys there are.
    fn step(&mut self, lane: &Durable, storage: &dyn Storage) -> Result<bool, HostFault> {
        let after = self.after.as_deref();
        let (changes, stored) = {
            // In this order: changes that are folded in between are found in the store.
            let changes = StateCache::changes(&lane.state, &self.prefix, after, self.at_once);
            (changes, lane.state.read().may_be_stored())
        };
        let page = if stored {
            let range = KeyRange::state(lane.generation, &self.prefix);
            let after = after.map(|after| Item::State(lane.generation, after).key());
            let found = storage.scan(&range, after.as_ref(), self.at_once);
            let found = found.map_err(|error| HostFault(error.to_string()))?;
            let entries =
                found.entries.into_iter().filter_map(|(key, value)| Some((key.state_text()?.into(), value)));
            Page { entries: entries.collect(), more: found.more }
        } else {
            Page::default()
        };
        let merged = merge_page(changes, page, self.at_once);
        for (key, value) in merged.entries {
            if self.page.entries.len() >= self.limit || self.bytes >= self.max_bytes {
                self.page.more = true;
                return Ok(true);
            }
            self.bytes += key.len() + value.len();
            self.page.entries.push((key, value));
        }
        // Deleted keys took the place of entries: the next steps are longer.
        (self.after, self.at_once) = (merged.next, MAX_LOADED_KEYS);
        Ok(self.after.is_none())
    }
}

impl StateReader for LaneContext {
    fn cached(&self, keys: &Keys, from: usize, show: &mut dyn FnMut(usize, Cached<'_>) -> bool) {
        let state = self.lane.state.read();
        let mut sought = Vec::with_capacity(store::AT_ONCE.min(keys.len()));
        for begin in (from..keys.len()).step_by(store::AT_ONCE) {
            let end = (begin + store::AT_ONCE).min(keys.len());
            state.seek((begin..end).map(|place| keys.get(place)), &mut sought);
            for (place, sought) in (begin..end).zip(&sought) {
                let cached = match state.at(sought, keys.get(place)) {
                    (Lookup::Value(value), spot) => Cached::Known(Some(value), spot),
                    (Lookup::Absent, spot) => Cached::Known(None, spot),
                    (Lookup::AskStore(_), _) => Cached::Unknown,
                };
                if !show(place, cached) {
                    return;
                }
            }
        }
    }

    fn load<'a>(
        &'a self,
        keys: &'a [Box<str>],
        meter: &'a Meter,
    ) -> BoxFuture<'a, Result<Vec<Option<Bytes>>, ReadError>> {
        Box::pin(async move {
            let mut values: Vec<Option<Bytes>> = vec![None; keys.len()];
            let mut asked: Vec<(usize, Ticket)> = Vec::new();
            {
                let state = self.lane.state.read();
                for (index, key) in keys.iter().enumerate() {
                    match state.get(key) {
                        Lookup::Value(value) => values[index] = Some(Bytes::copy_from_slice(value)),
                        Lookup::Absent => {}
                        Lookup::AskStore(ticket) => asked.push((index, ticket)),
                    }
                }
            }
            if asked.is_empty() {
                return Ok(values);
            }
            self.metrics.state_misses.inc_by(asked.len() as u64);
            let stored: Vec<Key> = asked.iter().map(|(index, _)| self.key(&keys[*index])).collect();
            let storage = Arc::clone(&self.storage);
            let found = meter.aside(move || load_some(&*storage, &stored)).await?;
            let found = found.map_err(|error| HostFault(error.to_string()))?;
            if let Some((first_left, _)) = asked.get(found.len()) {
                values.truncate(*first_left);
            }
            let mut state = self.lane.state.write();
            for ((index, ticket), value) in asked.into_iter().zip(found) {
                state.fill(ticket, &keys[index], value.as_deref());
                values[index] = value;
            }
            Ok(values)
        })
    }

    fn scan<'a>(&'a self, scan: Scan<'a>, meter: &'a Meter) -> BoxFuture<'a, Result<StatePage, ReadError>> {
        Box::pin(async move {
            let mut filling = Filling::new(scan);
            loop {
                let (lane, storage) = (Arc::clone(&self.lane), Arc::clone(&self.storage));
                let step = move || Ok((filling.step(&lane, &*storage)?, filling));
                let done: Result<_, HostFault> = meter.aside(step).await?;
                let (is_done, so_far) = done?;
                if is_done {
                    return Ok(so_far.page);
                }
                filling = so_far;
                meter.breathe().await?;
            }
        })
    }
}

impl OutputResolver for LaneContext {
    fn known(&self, entity: &str, points: &mut Vec<Option<PointNumber>>) {
        self.targets(|targets| targets.of(entity, points));
    }

    fn resolve(&self, output: usize, entity: &str) -> Result<Target, UnknownEntity> {
        let bindings = &self.term.revision.bindings;
        let path =
            bindings.resolve(output as u16, entity).map_err(|error| UnknownEntity(error.to_string()))?;
        let binding = &bindings.outputs[output];
        // Two locks one after the other, never one within the other.
        let Some((number, unit)) = known(&self.points, &path) else {
            return Ok(Target::New(NewPoint { path, unit: binding.unit.clone() }));
        };
        check_unit(binding, &path, unit.as_deref())?;
        self.targets(|targets| targets.note(entity, output, number));
        Ok(Target::Known(number))
    }

    fn room(&self) -> PointRoom {
        let made = self.lane.book().meta().points;
        let limit = self.term.limits.points;
        let site = (MAX_POINTS - SOURCE_POINTS).saturating_sub(self.points.names().count());
        PointRoom { own: limit.saturating_sub(made), limit, site: site as u64 }
    }

    fn set_point(&self, output: usize, asked: SetPoint<'_>) -> Result<Granted, NotGranted> {
        grant(&self.term.revision, output, asked)
    }

    fn intent_id(&self, index: u32) -> IntentId {
        let ordinal = self.lane.book().meta().ordinal.next();
        IntentPlace { generation: self.lane.generation, ordinal, index }.id()
    }
}

/// The set-point that comes of what an app asks for under a revision.
pub(super) fn grant(revision: &Revision, output: usize, asked: SetPoint<'_>) -> Result<Granted, NotGranted> {
    let SetPoint { entity, value, time_to_live } = asked;
    let point = revision.bindings.resolve(output as u16, entity).map_err(|error| match error {
        ResolveError::UnknownOutput | ResolveError::Unbound(_) => NotGranted::Output,
        ResolveError::UnknownEntity { .. } => NotGranted::Entity(error.to_string()),
    })?;
    let name = &revision.bindings.outputs[output].name;
    let grant = revision.grants.outputs.get(name).ok_or(NotGranted::Output)?;
    let value = grant.admit(value).map_err(|_| NotGranted::Value(grant.allow.to_string()))?;
    Ok(Granted { point, value, time_to_live: grant.life(time_to_live) })
}

/// A point that is there, with its unit.
pub(super) fn known(points: &Points, path: &PointPath) -> Option<(PointNumber, Option<Arc<str>>)> {
    let names = points.names();
    let number = names.number(path)?;
    Some((number, names.point(number).and_then(|point| point.unit.clone())))
}

/// A point that came up since the install may be in another unit: whoever reads it would take one for
/// the other.
pub(super) fn check_unit(
    binding: &OutputBinding,
    path: &PointPath,
    unit: Option<&str>,
) -> Result<(), UnknownEntity> {
    let gives = binding.unit.as_deref();
    if unit_fits(unit, gives) {
        return Ok(());
    }
    let (name, has, gives) = (&binding.name, unit.unwrap_or_default(), gives.unwrap_or_default());
    Err(UnknownEntity(format!("the point {path} has the unit {has}, and the output {name} gives {gives}")))
}

impl Holdings for LaneContext {
    fn alarm(&self, key: &AlarmKey) -> Option<usize> {
        let book = self.lane.book();
        book.alarms().get(key).filter(|alarm| alarm.state.stands()).map(AlarmRecord::cost)
    }

    fn alarms(&self) -> AlarmRoom {
        let book = self.lane.book();
        AlarmRoom {
            count: book.meta().alarms_standing as usize,
            bytes: book.standing_alarms_bytes(),
            limit: book.alarms_limit(),
        }
    }

    fn has_timer(&self, name: &str) -> bool {
        self.firing.as_deref() != Some(name) && self.lane.book().timers().contains_key(name)
    }

    fn timers(&self) -> usize {
        self.lane.book().timers().len() - usize::from(self.firing.is_some())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use ironloom_apps::binding::Target;
    use ironloom_apps::manifest::{OutputKind, ValueType};
    use ironloom_types::ids::{SlotName, TenantId};

    #[test]
    fn a_point_that_has_another_unit_by_now_is_not_written() {
        let binding = OutputBinding {
            name: SlotName::new("gain").unwrap(),
            kind: OutputKind::Derived,
            value_type: ValueType::Real,
            unit: Some("kg/d".into()),
            target: Target::Default { prefix: PointPath::new(TenantId::MAIN, "apps/pigs/gain").unwrap() },
        };
        let path = PointPath::new(TenantId::MAIN, "gains/7").unwrap();
        assert!(check_unit(&binding, &path, Some("kg/d")).is_ok());
        assert!(check_unit(&binding, &path, None).is_ok());
        let UnknownEntity(error) = check_unit(&binding, &path, Some("kg")).unwrap_err();
        assert_eq!(error, "the point gains/7 has the unit kg, and the output gain gives kg/d");
    }
}
