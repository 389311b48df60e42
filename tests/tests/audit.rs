//! The audit log: who did what to which resource with which result, and what shows of those who alter it.

use std::fs;
use std::os::unix::fs::PermissionsExt as _;
use std::path::Path;
use std::process::Command;

use anyhow::{Context as _, Result, ensure};
use ironloom_tests::auditing::{Plant, check_chain, field, said, sha256, token, words};
use ironloom_tests::driving::{Bench, outcomes};
use ironloom_tests::server::{Setup, binary};
use ironloom_tests::{apps, guests, wait_until};
use serde_json::{Value, json};

#[test]
fn each_deed_is_told_once_with_who_and_with_which_result() -> Result<()> {
    let plant = Plant::new()?;
    let mia = plant.client("mia", "app-admin")?;
    let olga = plant.client("olga", "operator")?;
    let package = guests::package("one-state")?;
    apps::install(&mia, "one", &package, json!({"value": "site/value"}), json!({}))?;
    olga.post("/v1/installations/one/pause", &json!({}))?.json()?;
    let halt = json!({"installation": "one"});
    olga.post("/v1/halt", &halt)?.json()?;
    olga.post("/v1/release", &halt)?.json()?;
    olga.post("/v1/installations/one/resume", &json!({}))?.json()?;
    mia.patch("/v1/points/site%2Fvalue", &json!({"unit": "kg"}))?.problem(404)?;
    mia.delete("/v1/installations/one?purge=true")?.json()?;
    plant.admin.delete("/v1/tokens/olga")?.json()?;
    // Readings, pushes and dry runs are no deeds.
    mia.get("/v1/installations")?.json()?;
    mia.push_one("site/value", 1)?;

    let digest = |value: &Value| sha256(value.to_string());
    let platform = plant.entries("chain=platform&result=done")?;
    let expected = [
        ["-host", "", "addToken", "tokens/admin", "done", ""],
        ["admin", "platform-admin", "addToken", "tokens", "done", ""],
        ["admin", "platform-admin", "addToken", "tokens", "done", ""],
        ["admin", "platform-admin", "addToken", "tokens", "done", ""],
        ["admin", "platform-admin", "removeToken", "tokens/olga", "done", ""],
    ];
    assert_eq!(platform.iter().map(words).collect::<Vec<_>>(), expected);
    ensure!(field(&platform[1], "detail")?.contains("audrey"), "{}", platform[1]);
    assert_eq!(platform[1]["digest"], digest(&json!({"name": "audrey", "role": "auditor"})));
    assert_eq!(platform[4]["digest"], Value::Null, "it had no body");

    let tenant = plant.entries("chain=tenant-1")?;
    let by_mia = |action, resource, result, problem| ["mia", "app-admin", action, resource, result, problem];
    let by_olga = |action, resource| ["olga", "operator", action, resource, "done", ""];
    let expected = [
        by_mia("addPackage", "packages", "done", ""),
        by_mia("install", "installations/one", "done", ""),
        by_olga("pause", "installations/one"),
        by_olga("halt", "halt"),
        by_olga("release", "release"),
        by_olga("resume", "installations/one"),
        by_mia("setPoint", "points/site%2Fvalue", "refused", "not-found"),
        by_mia("uninstall", "installations/one?purge=true", "done", ""),
    ];
    assert_eq!(tenant.iter().map(words).collect::<Vec<_>>(), expected);
    assert_eq!(tenant[0]["digest"], sha256(package.tar()));
    assert_eq!(tenant[3]["digest"], digest(&halt));
    ensure!(field(&tenant[1], "detail")?.contains("was installed as one"), "{}", tenant[1]);
    check_chain(&plant.entries("chain=platform")?)?;
    check_chain(&tenant)?;
    lists_go_together(plant, &tenant)
}

/// The lists of a plant with these entries of its tenant, before and after a restart.
fn lists_go_together(plant: Plant, tenant: &[Value]) -> Result<()> {
    // In the order of time over all chains, from either end, and page by page.
    let all = plant.entries("")?;
    let of_platform = plant.entries("chain=platform")?;
    assert_eq!(all.len(), of_platform.len() + tenant.len());
    ensure!(all.is_sorted_by_key(|entry| entry["time"].as_str().map(str::to_owned)), "{all:?}");
    let (mut newest, mut after) = (Vec::new(), String::new());
    loop {
        let page = plant.auditor.get(&format!("/v1/audit?order=newest&limit=3{after}"))?.json()?;
        newest.extend(page["items"].as_array().context("no page")?.clone());
        let Some(next) = page["next"].as_str() else { break };
        after = format!("&after={next}");
    }
    newest.reverse();
    assert_eq!(newest, all);
    let paused = plant.entries("who=olga&resource=installations/one&action=pause&result=done")?;
    assert_eq!(paused, tenant[2..3]);
    let listed = plant.audit(&["list", "--who", "olga", "--action", "pause"])?;
    ensure!(said(&listed).contains("paused"), "{}", said(&listed));

    // A restart finds the same, and goes on with it.
    let plant = plant.restarted()?;
    assert_eq!(plant.entries("")?, all);
    plant.admin.delete("/v1/tokens/mia")?.json()?;
    check_chain(&plant.entries("chain=platform")?)
}

#[test]
fn what_is_refused_is_told_and_changes_nothing() -> Result<()> {
    let plant = Plant::new()?;
    let viewer = plant.client("vera", "viewer")?;
    viewer.post("/v1/halt", &json!({}))?.problem(403)?;
    viewer.get("/v1/audit")?.problem(403)?;
    viewer.post("/v1/audit/checkpoints", &json!({}))?.problem(403)?;
    let mut altered = guests::package("one-state")?.tar();
    let last = altered.len() - 3_000;
    altered[last] ^= 1;
    let refused = plant.admin.send(
        "POST",
        "/v1/packages",
        &[("content-type", "application/vnd.ironloom.package+tar")],
        &altered,
    )?;
    let kind = refused.problem(422)?["kind"].as_str().context("no kind")?.to_owned();
    plant.admin.delete("/v1/installations/nobody")?.problem(404)?;
    plant.admin.delete("/v1/tokens/admin")?.problem(409)?;
    let forged = plant.server.client().with_token(&format!("ilm_{}", "A".repeat(43)));
    forged.post("/v1/halt", &json!({}))?.problem(401)?;
    ensure!(plant.admin.all("/v1/packages")?.is_empty());
    assert_eq!(plant.admin.get("/v1/halt")?.json()?["site"], false);
    let expected = [
        ["vera", "viewer", "halt", "halt", "refused", "role"],
        ["vera", "viewer", "listAuditEntries", "audit", "refused", "role"],
        ["vera", "viewer", "signAuditCheckpoints", "audit/checkpoints", "refused", "role"],
        ["admin", "platform-admin", "addPackage", "packages", "refused", &kind],
        ["admin", "platform-admin", "uninstall", "installations/nobody", "refused", "not-found"],
        ["admin", "platform-admin", "removeToken", "tokens/admin", "refused", "in-use"],
    ];
    let told_of = |is_nobody: bool| -> Result<Vec<Value>> {
        let mut told = plant.entries("result=refused")?;
        told.retain(|entry| (entry["who"] == "-") == is_nobody);
        Ok(told)
    };
    wait_until("all entries", || Ok(told_of(false)?.len() >= expected.len() && !told_of(true)?.is_empty()))?;
    assert_eq!(told_of(false)?.iter().map(words).collect::<Vec<_>>(), expected);
    // The first of a minute, which may be somebody's who looked for the description of the API.
    let nobody = &told_of(true)?[0];
    assert_eq!((&nobody["chain"], &nobody["problem"]), (&json!("platform"), &json!("unauthenticated")));

    // Many are told as a sum.
    for _ in 0..200 {
        // Some of them are more than there may be in a second.
        let (stranger, known) = (forged.get("/v1/points")?, viewer.post("/v1/halt", &json!({}))?);
        ensure!([401, 429].contains(&stranger.status), "{}", stranger.text());
        ensure!([403, 429].contains(&known.status), "{}", known.text());
    }
    let told = plant.entries("result=refused")?;
    ensure!(told.len() < expected.len() + 12, "{} entries", told.len());
    Ok(())
}

/// The refused requests of whoever has no token that is worth something.
fn of_nobody(plant: &Plant) -> Result<Vec<Value>> {
    let mut told = plant.entries("result=refused")?;
    told.retain(|entry| entry["who"] == "-");
    Ok(told)
}

#[test]
fn a_forged_and_an_expired_token_are_told_of() -> Result<()> {
    let plant = Plant::new()?;
    assert_eq!(of_nobody(&plant)?, [Value::Null; 0]);
    let forged = plant.server.client().with_token(&format!("ilm_{}", "A".repeat(43)));
    forged.post("/v1/halt", &json!({}))?.problem(401)?;
    wait_until("its entry", || Ok(!of_nobody(&plant)?.is_empty()))?;
    assert_eq!(plant.admin.get("/v1/halt")?.json()?["site"], false);
    let told = of_nobody(&plant)?;
    assert_eq!(
        told.iter().map(words).collect::<Vec<_>>(),
        [["-", "", "halt", "halt", "refused", "unauthenticated"]]
    );
    assert_eq!((&told[0]["chain"], &told[0]["digest"]), (&json!("platform"), &Value::Null));

    // On a server of its own: of nobody's requests one is told in a minute.
    let plant = Plant::new()?;
    apps::install(
        &plant.admin,
        "one",
        &guests::package("one-state")?,
        json!({"value": "site/value"}),
        json!({}),
    )?;
    let short = json!({"name": "anna", "role": "app-admin", "for": "1 s"});
    let made = plant.admin.post("/v1/tokens", &short)?.json()?;
    let anna = plant.server.client().with_token(field(&made, "token")?);
    wait_until("its end", || Ok(plant.admin.get("/v1/tokens/anna")?.json()?["expired"] == true))?;
    anna.delete("/v1/installations/one")?.problem(401)?;
    assert_eq!(plant.admin.installation("one")?["state"], "running");
    wait_until("its entry", || Ok(!of_nobody(&plant)?.is_empty()))?;
    assert_eq!(
        of_nobody(&plant)?.iter().map(words).collect::<Vec<_>>(),
        [["-", "", "uninstall", "installations/one", "refused", "unauthenticated"]]
    );
    check_chain(&plant.entries("chain=platform")?)
}

/// The lines of an export, and a file of those that are left of them.
fn altered(from: &str, to: &str, change: impl Fn(&mut Vec<String>)) -> Result<()> {
    let mut lines: Vec<String> = fs::read_to_string(from)?.lines().map(str::to_owned).collect();
    change(&mut lines);
    fs::write(to, lines.iter().map(|line| format!("{line}\n")).collect::<String>())?;
    Ok(())
}

fn place_of(lines: &[String], chain: &str, number: u64) -> usize {
    let wanted = |line: &String| {
        let line: Value = serde_json::from_str(line).unwrap_or_default();
        line["entry"]["chain"] == chain && line["entry"]["number"] == number
    };
    lines.iter().position(wanted).unwrap_or(usize::MAX)
}

#[test]
fn who_alters_an_export_is_found_and_the_entry_is_named() -> Result<()> {
    let plant = Plant::new()?;
    for number in 0..6 {
        token(&plant.admin, &format!("t{number}"), "viewer")?;
    }
    let export = plant.export("export.jsonl")?;
    let clean = plant.audit(&["verify", &export])?;
    ensure!(clean.status.success(), "{}", said(&clean));
    ensure!(
        said(&clean).contains("platform: entries 1 to 8, complete up to checkpoint 8 of "),
        "{}",
        said(&clean)
    );
    let of_server = plant.audit(&["verify"])?;
    ensure!(
        of_server.status.success() && said(&of_server).contains("checkpoint 8 of "),
        "{}",
        said(&of_server)
    );

    let file = plant.file("altered.jsonl")?;
    let found = |change: &dyn Fn(&mut Vec<String>)| -> Result<String> {
        altered(&export, &file, change)?;
        let output = plant.audit(&["verify", &file])?;
        ensure!(!output.status.success(), "nothing was found: {}", said(&output));
        Ok(said(&output))
    };
    let at = |lines: &[String], number| place_of(lines, "platform", number);
    let changed = found(&|lines| {
        let place = at(lines, 4);
        lines[place] = lines[place].replace("admin", "adnin");
    })?;
    ensure!(changed.contains("platform: entry 4 was changed"), "{changed}");
    let removed = found(&|lines| drop(lines.remove(at(lines, 5))))?;
    ensure!(removed.contains("platform: entry 5 is missing"), "{removed}");
    let moved = found(&|lines| {
        let (a, b) = (at(lines, 3), at(lines, 6));
        lines.swap(a, b);
    })?;
    ensure!(moved.contains("platform: entry 3 stands behind entry 6"), "{moved}");
    let cut = found(&|lines| lines.truncate(at(lines, 7)))?;
    ensure!(cut.contains("platform: the end is cut off: entries 7 to 8 are missing"), "{cut}");
    let forged = found(&|lines| lines[0] = lines[0].replace("\\\"sig\\\":\\\"", "\\\"sig\\\":\\\"A"))?;
    ensure!(forged.contains("checkpoint"), "{forged}");

    // Who cuts the checkpoints off as well is found by those that were kept elsewhere alone.
    let unsigned = |lines: &mut Vec<String>| {
        lines.truncate(at(lines, 7));
        lines.retain(|line| line.starts_with("{\"entry\""));
    };
    altered(&export, &file, unsigned)?;
    let nothing = plant.audit(&["verify", &file])?;
    ensure!(!nothing.status.success() && said(&nothing).contains("has no checkpoint"), "{}", said(&nothing));
    altered(&export, &file, |lines| lines.clear())?;
    let empty = plant.audit(&["verify", &file])?;
    ensure!(!empty.status.success() && said(&empty).contains("has no checkpoint"), "{}", said(&empty));
    altered(&export, &file, unsigned)?;
    let kept = plant.file("kept.jsonl")?;
    ensure!(plant.audit(&["export", "--checkpoints", &kept])?.status.success());
    let against = plant.audit(&["verify", &file, "--checkpoint", &kept])?;
    ensure!(!against.status.success());
    ensure!(
        said(&against).contains("platform: the end is cut off: entries 7 to 8 are missing"),
        "{}",
        said(&against)
    );

    keys_are_told_apart(&plant, &export)?;
    check_export(Path::new(&export))
}

fn keys_are_told_apart(plant: &Plant, export: &str) -> Result<()> {
    let checkpoints = plant.auditor.all("/v1/audit/checkpoints")?;
    let key = field(&checkpoints[0], "key")?;
    ensure!(plant.audit(&["verify", export, "--key", key])?.status.success());
    let other = "ed25519:_FHNjmIYoaONpH7QAjDwWAgW7RO6MwOsXeuRFUiQgCU";
    ensure!(!plant.audit(&["verify", export, "--key", other])?.status.success());
    let key_file = plant.server.setup().data().join("audit-key");
    assert_eq!(fs::metadata(&key_file)?.permissions().mode() & 0o777, 0o600);
    Ok(())
}

/// Every line of an export, by what the documentation says.
fn check_export(file: &Path) -> Result<()> {
    let text = fs::read_to_string(file)?;
    let lines: Vec<Value> = text.lines().map(serde_json::from_str).collect::<Result<_, _>>()?;
    let of_chain = |chain: &str| -> Vec<Value> {
        let entries = lines.iter().map(|line| &line["entry"]).filter(|entry| entry["chain"] == chain);
        entries.cloned().collect()
    };
    let platform = of_chain("platform");
    ensure!(platform.len() == 8);
    check_chain(&platform)?;
    let last = lines.iter().rfind(|line| line["checkpoint"]["chain"] == "platform");
    let envelope: Value =
        serde_json::from_str(field(&last.context("no checkpoint")?["checkpoint"], "envelope")?)?;
    let payload =
        base64::Engine::decode(&base64::engine::general_purpose::STANDARD, field(&envelope, "payload")?)?;
    let payload: Value = serde_json::from_slice(&payload)?;
    assert_eq!((&payload["count"], &payload["head"]), (&json!(8), &platform[7]["hash"]));
    Ok(())
}

#[test]
fn a_server_that_is_killed_again_and_again_has_a_whole_chain_with_all_that_it_acknowledged() -> Result<()> {
    let mut plant = Plant::new()?;
    let mut made = Vec::new();
    for round in 0..4 {
        let busy = plant.admin.clone();
        let background = std::thread::spawn(move || {
            (0..).take_while(|n| token(&busy, &format!("b{round}-{n}"), "viewer").is_ok()).count()
        });
        for number in 0..5 {
            let name = format!("a{round}-{number}");
            token(&plant.admin, &name, "viewer")?;
            made.push(name);
        }
        plant = plant.restarted()?;
        let acknowledged = background.join().map_err(|_| anyhow::anyhow!("it panicked"))?;
        made.extend((0..acknowledged).map(|n| format!("b{round}-{n}")));
    }
    let entries = plant.entries("chain=platform")?;
    check_chain(&entries)?;
    let tokens = plant.admin.all("/v1/tokens")?;
    // One entry for each token that there is, and none for another one.
    let told = entries.iter().filter(|entry| entry["action"] == "addToken").count();
    assert_eq!(told, tokens.len());
    for name in &made {
        let detail = format!("the token {name} ");
        let of_it =
            entries.iter().filter(|one| one["detail"].as_str().is_some_and(|text| text.contains(&detail)));
        assert_eq!(of_it.count(), 1, "{name}");
    }
    let verified = plant.audit(&["verify"])?;
    ensure!(verified.status.success(), "{}", said(&verified));
    Ok(())
}

#[test]
fn a_token_in_a_url_isnt_kept_and_a_head_is_no_deed() -> Result<()> {
    let plant = Plant::new()?;
    let secret = plant.admin.authorization().context("no token")?;
    let secret = secret.trim_start_matches("Bearer ");
    let stranger = plant.server.client();
    // Of nobody, one is told in a minute.
    stranger.get(&format!("/v1/events?access_token={secret}"))?.problem(401)?;
    plant.admin.post(&format!("/v1/halt?access_token={secret}"), &json!({}))?.problem(400)?;
    plant.admin.delete(&format!("/v1/tokens/{secret}"))?.problem(404)?;
    assert_eq!(plant.admin.send("HEAD", "/v1/backup", &[], &[])?.status, 200);
    assert_eq!(plant.admin.send("GET", "/v1/backup", &[], &[])?.status, 200);
    // Whoever was refused doesn't wait for the entry.
    wait_until("the entries", || Ok(plant.entries("result=refused")?.len() == 3))?;
    let entries = plant.entries("")?;
    ensure!(entries.iter().all(|entry| !entry.to_string().contains(secret)), "{entries:?}");
    let refused = entries.iter().filter(|entry| entry["result"] == "refused");
    let mut resources: Vec<_> = refused.map(|entry| words(entry)[3]).collect();
    resources.sort_unstable();
    assert_eq!(resources, ["events", "halt", "tokens/ilm_…"]);
    assert_eq!(entries.iter().filter(|entry| entry["action"] == "backUp").count(), 1);
    Ok(())
}

#[test]
fn the_kill_switch_is_told_by_whichever_way_it_was_turned() -> Result<()> {
    let server = Setup::new()?.start()?;
    let data = server.setup().data();
    let halted = Command::new(binary()?).args(["halt", "--data"]).arg(&data).output()?;
    ensure!(halted.status.success(), "{}", said(&halted));
    let by = |who: &str| server.client().all(&format!("/v1/audit?who={who}&chain=tenant-1"));
    wait_until("its entry", || Ok(by("-host")?.len() == 1))?;
    assert_eq!(words(&by("-host")?[0]), ["-host", "", "killSwitch", "halt", "done", ""]);
    assert_eq!(by("-host")?[0]["detail"], "halted: the site");
    server.client().post("/v1/release", &json!({}))?.json()?;
    assert_eq!(words(&by("-local")?[0]), ["-local", "", "release", "release", "done", ""]);
    Ok(())
}

#[test]
fn a_kill_switch_that_is_turned_on_again_and_again_is_told_once_with_a_sum() -> Result<()> {
    let server = Setup::new()?.start()?;
    let client = server.client();
    for path in ["/v1/halt"].repeat(20).into_iter().chain(["/v1/release", "/v1/halt"]) {
        client.post(path, &json!({}))?.json()?;
    }
    let entries = client.all("/v1/audit?chain=tenant-1")?;
    let told: Vec<_> = entries.iter().map(|entry| (words(entry)[2], entry["detail"].as_str())).collect();
    let expected = [("halt", ""), ("halt", "19 more requests said the same"), ("release", ""), ("halt", "")];
    assert_eq!(told, expected.map(|(action, detail)| (action, Some(detail))));
    check_chain(&entries)
}

#[test]
fn a_set_point_and_its_end_are_told_in_a_chain_of_their_own() -> Result<()> {
    let Some(bench) = Bench::new("set-points in the audit log", 60_000, json!({}))? else { return Ok(()) };
    let _stations = bench.broker.subscribe("stations/#")?;
    bench.wish("7", 16.0)?;
    wait_until("its outcome", || Ok(outcomes(bench.client(), "7")? == ["accepted"]))?;
    let entries = bench.client().all("/v1/audit?chain=set-points-1")?;
    let expected = [
        ["app:driver", "", "requestSetPoints", "installations/driver", "done", ""],
        ["-host", "", "endSetPoints", "set-points", "done", ""],
    ];
    assert_eq!(entries.iter().map(words).collect::<Vec<_>>(), expected);
    let (asked, ended) = (field(&entries[0], "detail")?, field(&entries[1], "detail")?);
    ensure!(asked.contains(": plant/7/limit = 16, for 60000000000 ns\n"), "{asked}");
    ensure!(ended.contains(": plant/7/limit = 16, accepted"), "{ended}");
    assert_eq!(asked.split(':').next(), ended.split(':').next(), "the same id");
    // The digest is that of all that is told.
    assert_eq!(entries[0]["digest"], sha256(asked));
    check_chain(&entries)?;
    ensure!(bench.server.cli(&["audit", "verify"])?.status.success());
    Ok(())
}
