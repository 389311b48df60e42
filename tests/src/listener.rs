//! A listener to a server's events.

use std::io::{BufRead as _, BufReader, Write as _};
use std::net::TcpStream;
use std::sync::mpsc::{Receiver, TryRecvError, channel};

use anyhow::{Context as _, Result, ensure};
use serde_json::Value;

use crate::http::Client;
use crate::wait::wait_until;

/// Whoever listens to a server.
pub struct Listener {
    events: Receiver<Value>,
    /// All events so far that somebody has waited for, or that came before one.
    pub seen: Vec<Value>,
    socket: TcpStream,
}

impl Listener {
    /// Listens from now on; the answer has begun.
    pub fn new(client: &Client, query: &str, last: Option<&str>) -> Result<Self> {
        let host = client.url().strip_prefix("http://").context("not http")?.to_owned();
        let mut socket = TcpStream::connect(&host)?;
        let last = last.map_or(String::new(), |last| format!("Last-Event-ID: {last}\r\n"));
        let token =
            client.authorization().map_or(String::new(), |token| format!("Authorization: {token}\r\n"));
        write!(
            socket,
            "GET /v1/events?{query} HTTP/1.1\r\nHost: {host}\r\nConnection: close\r\n{token}{last}\r\n"
        )?;
        let mut answer = BufReader::new(socket.try_clone()?);
        let mut line = String::new();
        answer.read_line(&mut line)?;
        ensure!(line.starts_with("HTTP/1.1 200"), "{line}");
        while !line.contains(": events") {
            line.clear();
            ensure!(answer.read_line(&mut line)? > 0, "the answer ended");
        }
        let (to, events) = channel();
        std::thread::spawn(move || {
            for line in answer.lines().map_while(Result::ok) {
                let event = line.strip_prefix("data: ").and_then(|data| serde_json::from_str(data).ok());
                if event.is_some_and(|event: Value| to.send(event).is_err()) {
                    return;
                }
            }
        });
        Ok(Self { events, seen: Vec::new(), socket })
    }

    /// Waits for an event that fits, and returns it.
    pub fn wait(&mut self, what: &str, fits: impl Fn(&Value) -> bool) -> Result<Value> {
        wait_until(what, || {
            self.seen.extend(self.events.try_iter());
            Ok(self.seen.iter().any(&fits))
        })
        .with_context(|| format!("seen: {:?}", self.seen))?;
        self.seen.iter().find(|event| fits(event)).cloned().context("it was there")
    }
}

impl Listener {
    /// Waits until the server has ended the answer.
    pub fn wait_for_its_end(&mut self) -> Result<()> {
        wait_until("the events to end", || {
            loop {
                match self.events.try_recv() {
                    Ok(event) => self.seen.push(event),
                    Err(TryRecvError::Disconnected) => break Ok(true),
                    Err(TryRecvError::Empty) => break Ok(false),
                }
            }
        })
    }
}

impl Drop for Listener {
    fn drop(&mut self) {
        let _ = self.socket.shutdown(std::net::Shutdown::Both);
    }
}
