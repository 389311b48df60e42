//! A last line without a line feed: it may be half written, and half a number is a number as well.

use std::io;
use std::os::unix::fs::MetadataExt as _;
use std::sync::Arc;
use std::time::Duration;

use tokio::time::Instant;

use super::config::CsvConfig;
use super::error::FileError;
use super::read_aside;
use crate::connectors::{RETRY, Run};

/// How long a file must not have changed before its last line counts as whole.
const SETTLED: Duration = Duration::from_secs(10);

/// A file as it was seen.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Seen {
    /// Device and inode: another file under the same name has others.
    pub identity: (u64, u64),
    pub length: u64,
}

impl Seen {
    pub(super) fn of(metadata: &std::fs::Metadata) -> Self {
        Self { identity: (metadata.dev(), metadata.ino()), length: metadata.len() }
    }
}

/// What became of a file whose last line has no line feed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Tail {
    /// It hasn't changed for a while: the line is whole.
    Settled,
    /// There is more to read.
    Grew,
    /// The connector shall stop.
    Stopping,
}

/// Waits until a file that was read as far as `read` has grown or is settled.
pub(super) async fn wait(config: &Arc<CsvConfig>, read: Seen, run: &mut Run) -> Result<Tail, FileError> {
    let begun = Instant::now();
    loop {
        let looked = Arc::clone(config);
        let (seen, age) = read_aside(move || {
            let metadata = std::fs::metadata(&looked.path);
            metadata
                .and_then(|metadata| Ok((Seen::of(&metadata), age(&metadata)?)))
                .map_err(|error| FileError::Io(format!("{}: {error}", looked.path.display())))
        })
        .await?;
        if seen.identity != read.identity || seen.length < read.length {
            return Err(FileError::replaced(&config.path));
        }
        if seen.length > read.length {
            return Ok(Tail::Grew);
        }
        if age >= SETTLED || begun.elapsed() >= SETTLED {
            return Ok(Tail::Settled);
        }
        if !run.sleep(RETRY).await {
            return Ok(Tail::Stopping);
        }
    }
}

/// How long ago it was written last; nothing where the clock says that it will be.
fn age(metadata: &std::fs::Metadata) -> io::Result<Duration> {
    Ok(metadata.modified()?.elapsed().unwrap_or_default())
}
