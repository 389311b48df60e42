//! A simulated charging site, for the tests of the sample app `charging`, natively and on a server.
//!
//! [`week`] has the recorded sessions and the building's load, [`simulation`] lets cars charge by limits under the rule of the
//! comparison, [`baselines`] has the schedulers to compare with, [`bound`] what no scheduler can exceed.
//!
//! The rule: periods of five minutes; one phase of 208 V; a limit is 0 or 6 to 32 A, continuous; a car draws its limit until it
//! has the energy that it was given in the recording, without a tail of the battery; all limits of a period together are
//! at most the capacity less the building's load. A car is there in the periods that lie wholly within its stay. All
//! schedulers know the recorded departure and energy of the cars that are there, and nothing of those to come.

pub mod baselines;
pub mod bound;
pub mod simulation;
pub mod week;

/// Below this no car charges, in ampere.
pub const LEAST: f64 = 6.0;
/// The highest limit of a station, in ampere.
pub const MOST: f64 = 32.0;
/// The voltage, one phase.
pub const VOLTAGE: f64 = 208.0;
/// Seconds of a period.
pub const PERIOD: u64 = 300;
/// kWh that an ampere brings in a period.
pub const KWH: f64 = VOLTAGE * PERIOD as f64 / 3.6e6;
/// The capacities of the comparison, in ampere.
pub const CAPACITIES: [f64; 5] = [40.0, 80.0, 120.0, 160.0, 240.0];
