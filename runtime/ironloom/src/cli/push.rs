//! `ironloom push`.
//!
//! All lines go over one stream, under a key: what isn't acknowledged is kept, and sent again after a drop.

mod backlog;
mod connection;
mod run;
mod source;
pub(super) mod stop;
mod texts;

use std::fs::File;
use std::io;
use std::path::PathBuf;

use anyhow::{Context as _, anyhow};
use clap::Args;

use self::connection::Address;
use self::run::{Retry, Run, Total};
use self::source::Source;
use self::stop::Stop;
use self::texts::placed;
use super::credentials::Credentials;
use super::failure::Outcome;
use super::{Global, output};
use crate::api::{MAX_KEY, is_key};
use ironloom_storage::random;
use ironloom_types::limits::STREAM_ONCE;

/// Pushes readings, one JSON object on each line: {"point":"hall/1/temperature","value":21.5}
#[derive(Args, Debug)]
pub(super) struct Push {
    /// The file; `-` or nothing: standard input, sent as it comes
    file: Option<PathBuf>,
    /// Accept the valid lines even if others are bad; the exit code is 1 if some were
    #[arg(long)]
    partial: bool,
    /// Key of these lines, at most 64 characters. Sent again under the same key from their first line on, those
    /// that were taken before are skipped. A day after the last one it may be forgotten
    #[arg(long, value_parser = key)]
    key: Option<String>,
    /// The time for which a server that is busy or gone is tried again without taking any line, such as `10 min`, or
    /// `forever`: then also one that doesn't answer yet. 1 min by default, but not while only lines without an `at` have
    /// come and nothing else says what time it is
    #[arg(long, value_name = "DURATION|forever")]
    retry: Option<Retry>,
}

fn key(text: &str) -> Result<String, String> {
    if !is_key(text.as_bytes()) {
        return Err(format!("must be 1 to {MAX_KEY} visible ASCII characters"));
    }
    Ok(text.to_owned())
}

/// A key that no other push has.
fn new_key() -> String {
    format!("{STREAM_ONCE}{:016x}{:016x}", random(), random())
}

impl Push {
    pub(super) fn run(self, global: &Global) -> Outcome {
        let source = match self.file.as_ref().filter(|path| path.as_os_str() != "-") {
            Some(path) => {
                let name = path.display().to_string();
                Source::new(File::open(path).with_context(|| format!("{name} can't be read"))?, name)
            }
            None => Source::new(io::stdin(), "standard input".to_owned()),
        };
        // Nobody can send these lines again under a key that nobody was told.
        let once = self.key.is_none();
        let key = self.key.unwrap_or_else(new_key);
        let address = Address::new(&global.url, &key, self.partial, Credentials::of(global)?)?;
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
        // Signals are heard by the runtime.
        let stop = {
            let _entered = runtime.enter();
            Stop::new()?
        };
        let total = runtime
            .block_on(Run::new(&address, source, once, self.retry, stop).whole())
            .map_err(|stopped| placed(stopped, address.url(), &key))?;
        if global.json {
            output::json_text(&format!("{}\n", serde_json::json!(total)))?;
        }
        output::done(global, &summary(&total))?;
        match total.refused {
            0 => Ok(()),
            1 => Err(anyhow!("1 line was refused").into()),
            refused => Err(anyhow!("{refused} lines were refused").into()),
        }
    }
}

fn summary(total: &Total) -> String {
    let mut text = format!("{} taken", output::counted(total.taken, "reading"));
    match total.before {
        0 => {}
        before if before == total.taken => text.push_str(", all of them before"),
        before => text.push_str(&format!(", {before} of them before")),
    }
    if let Some(sequence) = total.sequence {
        text.push_str(&format!(", the last as {sequence}"));
    }
    text
}

#[cfg(test)]
mod tests;
