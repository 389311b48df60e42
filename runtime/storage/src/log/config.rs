//! The sizes of the log's files and groups.

use std::time::Duration;

use super::frame::RECORD_HEADER;
use super::segment::SEGMENT_HEADER;

/// The part of `log.max` that is reserved for commits by default.
pub const COMMIT_RESERVE: u64 = 64 << 20;

/// The layout of the log, and the limit at which it pauses.
#[derive(Clone, Debug)]
pub struct Config {
    /// The size of a new segment file in bytes, at most 4 GiB. Segments of another size are read as they are.
    pub segment_bytes: u64,
    /// `log.max`: the bytes of segment files not yet folded and freed, at most. Beyond: see [`super::Room`].
    pub max_bytes: u64,
    /// The part of `max_bytes` that only commits may use, so that lanes can finish their invocations.
    pub commit_reserve: u64,
    /// A group is written when it has grown to this many bytes, though more is waiting.
    pub group_bytes: usize,
    /// After this long without a record a mark is written, if the log doesn't yet say by itself that
    /// everything acknowledged was flushed.
    pub idle_mark: Duration,
    /// Free segments that are kept ready besides the one of the next start, so that the committer needn't wait for
    /// one to be made.
    pub spares: usize,
    /// Freed segments beyond this many free ones are removed.
    pub max_spares: usize,
}

impl Default for Config {
    fn default() -> Self {
        Self {
            segment_bytes: 64 << 20,
            max_bytes: 1 << 30,
            commit_reserve: COMMIT_RESERVE,
            group_bytes: 16 << 20,
            idle_mark: Duration::from_millis(20),
            spares: 1,
            max_spares: 6,
        }
    }
}

impl Config {
    /// The longest body of a record, in bytes: a record never spans segments.
    pub fn max_body(&self) -> usize {
        let room = self.segment_bytes.saturating_sub((SEGMENT_HEADER + RECORD_HEADER) as u64);
        usize::try_from(room).unwrap_or(usize::MAX)
    }
}
