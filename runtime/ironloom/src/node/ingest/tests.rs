//! The fate of readings with new points while these wait for their place.

use super::*;
use crate::node::tests::World;
use ironloom_types::ids::{PointNumber, PointPath};
use ironloom_types::readings::{Quality, ValueRef};

/// As many new points as are under way at a time: each counts as 2.
const ALL_PLACES: usize = 50;

fn points(prefix: &str, count: usize) -> Vec<NewPoint> {
    let path = |number| PointPath::new(TenantId::MAIN, &format!("{prefix}/{number}")).unwrap();
    (0..count).map(|number| NewPoint { path: path(number), unit: None }).collect()
}

/// Readings of one new point.
fn push(path: &str, readings: usize) -> Push {
    let mut columns = Columns::default();
    for _ in 0..readings {
        columns.push(PointNumber::pending(0), Timestamp(1), Quality::Good, ValueRef::Real(1.0));
    }
    Push { tenant: TenantId::MAIN, columns, new_points: points(path, 1), key: None, stream: None }
}

async fn all_places(node: &Node) -> Ready {
    let weighed = Weighed::of(&node.shared, points("all", ALL_PLACES)).await.unwrap();
    let columns = Columns::default();
    let may_go_on = || Ok::<_, Refusal>(());
    new_points::make(&node.shared, &node.committer, weighed, columns, Maker::Source, may_go_on).await.unwrap()
}

#[tokio::test(flavor = "multi_thread")]
async fn readings_that_wait_for_places_count_and_too_many_of_them_are_refused() {
    let world = World::new().await;
    let node = &world.node;
    let places = all_places(node).await;
    let waiting = node.submit(push("a", 10_000)).unwrap();
    // Before anybody has polled it.
    let reserved = node.committer.reserved();
    assert!(reserved >= 10_000 * 8, "{reserved}");
    let problem = node.has_room(&points("b", 1)).unwrap_err();
    assert_eq!((problem.status, problem.kind.as_ref()), (503, "busy"));
    node.has_room(&[]).unwrap();
    drop(places);
    assert_eq!(waiting.await.unwrap().accepted, 10_000);
    assert_eq!(node.committer.reserved(), 0);
    node.has_room(&points("b", 1)).unwrap();
    // Whoever goes takes its bytes along.
    let places = all_places(node).await;
    drop(node.submit(push("b", 10_000)).unwrap());
    assert_eq!(node.committer.reserved(), 0);
    drop(places);
    world.end().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn room_is_asked_for_again_once_the_points_have_their_place() {
    let world = World::new().await;
    let node = &world.node;
    let places = all_places(node).await;
    let waiting = node.submit(push("a", 1)).unwrap();
    node.full.store(true, Ordering::Release);
    drop(places);
    let Err(problem) = waiting.await else { panic!("the disk is full") };
    assert_eq!(problem.status, 507);
    assert_eq!(node.shared.points.names().count(), 0);
    node.full.store(false, Ordering::Release);
    let places = all_places(node).await;
    let waiting = tokio::spawn(node.submit(push("a", 1)).unwrap());
    world.end().await;
    let Err(problem) = waiting.await.unwrap() else { panic!("the server stops") };
    assert_eq!(problem.kind, "stopping");
    drop(places);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_key_of_another_request_is_found_before_points_are_made() {
    let world = World::new().await;
    let node = &world.node;
    let key = |request| Some(RequestKey { key: [1; 16], request: [request; 16] });
    let first = node.submit(Push { key: key(1), ..push("a", 1) }).unwrap().await.unwrap();
    // None of these needs a place.
    let places = all_places(node).await;
    let again = node.submit(Push { key: key(1), ..push("b", 2) }).unwrap().await.unwrap();
    assert_eq!((again.accepted, again.through, again.duplicate), (1, first.through, true));
    let other = node.submit(Push { key: key(2), ..push("b", 1) }).unwrap().await;
    assert_eq!(other.err().unwrap().kind, "key-reused");
    drop(places);
    world.end().await;
}

#[test]
fn the_feeds_clock_has_no_time_before_the_first_reading() {
    let clock = Clock::new(Source::Feed, Timestamp(0));
    assert_eq!(time_for_readings(&clock), None);
    clock.advance(Timestamp(7));
    assert_eq!(time_for_readings(&clock), Some(Timestamp(7)));
}
