//! Messages and their acknowledgements, on a log whose records are durable when the test says so.

use std::collections::{BTreeMap, BTreeSet};

use bytes::Bytes;
use futures_util::FutureExt as _;
use parking_lot::Mutex;
use proptest::prelude::*;
use tokio::sync::{oneshot, watch};

use super::*;
use crate::connectors::mqtt::config::tests::read_with;
use crate::connectors::{Kept, KnownPoint, Site};
use crate::telemetry::Metrics;
use ironloom_types::readings::Value;

/// A log whose records are durable when the test says so, with room for so many points.
struct Disk {
    most_points: usize,
    state: Mutex<State>,
}

#[derive(Default)]
struct State {
    points: BTreeMap<String, PointNumber>,
    /// The readings of each record, as points.
    records: Vec<Vec<String>>,
    receipts: Vec<Vec<u8>>,
    /// Of records that aren't durable yet.
    waiting: Vec<oneshot::Sender<()>>,
    submitted: usize,
}

impl Disk {
    fn new(most_points: usize) -> Arc<Self> {
        Arc::new(Self { most_points, state: Mutex::default() })
    }

    /// The oldest record is durable, and so on.
    fn durable(&self, at: usize) {
        let _ = self.state.lock().waiting.remove(at).send(());
    }

    fn points(&self) -> Vec<String> {
        self.state.lock().records.concat()
    }
}

impl Sink for Disk {
    fn submit(&self, _: &str, record: Record) -> Result<Submitted, SinkError> {
        let mut state = self.state.lock();
        state.submitted += 1;
        let makes_points = !record.new_points.is_empty();
        if state.points.len() + record.new_points.len() > self.most_points {
            let why = SinkError::Refused("a point too many".to_owned());
            return if makes_points { Ok(Box::pin(std::future::ready(Err(why)))) } else { Err(why) };
        }
        let first = state.points.len();
        for new in &record.new_points {
            let next = PointNumber(u32::try_from(state.points.len()).unwrap());
            assert!(
                state.points.insert(new.path.as_str().to_owned(), next).is_none(),
                "{new:?} is made twice"
            );
        }
        let names: BTreeMap<PointNumber, String> =
            state.points.iter().map(|(name, number)| (*number, name.clone())).collect();
        let name = |number: PointNumber| {
            let known =
                number.pending_index().map(|index| PointNumber(u32::try_from(first + index).unwrap()));
            names[&known.unwrap_or(number)].clone()
        };
        state.records.push(record.columns.points.iter().map(|point| name(*point)).collect());
        state.receipts.push(record.receipt);
        if makes_points {
            return Ok(Box::pin(std::future::ready(Ok(()))));
        }
        let (done, durable) = oneshot::channel();
        state.waiting.push(done);
        Ok(Box::pin(durable.map(|done| done.map_err(|_| SinkError::Stopping))))
    }

    fn tick(&self, _: Timestamp) {}

    fn receipt(&self, _: &str) -> Option<Vec<u8>> {
        self.state.lock().receipts.last().cloned()
    }

    fn point(&self, path: &str) -> Option<KnownPoint> {
        let number = self.state.lock().points.get(path).copied()?;
        Some(KnownPoint { number, unit: None })
    }

    fn has(&self, _: &str, _: &Value) -> bool {
        false
    }

    fn now(&self) -> Option<Timestamp> {
        Some(Timestamp(1))
    }

    fn latest(&self) -> Timestamp {
        Timestamp(i64::MAX as u64)
    }
}

struct Bench {
    disk: Arc<Disk>,
    intake: Intake,
    run: Run,
    _shutdown: watch::Sender<bool>,
}

impl Bench {
    fn new(disk: &Arc<Disk>) -> Self {
        let topics = "[connectors.c.topics.\"s/{a}\"]\npoint = \"one/{a}\"\n\
                    [connectors.c.topics.\"m\"]\npoint = \"one/{field}\"\npayload = \"fields\"\n";
        let config = Arc::new(read_with(topics).unwrap());
        let (shutdown, told) = watch::channel(false);
        let status = Arc::new(Status::new("c", "mqtt", &Kept::default(), &Metrics::default()));
        let sink = Arc::clone(disk) as Arc<dyn Sink>;
        let run = Run::new(Site::of_sink(sink), Kept::default(), status, told);
        Self { disk: Arc::clone(disk), intake: Intake::new(&config, &run), run, _shutdown: shutdown }
    }

    /// Messages come together: their ids, topics and payloads.
    fn come(&mut self, messages: &[(u16, &str, &str)]) {
        for (id, topic, payload) in messages {
            self.intake.take(message(*id, topic, payload));
        }
        self.hand_over();
    }

    fn hand_over(&mut self) {
        self.intake.hand_over(&mut self.run).now_or_never().expect("no test waits for it").unwrap();
    }

    /// Those that are acknowledged once all is settled that is durable.
    fn acknowledged(&mut self) -> Vec<u16> {
        while self.intake.is_under_way() {
            match self.intake.settle_oldest().now_or_never() {
                Some(settled) => settled.unwrap(),
                None => break,
            }
        }
        std::iter::from_fn(|| self.intake.next_durable()).collect()
    }
}

fn message(id: u16, topic: &str, payload: &str) -> Message {
    let (topic, payload) = (Bytes::from(topic.to_owned()), Bytes::from(payload.to_owned()));
    Message { topic, payload, id, dup: false, retain: false, subscriptions: Vec::new() }
}

/// A log that knows these points already.
fn knows(points: &[&str], most: usize) -> Arc<Disk> {
    let disk = Disk::new(most);
    for (number, point) in (0..).zip(points) {
        disk.state.lock().points.insert((*point).to_owned(), PointNumber(number));
    }
    disk
}

#[test]
fn nothing_is_acknowledged_before_it_is_durable_nor_out_of_order() {
    let mut bench = Bench::new(&knows(&["one/a", "one/b"], 2));
    bench.come(&[(1, "s/a", "1"), (2, "s/b", "2"), (0, "s/a", "3"), (3, "s/a", "4")]);
    bench.come(&[(4, "s/b", "5"), (5, "s/b", "6")]);
    assert_eq!(bench.disk.state.lock().records.iter().map(Vec::len).collect::<Vec<_>>(), [4, 2]);
    assert!(bench.acknowledged().is_empty());
    // The later record first.
    bench.disk.durable(1);
    assert!(bench.acknowledged().is_empty());
    bench.disk.durable(0);
    assert_eq!(bench.acknowledged(), [1, 2, 3, 4, 5]);
}

#[test]
fn one_that_gives_no_reading_waits_for_those_before_it() {
    let mut bench = Bench::new(&knows(&["one/a"], 1));
    bench.come(&[(1, "s/a", "1"), (2, "s/a", "hot"), (3, "nowhere", "1")]);
    assert!(bench.acknowledged().is_empty());
    bench.come(&[(4, "s/a", "cold")]);
    assert!(bench.acknowledged().is_empty());
    bench.disk.durable(0);
    assert_eq!(bench.acknowledged(), [1, 2, 3, 4]);
    assert_eq!(bench.run.status.show().dead_letters, 3);
    assert_eq!(bench.disk.points(), ["one/a"]);
}

#[test]
fn one_that_comes_again_waits_for_its_record_and_is_not_appended() {
    let mut bench = Bench::new(&knows(&["one/a"], 1));
    // By these it shows that the broker counts its ids up.
    bench.come(&[(1, "s/a", "1"), (2, "s/a", "1"), (3, "s/a", "3")]);
    bench.intake.lost();
    bench.intake.take(Message { dup: true, ..message(1, "s/a", "1") });
    bench.hand_over();
    assert!(bench.acknowledged().is_empty());
    bench.disk.durable(0);
    assert_eq!(bench.acknowledged(), [1]);
    assert_eq!(bench.disk.points().len(), 3);

    // And after a kill: the receipt knows it.
    let mut bench = Bench::new(&bench.disk);
    bench.intake.take(Message { dup: true, ..message(1, "s/a", "1") });
    bench.hand_over();
    assert_eq!(bench.acknowledged(), [1]);
    // The same id with other contents is another message.
    bench.intake.take(Message { dup: true, ..message(1, "s/a", "2") });
    bench.hand_over();
    assert_eq!(bench.disk.points().len(), 4);
}

#[test]
fn a_message_that_is_not_taken_makes_no_points() {
    let mut bench = Bench::new(&Disk::new(10));
    bench.come(&[(1, "m", "{\"x\": 1, \"y\": []}"), (2, "m", "{\"z\": 1}")]);
    assert_eq!(bench.disk.state.lock().points.keys().collect::<Vec<_>>(), ["one/z"]);
    assert_eq!(bench.disk.points(), ["one/z"]);
    assert_eq!(bench.acknowledged(), [1, 2]);
}

#[test]
fn many_that_are_refused_do_not_hold_up_the_others() {
    let mut bench = Bench::new(&knows(&["one/a"], 3));
    for id in 1..=4_000 {
        let topic = if id % 2 == 0 { "s/a".to_owned() } else { format!("s/new-{id}") };
        bench.intake.take(message(id, &topic, "1"));
    }
    bench.hand_over();
    while !bench.disk.state.lock().waiting.is_empty() {
        bench.disk.durable(0);
    }
    assert_eq!(bench.acknowledged(), (1..=4_000).collect::<Vec<_>>());
    let points = bench.disk.points();
    assert_eq!(points.iter().filter(|point| *point == "one/a").count(), 2_000);
    assert_eq!(points.len(), 2_002);
    assert_eq!(bench.run.status.show().dead_letters, 1_998);
    // Not one for each message.
    let submitted = bench.disk.state.lock().submitted;
    assert!(submitted < 50, "{submitted} records");
}

proptest! {
    /// A message is taken where its new points have room after those before it, whatever comes together.
    #[test]
    fn each_is_taken_or_refused_as_if_it_came_alone(
        messages in prop::collection::vec(prop::collection::btree_set(0..12_u8, 1..4), 1..60),
        most in 2..12_usize,
    ) {
        let mut bench = Bench::new(&knows(&["one/f0", "one/f1"], most));
        let mut known = BTreeSet::from(["one/f0".to_owned(), "one/f1".to_owned()]);
        let mut expected = Vec::new();
        for (id, fields) in (1..).zip(&messages) {
            let fields: BTreeSet<String> = fields.iter().map(|field| format!("f{field}")).collect();
            let json: BTreeMap<&String, u8> = fields.iter().map(|field| (field, 1)).collect();
            bench.intake.take(message(id, "m", &serde_json::to_string(&json).unwrap()));
            let points: BTreeSet<String> = fields.iter().map(|field| format!("one/{field}")).collect();
            if known.union(&points).count() <= most {
                expected.extend(points.iter().cloned());
                known.extend(points);
            }
        }
        bench.hand_over();
        prop_assert_eq!(bench.disk.points(), expected);
    }
}
