//! The figures, as a table and as JSON.

use std::fmt::Write as _;

use serde_json::{Value, json};

use crate::machine::{Machine, Shares};

/// What is promised of a figure.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Bound {
    /// This or more.
    AtLeast(f64),
    /// This or less.
    AtMost(f64),
    /// Nothing: it is told.
    Told,
}

/// One figure, measured several times.
#[derive(Clone, Debug)]
pub(crate) struct Row {
    /// What it is.
    pub what: &'static str,
    pub unit: &'static str,
    /// What is promised.
    pub bound: Bound,
    /// One figure for each run.
    pub runs: Vec<f64>,
    /// What else is to be known of it.
    pub notes: Vec<String>,
    /// Who used the processors meanwhile.
    pub shares: Shares,
}

impl Row {
    /// One figure of several that were measured together.
    pub(crate) fn of(what: &'static str, unit: &'static str, bound: Bound, value: f64) -> Self {
        Self { what, unit, bound, runs: vec![value], notes: Vec::new(), shares: Shares::default() }
    }

    /// What was not measured, and why.
    pub(crate) fn skipped(what: &'static str, why: &str) -> Self {
        let notes = vec![format!("not measured: {why}")];
        Self { what, unit: "", bound: Bound::Told, runs: Vec::new(), notes, shares: Shares::default() }
    }

    /// The median of the runs.
    pub(crate) fn value(&self) -> f64 {
        median(&self.runs)
    }

    fn spread(&self) -> (f64, f64) {
        let least = self.runs.iter().copied().fold(f64::INFINITY, f64::min);
        (least, self.runs.iter().copied().fold(f64::NEG_INFINITY, f64::max))
    }

    fn is_reached(&self) -> bool {
        match self.bound {
            Bound::AtLeast(least) => self.value() >= least,
            Bound::AtMost(most) => self.value() <= most,
            Bound::Told => true,
        }
    }
}

#[derive(Clone, Debug)]
pub(crate) struct Report {
    machine: Machine,
    smoke: bool,
    rows: Vec<(&'static str, Row)>,
}

impl Report {
    /// Without any figure yet.
    pub(crate) fn begin(machine: Machine, smoke: bool) -> Self {
        Self { machine, smoke, rows: Vec::new() }
    }

    /// Adds a row.
    pub(crate) fn add(&mut self, name: &'static str, row: Row) {
        self.rows.push((name, row));
    }

    /// The names of the rows that aren't what is promised.
    pub(crate) fn missed(&self) -> Vec<&'static str> {
        self.rows.iter().filter(|(_, row)| !row.is_reached()).map(|(name, _)| *name).collect()
    }

    pub(crate) fn table(&self) -> String {
        let Machine { cores, processor, file_system, fdatasync } = &self.machine;
        let mut out = format!(
            "\n{cores} cores of {processor}; {file_system}, one fdatasync of 4 KiB takes {fdatasync:.0} us\n"
        );
        if self.smoke {
            out.push_str("A smoke test: the figures are of one short run each and say little.\n");
        }
        let line = |out: &mut String, cells: [&str; 6]| {
            let [name, value, spread, bound, reached, what] = cells;
            let _ = writeln!(out, "{name:<17} {value:>12} {spread:>19} {bound:>12} {reached:<7} {what}");
        };
        out.push('\n');
        line(&mut out, ["row", "median", "least to most", "promised", "", "what"]);
        for (name, row) in &self.rows {
            let (least, most) = row.spread();
            let spread = format!("{} to {}", figure(least), figure(most));
            let bound = match row.bound {
                Bound::AtLeast(least) => format!(">= {}", figure(least)),
                Bound::AtMost(most) => format!("<= {}", figure(most)),
                Bound::Told => String::new(),
            };
            let reached = match row.bound {
                Bound::Told => "",
                _ if self.smoke => "",
                _ if row.is_reached() => "yes",
                _ => "MISSED",
            };
            let what = format!("{} [{}]", row.what, row.unit);
            line(&mut out, [name, &figure(row.value()), &spread, &bound, reached, &what]);
            for note in &row.notes {
                let _ = writeln!(out, "  {note}");
            }
            let Shares { foreign, generator, server, threads } = &row.shares;
            if *foreign + *generator + *server == 0.0 {
                continue;
            }
            let _ = write!(out, "  of all cores: others {foreign:.0} %, this program {generator:.0} %");
            if *server > 0.0 {
                let threads: Vec<_> =
                    threads.iter().map(|(name, share)| format!("{name} {share:.0}")).collect();
                let _ = write!(out, ", server {server:.0} % ({})", threads.join(", "));
            }
            out.push('\n');
        }
        out
    }

    pub(crate) fn json(&self) -> Value {
        let row = |(name, row): &(&str, Row)| {
            let (least, most) = row.spread();
            let (at_least, at_most) = match row.bound {
                Bound::AtLeast(bound) => (Some(bound), None),
                Bound::AtMost(bound) => (None, Some(bound)),
                Bound::Told => (None, None),
            };
            let threads = row.shares.threads.iter().map(|(name, share)| (name.clone(), json!(share)));
            json!({
                "name": name, "what": row.what, "unit": row.unit,
                "median": row.value(), "least": least, "most": most, "runs": row.runs,
                "at_least": at_least, "at_most": at_most, "reached": row.is_reached(), "notes": row.notes,
                "cpu_percent_of_all_cores": {
                    "others": row.shares.foreign, "generator": row.shares.generator, "server": row.shares.server,
                    "server_threads": threads.collect::<serde_json::Map<_, _>>(),
                },
            })
        };
        json!({
            "machine": {
                "cores": self.machine.cores, "processor": self.machine.processor,
                "file_system": self.machine.file_system, "fdatasync_us": self.machine.fdatasync,
            },
            "smoke": self.smoke,
            "rows": self.rows.iter().map(row).collect::<Vec<_>>(),
        })
    }
}

/// The median; of an even number, of the two in the middle the greater.
pub(crate) fn median(values: &[f64]) -> f64 {
    quantile(values, 0.5)
}

/// The value that this part of all values lies below.
pub(crate) fn quantile(values: &[f64], part: f64) -> f64 {
    let mut sorted = values.to_vec();
    sorted.sort_by(f64::total_cmp);
    let place = (sorted.len() as f64 * part) as usize;
    sorted.get(place.min(sorted.len().saturating_sub(1))).copied().unwrap_or(f64::NAN)
}

/// Three digits and more, with thousands set apart.
fn figure(value: f64) -> String {
    if !value.is_finite() {
        return "-".to_owned();
    }
    if value < 1.0 {
        return format!("{value:.3}");
    }
    if value < 1_000.0 {
        return format!("{value:.1}");
    }
    let digits = format!("{value:.0}");
    let mut out = String::new();
    for (place, digit) in digits.chars().enumerate() {
        if place > 0 && (digits.len() - place).is_multiple_of(3) {
            out.push(',');
        }
        out.push(digit);
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn figures_are_readable() {
        let figures: Vec<_> =
            [0.5, 49.96, 999.0, 1_000.0, 512_345.6, 12_345_678.0, f64::NAN].map(figure).into();
        assert_eq!(figures, ["0.500", "50.0", "999.0", "1,000", "512,346", "12,345,678", "-"]);
    }

    #[test]
    fn quantiles_are_of_the_values() {
        let values: Vec<f64> = (1..=100).rev().map(f64::from).collect();
        assert_eq!(quantile(&values, 0.99), 100.0);
        assert_eq!(median(&[3.0, 1.0, 2.0]), 2.0);
        assert_eq!(quantile(&[7.0], 0.99), 7.0);
    }
}
