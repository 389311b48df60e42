//! A plant's worth of installations: what they cost in memory, what each costs to install, and what a restart costs.

use std::fs;
use std::time::{Duration, Instant};

use anyhow::{Result, ensure};
use ironloom_tests::package::{self, Package};
use ironloom_tests::{Server, apps, guests};
use serde_json::{Value, json};

use crate::Effort;
use crate::connection::{Connection, get, push};
use crate::plant::{LINES, PATIENCE, empty, memory, number, quiet, send, start};
use crate::report::{Bound, Row};

/// Other numbers than those of the rows, for whoever looks for what grows with them.
const INSTALLATIONS: &str = "IRONLOOM_BENCH_INSTALLATIONS";
const IDLE: &str = "IRONLOOM_BENCH_IDLE";

/// Installations of one request.
const LIST: usize = 1_000;

/// One of the apps that are installed again and again, and what it is bound to.
struct App {
    package: Package,
    /// Each input, and what stands behind the installation's own segment.
    inputs: &'static [&'static str],
    /// A setting, and the least of the values that it gets.
    setting: Option<(&'static str, f64)>,
}

impl App {
    /// The body of an install. Each third of the installations has a setting of its own.
    fn request(&self, installation: usize, distinct: usize, digest: &str) -> Value {
        let bindings: serde_json::Map<_, _> = self
            .inputs
            .iter()
            .map(|input| ((*input).to_owned(), json!([format!("plant/i{installation:06}/{{part}}/{input}")])))
            .collect();
        let third = installation / distinct % 3;
        let settings = self.setting.map(|(name, least)| json!({name: least + third as f64}));
        let more = json!({"settings": settings.unwrap_or_else(|| json!({}))});
        apps::request(&format!("i{installation:06}"), digest, Value::Object(bindings), more)
    }

    fn reading(&self, installation: usize, value: f64) -> String {
        format!("{{\"point\":\"plant/i{installation:06}/a/{}\",\"value\":{value:?}}}\n", self.inputs[0])
    }
}

/// Distinct apps: the code of three real ones in turn, each time with a section of its own behind it, so that nothing
/// of one serves another.
fn distinct(count: usize) -> Result<Vec<App>> {
    let samples = guests::workspace().join("sample-apps");
    let real: [(_, _, &[&str], _); 3] = [
        ("thermometer", samples.join("thermometer"), &["temperature"], Some(("limit", 25.0))),
        ("one-state", guests::folder_of("one-state"), &["value"], None),
        ("pigs", samples.join("pigs"), &["weight", "feed"], Some(("market-weight", 110.0))),
    ];
    let mut distinct = Vec::new();
    for number in 0..count {
        let (name, folder, inputs, setting) = &real[number % real.len()];
        let mut component = fs::read(guests::build(name)?)?;
        // A custom section: its length, the length of its name, the name, and what it holds.
        component.extend([0, 9, 7]);
        component.extend(b"variant");
        component.push(u8::try_from(number)?);
        let manifest = fs::read_to_string(folder.join("app.toml"))?;
        let package = package::pack(&manifest, &component);
        distinct.push(App { package, inputs, setting: *setting });
    }
    Ok(distinct)
}

/// Sends the packages; gives their digests.
fn send_packages(server: &Server, distinct: &[App]) -> Result<Vec<String>> {
    distinct.iter().map(|app| server.client().add_package(&app.package.tar())).collect()
}

/// One reading for each installation, in requests of many.
fn push_one_each(server: &Server, distinct: &[App], installations: usize, value: f64) -> Result<()> {
    let mut connection = Connection::open(server.client().url())?;
    for first in (0..installations).step_by(LINES) {
        let of = first..(first + LINES).min(installations);
        let body: String = of.map(|n| distinct[n % distinct.len()].reading(n, value)).collect();
        send(&mut connection, &push(server.client().url(), &body)?)?;
    }
    Ok(())
}

/// Waits until each installation has taken so many readings.
fn wait_for_readings(server: &Server, installations: usize, readings: u64) -> Result<()> {
    let url = server.client().url();
    let mut connection = Connection::open(url)?;
    let begin = Instant::now();
    for number in 0..installations {
        let show = get(url, &format!("/v1/installations/i{number:06}"))?;
        loop {
            let answer = connection.send(&show)?;
            let shown: Value = serde_json::from_slice(answer.body)?;
            ensure!(apps::number(&shown, "counters.failures") == 0, "it failed: {shown}");
            if apps::number(&shown, "counters.readings") >= readings {
                break;
            }
            ensure!(begin.elapsed() < PATIENCE, "it has not taken its reading: {shown}");
            std::thread::sleep(Duration::from_millis(5));
        }
    }
    Ok(())
}

/// The costs of a restart after `kill -9`.
struct Killed {
    /// Seconds until it was ready, and until the last installation had taken its reading.
    ready: f64,
    taken: f64,
    memory: f64,
    /// Installations whose reading waited when the process ended.
    waited: usize,
}

/// Pushes a reading for each installation, kills the server at once, and starts it again.
fn kill(
    server: Server,
    distinct: &[App],
    installations: usize,
    readings: u64,
    effort: Effort,
) -> Result<(Server, Killed)> {
    push_one_each(&server, distinct, installations, 19.0 + readings as f64)?;
    let setup = server.setup().clone();
    server.kill()?;
    let begin = Instant::now();
    let (server, ready) = start(&setup)?;
    wait_for_readings(&server, installations, readings)?;
    let taken = begin.elapsed().as_secs_f64();
    let metrics = server.client().get("/metrics")?.text();
    let prefix = "ironloom_invocations_total{outcome=\"ok\"} ";
    let waited = metrics.lines().find_map(|line| line.strip_prefix(prefix)).unwrap_or("0").parse()?;
    // Else it isn't measured what it costs to catch up.
    ensure!(effort.smoke || waited > installations / 2, "only {waited} readings waited when it was killed");
    let memory = memory(&server, quiet(effort))?;
    Ok((server, Killed { ready, taken, memory, waited }))
}

/// Installs over the API, each with its time in milliseconds.
struct Installs {
    took: Vec<f64>,
    /// CPU seconds of the server before each window, and after the last.
    spent: Vec<f64>,
    window: usize,
}

/// Installs them one after the other. The first of each app are in no window: they load its code.
fn install(server: &Server, distinct: &[App], digests: &[String], count: usize) -> Result<Installs> {
    let window = (count / 15).max(1);
    let (mut took, mut spent) = (Vec::with_capacity(count), Vec::new());
    for number in 0..count {
        if number >= distinct.len() && (number - distinct.len()).is_multiple_of(window) {
            spent.push(server.cpu_time()?.as_secs_f64());
        }
        let app = number % distinct.len();
        let body = distinct[app].request(number, distinct.len(), &digests[app]);
        let begin = Instant::now();
        server.client().post("/v1/installations", &body)?.json()?;
        took.push(begin.elapsed().as_secs_f64() * 1e3);
    }
    spent.push(server.cpu_time()?.as_secs_f64());
    Ok(Installs { took, spent, window })
}

fn mean(times: &[f64]) -> f64 {
    times.iter().sum::<f64>() / times.len() as f64
}

impl Installs {
    fn rows(&self, distinct: usize) -> [Row; 2] {
        let Self { took, spent, window } = self;
        let warm = &took[distinct..];
        let (first, last) = (mean(&warm[..*window]), mean(&warm[warm.len() - window..]));
        let what = "an install over the API: the last 1,000 ÷ the first 1,000 with loaded code";
        let mut ratio = Row::of(what, "", Bound::AtMost(1.2), last / first);
        let means: Vec<_> = warm.chunks(*window).map(|times| format!("{:.2}", mean(times))).collect();
        ratio.notes.push(format!("means of {window} each, in order: {} ms", means.join(" ")));
        let spent = spent.windows(2).map(|pair| format!("{:.2}", (pair[1] - pair[0]) * 1e3 / *window as f64));
        let spent: Vec<_> = spent.collect();
        ratio.notes.push(format!("CPU time of the server for each of these: {} ms", spent.join(" ")));
        [ratio, Row::of("an install over the API, mean", "ms", Bound::AtMost(3.0), mean(took))]
    }
}

/// Thousands of installations of some apps, each with its own points.
pub(crate) fn measure(effort: Effort) -> Result<Vec<Row>> {
    let count = number(INSTALLATIONS, 15_000, 30, effort)?;
    let distinct = distinct(if effort.smoke { 2 } else { 20 })?;
    ensure!(count > distinct.len() * 2, "{count} installations are too few for {} apps", distinct.len());
    let (server, before) = empty(effort)?;
    let digests = send_packages(&server, &distinct)?;
    let (threads, descriptors) = (server.threads()?, server.descriptors()?);
    let installs = install(&server, &distinct, &digests, count)?;

    push_one_each(&server, &distinct, count, 20.0)?;
    wait_for_readings(&server, count, 1)?;
    let after = memory(&server, quiet(effort))?;
    let more = |now: usize, before: usize| now.saturating_sub(before) as f64;
    let (threads, descriptors) = (more(server.threads()?, threads), more(server.descriptors()?, descriptors));
    // Once all of them stand in the log alone, and once in the store.
    let (server, log) = kill(server, &distinct, count, 2, effort)?;
    let setup = server.setup().clone();
    ensure!(server.stop()?.success(), "the server didn't stop cleanly");
    let (server, clean) = start(&setup)?;
    let rested = memory(&server, quiet(effort))?;
    let (server, store) = kill(server, &distinct, count, 3, effort)?;
    ensure!(server.stop()?.success(), "the server didn't stop cleanly");

    let memories = [after, log.memory, rested, store.memory];
    let most = memories.into_iter().fold(0.0, f64::max);
    let mut rows = vec![
        Row::of(
            "15,000 installations of 20 apps, each with its own points and a reading: memory above an empty server",
            "MB",
            Bound::AtMost(300.0),
            most - before,
        ),
        Row::of("the same after kill -9: exec -> ready", "s", Bound::AtMost(5.0), log.ready.max(store.ready)),
        Row::of(
            "exec -> the last has taken the reading that waited",
            "s",
            Bound::AtMost(15.0),
            log.taken.max(store.taken),
        ),
        Row::of("threads more than with the packages alone", "", Bound::AtMost(64.0), threads),
        Row::of("descriptors more than with the packages alone", "", Bound::AtMost(64.0), descriptors),
    ];
    rows[0].notes.push(format!(
        "{count} installations; {before:.0} MB empty; {after:.0} MB once all had a reading, {:.0} MB after kill -9 \
         before any checkpoint, {rested:.0} MB after a clean stop, {:.0} MB after kill -9 behind it",
        log.memory, store.memory
    ));
    rows[1].notes.push(format!(
        "{:.2} s before any checkpoint, {:.2} s behind one; {clean:.2} s after a clean stop",
        log.ready, store.ready
    ));
    rows[2].notes.push(format!("{} and {} readings waited", log.waited, store.waited));
    rows.extend(installs.rows(distinct.len()));
    Ok(rows)
}

/// Installations that nothing is ever sent to.
pub(crate) fn idle(effort: Effort) -> Result<Vec<Row>> {
    let count = number(IDLE, 100_000, 50, effort)?;
    let distinct = distinct(if effort.smoke { 2 } else { 20 })?;
    let (server, before) = empty(effort)?;
    let digests = send_packages(&server, &distinct)?;
    let begin = Instant::now();
    for first in (0..count).step_by(LIST) {
        let list: Vec<Value> = (first..(first + LIST).min(count))
            .map(|number| {
                let app = number % distinct.len();
                distinct[app].request(number, distinct.len(), &digests[app])
            })
            .collect();
        server.client().post("/v1/installations", &Value::from(list))?.json()?;
    }
    let took = begin.elapsed().as_secs_f64() * 1e3 / count as f64;
    let after = memory(&server, quiet(effort))?;
    let setup = server.setup().clone();
    server.kill()?;
    let (server, ready) = start(&setup)?;
    let again = memory(&server, quiet(effort))?;
    ensure!(server.stop()?.success(), "the server didn't stop cleanly");
    let (server, clean) = start(&setup)?;
    ensure!(server.stop()?.success(), "the server didn't stop cleanly");
    let mut rows = vec![
        Row::of(
            "100,000 idle installations of 20 apps: memory above an empty server",
            "MB",
            Bound::AtMost(1_000.0),
            after.max(again) - before,
        ),
        Row::of("the same after kill -9: exec -> ready", "s", Bound::AtMost(20.0), ready),
        Row::of("the same after a clean stop: exec -> ready", "s", Bound::AtMost(20.0), clean),
    ];
    rows[0].notes.push(format!(
        "{count} installations, {took:.2} ms each in lists of {LIST}; {after:.0} MB, {again:.0} MB after kill -9, {before:.0} MB empty"
    ));
    Ok(rows)
}
