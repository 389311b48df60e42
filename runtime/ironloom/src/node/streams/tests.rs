//! How many streams there may be, and who has one.

use super::*;
use crate::api::facade::{Push, StreamPlace};
use crate::node::tests::World;
use ironloom_types::clock::{SECOND, Timestamp};
use ironloom_types::ids::{PointNumber, PointPath, TenantId};
use ironloom_types::readings::{Columns, NewPoint, Quality, ValueRef};

const BEGIN: Timestamp = Timestamp(1_800_000_000 * SECOND);
const DAY: u64 = 24 * 3600 * SECOND;

/// Takes lines of a stream, of which one is a reading of this time, which the feed's clock follows, or none is.
async fn push(node: &Arc<Node>, key: &str, lines: u64, at: Option<Timestamp>) {
    let (mut columns, mut new_points) = (Columns::default(), Vec::new());
    if let Some(at) = at {
        columns.push(PointNumber::pending(0), at, Quality::Good, ValueRef::Integer(1));
        new_points.push(NewPoint { path: PointPath::new(TenantId::MAIN, "a").unwrap(), unit: None });
    }
    let progress = Some(Progress { lines, ..Progress::default() });
    let stream = Some(StreamPlace { key: key.into(), progress });
    node.submit(Push { tenant: TenantId::MAIN, columns, new_points, key: None, stream })
        .unwrap()
        .await
        .unwrap();
}

async fn open(node: &Arc<Node>, key: &str) -> Result<OpenStream, Problem> {
    node.claim_stream(Some(key.into()))?.opened.await
}

async fn come(node: &Arc<Node>, key: &str) -> Result<u64, String> {
    let opened = open(node, key).await;
    opened.map(|opened| opened.progress.lines).map_err(|problem| problem.kind.clone())
}

#[tokio::test(flavor = "multi_thread")]
async fn there_are_as_many_as_are_remembered_and_those_that_are_open() {
    let world = World::with("[site]\nclock = \"feed\"\n").await;
    let node = &world.node;
    for stream in 0..MOST - 2 {
        push(node, &format!("s{stream}"), 7, Some(BEGIN)).await;
    }
    assert_eq!(come(node, "s3").await, Ok(7));
    // Two more, of which nothing is remembered yet.
    let first = open(node, "first").await.unwrap();
    let second = open(node, "second").await.unwrap();
    assert_eq!(come(node, "third").await, Err("too-many-streams".to_owned()));
    drop(first);
    assert_eq!(come(node, "third").await, Ok(0));
    push(node, "second", 1, None).await;
    push(node, "third", 1, None).await;
    assert_eq!(come(node, "fourth").await, Err("too-many-streams".to_owned()));
    // However far journal time jumps: this process has known them for less than an hour.
    push(node, "s3", 8, Some(BEGIN.plus(7 * DAY))).await;
    assert_eq!(come(node, "fourth").await, Err("too-many-streams".to_owned()));
    assert_eq!(come(node, "s2").await, Ok(7));
    drop(second);
    world.end().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_place_is_remembered_where_no_line_is_a_reading() {
    let world = World::new().await;
    push(&world.node, "k", 3, None).await;
    assert_eq!(come(&world.node, "k").await, Ok(3));
    assert_eq!(world.node.shared.journal.of(TenantId::MAIN).last().0, 0);
    world.end().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn only_the_last_one_that_wants_a_stream_has_it() {
    let world = World::new().await;
    let claim = |key: &str| world.node.claim_stream(Some(key.into())).unwrap();
    let first = claim("k");
    let held = first.opened.await.unwrap();
    let mut second = claim("k");
    // It is told, and the second waits until it has let go.
    first.wanted.notified().await;
    assert!(futures_util::FutureExt::now_or_never(&mut second.opened).is_none());
    // So is the second while it waits.
    let third = claim("k");
    second.wanted.notified().await;
    drop(second.opened);
    drop(held);
    let third = third.opened.await.unwrap();
    let other = claim("l").opened.await.unwrap();
    drop((third, other));
    world.end().await;
}
