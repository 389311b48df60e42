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

pub(crate) use super::connections::Bounds;
use super::connections::{Connection, Connections, InReserve, Place};
use super::guard::{ArrivedAt, MAX_HEADERS};
use super::held::Held;
use super::paced::Paced;
use super::rates::Peer;
use super::site::Site;
use super::tls::Tls;
use super::wire::Wire;

/// The time that running requests have once the server stops.
const LAST_ANSWERS: Duration = Duration::from_secs(10);
/// The time for a handshake of TLS.
const HANDSHAKE: Duration = Duration::from_secs(10);
/// The time and bytes for which a refused body is still read.
const REFUSED_WITHIN: Duration = Duration::from_secs(5);
const REFUSED_BYTES: usize = 64 << 20;

/// Serves until `shutdown` becomes true, then ends what is under way.
pub(crate) async fn serve(
    listener: TcpListener,
    site: Site,
    bounds: Bounds,
    tls: Option<Arc<Tls>>,
    mut shutdown: watch::Receiver<bool>,
) {
    let connections = Connections::new(bounds);
    let (running, mut all_ended) = mpsc::channel::<()>(1);
    loop {
        let taken = tokio::select! {
            taken = take(&listener, &connections, &site) => taken,
            _ = shutdown.wait_for(|stop| *stop) => break,
        };
        let Some(taken) = taken else { continue };
        let (site, tls, stop, running) = (site.clone(), tls.clone(), shutdown.clone(), running.clone());
        tokio::spawn(async move {
            if let Err(error) = serve_one(taken, site, bounds, tls, stop, running).await {
                // A caller that goes away or breaks the protocol is no fault of the server.
                tracing::debug!("connection: {error}");
            }
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
    peer: Peer,
    connection: Arc<Connection>,
    place: Place,
}

/// Why a connection ended early.
#[derive(Debug, thiserror::Error)]
enum Ended {
    #[error("makes room for another")]
    ForAnother,
    #[error("the server stops")]
    Stopping,
    #[error("no TLS: {0}")]
    NoTls(#[from] std::io::Error),
    #[error("no TLS within {} s", HANDSHAKE.as_secs())]
    NoTlsInTime(#[from] tokio::time::error::Elapsed),
    #[error(transparent)]
    Http(#[from] hyper::Error),
}

async fn serve_one(
    taken: Taken,
    site: Site,
    bounds: Bounds,
    tls: Option<Arc<Tls>>,
    mut stop: watch::Receiver<bool>,
    running: mpsc::Sender<()>,
) -> Result<(), Ended> {
    let Taken { stream, arrived, peer, connection, place } = taken;
    let (place, stream) = (Arc::new(place), Arc::new(stream));
    let held = Held::new(Arc::clone(&connection), &stream, Arc::clone(&place), stop.clone(), running.clone());
    let paced = Paced::new(Arc::clone(&stream), Arc::clone(&connection), bounds.stuck);
    let wire = match &tls {
        None => Wire::plain(paced, Arc::clone(&connection)),
        Some(tls) => {
            let shaken = Wire::shake_hands(tls, paced, &stream, Arc::clone(&connection));
            tokio::select! {
                shaken = tokio::time::timeout(HANDSHAKE, shaken) => shaken??,
                () = connection.ended() => return Err(Ended::ForAnother),
                _ = stop.wait_for(|stop| *stop) => return Err(Ended::Stopping),
            }
        }
    };
    // The connection's end is seen by whether anybody still has the stream.
    drop(stream);
    let served = Arc::clone(&connection);
    let service = service_fn(move |mut request: Request<Incoming>| {
        request.extensions_mut().insert(held.clone());
        request.extensions_mut().insert(peer);
        answer(site.clone(), request, arrived, Arc::clone(&served))
    });
    let serving = http1::Builder::new()
        .timer(TokioTimer::new())
        .header_read_timeout(bounds.headers)
        // Who has sent all may say so and wait for the answer. One that is really gone is noticed when it is
        // written; handlers that take long end before, see `while_wanted`, or have a bound.
        .half_close(true)
        .max_buf_size(MAX_HEADERS)
        // More than 100 headers are 431 by hyper's default; as a setting it takes memory for each request.
        .serve_connection(TokioIo::new(wire), service)
        .with_upgrades();
    let mut serving = pin!(serving);
    let mut stopping = false;
    let ended = loop {
        tokio::select! {
            ended = serving.as_mut() => break ended.map_err(Ended::from),
            () = connection.ended() => break Err(Ended::ForAnother),
            _ = stop.wait_for(|stop| *stop), if !stopping => {
                stopping = true;
                serving.as_mut().graceful_shutdown();
            }
        }
    };
    drop((place, running));
    ended
}

async fn take(listener: &TcpListener, connections: &Connections, site: &Site) -> Option<Taken> {
    let (stream, from) = match listener.accept().await {
        Ok(accepted) => accepted,
        Err(error) => {
            // Out of file descriptors, as a rule: a pause lets others end.
            tracing::warn!("no connection can be accepted: {error}");
            tokio::time::sleep(Duration::from_millis(100)).await;
            return None;
        }
    };
    let _ = stream.set_nodelay(true);
    let arrived = stream.local_addr().ok()?;
    let peer = Peer::of(from.ip());
    if !site.lets_in(peer) {
        tracing::debug!("connection: too many in a second from {}", from.ip());
        return None;
    }
    let (connection, place) = connections.place(peer).await?;
    Some(Taken { stream, arrived, peer, connection, place })
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
    // No browser takes it for anything else than it says, such as a page.
    response.headers_mut().insert(header::X_CONTENT_TYPE_OPTIONS, HeaderValue::from_static("nosniff"));
    // Whoever still sends what was refused, or doesn't, makes room for others.
    connection.set_busy(false);
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
