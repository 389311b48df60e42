//! Catalogs and the apps that they offer.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

use ironloom_trust::catalog::trust_file::TrustFile;
use ironloom_trust::key::PublicKey;
use ironloom_types::clock::Timestamp;
use ironloom_types::ids::{AppId, Digest};

/// A catalog that is to be added.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub(crate) struct CatalogRequest {
    /// A folder or bundle of the server's machine, by its path from the root, a URL that begins with `https://` or `http://`, or a
    /// repository of a registry, as `oci://HOST/REPOSITORY`.
    #[schema(example = "/media/usb/catalog")]
    pub source: String,
    /// Public keys that have signed its first root, or one since: whom to believe, as its maker has told by another way.
    #[serde(default)]
    #[schema(value_type = Vec<String>)]
    pub trust: Vec<PublicKey>,
    /// The app ids that it may speak of, with those below them, such as `com.example`; without any, all.
    #[serde(default)]
    pub ids: Vec<String>,
}

/// The look at a catalog that is wanted.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(default, deny_unknown_fields)]
pub(crate) struct RefreshRequest {
    /// Another place, where it is read from now on; without one that of before.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub source: Option<String>,
}

/// A trust file: what was seen of all catalogs, below which none of them is taken again.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(transparent)]
#[schema(value_type = Object)]
pub(crate) struct CatalogTrust(pub TrustFile);

/// The newest that was seen of a catalog.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub(crate) struct CatalogSeen {
    pub catalog: String,
    /// The version of its root.
    pub root: u64,
    /// The version of its index; none where there was none since its keys were changed.
    pub index: Option<u64>,
    /// The latest time in it that was signed.
    pub latest: Timestamp,
    /// The catalog is one of this server's; else only what was seen of it is kept, for when it is added.
    pub added: bool,
    /// The file has brought something that wasn't known.
    pub raised: bool,
}

/// A catalog, as it was last seen.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub(crate) struct CatalogInfo {
    pub name: String,
    /// The place that it is read from.
    pub source: String,
    /// The app ids that it may speak of; all where there is none.
    pub ids: Vec<String>,
    /// The version of its root.
    pub root: u64,
    /// The keys that sign its root.
    #[schema(value_type = Vec<String>)]
    pub root_keys: Vec<PublicKey>,
    /// The number of these that must have signed it.
    pub root_threshold: u8,
    /// Its index; none after a restore, until it is refreshed.
    pub index: Option<CatalogIndex>,
    /// The time of the last look that found it.
    pub refreshed: Timestamp,
    /// Why a later look found nothing that could be taken.
    pub problem: Option<String>,
}

/// The index of a catalog.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub(crate) struct CatalogIndex {
    pub version: u64,
    pub issued: Timestamp,
    pub expires: Timestamp,
    /// Nothing of it is installed any more, until there is a newer one.
    pub expired: bool,
    /// The number of apps.
    pub apps: u64,
}

/// An app that a catalog offers.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub(crate) struct Offer {
    pub catalog: String,
    pub id: AppId,
    /// The app's name for people.
    pub name: String,
    /// The name of whoever may sign it, as the catalog has it.
    pub publisher: String,
    /// The key that signs its packages.
    #[schema(value_type = String)]
    pub key: PublicKey,
    /// The reason why that key isn't believed any more.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub revoked: Option<String>,
    pub description: String,
    /// Its licence, as an SPDX expression.
    pub license: String,
    pub categories: Vec<String>,
    /// The catalog's index has expired.
    pub expired: bool,
    /// From the oldest to the newest; of a list the newest alone.
    pub versions: Vec<OfferedVersion>,
}

/// A version of an app that a catalog offers.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub(crate) struct OfferedVersion {
    pub version: String,
    pub package: Digest,
    /// The size of the package's file.
    pub bytes: u64,
    /// The units of its inputs, by name; an empty text where there is none.
    pub inputs: BTreeMap<String, String>,
    /// Those of what it derives.
    pub outputs: BTreeMap<String, String>,
    /// Those of the set-points that it asks for.
    pub set_points: BTreeMap<String, String>,
    /// The reason why it must not be installed.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub blocked: Option<String>,
}

/// The version of an app that is to be brought here.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(default, deny_unknown_fields)]
pub(crate) struct FetchRequest {
    /// Without one the newest.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(value_type = Option<String>)]
    pub version: Option<semver::Version>,
    /// The catalog; needed where several offer the app.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub catalog: Option<String>,
    /// The key of its publisher, where catalogs give the app to several.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(value_type = Option<String>)]
    pub publisher: Option<PublicKey>,
}
