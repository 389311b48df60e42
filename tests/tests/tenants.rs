//! Tenants: what one has, no other sees, counts or changes.

use std::collections::BTreeSet;
use std::fs;

use anyhow::{Context as _, Result, ensure};
use ironloom_tests::apps::install;
use ironloom_tests::guests;
use ironloom_tests::http::{Answer, Client, percent_encode};
use ironloom_tests::listener::Listener;
use ironloom_tests::model::wait_until_done;
use ironloom_tests::server::{Server, Setup, binary};
use ironloom_tests::wait::wait_for;
use serde_json::{Value, json};

struct Site {
    server: Server,
    /// Of the platform.
    admin: Client,
}

impl Site {
    fn new() -> Result<Self> {
        let server = Setup::new()?.config("[server]\ntokens = \"required\"\n").start()?;
        let token = fs::read_to_string(server.setup().data().join("admin-token"))?;
        let admin = server.client().with_token(token.trim());
        for name in ["acme", "borg"] {
            admin.post("/v1/tenants", &json!({"name": name}))?.json()?;
        }
        Ok(Self { server, admin })
    }

    /// Whoever has a new token of a tenant.
    fn of(&self, tenant: &str, role: &str) -> Result<Client> {
        let request = json!({"name": format!("{role}@{tenant}"), "role": role, "tenant": tenant});
        let made = self.admin.post("/v1/tokens", &request)?.json()?;
        Ok(self.server.client().with_token(made["token"].as_str().context("no token")?))
    }

    /// As after a crash, with the same tokens.
    fn restarted(self, clients: [&Client; 2]) -> Result<(Self, [Client; 2])> {
        let token = |client: &Client| {
            let shown = client.authorization().unwrap_or_default();
            shown.trim_start_matches("Bearer ").to_owned()
        };
        let (admin, tokens) = (token(&self.admin), clients.map(token));
        let server = self.server.restarted()?;
        let again = |token: &str| server.client().with_token(token);
        let clients = [again(&tokens[0]), again(&tokens[1])];
        Ok((Self { admin: again(&admin), server }, clients))
    }
}

/// Sends a request again while there are too many.
fn patient(ask: impl Fn() -> Result<Answer>) -> Result<Answer> {
    wait_for("a place among its requests", || {
        let answer = ask()?;
        Ok((answer.status != 429).then_some(answer))
    })
}

/// An app that counts the readings of each room.
fn counts(client: &Client, id: &str) -> Result<Value> {
    let settings = json!({"settings": {"publish": true}});
    install(client, id, &guests::package("one-state")?, json!({"value": "{room}/{name}"}), settings)
}

fn shown(readings: &[Value]) -> Vec<(String, Value, u64)> {
    let shown = |reading: &Value| {
        let point = reading["point"].as_str().unwrap_or_default().to_owned();
        (point, reading["value"].clone(), reading["sequence"].as_u64().unwrap_or_default())
    };
    readings.iter().map(shown).collect()
}

#[test]
fn two_with_the_same_names_share_nothing() -> Result<()> {
    let site = Site::new()?;
    let (anna, ben) = (site.of("acme", "app-admin")?, site.of("borg", "app-admin")?);
    for (client, values) in [(&anna, 0..3), (&ben, 10..15)] {
        let installed = counts(client, "rooms")?;
        assert_eq!((&installed["generation"], &installed["id"]), (&json!(1), &json!("rooms")));
        for value in values {
            client.push_one("room/1", f64::from(value))?;
        }
        wait_until_done(client, "rooms")?;
    }
    // A pattern with nothing fixed, and still it reads no point of the other. Each counts its own readings from 1.
    let expected = |values: std::ops::Range<u32>| -> Vec<(String, Value, u64)> {
        let mut all: Vec<(String, Value)> = Vec::new();
        for (count, value) in (1..).zip(values) {
            all.push(("room/1".to_owned(), json!(f64::from(value))));
            all.push(("apps/rooms/count/room/1".to_owned(), json!(count)));
        }
        (1..).zip(all).map(|(sequence, (point, value))| (point, value, sequence)).collect()
    };
    let check = |clients: [&Client; 2]| -> Result<()> {
        for (client, values) in clients.into_iter().zip([0..3, 10..15]) {
            let mut found = shown(&client.journal(0, "")?);
            let mut wanted = expected(values);
            assert_eq!(
                found.iter().map(|one| one.2).collect::<Vec<_>>(),
                (1..=wanted.len() as u64).collect::<Vec<_>>()
            );
            // How pushes and what comes of them lie between each other is chance.
            let bare = |all: &mut Vec<(String, Value, u64)>| {
                let all = all.iter().map(|(point, value, _)| format!("{point} {value}"));
                all.collect::<BTreeSet<_>>()
            };
            assert_eq!(bare(&mut found), bare(&mut wanted));
            let points = client.all("/v1/points")?;
            assert_eq!(points.len(), 2, "{points:?}");
            assert_eq!(client.all("/v1/packages")?.len(), 1);
            let ids: Vec<_> =
                client.all("/v1/installations")?.into_iter().map(|one| one["id"].clone()).collect();
            assert_eq!(ids, [json!("rooms")]);
        }
        Ok(())
    };
    check([&anna, &ben])?;
    ensure!(site.admin.all("/v1/points")?.is_empty() && site.admin.all("/v1/installations")?.is_empty());
    ensure!(site.admin.journal(0, "")?.is_empty() && site.admin.all("/v1/packages")?.is_empty());
    // What was in the log alone, and then from the store.
    let (site, [anna, ben]) = site.restarted([&anna, &ben])?;
    check([&anna, &ben])?;
    let setup = site.server.setup().clone();
    let tokens = [&anna, &ben].map(|client| client.authorization().unwrap_or_default());
    ensure!(site.server.stop()?.success());
    let server = setup.start()?;
    let again = |at: usize| server.client().with_token(tokens[at].trim_start_matches("Bearer "));
    let (anna, ben) = (again(0), again(1));
    check([&anna, &ben])?;
    // They go on apart.
    anna.push_one("room/1", 7.0)?;
    wait_until_done(&anna, "rooms")?;
    assert_eq!(
        anna.all("/v1/installations/rooms/outputs")?.last().map(|one| one["value"].clone()),
        Some(json!(4))
    );
    assert_eq!(ben.all("/v1/installations/rooms/outputs")?.len(), 5);
    ben.delete("/v1/installations/rooms?purge=true")?;
    assert_eq!(anna.installation("rooms")?["state"], "running");
    Ok(())
}

/// An answer with each of these names as the same word.
fn without(answer: &Answer, names: &[&str]) -> (u16, String) {
    let mut text = answer.text();
    for name in names {
        text = text.replace(&percent_encode(name), "NAME").replace(name, "NAME");
    }
    (answer.status, text)
}

/// The body that an operation reads before it looks for what its path names.
fn body_of(path: &str, unknown: &str) -> Value {
    match path {
        path if path.ends_with("/rename") => json!({"to": "mine/7"}),
        path if path.ends_with("/state/k") => json!({"text": "x"}),
        path if path.ends_with("/rehearsals") => json!({"from": "24 h"}),
        path if path.ends_with("/accept") => json!({"consent": unknown, "package": unknown}),
        _ => json!({}),
    }
}

#[test]
fn what_is_anothers_is_as_if_it_were_not_there() -> Result<()> {
    let site = Site::new()?;
    let (anna, ben) = (site.of("acme", "app-admin")?, site.of("borg", "app-admin")?);
    counts(&ben, "secret")?;
    let package = ben.all("/v1/packages")?[0]["digest"].as_str().context("no digest")?.to_owned();
    ben.push_one("cellar/7", 1.0)?;
    wait_until_done(&ben, "secret")?;
    let unknown = format!("sha256:{}", "0".repeat(64));
    let names: [(&str, &str, &str); 3] =
        [("{id}", "secret", "nobody"), ("{path}", "cellar/7", "nowhere/7"), ("{digest}", &package, &unknown)];
    let document = anna.get("/openapi.json")?.json()?;
    let (mut tried, mut wrong) = (0, Vec::new());
    for (path, methods) in document["paths"].as_object().context("no paths")? {
        for method in methods.as_object().context("no methods")?.keys() {
            for (brace, foreign, none) in &names {
                if !path.contains(brace) || path.contains("/apps/{id}") || path.contains("/alarms/{id}") {
                    continue;
                }
                let fill = |name: &str| {
                    let path = path.replace(brace, &percent_encode(name));
                    let query = if path.ends_with("/reset") { "?from=now" } else { "" };
                    path.replace("{number}", "1").replace("{key}", "k").replace("{intent}", &"0".repeat(32))
                        + query
                };
                let body = body_of(&fill("x"), &unknown);
                let send = |name: &str| {
                    let method = method.to_uppercase();
                    let body = if method == "GET" || method == "DELETE" {
                        Vec::new()
                    } else {
                        body.to_string().into_bytes()
                    };
                    let headers: &[(&str, &str)] =
                        if body.is_empty() { &[] } else { &[("content-type", "application/json")] };
                    patient(|| anna.send(&method, &fill(name), headers, &body))
                };
                let (theirs, nothing) = (send(foreign)?, send(none)?);
                if theirs.status != 404 || without(&theirs, &[foreign]) != without(&nothing, &[none]) {
                    wrong.push(format!("{method} {path}: {} and {}", theirs.text(), nothing.text()));
                }
                tried += 1;
            }
        }
    }
    ensure!(wrong.is_empty(), "what is another's shows: {wrong:#?}");
    ensure!(tried >= 40, "{tried} operations with a name of something");
    // By a parameter, or in a body.
    for query in ["alarms?installation=", "alarms/history?installation=", "events?installation="] {
        let ask = |name: &str| patient(|| anna.get(&format!("/v1/{query}{name}")));
        let (theirs, nothing) = (ask("secret")?, ask("nobody")?);
        assert_eq!(without(&theirs, &["secret"]), without(&nothing, &["nobody"]), "{query}");
        assert_eq!(theirs.status, 404, "{query}");
    }
    let named = |id: &str| anna.post("/v1/halt", &json!({"installation": id}));
    let (theirs, nothing) = (named("secret")?, named("nobody")?);
    assert_eq!(without(&theirs, &["secret"]), without(&nothing, &["nobody"]));
    let refused = anna.post("/v1/halt", &json!({}))?.problem(403)?;
    assert_eq!(refused["kind"], "tenant", "the whole site isn't one tenant's");
    let theirs =
        anna.post("/v1/installations", &json!({"id": "mine", "package": package, "bindings": {}}))?;
    assert_eq!(theirs.problem(422)?["kind"], "unknown-package");
    ensure!(anna.journal(0, "point=cellar/7")?.is_empty());
    // Nothing has happened to it.
    assert_eq!(ben.installation("secret")?["state"], "running");
    assert_eq!(ben.get("/v1/points/cellar%2F7")?.json()?["latest"]["value"], 1.0);
    Ok(())
}

#[test]
fn what_is_the_platforms_is_for_the_platform_alone() -> Result<()> {
    let site = Site::new()?;
    let anna = site.of("acme", "app-admin")?;
    for path in [
        "/metrics",
        "/v1/usage",
        "/v1/status",
        "/v1/connectors",
        "/v1/connectors/plc",
        "/v1/clock",
        "/v1/log-level",
        "/v1/catalog-trust",
    ] {
        let refused = patient(|| anna.get(path))?.problem(403)?;
        assert_eq!(refused["kind"], "tenant", "{path}: {refused}");
    }
    let ready = anna.get("/readyz")?.json()?;
    assert_eq!(ready, json!({"ready": true}), "reasons and notes name what runs here");
    // Nobody of a tenant administers the platform.
    let request = json!({"name": "eve", "role": "platform-admin", "tenant": "acme"});
    assert_eq!(site.admin.post("/v1/tokens", &request)?.problem(422)?["kind"], "token");
    let request = json!({"name": "eve", "role": "viewer", "tenant": "nobody"});
    ensure!(site.admin.post("/v1/tokens", &request)?.problem(404)?["detail"] == "there is no tenant nobody");
    let me = anna.get("/v1/me")?.json()?;
    assert_eq!((&me["tenant"], &me["role"]), (&json!("acme"), &json!("app-admin")));

    counts(&anna, "rooms")?;
    counts(&site.admin, "rooms")?;
    let series = |client: &Client| -> Result<Vec<String>> {
        let text = client.get("/metrics")?.text();
        let of_lag = |line: &&str| line.starts_with("ironloom_installation_lag_readings{");
        Ok(text
            .lines()
            .filter(of_lag)
            .map(|line| line.split(' ').next().unwrap_or_default().to_owned())
            .collect())
    };
    let all = series(&site.admin)?;
    ensure!(
        all.len() == 2 && all.iter().any(|one| one.contains("tenant=\"acme\"")),
        "those of tenants are labelled: {all:?}"
    );
    let viewer = series(&site.of("main", "viewer")?)?;
    ensure!(viewer.len() == 1 && !viewer[0].contains("tenant"), "{viewer:?}");
    Ok(())
}

#[test]
fn each_hears_of_its_own_and_has_an_audit_log_of_its_own() -> Result<()> {
    let site = Site::new()?;
    let (anna, ben) = (site.of("acme", "app-admin")?, site.of("borg", "app-admin")?);
    let mut heard = Listener::new(&anna, "", None)?;
    counts(&ben, "secret")?;
    ben.post("/v1/installations/secret/pause", &json!({}))?.json()?;
    site.admin.post("/v1/halt", &json!({}))?.json()?;
    counts(&anna, "rooms")?;
    heard.wait("its own", |event| event["installation"] == "rooms")?;
    ensure!(heard.seen.iter().all(|event| event["installation"] == "rooms"), "{:?}", heard.seen);

    let auditor = site.of("acme", "auditor")?;
    let entries = auditor.all("/v1/audit")?;
    let chains: BTreeSet<_> = entries.iter().filter_map(|entry| entry["chain"].as_str()).collect();
    assert_eq!(chains, BTreeSet::from(["tenant-2"]));
    let who: BTreeSet<_> = entries.iter().filter_map(|entry| entry["who"].as_str()).collect();
    assert_eq!(who, BTreeSet::from(["app-admin@acme"]));
    ensure!(
        auditor.all("/v1/audit?chain=tenant-3")?.is_empty()
            && auditor.all("/v1/audit?chain=platform")?.is_empty()
    );
    let numbers: Vec<_> = entries.iter().filter_map(|entry| entry["number"].as_u64()).collect();
    assert_eq!(numbers, (1..=numbers.len() as u64).collect::<Vec<_>>(), "they count from 1");
    let all = site.admin.all("/v1/audit")?;
    for chain in ["platform", "tenant-1", "tenant-2", "tenant-3"] {
        ensure!(all.iter().any(|entry| entry["chain"] == chain), "{chain}");
    }
    let of_main = site.of("main", "auditor")?.all("/v1/audit")?;
    let chains: BTreeSet<_> = of_main.iter().filter_map(|entry| entry["chain"].as_str()).collect();
    assert_eq!(chains, BTreeSet::from(["platform", "tenant-1"]));
    Ok(())
}

#[test]
fn a_tenant_has_no_more_than_its_quotas() -> Result<()> {
    let site = Site::new()?;
    let admin = &site.admin;
    admin
        .send(
            "PUT",
            "/v1/tenants/acme",
            &[("content-type", "application/json")],
            br#"{"points":3,"installations":1}"#,
        )?
        .json()?;
    let (anna, ben) = (site.of("acme", "app-admin")?, site.of("borg", "app-admin")?);
    counts(&anna, "rooms")?;
    let digest = anna.all("/v1/packages")?[0]["digest"].clone();
    let more = json!({"id": "more", "package": digest, "bindings": {"value": "{room}/{name}"}});
    let refused = anna.post("/v1/installations", &more)?.problem(422)?;
    assert_eq!(refused["kind"], "quota");
    ensure!(
        refused["detail"] == "the quota is 1 installations, and with these there would be 2",
        "{refused}"
    );
    let refused = anna.push(b"{\"point\":\"a/1\",\"value\":1}\n{\"point\":\"a/2\",\"value\":1}\n{\"point\":\"a/3\",\"value\":1}\n{\"point\":\"a/4\",\"value\":1}", None)?;
    ensure!(refused.status == 422, "{}", refused.text());
    anna.push_one("a/1", 1.0)?;
    ben.push(b"{\"point\":\"a/1\",\"value\":1}\n{\"point\":\"a/2\",\"value\":1}\n{\"point\":\"a/3\",\"value\":1}\n{\"point\":\"a/4\",\"value\":1}", None)?.json()?;
    let listed = admin.all("/v1/tenants")?;
    let names: Vec<_> = listed.iter().filter_map(|tenant| tenant["name"].as_str()).collect();
    assert_eq!(names, ["acme", "borg", "main"]);
    assert_eq!((&listed[1]["points"], &listed[0]["installations"]), (&json!(4), &json!(1)));
    // By commands.
    let run = |arguments: &[&str]| -> Result<std::process::Output> {
        let mut command = std::process::Command::new(binary()?);
        command.args(arguments).env("IRONLOOM_URL", admin.url());
        let token = admin.authorization().unwrap_or_default();
        Ok(command.env("IRONLOOM_TOKEN", token.trim_start_matches("Bearer ")).output()?)
    };
    let added = run(&["tenant", "add", "cyan", "--points", "10"])?;
    ensure!(added.status.success(), "{added:?}");
    let again = run(&["tenant", "add", "cyan"])?;
    ensure!(String::from_utf8_lossy(&again.stderr).contains("there is a tenant cyan"), "{again:?}");
    let token = run(&["token", "add", "cy", "--role", "viewer", "--tenant", "cyan"])?;
    let cy = site.server.client().with_token(String::from_utf8(token.stdout)?.trim());
    assert_eq!(cy.get("/v1/me")?.json()?["tenant"], "cyan");
    let listed = String::from_utf8(run(&["tenant", "list"])?.stdout)?;
    ensure!(listed.contains("0 of 10") && listed.contains("1 of 1"), "{listed}");
    Ok(())
}
