//! The plan, from numbers to numbers.

use charging::plan::{Claim, Rules, plan};
use proptest::prelude::*;

/// 10 A bring 2 kW.
const RULES: Rules = Rules { kilowatts: 0.2, fairness: 0.0 };
const NAMES: [&str; 12] = ["a", "b", "c", "d", "e", "f", "g", "h", "i", "j", "k", "l"];

fn claim(station: &str, remaining: f64, leaves_in: f64) -> Claim<'_> {
    Claim { station, priority: 1, remaining, served: 0.0, leaves_in, most: 32.0, charging: false }
}

#[test]
fn the_car_that_can_wait_the_least_comes_first() {
    // At 32 A, 6.4 kW, they can wait for 10 - 2.5, 4 - 0.5 and 3 - 2.5 hours.
    let cars = [claim("a", 16.0, 10.0), claim("b", 3.2, 4.0), claim("c", 16.0, 3.0)];
    assert_eq!(plan(&RULES, 100.0, &cars), [32.0, 32.0, 32.0]);
    assert_eq!(plan(&RULES, 70.0, &cars), [6.0, 32.0, 32.0]);
    assert_eq!(plan(&RULES, 40.0, &cars), [0.0, 8.0, 32.0]);
    assert_eq!(plan(&RULES, 5.9, &cars), [0.0, 0.0, 0.0]);
}

#[test]
fn those_before_hand_over_what_is_missing_for_6_ampere() {
    let cars = [claim("a", 16.0, 10.0), claim("b", 16.0, 4.0), claim("c", 16.0, 3.0)];
    // 3 A are left over: no car charges with that. With 3 A more it does.
    assert_eq!(plan(&RULES, 35.0, &cars), [0.0, 6.0, 29.0]);
    // The less urgent one gives first.
    assert_eq!(plan(&RULES, 65.0, &cars), [6.0, 27.0, 32.0]);
    // Not one of a higher priority.
    let mut first = cars.clone();
    first[2].priority = 2;
    assert_eq!(plan(&RULES, 35.0, &first), [0.0, 0.0, 32.0]);
}

#[test]
fn a_car_that_is_nearly_done_leaves_the_rest_to_others() {
    // 0.2 kWh in five minutes are 2.4 kW: 12 A. It leaves in two minutes and a half: 24 A.
    assert_eq!(plan(&RULES, 40.0, &[claim("a", 0.2, 1.0), claim("b", 50.0, 9.0)]), [12.0, 28.0]);
    assert_eq!(plan(&RULES, 40.0, &[claim("a", 0.2, 1.0 / 24.0), claim("b", 50.0, 9.0)]), [24.0, 16.0]);
    // Below 6 A no car charges, and one that has everything gets nothing.
    assert_eq!(plan(&RULES, 40.0, &[claim("a", 0.01, 1.0), claim("b", 0.0, 1.0)]), [6.0, 0.0]);
}

#[test]
fn a_car_that_charges_keeps_its_place_for_a_quarter_of_an_hour() {
    let mut cars = [claim("a", 16.0, 5.0), claim("b", 16.0, 4.9)];
    assert_eq!(plan(&RULES, 32.0, &cars), [0.0, 32.0]);
    cars[0].charging = true;
    assert_eq!(plan(&RULES, 32.0, &cars), [32.0, 0.0]);
    cars[1].leaves_in = 4.7;
    assert_eq!(plan(&RULES, 32.0, &cars), [0.0, 32.0]);
}

#[test]
fn a_car_that_stays_longer_than_it_said_may_leave_at_any_time() {
    let cars = [claim("a", 6.4, -2.0), claim("b", 6.4, 0.9), claim("c", 6.4, 1.1)];
    assert_eq!(plan(&RULES, 64.0, &cars), [32.0, 32.0, 0.0]);
}

#[test]
fn fairness_shares_a_part_evenly_before_urgency_decides() {
    let cars = [claim("a", 30.0, 9.0), claim("b", 30.0, 5.0), claim("c", 30.0, 7.0)];
    let limits = |fairness: f64, available: f64| plan(&Rules { fairness, ..RULES }, available, &cars);
    assert_eq!(limits(0.0, 48.0), [0.0, 32.0, 16.0]);
    assert_eq!(limits(0.5, 48.0), [8.0, 32.0, 8.0]);
    assert_eq!(limits(1.0, 48.0), [16.0, 16.0, 16.0]);
    // Not all can have 6 A: those that have the smallest part of their energy do.
    let mut cars = cars.clone();
    cars[1].served = 0.9;
    assert_eq!(plan(&Rules { fairness: 1.0, ..RULES }, 14.0, &cars), [6.0, 0.0, 8.0]);
}

fn claims() -> impl Strategy<Value = Vec<Claim<'static>>> {
    let one = (
        1_u32..4,
        prop_oneof![Just(0.0), 0.0..40.0_f64],
        0.0..1.0_f64,
        -2.0..12.0_f64,
        prop_oneof![3 => Just(32.0), 1 => 0.0..40.0_f64],
        any::<bool>(),
    );
    proptest::collection::vec(one, 0..NAMES.len()).prop_map(|all| {
        let named = all.into_iter().zip(NAMES);
        named
            .map(|((priority, remaining, served, leaves_in, most, charging), station)| Claim {
                station,
                priority,
                remaining,
                served,
                leaves_in,
                most,
                charging,
            })
            .collect()
    })
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(2_000))]

    #[test]
    fn limits_are_allowed_and_fit(claims in claims(), available in 0.0..300.0_f64, fairness in 0.0..=1.0_f64) {
        let rules = Rules { fairness, ..RULES };
        let limits = plan(&rules, available, &claims);
        prop_assert!(limits.iter().sum::<f64>() <= available + 1e-9);
        for (claim, &limit) in claims.iter().zip(&limits) {
            prop_assert!(limit == 0.0 || (6.0..=claim.most + 1e-9).contains(&limit), "{limit} A for {claim:?}");
            prop_assert!(limit == 0.0 || claim.remaining > 0.0);
            // In tenths of an ampere, as OCPP has them.
            prop_assert!((limit * 10.0 - (limit * 10.0).round()).abs() < 1e-9);
        }
        // Whoever could charge and is left out, is so for want of 6 A.
        let left = available - limits.iter().sum::<f64>();
        let out = |(claim, limit): (&Claim<'_>, &f64)| *limit == 0.0 && claim.remaining > 0.0 && claim.most >= 6.0;
        prop_assert!(left < 6.0 + 1e-6 || !claims.iter().zip(&limits).any(out));
    }

    #[test]
    fn the_order_of_the_claims_changes_nothing(claims in claims(), available in 0.0..300.0_f64, fairness in 0.0..=1.0_f64) {
        let rules = Rules { fairness, ..RULES };
        let mut reversed = claims.clone();
        reversed.reverse();
        let mut limits = plan(&rules, available, &reversed);
        limits.reverse();
        prop_assert_eq!(limits, plan(&rules, available, &claims));
    }

    #[test]
    fn a_lower_priority_gets_nothing_while_a_higher_one_lacks(claims in claims(), available in 0.0..300.0_f64) {
        let limits = plan(&RULES, available, &claims);
        let plenty = plan(&RULES, 1e4, &claims);
        for (place, claim) in claims.iter().enumerate().filter(|(place, _)| limits[*place] < plenty[*place]) {
            let lower = claims.iter().zip(&limits).filter(|(other, _)| other.priority < claim.priority);
            prop_assert!(lower.map(|(_, limit)| limit).sum::<f64>() == 0.0, "{} lacks: {limits:?}", NAMES[place]);
        }
    }

    #[test]
    fn more_to_share_never_leaves_more_unused(claims in claims(), available in 6.0..300.0_f64) {
        let used = |available: f64| plan(&RULES, available, &claims).iter().sum::<f64>();
        prop_assert!(used(available + 10.0) >= used(available) - 1e-9);
    }
}
