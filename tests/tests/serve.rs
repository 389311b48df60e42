//! Running a server: what is checked before a start, what it says of itself, and what changes while it runs.

use std::fs;
use std::net::TcpListener;
use std::os::unix::fs::PermissionsExt as _;
use std::os::unix::net::UnixDatagram;
use std::path::{Path, PathBuf};
use std::process::{Command, Output};

use anyhow::{Context as _, Result, ensure};
use ironloom_tests::guests;
use ironloom_tests::http::Client;
use ironloom_tests::server::{Server, Setup, binary};
use ironloom_tests::wait::{PATIENCE, wait_until};
use serde_json::{Value, json};

const HERD: &str = "at,pig,weight\n2026-01-01T00:00:00Z,1,20.5\n";

fn herd(path: &str) -> String {
    format!(
        "[connectors.herd]\nkind = \"csv\"\npath = \"{path}\"\nat = \"at\"\n[connectors.herd.columns.weight]\npoint = \"pig/{{pig}}/weight\"\ntype = \"real\"\n"
    )
}

/// Runs `ironloom serve --check` with this configuration.
fn check(folder: &Path, config: &str, arguments: &[&str]) -> Result<Output> {
    let path = folder.join("checked.toml");
    fs::write(&path, config)?;
    let mut command = Command::new(binary()?);
    command.args(["serve", "--check", "--config"]).arg(&path).args(arguments);
    Ok(command.output()?)
}

fn said(output: &Output) -> (String, String) {
    let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
    (text(&output.stdout), text(&output.stderr))
}

#[test]
fn a_check_reads_the_files_that_catalogs_need() -> Result<()> {
    let folder = tempfile::tempdir()?;
    let data = folder.path().join("data").display().to_string();
    let (ca, logins) = (folder.path().join("ca.pem"), folder.path().join("auth.json"));
    let looks = |keys: &str| -> Result<(bool, String)> {
        let config = format!("[catalogs]\n{keys}\n");
        let output = check(folder.path(), &config, &["--data", &data, "--listen", "127.0.0.1:0"])?;
        Ok((output.status.success(), said(&output).1))
    };
    for (keys, part) in [("ca = [\"ca.pem\"]", "ca.pem"), ("logins = \"auth.json\"", "auth.json")] {
        let (passes, told) = looks(keys)?;
        ensure!(!passes && told.contains(part) && told.contains("[catalogs]"), "{told}");
    }
    fs::write(&ca, "no certificate")?;
    ensure!(!looks("ca = [\"ca.pem\"]")?.0);
    fs::write(&logins, "{\"auths\": {}}")?;
    fs::set_permissions(&logins, fs::Permissions::from_mode(0o644))?;
    let (passes, told) = looks("logins = \"auth.json\"")?;
    ensure!(!passes && told.contains("chmod"), "others may read it: {told}");
    fs::set_permissions(&logins, fs::Permissions::from_mode(0o600))?;
    let (passes, told) = looks("logins = \"auth.json\"")?;
    ensure!(passes, "{told}");
    Ok(())
}

#[test]
fn a_check_names_all_that_keeps_a_server_from_starting_and_changes_nothing() -> Result<()> {
    let folder = tempfile::tempdir()?;
    fs::write(folder.path().join("herd.csv"), HERD)?;
    fs::create_dir_all(folder.path().join("data/store/sled"))?;
    fs::write(folder.path().join("headless.csv"), "")?;
    let data = folder.path().join("data").display().to_string();
    let taken = TcpListener::bind("127.0.0.1:0")?;
    let port = taken.local_addr()?.to_string();

    let more = "[connectors.other]\nkind = \"csv\"\npath = \"herd.csv\"\nat = \"time\"\n[connectors.other.columns.weight]\npoint = \"p\"\ntype = \"real\"\n";
    let config = format!("[store]\nreserve = \"1000000 GiB\"\n{}{more}", herd("none.csv"));
    let output = check(folder.path(), &config, &["--data", &data, "--listen", &port])?;
    let (out, err) = said(&output);
    ensure!(output.status.code() == Some(1), "{out}{err}");
    for part in [
        "its store is of the engine sled, and `store.engine` is redb",
        "`store.reserve` keeps 1000000 GiB free",
        &format!("can't listen on {port}"),
        "connectors.herd: ",
        "none.csv: No such file",
        "connectors.other: ",
        "has no column \"time\"; it has at, pig, weight",
    ] {
        ensure!(err.contains(part), "{part:?} is missing in\n{err}");
    }
    // Errors of the file don't hide those of the folder.
    let output =
        check(folder.path(), "[store]\nengines = 1\n[log]\nmax = \"1\"\n", &["--data", "/dev/null"])?;
    let (_, err) = said(&output);
    for part in ["checked.toml:2:1: store.engines", "checked.toml:4:7: log.max", "/dev/null: is not a folder"]
    {
        ensure!(err.contains(part), "{part:?} is missing in\n{err}");
    }

    for (name, part) in [("restoring", "left of a restore"), ("store/redb/x", "its log is gone")] {
        let half = folder.path().join(name.replace('/', "-"));
        fs::create_dir_all(half.join(name).parent().context("no parent")?)?;
        fs::write(half.join(name), "")?;
        let output =
            check(folder.path(), "", &["--data", &half.display().to_string(), "--listen", "127.0.0.1:0"])?;
        let (out, err) = said(&output);
        ensure!(output.status.code() == Some(1) && err.contains(part), "{out}{err}");
    }

    let new = folder.path().join("new/data").display().to_string();
    let output = check(folder.path(), &herd("herd.csv"), &["--data", &new, "--listen", "127.0.0.1:0"])?;
    let (out, err) = said(&output);
    ensure!(output.status.success(), "{out}{err}");
    for part in ["has no errors", "has no data yet", "127.0.0.1:0 is free", "connector herd can read"] {
        ensure!(out.contains(part), "{part:?} is missing in\n{out}");
    }
    ensure!(!folder.path().join("new").exists(), "a check makes nothing");
    Ok(())
}

#[test]
fn a_check_beside_a_running_server_finds_its_port_in_order() -> Result<()> {
    let server = Setup::new()?.start()?;
    let data = server.setup().data().display().to_string();
    let port = server.client().url().trim_start_matches("http://").to_owned();
    let output = check(server.setup().folder(), "", &["--data", &data, "--listen", &port])?;
    let (out, err) = said(&output);
    ensure!(output.status.success(), "{out}{err}");
    let holder = format!("is in use by the process {}", server.pid());
    ensure!(out.contains(&holder) && out.contains("is taken, as it should be"), "{out}");
    Ok(())
}

#[test]
fn a_status_says_what_there_is_and_what_it_takes() -> Result<()> {
    let setup = Setup::new()?.config(herd("herd.csv"));
    fs::write(setup.folder().join("herd.csv"), HERD)?;
    let server = setup.start()?;
    let client = server.client();
    let package = guests::package("one-state")?;
    let digest = client.add_package(&package.tar())?;
    for id in ["one", "two", "three"] {
        let bindings = json!({"value": ["pig/{pig}/weight"]});
        client
            .post("/v1/installations", &json!({"id": id, "package": digest, "bindings": bindings}))?
            .json()?;
    }
    client.post("/v1/installations/two/pause", &json!({}))?.json()?;
    wait_until("the file to be read", || Ok(client.get("/v1/status")?.json()?["connectors"]["done"] == 1))?;
    let status = client.get("/v1/status")?.json()?;
    ensure!(status["installations"] == json!({"running": 2, "paused": 1}), "{status}");
    ensure!(status["ready"] == true && status["points"] == 1 && status["engine"] == "redb", "{status}");
    ensure!(status["data"] == setup.data().display().to_string(), "{status}");
    let disk = &status["disk"];
    let bytes = |name: &str| disk[name].as_u64().with_context(|| format!("no {name} in {disk}"));
    // A segment of the log, and the package's file.
    ensure!(bytes("log")? >= 64 << 20 && bytes("packages")? >= package.tar().len() as u64, "{disk}");
    ensure!(bytes("store")? > 0 && bytes("free")? > 0 && bytes("reserve")? == 256 << 20, "{disk}");
    ensure!(disk["growth_per_day"].is_null() && disk["full_in_days"].is_null(), "not known yet: {disk}");

    let output = server.cli(&["status"])?;
    let (out, _) = said(&output);
    for part in [
        "ready          yes",
        "installations  3: 2 running, 1 paused",
        "connectors     1: 1 done",
        "isn't known before an hour",
    ] {
        ensure!(out.contains(part), "{part:?} is missing in\n{out}");
    }
    Ok(())
}

#[test]
fn completions_know_the_commands() -> Result<()> {
    for shell in ["bash", "zsh", "fish"] {
        let output = Command::new(binary()?).args(["completions", shell]).output()?;
        let (out, err) = said(&output);
        ensure!(
            output.status.success() && out.contains("dead-letters") && out.contains("ironloom"),
            "{shell}: {err}"
        );
    }
    // The shell itself takes it.
    let script = said(&Command::new(binary()?).args(["completions", "bash"]).output()?).0;
    let folder = tempfile::tempdir()?;
    let file = folder.path().join("ironloom.bash");
    fs::write(&file, script)?;
    let asked = format!(
        "source {}\nCOMP_WORDS=(ironloom dead-l); COMP_CWORD=1; _ironloom ironloom dead-l ironloom; echo \"${{COMPREPLY[@]}}\"",
        file.display()
    );
    let output = Command::new("bash").args(["-c", &asked]).output()?;
    let (out, err) = said(&output);
    ensure!(out.trim() == "dead-letters", "{out}{err}");
    Ok(())
}

fn connectors(client: &Client) -> Result<Vec<Value>> {
    let list = client.get("/v1/connectors")?.json()?;
    Ok(list["items"].as_array().cloned().unwrap_or_default())
}

/// Asks for a signal, by the process's own number.
fn signal(server: &Server, signal: rustix::process::Signal) -> Result<()> {
    let pid = i32::try_from(server.pid()).ok().and_then(rustix::process::Pid::from_raw).context("no pid")?;
    Ok(rustix::process::kill_process(pid, signal)?)
}

#[test]
fn the_level_of_the_log_changes_while_the_server_runs() -> Result<()> {
    let setup = Setup::new()?.config("[server]\nlog = \"warn\"\n");
    let server = setup.start()?;
    let client = server.client();
    ensure!(!setup.said().contains("listening on"), "a line of level info:\n{}", setup.said());
    ensure!(client.get("/v1/log-level")?.json()? == json!({"level": "warn", "by": "configuration"}));
    let (out, _) = said(&server.cli(&["log-level", "info"])?);
    ensure!(out == "info (until the next start)\n", "{out}");
    ensure!(setup.said().contains("other log lines are written"), "{}", setup.said());
    ensure!(client.get("/v1/log-level")?.json()? == json!({"level": "info", "by": "request"}));
    server.cli(&["log-level", "error"])?;
    let before = setup.said();
    client.add_package(&guests::package("one-state")?.tar())?;
    ensure!(setup.said() == before, "the package's line is of level info:\n{}", setup.said());

    let refused = client.send(
        "PUT",
        "/v1/log-level",
        &[("content-type", "application/json")],
        br#"{"level":"debugg"}"#,
    )?;
    let problem = refused.problem(400)?;
    ensure!(problem["where"]["field"] == "level", "{problem}");
    ensure!(
        problem["detail"].as_str().unwrap_or_default().contains("\"debugg\" is not a level"),
        "{problem}"
    );
    let form =
        client.send("PUT", "/v1/log-level", &[("content-type", "text/plain")], br#"{"level":"debug"}"#)?;
    form.problem(415)?;
    ensure!(server.cli(&["log-level", "loud"])?.status.code() == Some(2), "misuse");
    server.stop()?;

    // The environment goes before the file.
    let setup = Setup::new()?.config("[server]\nlog = \"warn\"\n").env("IRONLOOM_LOG", "info");
    let server = setup.start()?;
    ensure!(setup.said().contains("listening on"), "{}", setup.said());
    ensure!(server.client().get("/v1/log-level")?.json()?["by"] == "environment");
    Ok(())
}

const PLAIN: &str = "[store]\nreserve = \"256 MiB\"\n";

/// A limit for later installs, a unit, a connector, the reserve and the log.
fn sound() -> String {
    let first = "[server]\nlog = \"debug\"\n[store]\nreserve = \"200 MiB\"\n[limits]\ncpu = \"100 ms\"\n";
    format!("{first}[points.\"pig/{{pig}}/weight\"]\nunit = \"kg\"\n{}", herd("herd.csv"))
}

fn reloadable() -> Result<(Server, PathBuf)> {
    let setup = Setup::new()?.config(PLAIN);
    fs::write(setup.folder().join("herd.csv"), HERD)?;
    let file = setup.folder().join("ironloom.toml");
    Ok((setup.start()?, file))
}

#[test]
fn nothing_is_taken_of_a_configuration_with_an_error_or_a_key_that_needs_a_restart() -> Result<()> {
    let (server, file) = reloadable()?;
    let client = server.client();
    fs::write(&file, format!("[limits]\ncpu = \"100 ms\"\n[log]\nmax = \"2 GiB\"\n{}", herd("herd.csv")))?;
    let refused = client.post("/v1/reload", &json!({}))?.problem(409)?;
    ensure!(refused["kind"] == "needs-restart", "{refused}");
    ensure!(refused["errors"].as_array().map(Vec::len) == Some(1), "{refused}");
    ensure!(refused["errors"][0]["where"]["field"] == "log.max", "{refused}");
    ensure!(refused["errors"][0]["detail"] == "1 GiB to 2 GiB takes a restart", "{refused}");
    fs::write(&file, format!("{}[limits]\ncpus = 1\n", herd("herd.csv")))?;
    let refused = client.post("/v1/reload", &json!({}))?.problem(422)?;
    let place = &refused["errors"][0]["where"];
    ensure!(*place == json!({"line": 9, "column": 1, "field": "limits.cpus"}), "{refused}");
    let output = server.cli(&["reload"])?;
    ensure!(output.status.code() == Some(1) && said(&output).1.contains("limits.cpus"), "{output:?}");
    ensure!(connectors(client)?.is_empty(), "no connector was started");

    // A hang-up with a file that is wrong ends nothing.
    fs::write(&file, "[nonsense]\n")?;
    signal(&server, rustix::process::Signal::HUP)?;
    let setup = server.setup();
    wait_until("the refusal", || Ok(setup.said().contains("SIGHUP: nothing was taken")))?;
    ensure!(setup.said().contains("nonsense"), "{}", setup.said());
    ensure!(client.get("/readyz")?.status == 200);
    Ok(())
}

#[test]
fn a_changed_configuration_is_taken_whole() -> Result<()> {
    let (server, file) = reloadable()?;
    let client = server.client();
    client.push_one("pig/7/weight", 1.5)?;
    fs::write(&file, sound())?;
    let would = client.post("/v1/reload?dry-run=true", &json!({}))?.json()?;
    ensure!(connectors(client)?.is_empty(), "a dry run takes nothing");
    let taken = server.cli_json(&["reload"])?;
    ensure!(would["changes"] == taken["changes"], "{would} {taken}");
    let changes = taken["changes"].as_array().into_iter().flatten();
    let keys: Vec<&str> = changes.filter_map(|change| change["key"].as_str()).collect();
    let unit = "points.\"pig/{pig}/weight\".unit";
    ensure!(keys == ["server.log", "store.reserve", "limits.cpu", unit, "connectors.herd"], "{taken}");
    wait_until("the file to be read", || Ok(connectors(client)?.iter().any(|one| one["state"] == "done")))?;
    ensure!(client.get("/v1/status")?.json()?["disk"]["reserve"] == 200 << 20);
    ensure!(client.get("/v1/log-level")?.json()?["level"] == "debug");
    wait_until("the unit of the point that was there", || {
        Ok(client.all("/v1/points")?.iter().all(|point| point["unit"] == "kg"))
    })?;
    let bindings = json!({"value": ["pig/{pig}/weight"]});
    let package = client.add_package(&guests::package("one-state")?.tar())?;
    let request = json!({"id": "one", "package": package, "bindings": bindings});
    let installed = client.post("/v1/installations", &request)?.json()?;
    ensure!(installed["limits"]["cpu"] == "100 ms", "{installed}");
    ensure!(server.cli_json(&["reload"])?["changes"] == json!([]), "nothing has changed since");
    Ok(())
}

#[test]
fn a_connector_that_goes_ends_and_goes_on_where_it_was_when_it_comes_again() -> Result<()> {
    let (server, file) = reloadable()?;
    let client = server.client();
    fs::write(&file, sound())?;
    server.cli_json(&["reload"])?;
    wait_until("the file to be read", || Ok(connectors(client)?.iter().any(|one| one["state"] == "done")))?;
    fs::write(&file, sound().replace("[connectors.herd", "[connectors.other"))?;
    signal(&server, rustix::process::Signal::HUP)?;
    wait_until("the other connector to read", || {
        Ok(connectors(client)?.iter().any(|one| one["name"] == "other" && one["readings"] == 1))
    })?;
    ensure!(connectors(client)?.len() == 1, "herd is gone");
    let setup = server.setup();
    wait_until("its line", || Ok(setup.said().contains("SIGHUP: the configuration was read again")))?;
    fs::write(&file, sound())?;
    fs::write(setup.folder().join("herd.csv"), format!("{HERD}2026-01-02T00:00:00Z,1,21.0\n"))?;
    server.cli_json(&["reload"])?;
    wait_until("the line that was added", || {
        Ok(connectors(client)?.iter().any(|one| one["name"] == "herd" && one["state"] == "done"))
    })?;
    let journal = client.journal(0, "point=pig/1/weight")?;
    let weights: Vec<_> = journal.iter().map(|reading| reading["value"].clone()).collect();
    ensure!(
        weights == [json!(20.5), json!(20.5), json!(21.0)],
        "once as each, and the new line: {weights:?}"
    );
    ensure!(server.stop()?.success());
    Ok(())
}

/// The words that came, by kind, until one of this kind has come.
fn words_until(socket: &UnixDatagram, kind: &str) -> Result<Vec<String>> {
    let mut words = Vec::new();
    let mut buffer = [0; 4_096];
    loop {
        let length = socket.recv(&mut buffer).with_context(|| format!("no {kind} after {words:?}"))?;
        let text = String::from_utf8_lossy(&buffer[..length]).into_owned();
        words.extend(text.lines().map(str::to_owned));
        if text.lines().any(|line| line == kind) {
            return Ok(words);
        }
    }
}

#[test]
fn whoever_starts_the_server_is_told_what_becomes_of_it() -> Result<()> {
    let folder = tempfile::tempdir()?;
    let path = folder.path().join("notify");
    let socket = UnixDatagram::bind(&path)?;
    socket.set_read_timeout(Some(PATIENCE))?;
    let setup =
        Setup::new()?.env("NOTIFY_SOCKET", &path.display().to_string()).env("WATCHDOG_USEC", "200000");
    let mut server = setup.start()?;
    let words = words_until(&socket, "READY=1")?;
    let at = |word: &str| words.iter().position(|found| found.contains(word));
    ensure!(at("opens the data folder") < at("READY=1") && at("opens").is_some(), "{words:?}");
    ensure!(at(server.client().url()).is_some(), "{words:?}");
    for _ in 0..3 {
        words_until(&socket, "WATCHDOG=1")?;
    }
    signal(&server, rustix::process::Signal::HUP)?;
    let words = words_until(&socket, "RELOADING=1")?;
    ensure!(words.iter().any(|word| word.starts_with("MONOTONIC_USEC=")), "{words:?}");
    words_until(&socket, "READY=1")?;
    server.terminate()?;
    words_until(&socket, "STOPPING=1")?;
    ensure!(server.wait()?.success());
    Ok(())
}

#[test]
fn a_server_that_is_not_ready_yet_can_be_stopped() -> Result<()> {
    let folder = tempfile::tempdir()?;
    let path = folder.path().join("notify");
    let socket = UnixDatagram::bind(&path)?;
    socket.set_read_timeout(Some(PATIENCE))?;
    let setup = Setup::new()?
        .env("NOTIFY_SOCKET", &path.display().to_string())
        .env("FAILPOINTS", "log-begin-before-folder-sync=hold");
    let child = setup.spawn()?;
    words_until(&socket, "STATUS=opens the data folder")?;
    rustix::process::kill_process(rustix::process::Pid::from_child(&child), rustix::process::Signal::TERM)?;
    ensure!(setup.end_of(child)?.success(), "{}", setup.said());
    words_until(&socket, "STOPPING=1")?;
    ensure!(setup.said().contains("stops before it was ready"), "{}", setup.said());
    ensure!(setup.without_env().start()?.stop()?.success());
    Ok(())
}

#[test]
fn the_unit_file_is_one_that_systemd_knows() -> Result<()> {
    let file = Path::new(env!("CARGO_MANIFEST_DIR")).join("../runtime/packaging/ironloom.service");
    let unit = fs::read_to_string(file)?.replace("/usr/bin/ironloom", &binary()?.display().to_string());
    let folder = tempfile::tempdir()?;
    let copy = folder.path().join("ironloom.service");
    fs::write(&copy, unit)?;
    let Ok(output) = Command::new("systemd-analyze").args(["verify", "--man=no"]).arg(&copy).output() else {
        ironloom_mutate::not_tested("the unit file", "there is no systemd-analyze");
        return Ok(());
    };
    let (out, err) = said(&output);
    ensure!(output.status.success() && !err.contains("ironloom.service"), "{out}{err}");
    Ok(())
}

/// The records that the last start read in the log.
fn records_read(setup: &Setup) -> Result<u64> {
    let said = setup.said();
    let line = said.lines().rfind(|line| line.contains("the data folder is open"));
    let records = line.and_then(|line| line.split("records=").nth(1)?.split_whitespace().next());
    Ok(records.with_context(|| said.clone())?.parse()?)
}

#[test]
fn a_stop_that_has_the_time_leaves_nothing_to_read() -> Result<()> {
    for (time, left) in [("0 s", 10..=1_000), ("1 min", 0..=0)] {
        let setup = Setup::new()?.config(format!("[log]\nfold_at_stop = \"{time}\"\n"));
        let server = setup.start()?;
        for value in 0..10 {
            server.client().push_one("a/b", value)?;
        }
        ensure!(server.stop()?.success());
        ensure!(setup.said().contains("the last checkpoints fold the log"), "{}", setup.said());
        ensure!(setup.said().contains("all of the log is folded") == (time != "0 s"), "{}", setup.said());
        let server = setup.start()?;
        let records = records_read(&setup)?;
        ensure!(left.contains(&records), "{time}: {records} records were read");
        ensure!(server.client().journal(0, "")?.len() == 10);
    }
    Ok(())
}
