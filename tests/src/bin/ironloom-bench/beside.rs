//! What an honest app feels of another one, or of a client, that takes all it can get.

use std::io::Write as _;
use std::net::TcpStream;
use std::path::Path;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, ensure};
use ironloom_tests::{Client, Setup, apps, guests, package};
use serde_json::json;

use crate::Effort;
use crate::latency::{Honest, milliseconds, told};
use crate::machine::Usage;
use crate::report::{Bound, Row, median, quantile};

/// Says when it has begun, and goes on until it is told to stop.
type Attack = fn(&Client, &Signals) -> Result<()>;

#[derive(Default)]
struct Signals {
    begun: AtomicBool,
    stop: AtomicBool,
}

impl Signals {
    fn begun(&self) {
        self.begun.store(true, Ordering::Relaxed);
    }

    fn goes_on(&self) -> bool {
        !self.stop.load(Ordering::Relaxed)
    }
}

/// What is promised of the median and of one in a hundred: twice the lag alone, and two ticks.
const ADDED: f64 = 20.0;
/// What is promised of the most, in milliseconds: a median shows no stall, and one in a hundred only a long one.
const MOST: f64 = 500.0;

pub(crate) fn loops(effort: Effort) -> Result<Vec<Row>> {
    measure(effort, "honest app beside three loops on each core: its median lag", |client, signals| {
        let cores = std::thread::available_parallelism()?.get();
        let ids: Vec<String> = (0..3 * cores).map(|n| format!("loop-{n}")).collect();
        commands(client, signals, &ids, &["loop"])
    })
}

pub(crate) fn floods(effort: Effort) -> Result<Vec<Row>> {
    measure(
        effort,
        "honest app beside floods of readings, keys and lines: its median lag",
        |client, signals| {
            let ids = ["readings", "keys", "lines"].map(str::to_owned);
            commands(client, signals, &ids, &["flood", "key-flood", "log-flood"])
        },
    )
}

pub(crate) fn timers(effort: Effort) -> Result<Vec<Row>> {
    let what = "honest app beside timers that set themselves again and write 3.6 MB each: its median lag";
    measure(effort, what, |client, signals| {
        let ids = ["timer-1", "timer-2", "timer-3"].map(str::to_owned);
        install(client, &ids)?;
        ids.iter().try_for_each(|id| client.push_one(id, "timer-again").map(drop))?;
        wait(signals);
        Ok(())
    })
}

pub(crate) fn points(effort: Effort) -> Result<Vec<Row>> {
    measure(
        effort,
        "honest app beside one that makes all the points it may and writes to them: its median lag",
        |client, signals| commands(client, signals, &["points".to_owned()], &["new-points"]),
    )
}

pub(crate) fn keys(effort: Effort) -> Result<Vec<Row>> {
    measure(
        effort,
        "honest app beside one that sets 10,000 new keys and deletes 10,000 others a call: its median lag",
        |client, signals| commands(client, signals, &["keys".to_owned()], &["new-keys"]),
    )
}

/// 16 bodies of which no byte comes: once they held all the memory that bodies may take.
pub(crate) fn silent(effort: Effort) -> Result<Vec<Row>> {
    measure(
        effort,
        "honest app beside 16 senders that send no byte of a body: its median lag",
        |client, signals| {
            let host = client.url().strip_prefix("http://").context("no URL")?;
            let head = format!(
                "POST /v1/readings HTTP/1.1\r\nhost: {host}\r\ncontent-type: application/x-ndjson\r\n\
             content-length: 16777216\r\n\r\n"
            );
            hold(host, head.as_bytes(), 16, signals)
        },
    )
}

/// 20 answers of megabytes that nobody reads: once they were built whole.
pub(crate) fn unread(effort: Effort) -> Result<Vec<Row>> {
    measure(
        effort,
        "honest app beside 20 readers that read nothing of 64 MB: its median lag",
        |client, signals| {
            let line = format!("{{\"point\":\"big/x\",\"value\":\"{}\"}}\n", "x".repeat(65_000));
            for _ in 0..10 {
                client.push(line.repeat(100).as_bytes(), None)?.json()?;
            }
            let host = client.url().strip_prefix("http://").context("no URL")?;
            let head = format!("GET /v1/readings?point=big/x&limit=10000 HTTP/1.1\r\nhost: {host}\r\n\r\n");
            hold(host, head.as_bytes(), 20, signals)
        },
    )
}

/// Sends a request on so many connections, and again on each that the server closes.
fn hold(host: &str, request: &[u8], connections: usize, signals: &Signals) -> Result<()> {
    let open = || -> Result<TcpStream> {
        let mut stream = TcpStream::connect(host)?;
        stream.set_nonblocking(true)?;
        stream.write_all(request)?;
        Ok(stream)
    };
    let mut held = (0..connections).map(|_| open()).collect::<Result<Vec<_>>>()?;
    signals.begun();
    while signals.goes_on() {
        std::thread::sleep(Duration::from_millis(100));
        for stream in &mut held {
            // An end can be seen only by whoever looks, and a byte that is looked at is still unread.
            if matches!(stream.peek(&mut [0]), Ok(0)) || stream.take_error()?.is_some() {
                *stream = open()?;
            }
        }
    }
    Ok(())
}

/// The hostile guest under these ids, with all that an admin might grant to an app that asks for it.
fn install(client: &Client, ids: &[String]) -> Result<()> {
    let manifest = std::fs::read_to_string(guests::folder_of("hostile").join("app.toml"))?;
    let manifest = manifest
        .replace("cpu = \"100 ms\"", "cpu = \"5 s\"")
        .replace("state = \"1 MiB\"", "state = \"64 MiB\"");
    let greedy = package::pack(&manifest, &std::fs::read(guests::build("hostile")?)?);
    let limits = json!({"limits": {"cpu": "5 s", "state": "64 MiB"}});
    for id in ids {
        apps::install(client, id, &greedy, json!({"command": [id]}), limits.clone())?;
    }
    Ok(())
}

/// Installs the guest under these ids, and sees that each always has commands to obey.
fn commands(client: &Client, signals: &Signals, ids: &[String], commands: &[&str]) -> Result<()> {
    const AHEAD: usize = 20;
    install(client, ids)?;
    let mut sent = vec![0; ids.len()];
    while signals.goes_on() {
        for ((id, command), last) in ids.iter().zip(commands.iter().cycle()).zip(&mut sent) {
            let installation = client.installation(id)?;
            if apps::number(&installation, "cursor") >= *last {
                let lines = format!("{{\"point\":\"{id}\",\"value\":\"{command}\"}}\n").repeat(AHEAD);
                let answer = client.push(lines.as_bytes(), None)?.json()?;
                *last = answer["through"].as_u64().context("no sequence in the answer")?;
            }
        }
        signals.begun();
        std::thread::sleep(Duration::from_millis(20));
    }
    Ok(())
}

fn wait(signals: &Signals) {
    signals.begun();
    while signals.goes_on() {
        std::thread::sleep(Duration::from_millis(20));
    }
}

/// What the installations other than the honest one have done.
#[derive(Clone, Copy, Debug, Default)]
struct Others {
    installations: usize,
    /// Failed ones included.
    invocations: u64,
}

impl Others {
    fn now(client: &Client) -> Result<Self> {
        let mut others = Self::default();
        for installation in client.all("/v1/installations")? {
            if installation["id"] != "count" {
                let counter = |name: &str| apps::number(&installation, &format!("counters.{name}"));
                others.installations += 1;
                others.invocations += counter("invocations") + counter("failures");
            }
        }
        Ok(others)
    }

    fn worked_since(&self, before: &Self) -> bool {
        self.installations == 0 || self.invocations > before.invocations
    }
}

/// Alone and beside, on one server.
fn measure(effort: Effort, what: &'static str, attack: Attack) -> Result<Vec<Row>> {
    let effort = effort.quarter();
    let server = Setup::new()?.start()?;
    let client = server.client();
    let mut honest = Honest::install(&server)?;
    honest.run(effort.warm_up)?;
    let alone = milliseconds(&honest.run(effort.run * 2)?, |lag| lag.derived);
    let at_most = |part| Bound::AtMost(2.0 * quantile(&alone, part) + ADDED);
    let (memory, disk) = (server.resident_bytes()?, size(&server.setup().data())?);
    let before = Usage::now(Some(server.pid()))?;
    let signals = Signals::default();
    let (mut runs, mut all, mut most) = (Vec::new(), Vec::new(), memory);
    let written = std::thread::scope(|scope| -> Result<u64> {
        let attacker = scope.spawn(|| attack(client, &signals));
        let measured = (|| -> Result<u64> {
            while !signals.begun.load(Ordering::Relaxed) && !attacker.is_finished() {
                std::thread::sleep(Duration::from_millis(20));
            }
            honest.run(effort.warm_up)?;
            for _ in 0..effort.runs {
                let before = Others::now(client)?;
                let begin = Instant::now();
                let (mut lags, mut goes_on) = (Vec::new(), false);
                // An endless loop shows only when its time is used up, and what its price holds back works seldom:
                // neither need end in one short run.
                while !goes_on && begin.elapsed() < Duration::from_secs(60) {
                    lags.extend(milliseconds(&honest.run(effort.run)?, |lag| lag.derived));
                    goes_on = Others::now(client)?.worked_since(&before);
                }
                runs.push(median(&lags));
                all.extend(lags);
                most = most.max(server.resident_bytes()?);
                ensure!(goes_on, "nothing ran beside the honest app during a whole run, which says nothing");
            }
            Ok(size(&server.setup().data())?.saturating_sub(disk))
        })();
        signals.stop.store(true, Ordering::Relaxed);
        attacker.join().map_err(|_| anyhow::anyhow!("the attacker's thread panicked"))??;
        measured
    })?;
    let shares = Usage::now(Some(server.pid()))?.since(&before);
    let beside = Others::now(client)?.invocations;
    for installation in client.all("/v1/installations")? {
        let id = installation["id"].as_str().context("an installation without an id")?;
        if id != "count" {
            client.delete(&format!("/v1/installations/{id}?purge=true"))?.json()?;
        }
    }
    // Caches are thinned out and threads end some seconds after the last work.
    std::thread::sleep(effort.run * 3);
    let after = server.resident_bytes()?;
    let notes = vec![
        format!("p50 / p90 / p99 / most: alone {}; beside {}", told(&alone), told(&all)),
        format!(
            "promised is 2 x alone + {ADDED} ms, at most {MOST} ms; MB of memory: {} before, {} at most, {} after; \
             {} MB more on disk; {beside} invocations beside",
            memory >> 20,
            most >> 20,
            after >> 20,
            written >> 20,
        ),
    ];
    ensure!(server.stop()?.success(), "the server didn't stop cleanly");
    let of = |what, bound, part| Row::of(what, "ms", bound, quantile(&all, part));
    Ok(vec![
        Row { what, unit: "ms", bound: at_most(0.5), runs, notes, shares },
        of("the same: 99 of 100 lags are shorter", at_most(0.99), 0.99),
        of("the same: its longest lag", Bound::AtMost(MOST), 1.0),
    ])
}

/// Bytes that a folder takes on its disk.
fn size(folder: &Path) -> Result<u64> {
    use std::os::unix::fs::MetadataExt as _;
    let mut bytes = 0;
    for entry in std::fs::read_dir(folder)? {
        let entry = entry?;
        // A segment or a temporary file may go while this looks.
        let Ok(metadata) = entry.metadata() else { continue };
        bytes += if metadata.is_dir() { size(&entry.path())? } else { metadata.blocks() * 512 };
    }
    Ok(bytes)
}
