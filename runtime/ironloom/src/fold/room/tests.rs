//! Who may add to what waits for a checkpoint.

use super::*;

const LIMIT: usize = 256 << 20;

proptest::proptest! {
    /// However the installations take turns and however much each adds at once, not much more waits than may, and
    /// nobody waits without a checkpoint that begins.
    #[test]
    fn what_waits_is_bounded_and_whoever_waits_has_a_checkpoint(
        installations in 1_usize..40,
        turns in proptest::collection::vec((0_usize..40, 1_usize..19 << 20), 1..400),
    ) {
        let (mut own, mut all) = (vec![0; installations], 0);
        let mut most = 0;
        for (lane, bytes) in turns {
            let lane = lane % installations;
            most = bytes.max(most);
            if may_add(LIMIT, all, own[lane], installations) {
                own[lane] += bytes;
                all += bytes;
            } else {
                proptest::prop_assert!(is_much(all, LIMIT), "it would wait for ever");
            }
        }
        proptest::prop_assert!(all <= LIMIT / 4 * 5 + most, "{all} bytes wait");
    }

    /// Whoever has little goes on beside any number of others that write all they may, a little at a time.
    #[test]
    fn whoever_has_little_goes_on_beside_others_that_write_all_they_may(
        greedy in 1_usize..100,
        little in 0_usize..300 << 10,
    ) {
        let (mut own, mut all) = (vec![0; greedy], little);
        while let Some(lane) = (0..greedy).find(|lane| may_add(LIMIT, all, own[*lane], greedy + 1)) {
            own[lane] += 64 << 10;
            all += 64 << 10;
        }
        proptest::prop_assert!(may_add(LIMIT, all, little, greedy + 1), "{all} bytes wait of {LIMIT}");
    }
}

#[test]
fn one_alone_may_have_more_than_what_begins_a_checkpoint() {
    let most = (0..LIMIT).step_by(1 << 20).find(|own| !may_add(LIMIT, *own, *own, 1)).unwrap();
    assert!(is_much(most - (1 << 20), LIMIT), "{most} bytes");
    assert!(most <= LIMIT / PARTS * (PARTS - 1), "{most} bytes leave nothing to others");
}
