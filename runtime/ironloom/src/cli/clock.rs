//! `ironloom clock`.

use clap::{Args, Subcommand};

use super::client::flag;
use super::failure::Outcome;
use super::{Global, output};
use crate::api::JSON_TYPE;
use crate::api::facade::{ClockStatus, SetTime, TimeSet};
use ironloom_types::clock::{Source, Timestamp};

/// Shows the site's clock, or leaves a wrong future behind.
#[derive(Args, Debug)]
pub(super) struct Clock {
    #[command(subcommand)]
    what: Option<What>,
}

#[derive(Debug, Subcommand)]
enum What {
    /// Set journal time back to the present, after the machine's clock was ahead and has been set right
    Set {
        /// The present time, such as 2026-12-01T08:30:00Z: it must be what the machine's clock shows
        #[arg(value_name = "NOW")]
        now: Timestamp,
        /// Only say what it would do
        #[arg(long)]
        dry_run: bool,
    },
}

impl Clock {
    pub(super) fn run(self, global: &Global) -> Outcome {
        let client = global.client()?;
        let Some(What::Set { now, dry_run }) = self.what else {
            let answer = client.get("/v1/clock", &[])?;
            return output::one(global, &answer, |clock: ClockStatus| show(&clock));
        };
        let body = serde_json::to_vec(&SetTime { now }).map_err(anyhow::Error::from)?;
        let answer = client.post("/v1/clock", &[flag("dry-run", dry_run)], JSON_TYPE, &body)?;
        output::one(global, &answer, |set: TimeSet| set_text(&set, dry_run))
    }
}

fn show(clock: &ClockStatus) -> String {
    let source = match clock.source {
        Source::Host => "the machine's clock",
        Source::Feed => "the readings ([site] clock = \"feed\")",
    };
    let mut text =
        format!("source        {source}\nmachine       {}\njournal       {}\n", clock.machine, clock.journal);
    if let Some(behind) = clock.behind {
        let behind = jiff::SignedDuration::from_secs(i64::try_from(behind).unwrap_or(i64::MAX));
        text.push_str(&format!(
            "behind        {behind:#}: journal time stands still until the machine's clock has caught up\n"
        ));
    }
    text
}

fn set_text(set: &TimeSet, dry_run: bool) -> String {
    let went = if dry_run { "would go" } else { "went" };
    let installations = output::counted(set.installations as u64, "installation");
    let timers = output::counted(set.timers as u64, "timer");
    format!(
        "journal time {went} from {} to {}; {timers} of {installations} moved with it\n",
        set.from, set.to
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_the_clock_and_setting_it_say() {
        let at = |text: &str| text.parse::<Timestamp>().unwrap();
        let (machine, journal) = (at("2026-12-01T08:30:00Z"), at("2028-01-05T08:30:00Z"));
        let clock = ClockStatus { source: Source::Host, machine, journal, behind: Some(400 * 24 * 3600) };
        insta::assert_snapshot!(show(&clock), @r"
        source        the machine's clock
        machine       2026-12-01T08:30:00.000000000Z
        journal       2028-01-05T08:30:00.000000000Z
        behind        9600h: journal time stands still until the machine's clock has caught up
        ");
        let set = TimeSet { from: journal, to: machine, installations: 1, timers: 3 };
        assert_eq!(
            set_text(&set, true),
            "journal time would go from 2028-01-05T08:30:00.000000000Z to 2026-12-01T08:30:00.000000000Z; 3 timers of \
             1 installation moved with it\n"
        );
    }
}
