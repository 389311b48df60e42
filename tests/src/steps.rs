//! The failpoints that tests end the server at, by what it is doing then. None of the source's is left out.

/// The steps of a checkpoint, and of a group's way to the disk.
pub const STEPS_UNDER_LOAD: [&str; 9] = [
    "checkpoint-before-blocks-sync",
    "checkpoint-blocks-synced",
    "store-before-sync",
    "checkpoint-keys-durable",
    "checkpoint-position-durable",
    "checkpoint-memory-thinned",
    "log-group-before-write",
    "log-group-before-sync",
    "log-group-flushed",
];

/// The steps of a start on a folder that a kill has left; each start begins a segment, and the next
/// checkpoint frees the ones before it.
pub const STEPS_OF_START: [&str; 16] = [
    "log-recover-before-rewrite",
    "log-recover-before-sync",
    "log-recover-before-folder-sync",
    "log-recover-durable",
    "log-recover-before-free",
    "log-recover-before-begin",
    "log-begin-before-folder-sync",
    "log-begin-before-header",
    "log-begin-before-header-sync",
    "log-begin-before-rename",
    "log-begin-before-last-folder-sync",
    "log-begin-done",
    "log-begin-before-note-sync",
    "log-free-before-rename",
    "log-free-done",
    "open-store-owned",
];

/// Between two steps of a purge.
pub const STEPS_OF_A_PURGE: [&str; 1] = ["purge-step"];

/// Between the commit of a set-point and its sending, and on the way of the answer to the log.
pub const STEPS_OF_A_SET_POINT: [&str; 4] =
    ["set-point-before-send", "set-point-answered", "set-point-before-record", "set-point-recorded"];

/// Between the begin of a copy of a generation and its record.
pub const STEPS_OF_A_COPY: [&str; 4] = ["copy-begun", "copy-step", "copy-rest-durable", "copy-recorded"];

/// Behind the record of a version that comes, goes back or stays, and before the one of a rollback.
pub const STEPS_OF_A_VERSION: [&str; 4] =
    ["upgrade-recorded", "rollback-loaded", "rollback-recorded", "commit-recorded"];

/// Behind the file of a package and behind its record, and before and behind the record of an install.
pub const STEPS_OF_AN_INSTALL: [&str; 4] =
    ["package-written", "package-recorded", "install-loaded", "install-recorded"];
