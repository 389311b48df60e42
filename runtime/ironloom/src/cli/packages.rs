//! `ironloom packages`.

use std::fmt::Write as _;

use clap::{Args, Subcommand};

use super::client::{Client, segment};
use super::failure::Outcome;
use super::{Global, PageArgs, output};
use crate::api::facade::{PackageInfo, SlotInfo};
use ironloom_types::text::clean;

/// Lists packages, shows what an app asks for, or deletes one.
#[derive(Args, Debug)]
#[command(args_conflicts_with_subcommands = true)]
pub(super) struct Packages {
    #[command(subcommand)]
    what: Option<What>,
    #[command(flatten)]
    page: PageArgs,
}

#[derive(Debug, Subcommand)]
enum What {
    /// Show what an app takes, gives and asks for
    Show {
        /// The package's digest
        digest: String,
    },
    /// Delete a package that no installation has
    Delete {
        /// Its digest
        digest: String,
    },
}

impl Packages {
    pub(super) fn run(self, global: &Global) -> Outcome {
        match self.what {
            Some(What::Show { digest }) => {
                let answer =
                    Client::new(&global.url).get(&format!("/v1/packages/{}", segment(&digest)), &[])?;
                return output::one(global, &answer, |package: PackageInfo| text(&package));
            }
            Some(What::Delete { digest }) => {
                Client::new(&global.url).delete(&format!("/v1/packages/{}", segment(&digest)), &[])?;
                return output::done(global, &format!("{digest} is deleted"));
            }
            None => {}
        }
        let query = [("after", self.page.after), ("limit", Some(self.page.limit.to_string()))];
        output::list(
            global,
            "/v1/packages",
            &query,
            &["app", "version", "name", "digest"],
            |item: PackageInfo| [item.id.to_string(), item.version, item.name, item.digest.to_string()],
        )
    }
}

/// A package, a fact on each line, and what is to be bound and set as tables.
fn text(package: &PackageInfo) -> String {
    let mut out = String::new();
    // The WASI interfaces that every app may import aren't requests.
    let (wasi, mut imports): (Vec<&str>, Vec<&str>) =
        package.imports.iter().map(String::as_str).partition(|import| import.starts_with("wasi:"));
    if !wasi.is_empty() {
        imports.push("WASI's baseline");
    }
    let asked = package.limits.iter().map(|(name, value)| format!("{name} {value}"));
    let asked: Vec<String> = asked.chain(package.schedule.then(|| "timers of its own".to_owned())).collect();
    for (name, value) in [
        ("app", format!("{} {}", package.id, package.version)),
        ("name", package.name.clone()),
        ("publisher", package.publisher.clone()),
        ("description", package.description.clone()),
        ("licence", package.license.clone()),
        ("package", package.digest.to_string()),
        ("SDK", package.sdk.clone().unwrap_or_default()),
        ("imports", imports.join(", ")),
        ("asks for", asked.join(", ")),
    ] {
        if !value.is_empty() {
            // Writing into a String doesn't fail.
            let _ = writeln!(out, "{name:<14}{}", clean(&value));
        }
    }
    let slot = |name: &String, slot: &SlotInfo| {
        let kind = match (&slot.kind, slot.optional) {
            (Some(kind), _) => kind.clone(),
            (None, Some(true)) => "optional".to_owned(),
            (None, _) => String::new(),
        };
        let text = |text: &Option<String>| text.clone().unwrap_or_default();
        [name.clone(), slot.r#type.clone(), text(&slot.unit), kind, text(&slot.description)]
    };
    for (what, slots) in [("input", &package.inputs), ("output", &package.outputs)] {
        if !slots.is_empty() {
            out.push('\n');
            let rows = slots.iter().map(|(name, one)| slot(name, one));
            out.push_str(&output::table(&[what, "type", "unit", "kind", "description"], rows));
        }
    }
    if !package.settings.is_empty() {
        let rows = package.settings.iter().map(|(name, setting)| {
            let default = setting.default.as_ref().map_or("required".to_owned(), ToString::to_string);
            let description = setting.description.clone().unwrap_or_default();
            [name.clone(), setting.r#type.clone(), output::shorten(&default), description]
        });
        out.push('\n');
        out.push_str(&output::table(&["setting", "type", "default", "description"], rows));
    }
    let about = |name: &String, fact: &String, description: &Option<String>| {
        [name.clone(), fact.clone(), description.clone().unwrap_or_default()]
    };
    if !package.alarms.is_empty() {
        let rows = package.alarms.iter().map(|(name, one)| about(name, &one.severity, &one.description));
        out.push('\n');
        out.push_str(&output::table(&["alarm", "severity", "description"], rows));
    }
    if !package.timers.is_empty() {
        let rows = package.timers.iter().map(|(name, one)| about(name, &one.cron, &one.description));
        out.push('\n');
        out.push_str(&output::table(&["timer", "cron", "description"], rows));
    }
    out
}
