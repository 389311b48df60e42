//! Packages: one version of an app as one file, an OCI image layout in a tar.
//!
//! The config of the image is `app.toml` as it is, its one `application/wasm` layer the component.
//! A package's identity is the digest of the image manifest, which names everything else by digest.
//!
//! **Signatures** are further manifests in `index.json` whose `subject` is the image manifest: envelopes that cover its
//! exact bytes. They don't change the identity. Whatever else refers to the image is let in, with the blobs that it
//! names, and not looked at.

mod archive;
mod layout;
mod strict;
#[cfg(test)]
mod tests;

use bytes::Bytes;

use super::manifest::Manifest;
use super::problem::Problems;
use ironloom_trust::envelope::Envelope;
use ironloom_trust::key::SecretKey;
use ironloom_types::ids::Digest;
use ironloom_types::limits::MAX_PACKAGE;

/// The media type of `app.toml`, the image's config.
pub const MANIFEST_MEDIA_TYPE: &str = "application/vnd.ironloom.app.v1+toml";
/// The media type of the component.
pub const COMPONENT_MEDIA_TYPE: &str = "application/wasm";
/// The media type of an SBOM, a bill of materials: a CycloneDX document.
pub const SBOM_MEDIA_TYPE: &str = "application/vnd.cyclonedx+json";
/// The media type of a page to read.
pub const README_MEDIA_TYPE: &str = "text/markdown";
/// The media types of the other layers that a package may have.
pub const EXTRA_MEDIA_TYPES: [&str; 2] = [SBOM_MEDIA_TYPE, README_MEDIA_TYPE];

/// A package that was read and checked.
#[derive(Clone, Debug)]
pub struct Package {
    /// Its identity: the digest of the image manifest.
    pub digest: Digest,
    /// The app's manifest.
    pub manifest: Manifest,
    /// `app.toml` as it is.
    pub manifest_text: Bytes,
    /// The component. Only its first 8 bytes were looked at.
    pub component: Bytes,
    /// The digest of the component.
    pub component_digest: Digest,
    /// The other layers, in the order of the image manifest.
    pub extras: Vec<Extra>,
    /// The image manifest with its signatures, which were checked: they are by the keys that they name.
    pub signed: Envelope,
}

/// A layer that is not needed for running the app.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Extra {
    /// One of [`EXTRA_MEDIA_TYPES`].
    pub media_type: String,
    pub bytes: Bytes,
}

/// The reason why a file is not a package.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum PackageError {
    /// It is too large.
    #[error("the package has {size} bytes; at most {limit} are allowed")]
    TooLarge { size: usize, limit: usize },
    /// The tar is not as it must be.
    #[error("the package is not a strict ustar archive: {place}: {problem}")]
    Archive {
        /// The member or the place.
        place: String,
        problem: String,
    },
    /// The contents of the tar are malformed.
    #[error("the package is not an image layout with an app: {place}: {problem}")]
    Layout {
        /// The file or blob.
        place: String,
        problem: String,
    },
    /// A signature doesn't fit.
    #[error("{0}")]
    Signature(String),
    /// The component isn't a WebAssembly component.
    #[error("the package holds no component: {0}")]
    Component(&'static str),
    /// The manifest is not valid.
    #[error("app.toml in the package: {0}")]
    Manifest(Problems),
}

/// Reads a package and checks everything but the component's code.
///
/// # Errors
/// The first thing that is wrong with the file; everything that is wrong with its manifest.
pub fn read(tar: &Bytes) -> Result<Package, PackageError> {
    if tar.len() > MAX_PACKAGE {
        return Err(PackageError::TooLarge { size: tar.len(), limit: MAX_PACKAGE });
    }
    let image = layout::read(&archive::read(tar)?)?;
    let refuse =
        |problem: &str| PackageError::Layout { place: "app.toml".to_owned(), problem: problem.to_owned() };
    let text = std::str::from_utf8(&image.config).map_err(|_| refuse("is not UTF-8"))?;
    let manifest = Manifest::parse(text).map_err(PackageError::Manifest)?;
    check_component_header(&image.component).map_err(PackageError::Component)?;
    Ok(Package {
        digest: image.digest,
        manifest,
        component_digest: Digest::of(&image.component),
        manifest_text: image.config,
        component: image.component,
        extras: image.extras,
        signed: image.signed,
    })
}

/// Makes a package; the same bytes from the same input. Gives its identity and the file.
///
/// # Errors
/// Everything that `read` would refuse.
pub fn write(
    manifest_text: &str,
    component: &[u8],
    extras: &[(&str, &[u8])],
) -> Result<(Digest, Bytes), PackageError> {
    let tar = Bytes::from(pack(manifest_text.as_bytes(), component, extras));
    let package = read(&tar)?;
    Ok((package.digest, tar))
}

/// Adds a signature to a package, or repeats it; the same bytes from the same input. Its identity stays.
///
/// # Errors
/// Everything that `read` would refuse.
pub fn sign(tar: &Bytes, key: &SecretKey) -> Result<Bytes, PackageError> {
    let mut signed = read(tar)?.signed;
    signed.sign(key);
    with_signatures(tar, &signed)
}

/// Adds the signatures of another file of the same package; `None` where it is another package.
///
/// # Errors
/// Everything that `read` would refuse.
pub fn merge(tar: &Bytes, other: &Package) -> Result<Option<Bytes>, PackageError> {
    let mut signed = read(tar)?.signed;
    if signed.merge(&other.signed) { with_signatures(tar, &signed).map(Some) } else { Ok(None) }
}

fn with_signatures(tar: &Bytes, signed: &Envelope) -> Result<Bytes, PackageError> {
    let contents = layout::with_signatures(&archive::read(tar)?, signed)?;
    let tar = Bytes::from(archive::write(&contents));
    read(&tar)?;
    Ok(tar)
}

/// Packs whatever these parts are.
pub(crate) fn pack(manifest: &[u8], component: &[u8], extras: &[(&str, &[u8])]) -> Vec<u8> {
    archive::write(&layout::write(manifest, component, extras))
}

/// Returns what to tell somebody who sends WebAssembly where a package is expected; `None` for anything else.
pub fn not_packed(bytes: &[u8]) -> Option<&'static str> {
    if check_component_header(bytes).is_ok() {
        return Some(
            "this is a WebAssembly component and not a package yet; `ironloom pack FILE.wasm --manifest app.toml` makes one",
        );
    }
    bytes.starts_with(b"\0asm").then_some(
        "this is a WebAssembly module and not a package; build a component (such as for wasm32-wasip2), then \
         `ironloom pack FILE.wasm --manifest app.toml` makes a package of it",
    )
}

/// Looks at the first bytes of what should be a component, for an error that names the usual mistakes.
///
/// # Errors
/// The mistake: what these bytes are instead.
pub fn check_component_header(bytes: &[u8]) -> Result<(), &'static str> {
    match bytes.get(..8) {
        Some(b"\0asm\x0d\0\x01\0") => Ok(()),
        Some([0, b'a', b's', b'm', 1, 0, 0, 0]) => {
            Err("it is a core module; build for wasm32-wasip2, which makes components")
        }
        Some([0, b'a', b's', b'm', ..]) => {
            Err("it is WebAssembly of a version that this runtime doesn't know")
        }
        Some([0x7f, b'E', b'L', b'F', ..]) => Err("it is precompiled code; only WebAssembly is accepted"),
        _ => Err("it is not WebAssembly"),
    }
}
