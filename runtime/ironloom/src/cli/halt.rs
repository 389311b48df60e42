//! `ironloom halt` and `ironloom release`: the kill switch.

use std::path::{Path, PathBuf};
use std::time::Duration;

use clap::Args;

use super::failure::{Failure, Outcome};
use super::install::misuse;
use super::{Global, output};
use crate::api::JSON_TYPE;
use crate::api::facade::{Halt as Halted, HaltRequest};
use crate::outbox::HaltFiles;
use ironloom_types::ids::{InstallationId, TenantId};

/// The longest wait for the server's answer: it turns the switch at once, or doesn't answer at all.
const PATIENCE: Duration = Duration::from_secs(5);

/// Turns the kill switch on: no set-point is sent any more, also after a restart, and no safe value.
#[derive(Args, Debug)]
pub(super) struct Halt {
    #[command(flatten)]
    whose: Whose,
}

/// Turns the kill switch off: safe values that were held back are sent, and apps' next set-points.
#[derive(Args, Debug)]
pub(super) struct Release {
    #[command(flatten)]
    whose: Whose,
}

#[derive(Args, Debug)]
struct Whose {
    /// Only of this installation; without it, of the site
    id: Option<String>,
    /// Write the switch's file into this data folder, where the server can't be asked: it sees it within 20 ms
    #[arg(long, value_name = "DIR")]
    data: Option<PathBuf>,
}

impl Halt {
    pub(super) fn run(self, global: &Global) -> Outcome {
        self.whose.turn(global, true)
    }
}

impl Release {
    pub(super) fn run(self, global: &Global) -> Outcome {
        self.whose.turn(global, false)
    }
}

impl Whose {
    fn turn(self, global: &Global, on: bool) -> Outcome {
        let id = self.id.as_deref().map(|id| InstallationId::new(TenantId::MAIN, id)).transpose();
        let installation = id.map_err(|error| misuse(error.to_string()))?;
        if let Some(data) = &self.data {
            return by_file(global, data, installation.as_ref(), on);
        }
        let body = serde_json::to_vec(&HaltRequest { installation: installation.clone() });
        let body = body.map_err(anyhow::Error::from)?;
        let path = if on { "/v1/halt" } else { "/v1/release" };
        let answer = global.client()?.within(PATIENCE).post(path, &[], JSON_TYPE, &body);
        let answer = answer.inspect_err(|_| {
            let command = if on { "halt" } else { "release" };
            output::note(&format!(
                "where the server can't be asked, `ironloom {command} --data DIR` turns the switch in its data folder"
            ));
        })?;
        if global.json {
            return output::json(&answer);
        }
        let now: Halted = answer.read()?;
        output::done(global, &in_words(installation.as_ref(), on, &now))
    }
}

/// Turns the switch by its file.
fn by_file(global: &Global, data: &Path, installation: Option<&InstallationId>, on: bool) -> Outcome {
    // In any other folder the file would hold back nothing, and this would say that it does.
    if !data.join("log").is_dir() {
        let told = format!("{} is no data folder of a server: it has no `log` in it", data.display());
        return Err(Failure::Other(anyhow::anyhow!(told)));
    }
    let files = HaltFiles::of(data);
    let turned = if on { files.halt(installation) } else { files.release(installation) };
    turned.map_err(|error| anyhow::anyhow!("the switch's file in {}: {error}", data.display()))?;
    let halted = files.read();
    let now = Halted { site: halted.site, installations: halted.installations.into_iter().collect() };
    if global.json {
        let json = serde_json::to_string(&now).map_err(anyhow::Error::from)?;
        return output::json_text(&format!("{json}\n"));
    }
    output::done(global, &in_words(installation, on, &now))
}

/// The switch as it is after it was turned: it may still be on for others.
fn in_words(installation: Option<&InstallationId>, on: bool, now: &Halted) -> String {
    let whose = installation.map_or("the site".to_owned(), |id| format!("installation {id}"));
    let mut text = format!("the kill switch is {} for {whose}", if on { "on" } else { "off" });
    if !on && now.site {
        text.push_str("; it is still on for the site");
    } else if !on && !now.installations.is_empty() {
        let ids: Vec<&str> = now.installations.iter().map(InstallationId::as_str).collect();
        text.push_str(&format!("; it is still on for {}", ids.join(", ")));
    }
    text
}
