//! Looks for valid records at every offset, where no chain of lengths leads to them.

use crate::ids::Position;

use super::frame::{self, CHECKED_FROM, Marks, RECORD_HEADER};
use super::segment::{SEGMENT_HEADER, SegmentHeader};

/// How far apart the checksums are that [`Prefixes`] keeps.
const STEP: usize = 4096;

/// Calls `found` with each valid record in the bytes of a segment from `from` on.
///
/// Bodies come from outside and may be made to look like headers at every offset. So checking a candidate
/// costs about the same whatever length it claims.
pub(super) fn records(bytes: &[u8], from: usize, segment: &SegmentHeader, mut found: impl FnMut(Marks)) {
    let mut prefixes = None;
    for at in from..bytes.len().saturating_sub(RECORD_HEADER - 1) {
        let candidate = &bytes[at..];
        let Some(length) = frame::claimed_length(candidate) else { continue };
        if length > candidate.len() {
            continue;
        }
        let Some(marks) = frame::marks(candidate) else { continue };
        if !could_lie_at(at, marks.position, segment.first) || marks.durable >= marks.position {
            continue;
        }
        let prefixes = prefixes.get_or_insert_with(|| Prefixes::new(bytes));
        let start = frame::checksum_start(segment.salt, &candidate[..4]);
        let crc = prefixes.append(start, at + CHECKED_FROM, at + length);
        if frame::u32_at(candidate, 4) == Some(crc) {
            found(marks);
        }
    }
}

/// A segment's positions begin with its first and each takes at least a header's bytes.
fn could_lie_at(at: usize, position: Position, first: Position) -> bool {
    let before = (at - SEGMENT_HEADER) / RECORD_HEADER;
    position.0.checked_sub(first.0).is_some_and(|ahead| ahead <= before as u64)
}

/// Checksums of prefixes of some bytes, from which those of any range follow.
struct Prefixes<'a> {
    bytes: &'a [u8],
    /// Of the first 0, 1, 2 … steps.
    steps: Vec<u32>,
}

impl<'a> Prefixes<'a> {
    fn new(bytes: &'a [u8]) -> Self {
        let mut steps = vec![0];
        let mut crc = 0;
        for step in bytes.chunks_exact(STEP) {
            crc = crc32c::crc32c_append(crc, step);
            steps.push(crc);
        }
        Self { bytes, steps }
    }

    fn of(&self, end: usize) -> u32 {
        let step = end / STEP;
        crc32c::crc32c_append(self.steps[step], &self.bytes[step * STEP..end])
    }

    /// What `crc32c_append(crc, bytes[from..to])` gives, for a range that isn't empty. A CRC is linear: appending to two values and
    /// appending to their difference come to the same.
    fn append(&self, crc: u32, from: usize, to: usize) -> u32 {
        crc32c::crc32c_combine(crc ^ self.of(from), self.of(to), to - from)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn checksums_of_ranges_equal_those_computed_directly() {
        let bytes: Vec<u8> =
            (0..3 * STEP as u32 + 77).map(|i| (i.wrapping_mul(2_654_435_761) >> 13) as u8).collect();
        let prefixes = Prefixes::new(&bytes);
        for (from, to) in [(0, 1), (5, 6), (1, STEP), (17, 2 * STEP + 3), (STEP, 3 * STEP), (9, bytes.len())]
        {
            let direct = crc32c::crc32c_append(0xdead_beef, &bytes[from..to]);
            assert_eq!(prefixes.append(0xdead_beef, from, to), direct, "{from}..{to}");
        }
    }
}
