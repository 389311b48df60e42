//! Guests that do all they shouldn't. The server lives, says what was wrong, keeps nothing of what
//! failed, and is as large afterwards as before.

use std::collections::BTreeMap;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};
use base64::Engine as _;
use ironloom_tests::apps::{install, number, wait_for_installation};
use ironloom_tests::package::{self, Package};
use ironloom_tests::{Client, Server, Setup, guests, wait_for, wait_until};
use serde_json::{Value, json};

struct Bench {
    server: Server,
    package: Package,
}

impl Bench {
    fn new() -> Result<Self> {
        Ok(Self { server: Setup::new()?.start()?, package: guests::package("hostile")? })
    }

    fn client(&self) -> &Client {
        self.server.client()
    }

    /// Installs the guest under this id, listening to the point of the same name.
    fn install(&self, id: &str) -> Result<()> {
        install(self.client(), id, &self.package, json!({"command": [id]}), json!({}))?;
        Ok(())
    }

    /// Sends a command and waits until it was taken or has failed once.
    fn obey(&self, id: &str, command: &str) -> Result<Value> {
        let before = self.client().installation(id)?;
        let sequence = self.client().push_one(id, command)?;
        wait_for_installation(self.client(), id, &format!("{command} taken or failed"), |now| {
            number(now, "cursor") >= sequence
                || number(now, "counters.failures") > number(&before, "counters.failures")
                || number(now, "counters.dead_letters") > number(&before, "counters.dead_letters")
        })
    }

    fn state(&self, id: &str) -> Result<BTreeMap<String, String>> {
        let items = self.client().all(&format!("/v1/installations/{id}/state"))?;
        let entry = |item: &Value| -> Result<(String, String)> {
            let text = |value: &Value| value.as_str().map(str::to_owned).context("no text");
            let bytes = base64::engine::general_purpose::STANDARD.decode(text(&item["value"]["base64"])?)?;
            Ok((text(&item["key"])?, String::from_utf8_lossy(&bytes).into_owned()))
        };
        items.iter().map(entry).collect()
    }

    fn result(&self, id: &str, command: &str) -> Result<Option<String>> {
        Ok(self.state(id)?.remove(&format!("result/{command}")))
    }
}

#[test]
fn what_traps_has_no_effect_and_says_why() -> Result<()> {
    let bench = Bench::new()?;
    // The command, the kind of the error shown, and words that it must have.
    let cases = [
        ("panic", "trap", "a panic, as told"),
        ("half", "trap", "a trap after half of the writes"),
        ("recurse", "trap", "a very deep recursion can look like this"),
        ("grow", "memory-limit", "more memory than `limits.memory` allows"),
        ("loop", "cpu-limit", "more CPU time than `limits.cpu` allows"),
        ("sleep", "trap", "an app can't sleep: set a timer"),
        ("exit", "trap", "it ended with `exit`"),
        ("huge-list", "host-call-limit", "its host calls carried more than 16777216 bytes in one call"),
        (
            "wrong-refuse",
            "trap",
            "only a reading of the batch can be refused: there is no reading 3 in frame 77",
        ),
    ];
    for (command, kind, words) in cases {
        let id = format!("bad-{command}");
        bench.install(&id)?;
        let shown = bench.obey(&id, command)?;
        let error = shown["last_error"].clone();
        ensure!(error.is_object(), "{command}: no last_error in {shown}");
        let message = error["message"].as_str().context("no message")?;
        ensure!(message.contains(words), "{command}: no {words:?} in {error}");
        ensure!(error["kind"] == kind, "{command}: not of kind {kind}: {error}");
        ensure!(bench.state(&id)?.is_empty(), "{command}: state of a failed invocation stays");
        ensure!(
            bench.client().all(&format!("/v1/alarms?installation={id}"))?.is_empty(),
            "{command}: an alarm stays"
        );
    }
    // After three times at the same single reading it is set aside, and the rest goes on.
    bench.client().push_one("bad-panic", "ok")?;
    wait_until("the reading after the bad one to be taken", || {
        Ok(bench.result("bad-panic", "ok")?.is_some())
    })?;
    let letters = bench.client().all("/v1/installations/bad-panic/dead-letters")?;
    assert_eq!(letters.len(), 1, "{letters:?}");
    assert_eq!(letters[0]["reading"]["value"], "panic");
    Ok(())
}

#[test]
fn what_the_host_refuses_is_an_error_that_the_app_sees() -> Result<()> {
    let bench = Bench::new()?;
    bench.install("asks")?;
    // The command, and words that the error which the app sees must have.
    let refused = [
        ("unknown-output", "declares no output"),
        ("many-outputs", "as much as one invocation may"),
        ("long-output", "65536 are allowed"),
        ("unknown-alarm", "declares no alarm"),
        ("long-alarm", "longer than 1,024 bytes"),
        ("many-alarms", "as many active alarms"),
        ("odd-timer", "can't be a timer's name"),
        ("manifest-timer", "can't be a timer's name"),
        ("many-timers", "as many timers"),
        ("empty-key", "must not be empty"),
        ("long-key", "at most 512"),
        ("long-value", "262144 bytes"),
        ("quota", "1048576 bytes"),
        ("many-keys", "at most 20000 are allowed"),
        ("unknown-setting", "is not set"),
        ("read-file", "No such file or directory"),
        ("write-file", "No such file or directory"),
        ("connect", "os error"),
        ("odd-entity", "../../etc"),
    ];
    for (command, words) in refused {
        let shown = bench.obey("asks", command)?;
        let result = bench
            .result("asks", command)?
            .with_context(|| format!("{command} failed: {}", shown["last_error"]))?;
        ensure!(result.starts_with("refused: "), "{command}: {result}");
        ensure!(result.contains(words), "{command}: no {words:?} in {result}");
        // What was written before the refusal would take effect; put it away for the next one.
        bench.client().delete("/v1/installations/asks?purge=true")?.json()?;
        bench.install("asks")?;
    }
    bench.obey("asks", "environment")?;
    assert_eq!(bench.result("asks", "environment")?.as_deref(), Some("0 0"));
    assert!(!std::path::Path::new("/tmp/ironloom-was-here").exists());
    Ok(())
}

#[test]
fn memory_is_refused_only_by_the_installations_own_limit() -> Result<()> {
    let bench = Bench::new()?;
    bench.install("grows")?;
    bench.obey("grows", "grow-politely")?;
    let got: u64 = bench.result("grows", "grow-politely")?.context("it failed")?.parse()?;
    assert!((20..32).contains(&got), "{got} MiB of 32");
    Ok(())
}

#[test]
fn floods_of_log_lines_are_cut_and_counted() -> Result<()> {
    let bench = Bench::new()?;
    // Of each a hundred lines are kept, of the long one 16 KiB.
    for (command, dropped) in [("log-flood", 4_900), ("print-flood", 3_900), ("long-line", 0)] {
        bench.install(command)?;
        bench.obey(command, command)?;
        let shown = bench.client().installation(command)?;
        let lines = wait_for("the log", || {
            let lines = bench.client().all(&format!("/v1/installations/{command}/logs?after=0"))?;
            Ok((!lines.is_empty()).then_some(lines))
        })?;
        ensure!(lines.len() <= 110, "{command}: {} lines", lines.len());
        let bytes: usize = lines.iter().filter_map(|line| line["message"].as_str()).map(str::len).sum();
        ensure!(bytes <= 20 << 10, "{command}: {bytes} bytes");
        ensure!(shown["last_error"].is_null(), "a flood of lines is no failure: {}", shown["last_error"]);
        if dropped > 0 {
            // The count comes before the next line that is kept, and of those there are ten a second.
            std::thread::sleep(Duration::from_millis(1_500));
            bench.obey(command, command)?;
            let told = format!("{dropped} lines were dropped");
            wait_until(&format!("{command}: {told}"), || {
                let lines = bench.client().all(&format!("/v1/installations/{command}/logs?after=0"))?;
                Ok(lines.iter().any(|line| line["message"].to_string().contains(&told)))
            })?;
        }
    }
    Ok(())
}

#[test]
fn refusals_of_the_app_become_dead_letters() -> Result<()> {
    let bench = Bench::new()?;
    bench.install("polite")?;
    let client = bench.client();
    let body: String = ["ok", "refuse", "reject", "ok"]
        .map(|command| format!("{}\n", json!({"point": "polite", "value": command})))
        .concat();
    client.push(body.as_bytes(), None)?.json()?;
    let letters = wait_for("two dead letters", || {
        let letters = client.all("/v1/installations/polite/dead-letters")?;
        Ok((letters.len() == 2).then_some(letters))
    })?;
    let of = |command: &str| letters.iter().find(|letter| letter["reading"]["value"] == command);
    ensure!(
        of("refuse").is_some_and(|letter| letter["reason"].to_string().contains("this one is refused")),
        "{letters:?}"
    );
    ensure!(
        of("reject").is_some_and(|letter| letter["reason"].to_string().contains("rejected, as told")),
        "{letters:?}"
    );
    wait_until("the rest to be taken", || Ok(number(&client.installation("polite")?, "lag.readings") == 0))?;
    assert_eq!(bench.result("polite", "ok")?.as_deref(), Some("done"));

    let number_of =
        |command: &str| of(command).and_then(|letter| letter["number"].as_u64()).context("no number");
    client.delete(&format!("/v1/installations/polite/dead-letters/{}", number_of("refuse")?))?.json()?;
    client
        .post(&format!("/v1/installations/polite/dead-letters/{}/requeue", number_of("reject")?), &json!({}))?
        .json()?;
    // Rejected again: a new dead letter, and the old one is gone.
    wait_until("it to be rejected again", || {
        let letters = client.all("/v1/installations/polite/dead-letters")?;
        Ok(letters.len() == 1 && letters[0]["number"].as_u64() > number_of("reject").ok())
    })?;
    Ok(())
}

#[test]
fn a_retry_waits_and_does_not_count_as_a_dead_letter() -> Result<()> {
    let bench = Bench::new()?;
    bench.install("later")?;
    bench.client().push_one("later", "retry")?;
    let shown = wait_for_installation(bench.client(), "later", "waiting", |now| now["state"] == "waiting")?;
    assert!(shown["last_error"]["message"].to_string().contains("not now, as told"), "{shown}");
    assert_eq!(number(&shown, "counters.dead_letters"), 0);
    assert_eq!(number(&shown, "lag.readings"), 1);
    Ok(())
}

#[test]
fn a_panic_in_a_timer_fails_that_timer() -> Result<()> {
    let bench = Bench::new()?;
    bench.install("timed")?;
    bench.obey("timed", "timer")?;
    let shown = wait_for_installation(bench.client(), "timed", "the timer failed", |now| {
        now["last_timer_error"].is_object()
    })?;
    assert!(number(&shown, "counters.failures") >= 1, "{shown}");
    assert_eq!((&shown["last_error"], &shown["last_timer_error"]["timer"]), (&Value::Null, &json!("boom")));
    let error = &shown["last_timer_error"]["error"];
    assert!(error["message"].to_string().contains("a panic in fire, for boom"), "{error}");
    bench.obey("timed", "ok")?;
    wait_until("readings to go on", || Ok(bench.result("timed", "ok")?.is_some()))?;
    Ok(())
}

#[test]
fn readings_of_another_type_are_dead_letters_and_the_rest_goes_on() -> Result<()> {
    let bench = Bench::new()?;
    bench.install("typed")?;
    bench.client().push_one("typed", 7)?;
    bench.client().push_one("typed", "ok")?;
    wait_until("the text to be taken", || Ok(bench.result("typed", "ok")?.is_some()))?;
    let letters = bench.client().all("/v1/installations/typed/dead-letters")?;
    assert_eq!(letters.len(), 1, "{letters:?}");
    assert!(letters[0]["reason"].to_string().contains("type"), "{letters:?}");
    Ok(())
}

#[test]
fn of_too_many_dead_letters_the_oldest_that_is_left_goes_and_is_counted() -> Result<()> {
    let bench = Bench::new()?;
    bench.install("full")?;
    let client = bench.client();
    // Numbers, where the input takes texts: each is set aside, without a call.
    let push = |count: usize| -> Result<()> {
        let lines = "{\"point\":\"full\",\"value\":1}\n".repeat(count);
        let through =
            client.push(lines.as_bytes(), None)?.json()?["through"].as_u64().context("no through")?;
        wait_for_installation(client, "full", "all set aside", |now| number(now, "cursor") >= through)?;
        Ok(())
    };
    let look = || -> Result<(u64, u64, u64)> {
        let (shown, letters) = (client.installation("full")?, "/v1/installations/full/dead-letters?limit=1");
        let oldest = client.get(letters)?.json()?["items"][0]["number"].as_u64().context("no number")?;
        let counter = |name: &str| number(&shown, &format!("counters.{name}"));
        Ok((counter("dead_letters"), counter("dead_letters_dropped"), oldest))
    };
    push(10_001)?;
    ensure!(look()? == (10_001, 1, 2), "{:?}", look()?);
    let deleted = client.delete("/v1/installations/full/dead-letters/3")?;
    ensure!(deleted.status == 204, "{}", deleted.text());
    push(1)?;
    ensure!(look()? == (10_002, 1, 2), "there was room for one: {:?}", look()?);
    push(2)?;
    ensure!(look()? == (10_004, 3, 5), "2 and 4 went, 3 was gone: {:?}", look()?);
    Ok(())
}

/// The median and the longest of 20 commands, each answered before the next one is sent.
fn lag(bench: &Bench, id: &str) -> Result<(Duration, Duration)> {
    let mut lags = Vec::new();
    for _ in 0..20 {
        let begin = Instant::now();
        bench.obey(id, "ok")?;
        lags.push(begin.elapsed());
    }
    lags.sort();
    Ok((lags[10], lags[19]))
}

#[test]
fn beside_more_loops_than_places_an_app_has_nearly_the_lag_that_it_has_alone() -> Result<()> {
    let bench = Bench::new()?;
    bench.install("calm")?;
    let (alone, _) = lag(&bench, "calm")?;
    // The same app, which asks for more time.
    let manifest = std::fs::read_to_string(guests::folder_of("hostile").join("app.toml"))?;
    let manifest = manifest.replace("cpu = \"100 ms\"", "cpu = \"2 s\"");
    let patient = package::pack(&manifest, &std::fs::read(guests::build("hostile")?)?);
    let limits = json!({"limits": {"cpu": "2 s", "share": "1 s"}});
    let cores = std::thread::available_parallelism()?.get();
    // Four for each core have a place. The rest waits, and so would the calm one behind it.
    let loops: Vec<String> = (0..=4 * cores).map(|n| format!("looping-{n}")).collect();
    for id in &loops {
        install(bench.client(), id, &patient, json!({"command": [id]}), limits.clone())?;
    }
    for id in &loops {
        bench.client().push_one(id, "loop")?;
    }
    std::thread::sleep(Duration::from_millis(300));
    let (beside, longest) = lag(&bench, "calm")?;
    // What is promised is 2 × alone + 20 ms. The first loop ends after ten seconds, since they take turns.
    println!("lag alone {alone:?}, beside {} loops {beside:?}, the longest {longest:?}", loops.len());
    ensure!(
        beside <= (alone * 2 + Duration::from_millis(20)) * 10,
        "alone {alone:?}, beside loops {beside:?}"
    );
    ensure!(longest < Duration::from_secs(3), "an invocation waited for a loop's end: {longest:?}");
    for id in &loops {
        let looping = bench.client().installation(id)?;
        ensure!(number(&looping, "counters.failures") == 0, "the loop was over before: {looping}");
    }
    for id in &loops {
        let looping = wait_for_installation(bench.client(), id, "the loop stopped", |now| {
            number(now, "counters.failures") > 0
        })?;
        ensure!(looping["last_error"]["kind"] == "cpu-limit", "the wait for a core is no failure: {looping}");
    }
    Ok(())
}

/// CPU time of all invocations so far, in seconds.
fn cpu(client: &Client) -> Result<f64> {
    let metrics = client.get("/metrics")?.text();
    let line = metrics.lines().find_map(|line| line.strip_prefix("ironloom_invocation_cpu_seconds_sum "));
    Ok(line.context("no sum of CPU time in /metrics")?.parse()?)
}

#[test]
fn an_app_that_is_always_busy_gets_no_more_than_its_share() -> Result<()> {
    let bench = Bench::new()?;
    let client = bench.client();
    let share = json!({"limits": {"share": "200 ms"}});
    install(client, "busy", &bench.package, json!({"command": ["busy"]}), share)?;
    bench.install("calm")?;
    let begin = Instant::now();
    // Two seconds were saved up; at full speed four would be over long before what the share allows.
    let spins = "{\"point\":\"busy\",\"value\":\"spin\"}\n".repeat(2_000);
    client.push(spins.as_bytes(), None)?.json()?;
    while cpu(client)? < 4.0 {
        // Its neighbour isn't held up by it.
        bench.obey("calm", "ok")?;
        std::thread::sleep(Duration::from_millis(50));
        ensure!(begin.elapsed() < Duration::from_secs(120), "the app gets nothing of its share any more");
    }
    let busy = client.installation("busy")?;
    ensure!(number(&busy, "counters.failures") == 0, "{busy}");
    let (spent, time) = (cpu(client)?, begin.elapsed().as_secs_f64());
    // The last invocation may have taken its whole CPU budget of 100 ms more than there was.
    let most = 2.0 + 0.2 * time + 0.15;
    ensure!(spent <= most, "{spent} s of CPU time within {time} s, of {most} s at the most");
    Ok(())
}

#[test]
fn an_app_writes_no_more_than_its_share_pays_for() -> Result<()> {
    let bench = Bench::new()?;
    // The command, how often, and what each costs in seconds besides its own CPU time: 3.6 MB of texts at 100 ns a byte;
    // 750 KiB of state at 20 ns a byte; 4,000 keys at 500 ns and the record at 250 µs; 5,000 lines at 5 µs, of which most
    // are dropped.
    let cases = [
        ("flood", 10, 0.36),
        ("value-flood", 200, 0.0153),
        ("key-flood", 1_000, 0.00225),
        ("log-flood", 120, 0.025),
    ];
    let (saved, share) = (2.0, 0.2);
    for (command, times, each) in cases {
        install(
            bench.client(),
            command,
            &bench.package,
            json!({"command": [command]}),
            json!({"limits": {"share": "200 ms"}}),
        )?;
        let (begin, before) = (Instant::now(), cpu(bench.client())?);
        for _ in 0..times {
            bench.obey(command, command)?;
        }
        let took = begin.elapsed().as_secs_f64();
        let own = (cpu(bench.client())? - before) / f64::from(times);
        // Two seconds were saved up, and the last one is still owed.
        let least = (f64::from(times - 1) * (each + own) - saved) / share;
        ensure!(
            took >= least,
            "{times} times {command} within {took} s; the share pays for them in {least} s"
        );
        let shown = bench.client().installation(command)?;
        ensure!(number(&shown, "counters.failures") == 0, "{shown}");
    }
    let flooder = bench.client().installation("flood")?;
    ensure!(number(&flooder, "counters.derived") == 600, "{flooder}");
    Ok(())
}

/// Habits that end an invocation, with the kind of failure that they are.
const FAILURES: [(&str, &str); 8] = [
    ("panic", "trap"),
    ("half", "trap"),
    ("recurse", "trap"),
    ("grow", "memory-limit"),
    ("exit", "trap"),
    ("huge-list", "host-call-limit"),
    ("sleep", "trap"),
    ("wrong-refuse", "trap"),
];
/// Takes its whole CPU budget, so that there is one in a hundred of it.
const LOOP: (&str, &str) = ("loop", "cpu-limit");

/// Habits that only ask for much.
const DEMANDS: [&str; 8] = [
    "print-flood",
    "long-line",
    "many-keys",
    "many-alarms",
    "many-outputs",
    "unknown-output",
    "publish",
    "reject",
];

/// What caches and the allocator may hold more of than before: 5 MB after a thousand failures, 4 MB more after as much in one
/// installation. 20 KB for each of them would be a leak.
const FORGOTTEN: u64 = 20 << 20;

/// They touch tens of megabytes within the 100 ms that an app may take.
const FILLS_MEMORY: [&str; 2] = ["grow", "huge-list"];

/// One failure, in an installation that begins and ends with it. Returns its kind.
fn fail_once(bench: &Bench, n: usize) -> Result<&'static str> {
    let (habit, kind) = if n.is_multiple_of(100) { LOOP } else { FAILURES[n % FAILURES.len()] };
    bench.install("again")?;
    if n.is_multiple_of(4) {
        bench.obey("again", DEMANDS[n / 4 % DEMANDS.len()])?;
    }
    let shown = bench.obey("again", habit)?;
    // A page of memory that the machine has to find first may cost more CPU time than all else.
    let is_slow = FILLS_MEMORY.contains(&habit) && shown["last_error"]["kind"] == "cpu-limit";
    ensure!(
        is_slow || shown["last_error"]["kind"] == kind,
        "{habit} failed by {}: {shown}",
        shown["last_error"]
    );
    bench.client().delete("/v1/installations/again?purge=true")?.json()?;
    Ok(kind)
}

#[test]
fn after_a_thousand_failures_memory_is_where_it_was() -> Result<()> {
    let failures: usize = std::env::var("IRONLOOM_FAILURES").ok().map_or(Ok(1_000), |text| text.parse())?;
    let server = Setup::new()?.start()?;
    let mut bench = Bench { server, package: guests::package("hostile")? };
    let manifest = std::fs::read_to_string(guests::folder_of("hostile").join("app.toml"))?;
    let broken = package::pack(&manifest, b"\0asm\x0d\0\x01\0 and no component").tar();
    bench.install("stays")?;
    let fail = |bench: &Bench, times: usize| -> Result<BTreeMap<&'static str, usize>> {
        let mut kinds = BTreeMap::new();
        for n in 0..times {
            *kinds.entry(fail_once(bench, n)?).or_default() += 1;
            if n.is_multiple_of(20) {
                let headers = [("content-type", ironloom_tests::http::PACKAGE)];
                bench.client().send("POST", "/v1/packages", &headers, &broken)?.problem(422)?;
            }
        }
        Ok(kinds)
    };
    // In one installation that goes on. Its invocations reject a reading or are refused something; one that trapped would
    // be tried three times with pauses between.
    let demand = |bench: &Bench, times: usize| -> Result<()> {
        DEMANDS.iter().cycle().take(times).try_for_each(|habit| bench.obey("stays", habit).map(drop))
    };
    // Caches and pools fill first.
    fail(&bench, (failures / 5).max(100))?;
    demand(&bench, (failures / 5).max(100))?;
    let before = settled(&bench.server)?;
    let kinds = fail(&bench, failures)?;
    ensure!(kinds.values().sum::<usize>() == failures, "{kinds:?}");
    ensure!(
        ["cpu-limit", "host-call-limit", "memory-limit", "trap"].iter().all(|kind| kinds.contains_key(kind)),
        "{kinds:?}"
    );
    let after = settled(&bench.server)?;
    ensure!(
        after <= before + FORGOTTEN,
        "{before} bytes before, {after} after {failures} failures: {kinds:?}"
    );
    demand(&bench, failures)?;
    let after = settled(&bench.server)?;
    ensure!(after <= before + FORGOTTEN, "{before} bytes before, {after} after as much in one installation");
    ensure!(bench.server.is_alive()?);
    Ok(())
}

/// The memory of the server once it gives back no more. Threads for blocking work end after ten idle seconds, and the allocator
/// gives unused memory back within ten; so it has to stay the same for longer.
fn settled(server: &Server) -> Result<u64> {
    const STILL: u32 = 150;
    let (mut least, mut still) = (server.resident_bytes()?, 0);
    for _ in 0..600 {
        std::thread::sleep(Duration::from_millis(100));
        let now = server.resident_bytes()?;
        still = if now + (64 << 10) < least { 0 } else { still + 1 };
        least = least.min(now);
        if still == STILL {
            break;
        }
    }
    Ok(least)
}
