//! The files of the project, as far as git would carry them.

use std::path::Path;
use std::process::Command;

use anyhow::{Context as _, Result, ensure};

use super::{Finding, Rule};

/// The largest file that git should carry.
const MAX_BYTES: u64 = 1024 * 1024;

/// A file with its path from the root of the project, and its text where it has any.
#[derive(Debug)]
pub(super) struct File {
    pub path: String,
    pub bytes: u64,
    pub text: Option<String>,
}

/// Reads every file that is under version control or would be with the next `git add`.
pub(super) fn all(root: &Path) -> Result<Vec<File>> {
    let mut git = Command::new("git");
    git.current_dir(root).args(["ls-files", "-z", "--cached", "--others", "--exclude-standard"]);
    let output = git.output().context("can't run git, which lists the files of the project")?;
    ensure!(output.status.success(), "git ls-files ended with {}", output.status);
    let mut files = Vec::new();
    for path in output.stdout.split(|byte| *byte == 0).filter(|path| !path.is_empty()) {
        let path = String::from_utf8_lossy(path).into_owned();
        let place = root.join(&path);
        // Deleted, but not yet for git.
        if !place.is_file() {
            continue;
        }
        let bytes = std::fs::read(&place).with_context(|| format!("can't read {}", place.display()))?;
        let size = bytes.len() as u64;
        files.push(File { path, bytes: size, text: String::from_utf8(bytes).ok() });
    }
    Ok(files)
}

/// Finds a file that is too big for git.
pub(super) fn too_big(file: &File) -> Option<Finding> {
    (file.bytes > MAX_BYTES).then(|| Finding {
        path: file.path.clone(),
        line: 0,
        rule: Rule::Size,
        text: format!("{} bytes; a file has at most {MAX_BYTES}", file.bytes),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_file_beyond_a_mebibyte_is_found() {
        let file = |bytes| File { path: "data.bin".to_owned(), bytes, text: None };
        assert!(too_big(&file(MAX_BYTES)).is_none());
        let finding = too_big(&file(MAX_BYTES + 1)).unwrap();
        assert_eq!((finding.rule, finding.path.as_str()), (Rule::Size, "data.bin"));
    }
}
