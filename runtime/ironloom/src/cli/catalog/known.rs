//! The catalogs that a server knows: added, refreshed, removed, and looked through.

use std::path::Path;

use anyhow::Context as _;
use clap::Subcommand;

use super::super::client::{Client, segment};
use super::super::failure::Outcome;
use super::super::{Global, PageArgs, output};
use crate::api::JSON_TYPE;
use crate::api::facade::{CatalogInfo, CatalogRequest, Offer, OfferedVersion, Page};
use ironloom_trust::key::PublicKey;
use ironloom_types::text::{clean, listed};

#[derive(Debug, Subcommand)]
pub(super) enum Known {
    /// Add a catalog to the server
    Add {
        /// A folder of the server's machine, or a URL that begins with http://
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
    /// Remove a catalog; what was installed from it stays
    Remove {
        /// Its name
        name: String,
    },
    /// Look at a catalog again, or at all of them
    Refresh {
        /// Its name
        name: Option<String>,
    },
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
            Self::Remove { name } => {
                client.delete(&format!("/v1/catalogs/{}", segment(&name)), &[])?;
                output::done(global, &format!("the catalog {name} is removed"))
            }
            Self::Refresh { name: Some(name) } => refresh(global, &client, &name),
            Self::Refresh { name: None } => {
                let all: Page<CatalogInfo> = client.get("/v1/catalogs", &[])?.read()?;
                output::each(all.items, |catalog| refresh(global, &client, &catalog.name))
            }
            Self::List => output::list(
                global,
                "/v1/catalogs",
                &[],
                &["name", "index", "apps", "expires", "refreshed", "source"],
                |catalog: CatalogInfo| {
                    let of_index = |show: fn(&crate::api::facade::CatalogIndex) -> String| {
                        catalog.index.as_ref().map_or("-".to_owned(), show)
                    };
                    let expires = of_index(|index| index.expires.to_string());
                    let expired = catalog.index.as_ref().is_some_and(|index| index.expired);
                    [
                        catalog.name.clone(),
                        of_index(|index| index.version.to_string()),
                        of_index(|index| index.apps.to_string()),
                        if expired { format!("{expires}, expired") } else { expires },
                        catalog.refreshed.to_string(),
                        catalog.source.clone(),
                    ]
                },
            ),
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

/// A folder is meant from where the command runs.
fn absolute(source: String) -> anyhow::Result<String> {
    if source.contains("://") {
        return Ok(source);
    }
    let path = std::path::absolute(Path::new(&source)).with_context(|| format!("can't find {source}"))?;
    Ok(path.display().to_string())
}

fn refresh(global: &Global, client: &Client, name: &str) -> Outcome {
    let answer = client.post(&format!("/v1/catalogs/{}/refresh", segment(name)), &[], JSON_TYPE, b"")?;
    output::one(global, &answer, |catalog: CatalogInfo| text(&catalog))
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
            index.version, index.issued, index.apps, index.expires
        )
    });
    lines(vec![
        ("catalog", catalog.name.clone()),
        ("source", catalog.source.clone()),
        ("speaks of", if catalog.ids.is_empty() { "all ids".to_owned() } else { catalog.ids.join(", ") }),
        ("root", format!("version {}, signed by {}", catalog.root, listed(&catalog.root_keys))),
        ("index", index),
        ("refreshed", catalog.refreshed.to_string()),
        ("problem", catalog.problem.clone().unwrap_or_default()),
    ])
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
