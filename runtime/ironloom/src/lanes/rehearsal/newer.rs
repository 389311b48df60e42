//! The new version in a rehearsal. It is offered what the old one was done with, in the same pieces and at the same times.
//! Where it does otherwise, it goes by the rules of a lane, but for back-offs: what it asks for again, it is offered with
//! the next piece.

use std::collections::{BTreeMap, BTreeSet, VecDeque};

use super::compare::Facts;
use super::part::{part, readings};
use super::side::{Side, Turn};
use crate::lanes::policy::{self, ATTEMPTS};
use crate::lanes::replay::Replica;
use crate::records::commit::OutcomeKind;
use crate::records::lane::Trouble;
use ironloom_sandbox::{Batch, Call, Sandbox};
use ironloom_types::clock::Timestamp;
use ironloom_types::ids::Ordinal;

/// Ordinals of invocations that the old version has none for begin here: no other one has their random numbers.
const OWN: u64 = 1 << 62;
/// The most readings that wait for a version that asks for the same again and again.
const MOST_WAITING: usize = 1_000_000;

/// Readings that the version is to be offered.
struct Piece {
    batch: Batch,
    time: Timestamp,
    ordinal: Ordinal,
    /// A larger one failed, and it is searched for the bad reading.
    searched: bool,
    /// The old version failed here, too.
    excused: bool,
}

/// A timer of its own that is due.
struct Due {
    due: Timestamp,
    repeats: bool,
    name: Box<str>,
}

/// The new version at work.
pub(super) struct Newer {
    pub side: Side,
    pieces: VecDeque<Piece>,
    waiting: usize,
    own: u64,
    /// The next times of timers that the old version hasn't.
    repeating: BTreeMap<Box<str>, Timestamp>,
    /// Timers that it asked to run again.
    again: BTreeMap<Box<str>, Timestamp>,
    trouble: Trouble,
    /// The reason why it goes no further.
    pub ended: Option<String>,
}

impl Newer {
    pub(super) fn new(side: Side) -> Self {
        Self {
            side,
            pieces: VecDeque::new(),
            waiting: 0,
            own: OWN,
            repeating: BTreeMap::new(),
            again: BTreeMap::new(),
            trouble: Trouble::default(),
            ended: None,
        }
    }

    /// Nothing of what it was offered waits.
    pub(super) fn is_done(&self) -> bool {
        self.pieces.is_empty()
    }

    fn own_ordinal(&mut self) -> Ordinal {
        self.own += 1;
        Ordinal(self.own)
    }

    /// Offers it readings, behind those that wait.
    pub(super) async fn offer(
        &mut self,
        sandbox: &Sandbox,
        batch: Batch,
        (ordinal, time, excused): (Option<Ordinal>, Timestamp, bool),
        facts: &mut Facts,
    ) -> Result<(), String> {
        let ordinal = ordinal.unwrap_or_else(|| self.own_ordinal());
        self.waiting += readings(&batch);
        self.pieces.push_back(Piece { batch, time, ordinal, searched: false, excused });
        if self.waiting > MOST_WAITING {
            self.ended = Some(format!(
                "it asked for the same readings again and again, until more than {MOST_WAITING} waited"
            ));
            return Ok(());
        }
        self.work_off(sandbox, facts).await
    }

    /// Runs it on what waits, until it asks for the same again.
    pub(super) async fn work_off(&mut self, sandbox: &Sandbox, facts: &mut Facts) -> Result<(), String> {
        while let Some(piece) = self.pieces.pop_front() {
            let count = readings(&piece.batch);
            let time = self.side.replica.read().time().max(piece.time);
            if count == 0 {
                self.side.replica.write().come_to(time);
                continue;
            }
            let ended = self.side.readings(sandbox, &piece.batch, piece.ordinal, time).await?;
            match ended.outcome {
                OutcomeKind::Ok => {
                    self.trouble.traps_in_row = 0;
                    facts.effects(ended.effects, Some(&piece.batch));
                    self.done(count);
                }
                OutcomeKind::Retry => {
                    self.pieces.push_front(piece);
                    return Ok(());
                }
                outcome => {
                    self.failed(outcome, ended.message, piece, facts);
                    if self.ended.is_some() {
                        return Ok(());
                    }
                }
            }
        }
        Ok(())
    }

    fn done(&mut self, count: usize) {
        self.side.took.readings += count as u64;
        self.waiting -= count;
    }

    /// Searches a piece that failed for the bad reading, or sets the one that it has aside.
    fn failed(&mut self, outcome: OutcomeKind, message: Option<String>, piece: Piece, facts: &mut Facts) {
        let Piece { batch, time, ordinal, searched, excused } = piece;
        let count = readings(&batch);
        let is_reject = outcome == OutcomeKind::Reject;
        let is_trap = outcome == OutcomeKind::Trap;
        if !searched && !excused && (is_trap || (count == 1 && !is_reject)) {
            // It would be tried as often, each time with the same end.
            (0..ATTEMPTS).for_each(|_| policy::remember_failure(&mut self.trouble, time));
        }
        if count == 1 {
            facts.letter(&batch, message.unwrap_or_default());
            self.side.took.fail(outcome);
            self.side.took.dead_letters += 1;
            self.done(1);
            if !excused {
                self.trouble.traps_in_row = if is_reject { 0 } else { self.trouble.traps_in_row + 1 };
            }
        } else {
            let half = count / 2;
            let later = self.own_ordinal();
            for (batch, ordinal) in [(part(&batch, half..count), later), (part(&batch, 0..half), ordinal)] {
                self.pieces.push_front(Piece { batch, time, ordinal, searched: true, excused });
            }
        }
        self.look_for_quarantine(time);
    }

    fn look_for_quarantine(&mut self, time: Timestamp) {
        if self.ended.is_none()
            && let Some(rule) = policy::quarantine(&self.trouble)
        {
            self.ended = Some(format!("it would be quarantined at {}: {rule}", time.to_jiff()));
        }
    }

    /// Says whether it has the timer whose run the old version's records tell of, due at the same time.
    pub(super) fn has_same_timer(&self, old: &Side, name: &str) -> bool {
        if old.stage.manifest.timer(name).is_some() {
            return self.repeats_alike(old, name);
        }
        let (mine, theirs) = (self.side.replica.read(), old.replica.read());
        mine.timers().get(name).is_some_and(|set| theirs.timers().get(name) == Some(set))
    }

    fn repeats_alike(&self, old: &Side, name: &str) -> bool {
        let (mine, theirs) = (&self.side.stage, &old.stage);
        let is_same_zone = mine.revision.timezone == theirs.revision.timezone;
        let both = mine.manifest.timer(name).zip(theirs.manifest.timer(name));
        is_same_zone && both.is_some_and(|(mine, theirs)| mine.cron == theirs.cron)
    }

    /// Runs a timer that the old version has as well; `run` is the time of its run.
    pub(super) async fn follow_timer(
        &mut self,
        sandbox: &Sandbox,
        (name, ordinal, run): (&str, Ordinal, Timestamp),
        facts: &mut Facts,
    ) -> Result<(), String> {
        let stage = &self.side.stage;
        let repeats = stage.manifest.timer(name).is_some();
        let due = self.side.replica.read().due(name, run, &stage.manifest, &stage.zone);
        self.again.remove(name);
        self.timer(sandbox, (name, repeats, due), (ordinal, run), facts).await
    }

    async fn timer(
        &mut self,
        sandbox: &Sandbox,
        (name, repeats, due): (&str, bool, Timestamp),
        (ordinal, time): (Ordinal, Timestamp),
        facts: &mut Facts,
    ) -> Result<(), String> {
        let time = self.side.replica.read().time().max(time);
        let turn = Turn { call: Call::Timer { name, due }, ordinal, time, fired: (!repeats).then_some(name) };
        let ended = self.side.run(sandbox, turn).await?;
        match ended.outcome {
            OutcomeKind::Ok => facts.effects(ended.effects, None),
            OutcomeKind::Retry => drop(self.again.insert(name.into(), due)),
            outcome => {
                self.side.took.fail(outcome);
                if outcome != OutcomeKind::Reject {
                    (0..ATTEMPTS).for_each(|_| policy::remember_failure(&mut self.trouble, time));
                }
                self.side.replica.write().end_timer(name);
                facts.timer(name, ended.message.unwrap_or_default());
                self.look_for_quarantine(time);
            }
        }
        Ok(())
    }

    /// Runs its own timers that are due by this time, each at its own.
    pub(super) async fn own_timers(
        &mut self,
        sandbox: &Sandbox,
        old: &Side,
        until: Timestamp,
        facts: &mut Facts,
    ) -> Result<(), String> {
        let mut asked_again = BTreeSet::new();
        while self.ended.is_none() {
            let Some(Due { due, repeats, name }) =
                self.earliest(old, &asked_again).filter(|timer| timer.due <= until)
            else {
                break;
            };
            let asked = self.side.replica.read().timers().get(&name).map_or(due, |set| set.asked);
            self.again.remove(&name);
            let ordinal = self.own_ordinal();
            self.timer(sandbox, (&name, repeats, asked), (ordinal, due), facts).await?;
            if self.again.contains_key(&name) {
                asked_again.insert(name);
            } else if repeats {
                let stage = &self.side.stage;
                let cron = stage.manifest.timer(&name).map(|timer| &timer.cron);
                let next = cron.and_then(|cron| cron.next_after(due, &stage.zone));
                self.repeating.insert(name, next.unwrap_or(Timestamp(u64::MAX)));
            }
        }
        Ok(())
    }

    /// Its own timer that is due first, but for those that just asked to run again.
    fn earliest(&mut self, old: &Side, but: &BTreeSet<Box<str>>) -> Option<Due> {
        let stage = &self.side.stage;
        let now = self.side.replica.read().time();
        let mut all: Vec<Due> = Vec::new();
        for timer in &stage.manifest.timers {
            let name = timer.name.as_str();
            if let Some(due) = self.again.get(name) {
                all.push(Due { due: *due, repeats: true, name: name.into() });
            } else if self.repeats_alike(old, name) {
                self.repeating.remove(name);
            } else {
                let due = *self.repeating.entry(name.into()).or_insert_with(|| {
                    timer.cron.next_after(now, &stage.zone).unwrap_or(Timestamp(u64::MAX))
                });
                all.push(Due { due, repeats: true, name: name.into() });
            }
        }
        let (mine, theirs) = (self.side.replica.read(), old.replica.read());
        let own = Replica::timers(&mine)
            .iter()
            .filter(|(name, set)| theirs.timers().get(*name) != Some(*set) || self.again.contains_key(*name));
        all.extend(own.map(|(name, set)| Due { due: set.due, repeats: false, name: name.clone() }));
        all.into_iter()
            .filter(|timer| !but.contains(&timer.name))
            .min_by_key(|timer| (timer.due, timer.repeats))
    }

    /// Ends a one-shot timer whose run only the machine decided about.
    pub(super) fn leave_out(&mut self, fired: Option<&str>, time: Timestamp) {
        let mut changed = self.side.replica.write();
        changed.come_to(time);
        fired.iter().for_each(|name| changed.end_timer(name));
    }

    /// Notes what still waits at the end.
    pub(super) fn end(&mut self) {
        self.side.took.waiting = self.waiting as u64;
    }
}
