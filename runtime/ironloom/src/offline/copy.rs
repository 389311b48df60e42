//! Copies a data folder with another engine of its store: written as a backup is, and restored from it at once.

use std::io;
use std::path::Path;

use super::{Offline, OfflineError};
use crate::backup::{BackupError, Restored, Writer, restore};
use crate::fold::moment::{Moment, MomentError, Sources, Wanted};
use ironloom_storage::journal::BlockFiles;
use ironloom_storage::store::{EngineKind, Files};
use ironloom_storage::{folders, log};

/// Copies a folder into one without data. The copy is the same history in another log, as a restored backup is.
pub(crate) fn copy(data: &Path, engine: EngineKind, to: &Path) -> Result<Restored, OfflineError> {
    let offline = Offline::open(data)?;
    let log = log::recover(offline.disk("log")?, log::Config::default(), offline.known())?.reader();
    let files = BlockFiles::for_reading(offline.disk("journal")?);
    let packages = Files::open(&data.join("packages"))?;
    let sources = Sources {
        storage: &*offline.store,
        log: &log,
        files: &files,
        packages: &packages,
        engine: offline.engine,
        store_bytes: folders::bytes_below(&data.join("store")),
    };
    let moment = Moment::take(&sources)?;
    let no_pipe = |source| OfflineError::Io { what: "making a pipe for", path: to.to_owned(), source };
    let (from, pipe) = io::pipe().map_err(no_pipe)?;
    let ended = std::thread::scope(|scope| {
        let restoring = scope.spawn(move || restore(from, to, Some(engine)));
        let written = write(moment, pipe);
        (written, restoring.join())
    });
    match ended {
        // The restore only saw that the pipe ended.
        (Err(error), Ok(Err(BackupError::Damaged(_)))) => Err(error.into()),
        (_, Ok(restored)) => Ok(restored?),
        (_, Err(_)) => Err(BackupError::Failed("the thread that restores panicked".to_owned()).into()),
    }
}

/// A copy that nobody breaks off.
struct ToTheEnd;

impl Wanted for ToTheEnd {
    fn is_wanted(&self) -> Result<(), MomentError> {
        Ok(())
    }

    fn have_let_go(&self) {}
}

fn write(moment: Moment<'_>, pipe: io::PipeWriter) -> Result<(), MomentError> {
    let mut writer = Writer::begin(pipe, &moment.head)?;
    moment.write(&mut writer, &ToTheEnd)?;
    writer.finish()?;
    Ok(())
}
