//! Looks at the server from outside, as anybody could, and says what has changed.

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::time::{Duration, Instant};

use anyhow::{Context, Result};
use ironloom_tests::Client;
use serde_json::Value;

/// Lines for alarms, and for derived readings, below one line of the table.
const SHOWN: usize = 2;

/// What was seen so far.
pub(crate) struct Watch {
    client: Client,
    looked: Instant,
    counters: BTreeMap<&'static str, u64>,
    state: String,
    last_error: Value,
    /// The latest invocation, its time, and how many of them were timers.
    ordinal: u64,
    time: String,
    timers: u64,
    /// The alarms that stood at the last look, by id.
    standing: BTreeMap<String, Value>,
    raised: BTreeMap<String, u64>,
    cleared: u64,
    /// Where the page of forecasts after the latest begins.
    forecast: String,
}

const COUNTERS: [&str; 5] = ["readings", "invocations", "failures", "dead_letters", "derived"];

impl Watch {
    /// Has seen nothing yet.
    pub(crate) fn new(client: &Client) -> Self {
        Self {
            client: client.clone(),
            looked: Instant::now(),
            counters: BTreeMap::new(),
            state: String::new(),
            last_error: Value::Null,
            ordinal: 0,
            time: String::new(),
            timers: 0,
            standing: BTreeMap::new(),
            raised: BTreeMap::new(),
            cleared: 0,
            forecast: "0".to_owned(),
        }
    }

    /// The names of the columns.
    pub(crate) fn header(&self) -> String {
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
        let before = self.counters.get("readings").copied().unwrap_or_default();
        let shown = self.client.installation("pigs")?;
        for name in COUNTERS {
            let count = shown["counters"][name].as_u64();
            self.counters.insert(name, count.with_context(|| format!("no counter {name} in {shown}"))?);
        }
        self.state = shown["state"].as_str().unwrap_or_default().to_owned();
        self.last_error = shown["last_error"].clone();
        self.follow_invocations()?;
        let (raised, cleared) = self.follow_alarms()?;
        let forecasts = self.follow_forecasts()?;

        let count = |name: &str| self.counters.get(name).copied().unwrap_or_default();
        let rate = (count("readings") - before) as f64 / seconds;
        let mut out = line([
            // Without its fractions of a second.
            &self.time.get(..16).unwrap_or(&self.time).replace('T', " "),
            &count("readings").to_string(),
            &format!("{rate:.0}"),
            &count("invocations").to_string(),
            &self.timers.to_string(),
            &count("derived").to_string(),
            &self.standing.len().to_string(),
            &raised.len().to_string(),
            &cleared.to_string(),
        ]);
        if self.state != "running" {
            let _ = writeln!(out, "  the app is {}: {}", self.state, self.last_error);
        }
        alarms(&mut out, &raised);
        for forecast in forecasts.iter().rev().take(1) {
            let _ = writeln!(out, "  forecast  {forecast}");
        }
        Ok(out)
    }

    fn follow_invocations(&mut self) -> Result<()> {
        loop {
            let after = self.ordinal;
            let path = format!("/v1/installations/pigs/invocations?limit=10000&after={after}");
            let page = self.client.get(&path)?.json()?;
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

    /// Those that were raised since the last look, and how many were cleared.
    fn follow_alarms(&mut self) -> Result<(Vec<Value>, usize)> {
        let mut standing = BTreeMap::new();
        for alarm in self.client.all("/v1/alarms?installation=pigs")? {
            // One that is cleared but was never acknowledged stays listed.
            if alarm["state"] != "return-to-normal-unacknowledged" {
                standing.insert(alarm["id"].as_str().unwrap_or_default().to_owned(), alarm);
            }
        }
        let is_new = |(id, _): &(&String, &Value)| !self.standing.contains_key(*id);
        let raised: Vec<Value> = standing.iter().filter(is_new).map(|(_, alarm)| alarm.clone()).collect();
        let cleared = self.standing.keys().filter(|id| !standing.contains_key(*id)).count();
        for alarm in &raised {
            *self.raised.entry(alarm["code"].as_str().unwrap_or_default().to_owned()).or_default() += 1;
        }
        self.cleared += cleared as u64;
        self.standing = standing;
        Ok((raised, cleared))
    }

    /// The forecasts since the last look, as text.
    fn follow_forecasts(&mut self) -> Result<Vec<String>> {
        let mut items = Vec::new();
        // A page may well be empty and not be the last: other readings lie between.
        loop {
            let after = &self.forecast;
            let path = format!("/v1/installations/pigs/outputs?output=market-day&limit=10000&after={after}");
            let page = self.client.get(&path)?.json()?;
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

    /// What an app must not do on this feed.
    pub(crate) fn problems(&self) -> Vec<String> {
        let mut problems = Vec::new();
        for name in ["failures", "dead_letters"] {
            let count = self.counters.get(name).copied().unwrap_or_default();
            if count > 0 {
                problems.push(format!(
                    "{count} {}, the last error is {}",
                    name.replace('_', " "),
                    self.last_error
                ));
            }
        }
        if self.state != "running" {
            problems.push(format!("it is {}: {}", self.state, self.last_error));
        }
        for name in ["readings", "derived"] {
            if self.counters.get(name).is_none_or(|count| *count == 0) {
                problems.push(format!("there are no {name} of it"));
            }
        }
        if self.timers == 0 {
            problems.push("no timer has fired".to_owned());
        }
        problems
    }

    /// The last words.
    pub(crate) fn summary(&self, took: Duration) -> String {
        let count = |name: &str| self.counters.get(name).copied().unwrap_or_default();
        let mut out = format!(
            "\nIn {:.0} s: {} readings in, {} invocations, {} of them timers, {} derived readings, {} failures, {} dead \
             letters. The feed's time is {}.\n",
            took.as_secs_f64(),
            count("readings"),
            count("invocations"),
            self.timers,
            count("derived"),
            count("failures"),
            count("dead_letters"),
            self.time.get(..16).unwrap_or(&self.time).replace('T', " "),
        );
        let raised: Vec<_> = self.raised.iter().map(|(code, count)| format!("{count} {code}")).collect();
        let raised = if raised.is_empty() { "none".to_owned() } else { raised.join(", ") };
        let _ = writeln!(
            out,
            "Alarms raised: {raised}; {} cleared, {} stand.",
            self.cleared,
            self.standing.len()
        );
        out
    }
}

/// The first alarms of each kind, and how many more there are.
fn alarms(out: &mut String, raised: &[Value]) {
    let mut by_code = BTreeMap::<&str, Vec<&Value>>::new();
    for alarm in raised {
        by_code.entry(alarm["code"].as_str().unwrap_or_default()).or_default().push(alarm);
    }
    for alarms in by_code.values() {
        for alarm in alarms.iter().take(SHOWN) {
            let text = |field: &str| alarm[field].as_str().unwrap_or_default();
            let _ = writeln!(
                out,
                "  {:<8}  {}: {}: {}",
                text("severity"),
                text("code"),
                text("entity"),
                text("message")
            );
        }
        if alarms.len() > SHOWN {
            let _ = writeln!(out, "            and {} more of these", alarms.len() - SHOWN);
        }
    }
}

fn line(cells: [&str; 9]) -> String {
    let [time, readings, rate, invocations, timers, derived, alarms, raised, cleared] = cells;
    format!(
        "{time:<16} {readings:>9} {rate:>7} {invocations:>11} {timers:>7} {derived:>8} {alarms:>7} {raised:>7} {cleared:>8}\n"
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
