//! Signals that end a push: it reads no further, and hears what became of the lines that it has sent.

use std::future::poll_fn;
use std::io;
use std::task::Poll;
use std::time::Duration;

use tokio::signal::unix::{Signal, SignalKind, signal};
use tokio::time::{Instant, sleep_until};

/// The time for the lines that were read to be sent and acknowledged.
const LAST_WORDS: Duration = Duration::from_secs(2);

pub(in crate::cli) struct Stop {
    signals: Vec<Signal>,
    /// The end of the time for last words, once a signal has come.
    until: Option<Instant>,
}

impl Stop {
    /// Listens for Ctrl-C and its kin. One that is ignored, as behind `nohup`, remains so.
    pub(in crate::cli) fn new() -> io::Result<Self> {
        let ignored = ignored(&std::fs::read_to_string("/proc/self/status")?);
        let kinds = [SignalKind::interrupt(), SignalKind::terminate(), SignalKind::hangup()];
        let heard = kinds.into_iter().filter(|kind| ignored >> (kind.as_raw_value() - 1) & 1 == 0);
        Ok(Self { signals: heard.map(signal).collect::<io::Result<_>>()?, until: None })
    }

    /// Says if a signal has come.
    pub(in crate::cli) fn is_wanted(&self) -> bool {
        self.until.is_some()
    }

    /// Ready once a signal has come; then once the time for last words is over.
    pub(in crate::cli) async fn next(&mut self) {
        match self.until {
            Some(until) => sleep_until(until).await,
            None => {
                poll_fn(|context| {
                    let came = |signal: &mut Signal| signal.poll_recv(context).is_ready();
                    if self.signals.iter_mut().any(came) { Poll::Ready(()) } else { Poll::Pending }
                })
                .await;
                self.until = Some(Instant::now() + LAST_WORDS);
            }
        }
    }
}

/// The signals that this process ignores, a bit for each.
fn ignored(status: &str) -> u64 {
    let set = status.lines().find_map(|line| line.strip_prefix("SigIgn:"));
    set.and_then(|set| u64::from_str_radix(set.trim(), 16).ok()).unwrap_or(0)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_ignored_stands_in_the_status() {
        assert_eq!(ignored("Name:\tx\nSigIgn:\t0000000000001001\nSigCgt:\t00\n"), 0x1001);
        assert_eq!(ignored(""), 0);
    }
}
