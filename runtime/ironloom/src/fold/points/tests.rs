//! Names, latest values, and which pages of them a checkpoint writes.

use super::*;
use ironloom_types::ids::InstallationId;

fn points(paths: &[&str]) -> Points {
    let points = Points::default();
    let new = |path| Some(NewPoint { path: PointPath::new(TenantId::MAIN, path).unwrap(), unit: None });
    points.add((0..).map(PointNumber).zip(paths.iter().map(|path| new(path))));
    points
}

fn through(last: u64) -> LastSequences {
    [(TenantId::MAIN, Sequence(last))].into_iter().collect()
}

fn taken(points: &Points, through: &LastSequences) -> Vec<(u32, Bytes)> {
    let mut pages = Vec::new();
    let mut take = |page, bytes| -> Result<(), std::convert::Infallible> {
        pages.push((page, bytes));
        Ok(())
    };
    points.take_pages(through, &mut take).unwrap();
    pages
}

#[test]
fn the_latest_is_the_last_in_the_journal_and_survives_its_page() {
    let points = points(&["a", "b"]);
    let mut columns = Columns::default();
    columns.push(PointNumber(0), Timestamp(20), Quality::Good, ValueRef::Real(1.0));
    columns.push(PointNumber(0), Timestamp(10), Quality::Uncertain, ValueRef::Text("late"));
    points.observe(Sequence(7), &columns);
    let expected = LatestValue::Known(Value::Text("late".into()));
    let (latest, value) = points.latest(PointNumber(0)).unwrap();
    assert_eq!(
        (latest.sequence, latest.at, latest.quality),
        (Sequence(8), Timestamp(10), Quality::Uncertain)
    );
    assert_eq!(value, expected);
    assert_eq!(points.latest(PointNumber(1)), None);

    let pages = taken(&points, &through(8));
    assert_eq!(pages.len(), 1);
    assert!(taken(&points, &through(8)).is_empty());
    let again = self::points(&["a", "b"]);
    again.load_page(pages[0].0, &pages[0].1).unwrap();
    assert_eq!(again.latest(PointNumber(0)).unwrap().1, expected);
    // An older record, replayed over a page that is ahead of it, changes nothing.
    let mut older = Columns::default();
    older.push(PointNumber(0), Timestamp(1), Quality::Good, ValueRef::Real(9.0));
    again.observe(Sequence(3), &older);
    assert_eq!(again.latest(PointNumber(0)).unwrap().1, expected);
}

#[test]
fn a_point_that_was_removed_frees_its_path_and_keeps_its_number() {
    let points = points(&["apps/pigs/gain/1", "farm/a", "apps/pigs/gain/2", "apps/pigs2/gain/1"]);
    let mut columns = Columns::default();
    columns.push(PointNumber(0), Timestamp(1), Quality::Good, ValueRef::Text("x"));
    points.observe(Sequence(1), &columns);
    let own = points.names().of_outputs(&InstallationId::new(TenantId::MAIN, "pigs").unwrap());
    assert_eq!(own, [PointNumber(0), PointNumber(2)]);
    points.retire(&own, false);
    assert_eq!((points.names().given(), points.names().count()), (4, 2));
    assert_eq!(points.names().find(TenantId::MAIN, "apps/pigs/gain/1"), None);
    assert_eq!(points.names().point(PointNumber(0)), None);
    assert_eq!(points.latest(PointNumber(0)), None);
    let path = PointPath::new(TenantId::MAIN, "apps/pigs/gain/1").unwrap();
    points.add([(PointNumber(4), Some(NewPoint { path, unit: None }))]);
    assert_eq!(points.names().find(TenantId::MAIN, "apps/pigs/gain/1"), Some(PointNumber(4)));
    assert_eq!(points.names().iter().map(|(number, _)| number.0).collect::<Vec<_>>(), [1, 3, 4]);
    points.retire(&own, false);
    assert_eq!(points.names().count(), 3, "twice is once");
}

fn columns_of(number: PointNumber) -> Columns {
    let mut columns = Columns::default();
    columns.push(number, Timestamp(1), Quality::Good, ValueRef::Boolean(true));
    columns
}

#[test]
fn a_latest_reading_behind_the_end_of_the_log_is_found() {
    let points = points(&["a", "b"]);
    assert_eq!(points.ahead_of(&through(0)), None);
    points.observe(Sequence(9), &columns_of(PointNumber(1)));
    let ahead = Some((PointPath::new(TenantId::MAIN, "b").unwrap(), Sequence(9)));
    assert_eq!(points.ahead_of(&through(9)), None);
    assert_eq!(points.ahead_of(&through(8)), ahead);
    // Another one further ahead, of a point that is gone, hides it no longer.
    points.observe(Sequence(20), &columns_of(PointNumber(0)));
    points.names.write().by_number[0] = None;
    assert_eq!(points.ahead_of(&through(8)), ahead);
}
