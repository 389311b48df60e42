//! Invariants for any bytes in place of a block's header. The fuzz target and the property test call this.

use crate::journal::BlockHeader;

/// Reads a header as it stands, and with a checksum that fits. A good one is within the bytes, and is the same when it
/// is written and read again.
pub fn block_header(bytes: &[u8]) {
    read_header(bytes);
    // Magic, length and checksum come first; the checksum is that of what follows, up to the length.
    let Some(length) = bytes.get(4..8).and_then(|length| length.try_into().ok()).map(u32::from_le_bytes)
    else {
        return;
    };
    if let Some(summed) = bytes.get(12..length as usize) {
        let mut fitting = bytes.to_vec();
        fitting[8..12].copy_from_slice(&crc32c::crc32c(summed).to_le_bytes());
        read_header(&fitting);
    }
}

fn read_header(bytes: &[u8]) {
    let Ok((header, length)) = BlockHeader::decode(bytes) else { return };
    assert!(length <= bytes.len(), "a header of {length} bytes in {}", bytes.len());
    let written = header.encode();
    assert!(
        written.is_ok_and(|written| BlockHeader::decode(&written).is_ok_and(|(again, _)| again == header)),
        "a header that can't be written again"
    );
}
