//! Readings in from a broker, and set-points out to it: mosquitto on the same machine.

use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::mpsc;
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, bail, ensure};
use ironloom_tests::model::{self, Sums};
use ironloom_tests::mosquitto::{LOSSLESS, Mosquitto};
use ironloom_tests::peer::Peer;
use ironloom_tests::{Client, Server, Setup, apps, driving, guests, plant};
use rand::{RngExt as _, SeedableRng as _};
use rand_chacha::ChaCha8Rng;
use rumqttc_v4::{Packet, QoS};
use serde_json::{Value, json};

use crate::Effort;
use crate::machine::{Shares, Usage};
use crate::report::{Bound, Row, quantile};

/// Points that the readings are of.
const POINTS: usize = 1_000;
/// Messages that the broker hasn't acknowledged, at most.
const AHEAD: usize = 4_000;
/// Messages that are written at once.
const AT_ONCE: usize = 200;
/// Points that are driven while the kill switch is turned.
const DRIVEN: usize = 1_000;
/// Commands that came so short a time before it show that some were under way.
const JUST_BEFORE: Duration = Duration::from_millis(50);
const PATIENCE: Duration = Duration::from_secs(60);

const NO_BROKER: &str = "mosquitto is neither here nor to be had from Debian";

/// Publishes one after the other for so long; gives how many the broker has. Counts and adds the values of each point.
fn publish(peer: &mut Peer, time: Duration, published: &mut Sums) -> Result<u64> {
    let topics: Vec<String> = (0..POINTS).map(|point| format!("sensors/p{point:04}")).collect();
    let mut sums = vec![(0, 0.0); POINTS];
    for (sum, point) in sums.iter_mut().zip(0..) {
        *sum = published.get(&format!("p{point:04}")).copied().unwrap_or_default();
    }
    let (start, mut sent) = (Instant::now(), 0_u64);
    while start.elapsed() < time {
        for _ in 0..AT_ONCE {
            let point = sent as usize % POINTS;
            peer.queue(&topics[point], format!("{sent}.5"))?;
            let (count, sum) = &mut sums[point];
            *count += 1;
            *sum += sent as f64 + 0.5;
            sent += 1;
        }
        peer.flush(AHEAD)?;
    }
    peer.flush(0)?;
    published.extend((0..).zip(sums).map(|(point, sum)| (format!("p{point:04}"), sum)));
    Ok(sent)
}

fn connector(broker: &Mosquitto) -> String {
    format!(
        "[connectors.plant]\nkind = \"mqtt\"\nbroker = \"{}\"\nclient_id = \"ironloom-bench\"\n\
         [connectors.plant.topics.\"sensors/{{point}}\"]\npoint = \"bench/{{point}}/value\"\n\
         [connectors.plant.set_points.\"plant/{{station}}/limit\"]\ntopic = \"stations/{{station}}/limit\"\n",
        broker.url()
    )
}

fn wait_until_connected(server: &Server) -> Result<()> {
    plant::wait_until_connected(server.client())?;
    driving::wait_until_connected(server.client())
}

/// Messages in, each durable and dealt with by an app whose results are durable, all counted at the end.
pub(crate) fn readings(effort: Effort) -> Result<Row> {
    let mut row = Row {
        what: "MQTT QoS 1, one reading a message -> durable -> app -> durable",
        unit: "messages/s",
        bound: Bound::AtLeast(30_000.0),
        runs: Vec::new(),
        notes: Vec::new(),
        shares: Shares::default(),
    };
    let Some(broker) = Mosquitto::start(LOSSLESS, "MQTT")? else {
        return Ok(Row::skipped(row.what, NO_BROKER));
    };
    let server = Setup::new()?.config(connector(&broker)).start()?;
    wait_until_connected(&server)?;
    let limits = json!({"limits": {"share": "1 s", "cpu": "2 s"}});
    apps::install(
        server.client(),
        "count",
        &guests::package("one-state")?,
        json!({"value": ["bench/{point}/value"]}),
        limits,
    )?;
    let mut peer = Peer::open(&broker, "bench-publisher")?;
    let (mut total, mut published) = (0, Sums::new());
    let before = Usage::now(Some(server.pid()))?;
    for run in 0..=effort.runs {
        let time = if run == 0 { effort.warm_up } else { effort.run };
        let start = Instant::now();
        let sent = publish(&mut peer, time, &mut published)?;
        total += sent;
        loop {
            let now = server.client().installation("count")?;
            if apps::number(&now, "cursor") >= total {
                break;
            }
            ensure!(
                start.elapsed() < time + PATIENCE,
                "{total} were published; the app is at {}",
                now["cursor"]
            );
            std::thread::sleep(Duration::from_millis(5));
        }
        if run > 0 {
            row.runs.push(sent as f64 / start.elapsed().as_secs_f64());
        }
    }
    row.shares = Usage::now(Some(server.pid()))?.since(&before);
    let done = server.client().installation("count")?;
    let (readings, cursor) = (apps::number(&done, "counters.readings"), apps::number(&done, "cursor"));
    ensure!(
        (readings, cursor) == (total, total),
        "{total} were published; the app has had {readings}, the last {cursor}"
    );
    // One by one: the number of each point's, and their sum bit by bit, which depends on their order.
    model::difference(&published, &model::state_of(server.client(), "count")?)?;
    row.notes.push(format!("{total} messages published, all of them counted"));
    ensure!(server.stop()?.success(), "the server didn't stop cleanly");
    Ok(row)
}

/// One reading in over MQTT, and how long until the set-point of it is at a subscriber of the broker.
pub(crate) fn set_points(effort: Effort) -> Result<Vec<Row>> {
    const LATENCY: &str = "one reading in -> its set-point at the broker, durable before, idle, p99";
    let Some(broker) = Mosquitto::start(LOSSLESS, "MQTT")? else {
        return Ok(vec![Row::skipped(LATENCY, NO_BROKER)]);
    };
    let server = Setup::new()?.config(connector(&broker)).start()?;
    wait_until_connected(&server)?;
    let bindings = json!({"wish": "bench/{station}/value", "limit": "plant/{station}/limit"});
    let more = json!({
        "grants": {"outputs": {"limit": {"allow": "0..1000000", "safe": 0}}}, "settings": {"life": 60_000},
        "limits": {"share": "1 s"},
    });
    apps::install(server.client(), "driver", &guests::package("driver")?, bindings, more)?;
    let (mut publisher, mut listener) =
        (Peer::open(&broker, "bench-publisher")?, Peer::open(&broker, "bench-listener")?);
    listener.subscribe("stations/#", QoS::AtMostOnce)?;
    let mut row = Row {
        what: LATENCY,
        unit: "ms",
        bound: Bound::AtMost(10.0),
        runs: Vec::new(),
        notes: Vec::new(),
        shares: Shares::default(),
    };
    let (mut random, mut value, mut all) = (ChaCha8Rng::seed_from_u64(1), 0_u64, Vec::new());
    let before = Usage::now(Some(server.pid()))?;
    for run in 0..=effort.runs {
        let (start, time) = (Instant::now(), if run == 0 { effort.warm_up } else { effort.run });
        let mut times = Vec::new();
        while start.elapsed() < time {
            std::thread::sleep(Duration::from_micros(random.random_range(2_000..12_000)));
            value += 1;
            let began = Instant::now();
            publisher.queue("sensors/1", value.to_string())?;
            publisher.flush(1)?;
            let Packet::Publish(got) = listener.packet()? else {
                bail!("something else than a set-point came")
            };
            times.push(began.elapsed().as_secs_f64() * 1e3);
            let got: Value = serde_json::from_slice(&got.payload)?;
            ensure!(got["value"] == value as f64, "{got} instead of {value}");
            publisher.flush(0)?;
        }
        if run > 0 {
            row.runs.push(quantile(&times, 0.99));
            all.extend(times);
        }
    }
    row.shares = Usage::now(Some(server.pid()))?.since(&before);
    row.notes.push(format!("{} readings; p50 / p90 / p99 / most: {}", all.len(), crate::latency::told(&all)));
    let halt = halts(&server, &mut listener, effort)?;
    ensure!(server.stop()?.success(), "the server didn't stop cleanly");
    Ok(vec![row, halt])
}

/// Turns of the kill switch that may find nothing on its way.
const MOST_IDLE: usize = 5;

/// Measures how long after the kill switch was asked for the last command comes, while a thousand points are driven. The
/// latest of many turns counts.
fn halts(server: &Server, listener: &mut Peer, effort: Effort) -> Result<Row> {
    let mut latest = Vec::new();
    let client = server.client();
    let round = AtomicU64::new(0);
    let mut idle = 0;
    while latest.len() < effort.runs * 5 {
        let Turn { asked, commands } = turn(client, listener, &round)?;
        let just_before = commands.iter().filter(|at| **at < asked && asked - **at < JUST_BEFORE).count();
        if just_before == 0 {
            // On a machine that does other things, too, a turn may find nothing on its way: it says nothing.
            idle += 1;
            ensure!(idle <= MOST_IDLE, "nothing was being driven when the kill switch was turned");
        } else {
            let last = commands.last().context("nothing was driven")?;
            latest.push(last.saturating_duration_since(asked).as_secs_f64() * 1e3);
        }
        ensure!(client.post("/v1/release", &json!({}))?.status == 200, "it isn't released");
        std::thread::sleep(Duration::from_secs(1));
        wait_until_connected(server)?;
    }
    let what = "kill switch -> last command, the latest of many turns, 1,000 points being driven";
    let most = latest.iter().copied().fold(0.0, f64::max);
    let mut row = Row::of(what, "ms", Bound::AtMost(100.0), most);
    row.notes.push(format!(
        "{} turns; p50 / p90 / p99 / most: {}",
        latest.len(),
        crate::latency::told(&latest)
    ));
    Ok(row)
}

/// One turn of the kill switch.
struct Turn {
    asked: Instant,
    /// The times at which commands came.
    commands: Vec<Instant>,
}

/// Drives a thousand points, one round after the other, and turns the kill switch once each has been driven.
fn turn(client: &Client, listener: &mut Peer, round: &AtomicU64) -> Result<Turn> {
    let (driven, is_driven) = mpsc::channel();
    let stop = &AtomicBool::new(false);
    std::thread::scope(|scope| {
        let pushes = scope.spawn(|| -> Result<()> {
            while !stop.load(Ordering::Relaxed) {
                let value = round.fetch_add(1, Ordering::Relaxed) % 1_000;
                let line = |n: usize| format!("{{\"point\":\"bench/{n}/value\",\"value\":{value}}}");
                let lines = (0..DRIVEN).map(line).collect::<Vec<_>>().join("\n");
                let kind = [("content-type", "application/x-ndjson")];
                client.send("POST", "/v1/readings?wait=applied", &kind, lines.as_bytes())?;
            }
            Ok(())
        });
        let halt = scope.spawn(move || -> Result<Instant> {
            let seen = is_driven.recv_timeout(PATIENCE);
            std::thread::sleep(Duration::from_millis(200));
            let asked = Instant::now();
            let halted = client.post("/v1/halt", &json!({}));
            stop.store(true, Ordering::Relaxed);
            seen.context("nothing is driven")?;
            ensure!(halted?.status == 200, "the kill switch isn't turned");
            Ok(asked)
        });
        let mut commands = Vec::new();
        // Where it is quiet for so long, it is over.
        listener.set_patience(Some(Duration::from_secs(2)))?;
        while let Ok(Packet::Publish(_)) = listener.packet() {
            commands.push(Instant::now());
            if commands.len() == DRIVEN {
                let _ = driven.send(());
            }
        }
        listener.set_patience(Some(PATIENCE))?;
        let asked = halt.join().map_err(|_| anyhow::anyhow!("it panicked"))??;
        pushes.join().map_err(|_| anyhow::anyhow!("it panicked"))??;
        Ok(Turn { asked, commands })
    })
}
