//! How many streams are remembered, and for how long.

use super::*;
use crate::api::facade::Push;
use crate::node::tests::World;
use ironloom_types::ids::{PointNumber, PointPath};
use ironloom_types::readings::{Columns, NewPoint, Quality, ValueRef};

const BEGIN: Timestamp = Timestamp(1_800_000_000 * SECOND);

/// Takes one reading of this time, which the feed's clock follows, and one behind it for the stream.
async fn push(node: &Arc<Node>, key: &str, lines: u64, at: Timestamp) {
    for stream in [None, Some(StreamPlace { key: key.into(), lines })] {
        let mut columns = Columns::default();
        columns.push(PointNumber::pending(0), at, Quality::Good, ValueRef::Integer(1));
        let new_points = vec![NewPoint { path: PointPath::new("a").unwrap(), unit: None }];
        node.submit(Push { columns, new_points, key: None, stream }).unwrap().await.unwrap();
    }
}

async fn come(node: &Node, key: &str) -> Result<u64, String> {
    let opened = node.open_stream(Some(key.into())).await;
    opened.map(|opened| opened.lines).map_err(|problem| problem.kind.clone())
}

#[tokio::test(flavor = "multi_thread")]
async fn streams_are_remembered_for_a_day_where_there_are_many() {
    let world = World::with("[site]\nclock = \"feed\"\n").await;
    let node = &world.node;
    for stream in 0..MAX_STREAMS {
        // The first ones ten minutes before the others.
        let at = if stream < 10 { BEGIN } else { BEGIN.plus(600 * SECOND) };
        push(node, &format!("s{stream}"), 7, at).await;
    }
    assert_eq!(come(node, "s3").await, Ok(7));
    assert_eq!(come(node, "another").await, Err("too-many-streams".to_owned()));
    // None of them is a day old.
    push(node, "s999", 8, BEGIN.plus(REMEMBERED - SECOND)).await;
    assert_eq!(come(node, "another").await, Err("too-many-streams".to_owned()));
    push(node, "s999", 9, BEGIN.plus(REMEMBERED)).await;
    // One of the first ten is at work.
    let _kept = node.open_stream(Some("s3".into())).await.unwrap();
    assert_eq!(come(node, "another").await, Ok(0));
    assert_eq!(come(node, "s2").await, Ok(0), "it is forgotten");
    assert_eq!(come(node, "s10").await, Ok(7));
    assert_eq!(come(node, "s999").await, Ok(9));
    let left = node.shared.receipts.read().len();
    assert_eq!(left, MAX_STREAMS - 9);
    world.end().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn only_the_last_one_that_wants_a_stream_has_it() {
    let world = World::new().await;
    let first = world.node.open_stream(Some("k".into())).await.unwrap();
    let second = tokio::spawn({
        let node = Arc::clone(&world.node);
        async move { node.open_stream(Some("k".into())).await.unwrap() }
    });
    // It is told, and the second waits until it has let go.
    first.wanted.notified().await;
    assert!(!second.is_finished());
    drop(first);
    let second = second.await.unwrap();
    let other = world.node.open_stream(Some("l".into())).await.unwrap();
    drop((second, other));
    world.end().await;
}
