//! Every value carries a checksum of our own, which covers its key too: so that a value that was damaged,
//! or came to stand under another key, is found when it is read.
//!
//! The bytes: CRC32C over key and value, u32 little-endian; the value.

use bytes::{Buf, Bytes};

use super::error::StoreError;
use super::keys::Key;

fn checksum(key: &Key, value: &[u8]) -> u32 {
    crc32c::crc32c_append(crc32c::crc32c(key.as_bytes()), value)
}

/// The bytes to store for a value.
pub(super) fn seal(key: &Key, value: &[u8]) -> Vec<u8> {
    let mut bytes = Vec::with_capacity(4 + value.len());
    bytes.extend_from_slice(&checksum(key, value).to_le_bytes());
    bytes.extend_from_slice(value);
    bytes
}

/// The value in stored bytes.
pub(super) fn open(key: &Key, mut bytes: Bytes) -> Result<Bytes, StoreError> {
    let damaged = |problem: &str| StoreError::Damaged { key: key.to_string(), problem: problem.to_owned() };
    let expected = bytes.try_get_u32_le().map_err(|_| damaged("it is too short for its checksum"))?;
    if checksum(key, &bytes) != expected {
        return Err(damaged("its checksum does not fit"));
    }
    Ok(bytes)
}

#[cfg(test)]
mod tests {
    use super::super::keys::Item;
    use super::*;
    use ironloom_types::ids::Generation;

    #[test]
    fn any_changed_bit_and_any_other_key_is_damage() {
        let key = Item::State(Generation(7), "a").key();
        let other = Item::State(Generation(7), "b").key();
        let sealed = seal(&key, b"value");
        assert_eq!(open(&key, sealed.clone().into()).unwrap(), Bytes::from_static(b"value"));
        assert!(open(&other, sealed.clone().into()).is_err());
        for bit in 0..sealed.len() * 8 {
            let mut bytes = sealed.clone();
            bytes[bit / 8] ^= 1 << (bit % 8);
            let error = open(&key, bytes.into()).unwrap_err().to_string();
            assert!(error.contains("state \"a\" of generation 7 (tenant 1)"), "{error}");
        }
        for length in 0..sealed.len() {
            assert!(open(&key, sealed[..length].to_vec().into()).is_err(), "{length}");
        }
    }

    #[test]
    fn the_bytes_are_these() {
        // CRC32C("123456789") is 0xe3069283 (RFC 3720, appendix B.4 uses the same polynomial).
        assert_eq!(crc32c::crc32c(b"123456789"), 0xe306_9283);
        let key = Item::Lane(Generation(1)).key();
        let mut covered = vec![32, 0, 0, 0, 1, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 1];
        assert_eq!(key.as_bytes(), covered);
        covered.extend_from_slice(b"xy");
        let mut expected = crc32c::crc32c(&covered).to_le_bytes().to_vec();
        expected.extend_from_slice(b"xy");
        assert_eq!(seal(&key, b"xy"), expected);
    }
}
