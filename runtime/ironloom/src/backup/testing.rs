//! Headers of tar archives as a stranger may write them, for tests.

/// A header that claims so many bytes.
pub(crate) fn header(kind: tar::EntryType, name: &str, claims: u64) -> tar::Header {
    let mut header = tar::Header::new_gnu();
    header.as_mut_bytes()[..name.len()].copy_from_slice(name.as_bytes());
    header.set_entry_type(kind);
    header.set_mode(0o600);
    header.set_size(claims);
    header.set_cksum();
    header
}

/// A file of zeros alone, of which none is in the archive.
pub(crate) fn sparse(name: &str, claims: u64) -> tar::Header {
    let mut header = header(tar::EntryType::GNUSparse, name, 0);
    // As GNU tar writes large numbers: a set bit, and the number in binary.
    let number = [&[0x80, 0, 0, 0][..], &claims.to_be_bytes()].concat();
    // The one piece that isn't left out has no bytes, and lies at the end; then the length of the whole.
    header.as_mut_bytes()[386..398].copy_from_slice(&number);
    header.as_mut_bytes()[398..410].copy_from_slice(b"00000000000\0");
    header.as_mut_bytes()[483..495].copy_from_slice(&number);
    header.set_cksum();
    header
}
