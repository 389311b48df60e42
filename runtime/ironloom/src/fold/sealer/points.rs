//! Points that get numbers, and those that count no longer, as of what was sealed.

use hashbrown::HashSet;

use super::Numberer;
use crate::fold::points::is_of_output;
use crate::fold::submission::Refusal;
use crate::records::NumberedPoint;
use crate::records::admin::PointRenamed;
use ironloom_types::ids::{InstallationId, PointNumber, PointPath};
use ironloom_types::readings::{Columns, NewPoint};

impl Numberer {
    /// Numbers the new points and puts the numbers into the columns. A point that another record was
    /// faster with has one already.
    pub(super) fn number_points(
        &mut self,
        new: Vec<NewPoint>,
        columns: &mut Columns,
        limit: usize,
    ) -> Result<Vec<NumberedPoint>, Refusal> {
        if new.is_empty() {
            return Ok(Vec::new());
        }
        let names = self.points.names();
        let retired = &self.retired;
        // A point of this path may be about to be taken out.
        let known = |path: &PointPath| names.number(path.as_str()).filter(|number| !retired.contains(number));
        // Not with each record: a look-up for each of them would be due every time.
        if self.unflushed.len() >= 2 * self.unflushed_before.max(1_000) {
            self.unflushed.retain(|path, _| known(path).is_none());
            self.unflushed_before = self.unflushed.len();
        }
        let given = self.numbers.points_given;
        let mut numbers = Vec::with_capacity(new.len());
        let mut numbered: Vec<NumberedPoint> = Vec::new();
        for point in new {
            let number = match known(&point.path).or_else(|| self.unflushed.get(&point.path).copied()) {
                Some(number) => number,
                None if self.numbers.points + numbered.len() >= limit => {
                    let path = point.path.to_string();
                    // Nothing of this record holds.
                    for NumberedPoint { point, .. } in numbered {
                        self.unflushed.remove(&point.path);
                    }
                    return Err(Refusal::TooManyPoints { path, limit });
                }
                None => {
                    let number = PointNumber((given + numbered.len()) as u32);
                    self.unflushed.insert(point.path.clone(), number);
                    numbered.push(NumberedPoint { number, point });
                    number
                }
            };
            numbers.push(number);
        }
        self.numbers.points_given += numbered.len();
        self.numbers.points += numbered.len();
        for point in &mut columns.points {
            if let Some(index) = point.pending_index() {
                *point = numbers[index];
            }
        }
        Ok(numbered)
    }

    /// The points of a purged installation's outputs no longer count, as the fold has it once it applies
    /// the record.
    pub(super) fn forget_points(&mut self, installation: &InstallationId) {
        let names = self.points.names();
        let mut own = names.of_outputs(installation);
        // Those count no longer.
        own.retain(|number| !self.retired.contains(number));
        let retired = &self.retired;
        let known = |path: &PointPath| names.number(path.as_str()).filter(|number| !retired.contains(number));
        self.unflushed.retain(|path, _| known(path).is_none());
        let before = self.unflushed.len();
        self.unflushed.retain(|path, _| !is_of_output(path, installation));
        self.numbers.points -= own.len() + before - self.unflushed.len();
    }

    /// Points that are retired no longer count, as the fold has it once it applies the record; refused where one of them
    /// has a reading that has come since they are watched.
    pub(super) fn admit_retired(&mut self, numbers: &[PointNumber]) -> Result<(), Refusal> {
        if self.watched.take().is_some_and(|watched| watched.has_come) {
            return Err(Refusal::PointsInUse);
        }
        let names = self.points.names();
        self.retired.retain(|number| names.point(*number).is_some());
        for number in numbers {
            let Some(point) = names.point(*number).filter(|_| self.retired.insert(*number)) else { continue };
            self.numbers.points -= 1;
            // The fold has it, and it may still stand here: another reading of this path would get its number again.
            if self.unflushed.get(&point.path) == Some(number) {
                self.unflushed.remove(&point.path);
            }
        }
        Ok(())
    }

    /// A point goes on as another one, which gets its number here; refused where there is one of its path, or a reading has
    /// come since the point is watched.
    pub(super) fn admit_renamed(&mut self, renamed: &mut PointRenamed) -> Result<(), Refusal> {
        if self.watched.take().is_some_and(|watched| watched.has_come) {
            return Err(Refusal::PointsInUse);
        }
        let names = self.points.names();
        let retired = &mut self.retired;
        let known = names.number(renamed.path.as_str()).filter(|number| !retired.contains(number));
        if known.is_some() || self.unflushed.contains_key(&renamed.path) {
            return Err(Refusal::PointExists(renamed.path.clone()));
        }
        let Some(point) = names.point(renamed.from).filter(|_| retired.insert(renamed.from)) else {
            return Err(Refusal::PointsInUse);
        };
        if self.unflushed.get(&point.path) == Some(&renamed.from) {
            self.unflushed.remove(&point.path);
        }
        renamed.number = PointNumber(self.numbers.points_given as u32);
        self.numbers.points_given += 1;
        self.unflushed.insert(renamed.path.clone(), renamed.number);
        Ok(())
    }

    /// Takes note of readings of points that are watched.
    pub(super) fn watch(&mut self, columns: &Columns) {
        let Some(watched) = self.watched.as_mut().filter(|watched| !watched.has_come) else { return };
        watched.has_come = columns.points.iter().any(|point| watched.points.contains(point));
    }
}

/// Points of which a reading may come.
pub(super) struct Watched {
    pub points: HashSet<PointNumber>,
    pub has_come: bool,
}
