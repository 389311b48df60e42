//! Takes set-points to a broker, over a connection of their own: QoS 1, never retained, and no longer than they live.

use std::collections::{HashMap, VecDeque};
use std::sync::Arc;
use std::time::Duration;

use tokio::sync::watch;
use tokio::time::{Instant, MissedTickBehavior};

use super::config::{MqttConfig, Version};
use super::link::{Ack, Ended, Heard, Link, Use};
use super::{Attempts, Lost, told_to_stop};
use crate::connectors::Status;
use crate::connectors::commands::{Answer, Command, Commands};
use ironloom_types::clock::{SECOND, Timestamp};

/// Set-points that wait for the broker's answer, in all; no more than the broker allows, so that none waits in this process.
const MOST: usize = 100;
/// The same for a broker of 3.1.1, which names no number: what mosquitto takes by default.
const MOST_V3: usize = 20;
/// The longest time for which an answer is waited for. A broker that doesn't give it would hold up safe values.
const ANSWER: Duration = Duration::from_secs(10);
/// The interval at which it is looked for answers that are late.
const LOOK: Duration = Duration::from_millis(100);

/// The surroundings of the connection.
struct Outlet {
    config: Arc<MqttConfig>,
    commands: Arc<dyn Commands>,
    status: Arc<Status>,
    name: Arc<str>,
}

/// Commands that were handed to a connection.
#[derive(Default)]
struct Handed {
    /// Those whose packets have no id yet, the oldest first.
    unnumbered: VecDeque<Waiting>,
    /// Those that the broker is to answer.
    numbered: HashMap<u16, Waiting>,
}

/// A command, and when it was handed over.
struct Waiting {
    command: Command,
    since: Instant,
}

impl Handed {
    fn len(&self) -> usize {
        self.unnumbered.len() + self.numbered.len()
    }

    fn all(&self) -> impl Iterator<Item = &Waiting> {
        self.unnumbered.iter().chain(self.numbered.values())
    }

    /// Returns true where the broker owes an answer for too long, or the life of something that it has, or is to get, is over.
    fn is_late(&self, now: Timestamp) -> bool {
        let is_over = |waiting: &Waiting| waiting.command.expires.is_some_and(|expires| expires <= now);
        self.all().any(|waiting| waiting.since.elapsed() >= ANSWER || is_over(waiting))
    }
}

/// The end of a connection.
enum End {
    /// The connector is to stop.
    Stopped,
    /// The kill switch was turned on while something was on its way.
    CutOff,
    Lost(Lost),
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
        outlet.status.set_points(|status| status.state = "connecting".to_owned());
        let began = Instant::now();
        let end = outlet.connection(attempts.version, &mut shutdown).await;
        outlet.commands.lost(&outlet.name);
        let lost = match end {
            End::Stopped => return,
            // The broker is well: it is needed as soon as the switch is released.
            End::CutOff => continue,
            End::Lost(lost) => lost,
        };
        outlet.status.set_points(|status| {
            status.state = "waiting".to_owned();
            status.last_error = Some(lost.ended.reason.clone());
        });
        let pause = attempts.pause(&lost, began.elapsed());
        tokio::select! {
            () = tokio::time::sleep(pause) => {}
            () = told_to_stop(&mut shutdown) => return,
        }
    }
}

impl Outlet {
    async fn connection(&self, version: Version, shutdown: &mut watch::Receiver<bool>) -> End {
        let lost = |ended, was_connected| End::Lost(Lost { ended, was_connected });
        let mut link = match Link::open(&self.config, version, Use::SetPoints).await {
            Ok(link) => link,
            Err(ended) => return lost(ended, false),
        };
        let reported = tokio::select! {
            () = told_to_stop(shutdown) => return End::Stopped,
            connected = link.connected() => match connected {
                Ok((_, reported)) => reported,
                Err(ended) => return lost(ended, false),
            },
        };
        let allowed = match version {
            Version::V5 => usize::from(reported.receive_maximum.unwrap_or(u16::MAX)),
            Version::V3 => MOST_V3,
        };
        self.status.set_points(|status| {
            (status.state, status.last_error) = ("running".to_owned(), None);
        });
        let mut changes = self.commands.changes();
        let mut handed = Handed::default();
        let mut look = tokio::time::interval(LOOK);
        look.set_missed_tick_behavior(MissedTickBehavior::Skip);
        let ended = loop {
            if let Err(ended) = self.hand_over(&link, &mut handed, allowed.min(MOST)) {
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
                    if handed.is_late(self.commands.now()) {
                        // Whatever of it hasn't left this process goes with the connection.
                        break Ended::from("the broker didn't answer to a set-point in time".to_owned());
                    }
                    continue;
                }
                heard = link.next() => heard,
            };
            match heard {
                Ok(heard) => self.hear(heard, &mut handed),
                Err(ended) => break ended,
            }
        };
        lost(ended, true)
    }

    /// Hands over all that there is for the broker.
    fn hand_over(&self, link: &Link, handed: &mut Handed, most: usize) -> Result<(), Ended> {
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
            self.status.set_points(|status| status.sent += 1);
            handed.unnumbered.push_back(Waiting { command, since: Instant::now() });
        }
        Ok(())
    }

    fn hear(&self, heard: Heard, handed: &mut Handed) {
        match heard {
            Heard::Published(id) => {
                if let Some(command) = handed.unnumbered.pop_front() {
                    handed.numbered.insert(id, command);
                }
            }
            Heard::Answered(id, ack) => {
                let Some(Waiting { command, .. }) = handed.numbered.remove(&id) else { return };
                let answer = match ack {
                    Ack::Taken => Answer::Accepted,
                    // It reaches no machine.
                    Ack::NobodyThere(reason) | Ack::Refused(reason) => Answer::Rejected(reason),
                };
                self.status.set_points(|status| match answer {
                    Answer::Accepted => status.accepted += 1,
                    Answer::Rejected(_) => status.rejected += 1,
                });
                self.commands.answered(&command, answer);
            }
            _ => {}
        }
    }
}
