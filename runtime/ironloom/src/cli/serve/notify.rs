//! Words to systemd, or whatever else has started the server and listens at `NOTIFY_SOCKET`. Without one nobody is told.

use std::time::Duration;

use sd_notify::NotifyState;

/// The API listens, or a changed configuration was dealt with.
pub(super) fn ready(status: &str) {
    tell(&[NotifyState::Ready, NotifyState::Status(status)]);
}

/// The data folder is being opened, which may take a while.
pub(super) fn opening() {
    tell(&[NotifyState::Status("opens the data folder")]);
}

/// A changed configuration is being taken. [`ready`] ends it.
pub(super) fn reloading() {
    // Newer versions want to know since when.
    match NotifyState::monotonic_usec_now() {
        Ok(now) => tell(&[NotifyState::Reloading, now]),
        Err(_) => tell(&[NotifyState::Reloading]),
    }
}

/// The server stops.
pub(super) fn stopping() {
    tell(&[NotifyState::Stopping, NotifyState::Status("stops: ends invocations and folds the log")]);
}

/// Says again and again that the server is alive, where somebody wants to know. Runs where requests are served, so that
/// nothing is said once those are stuck.
pub(super) async fn stay_alive() {
    let Some(within) = sd_notify::watchdog_enabled() else { return };
    let mut every = tokio::time::interval((within / 2).max(Duration::from_millis(1)));
    loop {
        every.tick().await;
        tell(&[NotifyState::Watchdog]);
    }
}

fn tell(words: &[NotifyState<'_>]) {
    if let Err(error) = sd_notify::notify(words) {
        tracing::debug!(%error, "whoever has started the server could not be told");
    }
}
