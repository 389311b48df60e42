//! The router of all operations: each request is admitted by what the table says of its operation.

use std::future::{Future, Ready, ready};
use std::pin::Pin;
use std::task::{Context, Poll};

use axum::extract::Request;
use axum::http::Method;
use axum::response::{IntoResponse as _, Response};
use axum::routing::Router;
use futures_util::future::Either;
use tower::Service;
use tower::layer::layer_fn;

use super::audited::{self, Audited};
use super::connections::InReserve;
use super::facade::RETRY_SOON;
use super::operation::Operation;
use super::params::Params;
use super::problem::Problem;
use super::routes::OPERATIONS;
use super::{Api, access};

/// The routes, each of which knows its query and who may send it.
pub(super) fn routes(api: &Api) -> Router<Api> {
    OPERATIONS.iter().fold(Router::new(), |router, operation| {
        let api = api.clone();
        let admitted = layer_fn(move |handler| Admitted { operation, handler, api: api.clone() });
        router.route(operation.path, (operation.handler)().route_layer(admitted))
    })
}

/// A handler that sees only requests of its operation that may be answered now, with their query.
#[derive(Clone)]
struct Admitted<S> {
    operation: &'static Operation,
    handler: S,
    api: Api,
}

type Answer<E> = Pin<Box<dyn Future<Output = Result<Response, E>> + Send>>;

impl<S> Service<Request> for Admitted<S>
where
    S: Service<Request, Response = Response, Future: Send + 'static, Error: Send + 'static>,
{
    type Response = Response;
    type Error = S::Error;
    type Future = Either<S::Future, Either<Answer<S::Error>, Ready<Result<Response, S::Error>>>>;

    fn poll_ready(&mut self, context: &mut Context<'_>) -> Poll<Result<(), S::Error>> {
        self.handler.poll_ready(context)
    }

    fn call(&mut self, mut request: Request) -> Self::Future {
        if let Err(problem) = admit(&self.api, self.operation, &mut request) {
            audited::refuse(&self.api, self.operation, &request, &problem);
            return Either::Right(Either::Right(ready(Ok(problem.into_response()))));
        }
        // A head is looked at: nothing is done.
        if !self.operation.deed || request.method() == Method::HEAD {
            return Either::Left(self.handler.call(request));
        }
        let (audited, request) = Audited::new(&self.api, self.operation, request);
        Either::Right(Either::Left(Box::pin(audited.answer(self.handler.call(request)))))
    }
}

fn admit(api: &Api, operation: &Operation, request: &mut Request) -> Result<(), Problem> {
    // Read before it may be refused: of a dry run that is, the audit log tells nothing.
    let params = Params::of(request.uri(), operation.query);
    let params = params.map(|params| drop(request.extensions_mut().insert(params)));
    access::admit(api, operation, request)?;
    if operation.bulk && request.extensions().get::<InReserve>().is_some() {
        let detail = "all connections for large requests are taken";
        return Err(Problem::unavailable("busy", detail, RETRY_SOON));
    }
    params
}
