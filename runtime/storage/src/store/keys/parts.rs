//! Parts of the names of keys: numbers, texts, and texts that are escaped, since something follows them.

use std::borrow::Cow;

/// One number of 32 bits, and nothing else.
pub(super) fn number(bytes: &[u8]) -> Option<u32> {
    Some(u32::from_be_bytes(bytes.try_into().ok()?))
}

/// So many numbers of 64 bits, and nothing else.
pub(super) fn numbers<const N: usize>(bytes: &[u8]) -> Option<[u64; N]> {
    let (parts, rest) = bytes.as_chunks::<8>();
    let parts: &[[u8; 8]; N] = parts.try_into().ok()?;
    rest.is_empty().then(|| parts.map(u64::from_be_bytes))
}

pub(super) fn text(bytes: &[u8]) -> Option<&str> {
    std::str::from_utf8(bytes).ok()
}

pub(super) fn write_escaped(bytes: &mut Vec<u8>, part: &[u8]) {
    for &byte in part {
        bytes.push(byte);
        if byte == 0 {
            bytes.push(0xff);
        }
    }
    bytes.extend_from_slice(&[0, 0]);
}

pub(super) fn read_escaped(bytes: &[u8]) -> Option<(Cow<'_, str>, &[u8])> {
    let mut part = Vec::new();
    let mut rest = bytes;
    loop {
        match rest {
            [0, 0, tail @ ..] => return Some((String::from_utf8(part).ok()?.into(), tail)),
            [0, 0xff, tail @ ..] => {
                part.push(0);
                rest = tail;
            }
            [0, ..] | [] => return None,
            [byte, tail @ ..] => {
                part.push(*byte);
                rest = tail;
            }
        }
    }
}
