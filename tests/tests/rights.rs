//! Rights: what the host's policy takes away, another publisher's app under an id that is known, and rights that were
//! never used.

use anyhow::{Context as _, Result, ensure};
use ironloom_tests::apps::{install, number, request, wait_for_installation};
use ironloom_tests::listener::Listener;
use ironloom_tests::publishing::{key, sign, signed};
use ironloom_tests::server::Setup;
use ironloom_tests::{Client, guests};
use serde_json::{Value, json};

/// The rights that an installation doesn't have, by who hasn't given them.
fn refused(client: &Client, id: &str, by: &str) -> Result<Vec<String>> {
    let shown = client.installation(id)?;
    let all = shown["refused"].as_array().cloned().unwrap_or_default();
    let by = all.iter().filter(|one| one["by"] == by);
    Ok(by.filter_map(|one| one["right"].as_str().map(str::to_owned)).collect())
}

#[test]
fn an_app_gets_what_is_requested_granted_and_allowed() -> Result<()> {
    let server =
        Setup::new()?.config("[policy]\nmax_memory = \"24 MiB\"\nmax_share = \"250 ms\"\n").start()?;
    let client = server.client();
    let package = guests::package_as("com.example.one-state", "0.2.0", "one-state", |manifest| {
        manifest
            + "[inputs.water]\ntype = \"real\"\noptional = true\n[limits]\nmemory = \"28 MiB\"\ncpu = \"100 ms\"\n"
    })?;
    let digest = client.add_package(&package.tar())?;
    let body = |limits: Value| request("sums", &digest, json!({"value": "a/{n}"}), json!({"limits": limits}));
    let problem = client.post("/v1/installations", &body(json!({"memory": "28 MiB"})))?.problem(422)?;
    ensure!(
        problem.to_string().contains("the host's policy allows 24 MiB at most, and not 28 MiB"),
        "{problem}"
    );
    client.post("/v1/installations", &body(json!({"cpu": "50 ms"})))?.json()?;
    let limits = &client.installation("sums")?["limits"];
    assert_eq!(
        (&limits["memory"], &limits["cpu"], &limits["share"]),
        (&json!("24 MiB"), &json!("50 ms"), &json!("250 ms"))
    );
    assert_eq!(refused(client, "sums", "policy")?, ["limits.memory"]);
    assert_eq!(refused(client, "sums", "grant")?, ["inputs.water", "limits.cpu"]);
    ensure!(refused(client, "sums", "request")?.contains(&"capabilities.set-points".to_owned()));
    let told = String::from_utf8(server.cli(&["show", "sums"])?.stdout)?;
    for line in [
        "asks for a limit memory of 28 MiB, and gets 24 MiB: against the host's policy",
        "asks for a limit cpu of 100 ms, and gets 50 ms: not granted",
        "raises no alarms: not requested",
    ] {
        ensure!(told.contains(&format!("refused       {line}\n")), "{told}");
    }
    Ok(())
}

#[test]
fn what_the_policy_denies_isnt_installed_and_shows_where_it_runs() -> Result<()> {
    let denied = "[policy]\ncapabilities_denied = [\"alarms\"]\nmax_memory = \"16 MiB\"\n";
    let setup = Setup::new()?;
    let server = setup.start()?;
    let hostile = guests::package("hostile")?;
    let bindings = json!({"command": "do/{whom}"});
    install(server.client(), "odd", &hostile, bindings.clone(), json!({}))?;
    assert_eq!(refused(server.client(), "odd", "policy")?, [""; 0]);
    let setup = server.setup().clone().config(denied);
    server.stop()?;
    let server = setup.start()?;
    let client = server.client();
    // What runs goes on, and says so.
    assert_eq!(refused(client, "odd", "policy")?, ["capabilities.alarms", "limits.memory"]);
    let told = String::from_utf8(server.cli(&["show", "odd"])?.stdout)?;
    for line in [
        "still has     alarms, until it is changed, though [policy] capabilities_denied names alarms, which it declares: \
         against the host's policy\n",
        "still has     a limit memory of 32 MiB, until it is changed, though the host allows 16 MiB: against the host's \
         policy\n",
    ] {
        ensure!(told.contains(line), "{told}");
    }
    let against = client.installation("odd")?["against"].clone();
    ensure!(against.to_string().contains("[policy] capabilities_denied names alarms"), "{against}");
    ensure!(client.get("/readyz")?.text().contains("capabilities_denied names alarms"));
    client.push_one("do/me", "ok")?;
    wait_for_installation(client, "odd", "it to run", |now| number(now, "counters.readings") == 1)?;
    let digest = client.add_package(&hostile.tar())?;
    let problem =
        client.post("/v1/installations", &request("more", &digest, bindings, json!({})))?.problem(422)?;
    assert_eq!(problem["kind"], "policy");
    // A change of it is held against the policy of today.
    let problem =
        client.patch("/v1/installations/odd", &json!({"limits": {"memory": "32 MiB"}}))?.problem(422)?;
    ensure!(problem.to_string().contains("allows 16 MiB"), "{problem}");
    Ok(())
}

#[test]
fn a_change_that_gives_more_is_held_against_the_policy_and_one_that_gives_less_isnt() -> Result<()> {
    let setup = Setup::new()?;
    let server = setup.start()?;
    let bindings = json!({"value": ["a/{n}", "b/{n}"]});
    install(server.client(), "sums", &guests::package("one-state")?, bindings, json!({}))?;
    let setup = server.setup().clone().config("[policy]\ncapabilities_denied = [\"outputs\"]\n");
    server.stop()?;
    let server = setup.start()?;
    let client = server.client();
    let change = |change: Value| client.patch("/v1/installations/sums", &change);
    for more in [
        json!({"bindings": {"value": ["a/{n}", "b/{n}", "c/{n}"]}}),
        json!({"limits": {"memory": "64 MiB"}}),
        json!({"bindings": {"count": "all/{n}"}}),
    ] {
        let problem = change(more)?.problem(422)?;
        ensure!(problem.to_string().contains("capabilities_denied names outputs"), "{problem}");
    }
    assert_eq!(client.installation("sums")?["revision"], 1);
    change(json!({"limits": {"memory": "16 MiB"}, "settings": {"publish": true}}))?.json()?;
    change(json!({"bindings": {"value": ["a/{n}"]}}))?.json()?;
    assert_eq!(client.installation("sums")?["revision"], 3);
    Ok(())
}

#[test]
fn another_publisher_needs_a_new_consent_and_begins_anew() -> Result<()> {
    let setup = Setup::new()?;
    let folder = setup.folder().to_owned();
    let [a, b] = [key(&folder, "a.key")?, key(&folder, "b.key")?];
    let server = setup.start()?;
    let client = server.client();
    let (of_a, of_b) = (
        client.add_package(&signed(&folder, "0.1.0", &["a.key"])?)?,
        client.add_package(&signed(&folder, "0.2.0", &["b.key"])?)?,
    );
    let body = |id: &str, package: &str, more: Value| request(id, package, json!({"value": "a/{n}"}), more);
    client.post("/v1/installations", &body("sums", &of_a, json!({})))?.json()?;
    client.push_one("a/1", 1)?;
    wait_for_installation(client, "sums", "it to run", |now| number(now, "counters.readings") == 1)?;

    let other = body("more", &of_b, json!({}));
    assert_eq!(client.post("/v1/installations", &other)?.problem(409)?["kind"], "publisher-changed");
    // Not by naming the key alone, nor by one that hasn't signed it.
    let named = body("more", &of_b, json!({"new_publisher": b}));
    assert_eq!(client.post("/v1/installations", &named)?.problem(422)?["kind"], "consent");
    let wrong = body("more", &of_b, json!({"new_publisher": a}));
    client.post("/v1/installations?dry-run=true", &wrong)?.problem(422)?;
    let shown = client.post("/v1/installations?dry-run=true", &named)?.json()?;
    assert_eq!(shown["consent"]["rights"]["publisher"], json!(b));
    let warning = shown["warnings"][0].as_str().unwrap_or_default().to_owned();
    ensure!(warning.contains(&format!(" goes over from {a} to {b}")), "{shown}");
    let warnings = shown["warnings"].as_array().context("no warnings")?;
    assert_eq!(warnings.iter().filter(|one| **one == warning).count(), 1, "it is said once: {shown}");
    let upgrade = json!({"package": of_b});
    assert_eq!(client.patch("/v1/installations/sums", &upgrade)?.problem(409)?["kind"], "publisher-changed");
    let mut listener = Listener::new(client, "kinds=owner", None)?;
    let consent = json!({"new_publisher": b, "consent": shown["consent"]["digest"]});
    client.post("/v1/installations", &body("more", &of_b, consent.clone()))?.json()?;

    // Its state is its own, and what there was goes on, without further versions.
    let told = listener.wait("the change of owner", |event| event["kind"] == "owner")?;
    assert_eq!((&told["from"], &told["to"]), (&json!(a), &json!(b)));
    assert_eq!(client.all("/v1/installations/more/state")?, [Value::Null; 0]);
    let problem = client.patch("/v1/installations/sums", &upgrade)?.problem(409)?;
    assert_eq!(problem["kind"], "publisher-changed", "{problem}");
    client.push_one("a/1", 2)?;
    wait_for_installation(client, "sums", "it to go on", |now| number(now, "counters.readings") == 2)?;
    client.delete("/v1/installations/sums")?.json()?;
    for more in [
        json!({"adopt": "newest"}),
        json!({"adopt": "newest", "new_publisher": b, "consent": shown["consent"]["digest"]}),
    ] {
        let problem = client.post("/v1/installations", &body("sums", &of_b, more))?;
        ensure!([409, 422].contains(&problem.status), "{}", problem.text());
    }
    // The id is the new publisher's from here on, also after a loss of the process.
    let setup = server.setup().clone();
    server.kill()?;
    let server = setup.start()?;
    let old = body("old", &of_a, json!({}));
    assert_eq!(server.client().post("/v1/installations", &old)?.problem(409)?["kind"], "publisher-changed");
    server.client().post("/v1/installations", &body("new", &of_b, json!({})))?.json()?;
    Ok(())
}

/// Two publishers' versions of one app, where the first's ran and was uninstalled, and the consent to the second's.
fn kept_of_another(setup: &Setup, client: &Client) -> Result<([String; 2], Value)> {
    let folder = setup.folder();
    let (_, b) = (key(folder, "a.key")?, key(folder, "b.key")?);
    let of_a = client.add_package(&signed(folder, "0.1.0", &["a.key"])?)?;
    let of_b = client.add_package(&signed(folder, "0.2.0", &["b.key"])?)?;
    let of = |id: &str, package: &str, more: Value| request(id, package, json!({"value": "a/{n}"}), more);
    client.post("/v1/installations", &of("sums", &of_a, json!({})))?.json()?;
    client.push_one("a/1", 1)?;
    wait_for_installation(client, "sums", "it to run", |now| number(now, "counters.readings") == 1)?;
    let named = of("more", &of_b, json!({"new_publisher": b}));
    let shown = client.post("/v1/installations?dry-run=true", &named)?.json()?;
    let consent = json!({"new_publisher": b, "consent": shown["consent"]["digest"]});
    Ok(([of_a, of_b.clone()], of("more", &of_b, consent)))
}

#[test]
fn a_list_gives_nobody_the_state_of_another_publisher() -> Result<()> {
    let setup = Setup::new()?;
    let server = setup.start()?;
    let client = server.client();
    let ([_, of_b], takes_over) = kept_of_another(&setup, client)?;
    client.delete("/v1/installations/sums")?.json()?;
    let adopts = request("sums", &of_b, json!({"value": "a/{n}"}), json!({"adopt": "newest"}));
    let problem = client.post("/v1/installations", &json!([takes_over, adopts]))?.problem(409)?;
    ensure!(problem.to_string().contains("publisher-changed"), "{problem}");
    assert_eq!(client.all("/v1/installations")?, [Value::Null; 0]);
    Ok(())
}

#[test]
fn neither_a_deleted_package_nor_a_further_signature_gives_a_state_away() -> Result<()> {
    let setup = Setup::new()?;
    let server = setup.start()?;
    let client = server.client();
    let ([of_a, of_b], takes_over) = kept_of_another(&setup, client)?;
    client.post("/v1/installations", &takes_over)?.json()?;
    // Anybody can sign a package as well.
    let file = client.get(&format!("/v1/packages/{of_a}/file"))?.body;
    client.add_package(&sign(setup.folder(), &file, &["b.key"])?)?;
    let upgrade = client.patch("/v1/installations/sums", &json!({"package": of_b}))?;
    assert_eq!(upgrade.problem(409)?["kind"], "publisher-changed");

    client.delete("/v1/installations/sums")?.json()?;
    client.delete(&format!("/v1/packages/{of_a}"))?;
    let adopts = request("sums", &of_b, json!({"value": "a/{n}"}), json!({"adopt": "newest"}));
    let problem = client.post("/v1/installations", &adopts)?.problem(409)?;
    assert_eq!(problem["kind"], "publisher-changed", "{problem}");
    Ok(())
}

#[test]
fn rights_that_were_never_used_are_told_and_trimmed() -> Result<()> {
    let server = Setup::new()?.start()?;
    let client = server.client();
    client.push_one("b/old", 1)?;
    let bindings = json!({"value": ["a/{n}", "b/{n}", "c/{n}"]});
    install(client, "sums", &guests::package("one-state")?, bindings, json!({}))?;
    client.push_one("a/1", 1)?;
    wait_for_installation(client, "sums", "it to run", |now| number(now, "counters.readings") == 1)?;
    let unused = client.get("/v1/installations/sums/never-used")?.json()?;
    let patterns: Vec<_> =
        unused["inputs"].as_array().into_iter().flatten().map(|one| one["pattern"].clone()).collect();
    assert_eq!(patterns, ["b/{n}", "c/{n}"], "{unused}");
    assert_eq!((&unused["outputs"], &unused["inputs"][0]["samples"]), (&json!(["count"]), &json!(["b/old"])));
    let told = String::from_utf8(server.cli(&["show", "sums"])?.stdout)?;
    ensure!(told.contains("never used    value = b/{n}: none of 1 point gave a reading\n"), "{told}");
    ensure!(told.contains("never used    value = c/{n}, which no point matches\n"), "{told}");

    let asked = server.cli(&["grants", "trim", "sums"])?;
    assert_eq!(asked.status.code(), Some(2), "nobody is here to be asked");
    let dry = server.cli_json(&["grants", "trim", "sums", "--dry-run"])?;
    assert_eq!(dry["bindings"], json!({"value": ["a/{n}"]}));
    assert_eq!(client.installation("sums")?["revision"], 1);
    server.cli_json(&["grants", "trim", "sums", "--yes"])?;
    let now = client.installation("sums")?;
    assert_eq!((&now["bindings"], &now["revision"]), (&json!({"value": ["a/{n}"]}), &json!(2)));
    let told = String::from_utf8(server.cli(&["grants", "trim", "sums", "--yes"])?.stderr)?;
    assert_eq!(told, "sums has no pattern and no grant that could be taken away\n");
    Ok(())
}
