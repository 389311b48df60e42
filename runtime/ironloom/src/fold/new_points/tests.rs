//! How much of what is new goes at a time.

use super::*;

#[test]
fn a_part_is_as_much_as_may_be_on_its_way_and_at_least_one_point() {
    assert_eq!(part(&[]), (0, 0));
    assert_eq!(part(&[30, 30, 30, 30]), (3, 90));
    assert_eq!(part(&[50, 50, 2]), (2, 100));
    // More than there is place for: it goes alone.
    assert_eq!(part(&[300, 2]), (1, 300));
    assert_eq!(part(&[2, 300]), (1, 2));
    assert_eq!(part(&[u32::MAX, u32::MAX]), (1, u32::MAX));
}
