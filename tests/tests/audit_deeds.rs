//! The deeds of an app's life in the audit log, word for word: by people, and by the host itself.

use std::process::{Command, Stdio};

use anyhow::{Context as _, Result, ensure};
use ironloom_tests::apps::{change, number, request, wait_for_installation};
use ironloom_tests::auditing::{Plant, check_chain, field, said, words};
use ironloom_tests::package::Package;
use ironloom_tests::publishing::{APP, Maker, key, sign};
use ironloom_tests::server::binary;
use ironloom_tests::{Client, guests, wait_until};
use serde_json::{Value, json};

const INSTALLED: [&str; 2] = ["packages", "installations/rooms"];

fn post(client: &Client, path: &str) -> Result<Value> {
    client.post(path, &json!({}))?.json()
}

/// Has a version of the catalog's app fetched; gives its digest.
fn fetch(client: &Client, version: &str) -> Result<String> {
    let fetched = client.post(&format!("/v1/apps/{APP}/fetch"), &json!({"version": version}))?.json()?;
    Ok(fetched["digest"].as_str().context("no digest")?.to_owned())
}

/// A version that asks for more than those before it.
fn with_alarms() -> Result<Package> {
    guests::package_as(APP, "0.3.0", "one-state", |manifest| {
        manifest + "[alarms.high]\nseverity = \"high\"\n"
    })
}

/// A reading for `rooms`, which is taken.
fn reading(client: &Client, admin: &Client) -> Result<()> {
    let before = number(&client.installation("rooms")?, "counters.readings");
    admin.push_one("a/1", 1)?;
    wait_for_installation(client, "rooms", "the reading", |now| number(now, "counters.readings") > before)?;
    Ok(())
}

/// From the catalog to the second version.
fn comes_from_a_catalog(plant: &Plant, maker: &Maker, mia: &Client) -> Result<()> {
    let added = json!({"source": maker.catalog(), "trust": [maker.root]});
    plant.admin.post("/v1/catalogs", &added)?.json()?;
    maker.add("0.2.0", "publisher.key")?;
    maker.publish()?;
    post(mia, "/v1/catalogs/plant/refresh")?;
    let first = fetch(mia, "0.1.0")?;
    let body = request("rooms", &first, json!({"value": ["a/{n}", "b/{n}"]}), json!({}));
    mia.post("/v1/installations", &body)?.json()?;
    reading(mia, &plant.admin)?;
    let second = fetch(mia, "0.2.0")?;
    let upgraded = mia.patch("/v1/installations/rooms", &json!({"package": second}))?.json()?;
    ensure!(upgraded["trial"].is_object(), "it has a copy: {upgraded}");
    Ok(())
}

/// An upgrade that waits: refused, accepted, rolled back, and made again and committed.
fn asks_for_more(plant: &Plant, maker: &Maker, mia: &Client) -> Result<()> {
    let more = mia.add_package(&sign(&maker.folder, &with_alarms()?.tar(), &["publisher.key"])?)?;
    let upgrade = json!({"package": more});
    let waits = || -> Result<Value> {
        let answer = mia.patch("/v1/installations/rooms", &upgrade)?;
        ensure!(answer.status == 202, "{}", answer.text());
        answer.json()
    };
    waits()?;
    mia.delete("/v1/consents/rooms")?.json()?;
    waits()?;
    let shown = mia.get("/v1/consents/rooms")?.json()?;
    let given = json!({"package": shown["package"], "consent": shown["consent"]});
    assert_eq!(mia.post("/v1/consents/rooms/accept", &given)?.json()?["version"], "0.3.0");
    assert_eq!(post(mia, "/v1/installations/rooms/rollback")?["version"], "0.2.0");
    assert_eq!(change(mia, "rooms", &upgrade)?.json()?["version"], "0.3.0");
    post(mia, "/v1/installations/rooms/commit")?;
    let none = mia.post("/v1/installations/rooms/rollback", &json!({}))?.problem(409)?;
    assert_eq!(none["kind"], "no-trial");
    reading(mia, &plant.admin)
}

/// `ironloom grants trim`, by whoever has this token.
fn trims(plant: &Plant, client: &Client) -> Result<()> {
    let token = client.authorization().context("no token")?;
    let mut command = Command::new(binary()?);
    command.args(["grants", "trim", "rooms", "--yes"]).env("IRONLOOM_URL", client.url());
    command.env("IRONLOOM_TOKEN", token.trim_start_matches("Bearer ")).stdin(Stdio::null());
    let output = command.output()?;
    ensure!(output.status.success(), "{}", said(&output));
    assert_eq!(plant.admin.installation("rooms")?["bindings"], json!({"value": ["a/{n}"]}));
    Ok(())
}

/// Another app, whose id goes from one publisher to another.
fn changes_its_publisher(maker: &Maker, mia: &Client) -> Result<()> {
    key(&maker.folder, "first.key")?;
    let second = key(&maker.folder, "second.key")?;
    let package = |version: &str, by: &str| -> Result<String> {
        let package = guests::package_as("org.example.two", version, "one-state", |manifest| manifest)?;
        mia.add_package(&sign(&maker.folder, &package.tar(), &[by])?)
    };
    let (old, new) = (package("0.1.0", "first.key")?, package("0.2.0", "second.key")?);
    let body = |id: &str, package: &str, more: Value| request(id, package, json!({"value": "c/{n}"}), more);
    mia.post("/v1/installations", &body("old", &old, json!({})))?.json()?;
    let named = body("new", &new, json!({"new_publisher": second}));
    let shown = mia.post("/v1/installations?dry-run=true", &named)?.json()?;
    let consent = json!({"new_publisher": second, "consent": shown["consent"]["digest"]});
    mia.post("/v1/installations", &body("new", &new, consent))?.json()?;
    Ok(())
}

/// Holds the details of entries against what was done.
fn says_what_changed(told: &[Value]) -> Result<()> {
    for (at, words) in [
        (4, "installation rooms has revision 2: version 0.1.0 to 0.2.0, package sha256:"),
        (6, "version 0.3.0 of installation rooms waits for consent"),
        (7, "the upgrade of installation rooms was refused"),
        (9, "installation rooms has revision 3"),
        (10, "installation rooms was rolled back from version 0.3.0 to 0.2.0, generation "),
        (12, "the upgrade of installation rooms was committed"),
        (14, "installation rooms has revision 6: other bindings"),
        (18, "org.example.two 0.2.0 was installed as new, generation "),
    ] {
        ensure!(field(&told[at], "detail")?.starts_with(words), "{}", told[at]);
    }
    ensure!(
        field(&told[18], "detail")?.contains("; the id org.example.two belongs to ed25519:"),
        "{}",
        told[18]
    );
    Ok(())
}

#[test]
fn each_deed_of_an_apps_life_is_told_once() -> Result<()> {
    let plant = Plant::new()?;
    let mia = plant.client("mia", "app-admin")?;
    let maker = Maker::new(&plant.server.setup().folder().join("maker"))?;
    comes_from_a_catalog(&plant, &maker, &mia)?;
    asks_for_more(&plant, &maker, &mia)?;
    trims(&plant, &mia)?;
    changes_its_publisher(&maker, &mia)?;
    plant.admin.delete("/v1/catalogs/plant")?.json()?;

    let [packages, rooms] = INSTALLED;
    let by_admin = |action, resource| ["admin", "platform-admin", action, resource, "done", ""];
    let platform = [
        ["-host", "", "addToken", "tokens/admin", "done", ""],
        by_admin("addToken", "tokens"),
        by_admin("addToken", "tokens"),
        by_admin("addCatalog", "catalogs"),
        by_admin("removeCatalog", "catalogs/plant"),
    ];
    let by_mia = |action, resource| ["mia", "app-admin", action, resource, "done", ""];
    let tenant = [
        by_mia("refreshCatalog", "catalogs/plant"),
        by_mia("fetchApp", "apps/com.example.one-state"),
        by_mia("install", rooms),
        by_mia("fetchApp", "apps/com.example.one-state"),
        by_mia("changeInstallation", rooms),
        by_mia("addPackage", packages),
        by_mia("changeInstallation", rooms),
        by_mia("refuseConsent", "consents/rooms"),
        by_mia("changeInstallation", rooms),
        by_mia("acceptConsent", "consents/rooms"),
        by_mia("rollback", rooms),
        by_mia("changeInstallation", rooms),
        by_mia("commitUpgrade", rooms),
        ["mia", "app-admin", "rollback", rooms, "refused", "no-trial"],
        // `grants trim` is a change as any other.
        by_mia("changeInstallation", rooms),
        by_mia("addPackage", packages),
        by_mia("addPackage", packages),
        by_mia("install", "installations/old"),
        by_mia("install", "installations/new"),
    ];
    let is_told = |plant: &Plant| -> Result<Vec<Value>> {
        let (of_platform, of_tenant) = (plant.entries("chain=platform")?, plant.entries("chain=tenant-1")?);
        assert_eq!(of_platform.iter().map(words).collect::<Vec<_>>(), platform);
        assert_eq!(of_tenant.iter().map(words).collect::<Vec<_>>(), tenant);
        check_chain(&of_platform)?;
        check_chain(&of_tenant)?;
        let verified = plant.audit(&["verify"])?;
        ensure!(verified.status.success(), "{}", said(&verified));
        Ok(of_tenant)
    };
    let told = is_told(&plant)?;
    says_what_changed(&told)?;
    // The two that wait are the same request, and the one with a consent is another.
    ensure!(told[6]["digest"] == told[8]["digest"] && told[6]["digest"] != told[11]["digest"], "{told:?}");
    is_told(&plant.restarted()?)?;
    Ok(())
}

#[test]
fn what_the_host_rolls_back_and_commits_is_told_once() -> Result<()> {
    let plant = Plant::new()?;
    let mia = plant.client("mia", "app-admin")?;
    let old = guests::package_as("com.example.both", "0.0.1", "both", |manifest| manifest)?;
    let old = mia.add_package(&old.tar())?;
    let limits = json!({"limits": {"cpu": "1 s", "memory": "64 MiB"}});
    mia.post("/v1/installations", &request("texts", &old, json!({"scenario": ["commands"]}), limits))?
        .json()?;
    let new = json!({"package": mia.add_package(&guests::both_that_panics()?.tar())?});
    change(&mia, "texts", &new)?.json()?;
    for _ in 0..5 {
        plant.admin.push_one("commands", "panic")?;
    }
    wait_for_installation(&mia, "texts", "the rollback", |now| now["version"] == "0.0.1")?;

    let plant = plant.restarted_with("[copies]\ncommit_after = \"1 s\"\n")?;
    let mia = plant
        .server
        .client()
        .with_token(mia.authorization().context("no token")?.trim_start_matches("Bearer "));
    change(&mia, "texts", &new)?.json()?;
    wait_for_installation(&mia, "texts", "its time to be over", |now| {
        now["version"] == "0.2.0" && now["trial"].is_null()
    })?;

    let [packages, _] = INSTALLED;
    let by_mia = |action, resource| ["mia", "app-admin", action, resource, "done", ""];
    let by_host = |action| ["-host", "", action, "installations/texts", "done", ""];
    let expected = [
        by_mia("addPackage", packages),
        by_mia("install", "installations/texts"),
        by_mia("addPackage", packages),
        by_mia("changeInstallation", "installations/texts"),
        by_host("rollback"),
        by_mia("changeInstallation", "installations/texts"),
        by_host("commitUpgrade"),
    ];
    let is_told = |plant: &Plant| -> Result<Vec<Value>> {
        let told = plant.entries("chain=tenant-1")?;
        assert_eq!(told.iter().map(words).collect::<Vec<_>>(), expected);
        check_chain(&told)?;
        Ok(told)
    };
    let told = is_told(&plant)?;
    let (back, committed) = (field(&told[4], "detail")?, field(&told[6], "detail")?);
    ensure!(back.contains("was rolled back from version 0.2.0 to 0.0.1, generation "), "{back}");
    ensure!(back.contains(", since it was quarantined: "), "{back}");
    assert_eq!(committed, "the upgrade of installation texts was committed: its time was over");
    is_told(&plant.restarted_with("[copies]\ncommit_after = \"1 s\"\n")?)?;
    Ok(())
}

/// Copies beyond the quota go with the one that is too many, perhaps those of another app: whoever upgrades doesn't know of them.
#[test]
fn copies_that_go_are_no_deed_of_whoever_upgrades() -> Result<()> {
    let plant = Plant::with("[copies]\nnumber = 1\n")?;
    let mia = plant.client("mia", "app-admin")?;
    let add = |version: &str| -> Result<String> {
        let package = guests::package_as(APP, version, "one-state", |manifest| manifest)?;
        mia.add_package(&package.tar())
    };
    let versions = [add("0.1.1")?, add("0.2.0")?, add("0.3.0")?];
    let body = request("rooms", &versions[0], json!({"value": "a/{n}"}), json!({}));
    mia.post("/v1/installations", &body)?.json()?;
    for package in &versions[1..] {
        mia.patch("/v1/installations/rooms", &json!({"package": package}))?.json()?;
    }
    wait_until("one copy to be left", || {
        let copies = mia.get("/v1/installations/rooms/copies")?.json()?;
        Ok(copies["items"].as_array().is_some_and(|copies| copies.len() == 1))
    })?;
    let [packages, rooms] = INSTALLED;
    let by_mia = |action, resource| ["mia", "app-admin", action, resource, "done", ""];
    let expected = [
        by_mia("addPackage", packages),
        by_mia("addPackage", packages),
        by_mia("addPackage", packages),
        by_mia("install", rooms),
        by_mia("changeInstallation", rooms),
        by_mia("changeInstallation", rooms),
    ];
    let told = plant.entries("chain=tenant-1")?;
    assert_eq!(told.iter().map(words).collect::<Vec<_>>(), expected, "{told:?}");
    check_chain(&told)
}
