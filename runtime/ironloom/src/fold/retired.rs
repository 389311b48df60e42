//! Points that were retired lately: readings on their way may still have their numbers.

use std::time::{Duration, Instant};

use hashbrown::HashMap;
use parking_lot::{RwLock, RwLockReadGuard};

use super::points::Points;
use ironloom_types::ids::PointNumber;
use ironloom_types::readings::{Columns, NewPoint};

/// Readings are never on their way for so long.
const ON_THE_WAY: Duration = Duration::from_secs(3600);

/// The points, by number.
#[derive(Debug, Default)]
pub(crate) struct RetiredPoints(RwLock<Numbers>);

pub(crate) type Numbers = HashMap<PointNumber, (NewPoint, Instant)>;

impl RetiredPoints {
    /// Puts new points in the place of those that were retired since the readings were read. What is returned is held
    /// until they are submitted: none is retired in between.
    pub(crate) fn renew(
        &self,
        points: &Points,
        columns: &mut Columns,
        new_points: &mut Vec<NewPoint>,
    ) -> RwLockReadGuard<'_, Numbers> {
        let retired = self.0.read();
        if retired.is_empty() {
            return retired;
        }
        let mut renewed: HashMap<PointNumber, PointNumber> = HashMap::new();
        for number in &mut columns.points {
            let Some((point, _)) = retired.get(number) else { continue };
            let now = renewed.entry(*number).or_insert_with(|| {
                // The committer knows whether the record that retires it came.
                let known = points.names().number(&point.path).filter(|known| known != number);
                known.unwrap_or_else(|| {
                    let index = new_points.iter().position(|new| new.path == point.path);
                    PointNumber::pending(index.unwrap_or_else(|| {
                        new_points.push(point.clone());
                        new_points.len() - 1
                    }))
                })
            });
            *number = *now;
        }
        retired
    }

    /// Retires points by a record, which `submit` submits: none behind it has their numbers.
    pub(crate) fn retire<T>(
        &self,
        points: impl IntoIterator<Item = (PointNumber, NewPoint)>,
        submit: impl FnOnce() -> T,
    ) -> T {
        let now = Instant::now();
        let mut retired = self.0.write();
        retired.retain(|_, (_, at)| now.duration_since(*at) < ON_THE_WAY);
        retired.extend(points.into_iter().map(|(number, point)| (number, (point, now))));
        submit()
    }

    /// The points were not retired after all.
    pub(crate) fn forget(&self, numbers: &[PointNumber]) {
        let mut retired = self.0.write();
        numbers.iter().for_each(|number| drop(retired.remove(number)));
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use ironloom_types::clock::Timestamp;
    use ironloom_types::ids::{PointPath, TenantId};
    use ironloom_types::readings::{Quality, ValueRef};

    fn point(path: &str) -> NewPoint {
        NewPoint { path: PointPath::new(TenantId::MAIN, path).unwrap(), unit: Some("kg".into()) }
    }

    #[test]
    fn readings_on_their_way_get_the_point_of_today_or_a_new_one() {
        let (points, retired) = (Points::default(), RetiredPoints::default());
        points.add_for_test(
            ["a", "b", "c"]
                .into_iter()
                .enumerate()
                .map(|(number, path)| (PointNumber(number as u32), Some(point(path)))),
        );
        let all = [0, 1].map(|number| (PointNumber(number), point(["a", "b"][number as usize])));
        retired.retire(all, || ());
        points.remove_for_test(&[PointNumber(0), PointNumber(1)]);
        // One of them has come again.
        points.add_for_test([(PointNumber(3), Some(point("b")))]);
        let mut columns = Columns::default();
        for number in [0, 1, 2, 0] {
            columns.push(PointNumber(number), Timestamp(1), Quality::Good, ValueRef::Real(1.0));
        }
        let mut new = vec![point("d")];
        let renew =
            |columns: &mut Columns, new: &mut Vec<NewPoint>| drop(retired.renew(&points, columns, new));
        let numbers = columns.points.clone();
        renew(&mut columns, &mut new);
        let pending = PointNumber::pending(1);
        assert_eq!(columns.points, [pending, PointNumber(3), PointNumber(2), pending]);
        assert_eq!(new, [point("d"), point("a")]);

        retired.forget(&[PointNumber(0), PointNumber(1)]);
        columns.points.clone_from(&numbers);
        renew(&mut columns, &mut new);
        assert_eq!((columns.points, new.len()), (numbers, 2), "they are there after all");
    }
}
