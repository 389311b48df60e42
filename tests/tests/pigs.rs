//! The pig ledger on the real server, fed with the real file: what it derives is what the published
//! columns say.

use std::collections::{BTreeMap, BTreeSet};

use anyhow::{Context as _, Result, ensure};
use ironloom_tests::Client;
use ironloom_tests::apps::{install, number, wait_for_installation};
use ironloom_tests::guests;
use ironloom_tests::server::Setup;
use ironloom_tests::wait::wait_until;
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

/// Installs the ledger and waits until it has taken the whole file.
fn take_the_file(client: &Client, settings: Value) -> Result<()> {
    let package = guests::package_of("pigs", &guests::workspace().join("sample-apps/pigs"))?;
    let bindings = json!({
        "weight": ["farm/{barn}/{pig}/weight"],
        "feed": ["farm/{barn}/{pig}/feed"],
    });
    wait_until("the replay to end", || {
        Ok(client.get("/v1/connectors")?.json()?["items"][0]["state"] == "done")
    })?;
    install(client, "pigs", &package, bindings, json!({"from": "beginning", "settings": settings}))?;
    // 861 weighings, and feed at all but the first of each of the 72 pigs.
    let fed = dietox::fed();
    let readings = fed.len() + fed.iter().filter(|row| row.feed.is_some()).count();
    let shown = wait_for_installation(client, "pigs", "the whole file to be taken", |shown| {
        number(shown, "counters.readings") >= readings as u64
    })?;
    assert_eq!(number(&shown, "counters.readings"), readings as u64);
    assert_eq!((number(&shown, "counters.failures"), number(&shown, "counters.dead_letters")), (0, 0));
    Ok(())
}

/// The days since 1970 of a time, with fractions.
fn day(time: &str) -> Result<f64> {
    Ok(time.parse::<jiff::Timestamp>()?.as_nanosecond() as f64 / 86_400e9)
}

/// The days on which each pig was weighed.
fn weighed() -> Result<BTreeMap<String, Vec<f64>>> {
    let mut weighed: BTreeMap<String, Vec<f64>> = BTreeMap::new();
    for row in dietox::fed() {
        weighed.entry(row.pig).or_default().push(day(&row.at)?);
    }
    Ok(weighed)
}

#[test]
fn gains_and_conversions_are_those_of_the_published_file() -> Result<()> {
    let server = Setup::new()?.config(config()).start()?;
    let client = server.client();
    take_the_file(client, json!({}))?;
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
fn the_market_day_of_each_pig_that_passed_is_that_between_its_weighings() -> Result<()> {
    let server = Setup::new()?.config(config()).start()?;
    let client = server.client();
    take_the_file(client, json!({"market-weight": 90.0}))?;
    let outputs = |name: &str| by_pig(&client.all(&format!("/v1/installations/pigs/outputs?output={name}"))?);
    let (lows, days, highs) =
        (outputs("market-day-low")?, outputs("market-day")?, outputs("market-day-high")?);
    let (weighed, passing) = (weighed()?, dietox::passing(90.0));
    assert_eq!(passing.len(), 64);
    for (pig, weighed) in &weighed {
        let told = days.get(pig).map_or(&[][..], Vec::as_slice);
        // From the third weighing on.
        assert_eq!(told.len(), weighed.len() - 2, "pig {pig}");
        ensure!(lows[pig].len() == told.len() && highs[pig].len() == told.len(), "pig {pig}");
        for ((low, day), high) in lows[pig].iter().zip(told).zip(&highs[pig]) {
            ensure!(low <= day && day <= high, "pig {pig}: {low} to {high}, and {day} between");
        }
        let last = |values: &[f64]| values.last().copied().unwrap_or_default();
        let (low, found, high) = (last(&lows[pig]), last(told), last(&highs[pig]));
        match passing.get(pig) {
            // Weeks count from 1.
            Some(week) => {
                let expected = weighed[0] + 7.0 * (week - 1.0);
                ensure!((found - expected).abs() < 1e-6, "pig {pig} passed on day {expected}, not {found}");
                assert_eq!((low, high), (found, found), "pig {pig}");
            }
            None => ensure!(low < high && high > last(weighed), "pig {pig} has yet to pass"),
        }
    }
    Ok(())
}

/// The entities of an alarm in one of its states, with the messages.
fn alarms(client: &Client, code: &str, state: &str) -> Result<BTreeMap<String, String>> {
    let text = |alarm: &Value, field: &str| alarm[field].as_str().unwrap_or_default().to_owned();
    let alarms = client.all("/v1/alarms?installation=pigs")?;
    let wanted = alarms.iter().filter(|alarm| alarm["code"] == code && alarm["state"] == state);
    Ok(wanted.map(|alarm| (text(alarm, "entity"), text(alarm, "message"))).collect())
}

/// How often the morning's timer has fired.
fn mornings(client: &Client) -> Result<usize> {
    let invocations = client.all("/v1/installations/pigs/invocations")?;
    let of_timer = invocations.iter().filter(|one| one["kind"] == "timer");
    ensure!(of_timer.clone().all(|one| one["timer"] == "morning" && one["outcome"] == "ok"));
    Ok(of_timer.count())
}

#[test]
fn the_mornings_round_asks_for_vaccinations_and_calls_for_pigs_that_are_missing() -> Result<()> {
    const FIRST: &str = "4601";
    let server = Setup::new()?.config(config()).start()?;
    let client = server.client();
    let plan = "pcv2@40, mycoplasma@145+7, erysipelas@150+7";
    let settings = json!({
        "market-weight": 90.0, "age-at-first-weighing": 70.0, "not-seen-days": 10.0, "vaccinations": plan,
    });
    take_the_file(client, settings)?;
    let (weighed, passing) = (weighed()?, dietox::passing(90.0));
    let entity = |pig: &str| format!("barn-1/{pig}");
    let last_weight = dietox::fed().into_iter().rfind(|row| row.pig == FIRST).context("a row")?.weight;
    // Time goes on with a reading alone; the rounds of the days that it passes over are one, on the last of them.
    let weigh = |at: &str| -> Result<()> {
        let before = mornings(client)?;
        let line = json!({"point": format!("farm/barn-1/{FIRST}/weight"), "value": last_weight, "at": at});
        client.push(line.to_string().as_bytes(), None)?.json()?;
        wait_until("the morning's round", || Ok(mornings(client)? > before))?;
        assert_eq!(mornings(client)?, before + 1);
        Ok(())
    };

    weigh("2025-03-31T07:00:00Z")?;
    let round = day("2025-03-31T06:00:00Z")?;
    let mut there = BTreeSet::new();
    let mut missing = BTreeMap::new();
    for (pig, weighed) in &weighed {
        let unseen = round - weighed.last().context("a day")?;
        if unseen <= 10.0 {
            // 153 days old: past mycoplasma's seven days, within erysipelas', and pcv2 is no longer asked for.
            assert_eq!((round - weighed[0] + 70.0).floor(), 153.0, "pig {pig}");
            there.insert(entity(pig));
        } else if !passing.contains_key(pig) {
            missing.insert(entity(pig), format!("last seen {unseen:.0} days ago"));
        }
    }
    assert_eq!(
        (there.len(), missing.len()),
        (69, 1),
        "three left a week early, two of them at market weight"
    );
    let all = |message: &str| there.iter().map(|pig| (pig.clone(), message.to_owned())).collect();
    let (due, overdue): (BTreeMap<_, _>, BTreeMap<_, _>) =
        (all("erysipelas (day 150 of life to day 157)"), all("mycoplasma (day 145 of life to day 152)"));
    assert_eq!(alarms(client, "vaccination-due", "unacknowledged")?, due);
    assert_eq!(alarms(client, "vaccination-overdue", "unacknowledged")?, overdue);
    assert_eq!(alarms(client, "animal-not-seen", "unacknowledged")?, missing);

    weigh("2025-04-05T07:00:00Z")?;
    let round = day("2025-04-05T06:00:00Z")?;
    for (pig, weighed) in weighed.iter().filter(|(pig, _)| *pig != FIRST && !passing.contains_key(*pig)) {
        let unseen = round - weighed.last().context("a day")?;
        ensure!(unseen > 10.0, "pig {pig}");
        missing.entry(entity(pig)).or_insert(format!("last seen {unseen:.0} days ago"));
    }
    assert_eq!(missing.len(), 72 - 64);
    assert_eq!(alarms(client, "animal-not-seen", "unacknowledged")?, missing);
    // Nobody vaccinates a pig that isn't there; the one that was weighed is 158 days old.
    let first = entity(FIRST);
    assert_eq!(alarms(client, "vaccination-due", "unacknowledged")?, BTreeMap::new());
    let overdue = alarms(client, "vaccination-overdue", "unacknowledged")?;
    let both = "mycoplasma (day 145 of life to day 152), erysipelas (day 150 of life to day 157)";
    assert_eq!(overdue, BTreeMap::from([(first.clone(), both.to_owned())]));
    let over = "return-to-normal-unacknowledged";
    assert_eq!(alarms(client, "vaccination-due", over)?.into_keys().collect::<BTreeSet<_>>(), there);
    there.remove(&first);
    assert_eq!(alarms(client, "vaccination-overdue", over)?.into_keys().collect::<BTreeSet<_>>(), there);
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
