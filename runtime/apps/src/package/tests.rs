//! Packages: what is taken, and what each refusal says.

use std::io::Read as _;

use proptest::prelude::*;
use serde_json::{Value, json};

use super::archive::Contents;
use super::*;
use ironloom_trust::envelope::Kind;

const MANIFEST: &str = "manifest = 1\nid = \"com.example.a\"\nname = \"A\"\nversion = \"1.2.3\"\n";
const COMPONENT: &[u8] = b"\0asm\x0d\0\x01\0 and the rest";
const BLOCK: usize = 512;

fn package() -> Vec<u8> {
    write(MANIFEST, COMPONENT, &[("text/markdown", b"# A\n")]).unwrap().1.to_vec()
}

fn error(tar: Vec<u8>) -> String {
    read(&Bytes::from(tar)).unwrap_err().to_string()
}

#[test]
fn a_package_reads_back_and_is_always_the_same_bytes() {
    let (digest, tar) = write(MANIFEST, COMPONENT, &[("text/markdown", b"# A\n")]).unwrap();
    assert_eq!(tar, package());
    let package = read(&tar).unwrap();
    assert_eq!(package.digest, digest);
    assert_eq!(package.manifest.id.as_str(), "com.example.a");
    assert_eq!(&package.manifest_text[..], MANIFEST.as_bytes());
    assert_eq!(&package.component[..], COMPONENT);
    assert_eq!(package.component_digest, Digest::of(COMPONENT));
    let page = Extra { media_type: "text/markdown".to_owned(), bytes: Bytes::from_static(b"# A\n") };
    assert_eq!(package.extras, [page]);
}

#[test]
fn a_bill_of_materials_comes_along_and_is_not_looked_at() {
    let bill = ("application/vnd.cyclonedx+json", &b"{\"bomFormat\":\"CycloneDX\""[..]);
    let (digest, tar) = write(MANIFEST, COMPONENT, &[bill]).unwrap();
    let package = read(&tar).unwrap();
    assert_eq!(package.digest, digest);
    assert_eq!(package.extras, [Extra { media_type: bill.0.to_owned(), bytes: Bytes::from_static(bill.1) }]);
}

#[test]
fn another_reader_finds_the_members_in_order_and_plain() {
    let tar = package();
    let mut archive = tar::Archive::new(&tar[..]);
    let mut names = Vec::new();
    for entry in archive.entries().unwrap() {
        let mut entry = entry.unwrap();
        let header = entry.header().clone();
        assert_eq!(header.entry_type(), tar::EntryType::Regular);
        let plain =
            (header.mode().unwrap(), header.uid().unwrap(), header.gid().unwrap(), header.mtime().unwrap());
        assert_eq!(plain, (0o644, 0, 0, 0));
        let name = entry.path().unwrap().display().to_string();
        let mut bytes = Vec::new();
        entry.read_to_end(&mut bytes).unwrap();
        if let Some(hex) = name.strip_prefix("blobs/sha256/") {
            assert_eq!(Digest::of(&bytes).hex(), hex);
        }
        names.push(name);
    }
    assert_eq!(names[..2], ["oci-layout", "index.json"]);
    // Image manifest, config, component, page.
    assert_eq!(names.len(), 6);
    assert!(names[2..].is_sorted());
    assert_eq!(tar.len() % BLOCK, 0);
    assert!(tar[tar.len() - 2 * BLOCK..].iter().all(|byte| *byte == 0));
}

/// Changes the header of the first member and makes its checksum right again.
fn with_header(change: impl FnOnce(&mut [u8])) -> Vec<u8> {
    let mut tar = package();
    change(&mut tar[..BLOCK]);
    tar[148..156].fill(b' ');
    let sum: u64 = tar[..BLOCK].iter().map(|byte| u64::from(*byte)).sum();
    tar[148..156].copy_from_slice(format!("{sum:06o}\0 ").as_bytes());
    tar
}

#[test]
fn a_header_that_is_not_strict_ustar_is_refused_with_the_reason() {
    // The way other tools write the checksum and the numbers of devices is fine.
    let other = with_header(|header| {
        header[329..337].copy_from_slice(b"0000000\0");
        header[337..345].copy_from_slice(b"0000000\0");
    });
    assert!(read(&Bytes::from(other)).is_ok());

    let refused = |expected: &str, change: fn(&mut [u8])| {
        let error = error(with_header(change));
        assert!(error.contains(expected), "{expected:?} is not in {error}");
    };
    refused("pax header", |header| header[156] = b'x');
    refused("pax header", |header| header[156] = b'g');
    refused("is a link", |header| header[156] = b'1');
    refused("is a link", |header| header[156] = b'2');
    refused("is a folder", |header| header[156] = b'5');
    refused("of type 'L'", |header| header[156] = b'L');
    refused("of type '\\0'", |header| header[156] = 0);
    refused("GNU tar", |header| header[257..265].copy_from_slice(b"ustar  \0"));
    refused("magic", |header| header[257..265].fill(0));
    refused("mode 755", |header| header[100..108].copy_from_slice(b"0000755\0"));
    refused("user id 1", |header| header[108..116].copy_from_slice(b"0000001\0"));
    refused("group id 1", |header| header[116..124].copy_from_slice(b"0000001\0"));
    refused("time 1", |header| header[136..148].copy_from_slice(b"00000000001\0"));
    refused("device", |header| header[329..337].copy_from_slice(b"0000001\0"));
    refused("link target", |header| header[157] = b'x');
    refused("user name", |header| header[265] = b'x');
    refused("group name", |header| header[297] = b'x');
    refused("prefix", |header| header[345] = b'x');
    refused("prefix", |header| header[511] = b'x');
    refused("bytes after its name", |header| header[50] = b'x');
    refused("size that is not an octal number", |header| header[124] = 0x80);
    refused("size that is not an octal number", |header| header[124..136].fill(0));
    refused("the file ends earlier", |header| header[124..136].copy_from_slice(b"77777777777\0"));
    refused("expected in its place", |header| header[..10].copy_from_slice(b"../etc/pwd"));
    refused("expected in its place", |header| header[..10].copy_from_slice(b"oci-Layout"));
}

#[test]
fn what_is_cut_off_or_goes_on_is_refused() {
    let tar = package();
    for length in [0, 1, 100, BLOCK, BLOCK + 3, tar.len() - 2 * BLOCK, tar.len() - BLOCK, tar.len() - 1] {
        let error = error(tar[..length].to_vec());
        assert!(error.contains("cut off") || error.contains("ends earlier"), "{length}: {error}");
    }
    let longer = |more: &[u8]| error([&tar[..], more].concat());
    assert!(longer(&[0]).contains("after the end"));
    assert!(longer(&[0; BLOCK]).contains("after the end"));
    let mut one_block_of_zeros = tar.clone();
    one_block_of_zeros[tar.len() - 1] = 1;
    assert!(error(one_block_of_zeros).contains("only one"));
    let mut padding = tar.clone();
    padding[2 * BLOCK - 1] = 1;
    assert!(error(padding).contains("padding"));
    let mut checksum = tar;
    checksum[0] = b'O';
    assert!(error(checksum).contains("wrong checksum"));
    let large = vec![0; MAX_PACKAGE + 1];
    assert!(error(large).contains("at most 67108864 are allowed"));
}

/// A package whose files can be changed one by one before it is put together.
#[derive(Clone)]
struct Parts {
    layout: Value,
    index: Value,
    image: Value,
    config: Vec<u8>,
    blobs: Vec<Vec<u8>>,
}

fn descriptor(media_type: &str, bytes: &[u8]) -> Value {
    json!({"mediaType": media_type, "digest": Digest::of(bytes).to_string(), "size": bytes.len()})
}

impl Parts {
    fn new() -> Self {
        let config = MANIFEST.as_bytes().to_vec();
        let image = json!({
            "schemaVersion": 2,
            "mediaType": "application/vnd.oci.image.manifest.v1+json",
            "config": descriptor("application/vnd.ironloom.app.v1+toml", &config),
            "layers": [descriptor("application/wasm", COMPONENT)],
            "annotations": {"org.opencontainers.image.title": "A"},
        });
        let index = json!({"schemaVersion": 2, "manifests": []});
        let blobs = vec![COMPONENT.to_vec()];
        Self { layout: json!({"imageLayoutVersion": "1.0.0"}), index, image, config, blobs }
    }

    fn contents(mut self) -> Contents {
        let image = serde_json::to_vec(&self.image).unwrap();
        let named = descriptor("application/vnd.oci.image.manifest.v1+json", &image);
        self.index["manifests"].as_array_mut().unwrap().insert(0, named);
        self.blobs.extend([image, self.config]);
        let mut blobs: Vec<_> =
            self.blobs.into_iter().map(|bytes| (Digest::of(&bytes), Bytes::from(bytes))).collect();
        blobs.sort_by_key(|(digest, _)| *digest);
        let file = |value: &Value| Bytes::from(serde_json::to_vec(value).unwrap());
        Contents { layout: file(&self.layout), index: file(&self.index), blobs }
    }

    fn read(self) -> Result<Package, PackageError> {
        read(&Bytes::from(archive::write(&self.contents())))
    }

    fn error(self) -> String {
        self.read().unwrap_err().to_string()
    }
}

#[track_caller]
fn refused(expected: &str, change: impl FnOnce(&mut Parts)) {
    let mut parts = Parts::new();
    change(&mut parts);
    let error = parts.error();
    assert!(error.contains(expected), "{expected:?} is not in {error}");
}

#[test]
fn an_image_that_is_no_app_is_refused_with_the_reason() {
    assert!(Parts::new().read().is_ok());
    refused("version \"2.0.0\"", |parts| parts.layout = json!({"imageLayoutVersion": "2.0.0"}));
    refused("missing field", |parts| parts.layout = json!({}));
    refused("schema version 1", |parts| parts.index["schemaVersion"] = json!(1));
    refused("names a manifest of type", |parts| {
        parts.index["manifests"] = json!([descriptor("application/vnd.oci.image.index.v1+json", b"{}")]);
        parts.blobs.push(b"{}".to_vec());
    });
    refused("its config is of type", |parts| parts.image["config"]["mediaType"] = json!("application/json"));
    refused("two layers of type application/wasm", |parts| {
        let second = b"\0asm\x0d\0\x01\0 another".to_vec();
        let layers = parts.image["layers"].as_array_mut().unwrap();
        layers.push(descriptor("application/wasm", &second));
        parts.blobs.push(second);
    });
    refused("two layers of type application/wasm", |parts| {
        let layers = parts.image["layers"].as_array_mut().unwrap();
        layers.push(layers[0].clone());
    });
    refused("has no layer of type application/wasm", |parts| {
        parts.image["layers"][0]["mediaType"] = json!("text/markdown");
    });
    refused("has a layer of type \"application/octet-stream\"", |parts| {
        let layers = parts.image["layers"].as_array_mut().unwrap();
        layers.push(descriptor("application/octet-stream", b"x"));
        parts.blobs.push(b"x".to_vec());
    });
    refused("nothing names it", |parts| parts.blobs.push(b"stowaway".to_vec()));
    refused("not in the package", |parts| parts.blobs.clear());
    refused("has 5 bytes, and it has", |parts| parts.image["layers"][0]["size"] = json!(5));
    refused("must begin with `sha256:`", |parts| parts.image["layers"][0]["digest"] = json!("md5:00"));
    refused("id: is missing", |parts| {
        parts.config = b"manifest = 1\nname = \"A\"\nversion = \"1.2.3\"\n".to_vec();
        parts.image["config"] = descriptor("application/vnd.ironloom.app.v1+toml", &parts.config);
    });
    refused("is not UTF-8", |parts| {
        parts.config = vec![0xff];
        parts.image["config"] = descriptor("application/vnd.ironloom.app.v1+toml", &parts.config);
    });
}

#[test]
fn what_is_no_component_is_named() {
    let with = |component: &[u8]| write(MANIFEST, component, &[]).unwrap_err().to_string();
    assert!(with(b"\0asm\x01\0\0\0").contains("core module"));
    assert!(with(b"\0asm\x0e\0\x01\0").contains("version"));
    assert!(with(b"\x7fELF\x02\x01\x01\0").contains("precompiled"));
    assert!(with(b"#!/bin/sh\n").contains("not WebAssembly"));
    assert!(with(b"").contains("not WebAssembly"));
}

#[test]
fn json_with_a_key_twice_is_refused() {
    let mut contents = Parts::new().contents();
    contents.index = Bytes::from_static(b"{\"schemaVersion\":2,\"manifests\":[],\"x\":{\"a\":1,\"a\":1}}");
    let error = read(&Bytes::from(archive::write(&contents))).unwrap_err().to_string();
    assert!(error.contains("the key \"a\" comes twice"), "{error}");
}

#[test]
fn blobs_stand_once_each_in_the_order_of_their_digests_under_their_own() {
    let read_again = |change: fn(&mut Contents)| {
        let mut contents = Parts::new().contents();
        change(&mut contents);
        read(&Bytes::from(archive::write(&contents))).unwrap_err().to_string()
    };
    assert!(read_again(|contents| contents.blobs.swap(0, 1)).contains("is out of place"));
    assert!(
        read_again(|contents| contents.blobs.insert(0, contents.blobs[0].clone())).contains("comes twice")
    );
    assert!(
        read_again(|contents| contents.blobs[0].1 = Bytes::from_static(b"x")).contains("different digest")
    );
}

const IMAGE: &str = "application/vnd.oci.image.manifest.v1+json";

/// Adds a manifest of this type with this subject and this layer.
fn refer(parts: &mut Parts, artifact_type: &str, subject: &Value, layer: Vec<u8>) {
    let empty = b"{}".to_vec();
    let manifest = serde_json::to_vec(&json!({
        "schemaVersion": 2,
        "mediaType": IMAGE,
        "artifactType": artifact_type,
        "config": descriptor("application/vnd.oci.empty.v1+json", &empty),
        "layers": [descriptor("application/vnd.dsse.envelope.v1+json", &layer)],
        "subject": subject,
    }))
    .unwrap();
    let mut named = descriptor(IMAGE, &manifest);
    named["artifactType"] = json!(artifact_type);
    parts.index["manifests"].as_array_mut().unwrap().push(named);
    parts.blobs.retain(|blob| *blob != empty);
    parts.blobs.extend([empty, layer, manifest]);
}

fn image(parts: &Parts) -> Vec<u8> {
    serde_json::to_vec(&parts.image).unwrap()
}

fn envelope(bytes: &[u8], key: &SecretKey) -> Vec<u8> {
    let mut envelope = Envelope::new(Kind::Package, bytes.to_vec());
    envelope.sign(key);
    envelope.to_json().into_bytes()
}

const SIGNATURE: &str = "application/vnd.ironloom.signature.v1";

#[test]
fn whatever_refers_to_the_image_is_let_in_and_changes_no_identity() {
    let unsigned = Parts::new().read().unwrap();
    let mut parts = Parts::new();
    let subject = descriptor(IMAGE, &image(&parts));
    refer(&mut parts, "application/vnd.example.review", &subject, b"fine".to_vec());
    assert_eq!(parts.read().unwrap().digest, unsigned.digest);
    refused("is not the image of this package", |parts| {
        let other = descriptor(IMAGE, b"something else");
        refer(parts, "application/vnd.example.review", &other, b"fine".to_vec());
    });
    refused("has no subject", |parts| refer(parts, SIGNATURE, &Value::Null, b"x".to_vec()));
    refused("names two images", |parts| {
        parts.blobs.push(b"{}".to_vec());
        parts.index["manifests"].as_array_mut().unwrap().push(descriptor(IMAGE, b"{}"));
    });
    refused("has a subject", |parts| {
        let subject = descriptor(IMAGE, b"{}");
        parts.image["subject"] = subject;
    });
}

#[test]
fn signatures_are_checked_before_anything_that_they_cover_is_read() {
    let (a, b) = (SecretKey::generate().unwrap(), SecretKey::generate().unwrap());
    let mut parts = Parts::new();
    let bytes = image(&parts);
    let subject = descriptor(IMAGE, &bytes);
    refer(&mut parts, SIGNATURE, &subject, envelope(&bytes, &a));
    refer(&mut parts, SIGNATURE, &subject, envelope(&bytes, &b));
    let package = parts.clone().read().unwrap();
    let signers: std::collections::BTreeSet<_> = package.signed.signers().collect();
    assert_eq!(signers, [a.public(), b.public()].into());

    let with = |layer: Vec<u8>| {
        let mut parts = Parts::new();
        refer(&mut parts, SIGNATURE, &subject, layer);
        parts.error()
    };
    let mut many = Envelope::new(Kind::Package, bytes.clone());
    (0..9).for_each(|_| many.sign(&SecretKey::generate().unwrap()));
    let mut others = Envelope::new(Kind::Package, bytes.clone());
    (0..9).for_each(|_| others.sign(&SecretKey::generate().unwrap()));
    let mut parts = Parts::new();
    refer(&mut parts, SIGNATURE, &subject, many.to_json().into_bytes());
    refer(&mut parts, SIGNATURE, &subject, others.to_json().into_bytes());
    assert!(parts.clone().error().contains("by more than 16 keys"));
    let again = parts.index["manifests"][0].clone();
    parts.index["manifests"].as_array_mut().unwrap().push(again);
    assert!(parts.error().contains("names a manifest twice"));
    let other = with(envelope(b"{}", &a));
    assert_eq!(other, "the signature is that of another package, or of another version");
    let renamed = String::from_utf8(envelope(&bytes, &a)).unwrap();
    let renamed = renamed.replace(&a.public().to_string(), &b.public().to_string());
    assert!(with(renamed.into_bytes()).contains("doesn't fit"));
    assert!(with(b"signature".to_vec()).contains("it is no signed package"));
    // The image is malformed, too, and that isn't even looked at.
    let mut parts = Parts::new();
    parts.image = json!("no image");
    let subject = descriptor(IMAGE, &image(&parts));
    refer(&mut parts, SIGNATURE, &subject, envelope(b"{}", &a));
    assert!(parts.error().contains("another package"));
}

#[test]
fn a_package_is_signed_by_one_after_the_other_in_any_order() {
    let (a, b) = (SecretKey::generate().unwrap(), SecretKey::generate().unwrap());
    let (digest, plain) = write(MANIFEST, COMPONENT, &[("text/markdown", b"# A\n")]).unwrap();
    let once = sign(&plain, &a).unwrap();
    let both = sign(&once, &b).unwrap();
    assert_eq!(both, sign(&sign(&plain, &b).unwrap(), &a).unwrap());
    assert_eq!(both, sign(&both, &a).unwrap());
    let by_b = read(&sign(&plain, &b).unwrap()).unwrap();
    assert_eq!(merge(&once, &by_b).unwrap(), Some(both.clone()));
    let (_, another) = write(MANIFEST, COMPONENT, &[]).unwrap();
    assert_eq!(merge(&another, &by_b).unwrap(), None);
    let package = read(&both).unwrap();
    assert_eq!((package.digest, package.extras.len()), (digest, 1));
    assert_eq!(package.signed.signers().count(), 2);
    assert_eq!(read(&plain).unwrap().signed.signers().count(), 0);
}

#[test]
fn what_other_tools_have_added_stays_beside_signatures() {
    let mut parts = Parts::new();
    let subject = descriptor(IMAGE, &image(&parts));
    refer(&mut parts, "application/vnd.example.review", &subject, b"fine".to_vec());
    let tar = Bytes::from(archive::write(&parts.contents()));
    let key = SecretKey::generate().unwrap();
    let signed = archive::read(&sign(&tar, &key).unwrap()).unwrap();
    assert!(signed.blobs.iter().any(|(_, bytes)| bytes.as_ref() == b"fine"));
    assert_eq!(signed.blobs.len(), archive::read(&tar).unwrap().blobs.len() + 2, "manifest and envelope");
}

proptest! {
    #[test]
    fn whatever_goes_in_comes_out(
        rest in prop::collection::vec(any::<u8>(), 0..2000),
        page in prop::option::of(prop::collection::vec(any::<u8>(), 0..600)),
    ) {
        let component = [b"\0asm\x0d\0\x01\0", &rest[..]].concat();
        let extras: Vec<(&str, &[u8])> = page.iter().map(|page| ("text/markdown", &page[..])).collect();
        let (digest, tar) = write(MANIFEST, &component, &extras).unwrap();
        let package = read(&tar).unwrap();
        prop_assert_eq!(package.digest, digest);
        prop_assert_eq!(&package.component[..], &component[..]);
        prop_assert_eq!(package.extras.first().map(|extra| extra.bytes.to_vec()), page);
    }

    #[test]
    fn a_changed_byte_is_refused_or_changes_nothing_that_counts(at in any::<prop::sample::Index>(), to in any::<u8>()) {
        let mut tar = package();
        let digest = read(&Bytes::from(tar.clone())).unwrap().digest;
        let at = at.index(tar.len());
        tar[at] = to;
        if let Ok(package) = read(&Bytes::from(tar)) {
            prop_assert_eq!(package.digest, digest);
            prop_assert_eq!(&package.component[..], COMPONENT);
        }
    }

    #[test]
    fn a_truncated_file_is_refused(length in any::<prop::sample::Index>()) {
        let mut tar = package();
        tar.truncate(length.index(tar.len()));
        prop_assert!(read(&Bytes::from(tar)).is_err());
    }

    #[test]
    fn random_bytes_are_refused(bytes in prop::collection::vec(any::<u8>(), 0..2048)) {
        prop_assert!(read(&Bytes::from(bytes)).is_err());
    }
}

#[test]
fn a_component_that_was_never_packed_is_told_as_one() {
    let wasm = Bytes::from([b"\0asm\x0d\0\x01\0".as_slice(), &[0; 2_048]].concat());
    let error = read(&wasm).unwrap_err().to_string();
    assert!(error.contains("this is a WebAssembly component"), "{error}");
    assert!(error.contains("ironloom pack"), "{error}");
    let module = Bytes::from_static(b"\0asm\x01\0\0\0");
    let error = read(&module).unwrap_err().to_string();
    assert!(error.contains("this is a WebAssembly module"), "shorter than a header: {error}");
}
