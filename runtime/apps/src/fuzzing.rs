//! Invariants for any bytes that somebody uploads as a package or a manifest. The fuzz targets and the property
//! tests call this.

use bytes::Bytes;

use crate::manifest::Manifest;
use crate::package::{self, PackageError};

/// Reads a package. A good one has only what stood in the file; a refusal has words.
pub fn package(bytes: &[u8]) {
    let tar = Bytes::copy_from_slice(bytes);
    match package::read(&tar) {
        Ok(package) => {
            let extras: usize = package.extras.iter().map(|extra| extra.bytes.len()).sum();
            let all = package.manifest_text.len() + package.component.len() + extras;
            assert!(all <= bytes.len(), "{all} bytes came out of {}", bytes.len());
            assert!(package::check_component_header(&package.component).is_ok());
        }
        Err(PackageError::Manifest(problems)) => {
            assert!(!problems.0.is_empty(), "a refusal without a reason")
        }
        Err(error) => assert!(error.to_string().len() > 10, "a refusal without a reason"),
    }
}

/// Packs these parts, with the digests that they have, and reads the package. What a change does to any part is then
/// looked at, and not only that its digest differs.
pub fn packed(manifest: &[u8], component: &[u8], extra: &[u8]) {
    package(&package::pack(manifest, component, &[("text/markdown", extra)]));
}

/// Reads a manifest. A refusal has reasons, and their places are in the text.
pub fn manifest(bytes: &[u8]) {
    let Ok(text) = std::str::from_utf8(bytes) else { return };
    let Err(problems) = Manifest::parse(text) else { return };
    assert!(!problems.0.is_empty(), "a refusal without a reason");
    let lines = text.matches('\n').count() + 1;
    for problem in problems.0 {
        assert!(!problem.message.is_empty());
        assert!(problem.line.is_none_or(|line| (1..=lines).contains(&(line as usize))), "{problem:?}");
    }
}

#[cfg(test)]
mod tests {
    use ironloom_mutate::mutated;
    use proptest::prelude::*;

    const PIGS: &str = include_str!("../../../sample-apps/pigs/app.toml");

    const COMPONENT: &[u8] = b"\0asm\x0d\0\x01\0 and the rest";

    fn good_package() -> Vec<u8> {
        crate::package::write(PIGS, COMPONENT, &[("text/markdown", b"# A\n")]).unwrap().1.to_vec()
    }

    proptest! {
        #[test]
        fn any_bytes_are_a_package_or_refused_with_a_reason(bytes in mutated(vec![good_package()])) {
            super::package(&bytes);
        }

        #[test]
        fn any_parts_make_a_package_or_are_refused_with_a_reason(
            manifest in mutated(vec![PIGS.as_bytes().to_vec()]),
            component in mutated(vec![COMPONENT.to_vec()]),
            extra in mutated(vec![b"# A\n".to_vec()]),
        ) {
            super::packed(&manifest, COMPONENT, &extra);
            super::packed(PIGS.as_bytes(), &component, &extra);
        }

        #[test]
        fn any_text_is_a_manifest_or_refused_with_places(bytes in mutated(vec![PIGS.as_bytes().to_vec()])) {
            super::manifest(&bytes);
        }
    }
}
