//! What a connection has read ahead, what is on its way to the broker, and the place that follows of it.

use std::collections::VecDeque;
use std::future::Future;
use std::pin::Pin;
use std::sync::Arc;
use std::time::Duration;

use tokio::time::Instant;

use super::super::config::MqttConfig;
use super::super::link::MAX_OUTGOING;
use super::super::publish::Outbound;
use super::super::unanswered::Unanswered;
use crate::aside::aside;
use crate::connectors::{Looked, Outgoing};
use ironloom_types::ids::Sequence;
use ironloom_types::readings::Published;

/// Messages that wait for the broker's answer, in all. The broker may allow fewer.
const MOST: usize = MAX_OUTGOING as usize;
/// Messages of each kind that are read ahead, and the bytes of their payloads from which on no more are.
const AHEAD: usize = 1_000;
const AHEAD_BYTES: usize = 1 << 20;
/// The longest time for which an answer is waited for.
const ANSWER: Duration = Duration::from_secs(30);
/// The interval at which is looked for something new, and the pause before something is read again that failed.
const LOOK: Duration = Duration::from_millis(20);
const AGAIN: Duration = Duration::from_secs(1);

/// The kinds of what is published. Alarms come first where there are both.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Kind {
    Alarms,
    Readings,
}

const KINDS: [Kind; 2] = [Kind::Alarms, Kind::Readings];

/// Messages of what was looked at, in order.
pub(super) struct Page {
    kind: Kind,
    messages: VecDeque<(u64, Outbound)>,
    pub(super) looked: Looked,
}

type Reading = Pin<Box<dyn Future<Output = Result<Page, String>> + Send>>;

/// All that there is ahead of one kind.
struct Line {
    messages: VecDeque<(u64, Outbound)>,
    /// All up to here is in `messages`, under way, or nothing to publish.
    through: u64,
    /// The broker has taken all up to here.
    place: u64,
    /// Messages that are under way.
    under_way: usize,
    /// Not before this time.
    next_look: Instant,
}

/// A message that was handed to the connection.
struct UnderWay {
    kind: Kind,
    number: u64,
    is_taken: bool,
    since: Instant,
}

/// All that a connection is ahead.
pub(super) struct Ahead {
    config: Arc<MqttConfig>,
    outgoing: Arc<dyn Outgoing>,
    lines: [Line; 2],
    reading: Option<(Kind, Reading)>,
    /// In the order in which they were handed over.
    under_way: VecDeque<UnderWay>,
    /// The count of the first of them: all that were ever handed over are counted.
    first: u64,
    /// The counts of those that the broker is to answer.
    unanswered: Unanswered<u64>,
}

impl Ahead {
    /// Begins behind a place.
    pub(super) fn new(config: &Arc<MqttConfig>, outgoing: &Arc<dyn Outgoing>, place: Published) -> Self {
        let line = |place| Line {
            messages: VecDeque::new(),
            through: place,
            place,
            under_way: 0,
            next_look: Instant::now(),
        };
        Self {
            config: Arc::clone(config),
            outgoing: Arc::clone(outgoing),
            lines: [line(place.alarms), line(place.readings.0)],
            reading: None,
            under_way: VecDeque::new(),
            first: 0,
            unanswered: Unanswered::default(),
        }
    }

    /// The broker has taken all up to here.
    pub(super) fn place(&self) -> Published {
        let [alarms, readings] = &self.lines;
        Published { alarms: alarms.place, readings: Sequence(readings.place) }
    }

    /// Has more read where there may be something new and room for it.
    pub(super) fn read_on(&mut self) {
        if self.reading.is_some() {
            return;
        }
        let (now, last) = (Instant::now(), self.outgoing.last());
        for kind in KINDS {
            let line = &mut self.lines[kind as usize];
            if !line.messages.is_empty() || now < line.next_look {
                continue;
            }
            let last = if kind == Kind::Alarms { last.alarms } else { last.readings.0 };
            line.next_look = now + LOOK;
            if last <= line.through {
                continue;
            }
            let (outgoing, config, after) =
                (Arc::clone(&self.outgoing), Arc::clone(&self.config), line.through);
            let reading = async move {
                let page = aside(move || read_page(kind, &*outgoing, &config, after));
                page.await.map_err(|error| error.to_string())?
            };
            self.reading = Some((kind, Box::pin(reading)));
            return;
        }
    }

    /// Ready with what is read, if anything is.
    pub(super) async fn read(&mut self) -> Result<Page, String> {
        let Some((kind, reading)) = &mut self.reading else { return std::future::pending().await };
        let (kind, page) = (*kind, reading.await);
        self.reading = None;
        if page.is_err() {
            self.lines[kind as usize].next_look = Instant::now() + AGAIN;
        }
        page
    }

    /// The time at which to look for something new; `None` while something is read, or there is enough.
    pub(super) fn next_look(&self) -> Option<Instant> {
        let free = self.lines.iter().filter(|line| line.messages.is_empty()).map(|line| line.next_look).min();
        free.filter(|_| self.reading.is_none())
    }

    /// Takes what was read.
    pub(super) fn take(&mut self, Page { kind, messages, looked }: Page) {
        let line = &mut self.lines[kind as usize];
        // Where there was something there may be more.
        if looked.through > line.through {
            line.next_look = Instant::now();
        }
        (line.messages, line.through) = (messages, looked.through);
        self.advance();
    }

    /// The next message for the broker, which is under way with that.
    pub(super) fn next_message(&mut self) -> Option<Outbound> {
        if self.under_way.len() >= MOST {
            return None;
        }
        KINDS.into_iter().find_map(|kind| {
            let line = &mut self.lines[kind as usize];
            let (number, message) = line.messages.pop_front()?;
            line.under_way += 1;
            self.unanswered.hand_over(self.first + self.under_way.len() as u64);
            self.under_way.push_back(UnderWay { kind, number, is_taken: false, since: Instant::now() });
            Some(message)
        })
    }

    /// Returns true where the broker owes an answer for too long.
    pub(super) fn is_late(&self) -> bool {
        self.under_way.front().is_some_and(|first| !first.is_taken && first.since.elapsed() >= ANSWER)
    }

    /// The next message was sent.
    pub(super) fn sent(&mut self, id: u16) {
        self.unanswered.number(id);
    }

    /// The broker has answered; `false` where it was to something else.
    pub(super) fn answered(&mut self, id: u16) -> bool {
        let answered = self.unanswered.answer(id).and_then(|count| usize::try_from(count - self.first).ok());
        let Some(one) = answered.and_then(|at| self.under_way.get_mut(at)) else { return false };
        one.is_taken = true;
        self.advance();
        true
    }

    /// Moves the places on as far as everything is taken.
    fn advance(&mut self) {
        while let Some(first) = self.under_way.pop_front_if(|first| first.is_taken) {
            let line = &mut self.lines[first.kind as usize];
            line.place = line.place.max(first.number);
            line.under_way -= 1;
            self.first += 1;
        }
        for line in &mut self.lines {
            if line.under_way == 0 && line.messages.is_empty() {
                line.place = line.place.max(line.through);
            }
        }
    }
}

/// Reads messages behind a place. Waits for a disk.
fn read_page(kind: Kind, outgoing: &dyn Outgoing, config: &MqttConfig, after: u64) -> Result<Page, String> {
    let (mut messages, mut bytes) = (VecDeque::new(), 0);
    let mut add = |number: u64, message: Option<Outbound>| {
        if let Some(message) = message {
            bytes += message.payload.len();
            messages.push_back((number, message));
        }
        messages.len() < AHEAD && bytes < AHEAD_BYTES
    };
    let looked = match kind {
        Kind::Alarms => outgoing.read_alarms(after, &mut |alarm| {
            let message = config.publish.iter().find_map(|one| one.alarm(&alarm));
            add(alarm.change, message)
        })?,
        Kind::Readings => outgoing.read(Sequence(after), &mut |reading| {
            let message = config.publish.iter().find_map(|one| one.reading(reading));
            add(reading.sequence.0, message)
        })?,
    };
    Ok(Page { kind, messages, looked })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::connectors::OutAlarm;
    use crate::connectors::mqtt::config::tests::read_with;
    use crate::connectors::outgoing::NoOutgoing;

    fn ahead() -> Ahead {
        let config = read_with("[connectors.c.publish.\"apps/{a}\"]\ntopic = \"{a}\"\n");
        let config = Arc::new(config.unwrap());
        let outgoing: Arc<dyn Outgoing> = Arc::new(NoOutgoing);
        Ahead::new(&config, &outgoing, Published { readings: Sequence(10), alarms: 1 })
    }

    fn page(kind: Kind, numbers: &[u64], through: u64) -> Page {
        let message = || Outbound { topic: String::new(), payload: Vec::new(), retain: false };
        let messages = numbers.iter().map(|number| (*number, message())).collect();
        Page { kind, messages, looked: Looked { through, missed: 0 } }
    }

    fn place(ahead: &Ahead) -> (u64, u64) {
        let Published { readings, alarms } = ahead.place();
        (readings.0, alarms)
    }

    #[test]
    fn the_place_is_behind_nothing_that_the_broker_has_not_taken() {
        let mut ahead = ahead();
        ahead.take(page(Kind::Readings, &[12, 15], 20));
        ahead.take(page(Kind::Alarms, &[3], 3));
        assert_eq!(place(&ahead), (10, 1));
        // The alarm first, then the readings.
        let handed = std::iter::from_fn(|| ahead.next_message()).count();
        assert_eq!(handed, 3);
        [7, 8, 9].into_iter().for_each(|id| ahead.sent(id));
        // The last reading is taken before the first.
        assert!(ahead.answered(9) && !ahead.answered(9) && !ahead.answered(44));
        assert_eq!(place(&ahead), (10, 1));
        assert!(ahead.answered(7));
        assert_eq!(place(&ahead), (10, 3));
        assert!(ahead.answered(8));
        // What lies behind the last one is nothing to publish.
        assert_eq!(place(&ahead), (20, 3));
    }

    #[test]
    fn a_part_without_a_message_moves_the_place_on_at_once() {
        let mut ahead = ahead();
        ahead.take(page(Kind::Readings, &[], 500));
        assert_eq!(place(&ahead), (500, 1));
    }

    #[test]
    fn no_more_is_under_way_than_the_broker_is_asked_to_hold() {
        let mut ahead = ahead();
        let numbers: Vec<u64> = (11..11 + 2 * MOST as u64).collect();
        ahead.take(page(Kind::Readings, &numbers, 1_000));
        assert_eq!(std::iter::from_fn(|| ahead.next_message()).count(), MOST);
        ahead.sent(1);
        assert!(ahead.answered(1) && ahead.next_message().is_some() && ahead.next_message().is_none());
        assert_eq!(place(&ahead), (11, 1));
    }

    /// Gives alarms 1 to 3,000.
    struct Alarms;

    impl Outgoing for Alarms {
        fn last(&self) -> Published {
            Published { readings: Sequence(0), alarms: 3_000 }
        }

        fn read(
            &self,
            after: Sequence,
            take: &mut dyn FnMut(&crate::connectors::OutReading<'_>) -> bool,
        ) -> Result<Looked, String> {
            NoOutgoing.read(after, take)
        }

        fn read_alarms(&self, after: u64, take: &mut dyn FnMut(OutAlarm) -> bool) -> Result<Looked, String> {
            let alarm = |change| OutAlarm { change, path: "alarms/a".to_owned(), json: Vec::new() };
            let through = (after + 1..=3_000).find(|change| !take(alarm(*change))).unwrap_or(3_000);
            Ok(Looked { through, missed: 0 })
        }

        fn published(&self, _: &str) -> Result<Option<Published>, String> {
            Ok(None)
        }

        fn publish_through(
            &self,
            connector: &str,
            through: Published,
        ) -> Result<crate::connectors::Submitted, crate::connectors::SinkError> {
            NoOutgoing.publish_through(connector, through)
        }
    }

    #[tokio::test]
    async fn all_is_read_a_page_at_a_time() {
        let mut ahead = ahead();
        ahead.outgoing = Arc::new(Alarms);
        let mut config = (*ahead.config).clone();
        config.publish = Vec::new();
        ahead.config = Arc::new(config);
        let mut pages = 0;
        // No pattern is of alarms: nothing to publish, and the place moves on.
        while ahead.place().alarms < 3_000 {
            ahead.read_on();
            let page = ahead.read().await.unwrap();
            assert!(page.messages.is_empty());
            ahead.take(page);
            pages += 1;
        }
        assert_eq!(pages, 1);
        ahead.read_on();
        assert!(ahead.reading.is_none() && ahead.next_look().is_some());
    }
}
