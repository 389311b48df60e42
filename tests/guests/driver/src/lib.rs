//! A guest that asks for the set-points that its readings name. What the host answered stands in the state under
//! `ticket/<entity>`, what became of them under `heard/<entity>`.

use std::collections::BTreeMap;
use std::time::Duration;

use ironloom_sdk::outputs::Intent;
use ironloom_sdk::prelude::*;

pub struct Driver;
ironloom_sdk::app!(Driver: readings);

const OUTPUT: &str = "limit";

impl Readings for Driver {
    fn consume(batch: &Batch) -> Result<(), Failure> {
        let life = Duration::from_millis(settings::get("life")?);
        for reading in batch.readings() {
            match reading.slot() {
                "wish" => request(vec![(reading.entity().to_owned(), reading.real()?)], life)?,
                "list" => request(pairs(reading.text()?)?, life)?,
                "heard" => heard(reading.entity(), reading.text()?)?,
                _ => hostile(reading.text()?)?,
            }
        }
        Ok(())
    }
}

fn request(wishes: Vec<(String, f64)>, life: Duration) -> Result<(), Failure> {
    let intents: Vec<Intent> =
        wishes.iter().map(|(entity, value)| Intent::new(OUTPUT, entity, *value, life)).collect();
    let answers: Vec<String> = match outputs::request(&intents) {
        Ok(tickets) => tickets.iter().map(|ticket| format!("{} {:?}", ticket.id(), ticket.value())).collect(),
        Err(error) => wishes.iter().map(|_| format!("refused: {error}")).collect(),
    };
    for ((entity, _), answer) in wishes.iter().zip(answers) {
        state::set(&format!("ticket/{entity}"), answer.as_bytes())?;
    }
    Ok(())
}

fn pairs(text: &str) -> Result<Vec<(String, f64)>, Failure> {
    assert!(text != "panic", "a panic, as told");
    let pair = |pair: &str| {
        let (entity, value) = pair.split_once('=').ok_or_else(|| Failure::reject("no ="))?;
        Ok((entity.to_owned(), value.parse().map_err(Failure::reject)?))
    };
    text.split(',').map(pair).collect()
}

fn heard(entity: &str, outcome: &str) -> Result<(), Failure> {
    let key = format!("heard/{entity}");
    let mut all = state::get(&key)?.unwrap_or_default();
    if !all.is_empty() {
        all.push(b' ');
    }
    all.extend_from_slice(outcome.as_bytes());
    Ok(state::set(&key, &all)?)
}

/// Asks for whatever the text says, and counts in the state what the host answered: requests are apart by U+001E, their
/// set-points by U+001F, and the fields of one by tabs.
fn hostile(text: &str) -> Result<(), Failure> {
    let (mut answers, mut values) = (BTreeMap::<&str, u64>::new(), 0_u64);
    for request in text.split('\u{1e}') {
        let intents: Vec<Intent> = request.split('\u{1f}').map(intent).collect::<Result<_, _>>()?;
        let answer = match outputs::request(&intents) {
            Ok(tickets) => {
                values = tickets.iter().fold(values, |sum, ticket| sum.wrapping_add(mixed(&ticket.value())));
                *answers.entry("tickets").or_default() += tickets.len() as u64;
                "taken"
            }
            Err(outputs::Error::UnknownOutput(_)) => "unknown-output",
            Err(outputs::Error::NotGranted(_)) => "not-granted",
            Err(outputs::Error::UnknownEntity(_)) => "unknown-entity",
            Err(outputs::Error::WrongType(_)) => "wrong-type",
            Err(outputs::Error::Malformed(_)) => "malformed",
            Err(outputs::Error::NotAllowed(_)) => "not-allowed",
            Err(_) => "other",
        };
        *answers.entry(answer).or_default() += 1;
    }
    for (answer, count) in answers {
        add(answer, count)?;
    }
    add("values", values)
}

fn intent(fields: &str) -> Result<Intent, Failure> {
    let fields: Vec<&str> = fields.split('\t').collect();
    let [output, entity, life, kind, value] = fields[..] else { return Err(Failure::reject("five fields")) };
    let life = Duration::from_nanos(life.parse().map_err(Failure::reject)?);
    let bits = || u64::from_str_radix(value, 16).map_err(Failure::reject);
    Ok(match kind {
        // Its bits, since not each value of one survives as text.
        "real" => Intent::new(output, entity, f64::from_bits(bits()?), life),
        "integer" => Intent::new(output, entity, bits()? as i64, life),
        "boolean" => Intent::new(output, entity, value == "true", life),
        "blob" => Intent::new(output, entity, value.as_bytes(), life),
        _ => Intent::new(output, entity, value, life),
    })
}

/// A number for a value, of which others are far away.
fn mixed(value: &Value<'_>) -> u64 {
    let bits = match *value {
        Value::Boolean(value) => u64::from(value),
        Value::Integer(value) => value as u64,
        Value::Real(value) => value.to_bits(),
        _ => u64::MAX,
    };
    let bits = (bits ^ bits >> 31).wrapping_mul(0x9e37_79b9_7f4a_7c15);
    bits ^ bits >> 29
}

/// Adds to what the state has under this key.
fn add(key: &str, more: u64) -> Result<(), Failure> {
    let before = state::get(key)?.and_then(|bytes| Some(u64::from_le_bytes(bytes.try_into().ok()?)));
    Ok(state::set(key, &before.unwrap_or(0).wrapping_add(more).to_le_bytes())?)
}
