//! The whole API: what every request passes before the router, and every answer behind them.
//!
//! Not layers of the router: each of those copies the routes and keeps request and answer in boxes once more, which
//! costs a push of one reading more than the log does.

use std::panic::AssertUnwindSafe;

use axum::Router;
use axum::extract::Request;
use axum::response::{IntoResponse as _, Response};
use futures_util::FutureExt as _;
use tower::ServiceExt as _;

use super::rates::Peer;
use super::{Api, answers, no_such_method, no_such_path, router};
use crate::telemetry::Status;

/// The service behind each connection: finds the route, and answers what has none.
#[derive(Clone)]
pub(crate) struct Site {
    api: Api,
    routes: Router,
}

impl Site {
    pub(crate) fn new(api: Api) -> Self {
        let routes = router::routes(&api)
            .fallback(no_such_path)
            .method_not_allowed_fallback(no_such_method)
            .with_state(api.clone());
        Self { api, routes }
    }

    /// Counts a connection, and says if it isn't one too many of its peer.
    pub(super) fn lets_in(&self, peer: Peer) -> bool {
        self.api.rates.count_connection(peer)
    }

    /// Every answer is counted by its status, and every refusal is a problem.
    pub(crate) async fn answer(self, request: Request) -> Response {
        let Self { api, routes } = self;
        let answered = match api.guard.check(&request) {
            Ok(()) => match AssertUnwindSafe(routes.oneshot(request)).catch_unwind().await {
                Ok(Ok(response)) => response,
                Err(_) => answers::of_panic(),
            },
            Err(problem) => problem.into_response(),
        };
        let response = answers::as_problem(answered).await;
        api.metrics.requests.get_or_create(&Status { status: response.status().as_u16() }).inc();
        response
    }
}
