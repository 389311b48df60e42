//! Readings over a WebSocket: acknowledged once durable, each taken once, whatever ends the connection.

use std::net::TcpStream;
use std::time::Duration;

use anyhow::{Context as _, Result, bail, ensure};
use ironloom_tests::{Client, Setup, wait_until};
use serde_json::{Value, json};
use tungstenite::{Message, WebSocket};

/// Longer than any answer takes.
const PATIENCE: Duration = Duration::from_secs(30);

struct Stream(WebSocket<TcpStream>);

impl Stream {
    /// Opens a stream, and returns how far it has come.
    fn open(client: &Client, query: &str) -> Result<(Self, u64)> {
        let address = client.url().strip_prefix("http://").context("no address")?;
        let connection = TcpStream::connect(address)?;
        connection.set_read_timeout(Some(PATIENCE))?;
        let (socket, _) =
            tungstenite::client(format!("ws://{address}/v1/readings/stream{query}"), connection)?;
        let mut stream = Self(socket);
        let word = stream.word()?;
        Ok((stream, through(&word)?))
    }

    fn send(&mut self, lines: &str) -> Result<()> {
        Ok(self.0.send(Message::text(lines))?)
    }

    /// The next word of the server.
    fn word(&mut self) -> Result<Value> {
        loop {
            match self.0.read()? {
                Message::Text(text) => return Ok(serde_json::from_str(&text)?),
                Message::Close(close) => bail!("closed: {close:?}"),
                _ => {}
            }
        }
    }

    /// Reads words until so many lines are durable; returns all of them.
    fn until(&mut self, lines: u64) -> Result<Vec<Value>> {
        let mut words = vec![self.word()?];
        while through(&words[words.len() - 1])? < lines {
            words.push(self.word()?);
        }
        Ok(words)
    }

    /// The last word before the server closes, and with which code it does.
    fn end(&mut self) -> Result<(Value, u16)> {
        let mut last = Value::Null;
        loop {
            match self.0.read()? {
                Message::Text(text) => last = serde_json::from_str(&text)?,
                Message::Close(Some(close)) => return Ok((last, close.code.into())),
                Message::Close(None) => bail!("closed without a code"),
                _ => {}
            }
        }
    }
}

fn through(word: &Value) -> Result<u64> {
    word["through"].as_u64().with_context(|| format!("a word without `through`: {word}"))
}

fn line(number: u64) -> String {
    format!("{{\"point\":\"line/{}\",\"value\":{number}}}\n", number % 10)
}

/// The values in the journal, in its order.
fn values(client: &Client) -> Result<Vec<u64>> {
    let readings = client.journal(0, "")?;
    readings.iter().map(|reading| reading["value"].as_u64().with_context(|| format!("{reading}"))).collect()
}

#[test]
fn what_is_acknowledged_is_durable_and_in_order() -> Result<()> {
    const LINES: u64 = 20_000;
    let server = Setup::new()?.start()?;
    let (mut stream, begun) = Stream::open(server.client(), "")?;
    assert_eq!(begun, 0);
    // One by one, several in one message, without a line end, and with an empty line.
    (1..=LINES).try_for_each(|number| stream.send(&line(number)))?;
    stream.send(&(line(LINES + 1) + &line(LINES + 2)))?;
    stream.send(line(LINES + 3).trim_end())?;
    stream.send("\n")?;
    let words = stream.until(LINES + 4)?;
    ensure!(words.len() < 5_000, "{} words for {LINES} lines", words.len());
    let setup = server.setup().clone();
    server.kill()?;
    let server = setup.start()?;
    assert_eq!(values(server.client())?, (1..=LINES + 3).collect::<Vec<_>>());
    ensure!(server.stop()?.success());
    Ok(())
}

#[test]
fn a_stream_with_a_key_goes_on_where_it_was_whatever_ends_its_connection() -> Result<()> {
    const LINES: u64 = 30_000;
    let setup = Setup::new()?;
    let mut server = setup.start()?;
    let mut next = 1;
    for round in 0.. {
        let (mut stream, come) = Stream::open(server.client(), "?key=scale-7")?;
        ensure!(come < next, "{come} lines, and {} were sent", next - 1);
        if come == LINES {
            break;
        }
        next = come + 1;
        let end = (next + 7_000).min(LINES + 1);
        while next < end {
            stream.send(&line(next))?;
            next += 1;
        }
        // Some of it is acknowledged, the rest is on its way.
        stream.word()?;
        if round % 2 == 0 {
            drop(stream);
        } else {
            server.kill()?;
            server = setup.start()?;
        }
        ensure!(round < 100, "it doesn't come to an end");
    }
    assert_eq!(values(server.client())?, (1..=LINES).collect::<Vec<_>>(), "each once");
    let (_, other) = Stream::open(server.client(), "?key=scale-8")?;
    assert_eq!(other, 0, "another key, another stream");
    ensure!(server.stop()?.success());
    Ok(())
}

#[test]
fn a_bad_line_is_named_and_what_is_before_it_is_taken() -> Result<()> {
    let server = Setup::new()?.start()?;
    let (mut stream, _) = Stream::open(server.client(), "?key=k")?;
    stream.send(&(line(1) + &line(2)))?;
    stream.until(2)?;
    stream.send(&(line(3) + "{\"point\":\"a\",\"value\":}\n" + &line(5)))?;
    let (last, code) = stream.end()?;
    assert_eq!((through(&last)?, code), (3, 1008));
    assert_eq!(last["problem"]["errors"][0]["where"]["line"], json!(4), "{last}");
    assert_eq!(values(server.client())?, [1, 2, 3]);
    assert_eq!(Stream::open(server.client(), "?key=k")?.1, 3);

    // With `partial` it goes on.
    let (mut stream, _) = Stream::open(server.client(), "?key=p&partial=true")?;
    stream.send(&(line(11) + "nonsense\n" + &line(13)))?;
    let words = stream.until(3)?;
    let errors = words.iter().filter_map(|word| word["errors"].as_array()).flatten();
    let lines: Vec<&Value> = errors.map(|error| &error["where"]["line"]).collect();
    assert_eq!(lines, [&json!(2)], "{words:?}");
    stream.send(&line(14))?;
    stream.until(4)?;
    assert_eq!(values(server.client())?, [1, 2, 3, 11, 13, 14]);

    let (mut stream, _) = Stream::open(server.client(), "")?;
    // The server may close while this is still written.
    let _ = stream.send(&"x".repeat(2 << 20));
    let (last, code) = stream.end()?;
    assert_eq!((last["problem"]["type"].as_str().is_some(), code), (true, 1008), "{last}");
    ensure!(server.stop()?.success());
    Ok(())
}

#[test]
fn a_new_connection_takes_its_stream_over() -> Result<()> {
    let server = Setup::new()?.start()?;
    let (mut first, _) = Stream::open(server.client(), "?key=k")?;
    first.send(&line(1))?;
    let (mut second, come) = Stream::open(server.client(), "?key=k")?;
    // It waited for what the first had sent, as far as that had arrived.
    ensure!(come <= 1);
    let (last, code) = first.end()?;
    assert_eq!((through(&last)?, code), (come, 1001));
    (come + 1..=3).try_for_each(|number| second.send(&line(number)))?;
    second.until(3)?;
    assert_eq!(values(server.client())?, [1, 2, 3]);
    ensure!(server.stop()?.success());
    Ok(())
}

#[test]
fn a_server_that_stops_says_so_and_how_far_the_stream_has_come() -> Result<()> {
    let mut server = Setup::new()?.start()?;
    let (mut stream, _) = Stream::open(server.client(), "")?;
    stream.send(&line(1))?;
    server.terminate()?;
    let (last, code) = stream.end()?;
    ensure!(through(&last)? <= 1);
    assert_eq!(code, 1001);
    ensure!(server.wait()?.success());
    let setup = server.setup().clone();
    let server = setup.start()?;
    assert_eq!(values(server.client())?.len() as u64, through(&last)?);
    ensure!(server.stop()?.success());
    Ok(())
}

#[test]
fn keys_and_requests_that_are_none_are_refused_by_name() -> Result<()> {
    let server = Setup::new()?.start()?;
    let plain = server.client().get("/v1/readings/stream")?;
    ensure!((400..500).contains(&plain.status), "{}", plain.status);
    let address = server.client().url().trim_start_matches("http://").to_owned();
    let open = |query: &str| {
        let connection = TcpStream::connect(&address)?;
        let url = format!("ws://{address}/v1/readings/stream{query}");
        anyhow::Ok(tungstenite::client(url, connection).err().context("it was opened")?.to_string())
    };
    for query in ["?key=", "?key=a%20b", "?kee=a"] {
        ensure!(open(query)?.contains("400"), "{query}: {}", open(query)?);
    }
    // Its place is given back: a connection costs nothing once it is closed.
    for _ in 0..1_200 {
        Stream::open(server.client(), "")?;
    }
    wait_until("the server answers", || Ok(server.client().get("/healthz")?.status == 200))?;
    ensure!(server.stop()?.success());
    Ok(())
}
