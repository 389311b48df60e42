//! New points that come a part at a time.

use std::sync::atomic::{AtomicU32, Ordering};

use futures_util::FutureExt as _;

use super::super::{readings_of, wait};
use super::*;
use crate::fold::new_points::{AT_ONCE, Maker, POINT, Ready, Weighed, make};
use crate::records::readings::{self, Receipt};
use ironloom_storage::log::RecordKind;
use ironloom_types::ids::{Position, TenantId};

/// Lanes that take each point below `a`.
const LANES: u32 = 3;
/// Points that make one part.
const PART: usize = (AT_ONCE / (POINT + LANES)) as usize;

fn with_lanes() -> tempfile::TempDir {
    let mut world = World::new(EngineKind::Redb);
    (0..LANES).for_each(|number| world.install(number as u8, &["a"], true));
    world.into_folder()
}

/// New points with a reading each, in the opposite order.
fn prepared(prefix: &str, count: usize) -> (Vec<NewPoint>, Columns) {
    let path = |number| PointPath::new(TenantId::MAIN, &format!("{prefix}/{number:05}")).unwrap();
    let points = (0..count).map(|number| NewPoint { path: path(number), unit: None }).collect();
    let mut columns = Columns::default();
    for number in (0..count).rev() {
        columns.push(PointNumber::pending(number), Timestamp(1), Quality::Good, ValueRef::Real(1.0));
    }
    (points, columns)
}

impl Running {
    async fn ready(&self, points: (Vec<NewPoint>, Columns), maker: Maker) -> Result<Ready, Refusal> {
        let weighed = Weighed::of(&self.shared, points.0).await?;
        make(&self.shared, &self.committer, weighed, points.1, maker, || Ok(())).await
    }

    /// Makes the points of 3 parts, as long as it may, and counts how often it asks that.
    async fn ready_if(&self, may: impl Fn(u32) -> bool) -> Result<Ready, Refusal> {
        let asked = AtomicU32::new(0);
        let may_go_on = || match may(asked.fetch_add(1, Ordering::SeqCst)) {
            true => Ok(()),
            false => Err(Refusal::Gone),
        };
        let (points, columns) = prepared("a", 3 * PART);
        let weighed = Weighed::of(&self.shared, points).await?;
        make(&self.shared, &self.committer, weighed, columns, Maker::Source, may_go_on).await
    }

    /// The numbers of new points in the records of readings behind this position, and what these say of their source.
    fn made_since(&self, position: Position) -> Vec<(usize, Option<Receipt>)> {
        let reader = self.committer.reader();
        let records = reader.records(position, reader.flushed()).unwrap().map(Result::unwrap);
        let of_readings = records.filter(|record| record.header.kind == RecordKind::Readings);
        let decoded = of_readings.map(|record| readings::decode(readings::VERSION, &record.body).unwrap());
        decoded
            .map(|record| {
                assert!(record.columns.is_empty());
                (record.new_points.len(), record.head.receipt)
            })
            .collect()
    }
}

#[test]
fn points_with_many_matches_are_made_a_part_at_a_time_before_their_readings() {
    let folder = with_lanes();
    let running = run(folder.path(), NEVER);
    let before = running.committer.reader().flushed().next();
    let ready = wait(running.ready(prepared("a", 2 * PART + 5), Maker::Source)).unwrap();
    assert_eq!(running.made_since(before), [(PART, None), (PART, None), (5, None)]);
    assert!(ready.new_points.is_empty() && ready.place.is_none());
    // The first reading is that of the last point.
    let numbers: Vec<u32> = ready.columns.points.iter().map(|point| point.0).collect();
    assert!(numbers.iter().copied().eq((0..2 * PART as u32 + 5).rev()));
    let matches = |running: &Running| running.shared.routing.read().matches(PointNumber(2)).len();
    assert_eq!(matches(&running), LANES as usize);
    // Where nothing follows them, they are there without a reading.
    running.stop();
    let running = run(folder.path(), NEVER);
    assert_eq!(running.shared.points.names().count(), 2 * PART + 5);
    assert_eq!(matches(&running), LANES as usize);
    assert_eq!(running.shared.points.latest(PointNumber(2)), None);
    assert_eq!(running.shared.journal.of(TenantId::MAIN).last(), Sequence(0));
    running.stop();
}

#[test]
fn points_without_matches_are_cheap_and_few_points_come_with_their_readings() {
    let folder = with_lanes();
    let running = run(folder.path(), NEVER);
    let before = running.committer.reader().flushed().next();
    let few = wait(running.ready(prepared("a", PART), Maker::Source)).unwrap();
    assert_eq!((few.new_points.len(), few.place.is_some()), (PART, true));
    drop(few);
    let cheap = wait(running.ready(prepared("b", (AT_ONCE / POINT) as usize), Maker::Source)).unwrap();
    assert_eq!(cheap.new_points.len(), (AT_ONCE / POINT) as usize);
    assert_eq!(running.made_since(before), []);
    drop(cheap);
    running.stop();
}

#[test]
fn new_points_wait_until_those_before_them_are_made() {
    let folder = with_lanes();
    let running = run(folder.path(), NEVER);
    let Ready { new_points, columns, place } =
        wait(running.ready(prepared("a", PART), Maker::Source)).unwrap();
    let mut second = Box::pin(running.ready(prepared("a/b", 1), Maker::Source));
    assert!(wait(async { (&mut second).now_or_never() }).is_none(), "all places are taken");
    // Whoever has no new point waits for nobody.
    running.push(&["a/00000".to_owned()]);
    let (item, durable) = readings_of(ReadingsHead::default(), new_points, columns, place);
    let bound = item.max_len();
    running.committer.submit(item, bound).map_err(|refused| refused.error).unwrap();
    // Nobody waits for the answer: the fold gives the place back all the same.
    drop(durable);
    assert_eq!(wait(second).unwrap().new_points.len(), 1);
    running.stop();
}

#[test]
fn points_of_outputs_are_counted_with_each_part() {
    let folder = with_lanes();
    let running = run(folder.path(), NEVER);
    let before = running.committer.reader().flushed().next();
    let maker = Maker::Outputs { generation: Generation(2), before: 7 };
    wait(running.ready(prepared("a", PART + 5), maker)).unwrap();
    let receipt = |points| Some(Receipt::Outputs { generation: Generation(2), points });
    let parts = [(PART, receipt(7 + PART as u64)), (5, receipt(12 + PART as u64))];
    assert_eq!(running.made_since(before), parts);
    let counted = |shared: &Shared| {
        let lanes = (1..=3).map(|generation| shared.lanes.of_generation(Generation(generation)).unwrap());
        lanes.map(|lane| lane.book().meta().points).collect::<Vec<_>>()
    };
    assert_eq!(counted(&running.shared), [0, 12 + PART as u64, 0]);
    running.uninstall("lane-0", 1);
    let gone = Maker::Outputs { generation: Generation(1), before: 0 };
    let refused = wait(running.ready(prepared("a", 2 * PART), gone)).unwrap_err();
    assert_eq!(refused, Refusal::Gone);
    running.stop();
    let (_, opened) = open_folder(folder.path(), EngineKind::Redb, Arc::new(()));
    let lane = opened.shared.lanes.of_generation(Generation(2)).unwrap();
    assert_eq!(lane.book().meta().points, 12 + PART as u64);
}

#[test]
fn whoever_makes_points_is_asked_before_each_part_and_while_it_waits() {
    let folder = with_lanes();
    let running = run(folder.path(), NEVER);
    let before = running.committer.reader().flushed().next();
    // Before and after the wait for each place.
    let refused = wait(running.ready_if(|asked| asked < 3)).unwrap_err();
    assert_eq!(refused, Refusal::Gone);
    assert_eq!(running.made_since(before), [(PART, None)]);
    let few = wait(running.ready(prepared("b", AT_ONCE as usize / POINT as usize), Maker::Source)).unwrap();
    let refused = wait(running.ready_if(|asked| asked < 2)).unwrap_err();
    assert_eq!(refused, Refusal::Gone, "it is asked although its place doesn't come");
    drop(few);
    running.stop();
}

#[test]
fn what_others_make_meanwhile_is_left_out() {
    let folder = with_lanes();
    let running = run(folder.path(), NEVER);
    let before = running.committer.reader().flushed().next();
    wait(running.ready_if(|_| true)).unwrap();
    let all = [(PART, None), (PART, None), (PART, None)];
    assert_eq!(running.made_since(before), all);
    let second = wait(running.ready(prepared("a", 3 * PART + 1), Maker::Source)).unwrap();
    let mut expected = all.to_vec();
    expected.push((1, None));
    assert_eq!(running.made_since(before), expected);
    assert!(second.columns.points.iter().all(|point| point.pending_index().is_none()));
    // All of them, with no place left.
    let place = wait(running.ready(prepared("b", AT_ONCE as usize / POINT as usize), Maker::Source)).unwrap();
    wait(running.ready_if(|_| true)).unwrap();
    drop(place);
    // They come while it waits.
    let place = wait(running.ready(prepared("b", AT_ONCE as usize / POINT as usize), Maker::Source)).unwrap();
    let mut late = Box::pin(running.ready(prepared("a/late", 2 * PART), Maker::Source));
    assert!(wait(async { (&mut late).now_or_never() }).is_none());
    let (points, _) = prepared("a/late", 2 * PART);
    running.push(&points.iter().map(|point| point.path.to_string()).collect::<Vec<_>>());
    drop(place);
    let before = running.committer.reader().flushed().next();
    wait(late).unwrap();
    assert_eq!(running.made_since(before), []);
    running.stop();
}

#[test]
fn a_stop_sends_those_away_that_wait_for_places() {
    let folder = with_lanes();
    let running = run(folder.path(), NEVER);
    let few = wait(running.ready(prepared("b", AT_ONCE as usize / POINT as usize), Maker::Source)).unwrap();
    let mut waiting = Box::pin(running.ready(prepared("a", 1), Maker::Source));
    assert!(wait(async { (&mut waiting).now_or_never() }).is_none());
    running.shared.close_point_places();
    assert_eq!(wait(waiting).unwrap_err(), Refusal::Stopped);
    assert_eq!(wait(running.ready(prepared("a", 1), Maker::Source)).unwrap_err(), Refusal::Stopped);
    drop(few);
    // A last invocation finds a place.
    drop(wait(running.ready(prepared("a", 1), Maker::Source)).unwrap());
    running.stop();
}
