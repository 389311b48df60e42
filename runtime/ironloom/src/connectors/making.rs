//! A record in the making: the numbers of its points, and the new points behind those that have none yet.

use std::collections::HashMap;
use std::sync::Arc;

use super::passed::{Passed, Reason};
use super::{KnownPoint, Record, Sink};
use crate::connectors::TENANT;
use ironloom_types::ids::{PointNumber, PointPath};
use ironloom_types::readings::NewPoint;

/// Says of known points that were met if their unit is the mapping's.
pub(super) type Units = HashMap<PointNumber, bool>;

#[derive(Default)]
pub(super) struct Making {
    pub record: Record,
    pending: HashMap<String, PointNumber>,
}

impl Making {
    /// The number of a point. The first time that a known one is met, its unit is held against that of the mapping.
    ///
    /// # Errors
    /// A sentence about the point.
    pub(super) fn point(
        &mut self,
        path: &str,
        unit: Option<&Arc<str>>,
        units: &mut Units,
        sink: &dyn Sink,
    ) -> Result<PointNumber, Passed> {
        if let Some(number) = self.pending.get(path) {
            return Ok(*number);
        }
        self.sound_point(&sound_path(path)?, unit, units, sink)
    }

    /// The same of a path that is sound. Takes no memory for a point that is known.
    ///
    /// # Errors
    /// A sentence about the point.
    pub(super) fn sound_point(
        &mut self,
        path: &PointPath,
        unit: Option<&Arc<str>>,
        units: &mut Units,
        sink: &dyn Sink,
    ) -> Result<PointNumber, Passed> {
        if let Some(number) = self.pending.get(path.as_str()) {
            return Ok(*number);
        }
        if let Some(KnownPoint { number, unit: has }) = sink.point(path.as_str()) {
            let Some(own) = unit else { return Ok(number) };
            let fits = *units.entry(number).or_insert_with(|| match &has {
                Some(has) => has == own,
                None => {
                    self.record.units.push((number, Arc::clone(own)));
                    true
                }
            });
            let has = has.as_deref().unwrap_or_default();
            return if fits {
                Ok(number)
            } else {
                Err(Reason::Unit.of(format!("the point {} has the unit {has}, not {own}", path.as_str())))
            };
        }
        let number = PointNumber::pending(self.record.new_points.len());
        self.record.new_points.push(NewPoint { path: path.clone(), unit: unit.cloned() });
        self.pending.insert(path.as_str().to_owned(), number);
        Ok(number)
    }

    /// Takes back the new points beyond so many: nothing of the record is of them.
    pub(super) fn keep_points(&mut self, most: usize) {
        for new in self.record.new_points.drain(most..) {
            self.pending.remove(new.path.as_str());
        }
    }
}

/// The path of a point that a connector may write.
///
/// # Errors
/// A sentence about the path.
pub(super) fn sound_path(path: &str) -> Result<PointPath, Passed> {
    let checked = PointPath::new(TENANT, path).map_err(|error| Reason::NoPoint.of(error.to_string()))?;
    // Also of a point that an app has made: whoever is bound to it would take this for the app's.
    if checked.is_reserved() {
        return Err(Reason::NoPoint.of(format!("points under `apps/` belong to the runtime: {path}")));
    }
    Ok(checked)
}
