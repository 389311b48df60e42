//! Who and what takes how much, told by the API, on the command line and in the metrics.

use anyhow::{Context as _, Result, ensure};
use ironloom_tests::apps::{install, number, wait_for_installation};
use ironloom_tests::{Client, Setup, guests, wait_until};
use serde_json::{Value, json};

fn usage(client: &Client, query: &str) -> Result<Value> {
    client.get(&format!("/v1/usage?{query}"))?.json()
}

fn names(usage: &Value) -> Vec<&str> {
    let all = usage["installations"].as_array().map_or(&[][..], Vec::as_slice);
    all.iter().filter_map(|one| one["installation"].as_str()).collect()
}

#[test]
fn the_largest_come_first_and_outlive_the_process() -> Result<()> {
    let server = Setup::new()?.start()?;
    let client = server.client();
    let package = guests::package("one-state")?;
    // Both count the readings of their points; `loud` publishes the counts.
    install(client, "quiet", &package, json!({"value": ["q/{n}"]}), json!({}))?;
    install(client, "loud", &package, json!({"value": ["l/{n}"]}), json!({"settings": {"publish": true}}))?;
    let lines = |first: &str, points: u32| -> String {
        (0..points).map(|point| format!("{{\"point\":\"{first}/{point}\",\"value\":1}}\n")).collect()
    };
    client.push(lines("q", 30).as_bytes(), None)?.json()?;
    let pushed = client.push(lines("l", 10).as_bytes(), None)?.json()?;
    let last = pushed["through"].as_u64().context("no sequence")?;
    for id in ["quiet", "loud"] {
        let readings = if id == "quiet" { 30 } else { 10 };
        wait_for_installation(client, id, "all", |now| number(now, "counters.readings") == readings)?;
    }
    assert!(last >= 40);

    let by_state = usage(client, "sort=state")?;
    assert_eq!(names(&by_state), ["quiet", "loud"]);
    // A key of one or two digits, 16 bytes, and 128 for each key.
    let quiet = &by_state["installations"][0];
    assert_eq!(number(quiet, "state_bytes"), 30 * (128 + 16) + 10 + 20 * 2);
    assert_eq!((number(quiet, "derived"), number(quiet, "derived_bytes")), (0, 0));
    let by_journal = usage(client, "")?;
    assert_eq!(names(&by_journal), ["loud", "quiet"]);
    let loud = by_journal["installations"][0].clone();
    assert_eq!((number(&loud, "derived"), number(&loud, "points")), (10, 10));
    assert!(number(&loud, "derived_bytes") >= 10 * 20, "twenty bytes each: {loud}");
    assert!(number(&loud, "peak_memory") >= 64 << 10, "a page of memory: {loud}");
    assert!(loud["cpu_seconds"].as_f64().is_some_and(|cpu| cpu > 0.0), "{loud}");
    assert_eq!(names(&usage(client, "limit=1")?), ["loud"]);
    assert_eq!(usage(client, "limit=1")?["installations_total"], 2);
    assert_eq!(by_journal["points"][0], json!({"prefix": "q", "points": 30}));
    assert_eq!(by_journal["points_total"], 50);
    let source = &by_journal["sources"][0];
    assert_eq!((&source["kind"], &source["readings"]), (&json!("pushes"), &json!(40)));
    let wrong = client.get("/v1/usage?sort=size")?.problem(400)?;
    assert!(wrong["detail"].as_str().is_some_and(|text| text.contains("journal")), "{wrong}");

    // What it does in each second is known after a few.
    wait_until("a rate", || Ok(client.installation("loud")?["rate"]["over"].as_f64() > Some(0.0)))?;
    let metrics = client.get("/metrics")?.text();
    for figure in ["cpu_seconds", "peak_memory_bytes", "state_bytes", "derived_bytes", "readings"] {
        let line = format!("ironloom_installation_{figure}{{installation=\"loud\"}}");
        assert!(metrics.contains(&line), "no {line}");
    }
    let shown = server.cli(&["show", "loud"])?;
    let shown = String::from_utf8_lossy(&shown.stdout).into_owned();
    assert!(shown.contains("10 points"), "{shown}");

    // The counters are in the log.
    let server = server.restarted()?;
    let again = usage(server.client(), "")?;
    for field in ["derived", "derived_bytes", "peak_memory", "cpu_seconds", "log_lines", "state_bytes"] {
        assert_eq!(again["installations"][0][field], loud[field], "{field}");
    }
    Ok(())
}

#[test]
fn without_a_terminal_top_prints_one_table() -> Result<()> {
    let server = Setup::new()?.start()?;
    let package = guests::package("one-state")?;
    install(server.client(), "sums", &package, json!({"value": ["a/{n}"]}), json!({}))?;
    for command in ["top", "usage"] {
        let output = server.cli(&[command])?;
        let text = String::from_utf8_lossy(&output.stdout).into_owned();
        ensure!(output.status.success(), "{command}: {}", String::from_utf8_lossy(&output.stderr));
        assert!(text.starts_with("INSTALLATION") && text.contains("\nsums "), "{command}: {text}");
        let wrong = server.cli(&[command, "--sort", "size"])?;
        assert_eq!(wrong.status.code(), Some(2));
    }
    let json = server.cli_json(&["top"])?;
    assert_eq!(names(&json), ["sums"]);
    Ok(())
}
