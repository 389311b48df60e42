//! Accepts connections within limits, and closes them cleanly.

use std::convert::Infallible;
use std::net::SocketAddr;
use std::pin::{Pin, pin};
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::Duration;

use axum::body::{Body, Bytes, HttpBody};
use axum::http::{HeaderValue, Request, Version, header};
use axum::response::Response;
use http_body_util::BodyExt as _;
use hyper::body::{Frame, Incoming, SizeHint};
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper_util::rt::{TokioIo, TokioTimer};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::{mpsc, oneshot, watch};

use super::connections::{Bounds, Connection, Connections, InReserve, Place};
use super::guard::{ArrivedAt, MAX_HEADERS};
use super::held::Held;
use super::paced::Paced;
use super::site::Site;

/// The time that running requests have once the server stops.
const LAST_ANSWERS: Duration = Duration::from_secs(10);
/// The time and bytes for which a refused body is still read.
const REFUSED_WITHIN: Duration = Duration::from_secs(5);
const REFUSED_BYTES: usize = 64 << 20;

/// Serves until `shutdown` becomes true, then ends what is under way.
pub(crate) async fn serve(listener: TcpListener, site: Site, shutdown: watch::Receiver<bool>) {
    serve_within(listener, site, shutdown, Bounds::default()).await;
}

pub(super) async fn serve_within(
    listener: TcpListener,
    site: Site,
    mut shutdown: watch::Receiver<bool>,
    bounds: Bounds,
) {
    let connections = Connections::new(bounds);
    let (running, mut all_ended) = mpsc::channel::<()>(1);
    loop {
        let taken = tokio::select! {
            taken = take(&listener, &connections) => taken,
            _ = shutdown.wait_for(|stop| *stop) => break,
        };
        let Some(Taken { stream, arrived, connection, place }) = taken else { continue };
        let (site, served) = (site.clone(), Arc::clone(&connection));
        let (place, stream) = (Arc::new(place), Arc::new(stream));
        let held = {
            let (connection, place) = (Arc::clone(&connection), Arc::clone(&place));
            Held::new(connection, &stream, place, shutdown.clone(), running.clone())
        };
        let service = service_fn(move |mut request: Request<Incoming>| {
            request.extensions_mut().insert(held.clone());
            answer(site.clone(), request, arrived, Arc::clone(&served))
        });
        let serving = http1::Builder::new()
            .timer(TokioTimer::new())
            .header_read_timeout(bounds.headers)
            // Who has sent all may say so and wait for the answer. One that is really gone is noticed when it is
            // written; handlers that take long end before, see `while_wanted`, or have a bound.
            .half_close(true)
            .max_buf_size(MAX_HEADERS)
            .serve_connection(
                TokioIo::new(Paced::new(stream, Arc::clone(&connection), bounds.stuck)),
                service,
            )
            .with_upgrades();
        let (mut stop, is_running) = (shutdown.clone(), running.clone());
        tokio::spawn(async move {
            let mut serving = pin!(serving);
            let mut stopping = false;
            loop {
                tokio::select! {
                    // A caller that goes away or breaks the protocol is no fault of the server.
                    ended = serving.as_mut() => {
                        if let Err(error) = ended {
                            tracing::debug!("connection: {error}");
                        }
                        break;
                    }
                    () = connection.ended() => {
                        tracing::debug!("connection: makes room for another");
                        break;
                    }
                    _ = stop.wait_for(|stop| *stop), if !stopping => {
                        stopping = true;
                        serving.as_mut().graceful_shutdown();
                    }
                }
            }
            drop((place, is_running));
        });
    }
    drop((listener, running));
    // Closed by the last of the connections and streams.
    if tokio::time::timeout(LAST_ANSWERS, all_ended.recv()).await.is_err() {
        tracing::warn!("requests were still running when the server stopped");
    }
}

struct Taken {
    stream: TcpStream,
    arrived: SocketAddr,
    connection: Arc<Connection>,
    place: Place,
}

async fn take(listener: &TcpListener, connections: &Connections) -> Option<Taken> {
    let stream = match listener.accept().await {
        Ok((stream, _)) => stream,
        Err(error) => {
            // Out of file descriptors, as a rule: a pause lets others end.
            tracing::warn!("no connection can be accepted: {error}");
            tokio::time::sleep(Duration::from_millis(100)).await;
            return None;
        }
    };
    let _ = stream.set_nodelay(true);
    let arrived = stream.local_addr().ok()?;
    let (connection, place) = connections.place().await?;
    Some(Taken { stream, arrived, connection, place })
}

async fn answer(
    site: Site,
    request: Request<Incoming>,
    arrived: SocketAddr,
    connection: Arc<Connection>,
) -> Result<Response, Infallible> {
    connection.set_busy(true);
    let asks_first = asks_before_sending(&request);
    let (mut request, mut rest) = Lent::of(request);
    request.extensions_mut().insert(ArrivedAt(arrived));
    if connection.is_in_reserve() {
        request.extensions_mut().insert(InReserve);
    }
    let mut response = site.answer(request).await;
    if let Ok(Rest { body, begun }) = rest.try_recv()
        && !response.status().is_success()
        // A caller who asked first sends nothing after a refusal; reading would tell it to send.
        && ((asks_first && !begun) || !discard(body).await)
    {
        // The rest of the body is unread, so the connection can't be used again: the caller is told.
        response.headers_mut().insert(header::CONNECTION, HeaderValue::from_static("close"));
    }
    if connection.is_in_reserve() {
        response.headers_mut().insert(header::CONNECTION, HeaderValue::from_static("close"));
    }
    connection.set_busy(false);
    Ok(response)
}

/// Whether the caller waits for `100 Continue`, which hyper sends once the body is read, or for a refusal.
fn asks_before_sending(request: &Request<Incoming>) -> bool {
    let expects = request.headers().get(header::EXPECT);
    request.version() > Version::HTTP_10
        && expects.is_some_and(|expects| expects.as_bytes().eq_ignore_ascii_case(b"100-continue"))
}

/// Reads a refused body on for a while without keeping anything: most callers read the answer only once
/// they have sent all, and a connection that is closed before takes the answer with it. Says whether
/// this was all.
async fn discard(mut body: Incoming) -> bool {
    let all = async {
        let mut seen = 0;
        while seen <= REFUSED_BYTES {
            match body.frame().await {
                Some(Ok(frame)) => seen += frame.data_ref().map_or(0, Bytes::len),
                Some(Err(_)) => return false,
                None => return true,
            }
        }
        false
    };
    tokio::time::timeout(REFUSED_WITHIN, all).await.unwrap_or(false)
}

/// A body that comes back, as far as it was read, when whoever read it drops it.
struct Lent {
    body: Option<Incoming>,
    /// Whether anybody has asked for some of it.
    begun: bool,
    back: Option<oneshot::Sender<Rest>>,
}

/// What comes back of a body.
struct Rest {
    body: Incoming,
    begun: bool,
}

impl Lent {
    fn of(request: Request<Incoming>) -> (Request<Body>, oneshot::Receiver<Rest>) {
        let (back, rest) = oneshot::channel();
        let lend = |body| Body::new(Self { body: Some(body), begun: false, back: Some(back) });
        (request.map(lend), rest)
    }
}

impl Drop for Lent {
    fn drop(&mut self) {
        if let (Some(body), Some(back)) = (self.body.take(), self.back.take()) {
            // If the connection is gone, nobody wants it.
            let _ = back.send(Rest { body, begun: self.begun });
        }
    }
}

impl HttpBody for Lent {
    type Data = Bytes;
    type Error = hyper::Error;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, hyper::Error>>> {
        self.begun = true;
        match &mut self.body {
            Some(body) => Pin::new(body).poll_frame(context),
            None => Poll::Ready(None),
        }
    }

    fn is_end_stream(&self) -> bool {
        self.body.as_ref().is_none_or(HttpBody::is_end_stream)
    }

    fn size_hint(&self) -> SizeHint {
        self.body.as_ref().map_or_else(SizeHint::default, HttpBody::size_hint)
    }
}
