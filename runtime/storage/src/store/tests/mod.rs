//! What the parts of the store must do together, on both engines.

mod cache;
mod full;
mod keys;
mod kill;
mod suite;

use std::sync::Arc;

use bytes::Bytes;

use super::*;
use crate::testing::Random;

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

/// One of the files that a disk may hold after a cut: page by page or sector by sector as it was last synced, or as it
/// was last written.
pub(super) fn image_after_cut(random: &mut Random, synced: &[u8], written: &[u8]) -> Vec<u8> {
    let unit = if random.below(2) == 0 { 4096 } else { 512 };
    // Of 8 units so many are as written last.
    let written_of_8 = random.below(9);
    let length = if random.below(2) == 0 { written.len() } else { synced.len() };
    let mut image = synced.to_vec();
    image.resize(length, 0);
    for at in (0..length).step_by(unit) {
        if random.below(8) < written_of_8 {
            let end = (at + unit).min(length);
            let from = written.get(at..end).unwrap_or_default();
            image[at..at + from.len()].copy_from_slice(from);
        }
    }
    image
}
