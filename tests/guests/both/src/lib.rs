//! A guest that asks its platform for everything once. Each reading names a [`Scenario`]; what the platform answered
//! stands in the state under `answer/<scenario>`. The scenarios run on the host and on the SDK's platform for
//! tests, and each says what both must answer.

mod scenarios;

use ironloom_sdk::prelude::*;

pub use scenarios::{Ask, SCENARIOS, Scenario};

pub struct Both;
ironloom_sdk::app!(Both: readings, timers);

impl Readings for Both {
    fn consume(batch: &Batch) -> Result<(), Failure> {
        for reading in batch.readings() {
            let name = reading.text()?;
            let scenario = SCENARIOS.iter().find(|scenario| scenario.name == name);
            let scenario =
                scenario.ok_or_else(|| Failure::reject(format!("there is no scenario {name:?}")))?;
            let answer = match scenario.ask {
                Ask::Alone(ask) => ask(),
                Ask::OfBatch(ask) => ask(batch),
            };
            state::set(&format!("answer/{name}"), answer.as_bytes())?;
        }
        Ok(())
    }
}

impl Timers for Both {
    fn fire(timer: &str, due: Timestamp) -> Result<(), Failure> {
        // Of a manifest: each of its times counts. When those of a scenario are due depends on when it runs.
        if matches!(timer, "minute" | "morning") {
            return Ok(state::set(&format!("fired/{due}"), timer.as_bytes())?);
        }
        state::set(&format!("fired/{timer}"), b"")?;
        // Of a scenario that answers with its timer.
        let Some(asked) = state::get(&format!("asked/{timer}"))? else { return Ok(()) };
        let asked: u64 = String::from_utf8_lossy(&asked).parse().map_err(Failure::reject)?;
        let after = |time: Timestamp| time.since(Timestamp::from_nanos(asked));
        let waited = format!("{:?} later, set for {:?}", after(invocation::now()), after(due));
        Ok(state::set(&format!("answer/{timer}"), waited.as_bytes())?)
    }
}

/// Runs a scenario on the SDK's platform for tests, with the timers that are due within a minute of it.
#[cfg(not(target_family = "wasm"))]
pub fn run_natively(scenario: &Scenario) -> ironloom_sdk::testing::Platform {
    use ironloom_sdk::testing::{self, Platform};

    let mut platform = Platform::from_manifest(include_str!("../app.toml"));
    let batch = testing::batch([("scenario", "", Timestamp::from_seconds(1), scenario.name)]);
    platform.consume::<Both>(&batch).expect_ok();
    for fired in platform.fire_due::<Both>(Timestamp::from_seconds(60)) {
        fired.expect_ok();
    }
    platform
}
