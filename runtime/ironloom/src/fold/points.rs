//! All points of the tenant: paths, units and latest values.
//!
//! Names are written once and read with every reading, latest values are written with every
//! reading and read seldom: two locks, so that neither waits for the other.

mod names;

use std::sync::Arc;

use bytes::Bytes;
use hashbrown::HashMap;
use parking_lot::{RwLock, RwLockReadGuard, RwLockWriteGuard};
use serde::{Deserialize, Serialize};

pub(super) use self::names::{Loaded, Retired};
pub(crate) use self::names::{Names, is_of_output};
use super::stored::{StoredPoint, StoredPoints, decode, encode};
use crate::records::admin::CarriedReading;
use ironloom_types::clock::Timestamp;
use ironloom_types::ids::{LastSequences, PointNumber, PointPath, Sequence, TenantId};
use ironloom_types::readings::{Columns, NewPoint, Quality, Tag, Tags, Value, ValueRef};

/// Points of one page of the store: of names, and of latest values.
pub(crate) const PAGE: usize = 256;
/// Texts and blobs up to this length stay in memory; longer ones are read from the journal.
const INLINE: usize = 64;
/// Points that are looked at while their names are held.
const AT_ONCE: usize = 4_096;

/// The points of a tenant.
#[derive(Debug, Default)]
pub(crate) struct Points {
    names: RwLock<Names>,
    latest: RwLock<LatestValues>,
}

/// The latest reading of a point: the last in the journal, whatever its `at`.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
pub(crate) struct Latest {
    /// Its place in the stream; 0 where the point has none.
    pub sequence: Sequence,
    /// The time at its source.
    pub at: Timestamp,
    pub quality: Quality,
    /// The type of its value.
    pub tag: Tag,
    /// Its value; of a text or blob its place in its record.
    pub word: u64,
}

const NONE: Latest =
    Latest { sequence: Sequence(0), at: Timestamp(0), quality: Quality::Good, tag: Tag::Missing, word: 0 };

/// A latest value on its own.
#[derive(Clone, Debug, PartialEq)]
pub(crate) enum LatestValue {
    Known(Value),
    /// Too long to be kept in memory: it stands in the journal.
    InJournal,
}

#[derive(Debug, Default)]
struct LatestValues {
    by_number: Vec<Latest>,
    inline: HashMap<PointNumber, Bytes>,
    /// What pages are to the store.
    pages: Vec<Written>,
    /// The last sequence that a checkpoint has folded.
    folded_through: LastSequences,
}

/// A page of latest values, as the store has it.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
enum Written {
    /// As it is.
    #[default]
    Now,
    /// Points have newer readings. It is written where one of them is folded that none has come after.
    Behind,
    /// Points were removed, or have readings of others: it is written with the next checkpoint.
    Changed,
}

/// A page of latest values as the store keeps it.
#[derive(Debug, Serialize, Deserialize)]
struct Page {
    latest: Vec<Latest>,
    inline: Vec<(u32, Vec<u8>)>,
}

impl Points {
    /// Reads names. The guard is short-lived: the fold waits for it to add points.
    pub(crate) fn names(&self) -> RwLockReadGuard<'_, Names> {
        self.names.read()
    }

    /// Shows `see` each of these points that is there. In parts: the fold waits for the names.
    pub(crate) fn each_of(&self, numbers: &[PointNumber], mut see: impl FnMut(PointNumber, &NewPoint)) {
        for part in numbers.chunks(AT_ONCE) {
            let names = self.names();
            for number in part {
                if let Some(point) = names.point(*number) {
                    see(*number, point);
                }
            }
        }
    }

    /// Shows `see` the points that are there from this number on, in the order of their numbers, and returns the number that the next
    /// point gets. In parts: the fold waits for the names.
    pub(crate) fn each_from(
        &self,
        first: PointNumber,
        mut see: impl FnMut(PointNumber, &NewPoint),
    ) -> PointNumber {
        let mut next = first.0;
        loop {
            let names = self.names();
            let end = (names.given() as u32).min(next.saturating_add(AT_ONCE as u32));
            if end <= next {
                return PointNumber(next);
            }
            for number in (next..end).map(PointNumber) {
                if let Some(point) = names.point(number) {
                    see(number, point);
                }
            }
            next = end;
        }
    }

    /// Shows `see` the points that are gone and whose readings are given out, as they were, in the order of their numbers. In
    /// parts: the fold waits for the names.
    pub(crate) fn each_retired(&self, mut see: impl FnMut(PointNumber, &NewPoint)) {
        let mut next = PointNumber(0);
        loop {
            let names = self.names();
            let part = names.retired.range(next..).take(AT_ONCE);
            let mut seen = 0;
            for (number, retired) in part {
                see(*number, &retired.was);
                (seen, next) = (seen + 1, PointNumber(number.0 + 1));
            }
            if seen < AT_ONCE {
                return;
            }
        }
    }

    /// Adds the next points, in the order of their numbers. `None` stands for one that was removed.
    pub(super) fn add(&self, points: impl IntoIterator<Item = (PointNumber, Option<NewPoint>)>) {
        let mut names = self.names.write();
        for (number, point) in points {
            names.put(number, point);
            names.mark(number);
        }
        self.make_room(names);
    }

    /// Adds points from the store, at start.
    pub(super) fn load(&self, points: impl IntoIterator<Item = (PointNumber, Loaded)>) {
        let mut names = self.names.write();
        for (number, point) in points {
            match point {
                Loaded::Removed => names.put(number, None),
                Loaded::There(point, description) => {
                    names.put(number, Some(point));
                    names.descriptions.extend(description.map(|description| (number, description)));
                }
                Loaded::Retired(retired) => {
                    names.put(number, None);
                    names.retired.insert(number, retired);
                }
            }
        }
        self.make_room(names);
    }

    /// Makes room for the latest values of new points.
    fn make_room(&self, names: RwLockWriteGuard<'_, Names>) {
        let given = names.by_number.len();
        // Before anybody can find the new names: whoever has a number may ask for its latest value.
        let mut latest = self.latest.write();
        latest.by_number.resize(given, NONE);
        latest.pages.resize(given.div_ceil(PAGE), Written::Now);
    }

    /// Adds points, for tests without a fold.
    #[cfg(test)]
    pub(crate) fn add_for_test(&self, points: impl IntoIterator<Item = (PointNumber, Option<NewPoint>)>) {
        self.add(points);
    }

    /// Removes points, for tests without a fold.
    #[cfg(test)]
    pub(crate) fn remove_for_test(&self, numbers: &[PointNumber]) {
        self.retire(numbers, false);
    }

    /// Gives units to points that have none; nothing happens to those that have one.
    pub(super) fn set_units(&self, units: &[(PointNumber, Arc<str>)]) {
        let mut names = self.names.write();
        for (number, unit) in units {
            let point = names.by_number.get_mut(number.0 as usize).and_then(Option::as_mut);
            if let Some(point) = point {
                point.unit.get_or_insert_with(|| Arc::clone(unit));
                names.mark(*number);
            }
        }
    }

    /// Takes over what people say of a point: its unit and what it is.
    pub(super) fn set(&self, number: PointNumber, unit: Option<Arc<str>>, description: Option<Arc<str>>) {
        let mut names = self.names.write();
        let Some(point) = names.by_number.get_mut(number.0 as usize).and_then(Option::as_mut) else { return };
        point.unit = unit;
        match description {
            Some(description) => drop(names.descriptions.insert(number, description)),
            None => drop(names.descriptions.remove(&number)),
        }
        names.mark(number);
    }

    /// Removes points, in the order of their numbers: their paths are free again, their numbers are not. Where
    /// `readings` stay, these have the paths further on.
    pub(super) fn retire(&self, numbers: &[PointNumber], readings: bool) {
        let mut names = self.names.write();
        let mut latest = self.latest.write();
        for number in numbers {
            let was = names.point(*number).cloned();
            match (readings, was) {
                (true, Some(was)) => {
                    names.retired.insert(*number, Retired { path: was.path.clone(), was });
                }
                (true, None) => {}
                (false, _) => drop(names.retired.remove(number)),
            }
            names.mark(*number);
            let index = number.0 as usize;
            // Even of one that was removed before: a replay may have shown it older readings.
            latest.by_number[index] = NONE;
            latest.inline.remove(number);
            latest.pages[index / PAGE] = Written::Changed;
        }
        names.take_out(numbers);
    }

    /// The readings of points that were retired have another path from here on.
    pub(super) fn move_retired(&self, numbers: &[PointNumber], path: &PointPath) {
        let mut names = self.names.write();
        for number in numbers {
            if let Some(retired) = names.retired.get_mut(number) {
                retired.path = path.clone();
                names.mark(*number);
            }
        }
    }

    /// Takes over the latest reading of the point that this one was.
    pub(super) fn carry(&self, number: PointNumber, latest: &CarriedReading) {
        let mut columns = Columns::default();
        columns.push(number, latest.at, latest.quality, latest.value.as_ref());
        self.observe(latest.sequence, &columns);
        // The fold has long been past that reading.
        self.latest.write().pages[number.0 as usize / PAGE] = Written::Changed;
    }

    /// Takes the readings of one record; they have real numbers.
    pub(super) fn observe(&self, first: Sequence, columns: &Columns) {
        let mut latest = self.latest.write();
        let LatestValues { by_number, inline, pages, .. } = &mut *latest;
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
            let page = &mut pages[index / PAGE];
            if *page == Written::Now {
                *page = Written::Behind;
            }
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
    pub(crate) fn latest(&self, number: PointNumber) -> Option<(Latest, LatestValue)> {
        let values = self.latest.read();
        let latest = *values.by_number.get(number.0 as usize)?;
        if latest.sequence == Sequence(0) {
            return None;
        }
        let stored = values.inline.get(&number);
        let value = match (latest.tag, stored) {
            (Tag::Missing, _) => Value::Missing,
            (Tag::Boolean, _) => Value::Boolean(latest.word != 0),
            (Tag::Integer, _) => Value::Integer(latest.word.cast_signed()),
            (Tag::Real, _) => Value::Real(f64::from_bits(latest.word)),
            (Tag::Text, Some(bytes)) => Value::Text(String::from_utf8_lossy(bytes).into()),
            (Tag::Blob, Some(bytes)) => Value::Blob(bytes[..].into()),
            (Tag::Text | Tag::Blob, None) => return Some((latest, LatestValue::InJournal)),
        };
        Some((latest, LatestValue::Known(value)))
    }

    /// How many pages are not in the store as they are, of names and of latest values.
    pub(crate) fn dirty_pages(&self) -> usize {
        // One after the other: names are locked before latest values, never behind them.
        let names = self.names.read().dirty.iter().filter(|dirty| **dirty).count();
        names + self.latest.read().pages.iter().filter(|page| **page != Written::Now).count()
    }

    /// The pages of names that changed since the last call.
    pub(super) fn take_dirty_names(&self) -> Vec<u32> {
        let mut names = self.names.write();
        let dirty = names.dirty.iter_mut().enumerate();
        dirty.filter_map(|(page, dirty)| std::mem::take(dirty).then_some(page as u32)).collect()
    }

    /// A page of names as it is now, encoded.
    pub(super) fn page_of_names(&self, page: u32) -> Bytes {
        let names = self.names.read();
        let first = page as usize * PAGE;
        let points = &names.by_number[first..(first + PAGE).min(names.by_number.len())];
        let stored = points.iter().zip(first..).map(|(point, number)| {
            let number = PointNumber(number as u32);
            match (point, names.retired.get(&number)) {
                (Some(point), _) => StoredPoint::There {
                    tenant: point.path.tenant(),
                    path: point.path.as_str(),
                    unit: point.unit.as_deref(),
                    description: names.description(number).map(|text| &**text),
                },
                (None, Some(Retired { path, was })) => StoredPoint::Retired {
                    tenant: path.tenant(),
                    path: path.as_str(),
                    was: (was.path != *path).then_some(was.path.as_str()),
                    unit: was.unit.as_deref(),
                },
                (None, None) => StoredPoint::Removed,
            }
        });
        encode::<StoredPoints<'_>>(&stored.collect())
    }

    /// Shows `f` the pages that a checkpoint writes which folds readings through this sequence: those with one among
    /// them that is still the latest of its point, and was not folded before. A replay brings all later ones. One
    /// after the other: the fold waits for no more than a page.
    pub(super) fn take_pages<E>(
        &self,
        through: &LastSequences,
        mut f: impl FnMut(u32, Bytes) -> Result<(), E>,
    ) -> Result<(), E> {
        let (count, after) = {
            let latest = self.latest.read();
            (latest.pages.len(), latest.folded_through.clone())
        };
        for page in 0..count {
            {
                let names = self.names.read();
                let mut latest = self.latest.write();
                let LatestValues { by_number, pages, .. } = &mut *latest;
                let range = page * PAGE..((page + 1) * PAGE).min(by_number.len());
                let is_folded = |number: usize| {
                    let path = names.path_of_reading(PointNumber(number as u32));
                    let tenant = path.map_or(TenantId::NOBODY, PointPath::tenant);
                    let sequence = by_number[number].sequence;
                    after.of(tenant) < sequence && sequence <= through.of(tenant)
                };
                let is_due = match pages[page] {
                    Written::Now => false,
                    Written::Behind => range.clone().any(is_folded),
                    Written::Changed => true,
                };
                if !is_due {
                    continue;
                }
                pages[page] = Written::Now;
            }
            // What comes in between makes it dirty again.
            f(page as u32, self.page(page as u32))?;
        }
        self.latest.write().folded_through = through.clone();
        Ok(())
    }

    /// A page as it is now, encoded. What the fold waits for is one page's copy.
    pub(super) fn page(&self, page: u32) -> Bytes {
        let page = {
            let values = self.latest.read();
            let first = page as usize * PAGE;
            let range = first..(first + PAGE).min(values.by_number.len());
            let inline = |number: usize| {
                let number = number as u32;
                Some((number, values.inline.get(&PointNumber(number))?.to_vec()))
            };
            Page {
                latest: values.by_number[range.clone()].to_vec(),
                inline: range.filter_map(inline).collect(),
            }
        };
        encode(&page)
    }

    /// The point whose latest reading lies behind its tenant's last one: a reading that was
    /// acknowledged and isn't there.
    pub(super) fn ahead_of(&self, last: &LastSequences) -> Option<(PointPath, Sequence)> {
        let names = self.names.read();
        let values = self.latest.read();
        // One that was removed since nobody reads.
        let ahead = names.iter().map(|(number, point)| (point, values.by_number[number.0 as usize].sequence));
        let (point, sequence) = ahead
            .filter(|(point, sequence)| *sequence > last.of(point.path.tenant()))
            .max_by_key(|(_, sequence)| *sequence)?;
        Some((point.path.clone(), sequence))
    }

    /// Takes a page from the store, at start and after all points are known. Each entry carries its
    /// sequence, so that a page that is ahead of the fold position does no harm.
    pub(super) fn load_page(&self, page: u32, bytes: &[u8]) -> Result<(), postcard::Error> {
        let stored: Page = decode(bytes)?;
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
mod tests;
