//! Packages of components, and components that are refused.

use std::fs;

use super::*;

const MANIFEST: &str = "manifest = 1\nid = \"com.example.gauge\"\nname = \"Gauge\"\nversion = \"1.2.3\"\n";
const INPUT: &str = "[inputs.level]\ntype = \"real\"\n";

/// A folder with a manifest and a component that exports the role of readings and imports these.
fn folder(manifest: &str, imports: &[&str]) -> tempfile::TempDir {
    let folder = tempfile::tempdir().unwrap();
    let imports: String = imports.iter().map(|name| format!("(import \"{name}\" (instance))")).collect();
    let text = format!(
        "(component {imports} (component $made) (instance $made (instantiate $made)) \
         (export \"ironloom:feeds/readings@0.1.0\" (instance $made)))"
    );
    fs::write(folder.path().join("app.wasm"), wat::parse_str(text).unwrap()).unwrap();
    fs::write(folder.path().join("app.toml"), manifest).unwrap();
    folder
}

fn pack(folder: &Path, output: Option<PathBuf>) -> Result<(), String> {
    pack_with(folder, None, output)
}

fn pack_with(folder: &Path, sbom: Option<PathBuf>, output: Option<PathBuf>) -> Result<(), String> {
    let (component, manifest) = (folder.join("app.wasm"), folder.join("app.toml"));
    run(&PackArgs { component, manifest, sbom, output }, true).map_err(|error| format!("{error:#}"))
}

#[test]
fn a_package_lies_beside_its_component_and_holds_manifest_component_and_readme() {
    let folder = folder(&format!("{MANIFEST}{INPUT}"), &["ironloom:state/state@0.1.0"]);
    let folder = folder.path();
    fs::write(folder.join("README.md"), "# Gauge\n").unwrap();
    pack(folder, None).unwrap();
    pack(folder, Some(folder.join("new/other.tar"))).unwrap();
    let bytes = fs::read(folder.join("gauge-1.2.3.app.tar")).unwrap();
    assert_eq!(bytes, fs::read(folder.join("new/other.tar")).unwrap(), "the same input gives the same bytes");
    let read = package::read(&bytes.into()).unwrap();
    assert_eq!(read.component, fs::read(folder.join("app.wasm")).unwrap());
    assert_eq!(read.manifest.id.as_str(), "com.example.gauge");
    assert_eq!(read.extras[0].bytes, "# Gauge\n");
    assert_eq!(read.extras.len(), 1);
}

#[test]
fn an_sbom_that_is_named_goes_into_the_package() {
    let folder = folder(&format!("{MANIFEST}{INPUT}"), &[]);
    let folder = folder.path();
    let sbom = folder.join("sbom.json");
    fs::write(folder.join("README.md"), "# Gauge\n").unwrap();
    fs::write(&sbom, "{\"bomFormat\": \"CycloneDX\", \"specVersion\": \"1.6\"}").unwrap();
    pack_with(folder, Some(sbom.clone()), None).unwrap();
    let bytes = fs::read(folder.join("gauge-1.2.3.app.tar")).unwrap();
    let extras = package::read(&bytes.into()).unwrap().extras;
    let found: Vec<_> = extras.iter().map(|extra| (extra.media_type.as_str(), &extra.bytes[..])).collect();
    let expected = [
        ("application/vnd.cyclonedx+json", &b"{\"bomFormat\": \"CycloneDX\", \"specVersion\": \"1.6\"}"[..]),
        ("text/markdown", b"# Gauge\n"),
    ];
    assert_eq!(found, expected);

    fs::write(&sbom, "{}").unwrap();
    let error = pack_with(folder, Some(sbom), Some(folder.join("other.tar"))).unwrap_err();
    assert!(error.contains("sbom.json is not CycloneDX"), "{error}");
    assert!(!folder.join("other.tar").exists());
}

#[test]
fn all_that_install_would_refuse_is_refused_at_once() {
    let imports = ["ironloom:outputs/outputs@0.1.0", "wasi:http/types@0.2.0"];
    let folder = folder(&format!("{MANIFEST}{INPUT}"), &imports);
    let folder = folder.path();
    let error = pack(folder, None).unwrap_err();
    for part in ["app.toml: ", "add an [outputs.NAME] section", "wasi:http/types@0.2.0"] {
        assert!(error.contains(part), "{error}");
    }
    assert!(!folder.join("gauge-1.2.3.app.tar").exists());
    fs::write(folder.join("app.toml"), "manifest = 1\n").unwrap();
    let error = pack(folder, None).unwrap_err();
    assert!(error.contains("app.toml") && error.contains("version"), "{error}");
}

#[test]
fn files_that_are_no_component_are_named_with_the_reason() {
    let folder = folder(&format!("{MANIFEST}{INPUT}"), &[]);
    let folder = folder.path();
    let component = folder.join("app.wasm");
    fs::write(&component, b"\0asm\x01\0\0\0").unwrap();
    let error = pack(folder, None).unwrap_err();
    assert!(error.contains("app.wasm: it is a core module"), "{error}");
    fs::write(&component, b"\0asm\x0d\0\x01\0\xff").unwrap();
    let error = pack(folder, None).unwrap_err();
    assert!(error.contains("app.wasm is not valid"), "{error}");
    fs::File::create(&component).unwrap().set_len(MAX_PACKAGE as u64 + 1).unwrap();
    let error = pack(folder, None).unwrap_err();
    assert!(error.contains("app.wasm has 67108865 bytes"), "{error}");
    let manifest = folder.join("app.toml");
    fs::File::options().write(true).open(&manifest).unwrap().set_len(1 << 40).unwrap();
    let error = pack(folder, None).unwrap_err();
    assert!(error.ends_with("app.toml has 1099511627776 bytes; at most 262144 are allowed"), "{error}");
    fs::write(&manifest, format!("{MANIFEST}{INPUT}")).unwrap();
    fs::remove_file(&component).unwrap();
    let error = pack(folder, None).unwrap_err();
    assert!(error.contains("can't read") && error.contains("app.wasm"), "{error}");
}
