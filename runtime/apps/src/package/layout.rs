//! What is in the tar: an OCI image layout with one image, whose config is a manifest and whose
//! layers are one component and pages beside it.

use std::collections::BTreeSet;
use std::fmt;

use bytes::Bytes;
use serde::de::{DeserializeOwned, Error as _, MapAccess, SeqAccess, Visitor};
use serde::{Deserialize, Deserializer, Serialize};
use serde_json::Value;

use super::archive::{Contents, INDEX, LAYOUT};
use super::{COMPONENT_MEDIA_TYPE, EXTRA_MEDIA_TYPES, Extra, MANIFEST_MEDIA_TYPE, PackageError};
use ironloom_types::ids::Digest;

const INDEX_MEDIA_TYPE: &str = "application/vnd.oci.image.index.v1+json";
const IMAGE_MEDIA_TYPE: &str = "application/vnd.oci.image.manifest.v1+json";
const LAYOUT_VERSION: &str = "1.0.0";
/// The largest JSON file of a package, in bytes.
const MAX_JSON: usize = 1 << 20;
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
}

impl Descriptor {
    fn of(media_type: &str, bytes: &[u8]) -> Self {
        Self { media_type: media_type.to_owned(), digest: Digest::of(bytes), size: bytes.len() as u64 }
    }
}

/// The one image of a package.
pub(super) struct Image {
    pub(super) digest: Digest,
    pub(super) config: Bytes,
    pub(super) component: Bytes,
    pub(super) extras: Vec<Extra>,
}

/// Lays out an image.
pub(super) fn write(config: &[u8], component: &[u8], extras: &[(&str, &[u8])]) -> Contents {
    let mut layers = vec![Descriptor::of(COMPONENT_MEDIA_TYPE, component)];
    layers.extend(extras.iter().map(|(media_type, bytes)| Descriptor::of(media_type, bytes)));
    let image = to_json(&ImageManifest {
        schema_version: 2,
        media_type: Some(IMAGE_MEDIA_TYPE.to_owned()),
        config: Descriptor::of(MANIFEST_MEDIA_TYPE, config),
        layers,
        subject: None,
    });
    let index = to_json(&Index {
        schema_version: 2,
        media_type: Some(INDEX_MEDIA_TYPE.to_owned()),
        manifests: vec![Descriptor::of(IMAGE_MEDIA_TYPE, &image)],
    });
    let layout = to_json(&LayoutFile { image_layout_version: LAYOUT_VERSION.to_owned() });
    let all = [config, component].into_iter().chain(extras.iter().map(|(_, bytes)| *bytes));
    let mut blobs: Vec<(Digest, Bytes)> =
        all.map(|bytes| (Digest::of(bytes), Bytes::copy_from_slice(bytes))).collect();
    blobs.push((Digest::of(&image), image));
    blobs.sort_by_key(|(digest, _)| *digest);
    blobs.dedup_by_key(|(digest, _)| *digest);
    Contents { layout, index, blobs }
}

fn to_json<T: Serialize>(value: &T) -> Bytes {
    // Structs of texts and numbers always have a JSON form; an empty file would be refused when the
    // package is read back.
    Bytes::from(serde_json::to_vec(value).unwrap_or_default())
}

fn refuse(place: impl Into<String>, problem: impl Into<String>) -> PackageError {
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

    let (digest, image) = read_manifests(&index, &mut blobs)?;
    let place = format!("image manifest {digest}");
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
    Ok(Image { digest, config, component, extras })
}

/// Reads all manifests of the index and gives the image: the one without a subject. The others must
/// have it as theirs.
fn read_manifests(index: &Index, blobs: &mut Blobs<'_>) -> Result<(Digest, ImageManifest), PackageError> {
    if index.manifests.len() > MAX_REFERRERS + 1 {
        let problem =
            format!("names {} manifests; at most {} are allowed", index.manifests.len(), MAX_REFERRERS + 1);
        return Err(refuse(INDEX, problem));
    }
    let mut found: Option<(&Descriptor, ImageManifest)> = None;
    let mut subjects = Vec::new();
    for descriptor in &index.manifests {
        if descriptor.media_type != IMAGE_MEDIA_TYPE {
            let problem = format!(
                "names a manifest of type {:?}, and must be {IMAGE_MEDIA_TYPE}",
                descriptor.media_type
            );
            return Err(refuse(INDEX, problem));
        }
        let place = format!("image manifest {}", descriptor.digest);
        let manifest: ImageManifest = from_json(&place, &blobs.take(INDEX, descriptor)?)?;
        check_kind(&place, manifest.schema_version, manifest.media_type.as_deref(), IMAGE_MEDIA_TYPE)?;
        if let Some(subject) = &manifest.subject {
            for part in manifest.layers.iter().chain([&manifest.config]) {
                blobs.take(&place, part)?;
            }
            subjects.push((place, subject.digest));
        } else if found.replace((descriptor, manifest)).is_some() {
            return Err(refuse(INDEX, "names two images; a package has one"));
        }
    }
    let (descriptor, image) = found.ok_or_else(|| refuse(INDEX, "names no image"))?;
    for (place, subject) in subjects {
        if subject != descriptor.digest {
            return Err(refuse(place, format!("its subject {subject} is not the image of this package")));
        }
    }
    Ok((descriptor.digest, image))
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

fn from_json<T: DeserializeOwned>(place: &str, bytes: &[u8]) -> Result<T, PackageError> {
    if bytes.len() > MAX_JSON {
        return Err(refuse(place, format!("has {} bytes; at most {MAX_JSON} are allowed", bytes.len())));
    }
    let value = serde_json::from_slice::<Strict>(bytes).and_then(|strict| serde_json::from_value(strict.0));
    value.map_err(|error| refuse(place, error.to_string()))
}

/// JSON in which no object has a key twice: readers differ in which of the two they take.
struct Strict(Value);

impl<'de> Deserialize<'de> for Strict {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_any(StrictVisitor).map(Strict)
    }
}

struct StrictVisitor;

impl<'de> Visitor<'de> for StrictVisitor {
    type Value = Value;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("JSON")
    }

    fn visit_bool<E>(self, value: bool) -> Result<Value, E> {
        Ok(value.into())
    }

    fn visit_i64<E>(self, value: i64) -> Result<Value, E> {
        Ok(value.into())
    }

    fn visit_u64<E>(self, value: u64) -> Result<Value, E> {
        Ok(value.into())
    }

    fn visit_f64<E>(self, value: f64) -> Result<Value, E> {
        Ok(value.into())
    }

    fn visit_str<E>(self, value: &str) -> Result<Value, E> {
        Ok(value.into())
    }

    fn visit_unit<E>(self) -> Result<Value, E> {
        Ok(Value::Null)
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut list: A) -> Result<Value, A::Error> {
        let mut values = Vec::new();
        while let Some(Strict(value)) = list.next_element()? {
            values.push(value);
        }
        Ok(values.into())
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Value, A::Error> {
        let mut object = serde_json::Map::new();
        while let Some(key) = map.next_key::<String>()? {
            let Strict(value) = map.next_value()?;
            if object.insert(key.clone(), value).is_some() {
                return Err(A::Error::custom(format!("the key {key:?} comes twice")));
            }
        }
        Ok(object.into())
    }
}
