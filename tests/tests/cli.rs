//! Every command of the command line against a real server: what it prints, on stdout and on stderr, and
//! its exit code. The snapshots are what a person at a terminal reads.

use std::fmt::Write as _;
use std::fs;
use std::io::Write as _;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use anyhow::{Context as _, Result, ensure};
use ironloom_tests::apps::{number, wait_for_installation};
use ironloom_tests::guests;
use ironloom_tests::package::{Package, pack};
use ironloom_tests::server::{Server, Setup, binary, cli_at};
use ironloom_tests::wait::wait_for;

/// Runs commands in a folder and writes down what a person would see.
struct Session<'s> {
    server: &'s Server,
    folder: PathBuf,
    transcript: String,
}

impl<'s> Session<'s> {
    fn new(server: &'s Server) -> Self {
        Self { server, folder: server.setup().folder().to_owned(), transcript: String::new() }
    }

    fn run(&mut self, arguments: &[&str]) -> Result<i32> {
        self.run_with(arguments, "")
    }

    /// Installs with a file that pins what it gets, which a dry run that isn't seen has written.
    fn install(&mut self, arguments: &[&str]) -> Result<i32> {
        let _ = fs::remove_file(self.folder.join("grants.toml"));
        let mut command = Command::new(binary()?);
        command.arg("install").args(arguments).args(["--dry-run", "--write-grants", "grants.toml"]);
        command.env("IRONLOOM_URL", self.server.client().url()).current_dir(&self.folder);
        ensure!(command.stdin(Stdio::null()).output()?.status.success(), "{arguments:?}");
        self.run(&[&["install"], arguments, &["--yes", "--grants", "grants.toml"]].concat())
    }

    /// Runs a command with this on stdin, adds it to the transcript and gives its exit code.
    fn run_with(&mut self, arguments: &[&str], stdin: &str) -> Result<i32> {
        let mut command = Command::new(binary()?);
        command.args(arguments).env("IRONLOOM_URL", self.server.client().url()).current_dir(&self.folder);
        command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped());
        let mut child = command.spawn()?;
        // One that doesn't read its stdin has closed it.
        let _ = child.stdin.take().context("no stdin")?.write_all(stdin.as_bytes());
        let output = child.wait_with_output()?;
        let code = output.status.code().context("ended by a signal")?;
        let shown: Vec<String> = arguments.iter().map(|argument| quoted(argument)).collect();
        writeln!(self.transcript, "$ ironloom {}", shown.join(" "))?;
        self.transcript.push_str(&String::from_utf8(output.stdout)?);
        for line in String::from_utf8(output.stderr)?.lines() {
            writeln!(self.transcript, "! {line}")?;
        }
        if code != 0 {
            writeln!(self.transcript, "[exit {code}]")?;
        }
        self.transcript.push('\n');
        Ok(code)
    }

    /// What was seen, without what differs from run to run.
    fn seen(&self) -> String {
        let text = self.transcript.replace(&*self.folder.to_string_lossy(), "[folder]");
        let text = text.replace(self.server.client().url(), "http://[server]");
        // Rates, CPU times and memory.
        let is_the_same = |line: &&str| !line.starts_with("rate  ") && !line.starts_with("cpu  ");
        redact(&text.split_inclusive('\n').filter(is_the_same).collect::<String>())
    }
}

fn quoted(argument: &str) -> String {
    let plain = |c: char| c.is_ascii_alphanumeric() || "-_./:=,".contains(c);
    if argument.chars().all(plain) { argument.to_owned() } else { format!("'{argument}'") }
}

/// Times of today and digests, which keep their width.
fn redact(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    let mut rest = text;
    while let Some(c) = rest.chars().next() {
        let bytes = rest.as_bytes();
        let is_time = bytes.len() >= 30
            && bytes[..30].iter().zip(b"2000-00-00T00:00:00.000000000Z").all(|(found, form)| match form {
                b'0' => found.is_ascii_digit(),
                _ => found == form || form.is_ascii_digit() && found.is_ascii_digit(),
            })
            && !rest.starts_with("2026-01-0");
        let hex = bytes.iter().take_while(|byte| matches!(byte, b'0'..=b'9' | b'a'..=b'f')).count();
        let (shown, length) = match () {
            () if is_time => ("[time                        ]".to_owned(), 30),
            () if hex == 64 || hex == 12 || hex == 32 => (format!("[{:<1$}]", "digest", hex - 2), hex),
            () if hex > 0 => (rest[..hex].to_owned(), hex),
            () => (c.to_string(), c.len_utf8()),
        };
        out.push_str(&shown);
        rest = &rest[length..];
    }
    out
}

/// The package of the guest that does what its readings say, as a file.
fn hostile(folder: &Path) -> Result<Package> {
    let package = guests::package("hostile")?;
    fs::write(folder.join("hostile.app.tar"), package.tar())?;
    Ok(package)
}

fn install(session: &mut Session<'_>) -> Result<()> {
    hostile(&session.folder)?;
    let code = session.install(&[
        "hostile.app.tar",
        "--id",
        "guest",
        "--bind",
        "command=to/{whom}/command",
        "--timezone",
        "UTC",
    ])?;
    ensure!(code == 0, "{}", session.seen());
    Ok(())
}

/// Pushes a command for the guest and waits until it was dealt with.
fn tell(server: &Server, command: &str) -> Result<()> {
    let before = number(&server.client().installation("guest")?, "counters.readings");
    let line = format!(r#"{{"point":"to/me/command","value":"{command}","at":"2026-01-01T00:00:00Z"}}"#);
    server.client().push(line.as_bytes(), None)?.json()?;
    wait_for_installation(server.client(), "guest", command, |guest| {
        number(guest, "counters.readings") > before && number(guest, "lag.readings") == 0
    })?;
    Ok(())
}

#[test]
fn an_app_from_its_install_to_its_end() -> Result<()> {
    let server = Setup::new()?.start()?;
    let mut session = Session::new(&server);
    session.run(&["list"])?;
    session.run(&["packages"])?;
    hostile(&session.folder)?;
    let command = ["install", "hostile.app.tar", "--id", "guest", "--bind", "command=to/{whom}/command"];
    session.run(&[&command[..], &["--dry-run"]].concat())?;
    // It came along only to be looked at.
    session.run(&["packages"])?;
    install(&mut session)?;
    let digest = server.client().installation("guest")?["package"].as_str().context("no digest")?.to_owned();
    session.run(&["packages"])?;
    session.run(&["packages", "show", &digest])?;
    session.run(&command)?;
    tell(&server, "publish")?;
    tell(&server, "refuse")?;
    tell(&server, "environment")?;
    session.run(&["list"])?;
    session.run(&["show", "guest"])?;
    session.run(&["outputs", "guest"])?;
    session.run(&["state", "guest"])?;
    session.run(&["state", "guest", "--limit", "1"])?;
    session.run(&["state", "guest", "--json"])?;
    session.run(&["invocations", "guest"])?;
    session.run(&["logs", "guest"])?;
    session.run(&["dead-letters", "list", "guest"])?;
    session.run(&["dead-letters", "delete", "guest", "7", "1", "8"])?;
    session.run(&["dead-letters", "list", "guest"])?;
    session.run(&["pause", "guest"])?;
    session.run(&["resume", "guest", "--backlog", "drop"])?;
    session.run(&["packages", "delete", "sha256:1234"])?;
    session.run(&["uninstall", "guest", "--purge"])?;
    session.run(&["show", "guest"])?;
    session.run(&["uninstall", "guest"])?;
    insta::assert_snapshot!(session.seen());
    Ok(())
}

#[test]
fn an_admin_acknowledges_runs_again_and_resumes() -> Result<()> {
    let server = Setup::new()?.start()?;
    let mut session = Session::new(&server);
    install(&mut session)?;
    let folder = guests::workspace().join("sample-apps/thermometer");
    fs::write(session.folder.join("thermometer.app.tar"), guests::package_of("thermometer", &folder)?.tar())?;
    let bind = "temperature=house/{room}";
    let code = session.install(&["thermometer.app.tar", "--id", "rooms", "--bind", bind])?;
    ensure!(code == 0, "{}", session.seen());
    session.transcript.clear();

    for (room, temperature, alarms) in [("attic", 31.5, 1), ("cellar", 30.0, 2)] {
        server.client().push_one(&format!("house/{room}"), temperature)?;
        wait_for("the alarm", || Ok((server.client().all("/v1/alarms")?.len() == alarms).then_some(())))?;
    }
    session.run(&["alarms"])?;
    session.run(&["alarms", "ack", "2-1", "2-9", "1-1", "two"])?;
    session.run(&["alarms", "ack", "2-1"])?;
    session.run(&["alarms", "--installation", "rooms"])?;
    session.run(&["alarms", "--installation", "nobody"])?;

    tell(&server, "refuse")?;
    session.run(&["dead-letters", "requeue", "guest", "1", "9"])?;
    wait_for("it to be refused again", || {
        let letters = server.client().all("/v1/installations/guest/dead-letters")?;
        Ok((letters.len() == 1 && letters[0]["number"] == 2).then_some(()))
    })?;
    session.run(&["dead-letters", "list", "guest"])?;
    session.run(&["resume", "guest", "--backlog", "drop"])?;
    session.run(&["pause", "guest"])?;
    session.run(&["dead-letters", "requeue", "guest", "2"])?;
    session.run(&["dead-letters", "requeue", "nobody", "2"])?;
    session.run(&["resume", "guest", "--backlog", "keep"])?;
    session.run(&["resume", "guest"])?;
    session.run(&["resume", "nobody"])?;
    insta::assert_snapshot!(session.seen());
    Ok(())
}

#[test]
fn what_is_wrong_with_an_install_is_told_with_its_place() -> Result<()> {
    let server = Setup::new()?.start()?;
    let mut session = Session::new(&server);
    hostile(&session.folder)?;
    let write = |text: &str| fs::write(session.folder.join("install.toml"), text);
    write(
        "package = \"hostile.app.tar\"\nid = \"Guest\"\n[binding]\n[limits]\nmemry = \"1 MiB\"\ncpu = 3\n",
    )?;
    session.run(&["install", "--with", "install.toml"])?;
    session.run(&["install", "hostile.app.tar"])?;
    session.run(&["install", "hostile.app.tar", "--id", "guest", "--limit", "cpu=1 h"])?;
    session.run(&["install", "hostile.app.tar", "--id", "guest"])?;
    session.run(&[
        "install",
        "hostile.app.tar",
        "--id",
        "guest",
        "--bind",
        "commands=a/{b}",
        "--set",
        "loud=yes",
    ])?;
    session.run(&["install", "nothing.app.tar", "--id", "guest"])?;
    session.run(&["install", "hostile.app.tar", "--id", "guest", "--bind", "command=a/*/b"])?;
    let write = |text: &str| fs::write(session.folder.join("install.toml"), text);
    write(
        "package = \"hostile.app.tar\"\nid = \"guest\"\n[bindings]\ncommands = \"a/{b}\"\n[settings]\nloud = true\n",
    )?;
    session.run(&["install", "--with", "install.toml"])?;
    session.run(&["install", "--with", "install.toml", "--bind", "command=a/{b}", "--set", "loud=no"])?;
    let write = |text: &str| fs::write(session.folder.join("install.toml"), text);
    write(
        "package = \"hostile.app.tar\"\nid = \"guest\"\nfrom = 2026-01-01T00:00:00Z\n[bindings]\ncommand = \"to/{whom}/command\"\n[limits]\nmemory = \"48000 kB\"\n",
    )?;
    let code = session.run(&["install", "--with", "install.toml", "--limit", "cpu=0.5 s", "--dry-run"])?;
    assert_eq!(code, 0, "{}", session.seen());
    insta::assert_snapshot!(session.seen());
    Ok(())
}

#[test]
fn a_file_installs_many_or_none() -> Result<()> {
    let server = Setup::new()?.start()?;
    let mut session = Session::new(&server);
    hostile(&session.folder)?;
    let entry = |id: &str, from: &str| {
        format!("[[installations]]\nid = \"{id}\"\n[installations.bindings]\ncommand = \"{from}/{{whom}}\"\n")
    };
    let write = |text: &str| fs::write(session.folder.join("many.toml"), text);
    write(&(entry("one", "a") + &entry("two", "apps/x")))?;
    session.run(&["install", "--with", "many.toml"])?;
    session.run(&["install", "hostile.app.tar", "--with", "many.toml", "--id", "three"])?;
    let code = session.run(&["install", "hostile.app.tar", "--with", "many.toml", "--dry-run"])?;
    assert_eq!(code, 0, "{}", session.seen());
    let write = |text: &str| fs::write(session.folder.join("many.toml"), text);
    write(&(entry("one", "a") + &entry("one", "b")))?;
    session.run(&["install", "hostile.app.tar", "--with", "many.toml"])?;
    session.run(&["list"])?;
    let write = |text: &str| fs::write(session.folder.join("many.toml"), text);
    let own = entry("two", "b").replacen("id", "package = \"hostile.app.tar\"\nid", 1);
    write(&(entry("one", "a") + &own))?;
    session.run(&["install", "hostile.app.tar", "--with", "many.toml"])?;
    let write = |text: &str| fs::write(session.folder.join("many.toml"), text);
    write(&(entry("one", "a") + &entry("two", "b")))?;
    session.run(&["install", "hostile.app.tar", "--with", "many.toml"])?;
    session.install(&["hostile.app.tar", "--with", "many.toml"])?;
    session.run(&["list"])?;
    insta::assert_snapshot!(session.seen());
    Ok(())
}

/// A package's settings have the names that an install file has them under.
#[test]
fn a_mistake_in_a_package_isnt_taken_for_one_in_the_file_that_names_it() -> Result<()> {
    let server = Setup::new()?.start()?;
    let mut session = Session::new(&server);
    install(&mut session)?;
    let component = fs::read(guests::build("hostile")?)?;
    let manifest = "manifest = 1\nid = \"com.example.hostile\"\nname = \"Hostile\"\nversion = \"0.2.0\"\n\
                    [settings.limit]\ntype = \"real\"\ndefault = \"warm\"\n";
    fs::write(session.folder.join("warm.app.tar"), pack(manifest, &component).tar())?;
    let one = "package = \"warm.app.tar\"\nid = \"guest\"\n[settings]\nlimit = 25.0\n";
    let many = format!(
        "[[installations]]\npackage = \"hostile.app.tar\"\nid = \"fine\"\n[[installations]]\n{}",
        one.replace("[settings]", "[installations.settings]")
    );
    fs::write(session.folder.join("one.toml"), one)?;
    fs::write(session.folder.join("many.toml"), many)?;
    for command in [
        &["install", "--with", "one.toml"][..],
        &["install", "--with", "many.toml"],
        &["set", "guest", "--with", "one.toml"],
        &["upgrade", "guest", "--with", "one.toml"],
        &["packages", "add", "warm.app.tar"],
    ] {
        session.transcript.clear();
        assert_eq!(session.run(command)?, 1, "{}", session.seen());
        let told = "! error: warm.app.tar: app.toml is wrong: 7:11: settings.limit.default: ";
        ensure!(session.seen().contains(told), "{}", session.seen());
        ensure!(!session.seen().contains(".toml:"), "{}", session.seen());
    }
    // What the install itself has wrong is still told with its place in the file.
    fs::write(session.folder.join("one.toml"), one.replace("warm", "hostile"))?;
    session.run(&["set", "guest", "--with", "one.toml"])?;
    ensure!(session.seen().contains("one.toml:4:9: settings.limit: "), "{}", session.seen());
    Ok(())
}

#[test]
fn readings_go_in_and_come_back() -> Result<()> {
    let server = Setup::new()?.start()?;
    let mut session = Session::new(&server);
    let line = |n: u32| {
        format!("{{\"point\":\"hall/{n}/heat\",\"value\":{n}.5,\"at\":\"2026-01-0{n}T00:00:00Z\"}}\n")
    };
    session.run(&["points"])?;
    session.run_with(&["push"], &(line(1) + &line(2)))?;
    session
        .run_with(&["push"], &(line(3) + "{\"point\":\"hall/4/heat\",\"value\":1,\"at\":1700000000}\n"))?;
    session.run_with(&["push", "--partial"], &(line(3) + "x\n{\"point\":\"apps/x\",\"value\":1}\n"))?;
    fs::write(session.folder.join("readings.ndjson"), line(4) + &line(5))?;
    session.run(&["push", "readings.ndjson", "--key", "monday"])?;
    session.run(&["push", "readings.ndjson", "--key", "monday"])?;
    session.run(&["push", "readings.ndjson", "--key", "a key"])?;
    session.run(&["points"])?;
    session.run(&["points", "--prefix", "hall/5", "--json"])?;
    session.run(&["readings", "--limit", "2"])?;
    session.run(&["readings", "--point", "hall/1/heat"])?;
    session.run(&["readings", "--from", "2026-01-04T00:00:00Z", "--csv"])?;
    session.run(&["readings", "--from", "yesterday"])?;
    session.run(&["connectors"])?;
    session.run(&["alarms"])?;
    session.run(&["alarms", "ack", "1-1"])?;
    insta::assert_snapshot!(session.seen());
    Ok(())
}

#[test]
fn a_long_push_counts_lines_from_the_start() -> Result<()> {
    let server = Setup::new()?.start()?;
    let mut session = Session::new(&server);
    let good = "{\"point\":\"a\",\"value\":1,\"at\":\"2026-01-01T00:00:00Z\"}\n".repeat(10_000);
    fs::write(session.folder.join("many"), good.clone() + "x\n")?;
    assert_eq!(session.run(&["push", "many", "--key", "k"])?, 1);
    // Mended and sent again under the same key: what was taken is not taken twice.
    fs::write(
        session.folder.join("many"),
        good + "{\"point\":\"a\",\"value\":2,\"at\":\"2026-01-02T00:00:00Z\"}\n",
    )?;
    assert_eq!(session.run(&["push", "many", "--key", "k"])?, 0);
    insta::assert_snapshot!(session.seen());
    assert_eq!(server.client().journal(0, "")?.len(), 10_001);
    Ok(())
}

#[test]
fn what_apps_write_cant_steer_the_terminal() -> Result<()> {
    let server = Setup::new()?.start()?;
    let mut session = Session::new(&server);
    let component = fs::read(guests::build("hostile")?)?;
    let manifest = "manifest = 1\nid = \"com.example.evil\"\nname = \"Evil\"\nversion = \"0.1.0\"\nschedule = true\n\
                    [inputs.\"a\\u001b]0;x\\u0007\\u001b[2J\"]\ntype = \"text\"\n\
                    [inputs.\"x\\nhint: run curl\"]\ntype = \"\\u202etxet\"\n\
                    [settings.s]\ntype = \"text\"\ndefault = \"\\u009b2J\"\n";
    fs::write(session.folder.join("evil.app.tar"), pack(manifest, &component).tar())?;
    assert_eq!(session.run(&["install", "evil.app.tar", "--id", "evil"])?, 1);
    let value = r#"{"point":"a/b","value":"\u001b]0;x\u0007 \u202e","at":"2026-01-01T00:00:00Z"}"#;
    session.run_with(&["push"], value)?;
    session.run(&["readings"])?;
    session.run(&["points"])?;
    insta::assert_snapshot!(session.seen());
    let odd = |c: char| c.is_control() && c != '\n' || ('\u{202a}'..='\u{202e}').contains(&c);
    ensure!(!session.transcript.contains(odd), "{:?}", session.transcript);
    Ok(())
}

/// Whether a text could steer a terminal. One turns each line feed into two characters.
fn steers(text: &str) -> bool {
    let odd = |c: char| {
        c.is_control() && c != '\n' || matches!(c, '\u{202a}'..='\u{202e}' | '\u{2066}'..='\u{2069}')
    };
    text.replace("\r\n", "\n").contains(odd)
}

#[test]
fn what_an_app_writes_at_work_cant_steer_the_terminal_either() -> Result<()> {
    let server = Setup::new()?.start()?;
    let mut session = Session::new(&server);
    install(&mut session)?;
    tell(&server, "odd-words")?;
    tell(&server, "odd-refuse")?;
    server.client().push_one("to/me/command", "odd-panic")?;
    wait_for_installation(server.client(), "guest", "failed", |guest| guest["last_error"].is_object())?;
    let url = server.client().url();
    let listings = [
        &["logs", "guest"][..],
        &["alarms"],
        &["state", "guest"],
        &["outputs", "guest"],
        &["readings"],
        &["dead-letters", "list", "guest"],
        &["invocations", "guest"],
        &["show", "guest"],
    ];
    for arguments in listings {
        let output = cli_at(url, arguments)?;
        let said = String::from_utf8_lossy(&[output.stdout, output.stderr].concat()).into_owned();
        ensure!(said.contains("txet"), "{arguments:?} shows nothing of what the app wrote: {said}");
        ensure!(!steers(&said), "{arguments:?}: {said:?}");
        for arguments in [arguments.to_vec(), [arguments, &["--json"]].concat()] {
            let Some(said) = on_a_terminal(url, &arguments)? else { continue };
            ensure!(said.contains("txet"), "{arguments:?} shows nothing of what the app wrote: {said}");
            ensure!(!steers(&said), "{arguments:?} on a terminal: {said:?}");
        }
    }
    Ok(())
}

/// What a command prints on a terminal, by the program `script`; `None` where the system has none.
fn on_a_terminal(url: &str, arguments: &[&str]) -> Result<Option<String>> {
    let line = format!("'{}' {}", binary()?.display(), arguments.join(" "));
    let mut command = Command::new("script");
    command.args(["-q", "-e", "-c", &line, "/dev/null"]).env("IRONLOOM_URL", url).stdin(Stdio::null());
    match command.output() {
        Ok(output) => Ok(Some(String::from_utf8_lossy(&output.stdout).into_owned())),
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => {
            ironloom_mutate::not_tested("what commands print on a terminal", "no `script`");
            Ok(None)
        }
        Err(error) => Err(error.into()),
    }
}

#[test]
fn exit_codes_are_as_the_readme_says() -> Result<()> {
    let server = Setup::new()?.start()?;
    let url = server.client().url().to_owned();
    let code = |arguments: &[&str]| -> Result<Option<i32>> { Ok(cli_at(&url, arguments)?.status.code()) };
    assert_eq!(code(&["list"])?, Some(0));
    assert_eq!(code(&["readings", "--from", "yesterday"])?, Some(1));
    assert_eq!(code(&["weave"])?, Some(2));
    assert_eq!(code(&["install", "x.tar", "--id", "No"])?, Some(2));
    assert_eq!(code(&["--url", "not a url", "list"])?, Some(2));
    assert_eq!(code(&["show", "nothing"])?, Some(4));
    let package = server.client().add_package(&guests::package("hostile")?.tar())?;
    let install = ["install", &package, "--id", "guest", "--bind", "command=to/{whom}/command"];
    assert_eq!(code(&install)?, Some(0));
    assert_eq!(code(&install)?, Some(5));
    assert_eq!(code(&["packages", "delete", &package])?, Some(5));
    server.kill()?;
    assert_eq!(code(&["list"])?, Some(3));
    Ok(())
}

#[test]
fn a_reader_that_goes_ends_the_command() -> Result<()> {
    let server = Setup::new()?.start()?;
    let mut session = Session::new(&server);
    install(&mut session)?;
    tell(&server, "print-flood")?;
    let mut command = Command::new(binary()?);
    command.args(["logs", "--follow", "guest"]).env("IRONLOOM_URL", server.client().url());
    let mut child = command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn()?;
    // As `grep -m1` does.
    drop(child.stdout.take());
    let status = wait_for("the end of `logs --follow`", || Ok(child.try_wait()?));
    if status.is_err() {
        child.kill()?;
    }
    assert_eq!(status?.code(), Some(0));
    Ok(())
}

#[test]
fn only_loopback_is_listened_on_without_a_word_to_the_contrary() -> Result<()> {
    let folder = tempfile::tempdir()?;
    let serve = |arguments: &[&str], config: &str| -> Result<(Option<i32>, String)> {
        fs::write(folder.path().join("ironloom.toml"), config)?;
        let mut command = Command::new(binary()?);
        command.args(["serve", "--config", "ironloom.toml"]).args(arguments).current_dir(folder.path());
        let output = command.stdin(Stdio::null()).output()?;
        Ok((output.status.code(), String::from_utf8(output.stderr)?))
    };
    for address in ["0.0.0.0:0", "[::]:0", "192.0.2.1:0"] {
        let (code, said) = serve(&["--listen", address], "")?;
        assert_eq!(code, Some(2), "{said}");
        ensure!(said.contains("isn't loopback"), "{said}");
    }
    let (code, said) = serve(&[], "[server]\nlisten = \"0.0.0.0:0\"\n")?;
    assert_eq!(code, Some(2), "{said}");
    let feed = "[site]\nclock = \"feed\"\n";
    let (code, said) = serve(&["--listen", "0.0.0.0:0", "--insecure-bind"], feed)?;
    assert_eq!(code, Some(2), "{said}");
    ensure!(said.contains("needs a loopback address"), "{said}");
    let (code, said) = serve(
        &[],
        "[server]\nhosts = [\"http://x\"]\n[points.\"a//b\"]\nunit = \"kg\"\n[log]\nmax = \"1 MiB\"\n",
    )?;
    assert_eq!(code, Some(1), "{said}");
    insta::assert_snapshot!(said);
    ensure!(!folder.path().join("ironloom-data").exists(), "nothing was begun");
    Ok(())
}

#[test]
fn a_point_has_the_unit_that_the_configuration_gives_it() -> Result<()> {
    let server = Setup::new()?.config("[points.\"farm/{pig}/weight\"]\nunit = \"kg\"\n").start()?;
    let client = server.client();
    client.push_one("farm/7/weight", 26.5)?;
    client.push_one("farm/7/feed", 1.5)?;
    let units: Vec<_> = client.all("/v1/points")?.iter().map(|point| point["unit"].clone()).collect();
    assert_eq!(units, [serde_json::Value::Null, "kg".into()]);
    Ok(())
}

/// What `readings --csv` wrote, a connector reads back: the same values at the same times.
#[test]
fn the_csv_of_one_server_is_the_feed_of_another() -> Result<()> {
    let first = Setup::new()?.start()?;
    let lines: Vec<String> = (0..500)
        .map(|n| {
            let (hour, minute) = (n / 60, n % 60);
            format!(r#"{{"point":"hall/heat","value":{}.25,"at":"2026-01-01T{hour:02}:{minute:02}:00.000000001Z"}}"#, n)
        })
        .collect();
    first.client().push(lines.join("\n").as_bytes(), None)?.json()?;
    let csv = first.cli(&["readings", "--csv", "--limit", "1000"])?;
    let setup = Setup::new()?;
    let file = setup.folder().join("readings.csv");
    fs::write(&file, &csv.stdout)?;
    let config = format!(
        "[connectors.copy]\nkind = \"csv\"\npath = {file:?}\nat = \"at\"\n\
         [connectors.copy.columns.value]\npoint = \"copy/{{point}}\"\n"
    );
    let second = setup.config(config).start()?;
    let copied = wait_for("the copy", || {
        let journal = second.client().journal(0, "")?;
        Ok((journal.len() >= 500).then_some(journal))
    })?;
    let original = first.client().journal(0, "")?;
    assert_eq!(copied.len(), original.len());
    for (copy, original) in copied.iter().zip(&original) {
        assert_eq!((&copy["at"], &copy["value"]), (&original["at"], &original["value"]));
        assert_eq!(copy["quality"], "good");
    }
    // The file grows while the server is down: only what is new comes.
    let setup = second.setup().clone();
    second.stop()?;
    let mut text = String::from_utf8(csv.stdout)?;
    let last = text.lines().last().context("no line")?.replace("2026-01-01T08:19", "2026-01-02T00:00");
    writeln!(text, "{last}\n{}", last.replace("2026-01-02", "yesterday "))?;
    fs::write(&file, text)?;
    let second = setup.start()?;
    wait_for("the new line", || Ok((second.client().journal(0, "")?.len() > 500).then_some(())))?;
    let status = wait_for("its end", || {
        let status = second.cli_json(&["connectors"])?["items"][0].clone();
        Ok((status["state"] == "done").then_some(status))
    })?;
    assert_eq!((number(&status, "readings"), number(&status, "skipped")), (1, 1), "{status}");
    ensure!(second.client().get("/metrics")?.text().contains("ironloom_skipped_lines_total 1"));
    ensure!(second.setup().said().contains("is not a time"), "the log names the line");
    assert_eq!(second.client().journal(0, "")?.len(), 501);
    Ok(())
}
