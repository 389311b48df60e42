//! A connection to a stream of readings.

use std::io;
use std::task::Poll;
use std::time::Duration;

use anyhow::anyhow;
use bytes::Bytes;
use futures_util::stream::{SplitSink, SplitStream};
use futures_util::{SinkExt as _, StreamExt as _};
use rustls::pki_types::ServerName;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::TcpStream;
use tokio::time::{Instant, timeout, timeout_at};
use tokio_tungstenite::tungstenite::client::IntoClientRequest as _;
use tokio_tungstenite::tungstenite::handshake::client::Request;
use tokio_tungstenite::tungstenite::http::Uri;
use tokio_tungstenite::tungstenite::http::header::AUTHORIZATION;
use tokio_tungstenite::tungstenite::protocol::CloseFrame;
use tokio_tungstenite::tungstenite::protocol::frame::coding::CloseCode;
use tokio_tungstenite::tungstenite::{Error, Message, Utf8Bytes};
use tokio_tungstenite::{WebSocketStream, client_async};

use crate::api::facade::Problem;
use crate::api::{STREAM_DONE, StreamWord};
use crate::authorities;
use crate::cli::client::segment;
use crate::cli::credentials::Credentials;
use crate::cli::failure::Failure;

/// The time for a connection to be made.
const CONNECT: Duration = Duration::from_secs(5);
/// The time for the server's first answer: it may have to end another connection first.
const ANSWER: Duration = Duration::from_secs(30);
/// A server that has said nothing for so long is gone: it asks each 30 s whether we are there.
const SILENCE: Duration = Duration::from_secs(90);
/// The time that the server has to close the connection after us.
const LAST_WORDS: Duration = Duration::from_secs(2);

/// The server's address.
#[derive(Debug)]
pub(super) struct Address {
    url: String,
    host: String,
    port: u16,
    tls: bool,
    /// The stream, as a URL.
    stream: String,
    credentials: Credentials,
}

impl Address {
    /// The stream of this key on the server of this URL.
    pub(super) fn new(
        url: &str,
        key: &str,
        partial: bool,
        credentials: Credentials,
    ) -> Result<Self, Failure> {
        let url = url.trim_end_matches('/');
        let misuse =
            || Failure::Misuse(format!("{url:?} is not the URL of a server, such as http://127.0.0.1:7420"));
        let uri: Uri = url.parse().map_err(|_| misuse())?;
        let (scheme, tls, port) = match uri.scheme_str() {
            Some("http") => ("ws", false, 80),
            Some("https") => ("wss", true, 443),
            _ => return Err(misuse()),
        };
        let authority = uri.authority().ok_or_else(misuse)?;
        let partial = if partial { "&partial=true" } else { "" };
        let path = uri.path().trim_end_matches('/');
        Ok(Self {
            url: url.to_owned(),
            host: authority.host().trim_start_matches('[').trim_end_matches(']').to_owned(),
            port: authority.port_u16().unwrap_or(port),
            tls,
            stream: format!("{scheme}://{authority}{path}/v1/readings/stream?key={}{partial}", segment(key)),
            credentials,
        })
    }

    /// Connects, and shakes hands where the server speaks TLS.
    async fn connect(&self) -> io::Result<Box<dyn Wire>> {
        let connection = TcpStream::connect((self.host.as_str(), self.port)).await?;
        // What waits for more to be sent makes a live feed late.
        let _ = connection.set_nodelay(true);
        if !self.tls {
            return Ok(Box::new(connection));
        }
        let connector = self.credentials.connector().map_err(io::Error::other)?;
        let name = ServerName::try_from(self.host.clone()).map_err(io::Error::other)?;
        Ok(Box::new(connector.connect(name, connection).await?))
    }

    /// The first request of the stream, with the token.
    fn request(&self) -> Result<Request, Error> {
        let mut request = self.stream.as_str().into_client_request()?;
        if let Some(authorization) = self.credentials.authorization.clone() {
            request.headers_mut().insert(AUTHORIZATION, authorization);
        }
        Ok(request)
    }

    /// The server as the user named it.
    pub(super) fn url(&self) -> &str {
        &self.url
    }

    fn lost(&self, sent: bool, reason: impl Into<String>) -> Failure {
        Failure::NotReached { url: self.url.clone(), reason: reason.into(), sent }
    }
}

/// An open stream.
pub(super) struct Connection<'a> {
    address: &'a Address,
    to: To,
    from: From,
    /// When the server last said something.
    heard: Instant,
    written: Written,
}

/// Bytes to and fro, with TLS or without.
trait Wire: AsyncRead + AsyncWrite + Send + Unpin {}
impl<T: AsyncRead + AsyncWrite + Send + Unpin> Wire for T {}

type To = SplitSink<WebSocketStream<Box<dyn Wire>>, Message>;
type From = SplitStream<WebSocketStream<Box<dyn Wire>>>;

/// What became of the lines that were handed over.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Written {
    All,
    /// Some wait to be written.
    Some,
    /// Writing failed. The server may have said why before.
    Failed,
}

/// What happens on a connection.
pub(super) enum Event {
    Word(Box<StreamWord>),
    /// The next lines may be sent.
    Ready,
}

impl<'a> Connection<'a> {
    /// Opens it, and returns the server's first word.
    pub(super) async fn open(address: &'a Address) -> Result<(Self, StreamWord), Failure> {
        let connection = match timeout(CONNECT, address.connect()).await {
            Ok(Ok(connection)) => connection,
            Ok(Err(error)) => {
                return Err(match authorities::distrust(&error) {
                    Some(reason) => {
                        Failure::Distrusted { url: address.url.clone(), reason: reason.to_string() }
                    }
                    None => address.lost(false, error.to_string()),
                });
            }
            Err(_) => return Err(address.lost(false, "no connection within 5 s")),
        };
        let request = address.request().map_err(|error| Failure::Misuse(error.to_string()))?;
        let opened = timeout(ANSWER, client_async(request, connection)).await;
        let socket = match opened {
            Ok(Ok((socket, _))) => socket,
            Ok(Err(Error::Http(response))) => {
                let body = response.body().as_deref().unwrap_or_default();
                return Err(match serde_json::from_slice::<Problem>(body) {
                    Ok(problem) => Failure::Refused(problem),
                    Err(_) => Failure::Other(anyhow!(
                        "{} answers {}: is it an ironloom server?",
                        address.url,
                        response.status()
                    )),
                });
            }
            Ok(Err(error)) => return Err(address.lost(true, error.to_string())),
            Err(_) => return Err(address.lost(true, "no answer within 30 s")),
        };
        let (to, from) = socket.split();
        let mut connection = Self { address, to, from, heard: Instant::now(), written: Written::All };
        let word = timeout(ANSWER, hear(&mut connection.from, &mut connection.heard, address)).await;
        let word = word.unwrap_or_else(|_| Err(address.lost(true, "no word within 30 s")))?;
        Ok((connection, word))
    }

    /// What happens next; lines may be sent only where some are `wanted`. Nothing is lost where the wait is given up.
    pub(super) async fn next(&mut self, wanted: bool) -> Result<Event, Failure> {
        let Self { address, to, from, heard, written } = self;
        loop {
            let write = std::future::poll_fn(|cx| match *written {
                Written::Failed => Poll::Pending,
                _ if wanted => to.poll_ready_unpin(cx),
                Written::Some => to.poll_flush_unpin(cx),
                Written::All => Poll::Pending,
            });
            tokio::select! {
                biased;
                word = hear(from, heard, address) => return word.map(|word| Event::Word(Box::new(word))),
                ready = write => match ready {
                    Ok(()) if wanted => return Ok(Event::Ready),
                    Ok(()) => *written = Written::All,
                    Err(_) => *written = Written::Failed,
                },
            }
        }
    }

    /// Hands lines over, once they may be sent.
    pub(super) fn send(&mut self, lines: Bytes) {
        let sent = self.to.start_send_unpin(Message::Binary(lines));
        self.written = if sent.is_ok() { Written::Some } else { Written::Failed };
    }

    /// Says goodbye: all is taken, and the key won't come again.
    pub(super) async fn close(mut self) {
        let close = CloseFrame { code: CloseCode::Normal, reason: Utf8Bytes::from_static(STREAM_DONE) };
        let rest = async {
            let _ = self.to.send(Message::Close(Some(close))).await;
            while let Some(Ok(_)) = self.from.next().await {}
        };
        let _ = timeout(LAST_WORDS, rest).await;
    }
}

/// The server's next word.
async fn hear(from: &mut From, heard: &mut Instant, address: &Address) -> Result<StreamWord, Failure> {
    let lost = |reason: String| Err(address.lost(true, reason));
    loop {
        // Not from now on: whoever sends asks anew with each line.
        let said = timeout_at(*heard + SILENCE, from.next()).await;
        *heard = Instant::now();
        match said {
            Ok(Some(Ok(Message::Text(text)))) => {
                return serde_json::from_str(&text).map_err(|error| {
                    Failure::Other(anyhow!(
                        "the server's word can't be read ({error}): is it a different version?"
                    ))
                });
            }
            Ok(Some(Ok(Message::Close(Some(close))))) if !close.reason.is_empty() => {
                return lost(close.reason.to_string());
            }
            Ok(Some(Ok(Message::Close(_))) | None) => return lost("it closed the connection".to_owned()),
            Ok(Some(Ok(_))) => {}
            Ok(Some(Err(error))) => return lost(error.to_string()),
            Err(_) => return lost("it has said nothing for 90 s".to_owned()),
        }
    }
}
