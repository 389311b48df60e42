//! The catalogs that a server knows: added, refreshed, removed, and looked through.

use std::cell::RefCell;
use std::path::{Path, PathBuf};

use anyhow::Context as _;
use clap::Subcommand;

use super::super::client::{Answer, Client, flag, segment};
use super::super::failure::{Failure, Outcome};
use super::super::{Global, PageArgs, output};
use crate::api::JSON_TYPE;
use crate::api::facade::{
    CatalogIndex, CatalogInfo, CatalogRequest, CatalogSeen, CatalogTrust, Offer, OfferedVersion, Page,
    RefreshRequest,
};
use ironloom_storage::small_files;
use ironloom_trust::key::PublicKey;
use ironloom_types::clock::Timestamp;
use ironloom_types::text::{clean, listed};

/// The longest trust file that is read; a server takes no more.
const MAX_TRUST_FILE: u64 = 1 << 20;

#[derive(Debug, Subcommand)]
pub(super) enum Known {
    /// Add a catalog to the server
    Add {
        /// A folder or bundle on the server's machine, a URL that begins with https:// or http://, or a repository of a registry,
        /// as oci://HOST/REPOSITORY
        source: String,
        /// A public key that has signed its root, as its maker has told; more than once for several. Without any, the
        /// keys are shown and nothing is added
        #[arg(long, value_name = "KEY")]
        trust: Vec<PublicKey>,
        /// The app ids that it may speak of, with those below them, such as com.example; more than once for several. Without
        /// any, all
        #[arg(long, value_name = "ID")]
        ids: Vec<String>,
    },
    /// Remove a catalog; what was installed from it stays, and so does what was seen of it
    Remove {
        /// Its name
        name: String,
        /// Forget what was seen of it as well: whoever adds it again may get an older index
        #[arg(long)]
        forget: bool,
    },
    /// Look at a catalog again, or at all of them
    Refresh {
        /// Its name
        name: Option<String>,
        /// Look in another place, where it is read from now on: such as a newer bundle
        #[arg(long, value_name = "SOURCE", requires = "name")]
        source: Option<String>,
    },
    /// Keep what was seen of catalogs outside of the server, for after the restore of a backup
    #[command(subcommand)]
    Trust(Trust),
    /// List the catalogs
    List,
    /// Show a catalog, or an app as all catalogs offer it
    Show {
        /// The name of a catalog, or the id of an app
        name: String,
    },
    /// Look through all catalogs: for words in id, name, description, category and publisher
    Search {
        /// All of these must be found
        words: Vec<String>,
        /// Only apps of this category
        #[arg(long)]
        category: Option<String>,
        /// Only this catalog
        #[arg(long, value_name = "NAME")]
        catalog: Option<String>,
        #[command(flatten)]
        page: PageArgs,
    },
}

#[derive(Debug, Subcommand)]
pub(super) enum Trust {
    /// Write a trust file: the versions and times below which no catalog is taken again
    Export {
        /// The file. One that is there is replaced
        file: PathBuf,
    },
    /// Raise what was seen to what a trust file says; nothing is lowered
    Import {
        /// The file
        file: PathBuf,
    },
}

impl Known {
    pub(super) fn run(self, global: &Global) -> Outcome {
        let client = global.client()?;
        match self {
            Self::Add { source, trust, ids } => {
                let source = absolute(source)?;
                let body =
                    serde_json::to_string(&CatalogRequest { source, trust, ids }).context("no JSON")?;
                let answer = client.post("/v1/catalogs", &[], JSON_TYPE, body.as_bytes())?;
                output::one(global, &answer, |catalog: CatalogInfo| text(&catalog))
            }
            Self::Remove { name, forget } => {
                client.delete(&format!("/v1/catalogs/{}", segment(&name)), &[flag("forget", forget)])?;
                let stays = if forget {
                    "what was seen of it is forgotten; ids that belong to somebody by its word stay theirs"
                } else {
                    "what was seen of it is kept"
                };
                output::done(global, &format!("the catalog {name} is removed; {stays}"))
            }
            Self::Refresh { name: Some(name), source } => {
                let answer = refresh(&client, &name, source.map(absolute).transpose()?)?;
                output::one(global, &answer, |catalog: CatalogInfo| text(&catalog))
            }
            Self::Refresh { name: None, .. } => refresh_all(global, &client),
            Self::Trust(trust) => trust.run(global, &client),
            Self::List => {
                let header = ["name", "index", "apps", "expires", "refreshed", "source"];
                output::list(global, "/v1/catalogs", &[], &header, row)
            }
            // An id has a dot, and a name has none.
            Self::Show { name } if name.contains('.') => {
                let answer = client.get(&format!("/v1/apps/{}", segment(&name)), &[])?;
                output::one(global, &answer, |offers: Page<Offer>| {
                    offers.items.iter().map(offer_text).collect::<Vec<_>>().join("\n")
                })
            }
            Self::Show { name } => {
                let answer = client.get(&format!("/v1/catalogs/{}", segment(&name)), &[])?;
                output::one(global, &answer, |catalog: CatalogInfo| text(&catalog))
            }
            Self::Search { words, category, catalog, page } => {
                let query = [
                    ("words", Some(words.join(" "))),
                    ("category", category),
                    ("catalog", catalog),
                    ("after", page.after),
                    ("limit", Some(page.limit.to_string())),
                ];
                let header = ["id", "version", "name", "publisher", "catalog"];
                output::list(global, "/v1/apps", &query, &header, |offer: Offer| {
                    let mut version = offer.versions.last().map_or_else(String::new, shown_version);
                    version.push_str(if offer.revoked.is_some() { ", key revoked" } else { "" });
                    version.push_str(if offer.expired { ", expired" } else { "" });
                    [offer.id.to_string(), version, offer.name, offer.publisher, offer.catalog]
                })
            }
        }
    }
}

/// A catalog in the list of all.
fn row(catalog: CatalogInfo) -> [String; 6] {
    let of_index = |show: fn(&CatalogIndex) -> String| catalog.index.as_ref().map_or("-".to_owned(), show);
    let expires = of_index(|index| second(index.expires));
    let expired = catalog.index.as_ref().is_some_and(|index| index.expired);
    [
        catalog.name.clone(),
        of_index(|index| index.version.to_string()),
        of_index(|index| index.apps.to_string()),
        if expired { format!("{expires}, expired") } else { expires },
        second(catalog.refreshed),
        catalog.source.clone(),
    ]
}

/// A folder is meant from where the command runs.
pub(in crate::cli) fn absolute(source: String) -> anyhow::Result<String> {
    if source.contains("://") {
        return Ok(source);
    }
    let path = std::path::absolute(Path::new(&source)).with_context(|| format!("can't find {source}"))?;
    Ok(path.display().to_string())
}

fn refresh(client: &Client, name: &str, source: Option<String>) -> Result<Answer, Failure> {
    let body = serde_json::to_string(&RefreshRequest { source }).context("no JSON")?;
    client.post(&format!("/v1/catalogs/{}/refresh", segment(name)), &[], JSON_TYPE, body.as_bytes())
}

/// Looks at all of them. What fails is told, and the rest goes on; as JSON it is one list.
fn refresh_all(global: &Global, client: &Client) -> Outcome {
    let all: Page<CatalogInfo> = client.get("/v1/catalogs", &[])?.read()?;
    let found = RefCell::new(Vec::new());
    let outcome = output::each(all.items, |catalog| {
        let catalog: CatalogInfo = refresh(client, &catalog.name, None)?.read()?;
        if !global.json {
            output::print(&text(&catalog))?;
        }
        found.borrow_mut().push(catalog);
        Ok(())
    });
    if global.json {
        let page = Page { items: found.into_inner(), next: None };
        output::json_text(&format!("{}\n", serde_json::to_string(&page).context("no JSON")?))?;
    }
    outcome
}

impl Trust {
    fn run(self, global: &Global, client: &Client) -> Outcome {
        match self {
            Self::Export { file } => {
                let answer = client.get("/v1/catalog-trust", &[])?;
                let trust: CatalogTrust = answer.read()?;
                small_files::write(&file, answer.text.as_bytes())
                    .with_context(|| format!("can't write {}", file.display()))?;
                let count = output::counted(trust.0.catalogs.len() as u64, "catalog");
                let text = format!("{}: what was seen of {count}", file.display());
                output::done(global, &text)
            }
            Self::Import { file } => {
                let text = small_files::read_text(&file, MAX_TRUST_FILE)
                    .map_err(|error| Failure::File(error.to_string()))?;
                let answer = client.post("/v1/catalog-trust", &[], JSON_TYPE, text.as_bytes())?;
                output::one(global, &answer, |seen: Page<CatalogSeen>| {
                    let header = ["catalog", "root", "index", "signed", "state"];
                    output::table(&header, seen.items.into_iter().map(seen_row))
                })
            }
        }
    }
}

fn seen_row(seen: CatalogSeen) -> [String; 5] {
    let state = match (seen.raised, seen.added) {
        (true, _) => "raised",
        (false, true) => "known",
        (false, false) => "known, not added",
    };
    let index = seen.index.map_or("-".to_owned(), |index| index.to_string());
    [seen.catalog, seen.root.to_string(), index, second(seen.latest), state.to_owned()]
}

/// A time to the second: what catalogs say is no finer for people.
pub(in crate::cli) fn second(time: Timestamp) -> String {
    format!("{:.0}", time.to_jiff())
}

fn lines(facts: Vec<(&str, String)>) -> String {
    let facts = facts.into_iter().filter(|(_, value)| !value.is_empty());
    facts.map(|(name, value)| format!("{name:<14}{}\n", clean(&value))).collect()
}

fn text(catalog: &CatalogInfo) -> String {
    let index = catalog.index.as_ref().map_or("none; refresh it".to_owned(), |index| {
        let until = if index.expired { "expired at" } else { "expires at" };
        format!(
            "version {} of {}, {} apps, {until} {}",
            index.version,
            second(index.issued),
            index.apps,
            second(index.expires)
        )
    });
    lines(vec![
        ("catalog", catalog.name.clone()),
        ("source", catalog.source.clone()),
        ("speaks of", if catalog.ids.is_empty() { "all ids".to_owned() } else { catalog.ids.join(", ") }),
        ("root", root_text(catalog)),
        ("index", index),
        ("refreshed", second(catalog.refreshed)),
        ("problem", catalog.problem.clone().unwrap_or_default()),
    ])
}

fn root_text(catalog: &CatalogInfo) -> String {
    let CatalogInfo { root, root_keys, root_threshold, .. } = catalog;
    match root_keys.as_slice() {
        [key] => format!("version {root}, signed by {key}"),
        several => {
            let of = several.len();
            format!("version {root}, which {root_threshold} of these {of} keys sign: {}", listed(several))
        }
    }
}

fn shown_version(version: &OfferedVersion) -> String {
    match &version.blocked {
        Some(_) => format!("{}, blocked", version.version),
        None => version.version.clone(),
    }
}

fn offer_text(offer: &Offer) -> String {
    let revoked = offer.revoked.as_ref().map_or_else(String::new, |reason| format!("; revoked: {reason}"));
    let mut text = lines(vec![
        ("app", offer.id.to_string()),
        ("name", offer.name.clone()),
        ("publisher", offer.publisher.clone()),
        ("signed by", format!("{}{revoked}", offer.key)),
        ("description", offer.description.clone()),
        ("licence", offer.license.clone()),
        ("categories", offer.categories.join(", ")),
        (
            "catalog",
            format!("{}{}", offer.catalog, if offer.expired { ", whose index has expired" } else { "" }),
        ),
    ]);
    for version in &offer.versions {
        let slots = |of: &std::collections::BTreeMap<String, String>| {
            let shown = of.iter().map(|(name, unit)| match unit.as_str() {
                "" => name.clone(),
                unit => format!("{name} ({unit})"),
            });
            shown.collect::<Vec<_>>().join(", ")
        };
        text.push_str(&lines(vec![
            ("version", format!("{}, {} bytes, {}", version.version, version.bytes, version.package)),
            ("  reads", slots(&version.inputs)),
            ("  derives", slots(&version.outputs)),
            ("  set-points", slots(&version.set_points)),
            ("  blocked", version.blocked.clone().unwrap_or_default()),
        ]));
    }
    text
}
