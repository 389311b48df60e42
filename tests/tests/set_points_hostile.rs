//! A million set-points that nobody should send. Each is held against its grant by a reckoning of this test's own, and so is
//! each message that a subscriber gets.

use std::collections::{BTreeMap, BTreeSet, HashMap, HashSet};
use std::time::Instant;

use anyhow::{Context as _, Result, bail, ensure};
use base64::Engine as _;
use ironloom_tests::apps::{install, number};
use ironloom_tests::driving::wait_until_connected;
use ironloom_tests::http::NDJSON;
use ironloom_tests::mosquitto::{Got, Mosquitto};
use ironloom_tests::{Client, Server, Setup, guests, wait_until};
use rand::seq::IndexedRandom as _;
use rand::{Rng as _, RngExt as _, SeedableRng as _};
use rand_chacha::ChaCha8Rng;
use serde_json::{Value, json};

/// The installations, of which only the first three may move anything.
const ALL: [&str; 6] = ["one", "two", "three", "advises", "shadows", "halted"];
const ACTING: usize = 3;
/// The requests of one invocation, of which fewer are granted than it may have.
const REQUESTS: usize = 1_000;
const STATIONS: usize = 40;

/// The outputs that the app declares besides `limit`.
const OUTPUTS: [(&str, &str, &str); 8] = [
    ("valve", "set-point", "real"),
    ("step", "set-point", "integer"),
    ("pump", "set-point", "boolean"),
    ("lamp", "set-point", "boolean"),
    ("stray", "set-point", "real"),
    ("ungranted", "set-point", "real"),
    ("unbound", "set-point", "real"),
    ("count", "derived", "real"),
];
/// Those that are bound and granted.
const GRANTED: [&str; 6] = ["limit", "valve", "step", "pump", "lamp", "stray"];

/// A value that is asked for.
#[derive(Clone, Copy, Debug)]
enum Asked {
    Real(f64),
    Integer(i64),
    Boolean(bool),
    Text(&'static str),
    Blob,
}

/// A set-point that is asked for, and what is to come of it: the value that is sent, or the kind of the refusal.
struct Item {
    output: &'static str,
    entity: String,
    life: u64,
    asked: Asked,
    expected: Result<Asked, &'static str>,
}

/// The answers that an installation should have got, and what may be on the wire for it.
#[derive(Default)]
struct Expected {
    answers: BTreeMap<&'static str, u64>,
    values: u64,
    /// Output, station and value of each that was granted.
    wire: HashSet<(&'static str, String, u64)>,
}

/// The value that a grant makes of one; `None` where it is refused. See `grants`.
fn granted(output: &str, asked: Asked) -> Option<Asked> {
    let real = |asked: Option<f64>| asked.map(Asked::Real);
    match (output, asked) {
        (_, Asked::Real(asked)) if !asked.is_finite() => None,
        // "0, 6..32", toward low
        ("limit", Asked::Real(asked)) => real(match asked {
            _ if asked < 0.0 => None,
            _ if asked == 0.0 => Some(asked),
            _ if asked < 6.0 => Some(0.0),
            _ => Some(if asked > 32.0 { 32.0 } else { asked }),
        }),
        // "-5..5, 50", strict
        ("valve", Asked::Real(asked)) => {
            real(Some(asked).filter(|asked| asked.abs() <= 5.0 || *asked == 50.0))
        }
        // "0..100", toward low
        ("stray", Asked::Real(asked)) => real((asked >= 0.0).then(|| asked.min(100.0))),
        // "1, 4..8, 16", toward high
        ("step", Asked::Integer(asked)) => match asked {
            ..=1 => Some(Asked::Integer(1)),
            2..=4 => Some(Asked::Integer(4)),
            5..=8 => Some(Asked::Integer(asked)),
            9..=16 => Some(Asked::Integer(16)),
            17.. => None,
        },
        // "false", toward low
        ("pump", Asked::Boolean(_)) => Some(Asked::Boolean(false)),
        // "true", toward low: nothing lower than `false` is allowed
        ("lamp", Asked::Boolean(asked)) => asked.then_some(Asked::Boolean(true)),
        _ => None,
    }
}

fn grants(mode: &str) -> Value {
    json!({"mode": mode, "outputs": {
        "limit": {"allow": "0, 6..32", "toward": "low", "safe": 6, "ttl": "1 min"},
        "valve": {"allow": "-5..5, 50", "strict": true, "safe": "hold"},
        "step": {"allow": "1, 4..8, 16", "toward": "high", "safe": 4},
        "pump": {"allow": "false", "toward": "low", "safe": false},
        "lamp": {"allow": "true", "toward": "low"},
        "stray": {"allow": "0..100", "toward": "low", "safe": 0},
        "unbound": {"allow": "0..100"},
    }})
}

/// The values that may be on the wire, by their output, as their text says them; without the runtime's code.
fn is_within(output: &str, text: &str) -> bool {
    let real = text.parse::<f64>();
    match output {
        "limit" => real.is_ok_and(|value| value == 0.0 || (6.0..=32.0).contains(&value)),
        "valve" => real.is_ok_and(|value| (-5.0..=5.0).contains(&value) || value == 50.0),
        "step" => text.parse::<i64>().is_ok_and(|value| matches!(value, 1 | 4..=8 | 16)),
        "pump" => text == "false",
        "lamp" => text == "true",
        _ => false,
    }
}

/// The safe value of an output, as its text.
fn safe(output: &str) -> Option<&'static str> {
    match output {
        "limit" => Some("6"),
        "step" => Some("4"),
        "pump" => Some("false"),
        _ => None,
    }
}

/// A number that stands for a value, whichever way a whole one or a zero is written.
fn on_wire(value: Asked) -> u64 {
    match value {
        Asked::Real(value) => (value + 0.0).to_bits(),
        Asked::Integer(value) => value as u64,
        Asked::Boolean(value) => u64::from(value),
        Asked::Text(_) | Asked::Blob => u64::MAX,
    }
}

fn of_text(output: &str, text: &str) -> Result<u64> {
    Ok(on_wire(match output {
        "step" => Asked::Integer(text.parse()?),
        "pump" | "lamp" => Asked::Boolean(text.parse()?),
        _ => Asked::Real(text.parse()?),
    }))
}

/// The number that the guest adds up for a value that it was promised.
fn mixed(value: Asked) -> u64 {
    let bits = match value {
        Asked::Boolean(value) => u64::from(value),
        Asked::Integer(value) => value as u64,
        Asked::Real(value) => value.to_bits(),
        Asked::Text(_) | Asked::Blob => u64::MAX,
    };
    let bits = (bits ^ bits >> 31).wrapping_mul(0x9e37_79b9_7f4a_7c15);
    bits ^ bits >> 29
}

fn any_real(random: &mut ChaCha8Rng) -> f64 {
    const EDGES: [f64; 21] = [
        f64::NAN,
        -f64::NAN,
        f64::INFINITY,
        f64::NEG_INFINITY,
        f64::MIN_POSITIVE,
        -f64::MIN_POSITIVE,
        5e-324,
        -5e-324,
        0.0,
        -0.0,
        -1.0,
        5.0,
        5.000_000_000_000_001,
        5.999_999_999_999_999,
        6.0,
        6.000_000_000_000_001,
        31.999_999_999_999_996,
        32.0,
        32.000_000_000_000_01,
        49.999_999_999_999_99,
        50.0,
    ];
    match random.random_range(0..5) {
        0 => *EDGES.choose(random).unwrap_or(&f64::NAN),
        1 => f64::from_bits(random.next_u64()),
        2 => random.random_range(0.0..6.0),
        3 => random.random_range(-10.0..60.0),
        _ => random.random_range(6.0..32.0),
    }
}

fn any_integer(random: &mut ChaCha8Rng) -> i64 {
    // Beyond 2^53 downward a grant's numbers aren't exact, and the runtime may refuse.
    const EDGES: [i64; 6] = [i64::MAX, 1 << 53, (1 << 53) + 1, -(1 << 53), 0, 17];
    match random.random_range(0..4) {
        0 => *EDGES.choose(random).unwrap_or(&0),
        1 => (random.next_u64() >> 1) as i64,
        _ => random.random_range(-3..20),
    }
}

/// A value of the output's type.
fn of_its_type(output: &str, random: &mut ChaCha8Rng) -> Asked {
    match output {
        "step" => Asked::Integer(any_integer(random)),
        "pump" | "lamp" => Asked::Boolean(random.random()),
        _ => Asked::Real(any_real(random)),
    }
}

/// A value of another type, which would be granted if it were taken for one of the output's.
fn of_another_type(output: &str, random: &mut ChaCha8Rng) -> Asked {
    let wrong: &[Asked] = match output {
        "step" => &[Asked::Real(4.0), Asked::Boolean(true), Asked::Text("4"), Asked::Blob],
        "pump" | "lamp" => &[Asked::Integer(1), Asked::Real(0.0), Asked::Text("true"), Asked::Blob],
        _ => &[Asked::Integer(16), Asked::Boolean(false), Asked::Text("16"), Asked::Text("NaN"), Asked::Blob],
    };
    *wrong.choose(random).unwrap_or(&Asked::Blob)
}

/// One set-point, in which at most one thing is wrong besides its value.
fn item(random: &mut ChaCha8Rng) -> Item {
    const UNKNOWN: [&str; 6] = ["limits", "", "Limit", "limit ", "../limit", "count"];
    const NOWHERE: [&str; 14] = [
        "",
        ".",
        "..",
        "+",
        "#",
        "1/limit",
        "two/1",
        "../two/1",
        "1/",
        "/1",
        "{station}",
        "1\n2",
        "1\u{0}",
        "Gro\u{308}sse",
    ];
    const LIVES: [u64; 5] = [1, 60_000_000_000, 3_600_000_000_000, 7_200_000_000_000, u64::MAX];
    let output = *GRANTED.choose(random).unwrap_or(&"limit");
    let (entity, asked) = (random.random_range(0..STATIONS).to_string(), of_its_type(output, random));
    let life = *LIVES.choose(random).unwrap_or(&1);
    let mut item =
        Item { output, entity, life, asked, expected: granted(output, asked).ok_or("not-allowed") };
    match random.random_range(0..16) {
        0 => {
            item.output = UNKNOWN.choose(random).unwrap_or(&"");
            item.expected = Err("unknown-output");
        }
        1 => {
            item.output = ["ungranted", "unbound"].choose(random).unwrap_or(&"unbound");
            item.asked = Asked::Real(16.0);
            item.expected = Err("not-granted");
        }
        2 => {
            let long = ["x".repeat(250), "x".repeat(600)];
            let nowhere = NOWHERE.iter().copied().chain(long.iter().map(String::as_str));
            item.entity =
                nowhere.collect::<Vec<_>>().choose(random).map_or(String::new(), |one| (*one).to_owned());
            item.expected = Err("unknown-entity");
        }
        3 => {
            item.asked = of_another_type(output, random);
            item.expected = Err("wrong-type");
        }
        4 => {
            item.life = 0;
            item.expected = Err("malformed");
        }
        _ => {}
    }
    item
}

fn written(item: &Item) -> String {
    let (kind, value) = match item.asked {
        Asked::Real(value) => ("real", format!("{:x}", value.to_bits())),
        Asked::Integer(value) => ("integer", format!("{value:x}")),
        Asked::Boolean(value) => ("boolean", value.to_string()),
        Asked::Text(value) => ("text", value.to_owned()),
        Asked::Blob => ("blob", "16".to_owned()),
    };
    format!("{}\t{}\t{}\t{kind}\t{value}", item.output, item.entity, item.life)
}

impl Expected {
    fn tickets(&self) -> u64 {
        self.answers.get("tickets").copied().unwrap_or(0)
    }

    /// Takes what comes of a request: all of it, or nothing, by the first thing that is wrong with it.
    fn take(&mut self, request: &[Item]) {
        let mut points = HashSet::new();
        let refusal = request.iter().find_map(|item| match item.expected {
            Err(kind) => Some(kind),
            Ok(_) if !points.insert((item.output, &item.entity)) => Some("malformed"),
            Ok(_) => None,
        });
        *self.answers.entry(refusal.unwrap_or("taken")).or_default() += 1;
        if refusal.is_some() {
            return;
        }
        *self.answers.entry("tickets").or_default() += request.len() as u64;
        for item in request {
            let Ok(value) = item.expected else { continue };
            self.values = self.values.wrapping_add(mixed(value));
            self.wire.insert((item.output, item.entity.clone(), on_wire(value)));
        }
    }
}

/// A reading that has an app ask for this many, and what is to come of it.
fn reading(random: &mut ChaCha8Rng, expected: &mut Expected) -> String {
    let mut requests = Vec::with_capacity(REQUESTS);
    for _ in 0..REQUESTS {
        let length = if random.random_ratio(1, 20) { random.random_range(2..6) } else { 1 };
        let mut request: Vec<Item> = (0..length).map(|_| item(random)).collect();
        // Several for one point, which are all fine by themselves.
        if length > 1 && random.random_ratio(1, 4) {
            request.retain(|item| item.expected.is_ok());
            request.iter_mut().for_each(|item| item.entity = "7".to_owned());
        }
        if request.is_empty() {
            request.push(item(random));
        }
        expected.take(&request);
        requests.push(request.iter().map(written).collect::<Vec<_>>().join("\u{1f}"));
    }
    requests.join("\u{1e}")
}

/// A broker that keeps all that a subscriber hasn't taken yet, and the points of each output behind it.
fn start() -> Result<Option<(Mosquitto, Server)>> {
    let lossless = "max_queued_messages 0\nmax_inflight_messages 0\n";
    let Some(broker) = Mosquitto::start(lossless, "a million hostile set-points")? else { return Ok(None) };
    let mut config = format!(
        "[connectors.plant]\nkind = \"mqtt\"\nbroker = \"{}\"\nclient_id = \"ironloom-test\"\n",
        broker.url()
    );
    // Also of the output that nobody granted: what came of it would be seen.
    for output in ["limit", "valve", "step", "pump", "lamp", "ungranted"] {
        let payload = if output == "valve" { "value" } else { "json" };
        config.push_str(&format!(
            "[connectors.plant.set_points.\"plant/{{app}}/{{station}}/{output}\"]\n\
             topic = \"stations/{{app}}/{{station}}/{output}\"\npayload = \"{payload}\"\n"
        ));
    }
    let server = Setup::new()?.config(config).start_listening()?;
    wait_until_connected(server.client())?;
    Ok(Some((broker, server)))
}

fn install_all(server: &Server) -> Result<()> {
    let outputs = OUTPUTS.map(|(name, kind, value_type)| {
        let unit = if value_type == "boolean" { "" } else { "unit = \"A\"\n" };
        format!(
            "\n[outputs.{name}]\nkind = \"{kind}\"\ntype = \"{value_type}\"\n{unit}description = \"Moves something\"\n"
        )
    });
    let declared = |manifest| format!("{manifest}{}", outputs.concat());
    let package = guests::package_as("com.example.storm", "0.1.0", "driver", declared)?;
    // Before the first set-point, and without the API.
    std::fs::write(server.setup().data().join("halted/halted"), "")?;
    for id in ALL {
        let mut bindings = json!({
            "wish": format!("site/{id}/{{station}}/wish"),
            "hostile": format!("site/{id}/hostile"),
            "stray": format!("nowhere/{id}/{{station}}"),
        });
        for output in ["limit", "valve", "step", "pump", "lamp", "ungranted"] {
            bindings[output] = json!(format!("plant/{id}/{{station}}/{output}"));
        }
        let mode = match id {
            "advises" => "advise",
            "shadows" => "shadow",
            _ => "act",
        };
        let more = json!({"grants": grants(mode), "limits": {"share": "1 s", "cpu": "2 s"}});
        install(server.client(), id, &package, bindings, more)?;
    }
    wait_until("the file of the kill switch", || {
        Ok(server.client().get("/v1/halt")?.json()?["installations"] == json!(["halted"]))
    })
}

/// The numbers in an installation's state: what the host answered.
fn answers(client: &Client, id: &str) -> Result<BTreeMap<String, u64>> {
    let entry = |item: Value| -> Result<(String, u64)> {
        let bytes = item["value"]["base64"].as_str().context("no bytes")?;
        let bytes = base64::engine::general_purpose::STANDARD.decode(bytes)?;
        let number = bytes.try_into().ok().map(u64::from_le_bytes).context("no number")?;
        Ok((item["key"].as_str().context("no key")?.to_owned(), number))
    };
    client.all(&format!("/v1/installations/{id}/state"))?.into_iter().map(entry).collect()
}

/// The ends of set-points by outcome, as the metrics count them.
fn outcomes(client: &Client) -> Result<BTreeMap<String, u64>> {
    let text = client.get("/metrics")?.text();
    let lines = text.lines().filter_map(|line| line.strip_prefix("ironloom_set_points_total{outcome=\""));
    let outcome = |line: &str| {
        let (outcome, count) = line.split_once("\"} ").context("no count")?;
        Ok((outcome.to_owned(), count.parse()?))
    };
    lines.map(outcome).collect()
}

/// Set-points without an outcome.
fn open(server: &Server, id: &str) -> Result<u64> {
    let shown = server.cli_json(&["intents", id, "--limit", "1000"])?;
    let points = shown["items"].as_array().with_context(|| format!("no items in {shown}"))?;
    Ok(points.iter().map(|point| point["intents"].as_array().map_or(0, Vec::len) as u64).sum())
}

/// Has all installations ask, until so many set-points have come to the outbox.
fn storm(client: &Client, least: u64) -> Result<HashMap<&'static str, Expected>> {
    let mut random = ChaCha8Rng::seed_from_u64(0x5e7_9015);
    let mut all: HashMap<&str, Expected> = HashMap::new();
    while all.values().map(Expected::tickets).sum::<u64>() < least {
        // One reading each, so that no invocation comes to its limit.
        let line = |id| {
            let text = reading(&mut random, all.entry(id).or_default());
            json!({"point": format!("site/{id}/hostile"), "value": text}).to_string()
        };
        let body = ALL.map(line).join("\n");
        let headers = [("content-type", NDJSON)];
        let answer = client.send("POST", "/v1/readings?wait=applied", &headers, body.as_bytes())?.json()?;
        ensure!(answer["applied"] == true, "{answer}");
    }
    Ok(all)
}

/// Holds a message against the grants, and against what was granted to its app. Returns the number that rises.
fn check(got: &Got, all: &HashMap<&'static str, Expected>) -> Result<Option<u64>> {
    let levels: Vec<&str> = got.topic.split('/').collect();
    let ["stations", id, station, output] = levels[..] else { bail!("another topic: {got:?}") };
    ensure!(ALL[..ACTING].contains(&id), "{id} may not move anything: {got:?}");
    let payload: Value = serde_json::from_str(&got.payload)?;
    // The text itself: a parser may be off by the last bit.
    let value = match got.payload.split_once("\"value\":") {
        Some((_, rest)) => rest.split([',', '}']).next().context("no value")?,
        None => got.payload.as_str(),
    };
    ensure!(is_within(output, value), "out of its grant: {got:?}");
    let Some(known) = GRANTED.iter().find(|known| **known == output) else { bail!("not granted: {got:?}") };
    let expected = all.get(id).context("another app")?;
    let was_granted = expected.wire.contains(&(*known, station.to_owned(), of_text(output, value)?));
    let is_safe = safe(output) == Some(value) && payload.get("id").is_none();
    ensure!(was_granted || is_safe, "nobody was granted this: {got:?}");
    Ok(payload["number"].as_u64())
}

/// Checks all that was on the wire.
fn check_wire(got: &[Got], all: &HashMap<&'static str, Expected>) -> Result<()> {
    let mut last: HashMap<&str, u64> = HashMap::new();
    let mut topics = BTreeSet::new();
    for got in got {
        if let Some(number) = check(got, all)? {
            let before = last.insert(&got.topic, number).unwrap_or(0);
            ensure!(before <= number, "{before} came before {got:?}");
        }
        topics.insert(&*got.topic);
    }
    // Each output of each station has been told something, or the subscriber would prove little.
    assert_eq!(topics.len(), ACTING * STATIONS * 5);
    Ok(())
}

/// Holds the answers that the guests got against this test's own; returns how many set-points were taken.
fn check_answers(client: &Client, all: &HashMap<&'static str, Expected>) -> Result<u64> {
    let (mut taken, mut kinds) = (0, BTreeSet::new());
    for id in ALL {
        let (mut answered, expected) = (answers(client, id)?, &all[id]);
        let values = answered.remove("values");
        let counts = expected.answers.iter().map(|(kind, count)| ((*kind).to_owned(), *count));
        assert_eq!(answered, counts.collect(), "{id}");
        assert_eq!(values, Some(expected.values), "{id} was promised other values");
        taken += expected.tickets();
        kinds.extend(answered.into_keys());
        let shown = client.installation(id)?;
        assert_eq!((number(&shown, "counters.failures"), number(&shown, "counters.dead_letters")), (0, 0));
    }
    let every = [
        "malformed",
        "not-allowed",
        "not-granted",
        "taken",
        "tickets",
        "unknown-entity",
        "unknown-output",
        "wrong-type",
    ];
    assert_eq!(kinds.iter().map(String::as_str).collect::<Vec<_>>(), every);
    Ok(taken)
}

#[test]
fn of_a_million_hostile_set_points_none_is_out_of_its_grant_on_the_wire() -> Result<()> {
    const LEAST: u64 = if cfg!(debug_assertions) { 10_000 } else { 1_000_000 };
    let Some((broker, server)) = start()? else { return Ok(()) };
    let (client, stations) = (server.client(), broker.subscribe("#")?);
    install_all(&server)?;
    let start = Instant::now();
    let all = storm(client, LEAST)?;
    let taken = check_answers(client, &all)?;
    ensure!(taken >= LEAST, "{taken} were taken");

    // Each that was taken has exactly one end, or waits for a person.
    let mut ends = BTreeMap::new();
    wait_until("all ends", || {
        let unconfirmed = open(&server, "advises")?;
        ends = outcomes(client)?;
        let safe = ends.remove("safe").unwrap_or(0);
        Ok(ALL.iter().map(|id| open(&server, id)).sum::<Result<u64>>()? == unconfirmed
            && ends.values().sum::<u64>() + unconfirmed == taken
            && stations.got().len() as u64 >= ends["accepted"] + safe)
    })
    .with_context(|| format!("{taken} were taken: {ends:?}; {} messages", stations.got().len()))?;
    for outcome in ["accepted", "expired", "rejected", "revoked", "shadow", "skipped", "superseded"] {
        ensure!(ends.get(outcome).is_some_and(|count| *count > 0), "none is {outcome}: {ends:?}");
    }
    let got = stations.got();
    check_wire(&got, &all)?;
    eprintln!("{taken} taken, {} messages, {ends:?}, {:?}", got.len(), start.elapsed());
    Ok(())
}
