//! Readings over a WebSocket, one a message.

use std::net::TcpStream;
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, bail, ensure};
use ironloom_tests::Setup;
use serde_json::Value;
use tungstenite::{Message, Utf8Bytes, WebSocket};

use crate::Effort;
use crate::machine::{Shares, Usage};
use crate::report::{Bound, Row};

/// Points that the readings are of.
const POINTS: usize = 10_000;
/// Messages that are written before the server's words are looked at.
const AT_ONCE: u64 = 1_000;
/// Readings that are sent and not acknowledged, at most.
const AHEAD: u64 = 50_000;

struct Stream {
    socket: WebSocket<TcpStream>,
    lines: Vec<Utf8Bytes>,
    sent: u64,
    through: u64,
}

impl Stream {
    fn open(url: &str) -> Result<Self> {
        let address = url.strip_prefix("http://").context("no address")?;
        let connection = TcpStream::connect(address)?;
        connection.set_nodelay(true)?;
        let url = format!("ws://{address}/v1/readings/stream");
        let (socket, _) = tungstenite::client(url, connection)?;
        let line = |point| format!("{{\"point\":\"bench/p{point:06}/value\",\"value\":{point}.5}}");
        let lines = (0..POINTS).map(|point| line(point).into()).collect();
        let mut stream = Self { socket, lines, sent: 0, through: 0 };
        stream.hear()?;
        Ok(stream)
    }

    /// Reads the server's next word.
    fn hear(&mut self) -> Result<()> {
        match self.socket.read()? {
            Message::Text(text) => {
                let word: Value = serde_json::from_str(&text)?;
                ensure!(word.get("problem").is_none(), "the stream was ended: {word}");
                self.through = word["through"].as_u64().context("a word without `through`")?;
            }
            Message::Close(close) => bail!("closed: {close:?}"),
            _ => {}
        }
        Ok(())
    }

    /// Sends for so long; returns how many readings became durable in a second.
    fn run(&mut self, time: Duration) -> Result<f64> {
        let (start, before) = (Instant::now(), self.through);
        while start.elapsed() < time {
            for _ in 0..AT_ONCE {
                let line = self.lines[self.sent as usize % POINTS].clone();
                self.socket.write(Message::Text(line))?;
                self.sent += 1;
            }
            self.socket.flush()?;
            while self.sent - self.through > AHEAD {
                self.hear()?;
            }
        }
        Ok((self.through - before) as f64 / start.elapsed().as_secs_f64())
    }
}

pub(crate) fn measure(effort: Effort) -> Result<Row> {
    let server = Setup::new()?.start()?;
    let mut stream = Stream::open(server.client().url())?;
    stream.run(effort.warm_up)?;
    let before = Usage::now(Some(server.pid()))?;
    let mut row = Row {
        what: "one connection, one reading a message -> durable, 10,000 points",
        unit: "readings/s",
        bound: Bound::AtLeast(400_000.0),
        runs: Vec::new(),
        notes: Vec::new(),
        shares: Shares::default(),
    };
    for _ in 0..effort.runs {
        row.runs.push(stream.run(effort.run)?);
    }
    row.shares = Usage::now(Some(server.pid()))?.since(&before);
    while stream.through < stream.sent {
        stream.hear()?;
    }
    let last = server.client().journal(stream.sent - 1, "")?;
    ensure!(last.len() == 1, "{} readings of the last one", last.len());
    row.notes.push(format!("{} readings, at most {AHEAD} of them not acknowledged", stream.sent));
    ensure!(server.stop()?.success(), "the server didn't stop cleanly");
    Ok(row)
}
