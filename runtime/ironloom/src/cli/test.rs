//! `ironloom test`: an app on its golden feeds, compared with what it is expected to do.

use std::path::{Path, PathBuf};

use anyhow::Context as _;
use bytes::Bytes;
use clap::Args;
use serde::Serialize;
use similar::TextDiff;

use super::failure::{Failure, Outcome};
use super::r#try::{Interrupted, failure};
use super::{Global, build, inspect, output, progress};
use crate::api::host::Start;
use crate::feeds::golden;
use ironloom_storage::small_files::{self, ReadError};
use ironloom_types::text::{clean, clean_lines};

/// The end of a feed's name, and of the file with what is expected of it.
const FEED: &str = ".feed.ndjson";
const EXPECTED: &str = ".expected.ndjson";
/// The longest file with what is expected, in bytes.
const MAX_EXPECTED: u64 = 256 << 20;
/// Lines around a difference.
const CONTEXT: usize = 3;
/// Lines of the differences that are shown of one feed: where the first ones differ, the others often follow from them.
const SHOWN: usize = 100;

/// Runs an app on its golden feeds, and compares what it does with what is expected. Exit code 1 if something differs
#[derive(Args, Debug)]
pub(super) struct Test {
    /// The app's folder: its feeds are `tests/*.feed.ndjson`, and what is expected of each is `tests/*.expected.ndjson`
    #[arg(default_value = ".")]
    dir: PathBuf,
    /// Take this package, and build none
    #[arg(long, value_name = "FILE")]
    package: Option<PathBuf>,
    /// Write what the app does now as what is expected
    #[arg(long)]
    bless: bool,
    /// Only feeds with this in their names
    #[arg(long, value_name = "TEXT")]
    only: Option<String>,
    /// Further arguments for `cargo build`, such as --offline
    #[arg(last = true)]
    cargo: Vec<String>,
}

/// The end of a feed.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
enum Verdict {
    Same,
    Differs,
    /// It could not be run to its end.
    Failed,
    /// Nothing is expected of it yet.
    New,
    Blessed,
}

#[derive(Debug, Serialize)]
struct Tested {
    feed: String,
    verdict: Verdict,
    #[serde(skip_serializing_if = "Option::is_none")]
    detail: Option<String>,
}

impl Test {
    pub(super) fn run(self, global: &Global, start: Start) -> Outcome {
        let feeds = self.feeds()?;
        let package = match &self.package {
            Some(package) => package.clone(),
            None => build::build(&self.dir, &self.cargo)?.path,
        };
        let bytes = inspect::bytes(&package)?;
        inspect::read(&package, &bytes)?;
        let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build()?;
        let outcome = runtime.block_on(async {
            let mut interrupted = Interrupted::new()?;
            tokio::select! {
                outcome = self.all(global, start, &bytes, &feeds) => outcome,
                () = interrupted.come() => Err(Failure::Interrupted("interrupted".to_owned())),
            }
        });
        runtime.shutdown_background();
        outcome
    }

    /// The feeds in the order of their names.
    fn feeds(&self) -> Result<Vec<PathBuf>, Failure> {
        let folder = build::within(&self.dir, "tests");
        let shown = folder.display();
        let entries = std::fs::read_dir(&folder).with_context(|| format!("{shown} can't be read"))?;
        let mut feeds = Vec::new();
        for entry in entries {
            let path = entry?.path();
            let name = path.file_name().unwrap_or_default().to_string_lossy();
            let wanted = self.only.as_ref().is_none_or(|only| name.contains(only.as_str()));
            if name.ends_with(FEED) && wanted {
                feeds.push(path);
            }
        }
        if feeds.is_empty() {
            let of_name =
                self.only.as_ref().map_or(String::new(), |only| format!(" with {only:?} in its name"));
            return Err(Failure::File(format!(
                "{shown} has no *{FEED}{of_name}; write one, or cut it out of a journal with `ironloom record`"
            )));
        }
        feeds.sort();
        Ok(feeds)
    }

    async fn all(&self, global: &Global, start: Start, package: &Bytes, feeds: &[PathBuf]) -> Outcome {
        if !output::is_watched() {
            output::note("compiling the app's code, and running it");
        }
        // The code is compiled for each of them: their nodes know nothing of each other.
        let bar = progress::stages();
        let mut bad = 0;
        for (number, feed) in (1..).zip(feeds) {
            let name = clean(&feed.display().to_string()).into_owned();
            bar.set_message(format!("compiling and running {number} of {}, {name}", feeds.len()));
            let tested = self.one(start, package, feed).await?;
            bad += usize::from(!matches!(tested.verdict, Verdict::Same | Verdict::Blessed));
            bar.suspend(|| tell(global, &tested))?;
        }
        bar.finish_and_clear();
        match bad {
            0 => Ok(()),
            bad => {
                let feeds = output::counted(feeds.len() as u64, "feed");
                Err(anyhow::anyhow!("{bad} of {feeds} not as expected").into())
            }
        }
    }

    async fn one(&self, start: Start, package: &Bytes, feed: &Path) -> Result<Tested, Failure> {
        let name = feed.display().to_string();
        let expected = PathBuf::from(format!("{}{EXPECTED}", name.strip_suffix(FEED).unwrap_or(&name)));
        let tested = |verdict, detail| Ok(Tested { feed: name.clone(), verdict, detail });
        let lines = match golden(start, package.clone(), feed).await {
            Ok(lines) => lines,
            Err(error) => return tested(Verdict::Failed, Some(failure(error).to_string())),
        };
        let found: String = lines.iter().map(|line| format!("{line}\n")).collect();
        let before = match small_files::read_text(&expected, MAX_EXPECTED) {
            Ok(text) => Some(text),
            Err(ReadError::Io { error, .. }) if error.kind() == std::io::ErrorKind::NotFound => None,
            Err(error) => return Err(error.into()),
        };
        if before.as_ref() == Some(&found) {
            return tested(Verdict::Same, None);
        }
        if self.bless {
            let written = small_files::write(&expected, found.as_bytes());
            written.with_context(|| format!("can't write {}", expected.display()))?;
            return tested(Verdict::Blessed, None);
        }
        let Some(before) = before else {
            let detail = format!("{} isn't there; --bless writes it", expected.display());
            return tested(Verdict::New, Some(detail));
        };
        let diff = TextDiff::from_lines(&before, &found);
        let shown = diff
            .unified_diff()
            .context_radius(CONTEXT)
            .header(&expected.display().to_string(), "this run")
            .to_string();
        tested(Verdict::Differs, Some(first_lines(&shown)))
    }
}

/// The first lines of a text, and how many more there are.
fn first_lines(text: &str) -> String {
    let lines: Vec<&str> = text.lines().collect();
    match lines.get(SHOWN..) {
        Some(more) if !more.is_empty() => {
            format!("{}\n… {}", lines[..SHOWN].join("\n"), output::counted(more.len() as u64, "more line"))
        }
        _ => text.to_owned(),
    }
}

fn tell(global: &Global, tested: &Tested) -> Outcome {
    if !global.json {
        return output::print(&text(tested));
    }
    let json = serde_json::to_string(tested).context("it can't be written as JSON")?;
    output::json_text(&format!("{json}\n"))
}

fn text(tested: &Tested) -> String {
    let word = match tested.verdict {
        Verdict::Same => "as expected",
        Verdict::Differs => "differs",
        Verdict::Failed => "failed",
        Verdict::New => "new",
        Verdict::Blessed => "blessed",
    };
    let detail = tested.detail.as_deref().map_or(String::new(), |detail| format!("{}\n", detail.trim_end()));
    clean_lines(&format!("{} … {word}\n{detail}", tested.feed)).into_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_long_difference_is_cut_and_says_how_much_more_there_is() {
        let text = |lines: usize| (1..=lines).map(|line| format!("-{line}\n")).collect::<String>();
        assert_eq!(first_lines(&text(100)), text(100));
        assert_eq!(first_lines(&text(101)), format!("{}… 1 more line", text(100)));
        assert_eq!(first_lines(&text(103)), format!("{}… 3 more lines", text(100)));
    }
}
