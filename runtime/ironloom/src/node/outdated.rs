//! What installations keep although the configuration says something else by now: it holds for later installs, and an
//! admin who has changed it should know what it doesn't change.

use std::sync::Arc;

use crate::config::Config;
use crate::lanes::{Lane, Lanes};
use ironloom_apps::allowance::{LimitKind, PartialLimits};
use ironloom_types::limits::Limits;

/// Says at a start which installations run with another time zone or with other limits.
pub(super) fn tell(lanes: &Lanes, config: &Config) {
    let lanes = lanes.all();
    tell_of_zones(&lanes, &config.site.timezone);
    tell_of_limits(&lanes, &config.limits);
}

fn tell_of_zones(lanes: &[Arc<Lane>], configured: &str) {
    let others = lanes.iter().filter(|lane| lane.newest().revision.timezone != configured);
    let others: Vec<String> =
        others.map(|lane| format!("{} ({})", lane.id, lane.newest().revision.timezone)).collect();
    if let Some(first) = others.first() {
        tracing::info!(
            installations = others.len(),
            first,
            configured,
            "installations keep the time zone that they were installed with, which isn't that of [site] timezone"
        );
    }
}

fn tell_of_limits(lanes: &[Arc<Lane>], configured: &Limits) {
    let others = lanes.iter().filter_map(|lane| {
        let newest = lane.newest();
        let others = others(&newest.revision.limits, &newest.manifest.limits, configured);
        (!others.is_empty()).then(|| format!("{} ({})", lane.id, others.join(", ")))
    });
    let others: Vec<String> = others.collect();
    if let Some(first) = others.first() {
        tracing::info!(
            installations = others.len(),
            first,
            "installations keep the limits that they were installed with: granted ones, or those that [limits] had \
             then; `ironloom show` lists them, and an app that is installed again gets the present ones"
        );
    }
}

/// The limits that differ from those that an install without grants has now: at most the defaults, less where the
/// manifest asks for less.
fn others(kept: &Limits, asked: &PartialLimits, configured: &Limits) -> Vec<String> {
    let others = LimitKind::ALL.into_iter().filter_map(|kind| {
        let default = kind.of(configured);
        let now = asked.get(kind).map_or(default, |asked| asked.min(default));
        let kept = kind.of(kept);
        (kept != now).then(|| format!("{} {}, now {}", kind.name(), kind.show(kept), kind.show(now)))
    });
    others.collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use ironloom_apps::quantity::{Bytes, Span};
    use ironloom_types::limits::MIB;

    #[test]
    fn limits_that_an_install_would_get_now_are_not_told() {
        let configured = Limits { memory: 16 * MIB, cpu: 100_000_000, ..Limits::default() };
        let none = PartialLimits::default();
        assert_eq!(others(&configured, &none, &configured), Vec::<String>::new());
        // From before the defaults changed, or granted.
        let told = ["memory 32 MiB, now 16 MiB", "cpu 200 ms, now 100 ms"];
        assert_eq!(others(&Limits::default(), &none, &configured), told);
        // The manifest asks for less than either.
        let modest = PartialLimits { memory: Some(Bytes(8 * MIB)), cpu: Some(Span(50_000_000)), ..none };
        let kept = Limits { memory: 8 * MIB, cpu: 50_000_000, ..configured.clone() };
        assert_eq!(others(&kept, &modest, &configured), Vec::<String>::new());
        // It asked for what was the default, and would need a grant now.
        let hungry = PartialLimits { memory: Some(Bytes(32 * MIB)), ..none };
        let kept = Limits { memory: 32 * MIB, ..configured.clone() };
        assert_eq!(others(&kept, &hungry, &configured), ["memory 32 MiB, now 16 MiB"]);
    }
}
