//! EV charging: shares a site's capacity among charging stations.
//!
//! [`plan`] says which car gets how much, [`orders`] in which order the stations are told, so that together they may never
//! have been told more than is available, and [`told`] keeps for each station what that is. [`station`] knows the car that
//! stands there, [`yard`] ties all of them together.

pub mod departure;
pub mod orders;
pub mod plan;
pub mod site;
pub mod station;
pub mod told;
pub mod yard;

use ironloom_sdk::prelude::*;

use site::Site;
use yard::Yard;

/// The app, which the host calls for readings and each minute.
pub struct Charging;

ironloom_sdk::app!(Charging: readings, timers);

impl Readings for Charging {
    fn consume(batch: &Batch) -> Result<(), Failure> {
        let mut yard = Yard::load(Site::read()?)?;
        for reading in batch.readings().filter(|reading| !reading.is_bad()) {
            if let Err(reason) = yard.take(&reading)? {
                reading.refuse(reason);
            }
        }
        yard.decide()?;
        yard.save()
    }
}

impl Timers for Charging {
    fn fire(_timer: &str, _due: Timestamp) -> Result<(), Failure> {
        let mut yard = Yard::load(Site::read()?)?;
        yard.pass_minute()?;
        yard.decide()?;
        yard.save()
    }
}
