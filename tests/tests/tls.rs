//! The API over TLS: certificates that are believed and those that aren't, another one while it runs, and peers that stall.

use std::fs;
use std::io::{BufRead as _, BufReader, Read as _, Write as _};
use std::net::{IpAddr, Ipv4Addr, TcpStream};
use std::path::Path;
use std::process::{Command, Output, Stdio};
use std::sync::Arc;
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, bail, ensure};
use ironloom_tests::certificates::Authority;
use ironloom_tests::server::{Server, Setup, binary};
use ironloom_tests::{Client, wait_until};
use rustls::pki_types::pem::PemObject as _;
use rustls::pki_types::{CertificateDer, ServerName};
use rustls::{ClientConfig, ClientConnection, RootCertStore, StreamOwned, SupportedProtocolVersion};
use serde_json::json;

const LOOPBACK: &str = "127.0.0.1";

/// The configuration of a server with the certificate of this name.
fn config(name: &str, more: &str) -> String {
    format!("[server]\n{more}\n[server.tls]\ncertificate = \"{name}.pem\"\nkey = \"{name}.key\"\n")
}

/// A setup in whose folder an authority is, and a certificate of it for loopback.
fn setup() -> Result<(Setup, Authority)> {
    let setup = Setup::new()?;
    let authority = Authority::new(setup.folder(), "plant-ca")?;
    authority.sign(LOOPBACK)?;
    Ok((setup.trusting(authority.certificate()), authority))
}

fn start(more: &str) -> Result<(Server, Authority)> {
    let (setup, authority) = setup()?;
    Ok((setup.config(config(LOOPBACK, more)).start()?, authority))
}

fn command(url: &str, ca: Option<&Path>, arguments: &[&str]) -> Result<Command> {
    let mut command = Command::new(binary()?);
    command.arg("--url").arg(url).args(arguments).stdin(Stdio::null());
    command.env_remove("IRONLOOM_CA").env_remove("IRONLOOM_TOKEN").env_remove("IRONLOOM_TOKEN_FILE");
    if let Some(ca) = ca {
        command.arg("--ca").arg(ca);
    }
    Ok(command)
}

fn cli(url: &str, ca: Option<&Path>, arguments: &[&str]) -> Result<Output> {
    Ok(command(url, ca, arguments)?.output()?)
}

/// The output of a command that succeeds.
fn printed(output: Output) -> Result<String> {
    ensure!(output.status.success(), "{output:?}");
    Ok(String::from_utf8(output.stdout)?)
}

/// The words of a command that can't reach its server.
fn unreached(output: Output) -> Result<String> {
    ensure!(output.status.code() == Some(3), "{output:?}");
    Ok(String::from_utf8(output.stderr)?)
}

/// The address and port of a server.
fn address(client: &Client) -> Result<&str> {
    client.url().strip_prefix("https://").context("no TLS")
}

type Tls = StreamOwned<ClientConnection, TcpStream>;

/// A connection of these versions of TLS.
fn connect(client: &Client, ca: &Path, versions: &[&'static SupportedProtocolVersion]) -> Result<Tls> {
    let mut roots = RootCertStore::empty();
    roots.add(CertificateDer::from_pem_file(ca)?)?;
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let config = ClientConfig::builder_with_provider(provider).with_protocol_versions(versions)?;
    let config = Arc::new(config.with_root_certificates(roots).with_no_client_auth());
    let address = address(client)?;
    let name = address.rsplit_once(':').context("no port")?.0;
    let connection = ClientConnection::new(config, ServerName::try_from(name.to_owned())?)?;
    let socket = TcpStream::connect(address)?;
    socket.set_read_timeout(Some(Duration::from_secs(60)))?;
    let mut tls = StreamOwned::new(connection, socket);
    while tls.conn.is_handshaking() {
        tls.conn.complete_io(&mut tls.sock)?;
    }
    Ok(tls)
}

const ALL: &[&SupportedProtocolVersion] = rustls::ALL_VERSIONS;

fn admin_token(setup: &Setup) -> Result<String> {
    Ok(fs::read_to_string(setup.data().join("admin-token"))?.trim().to_owned())
}

#[test]
fn requests_streams_and_commands_go_over_tls() -> Result<()> {
    let (server, authority) = start("tokens = \"required\"")?;
    let (client, ca) = (server.client(), authority.certificate());
    let url = client.url().to_owned();
    ensure!(url.starts_with("https://"), "{url}");
    assert_eq!(client.get("/v1/points")?.problem(401)?["kind"], "unauthenticated");
    let admin = client.with_token(&admin_token(server.setup())?);
    admin.push_one("hall/1/temperature", 20.5)?;

    let token = server.setup().data().join("admin-token");
    let with_token = |arguments: &[&str]| -> Result<Command> {
        let mut command = command(&url, Some(&ca), arguments)?;
        command.env("IRONLOOM_TOKEN_FILE", &token);
        Ok(command)
    };
    let status = printed(with_token(&["status"])?.output()?)?;
    ensure!(status.contains("certificate    until 2099-01-01T00:00:00.000000000Z"), "{status}");
    let listed = printed(with_token(&["points", "list"])?.output()?)?;
    ensure!(listed.contains("hall/1/temperature"), "{listed}");
    // A stream of readings, which is a WebSocket.
    let mut push = with_token(&["push"])?.stdin(Stdio::piped()).stderr(Stdio::piped()).spawn()?;
    let lines = "{\"point\":\"hall/1/temperature\",\"value\":21}\n".repeat(20_000);
    push.stdin.take().context("no stdin")?.write_all(lines.as_bytes())?;
    let pushed = push.wait_with_output()?;
    let said = String::from_utf8(pushed.stderr)?;
    ensure!(pushed.status.success() && said.starts_with("20000 readings taken"), "{said}");
    // Lines that are followed.
    let mut follow = with_token(&["events"])?.stdout(Stdio::piped()).spawn()?;
    let mut events = BufReader::new(follow.stdout.take().context("no stdout")?);
    let heard = std::thread::spawn(move || -> Result<String> {
        let mut line = String::new();
        events.read_line(&mut line)?;
        Ok(line)
    });
    // It doesn't say when it listens.
    wait_until("an event", || {
        admin.post("/v1/halt", &json!({}))?.json()?;
        admin.post("/v1/release", &json!({}))?.json()?;
        Ok(heard.is_finished())
    })?;
    let line = heard.join().ok().context("the reader has panicked")??;
    ensure!(line.contains("halt"), "{line}");
    follow.kill()?;
    follow.wait()?;
    let file = server.setup().folder().join("backup.tar");
    printed(with_token(&["backup", &file.to_string_lossy()])?.output()?)?;
    ensure!(fs::metadata(&file)?.len() > 1_000);
    ensure!(server.stop()?.success());
    Ok(())
}

#[test]
fn commands_say_why_they_dont_believe_a_server() -> Result<()> {
    let (server, authority) = start("")?;
    let url = server.client().url().to_owned();
    let ca = authority.certificate();
    let other = Authority::new(server.setup().folder(), "other-ca")?.certificate();
    printed(cli(&url, Some(&ca), &["status"])?)?;
    printed(command(&url, None, &["status"])?.env("IRONLOOM_CA", &ca).output()?)?;
    for (ca, arguments) in [
        (None, &["status"][..]),
        (Some(&*other), &["status"]),
        (Some(&*other), &["push"]),
        (Some(&*other), &["events"]),
    ] {
        let said = unreached(cli(&url, ca, arguments)?)?;
        ensure!(
            said.contains("its certificate isn't from a trusted authority") && said.contains("--ca"),
            "{said}"
        );
    }
    let elsewhere = url.replace(LOOPBACK, "localhost");
    for arguments in [&["status"], &["push"]] {
        let said = unreached(cli(&elsewhere, Some(&ca), arguments)?)?;
        ensure!(said.contains("its certificate is for another name"), "{said}");
    }
    let nowhere = server.setup().folder().join("nowhere.pem");
    let said = cli(&url, Some(&nowhere), &["status"])?;
    ensure!(String::from_utf8(said.stderr)?.contains("nowhere.pem can't be read"));
    ensure!(server.stop()?.success());

    // It serves all the same, so that somebody can mend it, and says so.
    let (setup, authority) = setup()?;
    authority.sign_until(LOOPBACK, 2021)?;
    let setup = setup.config(config(LOOPBACK, ""));
    let server = setup.start_listening()?;
    let url = server.client().url().to_owned();
    for arguments in [&["status"], &["push"]] {
        let said = unreached(cli(&url, Some(&authority.certificate()), arguments)?)?;
        ensure!(said.contains("its certificate expired on 2021-01-01T00:00:00Z"), "{said}");
    }
    wait_until("a warning", || Ok(setup.said().contains("the server's certificate expired on 2021-01-01")))
}

#[test]
fn plain_http_and_tls_meet_with_words() -> Result<()> {
    let (server, authority) = start("")?;
    let plain = server.client().url().replace("https://", "http://");
    for arguments in [&["status"], &["push"]] {
        let output = cli(&plain, None, arguments)?;
        let said = String::from_utf8(output.stderr)?;
        ensure!(said.contains("this server speaks TLS: call it with https://"), "{said}");
    }
    let mut socket = TcpStream::connect(address(server.client())?)?;
    socket.write_all(b"GET /healthz HTTP/1.1\r\nHost: x\r\n\r\n")?;
    let mut answer = String::new();
    socket.read_to_string(&mut answer)?;
    ensure!(answer.starts_with("HTTP/1.1 400 ") && answer.contains("\"kind\":\"tls\""), "{answer}");
    let server = Setup::new()?.start()?;
    let secure = server.client().url().replace("http://", "https://");
    for arguments in [&["status"], &["push"]] {
        let said = unreached(cli(&secure, Some(&authority.certificate()), arguments)?)?;
        ensure!(said.contains("it doesn't speak TLS; call it with http://"), "{said}");
    }
    Ok(())
}

/// The first message of a client of TLS 1.2 or older, byte by byte (RFC 5246, 8422): all that the server needs, so that its
/// version alone decides.
fn hello(version: [u8; 2]) -> Vec<u8> {
    let mut hello = version.to_vec();
    hello.extend([7; 32]);
    // No session; TLS_ECDHE_ECDSA_WITH_AES_128_GCM_SHA256; no compression.
    hello.extend([0, 0, 2, 0xc0, 0x2b, 1, 0]);
    // The group x25519, uncompressed points, ECDSA on P-256 with SHA-256.
    let extensions = [0, 10, 0, 4, 0, 2, 0, 0x1d, 0, 11, 0, 2, 1, 0, 0, 13, 0, 4, 0, 2, 4, 3];
    hello.extend([0, extensions.len() as u8]);
    hello.extend(extensions);
    let mut record = vec![0x16, 3, 1, 0, hello.len() as u8 + 4, 1, 0, 0, hello.len() as u8];
    record.extend(hello);
    record
}

#[test]
fn tls_1_2_and_1_3_are_spoken_and_no_older_one() -> Result<()> {
    let (server, authority) = start("")?;
    let (client, ca) = (server.client(), authority.certificate());
    for (version, expected) in [
        (&rustls::version::TLS12, rustls::ProtocolVersion::TLSv1_2),
        (&rustls::version::TLS13, rustls::ProtocolVersion::TLSv1_3),
    ] {
        let tls = connect(client, &ca, &[version])?;
        assert_eq!(tls.conn.protocol_version(), Some(expected));
    }
    let answer = |version| -> Result<Vec<u8>> {
        let mut socket = TcpStream::connect(address(client)?)?;
        socket.set_read_timeout(Some(Duration::from_secs(60)))?;
        socket.write_all(&hello(version))?;
        let mut answer = vec![0; 7];
        socket.read_exact(&mut answer)?;
        Ok(answer)
    };
    // A handshake with the server's hello; else an alert, fatal, "protocol_version".
    let agreed = answer([3, 3])?;
    ensure!(agreed[0] == 0x16 && agreed[5] == 2, "{agreed:?}");
    for version in [[3, 2], [3, 1], [3, 0]] {
        assert_eq!(answer(version)?, [0x15, 3, 3, 0, 2, 2, 70], "{version:?}");
    }
    Ok(())
}

#[test]
fn new_connections_get_another_certificate_and_open_ones_go_on() -> Result<()> {
    let (server, authority) = start("")?;
    let (client, ca) = (server.client(), authority.certificate());
    let end = || -> Result<_> { Ok(client.get("/v1/status")?.json()?["certificate_until"].clone()) };
    assert_eq!(end()?, "2099-01-01T00:00:00.000000000Z");
    let mut events = connect(client, &ca, ALL)?;
    write!(events, "GET /v1/events HTTP/1.1\r\nHost: {}\r\n\r\n", address(client)?)?;
    let mut events = BufReader::new(events);
    let mut heard = |word: &str| -> Result<()> {
        let mut line = String::new();
        while !line.contains(word) {
            line.clear();
            ensure!(events.read_line(&mut line)? > 0, "the stream has ended before {word:?}");
        }
        Ok(())
    };
    heard("200 OK")?;
    let first = connect(client, &ca, ALL)?.conn.peer_certificates().context("none")?.to_vec();

    authority.sign_until(LOOPBACK, 2090)?;
    let tried = client.post("/v1/reload?dry-run=true", &json!({}))?.json()?;
    ensure!(tried["notes"].to_string().contains("another certificate, until 2090-01-01"), "{tried}");
    assert_eq!(end()?, "2099-01-01T00:00:00.000000000Z");
    let taken = client.post("/v1/reload", &json!({}))?.json()?;
    ensure!(taken["notes"].to_string().contains("another certificate, until 2090-01-01"), "{taken}");
    assert_eq!(end()?, "2090-01-01T00:00:00.000000000Z");
    let second = connect(client, &ca, ALL)?.conn.peer_certificates().context("none")?.to_vec();
    ensure!(first != second, "new connections get the old certificate");
    client.post("/v1/halt", &json!({}))?.json()?;
    heard("halt")?;

    // By SIGHUP as well, and from other files.
    let (certificate, key) = authority.sign_until("localhost", 2091)?;
    fs::copy(certificate, server.setup().folder().join(format!("{LOOPBACK}.pem")))?;
    fs::copy(key, server.setup().folder().join(format!("{LOOPBACK}.key")))?;
    server.hang_up()?;
    wait_until("the third certificate", || {
        Ok(server.setup().said().contains("another certificate, until 2091-01-01"))
    })?;
    client.post("/v1/release", &json!({}))?.json()?;
    heard("release")?;
    Ok(())
}

#[test]
fn a_certificate_that_cant_be_taken_leaves_the_one_before() -> Result<()> {
    let (server, authority) = start("")?;
    let (client, ca) = (server.client(), authority.certificate());
    let folder = server.setup().folder().to_owned();
    let before = connect(client, &ca, ALL)?.conn.peer_certificates().context("none")?.to_vec();
    let file = |end: &str| folder.join(format!("{LOOPBACK}.{end}"));
    let good = fs::read_to_string(file("pem"))?;
    let refused = |says: &str| -> Result<()> {
        let problem = client.post("/v1/reload", &json!({}))?.problem(422)?;
        assert_eq!(problem["kind"], "configuration");
        let detail = problem["detail"].as_str().unwrap_or_default();
        ensure!(detail.starts_with("nothing was taken: [server.tls] ") && detail.contains(says), "{detail}");
        // Each new connection is a handshake of its own.
        let now = connect(client, &ca, ALL)?.conn.peer_certificates().context("none")?.to_vec();
        ensure!(now == before, "it has another certificate");
        Ok(())
    };
    fs::write(file("pem"), "nothing")?;
    refused("has no certificate in PEM")?;
    fs::remove_file(file("pem"))?;
    refused("can't be read")?;
    authority.sign("localhost")?;
    fs::copy(folder.join("localhost.pem"), file("pem"))?;
    refused("isn't the key of the first certificate")?;
    authority.sign_until(LOOPBACK, 2021)?;
    refused("the new one expired on 2021-01-01")?;
    server.hang_up()?;
    wait_until("words in the log", || Ok(server.setup().said().contains("SIGHUP: nothing was taken")))?;
    // Where it is back, the rest of the configuration is taken as well.
    fs::write(file("pem"), good)?;
    refused("isn't the key of the first certificate")?;
    authority.sign(LOOPBACK)?;
    client.post("/v1/reload", &json!({}))?.json()?;
    // Whether there is TLS at all is for a start.
    fs::write(folder.join("ironloom.toml"), "")?;
    let problem = client.post("/v1/reload", &json!({}))?.problem(409)?;
    ensure!(problem["detail"].to_string().contains("server.tls.certificate"), "{problem}");
    Ok(())
}

/// The words of a server that doesn't start.
fn unstarted(setup: &Setup) -> Result<String> {
    let status = setup.run_to_end()?;
    ensure!(!status.success(), "it has started");
    Ok(setup.said())
}

/// The notes of `/readyz`, which strangers don't learn.
fn notes_for_the_admin(server: &Server) -> Result<String> {
    let token = std::fs::read_to_string(server.setup().data().join("admin-token"))?;
    let ready = server.client().with_token(token.trim()).get("/readyz")?.json()?;
    Ok(ready["notes"].to_string())
}

#[test]
fn other_addresses_than_loopback_need_tls_and_tokens() -> Result<()> {
    let everywhere = IpAddr::from(Ipv4Addr::UNSPECIFIED);
    let said = unstarted(&Setup::new()?.ip(everywhere))?;
    ensure!(
        said.contains("there is no [server.tls] certificate") && said.contains("--insecure-bind"),
        "{said}"
    );
    let (setup, _) = setup()?;
    let setup = setup.ip(everywhere);
    let said = unstarted(&setup.clone().config(config(LOOPBACK, "tokens = \"optional\"")))?;
    ensure!(said.contains("tokens = \"optional\" lets whoever reaches it do everything"), "{said}");

    let server = setup.clone().config(config(LOOPBACK, "")).start()?;
    assert_eq!(server.client().get("/v1/points")?.problem(401)?["kind"], "unauthenticated");
    let notes = notes_for_the_admin(&server)?;
    ensure!(
        notes.starts_with('[') && !notes.contains("in the clear") && !notes.contains("everything"),
        "{notes}"
    );
    ensure!(server.stop()?.success());

    let open = setup.clone().config(config(LOOPBACK, "tokens = \"optional\"")).argument("--insecure-bind");
    let server = open.start()?;
    let notes = server.client().get("/readyz")?.json()?["notes"].to_string();
    ensure!(
        notes.contains("whoever reaches it may do everything") && !notes.contains("in the clear"),
        "{notes}"
    );
    ensure!(server.stop()?.success());
    let server = Setup::new()?.ip(everywhere).argument("--insecure-bind").start()?;
    let notes = notes_for_the_admin(&server)?;
    ensure!(notes.contains("tokens and readings cross the network in the clear"), "{notes}");
    Ok(())
}

#[test]
fn a_certificate_that_ends_soon_is_told() -> Result<()> {
    let (setup, authority) = setup()?;
    // Its last day is nearer than a month only if this year ends: else it is over or far.
    authority.sign_until(LOOPBACK, 2021)?;
    let checked = |setup: &Setup| -> Result<String> {
        let mut check = Command::new(binary()?);
        check.args(["serve", "--check", "--listen", "127.0.0.1:0", "--config"]);
        check.arg(setup.folder().join("ironloom.toml")).arg("--data").arg(setup.folder().join("new"));
        let output = check.output()?;
        Ok(String::from_utf8(output.stdout)? + &String::from_utf8(output.stderr)?)
    };
    fs::write(setup.folder().join("ironloom.toml"), config(LOOPBACK, ""))?;
    let said = checked(&setup)?;
    ensure!(said.contains("the server's certificate expired on 2021-01-01"), "{said}");
    authority.sign(LOOPBACK)?;
    let said = checked(&setup)?;
    ensure!(said.contains("the certificate ends on 2099-01-01"), "{said}");
    fs::write(setup.folder().join(format!("{LOOPBACK}.key")), "nothing")?;
    let said = checked(&setup)?;
    ensure!(said.contains("error: ") && said.contains(".key has no secret key in PEM"), "{said}");
    Ok(())
}

#[test]
fn peers_that_stall_are_cut_off_and_the_others_are_answered() -> Result<()> {
    let (server, authority) = start("idle = \"2 s\"")?;
    let (client, ca) = (server.client(), authority.certificate());
    client.get("/healthz")?.json()?;
    let began = Instant::now();
    // Nothing; a part of a handshake; and half a header behind a whole one.
    let hello = hello([3, 3]);
    let mut stalled = Vec::new();
    for number in 0..200 {
        let mut socket = TcpStream::connect(address(client)?)?;
        socket.set_read_timeout(Some(Duration::from_secs(120)))?;
        if number % 2 == 1 {
            socket.write_all(&hello[..20])?;
        }
        stalled.push(socket);
    }
    let mut slow = connect(client, &ca, ALL)?;
    write!(slow, "GET /healthz HTTP/1.1\r\nHos")?;
    for _ in 0..20 {
        let asked = Instant::now();
        // A connection of its own.
        Client::trusting(client.url(), &ca)?.get("/healthz")?.json()?;
        ensure!(asked.elapsed() < Duration::from_secs(5), "an honest caller waited {:?}", asked.elapsed());
    }
    let mut rest = Vec::new();
    let _ = slow.read_to_end(&mut rest);
    let took = began.elapsed();
    ensure!(took >= Duration::from_secs(2) && took < Duration::from_secs(30), "half a header took {took:?}");
    for mut socket in stalled {
        let mut rest = Vec::new();
        if let Err(error) = socket.read_to_end(&mut rest)
            && error.kind() != std::io::ErrorKind::ConnectionReset
        {
            bail!("it was kept: {error}");
        }
    }
    let took = began.elapsed();
    ensure!(
        took >= Duration::from_secs(10) && took < Duration::from_secs(100),
        "half a handshake took {took:?}"
    );
    Ok(())
}
