//! Errors that came up where none can be returned: while a view or builder that went out of scope wrote what it had
//! gathered. The invocation fails with the first of them.

use std::cell::RefCell;

use crate::failure::Failure;

thread_local! {
    static FIRST: RefCell<Option<Failure>> = const { RefCell::new(None) };
}

/// Keeps an error for the end of the invocation.
pub(crate) fn park(failure: impl Into<Failure>) {
    FIRST.with_borrow_mut(|first| {
        first.get_or_insert_with(|| failure.into());
    });
}

/// Takes the error, if there was one.
pub(crate) fn take() -> Option<Failure> {
    FIRST.take()
}

/// Forgets what an earlier invocation left: where memory outlives one, as in tests.
pub(crate) fn clear() {
    FIRST.set(None);
}
