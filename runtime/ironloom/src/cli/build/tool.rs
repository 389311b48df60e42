//! Runs the tools of other languages, and sets them up once for what a file pins.

use std::fs;
use std::io::{self, Read as _};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use anyhow::{Context as _, bail};
use ironloom_storage::small_files;
use ironloom_types::ids::Digest;

/// The largest file with pinned versions, in bytes.
const MAX_PINNED: u64 = 16 << 20;

/// Runs a command in the app's folder. All that it prints goes to stderr: stdout is for the package's path and digest.
pub(super) fn run(command: &mut Command, dir: &Path, what: &str, missing: &str) -> anyhow::Result<()> {
    command.current_dir(dir).stdin(Stdio::null()).stdout(io::stderr());
    let status = command.status().with_context(|| format!("can't run {what}; {missing}"))?;
    if !status.success() {
        bail!("{what} failed ({status})");
    }
    Ok(())
}

/// Reads a file with pinned versions.
pub(super) fn read(pins: &Path) -> io::Result<Vec<u8>> {
    let mut bytes = Vec::new();
    fs::File::open(pins)?.take(MAX_PINNED).read_to_end(&mut bytes)?;
    Ok(bytes)
}

/// Says whether a tool was set up for the present content of the file that pins its versions; the mark is written after a
/// setup that succeeded.
#[derive(Debug)]
pub(super) struct Setup {
    mark: PathBuf,
    pinned: String,
}

impl Setup {
    /// Reads the file that pins the versions. `mark` is a file in the folder that the setup fills.
    pub(super) fn of(pins: &Path, mark: PathBuf) -> anyhow::Result<Self> {
        let bytes = read(pins).with_context(|| format!("can't read {}", pins.display()))?;
        Ok(Self { mark, pinned: Digest::of(&bytes).to_string() })
    }

    pub(super) fn is_done(&self) -> bool {
        small_files::read_text(&self.mark, MAX_PINNED).is_ok_and(|done| done == self.pinned)
    }

    pub(super) fn done(&self) -> anyhow::Result<()> {
        fs::write(&self.mark, &self.pinned).with_context(|| format!("can't write {}", self.mark.display()))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_setup_holds_until_the_pinned_versions_change() {
        let folder = tempfile::tempdir().unwrap();
        let (pins, mark) = (folder.path().join("requirements.txt"), folder.path().join("mark"));
        fs::write(&pins, "a==1").unwrap();
        let setup = || Setup::of(&pins, mark.clone()).unwrap();
        assert!(!setup().is_done());
        setup().done().unwrap();
        assert!(setup().is_done());
        fs::write(&pins, "a==2").unwrap();
        assert!(!setup().is_done());
        assert!(Setup::of(&folder.path().join("none"), mark.clone()).is_err());
    }

    #[test]
    fn a_tool_that_fails_or_is_missing_is_named() {
        let folder = tempfile::tempdir().unwrap();
        let error = run(&mut Command::new("false"), folder.path(), "`false`", "install it").unwrap_err();
        assert!(error.to_string().contains("`false` failed"), "{error}");
        let mut missing = Command::new(folder.path().join("nothing"));
        let error = run(&mut missing, folder.path(), "nothing", "install it").unwrap_err();
        assert!(error.to_string().contains("can't run nothing; install it"), "{error}");
    }
}
