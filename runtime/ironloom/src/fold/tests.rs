//! The fold as a whole: random histories on a real folder and a real store, with restarts and
//! checkpoints that are cut off, against a plain model.

mod cut;
mod history;
mod journal;
mod model;
mod overlay;
mod threads;
mod world;

use std::future::Future;
use std::pin::pin;
use std::task::{Context, Poll, Waker};

/// The value of a future that never waits: the store's don't, outside of a runtime.
fn now<T>(future: impl Future<Output = T>) -> T {
    match pin!(future).poll(&mut Context::from_waker(Waker::noop())) {
        Poll::Ready(value) => value,
        Poll::Pending => panic!("a future of the store waits"),
    }
}
