//! `kill -9` at random moments under load, for each engine: what was acknowledged is there once,
//! what wasn't is there whole or not at all, and every state is what the journal gives.

use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use ironloom_tests::apps::install;
use ironloom_tests::load::Load;
use ironloom_tests::{Client, Server, Setup, guests, model, wait_until};
use rand::{Rng, SeedableRng};
use rand_chacha::ChaCha8Rng;
use serde_json::json;

/// Rounds of each engine: `IRONLOOM_ROUNDS`, which the soak sets, or 10. Each failpoint has a tenth of them.
fn rounds() -> Result<u64> {
    Ok(std::env::var("IRONLOOM_ROUNDS").ok().map_or(Ok(10), |text| text.parse())?)
}

/// How often each failpoint ends the server: as often as the soak kills it, at most ten times, else once.
fn rounds_of_a_failpoint() -> Result<u64> {
    Ok(std::env::var("IRONLOOM_ROUNDS").ok().map_or(Ok(1), |text| text.parse::<u64>())?.min(10))
}

/// The seed of the moments: `IRONLOOM_SEED`, or one of this day's making, printed with a failure.
fn seed() -> Result<u64> {
    let now = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH)?;
    Ok(std::env::var("IRONLOOM_SEED").ok().map_or(Ok(now.as_nanos() as u64), |text| text.parse())?)
}

fn config(engine: &str) -> String {
    format!("[store]\nengine = \"{engine}\"\n\n[log]\ncheckpoint = \"1 MiB\"\n")
}

/// Starts, loads, kills, checks; again and again on one folder. `failpoint` names the step at which
/// the server kills itself; without one it is killed from outside at a random moment.
fn rounds_of(engine: &str, rounds: u64, mut failpoint: impl FnMut(u64) -> Option<String>) -> Result<()> {
    let seed = seed()?;
    let mut random = ChaCha8Rng::seed_from_u64(seed);
    let package = guests::package("one-state")?;
    let base = Setup::new()?.config(config(engine));
    let load = Load::new("load", 500);
    {
        let server = base.start()?;
        let bindings = json!({"value": ["load/{point}/value"]});
        install(server.client(), "plain", &package, bindings.clone(), json!({}))?;
        install(server.client(), "loud", &package, bindings, json!({"settings": {"publish": true}}))?;
        ensure!(server.stop()?.success());
    }
    let mut seen = 0;
    for round in 0..rounds {
        let point = failpoint(round);
        let whole = || format!("engine {engine}, round {round}, seed {seed}, failpoint {point:?}");
        let setup = match &point {
            Some(point) => base.clone().env("FAILPOINTS", point),
            None => base.clone(),
        };
        match setup.start() {
            Ok(server) => {
                load_and_kill(server, &load, point.as_deref(), moment(&mut random)).with_context(whole)?
            }
            // A failpoint may well lie in the start itself; without one a server that doesn't start is a fault.
            Err(error) => {
                let at_failpoint = point.is_some() && format!("{error:#}").contains("signal: 9");
                ensure!(at_failpoint, "{error:#}: {}", whole());
            }
        }

        let server = base.start().with_context(whole)?;
        // First as it is, then with the unanswered ones sent again.
        load.check(&server.client().journal(0, "")?).with_context(whole)?;
        load.repeat_unanswered(server.client()).with_context(whole)?;
        ensure!(load.unanswered() == 0);
        load.check(&server.client().journal(0, "")?).with_context(whole)?;
        for installation in ["plain", "loud"] {
            model::compare(server.client(), installation, "load", "value").with_context(whole)?;
        }
        check_derived(server.client()).with_context(whole)?;
        ensure!(
            point.is_some() || load.acknowledged() > seen,
            "nothing was acknowledged in a round: {}",
            whole()
        );
        seen = load.acknowledged();
        // Now and then without a clean stop between the check and the next round.
        if random.next_u64() % 2 == 0 {
            ensure!(server.stop()?.success());
        }
    }
    Ok(())
}

fn was_killed(ended: std::process::ExitStatus) -> bool {
    std::os::unix::process::ExitStatusExt::signal(&ended) == Some(9)
}

/// Between two requests of a thread, where rounds go on on one folder: enough for a checkpoint every few moments, and a
/// journal that can be read again and again.
const PAUSE: Duration = Duration::from_millis(5);

/// Loads as fast as the server takes it, on a fresh folder, and kills it once it has written a checkpoint.
fn killed_at_full_load(engine: &str, rounds: u64) -> Result<()> {
    let seed = seed()?;
    let mut random = ChaCha8Rng::seed_from_u64(seed);
    let package = guests::package("one-state")?;
    for round in 0..rounds {
        let whole = || format!("engine {engine}, round {round} at full load, seed {seed}");
        let setup = Setup::new()?.config(config(engine));
        let load = Load::new("load", 500);
        let server = setup.start()?;
        install(server.client(), "plain", &package, json!({"value": ["load/{point}/value"]}), json!({}))?;
        let client = server.client().clone();
        let stop = AtomicBool::new(false);
        std::thread::scope(|scope| -> Result<()> {
            let loading = scope.spawn(|| load.run(&client, 4, 2_000, Duration::ZERO, &stop));
            let killed = wait_until("a checkpoint", || Ok(checkpoints(&client)? > 0)).and_then(|()| {
                std::thread::sleep(Duration::from_millis(random.next_u64() % 200));
                server.kill()
            });
            stop.store(true, Ordering::SeqCst);
            let loaded = loading.join().map_err(|_| anyhow::anyhow!("the load panicked"))?;
            killed.and(loaded)
        })
        .with_context(whole)?;
        let server = setup.start().with_context(whole)?;
        load.check(&server.client().journal(0, "")?).with_context(whole)?;
        load.repeat_unanswered(server.client()).with_context(whole)?;
        load.check(&server.client().journal(0, "")?).with_context(whole)?;
        model::compare(server.client(), "plain", "load", "value").with_context(whole)?;
    }
    Ok(())
}

/// How many checkpoints a server has written.
fn checkpoints(client: &Client) -> Result<u64> {
    let metrics = client.get("/metrics")?.text();
    let line = metrics.lines().find_map(|line| line.strip_prefix("ironloom_checkpoint_seconds_count "));
    Ok(line.context("no count of checkpoints in /metrics")?.parse()?)
}

#[test]
fn killed_at_full_load_on_sled() -> Result<()> {
    killed_at_full_load("sled", rounds()?.min(3))
}

#[test]
fn killed_at_full_load_on_redb() -> Result<()> {
    killed_at_full_load("redb", rounds()?.min(3))
}

fn moment(random: &mut ChaCha8Rng) -> Duration {
    Duration::from_millis(random.next_u64() % 500 + 100)
}

/// Loads the server until it is killed: from outside, or by itself at the failpoint.
fn load_and_kill(mut server: Server, load: &Load, failpoint: Option<&str>, moment: Duration) -> Result<()> {
    let stop = AtomicBool::new(false);
    let client = server.client().clone();
    std::thread::scope(|scope| {
        let loading = scope.spawn(|| load.run(&client, 4, 100, PAUSE, &stop));
        let killed = || -> Result<()> {
            if failpoint.is_some() {
                let ended = server.wait().context("the binary needs --features failpoints")?;
                ensure!(was_killed(ended), "the failpoint should have killed it: {ended}");
            } else {
                std::thread::sleep(moment);
                server.kill()?;
            }
            Ok(())
        };
        let killed = killed();
        stop.store(true, Ordering::SeqCst);
        let loaded = loading.join().map_err(|_| anyhow::anyhow!("the load panicked"))?;
        killed.and(loaded)
    })
}

/// `loud` derives one reading from each that it takes, with the count: 1, 2, 3 … for each entity.
fn check_derived(client: &ironloom_tests::Client) -> Result<()> {
    let mut counts = std::collections::BTreeMap::<String, u64>::new();
    let mut derived = 0_u64;
    let mut taken = 0_u64;
    for reading in client.journal(0, "")? {
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
fn killed_at_random_moments_on_sled() -> Result<()> {
    rounds_of("sled", rounds()?, |_| None)
}

#[test]
fn killed_at_random_moments_on_redb() -> Result<()> {
    rounds_of("redb", rounds()?, |_| None)
}

/// The steps of a checkpoint, and of a group's way to the disk.
const STEPS_UNDER_LOAD: [&str; 9] = [
    "checkpoint-before-blocks-sync",
    "checkpoint-blocks-synced",
    "store-before-sync",
    "checkpoint-keys-durable",
    "checkpoint-position-durable",
    "checkpoint-memory-thinned",
    "log-group-before-write",
    "log-group-before-sync",
    "log-group-flushed",
];

/// The steps of a start on a folder that a kill has left; each start begins a segment, and the next
/// checkpoint frees the ones before it.
const STEPS_OF_START: [&str; 16] = [
    "log-recover-before-rewrite",
    "log-recover-before-sync",
    "log-recover-before-folder-sync",
    "log-recover-durable",
    "log-recover-before-free",
    "log-recover-before-begin",
    "log-begin-before-folder-sync",
    "log-begin-before-header",
    "log-begin-before-header-sync",
    "log-begin-before-rename",
    "log-begin-before-last-folder-sync",
    "log-begin-done",
    "log-begin-before-note-sync",
    "log-free-before-rename",
    "log-free-done",
    "open-store-owned",
];

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
    // Each comes after a round without a failpoint, which leaves an end to recover.
    let mut plan: Vec<Option<String>> = Vec::new();
    for _ in 0..rounds_of_a_failpoint()? {
        plan.extend(points.iter().flat_map(|point| [Some(point.clone()), None]));
    }
    // On a fresh folder now and then: each check reads the whole journal.
    let times = rounds()?.div_ceil(10);
    (0..times)
        .flat_map(|_| plan.chunks(ROUNDS_OF_A_FOLDER))
        .try_for_each(|plan| rounds_of(engine, plan.len() as u64, |round| plan[round as usize].clone()))
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
    let planned: std::collections::BTreeSet<_> =
        STEPS_UNDER_LOAD.iter().chain(&STEPS_OF_START).map(|step| (*step).to_owned()).collect();
    assert_eq!(found, planned);
    Ok(())
}
