//! Hostile input of strangers and admins: each attempt gets a clear error and an entry in the audit log, and
//! changes nothing.

use std::cell::Cell;
use std::fs;

use anyhow::{Context as _, Result, ensure};
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use ironloom_tests::apps::request;
use ironloom_tests::http::{Answer, Client};
use ironloom_tests::package::{Members, members, tar, with_envelope};
use ironloom_tests::publishing::{Maker, fetch, install, key, refresh, signed, site};
use ironloom_tests::server::{Server, Setup};
use ironloom_tests::{guests, wait_until};
use serde_json::{Value, json};

const PACKAGE: [(&str, &str); 1] = [("content-type", "application/vnd.ironloom.package+tar")];

/// A server under attempts, each of which is made by a name of its own.
struct Attempts<'s> {
    server: &'s Server,
    made: Cell<u32>,
}

impl<'s> Attempts<'s> {
    fn new(server: &'s Server) -> Self {
        Self { server, made: Cell::new(0) }
    }

    /// All that an attempt could have changed.
    fn state(&self) -> Result<Value> {
        let client = self.server.client();
        // Lists that come whole.
        let whole = |list: &str| -> Result<Vec<Value>> {
            let answer = client.get(&format!("/v1/{list}"))?.json()?;
            Ok(answer["items"].as_array().context("no items")?.clone())
        };
        let installations: Vec<_> = client
            .all("/v1/installations")?
            .into_iter()
            .map(|one| json!([one["id"], one["revision"], one["generation"], one["package"], one["state"]]))
            .collect();
        let catalogs: Vec<_> = whole("catalogs")?
            .into_iter()
            .map(|one| json!([one["name"], one["index"], one["root"]]))
            .collect();
        let mut state =
            json!({"installations": installations, "catalogs": catalogs, "connectors": whole("connectors")?});
        for list in ["packages", "consents", "kept", "points"] {
            state[list] = client.all(&format!("/v1/{list}"))?.into();
        }
        Ok(state)
    }

    /// Makes an attempt, and holds what came of it against a status, the kinds of problem that it may have, words of the error,
    /// and the action under which it is told.
    fn refused(
        &self,
        what: &str,
        (status, kind, words): (u16, &str, &str),
        action: &str,
        attempt: impl FnOnce(&Client) -> Result<Answer>,
    ) -> Result<()> {
        let number = self.made.replace(self.made.get() + 1);
        let name = format!("attempt-{number}");
        let admin = self.server.client();
        let token = admin.post("/v1/tokens", &json!({"name": name, "role": "platform-admin"}))?.json()?;
        let client = admin.with_token(token["token"].as_str().context("no token")?);
        let before = self.state()?;
        let tried = || -> Result<()> {
            let problem = attempt(&client)?.problem(status)?;
            assert_eq!(problem["kind"], kind, "{problem}");
            ensure!(problem.to_string().contains(words), "{words:?} isn't in {problem}");
            assert_eq!(self.state()?, before, "nothing is changed");
            let mut told = Vec::new();
            wait_until("its entry in the audit log", || {
                told = admin.all(&format!("/v1/audit?who={name}"))?;
                Ok(!told.is_empty())
            })?;
            let entry = told.iter().map(|entry| json!([entry["action"], entry["result"], entry["problem"]]));
            assert_eq!(entry.collect::<Vec<_>>(), [json!([action, "refused", kind])]);
            Ok(())
        };
        tried().with_context(|| what.to_owned())
    }

    fn package(&self, what: &str, expected: (u16, &str, &str), bytes: &[u8]) -> Result<()> {
        self.refused(what, expected, "addPackage", |client| {
            client.send("POST", "/v1/packages", &PACKAGE, bytes)
        })
    }
}

/// The members of a package, one of them with a text in place of another.
fn with_text(bytes: &[u8], member: &str, old: &str, new: &str) -> Result<Vec<u8>> {
    let mut all: Members = members(bytes)?;
    let found = all.iter_mut().find(|(name, _)| name == member).context("no such member")?;
    let text = String::from_utf8(found.1.clone())?;
    ensure!(text.contains(old), "{old} isn't in {text}");
    found.1 = text.replacen(old, new, 1).into_bytes();
    Ok(tar(&all))
}

#[test]
fn packages_that_were_tampered_with() -> Result<()> {
    let setup = Setup::new()?;
    let folder = setup.folder().to_owned();
    key(&folder, "a.key")?;
    key(&folder, "b.key")?;
    let server = setup.start()?;
    let attempts = Attempts::new(&server);
    let (mine, other) = (signed(&folder, "0.1.0", &["a.key"])?, signed(&folder, "0.2.0", &["a.key"])?);
    let envelope = |bytes: &[u8]| -> Result<Vec<u8>> {
        let found = members(bytes)?.into_iter().find(|(_, bytes)| bytes.starts_with(b"{\"payloadType\""));
        Ok(found.context("no envelope")?.1)
    };
    let borrowed = tar(&with_envelope(&mine, &envelope(&other)?)?);
    attempts.package("a signature from another package", (422, "package", "another package"), &borrowed)?;

    let mut altered = members(&mine)?;
    let layer = altered.iter_mut().max_by_key(|(_, bytes)| bytes.len()).context("no layer")?;
    layer.1[100] ^= 1;
    attempts.package("an altered layer", (422, "package", "different digest"), &tar(&altered))?;

    let plain = guests::package("one-state")?;
    let image = plain.members().into_iter().find(|(_, bytes)| {
        bytes.starts_with(b"{\"schemaVersion\":2,\"mediaType\":\"application/vnd.oci.image.manifest")
    });
    let length = image.context("no manifest")?.1.len();
    let lie = with_text(
        &plain.tar(),
        "index.json",
        &format!("\"size\":{length}"),
        &format!("\"size\":{}", length + 1),
    )?;
    let said = format!("has {} bytes, and it has {length}", length + 1);
    attempts.package("a lie about a size", (422, "package", &said), &lie)?;
    let twice = with_text(
        &plain.tar(),
        "index.json",
        "{\"schemaVersion\":2",
        "{\"schemaVersion\":2,\"schemaVersion\":2",
    )?;
    attempts.package("a key twice in JSON", (422, "package", "schemaVersion"), &twice)?;

    let with_manifest = |change: &dyn Fn(&str) -> String| {
        let mut package = plain.clone();
        package.manifest = change(&plain.manifest);
        package.tar()
    };
    let unknown = with_manifest(&|text| text.replacen("[inputs", "camera = true\n[inputs", 1));
    attempts.package("a permission that nobody knows", (422, "manifest", "camera"), &unknown)?;
    for (what, id) in [
        ("an id with a letter that looks like another", "com.ex\u{430}mple.one-state"),
        ("an id in other case", "com.example.One-State"),
        ("an id with markup", "com.example.<b>one</b>"),
    ] {
        let looks = with_manifest(&|text| text.replace("com.example.one-state", id));
        attempts.package(what, (422, "manifest", "id"), &looks)?;
    }
    let late =
        with_manifest(&|text| text.replace("version = \"0.1.0\"", "version = \"18446744073709551616.0.0\""));
    attempts.package("a version beyond 2^64", (422, "manifest", "version"), &late)?;

    let hostile = guests::package("hostile")?;
    let mut unfit = hostile.clone();
    unfit.manifest = hostile.manifest.replace("schedule = true", "schedule = false");
    attempts.package(
        "imports that the manifest doesn't declare",
        (422, "component", "schedule"),
        &unfit.tar(),
    )
}

#[test]
fn installs_and_upgrades_that_arent_to_be() -> Result<()> {
    let setup = Setup::new()?;
    let folder = setup.folder().to_owned();
    key(&folder, "a.key")?;
    key(&folder, "b.key")?;
    let server = setup.start()?;
    let client = server.client();
    let mine = client.add_package(&signed(&folder, "0.1.0", &["a.key"])?)?;
    let theirs = client.add_package(&signed(&folder, "0.1.1", &["b.key"])?)?;
    install(&server, "rooms", &mine)?.json()?;
    let attempts = Attempts::new(&server);
    let body = |id: &str, package: &str| request(id, package, json!({"value": "room/{name}"}), json!({}));
    attempts.refused(
        "the signature of another key at an install",
        (409, "publisher-changed", "belongs to"),
        "install",
        |client| client.post("/v1/installations", &body("more", &theirs)),
    )?;
    attempts.refused(
        "the signature of another key at an upgrade",
        (409, "publisher-changed", "belongs to"),
        "changeInstallation",
        |client| client.patch("/v1/installations/rooms", &json!({"package": theirs})),
    )?;
    for id in ["Rooms", "r\u{43e}oms", "rooms\u{202e}", "<script>"] {
        attempts.refused("an id that looks like another", (400, "bad-field", "id"), "install", |client| {
            client.post("/v1/installations", &body(id, &mine))
        })?;
    }
    attempts.refused("an id that is taken", (409, "exists", "rooms"), "install", |client| {
        client.post("/v1/installations", &body("rooms", &mine))
    })
}

#[test]
fn a_patch_release_that_asks_for_more_waits_and_is_told() -> Result<()> {
    let server = Setup::new()?.start()?;
    let client = server.client();
    let version = |version: &str, more: &str| -> Result<String> {
        let package = guests::package_as("com.example.one-state", version, "one-state", |text| text + more);
        client.add_package(&package?.tar())
    };
    let old = version("0.1.1", "")?;
    let new = version("0.1.2", "[alarms.high]\nseverity = \"high\"\n")?;
    client
        .post("/v1/installations", &request("rooms", &old, json!({"value": "room/{name}"}), json!({})))?
        .json()?;
    let asked = client.patch("/v1/installations/rooms", &json!({"package": new}))?;
    assert_eq!(asked.status, 202);
    assert_eq!(asked.json()?["waits"], true);
    assert_eq!(client.installation("rooms")?["package"], old, "the old version runs");
    assert_eq!(client.all("/v1/consents")?.len(), 1);
    let told = client.all("/v1/audit?action=changeInstallation")?;
    let told: Vec<_> = told.iter().map(|entry| json!([entry["result"], entry["resource"]])).collect();
    assert_eq!(told, [json!(["done", "installations/rooms"])]);
    Ok(())
}

#[test]
fn catalogs_that_lie() -> Result<()> {
    let (maker, server) = site()?;
    let attempts = Attempts::new(&server);
    let index = maker.catalog().join("index.json");
    let first = fs::read(&index)?;
    let package = fetch(&server, "0.1.0")?;
    maker.add("0.2.0", "publisher.key")?;
    maker.publish()?;
    refresh(&server)?.json()?;
    let second = fs::read(&index)?;
    let look = |client: &Client| client.post("/v1/catalogs/plant/refresh", &json!({}));
    fs::write(&index, &first)?;
    attempts.refused("an index from before", (422, "catalog", "older"), "refreshCatalog", look)?;
    let mut envelope: Value = serde_json::from_slice(&second)?;
    let payload = STANDARD.decode(envelope["payload"].as_str().context("no payload")?)?;
    let mut says: Value = serde_json::from_slice(&payload)?;
    says["version"] = json!(1_u64 << 63);
    envelope["payload"] = STANDARD.encode(says.to_string()).into();
    fs::write(&index, envelope.to_string())?;
    attempts.refused("an index of version 2^63, unsigned", (422, "catalog", ""), "refreshCatalog", look)?;
    let stranger = Maker::new(&server.setup().folder().join("stranger"))?;
    fs::copy(stranger.catalog().join("index.json"), &index)?;
    attempts.refused(
        "an index from another root",
        (422, "catalog", "signed by 0"),
        "refreshCatalog",
        look,
    )?;
    fs::write(&index, &second)?;

    let body = request("rooms", &package, json!({"value": "room/{name}"}), json!({}));
    let install = |client: &Client| client.post("/v1/installations", &body);
    maker.plan("valid_for = \"1 ms\"")?;
    maker.publish()?;
    refresh(&server)?.json()?;
    attempts.refused("an expired index", (422, "catalog", "has expired"), "install", install)?;
    maker.plan(&format!("[[revoked]]\nkey = \"{}\"\nreason = \"stolen\"", maker.publisher))?;
    maker.publish()?;
    refresh(&server)?.json()?;
    attempts.refused("a signature of a revoked key", (422, "catalog", "stolen"), "install", install)?;
    let package = fetch(&server, "0.2.0")?;
    let body = request("rooms", &package, json!({"value": "room/{name}"}), json!({}));
    let install = |client: &Client| client.post("/v1/installations", &body);
    attempts.refused("the same from the catalog", (422, "catalog", "stolen"), "install", install)
}

#[test]
fn tokens_that_are_worth_nothing() -> Result<()> {
    let server = Setup::new()?.config("[server]\ntokens = \"required\"\n").start()?;
    let admin = fs::read_to_string(server.setup().data().join("admin-token"))?;
    let admin = server.client().with_token(admin.trim());
    let short = json!({"name": "short", "role": "platform-admin", "for": "1 s"});
    let short = admin.post("/v1/tokens", &short)?.json()?;
    let expired = server.client().with_token(short["token"].as_str().context("no token")?);
    wait_until("its end", || Ok(expired.get("/v1/me")?.status == 401))?;
    let forged = server.client().with_token(&format!("ilm_{}", "A".repeat(43)));
    for client in [&expired, &forged, server.client()] {
        for path in ["/v1/halt", "/v1/tokens", "/v1/installations", "/v1/reload"] {
            let problem = client.post(path, &json!({}))?.problem(401)?;
            assert_eq!(problem["kind"], "unauthenticated");
        }
    }
    assert_eq!(admin.get("/v1/halt")?.json()?["site"], false);
    assert_eq!(admin.all("/v1/tokens")?.len(), 2);
    let told = admin.all("/v1/audit?who=-&result=refused")?;
    ensure!(!told.is_empty() && told.len() <= 3, "the first, and later a sum: {told:?}");
    Ok(())
}
