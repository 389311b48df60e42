//! The scenarios of the guest `both` on the real server, and on the SDK's platform for tests: both answer what is
//! expected, word for word, and are left with the same state, derived readings, alarms and timers. The answers of the
//! platform alone are in `guests/both/tests/native.rs`, which needs no server.

use std::collections::BTreeMap;

use anyhow::{Context as _, Result, ensure};
use base64::Engine as _;
use both::{SCENARIOS, Scenario};
use ironloom_sdk::Quality;
use ironloom_sdk::testing::{Datum, Platform};
use ironloom_tests::apps::{number, wait_for_installation};
use ironloom_tests::wait::wait_for;
use ironloom_tests::{Client, Setup, guests};
use ironloom_types::clock::Timestamp;
use serde_json::{Value, json};

/// An episode: alarm, entity, message, times of raising and clearing where the scenario says them, and whether it is over.
type Episode = (String, String, String, Option<String>, Option<String>, bool);

/// What is left after a scenario. Timers show by what they leave in the state when they fire; those that are due in
/// a century can be seen on neither side.
#[derive(Debug, Default, PartialEq)]
struct Left {
    state: BTreeMap<String, Vec<u8>>,
    /// Output and entity as a path, time, quality, value.
    derived: Vec<(String, String, String, Value)>,
    /// All episodes of alarms: alarm, entity, message, since when where the scenario says it, and whether it is over.
    alarms: Vec<Episode>,
}

impl Left {
    fn natively(platform: &Platform) -> Self {
        let derived = platform.outputs().into_iter().map(|row| {
            let path = format!("{}/{}", row.output, row.entity).trim_end_matches('/').to_owned();
            let value = match row.value {
                Datum::Boolean(value) => json!(value),
                Datum::Integer(value) => json!(value),
                // Only with quality `bad`, and then it stands for no value.
                Datum::Real(value) if value.is_nan() => Value::Null,
                Datum::Real(value) => json!(value),
                Datum::Text(value) => json!(value),
                Datum::Blob(value) => json!({"base64": encoded(&value)}),
            };
            let quality = match row.quality {
                Quality::Good => "good",
                Quality::Uncertain => "uncertain",
                Quality::Bad => "bad",
            };
            (path, Timestamp(row.at.nanos()).to_string(), quality.to_owned(), value)
        });
        let derived = derived.collect();
        let said = |at: ironloom_sdk::Timestamp| Self::said(Timestamp(at.nanos()).to_string());
        let alarms = platform.episodes().iter().map(|episode| {
            let (alarm, entity, message) = (&episode.alarm, &episode.entity, &episode.message);
            let cleared = episode.cleared.and_then(said);
            let texts = (alarm.clone(), entity.clone(), message.clone());
            (texts.0, texts.1, texts.2, said(episode.since), cleared, episode.cleared.is_some())
        });
        Self { state: platform.state(), derived, alarms: alarms.collect() }.without_times()
    }

    /// A time, where it is one that the scenarios say: within the first second of 1970, before any invocation.
    fn said(time: String) -> Option<String> {
        time.starts_with("1970-01-01T00:00:00.").then_some(time)
    }

    fn on_the_host(client: &Client, id: &str) -> Result<Self> {
        let mut left = Self::default();
        let text =
            |value: &Value| value.as_str().map(str::to_owned).with_context(|| format!("no text: {value}"));
        for item in client.all(&format!("/v1/installations/{id}/state"))? {
            let value = text(&item["value"]["base64"])?;
            let value = base64::engine::general_purpose::STANDARD.decode(value)?;
            left.state.insert(text(&item["key"])?, value);
        }
        for item in client.all(&format!("/v1/installations/{id}/outputs"))? {
            let point = text(&item["point"])?;
            let path =
                point.strip_prefix(&format!("apps/{id}/")).context("not a point of the app")?.to_owned();
            let row = (path, text(&item["at"])?, text(&item["quality"])?, item["value"].clone());
            left.derived.push(row);
        }
        let mut episodes = client.all(&format!("/v1/alarms/history?installation={id}"))?;
        let number = |item: &Value| item["id"].as_str()?.split_once('-')?.1.parse::<u64>().ok();
        episodes.sort_by_key(number);
        for item in episodes {
            let texts = (text(&item["code"])?, text(&item["entity"])?, text(&item["message"])?);
            let since = Self::said(text(&item["since"])?);
            let cleared = item["cleared"]["at"].as_str().map(str::to_owned);
            let is_cleared = cleared.is_some();
            left.alarms.push((texts.0, texts.1, texts.2, since, cleared.and_then(Self::said), is_cleared));
        }
        Ok(left.without_times())
    }

    /// The times at which a scenario ran are the only difference that there may be.
    fn without_times(mut self) -> Self {
        let asked = self.state.iter_mut().filter(|(key, _)| key.starts_with("asked/"));
        asked.for_each(|(_, value)| value.clear());
        self
    }

    /// In what it differs from another.
    fn differs(&self, other: &Self) -> Option<String> {
        let differs = |what: &str, ours: &dyn std::fmt::Debug, theirs: &dyn std::fmt::Debug| {
            let short =
                |side: &dyn std::fmt::Debug| format!("{side:?}").chars().take(2_000).collect::<String>();
            Some(format!("the {what}:\n  natively {}\n  the host {}", short(ours), short(theirs)))
        };
        if self.state != other.state {
            let keys = |left: &Self| left.state.keys().take(50).cloned().collect::<Vec<_>>();
            return differs("state", &(self.state.len(), keys(self)), &(other.state.len(), keys(other)));
        }
        if self.derived != other.derived {
            let first = self.derived.iter().zip(&other.derived).find(|(ours, theirs)| ours != theirs);
            return differs(
                "derived readings",
                &(self.derived.len(), first.map(|(ours, _)| ours)),
                &(other.derived.len(), first.map(|(_, theirs)| theirs)),
            );
        }
        (self.alarms != other.alarms).then(|| differs("alarms", &self.alarms, &other.alarms))?
    }
}

fn encoded(bytes: &[u8]) -> String {
    base64::engine::general_purpose::STANDARD.encode(bytes)
}

/// Runs a scenario in an installation of its own, since quotas and counts begin at nothing natively, too.
fn run(client: &Client, digest: &str, scenario: &Scenario) -> Result<Option<String>> {
    let id = scenario.name;
    let request = json!({
        "id": id,
        "package": digest,
        "bindings": {"scenario": [format!("ask/{id}")]},
        "limits": {"memory": "64 MiB", "cpu": "1 s", "state": "2 MiB", "share": "1 s"},
    });
    client.post("/v1/installations", &request)?.json()?;
    let sequence = client.push_one(&format!("ask/{id}"), id)?;
    let shown = wait_for_installation(client, id, "asked", |shown| {
        number(shown, "cursor") >= sequence || shown["last_error"].is_object()
    })?;
    if shown["last_error"].is_object() {
        return Ok(Some(format!("it failed: {}", shown["last_error"])));
    }
    let expected = Left::natively(&both::run_natively(scenario));
    let fire = expected.state.keys().filter(|key| key.starts_with("fired/")).count();
    let left = wait_for("the timers that are due at once", || {
        let left = Left::on_the_host(client, id)?;
        let fired = left.state.keys().filter(|key| key.starts_with("fired/")).count();
        Ok((fired >= fire).then_some(left))
    })?;
    let answer = left.state.get(&format!("answer/{id}")).map(|answer| String::from_utf8_lossy(answer));
    if answer.as_deref() != Some(scenario.expected) {
        return Ok(Some(format!("expected {:?}\n  the host {answer:?}", scenario.expected)));
    }
    Ok(expected.differs(&left))
}

#[test]
fn the_host_does_what_the_platform_for_tests_does() -> Result<()> {
    let server = Setup::new()?.start()?;
    let client = server.client();
    let digest = client.add_package(&guests::package("both")?.tar())?;
    let mut wrong = Vec::new();
    for scenario in SCENARIOS {
        if let Some(problem) = run(client, &digest, scenario)? {
            wrong.push(format!("{}: {problem}", scenario.name));
        }
        client.delete(&format!("/v1/installations/{}?purge=true", scenario.name))?.json()?;
    }
    ensure!(wrong.is_empty(), "{} of {} differ:\n{}", wrong.len(), SCENARIOS.len(), wrong.join("\n"));
    Ok(())
}
