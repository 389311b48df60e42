//! The herd: weighings of a real trial through the pig ledger, on a server of its own.

use std::fmt::Write as _;
use std::fs;
use std::time::{Duration, Instant};

use anyhow::Result;
use ironloom_tests::guests;
use serde_json::Value;

use crate::app;
use crate::chart::{Trace, row};
use crate::machine::Node;
use crate::screen::say;
use crate::watch::Watch;

/// A week of the feed in a second, its own clock, and a barn for each time it is read.
const CONFIG: &str = r#"# A herd's weighings as they were taken, a week of them in each second.
[site]
clock = "feed"

[connectors.herd]
kind = "csv"
path = "weighings.csv"
at = "at"
speed = 604800.0
loop = true
shift = "84 d"

[connectors.herd.columns.Weight]
point = "farm/barn-{lap}/pig-{Pig}/weight"
unit = "kg"

[connectors.herd.columns.Feed]
point = "farm/barn-{lap}/pig-{Pig}/feed"
unit = "kg"
"#;

/// The server with the app, and what was seen so far.
pub(crate) struct Herd {
    node: Node,
    watch: Watch,
    looked: Instant,
    /// The latest invocation, its time, and how many of them were timers.
    ordinal: u64,
    time: String,
    timers: u64,
    /// The beginning of the next page of forecasts.
    forecast: String,
    rates: Trace,
}

impl Herd {
    /// Starts the server and installs the package, from the first weighing on.
    pub(crate) fn start(package: &str, settings: &[String]) -> Result<Self> {
        let weighings = fs::read_to_string(guests::workspace().join("sample-apps/pigs/data/weighings.csv"))?;
        let node = Node::start(CONFIG, &[("weighings.csv", &weighings)])?;
        say(&format!("$ ironloom serve --config ironloom.toml --data …   # {}\n", node.folder().display()))?;
        let mut arguments = vec![
            "--id=pigs",
            "--bind=weight=farm/{barn}/{pig}/weight",
            "--bind=feed=farm/{barn}/{pig}/feed",
            "--from=beginning",
        ];
        arguments.extend(settings.iter().flat_map(|setting| ["--set", setting]));
        app::install(&node, package, &arguments)?;
        Ok(Self {
            watch: Watch::new(node.client(), "pigs"),
            node,
            looked: Instant::now(),
            ordinal: 0,
            time: String::new(),
            timers: 0,
            forecast: "0".to_owned(),
            rates: Trace::default(),
        })
    }

    /// The URL of the API.
    pub(crate) fn url(&self) -> &str {
        self.node.url()
    }

    /// Fails where the server has ended.
    pub(crate) fn check(&mut self) -> Result<()> {
        self.node.check()
    }

    /// The names of the columns.
    pub(crate) fn header() -> String {
        line([
            "time of the feed",
            "readings",
            "in/s",
            "invocations",
            "timers",
            "derived",
            "alarms",
            "raised",
            "cleared",
        ])
    }

    /// A line of the table, and what else is worth a line.
    pub(crate) fn look(&mut self) -> Result<String> {
        let seconds = self.looked.elapsed().as_secs_f64().max(0.001);
        self.looked = Instant::now();
        let before = self.watch.count("readings");
        let changes = self.watch.look()?;
        self.follow_invocations()?;
        let forecasts = self.follow_forecasts()?;
        let rate = (self.watch.count("readings") - before) as f64 / seconds;
        self.rates.push(rate);
        let mut out = line([
            &self.time(),
            &self.watch.count("readings").to_string(),
            &format!("{rate:.0}"),
            &self.watch.count("invocations").to_string(),
            &self.timers.to_string(),
            &self.watch.count("derived").to_string(),
            &self.watch.standing().to_string(),
            &changes.raised.len().to_string(),
            &changes.cleared.to_string(),
        ]);
        out += &self.watch.notes(&changes);
        for forecast in forecasts.iter().rev().take(1) {
            let _ = writeln!(out, "  forecast  {forecast}");
        }
        Ok(out)
    }

    /// The time of the feed, without its fractions of a second.
    fn time(&self) -> String {
        self.time.get(..16).unwrap_or(&self.time).replace('T', " ")
    }

    fn follow_invocations(&mut self) -> Result<()> {
        loop {
            let after = self.ordinal;
            let path = format!("/v1/installations/pigs/invocations?limit=10000&after={after}");
            let page = self.watch.client().get(&path)?.json()?;
            for invocation in page["items"].as_array().into_iter().flatten() {
                self.ordinal = invocation["ordinal"].as_u64().unwrap_or(self.ordinal);
                self.time = invocation["time"].as_str().unwrap_or_default().to_owned();
                self.timers += u64::from(invocation["kind"] == "timer");
            }
            if page["next"].is_null() || self.ordinal == after {
                return Ok(());
            }
        }
    }

    /// The forecasts since the last look, as text.
    fn follow_forecasts(&mut self) -> Result<Vec<String>> {
        let mut items = Vec::new();
        // A page may well be empty and not be the last: other readings lie between.
        loop {
            let after = &self.forecast;
            let path = format!("/v1/installations/pigs/outputs?output=market-day&limit=10000&after={after}");
            let page = self.watch.client().get(&path)?.json()?;
            let more = page["items"].as_array().cloned().unwrap_or_default();
            if let Some(sequence) = more.last().and_then(|item| item["sequence"].as_u64()) {
                self.forecast = sequence.to_string();
            }
            items.extend(more);
            match page["next"].as_str() {
                Some(next) if next != self.forecast => self.forecast = next.to_owned(),
                _ => break,
            }
        }
        let text = |item: &Value| {
            let days = item["value"].as_f64()?;
            let at = item["at"].as_str()?.get(..10)?;
            Some(format!(
                "{} reaches market weight on {}, as seen on {at}",
                item["entity"].as_str()?,
                date(days)
            ))
        };
        Ok(items.iter().filter_map(text).collect())
    }

    /// The weighings a second, as a line of a chart.
    pub(crate) fn chart(&self) -> String {
        let most = self.rates.most().max(1.0);
        row("herd, readings in/s", &self.rates.draw(most), &format!("{:.0}", self.rates.last()))
    }

    /// Lists all that the app must not do on this feed.
    pub(crate) fn problems(&self) -> Vec<String> {
        let mut problems = self.watch.problems();
        if self.timers == 0 {
            problems.push("no timer of pigs has fired".to_owned());
        }
        problems
    }

    /// The last words.
    pub(crate) fn summary(&self, took: Duration) -> String {
        let count = |name: &str| self.watch.count(name);
        format!(
            "\nThe herd, in {:.0} s: {} readings in, {} invocations, {} of them timers, {} derived readings, {} failures, {} dead \
             letters. The feed's time is {}.\n{}\n",
            took.as_secs_f64(),
            count("readings"),
            count("invocations"),
            self.timers,
            count("derived"),
            count("failures"),
            count("dead_letters"),
            self.time(),
            self.watch.summary(),
        )
    }

    /// Stops the server.
    pub(crate) fn stop(&mut self) -> Result<()> {
        self.node.stop()
    }
}

fn line(cells: [&str; 9]) -> String {
    let [time, readings, rate, invocations, timers, derived, alarms, raised, cleared] = cells;
    format!(
        "herd  {time:<16} {readings:>9} {rate:>7} {invocations:>11} {timers:>7} {derived:>8} {alarms:>7} {raised:>7} {cleared:>8}\n"
    )
}

/// The date of a day that is counted from 1970, by the algorithm of Howard Hinnant's `civil_from_days`.
fn date(days: f64) -> String {
    let shifted = days.floor() as i64 + 719_468;
    let era = shifted.div_euclid(146_097);
    let of_era = shifted.rem_euclid(146_097);
    let year_of_era = (of_era - of_era / 1_460 + of_era / 36_524 - of_era / 146_096) / 365;
    let of_year = of_era - (365 * year_of_era + year_of_era / 4 - year_of_era / 100);
    let month = (5 * of_year + 2) / 153;
    let day = of_year - (153 * month + 2) / 5 + 1;
    let month = if month < 10 { month + 3 } else { month - 9 };
    let year = year_of_era + era * 400 + i64::from(month <= 2);
    format!("{year:04}-{month:02}-{day:02}")
}

#[cfg(test)]
mod tests {
    use super::date;

    #[test]
    fn days_are_dates() {
        assert_eq!(date(0.0), "1970-01-01");
        assert_eq!(date(20_180.5), "2025-04-02", "as the app's README says");
        assert_eq!(date(19_782.0), "2024-02-29");
        assert_eq!(date(-1.0), "1969-12-31");
    }
}
