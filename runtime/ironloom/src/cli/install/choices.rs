//! The choices of an install where the package is at hand: for commands that run an app without a server.

use std::path::PathBuf;

use clap::Args;

use super::request::{self, Asked, File};
use super::{bound, pair, set_limits, setting_pair, slot};
use crate::api::facade::PackageInfo;
use crate::cli::failure::Failure;
use crate::feeds::{Header, Wanted};
use ironloom_apps::allowance::LimitKind;
use ironloom_types::ids::SlotName;

/// Choices of an install. Flags go before the file, the file before what a feed says.
#[derive(Args, Debug)]
pub(in crate::cli) struct Choices {
    /// Bind an input or output to points: weight='farm/{barn}/pig/{tag}/weight'. An input that nothing binds takes the
    /// feed's points that end in its name
    #[arg(long = "bind", value_name = "NAME=PATTERN", value_parser = pair)]
    bind: Vec<(String, String)>,
    /// Set a setting: breed=duroc
    #[arg(long = "set", value_name = "NAME=VALUE", value_parser = setting_pair)]
    set: Vec<(String, String)>,
    /// Change a limit: memory='64 MiB', cpu='500 ms'
    #[arg(long = "limit", value_name = "NAME=VALUE", value_parser = pair)]
    limit: Vec<(String, String)>,
    /// Time zone of the app's timers, and of times that name none, such as Europe/Berlin
    #[arg(long, value_name = "ZONE")]
    timezone: Option<String>,
    /// Read all of this from the file of an install, with [bindings], [settings], [limits]
    #[arg(long, value_name = "FILE")]
    with: Option<PathBuf>,
}

/// Choices with the file that some of them stand in.
#[derive(Debug)]
pub(in crate::cli) struct Chosen<'a> {
    choices: &'a Choices,
    file: Asked,
}

impl Choices {
    /// Reads the file of `--with`, if there is one.
    pub(in crate::cli) fn read(&self) -> Result<Chosen<'_>, Failure> {
        let file = match &self.with {
            None => Asked::default(),
            Some(path) => match request::read(path)?.0 {
                File::One(asked) => *asked,
                File::Many(_) => {
                    let name = path.display();
                    return Err(Failure::File(format!("{name} has [[installations]]; one is run at a time")));
                }
            },
        };
        Ok(Chosen { choices: self, file })
    }

    /// Returns true where a flag binds this.
    pub(in crate::cli) fn names(&self, name: &SlotName) -> bool {
        self.bind.iter().any(|(bound, _)| bound == name.as_str())
    }

    fn apply(&self, wanted: &mut Wanted, package: &PackageInfo) -> Result<(), Failure> {
        wanted.bindings.extend(bound(&self.bind)?);
        for (name, value) in &self.set {
            wanted.settings.insert(slot("--set", name)?, super::setting(package, name, value));
        }
        set_limits(&self.limit, &mut wanted.limits)
    }
}

impl Chosen<'_> {
    /// The time zone that is chosen for a feed with this header.
    pub(in crate::cli) fn timezone<'a>(&'a self, header: &'a Header) -> Option<&'a str> {
        let Self { choices, file } = self;
        [&choices.timezone, &file.timezone, &header.timezone].into_iter().find_map(|zone| zone.as_deref())
    }

    /// All choices for this app.
    pub(in crate::cli) fn wanted(self, header: Header, package: &PackageInfo) -> Result<Wanted, Failure> {
        let timezone = self.timezone(&header).map(str::to_owned);
        let Self { choices, file: Asked { bindings, settings, limits, grants, mode, .. } } = self;
        let mut wanted = Wanted { timezone, ..Wanted::from(header) };
        wanted.bindings.extend(bindings);
        wanted.settings.extend(settings);
        wanted.grants.outputs.extend(grants.outputs);
        wanted.grants.mode = mode.unwrap_or(wanted.grants.mode);
        for kind in LimitKind::ALL {
            if let Some(value) = limits.get(kind) {
                wanted.limits.set(kind, value);
            }
        }
        choices.apply(&mut wanted, package)?;
        Ok(wanted)
    }
}

#[cfg(test)]
mod tests {
    use std::io::Write as _;

    use super::*;

    #[derive(clap::Parser)]
    struct Alone {
        #[command(flatten)]
        choices: Choices,
    }

    #[test]
    fn the_time_zone_is_that_of_the_flag_the_file_or_the_feed_in_this_order() {
        let mut file = tempfile::NamedTempFile::new().unwrap();
        file.write_all(b"timezone = \"Europe/Berlin\"\n").unwrap();
        let with = file.path().to_str().unwrap();
        let header = Header { timezone: Some("Asia/Tokyo".to_owned()), ..Header::new() };
        let zone = |arguments: &[&str]| {
            let arguments = [&["try"], arguments].concat();
            let choices = <Alone as clap::Parser>::try_parse_from(arguments).unwrap().choices;
            choices.read().unwrap().timezone(&header).map(str::to_owned)
        };
        assert_eq!(zone(&["--with", with, "--timezone", "Africa/Lagos"]).as_deref(), Some("Africa/Lagos"));
        assert_eq!(zone(&["--with", with]).as_deref(), Some("Europe/Berlin"));
        assert_eq!(zone(&[]).as_deref(), Some("Asia/Tokyo"));
    }
}
