//! Commands that follow what comes: they outlast a server that is busy, or that starts again.

use std::time::Duration;

use super::failure::Failure;

/// The longest wait that a server may ask for.
const LONGEST: Duration = Duration::from_secs(30);

/// The pause before a server is asked again that didn't answer: the usual one, or a longer one that it asks for. What
/// won't pass by itself is returned.
pub(super) fn pause(failure: Failure, usual: Duration) -> Result<Duration, Failure> {
    match failure.again() {
        Some(again) => Ok(again.min(LONGEST).max(usual)),
        None => Err(failure),
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;
    use crate::api::facade::Problem;
    use crate::cli::tests::run;

    const USUAL: Duration = Duration::from_millis(500);

    fn busy(seconds: u64) -> Problem {
        Problem::unavailable("busy", "too many read at once", Duration::from_secs(seconds))
    }

    #[test]
    fn a_busy_server_says_how_long_the_pause_is_up_to_a_bound() {
        let of = |failure| pause(failure, USUAL).map_err(|failure| failure.status());
        assert_eq!(of(Failure::Refused(busy(7))), Ok(Duration::from_secs(7)));
        assert_eq!(of(Failure::Refused(busy(3_600))), Ok(Duration::from_secs(30)));
        let lost = Failure::NotReached { url: "http://x".to_owned(), reason: "reset".to_owned(), sent: true };
        assert_eq!(of(lost), Ok(USUAL));
        assert_eq!(of(Failure::Refused(Problem::not_found("it is gone"))), Err(4));
    }

    /// Each is there, is busy, and no longer has what is followed: that alone ends the command.
    #[test]
    fn what_follows_goes_on_when_the_server_is_no_longer_busy() {
        for command in [&["readings", "-f"][..], &["logs", "pigs", "-f"], &["events"]] {
            let empty = json!({"items": [], "next": null, "generation": 1});
            let answers = vec![Ok(empty), Err(busy(1)), Err(Problem::not_found("it is gone"))];
            let (failure, asked) = run(command, answers);
            assert_eq!((failure.to_string().as_str(), asked.len()), ("error: it is gone", 3), "{command:?}");
        }
    }
}
