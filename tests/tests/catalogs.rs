//! Catalogs: made, signed, added, and what they keep from being installed.

use std::fs;
use std::process::Output;

use anyhow::{Context as _, Result, ensure};
use ironloom_tests::publishing::{
    APP, Maker, done, fetch, install, key, one_state, refresh, refused, run, signed, site,
};
use ironloom_tests::server::{Server, Setup};
use ironloom_tests::wait::wait_until;
use serde_json::{Value, json};

/// Waits until `rooms` has taken one reading, pushed now: it goes on.
fn goes_on(server: &Server) -> Result<()> {
    server.client().push_one("room/attic", 1)?;
    wait_until("the reading", || Ok(server.client().installation("rooms")?["counters"]["readings"] == 1))
}

fn catalogs(server: &Server) -> Result<Vec<Value>> {
    let answer = server.client().get("/v1/catalogs")?.json()?;
    Ok(answer["items"].as_array().context("no items")?.clone())
}

#[test]
fn an_app_is_found_in_a_catalog_installed_and_upgraded() -> Result<()> {
    let setup = Setup::new()?.signed_only();
    let maker = Maker::new(&setup.folder().join("maker"))?;
    let server = setup.start()?;
    let url = server.client().url().to_owned();
    let cli = |arguments: &[&str]| run(&maker.folder, &[arguments, &["--url", &url]].concat());
    let said = |output: Output| String::from_utf8_lossy(&output.stderr).into_owned();
    let printed = |arguments: &[&str]| -> Result<String> {
        let output = cli(arguments)?;
        ensure!(output.status.success(), "{output:?}");
        Ok(String::from_utf8(output.stdout)?)
    };

    // Nobody is believed without a word.
    let told = said(cli(&["catalog", "add", "catalog"])?);
    ensure!(told.contains(&format!("signed by {}", maker.root)) && told.contains("--trust KEY"), "{told}");
    let told = said(cli(&["catalog", "add", "catalog", "--trust", &maker.publisher])?);
    ensure!(told.contains(&format!("isn't signed by {}", maker.publisher)), "{told}");
    ensure!(catalogs(&server)?.is_empty());
    let told = printed(&["catalog", "add", "catalog", "--trust", &maker.root])?;
    ensure!(told.contains("catalog       plant\n") && told.contains(" 1 apps, expires at "), "{told}");
    refused(
        server.client().post("/v1/catalogs", &json!({"source": maker.catalog(), "trust": [maker.root]}))?,
        409,
        "exists",
        "plant",
    )?;

    let told = printed(&["catalog", "search", "ONE", "example"])?;
    ensure!(told.lines().count() == 2 && told.contains(APP) && told.contains("0.1.0"), "{told}");
    ensure!(printed(&["catalog", "search", "tractor"])?.lines().count() <= 1);
    let told = printed(&["catalog", "show", APP])?;
    ensure!(
        told.contains(&format!("signed by     {}\n", maker.publisher))
            && told.contains("  reads       value\n"),
        "{told}"
    );

    printed(&["install", APP, "--id", "rooms", "--bind", "value=room/{name}"])?;
    let before = server.client().installation("rooms")?;
    assert_eq!((&before["version"], &before["signers"]), (&json!("0.1.0"), &json!([maker.publisher])));
    server.client().push_one("room/attic", 1)?;

    maker.add("0.2.0", "publisher.key")?;
    maker.publish()?;
    let told = said(cli(&["upgrade", "rooms", "plant/com.example.one-state@0.2.0"])?);
    ensure!(told.contains("has no version 0.2.0"), "{told}");
    printed(&["catalog", "refresh"])?;
    printed(&["upgrade", "rooms", "plant/com.example.one-state@0.2.0"])?;
    assert_eq!(server.client().installation("rooms")?["version"], "0.2.0");
    wait_until("the reading", || Ok(server.client().installation("rooms")?["counters"]["readings"] == 1))?;

    // All of it is there after a loss of the process.
    server.kill()?;
    let server = setup.start()?;
    let catalog = &catalogs(&server)?[0];
    assert_eq!((&catalog["name"], &catalog["index"]["apps"]), (&json!("plant"), &json!(1)));
    assert_eq!(server.client().all("/v1/apps?words=one")?[0]["versions"][0]["version"], "0.2.0");
    server.client().delete("/v1/catalogs/plant")?;
    ensure!(server.client().all("/v1/apps")?.is_empty());
    assert_eq!(fs::read_dir(setup.data().join("catalogs"))?.count(), 0);
    server.stop()?;
    Ok(())
}

#[test]
fn an_older_or_altered_index_is_refused_and_what_was_seen_stays() -> Result<()> {
    let setup = Setup::new()?;
    let maker = Maker::new(&setup.folder().join("maker"))?;
    let index = maker.catalog().join("index.json");
    let first = fs::read(&index)?;
    maker.add("0.2.0", "publisher.key")?;
    maker.publish()?;
    let second = fs::read(&index)?;
    let server = setup.start()?;
    maker.add_to(&server)?;
    let seen = server.client().get("/v1/catalogs/plant")?.json()?["index"].clone();

    fs::write(&index, &first)?;
    refused(refresh(&server)?, 422, "catalog", "somebody offers an older one")?;
    // Altered bytes under the old signature.
    let mut envelope: Value = serde_json::from_slice(&second)?;
    envelope["payload"] = json!(envelope["payload"].as_str().context("no payload")?.replace('A', "B"));
    fs::write(&index, envelope.to_string())?;
    refused(refresh(&server)?, 422, "catalog", "")?;
    // Signed by nobody: whoever makes it keeps it beside the one that is signed.
    let next = maker.catalog().join("next-index.json");
    fs::write(&index, &first)?;
    done(&maker.folder, &["catalog", "build", "catalog"])?;
    fs::copy(&next, &index)?;
    refused(refresh(&server)?, 422, "catalog", "is signed by 0 of the keys")?;
    // The same version with other contents.
    fs::write(&index, &first)?;
    fs::remove_file(fs::read_dir(maker.catalog().join("packages"))?.next().context("no package")??.path())?;
    done(&maker.folder, &["catalog", "build", "catalog"])?;
    maker.sign("index.key")?;
    refused(refresh(&server)?, 422, "catalog", "has other contents than the one that was seen before")?;

    let shown = server.client().get("/v1/catalogs/plant")?.json()?;
    assert_eq!(shown["index"], seen);
    ensure!(shown["problem"].as_str().is_some_and(|text| text.contains("other contents")), "{shown}");
    // It survives a loss of the process, and the true one is taken again.
    server.kill()?;
    let server = setup.start()?;
    assert_eq!(server.client().get("/v1/catalogs/plant")?.json()?["index"], seen);
    fs::write(&index, &first)?;
    refused(refresh(&server)?, 422, "catalog", "older")?;
    fs::write(&index, &second)?;
    assert_eq!(refresh(&server)?.json()?["problem"], Value::Null);
    server.stop()?;
    Ok(())
}

#[test]
fn a_blocked_version_and_a_revoked_key_block_what_is_new_and_what_runs_goes_on() -> Result<()> {
    let setup = Setup::new()?;
    let maker = Maker::new(&setup.folder().join("maker"))?;
    maker.add("0.2.0", "publisher.key")?;
    maker.publish()?;
    let server = setup.start()?;
    maker.add_to(&server)?;
    let (old, new) = (fetch(&server, "0.1.0")?, fetch(&server, "0.2.0")?);
    install(&server, "rooms", &old)?.json()?;

    maker
        .plan(&format!("[[blocked]]\nid = \"{APP}\"\nversion = \"0.2.0\"\nreason = \"it forgets rooms\""))?;
    maker.publish()?;
    refresh(&server)?.json()?;
    let upgrade = || server.client().patch("/v1/installations/rooms", &json!({"package": new}));
    refused(upgrade()?, 422, "catalog", "blocks com.example.one-state 0.2.0: it forgets rooms")?;
    refused(install(&server, "more", &new)?, 422, "catalog", "it forgets rooms")?;
    let offers = server.client().get(&format!("/v1/apps/{APP}"))?.json()?;
    assert_eq!(offers["items"][0]["versions"][1]["blocked"], "it forgets rooms");
    // The newest isn't silently another one.
    let answer = server.client().post(&format!("/v1/apps/{APP}/fetch"), &json!({}))?;
    refused(
        answer,
        422,
        "catalog",
        "blocks 0.2.0, the newest version of com.example.one-state: it forgets rooms",
    )?;
    assert_eq!(server.client().installation("rooms")?.get("against"), None);

    maker.plan(&format!("[[revoked]]\nkey = \"{}\"\nreason = \"stolen\"", maker.publisher))?;
    maker.publish()?;
    refresh(&server)?.json()?;
    refused(upgrade()?, 422, "catalog", "which has signed it: stolen")?;
    refused(install(&server, "more", &old)?, 422, "catalog", "stolen")?;
    // It shows where it runs.
    let against = server.client().installation("rooms")?["against"].clone();
    ensure!(against.as_str().is_some_and(|text| text.contains("which has signed it: stolen")), "{against}");
    let notes = server.client().get("/readyz")?.json()?["notes"].to_string();
    ensure!(notes.contains("installation rooms: the catalog plant has revoked the key"), "{notes}");
    goes_on(&server)?;
    server.stop()?;
    Ok(())
}

#[test]
fn a_blocked_version_that_runs_is_shown() -> Result<()> {
    let (maker, server) = site()?;
    let package = fetch(&server, "0.1.0")?;
    install(&server, "rooms", &package)?.json()?;
    let reason = "the catalog plant blocks com.example.one-state 0.1.0: it forgets rooms";
    let note = format!("installation rooms: {reason}");
    let is_shown = |server: &Server, shown: bool| -> Result<()> {
        let against = server.client().installation("rooms")?.get("against").cloned();
        assert_eq!(against, shown.then(|| json!(reason)));
        let notes = server.client().get("/readyz")?.json()?["notes"].clone();
        let has = notes.as_array().is_some_and(|notes| notes.contains(&json!(note)));
        ensure!(has == shown, "{notes}");
        let told =
            |arguments: &[&str]| -> Result<String> { Ok(String::from_utf8(server.cli(arguments)?.stdout)?) };
        let (list, show) = (told(&["list"])?, told(&["show", "rooms"])?);
        for (told, words) in [
            (&list, "0.1.0, blocked".to_owned()),
            (&show, format!("app           {APP} 0.1.0, blocked\n")),
            (&show, format!("blocked       {reason}\n")),
        ] {
            ensure!(told.contains(&words) == shown, "{words:?}, {shown}: {told}");
        }
        Ok(())
    };
    is_shown(&server, false)?;
    let blocked = format!("[[blocked]]\nid = \"{APP}\"\nversion = \"0.1.0\"\nreason = \"it forgets rooms\"");
    maker.plan(&blocked)?;
    maker.publish()?;
    refresh(&server)?.json()?;
    is_shown(&server, true)?;
    goes_on(&server)?;
    let server = server.restarted()?;
    is_shown(&server, true)?;
    maker.plan("")?;
    maker.publish()?;
    refresh(&server)?.json()?;
    is_shown(&server, false)
}

#[test]
fn an_expired_index_installs_nothing_and_stops_nothing() -> Result<()> {
    let (maker, server) = site()?;
    let package = fetch(&server, "0.1.0")?;
    install(&server, "rooms", &package)?.json()?;
    maker.plan("valid_for = \"1 ms\"")?;
    maker.publish()?;
    let catalog = refresh(&server)?.json()?;
    assert_eq!(catalog["index"]["expired"], true);
    refused(install(&server, "more", &package)?, 422, "catalog", "has expired")?;
    let note = || -> Result<bool> {
        let notes = server.client().get("/readyz")?.json()?["notes"].clone();
        let is_it = |note: &Value| {
            note.as_str()
                .is_some_and(|note| note.starts_with("the index of the catalog plant has expired at "))
        };
        Ok(notes.as_array().context("no notes")?.iter().any(is_it))
    };
    ensure!(note()?, "it is told");
    goes_on(&server)?;
    maker.plan("")?;
    maker.publish()?;
    refresh(&server)?.json()?;
    ensure!(!note()?, "it holds again");
    install(&server, "more", &package)?.json()?;
    server.stop()?;
    Ok(())
}

#[test]
fn a_package_is_the_one_that_the_index_names_or_none() -> Result<()> {
    let (maker, server) = site()?;
    let file = fs::read_dir(maker.catalog().join("packages"))?.next().context("no package")??.path();
    let good = fs::read(&file)?;
    let fetch = || server.client().post(&format!("/v1/apps/{APP}/fetch"), &json!({}));
    let mut altered = good.clone();
    let at = altered.len() / 2;
    altered[at] ^= 1;
    fs::write(&file, &altered)?;
    refused(fetch()?, 422, "catalog", "isn't the one that the catalog plant names")?;
    fs::write(&file, &good[..good.len() - 512])?;
    refused(fetch()?, 422, "catalog", "isn't the one that the catalog plant names")?;
    fs::write(&file, [&good[..], &[0; 512]].concat())?;
    refused(fetch()?, 422, "catalog", "at most")?;
    fs::remove_file(&file)?;
    refused(fetch()?, 422, "catalog", "lacks the file")?;
    ensure!(server.client().all("/v1/packages")?.is_empty());
    fs::write(&file, &good)?;
    fetch()?.json()?;
    server.stop()?;
    Ok(())
}

#[test]
fn a_catalog_says_whose_an_id_is_and_keys_are_followed_by_others() -> Result<()> {
    let setup = Setup::new()?;
    let maker = Maker::new(&setup.folder().join("maker"))?;
    let folder = &maker.folder;
    let other = key(folder, "other.key")?;
    let by_other = |version: &str| signed(folder, version, &["other.key"]);
    let server = setup.start()?;
    maker.add_to(&server)?;
    // Neither somebody else's nor an unsigned one, though the host allows these.
    let strange = server.client().add_package(&by_other("0.7.0")?)?;
    let unsigned = server.client().add_package(&one_state("0.8.0")?)?;
    for package in [&strange, &unsigned] {
        refused(
            install(&server, "rooms", package)?,
            422,
            "publisher",
            "gives the id com.example.one-state to Example",
        )?;
    }
    let package = fetch(&server, "0.1.0")?;
    install(&server, "rooms", &package)?.json()?;
    let upgrade =
        |package: &str| server.client().patch("/v1/installations/rooms", &json!({"package": package}));
    refused(upgrade(&strange)?, 409, "publisher-changed", &maker.publisher)?;

    // The old key says that the other one takes its place.
    done(
        folder,
        &["key", "rotate", "publisher.key", "--to", &other, "--apps", APP, "-o", "catalog/rotation.json"],
    )?;
    let plan = format!(
        "name = \"plant\"\nrotations = [\"rotation.json\"]\n[[publishers]]\nname = \"Example\"\nkeys = [\"{}\", \"{other}\"]\nprefixes = [\"com.example\"]\n",
        maker.publisher
    );
    fs::write(maker.catalog().join("catalog.toml"), plan)?;
    maker.publish()?;
    refresh(&server)?.json()?;
    upgrade(&strange)?.json()?;
    // From now on the id is the other one's.
    refused(upgrade(&package)?, 409, "publisher-changed", &other)?;
    server.stop()?;
    Ok(())
}

#[test]
fn two_catalogs_that_give_an_id_to_others_leave_it_to_the_admin() -> Result<()> {
    let setup = Setup::new()?;
    let (a, b) = (Maker::new(&setup.folder().join("a"))?, Maker::named(&setup.folder().join("b"), "farm")?);
    let server = setup.start()?;
    a.add_to(&server)?;
    b.add_to(&server)?;
    let answer = server.client().post(&format!("/v1/apps/{APP}/fetch"), &json!({}))?;
    refused(answer, 422, "catalog", "is offered by the catalogs farm, plant")?;
    let body = json!({"catalog": "plant"});
    let fetched = server.client().post(&format!("/v1/apps/{APP}/fetch"), &body)?.json()?;
    let package = fetched["digest"].as_str().context("no digest")?;
    refused(install(&server, "rooms", package)?, 422, "publisher", "somebody has to say whose app is meant")?;
    let body = json!({"id": "rooms", "package": package, "bindings": {"value": "room/{name}"}, "publisher": a.publisher});
    server.client().post("/v1/installations", &body)?.json()?;
    server.stop()?;
    Ok(())
}

/// A catalog of which two of three keys sign the root, and two of three others the index.
fn of_two_of_three(maker: &Maker) -> Result<[[String; 3]; 2]> {
    let folder = &maker.folder;
    fs::remove_dir_all(maker.catalog())?;
    fs::create_dir_all(maker.catalog().join("packages"))?;
    maker.plan("")?;
    maker.add("0.1.0", "publisher.key")?;
    let three = |of: &str| -> Result<[String; 3]> {
        let new = |number: u8| key(folder, &format!("{of}-{number}.key"));
        Ok([new(1)?, new(2)?, new(3)?])
    };
    let all = [three("root")?, three("index")?];
    let mut make = vec!["catalog", "root", "catalog", "--threshold", "2", "--index-threshold", "2"];
    for (flag, keys) in ["--root-key", "--index-key"].into_iter().zip(&all) {
        keys.iter().for_each(|key| make.extend([flag, key]));
    }
    let told = done(folder, &make)?;
    ensure!(told.contains("2 of its 3 keys must sign it"), "{told}");
    let told = done(folder, &["catalog", "build", "catalog"])?;
    ensure!(told.contains("2 of 3 keys must sign it"), "{told}");
    Ok(all)
}

#[test]
fn two_of_three_sign() -> Result<()> {
    let setup = Setup::new()?;
    let maker = Maker::new(&setup.folder().join("maker"))?;
    let [roots, _] = of_two_of_three(&maker)?;
    let (folder, catalog) = (&maker.folder, maker.catalog());
    let server = setup.start()?;
    let add =
        |trust: &[&String]| server.client().post("/v1/catalogs", &json!({"source": catalog, "trust": trust}));
    let sign = |file: &str| done(folder, &["catalog", "sign", "catalog", "--key", file]);
    for (part, next, at) in
        [("root", "next-root.json", "root/1.json"), ("index", "next-index.json", "index.json")]
    {
        let (next, at) = (catalog.join(next), catalog.join(at));
        let told = sign(&format!("{part}-1.key"))?;
        ensure!(told.contains("1 of 2 keys of root 1: more are needed"), "{told}");
        ensure!(next.exists() && !at.exists(), "one of two isn't enough");
        if part == "root" {
            let root = ["catalog", "root", "catalog", "--root-key", &roots[0], "--index-key", &roots[0]];
            let again = run(folder, &root)?;
            let said = String::from_utf8_lossy(&again.stderr).into_owned();
            ensure!(
                !again.status.success() && said.contains(&roots[0]) && said.contains("--replace"),
                "{said}"
            );
        }
        // The same key again counts once.
        let told = sign(&format!("{part}-1.key"))?;
        ensure!(told.contains("1 of 2 keys of root 1: more are needed"), "{told}");
        ensure!(next.exists() && !at.exists());
        // Whoever gives it to the server all the same is refused, also with the signature twice.
        let waits = fs::read(&next)?;
        let mut twice: Value = serde_json::from_slice(&waits)?;
        let signature = twice["signatures"][0].clone();
        twice["signatures"] = json!([signature, signature]);
        fs::create_dir_all(catalog.join("root"))?;
        for (forced, said) in [
            (waits, "is signed by 1 of the keys that may sign it, and 2 are needed"),
            (twice.to_string().into_bytes(), "it has two signatures by"),
        ] {
            fs::write(&at, forced)?;
            refused(add(&[&roots[0]])?, 422, "catalog", said)?;
        }
        ensure!(catalogs(&server)?.is_empty());
        fs::remove_file(&at)?;
        let told = sign(&format!("{part}-3.key"))?;
        ensure!(told.contains("2 of 2 keys of root 1: in its place"), "{told}");
        ensure!(!next.exists() && at.exists());
    }
    refused(add(&[&roots[1]])?, 422, "catalog", &format!("isn't signed by {}", roots[1]))?;
    let added = add(&[&roots[0], &roots[2]])?.json()?;
    assert_eq!((&added["root"], &added["index"]["apps"]), (&json!(1), &json!(1)));
    assert_eq!(
        (added["root_threshold"].as_u64(), added["root_keys"].as_array().map(Vec::len)),
        (Some(2), Some(3))
    );
    fetch(&server, "0.1.0")?;
    Ok(())
}

#[test]
fn a_new_root_changes_keys_and_needs_the_old_ones() -> Result<()> {
    let (maker, server) = site()?;
    let folder = &maker.folder;
    let (root, index) = (key(folder, "root2.key")?, key(folder, "index2.key")?);
    let make = ["catalog", "root", "catalog", "--root-key", &root, "--index-key", &index];
    done(folder, &make)?;
    done(folder, &["catalog", "build", "catalog"])?;
    maker.sign("index2.key")?;
    maker.sign("root2.key")?;
    // It waits for the old key, and the catalog stays as it was.
    assert_eq!(refresh(&server)?.json()?["root"], 1);
    fs::copy(maker.catalog().join("next-root.json"), maker.catalog().join("root/2.json"))?;
    refused(refresh(&server)?, 422, "catalog", "is signed by 0 of the keys")?;
    fs::remove_file(maker.catalog().join("root/2.json"))?;
    maker.sign("root.key")?;
    let catalog = refresh(&server)?.json()?;
    assert_eq!((&catalog["root"], &catalog["root_keys"]), (&json!(2), &json!([root])));
    // The old key signs indexes for nobody any more.
    let output = run(folder, &["catalog", "sign", "catalog", "--key", "index.key"])?;
    ensure!(String::from_utf8_lossy(&output.stderr).contains("signs nothing of this catalog"), "{output:?}");
    server.stop()?;
    Ok(())
}

#[test]
fn a_lost_key_is_replaced_by_the_root_of_its_catalog() -> Result<()> {
    let (maker, server) = site()?;
    let (folder, client) = (&maker.folder, server.client());
    let package = fetch(&server, "0.1.0")?;
    install(&server, "rooms", &package)?.json()?;
    let new = key(folder, "new.key")?;
    let signed = |version: &str, by: &str| -> Result<String> {
        fs::write(folder.join("sent.app.tar"), one_state(version)?)?;
        done(folder, &["sign", "sent.app.tar", "--key", by])?;
        client.add_package(&fs::read(folder.join("sent.app.tar"))?)
    };
    let upgrade = |server: &Server, package: &str| {
        server.client().patch("/v1/installations/rooms", &json!({"package": package}))
    };
    let by_new = signed("0.2.0", "new.key")?;
    refused(upgrade(&server, &by_new)?, 409, "publisher-changed", &maker.publisher)?;

    // Neither key says anything of the other one.
    done(folder, &["catalog", "root", "catalog", "--rotate", &maker.publisher, &new, "com.example"])?;
    let plan = format!(
        "name = \"plant\"\n[[publishers]]\nname = \"Example\"\nkeys = [\"{}\", \"{new}\"]\nprefixes = [\"com.example\"]\n",
        maker.publisher
    );
    fs::write(maker.catalog().join("catalog.toml"), plan)?;
    done(folder, &["catalog", "build", "catalog"])?;
    maker.sign("index.key")?;
    refused(upgrade(&server, &by_new)?, 409, "publisher-changed", &maker.publisher)?;
    maker.sign("root.key")?;
    assert_eq!(refresh(&server)?.json()?["root"], 2);
    assert_eq!(upgrade(&server, &by_new)?.json()?["version"], "0.2.0");

    // Whoever has found the old one gets nothing by it, also after a loss of the process.
    let by_old = signed("0.3.0", "publisher.key")?;
    refused(upgrade(&server, &by_old)?, 409, "publisher-changed", &new)?;
    let server = server.restarted()?;
    refused(upgrade(&server, &by_old)?, 409, "publisher-changed", &new)?;
    refused(install(&server, "more", &package)?, 409, "publisher-changed", &new)?;
    goes_on(&server)
}

#[test]
fn a_catalog_takes_nothing_over_that_another_one_has_given() -> Result<()> {
    let setup = Setup::new()?;
    let (maker, hobby) =
        (Maker::new(&setup.folder().join("maker"))?, Maker::new(&setup.folder().join("hobby"))?);
    let server = setup.start()?;
    maker.add_to(&server)?;
    let package = fetch(&server, "0.1.0")?;
    install(&server, "rooms", &package)?.json()?;
    // Another catalog gives itself all ids below `com`, blocks, revokes, and has its root replace the key.
    fs::remove_dir_all(hobby.catalog())?;
    fs::create_dir_all(hobby.catalog().join("packages"))?;
    let plan = format!(
        "name = \"hobby\"\n[[publishers]]\nname = \"Hobby\"\nkeys = [\"{}\"]\nprefixes = [\"com\"]\n[[blocked]]\nid = \"{APP}\"\nreason = \"ours\"\n[[revoked]]\nkey = \"{}\"\nreason = \"ours\"\n",
        hobby.publisher, maker.publisher
    );
    fs::write(hobby.catalog().join("catalog.toml"), plan)?;
    let rotate = ["--rotate", &maker.publisher, &hobby.publisher, "com"];
    let root = ["catalog", "root", "catalog", "--root-key", &hobby.root, "--index-key", &hobby.index];
    done(&hobby.folder, &[&root[..], &rotate].concat())?;
    hobby.publish()?;
    hobby.add_to(&server)?;
    fs::write(hobby.folder.join("taken.app.tar"), one_state("0.9.0")?)?;
    done(&hobby.folder, &["sign", "taken.app.tar", "--key", "publisher.key"])?;
    let taken = server.client().add_package(&fs::read(hobby.folder.join("taken.app.tar"))?)?;
    let answer = server.client().patch("/v1/installations/rooms", &json!({"package": taken}))?;
    refused(answer, 409, "publisher-changed", &maker.publisher)?;
    install(&server, "more", &package)?.json()?;
    assert_eq!(server.client().installation("rooms")?.get("against"), None);
    // An admin bounds what a catalog may speak of.
    server.client().delete("/v1/catalogs/hobby")?;
    let body = json!({"source": hobby.catalog(), "trust": [hobby.root], "ids": ["com.hobby"]});
    assert_eq!(server.client().post("/v1/catalogs", &body)?.json()?["ids"], json!(["com.hobby"]));
    server.stop()?;
    Ok(())
}

#[test]
fn a_lost_index_lets_nothing_pass() -> Result<()> {
    let (_maker, server) = site()?;
    let setup = server.setup().clone();
    let package = fetch(&server, "0.1.0")?;
    install(&server, "rooms", &package)?.json()?;
    server.kill()?;
    let file = fs::read_dir(setup.data().join("catalogs"))?.next().context("no index")??.path();
    fs::remove_file(file)?;
    let server = setup.start()?;
    refused(
        install(&server, "more", &package)?,
        409,
        "catalog",
        "the index of the catalog plant isn't here",
    )?;
    let notes = server.client().get("/readyz")?.json()?["notes"].to_string();
    ensure!(notes.contains("the index of the catalog plant isn't here"), "{notes}");
    refresh(&server)?.json()?;
    install(&server, "more", &package)?.json()?;
    // It is back for the next start, too.
    server.kill()?;
    let server = setup.start()?;
    install(&server, "another", &package)?.json()?;
    server.stop()?;
    Ok(())
}
