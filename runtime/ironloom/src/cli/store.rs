//! `ironloom store`.

use std::path::{Path, PathBuf};

use anyhow::anyhow;
use clap::{Args, Subcommand};
use serde_json::json;

use super::failure::{Failure, Outcome};
use super::{Global, output, progress};
use crate::offline::{Looked, OfflineError, Report, check, copy};
use ironloom_storage::store::EngineKind;
use ironloom_types::text::clean;

/// Checks or copies a data folder while no server runs on it.
#[derive(Args, Debug)]
pub(super) struct Store {
    #[command(subcommand)]
    what: What,
}

#[derive(Debug, Subcommand)]
enum What {
    /// Look at every checksum of log, journal, store and packages, and say what is damaged and what that means
    Check {
        /// The data folder
        #[arg(long, value_name = "DIR", default_value = "./ironloom-data")]
        data: PathBuf,
    },
    /// Copy a data folder into one without data, with the store in another engine
    Copy {
        /// The data folder
        #[arg(long, value_name = "DIR", default_value = "./ironloom-data")]
        data: PathBuf,
        /// The engine of the copy: redb or sled
        #[arg(long, value_name = "ENGINE")]
        engine: EngineKind,
        /// The new data folder, which must be empty or not exist
        #[arg(long, value_name = "DIR")]
        to: PathBuf,
    },
}

impl Store {
    pub(super) fn run(self, global: &Global) -> Outcome {
        match self.what {
            What::Check { data } => run_check(global, &data),
            What::Copy { data, engine, to } => run_copy(global, &data, engine, &to),
        }
    }
}

fn failed(error: OfflineError) -> Failure {
    Failure::Other(anyhow!(error))
}

fn run_check(global: &Global, data: &Path) -> Outcome {
    let bar = progress::counting();
    let report = check(data, &mut |looked| bar.set_message(looked_at(looked))).map_err(failed)?;
    bar.finish_and_clear();
    if global.json {
        output::json_text(&format!("{}\n", as_json(&report)))?;
    } else {
        output::print(&text(&report))?;
    }
    let damaged = report.findings.len() as u64 + report.more;
    if damaged == 0 {
        return Ok(());
    }
    Err(Failure::Other(anyhow!(
        "{}: {} found",
        clean(&data.display().to_string()),
        output::counted(damaged, "damaged part")
    )))
}

fn run_copy(global: &Global, data: &Path, engine: EngineKind, to: &Path) -> Outcome {
    let bar = progress::counting();
    bar.set_message("copying");
    let restored = copy(data, engine, to).map_err(failed)?;
    bar.finish_and_clear();
    if global.json {
        let told = json!({"data": to, "engine": engine.name(), "keys": restored.keys, "through": restored.head.through});
        return output::json_text(&format!("{told}\n"));
    }
    output::print(&format!(
        "{} has all of it, {} in {}; set `store.engine` to {}, and start a server on one of the two folders only\n",
        clean(&to.display().to_string()),
        output::counted(restored.keys, "key"),
        engine.name(),
        engine.name()
    ))
}

fn looked_at(looked: &Looked) -> String {
    let Looked { values, records, blocks, packages } = *looked;
    let parts = [
        output::counted(values, "value"),
        output::counted(records, "record"),
        output::counted(blocks, "block"),
        output::counted(packages, "package"),
    ];
    parts.join(", ")
}

fn text(report: &Report) -> String {
    let mut looked = looked_at(&report.looked);
    if report.packages_unknown > 0 {
        let files = output::counted(report.packages_unknown, "file");
        looked.push_str(&format!("; {files} of packages not, since their records can't be read"));
    }
    if report.findings.is_empty() {
        return format!("nothing is damaged: {looked}\n");
    }
    let rows = report
        .findings
        .iter()
        .map(|finding| [finding.part.to_owned(), finding.problem.clone(), finding.meaning.to_owned()]);
    let more = if report.more > 0 { format!("and {} more\n", report.more) } else { String::new() };
    // Without the store nobody knows what belongs to it.
    let end = match report.looked == Looked::default() {
        true => "nothing else could be looked at".to_owned(),
        false => format!("looked at {looked}"),
    };
    format!("{}{more}{end}\n", output::table(&["part", "damage", "meaning"], rows))
}

fn as_json(report: &Report) -> serde_json::Value {
    let Looked { values, records, blocks, packages } = report.looked;
    let damaged: Vec<_> = report
        .findings
        .iter()
        .map(|finding| json!({"part": finding.part, "problem": finding.problem, "meaning": finding.meaning}))
        .collect();
    json!({
        "looked": {"values": values, "records": records, "blocks": blocks, "packages": packages},
        "damaged": damaged,
        "more": report.more,
        "packages_unknown": report.packages_unknown,
    })
}
