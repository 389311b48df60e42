//! The one table of routes: the router, the check of queries and the description are made from it.

use axum::extract::{Request, State};
use axum::middleware::{Next, from_fn};
use axum::response::{IntoResponse as _, Response};
use axum::routing::{MethodRouter, Router, delete, get, post};

use super::connections::InReserve;
use super::facade::RETRY_SOON;
use super::operation::{Operation, Success};
use super::params::Params;
use super::problem::Problem;
use super::{
    Api, CSV_TYPE, JSON_TYPE, NDJSON_TYPE, PACKAGE_TYPE, answers, installations, journal, openapi, packages,
    push, stream, system,
};
use crate::telemetry::METRICS_TYPE;

const OK: &[Success] = &[Success { status: 200, when: "Done", types: &[JSON_TYPE] }];
const EMPTY: &[Success] = &[Success { status: 204, when: "Done", types: &[] }];

const PLAIN: Operation = Operation {
    method: "get",
    path: "",
    summary: "",
    query: &[],
    body: &[],
    answers: OK,
    bulk: false,
    handler: MethodRouter::new,
};
const POST: Operation = Operation { method: "post", body: &[JSON_TYPE], ..PLAIN };
const DELETE: Operation = Operation { method: "delete", answers: EMPTY, ..PLAIN };

/// Every operation of the API.
pub(super) const OPERATIONS: &[Operation] = &[
    Operation {
        path: "/v1/readings",
        summary: "Reads the journal back, oldest first; a Link header names the next page",
        query: &["point", "from", "to", "after", "limit"],
        answers: &[Success { status: 200, when: "A page", types: &[NDJSON_TYPE, CSV_TYPE, JSON_TYPE] }],
        bulk: true,
        handler: || get(journal::readings),
        ..PLAIN
    },
    Operation {
        path: "/v1/readings",
        summary: "Accepts readings and answers once they are durable: one JSON object on each line, or a \
                  JSON object or array",
        query: &["partial"],
        body: &[NDJSON_TYPE, JSON_TYPE],
        bulk: true,
        handler: || post(push::push),
        ..POST
    },
    Operation {
        path: "/v1/readings/stream",
        summary: "Becomes a WebSocket: each message brings lines as a push does, and {\"through\":n} says that n lines \
                  of the stream are durable. With a key it goes on after a drop",
        query: &["key", "partial"],
        answers: &[Success { status: 101, when: "It is a WebSocket", types: &[] }],
        bulk: true,
        handler: || get(stream::stream),
        ..PLAIN
    },
    Operation {
        path: "/v1/points",
        summary: "Points with their latest readings",
        query: &["prefix", "after", "limit"],
        bulk: true,
        handler: || get(journal::points),
        ..PLAIN
    },
    Operation {
        path: "/v1/packages",
        summary: "Packages",
        query: &["after", "limit"],
        handler: || get(packages::list),
        ..PLAIN
    },
    Operation {
        path: "/v1/packages",
        summary: "Takes a package",
        body: &[PACKAGE_TYPE],
        answers: &[
            Success { status: 201, when: "It is new", types: &[JSON_TYPE] },
            Success {
                status: 200,
                when: "It was known already; a damaged file is repaired",
                types: &[JSON_TYPE],
            },
        ],
        bulk: true,
        handler: || post(packages::add),
        ..POST
    },
    Operation {
        path: "/v1/packages/{digest}",
        summary: "One package, with what it requests",
        handler: || get(packages::show),
        ..PLAIN
    },
    Operation {
        path: "/v1/packages/{digest}",
        summary: "Removes a package that no installation uses",
        handler: || delete(packages::remove),
        ..DELETE
    },
    Operation {
        path: "/v1/installations",
        summary: "Installations",
        query: &["after", "limit"],
        handler: || get(installations::list),
        ..PLAIN
    },
    Operation {
        path: "/v1/installations",
        summary: "Installs one app, or all of a JSON array of at most 1,000 or none of them; the answer to an array \
                  is {\"items\":[…]} in its order",
        query: &["dry-run"],
        answers: &[
            Success { status: 201, when: "It is installed, or all of them are", types: &[JSON_TYPE] },
            Success { status: 200, when: "dry-run=true: the points that would match", types: &[JSON_TYPE] },
        ],
        handler: || post(installations::install),
        ..POST
    },
    Operation {
        path: "/v1/installations/{id}",
        summary: "One installation",
        handler: || get(installations::show),
        ..PLAIN
    },
    Operation {
        path: "/v1/installations/{id}",
        summary: "Uninstalls at once",
        query: &["purge"],
        handler: || delete(installations::uninstall),
        ..DELETE
    },
    Operation {
        path: "/v1/installations/{id}/pause",
        summary: "Pauses at once: a running invocation has no effect",
        handler: || post(installations::pause),
        ..POST
    },
    Operation {
        path: "/v1/installations/{id}/resume",
        summary: "Resumes; {\"backlog\":\"keep\"} or \"drop\", the latter only if it is paused or quarantined",
        handler: || post(installations::resume),
        ..POST
    },
    Operation {
        path: "/v1/installations/{id}/outputs",
        summary: "Readings of its outputs, oldest first",
        query: &["output", "point", "from", "to", "after", "limit"],
        bulk: true,
        handler: || get(installations::outputs),
        ..PLAIN
    },
    Operation {
        path: "/v1/installations/{id}/state",
        summary: "Its state, in the order of the keys",
        query: &["prefix", "after", "limit"],
        bulk: true,
        handler: || get(installations::state),
        ..PLAIN
    },
    Operation {
        path: "/v1/installations/{id}/logs",
        summary: "Its log; without `after` the last lines",
        query: &["after", "limit"],
        bulk: true,
        handler: || get(installations::logs),
        ..PLAIN
    },
    Operation {
        path: "/v1/installations/{id}/invocations",
        summary: "Its invocations, oldest first",
        query: &["after", "limit"],
        bulk: true,
        handler: || get(installations::invocations),
        ..PLAIN
    },
    Operation {
        path: "/v1/installations/{id}/dead-letters",
        summary: "Readings that were set aside, oldest first",
        query: &["after", "limit"],
        bulk: true,
        handler: || get(installations::dead_letters),
        ..PLAIN
    },
    Operation {
        path: "/v1/installations/{id}/dead-letters/{number}",
        summary: "Deletes a dead letter",
        handler: || delete(installations::delete_dead_letter),
        ..DELETE
    },
    Operation {
        path: "/v1/installations/{id}/dead-letters/{number}/requeue",
        summary: "Runs a dead letter again",
        answers: &[Success {
            status: 202,
            when: "It runs in its turn; the list of invocations shows the outcome",
            types: &[],
        }],
        handler: || post(installations::requeue),
        ..POST
    },
    Operation {
        path: "/v1/alarms",
        summary: "Alarms that are active or not acknowledged",
        query: &["installation", "after", "limit"],
        handler: || get(system::alarms),
        ..PLAIN
    },
    Operation {
        path: "/v1/alarms/{id}/ack",
        summary: "Acknowledges an alarm",
        handler: || post(system::acknowledge),
        ..POST
    },
    Operation {
        path: "/v1/connectors",
        summary: "Connectors and their status",
        handler: || get(system::connectors),
        ..PLAIN
    },
    Operation { path: "/v1/clock", summary: "The site's clock", handler: || get(system::clock), ..PLAIN },
    Operation {
        path: "/v1/clock",
        summary: "Sets journal time back to the present, after the machine's clock was ahead and has been set right",
        query: &["dry-run"],
        handler: || post(system::set_time),
        ..POST
    },
    Operation {
        path: "/healthz",
        summary: "Whether the process is alive, and its version",
        handler: || get(system::health),
        ..PLAIN
    },
    Operation {
        path: "/readyz",
        summary: "Whether the server is ready",
        answers: &[
            Success { status: 200, when: "It does", types: &[JSON_TYPE] },
            Success { status: 503, when: "It isn't, with the reasons", types: &[JSON_TYPE] },
        ],
        handler: || get(system::ready),
        ..PLAIN
    },
    Operation {
        path: "/metrics",
        summary: "Metrics for Prometheus",
        answers: &[Success { status: 200, when: "All of them", types: &[METRICS_TYPE] }],
        handler: || get(system::metrics),
        ..PLAIN
    },
    Operation { path: "/openapi.json", summary: "This description", handler: || get(describe), ..PLAIN },
];

/// The routes, each of which knows its query.
pub(super) fn routes() -> Router<Api> {
    OPERATIONS.iter().fold(Router::new(), |router, operation| {
        let admit = from_fn(move |request, next| admit(operation, request, next));
        router.route(operation.path, (operation.handler)().route_layer(admit))
    })
}

async fn describe(State(api): State<Api>) -> Result<Response, Problem> {
    answers::ok(&api, &description()).await
}

// A function of its own: the table has the handler, whose type can't depend on the table again.
fn description() -> serde_json::Value {
    openapi::document(OPERATIONS)
}

async fn admit(operation: &'static Operation, mut request: Request, next: Next) -> Response {
    if operation.bulk && request.extensions().get::<InReserve>().is_some() {
        let detail = "all connections for large requests are taken";
        return Problem::unavailable("busy", detail, RETRY_SOON).into_response();
    }
    match Params::of(request.uri(), operation.query) {
        Ok(params) => {
            request.extensions_mut().insert(params);
            next.run(request).await
        }
        Err(problem) => problem.into_response(),
    }
}
