//! `ironloom record`: a stretch of an installation's readings as a feed.

use std::collections::BTreeMap;
use std::io::{BufWriter, Write as _};
use std::path::PathBuf;
use std::sync::Arc;

use anyhow::Context as _;
use clap::Args;
use serde::Serialize;

use super::client::{Client, segment};
use super::failure::{Failure, Outcome};
use super::{Global, output};
use crate::api::facade::{Installation, PackageInfo, Page, PointItem, ReadingItem};
use crate::api::value::JsonValue;
use crate::feeds::Header;
use ironloom_apps::binding::unit_fits;
use ironloom_apps::pattern::Pattern;
use ironloom_storage::folders;
use ironloom_types::clock::Timestamp;
use ironloom_types::ids::{PointPath, TenantId};
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
        let client = global.client()?;
        let installation: Installation =
            client.get(&format!("/v1/installations/{}", segment(&self.id)), &[])?.read()?;
        let package: PackageInfo = client
            .get(&format!("/v1/packages/{}", segment(&installation.package.to_string())), &[])?
            .read()?;
        let taken = Taken::of(&installation, &package);
        let units = units(&client, &taken)?;
        let shown = self.output.display();
        // Whole or not at all, under its name.
        let file = tempfile::NamedTempFile::new_in(folders::parent(&self.output))
            .with_context(|| format!("can't write {shown}"))?;
        let mut out = Feed {
            out: BufWriter::new(file),
            time: Timestamp(0),
            written: 0,
            reserved: 0,
            of_other_units: 0,
        };
        out.line(&header(&installation))?;
        let whole = self.readings(&client, &taken, &units, &mut out)?;
        let written = out.written;
        if out.reserved > 0 {
            let readings = output::counted(out.reserved, "reading");
            output::note(&format!(
                "{readings} of other apps' outputs left out: no feed can write these points"
            ));
        }
        if out.of_other_units > 0 {
            let readings = output::counted(out.of_other_units, "reading");
            output::note(&format!(
                "{readings} left out: their points have another unit than the input, so that the app doesn't get them"
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
    fn readings(
        &self,
        client: &Client,
        taken: &[Taken],
        units: &BTreeMap<Arc<str>, Arc<str>>,
        out: &mut Feed,
    ) -> Result<bool, Failure> {
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
                let path = PointPath::new(TenantId::NOBODY, &item.point).ok();
                let Some(path) = path.filter(|path| taken.iter().any(|taken| taken.pattern.matches(path)))
                else {
                    continue;
                };
                let unit = units.get(&item.point);
                if !taken.iter().any(|taken| taken.pattern.matches(&path) && taken.fits(unit)) {
                    out.of_other_units += 1;
                    continue;
                }
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

/// What an input takes.
struct Taken {
    pattern: Pattern,
    /// The beginning of all paths that it matches.
    prefix: String,
    unit: Option<String>,
}

impl Taken {
    /// The patterns of all inputs.
    fn of(installation: &Installation, package: &PackageInfo) -> Vec<Self> {
        let inputs = installation
            .bindings
            .iter()
            .filter_map(|(name, patterns)| Some((package.inputs.get(name.as_str())?, patterns)));
        let one = |text: &String, unit: &Option<String>| {
            let prefix = text.split('{').next().unwrap_or_default().to_owned();
            Some(Self { pattern: Pattern::new(TenantId::NOBODY, text).ok()?, prefix, unit: unit.clone() })
        };
        inputs
            .flat_map(|(input, patterns)| {
                patterns.as_slice().iter().filter_map(move |text| one(text, &input.unit))
            })
            .collect()
    }

    /// Whether the app gets readings of a point with this unit, if it has one.
    fn fits(&self, unit: Option<&Arc<str>>) -> bool {
        unit_fits(unit.map(|unit| &**unit), self.unit.as_deref())
    }
}

/// The units of the points that inputs with a unit match, where they are known.
fn units(client: &Client, taken: &[Taken]) -> Result<BTreeMap<Arc<str>, Arc<str>>, Failure> {
    let mut units = BTreeMap::new();
    for taken in taken.iter().filter(|taken| taken.unit.is_some()) {
        let mut after = None;
        loop {
            let query =
                [("prefix", Some(taken.prefix.clone())), ("after", after), ("limit", Some(PAGE.to_string()))];
            let page: Page<PointItem> = client.get("/v1/points", &query)?.read()?;
            for PointItem { point, unit, .. } in page.items {
                let is_taken =
                    PointPath::new(TenantId::NOBODY, &point).is_ok_and(|path| taken.pattern.matches(&path));
                if let (true, Some(unit)) = (is_taken, unit) {
                    units.insert(point, unit);
                }
            }
            match page.next {
                Some(next) => after = Some(next),
                None => break,
            }
        }
    }
    Ok(units)
}

fn header(installation: &Installation) -> Header {
    Header {
        bindings: installation.bindings.clone(),
        settings: installation.settings.clone(),
        grants: installation.grants.clone(),
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
    /// Readings that the app doesn't get, for the units of their points.
    of_other_units: u64,
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
