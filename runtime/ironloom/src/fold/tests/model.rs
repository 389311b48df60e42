//! What should be there: plain maps, written from what the records mean and not from the fold.

use std::collections::{BTreeMap, BTreeSet};

use bytes::Bytes;

use crate::fold::submission::{Accepted, Refusal};
use crate::records::commit::{AlarmRecord, DeadLetter};
use crate::records::installation::Standing;
use crate::records::lane::LaneMeta;
use ironloom_types::ids::Sequence;
use ironloom_types::readings::{Quality, Value};

/// How many Idempotency-Keys the fold remembers here.
pub(super) const REQUEST_KEYS: usize = 3;

/// One reading of the journal; its sequence is its place, counted from 1.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct Reading {
    pub path: String,
    pub at: u64,
    pub quality: Quality,
    pub value: Value,
    pub time: u64,
    pub hops: u8,
    pub origin: u64,
}

#[derive(Clone, Debug)]
pub(super) struct Lane {
    pub id: String,
    /// First segments of the paths that it takes.
    pub takes: Vec<&'static str>,
    pub meta: LaneMeta,
    pub standing: Standing,
    pub state: BTreeMap<String, Bytes>,
    pub timers: BTreeMap<String, u64>,
    pub alarms: BTreeMap<String, AlarmRecord>,
    pub dead_letters: BTreeMap<u64, DeadLetter>,
    pub invocations: BTreeSet<(u64, u32)>,
}

impl Lane {
    pub(super) fn takes(&self, reading: &Reading) -> bool {
        let matches = |first: &&str| reading.path.strip_prefix(first)?.strip_prefix('/');
        let rest = self.takes.iter().find_map(matches);
        reading.hops <= 16 && rest.is_some_and(|rest| !rest.contains('/'))
    }
}

#[derive(Clone, Debug)]
struct Remembered {
    request: u8,
    answer: Accepted,
}

#[derive(Clone, Debug, Default)]
pub(super) struct Model {
    /// Paths by number; `None` where a point was removed.
    pub points: Vec<Option<String>>,
    pub journal: Vec<Reading>,
    /// The number of each reading's point.
    pub numbers: Vec<usize>,
    pub receipts: BTreeMap<String, Vec<u8>>,
    pub lanes: BTreeMap<u64, Lane>,
    pub removed: BTreeSet<u64>,
    /// The ids of those that are kept, not purged.
    pub kept: BTreeMap<u64, String>,
    /// Generations of which nothing is left but, until a checkpoint has ended, perhaps their own key.
    pub purged: BTreeSet<u64>,
    /// Those of which nothing is left.
    pub forgotten: BTreeSet<u64>,
    pub generation: u64,
    pub time: u64,
    /// The time of the last record: a restart goes back to it, or to that of the checkpoint.
    pub time_of_record: u64,
    requests: BTreeMap<u8, Remembered>,
}

impl Model {
    fn add(&mut self, rows: Vec<Reading>) {
        for row in rows {
            let known = self.points.iter().position(|path| path.as_ref() == Some(&row.path));
            self.numbers.push(known.unwrap_or_else(|| {
                self.points.push(Some(row.path.clone()));
                self.points.len() - 1
            }));
            self.journal.push(row);
        }
        self.time_of_record = self.time;
    }

    /// What a push is answered, and what it does.
    pub(super) fn push(
        &mut self,
        mut rows: Vec<Reading>,
        key: Option<(u8, u8)>,
        receipt: Option<(String, Vec<u8>)>,
    ) -> Result<Accepted, Refusal> {
        // No test runs for the hour after which a key is forgotten for its age.
        if let Some((key, request)) = key
            && let Some(known) = self.requests.get(&key)
        {
            return match known.request == request {
                true => Ok(Accepted { duplicate: true, ..known.answer }),
                false => Err(Refusal::KeyReused),
            };
        }
        self.time = rows.iter().map(|row| row.at).fold(self.time, u64::max);
        let accepted = rows.len() as u64;
        for row in &mut rows {
            row.time = self.time;
        }
        self.add(rows);
        let answer = Accepted { accepted, through: Sequence(self.journal.len() as u64), duplicate: false };
        if let Some((key, request)) = key {
            if self.requests.len() == REQUEST_KEYS {
                let oldest = self.requests.iter().min_by_key(|(_, known)| known.answer.through);
                let oldest = oldest.map(|(key, _)| *key).unwrap();
                self.requests.remove(&oldest);
            }
            self.requests.insert(key, Remembered { request, answer });
        }
        self.receipts.extend(receipt);
        Ok(answer)
    }

    /// Derived readings of a commit.
    pub(super) fn derive(&mut self, mut rows: Vec<Reading>) {
        for row in &mut rows {
            row.time = self.time;
        }
        self.add(rows);
    }

    /// Removes an installation; a purge takes the points of its outputs along.
    pub(super) fn uninstall(&mut self, generation: u64, purge: bool) -> Lane {
        let gone = self.lanes.remove(&generation).unwrap();
        self.removed.insert(generation);
        if purge {
            self.kept.retain(|_, id| *id != gone.id);
            self.remove_points(&gone.id);
        } else {
            self.kept.insert(generation, gone.id.clone());
        }
        gone
    }

    /// What a removed generation has kept is to go. Returns its id and whether the points of its outputs go too.
    pub(super) fn purge_kept(&mut self, generation: u64) -> (String, bool) {
        let id = self.kept.remove(&generation).unwrap();
        let points =
            self.lanes.values().all(|lane| lane.id != id) && self.kept.values().all(|kept| *kept != id);
        if points {
            self.remove_points(&id);
        }
        (id, points)
    }

    fn remove_points(&mut self, id: &str) {
        let own = format!("apps/{id}/");
        for path in &mut self.points {
            path.take_if(|path| path.starts_with(&own));
        }
    }

    /// The readings as the journal's readers see them: those of points that were removed have no name.
    pub(super) fn readings(&self) -> Vec<Reading> {
        let seen = |(reading, number): (&Reading, &usize)| {
            let path = self.points[*number].clone().unwrap_or_default();
            Reading { path, ..reading.clone() }
        };
        self.journal.iter().zip(&self.numbers).map(seen).collect()
    }

    /// Sequences of the readings that are for a lane and not dealt with, in order.
    pub(super) fn waiting(&self, generation: u64) -> Vec<u64> {
        let lane = &self.lanes[&generation];
        let from = lane.meta.cursor.0 as usize;
        let behind = self.journal.iter().enumerate().skip(from);
        behind.filter(|(_, reading)| lane.takes(reading)).map(|(index, _)| index as u64 + 1).collect()
    }
}
