//! `ironloom restore`.

use std::fs::File;
use std::path::PathBuf;

use anyhow::anyhow;
use clap::Args;
use serde_json::json;

use super::failure::{Failure, Outcome};
use super::{Global, backup, output, progress};
use crate::backup::{Restored, restore};
use ironloom_storage::store::EngineKind;
use ironloom_types::text::clean;

/// Restores a backup into a folder without data, all of it or nothing.
#[derive(Args, Debug)]
pub(super) struct Restore {
    /// The file that `ironloom backup` wrote
    file: PathBuf,
    /// The data folder, which must be empty or not exist
    #[arg(long, value_name = "DIR", required_unless_present = "check")]
    data: Option<PathBuf>,
    /// Keep the store with this engine: redb or sled; default: the one that it had
    #[arg(long, value_name = "ENGINE")]
    engine: Option<EngineKind>,
    /// Only read the file and say if it is whole
    #[arg(long, conflicts_with_all = ["data", "engine"])]
    check: bool,
}

impl Restore {
    pub(super) fn run(self, global: &Global) -> Outcome {
        let Some(data) = self.data.filter(|_| !self.check) else {
            let check = backup::verify(&self.file)?;
            return backup::say(global, &self.file, std::fs::metadata(&self.file)?.len(), &check);
        };
        let open = File::open(&self.file);
        let open = open.map_err(|error| anyhow!("{} can't be read: {error}", self.file.display()))?;
        let bar = progress::bytes(open.metadata()?.len(), "restoring");
        let restored = restore(bar.wrap_read(open), &data, self.engine);
        bar.finish_and_clear();
        let Restored { head, engine, keys } =
            restored.map_err(|error| Failure::Other(anyhow!("{}: {error}", self.file.display())))?;
        if global.json {
            let told = json!({
                "data": data, "engine": engine.name(), "keys": keys, "through": head.through, "made": head.made,
            });
            return output::json_text(&format!("{told}\n"));
        }
        output::print(&format!(
            "{} has all through record {} of the log, made {}; its store is of the engine {}\n",
            clean(&data.display().to_string()),
            head.through,
            head.made,
            engine.name()
        ))
    }
}
