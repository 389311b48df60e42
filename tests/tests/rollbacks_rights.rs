//! The rights that come with a rollback: none that somebody has taken away, unless a person consents to that, and none that
//! the host's policy denies by then.

use std::time::Duration;

use anyhow::{Result, ensure};
use ironloom_tests::apps::{change, install, number, wait_for_installation};
use ironloom_tests::package::Package;
use ironloom_tests::{Client, Server, Setup, guests, wait_until};
use serde_json::{Value, json};

/// The next version of the guest `driver`, which does the same.
fn next() -> Result<Package> {
    guests::package_as("com.example.driver", "0.2.0", "driver", |manifest| manifest)
}

/// An app that may set limits of stations, upgraded to the next version.
fn upgraded(server: &Server) -> Result<()> {
    let client = server.client();
    let bindings =
        json!({"wish": "site/{station}/wish", "list": "site/list", "limit": "plant/{station}/limit"});
    let grants = json!({"mode": "act", "outputs": {"limit": {"allow": "6..32", "every": "1 s"}}});
    install(client, "driver", &guests::package("driver")?, bindings, json!({"grants": grants}))?;
    let package = client.add_package(&next()?.tar())?;
    let now = client.patch("/v1/installations/driver", &json!({"package": package}))?.json()?;
    ensure!(now["trial"].is_object(), "{now}");
    Ok(())
}

fn quarantine(client: &Client) -> Result<()> {
    for n in 1..=5 {
        client.push_one("site/list", "panic")?;
        wait_for_installation(client, "driver", "a dead letter", |now| {
            now["version"] == "0.1.0" || number(now, "counters.dead_letters") == n
        })?;
    }
    Ok(())
}

fn rollback(client: &Client, query: &str, body: &Value) -> Result<ironloom_tests::http::Answer> {
    client.post(&format!("/v1/installations/driver/rollback{query}"), body)
}

#[test]
fn a_version_that_fails_on_purpose_gets_no_right_back_that_was_taken_away() -> Result<()> {
    let server = Setup::new()?.start()?;
    let client = server.client();
    upgraded(&server)?;
    change(client, "driver", &json!({"grants": {"mode": "shadow"}}))?.json()?;
    quarantine(client)?;
    let told = "installation driver stays quarantined with version 0.2.0, and isn't rolled back: rights of driver were \
                taken away since its copy was made, and a rollback gives them back: the mode of its set-points is act, not \
                shadow";
    wait_until("the note", || Ok(client.get("/readyz")?.text().contains(told)))?;
    // The host has looked again meanwhile.
    std::thread::sleep(Duration::from_secs(3));
    let now = client.installation("driver")?;
    assert_eq!((&now["version"], &now["state"]), (&json!("0.2.0"), &json!("quarantined")));
    assert_eq!(now["grants"]["mode"], "shadow");
    ensure!(server.setup().said().contains("the mode of its set-points is act, not shadow"), "it says so");
    let entries = client.all("/v1/audit?resource=installations/driver&action=rollback")?;
    let [only] = entries.as_slice() else { anyhow::bail!("{entries:?}") };
    ensure!(only.to_string().contains("refused") && only.to_string().contains("act, not shadow"), "{only}");

    // A person is told the same, and says what may come back.
    let refused = rollback(client, "", &json!({}))?.problem(409)?;
    assert_eq!(refused["kind"], "consent");
    ensure!(refused["detail"].as_str().is_some_and(|detail| detail.contains("act, not shadow")), "{refused}");
    let dry = rollback(client, "?dry-run=true", &json!({}))?.json()?;
    assert_eq!(dry["wider"], json!(["the mode of its set-points is act, not shadow"]));
    let other = format!("sha256:{}", "0".repeat(64));
    let refused = rollback(client, "", &json!({"consent": other}))?.problem(409)?;
    assert_eq!(refused["kind"], "consent");
    assert_eq!(client.installation("driver")?["version"], "0.2.0");
    let consent = dry["consent"].as_str().unwrap_or_default();
    let shown = String::from_utf8(server.cli(&["rollback", "driver", "--dry-run"])?.stdout)?;
    ensure!(shown.contains(&format!("--consent {consent} gives them back")), "{shown}");
    let back = server.cli_json(&["rollback", "driver", "--consent", consent])?;
    assert_eq!((&back["version"], &back["grants"]["mode"]), (&json!("0.1.0"), &json!("act")));
    ensure!(!client.get("/readyz")?.text().contains("stays quarantined"));
    Ok(())
}

#[test]
fn each_right_that_was_taken_away_needs_a_consent_and_one_that_was_not_needs_none() -> Result<()> {
    for (taken, told) in [
        (json!({"grants": {"outputs": {"limit": null}}}), "the output limit sets 6 to 32"),
        (
            json!({"grants": {"outputs": {"limit": {"allow": "6..16", "every": "1 s"}}}}),
            "the output limit sets 6..32, and not only 6..16",
        ),
        (
            json!({"grants": {"outputs": {"limit": {"allow": "6..32", "every": "10 s"}}}}),
            "set-points of the output limit come once in 1 s, and not only in 10 s",
        ),
        (
            json!({"bindings": {"wish": "site/1/wish", "limit": "plant/1/limit"}}),
            "the input wish reads site/*/wish",
        ),
        (json!({"bindings": {"list": null}}), "the input list"),
        (json!({"limits": {"memory": "16 MiB"}}), "the limit memory is 32 MiB, more than 16 MiB"),
    ] {
        let server = Setup::new()?.start()?;
        let client = server.client();
        upgraded(&server)?;
        let free = rollback(client, "?dry-run=true", &json!({}))?.json()?;
        assert_eq!(free["wider"], Value::Null);
        change(client, "driver", &taken)?.json()?;
        let refused = rollback(client, "", &json!({}))?.problem(409)?;
        ensure!(refused["kind"] == "consent" && refused.to_string().contains(told), "{taken}: {refused}");
        // A consent is to all that it gets, so the one from before holds.
        let back = rollback(client, "", &json!({"consent": free["consent"]}))?.json()?;
        assert_eq!(back["version"], "0.1.0", "{taken}");
    }
    // More rights than before are none that were taken away.
    let server = Setup::new()?.start()?;
    upgraded(&server)?;
    change(server.client(), "driver", &json!({"limits": {"memory": "64 MiB"}}))?.json()?;
    assert_eq!(rollback(server.client(), "", &json!({}))?.json()?["limits"]["memory"], "32 MiB");
    Ok(())
}

#[test]
fn a_rollback_is_held_against_the_hosts_policy_of_its_day() -> Result<()> {
    let setup = Setup::new()?;
    let server = setup.start()?;
    upgraded(&server)?;
    let setup = server.setup().clone();
    server.stop()?;

    let denied = setup.clone().config("[policy]\napps_denied = [\"com.example.driver\"]\n").start()?;
    let refused = rollback(denied.client(), "", &json!({}))?.problem(422)?;
    ensure!(refused["kind"] == "policy" && refused.to_string().contains("apps_denied"), "{refused}");
    quarantine(denied.client())?;
    let told = "isn't rolled back: this host doesn't let com.example.driver 0.1.0 run";
    wait_until("the note", || Ok(denied.client().get("/readyz")?.text().contains(told)))?;
    assert_eq!(denied.client().installation("driver")?["version"], "0.2.0");
    denied.stop()?;

    // What is allowed is narrowed to what the policy allows by now.
    let narrow = "[policy]\nmax_memory = \"16 MiB\"\nset_point_every = \"30 s\"\n";
    let narrow = setup.config(narrow).start()?;
    let client = narrow.client();
    wait_for_installation(client, "driver", "the host's rollback", |now| now["version"] == "0.1.0")?;
    let now = client.installation("driver")?;
    assert_eq!(
        (&now["limits"]["memory"], &now["grants"]["outputs"]["limit"]["every"]),
        (&json!("16 MiB"), &json!("30 s"))
    );
    Ok(())
}
