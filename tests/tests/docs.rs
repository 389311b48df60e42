//! Every command and snippet of README and docs, run as it stands there; and the site.

use std::collections::BTreeSet;
use std::fs::{self, File};
use std::io::{BufRead as _, BufReader, Write as _};
use std::path::{Path, PathBuf};
use std::process::{Child, ChildStdin, Command, Stdio};
use std::sync::mpsc::{Receiver, channel};
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, bail, ensure};
use ironloom_apps::manifest::Manifest;
use ironloom_tests::guests::{self, place_for_apps, workspace};
use ironloom_tests::pages::{self, Block, Does, Page};
use ironloom_tests::server::{Server, Setup, binary};
use ironloom_tests::wait::PATIENCE;
use serde_json::Value;

/// The address that the pages name.
const URL: &str = "http://127.0.0.1:7420";
/// The longest that one command may take: the first builds of an app.
const LONGEST: Duration = Duration::from_secs(900);
/// The most blocks that are for reading only. Only ever lowered.
const MOST_NOT_RUN: usize = 10;
/// The tests whose pages have examples in Rust and Python.
const DOCTESTS: &str = "sdk/rust/src/lib.rs";
const PYTHON_PAGE: &str = "docs/src/integrate/readings.md";

/// Commands that only look: what they show comes soon after what they show it of.
const LOOKS: [&str; 14] = [
    "ironloom outputs",
    "ironloom alarms",
    "ironloom state",
    "ironloom logs",
    "ironloom invocations",
    "ironloom dead-letters list",
    "ironloom list",
    "ironloom show",
    "ironloom connectors",
    "ironloom readings",
    "ironloom points",
    "ironloom status",
    "ironloom events",
    "curl -s http://127.0.0.1:7420/v1/installations/",
];

fn all() -> Result<Vec<Page>> {
    let root = workspace();
    let mut paths = vec!["README.md".to_owned(), "sdk/README.md".to_owned(), "wit/README.md".to_owned()];
    for path in pages::below(&root.join("docs/src"))? {
        paths.push(path.strip_prefix(root)?.to_str().context("an odd path")?.to_owned());
    }
    paths.iter().map(|path| Page::read(root, path)).collect()
}

/// A shell in a folder of its own, with the program in its path.
struct Shell {
    child: Child,
    stdin: ChildStdin,
    lines: Receiver<String>,
}

impl Shell {
    fn start(folder: &Path, url: Option<&str>) -> Result<Self> {
        let bin = folder.join("bin");
        if !bin.exists() {
            fs::create_dir(&bin)?;
            std::os::unix::fs::symlink(binary()?.canonicalize()?, bin.join("ironloom"))?;
        }
        let path = std::env::var("PATH").unwrap_or_default();
        let mut shell = Command::new("bash");
        shell.args(["--norc", "--noprofile"]).current_dir(folder.join("page"));
        shell.env("PATH", format!("{}:{path}", bin.display())).env("LC_ALL", "C.UTF-8").env("COLUMNS", "200");
        // Builds of one run serve the next, as for the other test of a new app.
        shell.env("CARGO_TARGET_DIR", workspace().join("target/new"));
        for variable in ["RUSTFLAGS", "CARGO_ENCODED_RUSTFLAGS", "CARGO_MANIFEST_DIR"] {
            shell.env_remove(variable);
        }
        shell.env("IRONLOOM_URL", url.unwrap_or(URL));
        let child = shell.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::inherit()).spawn();
        let mut child = child.context("can't run bash")?;
        let (stdin, stdout) =
            (child.stdin.take().context("no stdin")?, child.stdout.take().context("no stdout")?);
        let (send, lines) = channel();
        std::thread::spawn(move || {
            for line in BufReader::new(stdout).lines().map_while(Result::ok) {
                let _ = send.send(line);
            }
        });
        Ok(Self { child, stdin, lines })
    }

    /// Runs a command, and gives what it prints and its exit code.
    fn run(&mut self, command: &str) -> Result<(Vec<String>, i32)> {
        const END: &str = "-- the command has ended with ";
        writeln!(self.stdin, "{{ {command}\n}} </dev/null 2>&1\ncode=$?; echo; echo '{END}'$code")?;
        let start = Instant::now();
        let mut printed = Vec::new();
        loop {
            let left = LONGEST.saturating_sub(start.elapsed());
            let line = self.lines.recv_timeout(left).with_context(|| format!("`{command}` doesn't end"))?;
            if let Some(code) = line.strip_prefix(END) {
                // The line feed before, for outputs that end without one.
                while printed.last().is_some_and(String::is_empty) {
                    printed.pop();
                }
                return Ok((printed, code.parse()?));
            }
            printed.push(line);
        }
    }
}

impl Drop for Shell {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// A page while its blocks are run.
struct Running {
    setup: Setup,
    server: Option<Server>,
    shell: Shell,
}

impl Running {
    fn start(page: &Page) -> Result<Self> {
        let setup = Setup::new()?;
        let folder = setup.folder().join("page");
        let place = place_for_apps(&page.path.replace(['/', '.'], "-"))?;
        std::os::unix::fs::symlink(place, &folder)?;
        // The page starts its server itself, or finds one that runs.
        let starts = page.blocks.iter().any(|block| {
            block.language == "console"
                && block.text.lines().any(|line| serves(line.trim_start_matches("$ ")).is_some())
        });
        let server = if starts { None } else { Some(setup.start()?) };
        let shell = Shell::start(setup.folder(), server.as_ref().map(|server| server.client().url()))?;
        let running = Self { setup, server, shell };
        if !page.given.is_empty() {
            let package =
                guests::package_of("thermometer", &workspace().join("sample-apps/thermometer"))?.tar();
            fs::write(folder.join("thermometer-0.1.0.app.tar"), &package)?;
            if page.given.contains("rooms") {
                running.install_rooms(&package)?;
            }
        }
        Ok(running)
    }

    fn install_rooms(&self, package: &[u8]) -> Result<()> {
        let client = self.server.as_ref().context("the page starts its own server")?.client();
        let digest = client.add_package(package)?;
        let bindings = serde_json::json!({"temperature": "house/{room}/temperature"});
        let body = serde_json::json!({"id": "rooms", "package": digest, "bindings": bindings});
        client.post("/v1/installations", &body)?.json()?;
        for (room, value) in [("attic", 31.5), ("kitchen", 21.5)] {
            let line = serde_json::json!({"point": format!("house/{room}/temperature"), "value": value});
            let kind = [("content-type", "application/json")];
            let answer = client
                .send("POST", "/v1/readings?wait=applied", &kind, line.to_string().as_bytes())?
                .json()?;
            ensure!(answer["applied"] == true, "{answer}");
        }
        Ok(())
    }

    fn url(&self) -> &str {
        self.server.as_ref().map_or(URL, |server| server.client().url())
    }

    /// The folder that the shell is in.
    fn here(&mut self) -> Result<PathBuf> {
        let (printed, _) = self.shell.run("pwd")?;
        Ok(printed.first().context("pwd says nothing")?.into())
    }

    fn block(&mut self, page: &Page, block: &Block) -> Result<()> {
        match &block.does {
            Does::Show(reason) => ensure!(!reason.is_empty(), "it needs a reason not to be run"),
            Does::Write(name) => fs::write(self.here()?.join(name), &block.text)?,
            Does::Append(name) => {
                let path = self.here()?.join(name);
                let text = fs::read_to_string(&path)?;
                fs::write(&path, format!("{text}\n{}", block.text))?;
            }
            Does::Change(name) => {
                let path = self.here()?.join(name);
                fs::write(&path, block.change(&fs::read_to_string(&path)?)?)?;
            }
            Does::Run => match block.language.as_str() {
                "console" => return self.console(block),
                "toml" => {
                    Manifest::parse(&block.text).map_err(|problems| anyhow::anyhow!("{problems}"))?;
                }
                "json" | "ndjson" => {
                    for line in block.text.lines() {
                        serde_json::from_str::<Value>(line).with_context(|| line.to_owned())?;
                    }
                }
                "rust" => {
                    let tests = fs::read_to_string(workspace().join(DOCTESTS))?;
                    let name = page.path.trim_start_matches("sdk/");
                    ensure!(tests.contains(name), "{DOCTESTS} doesn't compile the examples of {}", page.path);
                }
                "python" => {
                    ensure!(page.path == PYTHON_PAGE, "only the test `arrow` runs Python, of {PYTHON_PAGE}")
                }
                "text" => {}
                other => bail!("nothing runs {other:?}: run it, or say by `not run` why not"),
            },
        }
        Ok(())
    }

    fn console(&mut self, block: &Block) -> Result<()> {
        let commands = block.commands()?;
        let last = commands.len().saturating_sub(1);
        for (number, command) in commands.iter().enumerate() {
            let at = || format!("line {}: $ {}", command.line, command.text);
            if let Some(arguments) = serves(&command.text) {
                self.serve(arguments).with_context(at)?;
                continue;
            }
            let exit = if number == last { block.exit } else { 0 };
            self.command(&command.text, &command.prints, exit).with_context(at)?;
        }
        Ok(())
    }

    fn serve(&mut self, arguments: &str) -> Result<()> {
        ensure!(self.server.is_none(), "a server runs already");
        let allowed = arguments.strip_prefix("--allow-unsigned");
        let arguments = allowed.unwrap_or(arguments).trim();
        let setup = self.setup.clone();
        let mut setup = if allowed.is_some() { setup } else { setup.signed_only() };
        if let Some(config) = arguments.strip_prefix("--config ") {
            let here = self.here()?;
            // Where a configuration names files, it means them from its own folder.
            let text = fs::read_to_string(here.join(config))?;
            setup = setup.config(text.replace("path = \"", &format!("path = \"{}/", here.display())));
        }
        let server = setup.start()?;
        self.shell.run(&format!("export IRONLOOM_URL={}", server.client().url()))?;
        self.server = Some(server);
        Ok(())
    }

    /// Runs a command. What only looks is asked again until it sees what it should.
    fn command(&mut self, text: &str, prints: &[String], exit: i32) -> Result<()> {
        let looks = LOOKS.iter().any(|look| text.starts_with(look));
        let url = self.url().to_owned();
        let start = Instant::now();
        loop {
            let text = text.replace(URL, &url);
            let says_yes = prints.iter().any(|line| line.ends_with(YES));
            let (printed, code) = match says_yes {
                true => self.shell.run(&at_a_terminal(&text))?,
                false => self.shell.run(&consenting(&text))?,
            };
            let printed: Vec<String> = printed.iter().map(|line| line.replace(&url, URL)).collect();
            let lines: Vec<&str> = printed.iter().map(String::as_str).collect();
            if code == exit && (prints.is_empty() || pages::fits(prints, &lines)) {
                return Ok(());
            }
            if looks && start.elapsed() < PATIENCE {
                std::thread::sleep(Duration::from_millis(100));
                continue;
            }
            bail!(
                "it should end with {exit} and print\n{}\n--- but ended with {code} and printed\n{}\n---",
                prints.join("\n"),
                lines.join("\n")
            );
        }
    }
}

/// The end of a line where somebody is asked, and says yes.
const YES: &str = "[y/N] y";

/// A command at a terminal where somebody says yes. That shows before the question, since it is said as soon as it begins.
fn at_a_terminal(command: &str) -> String {
    format!(
        "consent=$(mktemp)\ncat >\"$consent\" <<'THE_END'\n{command}\nTHE_END\n(set -o pipefail; echo y | script --quiet --return \
         --command \"bash --norc $consent\" /dev/null | tr -d '\\r' | sed -e '/^y$/d' -e 's|\\[y/N\\] |&y\\n|')"
    )
}

/// An install that asks: nobody is at this shell's terminal, so what it gets is pinned before.
fn consenting(command: &str) -> String {
    let is_asked = ["--dry-run", "--yes"].iter().all(|flag| !command.contains(flag));
    let asks = ["ironloom install", "ironloom upgrade"].iter().any(|asks| command.starts_with(asks));
    if !asks || !is_asked {
        return command.to_owned();
    }
    let file = "\"$consent/grants.toml\"";
    format!(
        "consent=$(mktemp -d)\nif {command} --dry-run --write-grants {file} >\"$consent/said\" 2>&1\n\
         then {command} --yes --grants {file}\nelse code=$?; cat \"$consent/said\"; (exit $code)\nfi"
    )
}

/// The arguments of a server that is started to go on.
fn serves(command: &str) -> Option<&str> {
    let arguments = command.strip_prefix("ironloom serve")?;
    let runs = !arguments.contains("--check") && !arguments.contains("--print");
    (runs && (arguments.is_empty() || arguments.starts_with(' '))).then(|| arguments.trim())
}

fn run(page: &Page) -> Result<()> {
    if page.blocks.is_empty() {
        return Ok(());
    }
    let mut running = Running::start(page)?;
    for block in &page.blocks {
        running.block(page, block).with_context(|| format!("{}:{}", page.path, block.line))?;
    }
    Ok(())
}

/// The pages whose path has this beginning, all at once.
fn run_all(paths: &[&str]) -> Result<()> {
    if Command::new("curl").arg("--version").stdout(Stdio::null()).status().is_err() {
        ironloom_mutate::not_tested("the commands of the docs", "there is no curl");
        return Ok(());
    }
    let pages = all()?;
    let chosen: Vec<&Page> =
        pages.iter().filter(|page| paths.iter().any(|path| page.path.starts_with(path))).collect();
    ensure!(!chosen.is_empty(), "there are no pages {paths:?}");
    let failures: Vec<String> =
        chosen.iter().filter_map(|page| run(page).err()).map(|error| format!("{error:#}")).collect();
    ensure!(failures.is_empty(), "{}", failures.join("\n\n"));
    Ok(())
}

#[test]
fn the_readme_and_the_tutorial_do_what_they_say() -> Result<()> {
    run_all(&["README.md", "docs/src/develop/tutorial.md"])
}

#[test]
fn the_pages_for_developers_do_what_they_say() -> Result<()> {
    let pages =
        ["concepts", "languages", "manifest", "publish", "sdk", "state", "testing", "timers", "units", "wit"];
    let pages = pages.map(|page| format!("docs/src/develop/{page}"));
    let pages: Vec<&str> = pages.iter().map(String::as_str).chain(["sdk/README", "wit/README"]).collect();
    run_all(&pages)
}

#[test]
fn the_pages_for_integrators_do_what_they_say() -> Result<()> {
    run_all(&["docs/src/integrate/"])
}

#[test]
fn the_pages_for_operators_and_admins_do_what_they_say() -> Result<()> {
    run_all(&[
        "docs/src/operate/",
        "docs/src/admin/",
        "docs/src/command-line",
        "docs/src/README",
        "docs/src/SUMMARY",
    ])
}

#[test]
fn few_blocks_are_for_reading_only() -> Result<()> {
    let pages = all()?;
    let mut shown = 0;
    for page in &pages {
        for block in &page.blocks {
            if let Does::Show(reason) = &block.does {
                shown += 1;
                println!("{}:{}: not run: {reason}", page.path, block.line);
            }
        }
    }
    assert!(shown <= MOST_NOT_RUN, "{shown} blocks aren't run, and there may be {MOST_NOT_RUN}");
    Ok(())
}

/// The text with the files that it includes.
fn with_included(path: &Path, text: &str) -> Result<String> {
    let mut whole = String::new();
    for line in text.lines() {
        match line.strip_prefix("{{#include ").and_then(|rest| rest.strip_suffix("}}")) {
            Some(included) => {
                let file = included.split(':').next().unwrap_or_default();
                let folder = path.parent().context("no folder")?;
                whole.push_str(&fs::read_to_string(folder.join(file)).with_context(|| included.to_owned())?);
            }
            None => whole.push_str(line),
        }
        whole.push('\n');
    }
    Ok(whole)
}

/// The places of a page that a link can name.
fn anchors(text: &str) -> BTreeSet<String> {
    let headings = text.lines().filter(|line| line.starts_with('#'));
    let slug = |heading: &str| -> String {
        let words = heading.trim_start_matches('#').trim().to_lowercase().replace(' ', "-");
        words.chars().filter(|letter| letter.is_alphanumeric() || matches!(letter, '-' | '_')).collect()
    };
    headings.map(slug).collect()
}

#[test]
fn every_link_leads_somewhere() -> Result<()> {
    let root = workspace();
    let others =
        ["CONTRIBUTING.md", "SECURITY.md", "tests/README.md", "runtime/ARCHITECTURE.md", "fuzz/README.md"];
    let mut pages = all()?.into_iter().map(|page| (page.path, page.text)).collect::<Vec<_>>();
    for path in others {
        pages.push((path.to_owned(), fs::read_to_string(root.join(path))?));
    }
    let mut broken = Vec::new();
    for (path, text) in &pages {
        for link in text.split("](").skip(1).filter_map(|rest| rest.split(')').next()) {
            if link.starts_with("http") || link.contains(char::is_whitespace) {
                continue;
            }
            let (file, anchor) = link.split_once('#').unwrap_or((link, ""));
            let target =
                if file.is_empty() { root.join(path) } else { root.join(path).with_file_name("").join(file) };
            let leads = target.exists()
                && (anchor.is_empty()
                    || anchors(&with_included(&target, &fs::read_to_string(&target)?)?).contains(anchor));
            if !leads {
                broken.push(format!("{path}: {link}"));
            }
        }
    }
    assert!(broken.is_empty(), "these links lead nowhere: {broken:#?}");
    Ok(())
}

#[test]
fn the_site_has_every_page_and_what_the_program_says_of_itself() -> Result<()> {
    let root = workspace();
    let site = tempfile::tempdir()?;
    let target = root.join("target/docs-site");
    fs::create_dir_all(&target)?;
    let lock = File::create(target.join("tests.lock"))?;
    lock.lock()?;
    let mut make = Command::new(std::env::var_os("CARGO").unwrap_or_else(|| "cargo".into()));
    make.args(["run", "--locked", "--quiet", "--manifest-path"]).arg(root.join("docs/site/Cargo.toml"));
    make.args(["--", "--build-only", "--to"]).arg(site.path());
    make.env("CARGO_TARGET_DIR", &target).env("IRONLOOM_BIN", binary()?.canonicalize()?);
    let made = make.output()?;
    ensure!(made.status.success(), "{}", String::from_utf8_lossy(&made.stderr));

    for page in pages::below(&root.join("docs/src"))? {
        let page = page.strip_prefix(root.join("docs/src"))?.with_extension("html");
        let page = if page == Path::new("README.html") { "index.html".into() } else { page };
        if page == Path::new("SUMMARY.html") {
            continue;
        }
        let html = fs::read_to_string(site.path().join(&page)).with_context(|| page.display().to_string())?;
        ensure!(!html.contains("{{#"), "{} has a part that nothing has made", page.display());
    }
    for (page, has) in [
        ("develop/wit.html", "set-rows: func(prefix: string, lines: list&lt;u32&gt;, values: packed)"),
        ("develop/sdk.html", "impl Readings for Thermometer"),
        ("operate/configuration.html", "fold_at_stop"),
        ("command-line.html", "ironloom dead-letters requeue"),
        ("admin/threats.html", "Trust boundaries"),
    ] {
        let html = fs::read_to_string(site.path().join(page))?;
        ensure!(html.contains(has), "{page} lacks {has:?}");
    }
    Ok(())
}
