//! What the parts of the store must do together, on both engines.

mod cache;
mod full;
mod keys;
mod kill;
mod suite;

use std::sync::Arc;
use std::task::{Context, Poll, Waker};

use bytes::Bytes;

use super::*;

/// Outside of a runtime all work is done when the answer is first asked for.
fn wait<T>(mut answer: Answer<'_, T>) -> Result<T, StoreError> {
    match answer.as_mut().poll(&mut Context::from_waker(Waker::noop())) {
        Poll::Ready(result) => result,
        Poll::Pending => panic!("the store waits for something although there is no runtime"),
    }
}

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
