//! Looks for valid records at every offset, where no chain of lengths leads to them.

use ironloom_types::ids::Position;

use super::frame::{self, CHECKED_FROM, Marks, RECORD_HEADER};
use super::segment::{SEGMENT_HEADER, SegmentHeader};

const ZEROS: [u8; 64] = [0; 64];
/// The distance of the checksums that [`Prefixes`] keeps.
const STEP: usize = 4096;

/// Calls `found` with each valid record in the bytes of a segment from `from` on.
///
/// Bodies come from outside and may be made to look like headers at every offset. So checking a candidate
/// costs about the same whatever length it claims.
pub(super) fn records(bytes: &[u8], from: usize, segment: &SegmentHeader, mut found: impl FnMut(Marks)) {
    let mut prefixes = None;
    let mut next = from;
    while next + RECORD_HEADER <= bytes.len() {
        let at = next;
        let candidate = &bytes[at..];
        if candidate.starts_with(&ZEROS) {
            // Most of a fresh segment: no length begins here.
            next += ZEROS.len() - 3;
            continue;
        }
        next += 1;
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
    /// The checksums of the first 0, 1, 2 … steps.
    steps: Vec<u32>,
    /// The effects of 1, 2, 4, 8 … zero bytes on a checksum.
    zeros: Vec<Linear>,
}

impl<'a> Prefixes<'a> {
    fn new(bytes: &'a [u8]) -> Self {
        let mut steps = vec![0];
        let mut crc = 0;
        for step in bytes.chunks_exact(STEP) {
            crc = crc32c::crc32c_append(crc, step);
            steps.push(crc);
        }
        let mut zeros = vec![Linear::one_zero_byte()];
        while bytes.len() >> zeros.len() > 0 {
            zeros.extend(zeros.last().map(Linear::twice));
        }
        Self { bytes, steps, zeros }
    }

    fn of(&self, end: usize) -> u32 {
        let step = end / STEP;
        crc32c::crc32c_append(self.steps[step], &self.bytes[step * STEP..end])
    }

    /// What `crc32c_append(crc, bytes[from..to])` gives. A CRC is linear: two checksums to which the same
    /// bytes are appended differ as if zeros had been appended to their difference.
    fn append(&self, crc: u32, from: usize, to: usize) -> u32 {
        let length = to - from;
        let counted = self.zeros.iter().enumerate().filter(|(power, _)| length >> power & 1 == 1);
        let difference = counted.fold(crc ^ self.of(from), |crc, (_, zeros)| zeros.apply(crc));
        difference ^ self.of(to)
    }
}

/// A linear map of checksums, as a table for each of their bytes.
struct Linear([[u32; 256]; 4]);

impl Linear {
    fn new(map: impl Fn(u32) -> u32) -> Self {
        Self(std::array::from_fn(|byte| std::array::from_fn(|value| map((value as u32) << (8 * byte)))))
    }

    fn apply(&self, crc: u32) -> u32 {
        let bytes = crc.to_le_bytes();
        (0..4).fold(0, |sum, byte| sum ^ self.0[byte][usize::from(bytes[byte])])
    }

    fn twice(&self) -> Self {
        Self::new(|crc| self.apply(self.apply(crc)))
    }

    /// Division by CRC32C's polynomial (RFC 3720, bits reversed), a bit at a time.
    fn one_zero_byte() -> Self {
        Self::new(|crc| (0..8).fold(crc, |crc, _| (crc >> 1) ^ (0x82f6_3b78 & (crc & 1).wrapping_neg())))
    }
}

#[cfg(test)]
mod tests {
    use super::super::frame::{Header, RecordKind, seal};
    use super::*;
    use ironloom_types::clock::Timestamp;
    use ironloom_types::ids::{Epoch, Sequence, StreamId, TenantId};

    fn record(position: u64, body: usize, salt: u32) -> Vec<u8> {
        let mut record = vec![7; RECORD_HEADER + body];
        let header = Header {
            epoch: Epoch(1),
            position: Position(position),
            durable: Position(position - 1),
            kind: RecordKind::Commit,
            version: 1,
            tenant: TenantId::MAIN,
            stream: StreamId::MAIN,
            first_sequence: Sequence(0),
            journal_time: Timestamp(0),
        };
        seal(&mut record, &header, salt);
        record
    }

    /// Each of the forged headers claims all bytes behind it, and only the checksum tells them from records.
    #[test]
    fn true_records_are_found_among_bytes_made_to_look_like_them() {
        let segment = SegmentHeader {
            number: 1,
            epoch: Epoch(1),
            first: Position(1),
            durable: Position(0),
            salt: 0x5eed,
            bytes: 2 << 20,
            log: 1,
        };
        let mut bytes = vec![0; SEGMENT_HEADER];
        let length = 2 << 20;
        while bytes.len() < length {
            let mut forged = record(2, 0, 0);
            forged[..4].copy_from_slice(&((length - bytes.len()) as u32).to_le_bytes());
            bytes.extend(forged);
        }
        let mut expected = Vec::new();
        for (at, body) in [(SEGMENT_HEADER + 3, 0), (300_001, 70_000), (length - 5_000, 4_000)] {
            let position = 2 + expected.len() as u64;
            let genuine = record(position, body, segment.salt);
            bytes[at..at + genuine.len()].copy_from_slice(&genuine);
            expected.push(Position(position));
        }
        let mut found = Vec::new();
        records(&bytes, SEGMENT_HEADER, &segment, |marks| found.push(marks.position));
        // The first lies before any byte that could hold two records.
        assert_eq!(found, expected[1..]);
    }

    #[test]
    fn checksums_of_ranges_equal_those_computed_directly() {
        let bytes: Vec<u8> =
            (0..3 * STEP as u32 + 77).map(|i| (i.wrapping_mul(2_654_435_761) >> 13) as u8).collect();
        let prefixes = Prefixes::new(&bytes);
        for (from, to) in [
            (0, 0),
            (0, 1),
            (5, 5),
            (5, 6),
            (1, STEP),
            (17, 2 * STEP + 3),
            (STEP, 3 * STEP),
            (9, bytes.len()),
        ] {
            let direct = crc32c::crc32c_append(0xdead_beef, &bytes[from..to]);
            assert_eq!(prefixes.append(0xdead_beef, from, to), direct, "{from}..{to}");
        }
    }
}
