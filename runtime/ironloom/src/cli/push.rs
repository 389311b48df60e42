//! `ironloom push`.

mod source;

use std::io::{self, BufReader};
use std::path::PathBuf;
use std::time::{Duration, Instant};

use anyhow::{Context as _, anyhow};
use clap::Args;
use serde::Deserialize;

use self::source::{Body, Source};
use super::client::{Answer, Client};
use super::failure::{Failure, Line, Outcome};
use super::{Global, output};
use crate::api::facade::Detail;
use crate::api::{KEY_HEADER, NDJSON_TYPE};
use ironloom_types::clock::host_time;
use ironloom_types::ids::Digest;

/// Pushes readings, one JSON object on each line: {"point":"hall/1/temperature","value":21.5}
#[derive(Args, Debug)]
pub(super) struct Push {
    /// The file; `-` or nothing: standard input, sent as it comes
    file: Option<PathBuf>,
    /// Accept the valid lines even if others are bad; the exit code is 1 if some were
    #[arg(long)]
    partial: bool,
    /// Idempotency key, at most 56 characters: the same file under the same key takes effect once. A file
    /// of more than 10,000 lines is sent in several requests, under KEY, KEY.2, KEY.3 and so on
    #[arg(long, value_parser = key)]
    key: Option<String>,
}

/// A key has 64 characters, with the number of the request.
const MAX_KEY: usize = 56;
/// The time for which a request is repeated while the server is busy.
const PATIENCE: Duration = Duration::from_secs(60);

fn key(text: &str) -> Result<String, String> {
    if text.is_empty() || text.len() > MAX_KEY || !text.bytes().all(|byte| byte.is_ascii_graphic()) {
        return Err(format!("must be 1 to {MAX_KEY} visible ASCII characters"));
    }
    Ok(text.to_owned())
}

#[derive(Default, Deserialize)]
struct Accepted {
    accepted: u64,
    through: u64,
    #[serde(default)]
    duplicate: bool,
    #[serde(default)]
    refused: u64,
    #[serde(default)]
    errors: Vec<Detail>,
}

/// Counters of the lines sent so far.
#[derive(Default)]
struct Total {
    lines: u64,
    accepted: u64,
    duplicate: u64,
    refused: u64,
    through: u64,
}

impl Push {
    pub(super) fn run(self, global: &Global) -> Outcome {
        let client = Client::new(&global.url);
        let file = self.file.as_ref().filter(|path| path.as_os_str() != "-");
        let mut source = match file {
            Some(path) => Source::file(path).with_context(|| format!("{} can't be read", path.display()))?,
            None => Source::live(BufReader::new(io::stdin())),
        };
        // A request that is tried again must not be taken twice, so a file always has a key. A live feed
        // without an end would fill the server's memory of keys.
        let key = self.key.clone().or_else(|| file.map(|_| new_key()));
        let mut total = Total::default();
        for request in 1_u64.. {
            let body = source.gather()?;
            if body.lines == 0 && request > 1 {
                break;
            }
            let key_of = key.as_ref().map(|key| match request {
                1 => key.clone(),
                _ => format!("{key}.{request}"),
            });
            let sent = self.send(&client, key_of.as_deref(), &body, request > 1);
            let again = key.as_deref().filter(|_| file.is_some());
            let read = |answer: Answer| match answer.read() {
                Ok(accepted) => Ok((accepted, answer)),
                Err(failure) => Err(Failed { failure, unknown: true }),
            };
            let taken = sent.and_then(read);
            let (accepted, answer) = taken.map_err(|failed| placed(failed, &total, &body, again))?;
            if global.json {
                output::json(&answer)?;
            }
            self.count(accepted, &body, &mut total);
        }
        let taken = output::counted(total.accepted, "reading");
        let mut text = format!("{taken} taken through {}", total.through);
        if total.duplicate > 0 {
            text.push_str(&format!(", {} of them before", total.duplicate));
        }
        output::done(global, &text)?;
        match total.refused {
            0 => Ok(()),
            1 => Err(anyhow!("1 line was refused").into()),
            refused => Err(anyhow!("{refused} lines were refused").into()),
        }
    }

    /// Sends a request until the server takes or refuses it. Without a key it is tried again only where
    /// nothing of it can have been taken. A server that was never there is not waited for.
    fn send(
        &self,
        client: &Client,
        key: Option<&str>,
        body: &Body,
        mut was_reached: bool,
    ) -> Result<Answer, Failed> {
        let query = [("partial", self.partial.then(|| "true".to_owned()))];
        let until = Instant::now() + PATIENCE;
        let (mut told, mut unknown) = (false, false);
        loop {
            let headers: Vec<(&str, &str)> = key.iter().map(|key| (KEY_HEADER, *key)).collect();
            let failure = match client.post_with("/v1/readings", &query, NDJSON_TYPE, &headers, &body.bytes) {
                Ok(answer) => return Ok(answer),
                Err(failure) => failure,
            };
            unknown = is_unknown(&failure, unknown);
            let wait = match &failure {
                Failure::Refused(problem)
                    if matches!(problem.status, 503 | 507)
                        && (key.is_some() || problem.kind != "unknown-outcome") =>
                {
                    Duration::from_secs(problem.retry_after.unwrap_or(1))
                }
                Failure::NotReached { sent: true, .. } if key.is_some() => Duration::from_secs(1),
                Failure::NotReached { sent: false, .. } if was_reached => Duration::from_secs(1),
                _ => return Err(Failed { failure, unknown }),
            };
            was_reached |= !matches!(failure, Failure::NotReached { sent: false, .. });
            if Instant::now() + wait > until {
                return Err(Failed { failure, unknown });
            }
            if !told {
                let failure = failure.to_string();
                let reason = failure.lines().next().unwrap_or_default().trim_start_matches("error: ");
                output::note(&format!("the server is busy, trying again: {reason}"));
                told = true;
            }
            std::thread::sleep(wait);
        }
    }

    fn count(&self, answer: Accepted, body: &Body, total: &mut Total) {
        for mut error in answer.errors {
            if let Some(line) = error.place.as_mut().and_then(|place| place.line.as_mut()) {
                *line += total.lines;
            }
            output::note(&Line(&error).to_string());
        }
        total.lines += body.lines;
        total.accepted += answer.accepted;
        total.duplicate += if answer.duplicate { answer.accepted } else { 0 };
        total.refused += answer.refused;
        total.through = answer.through;
    }
}

/// A key that no other push has.
fn new_key() -> String {
    let seed = format!("{} {}", std::process::id(), host_time().0);
    format!("push-{}", &Digest::of(seed.as_bytes()).hex()[..24])
}

/// A request that failed, and whether it may have been taken all the same.
struct Failed {
    failure: Failure,
    unknown: bool,
}

/// Whether a request may have been taken although it failed; `before` says whether an earlier attempt may have been.
fn is_unknown(failure: &Failure, before: bool) -> bool {
    match failure {
        Failure::Refused(problem) if problem.kind == "unknown-outcome" || problem.status == 500 => true,
        // The server may be too busy to look what became of the attempt before.
        Failure::Refused(problem) => before && matches!(problem.status, 503 | 507),
        Failure::NotReached { sent, .. } => before || *sent,
        _ => true,
    }
}

/// Counts lines from the start of the source, and says what was taken before, what is unknown and how to
/// go on. `key` is the one of a file, under which it may be sent again.
fn placed(failed: Failed, before: &Total, body: &Body, key: Option<&str>) -> Failure {
    let Failed { failure, unknown } = failed;
    let mut hints = Vec::new();
    if before.lines > 0 {
        hints.push(format!("The {} lines before were taken ({} readings).", before.lines, before.accepted));
    }
    if unknown {
        let (first, last) = (before.lines + 1, before.lines + body.lines);
        hints.push(format!("It is not known whether the lines {first} to {last} were taken."));
    }
    match key {
        Some(key) if unknown || before.lines > 0 => {
            hints.push(format!("Send the file again with --key {key}: nothing is taken twice."));
        }
        None if unknown => {
            hints.push(
                "Look at `ironloom readings` before you send them again: they would be taken twice.".into(),
            );
        }
        _ => {}
    }
    match failure {
        Failure::Refused(mut problem) => {
            for place in problem.errors.iter_mut().filter_map(|error| error.place.as_mut()) {
                place.line = place.line.map(|line| line + before.lines);
            }
            if let Some(first) = problem.errors.first().filter(|_| before.lines > 0) {
                let more = match problem.errors.len() {
                    1 => String::new(),
                    several => format!("; {} more", several - 1),
                };
                problem.detail =
                    format!("nothing from line {} on was accepted; {}{more}", before.lines + 1, Line(first));
            }
            // Its advice speaks of a header; ours names the option.
            problem.hints.retain(|hint| !hint.contains("Idempotency-Key"));
            for hint in &mut problem.hints {
                *hint = hint.replace("?partial=true", "--partial");
            }
            problem.hints.extend(hints);
            Failure::Refused(problem)
        }
        Failure::NotReached { url, reason, .. } if unknown || before.lines > 0 => {
            let hints: String = hints.iter().map(|hint| format!("\nhint: {hint}")).collect();
            let state = if before.lines > 0 { "any more" } else { "the request" };
            Failure::Lost { text: format!("{url} doesn't answer {state}: {reason}{hints}") }
        }
        Failure::Other(error) => {
            let hints: String = hints.iter().map(|hint| format!("\nhint: {hint}")).collect();
            Failure::Other(anyhow!("{error:#}{hints}"))
        }
        other => other,
    }
}

#[cfg(test)]
mod tests {
    use std::io::{BufRead as _, Read as _, Write as _};
    use std::net::{TcpListener, TcpStream};

    use super::*;
    use crate::api::facade::{Place, Problem};

    /// Reads a request and returns its key, if it has one.
    fn key_of_request(connection: &TcpStream) -> Option<String> {
        let mut from = BufReader::new(connection);
        let (mut key, mut length) = (None, 0);
        loop {
            let mut line = String::new();
            from.read_line(&mut line).unwrap();
            match line.trim().split_once(": ") {
                Some((name, value)) if name.eq_ignore_ascii_case(KEY_HEADER) => key = Some(value.to_owned()),
                Some((name, value)) if name.eq_ignore_ascii_case("content-length") => {
                    length = value.parse().unwrap();
                }
                Some(_) => {}
                None if line.trim().is_empty() => break,
                None => {}
            }
        }
        from.read_exact(&mut vec![0; length]).unwrap();
        key
    }

    #[test]
    fn a_file_whose_answer_is_lost_is_sent_again_under_its_key() {
        let server = TcpListener::bind("127.0.0.1:0").unwrap();
        let url = format!("http://{}", server.local_addr().unwrap());
        let keys = std::thread::spawn(move || {
            let first = key_of_request(&server.accept().unwrap().0);
            let (mut connection, _) = server.accept().unwrap();
            let second = key_of_request(&connection);
            let answer = "{\"accepted\":1,\"through\":1}";
            let head = format!("HTTP/1.1 200 OK\r\ncontent-length: {}\r\n\r\n", answer.len());
            connection.write_all((head + answer).as_bytes()).unwrap();
            [first, second]
        });
        let mut file = tempfile::NamedTempFile::new().unwrap();
        file.write_all(b"{\"point\":\"a\",\"value\":1}\n").unwrap();
        let push = Push { file: Some(file.path().to_owned()), partial: false, key: None };
        push.run(&Global { url, json: false }).unwrap();
        let [first, second] = keys.join().unwrap();
        assert!(first.is_some());
        assert_eq!(first, second);
    }

    fn known(failure: Failure) -> Failed {
        Failed { failure, unknown: false }
    }

    fn unknown(failure: Failure) -> Failed {
        Failed { failure, unknown: true }
    }

    #[test]
    fn an_attempt_that_may_have_been_taken_is_remembered_until_the_server_has_looked() {
        let lost = |sent| Failure::NotReached { url: String::new(), reason: String::new(), sent };
        let busy = || Failure::Refused(Problem::unavailable("busy", "busy", Duration::from_secs(1)));
        let unknown = || Failure::Refused(Problem::unknown_outcome("the log failed"));
        let bad = || Failure::Refused(Problem::malformed("bad-lines", "nothing was accepted"));
        for (attempts, expected) in [
            (vec![lost(false)], false),
            (vec![busy()], false),
            (vec![lost(true)], true),
            (vec![lost(true), busy()], true),
            (vec![unknown(), busy(), lost(false)], true),
            (vec![lost(true), bad()], false),
        ] {
            let found = attempts.iter().fold(false, |before, failure| is_unknown(failure, before));
            assert_eq!(found, expected, "{attempts:?}");
        }
    }

    #[test]
    fn what_was_taken_before_is_said_and_lines_count_from_the_start() {
        let before = Total { lines: 10_000, accepted: 9_999, ..Total::default() };
        let body = Body { bytes: Vec::new(), lines: 5 };
        let detail = Detail {
            kind: "not-json".to_owned(),
            detail: "the line is not valid JSON".to_owned(),
            place: Some(Place { line: Some(3), column: Some(1), ..Place::default() }),
        };
        let problem =
            Problem::malformed("bad-lines", "nothing was accepted; line 3: the line is not valid JSON")
                .hint("With ?partial=true the valid lines are accepted.")
                .with(vec![detail]);
        let failure = placed(known(Failure::Refused(problem.clone())), &before, &body, Some("k"));
        insta::assert_snapshot!(failure.to_string(), @r"
        error: nothing from line 10001 on was accepted; line 10003, column 1: the line is not valid JSON
        hint: With --partial the valid lines are accepted.
        hint: The 10000 lines before were taken (9999 readings).
        hint: Send the file again with --key k: nothing is taken twice.
        ");
        let failure = placed(known(Failure::Refused(problem)), &Total::default(), &body, Some("k"));
        insta::assert_snapshot!(failure.to_string(), @r"
        error: nothing was accepted; line 3: the line is not valid JSON
        hint: With --partial the valid lines are accepted.
        ");
        let lost =
            Failure::NotReached { url: "http://x".to_owned(), reason: "refused".to_owned(), sent: false };
        let lost = placed(known(lost), &before, &body, None);
        insta::assert_snapshot!(lost.to_string(), @r"
        error: http://x doesn't answer any more: refused
        hint: The 10000 lines before were taken (9999 readings).
        ");
        assert_eq!(format!("{:?}", lost.code()), format!("{:?}", std::process::ExitCode::from(3)));
    }

    #[test]
    fn what_may_have_been_taken_is_said_with_the_way_on() {
        let body = Body { bytes: Vec::new(), lines: 5 };
        let lost =
            || Failure::NotReached { url: "http://x".to_owned(), reason: "reset".to_owned(), sent: true };
        let failure = placed(unknown(lost()), &Total::default(), &body, Some("k"));
        insta::assert_snapshot!(failure.to_string(), @r"
        error: http://x doesn't answer the request: reset
        hint: It is not known whether the lines 1 to 5 were taken.
        hint: Send the file again with --key k: nothing is taken twice.
        ");
        let failure = placed(unknown(lost()), &Total::default(), &body, None);
        insta::assert_snapshot!(failure.to_string(), @r"
        error: http://x doesn't answer the request: reset
        hint: It is not known whether the lines 1 to 5 were taken.
        hint: Look at `ironloom readings` before you send them again: they would be taken twice.
        ");
        let failure = Failure::Refused(Problem::unknown_outcome("the log failed"));
        let failure = placed(unknown(failure), &Total::default(), &body, Some("k"));
        insta::assert_snapshot!(failure.to_string(), @r"
        error: the log failed
        hint: It is not known whether the lines 1 to 5 were taken.
        hint: Send the file again with --key k: nothing is taken twice.
        ");
    }

    #[test]
    fn keys_leave_room_for_the_number_of_the_request() {
        assert!(key(&"k".repeat(56)).is_ok());
        for wrong in ["", "a b", "ä", &"k".repeat(57)] {
            assert!(key(wrong).is_err(), "{wrong}");
        }
        assert!(key(&new_key()).is_ok());
    }
}
