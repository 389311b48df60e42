//! Installs, upgrades and uninstalls as wholes: killed between their steps, and all at once.

use std::time::Duration;

use anyhow::{Context as _, Result, ensure};
use ironloom_tests::apps::{number, request, wait_for_installation};
use ironloom_tests::package::Package;
use ironloom_tests::steps::STEPS_OF_AN_INSTALL;
use ironloom_tests::{Client, Setup, guests, wait_until};
use serde_json::{Value, json};

fn sums(version: &str) -> Result<Package> {
    guests::package_as("com.example.one-state", version, "one-state", |manifest| manifest)
}

/// The request for an installation of one version.
fn body(digest: &str) -> Value {
    request("sums", digest, json!({"value": ["a/{n}"]}), json!({}))
}

/// An installation of this version counts readings, or nothing of it is there.
fn is_whole(client: &Client) -> Result<bool> {
    let found = client.get("/v1/installations/sums")?;
    match found.status {
        200 => {
            let before = wait_for_installation(client, "sums", "to run", |now| now["state"] == "running")?;
            client.push_one("a/1", 1)?;
            let readings = number(&before, "counters.readings") + 1;
            wait_for_installation(client, "sums", "the reading", |now| {
                number(now, "counters.readings") == readings
            })?;
            Ok(true)
        }
        404 => Ok(false),
        other => anyhow::bail!("{other}: {}", found.text()),
    }
}

#[test]
fn an_install_that_is_killed_between_its_steps_is_done_or_not() -> Result<()> {
    let package = sums("0.1.1")?;
    for engine in ["redb", "sled"] {
        for (at, step) in STEPS_OF_AN_INSTALL.iter().enumerate() {
            killed_at(engine, step, at, &package).with_context(|| format!("engine {engine}, {step}"))?;
        }
    }
    Ok(())
}

fn killed_at(engine: &str, step: &str, at: usize, package: &Package) -> Result<()> {
    let base = Setup::new()?.config(format!("[store]\nengine = \"{engine}\"\n"));
    let mut server = base.clone().env("FAILPOINTS", step).start()?;
    let digest = package.digest();
    let client = server.client().clone();
    // Whoever asked hears of the end of the connection, or nothing.
    let _ = client.add_package(&package.tar());
    if at >= 2 {
        ensure!(server.is_alive()?, "the package came before");
        let _ = client.post("/v1/installations", &body(&digest));
    }
    let ended = server.wait().context("the binary needs --features failpoints")?;
    ensure!(std::os::unix::process::ExitStatusExt::signal(&ended) == Some(9), "{ended}");

    let server = base.start()?;
    let client = server.client();
    let packages = client.all("/v1/packages")?;
    ensure!(packages.len() == usize::from(at >= 1), "{packages:?}");
    ensure!(is_whole(client)? == (at == 3), "the record decides");
    // Each record has the entry of its deed.
    for (action, done) in [("addPackage", at >= 1), ("install", at == 3)] {
        let told = client.all(&format!("/v1/audit?action={action}&result=done"))?;
        ensure!(told.len() == usize::from(done), "{action}: {told:?}");
    }
    let verified = server.cli(&["audit", "verify"])?;
    ensure!(verified.status.success(), "{verified:?}");
    // A file that no record names is gone, and all of it can be done now.
    let files = std::fs::read_dir(server.setup().data().join("packages"))?.count();
    ensure!(files == packages.len(), "{files} files, {packages:?}");
    client.add_package(&package.tar())?;
    let again = client.post("/v1/installations", &body(&digest))?;
    ensure!(again.status == if at == 3 { 409 } else { 201 }, "{}", again.text());
    ensure!(is_whole(client)?);
    Ok(())
}

/// Each of many clients does one of these to one id, over and over. What is there in between is one or the other, and no
/// answer is an error of the server's.
#[test]
fn whoever_installs_upgrades_and_uninstalls_one_id_at_once_leaves_it_whole() -> Result<()> {
    let server = Setup::new()?.start()?;
    let client = server.client();
    let versions = [sums("0.1.1")?, sums("0.2.0")?];
    let digests: Vec<_> =
        versions.iter().map(|package| client.add_package(&package.tar())).collect::<Result<_>>()?;
    let counted = std::thread::scope(|scope| {
        let deeds: Vec<_> = (0..6)
            .map(|who| {
                let (client, digests) = (client.clone(), digests.clone());
                scope.spawn(move || -> Result<u32> {
                    let mut done = 0;
                    for round in 0..1_000 {
                        // Whoever comes before anything is there goes on until something was.
                        if round >= 12 && done > 0 {
                            break;
                        }
                        let digest = &digests[(who + round) % 2];
                        let answer = match who % 3 {
                            0 => client.post("/v1/installations", &body(digest))?,
                            1 => client.patch("/v1/installations/sums", &json!({"package": digest}))?,
                            _ => client.delete("/v1/installations/sums")?,
                        };
                        let expected = matches!(answer.status, 200 | 201 | 204 | 404 | 409);
                        ensure!(expected, "{who}: {} {}", answer.status, answer.text());
                        if answer.status == 404 {
                            std::thread::sleep(Duration::from_millis(5));
                        }
                        done += u32::from(answer.status < 300);
                    }
                    Ok(done)
                })
            })
            .collect();
        let all = deeds.into_iter().map(|one| one.join().map_err(|_| anyhow::anyhow!("it panicked"))?);
        all.collect::<Result<Vec<_>>>()
    })?;
    // Two clients do each of the three.
    for (deed, both) in [("install", [0, 3]), ("upgrade", [1, 4]), ("uninstall", [2, 5])] {
        let done: u32 = both.iter().map(|who| counted[*who]).sum();
        ensure!(done >= 1, "no {deed} went well: {counted:?}");
    }
    if is_whole(client)? {
        client.delete("/v1/installations/sums")?;
    }
    ensure!(!is_whole(client)?);
    client.post("/v1/installations", &body(&digests[1]))?.json()?;
    ensure!(is_whole(client)?);
    wait_until("nothing to be purged", || {
        Ok(client.all("/v1/kept")?.iter().all(|kept| kept["state"] == "kept"))
    })
}
