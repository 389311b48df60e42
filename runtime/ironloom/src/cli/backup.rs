//! `ironloom backup`.

use std::fs::{self, File, OpenOptions};
use std::io::{self, Write};
use std::os::unix::fs::OpenOptionsExt as _;
use std::path::{Path, PathBuf};

use anyhow::anyhow;
use clap::Args;
use indicatif::ProgressBar;
use serde_json::json;

use super::failure::{Failure, Outcome};
use super::status::size;
use super::r#try::Interrupted;
use super::{Global, output, progress};
use crate::backup::{Check, Head, read};
use ironloom_apps::quantity::Bytes;
use ironloom_storage::folders;

/// Writes a backup of a running server into a file, and reads it back to see that it is whole.
#[derive(Args, Debug)]
pub(super) struct Backup {
    /// The file, which must not exist yet
    file: PathBuf,
    /// Bytes a second at most, such as '20 MiB'; default: 64 MiB
    #[arg(long, value_name = "SIZE")]
    pace: Option<Bytes>,
}

impl Backup {
    pub(super) fn run(self, global: &Global) -> Outcome {
        output::check_new(&self.file)?;
        let mut part = self.file.clone().into_os_string();
        part.push(".part");
        let part = PathBuf::from(part);
        remove_at_a_signal(part.clone())?;
        let written = self.write(global, &part).and_then(|bytes| {
            let check = verify(&part)?;
            fs::rename(&part, &self.file)?;
            folders::sync(folders::parent(&self.file))?;
            Ok((bytes, check))
        });
        match written {
            Ok((bytes, check)) => say(global, &self.file, bytes, &check),
            Err(failure) => {
                let _ = fs::remove_file(&part);
                Err(failure)
            }
        }
    }

    fn write(&self, global: &Global, part: &Path) -> Result<u64, Failure> {
        // Before the server is asked: a folder that isn't there is told at once.
        let mut options = OpenOptions::new();
        // It has all that apps and machines keep to themselves: for its owner alone, as the data folder is.
        options.write(true).create(true).truncate(true).mode(0o600);
        let mut file =
            options.open(part).map_err(|error| anyhow!("{} can't be written: {error}", part.display()))?;
        let query = [("pace", self.pace.map(|pace| pace.to_string()))];
        let bar = progress::unbounded("writing");
        let mut to = Counted { to: &mut file, bar: &bar, bytes: 0 };
        global.client()?.download("/v1/backup", &query, &mut to)?;
        let bytes = to.bytes;
        bar.finish_and_clear();
        file.sync_all()?;
        Ok(bytes)
    }
}

/// Has a signal end the process without leaving half a file. Whatever it waits for then: nothing else has to end well.
fn remove_at_a_signal(part: PathBuf) -> Outcome {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    let mut interrupted = {
        let _entered = runtime.enter();
        Interrupted::new()?
    };
    std::thread::Builder::new().name("signals".to_owned()).spawn(move || {
        runtime.block_on(interrupted.come());
        let _ = fs::remove_file(part);
        let failure = Failure::Interrupted("interrupted: no backup was written".to_owned());
        output::failed(&failure);
        std::process::exit(failure.status().into());
    })?;
    Ok(())
}

/// Reads a backup to its end, and fails unless it is whole.
pub(super) fn verify(file: &Path) -> Result<Check, Failure> {
    let open = File::open(file).map_err(|error| anyhow!("{} can't be read: {error}", file.display()))?;
    let bar = progress::bytes(open.metadata()?.len(), "checking");
    let mut check = Check::default();
    read(bar.wrap_read(open), &mut check).map_err(|error| anyhow!("{}: {error}", file.display()))?;
    bar.finish_and_clear();
    Ok(check)
}

/// Says what a backup holds.
pub(super) fn say(global: &Global, file: &Path, bytes: u64, check: &Check) -> Outcome {
    let Some(head) = &check.head else { return Ok(()) };
    if global.json {
        let told = json!({
            "file": file, "bytes": bytes, "made": head.made, "version": head.version, "through": head.through,
            "engine": head.engine, "keys": check.keys, "packages": check.packages,
        });
        return output::json_text(&format!("{told}\n"));
    }
    output::print(&text(head, check, file, bytes))
}

fn text(head: &Head, check: &Check, file: &Path, bytes: u64) -> String {
    let packages = output::counted(check.packages, "package");
    format!(
        "{}: {}, whole. All through record {} of the log, made {} by {}: {packages}, {} of the store, {} of journal\n",
        ironloom_types::text::clean(&file.display().to_string()),
        size(bytes),
        head.through,
        head.made,
        head.version,
        output::counted(check.keys, "key"),
        size(head.bytes.journal),
    )
}

/// Shows how much was written.
struct Counted<'a> {
    to: &'a mut File,
    bar: &'a ProgressBar,
    bytes: u64,
}

impl Write for Counted<'_> {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        let written = self.to.write(bytes)?;
        self.bytes += written as u64;
        self.bar.set_position(self.bytes);
        Ok(written)
    }

    fn flush(&mut self) -> io::Result<()> {
        self.to.flush()
    }
}
