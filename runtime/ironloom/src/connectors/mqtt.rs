//! A broker of MQTT: readings come from it here, set-points (`outlet.rs`) and what is published (`publisher.rs`) go to it, each
//! over a connection of its own.
//!
//! A message is acknowledged once the record that has it is durable, in the order in
//! which they came, and nothing waits for apps.
//!
//! The broker keeps the session. What it sends again after a connection has ended is known by the [`Window`], which stands
//! in the receipt of each record, so that it comes once, although the process was killed in between.

mod config;
mod conflicts;
mod copies;
mod filters;
mod intake;
mod link;
mod message;
mod outlet;
mod payload;
mod publish;
mod publisher;
mod reading;
mod reasons;
mod resumed;
mod set_points;
mod status;
mod subscriptions;
mod topics;
mod trial;
mod unanswered;
mod window;

use std::sync::Arc;
use std::time::Duration;

use futures_util::FutureExt as _;
use tokio::time::Instant;

pub(crate) use self::config::MqttConfig;
use self::config::Version;
use self::intake::{Intake, Stopped};
pub(super) use self::link::check;
use self::link::{Heard, Link, NotConnected, Use};
use self::reasons::Ended;
pub(super) use self::status::BrokerState;
pub(crate) use self::status::BrokerStatus;
use self::status::Reported;
pub(crate) use self::subscriptions::Subscriptions;
pub(super) use self::trial::run as try_out;
pub(crate) use self::trial::{Fate, Seen, SeenReading};
use super::{Part, Run, State};
use ironloom_storage::random;

/// The first pause before another connection, doubled each time, and the longest.
const SHORTEST: Duration = Duration::from_millis(500);
const LONGEST: Duration = Duration::from_secs(60);
/// A connection of that time was a good one.
const LASTING: Duration = Duration::from_secs(10);
/// Hang-ups in a row after which the other version of the protocol is tried.
const HANG_UPS: u32 = 3;
/// The longest time for which an answer to the subscriptions is waited for.
const ANSWER: Duration = Duration::from_secs(10);

/// Runs until shutdown is requested.
pub(super) async fn run(config: MqttConfig, run: Run) {
    let config = Arc::new(config);
    let (status, shutdown) = (Arc::clone(&run.status), run.shutdown.clone());
    let (commands, outgoing) = (Arc::clone(&run.commands), Arc::clone(&run.outgoing));
    let set_points = async {
        if !config.set_points.is_empty() {
            let (status, shutdown) = (Arc::clone(&status), shutdown.clone());
            outlet::run(Arc::clone(&config), commands, status, shutdown).await;
        }
    };
    let publish = async {
        if !config.publish.is_empty() {
            let (status, shutdown) = (Arc::clone(&status), shutdown.clone());
            publisher::run(Arc::clone(&config), outgoing, status, shutdown).await;
        }
    };
    // None waits for another: each has a connection of its own.
    if config.mappings.is_empty() {
        run.status.set(Part::Readings, State::Running);
        tokio::join!(set_points, publish);
        run.status.end(State::Stopped);
    } else {
        tokio::join!(take(Arc::clone(&config), run), set_points, publish);
    }
}

/// Takes what the broker sends.
async fn take(config: Arc<MqttConfig>, mut run: Run) {
    let mut intake = Intake::new(&config, &run);
    let mut attempts = Attempts::new(&config);
    run.status.set(Part::Readings, State::Connecting);
    loop {
        let began = Instant::now();
        let lost = match connection(&config, attempts.version, &mut intake, &mut run).await {
            Ok(lost) => lost,
            Err(Stopped) => return run.status.end(State::Stopped),
        };
        run.status.failed(Part::Readings, State::Waiting, &lost.ended.reason);
        if !run.sleep(attempts.pause(&lost, began.elapsed())).await {
            return run.status.end(State::Stopped);
        }
    }
}

/// Attempts at a connection, one after the other.
struct Attempts {
    version: Version,
    /// None is asked for.
    any_version: bool,
    failures: u32,
    /// Hang-ups in a row that may mean that the broker speaks the other version only.
    hang_ups: u32,
    /// The broker has spoken MQTT 5.
    spoke_v5: bool,
}

impl Attempts {
    fn new(config: &MqttConfig) -> Self {
        let version = config.version.unwrap_or(Version::V5);
        Self { version, any_version: config.version.is_none(), failures: 0, hang_ups: 0, spoke_v5: false }
    }

    /// The pause before the next one.
    fn pause(&mut self, lost: &Lost, lasted: Duration) -> Duration {
        if lost.was_connected {
            self.spoke_v5 |= self.version == Version::V5;
            self.hang_ups = 0;
            if self.any_version {
                self.version = Version::V5;
            }
            // One that another client of the same id takes away at once isn't asked for at once, either.
            self.failures = if lasted < LASTING { self.failures } else { 0 };
        } else if lost.ended.other_version && self.any_version && !self.spoke_v5 {
            self.hang_ups += 1;
            // A proxy before a broker that isn't up hangs up, too.
            if lost.ended.is_told || self.hang_ups.is_multiple_of(HANG_UPS) {
                self.version = match self.version {
                    Version::V5 => Version::V3,
                    Version::V3 => Version::V5,
                };
            }
        }
        let pause = (SHORTEST * 2_u32.pow(self.failures.min(10))).min(LONGEST);
        self.failures += 1;
        // Many that have lost the same broker don't come back at the same moment.
        pause.mul_f64(0.5 + (random() % 512) as f64 / 1_024.0)
    }
}

/// A connection that was lost.
struct Lost {
    ended: Ended,
    was_connected: bool,
}

async fn connection(
    config: &Arc<MqttConfig>,
    version: Version,
    intake: &mut Intake,
    run: &mut Run,
) -> Result<Lost, Stopped> {
    let lost = |ended, was_connected| Lost { ended, was_connected };
    let made = match Link::connect(config, version, Use::Readings, &mut run.shutdown).await {
        Ok((link, session, reported)) => {
            begin((session, reported), config, &link, version, intake, run).map(|()| link)
        }
        Err(NotConnected::Ended(ended)) => Err(ended),
        Err(NotConnected::Stopped) => {
            intake.settle_all().await?;
            return Err(Stopped);
        }
    };
    let mut link = match made {
        Ok(link) => link,
        Err(ended) => {
            intake.lost();
            return Ok(lost(ended, false));
        }
    };
    let asked_until = Instant::now() + ANSWER;
    let ended = loop {
        if let Err(ended) = intake.acknowledge(&link) {
            break ended;
        }
        intake.tell();
        if intake.is_subscribing() && Instant::now() >= asked_until {
            break Ended::from("the broker didn't answer to the subscriptions in time".to_owned());
        }
        let heard = tokio::select! {
            biased;
            () = run.stopped() => {
                leave(&mut link, intake).await?;
                return Err(Stopped);
            }
            settled = intake.settle_oldest(), if intake.is_under_way() => {
                settled?;
                continue;
            }
            heard = link.next(), if intake.has_room() => heard,
            () = tokio::time::sleep_until(asked_until), if intake.is_subscribing() => continue,
        };
        let mut next = Some(heard);
        let mut failed = None;
        while let Some(heard) = next {
            match heard {
                Ok(heard) => hear(heard, intake),
                Err(ended) => {
                    failed = Some(ended);
                    break;
                }
            }
            // All that is there already goes into one record.
            next = if intake.has_room() { link.next().now_or_never() } else { None };
        }
        intake.hand_over(run).await?;
        if let Some(ended) = failed {
            break ended;
        }
    };
    intake.lost();
    Ok(lost(ended, true))
}

/// Begins with a connection that the broker has taken.
fn begin(
    (session, reported): (bool, Reported),
    config: &MqttConfig,
    link: &Link,
    version: Version,
    intake: &mut Intake,
    run: &Run,
) -> Result<(), Ended> {
    let said = reported.facts().join(", ");
    let (name, version) = (&run.status.name, version.name());
    tracing::info!(connector = name, version, session, said, "connected to {}", config.broker);
    let asked = intake.connected(session, &reported, link);
    run.status.broker(|broker| broker.connected(version, session, reported));
    asked
}

/// Deals with what came.
fn hear(heard: Heard, intake: &mut Intake) {
    match heard {
        Heard::SentSubscribe(id) => intake.sent_subscribe(id),
        Heard::SubAck(id, answers) => intake.subscribed(id, answers),
        Heard::UnsubAck => intake.unsubscribed(),
        Heard::Publish(message) => intake.take(message),
        Heard::SentPubAck(id) => intake.acknowledged(id),
        Heard::ConnAck { .. } | Heard::SentPublish(_) | Heard::PubAck(..) | Heard::Other => {}
    }
}

/// Acknowledges what is durable by then, and takes leave.
async fn leave(link: &mut Link, intake: &mut Intake) -> Result<(), Stopped> {
    intake.settle_all().await?;
    // What isn't acknowledged comes again, and is known then.
    if intake.acknowledge(link).is_ok() {
        link.leave().await;
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn attempts(keys: &str) -> Attempts {
        let topics = "[connectors.c.topics.\"s/{a}\"]\npoint = \"one/{a}\"\n";
        Attempts::new(&config::tests::read_with(&format!("{keys}{topics}")).unwrap())
    }

    fn lost(was_connected: bool, other_version: bool, is_told: bool) -> Lost {
        Lost { ended: Ended { reason: String::new(), other_version, is_told }, was_connected }
    }

    #[test]
    fn pauses_double_up_to_a_minute_and_begin_anew_after_a_good_connection() {
        let mut attempts = attempts("");
        let refused = lost(false, false, false);
        for doubled in [500, 1_000, 2_000, 4_000, 8_000, 16_000, 32_000, 60_000, 60_000, 60_000] {
            let pause = attempts.pause(&refused, Duration::ZERO).as_millis();
            // With jitter: from half of it on.
            assert!((doubled / 2..=doubled).contains(&pause), "{pause} ms of {doubled}");
        }
        // Another client of the same id took it away at once.
        assert!(attempts.pause(&lost(true, false, false), LASTING / 2) >= LONGEST / 2);
        assert!(attempts.pause(&lost(true, false, false), LASTING) <= SHORTEST);
        let pauses: std::collections::BTreeSet<Duration> =
            (0..50).map(|_| attempts.pause(&refused, Duration::ZERO)).collect();
        assert!(pauses.len() > 20, "they come back at the same moment: {pauses:?}");
    }

    #[test]
    fn the_other_version_is_tried_where_the_broker_may_speak_it_only() {
        let refused = |attempts: &mut Attempts, is_told| {
            attempts.pause(&lost(false, true, is_told), Duration::ZERO);
            attempts.version
        };
        let mut told = attempts("");
        assert_eq!(refused(&mut told, true), Version::V3);
        // It has only hung up: so may a proxy.
        let mut hung_up = attempts("");
        assert_eq!([(); 3].map(|()| refused(&mut hung_up, false)), [Version::V5, Version::V5, Version::V3]);
        assert_eq!([(); 3].map(|()| refused(&mut hung_up, false)), [Version::V3, Version::V3, Version::V5]);
        // One that has spoken MQTT 5 speaks it again.
        let mut spoke = attempts("");
        spoke.pause(&lost(true, false, false), LASTING);
        assert_eq!([(); 4].map(|()| refused(&mut spoke, true)), [Version::V5; 4]);
        let mut named = attempts("version = \"5\"\n");
        assert_eq!(refused(&mut named, true), Version::V5);
    }
}
