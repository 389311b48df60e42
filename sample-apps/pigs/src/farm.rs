//! The settings, as an admin gave them.

use ironloom_sdk::prelude::*;
use serde::Deserialize;

use crate::bands::{BREEDS, Breed};
use crate::growth::Model;
use crate::ledger::SCATTER;
use crate::plan::{Plan, PlanError};

/// The settings of the manifest.
#[derive(Clone, Debug, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub struct Settings {
    breed: String,
    market_weight: f64,
    age_at_first_weighing: f64,
    growth_tolerance: f64,
    fever: f64,
    vaccinations: String,
    not_seen_days: f64,
    forget_days: f64,
}

/// The settings, checked.
#[derive(Clone, Debug)]
pub struct Farm {
    /// Growth is compared with this breed's, and a forecast begins with it.
    pub breed: &'static Breed,
    pub model: Model,
    /// Weight in kilograms.
    pub market_weight: f64,
    /// Days; for animals without a date of birth.
    pub age_at_first_weighing: f64,
    /// Half width of the breed's band, as a fraction.
    pub growth_tolerance: f64,
    /// In degrees Celsius.
    pub fever: f64,
    /// The vaccines with the ages for them.
    pub plan: Plan,
    /// After so many days without a reading an animal is missing.
    pub not_seen_days: f64,
    /// And after so many its ledger is closed.
    pub forget_days: f64,
}

/// A setting with which the app can't work.
#[derive(Debug, thiserror::Error, PartialEq)]
pub enum SettingError {
    /// No figures are known of that breed.
    #[error("setting breed: `{given}` isn't known, use one of {known}")]
    Breed {
        /// The given value.
        given: String,
        /// The allowed values.
        known: String,
    },
    /// A number that makes no sense.
    #[error("setting {name}: {given} isn't between {least} and {most}")]
    Range {
        name: &'static str,
        /// The given value.
        given: f64,
        /// The least allowed value.
        least: f64,
        /// The greatest allowed value.
        most: f64,
    },
    /// The plan can't be read.
    #[error("setting vaccinations: {0}")]
    Plan(#[from] PlanError),
}

impl Farm {
    /// Reads the settings. A wrong one makes the call come again later: no reading is lost over it, and
    /// the admin sees why the app waits.
    pub fn read() -> Result<Self, Failure> {
        settings::all::<Settings>().or_retry()?.check().or_retry()
    }
}

impl Settings {
    /// Checks the settings.
    pub fn check(self) -> Result<Farm, SettingError> {
        let within = |name, given: f64, least, most| {
            let fits = (least..=most).contains(&given);
            if fits { Ok(given) } else { Err(SettingError::Range { name, given, least, most }) }
        };
        let breed = Breed::find(&self.breed).ok_or_else(|| SettingError::Breed {
            given: self.breed.clone(),
            known: BREEDS.map(|breed| breed.name).join(", "),
        })?;
        Ok(Farm {
            breed,
            model: Model::new(&breed.prior(), &SCATTER),
            market_weight: within("market-weight", self.market_weight, 5.0, 0.9 * breed.mature)?,
            age_at_first_weighing: within("age-at-first-weighing", self.age_at_first_weighing, 0.0, 2_000.0)?,
            growth_tolerance: within("growth-tolerance", self.growth_tolerance, 1.0, 1_000.0)? / 100.0,
            fever: within("fever", self.fever, 38.0, 43.0)?,
            plan: Plan::parse(&self.vaccinations)?,
            not_seen_days: within("not-seen-days", self.not_seen_days, 0.5, 3_650.0)?,
            forget_days: within("forget-days", self.forget_days, self.not_seen_days, 3_650.0)?,
        })
    }
}
