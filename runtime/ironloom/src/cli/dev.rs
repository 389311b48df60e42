//! `ironloom dev`: an app that runs on a server of its own while it is written, and is replaced whenever a file changes.

mod feed;
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
use self::server::{Group, Server};
use self::shown::Shown;
use self::watched::Watched;
use super::client::Client;
use super::failure::{Failure, Outcome};
use super::install::Choices;
use super::output;
use super::packages::upload;
use super::push::stop::Stop;
use crate::api::JSON_TYPE;
use crate::api::facade::{InstallRequest, Installed, Patterns, SlotInfo, StartFrom};
use crate::feeds::{Wanted, bindings};
use ironloom_apps::grants::Grants;
use ironloom_apps::plan::is_of_no_point;
use ironloom_types::ids::{InstallationId, SlotName};

/// The installation's id.
const ID: &str = "dev";
/// The interval at which files, feed and server are looked at.
const TICK: Duration = Duration::from_millis(250);

/// Builds an app, runs it on a private server with a feed, and shows what it does; builds and replaces it when one of its
/// files changes. Its state is gone with each replacement, and the readings so far are given to it again. Ctrl-C ends all of
/// it.
#[derive(Args, Debug)]
pub(super) struct Dev {
    /// The app's folder
    #[arg(default_value = ".")]
    dir: PathBuf,
    /// The readings: a file of lines such as {"point":"hall/1/temperature","value":21.5}, or `generate`, which makes
    /// plausible ones for each input by its type and unit, once a second
    #[arg(long, value_name = "FILE|generate", default_value = "generate")]
    feed: String,
    #[command(flatten)]
    choices: Choices,
}

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
        let (client, mut shown) = (Client::new(server.url()), Shown::default());
        let mut ticks = interval(TICK);
        ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
        let mut is_wanted = true;
        loop {
            if std::mem::take(&mut is_wanted) {
                let replaced = tokio::select! {
                    () = stop.next() => break,
                    replaced = self.replace(server.url(), &feed) => replaced,
                };
                match replaced {
                    Ok(bindings) => {
                        feed.bind(bindings);
                        shown.begin_anew();
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

    /// Builds the app and installs it in the place of the one before; gives its inputs and what they are bound to.
    async fn replace(&self, url: &str, feed: &Feed) -> Result<Vec<(SlotInfo, Patterns)>, Failure> {
        output::note("building");
        let built = build(&self.dir).await?;
        let client = Client::new(url);
        let package = built.path.to_str().context("the package's path isn't UTF-8")?;
        // Compiling takes seconds, where a signal must still be heard.
        let info = tokio::task::spawn_blocking({
            let (url, package) = (url.to_owned(), package.to_owned());
            move || upload(&Client::new(&url), &package)
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
        let request = InstallRequest {
            id: InstallationId::new(ID).map_err(anyhow::Error::from)?,
            package: info.digest,
            bindings: wanted.bindings.clone(),
            grants: Grants::default(),
            settings: wanted.settings,
            limits: wanted.limits,
            timezone: wanted.timezone,
            keep_up: false,
            from: StartFrom::Beginning,
        };
        block_in_place(|| install(&client, &request))?;
        let bound = |(name, patterns): (SlotName, Patterns)| {
            Some((info.inputs.get(name.as_str())?.clone(), patterns))
        };
        Ok(wanted.bindings.into_iter().filter_map(bound).collect())
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

/// Removes the installation, if there is one, and installs the app.
fn install(client: &Client, request: &InstallRequest) -> Outcome {
    let path = format!("/v1/installations/{ID}");
    match client.delete(&path, &[("purge", Some("true".to_owned()))]) {
        Err(Failure::Refused(problem)) if problem.status == 404 => {}
        other => drop(other?),
    }
    let body = serde_json::to_string(request).context("the request can't be written")?;
    let answer = client.post("/v1/installations", &[], JSON_TYPE, body.as_bytes())?;
    let installed: Installed = answer.read()?;
    for warning in installed.warnings.iter().filter(|warning| !is_of_no_point(warning)) {
        output::note(&format!("warning: {warning}"));
    }
    output::note(&format!("runs {} {}", installed.installation.app, installed.installation.version));
    Ok(())
}
