//! Tokens and roles: who is let in, and what each may do.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::io::{Read as _, Write as _};
use std::net::TcpStream;
use std::os::unix::fs::PermissionsExt as _;
use std::path::Path;
use std::process::{Command, Output, Stdio};
use std::time::Duration;

use anyhow::{Context as _, Result, ensure};
use ironloom_tests::http::{Answer, Client};
use ironloom_tests::listener::Listener;
use ironloom_tests::server::{Server, Setup, binary};
use ironloom_tests::wait::{wait_for, wait_until};
use serde_json::json;

const REQUIRED: &str = "[server]\ntokens = \"required\"\n";

/// The token that the server has made for its admin.
fn admin_token(setup: &Setup) -> Result<String> {
    Ok(fs::read_to_string(setup.data().join("admin-token"))?.trim().to_owned())
}

fn start() -> Result<(Server, Client)> {
    let server = Setup::new()?.config(REQUIRED).start()?;
    let admin = server.client().with_token(&admin_token(server.setup())?);
    Ok((server, admin))
}

fn add(admin: &Client, name: &str, role: &str) -> Result<String> {
    let made = admin.post("/v1/tokens", &json!({"name": name, "role": role}))?.json()?;
    Ok(made["token"].as_str().context("no token")?.to_owned())
}

/// A command, with this token in the environment where there is one.
fn command(server: &Server, arguments: &[&str], token: Option<&str>) -> Result<Output> {
    let mut command = Command::new(binary()?);
    command.args(arguments).env("IRONLOOM_URL", server.client().url()).stdin(Stdio::null());
    command.env_remove("IRONLOOM_TOKEN").env_remove("IRONLOOM_TOKEN_FILE");
    command.envs(token.map(|token| ("IRONLOOM_TOKEN", token)));
    Ok(command.output()?)
}

#[test]
fn the_first_token_is_in_a_file_and_nowhere_else() -> Result<()> {
    let (server, admin) = start()?;
    let file = server.setup().data().join("admin-token");
    assert_eq!(fs::metadata(&file)?.permissions().mode() & 0o777, 0o600);
    let said = server.setup().said();
    ensure!(said.contains(&*file.to_string_lossy()), "its path is told: {said}");
    let token = admin_token(server.setup())?;
    ensure!(token.starts_with("ilm_") && token.len() == 47, "{token}");
    assert_eq!(server.client().get("/v1/installations")?.problem(401)?["kind"], "unauthenticated");
    admin.get("/v1/installations")?.json()?;
    let me = admin.get("/v1/me")?.json()?;
    assert_eq!((&me["name"], &me["role"]), (&json!("admin"), &json!("platform-admin")));

    // Killed, so that the log is all that a start has.
    let server = server.restarted()?;
    assert_eq!(admin_token(server.setup())?, token, "a start makes no second one");
    let admin = server.client().with_token(&token);
    let other = add(&admin, "anna", "viewer")?;
    let setup = server.setup().clone();
    ensure!(server.stop()?.success());
    fs::remove_file(&file)?;
    for entry in walk(&setup.data())? {
        let bytes = fs::read(&entry)?;
        for secret in [&token, &other] {
            let is_in = bytes.windows(secret.len()).any(|part| part == secret.as_bytes());
            ensure!(!is_in, "a token is in {}", entry.display());
        }
    }
    for secret in [&token, &other] {
        ensure!(!setup.said().contains(secret), "a token is in the log");
    }
    // Whoever has lost it gets another one in its place.
    let server = setup.clone().argument("--new-admin-token").start()?;
    assert_eq!(server.client().with_token(&token).get("/v1/me")?.problem(401)?["kind"], "unauthenticated");
    server.client().with_token(&admin_token(&setup)?).get("/v1/tokens")?.json()?;
    Ok(())
}

fn walk(folder: &std::path::Path) -> Result<Vec<std::path::PathBuf>> {
    let mut found = Vec::new();
    for entry in fs::read_dir(folder)? {
        let path = entry?.path();
        if path.is_dir() { found.extend(walk(&path)?) } else { found.push(path) }
    }
    Ok(found)
}

#[test]
fn each_role_may_what_it_is_for() -> Result<()> {
    let (server, admin) = start()?;
    let as_role = |role: &str| -> Result<Client> {
        Ok(server.client().with_token(&add(&admin, &format!("a-{role}"), role)?))
    };
    let gateway = as_role("source")?;
    gateway.push_one("farm/7/weight", 26.5)?;
    for path in ["/v1/readings", "/v1/installations", "/v1/tokens", "/metrics", "/openapi.json"] {
        assert_eq!(gateway.get(path)?.problem(403)?["kind"], "role", "{path}");
    }
    assert_eq!(gateway.get("/v1/me")?.json()?["role"], "source");
    let viewer = as_role("viewer")?;
    ensure!(viewer.all("/v1/points")?.len() == 1);
    for (path, body) in [("/v1/halt", json!({})), ("/v1/installations", json!({})), ("/v1/reload", json!({}))]
    {
        assert_eq!(viewer.post(path, &body)?.problem(403)?["kind"], "role", "{path}");
    }
    let refused = viewer.push(b"{\"point\":\"farm/7/weight\",\"value\":1}", None)?.problem(403)?;
    assert_eq!(refused["detail"], "\"a-viewer\" has the role viewer, which may not push readings");
    let operator = as_role("operator")?;
    operator.post("/v1/halt", &json!({}))?.json()?;
    operator.post("/v1/release", &json!({}))?.json()?;
    assert_eq!(operator.delete("/v1/installations/pigs")?.problem(403)?["kind"], "role");
    let manager = as_role("app-admin")?;
    manager.delete("/v1/installations/pigs")?.problem(404)?;
    for path in ["/v1/tokens", "/v1/backup"] {
        assert_eq!(manager.get(path)?.problem(403)?["kind"], "role", "{path}");
    }
    Ok(())
}

#[test]
fn the_unit_for_systemd_reloads_without_a_token() -> Result<()> {
    let (server, _) = start()?;
    let unit = Path::new(env!("CARGO_MANIFEST_DIR")).join("../runtime/packaging/ironloom.service");
    let unit = fs::read_to_string(unit)?;
    let reload = unit.lines().find_map(|line| line.strip_prefix("ExecReload=")).context("no ExecReload")?;
    let reload = reload.replace("$MAINPID", &server.pid().to_string());
    let reload = reload.replace("/usr/bin/ironloom", &binary()?.display().to_string());
    let mut command = Command::new("sh");
    command.args(["-c", &reload]).env("IRONLOOM_URL", server.client().url());
    command.env_remove("IRONLOOM_TOKEN").env_remove("IRONLOOM_TOKEN_FILE");
    let output = command.output()?;
    ensure!(output.status.success(), "{output:?}");
    let setup = server.setup();
    wait_until("its line", || Ok(setup.said().contains("SIGHUP: the configuration was read again")))
}

#[test]
fn who_may_not_list_tokens_doesnt_hear_of_them() -> Result<()> {
    let (server, admin) = start()?;
    let anna = server.client().with_token(&add(&admin, "anna", "viewer")?);
    let (mut hers, mut of_admin) = (Listener::new(&anna, "", None)?, Listener::new(&admin, "", None)?);
    assert_eq!(anna.get("/v1/events?kinds=disk,token")?.problem(403)?["kind"], "role");
    add(&admin, "otto", "operator")?;
    admin.post("/v1/halt", &json!({}))?.json()?;
    let is_halt = |event: &serde_json::Value| event["kind"] == "halt";
    of_admin.wait("the halt", is_halt)?;
    hers.wait("the halt", is_halt)?;
    let tokens = |listener: &Listener| listener.seen.iter().filter(|event| event["kind"] == "token").count();
    assert_eq!((tokens(&hers), tokens(&of_admin)), (0, 1), "{:?}", hers.seen);
    Ok(())
}

#[test]
fn a_token_that_is_taken_back_or_over_is_worth_nothing_at_once() -> Result<()> {
    let (server, admin) = start()?;
    let anna = server.client().with_token(&add(&admin, "anna", "viewer")?);
    let mut listener = Listener::new(&anna, "", None)?;
    admin.delete("/v1/tokens/anna")?.json()?;
    assert_eq!(anna.get("/v1/points")?.problem(401)?["kind"], "unauthenticated");
    listener.wait_for_its_end()?;

    let short = json!({"name": "short", "role": "viewer", "for": "1 s"});
    let made = admin.post("/v1/tokens", &short)?.json()?;
    let short = server.client().with_token(made["token"].as_str().context("no token")?);
    let mut listener = Listener::new(&short, "", None)?;
    listener.wait_for_its_end()?;
    assert_eq!(short.get("/v1/points")?.problem(401)?["kind"], "unauthenticated");
    assert_eq!(admin.get("/v1/tokens/short")?.json()?["expired"], true);
    let server = server.restarted()?;
    assert_eq!(
        server.client().with_token("ilm_").get("/v1/points")?.problem(401)?["kind"],
        "unauthenticated"
    );
    let names: Vec<_> = server
        .client()
        .with_token(&admin_token(server.setup())?)
        .all("/v1/tokens")?
        .iter()
        .map(|token| token["name"].clone())
        .collect();
    assert_eq!(names, ["admin", "short"]);
    Ok(())
}

/// A request that the server has admitted, and whose body waits.
fn parked(client: &Client, path: &str, kind: &str, length: usize) -> Result<TcpStream> {
    let host = client.url().strip_prefix("http://").context("no address")?;
    let token = client.authorization().context("no token")?;
    let mut socket = TcpStream::connect(host)?;
    socket.set_read_timeout(Some(Duration::from_secs(60)))?;
    write!(
        socket,
        "POST {path} HTTP/1.1\r\nHost: {host}\r\nAuthorization: {token}\r\nContent-Type: {kind}\r\n\
         Content-Length: {length}\r\nExpect: 100-continue\r\nConnection: close\r\n\r\n"
    )?;
    let mut go_on = [0; 25];
    socket.read_exact(&mut go_on)?;
    ensure!(&go_on == b"HTTP/1.1 100 Continue\r\n\r\n", "{}", String::from_utf8_lossy(&go_on));
    Ok(socket)
}

#[test]
fn a_request_that_waits_with_its_body_does_nothing_once_its_token_is_taken_back() -> Result<()> {
    let (server, admin) = start()?;
    let token = json!({"name": "back-door", "role": "platform-admin"}).to_string();
    let reading = "{\"point\":\"farm/7/weight\",\"value\":1}\n".to_owned();
    let bodies = [
        ("/v1/tokens", "application/json", token),
        ("/v1/readings", "application/x-ndjson", reading),
        ("/v1/packages", "application/vnd.ironloom.package+tar", "no package".to_owned()),
    ];
    let thief = server.client().with_token(&add(&admin, "thief", "platform-admin")?);
    let mut waiting = Vec::new();
    for (path, kind, body) in &bodies {
        let mut socket = parked(&thief, path, kind, body.len())?;
        socket.write_all(&body.as_bytes()[..1])?;
        waiting.push((socket, path, &body.as_bytes()[1..]));
    }
    admin.delete("/v1/tokens/thief")?.json()?;
    for (mut socket, path, rest) in waiting {
        // It may have had its answer before.
        let _ = socket.write_all(rest);
        let mut answer = Vec::new();
        let _ = socket.read_to_end(&mut answer);
        let answer = String::from_utf8_lossy(&answer);
        ensure!(answer.starts_with("HTTP/1.1 401 "), "{path}: {answer}");
        ensure!(answer.contains("the token was taken back, or has expired"), "{path}: {answer}");
    }
    assert_eq!(admin.get("/v1/tokens/back-door")?.problem(404)?["kind"], "not-found");
    ensure!(admin.all("/v1/points")?.is_empty(), "a reading was taken");
    Ok(())
}

#[test]
fn what_is_wrong_with_a_token_is_said() -> Result<()> {
    let (_server, admin) = start()?;
    add(&admin, "anna", "viewer")?;
    let again = admin.post("/v1/tokens", &json!({"name": "anna", "role": "operator"}))?.problem(409)?;
    assert_eq!(again["kind"], "exists");
    assert_eq!(admin.delete("/v1/tokens/ben")?.problem(404)?["kind"], "not-found");
    let last = admin.delete("/v1/tokens/admin")?.problem(409)?;
    ensure!(
        last["detail"].as_str().is_some_and(|detail| detail.contains("last token of a platform-admin")),
        "{last}"
    );
    let more = |key: &str, value: &str| json!({"name": "ben", "role": "viewer", key: value});
    for body in [
        json!({"name": "Ben", "role": "viewer"}),
        json!({"name": "ben", "role": "king"}),
        json!({"name": "ben"}),
    ] {
        ensure!([400, 422].contains(&admin.post("/v1/tokens", &body)?.status), "{body}");
    }
    for body in [
        more("until", "2020-01-01T00:00:00Z"),
        more("for", "0 s"),
        json!({"name": "ben", "role": "viewer", "for": "1 h", "until": "2100-01-01T00:00:00Z"}),
    ] {
        assert_eq!(admin.post("/v1/tokens", &body)?.problem(422)?["kind"], "token", "{body}");
    }
    Ok(())
}

#[test]
fn commands_show_the_token_that_they_are_given() -> Result<()> {
    let (server, _) = start()?;
    let token = admin_token(server.setup())?;
    let file = server.setup().data().join("admin-token");
    let file = file.to_string_lossy();
    let refused = command(&server, &["list"], None)?;
    assert_eq!(refused.status.code(), Some(1), "{refused:?}");
    let said = String::from_utf8(refused.stderr)?;
    ensure!(said.contains("IRONLOOM_TOKEN or --token-file"), "{said}");
    let shown = command(&server, &["token", "show", "--token-file", &file], None)?;
    assert_eq!(String::from_utf8(shown.stdout)?, "admin, with the role platform-admin in the tenant main\n");
    let made =
        command(&server, &["token", "add", "anna", "--role", "viewer", "--for", "90 d"], Some(&token))?;
    let anna = String::from_utf8(made.stdout)?.trim().to_owned();
    ensure!(String::from_utf8(made.stderr)?.contains("shown this once"));
    let shown = command(&server, &["token", "show"], Some(&anna))?;
    ensure!(
        String::from_utf8(shown.stdout)?
            .starts_with("anna, with the role viewer in the tenant main, until 20")
    );
    let refused = command(&server, &["halt"], Some(&anna))?;
    ensure!(String::from_utf8(refused.stderr)?.contains("which may not operate the plant"));
    let listed = command(&server, &["token", "list"], Some(&token))?;
    let listed = String::from_utf8(listed.stdout)?;
    ensure!(listed.contains("anna") && !listed.contains(&anna), "{listed}");
    ensure!(command(&server, &["token", "remove", "anna"], Some(&token))?.status.success());
    let gone = command(&server, &["list"], Some(&anna))?;
    ensure!(String::from_utf8(gone.stderr)?.contains("isn't known, or it has expired"));
    let wrong = command(&server, &["list"], Some("secret"))?;
    assert_eq!(wrong.status.code(), Some(2), "{wrong:?}");
    ensure!(!String::from_utf8(wrong.stderr)?.contains("secret"), "what was given isn't shown");
    Ok(())
}

#[test]
fn a_token_goes_into_a_new_file_that_nobody_else_can_read() -> Result<()> {
    let (server, _) = start()?;
    let token = admin_token(server.setup())?;
    let file = server.setup().folder().join("bob.token");
    let path = file.to_string_lossy();
    let add = |role| command(&server, &["token", "add", "bob", "--role", role, "-o", &path], Some(&token));
    let refused = add("nobody")?;
    ensure!(!refused.status.success() && !file.exists(), "{refused:?}");
    let made = add("viewer")?;
    ensure!(made.status.success(), "{made:?}");
    assert_eq!(fs::metadata(&file)?.permissions().mode() & 0o777, 0o600);
    ensure!(!String::from_utf8(made.stdout)?.contains(fs::read_to_string(&file)?.trim()));
    let shown = command(&server, &["token", "show", "--token-file", &path], None)?;
    assert_eq!(String::from_utf8(shown.stdout)?, "bob, with the role viewer in the tenant main\n");
    let again = add("viewer")?;
    ensure!(String::from_utf8(again.stderr)?.contains("is there already"), "never over another file");
    fs::remove_file(&file)?;
    ensure!(!add("viewer")?.status.success() && !file.exists(), "the name is taken, and no empty file stays");
    Ok(())
}

#[test]
fn commands_show_no_token_in_clear_unless_they_are_told_to() -> Result<()> {
    let (server, admin) = start()?;
    let token = add(&admin, "anna", "viewer")?;
    // An address for documentation, at which nobody is: a command that called it would end with another code.
    let elsewhere = ["--url", "http://192.0.2.7:7420"];
    for arguments in [&["list"][..], &["push"], &["events"], &["commit", "pigs"], &["copies", "pigs"]] {
        let refused = command(&server, &[&elsewhere[..], arguments].concat(), Some(&token))?;
        let said = String::from_utf8(refused.stderr)?;
        assert_eq!(refused.status.code(), Some(2), "{arguments:?}: {said}");
        ensure!(
            said.contains("isn't shown to http://192.0.2.7:7420") && said.contains("--plain-http"),
            "{said}"
        );
        ensure!(!said.contains(&token), "{said}");
    }
    for arguments in [&["copies", "pigs"][..], &["commit", "pigs"], &["rollback", "pigs"]] {
        let shown = command(&server, arguments, Some(&add(&admin, arguments[0], "app-admin")?))?;
        assert_eq!(shown.status.code(), Some(4), "{arguments:?} show theirs: {shown:?}");
    }
    Ok(())
}

#[test]
fn on_loopback_nobody_needs_a_token_unless_it_is_said_and_a_wrong_one_is_refused() -> Result<()> {
    let server = Setup::new()?.start()?;
    server.client().get("/v1/tokens")?.json()?;
    let me = server.client().get("/v1/me")?.json()?;
    assert_eq!(me, json!({"name": null, "role": null, "tenant": "main", "expires": null}));
    let shown = command(&server, &["token", "show"], None)?;
    ensure!(String::from_utf8(shown.stdout)?.contains("none is needed here"));
    let unknown = format!("ilm_{}", "A".repeat(43));
    assert_eq!(server.client().with_token(&unknown).get("/v1/me")?.problem(401)?["kind"], "unauthenticated");
    // With a token the role counts here, too.
    let viewer = server.client().with_token(&add(server.client(), "anna", "viewer")?);
    assert_eq!(viewer.post("/v1/halt", &json!({}))?.problem(403)?["kind"], "role");
    Ok(())
}

// Each operation by what it needs, written down for itself: what a role may is a decision, and no matter of the table of routes.
const PROBE: &str = "
    get /healthz
    get /readyz";
const IDENTIFY: &str = "
    get /v1/me";
const READ: &str = "
    get /metrics
    get /openapi.json
    get /v1/alarms
    get /v1/alarms/history
    get /v1/apps
    get /v1/apps/{id}
    get /v1/catalog-trust
    get /v1/catalogs
    get /v1/catalogs/{name}
    get /v1/clock
    get /v1/connectors
    get /v1/connectors/{name}
    get /v1/connectors/{name}/dead-letters
    get /v1/consents
    get /v1/consents/{id}
    get /v1/events
    get /v1/halt
    get /v1/installations
    get /v1/installations/{id}
    get /v1/installations/{id}/copies
    get /v1/installations/{id}/dead-letters
    get /v1/installations/{id}/intents
    get /v1/installations/{id}/invocations
    get /v1/installations/{id}/logs
    get /v1/installations/{id}/never-used
    get /v1/installations/{id}/outputs
    get /v1/installations/{id}/rehearsals
    get /v1/installations/{id}/rehearsals/{number}
    get /v1/installations/{id}/state
    get /v1/installations/{id}/state/{key}
    get /v1/installations/{id}/timers
    get /v1/kept
    get /v1/log-level
    get /v1/packages
    get /v1/packages/{digest}
    get /v1/packages/{digest}/file
    get /v1/points
    get /v1/points/{path}
    get /v1/readings
    get /v1/status
    get /v1/usage";
const AUDIT: &str = "
    get /v1/audit
    get /v1/audit/checkpoints
    post /v1/audit/checkpoints";
const PUSH: &str = "
    post /v1/readings
    get /v1/readings/stream";
const OPERATE: &str = "
    post /v1/alarms/{id}/ack
    post /v1/alarms/{id}/comment
    post /v1/alarms/{id}/shelve
    post /v1/alarms/{id}/unshelve
    post /v1/connectors/{name}/start
    post /v1/connectors/{name}/stop
    post /v1/halt
    delete /v1/installations/{id}/dead-letters/{number}
    post /v1/installations/{id}/dead-letters/{number}/requeue
    post /v1/installations/{id}/intents/{intent}/confirm
    post /v1/installations/{id}/intents/{intent}/dismiss
    post /v1/installations/{id}/pause
    post /v1/installations/{id}/rehearsals
    delete /v1/installations/{id}/rehearsals/{number}
    post /v1/installations/{id}/replay
    post /v1/installations/{id}/resume
    post /v1/release";
const MANAGE_APPS: &str = "
    post /v1/apps/{id}/fetch
    post /v1/catalogs/{name}/refresh
    delete /v1/consents/{id}
    post /v1/consents/{id}/accept
    post /v1/installations
    delete /v1/installations/{id}
    patch /v1/installations/{id}
    get /v1/installations/{id}/capsule
    post /v1/installations/{id}/commit
    post /v1/installations/{id}/reset
    post /v1/installations/{id}/rollback
    delete /v1/installations/{id}/state/{key}
    put /v1/installations/{id}/state/{key}
    post /v1/packages
    delete /v1/packages/{digest}
    delete /v1/points/{path}
    patch /v1/points/{path}
    post /v1/points/{path}/rename";
const ADMINISTER: &str = "
    get /v1/backup
    post /v1/catalog-trust
    post /v1/catalogs
    delete /v1/catalogs/{name}
    post /v1/clock
    delete /v1/connectors/{name}
    put /v1/connectors/{name}
    put /v1/log-level
    post /v1/reload
    get /v1/tenants
    post /v1/tenants
    get /v1/tenants/{name}
    put /v1/tenants/{name}
    get /v1/tokens
    post /v1/tokens
    delete /v1/tokens/{name}
    get /v1/tokens/{name}";

/// Each operation, with the roles that the documentation of access gives it; none where nobody is asked.
fn operations() -> Vec<(String, Option<&'static [&'static str]>)> {
    const ALL: [&str; 6] = ["viewer", "operator", "app-admin", "platform-admin", "source", "auditor"];
    let groups: [(&str, Option<&'static [&'static str]>); 8] = [
        (PROBE, None),
        (IDENTIFY, Some(&ALL)),
        (READ, Some(&["viewer", "operator", "app-admin", "platform-admin", "auditor"])),
        (AUDIT, Some(&["platform-admin", "auditor"])),
        (PUSH, Some(&["operator", "app-admin", "platform-admin", "source"])),
        (OPERATE, Some(&["operator", "app-admin", "platform-admin"])),
        (MANAGE_APPS, Some(&["app-admin", "platform-admin"])),
        (ADMINISTER, Some(&["platform-admin"])),
    ];
    let lines = |list: &'static str| list.lines().map(str::trim).filter(|line| !line.is_empty());
    let all =
        groups.into_iter().flat_map(|(list, roles)| lines(list).map(move |line| (line.to_owned(), roles)));
    all.collect()
}

/// Sends a request without a body to an operation, past the limit of requests in a second.
fn send(client: &Client, operation: &str) -> Result<Answer> {
    let (method, path) = operation.split_once(' ').context("no path")?;
    let path: Vec<&str> =
        path.split('/').map(|part| if part.starts_with('{') { "7" } else { part }).collect();
    wait_for("a place among its requests", || {
        let answer = client.send(&method.to_uppercase(), &path.join("/"), &[], &[])?;
        Ok((answer.status != 429).then_some(answer))
    })
}

#[test]
fn each_operation_is_for_the_roles_that_it_is_meant_for() -> Result<()> {
    let (server, admin) = start()?;
    let document = admin.get("/openapi.json")?.json()?;
    let mut described = BTreeMap::new();
    for (path, methods) in document["paths"].as_object().context("no paths")? {
        for (method, operation) in methods.as_object().context("no methods")? {
            let words = operation["description"].as_str().unwrap_or_default();
            described.insert(format!("{method} {path}"), words.to_owned());
        }
    }
    let expected = operations();
    let names = |all: Vec<&String>| all.into_iter().cloned().collect::<BTreeSet<_>>();
    assert_eq!(names(described.keys().collect()), names(expected.iter().map(|(name, _)| name).collect()));
    let roles = ["viewer", "operator", "app-admin", "platform-admin", "source", "auditor"];
    for (operation, of) in &expected {
        let words = &described[operation];
        let named: Vec<&str> = roles.into_iter().filter(|role| has_word(words, role)).collect();
        // What is for everybody names none.
        let all = of.filter(|of| of.len() < roles.len()).unwrap_or_default();
        assert_eq!(named, all, "{operation}: {words}");
    }
    for role in roles {
        let client = server.client().with_token(&add(&admin, &format!("a-{role}"), role)?);
        for (operation, of) in &expected {
            if of.is_none_or(|of| of.contains(&role)) {
                continue;
            }
            let refused = send(&client, operation)?;
            ensure!(refused.status == 403, "{role}, {operation}: {} {}", refused.status, refused.text());
            assert_eq!(refused.problem(403)?["kind"], "role", "{role}, {operation}");
        }
        // And may do what changes nothing, where it may.
        for (operation, of) in &expected {
            let changes = !operation.starts_with("get ")
                || ["/v1/events", "/v1/backup"].iter().any(|path| operation.ends_with(path));
            if changes || !of.is_none_or(|of| of.contains(&role)) {
                continue;
            }
            let answer = send(&client, operation)?;
            ensure!(![401, 403].contains(&answer.status), "{role}, {operation}: {}", answer.text());
        }
    }
    Ok(())
}

/// Says whether a role is named in a text; one's name is part of none of the others'.
fn has_word(text: &str, role: &str) -> bool {
    text.split([' ', ',', '.']).any(|word| word == role)
}
