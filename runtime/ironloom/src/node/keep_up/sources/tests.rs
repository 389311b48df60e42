//! Where a push has readings whose sources are slowed.

use super::*;
use crate::node::tests::World;
use ironloom_types::clock::Timestamp;
use ironloom_types::ids::{PointPath, TenantId};
use ironloom_types::readings::{Quality, ValueRef};

#[tokio::test(flavor = "multi_thread")]
async fn a_new_point_is_found_where_its_reading_is_and_is_looked_at_first_then() {
    let world = World::new().await;
    let behind =
        Bound { inputs: vec![Pattern::new(TenantId::MAIN, "room/{name}").unwrap()], ..Bound::default() };
    let new = |path: &str| NewPoint { path: PointPath::new(TenantId::MAIN, path).unwrap(), unit: None };
    let (other, own) = (PointNumber::pending(0), PointNumber::pending(1));
    let mut columns = Columns::default();
    for point in [other, other, own, own] {
        columns.push(point, Timestamp(1), Quality::Good, ValueRef::Integer(1));
    }
    let find = |new_points: &[NewPoint], first| behind.find(&world.node.shared, &columns, new_points, first);
    let points = [new("hall/a"), new("room/a")];
    assert_eq!(find(&points, 0), Some(2));
    // The first is where it was found before; one that nobody takes is none.
    assert_eq!((find(&points, 3), find(&points, 1), find(&points, 9)), (Some(3), Some(2), Some(2)));
    assert_eq!(find(&[new("hall/a"), new("hall/b")], 0), None);
    assert_eq!(find(&vec![new("hall/a"); MOST_MATCHED + 1], 3), Some(0), "too many to find out");
    world.end().await;
}
