//! Feeds: stretches of readings in files, and running an app on one without a server.
//!
//! A node of its own runs in this process, on a folder that goes with it, without a port. Its clock is the feed's. Each
//! time of the feed is one record, and the app is done with it before the next: so nothing depends on how fast the
//! machine is, and each timer runs at its own time.

mod bind;
mod csv;
mod events;
mod golden;
mod lines;
mod run;

use std::path::Path;

use ironloom_types::clock::Timestamp;

pub(crate) use self::bind::{Seen, bindings};
pub(crate) use self::csv::{CsvFeed, CsvOptions};
pub(crate) use self::events::{Event, Output, Summary};
pub(crate) use self::golden::golden;
pub(crate) use self::lines::{Header, LinesFeed};
pub(crate) use self::run::{Ended, Trial, Until, Wanted};

use crate::api::facade::Push;

/// Readings that become one record; without any, time passes.
#[derive(Debug, Default)]
pub(crate) struct Step {
    /// The time to which it brings the feed's clock.
    pub time: Timestamp,
    pub push: Push,
}

/// The most readings of one step.
const MAX_STEP: usize = 16_384;
/// The most bytes of texts and blobs in one.
const MAX_STEP_BYTES: usize = 4 << 20;

/// The reason why a feed can't be run to its end.
#[derive(Clone, Debug, PartialEq, thiserror::Error)]
pub(crate) enum FeedError {
    /// The file, with the place in it.
    #[error("{0}")]
    File(String),
    /// The app, or how it was asked for.
    #[error("{}", .0.detail)]
    Refused(Box<crate::api::facade::Problem>),
    /// It goes no further.
    #[error("{0}")]
    Stuck(String),
    /// The host's own fault.
    #[error("{0}")]
    Host(String),
}

/// Refuses what can't be read from its beginning more than once, as the points of a feed are looked at before it is run.
fn check_file(path: &Path) -> Result<(), FeedError> {
    let name = path.display();
    let is_file = match path.metadata() {
        Ok(of) => of.is_file(),
        // Whoever opens it says why it can't be read.
        Err(_) => path != Path::new("-"),
    };
    if is_file {
        return Ok(());
    }
    Err(FeedError::File(format!(
        "{name} is not a file; a feed is read more than once, so write what comes by a pipe into a file first"
    )))
}

/// A source of steps, in the order of time.
pub(crate) enum Feed {
    Lines(Box<LinesFeed>),
    Csv(CsvFeed),
}

impl Feed {
    /// The next step; `None` at the end.
    pub(crate) async fn next(&mut self) -> Result<Option<Step>, FeedError> {
        match self {
            Self::Lines(lines) => lines.next(),
            Self::Csv(csv) => csv.next().await,
        }
    }
}
