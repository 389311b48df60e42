//! The failure of a command: an exit code for scripts, and a text for people on stderr.

use std::fmt;
use std::process::ExitCode;
use std::time::Duration;

use crate::api::facade::{Detail, Problem};
use crate::api::host::STORAGE_FAILED;
use ironloom_storage::small_files::ReadError;
use ironloom_types::text::{clean, clean_lines};

/// The exit codes, as scripts know them. clap itself ends misuse with 2.
mod code {
    pub(super) const DONE: u8 = 0;
    pub(super) const REFUSED: u8 = 1;
    pub(super) const MISUSE: u8 = 2;
    pub(super) const NOT_REACHED: u8 = 3;
    pub(super) const NOT_FOUND: u8 = 4;
    pub(super) const CONFLICT: u8 = 5;
    pub(super) const WAITS: u8 = 6;
    pub(super) const INTERRUPTED: u8 = 130;
}

/// Why a command failed.
#[derive(Debug)]
pub(super) enum Failure {
    /// The server refused.
    Refused(Problem),
    /// The server doesn't answer.
    NotReached {
        /// The server's URL.
        url: String,
        /// The error of the network.
        reason: String,
        /// Whether there was a connection, so that the request may have been carried out.
        sent: bool,
    },
    /// The server that answers isn't the one that was meant, or it can't be known.
    Distrusted {
        url: String,
        reason: String,
    },
    /// The server answered before, or took the request, and doesn't answer any more.
    Lost {
        /// The whole message.
        text: String,
    },
    /// A signal has ended the command; the whole message.
    Interrupted(String),
    /// The command doesn't make sense as given.
    Misuse(String),
    /// The server has taken it, and somebody has to consent before it begins.
    Waits(String),
    /// A file of the user's is wrong: a problem on each line, with the file before it.
    File(String),
    /// The reader of the output has gone, as with `| head`: there is nothing more to do.
    ReaderGone,
    Other(anyhow::Error),
    /// The log or the store failed: a supervisor should start the server again.
    Storage(String),
}

impl Failure {
    /// The code to exit with.
    pub(super) fn code(&self) -> ExitCode {
        ExitCode::from(self.status())
    }

    /// The time after which it is worth another try, where it is: the server is busy, or it is gone and may come back.
    pub(super) fn again(&self) -> Option<Duration> {
        match self {
            Self::Refused(problem) if matches!(problem.status, 429 | 503 | 507) => {
                Some(Duration::from_secs(problem.retry_after.unwrap_or(0)))
            }
            Self::NotReached { .. } | Self::Lost { .. } => Some(Duration::ZERO),
            _ => None,
        }
    }

    /// The same as a number.
    pub(super) fn status(&self) -> u8 {
        match self {
            Self::Refused(problem) => match problem.status {
                404 => code::NOT_FOUND,
                409 | 412 => code::CONFLICT,
                _ => code::REFUSED,
            },
            Self::NotReached { .. } | Self::Distrusted { .. } | Self::Lost { .. } => code::NOT_REACHED,
            Self::Interrupted(_) => code::INTERRUPTED,
            Self::Misuse(_) => code::MISUSE,
            Self::Waits(_) => code::WAITS,
            Self::Other(_) | Self::File(_) => code::REFUSED,
            Self::Storage(_) => STORAGE_FAILED,
            Self::ReaderGone => code::DONE,
        }
    }
}

impl From<anyhow::Error> for Failure {
    fn from(error: anyhow::Error) -> Self {
        Self::Other(error)
    }
}

impl From<ReadError> for Failure {
    fn from(error: ReadError) -> Self {
        Self::File(error.to_string())
    }
}

impl From<std::io::Error> for Failure {
    fn from(error: std::io::Error) -> Self {
        Self::Other(error.into())
    }
}

/// Foreign text is cleaned part by part: a line feed in it makes no new line.
impl fmt::Display for Failure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Refused(problem) => {
                write!(f, "error: {}", clean(&problem.detail))?;
                // One alone stands in the sentence already.
                let told =
                    matches!(problem.errors.as_slice(), [only] if problem.detail.contains(&only.detail));
                for error in problem.errors.iter().filter(|_| !told) {
                    write!(f, "\n  {}", Line(error))?;
                }
                for hint in &problem.hints {
                    write!(f, "\nhint: {}", clean(hint))?;
                }
                Ok(())
            }
            Self::NotReached { url, reason, sent: false } => {
                writeln!(f, "error: no server answers at {}: {}", clean(url), clean(reason))?;
                write!(f, "hint: `ironloom serve` starts one; --url or IRONLOOM_URL names another one.")
            }
            Self::NotReached { url, reason, sent: true } => {
                writeln!(f, "error: {} doesn't answer: {}", clean(url), clean(reason))?;
                write!(
                    f,
                    "hint: A command that changes something may have done so: look before you run it again."
                )
            }
            Self::Waits(text) => f.write_str(&clean_lines(text)),
            Self::Distrusted { url, reason } => {
                writeln!(f, "error: no connection to {}: {}", clean(url), clean(reason))?;
                write!(
                    f,
                    "hint: --ca FILE or IRONLOOM_CA names certificates to trust; --url names the server."
                )
            }
            Self::Misuse(text)
            | Self::Storage(text)
            | Self::File(text)
            | Self::Interrupted(text)
            | Self::Lost { text } => write!(f, "error: {}", clean_lines(text)),
            Self::Other(error) => write!(f, "error: {}", clean_lines(&format!("{error:#}"))),
            Self::ReaderGone => Ok(()),
        }
    }
}

/// One of several errors, in a line with its place.
pub(super) struct Line<'a>(pub &'a Detail);

impl fmt::Display for Line<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let place = self.0.place.as_ref();
        if let Some(item) = place.and_then(|place| place.item) {
            write!(f, "item {item}: ")?;
        }
        if let Some(line) = place.and_then(|place| place.line) {
            write!(f, "line {line}")?;
            if let Some(column) = place.and_then(|place| place.column) {
                write!(f, ", column {column}")?;
            }
            f.write_str(": ")?;
        }
        if let Some(field) = place.and_then(|place| place.field.as_ref()) {
            write!(f, "{}: ", clean(field))?;
        }
        f.write_str(&clean(&self.0.detail))
    }
}

/// The result of a command.
pub(super) type Outcome = Result<(), Failure>;

#[cfg(test)]
mod tests {
    use super::*;
    use crate::api::facade::Place;

    proptest::proptest! {
        #[test]
        fn nothing_that_a_server_says_steers_the_terminal(texts in proptest::collection::vec("(?s).{0,20}", 5)) {
            let detail = |text: &str| Detail {
                kind: "x".to_owned(),
                detail: text.to_owned(),
                place: Some(Place::field(text)),
            };
            let errors = texts[..2].iter().map(|text| detail(text)).collect();
            let problem = Problem::refused("install", texts[2].as_str()).hint(texts[3].as_str()).with(errors);
            let shown = Failure::Refused(problem).to_string();
            proptest::prop_assert_eq!(clean_lines(&shown), shown.as_str());
            proptest::prop_assert_eq!(shown.lines().count(), 4);
            let failure = Failure::NotReached { url: texts[0].clone(), reason: texts[4].clone(), sent: false };
            let shown = failure.to_string();
            proptest::prop_assert_eq!(clean_lines(&shown), shown.as_str());
        }
    }

    #[test]
    fn one_problem_is_told_once_and_one_of_a_list_with_its_item() {
        let error = |item, detail: &str| Detail {
            kind: "exists".to_owned(),
            detail: detail.to_owned(),
            place: Some(Place { item: Some(item), ..Place::field("id") }),
        };
        let one = Problem::conflict("exists", "installation 2 of the list (b): it exists; none is installed");
        let one = Failure::Refused(one.with(vec![error(2, "it exists")])).to_string();
        assert_eq!(one, "error: installation 2 of the list (b): it exists; none is installed");
        let several = Problem::conflict("exists", "2 of the 3");
        let several = several.with(vec![error(2, "it exists"), error(3, "it exists, too")]);
        let several = Failure::Refused(several).to_string();
        assert_eq!(several, "error: 2 of the 3\n  item 2: id: it exists\n  item 3: id: it exists, too");
    }

    #[test]
    fn problems_read_well_and_have_their_codes() {
        let problem =
            Problem::malformed("bad-lines", "nothing was accepted; line 3: the line is not valid JSON")
                .hint("With ?partial=true the valid lines are accepted.")
                .with(vec![
                    Detail {
                        kind: "not-json".to_owned(),
                        detail: "the line is not valid JSON".to_owned(),
                        place: Some(Place { line: Some(3), column: Some(1), ..Place::default() }),
                    },
                    Detail {
                        kind: "unit-mismatch".to_owned(),
                        detail: "the point has `g`, the input `kg`".to_owned(),
                        place: Some(Place::field("bindings.weight")),
                    },
                ]);
        let refused = Failure::Refused(problem);
        insta::assert_snapshot!(refused.to_string());
        let not_reached = Failure::NotReached {
            url: "http://127.0.0.1:7420".to_owned(),
            reason: "connection refused".to_owned(),
            sent: false,
        };
        insta::assert_snapshot!(not_reached.to_string());
        let code = |problem: Problem| format!("{:?}", Failure::Refused(problem).code());
        assert_eq!(code(Problem::not_found("install")), format!("{:?}", ExitCode::from(4)));
        assert_eq!(code(Problem::conflict("install", "x")), format!("{:?}", ExitCode::from(5)));
        assert_eq!(code(Problem::refused("install", "x")), format!("{:?}", ExitCode::from(1)));
        assert_eq!(format!("{:?}", not_reached.code()), format!("{:?}", ExitCode::from(3)));
    }
}
