//! `ironloom push`.

use std::fs::File;
use std::io::{self, BufRead, BufReader};
use std::path::PathBuf;

use anyhow::Context as _;
use clap::Args;
use serde::Deserialize;

use super::client::Client;
use super::failure::{Failure, Outcome};
use super::{Global, output};
use crate::api::NDJSON_TYPE;
use crate::api::problem::Body;

/// Pushes readings, one JSON object on each line: {"point":"hall/1/temperature","value":21.5}
#[derive(Args, Debug)]
pub struct Push {
    /// The file; `-` or nothing: standard input
    file: Option<PathBuf>,
    /// Take the good lines although there are bad ones
    #[arg(long)]
    partial: bool,
    /// Idempotency key: the same lines under the same key are taken once. Several requests get
    /// KEY.1, KEY.2 and so on
    #[arg(long)]
    key: Option<String>,
}

/// The most lines of one request.
const MAX_LINES: usize = 10_000;
/// The most bytes of one request: far below the server's limit, since a line may have 64 KiB.
const MAX_BYTES: usize = 4 << 20;

#[derive(Default, Deserialize)]
struct Accepted {
    accepted: u64,
    through: u64,
    #[serde(default)]
    refused: u64,
}

impl Push {
    /// Runs it.
    pub fn run(self, global: &Global) -> Outcome {
        let client = Client::new(&global.url);
        let mut source: Box<dyn BufRead> = match &self.file {
            Some(path) if path.as_os_str() != "-" => {
                let file = File::open(path).with_context(|| format!("{} can't be read", path.display()))?;
                Box::new(BufReader::new(file))
            }
            _ => Box::new(io::stdin().lock()),
        };
        let mut total = Accepted::default();
        let mut before = 0;
        for request in 1.. {
            let (body, lines) = gather(&mut source)?;
            if lines == 0 && request > 1 {
                break;
            }
            let key = self
                .key
                .as_ref()
                .map(|key| if request == 1 { key.clone() } else { format!("{key}.{request}") });
            let headers: Vec<(&str, &str)> =
                key.iter().map(|key| ("idempotency-key", key.as_str())).collect();
            let query = [("partial", self.partial.then(|| "true".to_owned()))];
            let answer = client
                .post_with("/v1/readings", &query, NDJSON_TYPE, &headers, &body)
                .map_err(|failure| placed(failure, before, total.accepted))?;
            if global.json {
                output::json(&answer)?;
            }
            let accepted: Accepted = answer.read()?;
            total.accepted += accepted.accepted;
            total.refused += accepted.refused;
            total.through = accepted.through;
            before += lines;
        }
        let refused =
            if total.refused > 0 { format!(", {} lines refused", total.refused) } else { String::new() };
        output::done(global, &format!("{} readings taken through {}{refused}", total.accepted, total.through))
    }
}

/// As many lines as go into one request.
fn gather(source: &mut dyn BufRead) -> io::Result<(Vec<u8>, u64)> {
    let (mut body, mut lines) = (Vec::new(), 0);
    while lines < MAX_LINES && body.len() < MAX_BYTES && source.read_until(b'\n', &mut body)? > 0 {
        lines += 1;
    }
    Ok((body, lines as u64))
}

/// Counts lines from the start of the file, and says what was taken before.
fn placed(failure: Failure, before: u64, accepted: u64) -> Failure {
    let Failure::Refused(mut problem) = failure else { return failure };
    let Body { errors, place, hints, .. } = &mut *problem;
    for place in errors.iter_mut().filter_map(|error| error.place.as_mut()).chain(place.as_mut()) {
        place.line = place.line.map(|line| line + before);
    }
    for hint in hints.iter_mut() {
        *hint = hint.replace("?partial=true", "--partial");
    }
    if before > 0 {
        hints.push(format!("The {before} lines before were taken ({accepted} readings)."));
    }
    Failure::Refused(problem)
}
