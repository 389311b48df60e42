//! The HTTP API: routes, guards, and the forms in which answers are written.
//!
//! Handlers know the node as a [`facade::Facade`] only. The routes stand in one table, `routes.rs`; what
//! every request must pass in `guard.rs`; how connections are taken and ended in `server.rs`.

mod access;
mod alarms;
mod answers;
mod applied;
pub(crate) mod arrow;
mod audit;
mod audited;
mod backup;
mod body;
pub(crate) mod capsule;
pub(crate) mod catalogs;
mod condition;
mod connections;
mod connectors;
mod consents;
pub(crate) mod described;
mod events;
mod examples;
mod explain;
pub(crate) mod facade;
mod forms;
pub(crate) mod guard;
mod held;
pub(crate) mod host;
mod installations;
pub(crate) mod intake;
mod intents;
mod journal;
mod memory;
pub(crate) mod model;
mod openapi;
mod operation;
mod paced;
mod packages;
mod params;
mod platform;
pub(crate) mod problem;
mod push;
mod rates;
pub(crate) mod readings;
mod rehearsals;
mod revision;
mod room;
mod router;
mod routes;
pub(crate) mod server;
mod shapes;
mod site;
mod state;
mod stream;
mod system;
mod tenants;
#[cfg(test)]
mod tests;
pub(crate) mod tls;
pub(crate) mod value;
mod wire;

use std::ops::Deref;
use std::sync::Arc;

use axum::http::{Method, Uri};
use tokio::sync::Semaphore;

use self::facade::Facade;
use self::guard::Guard;
use self::memory::Memory;
pub(crate) use self::problem::FEED_CLOCK;
use self::problem::Problem;
pub(crate) use self::push::{MAX_KEY, is_key};
use self::rates::Rates;
pub(crate) use self::site::Site;
pub(crate) use self::stream::{DONE as STREAM_DONE, Mark as StreamMark, Word as StreamWord};
use crate::telemetry::{BadLine, Metrics};
use ironloom_types::limits::{MAX_PACKAGE, MAX_WAITING_PUSHES, MIB};

/// The media type of packages.
pub(crate) const PACKAGE_TYPE: &str = "application/vnd.ironloom.package+tar";
/// The header under whose value a push is taken once.
pub(crate) const KEY_HEADER: &str = "idempotency-key";
/// The media type of pushed readings.
pub(crate) const NDJSON_TYPE: &str = "application/x-ndjson";
/// The media type of pushed readings as columns.
pub(crate) const ARROW_TYPE: &str = "application/vnd.apache.arrow.stream";
/// The media type of everything else.
pub(crate) const JSON_TYPE: &str = "application/json";
/// The media type of events.
const EVENTS_TYPE: &str = "text/event-stream";
pub(crate) const CSV_TYPE: &str = "text/csv";

/// The context of every handler. Each request clones it a few times.
#[derive(Clone)]
pub(crate) struct Api(Arc<Context>);

pub(crate) struct Context {
    node: Arc<dyn Facade>,
    guard: Guard,
    rates: Rates,
    metrics: Metrics,
    memory: Shares,
    /// Places of pushes that wait for apps.
    waiting: Arc<Semaphore>,
    /// Places of listeners to events.
    listeners: events::Places,
}

impl Deref for Api {
    type Target = Context;

    fn deref(&self) -> &Context {
        &self.0
    }
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
            answers: Memory::new(answers::MAX_ANSWER),
        }
    }
}

impl Api {
    /// An API on this node.
    pub(crate) fn new(
        node: Arc<dyn Facade>,
        guard: Guard,
        limits: crate::config::Rates,
        metrics: Metrics,
    ) -> Self {
        let waiting = Arc::new(Semaphore::new(MAX_WAITING_PUSHES));
        let listeners = events::Places::default();
        let (rates, memory) = (Rates::new(limits), Shares::default());
        Self(Arc::new(Context { node, guard, rates, metrics, memory, waiting, listeners }))
    }

    /// Counts lines that were passed over, beside others that were taken.
    fn count_bad_lines(&self, bad: &intake::BadLines) {
        for (reason, count) in bad {
            self.metrics.bad_lines.get_or_create(&BadLine { reason: reason.clone() }).inc_by(*count);
        }
    }
}

async fn no_such_path(uri: Uri) -> Problem {
    Problem::not_found(format!("there is nothing at {}", uri.path()))
        .hint("GET /openapi.json lists all paths.")
}

async fn no_such_method(method: Method, uri: Uri) -> Problem {
    Problem::method_not_allowed(format!("{} doesn't support {method}", uri.path()))
        .hint("GET /openapi.json lists the methods of each path.")
}
