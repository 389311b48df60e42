//! Takes set-points to a broker, over a connection of their own: QoS 1, never retained, and no longer than they live.

use std::sync::Arc;
use std::time::Duration;

use tokio::sync::watch;
use tokio::time::{Instant, MissedTickBehavior};

use super::config::{MqttConfig, Version};
use super::link::{Ack, Heard, Link, MAX_OUTGOING, NotConnected, Use};
use super::reasons::Ended;
use super::unanswered::Unanswered;
use super::{Attempts, LASTING, Lost};
use crate::connectors::commands::{Answer, Command, Commands};
use crate::connectors::run::told_to_stop;
use crate::connectors::{Part, State, Status};
use ironloom_types::clock::{SECOND, Timestamp};

/// Set-points that wait for the answer of a broker of 3.1.1, which doesn't say how many it allows: what mosquitto takes by
/// default.
const MOST_V3: usize = 20;
/// The longest time for which an answer is waited for. A broker that doesn't give it would hold up safe values.
const ANSWER: Duration = Duration::from_secs(10);
/// The time for an answer that even a set-point of a short life has: its life is over then, and the broker is well.
const GRACE: Duration = Duration::from_secs(1);
/// The interval at which it is looked for answers that are late.
const LOOK: Duration = Duration::from_millis(100);

/// The surroundings of the connection.
struct Outlet {
    config: Arc<MqttConfig>,
    commands: Arc<dyn Commands>,
    status: Arc<Status>,
    name: Arc<str>,
}

/// A command, and when it was handed over.
struct Waiting {
    command: Command,
    since: Instant,
}

impl Waiting {
    /// Returns true where the broker owes an answer for too long, or beyond the life of what it has, or is to get.
    fn is_late(&self, now: Timestamp) -> bool {
        let elapsed = self.since.elapsed();
        let is_over = self.command.expires.is_some_and(|expires| expires <= now);
        elapsed >= ANSWER || (is_over && elapsed >= GRACE)
    }
}

/// The end of a connection.
enum End {
    /// The connector is to stop.
    Stopped,
    /// The kill switch was turned on while something was on its way.
    CutOff,
    Lost {
        lost: Lost,
        /// The broker has answered to something over it: it was a good one.
        was_answered: bool,
    },
}

/// Runs until shutdown is requested.
pub(super) async fn run(
    config: Arc<MqttConfig>,
    commands: Arc<dyn Commands>,
    status: Arc<Status>,
    mut shutdown: watch::Receiver<bool>,
) {
    let name = Arc::from(&*status.name);
    let outlet = Outlet { config, commands, status, name };
    let mut attempts = Attempts::new(&outlet.config);
    loop {
        outlet.status.set(Part::SetPoints, State::Connecting);
        let began = Instant::now();
        let end = outlet.connection(attempts.version, &mut shutdown).await;
        outlet.commands.lost(&outlet.name);
        let (lost, was_answered) = match end {
            End::Stopped => return,
            // The broker is well: it is needed as soon as the switch is released.
            End::CutOff => continue,
            End::Lost { lost, was_answered } => (lost, was_answered),
        };
        outlet.status.failed(Part::SetPoints, State::Waiting, &lost.ended.reason);
        let lasted = if was_answered { LASTING } else { began.elapsed() };
        let pause = attempts.pause(&lost, lasted);
        tokio::select! {
            () = tokio::time::sleep(pause) => {}
            () = told_to_stop(&mut shutdown) => return,
        }
    }
}

impl Outlet {
    async fn connection(&self, version: Version, shutdown: &mut watch::Receiver<bool>) -> End {
        let not_made = |ended| End::Lost { lost: Lost { ended, was_connected: false }, was_answered: false };
        let connected = Link::connect(&self.config, version, Use::SetPoints, shutdown).await;
        let (mut link, _, reported) = match connected {
            Ok(connected) => connected,
            Err(NotConnected::Stopped) => return End::Stopped,
            Err(NotConnected::Ended(ended)) => return not_made(ended),
        };
        let allowed = match version {
            Version::V5 => usize::from(reported.receive_maximum.unwrap_or(u16::MAX)),
            Version::V3 => MOST_V3,
        };
        self.status.set(Part::SetPoints, State::Running);
        let mut changes = self.commands.changes();
        let (mut handed, mut was_answered) = (Unanswered::default(), false);
        let mut look = tokio::time::interval(LOOK);
        look.set_missed_tick_behavior(MissedTickBehavior::Skip);
        let ended = loop {
            if let Err(ended) = self.hand_over(&link, &mut handed, allowed.min(usize::from(MAX_OUTGOING))) {
                break ended;
            }
            let heard = tokio::select! {
                () = told_to_stop(shutdown) => {
                    link.leave().await;
                    return End::Stopped;
                }
                _ = changes.changed() => {
                    if self.commands.is_halted(&mut handed.all().map(|waiting| &waiting.command)) {
                        // Some of it may not have left this process.
                        return End::CutOff;
                    }
                    continue;
                }
                _ = look.tick() => {
                    let now = self.commands.now();
                    if handed.all().any(|waiting| waiting.is_late(now)) {
                        // Whatever of it hasn't left this process goes with the connection.
                        break Ended::from("the broker didn't answer to a set-point in time".to_owned());
                    }
                    continue;
                }
                heard = link.next() => heard,
            };
            match heard {
                Ok(heard) => was_answered |= self.hear(heard, &mut handed),
                Err(ended) => break ended,
            }
        };
        End::Lost { lost: Lost { ended, was_connected: true }, was_answered }
    }

    /// Hands over all that there is for the broker.
    fn hand_over(&self, link: &Link, handed: &mut Unanswered<Waiting>, most: usize) -> Result<(), Ended> {
        while handed.len() < most {
            let Some(command) = self.commands.next(&self.name) else { return Ok(()) };
            let found = self.config.set_points.iter().find_map(|one| one.message(&command));
            let Some((topic, payload)) = found else {
                let reason = format!("no topic can be made for {}", command.point);
                self.commands.answered(&command, Answer::Rejected(reason));
                continue;
            };
            let left = command.expires.map(|expires| expires.0.saturating_sub(self.commands.now().0));
            // Whole seconds, and 0 would be none.
            let expiry = left.map(|left| u32::try_from(left / SECOND).unwrap_or(u32::MAX).max(1));
            let number = ("number".to_owned(), command.number.to_string());
            let id = command.id.map(|id| ("id".to_owned(), id.to_string()));
            link.publish(topic, payload, false, expiry, id.into_iter().chain([number]).collect())?;
            self.status.driving(|status| status.sent += 1);
            handed.hand_over(Waiting { command, since: Instant::now() });
        }
        Ok(())
    }

    /// Returns true for an answer.
    fn hear(&self, heard: Heard, handed: &mut Unanswered<Waiting>) -> bool {
        match heard {
            Heard::SentPublish(id) => handed.number(id),
            Heard::PubAck(id, ack) => {
                let Some(Waiting { command, .. }) = handed.answer(id) else { return false };
                let answer = match ack {
                    Ack::Taken => Answer::Accepted,
                    // It reaches no machine.
                    Ack::NobodyThere(reason) | Ack::Refused(reason) => Answer::Rejected(reason),
                };
                self.status.driving(|status| match answer {
                    Answer::Accepted => status.accepted += 1,
                    Answer::Rejected(_) => status.rejected += 1,
                });
                self.commands.answered(&command, answer);
                return true;
            }
            _ => {}
        }
        false
    }
}
