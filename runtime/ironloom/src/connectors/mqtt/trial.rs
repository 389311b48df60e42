//! A connector as it would be: connects with a client id of its own and a session that nobody keeps, and shows what comes.

use std::sync::Arc;
use std::time::Duration;

use tokio::time::{Instant, timeout_at};

use super::config::{MqttConfig, Retained, Version};
use super::copies::Copies;
use super::link::{CONNECT, Heard, Link, Message, Use};
use super::payload::Taken;
use super::reading::{Routes, each_value};
use super::reasons::Ended;
use super::status::{RefusedFilter, Reported};
use super::subscriptions::Subscribing;
use crate::connectors::passed::Passed;
use ironloom_types::clock::Timestamp;
use ironloom_types::readings::{Quality, Value};

/// Something that a broker has shown.
#[derive(Clone, Debug, PartialEq)]
pub(crate) enum Seen {
    Connected {
        broker: String,
        client_id: String,
        version: &'static str,
        reported: Reported,
    },
    /// The broker has answered to all subscriptions, so many.
    Subscribed {
        filters: usize,
        refused: Vec<RefusedFilter>,
    },
    Message {
        topic: String,
        bytes: usize,
        retained: bool,
        fate: Fate,
    },
}

/// The fate that a message would have.
#[derive(Clone, Debug, PartialEq)]
pub(crate) enum Fate {
    Read(Vec<SeenReading>),
    /// It would be a dead letter, for this reason.
    SetAside(String),
    /// It is retained, and such ones aren't wanted.
    PassedOver,
}

/// A reading that a message would bring.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct SeenReading {
    pub point: String,
    pub value: Value,
    pub unit: Option<Arc<str>>,
    /// Its own time.
    pub at: Option<Timestamp>,
    pub quality: Quality,
}

/// Connects once, and tells what it sees for so long, or until `tell` returns false.
///
/// # Errors
/// A sentence about the connection that wasn't made, or was lost.
pub(in crate::connectors) async fn run(
    config: Arc<MqttConfig>,
    span: Duration,
    mut tell: impl FnMut(Seen) -> bool,
) -> Result<(), String> {
    let broker = config.broker.to_string();
    let mut version = config.version.unwrap_or(Version::V5);
    loop {
        let mut trial = Trial { config: &config, version, connected: false };
        let Err(ended) = trial.connection(span, &mut tell).await else { return Ok(()) };
        if trial.connected {
            return Err(format!("{broker}: the connection was lost: {}", ended.reason));
        }
        if !ended.other_version || config.version.is_some() || version == Version::V3 {
            return Err(format!("{broker}: {}", ended.reason));
        }
        version = Version::V3;
    }
}

struct Trial<'a> {
    config: &'a Arc<MqttConfig>,
    version: Version,
    connected: bool,
}

impl Trial<'_> {
    async fn connection(&mut self, span: Duration, tell: &mut impl FnMut(Seen) -> bool) -> Result<(), Ended> {
        let mut link = Link::open(self.config, self.version, Use::Trial).await?;
        // Both steps of a connection have a limit of their own; a broker that says nothing behind them has this one.
        let silent = || Ended::from("it says nothing; look if it is an MQTT broker".to_owned());
        let mut until = Instant::now() + 3 * CONNECT;
        let (mut listens, mut refused) = (false, Vec::new());
        let (mut subscribing, mut copies) = (Subscribing::default(), Copies::default());
        loop {
            let heard = match timeout_at(until, link.next()).await {
                Ok(heard) => heard?,
                Err(_) if listens => break,
                Err(_) => return Err(silent()),
            };
            let goes_on = match heard {
                Heard::ConnAck { reported, .. } => {
                    self.connected = true;
                    if self.config.mappings.is_empty() {
                        tell(self.about(reported));
                        break;
                    }
                    let knows_numbers = reported.subscription_identifiers != Some(false);
                    subscribing.subscribe(self.config, knows_numbers, &link)?;
                    tell(self.about(reported))
                }
                Heard::SentSubscribe(id) => {
                    subscribing.sent(id);
                    true
                }
                Heard::SubAck(id, answers) => {
                    let answers = subscribing.answered(id, answers).into_iter();
                    refused.extend(answers.map(|(filter, reason)| RefusedFilter { filter, reason }));
                    if subscribing.is_done() {
                        (until, listens) = (Instant::now() + span, true);
                        let filters = self.config.filters().len();
                        tell(Seen::Subscribed { filters, refused: std::mem::take(&mut refused) })
                    } else {
                        true
                    }
                }
                Heard::Publish(message) => {
                    if message.id > 0 {
                        link.acknowledge(message.id)?;
                    }
                    copies.is_one(&message) || tell(self.look(&message))
                }
                _ => true,
            };
            if !goes_on {
                break;
            }
        }
        link.leave().await;
        Ok(())
    }

    fn about(&self, reported: Reported) -> Seen {
        Seen::Connected {
            broker: self.config.broker.to_string(),
            client_id: Use::Trial.client_id(self.config),
            version: self.version.name(),
            reported,
        }
    }

    fn look(&self, message: &Message) -> Seen {
        let fate = if message.retain && self.config.retained == Retained::None {
            Fate::PassedOver
        } else {
            self.readings(message).map_or_else(|why| Fate::SetAside(why.text), Fate::Read)
        };
        Seen::Message {
            topic: String::from_utf8_lossy(&message.topic).into_owned(),
            bytes: message.payload.len(),
            retained: message.retain,
            fate,
        }
    }

    fn readings(&self, message: &Message) -> Result<Vec<SeenReading>, Passed> {
        let route = Routes::default().find(self.config, &message.topic)?;
        let mut all = Vec::new();
        each_value(self.config, &route, (&message.topic, &message.payload), |mapping, point, taken| {
            let Taken { value, at, quality } = taken;
            let (point, unit) = (point.as_str().to_owned(), mapping.unit.clone());
            all.push(SeenReading { point, value, unit, at, quality });
            Ok(())
        })?;
        Ok(all)
    }
}
