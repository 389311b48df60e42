//! HTTP/1.1 over one connection, far cheaper than the server's side of it.

use std::io::{Read, Write};
use std::net::TcpStream;
use std::time::Duration;

use anyhow::{Context, Result, bail, ensure};

/// A connection that is kept.
#[derive(Debug)]
pub(crate) struct Connection {
    stream: TcpStream,
    buffer: Vec<u8>,
}

/// An answer, whose body lies in the connection until the next request.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Answer<'c> {
    pub status: u16,
    pub body: &'c [u8],
}

impl Connection {
    /// Connects to a server by its URL.
    pub(crate) fn open(url: &str) -> Result<Self> {
        let stream = TcpStream::connect(address(url)?).with_context(|| format!("can't connect to {url}"))?;
        stream.set_nodelay(true)?;
        stream.set_read_timeout(Some(Duration::from_secs(60)))?;
        Ok(Self { stream, buffer: Vec::with_capacity(16 << 10) })
    }

    /// The bare connection, for whoever reads answers in a way of their own.
    pub(crate) fn into_stream(self) -> TcpStream {
        self.stream
    }

    /// Sends a whole request and waits for the whole answer.
    pub(crate) fn send(&mut self, request: &[u8]) -> Result<Answer<'_>> {
        self.stream.write_all(request)?;
        self.buffer.clear();
        let head = loop {
            if let Some(end) = self.buffer.windows(4).position(|window| window == b"\r\n\r\n") {
                break end + 4;
            }
            self.read()?;
        };
        let (status, length) = parse(&self.buffer[..head])?;
        while self.buffer.len() < head + length {
            self.read()?;
        }
        ensure!(self.buffer.len() == head + length, "the server sent more than one answer to a request");
        Ok(Answer { status, body: &self.buffer[head..] })
    }

    fn read(&mut self) -> Result<()> {
        let mut chunk = [0; 16 << 10];
        let read = self.stream.read(&mut chunk).context("waited for an answer")?;
        ensure!(read > 0, "the server closed the connection");
        self.buffer.extend_from_slice(&chunk[..read]);
        Ok(())
    }
}

/// A push of lines, as it goes over the wire.
pub(crate) fn push(url: &str, body: &str) -> Result<Vec<u8>> {
    push_as(url, "application/x-ndjson", body.as_bytes())
}

/// A push of readings in any form.
pub(crate) fn push_as(url: &str, media_type: &str, body: &[u8]) -> Result<Vec<u8>> {
    let (host, length) = (address(url)?, body.len());
    let head = format!(
        "POST /v1/readings HTTP/1.1\r\nhost: {host}\r\ncontent-type: {media_type}\r\n\
         content-length: {length}\r\n\r\n"
    );
    Ok([head.as_bytes(), body].concat())
}

/// A GET, as it goes over the wire.
pub(crate) fn get(url: &str, path: &str) -> Result<Vec<u8>> {
    Ok(format!("GET {path} HTTP/1.1\r\nhost: {}\r\n\r\n", address(url)?).into_bytes())
}

fn address(url: &str) -> Result<&str> {
    url.strip_prefix("http://").with_context(|| format!("{url} is not the URL of a server"))
}

fn parse(head: &[u8]) -> Result<(u16, usize)> {
    let text = std::str::from_utf8(head).context("the head of the answer isn't text")?;
    let mut lines = text.split("\r\n");
    let status = lines.next().and_then(|line| line.split(' ').nth(1)).and_then(|code| code.parse().ok());
    let status = status.with_context(|| format!("no status in {text:?}"))?;
    for line in lines {
        if let Some((name, value)) = line.split_once(':')
            && name.eq_ignore_ascii_case("content-length")
        {
            return Ok((status, value.trim().parse()?));
        }
    }
    bail!("an answer without a length: {text:?}")
}

#[cfg(test)]
mod tests {
    #[test]
    fn heads_are_read() {
        let parse = |text: &str| super::parse(text.as_bytes()).ok();
        assert_eq!(parse("HTTP/1.1 200 OK\r\nA: b\r\nContent-Length: 17\r\n\r\n"), Some((200, 17)));
        assert_eq!(parse("HTTP/1.1 503 Service Unavailable\r\ncontent-length:0\r\n\r\n"), Some((503, 0)));
        assert_eq!(parse("HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n"), None);
        assert_eq!(parse("HTTP/1.1\r\n\r\n"), None);
    }
}
