//! Requests that are remembered: each reading has a value of its own, so that the journal can be
//! held against what was acknowledged.

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::sync::Mutex;
use std::sync::PoisonError;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::Duration;

use anyhow::{Context, Result, bail, ensure};
use serde_json::Value;

use crate::http::Client;

/// One push, and what came of it.
#[derive(Clone, Debug)]
pub struct Request {
    pub key: String,
    /// The value of its first reading; the others follow.
    pub first: u64,
    /// How many readings it has.
    pub readings: u64,
    /// The sequence of its last reading, once acknowledged.
    pub through: Option<u64>,
}

impl Request {
    fn body(&self, prefix: &str, points: u64) -> Vec<u8> {
        let mut body = String::new();
        for value in self.first..self.first + self.readings {
            // Any spread over the points; written as a real.
            let point = value.wrapping_mul(2_654_435_761) % points;
            let _ = writeln!(body, r#"{{"point":"{prefix}/p{point}/value","value":{value}.0}}"#);
        }
        body.into_bytes()
    }
}

/// A source that pushes from several threads and remembers every request.
#[derive(Debug)]
pub struct Load {
    prefix: String,
    points: u64,
    next: AtomicU64,
    requests: Mutex<Vec<Request>>,
}

impl Load {
    /// Pushes to `prefix/p0/value` up to `prefix/p<points - 1>/value`.
    pub fn new(prefix: &str, points: u64) -> Self {
        Self { prefix: prefix.to_owned(), points, next: AtomicU64::new(1), requests: Mutex::default() }
    }

    /// Begins a new request of so many readings.
    fn make(&self, readings: u64) -> Request {
        let first = self.next.fetch_add(readings, Ordering::SeqCst);
        Request { key: format!("{}-{first}", self.prefix), first, readings, through: None }
    }

    /// Sends a request; `Ok(false)` where it got no answer, or one that asks to send it again.
    fn send(&self, client: &Client, request: &mut Request) -> Result<bool> {
        let Ok(answer) = client.push(&request.body(&self.prefix, self.points), Some(&request.key)) else {
            return Ok(false);
        };
        if matches!(answer.status, 503 | 507 | 429) {
            return Ok(false);
        }
        let answer = answer.json()?;
        ensure!(answer["accepted"] == request.readings, "{answer} to {} readings", request.readings);
        request.through =
            Some(answer["through"].as_u64().with_context(|| format!("no `through` in {answer}"))?);
        Ok(true)
    }

    /// Pushes from `threads` threads until `stop` is set or the server answers no more, in requests
    /// of `readings` readings with a pause between them.
    pub fn run(
        &self,
        client: &Client,
        threads: usize,
        readings: u64,
        pause: Duration,
        stop: &AtomicBool,
    ) -> Result<()> {
        std::thread::scope(|scope| {
            let work = || -> Result<()> {
                while !stop.load(Ordering::SeqCst) {
                    let mut request = self.make(readings);
                    let answered = self.send(client, &mut request);
                    self.remember(request);
                    if answered? {
                        std::thread::sleep(pause);
                    } else {
                        // Gone, or busy: an unanswered request is sent again later, and this thread
                        // doesn't fill the list with more of them.
                        std::thread::sleep(Duration::from_millis(20));
                    }
                }
                Ok(())
            };
            let threads: Vec<_> = (0..threads).map(|_| scope.spawn(work)).collect();
            for thread in threads {
                match thread.join() {
                    Ok(result) => result?,
                    Err(_) => bail!("a thread of the load panicked"),
                }
            }
            Ok(())
        })
    }

    fn remember(&self, request: Request) {
        self.requests.lock().unwrap_or_else(PoisonError::into_inner).push(request);
    }

    /// How many requests were acknowledged.
    pub fn acknowledged(&self) -> usize {
        let requests = self.requests.lock().unwrap_or_else(PoisonError::into_inner);
        requests.iter().filter(|request| request.through.is_some()).count()
    }

    /// How many weren't.
    pub fn unanswered(&self) -> usize {
        let requests = self.requests.lock().unwrap_or_else(PoisonError::into_inner);
        requests.iter().filter(|request| request.through.is_none()).count()
    }

    /// Sends again what got no answer, each under its key, until all have one.
    pub fn repeat_unanswered(&self, client: &Client) -> Result<()> {
        let mut requests = self.requests.lock().unwrap_or_else(PoisonError::into_inner);
        for request in requests.iter_mut().filter(|request| request.through.is_none()) {
            crate::wait::wait_until("a repeated request to be taken", || self.send(client, request))?;
        }
        Ok(())
    }

    /// Holds the journal against what was sent: each acknowledged request once, in one piece, in
    /// order, and at the sequences that the answer named; each unanswered one so, or not at all;
    /// nothing else under the prefix.
    pub fn check(&self, journal: &[Value]) -> Result<()> {
        let mut by_value: BTreeMap<u64, (u64, &str)> = BTreeMap::new();
        for reading in journal {
            let point = reading["point"].as_str().unwrap_or_default();
            if crate::model::entity_of(point, &self.prefix, "value").is_none() {
                continue;
            }
            let value = reading["value"].as_f64().with_context(|| format!("no number in {reading}"))?;
            let sequence =
                reading["sequence"].as_u64().with_context(|| format!("no sequence in {reading}"))?;
            let before = by_value.insert(value as u64, (sequence, point));
            ensure!(
                before.is_none(),
                "the reading {value} is in the journal twice: {before:?} and {sequence}"
            );
        }
        let requests = self.requests.lock().unwrap_or_else(PoisonError::into_inner);
        let mut expected = 0;
        for request in requests.iter() {
            let there = by_value.range(request.first..request.first + request.readings).count() as u64;
            match request.through {
                None if there == 0 => continue,
                _ => ensure!(there == request.readings, "{there} readings of {request:?} are in the journal"),
            }
            expected += there;
            for (row, value) in (request.first..request.first + request.readings).enumerate() {
                let (sequence, point) = by_value[&value];
                let first = by_value[&request.first].0;
                ensure!(
                    sequence == first + row as u64,
                    "{request:?} is torn at {value}: {sequence} after {first}"
                );
                let wanted = value.wrapping_mul(2_654_435_761) % self.points;
                ensure!(point == format!("{}/p{wanted}/value", self.prefix), "{value} is of {point}");
            }
            let last = by_value[&(request.first + request.readings - 1)].0;
            ensure!(request.through.is_none_or(|through| through == last), "{request:?} ends at {last}");
        }
        ensure!(by_value.len() as u64 == expected, "{} readings instead of {expected}", by_value.len());
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn journal(values: &[u64]) -> Vec<Value> {
        let reading = |(row, value): (usize, &u64)| {
            let point = value.wrapping_mul(2_654_435_761) % 3;
            json!({"sequence": row + 1, "point": format!("load/p{point}/value"), "value": *value as f64})
        };
        values.iter().enumerate().map(reading).collect()
    }

    #[test]
    fn what_is_lost_doubled_or_torn_is_found() {
        let load = Load::new("load", 3);
        let mut acknowledged = load.make(2);
        acknowledged.through = Some(2);
        load.remember(acknowledged);
        let unanswered = load.make(2);
        load.remember(unanswered);

        assert!(load.check(&journal(&[1, 2])).is_ok());
        assert!(load.check(&journal(&[1, 2, 3, 4])).is_ok());
        for wrong in
            [&[][..], &[1], &[2, 1], &[1, 2, 3], &[1, 2, 4, 3], &[1, 2, 1], &[3, 4, 1, 2], &[1, 2, 9]]
        {
            assert!(load.check(&journal(wrong)).is_err(), "{wrong:?}");
        }
    }
}
