//! `ironloom dev`: an app that runs on a server of its own while it is written, and is replaced whenever a file changes.

mod feed;
mod replaced;
mod server;
mod shown;
#[cfg(test)]
mod tests;
mod watched;

use std::path::{Path, PathBuf};
use std::time::Duration;

use anyhow::Context as _;
use clap::Args;
use serde::Deserialize;
use tokio::task::block_in_place;
use tokio::time::{MissedTickBehavior, interval};

use self::feed::Feed;
use self::replaced::{Replaced, replace};
use self::server::{Group, Server};
use self::shown::Shown;
use self::watched::Watched;
use super::client::Client;
use super::failure::{Failure, Outcome};
use super::install::Choices;
use super::output;
use super::packages::upload;
use super::push::stop::Stop;
use crate::api::facade::{Patterns, SlotInfo};
use crate::feeds::{Wanted, bindings};
use ironloom_types::ids::SlotName;

/// The installation's id.
const ID: &str = "dev";
/// The interval at which files, feed and server are looked at.
const TICK: Duration = Duration::from_millis(250);

/// Builds an app, runs it on a private server with a feed, and shows what it does; builds and replaces it when one of its
/// files changes. Its state goes on, as with an upgrade, unless --fresh is given. Ctrl-C ends all of it.
#[derive(Args, Debug)]
pub(super) struct Dev {
    /// The app's folder
    #[arg(default_value = ".")]
    dir: PathBuf,
    /// The readings: a file of lines such as {"point":"hall/1/temperature","value":21.5}, or `generate`, which makes
    /// plausible ones for each input by its type and unit, once a second
    #[arg(long, value_name = "FILE|generate", default_value = "generate")]
    feed: String,
    /// Begin anew with each replacement: without state, and with all readings so far
    #[arg(long)]
    fresh: bool,
    #[command(flatten)]
    choices: Choices,
}

/// The inputs of an app, and what they are bound to.
type Bound = Vec<(SlotInfo, Patterns)>;

/// The parts of `ironloom build --json` that are used.
#[derive(Deserialize)]
struct Built {
    path: PathBuf,
}

impl Dev {
    pub(super) fn run(self) -> Outcome {
        let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build()?;
        let outcome = runtime.block_on(self.session());
        // An install that still waits for a server that has gone isn't waited for.
        runtime.shutdown_background();
        outcome
    }

    async fn session(&self) -> Outcome {
        let mut stop = Stop::new()?;
        let mut watched = Watched::of(&self.dir)?;
        let mut feed = Feed::open(&self.feed)?;
        let mut server = Server::start().await?;
        output::note(&format!("a server runs at {}, and goes with all of its data at the end", server.url()));
        let (client, mut shown) = (Client::of_own_server(server.url()), Shown::default());
        let mut ticks = interval(TICK);
        ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
        let mut is_wanted = true;
        loop {
            if std::mem::take(&mut is_wanted) {
                let replaced = tokio::select! {
                    () = stop.next() => break,
                    replaced = self.build_and_replace(server.url(), &feed) => replaced,
                };
                match replaced {
                    Ok((replaced, bindings)) => {
                        feed.bind(bindings);
                        match replaced {
                            Replaced::Anew => shown.begin_anew(),
                            Replaced::Upgraded if feed.is_over() => output::note(
                                "the feed is at its end; with --fresh, each version gets its readings from the beginning",
                            ),
                            Replaced::Upgraded => {}
                        }
                    }
                    // The one before goes on until the mistake is mended.
                    Err(failure) => output::failed(&failure),
                }
            }
            tokio::select! {
                () = stop.next() => break,
                _ = ticks.tick() => {}
            }
            server.check()?;
            is_wanted = block_in_place(|| watched.has_changed())?;
            block_in_place(|| feed.step(&client).and_then(|()| shown.step(&client)))?;
        }
        output::note("ending");
        server.end().await;
        Ok(())
    }

    /// Builds the app and puts it in the place of the one before.
    async fn build_and_replace(&self, url: &str, feed: &Feed) -> Result<(Replaced, Bound), Failure> {
        output::note("building");
        let built = build(&self.dir).await?;
        let package = built.path.to_str().context("the package's path isn't UTF-8")?;
        // Compiling takes seconds, where a signal must still be heard.
        let info = tokio::task::spawn_blocking({
            let (url, package) = (url.to_owned(), package.to_owned());
            move || upload(&Client::of_own_server(&url), &package)
        });
        let info = info.await.context("the package can't be sent")??.info;
        let mut wanted: Wanted = self.choices.read()?.wanted(feed.header(), &info)?;
        match feed.seen()? {
            Some(seen) => {
                let bound = bindings(&info, wanted.bindings, &seen);
                wanted.bindings = bound.map_err(|unbound| Failure::Misuse(unbound.for_flags()))?;
                for (name, patterns) in seen.without_points(&wanted.bindings) {
                    if info.inputs.contains_key(name.as_str()) {
                        output::note(&format!(
                            "warning: no point of the feed matches {name}, which is {patterns}"
                        ));
                    }
                }
            }
            None => {
                for name in info.inputs.keys() {
                    let name = SlotName::new(name).map_err(anyhow::Error::from)?;
                    let usual = || Patterns::Many(vec![format!("dev/{{entity}}/{name}")]);
                    wanted.bindings.entry(name.clone()).or_insert_with(usual);
                }
            }
        }
        let bound = |(name, patterns): (&SlotName, &Patterns)| {
            Some((info.inputs.get(name.as_str())?.clone(), patterns.clone()))
        };
        let bound = wanted.bindings.iter().filter_map(bound).collect();
        // As above: it may have to bring much state into its form.
        let (url, fresh) = (url.to_owned(), self.fresh);
        let replaced =
            tokio::task::spawn_blocking(move || replace(&Client::of_own_server(&url), &info, wanted, fresh));
        Ok((replaced.await.context("the app can't be replaced")??, bound))
    }
}

/// Runs the build as a process of its own, which ends with all that it started if this is dropped.
async fn build(dir: &Path) -> anyhow::Result<Built> {
    let mut command = tokio::process::Command::new(std::env::current_exe()?);
    command.arg("build").arg(dir).arg("--json");
    command.stdin(std::process::Stdio::null()).stdout(std::process::Stdio::piped());
    let child = command.process_group(0).kill_on_drop(true).spawn().context("can't start the build")?;
    let mut group = Group::of(&child);
    let output = child.wait_with_output().await?;
    group.has_ended();
    if !output.status.success() {
        anyhow::bail!("the app isn't replaced; it is built again when a file changes");
    }
    serde_json::from_slice(&output.stdout).context("the build's answer can't be read")
}
