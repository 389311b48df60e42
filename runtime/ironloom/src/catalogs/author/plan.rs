//! `catalog.toml`: what a catalog is to be.

use std::collections::{BTreeMap, BTreeSet};
use std::path::PathBuf;

use ironloom_apps::problem::{Problem, Problems};
use ironloom_apps::quantity::Span;
use ironloom_apps::toml_section::{Field, Findings, Section};
use ironloom_trust::catalog::CatalogName;
use ironloom_trust::catalog::index::{Blocked, Publisher, Revoked};
use ironloom_types::ids::AppId;

/// The longest file in bytes.
pub(super) const MAX_FILE: u64 = 16 << 20;

/// All that a catalog says besides its packages.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Plan {
    pub(crate) name: CatalogName,
    /// The time for which an index holds.
    pub(crate) valid_for: Span,
    pub(crate) publishers: Vec<Publisher>,
    pub(crate) apps: BTreeMap<AppId, Said>,
    pub(crate) revoked: Vec<Revoked>,
    pub(crate) blocked: Vec<Blocked>,
    /// Files with statements of keys.
    pub(crate) rotations: Vec<PathBuf>,
}

/// A catalog's word on an app besides its packages.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Said {
    pub(crate) categories: BTreeSet<String>,
    pub(crate) icon: Option<PathBuf>,
}

impl Plan {
    /// Reads the text of a file.
    ///
    /// # Errors
    /// All problems.
    pub(crate) fn read(text: &str) -> Result<Self, Problems> {
        let findings = Findings::new(text);
        let mut root = findings.root()?;
        let name = root.require("name").and_then(|field| field.parsed(str::parse));
        let valid_for = root.take_or("valid_for", "\"30 d\"").and_then(|field| field.parsed(str::parse));
        let rotations = root.take("rotations").and_then(|field| field.texts()).unwrap_or_default();
        let publishers = each(&mut root, "publishers", publisher);
        let revoked = each(&mut root, "revoked", revoked);
        let blocked = each(&mut root, "blocked", blocked);
        let apps = apps(root.table("apps"));
        root.finish();
        findings.check()?;
        let read = |name, valid_for| Self {
            name,
            valid_for,
            publishers,
            apps,
            revoked,
            blocked,
            rotations: rotations.into_iter().map(PathBuf::from).collect(),
        };
        // Whatever is missing has been noted as a problem.
        name.zip(valid_for)
            .map(|(name, valid_for)| read(name, valid_for))
            .ok_or_else(|| Problem::whole("it is not complete").into())
    }
}

/// The sections of a list of them, as far as they can be read.
fn each<'f, 't, T>(
    root: &mut Section<'f, 't>,
    name: &'static str,
    read: impl Fn(Section<'f, 't>) -> Option<T>,
) -> Vec<T> {
    let sections = root.take(name).map(Field::sections).unwrap_or_default();
    sections.into_iter().filter_map(read).collect()
}

fn publisher(mut section: Section<'_, '_>) -> Option<Publisher> {
    let name = section.require("name").and_then(|field| Some(field.text()?.to_owned()));
    let keys = section.require("keys").and_then(|field| {
        let keys: Vec<_> = field.texts()?.into_iter().map(|key| field.checked(key.parse())).collect();
        keys.into_iter().collect()
    });
    let prefixes = section.require("prefixes").and_then(|field| field.texts());
    section.finish();
    Some(Publisher { name: name?, keys: keys?, prefixes: prefixes?.into_iter().collect() })
}

fn revoked(mut section: Section<'_, '_>) -> Option<Revoked> {
    let key = section.require("key").and_then(|field| field.parsed(str::parse));
    let reason = section.require("reason").and_then(|field| Some(field.text()?.to_owned()));
    section.finish();
    Some(Revoked { key: key?, reason: reason? })
}

fn blocked(mut section: Section<'_, '_>) -> Option<Blocked> {
    let id = section.require("id").and_then(|field| field.parsed(AppId::new));
    let field = section.take("version");
    let is_given = field.is_some();
    let version = field.and_then(|field| field.parsed(str::parse));
    let reason = section.require("reason").and_then(|field| Some(field.text()?.to_owned()));
    section.finish();
    // A version that can't be read is no word against all of them.
    (version.is_some() == is_given).then_some(())?;
    Some(Blocked { id: id?, version, reason: reason? })
}

fn apps(mut section: Section<'_, '_>) -> BTreeMap<AppId, Said> {
    let mut apps = BTreeMap::new();
    for field in section.take_all() {
        let id = AppId::new(&field.name);
        if let Err(error) = &id {
            field.refuse_name(error.to_string(), None);
        }
        let mut of = field.section();
        let categories = of.take("categories").and_then(|field| field.texts()).unwrap_or_default();
        let icon = of.take("icon").and_then(|field| Some(PathBuf::from(field.text()?)));
        of.finish();
        if let Ok(id) = id {
            apps.insert(id, Said { categories: categories.into_iter().collect(), icon });
        }
    }
    apps
}
