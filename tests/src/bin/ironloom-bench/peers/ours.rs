//! Ironloom: pushes under idempotency keys, and an app that keeps count and sum of each point.

use std::fmt::Write as _;
use std::sync::Mutex;
use std::time::Duration;

use anyhow::{Context as _, Result, bail};
use ironloom_tests::{Client, Server, Setup, apps, guests};
use serde_json::json;

use super::{Batch, Peer, Session};
use crate::connection::{Connection, push};

const APP: &str = "sums";
/// The header with the key, before an id is written into it.
const KEY: &str = "idempotency-key: batch-0000000000000000\r\n";

pub(super) struct Ours {
    client: Client,
    _server: Mutex<Server>,
}

pub(super) fn start() -> Result<Ours> {
    let server = Setup::new()?.start()?;
    let bindings = json!({"value": ["bench/{point}/value"]});
    let limits = json!({"limits": {"share": "1 s", "state": "1 GiB"}});
    apps::install(server.client(), APP, &guests::package("one-state")?, bindings, limits)?;
    Ok(Ours { client: Client::new(server.client().url()), _server: Mutex::new(server) })
}

impl Peer for Ours {
    fn connect<'b>(&self, batches: &'b [Batch]) -> Result<Box<dyn Session + Send + 'b>> {
        let url = self.client.url();
        let mut requests = Vec::new();
        for batch in batches {
            let mut body = String::with_capacity(batch.points.len() * 80);
            for (point, at, value) in batch.rows() {
                writeln!(body, r#"{{"point":"{point}","at":{at},"value":{value:?}}}"#)?;
            }
            let request = push(url, &body)?;
            let first = request.iter().position(|byte| *byte == b'\n').context("a request has lines")? + 1;
            let request = [&request[..first], KEY.as_bytes(), &request[first..]].concat();
            requests.push((request, first + KEY.len() - 2));
        }
        Ok(Box::new(Pushes { connection: Connection::open(url)?, requests }))
    }

    fn in_state(&self, _: u64) -> Result<u64> {
        self.counted()
    }

    fn counted(&self) -> Result<u64> {
        Ok(apps::number(&self.client.installation(APP)?, "counters.readings"))
    }
}

struct Pushes {
    connection: Connection,
    /// With the place at which the key ends.
    requests: Vec<(Vec<u8>, usize)>,
}

impl Session for Pushes {
    fn send(&mut self, number: usize, id: u64) -> Result<()> {
        let (request, end) = &mut self.requests[number];
        request[*end - 16..*end].copy_from_slice(format!("{id:016}").as_bytes());
        loop {
            let answer = self.connection.send(request)?;
            match answer.status {
                200 => return Ok(()),
                503 => std::thread::sleep(Duration::from_millis(20)),
                status => bail!("a push got {status}: {}", String::from_utf8_lossy(answer.body)),
            }
        }
    }
}
