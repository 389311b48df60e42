//! What should be there: plain maps, written from what the records mean and not from the fold.

use std::collections::{BTreeMap, BTreeSet};

use bytes::Bytes;

use super::audit::Audited;
use crate::fold::submission::{Accepted, Refusal};
use crate::records::admin::AdminRecord;
use crate::records::alarm::{AlarmRecord, AlarmState, ClearedBy};
use crate::records::commit::DeadLetter;
use crate::records::connector::ConnectorRecord;
use crate::records::consent::ConsentRecord;
use crate::records::installation::Standing;
use crate::records::lane::{LaneMeta, Skipped};
use crate::records::owner::AppOwner;
use crate::records::readings::Receipt;
use ironloom_types::clock::Timestamp;
use ironloom_types::effects::OneShot;
use ironloom_types::ids::{AppId, Digest, InstallationId, Ordinal, Sequence, SlotName, TenantId};
use ironloom_types::readings::{Progress, Quality, Value};
use ironloom_types::work::Gap;

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
    /// The version of its app.
    pub version: u8,
    /// Its revisions: each with its number, the first sequence that runs under it, and the first segments of the paths
    /// that it takes.
    pub revisions: Vec<(u32, u64, Vec<&'static str>)>,
    /// The number of its first one.
    pub first_revision: u32,
    pub meta: LaneMeta,
    pub standing: Standing,
    pub state: BTreeMap<String, Bytes>,
    /// When each is due, and the time that was asked for.
    pub timers: BTreeMap<String, (u64, u64)>,
    pub alarms: BTreeMap<String, AlarmRecord>,
    pub dead_letters: BTreeMap<u64, DeadLetter>,
    /// The time of each, by ordinal and attempt.
    pub invocations: BTreeMap<(u64, u32), u64>,
}

impl Lane {
    /// Says whether it takes the reading of this sequence.
    pub(super) fn takes(&self, sequence: u64, reading: &Reading) -> bool {
        let Some((_, _, takes)) = self.revision_of(sequence) else { return false };
        let matches = |first: &&str| reading.path.strip_prefix(first)?.strip_prefix('/');
        let rest = takes.iter().find_map(matches);
        reading.hops <= 16 && rest.is_some_and(|rest| !rest.contains('/'))
    }

    /// The last of its revisions that begins with this sequence or before.
    pub(super) fn revision_of(&self, sequence: u64) -> Option<&(u32, u64, Vec<&'static str>)> {
        self.revisions.iter().rfind(|(_, from, _)| *from <= sequence)
    }

    /// Another revision holds from this sequence on, whatever others there were for what comes then.
    pub(super) fn revise(&mut self, from: u64, takes: &[&'static str]) -> u32 {
        let number = self.revisions.last().unwrap().0 + 1;
        self.revisions.retain(|(_, begins, _)| *begins < from);
        self.revisions.push((number, from, takes.to_vec()));
        number
    }
}

#[derive(Clone, Debug)]
struct Remembered {
    request: u8,
    answer: Accepted,
}

#[derive(Clone, Debug, Default)]
pub(super) struct Model {
    pub audit: Audited,
    /// Paths by number; `None` where a point was removed.
    pub points: Vec<Option<String>>,
    /// The paths of those that were retired and whose readings stay.
    pub retired: BTreeMap<usize, String>,
    /// Latest readings of points that others were before: their sequences.
    pub carried: BTreeMap<usize, u64>,
    /// Units and descriptions.
    pub said: BTreeMap<usize, (Option<String>, Option<String>)>,
    pub journal: Vec<Reading>,
    /// The number of each reading's point.
    pub numbers: Vec<usize>,
    /// The number of its first readings that are past their retention.
    pub dropped: usize,
    pub receipts: BTreeMap<String, Vec<u8>>,
    pub connectors: BTreeMap<Box<str>, ConnectorRecord>,
    /// The upgrades that wait, by installation.
    pub consents: BTreeMap<InstallationId, ConsentRecord>,
    /// Whose each app id is.
    pub owners: BTreeMap<(TenantId, AppId), AppOwner>,
    /// Progress and time of each stream.
    pub streams: BTreeMap<String, (Progress, u64)>,
    pub packages: BTreeSet<Digest>,
    pub lanes: BTreeMap<u64, Lane>,
    pub removed: BTreeSet<u64>,
    /// Episodes of alarms that are over, of each generation by number.
    pub episodes: BTreeMap<u64, BTreeMap<u64, AlarmRecord>>,
    /// The ids of those that are kept, not purged.
    pub kept: BTreeMap<u64, String>,
    /// These, as they were.
    pub ended: BTreeMap<u64, Lane>,
    /// Copies that are whole: each what its lane was then.
    pub copies: BTreeMap<u64, Lane>,
    /// Copies in the making, with the generations that they are of.
    pub copying: BTreeMap<u64, u64>,
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

/// One-shot timers that are set, or gone.
type TimerChanges = Vec<(Box<str>, Option<OneShot>)>;

impl Model {
    /// Notes which upgrades wait from a record on.
    pub(super) fn hear_of_consents(&mut self, record: &AdminRecord) {
        match record {
            AdminRecord::ConsentAsked(asked) => {
                drop(self.consents.insert(asked.id.clone(), (**asked).clone()))
            }
            AdminRecord::ConsentRefused { id } => drop(self.consents.remove(id)),
            AdminRecord::Uninstalled { ended, .. } => drop(self.consents.remove(&ended.installation.id)),
            AdminRecord::Revised(revised) => {
                let now = &revised.installation;
                self.consents.retain(|id, asked| *id != now.id || asked.package != now.package);
            }
            _ => {}
        }
    }

    /// Notes whose app ids are from a record on.
    pub(super) fn hear_of_owners(&mut self, record: &AdminRecord) {
        let owners: Vec<_> = match record {
            AdminRecord::Installed(new) => new.iter().filter_map(|new| new.owner.clone()).collect(),
            AdminRecord::Revised(revised) => revised.owner.clone().into_iter().collect(),
            AdminRecord::Reset(reset) => reset.new.owner.clone().into_iter().collect(),
            _ => Vec::new(),
        };
        self.owners.extend(owners.into_iter().map(|owner| ((owner.tenant, owner.app.clone()), *owner)));
    }

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
        receipt: Option<Receipt>,
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
        match receipt {
            None => {}
            Some(Receipt::Connector { name, note }) => drop(self.receipts.insert(name.into(), note)),
            Some(Receipt::Stream { key, progress: None }) => drop(self.streams.remove(&*key)),
            Some(Receipt::Stream { key, progress: Some(progress) }) => {
                self.streams.insert(key.to_string(), (progress, self.time));
            }
            // The outbox has a model of its own, and nothing is published here.
            Some(Receipt::Outbox(_) | Receipt::Published { .. }) => {}
            Some(Receipt::Outputs { generation, points }) => {
                self.lanes.get_mut(&generation.0).unwrap().meta.points = points;
            }
        }
        Ok(answer)
    }

    /// Points without a reading.
    pub(super) fn make_points(&mut self, paths: impl IntoIterator<Item = String>) {
        for path in paths {
            if !self.points.contains(&Some(path.clone())) {
                self.points.push(Some(path));
            }
        }
        self.time_of_record = self.time;
    }

    /// Derived readings of a commit.
    pub(super) fn derive(&mut self, mut rows: Vec<Reading>) {
        for row in &mut rows {
            row.time = self.time;
        }
        self.add(rows);
    }

    /// Removes an installation; a purge takes the points of its outputs along.
    pub(super) fn uninstall(&mut self, generation: u64, at: Timestamp, purge: bool) -> Lane {
        self.end(generation, (at, ClearedBy::Removed), purge)
    }

    /// Ends a generation.
    pub(super) fn end(&mut self, generation: u64, (at, by): (Timestamp, ClearedBy), purge: bool) -> Lane {
        let gone = self.lanes.remove(&generation).unwrap();
        for mut alarm in gone.alarms.values().cloned() {
            if alarm.state.stands() {
                alarm.clear(at, by);
            }
            alarm.over = true;
            self.episodes.entry(generation).or_default().insert(alarm.number, alarm);
        }
        self.removed.insert(generation);
        if purge {
            self.kept.retain(|_, id| *id != gone.id);
            self.ended.retain(|_, ended| ended.id != gone.id);
            self.remove_points(&gone.id);
        } else {
            self.kept.insert(generation, gone.id.clone());
            self.ended.insert(generation, gone.clone());
        }
        gone
    }

    /// The copies of an installation are to go.
    pub(super) fn drop_copies(&mut self, id: &str) {
        let of_id = self.copies.iter().filter(|(_, lane)| lane.id == id);
        self.removed.extend(of_id.map(|(copy, _)| *copy).collect::<Vec<_>>());
        self.copies.retain(|_, lane| lane.id != id);
    }

    /// The process has ended that had begun them.
    pub(super) fn abandon_copies(&mut self) {
        self.removed.extend(std::mem::take(&mut self.copying).into_keys());
    }

    /// The alarms that ended with a generation, as the history has them.
    pub(super) fn ended_alarms(&self, generation: u64) -> Vec<AlarmRecord> {
        let alarms = self.ended[&generation].alarms.values();
        alarms.map(|alarm| self.episodes[&generation][&alarm.number].clone()).collect()
    }

    /// An installation goes on with a generation that is kept.
    pub(super) fn adopt(&mut self, generation: u64, takes: &[&'static str], version: u8) -> &Lane {
        self.removed.remove(&generation);
        self.kept.remove(&generation);
        let mut lane = self.ended.remove(&generation).unwrap();
        lane.meta.cursor = lane.meta.cursor.max(Sequence(self.dropped as u64));
        lane.revisions = vec![(lane.revisions.last().unwrap().0 + 1, lane.meta.cursor.0 + 1, takes.to_vec())];
        (lane.version, lane.standing) = (version, Standing::Running);
        lane.alarms.clear();
        if version == 1 {
            lane.timers.clear();
        }
        self.lanes.entry(generation).or_insert(lane)
    }

    /// Another version of the app has neither alarms nor one-shot timers. Returns those that end.
    pub(super) fn end_holdings(&mut self, generation: u64) -> (Vec<AlarmRecord>, TimerChanges) {
        let lane = self.lanes.get_mut(&generation).unwrap();
        let mut alarms: Vec<_> = std::mem::take(&mut lane.alarms).into_values().collect();
        for alarm in &mut alarms {
            if alarm.state.stands() {
                alarm.clear(alarm.raised, ClearedBy::Upgraded);
            }
            alarm.over = true;
            self.episodes.entry(generation).or_default().insert(alarm.number, alarm.clone());
        }
        let timers = std::mem::take(&mut lane.timers).into_keys().map(|name| (name.into(), None)).collect();
        (alarms, timers)
    }

    /// What a removed generation has kept is to go. Returns its id and whether the points of its outputs go too.
    pub(super) fn purge_kept(&mut self, generation: u64) -> (String, bool) {
        let id = self.kept.remove(&generation).unwrap();
        self.ended.remove(&generation);
        let points =
            self.lanes.values().all(|lane| lane.id != id) && self.kept.values().all(|kept| *kept != id);
        if points {
            self.remove_points(&id);
        }
        (id, points)
    }

    /// A point is there no longer, or one that was retired before loses its readings.
    pub(super) fn retire(&mut self, number: usize, readings: bool) {
        self.said.remove(&number);
        match self.points[number].take() {
            Some(path) if readings => drop(self.retired.insert(number, path)),
            Some(_) => {}
            None => drop(self.retired.remove(&number)),
        }
    }

    /// A point is another one from here on, of another path, as are those of its path that were retired before.
    pub(super) fn rename(&mut self, from: usize, earlier: &[usize], path: &str) {
        let to = self.points.len();
        let latest = self.latest_of(from).map(|(sequence, _)| sequence);
        self.carried.extend(latest.map(|sequence| (to, sequence)));
        self.points[from] = None;
        self.points.push(Some(path.to_owned()));
        self.said.extend(self.said.get(&from).cloned().map(|said| (to, said)));
        self.said.remove(&from);
        self.retired.extend(earlier.iter().chain([&from]).map(|number| (*number, path.to_owned())));
        self.time_of_record = self.time;
    }

    /// The last reading of a point, with its sequence.
    pub(super) fn latest_of(&self, number: usize) -> Option<(u64, &Reading)> {
        let own = self.numbers.iter().rposition(|of| *of == number).map(|index| index as u64 + 1);
        let sequence = own.or_else(|| self.carried.get(&number).copied())?;
        Some((sequence, &self.journal[sequence as usize - 1]))
    }

    /// Says whether a lane waits for a reading of this point.
    pub(super) fn is_waited_for(&self, number: usize) -> bool {
        let waiting = self.lanes.keys().flat_map(|generation| self.waiting(*generation));
        waiting.into_iter().any(|sequence| self.numbers[sequence as usize - 1] == number)
    }

    fn remove_points(&mut self, id: &str) {
        let own = format!("apps/{id}/");
        for (number, path) in self.points.iter_mut().enumerate() {
            if path.take_if(|path| path.starts_with(&own)).is_some() {
                self.said.remove(&number);
            }
        }
    }

    /// The first readings go, all but `from`: lanes that wait for them miss them. Returns what they miss.
    pub(super) fn drop_before(&mut self, before: u64) -> BTreeMap<u64, Gap> {
        let mut missed = BTreeMap::new();
        for generation in self.lanes.keys().copied().collect::<Vec<_>>() {
            let waiting = self.waiting(generation).into_iter().take_while(|sequence| *sequence < before);
            let times: Vec<u64> = waiting.map(|sequence| self.journal[sequence as usize - 1].time).collect();
            let (Some(first), Some(last)) = (times.iter().min(), times.iter().max()) else { continue };
            let gap = Gap {
                slot: SlotName::new("value").unwrap(),
                first: Timestamp(*first),
                last: Timestamp(*last),
                count: times.len() as u64,
            };
            let meta = &mut self.lanes.get_mut(&generation).unwrap().meta;
            match meta.skipped.last_mut() {
                Some(last) if last.through == meta.cursor => last.through = Sequence(before - 1),
                _ => meta.skipped.push(Skipped { after: meta.cursor, through: Sequence(before - 1) }),
            }
            // As many as are remembered.
            meta.skipped.drain(..meta.skipped.len().saturating_sub(8));
            meta.cursor = Sequence(before - 1);
            meta.counters.missed += gap.count;
            let told = meta.gaps.first().unwrap_or(&gap);
            let count = meta.gaps.first().map_or(0, |told| told.count) + gap.count;
            let (first, last) = (told.first.min(gap.first), told.last.max(gap.last));
            meta.gaps = vec![Gap { first, last, count, ..gap.clone() }];
            missed.insert(generation, gap);
        }
        self.dropped = before as usize - 1;
        missed
    }

    /// The first invocations go, up to one whose time isn't before this one. Returns the last that is gone, and the time
    /// of that one.
    pub(super) fn expire_invocations(&mut self, generation: u64, before: u64) -> (u64, Option<u64>) {
        let lane = self.lanes.get_mut(&generation).unwrap();
        let taken = lane.meta.ordinal.0;
        // Attempts at the next one stay.
        let young = lane.invocations.iter().find(|((ordinal, _), at)| **at >= before && *ordinal <= taken);
        let young = young.map(|((ordinal, _), at)| (*ordinal, *at));
        let gone = young.map_or(taken, |(ordinal, _)| ordinal - 1).max(lane.meta.invocations_gone.0);
        lane.invocations.retain(|(ordinal, _), _| *ordinal > gone);
        lane.meta.invocations_gone = Ordinal(gone);
        (gone, young.map(|(_, at)| at))
    }

    /// Episodes that were raised before this time go: those that are over, and those of alarms that are normal.
    pub(super) fn expire_episodes(
        &mut self,
        generation: u64,
        before: u64,
    ) -> (Vec<AlarmRecord>, Vec<AlarmRecord>) {
        let is_old = |alarm: &AlarmRecord| {
            let acknowledged = alarm.acknowledged.last().map(|note| note.at);
            let cleared = alarm.cleared.map(|cleared| cleared.at);
            alarm.raised.max(acknowledged.max(cleared).unwrap_or(alarm.raised)).0 < before
        };
        let mut over = Vec::new();
        if let Some(all) = self.episodes.get_mut(&generation) {
            over = all.values().filter(|alarm| is_old(alarm)).cloned().collect();
            all.retain(|_, alarm| !is_old(alarm));
        }
        let alarms = &mut self.lanes.get_mut(&generation).unwrap().alarms;
        let is_over = |alarm: &AlarmRecord| alarm.state == AlarmState::Normal && is_old(alarm);
        let normal = alarms.values().filter(|alarm| is_over(alarm)).cloned();
        let normal: Vec<_> = normal.map(|alarm| AlarmRecord { over: true, ..alarm }).collect();
        alarms.retain(|_, alarm| !is_over(alarm));
        // Here the next episode of an alarm has the number of the one before.
        let all = self.episodes.entry(generation).or_default();
        all.retain(|number, _| !normal.iter().any(|alarm: &AlarmRecord| alarm.number == *number));
        (over, normal)
    }

    /// Dead letters with lower numbers go. Returns them.
    pub(super) fn expire_letters(&mut self, generation: u64, before: u64) -> Vec<u64> {
        let lane = self.lanes.get_mut(&generation).unwrap();
        let gone = lane.dead_letters.range(..before).map(|(number, _)| *number).collect();
        lane.dead_letters.retain(|number, _| *number >= before);
        lane.meta.dead_letters_kept = lane.dead_letters.len() as u64;
        lane.meta.counters.dead_letters_dropped += 1;
        gone
    }

    /// The readings as the journal's readers see them: those of points that were removed have no name.
    pub(super) fn readings(&self) -> Vec<Reading> {
        let seen = |(reading, number): (&Reading, &usize)| {
            let path = self.points[*number].as_ref().or_else(|| self.retired.get(number));
            let path = path.cloned().unwrap_or_default();
            Reading { path, ..reading.clone() }
        };
        self.journal.iter().zip(&self.numbers).map(seen).collect()
    }

    /// Sequences of the readings that are for a lane and not dealt with, in order.
    pub(super) fn waiting(&self, generation: u64) -> Vec<u64> {
        let lane = &self.lanes[&generation];
        let from = self.dropped.max(lane.meta.cursor.0 as usize);
        let behind = self.journal.iter().enumerate().skip(from);
        // The journal is routed by the points that there are.
        let there = behind.filter(|(index, _)| self.points[self.numbers[*index]].is_some());
        let sequences = there.map(|(index, reading)| (index as u64 + 1, reading));
        sequences.filter(|(at, reading)| lane.takes(*at, reading)).map(|(at, _)| at).collect()
    }

    /// Those of them that one invocation may take: no batch crosses a revision.
    pub(super) fn offered(&self, generation: u64, most: usize) -> Vec<u64> {
        let (lane, mut waiting) = (&self.lanes[&generation], self.waiting(generation));
        let number = |sequence: &u64| lane.revision_of(*sequence).map(|(number, ..)| *number);
        let first = waiting.first().and_then(number);
        let same = waiting.iter().take_while(|sequence| number(sequence) == first).count();
        waiting.truncate(same.min(most));
        waiting
    }
}
