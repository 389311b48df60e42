//! `ironloom dev`: shows what an app does, replaces it when a file changes, and leaves nothing behind.

use std::fs::{self, File};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::{Mutex, MutexGuard, PoisonError};

use anyhow::{Context as _, Result, ensure};
use ironloom_tests::apps::{number, wait_for_installation};
use ironloom_tests::guests::{place_for_apps, workspace};
use ironloom_tests::http::Client;
use ironloom_tests::server::{Setup, binary};
use ironloom_tests::wait::{wait_for, wait_until};

/// A session of `ironloom dev`, killed with this.
struct Dev {
    child: Child,
    said: PathBuf,
}

impl Dev {
    fn start(folder: &Path, app: &Path, arguments: &[&str]) -> Result<Self> {
        let (said, temporary) = (folder.join("said"), folder.join("tmp"));
        fs::create_dir_all(&temporary)?;
        let out = File::create(&said)?;
        let mut command = ironloom()?;
        command.arg("dev").arg(app).args(arguments).env("TMPDIR", &temporary);
        command.stdin(Stdio::null()).stdout(out.try_clone()?).stderr(out);
        Ok(Self { child: command.spawn()?, said })
    }

    fn said(&self) -> String {
        fs::read_to_string(&self.said).unwrap_or_default()
    }

    fn wait_for(&mut self, words: &str) -> Result<()> {
        wait_until(&format!("{words:?} to be said"), || {
            if let Some(status) = self.child.try_wait()? {
                anyhow::bail!("it ended with {status}:\n{}", self.said());
            }
            Ok(self.said().contains(words))
        })
        .with_context(|| self.said())
    }
}

impl Drop for Dev {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// A command as on a developer's machine, but whose builds in one run serve the next.
fn ironloom() -> Result<Command> {
    let mut command = Command::new(binary()?);
    for variable in ["RUSTFLAGS", "CARGO_ENCODED_RUSTFLAGS", "CARGO_MANIFEST_DIR"] {
        command.env_remove(variable);
    }
    command.env("CARGO_TARGET_DIR", workspace().join("target/new"));
    Ok(command)
}

/// An app of its own for one test at a time: at the same place, so that what it depends on is compiled once for all.
struct App {
    folder: PathBuf,
    _alone: MutexGuard<'static, ()>,
}

static ALONE: Mutex<()> = Mutex::new(());

/// Makes an app, and builds it once, for however long that takes.
fn made() -> Result<App> {
    let alone = ALONE.lock().unwrap_or_else(PoisonError::into_inner);
    let folder = place_for_apps("dev")?;
    let made = ironloom()?.args(["new", "attic", "--into"]).arg(&folder).output()?;
    ensure!(made.status.success(), "{made:?}");
    let folder = folder.join("attic");
    let built = ironloom()?.arg("build").arg(&folder).output()?;
    ensure!(built.status.success(), "{built:?}");
    Ok(App { folder, _alone: alone })
}

/// Processes whose command line has this text.
fn processes_with(text: &str) -> Result<Vec<String>> {
    let mut found = Vec::new();
    for entry in fs::read_dir("/proc")? {
        let Ok(line) = fs::read(entry?.path().join("cmdline")) else { continue };
        let line = String::from_utf8_lossy(&line).replace('\0', " ");
        if line.contains(text) {
            found.push(line);
        }
    }
    Ok(found)
}

#[test]
fn an_app_is_shown_at_work_replaced_when_it_changes_and_gone_at_the_end() -> Result<()> {
    let setup = Setup::new()?;
    let app = made()?;
    let feed = app.folder.join("tests/attic.feed.ndjson");
    let mut dev = Dev::start(
        setup.folder(),
        &app.folder,
        &["--fresh", "--feed", feed.to_str().context("an odd path")?],
    )?;
    dev.wait_for("apps/dev/smoothed/attic = 31.0")?;
    dev.wait_for("colder than possible")?;
    dev.wait_for("too-warm attic")?;

    let source = app.folder.join("src/lib.rs");
    let code = fs::read_to_string(&source)?;
    let other =
        code.replace("\"smoothed\", thermometer.smoothed)", "\"smoothed\", thermometer.smoothed + 500.0)");
    ensure!(other != code, "the template derives in another way");
    fs::write(&source, &other)?;
    // The readings so far go through the new one.
    dev.wait_for("apps/dev/smoothed/attic = 531.0")?;

    fs::write(&source, "this is no Rust")?;
    dev.wait_for("the app isn't replaced")?;
    fs::write(&source, other.replace("+ 500.0", "+ 700.0"))?;
    dev.wait_for("apps/dev/smoothed/attic = 731.0")?;

    let temporary = setup.folder().join("tmp");
    let name = temporary.to_str().context("an odd path")?;
    ensure!(processes_with(name)?.len() == 1, "the server: {:?}", processes_with(name)?);
    let pid =
        i32::try_from(dev.child.id()).ok().and_then(rustix::process::Pid::from_raw).context("no pid")?;
    // Not the interrupt of a terminal, which a command that runs in the background ignores.
    rustix::process::kill_process(pid, rustix::process::Signal::TERM)?;
    let status = wait_for("the end", || Ok(dev.child.try_wait()?)).with_context(|| dev.said())?;
    ensure!(status.success(), "{status}: {}", dev.said());
    ensure!(processes_with(name)?.is_empty(), "left behind: {:?}", processes_with(name)?);
    let left: Vec<_> = fs::read_dir(&temporary)?.collect();
    ensure!(left.is_empty(), "left behind: {left:?}");
    Ok(())
}

#[test]
fn a_feed_without_a_header_goes_to_the_inputs_that_its_points_are_named_like() -> Result<()> {
    let setup = Setup::new()?;
    let app = made()?;
    let feed = setup.folder().join("bare.ndjson");
    // A server gives readings their times.
    fs::write(&feed, "{\"point\":\"house/attic/temperature\",\"value\":21.5}\n")?;
    let feed = feed.to_str().context("an odd path")?.to_owned();
    {
        let mut dev = Dev::start(setup.folder(), &app.folder, &["--feed", &feed])?;
        dev.wait_for("apps/dev/smoothed/house/attic = 21.5")?;
    }
    let other = "temperature=barn/{pen}/temperature";
    let mut dev = Dev::start(setup.folder(), &app.folder, &["--feed", &feed, "--bind", other])?;
    dev.wait_for("warning: no point of the feed matches temperature, which is barn/{pen}/temperature")
}

#[test]
fn plausible_readings_are_made_where_there_is_no_feed() -> Result<()> {
    let setup = Setup::new()?;
    let app = made()?;
    let binding = "temperature=house/{room}/temperature";
    let mut dev = Dev::start(setup.folder(), &app.folder, &["--bind", binding])?;
    for room in ["room-a", "room-b", "room-c"] {
        dev.wait_for(&format!("apps/dev/smoothed/{room} = "))?;
    }
    Ok(())
}

/// Makes an app whose second version begins with an absurd value where it remembers nothing.
fn replaced(setup: &Setup, arguments: &[&str]) -> Result<(App, Dev, Client)> {
    let app = made()?;
    let binding = ["--bind", "temperature=house/{room}/temperature"];
    let mut dev = Dev::start(setup.folder(), &app.folder, &[&binding, arguments].concat())?;
    dev.wait_for("apps/dev/smoothed/room-a = ")?;
    let said = dev.said();
    let url = said.split("a server runs at ").nth(1).and_then(|rest| rest.split(',').next());
    let client = Client::new(url.with_context(|| said.clone())?);
    let source = app.folder.join("src/lib.rs");
    let code = fs::read_to_string(&source)?;
    let other = code
        .replace("Thermometer { smoothed: temperature,", "Thermometer { smoothed: 9_000.0,")
        .replace("\"smoothed\", thermometer.smoothed)", "\"smoothed\", thermometer.smoothed + 500.0)");
    ensure!(
        other.matches("00.0").count() == code.matches("00.0").count() + 2,
        "the template does it otherwise"
    );
    fs::write(&source, other)?;
    Ok((app, dev, client))
}

#[test]
fn state_goes_on_when_the_app_is_replaced_and_a_refusal_says_why() -> Result<()> {
    let setup = Setup::new()?;
    let (app, mut dev, client) = replaced(&setup, &[])?;
    // Generated temperatures are from 9 to 33, and change slowly when they are smoothed.
    dev.wait_for("com.example.attic 0.1.0 runs, with its state: revision 2")?;
    dev.wait_for("apps/dev/smoothed/room-a = 5")?;
    ensure!(!dev.said().contains("/room-a = 9"), "it began anew:\n{}", dev.said());
    let now = client.installation("dev")?;
    assert_eq!((number(&now, "generation"), number(&now, "revision")), (1, 2));

    let manifest = app.folder.join("app.toml");
    let before = fs::read_to_string(&manifest)?;
    let setting = "\n[settings.barn]\ntype = \"text\"\ndescription = \"Where it is\"\n";
    fs::write(&manifest, format!("{before}{setting}"))?;
    dev.wait_for("what runs goes on, and isn't replaced: ")?;
    let said = dev.said();
    let why = said.lines().find(|line| line.contains("isn't replaced: ")).unwrap_or_default();
    ensure!(why.starts_with("error: ") && why.contains("barn"), "{why}");
    let reached = number(&client.installation("dev")?, "cursor");
    wait_for_installation(&client, "dev", "running", |now| number(now, "cursor") > reached)?;
    assert_eq!(number(&client.installation("dev")?, "revision"), 2);
    fs::write(&manifest, format!("{before}{setting}default = \"none\"\n"))?;
    dev.wait_for("runs, with its state: revision 3")
}

#[test]
fn with_a_flag_the_app_begins_anew_when_it_is_replaced() -> Result<()> {
    let setup = Setup::new()?;
    let (_app, mut dev, client) = replaced(&setup, &["--fresh"])?;
    dev.wait_for("apps/dev/smoothed/room-a = 9")?;
    let now = client.installation("dev")?;
    assert_eq!((number(&now, "generation"), number(&now, "revision")), (2, 1));
    Ok(())
}
