//! The readings that the app gets: those of a file, or plausible ones.

use std::fs::File;
use std::io::{self, BufRead as _, BufReader, Read as _};
use std::path::PathBuf;
use std::time::{Duration, Instant};

use anyhow::Context as _;
use serde::Deserialize;
use serde_json::{Value as Json, json};

use super::super::client::Client;
use super::super::failure::{Failure, Outcome};
use super::super::output;
use crate::api::NDJSON_TYPE;
use crate::api::facade::{Patterns, SlotInfo};
use crate::api::readings::MAX_LINE;
use crate::feeds::{Header, LinesFeed, Seen};

/// Lines of a file that are pushed at once.
const LINES: usize = 1_000;
/// Lines of a file that are looked at for points.
const LOOKED_AT: usize = 10_000;
/// The interval of generated readings.
const EVERY: Duration = Duration::from_secs(1);
/// The entities that readings are generated for, by what stands in place of the braces.
const ENTITIES: [&str; 3] = ["a", "b", "c"];

/// The source of readings.
pub(super) enum Feed {
    Recorded { path: PathBuf, header: Box<Header>, lines: Option<Lines>, number: usize },
    Generated { points: Vec<Point>, next: Instant, step: u32 },
}

/// Lines of a file. Of one that is longer than the server takes, one byte more than that is kept.
pub(super) struct Lines(BufReader<File>);

impl Iterator for Lines {
    type Item = io::Result<String>;

    fn next(&mut self) -> Option<Self::Item> {
        let mut line = Vec::new();
        let ends = |line: &[u8]| line.ends_with(b"\n");
        let mut read = self.0.by_ref().take(MAX_LINE as u64 + 2).read_until(b'\n', &mut line);
        if line.len() > MAX_LINE && !ends(&line) {
            line.truncate(MAX_LINE + 1);
            read = read.and(self.0.skip_until(b'\n'));
        }
        match read {
            Ok(_) if line.is_empty() => None,
            Ok(_) => {
                let text = String::from_utf8_lossy(&line);
                Some(Ok(text.trim_end_matches(['\r', '\n']).to_owned()))
            }
            Err(error) => Some(Err(error)),
        }
    }
}

/// A point that gets generated readings.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct Point {
    pub path: String,
    pub kind: String,
    pub unit: Option<String>,
    /// Tells points of one input apart.
    pub phase: u32,
}

/// A line, as far as it says whose reading it is.
#[derive(Deserialize)]
struct OfPoint {
    point: String,
}

impl Feed {
    /// Opens what `--feed` names.
    pub(super) fn open(name: &str) -> Result<Self, Failure> {
        if name == "generate" {
            return Ok(Self::Generated { points: Vec::new(), next: Instant::now(), step: 0 });
        }
        let path = PathBuf::from(name);
        let opened = LinesFeed::open(&path).map_err(|error| Failure::Other(anyhow::Error::new(error)))?;
        let header = Box::new(opened.header().clone());
        let file = File::open(&path).with_context(|| format!("can't read {name}"))?;
        Ok(Self::Recorded { path, header, lines: Some(Lines(BufReader::new(file))), number: 0 })
    }

    /// The bindings and settings that a recorded feed brings.
    pub(super) fn header(&self) -> Header {
        match self {
            Self::Recorded { header, .. } => Header::clone(header),
            Self::Generated { .. } => Header::new(),
        }
    }

    /// The points at the beginning of a recorded feed.
    pub(super) fn seen(&self) -> Result<Option<Seen>, Failure> {
        let Self::Recorded { path, .. } = self else { return Ok(None) };
        let file = File::open(path).with_context(|| format!("can't read {}", path.display()))?;
        // What is wrong with a line is told when it is pushed.
        let point = |line: io::Result<String>| Some(serde_json::from_str::<OfPoint>(&line.ok()?).ok()?.point);
        Ok(Some(Seen::of_points(Lines(BufReader::new(file)).take(LOOKED_AT).filter_map(point))))
    }

    /// Says whether all of a recorded feed was given.
    pub(super) fn is_over(&self) -> bool {
        matches!(self, Self::Recorded { lines: None, .. })
    }

    /// Takes note of the inputs and what they are bound to, whenever the app is replaced.
    pub(super) fn bind(&mut self, inputs: Vec<(SlotInfo, Patterns)>) {
        let Self::Generated { points, .. } = self else { return };
        points.clear();
        for (input, patterns) in inputs {
            let of = |pattern: &String| points_of(pattern, &input.r#type, input.unit.as_ref());
            points.extend(patterns.as_slice().iter().flat_map(of));
        }
    }

    /// Pushes what is due.
    pub(super) fn step(&mut self, client: &Client) -> Outcome {
        match self {
            Self::Generated { points, next, step } => {
                if points.is_empty() || Instant::now() < *next {
                    return Ok(());
                }
                *next = Instant::now() + EVERY;
                *step += 1;
                let body: String = points.iter().filter_map(|point| line(point, *step)).collect();
                push(client, &body)
            }
            Self::Recorded { path, lines, number, .. } => {
                let Some(reader) = lines else { return Ok(()) };
                let mut body = String::new();
                let mut is_over = false;
                for _ in 0..LINES {
                    let Some(line) = reader.next() else {
                        is_over = true;
                        break;
                    };
                    let line = line.with_context(|| format!("can't read {}", path.display()))?;
                    *number += 1;
                    if line.len() > MAX_LINE {
                        output::note(&format!(
                            "{}:{number}: the line is longer than {MAX_LINE} bytes, and is passed over",
                            path.display()
                        ));
                        continue;
                    }
                    // The header and lines that only let time pass are no readings.
                    if line.contains("\"point\"") {
                        body.push_str(&line);
                        body.push('\n');
                    }
                }
                if is_over {
                    output::note(&format!("{} is at its end after {number} lines", path.display()));
                    *lines = None;
                }
                push(client, &body)
            }
        }
    }
}

fn push(client: &Client, body: &str) -> Outcome {
    if body.is_empty() {
        return Ok(());
    }
    let partial = [("partial", Some("true".to_owned()))];
    match client.post("/v1/readings", &partial, NDJSON_TYPE, body.as_bytes()) {
        Ok(answer) => {
            let answer: Json = answer.read()?;
            for error in answer["errors"].as_array().into_iter().flatten() {
                output::note(&format!("a line of the feed is refused: {error}"));
            }
            Ok(())
        }
        // All of it was refused, which says so itself.
        Err(failure @ Failure::Refused(_)) => {
            output::failed(&failure);
            Ok(())
        }
        Err(failure) => Err(failure),
    }
}

/// The points of a pattern, with each of the entities in place of all braces.
pub(super) fn points_of(pattern: &str, kind: &str, unit: Option<&String>) -> Vec<Point> {
    let count = if pattern.contains('{') { ENTITIES.len() } else { 1 };
    let point = |(phase, entity): (u32, &str)| {
        let segments = pattern.split('/').map(|segment| match segment.split_once('{') {
            Some((before, rest)) => {
                let (name, after) = rest.split_once('}').unwrap_or((rest, ""));
                format!("{before}{name}-{entity}{after}")
            }
            None => segment.to_owned(),
        });
        let path = segments.collect::<Vec<_>>().join("/");
        Point { path, kind: kind.to_owned(), unit: unit.cloned(), phase }
    };
    (0..).zip(ENTITIES).take(count).map(point).collect()
}

/// The middle and the reach of plausible values in a unit.
fn range(unit: &str) -> (f64, f64) {
    match unit {
        "Cel" => (21.0, 12.0),
        "[degF]" => (70.0, 20.0),
        "K" => (294.0, 12.0),
        "%" => (55.0, 40.0),
        "kg" | "kg/d" => (80.0, 30.0),
        "g" | "g/d" => (500.0, 200.0),
        "V" => (230.0, 8.0),
        "A" => (12.0, 10.0),
        "Hz" => (50.0, 0.1),
        "W" | "kW" | "kW.h" => (15.0, 14.0),
        "bar" => (6.0, 2.0),
        "Pa" => (101_325.0, 2_000.0),
        "{rev}/min" => (1_480.0, 120.0),
        "mm/s" => (2.0, 1.8),
        _ => (50.0, 40.0),
    }
}

/// A line with the reading of a point at a step; `None` where its type has no plausible values.
pub(super) fn line(point: &Point, step: u32) -> Option<String> {
    let (middle, reach) = range(point.unit.as_deref().unwrap_or(""));
    let time = f64::from(step) + 17.0 * f64::from(point.phase);
    // A slow wave with a little unrest, which stays within the range.
    let wave = 0.9 * (time / 20.0).sin() + 0.1 * (time * 2.3).sin();
    let value = match point.kind.as_str() {
        "real" => json!((1_000.0 * (middle + reach * wave)).round() / 1_000.0),
        "integer" => json!((middle + reach * wave).round() as i64),
        "boolean" => json!(wave > 0.0),
        "text" => json!(if wave > 0.8 { "warning" } else { "ok" }),
        _ => return None,
    };
    Some(format!("{}\n", json!({"point": point.path, "value": value})))
}
