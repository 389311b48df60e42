//! A catalog in a registry, as the distribution specification of OCI has it.
//!
//! | tag | what its artifact has |
//! | --- | --- |
//! | `catalog`, or the one that the place names | roots and index, each a layer with its path as the title |
//! | `HEX` | one package or icon, named after the SHA-256 of its file, so that the registry keeps it |
//!
//! A package has its signatures within, so nothing is asked for what refers to it.

mod push;
mod session;

use std::cell::OnceCell;
use std::collections::BTreeMap;
use std::fmt;

use serde::{Deserialize, Serialize};

pub(crate) use self::push::{PushError, Pushed, push};
use self::session::Session;
use super::web::{self, Access};
use super::{ICONS, PACKAGE_ENDING, PACKAGES};
use ironloom_types::ids::Digest;

/// The tag of a catalog whose place names none.
const TAG: &str = "catalog";
/// The type of an artifact that is a catalog, or a file of one.
const ARTIFACT_TYPE: &str = "application/vnd.ironloom.catalog.v1";
const IMAGE_TYPE: &str = "application/vnd.oci.image.manifest.v1+json";
/// The type of a config that says nothing, and what stands in it.
const EMPTY_TYPE: &str = "application/vnd.oci.empty.v1+json";
const EMPTY: &[u8] = b"{}";
/// The annotation that says what a layer's file is called.
const TITLE: &str = "org.opencontainers.image.title";
/// The largest manifest that is read: one of a catalog with all roots that it may have.
const MAX_MANIFEST: u64 = 1 << 20;

/// Reads the files that the configuration names.
///
/// # Errors
/// In words, with the key.
pub(crate) fn check_files(access: &Access) -> Result<(), String> {
    if !access.ca.is_empty() {
        web::authorities(access)?;
    }
    match &access.logins {
        Some(file) => session::logins(file).map(drop).map_err(|error| format!("[catalogs] {error}")),
        None => Ok(()),
    }
}

/// A repository of a registry, and a tag in it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Place {
    /// The registry is asked over HTTP, which somebody has said.
    plain: bool,
    /// Its host, with a port where there is one.
    host: String,
    repository: String,
    tag: String,
}

impl Place {
    /// Reads what people write, where that is a place in a registry.
    pub(crate) fn new(text: &str) -> Option<Self> {
        let (plain, rest) = match text.strip_prefix("oci://") {
            Some(rest) => (false, rest),
            None => (true, text.strip_prefix("oci+http://")?),
        };
        let (host, rest) = rest.split_once('/')?;
        let authority: ureq::http::uri::Authority = host.parse().ok()?;
        let (repository, tag) = rest.split_once(':').unwrap_or((rest, TAG));
        let is_part = |part: &str| {
            let ends = |c: Option<char>| c.is_some_and(|c| c.is_ascii_lowercase() || c.is_ascii_digit());
            let may = |c: char| c.is_ascii_lowercase() || c.is_ascii_digit() || matches!(c, '.' | '_' | '-');
            ends(part.chars().next()) && ends(part.chars().next_back()) && part.chars().all(may)
        };
        let is_tag = tag.len() <= 128
            && tag.starts_with(|c: char| c.is_ascii_alphanumeric() || c == '_')
            && tag.chars().all(|c| c.is_ascii_alphanumeric() || matches!(c, '.' | '_' | '-'));
        let is_host = !authority.host().is_empty() && !host.contains('@');
        let is_place = is_host && repository.len() <= 255 && repository.split('/').all(is_part) && is_tag;
        is_place.then(|| Self {
            plain,
            host: host.to_owned(),
            repository: repository.to_owned(),
            tag: tag.to_owned(),
        })
    }

    fn scheme(&self) -> &'static str {
        if self.plain { "http" } else { "https" }
    }
}

impl fmt::Display for Place {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let scheme = if self.plain { "oci+http" } else { "oci" };
        write!(f, "{scheme}://{}/{}", self.host, self.repository)?;
        if self.tag == TAG { Ok(()) } else { write!(f, ":{}", self.tag) }
    }
}

#[derive(Debug, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
struct Manifest {
    schema_version: u32,
    #[serde(default)]
    media_type: Option<String>,
    #[serde(default)]
    artifact_type: Option<String>,
    config: Descriptor,
    layers: Vec<Descriptor>,
}

#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
struct Descriptor {
    media_type: String,
    digest: Digest,
    size: u64,
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    annotations: BTreeMap<String, String>,
}

impl Descriptor {
    fn of(media_type: &str, bytes: &[u8]) -> Self {
        let (digest, size) = (Digest::of(bytes), bytes.len() as u64);
        Self { media_type: media_type.to_owned(), digest, size, annotations: BTreeMap::new() }
    }
}

/// A catalog in a registry, for one look at it: what its tag named at first is what all of it is read from.
#[derive(Debug)]
pub(crate) struct Registry {
    session: Session,
    tag: String,
    /// The layers of the catalog, by their titles; none where nothing has the tag.
    files: OnceCell<BTreeMap<String, Descriptor>>,
}

impl Registry {
    /// Doesn't connect yet.
    ///
    /// # Errors
    /// In words: certificates or logins that can't be read.
    pub(crate) fn open(place: &Place, access: &Access) -> Result<Self, String> {
        let session = Session::new(place, access, false)?;
        Ok(Self { session, tag: place.tag.clone(), files: OnceCell::new() })
    }

    /// Reads a file of the catalog of at most so many bytes; `None` where there is none.
    ///
    /// # Errors
    /// In words.
    pub(crate) fn read(&self, path: &str, most: u64) -> Result<Option<Vec<u8>>, String> {
        if let Some(digest) = named_by_digest(path) {
            return self.session.blob(digest, most);
        }
        let files = match self.files.get() {
            Some(files) => files,
            None => {
                let found = self.session.manifest(&self.tag)?.map_or_else(BTreeMap::new, titled);
                self.files.get_or_init(|| found)
            }
        };
        let Some(layer) = files.get(path) else { return Ok(None) };
        if layer.size > most {
            return Err(format!("{path} has {} bytes; at most {most} are taken", layer.size));
        }
        let bytes = self.session.blob(layer.digest, most)?;
        bytes.map(Some).ok_or_else(|| format!("the registry lacks {path}, {}", layer.digest))
    }
}

/// The layers that have a title, by it.
fn titled(manifest: Manifest) -> BTreeMap<String, Descriptor> {
    let titled = |layer: Descriptor| Some((layer.annotations.get(TITLE)?.clone(), layer));
    manifest.layers.into_iter().filter_map(titled).collect()
}

/// The digest of a file whose name is one.
fn named_by_digest(path: &str) -> Option<Digest> {
    let (folder, name) = path.split_once('/')?;
    let hex = match folder {
        PACKAGES => name.strip_suffix(PACKAGE_ENDING)?,
        ICONS => name,
        _ => return None,
    };
    format!("sha256:{hex}").parse().ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_place_is_a_registry_a_repository_and_perhaps_a_tag() {
        for text in [
            "oci://registry.example/plant/apps",
            "oci://127.0.0.1:5000/apps:spring",
            "oci+http://localhost:5000/a.b/c_d",
        ] {
            assert_eq!(Place::new(text).unwrap().to_string(), text);
        }
        assert_eq!(Place::new("oci://x/y:catalog").unwrap().to_string(), "oci://x/y");
        for text in [
            "oci://registry.example",
            "oci:///apps",
            "oci://me:pw@x/apps",
            "oci://x/Apps",
            "oci://x/a//b",
            "oci://x/../b",
            "oci://x/a:",
            "oci://x/a:b/c",
            "oci://x/a?b=c",
            "http://x/a",
        ] {
            assert_eq!(Place::new(text), None, "{text}");
        }
    }

    #[test]
    fn files_that_are_named_by_digests_are_blobs() {
        let digest = Digest::of(b"x");
        let path = super::super::package_path(digest);
        assert_eq!(named_by_digest(&path), Some(digest));
        assert_eq!(named_by_digest(&super::super::icon_path(digest)), Some(digest));
        for path in ["index.json", "root/1.json", "packages/x.app.tar", &path[..20]] {
            assert_eq!(named_by_digest(path), None, "{path}");
        }
    }
}
