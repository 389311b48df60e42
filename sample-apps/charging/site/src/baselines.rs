//! The schedulers to compare with, under the same rule and with the same knowledge.

use crate::LEAST;
use crate::simulation::Car;

/// A scheduler: what is available, in ampere, and the cars of a period, in the order of their arrivals, become limits.
pub type Baseline = fn(f64, &[Car<'_>]) -> Vec<f64>;

/// All of them, by name.
pub const ALL: [(&str, Baseline); 4] = [
    ("first come, first served", first_come_first_served),
    ("round robin", round_robin),
    ("earliest deadline first", earliest_deadline_first),
    ("least laxity first", least_laxity_first),
];

/// Serves the cars in the order of their arrivals.
pub fn first_come_first_served(available: f64, cars: &[Car<'_>]) -> Vec<f64> {
    in_order(available, cars, |car| car.session as f64)
}

/// Serves those first that leave first.
pub fn earliest_deadline_first(available: f64, cars: &[Car<'_>]) -> Vec<f64> {
    in_order(available, cars, |car| car.leaves_in)
}

/// Serves those first that can wait the least.
pub fn least_laxity_first(available: f64, cars: &[Car<'_>]) -> Vec<f64> {
    in_order(available, cars, |car| car.laxity())
}

/// Gives each car 6 A in turn, in the order of their arrivals, as long as there is room, and then the same more to each of
/// these, up to what it needs.
pub fn round_robin(available: f64, cars: &[Car<'_>]) -> Vec<f64> {
    let mut limits = vec![0.0; cars.len()];
    let mut left = available;
    let mut turn = Vec::new();
    for (place, limit) in limits.iter_mut().enumerate() {
        if left >= LEAST {
            *limit = LEAST;
            left -= LEAST;
            turn.push(place);
        }
    }
    loop {
        turn.retain(|&place| cars[place].need() - limits[place] > 1e-9);
        if turn.is_empty() || left < 1e-9 {
            return limits;
        }
        let each = left / turn.len() as f64;
        for &place in &turn {
            let more = each.min(cars[place].need() - limits[place]);
            limits[place] += more;
            left -= more;
        }
    }
}

/// Gives the cars what they need, the smallest key first and those that came first among equals, as long as there is room
/// for 6 A.
fn in_order(available: f64, cars: &[Car<'_>], key: impl Fn(&Car<'_>) -> f64) -> Vec<f64> {
    let mut order: Vec<usize> = (0..cars.len()).collect();
    order.sort_by(|&a, &b| key(&cars[a]).total_cmp(&key(&cars[b])).then(a.cmp(&b)));
    let mut limits = vec![0.0; cars.len()];
    let mut left = available;
    for place in order {
        let limit = cars[place].need().min(left);
        if limit >= LEAST {
            limits[place] = limit;
            left -= limit;
        }
    }
    limits
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::KWH;

    /// A car that needs so many ampere-periods and stays for so many periods.
    fn car(session: usize, need: f64, periods: usize) -> Car<'static> {
        let energy = need * KWH;
        let leaves_in = periods as f64 / 12.0;
        Car { session, station: "", remaining: energy, energy, leaves_in, charging: false }
    }

    #[test]
    fn each_serves_in_its_order() {
        // The second leaves first; the third can wait the least: 40 - 1248/32 = 1 period.
        let cars = [car(0, 100.0, 50), car(1, 32.0, 10), car(2, 1248.0, 40)];
        assert_eq!(first_come_first_served(40.0, &cars), [32.0, 8.0, 0.0]);
        assert_eq!(earliest_deadline_first(40.0, &cars), [0.0, 32.0, 8.0]);
        assert_eq!(least_laxity_first(40.0, &cars), [0.0, 8.0, 32.0]);
        assert_eq!(round_robin(39.0, &cars), [13.0, 13.0, 13.0]);
        // No car gets less than 6 A, and none more than it needs.
        assert_eq!(least_laxity_first(37.0, &cars), [0.0, 0.0, 32.0]);
        assert_eq!(round_robin(17.0, &cars), [8.5, 8.5, 0.0]);
        assert_eq!(round_robin(40.0, &[car(0, 1.0, 9), car(1, 7.0, 9)]), [6.0, 7.0]);
    }
}
