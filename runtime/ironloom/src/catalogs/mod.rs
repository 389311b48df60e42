//! Catalogs of apps as files: how they are made, and where they are found. Who may say what in them is in the crate
//! `trust`.
//!
//! | path | what it is |
//! | --- | --- |
//! | `root/N.json` | a root, from 1 on, each signed by keys of the one before |
//! | `index.json` | the index |
//! | `packages/HEX.app.tar` | a package, named after the SHA-256 of its file |
//! | `icons/HEX` | an icon, likewise |
//!
//! Files of packages, icons and roots never change, so that whoever keeps copies of them may keep them for good.

pub(crate) mod author;
pub(crate) mod bundle;
pub(crate) mod look;
pub(crate) mod registry;
pub(crate) mod source;
pub(crate) mod web;

use ironloom_types::ids::Digest;

/// The path of the index.
pub(crate) const INDEX: &str = "index.json";
/// The folder of the packages.
pub(crate) const PACKAGES: &str = "packages";
/// The folder of the icons.
pub(crate) const ICONS: &str = "icons";
/// The end of the name of a package's file.
pub(crate) const PACKAGE_ENDING: &str = ".app.tar";

/// The path of a root.
pub(crate) fn root_path(version: u64) -> String {
    format!("root/{version}.json")
}

/// The path of a package, by the digest of its file.
pub(crate) fn package_path(file: Digest) -> String {
    format!("{PACKAGES}/{}{PACKAGE_ENDING}", file.hex())
}

/// The path of an icon, by its digest.
pub(crate) fn icon_path(icon: Digest) -> String {
    format!("{ICONS}/{}", icon.hex())
}
