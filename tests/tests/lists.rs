//! Installs by the list on the real server: all or none, what they read, and how much one list may match.

use anyhow::{Context, Result, anyhow, bail, ensure};
use ironloom_tests::apps::{number, request, wait_for_installation};
use ironloom_tests::{Answer, Client, Setup, guests};
use serde_json::{Value, json};

/// The ids of all installations.
fn ids(client: &Client) -> Result<Vec<Value>> {
    Ok(client.all("/v1/installations")?.iter().map(|one| one["id"].clone()).collect())
}

fn post(client: &Client, list: &[Value]) -> Result<Answer> {
    client.post("/v1/installations", &Value::from(list.to_vec()))
}

/// One that reads what a pattern matches.
fn reads(id: &str, digest: &str, pattern: &str) -> Value {
    request(id, digest, json!({"value": [pattern]}), Value::Null)
}

#[test]
fn a_list_of_which_one_is_refused_installs_none() -> Result<()> {
    let server = Setup::new()?.start()?;
    let client = server.client();
    let digest = client.add_package(&guests::package("one-state")?.tar())?;
    let one = |id: &str, from: &str| reads(id, &digest, from);
    let problem = post(client, &[one("a", "x/{m}"), one("b", "x//{m}"), one("c", "x/{m}")])?.problem(422)?;
    assert_eq!(problem["where"]["item"], 2, "{problem}");
    assert_eq!(problem["where"]["field"], "bindings.value", "{problem}");
    let detail = problem["detail"].as_str().unwrap_or_default();
    assert!(detail.starts_with("installation 2 of the list (b): "), "{detail}");
    // Each reads what the other writes: neither is wrong alone.
    let problem =
        post(client, &[one("a", "apps/b/count/{m}"), one("b", "apps/a/count/{m}")])?.problem(422)?;
    assert_eq!((&problem["kind"], &problem["where"]["item"]), (&json!("circle"), &json!(2)), "{problem}");
    let problem = post(client, &[one("a", "x/{m}"), one("a", "x/{m}")])?.problem(409)?;
    assert_eq!((&problem["kind"], &problem["where"]["item"]), (&json!("exists"), &json!(2)), "{problem}");
    let dry = client.post("/v1/installations?dry-run=true", &json!([one("c", "x/{m}")]))?.json()?;
    assert_eq!(dry["items"][0]["id"], "c");
    assert_eq!(ids(client)?.len(), 0);
    Ok(())
}

#[test]
fn all_that_is_wrong_with_a_list_is_told_at_once_and_each_once() -> Result<()> {
    let server = Setup::new()?.start()?;
    let client = server.client();
    let digest = client.add_package(&guests::package("one-state")?.tar())?;
    post(client, &[reads("there", &digest, "x/{m}")])?.json()?;
    let none = format!("sha256:{}", "0".repeat(64));
    let list = [
        reads("there", &digest, "x//{m}"),
        reads("b", &none, "x/{m}"),
        reads("c", &digest, "x/*"),
        reads("c", &digest, "x/{m}"),
        reads("fine", &digest, "x/{m}"),
    ];
    let problem = post(client, &list)?.problem(422)?;
    assert_eq!(problem["kind"], "install", "{problem}");
    assert_eq!(
        problem["detail"], "4 of the 5 installations of the list can't be installed; none is installed",
        "{problem}"
    );
    let told = problem["errors"].as_array().context("no errors")?.iter();
    let told: Vec<_> =
        told.map(|one| json!([one["where"]["item"], one["where"]["field"], one["kind"]])).collect();
    let expected = [
        json!([1, "id", "exists"]),
        json!([1, "bindings.value", "install"]),
        json!([2, "package", "unknown-package"]),
        json!([3, "bindings.value", "install"]),
        json!([4, "id", "exists"]),
    ];
    assert_eq!(told, expected, "{problem}");
    let wildcard = problem["errors"][3]["detail"].as_str().unwrap_or_default();
    ensure!(wildcard.contains("such as x/{name}"), "{wildcard}");
    assert_eq!(ids(client)?, ["there"]);
    // The body can't be read, and says where.
    let mut bad = reads("d", &digest, "x/{m}");
    bad["bindings"]["value"] = json!(7);
    let problem = post(client, &[reads("c", &digest, "x/{m}"), bad])?.problem(400)?;
    assert_eq!(
        (&problem["where"]["item"], &problem["where"]["field"]),
        (&json!(2), &json!("bindings.value"))
    );
    Ok(())
}

#[test]
fn a_list_is_installed_whole_and_takes_its_readings_at_once_and_after_a_kill() -> Result<()> {
    let setup = Setup::new()?;
    let server = setup.start()?;
    let client = server.client();
    let digest = client.add_package(&guests::package("one-state")?.tar())?;
    client.push_one("x/1", 2.0)?;
    let folder = guests::workspace().join("sample-apps/thermometer");
    let thermometer = client.add_package(&guests::package_of("thermometer", &folder)?.tar())?;
    let publishes = json!({"settings": {"publish": true}});
    let list = [
        request("c", &digest, json!({"value": ["x/{m}"]}), publishes),
        request("a", &thermometer, json!({"temperature": ["t/{room}"]}), Value::Null),
        reads("b", &digest, "apps/c/count/{m}"),
    ];
    let installed = post(client, &list)?.json()?;
    let told: Vec<_> = installed["items"].as_array().context("no items")?.iter().collect();
    assert_eq!(told.iter().map(|one| one["id"].clone()).collect::<Vec<_>>(), ["c", "a", "b"]);
    assert_eq!((&told[0]["matches"][0]["points"], &told[2]["matches"][0]["points"]), (&json!(1), &json!(0)));
    // Each begins behind what was there, and takes its own: of its source, or of another one of the list.
    client.push_one("x/1", 3.0)?;
    client.push_one("t/attic", 26.0)?;
    for id in ["a", "b", "c"] {
        wait_for_installation(client, id, "takes its reading", |shown| {
            number(shown, "counters.readings") == 1
        })?;
    }
    let keys = |id: &str| -> Result<Vec<Value>> {
        let state = client.all(&format!("/v1/installations/{id}/state"))?;
        Ok(state.iter().map(|item| item["key"].clone()).collect())
    };
    assert_eq!((keys("a")?.len(), keys("b")?.len(), keys("c")?.len()), (1, 1, 1));
    let derived = client.get("/v1/points?prefix=apps/")?.json()?;
    let derived: Vec<_> = derived["items"].as_array().context("no items")?.iter().collect();
    let derived: Vec<_> = derived.iter().map(|point| (&point["point"], &point["value"])).collect();
    let expected = [(json!("apps/a/record/attic"), json!(26.0)), (json!("apps/c/count/1"), json!(1))];
    assert_eq!(derived, expected.iter().map(|(point, value)| (point, value)).collect::<Vec<_>>());
    server.kill()?;

    let server = setup.start()?;
    assert_eq!(ids(server.client())?, ["a", "b", "c"]);
    server.client().push_one("x/2", 3.0)?;
    for id in ["b", "c"] {
        wait_for_installation(server.client(), id, "takes its reading", |shown| {
            number(shown, "counters.readings") == 2
        })?;
    }
    let list = [reads("d", &digest, "y/{m}"), reads("c", &digest, "y/{m}")];
    assert_eq!(post(server.client(), &list)?.problem(409)?["where"]["item"], 2);
    assert_eq!(ids(server.client())?.len(), 3);
    Ok(())
}

#[test]
fn the_inputs_of_a_list_match_so_many_points_together() -> Result<()> {
    let server = Setup::new()?.start()?;
    let client = server.client();
    let digest = client.add_package(&guests::package("one-state")?.tar())?;
    let points: Vec<Value> = (0..2_001).map(|n| json!({"point": format!("x/{n}"), "value": 1.0})).collect();
    let points: String = points.iter().map(|point| format!("{point}\n")).collect();
    client.push(points.as_bytes(), None)?.json()?;
    let id = |n: usize| format!("i{n:04}");
    let one = |n: usize| reads(&id(n), &digest, "x/{m}");
    let mut list: Vec<Value> = (1..=1_000).map(one).collect();
    let problem = client.post("/v1/installations", &Value::from(list.clone()))?.problem(422)?;
    assert_eq!(problem["kind"], "too-many-matches", "{problem}");
    let detail = problem["detail"].as_str().unwrap_or_default();
    assert!(detail.contains("the first 1000 of 1000") && detail.contains("(to i1000)"), "{detail}");
    assert_eq!(client.all("/v1/installations")?.len(), 0);
    // 999 × 2,001 are fewer than 2,000,000.
    list.truncate(999);
    client.post("/v1/installations", &Value::from(list))?.json()?;
    client.push_one("x/2000", 2.0)?;
    for n in [1, 500, 999] {
        wait_for_installation(client, &id(n), "takes its reading", |shown| {
            number(shown, "counters.readings") == 1
        })?;
    }
    Ok(())
}

#[test]
fn a_list_runs_although_some_of_it_are_uninstalled_before_it_is_answered() -> Result<()> {
    let server = Setup::new()?.start()?;
    let client = server.client();
    let digest = client.add_package(&guests::package("one-state")?.tar())?;
    // Each goes as soon as it can be seen, which is before the last of the list can be.
    let quick = [0, 1, 2, 3, 250, 500, 750, 900];
    for round in 0..5 {
        let id = |n: usize| format!("r{round}-{n:03}");
        let one = |n: usize| reads(&id(n), &digest, &format!("x/{n}/{{m}}"));
        let list: Vec<Value> = (0..1_000).map(one).collect();
        let delete = |n: usize| -> Result<()> {
            loop {
                match client.delete(&format!("/v1/installations/{}", id(n)))?.status {
                    404 => {}
                    204 => return Ok(()),
                    status => bail!("deleting {n} got {status}"),
                }
            }
        };
        let installed = std::thread::scope(|scope| {
            let deleters: Vec<_> = quick.iter().map(|n| scope.spawn(move || delete(*n))).collect();
            let installed = client.post("/v1/installations", &Value::from(list));
            for deleter in deleters {
                deleter.join().map_err(|_| anyhow!("a deleter panicked"))??;
            }
            installed
        })?;
        ensure!(installed.status == 201, "it got {}", installed.status);
        let told = installed.json()?["items"].as_array().context("no items")?.len();
        ensure!((1_000 - quick.len()..=1_000).contains(&told), "{told} are told of");
        let shown = client.all("/v1/installations")?;
        assert_eq!(shown.len(), (1_000 - quick.len()) * (round + 1));
        assert!(shown.iter().all(|one| one["state"] == "running"), "each that is left has its code");
    }
    Ok(())
}
