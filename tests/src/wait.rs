//! Waiting for something to become true, with a deadline that a busy machine meets as well.

use std::time::{Duration, Instant};

use anyhow::{Result, bail};

/// The time limit for anything that takes no time on a quiet machine.
pub const PATIENCE: Duration = Duration::from_secs(60);

/// Asks again and again until there is an answer; `what` names it where there is none in time. An
/// error ends the wait at once.
pub fn wait_for<T>(what: &str, mut ask: impl FnMut() -> Result<Option<T>>) -> Result<T> {
    let start = Instant::now();
    let mut pause = Duration::from_millis(5);
    loop {
        if let Some(answer) = ask()? {
            return Ok(answer);
        }
        if start.elapsed() > PATIENCE {
            bail!("waited {} s in vain for {what}", PATIENCE.as_secs());
        }
        std::thread::sleep(pause);
        pause = (pause * 2).min(Duration::from_millis(200));
    }
}

/// As [`wait_for`], for a condition.
pub fn wait_until(what: &str, mut holds: impl FnMut() -> Result<bool>) -> Result<()> {
    wait_for(what, || Ok(holds()?.then_some(())))
}
