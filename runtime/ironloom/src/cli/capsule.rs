//! `ironloom capsule`: the last invocations of an installation as one file, and running them again.
//!
//! The file is a tar with the capsule as JSON and the package as it was sent.

#[cfg(test)]
mod tests;

use std::collections::BTreeSet;
use std::io::Read as _;
use std::path::{Path, PathBuf};

use anyhow::Context as _;
use bytes::Bytes;
use clap::{Args, Subcommand};

use super::client::segment;
use super::failure::{Failure, Outcome};
use super::r#try::{Interrupted, failure};
use super::{Global, output};
use crate::api::capsule::{Capsule as Contents, LAST, MAX_BYTES, Rerun};
use crate::api::host::Start;
use crate::feeds::Trial;
use ironloom_apps::package;
use ironloom_sandbox::Compiled;
use ironloom_storage::small_files;
use ironloom_types::ids::Ordinal;
use ironloom_types::limits::MAX_PACKAGE;

/// The members of the file.
const CAPSULE: &str = "capsule.json";
const PACKAGE: &str = "package.app.tar";

/// The columns of what came of each invocation.
const HEADER: [&str; 7] = ["ordinal", "attempt", "kind", "time", "outcome", "again", "message"];
/// Rows that are laid out at once: each takes as much memory as the widest of them.
const ROWS: usize = 100;

/// Takes an installation's last invocations along as one file, the package and what the app had before them included;
/// `ironloom capsule run FILE` runs them again on any machine
#[derive(Args, Debug)]
#[command(args_conflicts_with_subcommands = true)]
pub(super) struct Capsule {
    #[command(subcommand)]
    what: Option<What>,
    /// The installation
    id: Option<String>,
    /// How many of its invocations, 1 to 1,000
    #[arg(long, default_value_t = LAST, value_name = "N")]
    last: u64,
    /// The file to write [default: ID.capsule.tar]
    #[arg(short, long, value_name = "FILE")]
    output: Option<PathBuf>,
}

#[derive(Debug, Subcommand)]
enum What {
    /// Run the invocations of a capsule again, without a server. Exit code 1 if one does something else than it did. Those
    /// that ended with cpu-limit, wall-limit or commit-limit aren't run: that was the machine's doing, or the log's
    Run {
        /// The capsule's file
        file: PathBuf,
    },
}

impl Capsule {
    pub(super) fn run(self, global: &Global, start: Start) -> Outcome {
        match (&self.what, &self.id) {
            (Some(What::Run { file }), _) => run(global, start, file),
            (None, Some(id)) => self.take(global, id),
            (None, None) => {
                Err(Failure::Misuse("name an installation, or `run` with a capsule's file".to_owned()))
            }
        }
    }

    fn take(&self, global: &Global, id: &str) -> Outcome {
        let file = self.output.clone().unwrap_or_else(|| PathBuf::from(format!("{id}.capsule.tar")));
        output::check_new(&file)?;
        let client = global.client()?;
        if output::is_watched() {
            output::note(
                "running its invocations again to find what was before the last ones: this may take a while",
            );
        }
        let query = [("last", Some(self.last.to_string()))];
        let answer = client.get(&format!("/v1/installations/{}/capsule", segment(id)), &query)?;
        let contents: Contents = answer.read()?;
        let package = contents.package.to_string();
        let package = client.get_bytes(&format!("/v1/packages/{}/file", segment(&package)))?;
        let shown = file.display();
        let tar = write(&answer.text, &package).with_context(|| format!("can't write {shown}"))?;
        // It has what the app remembers: for its owner alone, as the data folder is.
        let whole = small_files::unnamed(&file, &tar).with_context(|| format!("can't write {shown}"))?;
        whole.persist_noclobber(&file).with_context(|| format!("can't write {shown}"))?;
        let ordinals: BTreeSet<_> = contents.invocations.iter().map(|one| one.invocation.ordinal).collect();
        if (ordinals.len() as u64) < self.last && ordinals.first().is_some_and(|first| *first > Ordinal(1)) {
            output::note(&format!(
                "all of them ran under revision {}; those before them ran under another revision",
                contents.revision
            ));
        }
        let count = output::counted(contents.invocations.len() as u64, "invocation");
        output::done(global, &format!("{count} in {shown}; `ironloom capsule run {shown}` runs them again"))
    }
}

fn write(capsule: &str, package: &[u8]) -> std::io::Result<Vec<u8>> {
    let mut tar = tar::Builder::new(Vec::new());
    for (name, bytes) in [(CAPSULE, capsule.as_bytes()), (PACKAGE, package)] {
        let mut header = tar::Header::new_ustar();
        header.set_size(bytes.len() as u64);
        header.set_mode(0o644);
        tar.append_data(&mut header, name, bytes)?;
    }
    tar.into_inner()
}

/// Reads a file back; nothing is unpacked to the disk. Anybody may have written it: only regular members are taken, since
/// others claim bytes that they don't have, and none of a member is read before its length was looked at.
fn read(file: &Path) -> Result<(Contents, Bytes), Failure> {
    let shown = file.display();
    let wrong =
        |problem: &dyn std::fmt::Display| Failure::File(format!("{shown} is not a capsule: {problem}"));
    let bytes = std::fs::File::open(file).with_context(|| format!("{shown} can't be read"))?;
    let mut tar = tar::Archive::new(std::io::BufReader::new(bytes));
    let (mut capsule, mut package) = (None, None);
    for entry in tar.entries().map_err(|error| wrong(&error))?.raw(true) {
        let mut entry = entry.map_err(|error| wrong(&error))?;
        // From the header alone, so of 256 bytes at most.
        let name = String::from_utf8_lossy(&entry.path_bytes()).into_owned();
        let kind = entry.header().entry_type();
        if !kind.is_file() {
            return Err(wrong(&format_args!("{name:?} in it is of the type {kind:?}, not a regular file")));
        }
        let (place, most) = match name.as_str() {
            CAPSULE => (&mut capsule, MAX_BYTES as u64),
            PACKAGE => (&mut package, MAX_PACKAGE as u64),
            _ => return Err(wrong(&format_args!("{name:?} is in it"))),
        };
        if entry.size() > most {
            return Err(wrong(&format_args!(
                "{name} has {} bytes; at most {most} are allowed",
                entry.size()
            )));
        }
        if place.is_some() {
            return Err(wrong(&format_args!("{name} is in it twice")));
        }
        let mut bytes = Vec::new();
        entry.read_to_end(&mut bytes).map_err(|error| wrong(&error))?;
        *place = Some(bytes);
    }
    let (Some(capsule), Some(package)) = (capsule, package) else {
        return Err(wrong(&format_args!("it lacks {CAPSULE} or {PACKAGE}")));
    };
    let capsule: Contents =
        serde_json::from_slice(&capsule).map_err(|error| wrong(&format_args!("{CAPSULE}: {error}")))?;
    let package = Bytes::from(package);
    let found = package::read(&package).map_err(|error| wrong(&format_args!("{PACKAGE}: {error}")))?.digest;
    if found != capsule.package {
        let asked = capsule.package;
        return Err(wrong(&format_args!(
            "its invocations ran the package {asked}, and {PACKAGE} is {found}; take the capsule again"
        )));
    }
    Ok((capsule, package))
}

fn run(global: &Global, start: Start, file: &Path) -> Outcome {
    let (capsule, package) = read(file)?;
    let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build()?;
    let outcome = runtime.block_on(async {
        let mut interrupted = Interrupted::new()?;
        tokio::select! {
            outcome = again(start, capsule, package) => outcome,
            () = interrupted.come() => Err(Failure::Interrupted("interrupted".to_owned())),
        }
    });
    runtime.shutdown_background();
    let all = outcome?;
    if global.json {
        let json = serde_json::to_string(&serde_json::json!({ "items": all }))
            .context("it can't be written as JSON")?;
        output::json_text(&format!("{json}\n"))?;
    } else {
        let (mut header, mut widths) = (&HEADER[..], Vec::new());
        for rows in all.chunks(ROWS) {
            output::print(&output::part(header, rows.iter().map(row), &mut widths))?;
            header = &[];
        }
        let left_out = all.iter().filter(|one| !one.ran).count();
        if left_out > 0 {
            let left_out = output::counted(left_out as u64, "invocation");
            output::note(&format!(
                "{left_out} not run: a limit of time or the log ended the call, or no reading reached the app"
            ));
        }
    }
    match all.iter().filter(|one| one.difference.is_some()).count() {
        0 => Ok(()),
        differ => {
            let all = output::counted(all.len() as u64, "invocation");
            Err(anyhow::anyhow!("{differ} of {all} did something else than recorded").into())
        }
    }
}

async fn again(start: Start, capsule: Contents, package: Bytes) -> Result<Vec<Rerun>, Failure> {
    let trial = Trial::begin(start, package, &capsule.timezone, Compiled::WithLines).await;
    let mut trial = trial.map_err(failure)?;
    let all = trial.capsule(capsule).await.map_err(failure);
    let ended = trial.end().await.map_err(failure);
    let all = all?;
    ended?;
    Ok(all)
}

fn row(one: &Rerun) -> [String; 7] {
    let recorded = &one.recorded;
    let again = match &one.difference {
        None if one.ran => "the same".to_owned(),
        None => "not run".to_owned(),
        Some(difference) if difference.outcome == recorded.outcome => "other effects".to_owned(),
        Some(difference) => difference.outcome.clone(),
    };
    [
        recorded.ordinal.to_string(),
        recorded.attempt.to_string(),
        recorded.timer.as_ref().map_or(recorded.kind.clone(), |timer| format!("timer {timer}")),
        recorded.time.to_string(),
        recorded.outcome.clone(),
        again,
        output::shorten_last(one.message.as_ref().or(recorded.message.as_ref()).map_or("", String::as_str)),
    ]
}
