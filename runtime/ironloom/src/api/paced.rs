//! A connection whose peer has to read: an answer that goes out too slowly ends it.

use std::future::Future as _;
use std::io;
use std::net::Shutdown;
use std::os::fd::AsFd as _;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, ready};
use std::time::Duration;

use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::net::TcpStream;
use tokio::time::{Instant, Sleep};

use super::connections::Connection;

/// Bytes of an answer that have to go out in each second, beyond the time for which it may be stuck.
const LEAST_RATE: u64 = 32 << 10;

/// A stream that tells its connection of all that goes.
pub(super) struct Paced {
    stream: Arc<TcpStream>,
    connection: Arc<Connection>,
    grace: Duration,
    stall: Option<Stall>,
}

/// The peer has not read all of an answer yet.
struct Stall {
    since: Instant,
    written: u64,
    timer: Pin<Box<Sleep>>,
}

impl Paced {
    /// Wraps a stream, of which nobody else reads or writes; an answer may stall for `grace`.
    pub(super) fn new(stream: Arc<TcpStream>, connection: Arc<Connection>, grace: Duration) -> Self {
        Self { stream, connection, grace, stall: None }
    }

    fn wrote(
        &mut self,
        written: Poll<io::Result<usize>>,
        context: &mut Context<'_>,
    ) -> Poll<io::Result<usize>> {
        match written {
            Poll::Ready(Ok(bytes)) => {
                self.connection.is_active();
                if let Some(stall) = &mut self.stall {
                    stall.written += bytes as u64;
                }
                Poll::Ready(Ok(bytes))
            }
            Poll::Ready(Err(error)) => Poll::Ready(Err(error)),
            Poll::Pending => {
                let (now, grace) = (Instant::now(), self.grace);
                let stall = self.stall.get_or_insert_with(|| Stall {
                    since: now,
                    written: 0,
                    timer: Box::pin(tokio::time::sleep_until(now + grace)),
                });
                let allowed = grace + Duration::from_millis(stall.written * 1_000 / LEAST_RATE);
                stall.timer.as_mut().reset(stall.since + allowed);
                ready!(stall.timer.as_mut().poll(context));
                let error = io::Error::new(io::ErrorKind::TimedOut, "the peer reads its answer too slowly");
                Poll::Ready(Err(error))
            }
        }
    }
}

impl AsyncRead for Paced {
    fn poll_read(
        self: Pin<&mut Self>,
        context: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        loop {
            ready!(self.stream.poll_read_ready(context))?;
            match self.stream.try_read_buf(buffer) {
                Ok(_) => return Poll::Ready(Ok(())),
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => {}
                Err(error) => return Poll::Ready(Err(error)),
            }
        }
    }
}

impl AsyncWrite for Paced {
    fn poll_write(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        let written = poll_write(&self.stream, context, |stream| stream.try_write(bytes));
        self.wrote(written, context)
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        parts: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        let written = poll_write(&self.stream, context, |stream| stream.try_write_vectored(parts));
        self.wrote(written, context)
    }

    fn is_write_vectored(&self) -> bool {
        true
    }

    fn poll_flush(mut self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        // A flush means that everything was handed over.
        self.stall = None;
        Poll::Ready(Ok(()))
    }

    fn poll_shutdown(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        // tokio does it for an owner alone. It holds for the connection, whichever descriptor it is done by.
        let other = std::net::TcpStream::from(self.stream.as_fd().try_clone_to_owned()?);
        match other.shutdown(Shutdown::Write) {
            Err(error) if error.kind() != io::ErrorKind::NotConnected => Poll::Ready(Err(error)),
            _ => Poll::Ready(Ok(())),
        }
    }
}

/// Writes what goes out at once.
fn poll_write(
    stream: &TcpStream,
    context: &mut Context<'_>,
    write: impl Fn(&TcpStream) -> io::Result<usize>,
) -> Poll<io::Result<usize>> {
    loop {
        ready!(stream.poll_write_ready(context))?;
        match write(stream) {
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => {}
            written => return Poll::Ready(written),
        }
    }
}
