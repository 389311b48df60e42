//! The choices of an install where the package is at hand: for commands that run an app without a server.

use std::path::PathBuf;

use clap::Args;

use super::request::{self, Asked, File};
use super::{pair, setting_pair, slot};
use crate::api::facade::{PackageInfo, Patterns};
use crate::cli::failure::Failure;
use crate::feeds::{Header, Wanted};
use ironloom_apps::allowance::LimitKind;
use ironloom_apps::pattern::Pattern;
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

impl Choices {
    pub(in crate::cli) fn timezone(&self) -> Option<&str> {
        self.timezone.as_deref()
    }

    /// Returns true where a flag binds this.
    pub(in crate::cli) fn names(&self, name: &SlotName) -> bool {
        self.bind.iter().any(|(bound, _)| bound == name.as_str())
    }

    /// All choices for this app.
    pub(in crate::cli) fn wanted(&self, header: Header, package: &PackageInfo) -> Result<Wanted, Failure> {
        let mut wanted = Wanted::from(header);
        if let Some(path) = &self.with {
            let asked = match request::read(path)?.0 {
                File::One(asked) => *asked,
                File::Many(_) => {
                    let name = path.display();
                    return Err(Failure::File(format!("{name} has [[installations]]; one is run at a time")));
                }
            };
            let Asked { bindings, settings, limits, timezone, .. } = asked;
            wanted.bindings.extend(bindings);
            wanted.settings.extend(settings);
            for kind in LimitKind::ALL {
                if let Some(value) = limits.get(kind) {
                    wanted.limits.set(kind, value);
                }
            }
            wanted.timezone = timezone.or(wanted.timezone);
        }
        self.apply(&mut wanted, package)?;
        Ok(wanted)
    }

    fn apply(&self, wanted: &mut Wanted, package: &PackageInfo) -> Result<(), Failure> {
        let mut bound: std::collections::BTreeMap<SlotName, Vec<String>> = std::collections::BTreeMap::new();
        for (name, pattern) in &self.bind {
            Pattern::new(pattern).map_err(|error| Failure::Misuse(format!("--bind {name}: {error}")))?;
            bound.entry(slot("--bind", name)?).or_default().push(pattern.clone());
        }
        wanted.bindings.extend(bound.into_iter().map(|(name, all)| (name, Patterns::Many(all))));
        for (name, value) in &self.set {
            wanted.settings.insert(slot("--set", name)?, super::setting(package, name, value));
        }
        for (name, value) in &self.limit {
            let (kind, value) = super::limit(name, value)?;
            wanted.limits.set(kind, value);
        }
        if let Some(timezone) = &self.timezone {
            wanted.timezone = Some(timezone.clone());
        }
        Ok(())
    }
}
