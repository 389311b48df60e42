//! `ironloom points`.

use std::fmt::Write as _;

use anyhow::Context as _;
use clap::{Args, Subcommand};

use super::client::segment;
use super::failure::Outcome;
use super::{Global, PageArgs, output};
use crate::api::JSON_TYPE;
use crate::api::facade::{
    PointDetail, PointItem, PointReader, PointRequest, PointWriter, RenamePoint, RenamedPoint, RetiredPoints,
};
use ironloom_types::text::{clean, clean_lines};

/// Lists points with their latest readings, shows one, says what it is, renames or retires some.
#[derive(Args, Debug)]
#[command(args_conflicts_with_subcommands = true)]
pub(super) struct Points {
    #[command(flatten)]
    list: List,
    #[command(subcommand)]
    what: Option<What>,
}

#[derive(Args, Debug)]
struct List {
    /// Only points whose path starts with this
    #[arg(long, value_name = "PREFIX")]
    prefix: Option<String>,
    #[command(flatten)]
    page: PageArgs,
}

#[derive(Debug, Subcommand)]
enum What {
    /// List points with their latest readings
    List(List),
    /// Show one point: what it is, who writes it and who reads it
    Show {
        /// The point's path
        path: String,
    },
    /// Say what a point is
    Set(Set),
    /// Give a point another path
    Rename {
        /// The point's path
        path: String,
        /// The path that it gets
        to: String,
    },
    /// Take points out of the lists; a later reading makes them anew
    Retire {
        /// The point's path; with a / at its end all points below it
        path: String,
        /// Their readings are given out no more, also those of points of this path that were retired before
        #[arg(long)]
        readings: bool,
    },
}

#[derive(Args, Debug)]
struct Set {
    /// The point's path
    path: String,
    #[command(flatten)]
    what: Said,
}

#[derive(Args, Debug)]
#[group(required = true, multiple = true)]
struct Said {
    /// The unit of its values, as a UCUM code; "" takes it away
    #[arg(long, value_name = "UNIT")]
    unit: Option<String>,
    /// A few words about it; "" takes them away
    #[arg(long, value_name = "TEXT")]
    description: Option<String>,
}

fn path_of(point: &str) -> String {
    format!("/v1/points/{}", segment(point))
}

impl Points {
    pub(super) fn run(self, global: &Global) -> Outcome {
        let client = global.client()?;
        match self.what {
            None => self.list.run(global),
            Some(What::List(list)) => list.run(global),
            Some(What::Show { path }) => {
                let answer = client.get(&path_of(&path), &[])?;
                output::one(global, &answer, |point: PointDetail| text(&point))
            }
            Some(What::Set(Set { path, what })) => {
                let said = |text: Option<String>| text.map(|text| Some(text).filter(|text| !text.is_empty()));
                let request = PointRequest { unit: said(what.unit), description: said(what.description) };
                let body = serde_json::to_string(&request).context("the request can't be written")?;
                let answer = client.patch(&path_of(&path), &[], JSON_TYPE, body.as_bytes())?;
                output::one(global, &answer, |point: PointDetail| text(&point))
            }
            Some(What::Rename { path, to }) => {
                let body =
                    serde_json::to_string(&RenamePoint { to }).context("the request can't be written")?;
                let path = format!("{}/rename", path_of(&path));
                let answer = client.post(&path, &[], JSON_TYPE, body.as_bytes())?;
                output::one(global, &answer, |renamed: RenamedPoint| told_of_new_path(&renamed))
            }
            Some(What::Retire { path, readings }) => {
                let (point, below) = path.strip_suffix('/').map_or((&*path, false), |above| (above, true));
                let query = [("below", Some(below.to_string())), ("readings", Some(readings.to_string()))];
                let answer = client.delete(&path_of(point), &query)?;
                output::one(global, &answer, |retired: RetiredPoints| told(&retired))
            }
        }
    }
}

impl List {
    fn run(self, global: &Global) -> Outcome {
        let query = [
            ("prefix", self.prefix),
            ("after", self.page.after),
            ("limit", Some(self.page.limit.to_string())),
        ];
        let header = ["point", "value", "unit", "quality", "at", "sequence"];
        output::list(global, "/v1/points", &query, &header, |item: PointItem| {
            [
                item.point.to_string(),
                output::shorten(&item.value.to_string()),
                item.unit.map_or(String::new(), |unit| unit.to_string()),
                item.quality.name().to_owned(),
                item.at.to_string(),
                item.sequence.to_string(),
            ]
        })
    }
}

/// A point, a fact on each line.
fn text(point: &PointDetail) -> String {
    let mut out = String::new();
    // Writing into a String doesn't fail.
    let mut line = |name: &str, value: String| {
        let _ = writeln!(out, "{name:<14}{}", clean(&value));
    };
    line("point", point.point.to_string());
    line("unit", point.unit.as_deref().unwrap_or("not known").to_owned());
    if let Some(description) = &point.description {
        line("description", description.to_string());
    }
    match &point.latest {
        None => line("latest", "none".to_owned()),
        Some(latest) => {
            let value = output::shorten(&latest.value.to_string());
            let quality = latest.quality.name();
            line("latest", format!("{value}, {quality}, at {}, sequence {}", latest.at, latest.sequence));
        }
    }
    if let Some(installation) = &point.derived_by {
        line("derived by", installation.to_string());
    }
    for writer in &point.written_by {
        line("written by", written_by(writer));
    }
    more(point.writers, point.written_by.len(), &mut line);
    if point.writers == 0 {
        line("written by", "whoever pushes it".to_owned());
    }
    for PointReader { installation, input } in &point.read_by {
        line("read by", format!("installation {installation}, input {input}"));
    }
    more(point.readers, point.read_by.len(), &mut line);
    if point.readers == 0 {
        line("read by", "nobody".to_owned());
    }
    if point.earlier > 0 {
        let earlier = output::counted(point.earlier, "point");
        line("earlier", format!("{earlier} of this path, retired, with readings"));
    }
    out
}

fn written_by(writer: &PointWriter) -> String {
    let PointWriter { connector, installation, output } = writer;
    match (connector, installation, output) {
        (Some(connector), ..) => format!("connector {connector}"),
        (None, Some(installation), Some(output)) => format!("installation {installation}, output {output}"),
        _ => "somebody else".to_owned(),
    }
}

fn more(all: u64, shown: usize, line: &mut impl FnMut(&str, String)) {
    let more = all.saturating_sub(shown as u64);
    if more > 0 {
        line("", format!("and {more} more"));
    }
}

fn told_of_new_path(renamed: &RenamedPoint) -> String {
    let RenamedPoint { from, point, still_written_by } = renamed;
    let mut said = format!("{from} is {} from now on; inputs that match it get what comes\n", point.point);
    for writer in still_written_by {
        let _ = writeln!(
            said,
            "{} still writes {from}: its next reading makes another point",
            written_by(writer)
        );
    }
    clean_lines(&said).into_owned()
}

fn told(retired: &RetiredPoints) -> String {
    let RetiredPoints { points, before, readings } = retired;
    let fate = match (readings, points) {
        (true, 1) => "its readings stay",
        (true, _) => "their readings stay",
        (false, _) => "with all readings",
    };
    let mut text = format!("{} retired, {fate}\n", output::counted(*points, "point"));
    if *before > 0 {
        let before = output::counted(*before, "point");
        let _ = writeln!(text, "readings of {before} that had been retired before are given out no more");
    }
    text
}
