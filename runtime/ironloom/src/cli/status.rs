//! `ironloom status`.

use clap::Args;

use super::failure::Outcome;
use super::{Global, output};
use crate::api::facade;
use crate::api::facade::DiskUse;
use ironloom_types::text::clean;

/// Shows how the server is. Exit code 1 if it isn't ready.
#[derive(Args, Debug)]
pub(super) struct Status {}

impl Status {
    pub(super) fn run(self, global: &Global) -> Outcome {
        let answer = global.client()?.get("/v1/status", &[])?;
        output::one(global, &answer, |status: facade::Status| text(&status))?;
        let status: facade::Status = answer.read()?;
        if status.readiness.ready { Ok(()) } else { Err(anyhow::anyhow!("the server isn't ready").into()) }
    }
}

/// A fact on each line.
fn text(status: &facade::Status) -> String {
    let mut lines = vec![("ready", if status.readiness.ready { "yes" } else { "no" }.to_owned())];
    lines.extend(status.readiness.reasons.iter().map(|reason| ("", reason.clone())));
    lines.extend(status.readiness.notes.iter().map(|note| ("note", note.clone())));
    lines.push(("version", status.version.clone()));
    lines.push(("data", format!("{}, in {}", status.data, status.engine)));
    lines.push(("started", format!("{}, {} ago", status.started, time(status.uptime))));
    lines.push(("points", status.points.to_string()));
    let installations = status.installations.iter().map(|(state, count)| (state.name(), *count));
    lines.push(("installations", by_state(installations)));
    let connectors = status.connectors.iter().map(|(state, count)| (state.as_str(), *count));
    lines.push(("connectors", by_state(connectors)));
    lines.extend(status.certificate_until.map(|until| ("certificate", format!("until {until}"))));
    let disk = &status.disk;
    lines.push(("on disk", format!("{}: {}", size(disk.total), parts(disk))));
    lines.push(("free", free(disk)));
    lines.iter().map(|(name, value)| format!("{name:<15}{}\n", clean(value))).collect()
}

/// All of them, and how many are in which state: `3: 2 running, 1 paused`.
fn by_state<'a>(states: impl Iterator<Item = (&'a str, u64)>) -> String {
    let states: Vec<(&str, u64)> = states.collect();
    let all: u64 = states.iter().map(|(_, count)| count).sum();
    let each: Vec<String> = states.iter().map(|(state, count)| format!("{count} {state}")).collect();
    if each.is_empty() { "none".to_owned() } else { format!("{all}: {}", each.join(", ")) }
}

fn parts(disk: &DiskUse) -> String {
    let parts = [
        ("log", disk.log),
        ("journal", disk.journal),
        ("store", disk.store),
        ("packages", disk.packages),
        ("compiled code", disk.code),
        ("logs of apps", disk.app_logs),
    ];
    parts.map(|(name, bytes)| format!("{name} {}", size(bytes))).join(", ")
}

/// The free space, and for how long that is enough.
fn free(disk: &DiskUse) -> String {
    let free = disk.free.map_or_else(|| "unknown".to_owned(), size);
    let reserve = format!("{} of it are kept free", size(disk.reserve));
    let left = match (disk.growth_per_day, disk.full_in_days) {
        (None, _) => "when it is full isn't known before an hour has been measured".to_owned(),
        (Some(growth), Some(days)) => {
            let over = time(disk.measured_over);
            format!("full in {days:.1} days at {} a day, measured over {over}", size(growth))
        }
        (Some(_), None) => format!("nothing has grown in {}", time(disk.measured_over)),
    };
    format!("{free}, {reserve}; {left}")
}

/// A size in the unit that leaves one to four digits before the point.
pub(super) fn size(bytes: u64) -> String {
    const UNITS: [&str; 5] = ["B", "KiB", "MiB", "GiB", "TiB"];
    let mut value = bytes as f64;
    let mut unit = 0;
    while value >= 1_024.0 && unit + 1 < UNITS.len() {
        value /= 1_024.0;
        unit += 1;
    }
    if unit == 0 { format!("{bytes} B") } else { format!("{value:.1} {}", UNITS[unit]) }
}

/// A span of seconds in its two largest units.
fn time(seconds: u64) -> String {
    match (seconds / 86_400, seconds / 3_600 % 24, seconds / 60 % 60, seconds % 60) {
        (0, 0, 0, seconds) => format!("{seconds} s"),
        (0, 0, minutes, seconds) => format!("{minutes} min {seconds} s"),
        (0, hours, minutes, _) => format!("{hours} h {minutes} min"),
        (days, hours, ..) => format!("{days} d {hours} h"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::api::facade::{InstallationState, Readiness};

    #[test]
    fn what_a_status_says() {
        let disk = DiskUse {
            log: 192 << 20,
            journal: 3 << 30,
            store: 512 << 20,
            packages: 1_536,
            code: 5 << 20,
            app_logs: 100,
            total: (192 << 20) + (3 << 30) + (512 << 20) + 1_536 + (5 << 20) + 100,
            free: Some(20 << 30),
            reserve: 256 << 20,
            growth_per_day: Some(1 << 30),
            measured_over: 7_380,
            full_in_days: Some(19.75),
        };
        let installations = [(InstallationState::Running, 2), (InstallationState::Paused, 1)].into();
        let mut status = facade::Status {
            readiness: Readiness {
                ready: false,
                reasons: vec!["log: full".to_owned()],
                notes: vec!["[site] clock = \"feed\"".to_owned()],
            },
            version: "0.1.0".to_owned(),
            data: "/var/lib/ironloom".to_owned(),
            engine: "redb".to_owned(),
            started: "2026-12-01T08:30:00Z".parse().unwrap(),
            uptime: 90_061,
            points: 12,
            installations,
            connectors: Default::default(),
            certificate_until: Some("2027-06-01T00:00:00Z".parse().unwrap()),
            disk,
        };
        insta::assert_snapshot!(text(&status), @r#"
        ready          no
                       log: full
        note           [site] clock = "feed"
        version        0.1.0
        data           /var/lib/ironloom, in redb
        started        2026-12-01T08:30:00.000000000Z, 1 d 1 h ago
        points         12
        installations  3: 2 running, 1 paused
        connectors     none
        certificate    until 2027-06-01T00:00:00.000000000Z
        on disk        3.7 GiB: log 192.0 MiB, journal 3.0 GiB, store 512.0 MiB, packages 1.5 KiB, compiled code 5.0 MiB, logs of apps 100 B
        free           20.0 GiB, 256.0 MiB of it are kept free; full in 19.8 days at 1.0 GiB a day, measured over 2 h 3 min
        "#);
        status.disk.growth_per_day = None;
        assert!(text(&status).contains("isn't known before an hour has been measured"));
        status.disk.growth_per_day = Some(0);
        status.disk.full_in_days = None;
        assert!(text(&status).contains("nothing has grown in 2 h 3 min"));
    }
}
