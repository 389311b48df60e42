//! Paths, units and descriptions of points, by number and by path.

use std::collections::BTreeMap;
use std::sync::Arc;

use hashbrown::HashMap;

use super::PAGE;
use ironloom_apps::routing::NumbersByText;
use ironloom_types::ids::{InstallationId, PointNumber, PointPath, RESERVED_SEGMENT, TenantId};
use ironloom_types::readings::NewPoint;

/// Paths and units, by number and by path.
#[derive(Debug, Default)]
pub(crate) struct Names {
    /// The numbers alone: their paths stand in `by_number`.
    by_path: NumbersByText,
    /// `None`: the point was removed. Its number is never given again, for blocks may hold it.
    pub(super) by_number: Vec<Option<NewPoint>>,
    /// Pages that changed since they were last written to the store.
    pub(super) dirty: Vec<bool>,
    /// The number of points of each tenant.
    counts: HashMap<TenantId, usize>,
    /// The points below `apps/` of each tenant, by the segment behind it, in the order of their numbers.
    outputs: HashMap<TenantId, HashMap<Box<str>, Vec<PointNumber>>>,
    /// The words of people for points.
    pub(super) descriptions: HashMap<PointNumber, Arc<str>>,
    /// Points that are gone and whose readings are given out all the same.
    pub(super) retired: BTreeMap<PointNumber, Retired>,
}

/// A point that is gone and whose readings are given out all the same.
#[derive(Clone, Debug)]
pub(in crate::fold) struct Retired {
    /// The path under which they are.
    pub path: PointPath,
    /// The point as it was when they were routed.
    pub was: NewPoint,
}

/// A point's number as it is read back from the store.
#[derive(Clone, Debug)]
pub(in crate::fold) enum Loaded {
    Removed,
    There(NewPoint, Option<Arc<str>>),
    Retired(Retired),
}

impl Names {
    /// The number of the point with this path.
    pub(crate) fn number(&self, path: &PointPath) -> Option<PointNumber> {
        self.find(path.tenant(), path.as_str())
    }

    /// The number of the point of a tenant with the path of this text.
    pub(crate) fn find(&self, tenant: TenantId, text: &str) -> Option<PointNumber> {
        let is_it = |number| {
            let known = path_of(&self.by_number, number);
            known.is_some_and(|known| known.tenant() == tenant && known.as_str() == text)
        };
        self.by_path.find(self.by_path.hash(&(tenant, text)), is_it).map(PointNumber)
    }

    /// The point with this number; `None` where it was removed.
    pub(crate) fn point(&self, number: PointNumber) -> Option<&NewPoint> {
        self.by_number.get(number.0 as usize)?.as_ref()
    }

    /// The path of a reading's point, also where that was retired.
    pub(crate) fn path_of_reading(&self, number: PointNumber) -> Option<&PointPath> {
        self.point(number).map(|point| &point.path).or_else(|| Some(&self.retired.get(&number)?.path))
    }

    /// The numbers of all points that this path has, or had before they were retired, if their readings are given out.
    pub(crate) fn numbers_of(&self, path: &PointPath) -> Vec<PointNumber> {
        let before = self.retired().filter(|(_, retired)| *retired == path).map(|(number, _)| number);
        before.chain(self.number(path)).collect()
    }

    /// The words of people for a point.
    pub(crate) fn description(&self, number: PointNumber) -> Option<&Arc<str>> {
        self.descriptions.get(&number)
    }

    /// Retired points whose readings are given out, in the order of their numbers.
    pub(crate) fn retired(&self) -> impl ExactSizeIterator<Item = (PointNumber, &PointPath)> {
        self.retired.iter().map(|(number, retired)| (*number, &retired.path))
    }

    /// The unit of a point, or that which it had before it was gone.
    pub(crate) fn unit_ever(&self, number: PointNumber) -> Option<Arc<str>> {
        let point = self.point(number).or_else(|| Some(&self.retired.get(&number)?.was));
        point?.unit.clone()
    }

    /// A point as the routing table asks for it.
    pub(in crate::fold) fn routed(&self, number: PointNumber) -> Option<(&PointPath, Option<&str>)> {
        self.point(number).map(|point| (&point.path, point.unit.as_deref()))
    }

    /// The number of points that were numbered; the next point gets this number.
    pub(crate) fn given(&self) -> usize {
        self.by_number.len()
    }

    /// The number of a tenant's points.
    pub(crate) fn count_of(&self, tenant: TenantId) -> usize {
        self.counts.get(&tenant).copied().unwrap_or_default()
    }

    /// The number of points.
    pub(crate) fn count(&self) -> usize {
        self.by_path.len()
    }

    /// All points in the order of their numbers.
    pub(crate) fn iter(&self) -> impl Iterator<Item = (PointNumber, &NewPoint)> {
        self.iter_from(PointNumber(0))
    }

    /// The points from a number on, in the order of their numbers.
    pub(crate) fn iter_from(&self, first: PointNumber) -> impl Iterator<Item = (PointNumber, &NewPoint)> {
        let numbered = self.by_number.iter().enumerate().skip(first.0 as usize);
        numbered.filter_map(|(number, point)| Some((PointNumber(number as u32), point.as_ref()?)))
    }

    /// The points of an installation's outputs that are bound to nothing else.
    pub(crate) fn of_outputs(&self, installation: &InstallationId) -> Vec<PointNumber> {
        let own = self.outputs.get(&installation.tenant()).and_then(|own| own.get(installation.as_str()));
        own.cloned().unwrap_or_default()
    }

    pub(super) fn put(&mut self, number: PointNumber, point: Option<NewPoint>) {
        assert!(
            number.0 as usize == self.by_number.len(),
            "points are numbered without holes, in the log's order"
        );
        if let Some(point) = &point {
            let hash = self.by_path.hash(&(point.path.tenant(), point.path.as_str()));
            self.by_path.insert(hash, number.0);
            *self.counts.entry(point.path.tenant()).or_default() += 1;
            if let Some(installation) = of_output(&point.path) {
                let outputs = self.outputs.entry(point.path.tenant()).or_default();
                match outputs.get_mut(installation) {
                    Some(own) => own.push(number),
                    None => drop(outputs.insert(installation.into(), vec![number])),
                }
            }
        }
        self.by_number.push(point);
        self.dirty.resize(self.by_number.len().div_ceil(PAGE), false);
    }

    pub(super) fn mark(&mut self, number: PointNumber) {
        self.dirty[number.0 as usize / PAGE] = true;
    }

    /// Takes points out whose numbers come in order.
    pub(super) fn take_out(&mut self, numbers: &[PointNumber]) {
        for number in numbers {
            let Some(point) = self.by_number[number.0 as usize].take() else { continue };
            self.mark(*number);
            self.descriptions.remove(number);
            let hash = self.by_path.hash(&(point.path.tenant(), point.path.as_str()));
            self.by_path.remove(hash, number.0);
            if let Some(count) = self.counts.get_mut(&point.path.tenant()) {
                *count -= 1;
            }
            let Some(installation) = of_output(&point.path) else { continue };
            // All of them at once, at the first.
            let outputs = self.outputs.get_mut(&point.path.tenant());
            if let Some(own) = outputs.and_then(|outputs| outputs.get_mut(installation))
                && own.binary_search(number).is_ok()
            {
                own.retain(|own| numbers.binary_search(own).is_err());
            }
        }
        self.outputs.retain(|_, outputs| {
            outputs.retain(|_, own| !own.is_empty());
            !outputs.is_empty()
        });
    }
}

fn path_of(by_number: &[Option<NewPoint>], number: u32) -> Option<&PointPath> {
    by_number.get(number as usize)?.as_ref().map(|point| &point.path)
}

/// Whose output a point is: the segment behind `apps/`.
fn of_output(path: &PointPath) -> Option<&str> {
    let mut segments = path.segments();
    if segments.next() == Some(RESERVED_SEGMENT) { segments.next() } else { None }
}

/// Says if a point lies below `apps/<installation>/`: nobody else can write it.
pub(crate) fn is_of_output(path: &PointPath, installation: &InstallationId) -> bool {
    of_output(path) == Some(installation.as_str())
}
