//! Limits of what anybody may take of the server: requests, connections and headers.

use std::io::{Read as _, Write as _};
use std::net::TcpStream;
use std::time::Duration;

use anyhow::{Context as _, Result, ensure};
use ironloom_tests::{Client, Server, Setup, wait_until};
use serde_json::json;

fn add(admin: &Client, name: &str) -> Result<String> {
    let made = admin.post("/v1/tokens", &json!({"name": name, "role": "platform-admin"}))?.json()?;
    Ok(made["token"].as_str().context("no token")?.to_owned())
}

fn start(more: &str) -> Result<(Server, Client)> {
    let server = Setup::new()?.config(format!("[server]\ntokens = \"required\"\n{more}\n")).start()?;
    let token = std::fs::read_to_string(server.setup().data().join("admin-token"))?;
    let admin = server.client().with_token(token.trim());
    Ok((server, admin))
}

#[test]
fn whoever_asks_too_often_is_told_to_wait_and_the_kill_switch_isnt() -> Result<()> {
    // One request in a second would take a second to come back: no machine is so slow that it hides a burst of two.
    let (server, admin) = start("rate = 1\nrate_of_pushes = 1000\nrate_without_token = 1")?;
    let greedy = server.client().with_token(&add(&admin, "greedy")?);
    let mut statuses = Vec::new();
    for _ in 0..50 {
        statuses.push(greedy.send("GET", "/v1/me", &[], &[])?.status);
    }
    ensure!(statuses.first() == Some(&200) && statuses.contains(&429), "{statuses:?}");
    let refused = loop {
        let answer = greedy.get("/v1/me")?;
        if answer.status != 200 {
            break answer;
        }
    };
    ensure!(refused.retry_after == Some(1), "{:?}", refused.retry_after);
    let problem = refused.problem(429)?;
    assert_eq!(problem["kind"], "too-many-requests");
    assert_eq!(problem["detail"], "more than 1 requests in a second of this token");

    // While everything else is refused, what has to come through does.
    for turn in 0..100 {
        greedy.get("/healthz")?.json()?;
        greedy.get("/readyz")?.json()?;
        greedy.post("/v1/halt", &json!({}))?.json()?;
        if turn % 10 == 0 {
            greedy.push_one("hall/1/temperature", f64::from(turn))?;
        }
    }
    // Somebody else with a token isn't held up.
    let other = server.client().with_token(&wait_for_token(&admin, "other")?);
    other.get("/v1/me")?.json()?;
    // Nor by those without one, of whom only few are told why they aren't let in.
    let mut statuses = Vec::new();
    for number in 0..50 {
        let stranger = match number % 2 {
            0 => server.client().clone(),
            _ => server.client().with_token(&format!("ilm_{number:043}")),
        };
        statuses.push(stranger.get("/v1/me")?.status);
    }
    let told = statuses.iter().filter(|status| **status == 401).count();
    ensure!(
        statuses[0] == 401 && told < 25 && statuses.iter().all(|status| [401, 429].contains(status)),
        "{statuses:?}"
    );
    wait_until("a request of the greedy one to be due again", || Ok(greedy.get("/v1/me")?.status == 200))?;
    ensure!(server.stop()?.success());
    Ok(())
}

fn wait_for_token(admin: &Client, name: &str) -> Result<String> {
    let mut made = None;
    wait_until("a token", || {
        made = add(admin, name).ok();
        Ok(made.is_some())
    })?;
    made.context("no token")
}

#[test]
fn a_command_waits_where_it_is_told_to() -> Result<()> {
    let (server, admin) = start("rate_of_pushes = 1")?;
    let token = server.setup().data().join("admin-token");
    while admin.push(b"{\"point\":\"a\",\"value\":1}\n", None)?.status == 200 {}
    let pushed = std::process::Command::new(ironloom_tests::server::binary()?)
        .args(["--url", server.client().url(), "--token-file"])
        .arg(token)
        .arg("push")
        .stdin(std::fs::File::open(lines(server.setup())?)?)
        .output()?;
    ensure!(pushed.status.success(), "{pushed:?}");
    Ok(())
}

fn lines(setup: &Setup) -> Result<std::path::PathBuf> {
    let path = setup.folder().join("lines.ndjson");
    std::fs::write(&path, "{\"point\":\"a\",\"value\":2,\"at\":\"2026-01-01T00:00:00Z\"}\n")?;
    Ok(path)
}

#[test]
fn programs_of_this_machine_that_need_no_token_arent_counted() -> Result<()> {
    let server = Setup::new()?.config("[server]\nrate = 1\nrate_without_token = 1\n").start()?;
    for _ in 0..200 {
        server.client().get("/v1/me")?.json()?;
    }
    Ok(())
}

#[test]
fn ten_thousand_idle_connections_are_bounded() -> Result<()> {
    const CONNECTIONS: usize = 64;
    let server = Setup::new()?.config(format!("[server]\nconnections = {CONNECTIONS}\n")).start()?;
    let address = server.client().url().strip_prefix("http://").context("no address")?.to_owned();
    server.client().get("/healthz")?.json()?;
    let before = server.descriptors()?;
    let mut idle = Vec::new();
    let mut most = 0;
    for number in 0..10_000 {
        idle.push(TcpStream::connect(&address)?);
        if number % 500 == 0 {
            Client::new(server.client().url()).get("/healthz")?.json()?;
            most = most.max(server.descriptors()?);
        }
    }
    most = most.max(server.descriptors()?);
    // And 32 in reserve; a few more are being closed, or come.
    ensure!(most <= before + CONNECTIONS + 32 + 16, "{most} descriptors, and {before} before");
    Client::new(server.client().url()).push_one("hall/1/temperature", 1.0)?;
    drop(idle);
    ensure!(server.stop()?.success());
    Ok(())
}

#[test]
fn strangers_who_go_on_sending_what_was_refused_make_room() -> Result<()> {
    const CONNECTIONS: usize = 16;
    // As many as there are places, with those in reserve.
    const STRANGERS: usize = CONNECTIONS + 32;
    let (server, admin) = start(&format!("connections = {CONNECTIONS}"))?;
    let address = server.client().url().strip_prefix("http://").context("no address")?.to_owned();
    let mut strangers = Vec::new();
    for _ in 0..STRANGERS {
        let mut socket = TcpStream::connect(&address)?;
        socket.set_read_timeout(Some(Duration::from_secs(60)))?;
        write!(
            socket,
            "POST /v1/readings HTTP/1.1\r\nHost: {address}\r\nContent-Type: application/x-ndjson\r\n\
             Content-Length: 1000000000\r\n\r\n{{"
        )?;
        strangers.push(socket);
    }
    admin.push_one("hall/1/temperature", 1.0)?;
    let mut sent_away = 0;
    for mut socket in strangers {
        let mut answer = Vec::new();
        let _ = socket.read_to_end(&mut answer);
        sent_away += usize::from(answer.is_empty());
    }
    // Only one of those that weren't at work could make room without an answer.
    ensure!(sent_away > 0, "the admin had to wait until each had its answer");
    Ok(())
}

#[test]
fn headers_are_bounded_in_bytes_and_number() -> Result<()> {
    let server = Setup::new()?.start()?;
    let address = server.client().url().strip_prefix("http://").context("no address")?.to_owned();
    let status = |headers: &str| -> Result<String> {
        let mut socket = TcpStream::connect(&address)?;
        socket.set_read_timeout(Some(Duration::from_secs(60)))?;
        write!(socket, "GET /healthz HTTP/1.1\r\nHost: {address}\r\nConnection: close\r\n{headers}\r\n")?;
        let mut answer = String::new();
        let _ = socket.read_to_string(&mut answer);
        Ok(answer.split(' ').nth(1).unwrap_or_default().to_owned())
    };
    let many = |number: usize| (0..number).map(|number| format!("X-{number}: a\r\n")).collect::<String>();
    // Two are there already.
    assert_eq!(status(&many(98))?, "200");
    assert_eq!(status(&many(99))?, "431");
    assert_eq!(status(&format!("X-Long: {}\r\n", "a".repeat(60 << 10)))?, "200");
    assert_eq!(status(&format!("X-Long: {}\r\n", "a".repeat(64 << 10)))?, "431");
    Ok(())
}
