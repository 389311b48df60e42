//! The outcome of an invocation, with words for it.

use std::fmt;

use wasmtime::component::ResourceTableError;
use wasmtime::{FrameInfo, PoolConcurrencyLimitError, Trap, WasmBacktrace};
use wasmtime_wasi::I32Exit;

use super::app_log::{Level, LogLine, LogSource, beginning};
use super::budget::{HostCallBytes, Meter};
use super::fault::HostFault;

/// The longest text of an app's own in an outcome.
const MAX_REASON: usize = 4 << 10;

/// The app's answer makes no sense.
#[derive(Clone, Debug, thiserror::Error)]
#[error("{0}")]
pub(crate) struct BadAnswer(pub String);

/// The outcome of an invocation.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Outcome {
    /// It took effect.
    Ok,
    /// The app says that it can't be done, now or later.
    Reject(String),
    /// The app says that something is missing for now.
    Retry(String),
    /// The app broke off; says how, for people.
    Trap(String),
    /// It exceeded its CPU time.
    CpuLimit,
    /// It exceeded its wall time.
    WallLimit,
    /// It needed more memory than it may have, and aborted.
    MemoryLimit,
    /// Its host calls carried more than they may.
    HostCallLimit,
    /// It was interrupted: an admin pauses or removes the app.
    Interrupted,
    /// The host failed; the app isn't to blame.
    HostFault(String),
}

impl fmt::Display for Outcome {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Ok => f.write_str("ok"),
            Self::Reject(reason) => write!(f, "rejected: {reason}"),
            Self::Retry(reason) => write!(f, "to be retried: {reason}"),
            Self::Trap(how) => f.write_str(how),
            Self::CpuLimit => f.write_str("it took more CPU time than `limits.cpu` allows"),
            Self::WallLimit => f.write_str("it took longer than ten times `limits.cpu`"),
            Self::MemoryLimit => f.write_str("it wanted more memory than `limits.memory` allows"),
            Self::HostCallLimit => HostCallBytes.fmt(f),
            Self::Interrupted => f.write_str("it was interrupted by an admin"),
            Self::HostFault(fault) => write!(f, "the host failed: {fault}"),
        }
    }
}

impl Outcome {
    /// The app's own words, at a length that can be kept.
    pub(super) fn reason(text: &str) -> String {
        beginning(text, MAX_REASON).to_owned()
    }

    /// Finds out why a call, or an instantiation, ended with an error.
    pub(super) fn of_error(
        error: &wasmtime::Error,
        meter: &Meter,
        memory_refused: bool,
        log: &[LogLine],
    ) -> Self {
        if let Some(HostFault(fault)) = error.downcast_ref() {
            return Self::HostFault(fault.clone());
        }
        if error.is::<PoolConcurrencyLimitError>() {
            return Self::HostFault("no place is free in the pool".to_owned());
        }
        if meter.is_interrupted() {
            return Self::Interrupted;
        }
        if meter.is_over_cpu() {
            return Self::CpuLimit;
        }
        if meter.is_over_wall() {
            return Self::WallLimit;
        }
        if let Some(BadAnswer(problem)) = error.downcast_ref() {
            return Self::Trap(problem.clone());
        }
        // wasmtime's own type for the bytes of one call is private: its text tells.
        let text = error.root_cause().to_string();
        if error.is::<HostCallBytes>() || text.contains("fuel allocated for hostcalls") {
            return Self::HostCallLimit;
        }
        if error.is::<I32Exit>() {
            // Its code says no more: WASI 0.2 has only 0 and 1.
            return Self::Trap("it ended with `exit`; an app must return instead".to_owned());
        }
        if memory_refused {
            return Self::MemoryLimit;
        }
        if let Some(trap) = error.downcast_ref::<Trap>() {
            let how = of_trap(*trap, log);
            // A panic has told its place itself.
            let trace = error.downcast_ref().filter(|_| !how.starts_with("it panicked: "));
            let line = trace.and_then(line).map(|line| format!(" ({line})"));
            return Self::Trap(Self::reason(&(how + &line.unwrap_or_default())));
        }
        if error.is::<ResourceTableError>() {
            return Self::Trap(format!(
                "it holds too many of the host's resources at once, or a wrong one ({text})"
            ));
        }
        Self::Trap(Self::reason(&text))
    }
}

fn of_trap(trap: Trap, log: &[LogLine]) -> String {
    match trap {
        Trap::StackOverflow => {
            "its calls are nested too deeply: a function calls itself endlessly".to_owned()
        }
        Trap::MemoryOutOfBounds => {
            "it touched memory that it doesn't have; a very deep recursion can look like this, or large arrays on the stack".to_owned()
        }
        Trap::UnreachableCodeReached => match (exception(log).or_else(|| panic_message(log)), last_words(log)) {
            (Some(message), _) => format!("it panicked: {message}"),
            (None, Some(words)) => format!("it aborted (wasm `unreachable`); it last wrote: {words}"),
            (None, None) => "it panicked or aborted (wasm `unreachable`)".to_owned(),
        },
        Trap::IntegerDivisionByZero => "it divided by zero".to_owned(),
        other => {
            let text = other.to_string();
            format!("it trapped: {}", text.strip_prefix("wasm trap: ").unwrap_or(&text))
        }
    }
}

/// The innermost line of the app's own that a backtrace leads to, or else of what it stands on. There is none without debug
/// information.
fn line(trace: &WasmBacktrace) -> Option<String> {
    let symbols = || trace.frames().iter().flat_map(FrameInfo::symbols);
    let own = symbols().find(|symbol| symbol.file().is_some_and(|file| !is_of_others(file)));
    let symbol = own.or_else(|| symbols().find(|symbol| symbol.file().is_some()))?;
    let line = symbol.line().map(|line| format!(":{line}")).unwrap_or_default();
    let name = symbol.name().map(|name| format!(", in {name}")).unwrap_or_default();
    Some(format!("{}{line}{name}", symbol.file()?))
}

/// Says whether a file is one of Rust's own, or of a crate from elsewhere.
fn is_of_others(file: &str) -> bool {
    ["/rustc/", "/registry/src/", "/rustlib/src/"].iter().any(|part| file.contains(part))
}

fn printed(log: &[LogLine]) -> Vec<&str> {
    let printed = log.iter().filter(|line| line.source == LogSource::Stderr);
    printed.map(|line| line.message.as_str()).collect()
}

/// The exception of the last traceback that Python has printed, with its innermost place.
fn exception(log: &[LogLine]) -> Option<String> {
    let printed = printed(log);
    let begin = printed.iter().rposition(|line| line.starts_with("Traceback (most recent call last)"))?;
    let after = &printed[begin + 1..];
    let end = after.iter().position(|line| !line.is_empty() && !line.starts_with(char::is_whitespace))?;
    let place = after[..end].iter().rev().find_map(|line| line.trim_start().strip_prefix("File "));
    let place = place.map(|place| format!(" ({})", place.replace('"', "").replace(", line ", ":")));
    Some(Outcome::reason(&format!("{}{}", after[end], place.unwrap_or_default())))
}

/// The last line that isn't empty, of those that tell of an error.
fn last_words(log: &[LogLine]) -> Option<String> {
    let tells = |line: &&LogLine| line.level == Level::Error && !line.message.trim().is_empty();
    log.iter().rev().find(tells).map(|line| Outcome::reason(line.message.trim()))
}

/// The last output of Rust's panic hook: a line with the place, then the message.
fn panic_message(log: &[LogLine]) -> Option<String> {
    let printed = printed(log);
    let at = printed.iter().rposition(|line| line.contains("panicked at"))?;
    let place = printed[at].split_once("panicked at ").map_or("", |(_, place)| place.trim_end_matches(':'));
    let message = printed.get(at + 1).copied().unwrap_or_default();
    Some(Outcome::reason(&format!("{message} ({place})")))
}

#[cfg(test)]
mod tests {
    use super::*;

    use crate::interrupt::Interrupt;
    use ironloom_types::limits::Limits;

    fn of(error: wasmtime::Error) -> Outcome {
        Outcome::of_error(&error, &Meter::new(&Limits::default(), Interrupt::default()), false, &[])
    }

    fn line(message: &str) -> LogLine {
        LogLine {
            level: Level::Error,
            source: LogSource::Stderr,
            context: String::new(),
            message: message.to_owned(),
        }
    }

    #[test]
    fn the_host_s_faults_are_never_the_app_s() {
        let error = wasmtime::Error::from(HostFault("disk".to_owned())).context("while reading");
        assert_eq!(of(error), Outcome::HostFault("disk".to_owned()));
    }

    #[test]
    fn refused_memory_explains_a_plain_trap() {
        let error = wasmtime::Error::from(Trap::UnreachableCodeReached);
        let meter = Meter::new(&Limits::default(), Interrupt::default());
        assert_eq!(Outcome::of_error(&error, &meter, true, &[]), Outcome::MemoryLimit);
    }

    #[test]
    fn a_panic_is_told_with_its_place() {
        let log = [
            line(""),
            line("thread '<unnamed>' (1) panicked at src/lib.rs:7:9:"),
            line("no such pig"),
            line("note: run"),
        ];
        let text = of_trap(Trap::UnreachableCodeReached, &log);
        assert_eq!(text, "it panicked: no such pig (src/lib.rs:7:9)");
    }

    #[test]
    fn an_exception_is_told_with_its_place_and_else_the_last_words() {
        // As componentize-py 0.17 prints it.
        let python = [
            "Traceback (most recent call last):",
            "  File \"/0/ironloom/__init__.py\", line 73, in _answer",
            "    return call()",
            "  File \"/0/app.py\", line 54, in take",
            "    1 / 0",
            "    ~~^~~",
            "ZeroDivisionError: division by zero",
            "",
            "thread '<unnamed>' (1) panicked at runtime/src/lib.rs:1293:29:",
            "Python function threw an unexpected exception",
        ];
        let text = of_trap(Trap::UnreachableCodeReached, &python.map(line));
        assert_eq!(text, "it panicked: ZeroDivisionError: division by zero (/0/app.py:54, in take)");
        let other = of_trap(Trap::UnreachableCodeReached, &["TypeError: no", " "].map(line));
        assert_eq!(other, "it aborted (wasm `unreachable`); it last wrote: TypeError: no");
    }

    #[test]
    fn exits_and_sleeps_are_named() {
        assert!(of(I32Exit(3).into()).to_string().contains("`exit`"));
        assert_eq!(
            of(crate::wasi::Sleep.into()),
            Outcome::Trap("an app can't sleep: set a timer".to_owned())
        );
    }
}
