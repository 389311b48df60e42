//! That which was seen of catalogs: kept over their removal and the restore of a backup, and the time by which they expire.

use std::fs;
use std::process::{Command, Output};
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, ensure};
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use ironloom_tests::guests;
use ironloom_tests::publishing::{
    APP, Maker, PASSPHRASE, done, fetch, install, key, refresh, refused, run, site,
};
use ironloom_tests::server::{Server, Setup};
use serde_json::{Value, json};

/// The index that is offered, to be put back later.
fn index(maker: &Maker) -> Result<Vec<u8>> {
    Ok(fs::read(maker.catalog().join("index.json"))?)
}

#[test]
fn a_restored_backup_gets_nothing_that_was_seen_before_for_new() -> Result<()> {
    let (maker, server) = site()?;
    let setup = server.setup().clone();
    let folder = setup.folder().to_owned();
    let old = index(&maker)?;
    let cli = |server: &Server, arguments: &[&str]| {
        done(&folder, &[arguments, &["--url", server.client().url()]].concat())
    };
    cli(&server, &["backup", "before.backup"])?;
    // Seen after the backup: 0.1.0 is blocked.
    maker.add("0.2.0", "publisher.key")?;
    maker
        .plan(&format!("[[blocked]]\nid = \"{APP}\"\nversion = \"0.1.0\"\nreason = \"it forgets rooms\""))?;
    maker.publish()?;
    let seen = refresh(&server)?.json()?["index"]["version"].as_u64();
    cli(&server, &["catalog", "trust", "export", "seen.json"])?;
    let file: Value = serde_json::from_slice(&fs::read(folder.join("seen.json"))?)?;
    assert_eq!(file["catalogs"][0]["index"]["version"].as_u64(), seen);
    server.stop()?;

    // Somebody offers the site that is restored what it had then.
    done(&folder, &["restore", "before.backup", "--data", "restored"])?;
    let newer = index(&maker)?;
    fs::write(maker.catalog().join("index.json"), &old)?;
    let setup = setup.data_in(&folder.join("restored"));
    let server = setup.start()?;
    let told = cli(&server, &["catalog", "trust", "import", "seen.json"])?;
    ensure!(told.contains("plant") && told.contains("raised"), "{told}");
    refused(refresh(&server)?, 422, "catalog", "somebody offers an older one")?;
    let unknown = server.client().post(&format!("/v1/apps/{APP}/fetch"), &json!({}))?;
    refused(unknown, 404, "not-found", "no catalog offers")?;
    // Nothing is lowered, neither by an older file nor by a start.
    let mut lower = file.clone();
    lower["catalogs"][0]["index"]["version"] = json!(1);
    let answer = server.client().post("/v1/catalog-trust", &lower)?.json()?;
    assert_eq!((&answer["items"][0]["raised"], &answer["items"][0]["index"]), (&json!(false), &json!(seen)));
    server.kill()?;
    let server = setup.start()?;
    refused(refresh(&server)?, 422, "catalog", "somebody offers an older one")?;
    fs::write(maker.catalog().join("index.json"), &newer)?;
    refresh(&server)?.json()?;
    let old = fetch(&server, "0.1.0")?;
    refused(install(&server, "rooms", &old)?, 422, "catalog", "it forgets rooms")?;

    // Files that are none.
    for (wrong, said) in [
        (json!({"format": "x", "written": "2026-01-01T00:00:00Z", "catalogs": []}), "it has the format"),
        (
            json!({"format": file["format"], "written": file["written"], "catalogs": [file["catalogs"][0], file["catalogs"][0]]}),
            "twice",
        ),
    ] {
        refused(server.client().post("/v1/catalog-trust", &wrong)?, 422, "catalog", said)?;
    }
    let mut other = file.clone();
    other["catalogs"][0]["root"]["expires"] = json!("2050-01-01T00:00:00Z");
    refused(server.client().post("/v1/catalog-trust", &other)?, 422, "catalog", "other contents")?;
    server.stop()?;
    Ok(())
}

#[test]
fn a_catalog_that_was_removed_isnt_forgotten() -> Result<()> {
    let (maker, server) = site()?;
    let setup = server.setup().clone();
    let old = index(&maker)?;
    maker.publish()?;
    refresh(&server)?.json()?;
    let url = server.client().url().to_owned();
    let removed = run(&maker.folder, &["catalog", "remove", "plant", "--url", &url])?;
    let told = String::from_utf8_lossy(&removed.stderr).into_owned();
    ensure!(removed.status.success() && told.contains("what was seen of it is kept"), "{told}");
    let seen = server.client().get("/v1/catalog-trust")?.json()?;
    assert_eq!(seen["catalogs"].as_array().map(Vec::len), Some(1));
    server.kill()?;
    let server = setup.start()?;
    refused(server.client().get("/v1/catalogs/plant")?, 404, "not-found", "plant")?;

    let newer = index(&maker)?;
    fs::write(maker.catalog().join("index.json"), &old)?;
    let add = || {
        let body = json!({"source": maker.catalog(), "trust": [maker.root]});
        server.client().post("/v1/catalogs", &body)
    };
    let answer = add()?;
    refused(answer, 422, "catalog", "a catalog of the name plant was here before")?;
    fs::write(maker.catalog().join("index.json"), &newer)?;
    add()?.json()?;
    fetch(&server, "0.1.0")?;

    // Forgotten only with a word.
    server.client().delete("/v1/catalogs/plant?forget=true")?;
    fs::write(maker.catalog().join("index.json"), &old)?;
    add()?.json()?;
    server.client().delete("/v1/catalogs/plant")?;
    server.client().delete("/v1/catalogs/plant?forget=true")?;
    refused(server.client().delete("/v1/catalogs/plant?forget=true")?, 404, "not-found", "no catalog")?;
    let seen = server.client().get("/v1/catalog-trust")?.json()?;
    assert_eq!(seen["catalogs"], json!([]));
    server.stop()?;
    Ok(())
}

#[test]
fn another_catalog_of_a_forgotten_ones_name_has_no_say_in_its_ids() -> Result<()> {
    let (maker, server) = site()?;
    let package = fetch(&server, "0.1.0")?;
    install(&server, "rooms", &package)?.json()?;
    server.client().delete("/v1/catalogs/plant?forget=true")?;
    // Its root says that the key of its own publisher has taken the place of the first one's.
    let other = Maker::new(&server.setup().folder().join("other"))?;
    fs::remove_dir_all(other.catalog())?;
    fs::create_dir_all(other.catalog().join("packages"))?;
    other.plan("")?;
    let root = ["catalog", "root", "catalog", "--root-key", &other.root, "--index-key", &other.index];
    let rotate = ["--rotate", &maker.publisher, &other.publisher, "com.example"];
    done(&other.folder, &[&root[..], &rotate].concat())?;
    other.add("0.9.0", "publisher.key")?;
    other.publish()?;
    other.add_to(&server)?;
    let taken = fetch(&server, "0.9.0")?;
    let upgrade = server.client().patch("/v1/installations/rooms", &json!({"package": taken}))?;
    refused(upgrade, 409, "publisher-changed", &maker.publisher)?;
    // Not after a restart, either.
    let server = server.restarted()?;
    let upgrade = server.client().patch("/v1/installations/rooms", &json!({"package": taken}))?;
    refused(upgrade, 409, "publisher-changed", &maker.publisher)?;
    Ok(())
}

/// Signs an index that this changes.
fn publish_changed(maker: &Maker, change: impl Fn(&mut Value)) -> Result<()> {
    done(&maker.folder, &["catalog", "build", "catalog"])?;
    let path = maker.catalog().join("next-index.json");
    let mut envelope: Value = serde_json::from_slice(&fs::read(&path)?)?;
    let payload = STANDARD.decode(envelope["payload"].as_str().context("no payload")?)?;
    let mut index: Value = serde_json::from_slice(&payload)?;
    change(&mut index);
    envelope["payload"] = json!(STANDARD.encode(index.to_string()));
    fs::write(&path, envelope.to_string())?;
    maker.sign("index.key")
}

#[test]
fn a_package_that_isnt_what_its_catalog_says_isnt_kept() -> Result<()> {
    let (maker, server) = site()?;
    let client = server.client();
    let fetch = |version: &str| client.post(&format!("/v1/apps/{APP}/fetch"), &json!({"version": version}));
    // One of an id that the catalog may not speak of.
    client.delete("/v1/catalogs/plant?forget=true")?;
    let body = json!({"source": maker.catalog(), "trust": [maker.root], "ids": ["com.hobby"]});
    client.post("/v1/catalogs", &body)?.json()?;
    refused(fetch("0.1.0")?, 404, "not-found", "no catalog offers")?;
    assert_eq!(client.all("/v1/apps")?, [Value::Null; 0]);
    client.delete("/v1/catalogs/plant")?;
    maker.add_to(&server)?;
    // One with another version than it says, and one with another digest.
    for (version, change, said) in [
        ("0.1.1", json!({"version": "0.1.1"}), "is com.example.one-state 0.1.0"),
        ("0.1.0", json!({"digest": format!("sha256:{}", "0".repeat(64))}), "and the catalog plant names"),
    ] {
        publish_changed(&maker, |index| {
            for (field, value) in change.as_object().into_iter().flatten() {
                index["apps"][0]["versions"][0][field.as_str()] = value.clone();
            }
        })?;
        refresh(&server)?.json()?;
        refused(fetch(version)?, 422, "catalog", said)?;
        assert_eq!(client.all("/v1/packages")?, [Value::Null; 0]);
    }
    Ok(())
}

#[test]
fn a_clock_that_is_far_ahead_harms_its_own_catalog_alone() -> Result<()> {
    let setup = Setup::new()?;
    let maker = Maker::new(&setup.folder().join("maker"))?;
    let other = Maker::named(&setup.folder().join("other"), "farm")?;
    let server = setup.start()?;
    maker.add_to(&server)?;
    publish_changed(&other, |index| {
        index["issued"] = json!("2199-01-01T00:00:00Z");
        index["expires"] = json!("2199-02-01T00:00:00Z");
    })?;
    let farm = other.add_to(&server)?;
    ensure!(farm["problem"].as_str().is_some_and(|text| text.contains("more than a day ahead")), "{farm}");
    let plant = server.client().get("/v1/catalogs/plant")?.json()?;
    assert_eq!((&plant["index"]["expired"], &plant["problem"]), (&json!(false), &Value::Null));
    let fetched = server.client().post(&format!("/v1/apps/{APP}/fetch"), &json!({"catalog": "plant"}))?;
    fetched.json()?;
    server.stop()?;
    Ok(())
}

#[test]
fn a_search_over_15000_apps_takes_less_than_50_ms() -> Result<()> {
    let (maker, server) = site()?;
    publish_changed(&maker, |index| {
        let template = index["apps"][0].clone();
        let all = (0..15_000).map(|number| {
            let mut app = template.clone();
            app["id"] = json!(format!("com.example.app-{number:05}"));
            app["name"] = json!(format!("Machine {number} watch"));
            let words = ["weighs", "counts", "cools", "charges", "feeds", "lights", "cuts"];
            let word = words[number % words.len()];
            app["description"] = json!(format!(
                "It {word} what number {number} brings. {}",
                "Of a plant, a farm or a fleet of machines; ".repeat(8)
            ));
            app["categories"] = json!([format!("category-{}", number % 20)]);
            app
        });
        index["apps"] = all.collect();
        index["blocked"] = (0..5_000).map(|number| json!({"id": format!("com.example.app-{number:05}"), "version": "9.0.0", "reason": "old"})).collect();
    })?;
    assert_eq!(refresh(&server)?.json()?["index"]["apps"], 15_000);
    for (query, first) in [
        ("words=machine+14999", Some("com.example.app-14999")),
        ("words=charges+brings&category=category-3", Some("com.example.app-00003")),
        ("words=plant&limit=100", Some("com.example.app-00000")),
        ("words=tractor+of+nobody", None),
        ("limit=100", Some("com.example.app-00000")),
    ] {
        let mut times = Vec::new();
        for _ in 0..15 {
            let start = Instant::now();
            let answer = server.client().get(&format!("/v1/apps?{query}"))?.json()?;
            times.push(start.elapsed());
            assert_eq!(answer["items"][0]["id"].as_str(), first, "{query}");
        }
        times.sort_unstable();
        let median = times[times.len() / 2];
        println!("{query}: {median:?}, at most {:?}", times[times.len() - 1]);
        ensure!(median < Duration::from_millis(50), "{query} takes {median:?}");
    }
    server.stop()?;
    Ok(())
}

#[test]
fn a_publisher_chooses_among_catalogs_and_json_is_one_list() -> Result<()> {
    let setup = Setup::new()?;
    let maker = Maker::new(&setup.folder().join("maker"))?;
    let other = Maker::named(&setup.folder().join("other"), "farm")?;
    let server = setup.start()?;
    maker.add_to(&server)?;
    other.add_to(&server)?;
    let url = server.client().url().to_owned();
    let install = |id: &str, more: &[&str]| {
        let arguments = ["install", APP, "--id", id, "--bind", "value=room/{name}", "--url", &url];
        run(&maker.folder, &[&arguments[..], more].concat())
    };
    let unsure = install("rooms", &[])?;
    ensure!(
        String::from_utf8_lossy(&unsure.stderr).contains("is offered by the catalogs farm, plant"),
        "{unsure:?}"
    );
    let stranger = key(&maker.folder, "stranger.key")?;
    let nobody = install("rooms", &["--publisher", &stranger])?;
    ensure!(String::from_utf8_lossy(&nobody.stderr).contains("no catalog that offers"), "{nobody:?}");
    let chosen = install("rooms", &["--publisher", &other.publisher])?;
    ensure!(chosen.status.success(), "{chosen:?}");

    let all: Value =
        serde_json::from_str(&done(&maker.folder, &["catalog", "refresh", "--json", "--url", &url])?)?;
    assert_eq!((&all["items"][0]["name"], &all["items"][1]["name"]), (&json!("farm"), &json!("plant")));
    // Tables have seconds.
    let table = done(&maker.folder, &["catalog", "list", "--url", &url])?;
    let is_fine = |cell: &str| cell.ends_with('Z') && cell.contains('.');
    ensure!(table.contains('Z') && !table.split_whitespace().any(is_fine), "{table}");
    server.stop()?;
    Ok(())
}

#[test]
fn signing_shows_what_is_signed() -> Result<()> {
    let setup = Setup::new()?;
    let maker = Maker::new(&setup.folder().join("maker"))?;
    maker.add("0.2.0", "publisher.key")?;
    let stranger = key(&maker.folder, "stranger.key")?;
    let rotate =
        ["key", "rotate", "publisher.key", "--to", &stranger, "--apps", APP, "-o", "catalog/rotation.json"];
    done(&maker.folder, &rotate)?;
    maker.plan(&format!(
        "rotations = [\"rotation.json\"]\n[[revoked]]\nkey = \"{stranger}\"\nreason = \"stolen\""
    ))?;
    done(&maker.folder, &["catalog", "build", "catalog"])?;
    done(
        &maker.folder,
        &["catalog", "root", "catalog", "--root-key", &stranger, "--index-key", &maker.index],
    )?;
    let signed = run(&maker.folder, &["catalog", "sign", "catalog", "--key", "root.key"])?;
    let told = String::from_utf8_lossy(&signed.stderr).into_owned();
    for line in [
        "root 2 of plant, which holds until ".to_owned(),
        format!("  + {stranger}\n"),
        format!("  - {}\n", maker.root),
        ", after index 2, with 1 apps, which holds until ".to_owned(),
        format!("  + app {APP} 0.2.0: sha256:"),
        format!("  + revoked key {stranger}: stolen\n"),
        format!("  + {stranger} takes the place of {} for {APP}\n", maker.publisher),
    ] {
        ensure!(told.contains(&line), "{line:?} isn't in {told}");
    }
    ensure!(!told.contains(&format!("app {APP} 0.1.0")), "{told}");
    Ok(())
}

#[test]
fn what_strangers_write_makes_no_lines_and_arrays_are_no_objects() -> Result<()> {
    let (maker, server) = site()?;
    publish_changed(&maker, |index| index["apps"][0]["a\nerror: b"] = json!(1))
        .err()
        .context("it is signed")?;
    let path = maker.catalog().join("index.json");
    let mut envelope: Value = serde_json::from_slice(&fs::read(&path)?)?;
    let signature = envelope["signatures"][0].clone();
    envelope["signatures"][0] = json!([signature["keyid"], signature["sig"]]);
    fs::write(&path, envelope.to_string())?;
    refused(refresh(&server)?, 422, "catalog", "expected an object")?;
    envelope["signatures"][0] = signature;
    envelope["x\nerror: y"] = json!(1);
    fs::write(&path, envelope.to_string())?;
    let answer = refresh(&server)?.problem(422)?;
    let detail = answer["detail"].as_str().context("no detail")?;
    ensure!(detail.contains("x\\nerror: y") && !detail.contains('\n'), "{detail}");
    server.stop()?;
    Ok(())
}

/// The parts of an answer's head that keep browsers from taking it for a page.
fn kind_of_answer(server: &Server, path: &str) -> Result<[String; 2]> {
    let url = server.client().url();
    let mut answer = ureq::get(format!("{url}{path}")).call()?;
    let header = |name: &str| -> String {
        let value = answer.headers().get(name).and_then(|value| value.to_str().ok());
        value.unwrap_or_default().to_owned()
    };
    let found = [header("content-type"), header("x-content-type-options")];
    let text = answer.body_mut().read_to_string()?;
    ensure!(text.contains("<b>x</b>"), "{path}: {text}");
    Ok(found)
}

#[test]
fn markup_in_names_is_shown_as_text() -> Result<()> {
    let (maker, server) = site()?;
    let url = server.client().url().to_owned();
    // As long as the name of an app may be.
    let long = format!("<b>x</b>{}", "&".repeat(192));
    for (version, id, name) in [("0.2.0", "rooms", "<b>x</b>"), ("0.3.0", "more", &long)] {
        let named =
            |manifest: String| manifest.replacen("name = \"One state\"", &format!("name = \"{name}\""), 1);
        let package = guests::package_as(APP, version, "one-state", named)?;
        fs::write(maker.folder.join("new.app.tar"), package.tar())?;
        done(&maker.folder, &["sign", "new.app.tar", "--key", "publisher.key"])?;
        done(&maker.folder, &["catalog", "build", "catalog", "--add", "new.app.tar"])?;
        maker.publish()?;
        refresh(&server)?.json()?;
        let offer = format!("plant/{APP}@{version}");
        let install = ["install", &offer, "--id", id, "--bind", "value=room/{name}"];
        for (command, shows) in [
            (&["catalog", "search", "x"][..], true),
            (&["catalog", "show", APP], true),
            (&install, false),
            (&["show", id], false),
            (&["list"], false),
        ] {
            let output = run(&maker.folder, &[command, &["--url", &url]].concat())?;
            ensure!(output.status.success(), "{command:?}: {output:?}");
            is_plain(command, &output, if shows { name } else { "" })?;
        }
        is_plain(&["inspect"], &run(&maker.folder, &["inspect", "new.app.tar"])?, name)?;
        let digest = server.client().installation(id)?["package"].as_str().context("no digest")?.to_owned();
        for path in
            [format!("/v1/apps/{APP}"), "/v1/apps?words=x".to_owned(), format!("/v1/packages/{digest}")]
        {
            assert_eq!(kind_of_answer(&server, &path)?, ["application/json", "nosniff"], "{path}");
        }
    }
    Ok(())
}

/// The output of a command has this text as it is, and nothing that steers a terminal.
fn is_plain(command: &[&str], output: &Output, text: &str) -> Result<()> {
    let all = String::from_utf8([&output.stdout[..], &output.stderr].concat())?;
    let odd = all.chars().find(|one| *one != '\n' && ironloom_types::text::misleads(*one));
    ensure!(odd.is_none(), "{command:?} has said {odd:?}: {all}");
    ensure!(all.contains(text), "{command:?}: {text:?} isn't in {all}");
    Ok(())
}

/// Signs an index that this changes without a word of `ironloom catalog sign`; false where nothing else can sign.
fn publish_by_openssl(maker: &Maker, change: impl Fn(&mut Value)) -> Result<bool> {
    done(&maker.folder, &["catalog", "build", "catalog"])?;
    let next = maker.catalog().join("next-index.json");
    let mut envelope: Value = serde_json::from_slice(&fs::read(&next)?)?;
    let mut index: Value = serde_json::from_slice(&STANDARD.decode(text(&envelope["payload"])?)?)?;
    change(&mut index);
    let payload = index.to_string();
    let kind = text(&envelope["payloadType"])?;
    let message = format!("DSSEv1 {} {kind} {} {payload}", kind.len(), payload.len());
    fs::write(maker.folder.join("message"), message)?;
    let mut openssl = Command::new("openssl");
    openssl.args([
        "pkeyutl",
        "-sign",
        "-rawin",
        "-inkey",
        "index.key",
        "-in",
        "message",
        "-out",
        "signature",
    ]);
    openssl.arg("-passin").arg(format!("pass:{PASSPHRASE}")).current_dir(&maker.folder);
    match openssl.output() {
        Ok(output) => ensure!(output.status.success(), "{output:?}"),
        Err(error) => {
            ironloom_mutate::missing("openssl", "indexes that nobody here would sign", &error.to_string());
            return Ok(false);
        }
    }
    let signature = STANDARD.encode(fs::read(maker.folder.join("signature"))?);
    envelope["signatures"] = json!([{"keyid": maker.index, "sig": signature}]);
    envelope["payload"] = json!(STANDARD.encode(payload));
    fs::write(maker.catalog().join("index.json"), envelope.to_string())?;
    Ok(true)
}

fn text(value: &Value) -> Result<&str> {
    value.as_str().context("no text")
}

type Change<'a> = &'a dyn Fn(&mut Value);

#[test]
fn an_index_whose_texts_deceive_is_refused_with_words() -> Result<()> {
    let (maker, server) = site()?;
    let seen = server.client().get("/v1/catalogs/plant")?.json()?["index"].clone();
    let blocked = |reason: &str| json!([{"id": APP, "version": "0.1.0", "reason": reason}]);
    let changes: [(&str, Change); 4] = [
        ("\\u{202e}", &|index| index["apps"][0]["name"] = json!("harmless\u{202e}x")),
        ("\\u{1b}", &|index| index["apps"][0]["name"] = json!("harmless\u{1b}[2J")),
        ("\\u{a}", &|index| index["blocked"] = blocked("it forgets rooms\nerror: x")),
        ("\\u{200b}", &|index| index["blocked"] = blocked("it forgets\u{200b} rooms")),
    ];
    let good = index(&maker)?;
    for (character, change) in changes {
        if !publish_by_openssl(&maker, change)? {
            return Ok(());
        }
        let problem = refresh(&server)?.problem(422)?;
        assert_eq!(problem["kind"], "catalog", "{problem}");
        let detail = text(&problem["detail"])?;
        let said = format!("has the character {character}, which is none of a text in one line");
        ensure!(detail.contains(&said), "{said:?} isn't in {detail}");
        ensure!(!detail.chars().any(ironloom_types::text::misleads), "{detail:?}");
        assert_eq!(server.client().get("/v1/catalogs/plant")?.json()?["index"], seen);
        fs::write(maker.catalog().join("index.json"), &good)?;
    }
    // Signed by the same hand, and without such a character, it is taken.
    ensure!(publish_by_openssl(&maker, |index| index["apps"][0]["name"] = json!("harmless"))?);
    refresh(&server)?.json()?;
    assert_eq!(server.client().all("/v1/apps")?[0]["name"], "harmless");
    Ok(())
}
