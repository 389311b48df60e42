//! The plan: which station gets which limit, from plain numbers to plain numbers.
//!
//! *Least laxity first.* The laxity of a car is the time that it can wait and still be charged in full: what is left
//! of its stay, less the time that its energy takes at the highest limit. The car with the least goes first and gets all that
//! it can use. What is left over goes to the next ones in turn; where it is less than the 6 A below which no car
//! charges, those before hand over what is missing. So nothing stays unused that somebody could use.
//!
//! All sums are in tenths of an ampere, which is what OCPP carries: they are exact, and the same on each machine.

use std::cmp::{Ordering, Reverse};

use crate::site::LEAST;

/// A car that charges keeps its place ahead of others that are this much more urgent, in hours. Without it two cars of the
/// same laxity would take turns at each plan, which wears out contactors.
const KEEPS_PLACE: f64 = 0.25;
/// A car isn't told to draw faster than it takes to be done in this time, in hours: it leaves the rest to others.
const STEP: f64 = 1.0 / 12.0;
/// A car that stays longer than its driver said may leave at any time: it counts as leaving in so many hours.
const OVERSTAY: f64 = 1.0;

/// A car that could charge.
#[derive(Clone, Debug, PartialEq)]
pub struct Claim<'a> {
    /// The station where it stands.
    pub station: &'a str,
    /// A higher number comes before all lower ones.
    pub priority: u32,
    /// The energy that it still needs, in kWh.
    pub remaining: f64,
    /// The part of what was asked for that it has, 0 to 1.
    pub served: f64,
    /// Hours until it leaves; negative where it should have left.
    pub leaves_in: f64,
    /// The highest limit that it can be given now, in ampere.
    pub most: f64,
    /// It has a limit above 0 now.
    pub charging: bool,
}

/// The rules that a plan goes by.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Rules {
    /// kW for each ampere.
    pub kilowatts: f64,
    /// The part of what is available that is shared evenly before urgency decides, 0 to 1.
    pub fairness: f64,
}

impl Claim<'_> {
    /// Hours that the car can wait and still be charged in full.
    pub fn laxity(&self, rules: &Rules) -> f64 {
        let left = if self.leaves_in > 0.0 { self.leaves_in } else { OVERSTAY };
        left - self.remaining / (rules.kilowatts * self.most)
    }

    /// The limit with which it is done soon enough, in tenths of an ampere: 0 where it needs nothing or can't charge.
    fn need(&self, rules: &Rules) -> u32 {
        let (least, most) = (tenths_up(LEAST), tenths(self.most));
        if self.remaining <= 0.0 || most < least {
            return 0;
        }
        let left = if self.leaves_in > 0.0 { self.leaves_in.min(STEP) } else { STEP };
        tenths_up(self.remaining / (rules.kilowatts * left)).clamp(least, most)
    }
}

/// Shares what is `available`, in ampere, among the claims; gives the limit of each, in ampere: 0, or [`LEAST`] to its
/// `most`. Their sum is at most what is available.
pub fn plan(rules: &Rules, available: f64, claims: &[Claim<'_>]) -> Vec<f64> {
    let mut plan = Plan {
        claims,
        needs: claims.iter().map(|claim| claim.need(rules)).collect(),
        given: vec![0; claims.len()],
        left: tenths(available),
    };
    plan.share_evenly(tenths(available * rules.fairness.clamp(0.0, 1.0)));
    plan.serve(&by_laxity(rules, claims));
    plan.given.into_iter().map(|tenths| f64::from(tenths) / 10.0).collect()
}

struct Plan<'c> {
    claims: &'c [Claim<'c>],
    /// In tenths of an ampere, as all here.
    needs: Vec<u32>,
    given: Vec<u32>,
    left: u32,
}

impl Plan<'_> {
    /// Gives each car the least that it can charge with, those first that have the smallest part of their energy, then
    /// the same more to all, until `budget` is used up.
    fn share_evenly(&mut self, budget: u32) {
        let least = tenths_up(LEAST);
        let mut budget = budget.min(self.left);
        let mut members: Vec<usize> = Vec::new();
        for place in by_share(self.claims) {
            if self.needs[place] > 0 && budget >= least {
                self.give(place, least);
                budget -= least;
                members.push(place);
            }
        }
        // Whoever is still without had no room: the rest of the budget is for urgency then.
        if members.len() < self.needs.iter().filter(|&&need| need > 0).count() {
            return;
        }
        loop {
            members.retain(|&place| self.given[place] < self.needs[place]);
            let Some(each) = u32::try_from(members.len()).ok().and_then(|count| budget.checked_div(count))
            else {
                return;
            };
            if each == 0 {
                return;
            }
            for &place in &members {
                let more = each.min(self.needs[place] - self.given[place]);
                self.give(place, more);
                budget -= more;
            }
        }
    }

    /// Serves the cars in this order with what is left.
    fn serve(&mut self, order: &[usize]) {
        let least = tenths_up(LEAST);
        for (turn, &place) in order.iter().enumerate() {
            let more = (self.needs[place] - self.given[place]).min(self.left);
            if self.given[place] + more >= least {
                self.give(place, more);
            } else if more > 0 && self.gather(&order[..turn], place, least - self.left) {
                self.give(place, least);
            }
        }
    }

    /// Takes from those before what is missing for the least of this one, the least urgent first, and none of them below its
    /// own least nor in favour of a lower priority. Either all or nothing.
    fn gather(&mut self, before: &[usize], place: usize, missing: u32) -> bool {
        let (least, priority) = (tenths_up(LEAST), self.claims[place].priority);
        let spare = |plan: &Self, donor: usize| match plan.claims[donor].priority <= priority {
            true => plan.given[donor].saturating_sub(least),
            false => 0,
        };
        if before.iter().map(|&donor| spare(self, donor)).sum::<u32>() < missing {
            return false;
        }
        let mut missing = missing;
        for &donor in before.iter().rev() {
            let less = spare(self, donor).min(missing);
            self.given[donor] -= less;
            self.left += less;
            missing -= less;
        }
        true
    }

    fn give(&mut self, place: usize, more: u32) {
        self.given[place] += more;
        self.left -= more;
    }
}

/// The places of the claims: by priority, then the most urgent first.
pub fn by_laxity(rules: &Rules, claims: &[Claim<'_>]) -> Vec<usize> {
    let urgency = |claim: &Claim<'_>| claim.laxity(rules) - if claim.charging { KEEPS_PLACE } else { 0.0 };
    sorted(claims, |a, b| urgency(a).total_cmp(&urgency(b)))
}

/// The places of the claims: by priority, then those with the smallest part of their energy.
fn by_share(claims: &[Claim<'_>]) -> Vec<usize> {
    sorted(claims, |a, b| a.served.total_cmp(&b.served))
}

fn sorted(claims: &[Claim<'_>], order: impl Fn(&Claim<'_>, &Claim<'_>) -> Ordering) -> Vec<usize> {
    let mut places: Vec<usize> = (0..claims.len()).collect();
    places.sort_by(|&a, &b| {
        let (a, b) = (&claims[a], &claims[b]);
        // The name, so that the order doesn't hang on that of the claims.
        Reverse(a.priority)
            .cmp(&Reverse(b.priority))
            .then_with(|| order(a, b))
            .then_with(|| a.station.cmp(b.station))
    });
    places
}

/// Rounds down to tenths of an ampere.
pub fn tenths_down(amperes: f64) -> f64 {
    f64::from(tenths(amperes)) / 10.0
}

/// Whole tenths, rounded down: for what must not be exceeded.
fn tenths(amperes: f64) -> u32 {
    // A sum of tenths in floating point may be a hair below what is meant.
    whole((amperes * 10.0 + 1e-6).floor())
}

/// Whole tenths, rounded up: for what is needed.
fn tenths_up(amperes: f64) -> u32 {
    whole((amperes * 10.0 - 1e-6).ceil())
}

/// `as` gives 0 for NaN and stops at the ends; nothing that is asked for is beyond a million ampere.
fn whole(tenths: f64) -> u32 {
    tenths.clamp(0.0, 1e7) as u32
}
