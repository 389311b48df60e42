//! The index of a catalog: its apps with their versions, who may sign them, and what must not run any more.

use std::collections::{BTreeMap, BTreeSet};

use serde::{Deserialize, Serialize};

use super::{CatalogError, CatalogName, form};
use crate::envelope::{Envelope, Kind};
use crate::key::PublicKey;
use crate::rotation::{covers, is_prefix};
use crate::strict::{self, Integer, Unique};
use ironloom_types::clock::Timestamp;
use ironloom_types::ids::{AppId, Digest};
use ironloom_types::limits::MAX_PACKAGE;
use ironloom_types::text::misleads;

const PART: &str = "index";
/// The most apps of a catalog.
pub const MAX_APPS: usize = 50_000;
/// The most versions of an app that a catalog offers.
pub const MAX_VERSIONS: usize = 64;
/// The most publishers, revoked keys and blocked versions, of each.
pub const MAX_LISTED: usize = 10_000;
/// The most prefixes of all publishers together.
pub const MAX_PREFIXES: usize = 20_000;
/// The most statements of keys: each is checked once, and followed by others.
pub const MAX_ROTATIONS: usize = 256;
/// The longest name, category or unit in an index, in bytes.
const MAX_NAME: usize = 200;
/// The longest description or reason in an index, in bytes.
pub const MAX_TEXT: usize = 1_000;
/// The most categories of an app.
pub const MAX_CATEGORIES: usize = 8;
/// The largest icon, in bytes.
pub const MAX_ICON: u64 = 64 << 10;

/// The contents of an index.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Index {
    pub catalog: CatalogName,
    pub version: Integer,
    pub issued: Timestamp,
    /// The time from which on nothing is installed by it any more.
    pub expires: Timestamp,
    #[serde(deserialize_with = "strict::objects")]
    pub publishers: Vec<Publisher>,
    /// In the order of their ids.
    #[serde(deserialize_with = "strict::objects")]
    pub apps: Vec<App>,
    #[serde(default, skip_serializing_if = "Vec::is_empty", deserialize_with = "strict::objects")]
    pub revoked: Vec<Revoked>,
    #[serde(default, skip_serializing_if = "Vec::is_empty", deserialize_with = "strict::objects")]
    pub blocked: Vec<Blocked>,
    /// Statements of keys that others take their place, each an envelope.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub rotations: Vec<String>,
}

/// Somebody who signs apps.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Publisher {
    pub name: String,
    pub keys: BTreeSet<PublicKey>,
    /// The ids that these keys may sign: each of these, and what lies below it.
    pub prefixes: BTreeSet<String>,
}

/// An app on offer.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct App {
    pub id: AppId,
    pub name: String,
    /// The key that signs its packages.
    pub key: PublicKey,
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub description: String,
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub license: String,
    #[serde(default, skip_serializing_if = "BTreeSet::is_empty")]
    pub categories: BTreeSet<String>,
    #[serde(default, skip_serializing_if = "Option::is_none", deserialize_with = "strict::optional")]
    pub icon: Option<Icon>,
    /// From the oldest to the newest, by the order of SemVer.
    #[serde(deserialize_with = "strict::objects")]
    pub versions: Vec<Version>,
}

/// A picture for an app, as a file of the catalog.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Icon {
    pub digest: Digest,
    pub size: Integer,
}

/// A version of an app.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Version {
    pub version: semver::Version,
    /// The package's identity: the digest of its image manifest.
    pub digest: Digest,
    /// The digest of the package's file.
    pub file: Digest,
    /// The size of that file in bytes.
    pub size: Integer,
    /// The data that it asks for. The package says it with authority; this is for whoever looks around.
    #[serde(deserialize_with = "strict::object")]
    pub asks: Asks,
}

/// The data that a version of an app asks for, in short.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Asks {
    /// Its inputs with their units; `""` where there is none.
    #[serde(default, skip_serializing_if = "Unique::is_empty")]
    pub inputs: Unique<String>,
    /// Its derived readings, with units.
    #[serde(default, skip_serializing_if = "Unique::is_empty")]
    pub outputs: Unique<String>,
    /// The set-points that it asks for, with units.
    #[serde(default, skip_serializing_if = "Unique::is_empty")]
    pub set_points: Unique<String>,
}

/// A key that isn't believed any more.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Revoked {
    pub key: PublicKey,
    pub reason: String,
}

/// A version of an app that must not be installed.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Blocked {
    pub id: AppId,
    /// All of its versions where there is none.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub version: Option<semver::Version>,
    pub reason: String,
}

impl Index {
    /// The index, signed by nobody yet.
    ///
    /// # Errors
    /// An index that nobody would take.
    pub fn to_envelope(&self) -> Result<Envelope, CatalogError> {
        self.check()?;
        let bytes = serde_json::to_vec(self).map_err(|error| form(PART, error.to_string()))?;
        Ok(Envelope::new(Kind::Index, bytes))
    }

    /// Reads what was signed.
    pub(crate) fn parse(bytes: &[u8]) -> Result<Self, CatalogError> {
        let index: Self = strict::from_slice(bytes).map_err(|error| form(PART, error.to_string()))?;
        index.check()?;
        Ok(index)
    }

    /// Reads an index that whoever makes a catalog has, signed or not yet.
    ///
    /// # Errors
    /// Bytes that are no index.
    pub fn own(envelope: &Envelope) -> Result<Self, CatalogError> {
        Self::parse(envelope.to_be_signed())
    }

    /// The publisher that may sign an app: the one with the longest prefix that covers its id.
    pub fn publisher_of(&self, id: &AppId) -> Option<&Publisher> {
        publisher_of(&self.publishers, id)
    }

    /// An app by its id.
    pub fn app(&self, id: &AppId) -> Option<&App> {
        let at = self.apps.binary_search_by(|app| app.id.cmp(id)).ok()?;
        self.apps.get(at)
    }

    /// Why a key isn't believed any more, where that is so.
    pub fn revoked(&self, key: PublicKey) -> Option<&Revoked> {
        self.revoked.iter().find(|revoked| revoked.key == key)
    }

    /// Why a version of an app must not be installed, where that is so.
    pub fn blocked(&self, id: &AppId, version: &semver::Version) -> Option<&Blocked> {
        let of = self.blocked.iter().filter(|blocked| blocked.id == *id);
        of.into_iter().find(|blocked| blocked.version.as_ref().is_none_or(|of| of == version))
    }

    /// The publishers by their prefixes, for whoever looks at all apps.
    pub fn by_prefix(&self) -> ByPrefix<'_> {
        let prefixes = self
            .publishers
            .iter()
            .flat_map(|publisher| publisher.prefixes.iter().map(move |prefix| (prefix.as_str(), publisher)));
        ByPrefix(prefixes.collect())
    }

    fn check(&self) -> Result<(), CatalogError> {
        if self.version.get() == 0 {
            return Err(form(PART, "its version is 0; the first one is 1"));
        }
        if self.expires <= self.issued {
            return Err(form(PART, "it expires before it was issued"));
        }
        at_most("publishers", self.publishers.len(), MAX_LISTED)?;
        at_most("apps", self.apps.len(), MAX_APPS)?;
        at_most("revoked keys", self.revoked.len(), MAX_LISTED)?;
        at_most("blocked versions", self.blocked.len(), MAX_LISTED)?;
        at_most("rotations", self.rotations.len(), MAX_ROTATIONS)?;
        let all: usize = self.publishers.iter().map(|publisher| publisher.prefixes.len()).sum();
        at_most("prefixes", all, MAX_PREFIXES)?;
        let mut prefixes = BTreeSet::new();
        for publisher in &self.publishers {
            named(&publisher.name)?;
            at_most("keys of a publisher", publisher.keys.len(), MAX_LISTED)?;
            for prefix in &publisher.prefixes {
                if !is_prefix(prefix) {
                    return Err(form(PART, format!("{prefix:?} is no app id, nor the beginning of one")));
                }
                if !prefixes.insert(prefix) {
                    return Err(form(PART, format!("the prefix {prefix} is given to two publishers")));
                }
            }
        }
        let reasons =
            self.revoked.iter().map(|one| &one.reason).chain(self.blocked.iter().map(|one| &one.reason));
        reasons.map(String::as_str).try_for_each(|reason| shorter("a reason", reason, MAX_TEXT))?;
        let by_prefix = self.by_prefix();
        let mut before: Option<&AppId> = None;
        for app in &self.apps {
            if before.is_some_and(|before| *before >= app.id) {
                return Err(form(
                    PART,
                    format!("the app {} is out of place: they stand in the order of their ids", app.id),
                ));
            }
            before = Some(&app.id);
            check_app(app, by_prefix.of(&app.id))?;
        }
        Ok(())
    }
}

fn check_app(app: &App, publisher: Option<&Publisher>) -> Result<(), CatalogError> {
    let id = &app.id;
    let wrong = |problem: String| Err(form(PART, format!("the app {id}: {problem}")));
    named(&app.name)?;
    named(&app.license)?;
    shorter("a description", &app.description, MAX_TEXT)?;
    at_most("categories of an app", app.categories.len(), MAX_CATEGORIES)?;
    app.categories.iter().try_for_each(|category| named(category))?;
    match publisher {
        None => return wrong("no publisher may sign its id".to_owned()),
        Some(publisher) if !publisher.keys.contains(&app.key) => {
            return wrong(format!("{} may sign it, and {} is none of its keys", publisher.name, app.key));
        }
        Some(_) => {}
    }
    if app.icon.as_ref().is_some_and(|icon| icon.size.get() > MAX_ICON) {
        return wrong(format!("its icon has more than {MAX_ICON} bytes"));
    }
    if app.versions.is_empty() || app.versions.len() > MAX_VERSIONS {
        return wrong(format!("it has {} versions; 1 to {MAX_VERSIONS} are possible", app.versions.len()));
    }
    let mut before: Option<&semver::Version> = None;
    for version in &app.versions {
        if before.is_some_and(|before| !before.cmp_precedence(&version.version).is_lt()) {
            return wrong(format!("version {} is out of place, or there twice", version.version));
        }
        before = Some(&version.version);
        if version.size.get() > MAX_PACKAGE as u64 {
            return wrong(format!(
                "version {} has {} bytes; at most {MAX_PACKAGE} are allowed",
                version.version, version.size
            ));
        }
        let asks = &version.asks;
        for slots in [&asks.inputs, &asks.outputs, &asks.set_points] {
            at_most("slots of an app", slots.0.len(), 256)?;
            slots.0.iter().try_for_each(|(name, unit)| named(name).and_then(|()| named(unit)))?;
        }
    }
    Ok(())
}

/// Publishers by the prefixes that they may sign.
#[derive(Debug)]
pub struct ByPrefix<'i>(BTreeMap<&'i str, &'i Publisher>);

impl<'i> ByPrefix<'i> {
    /// As [`publisher_of`], by looking for the id and its beginnings.
    pub fn of(&self, id: &AppId) -> Option<&'i Publisher> {
        let mut prefix = id.as_str();
        loop {
            if let Some(publisher) = self.0.get(prefix) {
                return Some(publisher);
            }
            prefix = &prefix[..prefix.rfind('.')?];
        }
    }
}

/// The one of these publishers that may sign an app: the one with the longest prefix that covers its id.
pub fn publisher_of<'p>(publishers: &'p [Publisher], id: &AppId) -> Option<&'p Publisher> {
    let covering = |publisher: &Publisher| {
        let prefixes = publisher.prefixes.iter().filter(|prefix| covers(prefix, id.as_str()));
        prefixes.map(String::len).max()
    };
    let with = publishers.iter().filter_map(|one| covering(one).map(|length| (length, one)));
    with.max_by_key(|(length, _)| *length).map(|(_, publisher)| publisher)
}

fn at_most(what: &str, number: usize, most: usize) -> Result<(), CatalogError> {
    if number > most {
        Err(form(PART, format!("it has {number} {what}; at most {most} are allowed")))
    } else {
        Ok(())
    }
}

fn shorter(what: &str, text: &str, most: usize) -> Result<(), CatalogError> {
    if text.len() > most {
        return Err(form(PART, format!("{what} has {} bytes; at most {most} are allowed", text.len())));
    }
    // It is shown to people wherever the app is named.
    if let Some(misleading) = text.chars().find(|c| misleads(*c)) {
        let character = misleading.escape_unicode();
        return Err(form(
            PART,
            format!("{what} has the character {character}, which is none of a text in one line"),
        ));
    }
    Ok(())
}

fn named(text: &str) -> Result<(), CatalogError> {
    shorter("a name", text, MAX_NAME)
}

#[cfg(test)]
mod tests;
