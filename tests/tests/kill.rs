//! `kill -9` at random moments under load, for each engine: what was acknowledged is there once,
//! what wasn't is there whole or not at all, and every state is what the journal gives.

use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use ironloom_tests::apps::{install, number, wait_for_installation};
use ironloom_tests::load::Load;
use ironloom_tests::package::Package;
use ironloom_tests::steps::{
    STEPS_OF_A_COPY, STEPS_OF_A_PURGE, STEPS_OF_A_SET_POINT, STEPS_OF_A_VERSION, STEPS_OF_AN_INSTALL,
    STEPS_OF_START, STEPS_UNDER_LOAD,
};
use ironloom_tests::{Client, Server, Setup, guests, model, wait_until};
use rand::{Rng, SeedableRng};
use rand_chacha::ChaCha8Rng;
use serde_json::{Value, json};

/// Rounds of each engine: `IRONLOOM_ROUNDS`, which the soak sets, or 10.
fn rounds() -> Result<u64> {
    Ok(std::env::var("IRONLOOM_ROUNDS").ok().map_or(Ok(10), |text| text.parse())?)
}

/// The seed of the moments: `IRONLOOM_SEED`, or one of this day's making, printed with a failure.
fn seed() -> Result<u64> {
    let now = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH)?;
    Ok(std::env::var("IRONLOOM_SEED").ok().map_or(Ok(now.as_nanos() as u64), |text| text.parse())?)
}

fn config(engine: &str) -> String {
    format!("[store]\nengine = \"{engine}\"\n\n[log]\ncheckpoint = \"1 MiB\"\n")
}

/// What `install_both` makes: of one app, and `loud` derives a reading from each that it takes.
const INSTALLATIONS: [&str; 2] = ["plain", "loud"];

fn install_both(client: &Client, package: &Package) -> Result<()> {
    let bindings = json!({"value": ["load/{point}/value"]});
    install(client, "plain", package, bindings.clone(), json!({}))?;
    install(client, "loud", package, bindings, json!({"settings": {"publish": true}}))?;
    Ok(())
}

/// How a load is spread over time, and what has to have happened before the server is killed from outside.
#[derive(Clone, Copy)]
struct Pace {
    readings: u64,
    pause: Duration,
    /// Requests that were acknowledged since the load began.
    acknowledged: usize,
    checkpoints: u64,
    /// The kill comes at a random moment within this time after that.
    within_ms: u64,
}

/// Enough for a checkpoint every few moments, and a journal that can be read again and again.
const STEADY: Pace =
    Pace { readings: 100, pause: Duration::from_millis(5), acknowledged: 20, checkpoints: 0, within_ms: 500 };

/// As fast as the server takes it.
const FULL: Pace =
    Pace { readings: 2_000, pause: Duration::ZERO, acknowledged: 20, checkpoints: 3, within_ms: 500 };

/// Starts, loads, kills, checks; again and again on one folder. A round with a failpoint begins with a kill from outside,
/// so that there is an end to recover from; then the server kills itself at the failpoint. Without one it is killed from
/// outside only.
fn rounds_of(engine: &str, plan: &[Option<&str>]) -> Result<()> {
    let seed = seed()?;
    let mut random = ChaCha8Rng::seed_from_u64(seed);
    let package = guests::package("one-state")?;
    let base = Setup::new()?.config(config(engine));
    let load = Load::new("load", 500);
    {
        let server = base.start()?;
        install_both(server.client(), &package)?;
        ensure!(server.stop()?.success());
    }
    for (round, failpoint) in plan.iter().enumerate() {
        let whole = || format!("engine {engine}, round {round}, seed {seed}, failpoint {failpoint:?}");
        load_and_kill(base.start().with_context(whole)?, &load, STEADY, &mut random).with_context(whole)?;
        if let Some(failpoint) = failpoint {
            load_until_failpoint(&base.clone().env("FAILPOINTS", failpoint), &load).with_context(whole)?;
        }
        let server = base.start().with_context(whole)?;
        check(server.client(), &load).with_context(whole)?;
        // Now and then without a clean stop between the check and the next round.
        if random.next_u64() % 2 == 0 {
            ensure!(server.stop()?.success());
        }
    }
    Ok(())
}

/// Loads as fast as the server takes it, on a fresh folder each time, and kills it after several checkpoints, and once
/// more while it makes up for what the first life has left.
fn killed_at_full_load(engine: &str) -> Result<()> {
    let seed = seed()?;
    let mut random = ChaCha8Rng::seed_from_u64(seed);
    let package = guests::package("one-state")?;
    for round in 0..rounds()?.div_ceil(3) {
        let whole = || format!("engine {engine}, round {round} at full load, seed {seed}");
        let setup = Setup::new()?.config(config(engine));
        let load = Load::new("load", 500);
        let server = setup.start()?;
        install_both(server.client(), &package)?;
        load_and_kill(server, &load, FULL, &mut random).with_context(whole)?;
        let server = setup.start().with_context(whole)?;
        load_and_kill(server, &load, FULL, &mut random).with_context(whole)?;
        let server = setup.start().with_context(whole)?;
        check(server.client(), &load).with_context(whole)?;
    }
    Ok(())
}

/// Loads the server and kills it from outside.
fn load_and_kill(server: Server, load: &Load, pace: Pace, random: &mut ChaCha8Rng) -> Result<()> {
    let before = load.acknowledged();
    loaded(server, load, pace, |server| {
        wait_until("the load to be under way", || {
            let acknowledged = load.acknowledged() - before;
            Ok(acknowledged >= pace.acknowledged && checkpoints(server.client())? >= pace.checkpoints)
        })?;
        std::thread::sleep(Duration::from_millis(random.next_u64() % pace.within_ms));
        server.kill()
    })
}

/// Loads the server until it kills itself at its failpoint, which may well lie in the start.
fn load_until_failpoint(setup: &Setup, load: &Load) -> Result<()> {
    let server = match setup.start() {
        Ok(server) => server,
        Err(error) => {
            ensure!(format!("{error:#}").contains("signal: 9"), "{error:#}");
            return Ok(());
        }
    };
    loaded(server, load, STEADY, |mut server| {
        let ended = server.wait().context("the binary needs --features failpoints")?;
        let signal = std::os::unix::process::ExitStatusExt::signal(&ended);
        ensure!(signal == Some(9), "the failpoint should have killed it: {ended}");
        Ok(())
    })
}

/// Loads the server for as long as `end` takes.
fn loaded(server: Server, load: &Load, pace: Pace, end: impl FnOnce(Server) -> Result<()>) -> Result<()> {
    let stop = AtomicBool::new(false);
    let client = server.client().clone();
    std::thread::scope(|scope| {
        let loading = scope.spawn(|| load.run(&client, 4, pace.readings, pace.pause, &stop));
        let ended = end(server);
        stop.store(true, Ordering::SeqCst);
        let loaded = loading.join().map_err(|_| anyhow::anyhow!("the load panicked"))?;
        ended.and(loaded)
    })
}

/// Holds all that the server has against what was sent, and against what the journal gives.
fn check(client: &Client, load: &Load) -> Result<()> {
    // First as it is, then with the unanswered ones sent again.
    load.check(&client.journal(0, "")?)?;
    load.repeat_unanswered(client)?;
    for installation in INSTALLATIONS {
        model::wait_until_done(client, installation)?;
    }
    let journal = client.journal(0, "")?;
    load.check(&journal)?;
    for installation in INSTALLATIONS {
        model::compare_with(&journal, client, installation, "load", "value")?;
    }
    check_derived(&journal)
}

/// How many checkpoints a server has written.
fn checkpoints(client: &Client) -> Result<u64> {
    let metrics = client.get("/metrics")?.text();
    let line = metrics.lines().find_map(|line| line.strip_prefix("ironloom_checkpoint_seconds_count "));
    Ok(line.context("no count of checkpoints in /metrics")?.parse()?)
}

/// `loud` derives one reading from each that it takes, with the count: 1, 2, 3 … for each entity.
fn check_derived(journal: &[Value]) -> Result<()> {
    let mut counts = std::collections::BTreeMap::<String, u64>::new();
    let mut derived = 0_u64;
    let mut taken = 0_u64;
    for reading in journal {
        let point = reading["point"].as_str().context("no point")?;
        if let Some(entity) = point.strip_prefix("apps/loud/count/") {
            let count = counts.entry(entity.to_owned()).or_default();
            *count += 1;
            derived += 1;
            ensure!(
                reading["value"] == *count,
                "{point} goes on with {} instead of {count}",
                reading["value"]
            );
        } else if model::entity_of(point, "load", "value").is_some() {
            taken += 1;
        }
    }
    ensure!(derived == taken, "{derived} derived readings of {taken}");
    Ok(())
}

#[test]
fn a_server_that_ended_by_itself_was_not_killed() -> Result<()> {
    let mut server = Setup::new()?.start()?;
    server.terminate()?;
    server.wait()?;
    let error = server.kill().err().context("it says that it killed a server that had ended")?;
    ensure!(format!("{error:#}").contains("ended by itself"), "{error:#}");
    Ok(())
}

#[test]
fn killed_at_full_load_on_sled() -> Result<()> {
    killed_at_full_load("sled")
}

#[test]
fn killed_at_full_load_on_redb() -> Result<()> {
    killed_at_full_load("redb")
}

fn killed_at_random_moments(engine: &str) -> Result<()> {
    rounds_of(engine, &vec![None; rounds()? as usize])
}

#[test]
fn killed_at_random_moments_on_sled() -> Result<()> {
    killed_at_random_moments("sled")
}

#[test]
fn killed_at_random_moments_on_redb() -> Result<()> {
    killed_at_random_moments("redb")
}

/// Rounds on one folder.
const ROUNDS_OF_A_FOLDER: usize = 8;

fn killed_between_steps(engine: &str) -> Result<()> {
    // A start passes those of the first list as well: let a few go by, so that it happens under load. The
    // store syncs keys and position in turn: both come to be the last.
    let passes = |step: &str| match step {
        "store-before-sync" => vec![3, 4, 5, 6],
        step if step.contains("group") => vec![20],
        _ => vec![3],
    };
    let points: Vec<String> = STEPS_UNDER_LOAD
        .iter()
        .flat_map(|step| passes(step).into_iter().map(move |passes| format!("{step}@{passes}")))
        .chain(STEPS_OF_START.iter().map(|step| (*step).to_owned()))
        .collect();
    // Each ten times in a soak, and three where nothing is said: a round takes three seconds of CPU time.
    let times = (rounds()? / 3).clamp(1, 10) as usize;
    let plan: Vec<Option<&str>> =
        points.iter().cycle().take(times * points.len()).map(|point| Some(point.as_str())).collect();
    // On a fresh folder now and then: each check reads the whole journal.
    plan.chunks(ROUNDS_OF_A_FOLDER).try_for_each(|plan| rounds_of(engine, plan))
}

#[test]
fn killed_between_any_two_steps_on_sled() -> Result<()> {
    killed_between_steps("sled")
}

#[test]
fn killed_between_any_two_steps_on_redb() -> Result<()> {
    killed_between_steps("redb")
}

#[test]
fn a_purge_that_is_killed_between_its_steps_goes_on_with_the_next_start() -> Result<()> {
    let [step] = STEPS_OF_A_PURGE;
    for engine in ["redb", "sled"] {
        let server = Setup::new()?.config(config(engine)).start()?;
        let client = server.client();
        let package = guests::package("one-state")?;
        for id in ["gone", "stays"] {
            install(client, id, &package, json!({"value": ["a/{n}"]}), json!({}))?;
        }
        // Five steps.
        let lines: String =
            (0..5_000).map(|n| json!({"point": format!("a/{n}"), "value": 1}).to_string() + "\n").collect();
        client.push(lines.as_bytes(), None)?.json()?;
        for id in ["gone", "stays"] {
            wait_for_installation(client, id, "all readings", |now| {
                number(now, "counters.readings") == 5_000
            })?;
        }
        client.delete("/v1/installations/gone")?.json()?;
        let setup = server.setup().clone();
        ensure!(server.stop()?.success());

        let mut server = setup.clone().env("FAILPOINTS", &format!("{step}@3")).start()?;
        // Its answer may come before the end, or not.
        let _ = server.client().delete("/v1/installations/gone?purge=true");
        let ended = server.wait().context("the binary needs --features failpoints")?;
        let signal = std::os::unix::process::ExitStatusExt::signal(&ended);
        ensure!(signal == Some(9), "the failpoint should have killed it: {ended}");

        let server = setup.start()?;
        let client = server.client();
        wait_until("the rest is purged", || Ok(client.all("/v1/kept")?.is_empty()))?;
        assert_eq!(model::state_of(client, "stays")?.len(), 5_000);
    }
    Ok(())
}

#[test]
fn every_failpoint_is_in_the_plan() -> Result<()> {
    let mut found = std::collections::BTreeSet::new();
    let runtime = guests::workspace().join("runtime");
    let mut folders = vec![runtime.join("storage/src"), runtime.join("ironloom/src")];
    while let Some(folder) = folders.pop() {
        for entry in std::fs::read_dir(folder)? {
            let path = entry?.path();
            if path.is_dir() {
                folders.push(path);
            } else if path.extension().is_some_and(|extension| extension == "rs") {
                let text = std::fs::read_to_string(path)?;
                let names = text.split("failpoint(\"").skip(1).filter_map(|rest| rest.split('"').next());
                found.extend(names.map(str::to_owned));
            }
        }
    }
    let planned: std::collections::BTreeSet<_> = STEPS_UNDER_LOAD
        .iter()
        .chain(&STEPS_OF_START)
        .chain(&STEPS_OF_A_PURGE)
        .chain(&STEPS_OF_A_SET_POINT)
        .chain(&STEPS_OF_A_COPY)
        .chain(&STEPS_OF_A_VERSION)
        .chain(&STEPS_OF_AN_INSTALL)
        .map(|step| (*step).to_owned())
        .collect();
    assert_eq!(found, planned);
    Ok(())
}
