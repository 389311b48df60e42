//! The HTTP API: routes, guards, and the forms in which answers are written.
//!
//! Handlers know the node as a [`facade::Facade`] only. The routes stand in one table, `routes.rs`; what
//! every request must pass in `guard.rs`; how connections are taken and ended in `server.rs`.

mod answers;
mod body;
mod connections;
mod explain;
pub(crate) mod facade;
pub(crate) mod guard;
mod held;
pub(crate) mod host;
mod installations;
mod journal;
mod memory;
pub(crate) mod model;
mod openapi;
mod operation;
mod paced;
mod packages;
mod params;
pub(crate) mod problem;
mod push;
pub(crate) mod readings;
mod routes;
pub(crate) mod server;
mod stream;
mod system;
#[cfg(test)]
mod tests;
pub(crate) mod value;

use std::sync::Arc;

use axum::Router;
use axum::http::{Method, Uri};
use axum::middleware::{from_fn, from_fn_with_state};
use tower_http::catch_panic::CatchPanicLayer;

use self::facade::Facade;
use self::guard::Guard;
use self::memory::Memory;
use self::problem::Problem;
use crate::telemetry::Metrics;
use ironloom_types::limits::{MAX_PACKAGE, MIB};

/// The media type of packages.
pub(crate) const PACKAGE_TYPE: &str = "application/vnd.ironloom.package+tar";
/// The header under whose value a push is taken once.
pub(crate) const KEY_HEADER: &str = "idempotency-key";
/// The media type of pushed readings.
pub(crate) const NDJSON_TYPE: &str = "application/x-ndjson";
/// The media type of everything else.
pub(crate) const JSON_TYPE: &str = "application/json";
const CSV_TYPE: &str = "text/csv";

/// The context of every handler.
#[derive(Clone)]
pub(crate) struct Api {
    node: Arc<dyn Facade>,
    guard: Arc<Guard>,
    metrics: Metrics,
    memory: Arc<Shares>,
}

/// The memory for requests, by kind, so that none can take another's. Each request's first 64 KiB come
/// on top.
struct Shares {
    /// Bodies with readings.
    readings: Memory,
    /// Packages, and bodies of JSON.
    admin: Memory,
    /// Pages at work: four at a time, so that all of them end soon.
    pages: Memory,
    /// Answers on their way out.
    answers: Memory,
}

impl Default for Shares {
    fn default() -> Self {
        Self {
            readings: Memory::new(128 * MIB as usize),
            admin: Memory::new(2 * MAX_PACKAGE),
            pages: Memory::new(4 * 2 * facade::MAX_PAGE_BYTES),
            answers: Memory::new(64 * MIB as usize),
        }
    }
}

impl Api {
    /// An API on this node.
    pub(crate) fn new(node: Arc<dyn Facade>, guard: Guard, metrics: Metrics) -> Self {
        Self { node, guard: Arc::new(guard), metrics, memory: Arc::default() }
    }
}

/// All routes, behind the guards.
pub(crate) fn router(api: Api) -> Router {
    routes::routes()
        .fallback(no_such_path)
        .method_not_allowed_fallback(no_such_method)
        .layer(CatchPanicLayer::custom(answers::of_panic))
        .layer(from_fn_with_state(api.clone(), guard::check))
        .layer(from_fn(answers::as_problems))
        .layer(from_fn_with_state(api.clone(), answers::count))
        .with_state(api)
}

async fn no_such_path(uri: Uri) -> Problem {
    Problem::not_found(format!("there is nothing at {}", uri.path()))
        .hint("GET /openapi.json lists all paths.")
}

async fn no_such_method(method: Method, uri: Uri) -> Problem {
    Problem::method_not_allowed(format!("{} doesn't support {method}", uri.path()))
        .hint("GET /openapi.json lists the methods of each path.")
}
