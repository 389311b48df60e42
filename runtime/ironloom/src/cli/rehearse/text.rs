//! The report of a rehearsal, for people.

use std::fmt::Write as _;
use std::time::Duration;

use crate::cli::output;
use ironloom_types::rehearsal::{
    Compared, DifferenceKind, RehearsalDifference, RehearsalReport, RehearsedVersion, StartKind,
};
use ironloom_types::text::clean;

/// Differences that are shown as text; JSON has more of them.
const SHOWN: usize = 20;

pub(super) fn text(report: &RehearsalReport) -> String {
    let mut out = String::new();
    let RehearsalReport { same, start, from, to, old, new, .. } = report;
    let begun = match start.kind {
        StartKind::Beginning => "the installation's beginning".to_owned(),
        StartKind::Copy => format!("a copy of its state from {}", start.time),
    };
    // Writing into a String doesn't fail.
    let _ = writeln!(
        out,
        "version {} beside {}, {from} to {to}, with the state made from {begun}",
        clean(&old.version),
        clean(&new.version)
    );
    if let Some(ended) = &report.ended {
        let _ = writeln!(out, "the new version went no further: {}", clean(ended));
    }
    out.push_str(&differences(report));
    out.push('\n');
    let rows = report.compared.iter().map(|(kind, compared)| row(*kind, compared));
    out.push_str(&output::table(&["compared", "old", "new", "different", "largest"], rows));
    out.push('\n');
    out.push_str(&versions(old, new));
    state(report, &mut out);
    if report.left_out > 0 {
        let attempts = output::counted(report.left_out, "invocation");
        let _ = writeln!(out, "{attempts} that a limit of time or the log ended: neither version ran them");
    }
    if let Some(ordinal) = report.otherwise {
        let _ = writeln!(
            out,
            "the old version did something else at invocation {ordinal} than its record says; what follows rests on that"
        );
    }
    out.push_str(if *same { "no difference\n" } else { "" });
    out
}

/// A share for people.
pub(super) fn percent(share: f64) -> String {
    let percent = share * 100.0;
    if percent > 0.0 && percent < 0.01 { "less than 0.01 %".to_owned() } else { format!("{:.2} %", percent) }
}

fn differences(report: &RehearsalReport) -> String {
    let shown = report.differences.iter().take(SHOWN);
    let rows = shown.map(|RehearsalDifference { ordinal, time, kind, what, old, new }| {
        let words = |words: &Option<String>| {
            words
                .as_deref()
                .map_or_else(|| "-".to_owned(), |words| clean(&output::shorten(words)).into_owned())
        };
        let what = clean(what).into_owned();
        [time.to_string(), ordinal.to_string(), kind.name().to_owned(), what, words(old), words(new)]
    });
    if report.differences.is_empty() {
        return String::new();
    }
    let mut out = String::from("\n");
    out.push_str(&output::table(&["time", "invocation", "kind", "what", "old", "new"], rows));
    let left = report.not_shown() + report.differences.len().saturating_sub(SHOWN) as u64;
    if left > 0 {
        let _ = writeln!(out, "and {left} more");
    }
    out
}

fn row(kind: DifferenceKind, compared: &Compared) -> [String; 5] {
    let Compared { old, new, different, largest } = compared;
    let largest = largest.map_or_else(String::new, percent);
    [kind.name().to_owned(), old.to_string(), new.to_string(), different.to_string(), largest]
}

/// Both versions in numbers.
fn versions(old: &RehearsedVersion, new: &RehearsedVersion) -> String {
    let failures = |version: &RehearsedVersion| {
        let all = version.failures.iter().map(|(outcome, count)| format!("{count} {outcome}"));
        let all: Vec<String> = all.collect();
        if all.is_empty() { "0".to_owned() } else { all.join(", ") }
    };
    let time = |nanos: u64| {
        let time = Duration::from_nanos(nanos);
        if time.as_secs() > 0 {
            format!("{:.2} s", time.as_secs_f64())
        } else {
            format!("{:.2} ms", time.as_secs_f64() * 1e3)
        }
    };
    let mib = |bytes: u64| format!("{:.1} MiB", bytes as f64 / f64::from(1 << 20));
    let line = |name: &str, of: &dyn Fn(&RehearsedVersion) -> String| [name.to_owned(), of(old), of(new)];
    let mut rows = vec![
        line("invocations", &|one| one.invocations.to_string()),
        line("readings", &|one| one.readings.to_string()),
        line("failed for good", &failures),
        line("CPU time", &|one| time(one.cpu_nanos)),
        line("longest invocation", &|one| time(one.longest_nanos)),
        line("memory, at most", &|one| mib(one.peak_memory)),
        line("keys of the state", &|one| one.state_keys.to_string()),
        line("state", &|one| mib(one.state_bytes)),
        line("alarms active at the end", &|one| one.alarms_standing.to_string()),
        line("one-shot timers at the end", &|one| one.timers.to_string()),
    ];
    if old.beyond_cpu + new.beyond_cpu > 0 {
        rows.push(line("beyond limits.cpu", &|one| one.beyond_cpu.to_string()));
    }
    if old.waiting + new.waiting > 0 {
        rows.push(line("readings asked for again", &|one| one.waiting.to_string()));
    }
    output::table(&["", "old", "new"], rows)
}

fn state(report: &RehearsalReport, out: &mut String) {
    let state = &report.state;
    let differ = state.different + state.only_old + state.only_new;
    if state.migrated {
        let _ = writeln!(
            out,
            "the new version has brought the state into a form of its own; its keys aren't compared"
        );
    } else if differ > 0 {
        let samples: Vec<_> = state.samples.iter().map(|key| clean(key)).collect();
        let _ = writeln!(
            out,
            "the states differ at {}: {} in value, {} only in the old one, {} only in the new one; such as {}",
            output::counted(differ, "key"),
            state.different,
            state.only_old,
            state.only_new,
            samples.join(", ")
        );
    }
}
