//! How the replay of a CSV file is configured.

use std::path::PathBuf;
use std::sync::Arc;

use serde::Deserialize;

use super::template::Template;
use crate::config::Span;
use crate::config::reader::Section;

/// A column's cells become readings of this type.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum CellType {
    /// `true` or `false`, `1` or `0`.
    Boolean,
    /// A 64-bit integer.
    Integer,
    /// A 64-bit real.
    Real,
    /// The cell as it is.
    Text,
}

/// Where the cells of a column go.
#[derive(Clone, Debug, PartialEq)]
pub struct Mapping {
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
#[derive(Clone, Debug, Default, PartialEq)]
pub struct CsvConfig {
    /// The file.
    pub path: PathBuf,
    /// The column with the time.
    pub at: String,
    /// Seconds of the file in a second; 0: as fast as it goes.
    pub speed: f64,
    /// How often the file is read; `None`: without end.
    pub laps: Option<u64>,
    /// What is added to the times at each further lap.
    pub shift: Span,
    /// Cells that hold no value.
    pub missing: Vec<String>,
    /// Where the columns go, in the order of the columns' names.
    pub mappings: Vec<Mapping>,
}

#[derive(Deserialize)]
#[serde(untagged, expecting = "must be true, false or a number of laps")]
enum Loop {
    Endless(bool),
    Laps(u64),
}

impl CsvConfig {
    pub(super) fn read(mut section: Section<'_, '_>) -> Option<Self> {
        let path = section.required("path");
        let at = section.required("at");
        let speed = section.checked("speed", |speed: f64| {
            if speed.is_finite() && speed >= 0.0 { Ok(speed) } else { Err("must not be negative".to_owned()) }
        });
        let laps = section.checked("loop", |laps: Loop| match laps {
            Loop::Endless(true) => Ok(None),
            Loop::Endless(false) => Ok(Some(1)),
            Loop::Laps(0) => Err("must be 1 or more, true or false".to_owned()),
            Loop::Laps(laps) => Ok(Some(laps)),
        });
        let shift = section.optional("shift");
        let missing = section.optional("missing");
        let mut columns = section.table("columns");
        let mut mappings = Vec::new();
        for column in columns.names() {
            let mut entry = columns.table(&column);
            let point = entry.checked_required("point", |text: String| Template::parse(&text));
            let r#type = entry.optional("type").unwrap_or(CellType::Real);
            let unit = entry.optional::<String>("unit").map(Into::into);
            entry.finish();
            mappings.extend(point.map(|point| Mapping { column, point, r#type, unit }));
        }
        section.finish();
        if mappings.is_empty() {
            section.fault("has no [….columns.NAME] with a `point`, so it would bring nothing");
        }
        let laps = laps.unwrap_or(Some(1));
        if laps != Some(1) && shift.is_none_or(|shift: Span| shift.0 == 0) {
            section.fault("needs a `shift` above 0 with `loop`, or times would go back at each lap");
        }
        Some(Self {
            path: path?,
            at: at?,
            speed: speed.unwrap_or(0.0),
            laps,
            shift: shift.unwrap_or_default(),
            missing: missing.unwrap_or_else(|| vec![String::new(), "NA".to_owned()]),
            mappings,
        })
    }
}
