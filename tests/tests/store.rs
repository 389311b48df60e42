//! A data folder while no server runs on it: damage is found, and copies have the same in another engine.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Output};
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use anyhow::{Context as _, Result, ensure};
use ironloom_tests::apps::install;
use ironloom_tests::load::Load;
use ironloom_tests::server::binary;
use ironloom_tests::{Setup, guests, model, wait_until};
use serde_json::{Value, json};

/// Blocks are written early, and a stop leaves the end of the log for the next start.
fn config(engine: &str) -> String {
    format!("[store]\nengine = \"{engine}\"\n[log]\ncheckpoint = \"1 MiB\"\nfold_at_stop = \"0 s\"\n")
}

fn run(arguments: &[&str]) -> Result<Output> {
    Ok(Command::new(binary()?).args(arguments).output()?)
}

fn said(output: &Output) -> String {
    let (out, err) = (String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr));
    format!("{} {out}{err}", output.status)
}

fn text(path: &Path) -> String {
    path.display().to_string()
}

/// A server's folder with readings in blocks and in the log, after it has ended; and its journal.
fn filled(engine: &str) -> Result<(Setup, Vec<Value>)> {
    let setup = Setup::new()?.config(config(engine));
    let server = setup.start()?;
    let client = server.client();
    let bindings = json!({"value": ["load/{point}/value"]});
    install(client, "one", &guests::package("one-state")?, bindings, json!({}))?;
    let (load, stop) = (Load::new("load", 100), AtomicBool::new(false));
    std::thread::scope(|scope| {
        let pushing = scope.spawn(|| load.run(client, 2, 500, Duration::ZERO, &stop));
        let blocks =
            wait_until("blocks", || Ok(fs::read_dir(setup.data().join("journal"))?.next().is_some()));
        stop.store(true, Ordering::SeqCst);
        match pushing.join() {
            Ok(pushed) => pushed?,
            Err(_) => anyhow::bail!("the load panicked"),
        }
        blocks
    })?;
    model::wait_until_done(client, "one")?;
    let journal = client.journal(0, "")?;
    ensure!(server.stop()?.success());
    Ok((setup, journal))
}

fn check(data: &Path) -> Result<(Option<i32>, Value)> {
    let output = run(&["store", "check", "--json", "--data", &text(data)])?;
    let report = serde_json::from_slice(&output.stdout).with_context(|| said(&output))?;
    Ok((output.status.code(), report))
}

/// The only file of a folder whose name ends so, or the last of them.
fn file(folder: &Path, end: &str) -> Result<PathBuf> {
    let mut found: Vec<PathBuf> =
        fs::read_dir(folder)?.map(|entry| Ok(entry?.path())).collect::<Result<_>>()?;
    found.retain(|path| text(path).ends_with(end));
    found.sort();
    found.pop().with_context(|| format!("no {end} in {}", folder.display()))
}

fn flip(file: &Path, at: usize) -> Result<()> {
    let mut bytes = fs::read(file)?;
    bytes[at] ^= 1;
    Ok(fs::write(file, bytes)?)
}

#[test]
fn damage_of_each_part_is_found_at_once_and_its_meaning_told() -> Result<()> {
    let (setup, _) = filled("redb")?;
    let data = setup.data();
    let (code, report) = check(&data)?;
    ensure!(code == Some(0) && report["damaged"] == json!([]), "{report}");
    for part in ["values", "records", "blocks", "packages"] {
        ensure!(report["looked"][part].as_u64() > Some(0), "{part}: {report}");
    }
    flip(&file(&data.join("journal"), ".blocks")?, 1_000)?;
    flip(&file(&data.join("packages"), "")?, 1_000)?;
    // The first record of the segment that was written last.
    flip(&file(&data.join("log"), ".log")?, 8_192 + 60)?;
    let (code, report) = check(&data)?;
    let damaged = report["damaged"].as_array().context("no list")?;
    let parts: Vec<&str> = damaged.iter().filter_map(|finding| finding["part"].as_str()).collect();
    ensure!(code == Some(1) && parts == ["log", "journal", "packages"], "{report}");
    let output = run(&["store", "check", "--data", &text(&data)])?;
    for part in
        ["3 damaged parts", "restore the data folder from a backup", "its readings are lost", "don't run"]
    {
        ensure!(said(&output).contains(part), "{part:?} is missing in {}", said(&output));
    }
    // One that a server has isn't looked at, nor one that is none.
    let other = Setup::new()?.start()?;
    let output = run(&["store", "check", "--data", &text(&other.setup().data())])?;
    ensure!(said(&output).contains("is in use by the process"), "{}", said(&output));
    let output = run(&["store", "check", "--data", &text(setup.folder())])?;
    ensure!(said(&output).contains("isn't a data folder"), "{}", said(&output));
    Ok(())
}

#[test]
fn packages_whose_records_are_lost_with_the_log_are_counted_as_unknown() -> Result<()> {
    let setup = Setup::new()?.config(config("redb"));
    let server = setup.start()?;
    install(server.client(), "one", &guests::package("one-state")?, json!({"value": ["a/{b}"]}), json!({}))?;
    // No checkpoint has folded it.
    server.kill()?;
    let (code, report) = check(&setup.data())?;
    ensure!(code == Some(0), "{report}");
    assert_eq!((&report["looked"]["packages"], &report["packages_unknown"]), (&json!(1), &json!(0)));
    flip(&file(&setup.data().join("log"), ".log")?, 8_192 + 60)?;
    let (code, report) = check(&setup.data())?;
    ensure!(code == Some(1), "{report}");
    assert_eq!((&report["looked"]["packages"], &report["packages_unknown"]), (&json!(0), &json!(1)));
    let output = run(&["store", "check", "--data", &text(&setup.data())])?;
    let words = "0 packages; 1 file of packages not, since their records can't be read";
    ensure!(said(&output).contains(words), "{}", said(&output));
    Ok(())
}

#[test]
fn copies_into_the_other_engine_and_back_have_the_same() -> Result<()> {
    for (engine, other) in [("redb", "sled"), ("sled", "redb")] {
        let (setup, journal) = filled(engine)?;
        let (there, back) = (setup.folder().join("there"), setup.folder().join("back"));
        let (data, to) = (text(&setup.data()), text(&there));
        let output = run(&["store", "copy", "--data", &data, "--engine", other, "--to", &to])?;
        ensure!(output.status.success(), "{}", said(&output));
        let output = run(&["store", "copy", "--data", &to, "--engine", engine, "--to", &text(&back)])?;
        ensure!(output.status.success(), "{}", said(&output));
        for (folder, engine) in [(&there, other), (&back, engine)] {
            let (code, report) = check(folder)?;
            ensure!(code == Some(0), "{report}");
            let server = Setup::new()?.config(config(engine)).data_in(folder).start()?;
            model::wait_until_done(server.client(), "one")?;
            ensure!(server.client().journal(0, "")? == journal, "another journal in {}", folder.display());
            model::compare_with(&journal, server.client(), "one", "load", "value")?;
            ensure!(server.stop()?.success());
        }
        let again = run(&["store", "copy", "--data", &data, "--engine", other, "--to", &to])?;
        ensure!(again.status.code() == Some(1) && said(&again).contains("isn't empty"), "{}", said(&again));
    }
    Ok(())
}
