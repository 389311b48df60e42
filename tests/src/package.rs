//! Writes packages from the description of their format, without the runtime's code, so that the
//! two check each other; and writes wrong ones, which the runtime's writer can't.

use anyhow::{Context as _, Result};
use serde_json::{Value, json};
use sha2::{Digest, Sha256};

/// The type of the image's config.
pub const MANIFEST: &str = "application/vnd.ironloom.app.v1+toml";
/// The type of the component.
pub const WASM: &str = "application/wasm";
/// The type of an SBOM.
pub const SBOM: &str = "application/vnd.cyclonedx+json";
const IMAGE: &str = "application/vnd.oci.image.manifest.v1+json";
const INDEX: &str = "application/vnd.oci.image.index.v1+json";

/// The members of a tar: name and bytes, in order.
pub type Members = Vec<(String, Vec<u8>)>;

/// A package's parts, to be changed before they are written.
#[derive(Clone, Debug)]
pub struct Package {
    pub manifest: String,
    /// The layers: type and bytes.
    pub layers: Vec<(String, Vec<u8>)>,
    /// Blobs that nothing names.
    pub stray: Vec<Vec<u8>>,
}

/// The package of a manifest and a component.
pub fn pack(manifest: &str, component: &[u8]) -> Package {
    Package {
        manifest: manifest.to_owned(),
        layers: vec![(WASM.to_owned(), component.to_owned())],
        stray: Vec::new(),
    }
}

/// `sha256:` and the digest in hexadecimal.
pub fn digest(bytes: &[u8]) -> String {
    let hex: String = Sha256::digest(bytes).iter().map(|byte| format!("{byte:02x}")).collect();
    format!("sha256:{hex}")
}

impl Package {
    fn image(&self) -> Vec<u8> {
        let layers: Vec<Value> = self.layers.iter().map(|(kind, bytes)| descriptor(kind, bytes)).collect();
        let config = descriptor(MANIFEST, self.manifest.as_bytes());
        // The order of the fields is that of the image specification; `json!` would sort them.
        let layers = layers.iter().map(descriptor_text).collect::<Vec<_>>().join(",");
        let config = descriptor_text(&config);
        format!(r#"{{"schemaVersion":2,"mediaType":"{IMAGE}","config":{config},"layers":[{layers}]}}"#)
            .into_bytes()
    }

    /// The package's identity.
    pub fn digest(&self) -> String {
        digest(&self.image())
    }

    /// The members of the tar, in order.
    pub fn members(&self) -> Members {
        let image = self.image();
        let manifests = descriptor_text(&descriptor(IMAGE, &image));
        let index = format!(r#"{{"schemaVersion":2,"mediaType":"{INDEX}","manifests":[{manifests}]}}"#);
        let mut blobs: Vec<(String, Vec<u8>)> = self
            .layers
            .iter()
            .map(|(_, bytes)| bytes.clone())
            .chain([self.manifest.as_bytes().to_vec(), image])
            .chain(self.stray.iter().cloned())
            .map(|bytes| (digest(&bytes).replace("sha256:", "blobs/sha256/"), bytes))
            .collect();
        blobs.sort();
        blobs.dedup();
        let mut members = vec![
            ("oci-layout".to_owned(), br#"{"imageLayoutVersion":"1.0.0"}"#.to_vec()),
            ("index.json".to_owned(), index.into_bytes()),
        ];
        members.extend(blobs);
        members
    }

    /// The bytes of the file.
    pub fn tar(&self) -> Vec<u8> {
        tar(&self.members())
    }
}

fn descriptor(kind: &str, bytes: &[u8]) -> Value {
    json!({"mediaType": kind, "digest": digest(bytes), "size": bytes.len()})
}

fn descriptor_text(descriptor: &Value) -> String {
    let (kind, digest, size) = (&descriptor["mediaType"], &descriptor["digest"], &descriptor["size"]);
    format!(r#"{{"mediaType":{kind},"digest":{digest},"size":{size}}}"#)
}

/// The members of a tar that [`tar`] or the runtime wrote.
pub fn members(tar: &[u8]) -> Result<Members> {
    let mut members = Vec::new();
    let mut at = 0;
    while let Some(header) = tar.get(at..at + 512).filter(|header| header[0] != 0) {
        let text = |from: usize, to: usize| -> Result<&str> {
            let field = &header[from..to];
            let end = field.iter().position(|byte| *byte == 0).unwrap_or(field.len());
            Ok(std::str::from_utf8(&field[..end])?)
        };
        let size = usize::from_str_radix(text(124, 136)?, 8)?;
        let bytes = tar.get(at + 512..at + 512 + size).context("a member is cut off")?;
        members.push((text(0, 100)?.to_owned(), bytes.to_vec()));
        at = (at + 512 + size).next_multiple_of(512);
    }
    Ok(members)
}

/// A signed package with other bytes in the place of its signed envelope, and all digests that lead there.
pub fn with_envelope(tar: &[u8], envelope: &[u8]) -> Result<Members> {
    let mut members = members(tar)?;
    let is_envelope = |(_, bytes): &(String, Vec<u8>)| bytes.starts_with(b"{\"payloadType\"");
    let mut at = members.iter().position(is_envelope).context("it isn't signed")?;
    let mut new = envelope.to_vec();
    // The envelope is named by the manifest of the signature, that by the index, which has no digest.
    loop {
        let (old_size, new_size) = (members[at].1.len(), new.len());
        let old = std::mem::replace(&mut members[at].1, new);
        if members[at].0 == "index.json" {
            break;
        }
        members[at].0 = digest(&members[at].1).replace("sha256:", "blobs/sha256/");
        let (was, is) = (digest(&old), digest(&members[at].1));
        let names = |(_, bytes): &(String, Vec<u8>)| contains(bytes, was.as_bytes());
        at = members.iter().position(names).context("nothing names it")?;
        let text = String::from_utf8(members[at].1.clone())?;
        let sized = |digest: &str, size: usize| format!("\"digest\":\"{digest}\",\"size\":{size}");
        new = text.replace(&sized(&was, old_size), &sized(&is, new_size)).into_bytes();
    }
    members[2..].sort();
    Ok(members)
}

fn contains(bytes: &[u8], part: &[u8]) -> bool {
    bytes.windows(part.len()).any(|window| window == part)
}

/// A tar of these members: ustar, mode 0644, ids and time 0, two zero blocks at the end.
pub fn tar(members: &[(String, Vec<u8>)]) -> Vec<u8> {
    let mut out = Vec::new();
    for (name, bytes) in members {
        out.extend_from_slice(&tar_header(name, bytes.len(), b'0'));
        out.extend_from_slice(bytes);
        out.resize(out.len().next_multiple_of(512), 0);
    }
    out.resize(out.len() + 1024, 0);
    out
}

/// One header of a tar. `kind` is `b'0'` for a file.
pub fn tar_header(name: &str, size: usize, kind: u8) -> [u8; 512] {
    let mut header = [0_u8; 512];
    let mut put = |at: usize, text: &str| header[at..at + text.len()].copy_from_slice(text.as_bytes());
    put(0, name);
    put(100, "0000644\0");
    put(108, "0000000\0");
    put(116, "0000000\0");
    put(124, &format!("{size:011o}\0"));
    put(136, "00000000000\0");
    put(148, "        ");
    put(257, "ustar\x0000");
    header[156] = kind;
    let sum: u32 = header.iter().map(|&byte| u32::from(byte)).sum();
    header[148..156].copy_from_slice(format!("{sum:06o}\0 ").as_bytes());
    header
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_identity_is_the_digest_of_the_image_manifest() {
        let package = pack("manifest = 1\n", b"\0asm");
        let members = package.members();
        assert_eq!(members.len(), 5);
        let place = package.digest().replace("sha256:", "blobs/sha256/");
        assert!(members.iter().any(|(name, _)| *name == place));
        assert!(package.tar().len().is_multiple_of(512));
        assert_eq!(
            digest(b"abc"),
            "sha256:ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad",
            "the example of FIPS 180-2"
        );
    }
}
