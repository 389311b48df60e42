//! Peers of the real server that stall: each is let go in the time that the README says, and others are answered
//! meanwhile.

use std::io::{Read as _, Write as _};
use std::net::TcpStream;
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, ensure};
use ironloom_tests::{Client, Server, Setup, wait_until};
use serde_json::json;

/// How often an honest caller asks, and how long it may wait: ten times what it takes on a busy machine.
const HONEST: Duration = Duration::from_millis(500);
const PATIENCE: Duration = Duration::from_secs(10);

fn address(client: &Client) -> Result<&str> {
    client.url().strip_prefix("http://").context("no address")
}

/// A connection that has sent this, and then does nothing.
fn stalled(client: &Client, request: &str) -> Result<TcpStream> {
    let mut stream = TcpStream::connect(address(client)?)?;
    stream.write_all(request.as_bytes())?;
    Ok(stream)
}

/// All that comes until the server ends the connection, and how long that took from `began` on.
fn until_the_end(mut stream: TcpStream, began: Instant) -> Result<(String, Duration)> {
    stream.set_read_timeout(Some(Duration::from_secs(300)))?;
    let mut all = Vec::new();
    if let Err(error) = stream.read_to_end(&mut all) {
        ensure!(error.kind() == std::io::ErrorKind::ConnectionReset, "it was kept: {error}");
    }
    Ok((String::from_utf8_lossy(&all).into_owned(), began.elapsed()))
}

/// Sockets that the server has open.
fn sockets(server: &Server) -> Result<usize> {
    let open = std::fs::read_dir(format!("/proc/{}/fd", server.pid()))?;
    let links = open.filter_map(|entry| std::fs::read_link(entry.ok()?.path()).ok());
    Ok(links.filter(|link| link.to_string_lossy().starts_with("socket:")).count())
}

fn push_without_a_body(host: &str) -> String {
    format!(
        "POST /v1/readings HTTP/1.1\r\nHost: {host}\r\nContent-Type: application/x-ndjson\r\nContent-Length: 1000\r\n\r\n"
    )
}

/// The header of a client's frame, whose mask is zero.
fn frame(first: u8, length: u64) -> Vec<u8> {
    [&[first, 0x80 | 127][..], &length.to_be_bytes(), &[0; 4]].concat()
}

#[test]
fn messages_that_never_end_hold_little_memory_and_not_for_long() -> Result<()> {
    const PEERS: usize = 400;
    const PONG: [u8; 6] = [0x8a, 0x80, 0, 0, 0, 0];
    let server = Setup::new()?.start()?;
    let (host, before) = (address(server.client())?.to_owned(), server.resident_bytes()?);
    let ask = format!(
        "GET /v1/readings/stream HTTP/1.1\r\nHost: {host}\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n\
         Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n\r\n"
    );
    // The first fragment of a text: all that a message may have but for one byte.
    let length = (1 << 20) - 1;
    let fragment = [frame(0x01, length), vec![b' '; length as usize]].concat();
    let mut peers = Vec::new();
    for _ in 0..PEERS {
        let mut peer = stalled(server.client(), &ask)?;
        peer.set_write_timeout(Some(Duration::from_millis(20)))?;
        // As much of it as is taken off.
        let whole = peer.write_all(&fragment).is_ok();
        peers.push((peer, whole));
    }
    let began = Instant::now();
    let mut most = 0;
    loop {
        most = most.max(server.resident_bytes()?.saturating_sub(before));
        // Those that could send all of it say that they are there.
        let mut open = 0;
        for (peer, whole) in &mut peers {
            peer.set_nonblocking(true)?;
            if *whole {
                let _ = peer.write(&PONG);
            }
            let mut said = [0; 4_096];
            let read = loop {
                match peer.read(&mut said) {
                    Ok(0) => break false,
                    Ok(_) => {}
                    Err(error) => break error.kind() == std::io::ErrorKind::WouldBlock,
                }
            };
            open += usize::from(read);
        }
        if open == 0 {
            break;
        }
        ensure!(began.elapsed() < Duration::from_secs(400), "{open} are still there");
        std::thread::sleep(Duration::from_secs(1));
    }
    // 64 KiB and some buffers each, and what all large bodies may have.
    ensure!(most < 400 << 20, "{} MiB for {PEERS} messages of one MiB that don't end", most >> 20);
    eprintln!("{} MiB, {:?}", most >> 20, began.elapsed());
    let body = format!("{}\n", json!({"point": "big", "value": "x".repeat(60_000)})).repeat(20);
    server.client().push(body.as_bytes(), None)?.json()?;
    ensure!(server.stop()?.success());
    Ok(())
}

#[test]
fn peers_that_stall_are_let_go_and_the_others_are_answered() -> Result<()> {
    let server = Setup::new()?.start()?;
    let client = server.client();
    let text = "x".repeat(60_000);
    client
        .push(format!("{}\n", json!({"point": "big", "value": text})).repeat(200).as_bytes(), None)?
        .json()?;
    // The connection of the one client that goes on is kept.
    client.get("/healthz")?.json()?;
    let before = sockets(&server)?;
    let host = address(client)?;
    let began = Instant::now();

    let silent = stalled(client, "")?;
    let half = stalled(client, "GET /healthz HTTP/1.1\r\nHos")?;
    let sender = stalled(client, &push_without_a_body(host))?;
    // More than the system takes in for a reader that doesn't read.
    let pages = 16;
    let page = format!("GET /v1/readings?limit=10000 HTTP/1.1\r\nHost: {host}\r\n\r\n");
    let reader = stalled(client, &page.repeat(pages))?;
    wait_until("all four to be connected", || Ok(sockets(&server)? >= before + 4))?;

    let (let_go, longest) = std::thread::scope(|scope| -> Result<_> {
        let watches = [
            scope.spawn(move || until_the_end(silent, began)),
            scope.spawn(move || until_the_end(half, began)),
            scope.spawn(move || until_the_end(sender, began)),
        ];
        let mut longest = Duration::ZERO;
        // Where the reader's connection is gone, all are.
        while sockets(&server)? > before {
            ensure!(
                began.elapsed() < Duration::from_secs(300),
                "{} sockets are still open",
                sockets(&server)?
            );
            let asked = Instant::now();
            client.push_one("honest", 1)?;
            ensure!(client.get("/v1/readings?point=honest&limit=1")?.status == 200);
            longest = longest.max(asked.elapsed());
            std::thread::sleep(HONEST);
        }
        let mut let_go = Vec::new();
        for watch in watches {
            let_go.push(watch.join().ok().context("a watch panicked")??);
        }
        Ok((let_go, longest))
    })?;
    ensure!(longest < PATIENCE, "an honest caller waited {longest:?}");

    let [(said, silent), (_, half), (refused, sender)] = &let_go[..] else {
        anyhow::bail!("three were watched")
    };
    assert_eq!(said, "");
    // Not before their time, since a slow network isn't a silent one.
    for (what, took, least) in
        [("nothing", silent, 30), ("half a header", half, 30), ("headers without a body", sender, 10)]
    {
        let (least, most) = (Duration::from_secs(least), Duration::from_secs(10 * least));
        ensure!((least..most).contains(took), "who sent {what} was let go after {took:?}");
    }
    ensure!(refused.starts_with("HTTP/1.1 408 "), "{refused}");
    ensure!(refused.contains("too-slow"), "{refused}");
    // What was on its way already comes; the rest was given up.
    let (got, _) = until_the_end(reader, began)?;
    let complete = got.matches("HTTP/1.1 200 OK").count();
    ensure!(complete < pages, "all {complete} pages were kept for a reader that doesn't read");
    Ok(())
}
