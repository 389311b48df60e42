//! Progress of work that takes long: on stderr, and only where that is a terminal.

use std::time::Duration;

use indicatif::{ProgressBar, ProgressStyle};

/// The interval at which the time that has passed is shown.
const TICK: Duration = Duration::from_millis(200);

/// Work of so many bytes.
pub(super) fn bytes(total: u64, what: &'static str) -> ProgressBar {
    let bar = ProgressBar::new(total);
    styled(bar, what, "{msg} {bar:30} {bytes} of {total_bytes}, {bytes_per_sec}, {eta} left")
}

/// Work of which nobody knows how much it is.
pub(super) fn unbounded(what: &'static str) -> ProgressBar {
    styled(ProgressBar::no_length(), what, "{msg} {bytes}, {bytes_per_sec}, {elapsed}")
}

fn styled(bar: ProgressBar, what: &'static str, template: &str) -> ProgressBar {
    // Without its style a bar is the crate's own: no reason to fail.
    if let Ok(style) = ProgressStyle::with_template(template) {
        bar.set_style(style);
    }
    bar.with_message(what)
}

/// Work that says in words how far it has come.
pub(super) fn counting() -> ProgressBar {
    let bar = ProgressBar::no_length();
    if let Ok(style) = ProgressStyle::with_template("{msg}, {elapsed}") {
        bar.set_style(style);
    }
    bar
}

/// Work that says in words what it is at, and nothing for a while.
pub(super) fn stages() -> ProgressBar {
    let bar = counting();
    bar.enable_steady_tick(TICK);
    bar
}
