//! What an admin does on the real server: at once, wholly or not at all, whatever else goes on.

use std::io::Write as _;
use std::net::{Shutdown, TcpStream};
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, ensure};
use ironloom_tests::apps::{install, number, request, wait_for_installation};
use ironloom_tests::http::{JSON, PACKAGE};
use ironloom_tests::package::{self, Package};
use ironloom_tests::{Client, Server, Setup, guests, wait_for, wait_until};
use serde_json::json;

/// The guest that does what its readings say, with time for a long loop.
fn patient() -> Result<Package> {
    let manifest = std::fs::read_to_string(guests::folder_of("hostile").join("app.toml"))?;
    let manifest = manifest.replace("cpu = \"100 ms\"", "cpu = \"10 s\"");
    Ok(package::pack(&manifest, &std::fs::read(guests::build("hostile")?)?))
}

fn install_patient(client: &Client, id: &str) -> Result<()> {
    let limits = json!({"limits": {"cpu": "10 s", "share": "1 s"}});
    install(client, id, &patient()?, json!({"command": [id]}), limits)?;
    Ok(())
}

/// Has the app loop, and waits until it does.
fn begin_loop(server: &Server, id: &str) -> Result<u64> {
    let before = server.client().installation(id)?;
    let sequence = server.client().push_one(id, "loop")?;
    let idle = server.cpu_time()?;
    wait_until("the loop to take CPU time", || Ok(server.cpu_time()? > idle + Duration::from_millis(300)))?;
    let now = server.client().installation(id)?;
    ensure!(now["cursor"] == before["cursor"] && now["last_error"].is_null(), "it doesn't loop: {now}");
    Ok(sequence)
}

/// Sends a request and hangs up without a look at the answer.
fn send_and_hang_up(
    client: &Client,
    method: &str,
    path: &str,
    kind: &str,
    body: &[u8],
    wait: Duration,
) -> Result<()> {
    let address = client.url().strip_prefix("http://").context("no address")?;
    let mut stream = TcpStream::connect(address)?;
    let length = body.len();
    write!(
        stream,
        "{method} {path} HTTP/1.1\r\nHost: {address}\r\nContent-Type: {kind}\r\nContent-Length: {length}\r\n\r\n"
    )?;
    stream.write_all(body)?;
    std::thread::sleep(wait);
    stream.shutdown(Shutdown::Both)?;
    Ok(())
}

/// A component whose one module takes long to compile, and is then refused: it has no role.
fn slow_component(functions: usize) -> Vec<u8> {
    fn leb(mut value: usize, out: &mut Vec<u8>) {
        loop {
            let byte = (value & 0x7f) as u8;
            value >>= 7;
            out.push(if value == 0 { byte } else { byte | 0x80 });
            if value == 0 {
                return;
            }
        }
    }
    fn section(id: u8, content: &[u8], out: &mut Vec<u8>) {
        out.push(id);
        leb(content.len(), out);
        out.extend_from_slice(content);
    }
    // (param i32 i32) (result i32), many times: a = a * b + a; b = b ^ a
    let step = [0x20, 0, 0x20, 1, 0x6c, 0x20, 0, 0x6a, 0x21, 0, 0x20, 1, 0x20, 0, 0x73, 0x21, 1];
    let mut body = vec![0];
    for _ in 0..200 {
        body.extend_from_slice(&step);
    }
    body.extend_from_slice(&[0x20, 0, 0x0b]);
    let mut code = Vec::new();
    leb(functions, &mut code);
    let mut types = Vec::new();
    leb(functions, &mut types);
    types.resize(types.len() + functions, 0);
    for _ in 0..functions {
        leb(body.len(), &mut code);
        code.extend_from_slice(&body);
    }
    let mut module = b"\0asm\x01\0\0\0".to_vec();
    section(1, &[1, 0x60, 2, 0x7f, 0x7f, 1, 0x7f], &mut module);
    section(3, &types, &mut module);
    section(10, &code, &mut module);
    let mut component = b"\0asm\x0d\0\x01\0".to_vec();
    section(1, &module, &mut component);
    component
}

#[test]
fn an_install_whose_caller_hangs_up_is_whole_or_not_there() -> Result<()> {
    let setup = Setup::new()?;
    let server = setup.start()?;
    let client = server.client();
    let package = guests::package("hostile")?;
    let digest = client.add_package(&package.tar())?;
    let mut ids = Vec::new();
    for round in 0..30_u64 {
        let id = format!("app-{round}");
        let body = request(&id, &digest, json!({"command": [id]}), json!({})).to_string();
        // Hung up at many different moments; then again, as whoever pressed Ctrl-C does.
        let wait = Duration::from_micros(round * 700);
        send_and_hang_up(client, "POST", "/v1/installations", JSON, body.as_bytes(), wait)?;
        let again = client.send("POST", "/v1/installations", &[("content-type", JSON)], body.as_bytes())?;
        ensure!(again.status == 201 || again.status == 409, "{}", again.text());
        ids.push(id);
    }
    let check = |client: &Client| -> Result<()> {
        let mut generations = Vec::new();
        for id in &ids {
            let shown = wait_for_installation(client, id, "running", |now| now["state"] == "running")?;
            generations.push(shown["generation"].as_u64().context("no generation")?);
            let sequence = client.push_one(id, "ok")?;
            wait_for_installation(client, id, "taken", |now| number(now, "cursor") >= sequence)?;
        }
        generations.sort_unstable();
        generations.dedup();
        ensure!(generations.len() == ids.len(), "a generation was given twice: {generations:?}");
        Ok(())
    };
    check(client)?;
    ensure!(client.get("/readyz")?.json()?["ready"] == true);
    server.stop()?;
    check(setup.start()?.client())
}

#[test]
fn an_upload_whose_caller_hangs_up_is_done_all_the_same() -> Result<()> {
    let server = Setup::new()?.start()?;
    let client = server.client();
    let tar = guests::package("hostile")?.tar();
    send_and_hang_up(client, "POST", "/v1/packages", PACKAGE, &tar, Duration::from_millis(100))?;
    ensure!(client.all("/v1/packages")?.is_empty(), "it was done before the caller hung up");
    wait_until("the package to be there", || Ok(client.all("/v1/packages")?.len() == 1))
}

#[test]
fn a_pause_acts_at_once_while_the_app_is_under_way() -> Result<()> {
    let server = Setup::new()?.start()?;
    let client = server.client();
    install_patient(client, "looping")?;
    let sequence = begin_loop(&server, "looping")?;
    let begun = Instant::now();
    let paused = client.post("/v1/installations/looping/pause", &json!({}))?.json()?;
    // Ten seconds of CPU time are a hundred on the wall.
    ensure!(begun.elapsed() < Duration::from_secs(5), "{:?}", begun.elapsed());
    ensure!(paused["state"] == "paused", "{paused}");
    ensure!(number(&paused, "cursor") < sequence && number(&paused, "counters.failures") == 0, "{paused}");
    ensure!(number(&paused, "counters.invocations") == 0, "what was cut off left a record: {paused}");
    let interrupted = "ironloom_invocations_total{outcome=\"interrupted\"} 1";
    wait_until("one invocation to be counted as interrupted", || {
        Ok(client.get("/metrics")?.text().lines().any(|line| line == interrupted))
    })?;
    // It is paused for good: nothing runs.
    std::thread::sleep(Duration::from_millis(300));
    ensure!(number(&client.installation("looping")?, "counters.invocations") == 0);

    let begun = Instant::now();
    client.post("/v1/installations/looping/resume", &json!({}))?.json()?;
    std::thread::sleep(Duration::from_millis(300));
    client.delete("/v1/installations/looping")?.json()?;
    ensure!(begun.elapsed() < Duration::from_secs(5), "{:?}", begun.elapsed());
    client.get("/v1/installations/looping")?.problem(404)?;
    Ok(())
}

#[test]
fn pause_and_uninstall_act_while_something_compiles() -> Result<()> {
    let server = Setup::new()?.start()?;
    let client = server.client().clone();
    let package = guests::package("hostile")?;
    for id in ["one", "two"] {
        install(&client, id, &package, json!({"command": [id]}), json!({}))?;
    }
    let manifest = std::fs::read_to_string(guests::folder_of("hostile").join("app.toml"))?;
    let slow = package::pack(&manifest, &slow_component(4_000)).tar();
    let uploader = client.clone();
    let upload = std::thread::spawn(move || {
        uploader.send("POST", "/v1/packages", &[("content-type", PACKAGE)], &slow)
    });
    std::thread::sleep(Duration::from_millis(1_500));
    ensure!(!upload.is_finished(), "the component compiles too fast to test anything");
    let begun = Instant::now();
    client.post("/v1/installations/one/pause", &json!({}))?.json()?;
    client.delete("/v1/installations/two")?.json()?;
    install(&client, "three", &package, json!({"command": ["three"]}), json!({}))?;
    ensure!(!upload.is_finished(), "all of this waited for the compiler");
    println!("pause, uninstall and install took {:?} while something compiled", begun.elapsed());
    let answer = upload.join().map_err(|_| anyhow::anyhow!("the upload panicked"))??;
    answer.problem(422)?;
    Ok(())
}

#[test]
fn a_backlog_is_kept_or_dropped_with_a_count_and_only_of_one_that_stands_still() -> Result<()> {
    let setup = Setup::new()?;
    let server = setup.start()?;
    let client = server.client();
    install(client, "app", &guests::package("hostile")?, json!({"command": ["app"]}), json!({}))?;
    let path = "/v1/installations/app";
    let drop = json!({"backlog": "drop"});
    client.post(&format!("{path}/resume"), &drop)?.problem(409)?;
    client.post(&format!("{path}/pause"), &json!({}))?.json()?;
    client.post(&format!("{path}/pause"), &json!({}))?.json()?;
    for _ in 0..3 {
        client.push_one("app", "reject")?;
    }
    client.push_one("somebody/else", 1)?;
    let resumed = client.post(&format!("{path}/resume"), &drop)?.json()?;
    ensure!(resumed["dropped"] == 3 && resumed["state"] == "running", "{resumed}");
    let sequence = client.push_one("app", "ok")?;
    let shown = wait_for_installation(client, "app", "taken", |now| number(now, "cursor") >= sequence)?;
    ensure!(number(&shown, "counters.dead_letters") == 0, "what was dropped ran after all: {shown}");
    ensure!(number(&shown, "counters.readings") == 1, "{shown}");

    client.post(&format!("{path}/pause"), &json!({}))?.json()?;
    let sequence = client.push_one("app", "reject")?;
    server.stop()?;
    let server = setup.start()?;
    let client = server.client();
    ensure!(client.installation("app")?["state"] == "paused");
    let resumed = client.post(&format!("{path}/resume"), &json!({"backlog": "keep"}))?.json()?;
    ensure!(resumed["dropped"] == 0, "{resumed}");
    let shown = wait_for_installation(client, "app", "worked off", |now| number(now, "cursor") >= sequence)?;
    ensure!(number(&shown, "counters.dead_letters") == 1, "{shown}");
    // On one that runs nothing happens, and nothing is dropped.
    client.post(&format!("{path}/resume"), &json!({}))?.json()?;
    Ok(())
}

#[test]
fn alarms_are_acknowledged_for_good() -> Result<()> {
    let setup = Setup::new()?;
    let server = setup.start()?;
    let client = server.client();
    install(client, "app", &guests::package("hostile")?, json!({"command": ["app"]}), json!({}))?;
    client.push_one("app", "many-alarms")?;
    // The call is refused beyond 10,000, so that 10,000 stand.
    let alarms = wait_for("the alarms", || {
        let page = client.get("/v1/alarms?limit=2")?.json()?;
        Ok((page["items"].as_array().is_some_and(|items| items.len() == 2)).then_some(page))
    })?;
    let id = alarms["items"][0]["id"].as_str().context("no id")?.to_owned();
    ensure!(alarms["items"][0]["state"] == "unacknowledged", "{alarms}");
    let acknowledged = client.post(&format!("/v1/alarms/{id}/ack"), &json!({}))?.json()?;
    ensure!(
        acknowledged["state"] == "acknowledged" && acknowledged["acknowledged"]["at"].is_string(),
        "{acknowledged}"
    );
    // Again: nothing happens.
    let again = client.post(&format!("/v1/alarms/{id}/ack"), &json!({}))?.json()?;
    ensure!(again == acknowledged, "{again}");
    client.post("/v1/alarms/1-999999/ack", &json!({}))?.problem(404)?;
    client.post("/v1/alarms/nonsense/ack", &json!({}))?.problem(404)?;
    client.get("/v1/alarms?after=nonsense")?.problem(400)?;
    let all = client.all("/v1/alarms")?;
    ensure!(all.len() == 10_000, "{}", all.len());
    let mut ids: Vec<_> = all.iter().map(|alarm| alarm["id"].to_string()).collect();
    ids.sort();
    ids.dedup();
    ensure!(ids.len() == 10_000, "pages repeat alarms");
    server.stop()?;
    let server = setup.start()?;
    let first = server.client().get("/v1/alarms?limit=1")?.json()?;
    ensure!(first["items"][0] == acknowledged, "{first}");
    Ok(())
}

#[test]
fn dead_letters_are_deleted_and_requeued_only_where_something_runs() -> Result<()> {
    let server = Setup::new()?.start()?;
    let client = server.client();
    install(client, "app", &guests::package("hostile")?, json!({"command": ["app"]}), json!({}))?;
    let path = "/v1/installations/app";
    client.push_one("app", "reject")?;
    let letters = wait_for("a dead letter", || {
        let letters = client.all(&format!("{path}/dead-letters"))?;
        Ok((letters.len() == 1).then_some(letters))
    })?;
    let letter = letters[0]["number"].as_u64().context("no number")?;
    client.post(&format!("{path}/pause"), &json!({}))?.json()?;
    client.post(&format!("{path}/dead-letters/{letter}/requeue"), &json!({}))?.problem(409)?;
    client.post(&format!("{path}/resume"), &json!({}))?.json()?;
    let requeued = client.post(&format!("{path}/dead-letters/{letter}/requeue"), &json!({}))?;
    ensure!(requeued.status == 202, "{}", requeued.text());
    let invocations = wait_for("the second try", || {
        let all = client.all(&format!("{path}/invocations"))?;
        Ok(all.iter().any(|one| one["kind"] == "requeue").then_some(all))
    })?;
    let again = invocations.iter().find(|one| one["kind"] == "requeue").context("gone")?;
    ensure!(again["dead_letter"] == letter && again["message"] == "rejected, as told", "{again}");
    let new = wait_for("the new dead letter", || {
        let letters = client.all(&format!("{path}/dead-letters"))?;
        Ok(letters.iter().find_map(|one| one["number"].as_u64().filter(|number| *number > letter)))
    })?;
    ensure!(client.delete(&format!("{path}/dead-letters/{new}"))?.status == 204);
    client.delete(&format!("{path}/dead-letters/{new}"))?.problem(404)?;
    client.post(&format!("{path}/dead-letters/{new}/requeue"), &json!({}))?.problem(404)?;
    Ok(())
}

#[test]
fn a_damaged_package_is_told_and_healed_by_adding_it_again() -> Result<()> {
    let setup = Setup::new()?;
    let server = setup.start()?;
    let package = guests::package("hostile")?;
    install(server.client(), "app", &package, json!({"command": ["app"]}), json!({}))?;
    server.stop()?;
    for entry in std::fs::read_dir(setup.data().join("code"))? {
        std::fs::remove_file(entry?.path())?;
    }
    let file = std::fs::read_dir(setup.data().join("packages"))?.next().context("no file")??.path();
    let mut bytes = std::fs::read(&file)?;
    let middle = bytes.len() / 2;
    bytes[middle] ^= 1;
    std::fs::write(&file, bytes)?;

    // One app that can't be loaded doesn't make the server unready.
    let server = setup.start()?;
    let client = server.client();
    // Until it was tried, the note says that its code is being compiled.
    wait_for("a note of it", || {
        let ready = client.get("/readyz")?.json()?;
        let notes = ready["notes"].to_string();
        Ok((notes.contains("app doesn't run") && notes.contains("damaged")).then_some(()))
    })?;
    let shown = client.installation("app")?;
    ensure!(shown["state"] == "starting" && shown["last_error"]["kind"] == "load", "{shown}");
    let again = client.send("POST", "/v1/packages", &[("content-type", PACKAGE)], &package.tar())?;
    ensure!(again.status == 200, "{}", again.text());
    let sequence = client.push_one("app", "ok")?;
    let shown = wait_for_installation(client, "app", "running", |now| number(now, "cursor") >= sequence)?;
    ensure!(shown["last_error"].is_null(), "{shown}");
    Ok(())
}

#[test]
fn a_stop_answers_or_ends_what_is_under_way() -> Result<()> {
    let setup = Setup::new()?;
    let server = setup.start()?;
    let client = server.client().clone();
    install_patient(&client, "looping")?;
    begin_loop(&server, "looping")?;
    let manifest = std::fs::read_to_string(guests::folder_of("hostile").join("app.toml"))?;
    let slow = package::pack(&manifest, &slow_component(4_000)).tar();
    let upload =
        std::thread::spawn(move || client.send("POST", "/v1/packages", &[("content-type", PACKAGE)], &slow));
    std::thread::sleep(Duration::from_millis(1_500));
    ensure!(!upload.is_finished());
    let begun = Instant::now();
    let status = server.stop()?;
    ensure!(status.success(), "{status}: {}", setup.said());
    let took = begun.elapsed();
    println!("stopped in {took:?}");
    // Whether the component is compiled before the stop is through depends on the machine. It lacks a role.
    match upload.join().map_err(|_| anyhow::anyhow!("the upload panicked"))? {
        Ok(answer) => ensure!(matches!(answer.status, 422 | 503), "{}: {}", answer.status, answer.text()),
        // A stop waits ten seconds for what is under way.
        Err(error) => ensure!(took > Duration::from_secs(9), "cut off {took:?} after the signal: {error:#}"),
    }
    let server = setup.start()?;
    ensure!(server.client().installation("looping")?["id"] == "looping");
    Ok(())
}

#[test]
fn a_package_shows_all_that_it_asks_for() -> Result<()> {
    let server = Setup::new()?.start()?;
    let client = server.client();
    let package = guests::package("hostile")?;
    let digest = client.add_package(&package.tar())?;
    let shown = client.get(&format!("/v1/packages/{digest}"))?.json()?;
    let expected = json!({
        "license": "Apache-2.0",
        "alarms": {"noise": {"severity": "low"}},
        "timers": {"never": {"cron": "0 0 29 2 *"}},
        "schedule": true,
        "limits": {"memory": "32 MiB", "cpu": "100 ms", "state": "1 MiB"},
    });
    for (field, value) in expected.as_object().context("no fields")? {
        ensure!(shown[field] == *value, "{field}: {shown}");
    }
    ensure!(shown["sdk"].is_string(), "{shown}");
    client
        .post("/v1/installations", &request("app", &package::digest(b"nothing"), json!({}), json!({})))?
        .problem(422)?;
    Ok(())
}

#[test]
fn a_start_says_which_installations_keep_what_the_configuration_no_longer_says() -> Result<()> {
    let setup = Setup::new()?;
    let server = setup.start()?;
    let folder = guests::workspace().join("sample-apps/thermometer");
    let thermometer = guests::package_of("thermometer", &folder)?;
    install(server.client(), "rooms", &thermometer, json!({"temperature": ["house/{room}"]}), json!({}))?;
    ensure!(server.stop()?.success());
    ensure!(!setup.said().contains("installations keep"), "{}", setup.said());

    let config = "[limits]\nmemory = \"16 MiB\"\ncpu = \"300 ms\"\n[site]\ntimezone = \"Europe/Berlin\"\n";
    let setup = setup.config(config);
    let server = setup.start()?;
    let said = setup.said();
    ensure!(said.contains("rooms (UTC)") && said.contains("isn't that of [site] timezone"), "{said}");
    ensure!(said.contains("rooms (memory 32 MiB, now 16 MiB, cpu 200 ms, now 300 ms)"), "{said}");
    let kept = server.client().installation("rooms")?;
    assert_eq!((&kept["timezone"], &kept["limits"]["memory"]), (&json!("UTC"), &json!("32 MiB")));

    // Installed again it has what the file says, and there is nothing to tell any more.
    server.client().delete("/v1/installations/rooms?purge=true")?.json()?;
    install(server.client(), "rooms", &thermometer, json!({"temperature": ["house/{room}"]}), json!({}))?;
    ensure!(server.stop()?.success());
    let told = setup.said().matches("installations keep").count();
    setup.start()?.stop()?;
    assert_eq!(setup.said().matches("installations keep").count(), told);
    Ok(())
}

#[test]
fn points_that_an_installation_does_not_get_are_shown() -> Result<()> {
    let setup = Setup::new()?;
    let server = setup.start()?;
    let client = server.client();
    let bindings = json!({"value": ["a/{what}", "b/{what}"]});
    install(client, "sums", &guests::package("one-state")?, bindings, json!({}))?;
    assert_eq!(client.installation("sums")?["left_out"], json!({"points": 0, "samples": []}));
    client.push_one("a/7", 1)?;
    client.push_one("b/7", 2)?;
    client.push_one("b/8", 3)?;
    let reason = "another point is already the entity \"7\" of this input";
    let expected = json!({"points": 1, "samples": [{"point": "b/7", "input": "value", "reason": reason}]});
    assert_eq!(client.installation("sums")?["left_out"], expected);
    let shown = String::from_utf8(server.cli(&["show", "sums"])?.stdout)?;
    ensure!(shown.contains("1 point") && shown.contains("b/7 of input value: another point"), "{shown}");
    let listed = String::from_utf8(server.cli(&["list"])?.stdout)?;
    ensure!(listed.contains("LEFT OUT"), "{listed}");
    server.kill()?;
    for checkpoint in [false, true] {
        // A clean end makes a checkpoint.
        if checkpoint {
            ensure!(setup.start()?.stop()?.success());
        }
        let server = setup.start()?;
        assert_eq!(server.client().installation("sums")?["left_out"], expected, "checkpoint: {checkpoint}");
        server.kill()?;
    }
    Ok(())
}

#[test]
fn an_installation_makes_no_more_points_than_it_was_granted() -> Result<()> {
    let server = Setup::new()?.start()?;
    let client = server.client();
    let more = json!({"settings": {"publish": true}, "limits": {"points": 2}});
    let installed =
        install(client, "few", &guests::package("one-state")?, json!({"value": ["a/{what}"]}), more)?;
    assert_eq!(installed["limits"]["points"], 2, "{installed}");
    for what in ["a/1", "a/2", "a/1", "a/3"] {
        client.push_one(what, 1)?;
    }
    let shown = wait_for_installation(client, "few", "what is refused", |now| now["last_error"].is_object())?;
    ensure!(
        shown["last_error"]["message"].to_string().contains("as many points as it may make, 2"),
        "{shown}"
    );
    let made: Vec<_> =
        client.all("/v1/points?prefix=apps/few/")?.iter().map(|item| item["point"].clone()).collect();
    assert_eq!(made, ["apps/few/count/1", "apps/few/count/2"]);
    // What others make is no business of it.
    client.push_one("b/1", 1)?;
    Ok(())
}

/// An app that publishes, and one that reads it and asks to be called again for ever.
fn install_unread(client: &Client) -> Result<()> {
    let hostile = guests::package("hostile")?;
    install(client, "pub", &hostile, json!({"command": ["pub"]}), json!({}))?;
    let reads = json!({"command": ["reads/{who}", "apps/pub/echo/{who}"]});
    install(client, "reads", &hostile, reads, json!({}))?;
    client.push_one("reads/x", "retry")?;
    let sequence = client.push_one("pub", "publish")?;
    wait_for_installation(client, "pub", "its output", |now| number(now, "cursor") >= sequence)?;
    wait_for_installation(client, "reads", "its retry", |now| now["last_error"].is_object())?;
    Ok(())
}

#[test]
fn a_purge_that_waits_for_readers_holds_nobody_up() -> Result<()> {
    // The feed's clock goes ahead, and then it is the machine's clock again.
    let setup = Setup::new()?;
    {
        let server = setup.clone().config("[site]\nclock = \"feed\"\n").start()?;
        let ahead = (jiff::Timestamp::now() + jiff::SignedDuration::from_hours(24)).to_string();
        let line = json!({"point": "clock", "value": 1, "at": ahead});
        server.client().push(line.to_string().as_bytes(), None)?.json()?;
        ensure!(server.stop()?.success());
    }
    let server = setup.start()?;
    let client = server.client();
    install_unread(client)?;
    install(client, "other", &guests::package("hostile")?, json!({"command": ["other"]}), json!({}))?;

    let purge = |_: usize| {
        let client = client.clone();
        std::thread::spawn(move || client.delete("/v1/installations/pub?purge=true")?.problem(409))
    };
    let purges: Vec<_> = (0..3).map(purge).collect();
    // One of them waits five seconds; the others are refused.
    wait_until("the purges that are refused at once", || {
        Ok(purges.iter().filter(|purge| purge.is_finished()).count() == 2)
    })?;
    let now = jiff::Timestamp::now().to_string();
    client.post("/v1/clock", &json!({"now": now}))?.json()?;
    let sequence = client.push_one("other", "ok")?;
    wait_for_installation(client, "other", "its reading", |now| number(now, "cursor") >= sequence)?;
    install(client, "late", &guests::package("hostile")?, json!({"command": ["late"]}), json!({}))?;
    client.post("/v1/installations/pub/pause", &json!({}))?.json()?;
    let waits = purges.iter().filter(|purge| !purge.is_finished()).count();
    assert_eq!(waits, 1, "none of these waited for the purge");

    let mut kinds = Vec::new();
    for purge in purges {
        let problem = purge.join().map_err(|_| anyhow::anyhow!("a purge panicked"))??;
        kinds.push(problem["kind"].as_str().context("no kind")?.to_owned());
    }
    kinds.sort();
    assert_eq!(kinds, ["purging", "purging", "unread"]);
    // It goes on as before, and is purged once its reader is gone.
    client.post("/v1/installations/pub/resume", &json!({}))?.json()?;
    let sequence = client.push_one("pub", "ok")?;
    wait_for_installation(client, "pub", "its reading", |now| number(now, "cursor") >= sequence)?;
    client.delete("/v1/installations/reads")?.json()?;
    client.delete("/v1/installations/pub?purge=true")?.json()?;
    Ok(())
}
