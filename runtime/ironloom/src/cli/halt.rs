//! `ironloom halt` and `ironloom release`: the kill switch.

use std::path::PathBuf;

use clap::Args;

use super::client::Client;
use super::failure::{Failure, Outcome};
use super::install::misuse;
use super::{Global, output};
use crate::api::JSON_TYPE;
use crate::api::facade::HaltRequest;
use crate::outbox::HaltFiles;
use ironloom_types::ids::InstallationId;

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
        let id = self.id.as_deref().map(InstallationId::new).transpose();
        let installation = id.map_err(|error| misuse(error.to_string()))?;
        let whose = installation.as_ref().map_or("the site".to_owned(), |id| format!("installation {id}"));
        let state = if on { "on" } else { "off" };
        let done = format!("the kill switch is {state} for {whose}");
        if let Some(data) = self.data {
            if !data.is_dir() {
                return Err(Failure::Other(anyhow::anyhow!("{} is no folder", data.display())));
            }
            let files = HaltFiles::of(&data);
            let turned =
                if on { files.halt(installation.as_ref()) } else { files.release(installation.as_ref()) };
            turned.map_err(|error| anyhow::anyhow!("the switch's file in {}: {error}", data.display()))?;
            return output::done(global, &done);
        }
        let body = serde_json::to_vec(&HaltRequest { installation }).map_err(anyhow::Error::from)?;
        let path = if on { "/v1/halt" } else { "/v1/release" };
        let answer = Client::new(&global.url).post(path, &[], JSON_TYPE, &body)?;
        if global.json { output::json(&answer) } else { output::done(global, &done) }
    }
}
