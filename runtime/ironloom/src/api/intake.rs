//! What bodies of all forms have in common: the checks of a reading, the numbers of points, and bad readings.

use std::collections::BTreeMap;
use std::sync::Arc;

use hashbrown::HashMap;

use super::explain;
use super::facade::{Detail, IngestRules, Place};
use ironloom_types::clock::Timestamp;
use ironloom_types::ids::{PointNumber, PointPath, RESERVED_SEGMENT};
use ironloom_types::limits::MAX_READING_BYTES;
use ironloom_types::readings::{Columns, NewPoint, Quality, ValueRef};

/// The result of reading a body.
#[derive(Debug, Default)]
pub(crate) struct Parsed {
    /// The good readings.
    pub columns: Columns,
    /// The points that the look-up didn't know, by their pending numbers.
    pub new_points: Vec<NewPoint>,
    /// The bad lines, at most as many as asked for.
    pub bad: Vec<Detail>,
    /// The number of bad lines; without `partial`, reading stops once `bad` is full.
    pub bad_lines: u64,
    /// The body, or its schema, is bad as a whole: none of its lines is a good one.
    pub is_unusable: bool,
    /// The number of lines, without empty ones; of an Arrow stream, of rows.
    pub lines: u64,
    /// A line has no `at`, and there is no clock to take it from.
    pub needs_clock: bool,
}

impl Parsed {
    /// A body that is bad as a whole: its one bad line is itself.
    pub(super) fn unusable(bad: Vec<Detail>) -> Self {
        Self { bad, bad_lines: 1, is_unusable: true, lines: 1, ..Self::default() }
    }
}

/// Bad lines by the kind of their error.
pub(super) type BadLines = BTreeMap<String, u64>;

impl Parsed {
    /// Returns the bad lines by kind. Those beyond the ones that are named weren't looked at for one.
    pub(super) fn bad_by_kind(&self) -> BadLines {
        let mut all = BadLines::new();
        for bad in &self.bad {
            *all.entry(bad.kind.clone()).or_default() += 1;
        }
        let others = self.bad_lines.saturating_sub(self.bad.len() as u64);
        if others > 0 {
            all.insert("others".to_owned(), others);
        }
        all
    }
}

/// The mode of reading a body.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Mode {
    /// Takes the good lines although there are bad ones.
    pub partial: bool,
    /// The most bad lines that are named.
    pub named: usize,
}

impl Mode {
    /// The whole body or nothing.
    pub(crate) const WHOLE: Self = Self { partial: false, named: 10 };
    /// The lines before the first bad one.
    pub(crate) const UNTIL_BAD: Self = Self { partial: false, named: 1 };
    /// The valid readings.
    pub(crate) const PARTIAL: Self = Self { partial: true, named: 100 };
}

/// A reading without its point, as a body has it.
#[derive(Clone, Copy, Debug)]
pub(super) struct Given<'a> {
    pub value: ValueRef<'a>,
    pub at: Option<Timestamp>,
    pub quality: Quality,
}

/// The error of a reading, which is rare.
pub(super) type Checked<T> = Result<T, Box<Detail>>;

/// Bytes of a body that are read with one look-up of names: the fold waits for names.
pub(super) const BYTES_AT_ONCE: usize = 64 << 10;

/// Takes readings one after the other. `F` gives look-ups for the numbers of the points that are known; each is held for
/// a part of the body only.
pub(super) struct Intake<F, L> {
    rules: IngestRules,
    lookups: F,
    /// The look-up at hand, and how many bytes it was used for.
    lookup: Option<L>,
    looked: usize,
    mode: Mode,
    /// What has been taken.
    pub parsed: Parsed,
    /// The number of each new point.
    pending: HashMap<Arc<str>, PointNumber>,
    /// The bytes of their paths.
    pub new_bytes: usize,
}

impl<F: Fn() -> L, L: Fn(&str) -> Option<PointNumber>> Intake<F, L> {
    /// Makes room for about so many readings.
    pub(super) fn new(rules: IngestRules, lookups: F, mode: Mode, readings: usize) -> Self {
        let parsed = Parsed { columns: Columns::with_capacity(readings), ..Parsed::default() };
        let pending = HashMap::new();
        Self { rules, lookups, lookup: None, looked: 0, mode, parsed, pending, new_bytes: 0 }
    }

    /// Counts a line or row of so many bytes.
    pub(super) fn begin(&mut self, bytes: usize) {
        self.parsed.lines += 1;
        self.look(bytes);
        if self.looked > BYTES_AT_ONCE {
            self.lookup = None;
            self.looked = 0;
        }
    }

    /// Counts bytes that are read while the look-up is at hand.
    pub(super) fn look(&mut self, bytes: usize) {
        self.looked += bytes;
    }

    /// Checks a reading and takes it. Its point is looked up last, so that a bad reading makes none.
    pub(super) fn take<E: From<Box<Detail>>>(
        &mut self,
        given: Given<'_>,
        point: impl FnOnce(&mut Self) -> Result<PointNumber, E>,
    ) -> Result<(), E> {
        let at = self.check(given)?;
        let Some(at) = at.or(self.rules.now) else {
            self.parsed.needs_clock = true;
            return Ok(());
        };
        let number = point(self)?;
        self.parsed.columns.push(number, at, given.quality, given.value);
        Ok(())
    }

    /// Checks value and time, and returns the time.
    fn check(&self, Given { value, at, quality }: Given<'_>) -> Checked<Option<Timestamp>> {
        match value {
            ValueRef::Missing if quality != Quality::Bad => Err(explain::missing_value().into()),
            ValueRef::Real(real) if !real.is_finite() => Err(explain::not_finite(real).into()),
            ValueRef::Text(text) if text.len() > MAX_READING_BYTES => {
                Err(explain::too_long(text.len()).into())
            }
            ValueRef::Blob(bytes) if bytes.len() > MAX_READING_BYTES => {
                Err(explain::too_long(bytes.len()).into())
            }
            _ => match at {
                Some(at) if at > self.rules.latest => Err(explain::future(at, self.rules.latest).into()),
                at => Ok(at),
            },
        }
    }

    /// The number of a point; a pending one if it is new.
    pub(super) fn number(&mut self, path: &str) -> Checked<PointNumber> {
        if is_reserved(path) {
            return Err(explain::reserved(path).into());
        }
        let lookup = self.lookup.get_or_insert_with(&self.lookups);
        if let Some(number) = lookup(path) {
            return Ok(number);
        }
        if let Some(number) = self.pending.get(path) {
            return Ok(*number);
        }
        let path = PointPath::new(self.rules.tenant, path).map_err(|error| explain::bad_point(&error))?;
        if self.parsed.new_points.len() >= self.rules.new_points {
            return Err(explain::too_many_points(&path).into());
        }
        let number = PointNumber::pending(self.parsed.new_points.len());
        self.new_bytes += path.as_str().len();
        self.pending.insert(path.to_arc(), number);
        self.parsed.new_points.push(NewPoint { path, unit: None });
        Ok(number)
    }

    /// Counts a bad line, and names it where it is one of the first, in a text of bounded length; `false` where it is no use to go on.
    pub(super) fn bad(&mut self, place: impl Fn() -> Place, told: impl FnOnce() -> Detail) -> bool {
        self.parsed.bad_lines += 1;
        if self.parsed.bad.len() < self.mode.named {
            let mut detail = told().shortened();
            let Place { line, item, batch, row, .. } = place();
            let found = detail.place.get_or_insert_with(Place::default);
            (found.line, found.item) = (line.or(found.line), item);
            (found.batch, found.row) = (batch.or(found.batch), row);
            self.parsed.bad.push(detail);
        }
        self.mode.partial || self.parsed.bad.len() < self.mode.named
    }

    /// Refuses the body as a whole.
    pub(super) fn refuse(&mut self, detail: Detail) {
        self.parsed = Parsed::unusable(vec![detail]);
    }
}

fn is_reserved(path: &str) -> bool {
    match path.strip_prefix(RESERVED_SEGMENT) {
        Some(rest) => rest.is_empty() || rest.starts_with('/'),
        None => false,
    }
}
