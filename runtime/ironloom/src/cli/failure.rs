//! How a command fails: an exit code for scripts, and a text for people on stderr.

use std::fmt;
use std::process::ExitCode;

use crate::api::facade::{Place, Problem};

/// The exit codes, as scripts know them. clap itself ends misuse with 2.
mod code {
    pub const REFUSED: u8 = 1;
    pub const MISUSE: u8 = 2;
    pub const NOT_REACHED: u8 = 3;
    pub const NOT_FOUND: u8 = 4;
    pub const CONFLICT: u8 = 5;
}

/// Why a command failed.
#[derive(Debug)]
pub enum Failure {
    /// The server refused.
    Refused(Problem),
    /// The server doesn't answer.
    NotReached {
        /// Where it was looked for.
        url: String,
        /// What the network said.
        reason: String,
    },
    /// The command doesn't make sense as given.
    Misuse(String),
    /// Anything else.
    Other(anyhow::Error),
    /// The log or the store failed: a supervisor shall start the server again.
    Storage(String),
}

/// Exit code for a supervisor: start again.
pub const STORAGE_FAILED: u8 = 75;

impl Failure {
    /// The code to exit with.
    pub fn code(&self) -> ExitCode {
        ExitCode::from(match self {
            Self::Refused(problem) => match problem.status {
                404 => code::NOT_FOUND,
                409 => code::CONFLICT,
                _ => code::REFUSED,
            },
            Self::NotReached { .. } => code::NOT_REACHED,
            Self::Misuse(_) => code::MISUSE,
            Self::Other(_) => code::REFUSED,
            Self::Storage(_) => STORAGE_FAILED,
        })
    }
}

impl From<anyhow::Error> for Failure {
    fn from(error: anyhow::Error) -> Self {
        Self::Other(error)
    }
}

impl From<std::io::Error> for Failure {
    fn from(error: std::io::Error) -> Self {
        Self::Other(error.into())
    }
}

impl fmt::Display for Failure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Refused(problem) => {
                write!(f, "error: {}", problem.detail)?;
                for error in &problem.errors {
                    write!(f, "\n  {}{}", Here(error.place.as_ref()), error.detail)?;
                }
                for hint in &problem.hints {
                    write!(f, "\nhint: {hint}")?;
                }
                Ok(())
            }
            Self::NotReached { url, reason } => {
                writeln!(f, "error: no server answers at {url}: {reason}")?;
                write!(
                    f,
                    "hint: `ironloom serve` starts one; --url or IRONLOOM_URL says where another one is."
                )
            }
            Self::Misuse(text) | Self::Storage(text) => write!(f, "error: {text}"),
            Self::Other(error) => write!(f, "error: {error:#}"),
        }
    }
}

struct Here<'a>(Option<&'a Place>);

impl fmt::Display for Here<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Some(place) = self.0 else { return Ok(()) };
        if let Some(line) = place.line {
            write!(f, "line {line}")?;
            if let Some(column) = place.column {
                write!(f, ", column {column}")?;
            }
            f.write_str(": ")?;
        }
        match &place.field {
            Some(field) => write!(f, "{field}: "),
            None => Ok(()),
        }
    }
}

/// What a command comes to.
pub type Outcome = Result<(), Failure>;

#[cfg(test)]
mod tests {
    use super::*;
    use crate::api::facade::Detail;

    #[test]
    fn problems_read_well_and_have_their_codes() {
        let problem = Problem::malformed("bad-lines", "nothing was taken; line 3: the line is no JSON")
            .hint("With ?partial=true the good lines are taken.")
            .with(vec![
                Detail {
                    kind: "not-json".to_owned(),
                    detail: "the line is no JSON".to_owned(),
                    place: Some(Place { line: Some(3), column: Some(1), field: None }),
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
        };
        insta::assert_snapshot!(not_reached.to_string());
        let code = |problem: Problem| format!("{:?}", Failure::Refused(problem).code());
        assert_eq!(code(Problem::not_found("x")), format!("{:?}", ExitCode::from(4)));
        assert_eq!(code(Problem::conflict("x", "x")), format!("{:?}", ExitCode::from(5)));
        assert_eq!(code(Problem::refused("x", "x")), format!("{:?}", ExitCode::from(1)));
        assert_eq!(format!("{:?}", not_reached.code()), format!("{:?}", ExitCode::from(3)));
    }
}
