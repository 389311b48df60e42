//! What should be there: plain maps, written from what the records mean and not from the fold.

use std::collections::{BTreeMap, BTreeSet};

use bytes::Bytes;

use crate::fold::requests::KEPT;
use crate::fold::submission::{Accepted, Refusal};
use crate::records::commit::{AlarmRecord, DeadLetter};
use crate::records::installation::Standing;
use crate::records::lane::LaneMeta;
use ironloom_types::ids::Sequence;
use ironloom_types::readings::Quality;

/// A value on its own.
#[derive(Clone, Debug, PartialEq)]
pub enum Value {
    Missing,
    Boolean(bool),
    Integer(i64),
    Real(f64),
    Text(String),
}

/// One reading of the journal; its sequence is its place, counted from 1.
#[derive(Clone, Debug, PartialEq)]
pub struct Reading {
    pub path: String,
    pub at: u64,
    pub quality: Quality,
    pub value: Value,
    pub time: u64,
    pub hops: u8,
    pub origin: u64,
}

/// One generation.
#[derive(Clone, Debug)]
pub struct Lane {
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
    pub fn takes(&self, reading: &Reading) -> bool {
        let mut segments = reading.path.split('/');
        reading.hops <= 16
            && segments.next().is_some_and(|first| self.takes.contains(&first))
            && segments.count() == 1
    }
}

#[derive(Clone, Debug)]
struct Remembered {
    request: u8,
    time: u64,
    answer: Accepted,
}

#[derive(Clone, Debug, Default)]
pub struct Model {
    /// Paths by number.
    pub points: Vec<String>,
    pub journal: Vec<Reading>,
    pub receipts: BTreeMap<String, Vec<u8>>,
    pub lanes: BTreeMap<u64, Lane>,
    pub removed: BTreeSet<u64>,
    pub generation: u64,
    pub time: u64,
    /// The time of the last record: a restart goes back to it, or to that of the checkpoint.
    pub time_of_record: u64,
    requests: BTreeMap<u8, Remembered>,
}

impl Model {
    fn add(&mut self, rows: Vec<Reading>) {
        for row in rows {
            if !self.points.contains(&row.path) {
                self.points.push(row.path.clone());
            }
            self.journal.push(row);
        }
        self.time_of_record = self.time;
    }

    /// What a push is answered, and what it does.
    pub fn push(
        &mut self,
        mut rows: Vec<Reading>,
        key: Option<(u8, u8)>,
        receipt: Option<(String, Vec<u8>)>,
    ) -> Result<Accepted, Refusal> {
        self.time = rows.iter().map(|row| row.at).fold(self.time, u64::max);
        if let Some((key, request)) = key
            && let Some(known) = self.requests.get(&key)
            && known.time + KEPT > self.time
        {
            return match known.request == request {
                true => Ok(Accepted { duplicate: true, ..known.answer }),
                false => Err(Refusal::KeyReused),
            };
        }
        let accepted = rows.len() as u64;
        for row in &mut rows {
            row.time = self.time;
        }
        self.add(rows);
        let answer = Accepted { accepted, through: Sequence(self.journal.len() as u64), duplicate: false };
        if let Some((key, request)) = key {
            self.requests.insert(key, Remembered { request, time: self.time, answer });
        }
        self.receipts.extend(receipt);
        Ok(answer)
    }

    /// Derived readings of a commit.
    pub fn derive(&mut self, mut rows: Vec<Reading>) {
        for row in &mut rows {
            row.time = self.time;
        }
        self.add(rows);
    }

    /// Sequences of the readings that are for a lane and not dealt with, in order.
    pub fn waiting(&self, generation: u64) -> Vec<u64> {
        let lane = &self.lanes[&generation];
        let from = lane.meta.cursor.0 as usize;
        let behind = self.journal.iter().enumerate().skip(from);
        behind.filter(|(_, reading)| lane.takes(reading)).map(|(index, _)| index as u64 + 1).collect()
    }
}
