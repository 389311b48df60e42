//! The project's own commands: `cargo xtask --help`.

mod cargo;
mod deny;
mod setup;
mod suites;
mod tidy;

use std::os::unix::process::CommandExt as _;
use std::path::PathBuf;
use std::process::Command;

use anyhow::{Context as _, Result};
use clap::{Args, Parser, Subcommand};

use crate::cargo::{Step, cargo, workspace};
use crate::setup::{Built, build, ensure_toolchain, ensure_wasm_target};

/// The project's own commands. Each installs and builds whatever it needs.
#[derive(Parser, Debug)]
#[command(name = "cargo xtask", bin_name = "cargo xtask")]
struct Cli {
    #[command(subcommand)]
    command: Task,
}

#[derive(Subcommand, Debug)]
enum Task {
    /// Checks the format, the lints and what the project asks of its own files
    Lint,
    /// Checks what the project asks of its own files: lengths, first sentences, walls, the map
    Tidy(Tidy),
    /// Builds everything and runs every test
    Test,
    /// Runs two sample apps, a herd and a site of EV chargers, and shows what happens, until Ctrl-C
    Demo(Demo),
    /// Measures, prints a table, and fails where a figure isn't what is promised
    Bench(Bench),
    /// Makes the documentation as a site in target/docs, and serves it until Ctrl-C
    Docs(Docs),
    /// Kills the server again and again under load, and checks that nothing is lost or doubled
    Soak(Soak),
}

#[derive(Args, Debug)]
struct Tidy {
    /// Take out the comments that say nothing, and report what is left
    #[arg(long)]
    fix: bool,
}

#[derive(Args, Debug)]
struct Demo {
    /// End by itself after so long, such as 30s or 2m
    #[arg(long = "for", value_name = "TIME")]
    time: Option<String>,
    /// A setting of the herd's app, such as market-weight=110; may be given several times
    #[arg(long = "set", value_name = "NAME=VALUE")]
    settings: Vec<String>,
}

#[derive(Args, Debug)]
struct Bench {
    /// A second a row, and nothing has to be reached: only whether it works
    #[arg(long)]
    smoke: bool,
    /// Print JSON on stdout, and the table on stderr
    #[arg(long)]
    json: bool,
    /// Only this row; may be given several times
    #[arg(long, value_name = "ROW")]
    only: Vec<String>,
}

#[derive(Args, Debug)]
struct Docs {
    /// Only make it
    #[arg(long)]
    build_only: bool,
    /// The port on loopback; 0: any that is free
    #[arg(long)]
    port: Option<u16>,
}

#[derive(Args, Debug)]
struct Soak {
    /// How often the server is killed at a random moment, for each engine
    #[arg(long, default_value_t = 100)]
    rounds: u64,
    /// Begin with this seed, such as that of a round that failed
    #[arg(long)]
    seed: Option<u64>,
}

fn main() -> Result<()> {
    let command = Cli::parse().command;
    ensure_toolchain()?;
    match command {
        Task::Lint => lint(),
        Task::Tidy(options) => {
            if options.fix {
                tidy::fix(workspace())?;
            }
            tidy::tidy(workspace())
        }
        Task::Test => test(),
        Task::Demo(demo) => {
            ensure_wasm_target()?;
            let mut command = program("ironloom-demo", &[])?;
            command.args(demo.time.map(|time| format!("--for={time}")));
            command.args(demo.settings.iter().map(|setting| format!("--set={setting}")));
            replace(command)
        }
        Task::Bench(bench) => {
            ensure_wasm_target()?;
            // Building SQLite's C takes a minute, which a test of whether it works at all doesn't need.
            let features: &[&str] = if bench.smoke { &[] } else { &["ironloom-tests/sqlite"] };
            let mut command = program("ironloom-bench", features)?;
            command.args(bench.smoke.then_some("--smoke")).args(bench.json.then_some("--json"));
            command.args(bench.only.iter().map(|row| format!("--only={row}")));
            replace(command)
        }
        Task::Docs(docs) => show_docs(&docs),
        Task::Soak(soak) => soak_on(&soak),
    }
}

/// The tool that makes the documentation as a site, in its own workspace. Not optimized: it runs for some seconds.
fn site(command: &str, arguments: &[&str]) -> Step {
    let manifest = workspace().join("docs/site/Cargo.toml");
    let manifest = manifest.to_string_lossy();
    let arguments = [&[command, "--manifest-path", &manifest][..], arguments].concat();
    cargo(&arguments).env("CARGO_TARGET_DIR", workspace().join("target/docs-site"))
}

fn show_docs(docs: &Docs) -> Result<()> {
    let built = build(&["ironloom"], &[], &[])?;
    let port = docs.port.map(|port| format!("--port={port}"));
    let mut arguments = vec!["--locked", "--"];
    arguments.extend(docs.build_only.then_some("--build-only"));
    arguments.extend(port.as_deref());
    site("run", &arguments).env("IRONLOOM_BIN", built.release.join("ironloom")).run("the documentation")
}

fn lint() -> Result<()> {
    tidy::tidy(workspace())?;
    cargo(&["fmt", "--all", "--check"]).run("the format")?;
    cargo(&["clippy", "--release", "--workspace", "--all-targets", "--", "-D", "warnings"])
        .run("the lints")?;
    site("fmt", &["--check"]).run("the format of the site's tool")?;
    site("clippy", &["--locked", "--quiet", "--all-targets", "--", "-D", "warnings"])
        .run("the lints of the site's tool")?;
    check_fuzz_targets()?;
    deny::deny()
}

/// Those that need no wasmtime, which would have to be checked once more for this workspace of its own.
fn check_fuzz_targets() -> Result<()> {
    let manifest = workspace().join("fuzz/Cargo.toml");
    let (manifest, target) = (manifest.to_string_lossy(), workspace().join("target/fuzz"));
    cargo(&[
        "check",
        "--locked",
        "--quiet",
        "--manifest-path",
        &manifest,
        "--features",
        "apps,storage",
        "--bins",
    ])
    .env("CARGO_TARGET_DIR", target)
    // Named so that libFuzzer itself, which is C++, isn't built: nothing is linked.
    .env("CUSTOM_LIBFUZZER_PATH", "/libFuzzer.a")
    .run("the fuzz targets")
}

fn test() -> Result<()> {
    ensure_wasm_target()?;
    let mut skipped = Vec::new();
    // With failpoints, so that the server that has some stands on the same builds.
    let unit = ["test", "--release", "--workspace", "--lib", "--no-fail-fast", "--features", FAILPOINTS];
    cargo(&[&unit[..], &["--config", CHECKED]].concat()).run_tests(
        "the unit tests of every crate, with overflow checks and debug assertions",
        &mut skipped,
    )?;
    let built = built_for_faults()?;
    cargo(&["doc", "--release", "--package", "ironloom-sdk", "--no-deps"])
        .env("RUSTDOCFLAGS", "-Dwarnings")
        .run("the documentation of the SDK, without a warning")?;
    site("test", &["--locked", "--quiet"]).run_tests("the site's tool", &mut skipped)?;
    cargo(&["test", "--release", "--workspace", "--doc", "--no-fail-fast"])
        .run_tests("the examples in the documentation", &mut skipped)?;
    // Last, so that what the tests say stands at the end. The unit tests of the libraries have run.
    let others = ["test", "--release", "--workspace", "--bins", "--test", "*", "--no-run"];
    suites::run("every other test of every crate", cargo(&others), &binaries(&built), &mut skipped)?;
    skipped.sort();
    skipped.dedup();
    if skipped.is_empty() {
        eprintln!("== nothing was left out");
    }
    for what in skipped {
        eprintln!("== NOT TESTED here: {what}");
    }
    Ok(())
}

/// The feature that has steps at which a test may end the process.
const FAILPOINTS: &str = "ironloom/failpoints";

/// Settings of the profile `release` for the crates of the workspace. In the profile `dev` all of wasmtime would have to be
/// built once more.
const CHECKED: &str = "xtask/checked.toml";

fn soak_on(soak: &Soak) -> Result<()> {
    ensure_wasm_target()?;
    let built = built_for_faults()?;
    let tests = cargo(&["test", "--release", "--workspace", "--test", "kill", "--", "--nocapture"]);
    let mut tests = binaries(&built)
        .iter()
        .fold(tests, |tests, (name, path)| tests.env(name, path))
        .env("IRONLOOM_ROUNDS", soak.rounds.to_string());
    if let Some(seed) = soak.seed {
        tests = tests.env("IRONLOOM_SEED", seed.to_string());
    }
    tests.run(&format!("{} rounds of kill -9 for each engine, and up to ten at each failpoint", soak.rounds))
}

/// The server twice: as it is, and with failpoints. Both stand on the same builds of all dependencies,
/// and only the second, plain one is left in its usual place. The first is only killed, so it is built quickly and
/// checks more.
fn built_for_faults() -> Result<Built> {
    let with_failpoints = build(&["ironloom"], &[FAILPOINTS], &["--config", CHECKED])?;
    let failpoints = with_failpoints.release.join("ironloom-failpoints");
    // By a copy that is renamed: one that is just running can't be written.
    let copy = with_failpoints.release.join("ironloom-failpoints.new");
    std::fs::copy(with_failpoints.release.join("ironloom"), &copy)
        .and_then(|_| std::fs::rename(&copy, &failpoints))
        .with_context(|| format!("can't write {}", failpoints.display()))?;
    build(&["ironloom"], &[], &[])
}

/// The variables that tell the tests which binaries are meant, wherever they are run from.
fn binaries(built: &Built) -> [(&'static str, PathBuf); 2] {
    [
        ("IRONLOOM_BIN", built.release.join("ironloom")),
        ("IRONLOOM_FAILPOINTS_BIN", built.release.join("ironloom-failpoints")),
    ]
}

/// Builds the server and one of the programs beside it, and gives the latter, ready to be started.
fn program(name: &str, features: &[&str]) -> Result<Command> {
    let built = build(&["ironloom", name], features, &[])?;
    let mut command = Command::new(built.release.join(name));
    command.env("IRONLOOM_BIN", built.release.join("ironloom"));
    Ok(command)
}

/// Goes on as another program, so that Ctrl-C and the exit code are its own.
fn replace(mut command: Command) -> Result<()> {
    let error = command.exec();
    Err(error).with_context(|| format!("can't run {}", command.get_program().display()))
}
