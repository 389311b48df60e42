//! Points that get numbers, and those that count no longer, as of what was sealed.

use hashbrown::{HashMap, HashSet};

use super::Numberer;
use crate::fold::points::{Names, is_of_output};
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
        let known = |path: &PointPath| standing(&names, &self.retired, path);
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
        self.unflushed.retain(|path, _| standing(&names, &self.retired, path).is_none());
        let before = self.unflushed.len();
        self.unflushed.retain(|path, _| !is_of_output(path, installation));
        self.numbers.points -= own.len() + before - self.unflushed.len();
    }

    /// Points that are retired no longer count, as the fold has it once it applies the record; refused where one of them
    /// has a reading that has come since they are watched.
    pub(super) fn admit_retired(&mut self, numbers: &[PointNumber]) -> Result<(), Refusal> {
        self.nothing_came()?;
        let names = self.points.names();
        self.retired.retain(|number| names.point(*number).is_some());
        for number in numbers {
            if retire(&mut self.retired, &mut self.unflushed, &names, *number) {
                self.numbers.points -= 1;
            }
        }
        Ok(())
    }

    /// A point goes on as another one, which gets its number here; refused where there is one of its path, or a reading has
    /// come since the point is watched.
    pub(super) fn admit_renamed(&mut self, renamed: &mut PointRenamed) -> Result<(), Refusal> {
        self.nothing_came()?;
        let names = self.points.names();
        let known = standing(&names, &self.retired, &renamed.path);
        if known.is_some() || self.unflushed.contains_key(&renamed.path) {
            return Err(Refusal::PointExists(renamed.path.clone()));
        }
        if !retire(&mut self.retired, &mut self.unflushed, &names, renamed.from) {
            return Err(Refusal::PointsInUse);
        }
        renamed.number = PointNumber(self.numbers.points_given as u32);
        self.numbers.points_given += 1;
        self.unflushed.insert(renamed.path.clone(), renamed.number);
        Ok(())
    }

    /// Ends the watch; refused where a reading of one of its points has come.
    fn nothing_came(&mut self) -> Result<(), Refusal> {
        match self.watched.take() {
            Some(Watched { has_come: true, .. }) => Err(Refusal::PointsInUse),
            _ => Ok(()),
        }
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

/// The point of a path, unless it is about to be taken out.
fn standing(names: &Names, retired: &HashSet<PointNumber>, path: &PointPath) -> Option<PointNumber> {
    names.number(path).filter(|number| !retired.contains(number))
}

/// Retires a point that is there. Returns whether it was.
fn retire(
    retired: &mut HashSet<PointNumber>,
    unflushed: &mut HashMap<PointPath, PointNumber>,
    names: &Names,
    number: PointNumber,
) -> bool {
    let Some(point) = names.point(number).filter(|_| retired.insert(number)) else { return false };
    // The fold has it, and it may still stand here: another reading of this path would get its number again.
    if unflushed.get(&point.path) == Some(&number) {
        unflushed.remove(&point.path);
    }
    true
}
