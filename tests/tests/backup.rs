//! Backups of a server that is being written to, for each engine: what was acknowledged before is in them, what is in
//! them is a beginning of what the server has, and the restored state is what the restored journal gives.

use std::fs;
use std::io::Write as _;
use std::net::TcpStream;
use std::os::unix::fs::PermissionsExt as _;
use std::path::PathBuf;
use std::process::{Command, Output, Stdio};
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, ensure};
use ironloom_tests::apps::install;
use ironloom_tests::http::Client;
use ironloom_tests::load::Load;
use ironloom_tests::server::binary;
use ironloom_tests::{Server, Setup, guests, model, wait_until};
use serde_json::json;

fn config(engine: &str) -> String {
    format!("[store]\nengine = \"{engine}\"\n\n[log]\ncheckpoint = \"1 MiB\"\n")
}

fn run(arguments: &[&str]) -> Result<Output> {
    Ok(Command::new(binary()?).args(arguments).output()?)
}

fn said(output: &Output) -> String {
    format!(
        "{} {}{}",
        output.status,
        String::from_utf8_lossy(&output.stdout),
        String::from_utf8_lossy(&output.stderr)
    )
}

fn text(path: &std::path::Path) -> String {
    path.display().to_string()
}

/// Checkpoints that were made.
fn checkpoints(server: &Server) -> Result<u64> {
    let metrics = server.client().get("/metrics")?.text();
    let line = metrics.lines().find_map(|line| line.strip_prefix("ironloom_checkpoint_seconds_count "));
    Ok(line.context("no count of checkpoints")?.parse()?)
}

/// Backs a server up while it is pushed to, and gives the file and what was acknowledged before.
fn backed_up(server: &Server, load: &Load, file: &str) -> Result<(PathBuf, u64)> {
    let path = server.setup().folder().join(file);
    let (stop, client) = (AtomicBool::new(false), server.client());
    std::thread::scope(|scope| {
        let pushing = scope.spawn(|| load.run(client, 2, 100, Duration::from_millis(2), &stop));
        let began = checkpoints(server)?;
        let result =
            wait_until("checkpoints under load", || Ok(checkpoints(server)? >= began + 2)).and_then(|()| {
                let before = client.push_one("mark/before", 1.0)?;
                let output = server.cli(&["backup", &text(&path)])?;
                ensure!(output.status.success(), "{}", said(&output));
                ensure!(said(&output).contains("whole"), "{}", said(&output));
                Ok(before)
            });
        stop.store(true, Ordering::SeqCst);
        match pushing.join() {
            Ok(pushed) => pushed?,
            Err(_) => anyhow::bail!("the load panicked"),
        }
        Ok((path, result?))
    })
}

fn a_backup_under_load(engine: &str, other: &str) -> Result<()> {
    let setup = Setup::new()?.config(config(engine));
    let server = setup.start()?;
    let client = server.client();
    let package = guests::package("one-state")?;
    let bindings = json!({"value": ["load/{point}/value"]});
    install(client, "plain", &package, bindings.clone(), json!({}))?;
    install(client, "loud", &package, bindings, json!({"settings": {"publish": true}}))?;
    let load = Load::new("load", 300);
    let (file, before) = backed_up(&server, &load, "one.backup")?;
    load.repeat_unanswered(client)?;
    let original = client.journal(0, "")?;

    for engine in [engine, other] {
        let data = setup.folder().join(format!("restored-{engine}"));
        let output = run(&["restore", &text(&file), "--data", &text(&data), "--engine", engine])?;
        ensure!(output.status.success(), "{}", said(&output));
        let restored = Setup::new()?.config(config(engine)).data_in(&data).start()?;
        let there = restored.client();
        model::wait_until_done(there, "plain")?;
        model::wait_until_done(there, "loud")?;
        let journal = there.journal(0, "")?;
        // Readings that "loud" derives after the restore come anew, behind what was backed up.
        let same =
            journal.iter().zip(&original).take_while(|(restored, original)| restored == original).count();
        ensure!(same as u64 >= before, "{same} readings are the same, and {before} were acknowledged before");
        let new = journal[same..].iter().find(|reading| reading["entity"].is_null() && is_pushed(reading));
        ensure!(new.is_none(), "{new:?} is none that the server had at the moment of the backup");
        ensure!(same < original.len(), "the load went on during the backup");
        model::compare_with(&journal, there, "plain", "load", "value")?;
        model::compare_with(&journal, there, "loud", "load", "value")?;
        // It goes on from there.
        let next = there.push_one("mark/after", 2.0)?;
        ensure!(next == journal.len() as u64 + 1, "{next} after {}", journal.len());
        ensure!(restored.stop()?.success());
    }
    // The one that was backed up has lost nothing.
    load.check(&client.journal(0, "")?)?;
    ensure!(server.stop()?.success());
    Ok(())
}

fn is_pushed(reading: &serde_json::Value) -> bool {
    reading["point"].as_str().is_some_and(|point| !point.starts_with("apps/"))
}

#[test]
fn a_backup_of_redb_under_load_is_a_beginning_of_what_the_server_has() -> Result<()> {
    a_backup_under_load("redb", "sled")
}

#[test]
fn a_backup_of_sled_under_load_is_a_beginning_of_what_the_server_has() -> Result<()> {
    a_backup_under_load("sled", "redb")
}

#[test]
fn a_restored_folder_is_not_mixed_up_with_the_one_that_was_backed_up() -> Result<()> {
    let setup = Setup::new()?;
    let server = setup.start()?;
    server.client().push_one("a/b", 1.0)?;
    let file = text(&setup.folder().join("one.backup"));
    let told = server.cli_json(&["backup", &file])?;
    ensure!(told["engine"] == "redb" && told["packages"] == 0, "{told}");
    ensure!(fs::metadata(&file)?.permissions().mode() & 0o777 == 0o600, "for its owner alone");
    let elsewhere = server.client().send("GET", "/v1/backup", &[("sec-fetch-site", "cross-site")], &[])?;
    elsewhere.problem(403)?;
    let head = server.client().send("HEAD", "/v1/backup", &[], &[])?;
    ensure!(head.status == 200 && head.text().is_empty(), "only what it would be");
    let again = server.cli(&["backup", &file])?;
    ensure!(again.status.code() == Some(2) && said(&again).contains("is there already"), "{}", said(&again));
    ensure!(server.stop()?.success());

    let data = setup.folder().join("restored");
    let output = run(&["restore", &file, "--data", &text(&data)])?;
    ensure!(output.status.success(), "{}", said(&output));
    let output = run(&["restore", &file, "--data", &text(&data)])?;
    ensure!(output.status.code() == Some(1) && said(&output).contains("isn't empty"), "{}", said(&output));
    // The store of the one with the log of the other.
    fs::remove_dir_all(data.join("log"))?;
    let copied = Command::new("cp").arg("-r").arg(setup.data().join("log")).arg(data.join("log")).status()?;
    ensure!(copied.success());
    let mixed = Setup::new()?.data_in(&data);
    let ended = mixed.run_to_end()?;
    ensure!(
        ended.code() == Some(1) && mixed.said().contains("was written with another store"),
        "{}",
        mixed.said()
    );
    Ok(())
}

#[test]
fn a_backup_that_is_cut_off_or_changed_is_refused_and_nothing_of_it_stays() -> Result<()> {
    let setup = Setup::new()?;
    let server = setup.start()?;
    server.client().push_one("a/b", 1.0)?;
    let file = setup.folder().join("one.backup");
    server.cli_json(&["backup", &text(&file)])?;
    ensure!(run(&["restore", "--check", &text(&file)])?.status.success());
    let whole = fs::read(&file)?;
    for (name, bytes) in [
        ("cut", whole[..whole.len() / 2].to_vec()),
        ("changed", {
            let mut bytes = whole.clone();
            let middle = bytes.len() / 2;
            bytes[middle] ^= 1;
            bytes
        }),
    ] {
        fs::write(&file, bytes)?;
        let data = setup.folder().join(name);
        let output = run(&["restore", &text(&file), "--data", &text(&data)])?;
        ensure!(
            output.status.code() == Some(1) && said(&output).contains("damaged"),
            "{name}: {}",
            said(&output)
        );
        ensure!(!data.exists(), "{name}: nothing stays");
        ensure!(run(&["restore", "--check", &text(&file)])?.status.code() == Some(1));
    }
    // A restore that was killed: neither a server nor anybody else takes its folder for one with data.
    let data = setup.folder().join("killed");
    fs::create_dir_all(data.join("log"))?;
    fs::write(data.join("restoring"), "")?;
    let half = Setup::new()?.data_in(&data);
    let ended = half.run_to_end()?;
    ensure!(ended.code() == Some(1) && half.said().contains("a restore that was cut off"), "{}", half.said());
    fs::write(&file, whole)?;
    ensure!(run(&["restore", &text(&file), "--data", &text(&data)])?.status.success());
    let restored = half.start()?;
    ensure!(restored.client().journal(0, "")?.len() == 1);
    Ok(())
}

/// Pushes values that don't compress, 4 MiB at a time.
fn push_random(client: &Client, times: usize) -> Result<()> {
    let mut random = 1u64;
    for _ in 0..times {
        let mut body = String::new();
        for point in 0..80 {
            let text: String = (0..6_000)
                .map(|_| {
                    random = random
                        .wrapping_mul(6_364_136_223_846_793_005)
                        .wrapping_add(1_442_695_040_888_963_407);
                    format!("{:08x}", random >> 32)
                })
                .collect();
            body.push_str(&format!("{{\"point\":\"p/{point}\",\"value\":\"{text}\"}}\n"));
        }
        client.push(body.as_bytes(), None)?.json()?;
    }
    Ok(())
}

#[test]
fn one_backup_at_a_time_and_a_stop_ends_it_with_the_reason() -> Result<()> {
    let setup = Setup::new()?;
    let server = setup.start()?;
    let client = server.client();
    // 16 MiB, of which 1 MiB a second goes out.
    push_random(client, 4)?;
    // One that is broken off leaves nothing.
    let file = setup.folder().join("interrupted.backup");
    let mut interrupted = Command::new(binary()?);
    interrupted.args(["backup", &text(&file), "--pace", "1 MiB"]).env("IRONLOOM_URL", client.url());
    let mut interrupted = interrupted.stderr(Stdio::null()).spawn()?;
    let part = setup.folder().join("interrupted.backup.part");
    wait_until("the first bytes", || Ok(fs::metadata(&part).is_ok_and(|part| part.len() > 0)))?;
    rustix::process::kill_process(
        rustix::process::Pid::from_child(&interrupted),
        rustix::process::Signal::INT,
    )?;
    ensure!(interrupted.wait()?.code() == Some(130) && !file.exists() && !part.exists());
    wait_until("its place", || Ok(setup.said().contains("a backup broke off")))?;

    let file = setup.folder().join("slow.backup");
    let mut slow = Command::new(binary()?);
    slow.args(["backup", &text(&file), "--pace", "1 MiB"]).env("IRONLOOM_URL", client.url());
    let slow = slow.stdout(Stdio::piped()).stderr(Stdio::piped()).spawn()?;
    let begun = || setup.said().matches("a backup is being written").count();
    wait_until("the second backup", || Ok(begun() == 2))?;
    client.get("/v1/backup")?.problem(409)?;
    client.get("/v1/backup?pace=1kB")?.problem(400)?;
    ensure!(server.stop()?.success());
    let ended = slow.wait_with_output()?;
    // The reason comes with the backup, unless the connection ends before.
    let told = said(&ended).contains("the server stops") || said(&ended).contains("broke off its answer");
    ensure!(matches!(ended.status.code(), Some(1 | 3)) && told, "{}", said(&ended));
    ensure!(!file.exists() && !setup.folder().join("slow.backup.part").exists(), "nothing is left");
    Ok(())
}

/// A stop waits 10 s for requests that are under way.
#[test]
fn a_stop_waits_for_nobody_who_asks_for_a_backup_and_reads_none() -> Result<()> {
    let setup = Setup::new()?;
    let server = setup.start()?;
    let client = server.client();
    // More than the system's buffers and the server's hold.
    push_random(client, 16)?;
    let address = client.url().trim_start_matches("http://").to_owned();
    let mut reader = TcpStream::connect(&address)?;
    write!(reader, "GET /v1/backup HTTP/1.1\r\nhost: {address}\r\n\r\n")?;
    wait_until("the backup", || Ok(setup.said().contains("a backup is being written")))?;
    let begun = Instant::now();
    ensure!(server.stop()?.success());
    ensure!(begun.elapsed() < Duration::from_secs(8), "{:?}", begun.elapsed());
    Ok(())
}
