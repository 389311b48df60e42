//! The configuration of replaying a CSV file.

use std::path::PathBuf;
use std::str::FromStr;
use std::sync::Arc;

use jiff::tz::TimeZone;
use toml::de::DeValue;

use crate::connectors::cells::{CellType, Times};
use crate::connectors::held::wait_for;
use crate::connectors::points;
use crate::connectors::template::Template;
use ironloom_apps::cron::time_zone;
use ironloom_apps::quantity::Span;
use ironloom_apps::toml_section::{Field, Section};
use ironloom_apps::unit;
use ironloom_types::ids::InstallationId;
use ironloom_types::limits::SOURCE_POINTS;

/// The destination of a column's cells.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Mapping {
    /// The column, by its name in the header line.
    pub column: String,
    /// The point, with places for other columns of the line and `{lap}`.
    pub point: Template,
    /// The type of the readings.
    pub r#type: CellType,
    /// The unit of the points.
    pub unit: Option<Arc<str>>,
}

/// `[connectors.NAME]` with `kind = "csv"`.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct CsvConfig {
    pub path: PathBuf,
    /// The separator of cells: one ASCII character.
    pub delimiter: u8,
    /// Whether the decimal mark of numbers is a comma.
    pub decimal_comma: bool,
    /// The column with the time.
    pub at: String,
    /// The type of its cells.
    pub times: Times,
    /// Seconds of the file in a second; 0: as fast as it goes.
    pub speed: f64,
    /// The number of laps; `None`: endless.
    pub laps: Option<u64>,
    /// The time that is added with each further lap.
    pub shift: Span,
    /// Cells that hold no value.
    pub missing: Vec<String>,
    /// The points of the columns, in the order of the file.
    pub mappings: Vec<Mapping>,
    /// The most points that the mappings may name.
    pub points: usize,
    /// The installations that it waits for.
    pub wait_for: Vec<InstallationId>,
}

impl CsvConfig {
    /// Reads a section whose `kind` was taken. `site` is the time zone of times that name none.
    pub(crate) fn read(mut section: Section<'_, '_>, site: &TimeZone) -> Option<Self> {
        let path = section.require("path").and_then(|field| field.text().map(PathBuf::from));
        let delimiter = section.take("delimiter").map_or(Some(b','), |field| delimiter(&field));
        let decimal = section.take("decimal").map_or(Some(b'.'), |field| decimal(&field));
        let at = section.require("at").and_then(|field| field.text().map(str::to_owned));
        let unit = section.take("at_unit").and_then(|field| field.parsed(Times::unit));
        let zone =
            section.take("timezone").map_or_else(|| Some(site.clone()), |field| field.parsed(time_zone));
        let speed = section.take("speed").map_or(Some(0.0), |field| speed(&field));
        let laps = section.take("loop").map_or(Some(Some(1)), |field| laps(&field));
        let shift = section.take("shift").map_or(Some(Span(0)), |field| field.parsed(str::parse));
        let missing = section.take("missing");
        let missing =
            missing.map_or_else(|| Some(vec![String::new(), "NA".to_owned()]), |field| field.texts());
        let points = section.take("points").map_or(Some(SOURCE_POINTS), |field| points(&field));
        let held = section.take("wait_for").map_or(Some(Vec::new()), |field| wait_for(&field));
        let mappings = mappings(section.table("columns"));
        if delimiter.is_some() && delimiter == decimal {
            section.refuse("uses one mark as `delimiter` and `decimal`; with a decimal comma, cells are usually separated by \";\"");
        }
        if mappings.is_empty() {
            section.refuse("has no [….columns.NAME] with a `point`, so it would bring no readings");
        }
        if laps.is_some_and(|laps| laps != Some(1)) && shift == Some(Span(0)) {
            section.refuse("needs a `shift` above 0 with `loop`, or times would go back with each lap");
        }
        section.finish();
        Some(Self {
            path: path?,
            delimiter: delimiter?,
            decimal_comma: decimal? == b',',
            at: at?,
            times: Times { zone: zone?, unit },
            speed: speed?,
            laps: laps?,
            shift: shift?,
            missing: missing?,
            mappings,
            points: points?,
            wait_for: held?,
        })
    }
}

fn delimiter(field: &Field<'_, '_>) -> Option<u8> {
    field.parsed(|text| match text.as_bytes() {
        [mark] if mark.is_ascii_punctuation() && *mark != b'"' => Ok(*mark),
        b"\t" | b" " => Ok(text.as_bytes()[0]),
        _ => Err("must be one ASCII mark, such as \",\", \";\" or \"\\t\""),
    })
}

fn decimal(field: &Field<'_, '_>) -> Option<u8> {
    field.parsed(|text| match text {
        "." => Ok(b'.'),
        "," => Ok(b','),
        _ => Err("must be \".\" or \",\""),
    })
}

fn speed(field: &Field<'_, '_>) -> Option<f64> {
    let speed = field.number()?;
    let sound = speed.is_finite() && speed >= 0.0;
    field.checked(if sound { Ok(speed) } else { Err("must be a number that is not negative") })
}

fn laps(field: &Field<'_, '_>) -> Option<Option<u64>> {
    match &field.value {
        DeValue::Boolean(true) => Some(None),
        DeValue::Boolean(false) => Some(Some(1)),
        _ => {
            let laps = u64::try_from(field.integer()?).ok().filter(|laps| *laps > 0);
            field.checked(laps.map(Some).ok_or("must be a number of laps of 1 or more, true or false"))
        }
    }
}

fn mappings(mut columns: Section<'_, '_>) -> Vec<Mapping> {
    let mut mappings = Vec::new();
    for field in columns.take_all() {
        let column = field.name.clone();
        let mut entry = field.section();
        let point = entry.require("point").and_then(|field| field.parsed(Template::parse));
        let r#type =
            entry.take("type").map_or(Some(CellType::Real), |field| field.parsed(CellType::from_str));
        let unit = entry.take("unit").map_or(Some(None), |field| field.parsed(unit::check).map(Some));
        entry.finish();
        if let (Some(point), Some(r#type), Some(unit)) = (point, r#type, unit) {
            mappings.push(Mapping { column, point, r#type, unit });
        }
    }
    mappings
}
