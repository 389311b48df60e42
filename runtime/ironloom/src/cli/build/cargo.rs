//! Calls cargo, rustc and rustup.

use std::collections::BTreeSet;
use std::ffi::OsString;
use std::io::{BufRead, BufReader};
use std::os::unix::ffi::OsStrExt as _;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use anyhow::{Context as _, bail};
use ironloom_types::ids::Digest;
use serde::Deserialize;

use super::sbom::{Graph, Lock};
use ironloom_storage::small_files;

/// The longest Cargo.toml that is looked into, in bytes.
const MAX_MANIFEST: u64 = 1 << 20;
/// The longest Cargo.lock that is read, in bytes: one of 1,000 crates has 250 kB.
const MAX_LOCK: u64 = 16 << 20;
/// The target that apps are compiled for.
const TARGET: &str = "wasm32-wasip2";
/// The profile of a workspace that builds apps beside other things, and says itself how they are linked.
const GUEST_PROFILE: &str = "guest";
/// A stack of 128 KiB, which begins the memory, and a heap of 192 KiB: with up to 64 KiB of data that is what the sandbox
/// clears itself between two calls (decision 12). The heap grows where an app needs more. It doesn't begin larger, since
/// the allocator writes to its end at the first use, and a page there goes back to the operating system after each call.
const LINKED_WITH: &str =
    "target.wasm32-wasip2.rustflags=['-Clink-arg=--initial-heap=196608','-Clink-arg=-zstack-size=131072']";

/// A program of the Rust toolchain, as the environment names it.
fn program(variable: &str, name: &str) -> Command {
    Command::new(std::env::var_os(variable).unwrap_or_else(|| OsString::from(name)))
}

/// Installs the target where the toolchain of this folder lacks it.
pub(super) fn ensure_target(dir: &Path) -> anyhow::Result<()> {
    let mut rustc = program("RUSTC", "rustc");
    rustc.args(["--print", "target-libdir", "--target", TARGET]).current_dir(dir);
    let output = rustc.output().context("can't run rustc; install Rust as https://rustup.rs says")?;
    let libraries = PathBuf::from(String::from_utf8_lossy(&output.stdout).trim());
    if output.status.success() && libraries.is_dir() {
        return Ok(());
    }
    let added = Command::new("rustup").args(["target", "add", TARGET]).current_dir(dir).status();
    match added {
        Ok(status) if status.success() => Ok(()),
        Ok(status) => bail!("`rustup target add {TARGET}` failed ({status}); apps are compiled for {TARGET}"),
        Err(error) => bail!(
            "the Rust target {TARGET} isn't installed, and rustup can't be run ({error}): install the target the way \
             Rust was installed"
        ),
    }
}

/// The crate of an app.
#[derive(Debug)]
pub(super) struct Crate {
    pub(super) name: String,
    pub(super) version: String,
    manifest: PathBuf,
    workspace: PathBuf,
    /// The target folder: cargo's own, or one of the app's alone in a folder that others may use as well.
    target: PathBuf,
    is_shared: bool,
    has_guest_profile: bool,
}

/// The parts of `cargo metadata`'s answer that are used.
#[derive(Deserialize)]
struct Metadata {
    packages: Vec<Package>,
    target_directory: PathBuf,
    workspace_root: PathBuf,
}

#[derive(Deserialize)]
struct Package {
    name: String,
    version: String,
    manifest_path: PathBuf,
    targets: Vec<Target>,
}

#[derive(Deserialize)]
struct Target {
    crate_types: Vec<String>,
}

impl Target {
    fn is_component(&self) -> bool {
        self.crate_types.iter().any(|kind| kind == "cdylib")
    }
}

/// The parts of `cargo build`'s messages that are used.
#[derive(Deserialize)]
struct Message {
    reason: String,
    package_id: Option<String>,
    manifest_path: Option<PathBuf>,
    target: Option<Target>,
    #[serde(default)]
    filenames: Vec<PathBuf>,
}

impl Message {
    fn is_artifact(&self) -> bool {
        self.reason == "compiler-artifact"
    }

    /// The id of a crate that was compiled for the target. Build scripts and macros, and what these use, are compiled for
    /// the machine that builds, and lie elsewhere.
    fn linked(&self) -> Option<&String> {
        let is_for_target = |file: &PathBuf| file.iter().any(|part| part == TARGET);
        self.package_id.as_ref().filter(|_| self.is_artifact() && self.filenames.iter().any(is_for_target))
    }
}

/// The outcome of a build.
#[derive(Debug)]
pub(super) struct Built {
    pub(super) component: PathBuf,
    /// The crates that were compiled for the target, by the ids that cargo gives them.
    pub(super) linked: BTreeSet<String>,
}

impl Crate {
    pub(super) fn in_folder(dir: &Path) -> anyhow::Result<Self> {
        let manifest = dir.join("Cargo.toml");
        let manifest = manifest.canonicalize().with_context(|| {
            format!("can't read {}; only apps in Rust are built here", manifest.display())
        })?;
        let mut cargo = program("CARGO", "cargo");
        cargo.args(["metadata", "--format-version", "1", "--no-deps", "--manifest-path"]).arg(&manifest);
        let output = cargo
            .current_dir(dir)
            .stderr(Stdio::inherit())
            .output()
            .context("can't run cargo; install Rust as https://rustup.rs says")?;
        if !output.status.success() {
            bail!("`cargo metadata` failed on {}", manifest.display());
        }
        let metadata: Metadata =
            serde_json::from_slice(&output.stdout).context("can't read cargo's metadata")?;
        let package = metadata
            .packages
            .into_iter()
            .find(|package| package.manifest_path == manifest)
            .with_context(|| format!("{} is not a package", manifest.display()))?;
        if !package.targets.iter().any(Target::is_component) {
            bail!("{}: an app needs `[lib] crate-type = [\"cdylib\", \"rlib\"]`", manifest.display());
        }
        let is_shared = metadata.target_directory != metadata.workspace_root.join("target");
        let target = match is_shared {
            true => metadata.target_directory.join(own_folder(&metadata.workspace_root)),
            false => metadata.target_directory,
        };
        Ok(Self {
            name: package.name,
            version: package.version,
            manifest,
            target,
            is_shared,
            has_guest_profile: has_profile(&metadata.workspace_root.join("Cargo.toml"), GUEST_PROFILE),
            workspace: metadata.workspace_root,
        })
    }

    /// Compiles it, and gives the component with the crates that are in it.
    pub(super) fn build(&self, arguments: &[String]) -> anyhow::Result<Built> {
        let mut cargo = program("CARGO", "cargo");
        cargo.args(["build", "--lib", "--target", TARGET, "--message-format", "json-render-diagnostics"]);
        cargo.arg("--manifest-path").arg(&self.manifest);
        if self.has_guest_profile {
            // In a folder of its own, so that it neither waits for the host's build nor undoes it.
            cargo.args(["--profile", GUEST_PROFILE, "--target-dir"]).arg(self.target.join("guests"));
        } else {
            cargo.args(["--release", "--config", LINKED_WITH]);
            if self.is_shared {
                cargo.arg("--target-dir").arg(&self.target);
            }
        }
        if let Some(dir) = self.manifest.parent() {
            cargo.current_dir(dir);
        }
        cargo.args(arguments).stdout(Stdio::piped());
        let mut child = cargo.spawn().context("can't run cargo; install Rust as https://rustup.rs says")?;
        let mut wasm = None;
        let mut linked = BTreeSet::new();
        if let Some(stdout) = child.stdout.take() {
            for line in BufReader::new(stdout).lines() {
                // Lines that are no message of cargo's come from build scripts of others.
                if let Ok(message) = serde_json::from_str::<Message>(&line?) {
                    linked.extend(message.linked().cloned());
                    wasm = self.component_of(message).or(wasm);
                }
            }
        }
        let status = child.wait()?;
        if !status.success() {
            bail!("the app does not compile");
        }
        let component =
            wasm.with_context(|| format!("cargo built no component from {}", self.manifest.display()))?;
        Ok(Built { component, linked })
    }

    /// Asks cargo which crates depend on which, for the target, once it is built with the same arguments.
    pub(super) fn graph(&self, arguments: &[String]) -> anyhow::Result<Graph> {
        let mut cargo = program("CARGO", "cargo");
        cargo.args(["metadata", "--format-version", "1", "--locked", "--filter-platform", TARGET]);
        cargo.arg("--manifest-path").arg(&self.manifest).args(for_metadata(arguments));
        if let Some(dir) = self.manifest.parent() {
            cargo.current_dir(dir);
        }
        let output = cargo.stderr(Stdio::inherit()).output().context("can't run cargo")?;
        if !output.status.success() {
            bail!(
                "`cargo metadata` failed on {}, so that there is no SBOM. It looks at more crates than a build, such as \
                 dev-dependencies: where one of them isn't on this machine, run `cargo fetch` once with a network",
                self.manifest.display()
            );
        }
        serde_json::from_slice(&output.stdout).context("can't read cargo's metadata")
    }

    /// The workspace's Cargo.lock.
    pub(super) fn lock(&self) -> anyhow::Result<Lock> {
        let path = self.workspace.join("Cargo.lock");
        let text = small_files::read_text(&path, MAX_LOCK)?;
        toml::from_str(&text).with_context(|| format!("can't read {}", path.display()))
    }

    fn component_of(&self, message: Message) -> Option<PathBuf> {
        let own = message.is_artifact()
            && message.manifest_path.as_deref() == Some(&self.manifest)
            && message.target.is_some_and(|target| target.is_component());
        let mut files = message.filenames.into_iter().filter(|_| own);
        files.find(|file| file.extension().is_some_and(|extension| extension == "wasm"))
    }
}

/// The folder of a workspace in a target folder that several share, as with CARGO_TARGET_DIR.
///
/// Cargo names a component after its crate, and tells crates and their path dependencies, such as the SDK beside an app,
/// apart by their place in the workspace only. Of two folders with an app of one name, as of a version and its copy for the
/// next one, it would call the code of one fresh for the other.
fn own_folder(workspace: &Path) -> String {
    format!("ironloom-{}", &Digest::of(workspace.as_os_str().as_bytes()).hex()[..16])
}

/// Those arguments of `cargo build` that change what `cargo metadata` says, which takes no others.
fn for_metadata(arguments: &[String]) -> Vec<&str> {
    const ALONE: [&str; 4] = ["--all-features", "--no-default-features", "--offline", "--frozen"];
    const WITH_VALUE: [&str; 3] = ["--features", "-F", "--config"];
    let mut chosen = Vec::new();
    let mut arguments = arguments.iter().map(String::as_str);
    while let Some(argument) = arguments.next() {
        let is_with_value = |name: &&str| argument.starts_with(*name);
        if WITH_VALUE.contains(&argument) {
            chosen.extend([Some(argument), arguments.next()].into_iter().flatten());
        } else if ALONE.contains(&argument) || WITH_VALUE.iter().any(is_with_value) {
            chosen.push(argument);
        }
    }
    chosen
}

fn has_profile(manifest: &Path, profile: &str) -> bool {
    let text = small_files::read_text(manifest, MAX_MANIFEST).unwrap_or_default();
    let table: toml::Table = text.parse().unwrap_or_default();
    table.get("profile").and_then(|profiles| profiles.get(profile)).is_some()
}

/// Whether cargo would refuse a crate of this name, or it would hide one that apps use.
pub(super) fn is_taken(name: &str) -> bool {
    const WORDS: &str = "abstract alloc as async await become box break const continue core crate do dyn else enum \
        extern false final fn for gen if impl in ironloom ironloom-sdk let log loop macro match mod move mut override \
        priv proc-macro pub ref return self serde static std struct super test trait true try type typeof unsafe \
        unsized use virtual where while yield";
    WORDS.split_whitespace().any(|word| word == name)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn two_workspaces_share_no_folder() {
        let of = |path: &str| own_folder(Path::new(path));
        assert_eq!(of("/apps/scales"), of("/apps/scales"));
        assert_ne!(of("/apps/scales"), of("/apps/scales-2"));
    }

    #[test]
    fn cargo_metadata_is_given_the_arguments_that_it_takes() {
        let words = |text: &str| text.split_whitespace().map(str::to_owned).collect::<Vec<_>>();
        let given = words(
            "--offline --jobs 2 --features a,b -F c -Fd --features=e --timings --config net.retry=1 -v",
        );
        let chosen = "--offline --features a,b -F c -Fd --features=e --config net.retry=1";
        assert_eq!(for_metadata(&given), words(chosen));
        assert_eq!(for_metadata(&words("--profile x --features")), ["--features"]);
    }

    #[test]
    fn crates_of_build_scripts_and_macros_are_not_linked() {
        let linked = |reason: &str, file: &str| {
            let message = serde_json::json!({"reason": reason, "package_id": "a", "filenames": [file]});
            serde_json::from_value::<Message>(message).unwrap().linked().is_some()
        };
        assert!(linked("compiler-artifact", "/t/wasm32-wasip2/release/deps/liba.rlib"));
        assert!(!linked("compiler-artifact", "/t/release/deps/liba.rlib"));
        assert!(!linked("compiler-artifact", "/t/release/deps/liba.so"));
        assert!(!linked("build-script-executed", "/t/wasm32-wasip2/release/deps/liba.rlib"));
    }
}
