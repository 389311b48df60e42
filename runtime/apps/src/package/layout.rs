//! What is in the tar: an OCI image layout with one image, whose config is a manifest and whose
//! layers are one component and pages beside it.

use std::collections::BTreeSet;

use bytes::Bytes;
use serde::{Deserialize, Serialize};

use super::archive::{Contents, INDEX, LAYOUT};
use super::strict::from_json;
use super::{COMPONENT_MEDIA_TYPE, EXTRA_MEDIA_TYPES, Extra, MANIFEST_MEDIA_TYPE, PackageError};
use ironloom_trust::envelope::{self, Envelope, Kind, MAX_SIGNATURES};
use ironloom_types::ids::Digest;

const INDEX_MEDIA_TYPE: &str = "application/vnd.oci.image.index.v1+json";
const IMAGE_MEDIA_TYPE: &str = "application/vnd.oci.image.manifest.v1+json";
const LAYOUT_VERSION: &str = "1.0.0";
/// The type of a manifest that has a signature of the image.
const SIGNATURE_TYPE: &str = "application/vnd.ironloom.signature.v1";
/// The type of a config that says nothing, and what stands in it.
const EMPTY_TYPE: &str = "application/vnd.oci.empty.v1+json";
const EMPTY: &[u8] = b"{}";
/// The most manifests beside the image: signatures and the like.
const MAX_REFERRERS: usize = 64;
/// The most layers of an image.
const MAX_LAYERS: usize = 64;

#[derive(Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
struct LayoutFile {
    image_layout_version: String,
}

/// `index.json`. Fields that the image specification has besides are let in and not looked at.
#[derive(Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
struct Index {
    schema_version: u32,
    media_type: Option<String>,
    manifests: Vec<Descriptor>,
}

#[derive(Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
struct ImageManifest {
    schema_version: u32,
    media_type: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    artifact_type: Option<String>,
    config: Descriptor,
    layers: Vec<Descriptor>,
    #[serde(skip_serializing_if = "Option::is_none")]
    subject: Option<Descriptor>,
}

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
struct Descriptor {
    media_type: String,
    digest: Digest,
    size: u64,
    #[serde(skip_serializing_if = "Option::is_none")]
    artifact_type: Option<String>,
}

impl Descriptor {
    fn of(media_type: &str, bytes: &[u8]) -> Self {
        Self {
            media_type: media_type.to_owned(),
            digest: Digest::of(bytes),
            size: bytes.len() as u64,
            artifact_type: None,
        }
    }
}

/// The one image of a package.
pub(super) struct Image {
    pub(super) digest: Digest,
    pub(super) config: Bytes,
    pub(super) component: Bytes,
    pub(super) extras: Vec<Extra>,
    /// Its manifest, with the signatures of it.
    pub(super) signed: Envelope,
}

/// Lays out an image.
pub(super) fn write(config: &[u8], component: &[u8], extras: &[(&str, &[u8])]) -> Contents {
    let mut layers = vec![Descriptor::of(COMPONENT_MEDIA_TYPE, component)];
    layers.extend(extras.iter().map(|(media_type, bytes)| Descriptor::of(media_type, bytes)));
    let image = to_json(&ImageManifest {
        schema_version: 2,
        media_type: Some(IMAGE_MEDIA_TYPE.to_owned()),
        artifact_type: None,
        config: Descriptor::of(MANIFEST_MEDIA_TYPE, config),
        layers,
        subject: None,
    });
    let manifests = vec![Descriptor::of(IMAGE_MEDIA_TYPE, &image)];
    let all = [config, component].into_iter().chain(extras.iter().map(|(_, bytes)| *bytes));
    let blobs = all.map(Bytes::copy_from_slice).chain([image]);
    contents(manifests, blobs)
}

fn contents(manifests: Vec<Descriptor>, blobs: impl Iterator<Item = Bytes>) -> Contents {
    let media_type = Some(INDEX_MEDIA_TYPE.to_owned());
    let index = to_json(&Index { schema_version: 2, media_type, manifests });
    let layout = to_json(&LayoutFile { image_layout_version: LAYOUT_VERSION.to_owned() });
    let mut blobs: Vec<(Digest, Bytes)> = blobs.map(|bytes| (Digest::of(&bytes), bytes)).collect();
    blobs.sort_by_key(|(digest, _)| *digest);
    blobs.dedup_by_key(|(digest, _)| *digest);
    Contents { layout, index, blobs }
}

/// The layout of a package with other signatures: this envelope takes the place of those that it has. What other
/// tools have added stays.
pub(super) fn with_signatures(old: &Contents, signed: &Envelope) -> Result<Contents, PackageError> {
    let index: Index = from_json(INDEX, &old.index)?;
    let mut blobs = Blobs { all: &old.blobs, used: BTreeSet::new() };
    let mut manifests = Vec::new();
    for descriptor in index.manifests {
        if descriptor.artifact_type.as_deref() == Some(SIGNATURE_TYPE) {
            continue;
        }
        let place = format!("manifest {}", descriptor.digest);
        let manifest: ImageManifest = from_json(&place, &blobs.take(INDEX, &descriptor)?)?;
        for part in manifest.layers.iter().chain([&manifest.config]) {
            blobs.take(&place, part)?;
        }
        manifests.push(descriptor);
    }
    let image = manifests.iter().find(|descriptor| descriptor.artifact_type.is_none()).cloned();
    let envelope = Bytes::from(signed.to_json());
    let signature = to_json(&ImageManifest {
        schema_version: 2,
        media_type: Some(IMAGE_MEDIA_TYPE.to_owned()),
        artifact_type: Some(SIGNATURE_TYPE.to_owned()),
        config: Descriptor::of(EMPTY_TYPE, EMPTY),
        layers: vec![Descriptor::of(envelope::MEDIA_TYPE, &envelope)],
        subject: image,
    });
    let artifact_type = Some(SIGNATURE_TYPE.to_owned());
    manifests.push(Descriptor { artifact_type, ..Descriptor::of(IMAGE_MEDIA_TYPE, &signature) });
    let kept = old.blobs.iter().filter(|(digest, _)| blobs.used.contains(digest));
    let kept = kept.map(|(_, bytes)| bytes.clone());
    Ok(contents(manifests, kept.chain([signature, envelope, Bytes::from_static(EMPTY)])))
}

fn to_json<T: Serialize>(value: &T) -> Bytes {
    // Structs of texts and numbers always have a JSON form; an empty file would be refused when the
    // package is read back.
    Bytes::from(serde_json::to_vec(value).unwrap_or_default())
}

pub(super) fn refuse(place: impl Into<String>, problem: impl Into<String>) -> PackageError {
    PackageError::Layout { place: place.into(), problem: problem.into() }
}

/// Finds the image and checks that everything in the package belongs to it.
pub(super) fn read(contents: &Contents) -> Result<Image, PackageError> {
    let layout: LayoutFile = from_json(LAYOUT, &contents.layout)?;
    if layout.image_layout_version != LAYOUT_VERSION {
        let problem =
            format!("has version {:?}; this runtime reads {LAYOUT_VERSION}", layout.image_layout_version);
        return Err(refuse(LAYOUT, problem));
    }
    let index: Index = from_json(INDEX, &contents.index)?;
    check_kind(INDEX, index.schema_version, index.media_type.as_deref(), INDEX_MEDIA_TYPE)?;
    let mut blobs = Blobs { all: &contents.blobs, used: BTreeSet::new() };

    let (descriptor, bytes) = find_image(&index, &mut blobs)?;
    let digest = descriptor.digest;
    // The image's manifest is read behind its signatures: they cover its bytes.
    let signed = read_referrers(&index, descriptor, &bytes, &mut blobs)?;
    let place = format!("image manifest {digest}");
    let image: ImageManifest = from_json(&place, &bytes)?;
    check_kind(&place, image.schema_version, image.media_type.as_deref(), IMAGE_MEDIA_TYPE)?;
    if image.subject.is_some() {
        return Err(refuse(place, "has a subject, which only what refers to an image has"));
    }
    if image.config.media_type != MANIFEST_MEDIA_TYPE {
        let problem =
            format!("its config is of type {:?}, and must be {MANIFEST_MEDIA_TYPE}", image.config.media_type);
        return Err(refuse(place, problem));
    }
    let config = blobs.take(&place, &image.config)?;
    if image.layers.len() > MAX_LAYERS {
        return Err(refuse(
            place,
            format!("has {} layers; at most {MAX_LAYERS} are allowed", image.layers.len()),
        ));
    }
    let mut component = None;
    let mut extras = Vec::new();
    for layer in &image.layers {
        let bytes = blobs.take(&place, layer)?;
        let media_type = layer.media_type.as_str();
        if media_type == COMPONENT_MEDIA_TYPE {
            if component.replace(bytes).is_some() {
                return Err(refuse(
                    place,
                    format!("has two layers of type {COMPONENT_MEDIA_TYPE}; a package has one"),
                ));
            }
        } else if EXTRA_MEDIA_TYPES.contains(&media_type) {
            extras.push(Extra { media_type: media_type.to_owned(), bytes });
        } else {
            let allowed = EXTRA_MEDIA_TYPES.join(", ");
            let problem = format!(
                "has a layer of type {media_type:?}; besides {COMPONENT_MEDIA_TYPE} there may be {allowed}"
            );
            return Err(refuse(place, problem));
        }
    }
    let component =
        component.ok_or_else(|| refuse(place, format!("has no layer of type {COMPONENT_MEDIA_TYPE}")))?;
    blobs.check_all_used()?;
    Ok(Image { digest, config, component, extras, signed })
}

/// Finds the image: the one manifest that the index names without an artifact type.
fn find_image<'i>(index: &'i Index, blobs: &mut Blobs<'_>) -> Result<(&'i Descriptor, Bytes), PackageError> {
    if index.manifests.len() > MAX_REFERRERS + 1 {
        let problem =
            format!("names {} manifests; at most {} are allowed", index.manifests.len(), MAX_REFERRERS + 1);
        return Err(refuse(INDEX, problem));
    }
    if let Some(other) = index.manifests.iter().find(|one| one.media_type != IMAGE_MEDIA_TYPE) {
        let problem =
            format!("names a manifest of type {:?}, and must be {IMAGE_MEDIA_TYPE}", other.media_type);
        return Err(refuse(INDEX, problem));
    }
    let mut images = index.manifests.iter().filter(|descriptor| descriptor.artifact_type.is_none());
    let image = images.next().ok_or_else(|| refuse(INDEX, "names no image"))?;
    if images.next().is_some() {
        return Err(refuse(INDEX, "names two images; a package has one"));
    }
    Ok((image, blobs.take(INDEX, image)?))
}

/// Reads all other manifests of the index, which must have the image as their subject, and checks the signatures
/// among them.
fn read_referrers(
    index: &Index,
    image: &Descriptor,
    bytes: &Bytes,
    blobs: &mut Blobs<'_>,
) -> Result<Envelope, PackageError> {
    let mut signed = Envelope::new(Kind::Package, bytes.to_vec());
    let named: BTreeSet<Digest> = index.manifests.iter().map(|descriptor| descriptor.digest).collect();
    if named.len() < index.manifests.len() {
        return Err(refuse(INDEX, "names a manifest twice"));
    }
    for descriptor in &index.manifests {
        let Some(artifact_type) = &descriptor.artifact_type else { continue };
        let place = format!("manifest {}", descriptor.digest);
        let manifest: ImageManifest = from_json(&place, &blobs.take(INDEX, descriptor)?)?;
        check_kind(&place, manifest.schema_version, manifest.media_type.as_deref(), IMAGE_MEDIA_TYPE)?;
        match &manifest.subject {
            None => return Err(refuse(place, "has no subject")),
            Some(subject) if subject.digest != image.digest => {
                let problem = format!("its subject {} is not the image of this package", subject.digest);
                return Err(refuse(place, problem));
            }
            Some(_) => {}
        }
        blobs.take(&place, &manifest.config)?;
        let layers: Vec<Bytes> =
            manifest.layers.iter().map(|layer| blobs.take(&place, layer)).collect::<Result<_, _>>()?;
        if artifact_type == SIGNATURE_TYPE {
            let [envelope] = layers.as_slice() else {
                return Err(refuse(place, "has not exactly one layer, the signed envelope"));
            };
            let envelope = Envelope::read(Kind::Package, envelope)
                .map_err(|error| PackageError::Signature(error.to_string()))?;
            if signed.signers().chain(envelope.signers()).collect::<BTreeSet<_>>().len() > MAX_SIGNATURES {
                return Err(PackageError::Signature(format!(
                    "the package has signatures by more than {MAX_SIGNATURES} keys"
                )));
            }
            if !signed.merge(&envelope) {
                return Err(PackageError::Signature(
                    "the signature is that of another package, or of another version".to_owned(),
                ));
            }
        }
    }
    Ok(signed)
}

fn check_kind(
    place: &str,
    version: u32,
    media_type: Option<&str>,
    expected: &str,
) -> Result<(), PackageError> {
    if version != 2 {
        return Err(refuse(place, format!("has schema version {version}; this runtime reads 2")));
    }
    match media_type {
        Some(media_type) if media_type != expected => {
            Err(refuse(place, format!("is of type {media_type:?}, and must be {expected}")))
        }
        _ => Ok(()),
    }
}

/// The blobs, and which of them something names.
struct Blobs<'a> {
    all: &'a [(Digest, Bytes)],
    used: BTreeSet<Digest>,
}

impl Blobs<'_> {
    fn take(&mut self, place: &str, descriptor: &Descriptor) -> Result<Bytes, PackageError> {
        let digest = descriptor.digest;
        let Ok(index) = self.all.binary_search_by_key(&digest, |(digest, _)| *digest) else {
            return Err(refuse(place, format!("names the blob {digest}, which is not in the package")));
        };
        let bytes = &self.all[index].1;
        if bytes.len() as u64 != descriptor.size {
            let (size, is) = (descriptor.size, bytes.len());
            return Err(refuse(place, format!("says that {digest} has {size} bytes, and it has {is}")));
        }
        self.used.insert(digest);
        Ok(bytes.clone())
    }

    fn check_all_used(&self) -> Result<(), PackageError> {
        match self.all.iter().find(|(digest, _)| !self.used.contains(digest)) {
            Some((digest, _)) => Err(refuse(format!("blob {digest}"), "nothing names it")),
            None => Ok(()),
        }
    }
}
