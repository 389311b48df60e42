//! A model of the app `one-state`: what its state must be, folded from the journal by other code
//! than the app's, the SDK's or the runtime's.

use std::collections::BTreeMap;

use anyhow::{Context, Result, bail, ensure};
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use serde_json::Value;

use crate::http::Client;
use crate::wait::wait_until;

/// Count and sum by entity.
pub type Sums = BTreeMap<String, (u64, f64)>;

/// What matches `prefix/{entity}/suffix`: the entity.
pub fn entity_of<'p>(point: &'p str, prefix: &str, suffix: &str) -> Option<&'p str> {
    let entity = point.strip_prefix(prefix)?.strip_prefix('/')?.strip_suffix(suffix)?.strip_suffix('/')?;
    (!entity.contains('/')).then_some(entity)
}

/// Folds readings, as the API gives them, in their order. Bad readings are left out, as the app does.
pub fn fold<'r>(readings: impl IntoIterator<Item = &'r Value>, prefix: &str, suffix: &str) -> Result<Sums> {
    let mut sums = Sums::new();
    let mut last = 0;
    for reading in readings {
        let sequence = reading["sequence"].as_u64().with_context(|| format!("no sequence in {reading}"))?;
        ensure!(sequence > last, "the journal goes from {last} to {sequence}");
        last = sequence;
        let point = reading["point"].as_str().with_context(|| format!("no point in {reading}"))?;
        let Some(entity) = entity_of(point, prefix, suffix) else { continue };
        if reading["quality"] == "bad" {
            continue;
        }
        let value = reading["value"].as_f64().with_context(|| format!("no number in {reading}"))?;
        let (count, sum) = sums.entry(entity.to_owned()).or_default();
        *count += 1;
        *sum += value;
    }
    Ok(sums)
}

/// The state of an installation of `one-state`, as the API shows it.
pub fn state_of(client: &Client, installation: &str) -> Result<Sums> {
    let mut sums = Sums::new();
    for item in client.all(&format!("/v1/installations/{installation}/state"))? {
        let key = item["key"].as_str().with_context(|| format!("no key in {item}"))?;
        let value = item["value"]["base64"].as_str().with_context(|| format!("no base64 in {item}"))?;
        let bytes = STANDARD.decode(value)?;
        let Ok(words) = <[u8; 16]>::try_from(bytes.as_slice()) else {
            bail!("the state of {key} has {} bytes instead of 16", bytes.len());
        };
        let word = |half: usize| {
            let mut word = [0; 8];
            word.copy_from_slice(&words[8 * half..8 * half + 8]);
            word
        };
        let value = (u64::from_le_bytes(word(0)), f64::from_le_bytes(word(1)));
        ensure!(sums.insert(key.to_owned(), value).is_none(), "the key {key} is listed twice");
    }
    Ok(sums)
}

/// Waits until an installation has taken everything.
pub fn wait_until_done(client: &Client, installation: &str) -> Result<()> {
    wait_until(&format!("{installation} to have no lag"), || {
        let shown = client.installation(installation)?;
        let state = shown["state"].as_str().unwrap_or_default();
        ensure!(state != "quarantined" && state != "paused", "{installation} is {state}: {shown}");
        Ok(shown["lag"]["readings"] == 0)
    })
}

/// Holds an installation of `one-state` against the model run over the whole journal.
pub fn compare(client: &Client, installation: &str, prefix: &str, suffix: &str) -> Result<usize> {
    wait_until_done(client, installation)?;
    compare_with(&client.journal(0, "")?, client, installation, prefix, suffix)
}

/// As [`compare`], where the installation has taken the whole of this journal.
pub fn compare_with(
    journal: &[Value],
    client: &Client,
    installation: &str,
    prefix: &str,
    suffix: &str,
) -> Result<usize> {
    let expected = fold(journal, prefix, suffix)?;
    let found = state_of(client, installation)?;
    difference(&expected, &found)
        .with_context(|| format!("the state of {installation} isn't what the journal gives"))?;
    Ok(expected.len())
}

/// An error that names the first few entities that differ.
pub fn difference(expected: &Sums, found: &Sums) -> Result<()> {
    let same = |a: Option<&(u64, f64)>, b: Option<&(u64, f64)>| match (a, b) {
        // Bit by bit: the same additions in the same order.
        (Some(a), Some(b)) => a.0 == b.0 && a.1.to_bits() == b.1.to_bits(),
        (a, b) => a.is_none() && b.is_none(),
    };
    let all: std::collections::BTreeSet<_> = expected.keys().chain(found.keys()).collect();
    let wrong: Vec<_> =
        all.iter().filter(|entity| !same(expected.get(**entity), found.get(**entity))).collect();
    if wrong.is_empty() {
        return Ok(());
    }
    let shown = wrong
        .iter()
        .take(5)
        .map(|entity| format!("{entity}: {:?} instead of {:?}", found.get(**entity), expected.get(**entity)));
    bail!("{} of {} differ: {}", wrong.len(), all.len(), shown.collect::<Vec<_>>().join("; "))
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn reading(sequence: u64, point: &str, value: f64, quality: &str) -> Value {
        json!({"sequence": sequence, "point": point, "value": value, "quality": quality})
    }

    #[test]
    fn the_model_counts_and_adds_in_order() -> Result<()> {
        let readings = [
            reading(1, "load/a/value", 0.1, "good"),
            reading(3, "load/a/value", 0.2, "uncertain"),
            reading(4, "load/b/value", 7.0, "bad"),
            reading(5, "load/a/b/value", 1.0, "good"),
            reading(6, "other/a/value", 1.0, "good"),
        ];
        assert_eq!(fold(&readings, "load", "value")?, Sums::from([("a".to_owned(), (2, 0.1 + 0.2))]));
        assert!(fold([&readings[1], &readings[0]], "load", "value").is_err());
        Ok(())
    }

    #[test]
    fn differences_are_named() {
        let one = |count| Sums::from([("a".to_owned(), (count, 0.5))]);
        assert!(difference(&one(1), &one(1)).is_ok());
        assert!(difference(&one(1), &one(2)).is_err());
        assert!(difference(&one(1), &Sums::new()).is_err());
        assert!(difference(&Sums::new(), &one(1)).is_err());
    }
}
