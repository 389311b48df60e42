//! Sources are slowed for an app that must keep up, and for no other.

use anyhow::{Context as _, Result, ensure};
use ironloom_tests::apps::{install, number, wait_for_installation};
use ironloom_tests::{Client, Server, Setup, guests, wait_until};
use serde_json::json;

/// An app that takes milliseconds for each of its readings.
fn slow_app(server: &Server, more: serde_json::Value) -> Result<()> {
    let package = guests::package("hostile")?;
    install(server.client(), "slow", &package, json!({"command": ["to/{whom}/command"]}), more)?;
    wait_for_installation(server.client(), "slow", "running", |slow| slow["state"] == "running")?;
    Ok(())
}

fn shows(client: &Client, line: &str) -> Result<bool> {
    Ok(client.get("/metrics")?.text().lines().any(|found| found == line))
}

/// From now on the sources are slowed for it.
fn keeps_up(client: &Client) -> Result<()> {
    wait_until("it is looked at", || shows(client, "ironloom_keeping_up 1"))
}

fn server() -> Result<Server> {
    Setup::new()?.config("[ingest]\nmax_lag = \"1 s\"\n").start()
}

const SLOW: &str = "{\"point\":\"to/me/command\",\"value\":\"spin\"}\n";

fn push(client: &Client) -> Result<u16> {
    Ok(client.push(SLOW.as_bytes(), None)?.status)
}

#[test]
fn pushes_wait_for_an_app_that_must_keep_up_and_not_while_it_is_paused() -> Result<()> {
    const PUSHES: u64 = 300;
    let server = server()?;
    slow_app(&server, json!({"keep_up": true}))?;
    let client = server.client();
    keeps_up(client)?;
    let shown = client.installation("slow")?;
    assert_eq!(shown["keep_up"], json!(true));
    let said = String::from_utf8(server.cli(&["show", "slow"])?.stdout)?;
    ensure!(said.contains("keep up"), "{said}");
    let (mut most, mut refused, mut slowed) = (0, 0, false);
    let mut pushed = 0;
    while pushed < PUSHES {
        match push(client)? {
            200 => pushed += 1,
            503 => refused += 1,
            status => anyhow::bail!("{status}"),
        }
        most = most.max(number(&client.installation("slow")?, "lag.readings"));
        let ready = client.get("/readyz")?.json()?;
        slowed |= ready["notes"].to_string().contains("sources are slowed: slow must keep up");
    }
    // A second's worth of its work, and what came in the quarter until its speed was known: far fewer than all.
    ensure!(most <= PUSHES / 2, "{most} readings waited, {refused} pushes were refused");
    ensure!(slowed, "nobody said it");

    // Behind as it is, once it is paused everything goes on.
    while shows(client, "ironloom_slowed_for 0")? {
        push(client)?;
    }
    client.send("POST", "/v1/installations/slow/pause", &[], b"")?;
    wait_until("nobody is slowed", || shows(client, "ironloom_slowed_for 0"))?;
    for _ in 0..200 {
        assert_eq!(push(client)?, 200);
    }
    let lag = number(&client.installation("slow")?, "lag.readings");
    ensure!(lag >= 200, "{lag} readings wait");

    // Resumed with a backlog it holds nobody up until it has caught up.
    client.send("POST", "/v1/installations/slow/resume", &[], b"")?;
    wait_for_installation(client, "slow", "running", |slow| slow["state"] == "running")?;
    for _ in 0..50 {
        assert_eq!(push(client)?, 200);
    }
    ensure!(server.stop()?.success());
    Ok(())
}

#[test]
fn an_app_that_needn_t_keep_up_slows_nobody() -> Result<()> {
    let server = server()?;
    slow_app(&server, json!({}))?;
    let many = SLOW.repeat(300);
    assert_eq!(server.client().push(many.as_bytes(), None)?.status, 200);
    // As long as the others need to be slowed.
    std::thread::sleep(std::time::Duration::from_secs(2));
    for _ in 0..20 {
        assert_eq!(push(server.client())?, 200);
    }
    let lag = number(&server.client().installation("slow")?, "lag.readings");
    ensure!(lag > 100, "{lag} readings wait");
    ensure!(server.stop()?.success());
    Ok(())
}

#[test]
fn what_is_refused_names_the_app() -> Result<()> {
    let server = server()?;
    slow_app(&server, json!({"keep_up": true}))?;
    let client = server.client();
    // More than it takes in the longest time that a push waits, at once: it is behind until the end.
    keeps_up(client)?;
    let many = SLOW.repeat(2_000);
    assert_eq!(client.push(many.as_bytes(), None)?.status, 200);
    wait_until("sources are slowed", || shows(client, "ironloom_slowed_for 1"))?;
    let problem = client.push(SLOW.as_bytes(), None)?.problem(503)?;
    assert_eq!(problem["kind"], json!("apps-behind"));
    let detail = problem["detail"].as_str().context("no detail")?;
    assert_eq!(detail, "sources are slowed: slow must keep up, and is behind by more than ingest.max_lag");
    assert_eq!(problem["retry_after"], json!(1));
    ensure!(server.stop()?.success());
    Ok(())
}

#[test]
fn only_sources_of_the_app_and_of_those_whose_outputs_it_reads_are_slowed() -> Result<()> {
    let server = server()?;
    let client = server.client();
    let package = guests::package("hostile")?;
    install(client, "feeder", &package, json!({"command": ["from/{whom}"]}), json!({}))?;
    install(client, "other", &package, json!({"command": ["other/{whom}"]}), json!({}))?;
    let reads = json!({"command": ["to/me/{whom}", "apps/feeder/echo/{whom}"]});
    install(client, "slow", &package, reads, json!({"keep_up": true}))?;
    wait_for_installation(client, "slow", "running", |slow| slow["state"] == "running")?;
    keeps_up(client)?;
    let line = |point: &str, value: &str| json!({"point": point, "value": value}).to_string() + "\n";
    let status = |body: &str| -> Result<u16> { Ok(client.push(body.as_bytes(), None)?.status) };
    assert_eq!(status(&(line("other/a", "ok") + &line("from/a", "publish")))?, 200);
    // Longer than all that follows takes.
    assert_eq!(status(&SLOW.repeat(6_000))?, 200);
    wait_until("sources are slowed", || shows(client, "ironloom_slowed_for 1"))?;

    // Of others: points that are known, that nobody reads, that are new, and more than are looked through here.
    let many: String = (0..20_000).map(|n| line(&format!("known/{}", n % 50), "x")).collect();
    for body in [line("other/a", "ok"), line("nobody/reads", "x"), line("other/new", "ok"), many.clone()] {
        assert_eq!(status(&body)?, 200, "{}", &body[..40]);
    }
    // Its own, and the feeder's, whatever else is with them.
    for body in [
        line("to/me/command", "ok"),
        line("to/me/new", "ok"),
        line("from/a", "publish"),
        line("from/new", "ok"),
        many + &line("from/a", "ok"),
    ] {
        let problem = client.push(body.as_bytes(), None)?.problem(503)?;
        assert_eq!(problem["kind"], "apps-behind", "{problem}");
    }
    ensure!(shows(client, "ironloom_slowed_for 1")?, "it was behind to the end");
    server.kill()
}
