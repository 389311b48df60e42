//! Keys that a catalog has revoked or the host denies: a further signature doesn't hide it, and whoever has it hands nothing over.

use std::fs;

use anyhow::{Context as _, Result, ensure};
use ironloom_tests::publishing::{APP, Maker, done, fetch, install, key, refresh, refused, signed, site};
use ironloom_tests::server::Setup;
use serde_json::{Value, json};

#[test]
fn a_further_signature_doesnt_hide_the_publishers_revoked_key() -> Result<()> {
    let (maker, server) = site()?;
    let client = server.client();
    let other = key(&maker.folder, "other.key")?;
    let both = client.add_package(&signed(&maker.folder, "0.7.0", &["publisher.key", "other.key"])?)?;
    let body = json!({"id": "rooms", "package": both, "bindings": {"value": "room/{name}"}});
    client.post("/v1/installations", &body)?.json()?;
    assert_eq!(client.installation("rooms")?.get("against"), None);
    // Of somebody else's key nothing follows.
    maker.plan(&format!("[[revoked]]\nkey = \"{other}\"\nreason = \"another's\""))?;
    maker.publish()?;
    refresh(&server)?.json()?;
    assert_eq!(client.installation("rooms")?.get("against"), None);
    maker.plan(&format!("[[revoked]]\nkey = \"{}\"\nreason = \"stolen\"", maker.publisher))?;
    maker.publish()?;
    refresh(&server)?.json()?;
    let told = format!("has revoked the key {}, which has signed it: stolen", maker.publisher);
    let against = client.installation("rooms")?["against"].clone();
    ensure!(against.as_str().is_some_and(|text| text.contains(&told)), "{against}");
    ensure!(client.get("/readyz")?.text().contains(&told));
    let told = format!(
        "belongs to {}, which has signed this package, and the catalog plant has revoked it: stolen",
        maker.publisher
    );
    refused(install(&server, "more", &both)?, 409, "publisher-changed", &told)?;
    server.stop()?;
    Ok(())
}

#[test]
fn a_denied_key_beside_another_is_denied_and_shows_where_it_runs() -> Result<()> {
    let setup = Setup::new()?;
    let folder = setup.folder().to_owned();
    let [denied, _] = [key(&folder, "denied.key")?, key(&folder, "other.key")?];
    let server = setup.start()?;
    let package = server.client().add_package(&signed(&folder, "0.1.0", &["denied.key", "other.key"])?)?;
    let body = json!({
        "id": "rooms", "package": package, "bindings": {"value": "room/{name}"}, "publisher": denied,
    });
    server.client().post("/v1/installations", &body)?.json()?;
    server.stop()?;
    let server = setup.config(format!("[policy]\npublishers_denied = [\"{denied}\"]\n")).start()?;
    let told = format!("[policy] publishers_denied names {denied}, which has signed it");
    let against = server.client().installation("rooms")?["against"].clone();
    ensure!(against.as_str().is_some_and(|text| text.contains(&told)), "{against}");
    refused(install(&server, "more", &package)?, 422, "policy", &told)?;
    server.stop()?;
    Ok(())
}

#[test]
fn a_rotation_by_a_stolen_key_in_another_catalog_hands_nothing_over() -> Result<()> {
    let setup = Setup::new()?;
    let maker = Maker::new(&setup.folder().join("maker"))?;
    let server = setup.start()?;
    maker.add_to(&server)?;
    let package = fetch(&server, "0.1.0")?;
    install(&server, "rooms", &package)?.json()?;

    // The thief says with the stolen key that another one takes its place, and has a catalog that brings it.
    let hobby = Maker::named(&setup.folder().join("hobby"), "hobby")?;
    let thief = key(&hobby.folder, "thief.key")?;
    fs::copy(maker.folder.join("publisher.key"), hobby.folder.join("stolen.key"))?;
    let rotation = hobby.catalog().join("rotation.json");
    let rotate =
        ["key", "rotate", "stolen.key", "--to", &thief, "--apps", APP, "-o", "catalog/rotation.json"];
    done(&hobby.folder, &rotate)?;
    ensure!(rotation.exists());
    hobby.plan("rotations = [\"rotation.json\"]")?;
    hobby.publish()?;
    hobby.add_to(&server)?;
    let taken = server.client().add_package(&signed(&hobby.folder, "0.9.0", &["thief.key"])?)?;
    let upgrade = |body: Value| server.client().patch("/v1/installations/rooms", &body);
    // Before the owner's catalog has heard of it, and after.
    refused(upgrade(json!({"package": taken}))?, 409, "publisher-changed", &maker.publisher)?;
    maker.plan(&format!("[[revoked]]\nkey = \"{}\"\nreason = \"stolen\"", maker.publisher))?;
    maker.publish()?;
    refresh(&server)?.json()?;
    refused(upgrade(json!({"package": taken}))?, 409, "publisher-changed", &maker.publisher)?;
    refused(install(&server, "more", &taken)?, 409, "publisher-changed", &maker.publisher)?;
    // Nor does its own catalog pass it on any more.
    fs::copy(rotation, maker.catalog().join("rotation.json"))?;
    let revoked = format!("[[revoked]]\nkey = \"{}\"\nreason = \"stolen\"", maker.publisher);
    maker.plan(&format!("rotations = [\"rotation.json\"]\n{revoked}"))?;
    maker.publish()?;
    refresh(&server)?.json()?;
    refused(upgrade(json!({"package": taken}))?, 409, "publisher-changed", &maker.publisher)?;
    // Its root may say who follows.
    let root = ["catalog", "root", "catalog", "--root-key", &maker.root, "--index-key", &maker.index];
    done(&maker.folder, &[&root[..], &["--rotate", &maker.publisher, &thief, "com.example"]].concat())?;
    maker.publish()?;
    refresh(&server)?.json()?;
    let now = upgrade(json!({"package": taken}))?.json().context("the root's word")?;
    assert_eq!(now["version"], "0.9.0");
    server.stop()?;
    Ok(())
}

#[test]
fn whoever_takes_an_id_over_is_held_against_their_own_catalog() -> Result<()> {
    let setup = Setup::new()?;
    let (maker, farm) =
        (Maker::new(&setup.folder().join("maker"))?, Maker::named(&setup.folder().join("farm"), "farm")?);
    let server = setup.start()?;
    maker.add_to(&server)?;
    install(&server, "rooms", &fetch(&server, "0.1.0")?)?.json()?;
    farm.plan(&format!("[[blocked]]\nid = \"{APP}\"\nversion = \"0.3.0\"\nreason = \"it loses pigs\""))?;
    farm.publish()?;
    farm.add_to(&server)?;
    let takes_over = |version: &str| -> Result<ironloom_tests::http::Answer> {
        let package = server.client().add_package(&signed(&farm.folder, version, &["publisher.key"])?)?;
        let body = json!({
            "id": "more", "package": package, "bindings": {"value": "room/{name}"}, "new_publisher": farm.publisher,
        });
        server.client().post("/v1/installations?dry-run=true", &body)
    };
    refused(
        takes_over("0.3.0")?,
        422,
        "catalog",
        &format!("the catalog farm blocks {APP} 0.3.0: it loses pigs"),
    )?;
    takes_over("0.2.0")?.json()?;
    server.stop()?;
    Ok(())
}
