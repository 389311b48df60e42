//! The fold as a whole: random histories on a real folder and a real store, with restarts and
//! checkpoints that are cut off, against a plain model.

mod cut;
mod damage;
mod history;
mod journal;
mod lanes;
pub(super) mod machine;
mod model;
mod overlay;
mod sealer;
mod set_time;
mod threads;
mod world;

use std::future::Future;
use std::sync::LazyLock;

use tokio::runtime::{Builder, Runtime};

/// The value of a future, on a runtime that all tests share.
fn wait<T>(future: impl Future<Output = T>) -> T {
    static RUNTIME: LazyLock<Runtime> =
        LazyLock::new(|| Builder::new_multi_thread().worker_threads(1).build().unwrap());
    RUNTIME.block_on(future)
}
