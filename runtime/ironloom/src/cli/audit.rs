//! `ironloom audit`: who did what.

mod check;

use std::fs::File;
use std::io::BufWriter;
use std::path::{Path, PathBuf};

use clap::{Args, Subcommand};
use serde::Serialize;
use serde::de::DeserializeOwned;

use self::check::{Exported, Line};
use super::client::Client;
use super::failure::{Failure, Outcome};
use super::{Global, PageArgs, listing, output};
use crate::api::JSON_TYPE;
use crate::api::facade::{AuditCheckpoint, AuditEntry};
use ironloom_trust::audit;
use ironloom_trust::key::PublicKey;
use ironloom_types::clock::Timestamp;
use ironloom_types::text::clean;

const ENTRIES: &str = "/v1/audit";
const CHECKPOINTS: &str = "/v1/audit/checkpoints";
/// Items of one request.
const AT_ONCE: &str = "1000";

/// The audit log: chains of entries that say who did what to which resource with which result, each with the hash of the
/// one before, and checkpoints that the server signs. For the roles auditor and platform-admin.
#[derive(Args, Debug)]
pub(super) struct Audit {
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// List entries, newest first
    List {
        /// Of one chain: platform, tenant-1 or set-points-1
        #[arg(long)]
        chain: Option<audit::Chain>,
        /// By the holder of a token of this name; -local, -host, - or app:ID
        #[arg(long, allow_hyphen_values = true)]
        who: Option<String>,
        /// Of one operation, such as pause or addToken
        #[arg(long)]
        action: Option<String>,
        /// About resources that begin like this, such as installations/pigs, which has consents/pigs with it
        #[arg(long)]
        resource: Option<String>,
        /// With one result: done, refused or failed
        #[arg(long)]
        result: Option<audit::Outcome>,
        /// From this time on (RFC 3339)
        #[arg(long, value_name = "TIME")]
        from: Option<Timestamp>,
        /// Before this time
        #[arg(long, value_name = "TIME")]
        to: Option<Timestamp>,
        /// Begin with the oldest
        #[arg(long)]
        oldest: bool,
        #[command(flatten)]
        page: PageArgs,
    },
    /// Check the server's audit log, or an exported one: changed, removed and moved entries are named
    Verify {
        /// A file of `audit export`; without one the server's audit log is checked
        file: Option<PathBuf>,
        /// An earlier export, or checkpoints of one: an end that was cut off since shows against them. More than once for
        /// several
        #[arg(long, value_name = "FILE")]
        checkpoint: Vec<PathBuf>,
        /// The key that must have signed every checkpoint, as it was noted when the server was new
        #[arg(long)]
        key: Option<PublicKey>,
    },
    /// Have the server sign the ends of all chains, and write entries and checkpoints to a file, one JSON object on each line
    Export {
        /// The file, which must not be there yet
        file: PathBuf,
        /// Checkpoints alone, to be kept elsewhere
        #[arg(long)]
        checkpoints: bool,
    },
}

impl Audit {
    pub(super) fn run(self, global: &Global) -> Outcome {
        match self.command {
            Command::List { chain, who, action, resource, result, from, to, oldest, page } => {
                let text = |value: Option<&dyn ToString>| value.map(ToString::to_string);
                let query = [
                    ("chain", text(chain.as_ref().map(|chain| chain as _))),
                    ("who", who),
                    ("action", action),
                    ("resource", resource),
                    ("result", result.map(|result| result.name().to_owned())),
                    ("from", text(from.as_ref().map(|from| from as _))),
                    ("to", text(to.as_ref().map(|to| to as _))),
                    ("order", Some(if oldest { "oldest" } else { "newest" }.to_owned())),
                    ("after", page.after),
                    ("limit", Some(page.limit.to_string())),
                ];
                let header =
                    ["time", "who", "role", "action", "resource", "result", "chain", "number", "detail"];
                output::list(global, ENTRIES, &query, &header, |entry: AuditEntry| {
                    let result = match &*entry.problem {
                        "" => entry.result,
                        problem => format!("{}: {problem}", entry.result),
                    };
                    let number = entry.number.to_string();
                    let shown =
                        [entry.who, entry.role, entry.action, entry.resource, result, entry.chain, number];
                    let [who, role, action, resource, result, chain, number] =
                        shown.map(|text| clean(&text).into());
                    let detail = output::shorten_last(&entry.detail);
                    [entry.time.to_string(), who, role, action, resource, result, chain, number, detail]
                })
            }
            Command::Verify { file, checkpoint, key } => verify(global, file.as_deref(), &checkpoint, key),
            Command::Export { file, checkpoints } => export(global, &file, checkpoints),
        }
    }
}

/// All checkpoints of the server, and those that are `signed` now.
fn checkpoints(client: &Client) -> Result<Vec<AuditCheckpoint>, Failure> {
    client.post(CHECKPOINTS, &[], JSON_TYPE, b"")?;
    let mut all = Vec::new();
    each(client, CHECKPOINTS, |one| {
        all.push(one);
        Ok(())
    })?;
    Ok(all)
}

/// Shows `take` all of a list; of entries each chain's are in its order.
fn each<T: DeserializeOwned>(client: &Client, path: &str, mut take: impl FnMut(T) -> Outcome) -> Outcome {
    let query = [("limit", Some(AT_ONCE.to_owned()))];
    listing::each_page(client, path, &query, None, |items: Vec<T>| items.into_iter().try_for_each(&mut take))
}

fn verify(global: &Global, file: Option<&Path>, known: &[PathBuf], key: Option<PublicKey>) -> Outcome {
    let mut checked = Exported::new(key);
    for path in known {
        check::each_line(path, |line| checked.checkpoint_of(line))?;
    }
    match file {
        Some(path) => {
            check::each_line(path, |line| checked.checkpoint_of(line))?;
            check::each_line(path, |line| checked.entry_of(line))?;
        }
        None => {
            let client = global.client()?;
            // Entries that come meanwhile are behind the checkpoints.
            for checkpoint in checkpoints(&client)? {
                checked.checkpoint_of(Line::Checkpoint(checkpoint))?;
            }
            each(&client, ENTRIES, |entry| checked.entry_of(Line::Entry(Box::new(entry))))?;
        }
    }
    let of = file.map_or_else(|| "the server's audit log".to_owned(), |path| path.display().to_string());
    checked.show(global, &of)
}

fn export(global: &Global, path: &Path, checkpoints_alone: bool) -> Outcome {
    output::check_new(path)?;
    let client = global.client()?;
    let failed =
        |error: std::io::Error| Failure::File(format!("{}: can't be written: {error}", path.display()));
    let file = File::options().write(true).create_new(true).open(path).map_err(failed)?;
    let mut out = BufWriter::new(file);
    let mut count: u64 = 0;
    for checkpoint in checkpoints(&client)? {
        write(&mut out, &Line::Checkpoint(checkpoint)).map_err(failed)?;
        count += 1;
    }
    if !checkpoints_alone {
        each(&client, ENTRIES, |entry| {
            count += 1;
            write(&mut out, &Line::Entry(Box::new(entry))).map_err(failed)
        })?;
    }
    let file = out.into_inner().map_err(|error| failed(error.into_error()))?;
    file.sync_all().map_err(failed)?;
    output::done(global, &format!("{} written to {}", output::counted(count, "line"), path.display()))
}

fn write(out: &mut impl std::io::Write, line: &impl Serialize) -> std::io::Result<()> {
    serde_json::to_writer(&mut *out, line)?;
    out.write_all(b"\n")
}
