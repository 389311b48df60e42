//! The SBOM of an app in Rust: a CycloneDX document of the crates that are linked into it.
//!
//! It is made of what cargo says alone, without a time, a serial number or a path, so that the same input gives the same
//! bytes. `cargo metadata` resolves the features of a whole workspace at once and so names too many crates; `cargo build`
//! says which ones it has compiled for the app. The standard library is in neither, and not in the document.
//!
//! The types here are the few that are written. The crate `cyclonedx-bom` has all of the format, and with it a parser of
//! XML, dates, random numbers and regular expressions, which a server would carry along.

#[cfg(test)]
mod tests;

use std::collections::{BTreeMap, BTreeSet};

use anyhow::Context as _;
use serde::{Deserialize, Serialize};
use spdx::Expression;

use ironloom_apps::manifest::Manifest;

/// The registry that a purl means where it says nothing else, as Cargo.lock names it.
const CRATES_IO: [&str; 2] =
    ["registry+https://github.com/rust-lang/crates.io-index", "sparse+https://index.crates.io/"];

/// The parts of `cargo metadata`'s answer that are used.
#[derive(Debug, Deserialize)]
pub(super) struct Graph {
    packages: Vec<Package>,
    resolve: Resolve,
}

#[derive(Debug, Deserialize)]
struct Package {
    id: String,
    name: String,
    version: String,
    license: Option<String>,
    /// `None` for a crate by its path.
    source: Option<String>,
}

#[derive(Debug, Deserialize)]
struct Resolve {
    /// The crate of the manifest that cargo was given.
    root: Option<String>,
    nodes: Vec<Node>,
}

#[derive(Debug, Deserialize)]
struct Node {
    id: String,
    deps: Vec<Edge>,
}

#[derive(Debug, Deserialize)]
struct Edge {
    pkg: String,
    dep_kinds: Vec<Kind>,
}

#[derive(Debug, Deserialize)]
struct Kind {
    /// `None` for one that isn't for tests or build scripts.
    kind: Option<String>,
}

impl Node {
    /// The crates that it is linked with.
    fn linked<'a>(&'a self, linked: &'a BTreeSet<String>) -> impl Iterator<Item = &'a str> {
        let edges = self.deps.iter().filter(|edge| edge.dep_kinds.iter().any(|kind| kind.kind.is_none()));
        edges.map(|edge| edge.pkg.as_str()).filter(|id| linked.contains(*id))
    }
}

/// The parts of Cargo.lock that are used. Before cargo 1.47 it had the checksums elsewhere; these aren't looked for.
#[derive(Debug, Deserialize)]
pub(super) struct Lock {
    #[serde(default)]
    package: Vec<Locked>,
}

#[derive(Debug, Deserialize)]
struct Locked {
    name: String,
    version: String,
    source: Option<String>,
    checksum: Option<String>,
}

/// A CycloneDX document.
#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct Document {
    bom_format: &'static str,
    spec_version: &'static str,
    version: u32,
    metadata: Metadata,
    components: Vec<Component>,
    dependencies: Vec<Dependencies>,
}

#[derive(Serialize)]
struct Metadata {
    component: Component,
}

#[derive(Serialize)]
struct Component {
    r#type: &'static str,
    #[serde(rename = "bom-ref")]
    bom_ref: String,
    name: String,
    version: String,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    hashes: Vec<Hash>,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    licenses: Vec<Licence>,
    #[serde(skip_serializing_if = "Option::is_none")]
    purl: Option<String>,
}

#[derive(Serialize)]
struct Hash {
    alg: &'static str,
    content: String,
}

#[derive(Serialize)]
#[serde(rename_all = "lowercase")]
enum Licence {
    Expression(String),
    License { name: String },
}

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct Dependencies {
    r#ref: String,
    #[serde(skip_serializing_if = "BTreeSet::is_empty")]
    depends_on: BTreeSet<String>,
}

/// Makes the document of an app. `linked` are the ids of the crates that were compiled for its target, perhaps with others
/// that it doesn't depend on.
///
/// # Errors
/// Parts of cargo's answer that don't belong together.
pub(super) fn document(
    app: &Manifest,
    graph: &Graph,
    lock: &Lock,
    linked: &BTreeSet<String>,
) -> anyhow::Result<Vec<u8>> {
    let packages: BTreeMap<_, _> = graph.packages.iter().map(|one| (one.id.as_str(), one)).collect();
    let nodes: BTreeMap<_, _> = graph.resolve.nodes.iter().map(|one| (one.id.as_str(), one)).collect();
    let root = graph.resolve.root.as_deref().context("cargo's metadata has no crate of the app")?;
    let reference = |id: &str| match packages.get(id) {
        _ if id == root => Ok(app.id.to_string()),
        Some(package) => Ok(package.reference()),
        None => anyhow::bail!("cargo's metadata lacks the crate {id}"),
    };

    let mut components = BTreeMap::new();
    let mut dependencies = Vec::new();
    let mut found = BTreeSet::from([root]);
    let mut next = vec![root];
    while let Some(id) = next.pop() {
        let node = nodes.get(id).with_context(|| format!("cargo's metadata lacks the crate {id}"))?;
        let depends_on = node.linked(linked).map(reference).collect::<Result<_, _>>()?;
        dependencies.push(Dependencies { r#ref: reference(id)?, depends_on });
        if let Some(package) = packages.get(id).filter(|_| id != root) {
            components.insert((&package.name, &package.version, &package.source), package.component(lock));
        }
        next.extend(node.linked(linked).filter(|id| found.insert(*id)));
    }
    dependencies.sort_by(|one, other| one.r#ref.cmp(&other.r#ref));

    let document = Document {
        bom_format: "CycloneDX",
        spec_version: "1.5",
        version: 1,
        metadata: Metadata { component: application(app) },
        components: components.into_values().collect(),
        dependencies,
    };
    let mut bytes = serde_json::to_vec_pretty(&document)?;
    bytes.push(b'\n');
    Ok(bytes)
}

fn application(app: &Manifest) -> Component {
    Component {
        r#type: "application",
        bom_ref: app.id.to_string(),
        name: app.id.to_string(),
        version: app.version.clone(),
        hashes: Vec::new(),
        licenses: licences(&app.license),
        purl: None,
    }
}

impl Package {
    fn component(&self, lock: &Lock) -> Component {
        let is_same =
            |one: &&Locked| one.name == self.name && one.version == self.version && one.source == self.source;
        let checksum = lock.package.iter().find(is_same).and_then(|one| one.checksum.clone());
        Component {
            r#type: "library",
            bom_ref: self.reference(),
            name: self.name.clone(),
            version: self.version.clone(),
            hashes: checksum.map(|content| Hash { alg: "SHA-256", content }).into_iter().collect(),
            licenses: licences(self.license.as_deref().unwrap_or_default()),
            purl: Some(self.purl()),
        }
    }

    /// A name for the crate within the document. A crate by its path may have name and version of one from a registry.
    fn reference(&self) -> String {
        match &self.source {
            Some(_) => self.purl(),
            None => format!("path:{}@{}", self.name, self.version),
        }
    }

    /// Its package URL. One that isn't from crates.io says where it is from, without a password that the address may have.
    fn purl(&self) -> String {
        let plain = format!("pkg:cargo/{}@{}", encoded(&self.name), encoded(&self.version));
        let Some(source) = self.source.as_deref().filter(|source| !CRATES_IO.contains(source)) else {
            return plain;
        };
        match (source.strip_prefix("git+"), source.split_once('+')) {
            (Some(git), _) => {
                let (address, commit) = git.split_once('#').unwrap_or((git, ""));
                let address = without_credentials(address.split('?').next().unwrap_or(address));
                format!("{plain}?vcs_url={}", encoded(&format!("git+{address}@{commit}")))
            }
            (None, Some((_, address))) => {
                format!("{plain}?repository_url={}", encoded(&without_credentials(address)))
            }
            (None, None) => plain,
        }
    }
}

/// Percent-encodes a part of a package URL.
fn encoded(text: &str) -> String {
    let mut out = String::new();
    for byte in text.bytes() {
        match byte {
            b'A'..=b'Z' | b'a'..=b'z' | b'0'..=b'9' | b'-' | b'.' | b'_' | b'~' | b':' => {
                out.push(char::from(byte));
            }
            other => out.push_str(&format!("%{other:02X}")),
        }
    }
    out
}

fn without_credentials(address: &str) -> String {
    let Some((scheme, rest)) = address.split_once("://") else { return address.to_owned() };
    let (host, path) = rest.split_at(rest.find('/').unwrap_or(rest.len()));
    let host = host.rsplit_once('@').map_or(host, |(_, host)| host);
    format!("{scheme}://{host}{path}")
}

/// A licence in the form of SPDX, also from the older forms that cargo takes, such as `MIT/Apache-2.0`; otherwise its name.
fn licences(text: &str) -> Vec<Licence> {
    if text.is_empty() {
        return Vec::new();
    }
    let canonical = Expression::canonicalize(text).ok().flatten().unwrap_or_else(|| text.to_owned());
    vec![match Expression::parse(&canonical) {
        Ok(_) => Licence::Expression(canonical),
        Err(_) => Licence::License { name: text.to_owned() },
    }]
}
