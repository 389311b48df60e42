//! Pig ledger: growth, feed conversion, market day and vaccinations for each animal.
//!
//! Readings of weight and feed make a [`ledger`] for each animal; [`growth`] forecasts from it when the animal reaches
//! market weight, [`bands`] compares it with its breed, [`plan`] knows the vaccinations. [`animal`] ties them
//! together and raises the alarms; a timer visits all animals each morning.

pub mod animal;
pub mod bands;
pub mod farm;
pub mod grid;
pub mod growth;
pub mod ledger;
mod packed;
pub mod plan;

use ironloom_sdk::prelude::*;

use animal::{Animal, Round};
use farm::Farm;

pub struct Pigs;

ironloom_sdk::app!(Pigs: readings, timers);

/// One row for each animal.
pub const ANIMALS: Table<str, Animal, Compact> = Table::new("animal/");

impl Readings for Pigs {
    fn consume(batch: &Batch) -> Result<(), Failure> {
        let farm = Farm::read()?;
        let mut animals = ANIMALS.of(batch)?;
        let mut out = Outputs::new();
        for reading in batch.readings().filter(|reading| !reading.is_bad()) {
            let (at, entity) = (reading.at().nanos(), reading.entity());
            let animal = animals.or_default(&reading);
            animal.see(at, entity)?;
            let entered = match reading.slot() {
                "weight" => animal.weigh(at, reading.real()?, entity, &farm, &mut out)?,
                "feed" => animal.eat(at, reading.real()?, entity, &mut out)?,
                "temperature" => animal.feel(at, reading.real()?, entity, &farm)?,
                "birth" => animal.born(at, reading.text()?),
                "vaccinated" => animal.vaccinate(reading.text()?, entity, &farm)?,
                other => return Err(Failure::reject(format!("the app has no input `{other}`"))),
            };
            if let Err(reason) = entered {
                reading.refuse(reason);
            }
        }
        animals.save()?;
        out.publish()?;
        Ok(())
    }
}

impl Timers for Pigs {
    fn fire(_timer: &str, due: Timestamp) -> Result<(), Failure> {
        let farm = Farm::read()?;
        // Most animals are as they were yesterday: only those that changed stay in memory, and are written.
        let mut changed = Vec::new();
        for entry in ANIMALS.scan() {
            let (entity, mut animal) = entry?;
            match animal.visit(due.nanos(), &entity, &farm)? {
                Round::Same => {}
                Round::Changed => changed.push((entity, Some(animal))),
                Round::Gone => changed.push((entity, None)),
            }
        }
        let mut rows = ANIMALS.rows();
        rows.prefetch(changed.iter().map(|(entity, _)| entity.as_str()))?;
        for (entity, animal) in changed {
            match animal {
                Some(animal) => rows.insert(entity.as_str(), animal)?,
                None => rows.remove(entity.as_str())?,
            };
        }
        rows.save()?;
        Ok(())
    }
}
