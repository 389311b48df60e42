//! Takes connections, within limits of their own, and ends them in order.

use std::convert::Infallible;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use axum::Router;
use axum::body::{Body, HttpBody as _};
use axum::http::{HeaderValue, Request, header};
use axum::response::Response;
use hyper::body::Incoming;
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper_util::rt::{TokioIo, TokioTimer};
use hyper_util::server::graceful::GracefulShutdown;
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::{Semaphore, watch};
use tower::ServiceExt as _;

use super::guard::{ArrivedAt, MAX_HEADERS};

/// The longest that headers may take, and a connection idle between two requests.
const HEADERS_WITHIN: Duration = Duration::from_secs(30);
/// Open connections. Beyond: new ones wait to be taken.
const MAX_CONNECTIONS: usize = 1_024;
/// How long requests under way have once the server stops.
const LAST_ANSWERS: Duration = Duration::from_secs(10);

/// Serves until `shutdown` becomes true, then ends what is under way.
pub async fn serve(listener: TcpListener, router: Router, mut shutdown: watch::Receiver<bool>) {
    let places = Arc::new(Semaphore::new(MAX_CONNECTIONS));
    let graceful = GracefulShutdown::new();
    loop {
        let taken = tokio::select! {
            taken = take(&listener, &places) => taken,
            _ = shutdown.wait_for(|stop| *stop) => break,
        };
        let Some((stream, arrived, place)) = taken else { continue };
        let router = router.clone();
        let service = service_fn(move |request| answer(router.clone(), request, arrived));
        let connection = http1::Builder::new()
            .timer(TokioTimer::new())
            .header_read_timeout(HEADERS_WITHIN)
            .max_buf_size(MAX_HEADERS)
            .serve_connection(TokioIo::new(stream), service);
        let connection = graceful.watch(connection);
        tokio::spawn(async move {
            // A caller that goes away or breaks the protocol is no fault of the server.
            if let Err(error) = connection.await {
                tracing::debug!("connection: {error}");
            }
            drop(place);
        });
    }
    drop(listener);
    if tokio::time::timeout(LAST_ANSWERS, graceful.shutdown()).await.is_err() {
        tracing::warn!("requests were still under way when the server stopped");
    }
}

type Taken = (TcpStream, SocketAddr, tokio::sync::OwnedSemaphorePermit);

async fn take(listener: &TcpListener, places: &Arc<Semaphore>) -> Option<Taken> {
    let place = Arc::clone(places).acquire_owned().await.ok()?;
    let stream = match listener.accept().await {
        Ok((stream, _)) => stream,
        Err(error) => {
            // Out of file descriptors, as a rule: a pause lets others end.
            tracing::warn!("no connection can be taken: {error}");
            tokio::time::sleep(Duration::from_millis(100)).await;
            return None;
        }
    };
    let _ = stream.set_nodelay(true);
    let arrived = stream.local_addr().ok()?;
    Some((stream, arrived, place))
}

async fn answer(
    router: Router,
    request: Request<Incoming>,
    arrived: SocketAddr,
) -> Result<Response, Infallible> {
    let mut request = request.map(Body::new);
    request.extensions_mut().insert(ArrivedAt(arrived));
    let has_body = !request.body().is_end_stream();
    let mut response = router.oneshot(request).await?;
    if has_body && response.status().is_client_error() {
        // Its body may be unread, and then the connection can't be used again: the caller is told.
        response.headers_mut().insert(header::CONNECTION, HeaderValue::from_static("close"));
    }
    Ok(response)
}
