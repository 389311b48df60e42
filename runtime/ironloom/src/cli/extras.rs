//! The layers of a package that aren't needed for running its app: an SBOM, and a README.

use std::fmt;
use std::path::Path;

use anyhow::bail;
use serde::de::{SeqAccess, Visitor};
use serde::{Deserialize, Deserializer};

use super::failure::{Failure, Outcome};
use super::output;
use super::status::size;
use ironloom_apps::package::{Extra, Package, README_MEDIA_TYPE, SBOM_MEDIA_TYPE};
use ironloom_storage::small_files;
use ironloom_types::text::clean_lines;

/// The largest SBOM that goes into a package, in bytes; one of 1,000 crates has about 500 kB. A package of somebody else's may
/// have a larger one, which is not looked into.
pub(super) const MAX_SBOM: usize = 4 << 20;

/// Reads a file that is to be the SBOM of a package.
///
/// # Errors
/// A file that can't be read, is too large, or is not CycloneDX as JSON.
pub(super) fn read_sbom(path: &Path) -> anyhow::Result<Vec<u8>> {
    let bytes = small_files::read(path, MAX_SBOM as u64)?;
    if let Err(problem) = components(&bytes) {
        bail!(
            "{} {problem}; an SBOM is a CycloneDX document in its JSON form, as cyclonedx-py, cyclonedx-npm and similar \
             tools write it",
            path.display()
        );
    }
    Ok(bytes)
}

/// Names for `inspect` the further layers of a package, with a few words on each.
pub(super) fn in_words(package: &Package) -> Vec<(&'static str, String)> {
    package.extras.iter().map(extra_in_words).collect()
}

fn extra_in_words(extra: &Extra) -> (&'static str, String) {
    let bytes = size(extra.bytes.len() as u64);
    if extra.media_type != SBOM_MEDIA_TYPE {
        return ("README", bytes);
    }
    if extra.bytes.len() > MAX_SBOM {
        return ("SBOM", format!("{bytes}, too large to look into"));
    }
    let words = match components(&extra.bytes) {
        Ok(count) => format!("CycloneDX, {}", output::counted(count, "component")),
        Err(problem) => format!("{bytes}, which {problem}"),
    };
    ("SBOM", words)
}

/// Prints the SBOM of a package, byte for byte where no terminal shows it.
pub(super) fn print_sbom(file: &Path, package: &Package) -> Outcome {
    output::bytes(&first(file, package, SBOM_MEDIA_TYPE, "SBOM")?.bytes)
}

/// Prints the README of a package.
pub(super) fn print_readme(file: &Path, package: &Package) -> Outcome {
    let page = first(file, package, README_MEDIA_TYPE, "README")?;
    let page = String::from_utf8_lossy(&page.bytes);
    output::print(&format!("{}\n", clean_lines(page.trim_end())))
}

fn first<'a>(file: &Path, package: &'a Package, media_type: &str, name: &str) -> Result<&'a Extra, Failure> {
    let found = package.extras.iter().find(|extra| extra.media_type == media_type);
    found.ok_or_else(|| Failure::File(format!("{} has no {name}", file.display())))
}

/// The reason why bytes are no SBOM.
#[derive(Debug, thiserror::Error)]
enum NotCycloneDx {
    #[error("is not JSON: {0}")]
    Json(serde_json::Error),
    #[error("is not CycloneDX: {0}")]
    Form(serde_json::Error),
    #[error("is not CycloneDX: its bomFormat is {0:?} and not \"CycloneDX\"")]
    Other(String),
}

/// Counts the components of a CycloneDX document, with those within others.
fn components(bytes: &[u8]) -> Result<u64, NotCycloneDx> {
    #[derive(Deserialize)]
    #[serde(rename_all = "camelCase")]
    struct Document {
        bom_format: String,
        #[serde(default)]
        components: Count,
    }
    let document: Document = serde_json::from_slice(bytes).map_err(|error| match error.is_data() {
        true => NotCycloneDx::Form(error),
        false => NotCycloneDx::Json(error),
    })?;
    if document.bom_format != "CycloneDX" {
        return Err(NotCycloneDx::Other(document.bom_format));
    }
    Ok(document.components.0)
}

/// A list of components, of which only the number is kept: a document could have a million.
#[derive(Default)]
struct Count(u64);

impl<'de> Deserialize<'de> for Count {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_seq(Counter)
    }
}

struct Counter;

impl<'de> Visitor<'de> for Counter {
    type Value = Count;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a list of components")
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut list: A) -> Result<Count, A::Error> {
        #[derive(Deserialize)]
        struct Component {
            #[serde(default)]
            components: Count,
        }
        let mut count = 0;
        while let Some(Component { components }) = list.next_element()? {
            count += 1 + components.0;
        }
        Ok(Count(count))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn words(media_type: &str, bytes: &[u8]) -> (&'static str, String) {
        extra_in_words(&Extra { media_type: media_type.to_owned(), bytes: bytes.to_vec().into() })
    }

    #[test]
    fn inspect_says_what_further_layers_a_package_has() {
        let said = |bytes: &[u8]| words(SBOM_MEDIA_TYPE, bytes);
        assert_eq!(words(README_MEDIA_TYPE, &[b'a'; 4_200]), ("README", "4.1 KiB".to_owned()));
        assert_eq!(said(br#"{"bomFormat":"CycloneDX"}"#).1, "CycloneDX, 0 components");
        let one = br#"{"bomFormat":"CycloneDX","components":[{"name":"a","licenses":[]}],"version":1}"#;
        assert_eq!(said(one), ("SBOM", "CycloneDX, 1 component".to_owned()));
        let within =
            br#"{"bomFormat":"CycloneDX","components":[{"components":[{},{"components":[{}]}]},{}]}"#;
        assert_eq!(said(within).1, "CycloneDX, 5 components");
        assert_eq!(
            said(br#"{"bomFormat":"CycloneDX","components":4}"#).1,
            "40 B, which is not CycloneDX: invalid type: integer `4`, expected a list of components at line 1 column 39"
        );
        let mut large = br#"{"bomFormat":"CycloneDX"}"#.to_vec();
        large.resize(MAX_SBOM + 1, b' ');
        assert_eq!(said(&large[..MAX_SBOM]).1, "CycloneDX, 0 components");
        assert_eq!(said(&large).1, "4.0 MiB, too large to look into");
    }

    #[test]
    fn components_in_each_other_without_end_are_refused() {
        let deep = format!("{{\"bomFormat\":\"CycloneDX\",{}", "\"components\":[{".repeat(100_000));
        let said = words(SBOM_MEDIA_TYPE, deep.as_bytes()).1;
        assert!(said.contains("is not JSON: recursion limit exceeded"), "{said}");
    }

    #[test]
    fn a_file_that_is_no_sbom_is_refused_with_the_reason() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("sbom.json");
        let told = |bytes: &[u8]| {
            std::fs::write(&path, bytes).unwrap();
            read_sbom(&path).unwrap_err().to_string()
        };
        let name = path.display();
        let told_xml = told(b"<bom/>");
        assert!(told_xml.starts_with(&format!("{name} is not JSON: expected value at line 1")), "{told_xml}");
        assert!(told_xml.contains("an SBOM is a CycloneDX document in its JSON form"), "{told_xml}");
        assert!(
            told(b"{\"spdxVersion\":\"SPDX-2.3\"}").contains("is not CycloneDX: missing field `bomFormat`")
        );
        assert!(
            told(b"{\"bomFormat\":\"SPDX\"}").contains("its bomFormat is \"SPDX\" and not \"CycloneDX\"")
        );
        assert!(told(b"[]").contains("is not CycloneDX"));
        assert!(told(b"").contains("is not JSON"));
        assert_eq!(
            told(&vec![b' '; MAX_SBOM + 1]),
            format!("{name} has 4194305 bytes; at most 4194304 are allowed")
        );
        std::fs::remove_file(&path).unwrap();
        let gone = read_sbom(&path).unwrap_err().to_string();
        assert!(gone.starts_with(&format!("{name} can't be read: No such file")), "{gone}");
        std::fs::write(&path, b"{\"bomFormat\":\"CycloneDX\"}").unwrap();
        assert_eq!(read_sbom(&path).unwrap(), b"{\"bomFormat\":\"CycloneDX\"}");
    }
}
