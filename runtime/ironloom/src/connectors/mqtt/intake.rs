//! Messages on their way to the log, and their acknowledgements.

use std::collections::VecDeque;
use std::sync::Arc;

use tokio::time::Instant;

use super::config::{MqttConfig, Retained};
use super::copies::Copies;
use super::link::{Ended, Link, Message};
use super::payload::Taken;
use super::reading::{Routes, each_value};
use super::status::{Broker, Counts, Reported};
use super::subscriptions::{Asking, Subscriptions};
use super::window::{self, Window};
use crate::connectors::making::{Making, Units};
use crate::connectors::passed::{Passed, Reason};
use crate::connectors::{MAX_RECEIPT, Record, Run, Sink, SinkError, Status, Submitted};
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
    /// Filters that the broker is asked to take back.
    outdated: Vec<String>,
    asking: Asking,
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
    Refused(Passed),
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
            asking: Asking::default(),
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

    /// The broker has taken the connection, with the session or without. Asks for the topics, and no more for those of an
    /// earlier configuration.
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
            tracing::info!(connector = self.status.name, ?filters, "takes back what is no longer configured");
            link.unsubscribe(filters)?;
        }
        self.asking.ask(&self.config, reported.subscription_identifiers != Some(false), link)
    }

    /// A question for topics is on its way.
    pub(super) fn asked(&mut self, id: u16) {
        self.asking.asked(id);
    }

    /// The broker has answered to one.
    pub(super) fn subscribed(&mut self, id: u16, answers: Vec<Option<String>>) {
        for (filter, reason) in self.asking.answered(id, answers) {
            self.status.noticed(&format!("topics {filter}: {reason}"));
            self.status.broker(|broker| broker.refused(filter, reason));
        }
        if self.asking.is_done() {
            self.status.set("running");
        }
    }

    /// Returns true while the broker owes an answer to a question for topics.
    pub(super) fn is_asking(&self) -> bool {
        !self.asking.is_done()
    }

    /// The broker has taken back what it was asked to.
    pub(super) fn taken_back(&mut self) {
        self.subscriptions.taken_back(&std::mem::take(&mut self.outdated));
        self.window.set_filters(&self.subscriptions.all());
    }

    /// The connection is lost: packet ids are those of the next one.
    pub(super) fn lost(&mut self) {
        self.acknowledgements.clear();
        self.tell();
        self.status.broker(Broker::lost);
    }

    /// Counts what came since the last time, for people.
    pub(super) fn tell(&mut self) {
        let counts = std::mem::take(&mut self.counts);
        let oldest = self.acknowledgements.front().map(|oldest| oldest.since);
        self.status.broker(|broker| broker.count(&counts, self.acknowledgements.len(), oldest));
    }

    /// Acknowledges all messages, in their order, up to the first that isn't durable.
    pub(super) fn acknowledge(&mut self, link: &Link) -> Result<(), Ended> {
        while let Some(next) = self.acknowledgements.pop_front_if(|next| next.group <= self.durable) {
            if next.id > 0 {
                link.acknowledge(next.id)?;
            }
        }
        Ok(())
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

    fn stop(&mut self, error: &SinkError) -> Stopped {
        if *error != SinkError::Stopping {
            self.status.failed("stopped", &error.to_string());
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
        if let Handed::Refused(reason) = self.hand_over_all(&messages, true, run).await? {
            // One of them is: a point too many, say.
            let last = messages.len() - 1;
            for (at, message) in messages.iter().enumerate() {
                let one = std::slice::from_ref(message);
                if messages.len() == 1 {
                    self.set_aside(message, &reason);
                } else if let Handed::Refused(reason) = self.hand_over_all(one, at == last, run).await? {
                    self.set_aside(message, &reason);
                } else {
                    continue;
                }
                if at == last {
                    self.push(&Record::default(), None, true);
                }
            }
        }
        self.number += 1;
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
                    self.status.set("running");
                    Some(durable)
                }
                Err(SinkError::Refused(why)) => return Ok(self.refused(messages, why)),
                Ok(None) | Err(SinkError::Stopping | SinkError::Later(_)) => return Err(Stopped),
            }
        };
        let durable = match durable {
            // They may be refused yet, and then no later record may have said that they were taken.
            Some(durable) if makes_points => match durable.await {
                Ok(()) => None,
                Err(SinkError::Refused(why)) => return Ok(self.refused(messages, why)),
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

    fn refused(&mut self, messages: &[Message], why: String) -> Handed {
        messages.iter().for_each(|message| self.window.remove(message.id));
        // The units that it would have set are still to be set.
        self.units.clear();
        Handed::Refused(Reason::Refused.of(why))
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

    fn add(&mut self, message: &Message, times: Times, making: &mut Making) -> Result<(), Passed> {
        let Self { config, sink, routes, units, values, .. } = self;
        values.clear();
        let route = routes.find(config, &message.topic)?;
        let is_old = message.retain && config.retained == Retained::Latest;
        // All of it or nothing: the rest would come twice where it comes again.
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
        })?;
        if values.is_empty() && message.retain {
            self.counts.passed_over += 1;
            self.status.passed_over(Reason::Retained, 1);
        }
        for (point, at, taken) in values.drain(..) {
            let mut quality = taken.quality;
            if at > times.latest {
                quality = quality.max(Quality::Uncertain);
                self.status.lowered();
            }
            making.record.columns.push(point, at, quality, taken.value.as_ref());
        }
        Ok(())
    }

    /// A message that gives no reading: it is acknowledged, counted and kept as a dead letter.
    fn set_aside(&self, message: &Message, problem: &Passed) {
        self.status.set_aside(&message.topic, &message.payload, problem);
    }
}
