//! The log: the one durable, ordered record of everything that happened.
//!
//! A folder of segment files, one thread that writes them (the committer), and a recovery that tells
//! a torn tail from damage. What the bodies of records mean is no business of these modules.
//!
//! At start: [`recover`], then the store takes fold position, [`Recovered::epoch`] and
//! [`Recovered::identity`] durably, then [`Recovered::begin`], then the store takes [`Log::identity`], then
//! [`Log::start`].
//!
//! What is promised: damage to anything at or below the highest position that the log itself knows to
//! be flushed is found and named, and so is a segment that is missing or cut off, the last one too, and a
//! store that is not this log's. Damage to the very last group before a crash looks like a write that the
//! crash cut off, and is treated so.

mod committer;
mod config;
mod error;
mod frame;
mod identity;
mod image;
mod reader;
mod recovery;
mod search;
mod segment;
mod shared;
mod spares;
mod writer;

#[cfg(test)]
mod model;
#[cfg(test)]
mod tests;
#[cfg(test)]
mod threads;

pub use committer::{CommitterHandle, Flushed, Refused, Reserved, Seal, Sealer};
pub use config::{COMMIT_RESERVE, Config};
pub use error::LogError;
pub use frame::{Header, RECORD_HEADER, RecordKind};
pub use identity::{Identity, Known};
pub use image::{ADOPTED, Image, NotASegment, adopt, is_segment};
pub use reader::{LogReader, Record, RecordRef, Records};
pub use recovery::{Log, Recovered, make_room, recover};
pub use shared::{Room, Stats};
