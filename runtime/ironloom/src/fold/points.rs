//! All points of the tenant: paths, units and latest values.
//!
//! Names are written once and read with every reading, latest values are written with every
//! reading and read seldom: two locks, so that neither waits for the other.

use bytes::Bytes;
use hashbrown::HashMap;
use parking_lot::{RwLock, RwLockReadGuard};
use serde::{Deserialize, Serialize};

use ironloom_types::clock::Timestamp;
use ironloom_types::ids::{PointNumber, PointPath, Sequence};
use ironloom_types::readings::{Columns, NewPoint, Quality, Tag, Tags, ValueRef};

/// Points of one page of latest values.
pub const PAGE: usize = 256;
/// Texts and blobs up to this length stay in memory; longer ones are read from the journal.
const INLINE: usize = 64;

/// The points of a tenant.
#[derive(Debug, Default)]
pub struct Points {
    names: RwLock<Names>,
    latest: RwLock<LatestValues>,
}

/// Paths and units, by number and by path.
#[derive(Debug, Default)]
pub struct Names {
    by_path: HashMap<PointPath, PointNumber>,
    by_number: Vec<NewPoint>,
}

impl Names {
    /// The number of the point with this path.
    pub fn number(&self, path: &str) -> Option<PointNumber> {
        self.by_path.get(path).copied()
    }

    /// The point with this number.
    pub fn point(&self, number: PointNumber) -> Option<&NewPoint> {
        self.by_number.get(number.0 as usize)
    }

    /// How many points there are; the next one gets this number.
    pub fn len(&self) -> usize {
        self.by_number.len()
    }

    /// Whether there are none.
    pub fn is_empty(&self) -> bool {
        self.by_number.is_empty()
    }

    /// All points in the order of their numbers.
    pub fn iter(&self) -> impl Iterator<Item = (PointNumber, &NewPoint)> {
        self.by_number.iter().enumerate().map(|(number, point)| (PointNumber(number as u32), point))
    }
}

/// The latest reading of a point: the last in the journal, whatever its `at`.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
pub struct Latest {
    /// Its place in the stream; 0 where the point has none.
    pub sequence: Sequence,
    /// When the source took it.
    pub at: Timestamp,
    /// Its quality.
    pub quality: Quality,
    /// The type of its value.
    pub tag: Tag,
    /// Its value, but for texts and blobs.
    pub word: u64,
}

const NONE: Latest =
    Latest { sequence: Sequence(0), at: Timestamp(0), quality: Quality::Good, tag: Tag::Missing, word: 0 };

/// A latest value on its own.
#[derive(Clone, Debug, PartialEq)]
pub enum LatestValue {
    /// No value.
    Missing,
    /// A boolean.
    Boolean(bool),
    /// An integer.
    Integer(i64),
    /// A real.
    Real(f64),
    /// A text.
    Text(String),
    /// Bytes.
    Blob(Bytes),
    /// Too long to be kept in memory: it stands in the journal.
    InJournal,
}

#[derive(Debug, Default)]
struct LatestValues {
    by_number: Vec<Latest>,
    inline: HashMap<PointNumber, Bytes>,
    /// Pages that changed since they were last written to the store.
    dirty: Vec<bool>,
}

/// A page of latest values as the store keeps it.
#[derive(Debug, Serialize, Deserialize)]
struct Page {
    latest: Vec<Latest>,
    inline: Vec<(u32, Vec<u8>)>,
}

impl Points {
    /// Reads names. The guard is short-lived: the fold waits for it to add points.
    pub fn names(&self) -> RwLockReadGuard<'_, Names> {
        self.names.read()
    }

    /// Adds the next point.
    pub fn add(&self, number: PointNumber, point: NewPoint) {
        let mut names = self.names.write();
        assert!(
            number.0 as usize == names.by_number.len(),
            "points are numbered without holes, in the log's order"
        );
        names.by_path.insert(point.path.clone(), number);
        names.by_number.push(point);
        let mut latest = self.latest.write();
        latest.by_number.push(NONE);
        let pages = latest.by_number.len().div_ceil(PAGE);
        latest.dirty.resize(pages, false);
    }

    /// Takes the readings of one record; they have real numbers.
    pub fn observe(&self, first: Sequence, columns: &Columns) {
        let mut latest = self.latest.write();
        let LatestValues { by_number, inline, dirty } = &mut *latest;
        let heap = match &columns.tags {
            Tags::Same(tag) => tag.in_heap(),
            Tags::Each(_) => true,
        };
        for row in 0..columns.len() {
            let number = columns.points[row];
            let index = number.0 as usize;
            let sequence = Sequence(first.0 + row as u64);
            // On replay the store's pages can be ahead of the record.
            if by_number[index].sequence >= sequence {
                continue;
            }
            let tag = columns.tag(row);
            by_number[index] = Latest {
                sequence,
                at: columns.at[row],
                quality: columns.quality(row),
                tag,
                word: columns.words[row],
            };
            dirty[index / PAGE] = true;
            if heap {
                let bytes = match columns.value(row) {
                    ValueRef::Text(text) => Some(text.as_bytes()),
                    ValueRef::Blob(bytes) => Some(bytes),
                    _ => None,
                };
                match bytes {
                    Some(bytes) if bytes.len() <= INLINE => {
                        inline.insert(number, Bytes::copy_from_slice(bytes));
                    }
                    _ => {
                        inline.remove(&number);
                    }
                }
            } else if !inline.is_empty() {
                inline.remove(&number);
            }
        }
    }

    /// The latest reading of a point; `None` where it has none yet.
    pub fn latest(&self, number: PointNumber) -> Option<(Latest, LatestValue)> {
        let values = self.latest.read();
        let latest = *values.by_number.get(number.0 as usize)?;
        if latest.sequence == Sequence(0) {
            return None;
        }
        let stored = values.inline.get(&number);
        let value = match (latest.tag, stored) {
            (Tag::Missing, _) => LatestValue::Missing,
            (Tag::Boolean, _) => LatestValue::Boolean(latest.word != 0),
            (Tag::Integer, _) => LatestValue::Integer(latest.word.cast_signed()),
            (Tag::Real, _) => LatestValue::Real(f64::from_bits(latest.word)),
            (Tag::Text, Some(bytes)) => LatestValue::Text(String::from_utf8_lossy(bytes).into_owned()),
            (Tag::Blob, Some(bytes)) => LatestValue::Blob(bytes.clone()),
            (Tag::Text | Tag::Blob, None) => LatestValue::InJournal,
        };
        Some((latest, value))
    }

    /// The pages that changed since the last call, encoded.
    pub fn take_dirty_pages(&self) -> Vec<(u32, Vec<u8>)> {
        let mut values = self.latest.write();
        let mut pages = Vec::new();
        for page in 0..values.dirty.len() {
            if !std::mem::take(&mut values.dirty[page]) {
                continue;
            }
            let range = page * PAGE..((page + 1) * PAGE).min(values.by_number.len());
            let latest = values.by_number[range.clone()].to_vec();
            let inline = range
                .filter_map(|number| {
                    let number = number as u32;
                    values.inline.get(&PointNumber(number)).map(|bytes| (number, bytes.to_vec()))
                })
                .collect();
            // A page holds nothing that postcard can't express.
            let bytes = postcard::to_stdvec(&Page { latest, inline }).unwrap_or_default();
            assert!(!bytes.is_empty(), "a page of latest values is encoded");
            pages.push((page as u32, bytes));
        }
        pages
    }

    /// Takes a page from the store, at start and after all points are known. Each entry carries its
    /// sequence, so that a page that is ahead of the fold position does no harm.
    pub fn load_page(&self, page: u32, bytes: &[u8]) -> Result<(), postcard::Error> {
        let stored: Page = postcard::from_bytes(bytes)?;
        let mut values = self.latest.write();
        let first = page as usize * PAGE;
        for (offset, latest) in stored.latest.into_iter().enumerate() {
            if let Some(place) = values.by_number.get_mut(first + offset) {
                *place = latest;
            }
        }
        values
            .inline
            .extend(stored.inline.into_iter().map(|(number, bytes)| (PointNumber(number), bytes.into())));
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn points(paths: &[&str]) -> Points {
        let points = Points::default();
        for (number, path) in paths.iter().enumerate() {
            let path = PointPath::new(path).unwrap();
            points.add(PointNumber(number as u32), NewPoint { path, unit: None });
        }
        points
    }

    #[test]
    fn the_latest_is_the_last_in_the_journal_and_survives_its_page() {
        let points = points(&["a", "b"]);
        let mut columns = Columns::default();
        columns.push(PointNumber(0), Timestamp(20), Quality::Good, ValueRef::Real(1.0));
        columns.push(PointNumber(0), Timestamp(10), Quality::Uncertain, ValueRef::Text("late"));
        points.observe(Sequence(7), &columns);
        let expected = LatestValue::Text("late".into());
        let (latest, value) = points.latest(PointNumber(0)).unwrap();
        assert_eq!(
            (latest.sequence, latest.at, latest.quality),
            (Sequence(8), Timestamp(10), Quality::Uncertain)
        );
        assert_eq!(value, expected);
        assert_eq!(points.latest(PointNumber(1)), None);

        let pages = points.take_dirty_pages();
        assert_eq!(pages.len(), 1);
        assert!(points.take_dirty_pages().is_empty());
        let again = self::points(&["a", "b"]);
        again.load_page(pages[0].0, &pages[0].1).unwrap();
        assert_eq!(again.latest(PointNumber(0)).unwrap().1, expected);
        // An older record, replayed over a page that is ahead of it, changes nothing.
        let mut older = Columns::default();
        older.push(PointNumber(0), Timestamp(1), Quality::Good, ValueRef::Real(9.0));
        again.observe(Sequence(3), &older);
        assert_eq!(again.latest(PointNumber(0)).unwrap().1, expected);
    }
}
