//! Readings over a WebSocket: acknowledged once durable, each taken once, whatever ends the connection.

use std::io::Write as _;
use std::net::TcpStream;
use std::time::Duration;

use anyhow::{Context as _, Result, bail, ensure};
use ironloom_tests::{Client, Setup, wait_until};
use serde_json::{Value, json};
use tungstenite::client::IntoClientRequest as _;
use tungstenite::protocol::CloseFrame;
use tungstenite::protocol::frame::coding::CloseCode;
use tungstenite::{Message, Utf8Bytes, WebSocket};

/// Longer than any answer takes.
const PATIENCE: Duration = Duration::from_secs(30);

/// An open stream, and the server's first word.
struct Stream(WebSocket<TcpStream>, Value);

impl Stream {
    /// Opens a stream, and returns how far it has come.
    fn open(client: &Client, query: &str) -> Result<(Self, u64)> {
        let address = client.url().strip_prefix("http://").context("no address")?;
        let connection = TcpStream::connect(address)?;
        connection.set_read_timeout(Some(PATIENCE))?;
        let mut request = format!("ws://{address}/v1/readings/stream{query}").into_client_request()?;
        if let Some(authorization) = client.authorization() {
            request.headers_mut().insert("authorization", authorization.parse()?);
        }
        let (socket, _) = tungstenite::client(request, connection)?;
        let mut stream = Self(socket, Value::Null);
        stream.1 = stream.word()?;
        let come = through(&stream.1)?;
        Ok((stream, come))
    }

    /// Closes it for this reason, and waits until the server has ended it.
    fn close(mut self, reason: &'static str) -> Result<()> {
        let frame = CloseFrame { code: CloseCode::Normal, reason: Utf8Bytes::from_static(reason) };
        self.0.close(Some(frame))?;
        while self.0.read().is_ok() {}
        Ok(())
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

    /// The last word on a connection that was lost.
    fn heard(&mut self) -> Result<u64> {
        let mut heard = 0;
        while let Ok(message) = self.0.read() {
            if let Message::Text(text) = message {
                heard = through(&serde_json::from_str(&text)?)?;
            }
        }
        Ok(heard)
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
    let server = server.restarted()?;
    assert_eq!(values(server.client())?, (1..=LINES + 3).collect::<Vec<_>>());
    ensure!(server.stop()?.success());
    Ok(())
}

#[test]
fn a_stream_with_a_key_goes_on_where_it_was_whatever_ends_its_connection() -> Result<()> {
    const LINES: u64 = 30_000;
    let setup = Setup::new()?;
    let mut server = setup.start()?;
    let (mut next, mut heard) = (1, 0);
    for round in 0.. {
        let (mut stream, come) = Stream::open(server.client(), "?key=scale-7")?;
        ensure!(come < next, "{come} lines, and {} were sent", next - 1);
        ensure!(come >= heard, "{come} lines, and {heard} were acknowledged");
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
        heard = heard.max(through(&stream.word()?)?);
        if round % 2 == 0 {
            drop(stream);
        } else {
            server.kill()?;
            server = setup.start()?;
            heard = heard.max(stream.heard()?);
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
fn nothing_is_acknowledged_that_is_not_on_the_disk() -> Result<()> {
    let setup = Setup::new()?;
    // What its last group would write is gone with it.
    let mut server = setup.clone().env("FAILPOINTS", "log-group-before-write@20").start()?;
    let (mut stream, _) = Stream::open(server.client(), "?key=k")?;
    let mut sent = 0;
    let mut heard = 0;
    // Lines with and without a reading, each in a record of its own.
    loop {
        let next = sent + 1;
        if stream.send(&if next % 3 == 0 { "\n".to_owned() } else { line(next) }).is_err() {
            break;
        }
        sent = next;
        match stream.word() {
            Ok(word) => heard = through(&word)?,
            Err(_) => break,
        }
        ensure!(sent < 1_000, "the binary needs --features failpoints");
    }
    ensure!(server.wait()?.code().is_none(), "it was killed");
    let server = setup.start()?;
    let (_, come) = Stream::open(server.client(), "?key=k")?;
    ensure!(heard > 5 && come >= heard, "{heard} were acknowledged, and {come} are there");
    let readings: Vec<u64> = (1..=come).filter(|number| number % 3 > 0).collect();
    assert_eq!(values(server.client())?, readings);
    ensure!(server.stop()?.success());
    Ok(())
}

#[test]
fn a_stream_that_finds_no_room_waits_and_is_whole_afterwards() -> Result<()> {
    const LINES: u64 = 200;
    // 12 MB of them fill the least log that there may be while no checkpoint ends.
    let config = "[log]\nsegment = \"64 MiB\"\ncheckpoint = \"1 MiB\"\nmax = \"193 MiB\"\n";
    let setup = Setup::new()?.config(config);
    let server = setup.clone().env("FAILPOINTS", "checkpoint-blocks-synced=hold").start()?;
    let big = format!("{}\n", json!({"point": "big", "value": "x".repeat(60_000)})).repeat(200);
    while server.client().push(big.as_bytes(), None)?.status == 200 {}
    let resident = server.resident_bytes()?;
    let (mut stream, _) = Stream::open(server.client(), "?key=k")?;
    stream.0.get_ref().set_write_timeout(Some(Duration::from_secs(1)))?;
    let text = "x".repeat(60_000);
    let line = |number: u64| format!("{}\n", json!({"point": "s", "value": format!("{number} {text}")}));
    // As much as is taken off: the network takes some of it, and so does the server.
    let mut sent = 0;
    while sent < LINES && stream.send(&line(sent + 1)).is_ok() {
        sent += 1;
    }
    // As long as there is room each record has a word of its own.
    let mut word = stream.word()?;
    while word["held_up"].is_null() {
        let before = through(&word)?;
        word = stream.word()?;
        ensure!(word["problem"].is_null(), "{word}");
        ensure!(!word["held_up"].is_null() || through(&word)? > before, "{word}");
    }
    assert_eq!(word["held_up"], "the log is full until a checkpoint has written it to the store");
    let heard = through(&word)?;
    ensure!(heard < LINES, "all of it was taken");
    let grown = server.resident_bytes()?.saturating_sub(resident);
    ensure!(grown < 100 << 20, "{grown} bytes more for a stream that waits");
    // Who takes it over doesn't wait for room.
    let (mut second, come) = Stream::open(server.client(), "?key=k")?;
    ensure!(come >= heard, "{come}, {heard}");
    second.send("\n")?;
    // One that leaves takes along what wasn't taken.
    drop(second);
    server.kill()?;

    let server = setup.start()?;
    let (mut stream, come) = Stream::open(server.client(), "?key=k")?;
    ensure!(come >= heard && come < LINES, "{come}, {heard}");
    (come + 1..=LINES).try_for_each(|number| stream.send(&line(number)))?;
    stream.until(LINES)?;
    let readings = server.client().journal(0, "point=s")?;
    let number = |reading: &Value| reading["value"].as_str()?.split(' ').next()?.parse::<u64>().ok();
    assert_eq!(
        readings.iter().filter_map(number).collect::<Vec<_>>(),
        (1..=LINES).collect::<Vec<_>>(),
        "each once"
    );
    ensure!(server.stop()?.success());
    Ok(())
}

#[test]
fn a_holder_that_reads_nothing_gives_its_stream_up_at_once() -> Result<()> {
    let server = Setup::new()?.start()?;
    let address = server.client().url().trim_start_matches("http://").to_owned();
    let connection = TcpStream::connect(&address)?;
    connection.set_write_timeout(Some(Duration::from_secs(1)))?;
    let url = format!("ws://{address}/v1/readings/stream?key=k&partial=true");
    let (mut holder, _) = tungstenite::client(url, connection)?;
    // Each bad line has words of its own, of which the network takes some megabytes.
    let bad = "nonsense\n".repeat(100);
    for _ in 0..2_000 {
        if holder.send(Message::text(bad.as_str())).is_err() {
            break;
        }
        std::thread::sleep(Duration::from_millis(1));
    }
    let began = std::time::Instant::now();
    let (mut second, _) = Stream::open(server.client(), "?key=k")?;
    second.send(&line(1))?;
    second.word()?;
    // An answer may stall for 20 s.
    ensure!(began.elapsed() < Duration::from_secs(10), "it waited {:?}", began.elapsed());
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
    assert_eq!((&last["problem"]["kind"], code), (&json!("bad-message"), 1009), "{last}");
    ensure!(server.stop()?.success());
    Ok(())
}

#[test]
fn what_is_said_to_be_dealt_with_is_remembered_with_or_without_a_reading() -> Result<()> {
    let mut server = Setup::new()?.start()?;
    let setup = server.setup().clone();
    let (mut stream, _) = Stream::open(server.client(), "?key=k&partial=true")?;
    // Each of them in a record of its own.
    for (number, lines) in
        ["\n\n".to_owned(), line(1), "nonsense\n".to_owned(), "\n".to_owned()].iter().enumerate()
    {
        stream.send(lines)?;
        stream.until([2, 3, 4, 5][number])?;
    }
    server.kill()?;
    server = setup.start()?;
    let (mut stream, come) = Stream::open(server.client(), "?key=k&partial=true")?;
    assert_eq!(come, 5);
    stream.send(&(line(2) + "\n"))?;
    let last = stream.until(7)?.pop().context("no word")?;
    let number = |name: &str| last[name].as_u64();
    assert_eq!(
        (number("taken"), number("refused"), number("sequence")),
        (Some(2), Some(1), Some(2)),
        "{last}"
    );
    assert_eq!(values(server.client())?, [1, 2]);
    ensure!(server.stop()?.success());
    Ok(())
}

#[test]
fn the_first_word_tells_which_lines_were_taken_and_a_key_that_is_done_with_is_forgotten() -> Result<()> {
    let server = Setup::new()?.start()?;
    let (mut stream, _) = Stream::open(server.client(), "?key=k")?;
    stream.send("{\"point\":\"a\",\"value\":1}\n{\"point\":\"a\",\"value\":2}\n")?;
    stream.until(2)?;
    drop(stream);
    let (stream, _) = Stream::open(server.client(), "?key=k")?;
    // Two lines of 24 bytes, and their CRC-32C by Python, bit by bit.
    assert_eq!(stream.1["mark"], json!("000000309a85a5d6"), "{}", stream.1);
    stream.close("done")?;
    let (mut stream, come) = Stream::open(server.client(), "?key=k")?;
    assert_eq!((come, &stream.1["mark"]), (0, &Value::Null));
    stream.send(&line(1))?;
    stream.until(1)?;
    stream.close("")?;
    assert_eq!(Stream::open(server.client(), "?key=k")?.1, 1, "it may come again");
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
    assert_eq!((through(&last)?, code), (come, 1008));
    assert_eq!(last["problem"]["kind"], json!("taken-over"), "{last}");
    (come + 1..=3).try_for_each(|number| second.send(&line(number)))?;
    second.until(3)?;
    assert_eq!(values(server.client())?, [1, 2, 3]);
    ensure!(server.stop()?.success());
    Ok(())
}

#[test]
fn a_key_is_that_of_the_token_that_it_came_with() -> Result<()> {
    let server = Setup::new()?.start()?;
    let source = |name: &str| -> Result<String> {
        let request = json!({"name": name, "role": "source"});
        let made = server.client().post("/v1/tokens", &request)?.json()?;
        Ok(made["token"].as_str().context("no token")?.to_owned())
    };
    let (gateway, thief) = (source("gateway-3")?, source("thief")?);
    let as_gateway = server.client().with_token(&gateway);
    let (mut first, _) = Stream::open(&as_gateway, "?key=gateway-3")?;
    first.send(&line(1))?;
    first.until(1)?;
    // Neither somebody else nor a program without a token goes on with it, or takes it over.
    for other in [&server.client().with_token(&thief), server.client()] {
        let (mut stream, come) = Stream::open(other, "?key=gateway-3")?;
        assert_eq!(come, 0);
        stream.send(&line(7))?;
        stream.until(1)?;
        // The same request of another is another one.
        let pushed = other.push(line(8).as_bytes(), Some("once"))?.json()?;
        assert_eq!((&pushed["accepted"], &pushed["duplicate"]), (&json!(1), &Value::Null));
    }
    first.send(&line(2))?;
    first.until(2)?;
    as_gateway.push(line(9).as_bytes(), Some("once"))?.json()?;

    let server = server.restarted()?;
    let as_gateway = server.client().with_token(&gateway);
    assert_eq!(Stream::open(&as_gateway, "?key=gateway-3")?.1, 2);
    assert_eq!(as_gateway.push(line(9).as_bytes(), Some("once"))?.json()?["duplicate"], json!(true));
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

#[test]
fn pings_whose_answers_nobody_reads_take_no_memory() -> Result<()> {
    let server = Setup::new()?.start()?;
    let (stream, _) = Stream::open(server.client(), "")?;
    let before = server.resident_bytes()?;
    // A masked ping of 125 bytes, as often as fits into 1 MiB.
    let mut ping = vec![0x89, 0x80 | 125, 0, 0, 0, 0];
    ping.resize(6 + 125, b'x');
    let pings = ping.repeat((1 << 20) / ping.len());
    let mut connection = stream.0.get_ref();
    connection.set_write_timeout(Some(Duration::from_secs(5)))?;
    // The server may stop reading, or end this: then no more of them arrive.
    let sent = (0..256).take_while(|_| connection.write_all(&pings).is_ok()).count();
    let grown = server.resident_bytes()?.saturating_sub(before);
    ensure!(grown < 64 << 20, "it grew by {grown} bytes for {sent} MiB of pings");
    server.client().push_one("a", 1)?;
    ensure!(server.stop()?.success());
    Ok(())
}
