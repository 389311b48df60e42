//! The HTTP API: routes, guards, and the forms in which answers are written.
//!
//! Handlers know the node as a [`facade::Facade`] only. What every request must pass stands in
//! `guard.rs`; how connections are taken and ended in `server.rs`.

mod answers;
mod body;
mod explain;
pub mod facade;
pub mod guard;
pub mod host;
mod installations;
mod journal;
pub mod model;
mod openapi;
mod packages;
mod params;
pub mod problem;
mod push;
pub mod readings;
pub mod server;
mod system;
#[cfg(test)]
mod tests;
pub mod value;

use std::sync::Arc;

use axum::Router;
use axum::http::{Method, Uri};
use axum::middleware::{from_fn, from_fn_with_state};
use axum::routing::{delete, get, post};
use tokio::sync::Semaphore;

use self::facade::Facade;
use self::guard::Guard;
use self::problem::Problem;
use crate::telemetry::Metrics;
use ironloom_types::limits::KIB;

/// The media type of packages.
pub const PACKAGE_TYPE: &str = "application/vnd.ironloom.package+tar";
/// The media type of pushed readings.
pub const NDJSON_TYPE: &str = "application/x-ndjson";
/// The media type of everything else.
pub const JSON_TYPE: &str = "application/json";

/// What all request bodies together may hold in memory, in KiB. Beyond: a request waits.
const BODIES_KIB: usize = 256 * 1024;

/// What every handler has.
#[derive(Clone)]
pub struct Api {
    node: Arc<dyn Facade>,
    guard: Arc<Guard>,
    metrics: Metrics,
    bodies: Arc<Semaphore>,
}

impl Api {
    /// An API on this node.
    pub fn new(node: Arc<dyn Facade>, guard: Guard, metrics: Metrics) -> Self {
        Self { node, guard: Arc::new(guard), metrics, bodies: Arc::new(Semaphore::new(BODIES_KIB)) }
    }

    fn kib(bytes: usize) -> u32 {
        u32::try_from((bytes as u64).div_ceil(KIB)).unwrap_or(u32::MAX)
    }
}

/// All routes, behind the guards.
pub fn router(api: Api) -> Router {
    Router::new()
        .route("/v1/readings", get(journal::readings).post(push::push))
        .route("/v1/points", get(journal::points))
        .route("/v1/packages", get(packages::list).post(packages::add))
        .route("/v1/packages/{digest}", get(packages::show).delete(packages::remove))
        .route("/v1/installations", get(installations::list).post(installations::install))
        .route("/v1/installations/{id}", get(installations::show).delete(installations::uninstall))
        .route("/v1/installations/{id}/pause", post(installations::pause))
        .route("/v1/installations/{id}/resume", post(installations::resume))
        .route("/v1/installations/{id}/outputs", get(installations::outputs))
        .route("/v1/installations/{id}/state", get(installations::state))
        .route("/v1/installations/{id}/logs", get(installations::logs))
        .route("/v1/installations/{id}/invocations", get(installations::invocations))
        .route("/v1/installations/{id}/dead-letters", get(installations::dead_letters))
        .route("/v1/installations/{id}/dead-letters/{number}", delete(installations::delete_dead_letter))
        .route("/v1/installations/{id}/dead-letters/{number}/requeue", post(installations::requeue))
        .route("/v1/alarms", get(system::alarms))
        .route("/v1/alarms/{id}/ack", post(system::acknowledge))
        .route("/v1/connectors", get(system::connectors))
        .route("/healthz", get(system::health))
        .route("/readyz", get(system::ready))
        .route("/metrics", get(system::metrics))
        .route("/openapi.json", get(openapi::document))
        .fallback(no_such_path)
        .method_not_allowed_fallback(no_such_method)
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
    Problem::method_not_allowed(format!("{} doesn't take {method}", uri.path()))
        .hint("GET /openapi.json lists the methods of each path.")
}
