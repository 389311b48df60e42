//! Messages on their way to the log, and their acknowledgements.

#[cfg(test)]
mod tests;

use std::collections::VecDeque;
use std::sync::Arc;

use tokio::time::Instant;

use super::config::{MqttConfig, Retained};
use super::copies::Copies;
use super::link::{Link, Message};
use super::payload::Taken;
use super::reading::{Routes, each_value};
use super::reasons::Ended;
use super::status::{BrokerState, Counts, Reported};
use super::subscriptions::{Subscribing, Subscriptions};
use super::window::{self, Window};
use crate::connectors::making::{Making, Units};
use crate::connectors::passed::{Passed, Reason};
use crate::connectors::{MAX_RECEIPT, Part, Record, Run, Sink, SinkError, State, Status, Submitted};
use ironloom_types::clock::Timestamp;
use ironloom_types::ids::PointNumber;
use ironloom_types::readings::Quality;

/// Messages of one record.
const MOST: usize = 4_096;
/// Bytes of the messages of a record after which no further one is added.
const ENOUGH_BYTES: usize = 1 << 20;
/// Records on their way to the disk, and their bytes: beyond, the oldest is waited for.
const MANY: usize = 64;
const MANY_BYTES: usize = 8 << 20;

/// The messages that may be known: all that aren't acknowledged, those of the record in the making, and the last before them.
const MOST_KNOWN: usize = super::config::MAX_RECEIVE as usize + MOST + window::REMEMBERED;
const _: () = assert!(window::receipt_bytes(MOST_KNOWN) <= MAX_RECEIPT);

/// The connector is to stop.
#[derive(Debug)]
pub(super) struct Stopped;

/// The clock, as of a record.
#[derive(Clone, Copy)]
struct Times {
    now: Option<Timestamp>,
    /// The latest `at` that is trusted.
    latest: Timestamp,
}

/// Messages that came together.
struct Group {
    number: u64,
    readings: usize,
    bytes: usize,
    /// None: it has nothing for the log.
    durable: Option<Submitted>,
    /// No other part of the group follows.
    is_last: bool,
}

pub(super) struct Intake {
    config: Arc<MqttConfig>,
    sink: Arc<dyn Sink>,
    status: Arc<Status>,
    subscriptions: Arc<Subscriptions>,
    /// Filters of the session that are no longer wanted.
    outdated: Vec<String>,
    subscribing: Subscribing,
    copies: Copies,
    units: Units,
    routes: Routes,
    /// Those of the message that is being read.
    values: Vec<(PointNumber, Timestamp, Taken)>,
    window: Window,
    /// Those that are to be handed over, as the group of this number.
    messages: Vec<Message>,
    bytes: usize,
    /// When the first of them came.
    began: Option<Instant>,
    number: u64,
    under_way: VecDeque<Group>,
    /// All groups up to this one are durable.
    durable: u64,
    /// Messages in the order in which they came, until they are acknowledged.
    acknowledgements: VecDeque<Waiting>,
    counts: Counts,
    /// There is no room for so many new points, and won't be for the rest of these messages.
    no_room: Option<Refused>,
}

/// A message that is to be acknowledged.
#[derive(Clone, Copy)]
struct Waiting {
    id: u16,
    group: u64,
    since: Instant,
}

/// The way of messages that were handed over.
enum Handed {
    UnderWay,
    /// Never, as they stand.
    Refused(Refused),
}

/// The refusal of a record.
struct Refused {
    reason: Passed,
    /// It was to have so many.
    new_points: usize,
}

impl Intake {
    pub(super) fn new(config: &Arc<MqttConfig>, run: &Run) -> Self {
        let session = window::session(&[&config.broker.to_string(), &config.client_id]);
        let (window, filters) = Window::open(session, run.sink.receipt(&run.status.name).as_deref());
        run.kept.subscriptions.open(session, filters);
        Self {
            config: Arc::clone(config),
            sink: Arc::clone(&run.sink),
            status: Arc::clone(&run.status),
            subscriptions: Arc::clone(&run.kept.subscriptions),
            outdated: Vec::new(),
            subscribing: Subscribing::default(),
            copies: Copies::default(),
            units: Units::new(),
            routes: Routes::default(),
            values: Vec::new(),
            window,
            messages: Vec::new(),
            bytes: 0,
            began: None,
            number: 1,
            under_way: VecDeque::new(),
            durable: 0,
            acknowledgements: VecDeque::new(),
            counts: Counts::default(),
            no_room: None,
        }
    }

    /// Returns true where one more message may be read.
    pub(super) fn has_room(&self) -> bool {
        let under_way: usize = self.under_way.iter().map(|group| group.bytes).sum();
        self.messages.len() < MOST
            && self.bytes < ENOUGH_BYTES
            && self.under_way.len() < MANY
            && under_way < MANY_BYTES
            && self.acknowledgements.len() < usize::from(self.config.receive_maximum)
    }

    pub(super) fn is_under_way(&self) -> bool {
        !self.under_way.is_empty()
    }

    /// Takes a message, or knows that it was taken.
    pub(super) fn take(&mut self, message: Message) {
        self.counts.received += 1;
        self.window.saw(&message);
        let copied = self.copies.is_one(&message).then_some(self.number);
        if copied.is_some() {
            // It may come again without the other one.
            self.window.add(&message, self.number, MOST_KNOWN);
        }
        let known = copied.or_else(|| self.window.group_of(&message));
        let group = known.unwrap_or(self.number);
        let since = *self.began.get_or_insert_with(Instant::now);
        self.acknowledgements.push_back(Waiting { id: message.id, group, since });
        if known.is_some() {
            self.counts.duplicates += 1;
            self.status.passed_over(Reason::Duplicate, 1);
            return;
        }
        if message.retain && self.config.retained == Retained::None {
            self.counts.passed_over += 1;
            self.status.passed_over(Reason::Retained, 1);
            return;
        }
        self.bytes += message.topic.len() + message.payload.len();
        self.messages.push(message);
    }

    /// The broker has taken the connection, with the session or without. Subscribes to the topics, and unsubscribes from
    /// those of an earlier configuration.
    pub(super) fn connected(&mut self, session: bool, reported: &Reported, link: &Link) -> Result<(), Ended> {
        if !session {
            // Nothing comes again.
            self.window.clear();
        }
        self.copies = Copies::default();
        self.outdated = self.subscriptions.connected(session, &self.config.filters());
        self.window.set_filters(&self.subscriptions.all());
        if !self.outdated.is_empty() {
            let filters = &self.outdated;
            tracing::info!(
                connector = self.status.name,
                ?filters,
                "unsubscribes from what is no longer configured"
            );
            link.unsubscribe(filters)?;
        }
        self.subscribing.subscribe(&self.config, reported.subscription_identifiers != Some(false), link)
    }

    /// A SUBSCRIBE was sent.
    pub(super) fn sent_subscribe(&mut self, id: u16) {
        self.subscribing.sent(id);
    }

    /// The broker has answered one.
    pub(super) fn subscribed(&mut self, id: u16, answers: Vec<Option<String>>) {
        for (filter, reason) in self.subscribing.answered(id, answers) {
            self.status.noticed(Part::Readings, &format!("topics {filter}: {reason}"));
            self.status.broker(|broker| broker.refused(filter, reason));
        }
        if self.subscribing.is_done() {
            self.status.set(Part::Readings, State::Running);
        }
    }

    /// Returns true while the broker owes an answer to a SUBSCRIBE.
    pub(super) fn is_subscribing(&self) -> bool {
        !self.subscribing.is_done()
    }

    /// The broker has taken filters out of the session.
    pub(super) fn unsubscribed(&mut self) {
        self.subscriptions.unsubscribed(&std::mem::take(&mut self.outdated));
        self.window.set_filters(&self.subscriptions.all());
    }

    /// The connection is lost: packet ids are those of the next one.
    pub(super) fn lost(&mut self) {
        self.acknowledgements.clear();
        self.tell();
        self.status.broker(BrokerState::lost);
    }

    /// Counts what came since the last time, for people.
    pub(super) fn tell(&mut self) {
        let counts = std::mem::take(&mut self.counts);
        let oldest = self.acknowledgements.front().map(|oldest| oldest.since);
        self.status.broker(|broker| broker.count(&counts, self.acknowledgements.len(), oldest));
    }

    /// Acknowledges all messages, in their order, up to the first that isn't durable.
    pub(super) fn acknowledge(&mut self, link: &Link) -> Result<(), Ended> {
        while let Some(id) = self.next_durable() {
            link.acknowledge(id)?;
        }
        Ok(())
    }

    /// The id of the next message that is to be acknowledged.
    fn next_durable(&mut self) -> Option<u16> {
        while let Some(next) = self.acknowledgements.pop_front_if(|next| next.group <= self.durable) {
            if next.id > 0 {
                return Some(next.id);
            }
        }
        None
    }

    /// An acknowledgement was sent.
    pub(super) fn acknowledged(&mut self, id: u16) {
        self.counts.acknowledged += 1;
        self.window.acknowledged(id);
    }

    /// Waits until the oldest group is durable. May be dropped at any time.
    pub(super) async fn settle_oldest(&mut self) -> Result<(), Stopped> {
        let Some(oldest) = self.under_way.front_mut() else { return Ok(()) };
        if let Some(durable) = &mut oldest.durable {
            let outcome = durable.await;
            oldest.durable = None;
            outcome.map_err(|error| self.stop(&error))?;
        }
        if let Some(Group { number, readings, is_last, .. }) = self.under_way.pop_front() {
            self.status.took(readings);
            if is_last {
                self.durable = number;
            }
        }
        Ok(())
    }

    /// Waits until all that was handed over is durable.
    pub(super) async fn settle_all(&mut self) -> Result<(), Stopped> {
        while self.is_under_way() {
            self.settle_oldest().await?;
        }
        Ok(())
    }

    fn stop(&mut self, error: &SinkError) -> Stopped {
        if *error != SinkError::Stopping {
            self.status.failed(Part::Readings, State::Stopped, &error.to_string());
        }
        Stopped
    }

    /// Hands all messages over that were taken.
    pub(super) async fn hand_over(&mut self, run: &mut Run) -> Result<(), Stopped> {
        self.began = None;
        if self.acknowledgements.back().is_none_or(|last| last.group < self.number)
            && self.messages.is_empty()
        {
            return Ok(());
        }
        let messages = std::mem::take(&mut self.messages);
        self.bytes = 0;
        if let Handed::Refused(_) = self.hand_over_all(&messages, true, run).await? {
            self.hand_over_in_parts(&messages, run).await?;
        }
        self.number += 1;
        Ok(())
    }

    /// Finds those of some messages that are refused by themselves, and hands over all others: one makes a point too many,
    /// say. By halves: whoever publishes what is refused doesn't hold up the others for long.
    async fn hand_over_in_parts(&mut self, mut rest: &[Message], run: &mut Run) -> Result<(), Stopped> {
        // So many of the first were refused together.
        let mut refused = rest.len();
        while !rest.is_empty() {
            let part = if refused == 0 { rest.len() } else { (refused / 2).max(1) };
            match self.hand_over_all(&rest[..part], false, run).await? {
                Handed::UnderWay => {
                    rest = &rest[part..];
                    refused = refused.saturating_sub(part);
                }
                Handed::Refused(refusal) if part == 1 => {
                    self.set_aside(&rest[0], &refusal.reason);
                    // Of no use to ask for as many once more.
                    self.no_room = (refusal.new_points > 0).then_some(refusal).or(self.no_room.take());
                    (rest, refused) = (&rest[1..], 0);
                }
                Handed::Refused(_) => refused = part,
            }
        }
        self.no_room = None;
        self.push(&Record::default(), None, true);
        Ok(())
    }

    async fn hand_over_all(
        &mut self,
        messages: &[Message],
        is_last: bool,
        run: &mut Run,
    ) -> Result<Handed, Stopped> {
        let (record, problems) = self.record(messages);
        let makes_points = !record.new_points.is_empty();
        let durable = if record.columns.is_empty() {
            None
        } else {
            match run.hand_over(&record).await {
                Ok(Some(durable)) => {
                    self.status.set(Part::Readings, State::Running);
                    Some(durable)
                }
                Err(SinkError::Refused(why)) => return Ok(self.refused(messages, &record, why)),
                Ok(None) | Err(SinkError::Stopping | SinkError::Later(_)) => return Err(Stopped),
            }
        };
        let durable = match durable {
            // They may be refused yet, and then no later record may have said that they were taken.
            Some(durable) if makes_points => match durable.await {
                Ok(()) => None,
                Err(SinkError::Refused(why)) => return Ok(self.refused(messages, &record, why)),
                Err(error) => return Err(self.stop(&error)),
            },
            durable => durable,
        };
        for (at, problem) in problems {
            self.set_aside(&messages[at], &problem);
        }
        self.push(&record, durable, is_last);
        Ok(Handed::UnderWay)
    }

    fn refused(&mut self, messages: &[Message], record: &Record, why: String) -> Handed {
        messages.iter().for_each(|message| self.window.remove(message.id));
        // The units that it would have set are still to be set.
        self.units.clear();
        Handed::Refused(Refused { reason: Reason::Refused.of(why), new_points: record.new_points.len() })
    }

    fn push(&mut self, record: &Record, durable: Option<Submitted>, is_last: bool) {
        let (number, readings, bytes) = (self.number, record.columns.len(), record.bytes());
        self.under_way.push_back(Group { number, readings, bytes, durable, is_last });
    }

    /// The record of messages, with all that aren't acknowledged. Returns those that can't be taken, by their places.
    fn record(&mut self, messages: &[Message]) -> (Record, Vec<(usize, Passed)>) {
        let mut making = Making::default();
        let mut problems = Vec::new();
        let times = Times { now: self.sink.now(), latest: self.sink.latest() };
        for (at, message) in messages.iter().enumerate() {
            match self.add(message, times, &mut making) {
                Ok(()) => self.window.add(message, self.number, MOST_KNOWN),
                Err(problem) => problems.push((at, problem)),
            }
        }
        let mut record = making.record;
        record.receipt = self.window.receipt();
        (record, problems)
    }

    /// Adds a message to a record, or nothing of it: the rest would come twice where it comes again.
    fn add(&mut self, message: &Message, times: Times, making: &mut Making) -> Result<(), Passed> {
        let before = making.record.new_points.len();
        let read = self.read(message, times, making);
        if let Err(problem) = read.and_then(|()| self.room_for(making.record.new_points.len() - before)) {
            making.keep_points(before);
            return Err(problem);
        }
        if self.values.is_empty() && message.retain {
            self.counts.passed_over += 1;
            self.status.passed_over(Reason::Retained, 1);
        }
        for (point, at, taken) in self.values.drain(..) {
            let mut quality = taken.quality;
            if at > times.latest {
                quality = quality.max(Quality::Uncertain);
                self.status.lowered();
            }
            making.record.columns.push(point, at, quality, taken.value.as_ref());
        }
        Ok(())
    }

    fn room_for(&self, new_points: usize) -> Result<(), Passed> {
        match &self.no_room {
            Some(refused) if new_points >= refused.new_points => Err(refused.reason.clone()),
            _ => Ok(()),
        }
    }

    /// Reads the values of a message, and makes their points.
    fn read(&mut self, message: &Message, times: Times, making: &mut Making) -> Result<(), Passed> {
        let Self { config, sink, routes, units, values, .. } = self;
        values.clear();
        let route = routes.find(config, &message.topic)?;
        let is_old = message.retain && config.retained == Retained::Latest;
        each_value(config, &route, (&message.topic, &message.payload), |mapping, point, taken| {
            if is_old && sink.has(point.as_str(), &taken.value) {
                return Ok(());
            }
            let at = taken.at.or(times.now);
            let at =
                at.ok_or_else(|| Reason::Time.of("it has no time, and no clock says what time it is"))?;
            let point = making.sound_point(point, mapping.unit.as_ref(), units, &**sink)?;
            values.push((point, at, taken));
            Ok(())
        })
    }

    /// A message that gives no reading: it is acknowledged, counted and kept as a dead letter.
    fn set_aside(&self, message: &Message, problem: &Passed) {
        self.status.set_aside(&message.topic, &message.payload, problem);
    }
}
