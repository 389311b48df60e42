//! Everything on the disk: the log, the journal's blocks and the store. It knows bytes and keys, not
//! what they mean; the folds, lanes and apps that give them a meaning live above.

mod disk;
mod failpoint;
pub mod folders;
#[cfg(any(test, feature = "fuzzing"))]
pub mod fuzzing;
pub mod journal;
pub mod log;
pub mod small_files;
pub mod store;
pub mod testing;

pub use disk::{Disk, DiskFile, FileId, Folder, Gone, free_bytes, random};
pub use failpoint::failpoint;
