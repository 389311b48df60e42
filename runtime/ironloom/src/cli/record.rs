//! `ironloom record`: a stretch of an installation's readings as a feed.

use std::io::{BufWriter, Write as _};
use std::path::{Path, PathBuf};

use anyhow::Context as _;
use clap::Args;
use serde::Serialize;

use super::client::{Client, segment};
use super::failure::{Failure, Outcome};
use super::{Global, output};
use crate::api::facade::{Installation, PackageInfo, Page, ReadingItem};
use crate::api::value::JsonValue;
use crate::feeds::Header;
use ironloom_apps::pattern::Pattern;
use ironloom_types::clock::Timestamp;
use ironloom_types::ids::PointPath;
use ironloom_types::readings::Quality;

/// Readings of a page.
const PAGE: usize = 10_000;

/// Cuts a stretch of an installation's readings out of the journal, as a feed for `ironloom try` and `ironloom test`,
/// with its bindings and settings
#[derive(Args, Debug)]
pub(super) struct Record {
    /// The installation
    id: String,
    /// Only readings with this `at` or a later one
    #[arg(long, value_name = "TIME")]
    from: Option<Timestamp>,
    /// Only readings with an earlier `at`
    #[arg(long, value_name = "TIME")]
    to: Option<Timestamp>,
    /// How many readings at most
    #[arg(long, default_value_t = 100_000, value_name = "N")]
    limit: usize,
    /// The feed's file, such as tests/monday.feed.ndjson
    #[arg(short, long, value_name = "FILE")]
    output: PathBuf,
}

/// A line of a feed.
#[derive(Serialize)]
#[serde(untagged)]
enum Line<'a> {
    Passes {
        at: String,
    },
    Reading {
        point: &'a str,
        value: &'a JsonValue,
        at: String,
        #[serde(skip_serializing_if = "Option::is_none")]
        quality: Option<Quality>,
    },
}

impl Record {
    pub(super) fn run(self, global: &Global) -> Outcome {
        output::check_new(&self.output)?;
        let client = Client::new(&global.url);
        let installation: Installation =
            client.get(&format!("/v1/installations/{}", segment(&self.id)), &[])?.read()?;
        let package: PackageInfo = client
            .get(&format!("/v1/packages/{}", segment(&installation.package.to_string())), &[])?
            .read()?;
        let patterns = patterns(&installation, &package);
        let folder =
            self.output.parent().filter(|folder| !folder.as_os_str().is_empty()).unwrap_or(Path::new("."));
        let shown = self.output.display();
        // Whole or not at all, under its name.
        let file = tempfile::NamedTempFile::new_in(folder).with_context(|| format!("can't write {shown}"))?;
        let mut out = Feed { out: BufWriter::new(file), time: Timestamp(0), written: 0, reserved: 0 };
        out.line(&header(&installation))?;
        let whole = self.readings(&client, &patterns, &mut out)?;
        let written = out.written;
        if out.reserved > 0 {
            let readings = output::counted(out.reserved, "reading");
            output::note(&format!(
                "{readings} of other apps' outputs left out: no feed can write these points"
            ));
        }
        let file = out.out.into_inner().map_err(|error| anyhow::anyhow!("can't write {shown}: {error}"))?;
        if written == 0 {
            return Err(Failure::Other(anyhow::anyhow!(
                "the journal has no readings of the inputs of {} in that time",
                self.id
            )));
        }
        file.persist_noclobber(&self.output).with_context(|| format!("can't write {shown}"))?;
        let more = if whole { "" } else { "; there are more: --limit" };
        output::done(global, &format!("{} in {shown}{more}", output::counted(written as u64, "reading")))
    }

    /// Writes the readings that its inputs take. Says whether these are all.
    fn readings(&self, client: &Client, patterns: &[Pattern], out: &mut Feed) -> Result<bool, Failure> {
        let mut after = None;
        loop {
            let query = [
                ("from", self.from.map(|at| at.to_string())),
                ("to", self.to.map(|at| at.to_string())),
                ("after", after),
                ("limit", Some(PAGE.to_string())),
            ];
            let page: Page<ReadingItem> = client.get("/v1/readings", &query)?.read()?;
            for item in &page.items {
                let path = PointPath::new(&item.point).ok();
                let Some(path) = path.filter(|path| patterns.iter().any(|pattern| pattern.matches(path)))
                else {
                    continue;
                };
                // Nobody but an app writes there: no feed can.
                if path.is_reserved() {
                    out.reserved += 1;
                    continue;
                }
                if out.written == self.limit {
                    return Ok(false);
                }
                out.reading(item)?;
            }
            match page.next {
                Some(next) => after = Some(next),
                None => return Ok(true),
            }
        }
    }
}

/// The patterns of its inputs.
fn patterns(installation: &Installation, package: &PackageInfo) -> Vec<Pattern> {
    let inputs = installation.bindings.iter().filter(|(name, _)| package.inputs.contains_key(name.as_str()));
    inputs
        .flat_map(|(_, patterns)| patterns.as_slice().iter().filter_map(|text| Pattern::new(text).ok()))
        .collect()
}

fn header(installation: &Installation) -> Header {
    Header {
        bindings: installation.bindings.clone(),
        settings: installation.settings.clone(),
        limits: installation.limits,
        timezone: Some(installation.timezone.clone()),
        ..Header::new()
    }
}

struct Feed {
    out: BufWriter<tempfile::NamedTempFile>,
    /// The time that the feed has come to.
    time: Timestamp,
    written: usize,
    /// Readings of other apps' outputs, which are left out.
    reserved: u64,
}

impl Feed {
    /// Writes a reading; before it a line that brings the feed's clock to the time of its record, where that is later.
    fn reading(&mut self, item: &ReadingItem) -> Result<(), Failure> {
        if item.time > self.time.max(item.at) {
            self.line(&Line::Passes { at: item.time.to_jiff().to_string() })?;
        }
        self.time = self.time.max(item.time).max(item.at);
        self.written += 1;
        self.line(&Line::Reading {
            point: &item.point,
            value: &item.value,
            at: item.at.to_jiff().to_string(),
            quality: (item.quality != Quality::Good).then_some(item.quality),
        })
    }

    fn line(&mut self, line: &impl Serialize) -> Result<(), Failure> {
        let json = serde_json::to_string(line).context("a line can't be written as JSON")?;
        Ok(writeln!(self.out, "{json}")?)
    }
}
