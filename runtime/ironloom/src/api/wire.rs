//! The bytes of a connection, with TLS or without.

use std::io;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, ready};

use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::net::TcpStream;
use tokio_rustls::server::TlsStream;

use super::connections::Connection;
use super::paced::Paced;
use super::problem::{PROBLEM_JSON, Problem};
use super::tls::Tls;

/// The first byte of a TLS connection: the type of a record with a handshake.
const HANDSHAKE_RECORD: u8 = 0x16;

/// A connection that tells of all that comes of it.
pub(super) struct Wire {
    inner: Inner,
    connection: Arc<Connection>,
}

enum Inner {
    Plain(Paced),
    Tls(Box<TlsStream<Paced>>),
}

impl Wire {
    pub(super) fn plain(paced: Paced, connection: Arc<Connection>) -> Self {
        Self { inner: Inner::Plain(paced), connection }
    }

    /// Ready when the peer has shaken hands.
    pub(super) async fn shake_hands(
        tls: &Tls,
        paced: Paced,
        stream: &TcpStream,
        connection: Arc<Connection>,
    ) -> io::Result<Self> {
        let mut first = [0];
        if stream.peek(&mut first).await? == 1 && first != [HANDSHAKE_RECORD] {
            refuse_plain(stream).await?;
            return Err(io::Error::other("it doesn't speak TLS"));
        }
        let stream = tls.accept(paced).await?;
        Ok(Self { inner: Inner::Tls(Box::new(stream)), connection })
    }

    fn stream(&mut self) -> Pin<&mut (dyn Stream + '_)> {
        match &mut self.inner {
            Inner::Plain(stream) => Pin::new(stream),
            Inner::Tls(stream) => Pin::new(stream.as_mut()),
        }
    }
}

trait Stream: AsyncRead + AsyncWrite + Unpin {}
impl<T: AsyncRead + AsyncWrite + Unpin> Stream for T {}

/// Tells whoever speaks plain HTTP what is wrong, as far as it is heard.
async fn refuse_plain(stream: &TcpStream) -> io::Result<()> {
    // What has come is read, or the end of the connection would take the answer with it.
    let mut read = [0; 16 << 10];
    let _ = stream.try_read(&mut read);
    let problem =
        serde_json::to_string(&Problem::malformed("tls", "this server speaks TLS: call it with https://"))?;
    let answer = format!(
        "HTTP/1.1 400 Bad Request\r\ncontent-type: {PROBLEM_JSON}\r\nconnection: close\r\n\
         content-length: {}\r\n\r\n{problem}",
        problem.len()
    );
    stream.writable().await?;
    // It fits into the buffer of a connection to which nothing was written yet.
    stream.try_write(answer.as_bytes()).map(drop)
}

impl AsyncRead for Wire {
    fn poll_read(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        if self.connection.is_held_back() {
            // Without a waker: see `Connection::allow`.
            return Poll::Pending;
        }
        let before = buffer.filled().len();
        ready!(self.stream().poll_read(context, buffer))?;
        self.connection.receives(buffer.filled().len() - before);
        Poll::Ready(Ok(()))
    }
}

impl AsyncWrite for Wire {
    fn poll_write(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        self.stream().poll_write(context, bytes)
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        parts: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        self.stream().poll_write_vectored(context, parts)
    }

    fn is_write_vectored(&self) -> bool {
        match &self.inner {
            Inner::Plain(stream) => stream.is_write_vectored(),
            Inner::Tls(stream) => stream.is_write_vectored(),
        }
    }

    fn poll_flush(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        self.stream().poll_flush(context)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        self.stream().poll_shutdown(context)
    }
}
