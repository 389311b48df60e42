//! How long a peer is waited for.

use std::time::Duration;

use tokio::time::Instant;

use super::End;
use crate::api::body::{GRACE, LEAST_RATE};
use crate::api::facade::RETRY_SOON;
use crate::api::problem::Problem;

/// A peer that says nothing for so long is asked, and after as long again it is gone.
const SILENCE: Duration = Duration::from_secs(30);
/// The interval at which a peer is looked at.
const LOOK: Duration = Duration::from_secs(5);

/// The visible part of a peer's next message.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Comes {
    Nothing,
    /// So many bytes, but not its last.
    Part {
        bytes: u64,
        /// There is no memory for more of them.
        is_held_back: bool,
    },
    /// Many lines are here and wait; nothing behind them is heard.
    Lines,
}

/// The answer to what a peer does.
pub(super) enum Verdict {
    Wait,
    /// Ask whether it is there.
    Ask,
    End(End),
}

pub(super) struct Patience {
    heard: Instant,
    is_asked: bool,
    looked: Instant,
    /// When a part of the message that comes was first seen.
    part_since: Option<Instant>,
}

impl Patience {
    pub(super) fn new(now: Instant) -> Self {
        Self { heard: now, is_asked: false, looked: now, part_since: None }
    }

    /// The peer is there.
    pub(super) fn heard(&mut self, now: Instant) {
        (self.heard, self.is_asked) = (now, false);
    }

    /// A message with lines has come as a whole.
    pub(super) fn has_lines(&mut self, now: Instant) {
        self.heard(now);
        self.part_since = None;
    }

    pub(super) fn next_look(&self) -> Instant {
        self.looked + LOOK
    }

    pub(super) fn look(&mut self, now: Instant, comes: Comes) -> Verdict {
        self.looked = now;
        match comes {
            Comes::Lines => self.has_lines(now),
            Comes::Nothing => self.part_since = None,
            Comes::Part { bytes, is_held_back } => {
                let since = *self.part_since.get_or_insert(now);
                if now - since >= GRACE + Duration::from_millis(bytes * 1_000 / LEAST_RATE) {
                    return Verdict::End(too_slow(is_held_back).into());
                }
            }
        }
        let silent = now - self.heard;
        if silent >= 2 * SILENCE {
            return Verdict::End(End::Peer);
        }
        if silent >= SILENCE && !self.is_asked {
            self.is_asked = true;
            return Verdict::Ask;
        }
        Verdict::Wait
    }
}

fn too_slow(is_held_back: bool) -> Problem {
    if is_held_back {
        let detail = "other requests hold all the memory for large messages";
        return Problem::unavailable("busy", detail, RETRY_SOON);
    }
    let grace = GRACE.as_secs();
    Problem::too_slow(format!(
        "a message came too slowly: {grace} s after its first byte the average must be {LEAST_RATE} bytes a second"
    ))
}

#[cfg(test)]
mod tests {
    use super::*;

    /// At which seconds the peer is asked, when it is let go, and why. `comes` says what is seen of it then, and whether
    /// anything whole has come since the last look.
    fn looks(mut comes: impl FnMut(u64) -> (Comes, bool)) -> (Vec<u64>, u64, String) {
        let begin = Instant::now();
        let mut patience = Patience::new(begin);
        let mut asked = Vec::new();
        loop {
            let now = patience.next_look();
            let second = (now - begin).as_secs();
            let (comes, hears) = comes(second);
            if hears {
                patience.heard(now);
            }
            match patience.look(now, comes) {
                Verdict::Wait if second < 300 => {}
                Verdict::Wait => return (asked, second, "stays".to_owned()),
                Verdict::Ask => asked.push(second),
                Verdict::End(End::Problem(problem)) => return (asked, second, problem.kind.clone()),
                Verdict::End(_) => return (asked, second, "gone".to_owned()),
            }
        }
    }

    fn part(bytes: u64) -> Comes {
        Comes::Part { bytes, is_held_back: false }
    }

    #[test]
    fn a_silent_peer_is_asked_and_then_it_is_gone() {
        assert_eq!(looks(|_| (Comes::Nothing, false)), (vec![30], 60, "gone".to_owned()));
        // One that answers within 5 s is asked again 30 s later.
        let answers = |second| (Comes::Nothing, second % 35 == 0);
        let asked = vec![30, 65, 100, 135, 170, 205, 240, 275];
        assert_eq!(looks(answers), (asked, 300, "stays".to_owned()));
    }

    #[test]
    fn who_answers_but_never_ends_a_message_is_let_go() {
        // A part is first seen after 5 s.
        assert_eq!(looks(|_| (part(1), true)), (vec![], 35, "too-slow".to_owned()));
        let held_back = Comes::Part { bytes: 1, is_held_back: true };
        assert_eq!(looks(|_| (held_back, true)), (vec![], 35, "busy".to_owned()));
        // 160 KiB take 5 s at the least rate, and 2 MiB 64 s.
        assert_eq!(looks(|_| (part(160 << 10), true)), (vec![], 40, "too-slow".to_owned()));
        assert_eq!(looks(|_| (part(2 << 20), true)), (vec![], 100, "too-slow".to_owned()));
        // Each message is whole after 25 s.
        let whole = |second: u64| (if second.is_multiple_of(30) { Comes::Nothing } else { part(1) }, true);
        assert_eq!(looks(whole), (vec![], 300, "stays".to_owned()));
    }

    #[test]
    fn the_time_of_a_peer_whose_lines_wait_stands_still() {
        let waits = |second| (if second <= 100 { Comes::Lines } else { Comes::Nothing }, false);
        assert_eq!(looks(waits), (vec![130], 160, "gone".to_owned()));
    }
}
