//! The surroundings of an invocation in a replay: all of them are the replica's.

use std::sync::Arc;

use bytes::Bytes;

use super::Shared;
use crate::fold::points::Points;
use crate::lanes::context::{check_unit, grant, known};
use crate::records::installation::Revision;
use crate::records::intent::IntentPlace;
use ironloom_sandbox::{
    AlarmRoom, BoxFuture, Cached, Granted, Holdings, Keys, Meter, NotGranted, OutputResolver, PointRoom,
    ReadError, Scan, SetPoint, StatePage, StateReader, Target, UnknownEntity,
};
use ironloom_types::changes::Spot;
use ironloom_types::effects::AlarmKey;
use ironloom_types::ids::{Generation, IntentId, Ordinal};
use ironloom_types::limits::MAX_ALARMS_BYTES;
use ironloom_types::page::Page;
use ironloom_types::readings::NewPoint;

/// A replica as the sandbox sees it.
pub(in crate::lanes) struct Surroundings {
    pub replica: Shared,
    pub revision: Arc<Revision>,
    pub points: Arc<Points>,
    /// The invocation that runs again.
    pub of: (Generation, Ordinal),
    /// The points that the installation has made by now.
    pub made: u64,
    /// The one-shot timer that just fires: it is no longer set.
    pub firing: Option<Box<str>>,
}

impl StateReader for Surroundings {
    fn cached(&self, keys: &Keys, from: usize, show: &mut dyn FnMut(usize, Cached<'_>) -> bool) {
        let replica = self.replica.read();
        for place in from..keys.len() {
            let value = replica.state.get(keys.get(place)).map(|value| &**value);
            if !show(place, Cached::Known(value, Spot::NONE)) {
                return;
            }
        }
    }

    fn load<'a>(
        &'a self,
        keys: &'a [Box<str>],
        _: &'a Meter,
    ) -> BoxFuture<'a, Result<Vec<Option<Bytes>>, ReadError>> {
        Box::pin(async move {
            let replica = self.replica.read();
            Ok(keys.iter().map(|key| replica.state.get(key).cloned()).collect())
        })
    }

    fn scan<'a>(&'a self, scan: Scan<'a>, _: &'a Meter) -> BoxFuture<'a, Result<StatePage, ReadError>> {
        Box::pin(async move {
            let replica = self.replica.read();
            let (mut page, mut bytes) = (StatePage::default(), 0);
            for (key, value) in replica.range(scan.prefix, scan.after) {
                if page.entries.len() >= scan.limit.max(1) || bytes >= scan.max_bytes {
                    return Ok(Page { more: true, ..page });
                }
                bytes += key.len() + value.len();
                page.entries.push((key.clone(), value.clone()));
            }
            Ok(page)
        })
    }
}

impl OutputResolver for Surroundings {
    /// A point that came later is one of the app's own: it goes by its path, as it did then.
    fn resolve(&self, output: usize, entity: &str) -> Result<Target, UnknownEntity> {
        let bindings = &self.revision.bindings;
        let path =
            bindings.resolve(output as u16, entity).map_err(|error| UnknownEntity(error.to_string()))?;
        let binding = &bindings.outputs[output];
        let Some((number, unit)) = known(&self.points, &path) else {
            return Ok(Target::New(NewPoint { path, unit: binding.unit.clone() }));
        };
        check_unit(binding, &path, unit.as_deref())?;
        Ok(Target::Known(number))
    }

    /// Those that were made then are known now, and for what found no room then there is none now.
    fn room(&self) -> PointRoom {
        let limit = self.revision.limits.points;
        PointRoom { own: limit.saturating_sub(self.made), limit, site: limit }
    }

    fn set_point(&self, output: usize, asked: SetPoint<'_>) -> Result<Granted, NotGranted> {
        grant(&self.revision, output, asked)
    }

    fn intent_id(&self, index: u32) -> IntentId {
        IntentPlace { generation: self.of.0, ordinal: self.of.1, index }.id()
    }
}

impl Holdings for Surroundings {
    fn alarm(&self, key: &AlarmKey) -> Option<usize> {
        self.replica.read().alarms.get(key).copied()
    }

    fn alarms(&self) -> AlarmRoom {
        let replica = self.replica.read();
        AlarmRoom {
            count: replica.alarms.len(),
            bytes: replica.alarms.values().sum(),
            limit: MAX_ALARMS_BYTES,
        }
    }

    fn has_timer(&self, name: &str) -> bool {
        self.firing.as_deref() != Some(name) && self.replica.read().timers.contains_key(name)
    }

    fn timers(&self) -> usize {
        // Where an earlier invocation did something else, the one that fires may not be there.
        let replica = self.replica.read();
        let fires = self.firing.as_deref().is_some_and(|name| replica.timers.contains_key(name));
        replica.timers.len() - usize::from(fires)
    }
}
