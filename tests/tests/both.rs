//! The scenarios of the guest `both` on the real server: it answers what the SDK's platform for tests answers, word for
//! word. The other half is in `guests/both/tests/native.rs`.

use anyhow::{Context as _, Result, ensure};
use base64::Engine as _;
use both::{SCENARIOS, Scenario};
use ironloom_tests::apps::{number, wait_for_installation};
use ironloom_tests::wait::wait_for;
use ironloom_tests::{Client, Setup, guests};
use serde_json::json;

fn answer(client: &Client, id: &str, scenario: &str) -> Result<Option<String>> {
    let items = client.all(&format!("/v1/installations/{id}/state"))?;
    let key = format!("answer/{scenario}");
    let Some(item) = items.iter().find(|item| item["key"] == key) else { return Ok(None) };
    let text = item["value"]["base64"].as_str().context("no base64")?;
    let bytes = base64::engine::general_purpose::STANDARD.decode(text)?;
    Ok(Some(String::from_utf8_lossy(&bytes).into_owned()))
}

/// The scenario whose answer comes with its timer.
const FIRES: &str = "timer-too-soon";

fn answer_that_follows(client: &Client, scenario: &Scenario) -> Result<String> {
    wait_for("the timer that answers", || {
        Ok(answer(client, scenario.name, scenario.name)?.filter(|answer| answer == scenario.expected))
    })
}

#[test]
fn the_host_answers_what_the_platform_for_tests_answers() -> Result<()> {
    let server = Setup::new()?.start()?;
    let client = server.client();
    let digest = client.add_package(&guests::package("both")?.tar())?;
    let mut wrong = Vec::new();
    for scenario in SCENARIOS {
        // Each has an installation of its own: quotas and counts begin at nothing, as natively.
        let request = json!({
            "id": scenario.name,
            "package": digest,
            "bindings": {"scenario": [format!("ask/{}", scenario.name)]},
            "limits": {"memory": "64 MiB", "cpu": "1 s", "state": "2 MiB", "share": "1 s"},
        });
        client.post("/v1/installations", &request)?.json()?;
        let sequence = client.push_one(&format!("ask/{}", scenario.name), scenario.name)?;
        let shown = wait_for_installation(client, scenario.name, "asked", |shown| {
            number(shown, "cursor") >= sequence || shown["last_error"].is_object()
        })?;
        let mut answer = answer(client, scenario.name, scenario.name)?
            .unwrap_or_else(|| format!("none: {}", shown["last_error"]));
        if answer != scenario.expected && scenario.name == FIRES {
            answer = answer_that_follows(client, scenario)?;
        }
        if answer != scenario.expected {
            wrong.push(format!("{}:\n  expected {}\n  the host {answer}", scenario.name, scenario.expected));
        }
        client.delete(&format!("/v1/installations/{}?purge=true", scenario.name))?.json()?;
    }
    ensure!(wrong.is_empty(), "{} of {} differ:\n{}", wrong.len(), SCENARIOS.len(), wrong.join("\n"));
    Ok(())
}
