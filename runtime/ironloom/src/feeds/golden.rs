//! Golden feeds: what an app did with a feed, as lines to be compared with those that it did before.

use std::path::Path;

use bytes::Bytes;

use super::{Event, Feed, FeedError, LinesFeed, Seen, Trial, Wanted, bindings};
use crate::api::facade::Problem;
use crate::api::host::Start;
use ironloom_sandbox::Compiled;

/// Runs an app on a feed as the feed's header says. Returns a line for each thing that it did, then for each entry of
/// its state. Lines of its log are left out: how many are kept depends on how fast they come.
pub(crate) async fn golden(start: Start, package: Bytes, path: &Path) -> Result<Vec<String>, FeedError> {
    let header = LinesFeed::open(path)?.header().clone();
    let zone = header.timezone.clone().unwrap_or_else(|| "UTC".to_owned());
    let mut trial = Trial::begin(start, package, &zone, Compiled::Rewritten).await?;
    let lines = run(&mut trial, header.into(), path).await;
    let ended = trial.end().await;
    let lines = lines?;
    ended?;
    Ok(lines)
}

async fn run(trial: &mut Trial, wanted: Wanted, path: &Path) -> Result<Vec<String>, FeedError> {
    let open = || Ok::<_, FeedError>(Feed::Lines(Box::new(LinesFeed::open(path)?)));
    let seen = Seen::look(open()?).await?;
    let Some(first) = seen.first else {
        return Err(FeedError::File(format!("{}: it has no readings", path.display())));
    };
    let bound = bindings(trial.package(), wanted.bindings.clone(), &seen);
    let bindings = bound
        .map_err(|unbound| FeedError::Refused(Box::new(Problem::refused("install", unbound.for_header()))))?;
    trial.install(Wanted { bindings, ..wanted }, first).await?;
    let mut lines = Vec::new();
    let mut on = |event: Event| {
        if !matches!(event, Event::Log { .. }) {
            lines.push(event.json());
        }
    };
    let ended = trial.run(&mut open()?, None, &mut on).await;
    if let Some(stuck) = ended.stuck {
        return Err(stuck);
    }
    lines.extend(trial.state().await?.iter().map(Event::json));
    Ok(lines)
}
