//! Takes set-points to a broker, over a connection of their own: QoS 1, never retained, and no longer than they live.

use std::collections::{HashMap, VecDeque};
use std::sync::Arc;

use tokio::sync::watch;
use tokio::time::Instant;

use super::config::{MqttConfig, Version};
use super::link::{Ack, Ended, Heard, Link, Use};
use super::{Attempts, LEAVE, Lost};
use crate::connectors::Status;
use crate::connectors::commands::{Answer, Command, Commands};
use ironloom_types::clock::SECOND;

/// Set-points that wait for the broker's answer, in all. The broker may allow fewer.
const MOST: usize = 100;

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
    unnumbered: VecDeque<Command>,
    /// Those that the broker is to answer.
    numbered: HashMap<u16, Command>,
}

impl Handed {
    fn len(&self) -> usize {
        self.unnumbered.len() + self.numbered.len()
    }

    fn all(&self) -> impl Iterator<Item = &Command> {
        self.unnumbered.iter().chain(self.numbered.values())
    }
}

/// The end of a connection.
enum End {
    /// The connector is to stop.
    Stopped,
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
        let mut was_connected = false;
        let mut link = match Link::open(&self.config, version, Use::SetPoints).await {
            Ok(link) => link,
            Err(ended) => return End::Lost(Lost { ended, was_connected }),
        };
        let mut changes = self.commands.changes();
        let mut handed = Handed::default();
        let ended = loop {
            if was_connected && let Err(ended) = self.hand_over(&link, &mut handed) {
                break ended;
            }
            let heard = tokio::select! {
                biased;
                () = told_to_stop(shutdown) => {
                    let _ = link.disconnect();
                    let gone = async { while link.next().await.is_ok() {} };
                    let _ = tokio::time::timeout(LEAVE, gone).await;
                    return End::Stopped;
                }
                _ = changes.changed() => {
                    if self.commands.is_halted(&mut handed.all()) {
                        // Some of it may not have left this process.
                        break Ended::from("it was cut off, since nothing may be written any more".to_owned());
                    }
                    continue;
                }
                heard = link.next() => heard,
            };
            match heard {
                Ok(Heard::Connected { .. }) => {
                    was_connected = true;
                    self.status.set_points(|status| status.state = "running".to_owned());
                }
                Ok(heard) => self.hear(heard, &mut handed),
                Err(ended) => break ended,
            }
        };
        End::Lost(Lost { ended, was_connected })
    }

    /// Hands over all that there is for the broker.
    fn hand_over(&self, link: &Link, handed: &mut Handed) -> Result<(), Ended> {
        while handed.len() < MOST {
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
            handed.unnumbered.push_back(command);
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
                let Some(command) = handed.numbered.remove(&id) else { return };
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

async fn told_to_stop(shutdown: &mut watch::Receiver<bool>) {
    // Without a sender nobody is there any more.
    let _ = shutdown.wait_for(|stop| *stop).await;
}
