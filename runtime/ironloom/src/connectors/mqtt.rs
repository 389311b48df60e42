//! Takes readings from an MQTT broker. A message is acknowledged once the record that has it is durable, in the order in
//! which they came, and nothing waits for apps.
//!
//! The broker keeps the session. What it sends again after a connection has ended is known by the [`Window`], which stands
//! in the receipt of each record, so that it comes once, although the process was killed in between.

mod config;
mod copies;
mod intake;
mod link;
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
mod window;

use std::sync::Arc;
use std::time::Duration;

use futures_util::FutureExt as _;
use tokio::time::Instant;

pub(crate) use self::config::MqttConfig;
use self::config::Version;
use self::intake::{Intake, Stopped};
pub(super) use self::link::check;
use self::link::{Ended, Heard, Link, Use};
pub(super) use self::status::Broker;
pub(crate) use self::status::BrokerStatus;
pub(crate) use self::subscriptions::Subscriptions;
pub(super) use self::trial::run as try_out;
pub(crate) use self::trial::{Fate, Seen, SeenReading};
use super::Run;
use ironloom_storage::random;

/// The first pause before another connection, doubled each time, and the longest.
const SHORTEST: Duration = Duration::from_millis(500);
const LONGEST: Duration = Duration::from_secs(60);
/// A connection of that time was a good one.
const LASTING: Duration = Duration::from_secs(10);
/// The time for the last acknowledgements.
const LEAVE: Duration = Duration::from_secs(2);

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
        run.status.set("running");
        tokio::join!(set_points, publish);
        run.status.end("stopped");
    } else {
        tokio::join!(take(Arc::clone(&config), run), set_points, publish);
    }
}

/// Takes what the broker sends.
async fn take(config: Arc<MqttConfig>, mut run: Run) {
    let mut intake = Intake::new(&config, &run);
    let mut attempts = Attempts::new(&config);
    run.status.set("connecting");
    loop {
        let began = Instant::now();
        let lost = match connection(&config, attempts.version, &mut intake, &mut run).await {
            Ok(lost) => lost,
            Err(Stopped) => return run.status.end("stopped"),
        };
        run.status.failed("waiting", &lost.ended.reason);
        if !run.sleep(attempts.pause(&lost, began.elapsed())).await {
            return run.status.end("stopped");
        }
    }
}

/// Attempts at a connection, one after the other.
struct Attempts {
    version: Version,
    /// None is asked for.
    any_version: bool,
    failures: u32,
}

impl Attempts {
    fn new(config: &MqttConfig) -> Self {
        let version = config.version.unwrap_or(Version::V5);
        Self { version, any_version: config.version.is_none(), failures: 0 }
    }

    /// The pause before the next one.
    fn pause(&mut self, lost: &Lost, lasted: Duration) -> Duration {
        if lost.was_connected {
            if self.any_version {
                self.version = Version::V5;
            }
            // One that another client of the same id takes away at once isn't asked for at once, either.
            self.failures = if lasted < LASTING { self.failures } else { 0 };
        } else if lost.ended.other_version && self.any_version {
            self.version = match self.version {
                Version::V5 => Version::V3,
                Version::V3 => Version::V5,
            };
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
    let mut was_connected = false;
    let mut link = match Link::open(config, version, Use::Readings).await {
        Ok(link) => link,
        Err(ended) => return Ok(Lost { ended, was_connected }),
    };
    let ended = loop {
        if let Err(ended) = intake.acknowledge(&link) {
            break ended;
        }
        intake.tell();
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
        };
        let mut next = Some(heard);
        let mut failed = None;
        while let Some(heard) = next {
            match heard.and_then(|heard| hear(heard, config, &link, version, intake, run)) {
                Ok(connected) => was_connected |= connected,
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
    Ok(Lost { ended, was_connected })
}

/// Deals with what came. Returns true where the broker has taken the connection.
fn hear(
    heard: Heard,
    config: &MqttConfig,
    link: &Link,
    version: Version,
    intake: &mut Intake,
    run: &Run,
) -> Result<bool, Ended> {
    match heard {
        Heard::Connected { session, reported } => {
            let said = reported.facts().join(", ");
            let (name, version) = (&run.status.name, version.name());
            tracing::info!(connector = name, version, session, said, "connected to {}", config.broker);
            let asked = intake.connected(session, &reported, link);
            run.status.broker(|broker| broker.connected(version, session, reported));
            asked?;
            return Ok(true);
        }
        Heard::Asked(id) => intake.asked(id),
        Heard::Subscribed(id, answers) => intake.subscribed(id, answers),
        Heard::Unsubscribed => intake.taken_back(),
        Heard::Message(message) => intake.take(message),
        Heard::Acknowledged(id) => intake.acknowledged(id),
        Heard::Published(_) | Heard::Answered(..) | Heard::Other => {}
    }
    Ok(false)
}

/// Acknowledges what is durable by then, and takes leave.
async fn leave(link: &mut Link, intake: &mut Intake) -> Result<(), Stopped> {
    while intake.is_under_way() {
        intake.settle_oldest().await?;
    }
    if intake.acknowledge(link).is_err() || link.disconnect().is_err() {
        return Ok(());
    }
    let gone = async { while link.next().await.is_ok() {} };
    // It isn't waited for: what isn't acknowledged comes again, and is known then.
    let _ = tokio::time::timeout(LEAVE, gone).await;
    Ok(())
}
