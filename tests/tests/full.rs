//! A disk without room, and a log that can't be written: what is refused, with which words and exit code, and that
//! nothing of what was acknowledged is lost.

use std::fs;

use anyhow::{Context as _, Result, ensure};
use ironloom_tests::{Setup, guests};
use serde_json::json;

#[test]
fn below_the_reserve_pushes_and_installs_are_refused_and_reads_go_on() -> Result<()> {
    let setup = Setup::new()?;
    {
        let server = setup.start()?;
        server.client().push_one("room/temperature", 21.5)?;
        ensure!(server.stop()?.success());
    }
    // No disk has that much room.
    let server = setup.clone().config("[store]\nreserve = \"1000000 GiB\"\n").start_listening()?;
    let client = server.client();
    let problem = client.push(b"{\"point\":\"room/temperature\",\"value\":22.0}", None)?.problem(507)?;
    assert_eq!(problem["kind"], "storage-full");
    ensure!(problem["detail"].to_string().contains("disk"), "{problem}");
    let package = guests::package("one-state")?;
    let refused = match client.add_package(&package.tar()) {
        // Where it is refused, at adding or at installing, is the server's choice.
        Ok(digest) => {
            let body =
                ironloom_tests::apps::request("one", &digest, json!({"value": ["room/{what}"]}), json!({}));
            client.post("/v1/installations", &body)?.problem(507)?["kind"].to_string()
        }
        Err(error) => format!("{error:#}"),
    };
    ensure!(refused.contains("storage-full"), "{refused}");
    let ready = client.get("/readyz")?;
    ensure!(ready.status == 503 && ready.text().contains("disk"), "{}", ready.text());
    assert_eq!(client.journal(0, "")?.len(), 1, "what is there can be read");
    ensure!(server.stop()?.success());

    let server = setup.start()?;
    server.client().push_one("room/temperature", 22.5)?;
    assert_eq!(server.client().journal(0, "")?.len(), 2);
    Ok(())
}

#[test]
fn a_log_that_cant_be_written_ends_the_server_with_75_and_loses_nothing() -> Result<()> {
    let setup = Setup::new()?;
    let mut server = setup.start()?;
    let client = server.client().clone();
    client.push_one("mark", 0)?;
    // The next segment can't be made any more.
    let (log, away) = (setup.data().join("log"), setup.data().join("log-away"));
    fs::rename(&log, &away)?;
    // 6 MB each: a segment has 64 MiB.
    let text = "x".repeat(60_000);
    let big = format!("{}\n", json!({"point": "big", "value": text})).repeat(100);
    let (mut acknowledged, mut answer) = (0, None);
    for n in 1..=40 {
        let body = format!("{}\n{big}", json!({"point": "mark", "value": n}));
        match client.push(body.as_bytes(), None) {
            Ok(pushed) if pushed.status == 200 => acknowledged = n,
            other => {
                answer = Some(other);
                break;
            }
        }
    }
    let answer = answer.context("everything was taken, although no segment could be begun")?;
    let problem = answer.context("the server ended before its answer was out")?.problem(503)?;
    assert_eq!(problem["kind"], "unknown-outcome", "{problem}");
    let ended = server.wait()?;
    assert_eq!(ended.code(), Some(75), "{}", setup.said());
    ensure!(setup.said().contains("log"), "{}", setup.said());

    fs::rename(&away, &log)?;
    let server = setup.start()?;
    let marks: Vec<u64> = server
        .client()
        .journal(0, "point=mark")?
        .iter()
        .map(|reading| reading["value"].as_u64().context("no integer"))
        .collect::<Result<_>>()?;
    // Each that was acknowledged, and the one that wasn't whole or not at all.
    ensure!(
        marks == (0..=acknowledged).collect::<Vec<_>>()
            || marks == (0..=acknowledged + 1).collect::<Vec<_>>(),
        "{marks:?}"
    );
    ensure!(acknowledged >= 5, "only {acknowledged} were taken before the segment was full");
    Ok(())
}

#[test]
fn a_full_log_refuses_pushes_with_its_words_and_keeps_what_it_took() -> Result<()> {
    // The least that a log may have.
    let config = "[log]\nsegment = \"64 MiB\"\ncheckpoint = \"1 MiB\"\nmax = \"193 MiB\"\n";
    let setup = Setup::new()?.config(config);
    let server = setup.clone().env("FAILPOINTS", "checkpoint-blocks-synced=hold").start()?;
    let client = server.client().clone();
    // 12 MB each.
    let text = "x".repeat(60_000);
    let big = format!("{}\n", json!({"point": "big", "value": text})).repeat(200);
    let (mut acknowledged, mut answer) = (0, None);
    for n in 1..=30 {
        let body = format!("{}\n{big}", json!({"point": "mark", "value": n}));
        let got = client.push(body.as_bytes(), None)?;
        if got.status == 503 {
            answer = Some(got);
            break;
        }
        got.json()?;
        acknowledged = n;
    }
    let refused = answer.with_context(|| format!("{acknowledged} pushes of 12 MB fit into 193 MiB"))?;
    ensure!(refused.retry_after.is_some(), "it says when to come again");
    let problem = refused.problem(503)?;
    assert_eq!(problem["kind"], "log-full");
    assert_eq!(problem["detail"], "the log is full until a checkpoint has written it to the store");
    let ready = client.get("/readyz")?;
    ensure!(ready.status == 503 && ready.text().contains("log: full until"), "{}", ready.text());
    assert_eq!(client.journal(0, "point=mark")?.len(), acknowledged, "what is there can be read");
    server.kill()?;

    let server = setup.start()?;
    server.client().push_one("mark", 0)?;
    assert_eq!(server.client().journal(0, "point=mark")?.len(), acknowledged + 1);
    Ok(())
}
