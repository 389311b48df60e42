//! From a plan to requests: in which order stations are told their limits, so that together they never have more than there is.
//!
//! A raise takes effect once its station is told, a lower only once its station has accepted it. So a raise either fits
//! into what is free in the worst case, or stands in a list behind the lowers that it needs: the host sends each request of a
//! list only after the one before was accepted. One such list is under way at a time. It has two cases: either no
//! raise was sent yet, or all its lowers were accepted. The worse of the two is the worst case.

use crate::plan::tenths_down;
use crate::site::LEAST;
use crate::told::{Nanos, Part, Told};

/// Sums of tenths in floating point are exact to this, in ampere.
pub const HAIR: f64 = 1e-6;
/// A smaller change waits until the limit is renewed, in ampere: each costs a message.
const SMALL: f64 = 0.5;

/// A station, as far as it matters for the order.
#[derive(Clone, Copy, Debug)]
pub struct Place<'a> {
    /// The ledger of what it may have been told.
    pub told: &'a Told,
    /// The current that it draws beyond that, in ampere; else 0.
    pub beyond: f64,
    /// Nothing may depend on it: it doesn't take its limits.
    pub pinned: bool,
    /// The limit that it is to have, in ampere: 0, or [`LEAST`] and more.
    pub target: f64,
}

/// A limit for one station.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Order {
    /// The station's place.
    pub place: usize,
    /// The limit, in ampere.
    pub amps: f64,
    /// Its part in its list.
    pub part: Part,
}

/// The requests to be made.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Orders {
    /// Each in a list of its own: if one station doesn't answer, that holds up no other.
    pub alone: Vec<Order>,
    /// In one list, lowers before raises.
    pub list: Vec<Order>,
}

/// The circumstances that orders hang on, besides the stations.
#[derive(Clone, Copy, Debug)]
pub struct Moment {
    /// The time of the invocation.
    pub now: Nanos,
    /// The limit of a station that isn't told anything any more, in ampere.
    pub safe: f64,
    /// The most that the stations may have together, in ampere.
    pub available: f64,
}

impl Place<'_> {
    fn bound(&self, moment: &Moment) -> f64 {
        self.told.bound(moment.now, moment.safe)
    }
}

/// The most that all stations may have been told together, in ampere.
pub fn worst(places: &[Place<'_>], moment: &Moment) -> f64 {
    let before =
        places.iter().map(|place| place.told.before_raises(moment.now, moment.safe).max(place.beyond));
    let after = places.iter().map(|place| place.told.after_lowers(moment.now, moment.safe).max(place.beyond));
    before.sum::<f64>().max(after.sum())
}

/// Arranges what is to be requested. `places` come in the order in which they are to be raised.
pub fn arrange(places: &[Place<'_>], moment: &Moment) -> Orders {
    let worst = worst(places, moment);
    if worst > moment.available + HAIR { relieve(places, moment) } else { move_on(places, moment, worst) }
}

/// There may be more in force than is available: each station is lowered by itself, none is raised, and raises that may
/// not have been sent yet are taken back.
fn relieve(places: &[Place<'_>], moment: &Moment) -> Orders {
    let mut orders = Orders::default();
    for (number, place) in places.iter().enumerate() {
        let bound = place.bound(moment);
        let amps = place.target.min(place.told.lowest(moment.now, moment.safe));
        let asks = match place.told.last_open() {
            Some(last) => amps < last - HAIR,
            None => {
                (amps < bound - HAIR || place.told.is_due(moment.now)) && place.told.may_retry(moment.now)
            }
        };
        if asks {
            orders.alone.push(Order { place: number, amps, part: Part::Alone });
        }
    }
    orders
}

/// The stations go from what they have to their targets.
fn move_on(places: &[Place<'_>], moment: &Moment, worst: f64) -> Orders {
    let mut orders = Orders::default();
    let (mut lowers, mut raises) = (Vec::new(), Vec::new());
    for (number, place) in places.iter().enumerate() {
        if place.told.is_open() || !place.told.may_retry(moment.now) {
            continue;
        }
        let (bound, due) = (place.bound(moment), place.told.is_due(moment.now));
        let order = |amps, part| Order { place: number, amps, part };
        let change = place.target - bound;
        // From nothing and to nothing is never small.
        let matters = change.abs() >= SMALL - HAIR || due;
        if place.pinned || change.abs() <= HAIR {
            if due || change < -HAIR {
                orders.alone.push(order(place.target.min(bound), Part::Alone));
            }
        } else if change < 0.0 && matters {
            lowers.push(order(place.target, Part::Lower));
        } else if change > 0.0 && matters {
            raises.push((order(place.target, Part::Raise), bound));
        }
    }

    let mut free = moment.available - worst;
    let mut behind = Vec::new();
    let mut fitting = Vec::new();
    for (raise, bound) in raises {
        if raise.amps - bound <= free + HAIR {
            free -= raise.amps - bound;
            fitting.push(Order { part: Part::Alone, ..raise });
        } else {
            behind.push((raise, bound));
        }
    }
    let is_under_way = places.iter().any(|place| place.told.is_in_list());
    let freed: f64 = lowers.iter().map(|lower| places[lower.place].bound(moment) - lower.amps).sum();
    let mut raised = Vec::new();
    let mut free = if is_under_way { 0.0 } else { free + freed };
    for (raise, bound) in behind {
        let amps = raise.amps.min(tenths_down(bound + free));
        if amps >= LEAST && amps - bound >= SMALL {
            free -= amps - bound;
            raised.push(Order { amps, ..raise });
        } else if places[raise.place].told.is_due(moment.now) {
            // No room for more now: what it has is renewed.
            orders.alone.push(Order { amps: bound, part: Part::Alone, ..raise });
        }
    }
    if raised.is_empty() {
        orders.alone.extend(lowers.into_iter().map(|lower| Order { part: Part::Alone, ..lower }));
    } else {
        orders.list = lowers;
        orders.list.extend(raised);
    }
    orders.alone.extend(fitting);
    orders
}
