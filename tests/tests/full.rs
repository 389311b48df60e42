//! A disk without room, and a log that can't be written: what is refused, with which words and exit code, and that
//! nothing of what was acknowledged is lost.

use std::fs;
use std::io::Write as _;
use std::os::unix::fs::FileExt as _;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, ensure};
use ironloom_tests::apps::{install, number, wait_for_installation};
use ironloom_tests::{Client, Setup, guests, wait_until};
use rand::{RngExt as _, SeedableRng as _};
use serde_json::{Value, json};

#[test]
fn below_the_reserve_pushes_and_installs_are_refused_and_reads_go_on() -> Result<()> {
    let setup = Setup::new()?;
    {
        let server = setup.start()?;
        server.client().push_one("room/temperature", 21.5)?;
        ensure!(server.stop()?.success());
    }
    // No disk has that much room.
    let server = setup.clone().config("[store]\nreserve = \"1000000 GiB\"\n").start_listening()?;
    let client = server.client();
    let problem = client.push(b"{\"point\":\"room/temperature\",\"value\":22.0}", None)?.problem(507)?;
    assert_eq!(problem["kind"], "storage-full");
    ensure!(problem["detail"].to_string().contains("disk"), "{problem}");
    let package = guests::package("one-state")?;
    let refused = match client.add_package(&package.tar()) {
        // Where it is refused, at adding or at installing, is the server's choice.
        Ok(digest) => {
            let body =
                ironloom_tests::apps::request("one", &digest, json!({"value": ["room/{what}"]}), json!({}));
            client.post("/v1/installations", &body)?.problem(507)?["kind"].to_string()
        }
        Err(error) => format!("{error:#}"),
    };
    ensure!(refused.contains("storage-full"), "{refused}");
    let ready = client.get("/readyz")?;
    ensure!(ready.status == 503 && ready.text().contains("disk"), "{}", ready.text());
    assert_eq!(client.journal(0, "")?.len(), 1, "what is there can be read");
    ensure!(server.stop()?.success());

    let server = setup.start()?;
    server.client().push_one("room/temperature", 22.5)?;
    assert_eq!(server.client().journal(0, "")?.len(), 2);
    Ok(())
}

#[test]
fn a_log_that_cant_be_written_ends_the_server_with_75_and_loses_nothing() -> Result<()> {
    let setup = Setup::new()?;
    let mut server = setup.start()?;
    let client = server.client().clone();
    client.push_one("mark", 0)?;
    // Further segments can't be made any more: all their names are taken.
    for number in 0..1_000 {
        let path = setup.data().join(format!("log/new-{number:020}.free"));
        if !path.exists() {
            fs::write(&path, "")?;
        }
    }
    // 6 MB each: a segment has 64 MiB.
    let text = "x".repeat(60_000);
    let big = format!("{}\n", json!({"point": "big", "value": text})).repeat(100);
    let (mut acknowledged, mut answer) = (0, None);
    for n in 1..=40 {
        let body = format!("{}\n{big}", json!({"point": "mark", "value": n}));
        match client.push(body.as_bytes(), None) {
            Ok(pushed) if pushed.status == 200 => acknowledged = n,
            other => {
                answer = Some(other);
                break;
            }
        }
    }
    let answer = answer.context("everything was taken, although no segment could be begun")?;
    let problem = answer.context("the server ended before its answer was out")?.problem(503)?;
    assert_eq!(problem["kind"], "unknown-outcome", "{problem}");
    let ended = server.wait()?;
    assert_eq!(ended.code(), Some(75), "{}", setup.said());
    ensure!(setup.said().contains("log"), "{}", setup.said());

    let server = setup.start()?;
    let marks = marks(server.client())?;
    // Each that was acknowledged, and the one that wasn't whole or not at all.
    ensure!(
        marks == (0..=acknowledged).collect::<Vec<_>>()
            || marks == (0..=acknowledged + 1).collect::<Vec<_>>(),
        "{marks:?}"
    );
    ensure!(acknowledged >= 5, "only {acknowledged} were taken before the segment was full");
    Ok(())
}

fn marks(client: &Client) -> Result<Vec<u64>> {
    let readings = client.journal(0, "point=mark")?;
    readings.iter().map(|reading| reading["value"].as_u64().context("no integer")).collect()
}

#[test]
fn who_takes_the_logs_files_away_ends_the_server_with_75() -> Result<()> {
    ends_where_a_file_is_gone(Setup::new()?, "log", "log")
}

#[test]
fn who_takes_the_journals_files_away_ends_the_server_with_75() -> Result<()> {
    ends_where_a_file_is_gone(Setup::new()?, "journal", "journal")
}

#[test]
fn who_takes_the_stores_file_away_ends_the_server_with_75() -> Result<()> {
    ends_where_a_file_is_gone(Setup::new()?, "store/redb/db.redb", "store/redb/db.redb")
}

#[test]
fn who_takes_the_other_engines_file_away_ends_the_server_with_75() -> Result<()> {
    let setup = Setup::new()?.config("[store]\nengine = \"sled\"\n");
    ends_where_a_file_is_gone(setup, "store/sled/db", "store/sled/db")
}

/// Moves a file or a folder of the data folder away while the server runs, and puts it back afterwards.
fn ends_where_a_file_is_gone(setup: Setup, moved: &str, named: &str) -> Result<()> {
    let server = setup.start()?;
    server.client().push_one("mark", 0)?;
    // So that there is a block file, too.
    ensure!(server.stop()?.success());
    let mut server = setup.start()?;
    let client = server.client().clone();
    client.push_one("mark", 1)?;
    let (from, to) = (setup.data().join(moved), setup.folder().join("away"));
    fs::rename(&from, &to)?;
    let mut acknowledged = 1;
    let began = Instant::now();
    while client.push_one("mark", acknowledged + 1).is_ok() {
        acknowledged += 1;
        ensure!(began.elapsed() < Duration::from_secs(20), "pushes are taken without {moved}");
        std::thread::sleep(Duration::from_millis(20));
    }
    let ended = server.wait()?;
    assert_eq!(ended.code(), Some(75), "{}", setup.said());
    let (said, path) = (setup.said(), setup.data().join(named).display().to_string());
    ensure!(said.contains(&path) && said.contains("was removed while the server ran"), "{said}");

    // What the server may have written at its end is a beginning without what is needed; it gives way.
    if from.is_dir() {
        fs::remove_dir_all(&from)?;
    } else if from.exists() {
        fs::remove_file(&from)?;
    }
    fs::rename(&to, &from)?;
    let server = setup.start()?;
    let marks = marks(server.client())?;
    ensure!(marks.len() as u64 > acknowledged && marks.is_sorted(), "{marks:?}, {acknowledged} acknowledged");
    Ok(())
}

#[test]
fn a_damaged_block_is_a_note_and_all_else_goes_on() -> Result<()> {
    let setup = Setup::new()?;
    // Two clean stops make two blocks.
    for n in 0..2 {
        let server = setup.start()?;
        server.client().push_one("mark", n)?;
        ensure!(server.stop()?.success());
    }
    let file = setup.data().join("journal/0000000001.blocks");
    let whole = fs::read(&file)?;
    let mut damaged = whole.clone();
    *damaged.first_mut().context("an empty file")? ^= 1;
    fs::write(&file, &damaged)?;
    let server = setup.start()?;
    let client = server.client();
    let said = || -> Result<Vec<String>> {
        let ready = client.get("/readyz")?;
        ensure!(ready.status == 200, "{}", ready.text());
        let notes = ready.json()?["notes"].as_array().cloned().unwrap_or_default();
        Ok(notes.iter().map(Value::to_string).filter(|note| note.contains("journal: ")).collect())
    };
    assert_eq!(said()?, [] as [String; 0]);
    client.get("/v1/readings?after=0")?.problem(500)?;
    let notes = said()?;
    ensure!(notes.len() == 1 && notes[0].contains("block file 0000000001, offset 0: "), "{notes:?}");
    client.push_one("mark", 2)?;
    let marks: Vec<Value> =
        client.journal(1, "")?.into_iter().map(|reading| reading["value"].clone()).collect();
    assert_eq!(marks, [json!(1), json!(2)]);
    // In place: a file that is cut off, if only for a moment, ends the server.
    fs::File::options().write(true).open(&file)?.write_all_at(&whole[..1], 0)?;
    assert_eq!(client.journal(0, "")?.len(), 3);
    assert_eq!(said()?, [] as [String; 0]);
    Ok(())
}

#[test]
fn an_app_goes_on_behind_a_damaged_block_and_waits_for_a_file_that_is_missing() -> Result<()> {
    let setup = Setup::new()?;
    let package = guests::package("one-state")?;
    {
        let server = setup.start()?;
        let client = server.client();
        for app in ["live", "late"] {
            install(client, app, &package, json!({"value": ["a/{n}"]}), json!({}))?;
        }
        client.push_one("a/0", 0)?;
        client.push_one("a/0", 0)?;
        for app in ["live", "late"] {
            wait_for_installation(client, app, "two", |now| number(now, "counters.readings") == 2)?;
        }
        client.post("/v1/installations/late/pause", &json!({}))?.json()?;
        client.push_one("a/1", 1)?;
        ensure!(server.stop()?.success());
    }
    for n in 2..4 {
        let server = setup.start()?;
        server.client().push_one(&format!("a/{n}"), n)?;
        wait_for_installation(server.client(), "live", "all", |now| {
            number(now, "counters.readings") == n + 2
        })?;
        ensure!(server.stop()?.success());
    }
    // The first block has three readings, of which one waits.
    let file = setup.data().join("journal/0000000001.blocks");
    let mut bytes = fs::read(&file)?;
    *bytes.first_mut().context("an empty file")? ^= 1;
    fs::write(&file, &bytes)?;
    let server = setup.start()?;
    let client = server.client();
    // Whoever begins with all that there is gets what can be read.
    install(client, "new", &package, json!({"value": ["a/{n}"]}), json!({"from": "beginning"}))?;
    client.post("/v1/installations/late/resume", &json!({}))?.json()?;
    for (app, taken) in [("new", 2), ("late", 4)] {
        let now =
            wait_for_installation(client, app, "the rest", |now| number(now, "counters.readings") == taken)?;
        assert_eq!(now["last_error"], Value::Null, "{app}");
    }
    assert_eq!(ironloom_tests::model::state_of(client, "late")?.keys().collect::<Vec<_>>(), ["0", "2", "3"]);
    assert_eq!(ironloom_tests::model::state_of(client, "new")?.keys().collect::<Vec<_>>(), ["2", "3"]);
    ensure!(setup.said().contains("goes on behind a damaged block"), "{}", setup.said());
    ensure!(server.stop()?.success());

    // A file that isn't there may come back.
    let server = setup.start()?;
    let client = server.client();
    let away = setup.folder().join("away.blocks");
    fs::rename(&file, &away)?;
    install(client, "again", &package, json!({"value": ["a/{n}"]}), json!({"from": "beginning"}))?;
    let waits = wait_for_installation(client, "again", "it to say why it waits", |now| {
        now["last_error"]["kind"] == "journal"
    })?;
    let said = waits["last_error"]["message"].as_str().unwrap_or_default();
    ensure!(said.contains("0000000001.blocks") && said.contains("put the file back"), "{waits}");
    assert_eq!(number(&waits, "counters.readings"), 0);
    fs::rename(&away, &file)?;
    wait_for_installation(client, "again", "what came back", |now| number(now, "counters.readings") == 2)?;
    Ok(())
}

/// A small disk in memory.
struct SmallDisk(PathBuf);

impl SmallDisk {
    /// Mounts one at this folder. `None` where this user may not, mostly who isn't root: such a test says that it is skipped.
    fn mount(folder: &Path, mebibytes: u64) -> Result<Option<Self>> {
        fs::create_dir_all(folder)?;
        let size = format!("size={mebibytes}m");
        let mounted =
            Command::new("mount").args(["-t", "tmpfs", "-o", &size, "tmpfs"]).arg(folder).output()?;
        if !mounted.status.success() {
            eprintln!("skipped: {}", String::from_utf8_lossy(&mounted.stderr));
            return Ok(None);
        }
        Ok(Some(Self(folder.to_owned())))
    }

    fn free_mebibytes(&self) -> Result<u64> {
        let disk = rustix::fs::statvfs(&self.0)?;
        Ok((disk.f_bavail * disk.f_frsize) >> 20)
    }
}

impl Drop for SmallDisk {
    fn drop(&mut self) {
        let _ = Command::new("umount").arg("--lazy").arg(&self.0).status();
    }
}

#[test]
fn a_disk_that_apps_and_pushes_have_filled_is_left_again() -> Result<()> {
    let setup = Setup::new()?;
    let Some(disk) = SmallDisk::mount(&setup.data(), 1_000)? else { return Ok(()) };
    let ballast = setup.data().join("ballast");
    fs::write(&ballast, vec![0; 300 << 20])?;
    let server = setup.start()?;
    let more = json!({"limits": {"state": "1 GiB"}});
    let bindings = json!({"command": ["app/command"]});
    install(server.client(), "app", &guests::package("hostile")?, bindings, more)?;
    let fills = format!("{}\n", json!({"point": "app/command", "value": "fill"})).repeat(40);
    server.client().push(fills.as_bytes(), None)?.json()?;
    let (acknowledged, lowest) = push_until_refused(server.client(), &disk)?;
    ensure!(!setup.said().contains("waits for room"), "{}", setup.said());
    ensure!(lowest >= 64, "{lowest} MiB were left");
    server.kill()?;

    // No start takes so much that the next one can't begin.
    for _ in 0..4 {
        let server = setup.start_listening()?;
        assert_eq!(marks(server.client())?, (1..=acknowledged).collect::<Vec<_>>());
        std::thread::sleep(Duration::from_secs(2));
        server.kill()?;
    }
    let lowest = disk.free_mebibytes()?;
    ensure!(lowest >= 64, "{lowest} MiB were left");

    let server = setup.start_listening()?;
    let purged = server.client().delete("/v1/installations/app?purge=true")?;
    ensure!(purged.status < 300, "{}", purged.text());
    fs::remove_file(&ballast)?;
    let next = format!("{}\n", json!({"point": "mark", "value": acknowledged + 1}));
    wait_until("readings to be taken again", || {
        Ok(server.client().push(next.as_bytes(), None)?.status == 200)
    })?;
    assert_eq!(marks(server.client())?, (1..=acknowledged + 1).collect::<Vec<_>>());
    ensure!(server.stop()?.success(), "{}", setup.said());
    Ok(())
}

#[test]
fn starts_on_a_disk_that_others_have_filled_take_little_of_it() -> Result<()> {
    let setup = Setup::new()?;
    let Some(disk) = SmallDisk::mount(&setup.data(), 500)? else { return Ok(()) };
    let server = setup.start()?;
    server.client().push_one("mark", 1)?;
    server.kill()?;
    let ballast = setup.data().join("ballast");
    let mut file = fs::File::create(&ballast)?;
    for _ in 0..5 {
        let others = disk.free_mebibytes()?.saturating_sub(40);
        file.write_all(&vec![0; (others << 20) as usize])?;
        let server = setup.start_listening()?;
        assert_eq!(marks(server.client())?, [1]);
        server.kill()?;
        let left = disk.free_mebibytes()?;
        ensure!(left >= 30, "a start has left {left} of 40 MiB");
    }
    let server = setup.start_listening()?;
    fs::remove_file(&ballast)?;
    drop(file);
    let taken = || Ok(server.client().push(b"{\"point\":\"mark\",\"value\":2}", None)?.status == 200);
    wait_until("readings to be taken again", taken)?;
    assert_eq!(marks(server.client())?, [1, 2]);
    Ok(())
}

/// Pushes texts that can't be made small until the first is refused, and for some seconds more. How many were taken,
/// and how little was free.
fn push_until_refused(client: &Client, disk: &SmallDisk) -> Result<(u64, u64)> {
    let mut random = rand_chacha::ChaCha8Rng::seed_from_u64(1);
    let (mut acknowledged, mut lowest, mut refused) = (0, u64::MAX, None::<Instant>);
    let began = Instant::now();
    while refused.is_none_or(|refused| refused.elapsed() < Duration::from_secs(8)) {
        ensure!(
            began.elapsed() < Duration::from_secs(120),
            "{} MiB are free, nothing is refused",
            disk.free_mebibytes()?
        );
        let text: String = (0..1_900).map(|_| format!("{:016x}", random.random::<u64>())).collect();
        let lines =
            [json!({"point": "mark", "value": acknowledged + 1}), json!({"point": "text", "value": text})];
        let body: String = lines.iter().map(|line: &Value| format!("{line}\n")).collect();
        let answer = client.push(body.as_bytes(), None)?;
        lowest = lowest.min(disk.free_mebibytes()?);
        if answer.status == 200 {
            acknowledged += 1;
        } else {
            answer.problem(507)?;
            refused.get_or_insert_with(Instant::now);
            std::thread::sleep(Duration::from_millis(20));
        }
    }
    eprintln!("{acknowledged} were taken, {lowest} MiB were free at the lowest");
    Ok((acknowledged, lowest))
}

#[test]
fn a_full_log_refuses_pushes_with_its_words_and_keeps_what_it_took() -> Result<()> {
    // The least that a log may have.
    let config = "[log]\nsegment = \"64 MiB\"\ncheckpoint = \"1 MiB\"\nmax = \"193 MiB\"\n";
    let setup = Setup::new()?.config(config);
    let server = setup.clone().env("FAILPOINTS", "checkpoint-blocks-synced=hold").start()?;
    let client = server.client().clone();
    // 12 MB each.
    let text = "x".repeat(60_000);
    let big = format!("{}\n", json!({"point": "big", "value": text})).repeat(200);
    let (mut acknowledged, mut answer) = (0, None);
    for n in 1..=30 {
        let body = format!("{}\n{big}", json!({"point": "mark", "value": n}));
        let got = client.push(body.as_bytes(), None)?;
        if got.status == 503 {
            answer = Some(got);
            break;
        }
        got.json()?;
        acknowledged = n;
    }
    let refused = answer.with_context(|| format!("{acknowledged} pushes of 12 MB fit into 193 MiB"))?;
    ensure!(refused.retry_after.is_some(), "it says when to come again");
    let problem = refused.problem(503)?;
    assert_eq!(problem["kind"], "log-full");
    assert_eq!(problem["detail"], "the log is full until a checkpoint has written it to the store");
    let ready = client.get("/readyz")?;
    ensure!(ready.status == 503 && ready.text().contains("log: full until"), "{}", ready.text());
    assert_eq!(client.journal(0, "point=mark")?.len(), acknowledged, "what is there can be read");
    server.kill()?;

    let server = setup.start()?;
    server.client().push_one("mark", 0)?;
    assert_eq!(server.client().journal(0, "point=mark")?.len(), acknowledged + 1);
    Ok(())
}
