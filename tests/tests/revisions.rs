//! Installations that are changed while they run: what waits runs under the revision of its time, state stays, and
//! limits that are lowered hold at once.

use anyhow::{Context as _, Result, ensure};
use ironloom_tests::apps::{install, number, wait_for_installation};
use ironloom_tests::http::JSON;
use ironloom_tests::{Answer, Client, Server, Setup, guests, wait_until};
use serde_json::{Value, json};

fn patch(client: &Client, id: &str, body: &Value) -> Result<Answer> {
    let path = format!("/v1/installations/{id}");
    client.patch(&path, body)
}

fn dry_run(client: &Client, id: &str, body: &Value) -> Result<Answer> {
    let path = format!("/v1/installations/{id}?dry-run=true");
    client.patch(&path, body)
}

fn post(client: &Client, id: &str, deed: &str) -> Result<Value> {
    client.post(&format!("/v1/installations/{id}/{deed}"), &json!({}))?.json()
}

/// The revision of each invocation that took readings, with the first and the last of these.
fn runs(client: &Client, id: &str) -> Result<Vec<(u64, u64, u64)>> {
    let all = client.all(&format!("/v1/installations/{id}/invocations"))?;
    let readings = all.iter().filter(|run| run["kind"] == "readings" && run["outcome"] == "ok");
    Ok(readings.map(|run| (number(run, "revision"), number(run, "first"), number(run, "last"))).collect())
}

/// A server with the guest `one-state`, which counts the readings of `a/{n}` and gives the counts if it is told to.
fn counting() -> Result<Server> {
    let server = Setup::new()?.start()?;
    let package = guests::package("one-state")?;
    install(server.client(), "sums", &package, json!({"value": ["a/{n}"]}), json!({}))?;
    Ok(server)
}

/// The counts that were derived for entity 1.
fn counts(client: &Client) -> Result<Vec<u64>> {
    let outputs = client.all("/v1/installations/sums/outputs")?;
    Ok(outputs.iter().map(|reading| number(reading, "value")).collect())
}

fn set(server: &Server, arguments: &[&str]) -> Result<Value> {
    server.cli_json(&[&["set", "sums"], arguments].concat())
}

#[test]
fn readings_run_under_the_revision_of_their_time_and_state_stays() -> Result<()> {
    let server = counting()?;
    let client = server.client();
    client.push_one("a/1", 1)?;
    wait_for_installation(client, "sums", "one reading", |now| number(now, "counters.readings") == 1)?;
    post(client, "sums", "pause")?;
    let old = client.push_one("a/1", 2)?;
    let shown = set(&server, &["--set", "publish=true"])?;
    assert_eq!(
        shown["changes"],
        json!([{"field": "settings.publish", "before": false, "after": true}]),
        "{shown}"
    );
    assert_eq!((number(&shown, "revision"), number(&shown, "from")), (2, old + 1));
    assert_eq!(shown["pending_revisions"], json!([{"revision": 1, "from": 1}]));
    let new = client.push_one("a/1", 3)?;
    assert_eq!(shown["state"], "paused");

    // Neither revision is lost with the process.
    let server = server.restarted()?;
    let client = server.client();
    let shown = client.installation("sums")?;
    assert_eq!((number(&shown, "revision"), &shown["settings"]["publish"]), (2, &json!(true)));
    assert_eq!(shown["pending_revisions"], json!([{"revision": 1, "from": 1}]));
    post(client, "sums", "resume")?;
    let done = wait_for_installation(client, "sums", "all", |now| number(now, "counters.readings") == 3)?;
    assert_eq!(done["pending_revisions"], Value::Null, "none waits for the first");
    assert_eq!(counts(client)?, [3], "the state goes on, and the second reading's count was not asked for");
    assert_eq!(runs(client, "sums")?, [(1, old - 1, old - 1), (1, old, old), (2, new, new)]);

    // A revision that nothing waits for is gone, also at the next start.
    let setup = server.setup().clone();
    ensure!(server.stop()?.success());
    let server = setup.start()?;
    let shown = server.client().installation("sums")?;
    assert_eq!((number(&shown, "revision"), &shown["pending_revisions"]), (2, &Value::Null));
    Ok(())
}

#[test]
fn what_waits_may_be_given_to_the_new_revision() -> Result<()> {
    let server = counting()?;
    let client = server.client();
    post(client, "sums", "pause")?;
    let first = client.push_one("a/1", 2)?;
    set(&server, &["--timezone", "Asia/Tokyo"])?;
    client.push_one("a/1", 2)?;
    let shown = set(&server, &["--set", "publish=true", "--at-cursor"])?;
    assert_eq!((number(&shown, "revision"), number(&shown, "from")), (3, first));
    assert_eq!(shown["pending_revisions"], Value::Null);
    assert_eq!(shown["timezone"], "Asia/Tokyo", "what isn't named stays");
    post(client, "sums", "resume")?;
    wait_until("both counts", || Ok(counts(client)? == [1, 2]))?;
    assert!(runs(client, "sums")?.iter().all(|(revision, ..)| *revision == 3));
    Ok(())
}

#[test]
fn the_backlog_of_a_quarantined_app_runs_under_the_new_revision() -> Result<()> {
    let server = Setup::new()?.start()?;
    let client = server.client();
    install(client, "bad", &guests::package("hostile")?, json!({"command": ["bad"]}), json!({}))?;
    (0..5).try_for_each(|_| client.push_one("bad", "panic").map(drop))?;
    wait_for_installation(client, "bad", "quarantine", |now| now["state"] == "quarantined")?;
    let waits = client.push_one("bad", "ok")?;
    let revised = patch(client, "bad", &json!({"limits": {"state": "512 KiB"}}))?.json()?;
    assert_eq!((number(&revised, "from"), &revised["state"]), (waits, &json!("quarantined")));
    post(client, "bad", "resume")?;
    wait_until("it to go on", || Ok(runs(client, "bad")? == [(2, waits, waits)]))?;
    // Letters of before have the revision that they came under.
    let letters = client.all("/v1/installations/bad/dead-letters")?;
    assert!(letters.iter().all(|letter| letter["revision"] == 1), "{letters:?}");
    Ok(())
}

/// The size to which the guest's memory could grow.
fn grown(client: &Client) -> Result<Option<u64>> {
    use base64::Engine as _;
    let state = client.all("/v1/installations/greedy/state")?;
    let Some(entry) = state.iter().find(|entry| entry["key"] == "result/grow-politely") else {
        return Ok(None);
    };
    let text = entry["value"]["base64"].as_str().context("no base64")?;
    let bytes = base64::engine::general_purpose::STANDARD.decode(text)?;
    Ok(Some(String::from_utf8(bytes)?.parse()?))
}

#[test]
fn a_limit_that_is_lowered_holds_at_once_for_what_waits_as_well() -> Result<()> {
    let server = Setup::new()?.start()?;
    let client = server.client();
    install(client, "greedy", &guests::package("hostile")?, json!({"command": ["greedy"]}), json!({}))?;
    client.push_one("greedy", "grow-politely")?;
    wait_until("it to have grown", || Ok(grown(client)?.is_some()))?;
    let before = grown(client)?.unwrap_or_default();
    post(client, "greedy", "pause")?;
    let waits = client.push_one("greedy", "grow-politely")?;
    let revised = patch(client, "greedy", &json!({"limits": {"memory": "16 MiB"}}))?.json()?;
    assert_eq!(revised["pending_revisions"][0]["revision"], 1, "{revised}");
    post(client, "greedy", "resume")?;
    wait_until("it to run again", || Ok(runs(client, "greedy")?.last().is_some_and(|run| run.2 == waits)))?;
    assert_eq!(runs(client, "greedy")?[1].0, 1, "it ran under the revision of its time");
    let after = grown(client)?.unwrap_or_default();
    assert!(after < before * 6 / 10, "it grew to {before}, and then to {after}");
    Ok(())
}

#[test]
fn a_change_that_is_not_right_changes_nothing_and_says_all_that_is_wrong() -> Result<()> {
    let server = counting()?;
    let client = server.client();
    let wrong = json!({
        "settings": {"publish": "often", "colour": "red", "shape": null},
        "limits": {"memory": "1 GiB"},
        "timezone": "Mars/Olympus",
        "grants": {"outputs": {"count": {"allow": "1..2"}}},
    });
    let problem = patch(client, "sums", &wrong)?.problem(422)?;
    let mut fields: Vec<_> = problem["errors"].as_array().context("no errors")?.iter().collect();
    fields.sort_by_key(|error| error["where"]["field"].to_string());
    let fields: Vec<_> =
        fields.iter().map(|error| error["where"]["field"].as_str().unwrap_or_default()).collect();
    assert_eq!(
        fields,
        [
            "grants.outputs.count",
            "limits.memory",
            "settings.colour",
            "settings.publish",
            "settings.shape",
            "timezone"
        ]
    );
    patch(client, "sums", &json!({"colour": 1}))?.problem(400)?;
    patch(client, "none", &json!({"keep_up": true}))?.problem(404)?;
    let plain = client.send("PATCH", "/v1/installations/sums", &[("content-type", "text/plain")], b"{}")?;
    plain.problem(415)?;
    assert_eq!(number(&client.installation("sums")?, "revision"), 1);

    // What is asked for already makes no revision either.
    let same = patch(client, "sums", &json!({"settings": {"publish": false}, "keep_up": false}))?.json()?;
    assert_eq!((number(&same, "revision"), &same["changes"]), (1, &json!([])));
    let dry = dry_run(client, "sums", &json!({"keep_up": true, "limits": {"points": 5}}))?.json()?;
    assert_eq!((number(&dry, "revision"), &dry["limits"]["points"]), (2, &json!(5)));
    assert_eq!(number(&client.installation("sums")?, "revision"), 1);

    // One that was made from an older revision comes too late.
    patch(client, "sums", &json!({"revision": 1, "keep_up": true}))?.json()?;
    let problem = patch(client, "sums", &json!({"revision": 1, "keep_up": false}))?.problem(409)?;
    assert_eq!(problem["kind"], "revision");
    assert_eq!(client.installation("sums")?["keep_up"], true);
    if_match(client)?;
    // What was set goes back to what it is without.
    patch(client, "sums", &json!({"limits": {"points": 5}, "settings": {"publish": true}}))?.json()?;
    let back =
        patch(client, "sums", &json!({"limits": {"points": null}, "settings": {"publish": null}}))?.json()?;
    assert_eq!((&back["limits"]["points"], &back["settings"]["publish"]), (&json!(10_000), &json!(false)));
    Ok(())
}

/// As `revision`, by the headers of HTTP. The installation has revision 2.
fn if_match(client: &Client) -> Result<()> {
    let path = "/v1/installations/sums";
    let json = ("content-type", JSON);
    let body = |keep_up: bool| json!({"keep_up": keep_up}).to_string();
    let send = |path: &str, tags: &str, keep_up: bool| {
        client.send("PATCH", path, &[json, ("if-match", tags)], body(keep_up).as_bytes())
    };
    let tag = client.get(path)?.etag;
    assert_eq!(tag, "\"1.2\"", "generation and revision");

    let older = "\"1.1\"";
    for tags in [older, "\"2.2\"", "W/\"1.2\"", "\"2\""] {
        let problem = send(path, tags, false)?.problem(412)?;
        assert_eq!((&problem["kind"], &problem["where"]["field"]), (&json!("revision"), &json!("If-Match")));
    }
    let problem = send(path, older, false)?.problem(412)?;
    let detail = problem["detail"].as_str().context("no detail")?;
    ensure!(detail.contains("has revision 2 ") && detail.contains("If-Match names revision 1"), "{detail}");
    for malformed in ["1.2", "\"1.2", "*, \"1.2\""] {
        send(path, malformed, false)?.problem(400)?;
    }
    send("/v1/installations/none", "*", false)?.problem(404)?;
    for (method, further) in
        [("DELETE", ""), ("POST", "/pause"), ("POST", "/resume"), ("POST", "/reset?from=now")]
    {
        let answer = client.send(method, &format!("{path}{further}"), &[json, ("if-match", older)], b"{}")?;
        assert_eq!(answer.problem(412)?["where"]["field"], "If-Match", "{method} {further}");
    }
    assert_eq!(client.installation("sums")?["state"], "running");
    let dry = send(&format!("{path}?dry-run=true"), older, false)?;
    dry.problem(412)?;
    let dry = send(&format!("{path}?dry-run=true"), &tag, false)?;
    ensure!(dry.etag.is_empty(), "{}", dry.etag);
    assert_eq!(number(&dry.json()?, "revision"), 3);
    assert_eq!(number(&client.installation("sums")?, "revision"), 2, "nothing is changed");

    let changed = send(path, &format!("{older}, {tag}"), false)?;
    assert_eq!(changed.etag, "\"1.3\"");
    ensure!(changed.json()?.get("keep_up").is_none(), "false is left out");
    let changed = send(path, "*", true)?;
    assert_eq!((number(&changed.json()?, "revision"), client.get(path)?.etag.as_str()), (4, "\"1.4\""));
    Ok(())
}

#[test]
fn readings_wait_for_sixteen_revisions_and_no_more() -> Result<()> {
    let server = counting()?;
    let client = server.client();
    post(client, "sums", "pause")?;
    let change = |n: u64| patch(client, "sums", &json!({"limits": {"points": n}}));
    for n in 1..16 {
        client.push_one("a/1", n)?;
        assert_eq!(number(&change(n)?.json()?, "revision"), n + 1);
    }
    // Without readings between them, one takes the place of the other.
    assert_eq!(number(&change(100)?.json()?, "revision"), 17);
    client.push_one("a/1", 16)?;
    let problem = change(17)?.problem(409)?;
    assert_eq!(problem["kind"], "too-many-revisions");
    let all = patch(client, "sums", &json!({"limits": {"points": 17}, "at_cursor": true}))?.json()?;
    assert_eq!((number(&all, "revision"), &all["pending_revisions"]), (18, &Value::Null));
    Ok(())
}

#[test]
fn other_bindings_hold_for_what_comes_and_what_waits_stays_where_it_was_bound() -> Result<()> {
    let server = counting()?;
    let client = server.client();
    client.push_one("b/1", 10)?;
    client.push_one("a/1", 1)?;
    wait_for_installation(client, "sums", "one reading", |now| number(now, "counters.readings") == 1)?;
    let dry = dry_run(client, "sums", &json!({"bindings": {"value": ["a/{n}", "b/{n}"]}}))?.problem(422)?;
    assert!(dry["detail"].as_str().is_some_and(|text| text.contains("entity")), "{dry}");
    let dry = dry_run(client, "sums", &json!({"bindings": {"value": "b/{n}"}}))?.json()?;
    let one = |of: &Value| (number(&of[0], "points"), of[0]["samples"][0]["point"].clone());
    assert_eq!(one(&dry["newly"]), (1, json!("b/1")), "{dry}");
    assert_eq!(one(&dry["no_longer"]), (1, json!("a/1")));
    assert_eq!(dry["matches"][0]["samples"][0]["value"], 10);
    assert_eq!(dry["changes"], json!([{"field": "bindings.value", "before": ["a/{n}"], "after": ["b/{n}"]}]));

    post(client, "sums", "pause")?;
    let old = client.push_one("a/1", 2)?;
    client.push_one("b/1", 20)?;
    let shown = set(&server, &["--bind", "value=b/{n}"])?;
    assert_eq!(number(&shown, "from"), old + 2);
    client.push_one("a/1", 4)?;
    let new = client.push_one("b/1", 40)?;
    client.push_one("b/2", 50)?;
    // The log and the store say the same after a loss of power.
    let server = server.restarted()?;
    let client = server.client();
    post(client, "sums", "resume")?;
    let done = wait_for_installation(client, "sums", "all", |now| number(now, "counters.readings") == 4)?;
    assert_eq!(runs(client, "sums")?, [(1, old - 1, old - 1), (1, old, old), (2, new, new + 1)]);
    // 1 and 2 of a/1, then 40 of b/1; and 50 of b/2.
    let sums = ironloom_tests::model::state_of(client, "sums")?;
    assert_eq!((sums["1"], sums["2"]), ((3, 43.0), (1, 50.0)), "{sums:?}");
    assert_eq!(done["pending_revisions"], Value::Null);

    // A circle is refused, and unbinding what must be bound.
    let problem =
        patch(client, "sums", &json!({"bindings": {"value": "apps/sums/count/{n}"}}))?.problem(422)?;
    assert_eq!(problem["kind"], "circle");
    let unbound = server.cli(&["set", "sums", "--unbind", "value"])?;
    assert_eq!(unbound.status.code(), Some(1), "{}", String::from_utf8_lossy(&unbound.stderr));
    Ok(())
}

#[test]
fn what_waits_is_routed_anew_where_it_is_given_to_other_bindings() -> Result<()> {
    let server = counting()?;
    let client = server.client();
    post(client, "sums", "pause")?;
    let first = client.push_one("a/1", 1)?;
    let second = client.push_one("b/1", 10)?;
    client.push_one("a/1", 2)?;
    let shown = set(&server, &["--bind", "value=b/{n}", "--at-cursor"])?;
    assert_eq!((number(&shown, "from"), &shown["pending_revisions"]), (first, &Value::Null));
    post(client, "sums", "resume")?;
    wait_for_installation(client, "sums", "its reading", |now| number(now, "counters.readings") == 1)?;
    assert_eq!(runs(client, "sums")?, [(2, second, second)]);
    Ok(())
}

#[test]
fn an_installation_is_printed_as_the_file_of_an_install() -> Result<()> {
    let server = counting()?;
    let client = server.client();
    set(
        &server,
        &["--set", "publish=true", "--limit", "points=77", "--timezone", "Asia/Tokyo", "--keep-up"],
    )?;
    let file = server.setup().folder().join("sums.toml");
    let printed = server.cli(&["show", "sums", "--install-file"])?;
    std::fs::write(&file, &printed.stdout)?;
    let file = file.to_str().context("no path")?;
    let before = client.installation("sums")?;
    // It says what there is.
    let same = set(&server, &["--with", file])?;
    assert_eq!((&same["changes"], number(&same, "revision")), (&json!([]), 2), "{same}");
    client.delete("/v1/installations/sums")?.json()?;
    let after = server.cli_json(&["install", "--with", file])?;
    for field in ["id", "package", "bindings", "settings", "limits", "grants", "timezone", "keep_up"] {
        assert_eq!(after[field], before[field], "{field}");
    }
    Ok(())
}
