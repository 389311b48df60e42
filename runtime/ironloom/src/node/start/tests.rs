//! Errors of a start: what is tried again, and what is wrong.

use std::io::{self, ErrorKind};

use super::*;
use crate::fold::checkpoint::CheckpointError;
use ironloom_storage::store::StoreError;

fn log(kind: ErrorKind) -> LogError {
    LogError::Io { what: "sync", path: "log".into(), source: Arc::new(kind.into()) }
}

fn store(source: io::Error) -> StoreError {
    StoreError::Io { what: "syncing".into(), source }
}

#[test]
fn what_the_system_refused_is_tried_again_and_what_is_wrong_is_not() {
    let io = || io::Error::from_raw_os_error(5);
    let full = StoreError::Full { folder: "store".into(), source: ErrorKind::StorageFull.into() };
    let again: [StartError; 6] = [
        start_error(log(ErrorKind::Other)),
        start_error(OpenError::Log(log(ErrorKind::StorageFull))),
        start_error(store(io())),
        start_error(OpenError::Store(store(io()))),
        start_error(OpenError::Checkpoint(CheckpointError::Store(full))),
        start_error(io()),
    ];
    for error in again {
        assert!(matches!(error, StartError::Storage(_)), "{error:?}");
    }
    let wrong: [StartError; 5] = [
        start_error(store(ErrorKind::PermissionDenied.into())),
        start_error(OpenError::Log(log(ErrorKind::UnexpectedEof))),
        start_error(StoreError::Newer { found: 2, known: 1 }),
        start_error(StoreError::InUse { folder: "store".into() }),
        start_error(OpenError::Checkpoint(CheckpointError::Fenced)),
    ];
    for error in wrong {
        assert!(matches!(error, StartError::Refused(_)), "{error:?}");
    }
}
