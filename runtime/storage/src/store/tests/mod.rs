//! What the parts of the store must do together, on both engines.

mod cache;
mod full;
mod keys;
mod kill;
mod suite;

use std::sync::Arc;

use bytes::Bytes;

use super::*;

fn open_in(kind: EngineKind, folder: &Path) -> Arc<dyn Storage> {
    super::open(kind, folder, 16 << 20).unwrap()
}

/// Bytes that differ with the seed, so that no value is taken for another.
fn bytes(seed: u64, length: usize) -> Bytes {
    let mut state = seed.wrapping_mul(0x9e37_79b9_7f4a_7c15) | 1;
    let next = || {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        state as u8
    };
    std::iter::repeat_with(next).take(length).collect()
}
