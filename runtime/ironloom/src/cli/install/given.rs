//! The flags that `install`, `set` and `upgrade` have in common.

use std::collections::BTreeMap;
use std::collections::btree_map::Entry;

use clap::Args;
use serde_json::{Value as Json, json};

use super::misuse;
use super::request::Asked;
use crate::api::facade::{PackageInfo, Patterns};
use crate::cli::failure::Failure;
use ironloom_apps::allowance::{LimitKind, PartialLimits};
use ironloom_apps::grants::{Mode, OutputGrant};
use ironloom_apps::pattern::Pattern;
use ironloom_apps::toml_section::Places;
use ironloom_types::ids::{SlotName, TenantId};

/// What an installation is given.
#[derive(Args, Debug)]
pub(in crate::cli) struct Given {
    /// Bind an input or output to points: weight='farm/{barn}/pig/{tag}/weight'; repeat it for
    /// several patterns
    #[arg(long = "bind", value_name = "NAME=PATTERN", value_parser = pair)]
    pub(super) bind: Vec<(String, String)>,
    /// Set a setting: breed=duroc
    #[arg(long = "set", value_name = "NAME=VALUE", value_parser = setting_pair)]
    pub(super) set: Vec<(String, String)>,
    /// Let a set-point output request these values: limit='0, 6..32'
    #[arg(long = "grant", value_name = "NAME=VALUES", value_parser = pair)]
    pub(super) grant: Vec<(String, String)>,
    /// Change a limit: memory='64 MiB', cpu='500 ms', state='1 GiB', share='800 ms' (CPU time per second),
    /// points=20000
    #[arg(long = "limit", value_name = "NAME=VALUE", value_parser = pair)]
    pub(super) limit: Vec<(String, String)>,
    /// Do this with its set-points: shadow (recorded only), advise (a person confirms each) or act
    #[arg(long, value_name = "MODE")]
    pub(super) mode: Option<Mode>,
    /// Time zone of the app's timers, such as Europe/Berlin
    #[arg(long, value_name = "ZONE")]
    pub(super) timezone: Option<String>,
}

pub(in crate::cli) fn pair(text: &str) -> Result<(String, String), String> {
    let (name, value) = setting_pair(text)?;
    Ok((name, value.trim().to_owned()))
}

/// The blanks of a setting's value are its own.
pub(super) fn setting_pair(text: &str) -> Result<(String, String), String> {
    let (name, value) = text.split_once('=').ok_or("must be NAME=VALUE")?;
    if name.trim().is_empty() {
        return Err("needs a name before the `=`".to_owned());
    }
    Ok((name.trim().to_owned(), value.to_owned()))
}

impl Given {
    /// Puts the flags on top of what a file says, but for the settings: their types stand in the package.
    pub(in crate::cli) fn apply(&self, asked: &mut Asked) -> Result<(), Failure> {
        if let Some(timezone) = &self.timezone {
            asked.timezone = Some(timezone.clone());
        }
        asked.mode = self.mode.or(asked.mode);
        asked.bindings.extend(bound(&self.bind)?);
        set_limits(&self.limit, &mut asked.limits)?;
        for (name, allow) in &self.grant {
            let allow = allow.parse().map_err(|error| misuse(format!("--grant {name}: {error}")))?;
            match asked.grants.outputs.entry(slot("--grant", name)?) {
                // What the file says of how and for how long stays.
                Entry::Occupied(mut grant) => grant.get_mut().allow = allow,
                Entry::Vacant(place) => {
                    place.insert(OutputGrant::of(allow));
                }
            }
        }
        for (name, _) in &self.set {
            slot("--set", name)?;
        }
        Ok(())
    }

    /// Adds the settings, in the types that the package has for them.
    pub(in crate::cli) fn add_settings(
        &self,
        asked: &mut Asked,
        package: &PackageInfo,
    ) -> Result<(), Failure> {
        for (name, value) in &self.set {
            asked.settings.insert(slot("--set", name)?, setting(package, name, value));
        }
        Ok(())
    }

    /// Forgets the places of fields that flags give: what they say stands nowhere in the file.
    pub(in crate::cli) fn leave_to_flags(&self, places: &mut Places) {
        if self.timezone.is_some() {
            places.set_elsewhere("timezone");
        }
        if self.mode.is_some() {
            places.set_elsewhere("grants.mode");
        }
        let named = [
            ("bindings", &self.bind),
            ("settings", &self.set),
            ("limits", &self.limit),
            ("grants.outputs", &self.grant),
        ];
        for (section, pairs) in named {
            pairs.iter().for_each(|(name, _)| places.set_elsewhere(&format!("{section}.{name}")));
        }
    }
}

/// A name of the manifest.
pub(in crate::cli) fn slot(flag: &str, name: &str) -> Result<SlotName, Failure> {
    SlotName::new(name).map_err(|error| misuse(format!("{flag}: {error}")))
}

/// All patterns of each name that `--bind` gives.
pub(super) fn bound(
    pairs: &[(String, String)],
) -> Result<impl Iterator<Item = (SlotName, Patterns)>, Failure> {
    let mut bound: BTreeMap<SlotName, Vec<String>> = BTreeMap::new();
    for (name, pattern) in pairs {
        Pattern::new(TenantId::NOBODY, pattern).map_err(|error| misuse(format!("--bind {name}: {error}")))?;
        bound.entry(slot("--bind", name)?).or_default().push(pattern.clone());
    }
    Ok(bound.into_iter().map(|(name, all)| (name, Patterns::Many(all))))
}

/// Puts what `--limit` says on top.
pub(super) fn set_limits(pairs: &[(String, String)], limits: &mut PartialLimits) -> Result<(), Failure> {
    for (name, value) in pairs {
        let (kind, value) = limit(name, value)?;
        limits.set(kind, value);
    }
    Ok(())
}

/// A limit by its name, with its value.
pub(super) fn limit(name: &str, value: &str) -> Result<(LimitKind, u64), Failure> {
    let kind = limit_kind("--limit", name)?;
    let value = kind.parse(value).map_err(|error| misuse(format!("--limit {name}: {error}")))?;
    Ok((kind, value))
}

/// A limit by its name.
pub(in crate::cli) fn limit_kind(flag: &str, name: &str) -> Result<LimitKind, Failure> {
    LimitKind::ALL.into_iter().find(|kind| kind.name() == name).ok_or_else(|| {
        let names = LimitKind::ALL.map(LimitKind::name).join(", ");
        misuse(format!("{flag} {name}: is not a limit; the limits are {names}"))
    })
}

/// A value in the type that the manifest names; what doesn't fit goes as text, and the server says
/// what is wrong with it.
pub(super) fn setting(package: &PackageInfo, name: &str, text: &str) -> Json {
    let kind = package.settings.get(name).map_or("text", |setting| setting.r#type.as_str());
    let value = match kind {
        "integer" => text.parse::<i64>().ok().map(Json::from),
        // JSON has no number for what isn't finite; the server says so of the text.
        "real" => text.parse::<f64>().ok().filter(|real| real.is_finite()).map(Json::from),
        "boolean" => text.parse::<bool>().ok().map(Json::from),
        _ => None,
    };
    value.unwrap_or_else(|| json!(text))
}
