//! Lists from their newest end, on the real server: in the API and on the command line, and followed.

use std::collections::BTreeSet;
use std::io::{BufRead as _, BufReader};
use std::process::{Command, Stdio};

use anyhow::{Context as _, Result, ensure};
use ironloom_tests::apps::{install, number, wait_for_installation};
use ironloom_tests::{Client, Server, Setup, guests, wait_until};
use serde_json::{Value, json};

/// Numbers of the items of a list, page by page.
fn numbers(client: &Client, path: &str, field: &str) -> Result<Vec<u64>> {
    let (mut items, mut after) = (Vec::new(), String::new());
    loop {
        let accept = [("accept", "application/json")];
        let page = client.send("GET", &format!("{path}{after}"), &accept, &[])?.json()?;
        let more = page["items"].as_array().with_context(|| format!("no items in {page}"))?;
        items.extend(more.iter().map(|item| number(item, field)));
        match page["next"].as_str() {
            Some(next) => after = format!("&after={next}"),
            None => return Ok(items),
        }
    }
}

/// Objects that a command prints, one on each line.
fn lines(server: &Server, arguments: &[&str]) -> Result<Vec<Value>> {
    let output = server.cli(arguments)?;
    ensure!(output.status.success(), "{arguments:?}: {}", String::from_utf8_lossy(&output.stderr));
    let text = String::from_utf8_lossy(&output.stdout).into_owned();
    text.lines().map(|line| serde_json::from_str(line).with_context(|| format!("{line:?}"))).collect()
}

fn newest_first(count: u64) -> Vec<u64> {
    (1..=count).rev().collect()
}

#[test]
fn readings_come_from_either_end() -> Result<()> {
    let server = Setup::new()?.start()?;
    let client = server.client();
    // More than are searched through at once, every hundredth of another point.
    let line = |n: u64| {
        let point = if n.is_multiple_of(100) { "rare" } else { "often" };
        json!({"point": point, "value": n}).to_string() + "\n"
    };
    for part in 0..3 {
        let body: String = (1..=4_000).map(|n| line(part * 4_000 + n)).collect();
        client.push(body.as_bytes(), None)?.json()?;
    }
    let all = numbers(client, "/v1/readings?order=newest&limit=5000", "sequence")?;
    assert_eq!(all, newest_first(12_000));
    let rare = numbers(client, "/v1/readings?point=rare&order=newest&limit=7", "sequence")?;
    assert_eq!(rare, (1..=120).rev().map(|n| n * 100).collect::<Vec<_>>());
    let page = client.get("/v1/readings?order=newest&limit=2&after=11")?;
    assert_eq!(page.text().lines().count(), 2);
    assert_eq!(
        numbers(client, "/v1/readings?point=often&order=newest&limit=2&to=2000-01-01T00:00:00Z", "sequence")?,
        [0; 0]
    );

    let last = lines(&server, &["readings", "--last", "3", "--json"])?;
    assert_eq!(last.iter().map(|one| number(one, "sequence")).collect::<Vec<_>>(), [12_000, 11_999, 11_998]);
    assert_eq!(lines(&server, &["readings", "--all", "--json"])?.len(), 12_000);
    assert_eq!(lines(&server, &["readings", "--since", "1 h", "--json"])?.len(), 12_000);
    assert_eq!(lines(&server, &["readings", "--point", "rare", "--last", "200", "--json"])?.len(), 120);
    let csv = server.cli(&["readings", "--all", "--csv"])?;
    assert_eq!(String::from_utf8_lossy(&csv.stdout).lines().count(), 12_001, "one header");
    // More than a page.
    let csv = server.cli(&["readings", "--last", "11000", "--csv"])?;
    assert_eq!(String::from_utf8_lossy(&csv.stdout).lines().count(), 11_001, "one header");
    Ok(())
}

#[test]
fn what_an_app_did_comes_from_either_end() -> Result<()> {
    let server = Setup::new()?.start()?;
    let client = server.client();
    install(client, "app", &guests::package("hostile")?, json!({"command": ["app"]}), json!({}))?;
    // Each is set aside, in an invocation of its own.
    for _ in 0..7 {
        let sequence = client.push_one("app", "reject")?;
        wait_for_installation(client, "app", "done", |shown| number(shown, "cursor") >= sequence)?;
    }
    let of = |what: &str, limit: u32| format!("/v1/installations/app/{what}?order=newest&limit={limit}");
    assert_eq!(numbers(client, &of("dead-letters", 3), "number")?, newest_first(7));
    assert_eq!(numbers(client, &of("dead-letters", 100), "number")?, newest_first(7));
    let ordinals = numbers(client, &of("invocations", 2), "ordinal")?;
    let mut forward = numbers(client, "/v1/installations/app/invocations?limit=1000", "ordinal")?;
    forward.reverse();
    assert_eq!(ordinals, forward);
    let last = lines(&server, &["dead-letters", "list", "app", "--last", "2", "--json"])?;
    assert_eq!(last.iter().map(|one| number(one, "number")).collect::<Vec<_>>(), [7, 6]);
    assert_eq!(lines(&server, &["invocations", "app", "--since", "1 h", "--json"])?.len(), forward.len());
    let misuse = server.cli(&["readings", "--last", "3", "--all"])?;
    assert_eq!(misuse.status.code(), Some(2), "{}", String::from_utf8_lossy(&misuse.stderr));
    Ok(())
}

#[test]
fn readings_are_followed_each_once() -> Result<()> {
    let server = Setup::new()?.start()?;
    let client = server.client();
    for n in 0..3 {
        client.push_one("a", n)?;
    }
    let mut command = Command::new(ironloom_tests::server::binary()?);
    command.args(["readings", "--follow", "--last", "2", "--json"]).env("IRONLOOM_URL", client.url());
    let mut child = command.stdout(Stdio::piped()).spawn()?;
    let out = BufReader::new(child.stdout.take().context("no stdout")?);
    let (seen, lines) = std::sync::mpsc::channel();
    let reader =
        std::thread::spawn(move || out.lines().map_while(Result::ok).try_for_each(|line| seen.send(line)));
    let mut sequences = Vec::new();
    let mut expected = vec![2, 3];
    for round in 0..3 {
        wait_until("what is new", || {
            for line in lines.try_iter() {
                sequences.push(number(&serde_json::from_str::<Value>(&line)?, "sequence"));
            }
            Ok(sequences.len() >= expected.len())
        })?;
        assert_eq!(sequences, expected);
        if round < 2 {
            expected.push(client.push_one("a", round)?);
            expected.push(client.push_one("b", round)?);
        }
    }
    child.kill()?;
    child.wait()?;
    let _ = reader.join();
    assert_eq!(sequences.iter().collect::<BTreeSet<_>>().len(), sequences.len());
    Ok(())
}
