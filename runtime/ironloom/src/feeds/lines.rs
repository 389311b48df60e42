//! Feeds as lines of JSON, as `ironloom push` takes them: `{"point":…,"value":…,"at":…}`.
//!
//! The first line may say how the app is installed: `{"feed":1,"bindings":{…},"settings":{…}}`. A line with nothing but
//! `at` lets time pass.

use std::collections::BTreeMap;
use std::fs::File;
use std::io::{BufRead as _, BufReader, Read as _};
use std::path::Path;

use serde::{Deserialize, Serialize};

use super::{FeedError, MAX_STEP, MAX_STEP_BYTES, Step, check_file};
use crate::api::facade::{IngestRules, PartialLimits, Patterns, Push};
use crate::api::intake::{Mode, Parsed};
use crate::api::readings::{Form, MAX_LINE, parse};
use ironloom_apps::grants::Grants;
use ironloom_types::clock::Timestamp;
use ironloom_types::ids::{PointNumber, SlotName, TenantId};
use ironloom_types::limits::MAX_POINTS;

/// The version of feeds that this runtime reads and writes.
const VERSION: u32 = 1;

/// The first line of a feed: how the app is installed for it.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Header {
    /// The version of the feed's form.
    pub feed: u32,
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub bindings: BTreeMap<SlotName, Patterns>,
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub settings: BTreeMap<SlotName, serde_json::Value>,
    /// The set-points that it may ask for.
    #[serde(default, skip_serializing_if = "Grants::is_empty")]
    pub grants: Grants,
    #[serde(default, skip_serializing_if = "is_default")]
    pub limits: PartialLimits,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub timezone: Option<String>,
}

fn is_default(limits: &PartialLimits) -> bool {
    *limits == PartialLimits::default()
}

impl Header {
    /// One without anything to say.
    pub(crate) fn new() -> Self {
        Self { feed: VERSION, ..Self::default() }
    }
}

/// A line that lets time pass.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Passes {
    at: Timestamp,
}

#[derive(Clone, Copy)]
enum Line {
    Passes(Timestamp),
    /// A reading, by its own `at`.
    Reading(Timestamp),
}

/// A feed that is read line by line.
pub(crate) struct LinesFeed {
    name: String,
    reader: BufReader<File>,
    header: Header,
    /// The number of the line at hand, from 1, and its text; `None` before the first and at the end.
    line: u64,
    text: Option<String>,
    /// Its meaning, once it was looked at.
    looked: Option<Line>,
    /// The time that the feed has come to.
    time: Timestamp,
}

impl LinesFeed {
    /// Opens a feed and reads its header.
    pub(crate) fn open(path: &Path) -> Result<Self, FeedError> {
        check_file(path)?;
        let name = path.display().to_string();
        let file =
            File::open(path).map_err(|error| FeedError::File(format!("{name} can't be read: {error}")))?;
        let reader = BufReader::with_capacity(256 << 10, file);
        let (header, time) = (Header::new(), Timestamp(0));
        let mut feed = Self { name, reader, header, line: 0, text: None, looked: None, time };
        feed.read_on()?;
        if let Some(text) =
            feed.text.as_deref().filter(|text| text.contains("\"feed\"") && !text.contains("\"point\""))
        {
            feed.header = serde_json::from_str(text).map_err(|error| feed.wrong(&error.to_string()))?;
            if feed.header.feed != VERSION {
                let found = feed.header.feed;
                return Err(
                    feed.wrong(&format!("is of version {found} of feeds; this ironloom reads {VERSION}"))
                );
            }
            feed.read_on()?;
        }
        Ok(feed)
    }

    pub(crate) fn header(&self) -> &Header {
        &self.header
    }

    /// The next step: all lines that bring the clock to the same time.
    pub(super) fn next(&mut self) -> Result<Option<Step>, FeedError> {
        let mut body = String::new();
        let mut count = 0;
        let mut time = None;
        while let Some(text) = self.text.as_deref() {
            let looked = match self.looked {
                Some(looked) => looked,
                None => self.look(text)?,
            };
            let (line, own) = match looked {
                Line::Passes(at) => (None, at),
                Line::Reading(at) => (Some(text), at),
            };
            let now = self.time.max(own);
            let is_full = count >= MAX_STEP || body.len() >= MAX_STEP_BYTES;
            if time.is_some_and(|time| time != now) || is_full {
                self.looked = Some(looked);
                break;
            }
            time = Some(now);
            if let Some(line) = line {
                body.push_str(line);
                body.push('\n');
                count += 1;
            }
            self.time = now;
            self.read_on()?;
        }
        let Some(time) = time else { return Ok(None) };
        let Parsed { columns, new_points, .. } = read(&body);
        Ok(Some(Step { time, push: Push { tenant: TenantId::MAIN, columns, new_points, ..Push::default() } }))
    }

    /// Checks the line at hand.
    fn look(&self, text: &str) -> Result<Line, FeedError> {
        if !text.contains("\"point\"")
            && let Ok(Passes { at }) = serde_json::from_str(text)
        {
            return Ok(Line::Passes(at));
        }
        let parsed = read(text);
        if parsed.needs_clock {
            return Err(self.wrong("a reading of a feed needs `at`, the time at its source"));
        }
        if let Some(bad) = parsed.bad.first() {
            return Err(self.wrong(&bad.detail));
        }
        match parsed.columns.at.first() {
            Some(at) => Ok(Line::Reading(*at)),
            None => Err(self.wrong("is not a reading such as {\"point\":\"hall/1/temperature\",\"value\":21.5,\"at\":\"2026-01-01T00:00:00Z\"}")),
        }
    }

    /// Reads the next line that isn't empty.
    fn read_on(&mut self) -> Result<(), FeedError> {
        self.looked = None;
        loop {
            let mut text = String::new();
            self.line += 1;
            let most = MAX_LINE as u64 + 2;
            let read = self.reader.by_ref().take(most).read_line(&mut text);
            let read = read.map_err(|error| self.wrong(&error.to_string()))?;
            if read == 0 {
                self.text = None;
                return Ok(());
            }
            if read as u64 == most {
                return Err(self.wrong(&format!("is longer than {MAX_LINE} bytes")));
            }
            if !text.trim().is_empty() {
                text.truncate(text.trim_end().len());
                self.text = Some(text);
                return Ok(());
            }
        }
    }

    fn wrong(&self, problem: &str) -> FeedError {
        FeedError::File(format!("{}:{}: {problem}", self.name, self.line))
    }
}

fn read(body: &str) -> Parsed {
    let rules = IngestRules {
        tenant: TenantId::MAIN,
        now: None,
        latest: Timestamp(i64::MAX as u64),
        new_points: MAX_POINTS,
    };
    let known = |_: &str| None::<PointNumber>;
    parse(body.as_bytes(), Form::Lines, rules, || known, Mode::WHOLE)
}

#[cfg(test)]
mod tests {
    use std::io::Write as _;

    use super::*;

    fn feed(text: &str) -> Result<LinesFeed, FeedError> {
        let mut file = tempfile::NamedTempFile::new().unwrap();
        file.write_all(text.as_bytes()).unwrap();
        LinesFeed::open(file.path())
    }

    /// The time of each step in seconds since noon, and the values in it.
    fn steps(text: &str) -> Vec<(u64, Vec<f64>)> {
        let noon: Timestamp = "2026-07-01T12:00:00Z".parse().unwrap();
        let mut feed = feed(text).unwrap();
        let mut all = Vec::new();
        while let Some(step) = feed.next().unwrap() {
            let words = &step.push.columns.words;
            let values = words.iter().map(|word| f64::from_bits(*word)).collect();
            all.push(((step.time.0 - noon.0) / ironloom_types::clock::SECOND, values));
        }
        all
    }

    fn reading(value: f64, time: &str) -> String {
        format!("{{\"point\":\"a/b\",\"value\":{value:?},\"at\":\"2026-07-01T12:{time}Z\"}}\n")
    }

    #[test]
    fn readings_of_one_time_are_one_step_and_late_ones_come_with_the_time_that_is() {
        let text = [
            reading(1.0, "00:00"),
            reading(2.0, "00:00"),
            reading(3.0, "00:10"),
            // Taken before the last one, and recorded after it.
            reading(4.0, "00:05"),
            reading(5.0, "00:20"),
        ];
        let all = steps(&text.concat());
        assert_eq!(all, [(0, vec![1.0, 2.0]), (10, vec![3.0, 4.0]), (20, vec![5.0])]);
    }

    #[test]
    fn a_line_without_a_point_lets_time_pass() {
        let passes = "{\"at\":\"2026-07-01T12:01:00Z\"}\n";
        let all = steps(&[&reading(1.0, "00:00"), passes, &reading(2.0, "00:30")].concat());
        // The reading is late by then: it is recorded at the time that has come.
        assert_eq!(all, [(0, vec![1.0]), (60, vec![2.0])]);
        assert_eq!(steps(passes), [(60, vec![])]);
    }

    #[test]
    fn the_first_line_may_say_how_the_app_is_installed() {
        let header =
            "\n{\"feed\":1,\"bindings\":{\"weight\":\"farm/{pig}/weight\"},\"timezone\":\"Europe/Berlin\"}\n";
        let found = feed(&[header, &reading(1.0, "00:00")].concat()).unwrap();
        assert_eq!(found.header().timezone.as_deref(), Some("Europe/Berlin"));
        assert_eq!(found.header().bindings.len(), 1);
        let error = |text: &str| match feed(text) {
            Err(FeedError::File(error)) => error,
            other => panic!("{:?}", other.map(|feed| feed.header)),
        };
        assert!(error("{\"feed\":1,\"binding\":{}}").contains(":1: unknown field `binding`"));
        assert!(error("{\"feed\":7}").contains("version 7"));
    }
}
