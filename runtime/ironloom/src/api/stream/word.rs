//! What the server says on a stream.

use serde::{Deserialize, Serialize};

use crate::api::facade::Detail;
use crate::api::problem::Problem;
use ironloom_types::ids::Sequence;

/// The reason with which a peer closes a stream whose key it won't use again.
pub(crate) const DONE: &str = "done";

/// The progress of a stream, and whatever else there is to say.
#[derive(Debug, Default, Serialize, Deserialize)]
pub(crate) struct Word {
    /// The lines that are durable, or were refused.
    pub through: u64,
    /// The number of readings in these lines.
    pub taken: u64,
    /// With `?partial=true`: the number of bad ones among these lines.
    #[serde(default, skip_serializing_if = "is_zero")]
    pub refused: u64,
    /// The sequence of the last reading that this connection has brought.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub sequence: Option<Sequence>,
    /// In the first word, where some lines came before: their [`Mark`].
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub mark: Option<String>,
    /// With `?partial=true`: bad lines since the last word.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub errors: Vec<Detail>,
    /// The reason why no line is taken for now.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub held_up: Option<String>,
    /// The reason why the stream ends.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub problem: Option<Problem>,
}

fn is_zero(number: &u64) -> bool {
    *number == 0
}

/// By what the lines of a stream are known again: the low 32 bits of their bytes' number, and the CRC-32C of their
/// bytes. It guards against another file by mistake, and costs next to nothing.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Mark {
    bytes: u32,
    crc: u32,
}

impl Mark {
    /// With more lines, each with its line feed.
    pub(crate) fn with(self, lines: &[u8]) -> Self {
        let bytes = self.bytes.wrapping_add(lines.len() as u32);
        Self { bytes, crc: crc32c::crc32c_append(self.crc, lines) }
    }

    pub(super) fn of_bytes(mark: [u8; 8]) -> Self {
        let [a, b, c, d, e, f, g, h] = mark;
        Self { bytes: u32::from_be_bytes([a, b, c, d]), crc: u32::from_be_bytes([e, f, g, h]) }
    }

    pub(super) fn to_bytes(self) -> [u8; 8] {
        (u64::from(self.bytes) << 32 | u64::from(self.crc)).to_be_bytes()
    }

    /// In 16 hexadecimal digits.
    pub(crate) fn shown(self) -> String {
        format!("{:08x}{:08x}", self.bytes, self.crc)
    }
}
