//! The pig ledger on the real server, fed with the real file: what it derives is what the published
//! columns say.

use std::collections::BTreeMap;

use anyhow::{Context as _, Result, ensure};
use ironloom_tests::apps::{install, number, wait_for_installation};
use ironloom_tests::guests;
use ironloom_tests::server::Setup;
use serde_json::{Value, json};

#[path = "../../sample-apps/pigs/tests/dietox/mod.rs"]
#[allow(
    clippy::unwrap_used,
    clippy::panic,
    reason = "a file of the repository that can't be read fails the test"
)]
mod dietox;

fn config() -> String {
    let file = guests::workspace().join("sample-apps/pigs/data/weighings.csv");
    format!(
        r#"
[site]
clock = "feed"

[connectors.scale]
kind = "csv"
path = {file:?}
at = "at"

[connectors.scale.columns.Weight]
point = "farm/barn-{{lap}}/{{Pig}}/weight"
unit = "kg"

[connectors.scale.columns.Feed]
point = "farm/barn-{{lap}}/{{Pig}}/feed"
unit = "kg"
"#
    )
}

/// The values of an output by pig, in the order of the journal.
fn by_pig(items: &[Value]) -> Result<BTreeMap<String, Vec<f64>>> {
    let mut values: BTreeMap<String, Vec<f64>> = BTreeMap::new();
    for item in items {
        let entity = item["entity"].as_str().context("no entity")?;
        let pig = entity.strip_prefix("barn-1/").with_context(|| format!("entity {entity}"))?;
        values.entry(pig.to_owned()).or_default().push(item["value"].as_f64().context("no real")?);
    }
    Ok(values)
}

fn compare(
    what: &str,
    found: &BTreeMap<String, Vec<f64>>,
    expected: &BTreeMap<String, Vec<f64>>,
) -> Result<()> {
    ensure!(found.keys().eq(expected.keys()), "{what}: other pigs than the file has");
    for (pig, expected) in expected {
        let found = &found[pig];
        ensure!(
            found.len() == expected.len(),
            "{what} of {pig}: {} values, {} expected",
            found.len(),
            expected.len()
        );
        for (found, expected) in found.iter().zip(expected) {
            let close = (found - expected).abs() <= 1e-9 * expected.abs();
            ensure!(close, "{what} of {pig}: {found}, and the file says {expected}");
        }
    }
    Ok(())
}

#[test]
fn gains_and_conversions_are_those_of_the_published_file() -> Result<()> {
    let server = Setup::new()?.config(config()).start()?;
    let client = server.client();
    let package = guests::package_of("pigs", &guests::workspace().join("sample-apps/pigs"))?;
    let bindings = json!({
        "weight": ["farm/{barn}/{pig}/weight"],
        "feed": ["farm/{barn}/{pig}/feed"],
    });
    install(client, "pigs", &package, bindings, json!({"from": "beginning"}))?;
    // 861 weighings, and feed at all but the first of each of the 72 pigs.
    let fed = dietox::fed();
    let readings = fed.len() + fed.iter().filter(|row| row.feed.is_some()).count();
    let shown = wait_for_installation(client, "pigs", "the whole file to be taken", |shown| {
        number(shown, "counters.readings") >= readings as u64
    })?;
    assert_eq!(number(&shown, "counters.readings"), readings as u64);
    assert_eq!((number(&shown, "counters.failures"), number(&shown, "counters.dead_letters")), (0, 0));

    let mut gains: BTreeMap<String, Vec<f64>> = BTreeMap::new();
    let mut totals: BTreeMap<String, Vec<f64>> = BTreeMap::new();
    let mut conversions: BTreeMap<String, f64> = BTreeMap::new();
    for row in dietox::expected().into_values() {
        gains.entry(row.pig.clone()).or_default().extend(row.daily_gain);
        totals.entry(row.pig.clone()).or_default().push(row.gain);
        if let Some(conversion) = row.conversion {
            conversions.insert(row.pig, conversion);
        }
    }
    let outputs = |name: &str| by_pig(&client.all(&format!("/v1/installations/pigs/outputs?output={name}"))?);
    compare("daily gain", &outputs("daily-gain")?, &gains)?;
    compare("gain since the start", &outputs("gain-since-start")?, &totals)?;
    // A conversion is told with each weight and each feed; the last one of each pig is the file's.
    let last = |values: Vec<f64>| values.last().copied().context("a pig without conversion");
    for (pig, values) in outputs("feed-conversion")? {
        let (found, expected) = (last(values)?, conversions[&pig]);
        ensure!((found - expected).abs() <= 1e-9 * expected, "conversion of {pig}: {found}, not {expected}");
    }
    Ok(())
}

#[test]
fn the_replay_goes_on_after_a_kill_without_a_gap_or_a_repetition() -> Result<()> {
    let setup = Setup::new()?.config(config().replace("at = \"at\"", "at = \"at\"\nspeed = 1_500_000.0"));
    let mut kills = 0;
    loop {
        let server = setup.start()?;
        std::thread::sleep(std::time::Duration::from_millis(700));
        let done = server.client().get("/v1/connectors")?.json()?["items"][0]["state"] == "done";
        if done || kills == 4 {
            break;
        }
        server.kill()?;
        kills += 1;
    }
    ensure!(kills > 0, "the replay ended before it could be killed");
    let server = setup.start()?;
    ironloom_tests::wait::wait_until("the replay to end", || {
        Ok(server.client().get("/v1/connectors")?.json()?["items"][0]["state"] == "done")
    })?;
    let found: Vec<(String, String, f64)> = server
        .client()
        .journal(0, "")?
        .iter()
        .map(|item| {
            let text = |field: &str| item[field].as_str().map(str::to_owned).context("no text");
            Ok((text("point")?, text("at")?, item["value"].as_f64().context("no real")?))
        })
        .collect::<Result<_>>()?;
    let mut expected = Vec::new();
    for row in dietox::fed() {
        let at = row.at.replace('Z', ".000000000Z");
        let point = |what: &str| format!("farm/barn-1/{}/{what}", row.pig);
        // In the order of the connector's columns.
        expected.push((point("weight"), at.clone(), row.weight));
        expected.extend(row.feed.map(|feed| (point("feed"), at.clone(), feed)));
    }
    assert_eq!(found.len(), expected.len());
    assert_eq!(found, expected);
    Ok(())
}
