//! A guest that asks for the set-points that its readings name. What the host answered stands in the state under
//! `ticket/<entity>`, what became of them under `heard/<entity>`.

use std::time::Duration;

use ironloom_sdk::outputs::Intent;
use ironloom_sdk::prelude::*;

pub struct Driver;
ironloom_sdk::app!(Driver: readings);

const OUTPUT: &str = "limit";
const MANY: u64 = 1_000;

impl Readings for Driver {
    fn consume(batch: &Batch) -> Result<(), Failure> {
        let life = Duration::from_millis(settings::get("life")?);
        for reading in batch.readings() {
            match reading.slot() {
                "wish" => request(vec![(reading.entity().to_owned(), reading.real()?)], life)?,
                "list" => request(pairs(reading.text()?)?, life)?,
                "heard" => heard(reading.entity(), reading.text()?)?,
                _ => hostile(reading.integer()?, life)?,
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

/// Asks for a thousand set-points, most of which nobody should send: each by itself, since a list is refused as a whole.
fn hostile(seed: i64, life: Duration) -> Result<(), Failure> {
    let mut random = seed.unsigned_abs().wrapping_mul(0x9e37_79b9_7f4a_7c15) | 1;
    let mut next = || {
        random ^= random << 13;
        random ^= random >> 7;
        random ^= random << 17;
        random
    };
    let mut refused = 0_u64;
    for _ in 0..MANY {
        let number = next();
        let value = match number % 8 {
            0 => f64::NAN,
            1 => f64::INFINITY,
            2 => -1.0,
            3 => 5.999_999,
            4 => 1e300,
            5 => f64::from_bits(next()),
            6 => 32.000_001,
            _ => (number >> 8) as f64 / 1e16,
        };
        let entity = match next() % 16 {
            0 => "../halt".to_owned(),
            1 => "1/limit".to_owned(),
            2 => "+".to_owned(),
            3 => "#".to_owned(),
            4 => String::new(),
            n => (n - 5).to_string(),
        };
        if outputs::request(&[Intent::new(OUTPUT, &entity, value, life)]).is_err() {
            refused += 1;
        }
    }
    Ok(state::set("refused", refused.to_string().as_bytes())?)
}
